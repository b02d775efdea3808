-- What becomes of accounts: disabled, enabled, renamed, deleted, recovered.

CREATE FUNCTION leyser.lock_account(account_id bigint) RETURNS leyser.account_record
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s'
AS $$
DECLARE
    locked leyser.account_record;
BEGIN
    SELECT a.* INTO locked FROM leyser.account_record a
        WHERE a.account_id = lock_account.account_id FOR UPDATE;
    RETURN locked;
EXCEPTION WHEN lock_not_available THEN
    PERFORM leyser.refuse_wait();
END
$$;
REVOKE ALL ON FUNCTION leyser.lock_account(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.lock_account(bigint) IS
    'internal: an account, locked; 55P03 after three seconds';

-- The account that is changed must not hold this up: nothing that it does about
-- itself locks its row, and only for administrators does it take lock_grants(),
-- which whoever has a grant can hold.  Under an old snapshot nobody can tell who
-- is an administrator, so there it is always taken.
CREATE FUNCTION leyser.begin_account_change(account_name text) RETURNS leyser.account_record
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    target bigint;
    account leyser.account_record;
    locked boolean;
BEGIN
    PERFORM leyser.require_account_permission('leyser.accounts');
    target := leyser.find_account(account_name);
    locked := leyser.is_administrator(target)
              OR current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted');
    IF locked THEN
        PERFORM leyser.begin_change();
    END IF;
    account := leyser.lock_account(target);
    IF NOT locked AND leyser.is_administrator(target) THEN
        PERFORM leyser.begin_change();
    END IF;
    -- who had to wait may not be there any longer, nor the account
    PERFORM leyser.require_account_permission('leyser.accounts');
    PERFORM leyser.find_account(account_name);
    IF leyser.is_administrator(target) THEN
        PERFORM leyser.require_administrator();
    END IF;
    RETURN account;
END
$$;
REVOKE ALL ON FUNCTION leyser.begin_account_change(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.begin_account_change(text) IS
    'internal: the account to be changed, locked; 42501 without leyser.accounts, and for an administrator''s account by others, 42704 for an unknown one, 55P03 where somebody else changes it';

CREATE FUNCTION leyser.require_account_state(account leyser.account_record, states text[]) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF account.state <> ALL (states) THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = format('account is %s', account.state),
            DETAIL = format('It must be %s.', array_to_string(states, ' or ')),
            HINT = 'See view leyser.account.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.require_account_state(leyser.account_record, text[]) FROM PUBLIC;
COMMENT ON FUNCTION leyser.require_account_state(leyser.account_record, text[]) IS
    'internal: LY008 unless an account is in one of the states';

-- The context would end in the middle of the call.
CREATE FUNCTION leyser.refuse_own_account(account_id bigint) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF account_id = leyser.context_account_id() THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'cannot do this to one''s own account',
            DETAIL = 'The context works for this account.',
            HINT = 'Ask another administrator of the tenant.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.refuse_own_account(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.refuse_own_account(bigint) IS
    'internal: LY008 for the context''s own account';

CREATE FUNCTION leyser.disable_account(account_name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    account leyser.account_record := leyser.begin_account_change(account_name);
BEGIN
    PERFORM leyser.require_account_state(account, '{invited,active}');
    PERFORM leyser.refuse_own_account(account.account_id);
    PERFORM leyser.require_other_administrator(account.account_id);
    UPDATE leyser.account_record a SET state = 'disabled', state_since = clock_timestamp()
        WHERE a.account_id = account.account_id;
    PERFORM leyser.end_sessions(account.account_id);
    PERFORM leyser.record_account_event('account.disabled', account.account_id);
END
$$;
REVOKE ALL ON FUNCTION leyser.disable_account(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.disable_account(text) IS
    'application, with permission leyser.accounts: from the next statement on, every context of this account gets LY005; LY008 where it is disabled already, one''s own or the last administrator, 42704 for an unknown one, 55P03 where another transaction changes the same';

-- An account without a password may have been invited, or wait for an issuer's token: what
-- it was is in the history.
CREATE FUNCTION leyser.state_before_disabling(account_id bigint) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.row_before ->> 'state' FROM leyser.permission_change c
    WHERE c.account_id = state_before_disabling.account_id AND c.change = 'account.disabled'
    ORDER BY c.change_id DESC LIMIT 1
$$;
REVOKE ALL ON FUNCTION leyser.state_before_disabling(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.state_before_disabling(bigint) IS
    'internal: the state that a disabled account had before, NULL where the history does not tell';

CREATE FUNCTION leyser.enable_account(account_name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    account leyser.account_record := leyser.begin_account_change(account_name);
BEGIN
    PERFORM leyser.require_account_state(account, '{disabled}');
    UPDATE leyser.account_record a SET state_since = clock_timestamp(),
            state = coalesce(leyser.state_before_disabling(a.account_id), 'active')
        WHERE a.account_id = account.account_id;
    PERFORM leyser.record_account_event('account.enabled', account.account_id);
END
$$;
REVOKE ALL ON FUNCTION leyser.enable_account(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.enable_account(text) IS
    'application, with permission leyser.accounts: lets a disabled account be what it was, with its password and its grants; LY008 where it is not disabled, 42704 for an unknown one, 55P03 where another transaction changes the same';

-- Own tokens carry the account's name and its id, and end with the name.  Those of issuers
-- carry a name only: whoever takes it is not meant by the ones that were made before.
CREATE FUNCTION leyser.rename_account(account_name text, new_name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    name text := leyser.checked_name(new_name, 'an account');
    account leyser.account_record := leyser.begin_account_change(account_name);
BEGIN
    PERFORM leyser.require_power_over(account.account_id);
    PERFORM leyser.refuse_own_account(account.account_id);
    IF EXISTS (SELECT FROM leyser.account_record a
               WHERE a.tenant_id = account.tenant_id AND a.name_key = leyser.name_key(name)
                 AND a.account_id <> account.account_id) THEN
        PERFORM leyser.refuse_taken_name();
    END IF;
    UPDATE leyser.account_record a SET account_name = name, name_key = leyser.name_key(name),
            named_at = CASE WHEN a.account_name = name THEN a.named_at ELSE clock_timestamp() END
        WHERE a.account_id = account.account_id;
    PERFORM leyser.end_sessions(account.account_id);
    PERFORM leyser.record_account_event('account.renamed', account.account_id);
END
$$;
REVOKE ALL ON FUNCTION leyser.rename_account(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.rename_account(text, text) IS
    'application, with permission leyser.accounts (and who could grant all that the account was granted): gives an account another name, and ends its sessions and the tokens of its former name; 22023 for a name that cannot be, 42710 for one that is taken, 42704 for an unknown account, LY008 for one''s own, 55P03 where another transaction changes the same';

CREATE FUNCTION leyser.delete_account(account_name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    account leyser.account_record := leyser.begin_account_change(account_name);
BEGIN
    PERFORM leyser.refuse_own_account(account.account_id);
    PERFORM leyser.begin_change(); -- its grants go
    PERFORM leyser.require_other_administrator(account.account_id);
    PERFORM leyser.record_account_event('account.deleted', account.account_id);
    PERFORM leyser.end_sessions(account.account_id);
    PERFORM leyser.remove_account_grants(account.account_id);
    DELETE FROM leyser.invitation_record i WHERE i.account_id = account.account_id;
    DELETE FROM leyser.password_record p WHERE p.account_id = account.account_id;
    DELETE FROM leyser.session_record s WHERE s.account_id = account.account_id;
    DELETE FROM leyser.familiar_address f WHERE f.account_id = account.account_id;
    UPDATE leyser.account_record a
        SET state = 'deleted', state_since = clock_timestamp(), account_name = NULL, name_key = NULL,
            password = NULL, password_set_at = NULL
        WHERE a.account_id = account.account_id;
    PERFORM leyser.erase_addresses(account.tenant_id, account.account_id);
END
$$;
REVOKE ALL ON FUNCTION leyser.delete_account(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.delete_account(text) IS
    'application, with permission leyser.accounts: removes an account''s name, passwords, sessions, grants and addresses, for good; its id stays in the history, and what it granted stays; LY008 for one''s own and the last administrator, 42704 for an unknown account, 55P03 where another transaction changes the same';

-- ---- passwords ----

CREATE FUNCTION leyser.reset_password(account_name text, valid_for interval DEFAULT '1 day') RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    account leyser.account_record := leyser.begin_account_change(account_name);
    secret text;
BEGIN
    PERFORM leyser.require_power_over(account.account_id);
    PERFORM leyser.require_account_state(account, '{invited,active}');
    secret := leyser.open_invitation(account.account_id, valid_for);
    PERFORM leyser.retire_password(account.account_id);
    PERFORM leyser.end_sessions(account.account_id);
    PERFORM leyser.record_account_event('password.reset', account.account_id);
    RETURN secret;
END
$$;
REVOKE ALL ON FUNCTION leyser.reset_password(text, interval) FROM PUBLIC;
COMMENT ON FUNCTION leyser.reset_password(text, interval) IS
    'application, with permission leyser.accounts (and who could grant all that the account was granted): the password counts no longer and the sessions end; returns a one-time secret for accept_invitation(); LY008 for a disabled account, 42704 for an unknown one, 55P03 where another transaction changes the same';

CREATE FUNCTION leyser.refuse_password() RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'invalid_password',
        MESSAGE = 'password is wrong',
        DETAIL = 'Or it was wrong a moment ago: each failure makes the next attempt wait longer.',
        HINT = 'Try again later, or ask an administrator of the tenant for leyser.reset_password().';
END
$$;
REVOKE ALL ON FUNCTION leyser.refuse_password() FROM PUBLIC;
COMMENT ON FUNCTION leyser.refuse_password() IS 'internal: raises 28P01';

-- The worker judges the old password as it does at login: failures count.
CREATE FUNCTION leyser.change_password(old_password text, new_password text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    account leyser.account_record;
    actor bigint := leyser.require_context_account();
BEGIN
    PERFORM leyser.require_transport();
    PERFORM leyser.keyring_begin('leyser.change_password()');
    SELECT a.* INTO account FROM leyser.account_record a WHERE a.account_id = actor;
    IF leyser.judge_password(account, old_password, NULL, NULL, NULL) IS NULL THEN
        PERFORM leyser.refuse_password();
    END IF;
    IF leyser.submit_patiently('password', jsonb_build_object(
            'account_id', actor, 'caller_role', leyser.caller()::text,
            'stored', account.password, 'session_id', leyser.session_id(),
            'new_hash', leyser.hash_new_password(account, new_password))) <> 'ok' THEN
        PERFORM leyser.refuse_password();
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.change_password(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.change_password(text, text) IS
    'application, in a context with an account: sets another password and ends the account''s other sessions, at once and for good, whatever becomes of the transaction; 28P01 where the old one is wrong (which counts as a failed login), 22023 where the new one is not taken, 42501 without an account, 55P03 while somebody changes it, others as login(); 28000 over a network without TLS 1.2';

-- ---- recovery ----

-- Of the administrators the oldest one, rather one that can work.
CREATE FUNCTION leyser.account_to_recover(tenant_id text, account_name text) RETURNS bigint
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.account_id FROM leyser.account_record a
    WHERE a.tenant_id = account_to_recover.tenant_id AND a.state <> 'deleted'
      AND CASE WHEN account_to_recover.account_name IS NULL THEN leyser.is_administrator(a.account_id)
               ELSE a.name_key = leyser.name_key(account_to_recover.account_name) END
    ORDER BY a.state = 'disabled', a.account_id LIMIT 1
$$;
REVOKE ALL ON FUNCTION leyser.account_to_recover(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.account_to_recover(text, text) IS
    'internal: the named account, or a tenant''s first administrator; NULL where there is none';

CREATE FUNCTION leyser.recover_administrator(tenant_id text, reason text,
                                             account_name text DEFAULT NULL,
                                             valid_for interval DEFAULT '1 day') RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    recovered bigint;
    secret text;
BEGIN
    PERFORM leyser.refuse_context('leyser.recover_administrator()');
    PERFORM leyser.check_outside_tenant(tenant_id);
    IF coalesce(reason, '') !~ '[[:alnum:]]' OR length(reason) > 1000 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid reason',
            DETAIL = 'The tenant is told the reason; it has 1 to 1000 characters.',
            HINT = 'Say who asked for it, and how you made sure of that.';
    END IF;
    PERFORM leyser.lock_grants(tenant_id);
    recovered := leyser.account_to_recover(tenant_id, account_name);
    IF recovered IS NULL THEN
        recovered := leyser.add_account(tenant_id, leyser.checked_name(account_name, 'an account'),
                                        'invited', NULL, true);
    ELSIF NOT leyser.is_administrator(recovered) THEN
        PERFORM leyser.make_administrator(recovered, NULL);
    END IF;
    PERFORM leyser.lock_account(recovered);
    PERFORM leyser.retire_password(recovered);
    PERFORM leyser.end_sessions(recovered);
    UPDATE leyser.account_record a SET state = 'invited', state_since = clock_timestamp()
        WHERE a.account_id = recovered AND a.state <> 'invited';
    secret := leyser.open_invitation(recovered, valid_for);
    PERFORM leyser.record_account_event('administrator.recovered', recovered,
        jsonb_build_object('reason', reason));
    RETURN secret;
END
$$;
REVOKE ALL ON FUNCTION leyser.recover_administrator(text, text, text, interval) FROM PUBLIC;
COMMENT ON FUNCTION leyser.recover_administrator(text, text, text, interval) IS
    'provisioner, for a tenant that lost access: invites its first administrator (or the named account, made one) anew and returns the one-time secret; the former password and sessions end; the tenant sees it in view leyser.account_event; 42704 for an unknown tenant, 22023 without a reason, LY009 in a context, 55P03 where another transaction changes the same';

-- ---- views ----

CREATE VIEW leyser.account WITH (security_barrier) AS
    SELECT a.account_id, a.account_name, a.state, a.password IS NOT NULL AS has_password,
           a.password_set_at, a.created_at, a.state_since
    FROM leyser.account_record a
    WHERE a.tenant_id = leyser.tenant_id() AND a.state <> 'deleted'
      AND ((SELECT leyser.sees_accounts()) OR a.account_id = (SELECT leyser.context_account_id()));
COMMENT ON VIEW leyser.account IS
    'accounts of the context''s tenant: all with permission leyser.accounts, else one''s own (application); LY001 without a context';

CREATE VIEW leyser.account_event WITH (security_barrier) AS
    SELECT e.at, e.event, e.object AS account_id,
           coalesce(a.account_name, 'account ' || e.object) AS account_name, e.caller_role,
           coalesce(b.account_name, 'account ' || e.account_id) AS by_account, e.client_address, e.detail
    FROM leyser.event_record e
    LEFT JOIN leyser.account_record a
        ON a.tenant_id = e.tenant_id AND a.account_id::text = e.object
    LEFT JOIN leyser.account_record b ON b.account_id = e.account_id
    WHERE e.tenant_id = leyser.tenant_id() AND (SELECT leyser.sees_accounts())
      AND e.event ~ '^(account|administrator|password|session|login)\.';
COMMENT ON VIEW leyser.account_event IS
    'what happened to accounts of the context''s tenant, for holders of permission leyser.accounts (application): invitations, logins, resets, recovery by the provider';
