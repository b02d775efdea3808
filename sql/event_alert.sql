-- What is wrong with the keeping of events: seals that are not made, and the server log,
-- which has a line of each event.  Where something else than the server writes its files
-- (logging_collector is off) or takes them away, nothing is known of them here, save for
-- Debian's logrotate, whose file says for how long it keeps them: ten weeks as it comes.

-- A name that comes again, with what was there thrown away, before six months are over.
CREATE FUNCTION leyser.log_is_overwritten(file_name text) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT position('%Y' IN file_name) = 0 AND position('%y' IN file_name) = 0 AND position('%s' IN file_name) = 0
         AND position('%G' IN file_name) = 0 AND position('%F' IN file_name) = 0 AND position('%j' IN file_name) = 0 AND position('%m' IN file_name) = 0 $$;
REVOKE ALL ON FUNCTION leyser.log_is_overwritten(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.log_is_overwritten(text) IS
    'internal: whether log_filename names a file again within a month';

-- How many days of logs a file for logrotate keeps; the least where it says so twice.
CREATE FUNCTION leyser.logrotate_days(settings text) RETURNS integer
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    SELECT least((SELECT min(r.number[1]::numeric) FROM regexp_matches(s.bare, '^\s*rotate\s+(\d{1,9})\s*$', 'gn') r (number))
                 * (SELECT min(CASE u.unit[1] WHEN 'hourly' THEN 0.04 WHEN 'daily' THEN 1 WHEN 'weekly' THEN 7 WHEN 'monthly' THEN 30 ELSE 365 END)
                    FROM regexp_matches(s.bare, '^\s*(hourly|daily|weekly|monthly|yearly)(?:\s+\d+)?\s*$', 'gn') u (unit)),
                 (SELECT min(a.days[1]::numeric) FROM regexp_matches(s.bare, '^\s*maxage\s+(\d{1,9})\s*$', 'gn') a (days)), 1000000)::integer
    FROM (SELECT regexp_replace(settings, '#[^\n]*', '', 'g')) s (bare)
$$;
REVOKE ALL ON FUNCTION leyser.logrotate_days(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.logrotate_days(text) IS
    'internal: for how many days logrotate keeps logs, by its file; 1000000 where that does not say';

CREATE FUNCTION leyser.logrotate_problems(path text, settings text) RETURNS TABLE (alert text, subject text, detail text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'server log kept too short', path, format('logrotate keeps the server log for %s days; it is to be there for six months.', d.days),
           format('In %s: weekly and rotate 27, without maxage; or have the lines shipped elsewhere, and kept there.', path)
    FROM leyser.logrotate_days(settings) d (days) WHERE d.days < 184
$$;
REVOKE ALL ON FUNCTION leyser.logrotate_problems(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.logrotate_problems(text, text) IS
    'internal: what is wrong with a file for logrotate';

CREATE FUNCTION leyser.server_log_problems() RETURNS TABLE (alert text, subject text, detail text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH setting AS (
        SELECT current_setting('logging_collector')::boolean AS collects, current_setting('log_filename') AS file_name,
               current_setting('log_truncate_on_rotation')::boolean AS truncates, current_setting('log_rotation_age') AS age,
               current_setting('log_rotation_size') AS size, current_setting('log_file_mode') AS mode,
               current_setting('log_min_messages') AS least
    )
    SELECT 'server log overwritten', 'log_filename', format('Files named "%s" are truncated when their name comes again, within a month at most.', s.file_name),
           'ALTER SYSTEM SET log_filename = ''postgresql-%Y-%m-%d.log''; SELECT pg_reload_conf(); and keep files for six months.'
    FROM setting s WHERE s.collects AND s.truncates AND leyser.log_is_overwritten(s.file_name)
    UNION ALL
    SELECT 'server log not rotated', 'log_rotation_age', 'Neither age nor size begins another file: none can be put away.',
           'ALTER SYSTEM SET log_rotation_age = ''1d''; SELECT pg_reload_conf();'
    FROM setting s WHERE s.collects AND s.age = '0' AND s.size = '0'
    UNION ALL
    SELECT 'server log readable', 'log_file_mode', format('Files have mode %s: everybody on the server reads who did what, and statements that failed.', s.mode),
           'ALTER SYSTEM SET log_file_mode = ''0600''; SELECT pg_reload_conf(); and chmod o-rwx of the files that are there.'
    FROM setting s WHERE s.collects AND right(s.mode, 1) <> '0'
    UNION ALL
    SELECT 'server log silent', 'log_min_messages', format('Events have level LOG, which log_min_messages = %s leaves out.', s.least),
           'ALTER SYSTEM RESET log_min_messages; SELECT pg_reload_conf();'
    FROM setting s WHERE s.least IN ('fatal', 'panic')
    UNION ALL
    -- a cluster that Debian's tools made, or whose files lie where theirs do
    SELECT p.* FROM setting s
    CROSS JOIN (VALUES ('/etc/logrotate.d/postgresql-common')) f (path)
    CROSS JOIN LATERAL leyser.logrotate_problems(f.path, pg_read_file(f.path, 0, 65536, true)) p
    WHERE CASE WHEN s.collects THEN current_setting('log_directory') LIKE '/var/log/postgresql%'
               ELSE current_setting('config_file') LIKE '/etc/postgresql/%' END
$$;
REVOKE ALL ON FUNCTION leyser.server_log_problems() FROM PUBLIC;
COMMENT ON FUNCTION leyser.server_log_problems() IS
    'internal: settings by which lines of the server log are lost, or read by everybody';

CREATE FUNCTION leyser.event_alerts()
    RETURNS TABLE (alert text, subject text, since timestamptz, detail text, remedy text)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY SELECT 'events not sealed', current_database()::text, p.at, format('%s events wait to be sealed, the oldest since %s.', p.waiting, leyser.told_time(p.at)),
           'See view leyser.job, and who holds a lock on leyser.event_seal.'
    FROM (SELECT min(e.at) AS at, count(*) AS waiting FROM leyser.event_pending e) p, leyser.tick_record t
    -- without a heartbeat that is the alert
    WHERE p.at < clock_timestamp() - interval '5 minutes' AND t.last_tick_at > clock_timestamp() - interval '5 minutes'
    UNION ALL
    SELECT l.alert, l.subject, pg_conf_load_time(), l.detail, l.remedy FROM leyser.server_log_problems() l;
END
$$;
REVOKE ALL ON FUNCTION leyser.event_alerts() FROM PUBLIC;
COMMENT ON FUNCTION leyser.event_alerts() IS
    'internal: what is wrong with the keeping of events and of the server log';
