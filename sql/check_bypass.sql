-- Security checks: who bypasses row security.

CREATE FUNCTION leyser.bypass_rules()
    RETURNS TABLE (check_id text, severity text, fails text, what text, why text, example text, remedy text)
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $rules$
    VALUES
    ('bypass.row_security_off', 'critical', 'open', 'Row security of a protected table is switched off.',
     'Policies that are not applied separate nobody.',
     'SET LOCAL leyser.guards = off; ALTER TABLE shop.invoice DISABLE ROW LEVEL SECURITY;', 'ALTER TABLE … ENABLE ROW LEVEL SECURITY;'),
    ('bypass.not_forced', 'critical', 'open', 'Row security of a protected table is not forced on its owner.',
     'Owners run migrations and jobs, and would see every tenant''s rows.',
     'SET LOCAL leyser.guards = off; ALTER TABLE shop.invoice NO FORCE ROW LEVEL SECURITY;', 'ALTER TABLE … FORCE ROW LEVEL SECURITY;'),
    ('bypass.policy_changed', 'critical', 'open', 'A tenant''s policy of a protected table is missing or was changed.',
     'The restrictive policy is the separation; whatever else is there only narrows it.',
     'SET LOCAL leyser.guards = off; ALTER POLICY leyser_tenant ON shop.invoice USING (true);', 'SELECT leyser.protect(…);'),
    ('bypass.permission_policy_changed', 'high', 'open', 'A policy that asks for a permission is missing or was changed.',
     'Accounts would read or write what they have no permission for, within their tenant.',
     'SET LOCAL leyser.guards = off; DROP POLICY leyser_permission_read ON shop.payment;', 'SELECT leyser.protect(…);'),
    ('bypass.observed', 'medium', 'open', 'A table is only observed: nothing is refused.',
     'Observation is a step on the way; it shows gaps and closes none.',
     'CREATE TABLE shop.draft (tenant_id bigint NOT NULL); SELECT leyser.protect(''shop.draft'', enforcement => ''observe'');',
     'SELECT leyser.protect(…, enforcement => ''enforce'');'),
    ('bypass.suspended', 'high', 'open', 'The protection of a table is suspended.',
     'Until the suspension ends, transactions without a context read and write all rows.',
     'SELECT leyser.suspend_protection(''shop.invoice'', ''a repair'', ''1 hour'');', 'SELECT leyser.protect(…, enforcement => ''enforce'');'),
    ('bypass.superuser', 'high', 'open', 'A login besides the server''s first one is a superuser.',
     'Row security does not bind superusers, and they can switch everything off.',
     'CREATE ROLE second LOGIN SUPERUSER;', 'ALTER ROLE … NOSUPERUSER;'),
    ('bypass.bypassrls', 'high', 'open', 'A role has BYPASSRLS.',
     'Row security does not bind it, whatever the tables say.',
     'CREATE ROLE reporting LOGIN BYPASSRLS;', 'ALTER ROLE … NOBYPASSRLS;'),
    ('bypass.becomes', 'critical', 'open', 'A role is a member of one that row security does not bind.',
     'SET ROLE is all it takes, through however many memberships.',
     'CREATE ROLE dba NOLOGIN SUPERUSER; GRANT dba TO reader;', 'REVOKE … FROM …;'),
    ('bypass.owner', 'critical', 'open', 'An application can become the owner of a protected table.',
     'Owners change and drop what they own.',
     'SET LOCAL leyser.guards = off; GRANT keeper TO app;', 'ALTER TABLE … OWNER TO …;')
$rules$;
REVOKE ALL ON FUNCTION leyser.bypass_rules() FROM PUBLIC;
COMMENT ON FUNCTION leyser.bypass_rules() IS 'internal: rules of the security check, family bypass, about tables and roles';

-- The words of a policy's condition, without what the server adds in printing it.
CREATE FUNCTION leyser.bare_condition(printed text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$ SELECT ltrim(regexp_replace(regexp_replace(printed, '[()]|::[a-z ]+(?= = )', '', 'g'), '[[:space:]]+', ' ', 'g')) $$;
REVOKE ALL ON FUNCTION leyser.bare_condition(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.bare_condition(text) IS
    'internal: a policy''s condition without parentheses, casts and line breaks';

-- Each policy that a protected table should have, with what it should say; a suspended
-- table's is judged one by one, and there are few.
CREATE FUNCTION leyser.changed_policies() RETURNS TABLE (relation oid, name text, policy name)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH wanted AS MATERIALIZED (
        SELECT k.kind, w.* FROM unnest('{own,own_and_global}'::text[]) k (kind), leyser.wanted_policies(k.kind) w
    ), protected AS MATERIALIZED (
        SELECT t.*, format('%I = leyser.tenant_id%s()', t.tenant_column,
                   CASE WHEN y.typtype = 'd' THEN substr(leyser.getter_for(t.relation, t.tenant_column), 17, length(leyser.getter_for(t.relation, t.tenant_column)) - 18)
                        WHEN y.oid = 'uuid'::regtype THEN '_uuid' WHEN y.typcategory = 'N' THEN '_int8' ELSE '' END) AS comparison
        FROM leyser.check_table t
        JOIN pg_attribute a ON a.attrelid = t.relation AND a.attnum = t.tenant_attnum JOIN pg_type y ON y.oid = a.atttypid
        WHERE t.enforcement = 'enforce'
    ), printed AS MATERIALIZED (
        SELECT p.polrelid, p.polname, leyser.bare_condition(pg_get_expr(p.polqual, p.polrelid)) AS read_condition,
               leyser.bare_condition(pg_get_expr(p.polwithcheck, p.polrelid)) AS write_condition,
               CASE p.polcmd WHEN '*' THEN 'ALL' WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' ELSE 'DELETE' END AS command
        FROM pg_policy p WHERE starts_with(p.polname, 'leyser_tenant') AND NOT p.polpermissive AND p.polroles = '{0}'
    )
    SELECT t.relation, t.name, w.policy FROM protected t JOIN wanted w ON w.kind = t.kind
    LEFT JOIN printed p ON p.polrelid = t.relation AND p.polname = w.policy AND p.command = w.command
        AND p.read_condition IS NOT DISTINCT FROM leyser.bare_condition(format(w.read_condition, t.comparison, quote_ident(t.tenant_column)))
        AND p.write_condition IS NOT DISTINCT FROM leyser.bare_condition(format(w.write_condition, t.comparison))
    WHERE p.polrelid IS NULL
    UNION ALL
    SELECT t.relation, t.name, w.policy
    FROM leyser.check_table t JOIN leyser.table_record r ON r.relation = t.relation JOIN wanted w ON w.kind = t.kind
    WHERE t.enforcement = 'suspended' AND NOT EXISTS (
        SELECT FROM pg_policy p WHERE p.polrelid = t.relation AND p.polname = w.policy AND NOT p.polpermissive AND p.polroles = '{0}'
          AND leyser.is_wanted_condition(pg_get_expr(p.polqual, p.polrelid), w.read_condition, r)
          AND leyser.is_wanted_condition(pg_get_expr(p.polwithcheck, p.polrelid), w.write_condition, r))
$$;
REVOKE ALL ON FUNCTION leyser.changed_policies() FROM PUBLIC;
COMMENT ON FUNCTION leyser.changed_policies() IS
    'internal: policies of tenants that are missing, or do not say what they should, at tables that are not only observed';

CREATE FUNCTION leyser.bypass_findings() RETURNS TABLE (check_id text, object text, finding text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'bypass.row_security_off', 'table ' || t.name, 'Row security is not enabled.', format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY;', t.name)
    FROM leyser.check_table t WHERE t.enforcement <> 'observe' AND NOT t.relrowsecurity
    UNION ALL
    SELECT 'bypass.not_forced', 'table ' || t.name, format('Row security does not bind its owner, %s.', t.relowner::regrole),
           format('ALTER TABLE %s FORCE ROW LEVEL SECURITY;', t.name)
    FROM leyser.check_table t WHERE t.enforcement <> 'observe' AND NOT t.relforcerowsecurity
    UNION ALL
    SELECT 'bypass.policy_changed', format('policy %I on %s', p.policy, p.name), 'It is missing, or does not say what leyser made it say.',
           format('SELECT leyser.protect(%L);', p.name)
    FROM leyser.changed_policies() p
    UNION ALL
    SELECT 'bypass.permission_policy_changed', 'table ' || t.name, format('A %s.', g.gap), format('SELECT leyser.protect(%L);', t.name)
    FROM leyser.check_table t CROSS JOIN LATERAL (SELECT string_agg(p.gap, '; ' ORDER BY p.gap) AS gap FROM leyser.permission_policy_gaps(t.relation) p) g
    WHERE coalesce(t.read_permission, t.write_permission) IS NOT NULL AND t.enforcement <> 'observe' AND g.gap IS NOT NULL
    UNION ALL
    SELECT 'bypass.observed', 'table ' || t.name, 'Statements without a context, or with another tenant''s, are let through and counted.',
           format('SELECT leyser.protect(%L, enforcement => ''enforce'');', t.name)
    FROM leyser.check_table t WHERE t.enforcement = 'observe' AND t.parent IS NULL
    UNION ALL
    SELECT 'bypass.suspended', 'table ' || t.name, format('Its protection is suspended until %s%s.', leyser.told_time(t.suspended_until),
               CASE WHEN t.suspended_for_applications THEN ', for applications too' ELSE '' END),
           format('SELECT leyser.protect(%L, enforcement => ''enforce'');', t.name)
    FROM leyser.check_table t WHERE t.suspended_until > clock_timestamp() AND t.parent IS NULL
    UNION ALL
    SELECT 'bypass.superuser', 'role ' || r.rolname, 'It can log in, and row security does not bind it.', format('ALTER ROLE %I NOSUPERUSER;', r.rolname)
    FROM pg_roles r WHERE r.rolsuper AND r.rolcanlogin AND r.oid <> 10
    UNION ALL
    SELECT 'bypass.bypassrls', 'role ' || r.rolname, 'Row security does not bind it.', format('ALTER ROLE %I NOBYPASSRLS;', r.rolname)
    FROM pg_roles r WHERE r.rolbypassrls AND NOT r.rolsuper
    UNION ALL
    SELECT 'bypass.becomes', format('role %s in %s', m.rolname, o.rolname),
           format('%s can become %s, whom row security does not bind.', string_agg(DISTINCT quote_ident(l.rolname), ', '), o.rolname),
           format('REVOKE %I FROM %I;', o.rolname, m.rolname)
    FROM pg_auth_members e
    JOIN pg_roles o ON o.oid = e.roleid AND (o.rolsuper OR o.rolbypassrls)
    JOIN pg_roles m ON m.oid = e.member AND NOT (m.rolsuper OR m.rolbypassrls)
    JOIN leyser.check_reach h ON h.role = m.oid
    JOIN pg_roles l ON l.oid = h.actor AND l.rolcanlogin AND NOT (l.rolsuper OR l.rolbypassrls)
    GROUP BY m.rolname, o.rolname
    UNION ALL
    SELECT 'bypass.owner', 'table ' || t.name, format('Its owner is %s, which %s can become.', t.relowner::regrole, string_agg(quote_ident(a.rolname), ', ')),
           format('ALTER TABLE %s OWNER TO %s;', t.name, (SELECT d.datdba::regrole FROM pg_database d WHERE d.datname = current_database()))
    FROM leyser.check_table t JOIN leyser.check_reach h ON h.role = t.relowner JOIN leyser.check_actor a ON a.actor = h.actor AND a.is_application
    GROUP BY t.name, t.relowner
$$;
REVOKE ALL ON FUNCTION leyser.bypass_findings() FROM PUBLIC;
COMMENT ON FUNCTION leyser.bypass_findings() IS 'internal: what family bypass finds about tables and roles';
