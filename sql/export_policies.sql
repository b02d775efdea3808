-- The way out: plain row security, which asks a setting for the tenant.
--
-- What is printed needs nothing of leyser.  It fails closed: without the setting, or
-- with an empty one, the comparison is NULL, and no row is seen or written.

-- The tenant as a value of the column's type.  As a subquery it is asked once a
-- statement; a default cannot have one.
CREATE FUNCTION leyser.setting_value(relation regclass, tenant_column name, setting text) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('NULLIF(pg_catalog.current_setting(%L, true), %L)%s', setting, '',
                  CASE leyser.getter_for(relation, tenant_column)
                      WHEN 'leyser.tenant_id_uuid()' THEN '::pg_catalog.uuid'
                      WHEN 'leyser.tenant_id_int8()' THEN '::pg_catalog.int8' ELSE '' END)
$$;
REVOKE ALL ON FUNCTION leyser.setting_value(regclass, name, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.setting_value(regclass, name, text) IS
    'internal: SQL for the tenant that a setting names; NULL without one';

-- A name that none of the table's own policies has.
CREATE FUNCTION leyser.free_policy_name(relation regclass, wanted text) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT n.name FROM (SELECT 0, wanted UNION ALL SELECT i, format('%s_%s', wanted, i) FROM generate_series(1, 1000) i) n (place, name)
    WHERE NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = relation AND p.polname = n.name)
    ORDER BY n.place LIMIT 1
$$;
REVOKE ALL ON FUNCTION leyser.free_policy_name(regclass, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.free_policy_name(regclass, text) IS 'internal: a name for another policy of a table';

CREATE FUNCTION leyser.plain_policies(governed leyser.table_record, setting text) RETURNS SETOF text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('ALTER TABLE ONLY %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;', governed.relation)
    UNION ALL
    SELECT format('CREATE POLICY %I ON %s AS RESTRICTIVE FOR %s', leyser.free_policy_name(governed.relation, replace(w.policy, 'leyser_', '')),
                  governed.relation, w.command)
           || coalesce(' USING (' || format(w.read_condition, c.comparison, quote_ident(governed.tenant_column)) || ')', '')
           || coalesce(' WITH CHECK (' || format(w.write_condition, c.comparison) || ')', '') || ';'
    FROM leyser.wanted_policies(governed.kind) w
    CROSS JOIN LATERAL (SELECT format('%I OPERATOR(pg_catalog.=) (SELECT %s)', governed.tenant_column,
        leyser.setting_value(governed.relation, governed.tenant_column, setting))) c (comparison)
    UNION ALL
    -- a permissive policy of the table's own stays, and lets in what it let in
    SELECT format('CREATE POLICY %I ON %s USING (true);', leyser.free_policy_name(governed.relation, 'tenant_rows'), governed.relation)
    WHERE NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = governed.relation AND p.polpermissive AND p.polname <> 'leyser_rows')
    UNION ALL
    SELECT format('ALTER TABLE ONLY %s ALTER COLUMN %I SET DEFAULT %s;', governed.relation, governed.tenant_column,
                  leyser.setting_value(governed.relation, governed.tenant_column, setting))
    WHERE governed.set_default
$$;
REVOKE ALL ON FUNCTION leyser.plain_policies(leyser.table_record, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.plain_policies(leyser.table_record, text) IS
    'internal: the statements that protect one table by a setting';

-- What plain row security has nothing for, as comments of one line.
CREATE FUNCTION leyser.plain_remarks(governed leyser.table_record) RETURNS SETOF text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    SELECT '-- ' || regexp_replace(r.remark, '[\n\r]', ' ', 'g') FROM (
        SELECT format('%s: permission %s%s is not asked for any longer', governed.relation, p.permission, p.what)
            FROM (VALUES (governed.read_permission, ' to read'), (governed.write_permission, ' to write')) p (permission, what)
            WHERE p.permission IS NOT NULL
        UNION ALL
        SELECT format('%s: its protection is in state %s; what follows enforces it', governed.relation, governed.enforcement)
            WHERE governed.tenant_attnum IS NOT NULL AND governed.enforcement <> 'enforce'
        UNION ALL
        SELECT format('%s: by rule, it has no row security: %s', governed.relation, governed.purge_condition) WHERE governed.kind = 'by_rule'
        UNION ALL
        SELECT format('%s: %s, it has no row security', governed.relation, governed.kind) WHERE governed.kind IN ('retained', 'ignored')
    ) r (remark)
$$;
REVOKE ALL ON FUNCTION leyser.plain_remarks(leyser.table_record) FROM PUBLIC;
COMMENT ON FUNCTION leyser.plain_remarks(leyser.table_record) IS
    'internal: what is lost on the way to plain row security, as SQL comments';

-- Everybody reads, the owner writes.
CREATE FUNCTION leyser.plain_shared(governed leyser.table_record) RETURNS SETOF text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT s.statement FROM pg_class c CROSS JOIN LATERAL (VALUES
        (format('ALTER TABLE ONLY %s ENABLE ROW LEVEL SECURITY;', governed.relation)),
        (format('CREATE POLICY %I ON %s FOR SELECT USING (true);', leyser.free_policy_name(governed.relation, 'shared_rows'), governed.relation))
    ) s (statement)
    WHERE c.oid = governed.relation AND NOT c.relrowsecurity
$$;
REVOKE ALL ON FUNCTION leyser.plain_shared(leyser.table_record) FROM PUBLIC;
COMMENT ON FUNCTION leyser.plain_shared(leyser.table_record) IS
    'internal: the statements by which a shared table is read by all and written by its owner; none where it has row security of its own';

CREATE FUNCTION leyser.export_policies(style text DEFAULT 'current_setting', setting text DEFAULT 'app.tenant_id') RETURNS SETOF text
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
#variable_conflict use_column
DECLARE
    governed leyser.table_record;
BEGIN
    IF export_policies.style IS DISTINCT FROM 'current_setting' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'unknown style of policies',
            DETAIL = 'The one that is known is current_setting.', HINT = 'Leave the argument out.';
    END IF;
    -- a custom setting, as the server takes its names; not one of ours, which goes
    IF export_policies.setting IS NULL OR export_policies.setting !~ '^[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)+$'
            OR export_policies.setting ~* '^leyser\.' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid name of a setting',
            DETAIL = 'It is two or more words of letters, digits and underscores, with dots between them, and not leyser''s.',
            HINT = 'For example setting => ''app.tenant_id''.';
    END IF;
    FOR governed IN SELECT t.* FROM leyser.table_record t ORDER BY t.relation::text COLLATE "C" LOOP
        RETURN QUERY SELECT r.* FROM leyser.plain_remarks(governed) r;
        IF governed.tenant_attnum IS NOT NULL THEN
            RETURN QUERY SELECT p.* FROM leyser.plain_policies(governed, export_policies.setting) p;
        ELSIF governed.kind = 'shared' THEN
            RETURN QUERY SELECT p.* FROM leyser.plain_shared(governed) p;
        END IF;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.export_policies(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.export_policies(text, text) IS
    'operator: SQL, a statement or a comment a row, that protects the governed tables by plain row security which compares the tenant column with a setting: to be kept, and run once unprotect_all() and DROP EXTENSION have made room; style is current_setting; without the setting no row is seen; changes nothing; 22023 for another style or a setting that cannot be';
