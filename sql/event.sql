-- The event log.

CREATE FUNCTION leyser.log_line(line text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_log_line';
REVOKE ALL ON FUNCTION leyser.log_line(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.log_line(text) IS 'internal: writes a line of the server log';

-- What the row says, and its line: who calls, when and from where.
CREATE FUNCTION leyser.log_event(event text, tenant_id text, object text, detail jsonb) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    content jsonb := jsonb_build_object(
        'session_role', session_user, 'caller_role', leyser.caller()::text,
        'client_address', host(inet_client_addr()), 'account_id', leyser.unchecked_account_id(),
        'object', object, 'detail', detail);
    line jsonb := jsonb_build_object(
        'event', event, 'tenant_id', tenant_id,
        'at', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'));
BEGIN
    PERFORM leyser.log_line((line || jsonb_strip_nulls(content))::text);
    RETURN line || content;
END
$$;
REVOKE ALL ON FUNCTION leyser.log_event(text, text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.log_event(text, text, text, jsonb) IS
    'internal: writes an event''s line of the server log, and returns what its row is to hold';

CREATE FUNCTION leyser.insert_event(at timestamptz, event text, tenant_id text, session_role text, caller_role text,
                                    client_address inet, account_id bigint, object text, detail jsonb) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_event_insert_sql';
REVOKE ALL ON FUNCTION leyser.insert_event(timestamptz, text, text, text, text, inet, bigint, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.insert_event(timestamptz, text, text, text, text, inet, bigint, text, jsonb) IS
    'internal: adds an event with salt and digest to its month, and to what is to be sealed';

CREATE FUNCTION leyser.add_event(content jsonb) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT leyser.insert_event((content ->> 'at')::timestamptz, content ->> 'event', content ->> 'tenant_id',
        content ->> 'session_role', content ->> 'caller_role', (content ->> 'client_address')::inet,
        (content ->> 'account_id')::bigint, content ->> 'object', nullif(content -> 'detail', 'null'))
$$;
REVOKE ALL ON FUNCTION leyser.add_event(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.add_event(jsonb) IS
    'internal: adds the row of an event; also in the worker, for which the content says who called';

CREATE FUNCTION leyser.record_event(event text, tenant_id text, object text, detail jsonb)
    RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    content jsonb := leyser.log_event(event, tenant_id, object, detail);
BEGIN
    -- a standby and a read-only transaction have the server log only
    IF NOT pg_is_in_recovery() AND NOT current_setting('transaction_read_only')::boolean THEN
        PERFORM leyser.add_event(content);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.record_event(text, text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.record_event(text, text, text, jsonb) IS
    'internal: records who did what, when and from where, as a row and as a line of the server log';

-- For what a rollback does not undo: a tenant's rows that were seen, a token that was
-- handed out.  The worker adds the row, so that it stays, and a transaction that is
-- read-only has one, too.
CREATE FUNCTION leyser.record_lasting_event(event text, tenant_id text, object text, detail jsonb)
    RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    content jsonb := leyser.log_event(event, tenant_id, object, detail);
BEGIN
    -- a standby has the server log only
    IF NOT pg_is_in_recovery() THEN
        PERFORM leyser.submit_task('event', content::text);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.record_lasting_event(text, text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.record_lasting_event(text, text, text, jsonb) IS
    'internal: the same, and the row stays where the transaction is rolled back or read-only; returns once it is written, 53000 or 58000 where it cannot be';

-- Whose address an event holds: that of the account that acted, or that logged in, or
-- for which a gateway did.
CREATE FUNCTION leyser.event_person(account_id bigint, event text, object text) RETURNS bigint
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    SELECT CASE WHEN account_id IS NOT NULL THEN account_id
                WHEN event ~ '^(login|session|context|token)\.|^account\.accepted$' THEN object::bigint END
$$;
REVOKE ALL ON FUNCTION leyser.event_person(bigint, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.event_person(bigint, text, text) IS
    'internal: the account whose address an event holds, or NULL';

-- With the salt and the rest of the content, the few addresses there are could be
-- tried until the digest fits: so the salt goes with the address.  All events of the
-- tenant are looked at, for an index of addresses would cost every audited row more
-- than an account that is deleted now and then.
CREATE FUNCTION leyser.erase_addresses(tenant_id text, account_id bigint) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE leyser.event_record e
        SET client_address = NULL, detail = e.detail - 'client_address', salt = NULL
        WHERE e.tenant_id = erase_addresses.tenant_id
          AND (e.account_id = erase_addresses.account_id OR (e.account_id IS NULL AND e.object = erase_addresses.account_id::text))
          AND (e.client_address IS NOT NULL OR e.detail ? 'client_address')
          AND leyser.event_person(e.account_id, e.event, e.object) = erase_addresses.account_id
$$;
REVOKE ALL ON FUNCTION leyser.erase_addresses(text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.erase_addresses(text, bigint) IS
    'internal: erases the addresses in the events of a deleted account; the events and their digests stay';

-- Rows are only ever added.  What may be erased later is content, and never the
-- digest: the addresses of accounts that were deleted, whoever asks for it; and by a
-- purge, in whose worker no such trigger fires, all content about its tenant.
CREATE FUNCTION leyser.refuse_event_change() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    erased leyser.event_record;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        erased := OLD;
        erased.client_address := NULL;
        erased.detail := OLD.detail - 'client_address';
        erased.salt := NULL;
        IF NEW IS NOT DISTINCT FROM erased AND (OLD.client_address IS NOT NULL OR OLD.detail ? 'client_address')
           AND EXISTS (SELECT FROM leyser.account_record a
                WHERE a.account_id = leyser.event_person(OLD.account_id, OLD.event, OLD.object)
                  AND a.tenant_id = OLD.tenant_id AND a.state = 'deleted') THEN
            RETURN NEW;
        END IF;
    END IF;
    -- the end of their retention (drop_events_before()), which has left its checkpoint
    IF TG_OP = 'DELETE' AND current_setting('leyser.registry_work', true)::boolean
       AND EXISTS (SELECT FROM leyser.event_checkpoint c WHERE c.dropped_at > now() - interval '1 minute') THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'LY007',
        MESSAGE = 'the event log cannot be changed',
        DETAIL = 'Events are added and never changed or removed.',
        HINT = 'Read it through view leyser.event.';
END
$$;
REVOKE ALL ON FUNCTION leyser.refuse_event_change() FROM PUBLIC;
COMMENT ON FUNCTION leyser.refuse_event_change() IS
    'internal trigger: refuses to change or remove events, save that the addresses of deleted accounts are erased (and, by a purge, all content)';

CREATE TRIGGER refuse_change BEFORE UPDATE ON leyser.event_record
    FOR EACH ROW EXECUTE FUNCTION leyser.refuse_event_change();
ALTER TABLE leyser.event_record ENABLE ALWAYS TRIGGER refuse_change;
COMMENT ON TRIGGER refuse_change ON leyser.event_record IS 'the event log is append-only';
CREATE TRIGGER refuse_removal BEFORE DELETE OR TRUNCATE ON leyser.event_record
    FOR EACH STATEMENT EXECUTE FUNCTION leyser.refuse_event_change();
ALTER TABLE leyser.event_record ENABLE ALWAYS TRIGGER refuse_removal;
COMMENT ON TRIGGER refuse_removal ON leyser.event_record IS 'the event log is append-only';

CREATE VIEW leyser.event AS
    SELECT e.event_id, e.at, e.event, e.tenant_id, e.session_role, e.caller_role, e.client_address,
           e.account_id, coalesce((SELECT a.account_name FROM leyser.account_record a
               WHERE a.account_id = e.account_id), 'account ' || e.account_id) AS account_name,
           e.object, e.detail, e.digest
    FROM leyser.event_record e;
COMMENT ON VIEW leyser.event IS
    'the event log (auditor): who (role of the session, role in force, address, account) did what to which object and tenant, and when; accounts by id, with the name they have now';
