-- Look-ups before a context: an exact key in, the tenant's id out.
--
-- Each is a function of its own in the schema of its table, in C (src/lookup.c),
-- owned by the extension's owner.  It is no part of the extension, so a dump
-- carries it, and its row below.

-- src/lookup.c reads the first four columns by number.  The function's name, not
-- its oid: that is what a dump and pg_upgrade keep.
CREATE TABLE leyser.lookup_record (
    function_name text COLLATE "C" PRIMARY KEY,
    relation regclass NOT NULL,
    key_attnums smallint[] NOT NULL,
    -- the names are what a dump carries: a restored table may number its columns anew
    key_columns name[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE leyser.lookup_record IS 'what the look-ups look up';
SELECT pg_catalog.pg_extension_config_dump('leyser.lookup_record', '');

-- Unique keys that tell a tenant what another one has.  A key does not tell where a column
-- of it holds a uuid that nobody else knows: its own, or one of a row that has one tenant.
-- The one judge of it: of view governed_table, key_remedies() and check_security().
CREATE VIEW leyser.telling_key AS
    SELECT i.indexrelid, i.indrelid, t.kind, t.tenant_attnum, k.is_drawn
    FROM leyser.table_record t
    JOIN pg_catalog.pg_index i ON i.indrelid = t.relation AND i.indisunique AND NOT t.tenant_attnum = ANY (i.indkey)
    CROSS JOIN LATERAL (
        SELECT coalesce(pg_catalog.bool_or(a.atttypid = 'pg_catalog.uuid'::pg_catalog.regtype AND NOT EXISTS (
                   SELECT FROM pg_catalog.pg_constraint f LEFT JOIN leyser.table_record o ON o.relation = f.confrelid
                   WHERE f.conrelid = i.indrelid AND f.contype = 'f' AND a.attnum = ANY (f.conkey) AND o.kind IS DISTINCT FROM 'own')), false) AS is_secret,
               pg_catalog.bool_and(coalesce(a.attidentity <> '' OR pg_catalog.starts_with(pg_catalog.pg_get_expr(d.adbin, d.adrelid), 'nextval('), false)) AS is_drawn
        FROM pg_catalog.unnest(i.indkey::smallint[]) WITH ORDINALITY c (num, place)
        LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = c.num AND c.num > 0
        LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE c.place <= i.indnkeyatts) k
    WHERE t.tenant_attnum IS NOT NULL AND NOT k.is_secret
      AND NOT EXISTS (SELECT FROM leyser.lookup_record l WHERE l.relation = t.relation
                      AND l.key_attnums @> i.indkey::smallint[] AND i.indkey::smallint[] @> l.key_attnums);
COMMENT ON VIEW leyser.telling_key IS
    'internal: unique indexes of protected tables that leave out the tenant column and tell what other tenants have, save those that a look-up needs; is_drawn: of numbers from sequences';

CREATE FUNCTION leyser.number_lookup_columns() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.key_attnums := ARRAY(SELECT a.attnum FROM unnest(NEW.key_columns) WITH ORDINALITY k (name, ord)
        LEFT JOIN pg_attribute a ON a.attrelid = NEW.relation AND a.attname = k.name ORDER BY k.ord);
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION leyser.number_lookup_columns() FROM PUBLIC;
COMMENT ON FUNCTION leyser.number_lookup_columns() IS
    'internal trigger: looks up the numbers of a look-up''s columns, also while a dump is restored';
CREATE TRIGGER number_lookup_columns BEFORE INSERT ON leyser.lookup_record
    FOR EACH ROW EXECUTE FUNCTION leyser.number_lookup_columns();
ALTER TABLE leyser.lookup_record ENABLE ALWAYS TRIGGER number_lookup_columns;
COMMENT ON TRIGGER number_lookup_columns ON leyser.lookup_record IS
    'the numbers of the columns follow from their names';

-- The functions that are there.
CREATE FUNCTION leyser.lookup_functions()
    RETURNS TABLE (function regprocedure, function_name text, relation regclass, key_columns name[])
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p.oid::regprocedure, l.function_name, l.relation, l.key_columns
    FROM leyser.lookup_record l
    JOIN pg_proc p ON p.prosrc = 'leyser_lookup' AND p.probin = '$libdir/leyser'
    JOIN pg_namespace n ON n.oid = p.pronamespace AND format('%I.%I', n.nspname, p.proname) = l.function_name
$$;
REVOKE ALL ON FUNCTION leyser.lookup_functions() FROM PUBLIC;
COMMENT ON FUNCTION leyser.lookup_functions() IS 'internal: the look-ups, with their functions';

-- The key's columns as they are, in the order given; an error where one is missing.
CREATE FUNCTION leyser.check_lookup_columns(relation regclass, key_columns name[]) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    missing name;
BEGIN
    IF coalesce(cardinality(key_columns), 0) = 0 OR array_ndims(key_columns) <> 1
            OR array_position(key_columns, NULL) IS NOT NULL
            OR (SELECT count(DISTINCT k) FROM unnest(key_columns) k) <> cardinality(key_columns) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid key_columns',
            DETAIL = 'They are the names of one or more columns, each once.',
            HINT = 'For example key_columns => ''{subdomain}''.';
    END IF;
    SELECT k INTO missing FROM unnest(key_columns) k WHERE NOT EXISTS (SELECT FROM pg_attribute a
        WHERE a.attrelid = relation AND a.attname = k AND a.attnum > 0 AND NOT a.attisdropped) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column',
            MESSAGE = format('column "%s" of "%s" does not exist', missing, relation),
            DETAIL = 'A look-up takes the value of each of its columns.',
            HINT = 'Give columns of the table.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_lookup_columns(regclass, name[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_lookup_columns(regclass, name[]) IS
    'internal: 22023 or 42703 for columns that cannot be a look-up''s key';

-- Without a unique index a key could be two tenants'.
CREATE FUNCTION leyser.check_lookup_index(relation regclass, key_columns name[]) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    attnums smallint[] := ARRAY(SELECT a.attnum FROM pg_attribute a
        WHERE a.attrelid = relation AND a.attname = ANY (key_columns));
    list text := (SELECT string_agg(format('%I', k), ', ') FROM unnest(key_columns) k);
    tenant_column name := (SELECT a.attname FROM leyser.table_record t
        JOIN pg_attribute a ON a.attrelid = t.relation AND a.attnum = t.tenant_attnum
        WHERE t.relation = check_lookup_index.relation);
    shared bigint;
BEGIN
    IF EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
               WHERE i.indrelid = relation AND i.indisunique AND i.indisvalid AND i.indimmediate
                 AND m.amname = 'btree' AND i.indpred IS NULL AND i.indnkeyatts = cardinality(attnums)
                 AND (string_to_array(i.indkey::text, ' ')::smallint[])[1:i.indnkeyatts] <@ attnums
                 AND attnums <@ (string_to_array(i.indkey::text, ' ')::smallint[])[1:i.indnkeyatts]) THEN
        RETURN;
    END IF;
    shared := leyser.count_as_owner(relation, format('SELECT count(*) FROM (SELECT FROM ONLY %1$s WHERE (%2$s) IS NOT NULL'
        ' GROUP BY %2$s HAVING count(DISTINCT %3$I) > 1) k', relation, list, tenant_column));
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
        MESSAGE = format('"%s" has no unique index on exactly (%s)', relation, list),
        DETAIL = CASE shared WHEN 0 THEN 'Without one, a key could be that of two tenants; now none is.'
            ELSE format('Without one, a key can be that of two tenants: %s keys are.', shared) END,
        HINT = CASE shared WHEN 0 THEN '' ELSE 'Give each tenant a key of its own, then ' END
            || format('CREATE UNIQUE INDEX CONCURRENTLY ON %s (%s);', relation, list);
END
$$;
REVOKE ALL ON FUNCTION leyser.check_lookup_index(regclass, name[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_lookup_index(regclass, name[]) IS
    'internal: 55000 where no unique index is on exactly these columns, with the number of keys that several tenants have';

CREATE FUNCTION leyser.check_lookup_table(relation regclass) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    class pg_class;
BEGIN
    SELECT c.* INTO class FROM pg_class c WHERE c.oid = relation;
    IF NOT EXISTS (SELECT FROM leyser.table_record t WHERE t.relation = check_lookup_table.relation
                   AND t.tenant_attnum IS NOT NULL) THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('"%s" is not protected', relation),
            DETAIL = 'A look-up gives the tenant id of a row of a protected table.',
            HINT = format('SELECT leyser.protect(%L);', relation);
    END IF;
    IF class.relkind = 'p' OR class.relispartition OR EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = relation) THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
            MESSAGE = format('a look-up cannot be made for "%s"', relation),
            DETAIL = 'It is partitioned, or has children: its unique index does not look at all rows at once.',
            HINT = 'Keep the keys in a table of their own, with the tenant column.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_lookup_table(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_lookup_table(regclass) IS
    'internal: LY008 or 0A000 for a table for which no look-up can be made';

CREATE FUNCTION leyser.create_lookup(name name, relation regclass, key_columns name[]) RETURNS regprocedure
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' SET leyser.registry_work = on
AS $$
#variable_conflict use_column
DECLARE
    new_name text;
    arguments text;
    function text;
    user_role name;
BEGIN
    PERFORM leyser.check_governable(create_lookup.relation);
    IF coalesce(create_lookup.name, '') = '' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'the look-up has no name',
            DETAIL = 'It becomes a function in the schema of its table.',
            HINT = 'For example leyser.create_lookup(''tenant_of_subdomain'', …).';
    END IF;
    EXECUTE format('LOCK TABLE ONLY %s IN SHARE UPDATE EXCLUSIVE MODE', create_lookup.relation);
    PERFORM leyser.check_lookup_table(create_lookup.relation);
    PERFORM leyser.check_lookup_columns(create_lookup.relation, create_lookup.key_columns);
    PERFORM leyser.check_lookup_index(create_lookup.relation, create_lookup.key_columns);
    SELECT format('%I.%I', n.nspname, create_lookup.name) INTO new_name
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = create_lookup.relation;
    -- a domain's checks would run for who asks: its base type will do
    SELECT string_agg(format('%I %s', k.name, (
               WITH RECURSIVE types AS (SELECT a.atttypid AS oid
                   UNION ALL SELECT t.typbasetype FROM types JOIN pg_type t USING (oid) WHERE t.typtype = 'd')
               SELECT format_type(t.oid, NULL) FROM types JOIN pg_type t USING (oid) WHERE t.typtype <> 'd')),
               ', ' ORDER BY k.ord) INTO arguments
        FROM unnest(create_lookup.key_columns) WITH ORDINALITY k (name, ord)
        JOIN pg_attribute a ON a.attrelid = create_lookup.relation AND a.attname = k.name;
    IF EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
               WHERE format('%I.%I', n.nspname, p.proname) = new_name) THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_function',
            MESSAGE = format('function "%s" exists already', new_name),
            DETAIL = 'A look-up has a name of its own in the schema of its table.',
            HINT = 'Give another name, or SELECT leyser.drop_lookup(…) first.';
    END IF;
    EXECUTE format('CREATE FUNCTION %s(%s) RETURNS text LANGUAGE c STABLE STRICT PARALLEL SAFE'
        ' AS ''$libdir/leyser'', ''leyser_lookup''', new_name, arguments);
    DELETE FROM leyser.lookup_record l WHERE l.function_name = new_name;
    INSERT INTO leyser.lookup_record (function_name, relation, key_columns)
        VALUES (new_name, create_lookup.relation, create_lookup.key_columns);
    SELECT f.function::text INTO function FROM leyser.lookup_functions() f WHERE f.function_name = new_name;
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', function);
    EXECUTE format('COMMENT ON FUNCTION %s IS %L', function,
        format('leyser: the tenant id of the row of %s with exactly this key; NULL where there is none or the tenant is not active',
               create_lookup.relation));
    FOR user_role IN SELECT DISTINCT r.rolname FROM leyser.usage_record u JOIN pg_roles r ON r.oid = u.role
            WHERE u.usage IN ('application', 'gateway') LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', function, user_role);
    END LOOP;
    PERFORM leyser.record_event('lookup.created', NULL, new_name,
        jsonb_build_object('relation', create_lookup.relation::text, 'key_columns', create_lookup.key_columns));
    RETURN function::regprocedure;
EXCEPTION WHEN lock_not_available THEN
    PERFORM leyser.raise_locked(create_lookup.relation);
END
$$;
REVOKE ALL ON FUNCTION leyser.create_lookup(name, regclass, name[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.create_lookup(name, regclass, name[]) IS
    'operator: makes a function, in the schema of a protected table, that gives the id of the active tenant whose row has exactly this key (values in the order of key_columns), also without a context; application and gateway roles may call it, and it is counted in view leyser.lookup; 55000 without a unique index on exactly these columns, 42703 no such column, 22023 no name or no columns, 42723 the name is taken, LY008 the table is not protected, 0A000 it is partitioned, 42P01, 42809, 55P03';

-- Functions that are gone already are no matter.
CREATE FUNCTION leyser.forget_lookup(function_name text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET leyser.registry_work = on
AS $$
#variable_conflict use_column
DECLARE
    function regprocedure;
BEGIN
    FOR function IN SELECT f.function FROM leyser.lookup_functions() f
            WHERE f.function_name = forget_lookup.function_name LOOP
        EXECUTE format('DROP FUNCTION %s', function);
    END LOOP;
    DELETE FROM leyser.lookup_record l WHERE l.function_name = forget_lookup.function_name;
    PERFORM leyser.record_event('lookup.dropped', NULL, forget_lookup.function_name, NULL);
END
$$;
REVOKE ALL ON FUNCTION leyser.forget_lookup(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.forget_lookup(text) IS 'internal: drops a look-up';

CREATE FUNCTION leyser.drop_lookup(function regprocedure) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    present text;
BEGIN
    SELECT f.function_name INTO present FROM leyser.lookup_functions() f WHERE f.function = drop_lookup.function;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('"%s" is no look-up', drop_lookup.function),
            DETAIL = 'No look-up is registered under this name.',
            HINT = 'See view leyser.lookup.';
    END IF;
    PERFORM leyser.forget_lookup(present);
END
$$;
REVOKE ALL ON FUNCTION leyser.drop_lookup(regprocedure) FROM PUBLIC;
COMMENT ON FUNCTION leyser.drop_lookup(regprocedure) IS
    'operator: drops a look-up; LY008 where it is none';

-- What went with its table, or has other names by now; with one, all look-ups of a
-- table that is no longer protected.
CREATE FUNCTION leyser.follow_lookups(unprotected regclass DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    gone text;
BEGIN
    FOR gone IN SELECT l.function_name FROM leyser.lookup_record l
            WHERE l.relation = follow_lookups.unprotected
               OR NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = l.relation)
               OR EXISTS (SELECT FROM unnest(l.key_attnums) k (attnum) WHERE NOT EXISTS (SELECT FROM pg_attribute a
                          WHERE a.attrelid = l.relation AND a.attnum = k.attnum AND NOT a.attisdropped)) LOOP
        PERFORM leyser.forget_lookup(gone);
    END LOOP;
    UPDATE leyser.lookup_record l SET key_columns = n.names
        FROM (SELECT o.function_name, ARRAY(SELECT a.attname FROM unnest(o.key_attnums) WITH ORDINALITY k (attnum, ord)
                  JOIN pg_attribute a ON a.attrelid = o.relation AND a.attnum = k.attnum ORDER BY k.ord) AS names
              FROM leyser.lookup_record o) n
        WHERE n.function_name = l.function_name AND n.names <> l.key_columns;
END
$$;
REVOKE ALL ON FUNCTION leyser.follow_lookups(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.follow_lookups(regclass) IS
    'internal: drops look-ups whose table or column is gone, or which is unprotected; notes renamed columns';

CREATE FUNCTION leyser.lookup_counts(function oid, OUT asked bigint, OUT found bigint,
                                     OUT this_minute bigint, OUT last_minute bigint)
    LANGUAGE c VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'leyser_lookup_counts';
REVOKE ALL ON FUNCTION leyser.lookup_counts(oid) FROM PUBLIC;
COMMENT ON FUNCTION leyser.lookup_counts(oid) IS
    'internal: how often a look-up was asked since the server''s start, and how often it found a tenant';

CREATE FUNCTION leyser.list_lookups()
    RETURNS TABLE (function regprocedure, relation regclass, key_columns name[], asked bigint, found bigint,
                   asked_this_minute bigint, asked_last_minute bigint, counted_since timestamptz)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT f.function, f.relation, f.key_columns, c.asked, c.found, c.this_minute, c.last_minute,
           pg_postmaster_start_time()
    FROM leyser.lookup_functions() f CROSS JOIN LATERAL leyser.lookup_counts(f.function) c
$$;
REVOKE ALL ON FUNCTION leyser.list_lookups() FROM PUBLIC;
COMMENT ON FUNCTION leyser.list_lookups() IS 'internal: what view lookup shows';

CREATE VIEW leyser.lookup AS
    SELECT l.function, l.relation, l.key_columns, l.asked, l.found, l.asked_this_minute, l.asked_last_minute,
           l.counted_since
    FROM leyser.list_lookups() l;
COMMENT ON VIEW leyser.lookup IS
    'the look-ups, how often they were asked on this server since it started, how often they found an active tenant, and how often in this minute and the one before; NULL where there are more than 128 (operator, auditor)';
