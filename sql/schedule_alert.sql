-- What needs somebody: plain rows, with since when and what to do.
--
-- A row is there as long as its cause is, and its time is that of the cause, so two
-- looks agree.

CREATE FUNCTION leyser.told_time(moment timestamptz) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC' $$;
REVOKE ALL ON FUNCTION leyser.told_time(timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.told_time(timestamptz) IS 'internal: a moment for people, whatever the time zone of the session is';

CREATE FUNCTION leyser.heartbeat_alerts()
    RETURNS TABLE (alert text, subject text, since timestamptz, detail text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'heartbeat silent', current_database()::text, coalesce(t.last_tick_at, (SELECT min(e.at) FROM leyser.event_record e), pg_postmaster_start_time()),
           CASE WHEN t.last_tick_at IS NULL THEN 'Nobody has called leyser.tick() yet: contracts end, but no purge begins.'
                ELSE format('leyser.tick() was last called at %s, by %s.', leyser.told_time(t.last_tick_at), t.last_tick_by) END,
           'leyser.schedule() has pg_cron call it each minute; any other scheduler may. See cron.job_run_details, or that scheduler''s log.'
    FROM (VALUES (1)) one LEFT JOIN leyser.tick_record t ON true
    -- the first tick of a new schedule is on its way
    WHERE (coalesce(t.last_tick_at, (SELECT min(c.scheduled_at) FROM leyser.cron_job_record c))
           > clock_timestamp() - interval '5 minutes') IS NOT TRUE
    UNION ALL
    SELECT 'clock moved back', current_database()::text, t.latest_at,
           format('The clock stands at %s; a tick has seen %s.', leyser.told_time(clock_timestamp()), leyser.told_time(t.latest_at)),
           'Until it is that time again nothing is deleted. Where the present time is right: CALL leyser.tick(accept_clock => true);'
    FROM leyser.tick_record t WHERE leyser.clock_is_back()
$$;
REVOKE ALL ON FUNCTION leyser.heartbeat_alerts() FROM PUBLIC;
COMMENT ON FUNCTION leyser.heartbeat_alerts() IS 'internal: whether somebody ticks, and the clock goes forward';

CREATE FUNCTION leyser.schedule_alerts()
    RETURNS TABLE (alert text, subject text, since timestamptz, detail text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT * FROM leyser.heartbeat_alerts()
    UNION ALL
    SELECT 'job failing', r.job, r.failing_since, format('%s failures, the last: %s', r.failures, r.last_error),
           'It is tried again, later each time. See view leyser.job_run.'
    FROM leyser.job_record r WHERE r.failures > 0
    UNION ALL
    SELECT 'job late', r.job, r.due_at, format('It was due at %s.', leyser.told_time(r.due_at)),
           'See views leyser.job and leyser.job_run, and that somebody calls leyser.tick() each minute.'
    FROM leyser.job_record r
    WHERE r.daily_at IS NOT NULL AND r.due_at < clock_timestamp() - interval '1 hour' AND r.handed_to IS NULL AND leyser.job_is_wanted(r.job)
    UNION ALL
    SELECT CASE p.job WHEN 'queue purges' THEN 'purge cannot begin' ELSE 'pg_cron''s job' END, p.subject, p.since, p.detail, p.remedy
    FROM leyser.job_problem p
    WHERE p.job <> 'queue purges' OR p.subject NOT IN (SELECT leyser.settled_problems())
$$;
REVOKE ALL ON FUNCTION leyser.schedule_alerts() FROM PUBLIC;
COMMENT ON FUNCTION leyser.schedule_alerts() IS
    'internal: what is wrong with the schedule: the heartbeat, the clock, jobs, purges that cannot begin, pg_cron''s jobs';

-- ---- archiving ----

-- The oldest segment that waits; a name of a file that is being renamed may be gone.
CREATE FUNCTION leyser.oldest_unarchived() RETURNS TABLE (segment text, since timestamptz, waiting bigint)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    SELECT left(f.name, -6), f.modification, count(*) OVER ()
    FROM pg_ls_archive_statusdir() f WHERE f.name ~ '\.ready$'
    ORDER BY f.modification, f.name LIMIT 1
$$;
REVOKE ALL ON FUNCTION leyser.oldest_unarchived() FROM PUBLIC;
COMMENT ON FUNCTION leyser.oldest_unarchived() IS
    'internal: the write-ahead log segment that has waited longest to be archived, and how many do';

-- A backup from a tool's repository is nothing without the log from its beginning to
-- its end.  What is missing between the archive's ends only a restore would tell.
CREATE FUNCTION leyser.archive_gaps()
    RETURNS TABLE (alert text, subject text, since timestamptz, detail text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'archive gapped', format('%s %s: %s', g.tool, g.source, g.label), greatest(g.completed_at, a.seen_at),
           format('The backup needs the write-ahead log from %s to %s; its archive goes from segment %s to %s.',
                  g.start_lsn, g.stop_lsn, a.oldest_segment, coalesce(a.newest_segment, 'an unknown one')),
           'Find out who removed segments, or why they do not arrive; take another backup.'
    FROM leyser.generation_record g
    JOIN leyser.wal_archive_record a ON a.tool = g.tool AND a.source = g.source AND a.system_identifier = g.system_identifier
    WHERE g.state IN ('complete', 'verified') AND g.system_identifier = leyser.this_system()
      AND (g.stop_lsn > leyser.segment_lsn(a.newest_segment, a.system_identifier)
                             + pg_size_bytes(current_setting('wal_segment_size'))
           OR leyser.segment_lsn(a.oldest_segment, a.system_identifier) > g.start_lsn)
$$;
REVOKE ALL ON FUNCTION leyser.archive_gaps() FROM PUBLIC;
COMMENT ON FUNCTION leyser.archive_gaps() IS
    'internal: backups whose write-ahead log is not whole in their tool''s archive, as that was seen last';

CREATE FUNCTION leyser.archive_alerts()
    RETURNS TABLE (alert text, subject text, since timestamptz, detail text, remedy text)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'archiving failing', a.last_failed_wal, coalesce(a.last_archived_time, a.stats_reset),
           format('It last failed at %s, %s times since the statistics were reset; segments that cannot be archived fill pg_wal.',
                  leyser.told_time(a.last_failed_time), a.failed_count),
           'See the server log, and archive_command or archive_library.'
    FROM pg_stat_archiver a
    WHERE current_setting('archive_mode') <> 'off' AND a.last_failed_time > coalesce(a.last_archived_time, '-infinity')
    UNION ALL
    SELECT 'archiving late', o.segment, o.since, format('%s segments wait to be archived, the oldest since %s.', o.waiting, leyser.told_time(o.since)),
           'See the server log and pg_stat_archiver; the archive must be as fast as the server writes.'
    FROM leyser.oldest_unarchived() o
    WHERE current_setting('archive_mode') <> 'off' AND NOT pg_is_in_recovery() AND o.since < clock_timestamp() - interval '10 minutes'
    UNION ALL
    SELECT 'archiving off', current_database()::text, pg_postmaster_start_time(),
           format('The server archives no write-ahead log, without which %s''s backups cannot be restored.', g.tools),
           'ALTER SYSTEM SET archive_mode = on; archive_command as the tool says; restart the server.'
    FROM (SELECT string_agg(DISTINCT r.tool, ' and ') AS tools FROM leyser.generation_record r
          WHERE r.tool IN ('pgbackrest', 'barman') AND r.deleted_at IS NULL) g
    WHERE current_setting('archive_mode') = 'off' AND g.tools IS NOT NULL
    UNION ALL
    SELECT * FROM leyser.archive_gaps()
$$;
REVOKE ALL ON FUNCTION leyser.archive_alerts() FROM PUBLIC;
COMMENT ON FUNCTION leyser.archive_alerts() IS
    'internal: write-ahead log that is not archived, though it is to be';

-- ---- all of them ----

CREATE FUNCTION leyser.list_alerts(details boolean DEFAULT true)
    RETURNS TABLE (alert text, subject text, since timestamptz, detail text, remedy text)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT * FROM leyser.schedule_alerts()
    UNION ALL SELECT * FROM leyser.archive_alerts()
    -- a tick that has seen a later time says so already, and what to do
    UNION ALL SELECT b.* FROM leyser.backup_alerts() b WHERE b.alert <> 'clock moved back' OR NOT leyser.clock_is_back()
    UNION ALL SELECT * FROM leyser.horizon_alerts(details => list_alerts.details)
    UNION ALL SELECT * FROM leyser.guard_alerts()
    UNION ALL SELECT * FROM leyser.event_alerts()
    UNION ALL SELECT * FROM leyser.mail_alerts()
$$;
REVOKE ALL ON FUNCTION leyser.list_alerts(boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.list_alerts(boolean) IS
    'internal: the rows of view backup_alert; details: also those that are as long as the books';

CREATE VIEW leyser.backup_alert AS SELECT a.alert, a.subject, a.since, a.detail, a.remedy FROM leyser.list_alerts() a;
COMMENT ON VIEW leyser.backup_alert IS
    'what needs somebody, about backups, erasure, the schedule and mail: since when, and what to do (operator, backup, auditor)';
