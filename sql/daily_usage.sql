-- What each tenant did on each day, by UTC: how many events of each kind, and what was
-- refused to it.
--
-- Nobody who acts writes here.  Who seals events counts them, in the transaction that
-- takes them from what waits, so each counts once, and what was rolled back does not;
-- what was refused is counted in shared memory (src/refusal.c), and a tick adds it.  So
-- a day of a tenant is a few rows, whatever it did.

-- Of a tenant of which something is kept: no purge has taken it up.
CREATE FUNCTION leyser.counted_tenant(tenant_id text) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM leyser.tenant_record t WHERE t.tenant_id = counted_tenant.tenant_id AND t.state <> 'erased')
       AND NOT EXISTS (SELECT FROM leyser.purge_record p WHERE p.tenant_id = counted_tenant.tenant_id AND p.started_at IS NOT NULL)
$$;
REVOKE ALL ON FUNCTION leyser.counted_tenant(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.counted_tenant(text) IS
    'internal: whether it is counted what a tenant does: not once its purge has begun';

-- A day of a clock that was wrong could not be written down.
CREATE FUNCTION leyser.add_daily_usage(tenant_id text, day date, event text, events bigint, rows bigint,
                                       first_at timestamptz, last_at timestamptz) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO leyser.daily_usage_record AS u (tenant_id, day, event, events, rows, first_at, last_at)
        SELECT add_daily_usage.tenant_id, add_daily_usage.day, add_daily_usage.event, add_daily_usage.events, add_daily_usage.rows,
               add_daily_usage.first_at, add_daily_usage.last_at
        WHERE add_daily_usage.tenant_id = '' OR leyser.counted_tenant(add_daily_usage.tenant_id)
        ON CONFLICT ON CONSTRAINT daily_usage_record_pkey DO UPDATE
            SET events = u.events + excluded.events, rows = u.rows + excluded.rows,
                first_at = least(u.first_at, excluded.first_at), last_at = greatest(u.last_at, excluded.last_at)
$$;
REVOKE ALL ON FUNCTION leyser.add_daily_usage(text, date, text, bigint, bigint, timestamptz, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.add_daily_usage(text, date, text, bigint, bigint, timestamptz, timestamptz) IS
    'internal: adds to what a tenant (empty: none) did on a day';

-- What was refused outside of a context, or to a tenant that is not there any more, is
-- nobody's.
CREATE FUNCTION leyser.count_refusals() RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT leyser.add_daily_usage(r.tenant_id, r.day, r.event, r.events, 0, r.first_at, r.last_at) FROM (
        SELECT CASE WHEN leyser.counted_tenant(t.tenant_id) THEN t.tenant_id ELSE '' END AS tenant_id,
               (t.last_at AT TIME ZONE 'UTC')::date AS day, t.event, sum(t.events)::bigint AS events,
               min(t.first_at) AS first_at, max(t.last_at) AS last_at
        FROM leyser.take_refusals() t GROUP BY 1, 2, 3 ORDER BY 1, 2, 3) r
$$;
REVOKE ALL ON FUNCTION leyser.count_refusals() FROM PUBLIC;
COMMENT ON FUNCTION leyser.count_refusals() IS 'internal: adds what was refused since it was last called';

-- Kept as long as the events of its month.
CREATE FUNCTION leyser.drop_daily_usage() RETURNS bigint
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    WITH gone AS (
        DELETE FROM leyser.daily_usage_record u
        -- as events, whose months go in order
        WHERE u.day < (SELECT min(g)
            FROM generate_series(date_trunc('month', (SELECT min(o.day) FROM leyser.daily_usage_record o)::timestamp),
                clock_timestamp() AT TIME ZONE 'UTC', interval '1 month') g
            WHERE leyser.event_month_expires(g AT TIME ZONE 'UTC', (g + interval '1 month') AT TIME ZONE 'UTC') > clock_timestamp())
        RETURNING 1)
    SELECT count(*) FROM gone
$$;
REVOKE ALL ON FUNCTION leyser.drop_daily_usage() FROM PUBLIC;
COMMENT ON FUNCTION leyser.drop_daily_usage() IS
    'internal: usage of months whose retention is over goes; returns how many rows';

CREATE VIEW leyser.daily_usage AS
    SELECT nullif(u.tenant_id, '') AS tenant_id, u.day,
           coalesce(sum(u.events) FILTER (WHERE u.event = 'session.began'), 0)::bigint AS logins,
           coalesce(sum(u.events) FILTER (WHERE u.event = 'login.failed'), 0)::bigint AS failed_logins,
           coalesce(sum(u.events) FILTER (WHERE u.event = 'token.refused'), 0)::bigint AS refused_tokens,
           coalesce(sum(u.events) FILTER (WHERE u.event IN ('context.missing', 'context.refused')), 0)::bigint AS refused_contexts,
           coalesce(sum(u.events) FILTER (WHERE u.event = 'permission.denied'), 0)::bigint AS denials,
           coalesce(sum(u.events) FILTER (WHERE u.event = 'statement.refused'), 0)::bigint AS refused_statements,
           coalesce(sum(u.events) FILTER (WHERE u.event LIKE 'privileged.%'), 0)::bigint AS privileged,
           coalesce(sum(u.rows), 0)::bigint AS audited_rows,
           coalesce(sum(u.events) FILTER (WHERE u.event NOT IN
               ('token.refused', 'context.missing', 'context.refused', 'permission.denied', 'statement.refused')), 0)::bigint AS events,
           min(u.first_at) AS first_at, max(u.last_at) AS last_at
    FROM leyser.daily_usage_record u GROUP BY u.tenant_id, u.day;
COMMENT ON VIEW leyser.daily_usage IS
    'what each tenant did on each day, by UTC, and what was refused to it (operator, auditor); tenant_id NULL: outside of a context; what was refused, and events that are not sealed yet, are added each minute';

CREATE VIEW leyser.tenant_usage WITH (security_barrier) AS
    SELECT u.day, u.logins, u.failed_logins, u.refused_tokens, u.refused_contexts, u.denials, u.refused_statements,
           u.privileged, u.audited_rows, u.events, u.first_at, u.last_at
    FROM leyser.daily_usage u
    WHERE u.tenant_id = leyser.tenant_id() AND (SELECT leyser.sees_accounts());
COMMENT ON VIEW leyser.tenant_usage IS
    'what the context''s tenant did on each day, for holders of permission leyser.accounts (application); as view daily_usage';
