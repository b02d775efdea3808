-- Security checks: keys, and duties that are to be kept apart.

CREATE FUNCTION leyser.key_rules()
    RETURNS TABLE (check_id text, severity text, fails text, what text, why text, example text, remedy text)
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $rules$
    VALUES
    ('key.unusable', 'high', 'closed', 'The keyring, or a key in it, cannot be used.',
     'Tokens and passwords are refused.',
     'DELETE FROM leyser.signing_key; UPDATE leyser.identity SET keyring_id = NULL;', 'SELECT leyser.initialize_keyring();'),
    ('key.old', 'low', 'open', 'The key that signs is older than a year.',
     'The longer a key is in use, the more copies of it there are.',
     'UPDATE leyser.signing_key SET activated_at = now() - interval ''2 years'' WHERE state = ''active'';', 'SELECT leyser.activate_signing_key(leyser.stage_signing_key());'),
    ('key.left', 'low', 'open', 'A former key still verifies, though every token that it signed has expired.',
     'Whoever has a copy of it makes tokens that count.',
     'SELECT leyser.activate_signing_key(leyser.stage_signing_key()); UPDATE leyser.signing_key SET activated_at = now() - interval ''3 days'' WHERE state = ''active'';',
     'SELECT leyser.retire_signing_key(…);'),
    ('key.issuers_unbound', 'medium', 'open', 'Keys of several issuers speak for every tenant.',
     'One customer''s identity provider could speak for another customer.',
     'INSERT INTO leyser.issuer_key (key_id, pem, algorithm, issuer, audience) VALUES (''a'', ''x'', ''EdDSA'', ''https://a.example'', ''x''), (''b'', ''x'', ''EdDSA'', ''https://b.example'', ''x'');',
     'SELECT leyser.remove_issuer_key(…);'),
    ('key.custodian_acts', 'high', 'open', 'A key custodian is an operator, too.',
     'Operators hold no keys: whoever does both can make a tenant''s token and use it.',
     'SELECT leyser.grant_usage(''operator'', ''key_custodian'');', 'SELECT leyser.revoke_usage(…, ''key_custodian'');'),
    ('key.custodian_backs_up', 'medium', 'open', 'A key custodian takes the backups, too.',
     'Whoever has both can restore all tenants'' rows elsewhere, and make tokens for them.',
     'SELECT leyser.grant_usage(''custodian'', ''backup'');', 'SELECT leyser.revoke_usage(…, ''key_custodian'');'),
    ('key.auditor_acts', 'medium', 'open', 'An auditor has a duty besides.',
     'Auditors read what others did, and should not have done it themselves.',
     'SELECT leyser.grant_usage(''auditor'', ''operator'');', 'SELECT leyser.revoke_usage(…, ''auditor'');'),
    ('key.duty_reads_rows', 'medium', 'open', 'Somebody who has a duty has rights on protected tables.',
     'Operators, key custodians, provisioners, mailers and those who take backups see no rows.',
     'GRANT USAGE ON SCHEMA shop TO operator; GRANT SELECT ON shop.invoice TO operator;', 'REVOKE ALL ON … FROM …;'),
    ('key.unfit_application', 'high', 'open', 'A role is an application, a gateway or an exporter, and has a duty or a right that these must not have.',
     'grant_usage() refuses such a role; it became so afterwards. Rights of which another rule tells are not told again.',
     'CREATE ROLE team; SELECT leyser.grant_usage(''team'', ''operator''); SET LOCAL leyser.guards = off; GRANT team TO app;', 'REVOKE … FROM …; and the like'),
    ('key.own_tables', 'critical', 'open', 'Somebody has rights on leyser''s own tables that no usage gives.',
     'They hold sessions, hashes of passwords and the registry.',
     'GRANT SELECT ON leyser.password_record TO reader;', 'REVOKE ALL ON leyser.… FROM …;'),
    ('key.own_functions', 'critical', 'open', 'Somebody may call a function of leyser''s that no usage gives.',
     'Internal functions trust whoever calls them.',
     'GRANT EXECUTE ON FUNCTION leyser.settle_contracts() TO reader;', 'REVOKE EXECUTE ON ROUTINE leyser.… FROM …;'),
    ('key.leyser_owner', 'critical', 'open', 'Something of leyser''s belongs to a role that is no superuser.',
     'Its owner can replace what policies call.',
     'ALTER SCHEMA leyser OWNER TO keeper;', 'ALTER SCHEMA leyser OWNER TO …;'),
    ('key.server_files', 'critical', 'open', 'Somebody whom row security binds reads or writes the server''s files, or runs programs there.',
     'The keyring, and the tables themselves, are files.',
     'GRANT pg_read_server_files TO reader;', 'REVOKE … FROM …;'),
    ('key.all_data', 'high', 'open', 'Somebody whom row security binds reads or writes all tables.',
     'leyser''s own tables are among them, and have no row security.',
     'GRANT pg_read_all_data TO reader;', 'REVOKE … FROM …;')
$rules$;
REVOKE ALL ON FUNCTION leyser.key_rules() FROM PUBLIC;
COMMENT ON FUNCTION leyser.key_rules() IS 'internal: rules of the security check, family key';

CREATE FUNCTION leyser.key_findings() RETURNS TABLE (check_id text, object text, finding text, remedy text)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    WITH unbound AS MATERIALIZED (
        SELECT i.key_id, i.issuer FROM leyser.issuer_key i WHERE i.tenant_id IS NULL
    )
    SELECT 'key.unusable', s.item, format('It is %s.', s.state),
           CASE WHEN s.state = 'not initialized' THEN 'SELECT leyser.initialize_keyring();' ELSE '-- ' || s.remedy END
    FROM leyser.keyring_status() s
    WHERE s.remedy IS NOT NULL AND s.item ~ '^(keyring|password pepper|signing key )' AND s.item !~ '^(key|unfinished) file '
    UNION ALL
    SELECT 'key.old', 'signing key ' || k.key_id, format('It signs since %s.', leyser.told_time(k.activated_at)),
           'SELECT leyser.activate_signing_key(leyser.stage_signing_key()); -- where there are standbys, copy the new key''s file to them between the two'
    FROM leyser.signing_key k WHERE k.state = 'active' AND k.activated_at < clock_timestamp() - interval '1 year'
    UNION ALL
    SELECT 'key.left', 'signing key ' || k.key_id, format('Another one signs since %s.', leyser.told_time(a.activated_at)), format('SELECT leyser.retire_signing_key(%L);', k.key_id)
    FROM leyser.signing_key k JOIN leyser.signing_key a ON a.state = 'active'
    WHERE k.state = 'verifying' AND a.activated_at < clock_timestamp() - interval '1 day'
        - (SELECT make_interval(secs => leyser.seconds_of(max(s.value))::double precision) FROM leyser.check_setting s WHERE s.name = 'leyser.max_token_lifetime' AND s.role = 0)
    UNION ALL
    SELECT 'key.issuers_unbound', 'issuer key ' || u.key_id, 'It speaks for every tenant, as keys of other issuers do.',
           format('SELECT leyser.remove_issuer_key(%L); -- and add it again with its tenant', u.key_id)
    FROM unbound u WHERE EXISTS (SELECT FROM unbound o WHERE o.issuer <> u.issuer)
$$;
REVOKE ALL ON FUNCTION leyser.key_findings() FROM PUBLIC;
COMMENT ON FUNCTION leyser.key_findings() IS 'internal: what family key finds about keys';

-- How a role loses another: by each grant of it to whatever the role can become.
CREATE FUNCTION leyser.membership_remedy(actor oid, role oid) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(format('REVOKE %I FROM %I;', o.rolname, m.rolname), ' ' ORDER BY m.rolname)
    FROM pg_auth_members e JOIN pg_roles o ON o.oid = e.roleid JOIN pg_roles m ON m.oid = e.member
    JOIN leyser.check_reach h ON h.role = m.oid AND h.actor = membership_remedy.actor
    WHERE e.roleid = membership_remedy.role
$$;
REVOKE ALL ON FUNCTION leyser.membership_remedy(oid, oid) FROM PUBLIC;
COMMENT ON FUNCTION leyser.membership_remedy(oid, oid) IS 'internal: SQL after which a role cannot become another one any more';

CREATE FUNCTION leyser.key_duty_findings() RETURNS TABLE (check_id text, object text, finding text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH duty AS MATERIALIZED (
        SELECT a.actor, a.rolname, g.role, g.usage FROM leyser.check_actor a JOIN leyser.check_reach h ON h.actor = a.actor JOIN leyser.usage_record g ON g.role = h.role
    )
    SELECT CASE WHEN l.usage = 'auditor' THEN 'key.auditor_acts' WHEN o.usage = 'backup' THEN 'key.custodian_backs_up' ELSE 'key.custodian_acts' END, 'role ' || l.rolname,
           format('It has usage %s and %s.', l.usage, string_agg(DISTINCT o.usage, ', ')),
           CASE WHEN l.role = l.actor THEN format('SELECT leyser.revoke_usage(%L, %L);', quote_ident(l.rolname), l.usage) ELSE leyser.membership_remedy(l.actor, l.role) END
    FROM duty l JOIN duty o ON o.actor = l.actor
    WHERE l.usage = 'key_custodian' AND o.usage IN ('operator', 'backup') OR l.usage = 'auditor' AND o.usage IN ('operator', 'key_custodian', 'provisioner', 'exporter', 'mailer')
    GROUP BY 1, l.actor, l.rolname, l.role, l.usage
    UNION ALL
    SELECT 'key.duty_reads_rows', 'role ' || d.rolname, format('It has rights on %s protected tables.', count(DISTINCT t.name)),
           string_agg(DISTINCT format('REVOKE ALL ON %s FROM %s;', t.name, leyser.role_word(a.grantee)), ' ')
    FROM (SELECT DISTINCT d.actor, d.rolname FROM duty d WHERE d.usage IN ('operator', 'key_custodian', 'provisioner', 'backup', 'mailer')
          AND NOT EXISTS (SELECT FROM duty o WHERE o.actor = d.actor AND o.usage IN ('application', 'gateway', 'exporter'))) d
    JOIN leyser.check_access() a ON a.actor = d.actor AND NOT a.is_owner JOIN leyser.check_table t ON t.relation = a.relation
    GROUP BY d.rolname
    UNION ALL
    SELECT 'key.unfit_application', 'role ' || u.role::regrole, string_agg(DISTINCT p.problem, '; '),
           string_agg(DISTINCT replace(p.remedy, '…', (SELECT d.datdba::regrole::text FROM pg_database d WHERE d.datname = current_database())), ' ')
    FROM leyser.usage_record u CROSS JOIN LATERAL leyser.usage_problems(u.role) p
    WHERE u.usage IN ('application', 'gateway', 'exporter')
      AND p.problem !~ '(is a superuser|has (BYPASSRLS|CREATEROLE|REPLICATION)|a member of pg_(read|write)_all_data|a member of pg_.*server_(program|files))$'
      AND p.problem !~ ' (owns governed table|may create objects in schema|may set|may write to) '
      AND NOT (u.usage <> 'exporter' AND p.problem ~ 'a member of pg_(monitor|read_all_stats)$')
    GROUP BY u.role
    UNION ALL
    SELECT CASE WHEN o.rolname IN ('pg_read_all_data', 'pg_write_all_data') THEN 'key.all_data' ELSE 'key.server_files' END,
           format('role %s in %s', a.rolname, o.rolname), format('%s can become %s.', a.rolname, o.rolname), leyser.membership_remedy(a.actor, o.oid)
    FROM leyser.check_actor a JOIN leyser.check_reach h ON h.actor = a.actor JOIN pg_roles o ON o.oid = h.role
    WHERE o.rolname IN ('pg_read_all_data', 'pg_write_all_data', 'pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program')
$$;
REVOKE ALL ON FUNCTION leyser.key_duty_findings() FROM PUBLIC;
COMMENT ON FUNCTION leyser.key_duty_findings() IS 'internal: what family key finds about duties and memberships';

-- What the install script has given is in pg_init_privs, what usages give in usage_rights().
CREATE FUNCTION leyser.key_own_findings() RETURNS TABLE (check_id text, object text, finding text, remedy text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH own AS MATERIALIZED (
        SELECT 'pg_class'::regclass AS class, c.oid, c.relowner AS owner, c.relacl AS acl, 'table ' || c.oid::regclass AS object,
               CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE '' END || c.oid::regclass AS word, 'key.own_tables' AS check_id
        FROM pg_class c WHERE c.relnamespace = 'leyser'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
        UNION ALL
        SELECT 'pg_class'::regclass, c.oid, c.relowner, a.attacl, 'table ' || c.oid::regclass, c.oid::regclass::text, 'key.own_tables'
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relnamespace = 'leyser'::regnamespace AND a.attacl IS NOT NULL
        UNION ALL
        SELECT 'pg_proc'::regclass, p.oid, p.proowner, p.proacl, 'function ' || p.oid::regprocedure, 'ROUTINE ' || p.oid::regprocedure, 'key.own_functions'
        FROM pg_proc p WHERE p.pronamespace = 'leyser'::regnamespace
    ), given AS MATERIALIZED (
        SELECT CASE u.object_kind WHEN 'TABLE' THEN 'pg_class' ELSE 'pg_proc' END::regclass AS class,
               CASE u.object_kind WHEN 'TABLE' THEN u.object::regclass::oid ELSE u.object::regprocedure::oid END AS oid, g.role AS grantee, u.privilege
        FROM leyser.usage_rights() u JOIN leyser.usage_record g ON g.usage = u.usage WHERE u.object_kind IN ('TABLE', 'FUNCTION', 'PROCEDURE')
    )
    SELECT o.check_id, o.object, format('%s has %s.', string_agg(DISTINCT leyser.role_word(x.grantee), ', '), string_agg(DISTINCT x.privilege_type, ', ')),
           string_agg(DISTINCT format('REVOKE %s ON %s FROM %s;', x.privilege_type, o.word, leyser.role_word(x.grantee)), ' ')
    FROM own o CROSS JOIN LATERAL aclexplode(o.acl) x
    WHERE x.grantee <> o.owner
      AND NOT EXISTS (SELECT FROM given g WHERE g.class = o.class AND g.oid = o.oid AND g.grantee = x.grantee AND g.privilege = x.privilege_type)
      AND NOT EXISTS (SELECT FROM pg_init_privs i CROSS JOIN LATERAL aclexplode(i.initprivs) y
                      WHERE i.classoid = o.class AND i.objoid = o.oid AND i.objsubid = 0 AND y.grantee = x.grantee AND y.privilege_type = x.privilege_type)
    GROUP BY o.check_id, o.object
    UNION ALL
    SELECT 'key.leyser_owner', 'schema leyser', format('It belongs to %s.', r.rolname), format('ALTER SCHEMA leyser OWNER TO %s;', 10::regrole)
    FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner WHERE n.nspname = 'leyser' AND NOT r.rolsuper
    UNION ALL
    SELECT DISTINCT 'key.leyser_owner', o.object, format('It belongs to %s.', r.rolname),
           format('ALTER %s OWNER TO %s;', CASE WHEN o.class = 'pg_class'::regclass THEN 'TABLE ' || o.oid::regclass ELSE o.word END, 10::regrole)
    FROM own o JOIN pg_roles r ON r.oid = o.owner WHERE NOT r.rolsuper
$$;
REVOKE ALL ON FUNCTION leyser.key_own_findings() FROM PUBLIC;
COMMENT ON FUNCTION leyser.key_own_findings() IS 'internal: what family key finds about leyser''s own objects';
