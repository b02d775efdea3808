-- Security checks: what tells of other tenants, or leaves something for them.

CREATE FUNCTION leyser.leak_rules()
    RETURNS TABLE (check_id text, severity text, fails text, what text, why text, example text, remedy text)
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $rules$
    VALUES
    ('leak.unique_index', 'medium', 'open', 'A unique index of a protected table leaves out the tenant column.',
     'Whoever inserts a value learns from the error, or from ON CONFLICT, that another tenant has it.',
     'CREATE UNIQUE INDEX number_key ON shop.invoice (number);', 'CREATE UNIQUE INDEX CONCURRENTLY … ON … (tenant column, …); DROP INDEX CONCURRENTLY …;'),
    ('leak.unique_number', 'low', 'open', 'A key of numbers from a sequence leaves out the tenant column.',
     'A number that is given by hand tells whether another tenant''s row has it.',
     'CREATE TABLE shop.note (tenant_id bigint NOT NULL, id bigserial PRIMARY KEY); SELECT leyser.protect(''shop.note'');',
     'CREATE UNIQUE INDEX CONCURRENTLY … ON … (tenant column, …); ALTER TABLE … ADD CONSTRAINT … USING INDEX …;'),
    ('leak.exclusion', 'medium', 'open', 'An exclusion constraint of a protected table leaves out the tenant column.',
     'It tells what other tenants have, and lets one block another.',
     'CREATE TABLE shop.stay (tenant_id bigint NOT NULL, during tsrange, EXCLUDE USING gist (during WITH &&)); SELECT leyser.protect(''shop.stay'');',
     'ALTER TABLE … DROP CONSTRAINT …, ADD CONSTRAINT … EXCLUDE USING … (tenant column WITH =, …);'),
    ('leak.references_right', 'medium', 'open', 'Somebody whom row security binds has the right REFERENCES on a protected table.',
     'A foreign key of a table of its own asks whether a key exists, of whichever tenant.',
     'GRANT REFERENCES ON shop.invoice TO reader;', 'REVOKE REFERENCES ON … FROM …;'),
    ('leak.sequence_readable', 'low', 'open', 'An application may read or set a sequence of a protected table.',
     'Its value tells how many rows all tenants make; USAGE is enough to insert.',
     'GRANT SELECT ON SEQUENCE shop.invoice_id_seq TO app;', 'REVOKE SELECT, UPDATE ON SEQUENCE … FROM …;'),
    ('leak.statistics_role', 'high', 'open', 'An application can become a role that sees statistics and statements of all sessions.',
     'Statements carry other tenants'' values, and statistics their totals.',
     'SET LOCAL leyser.guards = off; GRANT pg_monitor TO app;', 'REVOKE … FROM …;'),
    ('leak.stat_statements', 'medium', 'open', 'An application may read pg_stat_statements.',
     'All clients of a pool are one role, and see each other''s statements there, with the literals of utility statements.',
     'CREATE EXTENSION pg_stat_statements;', 'REVOKE SELECT ON … FROM …;'),
    ('leak.notify_trigger', 'low', 'open', 'A trigger of a protected table sends notifications.',
     'NOTIFY has no tenant boundary: whoever listens gets every payload.',
     'CREATE FUNCTION shop.tell() RETURNS trigger LANGUAGE plpgsql AS ''BEGIN PERFORM pg_notify(''''shop'''', NEW::text); RETURN NULL; END''; CREATE TRIGGER tell AFTER INSERT ON shop.invoice FOR EACH ROW EXECUTE FUNCTION shop.tell();',
     'ALTER TABLE … DISABLE TRIGGER …;'),
    ('leak.language_state', 'medium', 'open', 'An application may write functions in a language that keeps state between calls.',
     'What one client of a pooled connection leaves in an interpreter''s globals, the next one finds.',
     'CREATE TRUSTED LANGUAGE plkeeping HANDLER plpgsql_call_handler;', 'REVOKE USAGE ON LANGUAGE … FROM …;'),
    ('leak.leakproof', 'high', 'open', 'A function of an application is marked LEAKPROOF.',
     'Conditions with it are evaluated before row security, on every tenant''s rows.',
     'CREATE FUNCTION shop.same(text, text) RETURNS boolean LANGUAGE sql LEAKPROOF AS ''SELECT $1 = $2'';', 'ALTER ROUTINE … NOT LEAKPROOF;'),
    ('leak.large_objects', 'medium', 'open', 'An application keeps large objects.',
     'They belong to roles, not tenants: all tenants of the role share them.',
     'DO $d$ BEGIN EXECUTE format(''ALTER LARGE OBJECT %s OWNER TO app'', lo_from_bytea(0, ''x'')); END $d$;',
     'REVOKE EXECUTE ON FUNCTION lo_create(oid), lo_creat(integer), lo_from_bytea(oid, bytea) FROM PUBLIC;')
$rules$;
REVOKE ALL ON FUNCTION leyser.leak_rules() FROM PUBLIC;
COMMENT ON FUNCTION leyser.leak_rules() IS 'internal: rules of the security check, family leak';

-- Keys that nobody chooses tell nothing: uuids, and numbers that are always generated.
CREATE FUNCTION leyser.leak_key_findings() RETURNS TABLE (check_id text, object text, finding text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    WITH bare AS MATERIALIZED (
        SELECT i.indexrelid, t.name, t.kind, t.tenant_column, i.is_drawn
        FROM leyser.telling_key i JOIN leyser.check_table t ON t.relation = i.indrelid
        JOIN pg_class x ON x.oid = i.indexrelid AND NOT x.relispartition
        JOIN pg_index v ON v.indexrelid = i.indexrelid AND v.indisvalid
    )
    SELECT CASE WHEN b.is_drawn THEN 'leak.unique_number' ELSE 'leak.unique_index' END, 'index ' || b.indexrelid::regclass,
           format('It makes values unique over all tenants of %s.', b.name),
           CASE WHEN k.names IS NOT NULL THEN format('-- first have these foreign keys, which need it, carry the tenant column: %s', k.names)
                WHEN b.kind = 'own' THEN leyser.unique_remedy(b.indexrelid, b.tenant_column)
                ELSE '-- rows of all tenants have no tenant: decide whether a tenant may have a value that they have, and make the key so' END
    FROM bare b
    CROSS JOIN LATERAL (SELECT string_agg(format('%I on %s', k.conname, k.conrelid::regclass), ', ' ORDER BY k.conname) AS names
                        FROM pg_constraint k WHERE k.contype = 'f' AND k.conindid = b.indexrelid AND k.conparentid = 0) k
    UNION ALL
    SELECT 'leak.exclusion', format('constraint %I on %s', k.conname, t.name), 'It compares rows of all tenants.',
           format('%4$sALTER TABLE %1$s DROP CONSTRAINT %2$I, ADD CONSTRAINT %2$I %3$s;', t.name, k.conname,
                  overlay(pg_get_constraintdef(k.oid) PLACING format('(%I WITH =, ', t.tenant_column) FROM strpos(pg_get_constraintdef(k.oid), '(') FOR 1),
                  CASE WHEN NOT EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'btree_gist') THEN 'CREATE EXTENSION btree_gist; ' END)
    FROM leyser.check_table t JOIN pg_constraint k ON k.conrelid = t.relation AND k.contype = 'x' AND k.conparentid = 0 AND NOT t.tenant_attnum = ANY (k.conkey)
$$;
REVOKE ALL ON FUNCTION leyser.leak_key_findings() FROM PUBLIC;
COMMENT ON FUNCTION leyser.leak_key_findings() IS 'internal: what family leak finds about keys';

CREATE FUNCTION leyser.leak_findings() RETURNS TABLE (check_id text, object text, finding text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    WITH access AS MATERIALIZED (
        SELECT x.relation, x.privilege, leyser.role_word(x.grantee) AS grantee, bool_or(a.is_application) AS is_application
        FROM leyser.check_access() x JOIN leyser.check_actor a ON a.actor = x.actor
        WHERE x.privilege IN ('SELECT', 'UPDATE', 'REFERENCES') AND NOT x.is_owner GROUP BY 1, 2, 3
    ), application_role AS MATERIALIZED (
        SELECT DISTINCT h.role FROM leyser.check_reach h JOIN leyser.check_actor a ON a.actor = h.actor AND a.is_application
    )
    SELECT 'leak.references_right', 'table ' || t.name, format('%s may refer to its keys.', string_agg(a.grantee, ', ')),
           format('REVOKE REFERENCES ON %s FROM %s;', t.name, string_agg(a.grantee, ', '))
    FROM access a JOIN leyser.check_table t ON t.relation = a.relation AND a.privilege = 'REFERENCES' GROUP BY t.name
    UNION ALL
    SELECT 'leak.sequence_readable', 'sequence ' || s.oid::regclass, format('%s may read or set it.', string_agg(DISTINCT a.grantee, ', ')),
           format('REVOKE SELECT, UPDATE ON SEQUENCE %s FROM %s;', s.oid::regclass, string_agg(DISTINCT a.grantee, ', '))
    FROM access a JOIN pg_class s ON s.oid = a.relation AND s.relkind = 'S' AND a.privilege IN ('SELECT', 'UPDATE') AND a.is_application
    JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = s.oid AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
    JOIN leyser.check_table t ON t.relation = d.refobjid GROUP BY s.oid
    UNION ALL
    SELECT 'leak.statistics_role', format('role %s in %s', m.rolname, o.rolname), 'An application can become it.', format('REVOKE %I FROM %I;', o.rolname, m.rolname)
    FROM pg_auth_members e JOIN pg_roles o ON o.oid = e.roleid AND o.rolname IN ('pg_monitor', 'pg_read_all_stats', 'pg_stat_scan_tables')
    JOIN pg_roles m ON m.oid = e.member AND left(m.rolname, 3) <> 'pg_' JOIN application_role r ON r.role = m.oid
    UNION ALL
    SELECT 'leak.stat_statements', 'view ' || c.oid::regclass, format('%s may read it.', string_agg(a.grantee, ', ')), format('REVOKE SELECT ON %s FROM %s;', c.oid::regclass, string_agg(a.grantee, ', '))
    FROM access a JOIN pg_class c ON c.oid = a.relation AND c.relname = 'pg_stat_statements' AND c.relkind = 'v' AND a.privilege = 'SELECT' AND a.is_application GROUP BY c.oid
    UNION ALL
    SELECT 'leak.notify_trigger', format('trigger %I on %s', g.tgname, t.name), format('Its function %s sends notifications.', p.oid::regprocedure),
           format('ALTER TABLE %s DISABLE TRIGGER %I;', t.name, g.tgname)
    FROM pg_trigger g JOIN leyser.check_table t ON t.relation = g.tgrelid JOIN pg_proc p ON p.oid = g.tgfoid
    WHERE NOT g.tgisinternal AND g.tgparentid = 0 AND g.tgenabled <> 'D' AND p.prosrc ~* '\m(pg_notify|notify)\M'
    UNION ALL
    SELECT 'leak.language_state', 'language ' || l.lanname, format('%s may use it.', string_agg(DISTINCT leyser.role_word(x.grantee), ', ')),
           format('REVOKE USAGE ON LANGUAGE %I FROM %s;', l.lanname, string_agg(DISTINCT leyser.role_word(x.grantee), ', '))
    FROM pg_language l CROSS JOIN LATERAL aclexplode(coalesce(l.lanacl, acldefault('l', l.lanowner))) x
    WHERE l.lanname NOT IN ('internal', 'c', 'sql', 'plpgsql') AND l.lanpltrusted AND x.grantee <> l.lanowner
      AND EXISTS (SELECT FROM application_role r WHERE r.role = x.grantee OR x.grantee = 0) GROUP BY l.lanname
    UNION ALL
    SELECT 'leak.leakproof', 'function ' || f.name, 'It is evaluated before row security.', format('ALTER ROUTINE %s NOT LEAKPROOF;', f.name)
    FROM leyser.check_function() f JOIN pg_proc p ON p.oid = f.function AND p.proleakproof
    UNION ALL
    SELECT 'leak.large_objects', 'role ' || r.rolname, format('It has %s.', count(*)),
           'REVOKE EXECUTE ON FUNCTION lo_create(oid), lo_creat(integer), lo_from_bytea(oid, bytea) FROM PUBLIC;'
    FROM pg_largeobject_metadata l JOIN application_role a ON a.role = l.lomowner JOIN pg_roles r ON r.oid = l.lomowner
    WHERE EXISTS (SELECT FROM pg_proc p CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x
                  WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname IN ('lo_create', 'lo_creat', 'lo_from_bytea') AND x.grantee = 0)
    GROUP BY r.rolname
$$;
REVOKE ALL ON FUNCTION leyser.leak_findings() FROM PUBLIC;
COMMENT ON FUNCTION leyser.leak_findings() IS 'internal: what family leak finds about rights, functions and large objects';
