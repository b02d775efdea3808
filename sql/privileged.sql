-- Access to protected tables by whom row security does not bind: what was counted is
-- written as events, and windows in which such access has a purpose.

-- ---- what was counted ----

CREATE FUNCTION leyser.list_privileged()
    RETURNS TABLE (event text, session_role text, caller_role text, client_address text, object text, role text, command text,
                   bypass text, application text, query_id bigint, window_id bigint, pid integer, statements bigint,
                   first_at timestamptz, last_at timestamptz, untold boolean, others boolean)
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_list_privileged';
REVOKE ALL ON FUNCTION leyser.list_privileged() FROM PUBLIC;
COMMENT ON FUNCTION leyser.list_privileged() IS
    'internal: privileged accesses in this database that are counted and not events yet; others: of sessions for which there was no room';

CREATE FUNCTION leyser.take_privileged()
    RETURNS TABLE (event text, session_role text, caller_role text, client_address text, object text, role text, command text,
                   bypass text, application text, query_id bigint, window_id bigint, pid integer, statements bigint,
                   first_at timestamptz, last_at timestamptz, untold boolean, others boolean)
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_take_privileged';
REVOKE ALL ON FUNCTION leyser.take_privileged() FROM PUBLIC;
COMMENT ON FUNCTION leyser.take_privileged() IS
    'internal: the same in the worker, which counts them as written once its transaction commits; untold: there is no line of the server log yet; 42501 elsewhere';

CREATE FUNCTION leyser.list_replication(after bigint)
    RETURNS TABLE (number bigint, at timestamptz, session_role text, database text, application text, client_address text)
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_list_replication';
REVOKE ALL ON FUNCTION leyser.list_replication(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.list_replication(bigint) IS
    'internal: replication connections since the server''s start with higher numbers, as far as they are remembered';

CREATE FUNCTION leyser.write_accesses() RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    one record;
    content jsonb;
BEGIN
    -- a dump that is being restored brings its events in first
    IF NOT EXISTS (SELECT FROM leyser.identity i WHERE i.keyring_id IS NOT NULL) THEN
        RETURN;
    END IF;
    FOR one IN SELECT * FROM leyser.take_privileged() LOOP
        content := jsonb_build_object('event', CASE WHEN one.others THEN 'privileged.uncounted' ELSE one.event END, 'tenant_id', NULL,
            'at', to_char(one.last_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
            'session_role', one.session_role, 'caller_role', one.caller_role, 'client_address', one.client_address,
            'account_id', NULL, 'object', one.object, 'detail', jsonb_strip_nulls(jsonb_build_object(
                'role', one.role, 'command', one.command, 'bypass', one.bypass, 'application', one.application,
                'query_id', one.query_id::text, 'window', one.window_id,
                'purpose', (SELECT w.purpose FROM leyser.privileged_window_record w WHERE w.window_id = one.window_id),
                'pid', one.pid, 'statements', one.statements)));
        IF one.untold THEN
            PERFORM leyser.log_line(jsonb_strip_nulls(content)::text);
        END IF;
        PERFORM leyser.add_event(content);
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.write_accesses() FROM PUBLIC;
COMMENT ON FUNCTION leyser.write_accesses() IS
    'internal: task of the worker: what was counted of privileged accesses becomes events';

CREATE FUNCTION leyser.replication_to_note() RETURNS bigint
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT n.number FROM leyser.replication_noted n WHERE n.server_started = pg_postmaster_start_time()), 0)
$$;
REVOKE ALL ON FUNCTION leyser.replication_to_note() FROM PUBLIC;
COMMENT ON FUNCTION leyser.replication_to_note() IS
    'internal: the last replication connection since the server''s start of which there is an event, 0: none';

-- Each database has its own; the server log had a line of each at once.
CREATE FUNCTION leyser.write_replication() RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    noted bigint;
    one record;
BEGIN
    LOCK TABLE leyser.replication_noted IN SHARE ROW EXCLUSIVE MODE;
    noted := leyser.replication_to_note();
    FOR one IN SELECT * FROM leyser.list_replication(noted) r ORDER BY r.number LOOP
        IF one.number > noted + 1 THEN
            PERFORM leyser.record_event('replication.missed', NULL, NULL, jsonb_build_object('connections', one.number - noted - 1));
        END IF;
        PERFORM leyser.add_event(jsonb_build_object('event', 'replication.connected', 'at', one.at, 'session_role', one.session_role,
            'caller_role', one.session_role, 'client_address', one.client_address,
            'detail', jsonb_strip_nulls(jsonb_build_object('database', one.database, 'application', one.application))));
        noted := one.number;
    END LOOP;
    DELETE FROM leyser.replication_noted;
    INSERT INTO leyser.replication_noted (server_started, number) VALUES (pg_postmaster_start_time(), noted);
END
$$;
REVOKE ALL ON FUNCTION leyser.write_replication() FROM PUBLIC;
COMMENT ON FUNCTION leyser.write_replication() IS
    'internal: replication connections become events, in each database by itself';

CREATE FUNCTION leyser.note_privileged() RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM leyser.list_privileged()) THEN
        PERFORM leyser.submit_task('privileged access', '');
    END IF;
    IF EXISTS (SELECT FROM leyser.list_replication(leyser.replication_to_note())) THEN
        PERFORM leyser.write_replication();
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.note_privileged() FROM PUBLIC;
COMMENT ON FUNCTION leyser.note_privileged() IS
    'internal: job note privileged access: what is counted and not written yet becomes events';

CREATE VIEW leyser.privileged_access AS
    SELECT e.at, e.event, (e.detail ->> 'statements')::bigint AS statements, e.object AS relation, e.session_role, e.caller_role,
           e.detail ->> 'role' AS role, e.detail ->> 'command' AS command, e.detail ->> 'bypass' AS bypass,
           e.detail ->> 'application' AS application, e.client_address, (e.detail ->> 'query_id')::bigint AS query_id,
           (e.detail ->> 'pid')::integer AS pid, (e.detail ->> 'window')::bigint AS window_id, e.event_id
    FROM leyser.event_record e
    WHERE e.event IN ('privileged.access', 'privileged.refused', 'privileged.ddl', 'privileged.uncounted')
    UNION ALL
    SELECT p.last_at, CASE WHEN p.others THEN 'privileged.uncounted' ELSE p.event END, p.statements, p.object, p.session_role, p.caller_role,
           p.role, p.command, p.bypass, p.application, p.client_address::inet, p.query_id, p.pid, p.window_id, NULL
    FROM leyser.list_privileged() p;
COMMENT ON VIEW leyser.privileged_access IS
    'who saw or changed protected tables past row security (auditor): statements by session, table, role and command; relation as it was named then; role: whose rights counted; bypass: superuser, bypassrls, owner, ddl, or toast (the table''s TOAST by its own name); event_id is NULL for what is counted and not written yet';

-- ---- windows ----

CREATE FUNCTION leyser.open_privileged_access(to_role regrole, purpose text, valid_for interval DEFAULT '1 hour') RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ends timestamptz;
    opened bigint;
BEGIN
    BEGIN
        ends := clock_timestamp() + valid_for;
    EXCEPTION WHEN datetime_field_overflow THEN
        NULL;
    END;
    IF (ends BETWEEN clock_timestamp() + interval '1 s' AND clock_timestamp() + interval '24 hours') IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid time of privileged access',
            DETAIL = 'It lasts from one second to 24 hours.', HINT = 'Give valid_for => ''2 hours''.';
    END IF;
    PERFORM leyser.check_line('purpose', purpose, true);
    IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = to_role) THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('role "%s" does not exist', to_role),
            DETAIL = 'A window is for one role.', HINT = 'Name the role that pg_dump or the migration connects as.';
    END IF;
    INSERT INTO leyser.privileged_window_record (to_role, ends_at, purpose, opened_by)
        VALUES (to_role, ends, purpose, session_user) RETURNING window_id INTO opened;
    PERFORM leyser.record_event('privileged.opened', NULL, to_role::text,
        jsonb_build_object('window', opened, 'purpose', purpose, 'ends_at', ends));
    RETURN opened;
END
$$;
REVOKE ALL ON FUNCTION leyser.open_privileged_access(regrole, text, interval) FROM PUBLIC;
COMMENT ON FUNCTION leyser.open_privileged_access(regrole, text, interval) IS
    'superuser: until then (one second to 24 hours) what the role does past row security is not refused, and recorded with the number that is returned; purpose: pg_dump, migration, …; 22023 for a wrong time or purpose, 42704 for an unknown role';

CREATE FUNCTION leyser.close_privileged_access(window_id bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    closed leyser.privileged_window_record;
BEGIN
    UPDATE leyser.privileged_window_record w SET closed_at = clock_timestamp()
        WHERE w.window_id = close_privileged_access.window_id AND w.closed_at IS NULL AND w.ends_at > clock_timestamp()
        RETURNING w.* INTO closed;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'the window is not open',
            DETAIL = format('There is no window %s, or it has ended.', coalesce(close_privileged_access.window_id::text, 'NULL')),
            HINT = 'See view leyser.privileged_window.';
    END IF;
    PERFORM leyser.record_event('privileged.closed', NULL, closed.to_role::text, jsonb_build_object('window', closed.window_id));
END
$$;
REVOKE ALL ON FUNCTION leyser.close_privileged_access(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.close_privileged_access(bigint) IS
    'superuser: ends a window of open_privileged_access() at the next statement; LY008 where it is not open';

CREATE VIEW leyser.privileged_window AS
    SELECT w.window_id, w.to_role, w.purpose, w.opened_by, w.opened_at, w.ends_at, w.closed_at,
           w.closed_at IS NULL AND w.ends_at > clock_timestamp() AS is_open
    FROM leyser.privileged_window_record w;
COMMENT ON VIEW leyser.privileged_window IS
    'windows of open_privileged_access() (operator, auditor), open and past';
