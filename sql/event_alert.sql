-- What is wrong with the keeping of events: seals that are not made, and the server log,
-- which has a line of each event.  Where something else than the server writes its files
-- (logging_collector is off: a service manager, Debian's logrotate) nothing is known of
-- them here.

-- A name that comes again, with what was there thrown away, before six months are over.
CREATE FUNCTION leyser.log_is_overwritten(file_name text) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT position('%Y' IN file_name) = 0 AND position('%y' IN file_name) = 0 AND position('%s' IN file_name) = 0
         AND position('%G' IN file_name) = 0 AND position('%F' IN file_name) = 0 AND position('%j' IN file_name) = 0 AND position('%m' IN file_name) = 0 $$;
REVOKE ALL ON FUNCTION leyser.log_is_overwritten(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.log_is_overwritten(text) IS
    'internal: whether log_filename names a file again within a month';

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
