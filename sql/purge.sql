-- Purges as people see them: to begin one, to watch it, to read what became of it.

-- The caller is the one who is told; the plan is made here, so that what stops it
-- is an error of the call and nothing is queued.
CREATE FUNCTION leyser.queue_purge(tenant_id text, batch_size integer, max_rows_per_second integer, caller regrole)
    RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    queued bigint;
BEGIN
    IF queue_purge.batch_size NOT BETWEEN 1 AND 1000000 OR queue_purge.max_rows_per_second < 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid batch_size or max_rows_per_second',
            DETAIL = 'A batch has 1 to 1000000 rows; rows a second are 0 (no limit) or more.',
            HINT = 'Leave them out to get 5000 rows a batch without a limit.';
    END IF;
    PERFORM leyser.refuse_while_held();
    PERFORM leyser.require_purgeable(queue_purge.tenant_id);
    UPDATE leyser.purge_record p
        SET batch_size = queue_purge.batch_size, max_rows_per_second = queue_purge.max_rows_per_second
        WHERE p.tenant_id = queue_purge.tenant_id AND p.state <> 'erased'
        RETURNING p.purge_id INTO queued;
    IF FOUND THEN
        RAISE NOTICE USING MESSAGE = format('the purge of tenant "%s" is already under way', queue_purge.tenant_id),
            DETAIL = 'It goes on with this batch size and limit.';
        RETURN queued;
    END IF;
    -- one that an older snapshot does not see is a serialization failure
    INSERT INTO leyser.purge_record (tenant_id, state, batch_size, max_rows_per_second, queued_by)
        VALUES (queue_purge.tenant_id, 'due', queue_purge.batch_size, queue_purge.max_rows_per_second, queue_purge.caller::text)
        ON CONFLICT (tenant_id) WHERE state <> 'erased' DO NOTHING
        RETURNING purge_id INTO queued;
    PERFORM leyser.plan_purge(queued);
    PERFORM leyser.end_exports(queue_purge.tenant_id, 'purge');
    PERFORM leyser.record_event('purge.queued', queue_purge.tenant_id, NULL, jsonb_build_object('purge_id', queued));
    RETURN queued;
END
$$;
REVOKE ALL ON FUNCTION leyser.queue_purge(text, integer, integer, regrole) FROM PUBLIC;
COMMENT ON FUNCTION leyser.queue_purge(text, integer, integer, regrole) IS
    'internal: plans a purge and leaves it to the worker; a purge that is under way goes on with the new limits; LY008 where it may not begin or something stops its plan, 42704 for an unknown tenant';

CREATE FUNCTION leyser.start_purge_worker() RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_start_purge_worker';
REVOKE ALL ON FUNCTION leyser.start_purge_worker() FROM PUBLIC;
COMMENT ON FUNCTION leyser.start_purge_worker() IS
    'internal: has the purge worker of this database start when the transaction commits; a second one ends by itself';

CREATE FUNCTION leyser.purge_worker() RETURNS integer
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.pid FROM pg_stat_activity a
    WHERE a.backend_type = 'leyser purge worker' AND a.datname = current_database()
    ORDER BY a.backend_start LIMIT 1
$$;
REVOKE ALL ON FUNCTION leyser.purge_worker() FROM PUBLIC;
COMMENT ON FUNCTION leyser.purge_worker() IS 'internal: the pid of this database''s purge worker';

-- ---- watching ----

CREATE VIEW leyser.purge_status AS
    SELECT p.purge_id, p.tenant_id,
           CASE WHEN b.blockers IS NOT NULL AND p.state IN ('deleting', 'scrubbing') THEN 'waiting' ELSE p.state END AS state,
           p.queued_by, p.queued_at, p.started_at, p.pass,
           s.rows_planned, s.rows_deleted, s.tables, s.tables_scrubbed, p.deleted_at,
           coalesce(b.blockers, '{}') AS blockers,
           -- a place in another system's log says nothing here
           CASE WHEN p.scrub_system = (SELECT c.system_identifier FROM pg_control_system() c) THEN p.scrub_end_lsn END AS scrub_end_lsn, p.erased_at,
           h.gone_at AS gone_from_backups_at, p.batch_size, p.max_rows_per_second, p.last_error
    FROM leyser.purge_record p
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(t.rows_planned), 0)::bigint AS rows_planned, coalesce(sum(t.rows_deleted), 0)::bigint AS rows_deleted,
               count(*) AS tables, count(t.scrubbed_at) AS tables_scrubbed
        FROM leyser.purge_table t WHERE t.purge_id = p.purge_id AND t.action NOT IN ('keep', 'confirm')) s
    LEFT JOIN (
        SELECT w.purge_id, array_agg(format('%s %s: %s', w.kind, w.subject, w.detail) ORDER BY w.kind, w.subject) AS blockers
        FROM leyser.purge_waits() w GROUP BY w.purge_id) b ON b.purge_id = p.purge_id
    -- grouped, so that a query that does not ask for it does not look at the backups
    LEFT JOIN (SELECT l.purge_id, max(l.gone_at) AS gone_at FROM leyser.list_horizon() l GROUP BY l.purge_id) h ON h.purge_id = p.purge_id;
COMMENT ON VIEW leyser.purge_status IS
    'purges, their states, how far they are and what they wait for (operator, auditor)';

-- stage: what is told at once when it changes; line: what is told.
CREATE FUNCTION leyser.look_at_purge(purge_id bigint)
    RETURNS TABLE (ended boolean, worker boolean, stage text, line text)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT s.state IN ('erased', 'held'), leyser.purge_worker() IS NOT NULL,
           concat_ws('|', s.state, s.deleted_at, s.last_error,
                     (SELECT string_agg(w.kind || w.subject, '|' ORDER BY w.kind, w.subject)
                      FROM leyser.purge_waits() w WHERE w.purge_id = s.purge_id)),
           CASE WHEN s.last_error IS NOT NULL AND s.state <> 'erased' THEN
                    format('%s, and is tried again: %s', s.state, s.last_error)
                WHEN s.blockers <> '{}' THEN
                    format('%s for %s', s.state, array_to_string(s.blockers, '; '))
                WHEN s.state = 'deleting' THEN
                    format('deleting: %s of %s rows', s.rows_deleted, greatest(s.rows_planned, s.rows_deleted))
                WHEN s.state = 'scrubbing' THEN
                    format('scrubbing: %s of %s tables', s.tables_scrubbed, s.tables)
                WHEN s.state = 'erased' THEN
                    format('erased: %s rows of %s tables', s.rows_deleted, s.tables)
                ELSE s.state END
    FROM leyser.purge_status s WHERE s.purge_id = look_at_purge.purge_id
$$;
REVOKE ALL ON FUNCTION leyser.look_at_purge(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.look_at_purge(bigint) IS 'internal: what CALL purge() tells of a purge';

CREATE PROCEDURE leyser.purge(tenant_id text, batch_size integer DEFAULT 5000,
                              max_rows_per_second integer DEFAULT 0, wait boolean DEFAULT true)
    LANGUAGE c AS 'MODULE_PATHNAME', 'leyser_purge_call';
REVOKE ALL ON PROCEDURE leyser.purge(text, integer, integer, boolean) FROM PUBLIC;
COMMENT ON PROCEDURE leyser.purge(text, integer, integer, boolean) IS
    'operator: has a tenant whose contract has ended erased, at most so many rows a commit and a second (0: no limit); with wait it tells how far the purge is until it ends, without it returns at once; cancelling it stops the telling, not the purge; LY008 where the purge may not begin or something stops its plan, 42704 for an unknown tenant, 25001 in a transaction block';

-- ---- the report ----

CREATE FUNCTION leyser.standby_scrubbed() RETURNS pg_lsn
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_standby_scrubbed';
REVOKE ALL ON FUNCTION leyser.standby_scrubbed() FROM PUBLIC;
COMMENT ON FUNCTION leyser.standby_scrubbed() IS
    'internal: on a standby, before which place its pg_wal holds nothing; NULL where it has not looked yet';

CREATE FUNCTION leyser.purge_report(tenant_id text)
    RETURNS TABLE (part text, subject text, state text, detail text)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    purge leyser.purge_status;
BEGIN
    SELECT s.* INTO purge FROM leyser.purge_status s WHERE s.tenant_id = purge_report.tenant_id
        ORDER BY s.purge_id DESC LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = 'there is no purge of this tenant',
            DETAIL = 'None was begun, or there is no such tenant.',
            HINT = 'See view leyser.contract; CALL leyser.purge() begins one.';
    END IF;
    RETURN QUERY SELECT 'purge', purge.purge_id::text, purge.state,
        concat_ws(', ', format('%s rows of %s tables', purge.rows_deleted, purge.tables),
            'scrub_end_lsn ' || purge.scrub_end_lsn,
            'erased at ' || to_char(purge.erased_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS"Z"'), purge.last_error);
    RETURN QUERY SELECT 'blocker', format('%s %s', w.kind, w.subject), 'waited for', concat_ws(' ', w.detail || '.', w.remedy)
        FROM leyser.purge_waits() w WHERE w.purge_id = purge.purge_id ORDER BY w.kind, w.subject;
    RETURN QUERY SELECT 'fence', 'database ' || i.database_id, CASE WHEN e.erased_at IS NOT NULL THEN 'erased' WHEN e.tenant_id IS NOT NULL THEN 'begun'
                ELSE 'not written' END, 'What a server that is restored from a backup of before compares itself with.'
        FROM leyser.identity i LEFT JOIN leyser.fence_entries() e
            ON e.database_id = i.database_id AND e.tenant_id = purge_report.tenant_id;
    RETURN QUERY SELECT 'table', t.relation_name,
            CASE WHEN t.action IN ('keep', 'confirm') THEN t.action WHEN t.verified_at IS NOT NULL THEN 'clean'
                 WHEN t.scrubbed_at IS NOT NULL THEN 'scrubbed' WHEN t.rows_deleted > 0 THEN 'deleted' ELSE 'planned' END,
            concat_ws(', ', CASE WHEN t.action NOT IN ('keep', 'confirm') THEN
                format('%s rows, %s pages scrubbed, %s indexes rebuilt', t.rows_deleted, t.pages_scrubbed, t.indexes_rebuilt) END, t.note)
        FROM leyser.purge_table t WHERE t.purge_id = purge.purge_id ORDER BY t.step;
    -- as it was, whatever stores there are by now
    RETURN QUERY SELECT CASE WHEN s.inside THEN 'confirmation' ELSE 'external store' END, s.name,
            CASE WHEN e.name IS NULL THEN 'not confirmed' ELSE 'confirmed' END,
            'by ' || e.confirmed_by || ' at ' || to_char(e.confirmed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS"Z"')
        FROM (SELECT n.name, bool_or(n.inside) AS inside FROM (
                  SELECT x.name, false AS inside FROM leyser.external_store x WHERE purge.state <> 'erased'
                  UNION ALL SELECT t.relation_name, t.relation <> 0 FROM leyser.purge_table t
                      WHERE t.purge_id = purge.purge_id AND t.action = 'confirm'
                  UNION ALL SELECT c.name, false FROM leyser.external_erasure c WHERE c.tenant_id = purge_report.tenant_id) n
              GROUP BY n.name) s
        LEFT JOIN leyser.external_erasure e ON e.name = s.name AND e.tenant_id = purge_report.tenant_id
        ORDER BY s.name COLLATE "C";
    IF NOT pg_is_in_recovery() AND purge.scrub_end_lsn <= leyser.promoted_wanted() THEN
        RETURN QUERY SELECT 'write-ahead log', 'pg_wal', 'not yet',
            'This server was promoted since; it writes over what it holds from before.';
    END IF;
    IF pg_is_in_recovery() THEN
        RETURN QUERY SELECT 'standby', 'pg_wal', CASE WHEN purge.scrub_end_lsn <= leyser.standby_scrubbed() THEN 'clean' ELSE 'not yet' END,
            'The write-ahead log of the standby on which this is asked.';
    END IF;
    RETURN QUERY SELECT 'backups', coalesce('generation ' || g.generation_id, 'WAL archive ' || g.archive), 'may hold it',
            concat_ws(' ', g.label || ',', 'due to be gone at ' || to_char(h.due_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS"Z"'))
        FROM leyser.list_horizon() h CROSS JOIN LATERAL (
            SELECT u.*, NULL FROM unnest(h.generations, h.labels) u
            UNION ALL SELECT NULL, NULL, w FROM unnest(h.wal_archives) w) g (generation_id, label, archive)
        WHERE h.purge_id = purge.purge_id ORDER BY g.generation_id;
    IF NOT FOUND AND purge.state = 'erased' THEN
        RETURN QUERY SELECT 'backups', 'leyser.backup_generation',
            CASE WHEN purge.gone_from_backups_at IS NULL THEN 'not known' ELSE 'gone' END,
            coalesce('since ' || to_char(purge.gone_from_backups_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS"Z"'),
                     'The books know of no backup.');
    END IF;
    RETURN QUERY SELECT 'outside the database', o.subject, o.state, o.detail
        FROM leyser.outside((SELECT p.lost_files FROM leyser.purge_record p WHERE p.purge_id = purge.purge_id)) o;
END
$$;
REVOKE ALL ON FUNCTION leyser.purge_report(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.purge_report(text) IS
    'operator, auditor: what became of the latest purge of a tenant, table by table, what it waits for, and what lies outside; 42704 where there is none';
