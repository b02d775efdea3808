-- How long events are kept, and what happens then.
--
-- A month goes when its end is longer past than any retention that was in force
-- since it began: a lower one counts for what is recorded from then on.  Chains lose
-- only their beginnings, so no month goes before an older one.  Its seals go with it,
-- and a checkpoint says for each chain where it begins now, and proves when the last of
-- the seals that went was made.

CREATE FUNCTION leyser.refuse_retention_change() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ended leyser.event_retention;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        ended := OLD;
        ended.ended_at := NEW.ended_at;
        IF OLD.ended_at IS NULL AND NEW IS NOT DISTINCT FROM ended AND NEW.ended_at <= clock_timestamp()
           AND NEW.ended_at > clock_timestamp() - interval '1 minute' THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'LY007',
        MESSAGE = 'what was promised about the event log cannot be changed',
        DETAIL = 'Events are kept as long as was promised when they were recorded, or since.',
        HINT = 'leyser.set_event_retention() sets what is promised from now on.';
END
$$;
REVOKE ALL ON FUNCTION leyser.refuse_retention_change() FROM PUBLIC;
COMMENT ON FUNCTION leyser.refuse_retention_change() IS
    'internal trigger: a retention that was promised ends, and is neither changed nor removed';
CREATE TRIGGER refuse_change BEFORE UPDATE ON leyser.event_retention
    FOR EACH ROW EXECUTE FUNCTION leyser.refuse_retention_change();
ALTER TABLE leyser.event_retention ENABLE ALWAYS TRIGGER refuse_change;
COMMENT ON TRIGGER refuse_change ON leyser.event_retention IS 'what was promised stays';
CREATE TRIGGER refuse_removal BEFORE DELETE OR TRUNCATE ON leyser.event_retention
    FOR EACH STATEMENT EXECUTE FUNCTION leyser.refuse_retention_change();
ALTER TABLE leyser.event_retention ENABLE ALWAYS TRIGGER refuse_removal;
COMMENT ON TRIGGER refuse_removal ON leyser.event_retention IS 'what was promised stays';

CREATE FUNCTION leyser.present_event_retention() RETURNS interval
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT greatest(interval '6 months', max(r.retention)) FROM leyser.event_retention r WHERE r.ended_at IS NULL
$$;
REVOKE ALL ON FUNCTION leyser.present_event_retention() FROM PUBLIC;
COMMENT ON FUNCTION leyser.present_event_retention() IS
    'internal: how long events that are recorded now are kept at least';

CREATE FUNCTION leyser.set_event_retention(retention interval) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    former interval;
BEGIN
    IF (set_event_retention.retention <= interval '1000 years' AND leyser.is_retention(set_event_retention.retention)) IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid retention of the event log',
            DETAIL = format('It is %s; events are kept for six months at least, and 1000 years at most.', coalesce(set_event_retention.retention::text, 'NULL')),
            HINT = 'Give ''1 year'', for example.';
    END IF;
    -- two at once: the second goes on from the first
    LOCK TABLE leyser.event_retention IN SHARE ROW EXCLUSIVE MODE;
    former := leyser.present_event_retention();
    -- 360 days and a year are equal, and not the same
    IF former::text = set_event_retention.retention::text THEN
        RETURN;
    END IF;
    UPDATE leyser.event_retention r SET ended_at = clock_timestamp() WHERE r.ended_at IS NULL;
    INSERT INTO leyser.event_retention (retention, set_by) VALUES (set_event_retention.retention, leyser.caller()::text);
    PERFORM leyser.record_event('events.retention_set', NULL, NULL,
        jsonb_build_object('retention', set_event_retention.retention, 'former', former));
END
$$;
REVOKE ALL ON FUNCTION leyser.set_event_retention(interval) FROM PUBLIC;
COMMENT ON FUNCTION leyser.set_event_retention(interval) IS
    'operator: how long events are kept, six months at first and at least; a longer one counts for all that are there, a shorter one for what is recorded from then on; 22023 for less than six months or more than 1000 years';

-- The longest of those in force at any time since the month began; before the first
-- one was set it was six months.
CREATE FUNCTION leyser.event_month_expires(begins timestamptz, ends timestamptz, known_until timestamptz DEFAULT 'infinity') RETURNS timestamptz
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT max((event_month_expires.ends AT TIME ZONE 'UTC' + r.retention) AT TIME ZONE 'UTC')
    FROM (SELECT interval '6 months' UNION ALL
          SELECT e.retention FROM leyser.event_retention e
          WHERE (e.ended_at IS NULL OR e.ended_at >= event_month_expires.begins) AND e.since <= known_until) r (retention)
$$;
REVOKE ALL ON FUNCTION leyser.event_month_expires(timestamptz, timestamptz, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.event_month_expires(timestamptz, timestamptz, timestamptz) IS
    'internal: when the retention of a month''s events is over, by what was promised until then';

-- All months before a boundary that were not dropped before.  For an older one than the
-- first promise the same was promised as for the month of that.
CREATE FUNCTION leyser.events_expire(dropped_before timestamptz, boundary timestamptz, known_until timestamptz DEFAULT 'infinity') RETURNS timestamptz
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT max(leyser.event_month_expires(m AT TIME ZONE 'UTC', (m + interval '1 month') AT TIME ZONE 'UTC', known_until))
    FROM generate_series(least(date_trunc('month', coalesce(dropped_before, (SELECT min(r.since) FROM leyser.event_retention r)) AT TIME ZONE 'UTC'),
                               boundary AT TIME ZONE 'UTC' - interval '1 month'),
                         boundary AT TIME ZONE 'UTC' - interval '1 month', interval '1 month') m
$$;
REVOKE ALL ON FUNCTION leyser.events_expire(timestamptz, timestamptz, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.events_expire(timestamptz, timestamptz, timestamptz) IS
    'internal: when the retention of all months between two boundaries is over';

-- The oldest month, if it may go; rows that lie in no month's table count for theirs.
CREATE FUNCTION leyser.expired_event_month(OUT relation regclass, OUT begins timestamptz, OUT ends timestamptz)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT o.relation, o.begins, o.ends FROM (
        SELECT m.relation, m.begins, m.ends FROM leyser.event_months() m
        UNION ALL
        SELECT 'leyser.event_record'::regclass, u.month AT TIME ZONE 'UTC', (u.month + interval '1 month') AT TIME ZONE 'UTC'
        FROM (SELECT date_trunc('month', min(e.at) AT TIME ZONE 'UTC') AS month FROM ONLY leyser.event_record e) u WHERE u.month IS NOT NULL
        ORDER BY 3 LIMIT 1) o
    WHERE leyser.events_expire((SELECT max(c.boundary) FROM leyser.event_checkpoint c), o.ends) <= clock_timestamp()
$$;
REVOKE ALL ON FUNCTION leyser.expired_event_month() FROM PUBLIC;
COMMENT ON FUNCTION leyser.expired_event_month() IS 'internal: the oldest month, if its events may go, or NULLs';

-- Seals up to the first that was made after the boundary go.  What of the month is in
-- a later one (it was committed late) is written down.  The same month may go again,
-- when one of its transactions was committed after it had gone.
CREATE FUNCTION leyser.add_checkpoints(boundary timestamptz) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    kept_run bigint := (SELECT min(s.run) FROM leyser.event_seal s WHERE s.sealed_at >= add_checkpoints.boundary);
    last bigint := (SELECT max(e.event_id) FROM leyser.event_record e WHERE e.at < add_checkpoints.boundary);
BEGIN
    INSERT INTO leyser.event_checkpoint AS k (chain, boundary, number, run, link, former_link, sealed_at, members_digest, run_digest, last_event, stragglers)
        SELECT c.chain, add_checkpoints.boundary, coalesce(g.number, 0), coalesce(g.run, 0), coalesce(g.link, leyser.first_link(c.chain)),
               g.former_link, g.sealed_at, g.members_digest, g.run_digest, last,
               ARRAY(SELECT ROW(e.event_id, e.at, e.event, e.digest)::leyser.straggler
                     FROM leyser.event_seal k CROSS JOIN LATERAL leyser.seal_members(k.members) m
                     JOIN leyser.event_record e ON e.event_id = m.event_id AND e.at < add_checkpoints.boundary
                     WHERE k.chain = c.chain AND k.run >= kept_run AND k.first_event <= last)
        FROM (SELECT DISTINCT s.chain FROM leyser.event_seal s
              WHERE s.run < kept_run OR kept_run IS NULL OR s.first_event <= last) c
        LEFT JOIN LATERAL (SELECT l.* FROM (
            (SELECT s.number, s.run, s.link, s.sealed_at, sha256(s.members) AS members_digest, s.run_digest,
                    coalesce((SELECT f.link FROM leyser.event_seal f WHERE f.chain = s.chain AND f.number = s.number - 1),
                             (SELECT f.link FROM leyser.event_checkpoint f WHERE f.chain = s.chain AND f.number = s.number - 1 LIMIT 1),
                             leyser.first_link(s.chain)) AS former_link
             FROM leyser.event_seal s WHERE s.chain = c.chain AND (s.run < kept_run OR kept_run IS NULL) ORDER BY s.number DESC LIMIT 1)
            UNION ALL
            (SELECT p.number, p.run, p.link, p.sealed_at, p.members_digest, p.run_digest, p.former_link
             FROM leyser.event_checkpoint p WHERE p.chain = c.chain AND p.boundary <= add_checkpoints.boundary ORDER BY p.number DESC LIMIT 1)) l ORDER BY l.number DESC LIMIT 1) g ON true
        ON CONFLICT (chain, boundary) DO UPDATE SET number = excluded.number, run = excluded.run, link = excluded.link,
            former_link = excluded.former_link, sealed_at = excluded.sealed_at, members_digest = excluded.members_digest,
            run_digest = excluded.run_digest, last_event = greatest(k.last_event, excluded.last_event),
            stragglers = k.stragglers || excluded.stragglers, dropped_at = clock_timestamp();
    DELETE FROM leyser.event_seal s WHERE s.run < kept_run OR kept_run IS NULL;
END
$$;
REVOKE ALL ON FUNCTION leyser.add_checkpoints(timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.add_checkpoints(timestamptz) IS
    'internal: takes the seals of months that go, and writes down where each chain begins from now on';

CREATE FUNCTION leyser.drop_events_before(boundary timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' SET leyser.registry_work = on
AS $$
DECLARE
    gone bigint := (SELECT count(*) FROM leyser.event_record e WHERE e.at < drop_events_before.boundary);
    month regclass;
BEGIN
    -- a reader verifies with the seals of its snapshot: not while the rows go
    LOCK TABLE leyser.event_checkpoint IN ACCESS EXCLUSIVE MODE;
    FOR month IN SELECT m.relation FROM leyser.event_months() m WHERE m.ends <= drop_events_before.boundary LOOP
        EXECUTE format('DROP TABLE %s', month);
    END LOOP;
    DELETE FROM ONLY leyser.event_record e WHERE e.at < drop_events_before.boundary;
    RETURN gone;
END
$$;
REVOKE ALL ON FUNCTION leyser.drop_events_before(timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.drop_events_before(timestamptz) IS
    'internal: the events of months that are over go; returns how many';

CREATE FUNCTION leyser.drop_event_month(begins timestamptz, ends timestamptz) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    month text := to_char(begins AT TIME ZONE 'UTC', 'YYYY-MM');
    gone bigint;
BEGIN
    PERFORM leyser.add_checkpoints(ends);
    gone := leyser.drop_events_before(ends);
    PERFORM leyser.record_event('events.dropped', NULL, month, jsonb_build_object('events', gone, 'boundary', ends,
        'chains', (SELECT count(*) FROM leyser.event_checkpoint c WHERE c.boundary = ends AND c.dropped_at >= now()),
        'link', (SELECT encode(c.link, 'hex') FROM leyser.event_checkpoint c WHERE c.boundary = ends AND c.chain = '')));
END
$$;
REVOKE ALL ON FUNCTION leyser.drop_event_month(timestamptz, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.drop_event_month(timestamptz, timestamptz) IS
    'internal: drops a month''s events, through checkpoints';

CREATE FUNCTION leyser.drop_event_months() RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    month record;
    dropped integer := 0;
BEGIN
    LOOP
        SELECT m.* INTO month FROM leyser.expired_event_month() m;
        EXIT WHEN month.relation IS NULL;
        IF dropped = 0 THEN
            -- what lies there without a seal would be missing from its chain
            LOCK TABLE leyser.event_seal IN SHARE ROW EXCLUSIVE MODE;
            PERFORM leyser.seal_events();
        END IF;
        PERFORM leyser.drop_event_month(month.begins, month.ends);
        dropped := dropped + 1;
    END LOOP;
    RETURN CASE WHEN dropped > 0 THEN format('months of events that were dropped: %s', dropped) END;
END
$$;
REVOKE ALL ON FUNCTION leyser.drop_event_months() FROM PUBLIC;
COMMENT ON FUNCTION leyser.drop_event_months() IS
    'internal: drops the months whose retention is over; returns what was done, or NULL';
