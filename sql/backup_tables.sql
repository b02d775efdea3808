-- Tables of backup generations, their policy, and the schedule.
--
-- Nobody has rights on them, as on all of leyser's tables.  A generation's row stays
-- when the backup is gone: history is what the horizon of an erasure is judged by.

-- What is promised; without a row, what present_backup_policy() says.
CREATE TABLE leyser.backup_policy (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    generations integer NOT NULL CHECK (generations BETWEEN 1 AND 1000),
    max_age interval NOT NULL,
    slack interval NOT NULL,            -- for the run of the next backup itself
    regions text[] NOT NULL,
    daily_at time NOT NULL,             -- UTC
    daily_backup boolean NOT NULL       -- whether tick() takes it
);
COMMENT ON TABLE leyser.backup_policy IS
    'how many generations are kept at least, how long at most, where, when the daily one is due, and whether leyser takes it';

-- One row a generation.  The moves between states are those of move_generation().
CREATE TABLE leyser.generation_record (
    generation_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    state text NOT NULL CHECK (state IN
        ('running', 'complete', 'verified', 'failed', 'orphan', 'expired', 'deleted')),
    kind text NOT NULL CHECK (kind IN ('full', 'differential', 'incremental', 'snapshot', 'restore_copy')),
    parent bigint CHECK (parent <> generation_id),  -- no foreign key: of one to itself pg_dump warns
    tool text NOT NULL CHECK (tool IN ('manual', 'pg_basebackup', 'pgbackrest', 'barman', 'backup_manifest', 'other_database', 'unknown')),
    source text NOT NULL DEFAULT '',    -- of the tool: stanza and repository, Barman's server
    label text NOT NULL,
    location text,
    region text,
    system_identifier bigint,           -- as pg_control_system() tells it
    timeline integer,
    start_lsn pg_lsn,                   -- while it runs: not before this
    stop_lsn pg_lsn,
    started_at timestamptz NOT NULL,
    completed_at timestamptz,
    verified_at timestamptz,
    failed_at timestamptz,
    expired_at timestamptz,             -- by the policy
    deleted_at timestamptz,             -- seen to be gone
    seen_at timestamptz,                -- when an import found it, or found it changed
    bytes bigint CHECK (bytes >= 0),
    checksum text,
    error text,
    recorded_by text NOT NULL,          -- the role
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (stop_lsn >= start_lsn),
    CHECK ((kind IN ('differential', 'incremental')) OR parent IS NULL)
);
COMMENT ON TABLE leyser.generation_record IS
    'backup generations, snapshots and copies that were restored, with their states; the rows stay';
CREATE UNIQUE INDEX generation_record_label ON leyser.generation_record (tool, source, label, started_at);
COMMENT ON INDEX leyser.generation_record_label IS 'a repeated import finds what it recorded';
CREATE INDEX generation_record_parent ON leyser.generation_record (parent) WHERE parent IS NOT NULL;
COMMENT ON INDEX leyser.generation_record_parent IS 'the generations that need a generation';
CREATE INDEX generation_record_kept ON leyser.generation_record (started_at) WHERE deleted_at IS NULL;
COMMENT ON INDEX leyser.generation_record_kept IS 'generations that may still exist';

-- The systems that this database has lived on: pg_upgrade starts another one, whose
-- LSNs have nothing to do with those before.
CREATE TABLE leyser.system_record (
    system_identifier bigint PRIMARY KEY,
    since timestamptz NOT NULL,         -- when the books first saw themselves there
    since_lsn pg_lsn NOT NULL
);
COMMENT ON TABLE leyser.system_record IS 'the systems, by pg_control_system(), on which this database has lived';

-- What the archives of WAL still hold, as the tools told it last; no row for an
-- archive of which nothing is known.
CREATE TABLE leyser.wal_archive_record (
    tool text NOT NULL,
    source text NOT NULL,               -- as of generations
    system_identifier bigint NOT NULL,
    timeline integer,                   -- of the oldest segment
    oldest_segment text,                -- NULL: it holds none, or the tool does not tell
    newest_segment text,
    oldest_lsn pg_lsn,                  -- NULL where it is not known, too
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),     -- when an import found it so first
    PRIMARY KEY (tool, source, system_identifier)
);
COMMENT ON TABLE leyser.wal_archive_record IS
    'from where to where the archives of WAL go, as imports of backups found it';

-- For how long an archive has begun where: the day on which it was past something.
CREATE TABLE leyser.wal_archive_history (
    tool text NOT NULL,
    source text NOT NULL,
    system_identifier bigint NOT NULL,
    timeline integer,
    oldest_lsn pg_lsn,                  -- NULL: not known; FFFFFFFF/FFFFFFFF: the archive was gone
    since timestamptz NOT NULL
);
COMMENT ON TABLE leyser.wal_archive_history IS 'since when archives of WAL have begun where';
CREATE INDEX wal_archive_history_archive ON leyser.wal_archive_history (tool, source, system_identifier, since);
COMMENT ON INDEX leyser.wal_archive_history_archive IS 'what became of one archive';

SELECT pg_catalog.pg_extension_config_dump('leyser.backup_policy', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.generation_record', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.generation_record_generation_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.wal_archive_record', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.wal_archive_history', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.system_record', '');
