-- pg_cron as heartbeat.
--
-- pg_cron lives in one database of the cluster, cron.database_name, and calls into
-- others.  Where it is not this one, a background worker that is connected there does
-- what is needed.  Whoever owns that database may have made a schema "cron" with
-- functions of their own: nothing is called that is not the extension's.

CREATE FUNCTION leyser.run_in_database(database name, query text, arguments jsonb) RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_run_in_database';
REVOKE ALL ON FUNCTION leyser.run_in_database(name, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.run_in_database(name, text, jsonb) IS
    'internal: the one value of a query that a worker runs, and commits, in another database as superuser; $1 is arguments; the SQLSTATE of the query, 53000 where no worker is free, 08000 where it cannot connect';

CREATE FUNCTION leyser.run_with_cron(query text, arguments jsonb) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    result text;
BEGIN
    IF current_setting('cron.database_name') <> current_database() THEN
        RETURN leyser.run_in_database(current_setting('cron.database_name'), query, arguments);
    END IF;
    EXECUTE query INTO result USING arguments;
    RETURN result;
END
$$;
REVOKE ALL ON FUNCTION leyser.run_with_cron(text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.run_with_cron(text, jsonb) IS
    'internal: the one value of a query of pg_cron''s tables and functions, wherever they are';

-- Its settings may stand in postgresql.conf without it.
CREATE FUNCTION leyser.cron_is_preloaded() RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT current_setting('shared_preload_libraries') ~ '(^|[^a-z_])pg_cron([^a-z_]|$)'
       AND current_setting('cron.database_name', true) IS NOT NULL
$$;
REVOKE ALL ON FUNCTION leyser.cron_is_preloaded() FROM PUBLIC;
COMMENT ON FUNCTION leyser.cron_is_preloaded() IS 'internal: whether pg_cron works on this server';

CREATE FUNCTION leyser.has_cron() RETURNS boolean
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN NOT leyser.cron_is_preloaded()
                  OR current_setting('cron.database_name') NOT IN (SELECT d.datname FROM pg_database d WHERE d.datallowconn) THEN false
           ELSE leyser.run_with_cron($query$
        SELECT (count(*) = 4 AND $1 IS NOT NULL)::text FROM pg_extension e
        JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
        WHERE e.extname = 'pg_cron' AND (d.classid, d.objid) IN (
            ('pg_class'::regclass, to_regclass('cron.job')),
            ('pg_class'::regclass, to_regclass('cron.job_run_details')),
            ('pg_proc'::regclass, to_regprocedure('cron.unschedule(bigint)')),
            ('pg_proc'::regclass, to_regprocedure('cron.schedule_in_database(text,text,text,text,text,boolean)')))
    $query$, '{}')::boolean END
$$;
REVOKE ALL ON FUNCTION leyser.has_cron() FROM PUBLIC;
COMMENT ON FUNCTION leyser.has_cron() IS 'internal: whether pg_cron is preloaded, and made in its database';

-- ---- scheduling ----

-- Daily jobs only make sure that somebody ticks then: what is due, tick() knows.
CREATE FUNCTION leyser.cron_jobs() RETURNS TABLE (job_name text, cron_schedule text, command text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN octet_length(n.name) <= 63 THEN n.name ELSE format('leyser %s %s', j.what, md5(current_database())) END,
           j.schedule, 'CALL leyser.tick()'
    FROM (SELECT 'heartbeat', '* * * * *'
          UNION ALL
          SELECT CASE k.job WHEN 'upkeep' THEN 'nightly upkeep' ELSE k.job END,
                 format('%s %s * * *', extract(minute FROM k.daily_at), extract(hour FROM k.daily_at))
          FROM leyser.job_kinds() k WHERE k.daily_at IS NOT NULL) j (what, schedule)
    CROSS JOIN LATERAL (SELECT format('leyser %s in %s', j.what, current_database())) n (name)
$$;
REVOKE ALL ON FUNCTION leyser.cron_jobs() FROM PUBLIC;
COMMENT ON FUNCTION leyser.cron_jobs() IS 'internal: the jobs that pg_cron is to have; names have at most 63 bytes';

CREATE FUNCTION leyser.require_cron() RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT leyser.has_cron() THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = 'pg_cron is not there',
            DETAIL = CASE WHEN NOT leyser.cron_is_preloaded() THEN 'The server has not preloaded it.'
                ELSE format('Its database "%s" has no extension pg_cron.', current_setting('cron.database_name')) END,
            HINT = CASE WHEN NOT leyser.cron_is_preloaded()
                THEN 'Add pg_cron to shared_preload_libraries, restart the server and CREATE EXTENSION pg_cron; or let any other scheduler CALL leyser.tick() each minute.'
                ELSE format('CREATE EXTENSION pg_cron in database "%s"; or let any other scheduler CALL leyser.tick() each minute.', current_setting('cron.database_name')) END;
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.require_cron() FROM PUBLIC;
COMMENT ON FUNCTION leyser.require_cron() IS 'internal: 42704 where there is no pg_cron';

CREATE FUNCTION leyser.remove_cron_jobs(jobs jsonb) RETURNS bigint
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT leyser.run_with_cron($query$
        SELECT count(cron.unschedule(j.jobid))::text
        FROM (SELECT DISTINCT o.jobid FROM jsonb_to_recordset($1) r (job_name text, role_name text)
              JOIN cron.job o ON o.jobname::text = r.job_name AND o.username = r.role_name) j
    $query$, jobs)::bigint
$$;
REVOKE ALL ON FUNCTION leyser.remove_cron_jobs(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.remove_cron_jobs(jsonb) IS
    'internal: takes jobs (job_name, role_name) from pg_cron, and returns how many there were';

CREATE FUNCTION leyser.check_cron_role(role regrole) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = role AND r.rolcanlogin) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('role "%s" cannot log in', role),
            DETAIL = 'pg_cron calls leyser.tick() as the role that schedules it.',
            HINT = format('ALTER ROLE %s LOGIN; or schedule as another operator.', role);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_cron_role(regrole) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_cron_role(regrole) IS 'internal: 55000 for a role as which pg_cron cannot call';

-- One set of jobs a database: who schedules takes over from whoever did before.
-- They are made anew, for pg_cron would leave one that is not active as it is.
CREATE FUNCTION leyser.schedule()
    RETURNS TABLE (job_name text, cron_schedule text, command text, cron_database name)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    role name := (SELECT r.rolname FROM pg_roles r WHERE r.oid = leyser.caller());
    wanted jsonb := (SELECT jsonb_agg(to_jsonb(j) || jsonb_build_object('role_name', role, 'database', current_database()))
                     FROM leyser.cron_jobs() j);
BEGIN
    LOCK TABLE leyser.cron_job_record IN EXCLUSIVE MODE;
    PERFORM leyser.require_cron();
    PERFORM leyser.check_cron_role(leyser.caller());
    PERFORM leyser.remove_cron_jobs(wanted || coalesce((SELECT jsonb_agg(to_jsonb(r)) FROM leyser.cron_job_record r), '[]'));
    PERFORM leyser.run_with_cron($query$
        SELECT count(cron.schedule_in_database(j.job_name, j.cron_schedule, j.command, j.database, j.role_name))::text
        FROM jsonb_to_recordset($1) j (job_name text, cron_schedule text, command text, database text, role_name text)
    $query$, wanted);
    DELETE FROM leyser.cron_job_record;
    RETURN QUERY INSERT INTO leyser.cron_job_record AS r (job_name, role_name, cron_schedule, command, database_name, cron_database)
        SELECT j.job_name, role, j.cron_schedule, j.command, current_database(), current_setting('cron.database_name') FROM leyser.cron_jobs() j
        RETURNING r.job_name, r.cron_schedule, r.command, r.cron_database;
    DELETE FROM leyser.job_problem p WHERE p.job = 'look at pg_cron';
    PERFORM leyser.record_event('schedule.installed', NULL, role,
        jsonb_build_object('cron_database', current_setting('cron.database_name'), 'jobs', (SELECT jsonb_agg(j.job_name) FROM leyser.cron_jobs() j)));
END
$$;
REVOKE ALL ON FUNCTION leyser.schedule() FROM PUBLIC;
COMMENT ON FUNCTION leyser.schedule() IS
    'operator: has pg_cron, in this or another database, call tick() here each minute as the calling role; returns the jobs, which stay where another database has them and this transaction is rolled back; again to mend them; 42704 where pg_cron is not there, 55000 for a role that cannot log in';

CREATE FUNCTION leyser.unschedule() RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    removed integer := 0;
BEGIN
    LOCK TABLE leyser.cron_job_record IN EXCLUSIVE MODE;
    IF NOT EXISTS (SELECT FROM leyser.cron_job_record) THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'nothing is scheduled',
            DETAIL = 'leyser has no jobs in pg_cron for this database.',
            HINT = 'leyser.schedule() makes them.';
    END IF;
    IF leyser.has_cron() THEN
        removed := leyser.remove_cron_jobs((SELECT jsonb_agg(to_jsonb(r)) FROM leyser.cron_job_record r));
    END IF;
    DELETE FROM leyser.cron_job_record;
    DELETE FROM leyser.job_problem p WHERE p.job = 'look at pg_cron';
    PERFORM leyser.record_event('schedule.removed', NULL, NULL, jsonb_build_object('jobs', removed));
    RETURN removed;
END
$$;
REVOKE ALL ON FUNCTION leyser.unschedule() FROM PUBLIC;
COMMENT ON FUNCTION leyser.unschedule() IS
    'operator: takes leyser''s jobs for this database from pg_cron, and no others; returns how many there were; LY008 where nothing is scheduled';

-- Where pg_cron is in another database, its jobs are gone even if the drop fails
-- afterwards; schedule() makes them again.
CREATE FUNCTION leyser.leave_cron() RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM leyser.cron_job_record)
       AND pg_has_role(leyser.caller(), (SELECT e.extowner FROM pg_extension e WHERE e.extname = 'leyser'), 'USAGE')
       AND leyser.has_cron() THEN
        PERFORM leyser.remove_cron_jobs((SELECT jsonb_agg(to_jsonb(r)) FROM leyser.cron_job_record r));
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.leave_cron() FROM PUBLIC;
COMMENT ON FUNCTION leyser.leave_cron() IS
    'internal: takes our jobs from pg_cron before the extension is dropped, by a role that may drop it';

-- ---- looking after it ----

-- What is wrong with the jobs as pg_cron has them (present).
CREATE FUNCTION leyser.cron_problems(present jsonb) RETURNS TABLE (job_name text, problem text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT r.job_name, w.problem
    FROM leyser.cron_job_record r
    LEFT JOIN jsonb_to_recordset(present) p (jobname text, username text, schedule text, command text, database text, active boolean)
        ON p.jobname = r.job_name AND p.username = r.role_name
    CROSS JOIN LATERAL (SELECT CASE
        WHEN present IS NULL THEN 'pg_cron is not there'
        WHEN p.jobname IS NULL THEN 'pg_cron does not have it'
        WHEN NOT p.active THEN 'it is not active'
        WHEN p.database <> current_database() THEN format('it is for database "%s"', p.database)
        WHEN p.command <> r.command OR p.schedule <> r.cron_schedule THEN 'its command or its schedule was changed'
        WHEN NOT EXISTS (SELECT FROM pg_roles o WHERE o.rolname = r.role_name AND o.rolcanlogin) THEN
            format('role "%s" does not exist or cannot log in', r.role_name)
        WHEN NOT has_function_privilege(r.role_name, 'leyser.tick(interval, boolean)', 'EXECUTE') THEN
            format('role "%s" may not call leyser.tick()', r.role_name)
        WHEN (r.job_name, r.cron_schedule) NOT IN (SELECT j.job_name, j.cron_schedule FROM leyser.cron_jobs() j) THEN
            'it is due at another time by now'
        END) w (problem)
    WHERE w.problem IS NOT NULL
$$;
REVOKE ALL ON FUNCTION leyser.cron_problems(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.cron_problems(jsonb) IS
    'internal: which of our jobs pg_cron has lost or somebody changed; present: its rows, NULL where it is not there';

CREATE FUNCTION leyser.look_at_cron() RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    present jsonb;
BEGIN
    IF leyser.has_cron() THEN
        present := leyser.run_with_cron($query$
            SELECT coalesce(jsonb_agg(to_jsonb(j)), '[]')::text FROM cron.job j
            JOIN jsonb_to_recordset($1) r (job_name text, role_name text) ON r.job_name = j.jobname::text AND r.role_name = j.username
        $query$, (SELECT jsonb_agg(to_jsonb(r)) FROM leyser.cron_job_record r));
    END IF;
    DELETE FROM leyser.job_problem p
        WHERE p.job = 'look at pg_cron' AND p.subject NOT IN (SELECT c.job_name FROM leyser.cron_problems(present) c);
    PERFORM leyser.note_problem('look at pg_cron', c.job_name, c.problem || '.', 'SELECT leyser.schedule();', interval '0')
        FROM leyser.cron_problems(present) c;
END
$$;
REVOKE ALL ON FUNCTION leyser.look_at_cron() FROM PUBLIC;
COMMENT ON FUNCTION leyser.look_at_cron() IS
    'internal: job look at pg_cron: whether it still has our jobs as they were scheduled';

-- Also of jobs that are scheduled no longer: rows are known by what was called where.
CREATE FUNCTION leyser.prune_cron() RETURNS bigint
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN leyser.has_cron() THEN leyser.run_with_cron($query$
        WITH ours AS (
            SELECT d.runid, d.start_time FROM cron.job_run_details d
            WHERE d.database = $1 ->> 'database' AND d.command = 'CALL leyser.tick()'
        ), pruned AS (
            DELETE FROM cron.job_run_details d USING ours o
            WHERE o.runid = d.runid AND d.runid <= (SELECT max(p.runid) FROM ours p WHERE p.start_time < clock_timestamp() - interval '7 days')
              AND (d.start_time < clock_timestamp() - interval '7 days') IS NOT FALSE
            RETURNING d.runid
        )
        SELECT count(*)::text FROM pruned
    $query$, jsonb_build_object('database', current_database()))::bigint ELSE 0 END
$$;
REVOKE ALL ON FUNCTION leyser.prune_cron() FROM PUBLIC;
COMMENT ON FUNCTION leyser.prune_cron() IS
    'internal: removes what pg_cron noted about our runs of more than seven days ago, and returns how many these were';
