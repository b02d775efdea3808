-- Accounts of tenants: made, invited, taken over from another system.
--
-- From outside of a context a provisioner makes a tenant's first account, which
-- is its administrator; whatever follows is the tenant's own business.  Events
-- name accounts by their ids, so that nothing personal outlives an account.

CREATE FUNCTION leyser.called_by_superuser() RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM pg_roles r WHERE r.oid = leyser.caller() AND r.rolsuper)
$$;
REVOKE ALL ON FUNCTION leyser.called_by_superuser() FROM PUBLIC;
COMMENT ON FUNCTION leyser.called_by_superuser() IS
    'internal: whether the role that calls is a superuser';

-- An application may call what makes accounts, too: in contexts only.
CREATE FUNCTION leyser.called_by_provisioner() RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM leyser.usage_record u
        WHERE u.usage = 'provisioner' AND pg_has_role(leyser.caller(), u.role, 'USAGE'))
$$;
REVOKE ALL ON FUNCTION leyser.called_by_provisioner() FROM PUBLIC;
COMMENT ON FUNCTION leyser.called_by_provisioner() IS
    'internal: whether the role that calls has usage provisioner';

CREATE FUNCTION leyser.sees_accounts() RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT leyser.called_by_superuser()
        OR coalesce(leyser.account_may(leyser.context_account_id(), 'leyser.accounts')
                    AND leyser.context_account_id() IS NOT NULL, false)
$$;
REVOKE ALL ON FUNCTION leyser.sees_accounts() FROM PUBLIC;
COMMENT ON FUNCTION leyser.sees_accounts() IS
    'internal: whether the context''s account has permission leyser.accounts, for views';

CREATE FUNCTION leyser.record_account_event(event text, account_id bigint, detail jsonb DEFAULT NULL)
    RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT leyser.record_event(record_account_event.event, a.tenant_id, a.account_id::text,
                               record_account_event.detail)
    FROM leyser.account_record a WHERE a.account_id = record_account_event.account_id
$$;
REVOKE ALL ON FUNCTION leyser.record_account_event(text, bigint, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.record_account_event(text, bigint, jsonb) IS
    'internal: records an event of an account, which it names by its id';

-- ---- who may make accounts ----

CREATE FUNCTION leyser.check_outside_tenant(tenant_id text) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM leyser.tenant_record t
                   WHERE t.tenant_id = check_outside_tenant.tenant_id) THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = 'tenant does not exist',
            DETAIL = 'No tenant has this id.',
            HINT = 'See view leyser.tenant.';
    END IF;
    PERFORM leyser.refuse_ended_contract(check_outside_tenant.tenant_id);
END
$$;
REVOKE ALL ON FUNCTION leyser.check_outside_tenant(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_outside_tenant(text) IS
    'internal: 42704 for a tenant that does not exist, LY008 for one whose contract has ended';

-- Until the first account was accepted it may be invited again, with the same name.
CREATE FUNCTION leyser.begin_account_outside(tenant_id text, name_key text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT leyser.called_by_superuser() AND NOT leyser.called_by_provisioner() THEN
        RAISE EXCEPTION USING ERRCODE = 'LY001',
            MESSAGE = 'no tenant context',
            DETAIL = 'Accounts are made by the tenant they belong to.',
            HINT = 'Set a token of an account that has permission leyser.accounts.';
    END IF;
    PERFORM leyser.check_outside_tenant(begin_account_outside.tenant_id);
    PERFORM leyser.lock_grants(begin_account_outside.tenant_id);
    IF NOT leyser.called_by_superuser() AND EXISTS (
            SELECT FROM leyser.account_record a
            WHERE a.tenant_id = begin_account_outside.tenant_id
              AND (a.state <> 'invited' OR a.name_key <> begin_account_outside.name_key)) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = 'permission denied: the tenant has an account already',
            DETAIL = 'From outside only a tenant''s first account is made.',
            HINT = 'The tenant''s own administrators invite the others.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.begin_account_outside(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.begin_account_outside(text, text) IS
    'internal: lets a provisioner make a tenant''s first account, and a superuser any; LY001 for others; takes lock_grants()';

CREATE FUNCTION leyser.begin_account(tenant_id text, name_key text, administrator boolean)
    RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF begin_account.tenant_id IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
            MESSAGE = 'tenant_id must not be null',
            DETAIL = 'An account belongs to a tenant.',
            HINT = 'Leave the argument out in a context.';
    ELSIF NOT leyser.in_context() THEN
        PERFORM leyser.begin_account_outside(begin_account.tenant_id, begin_account.name_key);
        RETURN;
    ELSIF begin_account.tenant_id <> leyser.tenant_id() THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = 'permission denied for another tenant',
            DETAIL = 'The context is another tenant''s.',
            HINT = 'Leave the argument out.';
    END IF;
    PERFORM leyser.begin_change();
    PERFORM leyser.require_account_permission('leyser.accounts');
    IF administrator THEN
        PERFORM leyser.require_all();
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.begin_account(text, text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.begin_account(text, text, boolean) IS
    'internal: 42501 unless the caller may make an account in this tenant; takes lock_grants()';

-- Whoever may reset, rename or invite an account can become it.
CREATE FUNCTION leyser.require_power_over(account_id bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- outside of a context begin_account() has judged
    IF leyser.in_context() AND NOT leyser.has_power_over(leyser.acting_account(), account_id) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = 'permission denied: the account has grants',
            DETAIL = 'Whoever does this could act as the account; the context''s account could not grant all that it was granted.',
            HINT = 'Ask an administrator of the tenant.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.require_power_over(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.require_power_over(bigint) IS
    'internal: 42501 unless the caller could grant all that the account was granted';

-- ---- making accounts ----

CREATE FUNCTION leyser.refuse_taken_name() RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
        MESSAGE = 'account already exists',
        DETAIL = 'An account of this tenant has this name, perhaps in another case or width.',
        HINT = 'See view leyser.account.';
END
$$;
REVOKE ALL ON FUNCTION leyser.refuse_taken_name() FROM PUBLIC;
COMMENT ON FUNCTION leyser.refuse_taken_name() IS 'internal: raises 42710';

CREATE FUNCTION leyser.add_account(tenant_id text, account_name text, state text, password text,
                                   administrator boolean) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    first boolean := NOT EXISTS (SELECT FROM leyser.account_record a
                                 WHERE a.tenant_id = add_account.tenant_id);
    added bigint;
BEGIN
    INSERT INTO leyser.account_record (tenant_id, account_name, name_key, state, password, password_set_at)
        VALUES (add_account.tenant_id, add_account.account_name,
                leyser.name_key(add_account.account_name), add_account.state, add_account.password,
                CASE WHEN add_account.password IS NOT NULL THEN clock_timestamp() END)
        ON CONFLICT DO NOTHING RETURNING account_id INTO added;
    IF added IS NULL THEN
        PERFORM leyser.refuse_taken_name();
    END IF;
    IF first OR administrator THEN
        PERFORM leyser.make_administrator(added,
            CASE WHEN leyser.in_context() THEN leyser.acting_account() END);
    END IF;
    RETURN added;
END
$$;
REVOKE ALL ON FUNCTION leyser.add_account(text, text, text, text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.add_account(text, text, text, text, boolean) IS
    'internal: adds an account, a tenant''s first one as its administrator; 42710 where the name is taken';

-- Sessions outlive no such call; see session.sql.
CREATE FUNCTION leyser.open_invitation(account_id bigint, valid_for interval) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    secret text := translate(encode(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()), 'base64'),
                             '+/=', '-_');
BEGIN
    PERFORM leyser.require_transport();
    IF open_invitation.valid_for BETWEEN '1 minute' AND '90 days' IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid duration of an invitation',
            DETAIL = 'It must be at least one minute and at most 90 days.',
            HINT = 'Leave the argument out for the usual one.';
    END IF;
    INSERT INTO leyser.invitation_record (account_id, secret_digest, expires_at, invited_by)
        VALUES (open_invitation.account_id, sha256(convert_to(secret, 'UTF8')),
                clock_timestamp() + open_invitation.valid_for,
                CASE WHEN leyser.in_context() THEN leyser.acting_account() END)
        ON CONFLICT (account_id) DO UPDATE SET secret_digest = EXCLUDED.secret_digest,
            expires_at = EXCLUDED.expires_at, invited_by = EXCLUDED.invited_by;
    RETURN secret;
END
$$;
REVOKE ALL ON FUNCTION leyser.open_invitation(bigint, interval) FROM PUBLIC;
COMMENT ON FUNCTION leyser.open_invitation(bigint, interval) IS
    'internal: a new one-time secret of an account, in place of an earlier one; 28000 over a network without TLS 1.2, 22023 for a duration that cannot be';

CREATE FUNCTION leyser.invite_account(account_name text, tenant_id text DEFAULT leyser.tenant_id(),
                                      administrator boolean DEFAULT false,
                                      valid_for interval DEFAULT '7 days') RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    name text := leyser.checked_name(account_name, 'an account');
    invited bigint;
    secret text;
BEGIN
    PERFORM leyser.begin_account(invite_account.tenant_id, leyser.name_key(name), administrator);
    -- invited already: a new secret, the former one is void
    SELECT a.account_id INTO invited FROM leyser.account_record a
        WHERE a.tenant_id = invite_account.tenant_id AND a.name_key = leyser.name_key(name)
          AND a.state = 'invited';
    IF invited IS NULL THEN
        invited := leyser.add_account(invite_account.tenant_id, name, 'invited', NULL,
                                      coalesce(invite_account.administrator, false));
    ELSE
        PERFORM leyser.require_power_over(invited);
        IF administrator AND NOT leyser.is_administrator(invited) THEN
            PERFORM leyser.make_administrator(invited,
                CASE WHEN leyser.in_context() THEN leyser.acting_account() END);
        END IF;
    END IF;
    secret := leyser.open_invitation(invited, valid_for);
    PERFORM leyser.record_account_event('account.invited', invited,
        jsonb_build_object('expires_at', clock_timestamp() + valid_for));
    RETURN secret;
END
$$;
REVOKE ALL ON FUNCTION leyser.invite_account(text, text, boolean, interval) FROM PUBLIC;
COMMENT ON FUNCTION leyser.invite_account(text, text, boolean, interval) IS
    'application, with permission leyser.accounts, or a provisioner for a tenant''s first account: makes an account and returns the one-time secret with which the person sets the password in accept_invitation(); for an account that was invited already, a new secret, and with administrator => true it becomes one; 22023 for a name or duration that cannot be, 42710 for a name that is taken, 42704 for an unknown tenant, 42501';

CREATE FUNCTION leyser.create_account(account_name text, tenant_id text DEFAULT leyser.tenant_id(),
                                      administrator boolean DEFAULT false) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    name text := leyser.checked_name(account_name, 'an account');
    created bigint;
BEGIN
    PERFORM leyser.begin_account(create_account.tenant_id, leyser.name_key(name), administrator);
    created := leyser.add_account(create_account.tenant_id, name, 'active', NULL,
                                  coalesce(create_account.administrator, false));
    PERFORM leyser.record_account_event('account.created', created);
    RETURN created;
END
$$;
REVOKE ALL ON FUNCTION leyser.create_account(text, text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.create_account(text, text, boolean) IS
    'application, with permission leyser.accounts, or a provisioner for a tenant''s first account: makes an account without a password, for an identity from an issuer or from enter(); returns its id; errors as invite_account()';

-- Other systems write $2b$ and $2y$ for what pgcrypto calls $2a$.
CREATE FUNCTION leyser.import_account(account_name text, password_hash text,
                                      tenant_id text DEFAULT leyser.tenant_id(),
                                      administrator boolean DEFAULT false) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
DECLARE
    name text := leyser.checked_name(account_name, 'an account');
    highest_cost int := greatest(12, current_setting('leyser.password_cost')::int);
    imported bigint;
BEGIN
    IF password_hash ~ '^[$]2[aby][$][0-9][0-9][$][./A-Za-z0-9]{53}$' IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid password hash',
            DETAIL = 'It is no bcrypt hash ($2a$, $2b$ or $2y$).',
            HINT = 'Invite accounts with other hashes, or with none.';
    END IF;
    -- two of cost 20 would keep everybody else from logging in for minutes
    IF substr(password_hash, 5, 2)::int BETWEEN 4 AND highest_cost IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid password hash',
            DETAIL = format('Its cost is not from 4 to %s.', highest_cost),
            HINT = 'Invite the account; or have a superuser raise leyser.password_cost, up to which hashes are taken, too.';
    END IF;
    PERFORM leyser.begin_account(import_account.tenant_id, leyser.name_key(name), administrator);
    imported := leyser.add_account(import_account.tenant_id, name, 'active',
                                   '$2a' || substr(password_hash, 4),
                                   coalesce(import_account.administrator, false));
    PERFORM leyser.record_account_event('account.imported', imported);
    RETURN imported;
END
$$;
REVOKE ALL ON FUNCTION leyser.import_account(text, text, text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.import_account(text, text, text, boolean) IS
    'application, with permission leyser.accounts, or a superuser: takes over an account with its bcrypt hash from another system, to be hashed anew with the pepper at the first login; returns its id; 22023 for what is no such hash, or one of a higher cost than 12 and leyser.password_cost, others as invite_account()';

-- ---- accepting ----

-- Who made the secret may have kept it.  It is as good as its maker is now: what the
-- account was granted since, and what its maker lost, counts.  A grant that is not
-- committed yet comes after the acceptance: whoever grants sees the account active.
CREATE FUNCTION leyser.invitation_holds(account_id bigint) RETURNS boolean
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT i.invited_by IS NULL
        OR (leyser.effective_permission(i.invited_by, 'leyser.accounts', NULL, clock_timestamp())
            AND leyser.has_power_over(i.invited_by, i.account_id))
    FROM leyser.invitation_record i WHERE i.account_id = invitation_holds.account_id
$$;
REVOKE ALL ON FUNCTION leyser.invitation_holds(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.invitation_holds(bigint) IS
    'internal, in the worker: whether who made an account''s open secret could make it now';

CREATE FUNCTION leyser.accept_invitation(tenant_id text, account_name text, secret text,
                                         password text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    account leyser.account_record;
    answer text;
BEGIN
    PERFORM leyser.require_transport();
    PERFORM leyser.keyring_begin('leyser.accept_invitation()');
    SELECT a.* INTO account FROM leyser.account_record a
        JOIN leyser.invitation_record i ON i.account_id = a.account_id
        JOIN leyser.tenant_record t ON t.tenant_id = a.tenant_id
        WHERE a.tenant_id = accept_invitation.tenant_id
          AND a.name_key = leyser.name_key(left(accept_invitation.account_name, 201))
          AND a.state IN ('invited', 'active') AND leyser.tenant_is_active(t.tenant_id)
          AND i.secret_digest = sha256(convert_to(secret, 'UTF8'))
          AND i.expires_at > clock_timestamp();
    IF FOUND THEN
        answer := leyser.submit_patiently('password', jsonb_build_object(
            'account_id', account.account_id, 'caller_role', leyser.caller()::text, 'stored', account.password,
            'secret_digest', encode(sha256(convert_to(secret, 'UTF8')), 'hex'),
            'new_hash', leyser.hash_new_password(account, password)));
    END IF;
    IF answer IS DISTINCT FROM 'ok' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_authorization_specification',
            MESSAGE = 'invitation is not valid',
            DETAIL = 'It was used already, has expired, was replaced by another one, is void because who made it could not do so now, or never was.',
            HINT = 'Ask an administrator of the tenant for a new one.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.accept_invitation(text, text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.accept_invitation(text, text, text, text) IS
    'application, before login: sets the account''s password with the one-time secret of invite_account() or reset_password(), at once and for good, whatever becomes of the transaction; 28000 over a network without TLS 1.2, or for a secret that is wrong, used, late, or void because who made it could not do so now, 22023 for a password that is not taken, LY002 without a usable keyring, 53000 where the server has too many to check or no worker can be started, 58000 where that failed, 55P03 while somebody changes the account, 25006 on a standby or in a read-only transaction';
