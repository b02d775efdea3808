-- Judges of the clauses that lie outside the database, wholly or in part.
--
-- A judge tells what speaks for and against its clause, one row each; white_paper()
-- makes a status of it.

CREATE FUNCTION leyser.judge_1_2(look leyser.clause_look) RETURNS SETOF leyser.clause_point
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT * FROM leyser.attestation_points(look, '1.2') $$;
REVOKE ALL ON FUNCTION leyser.judge_1_2(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_1_2(leyser.clause_look) IS 'internal: shared responsibilities';

CREATE FUNCTION leyser.judge_2_1(look leyser.clause_look) RETURNS SETOF leyser.clause_point
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT * FROM leyser.attestation_points(look, '2.1') $$;
REVOKE ALL ON FUNCTION leyser.judge_2_1(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_2_1(leyser.clause_look) IS 'internal: what outside bodies certify';

CREATE FUNCTION leyser.judge_2_2(look leyser.clause_look) RETURNS SETOF leyser.clause_point
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT * FROM leyser.attestation_points(look, '2.2') $$;
REVOKE ALL ON FUNCTION leyser.judge_2_2(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_2_2(leyser.clause_look) IS 'internal: the cloud provider';

-- That nothing is offered is the promise itself.
CREATE FUNCTION leyser.judge_2_14(look leyser.clause_look) RETURNS SETOF leyser.clause_point
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT * FROM leyser.attestation_points(look, '2.14', 'declared') $$;
REVOKE ALL ON FUNCTION leyser.judge_2_14(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_2_14(leyser.clause_look) IS 'internal: labelling';

-- The checklist is the security check: whatever lets somebody see more breaks it.
CREATE FUNCTION leyser.judge_2_17(look leyser.clause_look) RETURNS SETOF leyser.clause_point
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN count(*) FILTER (WHERE f.severity IS NULL) > 0 THEN 'broken'
                WHEN count(*) FILTER (WHERE f.severity IN ('critical', 'high', 'medium') AND f.waived_until IS NULL) > 0 THEN 'at risk' ELSE 'kept' END,
           leyser.tell(look.language, 'checklist', (SELECT count(*) FROM leyser.list_rules())::text,
               count(*) FILTER (WHERE f.waived_until IS NULL)::text, count(f.waived_until)::text), min(f.since) FILTER (WHERE f.waived_until IS NULL),
           CASE WHEN count(*) FILTER (WHERE f.waived_until IS NULL) > 0 THEN 'SELECT * FROM leyser.check_security();' END
    FROM unnest(look.findings) f
    UNION ALL
    SELECT 'broken', leyser.tell(look.language, 'checklist failed', leyser.name_some(look, array_agg(f.check_id || ' ' || f.object ORDER BY f.check_id, f.object))),
           min(f.since), array_to_string((array_agg(f.remedy ORDER BY f.check_id, f.object))[:5], chr(10))
    FROM unnest(look.findings) f
    WHERE f.severity IN ('critical', 'high') AND f.fails = 'open' AND f.waived_until IS NULL HAVING count(*) > 0
    UNION ALL
    -- as finding_points(): somebody answers for them, which keeps no promise
    SELECT 'at risk', leyser.tell(look.language, 'checklist accepted', leyser.name_some(look, array_agg(
               leyser.tell(look.language, 'accepted until', f.check_id || ' ' || f.object, leyser.told_day(f.waived_until)) ORDER BY f.check_id, f.object))),
           min(f.since), NULL
    FROM unnest(look.findings) f
    WHERE f.severity IN ('critical', 'high', 'medium') AND f.fails = 'open' AND f.waived_until IS NOT NULL HAVING count(*) > 0
    UNION ALL
    SELECT * FROM leyser.attestation_points(look, '2.17')
$$;
REVOKE ALL ON FUNCTION leyser.judge_2_17(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_2_17(leyser.clause_look) IS 'internal: the checklist, and examinations from outside';

CREATE FUNCTION leyser.judge_2_19(look leyser.clause_look) RETURNS SETOF leyser.clause_point
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT * FROM leyser.attestation_points(look, '2.19') $$;
REVOKE ALL ON FUNCTION leyser.judge_2_19(leyser.clause_look) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_2_19(leyser.clause_look) IS 'internal: law and jurisdiction';
