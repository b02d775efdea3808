-- How a backup generation moves from state to state, and those that need it with it.
--
-- Whoever changes a generation locks the table of all against others that do: what
-- happens to one concerns those that need it, and expiry looks at all.

-- The one place where a generation's state moves:
--   running → complete, failed      complete → verified, failed      verified → failed
--   failed → verified               (its verification failed, and a later one did not)
--   complete, verified ⇄ orphan     (a parent turned bad, or was mended)
--   any but running → expired       (the policy) → deleted (seen to be gone)
--   any → deleted                   (gone without the policy's word)
CREATE FUNCTION leyser.move_generation(generation_id bigint, to_state text) RETURNS leyser.generation_record
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    generation leyser.generation_record;
    from_states text[] := CASE to_state
        WHEN 'complete' THEN '{running,orphan}' WHEN 'verified' THEN '{complete,verified,orphan}'
        WHEN 'failed' THEN '{running,complete,verified,orphan}' WHEN 'orphan' THEN '{complete,verified}'
        WHEN 'expired' THEN '{complete,verified,failed,orphan}'
        WHEN 'deleted' THEN '{running,complete,verified,failed,orphan,expired}' ELSE '{}' END;
BEGIN
    SELECT g.* INTO generation FROM leyser.generation_record g
        WHERE g.generation_id = move_generation.generation_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = 'generation does not exist',
            DETAIL = 'No generation has this id.',
            HINT = 'See view leyser.backup_generation.';
    END IF;
    IF to_state = 'verified' AND generation.completed_at IS NOT NULL THEN
        from_states := from_states || 'failed'::text;
    END IF;
    IF generation.state <> ALL (from_states) THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('a generation that is %s cannot become %s', generation.state, to_state),
            DETAIL = format('It must be %s.', array_to_string(from_states, ' or ')),
            HINT = 'See view leyser.backup_generation.';
    END IF;
    UPDATE leyser.generation_record g SET state = to_state,
            verified_at = CASE to_state WHEN 'verified' THEN clock_timestamp() ELSE g.verified_at END,
            failed_at = CASE to_state WHEN 'failed' THEN clock_timestamp() ELSE g.failed_at END,
            expired_at = CASE to_state WHEN 'expired' THEN clock_timestamp() ELSE g.expired_at END,
            deleted_at = CASE to_state WHEN 'deleted' THEN clock_timestamp() ELSE g.deleted_at END
        WHERE g.generation_id = move_generation.generation_id RETURNING g.* INTO generation;
    RETURN generation;
END
$$;
REVOKE ALL ON FUNCTION leyser.move_generation(bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.move_generation(bigint, text) IS
    'internal: moves a generation to another state, or raises LY008; 42704 for an unknown one';

-- A snapshot from before the lock would not show what others did.
CREATE FUNCTION leyser.lock_books() RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s'
AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_transaction_state',
            MESSAGE = 'the books of backups are changed in READ COMMITTED only',
            DETAIL = 'The transaction might not see what others have changed.',
            HINT = 'BEGIN ISOLATION LEVEL READ COMMITTED;';
    END IF;
    LOCK TABLE leyser.generation_record IN SHARE ROW EXCLUSIVE MODE;
END
$$;
REVOKE ALL ON FUNCTION leyser.lock_books() FROM PUBLIC;
COMMENT ON FUNCTION leyser.lock_books() IS
    'internal: lets nobody else change the books until the transaction ends; 55P03 where another one takes longer, 25000 above READ COMMITTED';

CREATE FUNCTION leyser.this_system() RETURNS bigint
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT c.system_identifier FROM pg_control_system() c $$;
REVOKE ALL ON FUNCTION leyser.this_system() FROM PUBLIC;
COMMENT ON FUNCTION leyser.this_system() IS 'internal: this server''s system identifier';

CREATE FUNCTION leyser.note_system() RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO leyser.system_record (system_identifier, since, since_lsn)
    SELECT leyser.this_system(), clock_timestamp(), pg_current_wal_insert_lsn()
    WHERE NOT EXISTS (SELECT FROM leyser.system_record s WHERE s.system_identifier = leyser.this_system())
    ON CONFLICT DO NOTHING
$$;
REVOKE ALL ON FUNCTION leyser.note_system() FROM PUBLIC;
COMMENT ON FUNCTION leyser.note_system() IS
    'internal: writes down on which system this database lives, where that is new';

CREATE FUNCTION leyser.record_backup_event(event text, generation leyser.generation_record, more jsonb DEFAULT '{}') RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leyser.record_event(event, NULL, generation.label,
        jsonb_strip_nulls(jsonb_build_object('generation_id', generation.generation_id, 'kind', generation.kind,
            'tool', generation.tool, 'location', generation.location, 'region', generation.region) || more));
END
$$;
REVOKE ALL ON FUNCTION leyser.record_backup_event(text, leyser.generation_record, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.record_backup_event(text, leyser.generation_record, jsonb) IS
    'internal: records what became of a generation';

-- ---- those that need it ----

CREATE FUNCTION leyser.descendants_of(generation_id bigint) RETURNS SETOF bigint
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE child AS (
        SELECT g.generation_id, 1 AS depth FROM leyser.generation_record g WHERE g.parent = descendants_of.generation_id
        UNION
        SELECT g.generation_id, c.depth + 1 FROM child c JOIN leyser.generation_record g ON g.parent = c.generation_id
    )
    SELECT c.generation_id FROM child c ORDER BY c.depth, c.generation_id
$$;
REVOKE ALL ON FUNCTION leyser.descendants_of(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.descendants_of(bigint) IS
    'internal: the generations that need a generation, nearest first';

CREATE FUNCTION leyser.orphan_descendants(generation_id bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    child leyser.generation_record;
BEGIN
    FOR child IN SELECT g.* FROM leyser.descendants_of(orphan_descendants.generation_id) d
            JOIN leyser.generation_record g ON g.generation_id = d AND g.state IN ('complete', 'verified') LOOP
        child := leyser.move_generation(child.generation_id, 'orphan');
        PERFORM leyser.record_backup_event('backup.orphaned', child, jsonb_build_object('parent', child.parent));
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.orphan_descendants(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.orphan_descendants(bigint) IS
    'internal: what needs a generation that turned bad or went is an orphan, down to the last';

-- Nearest first: each finds its parent mended already.  They were not looked at
-- themselves, so they are complete only.
CREATE FUNCTION leyser.mend_descendants(generation_id bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    child leyser.generation_record;
BEGIN
    FOR child IN SELECT g.* FROM leyser.descendants_of(mend_descendants.generation_id) d
            JOIN leyser.generation_record g ON g.generation_id = d AND g.state = 'orphan' LOOP
        IF leyser.parent_problem(child.parent) IS NULL THEN
            child := leyser.move_generation(child.generation_id, 'complete');
            PERFORM leyser.record_backup_event('backup.mended', child, jsonb_build_object('parent', child.parent));
        END IF;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.mend_descendants(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.mend_descendants(bigint) IS
    'internal: orphans whose whole chain is good again are complete';

CREATE FUNCTION leyser.parent_problem(parent bigint) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('Its parent, generation %s, is %s.', g.generation_id, g.state)
    FROM leyser.generation_record g
    WHERE g.generation_id = parent_problem.parent AND g.state NOT IN ('complete', 'verified')
$$;
REVOKE ALL ON FUNCTION leyser.parent_problem(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.parent_problem(bigint) IS
    'internal: what is wrong with a generation''s parent; NULL where nothing is, or it has none';
