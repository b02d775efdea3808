-- Roles inside a tenant: names for sets of permissions, which include each other.
--
-- Whoever has a role gets what is put into it later, so only what the changer
-- holds everywhere, without an end and with grant option can be put into it.

CREATE FUNCTION leyser.role_id_of(role_name text) RETURNS bigint
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_id bigint;
BEGIN
    SELECT r.role_id INTO found_id FROM leyser.role_record r
        WHERE r.tenant_id = leyser.tenant_id() AND r.name_key = leyser.name_key(role_id_of.role_name);
    IF found_id IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = 'role does not exist',
            DETAIL = 'No role of this tenant has this name.',
            HINT = 'Make it with leyser.create_role() first.';
    END IF;
    RETURN found_id;
END
$$;
REVOKE ALL ON FUNCTION leyser.role_id_of(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.role_id_of(text) IS
    'internal: the role of that name in the context''s tenant; 42704 where there is none';

CREATE FUNCTION leyser.role_reach(role_id bigint) RETURNS SETOF bigint
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE reach (id) AS (
        SELECT role_reach.role_id
        UNION
        SELECT i.included_role_id FROM reach r JOIN leyser.role_member i ON i.role_id = r.id
    )
    SELECT r.id FROM reach r
$$;
REVOKE ALL ON FUNCTION leyser.role_reach(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.role_reach(bigint) IS 'internal: a role and all that it includes';

CREATE FUNCTION leyser.role_permissions(role_id bigint) RETURNS SETOF text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT DISTINCT p.permission FROM leyser.role_reach(role_permissions.role_id) r (id)
    JOIN leyser.role_permission p ON p.role_id = r.id
$$;
REVOKE ALL ON FUNCTION leyser.role_permissions(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.role_permissions(bigint) IS
    'internal: the permissions of a role and of all that it includes';

-- What the history keeps of a role.
CREATE FUNCTION leyser.role_image(role_id bigint) RETURNS jsonb
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object('role_name', r.role_name,
        'permissions', ARRAY(SELECT p.permission FROM leyser.role_permission p
                             WHERE p.role_id = r.role_id ORDER BY 1),
        'roles', ARRAY(SELECT m.included_role_id FROM leyser.role_member m
                       WHERE m.role_id = r.role_id ORDER BY 1))
    FROM leyser.role_record r WHERE r.role_id = role_image.role_id
$$;
REVOKE ALL ON FUNCTION leyser.role_image(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.role_image(bigint) IS 'internal: a role and its contents, as the history keeps it';

CREATE FUNCTION leyser.check_role_contents(account bigint, permissions text[]) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    missing text;
BEGIN
    SELECT p.permission INTO missing FROM unnest(permissions) p (permission)
        WHERE NOT leyser.may_give(account, p.permission, NULL, 'infinity', '{}') ORDER BY 1 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('permission denied: "%s" cannot be put into a role', missing),
            DETAIL = 'A role gets only what its changer holds everywhere, without an end and with grant option.',
            HINT = 'An administrator of the tenant can do it.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_role_contents(bigint, text[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_role_contents(bigint, text[]) IS
    'internal: raises 42501 where an account may not put permissions into a role';

CREATE FUNCTION leyser.add_to_role(account bigint, role_id bigint, permissions text[], roles text[]) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    one text;
    included bigint;
BEGIN
    FOREACH one IN ARRAY permissions LOOP
        PERFORM leyser.hold_permission(one);
    END LOOP;
    PERFORM leyser.check_role_contents(account, permissions);
    INSERT INTO leyser.role_permission (role_id, permission)
        SELECT add_to_role.role_id, p.permission FROM unnest(permissions) p (permission) ON CONFLICT DO NOTHING;
    FOREACH one IN ARRAY roles LOOP
        included := leyser.role_id_of(one);
        IF add_to_role.role_id IN (SELECT r.id FROM leyser.role_reach(included) r (id)) THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_grant_operation',
                MESSAGE = 'a role cannot include itself',
                DETAIL = format('Role "%s" is the role itself, or includes it.',
                    (SELECT r.role_name FROM leyser.role_record r WHERE r.role_id = included)),
                HINT = 'View leyser.role shows which role includes which.';
        END IF;
        PERFORM leyser.check_role_contents(account, ARRAY(SELECT leyser.role_permissions(included)));
        INSERT INTO leyser.role_member (role_id, included_role_id)
            VALUES (add_to_role.role_id, included) ON CONFLICT DO NOTHING;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.add_to_role(bigint, bigint, text[], text[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.add_to_role(bigint, bigint, text[], text[]) IS
    'internal: puts permissions and roles into a role; 42704 for unknown ones, 42501 for those that the account does not hold, 0LP01 for a cycle';

CREATE FUNCTION leyser.create_role(role_name text, permissions text[] DEFAULT '{}') RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    account CONSTANT bigint := leyser.begin_change();
    checked CONSTANT text := leyser.checked_name(create_role.role_name, 'a role');
    new_id bigint;
BEGIN
    PERFORM leyser.require_account_permission('leyser.grants');
    INSERT INTO leyser.role_record (tenant_id, role_name, name_key)
        VALUES (leyser.tenant_id(), checked, leyser.name_key(checked))
        ON CONFLICT DO NOTHING RETURNING role_id INTO new_id;
    IF new_id IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
            MESSAGE = 'role already exists',
            DETAIL = 'The tenant has a role of this name; case and width of letters do not count.',
            HINT = 'See view leyser.role.';
    END IF;
    PERFORM leyser.add_to_role(account, new_id, coalesce(permissions, '{}'), '{}');
    PERFORM leyser.record_change(leyser.tenant_id(), 'role.created', NULL, NULL, new_id, NULL, leyser.role_image(new_id));
END
$$;
REVOKE ALL ON FUNCTION leyser.create_role(text, text[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.create_role(text, text[]) IS
    'application, with permission leyser.grants: makes a role of the context''s tenant; 22023 for a name that cannot be, 42710 for one that exists, 42704 for an unknown permission, 42501 for one that the caller does not hold everywhere with grant option';

CREATE FUNCTION leyser.alter_role(role_name text, add_permissions text[] DEFAULT '{}', drop_permissions text[] DEFAULT '{}',
                                  add_roles text[] DEFAULT '{}', drop_roles text[] DEFAULT '{}') RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    account CONSTANT bigint := leyser.begin_change();
    changed bigint;
    before jsonb;
    after jsonb;
    one text;
BEGIN
    PERFORM leyser.require_account_permission('leyser.grants');
    changed := leyser.role_id_of(alter_role.role_name);
    before := leyser.role_image(changed);
    FOREACH one IN ARRAY coalesce(drop_permissions, '{}') LOOP
        PERFORM leyser.check_permission(one);
    END LOOP;
    DELETE FROM leyser.role_permission p
        WHERE p.role_id = changed AND p.permission = ANY (drop_permissions);
    DELETE FROM leyser.role_member m
        WHERE m.role_id = changed AND m.included_role_id IN
              (SELECT leyser.role_id_of(d.role_name) FROM unnest(drop_roles) d (role_name));
    PERFORM leyser.add_to_role(account, changed, coalesce(add_permissions, '{}'), coalesce(add_roles, '{}'));
    after := leyser.role_image(changed);
    IF after <> before THEN
        PERFORM leyser.record_change(leyser.tenant_id(), 'role.changed', NULL, NULL, changed, before, after);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.alter_role(text, text[], text[], text[], text[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.alter_role(text, text[], text[], text[], text[]) IS
    'application, with permission leyser.grants: takes permissions and roles out of a role and puts others in; grants made on the strength of what is taken out stay; 42704 for an unknown name, 42501 for a permission that the caller does not hold everywhere with grant option, 0LP01 for a cycle';

CREATE FUNCTION leyser.drop_role(role_name text, cascade boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    dropped bigint;
    included_by bigint;
    before jsonb;
BEGIN
    PERFORM leyser.begin_change();
    PERFORM leyser.require_account_permission('leyser.grants');
    dropped := leyser.role_id_of(drop_role.role_name);
    IF NOT coalesce(cascade, false) AND (EXISTS (SELECT FROM leyser.grant_record g WHERE g.role_id = dropped)
            OR EXISTS (SELECT FROM leyser.role_member m WHERE m.included_role_id = dropped)) THEN
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
            MESSAGE = 'role is in use',
            DETAIL = format('%s grants give it, %s roles include it.',
                (SELECT count(*) FROM leyser.grant_record g WHERE g.role_id = dropped),
                (SELECT count(*) FROM leyser.role_member m WHERE m.included_role_id = dropped)),
            HINT = 'With cascade => true it is revoked from accounts and taken out of roles first.';
    END IF;
    PERFORM leyser.remove_grants(ARRAY(SELECT g.grant_id FROM leyser.grant_record g WHERE g.role_id = dropped), true);
    FOR included_by IN SELECT m.role_id FROM leyser.role_member m WHERE m.included_role_id = dropped LOOP
        before := leyser.role_image(included_by);
        DELETE FROM leyser.role_member m WHERE m.role_id = included_by AND m.included_role_id = dropped;
        PERFORM leyser.record_change(leyser.tenant_id(), 'role.changed', NULL, NULL, included_by, before, leyser.role_image(included_by));
    END LOOP;
    before := leyser.role_image(dropped);
    DELETE FROM leyser.role_record r WHERE r.role_id = dropped;
    PERFORM leyser.record_change(leyser.tenant_id(), 'role.dropped', NULL, NULL, dropped, before, NULL);
END
$$;
REVOKE ALL ON FUNCTION leyser.drop_role(text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.drop_role(text, boolean) IS
    'application, with permission leyser.grants: drops a role of the context''s tenant; with cascade also the grants of it, those that depend on them, and its place in other roles; 42704 for an unknown role, 2BP01 where it is in use';

CREATE FUNCTION leyser.list_roles()
    RETURNS TABLE (role_name text, permissions text[], includes text[], created_at timestamptz)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    sees_all CONSTANT boolean := leyser.account_may(leyser.acting_account(), 'leyser.grants');
BEGIN
    RETURN QUERY SELECT r.role_name,
            ARRAY(SELECT p.permission FROM leyser.role_permission p WHERE p.role_id = r.role_id ORDER BY 1),
            ARRAY(SELECT i.role_name FROM leyser.role_member m JOIN leyser.role_record i ON i.role_id = m.included_role_id
                  WHERE m.role_id = r.role_id ORDER BY 1),
            r.created_at
        FROM leyser.role_record r
        WHERE r.tenant_id = leyser.tenant_id()
          AND (sees_all OR r.role_id IN (SELECT x.id FROM leyser.grant_record g, leyser.role_reach(g.role_id) x (id)
                                         WHERE g.account_id = leyser.context_account_id()));
END
$$;
REVOKE ALL ON FUNCTION leyser.list_roles() FROM PUBLIC;
COMMENT ON FUNCTION leyser.list_roles() IS 'internal: the rows of view leyser.role';

CREATE VIEW leyser.role AS
    SELECT r.role_name, r.permissions, r.includes, r.created_at FROM leyser.list_roles() r;
COMMENT ON VIEW leyser.role IS
    'roles of the context''s tenant: all for accounts with permission leyser.grants, for others those that they have (application)';
