-- Security checks: what widens what somebody may see or do.

CREATE FUNCTION leyser.widen_rules()
    RETURNS TABLE (check_id text, severity text, fails text, what text, why text, example text, remedy text)
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $rules$
    VALUES
    ('widen.permissive_beside', 'high', 'open', 'A permissive policy stands beside leyser_rows.',
     'Permissive policies are OR-ed: it restricts nothing, whatever it says.',
     'SET LOCAL leyser.guards = off; CREATE POLICY small ON shop.invoice USING (amount < 100);', 'DROP POLICY …; CREATE POLICY … AS RESTRICTIVE …;'),
    ('widen.permissive_true', 'high', 'open', 'A permissive policy that is always true makes others void.',
     'Permissive policies are OR-ed: the others restrict nothing.',
     'ALTER TABLE shop.ledger ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON shop.ledger USING (id < 100); CREATE POLICY anybody ON shop.ledger USING (true);',
     'DROP POLICY … ON …;'),
    ('widen.policy_setting', 'high', 'open', 'A policy trusts a setting that everybody can set.',
     'Whoever can send a statement, or inject one, is whichever tenant it likes.',
     'CREATE TABLE shop.job (tenant_id bigint NOT NULL); ALTER TABLE shop.job ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON shop.job USING (tenant_id = current_setting(''app.tenant'')::bigint);',
     'SELECT leyser.protect(…);'),
    ('widen.policy_without_rls', 'high', 'open', 'A table has policies, and row security is switched off.',
     'Policies that are not applied restrict nobody.',
     'CREATE POLICY few ON shop.ledger USING (id < 100);', 'ALTER TABLE … ENABLE ROW LEVEL SECURITY;'),
    ('widen.no_policy', 'low', 'closed', 'A declared table has row security and no policy.',
     'Nobody but its owner sees a row.',
     'ALTER TABLE shop.country ENABLE ROW LEVEL SECURITY;', 'ALTER TABLE … DISABLE ROW LEVEL SECURITY;'),
    ('widen.foreign_key', 'high', 'open', 'A foreign key between protected tables leaves out the tenant columns.',
     'A tenant can refer to another one''s row, and ON DELETE and ON UPDATE reach across.',
     'CREATE UNIQUE INDEX ON shop.invoice (id); SET leyser.guards = off; ALTER TABLE shop.line ADD CONSTRAINT line_invoice FOREIGN KEY (invoice_id) REFERENCES shop.invoice (id); RESET leyser.guards;',
     'ALTER TABLE … ADD FOREIGN KEY (tenant column, …) REFERENCES … (tenant column, …); ALTER TABLE … DROP CONSTRAINT …;'),
    ('widen.create_in_schema', 'high', 'open', 'Everybody, or an application, may create objects in a schema.',
     'What it creates there can be taken for what others mean.',
     'SET LOCAL leyser.guards = off; GRANT CREATE ON SCHEMA shop TO app;', 'REVOKE CREATE ON SCHEMA … FROM …;'),
    ('widen.create_in_database', 'medium', 'open', 'Everybody, or an application, may create schemas.',
     'A schema of its own holds functions and tables of its own.',
     'SET LOCAL leyser.guards = off; DO $d$ BEGIN EXECUTE format(''GRANT CREATE ON DATABASE %I TO app'', current_database()); END $d$;',
     'REVOKE CREATE ON DATABASE … FROM …;'),
    ('widen.grant_option', 'medium', 'open', 'Somebody whom row security binds may pass on its rights on a protected table.',
     'Who reaches the table is no longer decided by its owner.',
     'GRANT SELECT ON shop.invoice TO reader WITH GRANT OPTION;', 'REVOKE GRANT OPTION FOR ALL ON … FROM … CASCADE;'),
    ('widen.public_grant', 'medium', 'open', 'Everybody has rights on a protected table.',
     'Each role that is made later has them, too.',
     'GRANT SELECT ON shop.invoice TO PUBLIC;', 'REVOKE ALL ON … FROM PUBLIC;'),
    ('widen.default_privileges', 'medium', 'open', 'Tables that are made later are open to everybody, or to an application for more than rows.',
     'Nobody looks at rights that come by themselves.',
     'ALTER DEFAULT PRIVILEGES FOR ROLE keeper IN SCHEMA shop GRANT ALL ON TABLES TO app;', 'ALTER DEFAULT PRIVILEGES FOR ROLE … REVOKE … ON TABLES FROM …;'),
    ('widen.trigger_right', 'high', 'open', 'Somebody whom row security binds has the right TRIGGER on a protected table.',
     'A trigger of its own runs in other users'' statements, with their rights.',
     'GRANT TRIGGER ON shop.invoice TO reader;', 'REVOKE TRIGGER ON … FROM …;'),
    ('widen.foreign_function', 'high', 'open', 'A protected table runs a function that belongs to another role than its owner.',
     'Indexes, checks, defaults, triggers and policies run it on every tenant''s rows, and its owner can put another one in its place.',
     'CREATE FUNCTION shop.twice(numeric) RETURNS numeric IMMUTABLE LANGUAGE sql AS ''SELECT $1 * 2''; ALTER FUNCTION shop.twice(numeric) OWNER TO reader; CREATE INDEX ON shop.invoice (tenant_id, shop.twice(amount));',
     'ALTER ROUTINE … OWNER TO …;'),
    ('widen.createrole', 'high', 'open', 'Somebody whom row security binds has CREATEROLE.',
     'Up to version 15 it gives itself any role that is no superuser, later those that it made or administers.',
     'CREATE ROLE helpdesk LOGIN CREATEROLE;', 'ALTER ROLE … NOCREATEROLE;'),
    ('widen.context_switch', 'high', 'open', 'A transaction may change its tenant.',
     'leyser.context_switch = allow is for test databases: a hole in an application reaches the next tenant in the same transaction.',
     'ALTER ROLE app SET leyser.context_switch = allow;', 'ALTER ROLE … RESET leyser.context_switch;'),
    ('widen.context_hidden', 'low', 'closed', 'A missing context is hidden instead of refused.',
     'Tables look empty, and nobody notices that a statement forgot its tenant.',
     'ALTER ROLE app SET leyser.on_missing_context = hide;', 'ALTER ROLE … RESET leyser.on_missing_context;')
$rules$;
REVOKE ALL ON FUNCTION leyser.widen_rules() FROM PUBLIC;
COMMENT ON FUNCTION leyser.widen_rules() IS 'internal: rules of the security check, family widen';

CREATE FUNCTION leyser.widen_policy_findings() RETURNS TABLE (check_id text, object text, finding text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    WITH policy AS MATERIALIZED (
        SELECT p.polname, p.polrelid, p.polrelid::regclass::text AS name, p.polpermissive, p.polcmd, c.relrowsecurity, t.relation IS NOT NULL AS is_protected, t.enforcement,
               pg_get_expr(p.polqual, p.polrelid) AS read_condition, pg_get_expr(p.polwithcheck, p.polrelid) AS write_condition,
               CASE p.polcmd WHEN '*' THEN 'ALL' WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' ELSE 'DELETE' END AS command,
               (SELECT string_agg(leyser.role_word(r.role), ', ') FROM unnest(p.polroles) r (role)) AS roles
        FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN leyser.check_schema n ON n.oid = c.relnamespace
        LEFT JOIN leyser.check_table t ON t.relation = p.polrelid
        WHERE NOT (t.relation IS NOT NULL AND starts_with(p.polname, 'leyser_'))
    )
    SELECT 'widen.permissive_beside', format('policy %I on %s', p.polname, p.name), 'It restricts nothing beside "leyser_rows".',
           format('DROP POLICY %1$I ON %2$s; CREATE POLICY %1$I ON %2$s AS RESTRICTIVE FOR %3$s TO %4$s', p.polname, p.name, p.command, p.roles)
               || coalesce(' USING (' || p.read_condition || ')', '') || coalesce(' WITH CHECK (' || p.write_condition || ')', '') || ';'
    FROM policy p WHERE p.polpermissive AND p.is_protected
      AND EXISTS (SELECT FROM pg_policy o WHERE o.polrelid = p.polrelid AND o.polname = 'leyser_rows' AND o.polpermissive)
    UNION ALL
    SELECT 'widen.permissive_true', format('policy %I on %s', p.polname, p.name), format('It makes %s void.', string_agg(format('"%s"', o.polname), ', ')),
           format('DROP POLICY %I ON %s;', p.polname, p.name)
    FROM policy p JOIN policy o ON o.polrelid = p.polrelid AND o.polpermissive AND o.polname <> p.polname AND (o.polcmd = p.polcmd OR '*' IN (o.polcmd, p.polcmd))
    WHERE p.polpermissive AND p.read_condition = 'true' AND o.read_condition <> 'true'
    GROUP BY p.polname, p.name
    UNION ALL
    SELECT 'widen.policy_setting', format('policy %I on %s', p.polname, p.name), 'It compares rows with a setting.',
           CASE WHEN a.attname IS NOT NULL THEN format('SELECT leyser.protect(%L, %L);', p.name, a.attname) ELSE format('SELECT * FROM leyser.protect_plan(%L);', p.name) END
    FROM policy p
    LEFT JOIN LATERAL (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = p.polrelid AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull
                       AND coalesce(p.read_condition, p.write_condition) ~ ('\m' || a.attname || '\M') ORDER BY a.attnum LIMIT 1) a ON true
    WHERE concat(p.read_condition, p.write_condition) LIKE '%current_setting(%' AND (NOT p.is_protected OR p.enforcement = 'observe')
    UNION ALL
    SELECT DISTINCT 'widen.policy_without_rls', 'table ' || p.name, 'Its policies are not applied.', format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY;', p.name)
    FROM policy p WHERE NOT p.relrowsecurity AND NOT p.is_protected
    UNION ALL
    SELECT 'widen.no_policy', 'table ' || t.relation, format('It is %s, and nobody sees a row.', t.kind), format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY;', t.relation)
    FROM leyser.table_record t JOIN pg_class c ON c.oid = t.relation AND c.relrowsecurity
    WHERE t.tenant_attnum IS NULL AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = t.relation AND p.polpermissive)
    UNION ALL
    SELECT 'widen.foreign_key', format('constraint %I on %s', k.conname, t.name), format('It refers to %s without the tenant columns.', o.name),
           CASE WHEN o.kind = 'own' THEN
               -- several keys may need the same index
               regexp_replace(g.remedy, '^CREATE UNIQUE INDEX( CONCURRENTLY)? ON', format('CREATE UNIQUE INDEX\1 IF NOT EXISTS %I ON',
                              left(o.relname, 40) || '_tenant_' || left(md5(k.confkey::text), 6)))
           ELSE '-- with the tenant columns it could not refer to rows of all tenants: protect the table as kind own where it has none, or refer to those by a column of their own' END
    FROM pg_constraint k JOIN leyser.check_table t ON t.relation = k.conrelid JOIN leyser.check_table o ON o.relation = k.confrelid
    CROSS JOIN LATERAL leyser.foreign_key_gaps(t.relation, t.tenant_attnum) g
    WHERE k.contype = 'f' AND k.conparentid = 0 AND g.constraint_name = k.conname
      AND NOT EXISTS (SELECT FROM unnest(k.conkey, k.confkey) c (child, parent) WHERE c.child = t.tenant_attnum AND c.parent = o.tenant_attnum)
$$;
REVOKE ALL ON FUNCTION leyser.widen_policy_findings() FROM PUBLIC;
COMMENT ON FUNCTION leyser.widen_policy_findings() IS 'internal: what family widen finds about policies and foreign keys';

CREATE FUNCTION leyser.widen_right_findings() RETURNS TABLE (check_id text, object text, finding text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH access AS MATERIALIZED (
        SELECT DISTINCT t.name, x.privilege, x.grantee, x.is_grantable, leyser.role_word(x.grantee) AS grantee_name
        FROM leyser.check_access() x JOIN leyser.check_table t ON t.relation = x.relation WHERE NOT x.is_owner
    ), application_role AS MATERIALIZED (
        SELECT DISTINCT h.role FROM leyser.check_reach h JOIN leyser.check_actor a ON a.actor = h.actor AND a.is_application
        UNION SELECT 0
    ), datdba AS (
        SELECT d.datname, d.datdba, d.datacl, quote_ident(pg_get_userbyid(d.datdba)) AS owner FROM pg_database d WHERE d.datname = current_database()
    )
    SELECT 'widen.create_in_schema', 'schema ' || n.nspname, format('%s may create objects there.', string_agg(DISTINCT leyser.role_word(x.grantee), ', ')),
           concat(CASE WHEN bool_or(x.grantee = n.nspowner) THEN format('ALTER SCHEMA %I OWNER TO %s; ', n.nspname, min(d.owner)) END,
                  'REVOKE CREATE ON SCHEMA ' || quote_ident(n.nspname) || ' FROM ' || string_agg(DISTINCT leyser.role_word(x.grantee), ', ') FILTER (WHERE x.grantee <> n.nspowner) || ';')
    FROM leyser.check_schema n CROSS JOIN datdba d CROSS JOIN LATERAL aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) x
    WHERE x.privilege_type = 'CREATE' AND x.grantee IN (SELECT r.role FROM application_role r) GROUP BY n.nspname
    UNION ALL
    SELECT 'widen.create_in_database', 'database ' || d.datname, format('%s may create schemas there.', string_agg(DISTINCT leyser.role_word(x.grantee), ', ')),
           format('REVOKE CREATE ON DATABASE %I FROM %s;', d.datname, string_agg(DISTINCT leyser.role_word(x.grantee), ', '))
    FROM datdba d CROSS JOIN LATERAL aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) x
    WHERE x.privilege_type = 'CREATE' AND x.grantee <> d.datdba AND x.grantee IN (SELECT r.role FROM application_role r) GROUP BY d.datname
    UNION ALL
    SELECT 'widen.grant_option', 'table ' || a.name, format('%s may pass rights on.', string_agg(DISTINCT a.grantee_name, ', ')),
           format('REVOKE GRANT OPTION FOR ALL ON %s FROM %s CASCADE;', a.name, string_agg(DISTINCT a.grantee_name, ', '))
    FROM access a WHERE a.is_grantable GROUP BY a.name
    UNION ALL
    SELECT 'widen.public_grant', 'table ' || a.name, format('Everybody has %s.', string_agg(DISTINCT a.privilege, ', ')), format('REVOKE ALL ON %s FROM PUBLIC;', a.name)
    FROM access a WHERE a.grantee = 0 GROUP BY a.name
    UNION ALL
    SELECT 'widen.trigger_right', 'table ' || a.name, format('%s may create triggers.', string_agg(DISTINCT a.grantee_name, ', ')),
           format('REVOKE TRIGGER ON %s FROM %s;', a.name, string_agg(DISTINCT a.grantee_name, ', '))
    FROM access a WHERE a.privilege = 'TRIGGER' GROUP BY a.name
    UNION ALL
    SELECT 'widen.default_privileges', format('default privileges of %s%s', o.rolname, ' in ' || n.nspname), format('Later tables are given to %s for %s.', g.grantee, g.privileges),
           format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s REVOKE %s ON TABLES FROM %s;', o.rolname, ' IN SCHEMA ' || quote_ident(n.nspname), g.privileges, g.grantee)
    FROM pg_default_acl d JOIN pg_roles o ON o.oid = d.defaclrole LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
    CROSS JOIN LATERAL (SELECT leyser.role_word(x.grantee) AS grantee, string_agg(x.privilege_type, ', ') AS privileges FROM aclexplode(d.defaclacl) x
        WHERE x.grantee = 0 OR x.grantee IN (SELECT r.role FROM application_role r) AND x.privilege_type IN ('TRUNCATE', 'REFERENCES', 'TRIGGER') GROUP BY x.grantee) g
    WHERE d.defaclobjtype = 'r'
    UNION ALL
    SELECT 'widen.createrole', 'role ' || r.rolname, format('%s can make and change roles.', string_agg(DISTINCT quote_ident(a.rolname), ', ')), format('ALTER ROLE %I NOCREATEROLE;', r.rolname)
    FROM pg_roles r JOIN leyser.check_reach h ON h.role = r.oid JOIN leyser.check_actor a ON a.actor = h.actor WHERE r.rolcreaterole GROUP BY r.rolname
    UNION ALL
    SELECT 'widen.context_switch', s.object, 'A transaction may change its tenant.', leyser.setting_remedy(s, 'refuse')
    FROM leyser.check_setting s WHERE s.name = 'leyser.context_switch' AND s.value = 'allow'
    UNION ALL
    SELECT 'widen.context_hidden', s.object, 'A missing context is not refused.', leyser.setting_remedy(s, 'error')
    FROM leyser.check_setting s WHERE s.name = 'leyser.on_missing_context' AND s.value = 'hide'
$$;
REVOKE ALL ON FUNCTION leyser.widen_right_findings() FROM PUBLIC;
COMMENT ON FUNCTION leyser.widen_right_findings() IS 'internal: what family widen finds about rights and settings';

-- What the owner of a table, and everybody in its rows, runs without having written it.
CREATE FUNCTION leyser.widen_function_findings() RETURNS TABLE (check_id text, object text, finding text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH part AS (
        SELECT 'pg_class'::regclass AS class, i.indexrelid AS oid, i.indrelid AS relation FROM pg_index i
        UNION ALL SELECT 'pg_constraint'::regclass, k.oid, k.conrelid FROM pg_constraint k WHERE k.contype = 'c'
        UNION ALL SELECT 'pg_attrdef'::regclass, d.oid, d.adrelid FROM pg_attrdef d
        UNION ALL SELECT 'pg_policy'::regclass, p.oid, p.polrelid FROM pg_policy p
        UNION ALL SELECT 'pg_trigger'::regclass, g.oid, g.tgrelid FROM pg_trigger g WHERE NOT g.tgisinternal
    )
    SELECT 'widen.foreign_function', format('function %s', f.oid::regprocedure), format('It belongs to %s, and %s run it.', r.rolname, string_agg(DISTINCT t.name, ', ')),
           format('ALTER ROUTINE %s OWNER TO %s;', f.oid::regprocedure, min(t.relowner::regrole::text))
    FROM part p JOIN leyser.check_table t ON t.relation = p.relation
    JOIN pg_depend d ON d.classid = p.class AND d.objid = p.oid AND d.refclassid = 'pg_proc'::regclass
    JOIN pg_proc f ON f.oid = d.refobjid JOIN leyser.check_schema n ON n.oid = f.pronamespace
    JOIN pg_roles r ON r.oid = f.proowner
    WHERE f.proowner <> t.relowner AND NOT r.rolsuper
    GROUP BY f.oid, r.rolname
$$;
REVOKE ALL ON FUNCTION leyser.widen_function_findings() FROM PUBLIC;
COMMENT ON FUNCTION leyser.widen_function_findings() IS 'internal: what family widen finds about functions that tables run';
