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
    SELECT array_agg(o.earlier ORDER BY o.place), array_agg(o.later ORDER BY o.place) INTO earlier, later FROM (
        -- the same plan for the same tables, whatever their oids
        SELECT e.earlier, e.later, row_number() OVER (ORDER BY (e.earlier / 4)::oid::regclass::text COLLATE "C", e.earlier % 4,
            (e.later / 4)::oid::regclass::text COLLATE "C", e.later % 4) AS place FROM edge e) o;
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
    'internal: the order in which tables are emptied, and which of them only in one transaction';

-- A partition whose bounds let in nobody else's rows goes as a whole, where the
-- server can do that and nobody would miss the single deletes.
CREATE FUNCTION leyser.is_truncatable(relation oid, tenant_column name, tenant_id text) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (
            SELECT FROM pg_partition_ancestors(is_truncatable.relation) p
            JOIN pg_class c ON c.oid = p.relid AND c.relispartition
            JOIN pg_inherits i ON i.inhrelid = c.oid
            JOIN pg_partitioned_table t ON t.partrelid = i.inhparent AND t.partstrat = 'l' AND t.partnatts = 1
            JOIN pg_attribute a ON a.attrelid = i.inhparent AND a.attnum = t.partattrs[0] AND a.attname = tenant_column
            -- as the server prints a bound of this one value, a number bare
            WHERE pg_get_expr(c.relpartbound, c.oid) IN (format('FOR VALUES IN (%s)', quote_literal(tenant_id)),
                                                         format('FOR VALUES IN (%s)', tenant_id)))
        AND NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = is_truncatable.relation AND NOT g.tgisinternal AND g.tgtype & 32 <> 0)
        AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.contype = 'f' AND k.confrelid = is_truncatable.relation)
        AND NOT EXISTS (SELECT FROM pg_constraint k JOIN pg_partition_ancestors(is_truncatable.relation) p ON p.relid = k.confrelid
                        WHERE k.contype = 'f')
        AND NOT EXISTS (SELECT FROM leyser.publications_of(is_truncatable.relation))
$$;
REVOKE ALL ON FUNCTION leyser.is_truncatable(oid, name, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.is_truncatable(oid, name, text) IS
    'internal: whether a partition can only hold rows of one tenant, and be truncated';

CREATE FUNCTION leyser.deleting_note(target leyser.purge_target, companions text[]) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT nullif(concat_ws('; ',
        CASE WHEN companions <> '{}' THEN format('in one transaction with %s%s: they refer to each other', array_to_string(companions[:5], ', '),
                 CASE WHEN cardinality(companions) > 5 THEN format(' and %s more', cardinality(companions) - 5) END)
             WHEN companions = '{}' THEN 'in one transaction: its rows refer to each other' END,
        CASE WHEN target.kind = 'own_and_global' THEN 'rows without a tenant stay' END,
        CASE WHEN target.kind = 'by_rule' THEN 'by rule: ' || target.condition END,
        CASE WHEN target.assignments IS NOT NULL THEN 'content is erased, rows stay' END,
        (SELECT 'triggers do not fire: ' || string_agg(quote_ident(g.tgname), ', ' ORDER BY g.tgname)
         FROM pg_trigger g WHERE target.kind <> 'leyser' AND g.tgrelid = target.relation AND NOT g.tgisinternal AND g.tgtype & 8 <> 0
           AND g.tgenabled IN ('O', 'A')),
        (SELECT format('rebuilt under a SHARE lock of the table, and ACCESS EXCLUSIVE of the index: %s of exclusion constraints',
                       string_agg(quote_ident(c.relname), ', ' ORDER BY c.relname))
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
         WHERE target.assignments IS NULL AND i.indrelid = target.relation AND i.indisexclusion HAVING count(*) > 0)), '')
$$;
REVOKE ALL ON FUNCTION leyser.deleting_note(leyser.purge_target, text[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.deleting_note(leyser.purge_target, text[]) IS
    'internal: what is to be known about the deletion from a table';

CREATE FUNCTION leyser.deleting_steps(targets leyser.purge_target[], tenant_id text) RETURNS SETOF leyser.purge_step
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    WITH turn AS MATERIALIZED (
        SELECT t.*, o.turn, CASE WHEN o.together THEN array_remove(array_agg(t.relation_name) OVER (PARTITION BY o.turn ORDER BY t.relation_name COLLATE "C" ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING), t.relation_name) END AS companions
        FROM leyser.purge_turns(targets) o JOIN unnest(targets) t ON t.relation = o.relation
    )
    SELECT t.relation, t.relation_name,
           CASE WHEN t.assignments IS NOT NULL THEN 'erase' WHEN t.companions IS NOT NULL THEN 'delete together'
                WHEN t.tenant_attnum IS NOT NULL AND leyser.is_truncatable(t.relation, a.attname, deleting_steps.tenant_id) THEN 'truncate'
                ELSE 'delete' END,
           t.condition, t.assignments, CASE WHEN t.companions IS NOT NULL THEN t.turn END,
           leyser.count_purge_rows(t.relation, t.condition, deleting_steps.tenant_id), pg_total_relation_size(t.relation),
           leyser.deleting_note(ROW(t.relation, t.relation_name, t.relkind, t.kind, t.condition, t.assignments, t.tenant_attnum, t.reason)::leyser.purge_target, t.companions), NULL::name, NULL::text
    FROM turn t LEFT JOIN pg_attribute a ON a.attrelid = t.relation AND a.attnum = t.tenant_attnum
    ORDER BY t.turn, t.relation_name COLLATE "C"
$$;
REVOKE ALL ON FUNCTION leyser.deleting_steps(leyser.purge_target[], text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.deleting_steps(leyser.purge_target[], text) IS
    'internal: the tables that a purge empties, in order, with what is to be known';

-- The tables that are emptied, as they are and stay until the transaction ends: DDL
-- that is under way is waited for, and what it changed is read anew.
CREATE FUNCTION leyser.lock_purge_targets(tenant_id text) RETURNS leyser.purge_target[]
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    before leyser.purge_target[];
    targets leyser.purge_target[];
    target leyser.purge_target;
BEGIN
    LOOP
        SELECT array_agg(t ORDER BY t.relation_name COLLATE "C") INTO targets FROM leyser.purge_targets(tenant_id) t;
        EXIT WHEN targets = before;
        before := targets;
        BEGIN
            FOREACH target IN ARRAY targets LOOP
                CONTINUE WHEN target.condition IS NULL OR target.relkind <> 'r' OR target.kind = 'leyser';
                EXECUTE format('LOCK TABLE ONLY %s IN ACCESS SHARE MODE', target.relation_name);
            END LOOP;
        EXCEPTION WHEN undefined_table OR invalid_schema_name THEN
            before := NULL;
        END;
    END LOOP;
    RETURN targets;
END
$$;
REVOKE ALL ON FUNCTION leyser.lock_purge_targets(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.lock_purge_targets(text) IS
    'internal: what a purge deals with, its tables locked against DDL';

-- The whole plan, for purge_plan() to show and plan_purge() to keep: first what
-- stops it.
CREATE FUNCTION leyser.make_purge_plan(tenant_id text) RETURNS SETOF leyser.purge_step
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    targets leyser.purge_target[] := leyser.lock_purge_targets(make_purge_plan.tenant_id);
    stops leyser.purge_step[];
    deletes leyser.purge_step[];
    refreshes leyser.purge_step[];
BEGIN
    -- without them not even rows are counted
    RETURN QUERY SELECT s.* FROM leyser.stopping_rights(targets) s;
    IF FOUND THEN
        RETURN;
    END IF;
    SELECT array_agg(s) INTO stops FROM leyser.stopping_conditions(targets, make_purge_plan.tenant_id) s;
    -- the rest is told without the tables whose conditions are wrong
    SELECT array_agg(t ORDER BY t.relation_name COLLATE "C") INTO targets FROM unnest(targets) t
        WHERE t.kind IS DISTINCT FROM 'by_rule' OR t.condition IS NULL
           OR t.relation NOT IN (SELECT s.relation FROM unnest(stops) s);
    SELECT array_agg(s) INTO deletes FROM leyser.deleting_steps(targets, make_purge_plan.tenant_id) s;
    SELECT array_agg(s) INTO refreshes FROM leyser.refreshing_steps(
        (SELECT array_agg(s.relation) FROM unnest(deletes) s)) s;
    RETURN QUERY SELECT s.* FROM unnest(stops) s;
    RETURN QUERY SELECT s.* FROM leyser.stopping_references(targets, make_purge_plan.tenant_id) s;
    RETURN QUERY SELECT s.* FROM leyser.stopping_tables(deletes) s;
    RETURN QUERY SELECT s.* FROM unnest(deletes) s;
    RETURN QUERY SELECT s.* FROM unnest(refreshes) s;
    RETURN QUERY SELECT s.* FROM leyser.confirming_steps(targets, make_purge_plan.tenant_id) s;
    RETURN QUERY SELECT s.* FROM leyser.keeping_steps(targets,
        (SELECT coalesce(array_agg(s.relation), '{}') FROM unnest(refreshes) s)) s;
END
$$;
REVOKE ALL ON FUNCTION leyser.make_purge_plan(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.make_purge_plan(text) IS
    'internal: the steps of a tenant''s purge, in order';

CREATE FUNCTION leyser.purge_plan(tenant_id text)
    RETURNS TABLE (step integer, relation regclass, action text, rows bigint, bytes bigint, note text)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    present text;
BEGIN
    SELECT t.state INTO present FROM leyser.tenant_record t WHERE t.tenant_id = purge_plan.tenant_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = 'tenant does not exist',
            DETAIL = 'No tenant has this id.',
            HINT = 'See view leyser.tenant.';
    END IF;
    IF present = 'erased' THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'the tenant is erased',
            DETAIL = 'Nothing of it is left to plan for.',
            HINT = 'See leyser.purge_report().';
    END IF;
    RETURN QUERY
        SELECT row_number() OVER ()::integer, nullif(p.relation, 0)::regclass, p.action, p.rows, p.bytes, p.note
        FROM leyser.make_purge_plan(purge_plan.tenant_id) p;
END
$$;
REVOKE ALL ON FUNCTION leyser.purge_plan(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.purge_plan(text) IS
    'operator, auditor: what a purge of the tenant would do, step by step; changes nothing. Actions: stop (the purge would be refused: the note says why), delete, delete together (in one transaction), truncate, erase (content, the row stays), refresh (a materialized view), scrub (of what somebody else empties, once that is confirmed), confirm (nothing that the database can erase: somebody confirms it), keep. Rows are the tenant''s, bytes the whole relation''s, which is scrubbed. 42704 for an unknown tenant, LY008 for an erased one';

CREATE FUNCTION leyser.raise_stop(tenant_id text, steps leyser.purge_step[]) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    stop leyser.purge_step;
    others bigint;
BEGIN
    SELECT s.* INTO stop FROM unnest(steps) s WHERE s.action = 'stop' LIMIT 1;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    others := (SELECT count(*) - 1 FROM unnest(steps) s WHERE s.action = 'stop');
    RAISE EXCEPTION USING ERRCODE = 'LY008',
        MESSAGE = format('tenant "%s" cannot be purged: table "%s" stops it', tenant_id, stop.relation_name),
        DETAIL = concat_ws(' ', stop.note || coalesce(' (rows: ' || stop.rows || ').', '.'),
            CASE WHEN others > 0 THEN format('leyser.purge_plan() tells what else stops it (%s).', others) END),
        HINT = stop.hint,
        TABLE = (SELECT c.relname FROM pg_class c WHERE c.oid = stop.relation),
        SCHEMA = (SELECT c.relnamespace::regnamespace::text FROM pg_class c WHERE c.oid = stop.relation),
        CONSTRAINT = coalesce(stop.constraint_name::text, '');
END
$$;
REVOKE ALL ON FUNCTION leyser.raise_stop(text, leyser.purge_step[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.raise_stop(text, leyser.purge_step[]) IS
    'internal: LY008 with table, constraint and number of rows where a step of a plan is a stop';

-- A table that was taken out of the registry, or detached from one that is in it,
-- still holds the tenant's rows, or their bytes.
CREATE FUNCTION leyser.lost_tables(purge_id bigint, targets leyser.purge_target[]) RETURNS SETOF leyser.purge_step
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT t.relation, t.relation::regclass::text, 'stop', NULL::text, NULL::text, NULL::integer, NULL::bigint, NULL::bigint,
           format('"%s" was planned to be emptied, and is no longer declared to hold rows of tenants', t.relation::regclass), NULL::name,
           format('SELECT leyser.declare_table(%L, ''by_rule'', ''…'', ''…''); or leyser.protect() it, until the tenant is erased.', t.relation::regclass)
    FROM leyser.purge_table t JOIN pg_class c ON c.oid = t.relation
    WHERE t.purge_id = lost_tables.purge_id AND t.condition IS NOT NULL
      AND t.relation NOT IN (SELECT g.relation FROM unnest(targets) g WHERE g.condition IS NOT NULL)
    ORDER BY t.relation::regclass::text COLLATE "C"
$$;
REVOKE ALL ON FUNCTION leyser.lost_tables(bigint, leyser.purge_target[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.lost_tables(bigint, leyser.purge_target[]) IS
    'internal: tables that a purge was to empty, and that are declared to be something else now';

-- Keeps the plan of a purge.  A plan that is made again, after a restart or DDL,
-- keeps what was done to a relation.
CREATE FUNCTION leyser.plan_purge(purge_id bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    planned_for text;
    steps leyser.purge_step[];
    former leyser.purge_table[];
BEGIN
    SELECT r.tenant_id INTO STRICT planned_for FROM leyser.purge_record r WHERE r.purge_id = plan_purge.purge_id;
    SELECT array_agg(p) INTO steps FROM leyser.make_purge_plan(planned_for) p;
    PERFORM leyser.raise_stop(planned_for, steps);
    PERFORM leyser.raise_stop(planned_for, (SELECT array_agg(l) FROM leyser.lost_tables(plan_purge.purge_id,
        (SELECT array_agg(t) FROM leyser.purge_targets(planned_for) t)) l));
    DELETE FROM leyser.external_erasure x USING unnest(steps) s
        WHERE x.tenant_id = planned_for AND s.action = 'confirm' AND s.relation <> 0 AND x.name = s.relation_name;
    SELECT array_agg(t) INTO former FROM leyser.purge_table t WHERE t.purge_id = plan_purge.purge_id;
    DELETE FROM leyser.purge_table t WHERE t.purge_id = plan_purge.purge_id;
    INSERT INTO leyser.purge_table (purge_id, step, relation, relation_name, action, condition, rows_planned,
            rows_deleted, pages_scrubbed, indexes_rebuilt, note, assignments, together)
        SELECT plan_purge.purge_id, p.step, p.relation, p.relation_name, p.action, p.condition,
               p.rows + coalesce(f.rows_deleted, 0), coalesce(f.rows_deleted, 0), coalesce(f.pages_scrubbed, 0),
               coalesce(f.indexes_rebuilt, 0), p.note, p.assignments, p.together
        FROM unnest(steps) WITH ORDINALITY
            p (relation, relation_name, action, condition, assignments, together, rows, bytes, note, constraint_name, hint, step)
        LEFT JOIN unnest(former) f ON f.relation = p.relation AND p.action <> 'confirm' AND f.action <> 'confirm';
    -- what the rows that are gone by now named is to be confirmed, and scrubbed, all the same
    INSERT INTO leyser.purge_table (purge_id, step, relation, relation_name, action, rows_planned, note)
        SELECT f.purge_id, cardinality(steps) + row_number() OVER (ORDER BY f.step), f.relation, f.relation_name, f.action,
               f.rows_planned, f.note
        FROM unnest(former) f
        WHERE f.action = 'confirm' AND f.relation_name NOT IN (SELECT p.relation_name FROM unnest(steps) p WHERE p.action = 'confirm')
           OR f.action = 'scrub' AND f.relation NOT IN (SELECT p.relation FROM unnest(steps) p WHERE p.action IN ('refresh', 'scrub'));
END
$$;
REVOKE ALL ON FUNCTION leyser.plan_purge(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.plan_purge(bigint) IS
    'internal: keeps the plan of a purge in purge_table; LY008 with table, constraint and number of rows where something stops it';
