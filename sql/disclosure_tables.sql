-- Disclosures: one tenant's rows, because the law demands it.

-- What is told of a disclosure for ever.  A dump carries it, and roles by their names.
CREATE TABLE leyser.disclosure_record (
    disclosure_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL REFERENCES leyser.tenant_record,
    legal_basis text,                   -- NULL: erased with the tenant
    valid_for interval NOT NULL,
    to_role text NOT NULL,              -- who reads
    opened_by text NOT NULL,
    opened_in text NOT NULL,            -- the session's role, which SET ROLE does not change
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    confirmed_by text,
    confirmed_in text,
    confirmed_at timestamptz,
    ends_at timestamptz,                -- NULL: not confirmed
    closed_at timestamptz,              -- before its time
    closed_by text,
    untold_reason text,                 -- why the tenant was not told at once
    untold_until timestamptz,           -- when it is told; NULL: once somebody says so
    told_at timestamptz                 -- NULL: it does not know
);
COMMENT ON TABLE leyser.disclosure_record IS 'disclosures of tenants'' rows that the law demanded: who asked for them, who confirmed them, and why';

-- What lets somebody in.  No dump carries it, so none comes back with one.
-- src/disclosure.c reads the columns by number.
CREATE TABLE leyser.disclosure_window (
    session_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),  -- of the contexts it lets in
    to_role regrole NOT NULL,
    ends_at timestamptz,                -- NULL: not confirmed
    tenant_id text COLLATE "C" NOT NULL,
    disclosure_id bigint NOT NULL UNIQUE REFERENCES leyser.disclosure_record ON DELETE CASCADE,
    openers oid[] NOT NULL              -- roles that are not to confirm it
);
COMMENT ON TABLE leyser.disclosure_window IS 'disclosures of this server: the sessions of their contexts, and until when these count';

SELECT pg_catalog.pg_extension_config_dump('leyser.disclosure_record', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.disclosure_record_disclosure_id_seq', '');
