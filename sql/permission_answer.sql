-- Who may do what, why, and who could when.
--
-- All of it is read from the tables, as the transaction's snapshot sees them, never
-- from the cache of src/permission.c.  Who may ask is known afresh at each statement.
-- An account may ask about itself; with leyser.grants about others of its tenant.

CREATE FUNCTION leyser.account_to_tell(account_name text, scope text DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    caller CONSTANT bigint := leyser.acting_account();
BEGIN
    IF leyser.account_id_of(account_name) IS DISTINCT FROM caller THEN
        PERFORM leyser.require_account_permission('leyser.grants', scope);
    END IF;
    RETURN leyser.find_account(account_name);
END
$$;
REVOKE ALL ON FUNCTION leyser.account_to_tell(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.account_to_tell(text, text) IS
    'internal: the id of an account about which the caller may ask; 42501, 42704';

-- The shortest way from a role to a permission, as names of roles.  Level by level,
-- each role once: roles that include each other crosswise make no difference.
CREATE FUNCTION leyser.role_path(role_id bigint, permission text) RETURNS text[]
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    levels bigint[] := ARRAY[role_path.role_id]; -- all roles seen, nearest first
    via bigint[] := ARRAY[NULL::bigint];         -- the role through which
    at_role int := 1;
    path text[] := '{}';
    one record;
BEGIN
    WHILE NOT EXISTS (SELECT FROM leyser.role_permission p
            WHERE p.role_id = levels[at_role] AND p.permission = role_path.permission) LOOP
        FOR one IN SELECT m.included_role_id AS id FROM leyser.role_member m
                WHERE m.role_id = levels[at_role] AND m.included_role_id <> ALL (levels) ORDER BY 1 LOOP
            levels := levels || one.id;
            via := via || levels[at_role];
        END LOOP;
        at_role := at_role + 1;
        IF at_role > cardinality(levels) THEN
            RETURN NULL;
        END IF;
    END LOOP;
    WHILE at_role IS NOT NULL LOOP
        path := (SELECT 'role ' || r.role_name FROM leyser.role_record r WHERE r.role_id = levels[at_role]) || path;
        at_role := array_position(levels, via[at_role]);
    END LOOP;
    RETURN path;
END
$$;
REVOKE ALL ON FUNCTION leyser.role_path(bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.role_path(bigint, text) IS
    'internal: the roles from one that was granted to one that has a permission';

-- Every grant and denial that has to do with a question, and what it does there.
CREATE FUNCTION leyser.permission_findings(account_id bigint, permission text, scope text, at timestamptz)
    RETURNS TABLE (finding text, grant_id bigint, path text[])
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'account is ' || a.state, NULL, NULL FROM leyser.account_record a
        WHERE a.account_id = permission_findings.account_id AND a.state <> 'active'
    UNION ALL
    SELECT CASE
            WHEN NOT leyser.scope_covers(r.scope, permission_findings.scope) THEN 'is for another scope'
            WHEN r.valid_from > permission_findings.at THEN 'has not started'
            WHEN r.valid_until <= permission_findings.at THEN 'has ended'
            WHEN r.kind = 'deny' THEN 'denies'
            ELSE 'allows' END,
        r.grant_id,
        CASE r.kind WHEN 'administrator' THEN '{administrator}' WHEN 'deny' THEN '{denial}'
                    WHEN 'role' THEN leyser.role_path(r.role_id, permission_findings.permission)
                    ELSE '{}' END || ('permission ' || permission_findings.permission)
    FROM leyser.account_grants(permission_findings.account_id, permission_findings.permission, NULL) g
    JOIN leyser.grant_record r USING (grant_id)
$$;
REVOKE ALL ON FUNCTION leyser.permission_findings(bigint, text, text, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.permission_findings(bigint, text, text, timestamptz) IS
    'internal: what each grant, denial and the account''s state have to do with a permission in a scope';

CREATE FUNCTION leyser.explain_permission(account_name text, permission text, scope text DEFAULT NULL)
    RETURNS TABLE (allowed boolean, finding text, path text[], in_scope text,
                   valid_from timestamptz, valid_until timestamptz, granted_by text)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    caller CONSTANT bigint := leyser.acting_account();
    asked bigint;
    moment CONSTANT timestamptz := clock_timestamp();
BEGIN
    PERFORM leyser.check_permission(explain_permission.permission);
    PERFORM leyser.check_scope(explain_permission.scope);
    asked := leyser.account_to_tell(explain_permission.account_name, explain_permission.scope);
    RETURN QUERY
        WITH f AS MATERIALIZED (
            SELECT x.*, array_position(ARRAY['denies', 'allows', 'has not started', 'has ended', 'is for another scope'], x.finding) AS place
            FROM leyser.permission_findings(asked, explain_permission.permission, explain_permission.scope, moment) x
            LEFT JOIN leyser.grant_record o ON o.grant_id = x.grant_id AND x.finding = 'is for another scope'
            -- what decides nothing is told to those who see it in view granted
            WHERE o.grant_id IS NULL OR caller IN (o.account_id, o.granted_by)
               OR leyser.account_may(caller, 'leyser.grants', o.scope)
        ), decision AS (
            SELECT coalesce(bool_or(f.place = 2) AND NOT bool_or(f.place IS NULL OR f.place = 1), false) AS allowed FROM f
        )
        SELECT d.allowed, coalesce(f.finding, 'nothing grants it'), f.path, r.scope, r.valid_from, r.valid_until, b.account_name
        FROM decision d LEFT JOIN f ON true
        LEFT JOIN leyser.grant_record r ON r.grant_id = f.grant_id
        LEFT JOIN leyser.account_record b ON b.account_id = r.granted_by
        ORDER BY f.place NULLS FIRST, f.path, r.scope, r.valid_from, f.grant_id;
END
$$;
REVOKE ALL ON FUNCTION leyser.explain_permission(text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.explain_permission(text, text, text) IS
    'application: why an account has a permission in a scope (NULL: everywhere) or has it not, a row for each finding: the paths that allow it, the denials that forbid it, what has ended, not started or is for another scope; about others with permission leyser.grants in the scope, without their grants for other scopes where the caller does not have it, else 42501; 42704, 22023';

CREATE FUNCTION leyser.permissions_of(account_name text)
    RETURNS TABLE (permission text, scope text, except_scopes text[])
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    asked CONSTANT bigint := leyser.account_to_tell(permissions_of.account_name);
    moment CONSTANT timestamptz := clock_timestamp();
BEGIN
    RETURN QUERY
        -- the scope that is everywhere is the empty string here
        WITH g AS MATERIALIZED (
            SELECT DISTINCT x.permission, coalesce(x.scope, '') AS scope, x.kind = 'deny' AS denied
            FROM leyser.account_grants(asked, NULL, moment) x
            JOIN leyser.account_record a ON a.account_id = asked AND a.state = 'active'
        ), above AS MATERIALIZED (
            SELECT g.permission, g.scope, g.denied, s.scope AS higher
            FROM g CROSS JOIN LATERAL unnest(leyser.scopes_above(nullif(g.scope, ''))) s (scope)
        ), pair AS MATERIALIZED (  -- each one beside all that is above it, or the same
            SELECT l.permission, l.scope, l.denied, l.higher, h.denied AS higher_denied
            FROM above l JOIN g h ON h.permission = l.permission AND h.scope = l.higher
        )
        SELECT g.permission, nullif(g.scope, ''), coalesce(e.scopes, '{}')
        FROM g LEFT JOIN (SELECT p.permission, p.higher, array_agg(p.scope ORDER BY p.scope) AS scopes
                          FROM pair p WHERE p.denied AND NOT p.higher_denied GROUP BY 1, 2) e
            ON e.permission = g.permission AND e.higher = g.scope
        WHERE NOT g.denied AND NOT EXISTS (SELECT FROM pair p
            WHERE p.permission = g.permission AND p.scope = g.scope AND NOT p.denied
              AND (p.higher_denied OR p.higher <> p.scope))
        ORDER BY 1, g.scope;
END
$$;
REVOKE ALL ON FUNCTION leyser.permissions_of(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.permissions_of(text) IS
    'application: what an account may do now: each permission, the scope in and below which it has it (NULL: everywhere), and the scopes in and below which it is denied; about others with permission leyser.grants, else 42501; 42704';

CREATE FUNCTION leyser.accounts_with(permission text, scope text DEFAULT NULL)
    RETURNS TABLE (account_name text, through text[])
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    moment CONSTANT timestamptz := clock_timestamp();
    tenant CONSTANT text := leyser.tenant_id();
BEGIN
    PERFORM leyser.check_permission(accounts_with.permission);
    PERFORM leyser.check_scope(accounts_with.scope);
    PERFORM leyser.require_account_permission('leyser.grants', accounts_with.scope);
    RETURN QUERY
        WITH RECURSIVE giving (role_id) AS (
            SELECT r.role_id FROM leyser.role_record r JOIN leyser.role_permission p ON p.role_id = r.role_id
                WHERE r.tenant_id = tenant AND p.permission = accounts_with.permission
            UNION
            SELECT m.role_id FROM giving g JOIN leyser.role_member m ON m.included_role_id = g.role_id
        )
        SELECT a.account_name,
            array_agg(DISTINCT CASE g.kind WHEN 'role' THEN 'role ' || r.role_name ELSE g.kind END)
        FROM leyser.account_record a JOIN leyser.grant_record g ON g.account_id = a.account_id
        LEFT JOIN leyser.role_record r ON r.role_id = g.role_id
        WHERE a.tenant_id = tenant AND a.state = 'active'
          AND g.valid_from <= moment AND moment < g.valid_until
          AND leyser.scope_covers(g.scope, accounts_with.scope)
          AND (g.kind = 'administrator' OR g.permission = accounts_with.permission
               OR g.role_id IN (SELECT v.role_id FROM giving v))
        GROUP BY a.account_id HAVING NOT bool_or(g.kind = 'deny')
        ORDER BY a.name_key;
END
$$;
REVOKE ALL ON FUNCTION leyser.accounts_with(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.accounts_with(text, text) IS
    'application, with permission leyser.grants: the active accounts that have a permission in a scope (NULL: everywhere) now, and through what: administrator, permission, or which granted role; 42501, 42704, 22023';

CREATE FUNCTION leyser.permission_history(account_name text DEFAULT NULL)
    RETURNS TABLE (at timestamptz, change text, account_id bigint, account_now text, role_name text,
                   changed_by text, row_before jsonb, row_after jsonb)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    asked bigint;
BEGIN
    IF permission_history.account_name IS NULL THEN
        PERFORM leyser.require_account_permission('leyser.grants');
    ELSE
        asked := leyser.account_to_tell(permission_history.account_name);
    END IF;
    RETURN QUERY
        SELECT c.at, c.change, c.account_id, a.account_name,
            coalesce(r.role_name, c.row_before ->> 'role_name', c.row_after ->> 'role_name'),
            b.account_name, c.row_before, c.row_after
        FROM leyser.permission_change c
        LEFT JOIN leyser.account_record a ON a.account_id = c.account_id
        LEFT JOIN leyser.account_record b ON b.account_id = c.changed_by
        LEFT JOIN leyser.role_record r ON r.role_id = coalesce(c.role_id,
            (c.row_before ->> 'role_id')::bigint, (c.row_after ->> 'role_id')::bigint)
        WHERE c.tenant_id = leyser.tenant_id() AND (asked IS NULL OR c.account_id = asked)
        ORDER BY c.change_id;
END
$$;
REVOKE ALL ON FUNCTION leyser.permission_history(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.permission_history(text) IS
    'application: every change of an account''s grants, denials and state, or (NULL, with permission leyser.grants) every change of the tenant''s, its roles included; about others with permission leyser.grants, else 42501; 42704';

-- ---- the past ----
--
-- A change is dated by its statement: when it is committed is not known then.

-- What grants an account had at a time, by the history.
CREATE FUNCTION leyser.grants_at(account_id bigint, at timestamptz) RETURNS SETOF leyser.grant_record
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT (jsonb_populate_record(NULL::leyser.grant_record, c.row_after)).*
    FROM (SELECT DISTINCT ON (h.grant_id) h.row_after FROM leyser.permission_change h
          WHERE h.account_id = grants_at.account_id AND h.grant_id IS NOT NULL AND h.at <= grants_at.at
          ORDER BY h.grant_id, h.change_id DESC) c
    WHERE c.row_after IS NOT NULL
$$;
REVOKE ALL ON FUNCTION leyser.grants_at(bigint, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.grants_at(bigint, timestamptz) IS 'internal: an account''s grants and denials as they were at a time';

-- Roles that had a permission at a time, themselves or through roles that they included.
CREATE FUNCTION leyser.roles_giving_at(tenant_id text, permission text, at timestamptz) RETURNS SETOF bigint
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE images AS MATERIALIZED (
        SELECT DISTINCT ON (h.role_id) h.role_id, h.row_after FROM leyser.permission_change h
        WHERE h.tenant_id = roles_giving_at.tenant_id AND h.role_id IS NOT NULL AND h.at <= roles_giving_at.at
        ORDER BY h.role_id, h.change_id DESC
    ), giving (role_id) AS (
        SELECT i.role_id FROM images i WHERE i.row_after -> 'permissions' ? roles_giving_at.permission
        UNION
        SELECT i.role_id FROM giving g JOIN images i ON i.row_after -> 'roles' @> to_jsonb(g.role_id)
    )
    SELECT g.role_id FROM giving g
$$;
REVOKE ALL ON FUNCTION leyser.roles_giving_at(text, text, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.roles_giving_at(text, text, timestamptz) IS
    'internal: the roles of a tenant that gave a permission at a time';

CREATE FUNCTION leyser.account_state_at(account_id bigint, at timestamptz) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN a.created_at <= account_state_at.at THEN coalesce(
        (SELECT c.row_after ->> 'state' FROM leyser.permission_change c
         WHERE c.account_id = a.account_id AND c.change LIKE 'account.%' AND c.at <= account_state_at.at
         ORDER BY c.change_id DESC LIMIT 1),
        (SELECT c.row_before ->> 'state' FROM leyser.permission_change c
         WHERE c.account_id = a.account_id AND c.change LIKE 'account.%' AND c.at > account_state_at.at
         ORDER BY c.change_id LIMIT 1),
        a.state) END
    FROM leyser.account_record a WHERE a.account_id = account_state_at.account_id
$$;
REVOKE ALL ON FUNCTION leyser.account_state_at(bigint, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.account_state_at(bigint, timestamptz) IS
    'internal: the state of an account at a time, NULL before it was there';

CREATE FUNCTION leyser.had_permission(account_name text, permission text, scope text, at timestamptz) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    asked bigint;
BEGIN
    PERFORM leyser.check_permission(had_permission.permission);
    PERFORM leyser.check_scope(had_permission.scope);
    IF (had_permission.at <= clock_timestamp()) IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid time',
            DETAIL = 'It is null, or not yet past.', HINT = 'Give a time in the past.';
    END IF;
    asked := leyser.account_to_tell(had_permission.account_name, had_permission.scope);
    RETURN coalesce(leyser.account_state_at(asked, had_permission.at) = 'active', false) AND (
        SELECT coalesce(bool_or(g.kind <> 'deny') AND NOT bool_or(g.kind = 'deny'), false)
        FROM leyser.grants_at(asked, had_permission.at) g
        WHERE g.valid_from <= had_permission.at AND had_permission.at < g.valid_until
          AND leyser.scope_covers(g.scope, had_permission.scope)
          AND (g.kind = 'administrator' OR g.permission = had_permission.permission OR g.role_id IN
               (SELECT r.id FROM leyser.roles_giving_at(leyser.tenant_id(), had_permission.permission, had_permission.at) r (id))));
END
$$;
REVOKE ALL ON FUNCTION leyser.had_permission(text, text, text, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.had_permission(text, text, text, timestamptz) IS
    'application: whether an account had a permission in a scope (NULL: everywhere) at a time, by the grants, roles and states that were recorded by then (a change is dated by its statement, not by its COMMIT); about others with permission leyser.grants, else 42501; 42704, 22023 for a wrong scope or a time not yet past';

-- ---- lists ----

CREATE FUNCTION leyser.list_grants()
    RETURNS TABLE (account_name text, kind text, role_name text, permission text, scope text,
                   valid_from timestamptz, valid_until timestamptz, in_force boolean,
                   with_grant_option boolean, granted_by text, granted_at timestamptz)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    caller CONSTANT bigint := leyser.acting_account();
    moment CONSTANT timestamptz := clock_timestamp();
    sees_all CONSTANT boolean := leyser.account_may(caller, 'leyser.grants');
BEGIN
    RETURN QUERY
        SELECT a.account_name, g.kind, r.role_name, g.permission, g.scope, g.valid_from, g.valid_until,
            g.valid_from <= moment AND moment < g.valid_until, g.with_grant_option, b.account_name, g.granted_at
        FROM leyser.account_record a JOIN leyser.grant_record g ON g.account_id = a.account_id
        LEFT JOIN leyser.role_record r ON r.role_id = g.role_id
        LEFT JOIN leyser.account_record b ON b.account_id = g.granted_by
        WHERE a.tenant_id = leyser.tenant_id() AND CASE WHEN sees_all THEN true
            WHEN caller IN (g.account_id, g.granted_by) THEN true
            ELSE leyser.account_may(caller, 'leyser.grants', g.scope) END;
END
$$;
REVOKE ALL ON FUNCTION leyser.list_grants() FROM PUBLIC;
COMMENT ON FUNCTION leyser.list_grants() IS 'internal: the rows of view leyser.granted';

CREATE VIEW leyser.granted AS
    SELECT g.account_name, g.kind, g.role_name, g.permission, g.scope, g.valid_from, g.valid_until,
           g.in_force, g.with_grant_option, g.granted_by, g.granted_at
    FROM leyser.list_grants() g;
COMMENT ON VIEW leyser.granted IS
    'grants and denials of the context''s tenant: with permission leyser.grants those in its scope, for others those that they have or made (application)';
