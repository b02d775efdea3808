-- The import of a catalogue: read (backup_catalogue.sql), checked, and merged into the
-- books (backup_merge.sql).

CREATE FUNCTION leyser.read_catalogue(tool text, catalogue jsonb, label text, location text) RETURNS leyser.catalogue
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    content leyser.catalogue;
BEGIN
    CASE tool
        WHEN 'pgbackrest' THEN content := leyser.read_pgbackrest(catalogue);
        WHEN 'barman' THEN content := leyser.read_barman(catalogue);
        WHEN 'backup_manifest' THEN content := leyser.read_manifest(catalogue, label, location);
    END CASE;
    PERFORM leyser.check_entries(content.entries);
    RETURN content;
END
$$;
REVOKE ALL ON FUNCTION leyser.read_catalogue(text, jsonb, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.read_catalogue(text, jsonb, text, text) IS
    'internal: what a tool tells; class 22 for what that tool does not write';

CREATE FUNCTION leyser.catalogue_hint(tool text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE tool WHEN 'pgbackrest' THEN 'Give what "pgbackrest info --output=json" prints, as it is.'
                     WHEN 'barman' THEN 'Give what "barman diagnose" prints, as it is.'
                     WHEN 'backup_manifest' THEN 'Give the file backup_manifest of a backup, as it is.' END
$$;
REVOKE ALL ON FUNCTION leyser.catalogue_hint(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.catalogue_hint(text) IS 'internal: what a tool''s catalogue is; NULL for an unknown tool';

CREATE FUNCTION leyser.import_backups(tool text, catalogue jsonb, region text DEFAULT NULL, location text DEFAULT NULL,
        label text DEFAULT NULL, OUT recorded bigint, OUT changed bigint, OUT deleted bigint)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    content leyser.catalogue;
    state text;
    message text;
    reason text;
    remedy text;
BEGIN
    IF leyser.catalogue_hint(tool) IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'unknown tool',
            DETAIL = 'No catalogue of this tool can be read.',
            HINT = 'The tools are pgbackrest, barman and backup_manifest; leyser.begin_backup() records any other backup.';
    ELSIF label IS NOT NULL AND tool <> 'backup_manifest' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'this catalogue names its backups itself',
            DETAIL = 'A label is given for one backup, that of a manifest.',
            HINT = 'Leave it out.';
    END IF;
    PERFORM leyser.lock_books();
    PERFORM leyser.note_system();
    BEGIN
        content := leyser.read_catalogue(tool, catalogue, label, location);
        SELECT m.recorded, m.changed, m.deleted INTO recorded, changed, deleted
            FROM leyser.merge_catalogue(tool, content, region, location) m;
    EXCEPTION WHEN data_exception THEN
        GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
            reason = PG_EXCEPTION_DETAIL, remedy = PG_EXCEPTION_HINT;
        IF remedy <> '' THEN
            RAISE;
        END IF;
        RAISE EXCEPTION USING ERRCODE = state,
            MESSAGE = format('catalogue of %s cannot be read', tool),
            DETAIL = left(coalesce(nullif(reason, ''), message), 300),
            HINT = leyser.catalogue_hint(tool);
    END;
    PERFORM leyser.warn_unjudged(tool, content);
END
$$;
REVOKE ALL ON FUNCTION leyser.import_backups(text, jsonb, text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.import_backups(text, jsonb, text, text, text) IS
    'backup: brings the books of generations to the catalogue of a tool: what "pgbackrest info --output=json" (pgbackrest) or "barman diagnose" (barman) prints, or a file backup_manifest, with the region where the backups lie (as before, or the policy''s only one), their location, and for a manifest a label; returns how many generations were recorded, changed and found to be gone; the same catalogue again changes nothing; 22023, 22P02 and others of class 22 for what is no such catalogue, an unknown tool or parent, and a region that is not in the policy, 55P03, 25000 as begin_backup()';
