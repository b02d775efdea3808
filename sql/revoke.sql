-- Grants taken away, and denials.

-- The roles of a tenant that give what some grants give: all of them where one of
-- those makes an administrator.
CREATE FUNCTION leyser.roles_touched(gone bigint[]) RETURNS SETOF bigint
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE lost AS MATERIALIZED (
        SELECT g.role_id, g.kind, g.permission, a.tenant_id FROM leyser.grant_record g
        JOIN leyser.account_record a USING (account_id) WHERE g.grant_id = ANY (gone)
    ), lost_permission AS MATERIALIZED (
        SELECT l.permission FROM lost l WHERE l.kind = 'permission'
        UNION SELECT p.permission FROM lost l, leyser.role_permissions(l.role_id) p (permission)
    ), touched (role_id) AS (
        SELECT r.role_id FROM leyser.role_record r
            JOIN (SELECT DISTINCT l.tenant_id FROM lost l) t USING (tenant_id)
            WHERE EXISTS (SELECT FROM lost l WHERE l.kind = 'administrator')
               OR EXISTS (SELECT FROM leyser.role_permission p JOIN lost_permission USING (permission)
                          WHERE p.role_id = r.role_id)
        UNION
        SELECT m.role_id FROM touched t JOIN leyser.role_member m ON m.included_role_id = t.role_id
    )
    SELECT t.role_id FROM touched t
    UNION SELECT r.id FROM lost l, leyser.role_reach(l.role_id) r (id) WHERE l.kind = 'role'
$$;
REVOKE ALL ON FUNCTION leyser.roles_touched(bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.roles_touched(bigint[]) IS
    'internal: the roles that somebody may have granted on the strength of some grants';

-- Grants that may have been made on the strength of some others: by their grantees,
-- and by the grantees of those, of the same permissions and in no wider scope.
CREATE FUNCTION leyser.grants_below(gone bigint[]) RETURNS SETOF bigint
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE roles AS MATERIALIZED (
        SELECT array_agg(r.id) AS ids FROM leyser.roles_touched(gone) r (id)
    ), below (grant_id, account_id, top_kind, top_scope, permissions) AS (
        SELECT g.grant_id, g.account_id, g.kind, g.scope,
            CASE g.kind WHEN 'permission' THEN ARRAY[g.permission]
                        WHEN 'role' THEN ARRAY(SELECT leyser.role_permissions(g.role_id)) END
        FROM leyser.grant_record g WHERE g.grant_id = ANY (gone) AND g.kind <> 'deny'
        UNION
        SELECT g.grant_id, g.account_id, b.top_kind, b.top_scope, b.permissions
        FROM below b JOIN leyser.grant_record g ON g.granted_by = b.account_id CROSS JOIN roles r
        WHERE g.kind <> 'deny' AND (b.top_kind = 'administrator'
            OR g.permission = ANY (b.permissions) OR g.role_id = ANY (r.ids))
          AND leyser.scope_covers(b.top_scope, g.scope)
    )
    SELECT DISTINCT b.grant_id FROM below b WHERE b.grant_id <> ALL (gone)
$$;
REVOKE ALL ON FUNCTION leyser.grants_below(bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.grants_below(bigint[]) IS
    'internal: the grants that some others may have made possible';

-- Which of some grants their grantors could make now, if some others were not
-- there.  There may be very many: grantors who may grant everything, or nothing, are
-- looked at once, and so are grants that differ in their grantees only.
CREATE FUNCTION leyser.supported_grants(grants bigint[], without_grants bigint[]) RETURNS bigint[]
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    WITH alike AS MATERIALIZED (
        SELECT min(g.grant_id) AS one, array_agg(g.grant_id) AS ids, g.granted_by FROM leyser.grant_record g
        WHERE g.grant_id = ANY (grants)
        GROUP BY g.granted_by, g.kind, g.role_id, g.permission, g.scope, g.valid_until
    ), able AS MATERIALIZED (
        SELECT h.account_id, bool_or(h.kind = 'administrator') AND leyser.may_give_all(h.account_id) AS everything
        FROM leyser.grant_record h
        WHERE h.account_id IN (SELECT a.granted_by FROM alike a) AND h.with_grant_option
          AND NOT EXISTS (SELECT FROM unnest(without_grants) w (id) WHERE w.id = h.grant_id)
        GROUP BY h.account_id
    ), supported AS MATERIALIZED (
        SELECT a.ids FROM alike a JOIN leyser.grant_record g ON g.grant_id = a.one
        LEFT JOIN able h ON h.account_id = g.granted_by
        WHERE g.granted_by IS NULL
           OR CASE WHEN h.everything THEN true WHEN h.account_id IS NULL THEN false
                   ELSE leyser.is_supported(g, without_grants) END
    )
    SELECT coalesce(array_agg(i.id), '{}') FROM supported s CROSS JOIN unnest(s.ids) i (id)
$$;
REVOKE ALL ON FUNCTION leyser.supported_grants(bigint[], bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.supported_grants(bigint[], bigint[]) IS
    'internal: which of some grants their grantors could make now, without some others';

-- Which of them go with those others: that their grantors could make before and
-- cannot make any longer.  Two accounts that granted to each other do not support
-- each other: grants count from those that stay, step by step.  The planner expects
-- millions of rows from the recursion, and would compile for longer than it runs.
CREATE FUNCTION leyser.dependent_grants(gone bigint[]) RETURNS bigint[]
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
DECLARE
    unsupported bigint[];
    found bigint[];
BEGIN
    unsupported := leyser.supported_grants(ARRAY(SELECT leyser.grants_below(gone)), '{}');
    LOOP
        found := leyser.supported_grants(unsupported, gone || unsupported);
        EXIT WHEN found = '{}';
        unsupported := ARRAY(SELECT unnest(unsupported) EXCEPT SELECT unnest(found));
    END LOOP;
    RETURN unsupported;
END
$$;
REVOKE ALL ON FUNCTION leyser.dependent_grants(bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.dependent_grants(bigint[]) IS
    'internal: the grants that would not have been made without some grants, which go';

CREATE FUNCTION leyser.remove_grants(gone bigint[], cascade boolean) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    dependent CONSTANT bigint[] := CASE WHEN cascade THEN leyser.dependent_grants(gone) ELSE '{}' END;
    one record;
BEGIN
    FOR one IN SELECT g.grant_id, g.account_id, g.kind, to_jsonb(g) AS image, a.tenant_id,
                g.grant_id IN (SELECT unnest(dependent)) AS cascaded
            FROM leyser.grant_record g JOIN leyser.account_record a ON a.account_id = g.account_id
            WHERE g.grant_id = ANY (gone || dependent) ORDER BY g.grant_id LOOP
        IF one.kind = 'administrator' THEN
            PERFORM leyser.require_other_administrator(one.account_id);
        END IF;
        DELETE FROM leyser.grant_record g WHERE g.grant_id = one.grant_id;
        PERFORM leyser.record_change(one.tenant_id, CASE WHEN one.cascaded THEN 'grant.cascaded' ELSE 'grant.revoked' END,
            one.account_id, one.grant_id, NULL, one.image, NULL);
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.remove_grants(bigint[], boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.remove_grants(bigint[], boolean) IS
    'internal: removes grants, with cascade also those that depend on them; LY008 for the last administrator';

CREATE FUNCTION leyser.remove_account_grants(account_id bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leyser.remove_grants(ARRAY(SELECT g.grant_id FROM leyser.grant_record g
        WHERE g.account_id = remove_account_grants.account_id), false);
END
$$;
REVOKE ALL ON FUNCTION leyser.remove_account_grants(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.remove_account_grants(bigint) IS
    'internal: removes all grants and denials of an account that is to be deleted, and keeps what it granted; LY008 for the last administrator';

-- Which grants a caller may take away: with leyser.grants in the scope all of
-- them, one's own, and those that one made.
CREATE FUNCTION leyser.revocable_grants(account_name text, wanted leyser.grant_record) RETURNS bigint[]
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    caller CONSTANT bigint := leyser.acting_account();
    manages CONSTANT boolean := leyser.account_may(caller, 'leyser.grants', wanted.scope);
    target CONSTANT bigint := CASE WHEN manages THEN leyser.find_account(account_name)
                                   ELSE leyser.account_id_of(account_name) END;
    found bigint[];
BEGIN
    SELECT array_agg(g.grant_id) INTO found FROM leyser.grant_record g
        WHERE g.account_id = target AND g.kind = wanted.kind
          AND (g.role_id, g.permission, g.scope) IS NOT DISTINCT FROM (wanted.role_id, wanted.permission, wanted.scope)
          AND (manages OR g.granted_by = caller OR target = caller);
    IF found IS NOT NULL THEN
        RETURN found;
    ELSIF NOT manages AND target IS DISTINCT FROM caller THEN
        PERFORM leyser.require_account_permission('leyser.grants', wanted.scope);
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'LY008',
        MESSAGE = 'there is nothing to revoke',
        DETAIL = 'The account has no grant of it in exactly this scope.',
        HINT = 'View leyser.granted shows grants and denials; a denial ends with leyser.lift_denial().';
END
$$;
REVOKE ALL ON FUNCTION leyser.revocable_grants(text, leyser.grant_record) FROM PUBLIC;
COMMENT ON FUNCTION leyser.revocable_grants(text, leyser.grant_record) IS
    'internal: the grants of a kind, role or permission, and scope that the caller may take from an account; 42501, 42704, or LY008 where there are none';

CREATE FUNCTION leyser.revoke_exactly(account_name text, wanted leyser.grant_record, cascade boolean) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leyser.check_scope(wanted.scope);
    PERFORM leyser.remove_grants(leyser.revocable_grants(account_name, wanted), coalesce(cascade, false));
END
$$;
REVOKE ALL ON FUNCTION leyser.revoke_exactly(text, leyser.grant_record, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.revoke_exactly(text, leyser.grant_record, boolean) IS
    'internal: takes a permission or role in exactly one scope from an account, as far as the caller may; 42501, 42704, 22023, LY008';

CREATE FUNCTION leyser.revoke_permission(account_name text, permission text, scope text DEFAULT NULL,
                                         cascade boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted leyser.grant_record;
BEGIN
    PERFORM leyser.begin_change();
    PERFORM leyser.check_permission(permission);
    wanted.kind := 'permission';
    wanted.permission := permission;
    wanted.scope := scope;
    PERFORM leyser.revoke_exactly(account_name, wanted, cascade);
END
$$;
REVOKE ALL ON FUNCTION leyser.revoke_permission(text, text, text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.revoke_permission(text, text, text, boolean) IS
    'application: takes a permission in exactly this scope from an account, whoever granted it (with leyser.grants), or what the caller granted; with cascade also what was granted on the strength of it; 42501, 42704 for an unknown account or permission, 22023 for a wrong scope, LY008 where there is nothing to revoke';

CREATE FUNCTION leyser.revoke_role(account_name text, role_name text, scope text DEFAULT NULL,
                                   cascade boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted leyser.grant_record;
BEGIN
    PERFORM leyser.begin_change();
    wanted.kind := 'role';
    wanted.role_id := leyser.role_id_of(role_name);
    wanted.scope := scope;
    PERFORM leyser.revoke_exactly(account_name, wanted, cascade);
END
$$;
REVOKE ALL ON FUNCTION leyser.revoke_role(text, text, text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.revoke_role(text, text, text, boolean) IS
    'application: takes a role in exactly this scope from an account, as revoke_permission()';

CREATE FUNCTION leyser.revoke_administrator(account_name text, cascade boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found bigint[];
BEGIN
    PERFORM leyser.begin_change();
    PERFORM leyser.require_administrator();
    found := ARRAY(SELECT g.grant_id FROM leyser.grant_record g
        WHERE g.account_id = leyser.find_account(account_name) AND g.kind = 'administrator');
    IF found = '{}' THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'the account is no administrator',
            DETAIL = 'There is nothing to revoke.', HINT = 'See view leyser.granted.';
    END IF;
    PERFORM leyser.remove_grants(found, coalesce(cascade, false));
END
$$;
REVOKE ALL ON FUNCTION leyser.revoke_administrator(text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.revoke_administrator(text, boolean) IS
    'application, by an administrator: an account is an administrator no longer; with cascade also what it granted as one goes; LY008 for the last administrator, or an account that is none';

-- ---- denials ----

-- Only an administrator denies to, or lifts from, an administrator.
CREATE FUNCTION leyser.check_denial(target bigint, scope text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leyser.require_account_permission('leyser.grants', scope);
    IF leyser.is_administrator(target) THEN
        PERFORM leyser.require_administrator();
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_denial(bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_denial(bigint, text) IS
    'internal: raises 42501 where the caller may not deny anything to an account in a scope';

CREATE FUNCTION leyser.deny_permission(account_name text, permission text, scope text DEFAULT NULL,
        valid_from timestamptz DEFAULT now(), valid_until timestamptz DEFAULT 'infinity') RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    caller CONSTANT bigint := leyser.begin_change();
    wanted leyser.grant_record;
BEGIN
    PERFORM leyser.check_window(valid_from, valid_until);
    PERFORM leyser.hold_permission(permission);
    PERFORM leyser.check_scope(scope);
    PERFORM leyser.require_account_permission('leyser.grants', scope);
    wanted.account_id := leyser.find_account(account_name);
    PERFORM leyser.check_denial(wanted.account_id, scope);
    PERFORM leyser.require_other_administrator(wanted.account_id);
    wanted.kind := 'deny';
    wanted.permission := permission;
    wanted.scope := scope;
    wanted.valid_from := valid_from;
    wanted.valid_until := valid_until;
    wanted.with_grant_option := false;
    wanted.granted_by := caller;
    PERFORM leyser.add_grant(wanted);
END
$$;
REVOKE ALL ON FUNCTION leyser.deny_permission(text, text, text, timestamptz, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.deny_permission(text, text, text, timestamptz, timestamptz) IS
    'application, with permission leyser.grants: denies a permission in a scope and below to an account, whatever grants it, administrators'' too; 42501, LY008 for the last administrator to whom nothing is denied, 42704, 22023';

CREATE FUNCTION leyser.lift_denial(account_name text, permission text, scope text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    caller CONSTANT bigint := leyser.begin_change();
    target bigint;
    found bigint[];
BEGIN
    PERFORM leyser.check_permission(lift_denial.permission);
    PERFORM leyser.check_scope(lift_denial.scope);
    PERFORM leyser.require_account_permission('leyser.grants', lift_denial.scope);
    target := leyser.find_account(lift_denial.account_name);
    PERFORM leyser.check_denial(target, lift_denial.scope);
    -- like a grant: what is given back must be the caller's to give
    PERFORM leyser.check_grantee(caller, target);
    IF NOT leyser.may_give(caller, lift_denial.permission, lift_denial.scope, 'infinity', '{}') THEN
        PERFORM leyser.refuse_grant(format('"%s"', lift_denial.permission));
    END IF;
    found := ARRAY(SELECT g.grant_id FROM leyser.grant_record g
        WHERE g.account_id = target AND g.kind = 'deny' AND g.permission = lift_denial.permission
          AND g.scope IS NOT DISTINCT FROM lift_denial.scope);
    IF found = '{}' THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'there is no denial to lift',
            DETAIL = 'The permission is not denied to the account in exactly this scope.',
            HINT = 'See view leyser.granted.';
    END IF;
    PERFORM leyser.remove_grants(found, false);
END
$$;
REVOKE ALL ON FUNCTION leyser.lift_denial(text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.lift_denial(text, text, text) IS
    'application, with permission leyser.grants: ends a denial in exactly this scope; the caller must hold the permission with grant option; 42501, 0LP01 for one''s own, 42704, 22023, LY008 where there is none';
