-- Login: a token bound to a session, or NULL whatever was wrong; failures that
-- count whatever becomes of the transaction; sessions renewed, listed and ended.

SELECT current_user AS superuser, current_database() AS database \gset
SET client_min_messages = warning;
\set SHOW_CONTEXT never
CREATE ROLE regress_leyser_app LOGIN;
CREATE ROLE regress_leyser_gateway LOGIN;
CREATE ROLE regress_leyser_nobody LOGIN;
SELECT leyser.grant_usage('regress_leyser_app', 'application');
SELECT leyser.grant_usage('regress_leyser_gateway', 'gateway');
SELECT leyser.create_tenant('log-a'), leyser.create_tenant('log-b');
SELECT leyser.invite_account('ann', 'log-a') AS ann_secret, leyser.invite_account('bob', 'log-a') AS bob_secret,
    leyser.invite_account('ann', 'log-b') AS other_secret \gset
SELECT leyser.create_account('robot', 'log-a') IS NOT NULL AS made;
DELETE FROM leyser.login_delay;
-- A slow machine must not change what is seen: an hour more to wait, and it is over.
CREATE PROCEDURE trial.wait_longer() LANGUAGE sql SECURITY DEFINER AS
    'UPDATE leyser.login_delay SET locked_until = locked_until + interval ''1 hour'' WHERE locked_until > last_failure_at';
CREATE PROCEDURE trial.waited() LANGUAGE sql SECURITY DEFINER AS
    'UPDATE leyser.login_delay SET locked_until = clock_timestamp()';
\c - regress_leyser_app
SELECT leyser.accept_invitation('log-a', 'ann', :'ann_secret', 'ann''s own password');
SELECT leyser.accept_invitation('log-a', 'bob', :'bob_secret', 'bob''s own password');
SELECT leyser.accept_invitation('log-b', 'ann', :'other_secret', 'the other ann''s password');

-- The door is not everybody's.
\c - regress_leyser_nobody
CALL trial.attempt($$SELECT leyser.login('log-a', 'ann', 'ann''s own password')$$);
CALL trial.attempt($$SELECT leyser.submit_task('login', '{}')$$);
CALL trial.attempt($$SELECT leyser.perform_task('login', '{}')$$);
CALL trial.attempt($$SELECT leyser.password_matches('', '')$$);

-- Right: whatever the name's case or width, and the password's form.
\c - regress_leyser_app
SELECT leyser.login('log-a', 'ann', 'ann''s own password') AS ann,
    leyser.login('log-a', 'ＡＮＮ', 'ａｎｎ''s own password') IS NOT NULL AS normalized,
    leyser.login('log-b', 'Ann', 'the other ann''s password') AS other \gset
SELECT :'normalized' AS normalized;
BEGIN;
SELECT set_config('leyser.token', :'ann', true) \g /dev/null
SELECT leyser.tenant_id(), leyser.account_name(), leyser.session_id() IS NOT NULL AS in_session;
SELECT account_name, expires_at - created_at < '8 hours' AND expires_at - created_at > '7:59' AS eight_hours,
    client_address, renewed_at, current FROM leyser.session ORDER BY created_at;
COMMIT;

-- Wrong: always NULL.
SELECT leyser.login('log-a', 'nobody', 'ann''s own password') IS NULL AS unknown_account,
    leyser.login('log-none', 'ann', 'ann''s own password') IS NULL AS unknown_tenant,
    leyser.login('log-a', 'robot', '') IS NULL AS no_password,
    leyser.login('log-a', 'robot', NULL) IS NULL AS no_password_given,
    leyser.login(NULL, NULL, NULL) IS NULL AS nothing,
    leyser.login('log-a', repeat('x', 100000), repeat('y', 100000)) IS NULL AS long,
    leyser.login('log-a', E'ann''; --', 'ann''s own password') IS NULL AS injected;
SELECT leyser.login('log-a', 'ann', 'the other ann''s password') IS NULL AS of_another_tenant;
-- after a failure the right one has to wait, too
CALL trial.wait_longer();
SELECT leyser.login('log-a', 'ann', 'ann''s own password') IS NULL AS must_wait,
    leyser.login('log-a', 'bob', 'bob''s own password') IS NOT NULL AS others_need_not;
CALL trial.waited();
SELECT leyser.login('log-a', 'ann', 'ann''s own password ') IS NULL AS wrong_again;
CALL trial.wait_longer();
SELECT leyser.login('log-a', 'ann', 'ann''s own password') IS NULL AS must_wait,
    leyser.login('log-a', 'ann', 'ann''s own password ') IS NULL AS wrong_meanwhile;
\c - :superuser
SELECT failures, locked_until - last_failure_at > '59 minutes' AS waits FROM leyser.login_delay
    JOIN leyser.account_record a ON subject = 'account:' || account_id
    WHERE a.account_name = 'ann' AND tenant_id = 'log-a';
\c - regress_leyser_app
CALL trial.waited();
SELECT leyser.login('log-a', 'ann', 'ann''s own password') IS NOT NULL AS waited;
\c - :superuser
SELECT count(*) FROM leyser.login_delay WHERE subject LIKE 'account:%' AND subject NOT IN (
    SELECT 'account:' || account_id FROM leyser.account_record WHERE account_name = 'robot');
SELECT count(*) > 2 AS of_unknown FROM leyser.login_delay WHERE subject LIKE 'unknown:%';
SELECT d AS failures, leyser.login_delay_after(d, 0) AS account, leyser.login_delay_after(d, 4) AS address
    FROM unnest('{1, 2, 3, 4, 5, 6, 10, 11, 100000}'::int[]) d;

SELECT a AS address, leyser.address_network(a) AS network FROM unnest('{192.0.2.7, 192.0.2.7/24, ::ffff:192.0.2.7,
    64:ff9b::192.0.2.7, ::ffff:255.255.255.255, 64:ff9b::, 64:ff9b:1::192.0.2.7, 2001:db8:1:2:3::4, ::1, ::ffff:192.0.2.7/64}'::inet[]) a;

-- A failure counts though its transaction is rolled back, and so does a session.
\c - regress_leyser_app
BEGIN;
SELECT leyser.login('log-a', 'bob', 'no idea whatsoever') IS NULL AS wrong;
ROLLBACK;
CALL trial.wait_longer();
SELECT leyser.login('log-a', 'bob', 'bob''s own password') IS NULL AS must_wait;
CALL trial.waited();
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT leyser.login('log-a', 'bob', 'bob''s own password') AS bob \gset
ROLLBACK;
BEGIN;
SELECT set_config('leyser.token', :'bob', true) \g /dev/null
SELECT account_name, current FROM leyser.session ORDER BY current, account_name;
COMMIT;
BEGIN READ ONLY;
CALL trial.attempt($$SELECT leyser.login('log-a', 'bob', 'bob''s own password')$$);
CALL trial.attempt($$SELECT leyser.accept_invitation('log-a', 'bob', '', 'bob''s own password')$$);
SELECT set_config('leyser.token', :'bob', true) \g /dev/null
CALL trial.attempt($$SELECT leyser.renew_token()$$);
CALL trial.attempt($$SELECT leyser.logout()$$);
CALL trial.attempt($$SELECT leyser.revoke_sessions('bob')$$);
COMMIT;

-- Lifetimes, and contexts that are set already.
CALL trial.attempt($$SELECT leyser.login('log-a', 'bob', 'bob''s own password', '0')$$);
CALL trial.attempt($$SELECT leyser.login('log-a', 'bob', 'bob''s own password', '91 days')$$);
CALL trial.attempt($$SELECT leyser.login('log-a', 'bob', 'bob''s own password', NULL)$$);
BEGIN;
SELECT set_config('leyser.token', :'bob', true) \g /dev/null
CALL trial.attempt($$SELECT leyser.login('log-a', 'ann', 'ann''s own password')$$);
COMMIT;
-- a long session has shorter tokens, and renewal does not move its end
SELECT leyser.login('log-a', 'bob', 'bob''s own password', '30 days') AS long \gset
BEGIN;
SELECT set_config('leyser.token', :'long', true) \g /dev/null
SELECT leyser.renew_token() AS renewed, expires_at AS session_end FROM leyser.session WHERE current \gset
SELECT expires_at = :'session_end' AS same_end, renewed_at IS NOT NULL AS renewed FROM leyser.session WHERE current;
COMMIT;
BEGIN;
SELECT set_config('leyser.token', :'renewed', true) \g /dev/null
SELECT account_name, expires_at < now() + '24 hours' AND expires_at > now() + '23 hours' AS a_day
    FROM leyser.context_status();
SELECT leyser.logout();
CALL trial.attempt($$SELECT leyser.session_id()$$);
CALL trial.attempt($$SELECT leyser.renew_token()$$);
COMMIT;
-- both tokens of that session are over
BEGIN;
SELECT set_config('leyser.token', :'long', true);
ROLLBACK;
BEGIN;
SELECT set_config('leyser.token', :'renewed', true);
ROLLBACK;

-- Contexts without a session.
\c - regress_leyser_gateway
BEGIN;
SELECT leyser.enter('log-a');
CALL trial.attempt($$SELECT leyser.logout()$$);
COMMIT;
BEGIN;
SELECT leyser.enter('log-a', 'ann');
CALL trial.attempt($$SELECT leyser.logout()$$);
CALL trial.attempt($$SELECT leyser.renew_token()$$);
COMMIT;
BEGIN;
SELECT leyser.enter('log-a');
CALL trial.attempt($$SELECT leyser.logout()$$);
CALL trial.attempt($$SELECT leyser.change_password('ann''s own password', 'another password')$$);
CALL trial.attempt($$SELECT leyser.revoke_sessions('ann')$$);
SELECT count(*) FROM leyser.session;
COMMIT;

-- Revoked: one's own, others' only with the permission; an open transaction ends, too.
\c - regress_leyser_app
BEGIN;
SELECT set_config('leyser.token', :'bob', true) \g /dev/null
CALL trial.attempt($$SELECT leyser.revoke_sessions('ann')$$);
COMMIT;
BEGIN;
SELECT set_config('leyser.token', :'ann', true) \g /dev/null
SELECT DISTINCT account_name FROM leyser.session ORDER BY account_name;
SELECT leyser.revoke_sessions('Bob');
CALL trial.attempt($$SELECT leyser.revoke_sessions('nobody')$$);
COMMIT;
BEGIN;
SELECT set_config('leyser.token', :'bob', true);
ROLLBACK;
BEGIN;
SELECT set_config('leyser.token', :'other', true) \g /dev/null
SELECT account_name, current FROM leyser.session ORDER BY current, account_name;
CALL trial.attempt($$SELECT leyser.revoke_sessions('bob')$$);
COMMIT;

-- A changed password ends the other sessions; a wrong one counts as at login.
SELECT leyser.login('log-a', 'bob', 'bob''s own password') AS bob,
    leyser.login('log-a', 'bob', 'bob''s own password') AS bob2 \gset
BEGIN;
SELECT set_config('leyser.token', :'bob', true) \g /dev/null
CALL trial.attempt($$SELECT leyser.change_password('ann''s own password', 'a password quite new')$$);
COMMIT;
CALL trial.wait_longer();
BEGIN;
SELECT set_config('leyser.token', :'bob', true) \g /dev/null
CALL trial.attempt($$SELECT leyser.change_password('bob''s own password', 'a password quite new')$$);
COMMIT;
CALL trial.waited();
BEGIN;
SELECT set_config('leyser.token', :'bob', true) \g /dev/null
SELECT leyser.change_password('bob''s own password', 'a password quite new');
SELECT count(*) FROM leyser.session;
COMMIT;
BEGIN;
SELECT set_config('leyser.token', :'bob2', true);
ROLLBACK;
SELECT leyser.login('log-a', 'bob', 'a password quite new') IS NOT NULL AS new_one;
-- and a reset ends all of it at once
BEGIN;
SELECT set_config('leyser.token', :'ann', true) \g /dev/null
SELECT leyser.reset_password('bob') AS bob_secret \gset
COMMIT;
SELECT leyser.login('log-a', 'bob', 'a password quite new') IS NULL AS void;
BEGIN;
SELECT set_config('leyser.token', :'bob', true);
ROLLBACK;
SELECT leyser.accept_invitation('log-a', 'bob', :'bob_secret', 'after the reset there was light');
SELECT leyser.login('log-a', 'bob', 'after the reset there was light') IS NOT NULL AS reset;

-- Addresses: four failures are free, a success forgives none of them.
SELECT leyser.login('log-a', 'x' || n, 'no idea whatsoever', client_address => '192.0.2.7') IS NULL AS wrong
    FROM generate_series(1, 4) n;
SELECT leyser.login('log-a', 'ann', 'ann''s own password', client_address => '192.0.2.7') IS NOT NULL AS right;
SELECT leyser.login('log-a', 'x5', 'no idea whatsoever', client_address => '192.0.2.7') IS NULL AS wrong;
CALL trial.wait_longer();
SELECT leyser.login('log-a', 'ann', 'ann''s own password', client_address => '192.0.2.7') IS NULL AS must_wait,
    leyser.login('log-a', 'ann', 'ann''s own password', client_address => '192.0.2.8') IS NOT NULL AS not_next_door;
SELECT leyser.login('log-a', 'y' || n, 'no idea whatsoever', client_address => ('2001:db8:0:1::' || n)::inet) IS NULL AS wrong
    FROM generate_series(1, 5) n;
CALL trial.wait_longer();
SELECT leyser.login('log-a', 'ann', 'ann''s own password', client_address => '2001:db8:0:1:ffff::1') IS NULL AS same_network,
    leyser.login('log-a', 'ann', 'ann''s own password', client_address => '2001:db8:0:2::1') IS NOT NULL AS other_network;
-- an address of IPv4 waits by itself, in whatever it comes
SELECT leyser.login('log-a', 'z' || n, 'no idea whatsoever', client_address => '::ffff:198.51.100.7') IS NULL AS wrong
    FROM generate_series(1, 5) n;
CALL trial.wait_longer();
SELECT leyser.login('log-a', 'ann', 'ann''s own password', client_address => '::ffff:198.51.100.8') IS NOT NULL AS mapped,
    leyser.login('log-a', 'ann', 'ann''s own password', client_address => '64:ff9b::198.51.100.8') IS NOT NULL AS translated,
    leyser.login('log-a', 'ann', 'ann''s own password', client_address => '198.51.100.7') IS NULL AS same_client,
    leyser.login('log-a', 'ann', 'ann''s own password', client_address => '64:ff9b::198.51.100.7') IS NULL AS same_translated,
    leyser.login('log-a', 'ann', 'ann''s own password', client_address => '::198.51.100.7') IS NOT NULL AS something_else;

-- Others who guess shut nobody out: an account waits for them, and not where it logged in before.
SELECT leyser.login('log-a', 'ann', 'no idea whatsoever') IS NULL AS wrong;
CALL trial.wait_longer();
SELECT leyser.login('log-a', 'ann', 'ann''s own password', client_address => '192.0.2.9') IS NULL AS must_wait,
    leyser.login('log-a', 'ann', 'ann''s own password') IS NULL AS without_an_address,
    leyser.login('log-a', 'ann', 'ann''s own password', client_address => '192.0.2.8') IS NOT NULL AS at_home,
    leyser.login('log-a', 'ann', 'ann''s own password', client_address => '::ffff:192.0.2.8') IS NOT NULL AS mapped,
    leyser.login('log-b', 'ann', 'the other ann''s password', client_address => '192.0.2.9') IS NOT NULL AS another_account;
SELECT leyser.login('log-a', 'ann', 'ann''s own password', client_address => '192.0.2.9') IS NULL AS must_still_wait;
-- guesses from there wait by themselves
SELECT leyser.login('log-a', 'ann', 'no idea whatsoever', client_address => '192.0.2.8') IS NULL AS wrong;
CALL trial.wait_longer();
SELECT leyser.login('log-a', 'ann', 'ann''s own password', client_address => '192.0.2.8') IS NULL AS must_wait,
    leyser.login('log-a', 'ann', 'ann''s own password', client_address => '2001:db8:0:2::1') IS NOT NULL AS elsewhere_at_home;
\c - :superuser
SELECT left(subject, 8) AS kind, substring(subject FROM '@.*') AS at, failures FROM leyser.login_delay, leyser.account_record a
    WHERE (a.tenant_id, a.account_name) = ('log-a', 'ann') AND subject ~ ('^account:' || account_id || '(@|$)') ORDER BY subject;
-- what fails meanwhile neither counts nor prolongs
CREATE TEMP TABLE before AS SELECT * FROM leyser.login_delay;
SELECT leyser.login('log-a', 'ann', 'no idea whatsoever') IS NULL AS wrong_meanwhile,
    leyser.login('log-a', 'ann', 'ann''s own password') IS NULL AS right_meanwhile;
SELECT count(*) AS changed FROM (TABLE leyser.login_delay EXCEPT TABLE before) c;
DROP TABLE before;
\c - regress_leyser_app
CALL trial.waited();

-- An account that is being changed: the same answer as for one that is not there.
\c - :superuser
BEGIN;
UPDATE leyser.account_record SET account_name = account_name WHERE (tenant_id, account_name) = ('log-a', 'ann');
SELECT leyser.login('log-a', 'ann', 'ann''s own password') IS NULL AS being_changed;
ROLLBACK;
SELECT leyser.login('log-a', 'ann', 'ann''s own password') IS NOT NULL AS no_longer;
\c - regress_leyser_app

-- A suspended tenant.
\c - :superuser
SELECT leyser.suspend_tenant('log-b');
\c - regress_leyser_app
SELECT leyser.login('log-b', 'ann', 'the other ann''s password') IS NULL AS suspended;

-- Taken over with bcrypt hashes of other systems: they work, and are hashed anew.
\c - :superuser
SELECT leyser.import_account('py', '$2b$04$abcdefghijklmnopqrstuuyx2n0Zzopyr9QuYTMCfOJJOj526QVoC', 'log-a') IS NOT NULL AS b,
    leyser.import_account('php', '$2y$04$abcdefghijklmnopqrstuuyx2n0Zzopyr9QuYTMCfOJJOj526QVoC', 'log-a') IS NOT NULL AS y;
CALL trial.attempt($$SELECT leyser.import_account('old', '$1$abcdefgh$ncm1JiKfFFzPdWbOI.wdl1', 'log-a')$$);
CALL trial.attempt($$SELECT leyser.import_account('old', 'password', 'log-a')$$);
CALL trial.attempt($$SELECT leyser.import_account('old', NULL, 'log-a')$$);
CALL trial.attempt($$SELECT leyser.import_account('old', '$2a$31$abcdefghijklmnopqrstuuyx2n0Zzopyr9QuYTMCfOJJOj526QVoC', 'log-a')$$);
CALL trial.attempt($$SELECT leyser.import_account('old', '$2a$13$abcdefghijklmnopqrstuuyx2n0Zzopyr9QuYTMCfOJJOj526QVoC', 'log-a')$$);
CALL trial.attempt($$SELECT leyser.import_account('old', '$2a$03$abcdefghijklmnopqrstuuyx2n0Zzopyr9QuYTMCfOJJOj526QVoC', 'log-a')$$);
SET leyser.password_cost = 13;
CALL trial.attempt($$SELECT leyser.import_account('old', '$2a$14$abcdefghijklmnopqrstuuyx2n0Zzopyr9QuYTMCfOJJOj526QVoC', 'log-a')$$);
BEGIN;
SELECT leyser.import_account('old', '$2a$13$abcdefghijklmnopqrstuuyx2n0Zzopyr9QuYTMCfOJJOj526QVoC', 'log-a') IS NOT NULL AS a_superuser_says_so;
ROLLBACK;
RESET leyser.password_cost;
ALTER DATABASE :"database" SET leyser.password_cost = 6;
\c - regress_leyser_app
SELECT leyser.login('log-a', 'py', 'pässwörd') IS NOT NULL AS b, leyser.login('log-a', 'php', 'pässwörd') IS NOT NULL AS y;
SELECT leyser.login('log-a', 'py', 'pässwörd') IS NOT NULL AS b, leyser.login('log-a', 'php', 'passwörd') IS NULL AS wrong;
-- so is what was hashed at another cost
SELECT leyser.login('log-a', 'ann', 'ann''s own password') IS NOT NULL AS cheaper;
SELECT leyser.login('log-a', 'ann', 'ann''s own password') IS NOT NULL AS again;
CALL trial.attempt('SET leyser.password_cost = 4');
CALL trial.attempt('SET leyser.password_min_length = 8');
\c - :superuser
SELECT account_name, left(password, 36) = (SELECT keyring_id::text FROM leyser.identity) AS peppered,
    substr(password, 37, 7) AS bcrypt FROM leyser.account_record
    WHERE tenant_id = 'log-a' AND password IS NOT NULL ORDER BY account_name;
ALTER DATABASE :"database" RESET leyser.password_cost;

-- Many in one statement, by the tenant's administrator; all of them or none.
\c - regress_leyser_app
SELECT leyser.login('log-a', 'ann', 'ann''s own password') AS ann \gset
BEGIN;
SELECT set_config('leyser.token', :'ann', true) \g /dev/null
CALL trial.attempt($$SELECT leyser.import_account('many-' || n, CASE WHEN n < 200 THEN
    '$2b$04$abcdefghijklmnopqrstuuyx2n0Zzopyr9QuYTMCfOJJOj526QVoC' ELSE 'no hash' END) FROM generate_series(1, 200) n$$);
CALL trial.attempt($$SELECT leyser.import_account('many-' || n % 199,
    '$2b$04$abcdefghijklmnopqrstuuyx2n0Zzopyr9QuYTMCfOJJOj526QVoC') FROM generate_series(1, 200) n$$);
SELECT count(*) FROM leyser.account WHERE account_name LIKE 'many-%';
SELECT count(DISTINCT leyser.import_account(former.name, former.hash)) AS imported
    FROM jsonb_to_recordset((SELECT jsonb_agg(jsonb_build_object('name', 'many-' || n,
        'hash', '$2y$04$abcdefghijklmnopqrstuuyx2n0Zzopyr9QuYTMCfOJJOj526QVoC')) FROM generate_series(1, 200) n))
    AS former (name text, hash text);
SELECT count(*), bool_and(has_password) AS all_have_one, min(state), max(state)
    FROM leyser.account WHERE account_name LIKE 'many-%';
SELECT count(*) AS recorded FROM leyser.account_event WHERE event = 'account.imported' AND account_name LIKE 'many-%';
COMMIT;
SELECT count(*) FROM generate_series(10, 190, 90) n WHERE leyser.login('log-a', 'many-' || n, 'pässwörd') IS NOT NULL;
\c - :superuser
SELECT left(password, 4) = '$2a$' AS as_it_came, count(*) FROM leyser.account_record
    WHERE tenant_id = 'log-a' AND account_name LIKE 'many-%' GROUP BY 1 ORDER BY 1;

-- Set with another keyring's pepper: an error, and no wrong password.
UPDATE leyser.account_record SET password = gen_random_uuid() || substr(password, 37) WHERE account_name = 'py';
\c - regress_leyser_app
CALL trial.attempt($$SELECT leyser.login('log-a', 'py', 'pässwörd')$$);

-- What ended a day ago is removed, and nothing else is.
\c - :superuser
DELETE FROM leyser.login_delay;
INSERT INTO leyser.login_delay SELECT 'address:' || hours, 1, now() - hours * interval '1 hour', now()
    FROM unnest('{23, 25}'::int[]) hours;
INSERT INTO leyser.session_record (session_id, tenant_id, account_id, expires_at, client_address)
    SELECT gen_random_uuid(), a.tenant_id, a.account_id, now() - hours * interval '1 hour', '192.0.2.99'
    FROM leyser.account_record a, unnest('{-1, 23, 25}'::int[]) hours
    WHERE (a.tenant_id, a.account_name) = ('log-a', 'robot');
INSERT INTO leyser.revoked_session SELECT session_id, expires_at FROM leyser.session_record
    WHERE client_address = '192.0.2.99';
SELECT count(*) AS sessions FROM leyser.session_record WHERE client_address IS DISTINCT FROM '192.0.2.99' \gset
CREATE VIEW trial.kept AS
    SELECT s.expires_at < now() AS expired, r.session_id IS NOT NULL AS revoked
    FROM leyser.session_record s LEFT JOIN leyser.revoked_session r USING (session_id)
    WHERE client_address = '192.0.2.99';
INSERT INTO leyser.familiar_address SELECT a.account_id, ('192.0.2.' || days)::inet, now() - days * interval '1 day'
    FROM leyser.account_record a, unnest('{89, 91}'::int[]) days WHERE (a.tenant_id, a.account_name) = ('log-a', 'robot');
SELECT leyser.prune_sessions();
SELECT f.network FROM leyser.familiar_address f JOIN leyser.account_record a USING (account_id) WHERE a.account_name = 'robot';
SELECT * FROM trial.kept ORDER BY 1;
SELECT count(*) FROM leyser.revoked_session WHERE expires_at < now() - interval '1 day';
SELECT subject FROM leyser.login_delay;
SELECT count(*) = :sessions AS others_stay FROM leyser.session_record WHERE client_address IS DISTINCT FROM '192.0.2.99';
-- the worker does so in one task of two hundred
UPDATE leyser.session_record SET expires_at = now() - interval '25 hours' WHERE client_address = '192.0.2.99';
DO $$ BEGIN
    FOR task IN 1..10000 LOOP
        PERFORM leyser.submit_task('renew', gen_random_uuid()::text);
        EXIT WHEN NOT EXISTS (SELECT FROM trial.kept);
    END LOOP;
END $$;
SELECT * FROM trial.kept;
DROP VIEW trial.kept;

-- What was recorded, and where nothing of it can be changed.
\c - :superuser
SELECT event, count(*) > 0 AS recorded FROM leyser.event_record
    WHERE tenant_id = 'log-a' AND event ~ '^(session|login|password)' GROUP BY event ORDER BY event;
SELECT count(*) FROM leyser.event_record WHERE tenant_id LIKE 'log-%'
    AND concat_ws('|', object, detail) ~* 'own password|quite new|idea|w.rd|\$2[aby]';
DELETE FROM leyser.login_delay;
DROP PROCEDURE trial.wait_longer(), trial.waited();
SELECT leyser.revoke_usage('regress_leyser_app', 'application');
SELECT leyser.revoke_usage('regress_leyser_gateway', 'gateway');
DROP ROLE regress_leyser_app, regress_leyser_gateway, regress_leyser_nobody;
