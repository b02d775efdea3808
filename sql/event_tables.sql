-- Tables of the event log's chain and retention.

CREATE TABLE leyser.event_pending (
    event_id bigint NOT NULL,
    at timestamptz NOT NULL,
    chain text COLLATE "C" NOT NULL,
    event text COLLATE "C" NOT NULL,
    rows bigint NOT NULL,               -- of an audited statement
    leaf bytea NOT NULL
);
COMMENT ON TABLE leyser.event_pending IS
    'events that no seal holds yet, with the hash of what stays of them, and what is counted of them; no index, for each event adds a row and each seal takes some';

CREATE TABLE leyser.event_seal (
    chain text COLLATE "C" NOT NULL,    -- a tenant's id; empty: of the service
    number bigint NOT NULL,
    run bigint NOT NULL,                -- the service's number of the same moment
    sealed_at timestamptz NOT NULL,
    events integer NOT NULL,
    first_event bigint,
    last_event bigint,
    members bytea NOT NULL,             -- id and leaf of each event, 40 bytes, in order
    run_digest bytea,                   -- of the service: over the other links of the run
    link bytea NOT NULL,
    PRIMARY KEY (chain, number)
);
ALTER TABLE leyser.event_seal ALTER COLUMN members SET STORAGE EXTERNAL;
COMMENT ON TABLE leyser.event_seal IS
    'the chains of events: each seal''s link stands for its events and all before it in its chain; the service''s for all chains';
CREATE INDEX event_seal_run ON leyser.event_seal (run, chain);
COMMENT ON INDEX leyser.event_seal_run IS 'seals in the order in which they are verified';

CREATE TYPE leyser.straggler AS (
    event_id bigint,
    at timestamptz,
    event text,
    digest bytea
);
COMMENT ON TYPE leyser.straggler IS 'an event that was dropped and whose seal stays: of what its leaf is made, beside the tenant';

CREATE TABLE leyser.event_checkpoint (
    chain text COLLATE "C" NOT NULL,
    boundary timestamptz NOT NULL,      -- what was recorded before it is dropped
    number bigint NOT NULL,             -- the last seal that went with it, 0: none
    run bigint NOT NULL,
    link bytea NOT NULL,
    former_link bytea,                  -- of that seal, of what its link is made
    sealed_at timestamptz,
    members_digest bytea,
    run_digest bytea,
    last_event bigint,                  -- the newest event that went
    stragglers leyser.straggler[] NOT NULL, -- events that went, and whose seals stay
    dropped_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (chain, boundary)
);
COMMENT ON TABLE leyser.event_checkpoint IS
    'where the chains begin since months of events were dropped at the end of their retention';

-- Months are of different lengths: at no time of the year may it be shorter.
CREATE FUNCTION leyser.is_retention(retention interval) RETURNS boolean
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT bool_and(m + retention >= m + interval '6 months')
    FROM generate_series(timestamp '2023-01-01', timestamp '2024-12-31', interval '1 day') m
$$;
REVOKE ALL ON FUNCTION leyser.is_retention(interval) FROM PUBLIC;
COMMENT ON FUNCTION leyser.is_retention(interval) IS
    'internal: whether events may be kept for so long: six months at least, in every season';

CREATE TABLE leyser.event_retention (
    since timestamptz PRIMARY KEY DEFAULT clock_timestamp(),
    retention interval NOT NULL CHECK (leyser.is_retention(retention)),
    ended_at timestamptz CHECK (ended_at >= since),
    set_by text NOT NULL
);
COMMENT ON TABLE leyser.event_retention IS
    'how long events are kept, and since when that was promised; empty: six months';

CREATE TABLE leyser.daily_usage_record (
    day date NOT NULL,                  -- by UTC
    tenant_id text COLLATE "C" NOT NULL,    -- empty: none
    event text COLLATE "C" NOT NULL,    -- as in the event log, or what src/refusal.c counts
    events bigint NOT NULL,
    rows bigint NOT NULL,               -- of audited statements
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (day, tenant_id, event)
);
COMMENT ON TABLE leyser.daily_usage_record IS
    'how many events of each kind there were, by tenant and day, and what was refused; kept as long as the events';
CREATE INDEX daily_usage_record_tenant ON leyser.daily_usage_record (tenant_id, day);
COMMENT ON INDEX leyser.daily_usage_record_tenant IS 'one tenant''s days, in order';

CREATE FUNCTION leyser.take_refusals()
    RETURNS TABLE (event text, tenant_id text, events bigint, first_at timestamptz, last_at timestamptz)
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_take_refusals';
REVOKE ALL ON FUNCTION leyser.take_refusals() FROM PUBLIC;
COMMENT ON FUNCTION leyser.take_refusals() IS
    'internal: what was refused since it was last called; put back where the transaction is rolled back';

CREATE FUNCTION leyser.refusals_wait() RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_refusals_wait';
REVOKE ALL ON FUNCTION leyser.refusals_wait() FROM PUBLIC;
COMMENT ON FUNCTION leyser.refusals_wait() IS 'internal: whether something was refused that is not written down yet';

SELECT pg_catalog.pg_extension_config_dump('leyser.event_pending', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.daily_usage_record', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.event_seal', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.event_checkpoint', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.event_retention', '');
