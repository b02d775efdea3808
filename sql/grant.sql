-- Grants and denials.
--
-- An account grants only what it holds with grant option, in that scope or above,
-- for as long or longer, and of which nothing is denied to it there.  Who holds
-- leyser.grants takes away and denies.  Administrators do both, everywhere.

-- Whether an account (NULL: from outside) could grant a permission now, if some
-- grants were not there.
CREATE FUNCTION leyser.may_give(account bigint, permission text, scope text, valid_until timestamptz,
                                without_grants bigint[]) RETURNS boolean
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT account IS NULL OR (
        EXISTS (SELECT FROM leyser.grant_record g
            WHERE g.account_id = account AND g.with_grant_option
              AND (g.scope IS NULL OR g.scope = ANY (leyser.scopes_above(may_give.scope)))
              AND g.valid_from <= clock_timestamp() AND clock_timestamp() < g.valid_until
              AND g.valid_until >= may_give.valid_until
              AND g.grant_id <> ALL (without_grants)
              AND CASE g.kind WHEN 'administrator' THEN true
                              WHEN 'permission' THEN g.permission = may_give.permission
                              WHEN 'role' THEN may_give.permission IN (SELECT leyser.role_permissions(g.role_id))
                              ELSE false END)
        -- what is denied to it somewhere below would come back through the grantee
        AND NOT EXISTS (SELECT FROM leyser.grant_record d
            WHERE d.account_id = account AND d.kind = 'deny' AND d.permission = may_give.permission
              AND (leyser.scope_covers(d.scope, may_give.scope) OR leyser.scope_covers(may_give.scope, d.scope))
              AND d.valid_until > clock_timestamp() AND d.valid_from < may_give.valid_until))
$$;
REVOKE ALL ON FUNCTION leyser.may_give(bigint, text, text, timestamptz, bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.may_give(bigint, text, text, timestamptz, bigint[]) IS
    'internal: whether an account holds a permission with grant option, as wide and as long, without some grants';

-- The same for a role: all that it gives now, and what will be put into it, which
-- needs the role itself with grant option where it is empty yet.
CREATE FUNCTION leyser.may_give_role(account bigint, role_id bigint, scope text, valid_until timestamptz,
                                     without_grants bigint[]) RETURNS boolean
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT account IS NULL OR CASE
        WHEN EXISTS (SELECT FROM leyser.role_permissions(may_give_role.role_id)) THEN
            (SELECT bool_and(leyser.may_give(account, p.permission, may_give_role.scope, may_give_role.valid_until, without_grants))
             FROM leyser.role_permissions(may_give_role.role_id) p (permission))
        ELSE EXISTS (SELECT FROM leyser.grant_record g
            WHERE g.account_id = account AND g.with_grant_option
              AND (g.kind = 'administrator' OR may_give_role.role_id IN (SELECT r.id FROM leyser.role_reach(g.role_id) r (id)))
              AND g.valid_from <= clock_timestamp() AND clock_timestamp() < g.valid_until
              AND g.valid_until >= may_give_role.valid_until
              AND leyser.scope_covers(g.scope, may_give_role.scope)
              AND g.grant_id <> ALL (without_grants)) END
$$;
REVOKE ALL ON FUNCTION leyser.may_give_role(bigint, bigint, text, timestamptz, bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.may_give_role(bigint, bigint, text, timestamptz, bigint[]) IS
    'internal: whether an account could grant a role in a scope until a time, without some grants';

-- Whether the grantor of a grant could make it now, if some grants were not there.
CREATE FUNCTION leyser.is_supported(one leyser.grant_record, without_grants bigint[]) RETURNS boolean
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT one.granted_by IS NULL OR CASE one.kind
        WHEN 'permission' THEN leyser.may_give(one.granted_by, one.permission, one.scope, one.valid_until, without_grants)
        WHEN 'role' THEN leyser.may_give_role(one.granted_by, one.role_id, one.scope, one.valid_until, without_grants)
        WHEN 'administrator' THEN EXISTS (SELECT FROM leyser.grant_record g
            WHERE g.account_id = one.granted_by AND g.kind = 'administrator'
              AND g.valid_until > clock_timestamp() AND g.grant_id <> ALL (without_grants))
        ELSE true END
$$;
REVOKE ALL ON FUNCTION leyser.is_supported(leyser.grant_record, bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.is_supported(leyser.grant_record, bigint[]) IS
    'internal: whether the grantor of a grant holds what he granted, without some grants';

-- ---- granting ----

CREATE FUNCTION leyser.check_window(valid_from timestamptz, valid_until timestamptz) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (valid_from < valid_until AND valid_until > clock_timestamp() AND valid_from < 'infinity') IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid time of a grant',
            DETAIL = CASE WHEN valid_from IS NULL OR valid_until IS NULL THEN 'Its start or end is null.'
                          WHEN valid_from >= valid_until THEN 'It does not end after its start.'
                          ELSE 'It has ended already, or never starts.' END,
            HINT = 'Leave valid_until out for a grant without an end.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_window(timestamptz, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_window(timestamptz, timestamptz) IS
    'internal: raises 22023 for a start and an end between which nothing is in force';

CREATE FUNCTION leyser.check_grantee(grantor bigint, grantee bigint) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF grantor = grantee THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_grant_operation',
            MESSAGE = 'an account cannot grant to itself',
            DETAIL = 'The account that grants is the one that would get the grant.',
            HINT = 'Another account that holds it with grant option can grant it.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_grantee(bigint, bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_grantee(bigint, bigint) IS 'internal: raises 0LP01 where an account would grant to itself';

CREATE FUNCTION leyser.refuse_grant(what text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
        MESSAGE = format('permission denied: %s cannot be granted', what),
        DETAIL = 'An account grants only what it holds with grant option, in that scope or above and for as long, and of which nothing is denied to it there.',
        HINT = 'An administrator of the tenant can grant it.';
END
$$;
REVOKE ALL ON FUNCTION leyser.refuse_grant(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.refuse_grant(text) IS 'internal: raises 42501 for what a grantor does not hold';

-- Writes a grant and its records; one that adds nothing to another of the same
-- grantor is left out.
CREATE FUNCTION leyser.add_grant(wanted leyser.grant_record) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    added leyser.grant_record;
    tenant CONSTANT text := (SELECT a.tenant_id FROM leyser.account_record a WHERE a.account_id = wanted.account_id);
BEGIN
    IF EXISTS (SELECT FROM leyser.grant_record g
            WHERE g.account_id = wanted.account_id AND g.kind = wanted.kind
              AND (g.role_id, g.permission, g.scope, g.granted_by)
                  IS NOT DISTINCT FROM (wanted.role_id, wanted.permission, wanted.scope, wanted.granted_by)
              AND g.valid_from <= wanted.valid_from AND g.valid_until >= wanted.valid_until
              AND g.with_grant_option >= wanted.with_grant_option) THEN
        RETURN;
    END IF;
    INSERT INTO leyser.grant_record (account_id, kind, role_id, permission, scope, valid_from, valid_until, with_grant_option, granted_by)
        VALUES (wanted.account_id, wanted.kind, wanted.role_id, wanted.permission, wanted.scope,
                wanted.valid_from, wanted.valid_until, wanted.with_grant_option, wanted.granted_by)
        RETURNING * INTO added;
    PERFORM leyser.record_change(tenant, 'grant.added', added.account_id, added.grant_id, NULL, NULL, to_jsonb(added));
END
$$;
REVOKE ALL ON FUNCTION leyser.add_grant(leyser.grant_record) FROM PUBLIC;
COMMENT ON FUNCTION leyser.add_grant(leyser.grant_record) IS 'internal: writes a grant or denial, and its records';

-- Whether there is such an account is told to those who could grant to it.
CREATE FUNCTION leyser.grant_checked(grantor bigint, account_name text, wanted leyser.grant_record) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leyser.check_window(wanted.valid_from, wanted.valid_until);
    PERFORM leyser.check_scope(wanted.scope);
    wanted.granted_by := grantor;
    IF NOT leyser.is_supported(wanted, '{}') THEN
        PERFORM leyser.refuse_grant(coalesce('"' || wanted.permission || '"', 'the role'));
    END IF;
    wanted.account_id := leyser.find_account(account_name);
    PERFORM leyser.check_grantee(grantor, wanted.account_id);
    wanted.with_grant_option := coalesce(wanted.with_grant_option, false);
    PERFORM leyser.add_grant(wanted);
END
$$;
REVOKE ALL ON FUNCTION leyser.grant_checked(bigint, text, leyser.grant_record) FROM PUBLIC;
COMMENT ON FUNCTION leyser.grant_checked(bigint, text, leyser.grant_record) IS
    'internal: gives an account of the context''s tenant a permission or role that the grantor (NULL: from outside) holds; 42501, 0LP01, 42704, 22023';

CREATE FUNCTION leyser.grant_permission(account_name text, permission text, scope text DEFAULT NULL,
        valid_from timestamptz DEFAULT now(), valid_until timestamptz DEFAULT 'infinity',
        with_grant_option boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    grantor CONSTANT bigint := leyser.begin_change();
    wanted leyser.grant_record;
BEGIN
    PERFORM leyser.hold_permission(permission);
    wanted.kind := 'permission';
    wanted.permission := permission;
    wanted.scope := scope;
    wanted.valid_from := valid_from;
    wanted.valid_until := valid_until;
    wanted.with_grant_option := with_grant_option;
    PERFORM leyser.grant_checked(grantor, account_name, wanted);
END
$$;
REVOKE ALL ON FUNCTION leyser.grant_permission(text, text, text, timestamptz, timestamptz, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.grant_permission(text, text, text, timestamptz, timestamptz, boolean) IS
    'application: gives an account of the context''s tenant a permission in a scope (NULL: everywhere) and below, from valid_from until before valid_until; 42501 for what the caller does not hold with grant option as wide and as long, 0LP01 for granting to oneself, 42704 for an unknown account or permission, 22023 for a wrong scope or time';

CREATE FUNCTION leyser.grant_role(account_name text, role_name text, scope text DEFAULT NULL,
        valid_from timestamptz DEFAULT now(), valid_until timestamptz DEFAULT 'infinity',
        with_grant_option boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    grantor CONSTANT bigint := leyser.begin_change();
    wanted leyser.grant_record;
BEGIN
    wanted.kind := 'role';
    wanted.role_id := leyser.role_id_of(role_name);
    wanted.scope := scope;
    wanted.valid_from := valid_from;
    wanted.valid_until := valid_until;
    wanted.with_grant_option := with_grant_option;
    PERFORM leyser.grant_checked(grantor, account_name, wanted);
END
$$;
REVOKE ALL ON FUNCTION leyser.grant_role(text, text, text, timestamptz, timestamptz, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.grant_role(text, text, text, timestamptz, timestamptz, boolean) IS
    'application: gives an account of the context''s tenant a role in a scope (NULL: everywhere) and below, from valid_from until before valid_until; 42501 where the caller does not hold all that the role gives with grant option as wide and as long, 0LP01 for granting to oneself, 42704 for an unknown account or role, 22023 for a wrong scope or time';

-- ---- administrators ----

-- For a tenant's first account, which comes from outside of a context, too.
CREATE FUNCTION leyser.make_administrator(account_id bigint, granted_by bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted leyser.grant_record;
BEGIN
    wanted.account_id := make_administrator.account_id;
    wanted.kind := 'administrator';
    wanted.valid_from := clock_timestamp();
    wanted.valid_until := 'infinity';
    wanted.with_grant_option := true;
    wanted.granted_by := make_administrator.granted_by;
    PERFORM leyser.add_grant(wanted);
END
$$;
REVOKE ALL ON FUNCTION leyser.make_administrator(bigint, bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.make_administrator(bigint, bigint) IS
    'internal: makes an account an administrator, checks nothing; granted_by NULL: from outside the tenant';

-- An administrator who can do all that one can: active, and nothing is denied to it.
CREATE FUNCTION leyser.require_other_administrator(account_id bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s'
AS $$
#variable_conflict use_column
DECLARE
    tenant CONSTANT text := (SELECT a.tenant_id FROM leyser.account_record a
                             WHERE a.account_id = require_other_administrator.account_id);
BEGIN
    IF NOT leyser.is_administrator(require_other_administrator.account_id) THEN
        RETURN;
    END IF;
    PERFORM leyser.lock_grants(tenant);
    -- locked, because whoever disables an account that is no administrator yet takes
    -- no lock of grants
    PERFORM FROM leyser.account_record a
        JOIN leyser.grant_record g ON g.account_id = a.account_id AND g.kind = 'administrator'
        WHERE a.tenant_id = tenant AND a.account_id <> require_other_administrator.account_id
          AND a.state = 'active' AND g.valid_from <= clock_timestamp() AND g.valid_until = 'infinity'
          AND NOT EXISTS (SELECT FROM leyser.grant_record d
              WHERE d.account_id = a.account_id AND d.kind = 'deny' AND d.valid_until > clock_timestamp())
        LIMIT 1 FOR SHARE OF a;
    IF FOUND OR NOT leyser.is_administrator(require_other_administrator.account_id) THEN
        RETURN;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'LY008',
        MESSAGE = 'the tenant would be left without an administrator',
        DETAIL = 'No other administrator is active, with nothing denied to it.',
        HINT = 'Make another account an administrator first, with leyser.grant_administrator().';
END
$$;
REVOKE ALL ON FUNCTION leyser.require_other_administrator(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.require_other_administrator(bigint) IS
    'internal: to be called before an account is disabled, deleted or stripped; raises LY008 for the last administrator of a tenant; takes lock_grants() for an administrator';

-- What is denied to one would come back through whom it makes an administrator.
CREATE FUNCTION leyser.may_give_all(account bigint) RETURNS boolean
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT account IS NULL OR (leyser.is_administrator(account)
        AND NOT EXISTS (SELECT FROM leyser.grant_record d
            WHERE d.account_id = account AND d.kind = 'deny' AND d.valid_until > clock_timestamp()))
$$;
REVOKE ALL ON FUNCTION leyser.may_give_all(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.may_give_all(bigint) IS
    'internal: whether an account (NULL: from outside) is an administrator to whom nothing is denied';

CREATE FUNCTION leyser.require_all() RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leyser.require_administrator();
    IF NOT leyser.may_give_all(leyser.acting_account()) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = 'permission denied: no administrator can be made',
            DETAIL = 'Something is denied to the context''s account, which it would get back through an administrator that it makes.',
            HINT = 'An administrator to whom nothing is denied can do it.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.require_all() FROM PUBLIC;
COMMENT ON FUNCTION leyser.require_all() IS
    'internal: raises 42501 unless the context''s account is an administrator to whom nothing is denied; a superuser in a context without an account passes';

-- Whether an account (NULL: from outside) could give another one all that this one
-- was granted: then it gains nothing by acting as it.
CREATE FUNCTION leyser.has_power_over(actor bigint, account_id bigint) RETURNS boolean
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT actor = has_power_over.account_id OR leyser.may_give_all(actor) OR NOT EXISTS (
        SELECT FROM leyser.grant_record g
        WHERE g.account_id = has_power_over.account_id AND g.kind <> 'deny' AND g.valid_until > clock_timestamp()
          AND NOT CASE g.kind
              WHEN 'permission' THEN leyser.may_give(actor, g.permission, g.scope, g.valid_until, '{}')
              WHEN 'role' THEN leyser.may_give_role(actor, g.role_id, g.scope, g.valid_until, '{}')
              ELSE false END)
$$;
REVOKE ALL ON FUNCTION leyser.has_power_over(bigint, bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.has_power_over(bigint, bigint) IS
    'internal: whether an account (NULL: from outside) could grant all that another one was granted';

CREATE FUNCTION leyser.grant_administrator(account_name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    grantor CONSTANT bigint := leyser.begin_change();
    grantee bigint;
BEGIN
    PERFORM leyser.require_all();
    grantee := leyser.find_account(account_name);
    PERFORM leyser.check_grantee(grantor, grantee);
    IF NOT leyser.is_administrator(grantee) THEN
        PERFORM leyser.make_administrator(grantee, grantor);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.grant_administrator(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.grant_administrator(text) IS
    'application, by an administrator to whom nothing is denied: makes an account an administrator of the context''s tenant; 42501 for others, 42704 for an unknown account';
