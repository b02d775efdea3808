-- Tables of contracts and purges.
--
-- Nobody has rights on them, as on all of leyser's tables.  A purge's state is
-- what these rows say: whoever goes on after a crash reads nothing else.

-- What a contract's end is judged by; without a row, what its column defaults say.
CREATE TABLE leyser.contract_policy (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    contract_time_zone text NOT NULL DEFAULT 'Asia/Tokyo'
);
COMMENT ON TABLE leyser.contract_policy IS 'in which time zone the day of a contract ends';

-- A contract's end, from its announcement on; a cancelled one is removed.
CREATE TABLE leyser.termination_record (
    tenant_id text COLLATE "C" PRIMARY KEY REFERENCES leyser.tenant_record,
    effective_at timestamptz NOT NULL,
    reason text,
    requested_by text NOT NULL,         -- the role
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    confirmed_by text,                  -- NULL: leyser.second_person waits for another role
    confirmed_at timestamptz,
    from_state text NOT NULL,           -- where cancel_termination() leads
    requested_in text NOT NULL          -- the session's role, which SET ROLE does not change
);
COMMENT ON TABLE leyser.termination_record IS 'when a tenant''s contract ends, and who said so';

CREATE TABLE leyser.hold_record (
    tenant_id text COLLATE "C" PRIMARY KEY REFERENCES leyser.tenant_record,
    legal_basis text NOT NULL,
    review_on date NOT NULL,
    held_by text NOT NULL,
    held_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE leyser.hold_record IS 'tenants that are locked out and must not be erased';

CREATE TABLE leyser.external_store (
    name text COLLATE "C" PRIMARY KEY,
    registered_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE leyser.external_store IS 'files, search indexes and the like that hold tenants'' data outside the database';

CREATE TABLE leyser.external_erasure (
    tenant_id text COLLATE "C" NOT NULL REFERENCES leyser.tenant_record,
    name text COLLATE "C" NOT NULL,
    confirmed_by text NOT NULL,
    confirmed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, name)
);
COMMENT ON TABLE leyser.external_erasure IS 'who confirmed that an external store holds nothing of a tenant any longer';

CREATE TABLE leyser.purge_record (
    purge_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL REFERENCES leyser.tenant_record,
    state text NOT NULL CHECK (state IN ('due', 'deleting', 'waiting', 'scrubbing', 'erased', 'held')),
    batch_size integer NOT NULL CHECK (batch_size BETWEEN 1 AND 1000000),
    max_rows_per_second integer NOT NULL CHECK (max_rows_per_second >= 0),  -- 0: as fast as it goes
    queued_by text NOT NULL,
    queued_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    pass integer NOT NULL DEFAULT 0,    -- over all tables; the last one finds nothing
    deleted_at timestamptz,             -- nothing of the tenant was found any longer
    deleted_xid xid8,                   -- older transactions may still see what was deleted
    scrub_end_lsn pg_lsn,               -- WAL from here on holds nothing of the tenant …
    erased_at timestamptz,
    last_error text,                    -- why the last attempt failed; it is repeated
    writers_before xid8,                -- transactions from here on could write nothing for the tenant
    statistics_at timestamptz,          -- when the planner's statistics were renewed
    statistics_xid xid8,                -- older transactions may still see former statistics
    wal_at timestamptz,                 -- when pg_wal held nothing older than scrub_end_lsn
    -- where numbers of transactions and places in the write-ahead log mean something
    scrub_system bigint,                -- the system, as pg_control_system() tells it,
    database_id oid,                    -- its database,
    scrub_timeline integer,             -- and of scrub_end_lsn the timeline
    cleared_timeline integer,           -- whose server's pg_wal was cleared: another one after a promotion
    lost_files integer NOT NULL DEFAULT 0,  -- that a crash removed, perhaps before they were overwritten
    started_lsn pg_lsn,                 -- nothing of the tenant was deleted before,
    started_system bigint,              -- in this system
    replay boolean NOT NULL DEFAULT false  -- after a restore: erased again
);
COMMENT ON TABLE leyser.purge_record IS 'purges and their states';
CREATE UNIQUE INDEX purge_record_one ON leyser.purge_record (tenant_id) WHERE state <> 'erased';
COMMENT ON INDEX leyser.purge_record_one IS 'two purges of one tenant never run together';

-- One row a relation (a leaf partition, a table of leyser), in the order of deletion.
CREATE TABLE leyser.purge_table (
    purge_id bigint NOT NULL REFERENCES leyser.purge_record ON DELETE CASCADE,
    step integer NOT NULL,
    relation oid NOT NULL,              -- of confirm: what is scrubbed afterwards, or 0
    relation_name text NOT NULL,        -- as it was planned
    action text NOT NULL,               -- delete, delete together, truncate, erase, refresh, scrub, confirm, keep
    condition text,                     -- over the relation's columns; $1 is the tenant id
    rows_planned bigint,
    rows_deleted bigint NOT NULL DEFAULT 0,
    pages_scrubbed bigint NOT NULL DEFAULT 0,
    indexes_rebuilt integer NOT NULL DEFAULT 0,
    scrubbed_at timestamptz,
    note text,
    assignments text,                   -- of action erase: UPDATE … SET assignments WHERE condition
    together integer,                   -- of action delete together: rows of one number, one transaction
    verified_at timestamptz,            -- when a look after the scrub found nothing
    scrubbed_since pg_lsn,              -- pages that changed later hold others' bytes
    PRIMARY KEY (purge_id, step)
);
COMMENT ON TABLE leyser.purge_table IS 'what a purge does, and has done, to each relation';

CREATE TABLE leyser.purge_blocker (
    purge_id bigint NOT NULL REFERENCES leyser.purge_record ON DELETE CASCADE,
    kind text NOT NULL,                 -- transaction, prepared transaction, replication slot, standby, archiver, …
    subject text NOT NULL,              -- pid, transaction id, slot, index, …
    detail text NOT NULL,               -- of processes and prepared transactions: only what purge_waits() cannot look up
    remedy text NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (purge_id, kind, subject)
);
COMMENT ON TABLE leyser.purge_blocker IS 'what a purge waits for at the moment';

SELECT pg_catalog.pg_extension_config_dump('leyser.contract_policy', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.termination_record', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.hold_record', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.external_store', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.external_erasure', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.purge_record', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.purge_record_purge_id_seq', '');
