-- After a restore: what came back is ended and erased again.

-- A restore brings back keys, sessions, invitations, support access, exports and disclosures that
-- have ended since.  Which ones, nobody knows: all end.
CREATE FUNCTION leyser.end_restored_access(OUT keys integer, OUT sessions integer)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    LOCK TABLE leyser.signing_key IN SHARE ROW EXCLUSIVE MODE;
    UPDATE leyser.signing_key k SET state = 'retired', retired_at = clock_timestamp() WHERE k.state <> 'retired';
    GET DIAGNOSTICS keys = ROW_COUNT;
    INSERT INTO leyser.revoked_session (session_id, expires_at)
        SELECT s.session_id, s.expires_at FROM leyser.session_record s WHERE s.expires_at > clock_timestamp()
            AND NOT EXISTS (SELECT FROM leyser.revoked_session r WHERE r.session_id = s.session_id);
    GET DIAGNOSTICS sessions = ROW_COUNT;
    WITH ended AS (
        UPDATE leyser.support_record s SET revoked_at = clock_timestamp()
            WHERE s.revoked_at IS NULL AND s.valid_until > clock_timestamp() RETURNING s.session_id, s.valid_until)
    INSERT INTO leyser.revoked_session (session_id, expires_at) SELECT e.session_id, e.valid_until FROM ended e;
    DELETE FROM leyser.invitation_record;
    PERFORM leyser.end_exports(NULL, 'restore');
END
$$;
REVOKE ALL ON FUNCTION leyser.end_restored_access() FROM PUBLIC;
COMMENT ON FUNCTION leyser.end_restored_access() IS
    'internal: retires all signing keys, ends all sessions, support access, exports, disclosures and invitations; returns how many keys and sessions';

CREATE FUNCTION leyser.add_restore(cause text, ends_access boolean) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    ended record;
    added bigint;
BEGIN
    ended := ROW(0, 0);
    SELECT 0 AS keys, 0 AS sessions INTO ended;
    IF add_restore.ends_access THEN
        SELECT e.* INTO ended FROM leyser.end_restored_access() e;
    END IF;
    UPDATE leyser.restore_record r SET released_at = clock_timestamp(), released_by = 'a later restore' WHERE r.released_at IS NULL;
    INSERT INTO leyser.restore_record (cause, restored_to, keys_retired, sessions_ended)
        VALUES (add_restore.cause, (SELECT e.at FROM leyser.event_record e ORDER BY e.event_id DESC LIMIT 1), ended.keys, ended.sessions)
        RETURNING restore_id INTO added;
    PERFORM leyser.record_event('restore.noticed', NULL, NULL, jsonb_build_object('restore_id', added, 'cause', add_restore.cause,
        'keys_retired', ended.keys, 'sessions_ended', ended.sessions));
    RETURN added;
END
$$;
REVOKE ALL ON FUNCTION leyser.add_restore(text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.add_restore(text, boolean) IS
    'internal: writes a restore down, and ends what may have ended since';

CREATE FUNCTION leyser.note_restore() RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    fence record;
BEGIN
    LOCK TABLE leyser.restore_record IN SHARE ROW EXCLUSIVE MODE;
    SELECT f.* INTO fence FROM leyser.look_at_fence() f;
    IF fence.verdict = 'ahead' AND (fence.keys_refused
            OR NOT EXISTS (SELECT FROM leyser.restore_record r WHERE r.released_at IS NULL)) THEN
        PERFORM leyser.add_restore(fence.message, fence.keys_refused);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.note_restore() FROM PUBLIC;
COMMENT ON FUNCTION leyser.note_restore() IS
    'internal: writes down, once, that the fence is ahead of the tables, and retires keys and sessions';

-- ---- erasing again ----

-- Whatever the restored rows say: the contract had ended, and nobody held the purge.
CREATE FUNCTION leyser.queue_replay(tenant_id text, started_at timestamptz, caller regrole) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    present text := (SELECT t.state FROM leyser.tenant_record t WHERE t.tenant_id = queue_replay.tenant_id FOR NO KEY UPDATE);
    ended timestamptz := least(queue_replay.started_at, clock_timestamp());
    queued bigint;
    replayed boolean;
BEGIN
    IF present IS NULL THEN
        -- it was made after the moment that was restored: no row can be its own
        INSERT INTO leyser.tenant_record (tenant_id, state) VALUES (queue_replay.tenant_id, 'erased') ON CONFLICT DO NOTHING;
        PERFORM leyser.record_event('purge.replayed', queue_replay.tenant_id, NULL, jsonb_build_object('unknown', true));
        RETURN NULL;
    END IF;
    -- a hold that was placed after the restore stands
    SELECT p.purge_id INTO queued FROM leyser.purge_record p
        WHERE p.tenant_id = queue_replay.tenant_id AND p.replay AND p.state = 'held';
    IF FOUND THEN
        RETURN queued;
    END IF;
    PERFORM leyser.move_tenant(queue_replay.tenant_id, '{active,suspended,terminating,terminated,held}', 'terminated');
    UPDATE leyser.tenant_record t SET ends_at = least(t.ends_at, ended), is_suspended = false WHERE t.tenant_id = queue_replay.tenant_id;
    DELETE FROM leyser.hold_record h WHERE h.tenant_id = queue_replay.tenant_id;
    INSERT INTO leyser.termination_record (tenant_id, effective_at, reason, requested_by, requested_in, from_state, confirmed_by, confirmed_at)
        VALUES (queue_replay.tenant_id, ended, 'replay after a restore', queue_replay.caller::text, session_user, present,
                queue_replay.caller::text, clock_timestamp())
        ON CONFLICT DO NOTHING;
    SELECT p.purge_id, p.replay INTO queued, replayed FROM leyser.purge_record p
        WHERE p.tenant_id = queue_replay.tenant_id AND p.state <> 'erased' FOR UPDATE;
    IF queued IS NOT NULL AND NOT replayed THEN
        PERFORM leyser.move_purge(queued, 'due');
        UPDATE leyser.purge_record p SET replay = true WHERE p.purge_id = queued;
    ELSIF queued IS NULL THEN
        INSERT INTO leyser.purge_record (tenant_id, state, batch_size, max_rows_per_second, queued_by, replay)
            VALUES (queue_replay.tenant_id, 'due', 5000, 0, queue_replay.caller::text, true) RETURNING purge_id INTO queued;
        PERFORM leyser.record_event('purge.replayed', queue_replay.tenant_id, NULL, jsonb_build_object('purge_id', queued));
    END IF;
    RETURN queued;
END
$$;
REVOKE ALL ON FUNCTION leyser.queue_replay(text, timestamptz, regrole) FROM PUBLIC;
COMMENT ON FUNCTION leyser.queue_replay(text, timestamptz, regrole) IS
    'internal: leaves to the worker to erase a tenant again, and returns the purge; NULL where only a tombstone is needed';

CREATE FUNCTION leyser.queue_replays(caller regrole) RETURNS SETOF bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    fence record;
    missing record;
    queued bigint;
BEGIN
    LOCK TABLE leyser.restore_record IN SHARE ROW EXCLUSIVE MODE;
    SELECT f.* INTO fence FROM leyser.look_at_fence() f;
    IF fence.verdict = 'lost' THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'what is to be erased again is not known',
            DETAIL = fence.message || '.', HINT = fence.remedy;
    ELSIF NOT fence.held THEN
        RAISE NOTICE USING MESSAGE = 'nothing is to be erased again',
            DETAIL = 'The tables know every purge that the fence holds.';
        RETURN;
    END IF;
    IF fence.verdict = 'ahead' THEN
        PERFORM leyser.note_restore();
    END IF;
    FOR missing IN SELECT e.tenant_id, min(e.started_at) AS started_at FROM leyser.fence_entries() e
            WHERE NOT e.known GROUP BY e.tenant_id ORDER BY e.tenant_id COLLATE "C" LOOP
        queued := leyser.queue_replay(missing.tenant_id, missing.started_at, caller);
        IF queued IS NOT NULL THEN
            RETURN NEXT queued;
        END IF;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.queue_replays(regrole) FROM PUBLIC;
COMMENT ON FUNCTION leyser.queue_replays(regrole) IS
    'internal: has every tenant erased again that the fence knows more of than the tables; returns the purges; LY008 without a fence';

-- Another incarnation: the mark of the life before no longer counts.
CREATE FUNCTION leyser.release_restore(caller regrole) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    fence record;
    left_over text;
    released bigint;
BEGIN
    LOCK TABLE leyser.restore_record IN SHARE ROW EXCLUSIVE MODE;
    SELECT f.* INTO fence FROM leyser.look_at_fence() f;
    IF NOT fence.held THEN
        RETURN false;
    END IF;
    SELECT string_agg(quote_literal(e.tenant_id), ', ' ORDER BY e.tenant_id COLLATE "C") INTO left_over
        FROM (SELECT n.tenant_id FROM leyser.fence_entries() n WHERE NOT n.known ORDER BY n.tenant_id COLLATE "C" LIMIT 10) e;
    IF left_over IS NOT NULL OR fence.verdict = 'lost' THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'the restore is not released',
            DETAIL = coalesce(format('Not erased yet: %s.', left_over), fence.message || '.'),
            HINT = CASE WHEN left_over IS NULL THEN fence.remedy ELSE 'View leyser.purge_status shows what they wait for; CALL leyser.replay_purges() again.' END;
    END IF;
    UPDATE leyser.restore_record r SET released_at = clock_timestamp(), released_by = release_restore.caller::text
        WHERE r.released_at IS NULL RETURNING r.restore_id INTO released;
    UPDATE leyser.fence_record f SET incarnation = gen_random_uuid() FROM leyser.identity i WHERE i.database_id = f.database_id;
    PERFORM leyser.record_event('restore.released', NULL, NULL, jsonb_build_object('restore_id', released));
    RETURN true;
END
$$;
REVOKE ALL ON FUNCTION leyser.release_restore(regrole) FROM PUBLIC;
COMMENT ON FUNCTION leyser.release_restore(regrole) IS
    'internal: ends the hold after a restore once the tables know all that the fence holds; false where nothing is held, LY008 where something is left';

CREATE PROCEDURE leyser.replay_purges()
    LANGUAGE c AS 'MODULE_PATHNAME', 'leyser_replay_call';
REVOKE ALL ON PROCEDURE leyser.replay_purges() FROM PUBLIC;
COMMENT ON PROCEDURE leyser.replay_purges() IS
    'operator: after a restore, erases again the tenants that the fence says were erased since, tells how far that is, and then releases what was held; cancelled or killed, it goes on when it is called again; LY008 without a fence, or where a purge is held, 25001 in a transaction block';

-- ---- without a fence ----

CREATE FUNCTION leyser.note_acceptance(reason text, caller regrole) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    fence record;
    database uuid := (SELECT i.database_id FROM leyser.identity i);
    ended record;
BEGIN
    PERFORM leyser.check_line('reason', note_acceptance.reason, true);
    LOCK TABLE leyser.restore_record IN SHARE ROW EXCLUSIVE MODE;
    SELECT f.* INTO fence FROM leyser.look_at_fence() f;
    IF fence.verdict <> 'lost' THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'no fence is missing',
            DETAIL = CASE WHEN fence.held THEN fence.message || '.' ELSE 'Nothing is held for want of a fence.' END,
            HINT = CASE WHEN fence.held THEN fence.remedy ELSE 'See leyser.guard_alerts().' END;
    END IF;
    IF fence.keys_refused THEN
        SELECT e.* INTO ended FROM leyser.end_restored_access() e;
    END IF;
    INSERT INTO leyser.fence_record (database_id) VALUES (database) ON CONFLICT DO NOTHING;
    UPDATE leyser.fence_record f SET accepted_in = database, accepted_at = clock_timestamp(),
        accepted_by = note_acceptance.caller::text, reason = note_acceptance.reason,
        incarnation = CASE WHEN f.database_id = database THEN gen_random_uuid() ELSE f.incarnation END;
    PERFORM leyser.record_event('fence.accepted', NULL, NULL,
        jsonb_build_object('reason', note_acceptance.reason, 'found', fence.message, 'access_ended', fence.keys_refused));
END
$$;
REVOKE ALL ON FUNCTION leyser.note_acceptance(text, regrole) FROM PUBLIC;
COMMENT ON FUNCTION leyser.note_acceptance(text, regrole) IS
    'internal: writes down who does without a fence, and ends what may have ended since; LY008 where none is missing, 22023 without a reason';

CREATE PROCEDURE leyser.accept_fence(reason text)
    LANGUAGE c AS 'MODULE_PATHNAME', 'leyser_accept_fence_call';
REVOKE ALL ON PROCEDURE leyser.accept_fence(text) FROM PUBLIC;
COMMENT ON PROCEDURE leyser.accept_fence(text) IS
    'operator: on a host where the fence is lost, makes another one from the tables, once it is known by other means that no tenant that was erased has come back; assumes a restore: keys are retired, sessions end; recorded with its reason; LY008 where none is missing, LY002 where none can be written, 25001 in a transaction block';

-- ---- alerts ----

CREATE FUNCTION leyser.guard_alerts()
    RETURNS TABLE (alert text, subject text, since timestamptz, detail text, remedy text)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    fence record;
    restored leyser.restore_record;
BEGIN
    SELECT f.* INTO fence FROM leyser.look_at_fence() f;
    SELECT r.* INTO restored FROM leyser.restore_record r WHERE r.released_at IS NULL ORDER BY r.restore_id DESC LIMIT 1;
    IF fence.verdict = 'none' THEN
        RETURN QUERY SELECT 'no fence yet', 'leyser.fence_directory', fence.since,
            'Nothing could tell a restored server which tenants must not come back; purges wait for it.',
            'Set leyser.keyring_directory or leyser.fence_directory to a directory in which the server may write.';
    ELSIF fence.message IS NOT NULL THEN
        RETURN QUERY SELECT CASE WHEN fence.verdict = 'lost' THEN 'fence missing' WHEN fence.held THEN 'restored' ELSE 'fence ahead' END,
            current_database()::text, coalesce(restored.noticed_at, fence.since),
            fence.message || CASE WHEN fence.held THEN '; purges and the expiry of backups are held.' ELSE '.' END, fence.remedy;
    END IF;
    RETURN QUERY SELECT 'tenant came back', e.tenant_id, coalesce(restored.noticed_at, fence.since),
            CASE WHEN bool_or(e.erased_at IS NOT NULL) THEN 'It was erased after the moment that was restored; it is locked.'
                 ELSE 'Its erasure began after the moment that was restored; it is locked.' END, fence.remedy
        FROM leyser.fence_entries() e WHERE NOT e.known GROUP BY e.tenant_id ORDER BY e.tenant_id;
    IF restored.restore_id IS NOT NULL THEN
        RETURN QUERY SELECT 'changes lost', current_database()::text, restored.noticed_at,
            format('What changed since %s is lost: accounts that were disabled, grants and issuer keys that were removed are back.',
                   coalesce(to_char(restored.restored_to AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS"Z"'), 'the backup')),
            'Review accounts, grants, contracts and issuer keys with those who changed them.';
    END IF;
    IF NOT EXISTS (SELECT FROM leyser.signing_key k WHERE k.state = 'active')
       AND EXISTS (SELECT FROM leyser.signing_key k WHERE k.state = 'retired') THEN
        RETURN QUERY SELECT 'no signing key', current_database()::text, (SELECT max(k.retired_at) FROM leyser.signing_key k),
            'All signing keys are retired: nobody can log in.',
            'A key custodian: SELECT leyser.activate_signing_key(leyser.stage_signing_key());';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.guard_alerts() FROM PUBLIC;
COMMENT ON FUNCTION leyser.guard_alerts() IS
    'operator, backup, auditor: what a restore brought back and what is held because of it, or that a fence is missing; no row: nothing';
