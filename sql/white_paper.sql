-- The white paper: each clause, whether it is kept right now, by whom, and the evidence.
--
-- What many judges need is looked at once; each judge then runs by itself, and one that
-- fails takes no other along.

-- A family of rules that fails leaves a finding without severity.
CREATE FUNCTION leyser.look_at_findings() RETURNS SETOF leyser.clause_finding
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    one text;
BEGIN
    FOR one IN SELECT DISTINCT r.family FROM leyser.list_rules() r LOOP
        BEGIN
            RETURN QUERY
                SELECT f.check_id, r.severity, r.fails, f.object, f.finding, f.remedy, s.first_seen, w.valid_until
                FROM leyser.list_findings(one) f
                JOIN leyser.list_rules() r ON r.check_id = f.check_id
                LEFT JOIN leyser.finding_record s ON s.check_id = f.check_id AND s.object = f.object AND s.gone_at IS NULL
                LEFT JOIN leyser.waiver_record w ON w.check_id = f.check_id AND w.object = f.object AND w.valid_until > clock_timestamp();
        EXCEPTION WHEN OTHERS THEN
            RETURN NEXT ROW(one, NULL, NULL, NULL, SQLSTATE, NULL, NULL, NULL)::leyser.clause_finding;
        END;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.look_at_findings() FROM PUBLIC;
COMMENT ON FUNCTION leyser.look_at_findings() IS 'internal: what the security check finds now, waived or not; a family that fails: its name and SQLSTATE';

CREATE FUNCTION leyser.look_at_alerts() RETURNS SETOF leyser.clause_alert
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
        SELECT a.alert, array_agg(DISTINCT a.subject), min(a.since), (array_agg(DISTINCT leyser.paste_remedy(a.remedy)))[:5]
        FROM leyser.list_alerts(details => false) a GROUP BY a.alert;
EXCEPTION WHEN OTHERS THEN
    RETURN NEXT ROW(NULL, ARRAY[SQLSTATE], NULL, NULL)::leyser.clause_alert;
END
$$;
REVOKE ALL ON FUNCTION leyser.look_at_alerts() FROM PUBLIC;
COMMENT ON FUNCTION leyser.look_at_alerts() IS 'internal: the alerts of now; where they fail, the SQLSTATE';

CREATE FUNCTION leyser.judge_clause(look leyser.clause_look, clause text) RETURNS leyser.clause_point[]
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    points leyser.clause_point[];
BEGIN
    EXECUTE format('SELECT array_agg(j::leyser.clause_point) FROM leyser.%I($1) j', 'judge_' || replace(clause, '.', '_')) INTO points USING look;
    RETURN points;
EXCEPTION WHEN OTHERS THEN
    RETURN ARRAY[ROW('broken', leyser.tell(look.language, 'not examined', SQLSTATE), NULL, NULL)::leyser.clause_point];
END
$$;
REVOKE ALL ON FUNCTION leyser.judge_clause(leyser.clause_look, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_clause(leyser.clause_look, text) IS 'internal: what a clause''s judge says, or that it failed';

-- The worst thing decides.  A clause of which the database sees a part is kept by
-- nobody's word: it is attested until then, or else declared.
CREATE FUNCTION leyser.clause_status(clause text, points leyser.clause_point[]) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN bool_or(p.state = 'broken') THEN 'broken'
                WHEN bool_or(p.state = 'at risk') THEN 'at risk'
                WHEN bool_or(p.state = 'declared') THEN 'declared'
                WHEN bool_or(p.state = 'outside') THEN CASE WHEN bool_or(p.state = 'kept') THEN 'declared' ELSE 'outside the database' END
                WHEN bool_or(p.state = 'attested') THEN
                    'attested until ' || leyser.told_day((SELECT max(a.valid_until) FROM leyser.valid_attestations(clause_status.clause) a))
                WHEN bool_or(p.state = 'kept') THEN 'kept'
                ELSE 'declared' END
    FROM unnest(points) p
$$;
REVOKE ALL ON FUNCTION leyser.clause_status(text, leyser.clause_point[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.clause_status(text, leyser.clause_point[]) IS 'internal: the status that follows from what a judge said';

CREATE FUNCTION leyser.look_around(language text, names boolean) RETURNS leyser.clause_look
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
BEGIN
    IF (look_around.language IN ('en', 'ja')) IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'unknown language',
            DETAIL = 'The white paper is written in English (en) and Japanese (ja).',
            HINT = 'Give ''en'' or ''ja''.';
    END IF;
    RETURN ROW(look_around.language, look_around.names,
               ARRAY(SELECT f::leyser.clause_finding FROM leyser.look_at_findings() f),
               ARRAY(SELECT a::leyser.clause_alert FROM leyser.look_at_alerts() a))::leyser.clause_look;
END
$$;
REVOKE ALL ON FUNCTION leyser.look_around(text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.look_around(text, boolean) IS
    'internal: what all judges are given; names: of tenants, roles and objects are told, or else only counted; 22023 for an unknown language';

-- What is against it comes first.
CREATE FUNCTION leyser.examine_clauses(look leyser.clause_look)
    RETURNS TABLE (number integer, clause text, promise text, responsible text, status text, evidence text, cause_since timestamptz, remedy text, iso_27017 text)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        SELECT c.number, c.clause, CASE look.language WHEN 'ja' THEN c.promise_ja ELSE c.promise_en END,
               (SELECT string_agg(leyser.tell(look.language, w.word), CASE look.language WHEN 'ja' THEN '、' ELSE ', ' END ORDER BY w.place)
                FROM unnest(c.responsible) WITH ORDINALITY w (word, place)),
               s.status, e.evidence, e.since, e.remedy, c.iso_27017
        FROM leyser.white_paper_clauses() c
        CROSS JOIN LATERAL leyser.judge_clause(look, c.clause) j (points)
        CROSS JOIN LATERAL leyser.clause_status(c.clause, j.points) s (status)
        CROSS JOIN LATERAL (
            SELECT string_agg(p.evidence, CASE look.language WHEN 'ja' THEN '' ELSE ' ' END ORDER BY o.place, p.evidence) AS evidence,
                   min(p.since) FILTER (WHERE p.state = split_part(s.status, ' until', 1)) AS since,
                   string_agg(p.remedy, chr(10) ORDER BY o.place, p.remedy) AS remedy
            FROM unnest(j.points) p
            CROSS JOIN LATERAL array_position('{broken,at risk,kept,attested,outside,declared,told}', p.state) o (place)) e
        ORDER BY c.number;
END
$$;
REVOKE ALL ON FUNCTION leyser.examine_clauses(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.examine_clauses(leyser.clause_look) IS
    'internal: the clauses as they are now; cause_since: since when what makes the status has been so, where that is known';

CREATE FUNCTION leyser.told_clauses(look leyser.clause_look) RETURNS SETOF leyser.told_clause
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT e.clause, e.promise, e.responsible, e.status, e.evidence,
           -- of a cause that is older than it was noticed, the cause
           CASE WHEN r.clause IS NULL THEN coalesce(e.cause_since, clock_timestamp()) ELSE least(e.cause_since, r.since) END,
           e.remedy, e.iso_27017
    FROM leyser.examine_clauses(look) e
    LEFT JOIN leyser.clause_record r ON r.clause = e.clause AND r.status = split_part(e.status, ' until', 1)
    ORDER BY e.number
$$;
REVOKE ALL ON FUNCTION leyser.told_clauses(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.told_clauses(leyser.clause_look) IS 'internal: the rows of white_paper()';

CREATE FUNCTION leyser.white_paper(language text DEFAULT 'en')
    RETURNS TABLE (clause text, promise text, responsible text, status text, evidence text, since timestamptz, remedy text, iso_27017 text)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT * FROM leyser.told_clauses(leyser.look_around(white_paper.language, true)) $$;
REVOKE ALL ON FUNCTION leyser.white_paper(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.white_paper(text) IS
    'operator, auditor: the clauses of the service''s security white paper, in English (en) or Japanese (ja), as they are now: what is promised, who is responsible, the status (kept, at risk, broken, attested until a day, declared, outside the database), what was seen, since when, what to do, and the matching controls of ISO/IEC 27017:2015; what a database cannot know is never kept; a clause that cannot be examined is broken, with the SQLSTATE; 22023 for another language; no certificate';

-- ---- since when ----

CREATE FUNCTION leyser.note_clauses() RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    seen_at timestamptz := clock_timestamp();
    one record;
    former text;
    changed integer := 0;
BEGIN
    PERFORM leyser.note_versions();
    PERFORM leyser.count_role_usage();
    FOR one IN SELECT e.clause, split_part(e.status, ' until', 1) AS status, e.evidence, least(e.cause_since, seen_at) AS cause_since
               FROM leyser.examine_clauses(leyser.look_around('en', true)) e LOOP
        former := (SELECT r.status FROM leyser.clause_record r WHERE r.clause = one.clause);
        INSERT INTO leyser.clause_record AS r (clause, status, since, seen_at) VALUES (one.clause, one.status, coalesce(one.cause_since, seen_at), seen_at)
            ON CONFLICT (clause) DO UPDATE SET status = excluded.status, seen_at = excluded.seen_at,
                since = CASE WHEN r.status = excluded.status THEN r.since ELSE excluded.since END;
        IF former <> one.status THEN
            changed := changed + 1;
            PERFORM leyser.record_event('white_paper.changed', NULL, one.clause,
                jsonb_build_object('status', one.status, 'former', former, 'evidence', left(one.evidence, 2000)));
        END IF;
    END LOOP;
    RETURN CASE WHEN changed > 0 THEN format('clauses that changed: %s', changed) END;
END
$$;
REVOKE ALL ON FUNCTION leyser.note_clauses() FROM PUBLIC;
COMMENT ON FUNCTION leyser.note_clauses() IS
    'internal: job note clauses: writes down how each clause is, and since when; a change is an event';
