-- Exports: one tenant's rows are handed over, or moved to another cluster.
--
-- A role with usage exporter opens a window for itself.  While it is open, the role
-- reads this tenant's rows, whatever the tenant's contract says; see src/export.c.

CREATE FUNCTION leyser.check_exportable(tenant leyser.tenant_record) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    purge leyser.purge_record;
BEGIN
    PERFORM leyser.refuse_while_held();
    IF tenant.state = 'erased' THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'the tenant is erased',
            DETAIL = 'Nothing of it is left.',
            HINT = 'See leyser.purge_report().';
    END IF;
    SELECT p.* INTO purge FROM leyser.purge_record p
        WHERE p.tenant_id = tenant.tenant_id AND p.state <> 'erased' AND (p.state <> 'held' OR p.started_at IS NOT NULL);
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'the tenant is being purged',
            DETAIL = CASE WHEN purge.state = 'held' THEN 'Its purge is held, but had begun: what is left is not all there was.'
                          ELSE format('Its purge was called for at %s.', leyser.told_moment(purge.queued_at)) END,
            HINT = 'Read a tenant''s rows before CALL leyser.purge(); see view leyser.purge_status.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_exportable(leyser.tenant_record) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_exportable(leyser.tenant_record) IS
    'internal: LY008 for a tenant that is erased or being purged';

-- The tenant's row is locked, so that a purge is called for before or after, and
-- finds the window.
CREATE FUNCTION leyser.require_exportable(tenant_id text) RETURNS leyser.tenant_record
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    tenant leyser.tenant_record := leyser.settle_contract(tenant_id);
BEGIN
    PERFORM leyser.check_exportable(tenant);
    RETURN tenant;
END
$$;
REVOKE ALL ON FUNCTION leyser.require_exportable(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.require_exportable(text) IS
    'internal: locks a tenant that can be exported and returns it; 42704 for an unknown tenant, LY008 for one that is erased or being purged';

-- Views and materialized views that show protected tables' rows to whoever may read
-- them, for their owner is not bound; and those that read one of these.
CREATE FUNCTION leyser.open_views() RETURNS SETOF regclass
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE reader AS (
        SELECT DISTINCT v.oid, d.refobjid AS source, v.relowner,
               EXISTS (SELECT FROM pg_options_to_table(v.reloptions) o
                       WHERE o.option_name = 'security_invoker' AND o.option_value::boolean) AS is_invoker
        FROM pg_depend d JOIN pg_rewrite w ON w.oid = d.objid
        JOIN pg_class v ON v.oid = w.ev_class AND v.relkind IN ('v', 'm') AND v.oid <> d.refobjid
        WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
    ), open_view AS (
        SELECT r.oid FROM reader r
            JOIN leyser.table_record t ON t.relation = r.source AND t.tenant_attnum IS NOT NULL
            JOIN pg_roles b ON b.oid = r.relowner AND (b.rolsuper OR b.rolbypassrls)
            WHERE NOT r.is_invoker
        UNION
        SELECT r.oid FROM open_view o JOIN reader r ON r.source = o.oid
    ) SELECT o.oid::regclass FROM open_view o
$$;
REVOKE ALL ON FUNCTION leyser.open_views() FROM PUBLIC;
COMMENT ON FUNCTION leyser.open_views() IS
    'internal: views that show all tenants'' rows of protected tables to whoever may read them';

-- Where row security does not separate them, a relation shows a role that may read it
-- everybody's rows.
CREATE FUNCTION leyser.open_tables(role regrole) RETURNS TABLE (relation regclass, reason text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT o.relation, o.reason FROM (
        SELECT c.oid::regclass, CASE WHEN c.relkind = 'f' THEN 'a foreign table, which has no row security'
                                     WHEN t.kind IS NULL THEN 'for which no kind is declared'
                                     WHEN t.kind IN ('by_rule', 'retained') THEN format('whose kind is %s', t.kind)
                                     ELSE format('whose protection is in state %s', t.enforcement) END
        FROM pg_class c LEFT JOIN leyser.table_record t ON t.relation = c.oid
        WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'
          AND (c.relnamespace IN (SELECT g.relnamespace FROM leyser.table_record r JOIN pg_class g ON g.oid = r.relation)
               OR c.relnamespace IN (SELECT n.oid FROM leyser.schema_record s JOIN pg_namespace n ON n.nspname = s.schema))
          AND (t.kind IS NULL OR t.kind IN ('by_rule', 'retained') OR t.tenant_attnum IS NOT NULL AND t.enforcement <> 'enforce')
        UNION ALL
        SELECT v.view, 'a view whose owner row security does not bind' FROM leyser.open_views() v (view)
    ) o (relation, reason)
    WHERE has_any_column_privilege(open_tables.role::oid, o.relation::oid, 'SELECT')
    ORDER BY o.relation::text COLLATE "C"
$$;
REVOKE ALL ON FUNCTION leyser.open_tables(regrole) FROM PUBLIC;
COMMENT ON FUNCTION leyser.open_tables(regrole) IS
    'internal: tables of governed schemas, and views, in which a role may read the rows of all tenants, and why';

CREATE FUNCTION leyser.check_exporter(role regrole) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problems text;
    remedies text;
    one record;
BEGIN
    SELECT string_agg(p.problem, '; ' ORDER BY p.problem), string_agg(p.remedy, ' ' ORDER BY p.problem)
        INTO problems, remedies FROM leyser.usage_problems(check_exporter.role) p;
    IF problems IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_grant_operation',
            MESSAGE = format('role "%s" cannot export', check_exporter.role),
            DETAIL = format('It is not bound by row security alone: %s.', problems), HINT = remedies;
    END IF;
    SELECT o.* INTO one FROM leyser.open_tables(check_exporter.role) o LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_grant_operation',
            MESSAGE = format('role "%s" cannot export', check_exporter.role),
            DETAIL = format('It may read "%s", %s: all tenants'' rows, in an export, too.', one.relation, one.reason),
            HINT = CASE WHEN EXISTS (SELECT FROM pg_class c, aclexplode(c.relacl) x
                                     WHERE c.oid = one.relation AND x.grantee = 0 AND x.privilege_type = 'SELECT')
                        THEN format('REVOKE SELECT ON %s FROM PUBLIC;', one.relation)
                        ELSE format('REVOKE SELECT ON %s FROM %s;', one.relation, check_exporter.role) END
                || ' leyser.export_rows() reads the tenant''s rows without that right.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_exporter(regrole) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_exporter(regrole) IS
    'internal: 0LP01 for a role that could read other tenants'' rows besides';

CREATE FUNCTION leyser.open_export(tenant_id text, valid_for interval, reason text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    tenant leyser.tenant_record := leyser.require_exportable(open_export.tenant_id);
    alone CONSTANT boolean := NOT current_setting('leyser.second_person')::boolean;
    other text;
    ends timestamptz;
BEGIN
    BEGIN
        ends := clock_timestamp() + open_export.valid_for;
    EXCEPTION WHEN datetime_field_overflow THEN
        NULL;
    END;
    IF (ends BETWEEN clock_timestamp() + interval '1 s' AND clock_timestamp() + interval '7 days') IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid time of an export',
            DETAIL = 'It lasts from one second to 7 days.', HINT = 'Give valid_for => ''2 hours''.';
    END IF;
    PERFORM leyser.check_line('reason', open_export.reason, false);
    PERFORM leyser.check_exporter(leyser.caller());
    SELECT e.tenant_id INTO other FROM leyser.export_record e
        WHERE e.to_role = leyser.caller() AND e.tenant_id <> tenant.tenant_id AND e.ended_at IS NULL AND e.ends_at > clock_timestamp();
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('role "%s" exports another tenant', leyser.caller()),
            DETAIL = format('Its window for tenant "%s" is open.', other),
            HINT = 'A role exports one tenant at a time: SELECT leyser.close_export();';
    END IF;
    INSERT INTO leyser.export_record AS e (to_role, tenant_id, ends_at, valid_for, reason, opened_in)
        VALUES (leyser.caller(), tenant.tenant_id, CASE WHEN alone THEN ends END, open_export.valid_for, open_export.reason, session_user)
        ON CONFLICT (to_role) DO UPDATE SET tenant_id = excluded.tenant_id, ends_at = excluded.ends_at, ended_at = NULL,
            valid_for = excluded.valid_for, reason = excluded.reason, opened_in = excluded.opened_in,
            opened_at = excluded.opened_at, confirmed_by = NULL;
    PERFORM leyser.record_event('export.opened', tenant.tenant_id, leyser.caller()::text,
        jsonb_build_object('state', tenant.state, 'valid_for', open_export.valid_for, 'ends_at', CASE WHEN alone THEN ends END,
                           'reason', open_export.reason));
    IF NOT alone THEN
        RAISE NOTICE USING MESSAGE = 'the export waits for a second person',
            DETAIL = 'leyser.second_person is on: until then nothing can be read.',
            HINT = format('An operator calls leyser.confirm_export(%L).', leyser.caller()::text);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.open_export(text, interval, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.open_export(text, interval, text) IS
    'exporter: for this time the caller reads the tenant''s rows and nobody else''s, in read-only transactions without a token, also where the tenant is suspended, terminated or held; the window ends by itself, or by close_export() or a purge; again for the same tenant from now on; where leyser.second_person is on, from confirm_export() on; 22023 for a wrong time (one second to 7 days) or reason, 42704 for an unknown tenant, 0LP01 for a role that could read other tenants'' rows besides, LY008 where the tenant is erased or being purged, or the role exports another one';

CREATE FUNCTION leyser.confirm_export(to_role regrole) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    export leyser.export_record;
BEGIN
    -- first the tenant's row, as open_export() and a purge do
    PERFORM leyser.require_exportable(e.tenant_id) FROM leyser.export_record e WHERE e.to_role = confirm_export.to_role;
    SELECT e.* INTO export FROM leyser.export_record e
        WHERE e.to_role = confirm_export.to_role AND e.ends_at IS NULL AND e.ended_at IS NULL FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'no export waits for a second person',
            DETAIL = 'The role has opened none, or it is open or closed already.',
            HINT = 'See view leyser.export_window.';
    END IF;
    IF leyser.caller() = export.to_role OR session_user IN (export.opened_in, export.to_role::text)
       OR leyser.caller()::text = export.opened_in THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = 'another role must confirm the export',
            DETAIL = format('Role "%s" opened it.', export.opened_in),
            HINT = 'A second operator calls leyser.confirm_export().';
    END IF;
    UPDATE leyser.export_record e SET ends_at = clock_timestamp() + e.valid_for, confirmed_by = leyser.caller()::text
        WHERE e.to_role = export.to_role RETURNING e.* INTO export;
    PERFORM leyser.record_event('export.confirmed', export.tenant_id, export.to_role::text,
        jsonb_build_object('ends_at', export.ends_at));
END
$$;
REVOKE ALL ON FUNCTION leyser.confirm_export(regrole) FROM PUBLIC;
COMMENT ON FUNCTION leyser.confirm_export(regrole) IS
    'operator: opens the window that a role asked for while leyser.second_person was on; LY008 where none waits or the tenant is erased or being purged, 42501 for the role that asked';

CREATE FUNCTION leyser.close_export(to_role regrole DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    whose CONSTANT regrole := coalesce(close_export.to_role, leyser.caller());
    tenant text;
BEGIN
    IF whose <> leyser.caller() AND NOT leyser.role_has_usage(leyser.caller(), 'operator') THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('permission denied to close the export of role "%s"', whose),
            DETAIL = 'A role closes its own, an operator everybody''s.', HINT = 'Leave the argument out.';
    END IF;
    UPDATE leyser.export_record e SET ended_at = clock_timestamp()
        WHERE e.to_role = whose AND e.ended_at IS NULL AND (e.ends_at IS NULL OR e.ends_at > clock_timestamp())
        RETURNING e.tenant_id INTO tenant;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'no export is open',
            DETAIL = format('Role "%s" has opened none, or it has ended.', whose),
            HINT = 'See view leyser.export_window.';
    END IF;
    PERFORM leyser.record_event('export.closed', tenant, whose::text, NULL);
END
$$;
REVOKE ALL ON FUNCTION leyser.close_export(regrole) FROM PUBLIC;
COMMENT ON FUNCTION leyser.close_export(regrole) IS
    'exporter, for itself; operator, for every role: ends a window at the next statement, also in transactions that use it; LY008 where none is open, 42501 for another role''s';

-- What ends windows otherwise: a purge, a restore, the loss of the usage.
CREATE FUNCTION leyser.end_exports(tenant_id text, cause text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    ended leyser.export_record;
BEGIN
    FOR ended IN UPDATE leyser.export_record e SET ended_at = clock_timestamp()
            WHERE (e.tenant_id = end_exports.tenant_id OR end_exports.tenant_id IS NULL)
              AND e.ended_at IS NULL AND (e.ends_at IS NULL OR e.ends_at > clock_timestamp())
              AND (end_exports.cause <> 'usage' OR NOT leyser.role_has_usage(e.to_role, 'exporter'))
              AND (end_exports.cause <> 'table' OR EXISTS (SELECT FROM leyser.open_tables(e.to_role)))
            RETURNING e.* LOOP
        PERFORM leyser.record_event('export.closed', ended.tenant_id, ended.to_role::text,
            jsonb_build_object('cause', end_exports.cause));
    END LOOP;
    PERFORM leyser.end_disclosures(end_exports.tenant_id, end_exports.cause);
END
$$;
REVOKE ALL ON FUNCTION leyser.end_exports(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.end_exports(text, text) IS
    'internal: ends the windows and disclosures of a tenant, or of all (NULL); cause is purge, restore, usage: then only those of roles that have usage exporter no longer, or table: of roles that may read what is not protected';

-- A table that is not protected any longer, or not enforced, shows an open window
-- everybody's rows.  Not where rows are deleted, for protect() takes a table out of the
-- registry for a moment: unprotect() looks by itself.
CREATE FUNCTION leyser.follow_exports() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM leyser.export_record e WHERE e.ended_at IS NULL AND (e.ends_at IS NULL OR e.ends_at > clock_timestamp()))
       OR EXISTS (SELECT FROM leyser.disclosure_record d WHERE d.closed_at IS NULL AND (d.ends_at > clock_timestamp()) IS NOT FALSE) THEN
        PERFORM leyser.end_exports(NULL, 'table');
    END IF;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION leyser.follow_exports() FROM PUBLIC;
COMMENT ON FUNCTION leyser.follow_exports() IS
    'internal trigger: ends the windows of roles that may read a table that is not protected any longer';
CREATE TRIGGER follow_exports AFTER INSERT OR UPDATE ON leyser.table_record
    FOR EACH STATEMENT EXECUTE FUNCTION leyser.follow_exports();
ALTER TABLE leyser.table_record ENABLE ALWAYS TRIGGER follow_exports;
COMMENT ON TRIGGER follow_exports ON leyser.table_record IS 'no window shows a table that is not protected';

CREATE VIEW leyser.export_window AS
    SELECT e.to_role, e.tenant_id, e.reason, e.opened_in, e.opened_at, e.confirmed_by, e.ends_at, e.ended_at,
           e.ends_at IS NOT NULL AND e.ended_at IS NULL AND e.ends_at > pg_catalog.clock_timestamp() AS is_open
    FROM leyser.export_record e;
COMMENT ON VIEW leyser.export_window IS
    'the last window of each role in which it reads one tenant''s rows (operator, auditor); ends_at is NULL while it waits for a second person';

-- ---- rows ----

CREATE FUNCTION leyser.export_source(relation regclass, OUT tenant_id text, OUT query text)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
#variable_conflict use_column
DECLARE
    export leyser.export_record;
    target leyser.purge_target;
    refused text;
    disclosed CONSTANT text := leyser.disclosed_tenant();
BEGIN
    SELECT e.* INTO export FROM leyser.export_record e WHERE e.to_role = leyser.caller() AND e.ends_at IS NOT NULL AND disclosed IS NULL;
    tenant_id := coalesce(disclosed, export.tenant_id);
    IF tenant_id IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = 'permission denied: no export is open',
            DETAIL = format('Role "%s" has not opened one.', leyser.caller()), HINT = 'Call leyser.open_export() first.';
    END IF;
    IF export.ended_at IS NOT NULL OR export.ends_at <= clock_timestamp() THEN
        RAISE EXCEPTION USING ERRCODE = 'LY003',
            MESSAGE = 'the export window has ended',
            DETAIL = 'Its time ran out, it was closed, or the tenant''s purge was called for.',
            HINT = 'Call leyser.open_export() again.';
    END IF;
    PERFORM leyser.refuse_while_held();
    SELECT t.* INTO target FROM leyser.purge_targets(export_source.tenant_id) t
        WHERE t.relation = export_source.relation AND t.kind IN ('own', 'own_and_global', 'by_rule');
    IF target.relation IS NULL OR target.relkind = 'f' OR target.relkind = 'p' AND target.kind = 'by_rule' THEN
        RAISE EXCEPTION USING ERRCODE = 'wrong_object_type',
            MESSAGE = format('"%s" holds no rows of a tenant to export', export_source.relation),
            DETAIL = 'Tables of kind own, own_and_global and by_rule are exported, by-rule ones partition by partition.',
            HINT = 'leyser.export_plan() tells which they are.';
    END IF;
    refused := CASE WHEN target.kind = 'by_rule' THEN leyser.refused_condition(target.relation, target.condition) END;
    IF refused IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('the condition of "%s" cannot be run', export_source.relation),
            DETAIL = refused || '.', HINT = format('Declare another one: SELECT leyser.declare_table(%L, …);', target.relation_name);
    END IF;
    -- a disclosure's statements are recorded as they begin
    IF disclosed IS NULL THEN
        PERFORM leyser.record_lasting_event('export.read', export.tenant_id, target.relation_name,
            jsonb_build_object('to_role', export.to_role::text));
    END IF;
    -- the ids of another type than the column's find nothing
    query := format(E'SELECT * FROM %s%s WHERE (%s\n)', CASE WHEN target.relkind = 'r' THEN 'ONLY ' END,
                    target.relation_name, coalesce(target.condition, 'false'));
END
$$;
REVOKE ALL ON FUNCTION leyser.export_source(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.export_source(regclass) IS
    'internal: by which query, of which tenant, the caller may read a table now; records that it does; errors as export_rows()';

CREATE FUNCTION leyser.export_rows(row_type anyelement) RETURNS SETOF anyelement
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_export_rows';
REVOKE ALL ON FUNCTION leyser.export_rows(anyelement) FROM PUBLIC;
COMMENT ON FUNCTION leyser.export_rows(anyelement) IS
    'exporter: export_rows(NULL::schema.table) gives the rows of a protected or by-rule table that are the tenant''s whose window the caller has open, or whose disclosure it has entered, with the rights of the table''s owner, also those that policies hide; recorded before; 42501 without a window, LY003 where it has ended, 42809 for other tables, LY008 where a by-rule condition cannot be run, 53000 or 58000 where it could not be recorded';
