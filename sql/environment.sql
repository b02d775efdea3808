-- What the promises rest on outside of the database: the clock, and connections.

CREATE FUNCTION leyser.kernel_clock(OUT state text, OUT is_synchronized boolean, OUT estimated_error double precision, OUT maximal_error double precision)
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leyser_kernel_clock';
REVOKE ALL ON FUNCTION leyser.kernel_clock() FROM PUBLIC;
COMMENT ON FUNCTION leyser.kernel_clock() IS
    'internal: what the kernel says of its clock; errors in seconds; NULLs and state unknown where it does not say';

CREATE FUNCTION leyser.file_mode(path text) RETURNS integer
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'leyser_file_mode';
REVOKE ALL ON FUNCTION leyser.file_mode(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.file_mode(text) IS 'internal: the rights on a file of the server, as chmod takes them; NULL where there is none';

CREATE FUNCTION leyser.is_utc(time_zone text) RETURNS boolean
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$ SELECT time_zone ~* '^(Etc/)?(UTC|UCT|GMT|GMT[+-]?0|Zulu|Universal|Greenwich)$' $$;
REVOKE ALL ON FUNCTION leyser.is_utc(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.is_utc(text) IS 'internal: whether a time zone is UTC by one of its names';

CREATE FUNCTION leyser.clock_status()
    RETURNS TABLE (state text, is_synchronized boolean, estimated_error interval, maximal_error interval,
                   log_time_zone text, server_time_zone text, session_time_zone text, now_utc timestamp,
                   latest_seen timestamptz, is_behind boolean, moved_back integer, moved_back_at timestamptz, moved_back_from timestamptz)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.state, c.is_synchronized, c.estimated_error * interval '1 second', c.maximal_error * interval '1 second',
           current_setting('log_timezone'),
           (SELECT s.reset_val FROM pg_settings s WHERE s.name = 'TimeZone'), current_setting('TimeZone'),
           clock_timestamp() AT TIME ZONE 'UTC', t.latest_at, leyser.clock_is_back(), coalesce(t.moved_back, 0), t.moved_back_at, t.moved_back_from
    FROM leyser.kernel_clock() c LEFT JOIN leyser.tick_record t ON true
$$;
REVOKE ALL ON FUNCTION leyser.clock_status() FROM PUBLIC;
COMMENT ON FUNCTION leyser.clock_status() IS
    'operator, auditor: one row: what the kernel says of its clock (unknown and NULLs where a container forbids to ask), time zones of the server''s log, of new sessions and of this one, the latest time that a tick has seen, and how often, when and from where the clock was moved back';

-- ---- connections ----

CREATE FUNCTION leyser.other_connections()
    RETURNS TABLE (transport text, tls_version text, cipher text, gss_encrypted boolean, sessions bigint)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN a.client_addr IS NULL THEN 'socket'
                WHEN a.client_addr <<= '127.0.0.0/8' OR a.client_addr = '::1' OR a.client_addr <<= '::ffff:127.0.0.0/104' THEN 'loopback'
                ELSE 'network' END,
           s.version, s.cipher, coalesce(g.encrypted, false), count(*)
    FROM pg_stat_activity a
    LEFT JOIN pg_stat_ssl s ON s.pid = a.pid LEFT JOIN pg_stat_gssapi g ON g.pid = a.pid
    WHERE a.backend_type IN ('client backend', 'walsender') AND a.pid <> pg_backend_pid()
    GROUP BY 1, 2, 3, 4
$$;
REVOKE ALL ON FUNCTION leyser.other_connections() FROM PUBLIC;
COMMENT ON FUNCTION leyser.other_connections() IS
    'internal: the other connections to the server, of all databases, by what protects them';

CREATE FUNCTION leyser.connection_status()
    RETURNS TABLE (whose text, transport text, client_address inet, server_address inet, tls_version text, cipher text,
                   gss_encrypted boolean, accepted boolean, sessions bigint)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY SELECT 'own', o.transport, inet_client_addr(), inet_server_addr(), o.tls_version, o.cipher,
            EXISTS (SELECT FROM pg_stat_gssapi g WHERE g.pid = pg_backend_pid() AND g.encrypted), o.accepted, 1::bigint
        FROM leyser.own_connection() o;
    IF has_function_privilege('leyser.other_connections()', 'EXECUTE') THEN
        RETURN QUERY SELECT 'others', c.transport, NULL::inet, NULL::inet, c.tls_version, c.cipher, c.gss_encrypted,
                NOT current_setting('leyser.require_tls')::boolean OR c.transport <> 'network'
                    OR coalesce(c.tls_version ~ '^TLSv1[.]([2-9]|1[0-9])$', false), c.sessions
            FROM leyser.other_connections() c ORDER BY 2, 5, 6;
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.connection_status() FROM PUBLIC;
COMMENT ON FUNCTION leyser.connection_status() IS
    'what protects this connection (transport: socket, loopback, network, or none in a worker; TLS version and cipher) and whether tokens and passwords are accepted on it; behind a pooler it is the pooler''s; for operators and auditors also all other connections, counted by what protects them';
