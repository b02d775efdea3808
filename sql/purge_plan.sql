-- The plan of a purge: what is deleted, in which order, and what stops it.

CREATE FUNCTION leyser.purge_order(nodes bigint[], earlier bigint[], later bigint[]) RETURNS integer[]
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'leyser_purge_order';
REVOKE ALL ON FUNCTION leyser.purge_order(bigint[], bigint[], bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.purge_order(bigint[], bigint[], bigint[]) IS
    'internal: the turn of each node, where earlier[i] comes before later[i]; nodes with one turn lie on a circle';

-- One row a relation.  Foreign keys of partitioned tables stand for those of their
-- leaves: a node for the table that refers (1) and one for the table that is
-- referred to (2) spare an edge for each pair of leaves.
CREATE FUNCTION leyser.purge_turns(targets leyser.purge_target[])
    RETURNS TABLE (relation oid, turn integer, together boolean)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    earlier bigint[];
    later bigint[];
    nodes bigint[];
    turns integer[];
BEGIN
    WITH emptied AS MATERIALIZED (
        SELECT t.relation, t.condition, t.kind FROM unnest(targets) t
        WHERE t.condition IS NOT NULL AND t.relkind = 'r'
    ), above AS MATERIALIZED (
        SELECT e.relation AS leaf, e.relation AS top FROM emptied e
        UNION SELECT e.relation, p.relid::oid FROM emptied e, pg_partition_ancestors(e.relation) p
    ), key AS (
        SELECT DISTINCT k.conrelid, k.confrelid FROM pg_constraint k
        WHERE k.contype = 'f' AND k.conparentid = 0
    ), edge AS (
        SELECT a.leaf::bigint * 4 AS earlier, k.conrelid::bigint * 4 + 1 AS later
            FROM key k JOIN above a ON a.top = k.conrelid
        UNION SELECT k.conrelid::bigint * 4 + 1, k.confrelid::bigint * 4 + 2 FROM key k
        UNION SELECT k.confrelid::bigint * 4 + 2, a.leaf::bigint * 4
            FROM key k JOIN above a ON a.top = k.confrelid
        -- a condition that reads another table needs its rows
        UNION SELECT e.relation::bigint * 4, a.leaf::bigint * 4
            FROM emptied e, unnest(leyser.condition_relations(e.relation, e.condition)) r
            JOIN above a ON a.top = r
            WHERE e.kind IN ('by_rule', 'leyser')
    )
    SELECT array_agg(e.earlier), array_agg(e.later) INTO earlier, later FROM edge e;
    SELECT array_agg(n.node ORDER BY CASE n.kind WHEN 'virtual' THEN 2 WHEN 'leyser' THEN 1 ELSE 0 END, n.place) INTO nodes FROM (
        SELECT t.relation::bigint * 4 AS node, t.kind, t.place FROM unnest(targets) WITH ORDINALITY t
                (relation, relation_name, relkind, kind, condition, assignments, tenant_attnum, reason, place)
            WHERE t.condition IS NOT NULL AND t.relkind = 'r'
        UNION ALL
        SELECT DISTINCT v.node, 'virtual', 0 FROM unnest(earlier || later) v (node) WHERE v.node % 4 <> 0) n;
    turns := leyser.purge_order(coalesce(nodes, '{}'), coalesce(earlier, '{}'), coalesce(later, '{}'));
    RETURN QUERY
        WITH given AS (SELECT g.node, g.turn FROM unnest(nodes, turns) g (node, turn)),
            size AS (SELECT g.turn, count(*) AS nodes FROM given g GROUP BY g.turn)
        SELECT (g.node / 4)::oid, g.turn, s.nodes > 1 OR EXISTS (
                   SELECT FROM unnest(earlier, later) e (earlier, later) WHERE e.earlier = g.node AND e.later = g.node)
        FROM given g JOIN size s ON s.turn = g.turn WHERE g.node % 4 = 0;
END
$$;
REVOKE ALL ON FUNCTION leyser.purge_turns(leyser.purge_target[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.purge_turns(leyser.purge_target[]) IS
    'internal: the order in which tables are emptied, and which of them only in one statement';

CREATE FUNCTION leyser.count_purge_rows(relation regclass, condition text, tenant_id text) RETURNS bigint
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT leyser.query_as_owner(relation, format(E'SELECT count(*) FROM ONLY %s WHERE (%s\n)', relation, condition),
                                 tenant_id, NULL)::bigint
$$;
REVOKE ALL ON FUNCTION leyser.count_purge_rows(regclass, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.count_purge_rows(regclass, text, text) IS
    'internal: how many rows of a table a condition finds for a tenant';

-- The whole plan, for purge_plan() to show and plan_purge() to keep.
CREATE FUNCTION leyser.make_purge_plan(tenant_id text)
    RETURNS TABLE (relation oid, relation_name text, action text, condition text, assignments text,
                   together integer, rows bigint, bytes bigint, note text)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    targets leyser.purge_target[];
BEGIN
    SELECT array_agg(t ORDER BY t.relation_name COLLATE "C") INTO targets
        FROM leyser.purge_targets(make_purge_plan.tenant_id) t;
    RETURN QUERY
        SELECT t.relation, t.relation_name,
               CASE WHEN t.assignments IS NOT NULL THEN 'erase' WHEN o.together THEN 'delete together' ELSE 'delete' END,
               t.condition, t.assignments, CASE WHEN o.together THEN o.turn END,
               leyser.count_purge_rows(t.relation, t.condition, make_purge_plan.tenant_id),
               pg_total_relation_size(t.relation), NULL::text
        FROM leyser.purge_turns(targets) o JOIN unnest(targets) t ON t.relation = o.relation
        ORDER BY o.turn, t.relation_name COLLATE "C";
    RETURN QUERY
        SELECT t.relation, t.relation_name, 'keep', NULL::text, NULL::text, NULL::integer, NULL::bigint,
               pg_total_relation_size(t.relation),
               coalesce(t.kind || coalesce(': ' || t.reason, ''), 'no kind is declared')
        FROM unnest(targets) t WHERE t.condition IS NULL AND t.relkind = 'r'
        ORDER BY t.relation_name COLLATE "C";
END
$$;
REVOKE ALL ON FUNCTION leyser.make_purge_plan(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.make_purge_plan(text) IS
    'internal: the steps of a tenant''s purge, in order';

CREATE FUNCTION leyser.purge_plan(tenant_id text)
    RETURNS TABLE (step integer, relation regclass, action text, rows bigint, bytes bigint, note text)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p.step::integer, p.relation::regclass, p.action, p.rows, p.bytes, p.note
    FROM leyser.make_purge_plan(tenant_id) WITH ORDINALITY
        p (relation, relation_name, action, condition, assignments, together, rows, bytes, note, step)
    ORDER BY p.step
$$;
REVOKE ALL ON FUNCTION leyser.purge_plan(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.purge_plan(text) IS
    'operator, auditor: what a purge of the tenant would do, step by step; changes nothing';

-- Keeps the plan of a purge.  A plan that is made again, after a restart or DDL,
-- keeps what was done to a relation.
CREATE FUNCTION leyser.plan_purge(purge_id bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    planned_for text;
    former leyser.purge_table[];
BEGIN
    SELECT r.tenant_id INTO STRICT planned_for FROM leyser.purge_record r WHERE r.purge_id = plan_purge.purge_id;
    SELECT array_agg(t) INTO former FROM leyser.purge_table t WHERE t.purge_id = plan_purge.purge_id;
    DELETE FROM leyser.purge_table t WHERE t.purge_id = plan_purge.purge_id;
    INSERT INTO leyser.purge_table (purge_id, step, relation, relation_name, action, condition, rows_planned,
            rows_deleted, pages_scrubbed, indexes_rebuilt, note, assignments, together)
        SELECT plan_purge.purge_id, p.step, p.relation, p.relation_name, p.action, p.condition,
               p.rows + coalesce(f.rows_deleted, 0), coalesce(f.rows_deleted, 0), coalesce(f.pages_scrubbed, 0),
               coalesce(f.indexes_rebuilt, 0), p.note, p.assignments, p.together
        FROM leyser.make_purge_plan(planned_for) WITH ORDINALITY
            p (relation, relation_name, action, condition, assignments, together, rows, bytes, note, step)
        LEFT JOIN unnest(former) f ON f.relation = p.relation AND p.relation <> 0;
END
$$;
REVOKE ALL ON FUNCTION leyser.plan_purge(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.plan_purge(bigint) IS
    'internal: keeps the plan of a purge in purge_table; LY008 where something stops it';
