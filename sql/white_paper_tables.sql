-- Tables of the white paper: what was attested, and since when each clause has been as
-- it is.
--
-- Nobody has rights on them, as on all of leyser's tables.

CREATE TABLE leyser.attestation_record (
    attestation_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    clause text COLLATE "C" NOT NULL,
    statement text NOT NULL CHECK (statement <> ''),
    attested_by text NOT NULL CHECK (attested_by <> ''),    -- a person or a body, as the document names it
    document_sha256 bytea NOT NULL CHECK (octet_length(document_sha256) = 32),
    valid_until timestamptz NOT NULL,
    recorded_by text NOT NULL,          -- the role
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    withdrawn_at timestamptz
);
COMMENT ON TABLE leyser.attestation_record IS
    'what no database can know, by whose word, resting on which document, and until when';

-- As the heartbeat saw it last.
CREATE TABLE leyser.clause_record (
    clause text COLLATE "C" PRIMARY KEY,
    status text NOT NULL,
    since timestamptz NOT NULL,
    seen_at timestamptz NOT NULL
);
COMMENT ON TABLE leyser.clause_record IS 'the clauses of the white paper: how each is, and since when';

-- What ran here, as the heartbeat saw it.
CREATE TABLE leyser.version_record (
    part text COLLATE "C" NOT NULL,
    version text NOT NULL,
    since timestamptz NOT NULL,
    is_first boolean NOT NULL,          -- the one that was there when somebody looked first
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (part, since)
);
COMMENT ON TABLE leyser.version_record IS 'versions of the server and of leyser: since when each has been running';

-- What those did who hold a usage: counted from the seals, each event once.
CREATE TABLE leyser.role_usage_record (
    day date NOT NULL,                  -- by UTC
    role text COLLATE "C" NOT NULL,     -- the role in force, as the event has it
    events bigint NOT NULL,
    PRIMARY KEY (day, role)
);
COMMENT ON TABLE leyser.role_usage_record IS 'how many events each role caused on each day, for thirteen months';
CREATE TABLE leyser.role_usage_mark (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    run bigint NOT NULL
);
COMMENT ON TABLE leyser.role_usage_mark IS 'the last run of seals whose events were counted by role';

-- The last time that the whole event log was verified.
CREATE TABLE leyser.verification_record (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    verified_at timestamptz NOT NULL,
    problems bigint NOT NULL,
    first_problem text,                 -- the oldest event with one, and what it is
    broken_since timestamptz            -- when a problem was seen first, while there are any
);
COMMENT ON TABLE leyser.verification_record IS 'what came of verifying the event log last';

-- What was seen is seen anew; an attestation is somebody's word, and goes with the tables.
SELECT pg_catalog.pg_extension_config_dump('leyser.attestation_record', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.attestation_record_attestation_id_seq', '');

-- What the judges of the clauses are given …
CREATE TYPE leyser.clause_finding AS (
    check_id text,
    severity text,
    fails text,
    object text,
    finding text,
    remedy text,
    since timestamptz,
    waived_until timestamptz
);
COMMENT ON TYPE leyser.clause_finding IS 'a finding of the security check, waived or not';
CREATE TYPE leyser.clause_alert AS (
    alert text,
    subjects text[],
    since timestamptz,                  -- the first of them
    remedies text[]                     -- as SQL or comments, at most five
);
COMMENT ON TYPE leyser.clause_alert IS 'the rows of view backup_alert of one alert, put together';
CREATE TYPE leyser.clause_look AS (
    language text,
    names boolean,                      -- of tenants, roles, objects: told, or only counted
    findings leyser.clause_finding[],
    alerts leyser.clause_alert[]
);
COMMENT ON TYPE leyser.clause_look IS 'what one call of white_paper() has seen, in which language it tells, and whether it names';

-- … and what they say: one row for each thing that they looked at.
CREATE TYPE leyser.clause_point AS (
    state text,                         -- kept, told, outside, attested, at risk, broken
    evidence text,
    since timestamptz,
    remedy text
);
COMMENT ON TYPE leyser.clause_point IS 'one thing that speaks for or against a clause; told: neither';

CREATE TYPE leyser.told_clause AS (
    clause text,
    promise text,
    responsible text,
    status text,
    evidence text,
    since timestamptz,
    remedy text,
    iso_27017 text
);
COMMENT ON TYPE leyser.told_clause IS 'a row of white_paper()';
