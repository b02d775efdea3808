-- Permissions: the catalogue, and what an account holds.
--
-- An account has a permission in a scope when it is active, a grant in force
-- gives the permission in that scope or above it, and no denial in force takes
-- it there or above.  Denials beat everything.  src/permission.c answers the
-- same for every row from a cache, and says what a caller may, whatever the
-- isolation level; the answers about accounts that are here read the tables.
--
-- Changes of roles and grants are made one after another in each tenant:
-- begin_change() writes the tenant's row of grant_lock, so that a later one sees
-- what an earlier one did, or fails with 40001 where its transaction cannot.

CREATE TABLE leyser.grant_lock (
    tenant_id text COLLATE "C" PRIMARY KEY,
    changes bigint NOT NULL
);
COMMENT ON TABLE leyser.grant_lock IS 'who changes roles and grants of a tenant writes its row first';

-- leyser's own, which no dump carries.
INSERT INTO leyser.permission_record (permission, description) VALUES
    ('leyser.accounts', 'invite, disable, enable, rename and delete accounts'),
    ('leyser.grants', 'make roles, deny permissions, take grants away, and see who may do what');

-- What a cascade follows.
CREATE INDEX grant_record_granted_by ON leyser.grant_record (granted_by) WHERE granted_by IS NOT NULL;
COMMENT ON INDEX leyser.grant_record_granted_by IS 'what an account has granted';
-- What a listing follows upwards.
CREATE INDEX role_member_included ON leyser.role_member (included_role_id);
COMMENT ON INDEX leyser.role_member_included IS 'which roles include a role';

-- ---- names ----

CREATE FUNCTION leyser.permission_exists(permission text) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM leyser.permission_record p WHERE p.permission = permission_exists.permission)
$$;
REVOKE ALL ON FUNCTION leyser.permission_exists(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.permission_exists(text) IS
    'internal: whether a permission is in the catalogue';

CREATE FUNCTION leyser.refuse_permission(permission text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'undefined_object',
        MESSAGE = 'permission does not exist',
        DETAIL = CASE WHEN permission IS NULL THEN 'No permission was given.'
                      ELSE 'The catalogue has no permission of this name.' END,
        HINT = 'View leyser.permission shows the catalogue; an operator adds to it with leyser.create_permission().';
END
$$;
REVOKE ALL ON FUNCTION leyser.refuse_permission(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.refuse_permission(text) IS
    'internal: raises 42704';

CREATE FUNCTION leyser.check_permission(permission text) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT leyser.permission_exists(permission) THEN
        PERFORM leyser.refuse_permission(permission);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_permission(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_permission(text) IS
    'internal: raises 42704 for a permission that is not in the catalogue';

-- Foreign keys do not look when a name is written (account_tables.sql).  Dropped
-- meanwhile, it would be held by somebody once there is another one of that name.
CREATE FUNCTION leyser.hold_permission(permission text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s'
AS $$
#variable_conflict use_column
BEGIN
    PERFORM FROM leyser.permission_record p WHERE p.permission = hold_permission.permission FOR KEY SHARE;
    IF NOT FOUND THEN
        PERFORM leyser.refuse_permission(hold_permission.permission);
    END IF;
EXCEPTION WHEN lock_not_available THEN
    RAISE EXCEPTION USING ERRCODE = 'lock_not_available',
        MESSAGE = format('permission "%s" is being dropped', hold_permission.permission),
        DETAIL = 'The transaction that drops it has not ended within 3 seconds.',
        HINT = 'Try again in a moment.';
END
$$;
REVOKE ALL ON FUNCTION leyser.hold_permission(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.hold_permission(text) IS
    'internal: keeps a permission in the catalogue until the transaction ends, for whoever writes its name; 42704 where it is not in it, 40001 where it was dropped since the snapshot, 55P03 where that is about to happen';

CREATE FUNCTION leyser.check_scope(scope text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem CONSTANT text := leyser.scope_problem(scope);
BEGIN
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid scope',
            DETAIL = problem,
            HINT = 'Give a path such as japan.tokyo, of 1 to 16 labels with dots between them, or NULL for everywhere.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_scope(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_scope(text) IS
    'internal: raises 22023 for a scope that is no dotted path; NULL is everywhere';

-- Of both names only the outer one is a grant's: without one it is everywhere.
CREATE FUNCTION leyser.scope_covers(outer_scope text, inner_scope text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN outer_scope IS NULL THEN true
                WHEN inner_scope IS NULL THEN false
                ELSE starts_with(inner_scope || '.', outer_scope || '.') END
$$;
REVOKE ALL ON FUNCTION leyser.scope_covers(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.scope_covers(text, text) IS
    'internal: whether a scope is another one or above it';

CREATE FUNCTION leyser.scopes_above(scope text) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT ARRAY(SELECT '' UNION ALL
        SELECT array_to_string((string_to_array(scope, '.'))[1:i], '.')
        FROM generate_series(1, cardinality(string_to_array(scope, '.'))) i)
$$;
REVOKE ALL ON FUNCTION leyser.scopes_above(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.scopes_above(text) IS
    'internal: everywhere (as the empty string), all scopes above a scope, and the scope itself';

-- ---- what an account holds ----

-- A few rows by the index, which the planner would not expect: there is one table
-- for the roles of all tenants.
CREATE FUNCTION leyser.permissions_in(role_id bigint, permission text) RETURNS SETOF text
    LANGUAGE sql STABLE ROWS 10 SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p.permission FROM leyser.role_permission p
    WHERE p.role_id = permissions_in.role_id
      AND (permissions_in.permission IS NULL OR p.permission = permissions_in.permission)
$$;
REVOKE ALL ON FUNCTION leyser.permissions_in(bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.permissions_in(bigint, text) IS
    'internal: the permissions of a role itself, or one of them (permission NULL: all)';

-- Grants and denials in force, roles followed; permission NULL: all of them, at
-- NULL: whether in force or not.
CREATE FUNCTION leyser.account_grants(account_id bigint, permission text, at timestamptz)
    RETURNS TABLE (grant_id bigint, kind text, permission text, scope text, role_id bigint,
                   valid_until timestamptz, with_grant_option boolean)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE mine AS (
        SELECT g.* FROM leyser.grant_record g
        WHERE g.account_id = account_grants.account_id AND (account_grants.at IS NULL
              OR (g.valid_from <= account_grants.at AND account_grants.at < g.valid_until))
          AND (account_grants.permission IS NULL OR g.permission IS NULL OR g.permission = account_grants.permission)
    ), reach (top, role_id) AS (
        SELECT m.role_id, m.role_id FROM mine m WHERE m.kind = 'role'
        UNION
        SELECT r.top, i.included_role_id FROM reach r JOIN leyser.role_member i ON i.role_id = r.role_id
    ), through AS MATERIALIZED (
        SELECT DISTINCT r.top, p.permission
        FROM reach r CROSS JOIN LATERAL leyser.permissions_in(r.role_id, account_grants.permission) p (permission)
    )
    SELECT m.grant_id, m.kind, m.permission, m.scope, m.role_id, m.valid_until, m.with_grant_option
        FROM mine m WHERE m.kind IN ('permission', 'deny')
    UNION ALL
    SELECT m.grant_id, m.kind, t.permission, m.scope, m.role_id, m.valid_until, m.with_grant_option
        FROM mine m JOIN through t ON t.top = m.role_id
    UNION ALL
    SELECT m.grant_id, m.kind, p.permission, m.scope, m.role_id, m.valid_until, m.with_grant_option
        FROM mine m, leyser.permission_record p
        WHERE m.kind = 'administrator'
          AND (account_grants.permission IS NULL OR p.permission = account_grants.permission)
$$;
REVOKE ALL ON FUNCTION leyser.account_grants(bigint, text, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.account_grants(bigint, text, timestamptz) IS
    'internal: the grants and denials of an account that are in force at a time, a row for each permission';

CREATE FUNCTION leyser.effective_permission(account_id bigint, permission text, scope text, at timestamptz)
    RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(bool_or(g.kind <> 'deny') AND NOT bool_or(g.kind = 'deny'), false)
           AND EXISTS (SELECT FROM leyser.account_record a
                       WHERE a.account_id = effective_permission.account_id AND a.state = 'active')
    FROM leyser.account_grants(effective_permission.account_id, effective_permission.permission,
                               effective_permission.at) g
    WHERE leyser.scope_covers(g.scope, effective_permission.scope)
$$;
REVOKE ALL ON FUNCTION leyser.effective_permission(bigint, text, text, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.effective_permission(bigint, text, text, timestamptz) IS
    'internal: whether an account has a permission in a scope (NULL: everywhere) at a time, read from the tables';

CREATE FUNCTION leyser.is_administrator(account_id bigint) RETURNS boolean
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM leyser.grant_record g
        WHERE g.account_id = is_administrator.account_id AND g.kind = 'administrator'
          AND g.valid_from <= clock_timestamp() AND clock_timestamp() < g.valid_until)
$$;
REVOKE ALL ON FUNCTION leyser.is_administrator(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.is_administrator(bigint) IS
    'internal: whether an account is an administrator of its tenant now';

-- ---- who calls ----

-- From outside only a superuser manages a tenant: in a context without an account.
CREATE FUNCTION leyser.acting_account() RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    tenant CONSTANT text := leyser.tenant_id();
    account CONSTANT bigint := leyser.context_account_id();
BEGIN
    IF tenant IS NULL OR (account IS NULL AND NOT leyser.called_by_superuser()) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = 'permission denied: the context has no account',
            DETAIL = 'A tenant is managed by its own accounts.',
            HINT = 'Use a token with an account, such as leyser.login() gives.';
    END IF;
    RETURN account;
END
$$;
REVOKE ALL ON FUNCTION leyser.acting_account() FROM PUBLIC;
COMMENT ON FUNCTION leyser.acting_account() IS
    'internal: the account that calls, NULL for a superuser in a context without an account; LY001 without a context, 42501 for others without an account';

-- By the cache, which is fresh where the transaction's snapshot is old.
CREATE FUNCTION leyser.account_may(account_id bigint, permission text, scope text DEFAULT NULL) RETURNS boolean
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT account_id IS NULL OR leyser.has_permission(permission, scope)
$$;
REVOKE ALL ON FUNCTION leyser.account_may(bigint, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.account_may(bigint, text, text) IS
    'internal: whether what acting_account() gave has a permission now';

CREATE FUNCTION leyser.require_account_permission(permission text, scope text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT leyser.account_may(leyser.acting_account(), permission, scope) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('permission denied: "%s" is missing', permission),
            DETAIL = CASE WHEN scope IS NULL THEN 'The context''s account does not have it everywhere.'
                          ELSE format('The context''s account does not have it in scope "%s".', scope) END,
            HINT = 'An administrator of the tenant can grant it.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.require_account_permission(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.require_account_permission(text, text) IS
    'internal: raises 42501 unless the context''s account has a permission in a scope; a superuser in a context without an account passes';

CREATE FUNCTION leyser.require_administrator() RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    account CONSTANT bigint := leyser.acting_account();
BEGIN
    IF account IS NOT NULL AND NOT leyser.is_administrator(account) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = 'permission denied: only an administrator can do this',
            DETAIL = 'The context''s account is no administrator of its tenant.',
            HINT = 'Ask an administrator of the tenant.';
    END IF;
    -- which may be denied to it
    PERFORM leyser.require_account_permission('leyser.grants');
END
$$;
REVOKE ALL ON FUNCTION leyser.require_administrator() FROM PUBLIC;
COMMENT ON FUNCTION leyser.require_administrator() IS
    'internal: raises 42501 unless the context''s account is an administrator to whom leyser.grants is not denied; a superuser in a context without an account passes';

-- ---- changes ----

-- Somebody may leave a transaction open: whoever waits for it is told so.
CREATE FUNCTION leyser.refuse_wait() RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    holders text := (SELECT string_agg(DISTINCT l.pid::text, ', ') FROM pg_locks l
        WHERE l.relation IN ('leyser.grant_lock'::regclass, 'leyser.account_record'::regclass)
          AND l.mode IN ('RowShareLock', 'RowExclusiveLock') AND l.granted AND l.pid <> pg_backend_pid());
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'lock_not_available',
        MESSAGE = 'another transaction is changing accounts or grants',
        DETAIL = 'It had not ended after three seconds'
                 || coalesce('; open ones are those of the server processes ' || holders, '') || '.',
        HINT = 'Try again in a moment. Sessions end without waiting, by leyser.revoke_sessions(); a transaction that stays open ends with its connection.';
END
$$;
REVOKE ALL ON FUNCTION leyser.refuse_wait() FROM PUBLIC;
COMMENT ON FUNCTION leyser.refuse_wait() IS
    'internal: raises 55P03 and names who may be waited for';

CREATE FUNCTION leyser.lock_grants(tenant_id text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s'
AS $$
BEGIN
    INSERT INTO leyser.grant_lock AS l (tenant_id, changes) VALUES (lock_grants.tenant_id, 1)
        ON CONFLICT ON CONSTRAINT grant_lock_pkey DO UPDATE SET changes = l.changes + 1;
EXCEPTION WHEN lock_not_available THEN
    PERFORM leyser.refuse_wait();
END
$$;
REVOKE ALL ON FUNCTION leyser.lock_grants(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.lock_grants(text) IS
    'internal: makes changes of a tenant''s roles, grants and administrators wait for each other until the transaction ends; 40001 where its snapshot is too old, 55P03 after three seconds';

CREATE FUNCTION leyser.begin_change() RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leyser.acting_account();
    PERFORM leyser.lock_grants(leyser.tenant_id());
    -- who had to wait may not be there any longer
    RETURN leyser.acting_account();
END
$$;
REVOKE ALL ON FUNCTION leyser.begin_change() FROM PUBLIC;
COMMENT ON FUNCTION leyser.begin_change() IS
    'internal: lock_grants() for the context''s tenant; returns acting_account()';

-- Both records of a change: the history of permissions, and the event log.
CREATE FUNCTION leyser.record_change(tenant_id text, change text, account_id bigint, grant_id bigint,
                                     role_id bigint, row_before jsonb, row_after jsonb) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO leyser.permission_change
            (tenant_id, account_id, change, changed_by, grant_id, role_id, row_before, row_after)
        VALUES (tenant_id, account_id, change,
                CASE WHEN leyser.in_context() THEN leyser.context_account_id() END,
                grant_id, role_id, row_before, row_after);
    -- accounts by their ids: nothing personal outlives an account
    PERFORM leyser.record_event(change, tenant_id,
        coalesce(account_id::text, row_after ->> 'role_name', row_before ->> 'role_name'),
        jsonb_strip_nulls(jsonb_build_object('before', row_before, 'after', row_after)));
END
$$;
REVOKE ALL ON FUNCTION leyser.record_change(text, text, bigint, bigint, bigint, jsonb, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.record_change(text, text, bigint, bigint, bigint, jsonb, jsonb) IS
    'internal: records a change of a grant or a role in the history and in the event log';

-- An account that is not active has no permission: its state is part of the history.
-- Updates only: a restore inserts.
CREATE FUNCTION leyser.record_account_state() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO leyser.permission_change (tenant_id, account_id, change, changed_by, row_before, row_after)
        VALUES (NEW.tenant_id, NEW.account_id, 'account.' || NEW.state,
                CASE WHEN leyser.in_context() THEN leyser.context_account_id() END,
                jsonb_build_object('state', OLD.state), jsonb_build_object('state', NEW.state));
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION leyser.record_account_state() FROM PUBLIC;
COMMENT ON FUNCTION leyser.record_account_state() IS
    'internal trigger: an account''s state is part of the history of its permissions';
CREATE TRIGGER record_state AFTER UPDATE OF state ON leyser.account_record
    FOR EACH ROW WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION leyser.record_account_state();
ALTER TABLE leyser.account_record ENABLE ALWAYS TRIGGER record_state;
COMMENT ON TRIGGER record_state ON leyser.account_record IS 'an account''s state is part of the history of its permissions';

-- ---- the catalogue ----

CREATE FUNCTION leyser.create_permission(permission text, description text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
#variable_conflict use_column
BEGIN
    IF create_permission.permission !~ '^[a-z0-9_]+(\.[a-z0-9_]+)*$' IS NOT FALSE
       OR length(create_permission.permission) > 100 OR create_permission.permission ~ '^leyser(\.|$)' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid name of a permission',
            DETAIL = 'It has 1 to 100 characters: labels of lower-case letters, digits and underscores, with dots between them, the first one not "leyser".',
            HINT = 'Give a name such as invoice.read.';
    END IF;
    IF coalesce(create_permission.description, '') = '' OR length(create_permission.description) > 1000
       OR create_permission.description ~ '[\u0001-\u001f\u007f-\u009f]' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid description of a permission',
            DETAIL = 'It is empty, has more than 1000 characters, or has control characters.',
            HINT = 'Say in one line what it allows.';
    END IF;
    INSERT INTO leyser.permission_record (permission, description)
        VALUES (create_permission.permission, create_permission.description) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
            MESSAGE = format('permission "%s" already exists', create_permission.permission),
            DETAIL = 'It is in the catalogue.',
            HINT = 'See view leyser.permission.';
    END IF;
    PERFORM leyser.record_event('permission.created', NULL, create_permission.permission,
        jsonb_build_object('description', create_permission.description));
END
$$;
REVOKE ALL ON FUNCTION leyser.create_permission(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.create_permission(text, text) IS
    'operator: adds a permission to the catalogue, for all tenants; 22023 for a name or description that cannot be, 42710 for one that exists';

CREATE FUNCTION leyser.drop_permission(permission text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s'
AS $$
#variable_conflict use_column
BEGIN
    PERFORM leyser.check_permission(drop_permission.permission);
    IF drop_permission.permission LIKE 'leyser.%' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('permission "%s" cannot be dropped', drop_permission.permission),
            DETAIL = 'It is one of leyser''s own.', HINT = 'Revoke it from accounts and roles instead.';
    END IF;
    DELETE FROM leyser.permission_record p WHERE p.permission = drop_permission.permission;
    PERFORM leyser.record_event('permission.dropped', NULL, drop_permission.permission, NULL);
EXCEPTION WHEN foreign_key_violation THEN
    RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
        MESSAGE = format('permission "%s" is in use', drop_permission.permission),
        DETAIL = 'Roles, grants or denials of tenants name it.',
        HINT = 'The tenants'' administrators have to take it out of their roles and grants first.';
WHEN lock_not_available THEN
    RAISE EXCEPTION USING ERRCODE = 'lock_not_available',
        MESSAGE = format('permission "%s" is being used', drop_permission.permission),
        DETAIL = 'A transaction that grants it, or puts it into a role or on a table, has not ended within 3 seconds.',
        HINT = 'Try again in a moment.';
END
$$;
REVOKE ALL ON FUNCTION leyser.drop_permission(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.drop_permission(text) IS
    'operator: takes a permission out of the catalogue; 42704 for an unknown one, 2BP01 where it is in use, 55P03 where somebody is about to use it, 22023 for leyser''s own';

CREATE VIEW leyser.permission AS
    SELECT p.permission, p.description, p.created_at FROM leyser.permission_record p;
COMMENT ON VIEW leyser.permission IS 'the catalogue of permissions (application, operator, auditor)';
