-- What the tools tell of their backups, in one form.
--
-- A catalogue is read as a whole or refused: each field that is used must be there
-- and of its type.  What is refused has an SQLSTATE of class 22; import_backups()
-- adds which tool's catalogue it was, and a hint.

CREATE TYPE leyser.catalogue_entry AS (
    source text,                -- as of generations, and the rest too
    label text,
    kind text,
    state text,                 -- running, complete or failed
    parent_label text,          -- of the same source
    system_identifier bigint,
    timeline integer,
    start_lsn pg_lsn,
    stop_lsn pg_lsn,
    started_at timestamptz,
    completed_at timestamptz,
    bytes bigint,
    checksum text,
    error text
);
COMMENT ON TYPE leyser.catalogue_entry IS 'internal: a backup, as a tool tells it';

CREATE TYPE leyser.catalogue_archive AS (
    source text,
    system_identifier bigint,
    oldest_segment text,
    newest_segment text,
    oldest_lsn pg_lsn
);
COMMENT ON TYPE leyser.catalogue_archive IS 'internal: an archive of WAL, as a tool tells it';

-- Only of a source that the tool could read are backups judged to be gone.
CREATE TYPE leyser.catalogue AS (
    entries leyser.catalogue_entry[],
    archives leyser.catalogue_archive[],
    readable text[],
    unreadable text[]
);
COMMENT ON TYPE leyser.catalogue IS 'internal: all that a tool tells';

-- ---- fields ----

CREATE FUNCTION leyser.refuse_catalogue(detail text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
        MESSAGE = 'catalogue cannot be read', DETAIL = detail;
END
$$;
REVOKE ALL ON FUNCTION leyser.refuse_catalogue(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.refuse_catalogue(text) IS 'internal: 22023 with this detail';

CREATE FUNCTION leyser.catalogue_field(object jsonb, path text, type text, optional boolean DEFAULT false) RETURNS text
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    keys text[] := string_to_array(path, '.');
    found text := jsonb_typeof(object #> keys);
BEGIN
    IF found = type THEN
        RETURN object #>> keys;
    END IF;
    IF NOT optional OR found <> 'null' THEN
        PERFORM leyser.refuse_catalogue(format('Field "%s" is missing, or is no %s.', path, type));
    END IF;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION leyser.catalogue_field(jsonb, text, text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.catalogue_field(jsonb, text, text, boolean) IS
    'internal: a field, found by keys with dots between them, of a type that jsonb_typeof() names; NULL where it may be missing or null, and is; else 22023';

CREATE FUNCTION leyser.catalogue_items(object jsonb, key text) RETURNS SETOF jsonb
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_array_elements(leyser.catalogue_field(object, key, 'array')::jsonb)
$$;
REVOKE ALL ON FUNCTION leyser.catalogue_items(jsonb, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.catalogue_items(jsonb, text) IS
    'internal: the elements of a field that must be an array; 22023';

-- ---- segments of WAL ----

CREATE FUNCTION leyser.segment_part(segment text, part integer) RETURNS bigint
    LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF segment !~ '^[0-9A-F]{24}$' THEN
        PERFORM leyser.refuse_catalogue('A segment of WAL has no name of 24 digits.');
    END IF;
    RETURN ('x' || substr(segment, 8 * part - 7, 8))::bit(32)::bigint;
END
$$;
REVOKE ALL ON FUNCTION leyser.segment_part(text, integer) FROM PUBLIC;
COMMENT ON FUNCTION leyser.segment_part(text, integer) IS
    'internal: of the name of a segment of WAL the timeline (1), or the two numbers (2, 3) of its place; 22023';

-- How large the segments of another system are nobody knows here.
CREATE FUNCTION leyser.segment_lsn(segment text, system_identifier bigint) RETURNS pg_lsn
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT '0/0'::pg_lsn + leyser.segment_part(segment, 2)::numeric * 4294967296
        + leyser.segment_part(segment, 3) * pg_size_bytes(current_setting('wal_segment_size'))
    WHERE system_identifier = leyser.this_system()
$$;
REVOKE ALL ON FUNCTION leyser.segment_lsn(text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.segment_lsn(text, bigint) IS
    'internal: where a segment of this system begins; NULL for another system';

-- ---- pgBackRest: pgbackrest info --output=json ----

CREATE FUNCTION leyser.pgbackrest_source(stanza text, repository text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT stanza || '/' || repository
$$;
REVOKE ALL ON FUNCTION leyser.pgbackrest_source(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.pgbackrest_source(text, text) IS
    'internal: the source of generations in a stanza''s repository (its key)';

-- After a stanza-upgrade a stanza has the backups of several systems.
CREATE FUNCTION leyser.pgbackrest_system(databases jsonb, history jsonb) RETURNS bigint
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    id text := leyser.catalogue_field(history, 'id', 'number');
    repository text := leyser.catalogue_field(history, 'repo-key', 'number');
    one jsonb;
BEGIN
    FOR one IN SELECT d FROM jsonb_array_elements(databases) d LOOP
        IF one ->> 'id' = id AND one ->> 'repo-key' = repository THEN
            RETURN leyser.catalogue_field(one, 'system-id', 'number')::bigint;
        END IF;
    END LOOP;
    PERFORM leyser.refuse_catalogue(format('Field "db" tells no system of database %s in repository %s.', id, repository));
END
$$;
REVOKE ALL ON FUNCTION leyser.pgbackrest_system(jsonb, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.pgbackrest_system(jsonb, jsonb) IS
    'internal: the system identifier of one of a stanza''s databases; 22023';

-- What was made with --set shows one backup as if it were the only one: it has
-- fields that a list has not.
CREATE FUNCTION leyser.pgbackrest_entry(stanza text, databases jsonb, backup jsonb) RETURNS leyser.catalogue_entry
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    entry leyser.catalogue_entry;
    type text := leyser.catalogue_field(backup, 'type', 'string');
BEGIN
    IF backup ? 'database-ref' THEN
        PERFORM leyser.refuse_catalogue('It was made with --set, which shows one backup only.');
    END IF;
    entry.source := leyser.pgbackrest_source(stanza, leyser.catalogue_field(backup, 'database.repo-key', 'number'));
    entry.label := leyser.catalogue_field(backup, 'label', 'string');
    entry.kind := CASE type WHEN 'full' THEN 'full' WHEN 'diff' THEN 'differential' WHEN 'incr' THEN 'incremental' END;
    IF entry.kind IS NULL THEN
        PERFORM leyser.refuse_catalogue('Field "type" is none of full, diff and incr.');
    END IF;
    entry.parent_label := leyser.catalogue_field(backup, 'prior', 'string', entry.kind = 'full');
    entry.system_identifier := leyser.pgbackrest_system(databases, backup -> 'database');
    -- a backup of a stopped server has neither
    entry.timeline := leyser.segment_part(leyser.catalogue_field(backup, 'archive.start', 'string', true), 1);
    entry.start_lsn := leyser.catalogue_field(backup, 'lsn.start', 'string', true);
    entry.stop_lsn := leyser.catalogue_field(backup, 'lsn.stop', 'string', true);
    entry.started_at := to_timestamp(leyser.catalogue_field(backup, 'timestamp.start', 'number')::bigint);
    entry.completed_at := to_timestamp(leyser.catalogue_field(backup, 'timestamp.stop', 'number')::bigint);
    entry.bytes := leyser.catalogue_field(backup, 'info.repository.delta', 'number');
    entry.state := CASE WHEN leyser.catalogue_field(backup, 'error', 'boolean', true)::boolean
                        THEN 'failed' ELSE 'complete' END;
    entry.error := CASE entry.state WHEN 'failed' THEN 'pgBackRest found page checksum errors' END;
    RETURN entry;
END
$$;
REVOKE ALL ON FUNCTION leyser.pgbackrest_entry(text, jsonb, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.pgbackrest_entry(text, jsonb, jsonb) IS
    'internal: one of a stanza''s backups; class 22 for what is none';

CREATE FUNCTION leyser.pgbackrest_archive(stanza text, databases jsonb, archive jsonb) RETURNS leyser.catalogue_archive
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found leyser.catalogue_archive;
BEGIN
    found.source := leyser.pgbackrest_source(stanza, leyser.catalogue_field(archive, 'database.repo-key', 'number'));
    found.system_identifier := leyser.pgbackrest_system(databases, archive -> 'database');
    found.oldest_segment := leyser.catalogue_field(archive, 'min', 'string', true);
    found.newest_segment := leyser.catalogue_field(archive, 'max', 'string', true);
    found.oldest_lsn := leyser.segment_lsn(found.oldest_segment, found.system_identifier);
    RETURN found;
END
$$;
REVOKE ALL ON FUNCTION leyser.pgbackrest_archive(text, jsonb, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.pgbackrest_archive(text, jsonb, jsonb) IS
    'internal: the archive of one of a stanza''s databases; class 22 for what is none';

CREATE FUNCTION leyser.read_pgbackrest(catalogue jsonb) RETURNS leyser.catalogue
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    content leyser.catalogue := ROW('{}', '{}', '{}', '{}');
    stanza jsonb;
    repository jsonb;
    name text;
    source text;
BEGIN
    IF jsonb_typeof(catalogue) IS DISTINCT FROM 'array' THEN
        PERFORM leyser.refuse_catalogue('It is no array of stanzas.');
    END IF;
    FOR stanza IN SELECT s FROM jsonb_array_elements(catalogue) s LOOP
        name := leyser.catalogue_field(stanza, 'name', 'string');
        FOR repository IN SELECT r FROM leyser.catalogue_items(stanza, 'repo') r LOOP
            source := leyser.pgbackrest_source(name, leyser.catalogue_field(repository, 'key', 'number'));
            IF leyser.catalogue_field(repository, 'status.code', 'number') = '0' THEN
                content.readable := content.readable || source;
            ELSE
                content.unreadable := content.unreadable || source;
            END IF;
        END LOOP;
        content.entries := content.entries || (
            SELECT coalesce(array_agg(leyser.pgbackrest_entry(name, stanza -> 'db', b)), '{}')
            FROM leyser.catalogue_items(stanza, 'backup') b);
        content.archives := content.archives || (
            SELECT coalesce(array_agg(leyser.pgbackrest_archive(name, stanza -> 'db', a)), '{}')
            FROM leyser.catalogue_items(stanza, 'archive') a);
    END LOOP;
    RETURN content;
END
$$;
REVOKE ALL ON FUNCTION leyser.read_pgbackrest(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.read_pgbackrest(jsonb) IS
    'internal: reads what "pgbackrest info --output=json" prints; class 22 for anything else';
