-- The steps by which the purge worker (src/purge.c) deletes.
--
-- Each is called in a transaction of its own, or in that of the batch it speaks of.

-- ---- the moves ----

-- All that there are; a purge that ends is never opened again.
CREATE FUNCTION leyser.purge_moves() RETURNS TABLE (from_state text, to_state text, reason text)
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    VALUES ('due', 'deleting', 'the worker begins'),
           ('deleting', 'waiting', 'somebody can still write or holds a lock; or nothing is found any longer'),
           ('waiting', 'deleting', 'rows are deleted again'),
           ('waiting', 'scrubbing', 'nothing holds it back'),
           ('scrubbing', 'waiting', 'something holds it back'),
           ('scrubbing', 'erased', 'a last look found nothing'),
           ('scrubbing', 'due', 'a look found rows, or a table that was not planned'),
           ('due', 'held', 'hold_purge()'), ('deleting', 'held', 'hold_purge()'),
           ('waiting', 'held', 'hold_purge()'), ('scrubbing', 'held', 'hold_purge()'),
           ('held', 'due', 'release_hold()'),
           ('deleting', 'due', 'it began in another database, whose dump this is'),
           ('waiting', 'due', 'the same; or it is erased again after a restore')
$$;
REVOKE ALL ON FUNCTION leyser.purge_moves() FROM PUBLIC;
COMMENT ON FUNCTION leyser.purge_moves() IS
    'internal: from which state to which a purge may move, and when it does';

-- The one place where a purge's state moves.
CREATE FUNCTION leyser.move_purge(purge_id bigint, to_state text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    present text;
BEGIN
    SELECT p.state INTO STRICT present FROM leyser.purge_record p
        WHERE p.purge_id = move_purge.purge_id FOR UPDATE;
    IF present = move_purge.to_state AND present <> 'erased' THEN
        RETURN;
    END IF;
    IF NOT EXISTS (SELECT FROM leyser.purge_moves() m WHERE m.from_state = present AND m.to_state = move_purge.to_state) THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('a purge that is %s cannot become %s', present, move_purge.to_state),
            DETAIL = coalesce(format('From there it becomes %s.',
                (SELECT string_agg(m.to_state, ' or ' ORDER BY m.to_state) FROM leyser.purge_moves() m WHERE m.from_state = present)),
                'It has ended.'),
            HINT = 'See view leyser.purge_status.';
    END IF;
    UPDATE leyser.purge_record p SET state = move_purge.to_state WHERE p.purge_id = move_purge.purge_id;
END
$$;
REVOKE ALL ON FUNCTION leyser.move_purge(bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.move_purge(bigint, text) IS
    'internal: moves a purge to a state, LY008 where that is none of its moves; to the state it is in: nothing';

-- ---- which purges there are ----

-- Numbers of transactions and places in the write-ahead log come with dumps and
-- upgrades to where they mean something else.
CREATE FUNCTION leyser.is_here(system_identifier bigint, database_id oid) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(s.system_identifier = is_here.system_identifier AND d.oid = is_here.database_id, false)
    FROM pg_control_system() s, pg_database d WHERE d.datname = current_database()
$$;
REVOKE ALL ON FUNCTION leyser.is_here(bigint, oid) FROM PUBLIC;
COMMENT ON FUNCTION leyser.is_here(bigint, oid) IS
    'internal: whether this is that database of that system, or a physical copy of it';

CREATE FUNCTION leyser.wal_timeline() RETURNS integer
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ SELECT ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer $$;
REVOKE ALL ON FUNCTION leyser.wal_timeline() FROM PUBLIC;
COMMENT ON FUNCTION leyser.wal_timeline() IS
    'internal: the timeline that this server writes, which is another one after a promotion; an error on a standby';

CREATE FUNCTION leyser.open_purges()
    RETURNS TABLE (purge_id bigint, tenant_id text, begun bigint, deleted bigint,
                   batch_size bigint, max_rows_per_second bigint)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p.purge_id, p.tenant_id, b.begun::integer, (b.begun AND p.deleted_at IS NOT NULL)::integer,
           p.batch_size, p.max_rows_per_second
    FROM leyser.purge_record p JOIN leyser.tenant_record t ON t.tenant_id = p.tenant_id
    CROSS JOIN LATERAL (SELECT p.state <> 'due' AND leyser.is_here(p.scrub_system, p.database_id)) b (begun)
    WHERE p.state NOT IN ('erased', 'held') AND t.state = 'terminated' AND (p.replay OR NOT (SELECT leyser.restore_is_held()))
    ORDER BY p.purge_id
$$;
REVOKE ALL ON FUNCTION leyser.open_purges() FROM PUBLIC;
COMMENT ON FUNCTION leyser.open_purges() IS
    'internal: the purges for which there is something to do, in the order in which they were queued';

-- For the rest of the transaction nobody can hold the purge; 0 where it is held.  The
-- tenant's row comes first, as for all who decide about the contract: a batch may
-- empty columns of it.
CREATE FUNCTION leyser.lock_purge(purge_id bigint) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM FROM leyser.purge_record p JOIN leyser.tenant_record t ON t.tenant_id = p.tenant_id
        WHERE p.purge_id = lock_purge.purge_id FOR NO KEY UPDATE OF t;
    PERFORM FROM leyser.purge_record p JOIN leyser.tenant_record t ON t.tenant_id = p.tenant_id
        WHERE p.purge_id = lock_purge.purge_id AND p.state IN ('due', 'deleting', 'waiting')
          AND p.deleted_at IS NULL AND t.state = 'terminated' AND (p.replay OR NOT leyser.restore_is_held()) FOR UPDATE OF p;
    RETURN FOUND::integer;
END
$$;
REVOKE ALL ON FUNCTION leyser.lock_purge(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.lock_purge(bigint) IS
    'internal: locks a purge that may delete; 0 where it may not';

-- Also of a purge that was held, or came here with a dump: then all begins anew.
CREATE FUNCTION leyser.start_purge(purge_id bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    purge leyser.purge_record;
    came boolean;
BEGIN
    SELECT p.* INTO purge FROM leyser.purge_record p WHERE p.purge_id = start_purge.purge_id FOR UPDATE;
    came := NOT leyser.is_here(purge.scrub_system, purge.database_id);
    -- it may have been held since the worker looked
    IF purge.purge_id IS NULL OR purge.state IN ('held', 'erased') OR purge.state <> 'due' AND NOT came THEN
        RETURN;
    END IF;
    PERFORM leyser.move_purge(purge.purge_id, 'due');
    PERFORM leyser.move_purge(purge.purge_id, 'deleting');
    UPDATE leyser.purge_record p
        SET started_at = coalesce(p.started_at, clock_timestamp()),
            started_lsn = coalesce(CASE WHEN NOT came THEN p.started_lsn END, pg_current_wal_insert_lsn()), started_system = s.system_identifier,
            deleted_at = NULL, deleted_xid = NULL, statistics_at = NULL, statistics_xid = NULL,
            wal_at = NULL, scrub_end_lsn = NULL, scrub_timeline = NULL, cleared_timeline = NULL,
            writers_before = CASE WHEN NOT came THEN p.writers_before END,
            scrub_system = s.system_identifier, database_id = d.oid
        FROM pg_control_system() s, pg_database d
        WHERE p.purge_id = start_purge.purge_id AND d.datname = current_database();
    PERFORM leyser.set_writers_limit(start_purge.purge_id);
END
$$;
REVOKE ALL ON FUNCTION leyser.start_purge(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.start_purge(bigint) IS 'internal: a purge that was due begins to delete';

-- ---- passes ----

-- The first pass takes the plan as CALL purge() made it; every later one, and one
-- after a restart, looks anew which tables there are.
CREATE FUNCTION leyser.begin_pass(purge_id bigint) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    IF leyser.lock_purge(begin_pass.purge_id) = 0 THEN
        RETURN -1;
    END IF;
    IF EXISTS (SELECT FROM leyser.purge_record p WHERE p.purge_id = begin_pass.purge_id AND p.pass > 0)
       OR NOT EXISTS (SELECT FROM leyser.purge_table t WHERE t.purge_id = begin_pass.purge_id) THEN
        PERFORM leyser.plan_purge(begin_pass.purge_id);
    END IF;
    UPDATE leyser.purge_record p SET pass = p.pass + 1 WHERE p.purge_id = begin_pass.purge_id;
    PERFORM leyser.set_writers_limit(begin_pass.purge_id);
    RETURN (SELECT count(*) FROM leyser.writers(begin_pass.purge_id));
END
$$;
REVOKE ALL ON FUNCTION leyser.begin_pass(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.begin_pass(bigint) IS
    'internal: a pass over all tables begins; returns how many could still write for the tenant, -1 where the purge is held';

CREATE FUNCTION leyser.deletion_steps(purge_id bigint)
    RETURNS TABLE (step bigint, relation bigint, relation_name text, condition text, assignments text,
                   together bigint, rows_planned bigint, rows_deleted bigint, whole bigint)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT t.step, t.relation::bigint, t.relation_name, t.condition, t.assignments, t.together,
           t.rows_planned, t.rows_deleted, (t.action = 'truncate')::integer
    FROM leyser.purge_table t
    WHERE t.purge_id = deletion_steps.purge_id AND t.condition IS NOT NULL
    ORDER BY t.step
$$;
REVOKE ALL ON FUNCTION leyser.deletion_steps(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.deletion_steps(bigint) IS 'internal: what a pass empties, in order';

-- What is deleted shows that nobody's lock is in the way any longer.
CREATE FUNCTION leyser.note_deleted(purge_id bigint, step bigint, rows bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    IF note_deleted.rows = 0 THEN
        RETURN;
    END IF;
    UPDATE leyser.purge_table t SET rows_deleted = t.rows_deleted + note_deleted.rows
        WHERE t.purge_id = note_deleted.purge_id AND t.step = note_deleted.step;
    UPDATE leyser.purge_record p SET last_error = NULL
        WHERE p.purge_id = note_deleted.purge_id AND (p.state = 'waiting' OR p.last_error IS NOT NULL);
    IF FOUND THEN
        PERFORM leyser.move_purge(note_deleted.purge_id, 'deleting');
        PERFORM leyser.replace_blockers(note_deleted.purge_id, NULL);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.note_deleted(bigint, bigint, bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.note_deleted(bigint, bigint, bigint) IS
    'internal: a batch, in whose transaction this is noted';

CREATE FUNCTION leyser.wait_for_writers(purge_id bigint) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    listed jsonb;
BEGIN
    IF leyser.lock_purge(wait_for_writers.purge_id) = 0 THEN
        RETURN -1;
    END IF;
    PERFORM leyser.set_writers_limit(wait_for_writers.purge_id);
    SELECT jsonb_agg(to_jsonb(w)) INTO listed FROM leyser.writers(wait_for_writers.purge_id) w;
    IF listed IS NOT NULL THEN
        PERFORM leyser.move_purge(wait_for_writers.purge_id, 'waiting');
    END IF;
    RETURN leyser.replace_blockers(wait_for_writers.purge_id, listed);
END
$$;
REVOKE ALL ON FUNCTION leyser.wait_for_writers(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.wait_for_writers(bigint) IS
    'internal: names those who could still write for the tenant, and says how many they are';

-- What was deleted was deleted by this transaction or older ones.
CREATE FUNCTION leyser.finish_deletion(purge_id bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    PERFORM leyser.move_purge(finish_deletion.purge_id, 'waiting');
    UPDATE leyser.purge_record p
        SET deleted_at = clock_timestamp(), deleted_xid = pg_current_xact_id(), last_error = NULL
        WHERE p.purge_id = finish_deletion.purge_id;
    PERFORM leyser.replace_blockers(finish_deletion.purge_id, NULL);
END
$$;
REVOKE ALL ON FUNCTION leyser.finish_deletion(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.finish_deletion(bigint) IS
    'internal: a pass found nothing of the tenant any longer, and nobody could write';

-- A lock that was not to be had is a blocker, not an error.
CREATE FUNCTION leyser.note_purge_error(purge_id bigint, sqlstate text, error text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    listed jsonb;
BEGIN
    IF note_purge_error.sqlstate = '55P03' THEN
        SELECT jsonb_agg(to_jsonb(l)) INTO listed FROM leyser.lockers(note_purge_error.purge_id) l;
    END IF;
    IF listed IS NOT NULL AND leyser.lock_purge(note_purge_error.purge_id) > 0 THEN
        PERFORM leyser.move_purge(note_purge_error.purge_id, 'waiting');
        PERFORM leyser.replace_blockers(note_purge_error.purge_id, listed);
        RETURN;
    END IF;
    -- what it waited for before is another thing
    PERFORM leyser.replace_blockers(note_purge_error.purge_id, NULL);
    UPDATE leyser.purge_record p SET last_error = format('%s: %s', note_purge_error.sqlstate, note_purge_error.error)
        WHERE p.purge_id = note_purge_error.purge_id;
END
$$;
REVOKE ALL ON FUNCTION leyser.note_purge_error(bigint, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.note_purge_error(bigint, text, text) IS
    'internal: why a step failed, which is tried again';

-- The same of a step that all share who are through with deleting.
CREATE FUNCTION leyser.note_scrub_error(sqlstate text, error text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    listed jsonb;
BEGIN
    IF note_scrub_error.sqlstate = '55P03' THEN
        SELECT jsonb_agg(to_jsonb(l)) INTO listed FROM leyser.scrub_lockers() l;
    END IF;
    IF listed IS NOT NULL THEN
        PERFORM leyser.scrub_waits(s.purge_id, listed) FROM leyser.scrubbing_purges() s;
        RETURN;
    END IF;
    UPDATE leyser.purge_record p SET last_error = format('%s: %s', note_scrub_error.sqlstate, note_scrub_error.error)
        WHERE p.deleted_at IS NOT NULL AND p.state IN ('waiting', 'scrubbing');
END
$$;
REVOKE ALL ON FUNCTION leyser.note_scrub_error(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.note_scrub_error(text, text) IS
    'internal: why a step of the scrub failed, which is tried again';
