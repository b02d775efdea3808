-- What the judges of the white paper's clauses share: words, names, and points that
-- follow from findings, alerts and attestations.

CREATE FUNCTION leyser.tell(language text, key text, VARIADIC arguments text[] DEFAULT '{}') RETURNS text
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN coalesce((SELECT format(CASE tell.language WHEN 'ja' THEN p.ja ELSE p.en END, VARIADIC tell.arguments)
                     FROM (SELECT w.* FROM leyser.white_paper_phrases() w UNION ALL SELECT g.* FROM leyser.page_phrases() g) p
                     WHERE p.key = tell.key), tell.key);
END
$$;
REVOKE ALL ON FUNCTION leyser.tell(text, text, text[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.tell(text, text, text[]) IS 'internal: a phrase of the white paper in a language, or its key where there is none';

-- However many there are, evidence stays short.
CREATE FUNCTION leyser.name_some(look leyser.clause_look, names text[]) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN n.first = '' THEN leyser.tell(look.language, 'none')
                WHEN NOT look.names THEN leyser.tell(look.language, 'without names', cardinality(name_some.names)::text)
                WHEN cardinality(name_some.names) > 5 THEN leyser.tell(look.language, 'and more', n.first, (cardinality(name_some.names) - 5)::text)
                ELSE n.first END
    FROM (SELECT coalesce(string_agg(left(u.name, 200), CASE look.language WHEN 'ja' THEN '、' ELSE ', ' END ORDER BY u.place), '')
          FROM unnest(name_some.names[:5]) WITH ORDINALITY u (name, place)) n (first)
$$;
REVOKE ALL ON FUNCTION leyser.name_some(leyser.clause_look, text[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.name_some(leyser.clause_look, text[]) IS
    'internal: up to five names, and how many more there are; only how many, where names are left out';

CREATE FUNCTION leyser.told_day(moment timestamptz) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD') $$;
REVOKE ALL ON FUNCTION leyser.told_day(timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.told_day(timestamptz) IS 'internal: a day of UTC for people';

-- Whatever intervalstyle the session has.
CREATE FUNCTION leyser.told_span(language text, span interval) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(string_agg(leyser.tell(language, p.unit, p.amount::text), ' ' ORDER BY p.place), leyser.tell(language, 'none'))
    FROM (VALUES (1, 'years', extract(year FROM span)), (2, 'months', extract(month FROM span)), (3, 'days', extract(day FROM span)),
                 (4, 'hours', extract(hour FROM span))) p (place, unit, amount)
    WHERE p.amount <> 0
$$;
REVOKE ALL ON FUNCTION leyser.told_span(text, interval) FROM PUBLIC;
COMMENT ON FUNCTION leyser.told_span(text, interval) IS 'internal: a span of time for people';

-- ---- which checks and alerts speak of which clause ----

-- A pattern that ends with a dot is a family.  Without a state the severity tells it.
CREATE FUNCTION leyser.clause_checks() RETURNS TABLE (clause text, pattern text, state text)
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.clause, p.pattern, c.state FROM (VALUES
        ('2.3', '{server.password_cost,key.unusable}', 'broken'),
        ('2.3', '{server.password_length}', 'at risk'),
        ('2.4', '{bypass.permission_policy_changed,widen.permissive_beside,widen.permissive_true,widen.grant_option,widen.public_grant,widen.trigger_right,widen.createrole}', NULL),
        ('2.5', '{bypass.superuser,bypass.bypassrls,bypass.becomes,bypass.parameter_right,bypass.guards_off,key.,replication.role,server.system_tables,server.replica_role}', NULL),
        ('2.7', '{bypass.superuser,bypass.bypassrls,bypass.raw_reader,key.duty_reads_rows,key.all_data,key.server_files,replication.publication,replication.logical_slot}', NULL),
        ('2.8', '{governed.no_kind,governed.tenant_column}', 'at risk'),
        ('2.9', '{server.not_preloaded,server.hba_trust,server.hba_local_trust,server.hba_weak,server.hba_ident,server.hba_replication,server.hba_error,server.file_open,server.md5_password,server.password_encryption,token.}', NULL),
        ('2.9', '{server.hba_everywhere}', 'at risk'),
        ('2.10', '{server.tls_version,server.tls_off,server.hba_plain,server.require_tls}', 'broken'),
        ('2.10', '{server.tls_ciphers}', 'at risk'),
        ('2.12', '{server.clock_loose}', 'broken'),
        ('2.12', '{server.clock_moved_back,server.log_time_zone}', 'at risk'),
        ('2.13', '{server.log_connections,job.failing}', 'at risk'),
        ('2.15', '{bypass.,governed.,leak.,widen.,replication.publication,job.past_row_security,server.version,server.replica_role,server.system_tables,key.own_tables,key.own_functions,key.leyser_owner}', NULL)
    ) c (clause, patterns, state) CROSS JOIN LATERAL unnest(c.patterns::text[]) p (pattern)
$$;
REVOKE ALL ON FUNCTION leyser.clause_checks() FROM PUBLIC;
COMMENT ON FUNCTION leyser.clause_checks() IS 'internal: the rules of the security check that speak of a clause, and what a finding makes of it';

CREATE FUNCTION leyser.clause_alerts() RETURNS TABLE (clause text, alert text, state text)
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.clause, a.alert, c.state FROM (VALUES
        ('2.5', '{heartbeat silent,events not sealed}', 'at risk'),
        ('2.6', '{wrong region}', 'broken'),
        ('2.7', '{heartbeat silent,events not sealed}', 'at risk'),
        ('2.8', '{purge cannot begin,horizon missed,tenant came back}', 'broken'),
        ('2.8', '{heartbeat silent,archive unknown,restored,fence missing,fence ahead,no fence yet}', 'at risk'),
        ('2.9', '{no signing key,changes lost}', 'at risk'),
        ('2.11', '{missed day,too few,no backup,too old,not expired,not deleted,archive gapped}', 'broken'),
        ('2.11', '{failed,orphan,running too long,unverified,archiving failing,archiving late,archiving off,heartbeat silent,job failing,job late}', 'at risk'),
        ('2.12', '{clock moved back}', 'broken'),
        ('2.12', '{heartbeat silent}', 'at risk'),
        ('2.13', '{server log overwritten,server log kept too short,server log silent}', 'broken'),
        ('2.16', '{notice overdue,mail not sent,mail put off,dead letters}', 'at risk'),
        ('2.18', '{dead letters}', 'broken'),
        ('2.18', '{notice overdue,mail not sent,mail put off}', 'at risk'),
        ('2.13', '{events not sealed,server log not rotated,server log readable,heartbeat silent}', 'at risk')
    ) c (clause, alerts, state) CROSS JOIN LATERAL unnest(c.alerts::text[]) a (alert)
$$;
REVOKE ALL ON FUNCTION leyser.clause_alerts() FROM PUBLIC;
COMMENT ON FUNCTION leyser.clause_alerts() IS 'internal: the alerts that speak of a clause, and what they make of it';

-- ---- points ----

CREATE FUNCTION leyser.clause_rules(clause text, language text) RETURNS TABLE (check_id text, what text, fails text, state text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT DISTINCT ON (k.check_id) k.check_id, k.what, k.fails,
           coalesce(c.state, CASE WHEN k.severity = 'critical' OR k.severity = 'high' AND k.fails = 'open' THEN 'broken'
                                  WHEN k.severity IN ('high', 'medium') THEN 'at risk' END)
    FROM leyser.told_rules(clause_rules.language) k
    JOIN leyser.clause_checks() c ON c.clause = clause_rules.clause
        AND (k.check_id = c.pattern OR right(c.pattern, 1) = '.' AND starts_with(k.check_id, c.pattern))
    ORDER BY k.check_id, c.state NULLS LAST
$$;
REVOKE ALL ON FUNCTION leyser.clause_rules(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.clause_rules(text, text) IS 'internal: the rules that speak of a clause, in a language; without a state: not against it';

-- Somebody answers for what is waived, which keeps no promise.
CREATE FUNCTION leyser.finding_points(look leyser.clause_look, clause text) RETURNS SETOF leyser.clause_point
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH rule AS MATERIALIZED (SELECT r.* FROM leyser.clause_rules(finding_points.clause, look.language) r),
    found AS MATERIALIZED (
        SELECT r.what, r.state, f.* FROM unnest(look.findings) f JOIN rule r ON r.check_id = f.check_id WHERE r.state IS NOT NULL
    )
    SELECT f.state, leyser.tell(look.language, 'finding', f.what, f.check_id, leyser.name_some(look, array_agg(f.object ORDER BY f.object))),
           min(f.since), array_to_string((array_agg(f.remedy ORDER BY f.object))[:5], chr(10))
    FROM found f WHERE f.waived_until IS NULL GROUP BY f.state, f.what, f.check_id
    UNION ALL
    SELECT CASE f.fails WHEN 'open' THEN 'at risk' ELSE 'told' END,
           leyser.tell(look.language, 'waived', leyser.told_day(max(f.waived_until)), f.check_id,
                       leyser.name_some(look, array_agg(f.object ORDER BY f.object))), min(f.since), NULL
    FROM found f WHERE f.waived_until IS NOT NULL GROUP BY f.fails, f.check_id
    UNION ALL
    -- a family that failed
    SELECT 'broken', leyser.tell(look.language, 'not examined', f.finding), NULL, NULL
    FROM unnest(look.findings) f
    WHERE f.severity IS NULL AND EXISTS (SELECT FROM rule r WHERE split_part(r.check_id, '.', 1) = f.check_id)
    UNION ALL
    SELECT 'kept', leyser.tell(look.language, 'rules', count(*)::text), NULL, NULL
    FROM rule r HAVING count(*) > 0 AND NOT EXISTS (SELECT FROM found)
$$;
REVOKE ALL ON FUNCTION leyser.finding_points(leyser.clause_look, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.finding_points(leyser.clause_look, text) IS 'internal: what the security check has to say about a clause';

-- What is said to people becomes a comment, so that the whole can be pasted.
CREATE FUNCTION leyser.paste_remedy(remedy text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT CASE WHEN remedy ~ '^(ALTER|SELECT|CALL) .*;$' THEN remedy ELSE '-- ' || replace(remedy, chr(10), chr(10) || '-- ') END $$;
REVOKE ALL ON FUNCTION leyser.paste_remedy(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.paste_remedy(text) IS 'internal: a remedy as SQL, or as a comment where it is none';

-- Most are names, and the same in every language.
CREATE FUNCTION leyser.told_subject(language text, alert text, subject text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN alert = 'too few' THEN leyser.tell(language, 'page of promised', split_part(subject, ' ', 1), split_part(subject, ' ', 3))
                WHEN alert = 'unverified' AND subject = 'never' THEN leyser.tell(language, 'page never')
                WHEN alert = 'unverified' THEN leyser.tell(language, 'last at', substr(subject, 9))
                WHEN alert = 'notice overdue' THEN leyser.tell(language, 'notice', substr(subject, 8))
                ELSE subject END
$$;
REVOKE ALL ON FUNCTION leyser.told_subject(text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.told_subject(text, text, text) IS 'internal: what an alert is about, in a language';

CREATE FUNCTION leyser.alert_points(look leyser.clause_look, clause text) RETURNS SETOF leyser.clause_point
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.state, leyser.tell(look.language, 'alert', leyser.tell(look.language, 'a ' || c.alert),
                                leyser.name_some(look, ARRAY(SELECT leyser.told_subject(look.language, a.alert, s.subject)
                                                             FROM unnest(a.subjects[:5]) WITH ORDINALITY s (subject, place) ORDER BY s.place) || a.subjects[6:])),
           a.since, array_to_string(a.remedies, chr(10))
    FROM unnest(look.alerts) a JOIN leyser.clause_alerts() c ON c.clause = alert_points.clause AND c.alert = a.alert
    UNION ALL
    SELECT 'broken', leyser.tell(look.language, 'not examined', a.subjects[1]), NULL, NULL
    FROM unnest(look.alerts) a WHERE a.alert IS NULL
$$;
REVOKE ALL ON FUNCTION leyser.alert_points(leyser.clause_look, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.alert_points(leyser.clause_look, text) IS 'internal: what the alerts have to say about a clause';

-- ---- attestations ----

CREATE FUNCTION leyser.attest_call(clause text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('SELECT leyser.attest(%L, statement => ''…'', attested_by => ''…'', document_sha256 => ''…'', valid_until => ''…'');', clause)
$$;
REVOKE ALL ON FUNCTION leyser.attest_call(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.attest_call(text) IS 'internal: the call that attests a clause, to be filled in';

CREATE FUNCTION leyser.valid_attestations(clause text) RETURNS SETOF leyser.attestation_record
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.* FROM leyser.attestation_record a
    WHERE a.clause = valid_attestations.clause AND a.withdrawn_at IS NULL AND a.valid_until > clock_timestamp()
$$;
REVOKE ALL ON FUNCTION leyser.valid_attestations(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.valid_attestations(text) IS 'internal: the attestations of a clause that hold';

-- absent: what the clause is without one.
CREATE FUNCTION leyser.attestation_points(look leyser.clause_look, clause text, absent text DEFAULT 'outside') RETURNS SETOF leyser.clause_point
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH valid AS MATERIALIZED (SELECT a.* FROM leyser.valid_attestations(attestation_points.clause) a),
    lapsed AS (
        SELECT a.attested_by, coalesce(a.withdrawn_at, a.valid_until) AS ended_at FROM leyser.attestation_record a
        WHERE a.clause = attestation_points.clause AND NOT EXISTS (SELECT FROM valid)
        ORDER BY 2 DESC LIMIT 1
    )
    (SELECT 'attested', leyser.tell(look.language, 'attested', v.attested_by, leyser.told_day(v.recorded_at), leyser.told_day(v.valid_until),
                                    left(v.statement, 500), encode(v.document_sha256, 'hex')),
            v.recorded_at, CASE WHEN max(v.valid_until) OVER () < clock_timestamp() + interval '30 days' THEN leyser.attest_call(v.clause) END
     FROM valid v ORDER BY v.valid_until DESC, v.attestation_id DESC LIMIT 5)
    UNION ALL
    SELECT absent, leyser.tell(look.language, 'lapsed', l.attested_by, leyser.told_day(l.ended_at)), l.ended_at, leyser.attest_call(attestation_points.clause)
    FROM lapsed l
    UNION ALL
    SELECT absent, CASE WHEN EXISTS (SELECT FROM leyser.white_paper_phrases() p WHERE p.key = 'outer ' || attestation_points.clause)
                        THEN leyser.tell(look.language, 'part not attested', leyser.tell(look.language, 'outer ' || attestation_points.clause))
                        ELSE leyser.tell(look.language, CASE absent WHEN 'declared' THEN 'only declared' ELSE 'not attested' END) END,
           NULL, leyser.attest_call(attestation_points.clause)
    WHERE NOT EXISTS (SELECT FROM valid) AND NOT EXISTS (SELECT FROM lapsed)
$$;
REVOKE ALL ON FUNCTION leyser.attestation_points(leyser.clause_look, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.attestation_points(leyser.clause_look, text, text) IS
    'internal: what is attested about a clause, or that nothing is';
