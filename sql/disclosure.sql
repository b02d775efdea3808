-- Disclosures: what the law demands of one tenant's rows, by two people.
--
-- An operator opens a disclosure for a role with usage exporter, or such a role for
-- itself; an operator who is nobody of these confirms it.  Operators see no rows, and
-- whoever reads is bound by row security: so neither of the two could do it alone, and an
-- application, which can have none of these usages, takes no part.  See src/disclosure.c.

-- A superuser can be everybody, and who makes roles can make itself anybody's member.
CREATE FUNCTION leyser.can_become(actor oid, other oid) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT r.rolsuper OR r.rolcreaterole OR r.oid = other
                            OR EXISTS (SELECT FROM pg_roles o WHERE o.oid = other AND pg_has_role(r.oid, o.oid, 'MEMBER'))
                     FROM pg_roles r WHERE r.oid = actor), actor = other)
$$;
REVOKE ALL ON FUNCTION leyser.can_become(oid, oid) FROM PUBLIC;
COMMENT ON FUNCTION leyser.can_become(oid, oid) IS
    'internal: whether a role is another one, is or can make itself a member of it, or a superuser';

CREATE FUNCTION leyser.calling_roles() RETURNS oid[]
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT ARRAY[leyser.caller()::oid, (SELECT r.oid FROM pg_roles r WHERE r.rolname = session_user),
                 (SELECT a.usesysid FROM pg_stat_get_activity(pg_backend_pid()) a)]
$$;
REVOKE ALL ON FUNCTION leyser.calling_roles() FROM PUBLIC;
COMMENT ON FUNCTION leyser.calling_roles() IS 'internal: the role in force, that of the session, and that which connected, whom SET SESSION AUTHORIZATION does not change';

-- What the tenant knows stands among its events; what it is not told, among the service's,
-- which do not name it.
CREATE FUNCTION leyser.record_disclosure(disclosure leyser.disclosure_record, event text, detail jsonb, lasting boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    tenant CONSTANT text := CASE WHEN disclosure.told_at IS NOT NULL THEN disclosure.tenant_id END;
BEGIN
    IF lasting THEN
        PERFORM leyser.record_lasting_event(event, tenant, disclosure.disclosure_id::text, detail);
    ELSE
        PERFORM leyser.record_event(event, tenant, disclosure.disclosure_id::text, detail);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.record_disclosure(leyser.disclosure_record, text, jsonb, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.record_disclosure(leyser.disclosure_record, text, jsonb, boolean) IS
    'internal: records what happens to a disclosure, for the tenant to see where it is told';

-- ---- opening ----

CREATE FUNCTION leyser.check_disclosure_reader(role regrole) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT leyser.role_has_usage(role, 'exporter') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_grant_operation',
            MESSAGE = format('role "%s" cannot read a disclosure', role),
            DETAIL = 'It does not have usage exporter.',
            HINT = 'Give a role that has as to_role => ….';
    END IF;
    PERFORM leyser.check_exporter(role);
END
$$;
REVOKE ALL ON FUNCTION leyser.check_disclosure_reader(regrole) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_disclosure_reader(regrole) IS
    'internal: 0LP01 for a role without usage exporter, or that could read other tenants'' rows besides';

CREATE FUNCTION leyser.check_disclosure_opener(to_role regrole) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM unnest(leyser.calling_roles()) c JOIN pg_roles r ON r.oid = c WHERE r.rolsuper OR r.rolcreaterole) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = 'permission denied to open a disclosure',
            DETAIL = 'A superuser, or a role with CREATEROLE, could be the second person, too.',
            HINT = 'Let a role open it that is an operator and nothing else.';
    END IF;
    IF to_role <> leyser.caller() AND NOT leyser.role_has_usage(leyser.caller(), 'operator') THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('permission denied to open a disclosure for role "%s"', to_role),
            DETAIL = 'An exporter opens its own, an operator everybody''s.', HINT = 'Leave to_role out.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_disclosure_opener(regrole) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_disclosure_opener(regrole) IS
    'internal: 42501 for one who could confirm what it opens, or opens for others and is no operator';

CREATE FUNCTION leyser.check_disclosure_texts(legal_basis text, valid_for interval, tell_tenant boolean, untold_reason text, untold_until timestamptz) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text;
BEGIN
    PERFORM leyser.check_line('legal basis', legal_basis, true);
    IF (valid_for BETWEEN interval '1 s' AND interval '7 days') IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid time of a disclosure',
            DETAIL = 'It lasts from one second to 7 days.', HINT = 'Give valid_for => ''2 hours''.';
    END IF;
    problem := CASE WHEN tell_tenant IS NULL THEN 'tell_tenant must not be null.'
                    WHEN tell_tenant AND (untold_reason IS NOT NULL OR untold_until IS NOT NULL)
                        THEN 'The tenant is told: there is no reason not to, and no day until then.'
                    WHEN untold_until <= clock_timestamp() THEN 'The day on which the tenant is told must be to come.' END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid way to tell the tenant of a disclosure', DETAIL = problem,
            HINT = 'Where the law forbids it: tell_tenant => false, untold_reason => ''…'', untold_until => ….';
    END IF;
    PERFORM leyser.check_line('reason not to tell the tenant', untold_reason, NOT tell_tenant);
END
$$;
REVOKE ALL ON FUNCTION leyser.check_disclosure_texts(text, interval, boolean, text, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_disclosure_texts(text, interval, boolean, text, timestamptz) IS
    'internal: 22023 for a disclosure without legal basis, of a wrong time, or that is kept from the tenant without a reason';

CREATE FUNCTION leyser.open_disclosure(tenant_id text, legal_basis text, valid_for interval, to_role regrole DEFAULT NULL,
                                       tell_tenant boolean DEFAULT true, untold_reason text DEFAULT NULL, untold_until timestamptz DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    reader CONSTANT regrole := coalesce(open_disclosure.to_role, leyser.caller());
    tenant leyser.tenant_record;
    opened leyser.disclosure_record;
BEGIN
    PERFORM leyser.check_disclosure_opener(reader);
    tenant := leyser.require_exportable(open_disclosure.tenant_id);
    PERFORM leyser.check_disclosure_texts(open_disclosure.legal_basis, open_disclosure.valid_for, open_disclosure.tell_tenant,
        open_disclosure.untold_reason, open_disclosure.untold_until);
    PERFORM leyser.check_disclosure_reader(reader);
    INSERT INTO leyser.disclosure_record AS d (tenant_id, legal_basis, valid_for, to_role, opened_by, opened_in, untold_reason, untold_until, told_at)
        VALUES (tenant.tenant_id, open_disclosure.legal_basis, open_disclosure.valid_for, (SELECT r.rolname FROM pg_roles r WHERE r.oid = reader),
                (SELECT r.rolname FROM pg_roles r WHERE r.oid = leyser.caller()), session_user, open_disclosure.untold_reason,
                open_disclosure.untold_until, CASE WHEN open_disclosure.tell_tenant THEN clock_timestamp() END)
        RETURNING d.* INTO opened;
    INSERT INTO leyser.disclosure_window (to_role, tenant_id, disclosure_id, openers)
        VALUES (reader, tenant.tenant_id, opened.disclosure_id, leyser.calling_roles());
    PERFORM leyser.record_disclosure(opened, 'disclosure.opened', jsonb_build_object('legal_basis', opened.legal_basis,
        'to_role', opened.to_role, 'valid_for', opened.valid_for, 'untold_reason', opened.untold_reason, 'untold_until', opened.untold_until));
    RETURN opened.disclosure_id;
END
$$;
REVOKE ALL ON FUNCTION leyser.open_disclosure(text, text, interval, regrole, boolean, text, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.open_disclosure(text, text, interval, regrole, boolean, text, timestamptz) IS
    'exporter, for itself; operator, for an exporter: asks for a disclosure of one tenant''s rows because the law demands it, also where the tenant is suspended, terminated or held; nothing can be read until another operator confirms it within 7 days; the tenant is told, save where tell_tenant is false, which wants a reason, and then at untold_until or by tell_disclosure(); returns its id; 22023 without a legal basis or such a reason, or for a wrong time (one second to 7 days); 42704 unknown tenant, 42501 for a superuser or another''s role, 0LP01 for a reader who could see other tenants'' rows, LY008 where the tenant is erased or being purged';

-- ---- confirming ----

CREATE FUNCTION leyser.check_second_person(disclosure leyser.disclosure_record, opened leyser.disclosure_window) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM unnest(leyser.calling_roles()) c, unnest(opened.openers || opened.to_role::oid) o
               WHERE leyser.can_become(c, o) OR leyser.can_become(o, c) OR NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = o))
       OR EXISTS (SELECT FROM unnest(leyser.calling_roles()) c JOIN pg_roles r ON r.oid = c
                  WHERE r.rolname IN (disclosure.opened_by, disclosure.opened_in, disclosure.to_role)) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = 'another person must confirm the disclosure',
            DETAIL = format('Role "%s" opened it for role "%s". Whoever confirms is neither, cannot become either, nor has the name of either; and both are still there.', disclosure.opened_in, disclosure.to_role),
            HINT = 'A second operator, who is no superuser, calls leyser.confirm_disclosure().';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_second_person(leyser.disclosure_record, leyser.disclosure_window) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_second_person(leyser.disclosure_record, leyser.disclosure_window) IS
    'internal: 42501 where whoever calls is, or can become, one who opened a disclosure or reads it, or the other way round; or has the name that one of them had, or one of them is dropped';

CREATE FUNCTION leyser.confirm_disclosure(disclosure_id bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    disclosure leyser.disclosure_record;
    opened leyser.disclosure_window;
BEGIN
    -- first the tenant's row, as open_disclosure() and a purge do
    PERFORM leyser.require_exportable(d.tenant_id) FROM leyser.disclosure_window d WHERE d.disclosure_id = confirm_disclosure.disclosure_id;
    SELECT d.* INTO disclosure FROM leyser.disclosure_record d
        WHERE d.disclosure_id = confirm_disclosure.disclosure_id AND d.ends_at IS NULL AND d.closed_at IS NULL
          AND d.opened_at > clock_timestamp() - interval '7 days' FOR UPDATE;
    SELECT w.* INTO opened FROM leyser.disclosure_window w WHERE w.disclosure_id = disclosure.disclosure_id;
    IF opened.disclosure_id IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'no such disclosure waits for a second person',
            DETAIL = 'It is unknown, confirmed or closed already, was opened more than 7 days ago, or came with a restored dump.',
            HINT = 'See view leyser.disclosure.';
    END IF;
    PERFORM leyser.check_second_person(disclosure, opened);
    IF opened.openers[1] <> opened.to_role::oid AND NOT leyser.role_has_usage(opened.openers[1], 'operator') THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = 'the disclosure was opened by a role that is no operator any more',
            DETAIL = format('Role "%s" asked for it.', disclosure.opened_by),
            HINT = 'Close it with leyser.close_disclosure(), and let an operator open another one.';
    END IF;
    PERFORM leyser.check_disclosure_reader(opened.to_role);
    UPDATE leyser.disclosure_record d SET confirmed_by = (SELECT r.rolname FROM pg_roles r WHERE r.oid = leyser.caller()),
            confirmed_in = session_user, confirmed_at = clock_timestamp(), ends_at = clock_timestamp() + d.valid_for
        WHERE d.disclosure_id = disclosure.disclosure_id RETURNING d.* INTO disclosure;
    UPDATE leyser.disclosure_window w SET ends_at = disclosure.ends_at WHERE w.disclosure_id = disclosure.disclosure_id;
    PERFORM leyser.record_disclosure(disclosure, 'disclosure.confirmed', jsonb_build_object('ends_at', disclosure.ends_at));
END
$$;
REVOKE ALL ON FUNCTION leyser.confirm_disclosure(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.confirm_disclosure(bigint) IS
    'operator: opens, from now on, the disclosure that somebody else asked for; 42501 where the two can be the same person: session_user or the role in force is, is a member of, or has as a member, one of those who opened it or the reader, has a name that they had, or is a superuser or has CREATEROLE, also as the role that connected; or where one of them was dropped, or who asked for another''s is no operator any more; LY008 where none waits, or the tenant is erased or being purged';

-- ---- ending ----

CREATE FUNCTION leyser.end_disclosure(disclosure leyser.disclosure_record, cause text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    ended leyser.disclosure_record;
    moment CONSTANT timestamptz := clock_timestamp();
BEGIN
    UPDATE leyser.disclosure_record d SET closed_at = moment, closed_by = coalesce(end_disclosure.cause, (SELECT r.rolname FROM pg_roles r WHERE r.oid = leyser.caller()))
        WHERE d.disclosure_id = disclosure.disclosure_id RETURNING d.* INTO ended;
    INSERT INTO leyser.revoked_session (session_id, expires_at)
        SELECT w.session_id, w.ends_at FROM leyser.disclosure_window w WHERE w.disclosure_id = ended.disclosure_id AND w.ends_at > moment;
    UPDATE leyser.disclosure_window w SET ends_at = least(w.ends_at, moment) WHERE w.disclosure_id = ended.disclosure_id;
    PERFORM leyser.record_disclosure(ended, 'disclosure.closed', jsonb_build_object('cause', end_disclosure.cause));
END
$$;
REVOKE ALL ON FUNCTION leyser.end_disclosure(leyser.disclosure_record, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.end_disclosure(leyser.disclosure_record, text) IS
    'internal: ends a disclosure, also in transactions that use it; cause NULL: whoever calls';

CREATE FUNCTION leyser.close_disclosure(disclosure_id bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    disclosure leyser.disclosure_record;
BEGIN
    SELECT d.* INTO disclosure FROM leyser.disclosure_record d
        WHERE d.disclosure_id = close_disclosure.disclosure_id AND d.closed_at IS NULL AND (d.ends_at > clock_timestamp()) IS NOT FALSE
          AND (leyser.role_has_usage(leyser.caller(), 'operator')
               OR EXISTS (SELECT FROM leyser.disclosure_window w WHERE w.disclosure_id = d.disclosure_id AND w.to_role = leyser.caller()))
        FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'there is no such disclosure to close',
            DETAIL = 'It is unknown, has ended, or is another role''s.',
            HINT = 'See view leyser.disclosure; a reader closes its own, an operator everybody''s.';
    END IF;
    PERFORM leyser.end_disclosure(disclosure, NULL);
END
$$;
REVOKE ALL ON FUNCTION leyser.close_disclosure(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.close_disclosure(bigint) IS
    'exporter, those that it reads; operator, all: ends a disclosure at the next statement, also in transactions that use it, or one that waits for its second person; LY008 where there is none to close';

-- What ends them otherwise; see end_exports(), which calls it.
CREATE FUNCTION leyser.end_disclosures(tenant_id text, cause text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    ended leyser.disclosure_record;
BEGIN
    FOR ended IN SELECT d.* FROM leyser.disclosure_record d JOIN leyser.disclosure_window w ON w.disclosure_id = d.disclosure_id
            WHERE (d.tenant_id = end_disclosures.tenant_id OR end_disclosures.tenant_id IS NULL)
              AND d.closed_at IS NULL AND (d.ends_at > clock_timestamp()) IS NOT FALSE
              AND (end_disclosures.cause <> 'usage' OR NOT leyser.role_has_usage(w.to_role, 'exporter'))
              AND (end_disclosures.cause <> 'table' OR EXISTS (SELECT FROM leyser.open_tables(w.to_role)))
            FOR UPDATE OF d LOOP
        PERFORM leyser.end_disclosure(ended, end_disclosures.cause);
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.end_disclosures(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.end_disclosures(text, text) IS
    'internal: ends the disclosures of a tenant, or of all (NULL); cause as for end_exports()';

-- ---- reading ----

CREATE FUNCTION leyser.usable_disclosure(disclosure_id bigint) RETURNS leyser.disclosure_window
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    found_window leyser.disclosure_window;
BEGIN
    SELECT w.* INTO found_window FROM leyser.disclosure_window w
        WHERE w.disclosure_id = usable_disclosure.disclosure_id AND w.to_role = leyser.caller();
    IF found_window.session_id IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = 'permission denied: no such disclosure',
            DETAIL = 'There is none, or another role reads it.', HINT = 'See view leyser.disclosure.';
    END IF;
    IF EXISTS (SELECT FROM leyser.disclosure_record d WHERE d.disclosure_id = found_window.disclosure_id AND (d.closed_at IS NOT NULL OR d.ends_at <= clock_timestamp())) THEN
        RAISE EXCEPTION USING ERRCODE = 'LY003',
            MESSAGE = 'the disclosure has ended',
            DETAIL = 'Its time ran out, it was closed, or the tenant''s purge was called for.',
            HINT = 'Call leyser.open_disclosure() again.';
    END IF;
    IF found_window.ends_at IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'the disclosure waits for a second person',
            DETAIL = 'Until it is confirmed nothing can be read.',
            HINT = format('Another operator calls leyser.confirm_disclosure(%s).', found_window.disclosure_id);
    END IF;
    PERFORM leyser.refuse_while_held();
    PERFORM leyser.check_disclosure_reader(found_window.to_role);
    RETURN found_window;
END
$$;
REVOKE ALL ON FUNCTION leyser.usable_disclosure(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.usable_disclosure(bigint) IS
    'internal: the disclosure that the caller may enter now; errors as enter_disclosure()';

-- As with enter_support(), the row comes first.
CREATE FUNCTION leyser.enter_disclosure(disclosure_id bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    usable leyser.disclosure_window := leyser.usable_disclosure(enter_disclosure.disclosure_id);
    token text := leyser.sign_session_token(usable.tenant_id, NULL, NULL, usable.session_id, usable.ends_at);
BEGIN
    PERFORM leyser.try_token(token);
    PERFORM leyser.record_disclosure(d, 'disclosure.entered', jsonb_build_object('to_role', d.to_role), lasting => true)
        FROM leyser.disclosure_record d WHERE d.disclosure_id = usable.disclosure_id;
    PERFORM set_config('transaction_read_only', 'on', true);
    PERFORM set_config('leyser.token', token, true);
END
$$;
REVOKE ALL ON FUNCTION leyser.enter_disclosure(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.enter_disclosure(bigint) IS
    'exporter: sets the context of the disclosed tenant until the transaction ends, and makes it read-only; recorded before, as is each statement after it, in rows that stay whatever becomes of the transaction (on a standby only in the server log); 42501 for another''s disclosure, LY008 where it is not confirmed, LY003 where it has ended, 0LP01 where the role could by now read other tenants'' rows besides, LY009 where a context is set, 53000 or 58000 where it could not be recorded';

-- For export_rows(), which reads what row security cannot show.
CREATE FUNCTION leyser.disclosed_tenant() RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF leyser.in_context() THEN
        RETURN (SELECT w.tenant_id FROM leyser.disclosure_window w
                WHERE w.session_id = leyser.session_id() AND w.to_role = leyser.caller());
    END IF;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION leyser.disclosed_tenant() FROM PUBLIC;
COMMENT ON FUNCTION leyser.disclosed_tenant() IS 'internal: the tenant of whose disclosure the context is; NULL for other contexts and without one';

-- src/disclosure.c calls it as each statement begins.
CREATE FUNCTION leyser.note_disclosure(session_id uuid) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT leyser.record_disclosure(d, 'disclosure.read', jsonb_build_object('to_role', d.to_role), lasting => true)
    FROM leyser.disclosure_window w JOIN leyser.disclosure_record d ON d.disclosure_id = w.disclosure_id
    WHERE w.session_id = note_disclosure.session_id
$$;
REVOKE ALL ON FUNCTION leyser.note_disclosure(uuid) FROM PUBLIC;
COMMENT ON FUNCTION leyser.note_disclosure(uuid) IS 'internal: records that a statement begins in the context of a disclosure';

-- ---- telling ----

CREATE FUNCTION leyser.tell_tenant(disclosure_id bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    told leyser.disclosure_record;
BEGIN
    UPDATE leyser.disclosure_record d SET told_at = clock_timestamp() WHERE d.disclosure_id = tell_tenant.disclosure_id RETURNING d.* INTO told;
    PERFORM leyser.record_disclosure(told, 'disclosure.told', jsonb_build_object('legal_basis', told.legal_basis, 'to_role', told.to_role,
        'opened_at', told.opened_at, 'confirmed_at', told.confirmed_at, 'ends_at', told.ends_at, 'closed_at', told.closed_at,
        'statements', leyser.disclosed_statements(told)));
END
$$;
REVOKE ALL ON FUNCTION leyser.tell_tenant(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.tell_tenant(bigint) IS 'internal: puts among a tenant''s events what it was not told of a disclosure';

CREATE FUNCTION leyser.tell_disclosure(disclosure_id bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    PERFORM FROM leyser.disclosure_record d
        WHERE d.disclosure_id = tell_disclosure.disclosure_id AND d.told_at IS NULL AND d.legal_basis IS NOT NULL FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'there is nothing to tell',
            DETAIL = 'The disclosure is unknown, the tenant knows of it, or is erased.',
            HINT = 'See view leyser.disclosure.';
    END IF;
    PERFORM leyser.tell_tenant(tell_disclosure.disclosure_id);
END
$$;
REVOKE ALL ON FUNCTION leyser.tell_disclosure(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.tell_disclosure(bigint) IS
    'operator: tells a tenant of a disclosure that was kept from it, once the law allows; LY008 where there is nothing to tell';

CREATE FUNCTION leyser.due_disclosures() RETURNS SETOF bigint
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT d.disclosure_id FROM leyser.disclosure_record d
    WHERE d.told_at IS NULL AND d.untold_until <= clock_timestamp() AND d.legal_basis IS NOT NULL
$$;
REVOKE ALL ON FUNCTION leyser.due_disclosures() FROM PUBLIC;
COMMENT ON FUNCTION leyser.due_disclosures() IS 'internal: disclosures of which their tenants are to be told by now';

-- From when it was opened until its window ended; those that were kept from the tenant
-- are among the service's events.
CREATE FUNCTION leyser.disclosed_statements(disclosure leyser.disclosure_record) RETURNS bigint
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT (SELECT count(*) FROM leyser.event_record e
            WHERE e.tenant_id = disclosure.tenant_id AND e.event = 'disclosure.read' AND e.object = disclosure.disclosure_id::text AND e.at >= disclosure.opened_at)
         + (SELECT count(*) FROM leyser.event_record e
            WHERE e.tenant_id IS NULL AND disclosure.untold_reason IS NOT NULL
              AND e.event = 'disclosure.read' AND e.object = disclosure.disclosure_id::text AND e.at >= disclosure.opened_at)
$$;
REVOKE ALL ON FUNCTION leyser.disclosed_statements(leyser.disclosure_record) FROM PUBLIC;
COMMENT ON FUNCTION leyser.disclosed_statements(leyser.disclosure_record) IS
    'internal: how many statements began in the contexts of a disclosure, as the event log has them';

CREATE VIEW leyser.disclosure AS
    SELECT d.disclosure_id, d.tenant_id, d.legal_basis, d.to_role, d.opened_by, d.opened_in, d.opened_at, d.valid_for,
           d.confirmed_by, d.confirmed_in, d.confirmed_at, d.ends_at, d.closed_at, d.closed_by,
           CASE WHEN d.closed_at IS NOT NULL THEN 'closed'
                WHEN d.ends_at <= pg_catalog.clock_timestamp() OR w.session_id IS NULL
                     OR d.ends_at IS NULL AND d.opened_at <= pg_catalog.clock_timestamp() - interval '7 days' THEN 'ended'
                WHEN d.ends_at IS NULL THEN 'waiting' ELSE 'open' END AS state,
           leyser.disclosed_statements(d) AS statements, d.untold_reason, d.untold_until, d.told_at
    FROM leyser.disclosure_record d LEFT JOIN leyser.disclosure_window w ON w.disclosure_id = d.disclosure_id;
COMMENT ON VIEW leyser.disclosure IS
    'disclosures of tenants'' rows that the law demanded (operator, auditor): on which legal basis, who opened, confirmed and read them, state (waiting for a second person, open, closed, ended), how many statements read, and since when the tenant knows (told_at)';
