-- Protection: row security that nobody's policy widens.

-- The restrictive policies of a kind.  %1$s is the tenant column compared with
-- its getter, %2$s the tenant column.
CREATE FUNCTION leyser.wanted_policies(kind text)
    RETURNS TABLE (policy name, command text, read_condition text, write_condition text)
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT w.policy, w.command, w.read_condition, w.write_condition
    FROM (VALUES
        ('own', 'leyser_tenant'::name, 'ALL', '%1$s', '%1$s'),
        ('own_and_global', 'leyser_tenant_read', 'SELECT', '%1$s OR %2$s IS NULL', NULL),
        ('own_and_global', 'leyser_tenant_insert', 'INSERT', NULL, '%1$s'),
        ('own_and_global', 'leyser_tenant_update', 'UPDATE', '%1$s', '%1$s'),
        ('own_and_global', 'leyser_tenant_delete', 'DELETE', '%1$s', NULL)
    ) w (kind, policy, command, read_condition, write_condition)
    WHERE w.kind = wanted_policies.kind
$$;
REVOKE ALL ON FUNCTION leyser.wanted_policies(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.wanted_policies(text) IS
    'internal: the restrictive policies that a kind of table has';

-- The getter that fits a column, or an error where no getter does.
CREATE FUNCTION leyser.getter_for(relation regclass, tenant_column name) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    attribute pg_attribute;
    base oid;
    getter text;
BEGIN
    SELECT a.* INTO attribute FROM pg_attribute a
        WHERE a.attrelid = relation AND a.attname = tenant_column
          AND a.attnum > 0 AND NOT a.attisdropped;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column',
            MESSAGE = format('column "%s" of "%s" does not exist', tenant_column, relation),
            DETAIL = 'A protected table has a column that holds the tenant''s id.',
            HINT = 'Give tenant_column => ''…'', or add the column.';
    END IF;
    WITH RECURSIVE types AS (
        SELECT attribute.atttypid AS oid
        UNION ALL
        SELECT t.typbasetype FROM types JOIN pg_type t USING (oid) WHERE t.typtype = 'd'
    )
    SELECT t.oid INTO base FROM types JOIN pg_type t USING (oid) WHERE t.typtype <> 'd';
    getter := CASE
        WHEN base IN ('text'::regtype, 'varchar'::regtype) THEN 'leyser.tenant_id()'
        WHEN base = 'uuid'::regtype THEN 'leyser.tenant_id_uuid()'
        WHEN base IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) THEN 'leyser.tenant_id_int8()'
    END;
    IF getter IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch',
            MESSAGE = format('column "%s" of "%s" cannot hold a tenant id', tenant_column, relation),
            DETAIL = format('Its type is %s.', format_type(attribute.atttypid, attribute.atttypmod)),
            HINT = 'Use text, varchar, uuid, smallint, integer or bigint, or a domain over one of them.';
    END IF;
    IF EXISTS (SELECT FROM pg_collation l WHERE l.oid = attribute.attcollation
               AND NOT l.collisdeterministic) THEN
        RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch',
            MESSAGE = format('column "%s" of "%s" cannot hold a tenant id', tenant_column, relation),
            DETAIL = 'Its collation is not deterministic: two tenant ids could be equal.',
            HINT = 'Give the column a deterministic collation, such as "C".';
    END IF;
    RETURN getter;
END
$$;
REVOKE ALL ON FUNCTION leyser.getter_for(regclass, name) FROM PUBLIC;
COMMENT ON FUNCTION leyser.getter_for(regclass, name) IS
    'internal: the getter that fits the type of a tenant column';

CREATE FUNCTION leyser.run_as_owner(relation regclass, command text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_run_as_owner';
REVOKE ALL ON FUNCTION leyser.run_as_owner(regclass, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.run_as_owner(regclass, text) IS
    'internal: DDL of a table, run with the rights of its owner, for parsing it may run the owner''s code';

CREATE FUNCTION leyser.count_as_owner(relation regclass, query text) RETURNS bigint
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_count_as_owner';
REVOKE ALL ON FUNCTION leyser.count_as_owner(regclass, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.count_as_owner(regclass, text) IS
    'internal: a query of a table, run with the rights of its owner, for planning it may run the owner''s code';

-- Raises where a text column holds what cannot be tenant ids: rows that nobody
-- would ever see.  One probe of the index for each tenant; small tables are scanned.
CREATE FUNCTION leyser.check_tenant_values(relation regclass, tenant_column name) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wrong bigint;
BEGIN
    wrong := leyser.count_as_owner(relation, format(
        'WITH RECURSIVE ids(id) AS ('
        '  (SELECT %1$I::text COLLATE %3$s FROM ONLY %2$s WHERE %1$I IS NOT NULL ORDER BY %1$I LIMIT 1)'
        '  UNION ALL SELECT (SELECT t.%1$I::text COLLATE %3$s FROM ONLY %2$s t WHERE t.%1$I > ids.id'
        '                    ORDER BY t.%1$I LIMIT 1) FROM ids WHERE ids.id IS NOT NULL)'
        ' SELECT count(*) FROM ids WHERE leyser.tenant_id_problem(ids.id) IS NOT NULL',
        tenant_column, relation,
        (SELECT format('%I.%I', n.nspname, l.collname) FROM pg_attribute a
         JOIN pg_collation l ON l.oid = a.attcollation
         JOIN pg_namespace n ON n.oid = l.collnamespace
         WHERE a.attrelid = relation AND a.attname = tenant_column)));
    IF wrong > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_text_representation',
            MESSAGE = format('"%s" has values in column "%s" that cannot be tenant ids',
                             relation, tenant_column),
            DETAIL = format('%s different values are empty, too long, or numbers or uuids not in canonical form.', wrong),
            HINT = format('SELECT DISTINCT %1$I, leyser.tenant_id_problem(%1$I) FROM %2$s WHERE leyser.tenant_id_problem(%1$I) IS NOT NULL;',
                          tenant_column, relation);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_tenant_values(regclass, name) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_tenant_values(regclass, name) IS
    'internal: raises where a text column holds values that cannot be tenant ids';

-- Raises where protect() would have to wait or to scan, or would leave a hole.
CREATE FUNCTION leyser.check_protectable(relation regclass, tenant_column name, kind text,
                                         accept_gaps boolean) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    large CONSTANT bigint := 8 * 1024 * 1024; -- bytes that may be scanned
    one record;
    gap record;
    owned_by regrole;
BEGIN
    SELECT u.role INTO owned_by FROM leyser.usage_record u
        JOIN pg_roles r ON r.oid = u.role AND NOT r.rolsuper
        JOIN leyser.family_of(relation) f ON true
        JOIN pg_class c ON c.oid = f.member AND pg_has_role(u.role, c.relowner, 'MEMBER')
        WHERE u.usage IN ('application', 'gateway') LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('"%s" belongs to an application', relation),
            DETAIL = format('Role "%s", which has usage application or gateway, is or can become its owner, who can lift the protection.', owned_by),
            HINT = format('ALTER TABLE %s OWNER TO …; (a role that applications do not use)', relation);
    END IF;
    FOR one IN
        SELECT f.member, a.attnum, a.attnotnull, a.atttypid::regtype AS type,
               pg_relation_size(f.member) AS bytes,
               EXISTS (SELECT FROM pg_index i WHERE i.indrelid = f.member AND i.indisvalid
                       AND i.indkey[0] = a.attnum AND i.indpred IS NULL) AS has_index
        FROM leyser.family_of(relation) f
        JOIN pg_attribute a ON a.attrelid = f.member AND a.attname = tenant_column
    LOOP
        IF kind = 'own' AND NOT one.attnotnull THEN
            RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
                MESSAGE = format('column "%s" of "%s" may be null', tenant_column, one.member),
                DETAIL = 'A row without a tenant would be seen by nobody.',
                HINT = format('ALTER TABLE %1$s ADD CONSTRAINT tenant_not_null CHECK (%2$I IS NOT NULL) NOT VALID;'
                    ' ALTER TABLE %1$s VALIDATE CONSTRAINT tenant_not_null;'
                    ' ALTER TABLE %1$s ALTER COLUMN %2$I SET NOT NULL;'
                    ' ALTER TABLE %1$s DROP CONSTRAINT tenant_not_null; or kind => ''own_and_global''.',
                    one.member, tenant_column);
        END IF;
        IF one.bytes > large AND NOT one.has_index THEN
            RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
                MESSAGE = format('"%s" has no index on column "%s"', one.member, tenant_column),
                DETAIL = format('The table has %s; each tenant''s query would scan all of it.',
                                pg_size_pretty(one.bytes)),
                HINT = format('CREATE INDEX CONCURRENTLY ON %s (%I);', one.member, tenant_column);
        END IF;
    END LOOP;
    FOR gap IN SELECT f.gap, f.remedy FROM pg_attribute a,
                   leyser.foreign_key_gaps(relation, a.attnum) f
               WHERE a.attrelid = relation AND a.attname = tenant_column LOOP
        IF NOT accept_gaps THEN
            RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
                MESSAGE = format('"%s" has a foreign key without the tenant columns', relation),
                DETAIL = format('The %s: a tenant could refer to another tenant''s row.', gap.gap),
                HINT = format('Put this in its place: %s Or accept it with accept_gaps => true.', gap.remedy);
        END IF;
        RAISE WARNING USING MESSAGE = gap.gap, HINT = gap.remedy;
    END LOOP;
    PERFORM leyser.check_tenant_values(f.member, tenant_column)
        FROM leyser.family_of(relation) f
        JOIN pg_class c ON c.oid = f.member AND c.relkind = 'r'
        WHERE leyser.getter_for(relation, tenant_column) = 'leyser.tenant_id()';
END
$$;
REVOKE ALL ON FUNCTION leyser.check_protectable(regclass, name, text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_protectable(regclass, name, text, boolean) IS
    'internal: raises where a table cannot be protected at once';

-- Takes our policies off one table.
CREATE FUNCTION leyser.drop_policies(relation regclass) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    policy name;
BEGIN
    FOR policy IN SELECT p.polname FROM pg_policy p WHERE p.polrelid = relation
            AND (p.polname ~ '^leyser_(tenant|permission)' OR p.polname = 'leyser_rows') ORDER BY 1 LOOP
        EXECUTE format('DROP POLICY %I ON %s', policy, relation);
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.drop_policies(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.drop_policies(regclass) IS
    'internal: takes leyser''s policies off one table';

-- Puts back the default that protect() found on the tenant column.
CREATE FUNCTION leyser.restore_default(was leyser.table_record) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
DECLARE
    attribute name;
    present_default text;
BEGIN
    SELECT a.attname, pg_get_expr(d.adbin, d.adrelid) INTO attribute, present_default
        FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = was.relation AND a.attnum = was.tenant_attnum;
    -- a default that somebody set since then is theirs
    IF was.set_default AND present_default ~ '^\(?leyser\.tenant_id' THEN
        PERFORM leyser.run_as_owner(was.relation,
            format('ALTER TABLE ONLY %s ALTER COLUMN %I %s', was.relation, attribute,
                coalesce('SET DEFAULT ' || was.had_default, 'DROP DEFAULT')));
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.restore_default(leyser.table_record) FROM PUBLIC;
COMMENT ON FUNCTION leyser.restore_default(leyser.table_record) IS
    'internal: puts back the default that protect() found';

-- Puts protection up on one table and registers it.
CREATE FUNCTION leyser.protect_one(relation regclass, parent regclass, tenant_column name,
                                   kind text, set_default boolean, accept_gaps boolean)
    RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
#variable_conflict use_column
DECLARE
    getter text := leyser.getter_for(protect_one.relation, protect_one.tenant_column);
    present leyser.table_record;
    wanted record;
    before record;
    with_default boolean;
    permissions leyser.table_record;
    theirs name;
BEGIN
    DELETE FROM leyser.table_record t WHERE t.relation = protect_one.relation
        RETURNING t.* INTO present;
    -- the column or set_default may be others by now
    PERFORM leyser.restore_default(present);
    SELECT c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced,
           pg_get_expr(d.adbin, d.adrelid) AS default_expression,
           a.attidentity <> '' OR a.attgenerated <> '' AS is_generated
        INTO before FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = protect_one.tenant_column
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.oid = protect_one.relation;
    -- a new partition or child was born with the default that we gave its parent
    IF protect_one.parent IS NOT NULL AND before.default_expression ~ '^\(?leyser\.tenant_id' THEN
        before.default_expression := (SELECT t.had_default FROM leyser.table_record t
            WHERE t.relation = protect_one.parent AND t.set_default);
    END IF;
    with_default := protect_one.set_default AND NOT before.is_generated;

    -- those of an earlier protection carry our comment
    SELECT p.polname INTO theirs FROM pg_policy p
        WHERE p.polrelid = protect_one.relation
          AND (p.polname ~ '^leyser_(tenant|permission)' OR p.polname = 'leyser_rows')
          AND present.relation IS NULL
          AND coalesce(obj_description(p.oid, 'pg_policy'), '') !~ '^leyser: ' LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
            MESSAGE = format('policy "%s" of "%s" has a name that leyser uses', theirs, protect_one.relation),
            DETAIL = 'leyser would replace it.',
            HINT = format('ALTER POLICY %I ON %s RENAME TO …;', theirs, protect_one.relation);
    END IF;
    PERFORM leyser.drop_policies(protect_one.relation);
    EXECUTE format('ALTER TABLE ONLY %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY',
                   protect_one.relation);
    FOR wanted IN SELECT w.* FROM leyser.wanted_policies(protect_one.kind) w LOOP
        EXECUTE format('CREATE POLICY %I ON %s AS RESTRICTIVE FOR %s TO PUBLIC', wanted.policy,
                       protect_one.relation, wanted.command)
            || coalesce(' USING (' || format(wanted.read_condition,
                format('%I = %s', protect_one.tenant_column, getter),
                quote_ident(protect_one.tenant_column)) || ')', '')
            || coalesce(' WITH CHECK (' || format(wanted.write_condition,
                format('%I = %s', protect_one.tenant_column, getter)) || ')', '');
        EXECUTE format('COMMENT ON POLICY %I ON %s IS ''leyser: rows of the context''''s tenant''',
                       wanted.policy, protect_one.relation);
    END LOOP;
    -- partitions and children ask for what their parent asks for
    SELECT t.* INTO permissions FROM leyser.table_record t WHERE t.relation = protect_one.parent;
    IF present.tenant_attnum IS NOT NULL THEN
        permissions := present;
    END IF;
    PERFORM leyser.create_permission_policies(protect_one.relation, permissions.read_permission,
        permissions.write_permission, permissions.scope_column);
    -- Beside a permissive policy of the table's own, ours would widen it.
    IF NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = protect_one.relation
                   AND p.polpermissive) THEN
        EXECUTE format('CREATE POLICY leyser_rows ON %s USING (true)', protect_one.relation);
        EXECUTE format('COMMENT ON POLICY leyser_rows ON %s IS ''leyser: all rows, within the restrictive policies''',
                       protect_one.relation);
    END IF;
    IF with_default THEN
        EXECUTE format('ALTER TABLE ONLY %s ALTER COLUMN %I SET DEFAULT %s', protect_one.relation,
                       protect_one.tenant_column, getter);
    END IF;
    INSERT INTO leyser.table_record (relation, kind, tenant_column, parent, accept_gaps, set_default,
            had_row_security, had_forced_row_security, had_default, governed_since,
            read_permission, write_permission, scope_column)
        SELECT protect_one.relation, protect_one.kind, protect_one.tenant_column, protect_one.parent,
            protect_one.accept_gaps, with_default,
            CASE WHEN present.tenant_attnum IS NULL THEN before.enabled ELSE present.had_row_security END,
            CASE WHEN present.tenant_attnum IS NULL THEN before.forced ELSE present.had_forced_row_security END,
            before.default_expression,
            coalesce(present.governed_since, clock_timestamp()),
            permissions.read_permission, permissions.write_permission, permissions.scope_column;
END
$$;
REVOKE ALL ON FUNCTION leyser.protect_one(regclass, regclass, name, text, boolean, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.protect_one(regclass, regclass, name, text, boolean, boolean) IS
    'internal: protects and registers one table, without its children';
