-- Security checks: the server's version, its doors and its settings.

CREATE FUNCTION leyser.server_rules()
    RETURNS TABLE (check_id text, severity text, fails text, what text, why text, example text, remedy text)
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $rules$
    VALUES
    ('server.version', 'high', 'open', 'The server lacks corrections of row security and statistics.',
     'Before 15.14, 16.10 and 17.6 statistics told about rows that a policy hides, and dumps could carry commands.',
     '-- a server of version 15.13', '-- install the latest minor version and restart the server'),
    ('server.not_preloaded', 'critical', 'closed', 'The server does not preload leyser.',
     'Tokens, guards and clean connections only work when the server loads leyser at its start.',
     '-- a server whose shared_preload_libraries lacks leyser', 'ALTER SYSTEM SET shared_preload_libraries = …; -- then restart the server'),
    ('server.hba_trust', 'critical', 'open', 'A line of pg_hba.conf lets roles in from the network without asking.',
     'Whoever reaches the port is any role, superusers included.',
     '-- in pg_hba.conf: host all all 10.0.0.0/8 trust', '-- in pg_hba.conf: scram-sha-256 in place of trust; SELECT pg_reload_conf();'),
    ('server.hba_local_trust', 'medium', 'open', 'A line of pg_hba.conf lets roles in over the socket without asking, and others than the server''s user reach it.',
     'Every account of the machine is any role.',
     '-- in pg_hba.conf: local all all trust, with unix_socket_permissions = 0777', '-- in pg_hba.conf: peer in place of trust; SELECT pg_reload_conf();'),
    ('server.hba_weak', 'medium', 'open', 'A line of pg_hba.conf asks for a password in clear or as MD5.',
     'Whoever listens, or reads the stored hash, can log in.',
     '-- in pg_hba.conf: host all all 10.0.0.0/8 md5', '-- in pg_hba.conf: scram-sha-256 in place of md5 and password; SELECT pg_reload_conf();'),
    ('server.hba_plain', 'medium', 'open', 'A line of pg_hba.conf takes connections from the network without TLS.',
     'Tokens and rows cross the network in clear.',
     '-- in pg_hba.conf: host all all 10.0.0.0/8 scram-sha-256', '-- in pg_hba.conf: hostssl in place of host; SELECT pg_reload_conf();'),
    ('server.hba_everywhere', 'low', 'open', 'A line of pg_hba.conf takes connections from every address.',
     'Few ways in are easier to watch.',
     '-- in pg_hba.conf: hostssl all all all scram-sha-256', '-- in pg_hba.conf: the addresses of the application''s servers; SELECT pg_reload_conf();'),
    ('server.hba_error', 'medium', 'closed', 'A line of pg_hba.conf cannot be read.',
     'The server keeps what it read before, and does not start again.',
     '-- in pg_hba.conf: local all all nonsense', '-- in pg_hba.conf: mend the line; SELECT pg_reload_conf();'),
    ('server.tls_off', 'medium', 'open', 'The server listens to the network without TLS.',
     'Tokens and rows cross the network in clear.',
     'ALTER SYSTEM SET listen_addresses = ''*''; -- then restart the server', 'ALTER SYSTEM SET ssl = on; -- with a certificate')
$rules$;
REVOKE ALL ON FUNCTION leyser.server_rules() FROM PUBLIC;
COMMENT ON FUNCTION leyser.server_rules() IS 'internal: rules of the security check, family server, about version and doors';

CREATE FUNCTION leyser.server_setting_rules()
    RETURNS TABLE (check_id text, severity text, fails text, what text, why text, example text, remedy text)
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $rules$
    VALUES
    ('server.tls_version', 'medium', 'open', 'TLS below version 1.2 is accepted.',
     'Older versions can be broken.', 'ALTER SYSTEM SET ssl_min_protocol_version = ''TLSv1''; SELECT pg_reload_conf();', 'ALTER SYSTEM SET ssl_min_protocol_version = ''TLSv1.2''; SELECT pg_reload_conf();'),
    ('server.require_tls', 'medium', 'open', 'Tokens and passwords are taken over the network without TLS 1.2.',
     'Whoever listens has them.', 'ALTER SYSTEM SET leyser.require_tls = off; SELECT pg_reload_conf();', 'ALTER SYSTEM SET leyser.require_tls = on; SELECT pg_reload_conf();'),
    ('server.password_encryption', 'medium', 'open', 'New passwords of roles are stored as MD5.',
     'The stored hash is as good as the password.', 'ALTER DATABASE postgres SET password_encryption = ''md5'';', 'ALTER DATABASE … RESET password_encryption;'),
    ('server.md5_password', 'medium', 'open', 'The password of a role is stored as MD5.',
     'The stored hash is as good as the password.', 'SET password_encryption = ''md5''; CREATE ROLE old LOGIN PASSWORD ''x'';', 'ALTER ROLE … PASSWORD NULL; -- and let it have a new one'),
    ('server.system_tables', 'high', 'open', 'System tables may be changed.',
     'allow_system_table_mods lets superusers change catalogues past every check.', 'ALTER DATABASE postgres SET allow_system_table_mods = on;', 'ALTER DATABASE … RESET allow_system_table_mods;'),
    ('server.row_security_off', 'low', 'closed', 'A setting makes statements fail where row security applies.',
     'row_security = off is for dumps: it refuses what it would filter.', 'ALTER ROLE app SET row_security = off;', 'ALTER ROLE … RESET row_security;'),
    ('server.replica_role', 'high', 'open', 'A setting keeps triggers from firing.',
     'session_replication_role = replica also drops referential integrity.', 'ALTER ROLE keeper SET session_replication_role = replica;', 'ALTER ROLE … RESET session_replication_role;'),
    ('server.password_cost', 'medium', 'open', 'Accounts'' passwords are hashed with too little work.',
     'A cost below 10 lets many passwords a second be tried on a stolen table.', 'ALTER DATABASE postgres SET leyser.password_cost = 6;', 'ALTER DATABASE … RESET leyser.password_cost;'),
    ('server.password_length', 'low', 'open', 'Accounts may have short passwords.',
     'Without a second factor 15 characters are the least that NIST SP 800-63B advises.', 'ALTER DATABASE postgres SET leyser.password_min_length = 8;', 'ALTER DATABASE … RESET leyser.password_min_length;'),
    ('server.statement_timeout', 'low', 'none', 'An application has no statement_timeout.',
     'A statement that began before a contract ended goes on as long as it likes, and one tenant''s can hold up all.', 'ALTER ROLE app RESET statement_timeout;', 'ALTER ROLE … SET statement_timeout = ''30s'';'),
    ('server.idle_timeout', 'low', 'none', 'An application has no idle_in_transaction_session_timeout.',
     'An open transaction that nobody ends keeps what was deleted, and no purge can end.', 'ALTER ROLE app RESET idle_in_transaction_session_timeout;', 'ALTER ROLE … SET idle_in_transaction_session_timeout = ''60s'';'),
    ('server.log_connections', 'low', 'none', 'Connections are not logged.',
     'Nobody can tell later who came in, and from where.', 'ALTER SYSTEM SET log_connections = off; SELECT pg_reload_conf();', 'ALTER SYSTEM SET log_connections = on; SELECT pg_reload_conf();')
$rules$;
REVOKE ALL ON FUNCTION leyser.server_setting_rules() FROM PUBLIC;
COMMENT ON FUNCTION leyser.server_setting_rules() IS 'internal: rules of the security check, family server, about settings';

-- The releases of August 2025: CVE-2025-8713, -8714 and -8715.
CREATE FUNCTION leyser.version_problem(version_number integer) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('Version %s.%s lacks corrections that %s.%s has.', version_number / 10000, version_number % 10000, v.major, v.minor)
    FROM (VALUES (15, 14), (16, 10), (17, 6)) v (major, minor)
    WHERE v.major = version_number / 10000 AND version_number % 10000 < v.minor
$$;
REVOKE ALL ON FUNCTION leyser.version_problem(integer) FROM PUBLIC;
COMMENT ON FUNCTION leyser.version_problem(integer) IS 'internal: what a version of the server lacks, or NULL';

-- Lines for other databases are theirs to check.  Who keeps the socket to the server's
-- own user needs nobody to ask who comes.
CREATE FUNCTION leyser.server_findings() RETURNS TABLE (check_id text, object text, finding text, remedy text)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    WITH door AS MATERIALIZED (
        SELECT h.*, 'pg_hba.conf line ' || h.line_number AS object, h.address IN ('127.0.0.1', '::1', 'localhost', 'samehost') IS NOT TRUE AS is_remote,
               format('-- in pg_hba.conf, line %s: ', h.line_number) AS place
        FROM pg_hba_file_rules h
        WHERE h.error IS NOT NULL OR h.database && ARRAY['all', 'sameuser', 'samerole', 'samegroup', 'replication', current_database()::text]
    ), listening AS (
        SELECT current_setting('listen_addresses') <> '' AS at_all,
               EXISTS (SELECT FROM regexp_split_to_table(current_setting('listen_addresses'), '\s*,\s*') a WHERE a NOT IN ('', 'localhost', '127.0.0.1', '::1')) AS to_network
    )
    SELECT 'server.version', 'server', v, '-- install the latest minor version of the server''s packages, and restart it'
    FROM leyser.version_problem(current_setting('server_version_num')::integer) v WHERE v IS NOT NULL
    UNION ALL
    SELECT 'server.not_preloaded', 'server', 'leyser is not in shared_preload_libraries.',
           format('ALTER SYSTEM SET shared_preload_libraries = %s; -- then restart the server', concat_ws(', ', 'leyser', nullif(current_setting('shared_preload_libraries'), '')))
    WHERE NOT 'leyser' = ANY (string_to_array(replace(replace(current_setting('shared_preload_libraries'), ' ', ''), '"', ''), ','))
    UNION ALL
    SELECT 'server.hba_trust', d.object, format('%s is let in without being asked.', array_to_string(d.user_name, ', ')), d.place || E'scram-sha-256 in place of trust\nSELECT pg_reload_conf();'
    FROM door d, listening l WHERE d.auth_method = 'trust' AND d.type <> 'local' AND l.at_all
    UNION ALL
    SELECT 'server.hba_local_trust', d.object, format('%s is let in over the socket, whoever comes.', array_to_string(d.user_name, ', ')), d.place || E'peer in place of trust\nSELECT pg_reload_conf();'
    FROM door d WHERE d.auth_method = 'trust' AND d.type = 'local' AND right(current_setting('unix_socket_permissions'), 2) <> '00'
    UNION ALL
    SELECT 'server.hba_weak', d.object, format('It asks by %s.', d.auth_method), d.place || format(E'scram-sha-256 in place of %s\nSELECT pg_reload_conf();', d.auth_method)
    FROM door d WHERE d.auth_method IN ('md5', 'password')
    UNION ALL
    SELECT 'server.hba_plain', d.object, format('It takes connections from %s without TLS.', d.address), d.place || format(E'hostssl in place of %s\nSELECT pg_reload_conf();', d.type)
    FROM door d, listening l WHERE d.type IN ('host', 'hostnossl') AND d.is_remote AND d.auth_method <> 'reject' AND l.to_network
    UNION ALL
    SELECT 'server.hba_everywhere', d.object, 'It takes connections from everywhere.', d.place || E'the addresses of the application''s servers\nSELECT pg_reload_conf();'
    FROM door d, listening l WHERE (d.address = 'all' OR d.netmask IN ('0.0.0.0', '::')) AND d.auth_method <> 'reject' AND l.to_network
    UNION ALL
    SELECT 'server.hba_error', d.object, d.error || '.', d.place || E'mend it\nSELECT pg_reload_conf();' FROM door d WHERE d.error IS NOT NULL
    UNION ALL
    SELECT 'server.tls_off', 'setting ssl', 'The server listens to the network without TLS.', 'ALTER SYSTEM SET ssl = on; SELECT pg_reload_conf(); -- with ssl_cert_file and ssl_key_file'
    FROM listening l WHERE l.to_network AND current_setting('ssl') = 'off'
    UNION ALL
    SELECT 'server.md5_password', 'role ' || r.rolname, 'Its password is stored as MD5.', format('ALTER ROLE %I PASSWORD NULL; -- and let it have a new one', r.rolname)
    FROM pg_authid r WHERE r.rolcanlogin AND r.rolpassword LIKE 'md5%'
$$;
REVOKE ALL ON FUNCTION leyser.server_findings() FROM PUBLIC;
COMMENT ON FUNCTION leyser.server_findings() IS 'internal: what family server finds about version, doors and passwords of roles';

CREATE FUNCTION leyser.server_setting_findings() RETURNS TABLE (check_id text, object text, finding text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH setting AS MATERIALIZED (
        SELECT s AS whole, s.* FROM leyser.check_setting s
    ), wanted AS (
        SELECT * FROM (VALUES
            ('server.tls_version', 'ssl_min_protocol_version', '{"",TLSv1,TLSv1.1}', 'TLSv1.2', 'TLS below version 1.2 is accepted.'),
            ('server.require_tls', 'leyser.require_tls', '{off}', 'on', 'Tokens are taken over the network without TLS 1.2.'),
            ('server.password_encryption', 'password_encryption', '{md5}', 'scram-sha-256', 'New passwords are stored as MD5.'),
            ('server.system_tables', 'allow_system_table_mods', '{on}', 'off', 'System tables may be changed.'),
            ('server.row_security_off', 'row_security', '{off}', 'on', 'Statements fail where row security applies.'),
            ('server.replica_role', 'session_replication_role', '{replica}', 'origin', 'Triggers do not fire.'),
            ('server.password_cost', 'leyser.password_cost', '{4,5,6,7,8,9}', '10', 'Passwords are hashed with less than cost 10.'),
            ('server.password_length', 'leyser.password_min_length', '{8,9,10,11,12,13,14}', '15', 'Passwords may have less than 15 characters.'),
            ('server.log_connections', 'log_connections', '{off,""}', 'on', 'Connections are not logged.')
        ) w (check_id, name, bad, good, finding)
    )
    SELECT w.check_id, s.object, w.finding, leyser.setting_remedy(s.whole, w.good)
    FROM wanted w JOIN setting s ON s.name = w.name AND s.value = ANY (w.bad::text[])
    UNION ALL
    SELECT CASE t.name WHEN 'statement_timeout' THEN 'server.statement_timeout' ELSE 'server.idle_timeout' END, 'role ' || a.rolname, format('It has no %s.', t.name),
           format('ALTER ROLE %I SET %s = %L;', a.rolname, t.name, t.value)
    FROM leyser.check_actor a JOIN pg_roles r ON r.oid = a.actor AND r.rolcanlogin
    CROSS JOIN (VALUES ('statement_timeout', '30s'), ('idle_in_transaction_session_timeout', '60s')) t (name, value)
    WHERE a.is_application AND NOT EXISTS (SELECT FROM setting s WHERE s.name = t.name AND s.role IN (0, a.actor) AND s.value <> '0')
$$;
REVOKE ALL ON FUNCTION leyser.server_setting_findings() FROM PUBLIC;
COMMENT ON FUNCTION leyser.server_setting_findings() IS 'internal: what family server finds about settings';
