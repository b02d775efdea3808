-- The event log.

CREATE FUNCTION leyser.log_line(line text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_log_line';
REVOKE ALL ON FUNCTION leyser.log_line(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.log_line(text) IS 'internal: writes a line of the server log';

CREATE FUNCTION leyser.record_event(event text, tenant_id text, object text, detail jsonb)
    RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    new_salt bytea := uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid());
    account text := (SELECT s.account_name FROM leyser.context_status() s);
    content jsonb := jsonb_build_object(
        'session_role', session_user, 'caller_role', leyser.caller()::text,
        'client_address', host(inet_client_addr()), 'account_name', account,
        'object', object, 'detail', detail);
    line jsonb := jsonb_build_object(
        'event', event, 'tenant_id', tenant_id,
        'at', to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'));
BEGIN
    PERFORM leyser.log_line((line || jsonb_strip_nulls(content))::text);
    -- a standby and a read-only transaction have the server log only
    IF pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean THEN
        RETURN;
    END IF;
    INSERT INTO leyser.event_record (at, event, tenant_id, session_role, caller_role,
            client_address, account_name, object, detail, salt, digest)
        VALUES (moment, event, tenant_id, session_user, leyser.caller()::text,
            inet_client_addr(), account, object, detail, new_salt,
            sha256(new_salt || convert_to((line || content)::text, 'UTF8')));
END
$$;
REVOKE ALL ON FUNCTION leyser.record_event(text, text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.record_event(text, text, text, jsonb) IS
    'internal: records who did what, when and from where, as a row and as a line of the server log';

-- Rows are only ever added.  What may be erased later is a row's content:
-- all of it, and never the digest.
CREATE FUNCTION leyser.refuse_event_change() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'LY007',
        MESSAGE = 'the event log cannot be changed',
        DETAIL = 'Events are added and never changed or removed.',
        HINT = 'Read it through view leyser.event.';
END
$$;
REVOKE ALL ON FUNCTION leyser.refuse_event_change() FROM PUBLIC;
COMMENT ON FUNCTION leyser.refuse_event_change() IS
    'internal trigger: refuses to change or remove events';

CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON leyser.event_record
    FOR EACH STATEMENT EXECUTE FUNCTION leyser.refuse_event_change();
ALTER TABLE leyser.event_record ENABLE ALWAYS TRIGGER refuse_change;
COMMENT ON TRIGGER refuse_change ON leyser.event_record IS 'the event log is append-only';

CREATE VIEW leyser.event AS
    SELECT e.event_id, e.at, e.event, e.tenant_id, e.session_role, e.caller_role,
           e.client_address, e.account_name, e.object, e.detail, e.digest
    FROM leyser.event_record e;
COMMENT ON VIEW leyser.event IS
    'the event log (auditor): who (role of the session, role in force, address, account) did what to which object and tenant, and when';
