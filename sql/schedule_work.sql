-- What the jobs of tick() do.

CREATE FUNCTION leyser.settle_contracts() RETURNS SETOF text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    tenant text;
BEGIN
    -- nobody waits for one that somebody decides about at the moment
    FOR tenant IN SELECT t.tenant_id FROM leyser.tenant_record t
            WHERE t.state = 'terminating' AND t.ends_at <= clock_timestamp()
            ORDER BY t.ends_at, t.tenant_id LIMIT 100 FOR NO KEY UPDATE SKIP LOCKED LOOP
        PERFORM leyser.settle_contract(tenant);
        RETURN NEXT tenant;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.settle_contracts() FROM PUBLIC;
COMMENT ON FUNCTION leyser.settle_contracts() IS
    'internal: writes down up to 100 contracts that have ended, and returns their tenants';

CREATE FUNCTION leyser.settle_some(OUT done text, OUT more boolean)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN count(*) > 0 THEN format('contracts that have ended: %s', count(*)) END, count(*) = 100
    FROM leyser.settle_contracts()
$$;
REVOKE ALL ON FUNCTION leyser.settle_some() FROM PUBLIC;
COMMENT ON FUNCTION leyser.settle_some() IS 'internal: job settle contracts';

-- ---- purges ----

-- A purge that was begun goes on by itself: src/launcher.c.
CREATE FUNCTION leyser.next_due_purge() RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT t.tenant_id FROM leyser.tenant_record t
        WHERE t.state = 'terminated' AND leyser.purge_from(t.ends_at) <= clock_timestamp()
          AND NOT EXISTS (SELECT FROM leyser.purge_record p WHERE p.tenant_id = t.tenant_id AND p.state <> 'erased')
          AND NOT EXISTS (SELECT FROM leyser.job_problem j
                          WHERE j.job = 'queue purges' AND j.subject = t.tenant_id AND j.retry_at > clock_timestamp())
        ORDER BY t.ends_at, t.tenant_id LIMIT 1);
END
$$;
REVOKE ALL ON FUNCTION leyser.next_due_purge() FROM PUBLIC;
COMMENT ON FUNCTION leyser.next_due_purge() IS
    'internal: a tenant whose purge may begin and was not begun, or tried lately, or NULL';

-- Somebody called purge(), or hold_purge(), meanwhile.
CREATE FUNCTION leyser.settled_problems() RETURNS SETOF text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY SELECT j.subject FROM leyser.job_problem j
        WHERE j.job = 'queue purges' AND NOT EXISTS (
            SELECT FROM leyser.tenant_record t WHERE t.tenant_id = j.subject AND t.state = 'terminated'
              AND NOT EXISTS (SELECT FROM leyser.purge_record p WHERE p.tenant_id = t.tenant_id AND p.state <> 'erased'));
END
$$;
REVOKE ALL ON FUNCTION leyser.settled_problems() FROM PUBLIC;
COMMENT ON FUNCTION leyser.settled_problems() IS 'internal: tenants whose purge could not begin, and need not any longer';

CREATE FUNCTION leyser.note_problem(job text, subject text, detail text, remedy text, delay interval DEFAULT NULL) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO leyser.job_problem AS p (job, subject, retry_at, detail, remedy)
        VALUES (job, subject, clock_timestamp() + coalesce(delay, leyser.retry_delay(1)), detail, remedy)
        ON CONFLICT ON CONSTRAINT job_problem_pkey DO UPDATE SET failures = p.failures + 1,
            retry_at = clock_timestamp() + coalesce(note_problem.delay, leyser.retry_delay(p.failures + 1)),
            detail = excluded.detail, remedy = excluded.remedy
$$;
REVOKE ALL ON FUNCTION leyser.note_problem(text, text, text, text, interval) FROM PUBLIC;
COMMENT ON FUNCTION leyser.note_problem(text, text, text, text, interval) IS
    'internal: notes what a job could not do for one of many; it is tried again later each time, or after the delay';

-- The server's own messages may quote rows; leyser's quote none.
CREATE FUNCTION leyser.queue_due_purge(OUT done text, OUT more boolean)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    tenant text := leyser.next_due_purge();
    told text;
    advice text;
BEGIN
    DELETE FROM leyser.job_problem j WHERE j.job = 'queue purges' AND j.subject IN (SELECT leyser.settled_problems());
    IF tenant IS NULL THEN
        RETURN;
    END IF;
    BEGIN
        PERFORM leyser.queue_purge(tenant, 5000, 0, leyser.caller());
        PERFORM leyser.start_purge_worker();
        DELETE FROM leyser.job_problem j WHERE j.job = 'queue purges' AND j.subject = tenant;
        done := 'a purge was queued';
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS told = PG_EXCEPTION_DETAIL, advice = PG_EXCEPTION_HINT;
        RAISE LOG USING MESSAGE = format('the purge of tenant "%s" could not begin: %s', tenant, SQLERRM);
        PERFORM leyser.note_problem('queue purges', tenant,
            CASE WHEN SQLSTATE ~ '^(LY|25|40|53|54|55|57|58)' THEN concat_ws(' ', SQLERRM || '.', nullif(told, ''))
                 ELSE format('SQLSTATE %s; the server log tells more.', SQLSTATE) END,
            coalesce(nullif(advice, ''), format('See leyser.purge_plan(%L).', tenant)));
        done := 'a purge could not begin';
    END;
    more := true;
END
$$;
REVOKE ALL ON FUNCTION leyser.queue_due_purge() FROM PUBLIC;
COMMENT ON FUNCTION leyser.queue_due_purge() IS
    'internal: job queue purges: one purge that is due; what stops its plan is noted, and stops no other';

-- ---- backups ----

-- A backup that was begun since the last due time is the daily one, whoever began it:
-- also one whose tick was killed before it had written down whom it had asked.
CREATE FUNCTION leyser.todays_backup(states text[]) RETURNS bigint
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT g.generation_id FROM leyser.generation_record g
    WHERE g.tool = 'pg_basebackup' AND g.state = ANY (states)
      AND g.started_at >= leyser.next_daily((leyser.present_backup_policy()).daily_at, clock_timestamp()) - interval '24 hours'
    ORDER BY g.started_at DESC LIMIT 1
$$;
REVOKE ALL ON FUNCTION leyser.todays_backup(text[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.todays_backup(text[]) IS
    'internal: leyser''s own backup in one of these states that was begun since the daily one was due last, or NULL';

CREATE FUNCTION leyser.check_daily_backup(generation_id bigint) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    generation leyser.generation_record;
BEGIN
    SELECT g.* INTO generation FROM leyser.generation_record g WHERE g.generation_id = check_daily_backup.generation_id;
    IF generation.state IN ('complete', 'verified', 'expired', 'deleted') THEN
        RETURN format('generation %s is %s', generation.generation_id, generation.state);
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'system_error',
        MESSAGE = format('generation %s is %s', check_daily_backup.generation_id, coalesce(generation.state, 'gone')),
        DETAIL = coalesce(generation.error, 'Its worker has ended.');
END
$$;
REVOKE ALL ON FUNCTION leyser.check_daily_backup(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_daily_backup(bigint) IS
    'internal: what became of a daily backup whose worker has ended; 58000 where it failed';

-- handed_to 0 is a backup for another database, which is waited for.
CREATE FUNCTION leyser.back_up_daily(OUT done text, OUT handed_to bigint)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked bigint := (SELECT nullif(r.handed_to, 0) FROM leyser.job_record r WHERE r.job = 'daily backup');
BEGIN
    IF leyser.backup_is_running() THEN
        handed_to := coalesce(asked, leyser.todays_backup('{running,complete}'), 0);
        RETURN;
    END IF;
    asked := coalesce(asked, leyser.todays_backup('{complete,verified}'));
    IF asked IS NULL THEN
        handed_to := leyser.perform_backup('daily', false);
    ELSE
        done := leyser.check_daily_backup(asked);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.back_up_daily() FROM PUBLIC;
COMMENT ON FUNCTION leyser.back_up_daily() IS
    'internal: job daily backup: has the worker begin it, and looks what became of it';

-- What is imported from elsewhere needs no pgBackRest here.
CREATE FUNCTION leyser.sync_if_known() RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM leyser.generation_record g WHERE g.tool = 'pgbackrest' AND g.deleted_at IS NULL) THEN
        RETURN NULL;
    END IF;
    RETURN (SELECT format('recorded: %s, changed: %s, gone: %s', s.recorded, s.changed, s.deleted)
            FROM leyser.sync_pgbackrest() s WHERE s.recorded + s.changed + s.deleted > 0);
EXCEPTION WHEN undefined_file THEN
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION leyser.sync_if_known() FROM PUBLIC;
COMMENT ON FUNCTION leyser.sync_if_known() IS
    'internal: job sync pgbackrest: asks pgBackRest for its backups, where it is installed';

-- ---- upkeep ----

CREATE FUNCTION leyser.prune_history() RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    runs bigint;
BEGIN
    DELETE FROM leyser.job_run_record r
        WHERE r.ended_at < clock_timestamp() - interval '30 days'
           OR r.run_id <= (SELECT max(o.run_id) - 100000 FROM leyser.job_run_record o);
    GET DIAGNOSTICS runs = ROW_COUNT;
    -- what has not come to its end can be resumed
    DELETE FROM leyser.work_record w WHERE w.state = 'done' AND w.ended_at < clock_timestamp() - interval '30 days';
    RETURN format('removed %s runs of jobs, %s of pg_cron, %s mails', runs, leyser.prune_cron(), leyser.prune_mail());
END
$$;
REVOKE ALL ON FUNCTION leyser.prune_history() FROM PUBLIC;
COMMENT ON FUNCTION leyser.prune_history() IS
    'internal: job upkeep: removes what is told by job_run and by pg_cron about runs of long ago, works that were done then, and mails of half a year ago';
