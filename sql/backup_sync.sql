-- Backups that the server can find out about by itself: those of the pgBackRest that
-- is installed here, and those of which the server itself keeps a trace.

-- ---- pgBackRest, asked ----

CREATE FUNCTION leyser.pgbackrest_info(stanza text) RETURNS text
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_pgbackrest_info';
REVOKE ALL ON FUNCTION leyser.pgbackrest_info(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.pgbackrest_info(text) IS
    'internal: what "pgbackrest info --output=json" prints of a stanza, or of all; 58P01, 42501, 58000 and others where it cannot be run or fails, 25006 on a standby';

-- pgBackRest prints why it could not read a repository, and ends well all the same.
CREATE FUNCTION leyser.require_stanza(catalogue jsonb) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
DECLARE
    reasons text;
BEGIN
    IF NOT jsonb_path_exists(catalogue, '$[*].repo[*].status.code ? (@ == 0 || @ == 2)') THEN
        SELECT string_agg(DISTINCT r #>> '{}', '; ') INTO reasons
            FROM jsonb_path_query(catalogue, '$[*].repo[*].status.message') r;
        RAISE EXCEPTION USING ERRCODE = 'system_error',
            MESSAGE = 'pgBackRest could read no repository',
            DETAIL = format('It says: %s.', coalesce(left(reasons, 300), 'there is no stanza')),
            HINT = 'See its configuration; leyser.pgbackrest_command may name a script that chooses another one.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.require_stanza(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.require_stanza(jsonb) IS
    'internal: 58000 where a catalogue of pgBackRest shows no stanza that could be read';

CREATE FUNCTION leyser.sync_pgbackrest(stanza text DEFAULT NULL, OUT recorded bigint, OUT changed bigint, OUT deleted bigint)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    printed text;
    catalogue jsonb;
BEGIN
    IF stanza !~ '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'this is no name of a stanza',
            DETAIL = 'A name has up to 63 letters, digits, dots, dashes and underscores, and begins with none of the first two marks.',
            HINT = 'Without a name all stanzas are read.';
    END IF;
    printed := leyser.pgbackrest_info(stanza);
    BEGIN
        catalogue := printed::jsonb;
    EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
        RAISE EXCEPTION USING ERRCODE = 'system_error',
            MESSAGE = 'pgBackRest did not print its catalogue',
            DETAIL = 'What it printed is no JSON.',
            HINT = 'See leyser.pgbackrest_command, and try what it names with: info --output=json.';
    END;
    PERFORM leyser.require_stanza(catalogue);
    SELECT i.recorded, i.changed, i.deleted INTO recorded, changed, deleted
        FROM leyser.import_backups('pgbackrest', catalogue) i;
END
$$;
REVOKE ALL ON FUNCTION leyser.sync_pgbackrest(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.sync_pgbackrest(text) IS
    'backup: asks the installed pgBackRest (leyser.pgbackrest_command) for the backups of a stanza, or of all, and imports them as import_backups() does; 22023 for what is no name of a stanza, 58P01 where pgBackRest is not there, 42501 where it cannot be run, 58000 where it fails or takes a minute, 53000 where no worker can be started, 25006 on a standby, others as import_backups()';

-- ---- traces ----

-- The server writes such a file into pg_wal when a backup ends, and keeps the last
-- one.  A label can hold whatever a client sent; the lines before it are the server's.
-- Their times are those of log_timezone, so the file's own time is the base.
CREATE FUNCTION leyser.read_backup_history(content text, written_at timestamptz) RETURNS leyser.catalogue_entry
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
DECLARE
    entry leyser.catalogue_entry;
    parts text[] := regexp_match(content, '\ASTART WAL LOCATION: (\S+) \(file ([0-9A-F]{24})\)\nSTOP WAL LOCATION: (\S+) .*?'
        '\nSTART TIME: (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) .*?\nLABEL: (.*)\nSTART TIMELINE: \d+\nSTOP TIME: (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) [^\n]*\nSTOP TIMELINE: \d+\n');
BEGIN
    IF parts IS NULL THEN
        RETURN NULL;
    END IF;
    entry.start_lsn := parts[1];
    entry.timeline := leyser.segment_part(parts[2], 1);
    entry.stop_lsn := parts[3];
    entry.label := left(parts[5], 500);
    entry.completed_at := written_at;
    entry.started_at := written_at - greatest(parts[6]::timestamp - parts[4]::timestamp, interval '0');
    entry.system_identifier := leyser.this_system();
    RETURN entry;
END
$$;
REVOKE ALL ON FUNCTION leyser.read_backup_history(text, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.read_backup_history(text, timestamptz) IS
    'internal: the backup of which a backup history file tells, or NULL where it is none';

-- A label may be in any encoding.
CREATE FUNCTION leyser.backup_history_text(content bytea) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN convert_from(content, 'UTF8');
EXCEPTION WHEN data_exception THEN
    RETURN encode(content, 'escape');
END
$$;
REVOKE ALL ON FUNCTION leyser.backup_history_text(bytea) FROM PUBLIC;
COMMENT ON FUNCTION leyser.backup_history_text(bytea) IS 'internal: a backup history file as text';

CREATE FUNCTION leyser.backup_histories() RETURNS SETOF leyser.catalogue_entry
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    SELECT e.* FROM (
        SELECT leyser.read_backup_history(leyser.backup_history_text(
                pg_read_binary_file('pg_wal/' || w.name, 0, 65536, true)), w.modification) AS entry
        FROM pg_ls_waldir() w WHERE w.name ~ '^[0-9A-F]{24}\.[0-9A-F]{8}\.backup$') h, LATERAL (SELECT (h.entry).*) e
    WHERE e.start_lsn IS NOT NULL
$$;
REVOKE ALL ON FUNCTION leyser.backup_histories() FROM PUBLIC;
COMMENT ON FUNCTION leyser.backup_histories() IS
    'internal: the backups of which this server keeps a history file in pg_wal';

-- Whoever began a generation in the books tells its end, too: before that it is not
-- known whose trace this is.  What was noticed and is now another one's goes.
CREATE FUNCTION leyser.notice_backups() RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    entry leyser.catalogue_entry;
    noticed leyser.generation_record;
    count bigint;
BEGIN
    IF pg_is_in_recovery() THEN
        RETURN 0;
    END IF;
    PERFORM leyser.lock_books();
    PERFORM leyser.note_system();
    count := leyser.look_for_other_backups();
    FOR entry IN SELECT h.* FROM leyser.backup_histories() h
            WHERE NOT EXISTS (SELECT FROM leyser.generation_record g
                WHERE g.start_lsn = h.start_lsn AND g.system_identifier = h.system_identifier)
              AND NOT EXISTS (SELECT FROM leyser.generation_record g WHERE g.state = 'running'
                AND g.started_at BETWEEN h.started_at - interval '1 hour' AND h.completed_at + interval '1 second')
              -- its folder is about to be whole
              AND NOT (h.label LIKE 'leyser-%' AND leyser.backup_is_running()) LOOP
        INSERT INTO leyser.generation_record (state, kind, tool, label, system_identifier, timeline, start_lsn,
                stop_lsn, started_at, completed_at, seen_at, recorded_by)
            VALUES ('complete', 'full', 'unknown', entry.label, entry.system_identifier, entry.timeline, entry.start_lsn,
                entry.stop_lsn, entry.started_at, entry.completed_at, clock_timestamp(), leyser.caller()::text)
            ON CONFLICT (tool, source, label, started_at) DO NOTHING RETURNING * INTO noticed;
        CONTINUE WHEN NOT FOUND;
        PERFORM leyser.record_backup_event('backup.noticed', noticed);
        count := count + 1;
    END LOOP;
    DELETE FROM leyser.generation_record g WHERE g.tool = 'unknown' AND EXISTS (
        SELECT FROM leyser.generation_record o WHERE o.start_lsn = g.start_lsn
          AND o.system_identifier = g.system_identifier AND o.tool <> 'unknown');
    RETURN count;
END
$$;
REVOKE ALL ON FUNCTION leyser.notice_backups() FROM PUBLIC;
COMMENT ON FUNCTION leyser.notice_backups() IS
    'internal: records backups that nobody told the books about: of other databases, and of tool unknown those that the server has finished; returns how many';
