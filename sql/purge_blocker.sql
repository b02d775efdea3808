-- What purges wait for: each by name, with what can be done about it.
--
-- All of this is read anew at each look, so what has gone is noticed by itself.  Of
-- a process only its pid is stored, of a prepared transaction its id: what else it
-- is called by (purge_waits()) may hold bytes of the tenant.

CREATE FUNCTION leyser.replace_blockers(purge_id bigint, listed jsonb) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    DELETE FROM leyser.purge_blocker b WHERE b.purge_id = replace_blockers.purge_id
        AND NOT EXISTS (SELECT FROM jsonb_to_recordset(listed) f (kind text, subject text)
                        WHERE f.kind = b.kind AND f.subject = b.subject);
    INSERT INTO leyser.purge_blocker AS b (purge_id, kind, subject, detail, remedy)
        SELECT replace_blockers.purge_id, f.kind, f.subject, f.detail, f.remedy
        FROM jsonb_to_recordset(listed) f (kind text, subject text, detail text, remedy text)
        ON CONFLICT ON CONSTRAINT purge_blocker_pkey DO UPDATE
            SET detail = excluded.detail, remedy = excluded.remedy
            WHERE b.detail <> excluded.detail;
    RETURN coalesce(jsonb_array_length(listed), 0);
END
$$;
REVOKE ALL ON FUNCTION leyser.replace_blockers(bigint, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.replace_blockers(bigint, jsonb) IS
    'internal: what a purge waits for is this, and nothing else; returns how much it is';

-- Nothing of a statement: it may hold what is to be erased.
CREATE FUNCTION leyser.backend_detail(pid integer) RETURNS text
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT concat_ws(', ', 'role ' || coalesce(a.usename, '-'), 'database ' || a.datname,
        'application ' || nullif(a.application_name, ''),
        a.state, 'transaction since ' || to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS"Z"'))
    FROM pg_stat_activity a WHERE a.pid = backend_detail.pid
$$;
REVOKE ALL ON FUNCTION leyser.backend_detail(integer) FROM PUBLIC;
COMMENT ON FUNCTION leyser.backend_detail(integer) IS 'internal: whose a backend is, and since when';

-- ---- who could still write for the tenant ----

-- A statement is checked when it starts, so one that started before the lock-out
-- can still insert, and what it inserted stays unseen until its transaction ends.
-- One without a snapshot has not been checked yet, so it will be refused.  As long
-- as such a statement runs, its transaction may not have an id yet: only then is a
-- limit set below which all ids must have ended.
CREATE FUNCTION leyser.set_writers_limit(purge_id bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    began timestamptz := (SELECT p.started_at FROM leyser.purge_record p WHERE p.purge_id = set_writers_limit.purge_id);
    running boolean := EXISTS (SELECT FROM pg_stat_activity a
        WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.leader_pid IS NULL
          AND a.backend_type NOT IN ('autovacuum worker', 'walsender')
          AND a.backend_xmin IS NOT NULL
          AND (a.state = 'disabled' OR a.state IN ('active', 'fastpath function call')
               AND a.query_start <= began AND a.xact_start <= began));
BEGIN
    UPDATE leyser.purge_record p SET writers_before = pg_snapshot_xmax(pg_current_snapshot())
        WHERE p.purge_id = set_writers_limit.purge_id AND (running OR p.writers_before IS NULL);
END
$$;
REVOKE ALL ON FUNCTION leyser.set_writers_limit(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.set_writers_limit(bigint) IS
    'internal: below which id transactions may have written for a tenant that is locked out';

CREATE FUNCTION leyser.writers(purge_id bigint)
    RETURNS TABLE (kind text, subject text, detail text, remedy text)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    WITH purge AS (
        SELECT p.started_at, p.writers_before FROM leyser.purge_record p WHERE p.purge_id = writers.purge_id
    ), old (id) AS MATERIALIZED (
        SELECT x.id FROM purge, pg_snapshot_xip(pg_current_snapshot()) x (id) WHERE x.id < purge.writers_before
    )
    SELECT 'transaction', a.pid::text, '', ''
    FROM pg_stat_activity a, purge
    WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.leader_pid IS NULL
      AND a.backend_type NOT IN ('autovacuum worker', 'walsender')
      AND (a.backend_xid IN (SELECT o.id::xid FROM old o)
           OR a.backend_xmin IS NOT NULL
              AND (a.state = 'disabled' OR a.state IN ('active', 'fastpath function call')
                   AND a.query_start <= purge.started_at AND a.xact_start <= purge.started_at))
    UNION ALL
    SELECT 'prepared transaction', x.transaction::text, '', ''
    FROM pg_prepared_xacts x
    WHERE x.database = current_database() AND x.transaction IN (SELECT o.id::xid FROM old o)
$$;
REVOKE ALL ON FUNCTION leyser.writers(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.writers(bigint) IS
    'internal: transactions that may hold rows of the tenant which nobody sees yet';

-- ---- who holds locks ----

-- A lock that was waited for in vain does not say whose it is.
CREATE FUNCTION leyser.lock_holders(relations oid[], modes text[])
    RETURNS TABLE (pid integer, transaction xid, relation_name text)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT l.pid, t.transactionid, min(l.relation::regclass::text)
    FROM pg_locks l
    LEFT JOIN pg_locks t ON l.pid IS NULL AND t.pid IS NULL AND t.locktype = 'transactionid'
        AND t.virtualtransaction = l.virtualtransaction
    WHERE l.granted AND l.pid IS DISTINCT FROM pg_backend_pid() AND l.relation = ANY (relations)
      AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
      AND l.mode = ANY (modes)
    GROUP BY l.pid, t.transactionid
$$;
REVOKE ALL ON FUNCTION leyser.lock_holders(oid[], text[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.lock_holders(oid[], text[]) IS
    'internal: who holds such locks of one of these relations; a prepared transaction has no pid';

CREATE FUNCTION leyser.lockers(purge_id bigint)
    RETURNS TABLE (kind text, subject text, detail text, remedy text)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN h.pid IS NULL THEN 'prepared transaction' ELSE 'transaction' END, coalesce(h.pid::text, h.transaction::text),
           'has locked ' || h.relation_name, ''
    FROM leyser.lock_holders(ARRAY(SELECT t.relation FROM leyser.purge_table t WHERE t.purge_id = lockers.purge_id
                                   -- it may be planning that waits
                                   UNION SELECT t.relation::oid FROM leyser.table_record t),
             '{RowShareLock,RowExclusiveLock,ShareLock,ShareRowExclusiveLock,ExclusiveLock,AccessExclusiveLock}') h
$$;
REVOKE ALL ON FUNCTION leyser.lockers(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.lockers(bigint) IS
    'internal: transactions whose locks a deletion may wait for';

CREATE FUNCTION leyser.with_indexes(relations oid[]) RETURNS oid[]
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT array_agg(r.oid) FROM (
        SELECT u.oid FROM unnest(relations) u (oid)
        UNION SELECT i.indexrelid FROM pg_index i WHERE i.indrelid = ANY (relations)
        UNION SELECT c.reltoastrelid FROM pg_class c WHERE c.oid = ANY (relations)) r
$$;
REVOKE ALL ON FUNCTION leyser.with_indexes(oid[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.with_indexes(oid[]) IS 'internal: relations, their indexes and their TOAST tables';

-- Readers count, too: a new index waits for them.
CREATE FUNCTION leyser.scrub_lockers()
    RETURNS TABLE (kind text, subject text, detail text, remedy text)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE next AS MATERIALIZED (
        SELECT n.phase, n.relation FROM leyser.next_scrub() n
    ), at_hand (relation) AS (
        SELECT n.relation FROM next n WHERE n.phase <> 2
        UNION SELECT s.relation FROM next n, leyser.statistics_relations() s (relation) WHERE n.phase = 2
        UNION SELECT i.inhparent FROM at_hand a JOIN pg_inherits i ON i.inhrelid = a.relation
            WHERE (SELECT n.phase = 2 FROM next n)
    )
    SELECT CASE WHEN h.pid IS NULL THEN 'prepared transaction' ELSE 'lock' END, coalesce(h.pid::text, h.transaction::text),
           'has locked ' || h.relation_name, ''
    FROM leyser.lock_holders(leyser.with_indexes(ARRAY(SELECT a.relation FROM at_hand a)),
             '{AccessShareLock,RowShareLock,RowExclusiveLock,ShareUpdateExclusiveLock,ShareLock,ShareRowExclusiveLock,ExclusiveLock,AccessExclusiveLock}') h
$$;
REVOKE ALL ON FUNCTION leyser.scrub_lockers() FROM PUBLIC;
COMMENT ON FUNCTION leyser.scrub_lockers() IS
    'internal: who holds locks of what is being scrubbed';

-- A cursor keeps a page in its place, and so the rows in it.  Nobody can tell whose:
-- it is one of those who see rows of the table.
CREATE FUNCTION leyser.page_holders(relation oid)
    RETURNS TABLE (kind text, subject text, detail text, remedy text)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'page', a.pid::text, 'may hold pages of ' || page_holders.relation::regclass::text, ''
    FROM leyser.lock_holders(leyser.with_indexes(ARRAY[page_holders.relation]), '{AccessShareLock,RowShareLock,RowExclusiveLock}') h
    JOIN pg_stat_activity a ON a.pid = h.pid
    WHERE a.backend_xmin IS NOT NULL AND a.leader_pid IS NULL
$$;
REVOKE ALL ON FUNCTION leyser.page_holders(oid) FROM PUBLIC;
COMMENT ON FUNCTION leyser.page_holders(oid) IS
    'internal: transactions of which one may keep VACUUM from pages of a table';

-- Whoever was named stays named until its transaction is over; where several may be
-- meant, until one is.  Each minute it is tried again all the same.
CREATE FUNCTION leyser.lasting_blockers(purge_id bigint)
    RETURNS TABLE (kind text, subject text, detail text, remedy text)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    WITH named AS MATERIALIZED (
        SELECT b.*, CASE b.kind
            WHEN 'prepared transaction' THEN EXISTS (SELECT FROM pg_prepared_xacts x WHERE x.transaction::text = b.subject)
            ELSE b.since > clock_timestamp() - interval '1 minute'
                 AND EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid::text = b.subject AND a.xact_start < b.since
                             AND (b.kind = 'lock' OR a.backend_xmin IS NOT NULL)) END AS lasts
        FROM leyser.purge_blocker b
        WHERE b.purge_id = lasting_blockers.purge_id AND b.kind IN ('lock', 'page', 'prepared transaction')
    )
    SELECT n.kind, n.subject, n.detail, n.remedy FROM named n
    WHERE n.lasts AND (n.kind <> 'page' OR NOT EXISTS (SELECT FROM named o WHERE o.kind = 'page' AND NOT o.lasts))
$$;
REVOKE ALL ON FUNCTION leyser.lasting_blockers(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.lasting_blockers(bigint) IS
    'internal: whom a purge waited for, and still does';

-- For what a statement of the worker waits at this moment, and has for a second: for
-- all purges, whose work one worker does.
CREATE FUNCTION leyser.worker_waits()
    RETURNS TABLE (kind text, subject text, detail text, remedy text)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    WITH worker AS MATERIALIZED (
        SELECT a.pid, a.wait_event_type, a.query_start < clock_timestamp() - interval '1 second' AS long
        FROM pg_stat_activity a WHERE a.pid = leyser.purge_worker()
    ), wait AS MATERIALIZED (
        SELECT l.* FROM pg_locks l JOIN worker w ON w.pid = l.pid
        WHERE NOT l.granted AND l.waitstart < clock_timestamp() - interval '1 second'
    )
    SELECT DISTINCT 'lock', b.pid::text, 'is waited for', '' FROM wait w, unnest(pg_blocking_pids(w.pid)) b (pid) WHERE b.pid <> 0
    UNION
    SELECT 'prepared transaction', t.transactionid::text, 'is waited for', ''
    FROM wait w
    JOIN pg_locks h ON h.granted AND h.pid IS NULL AND h.locktype = w.locktype
        AND h.relation IS NOT DISTINCT FROM w.relation AND h.database IS NOT DISTINCT FROM w.database
        AND h.transactionid IS NOT DISTINCT FROM w.transactionid AND h.virtualxid IS NOT DISTINCT FROM w.virtualxid
    JOIN pg_locks t ON t.pid IS NULL AND t.locktype = 'transactionid' AND t.virtualtransaction = h.virtualtransaction
    UNION
    SELECT h.* FROM worker w JOIN pg_stat_progress_vacuum v ON v.pid = w.pid
    CROSS JOIN LATERAL leyser.page_holders(v.relid) h
    WHERE w.long AND w.wait_event_type = 'BufferPin'
$$;
REVOKE ALL ON FUNCTION leyser.worker_waits() FROM PUBLIC;
COMMENT ON FUNCTION leyser.worker_waits() IS 'internal: for whom the purge worker waits at the moment';

-- The pids of a primary are nobody's on its standbys.
CREATE FUNCTION leyser.purge_waits()
    RETURNS TABLE (purge_id bigint, kind text, subject text, detail text, remedy text)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH waited AS (
        SELECT b.purge_id, b.kind, b.subject, b.detail, b.remedy FROM leyser.purge_blocker b
        UNION ALL
        -- a deletion's are called what they are in rows, see lockers()
        SELECT p.purge_id, CASE WHEN p.deleted_at IS NULL AND w.kind = 'lock' THEN 'transaction' ELSE w.kind END,
               w.subject, w.detail, w.remedy
        FROM leyser.worker_waits() w
        JOIN leyser.purge_record p ON p.state IN ('deleting', 'waiting', 'scrubbing')
        WHERE NOT EXISTS (SELECT FROM leyser.purge_blocker b WHERE b.purge_id = p.purge_id AND b.subject = w.subject)
    ), listed AS (
        SELECT w.*, CASE WHEN w.kind IN ('transaction', 'lock', 'page') AND NOT pg_is_in_recovery() THEN w.subject::integer END AS pid
        FROM waited w
    )
    SELECT l.purge_id, l.kind, coalesce(x.gid, l.subject),
           concat_ws(', ', CASE WHEN l.pid IS NOT NULL THEN leyser.backend_detail(l.pid) END,
                     CASE WHEN x.gid IS NOT NULL THEN format('role %s, database %s', x.owner, x.database) END,
                     nullif(l.detail, '')),
           CASE WHEN l.pid IS NOT NULL THEN format('It ends by itself, or by SELECT pg_terminate_backend(%s);', l.pid)
                WHEN x.gid IS NOT NULL THEN format('COMMIT PREPARED %L or ROLLBACK PREPARED %L', x.gid, x.gid)
                ELSE l.remedy END
    FROM listed l
    LEFT JOIN pg_prepared_xacts x ON l.kind = 'prepared transaction' AND x.transaction::text = l.subject
$$;
REVOKE ALL ON FUNCTION leyser.purge_waits() FROM PUBLIC;
COMMENT ON FUNCTION leyser.purge_waits() IS
    'internal: what each purge waits for, whose it is, and what can be done about it';

-- ---- who still sees what was deleted ----

-- With nobody left here, no later snapshot sees it either: ids that run anywhere in
-- the cluster are in every new snapshot, so those of other databases count.
CREATE FUNCTION leyser.readers(deleted_xid xid8)
    RETURNS TABLE (kind text, subject text, detail text, remedy text)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    WITH deleted (age) AS (SELECT age(deleted_xid::xid))
    SELECT 'transaction', a.pid::text, '', ''
    FROM pg_stat_activity a, deleted d
    WHERE a.pid <> pg_backend_pid() AND a.leader_pid IS NULL AND a.backend_type <> 'walsender'
      AND (age(a.backend_xid) >= d.age
           OR age(a.backend_xmin) >= d.age AND a.datname = current_database()
              -- the server does not wait for a VACUUM
              AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum v WHERE v.pid = a.pid))
    UNION ALL
    SELECT 'prepared transaction', x.transaction::text, '', ''
    FROM pg_prepared_xacts x, deleted d WHERE age(x.transaction) >= d.age
    UNION ALL
    SELECT 'replication slot', s.slot_name, format('%s slot, xmin %s, catalog_xmin %s, active: %s',
               s.slot_type, coalesce(s.xmin::text, '-'), coalesce(s.catalog_xmin::text, '-'), s.active),
           format('Let its consumer catch up, or SELECT pg_drop_replication_slot(%L);', s.slot_name)
    FROM pg_replication_slots s, deleted d
    WHERE age(s.xmin) >= d.age OR age(s.catalog_xmin) >= d.age
    UNION ALL
    SELECT 'standby', coalesce(nullif(r.application_name, ''), r.pid::text),
           format('hot_standby_feedback of %s holds back %s', coalesce(host(r.client_addr), 'a local standby'), r.backend_xmin),
           'End the long query on the standby, or turn its hot_standby_feedback off.'
    FROM pg_stat_replication r, deleted d WHERE age(r.backend_xmin) >= d.age
$$;
REVOKE ALL ON FUNCTION leyser.readers(xid8) FROM PUBLIC;
COMMENT ON FUNCTION leyser.readers(xid8) IS
    'internal: what may still see rows that were deleted up to a transaction';

-- ---- what keeps old segments of the write-ahead log ----

CREATE FUNCTION leyser.standbys_behind(scrub_end_lsn pg_lsn)
    RETURNS TABLE (kind text, subject text, detail text, remedy text)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'standby', coalesce(nullif(r.application_name, ''), r.pid::text),
           format('%s, state %s, has replayed up to %s of %s', coalesce(host(r.client_addr), 'local'), r.state,
                  coalesce(r.replay_lsn::text, '-'), standbys_behind.scrub_end_lsn),
           'It goes on when the standby has caught up.'
    FROM pg_stat_replication r
    WHERE r.state IN ('streaming', 'catchup') AND r.replay_lsn < standbys_behind.scrub_end_lsn
      AND NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical')
$$;
REVOKE ALL ON FUNCTION leyser.standbys_behind(pg_lsn) FROM PUBLIC;
COMMENT ON FUNCTION leyser.standbys_behind(pg_lsn) IS
    'internal: standbys that are connected and have not replayed up to this';

-- One byte further, for a place between two segments counts to the former one in
-- some versions of the server, and to the latter in others.
CREATE FUNCTION leyser.wal_keepers(scrub_end_lsn pg_lsn)
    RETURNS TABLE (kind text, subject text, detail text, remedy text)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'replication slot', s.slot_name, format('%s slot, restart_lsn %s, active: %s', s.slot_type, s.restart_lsn, s.active),
           format('Let its consumer catch up, or SELECT pg_drop_replication_slot(%L);', s.slot_name)
    FROM pg_replication_slots s WHERE s.restart_lsn < wal_keepers.scrub_end_lsn
    UNION ALL
    SELECT 'wal_keep_size', 'wal_keep_size', format('%s MB of write-ahead log are kept', s.setting),
           'Set wal_keep_size to 0 and reload, or wait until so much was written.'
    FROM pg_settings s
    WHERE s.name = 'wal_keep_size' AND s.setting <> '0'
      AND EXISTS (SELECT FROM pg_ls_waldir() w WHERE w.name ~ '^[0-9A-F]{24}$'
                  AND w.name < pg_walfile_name(wal_keepers.scrub_end_lsn + 1))
    UNION ALL
    SELECT 'archiver', 'archive_command', format('%s segments wait to be archived, the first is %s', count(*), min(f.name)),
           'See view pg_stat_archiver and the server log for why archiving fails.'
    FROM pg_ls_archive_statusdir() f WHERE f.name LIKE '%.ready' AND current_setting('archive_mode') <> 'off'
      AND left(f.name, 24) < pg_walfile_name(wal_keepers.scrub_end_lsn + 1)
    HAVING count(*) > 0
    UNION ALL
    SELECT * FROM leyser.standbys_behind(scrub_end_lsn)
$$;
REVOKE ALL ON FUNCTION leyser.wal_keepers(pg_lsn) FROM PUBLIC;
COMMENT ON FUNCTION leyser.wal_keepers(pg_lsn) IS
    'internal: what keeps segments that are older than this, or has not replayed up to it';
