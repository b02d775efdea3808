-- What purges wait for: each by name, with what can be done about it.
--
-- All of this is read anew at each look, so what has gone is noticed by itself.

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
-- One without a snapshot has not been checked yet, so it will be refused.  As long as such a statement runs, its transaction may not have an id yet: only
-- then is a limit set below which all ids must have ended.
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
    SELECT 'transaction', a.pid::text, leyser.backend_detail(a.pid),
           format('It ends by itself, or by SELECT pg_terminate_backend(%s);', a.pid)
    FROM pg_stat_activity a, purge
    WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.leader_pid IS NULL
      AND a.backend_type NOT IN ('autovacuum worker', 'walsender')
      AND (a.backend_xid IN (SELECT o.id::xid FROM old o)
           OR a.backend_xmin IS NOT NULL
              AND (a.state = 'disabled' OR a.state IN ('active', 'fastpath function call')
                   AND a.query_start <= purge.started_at AND a.xact_start <= purge.started_at))
    UNION ALL
    SELECT 'prepared transaction', x.gid, format('role %s, database %s', x.owner, x.database),
           format('COMMIT PREPARED %L or ROLLBACK PREPARED %L', x.gid, x.gid)
    FROM pg_prepared_xacts x
    WHERE x.database = current_database() AND x.transaction IN (SELECT o.id::xid FROM old o)
$$;
REVOKE ALL ON FUNCTION leyser.writers(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.writers(bigint) IS
    'internal: transactions that may hold rows of the tenant which nobody sees yet';

-- Who holds locks of a purge's tables: a lock that was waited for in vain does not
-- say whose it is.  Of readers' locks only those count that a deletion waits for.
CREATE FUNCTION leyser.lockers(purge_id bigint)
    RETURNS TABLE (kind text, subject text, detail text, remedy text)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    WITH held AS MATERIALIZED (
        SELECT l.pid, l.virtualtransaction, min(l.relation::regclass::text) AS relation_name
        FROM pg_locks l
        WHERE (l.relation IN (SELECT t.relation FROM leyser.purge_table t WHERE t.purge_id = lockers.purge_id)
               -- it may be planning that waits
               OR l.relation IN (SELECT t.relation::oid FROM leyser.table_record t)) AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
          AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
          AND l.mode NOT IN ('AccessShareLock', 'ShareUpdateExclusiveLock')
        GROUP BY l.pid, l.virtualtransaction)
    SELECT 'transaction', a.pid::text, format('%s, has locked %s', leyser.backend_detail(a.pid), h.relation_name),
           format('It ends by itself, or by SELECT pg_terminate_backend(%s);', a.pid)
    FROM held h JOIN pg_stat_activity a ON a.pid = h.pid AND a.leader_pid IS NULL
    UNION ALL
    SELECT 'prepared transaction', x.gid, format('role %s, database %s, has locked %s', x.owner, x.database, h.relation_name),
           format('COMMIT PREPARED %L or ROLLBACK PREPARED %L', x.gid, x.gid)
    FROM held h
    JOIN pg_locks l ON h.pid IS NULL AND l.pid IS NULL AND l.locktype = 'transactionid' AND l.virtualtransaction = h.virtualtransaction
    JOIN pg_prepared_xacts x ON x.transaction = l.transactionid
$$;
REVOKE ALL ON FUNCTION leyser.lockers(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.lockers(bigint) IS
    'internal: transactions whose locks a deletion may wait for';

-- ---- who still sees what was deleted ----

-- With nobody left here, no later snapshot sees it either: ids that run anywhere in
-- the cluster are in every new snapshot, so those of other databases count.
CREATE FUNCTION leyser.readers(deleted_xid xid8)
    RETURNS TABLE (kind text, subject text, detail text, remedy text)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    WITH deleted (age) AS (SELECT age(deleted_xid::xid))
    SELECT 'transaction', a.pid::text, leyser.backend_detail(a.pid),
           format('It ends by itself, or by SELECT pg_terminate_backend(%s);', a.pid)
    FROM pg_stat_activity a, deleted d
    WHERE a.pid <> pg_backend_pid() AND a.leader_pid IS NULL AND a.backend_type <> 'walsender'
      AND (age(a.backend_xid) >= d.age
           OR age(a.backend_xmin) >= d.age AND a.datname = current_database()
              -- the server does not wait for a VACUUM
              AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum v WHERE v.pid = a.pid))
    UNION ALL
    SELECT 'prepared transaction', x.gid, format('role %s, database %s', x.owner, x.database),
           format('COMMIT PREPARED %L or ROLLBACK PREPARED %L', x.gid, x.gid)
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
