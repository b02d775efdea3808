-- The registry of table kinds: which table belongs to tenants, and how.

CREATE FUNCTION leyser.role_has_usage(role regrole, usage text) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT r.rolsuper FROM pg_roles r WHERE r.oid = role_has_usage.role), false)
        OR EXISTS (SELECT FROM leyser.usage_record u
                   WHERE u.usage = role_has_usage.usage
                     AND pg_has_role(role_has_usage.role, u.role, 'USAGE'))
$$;
REVOKE ALL ON FUNCTION leyser.role_has_usage(regrole, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.role_has_usage(regrole, text) IS
    'internal: whether a role has a usage, or is a superuser';

-- While a call waits for its lock, all later statements on the table wait too.
CREATE FUNCTION leyser.raise_locked(relation regclass) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'lock_not_available',
        MESSAGE = format('could not lock "%s" within 3 seconds', relation),
        DETAIL = 'A transaction holds a lock on it; while the call waits, all later statements would wait behind it.',
        HINT = 'Call it again; pg_blocking_pids() and pg_stat_activity show who holds the lock.';
END
$$;
REVOKE ALL ON FUNCTION leyser.raise_locked(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.raise_locked(regclass) IS
    'internal: 55P03 for a table that could not be locked in time';

-- What kinds of relations can be governed at all.
CREATE FUNCTION leyser.check_governable(relation regclass) RETURNS void
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    class pg_class;
    problem text;
BEGIN
    SELECT c.* INTO class FROM pg_class c WHERE c.oid = relation;
    IF relation IS NULL OR class.oid IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_table',
            MESSAGE = 'relation does not exist',
            DETAIL = 'No table was given, or it was dropped.',
            HINT = 'Give the table as ''schema.name''.';
    END IF;
    problem := CASE
        WHEN class.relkind IN ('v', 'm') THEN 'It is a view; protect the tables that it reads.'
        WHEN class.relkind = 'f' THEN 'It is a foreign table, to which row security does not apply.'
        WHEN class.relkind NOT IN ('r', 'p') THEN 'It is not a table.'
        WHEN class.relpersistence = 't' THEN 'It is a temporary table.'
        WHEN class.relnamespace IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
            THEN 'It is a table of the system.'
        WHEN class.relnamespace = 'leyser'::regnamespace THEN 'It is one of leyser''s own tables.'
    END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'wrong_object_type',
            MESSAGE = format('"%s" cannot be governed', relation),
            DETAIL = problem,
            HINT = 'Give an ordinary or partitioned table.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_governable(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_governable(regclass) IS
    'internal: raises where a relation is none that can be governed';

-- The relation itself, its partitions and its inheritance children.
CREATE FUNCTION leyser.family_of(relation regclass)
    RETURNS TABLE (member regclass, parent regclass)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE family AS (
        SELECT relation::oid AS member, NULL::oid AS parent
        UNION
        SELECT i.inhrelid, i.inhparent FROM family f
            JOIN pg_inherits i ON i.inhparent = f.member
            JOIN pg_class c ON c.oid = i.inhrelid AND c.relkind IN ('r', 'p')
    )
    SELECT DISTINCT ON (f.member) f.member::regclass, f.parent::regclass FROM family f
        ORDER BY f.member, f.parent NULLS LAST
$$;
REVOKE ALL ON FUNCTION leyser.family_of(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.family_of(regclass) IS
    'internal: a table with all its partitions and inheritance children';

-- A table of kind "shared" is read by all and written by nobody in a context,
-- nor by application and gateway roles, which need only leave the token out.
CREATE FUNCTION leyser.refuse_shared_write() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leyser_refuse_shared_write';
REVOKE ALL ON FUNCTION leyser.refuse_shared_write() FROM PUBLIC;
COMMENT ON FUNCTION leyser.refuse_shared_write() IS
    'internal trigger: refuses to write to a shared table in a context';

-- Puts the trigger up on one table, or takes it down.
CREATE FUNCTION leyser.set_shared(relation regclass, shared boolean) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = relation AND g.tgname = 'leyser_shared') THEN
        EXECUTE format('DROP TRIGGER leyser_shared ON %s', relation);
    END IF;
    IF shared THEN
        EXECUTE format('CREATE TRIGGER leyser_shared BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE'
            ' ON %s FOR EACH STATEMENT EXECUTE FUNCTION leyser.refuse_shared_write()', relation);
        EXECUTE format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER leyser_shared', relation);
        EXECUTE format('COMMENT ON TRIGGER leyser_shared ON %s IS ''leyser: nobody writes in a context''', relation);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.set_shared(regclass, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.set_shared(regclass, boolean) IS
    'internal: puts the trigger of shared tables up on one table, or takes it down';

-- What a purge is emptying stays what it is until the tenant is erased, or held:
-- otherwise its rows would stay, and nobody would look for them.
CREATE FUNCTION leyser.refuse_open_purge(relation regclass) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    tenant text;
BEGIN
    SELECT p.tenant_id INTO tenant FROM leyser.purge_record p
        JOIN leyser.purge_table s ON s.purge_id = p.purge_id AND s.condition IS NOT NULL
        WHERE p.state NOT IN ('erased', 'held')
          AND s.relation IN (SELECT f.member FROM leyser.family_of(refuse_open_purge.relation) f)
        ORDER BY p.purge_id LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('"%s" is being purged', refuse_open_purge.relation),
            DETAIL = format('The purge of tenant "%s" looks there for its rows.', tenant),
            HINT = 'Wait until view leyser.purge_status says "erased".';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.refuse_open_purge(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.refuse_open_purge(regclass) IS
    'internal: LY008 for a table, or a part of it, that an open purge empties';

-- A condition that cannot be run stops the purge, and may be replaced.
CREATE FUNCTION leyser.refuse_other_condition(present leyser.table_record, kind text, purge_condition text) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF present.kind = 'by_rule' AND (refuse_other_condition.kind <> 'by_rule' OR refuse_other_condition.purge_condition <> present.purge_condition
            AND NOT EXISTS (SELECT FROM leyser.purge_record p
                            WHERE p.state NOT IN ('erased', 'held') AND leyser.condition_problem(
                                ROW(present.relation, present.relation::text, 'r', present.kind, present.purge_condition, NULL, NULL, NULL)::leyser.purge_target,
                                p.tenant_id) IS NOT NULL)) THEN
        PERFORM leyser.refuse_open_purge(present.relation);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.refuse_other_condition(leyser.table_record, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.refuse_other_condition(leyser.table_record, text, text) IS
    'internal: LY008 for a by-rule table that an open purge empties, unless it is only its condition, which cannot be run';

-- Takes a declared table, and the children that followed it, out of the registry.
CREATE FUNCTION leyser.undeclare(relation regclass) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gone record;
BEGIN
    FOR gone IN DELETE FROM leyser.table_record t
            WHERE t.tenant_attnum IS NULL AND (t.relation = undeclare.relation
                OR t.parent IS NOT NULL AND t.relation IN (SELECT f.member FROM leyser.family_of(undeclare.relation) f))
            RETURNING t.relation, t.kind LOOP
        IF gone.kind = 'shared' THEN
            PERFORM leyser.set_shared(gone.relation, false);
        END IF;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.undeclare(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.undeclare(regclass) IS
    'internal: takes a declared table and its children out of the registry';

CREATE FUNCTION leyser.condition_is_plain(condition text) RETURNS boolean
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'leyser_condition_is_plain';
REVOKE ALL ON FUNCTION leyser.condition_is_plain(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.condition_is_plain(text) IS
    'internal: whether a condition does nothing but compare columns with $1, by the standard''s rules for strings; 42601 for a text that is no SQL';

-- A plan tells how many rows a condition finds: it is a question that somebody asks
-- the rows.  Who sees no rows may ask for the tenant's only (src/purge_plain.c).
CREATE FUNCTION leyser.judge_condition(relation regclass, condition text) RETURNS name
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
DECLARE
    owner regrole := (SELECT c.relowner::regrole FROM pg_class c WHERE c.oid = judge_condition.relation);
BEGIN
    BEGIN
        IF leyser.condition_is_plain(judge_condition.condition) THEN
            RETURN NULL;
        END IF;
    EXCEPTION WHEN syntax_error THEN
        NULL;  -- the plan tells it
    END;
    IF NOT pg_has_role(leyser.caller(), owner, 'USAGE') THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('permission denied for this purge_condition of "%s"', judge_condition.relation),
            DETAIL = 'It does more than compare columns with $1, so its number of rows would tell what is in them.',
            HINT = format('An operator declares conditions like tenant = $1, payload ->> ''tenant'' = $1 or $1 = ANY (tenants); others a superuser, or an operator that is a member of role "%s".', owner);
    END IF;
    RETURN (SELECT r.rolname FROM pg_roles r WHERE r.oid = owner);
END
$$;
REVOKE ALL ON FUNCTION leyser.judge_condition(regclass, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_condition(regclass, text) IS
    'internal: NULL for a condition that every operator may declare, the table''s owner for one that its members may; 42501 for others';

CREATE FUNCTION leyser.declare_table(relation regclass, kind text, reason text DEFAULT NULL,
                                     purge_condition text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' SET leyser.registry_work = on
AS $$
#variable_conflict use_column
DECLARE
    present leyser.table_record;
    new_reason text;
    new_condition text;
    new_owner name;
BEGIN
    PERFORM leyser.check_governable(declare_table.relation);
    EXECUTE format('LOCK TABLE ONLY %s IN SHARE UPDATE EXCLUSIVE MODE', declare_table.relation);
    IF declare_table.kind IS NULL
            OR declare_table.kind NOT IN ('shared', 'by_rule', 'retained', 'ignored') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid kind of table',
            DETAIL = 'declare_table knows the kinds shared, by_rule, retained and ignored.',
            HINT = 'For own and own_and_global call leyser.protect().';
    END IF;
    SELECT t.* INTO present FROM leyser.table_record t WHERE t.relation = declare_table.relation;
    IF present.tenant_attnum IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('"%s" is protected', declare_table.relation),
            DETAIL = format('Its kind is %s.', present.kind),
            HINT = format('SELECT leyser.unprotect(%L);', declare_table.relation);
    END IF;
    new_reason := coalesce(declare_table.reason, present.reason);
    new_condition := coalesce(declare_table.purge_condition,
                              CASE WHEN declare_table.kind = 'by_rule' THEN present.purge_condition END);
    IF coalesce(new_reason, '') = '' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'a reason is missing',
            DETAIL = 'Auditors read why a table is not protected; for retained tables it is the legal basis.',
            HINT = 'Give reason => ''…''.';
    END IF;
    IF (declare_table.kind = 'by_rule') <> (coalesce(new_condition, '') <> '') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'purge_condition goes with kind by_rule',
            DETAIL = 'It is a condition on the table''s columns in which $1 is the tenant id.',
            HINT = 'For example purge_condition => ''payload->>''''tenant'''' = $1''.';
    END IF;
    PERFORM leyser.refuse_other_condition(present, declare_table.kind, new_condition);
    new_owner := CASE WHEN new_condition = present.purge_condition THEN present.condition_owner
                      WHEN new_condition IS NOT NULL THEN leyser.judge_condition(declare_table.relation, new_condition) END;
    IF present.kind = 'shared' AND declare_table.kind <> 'shared' THEN
        PERFORM leyser.undeclare(declare_table.relation);
    END IF;
    INSERT INTO leyser.table_record AS t (relation, kind, reason, purge_condition, condition_owner)
        VALUES (declare_table.relation, declare_table.kind, new_reason, new_condition, new_owner)
        ON CONFLICT (relation) DO UPDATE SET kind = excluded.kind, reason = excluded.reason,
            purge_condition = excluded.purge_condition, condition_owner = excluded.condition_owner;
    IF declare_table.kind = 'shared' THEN
        PERFORM leyser.set_shared(declare_table.relation, true);
        PERFORM leyser.follow_tables();
    END IF;
    PERFORM leyser.record_event('table.declared', NULL, declare_table.relation::text,
        jsonb_build_object('kind', declare_table.kind, 'reason', new_reason, 'purge_condition', new_condition));
EXCEPTION WHEN lock_not_available THEN
    PERFORM leyser.raise_locked(declare_table.relation);
END
$$;
REVOKE ALL ON FUNCTION leyser.declare_table(regclass, text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.declare_table(regclass, text, text, text) IS
    'operator: says what a table is that holds no tenant''s rows of its own: shared (all read; nobody writes in a context, application and gateway roles not at all), by_rule (purge_condition with $1), retained (reason is the legal basis), ignored; 22023 for a wrong kind or a missing reason, 42501 for a condition that compares anything but columns with $1 where the caller is no member of the table''s owner, LY008 where it is protected, or by_rule and being purged, 42809 where it is no table, 55P03 where it is locked';

CREATE VIEW leyser.governed_table AS
    SELECT c.oid::regclass AS relation, coalesce(t.kind, leyser.kind_of(c.oid::regclass)) AS kind,
           a.attname AS tenant_column,
           (SELECT i.inhparent::regclass FROM pg_catalog.pg_inherits i
            WHERE i.inhrelid = t.relation AND i.inhparent = t.parent) AS parent,
           CASE WHEN t.suspended_until <= pg_catalog.clock_timestamp() THEN 'enforce'
                WHEN t.tenant_attnum IS NOT NULL THEN t.enforcement END AS enforcement,
           leyser.table_gaps(c.oid::regclass) AS gaps,
           t.reason, t.purge_condition, t.governed_since,
           t.read_permission, t.write_permission, t.scope_column,
           CASE WHEN t.enforcement = 'observe'
                THEN greatest(t.enforcement_since, leyser.observed_since()) END AS observed_since,
           CASE WHEN t.suspended_until > pg_catalog.clock_timestamp() THEN t.suspended_until END AS suspended_until,
           CASE WHEN t.suspended_until > pg_catalog.clock_timestamp() THEN t.suspended_reason END AS suspended_reason
    FROM pg_catalog.pg_class c
    LEFT JOIN leyser.table_record t ON t.relation = c.oid
    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = t.tenant_attnum
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
      AND (c.relnamespace IN (SELECT g.relnamespace FROM leyser.table_record r
                              JOIN pg_catalog.pg_class g ON g.oid = r.relation)
           OR c.relnamespace IN (SELECT n.oid FROM leyser.schema_record s
                                 JOIN pg_catalog.pg_namespace n ON n.nspname = s.schema));
COMMENT ON VIEW leyser.governed_table IS
    'every table of the schemas that were declared governed or hold a governed table: its kind, its tenant column, how it is enforced, the permissions it asks for, and what is missing (operator, auditor)';

-- ---- schemas ----

CREATE FUNCTION leyser.check_schema(schema regnamespace) RETURNS void
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
DECLARE
    found_name name := (SELECT n.nspname FROM pg_namespace n WHERE n.oid = check_schema.schema);
BEGIN
    IF found_name IS NULL OR found_name ~ '^(pg_|information_schema$|leyser$)' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_schema_name',
            MESSAGE = 'schema cannot be governed',
            DETAIL = 'It does not exist, or is the server''s or leyser''s own.',
            HINT = 'Give a schema that holds tables of the application.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_schema(regnamespace) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_schema(regnamespace) IS
    'internal: 3F000 for a schema that cannot be governed';

CREATE FUNCTION leyser.govern_schema(schema regnamespace) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    PERFORM leyser.check_schema(govern_schema.schema);
    INSERT INTO leyser.schema_record (schema)
        SELECT n.nspname FROM pg_namespace n WHERE n.oid = govern_schema.schema ON CONFLICT DO NOTHING;
    IF FOUND THEN
        PERFORM leyser.record_event('schema.governed', NULL, govern_schema.schema::text, NULL);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.govern_schema(regnamespace) FROM PUBLIC;
COMMENT ON FUNCTION leyser.govern_schema(regnamespace) IS
    'operator: every table of the schema needs a kind, also before the first has one: view governed_table shows those without, and who makes one is warned or, by leyser.undeclared_tables, refused; the declaration is of the name, so it is made again for a schema that was renamed; 3F000 where there is no such schema';

CREATE FUNCTION leyser.ungovern_schema(schema regnamespace) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    DELETE FROM leyser.schema_record s USING pg_namespace n
        WHERE n.oid = ungovern_schema.schema AND s.schema = n.nspname;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'schema is not declared governed',
            DETAIL = 'A schema that holds a governed table is governed as long as it does.',
            HINT = 'See view leyser.governed_table.';
    END IF;
    PERFORM leyser.record_event('schema.ungoverned', NULL, ungovern_schema.schema::text, NULL);
END
$$;
REVOKE ALL ON FUNCTION leyser.ungovern_schema(regnamespace) FROM PUBLIC;
COMMENT ON FUNCTION leyser.ungovern_schema(regnamespace) IS
    'operator: takes govern_schema() back; the schema is governed still while it holds a governed table; LY008 where it was not declared';
