-- leyser's backups that another database of this server had taken.
--
-- Each holds the whole server, and so this database with the tenants that it has
-- erased since.  They lie in leyser.backup_directory, in folders whose names tell the
-- system and the database; only the server's user writes there, so a name is believed,
-- where the label of a backup is whatever a client sent.  The other database verifies
-- and removes them, by its own policy: here they are seen to come and to go.

-- NULL where no directory is set, or mounted, or none of leyser's backups was there.
CREATE FUNCTION leyser.backup_directory_id() RETURNS text
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT substring(pg_read_file(nullif(current_setting('leyser.backup_directory', true), '') || '/.leyser', 0, 36, true)
                     FROM '^[0-9a-f-]{36}$')
$$;
REVOKE ALL ON FUNCTION leyser.backup_directory_id() FROM PUBLIC;
COMMENT ON FUNCTION leyser.backup_directory_id() IS
    'internal: the id of leyser.backup_directory, or NULL where there is none';

-- Whole ones: what is being made or removed has another name.
CREATE FUNCTION leyser.other_folders() RETURNS TABLE (name text, path text, began_at timestamptz)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    SELECT f.name, d.path || '/' || f.name,
           (format('%s-%s-%s %s:%s:%s', m.part[2], m.part[3], m.part[4], m.part[5], m.part[6], m.part[7]) || 'Z')::timestamptz
    FROM (VALUES (current_setting('leyser.backup_directory', true))) d (path)
    CROSS JOIN LATERAL pg_ls_dir(d.path, true, false) f (name)
    CROSS JOIN LATERAL regexp_match(f.name,
        '^leyser-' || leyser.this_system() || '-(\d+)-(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d\.\d+)Z$') m (part)
    WHERE m.part[1] <> (SELECT o.oid::text FROM pg_database o WHERE o.datname = current_database())
$$;
REVOKE ALL ON FUNCTION leyser.other_folders() FROM PUBLIC;
COMMENT ON FUNCTION leyser.other_folders() IS
    'internal: the folders of whole backups that other databases of this server had taken, and when these began';

CREATE FUNCTION leyser.note_other_backups(directory_id text) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    noted leyser.generation_record;
    count bigint := 0;
BEGIN
    FOR noted IN INSERT INTO leyser.generation_record (state, kind, tool, source, label, location, region, system_identifier,
                timeline, start_lsn, started_at, completed_at, seen_at, recorded_by)
            SELECT 'complete', 'full', 'other_database', directory_id, f.name, f.path, leyser.own_region(), leyser.this_system(),
                   leyser.segment_part(l.begin[2], 1), l.begin[1]::pg_lsn, f.began_at,
                   greatest((pg_stat_file(f.path || '/data/backup_manifest', true)).modification, f.began_at), clock_timestamp(),
                   leyser.caller()::text
            FROM leyser.other_folders() f
            CROSS JOIN LATERAL regexp_match(pg_read_file(f.path || '/data/backup_label', 0, 65536, true),
                '^START WAL LOCATION: ([0-9A-F]+/[0-9A-F]+) [(]file ([0-9A-F]{24})[)]') l (begin)
            WHERE l.begin IS NOT NULL AND NOT EXISTS (SELECT FROM leyser.generation_record g
                WHERE g.tool IN ('pg_basebackup', 'other_database') AND leyser.folder_of(g.location) = f.name)
            ORDER BY f.began_at
            RETURNING * LOOP
        PERFORM leyser.record_backup_event('backup.noticed', noted);
        count := count + 1;
    END LOOP;
    RETURN count;
END
$$;
REVOKE ALL ON FUNCTION leyser.note_other_backups(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.note_other_backups(text) IS
    'internal: records whole backups of other databases; returns how many';

CREATE FUNCTION leyser.miss_other_backups(directory_id text) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT leyser.delete_generation(g.generation_id) FROM leyser.generation_record g
    WHERE g.tool = 'other_database' AND g.source = directory_id AND g.state <> 'deleted'
      AND NOT EXISTS (SELECT FROM pg_ls_dir(current_setting('leyser.backup_directory')) f (name)
                      WHERE f.name IN (leyser.folder_of(g.location), leyser.folder_of(g.location) || '.removing'))
$$;
REVOKE ALL ON FUNCTION leyser.miss_other_backups(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.miss_other_backups(text) IS
    'internal: what another database has removed from the directory with this id is deleted';

-- The mark that the other database's worker leaves.
CREATE FUNCTION leyser.trust_other_backups(directory_id text) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT leyser.verify_generation(g.generation_id, true, 'pg_verifybackup') FROM leyser.generation_record g
    WHERE g.tool = 'other_database' AND g.source = directory_id AND g.state = 'complete'
      AND (pg_stat_file(g.location || '/verified', true)).isdir IS NOT NULL
$$;
REVOKE ALL ON FUNCTION leyser.trust_other_backups(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.trust_other_backups(text) IS
    'internal: what another database has verified is verified';

CREATE FUNCTION leyser.look_for_other_backups() RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    directory_id text := leyser.backup_directory_id();
    count bigint := 0;
BEGIN
    IF directory_id IS NOT NULL THEN
        PERFORM leyser.miss_other_backups(directory_id);
        count := leyser.note_other_backups(directory_id);
        PERFORM leyser.trust_other_backups(directory_id);
    END IF;
    RETURN count;
END
$$;
REVOKE ALL ON FUNCTION leyser.look_for_other_backups() FROM PUBLIC;
COMMENT ON FUNCTION leyser.look_for_other_backups() IS
    'internal: records the backups that other databases of this server had taken, and which of them are gone; returns how many are new';

-- ---- what to do about one ----

CREATE FUNCTION leyser.removal_remedy(tool text, location text) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    taken_by text;
BEGIN
    IF tool <> 'other_database' THEN
        RETURN 'Delete it where it lies; then import the catalogue of its tool, or call leyser.confirm_backup_deleted().';
    END IF;
    SELECT d.datname INTO taken_by FROM pg_database d
        WHERE d.oid::text = substring(leyser.folder_of(location) FROM '^leyser-[0-9]+-([0-9]+)-');
    IF taken_by IS NULL THEN
        RETURN 'The database that took it was dropped, and nobody removes it: delete its folder.';
    END IF;
    RETURN format('Database "%s" keeps it, by its own policy: let leyser.set_backup_policy() there keep it for no longer than here.', taken_by);
END
$$;
REVOKE ALL ON FUNCTION leyser.removal_remedy(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.removal_remedy(text, text) IS
    'internal: how a generation that has expired goes';

CREATE FUNCTION leyser.region_remedy(tool text, region text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN region IS NULL AND tool = 'unknown' THEN
            'Find out who took it, and where it lies: import its tool''s catalogue with the region; or delete it, and call leyser.confirm_backup_deleted().'
        WHEN region IS NULL AND tool IN ('pg_basebackup', 'other_database') THEN
            'Let the policy name one region, leyser.set_backup_policy(regions => …): the next backups have it.'
        ELSE 'Move or delete it.' END
$$;
REVOKE ALL ON FUNCTION leyser.region_remedy(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.region_remedy(text, text) IS
    'internal: what to do about a generation in a wrong or unknown region';
