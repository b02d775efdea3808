-- What a tool tells of its backups, merged into the books.
--
-- A catalogue changes the books as a whole or not at all, and the same one twice
-- changes them once.  What it does not hold is judged to be gone only where it can
-- be: in a source that the tool could read, and not newer than the newest backup
-- that it tells.  So an empty catalogue, or one of yesterday, deletes nothing.

-- A source stays where it was.
CREATE FUNCTION leyser.import_region(tool text, source text, region text) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    regions text[] := (leyser.present_backup_policy()).regions;
    found text := coalesce(import_region.region, (
        SELECT g.region FROM leyser.generation_record g
        WHERE g.tool = import_region.tool AND g.source = import_region.source AND g.region = ANY (regions)
        ORDER BY g.generation_id DESC LIMIT 1),
        CASE cardinality(regions) WHEN 1 THEN regions[1] END);
BEGIN
    IF found IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'no region is given for the backups',
            DETAIL = format('The policy has several, and backups of "%s" were not imported before.', source),
            HINT = 'Give one, as region => ''JP''.';
    END IF;
    PERFORM leyser.check_region(found);
    RETURN found;
END
$$;
REVOKE ALL ON FUNCTION leyser.import_region(text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.import_region(text, text, text) IS
    'internal: the region of a source''s backups: as given, as before, or the policy''s only one; 22023';

CREATE FUNCTION leyser.check_entries(entries leyser.catalogue_entry[]) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    entry leyser.catalogue_entry;
BEGIN
    SELECT e.* INTO entry FROM unnest(entries) e
        WHERE length(e.label) NOT BETWEEN 1 AND 500 OR length(e.source) > 500 OR e.bytes < 0 OR e.timeline < 1
           OR e.stop_lsn < e.start_lsn OR e.completed_at < e.started_at
           OR e.started_at > clock_timestamp() + interval '1 day' LIMIT 1;
    IF FOUND THEN
        PERFORM leyser.refuse_catalogue(format(
            'Backup "%s" has a label, size, timeline, range of WAL or time that cannot be.', left(entry.label, 100)));
    END IF;
    SELECT e.label INTO entry.label FROM unnest(entries) e
        GROUP BY e.source, e.label HAVING count(*) > 1 LIMIT 1;
    IF FOUND THEN
        PERFORM leyser.refuse_catalogue(format('Backup "%s" is in it twice.', left(entry.label, 100)));
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_entries(leyser.catalogue_entry[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_entries(leyser.catalogue_entry[]) IS
    'internal: 22023 where a backup has what cannot be';

-- ---- into the books ----

-- leyser.notice_backups() had seen it before its tool told of it.
CREATE FUNCTION leyser.take_over_generations(tool text, entries leyser.catalogue_entry[], region text, location text)
    RETURNS bigint
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    WITH taken AS (
        UPDATE leyser.generation_record g
        SET tool = take_over_generations.tool, source = e.source, label = e.label, kind = e.kind,
            region = leyser.import_region(take_over_generations.tool, e.source, take_over_generations.region),
            location = take_over_generations.location,
            timeline = e.timeline, stop_lsn = e.stop_lsn, started_at = e.started_at, bytes = e.bytes,
            -- its server has ended it, its tool has not
            state = CASE WHEN g.state = 'complete' AND e.state = 'running' THEN 'running' ELSE g.state END,
            completed_at = CASE WHEN e.state <> 'running' THEN coalesce(e.completed_at, g.completed_at) END,
            checksum = e.checksum, seen_at = clock_timestamp()
        FROM (SELECT DISTINCT ON (u.generation_id) u.generation_id, c.*
              FROM unnest(entries) c
              JOIN leyser.generation_record u ON u.tool = 'unknown' AND u.state <> 'deleted'
                AND u.start_lsn = c.start_lsn AND u.system_identifier = c.system_identifier
              WHERE NOT EXISTS (SELECT FROM leyser.generation_record k WHERE k.tool = take_over_generations.tool
                AND k.source = c.source AND k.label = c.label AND k.started_at = c.started_at)
              ORDER BY u.generation_id, c.started_at) e
        WHERE g.generation_id = e.generation_id RETURNING 1)
    SELECT count(*) FROM taken
$$;
REVOKE ALL ON FUNCTION leyser.take_over_generations(text, leyser.catalogue_entry[], text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.take_over_generations(text, leyser.catalogue_entry[], text, text) IS
    'internal: gives generations of unknown tools to the one that knows them; returns how many';

-- A manifest tells neither who took the backup nor where this copy lies: with the label
-- or the place of one that the books have from elsewhere it is that one, else another copy.
CREATE FUNCTION leyser.booked_as(entry leyser.catalogue_entry) RETURNS bigint
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT g.generation_id FROM leyser.generation_record g
    WHERE g.tool NOT IN ('unknown', 'backup_manifest') AND g.state <> 'deleted' AND g.start_lsn = entry.start_lsn
      AND g.system_identifier = entry.system_identifier AND coalesce(g.timeline, entry.timeline) = entry.timeline
      AND (g.label = entry.label OR entry.source IN (g.location, g.location || '/data'))
    ORDER BY g.generation_id LIMIT 1
$$;
REVOKE ALL ON FUNCTION leyser.booked_as(leyser.catalogue_entry) FROM PUBLIC;
COMMENT ON FUNCTION leyser.booked_as(leyser.catalogue_entry) IS
    'internal: the generation of another tool that a manifest''s backup is, or NULL';

CREATE FUNCTION leyser.fill_in_booked(entries leyser.catalogue_entry[]) RETURNS bigint
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    WITH filled AS (
        UPDATE leyser.generation_record g
        SET timeline = coalesce(g.timeline, e.timeline), stop_lsn = coalesce(g.stop_lsn, e.stop_lsn),
            bytes = coalesce(g.bytes, e.bytes), checksum = coalesce(g.checksum, e.checksum), seen_at = clock_timestamp()
        FROM unnest(entries) e
        WHERE g.generation_id = leyser.booked_as(e) AND g.tool = 'manual' AND g.state <> 'running'
          AND (g.timeline IS NULL OR g.stop_lsn IS NULL OR g.bytes IS NULL OR g.checksum IS NULL)
        RETURNING 1)
    SELECT count(*) FROM filled
$$;
REVOKE ALL ON FUNCTION leyser.fill_in_booked(leyser.catalogue_entry[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.fill_in_booked(leyser.catalogue_entry[]) IS
    'internal: what the books of a backup by hand lack its manifest tells; returns how many changed';

CREATE FUNCTION leyser.add_generations(tool text, entries leyser.catalogue_entry[], region text, location text)
    RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    added bigint;
BEGIN
    INSERT INTO leyser.generation_record (state, kind, tool, source, label, location, region, system_identifier,
            timeline, start_lsn, stop_lsn, started_at, completed_at, failed_at, seen_at, bytes, checksum, error, recorded_by)
        SELECT e.state, e.kind, add_generations.tool, e.source, e.label, add_generations.location,
               r.region, e.system_identifier, e.timeline, e.start_lsn, e.stop_lsn, e.started_at,
               e.completed_at, CASE e.state WHEN 'failed' THEN coalesce(e.completed_at, clock_timestamp()) END,
               clock_timestamp(), e.bytes, e.checksum, e.error, leyser.caller()::text
        FROM unnest(entries) e
        JOIN (SELECT s.source, leyser.import_region(add_generations.tool, s.source, add_generations.region) AS region
              FROM (SELECT DISTINCT c.source FROM unnest(entries) c) s) r ON r.source = e.source
        WHERE NOT EXISTS (SELECT FROM leyser.generation_record k WHERE k.tool = add_generations.tool
            AND k.source = e.source AND k.label = e.label AND k.started_at = e.started_at)
        ORDER BY e.started_at, e.label;
    GET DIAGNOSTICS added = ROW_COUNT;
    RETURN added;
END
$$;
REVOKE ALL ON FUNCTION leyser.add_generations(text, leyser.catalogue_entry[], text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.add_generations(text, leyser.catalogue_entry[], text, text) IS
    'internal: records backups that the books do not know; returns how many; 22023 for a region that cannot be';

CREATE FUNCTION leyser.link_generations(tool text, entries leyser.catalogue_entry[]) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    missing text;
BEGIN
    UPDATE leyser.generation_record g SET parent = p.generation_id
        FROM unnest(entries) e, leyser.generation_record p
        WHERE g.tool = link_generations.tool AND g.source = e.source AND g.label = e.label AND g.started_at = e.started_at
          AND g.parent IS NULL AND p.tool = g.tool AND p.source = g.source AND p.label = e.parent_label
          AND p.started_at < g.started_at
          AND e.kind IN ('differential', 'incremental');
    SELECT e.parent_label INTO missing FROM unnest(entries) e
        JOIN leyser.generation_record g ON g.tool = link_generations.tool AND g.source = e.source
            AND g.label = e.label AND g.started_at = e.started_at
        WHERE e.parent_label IS NOT NULL AND g.parent IS NULL LIMIT 1;
    IF FOUND THEN
        PERFORM leyser.refuse_catalogue(format('Backup "%s", the parent of another one, is neither in it nor in the books.',
            left(missing, 100)));
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.link_generations(text, leyser.catalogue_entry[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.link_generations(text, leyser.catalogue_entry[]) IS
    'internal: gives the backups of a catalogue their parents; 22023 where one is missing';

-- ---- moves ----

-- The one move that move_generation() does not make: a backup that was gone is there
-- again, and only who sees it can say so.
CREATE FUNCTION leyser.find_generation_again(generation leyser.generation_record) RETURNS leyser.generation_record
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE leyser.generation_record g
        SET state = CASE WHEN g.expired_at IS NOT NULL THEN 'expired' WHEN g.failed_at IS NOT NULL THEN 'failed'
                         WHEN g.completed_at IS NULL THEN 'running' ELSE 'complete' END,
            deleted_at = NULL, seen_at = clock_timestamp()
        WHERE g.generation_id = generation.generation_id AND g.state = 'deleted' RETURNING g.* INTO generation;
    PERFORM leyser.record_backup_event('backup.found_again', generation);
    PERFORM leyser.mend_descendants(generation.generation_id);
    RETURN generation;
END
$$;
REVOKE ALL ON FUNCTION leyser.find_generation_again(leyser.generation_record) FROM PUBLIC;
COMMENT ON FUNCTION leyser.find_generation_again(leyser.generation_record) IS
    'internal: a generation that was deleted was seen: it is what it was before';

-- What the books hold as failed or expired stays so: the tool knows nothing of the
-- verification and the policy.
CREATE FUNCTION leyser.update_generation(generation leyser.generation_record, entry leyser.catalogue_entry) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF generation.state = 'deleted' THEN
        generation := leyser.find_generation_again(generation);
    END IF;
    IF generation.state = 'running' AND entry.state = 'running' OR generation.state IN ('failed', 'expired')
            OR generation.state <> 'running' AND entry.state <> 'failed' THEN
        RETURN;
    END IF;
    UPDATE leyser.generation_record g
        SET stop_lsn = coalesce(entry.stop_lsn, g.stop_lsn), completed_at = coalesce(entry.completed_at, g.completed_at),
            bytes = coalesce(entry.bytes, g.bytes), seen_at = clock_timestamp()
        WHERE g.generation_id = generation.generation_id;
    IF entry.state = 'failed' THEN
        PERFORM leyser.fail_generation(generation.generation_id, entry.error);
    ELSE
        generation := leyser.move_generation(generation.generation_id, 'complete');
        PERFORM leyser.record_backup_event('backup.completed', generation);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.update_generation(leyser.generation_record, leyser.catalogue_entry) FROM PUBLIC;
COMMENT ON FUNCTION leyser.update_generation(leyser.generation_record, leyser.catalogue_entry) IS
    'internal: moves a generation to the state that its tool tells';

CREATE FUNCTION leyser.update_generations(tool text, entries leyser.catalogue_entry[]) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    pair record;
    moved bigint := 0;
BEGIN
    FOR pair IN SELECT g AS generation, e AS entry FROM unnest(entries) e
            JOIN leyser.generation_record g ON g.tool = update_generations.tool AND g.source = e.source
                AND g.label = e.label AND g.started_at = e.started_at
            WHERE g.state = 'deleted' OR g.state = 'running' AND e.state <> 'running'
               OR g.state IN ('complete', 'verified', 'orphan') AND e.state = 'failed'
            ORDER BY g.generation_id LOOP
        PERFORM leyser.update_generation(pair.generation, pair.entry);
        moved := moved + 1;
    END LOOP;
    RETURN moved;
END
$$;
REVOKE ALL ON FUNCTION leyser.update_generations(text, leyser.catalogue_entry[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.update_generations(text, leyser.catalogue_entry[]) IS
    'internal: moves those whose tool tells another state; returns how many';

CREATE FUNCTION leyser.delete_vanished(tool text, content leyser.catalogue) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    generation leyser.generation_record;
    deleted bigint := 0;
BEGIN
    FOR generation IN SELECT g.* FROM (
                SELECT e.source, max(e.started_at) AS started_at FROM unnest(content.entries) e
                WHERE e.source = ANY (content.readable) GROUP BY e.source) newest
            JOIN leyser.generation_record g ON g.tool = delete_vanished.tool AND g.source = newest.source
                AND g.started_at <= newest.started_at AND g.state <> 'deleted'
            WHERE NOT EXISTS (SELECT FROM unnest(content.entries) e
                WHERE e.source = g.source AND e.label = g.label AND e.started_at = g.started_at)
            ORDER BY g.generation_id LOOP
        generation := leyser.move_generation(generation.generation_id, 'deleted');
        PERFORM leyser.record_backup_event('backup.deleted', generation);
        deleted := deleted + 1;
    END LOOP;
    RETURN deleted;
END
$$;
REVOKE ALL ON FUNCTION leyser.delete_vanished(text, leyser.catalogue) FROM PUBLIC;
COMMENT ON FUNCTION leyser.delete_vanished(text, leyser.catalogue) IS
    'internal: what a catalogue could show and does not is gone; returns how many';

CREATE FUNCTION leyser.orphan_children() RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leyser.orphan_descendants(b.generation_id) FROM (
        SELECT DISTINCT p.generation_id
        FROM leyser.generation_record c JOIN leyser.generation_record p ON p.generation_id = c.parent
        WHERE c.state IN ('complete', 'verified') AND p.state IN ('failed', 'orphan', 'deleted')) b;
END
$$;
REVOKE ALL ON FUNCTION leyser.orphan_children() FROM PUBLIC;
COMMENT ON FUNCTION leyser.orphan_children() IS
    'internal: what needs a generation that is bad or gone is an orphan';

-- ---- archives of WAL ----

-- Of an archive in which a source that was read has nothing more, there is no row.
CREATE FUNCTION leyser.set_wal_archives(tool text, content leyser.catalogue) RETURNS bigint
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    WITH found AS (
        SELECT DISTINCT ON (a.source, a.system_identifier) a.source, a.system_identifier, a.oldest_segment,
               max(a.newest_segment) OVER (PARTITION BY a.source, a.system_identifier) AS newest_segment, a.oldest_lsn
        FROM unnest(content.archives) a
        WHERE a.oldest_segment IS NOT NULL AND a.source = ANY (content.readable)
        ORDER BY a.source, a.system_identifier, substr(a.oldest_segment, 9)
    ), gone AS (
        DELETE FROM leyser.wal_archive_record w
        WHERE w.tool = set_wal_archives.tool
          AND w.source IN (SELECT e.source FROM unnest(content.entries) e WHERE e.source = ANY (content.readable))
          AND NOT EXISTS (SELECT FROM found f WHERE f.source = w.source AND f.system_identifier = w.system_identifier)
        RETURNING 1
    ), changed AS (
        INSERT INTO leyser.wal_archive_record AS w (tool, source, system_identifier, timeline, oldest_segment,
                newest_segment, oldest_lsn)
            SELECT set_wal_archives.tool, f.source, f.system_identifier, leyser.segment_part(f.oldest_segment, 1),
                   f.oldest_segment, f.newest_segment, f.oldest_lsn FROM found f
        ON CONFLICT (tool, source, system_identifier) DO UPDATE
            SET timeline = excluded.timeline, oldest_segment = excluded.oldest_segment,
                newest_segment = excluded.newest_segment, oldest_lsn = excluded.oldest_lsn, seen_at = clock_timestamp()
            WHERE (w.oldest_segment, w.newest_segment, w.oldest_lsn)
                IS DISTINCT FROM (excluded.oldest_segment, excluded.newest_segment, excluded.oldest_lsn)
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM changed)
$$;
REVOKE ALL ON FUNCTION leyser.set_wal_archives(text, leyser.catalogue) FROM PUBLIC;
COMMENT ON FUNCTION leyser.set_wal_archives(text, leyser.catalogue) IS
    'internal: keeps from where to where the archives go; returns how many changed';

-- ---- all of it ----

CREATE FUNCTION leyser.merge_catalogue(tool text, content leyser.catalogue, region text, location text,
        OUT recorded bigint, OUT changed bigint, OUT deleted bigint)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    archives bigint;
    filled bigint := 0;
BEGIN
    IF tool = 'backup_manifest' THEN
        filled := leyser.fill_in_booked(content.entries);
        content.entries := ARRAY(SELECT e FROM unnest(content.entries) e WHERE leyser.booked_as(e) IS NULL);
    END IF;
    changed := filled + leyser.take_over_generations(tool, content.entries, region, location);
    recorded := leyser.add_generations(tool, content.entries, region, location);
    PERFORM leyser.link_generations(tool, content.entries);
    changed := changed + leyser.update_generations(tool, content.entries);
    deleted := leyser.delete_vanished(tool, content);
    PERFORM leyser.orphan_children();
    archives := leyser.set_wal_archives(tool, content);
    IF recorded + changed + deleted > 0 THEN
        PERFORM leyser.record_event('backup.imported', NULL, tool,
            jsonb_build_object('recorded', recorded, 'changed', changed, 'deleted', deleted));
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.merge_catalogue(text, leyser.catalogue, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.merge_catalogue(text, leyser.catalogue, text, text) IS
    'internal: brings the books to what a tool tells; returns how many generations were recorded, changed and deleted';

-- What is not judged is said, or a repository that nobody can read would look well.
CREATE FUNCTION leyser.warn_unjudged(tool text, content leyser.catalogue) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    unjudged text;
BEGIN
    SELECT string_agg(DISTINCT g.source, ', ') INTO unjudged FROM leyser.generation_record g
        LEFT JOIN (SELECT e.source, max(e.started_at) AS started_at FROM unnest(content.entries) e GROUP BY e.source) newest
            ON newest.source = g.source
        WHERE g.tool = warn_unjudged.tool AND g.state <> 'deleted'
          AND (g.source = ANY (content.unreadable)
               OR g.source = ANY (content.readable) AND g.started_at > coalesce(newest.started_at, '-infinity'));
    IF unjudged IS NOT NULL THEN
        RAISE WARNING USING MESSAGE = 'some backups could not be judged',
            DETAIL = format('The catalogue could not be read, or is older than the books, for: %s.', unjudged),
            HINT = 'What is known to be gone leyser.confirm_backup_deleted() marks so.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.warn_unjudged(text, leyser.catalogue) FROM PUBLIC;
COMMENT ON FUNCTION leyser.warn_unjudged(text, leyser.catalogue) IS
    'internal: a warning that names the sources of generations that a catalogue does not show and that may be there';
