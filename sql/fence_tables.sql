-- Tables of fences and restores.  src/fence_tables.c reads them by their columns' names.
--
-- A fence is a file outside the data directory (src/fence_file.c); a row here says
-- that there is one, so that a host without it is noticed.

CREATE TABLE leyser.fence_record (
    database_id uuid PRIMARY KEY,       -- this database, or one that its rows were dumped from
    incarnation uuid NOT NULL DEFAULT gen_random_uuid(),  -- of this database: another one after each released restore
    fenced_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    accepted_in uuid,                   -- the database that was told to do without this fence
    accepted_at timestamptz,
    accepted_by text,
    reason text
);
COMMENT ON TABLE leyser.fence_record IS
    'the databases whose fences tell which tenants must not come back: this one, and those from which its rows were dumped';

CREATE TABLE leyser.restore_record (
    restore_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    noticed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    cause text NOT NULL,
    restored_to timestamptz,            -- the newest event that it had
    keys_retired integer NOT NULL,
    sessions_ended integer NOT NULL,
    released_at timestamptz,            -- NULL: what destroys is held
    released_by text
);
COMMENT ON TABLE leyser.restore_record IS 'restores that were noticed, and when each was over';

SELECT pg_catalog.pg_extension_config_dump('leyser.fence_record', '');
