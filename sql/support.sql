-- Support access: a tenant lets a role of the provider look, for a time.
--
-- The role gets contexts of the tenant without an account, which count only where
-- nothing can be written.  Policies of set_permissions() let them read what the role has
-- plain rights to.  See src/support.c.

-- Row security must bind whoever looks.  Usages are other duties: an application's
-- clients could look without a token, a gateway's at any tenant that let one, and
-- auditors and provisioners see no rows.
CREATE FUNCTION leyser.check_support_role(role regrole) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- the problems are the provider's, and not told to a tenant
    IF EXISTS (SELECT FROM leyser.usage_problems(role)) OR NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = role)
       OR EXISTS (SELECT FROM leyser.usage_record u WHERE pg_has_role(check_support_role.role::oid, u.role::oid, 'MEMBER')) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_grant_operation',
            MESSAGE = 'the role cannot have support access',
            DETAIL = 'It does not exist, is not bound by row security alone, or has another duty.',
            HINT = 'The provider names a role for support: CREATE ROLE … LOGIN; with nothing but the right to read tables.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_support_role(regrole) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_support_role(regrole) IS
    'internal: raises 0LP01 for a role that row security does not bind, or that has or can take on a usage';

CREATE FUNCTION leyser.grant_support_access(to_role regrole, valid_for interval, reason text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
#variable_conflict use_column
DECLARE
    grantor CONSTANT bigint := leyser.begin_change();
    ends timestamptz;
BEGIN
    PERFORM leyser.require_administrator();
    BEGIN
        ends := clock_timestamp() + valid_for;
    EXCEPTION WHEN datetime_field_overflow THEN
        NULL;
    END;
    IF (ends BETWEEN clock_timestamp() + interval '1 s' AND clock_timestamp() + interval '30 days') IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid time of support access',
            DETAIL = 'It lasts from one second to 30 days.', HINT = 'Give valid_for => ''2 hours''.';
    END IF;
    IF coalesce(grant_support_access.reason, '') !~ '[^[:space:]]' OR length(grant_support_access.reason) > 1000
       OR grant_support_access.reason ~ '[\u0001-\u001f\u007f-\u009f]' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid reason of support access',
            DETAIL = 'It is empty, has more than 1000 characters, or has control characters.',
            HINT = 'Say in one line what the provider is to look at.';
    END IF;
    PERFORM leyser.check_support_role(grant_support_access.to_role);
    INSERT INTO leyser.support_record (tenant_id, to_role, reason, granted_by, valid_until)
        VALUES (leyser.tenant_id(), grant_support_access.to_role, grant_support_access.reason, grantor, ends);
    PERFORM leyser.record_event('support.granted', leyser.tenant_id(), grant_support_access.to_role::text,
        jsonb_build_object('valid_until', ends, 'reason', grant_support_access.reason));
END
$$;
REVOKE ALL ON FUNCTION leyser.grant_support_access(regrole, interval, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.grant_support_access(regrole, interval, text) IS
    'application, by an administrator: lets a role of the provider look at the tenant, read-only, with leyser.enter_support(); 42501 for others, 22023 for a wrong time (one second to 30 days) or reason, 0LP01 for a role that row security does not bind or that has a usage';

CREATE FUNCTION leyser.revoke_support_access(to_role regrole) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz;
BEGIN
    PERFORM leyser.begin_change();
    PERFORM leyser.require_administrator();
    moment := clock_timestamp();
    WITH ended AS (
        UPDATE leyser.support_record s SET revoked_at = moment
            WHERE s.tenant_id = leyser.tenant_id() AND s.to_role = revoke_support_access.to_role
              AND s.revoked_at IS NULL AND s.valid_until > moment
            RETURNING s.session_id, s.valid_until)
    INSERT INTO leyser.revoked_session (session_id, expires_at)
        SELECT e.session_id, e.valid_until FROM ended e;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'the role has no support access',
            DETAIL = 'There is nothing to revoke.', HINT = 'See view leyser.support_access.';
    END IF;
    PERFORM leyser.record_event('support.revoked', leyser.tenant_id(), revoke_support_access.to_role::text, NULL);
END
$$;
REVOKE ALL ON FUNCTION leyser.revoke_support_access(regrole) FROM PUBLIC;
COMMENT ON FUNCTION leyser.revoke_support_access(regrole) IS
    'application, by an administrator: ends support access at the next statement, also in transactions that use it; 42501 for others, LY008 where the role has none';

CREATE FUNCTION leyser.try_token(token text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_context_try_token';
REVOKE ALL ON FUNCTION leyser.try_token(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.try_token(text) IS
    'internal: raises what setting leyser.token to this would raise, and sets nothing';

-- The row comes first: nobody looks whose look is not written down, and it stays
-- whatever becomes of the transaction.  What would be refused is so before.
CREATE FUNCTION leyser.enter_support(tenant_id text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    support leyser.support_record;
    token text;
BEGIN
    SELECT s.* INTO support FROM leyser.support_record s
        WHERE s.tenant_id = enter_support.tenant_id AND s.to_role = leyser.caller()
          AND s.revoked_at IS NULL AND s.valid_until > clock_timestamp()
        ORDER BY s.valid_until DESC LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = 'permission denied: no support access',
            DETAIL = 'The tenant has not let this role look, or not any longer.',
            HINT = 'An administrator of the tenant can call leyser.grant_support_access().';
    END IF;
    PERFORM leyser.check_support_role(support.to_role);
    token := leyser.sign_session_token(support.tenant_id, NULL, NULL, support.session_id, support.valid_until);
    PERFORM leyser.try_token(token);
    PERFORM leyser.record_lasting_event('support.entered', support.tenant_id, support.to_role::text, NULL);
    PERFORM set_config('transaction_read_only', 'on', true);
    PERFORM set_config('leyser.token', token, true);
END
$$;
REVOKE ALL ON FUNCTION leyser.enter_support(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.enter_support(text) IS
    'a role with support access: sets the context of a tenant that granted the caller support access, and makes the transaction read-only; recorded before, in a row that stays whatever becomes of the transaction (on a standby only in the server log); 42501 without such access, LY004 where the tenant is not active, LY009 where a context is set, 53000 or 58000 where it could not be recorded';

CREATE FUNCTION leyser.list_support_access()
    RETURNS TABLE (to_role regrole, reason text, granted_by text, granted_at timestamptz,
                   valid_until timestamptz, revoked_at timestamptz, is_open boolean)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    PERFORM leyser.require_account_permission('leyser.grants');
    RETURN QUERY SELECT s.to_role, s.reason, coalesce(a.account_name, 'account ' || s.granted_by), s.granted_at, s.valid_until, s.revoked_at,
            s.revoked_at IS NULL AND s.valid_until > clock_timestamp()
        FROM leyser.support_record s LEFT JOIN leyser.account_record a ON a.account_id = s.granted_by
        WHERE s.tenant_id = leyser.tenant_id();
END
$$;
REVOKE ALL ON FUNCTION leyser.list_support_access() FROM PUBLIC;
COMMENT ON FUNCTION leyser.list_support_access() IS 'internal: the rows of view leyser.support_access';

CREATE VIEW leyser.support_access AS
    SELECT s.to_role, s.reason, s.granted_by, s.granted_at, s.valid_until, s.revoked_at, s.is_open
    FROM leyser.list_support_access() s;
COMMENT ON VIEW leyser.support_access IS
    'whom the context''s tenant lets or let look (application, with permission leyser.grants)';
