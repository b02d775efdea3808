-- Which generations count, which stay and which go: one function of the books and a
-- moment, and what acts on it.
--
-- A generation counts that is complete or verified with all it needs, is a backup or
-- snapshot of the system asked about, and the newest such one that began on its day
-- of UTC.  The floor is the newest N of them.  What is younger than the oldest of
-- these stays, too; what is older goes, and what is older than max_age and slack.
-- But never the newest that counts, never the newest verified one, and nothing that
-- one that stays needs.  Neither does the policy touch another system's generations,
-- and running ones.

-- ---- chains ----

-- Of a standby it is the timeline that it follows.
CREATE FUNCTION leyser.own_timelines() RETURNS TABLE (timeline integer, until pg_lsn)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH present AS (SELECT c.timeline_id FROM pg_control_checkpoint() c)
    SELECT p.timeline_id, 'FFFFFFFF/FFFFFFFF'::pg_lsn FROM present p
    UNION ALL
    SELECT m.part[1]::integer, m.part[2]::pg_lsn
    FROM present p CROSS JOIN LATERAL regexp_split_to_table(
        pg_read_file(format('pg_wal/%s.history', lpad(upper(to_hex(p.timeline_id)), 8, '0')), 0, 1000000, true), chr(10)) line
    CROSS JOIN LATERAL regexp_match(line, '^[[:space:]]*([0-9]+)[[:space:]]+([0-9A-F]+/[0-9A-F]+)') m (part)
    WHERE p.timeline_id > 1 AND m.part IS NOT NULL
$$;
REVOKE ALL ON FUNCTION leyser.own_timelines() FROM PUBLIC;
COMMENT ON FUNCTION leyser.own_timelines() IS
    'internal: the timelines that this server''s data have come along, and where they left each';

-- From the roots down, so that what no root leads to is in no chain.
CREATE FUNCTION leyser.generation_chains()
    RETURNS TABLE (generation_id bigint, good boolean, system_identifier bigint, timeline integer, own boolean, start_lsn pg_lsn)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
    WITH RECURSIVE timelines AS MATERIALIZED (
        SELECT t.timeline, t.until, c.system_identifier FROM leyser.own_timelines() t CROSS JOIN pg_control_system() c),
    link AS MATERIALIZED (
        SELECT g.generation_id, g.parent, g.state IN ('complete', 'verified') AS good, g.system_identifier, g.timeline,
               coalesce(g.start_lsn < t.until, false) AS own, g.start_lsn
        FROM leyser.generation_record g
        LEFT JOIN timelines t ON t.timeline = g.timeline AND t.system_identifier = g.system_identifier
    ), chain AS (
        SELECT l.generation_id, l.good, l.system_identifier, l.timeline, l.own, l.start_lsn FROM link l WHERE l.parent IS NULL
        UNION ALL
        SELECT l.generation_id, c.good AND l.good, CASE WHEN c.system_identifier = l.system_identifier THEN l.system_identifier END,
               CASE WHEN c.timeline = l.timeline THEN l.timeline END, c.own AND l.own,
               CASE WHEN c.start_lsn IS NOT NULL AND l.start_lsn IS NOT NULL THEN least(c.start_lsn, l.start_lsn) END
        FROM chain c JOIN link l ON l.parent = c.generation_id
    )
    SELECT * FROM chain
$$;
REVOKE ALL ON FUNCTION leyser.generation_chains() FROM PUBLIC;
COMMENT ON FUNCTION leyser.generation_chains() IS
    'internal: of each generation with all that it needs: is all of it good, from one system, one timeline, this server''s past, and where does its write-ahead log begin at the earliest; NULL where that differs or is not known';

-- ---- the decision ----

CREATE FUNCTION leyser.policy_decision(at timestamptz, system_identifier bigint)
    RETURNS TABLE (generation_id bigint, day date, chain_good boolean, place bigint, kept boolean, reason text, beyond_ceiling boolean)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
    WITH RECURSIVE policy AS MATERIALIZED (
        SELECT p.generations, leyser.shift_in_utc(policy_decision.at, - (p.max_age + p.slack)) AS ceiling
        FROM leyser.present_backup_policy() p
    ), broken (generation_id) AS (
        -- states say so already; few rows, where all chains would be many
        SELECT c.generation_id FROM leyser.generation_record c JOIN leyser.generation_record p ON p.generation_id = c.parent
        WHERE c.state <> 'deleted' AND p.state NOT IN ('complete', 'verified')
        UNION
        SELECT c.generation_id FROM broken b JOIN leyser.generation_record c ON c.parent = b.generation_id
    ), alive AS MATERIALIZED (
        SELECT g.generation_id, g.parent, g.state, g.kind, g.started_at, (g.started_at AT TIME ZONE 'UTC')::date AS day, q.good,
               coalesce(g.system_identifier = policy_decision.system_identifier, false) AS own,
               coalesce(q.good AND g.system_identifier = policy_decision.system_identifier AND g.kind <> 'restore_copy', false) AS whole
        FROM leyser.generation_record g LEFT JOIN broken b ON b.generation_id = g.generation_id
        CROSS JOIN LATERAL (SELECT g.state IN ('complete', 'verified') AND b.generation_id IS NULL) q (good)
        WHERE g.state <> 'deleted'
    ), counted AS MATERIALIZED (
        SELECT d.*, row_number() OVER (ORDER BY d.started_at DESC) AS place
        FROM (SELECT DISTINCT ON (a.day) a.generation_id, a.started_at FROM alive a WHERE a.whole
              ORDER BY a.day, a.started_at DESC, a.generation_id DESC) d
    ), floor AS (
        SELECT c.started_at FROM counted c CROSS JOIN policy p WHERE c.place = p.generations
    ), verified AS (
        SELECT a.generation_id FROM alive a WHERE a.whole AND a.state = 'verified' ORDER BY a.started_at DESC, a.generation_id DESC LIMIT 1
    ), wish AS MATERIALIZED (
        SELECT a.*, c.place, a.started_at < p.ceiling AS beyond_ceiling, CASE
            WHEN a.state = 'expired' THEN NULL
            WHEN a.state = 'running' THEN 'running'
            WHEN NOT a.own THEN 'another system'
            WHEN c.place = 1 THEN 'newest that counts'
            WHEN a.generation_id = v.generation_id THEN 'newest verified'
            WHEN a.started_at < p.ceiling OR a.started_at < f.started_at THEN NULL
            WHEN c.place IS NOT NULL THEN 'counts'
            ELSE 'younger than the oldest that counts' END AS reason
        FROM alive a CROSS JOIN policy p LEFT JOIN counted c ON c.generation_id = a.generation_id
        LEFT JOIN floor f ON true LEFT JOIN verified v ON true
    ), needed (generation_id) AS (
        SELECT w.parent FROM wish w WHERE w.reason IS NOT NULL AND w.parent IS NOT NULL AND w.state IN ('running', 'complete', 'verified')
        UNION
        SELECT g.parent FROM needed n JOIN leyser.generation_record g ON g.generation_id = n.generation_id WHERE g.parent IS NOT NULL
    ), going AS (
        SELECT w.generation_id, w.state FROM wish w LEFT JOIN needed n ON n.generation_id = w.generation_id
        WHERE w.reason IS NULL AND (n.generation_id IS NULL OR w.state = 'expired')
        UNION
        -- through deleted ones, too: what needed them needs what they needed
        SELECT c.generation_id, c.state FROM going g JOIN leyser.generation_record c ON c.parent = g.generation_id
        WHERE c.system_identifier = policy_decision.system_identifier AND c.state IN ('failed', 'orphan', 'deleted')
    )
    SELECT w.generation_id, w.day, w.good, w.place, g.generation_id IS NULL,
           CASE WHEN w.state = 'expired' THEN 'expired'
                WHEN g.generation_id IS NULL THEN coalesce(w.reason, 'one that stays needs it')
                WHEN w.beyond_ceiling THEN 'beyond the ceiling'
                WHEN w.reason IS NULL THEN 'beyond the floor'
                ELSE 'goes with its parent' END,
           w.beyond_ceiling
    FROM wish w LEFT JOIN going g ON g.generation_id = w.generation_id
$$;
REVOKE ALL ON FUNCTION leyser.policy_decision(timestamptz, bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.policy_decision(timestamptz, bigint) IS
    'internal: what the policy says, at a moment and for a system, of each generation that is not deleted: its day of UTC, its place among those that count (NULL: it does not), whether and why it stays, and whether the ceiling would take it';

-- ---- expiry ----

-- What was imported has another clock's times, or those that somebody made up.  What
-- was known to be wrong when somebody accepted the clock counts again once that time
-- has come.
CREATE FUNCTION leyser.newest_recorded() RETURNS timestamptz
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH wrong AS MATERIALIZED (
        SELECT t.accepted_at, t.disbelieved_until FROM leyser.tick_record t WHERE t.disbelieved_until > clock_timestamp()
    ), recorded (at) AS (
        SELECT unnest(ARRAY[g.recorded_at, g.seen_at, g.verified_at, g.expired_at, g.deleted_at]
                      || CASE WHEN g.tool IN ('manual', 'pg_basebackup') THEN ARRAY[g.started_at, g.completed_at, g.failed_at] END)
        FROM leyser.generation_record g
        UNION ALL
        SELECT a.seen_at FROM leyser.wal_archive_record a
    )
    SELECT max(r.at) FROM recorded r LEFT JOIN wrong w ON r.at > w.accepted_at AND r.at <= w.disbelieved_until
    WHERE w.accepted_at IS NULL
$$;
REVOKE ALL ON FUNCTION leyser.newest_recorded() FROM PUBLIC;
COMMENT ON FUNCTION leyser.newest_recorded() IS
    'internal: the newest time that this server''s clock gave to the books; one that stands before it was moved back';

CREATE FUNCTION leyser.expire_backups_at(at timestamptz) RETURNS SETOF bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    decided record;
    generation leyser.generation_record;
BEGIN
    PERFORM leyser.lock_books();
    PERFORM leyser.note_system();
    IF leyser.restore_is_held() OR leyser.newest_recorded() > expire_backups_at.at THEN
        RETURN;
    END IF;
    FOR decided IN SELECT d.generation_id, d.reason FROM leyser.policy_decision(expire_backups_at.at, leyser.this_system()) d
            WHERE NOT d.kept AND d.reason <> 'expired' ORDER BY d.generation_id LOOP
        generation := leyser.move_generation(decided.generation_id, 'expired');
        PERFORM leyser.record_backup_event('backup.expired', generation, jsonb_build_object('reason', decided.reason));
        RETURN NEXT decided.generation_id;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.expire_backups_at(timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.expire_backups_at(timestamptz) IS
    'internal: expires what the policy no longer keeps at a moment; nothing where the books know a later one';

CREATE FUNCTION leyser.expire_backups() RETURNS SETOF bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leyser.refuse_while_held();
    RETURN QUERY SELECT e FROM leyser.expire_backups_at(clock_timestamp()) e ORDER BY e;
END
$$;
REVOKE ALL ON FUNCTION leyser.expire_backups() FROM PUBLIC;
COMMENT ON FUNCTION leyser.expire_backups() IS
    'backup: expires the generations that the policy no longer keeps, and returns their ids; they are to be deleted where they lie, which confirm_backup_deleted() or an import tells the books; where the clock was moved back nothing expires; LY008 after a restore that is not released, 55P03, 25000 as begin_backup()';

-- ---- the books as people see them ----

-- A generation goes when the last one that needs it does.
CREATE FUNCTION leyser.generation_deadlines() RETURNS TABLE (generation_id bigint, deadline timestamptz)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
    WITH RECURSIVE policy AS MATERIALIZED (SELECT p.max_age + p.slack AS span FROM leyser.present_backup_policy() p),
    need (generation_id, started_at) AS (
        SELECT g.parent, g.started_at FROM leyser.generation_record g
        WHERE g.parent IS NOT NULL AND g.state IN ('running', 'complete', 'verified')
        UNION
        SELECT g.parent, n.started_at FROM need n JOIN leyser.generation_record g ON g.generation_id = n.generation_id
        WHERE g.parent IS NOT NULL AND g.state <> 'deleted'
    )
    SELECT g.generation_id, (greatest(g.started_at, n.started_at) AT TIME ZONE 'UTC' + p.span) AT TIME ZONE 'UTC'
    FROM leyser.generation_record g CROSS JOIN policy p
    LEFT JOIN (SELECT n.generation_id, max(n.started_at) AS started_at FROM need n GROUP BY n.generation_id) n
        ON n.generation_id = g.generation_id
$$;
REVOKE ALL ON FUNCTION leyser.generation_deadlines() FROM PUBLIC;
COMMENT ON FUNCTION leyser.generation_deadlines() IS
    'internal: when each generation is due to be gone, by its own age and that of what needs it';

CREATE FUNCTION leyser.list_generations()
    RETURNS TABLE (generation_id bigint, label text, kind text, parent bigint, state text, countable boolean, kept boolean,
                   reason text, day date, chain text, due_at timestamptz, tool text, source text, location text, region text,
                   system_identifier bigint, timeline integer, start_lsn pg_lsn, stop_lsn pg_lsn, started_at timestamptz,
                   completed_at timestamptz, verified_at timestamptz, failed_at timestamptz, expired_at timestamptz,
                   deleted_at timestamptz, seen_at timestamptz, bytes bigint, checksum text, error text,
                   recorded_by text, recorded_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
    SELECT g.generation_id, g.label, g.kind, g.parent, g.state, d.place IS NOT NULL, coalesce(d.kept, false),
           coalesce(d.reason, 'gone'), (g.started_at AT TIME ZONE 'UTC')::date,
           CASE WHEN g.parent IS NULL THEN 'alone' WHEN d.chain_good THEN 'good' WHEN d.generation_id IS NULL THEN 'gone'
                ELSE coalesce(leyser.parent_problem(g.parent), 'not good') END,
           t.deadline, g.tool, g.source, g.location, g.region,
           g.system_identifier, g.timeline, g.start_lsn, g.stop_lsn, g.started_at,
           g.completed_at, g.verified_at, g.failed_at, g.expired_at, g.deleted_at, g.seen_at, g.bytes, g.checksum, g.error,
           g.recorded_by, g.recorded_at
    FROM leyser.generation_record g
    LEFT JOIN leyser.policy_decision(clock_timestamp(), leyser.this_system()) d ON d.generation_id = g.generation_id
    LEFT JOIN leyser.generation_deadlines() t ON t.generation_id = g.generation_id
$$;
REVOKE ALL ON FUNCTION leyser.list_generations() FROM PUBLIC;
COMMENT ON FUNCTION leyser.list_generations() IS 'internal: the rows of view backup_generation';

CREATE VIEW leyser.backup_generation AS SELECT * FROM leyser.list_generations();
COMMENT ON VIEW leyser.backup_generation IS
    'backup generations, also those that are gone: state, whether each counts and stays and why, when it is due to be gone, what it is and where (backup, operator, auditor)';
