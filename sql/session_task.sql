-- What the worker does for logins.
--
-- A session must be known even where the transaction of its login is rolled
-- back, or nobody could revoke it; a failed login must be counted even then.
-- So the worker (src/worker.c) writes both, and judges: it sees what is
-- committed, and one login after another.  Among parallel guesses the first
-- wrong one makes the others wait, the right one too.
--
-- Whatever was wrong, the work is the same: one bcrypt hash, one task, one row
-- written, one event.
--
-- The worker serves everybody, so it must wait for nobody: only tasks write
-- login_delay, and an account that somebody has locked is not waited for.
--
-- What an account does about itself (another password, another token) is written
-- here, too: its own transaction, which it may leave open, locks nothing that
-- stands in the way of whoever ends its sessions.

CREATE FUNCTION leyser.submit_task(task text, payload text) RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'leyser_task_perform_sql';
REVOKE ALL ON FUNCTION leyser.submit_task(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.submit_task(text, text) IS
    'internal: has the worker run perform_task() in a transaction of its own and returns its result; 53000 where it cannot, 58000 where the task fails';

-- An address of IPv4 that comes inside one of IPv6, mapped or by NAT64 (RFC 6052),
-- is the same client's; else all of IPv4 would be one network of IPv6.  The
-- translators of RFC 8215 put it there in ways of their own: each address by itself.
CREATE FUNCTION leyser.address_network(client_address inet) RETURNS inet
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN family(client_address) = 4 THEN set_masklen(client_address, 32)
        WHEN client_address <<= '::ffff:0:0/96' THEN
            inet '0.0.0.0' + (set_masklen(client_address, 128) - inet '::ffff:0:0')
        WHEN client_address <<= '64:ff9b::/96' THEN
            inet '0.0.0.0' + (set_masklen(client_address, 128) - inet '64:ff9b::')
        WHEN client_address <<= '64:ff9b:1::/48' THEN set_masklen(client_address, 128)
        ELSE network(set_masklen(client_address, 64))
    END
$$;
REVOKE ALL ON FUNCTION leyser.address_network(inet) FROM PUBLIC;
COMMENT ON FUNCTION leyser.address_network(inet) IS
    'internal: what waits together after failed logins: an address of IPv4, a /64 of IPv6';

-- 1 s after the first failure that counts, then twice as long, up to 15 min.
CREATE FUNCTION leyser.login_delay_after(failures integer, free integer) RETURNS interval
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN failures <= free THEN interval '0'
                ELSE least(interval '15 minutes',
                           interval '1 second' * 2 ^ least(failures - free - 1, 20)) END
$$;
REVOKE ALL ON FUNCTION leyser.login_delay_after(integer, integer) FROM PUBLIC;
COMMENT ON FUNCTION leyser.login_delay_after(integer, integer) IS
    'internal: how long nobody can log in after so many failures, of which some are free';

-- People share an address: four failures are free, and an hour forgives.  A
-- success does not, or an attacker would log in between guesses.
CREATE FUNCTION leyser.count_login_failure(subject text) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    WITH rule AS (
        SELECT CASE WHEN count_login_failure.subject LIKE 'address:%' THEN 4 ELSE 0 END AS free,
               CASE WHEN count_login_failure.subject LIKE 'address:%' THEN interval '1 hour'
                    ELSE interval '1 day' END AS forgiven_after
    )
    INSERT INTO leyser.login_delay AS d (subject, failures, last_failure_at, locked_until)
        SELECT count_login_failure.subject, 1, clock_timestamp(),
               clock_timestamp() + leyser.login_delay_after(1, r.free) FROM rule r
    ON CONFLICT ON CONSTRAINT login_delay_pkey DO UPDATE SET (failures, last_failure_at, locked_until) = (
        SELECT n.failures, clock_timestamp(), clock_timestamp() + leyser.login_delay_after(n.failures, r.free)
        FROM rule r, LATERAL (SELECT 1 + CASE WHEN d.last_failure_at > clock_timestamp() - r.forgiven_after
                                              THEN d.failures ELSE 0 END AS failures) n)
$$;
REVOKE ALL ON FUNCTION leyser.count_login_failure(text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.count_login_failure(text) IS
    'internal: one more failed login of an account or address';

-- What fails while it must wait neither counts nor prolongs: the delay grows by
-- failures that were judged.  The row is written all the same: equal work.
CREATE FUNCTION leyser.refuse_login(request jsonb, subject text, delayed boolean) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    subjects text[] := array_remove(ARRAY[subject, request ->> 'address'], NULL);
    one text;
BEGIN
    FOREACH one IN ARRAY subjects LOOP
        IF delayed THEN
            UPDATE leyser.login_delay d SET failures = d.failures WHERE d.subject = one;
        ELSE
            PERFORM leyser.count_login_failure(one);
        END IF;
    END LOOP;
    PERFORM leyser.record_event('login.failed', request ->> 'tenant_id', request ->> 'account_id',
        jsonb_strip_nulls(jsonb_build_object('caller_role', request -> 'caller_role',
            'client_address', request -> 'client_address',
            'delayed', CASE WHEN delayed THEN true END)));
END
$$;
REVOKE ALL ON FUNCTION leyser.refuse_login(jsonb, text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.refuse_login(jsonb, text, boolean) IS
    'internal, in the worker: counts and records a failed login';

-- Who guesses makes an account wait.  That must not shut out its owner: addresses
-- from which the account logged in before wait by themselves.
CREATE FUNCTION leyser.delay_subject(request jsonb) RETURNS text
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT (request ->> 'subject') || coalesce((
        SELECT '@' || f.network FROM leyser.familiar_address f
        WHERE f.account_id = (request ->> 'account_id')::bigint
          AND f.network = leyser.address_network((request ->> 'client_address')::inet)), '')
$$;
REVOKE ALL ON FUNCTION leyser.delay_subject(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.delay_subject(jsonb) IS
    'internal, in the worker: what a login''s failures are counted for: an account, or an account at an address that is familiar';

CREATE FUNCTION leyser.begin_session(request jsonb) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    new_session uuid := gen_random_uuid();
BEGIN
    IF request ->> 'ends_at' IS NULL THEN
        RETURN 'ok'; -- change_password()
    END IF;
    INSERT INTO leyser.session_record (session_id, tenant_id, account_id, expires_at, client_address)
        VALUES (new_session, request ->> 'tenant_id', (request ->> 'account_id')::bigint,
                (request ->> 'ends_at')::timestamptz, (request ->> 'client_address')::inet);
    INSERT INTO leyser.familiar_address (account_id, network)
        SELECT (request ->> 'account_id')::bigint, n.network
        FROM leyser.address_network((request ->> 'client_address')::inet) n (network)
        WHERE n.network IS NOT NULL
        ON CONFLICT ON CONSTRAINT familiar_address_pkey DO UPDATE SET last_login_at = clock_timestamp();
    PERFORM leyser.record_event('session.began', request ->> 'tenant_id', request ->> 'account_id',
        jsonb_strip_nulls(jsonb_build_object('caller_role', request -> 'caller_role',
            'client_address', request -> 'client_address', 'session_id', new_session,
            'ends_at', request -> 'ends_at')));
    RETURN new_session::text;
END
$$;
REVOKE ALL ON FUNCTION leyser.begin_session(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.begin_session(jsonb) IS
    'internal, in the worker: adds the session of a login that succeeded';

-- From the end of a contract on, its tenant is to a login what an unknown one is: a row
-- or a line that named it would have to be erased again, as often as somebody tries,
-- and would stay where the tenant is erased already.
CREATE FUNCTION leyser.forget_ended_tenant(request jsonb) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT leyser.contract_has_ended(request ->> 'tenant_id') THEN
        RETURN request;
    END IF;
    RETURN request - '{tenant_id,account_id,stored}'::text[]
        || jsonb_build_object('matches', false, 'subject', request -> 'stranger');
END
$$;
REVOKE ALL ON FUNCTION leyser.forget_ended_tenant(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.forget_ended_tenant(jsonb) IS
    'internal, in the worker: a login, without tenant and account where the contract has ended';

CREATE FUNCTION leyser.judge_login(request jsonb) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
<<judge_login>>
DECLARE
    subject text := leyser.delay_subject(request);
    delayed boolean := EXISTS (SELECT FROM leyser.login_delay d
        WHERE d.subject IN (judge_login.subject, request ->> 'address')
          AND d.locked_until > clock_timestamp());
BEGIN
    -- Not while the account is being changed: sessions end with that.  A login is
    -- refused then like any other: an answer of its own would tell that the account
    -- exists.
    BEGIN
        PERFORM FROM leyser.account_record a
            WHERE a.account_id = (request ->> 'account_id')::bigint FOR SHARE NOWAIT;
    EXCEPTION WHEN lock_not_available THEN
        IF request ->> 'ends_at' IS NULL THEN
            RETURN 'busy'; -- change_password()
        END IF;
        delayed := true;
    END;
    PERFORM FROM leyser.account_record a JOIN leyser.tenant_record t USING (tenant_id)
        WHERE a.account_id = (request ->> 'account_id')::bigint AND a.state = 'active'
          AND leyser.tenant_is_active(t.tenant_id) AND a.password = request ->> 'stored';
    IF NOT FOUND OR delayed OR NOT (request ->> 'matches')::boolean THEN
        PERFORM leyser.refuse_login(request, subject, delayed);
        RETURN '';
    END IF;
    DELETE FROM leyser.login_delay d WHERE d.subject = judge_login.subject;
    RETURN leyser.begin_session(request);
END
$$;
REVOKE ALL ON FUNCTION leyser.judge_login(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.judge_login(jsonb) IS
    'internal, in the worker: the answer to a login: "" for no, also while the account is being changed (to change_password(): "busy")';

-- Not where it was changed meanwhile, or is being changed.
CREATE FUNCTION leyser.renew_hash(request jsonb) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE leyser.account_record a SET password = request ->> 'new_hash'
    WHERE a.account_id = (SELECT l.account_id FROM leyser.account_record l
                          WHERE l.account_id = (request ->> 'account_id')::bigint
                            AND l.password = request ->> 'stored'
                          FOR NO KEY UPDATE SKIP LOCKED)
$$;
REVOKE ALL ON FUNCTION leyser.renew_hash(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.renew_hash(jsonb) IS
    'internal, in the worker: puts a new hash of the same password in place of the stored one';

-- With the secret of an invitation, or where the old password is still the one that
-- was judged.  It is done for good: whoever rolls back cannot try a secret twice.
CREATE FUNCTION leyser.replace_password(request jsonb) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    account leyser.account_record;
    secret bytea := decode(request ->> 'secret_digest', 'hex');
    detail jsonb := jsonb_build_object('caller_role', request -> 'caller_role');
BEGIN
    BEGIN
        SELECT a.* INTO account FROM leyser.account_record a
            WHERE a.account_id = (request ->> 'account_id')::bigint FOR UPDATE NOWAIT;
    EXCEPTION WHEN lock_not_available THEN
        RETURN 'busy';
    END;
    IF account.state = ANY (CASE WHEN secret IS NULL THEN '{active}' ELSE '{invited, active}' END::text[]) IS NOT TRUE
       OR account.password IS DISTINCT FROM request ->> 'stored'
       OR (secret IS NOT NULL AND NOT EXISTS (SELECT FROM leyser.invitation_record i
            WHERE i.account_id = account.account_id AND i.secret_digest = secret
              AND i.expires_at > clock_timestamp() AND leyser.invitation_holds(i.account_id))) THEN
        RETURN 'changed';
    END IF;
    PERFORM leyser.store_password(account.account_id, request ->> 'new_hash');
    DELETE FROM leyser.invitation_record i WHERE i.account_id = account.account_id;
    UPDATE leyser.account_record a SET state = 'active', state_since = clock_timestamp()
        WHERE a.account_id = account.account_id AND a.state <> 'active';
    PERFORM leyser.end_sessions(account.account_id, (request ->> 'session_id')::uuid);
    IF secret IS NULL THEN
        PERFORM leyser.record_account_event('password.changed', account.account_id, detail);
        RETURN 'ok';
    END IF;
    DELETE FROM leyser.login_delay d WHERE d.subject = 'account:' || account.account_id
        OR d.subject LIKE 'account:' || account.account_id || '@%';
    PERFORM leyser.record_account_event('account.accepted', account.account_id, detail);
    RETURN 'ok';
END
$$;
REVOKE ALL ON FUNCTION leyser.replace_password(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION leyser.replace_password(jsonb) IS
    'internal, in the worker: stores a new password and ends the other sessions: "ok", "busy" while somebody changes the account, "changed" where it is no longer as it was';

-- When, and no more: not where somebody deletes it.
CREATE FUNCTION leyser.note_renewal(session uuid) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE leyser.session_record s SET renewed_at = clock_timestamp()
    WHERE s.session_id = (SELECT l.session_id FROM leyser.session_record l
                          WHERE l.session_id = session FOR NO KEY UPDATE SKIP LOCKED)
$$;
REVOKE ALL ON FUNCTION leyser.note_renewal(uuid) FROM PUBLIC;
COMMENT ON FUNCTION leyser.note_renewal(uuid) IS
    'internal, in the worker: notes that a session got another token';

-- What nobody needs any longer; now and then.
CREATE FUNCTION leyser.prune_sessions() RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    past timestamptz := clock_timestamp() - interval '1 day';
BEGIN
    DELETE FROM leyser.login_delay d WHERE d.last_failure_at < past;
    DELETE FROM leyser.familiar_address f WHERE (f.account_id, f.network) IN (
        SELECT o.account_id, o.network FROM leyser.familiar_address o
        WHERE o.last_login_at < past - interval '89 days' FOR UPDATE SKIP LOCKED);
    -- an account that is being deleted holds its own, which are not waited for
    DELETE FROM leyser.session_record s WHERE s.session_id IN (
        SELECT o.session_id FROM leyser.session_record o WHERE o.expires_at < past
        FOR UPDATE SKIP LOCKED);
    -- each statement there makes every backend look again
    IF EXISTS (SELECT FROM leyser.revoked_session r WHERE r.expires_at < past) THEN
        DELETE FROM leyser.revoked_session r WHERE r.expires_at < past;
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.prune_sessions() FROM PUBLIC;
COMMENT ON FUNCTION leyser.prune_sessions() IS
    'internal, in the worker: removes sessions and delays that ended a day ago, and addresses without a login for 90 days';

CREATE FUNCTION leyser.perform_task(task text, payload text) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF random() < 0.005 THEN
        PERFORM leyser.prune_sessions();
    END IF;
    CASE task
        WHEN 'login' THEN RETURN leyser.judge_login(leyser.forget_ended_tenant(payload::jsonb));
        WHEN 'hash' THEN PERFORM leyser.renew_hash(payload::jsonb);
        WHEN 'password' THEN RETURN leyser.replace_password(payload::jsonb);
        WHEN 'renew' THEN PERFORM leyser.note_renewal(payload::uuid);
        WHEN 'event' THEN PERFORM leyser.add_event(payload::jsonb);
        WHEN 'seal events' THEN RETURN leyser.seal_events()::text;
        WHEN 'privileged access' THEN PERFORM leyser.write_accesses();
    END CASE;
    RETURN '';
END
$$;
REVOKE ALL ON FUNCTION leyser.perform_task(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.perform_task(text, text) IS
    'internal: what the worker calls';
