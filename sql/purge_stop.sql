-- What stops a plan.  A purge must delete what is the tenant's and touch nothing
-- else: where it cannot, it says so before the first row goes.

-- Rows are deleted with the rights of their table's owner, who can take them away
-- from itself.
CREATE FUNCTION leyser.stopping_rights(targets leyser.purge_target[]) RETURNS SETOF leyser.purge_step
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT t.relation, t.relation_name, 'stop', NULL::text, NULL::text, NULL::integer, NULL::bigint, NULL::bigint,
           format('"%s", who owns "%s", has no right to %s', c.relowner::regrole, t.relation_name, m.lacking), NULL::name,
           concat_ws(' ', CASE WHEN m.usage THEN format('GRANT USAGE ON SCHEMA %s TO %s;', c.relnamespace::regnamespace, c.relowner::regrole) END,
                     CASE WHEN m.rows THEN format('GRANT SELECT, DELETE ON %s TO %s;', t.relation_name, c.relowner::regrole) END)
    FROM unnest(targets) t
    JOIN pg_class c ON c.oid = t.relation
    CROSS JOIN LATERAL (SELECT NOT has_schema_privilege(c.relowner, c.relnamespace, 'USAGE'),
        NOT (has_table_privilege(c.relowner, c.oid, 'SELECT') AND has_table_privilege(c.relowner, c.oid, 'DELETE'))) r (usage, rows)
    CROSS JOIN LATERAL (SELECT r.*, concat_ws(' and ', CASE WHEN r.usage THEN 'use its schema' END,
        CASE WHEN r.rows THEN 'read and delete its rows' END)) m (usage, rows, lacking)
    WHERE t.condition IS NOT NULL AND t.relkind = 'r' AND t.kind <> 'leyser' AND (m.usage OR m.rows)
    ORDER BY t.relation_name COLLATE "C"
$$;
REVOKE ALL ON FUNCTION leyser.stopping_rights(leyser.purge_target[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.stopping_rights(leyser.purge_target[]) IS
    'internal: tables whose owners lack the rights with which a purge deletes';

-- The foreign keys through which rows that stay may refer to rows that go.  Where
-- both tables are protected and the key contains both tenant columns, no row can.
CREATE FUNCTION leyser.purge_references(targets leyser.purge_target[])
    RETURNS TABLE (key oid, child leyser.purge_target, parent leyser.purge_target)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT k.oid, ROW(coalesce(c.relation, o.oid), coalesce(c.relation_name, o.oid::regclass::text), o.relkind, c.kind,
                      c.condition, c.assignments, c.tenant_attnum, c.reason)::leyser.purge_target,
           ROW(p.*)::leyser.purge_target
    FROM pg_constraint k
    JOIN unnest(targets) p ON p.relation = k.confrelid AND p.condition IS NOT NULL AND p.assignments IS NULL
    -- conditions are those of leaves, which need not all be alike
    JOIN LATERAL (SELECT k.conrelid AS oid WHERE NOT EXISTS (SELECT FROM pg_partitioned_table t WHERE t.partrelid = k.conrelid)
                  UNION ALL SELECT t.relid FROM pg_partition_tree(k.conrelid) t WHERE t.isleaf) leaf ON true
    JOIN pg_class o ON o.oid = leaf.oid AND o.relkind = 'r'
    LEFT JOIN unnest(targets) c ON c.relation = leaf.oid
    WHERE k.contype = 'f' AND k.conparentid = 0
      AND (c.kind IS DISTINCT FROM 'leyser' OR p.kind IS DISTINCT FROM 'leyser')
      AND NOT (c.condition IS NOT NULL AND c.tenant_attnum IS NOT NULL AND p.tenant_attnum IS NOT NULL AND EXISTS (
          SELECT FROM unnest(k.conkey, k.confkey) n (child, parent)
          JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = n.child
          JOIN pg_attribute b ON b.attrelid = leaf.oid AND b.attname = a.attname AND b.attnum = c.tenant_attnum
          WHERE n.parent = p.tenant_attnum))
$$;
REVOKE ALL ON FUNCTION leyser.purge_references(leyser.purge_target[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.purge_references(leyser.purge_target[]) IS
    'internal: the foreign keys to tables that a purge empties, whose references must be counted';

-- How the columns of a foreign key are compared.  parent_side is a format of the
-- parent's side: %1$s its column, %2$s the column's place in the key, %3$s its type.
CREATE FUNCTION leyser.reference_condition(key oid, parent_side text) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(format(parent_side, p.attname, n.place - 1, b.name)
                || format(' OPERATOR(%I.%s) referring.%I', s.nspname, o.oprname, c.attname)
                || CASE WHEN p.attcollation NOT IN (0, c.attcollation) THEN
                       (SELECT format(' COLLATE %I.%I', m.nspname, l.collname) FROM pg_collation l
                        JOIN pg_namespace m ON m.oid = l.collnamespace WHERE l.oid = p.attcollation) ELSE '' END,
            ' AND ' ORDER BY n.place)
    FROM pg_constraint k
    CROSS JOIN LATERAL unnest(k.conkey, k.confkey, k.conpfeqop) WITH ORDINALITY n (child, parent, operator, place)
    JOIN pg_attribute c ON c.attrelid = k.conrelid AND c.attnum = n.child
    JOIN pg_attribute p ON p.attrelid = k.confrelid AND p.attnum = n.parent
    -- of a domain the type below: its CHECKs are the parent's owner's code
    CROSS JOIN LATERAL (
        WITH RECURSIVE types (oid, depth) AS (
            SELECT p.atttypid, 0
            UNION ALL SELECT t.typbasetype, y.depth + 1 FROM types y JOIN pg_type t ON t.oid = y.oid AND t.typtype = 'd')
        SELECT format_type(y.oid, -1) AS name FROM types y ORDER BY y.depth DESC LIMIT 1) b
    JOIN pg_operator o ON o.oid = n.operator
    JOIN pg_namespace s ON s.oid = o.oprnamespace
    WHERE k.oid = key
$$;
REVOKE ALL ON FUNCTION leyser.reference_condition(oid, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.reference_condition(oid, text) IS
    'internal: the columns of a foreign key, compared';

CREATE FUNCTION leyser.count_by_keys(keys_owner regrole, keys_query text, rows_owner regrole, count_query text, tenant_id text)
    RETURNS bigint
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_count_by_keys';
REVOKE ALL ON FUNCTION leyser.count_by_keys(regrole, text, regrole, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.count_by_keys(regrole, text, regrole, text, text) IS
    'internal: how many rows a query finds, run as one role, for the keys that a query gives, run as another, some megabytes at a time';

-- Rows of the child that stay and refer to rows of the parent that go.  Neither
-- owner's code may run with the other's rights: where the owners differ, the
-- parent's keys are read as one and looked up as the other.
CREATE FUNCTION leyser.count_references(key oid, child leyser.purge_target, parent leyser.purge_target, tenant_id text)
    RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
DECLARE
    staying text := format(E'(SELECT * FROM ONLY %s WHERE (%s\n) IS NOT TRUE) referring', child.relation::regclass,
                           coalesce(child.condition, 'false'));
    going text := format(E'%s %s WHERE (%s\n)', CASE WHEN parent.relkind = 'p' THEN '' ELSE 'ONLY' END,
                         parent.relation::regclass, parent.condition);
    child_owner regrole := (SELECT c.relowner FROM pg_class c WHERE c.oid = child.relation);
    parent_owner regrole := (SELECT c.relowner FROM pg_class c WHERE c.oid = parent.relation);
BEGIN
    IF child_owner = parent_owner THEN
        RETURN leyser.query_as_owner(child.relation, format(
            'SELECT count(*) FROM %s WHERE EXISTS (SELECT FROM (SELECT * FROM %s) referred WHERE %s)',
            staying, going, leyser.reference_condition(key, 'referred.%1$I')), tenant_id)::bigint;
    END IF;
    -- a row refers to one key at most, for keys are unique
    RETURN leyser.count_by_keys(parent_owner, format(
        'SELECT jsonb_build_array(%s)::text FROM %s',
        (SELECT string_agg(format('%I::text', a.attname), ', ' ORDER BY n.place) FROM pg_constraint k
         CROSS JOIN LATERAL unnest(k.confkey) WITH ORDINALITY n (num, place)
         JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = n.num WHERE k.oid = key), going),
        child_owner, format(
        'SELECT count(*) FROM %s WHERE EXISTS (SELECT FROM jsonb_array_elements($2) referred (key) WHERE %s)',
        staying, leyser.reference_condition(key, '(referred.key ->> %2$s)::%3$s')), tenant_id);
END
$$;
REVOKE ALL ON FUNCTION leyser.count_references(oid, leyser.purge_target, leyser.purge_target, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.count_references(oid, leyser.purge_target, leyser.purge_target, text) IS
    'internal: how many rows that stay refer through a foreign key to rows that a purge deletes';

CREATE FUNCTION leyser.stopping_references(targets leyser.purge_target[], tenant_id text) RETURNS SETOF leyser.purge_step
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT (f.child).relation, (f.child).relation_name, 'stop', NULL::text, NULL::text, NULL::integer, f.rows, NULL::bigint,
           format('%s "%s" refer to rows of "%s" that go, through foreign key "%s"%s',
               CASE WHEN (f.child).kind IN ('own', 'own_and_global') THEN 'Rows of others in'
                    WHEN (f.child).kind = 'by_rule' THEN 'Rows that the condition does not find in'
                    WHEN (f.child).kind IS NULL THEN 'Rows of the undeclared table'
                    ELSE format('Rows of the %s table', (f.child).kind) END,
               (f.child).relation_name, (f.parent).relation_name, k.conname,
               CASE k.confdeltype WHEN 'c' THEN ' ON DELETE CASCADE' WHEN 'n' THEN ' ON DELETE SET NULL'
                   WHEN 'd' THEN ' ON DELETE SET DEFAULT' ELSE '' END),
           k.conname,
           CASE WHEN (f.child).kind IN ('own', 'own_and_global')
                    THEN 'Change these rows, or let the foreign key contain the tenant columns.'
                WHEN (f.child).kind IS NULL THEN format('Where its rows are tenants'' own: SELECT leyser.protect(%L); or declare a condition'
                    ' that finds them: SELECT leyser.declare_table(%1$L, ''by_rule'', …); otherwise change these rows.',
                    coalesce(pg_partition_root((f.child).relation), (f.child).relation::regclass))
                ELSE 'Change these rows so that they refer to nothing that goes.' END
    FROM (SELECT r.*, leyser.count_references(r.key, r.child, r.parent, tenant_id) AS rows
          FROM leyser.purge_references(targets) r) f
    JOIN pg_constraint k ON k.oid = f.key
    WHERE f.rows > 0
    ORDER BY (f.child).relation_name COLLATE "C", k.conname
$$;
REVOKE ALL ON FUNCTION leyser.stopping_references(leyser.purge_target[], text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.stopping_references(leyser.purge_target[], text) IS
    'internal: rows that stay and refer to rows that a purge deletes';

-- While a condition is run, the server's message may quote rows, which an operator
-- does not see: only its SQLSTATE is told.  Before, it quotes the condition alone.
CREATE FUNCTION leyser.condition_problem(target leyser.purge_target, tenant_id text) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    refused text;
BEGIN
    refused := leyser.refused_condition(target.relation, target.condition);
    IF refused IS NOT NULL THEN
        RETURN format('The purge_condition of "%s" is refused: %s', target.relation_name, refused);
    END IF;
    PERFORM leyser.count_purge_rows(target.relation, target.condition, tenant_id);
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RETURN format('The purge_condition of "%s" cannot be evaluated: SQLSTATE %s', target.relation_name, SQLSTATE);
END
$$;
REVOKE ALL ON FUNCTION leyser.condition_problem(leyser.purge_target, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.condition_problem(leyser.purge_target, text) IS
    'internal: why a by-rule table''s condition cannot be run, or NULL';

CREATE FUNCTION leyser.stopping_conditions(targets leyser.purge_target[], tenant_id text) RETURNS SETOF leyser.purge_step
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT t.relation, t.relation_name, 'stop', t.condition, NULL::text, NULL::integer, NULL::bigint, NULL::bigint, p.problem,
           NULL::name, format('SELECT leyser.declare_table(%L, ''by_rule'', purge_condition => ''…'');', t.relation_name)
    FROM unnest(targets) t
    CROSS JOIN LATERAL leyser.condition_problem(t, tenant_id) p (problem)
    WHERE t.kind = 'by_rule' AND t.relkind = 'r' AND p.problem IS NOT NULL
    ORDER BY t.relation_name COLLATE "C"
$$;
REVOKE ALL ON FUNCTION leyser.stopping_conditions(leyser.purge_target[], text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.stopping_conditions(leyser.purge_target[], text) IS
    'internal: by-rule tables whose conditions cannot be run';

-- Whether the server itself refuses to delete: a publication of deletes needs a
-- replica identity that its column lists and row filters fit.
CREATE FUNCTION leyser.publication_problem(relation regclass) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    told text;
BEGIN
    -- on a standby a DELETE cannot even be planned
    IF NOT pg_is_in_recovery() THEN
        PERFORM leyser.run_as_owner(relation, format('EXPLAIN DELETE FROM ONLY %s', relation));
    END IF;
    RETURN NULL;
EXCEPTION WHEN object_not_in_prerequisite_state OR invalid_column_reference THEN
    GET STACKED DIAGNOSTICS told = PG_EXCEPTION_DETAIL;
    RETURN concat_ws(': ', SQLERRM, nullif(rtrim(told, '.'), ''));
END
$$;
REVOKE ALL ON FUNCTION leyser.publication_problem(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.publication_problem(regclass) IS
    'internal: why rows of a published table cannot be deleted, or NULL';

-- What about a table itself stops its step.
CREATE FUNCTION leyser.stopping_tables(steps leyser.purge_step[]) RETURNS SETOF leyser.purge_step
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT s.relation, s.relation_name, 'stop', NULL::text, NULL::text, NULL::integer, s.rows, s.bytes, p.note, p.name, p.hint
    FROM unnest(steps) s
    JOIN pg_class c ON c.oid = s.relation
    CROSS JOIN LATERAL (
        SELECT format('"%s" has access method "%s", whose pages cannot be scrubbed', s.relation_name, a.amname) AS note,
               NULL::name AS name, format('ALTER TABLE %s SET ACCESS METHOD heap;', s.relation_name) AS hint
            FROM pg_am a WHERE a.oid = c.relam AND a.amname <> 'heap'
        UNION ALL
        SELECT format('rule "%s" of "%s" changes what DELETE does', r.rulename, s.relation_name), r.rulename,
               format('ALTER TABLE %s DISABLE RULE %I; until the tenant is erased.', s.relation_name, r.rulename)
            FROM pg_rewrite r
            WHERE r.ev_class = s.relation AND r.ev_type = '4' AND r.ev_enabled IN ('O', 'A') AND s.rows > 0
        UNION ALL
        SELECT leyser.publication_problem(s.relation), NULL,
               format('ALTER TABLE %s REPLICA IDENTITY …; or take it out of the publication.', s.relation_name)
            WHERE s.rows > 0 AND EXISTS (SELECT FROM leyser.publications_of(s.relation) u WHERE u.deletes)
    ) p
    WHERE p.note IS NOT NULL
$$;
REVOKE ALL ON FUNCTION leyser.stopping_tables(leyser.purge_step[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.stopping_tables(leyser.purge_step[]) IS
    'internal: tables that a purge cannot delete from, or cannot scrub';
