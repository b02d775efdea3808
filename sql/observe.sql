-- Tables that are observed: nothing is refused, all that would be is counted.

CREATE FUNCTION leyser.observe_support(internal) RETURNS internal
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'leyser_observe_support';
REVOKE ALL ON FUNCTION leyser.observe_support(internal) FROM PUBLIC;
COMMENT ON FUNCTION leyser.observe_support(internal) IS
    'internal: tells the planner that the condition of observed tables leaves all rows';

-- The planner puts it into the statements of all roles.
CREATE FUNCTION leyser.observe_rows(query_id bigint, writes boolean, tables integer, VARIADIC arguments "any")
    RETURNS boolean
    -- after conditions that cost 1: the rows that are left are looked at
    LANGUAGE c STABLE PARALLEL SAFE COST 2 SUPPORT leyser.observe_support AS 'MODULE_PATHNAME', 'leyser_observe_rows';
REVOKE ALL ON FUNCTION leyser.observe_rows(bigint, boolean, integer, "any") FROM PUBLIC;
COMMENT ON FUNCTION leyser.observe_rows(bigint, boolean, integer, "any") IS
    'internal: in plans that read or write observed tables: counts rows of another tenant than the context''s, and is always true; 22023 where somebody else calls it';

CREATE FUNCTION leyser.list_context_gaps()
    RETURNS TABLE (relation oid, gap text, sqlstate text, query_id bigint, role oid,
                   application text, count bigint, first_seen timestamptz, last_seen timestamptz)
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leyser_list_context_gaps';
REVOKE ALL ON FUNCTION leyser.list_context_gaps() FROM PUBLIC;
COMMENT ON FUNCTION leyser.list_context_gaps() IS
    'internal: what view context_gap shows';

CREATE VIEW leyser.context_gap AS
    SELECT g.relation::regclass AS relation, g.gap, g.sqlstate, g.query_id, g.role::regrole AS role,
           g.application, g.count, g.first_seen, g.last_seen
    FROM leyser.list_context_gaps() g;
COMMENT ON VIEW leyser.context_gap IS
    'what was let through at observed tables and would not be if they were enforced: missing (no context that counts; sqlstate is what would be raised), foreign (rows of another tenant than the context''s were read, or with 42501 written), refused (COPY FROM, TRUNCATE); counted in statements by query, role and application since the server started or forget_context_gaps(); a row without application counts what found no room of its own (operator, auditor)';

CREATE FUNCTION leyser.observed_since() RETURNS timestamptz
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'leyser_observed_since';
REVOKE ALL ON FUNCTION leyser.observed_since() FROM PUBLIC;
COMMENT ON FUNCTION leyser.observed_since() IS
    'internal: since when gaps are counted: they are lost with the server''s shared memory';

CREATE FUNCTION leyser.forget_gaps(relation oid) RETURNS bigint
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leyser_forget_gaps';
REVOKE ALL ON FUNCTION leyser.forget_gaps(oid) FROM PUBLIC;
COMMENT ON FUNCTION leyser.forget_gaps(oid) IS
    'internal: forgets the gaps of a table, or with NULL of the database';

CREATE FUNCTION leyser.forget_context_gaps(relation regclass DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    forgotten bigint := leyser.forget_gaps(forget_context_gaps.relation);
BEGIN
    PERFORM leyser.record_event('table.gaps_forgotten', NULL, forget_context_gaps.relation::text,
        jsonb_build_object('entries', forgotten));
    RETURN forgotten;
END
$$;
REVOKE ALL ON FUNCTION leyser.forget_context_gaps(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.forget_context_gaps(regclass) IS
    'operator: empties view context_gap, for one table or, left out, for all of this database, and returns how many rows it had; at once, also where the transaction is rolled back';

CREATE FUNCTION leyser.forget_plans(relation regclass) RETURNS void
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'leyser_forget_plans';
REVOKE ALL ON FUNCTION leyser.forget_plans(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.forget_plans(regclass) IS
    'internal: has every backend plan a table''s statements anew once the transaction commits';

-- Whoever enforces a table hears what it let through while it was observed.
CREATE FUNCTION leyser.warn_of_gaps(relation regclass) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    seen record;
BEGIN
    SELECT count(*) AS entries, sum(g.count) AS statements, max(g.last_seen) AS last_seen INTO seen
        FROM leyser.list_context_gaps() g
        JOIN leyser.family_of(warn_of_gaps.relation) f ON f.member = g.relation;
    IF seen.entries > 0 THEN
        RAISE WARNING USING
            MESSAGE = format('"%s" was used past its tenant''s context while it was observed', warn_of_gaps.relation),
            DETAIL = format('View leyser.context_gap has %s rows of it, %s statements in all, the last at %s.',
                            seen.entries, seen.statements, seen.last_seen),
            HINT = 'What they tell of may fail from now on, or find fewer rows.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.warn_of_gaps(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.warn_of_gaps(regclass) IS
    'internal: WARNING where a table that is to be enforced let something through';
