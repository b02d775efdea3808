-- Table of works: procedures of many steps that commit, and can be resumed.
--
-- Nobody has rights on it, as on all of leyser's tables.  No dump carries it: what
-- another server has begun goes on there.

CREATE TABLE leyser.work_record (
    work_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text COLLATE "C" NOT NULL,     -- the procedure's name
    subject text COLLATE "C" NOT NULL,  -- a table, a schema, …
    arguments jsonb NOT NULL,           -- what it was called with, as far as it makes another work
    state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'failed')),
    done bigint NOT NULL DEFAULT 0,
    total bigint,                       -- NULL: not known
    position jsonb,                     -- where to go on: the procedure's own
    last_error text,
    started_by text NOT NULL,           -- the role
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    CHECK ((state = 'running') = (ended_at IS NULL))
);
COMMENT ON TABLE leyser.work_record IS
    'procedures of many steps: what they were called with, how far they are, how they ended';
CREATE INDEX work_record_subject ON leyser.work_record (kind, subject) WHERE state <> 'done';
COMMENT ON INDEX leyser.work_record_subject IS 'works that can be resumed';
