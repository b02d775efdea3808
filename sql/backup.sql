-- The books of backup generations, by hand and for the parts that keep them.

-- ---- leyser's own ----

-- A word of somebody must neither have good files removed, nor hide some that are there.
CREATE FUNCTION leyser.refuse_own_backup(generation_id bigint) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    IF EXISTS (SELECT FROM leyser.generation_record g
               WHERE g.generation_id = refuse_own_backup.generation_id AND g.tool = 'pg_basebackup') THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'leyser looks after its own backups itself',
            DETAIL = 'leyser.take_backup() took it: its worker completes, verifies and removes it.',
            HINT = 'leyser.take_backup() takes another one; the policy expires this one.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.refuse_own_backup(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.refuse_own_backup(bigint) IS 'internal: LY008 for a backup that take_backup() took';

-- What lies elsewhere, or on a disk that is not mounted, only somebody can know.
CREATE FUNCTION leyser.refuse_present_backup(generation_id bigint) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    place text := (SELECT g.location FROM leyser.generation_record g
                   WHERE g.generation_id = refuse_present_backup.generation_id AND g.tool IN ('pg_basebackup', 'other_database'));
BEGIN
    IF (pg_stat_file(place, true)).isdir IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'the backup is not gone',
            DETAIL = 'Its folder is where leyser.take_backup() put it.',
            HINT = 'leyser removes it when the policy has expired it.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.refuse_present_backup(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.refuse_present_backup(bigint) IS
    'internal: LY008 for a backup that take_backup() took and whose folder is there';

-- ---- a backup by hand ----

CREATE FUNCTION leyser.check_region(region text) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    regions text[] := (leyser.present_backup_policy()).regions;
BEGIN
    PERFORM leyser.check_line('region', region, true);
    IF region <> ALL (regions) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'the region is not in the policy',
            DETAIL = format('Backups lie in: %s.', array_to_string(regions, ', ')),
            HINT = 'Move the backup; or leyser.set_backup_policy(regions => …).';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_region(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_region(text) IS 'internal: 22023 for a region that the policy does not name';

CREATE FUNCTION leyser.check_parent(kind text, parent bigint, system_identifier bigint) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    generation leyser.generation_record;
BEGIN
    IF kind IS NULL OR kind NOT IN ('full', 'differential', 'incremental', 'snapshot', 'restore_copy') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'unknown kind of backup',
            DETAIL = 'It is none of full, differential, incremental, snapshot, restore_copy.',
            HINT = 'Give one of these.';
    ELSIF (kind IN ('differential', 'incremental')) <> (check_parent.parent IS NOT NULL) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = CASE WHEN check_parent.parent IS NULL THEN format('a backup that is %s needs a parent', kind)
                           ELSE format('a backup of kind %s has no parent', kind) END,
            DETAIL = 'Differential and incremental backups are restored together with their parents, others are not.',
            HINT = 'Give the generation that it builds on, if it does.';
    END IF;
    SELECT g.* INTO generation FROM leyser.generation_record g WHERE g.generation_id = check_parent.parent;
    IF NOT FOUND AND check_parent.parent IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = 'the parent does not exist',
            DETAIL = 'No generation has this id.',
            HINT = 'See view leyser.backup_generation.';
    ELSIF generation.kind IN ('snapshot', 'restore_copy')
            OR generation.system_identifier IS DISTINCT FROM check_parent.system_identifier AND generation.generation_id IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'the generation cannot be a parent',
            DETAIL = CASE WHEN generation.kind IN ('snapshot', 'restore_copy') THEN format('It is of kind %s.', generation.kind)
                          ELSE 'It is a backup of another system.' END,
            HINT = 'Give the backup that this one builds on.';
    ELSIF generation.state NOT IN ('complete', 'verified') THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'nothing can be built on the parent',
            DETAIL = leyser.parent_problem(check_parent.parent),
            HINT = 'Take a full backup.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_parent(text, bigint, bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_parent(text, bigint, bigint) IS
    'internal: 22023 for an unknown kind, or a parent that it has not or cannot have, 42704 for an unknown parent, LY008 for one that is not good';

-- A backup or snapshot of this server that begins now starts at the last checkpoint
-- or after it.  What is in a restored copy is older than its beginning.
CREATE FUNCTION leyser.begin_backup(label text, location text, region text, kind text DEFAULT 'full', parent bigint DEFAULT NULL,
                                    system_identifier bigint DEFAULT NULL, timeline integer DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    generation leyser.generation_record;
    here boolean := begin_backup.system_identifier IS NULL OR begin_backup.system_identifier = leyser.this_system();
BEGIN
    PERFORM leyser.check_line('label', begin_backup.label, true);
    PERFORM leyser.check_line('location', begin_backup.location, true);
    PERFORM leyser.check_region(begin_backup.region);
    IF begin_backup.timeline < 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid timeline', DETAIL = 'Timelines begin with 1.', HINT = 'Leave it out for this server''s.';
    END IF;
    PERFORM leyser.lock_books();
    PERFORM leyser.note_system();
    PERFORM leyser.check_parent(begin_backup.kind, begin_backup.parent, coalesce(begin_backup.system_identifier, leyser.this_system()));
    INSERT INTO leyser.generation_record (state, kind, parent, tool, label, location, region, system_identifier, timeline,
            start_lsn, started_at, recorded_by)
        SELECT 'running', begin_backup.kind, begin_backup.parent, 'manual', begin_backup.label, begin_backup.location,
               begin_backup.region, coalesce(begin_backup.system_identifier, leyser.this_system()),
               coalesce(begin_backup.timeline, CASE WHEN here THEN c.timeline_id END),
               CASE WHEN here AND begin_backup.kind <> 'restore_copy' THEN c.redo_lsn END, clock_timestamp(), leyser.caller()::text
        FROM pg_control_checkpoint() c RETURNING * INTO generation;
    PERFORM leyser.record_backup_event('backup.begun', generation);
    RETURN generation.generation_id;
END
$$;
REVOKE ALL ON FUNCTION leyser.begin_backup(text, text, text, text, bigint, bigint, integer) FROM PUBLIC;
COMMENT ON FUNCTION leyser.begin_backup(text, text, text, text, bigint, bigint, integer) IS
    'backup: a backup begins now; label and location are of one line, the region is one of the policy''s, kind is full, differential, incremental (these two have a parent), snapshot or restore_copy; system identifier and timeline are this server''s where left out; returns the generation''s id; 22023 for what cannot be, 42704 for an unknown parent, LY008 for one that is not complete or verified, 55P03 where the books are locked for seconds, 25000 above READ COMMITTED';

CREATE FUNCTION leyser.check_completion(generation leyser.generation_record, start_lsn pg_lsn, stop_lsn pg_lsn, bytes bigint) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text := CASE
        WHEN (start_lsn IS NULL OR stop_lsn IS NULL) AND generation.kind NOT IN ('snapshot', 'restore_copy')
            THEN 'A backup has a start_lsn and a stop_lsn: nothing else tells what is in it.'
        WHEN stop_lsn < start_lsn THEN 'stop_lsn is before start_lsn.'
        WHEN bytes < 0 THEN 'bytes is negative.'
        WHEN greatest(start_lsn, stop_lsn) > pg_current_wal_insert_lsn() AND generation.system_identifier = leyser.this_system()
            THEN 'This server has not written so much of its log yet.'
        WHEN start_lsn < (SELECT p.start_lsn FROM leyser.generation_record p WHERE p.generation_id = generation.parent)
            THEN 'start_lsn is before its parent''s.' END;
BEGIN
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid figures of a backup', DETAIL = problem,
            HINT = 'Take them from what the backup tool prints, or from its backup_label.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_completion(leyser.generation_record, pg_lsn, pg_lsn, bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_completion(leyser.generation_record, pg_lsn, pg_lsn, bigint) IS
    'internal: 22023 for places in the log, or a size, that a backup cannot have';

-- The state is looked at first: LY008 tells more than what is wrong with the figures.
CREATE FUNCTION leyser.complete_generation(generation_id bigint, start_lsn pg_lsn, stop_lsn pg_lsn, bytes bigint, checksum text)
    RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    generation leyser.generation_record;
BEGIN
    PERFORM leyser.check_line('checksum', complete_generation.checksum, false);
    PERFORM leyser.lock_books();
    PERFORM leyser.require_running(complete_generation.generation_id);
    generation := leyser.move_generation(complete_generation.generation_id, 'complete');
    PERFORM leyser.check_completion(generation, complete_generation.start_lsn, complete_generation.stop_lsn, complete_generation.bytes);
    UPDATE leyser.generation_record g SET start_lsn = coalesce(complete_generation.start_lsn, g.start_lsn),
            stop_lsn = complete_generation.stop_lsn, bytes = complete_generation.bytes, checksum = complete_generation.checksum,
            completed_at = clock_timestamp()
        WHERE g.generation_id = generation.generation_id RETURNING g.* INTO generation;
    PERFORM leyser.record_backup_event('backup.completed', generation,
        jsonb_build_object('start_lsn', generation.start_lsn, 'stop_lsn', generation.stop_lsn, 'bytes', generation.bytes));
    IF leyser.parent_problem(generation.parent) IS NOT NULL THEN
        generation := leyser.move_generation(generation.generation_id, 'orphan');
        PERFORM leyser.record_backup_event('backup.orphaned', generation, jsonb_build_object('parent', generation.parent));
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.complete_generation(bigint, pg_lsn, pg_lsn, bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.complete_generation(bigint, pg_lsn, pg_lsn, bigint, text) IS
    'internal: a generation is complete, or an orphan where its parent turned bad meanwhile';

CREATE FUNCTION leyser.complete_backup(generation_id bigint, start_lsn pg_lsn, stop_lsn pg_lsn, bytes bigint, checksum text)
    RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leyser.refuse_own_backup(complete_backup.generation_id);
    PERFORM leyser.complete_generation(complete_backup.generation_id, complete_backup.start_lsn, complete_backup.stop_lsn,
                                       complete_backup.bytes, complete_backup.checksum);
END
$$;
REVOKE ALL ON FUNCTION leyser.complete_backup(bigint, pg_lsn, pg_lsn, bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.complete_backup(bigint, pg_lsn, pg_lsn, bigint, text) IS
    'backup: a backup is complete: where in the write-ahead log it started and stopped (NULL for snapshots and restored copies of unknown place), its size in bytes and checksum or NULL; where its parent turned bad meanwhile it is an orphan; 22023 for places that cannot be, 42704 for an unknown generation, LY008 for one that is not running, or that take_backup() took, 55P03, 25000 as begin_backup()';

CREATE FUNCTION leyser.require_running(generation_id bigint) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    present text := (SELECT g.state FROM leyser.generation_record g WHERE g.generation_id = require_running.generation_id);
BEGIN
    IF present <> 'running' THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'the backup is not running',
            DETAIL = format('It is %s.', present),
            HINT = 'leyser.begin_backup() begins another one; leyser.verify_backup() tells how good this one is.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.require_running(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.require_running(bigint) IS
    'internal: LY008 for a generation that is not running; nothing for an unknown one';

CREATE FUNCTION leyser.fail_generation(generation_id bigint, error text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    generation leyser.generation_record := leyser.move_generation(fail_generation.generation_id, 'failed');
BEGIN
    UPDATE leyser.generation_record g SET error = fail_generation.error
        WHERE g.generation_id = generation.generation_id RETURNING g.* INTO generation;
    PERFORM leyser.record_backup_event('backup.failed', generation, jsonb_build_object('error', fail_generation.error));
    PERFORM leyser.orphan_descendants(generation.generation_id);
END
$$;
REVOKE ALL ON FUNCTION leyser.fail_generation(bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.fail_generation(bigint, text) IS
    'internal: a generation is bad, and what needs it is an orphan';

CREATE FUNCTION leyser.fail_backup(generation_id bigint, error text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leyser.check_line('error', fail_backup.error, true);
    PERFORM leyser.refuse_own_backup(fail_backup.generation_id);
    PERFORM leyser.lock_books();
    PERFORM leyser.require_running(fail_backup.generation_id);
    PERFORM leyser.fail_generation(fail_backup.generation_id, fail_backup.error);
END
$$;
REVOKE ALL ON FUNCTION leyser.fail_backup(bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.fail_backup(bigint, text) IS
    'backup: a running backup failed, and why, in a line; 22023 without a reason, 42704 for an unknown generation, LY008 for one that is not running, or that take_backup() took, 55P03, 25000 as begin_backup()';

CREATE FUNCTION leyser.verify_generation(generation_id bigint, ok boolean, detail text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    generation leyser.generation_record;
    problem text;
BEGIN
    IF verify_generation.ok IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
            MESSAGE = 'ok must not be null', DETAIL = 'A verification has a result.', HINT = 'Give true or false.';
    END IF;
    PERFORM leyser.check_line('detail', verify_generation.detail, NOT verify_generation.ok);
    PERFORM leyser.lock_books();
    SELECT g.* INTO generation FROM leyser.generation_record g WHERE g.generation_id = verify_generation.generation_id;
    problem := CASE WHEN generation.state = 'running' THEN 'It is still running.'
                    WHEN verify_generation.ok THEN leyser.parent_problem(generation.parent) END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'the backup cannot be verified', DETAIL = problem,
            HINT = 'leyser.complete_backup() ends a running one; a parent is verified before what needs it.';
    END IF;
    IF NOT verify_generation.ok THEN
        PERFORM leyser.fail_generation(verify_generation.generation_id, verify_generation.detail);
        RETURN;
    END IF;
    generation := leyser.move_generation(verify_generation.generation_id, 'verified');
    UPDATE leyser.generation_record g SET error = NULL WHERE g.generation_id = generation.generation_id;
    PERFORM leyser.record_backup_event('backup.verified', generation, jsonb_build_object('detail', verify_generation.detail));
    PERFORM leyser.mend_descendants(generation.generation_id);
END
$$;
REVOKE ALL ON FUNCTION leyser.verify_generation(bigint, boolean, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.verify_generation(bigint, boolean, text) IS
    'internal: what a verification found: a good one mends what became an orphan through it, a bad one makes orphans';

CREATE FUNCTION leyser.verify_backup(generation_id bigint, ok boolean, detail text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leyser.refuse_own_backup(verify_backup.generation_id);
    PERFORM leyser.verify_generation(verify_backup.generation_id, verify_backup.ok, verify_backup.detail);
END
$$;
REVOKE ALL ON FUNCTION leyser.verify_backup(bigint, boolean, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.verify_backup(bigint, boolean, text) IS
    'backup: what a verification of a complete backup found, in a line (which may be NULL where it is good): a good one makes it verified, and mends what became an orphan through it; a bad one makes it failed, and what needs it an orphan; 22004 without a result, 22023 without a reason, 42704 for an unknown generation, LY008 where it is running, gone, its parent is not good, or take_backup() took it, 55P03, 25000 as begin_backup()';

CREATE FUNCTION leyser.delete_generation(generation_id bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    generation leyser.generation_record;
BEGIN
    PERFORM leyser.lock_books();
    generation := leyser.move_generation(delete_generation.generation_id, 'deleted');
    PERFORM leyser.record_backup_event('backup.deleted', generation);
    PERFORM leyser.orphan_descendants(generation.generation_id);
END
$$;
REVOKE ALL ON FUNCTION leyser.delete_generation(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.delete_generation(bigint) IS
    'internal: a generation was seen to be gone, and what needs it is an orphan';

CREATE FUNCTION leyser.confirm_backup_deleted(generation_id bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leyser.refuse_present_backup(confirm_backup_deleted.generation_id);
    PERFORM leyser.delete_generation(confirm_backup_deleted.generation_id);
END
$$;
REVOKE ALL ON FUNCTION leyser.confirm_backup_deleted(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.confirm_backup_deleted(bigint) IS
    'backup: somebody has seen that a generation is gone from where it lay; its row stays, and what needs it is an orphan; 42704 for an unknown generation, LY008 where it was confirmed already, or take_backup() took it and its folder is there, 55P03, 25000 as begin_backup()';
