-- Sessions: login, renewal, logout, revocation.  See session_task.sql, too.

CREATE FUNCTION leyser.sign_session_token(tenant_id text, account_id bigint, account_name text,
                                          session_id uuid, ends_at timestamptz) RETURNS text
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_session_sign_token';
REVOKE ALL ON FUNCTION leyser.sign_session_token(text, bigint, text, uuid, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.sign_session_token(text, bigint, text, uuid, timestamptz) IS
    'internal: a token of a session, that of support access without an account; LY002 without a usable keyring';

CREATE FUNCTION leyser.refuse_context(what text) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF leyser.in_context() THEN
        RAISE EXCEPTION USING ERRCODE = 'LY009',
            MESSAGE = 'context is already set in this transaction',
            DETAIL = format('%s is called outside of a context.', what),
            HINT = 'End the transaction first.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.refuse_context(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.refuse_context(text) IS 'internal: LY009 in a context';

CREATE FUNCTION leyser.require_context_account() RETURNS bigint
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    account bigint := leyser.context_account_id();
BEGIN
    IF account IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = 'permission denied: the context has no account',
            DETAIL = 'The context is a tenant''s, and no account''s.',
            HINT = 'Use a token with an account, such as leyser.login() gives.';
    END IF;
    RETURN account;
END
$$;
REVOKE ALL ON FUNCTION leyser.require_context_account() FROM PUBLIC;
COMMENT ON FUNCTION leyser.require_context_account() IS
    'internal: the account of the context; 42501 where it has none, LY001 without a context';

-- In C for its snapshot: a session that began after the transaction's ends, too.
CREATE FUNCTION leyser.end_sessions(account_id bigint, but uuid DEFAULT NULL) RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_session_end_all';
REVOKE ALL ON FUNCTION leyser.end_sessions(bigint, uuid) FROM PUBLIC;
COMMENT ON FUNCTION leyser.end_sessions(bigint, uuid) IS
    'internal: ends the sessions of an account, all but one, and waits for nobody; returns how many; those that are beginning are kept out by a lock on the account, where its password is changed, too';

-- Once the worker has said yes: before, the time of a second hash would tell that
-- the password is right, also where the account has to wait.
CREATE FUNCTION leyser.hash_anew(account leyser.account_record, password text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- taken over from elsewhere, or of another cost
    IF substr(account.password, 37, 7)
       IS DISTINCT FROM '$2a$' || lpad(current_setting('leyser.password_cost'), 2, '0') || '$' THEN
        PERFORM leyser.submit_task('hash', jsonb_build_object('account_id', account.account_id,
            'stored', account.password, 'new_hash', leyser.hash_password(password))::text);
    END IF;
EXCEPTION WHEN insufficient_resources OR system_error THEN
    NULL; -- the session has begun; the next login tries again
END
$$;
REVOKE ALL ON FUNCTION leyser.hash_anew(leyser.account_record, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.hash_anew(leyser.account_record, text) IS
    'internal: stores another hash of a password that was right, where the stored one is not as it would be made today';

-- For what an account does about itself: it may know that it is being changed.
CREATE FUNCTION leyser.submit_patiently(task text, request jsonb) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    answer text;
BEGIN
    FOR attempt IN 1..20 LOOP
        answer := leyser.submit_task(task, request::text);
        IF answer <> 'busy' THEN
            RETURN answer;
        END IF;
        PERFORM pg_sleep(0.1);
    END LOOP;
    RAISE EXCEPTION USING ERRCODE = 'lock_not_available',
        MESSAGE = 'account is being changed',
        DETAIL = 'A transaction that changes it has not ended.',
        HINT = 'Try again in a moment.';
END
$$;
REVOKE ALL ON FUNCTION leyser.submit_patiently(text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.submit_patiently(text, jsonb) IS
    'internal: submit_task() until the answer is not "busy"; 55P03 after two seconds';

-- Unknown accounts share a thousand subjects: guessed names cannot fill the table.
CREATE FUNCTION leyser.judge_password(account leyser.account_record, password text, named text,
                                      client_address inet, ends_at timestamptz) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    matches boolean := leyser.password_matches(password, account.password);
    lost boolean := matches IS NULL;
    stranger text := 'unknown:' || abs(hashtext(named)::bigint) % 1024;
    request jsonb;
    answer text;
BEGIN
    request := jsonb_build_object(
        'tenant_id', account.tenant_id, 'account_id', account.account_id,
        'subject', coalesce('account:' || account.account_id, stranger), 'stranger', stranger,
        'address', 'address:' || leyser.address_network(client_address),
        'client_address', host(client_address),
        'caller_role', leyser.caller()::text,
        'stored', account.password,
        'matches', coalesce(matches, false),
        'ends_at', ends_at);
    answer := leyser.submit_patiently('login', request);
    IF lost THEN
        PERFORM leyser.refuse_lost_pepper();
    END IF;
    RETURN nullif(answer, '');
END
$$;
REVOKE ALL ON FUNCTION leyser.judge_password(leyser.account_record, text, text, inet, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_password(leyser.account_record, text, text, inet, timestamptz) IS
    'internal: has the worker judge and count an attempt; the new session''s id (or "ok" without ends_at), NULL where anything was wrong; LY002 where the pepper is lost, 55P03 for change_password() while somebody changes the account';

-- ---- what people call ----

CREATE FUNCTION leyser.session_end(lifetime interval) RETURNS timestamptz
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF lifetime BETWEEN '1 second' AND '90 days' IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid lifetime of a session',
            DETAIL = 'It must be at least one second and at most 90 days.',
            HINT = 'Leave the argument out for eight hours.';
    END IF;
    RETURN clock_timestamp() + lifetime;
END
$$;
REVOKE ALL ON FUNCTION leyser.session_end(interval) FROM PUBLIC;
COMMENT ON FUNCTION leyser.session_end(interval) IS
    'internal: when a session that begins now ends for good; 22023';

CREATE FUNCTION leyser.login(tenant_id text, account_name text, password text,
                             lifetime interval DEFAULT '8 hours',
                             client_address inet DEFAULT NULL) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    account leyser.account_record;
    ends_at timestamptz := leyser.session_end(lifetime);
    given_name text := left(account_name, 201);
    session text;
BEGIN
    PERFORM leyser.require_transport();
    PERFORM leyser.keyring_begin('leyser.login()');
    PERFORM leyser.refuse_context('leyser.login()');
    SELECT a.* INTO account FROM leyser.account_record a
        JOIN leyser.tenant_record t ON t.tenant_id = a.tenant_id
        WHERE a.tenant_id = login.tenant_id AND a.name_key = leyser.name_key(given_name)
          AND a.state = 'active' AND leyser.tenant_is_active(t.tenant_id);
    IF NOT FOUND THEN
        account := NULL;
        account.tenant_id := (SELECT t.tenant_id FROM leyser.tenant_record t
                              WHERE t.tenant_id = login.tenant_id);
    END IF;
    session := leyser.judge_password(account, password, concat_ws('/', left(login.tenant_id, 201), given_name),
                                     client_address, ends_at);
    IF session IS NULL THEN
        RETURN NULL;
    END IF;
    PERFORM leyser.hash_anew(account, password);
    RETURN leyser.sign_session_token(account.tenant_id, account.account_id, account.account_name, session::uuid, ends_at);
END
$$;
REVOKE ALL ON FUNCTION leyser.login(text, text, text, interval, inet) FROM PUBLIC;
COMMENT ON FUNCTION leyser.login(text, text, text, interval, inet) IS
    'application: a token for set_config(''leyser.token'', …, true), bound to a new session that ends after lifetime (one second to 90 days) whatever is renewed; NULL whatever was wrong, also while the account or the address must wait after failures, or the account is being changed; counted and recorded even where the transaction is rolled back; LY009 in a context, LY002 without a usable keyring, 22023 for a lifetime that cannot be, 25006 on a standby or in a read-only transaction, 53000 where the server has too many to check or no worker can be started, 58000 where the worker failed; 28000 over a network without TLS 1.2';

CREATE FUNCTION leyser.own_session() RETURNS leyser.session_record
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    session uuid := leyser.session_id();
    account bigint;
    own leyser.session_record;
BEGIN
    IF session IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'the context has no session',
            DETAIL = 'Its token was not made by leyser.login().',
            HINT = 'Let the token expire, or ask whoever issued it.';
    END IF;
    account := leyser.require_context_account(); -- support access has none
    SELECT s.* INTO own FROM leyser.session_record s
        WHERE s.session_id = session AND s.account_id = account
          AND NOT EXISTS (SELECT FROM leyser.revoked_session r WHERE r.session_id = session);
    IF own.session_id IS NULL OR own.expires_at < clock_timestamp() THEN
        RAISE EXCEPTION USING ERRCODE = 'LY005',
            MESSAGE = 'session has ended',
            DETAIL = 'It was ended, or its time is over.',
            HINT = 'Log in again.';
    END IF;
    RETURN own;
END
$$;
REVOKE ALL ON FUNCTION leyser.own_session() FROM PUBLIC;
COMMENT ON FUNCTION leyser.own_session() IS
    'internal: the context''s session, not locked: nobody who ends it shall wait; LY008 where it has none, 42501 in a context of support access, LY005 where it has ended';

CREATE FUNCTION leyser.renew_token() RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    own leyser.session_record;
BEGIN
    PERFORM leyser.require_transport();
    PERFORM leyser.keyring_begin('leyser.renew_token()');
    own := leyser.own_session();
    PERFORM leyser.submit_task('renew', own.session_id::text);
    RETURN leyser.sign_session_token(own.tenant_id, own.account_id, leyser.account_name(), own.session_id, own.expires_at);
END
$$;
REVOKE ALL ON FUNCTION leyser.renew_token() FROM PUBLIC;
COMMENT ON FUNCTION leyser.renew_token() IS
    'application, in a session''s context: another token of the same session, signed with the key that is active now and good until the session ends or for leyser.max_token_lifetime; LY008 where the context has no session, LY005 where that has ended, 42501 in one of support access, LY002 without a usable keyring, 25006 on a standby or in a read-only transaction, 53000 where no worker can be started, 58000 where it failed; 28000 over a network without TLS 1.2';

CREATE FUNCTION leyser.logout() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    own leyser.session_record;
BEGIN
    own := leyser.own_session();
    PERFORM leyser.record_account_event('session.ended', own.account_id,
        jsonb_build_object('session_id', own.session_id));
    INSERT INTO leyser.revoked_session (session_id, expires_at) VALUES (own.session_id, own.expires_at);
END
$$;
REVOKE ALL ON FUNCTION leyser.logout() FROM PUBLIC;
COMMENT ON FUNCTION leyser.logout() IS
    'application, in a session''s context: ends the session; from the next statement on its tokens get LY005; LY008 where the context has no session, 42501 in one of support access, 25006 on a standby or in a read-only transaction';

CREATE FUNCTION leyser.revoke_sessions(account_name text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    target bigint;
    ended integer;
BEGIN
    PERFORM leyser.acting_account();
    -- of others only whoever may know of them
    IF leyser.account_id_of(account_name) = leyser.context_account_id() IS NOT TRUE THEN
        PERFORM leyser.require_account_permission('leyser.accounts');
    END IF;
    target := leyser.find_account(account_name);
    ended := leyser.end_sessions(target);
    PERFORM leyser.record_account_event('session.revoked', target, jsonb_build_object('sessions', ended));
    RETURN ended;
END
$$;
REVOKE ALL ON FUNCTION leyser.revoke_sessions(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.revoke_sessions(text) IS
    'application: ends all sessions of one''s own account, or with permission leyser.accounts of any; waits for nobody; returns how many; from the next statement on their tokens get LY005; 42501 for another''s account without the permission, 42704 for an unknown one, 25006 on a standby or in a read-only transaction';

CREATE VIEW leyser.session WITH (security_barrier) AS
    SELECT s.session_id, a.account_name, s.created_at, s.renewed_at, s.expires_at, s.client_address,
           s.session_id = leyser.session_id() IS TRUE AS current
    FROM leyser.session_record s JOIN leyser.account_record a ON a.account_id = s.account_id
    WHERE s.tenant_id = leyser.tenant_id()
      AND NOT EXISTS (SELECT FROM leyser.revoked_session r WHERE r.session_id = s.session_id)
      AND s.expires_at > statement_timestamp()
      AND ((SELECT leyser.sees_accounts()) OR s.account_id = (SELECT leyser.context_account_id()));
COMMENT ON VIEW leyser.session IS
    'open sessions of the context''s tenant: all with permission leyser.accounts, else one''s own (application); LY001 without a context';
