-- CALL protect_schema(): the steps of adopt_plan.sql for each table of a schema, first
-- those that nobody notices, then the protection itself.

CREATE FUNCTION leyser.update_as_owner(relation regclass, command text) RETURNS bigint
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_update_as_owner';
REVOKE ALL ON FUNCTION leyser.update_as_owner(regclass, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.update_as_owner(regclass, text) IS
    'internal: how many rows an UPDATE of a table changed, with the rights of its owner and without users'' triggers';

-- Rows that have no tenant are told by their number.
CREATE FUNCTION leyser.refuse_null_tenants(relation regclass, tenant_column name) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'not_null_violation',
        MESSAGE = format('"%s" has rows without a tenant', relation),
        DETAIL = format('Column "%s" is null in %s rows.', tenant_column,
            leyser.count_as_owner(relation, format('SELECT count(*) FROM %s WHERE %I IS NULL', relation, tenant_column))),
        HINT = 'Fill it or delete them, and the same CALL goes on; or protect the table with kind => ''own_and_global'', where they are for all tenants to read.';
END
$$;
REVOKE ALL ON FUNCTION leyser.refuse_null_tenants(regclass, name) FROM PUBLIC;
COMMENT ON FUNCTION leyser.refuse_null_tenants(regclass, name) IS
    'internal: 23502 for a table with rows that have no tenant, with their number';

-- So are those that refer to another tenant's row; the server would name one's key.
CREATE FUNCTION leyser.refuse_foreign_rows(successor regclass, key_name name) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    key pg_constraint;
    pairs text;
    filled text;
BEGIN
    SELECT c.* INTO key FROM pg_constraint c WHERE c.conrelid = successor AND c.conname = key_name;
    SELECT string_agg(format('p.%I = c.%I', q.attname, a.attname), ' AND '),
           string_agg(format('c.%I IS NOT NULL', a.attname), ' AND ')
        INTO pairs, filled
        FROM unnest(key.conkey, key.confkey) k (child_num, parent_num)
        JOIN pg_attribute a ON a.attrelid = key.conrelid AND a.attnum = k.child_num
        JOIN pg_attribute q ON q.attrelid = key.confrelid AND q.attnum = k.parent_num;
    RAISE EXCEPTION USING ERRCODE = 'foreign_key_violation',
        MESSAGE = format('"%s" has rows that refer to another tenant''s row of "%s", or to none', successor, key.confrelid::regclass),
        DETAIL = format('Rows: %s.', leyser.count_as_owner(successor, format(
            'SELECT count(*) FROM %s c WHERE %s AND NOT EXISTS (SELECT FROM %s p WHERE %s)', successor, filled,
            key.confrelid::regclass, pairs))),
        HINT = format('The key is to be %s. Mend these rows, and the same CALL goes on.', pg_get_constraintdef(key.oid));
END
$$;
REVOKE ALL ON FUNCTION leyser.refuse_foreign_rows(regclass, name) FROM PUBLIC;
COMMENT ON FUNCTION leyser.refuse_foreign_rows(regclass, name) IS
    'internal: 23503 for a table with rows that refer to another tenant''s rows, with their number';

-- A foreign key that is checked at once (that of a partitioned table) plans queries of
-- both tables; one that is NOT VALID runs nobody's code.
CREATE FUNCTION leyser.add_key(relation regclass, command text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
BEGIN
    IF command ~ ' NOT VALID$' THEN
        EXECUTE command;
    ELSE
        PERFORM leyser.run_as_owner(relation, command);
    END IF;
EXCEPTION WHEN foreign_key_violation THEN
    -- the server would name a row's key
    RAISE EXCEPTION USING ERRCODE = 'foreign_key_violation',
        MESSAGE = format('rows of "%s" do not fit the foreign key', relation),
        DETAIL = format('They refer to no row by it: %s', command),
        HINT = 'Mend these rows, and the same call goes on.';
END
$$;
REVOKE ALL ON FUNCTION leyser.add_key(regclass, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.add_key(regclass, text) IS
    'internal: adds a foreign key, or validates one; where rows are looked at, with the rights of the table''s owner; 23503 without a value';

-- Does one step.  What may run a table owner's code runs with the owner's rights.
CREATE FUNCTION leyser.adoption_do(step leyser.adoption_step) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    was text;
    successor name;
BEGIN
    CASE step.action
        WHEN 'validate_check' THEN
            BEGIN
                PERFORM leyser.run_as_owner(step.target, step.command);
            EXCEPTION WHEN check_violation THEN
                PERFORM leyser.refuse_null_tenants(step.target, step.object);
            END;
        WHEN 'set_not_null' THEN
            BEGIN
                PERFORM leyser.run_as_owner(step.target, step.command);
            EXCEPTION WHEN not_null_violation THEN
                PERFORM leyser.refuse_null_tenants(step.target, step.object);
            END;
            PERFORM leyser.note_adoption(step.target, 'not_null', step.object, NULL);
        WHEN 'add_key' THEN
            PERFORM leyser.add_key(step.target, step.command);
        WHEN 'validate_key' THEN
            successor := (SELECT format('leyser_key_%s', c.oid) FROM pg_constraint c WHERE c.conrelid = step.target AND c.conname = step.object);
            BEGIN
                PERFORM leyser.run_as_owner(step.target, step.command);
            EXCEPTION WHEN foreign_key_violation THEN
                PERFORM leyser.refuse_foreign_rows(step.target, successor);
            END;
        WHEN 'replace_key' THEN
            SELECT pg_get_constraintdef(c.oid) INTO was FROM pg_constraint c WHERE c.conrelid = step.target AND c.conname = step.object;
            EXECUTE step.command;
            PERFORM leyser.note_adoption(step.target, 'key', step.object, was);
        ELSE
            EXECUTE step.command;
    END CASE;
END
$$;
REVOKE ALL ON FUNCTION leyser.adoption_do(leyser.adoption_step) FROM PUBLIC;
COMMENT ON FUNCTION leyser.adoption_do(leyser.adoption_step) IS
    'internal: does one step of an adoption; 23502 or 23503 with numbers of rows where rows are in its way';

-- A foreign key leads to tables of other owners, too: who calls changes none of them, and
-- refers to no column that it may not refer to.
CREATE FUNCTION leyser.check_step(acting regrole, step leyser.adoption_step, tenant_column name) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    parent regclass := (SELECT c.confrelid FROM pg_constraint c
        WHERE step.action = 'add_key' AND c.conrelid = step.target AND c.conname = step.object);
    schema oid := (SELECT c.relnamespace FROM pg_class c WHERE c.oid = step.target);
BEGIN
    PERFORM leyser.check_owner(acting, step.target);
    IF parent IS NOT NULL AND has_column_privilege(acting, parent, leyser.adopted_attnum(parent, tenant_column, schema), 'REFERENCES') IS NOT TRUE THEN
        PERFORM leyser.check_owner(acting, parent);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_step(regrole, leyser.adoption_step, name) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_step(regrole, leyser.adoption_step, name) IS
    'internal: 42501 where a step changes, or refers to, a table that is not the caller''s to change or refer to';

-- The tables of a schema that are to be protected: those with the tenant column that
-- are in no registry and no part of another table.
CREATE FUNCTION leyser.unprotected_tables(schema regnamespace, tenant_column name) RETURNS SETOF regclass
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.oid::regclass FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = unprotected_tables.tenant_column AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = unprotected_tables.schema AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
      AND NOT EXISTS (SELECT FROM leyser.table_record t WHERE t.relation = c.oid)
      AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
    ORDER BY c.oid
$$;
REVOKE ALL ON FUNCTION leyser.unprotected_tables(regnamespace, name) FROM PUBLIC;
COMMENT ON FUNCTION leyser.unprotected_tables(regnamespace, name) IS
    'internal: tables of a schema that have the tenant column and no kind';

CREATE FUNCTION leyser.protect_schema_begin(acting regrole, schema regnamespace, tenant_column name) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    work bigint;
    tables bigint := 0;
    one regclass;
BEGIN
    IF protect_schema_begin.schema IS NULL OR protect_schema_begin.tenant_column IS NULL
            OR protect_schema_begin.schema IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace, 'leyser'::regnamespace) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid schema or tenant_column',
            DETAIL = 'Neither is null, and the schema is none of the system''s or leyser''s.',
            HINT = 'CALL leyser.protect_schema(''public'', ''tenant_id'');';
    END IF;
    FOR one IN SELECT * FROM leyser.unprotected_tables(protect_schema_begin.schema, protect_schema_begin.tenant_column) LOOP
        PERFORM leyser.check_owner(acting, one);
        PERFORM leyser.getter_for(one, protect_schema_begin.tenant_column);
        tables := tables + 1;
    END LOOP;
    work := leyser.work_begin('protect_schema', protect_schema_begin.schema::text,
        jsonb_build_object('tenant_column', protect_schema_begin.tenant_column));
    PERFORM leyser.work_step(work, 0, 2 * tables, jsonb_build_object('phase', 'prepare', 'after', 0,
        'schema', protect_schema_begin.schema::oid::bigint, 'acting', acting::oid::bigint));
    RETURN work;
END
$$;
REVOKE ALL ON FUNCTION leyser.protect_schema_begin(regrole, regnamespace, name) FROM PUBLIC;
COMMENT ON FUNCTION leyser.protect_schema_begin(regrole, regnamespace, name) IS
    'internal: begins, or takes up, the protection of a schema for the role that called it';

-- Tables that are left without a kind, told once at the end.
CREATE FUNCTION leyser.warn_of_kindless(schema regnamespace) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    names text[] := (SELECT array_agg(c.oid::regclass::text ORDER BY c.relname) FROM pg_class c
        WHERE c.relnamespace = schema AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
          AND NOT EXISTS (SELECT FROM leyser.table_record t WHERE t.relation = c.oid));
BEGIN
    IF names IS NOT NULL THEN
        RAISE WARNING USING MESSAGE = format('%s tables of schema "%s" have no kind', cardinality(names), schema),
            DETAIL = array_to_string(names[1:10], ', ') || CASE WHEN cardinality(names) > 10 THEN ', …' ELSE '' END,
            HINT = 'CALL leyser.add_tenant_column(relation, via) for child tables, then this again; SELECT leyser.declare_table(relation, kind, reason) for the others.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.warn_of_kindless(regnamespace) FROM PUBLIC;
COMMENT ON FUNCTION leyser.warn_of_kindless(regnamespace) IS
    'internal: warns of the tables of a schema that have no kind';

-- All that can be done before is done first; then each table is protected.
CREATE FUNCTION leyser.next_unprotected(schema regnamespace, wanted name, INOUT place jsonb, OUT passed bigint,
                                        OUT relation regclass, OUT step leyser.adoption_step)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    passed := 0;
    LOOP
        relation := (SELECT t FROM leyser.unprotected_tables(schema, wanted) t WHERE t::oid > (place ->> 'after')::oid LIMIT 1);
        IF relation IS NULL AND place ->> 'phase' = 'protect' THEN
            RETURN;
        ELSIF relation IS NULL THEN
            place := place || '{"phase": "protect", "after": 0}';
            CONTINUE;
        END IF;
        SELECT s.* INTO step FROM leyser.adoption_steps(relation, wanted, 'own') s LIMIT 1;
        -- what is to be done before may have come up since
        IF place ->> 'phase' = 'protect' OR step.action <> 'protect' THEN
            RETURN;
        END IF;
        place := place || jsonb_build_object('after', relation::oid::bigint);
        passed := passed + 1;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.next_unprotected(regnamespace, name, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.next_unprotected(regnamespace, name, jsonb) IS
    'internal: from a place on, the next table that is not protected and its next step, or NULL, and how many tables need nothing before they are';

CREATE FUNCTION leyser.protect_schema_step(work_id bigint)
    RETURNS TABLE (action text, relation regclass, index_name name, columns text[], is_unique boolean,
                   line text, error_code text, message text, detail text, hint text)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    work leyser.work_record;
    place jsonb;
    finished bigint;
    wanted name;
    schema regnamespace;
    next record;
    one leyser.adoption_step;
BEGIN
    SELECT w.* INTO work FROM leyser.work_record w WHERE w.work_id = protect_schema_step.work_id;
    place := work.position;
    finished := work.done;
    wanted := work.arguments ->> 'tenant_column';
    schema := (place ->> 'schema')::oid::regnamespace;
    action := 'again';
    SELECT n.* INTO next FROM leyser.next_unprotected(schema, wanted, place) n;
    place := next.place;
    finished := finished + next.passed;
    relation := next.relation;
    one := next.step;
    IF relation IS NULL THEN
        PERFORM leyser.work_step(work.work_id, work.total, work.total, place);
        PERFORM leyser.work_end(work.work_id, 'done', NULL);
        PERFORM leyser.record_event('schema.protected', NULL, schema::text, work.arguments);
        PERFORM leyser.warn_of_kindless(schema);
        action := 'done';
        line := format('schema "%s": all tables with column "%s" are protected', schema, wanted);
        RETURN NEXT;
        RETURN;
    END IF;
    line := format('table %s of %s, %s', finished + 1, work.total, one.command);
    PERFORM leyser.check_step((place ->> 'acting')::oid::regrole, one, wanted);
    IF one.action = 'index' THEN
        PERFORM leyser.note_adoption(one.target, 'index', one.object, NULL);
        action := 'index';
        relation := one.target;
        index_name := one.object;
        columns := one.columns;
        is_unique := one.is_unique;
    ELSIF one.action = 'protect' THEN
        EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', relation);
        PERFORM leyser.protect_as((place ->> 'acting')::oid::regrole, relation, wanted, NULL, NULL, NULL, NULL);
        finished := finished + 1;
    ELSE
        PERFORM leyser.adoption_do(one);
    END IF;
    PERFORM leyser.work_step(work.work_id, finished, greatest(work.total, finished), place);
    RETURN NEXT;
EXCEPTION
    WHEN lock_not_available OR deadlock_detected THEN
        action := 'locked';
        line := format('waiting for a lock on "%s"', relation);
        message := format('could not lock "%s" in time', coalesce(one.target, relation));
        detail := SQLERRM;
        RETURN NEXT;
    WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS error_code = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
            detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
        action := 'failed';
        PERFORM leyser.work_end(protect_schema_step.work_id, 'failed', message);
        RETURN NEXT;
END
$$;
REVOKE ALL ON FUNCTION leyser.protect_schema_step(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.protect_schema_step(bigint) IS
    'internal: does the next step of protecting a schema and says what the procedure has to do: again, index, locked, failed, done';

CREATE PROCEDURE leyser.protect_schema(schema regnamespace, tenant_column name DEFAULT 'tenant_id',
                                       lock_wait interval DEFAULT '200 milliseconds', retry_for interval DEFAULT '10 minutes')
    LANGUAGE c AS 'MODULE_PATHNAME', 'leyser_adopt_call';
REVOKE ALL ON PROCEDURE leyser.protect_schema(regnamespace, name, interval, interval) FROM PUBLIC;
COMMENT ON PROCEDURE leyser.protect_schema(regnamespace, name, interval, interval) IS
    'owner of the tables or operator: protects every table of a schema that has the tenant column and no kind, by the steps of protect_plan(), a transaction each; waits at most lock_wait (up to 3 seconds) for a lock, so that nobody waits longer behind it, and tries again for retry_for (up to a day); the same call resumes after whatever stopped it; 22004, 22023, 23502 rows without a tenant, 23503 rows that refer to another tenant''s, 25001 in a transaction block, 42501, 42804 a column that cannot hold a tenant id, 55P03 a lock was not free for retry_for, or it is running already, and what protect() raises';
