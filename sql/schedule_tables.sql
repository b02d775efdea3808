-- Tables of the schedule: when each job is due, what became of it, and what told
-- pg_cron to beat.
--
-- Nobody has rights on them, as on all of leyser's tables.  No dump carries them:
-- a restored database reckons its due times anew.

CREATE TABLE leyser.tick_record (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    last_tick_at timestamptz NOT NULL,
    last_tick_by text NOT NULL,         -- the role
    latest_at timestamptz NOT NULL,     -- the latest time that a tick has seen: the clock may stand before it
    -- until then, later times in the books are known to be wrong: somebody accepted the clock
    accepted_at timestamptz,
    disbelieved_until timestamptz,
    -- how often the clock was seen to have been moved back, when last, and from where
    moved_back integer NOT NULL DEFAULT 0,
    moved_back_at timestamptz,
    moved_back_from timestamptz
);
COMMENT ON TABLE leyser.tick_record IS 'the heartbeat: when somebody last called tick(), and the latest time seen';

-- One row a kind of job (job_kinds()), made by the first tick.
CREATE TABLE leyser.job_record (
    job text COLLATE "C" PRIMARY KEY,
    due_at timestamptz NOT NULL,
    daily_at time,                      -- UTC: by which due_at was reckoned
    retry_at timestamptz,               -- not before, where the last run failed
    running_since timestamptz,          -- set and cleared in transactions of their own
    running_pid integer,
    handed_to bigint,                   -- the generation that a worker takes, until its end was seen
    last_started timestamptz,
    last_success timestamptz,
    failures integer NOT NULL DEFAULT 0,  -- since the last success
    failing_since timestamptz,
    last_error text
);
COMMENT ON TABLE leyser.job_record IS 'the jobs of tick(): when they are due, and how they went';

CREATE TABLE leyser.job_run_record (
    run_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job text COLLATE "C" NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    state text NOT NULL CHECK (state IN ('done', 'failed', 'interrupted')),
    detail text
);
COMMENT ON TABLE leyser.job_run_record IS 'runs of jobs that did something, failed or were interrupted';
CREATE INDEX job_run_record_ended ON leyser.job_run_record (ended_at);
COMMENT ON INDEX leyser.job_run_record_ended IS 'old runs are removed';

-- What a job could not do for one of many, while it went on with the others.
CREATE TABLE leyser.job_problem (
    job text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,  -- a tenant, a job of pg_cron
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    failures integer NOT NULL DEFAULT 1,
    retry_at timestamptz NOT NULL,
    detail text NOT NULL,
    remedy text NOT NULL,
    PRIMARY KEY (job, subject)
);
COMMENT ON TABLE leyser.job_problem IS 'what a job could not do, and tries again';

-- What schedule() told pg_cron, and where that lives.
CREATE TABLE leyser.cron_job_record (
    job_name text COLLATE "C" NOT NULL,
    role_name name NOT NULL,            -- as whom pg_cron calls
    cron_schedule text NOT NULL,        -- GMT, as pg_cron reads it
    command text NOT NULL,
    database_name name NOT NULL,        -- this one, as it was called then
    cron_database name NOT NULL,
    scheduled_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (job_name, role_name)
);
COMMENT ON TABLE leyser.cron_job_record IS 'the jobs of pg_cron that call tick() here';

-- The tenants that a tick looks for, among thousands.
CREATE INDEX tenant_record_ending ON leyser.tenant_record (ends_at) WHERE state IN ('terminating', 'terminated');
COMMENT ON INDEX leyser.tenant_record_ending IS 'tenants whose contracts end or have ended';
