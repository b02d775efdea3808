-- Security checks: what makes statements slow under the policies, so that people look for
-- a way around them.

CREATE FUNCTION leyser.performance_rules()
    RETURNS TABLE (check_id text, severity text, fails text, what text, why text, example text, remedy text)
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $rules$
    VALUES
    ('performance.no_index', 'low', 'none', 'A protected table of more than a megabyte has no index that begins with the tenant column.',
     'Each tenant''s statement reads all tenants'' rows.',
     'CREATE TABLE shop.big (tenant_id bigint NOT NULL, note text); INSERT INTO shop.big SELECT 1, repeat(''x'', 400) FROM generate_series(1, 4000); ANALYZE shop.big; SELECT leyser.protect(''shop.big'');',
     'CREATE INDEX CONCURRENTLY ON … (tenant column);'),
    ('performance.not_leakproof', 'low', 'none', 'An index begins with a column whose comparison is not leakproof.',
     'Below row security such a condition is checked after the tenant''s, and the index cannot help.',
     'CREATE INDEX amounts ON shop.invoice (amount);', 'CREATE INDEX CONCURRENTLY ON … (tenant column, …); DROP INDEX CONCURRENTLY …;'),
    ('performance.policy_volatile', 'low', 'none', 'A policy of a protected table calls a volatile function.',
     'It is called for each row, and no index can help.',
     'CREATE FUNCTION shop.floor_amount() RETURNS numeric LANGUAGE sql PARALLEL SAFE AS ''SELECT 0.0''; CREATE POLICY above ON shop.invoice AS RESTRICTIVE USING (amount > shop.floor_amount());',
     'ALTER ROUTINE … STABLE;'),
    ('performance.policy_parallel', 'low', 'none', 'A policy of a protected table calls a function that stops parallel plans.',
     'No scan of the table is parallel any more, whoever asks.',
     'CREATE FUNCTION shop.floor_amount() RETURNS numeric LANGUAGE sql STABLE AS ''SELECT 0.0''; CREATE POLICY above ON shop.invoice AS RESTRICTIVE USING (amount > shop.floor_amount());',
     'ALTER ROUTINE … PARALLEL SAFE;'),
    ('performance.foreign_key', 'low', 'none', 'A protected table has no index for a foreign key.',
     'Deleting the rows that it refers to, by an application or a purge, reads the whole table each time.',
     'DROP INDEX shop.line_tenant_id_invoice_id_idx;', 'CREATE INDEX CONCURRENTLY ON … (…);'),
    ('performance.statistics', 'low', 'none', 'A protected table of more than a megabyte was never analyzed.',
     'The planner does not know how many rows a tenant has.',
     'CREATE TABLE shop.big (tenant_id bigint NOT NULL, note text); CREATE INDEX ON shop.big (tenant_id); INSERT INTO shop.big SELECT 1, repeat(''x'', 400) FROM generate_series(1, 4000); SELECT leyser.protect(''shop.big'');',
     'ANALYZE …;'),
    ('performance.invalid_index', 'low', 'none', 'A protected table has an index that is not valid.',
     'It was broken off while it was built: it costs, and helps nobody.',
     'CREATE INDEX broken ON shop.invoice (tenant_id, number); UPDATE pg_index SET indisvalid = false WHERE indexrelid = ''shop.broken''::regclass;',
     'DROP INDEX CONCURRENTLY …;')
$rules$;
REVOKE ALL ON FUNCTION leyser.performance_rules() FROM PUBLIC;
COMMENT ON FUNCTION leyser.performance_rules() IS 'internal: rules of the security check, family performance';

CREATE FUNCTION leyser.performance_findings() RETURNS TABLE (check_id text, object text, finding text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH member AS MATERIALIZED (
        SELECT t.*, CASE WHEN t.relkind = 'r' AND (t.reltuples < 0 OR t.relpages > 64) THEN pg_relation_size(t.relation) > 1048576 ELSE false END AS is_big,
               CASE WHEN t.relkind = 'r' THEN ' CONCURRENTLY' ELSE '' END AS online
        FROM leyser.check_table t
    ), function AS MATERIALIZED (
        SELECT p.oid, p.oid::regprocedure::text AS name, p.provolatile, p.proparallel, string_agg(DISTINCT m.name, ', ') AS tables
        FROM pg_policy y JOIN member m ON m.relation = y.polrelid
        JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = y.oid AND d.refclassid = 'pg_proc'::regclass
        JOIN pg_proc p ON p.oid = d.refobjid AND p.pronamespace <> 'leyser'::regnamespace GROUP BY p.oid
    )
    SELECT 'performance.no_index', 'table ' || m.name, 'Each statement reads all tenants'' rows.', format('CREATE INDEX%s ON %s (%I);', m.online, m.name, m.tenant_column)
    FROM member m WHERE m.is_big AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = m.relation AND i.indisvalid AND i.indkey[0] = m.tenant_attnum AND i.indpred IS NULL)
    UNION ALL
    SELECT 'performance.not_leakproof', 'index ' || i.indexrelid::regclass, format('It cannot be used below row security: %s is not leakproof.', o.oprcode::regproc),
           format('CREATE INDEX%1$s ON %2$s (%3$I, %4$s)%5$s; DROP INDEX%1$s %6$s;', m.online, m.name, m.tenant_column,
                  (SELECT string_agg(pg_get_indexdef(i.indexrelid, k, true), ', ' ORDER BY k) FROM generate_series(1, i.indnkeyatts) k),
                  ' WHERE ' || pg_get_expr(i.indpred, i.indrelid), i.indexrelid::regclass)
    FROM pg_index i JOIN member m ON m.relation = i.indrelid AND i.indkey[0] <> m.tenant_attnum AND NOT m.relispartition
    JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am a ON a.oid = x.relam AND a.amname = 'btree'
    JOIN pg_opclass c ON c.oid = i.indclass[0]
    JOIN pg_amop s ON s.amopfamily = c.opcfamily AND s.amopstrategy = 3 AND s.amoplefttype = c.opcintype AND s.amoprighttype = c.opcintype
    JOIN pg_operator o ON o.oid = s.amopopr JOIN pg_proc p ON p.oid = o.oprcode AND NOT p.proleakproof
    LEFT JOIN pg_attribute f ON f.attrelid = i.indrelid AND f.attnum = i.indkey[0]
    WHERE i.indisvalid AND NOT i.indisunique
      -- where the index is for one value of its first column, the others find rows in it
      AND (i.indnkeyatts > 1 AND strpos(pg_get_expr(i.indpred, i.indrelid), format('(%I = ', f.attname)) > 0) IS NOT TRUE
    UNION ALL
    SELECT 'performance.policy_volatile', 'function ' || f.name, format('Policies of %s call it.', f.tables), format('ALTER ROUTINE %s STABLE;', f.name)
    FROM function f WHERE f.provolatile = 'v'
    UNION ALL
    SELECT 'performance.policy_parallel', 'function ' || f.name, format('Policies of %s call it.', f.tables), format('ALTER ROUTINE %s PARALLEL SAFE;', f.name)
    FROM function f WHERE f.proparallel = 'u'
    UNION ALL
    SELECT 'performance.foreign_key', format('constraint %I on %s', k.conname, m.name), 'No index begins with its columns.',
           format('CREATE INDEX%s ON %s (%s);', m.online, m.name, (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY u.n) FROM unnest(w.columns) WITH ORDINALITY u (num, n)
                  JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num))
    FROM pg_constraint k JOIN member m ON m.relation = k.conrelid
    -- a key that is to carry the tenant column (widen.foreign_key) needs an index with it
    CROSS JOIN LATERAL (SELECT CASE WHEN NOT m.tenant_attnum = ANY (k.conkey) AND EXISTS (SELECT FROM member o WHERE o.relation = k.confrelid)
                                    THEN m.tenant_attnum || k.conkey ELSE k.conkey END AS columns) w
    WHERE k.contype = 'f' AND k.conparentid = 0
      AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = k.conrelid AND i.indisvalid AND i.indpred IS NULL
                      AND ((i.indkey::smallint[])[0:cardinality(k.conkey) - 1] @> k.conkey OR (i.indkey::smallint[])[0:cardinality(w.columns) - 1] @> w.columns))
    UNION ALL
    SELECT 'performance.statistics', 'table ' || m.name, 'It was never analyzed.', format('ANALYZE %s;', m.name)
    FROM member m WHERE m.is_big AND m.reltuples < 0
    UNION ALL
    SELECT 'performance.invalid_index', 'index ' || i.indexrelid::regclass, format('It is an index of %s.', m.name), format('DROP INDEX%s %s;', m.online, i.indexrelid::regclass)
    FROM pg_index i JOIN member m ON m.relation = i.indrelid AND m.relkind = 'r' WHERE NOT i.indisvalid
$$;
REVOKE ALL ON FUNCTION leyser.performance_findings() FROM PUBLIC;
COMMENT ON FUNCTION leyser.performance_findings() IS 'internal: what family performance finds';
