-- The plan of an export: which relations, in which order, by which commands.

-- Protected tables are exported as a whole with their partitions, by-rule tables
-- partition by partition, inheritance children each by itself.  What is imported
-- goes in through the partitioned table.
CREATE FUNCTION leyser.export_units(targets leyser.purge_target[])
    RETURNS TABLE (relation oid, into_relation regclass, columns text, problem text)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT t.relation, coalesce(pg_partition_root(t.relation), t.relation::regclass),
           (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
            WHERE a.attrelid = t.relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''),
           CASE WHEN t.kind IS NULL THEN 'no kind is declared: it is not exported'
                WHEN t.relkind = 'f' THEN 'a foreign table: its rows are exported where they are'
                WHEN t.kind = 'by_rule' THEN 'the condition cannot be run: ' || leyser.refused_condition(t.relation, t.condition) END
    FROM unnest(targets) t JOIN pg_class c ON c.oid = t.relation
    WHERE (t.kind IS NULL AND t.relkind <> 'f')
       OR t.kind IN ('own', 'own_and_global') AND NOT c.relispartition
       OR t.kind = 'by_rule' AND t.relkind <> 'p'
$$;
REVOKE ALL ON FUNCTION leyser.export_units(leyser.purge_target[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.export_units(leyser.purge_target[]) IS
    'internal: what is exported each by itself, and why something is not';

-- What a foreign key refers to comes first.
CREATE FUNCTION leyser.export_turns(units oid[]) RETURNS TABLE (relation oid, turn integer)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    earlier bigint[];
    later bigint[];
    nodes bigint[] := ARRAY(SELECT u.oid::bigint FROM unnest(units) u (oid) ORDER BY u.oid::regclass::text COLLATE "C");
BEGIN
    WITH part AS MATERIALIZED (
        SELECT u.oid AS member, u.oid AS unit FROM unnest(units) u (oid)
        UNION SELECT p.relid, u.oid FROM unnest(units) u (oid), pg_partition_tree(u.oid) p
            WHERE p.relid <> ALL (units)
    ), edge AS (
        SELECT DISTINCT parent.unit AS earlier, child.unit AS later
        FROM pg_constraint k JOIN part parent ON parent.member = k.confrelid JOIN part child ON child.member = k.conrelid
        WHERE k.contype = 'f' AND parent.unit <> child.unit
    )
    SELECT array_agg(e.earlier::bigint ORDER BY e.place), array_agg(e.later::bigint ORDER BY e.place) INTO earlier, later FROM (
        SELECT e.*, row_number() OVER (ORDER BY e.earlier::regclass::text COLLATE "C", e.later::regclass::text COLLATE "C") AS place FROM edge e) e;
    RETURN QUERY SELECT g.node::oid, g.turn
        FROM unnest(nodes, leyser.purge_order(nodes, coalesce(earlier, '{}'), coalesce(later, '{}'))) g (node, turn);
END
$$;
REVOKE ALL ON FUNCTION leyser.export_turns(oid[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.export_turns(oid[]) IS
    'internal: the order in which tables are exported and imported; tables of one turn refer to each other in a circle';

CREATE FUNCTION leyser.export_note(relation oid, exported oid[], companions text[], kind text) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT nullif(concat_ws('; ',
        CASE WHEN companions <> '{}' THEN format('refers in a circle to %s: at import the keys must be deferred', array_to_string(companions, ', ')) END,
        CASE WHEN kind = 'own_and_global' THEN 'without the rows that belong to everybody' END,
        (SELECT 'refers to ' || string_agg(DISTINCT coalesce(pg_partition_root(k.confrelid), k.confrelid::regclass)::text, ', ') || ', which is not exported'
         FROM pg_constraint k WHERE k.contype = 'f' AND k.conrelid = export_note.relation AND k.conparentid = 0
           AND NOT EXISTS (SELECT FROM unnest(exported) e WHERE e = k.confrelid OR e = pg_partition_root(k.confrelid)
                           OR k.confrelid = pg_partition_root(e)))), '')
$$;
REVOKE ALL ON FUNCTION leyser.export_note(oid, oid[], text[], text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.export_note(oid, oid[], text[], text) IS
    'internal: what is to be known about the export of a table';

-- psql's \copy is one line; COPY ends with \g where a name has line breaks.
CREATE FUNCTION leyser.export_command(query text, file text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    SELECT CASE WHEN query ~ '[\n\r]' THEN format('COPY (%s) TO STDOUT \g %L', query, file)
                ELSE format('\copy (%s) TO %L', query, file) END
$$;
REVOKE ALL ON FUNCTION leyser.export_command(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.export_command(text, text) IS 'internal: how psql writes the rows of a query to a file';

-- COPY into a table with row security is refused: the rows go through a temporary
-- table, in the tenant's context.
CREATE FUNCTION leyser.import_command(relation regclass, columns text, file text) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    SELECT format(E'CREATE TEMPORARY TABLE leyser_import ON COMMIT DROP AS SELECT %2$s FROM %1$s WITH NO DATA;\n'
        '\\copy pg_temp.leyser_import FROM %3$L\n'
        'INSERT INTO %1$s (%2$s) OVERRIDING SYSTEM VALUE SELECT %2$s FROM pg_temp.leyser_import;\n'
        'DROP TABLE pg_temp.leyser_import;', relation, columns, file)
$$;
REVOKE ALL ON FUNCTION leyser.import_command(regclass, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.import_command(regclass, text, text) IS
    'internal: how psql puts a file''s rows into a table, in a transaction with the tenant''s context';

CREATE FUNCTION leyser.export_plan(tenant_id text)
    RETURNS TABLE (step integer, relation regclass, copy_command text, import_command text, note text)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
#variable_conflict use_column
DECLARE
    tenant leyser.tenant_record;
BEGIN
    SELECT t.* INTO tenant FROM leyser.tenant_record t WHERE t.tenant_id = export_plan.tenant_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = 'tenant does not exist',
            DETAIL = 'No tenant has this id.',
            HINT = 'See view leyser.tenant.';
    END IF;
    PERFORM leyser.check_exportable(tenant);
    RETURN QUERY
        WITH target AS MATERIALIZED (SELECT array_agg(t) AS list FROM leyser.purge_targets(export_plan.tenant_id) t
            WHERE t.kind IS NULL OR t.kind IN ('own', 'own_and_global', 'by_rule')
        ), unit AS MATERIALIZED (SELECT u.* FROM target, leyser.export_units(target.list) u
        ), exported AS (SELECT coalesce(array_agg(u.relation), '{}') AS list FROM unit u WHERE u.problem IS NULL
        ), turn AS (
            SELECT o.relation, row_number() OVER (ORDER BY o.turn, o.relation::regclass::text COLLATE "C")::integer AS step,
                   array_remove(array_agg(o.relation::regclass::text) OVER (PARTITION BY o.turn), o.relation::regclass::text) AS companions
            FROM exported, leyser.export_turns(exported.list) o
        ), step AS (
            SELECT t.step, u.*, t.companions, k.kind,
                   format('%s-%s.copy', lpad(t.step::text, 4, '0'), left(regexp_replace(u.relation::regclass::text, '[^A-Za-z0-9._-]', '_', 'g'), 100)) AS file
            FROM unit u LEFT JOIN turn t ON t.relation = u.relation
            CROSS JOIN target JOIN unnest(target.list) k ON k.relation = u.relation
        )
        SELECT coalesce(s.step, 0), s.relation::regclass,
               CASE WHEN s.problem IS NULL THEN leyser.export_command(
                   format('SELECT %s FROM leyser.export_rows(NULL::%s)', s.columns, s.relation::regclass), s.file) END,
               CASE WHEN s.problem IS NULL THEN leyser.import_command(s.into_relation, s.columns, s.file) END,
               coalesce(s.problem, leyser.export_note(s.relation, e.list, s.companions, s.kind))
        FROM step s, exported e ORDER BY coalesce(s.step, 0), s.relation::regclass::text COLLATE "C";
END
$$;
REVOKE ALL ON FUNCTION leyser.export_plan(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.export_plan(text) IS
    'exporter, operator, auditor: psql''s commands that write the tenant''s rows to files, and those that put them into another cluster''s tables, a step a relation, in the order of foreign keys; step 0: what is not exported, and why; changes nothing; 42704 for an unknown tenant, LY008 where it is erased or being purged';
