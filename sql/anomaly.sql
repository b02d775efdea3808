-- What stood out in the last week: figures of daily_usage_record far over the usual, and
-- what should not be at all.

-- A day stands out with at_least or more, and more than so many times a usual day of the
-- 28 before it; for some the tenant must be known for that many days.
CREATE FUNCTION leyser.anomaly_rules()
    RETURNS TABLE (anomaly text, events text, of_rows boolean, at_least bigint, times numeric, known_days integer)
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    SELECT * FROM (VALUES
        ('privileged access', '^privileged\.(?!opened|closed)', false, 1, 0.0, 0),
        ('failed logins', '^login\.failed$', false, 20, 3, 0),
        ('refused tokens', '^token\.refused$', false, 20, 3, 0),
        ('refused contexts', '^context\.(missing|refused)$', false, 20, 3, 0),
        ('denied permissions', '^permission\.denied$', false, 20, 3, 0),
        ('refused statements', '^statement\.refused$', false, 5, 3, 0),
        ('disclosures and support', '^(disclosure|support|export)\.(opened|entered|read|granted)$', false, 1, 3, 0),
        ('unusual logins', '^session\.began$', false, 100, 5, 7),
        ('unusual tokens', '^(context\.entered|token\.issued)$', false, 1000, 5, 7),
        ('unusual changes', '^row\.', true, 10000, 5, 7)
    ) r (anomaly, events, of_rows, at_least, times, known_days)
$$;
REVOKE ALL ON FUNCTION leyser.anomaly_rules() FROM PUBLIC;
COMMENT ON FUNCTION leyser.anomaly_rules() IS
    'internal: which kinds of events (a regular expression), or their audited rows, are looked at together, and from when on they stand out';

-- By tenant, day and rule, of what is looked at and of the days before.
CREATE FUNCTION leyser.daily_figures(today date)
    RETURNS TABLE (anomaly text, tenant_id text, day date, figure bigint, first_at timestamptz, last_at timestamptz)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT r.anomaly, u.tenant_id, u.day, sum(CASE WHEN r.of_rows THEN u.rows ELSE u.events END)::bigint, min(u.first_at), max(u.last_at)
    FROM leyser.daily_usage_record u JOIN leyser.anomaly_rules() r ON u.event ~ r.events
    WHERE u.day > today - 35 AND u.day <= today
    GROUP BY r.anomaly, u.tenant_id, u.day
$$;
REVOKE ALL ON FUNCTION leyser.daily_figures(date) FROM PUBLIC;
COMMENT ON FUNCTION leyser.daily_figures(date) IS 'internal: the figures of five weeks that are compared with each other';

CREATE FUNCTION leyser.list_anomalies()
    RETURNS TABLE (anomaly text, tenant_id text, since timestamptz, until timestamptz, figure bigint, usual numeric, detail text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH today AS (SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date AS day),
    figure AS MATERIALIZED (SELECT f.* FROM today t CROSS JOIN LATERAL leyser.daily_figures(t.day) f),
    judged AS (
        SELECT f.*, r.at_least, r.times, r.known_days, k.known, coalesce(b.total / greatest(1, least(28, k.known)), 0) AS usual
        FROM today t JOIN figure f ON f.day > t.day - 7
        JOIN leyser.anomaly_rules() r ON r.anomaly = f.anomaly
        -- days on which there was nothing count, but not those before there was a tenant
        CROSS JOIN LATERAL (SELECT f.day - coalesce((SELECT u.day FROM leyser.daily_usage_record u
            WHERE u.tenant_id = f.tenant_id ORDER BY u.day LIMIT 1), f.day) AS known) k
        CROSS JOIN LATERAL (SELECT sum(p.figure) AS total FROM figure p
            WHERE p.anomaly = f.anomaly AND p.tenant_id = f.tenant_id AND p.day < f.day AND p.day >= f.day - 28) b
    )
    SELECT j.anomaly, nullif(j.tenant_id, ''), j.first_at, j.last_at, j.figure, round(j.usual, 1),
           format('%s on %s; %s on a usual day of the four weeks before.', j.figure, to_char(j.day, 'YYYY-MM-DD'), round(j.usual, 1))
    FROM judged j WHERE j.figure >= j.at_least AND j.figure > j.times * j.usual AND j.known >= j.known_days
    UNION ALL
    SELECT 'new finding', NULL, r.told_at, r.last_seen, 1, 0, format('%s, %s: %s', r.check_id, r.object, r.finding)
    FROM leyser.finding_record r WHERE r.told_at > clock_timestamp() - interval '7 days' AND r.gone_at IS NULL
    ORDER BY 3 DESC
$$;
REVOKE ALL ON FUNCTION leyser.list_anomalies() FROM PUBLIC;
COMMENT ON FUNCTION leyser.list_anomalies() IS 'internal: the rows of view anomaly';

CREATE VIEW leyser.anomaly AS
    SELECT a.anomaly, a.tenant_id, a.since, a.until, a.figure, a.usual, a.detail FROM leyser.list_anomalies() a;
COMMENT ON VIEW leyser.anomaly IS
    'what stood out in the last seven days (operator, auditor): what, of which tenant (NULL: of none, or of all), since when, how often, how often on a usual day; privileged access and new findings of the security check that fail open always do';
