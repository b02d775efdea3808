-- Judges of the clauses about what is kept, where, and how long.

CREATE FUNCTION leyser.judge_2_6(look leyser.clause_look) RETURNS SETOF leyser.clause_point
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH tenant AS MATERIALIZED (
        SELECT t.tenant_id, t.region, t.region <> ALL (p.regions) AS is_elsewhere
        FROM leyser.tenant_record t CROSS JOIN leyser.present_backup_policy() p WHERE t.state <> 'erased'
    )
    SELECT 'kept', leyser.tell(look.language, 'regions', array_to_string(p.regions, ', '),
               (SELECT count(*) FROM leyser.generation_record g WHERE g.deleted_at IS NULL AND g.region = ANY (p.regions))::text), NULL::timestamptz, NULL
    FROM leyser.present_backup_policy() p
    UNION ALL
    SELECT 'broken', leyser.tell(look.language, 'region of tenant', leyser.name_some(look, array_agg(format('%s (%s)', t.tenant_id, t.region) ORDER BY t.tenant_id))),
           NULL, '-- move them, or name their region: SELECT leyser.set_backup_policy(regions => ''{…}'');'
    FROM tenant t WHERE t.is_elsewhere HAVING count(*) > 0
    UNION ALL
    SELECT 'told', leyser.tell(look.language, 'region unknown', count(*)::text), NULL, NULL FROM tenant t WHERE t.region IS NULL HAVING count(*) > 0
    UNION ALL
    SELECT * FROM leyser.alert_points(look, '2.6')
    UNION ALL
    SELECT * FROM leyser.attestation_points(look, '2.6')
$$;
REVOKE ALL ON FUNCTION leyser.judge_2_6(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_2_6(leyser.clause_look) IS 'internal: regions';

-- A hold is lawful, and a delay of purges one's own choice: the promise is not kept all the same.
CREATE FUNCTION leyser.ended_contract_points(look leyser.clause_look) RETURNS SETOF leyser.clause_point
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH ended AS MATERIALIZED (
        SELECT t.tenant_id, h.legal_basis, h.review_on, greatest(t.ends_at, h.held_at) AS held_since, t.ends_at, leyser.purge_from(t.ends_at) > clock_timestamp() AS is_delayed,
               h.tenant_id IS NOT NULL AS is_held
        FROM leyser.tenant_record t LEFT JOIN leyser.hold_record h ON h.tenant_id = t.tenant_id
        WHERE t.state IN ('terminating', 'terminated', 'held') AND (t.state = 'held' OR t.ends_at <= clock_timestamp())
    )
    SELECT 'broken', leyser.tell(look.language, 'held', leyser.name_some(look,
               array_agg(leyser.tell(look.language, 'held one', e.tenant_id, left(e.legal_basis, 100), to_char(e.review_on, 'YYYY-MM-DD')) ORDER BY e.held_since))),
           min(e.held_since), array_to_string((array_agg(format('SELECT leyser.release_hold(%L);', e.tenant_id) ORDER BY e.held_since))[:5], chr(10))
    FROM ended e WHERE e.is_held HAVING count(*) > 0
    UNION ALL
    SELECT 'broken', leyser.tell(look.language, 'erasure late', leyser.name_some(look, array_agg(e.tenant_id ORDER BY e.ends_at))),
           min(e.ends_at), array_to_string(CASE WHEN bool_or(e.is_delayed) THEN ARRAY['ALTER SYSTEM SET leyser.purge_delay = 0; SELECT pg_reload_conf();'] END
               || (array_agg(format('CALL leyser.purge(%L);', e.tenant_id) ORDER BY e.ends_at))[:5], chr(10))
    FROM ended e WHERE NOT e.is_held AND e.ends_at < clock_timestamp() - interval '1 day' HAVING count(*) > 0
    UNION ALL
    SELECT 'told', leyser.tell(look.language, 'being erased', leyser.name_some(look, array_agg(e.tenant_id ORDER BY e.ends_at))), NULL, NULL
    FROM ended e WHERE NOT e.is_held AND e.ends_at >= clock_timestamp() - interval '1 day' HAVING count(*) > 0
    UNION ALL
    SELECT 'told', leyser.tell(look.language, 'retained', leyser.name_some(look, array_agg(format('%s (%s)', t.relation, t.reason) ORDER BY t.relation::text))), NULL, NULL
    FROM leyser.table_record t WHERE t.kind = 'retained' HAVING count(*) > 0
$$;
REVOKE ALL ON FUNCTION leyser.ended_contract_points(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.ended_contract_points(leyser.clause_look) IS
    'internal: tenants whose contract has ended and that are not erased, and what is kept by law';

CREATE FUNCTION leyser.judge_2_8(look leyser.clause_look) RETURNS SETOF leyser.clause_point
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'kept', leyser.tell(look.language, 'erased', (SELECT count(*) FROM leyser.tenant_record t WHERE t.state = 'erased')::text, count(*)::text,
               CASE WHEN count(*) > 0 THEN leyser.tell(look.language, 'erased until', leyser.told_day(max(h.due_at))) ELSE '' END), NULL::timestamptz, NULL
    FROM leyser.horizon_ends() h WHERE h.gone_at IS NULL
    UNION ALL
    SELECT * FROM leyser.ended_contract_points(look)
    UNION ALL
    SELECT * FROM leyser.finding_points(look, '2.8')
    UNION ALL
    SELECT * FROM leyser.alert_points(look, '2.8')
$$;
REVOKE ALL ON FUNCTION leyser.judge_2_8(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_2_8(leyser.clause_look) IS 'internal: erasure at the end of a contract';

CREATE FUNCTION leyser.judge_2_11(look leyser.clause_look) RETURNS SETOF leyser.clause_point
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH book AS (
        SELECT max(g.started_at) FILTER (WHERE g.completed_at IS NOT NULL) AS newest, max(g.verified_at) AS verified, count(*) AS generations
        FROM leyser.generation_record g WHERE g.system_identifier = leyser.this_system()
    )
    SELECT CASE WHEN b.generations = 0 THEN 'at risk' ELSE 'kept' END,
           CASE WHEN b.generations = 0 THEN leyser.tell(look.language, 'backup none yet')
                ELSE leyser.tell(look.language, 'backups',
                    (SELECT count(d.place) FROM leyser.policy_decision(clock_timestamp(), leyser.this_system()) d)::text, p.generations::text,
                    coalesce(leyser.told_time(b.newest), leyser.tell(look.language, 'none')), coalesce(leyser.told_time(b.verified), leyser.tell(look.language, 'none'))) END,
           NULL::timestamptz, CASE WHEN b.generations = 0 THEN 'SELECT leyser.take_backup(); -- or import the catalogue of the tool that takes them' END
    FROM book b CROSS JOIN leyser.present_backup_policy() p
    UNION ALL
    SELECT * FROM leyser.alert_points(look, '2.11')
$$;
REVOKE ALL ON FUNCTION leyser.judge_2_11(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_2_11(leyser.clause_look) IS 'internal: daily backups and their generations';

CREATE FUNCTION leyser.judge_2_12(look leyser.clause_look) RETURNS SETOF leyser.clause_point
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN t.latest_at IS NULL THEN 'at risk' ELSE 'kept' END,
           CASE WHEN t.latest_at IS NULL THEN leyser.tell(look.language, 'no heartbeat')
                ELSE leyser.tell(look.language, 'heartbeat clock', leyser.told_time(t.latest_at)) END, NULL::timestamptz,
           CASE WHEN t.latest_at IS NULL THEN 'SELECT leyser.schedule();' END
    FROM (VALUES (1)) one LEFT JOIN leyser.tick_record t ON true
    UNION ALL
    SELECT CASE WHEN c.is_synchronized IS NULL THEN 'outside' ELSE 'told' END,
           CASE WHEN c.is_synchronized IS NULL THEN leyser.tell(look.language, 'clock unknown')
                ELSE leyser.tell(look.language, 'clock', leyser.tell(look.language, c.state), c.log_time_zone) END, NULL, NULL
    FROM leyser.clock_status() c
    UNION ALL
    SELECT * FROM leyser.finding_points(look, '2.12')
    UNION ALL
    SELECT * FROM leyser.alert_points(look, '2.12')
$$;
REVOKE ALL ON FUNCTION leyser.judge_2_12(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_2_12(leyser.clause_look) IS 'internal: clocks and UTC';

-- ---- the event log ----

CREATE FUNCTION leyser.unguarded_events() RETURNS TABLE (relation text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('%s.%s', e.relation::regclass, w.name),
           format('SET leyser.guards = off; ALTER TABLE %s ENABLE ALWAYS TRIGGER %I; RESET leyser.guards;', e.relation::regclass, w.name)
    FROM (SELECT 'leyser.event_record'::regclass AS relation UNION ALL SELECT m.relation FROM leyser.event_months() m) e
    CROSS JOIN (VALUES ('refuse_change'), ('refuse_removal')) w (name)
    WHERE NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = e.relation AND t.tgname = w.name AND t.tgenabled = 'A'
                      AND t.tgfoid = 'leyser.refuse_event_change()'::regprocedure)
$$;
REVOKE ALL ON FUNCTION leyser.unguarded_events() FROM PUBLIC;
COMMENT ON FUNCTION leyser.unguarded_events() IS 'internal: tables of the event log whose triggers do not refuse changes';

CREATE FUNCTION leyser.note_verification() RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    seen_at timestamptz := clock_timestamp();
    found_problems bigint;
    first text;
    former timestamptz := (SELECT v.broken_since FROM leyser.verification_record v);
BEGIN
    -- no month goes meanwhile
    LOCK TABLE leyser.event_checkpoint IN ACCESS SHARE MODE;
    SELECT count(*), (array_agg(concat_ws(' ', 'event ' || j.event_id, j.problem) ORDER BY j.event_id, j.problem))[1]
        INTO found_problems, first
        FROM (SELECT e.event_id, e.problem FROM leyser.judge_events(NULL, NULL, NULL) e
              UNION ALL SELECT p.event_id, p.problem FROM leyser.judge_pending(NULL) p
              UNION ALL SELECT c.event_id, c.problem FROM leyser.judge_checkpoints(NULL) c
              UNION ALL SELECT r.event_id, r.problem FROM leyser.judge_retention() r) j;
    INSERT INTO leyser.verification_record AS v (verified_at, problems, first_problem, broken_since)
        VALUES (seen_at, found_problems, first, CASE WHEN found_problems > 0 THEN seen_at END)
        ON CONFLICT (singleton) DO UPDATE SET verified_at = excluded.verified_at, problems = excluded.problems, first_problem = excluded.first_problem,
            broken_since = CASE WHEN excluded.problems > 0 THEN coalesce(v.broken_since, excluded.broken_since) END;
    IF found_problems > 0 AND former IS NULL THEN
        PERFORM leyser.record_event('events.broken', NULL, NULL, jsonb_build_object('problems', found_problems, 'first', first));
    END IF;
    RETURN (SELECT format('problems of the event log: %s', found_problems) WHERE found_problems > 0);
END
$$;
REVOKE ALL ON FUNCTION leyser.note_verification() FROM PUBLIC;
COMMENT ON FUNCTION leyser.note_verification() IS 'internal: job verify events: verifies the whole event log, and notes what came of it; that it is broken now, and was not, is an event';

CREATE FUNCTION leyser.event_log_points(look leyser.clause_look) RETURNS SETOF leyser.clause_point
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'told', leyser.tell(look.language, 'retention', leyser.told_span(look.language, leyser.present_event_retention()),
        coalesce((SELECT leyser.told_day(e.at) FROM leyser.event_record e ORDER BY e.event_id LIMIT 1), leyser.tell(look.language, 'none'))), NULL::timestamptz, NULL
    UNION ALL
    SELECT CASE WHEN v.problems > 0 THEN 'broken' WHEN v.verified_at > clock_timestamp() - interval '2 days' THEN 'kept' ELSE 'at risk' END,
           CASE WHEN v.problems > 0 THEN leyser.tell(look.language, 'verified broken', v.problems::text, leyser.told_time(v.verified_at), v.first_problem)
                WHEN v.verified_at > clock_timestamp() - interval '2 days' THEN leyser.tell(look.language, 'verified', leyser.told_time(v.verified_at))
                ELSE leyser.tell(look.language, 'not verified') END,
           coalesce(v.broken_since, CASE WHEN v.verified_at <= clock_timestamp() - interval '2 days' THEN v.verified_at END),
           CASE WHEN v.problems > 0 THEN 'SELECT * FROM leyser.verify_events();' WHEN (v.verified_at > clock_timestamp() - interval '2 days') IS NOT TRUE THEN 'CALL leyser.tick();' END
    FROM (VALUES (1)) one LEFT JOIN leyser.verification_record v ON true
    UNION ALL
    SELECT 'broken', leyser.tell(look.language, 'log triggers', leyser.name_some(look, array_agg(u.relation ORDER BY u.relation))), NULL,
           string_agg(u.remedy, chr(10) ORDER BY u.relation)
    FROM leyser.unguarded_events() u HAVING count(*) > 0
    UNION ALL
    SELECT 'broken', leyser.tell(look.language, 'log dropped early', leyser.name_some(look, array_agg(DISTINCT leyser.told_day(c.at)))), min(c.at), NULL
    FROM leyser.judge_checkpoints(NULL) c HAVING count(*) > 0
$$;
REVOKE ALL ON FUNCTION leyser.event_log_points(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.event_log_points(leyser.clause_look) IS 'internal: retention and integrity of the event log';

CREATE FUNCTION leyser.judge_2_13(look leyser.clause_look) RETURNS SETOF leyser.clause_point
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT * FROM leyser.event_log_points(look)
    UNION ALL
    SELECT * FROM leyser.finding_points(look, '2.13')
    UNION ALL
    SELECT * FROM leyser.alert_points(look, '2.13')
$$;
REVOKE ALL ON FUNCTION leyser.judge_2_13(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_2_13(leyser.clause_look) IS 'internal: logs, their retention and their watch';
