-- Security checks: jobs and replication: what works, or copies, without a tenant.

CREATE FUNCTION leyser.copy_rules()
    RETURNS TABLE (check_id text, severity text, fails text, what text, why text, example text, remedy text)
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $rules$
    VALUES
    ('replication.publication', 'high', 'open', 'A publication sends a protected table''s rows away.',
     'Subscribers get every tenant''s rows; row security does not apply to the log.',
     'CREATE PUBLICATION elsewhere FOR TABLE shop.invoice;', 'ALTER PUBLICATION … DROP TABLE …;'),
    ('replication.role', 'medium', 'open', 'A login besides superusers has REPLICATION.',
     'It can copy the whole server, and decode every tenant''s changes.',
     'CREATE ROLE standby LOGIN REPLICATION;', 'ALTER ROLE … NOREPLICATION;'),
    ('replication.subscription', 'medium', 'open', 'A subscription writes here past row security.',
     'The worker runs as the owner of the subscription, and takes rows of any tenant.',
     'CREATE SUBSCRIPTION inbound CONNECTION ''dbname=none'' PUBLICATION p WITH (connect = false, slot_name = NONE);', 'DROP SUBSCRIPTION …;'),
    ('replication.logical_slot', 'medium', 'open', 'A slot decodes the changes of this database.',
     'Whoever reads from it sees every tenant''s rows.',
     'SELECT pg_create_logical_replication_slot(''reading'', ''pgoutput'');', 'SELECT pg_drop_replication_slot(…);'),
    ('replication.idle_slot', 'medium', 'closed', 'Nobody reads from a replication slot, and it keeps more than max_wal_size.',
     'It keeps write-ahead log until the disk is full, and a purge waits for it. A standby that is away for a while keeps less.',
     '-- a slot from before the last gigabyte of write-ahead log: SELECT pg_create_physical_replication_slot(''lost'', true);', 'SELECT pg_drop_replication_slot(…);'),
    ('replication.unlogged', 'low', 'closed', 'A protected table is not logged.',
     'Its rows are on no standby and in no backup, and gone after a crash.',
     'CREATE UNLOGGED TABLE shop.brief (tenant_id bigint NOT NULL); SELECT leyser.protect(''shop.brief'');', 'ALTER TABLE … SET LOGGED;'),
    ('job.past_row_security', 'medium', 'open', 'A job of pg_cron names a protected table and runs as a role that row security does not bind.',
     'It sees and changes every tenant''s rows, unattended.',
     'CREATE EXTENSION pg_cron; SELECT cron.schedule(''sums'', ''0 3 * * *'', ''DELETE FROM shop.invoice'');', 'SELECT cron.unschedule(…);'),
    ('job.heartbeat', 'high', 'closed', 'Nobody calls leyser.tick().',
     'No purge begins, nothing expires, and this check is not made at night.',
     'DELETE FROM leyser.tick_record;', 'SELECT leyser.schedule();'),
    ('job.failing', 'medium', 'closed', 'A job of leyser''s has been failing for a day.',
     'What it does is not done; it is tried again each hour.',
     'UPDATE leyser.job_record SET failures = 30, failing_since = now() - interval ''2 days'', retry_at = now() + interval ''1 hour'' WHERE job = ''upkeep'';',
     'SELECT leyser.retry_job(…); CALL leyser.tick(); -- once its cause is mended'),
    ('job.prepared', 'medium', 'closed', 'A prepared transaction has been waiting for more than ten seconds.',
     'It keeps its locks, and what was deleted since; no purge can end.',
     'BEGIN; SELECT 1; PREPARE TRANSACTION ''left'';', 'ROLLBACK PREPARED …;')
$rules$;
REVOKE ALL ON FUNCTION leyser.copy_rules() FROM PUBLIC;
COMMENT ON FUNCTION leyser.copy_rules() IS 'internal: rules of the security check, families replication and job';

CREATE FUNCTION leyser.replication_findings() RETURNS TABLE (check_id text, object text, finding text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'replication.publication', 'publication ' || p.pubname, format('It sends %s away.', string_agg(DISTINCT t.name, ', ')),
           CASE WHEN p.puballtables OR count(*) > count(r.prrelid) THEN format('DROP PUBLICATION %I;', p.pubname)
                ELSE format('ALTER PUBLICATION %I DROP TABLE %s;', p.pubname, string_agg(DISTINCT t.name, ', ')) END
    FROM pg_publication p JOIN pg_publication_tables l ON l.pubname = p.pubname
    JOIN leyser.check_table t ON t.relname = l.tablename AND t.relnamespace = (SELECT n.oid FROM pg_namespace n WHERE n.nspname = l.schemaname)
    LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = t.relation
    GROUP BY p.oid, p.pubname, p.puballtables
    UNION ALL
    SELECT 'replication.role', 'role ' || r.rolname, 'It can copy the whole server.', format('ALTER ROLE %I NOREPLICATION;', r.rolname)
    FROM pg_roles r WHERE r.rolreplication AND r.rolcanlogin AND NOT r.rolsuper
    UNION ALL
    SELECT 'replication.subscription', 'subscription ' || s.subname, format('It writes as %s.', s.subowner::regrole),
           format('ALTER SUBSCRIPTION %1$I DISABLE; ALTER SUBSCRIPTION %1$I SET (slot_name = NONE); DROP SUBSCRIPTION %1$I; -- and drop its slot where it comes from', s.subname)
    FROM pg_subscription s JOIN pg_roles r ON r.oid = s.subowner AND (r.rolsuper OR r.rolbypassrls)
    WHERE s.subdbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()) AND EXISTS (SELECT FROM leyser.check_table)
    UNION ALL
    SELECT 'replication.logical_slot', 'slot ' || s.slot_name, format('Plugin %s reads every tenant''s changes.', s.plugin), format('SELECT pg_drop_replication_slot(%L);', s.slot_name)
    FROM pg_replication_slots s WHERE s.slot_type = 'logical' AND s.database = current_database() AND EXISTS (SELECT FROM leyser.check_table)
    UNION ALL
    SELECT 'replication.idle_slot', 'slot ' || s.slot_name, format('Nobody reads from it, and it keeps the log since %s (%s).', s.restart_lsn, s.wal_status), format('SELECT pg_drop_replication_slot(%L);', s.slot_name)
    FROM pg_replication_slots s WHERE NOT s.active AND NOT s.temporary AND s.wal_status <> 'reserved'
    UNION ALL
    SELECT 'replication.unlogged', 'table ' || t.name, 'It is not logged.', format('ALTER TABLE %s SET LOGGED;', t.name)
    FROM leyser.check_table t WHERE t.relpersistence = 'u' AND t.relkind = 'r'
$$;
REVOKE ALL ON FUNCTION leyser.replication_findings() FROM PUBLIC;
COMMENT ON FUNCTION leyser.replication_findings() IS 'internal: what family replication finds';

-- pg_cron's table is in one database, and not in this library's dependencies.
CREATE FUNCTION leyser.cron_findings() RETURNS TABLE (check_id text, object text, finding text, remedy text)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension e JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
                   WHERE e.extname = 'pg_cron' AND d.classid = 'pg_class'::regclass AND d.objid = to_regclass('cron.job')) THEN
        RETURN;
    END IF;
    RETURN QUERY EXECUTE $query$
        SELECT 'job.past_row_security', 'job ' || j.jobid, format('It names %s, and runs as %s.', string_agg(DISTINCT t.name, ', '), j.username), format('SELECT cron.unschedule(%s);', j.jobid)
        FROM cron.job j JOIN pg_roles r ON r.rolname = j.username AND (r.rolsuper OR r.rolbypassrls)
        CROSS JOIN LATERAL regexp_split_to_table(lower(j.command), '[^[:alnum:]_$]+') w (word)
        JOIN leyser.check_table t ON lower(t.relname) = w.word
        WHERE j.active AND j.database = current_database() GROUP BY j.jobid, j.username
    $query$;
END
$$;
REVOKE ALL ON FUNCTION leyser.cron_findings() FROM PUBLIC;
COMMENT ON FUNCTION leyser.cron_findings() IS 'internal: what family job finds about the jobs of pg_cron, where it lives in this database';

CREATE FUNCTION leyser.job_findings() RETURNS TABLE (check_id text, object text, finding text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'job.heartbeat', 'database ' || a.subject, a.detail,
           CASE WHEN NOT leyser.cron_is_preloaded() THEN '-- have a scheduler run this each minute: CALL leyser.tick();'
                WHEN current_setting('cron.database_name') = current_database() AND NOT EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'pg_cron')
                    THEN 'CREATE EXTENSION pg_cron; SELECT leyser.schedule();'
                ELSE 'SELECT leyser.schedule();' END
    FROM leyser.heartbeat_alerts() a WHERE a.alert = 'heartbeat silent'
    UNION ALL
    SELECT 'job.failing', 'job ' || r.job, format('It fails since %s: %s', leyser.told_time(r.failing_since), r.last_error),
           format('SELECT leyser.retry_job(%L); CALL leyser.tick(); -- once its cause is mended', r.job)
    FROM leyser.job_record r WHERE r.failing_since < clock_timestamp() - interval '1 day'
    UNION ALL
    SELECT 'job.prepared', 'prepared transaction ' || p.gid, format('It waits since %s.', leyser.told_time(p.prepared)), format('ROLLBACK PREPARED %L; -- or COMMIT PREPARED', p.gid)
    FROM pg_prepared_xacts p WHERE p.database = current_database() AND p.prepared < clock_timestamp() - interval '10 seconds'
$$;
REVOKE ALL ON FUNCTION leyser.job_findings() FROM PUBLIC;
COMMENT ON FUNCTION leyser.job_findings() IS 'internal: what family job finds about the heartbeat and transactions';
