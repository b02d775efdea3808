-- Tables of the security check: what was waived, and what was seen when.
--
-- Nobody has rights on them, as on all of leyser's tables.

CREATE TABLE leyser.waiver_record (
    check_id text COLLATE "C" NOT NULL,
    object text COLLATE "C" NOT NULL,
    reason text NOT NULL CHECK (reason <> ''),
    waived_by text NOT NULL,            -- the role
    waived_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    valid_until timestamptz NOT NULL,
    PRIMARY KEY (check_id, object)
);
COMMENT ON TABLE leyser.waiver_record IS 'findings that somebody answers for, why, and until when';

-- One row a finding that the nightly check has seen, waived ones too.
CREATE TABLE leyser.finding_record (
    check_id text COLLATE "C" NOT NULL,
    object text COLLATE "C" NOT NULL,
    finding text NOT NULL,
    first_seen timestamptz NOT NULL,
    last_seen timestamptz NOT NULL,
    gone_at timestamptz,                -- the first check that did not see it any more
    told_at timestamptz,                -- when its event was written; NULL again once it is gone
    PRIMARY KEY (check_id, object)
);
COMMENT ON TABLE leyser.finding_record IS 'what the nightly check has seen: since when, and until when';

-- A waiver is somebody's word, and goes with the tables; what was seen is seen anew.
SELECT pg_catalog.pg_extension_config_dump('leyser.waiver_record', '');
