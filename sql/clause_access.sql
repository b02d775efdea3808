-- Judges of the clauses about who comes in, and who may do what.
--
-- Sets of millions are told by the planner's estimates: nothing is counted row by row.

CREATE FUNCTION leyser.estimated_rows(relation regclass) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT greatest(c.reltuples, 0)::bigint::text FROM pg_class c WHERE c.oid = relation $$;
REVOKE ALL ON FUNCTION leyser.estimated_rows(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.estimated_rows(regclass) IS 'internal: about how many rows a table has, as VACUUM and ANALYZE saw it last';

CREATE FUNCTION leyser.judge_2_3(look leyser.clause_look) RETURNS SETOF leyser.clause_point
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'told', leyser.tell(look.language, 'accounts', leyser.estimated_rows('leyser.account_record'),
        current_setting('leyser.password_min_length'), current_setting('leyser.password_cost')), NULL::timestamptz, NULL
    UNION ALL
    SELECT * FROM leyser.finding_points(look, '2.3')
    UNION ALL
    -- who signs tokens for people of its own says who they are
    SELECT * FROM leyser.attestation_points(look, '2.3')
    WHERE EXISTS (SELECT FROM leyser.issuer_key) OR NOT EXISTS (SELECT FROM leyser.account_record)
$$;
REVOKE ALL ON FUNCTION leyser.judge_2_3(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_2_3(leyser.clause_look) IS 'internal: registration, ids and passwords';

CREATE FUNCTION leyser.asks_permission(governed leyser.table_record) RETURNS boolean
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT num_nonnulls(governed.read_permission, governed.write_permission) > 0 $$;
REVOKE ALL ON FUNCTION leyser.asks_permission(leyser.table_record) FROM PUBLIC;
COMMENT ON FUNCTION leyser.asks_permission(leyser.table_record) IS 'internal: whether a table lets an account do no more than it was granted';

CREATE FUNCTION leyser.judge_2_4(look leyser.clause_look) RETURNS SETOF leyser.clause_point
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'told', leyser.tell(look.language, 'permissions', (SELECT count(*) FROM leyser.permission_record)::text, count(*)::text,
        leyser.estimated_rows('leyser.role_record'), leyser.estimated_rows('leyser.grant_record')), NULL::timestamptz, NULL
    FROM leyser.table_record t WHERE leyser.asks_permission(t)
    UNION ALL
    SELECT * FROM leyser.finding_points(look, '2.4')
    UNION ALL
    SELECT * FROM leyser.attestation_points(look, '2.4') WHERE NOT EXISTS (SELECT FROM leyser.table_record t WHERE leyser.asks_permission(t))
$$;
REVOKE ALL ON FUNCTION leyser.judge_2_4(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_2_4(leyser.clause_look) IS 'internal: permissions inside a tenant';

-- What is sealed is counted once, whatever committed when.
CREATE FUNCTION leyser.count_role_usage() RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    counted bigint := coalesce((SELECT m.run FROM leyser.role_usage_mark m), 0);
    newest bigint := (SELECT e.number FROM leyser.chain_end('') e);
BEGIN
    INSERT INTO leyser.role_usage_record AS u (day, role, events)
        SELECT (e.at AT TIME ZONE 'UTC')::date, e.caller_role, count(*)
        FROM leyser.event_seal s CROSS JOIN LATERAL leyser.seal_members(s.members) m JOIN leyser.event_record e ON e.event_id = m.event_id
        WHERE s.run > counted AND s.run <= newest AND e.caller_role IS NOT NULL GROUP BY 1, 2
        ON CONFLICT ON CONSTRAINT role_usage_record_pkey DO UPDATE SET events = u.events + excluded.events;
    INSERT INTO leyser.role_usage_mark AS m (run) VALUES (newest) ON CONFLICT (singleton) DO UPDATE SET run = greatest(m.run, excluded.run);
    DELETE FROM leyser.role_usage_record u WHERE u.day < (clock_timestamp() AT TIME ZONE 'UTC')::date - 400;
END
$$;
REVOKE ALL ON FUNCTION leyser.count_role_usage() FROM PUBLIC;
COMMENT ON FUNCTION leyser.count_role_usage() IS 'internal: counts by role the events that were sealed since it was last called';

-- Whoever is a member uses what its role was granted.
CREATE FUNCTION leyser.usage_points(look leyser.clause_look) RETURNS SETOF leyser.clause_point
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH used AS MATERIALIZED (
        SELECT h.role, sum(u.events) AS events
        FROM leyser.role_usage_record u JOIN pg_roles r ON r.oid::regrole::text = u.role JOIN leyser.check_reach h ON h.actor = r.oid
        WHERE u.day > (clock_timestamp() AT TIME ZONE 'UTC')::date - 30 GROUP BY h.role
    )
    SELECT 'told', leyser.tell(look.language, 'usage', g.usage, leyser.name_some(look,
               array_agg(leyser.tell(look.language, 'usage used', r.rolname::text, coalesce(u.events, 0)::text) ORDER BY u.events DESC NULLS LAST, r.rolname))), NULL::timestamptz, NULL
    FROM leyser.usage_record g JOIN pg_roles r ON r.oid = g.role LEFT JOIN used u ON u.role = g.role GROUP BY g.usage
$$;
REVOKE ALL ON FUNCTION leyser.usage_points(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.usage_points(leyser.clause_look) IS 'internal: who holds each usage, and how often it was used';

-- At once: in the days' figures, waiting to be sealed, or counted and no event yet.
CREATE FUNCTION leyser.privileged_points(look leyser.clause_look) RETURNS SETOF leyser.clause_point
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    WITH access AS (
        SELECT u.day, u.events, u.first_at, u.last_at, u.event FROM leyser.daily_usage_record u WHERE u.tenant_id = ''
        UNION ALL
        SELECT (p.at AT TIME ZONE 'UTC')::date, 1, p.at, p.at, p.event FROM leyser.event_pending p
        UNION ALL
        SELECT (p.last_at AT TIME ZONE 'UTC')::date, 1, p.first_at, p.last_at, CASE WHEN p.others THEN 'privileged.uncounted' ELSE p.event END FROM leyser.list_privileged() p
    ), seen AS MATERIALIZED (
        SELECT coalesce(sum(a.events), 0) AS in_month, coalesce(sum(a.events) FILTER (WHERE a.day > d.today - 7), 0) AS in_week,
               min(a.first_at) FILTER (WHERE a.day > d.today - 7) AS first_at, max(a.last_at) AS last_at
        FROM (VALUES ((clock_timestamp() AT TIME ZONE 'UTC')::date)) d (today)
        LEFT JOIN access a ON a.day > d.today - 30 AND a.event IN ('privileged.access', 'privileged.ddl', 'privileged.uncounted')
    )
    SELECT CASE current_setting('leyser.privileged_access') WHEN 'off' THEN 'broken' ELSE 'told' END,
           CASE current_setting('leyser.privileged_access') WHEN 'off' THEN leyser.tell(look.language, 'privileged off')
                ELSE leyser.tell(look.language, 'privileged', current_setting('leyser.privileged_access'), s.in_month::text) END,
           NULL::timestamptz, CASE current_setting('leyser.privileged_access') WHEN 'off' THEN 'ALTER SYSTEM RESET leyser.privileged_access; SELECT pg_reload_conf();' END
    FROM seen s
    UNION ALL
    SELECT 'at risk', leyser.tell(look.language, 'privileged used', s.in_week::text, leyser.told_time(s.last_at)), s.first_at,
           'SELECT * FROM leyser.privileged_access ORDER BY at DESC LIMIT 100;'
    FROM seen s WHERE s.in_week > 0
$$;
REVOKE ALL ON FUNCTION leyser.privileged_points(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.privileged_points(leyser.clause_look) IS 'internal: access to tenants'' rows past row security';

CREATE FUNCTION leyser.judge_2_5(look leyser.clause_look) RETURNS SETOF leyser.clause_point
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT * FROM leyser.usage_points(look)
    UNION ALL
    SELECT * FROM leyser.privileged_points(look)
    UNION ALL
    SELECT * FROM leyser.finding_points(look, '2.5')
    UNION ALL
    SELECT * FROM leyser.alert_points(look, '2.5')
$$;
REVOKE ALL ON FUNCTION leyser.judge_2_5(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_2_5(leyser.clause_look) IS 'internal: privileged users, and duties kept apart';

CREATE FUNCTION leyser.judge_2_7(look leyser.clause_look) RETURNS SETOF leyser.clause_point
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT * FROM leyser.finding_points(look, '2.7')
    UNION ALL
    SELECT * FROM leyser.alert_points(look, '2.7')
    UNION ALL
    SELECT * FROM leyser.privileged_points(look)
    UNION ALL
    SELECT 'told', leyser.tell(look.language, 'support open', leyser.name_some(look, coalesce(array_agg(format('%s → %s', s.tenant_id, s.to_role) ORDER BY s.valid_until), '{}'))), NULL, NULL
    FROM leyser.support_record s WHERE s.revoked_at IS NULL AND s.valid_until > clock_timestamp()
    UNION ALL
    SELECT 'told', leyser.tell(look.language, 'exports open', leyser.name_some(look, coalesce(array_agg(format('%s → %s', e.tenant_id, e.to_role) ORDER BY e.ends_at), '{}'))), NULL, NULL
    FROM leyser.export_record e WHERE e.ended_at IS NULL AND e.ends_at > clock_timestamp()
    UNION ALL
    SELECT 'told', leyser.tell(look.language, 'disclosures open', leyser.name_some(look,
               coalesce(array_agg(format('%s → %s (%s)', d.tenant_id, d.to_role, left(d.legal_basis, 100)) ORDER BY d.ends_at), '{}'))), NULL, NULL
    FROM leyser.disclosure_record d WHERE d.closed_at IS NULL AND d.ends_at > clock_timestamp()
$$;
REVOKE ALL ON FUNCTION leyser.judge_2_7(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_2_7(leyser.clause_look) IS 'internal: use of customers'' data';

CREATE FUNCTION leyser.judge_2_9(look leyser.clause_look) RETURNS SETOF leyser.clause_point
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT * FROM leyser.finding_points(look, '2.9')
    UNION ALL
    SELECT * FROM leyser.alert_points(look, '2.9')
$$;
REVOKE ALL ON FUNCTION leyser.judge_2_9(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_2_9(leyser.clause_look) IS 'internal: authentication, and ways in';

-- Settings say what may come, and connections what has come.
CREATE FUNCTION leyser.judge_2_10(look leyser.clause_look) RETURNS SETOF leyser.clause_point
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH remote AS MATERIALIZED (
        SELECT a.usename, a.client_addr, a.backend_start, s.ssl AND s.version NOT IN ('SSLv3', 'TLSv1', 'TLSv1.1') AS is_strong
        FROM pg_stat_activity a JOIN pg_stat_ssl s ON s.pid = a.pid
        WHERE a.client_addr IS NOT NULL AND NOT a.client_addr <<= inet '127.0.0.0/8' AND a.client_addr <> inet '::1'
    )
    SELECT 'told', CASE WHEN current_setting('listen_addresses') = '' THEN leyser.tell(look.language, 'tls local')
        ELSE leyser.tell(look.language, 'tls', replace(current_setting('ssl_min_protocol_version'), 'TLSv', ''),
                         (SELECT count(*) FROM remote)::text) END, NULL::timestamptz, NULL
    UNION ALL
    SELECT 'broken', leyser.tell(look.language, 'tls weak', leyser.name_some(look, array_agg(DISTINCT format('%s@%s', r.usename, host(r.client_addr))))),
           min(r.backend_start), 'ALTER SYSTEM SET ssl_min_protocol_version = ''TLSv1.2''; SELECT pg_reload_conf(); -- and hostssl in pg_hba.conf'
    FROM remote r WHERE NOT r.is_strong HAVING count(*) > 0
    UNION ALL
    SELECT * FROM leyser.finding_points(look, '2.10')
    UNION ALL
    SELECT * FROM leyser.attestation_points(look, '2.10')
$$;
REVOKE ALL ON FUNCTION leyser.judge_2_10(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_2_10(leyser.clause_look) IS 'internal: encrypted connections';

CREATE FUNCTION leyser.judge_2_15(look leyser.clause_look) RETURNS SETOF leyser.clause_point
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN count(*) = 0 THEN 'at risk' ELSE 'told' END,
           CASE WHEN count(*) = 0 THEN leyser.tell(look.language, 'no table')
                WHEN count(*) = count(*) FILTER (WHERE t.is_enforced) THEN leyser.tell(look.language, 'tables', count(*)::text)
                ELSE leyser.tell(look.language, 'tables open', count(*)::text,
                    leyser.name_some(look, array_agg(t.name ORDER BY t.name) FILTER (WHERE NOT t.is_enforced))) END,
           NULL::timestamptz, CASE WHEN count(*) = 0 THEN 'SELECT leyser.protect(''…'');' END
    FROM leyser.check_table t
    UNION ALL
    SELECT * FROM leyser.finding_points(look, '2.15')
$$;
REVOKE ALL ON FUNCTION leyser.judge_2_15(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_2_15(leyser.clause_look) IS 'internal: separation of tenants';
