-- leyser's own backups: what the backup worker (src/backup_worker.c) writes into the
-- books, and the calls that have it do so.
--
-- The row's source is the id of the directory that holds the backup.

CREATE FUNCTION leyser.perform_backup(label text, wait boolean) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_perform_backup';
REVOKE ALL ON FUNCTION leyser.perform_backup(text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.perform_backup(text, boolean) IS
    'internal: has the worker take a backup; with wait until it is verified or has failed, and a cancelled call cancels it; without, until it is in the books, and it goes on by itself';

CREATE FUNCTION leyser.take_backup(label text DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leyser.check_line('label', take_backup.label, take_backup.label IS NOT NULL);
    RETURN leyser.perform_backup(take_backup.label, true);
END
$$;
REVOKE ALL ON FUNCTION leyser.take_backup(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.take_backup(text) IS
    'backup: takes a base backup of the whole server into leyser.backup_directory, verifies it and returns its generation_id; a cancelled call cancels it, a rollback changes nothing. 22023 for a label that cannot be, 25006 on a standby, 28000 where pg_hba.conf keeps it out, 42501, 42809 or 58P01 where the directory cannot be used, 53000 without a free worker, 53100 without room, 55000 for a directory or settings that are not fit, 55006 while another is taken, 58000 and 58P01 where a program fails or is missing, XX001 where the verification fails';

CREATE FUNCTION leyser.backup_is_running() RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_backup_is_running';
REVOKE ALL ON FUNCTION leyser.backup_is_running() FROM PUBLIC;
COMMENT ON FUNCTION leyser.backup_is_running() IS
    'internal: whether the server takes a backup of leyser''s, or cleans up after one, for whatever database';

CREATE FUNCTION leyser.clean_backups(wait boolean DEFAULT true) RETURNS integer
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_clean_backups';
REVOKE ALL ON FUNCTION leyser.clean_backups(boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.clean_backups(boolean) IS
    'internal: has the worker remove expired and failed backups and what was left by a crash, and verify what was not; returns how many there were, 0 at once where there is nothing to do, leyser.backup_directory is not set or a backup is being taken. Without wait it goes on by itself';

CREATE FUNCTION leyser.folder_of(location text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT substring(location FROM '[^/]*$') $$;
REVOKE ALL ON FUNCTION leyser.folder_of(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.folder_of(text) IS 'internal: the last part of a path';

-- A failed one whose files are gone stays failed, until the policy looks at it.
CREATE FUNCTION leyser.own_backups(directory_id text)
    RETURNS TABLE (generation_id bigint, state text, name text, here boolean)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT g.generation_id, g.state, coalesce(leyser.folder_of(g.location), ''),
           g.source = directory_id OR g.deleted_at IS NOT NULL
    FROM leyser.generation_record g
    WHERE g.tool = 'pg_basebackup' AND g.state <> 'deleted' AND NOT (g.state = 'failed' AND g.deleted_at IS NOT NULL)
    ORDER BY g.started_at, g.generation_id
$$;
REVOKE ALL ON FUNCTION leyser.own_backups(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.own_backups(text) IS
    'internal: leyser''s own backups that may still have something in the directory: the folder''s name, and whether it lies, or lay, in the one with this id';

CREATE FUNCTION leyser.own_backup_names() RETURNS SETOF text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT leyser.folder_of(g.location) FROM leyser.generation_record g
    WHERE g.tool = 'pg_basebackup' AND leyser.folder_of(g.location) IS NOT NULL
$$;
REVOKE ALL ON FUNCTION leyser.own_backup_names() FROM PUBLIC;
COMMENT ON FUNCTION leyser.own_backup_names() IS
    'internal: the folders of all backups of leyser''s own that the books have ever known';

-- Files, the WAL that is written meanwhile, and some slack.
CREATE FUNCTION leyser.own_backup_bytes() RETURNS bigint
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT sum(pg_tablespace_size(t.oid))::bigint + 4 * s.setting::bigint + 16 * 1024 * 1024
    FROM pg_tablespace t CROSS JOIN pg_settings s WHERE s.name = 'wal_segment_size' GROUP BY s.setting
$$;
REVOKE ALL ON FUNCTION leyser.own_backup_bytes() FROM PUBLIC;
COMMENT ON FUNCTION leyser.own_backup_bytes() IS
    'internal: how many bytes a backup of the server may need';

-- Which of several regions it is the database cannot know.
CREATE FUNCTION leyser.own_region() RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT p.regions[1] FROM leyser.present_backup_policy() p WHERE cardinality(p.regions) = 1 $$;
REVOKE ALL ON FUNCTION leyser.own_region() FROM PUBLIC;
COMMENT ON FUNCTION leyser.own_region() IS
    'internal: the region of leyser.backup_directory: the policy''s only one, or NULL';

CREATE FUNCTION leyser.begin_own_backup(label text, name text, directory text, directory_id text, role oid) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    generation leyser.generation_record;
BEGIN
    PERFORM leyser.lock_books();
    PERFORM leyser.note_system();
    INSERT INTO leyser.generation_record (state, kind, tool, source, label, location, region, system_identifier, timeline,
            start_lsn, started_at, recorded_by)
        SELECT 'running', 'full', 'pg_basebackup', directory_id, coalesce(nullif(begin_own_backup.label, ''), name),
               directory || '/' || name, leyser.own_region(), leyser.this_system(),
               c.timeline_id, c.redo_lsn, clock_timestamp(), role::regrole::text
        FROM pg_control_checkpoint() c RETURNING * INTO generation;
    PERFORM leyser.record_backup_event('backup.begun', generation);
    RETURN generation.generation_id;
END
$$;
REVOKE ALL ON FUNCTION leyser.begin_own_backup(text, text, text, text, oid) FROM PUBLIC;
COMMENT ON FUNCTION leyser.begin_own_backup(text, text, text, text, oid) IS
    'internal: the row of a backup that the worker is about to take';

CREATE FUNCTION leyser.ranges_of_wal(wal_ranges jsonb, OUT start_lsn pg_lsn, OUT stop_lsn pg_lsn, OUT timeline integer)
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT min((w ->> 'Start-LSN')::pg_lsn), max((w ->> 'End-LSN')::pg_lsn), max((w ->> 'Timeline')::integer)
    FROM jsonb_array_elements(wal_ranges) w
$$;
REVOKE ALL ON FUNCTION leyser.ranges_of_wal(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.ranges_of_wal(jsonb) IS
    'internal: from where to where the WAL-Ranges of a backup''s manifest go, and on which timeline it ended';

CREATE FUNCTION leyser.complete_own_backup(generation_id bigint, bytes bigint, checksum text, wal_ranges jsonb) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    range record;
BEGIN
    SELECT r.* INTO range FROM leyser.ranges_of_wal(wal_ranges) r;
    PERFORM leyser.complete_generation(complete_own_backup.generation_id, range.start_lsn, range.stop_lsn,
                                       complete_own_backup.bytes, complete_own_backup.checksum);
    UPDATE leyser.generation_record g SET timeline = range.timeline
        WHERE g.generation_id = complete_own_backup.generation_id;
END
$$;
REVOKE ALL ON FUNCTION leyser.complete_own_backup(bigint, bigint, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.complete_own_backup(bigint, bigint, text, jsonb) IS
    'internal: a backup lies whole in its directory; the ranges of WAL are those of its manifest';

-- Such a one was taken after the one from which these books were restored: perhaps in
-- another timeline, and beyond where this server's log has come.
CREATE FUNCTION leyser.find_own_backup(name text, directory text, directory_id text, bytes bigint, checksum text, wal_ranges jsonb)
    RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
#variable_conflict use_column
DECLARE
    generation leyser.generation_record;
BEGIN
    PERFORM leyser.lock_books();
    PERFORM leyser.note_system();
    INSERT INTO leyser.generation_record (state, kind, tool, source, label, location, region, system_identifier, timeline,
            start_lsn, stop_lsn, started_at, completed_at, seen_at, bytes, checksum, recorded_by)
        SELECT 'complete', 'full', 'pg_basebackup', directory_id, name, directory || '/' || name,
               leyser.own_region(), leyser.this_system(), r.timeline, r.start_lsn, r.stop_lsn,
               regexp_replace(name, '^.*-(....)(..)(..)T(..)(..)(..\.[0-9]+Z)$', '\1-\2-\3 \4:\5:\6')::timestamptz,
               clock_timestamp(), clock_timestamp(), find_own_backup.bytes, find_own_backup.checksum, leyser.caller()::text
        FROM leyser.ranges_of_wal(wal_ranges) r RETURNING * INTO generation;
    PERFORM leyser.record_backup_event('backup.found', generation);
    RETURN generation.generation_id;
END
$$;
REVOKE ALL ON FUNCTION leyser.find_own_backup(text, text, text, bigint, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.find_own_backup(text, text, text, bigint, text, jsonb) IS
    'internal: the row of a whole backup in the directory of which the books do not know';

-- Where its files were removed the row says both: failed, and when they went.
CREATE FUNCTION leyser.fail_own_backup(generation_id bigint, error text, removed boolean) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    PERFORM leyser.lock_books();
    PERFORM leyser.fail_generation(fail_own_backup.generation_id,
        left(regexp_replace(fail_own_backup.error, '[[:space:]]+', ' ', 'g'), 1000));
    UPDATE leyser.generation_record g SET deleted_at = clock_timestamp()
        WHERE g.generation_id = fail_own_backup.generation_id AND removed;
END
$$;
REVOKE ALL ON FUNCTION leyser.fail_own_backup(bigint, text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.fail_own_backup(bigint, text, boolean) IS
    'internal: a backup failed, and why; whether its files were removed';

CREATE FUNCTION leyser.own_backup_is_gone(generation_id bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    PERFORM leyser.lock_books();
    UPDATE leyser.generation_record g SET deleted_at = clock_timestamp()
        WHERE g.generation_id = own_backup_is_gone.generation_id AND g.state = 'failed';
    IF NOT FOUND THEN
        PERFORM leyser.delete_generation(own_backup_is_gone.generation_id);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.own_backup_is_gone(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.own_backup_is_gone(bigint) IS
    'internal: the files of a backup were removed, or are seen to be gone; one that failed stays so';
