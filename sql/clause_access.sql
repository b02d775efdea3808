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
$$;
REVOKE ALL ON FUNCTION leyser.judge_2_3(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_2_3(leyser.clause_look) IS 'internal: registration, ids and passwords';

CREATE FUNCTION leyser.judge_2_4(look leyser.clause_look) RETURNS SETOF leyser.clause_point
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'told', leyser.tell(look.language, 'permissions', (SELECT count(*) FROM leyser.permission_record)::text,
        leyser.estimated_rows('leyser.role_record'), leyser.estimated_rows('leyser.grant_record')), NULL::timestamptz, NULL
    UNION ALL
    SELECT * FROM leyser.finding_points(look, '2.4')
$$;
REVOKE ALL ON FUNCTION leyser.judge_2_4(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_2_4(leyser.clause_look) IS 'internal: permissions inside a tenant';

CREATE FUNCTION leyser.judge_2_5(look leyser.clause_look) RETURNS SETOF leyser.clause_point
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'told', leyser.tell(look.language, 'usage', u.usage, leyser.name_some(look, array_agg(r.rolname::text ORDER BY r.rolname))), NULL::timestamptz, NULL
    FROM leyser.usage_record u JOIN pg_roles r ON r.oid = u.role GROUP BY u.usage
    UNION ALL
    SELECT * FROM leyser.finding_points(look, '2.5')
$$;
REVOKE ALL ON FUNCTION leyser.judge_2_5(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_2_5(leyser.clause_look) IS 'internal: privileged users, and duties kept apart';

CREATE FUNCTION leyser.judge_2_7(look leyser.clause_look) RETURNS SETOF leyser.clause_point
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT * FROM leyser.finding_points(look, '2.7')
    UNION ALL
    SELECT 'told', leyser.tell(look.language, 'support open', leyser.name_some(look, coalesce(array_agg(format('%s → %s', s.tenant_id, s.to_role) ORDER BY s.valid_until), '{}'))), NULL, NULL
    FROM leyser.support_record s WHERE s.revoked_at IS NULL AND s.valid_until > clock_timestamp()
    UNION ALL
    SELECT 'told', leyser.tell(look.language, 'exports open', leyser.name_some(look, coalesce(array_agg(format('%s → %s', e.tenant_id, e.to_role) ORDER BY e.ends_at), '{}'))), NULL, NULL
    FROM leyser.export_record e WHERE e.ended_at IS NULL AND e.ends_at > clock_timestamp()
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
        ELSE leyser.tell(look.language, 'tls', coalesce(nullif(replace(current_setting('ssl_min_protocol_version'), 'TLSv', ''), ''), leyser.tell(look.language, 'tls any')),
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
