-- Fences: what the tables have for them, and what they know more than the tables.

-- ---- the file ----

CREATE FUNCTION leyser.create_fence() RETURNS text
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_fence_create';
REVOKE ALL ON FUNCTION leyser.create_fence() FROM PUBLIC;
COMMENT ON FUNCTION leyser.create_fence() IS
    'internal: sees that there is a fence of this database; returns why that is not possible, or NULL';

-- The file first: a row without a file would mean that it was lost.
CREATE FUNCTION leyser.begin_fence() RETURNS boolean
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- a sound one without a row: what made it was rolled back
    IF (SELECT f.verdict FROM leyser.look_at_fence() f) NOT IN ('none', 'sound') OR leyser.create_fence() IS NOT NULL THEN
        RETURN false;
    END IF;
    INSERT INTO leyser.fence_record (database_id) SELECT i.database_id FROM leyser.identity i
        ON CONFLICT DO NOTHING;
    RETURN true;
END
$$;
REVOKE ALL ON FUNCTION leyser.begin_fence() FROM PUBLIC;
COMMENT ON FUNCTION leyser.begin_fence() IS
    'internal: sees that there is a fence, and a row that says so, where there never was one or a standby could not write it; false where it was lost, or none can be made';

-- A tenant that was purged more than once: what is further counts.
CREATE FUNCTION leyser.fence_content()
    RETURNS TABLE (tenant_id text, purge_id bigint, system_identifier bigint, started_lsn pg_lsn,
                   started_at timestamptz, erased_at timestamptz)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT t.tenant_id, coalesce(p.purge_id, 0), coalesce(p.started_system, (SELECT c.system_identifier FROM pg_control_system() c)),
           p.started_lsn, p.started_at, CASE WHEN t.state = 'erased' THEN coalesce(p.erased_at, t.state_since) END
    FROM leyser.tenant_record t
    LEFT JOIN LATERAL (SELECT r.* FROM leyser.purge_record r WHERE r.tenant_id = t.tenant_id AND r.started_at IS NOT NULL
                       ORDER BY r.purge_id DESC LIMIT 1) p ON true
    WHERE t.state = 'erased' OR p.purge_id IS NOT NULL
$$;
REVOKE ALL ON FUNCTION leyser.fence_content() FROM PUBLIC;
COMMENT ON FUNCTION leyser.fence_content() IS 'internal: the purges that have begun or are over, as a fence tells them';

CREATE FUNCTION leyser.fence_mark(OUT restores bigint, OUT event_id bigint, OUT incarnation uuid, OUT event_digest bigint)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT max(r.restore_id) FROM leyser.restore_record r WHERE r.released_at IS NOT NULL), 0),
           coalesce(e.event_id, 0),
           (SELECT f.incarnation FROM leyser.fence_record f JOIN leyser.identity i ON i.database_id = f.database_id),
           coalesce(('x' || encode(substr(e.digest, 1, 8), 'hex'))::bit(64)::bigint, 0)
    FROM (VALUES (1)) one
    LEFT JOIN (SELECT n.event_id, n.digest FROM leyser.event_record n ORDER BY n.event_id DESC LIMIT 1) e ON true
$$;
REVOKE ALL ON FUNCTION leyser.fence_mark() FROM PUBLIC;
COMMENT ON FUNCTION leyser.fence_mark() IS
    'internal: how far restores and events have come, in which incarnation (NULL: there is no fence yet), and the first bytes of the newest event''s digest';

CREATE FUNCTION leyser.fence_entries()
    RETURNS TABLE (database_id uuid, tenant_id text, purge_id bigint, system_identifier text, started_lsn pg_lsn,
                   started_at timestamptz, erased_at timestamptz, known boolean)
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_fence_list';
REVOKE ALL ON FUNCTION leyser.fence_entries() FROM PUBLIC;
COMMENT ON FUNCTION leyser.fence_entries() IS
    'internal: the purges in the fences of this database and of those that it was dumped from, and whether the tables know as much';

CREATE FUNCTION leyser.look_at_fence(OUT verdict text, OUT held boolean, OUT keys_refused boolean, OUT missing integer,
                                     OUT since timestamptz, OUT message text, OUT remedy text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_fence_status';
REVOKE ALL ON FUNCTION leyser.look_at_fence() FROM PUBLIC;
COMMENT ON FUNCTION leyser.look_at_fence() IS
    'internal: looks at the fence now: none, sound, ahead (the tables are older) or lost; whether work is held and own keys are refused, how many purges the tables do not know, since when, why, and what to do';

CREATE FUNCTION leyser.restore_is_held() RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_restore_is_held';
REVOKE ALL ON FUNCTION leyser.restore_is_held() FROM PUBLIC;
COMMENT ON FUNCTION leyser.restore_is_held() IS
    'operator, backup, auditor: whether a restore was noticed (or the fence is missing), so that purges and the expiry of backups wait for CALL leyser.replay_purges()';

CREATE FUNCTION leyser.refuse_while_held() RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    fence record;
BEGIN
    IF NOT leyser.restore_is_held() THEN
        RETURN;
    END IF;
    SELECT f.* INTO fence FROM leyser.look_at_fence() f;
    IF NOT fence.held THEN
        RETURN;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'LY008',
        MESSAGE = 'this waits until a restore is released',
        DETAIL = fence.message || '.', HINT = fence.remedy;
END
$$;
REVOKE ALL ON FUNCTION leyser.refuse_while_held() FROM PUBLIC;
COMMENT ON FUNCTION leyser.refuse_while_held() IS
    'internal: LY008 on a server that was restored, until that is released';

-- ---- a purge waits for its fence ----

CREATE FUNCTION leyser.note_fence(purge_id bigint, detail text, remedy text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    IF leyser.lock_purge(note_fence.purge_id) = 0 THEN
        RETURN;
    END IF;
    IF note_fence.detail IS NOT NULL THEN
        PERFORM leyser.move_purge(note_fence.purge_id, 'waiting');
        PERFORM leyser.replace_blockers(note_fence.purge_id, jsonb_build_array(jsonb_build_object('kind', 'fence',
            'subject', 'leyser.fence_directory', 'detail', note_fence.detail, 'remedy', note_fence.remedy)));
    ELSIF EXISTS (SELECT FROM leyser.purge_blocker b WHERE b.purge_id = note_fence.purge_id AND b.kind = 'fence') THEN
        PERFORM leyser.move_purge(note_fence.purge_id, 'deleting');
        PERFORM leyser.replace_blockers(note_fence.purge_id, NULL);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.note_fence(bigint, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.note_fence(bigint, text, text) IS
    'internal: a purge waits because its fence cannot be written, or (NULL) no longer';
