-- verify_events(): whether the log is as it was written.

CREATE FUNCTION leyser.scan_events(chain text, since timestamptz, until timestamptz, first_run bigint, last_run bigint)
    RETURNS TABLE (problem text, chain_name text, number bigint, event_id bigint, expected bytea, found bytea)
    LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_event_scan';
REVOKE ALL ON FUNCTION leyser.scan_events(text, timestamptz, timestamptz, bigint, bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.scan_events(text, timestamptz, timestamptz, bigint, bigint) IS
    'internal: what of events and seals does not fit, as candidates; chain: empty for the service''s, NULL: all';

CREATE FUNCTION leyser.event_leaf(at timestamptz, event text, tenant_id text, digest bytea) RETURNS bytea
    LANGUAGE c IMMUTABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_event_leaf_sql';
REVOKE ALL ON FUNCTION leyser.event_leaf(timestamptz, text, text, bytea) FROM PUBLIC;
COMMENT ON FUNCTION leyser.event_leaf(timestamptz, text, text, bytea) IS 'internal: the hash of what stays of an event';

-- The runs in which events of that time are, at least: what was committed late is in
-- later ones.
CREATE FUNCTION leyser.event_runs(since timestamptz, until timestamptz, OUT first_run bigint, OUT last_run bigint)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT min(s.run) FROM leyser.event_seal s WHERE s.chain = '' AND s.sealed_at >= event_runs.since),
                    CASE WHEN event_runs.since IS NOT NULL THEN 9223372036854775807 END, 0),
           coalesce((SELECT min(s.run) FROM leyser.event_seal s WHERE s.chain = '' AND s.sealed_at >= event_runs.until), 9223372036854775807)
$$;
REVOKE ALL ON FUNCTION leyser.event_runs(timestamptz, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.event_runs(timestamptz, timestamptz) IS 'internal: the runs that sealed the events of a time';

-- Events by their ids, also where something is wrong with them.
CREATE FUNCTION leyser.judge_events(chain text, since timestamptz, until timestamptz)
    RETURNS TABLE (tenant_id text, event_id bigint, at timestamptz, problem text, detail text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH run AS MATERIALIZED (SELECT r.* FROM leyser.event_runs(since, until) r),
    candidate AS MATERIALIZED (
        SELECT c.*, e.at, e.tenant_id, e.event, e.account_id, e.object,
               CASE WHEN e.event_id IS NOT NULL THEN leyser.event_leaf(e.at, e.event, e.tenant_id, e.digest) END AS leaf
        FROM run CROSS JOIN LATERAL leyser.scan_events(judge_events.chain, since, until, run.first_run, run.last_run) c
        LEFT JOIN leyser.event_record e ON e.event_id = c.event_id AND (c.found IS NULL OR c.problem NOT IN ('not sealed', 'changed')
            OR leyser.event_leaf(e.at, e.event, e.tenant_id, e.digest) = c.found)
    ), judged AS (
        SELECT c.*, CASE c.problem
            WHEN 'missing' THEN
                CASE WHEN EXISTS (SELECT FROM leyser.event_checkpoint k CROSS JOIN LATERAL unnest(k.stragglers) s
                                  WHERE k.chain = c.chain_name AND s.event_id = c.event_id AND s.at < k.boundary
                                    AND leyser.event_leaf(s.at, s.event, nullif(k.chain, ''), s.digest) = c.expected) THEN NULL
                     -- of another time than is looked at
                     WHEN c.leaf IS NOT NULL AND (c.at < since OR c.at > until) THEN CASE WHEN c.leaf <> c.expected THEN 'changed' END
                     ELSE 'removed' END
            WHEN 'not sealed' THEN
                CASE WHEN EXISTS (SELECT FROM leyser.event_pending p WHERE p.event_id = c.event_id AND p.leaf = c.found) THEN NULL
                     WHEN EXISTS (SELECT FROM leyser.event_pending p WHERE p.event_id = c.event_id) THEN 'changed'
                     WHEN EXISTS (SELECT FROM leyser.event_seal s, run
                                  WHERE s.chain = coalesce(c.tenant_id, '') AND (s.run > run.last_run OR s.run < run.first_run)
                                    AND c.event_id BETWEEN s.first_event AND s.last_event
                                    AND leyser.has_member(s.members, c.event_id, c.found)) THEN NULL
                     ELSE 'inserted' END
            WHEN 'changed' THEN
                CASE WHEN EXISTS (SELECT FROM candidate o WHERE o.problem IN ('changed', 'missing') AND o.expected = c.found) THEN 'reordered'
                     ELSE 'changed' END
            WHEN 'erased' THEN
                CASE WHEN NOT EXISTS (SELECT FROM leyser.account_record a
                        WHERE a.account_id = leyser.event_person(c.account_id, c.event, c.object) AND a.tenant_id = c.tenant_id AND a.state = 'deleted')
                     THEN 'erased' END
            WHEN 'content' THEN 'changed'
            WHEN 'seal' THEN 'seal changed'
            WHEN 'seal missing' THEN 'seal removed'
            WHEN 'run' THEN 'seals of a run changed' END AS verdict
        FROM candidate c
    )
    SELECT DISTINCT coalesce(j.tenant_id, nullif(j.chain_name, '')), j.event_id, j.at, j.verdict,
           CASE j.verdict
               WHEN 'removed' THEN format('Seal %s of the chain tells of this event, and the log has none.', j.number)
               WHEN 'inserted' THEN 'No seal tells of this event.'
               WHEN 'reordered' THEN 'Another event has this one''s place in the chain.'
               WHEN 'erased' THEN 'Its content is gone, though neither its tenant nor its account was erased.'
               WHEN 'changed' THEN CASE WHEN j.problem = 'content' THEN 'Its content is not what its digest was made of.'
                                        ELSE 'Time, name, tenant or digest are not those that were sealed.' END
               WHEN 'seal changed' THEN format('Seal %s does not follow from its members and the seal before it.', j.number)
               WHEN 'seal removed' THEN format('There is no seal %s.', j.number)
               WHEN 'seals of a run changed' THEN format('The other chains'' seals are not those of which seal %s of the service was made.', j.number) END
    FROM judged j WHERE j.verdict IS NOT NULL
$$;
REVOKE ALL ON FUNCTION leyser.judge_events(text, timestamptz, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_events(text, timestamptz, timestamptz) IS
    'internal: what is wrong with the events and seals of a chain (NULL: all) and time';

-- What is committed and no seal holds: by now it is told by itself what was removed.
CREATE FUNCTION leyser.judge_pending(chain text)
    RETURNS TABLE (tenant_id text, event_id bigint, at timestamptz, problem text, detail text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT nullif(p.chain, ''), p.event_id, p.at,
           CASE WHEN e.event_id IS NULL THEN 'removed' ELSE 'unsealed' END,
           CASE WHEN e.event_id IS NULL THEN 'It was to be sealed, and the log has none.'
                ELSE 'It has not been sealed for more than five minutes; see view leyser.job, and that leyser.tick() is called.' END
    FROM leyser.event_pending p LEFT JOIN leyser.event_record e ON e.event_id = p.event_id
    WHERE p.chain = coalesce(judge_pending.chain, p.chain)
      -- with one snapshot for all, it is of the transaction's beginning
      AND (e.event_id IS NULL OR p.at < CASE WHEN current_setting('transaction_isolation') LIKE 'read%' THEN clock_timestamp() ELSE now() END - interval '5 minutes')
$$;
REVOKE ALL ON FUNCTION leyser.judge_pending(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_pending(text) IS 'internal: what is wrong with events that are not sealed yet';

-- The link that the next seal goes on from is made of the time at which the last one that
-- went was made: who invents a later end of what went invents all that comes after it.
CREATE FUNCTION leyser.checkpoint_follows(checkpoint leyser.event_checkpoint) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN checkpoint.number = 0 THEN checkpoint.link = leyser.first_link(checkpoint.chain)
                ELSE coalesce(length(checkpoint.former_link) = 32 AND length(checkpoint.members_digest) = 32
                     AND coalesce(length(checkpoint.run_digest), 0) = CASE checkpoint.chain WHEN '' THEN 32 ELSE 0 END
                     AND checkpoint.link = leyser.link_of(checkpoint.former_link, checkpoint.number, checkpoint.sealed_at,
                                                          checkpoint.members_digest, checkpoint.run_digest), false) END
$$;
REVOKE ALL ON FUNCTION leyser.checkpoint_follows(leyser.event_checkpoint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.checkpoint_follows(leyser.event_checkpoint) IS
    'internal: whether a checkpoint''s link is made of what it tells of the last seal that went';

-- When it was dropped says which promises counted; that event went itself, where it was
-- recorded before what was dropped last.
CREATE FUNCTION leyser.checkpoint_is_told(checkpoint leyser.event_checkpoint) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT checkpoint.dropped_at < (SELECT max(c.boundary) FROM leyser.event_checkpoint c)
        OR EXISTS (SELECT FROM leyser.event_record e WHERE e.event = 'events.dropped' AND e.tenant_id IS NULL
                   AND e.at BETWEEN checkpoint.dropped_at AND checkpoint.dropped_at + interval '1 day'
                   AND (e.detail ->> 'boundary')::timestamptz = checkpoint.boundary)
$$;
REVOKE ALL ON FUNCTION leyser.checkpoint_is_told(leyser.event_checkpoint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.checkpoint_is_told(leyser.event_checkpoint) IS
    'internal: whether an event tells of a checkpoint';

CREATE FUNCTION leyser.judge_checkpoints(chain text)
    RETURNS TABLE (tenant_id text, event_id bigint, at timestamptz, problem text, detail text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT nullif(c.chain, ''), NULL::bigint, c.boundary, j.problem, j.detail
    FROM leyser.event_checkpoint c
    CROSS JOIN LATERAL (SELECT max(f.boundary) AS boundary FROM leyser.event_checkpoint f WHERE f.chain = c.chain AND f.boundary < c.boundary) former
    CROSS JOIN LATERAL (SELECT leyser.events_expire(former.boundary, c.boundary, c.dropped_at) AS expires_at) x
    CROSS JOIN LATERAL (
        SELECT 'dropped too early', format('Events before %s were to be kept until %s.', leyser.told_time(c.boundary), leyser.told_time(x.expires_at))
        WHERE x.expires_at > clock_timestamp()
        UNION ALL
        SELECT 'dropped too early', format('With events before %s went a seal that was made at %s.', leyser.told_time(c.boundary), leyser.told_time(c.sealed_at))
        WHERE c.sealed_at >= c.boundary
        UNION ALL
        SELECT 'checkpoint changed', format('What it tells of seal %s is not of what that was made.', c.number)
        WHERE NOT leyser.checkpoint_follows(c)
        UNION ALL
        SELECT 'checkpoint changed', 'No event tells that months were dropped then.'
        WHERE NOT leyser.checkpoint_is_told(c)) j (problem, detail)
    WHERE c.chain = coalesce(judge_checkpoints.chain, c.chain)
$$;
REVOKE ALL ON FUNCTION leyser.judge_checkpoints(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_checkpoints(text) IS 'internal: months of events that went before their time, and checkpoints that somebody invented';

-- What was promised stands in event_retention, and each promise in an event, which is
-- chained: who takes or shortens a promise in the table is found.
CREATE FUNCTION leyser.judge_retention()
    RETURNS TABLE (tenant_id text, event_id bigint, at timestamptz, problem text, detail text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT NULL::text, e.event_id, e.at, 'retention changed', format('That events are kept for %s was promised then, and is not in force as long as it was to be.', e.promised)
    FROM (SELECT o.event_id, o.at, o.detail ->> 'retention' AS promised, lead(o.at) OVER (ORDER BY o.event_id) AS next_at
          FROM leyser.event_record o WHERE o.tenant_id IS NULL AND o.event = 'events.retention_set') e
    WHERE NOT EXISTS (SELECT FROM leyser.event_retention r
        WHERE r.retention::text = e.promised AND r.since BETWEEN e.at - interval '1 minute' AND e.at + interval '1 minute'
          AND coalesce(r.ended_at, 'infinity') >= coalesce(e.next_at, 'infinity') - interval '1 minute')
$$;
REVOKE ALL ON FUNCTION leyser.judge_retention() FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_retention() IS 'internal: promises about the event log that were changed in their table';

-- A digest that was stored outside, of the service's chain: "number:link".
CREATE FUNCTION leyser.judge_digest(digest text)
    RETURNS TABLE (tenant_id text, event_id bigint, at timestamptz, problem text, detail text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT NULL::text, NULL::bigint, e.at, j.problem, j.detail
    FROM (SELECT split_part(digest, ':', 1)::bigint AS number, decode(split_part(digest, ':', 2), 'hex') AS link) d
    CROSS JOIN leyser.chain_end('') n
    LEFT JOIN leyser.event_seal s ON s.chain = '' AND s.number = d.number
    LEFT JOIN LATERAL (SELECT max(c.number) AS number, max(c.boundary) AS boundary, bool_or(c.number = d.number) AS told,
                              bool_or(c.number = d.number AND c.link <> d.link) AS differs
                       FROM leyser.event_checkpoint c WHERE c.chain = '') k ON true
    LEFT JOIN LATERAL (SELECT max(r.noticed_at) AS at FROM leyser.restore_record r) e ON true
    CROSS JOIN LATERAL (SELECT
        CASE WHEN n.number < d.number THEN 'ends before the digest'
             WHEN s.link <> d.link OR k.differs THEN 'other than the digest'
             WHEN s.link IS NULL AND (k.number < d.number) IS NOT FALSE THEN 'other than the digest'
             WHEN s.link IS NULL AND NOT k.told THEN 'older than the log' END AS problem,
        CASE WHEN n.number < d.number THEN format('The chain ends with seal %s, the digest is of seal %s: the database was restored to an earlier point, or its end was cut off.%s',
                n.number, d.number, CASE WHEN e.at IS NOT NULL THEN format(' A restore was noticed at %s.', leyser.told_time(e.at)) END)
             WHEN s.link IS NULL AND k.number > d.number AND NOT k.told THEN format('Seal %s went with the events before %s, at the end of their retention: whether the log goes on from this digest is not known. A newer one tells.',
                d.number, leyser.told_time(k.boundary))
             ELSE format('Seal %s is not the one of which the digest was made: the log was written anew.%s', d.number,
                CASE WHEN e.at IS NOT NULL THEN format(' Or the digest is of what a restore, noticed at %s, left behind.', leyser.told_time(e.at)) END) END AS detail) j
    WHERE j.problem IS NOT NULL
$$;
REVOKE ALL ON FUNCTION leyser.judge_digest(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_digest(text) IS 'internal: whether the service''s chain goes on from a digest that was stored outside';

CREATE FUNCTION leyser.seal_now() RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT pg_is_in_recovery() THEN
        PERFORM leyser.submit_task('seal events', '');
    END IF;
EXCEPTION WHEN insufficient_resources OR system_error THEN
    RAISE NOTICE USING MESSAGE = 'the newest events are not sealed yet', DETAIL = SQLERRM || '.';
END
$$;
REVOKE ALL ON FUNCTION leyser.seal_now() FROM PUBLIC;
COMMENT ON FUNCTION leyser.seal_now() IS 'internal: has the worker seal what is committed';

CREATE FUNCTION leyser.verify_events(tenant_id text DEFAULT NULL, since timestamptz DEFAULT NULL,
                                     until timestamptz DEFAULT NULL, digest text DEFAULT NULL)
    RETURNS TABLE (tenant text, event_id bigint, at timestamptz, problem text, detail text)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on SET jit = off
AS $$
#variable_conflict use_variable
BEGIN
    IF digest IS NOT NULL AND digest !~ '^\d{1,18}:[0-9a-f]{64}$' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid digest of the event log',
            DETAIL = 'It is a number, a colon and 64 hexadecimal digits.',
            HINT = 'Give what leyser.event_digest() returned.';
    END IF;
    IF tenant_id IS NOT NULL AND NOT EXISTS (SELECT FROM leyser.tenant_record t WHERE t.tenant_id = verify_events.tenant_id) THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('tenant "%s" does not exist', tenant_id),
            HINT = 'Without a tenant all events are verified.';
    END IF;
    PERFORM leyser.seal_now();
    -- no month goes meanwhile
    LOCK TABLE leyser.event_checkpoint IN ACCESS SHARE MODE;
    -- a transaction with one snapshot for all sees months that are gone by now
    IF EXISTS (SELECT FROM leyser.event_months() m WHERE to_regclass('leyser.' || leyser.event_month_name((m.begins AT TIME ZONE 'UTC')::date)) IS NULL) THEN
        RAISE EXCEPTION USING ERRCODE = 'serialization_failure',
            MESSAGE = 'events were dropped since the transaction began',
            DETAIL = 'It sees seals of events whose retention is over.',
            HINT = 'Verify the events in a transaction of its own.';
    END IF;
    RETURN QUERY
        SELECT j.* FROM leyser.judge_events(tenant_id, since, until) j
        UNION ALL SELECT j.* FROM leyser.judge_pending(tenant_id) j
        UNION ALL SELECT j.* FROM leyser.judge_checkpoints(tenant_id) j
        UNION ALL SELECT j.* FROM leyser.judge_retention() j WHERE tenant_id IS NULL
        UNION ALL SELECT j.* FROM leyser.judge_digest(digest) j WHERE digest IS NOT NULL
        ORDER BY 2, 4;
END
$$;
REVOKE ALL ON FUNCTION leyser.verify_events(text, timestamptz, timestamptz, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.verify_events(text, timestamptz, timestamptz, text) IS
    'auditor: what is wrong with the event log, of a tenant or all, of a time or all; no row: it is unbroken; problems: changed, removed, inserted, reordered, erased, unsealed, seal changed, seal removed, dropped too early, checkpoint changed, retention changed, and of a digest that was stored outside (event_digest()) whether the log goes on from it; 42704 for an unknown tenant, 22023 for another digest, 40001 in a transaction whose snapshot is older than what was dropped';

CREATE FUNCTION leyser.event_digest() RETURNS text
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leyser.seal_now();
    RETURN (SELECT e.number || ':' || encode(e.link, 'hex') FROM leyser.chain_end('') e);
END
$$;
REVOKE ALL ON FUNCTION leyser.event_digest() FROM PUBLIC;
COMMENT ON FUNCTION leyser.event_digest() IS
    'auditor: what stands for all events so far, in one line to be stored outside the database and given to verify_events() later';
