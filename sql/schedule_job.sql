-- The jobs of tick(): when each is due, and how a run is noted.
--
-- src/tick.c calls begin_tick(), then start_job() and run_job() for each job that
-- next_job() gives, and commits after each of these.  Times are reckoned in UTC,
-- whatever the session's, the role's or the database's time zone is.  What each tick
-- asks is in PL/pgSQL, which keeps its plans.

-- every 0: each tick looks whether there is something to do.  What deletes is held
-- while nobody knows what time it is, or what a restore brought back.
CREATE FUNCTION leyser.job_kinds()
    RETURNS TABLE (number integer, job text, every interval, daily_at time, held boolean)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT * FROM (VALUES
        (1, 'settle contracts', interval '0', NULL::time, false),
        (2, 'queue purges', interval '0', NULL, true),
        (3, 'daily backup', NULL, (leyser.present_backup_policy()).daily_at, false),
        (4, 'notice backups', interval '5 minutes', NULL, false),
        (5, 'sync pgbackrest', interval '15 minutes', NULL, false),
        (6, 'expire backups', interval '1 hour', NULL, true),
        (7, 'clean backups', interval '1 hour', NULL, true),
        (8, 'look at pg_cron', interval '5 minutes', NULL, false),
        (9, 'upkeep', NULL, time '18:30', true),
        (10, 'end suspensions', interval '0', NULL, false),
        (11, 'check security', NULL, time '17:30', false),
        (12, 'seal events', interval '0', NULL, false),
        (13, 'make months for events', interval '1 hour', NULL, false),
        (14, 'drop months of events', interval '1 hour', NULL, true),
        (15, 'tell of disclosures', interval '0', NULL, false),
        (16, 'count refusals', interval '0', NULL, false),
        (17, 'note privileged access', interval '0', NULL, false),
        (90, 'verify events', interval '1 day', NULL, false),
        (91, 'note clauses', interval '1 hour', NULL, false),
        -- the last one: it takes what is left of the budget
        (99, 'send mail', interval '0', NULL, false)
    ) k (number, job, every, daily_at, held)
$$;
REVOKE ALL ON FUNCTION leyser.job_kinds() FROM PUBLIC;
COMMENT ON FUNCTION leyser.job_kinds() IS
    'internal: the jobs of tick() in their order; every: time between two runs, daily_at: UTC';

CREATE FUNCTION leyser.job_is_wanted(job text) RETURNS boolean
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE job
        WHEN 'settle contracts' THEN
            EXISTS (SELECT FROM leyser.tenant_record t WHERE t.state = 'terminating' AND t.ends_at <= clock_timestamp())
        WHEN 'queue purges' THEN
            leyser.next_due_purge() IS NOT NULL OR EXISTS (SELECT FROM leyser.settled_problems())
        WHEN 'end suspensions' THEN EXISTS (SELECT FROM leyser.ended_suspensions())
        WHEN 'tell of disclosures' THEN EXISTS (SELECT FROM leyser.due_disclosures())
        WHEN 'daily backup' THEN
            current_setting('leyser.backup_directory', true) <> '' AND (leyser.present_backup_policy()).daily_backup
        WHEN 'clean backups' THEN current_setting('leyser.backup_directory', true) <> ''
        WHEN 'seal events' THEN EXISTS (SELECT FROM leyser.event_pending)
        WHEN 'count refusals' THEN leyser.refusals_wait()
        WHEN 'note privileged access' THEN EXISTS (SELECT FROM leyser.list_privileged())
            OR EXISTS (SELECT FROM leyser.list_replication(leyser.replication_to_note()))
        WHEN 'look at pg_cron' THEN EXISTS (SELECT FROM leyser.cron_job_record)
        WHEN 'send mail' THEN leyser.mail_can_be_sent()
        ELSE true END IS TRUE;
END
$$;
REVOKE ALL ON FUNCTION leyser.job_is_wanted(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.job_is_wanted(text) IS
    'internal: whether a job has something to do, or is set up, at all';

-- ---- times ----

CREATE FUNCTION leyser.next_daily(daily_at time, after timestamptz) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT (u.at::date + daily_at + CASE WHEN u.at::time < daily_at THEN interval '0' ELSE interval '1 day' END) AT TIME ZONE 'UTC'
    FROM (VALUES (after AT TIME ZONE 'UTC')) u (at)
$$;
REVOKE ALL ON FUNCTION leyser.next_daily(time, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.next_daily(time, timestamptz) IS
    'internal: the first moment after another at which it is that time of the day, in UTC';

-- However many due times have passed, one run is for all of them; a run that is
-- late counts for the next one, too, where that is less than an hour away.
CREATE FUNCTION leyser.next_due(every interval, daily_at time, started timestamptz) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN daily_at IS NULL THEN started + every
                ELSE leyser.next_daily(daily_at, started + interval '1 hour') END
$$;
REVOKE ALL ON FUNCTION leyser.next_due(interval, time, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.next_due(interval, time, timestamptz) IS
    'internal: when a job that began then is due again';

-- A minute after the first failure, then twice as long, up to an hour.
CREATE FUNCTION leyser.retry_delay(failures integer) RETURNS interval
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT least(interval '1 hour', interval '1 minute' * 2 ^ least(greatest(failures - 1, 0), 10)) $$;
REVOKE ALL ON FUNCTION leyser.retry_delay(integer) FROM PUBLIC;
COMMENT ON FUNCTION leyser.retry_delay(integer) IS
    'internal: how long nobody tries again after so many failures';

-- Servers that agree on the time move their clocks by less than that.
CREATE FUNCTION leyser.clock_is_back() RETURNS boolean
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN coalesce((SELECT t.latest_at > clock_timestamp() + interval '5 seconds' FROM leyser.tick_record t), false);
END
$$;
REVOKE ALL ON FUNCTION leyser.clock_is_back() FROM PUBLIC;
COMMENT ON FUNCTION leyser.clock_is_back() IS
    'internal: whether the clock stands before a time that a tick has seen';

-- ---- a tick ----

-- Jobs that are new, that are due at another time of the day by now, or that
-- nobody wanted when they were due.
CREATE FUNCTION leyser.reckon_jobs() RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO leyser.job_record (job, due_at, daily_at)
        SELECT k.job, CASE WHEN k.daily_at IS NULL THEN clock_timestamp() ELSE leyser.next_daily(k.daily_at, clock_timestamp()) END,
               k.daily_at
        FROM leyser.job_kinds() k WHERE NOT EXISTS (SELECT FROM leyser.job_record r WHERE r.job = k.job)
        ON CONFLICT DO NOTHING;
    UPDATE leyser.job_record r SET due_at = leyser.next_daily(k.daily_at, clock_timestamp()), daily_at = k.daily_at
        FROM leyser.job_kinds() k
        WHERE k.job = r.job AND k.daily_at IS NOT NULL
          AND CASE WHEN r.due_at <= clock_timestamp() THEN NOT leyser.job_is_wanted(k.job) ELSE r.daily_at <> k.daily_at END;
END
$$;
REVOKE ALL ON FUNCTION leyser.reckon_jobs() FROM PUBLIC;
COMMENT ON FUNCTION leyser.reckon_jobs() IS 'internal: gives due times to jobs that have none, or another one by now';

CREATE FUNCTION leyser.next_job(after integer, OUT job text, OUT number integer)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    hold boolean := leyser.clock_is_back() OR leyser.restore_is_held();
BEGIN
    SELECT k.job, k.number INTO job, number FROM leyser.job_kinds() k JOIN leyser.job_record r ON r.job = k.job
        WHERE k.number > after AND r.due_at <= clock_timestamp() AND (r.retry_at <= clock_timestamp()) IS NOT FALSE
          AND NOT (k.held AND hold) AND leyser.job_is_wanted(k.job)
        ORDER BY k.number LIMIT 1;
END
$$;
REVOKE ALL ON FUNCTION leyser.next_job(integer) FROM PUBLIC;
COMMENT ON FUNCTION leyser.next_job(integer) IS 'internal: the next job that is due, or NULLs';

-- A time that was wrong, and lay ahead: what is due is reckoned from the present one.
CREATE FUNCTION leyser.accept_clock() RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    former timestamptz := (SELECT t.latest_at FROM leyser.tick_record t);
BEGIN
    UPDATE leyser.tick_record t SET latest_at = clock_timestamp(), accepted_at = clock_timestamp(),
            disbelieved_until = greatest(t.disbelieved_until, leyser.newest_recorded());
    UPDATE leyser.job_record r SET retry_at = NULL,
            due_at = least(r.due_at, CASE WHEN k.daily_at IS NULL THEN clock_timestamp() ELSE leyser.next_daily(k.daily_at, clock_timestamp()) END)
        FROM leyser.job_kinds() k WHERE k.job = r.job;
    UPDATE leyser.job_problem p SET retry_at = least(p.retry_at, clock_timestamp());
    PERFORM leyser.record_event('schedule.clock_accepted', NULL, NULL, jsonb_build_object('former', former));
END
$$;
REVOKE ALL ON FUNCTION leyser.accept_clock() FROM PUBLIC;
COMMENT ON FUNCTION leyser.accept_clock() IS 'internal: takes the present time for the right one, though a later one was seen';

-- Once for each move: until the clock has caught up, latest_at stays what it is.
CREATE FUNCTION leyser.note_moved_clock(seen timestamptz) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE leyser.tick_record t SET moved_back = t.moved_back + 1, moved_back_at = note_moved_clock.seen, moved_back_from = t.latest_at
        WHERE t.moved_back_from IS DISTINCT FROM t.latest_at;
    IF FOUND THEN
        PERFORM leyser.record_event('clock.moved_back', NULL, NULL, (SELECT jsonb_build_object('from', t.moved_back_from, 'to', seen) FROM leyser.tick_record t));
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.note_moved_clock(timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.note_moved_clock(timestamptz) IS 'internal: counts that the clock stands before a time that a tick has seen, and records it, once';

CREATE FUNCTION leyser.begin_tick(accept_clock boolean, OUT job text, OUT number integer)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    seen timestamptz;
BEGIN
    IF accept_clock THEN
        PERFORM leyser.accept_clock();
    END IF;
    seen := clock_timestamp();
    INSERT INTO leyser.tick_record AS t (last_tick_at, last_tick_by, latest_at) VALUES (seen, leyser.caller()::text, seen)
        ON CONFLICT (singleton) DO UPDATE SET last_tick_at = excluded.last_tick_at, last_tick_by = excluded.last_tick_by,
            latest_at = greatest(t.latest_at, excluded.latest_at);
    IF leyser.clock_is_back() THEN
        PERFORM leyser.note_moved_clock(seen);
        RAISE WARNING USING MESSAGE = 'the clock was moved back',
            DETAIL = 'It stands before a time that was seen: no due time is moved, and nothing is deleted.',
            HINT = 'Where it is right now: CALL leyser.tick(accept_clock => true).';
    ELSE
        PERFORM leyser.reckon_jobs();
    END IF;
    SELECT n.job, n.number INTO job, number FROM leyser.next_job(0) n;
END
$$;
REVOKE ALL ON FUNCTION leyser.begin_tick(boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.begin_tick(boolean) IS 'internal: notes a heartbeat, and returns the first job that is due';

-- ---- a run ----

-- Under the job's lock.  A run that was interrupted is begun again at once, for it
-- was the server's restart, or somebody's impatience; the second time it waits.
CREATE FUNCTION leyser.note_interruption(job text) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO leyser.job_run_record (job, started_at, ended_at, state, detail)
        SELECT r.job, r.running_since, clock_timestamp(), 'interrupted', format('process %s ended or was cancelled', r.running_pid)
        FROM leyser.job_record r WHERE r.job = note_interruption.job AND r.running_since IS NOT NULL;
    UPDATE leyser.job_record r
        SET running_since = NULL, running_pid = NULL, failures = r.failures + 1,
            failing_since = coalesce(r.failing_since, r.running_since), last_error = 'it was interrupted',
            retry_at = CASE WHEN r.failures > 0 THEN clock_timestamp() + leyser.retry_delay(r.failures) END
        WHERE r.job = note_interruption.job AND r.running_since IS NOT NULL
$$;
REVOKE ALL ON FUNCTION leyser.note_interruption(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.note_interruption(text) IS 'internal: a run that left its mark has ended';

CREATE FUNCTION leyser.start_job(job text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    PERFORM leyser.note_interruption(start_job.job);
    -- another tick may have done it since it was found to be due
    UPDATE leyser.job_record r SET running_since = clock_timestamp(), running_pid = pg_backend_pid()
        WHERE r.job = start_job.job AND r.due_at <= clock_timestamp() AND (r.retry_at <= clock_timestamp()) IS NOT FALSE;
    RETURN FOUND;
END
$$;
REVOKE ALL ON FUNCTION leyser.start_job(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.start_job(text) IS 'internal: marks a job as running, if it still is due; under its lock';

CREATE FUNCTION leyser.perform_job(job text, OUT done text, OUT more boolean, OUT handed_to bigint)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    CASE job
        WHEN 'settle contracts' THEN SELECT s.done, s.more INTO done, more FROM leyser.settle_some() s;
        WHEN 'queue purges' THEN SELECT q.done, q.more INTO done, more FROM leyser.queue_due_purge() q;
        WHEN 'daily backup' THEN SELECT d.done, d.handed_to INTO done, handed_to FROM leyser.back_up_daily() d;
        WHEN 'notice backups' THEN
            done := (SELECT format('backups that nobody told of: %s', n) FROM leyser.notice_backups() n WHERE n > 0);
        WHEN 'sync pgbackrest' THEN done := leyser.sync_if_known();
        WHEN 'clean backups' THEN PERFORM leyser.clean_backups(wait => false);
        WHEN 'expire backups' THEN
            SELECT format('generations that expired: %s', count(*)) INTO done FROM leyser.expire_backups() HAVING count(*) > 0;
        WHEN 'look at pg_cron' THEN PERFORM leyser.look_at_cron();
        WHEN 'end suspensions' THEN
            SELECT format('suspensions that have ended: %s', count(leyser.tidy_suspension(e.relation))) INTO done
                FROM leyser.ended_suspensions() e (relation);
        WHEN 'tell of disclosures' THEN
            SELECT format('disclosures of which tenants were told: %s', count(leyser.tell_tenant(d.disclosure_id))) INTO done
                FROM leyser.due_disclosures() d (disclosure_id);
        WHEN 'seal events' THEN PERFORM leyser.seal_events();
        WHEN 'make months for events' THEN PERFORM leyser.add_event_months();
        WHEN 'drop months of events' THEN
            done := leyser.drop_event_months();
            PERFORM leyser.drop_daily_usage();
        WHEN 'count refusals' THEN PERFORM leyser.count_refusals();
        WHEN 'note privileged access' THEN PERFORM leyser.note_privileged();
        WHEN 'upkeep' THEN done := leyser.prune_history();
        WHEN 'check security' THEN done := leyser.note_findings();
        WHEN 'verify events' THEN done := leyser.note_verification();
        WHEN 'note clauses' THEN done := leyser.note_clauses();
        -- src/mail.c has sent it
        WHEN 'send mail' THEN done := leyser.told_mail();
    END CASE;
    more := coalesce(more, false);
END
$$;
REVOKE ALL ON FUNCTION leyser.perform_job(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.perform_job(text) IS
    'internal: does a job, or a part of it (more), or has it done by a worker (handed_to, a generation); done says what, NULL: nothing that is worth a line';

-- What was handed over stays due: the next tick looks what became of it.
CREATE FUNCTION leyser.finish_job(job text, done text, problem text, handed_to bigint) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO leyser.job_run_record (job, started_at, ended_at, state, detail)
        SELECT r.job, r.running_since, clock_timestamp(), CASE WHEN problem IS NULL THEN 'done' ELSE 'failed' END, coalesce(problem, done)
        FROM leyser.job_record r WHERE r.job = finish_job.job AND coalesce(problem, done) IS NOT NULL;
    UPDATE leyser.job_record r
        SET running_since = NULL, running_pid = NULL, handed_to = finish_job.handed_to, last_started = r.running_since, retry_at = NULL
        WHERE r.job = finish_job.job;
    UPDATE leyser.job_record r
        SET last_success = clock_timestamp(), failures = 0, failing_since = NULL, last_error = NULL,
            due_at = leyser.next_due(k.every, k.daily_at, r.last_started)
        FROM leyser.job_kinds() k WHERE k.job = r.job AND r.job = finish_job.job AND problem IS NULL AND finish_job.handed_to IS NULL;
    UPDATE leyser.job_record r
        SET failures = r.failures + 1, failing_since = coalesce(r.failing_since, r.last_started), last_error = problem,
            retry_at = clock_timestamp() + leyser.retry_delay(r.failures + 1)
        WHERE r.job = finish_job.job AND problem IS NOT NULL
$$;
REVOKE ALL ON FUNCTION leyser.finish_job(text, text, text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.finish_job(text, text, text, bigint) IS
    'internal: notes how a run ended, and when the job is due again';

-- Jobs change leyser's own books, so their messages quote no tenant's rows; what may
-- quote some is told by its SQLSTATE (queue_due_purge()).
CREATE FUNCTION leyser.run_job(job text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    work record;
    told text;
    problem text;
BEGIN
    BEGIN
        SELECT p.done, p.more, p.handed_to INTO work FROM leyser.perform_job(job) p;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS told = PG_EXCEPTION_DETAIL;
        problem := concat_ws(' ', SQLERRM || ' (' || SQLSTATE || ').', nullif(told, ''));
        RAISE LOG USING MESSAGE = format('leyser''s job "%s" failed: %s', job, problem);
        PERFORM leyser.finish_job(job, NULL, problem, NULL);
        RETURN false;
    END;
    PERFORM leyser.finish_job(job, work.done, NULL, work.handed_to);
    RETURN work.more;
END
$$;
REVOKE ALL ON FUNCTION leyser.run_job(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.run_job(text) IS
    'internal: does a job that start_job() marked, notes how it went, and returns whether there is more';

CREATE PROCEDURE leyser.tick(time_budget interval DEFAULT '20 seconds', accept_clock boolean DEFAULT false)
    LANGUAGE c AS 'MODULE_PATHNAME', 'leyser_tick';
REVOKE ALL ON PROCEDURE leyser.tick(interval, boolean) FROM PUBLIC;
COMMENT ON PROCEDURE leyser.tick(interval, boolean) IS
    'operator: does the jobs that are due, for any scheduler to call each minute, and begins none once the budget (0 seconds to one hour) is used; accept_clock takes the present time for right where a later one was seen; does nothing on a standby; 22004 for null, 22023 for another budget, 25001 in a transaction block';

CREATE FUNCTION leyser.retry_job(job text) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE leyser.job_record r SET retry_at = NULL, due_at = least(r.due_at, clock_timestamp()) WHERE r.job = retry_job.job;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = 'unknown job',
            DETAIL = 'No job of the heartbeat has this name.',
            HINT = 'View leyser.job lists the jobs.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.retry_job(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.retry_job(text) IS
    'operator: the next tick() does the job, though it is not due yet or waits after failures; 42704 for an unknown one';

CREATE VIEW leyser.job AS
    SELECT r.job, r.due_at, r.retry_at, r.running_since, r.running_pid, r.handed_to, r.last_started, r.last_success, r.failures, r.failing_since, r.last_error
    FROM leyser.job_record r;
COMMENT ON VIEW leyser.job IS
    'the jobs of tick(): when each is due, when it last succeeded, since when it fails (operator, backup, auditor)';

CREATE VIEW leyser.job_run AS
    SELECT r.run_id, r.job, r.started_at, r.ended_at, r.state, r.detail FROM leyser.job_run_record r;
COMMENT ON VIEW leyser.job_run IS
    'runs of jobs that did something (done), failed or were interrupted, for 30 days (operator, backup, auditor)';
