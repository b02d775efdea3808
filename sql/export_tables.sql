-- Windows in which a role reads one tenant's rows.

-- One for each role: as long as it is open, it is what the role sees.  What has
-- been is told by the events.  src/export.c reads the first columns by number.
CREATE TABLE leyser.export_record (
    to_role regrole PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL REFERENCES leyser.tenant_record,
    ends_at timestamptz,                -- NULL: leyser.second_person waits for another role
    ended_at timestamptz,               -- closed before its time
    valid_for interval NOT NULL,
    reason text,
    opened_in text NOT NULL,            -- the session's role, which SET ROLE does not change
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    confirmed_by text
);
COMMENT ON TABLE leyser.export_record IS 'windows in which a role reads one tenant''s rows, to hand them over';
