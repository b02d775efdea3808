-- Seals: events that are committed are put into their chains.
--
-- A writer adds its event and a row of event_pending, and waits for nobody.  Whoever
-- seals takes all pending rows that are committed, whatever the order of their ids:
-- what commits late is in a later seal.  One seals at a time; the worker does, for it
-- sees what is committed, and so does the heartbeat.
--
--     leaf = SHA-256(time, event, tenant, digest), made with the event (src/event_digest.c)
--     members = (id, leaf) of each event, ordered by id
--     link = SHA-256(former link, number, time, SHA-256(members)[, run digest])
--
-- In each run the service's chain, whose name is empty, gets one seal, over its own
-- events and over the links of all the others of the run: it stands for all.

CREATE FUNCTION leyser.first_link(chain text) RETURNS bytea
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT sha256(convert_to('leyser events:' || chain, 'UTF8')) $$;
REVOKE ALL ON FUNCTION leyser.first_link(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.first_link(text) IS 'internal: what the first seal of a chain is linked to';

CREATE FUNCTION leyser.link_of(former bytea, number bigint, sealed_at timestamptz, members_digest bytea, run_digest bytea)
    RETURNS bytea
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT sha256(former || int8send(number) || timestamptz_send(sealed_at) || members_digest || coalesce(run_digest, ''::bytea))
$$;
REVOKE ALL ON FUNCTION leyser.link_of(bytea, bigint, timestamptz, bytea, bytea) FROM PUBLIC;
COMMENT ON FUNCTION leyser.link_of(bytea, bigint, timestamptz, bytea, bytea) IS 'internal: the link of a seal, by the hash of its members';

-- run_digest: of the service's chain, else NULL.
CREATE FUNCTION leyser.seal_link(former bytea, number bigint, sealed_at timestamptz, members bytea, run_digest bytea)
    RETURNS bytea
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT leyser.link_of(former, number, sealed_at, sha256(members), run_digest)
$$;
REVOKE ALL ON FUNCTION leyser.seal_link(bytea, bigint, timestamptz, bytea, bytea) FROM PUBLIC;
COMMENT ON FUNCTION leyser.seal_link(bytea, bigint, timestamptz, bytea, bytea) IS 'internal: the link of a seal';

CREATE FUNCTION leyser.run_digest(run bigint) RETURNS bytea
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT sha256(coalesce(string_agg(sha256(convert_to(s.chain, 'UTF8')) || int8send(s.number) || s.link, ''::bytea
                                      ORDER BY s.chain), ''::bytea))
    FROM leyser.event_seal s WHERE s.run = run_digest.run AND s.chain <> ''
$$;
REVOKE ALL ON FUNCTION leyser.run_digest(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.run_digest(bigint) IS 'internal: over the links of all chains but the service''s that a run made';

-- What the next seal of a chain is linked to: the newest seal, or the checkpoint that
-- was put in its place.
CREATE FUNCTION leyser.chain_end(chain text, OUT number bigint, OUT link bytea)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT e.number, e.link FROM (
        (SELECT s.number, s.link FROM leyser.event_seal s WHERE s.chain = chain_end.chain ORDER BY s.number DESC LIMIT 1)
        UNION ALL
        (SELECT c.number, c.link FROM leyser.event_checkpoint c WHERE c.chain = chain_end.chain ORDER BY c.number DESC LIMIT 1)
        UNION ALL
        SELECT 0, leyser.first_link(chain_end.chain)) e
    ORDER BY e.number DESC LIMIT 1
$$;
REVOKE ALL ON FUNCTION leyser.chain_end(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.chain_end(text) IS 'internal: number and link of the end of a chain; 0 for one that has not begun';

CREATE TYPE leyser.pending_seal AS (
    chain text,
    events integer,
    first_event bigint,
    last_event bigint,
    members bytea,
    latest_at timestamptz
);
COMMENT ON TYPE leyser.pending_seal IS 'the events of a chain that are sealed together';

-- Nothing is looked up in the log itself, so nobody who locks it keeps events from being sealed.
CREATE FUNCTION leyser.take_pending(most integer) RETURNS leyser.pending_seal[]
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    WITH taken AS MATERIALIZED (
        DELETE FROM leyser.event_pending p
        WHERE p.ctid = ANY (ARRAY(SELECT o.ctid FROM leyser.event_pending o LIMIT most))
        RETURNING p.*
    ), counted AS MATERIALIZED (
        SELECT t.chain, (t.at AT TIME ZONE 'UTC')::date AS day, t.event, count(*) AS events,
               sum(t.rows)::bigint AS rows, min(t.at) AS first_at, max(t.at) AS last_at
        FROM taken t GROUP BY t.chain, day, t.event ORDER BY t.chain, day, t.event
    ), used AS MATERIALIZED (
        SELECT count(leyser.add_daily_usage(c.chain, c.day, c.event, c.events, c.rows, c.first_at, c.last_at)) FROM counted c
    ), grouped AS (
        SELECT t.chain, count(*)::integer AS events, min(t.event_id) AS first_event, max(t.event_id) AS last_event,
               string_agg(int8send(t.event_id) || t.leaf, ''::bytea ORDER BY t.event_id) AS members, max(t.at) AS latest_at
        FROM taken t GROUP BY t.chain
    )
    SELECT array_agg(ROW(g.*)::leyser.pending_seal) FROM grouped g, used
$$;
REVOKE ALL ON FUNCTION leyser.take_pending(integer) FROM PUBLIC;
COMMENT ON FUNCTION leyser.take_pending(integer) IS
    'internal: takes events that are to be sealed, by chain, and counts them by tenant and day; NULL where there are none';

-- One run.  Its time is not before its events', or a month could lose its seals
-- before its events.
CREATE FUNCTION leyser.add_seals(taken leyser.pending_seal[]) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    former record;
    own leyser.pending_seal;
    new_run bigint;
    at timestamptz := greatest(clock_timestamp(), (SELECT max(t.latest_at) FROM unnest(taken) t));
    others bytea;
BEGIN
    SELECT e.* INTO former FROM leyser.chain_end('') e;
    new_run := former.number + 1;
    INSERT INTO leyser.event_seal (chain, number, run, sealed_at, events, first_event, last_event, members, link)
        SELECT t.chain, e.number + 1, new_run, at, t.events, t.first_event, t.last_event, t.members,
               leyser.seal_link(e.link, e.number + 1, at, t.members, NULL)
        FROM unnest(taken) t CROSS JOIN LATERAL leyser.chain_end(t.chain) e WHERE t.chain <> '';
    others := leyser.run_digest(new_run);
    SELECT t.* INTO own FROM unnest(taken) t WHERE t.chain = '';
    own.members := coalesce(own.members, ''::bytea);
    INSERT INTO leyser.event_seal (chain, number, run, sealed_at, events, first_event, last_event, members, run_digest, link)
        VALUES ('', new_run, new_run, at, coalesce(own.events, 0), own.first_event, own.last_event, own.members, others,
                leyser.seal_link(former.link, new_run, at, own.members, others));
END
$$;
REVOKE ALL ON FUNCTION leyser.add_seals(leyser.pending_seal[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.add_seals(leyser.pending_seal[]) IS 'internal: adds the seals of one run';

CREATE FUNCTION leyser.seal_events() RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    taken leyser.pending_seal[];
    sealed bigint := 0;
BEGIN
    BEGIN
        LOCK TABLE leyser.event_seal IN SHARE ROW EXCLUSIVE MODE NOWAIT;
    EXCEPTION WHEN lock_not_available THEN
        RETURN NULL;
    END;
    LOOP
        taken := leyser.take_pending(10000);
        EXIT WHEN taken IS NULL;
        PERFORM leyser.add_seals(taken);
        sealed := sealed + (SELECT sum(t.events) FROM unnest(taken) t);
    END LOOP;
    RETURN sealed;
END
$$;
REVOKE ALL ON FUNCTION leyser.seal_events() FROM PUBLIC;
COMMENT ON FUNCTION leyser.seal_events() IS
    'internal: seals all events that are committed and returns how many; NULL where another session does';

-- ---- members ----

CREATE FUNCTION leyser.seal_members(members bytea) RETURNS TABLE (event_id bigint, leaf bytea)
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT ('x' || encode(substr(members, 40 * i + 1, 8), 'hex'))::bit(64)::bigint, substr(members, 40 * i + 9, 32)
    FROM generate_series(0, length(members) / 40 - 1) i
$$;
REVOKE ALL ON FUNCTION leyser.seal_members(bytea) FROM PUBLIC;
COMMENT ON FUNCTION leyser.seal_members(bytea) IS 'internal: ids and leaves of the events of a seal';

CREATE FUNCTION leyser.has_member(members bytea, event_id bigint, leaf bytea) RETURNS boolean
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM leyser.seal_members(members) m WHERE m.event_id = has_member.event_id AND m.leaf = has_member.leaf)
$$;
REVOKE ALL ON FUNCTION leyser.has_member(bytea, bigint, bytea) FROM PUBLIC;
COMMENT ON FUNCTION leyser.has_member(bytea, bigint, bytea) IS 'internal: whether a seal tells of an event';
