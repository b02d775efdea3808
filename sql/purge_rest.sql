-- What a purge does besides deleting: materialized views that copy the tenant's
-- rows, what lies outside the database's reach, and what is kept.

-- Publications through which a table's changes go out, its own or an ancestor's.
CREATE FUNCTION leyser.publications_of(relation oid)
    RETURNS TABLE (publication name, deletes boolean, truncates boolean)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH above AS (
        SELECT c.oid, c.relnamespace FROM pg_class c WHERE c.relpersistence = 'p' AND (c.oid = publications_of.relation
            OR c.oid IN (SELECT p.relid FROM pg_partition_ancestors(publications_of.relation) p))
    )
    SELECT p.pubname, p.pubdelete, p.pubtruncate FROM pg_publication p
    WHERE p.puballtables AND EXISTS (SELECT FROM above)
       OR p.oid IN (SELECT r.prpubid FROM pg_publication_rel r JOIN above a ON a.oid = r.prrelid)
       OR p.oid IN (SELECT n.pnpubid FROM pg_publication_namespace n JOIN above a ON a.relnamespace = n.pnnspid)
$$;
REVOKE ALL ON FUNCTION leyser.publications_of(oid) FROM PUBLIC;
COMMENT ON FUNCTION leyser.publications_of(oid) IS
    'internal: the publications of a table, and whether they publish DELETE and TRUNCATE';

CREATE FUNCTION leyser.explain_as_owner(relation regclass, query text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_explain_as_owner';
REVOKE ALL ON FUNCTION leyser.explain_as_owner(regclass, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.explain_as_owner(regclass, text) IS
    'internal: plans a query with the rights of a relation''s owner, without a context';

-- Where REFRESH would run into row security, or a right that is missing.
CREATE FUNCTION leyser.refresh_problem(relation regclass) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leyser.explain_as_owner(relation, pg_get_viewdef(relation));
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RETURN format('its owner cannot refresh it: SQLSTATE %s', SQLSTATE);
END
$$;
REVOKE ALL ON FUNCTION leyser.refresh_problem(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.refresh_problem(regclass) IS
    'internal: why a materialized view cannot be refreshed, or NULL';

-- Views through which others read tables that are emptied count as well; what a
-- function reads is unknown to the catalogues.
CREATE FUNCTION leyser.refreshing_steps(emptied oid[]) RETURNS SETOF leyser.purge_step
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE touched (relation) AS (
        SELECT e.relation FROM unnest(emptied) e (relation)
        UNION SELECT i.inhparent FROM touched t JOIN pg_inherits i ON i.inhrelid = t.relation
    ), reading AS MATERIALIZED (
        SELECT DISTINCT d.refobjid AS source, r.ev_class AS reader FROM pg_depend d
        JOIN pg_rewrite r ON r.oid = d.objid AND r.ev_class <> d.refobjid
        JOIN pg_class c ON c.oid = r.ev_class AND c.relkind IN ('v', 'm')
        WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
    ), reader (relation) AS (
        SELECT r.reader FROM reading r JOIN touched t ON t.relation = r.source
        UNION SELECT r.reader FROM reader o JOIN reading r ON r.source = o.relation
    ), graph AS (
        SELECT (SELECT array_agg(r.relation::bigint ORDER BY r.relation::regclass::text COLLATE "C") FROM reader r) AS nodes,
               array_agg(r.source::bigint ORDER BY r.source::regclass::text COLLATE "C", r.reader::regclass::text COLLATE "C") AS earlier,
               array_agg(r.reader::bigint ORDER BY r.source::regclass::text COLLATE "C", r.reader::regclass::text COLLATE "C") AS later
        FROM reading r WHERE r.source IN (SELECT o.relation FROM reader o)
    )
    -- a view that is not refreshed here is scrubbed all the same; one that was emptied
    -- keeps the statistics of the rows that it had
    SELECT c.oid, CASE a.action WHEN 'confirm' THEN 'materialized view ' ELSE '' END || c.oid::regclass::text, a.action,
           NULL::text, NULL::text, NULL::integer, NULL::bigint, pg_total_relation_size(c.oid),
           CASE WHEN NOT c.relispopulated THEN 'it holds no rows, but perhaps statistics of former ones'
               WHEN a.action = 'refresh' THEN 'it reads tables that are emptied' WHEN a.action = 'scrub' THEN 'once that is confirmed'
               ELSE p.problem || '; refresh it yourself, then leyser.confirm_external_erasure() closes it' END, NULL::name, NULL::text
    FROM graph g
    CROSS JOIN LATERAL unnest(g.nodes, leyser.purge_order(g.nodes, coalesce(g.earlier, '{}'), coalesce(g.later, '{}'))) o (node, turn)
    JOIN pg_class c ON c.oid = o.node::oid AND c.relkind = 'm'
    CROSS JOIN LATERAL (SELECT CASE WHEN c.relispopulated THEN leyser.refresh_problem(c.oid) END) p (problem)
    CROSS JOIN LATERAL unnest(CASE WHEN NOT c.relispopulated THEN '{scrub}' WHEN p.problem IS NULL THEN '{refresh}' ELSE '{confirm,scrub}' END::text[]) WITH ORDINALITY a (action, place)
    ORDER BY o.turn, a.place
$$;
REVOKE ALL ON FUNCTION leyser.refreshing_steps(oid[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.refreshing_steps(oid[]) IS
    'internal: the materialized views that copy rows of tables that are emptied, in the order of their dependence';

-- Columns that name large objects: of type oid, or contrib's domain lo.
CREATE FUNCTION leyser.large_object_columns(relation regclass) RETURNS SETOF name
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.attname FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
      AND 'oid'::regtype IN (a.atttypid, t.typbasetype)
$$;
REVOKE ALL ON FUNCTION leyser.large_object_columns(regclass) FROM PUBLIC;
COMMENT ON FUNCTION leyser.large_object_columns(regclass) IS
    'internal: a table''s columns that may name large objects';

CREATE FUNCTION leyser.count_large_objects(relation regclass, condition text, tenant_id text) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
DECLARE
    found text := (SELECT string_agg(format(E'SELECT %I::pg_catalog.oid FROM ONLY %s WHERE (%s\n)', n, relation, condition), ' UNION ')
        FROM leyser.large_object_columns(relation) n);
BEGIN
    IF found IS NULL OR NOT EXISTS (SELECT FROM pg_largeobject_metadata) THEN
        RETURN 0;
    END IF;
    RETURN leyser.query_as_owner(relation, format(
        'SELECT count(*) FROM pg_catalog.pg_largeobject_metadata m WHERE m.oid IN (%s)', found), tenant_id)::bigint;
END
$$;
REVOKE ALL ON FUNCTION leyser.count_large_objects(regclass, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.count_large_objects(regclass, text, text) IS
    'internal: how many large objects a tenant''s rows of a table name';

-- What somebody has to confirm, by its name, before the tenant counts as erased.
CREATE FUNCTION leyser.confirming_steps(targets leyser.purge_target[], tenant_id text) RETURNS SETOF leyser.purge_step
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    WITH emptied AS (
        SELECT t.* FROM unnest(targets) t WHERE t.condition IS NOT NULL AND t.relkind = 'r'
    ), outside (relation, name, rows, note) AS (
        SELECT 'pg_largeobject'::regclass::oid, format('large objects of %s', e.relation_name), n.count, 'large objects that the tenant''s rows name; lo_unlink() them'
            FROM emptied e CROSS JOIN LATERAL leyser.count_large_objects(e.relation, e.condition, tenant_id) n (count)
            WHERE e.kind <> 'leyser' AND n.count > 0
        UNION ALL
        SELECT 0, format('foreign table %s', t.relation_name), NULL, 'its rows lie on another server'
            FROM unnest(targets) t WHERE t.relkind = 'f' AND t.kind IN ('own', 'own_and_global', 'by_rule')
        UNION ALL
        SELECT 0, format('publication %I', p.publication), NULL,
               CASE WHEN bool_and(p.deletes) THEN 'subscribers delete the rows, and keep the bytes'
                    ELSE 'subscribers keep the rows: it does not publish deletes' END
            FROM emptied e CROSS JOIN LATERAL leyser.publications_of(e.relation) p
            WHERE e.kind <> 'leyser' GROUP BY p.publication
        UNION ALL
        SELECT 0, format('subscription %I', s.subname), NULL, 'the publisher has the rows, and may send them again'
            FROM pg_subscription s JOIN pg_subscription_rel r ON r.srsubid = s.oid
            JOIN unnest(targets) e ON e.relation = r.srrelid AND e.condition IS NOT NULL GROUP BY s.subname
        UNION ALL
        SELECT 0, x.name, NULL, 'an external store'
            FROM leyser.external_store x
    )
    SELECT s.* FROM (
        SELECT o.relation, o.name, 'confirm', NULL::text, NULL::text, NULL::integer, o.rows, NULL::bigint,
               format('%s: %s; leyser.confirm_external_erasure() closes it', o.name, o.note), NULL::name, NULL::text
        FROM outside o
        -- what the tenant's rows still name is not gone, whatever was confirmed
        WHERE o.relation <> 0 OR NOT EXISTS (SELECT FROM leyser.external_erasure x
                                             WHERE x.tenant_id = confirming_steps.tenant_id AND x.name = o.name)
        ORDER BY o.name COLLATE "C") s
    UNION ALL
    SELECT DISTINCT o.relation, o.relation::regclass::text, 'scrub', NULL::text, NULL::text, NULL::integer, NULL::bigint,
           pg_total_relation_size(o.relation), 'once that is confirmed', NULL::name, NULL::text
    FROM outside o WHERE o.relation <> 0
    UNION ALL
    -- those that were unlinked before leave their bytes there
    SELECT 'pg_largeobject'::regclass::oid, 'pg_largeobject', 'scrub', NULL::text, NULL::text, NULL::integer, NULL::bigint,
           pg_total_relation_size('pg_largeobject'), 'for large objects that are unlinked already', NULL::name, NULL::text
    WHERE pg_relation_size('pg_largeobject') > 0 AND NOT EXISTS (SELECT FROM outside o WHERE o.relation <> 0)
      AND EXISTS (SELECT FROM emptied e, leyser.large_object_columns(e.relation) WHERE e.kind <> 'leyser')
$$;
REVOKE ALL ON FUNCTION leyser.confirming_steps(leyser.purge_target[], text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.confirming_steps(leyser.purge_target[], text) IS
    'internal: what a purge cannot erase itself, and waits to be confirmed';

CREATE FUNCTION leyser.keeping_steps(targets leyser.purge_target[], refreshed oid[]) RETURNS SETOF leyser.purge_step
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT k.relation, k.name, 'keep', NULL::text, NULL::text, NULL::integer, NULL::bigint, pg_total_relation_size(k.relation), k.note,
           NULL::name, NULL::text
    FROM (
        SELECT t.relation, t.relation_name, CASE
                WHEN t.tenant_attnum IS NOT NULL THEN 'its tenant column cannot hold this tenant''s id'
                WHEN t.kind IS NULL AND t.relkind = 'f' THEN 'a foreign table: its rows lie on another server'
                WHEN t.kind IS NULL THEN 'no kind is declared: whether it holds the tenant''s rows is unknown'
                ELSE t.kind || coalesce(': ' || t.reason, '') END
            FROM unnest(targets) t
            WHERE t.condition IS NULL AND (t.relkind = 'r' OR t.relkind = 'f' AND t.kind IS NULL)
        UNION ALL
        SELECT c.oid, c.oid::regclass::text, 'its query calls functions, which may read tables that are emptied; refresh it yourself'
            FROM pg_class c WHERE c.relkind = 'm' AND c.relispopulated AND c.oid <> ALL (refreshed)
              AND EXISTS (SELECT FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
                          WHERE r.ev_class = c.oid AND d.refclassid = 'pg_proc'::regclass)
        UNION ALL
        SELECT m.relation, m.name, 'a temporary child: it goes when the session that made it ends, which the purge waits for'
            FROM leyser.temporary_members() m
    ) k (relation, name, note)
    ORDER BY k.name COLLATE "C"
$$;
REVOKE ALL ON FUNCTION leyser.keeping_steps(leyser.purge_target[], oid[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.keeping_steps(leyser.purge_target[], oid[]) IS
    'internal: what a purge leaves as it is, and why';
