-- Usages: bundles of plain PostgreSQL rights, given to roles by a superuser.

-- Why a role must not touch tenants' rows: it could step around row security,
-- or leave something in a schema that another session would run.  All roles
-- that it is a member of count, for SET ROLE reaches them.
CREATE FUNCTION leyser.usage_problems(role regrole)
    RETURNS TABLE (problem text, remedy text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    WITH RECURSIVE reach AS (
        SELECT usage_problems.role::oid AS oid
        UNION
        SELECT m.roleid FROM reach JOIN pg_auth_members m ON m.member = reach.oid
    ), roles AS (
        SELECT r.*, CASE WHEN r.oid = usage_problems.role THEN 'it' ELSE format('role "%s", of which it is a member,', r.rolname) END AS who
        FROM reach JOIN pg_roles r USING (oid)
    )
    SELECT format('%s is a superuser', r.who), format('ALTER ROLE %I NOSUPERUSER;', r.rolname)
        FROM roles r WHERE r.rolsuper
    UNION ALL
    SELECT format('%s has BYPASSRLS', r.who), format('ALTER ROLE %I NOBYPASSRLS;', r.rolname)
        FROM roles r WHERE r.rolbypassrls
    UNION ALL
    SELECT format('%s has CREATEROLE', r.who), format('ALTER ROLE %I NOCREATEROLE;', r.rolname)
        FROM roles r WHERE r.rolcreaterole
    UNION ALL
    SELECT format('%s has REPLICATION', r.who), format('ALTER ROLE %I NOREPLICATION;', r.rolname)
        FROM roles r WHERE r.rolreplication
    UNION ALL
    SELECT format('it is a member of %s', r.rolname), format('REVOKE %I FROM %s;', r.rolname, usage_problems.role)
        FROM roles r WHERE r.rolname IN ('pg_read_all_data', 'pg_write_all_data', 'pg_read_all_stats', 'pg_monitor',
            'pg_execute_server_program', 'pg_read_server_files',
            'pg_write_server_files', 'pg_create_subscription', 'pg_maintain')
    UNION ALL
    (SELECT DISTINCT ON (r.oid) format('%s owns governed table "%s"', r.who, c.oid::regclass),
           format('ALTER TABLE %s OWNER TO …;', c.oid::regclass)
        FROM roles r JOIN pg_class c ON c.relowner = r.oid
        JOIN leyser.table_record t ON t.relation = c.oid
        ORDER BY r.oid, c.relname)
    UNION ALL
    (SELECT DISTINCT ON (n.oid) format('%s may create objects in schema "%s"', r.who, n.nspname),
           CASE WHEN n.nspowner = r.oid THEN format('ALTER SCHEMA %I OWNER TO …;', n.nspname)
                WHEN EXISTS (SELECT FROM aclexplode(n.nspacl) x WHERE x.grantee = 0 AND x.privilege_type = 'CREATE')
                    THEN format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC;', n.nspname)
                ELSE format('REVOKE CREATE ON SCHEMA %I FROM %I;', n.nspname, r.rolname) END
        FROM roles r CROSS JOIN pg_namespace n
        WHERE NOT r.rolsuper AND n.nspname !~ '^pg_(temp|toast)'
          AND has_schema_privilege(r.oid, n.oid, 'CREATE')
        ORDER BY n.oid, r.oid)
    UNION ALL
    SELECT format('%s may set %s', CASE WHEN x.grantee = 0 THEN 'everybody' ELSE r.who END, p.parname),
           format('REVOKE SET ON PARAMETER %s FROM %s;', p.parname,
                  CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE format('%I', r.rolname) END)
        FROM pg_parameter_acl p CROSS JOIN LATERAL aclexplode(p.paracl) x
        JOIN roles r ON r.oid = x.grantee OR x.grantee = 0 AND r.oid = usage_problems.role
        WHERE x.privilege_type = 'SET' AND (p.parname ~ '^leyser\.' OR p.parname = 'session_replication_role')
    UNION ALL
    -- what is granted to it, or for a column; pg_write_all_data stands above
    SELECT DISTINCT format('%s may write to leyser''s own tables', CASE WHEN x.grantee = 0 THEN 'everybody' ELSE r.who END),
           format('REVOKE INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER ON ALL TABLES IN SCHEMA leyser FROM %s;',
                  CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE format('%I', r.rolname) END)
        FROM (SELECT c.relacl FROM pg_class c WHERE c.relnamespace = 'leyser'::regnamespace
              UNION ALL
              SELECT a.attacl FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
              WHERE c.relnamespace = 'leyser'::regnamespace) o (acl)
        CROSS JOIN LATERAL aclexplode(o.acl) x
        JOIN roles r ON r.oid = x.grantee OR x.grantee = 0 AND r.oid = usage_problems.role
        WHERE NOT r.rolsuper AND x.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER')
    UNION ALL
    -- duties that are kept apart; a gateway may be an application besides
    SELECT format('%s has usage %s', r.who, u.usage),
           CASE WHEN r.oid = usage_problems.role THEN format('SELECT leyser.revoke_usage(%L, %L);', r.rolname, u.usage)
                ELSE format('REVOKE %I FROM %s;', r.rolname, usage_problems.role) END
        FROM roles r JOIN leyser.usage_record u ON u.role = r.oid
        -- a mailer reads all tenants' addresses
        WHERE u.usage IN ('operator', 'key_custodian', 'mailer')
           OR u.usage = 'exporter' AND EXISTS (
                  SELECT FROM leyser.usage_record o
                  WHERE o.role = usage_problems.role AND o.usage IN ('application', 'gateway'))
           OR u.usage = 'gateway' AND r.oid <> usage_problems.role
              AND NOT EXISTS (SELECT FROM leyser.usage_record o
                              WHERE o.role = usage_problems.role AND o.usage = 'gateway')
    UNION ALL
    SELECT format('%s may create schemas in this database', r.who),
           format('REVOKE CREATE ON DATABASE %I FROM %I;', current_database(), r.rolname)
        FROM roles r WHERE NOT r.rolsuper AND has_database_privilege(r.oid, current_database(), 'CREATE')
$$;
REVOKE ALL ON FUNCTION leyser.usage_problems(regrole) FROM PUBLIC;
COMMENT ON FUNCTION leyser.usage_problems(regrole) IS
    'internal: why a role cannot have usage application, gateway or exporter, and what to do about it';

-- What grant_usage() would refuse by now, a sentence for each role and problem.
-- The guard compares it before and after statements that change roles or rights.
CREATE FUNCTION leyser.usage_drift() RETURNS text[]
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(array_agg(DISTINCT format('role "%s", which has usage %s: %s', u.role, u.usage, p.problem)), '{}')
    FROM leyser.usage_record u
    JOIN pg_roles r ON r.oid = u.role
    CROSS JOIN LATERAL leyser.usage_problems(u.role) p
    WHERE u.usage IN ('application', 'gateway', 'exporter')
$$;
REVOKE ALL ON FUNCTION leyser.usage_drift() FROM PUBLIC;
COMMENT ON FUNCTION leyser.usage_drift() IS
    'internal: what makes roles unfit for their usage since it was granted';

-- Grants or revokes the rights of one usage.
CREATE FUNCTION leyser.change_rights(role regrole, usage text, give boolean) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted record;
    target text := format('%I', (SELECT r.rolname FROM pg_roles r WHERE r.oid = role));
BEGIN
    FOR wanted IN SELECT DISTINCT u.object_kind, u.privilege, u.object FROM leyser.usage_rights() u
            WHERE u.usage = change_rights.usage
              -- a right that another usage of the role needs too stays
              AND (give OR NOT EXISTS (SELECT FROM leyser.usage_rights() o
                   JOIN leyser.usage_record g ON g.usage = o.usage AND g.role = change_rights.role
                   WHERE o.object = u.object)) LOOP
        EXECUTE format(CASE WHEN give THEN 'GRANT %s ON %s %s TO %s' ELSE 'REVOKE %s ON %s %s FROM %s' END,
                       wanted.privilege, wanted.object_kind, wanted.object, target);
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.change_rights(regrole, text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.change_rights(regrole, text, boolean) IS
    'internal: gives or takes the plain rights that a usage stands for';

CREATE FUNCTION leyser.check_usage(role regrole, usage text) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM leyser.usage_rights() u WHERE u.usage = check_usage.usage) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'unknown usage',
            DETAIL = format('Usages are %s.', (SELECT string_agg(DISTINCT u.usage, ', ') FROM leyser.usage_rights() u)),
            HINT = 'For example leyser.grant_usage(''app'', ''application'').';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = check_usage.role) THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = 'role does not exist',
            DETAIL = 'No role was given, or it was dropped.',
            HINT = 'CREATE ROLE … first.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_usage(regrole, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_usage(regrole, text) IS
    'internal: raises for a usage or role that does not exist';

CREATE FUNCTION leyser.grant_usage(role regrole, usage text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    problems text;
    remedies text;
    before text[] := leyser.usage_drift();
BEGIN
    PERFORM leyser.check_usage(grant_usage.role, grant_usage.usage);
    IF grant_usage.usage IN ('application', 'gateway', 'exporter') THEN
        SELECT string_agg(p.problem, '; ' ORDER BY p.problem), string_agg(p.remedy, ' ' ORDER BY p.problem)
            INTO problems, remedies FROM leyser.usage_problems(grant_usage.role) p;
        IF problems IS NOT NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_grant_operation',
                MESSAGE = format('role "%s" cannot have usage %s', grant_usage.role, grant_usage.usage),
                DETAIL = format('The role is not bound by row security alone: %s.', problems),
                HINT = remedies || ' Or split the roles: CREATE ROLE … LOGIN; with nothing but rights on the tables.';
        END IF;
    END IF;
    INSERT INTO leyser.usage_record (role, usage) VALUES (grant_usage.role, grant_usage.usage)
        ON CONFLICT DO NOTHING;
    -- a role that is a member of this one may be an application
    SELECT string_agg(d.problem, '; ' ORDER BY d.problem) INTO problems
        FROM unnest(leyser.usage_drift()) d (problem) WHERE d.problem <> ALL (before);
    IF problems IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_grant_operation',
            MESSAGE = format('role "%s" cannot have usage %s', grant_usage.role, grant_usage.usage),
            DETAIL = format('Duties are kept apart: %s.', problems),
            HINT = 'Grant it to a role that applications and gateways cannot become.';
    END IF;
    PERFORM leyser.change_rights(grant_usage.role, grant_usage.usage, true);
    PERFORM leyser.record_event('usage.granted', NULL, grant_usage.role::text,
        jsonb_build_object('usage', grant_usage.usage));
END
$$;
REVOKE ALL ON FUNCTION leyser.grant_usage(regrole, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.grant_usage(regrole, text) IS
    'superuser: gives a role the rights of a usage (application, gateway, provisioner, operator, key_custodian, backup, exporter, mailer, monitor, auditor); 0LP01 where the role could step around row security, 22023 for an unknown usage';

CREATE FUNCTION leyser.revoke_usage(role regrole, usage text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    PERFORM leyser.check_usage(revoke_usage.role, revoke_usage.usage);
    DELETE FROM leyser.usage_record u
        WHERE u.role = revoke_usage.role AND u.usage = revoke_usage.usage;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('role "%s" does not have usage %s', revoke_usage.role, revoke_usage.usage),
            DETAIL = 'There is nothing to revoke.',
            HINT = 'See view leyser.granted_usage.';
    END IF;
    PERFORM leyser.change_rights(revoke_usage.role, revoke_usage.usage, false);
    IF revoke_usage.usage = 'exporter' THEN
        PERFORM leyser.end_exports(NULL, 'usage');
    END IF;
    PERFORM leyser.record_event('usage.revoked', NULL, revoke_usage.role::text,
        jsonb_build_object('usage', revoke_usage.usage));
END
$$;
REVOKE ALL ON FUNCTION leyser.revoke_usage(regrole, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.revoke_usage(regrole, text) IS
    'superuser: takes the rights of a usage away; rights that another usage of the role needs stay; LY008 where the role does not have it';

-- What grant_usage() refuses can come true later; then it shows here.
CREATE VIEW leyser.granted_usage AS
    SELECT u.role, u.usage, u.granted_at,
           CASE WHEN u.usage IN ('application', 'gateway', 'exporter')
                THEN ARRAY(SELECT p.problem FROM leyser.usage_problems(u.role) p ORDER BY 1)
                ELSE '{}' END AS problems
    FROM leyser.usage_record u;
COMMENT ON VIEW leyser.granted_usage IS
    'which role has which usage, and why a role should have it no longer (operator, auditor)';
