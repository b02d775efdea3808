-- Privileged access: windows in which it has a purpose, and what was written of
-- replication connections.

-- src/privileged_window.c reads the first columns by number.
CREATE TABLE leyser.privileged_window_record (
    window_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    to_role regrole NOT NULL,
    ends_at timestamptz NOT NULL,
    closed_at timestamptz,              -- before its time
    purpose text NOT NULL,
    opened_by text NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE leyser.privileged_window_record IS
    'windows in which a role that row security does not bind has a purpose; what has been is told by the events';
CREATE TRIGGER invalidate AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON leyser.privileged_window_record
    FOR EACH STATEMENT EXECUTE FUNCTION leyser.cache_invalidate('proxy_tables');
ALTER TABLE leyser.privileged_window_record ENABLE ALWAYS TRIGGER invalidate;
COMMENT ON TRIGGER invalidate ON leyser.privileged_window_record IS 'tells every backend to look again';

-- One row: up to which of them this database has events.
CREATE TABLE leyser.replication_noted (
    server_started timestamptz NOT NULL,
    number bigint NOT NULL
);
COMMENT ON TABLE leyser.replication_noted IS
    'the last replication connection, since that start of the server, of which this database has an event';
