-- audit(): what statements do to a table's rows is recorded in the event log.

CREATE FUNCTION leyser.audit_statement() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leyser_audit_statement';
REVOKE ALL ON FUNCTION leyser.audit_statement() FROM PUBLIC;
COMMENT ON FUNCTION leyser.audit_statement() IS
    'internal trigger: records the rows of a statement, by tenant, in the event log; its arguments name the columns ({}: all) and those that are redacted';

CREATE FUNCTION leyser.audit_images(images bytea) RETURNS TABLE (row_number integer, old jsonb, new jsonb)
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_audit_images';
REVOKE ALL ON FUNCTION leyser.audit_images(bytea) FROM PUBLIC;
COMMENT ON FUNCTION leyser.audit_images(bytea) IS
    'internal: the rows that an event keeps: of updated ones what changed, and the key; values as text';

-- A statement that names a partition fires the partition's triggers, not its parent's.
CREATE FUNCTION leyser.audit_family(relation regclass) RETURNS SETOF regclass
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE family (member) AS (
        SELECT relation::oid UNION SELECT i.inhrelid FROM family f JOIN pg_inherits i ON i.inhparent = f.member
    )
    SELECT f.member::regclass FROM family f JOIN pg_class c ON c.oid = f.member AND c.relkind IN ('r', 'p')
$$;
REVOKE ALL ON FUNCTION leyser.audit_family(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.audit_family(regclass) IS 'internal: a table with its partitions and children';

CREATE FUNCTION leyser.check_audit(relation regclass, columns name[], redact name[]) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kind "char" := (SELECT c.relkind FROM pg_class c WHERE c.oid = relation AND c.relpersistence <> 't');
    missing name := (SELECT n FROM unnest(columns || redact) n WHERE NOT EXISTS (SELECT FROM pg_attribute a
        WHERE a.attrelid = relation AND a.attname = n AND a.attnum > 0 AND NOT a.attisdropped) LIMIT 1);
    above regclass := (SELECT i.inhparent::regclass FROM leyser.audit_family(relation) f JOIN pg_inherits i ON i.inhrelid = f
        WHERE i.inhparent NOT IN (SELECT g FROM leyser.audit_family(relation) g) AND NOT EXISTS (SELECT FROM pg_trigger t
            WHERE t.tgrelid = i.inhparent AND t.tgfoid = 'leyser.audit_statement()'::regprocedure) LIMIT 1);
BEGIN
    IF NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = relation) THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_table',
            MESSAGE = format('table "%s" does not exist', relation),
            DETAIL = 'No relation has this oid.',
            HINT = 'Name the table whose rows are to be audited.';
    END IF;
    IF kind IS NULL OR kind NOT IN ('r', 'p') THEN
        RAISE EXCEPTION USING ERRCODE = 'wrong_object_type',
            MESSAGE = format('"%s" cannot be audited', relation),
            DETAIL = 'Only tables can, and no temporary ones.',
            HINT = 'Of a view, audit the tables that it reads.';
    END IF;
    IF relation::oid IN (SELECT c.oid FROM pg_class c WHERE c.relnamespace IN ('leyser'::regnamespace, 'pg_catalog'::regnamespace)) THEN
        RAISE EXCEPTION USING ERRCODE = 'wrong_object_type',
            MESSAGE = format('"%s" cannot be audited', relation),
            DETAIL = 'It belongs to leyser or the server.',
            HINT = 'leyser records by itself what is done to its own tables.';
    END IF;
    IF above IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('"%s" is not audited, and what is to be belongs to it', above),
            DETAIL = format('What is done by that name to rows of "%s", or of its partitions or children, would not be recorded.', relation),
            HINT = format('Audit the parent: SELECT leyser.audit(%L);', above);
    END IF;
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column',
            MESSAGE = format('column "%s" of table "%s" does not exist', missing, relation),
            DETAIL = 'It is named in columns or redact.',
            HINT = 'Without columns all are audited.';
    END IF;
    IF NOT columns @> redact THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'a column is redacted that is not audited',
            DETAIL = 'What is not audited is not recorded at all.',
            HINT = 'Take it out of redact, or add it to columns.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_audit(regclass, name[], name[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_audit(regclass, name[], name[]) IS
    'internal: 42P01 for an unknown table, 42809 for what is none, 55000 for what belongs to a table that is not audited, 42703 for an unknown column, 22023 for a redacted one that is not audited';

CREATE FUNCTION leyser.drop_audit_triggers(relation regclass) RETURNS integer
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' SET leyser.registry_work = on
AS $$
DECLARE
    name name;
    dropped integer := 0;
BEGIN
    FOR name IN SELECT t.tgname FROM pg_trigger t WHERE t.tgrelid = relation AND t.tgfoid = 'leyser.audit_statement()'::regprocedure LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', name, relation);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$$;
REVOKE ALL ON FUNCTION leyser.drop_audit_triggers(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.drop_audit_triggers(regclass) IS 'internal: a table is not audited any longer; returns how many triggers there were';

CREATE FUNCTION leyser.add_audit_triggers(relation regclass, columns name[], redact name[]) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' SET leyser.registry_work = on
AS $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT * FROM (VALUES
            ('insert', 'INSERT', 'REFERENCING NEW TABLE AS leyser_new'),
            ('update', 'UPDATE', 'REFERENCING OLD TABLE AS leyser_old NEW TABLE AS leyser_new'),
            ('delete', 'DELETE', 'REFERENCING OLD TABLE AS leyser_old'),
            ('truncate', 'TRUNCATE', '')) v (name, event, tables) LOOP
        EXECUTE format('CREATE TRIGGER %I AFTER %s ON %s %s FOR EACH STATEMENT EXECUTE FUNCTION leyser.audit_statement(%L, %L)',
            'leyser_audit_' || one.name, one.event, relation, one.tables, columns::text, redact::text);
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', relation, 'leyser_audit_' || one.name);
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.add_audit_triggers(regclass, name[], name[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.add_audit_triggers(regclass, name[], name[]) IS 'internal: a table is audited from now on';

-- Each argument of a trigger ends with a zero byte.
CREATE FUNCTION leyser.audit_arguments() RETURNS TABLE (relation regclass, columns name[], redacted name[])
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    SELECT t.tgrelid::regclass, convert_from(substr(t.tgargs, 1, z.at - 1), getdatabaseencoding())::name[],
           convert_from(substr(t.tgargs, z.at + 1, length(t.tgargs) - z.at - 1), getdatabaseencoding())::name[]
    FROM pg_trigger t CROSS JOIN LATERAL (SELECT position('\x00'::bytea IN t.tgargs) AS at) z
    WHERE t.tgfoid = 'leyser.audit_statement()'::regprocedure AND t.tgname = 'leyser_audit_update'
$$;
REVOKE ALL ON FUNCTION leyser.audit_arguments() FROM PUBLIC;
COMMENT ON FUNCTION leyser.audit_arguments() IS
    'internal: audited tables, with the columns ({}: all) and those that are redacted';

CREATE FUNCTION leyser.audit(relation regclass, columns name[] DEFAULT NULL, redact name[] DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    hidden name[] := coalesce(redact, '{}');
BEGIN
    IF relation IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
            MESSAGE = 'no table is given',
            DETAIL = 'The relation is NULL.',
            HINT = 'Name the table whose rows are to be audited.';
    END IF;
    IF columns = '{}' OR EXISTS (SELECT FROM unnest(columns || hidden) n WHERE n IS NULL) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid columns',
            DETAIL = 'No column is named, or one is NULL.',
            HINT = 'Leave columns out to audit all.';
    END IF;
    PERFORM leyser.check_audit(relation, coalesce(columns, hidden), hidden);
    PERFORM leyser.drop_audit_triggers(f), leyser.add_audit_triggers(f, coalesce(columns, '{}'), hidden)
        FROM leyser.audit_family(relation) f;
    PERFORM leyser.record_event('table.audited', NULL, relation::text,
        jsonb_build_object('columns', columns, 'redacted', hidden));
END
$$;
REVOKE ALL ON FUNCTION leyser.audit(regclass, name[], name[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.audit(regclass, name[], name[]) IS
    'operator: records from now on which rows a statement inserts, updates and deletes, with what they were and are: all columns or those named, the redacted ones without their values; 22004 without a table, 42P01 for an unknown one, 42809 for what is none, 55000 for a partition or child of one that is not audited, 42703 for an unknown column, 22023 for none, or a redacted one that is not audited';

-- A partition or child that came later is audited as the table above it is.
CREATE FUNCTION leyser.follow_audit(parent oid) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    columns name[];
    redact name[];
    member regclass;
BEGIN
    SELECT a.columns, a.redacted INTO columns, redact FROM leyser.audit_arguments() a WHERE a.relation = parent;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    FOR member IN SELECT f FROM leyser.audit_family(parent) f JOIN pg_class c ON c.oid = f
            WHERE c.relpersistence <> 't' AND NOT EXISTS (SELECT FROM pg_trigger t
                WHERE t.tgrelid = f AND t.tgfoid = 'leyser.audit_statement()'::regprocedure) LOOP
        PERFORM leyser.add_audit_triggers(member, columns, redact);
        PERFORM leyser.record_event('table.audited', NULL, member::text,
            jsonb_build_object('columns', nullif(columns, '{}'), 'redacted', redact, 'follows', parent::regclass::text));
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.follow_audit(oid) FROM PUBLIC;
COMMENT ON FUNCTION leyser.follow_audit(oid) IS
    'internal: audits those partitions and children of an audited table that are not yet';

CREATE FUNCTION leyser.unaudit(relation regclass) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    dropped integer := (SELECT sum(leyser.drop_audit_triggers(f)) FROM leyser.audit_family(relation) f);
BEGIN
    IF coalesce(dropped, 0) = 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('"%s" is not audited', coalesce(relation::text, 'NULL')),
            DETAIL = 'Nothing records what is done to its rows.',
            HINT = 'View leyser.audited_table tells which tables are.';
    END IF;
    PERFORM leyser.record_event('table.unaudited', NULL, relation::text, NULL);
END
$$;
REVOKE ALL ON FUNCTION leyser.unaudit(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.unaudit(regclass) IS
    'operator: records a table''s rows no longer; what was recorded stays; LY008 where it is not audited';

CREATE VIEW leyser.audited_table AS
    SELECT a.relation, nullif(a.columns, '{}') AS columns, a.redacted FROM leyser.audit_arguments() a;
COMMENT ON VIEW leyser.audited_table IS
    'tables whose rows are audited (operator, auditor): which columns (NULL: all), and which of them are redacted';

-- A tenant's own events, for those who administer its accounts.  Images are its own
-- rows, so it may see them; the provider's auditors may not.
CREATE VIEW leyser.tenant_event WITH (security_barrier) AS
    SELECT e.event_id, e.at, e.event, e.caller_role, e.client_address, e.account_id,
           coalesce(a.account_name, 'account ' || e.account_id) AS account_name, e.object, e.detail, i.row_number, i.old, i.new
    FROM leyser.event_record e
    LEFT JOIN leyser.account_record a ON a.account_id = e.account_id
    LEFT JOIN LATERAL leyser.audit_images(e.images) i ON true
    WHERE e.tenant_id = leyser.tenant_id() AND (SELECT leyser.sees_accounts());
COMMENT ON VIEW leyser.tenant_event IS
    'the events of the context''s tenant, for holders of permission leyser.accounts (application); of audited statements one row for each of theirs, before (old) and after (new); of an updated one what changed, and its primary key';
