-- Catalogues of Barman and of pg_basebackup; see backup_catalogue.sql.

-- ---- Barman: barman diagnose ----

-- Other commands of Barman tell no system and times without a zone.
CREATE FUNCTION leyser.barman_time(backup jsonb, path text) RETURNS timestamptz
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
DECLARE
    at text := leyser.catalogue_field(backup, path, 'string', true);
BEGIN
    IF at !~ '^\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)$' THEN
        PERFORM leyser.refuse_catalogue(format('Field "%s" is no time with its offset from UTC.', path));
    END IF;
    RETURN at::timestamptz;
END
$$;
REVOKE ALL ON FUNCTION leyser.barman_time(jsonb, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.barman_time(jsonb, text) IS
    'internal: a time that may be missing; class 22 for what is none';

-- A backup that failed before it began has no time but in its name, by the clock of
-- Barman's host.
CREATE FUNCTION leyser.barman_named_time(backup_id text, present text) RETURNS timestamptz
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
DECLARE
    utc_offset text := substring(present FROM '(?:Z|[+-]\d\d:\d\d)$');
BEGIN
    IF backup_id !~ '^\d{8}T\d{6}$' OR utc_offset IS NULL THEN
        PERFORM leyser.refuse_catalogue('A backup without a beginning is not named by its time.');
    END IF;
    RETURN (backup_id || utc_offset)::timestamptz;
END
$$;
REVOKE ALL ON FUNCTION leyser.barman_named_time(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.barman_named_time(text, text) IS
    'internal: the time in a backup''s name, with the offset of a present time of the same host; class 22';

-- A backup that waits for its WAL cannot be restored yet.  Versions from 3.11 on name
-- the parent of an incremental one.
CREATE FUNCTION leyser.barman_entry(server text, backup jsonb, present text) RETURNS leyser.catalogue_entry
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    entry leyser.catalogue_entry;
    status text := leyser.catalogue_field(backup, 'status', 'string');
BEGIN
    entry.source := server;
    entry.label := leyser.catalogue_field(backup, 'backup_id', 'string');
    entry.parent_label := leyser.catalogue_field(backup, 'parent_backup_id', 'string', true);
    entry.kind := CASE WHEN entry.parent_label IS NOT NULL THEN 'incremental'
                       WHEN leyser.catalogue_field(backup, 'mode', 'string', true) LIKE 'snapshot%' THEN 'snapshot'
                       ELSE 'full' END;
    entry.state := CASE status WHEN 'DONE' THEN 'complete' WHEN 'FAILED' THEN 'failed'
                       WHEN 'STARTED' THEN 'running' WHEN 'SYNCING' THEN 'running'
                       WHEN 'WAITING_FOR_WALS' THEN 'running' END;
    IF entry.state IS NULL THEN
        PERFORM leyser.refuse_catalogue(format('Backup "%s" has an unknown status.', entry.label));
    END IF;
    entry.system_identifier := leyser.catalogue_field(backup, 'systemid', 'string', true);
    entry.timeline := leyser.catalogue_field(backup, 'timeline', 'number', true);
    entry.start_lsn := leyser.catalogue_field(backup, 'begin_xlog', 'string', true);
    entry.stop_lsn := leyser.catalogue_field(backup, 'end_xlog', 'string', true);
    entry.started_at := coalesce(leyser.barman_time(backup, 'begin_time'), leyser.barman_named_time(entry.label, present));
    entry.completed_at := CASE entry.state WHEN 'complete' THEN leyser.barman_time(backup, 'end_time') END;
    entry.bytes := leyser.catalogue_field(backup, 'size', 'number', true);
    entry.error := CASE entry.state WHEN 'failed'
        THEN coalesce(leyser.catalogue_field(backup, 'error', 'string', true), 'Barman tells no reason') END;
    RETURN entry;
END
$$;
REVOKE ALL ON FUNCTION leyser.barman_entry(text, jsonb, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.barman_entry(text, jsonb, text) IS
    'internal: one of a server''s backups; class 22 for what is none';

-- Barman does not tell its oldest segment.  It removes all that are older than its
-- oldest backup whenever it takes the first one or deletes one.
CREATE FUNCTION leyser.barman_archives(server text, backups jsonb, wals jsonb) RETURNS SETOF leyser.catalogue_archive
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT DISTINCT ON (b.system) server, b.system, b.segment, n.segment, b.lsn
    FROM (SELECT leyser.catalogue_field(i.value, 'systemid', 'string', true)::bigint AS system,
                 leyser.catalogue_field(i.value, 'begin_wal', 'string', true) AS segment,
                 leyser.catalogue_field(i.value, 'begin_xlog', 'string', true)::pg_lsn AS lsn
          FROM jsonb_each(backups) i) b,
         -- of the newest timeline
         (SELECT leyser.catalogue_field(t.value, 'name', 'string') AS segment
          FROM jsonb_each(wals) t ORDER BY t.key DESC LIMIT 1) n
    WHERE b.system IS NOT NULL AND b.lsn IS NOT NULL ORDER BY b.system, b.lsn
$$;
REVOKE ALL ON FUNCTION leyser.barman_archives(text, jsonb, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.barman_archives(text, jsonb, jsonb) IS
    'internal: a server''s archive of WAL, from its oldest backup to the newest segment; class 22';

-- EMPTY is one for which Barman has made a name and nothing else.
CREATE FUNCTION leyser.read_barman(catalogue jsonb) RETURNS leyser.catalogue
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    content leyser.catalogue := ROW('{}', '{}', '{}', '{}');
    present text := leyser.catalogue_field(catalogue, 'global.system_info.timestamp', 'string');
    server record;
    backups jsonb;
BEGIN
    FOR server IN SELECT s.key, s.value FROM jsonb_each(leyser.catalogue_field(catalogue, 'servers', 'object')::jsonb) s LOOP
        backups := leyser.catalogue_field(server.value, 'backups', 'object');
        content.readable := content.readable || server.key;
        content.entries := content.entries || (
            SELECT coalesce(array_agg(leyser.barman_entry(server.key, b.value, present)), '{}')
            FROM jsonb_each(backups) b WHERE leyser.catalogue_field(b.value, 'status', 'string') <> 'EMPTY');
        content.archives := content.archives || (
            SELECT coalesce(array_agg(a), '{}') FROM leyser.barman_archives(server.key, backups,
                leyser.catalogue_field(server.value, 'wals.last_archived_wal_per_timeline', 'object')::jsonb) a);
    END LOOP;
    RETURN content;
END
$$;
REVOKE ALL ON FUNCTION leyser.read_barman(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.read_barman(jsonb) IS
    'internal: reads what "barman diagnose" prints; class 22 for anything else';

-- ---- pg_basebackup: the file backup_manifest ----

-- Up to PostgreSQL 16 a manifest does not tell its system: it is taken for this one's
-- where that has come at least as far.
CREATE FUNCTION leyser.manifest_system(manifest jsonb, timeline integer, stop_lsn pg_lsn) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    told text := leyser.catalogue_field(manifest, 'System-Identifier', 'number', true);
BEGIN
    IF told IS NULL AND (stop_lsn > pg_current_wal_insert_lsn()
            OR timeline > ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint) THEN
        PERFORM leyser.refuse_catalogue('The backup ends where this server has not come to: it is of another one.');
    END IF;
    RETURN coalesce(told::bigint, leyser.this_system());
END
$$;
REVOKE ALL ON FUNCTION leyser.manifest_system(jsonb, integer, pg_lsn) FROM PUBLIC;
COMMENT ON FUNCTION leyser.manifest_system(jsonb, integer, pg_lsn) IS
    'internal: the system identifier of a backup that ends there; class 22 where it cannot be this one''s and is not told';

CREATE FUNCTION leyser.manifest_time(file jsonb) RETURNS timestamptz
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
DECLARE
    at text := leyser.catalogue_field(file, 'Last-Modified', 'string');
BEGIN
    IF at !~ '^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d GMT$' THEN
        PERFORM leyser.refuse_catalogue('Field "Last-Modified" is no time in GMT.');
    END IF;
    RETURN at::timestamptz;
END
$$;
REVOKE ALL ON FUNCTION leyser.manifest_time(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.manifest_time(jsonb) IS 'internal: when a file was last changed; class 22';

-- The server writes backup_label into the backup when that begins; files of other
-- times were copied as they were.
CREATE FUNCTION leyser.manifest_entry(manifest jsonb, label text, location text) RETURNS leyser.catalogue_entry
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    entry leyser.catalogue_entry;
    increments boolean;
BEGIN
    SELECT min(leyser.catalogue_field(r, 'Start-LSN', 'string')::pg_lsn), max(leyser.catalogue_field(r, 'End-LSN', 'string')::pg_lsn),
           max(leyser.catalogue_field(r, 'Timeline', 'number')::integer)
        INTO entry.start_lsn, entry.stop_lsn, entry.timeline FROM leyser.catalogue_items(manifest, 'WAL-Ranges') r;
    SELECT sum(leyser.catalogue_field(f, 'Size', 'number')::bigint), max(leyser.manifest_time(f)),
           max(leyser.manifest_time(f)) FILTER (WHERE f ->> 'Path' = 'backup_label'),
           bool_or(coalesce(f ->> 'Path', '') ~ '(^|/)INCREMENTAL[.]')
        INTO entry.bytes, entry.completed_at, entry.started_at, increments
        FROM leyser.catalogue_items(manifest, 'Files') f;
    IF entry.start_lsn IS NULL OR entry.started_at IS NULL THEN
        PERFORM leyser.refuse_catalogue('It has no range of WAL, or no file backup_label.');
    END IF;
    IF increments THEN
        PERFORM leyser.refuse_catalogue('The backup is incremental, and its manifest does not tell the parent: use leyser.begin_backup().');
    END IF;
    entry.system_identifier := leyser.manifest_system(manifest, entry.timeline, entry.stop_lsn);
    entry.kind := 'full';
    entry.state := 'complete';
    entry.source := coalesce(location, '');
    entry.label := coalesce(label, to_char(entry.started_at AT TIME ZONE 'UTC', 'YYYYMMDD"T"HH24MISS"Z"'));
    entry.checksum := leyser.catalogue_field(manifest, 'Manifest-Checksum', 'string');
    RETURN entry;
END
$$;
REVOKE ALL ON FUNCTION leyser.manifest_entry(jsonb, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.manifest_entry(jsonb, text, text) IS
    'internal: the backup that a manifest describes; class 22 for what is none';

CREATE FUNCTION leyser.read_manifest(manifest jsonb, label text, location text) RETURNS leyser.catalogue
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF leyser.catalogue_field(manifest, 'PostgreSQL-Backup-Manifest-Version', 'number') NOT IN ('1', '2') THEN
        PERFORM leyser.refuse_catalogue('The version of the manifest is not known.');
    END IF;
    -- one backup says nothing of others
    RETURN ROW(ARRAY[leyser.manifest_entry(manifest, label, location)], '{}', '{}', '{}')::leyser.catalogue;
END
$$;
REVOKE ALL ON FUNCTION leyser.read_manifest(jsonb, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.read_manifest(jsonb, text, text) IS
    'internal: reads the file backup_manifest of a backup; class 22 for anything else';
