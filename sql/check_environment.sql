-- Security checks: more of the server's doors, its files and its clock.

CREATE FUNCTION leyser.environment_rules()
    RETURNS TABLE (check_id text, severity text, fails text, what text, why text, example text, remedy text)
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $rules$
    VALUES
    ('server.hba_ident', 'medium', 'open', 'A line of pg_hba.conf believes what the client''s machine says who comes.',
     'Whoever rules that machine is any role.',
     '-- in pg_hba.conf: host all all 10.0.0.0/8 ident', '-- in pg_hba.conf: scram-sha-256 in place of ident; SELECT pg_reload_conf();'),
    ('server.hba_all', 'low', 'open', 'A line of pg_hba.conf lets every role into every database from the network.',
     'Superusers and owners are among them; few ways in are easier to watch.',
     '-- in pg_hba.conf: hostssl all all 10.0.0.0/8 scram-sha-256', '-- in pg_hba.conf: the databases and roles that are meant; SELECT pg_reload_conf();'),
    ('server.hba_replication', 'medium', 'open', 'A line of pg_hba.conf lets every role replicate from the network.',
     'Whoever replicates reads all tenants'' rows: the standby''s role and address are enough.',
     '-- in pg_hba.conf: hostssl replication all 10.0.0.0/8 scram-sha-256', '-- in pg_hba.conf: the role and the address of the standby; SELECT pg_reload_conf();'),
    ('server.tls_ciphers', 'medium', 'open', 'Weak or anonymous ciphers of TLS are allowed.',
     'They can be broken, or prove nobody''s identity.',
     'ALTER SYSTEM SET ssl_ciphers = ''ALL''; SELECT pg_reload_conf();', 'ALTER SYSTEM SET ssl_ciphers = ''HIGH:!aNULL''; SELECT pg_reload_conf();'),
    ('server.data_mode', 'low', 'open', 'A group of the machine reads the data directory.',
     'All tenants'' rows lie there.',
     '-- a cluster made by initdb --allow-group-access', '-- stop the server, chmod -R g-rwx the data directory, start it'),
    ('server.log_file_mode', 'medium', 'open', 'Every account of the machine may read the server''s log.',
     'It tells who did what to which tenant, and what applications log.',
     'ALTER SYSTEM SET log_file_mode = ''0644''; SELECT pg_reload_conf();', 'ALTER SYSTEM SET log_file_mode = ''0600''; SELECT pg_reload_conf();'),
    ('server.file_open', 'high', 'open', 'Others than the server''s user read its key or its log, or change its configuration.',
     'Who changes pg_hba.conf is any role, who reads the key reads along.',
     '-- chmod 0666 pg_hba.conf', '-- chmod go-rwx the file'),
    ('server.clock_loose', 'low', 'none', 'No time service keeps the server''s clock.',
     'Ends of contracts, tokens, retention and the event log go by it.',
     '-- a server without chrony, ntpd or systemd-timesyncd', '-- install and start chrony'),
    ('server.clock_moved_back', 'low', 'none', 'The clock was moved back in the last 30 days.',
     'Events are out of order then, and what ends by the clock ends later.',
     'UPDATE leyser.tick_record SET moved_back = 1, moved_back_at = now(), moved_back_from = now() + interval ''1 hour'';',
     'SELECT leyser.waive_check(''server.clock_moved_back'', …); -- once the cause is known'),
    ('server.log_time_zone', 'low', 'none', 'The server''s log is not in UTC.',
     'With a local time, summer time makes an hour happen twice, and logs of several machines do not fit together.',
     'ALTER SYSTEM SET log_timezone = ''Asia/Tokyo''; SELECT pg_reload_conf();', 'ALTER SYSTEM SET log_timezone = ''UTC''; SELECT pg_reload_conf();')
$rules$;
REVOKE ALL ON FUNCTION leyser.environment_rules() FROM PUBLIC;
COMMENT ON FUNCTION leyser.environment_rules() IS 'internal: rules of the security check, family server, about more doors, files and the clock';

CREATE FUNCTION leyser.door_findings() RETURNS TABLE (check_id text, object text, finding text, remedy text)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    WITH door AS MATERIALIZED (
        SELECT h.*, 'pg_hba.conf line ' || h.line_number AS object, format('-- in pg_hba.conf, line %s: ', h.line_number) AS place
        FROM pg_hba_file_rules h
        WHERE h.error IS NULL AND h.type <> 'local' AND h.auth_method <> 'reject'
          AND h.address IN ('127.0.0.1', '::1', 'localhost', 'samehost') IS NOT TRUE
          AND EXISTS (SELECT FROM regexp_split_to_table(current_setting('listen_addresses'), '\s*,\s*') a WHERE a NOT IN ('', 'localhost', '127.0.0.1', '::1'))
    )
    SELECT 'server.hba_ident', d.object, 'It asks by ident.', d.place || E'scram-sha-256 in place of ident\nSELECT pg_reload_conf();'
    FROM door d WHERE d.auth_method = 'ident'
    UNION ALL
    SELECT 'server.hba_all', d.object, format('It lets all roles into all databases, from %s.', d.address), d.place || E'the databases and roles that are meant\nSELECT pg_reload_conf();'
    FROM door d WHERE 'all' = ANY (d.database) AND 'all' = ANY (d.user_name)
    UNION ALL
    SELECT 'server.hba_replication', d.object, format('It lets all roles replicate, from %s.', d.address), d.place || E'the role and the address of the standby\nSELECT pg_reload_conf();'
    FROM door d WHERE 'replication' = ANY (d.database) AND 'all' = ANY (d.user_name)
$$;
REVOKE ALL ON FUNCTION leyser.door_findings() FROM PUBLIC;
COMMENT ON FUNCTION leyser.door_findings() IS 'internal: what family server finds about more lines of pg_hba.conf';

-- Rights that are too many: 022 for what is only to be read, 077 for what is secret.
CREATE FUNCTION leyser.file_findings() RETURNS TABLE (object text, finding text, remedy text)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    WITH file (object, path, forbidden) AS (
        SELECT 'file ' || s.name, s.setting, x'12'::integer FROM pg_settings s WHERE s.name IN ('hba_file', 'ident_file', 'config_file')
        UNION ALL
        -- the server itself demands that nobody else writes it; root may let the group read
        SELECT 'file ssl_key_file', CASE WHEN starts_with(s.setting, '/') THEN s.setting ELSE current_setting('data_directory') || '/' || s.setting END, 7
        FROM pg_settings s WHERE s.name = 'ssl_key_file' AND current_setting('ssl')::boolean
        UNION ALL
        SELECT 'file of the server log', CASE WHEN starts_with(l.path, '/') THEN l.path ELSE current_setting('data_directory') || '/' || l.path END, 6
        FROM pg_current_logfile() l (path)
    ), mode AS (
        SELECT f.*, leyser.file_mode(f.path) AS mode FROM file f
    )
    SELECT m.object, format('Its mode is %s.', lpad(((m.mode >> 6) & 7)::text || ((m.mode >> 3) & 7)::text || (m.mode & 7)::text, 4, '0')),
           format('-- chmod %s %s', CASE m.forbidden WHEN 18 THEN 'go-w' ELSE 'o-rwx' END, m.path)
    FROM mode m WHERE m.mode & m.forbidden <> 0
$$;
REVOKE ALL ON FUNCTION leyser.file_findings() FROM PUBLIC;
COMMENT ON FUNCTION leyser.file_findings() IS 'internal: files of the server that others than its user read or change';

CREATE FUNCTION leyser.environment_findings() RETURNS TABLE (check_id text, object text, finding text, remedy text)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    SELECT 'server.tls_ciphers', 'setting ssl_ciphers', format('It is %s.', current_setting('ssl_ciphers')), 'ALTER SYSTEM SET ssl_ciphers = ''HIGH:!aNULL''; SELECT pg_reload_conf();'
    WHERE current_setting('ssl_ciphers') ~ '(^|[:, +])(ALL|COMPLEMENTOFALL|COMPLEMENTOFDEFAULT|aNULL|eNULL|NULL|ADH|AECDH|LOW|EXP(ORT)?[0-9]*|RC4|RC2|DES|MD5)($|[:, +])'
    UNION ALL
    SELECT 'server.data_mode', 'setting data_directory_mode', format('It is %s.', current_setting('data_directory_mode')), '-- stop the server, chmod -R g-rwx ' || current_setting('data_directory') || ', start it'
    WHERE right(current_setting('data_directory_mode'), 2) <> '00'
    UNION ALL
    SELECT 'server.log_file_mode', 'setting log_file_mode', format('It is %s.', current_setting('log_file_mode')), 'ALTER SYSTEM SET log_file_mode = ''0600''; SELECT pg_reload_conf();'
    WHERE right(current_setting('log_file_mode'), 1) <> '0'
    UNION ALL
    SELECT 'server.file_open', f.object, f.finding, f.remedy FROM leyser.file_findings() f
    UNION ALL
    SELECT 'server.clock_loose', 'clock', 'The kernel says that its clock is not synchronized.', '-- install and start chrony'
    FROM leyser.kernel_clock() c WHERE NOT c.is_synchronized
    UNION ALL
    SELECT 'server.clock_moved_back', 'clock', format('At %s it stood before %s.', leyser.told_time(t.moved_back_at), leyser.told_time(t.moved_back_from)),
           format('SELECT leyser.waive_check(''server.clock_moved_back'', ''clock'', ''the cause is known'', %L);', t.moved_back_at + interval '30 days')
    FROM leyser.tick_record t WHERE t.moved_back_at > clock_timestamp() - interval '30 days'
    UNION ALL
    SELECT 'server.log_time_zone', 'setting log_timezone', format('It is %s.', current_setting('log_timezone')), 'ALTER SYSTEM SET log_timezone = ''UTC''; SELECT pg_reload_conf();'
    WHERE NOT leyser.is_utc(current_setting('log_timezone'))
$$;
REVOKE ALL ON FUNCTION leyser.environment_findings() FROM PUBLIC;
COMMENT ON FUNCTION leyser.environment_findings() IS 'internal: what family server finds about files, ciphers and the clock';
