-- Security checks: what reads past row security for somebody whom it binds.

CREATE FUNCTION leyser.bypass_read_rules()
    RETURNS TABLE (check_id text, severity text, fails text, what text, why text, example text, remedy text)
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $rules$
    VALUES
    ('bypass.definer_view', 'critical', 'open', 'A view reads a protected table as a role that row security does not bind.',
     'Whoever may read the view sees every tenant''s rows.',
     'CREATE VIEW shop.totals AS SELECT * FROM shop.invoice; GRANT SELECT ON shop.totals TO reader;', 'ALTER VIEW … SET (security_invoker = true);'),
    ('bypass.materialized_view', 'critical', 'open', 'A materialized view keeps rows of a protected table for somebody whom row security binds.',
     'It was filled by its owner, and has no row security of its own.',
     'CREATE MATERIALIZED VIEW shop.sums AS SELECT tenant_id, sum(amount) FROM shop.invoice GROUP BY 1; GRANT SELECT ON shop.sums TO reader;',
     'REVOKE ALL ON … FROM …;'),
    ('bypass.definer_function', 'high', 'open', 'A definer function of a role that row security does not bind names a protected table.',
     'Whoever may call it gets what it reads, of whichever tenant.',
     'CREATE FUNCTION shop.total() RETURNS numeric LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS ''SELECT sum(amount) FROM shop.invoice'';',
     'ALTER ROUTINE … SECURITY INVOKER;'),
    ('bypass.trigger_function', 'high', 'open', 'A trigger runs a definer function that names a protected table past row security.',
     'Triggers call their function unasked; no right to execute it is needed.',
     'CREATE FUNCTION shop.touch() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS ''BEGIN UPDATE shop.invoice SET amount = 0; RETURN NULL; END''; CREATE TRIGGER touch AFTER INSERT ON shop.line EXECUTE FUNCTION shop.touch();',
     'ALTER ROUTINE … SECURITY INVOKER;'),
    ('bypass.definer_dynamic', 'medium', 'open', 'A definer function of a role that row security does not bind runs statements that it puts together.',
     'Nobody can tell what it reads, and a hole in it reads everything.',
     'CREATE FUNCTION shop.run(q text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS ''BEGIN EXECUTE q; END'';',
     'REVOKE EXECUTE ON ROUTINE … FROM …;'),
    ('bypass.definer_search_path', 'high', 'open', 'A definer function of a role that row security does not bind looks names up in its caller''s search_path.',
     'A caller can put an object of its own in the place of one that the function means, and run as its owner.',
     'CREATE FUNCTION shop.one() RETURNS int LANGUAGE sql SECURITY DEFINER AS ''SELECT 1'';', 'ALTER ROUTINE … SET search_path = pg_catalog, pg_temp;'),
    ('bypass.rule', 'high', 'open', 'A rewrite rule of a role that row security does not bind touches a protected table.',
     'What a rule adds to a statement runs with the rights of the owner of its table.',
     'CREATE TABLE public.inbox (i int); CREATE RULE also AS ON INSERT TO public.inbox DO ALSO DELETE FROM shop.invoice;', 'DROP RULE … ON …;'),
    ('bypass.truncate_right', 'medium', 'open', 'Somebody whom row security binds may TRUNCATE a protected table.',
     'Row security does not filter TRUNCATE; only the guards are left to refuse it.',
     'GRANT TRUNCATE ON shop.invoice TO app;', 'REVOKE TRUNCATE ON … FROM …;'),
    ('bypass.guards_off', 'high', 'open', 'The guards are switched off by a setting.',
     'Statements that open a table or a role are not refused; the setting is for a restore, in its session.',
     'ALTER ROLE keeper SET leyser.guards = off;', 'ALTER ROLE … RESET leyser.guards;'),
    ('bypass.access_unrecorded', 'high', 'open', 'Access to protected tables past row security is not recorded.',
     'Whoever row security does not bind looks, and nobody can tell afterwards.',
     'ALTER SYSTEM SET leyser.privileged_access = off; SELECT pg_reload_conf();', 'ALTER SYSTEM SET leyser.privileged_access = ''record''; SELECT pg_reload_conf();'),
    ('bypass.access_window', 'low', 'open', 'A window for privileged access is open.',
     'What its role does past row security is let through where it is refused else.',
     'SELECT leyser.open_privileged_access(''keeper'', ''a migration'', ''2 hours'');', 'SELECT leyser.close_privileged_access(…);'),
    ('bypass.parameter_right', 'high', 'open', 'Somebody whom row security binds may set what only superusers should.',
     'leyser''s settings decide who is let through, and session_replication_role which triggers fire.',
     'GRANT SET ON PARAMETER session_replication_role TO reader;', 'REVOKE ALL ON PARAMETER … FROM …;'),
    ('bypass.raw_reader', 'critical', 'open', 'Somebody whom row security binds may call a function that reads pages, dead rows, or as whom it likes.',
     'Such functions know no policies.',
     'CREATE EXTENSION dblink; GRANT EXECUTE ON FUNCTION dblink_connect_u(text) TO reader;', 'REVOKE EXECUTE ON ROUTINE … FROM …;'),
    ('bypass.user_mapping', 'medium', 'open', 'Everybody is mapped to one user of a foreign server that somebody whom row security binds may use.',
     'Over there all tenants are that user.',
     'CREATE FOREIGN DATA WRAPPER far; CREATE SERVER there FOREIGN DATA WRAPPER far; CREATE USER MAPPING FOR PUBLIC SERVER there; GRANT USAGE ON FOREIGN SERVER there TO app;',
     'DROP USER MAPPING FOR PUBLIC SERVER …;')
$rules$;
REVOKE ALL ON FUNCTION leyser.bypass_read_rules() FROM PUBLIC;
COMMENT ON FUNCTION leyser.bypass_read_rules() IS 'internal: rules of the security check, family bypass, about what reads past row security';

-- Of a view, what it reads itself counts: the view that names a table decides who asks
-- for its rows.  A materialized view keeps what anything below it gave.
CREATE FUNCTION leyser.bypass_view_findings() RETURNS TABLE (check_id text, object text, finding text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE access AS MATERIALIZED (
        SELECT * FROM leyser.check_access() a WHERE a.privilege IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    ), reads AS MATERIALIZED (
        SELECT DISTINCT w.ev_class AS reader, d.refobjid AS relation, w.ev_type
        FROM pg_rewrite w JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
            AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> w.ev_class
    ), below AS (
        SELECT r.reader, r.relation FROM reads r JOIN pg_class m ON m.oid = r.reader AND m.relkind = 'm'
        UNION
        SELECT b.reader, r.relation FROM below b JOIN reads r ON r.reader = b.relation
    ), bypassing AS (
        SELECT r.oid, r.rolname FROM pg_roles r WHERE r.rolsuper OR r.rolbypassrls
    )
    SELECT 'bypass.definer_view', 'view ' || v.oid::regclass, format('It reads %s as %s, whom row security does not bind.',
               string_agg(DISTINCT t.name, ', '), b.rolname), format('ALTER VIEW %s SET (security_invoker = true);', v.oid::regclass)
    FROM reads r JOIN leyser.check_table t ON t.relation = r.relation
    JOIN pg_class v ON v.oid = r.reader AND v.relkind = 'v' JOIN bypassing b ON b.oid = v.relowner
    WHERE EXISTS (SELECT FROM access a WHERE a.relation = v.oid)
      AND NOT EXISTS (SELECT FROM pg_options_to_table(v.reloptions) o WHERE o.option_name = 'security_invoker' AND o.option_value::boolean)
    GROUP BY v.oid, b.rolname
    UNION ALL
    SELECT 'bypass.materialized_view', 'materialized view ' || m.oid::regclass, format('It keeps rows of %s, and %s may read it.',
               string_agg(DISTINCT t.name, ', '), string_agg(DISTINCT leyser.role_word(a.grantee), ', ')),
           format('REVOKE ALL ON %s FROM %s;', m.oid::regclass, string_agg(DISTINCT leyser.role_word(a.grantee), ', '))
    FROM below b JOIN leyser.check_table t ON t.relation = b.relation JOIN pg_class m ON m.oid = b.reader
    JOIN access a ON a.relation = m.oid AND NOT a.is_owner
    GROUP BY m.oid
    UNION ALL
    SELECT 'bypass.rule', format('rule %I on %s', w.rulename, c.oid::regclass), format('It touches %s as %s, whom row security does not bind.',
               string_agg(DISTINCT t.name, ', '), b.rolname), format('DROP RULE %I ON %s;', w.rulename, c.oid::regclass)
    FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class JOIN bypassing b ON b.oid = c.relowner
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass
    JOIN leyser.check_table t ON t.relation = d.refobjid
    WHERE w.ev_type <> '1' GROUP BY w.rulename, c.oid, b.rolname
$$;
REVOKE ALL ON FUNCTION leyser.bypass_view_findings() FROM PUBLIC;
COMMENT ON FUNCTION leyser.bypass_view_findings() IS 'internal: what family bypass finds about views and rules';

-- The server knows what a function reads where its body is parsed (BEGIN ATOMIC); of the
-- others, the words of their text are compared with the tables' names.
CREATE FUNCTION leyser.bypass_function_findings() RETURNS TABLE (check_id text, object text, finding text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    WITH definer AS MATERIALIZED (
        SELECT f.*, p.prorettype = 'trigger'::regtype AS is_trigger, r.rolname,
               EXISTS (SELECT FROM pg_trigger g WHERE g.tgfoid = f.function AND NOT g.tgisinternal) AS is_used
        FROM leyser.check_function() f JOIN pg_proc p ON p.oid = f.function JOIN pg_roles r ON r.oid = f.owner
        WHERE f.is_definer AND f.is_bypassing
    ), word AS MATERIALIZED (
        SELECT DISTINCT d.function, w.word FROM definer d CROSS JOIN LATERAL regexp_split_to_table(lower(d.source), '[^[:alnum:]_$]+') w (word)
    ), named AS MATERIALIZED (
        SELECT w.function, t.name FROM word w JOIN leyser.check_table t ON lower(t.relname) = w.word
        UNION
        SELECT d.function, t.name FROM definer d JOIN leyser.check_table t ON t.relname ~ '[^[:alnum:]_$]' AND strpos(d.source, t.relname) > 0
        UNION
        SELECT d.objid, t.name FROM pg_depend d JOIN leyser.check_table t ON t.relation = d.refobjid
        WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_class'::regclass
    ), tables AS (
        SELECT n.function, string_agg(n.name, ', ' ORDER BY n.name) AS names FROM named n GROUP BY n.function
    )
    SELECT CASE WHEN d.is_trigger THEN 'bypass.trigger_function' ELSE 'bypass.definer_function' END, 'function ' || d.name,
           format('It names %s, and runs as %s, whom row security does not bind.', t.names, d.rolname), format('ALTER ROUTINE %s SECURITY INVOKER;', d.name)
    FROM definer d JOIN tables t ON t.function = d.function WHERE CASE WHEN d.is_trigger THEN d.is_used ELSE d.is_callable END
    UNION ALL
    SELECT 'bypass.definer_dynamic', 'function ' || d.name, format('It puts statements together, and runs them as %s, whom row security does not bind.', d.rolname),
           format('REVOKE EXECUTE ON ROUTINE %s FROM %s;', d.name, g.grantees)
    FROM definer d JOIN pg_proc p ON p.oid = d.function
    CROSS JOIN LATERAL (SELECT string_agg(leyser.role_word(x.grantee), ', ') AS grantees
                        FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x WHERE x.grantee <> p.proowner) g
    WHERE d.is_callable AND NOT d.is_trigger AND d.source ~* '\mexecute\M' AND g.grantees IS NOT NULL
    UNION ALL
    SELECT 'bypass.definer_search_path', 'function ' || d.name, format('It runs as %s, and its caller decides where it looks names up.', d.rolname),
           format('ALTER ROUTINE %s SET search_path = pg_catalog, pg_temp;', d.name)
    FROM definer d WHERE (d.is_callable OR d.is_used)
      AND NOT EXISTS (SELECT FROM unnest(d.settings) s WHERE starts_with(s, 'search_path='))
$$;
REVOKE ALL ON FUNCTION leyser.bypass_function_findings() FROM PUBLIC;
COMMENT ON FUNCTION leyser.bypass_function_findings() IS 'internal: what family bypass finds about functions';

CREATE FUNCTION leyser.bypass_right_findings() RETURNS TABLE (check_id text, object text, finding text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH actor_role AS MATERIALIZED (
        SELECT DISTINCT h.role, a.is_application FROM leyser.check_reach h JOIN leyser.check_actor a ON a.actor = h.actor
        UNION SELECT 0, a.is_application FROM leyser.check_actor a
    )
    SELECT 'bypass.truncate_right', 'table ' || t.name, format('%s may empty it of all tenants'' rows.', string_agg(DISTINCT leyser.role_word(a.grantee), ', ')),
           format('REVOKE TRUNCATE ON %s FROM %s;', t.name, string_agg(DISTINCT leyser.role_word(a.grantee), ', '))
    FROM leyser.check_access() a JOIN leyser.check_table t ON t.relation = a.relation
    WHERE a.privilege = 'TRUNCATE' AND NOT a.is_owner GROUP BY t.name
    UNION ALL
    SELECT 'bypass.guards_off', s.object, 'leyser''s guards are off.', leyser.setting_remedy(s, 'on')
    FROM leyser.check_setting s WHERE s.name = 'leyser.guards' AND s.value IN ('off', 'false', 'no', '0')
    UNION ALL
    SELECT 'bypass.access_unrecorded', s.object, 'leyser.privileged_access is off.', leyser.setting_remedy(s, 'record')
    FROM leyser.check_setting s WHERE s.name = 'leyser.privileged_access' AND s.value = 'off'
    UNION ALL
    SELECT 'bypass.access_window', 'window ' || w.window_id, format('Role %s may see all rows until %s: %s.', w.to_role, leyser.told_time(w.ends_at), w.purpose),
           format('SELECT leyser.close_privileged_access(%s);', w.window_id)
    FROM leyser.privileged_window w WHERE w.is_open
    UNION ALL
    SELECT 'bypass.parameter_right', 'parameter ' || p.parname, format('%s may set it.', string_agg(DISTINCT leyser.role_word(x.grantee), ', ')),
           format('REVOKE ALL ON PARAMETER %s FROM %s;', p.parname, string_agg(DISTINCT leyser.role_word(x.grantee), ', '))
    FROM pg_parameter_acl p CROSS JOIN LATERAL aclexplode(p.paracl) x
    WHERE (starts_with(p.parname, 'leyser.') OR p.parname IN ('session_replication_role', 'allow_system_table_mods'))
      AND EXISTS (SELECT FROM actor_role r WHERE r.role = x.grantee)
    GROUP BY p.parname
    UNION ALL
    SELECT 'bypass.raw_reader', 'function ' || p.oid::regprocedure, format('%s may call it.', string_agg(DISTINCT leyser.role_word(x.grantee), ', ')),
           format('REVOKE EXECUTE ON ROUTINE %s FROM %s;', p.oid::regprocedure, string_agg(DISTINCT leyser.role_word(x.grantee), ', '))
    FROM pg_extension e JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
    JOIN pg_proc p ON p.oid = d.objid CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x
    WHERE (e.extname IN ('pg_dirtyread', 'pageinspect', 'pg_surgery', 'pg_walinspect', 'pg_visibility', 'adminpack')
           AND x.grantee <> p.proowner OR p.proname = 'dblink_connect_u')
      -- the server has taken their functions from everybody itself, or asks for a superuser inside
      AND NOT (e.extname IN ('pageinspect', 'adminpack') AND x.grantee = 0)
      AND EXISTS (SELECT FROM actor_role r WHERE r.role = x.grantee)
    GROUP BY p.oid
    UNION ALL
    SELECT 'bypass.user_mapping', 'foreign server ' || s.srvname, 'Everybody who may use it is the same user over there.',
           format('DROP USER MAPPING FOR PUBLIC SERVER %I;', s.srvname)
    FROM pg_user_mapping m JOIN pg_foreign_server s ON s.oid = m.umserver
    WHERE m.umuser = 0 AND EXISTS (SELECT FROM aclexplode(coalesce(s.srvacl, acldefault('S', s.srvowner))) x JOIN actor_role r ON r.role = x.grantee)
$$;
REVOKE ALL ON FUNCTION leyser.bypass_right_findings() FROM PUBLIC;
COMMENT ON FUNCTION leyser.bypass_right_findings() IS 'internal: what family bypass finds about rights and settings';
