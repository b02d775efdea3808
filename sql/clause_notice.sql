-- Judges of the clauses about what people are told: upgrades before, incidents after.
--
-- Whether somebody upgraded the application, or hid an incident, no database knows.
-- What changed here itself it does: a new version of the server or of leyser that no
-- notice told of.

CREATE FUNCTION leyser.present_versions() RETURNS TABLE (part text, version text, since timestamptz)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'PostgreSQL', current_setting('server_version_num')::text, pg_postmaster_start_time()
    UNION ALL
    SELECT e.extname::text, e.extversion, now() FROM pg_extension e WHERE e.extname = 'leyser'
$$;
REVOKE ALL ON FUNCTION leyser.present_versions() FROM PUBLIC;
COMMENT ON FUNCTION leyser.present_versions() IS 'internal: the versions that run, and since when at most';

CREATE FUNCTION leyser.note_versions() RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO leyser.version_record (part, version, since, is_first)
        SELECT p.part, p.version, greatest(p.since, l.seen_at), l.version IS NULL
        FROM leyser.present_versions() p
        LEFT JOIN LATERAL (SELECT r.version, r.seen_at FROM leyser.version_record r WHERE r.part = p.part ORDER BY r.since DESC LIMIT 1) l ON true
        WHERE l.version IS DISTINCT FROM p.version;
    UPDATE leyser.version_record r SET seen_at = clock_timestamp()
        WHERE (r.part, r.since) IN (SELECT o.part, max(o.since) FROM leyser.version_record o GROUP BY o.part)
$$;
REVOKE ALL ON FUNCTION leyser.note_versions() FROM PUBLIC;
COMMENT ON FUNCTION leyser.note_versions() IS 'internal: writes down versions that were not there before';

-- Until it is three months ago.
CREATE FUNCTION leyser.unannounced_upgrades() RETURNS TABLE (part text, version text, since timestamptz)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT v.part, v.version, v.since
    FROM (SELECT r.part, r.version, r.since, r.is_first FROM leyser.version_record r
          UNION ALL
          SELECT p.part, p.version, greatest(p.since, l.seen_at), false FROM leyser.present_versions() p
          CROSS JOIN LATERAL (SELECT r.version, r.seen_at FROM leyser.version_record r WHERE r.part = p.part ORDER BY r.since DESC LIMIT 1) l
          WHERE l.version <> p.version) v
    WHERE NOT v.is_first AND v.since > clock_timestamp() - interval '90 days'
      AND NOT EXISTS (
        SELECT FROM leyser.notice_record n
        -- as it was told by then: what is moved afterwards tells nobody before
        CROSS JOIN LATERAL (SELECT c.starts_at FROM leyser.notice_change c
                            WHERE c.notice_id = n.notice_id AND c.at < v.since ORDER BY c.number DESC LIMIT 1) told
        WHERE n.kind IN ('upgrade', 'maintenance') AND told.starts_at < v.since + interval '1 hour'
          AND (n.ended_at < told.starts_at) IS NOT TRUE -- what was called off announces nothing
          AND coalesce(n.ended_at, n.ends_at, n.starts_at + interval '1 day') > v.since - interval '1 hour')
$$;
REVOKE ALL ON FUNCTION leyser.unannounced_upgrades() FROM PUBLIC;
COMMENT ON FUNCTION leyser.unannounced_upgrades() IS
    'internal: new versions of the last three months that came outside of what was announced';

CREATE FUNCTION leyser.notice_word(notice_id bigint) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('%s "%s"', notice_word.notice_id, (SELECT left(t.subject, 80) FROM leyser.notice_text t WHERE t.notice_id = notice_word.notice_id
        ORDER BY t.number DESC, t.language LIMIT 1))
$$;
REVOKE ALL ON FUNCTION leyser.notice_word(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.notice_word(bigint) IS 'internal: a notice''s number and subject';

CREATE FUNCTION leyser.judge_2_16(look leyser.clause_look) RETURNS SETOF leyser.clause_point
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH planned AS MATERIALIZED (
        SELECT n.notice_id, n.starts_at, n.announced_at, n.ended_at,
               (SELECT c.short_notice_reason FROM leyser.notice_change c
                WHERE c.notice_id = n.notice_id AND c.short_notice_reason IS NOT NULL ORDER BY c.number DESC LIMIT 1) AS reason
        FROM leyser.notice_record n WHERE n.kind <> 'incident' AND coalesce(n.ended_at, n.starts_at) > clock_timestamp() - interval '1 year'
    )
    SELECT 'kept', leyser.tell(look.language, 'announced', leyser.told_span(look.language, (leyser.present_notice_policy()).lead_time), count(*)::text,
               leyser.name_some(look, coalesce(array_agg(format('%s (%s)', leyser.notice_word(p.notice_id), leyser.told_day(p.starts_at)) ORDER BY p.starts_at)
                   FILTER (WHERE p.ended_at IS NULL AND p.starts_at > clock_timestamp()), '{}'))), NULL::timestamptz, NULL
    FROM planned p
    UNION ALL
    SELECT 'at risk', leyser.tell(look.language, 'announced late', leyser.name_some(look,
               array_agg(format('%s: %s', leyser.notice_word(p.notice_id), p.reason) ORDER BY p.starts_at))), min(p.announced_at), NULL
    FROM planned p WHERE p.reason IS NOT NULL AND coalesce(p.ended_at, 'infinity') > clock_timestamp() - interval '30 days' HAVING count(*) > 0
    UNION ALL
    SELECT 'broken', leyser.tell(look.language, 'not announced', leyser.name_some(look, array_agg(format('%s %s (%s)', u.part, u.version, leyser.told_day(u.since)) ORDER BY u.since))),
           min(u.since), NULL
    FROM leyser.unannounced_upgrades() u HAVING count(*) > 0
    UNION ALL
    SELECT * FROM leyser.alert_points(look, '2.16')
$$;
REVOKE ALL ON FUNCTION leyser.judge_2_16(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_2_16(leyser.clause_look) IS 'internal: announcements of upgrades and maintenance';

-- A tenant is reached where it has an address.
CREATE FUNCTION leyser.unreachable_points(look leyser.clause_look) RETURNS SETOF leyser.clause_point
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'at risk', leyser.tell(look.language, 'no address', leyser.name_some(look, array_agg(t.tenant_id ORDER BY t.tenant_id))),
           NULL::timestamptz, format('SELECT leyser.add_contact(%L, ''contract_holder'', ''…'');', min(t.tenant_id))
    FROM leyser.tenant_record t
    WHERE t.state IN ('active', 'suspended', 'terminating') AND NOT EXISTS (SELECT FROM leyser.contact_record c WHERE c.tenant_id = t.tenant_id)
    HAVING count(*) > 0
    UNION ALL
    SELECT 'at risk', leyser.tell(look.language, 'no sender'), NULL, 'SELECT leyser.set_notice_policy(mail_sender => ''…'');'
    WHERE (leyser.present_notice_policy()).mail_sender IS NULL
$$;
REVOKE ALL ON FUNCTION leyser.unreachable_points(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.unreachable_points(leyser.clause_look) IS 'internal: whom no mail would reach';

-- Impact may narrow an audience; whom the first one would tell, the present one tells, too.
CREATE FUNCTION leyser.audience_points(look leyser.clause_look) RETURNS SETOF leyser.clause_point
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH audience AS MATERIALIZED (
        SELECT f.severity, p.contract_holders <> 'none' AS tells_holders, p.extra_contacts <> 'none' AS tells_extra,
               f.contract_holders <> 'none' AS told_holders, f.extra_contacts <> 'none' AS told_extra,
               format('SELECT leyser.set_notice_audience(%L, contract_holders => %L, extra_contacts => %L);', f.severity,
                      CASE p.contract_holders WHEN 'none' THEN f.contract_holders ELSE p.contract_holders END,
                      CASE p.extra_contacts WHEN 'none' THEN f.extra_contacts ELSE p.extra_contacts END) AS remedy
        FROM leyser.first_audience() f CROSS JOIN LATERAL leyser.present_audience(f.severity) p
    ), tenant AS MATERIALIZED (
        SELECT t.tenant_id, bool_or(c.kind = 'contract_holder') AS has_holder, bool_or(c.kind = 'extra') AS has_extra
        FROM leyser.tenant_record t JOIN leyser.contact_record c ON c.tenant_id = t.tenant_id
        WHERE t.state IN ('active', 'suspended', 'terminating') GROUP BY t.tenant_id
    )
    SELECT 'at risk', leyser.tell(look.language, 'mailed to nobody', a.severity), NULL::timestamptz, a.remedy
    FROM audience a WHERE NOT a.tells_holders AND NOT a.tells_extra
    UNION ALL
    SELECT 'at risk', leyser.tell(look.language, 'left out', a.severity, leyser.name_some(look, array_agg(t.tenant_id ORDER BY t.tenant_id))), NULL, a.remedy
    FROM audience a JOIN tenant t ON (t.has_holder AND a.told_holders OR t.has_extra AND a.told_extra)
        AND NOT (t.has_holder AND a.tells_holders OR t.has_extra AND a.tells_extra)
    WHERE a.tells_holders OR a.tells_extra GROUP BY a.severity, a.remedy
$$;
REVOKE ALL ON FUNCTION leyser.audience_points(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.audience_points(leyser.clause_look) IS
    'internal: severities of which nobody would have mail, and tenants that have an address and would have none though an incident affects them';

CREATE FUNCTION leyser.judge_2_18(look leyser.clause_look) RETURNS SETOF leyser.clause_point
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH incident AS MATERIALIZED (
        SELECT n.notice_id, n.published, n.ended_at, n.starts_at, n.announced_at,
               (SELECT max(c.at) FROM leyser.notice_change c WHERE c.notice_id = n.notice_id) AS told_at
        FROM leyser.notice_record n WHERE n.kind = 'incident' AND coalesce(n.ended_at, 'infinity') > clock_timestamp() - interval '1 year'
    )
    SELECT 'kept', leyser.tell(look.language, 'incidents', count(*)::text, leyser.name_some(look,
               coalesce(array_agg(leyser.notice_word(i.notice_id) ORDER BY i.starts_at) FILTER (WHERE i.ended_at IS NULL), '{}'))), NULL::timestamptz, NULL
    FROM incident i
    UNION ALL
    SELECT 'broken', leyser.tell(look.language, 'not published', leyser.name_some(look, array_agg(leyser.notice_word(i.notice_id) ORDER BY i.starts_at))), min(i.announced_at),
           string_agg(format('SELECT leyser.update_notice(%s, subject => ''…'', body => ''…'', published => true);', i.notice_id), chr(10) ORDER BY i.starts_at)
               FILTER (WHERE i.ended_at IS NULL)
    FROM incident i WHERE NOT i.published HAVING count(*) > 0
    UNION ALL
    SELECT 'at risk', leyser.tell(look.language, 'no update', leyser.name_some(look, array_agg(leyser.notice_word(i.notice_id) ORDER BY i.starts_at))), min(i.told_at) + interval '1 day',
           string_agg(format('SELECT leyser.update_notice(%s, subject => ''…'', body => ''…'');', i.notice_id), chr(10) ORDER BY i.starts_at)
    FROM incident i WHERE i.ended_at IS NULL AND i.told_at < clock_timestamp() - interval '1 day' HAVING count(*) > 0
    UNION ALL
    SELECT * FROM leyser.unreachable_points(look)
    UNION ALL
    SELECT * FROM leyser.audience_points(look)
    UNION ALL
    SELECT * FROM leyser.alert_points(look, '2.18')
$$;
REVOKE ALL ON FUNCTION leyser.judge_2_18(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_2_18(leyser.clause_look) IS 'internal: incidents, and whom mail about them reaches';
