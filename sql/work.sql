-- Works: procedures of many steps that commit, told step by step and resumed where
-- they stopped.
--
-- Whoever does a work holds a lock of the session for it (src/work.c), so it ends
-- with the process, and a work that was killed is taken up by the next call.

CREATE FUNCTION leyser.lock_work(work_id bigint) RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_lock_work';
REVOKE ALL ON FUNCTION leyser.lock_work(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.lock_work(bigint) IS
    'internal: takes the session''s lock of a work, which the procedure in C releases; false where another session, or this one, has it';

CREATE FUNCTION leyser.work_worker(work_id bigint) RETURNS integer
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT l.pid FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.classid = 'pg_extension'::regclass AND l.objsubid = 27771
      AND l.objid::bigint = work_id & 4294967295
      AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
$$;
REVOKE ALL ON FUNCTION leyser.work_worker(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.work_worker(bigint) IS
    'internal: the process that does a work, or NULL';

CREATE FUNCTION leyser.work_begin(kind text, subject text, arguments jsonb) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    unfinished bigint;
    found_id bigint;
BEGIN
    -- two that begin at once see each other
    LOCK TABLE leyser.work_record IN SHARE ROW EXCLUSIVE MODE;
    FOR unfinished IN SELECT w.work_id FROM leyser.work_record w
            WHERE w.kind = work_begin.kind AND w.subject = work_begin.subject AND w.state <> 'done'
              AND leyser.work_worker(w.work_id) IS NOT NULL LOOP
        RAISE EXCEPTION USING ERRCODE = 'lock_not_available',
            MESSAGE = format('%s of "%s" is running already', work_begin.kind, work_begin.subject),
            DETAIL = format('Process %s does it.', leyser.work_worker(unfinished)),
            HINT = 'Wait for its end: see view leyser.work.';
    END LOOP;
    SELECT w.work_id INTO found_id FROM leyser.work_record w
        WHERE w.kind = work_begin.kind AND w.subject = work_begin.subject AND w.state <> 'done'
          AND w.arguments = work_begin.arguments
        ORDER BY w.work_id DESC LIMIT 1;
    IF FOUND THEN
        UPDATE leyser.work_record w SET state = 'running', ended_at = NULL, updated_at = clock_timestamp()
            WHERE w.work_id = found_id;
    ELSE
        INSERT INTO leyser.work_record AS w (kind, subject, arguments, started_by)
            VALUES (work_begin.kind, work_begin.subject, work_begin.arguments, leyser.caller()::text)
            RETURNING w.work_id INTO found_id;
    END IF;
    IF NOT leyser.lock_work(found_id) THEN
        RAISE EXCEPTION USING ERRCODE = 'lock_not_available',
            MESSAGE = format('%s of "%s" is running already', work_begin.kind, work_begin.subject),
            DETAIL = 'Another session does it.',
            HINT = 'Wait for its end: see view leyser.work.';
    END IF;
    RETURN found_id;
END
$$;
REVOKE ALL ON FUNCTION leyser.work_begin(text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.work_begin(text, text, jsonb) IS
    'internal: the unfinished work of this kind, subject and arguments, or a new one, locked for this session; 55P03 where one of this kind and subject is running';

CREATE FUNCTION leyser.work_step(work_id bigint, done bigint, total bigint, new_position jsonb) RETURNS void
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE leyser.work_record w SET done = work_step.done, total = work_step.total,
        position = work_step.new_position, updated_at = clock_timestamp()
        WHERE w.work_id = work_step.work_id
$$;
REVOKE ALL ON FUNCTION leyser.work_step(bigint, bigint, bigint, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.work_step(bigint, bigint, bigint, jsonb) IS
    'internal: how far a work is, and where it goes on';

CREATE FUNCTION leyser.work_end(work_id bigint, state text, error text) RETURNS void
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE leyser.work_record w SET state = work_end.state, last_error = work_end.error,
        updated_at = clock_timestamp(), ended_at = clock_timestamp()
        WHERE w.work_id = work_end.work_id
$$;
REVOKE ALL ON FUNCTION leyser.work_end(bigint, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.work_end(bigint, text, text) IS
    'internal: a work is done, or has failed with this error and can be resumed';

CREATE FUNCTION leyser.list_works()
    RETURNS TABLE (work_id bigint, kind text, subject text, arguments jsonb, state text, process_id integer,
                   done bigint, total bigint, last_error text, started_by text,
                   started_at timestamptz, updated_at timestamptz, ended_at timestamptz)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT w.work_id, w.kind, w.subject, w.arguments,
           CASE WHEN w.state = 'running' AND p.process_id IS NULL THEN 'interrupted' ELSE w.state END,
           p.process_id, w.done, w.total, w.last_error, w.started_by, w.started_at, w.updated_at, w.ended_at
    FROM leyser.work_record w
    CROSS JOIN LATERAL (SELECT CASE WHEN w.state = 'running' THEN leyser.work_worker(w.work_id) END AS process_id) p
$$;
REVOKE ALL ON FUNCTION leyser.list_works() FROM PUBLIC;
COMMENT ON FUNCTION leyser.list_works() IS
    'internal: the rows of view work';

CREATE VIEW leyser.work AS SELECT * FROM leyser.list_works();
COMMENT ON VIEW leyser.work IS
    'procedures of many steps (operator, auditor): running, interrupted and failed ones (the same call resumes them) and done ones, with how far they are';
