-- What the rules of the security check look at: the one registry, and who reaches what.
--
-- Views for the rules' queries only, each a set: check_security() asks nothing table by
-- table.  Names are printed under search_path pg_catalog, so they are qualified.

-- What a role can become: by inheritance or SET ROLE, through however many others.
-- From version 16 on a membership may give neither.
CREATE VIEW leyser.check_reach AS
    WITH RECURSIVE reach (actor, role) AS (
        SELECT r.oid, r.oid FROM pg_catalog.pg_roles r
        UNION
        SELECT p.actor, m.roleid FROM reach p JOIN pg_catalog.pg_auth_members m ON m.member = p.role
        WHERE (pg_catalog.to_jsonb(m) ->> 'set_option')::boolean IS NOT FALSE
           OR (pg_catalog.to_jsonb(m) ->> 'inherit_option')::boolean IS NOT FALSE
    )
    SELECT p.actor, p.role FROM reach p;
COMMENT ON VIEW leyser.check_reach IS 'internal: each role with the roles whose rights it has or can take';

-- Those whom row security binds, and who can act: logins, and roles that were given a
-- usage by which one meets tenants' rows.
CREATE VIEW leyser.check_actor AS
    SELECT r.oid AS actor, r.rolname, u.usages,
           coalesce(u.usages && '{application,gateway}', false) AS is_application
    FROM pg_catalog.pg_roles r
    CROSS JOIN LATERAL (SELECT pg_catalog.array_agg(DISTINCT g.usage) AS usages FROM leyser.check_reach h
                        JOIN leyser.usage_record g ON g.role = h.role WHERE h.actor = r.oid) u
    WHERE (r.rolcanlogin OR u.usages IS NOT NULL)
      AND NOT EXISTS (SELECT FROM leyser.check_reach h JOIN pg_catalog.pg_roles o ON o.oid = h.role
                      WHERE h.actor = r.oid AND (o.rolsuper OR o.rolbypassrls));
COMMENT ON VIEW leyser.check_actor IS 'internal: roles that can act and that row security binds, whatever they become';

-- Namespaces that are not the server's, leyser's or an extension's.
CREATE VIEW leyser.check_schema AS
    SELECT n.oid, n.nspname, n.nspowner, n.nspacl,
           EXISTS (SELECT FROM leyser.table_record t JOIN pg_catalog.pg_class c ON c.oid = t.relation
                   WHERE c.relnamespace = n.oid)
               OR EXISTS (SELECT FROM leyser.schema_record s WHERE s.schema = n.nspname) AS is_governed
    FROM pg_catalog.pg_namespace n
    WHERE pg_catalog.left(n.nspname, 3) <> 'pg_' AND n.nspname NOT IN ('information_schema', 'leyser')
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
                      AND d.objid = n.oid AND d.deptype = 'e');
COMMENT ON VIEW leyser.check_schema IS 'internal: schemas of applications, and whether they are governed';

CREATE VIEW leyser.check_table AS
    SELECT t.relation, t.kind, t.tenant_attnum, t.tenant_column, t.parent, t.enforcement, t.set_default,
           t.suspended_until, t.suspended_for_applications, t.read_permission, t.write_permission, t.scope_column,
           t.relation::text AS name, c.relname, c.relnamespace, c.relowner, c.relkind, c.relpersistence, c.relispartition,
           c.relrowsecurity, c.relforcerowsecurity, c.reltuples, c.relpages, c.relacl,
           t.enforcement = 'enforce' OR t.suspended_until <= pg_catalog.clock_timestamp() AS is_enforced
    FROM leyser.table_record t JOIN pg_catalog.pg_class c ON c.oid = t.relation
    WHERE t.tenant_attnum IS NOT NULL;
COMMENT ON VIEW leyser.check_table IS 'internal: the protected tables, as the registry and the catalogue have them';

-- Rights on relations that somebody reaches who is in check_actor and may use the
-- schema: through PUBLIC, through memberships, by being the owner.
CREATE FUNCTION leyser.check_access()
    RETURNS TABLE (relation oid, privilege text, grantee oid, actor oid, is_grantable boolean, is_owner boolean)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH actor_role AS MATERIALIZED (
        SELECT h.actor, h.role FROM leyser.check_reach h JOIN leyser.check_actor a ON a.actor = h.actor
        UNION ALL SELECT a.actor, 0 FROM leyser.check_actor a
    ), usable AS MATERIALIZED (
        SELECT DISTINCT n.oid AS namespace, r.actor
        FROM leyser.check_schema n
        CROSS JOIN LATERAL aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) x
        JOIN actor_role r ON r.role = x.grantee WHERE x.privilege_type = 'USAGE'
    )
    SELECT c.oid, x.privilege_type, x.grantee, r.actor, x.is_grantable, x.grantee = c.relowner
    FROM pg_class c
    CROSS JOIN LATERAL aclexplode(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))) x
    JOIN actor_role r ON r.role = x.grantee
    JOIN usable u ON u.actor = r.actor AND u.namespace = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
$$;
REVOKE ALL ON FUNCTION leyser.check_access() FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_access() IS
    'internal: rights on relations by which a role that row security binds reaches them; grantee 0 is PUBLIC';

-- Functions of applications that such a role may call; triggers call theirs unasked.
CREATE FUNCTION leyser.check_function()
    RETURNS TABLE (function oid, name text, owner oid, is_definer boolean, is_bypassing boolean, is_callable boolean, settings text[], source text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH actor_role AS MATERIALIZED (
        SELECT DISTINCT h.role FROM leyser.check_reach h JOIN leyser.check_actor a ON a.actor = h.actor
        UNION ALL SELECT 0 WHERE EXISTS (SELECT FROM leyser.check_actor)
    )
    SELECT p.oid, p.oid::regprocedure::text, p.proowner, p.prosecdef, r.rolsuper OR r.rolbypassrls,
           EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x JOIN actor_role o ON o.role = x.grantee),
           p.proconfig, p.prosrc
    FROM pg_proc p JOIN leyser.check_schema n ON n.oid = p.pronamespace JOIN pg_roles r ON r.oid = p.proowner
    WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
$$;
REVOKE ALL ON FUNCTION leyser.check_function() FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_function() IS
    'internal: functions of applications: whose rights they run with, and whether somebody whom row security binds may call them';

-- Settings as they hold for everybody (without what the session itself has set), and
-- those that were given to a role or to this database.
CREATE VIEW leyser.check_setting AS
    SELECT s.name, s.reset_val AS value, 0::oid AS role, 'setting ' || s.name AS object,
           pg_catalog.format('ALTER SYSTEM SET %s = ', s.name) AS remedy_set,
           CASE s.context WHEN 'postmaster' THEN '; -- then restart the server' ELSE '; SELECT pg_reload_conf();' END AS remedy_end
    FROM pg_catalog.pg_settings s
    WHERE s.source NOT IN ('database', 'user', 'database user')
    UNION ALL
    SELECT pg_catalog.split_part(c.line, '=', 1), pg_catalog.substr(c.line, pg_catalog.strpos(c.line, '=') + 1), d.setrole,
           pg_catalog.format('setting %s of %s', pg_catalog.split_part(c.line, '=', 1), pg_catalog.concat_ws(' in ',
               'role ' || r.rolname, 'database ' || b.datname)),
           pg_catalog.format('ALTER %s RESET %s;', CASE WHEN d.setrole = 0 THEN coalesce('DATABASE ' || pg_catalog.quote_ident(b.datname), 'ROLE ALL')
               ELSE 'ROLE ' || pg_catalog.quote_ident(r.rolname) || coalesce(' IN DATABASE ' || pg_catalog.quote_ident(b.datname), '') END,
               pg_catalog.split_part(c.line, '=', 1)), NULL
    FROM pg_catalog.pg_db_role_setting d
    CROSS JOIN LATERAL pg_catalog.unnest(d.setconfig) c (line)
    LEFT JOIN pg_catalog.pg_roles r ON r.oid = d.setrole
    LEFT JOIN pg_catalog.pg_database b ON b.oid = d.setdatabase
    WHERE d.setdatabase = 0 OR b.datname = pg_catalog.current_database();
COMMENT ON VIEW leyser.check_setting IS
    'internal: the server''s settings, and those of roles and of this database; where remedy_end is NULL, remedy_set is a whole statement';

-- To be pasted in place of a better value.
CREATE FUNCTION leyser.setting_remedy(setting leyser.check_setting, wanted text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT setting.remedy_set || coalesce(quote_literal(wanted) || setting.remedy_end, '') $$;
REVOKE ALL ON FUNCTION leyser.setting_remedy(leyser.check_setting, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.setting_remedy(leyser.check_setting, text) IS
    'internal: SQL by which a setting gets another value; that of a role or a database is reset';

CREATE FUNCTION leyser.role_word(role oid) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT CASE WHEN role = 0 THEN 'PUBLIC' ELSE (SELECT quote_ident(r.rolname) FROM pg_roles r WHERE r.oid = role) END $$;
REVOKE ALL ON FUNCTION leyser.role_word(oid) FROM PUBLIC;
COMMENT ON FUNCTION leyser.role_word(oid) IS 'internal: a role as GRANT and REVOKE want it; 0 is PUBLIC';
