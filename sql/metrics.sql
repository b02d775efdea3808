-- Figures for a monitor, as Prometheus names them: base units, and labels of which there
-- are only so many values.  None tells of a single tenant.
--
-- A group of figures is a function; one that fails says so, and takes no other along.
-- Sets of millions are told by the planner's estimates.

CREATE FUNCTION leyser.metric_kinds() RETURNS TABLE (name text, type text, help text)
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    VALUES
    ('leyser_metrics_failed', 'gauge', 'Whether a group of these figures could not be read.'),
    ('leyser_info', 'gauge', 'Versions of leyser and of the server; always 1.'),
    ('leyser_tenants', 'gauge', 'Tenants by state.'),
    ('leyser_accounts_estimated', 'gauge', 'Accounts, as the planner estimates them.'),
    ('leyser_governed_tables', 'gauge', 'Tables by kind and enforcement.'),
    ('leyser_usage_roles', 'gauge', 'Roles by the usage that they were granted.'),
    ('leyser_windows_open', 'gauge', 'Windows into tenants'' rows that are open: support, export, disclosure.'),
    ('leyser_logins_delayed', 'gauge', 'Accounts and addresses whose next login is delayed after failures.'),
    ('leyser_events_total', 'counter', 'Events that were given a number.'),
    ('leyser_events_pending', 'gauge', 'Events that no seal holds yet.'),
    ('leyser_events_pending_age_seconds', 'gauge', 'Age of the oldest event that no seal holds yet.'),
    ('leyser_events_retention_seconds', 'gauge', 'How long events are kept, in days of 86400 seconds.'),
    ('leyser_events_verified_timestamp_seconds', 'gauge', 'When the whole event log was verified last.'),
    ('leyser_events_problems', 'gauge', 'Problems of the event log that its last verification found.'),
    ('leyser_purges', 'gauge', 'Purges by state.'),
    ('leyser_erasure_delay_seconds', 'gauge', 'Since when the oldest contract that has ended waits for its erasure, holds apart.'),
    ('leyser_horizon_tenants', 'gauge', 'Erased tenants that backups may still hold.'),
    ('leyser_horizon_due_timestamp_seconds', 'gauge', 'When the last of them is due to be gone from all backups.'),
    ('leyser_restore_held', 'gauge', 'Whether purges and expiry are held because of a restore.'),
    ('leyser_backup_generations', 'gauge', 'Backup generations by state, those that are gone apart.'),
    ('leyser_backup_countable', 'gauge', 'Generations that count for the policy.'),
    ('leyser_backup_wanted', 'gauge', 'Generations that the policy wants.'),
    ('leyser_backup_missed', 'gauge', 'Days without a good backup, as far back as the policy looks.'),
    ('leyser_backup_newest_timestamp_seconds', 'gauge', 'When the newest complete backup began.'),
    ('leyser_backup_verified_timestamp_seconds', 'gauge', 'When a backup was verified last.'),
    ('leyser_backup_newest_size_bytes', 'gauge', 'Size of the newest complete backup.'),
    ('leyser_heartbeat_timestamp_seconds', 'gauge', 'When leyser.tick() was called last.'),
    ('leyser_clock_moved_back', 'gauge', 'Whether the clock stands before a time that a tick has seen.'),
    ('leyser_job_failures', 'gauge', 'Failures of a job since it last succeeded.'),
    ('leyser_job_success_timestamp_seconds', 'gauge', 'When a job last succeeded.'),
    ('leyser_alerts', 'gauge', 'Rows of view backup_alert, by alert.'),
    ('leyser_findings', 'gauge', 'Findings of the nightly security check that are not waived.'),
    ('leyser_findings_waived', 'gauge', 'Findings of the nightly security check that are waived.'),
    ('leyser_clause_status', 'gauge', 'Status of each clause of the white paper, as the last tick saw it: 1 for the one that it has.'),
    ('leyser_clause_since_timestamp_seconds', 'gauge', 'Since when a clause has its status.'),
    ('leyser_attestation_end_timestamp_seconds', 'gauge', 'When the last attestation of a clause ends, of those that hold.'),
    ('leyser_mails', 'gauge', 'Mails that wait or were given up.'),
    ('leyser_mail_delay_seconds', 'gauge', 'Age of the oldest mail that waits.'),
    ('leyser_notices_open', 'gauge', 'Notices that have not ended, by kind.')
$$;
REVOKE ALL ON FUNCTION leyser.metric_kinds() FROM PUBLIC;
COMMENT ON FUNCTION leyser.metric_kinds() IS 'internal: names, types and meanings of the figures of metrics()';

CREATE FUNCTION leyser.measure_service() RETURNS TABLE (name text, labels jsonb, value double precision)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'leyser_info', jsonb_build_object('version', e.extversion, 'server_version', current_setting('server_version_num')), 1::double precision
    FROM pg_extension e WHERE e.extname = 'leyser'
    UNION ALL
    SELECT 'leyser_tenants', jsonb_build_object('state', s.state), count(t.tenant_id)
    FROM unnest('{active,suspended,terminating,terminated,held,erased}'::text[]) s (state) LEFT JOIN leyser.tenant_record t ON t.state = s.state GROUP BY s.state
    UNION ALL
    SELECT 'leyser_accounts_estimated', '{}', leyser.estimated_rows('leyser.account_record')::double precision
    UNION ALL
    SELECT 'leyser_governed_tables', jsonb_build_object('kind', t.kind, 'enforcement', t.enforcement), count(*) FROM leyser.table_record t GROUP BY t.kind, t.enforcement
    UNION ALL
    SELECT 'leyser_usage_roles', jsonb_build_object('usage', r.usage), count(DISTINCT u.role)
    FROM (SELECT DISTINCT g.usage FROM leyser.usage_rights() g) r LEFT JOIN leyser.usage_record u ON u.usage = r.usage GROUP BY r.usage
    UNION ALL
    SELECT 'leyser_windows_open', jsonb_build_object('kind', w.kind), w.windows FROM (
        SELECT 'support', count(*) FROM leyser.support_record s WHERE s.revoked_at IS NULL AND s.valid_until > clock_timestamp()
        UNION ALL SELECT 'export', count(*) FROM leyser.export_record e WHERE e.ended_at IS NULL AND e.ends_at > clock_timestamp()
        UNION ALL SELECT 'disclosure', count(*) FROM leyser.disclosure_record d WHERE d.closed_at IS NULL AND d.ends_at > clock_timestamp()) w (kind, windows)
    UNION ALL
    SELECT 'leyser_logins_delayed', '{}', count(*) FROM leyser.login_delay d WHERE d.locked_until > clock_timestamp()
$$;
REVOKE ALL ON FUNCTION leyser.measure_service() FROM PUBLIC;
COMMENT ON FUNCTION leyser.measure_service() IS 'internal: figures of tenants, tables, usages and windows';

CREATE FUNCTION leyser.measure_events() RETURNS TABLE (name text, labels jsonb, value double precision)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'leyser_events_total', '{}'::jsonb, CASE WHEN s.is_called THEN s.last_value ELSE 0 END::double precision FROM leyser.event_record_event_id_seq s
    UNION ALL
    SELECT f.name, '{}', f.value
    FROM (SELECT count(*) AS events, coalesce(greatest(0, extract(epoch FROM clock_timestamp() - min(p.at))), 0) AS age FROM leyser.event_pending p) p
    CROSS JOIN LATERAL (VALUES ('leyser_events_pending', p.events), ('leyser_events_pending_age_seconds', p.age)) f (name, value)
    UNION ALL
    SELECT 'leyser_events_retention_seconds', '{}', extract(day FROM n.at - (n.at - leyser.present_event_retention())) * 86400
    FROM clock_timestamp() n (at)
    UNION ALL
    SELECT f.name, '{}', f.value FROM leyser.verification_record v
    CROSS JOIN LATERAL (VALUES ('leyser_events_verified_timestamp_seconds', extract(epoch FROM v.verified_at)), ('leyser_events_problems', v.problems)) f (name, value)
$$;
REVOKE ALL ON FUNCTION leyser.measure_events() FROM PUBLIC;
COMMENT ON FUNCTION leyser.measure_events() IS 'internal: figures of the event log';

CREATE FUNCTION leyser.measure_erasure() RETURNS TABLE (name text, labels jsonb, value double precision)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
    SELECT 'leyser_purges', jsonb_build_object('state', s.state), count(p.purge_id)::double precision
    FROM unnest('{due,deleting,waiting,scrubbing,erased,held}'::text[]) s (state) LEFT JOIN leyser.purge_record p ON p.state = s.state GROUP BY s.state
    UNION ALL
    SELECT 'leyser_erasure_delay_seconds', '{}', coalesce(extract(epoch FROM clock_timestamp() - min(t.ends_at)), 0)
    FROM leyser.tenant_record t WHERE t.state IN ('terminating', 'terminated') AND t.ends_at <= clock_timestamp()
      AND NOT EXISTS (SELECT FROM leyser.hold_record h WHERE h.tenant_id = t.tenant_id)
    UNION ALL
    SELECT f.name, '{}', f.value
    FROM (SELECT count(*) AS tenants, extract(epoch FROM max(h.due_at)) AS due FROM leyser.horizon_ends() h WHERE h.gone_at IS NULL) h
    CROSS JOIN LATERAL (VALUES ('leyser_horizon_tenants', h.tenants), ('leyser_horizon_due_timestamp_seconds', h.due)) f (name, value) WHERE f.value IS NOT NULL
    UNION ALL
    SELECT 'leyser_restore_held', '{}', leyser.restore_is_held()::integer
$$;
REVOKE ALL ON FUNCTION leyser.measure_erasure() FROM PUBLIC;
COMMENT ON FUNCTION leyser.measure_erasure() IS 'internal: figures of erasures and their horizon';

CREATE FUNCTION leyser.measure_backups() RETURNS TABLE (name text, labels jsonb, value double precision)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
    SELECT 'leyser_backup_generations', jsonb_build_object('state', s.state), count(g.generation_id)::double precision
    FROM unnest('{running,complete,verified,failed,orphan,expired}'::text[]) s (state)
    LEFT JOIN leyser.generation_record g ON g.state = s.state AND g.deleted_at IS NULL GROUP BY s.state
    UNION ALL
    SELECT 'leyser_backup_countable', '{}', count(d.place) FROM leyser.policy_decision(clock_timestamp(), leyser.this_system()) d
    UNION ALL
    SELECT 'leyser_backup_wanted', '{}', (leyser.present_backup_policy()).generations
    UNION ALL
    SELECT 'leyser_backup_missed', '{}', count(*) FROM leyser.missed_days(clock_timestamp())
    UNION ALL
    (SELECT f.name, '{}', f.value FROM leyser.generation_record g
     CROSS JOIN LATERAL (VALUES ('leyser_backup_newest_timestamp_seconds', extract(epoch FROM g.started_at)), ('leyser_backup_newest_size_bytes', g.bytes)) f (name, value)
     WHERE f.value IS NOT NULL AND g.generation_id = (SELECT n.generation_id FROM leyser.generation_record n
         WHERE n.completed_at IS NOT NULL AND n.kind <> 'restore_copy' ORDER BY n.started_at DESC LIMIT 1))
    UNION ALL
    SELECT 'leyser_backup_verified_timestamp_seconds', '{}', extract(epoch FROM max(g.verified_at)) FROM leyser.generation_record g HAVING max(g.verified_at) IS NOT NULL
$$;
REVOKE ALL ON FUNCTION leyser.measure_backups() FROM PUBLIC;
COMMENT ON FUNCTION leyser.measure_backups() IS 'internal: figures of backups';

CREATE FUNCTION leyser.measure_schedule() RETURNS TABLE (name text, labels jsonb, value double precision)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    WITH alert AS MATERIALIZED (SELECT a.alert FROM leyser.list_alerts(details => false) a)
    SELECT 'leyser_heartbeat_timestamp_seconds', '{}'::jsonb, extract(epoch FROM t.last_tick_at)::double precision FROM leyser.tick_record t
    UNION ALL
    SELECT 'leyser_clock_moved_back', '{}', leyser.clock_is_back()::integer
    UNION ALL
    SELECT f.name, jsonb_build_object('job', r.job), f.value FROM leyser.job_record r
    CROSS JOIN LATERAL (VALUES ('leyser_job_failures', r.failures), ('leyser_job_success_timestamp_seconds', extract(epoch FROM r.last_success))) f (name, value)
    WHERE f.value IS NOT NULL
    UNION ALL
    SELECT 'leyser_alerts', jsonb_build_object('alert', k.alert), count(a.alert)
    FROM (SELECT c.alert FROM leyser.clause_alerts() c UNION SELECT l.alert FROM alert l) k
    LEFT JOIN alert a ON a.alert = k.alert GROUP BY k.alert
$$;
REVOKE ALL ON FUNCTION leyser.measure_schedule() FROM PUBLIC;
COMMENT ON FUNCTION leyser.measure_schedule() IS 'internal: figures of the schedule, and alerts';

CREATE FUNCTION leyser.measure_checks() RETURNS TABLE (name text, labels jsonb, value double precision)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    WITH finding AS MATERIALIZED (
        SELECT r.severity, r.fails, EXISTS (SELECT FROM leyser.waiver_record w
            WHERE w.check_id = f.check_id AND w.object = f.object AND w.valid_until > clock_timestamp()) AS is_waived
        FROM leyser.finding_record f JOIN leyser.list_rules() r ON r.check_id = f.check_id WHERE f.gone_at IS NULL
    )
    SELECT 'leyser_findings', jsonb_build_object('severity', k.severity, 'fails', k.fails), count(f.severity)::double precision
    FROM (SELECT DISTINCT r.severity, r.fails FROM leyser.list_rules() r) k
    LEFT JOIN finding f ON f.severity = k.severity AND f.fails = k.fails AND NOT f.is_waived GROUP BY k.severity, k.fails
    UNION ALL
    SELECT 'leyser_findings_waived', '{}', count(*) FROM finding f WHERE f.is_waived
    UNION ALL
    SELECT 'leyser_clause_status', jsonb_build_object('clause', r.clause, 'status', s.status), (r.status = s.status)::integer
    FROM leyser.clause_record r CROSS JOIN unnest('{kept,at risk,broken,attested,declared,outside the database}'::text[]) s (status)
    UNION ALL
    SELECT 'leyser_clause_since_timestamp_seconds', jsonb_build_object('clause', r.clause), extract(epoch FROM r.since) FROM leyser.clause_record r
    UNION ALL
    SELECT 'leyser_attestation_end_timestamp_seconds', jsonb_build_object('clause', a.clause), extract(epoch FROM max(a.valid_until))
    FROM leyser.attestation_record a WHERE a.withdrawn_at IS NULL AND a.valid_until > clock_timestamp() GROUP BY a.clause
$$;
REVOKE ALL ON FUNCTION leyser.measure_checks() FROM PUBLIC;
COMMENT ON FUNCTION leyser.measure_checks() IS 'internal: figures of the security check and the white paper';

CREATE FUNCTION leyser.measure_mail() RETURNS TABLE (name text, labels jsonb, value double precision)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'leyser_mails', jsonb_build_object('state', 'waiting'), count(*)::double precision FROM leyser.mail_record m WHERE m.state = 'waiting'
    UNION ALL
    SELECT 'leyser_mails', jsonb_build_object('state', 'dead'), count(*) FROM leyser.mail_record m WHERE m.state = 'dead'
    UNION ALL
    SELECT 'leyser_mail_delay_seconds', '{}', coalesce(greatest(0, extract(epoch FROM clock_timestamp() - min(m.queued_at))), 0)
    FROM leyser.mail_record m WHERE m.state = 'waiting'
    UNION ALL
    SELECT 'leyser_notices_open', jsonb_build_object('kind', k.kind), count(n.notice_id)
    FROM unnest('{upgrade,maintenance,incident}'::text[]) k (kind) LEFT JOIN leyser.notice_record n ON n.kind = k.kind AND n.ended_at IS NULL GROUP BY k.kind
$$;
REVOKE ALL ON FUNCTION leyser.measure_mail() FROM PUBLIC;
COMMENT ON FUNCTION leyser.measure_mail() IS 'internal: figures of mail and notices';

CREATE FUNCTION leyser.measure_groups() RETURNS TABLE (name text, labels jsonb, value double precision)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    measured text;
    failed boolean;
BEGIN
    FOREACH measured IN ARRAY '{service,events,erasure,backups,schedule,checks,mail}'::text[] LOOP
        failed := false;
        BEGIN
            RETURN QUERY EXECUTE format('SELECT m.name, m.labels, m.value FROM leyser.%I() m', 'measure_' || measured);
        EXCEPTION WHEN OTHERS THEN
            RAISE LOG USING MESSAGE = format('leyser could not measure its %s: %s (%s)', measured, SQLERRM, SQLSTATE);
            failed := true;
        END;
        RETURN QUERY SELECT 'leyser_metrics_failed', jsonb_build_object('group', measured), failed::integer::double precision;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.measure_groups() FROM PUBLIC;
COMMENT ON FUNCTION leyser.measure_groups() IS 'internal: the figures of all groups, and which groups failed';

CREATE FUNCTION leyser.metrics()
    RETURNS TABLE (name text, type text, help text, labels jsonb, value double precision)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT k.name, k.type, k.help, m.labels, m.value
    FROM leyser.measure_groups() m JOIN leyser.metric_kinds() k ON k.name = m.name
    ORDER BY k.name, m.labels::text
$$;
REVOKE ALL ON FUNCTION leyser.metrics() FROM PUBLIC;
COMMENT ON FUNCTION leyser.metrics() IS
    'monitor, operator, auditor: figures for a monitor, under the names that Prometheus wants: each with its type (gauge, counter), meaning, labels (a JSON object of texts, of which there are only so many; no tenant, account or role) and value; a group that fails is told by leyser_metrics_failed';
