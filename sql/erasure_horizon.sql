-- When an erased tenant is gone from every backup, too.
--
-- A generation is clean of a tenant if its write-ahead log, and that of all it needs,
-- begins where the scrub had ended or later, on the same system and in the purge's
-- timeline or this server's past: another branch of the past may never have seen the
-- purge.  A snapshot holds pg_wal besides, which is clean only when the purge says
-- erased.  After pg_upgrade LSNs are others: there a generation is clean if its system,
-- or this database's life on it, began after the erasure.  Where nothing is known,
-- and in restored copies of unknown place, the tenant is.
--
-- Nothing here compares each purge with each generation.  Every generation and archive
-- gets one bound in each series of purges (of one system and timeline): it is clean of
-- the purges that ended up to there.  Sorted by it, what holds a tenant is a prefix.

-- ---- archives of write-ahead log ----

CREATE FUNCTION leyser.keep_archive_history() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    archive leyser.wal_archive_record := CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
    begins pg_lsn := CASE TG_OP WHEN 'DELETE' THEN 'FFFFFFFF/FFFFFFFF' ELSE archive.oldest_lsn END;
    last leyser.wal_archive_history;
BEGIN
    SELECT h.* INTO last FROM leyser.wal_archive_history h
        WHERE h.tool = archive.tool AND h.source = archive.source AND h.system_identifier = archive.system_identifier
        ORDER BY h.since DESC LIMIT 1;
    IF NOT FOUND OR (last.oldest_lsn, last.timeline) IS DISTINCT FROM (begins, archive.timeline) THEN
        INSERT INTO leyser.wal_archive_history (tool, source, system_identifier, timeline, oldest_lsn, since)
            VALUES (archive.tool, archive.source, archive.system_identifier, archive.timeline, begins,
                    -- in order, whatever the clock says
                    greatest(CASE TG_OP WHEN 'DELETE' THEN clock_timestamp() ELSE archive.seen_at END,
                             last.since + interval '1 microsecond'));
    END IF;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION leyser.keep_archive_history() FROM PUBLIC;
COMMENT ON FUNCTION leyser.keep_archive_history() IS
    'internal trigger: writes down since when an archive of write-ahead log begins where';
CREATE TRIGGER keep_archive_history AFTER INSERT OR UPDATE OR DELETE ON leyser.wal_archive_record
    FOR EACH ROW EXECUTE FUNCTION leyser.keep_archive_history();
ALTER TABLE leyser.wal_archive_record ENABLE ALWAYS TRIGGER keep_archive_history;
COMMENT ON TRIGGER keep_archive_history ON leyser.wal_archive_record IS
    'the day on which an archive was past a purge is known later, too';

CREATE FUNCTION leyser.record_wal_archive(source text, oldest_segment text, newest_segment text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    oldest pg_lsn;
BEGIN
    PERFORM leyser.check_line('source', record_wal_archive.source, true);
    IF coalesce(record_wal_archive.oldest_segment !~ '^[0-9A-F]{24}$', false)
            OR coalesce(record_wal_archive.newest_segment !~ '^[0-9A-F]{24}$', false)
            OR substr(record_wal_archive.newest_segment, 9) < substr(record_wal_archive.oldest_segment, 9)
            OR record_wal_archive.oldest_segment IS NULL AND record_wal_archive.newest_segment IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid segments of an archive',
            DETAIL = 'They are no names of 24 hexadecimal digits, or in the wrong order.',
            HINT = 'Give the names of the oldest and the newest file of the archive; NULL for an archive without any.';
    END IF;
    PERFORM leyser.lock_books();
    PERFORM leyser.note_system();
    oldest := leyser.segment_lsn(record_wal_archive.oldest_segment, leyser.this_system());
    -- an archive that was never there is written down before it is gone
    INSERT INTO leyser.wal_archive_record AS w (tool, source, system_identifier, timeline, oldest_segment, newest_segment, oldest_lsn)
        VALUES ('manual', record_wal_archive.source, leyser.this_system(), leyser.segment_part(record_wal_archive.oldest_segment, 1),
                record_wal_archive.oldest_segment, record_wal_archive.newest_segment, oldest)
        ON CONFLICT (tool, source, system_identifier) DO UPDATE
            SET timeline = excluded.timeline, oldest_segment = excluded.oldest_segment,
                newest_segment = excluded.newest_segment, oldest_lsn = excluded.oldest_lsn, seen_at = clock_timestamp();
    IF record_wal_archive.oldest_segment IS NULL THEN
        DELETE FROM leyser.wal_archive_record w WHERE w.tool = 'manual' AND w.source = record_wal_archive.source
            AND w.system_identifier = leyser.this_system();
    END IF;
    PERFORM leyser.record_event('backup.archive_recorded', NULL, record_wal_archive.source,
        jsonb_build_object('oldest_segment', record_wal_archive.oldest_segment, 'newest_segment', record_wal_archive.newest_segment));
END
$$;
REVOKE ALL ON FUNCTION leyser.record_wal_archive(text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.record_wal_archive(text, text, text) IS
    'backup: where this system''s archive of write-ahead log begins and ends, for one that no import tells of: a name for it, its oldest and newest segment; NULL as the oldest: it is empty; 22023 for what cannot be, 55P03, 25000 as begin_backup()';

-- ---- bounds ----

-- Of generations, and of each place where an archive was seen to begin.
CREATE FUNCTION leyser.horizon_holders()
    RETURNS TABLE (generation_id bigint, archive text, since timestamptz, label text, alive boolean, deadline timestamptz,
                   deleted_at timestamptz, system_identifier bigint, timeline integer, own boolean, start_lsn pg_lsn,
                   snapshot_at timestamptz, system_began timestamptz)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
    WITH system AS MATERIALIZED (
        -- initdb's time is the upper half of the identifier
        SELECT s.*, to_timestamp((s.system_identifier >> 32) & 4294967295) AS made FROM leyser.system_record s
    )
    SELECT g.generation_id, NULL, NULL::timestamptz, g.label, g.deleted_at IS NULL, d.deadline, g.deleted_at,
           c.system_identifier, c.timeline, c.own, c.start_lsn, CASE WHEN g.kind = 'snapshot' THEN g.started_at END,
           CASE WHEN g.kind <> 'restore_copy' THEN greatest(s.made, CASE WHEN c.start_lsn >= s.since_lsn THEN s.since END) END
    FROM leyser.generation_record g
    LEFT JOIN leyser.generation_chains() c ON c.generation_id = g.generation_id
    LEFT JOIN leyser.generation_deadlines() d ON d.generation_id = g.generation_id
    LEFT JOIN system s ON s.system_identifier = c.system_identifier
    UNION ALL
    SELECT NULL, concat_ws(' ', h.tool, nullif(h.source, ''), 'of system', h.system_identifier), h.since, NULL, NULL, NULL, NULL,
           h.system_identifier, h.timeline, h.oldest_lsn = 'FFFFFFFF/FFFFFFFF' OR coalesce(h.oldest_lsn < t.until, false),
           h.oldest_lsn, NULL, greatest(s.made, CASE WHEN h.oldest_lsn = 'FFFFFFFF/FFFFFFFF' THEN 'infinity'
                                                     WHEN h.oldest_lsn >= s.since_lsn THEN s.since END)
    FROM leyser.wal_archive_history h
    LEFT JOIN leyser.own_timelines() t ON t.timeline = h.timeline AND h.system_identifier = leyser.this_system()
    LEFT JOIN system s ON s.system_identifier = h.system_identifier
$$;
REVOKE ALL ON FUNCTION leyser.horizon_holders() FROM PUBLIC;
COMMENT ON FUNCTION leyser.horizon_holders() IS
    'internal: what may hold erased tenants, generations and archives of write-ahead log (one row for each place where one began, since when), and what tells how far';

CREATE FUNCTION leyser.horizon_bounds()
    RETURNS TABLE (system_identifier bigint, timeline integer, bound pg_lsn, generation_id bigint, archive text, since timestamptz,
                   label text, alive boolean, deadline timestamptz, deleted_at timestamptz)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
    WITH purge AS MATERIALIZED (
        SELECT p.scrub_system, p.scrub_timeline, p.scrub_end_lsn, p.erased_at FROM leyser.purge_record p WHERE p.state = 'erased'
    ), holder AS MATERIALIZED (
        SELECT s.scrub_system, s.scrub_timeline, h.*,
               -- by place …
               CASE WHEN h.system_identifier IS DISTINCT FROM s.scrub_system THEN 'FFFFFFFF/FFFFFFFF'::pg_lsn
                    WHEN h.own OR h.timeline = s.scrub_timeline THEN coalesce(h.start_lsn, '0/0') ELSE '0/0' END AS place,
               -- … and by time: clean of what was erased before
               CASE WHEN h.system_identifier IS DISTINCT FROM s.scrub_system THEN coalesce(h.system_began, '-infinity')
                    ELSE h.snapshot_at END AS erased_before
        FROM (SELECT DISTINCT p.scrub_system, p.scrub_timeline FROM purge p) s CROSS JOIN leyser.horizon_holders() h
    ), event (scrub_system, scrub_timeline, at, is_bound, scrub_end_lsn) AS (
        SELECT DISTINCT h.scrub_system, h.scrub_timeline, h.erased_before, true, NULL::pg_lsn FROM holder h WHERE h.erased_before IS NOT NULL
        UNION ALL
        SELECT p.scrub_system, p.scrub_timeline, p.erased_at, false, p.scrub_end_lsn FROM purge p
    ), first_after AS (
        -- of the purges at that time and later, the first in the log
        SELECT e.scrub_system, e.scrub_timeline, e.at AS erased_before, e.is_bound,
               min(e.scrub_end_lsn) OVER (PARTITION BY e.scrub_system, e.scrub_timeline ORDER BY e.at DESC NULLS LAST) - 1 AS bound
        FROM event e
    )
    SELECT h.scrub_system, h.scrub_timeline, least(h.place, f.bound), h.generation_id, h.archive, h.since, h.label, h.alive, h.deadline, h.deleted_at
    FROM holder h LEFT JOIN first_after f ON f.scrub_system IS NOT DISTINCT FROM h.scrub_system
        AND f.scrub_timeline IS NOT DISTINCT FROM h.scrub_timeline AND f.erased_before = h.erased_before AND f.is_bound
$$;
REVOKE ALL ON FUNCTION leyser.horizon_bounds() FROM PUBLIC;
COMMENT ON FUNCTION leyser.horizon_bounds() IS
    'internal: for the purges of a system and timeline, up to which scrub_end_lsn each holder is clean';

-- ---- the horizon ----

-- In the order of bounds, those before a purge hold its tenant.
CREATE FUNCTION leyser.horizon_places()
    RETURNS TABLE (purge_id bigint, place bigint, holding bigint, deadline timestamptz, deleted_at timestamptz)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
    WITH event (purge_id, generation_id, system_identifier, timeline, lsn, alive, deadline, deleted_at) AS (
        SELECT NULL::bigint, b.generation_id, b.system_identifier, b.timeline, b.bound, b.alive, b.deadline, b.deleted_at
        FROM leyser.horizon_bounds() b WHERE b.generation_id IS NOT NULL
        UNION ALL
        SELECT p.purge_id, NULL, p.scrub_system, p.scrub_timeline, p.scrub_end_lsn, NULL, NULL, NULL
        FROM leyser.purge_record p WHERE p.state = 'erased'
    ), placed AS (
        SELECT e.purge_id, count(e.generation_id) OVER w AS place, count(*) FILTER (WHERE e.alive) OVER w AS holding,
               max(e.deadline) OVER w AS deadline, max(e.deleted_at) OVER w AS deleted_at
        FROM event e
        WINDOW w AS (PARTITION BY e.system_identifier, e.timeline
            ORDER BY e.lsn, e.generation_id NULLS FIRST ROWS UNBOUNDED PRECEDING)
    )
    SELECT * FROM placed p WHERE p.purge_id IS NOT NULL
$$;
REVOKE ALL ON FUNCTION leyser.horizon_places() FROM PUBLIC;
COMMENT ON FUNCTION leyser.horizon_places() IS
    'internal: of each purge that has ended, how many generations may hold its tenant or did, how many of them are there, when the last is due to be gone, and when the last went';

-- Long: gathered once for each place, and joined to the purges last, by who asks for it.
CREATE FUNCTION leyser.horizon_prefixes()
    RETURNS TABLE (system_identifier bigint, timeline integer, place bigint, generations bigint[], labels text[])
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
    SELECT b.system_identifier, b.timeline, row_number() OVER w,
           array_agg(b.generation_id) FILTER (WHERE b.alive) OVER w, array_agg(b.label) FILTER (WHERE b.alive) OVER w
    FROM leyser.horizon_bounds() b WHERE b.generation_id IS NOT NULL
    WINDOW w AS (PARTITION BY b.system_identifier, b.timeline ORDER BY b.bound, b.generation_id ROWS UNBOUNDED PRECEDING)
$$;
REVOKE ALL ON FUNCTION leyser.horizon_prefixes() FROM PUBLIC;
COMMENT ON FUNCTION leyser.horizon_prefixes() IS
    'internal: for the purges of a system and timeline, the generations up to each place in the order of their bounds that are there; NULL where none is';

-- An archive is past a purge since it has begun after it and did not go back since.
CREATE FUNCTION leyser.horizon_archives() RETURNS TABLE (purge_id bigint, archive text, past_since timestamptz)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
    WITH lowest AS (
        SELECT b.system_identifier, b.timeline, b.archive, b.since,
               min(b.bound) OVER (PARTITION BY b.system_identifier, b.timeline, b.archive ORDER BY b.since DESC
                                  ROWS UNBOUNDED PRECEDING) AS bound
        FROM leyser.horizon_bounds() b WHERE b.archive IS NOT NULL
    ), series AS (
        SELECT DISTINCT l.system_identifier, l.timeline, l.archive FROM lowest l
    ), event AS (
        SELECT NULL::bigint AS purge_id, l.* FROM lowest l
        UNION ALL
        SELECT p.purge_id, s.system_identifier, s.timeline, s.archive, NULL, p.scrub_end_lsn
        FROM leyser.purge_record p JOIN series s ON s.system_identifier IS NOT DISTINCT FROM p.scrub_system
            AND s.timeline IS NOT DISTINCT FROM p.scrub_timeline
        WHERE p.state = 'erased'
    ), past AS (
        SELECT e.purge_id, e.archive, min(e.since) OVER (PARTITION BY e.system_identifier, e.timeline, e.archive
            ORDER BY e.bound DESC, e.purge_id NULLS FIRST ROWS UNBOUNDED PRECEDING) AS past_since
        FROM event e
    )
    SELECT * FROM past WHERE purge_id IS NOT NULL
$$;
REVOKE ALL ON FUNCTION leyser.horizon_archives() FROM PUBLIC;
COMMENT ON FUNCTION leyser.horizon_archives() IS
    'internal: of each purge that has ended, the archives of write-ahead log and since when each is past it; NULL where it is not';

-- A server that archives, or did, of whose archive nobody told.  What the server has
-- counted is lost in a crash, but archiving is turned off by a restart only.
CREATE FUNCTION leyser.unknown_archive() RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT (current_setting('archive_mode') <> 'off' OR (SELECT a.archived_count > 0 FROM pg_stat_archiver a))
       AND NOT EXISTS (SELECT FROM leyser.wal_archive_history h WHERE h.system_identifier = leyser.this_system())
$$;
REVOKE ALL ON FUNCTION leyser.unknown_archive() FROM PUBLIC;
COMMENT ON FUNCTION leyser.unknown_archive() IS
    'internal: this server archives its write-ahead log, or did, and the books know nothing of the archive';

-- All but which generations: whoever counts or dates erasures needs no more.
CREATE FUNCTION leyser.horizon_ends()
    RETURNS TABLE (tenant_id text, purge_id bigint, erased_at timestamptz, scrub_end_lsn pg_lsn, system_identifier bigint,
                   timeline integer, place bigint, wal_archives text[], due_at timestamptz, gone_at timestamptz)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
    WITH archive AS (
        SELECT a.purge_id, coalesce(array_agg(a.archive ORDER BY a.archive) FILTER (WHERE a.past_since IS NULL), '{}') AS holding,
               max(a.past_since) AS past_since
        FROM leyser.horizon_archives() a GROUP BY a.purge_id
    ), judged AS (
        SELECT p.tenant_id, p.purge_id, p.erased_at, p.scrub_end_lsn, p.scrub_system, p.scrub_timeline, l.place, l.holding,
               coalesce(a.holding, '{}') || CASE WHEN u.unknown THEN '{of which nothing is known}'::text[] ELSE '{}' END AS wal_archives,
               b.known, greatest(p.erased_at, l.deadline, CASE WHEN NOT b.known OR u.unknown OR a.purge_id IS NOT NULL
                   THEN (p.erased_at AT TIME ZONE 'UTC' + y.max_age + y.slack) AT TIME ZONE 'UTC' END) AS due_at,
               greatest(p.erased_at, l.deleted_at, a.past_since) AS gone_at
        FROM leyser.purge_record p CROSS JOIN leyser.present_backup_policy() y CROSS JOIN leyser.unknown_archive() u (unknown)
        CROSS JOIN (SELECT EXISTS (SELECT FROM leyser.generation_record)) b (known)
        JOIN leyser.horizon_places() l ON l.purge_id = p.purge_id
        LEFT JOIN archive a ON a.purge_id = p.purge_id
        WHERE p.state = 'erased'
    )
    SELECT j.tenant_id, j.purge_id, j.erased_at, j.scrub_end_lsn, j.scrub_system, j.scrub_timeline, j.place, j.wal_archives, j.due_at,
           -- books that know of no backup tell nothing
           CASE WHEN j.known AND j.holding = 0 AND j.wal_archives = '{}' THEN j.gone_at END
    FROM judged j
$$;
REVOKE ALL ON FUNCTION leyser.horizon_ends() FROM PUBLIC;
COMMENT ON FUNCTION leyser.horizon_ends() IS
    'internal: of each purge that has ended, its place among the generations, the archives that may hold its tenant, the day on which the last of all is due to be gone, and the day on which it went';

CREATE FUNCTION leyser.list_horizon()
    RETURNS TABLE (tenant_id text, purge_id bigint, erased_at timestamptz, scrub_end_lsn pg_lsn, generations bigint[], labels text[],
                   wal_archives text[], due_at timestamptz, gone_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
    SELECT e.tenant_id, e.purge_id, e.erased_at, e.scrub_end_lsn, coalesce(g.generations, '{}'), coalesce(g.labels, '{}'),
           e.wal_archives, e.due_at, e.gone_at
    FROM leyser.horizon_ends() e
    LEFT JOIN leyser.horizon_prefixes() g ON g.place = e.place
        AND g.system_identifier IS NOT DISTINCT FROM e.system_identifier AND g.timeline IS NOT DISTINCT FROM e.timeline
$$;
REVOKE ALL ON FUNCTION leyser.list_horizon() FROM PUBLIC;
COMMENT ON FUNCTION leyser.list_horizon() IS 'internal: the rows of view erasure_horizon';

CREATE VIEW leyser.erasure_horizon AS SELECT * FROM leyser.list_horizon();
COMMENT ON VIEW leyser.erasure_horizon IS
    'of each erased tenant, which backup generations and archives of write-ahead log may still hold it, the day on which the last is due to be gone, and the day on which it went (backup, operator, auditor)';

CREATE FUNCTION leyser.horizon_alerts(at timestamptz DEFAULT clock_timestamp(), details boolean DEFAULT true)
    RETURNS TABLE (alert text, subject text, since timestamptz, detail text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    -- a thousand numbers are written out once, not for each tenant
    WITH prefix AS MATERIALIZED (
        SELECT g.system_identifier, g.timeline, g.place, 'generations ' || array_to_string(g.generations, ', ') AS told
        FROM leyser.horizon_prefixes() g WHERE horizon_alerts.details
    )
    SELECT 'horizon missed', e.tenant_id, e.due_at,
           CASE WHEN horizon_alerts.details THEN format('The erased tenant may still be in %s.', coalesce(nullif(concat_ws(' and ', p.told,
               CASE WHEN e.wal_archives <> '{}' THEN 'WAL archives: ' || array_to_string(e.wal_archives, ', ') END), ''),
               'backups that the books know nothing of')) END,
           'Delete them, or have their tool expire them; then import its catalogue, or call leyser.confirm_backup_deleted() or record_wal_archive().'
    FROM leyser.horizon_ends() e
    LEFT JOIN prefix p ON p.place = e.place
        AND p.system_identifier IS NOT DISTINCT FROM e.system_identifier AND p.timeline IS NOT DISTINCT FROM e.timeline
    WHERE e.gone_at IS NULL AND e.due_at < horizon_alerts.at
    UNION ALL
    SELECT 'archive unknown', current_setting('cluster_name'), min(p.erased_at),
           'This server archives its write-ahead log, or did, and nothing tells from where on the archive still holds it.',
           'Import the catalogue of the tool that keeps it, or call leyser.record_wal_archive().'
    FROM leyser.purge_record p WHERE leyser.unknown_archive() AND p.state = 'erased' HAVING count(*) > 0
$$;
REVOKE ALL ON FUNCTION leyser.horizon_alerts(timestamptz, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.horizon_alerts(timestamptz, boolean) IS
    'internal: the erased tenants that were due to be gone from all backups at a moment and are not, and a WAL archive of which nothing is known; without details where nobody reads them';
