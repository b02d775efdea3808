-- What it takes to protect a table without keeping anybody waiting: small steps, each
-- with the lock that it takes.
--
-- The steps are what the catalogues say is missing.  So nobody keeps a list of what
-- was done: whoever stopped looks again.  While a foreign key gets the tenant columns,
-- its successor has a name by the key's oid; indexes have names by their columns.

-- More than this is neither scanned nor read through under a lock that others wait for.
CREATE FUNCTION leyser.is_large(relation regclass) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(sum(pg_relation_size(f.member)), 0) > 8 * 1024 * 1024 FROM leyser.family_of(relation) f
$$;
REVOKE ALL ON FUNCTION leyser.is_large(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.is_large(regclass) IS
    'internal: whether a table with its parts is too large to be scanned while others wait';

CREATE FUNCTION leyser.column_list(relation regclass, columns smallint[]) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.ord)
    FROM unnest(columns) WITH ORDINALITY k (num, ord)
    JOIN pg_attribute a ON a.attrelid = relation AND a.attnum = k.num
$$;
REVOKE ALL ON FUNCTION leyser.column_list(regclass, smallint[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.column_list(regclass, smallint[]) IS
    'internal: names of columns, as SQL lists them';

-- Names have a limit in bytes; the server would cut off their end, which tells them apart.
CREATE FUNCTION leyser.short_name(name name, bytes integer) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT left(short_name.name::text, n) FROM generate_series(length(short_name.name::text), 0, -1) n
    WHERE octet_length(left(short_name.name::text, n)) <= short_name.bytes LIMIT 1
$$;
REVOKE ALL ON FUNCTION leyser.short_name(name, integer) FROM PUBLIC;
COMMENT ON FUNCTION leyser.short_name(name, integer) IS
    'internal: as much of a name as has room in so many bytes';

CREATE FUNCTION leyser.index_name_for(relation regclass, columns smallint[], is_unique boolean) RETURNS name
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT (leyser.short_name(c.relname, 40) || '_' || left(md5(c.relname || columns::text || is_unique), 8) || '_leyser')::name
    FROM pg_class c WHERE c.oid = relation
$$;
REVOKE ALL ON FUNCTION leyser.index_name_for(regclass, smallint[], boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.index_name_for(regclass, smallint[], boolean) IS
    'internal: what an index that adoption makes is called';

-- The tenant column that a table has or, unregistered in the same schema, will have.
CREATE FUNCTION leyser.adopted_attnum(relation oid, tenant_column name, schema oid) RETURNS smallint
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN t.relation IS NOT NULL THEN CASE WHEN t.kind = 'own' THEN t.tenant_attnum END
                WHEN c.relnamespace = adopted_attnum.schema THEN a.attnum END
    FROM pg_class c
    LEFT JOIN leyser.table_record t ON t.relation = c.oid
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = adopted_attnum.tenant_column AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.oid = adopted_attnum.relation
$$;
REVOKE ALL ON FUNCTION leyser.adopted_attnum(oid, name, oid) FROM PUBLIC;
COMMENT ON FUNCTION leyser.adopted_attnum(oid, name, oid) IS
    'internal: the number of the tenant column of a table that is protected by it or, in this schema, is to be';

-- A foreign key with the tenant columns in front.
CREATE FUNCTION leyser.widened_key(key_oid oid, child_attnum smallint, parent_attnum smallint) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('FOREIGN KEY (%s) REFERENCES %s (%s)', leyser.column_list(c.conrelid, child_attnum || c.conkey),
                  c.confrelid::regclass, leyser.column_list(c.confrelid, parent_attnum || c.confkey))
        || CASE WHEN c.confmatchtype = 'f' AND cardinality(c.conkey) > 1 THEN ' MATCH FULL' ELSE '' END
        || CASE c.confupdtype WHEN 'c' THEN ' ON UPDATE CASCADE' WHEN 'r' THEN ' ON UPDATE RESTRICT'
               WHEN 'n' THEN ' ON UPDATE SET NULL' WHEN 'd' THEN ' ON UPDATE SET DEFAULT' ELSE '' END
        || CASE c.confdeltype WHEN 'c' THEN ' ON DELETE CASCADE' WHEN 'r' THEN ' ON DELETE RESTRICT'
               WHEN 'n' THEN format(' ON DELETE SET NULL (%s)', leyser.column_list(c.conrelid, coalesce(c.confdelsetcols, c.conkey)))
               WHEN 'd' THEN format(' ON DELETE SET DEFAULT (%s)', leyser.column_list(c.conrelid, coalesce(c.confdelsetcols, c.conkey)))
               ELSE '' END
        || CASE WHEN c.condeferrable THEN ' DEFERRABLE' || CASE WHEN c.condeferred THEN ' INITIALLY DEFERRED' ELSE '' END ELSE '' END
    FROM pg_constraint c WHERE c.oid = key_oid
$$;
REVOKE ALL ON FUNCTION leyser.widened_key(oid, smallint, smallint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.widened_key(oid, smallint, smallint) IS
    'internal: the definition of a foreign key with the tenant columns in front';

-- Foreign keys that have no tenant columns, of a table and of protected ones to it.
-- One that says MATCH FULL over several columns, or sets columns ON UPDATE, cannot
-- say the same with a column that is never null: protect() names it.
CREATE FUNCTION leyser.narrow_keys(relation regclass, tenant_column name)
    RETURNS TABLE (key_oid oid, child regclass, parent regclass, child_attnum smallint, parent_attnum smallint)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    -- few of all foreign keys, before the columns are looked up
    WITH keys AS MATERIALIZED (
        SELECT c.oid, c.conname, c.conrelid, c.confrelid, c.conkey, c.confkey FROM pg_constraint c
        WHERE c.contype = 'f' AND c.conparentid = 0
          AND (c.conrelid = narrow_keys.relation OR c.confrelid = narrow_keys.relation
               AND EXISTS (SELECT FROM leyser.table_record t WHERE t.relation = c.conrelid))
          AND c.confupdtype NOT IN ('n', 'd') AND (c.confmatchtype = 's' OR cardinality(c.conkey) = 1)
    )
    SELECT c.oid, c.conrelid::regclass, c.confrelid::regclass, k.child_attnum, k.parent_attnum
    FROM keys c
    JOIN pg_class r ON r.oid = narrow_keys.relation
    CROSS JOIN LATERAL (SELECT leyser.adopted_attnum(c.conrelid, narrow_keys.tenant_column, r.relnamespace) AS child_attnum,
                               leyser.adopted_attnum(c.confrelid, narrow_keys.tenant_column, r.relnamespace) AS parent_attnum) k
    WHERE k.child_attnum IS NOT NULL AND k.parent_attnum IS NOT NULL
      AND NOT EXISTS (SELECT FROM unnest(c.conkey, c.confkey) p (child_num, parent_num)
                      WHERE p.child_num = k.child_attnum AND p.parent_num = k.parent_attnum)
    ORDER BY c.conname, c.oid
$$;
REVOKE ALL ON FUNCTION leyser.narrow_keys(regclass, name) FROM PUBLIC;
COMMENT ON FUNCTION leyser.narrow_keys(regclass, name) IS
    'internal: foreign keys that are to get the tenant columns before a table is protected';

-- A step: a command, or what else is to be done with it.
CREATE TYPE leyser.adoption_step AS (
    action text,                -- index, validate_check, set_not_null, add_key, validate_key, replace_key, protect; or just a command
    target regclass,
    object name,                -- an index, a column, a foreign key
    columns text[],             -- of an index
    is_unique boolean,
    command text,
    lock text,
    note text
);
COMMENT ON TYPE leyser.adoption_step IS 'internal: a step of an adoption, with the lock that it takes';

-- An index CONCURRENTLY; first without what an interrupted build left.
CREATE FUNCTION leyser.index_steps(relation regclass, columns smallint[], is_unique boolean)
    RETURNS SETOF leyser.adoption_step
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH wanted AS (
        SELECT c.oid, c.relkind, leyser.index_name_for(index_steps.relation, index_steps.columns, index_steps.is_unique) AS index_name,
               n.nspname, leyser.column_list(index_steps.relation, index_steps.columns) AS list
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = index_steps.relation
    )
    SELECT 'command', w.oid::regclass, w.index_name, NULL::text[], NULL::boolean,
           format('DROP INDEX %I.%I', w.nspname, w.index_name),
           format('ACCESS EXCLUSIVE on %s, a moment', w.oid::regclass), 'it was not finished'
    FROM wanted w JOIN pg_index i ON i.indrelid = w.oid AND NOT i.indisvalid
        JOIN pg_class x ON x.oid = i.indexrelid AND x.relname = w.index_name
    UNION ALL
    SELECT CASE w.relkind WHEN 'r' THEN 'index' ELSE 'command' END, w.oid::regclass, w.index_name,
           (SELECT array_agg(a.attname::text ORDER BY k.ord) FROM unnest(index_steps.columns) WITH ORDINALITY k (num, ord)
            JOIN pg_attribute a ON a.attrelid = w.oid AND a.attnum = k.num),
           index_steps.is_unique,
           format('CREATE %sINDEX %s%I ON %s (%s)', CASE WHEN index_steps.is_unique THEN 'UNIQUE ' ELSE '' END,
                  CASE w.relkind WHEN 'r' THEN 'CONCURRENTLY ' ELSE '' END, w.index_name, w.oid::regclass, w.list),
           CASE w.relkind WHEN 'r' THEN format('SHARE UPDATE EXCLUSIVE on %s', w.oid::regclass)
                ELSE format('SHARE on %s, while it is built', w.oid::regclass) END,
           CASE w.relkind WHEN 'r' THEN 'reads and writes go on; waits for older transactions'
                ELSE 'writes wait: indexes of partitioned tables cannot be built concurrently' END
    FROM wanted w
$$;
REVOKE ALL ON FUNCTION leyser.index_steps(regclass, smallint[], boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.index_steps(regclass, smallint[], boolean) IS
    'internal: the steps that make an index';

-- A foreign key gets the tenant columns: beside it a successor, which is validated and
-- takes its place and name.
CREATE FUNCTION leyser.key_steps(key_oid oid, child_attnum smallint, parent_attnum smallint)
    RETURNS SETOF leyser.adoption_step
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    it leyser.adoption_step;
    key pg_constraint;
    successor pg_constraint;
    partitioned boolean;
    successor_name name := format('leyser_key_%s', key_oid);
BEGIN
    SELECT c.* INTO key FROM pg_constraint c WHERE c.oid = key_steps.key_oid;
    SELECT c.* INTO successor FROM pg_constraint c WHERE c.conrelid = key.conrelid AND c.conname = successor_name;
    SELECT r.relkind = 'p' INTO partitioned FROM pg_class r WHERE r.oid = key.conrelid;
    it.target := key.conrelid::regclass;
    it.object := key.conname;
    IF successor.oid IS NULL THEN
        IF NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = key.confrelid AND i.indisunique AND i.indimmediate AND i.indisvalid
                AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indnkeyatts = cardinality(parent_attnum || key.confkey)
                AND string_to_array(i.indkey::text, ' ')::smallint[] @> (parent_attnum || key.confkey)) THEN
            RETURN QUERY SELECT s.* FROM leyser.index_steps(key.confrelid, parent_attnum || key.confkey, true) s;
        END IF;
        it.action := 'add_key';
        it.command := format('ALTER TABLE %s ADD CONSTRAINT %I %s%s', it.target, successor_name,
            leyser.widened_key(key_oid, child_attnum, parent_attnum), CASE WHEN partitioned THEN '' ELSE ' NOT VALID' END);
        it.lock := format('SHARE ROW EXCLUSIVE on %s and %s, %s', it.target, key.confrelid::regclass,
                       CASE WHEN partitioned THEN 'while it is scanned' ELSE 'a moment' END);
        it.note := format('"%s" gets the tenant columns', key.conname);
        RETURN NEXT it;
    END IF;
    IF NOT partitioned AND successor.convalidated IS NOT TRUE THEN
        it.action := 'validate_key';
        it.command := format('ALTER TABLE %s VALIDATE CONSTRAINT %I', it.target, successor_name);
        it.lock := format('SHARE UPDATE EXCLUSIVE on %s, ROW SHARE on %s', it.target, key.confrelid::regclass);
        it.note := 'scans the table; reads and writes go on';
        RETURN NEXT it;
    END IF;
    it.action := 'replace_key';
    it.command := format('ALTER TABLE %1$s DROP CONSTRAINT %2$I; ALTER TABLE %1$s RENAME CONSTRAINT %3$I TO %2$I',
                      it.target, key.conname, successor_name);
    it.lock := format('ACCESS EXCLUSIVE on %s and %s, a moment', it.target, key.confrelid::regclass);
    it.note := 'the new key takes the name of the old one';
    RETURN NEXT it;
END
$$;
REVOKE ALL ON FUNCTION leyser.key_steps(oid, smallint, smallint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.key_steps(oid, smallint, smallint) IS
    'internal: the steps by which a foreign key gets the tenant columns';

-- SET NOT NULL without a scan under its lock: a CHECK that is validated before.
CREATE FUNCTION leyser.not_null_steps(relation regclass, tenant_column name)
    RETURNS SETOF leyser.adoption_step
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    it leyser.adoption_step;
    present pg_constraint;
    complete boolean := NOT EXISTS (SELECT FROM leyser.family_of(not_null_steps.relation) f
        JOIN pg_attribute a ON a.attrelid = f.member AND a.attname = not_null_steps.tenant_column WHERE NOT a.attnotnull);
BEGIN
    SELECT c.* INTO present FROM pg_constraint c
        WHERE c.conrelid = not_null_steps.relation AND c.conname = 'leyser_tenant_not_null';
    it.target := not_null_steps.relation;
    it.object := not_null_steps.tenant_column;
    IF NOT complete THEN
        IF present.oid IS NULL AND leyser.is_large(it.target) THEN
            it.action := 'command';
            it.command := format('ALTER TABLE %s ADD CONSTRAINT leyser_tenant_not_null CHECK (%I IS NOT NULL) NOT VALID', it.target, it.object);
            it.lock := format('ACCESS EXCLUSIVE on %s, a moment', it.target);
            it.note := 'from here on nobody writes a row without a tenant';
            RETURN NEXT it;
        END IF;
        IF present.convalidated IS NOT TRUE AND (present.oid IS NOT NULL OR leyser.is_large(it.target)) THEN
            it.action := 'validate_check';
            it.command := format('ALTER TABLE %s VALIDATE CONSTRAINT leyser_tenant_not_null', it.target);
            it.lock := format('SHARE UPDATE EXCLUSIVE on %s', it.target);
            it.note := 'scans the table; reads and writes go on';
            RETURN NEXT it;
        END IF;
        it.action := 'set_not_null';
        it.command := format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL', it.target, it.object);
        it.lock := format('ACCESS EXCLUSIVE on %s, a moment', it.target);
        it.note := CASE WHEN leyser.is_large(it.target) OR present.oid IS NOT NULL
                     THEN 'without a scan, for the constraint was validated' ELSE 'the table is small' END;
        RETURN NEXT it;
    END IF;
    IF present.oid IS NOT NULL OR NOT complete AND leyser.is_large(it.target) THEN
        it.action := 'command';
        it.command := format('ALTER TABLE %s DROP CONSTRAINT leyser_tenant_not_null', it.target);
        it.lock := format('ACCESS EXCLUSIVE on %s, a moment', it.target);
        it.note := 'the column says it now';
        RETURN NEXT it;
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.not_null_steps(regclass, name) FROM PUBLIC;
COMMENT ON FUNCTION leyser.not_null_steps(regclass, name) IS
    'internal: the steps that make a tenant column NOT NULL';

CREATE FUNCTION leyser.adoption_steps(relation regclass, tenant_column name, kind text)
    RETURNS SETOF leyser.adoption_step
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    it leyser.adoption_step;
    member record;
    key record;
BEGIN
    IF kind = 'own' THEN
        RETURN QUERY SELECT s.* FROM leyser.not_null_steps(adoption_steps.relation, adoption_steps.tenant_column) s;
    END IF;
    FOR member IN SELECT f.member, a.attnum FROM leyser.family_of(adoption_steps.relation) f
            JOIN pg_class c ON c.oid = f.member AND c.relkind = 'r' AND pg_relation_size(c.oid) > 8 * 1024 * 1024
            JOIN pg_attribute a ON a.attrelid = f.member AND a.attname = adoption_steps.tenant_column
            WHERE NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = f.member AND i.indisvalid
                              AND i.indkey[0] = a.attnum AND i.indpred IS NULL) LOOP
        RETURN QUERY SELECT s.* FROM leyser.index_steps(member.member, ARRAY[member.attnum], false) s;
    END LOOP;
    IF kind = 'own' THEN
        FOR key IN SELECT k.* FROM leyser.narrow_keys(adoption_steps.relation, adoption_steps.tenant_column) k LOOP
            RETURN QUERY SELECT s.* FROM leyser.key_steps(key.key_oid, key.child_attnum, key.parent_attnum) s;
        END LOOP;
    END IF;
    IF NOT EXISTS (SELECT FROM leyser.table_record t WHERE t.relation = adoption_steps.relation) THEN
        it.action := 'protect';
        it.target := adoption_steps.relation;
        it.object := adoption_steps.tenant_column;
        it.command := format('SELECT leyser.protect(%L, %L%s)', it.target, it.object,
                          CASE WHEN kind <> 'own' THEN format(', %L', kind) ELSE '' END);
        it.lock := format('ACCESS EXCLUSIVE on %s and its parts, a moment', it.target);
        it.note := 'from here on a context is needed';
        RETURN NEXT it;
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.adoption_steps(regclass, name, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.adoption_steps(regclass, name, text) IS
    'internal: what is missing until a table is protected, in order';

CREATE FUNCTION leyser.protect_plan(relation regclass, tenant_column name DEFAULT 'tenant_id', kind text DEFAULT 'own')
    RETURNS TABLE (step bigint, sql text, lock text, note text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leyser.check_governable(protect_plan.relation);
    IF protect_plan.kind IS NULL OR protect_plan.kind NOT IN ('own', 'own_and_global') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid kind of table',
            DETAIL = 'A plan is made for the kinds own and own_and_global.',
            HINT = 'For other kinds call leyser.declare_table().';
    END IF;
    PERFORM leyser.getter_for(protect_plan.relation, protect_plan.tenant_column);
    RETURN QUERY SELECT row_number() OVER (), s.command || ';', s.lock, s.note
        FROM leyser.adoption_steps(protect_plan.relation, protect_plan.tenant_column, protect_plan.kind) s;
END
$$;
REVOKE ALL ON FUNCTION leyser.protect_plan(regclass, name, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.protect_plan(regclass, name, text) IS
    'operator, auditor: the statements that protect a table online, in order, each with the locks it takes and how long; no rows where nothing is to be done; 42P01 or 42809 where it is no table, 42703 no such column, 42804 its type cannot hold a tenant id, 22023 for another kind';
