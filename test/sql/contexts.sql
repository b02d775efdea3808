-- The context: set by a token or by enter(), for one tenant, for one transaction.

SELECT current_user AS superuser, current_database() AS database \gset
SET client_min_messages = warning;
CREATE ROLE regress_leyser_owner;
CREATE ROLE regress_leyser_app LOGIN;
CREATE ROLE regress_leyser_gateway LOGIN;
CREATE SCHEMA regress_leyser_context AUTHORIZATION regress_leyser_owner;
GRANT USAGE ON SCHEMA regress_leyser_context TO PUBLIC;
SET ROLE regress_leyser_owner;
SET search_path = regress_leyser_context;
CREATE TABLE invoice (tenant_id text NOT NULL, invoice_id int);
INSERT INTO invoice VALUES ('ctx-a', 1), ('ctx-b', 2), ('ctx-b', 3);
GRANT SELECT, INSERT ON invoice TO PUBLIC;
SELECT leyser.protect('invoice');
RESET ROLE;
SELECT leyser.grant_usage('regress_leyser_app', 'application');
SELECT leyser.grant_usage('regress_leyser_gateway', 'gateway');
SELECT leyser.create_tenant('ctx-a'), leyser.create_tenant('ctx-b');
SELECT leyser.create_tenant('4711'), leyser.create_tenant('-9223372036854775808'),
    leyser.create_tenant('99999999999999999999'),
    leyser.create_tenant('0a0b0c0d-0000-4000-8000-00000000000f');
INSERT INTO leyser.account_record (tenant_id, account_name, name_key, state)
    VALUES ('ctx-a', 'ann', 'ann', 'active'), ('ctx-a', repeat('ä', 200), repeat('ä', 200), 'active');
SELECT leyser.issue_token('ctx-a') AS a, leyser.issue_token('ctx-a', 'ann') AS a_ann,
    leyser.issue_token('ctx-b') AS b, leyser.issue_token('4711') AS number,
    leyser.issue_token('-9223372036854775808') AS smallest,
    leyser.issue_token('99999999999999999999') AS too_large,
    leyser.issue_token('0a0b0c0d-0000-4000-8000-00000000000f') AS uuid \gset

-- Without a context: an error, not an empty result; with one, its rows.
\c - regress_leyser_app
SET search_path = regress_leyser_context;
CALL trial.attempt('SELECT * FROM regress_leyser_context.invoice');
SELECT state, tenant_id, sqlstate, detail FROM leyser.context_status();
\c - regress_leyser_app
BEGIN;
SELECT set_config('leyser.token', :'a', true);
SELECT * FROM regress_leyser_context.invoice;
SELECT state, tenant_id, account_name, expires_at > now() AS in_future, sqlstate
    FROM leyser.context_status();
COMMIT;
CALL trial.attempt('SELECT * FROM regress_leyser_context.invoice');

-- One tenant a transaction: another one, another account, and after leave().
BEGIN;
SET LOCAL leyser.token = :'a';
\set VERBOSITY default
SET LOCAL leyser.token = :'b';
ROLLBACK;
\set VERBOSITY sqlstate
BEGIN;
SET LOCAL leyser.token = :'a';
SET LOCAL leyser.token = :'a_ann';
ROLLBACK;
BEGIN;
SET LOCAL leyser.token = :'a';
SET LOCAL leyser.token = :'a';
SELECT leyser.leave();
SELECT state FROM leyser.context_status();
SAVEPOINT s;
SELECT count(*) FROM regress_leyser_context.invoice;
ROLLBACK TO s;
SET LOCAL leyser.token = :'b';
ROLLBACK TO s;
SET LOCAL leyser.token = :'a';
SELECT count(*) FROM regress_leyser_context.invoice;
RESET leyser.token;
SELECT count(*) FROM regress_leyser_context.invoice;
ROLLBACK;

-- Rolling back to a savepoint brings back what was, not another tenant's turn.
BEGIN;
SAVEPOINT s;
SET LOCAL leyser.token = :'a_ann';
SELECT leyser.tenant_id(), leyser.account_name(), leyser.session_id();
SAVEPOINT t;
SELECT leyser.leave();
ROLLBACK TO t;
SELECT leyser.tenant_id();
ROLLBACK TO s;
SELECT state FROM leyser.context_status();
SET LOCAL leyser.token = :'b';
ROLLBACK TO s;
SET LOCAL leyser.token = :'a_ann';
RELEASE s;
SELECT leyser.account_name();
COMMIT;

-- Subtransactions of plpgsql.
\set VERBOSITY default
BEGIN;
SET LOCAL leyser.token = :'a';
DO $$
BEGIN
    BEGIN
        PERFORM leyser.leave();
        RAISE division_by_zero;
    EXCEPTION WHEN division_by_zero THEN
        RAISE INFO 'after the subtransaction: %', leyser.tenant_id();
    END;
END
$$;
COMMIT;
-- the token is caught in a subtransaction, which is rolled back: still bound
SELECT set_config('regress.b', :'b', false), set_config('regress.a', :'a', false) \gset hide_
DO $$
BEGIN
    BEGIN
        PERFORM set_config('leyser.token', current_setting('regress.a'), true);
        PERFORM * FROM regress_leyser_context.invoice;
        RAISE division_by_zero;
    EXCEPTION WHEN division_by_zero THEN NULL;
    END;
    CALL trial.attempt('SELECT set_config(''leyser.token'', current_setting(''regress.b''), true)');
    CALL trial.attempt('SELECT set_config(''leyser.token'', current_setting(''regress.a''), true)');
END
$$;

-- A procedure that commits: a context ends with its transaction, each part has its own.
\c - :superuser
CREATE PROCEDURE regress_leyser_context.two_parts(first text, second text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('leyser.token', first, true);
    RAISE INFO '% has %', leyser.tenant_id(), (SELECT count(*) FROM regress_leyser_context.invoice);
    COMMIT;
    RAISE INFO '%', (SELECT state FROM leyser.context_status());
    PERFORM set_config('leyser.token', second, true);
    RAISE INFO '% has %', leyser.tenant_id(), (SELECT count(*) FROM regress_leyser_context.invoice);
    ROLLBACK;
    PERFORM set_config('leyser.token', first, false);
    COMMIT;
    PERFORM count(*) FROM regress_leyser_context.invoice;
END
$$;
GRANT EXECUTE ON PROCEDURE regress_leyser_context.two_parts(text, text) TO PUBLIC;
\c - regress_leyser_app
\set VERBOSITY terse
CALL regress_leyser_context.two_parts(:'a', :'b');

-- A session-level token does not outlive its transaction; the next client of
-- the connection starts from nothing, and may set its own.
\c - regress_leyser_app
\set VERBOSITY sqlstate
SET leyser.token = :'a';
SELECT count(*) FROM regress_leyser_context.invoice;
BEGIN;
SELECT count(*) FROM regress_leyser_context.invoice;
ROLLBACK;
SELECT state, tenant_id, detail FROM leyser.context_status();
SHOW leyser.token;
BEGIN;
SET LOCAL leyser.token = :'b';
SELECT count(*) FROM regress_leyser_context.invoice;
COMMIT;
SELECT count(*) FROM regress_leyser_context.invoice;
-- rolled back to the value of the session, which is stale
BEGIN;
SAVEPOINT s;
SET LOCAL leyser.token = :'b';
SELECT count(*) FROM regress_leyser_context.invoice;
ROLLBACK TO s;
SELECT count(*) FROM regress_leyser_context.invoice;
ROLLBACK;
-- a chained transaction is another one; so is what follows a rollback
BEGIN;
SET LOCAL leyser.token = :'b';
COMMIT AND CHAIN;
SELECT count(*) FROM regress_leyser_context.invoice;
COMMIT;
BEGIN;
SET leyser.token = :'b';
ROLLBACK AND CHAIN;
SELECT count(*) FROM regress_leyser_context.invoice;
COMMIT;
DISCARD ALL;
SHOW leyser.token;

-- No settings of a role make a token count for longer, or hide the error.
SET leyser.context_scope = 'session';
SET leyser.on_missing_context = 'hide';
SET leyser.context_switch = 'allow';
SET leyser.max_token_lifetime = '1 year';
SET leyser.clock_leeway = '1 day';
SET leyser.guards = off;
SET leyser.registry_work = on;

-- Nothing shows a token.
BEGIN;
SET LOCAL leyser.token = :'a';
SHOW leyser.token;
SELECT current_setting('leyser.token');
SELECT count(*) FROM pg_settings WHERE name = 'leyser.token' OR setting LIKE 'eyJ%';
SELECT count(*) FROM pg_settings WHERE setting LIKE '%leyser-context%';
SELECT count(*) FROM leyser.context_status() s WHERE s::text LIKE '%eyJ%';
SET LOCAL client_min_messages = warning;
SELECT set_config('leyser.token', current_setting('leyser.token'), true);
ROLLBACK;
-- what a worker would be told is no token
\set VERBOSITY default
CALL trial.attempt('SET leyser.token = ''leyser-context:AAAA''');

-- A token of a role, a database, a function: refused, or worthless.
\c - :superuser
\set VERBOSITY sqlstate
ALTER ROLE regress_leyser_app SET leyser.token = :'a';
ALTER DATABASE :"database" SET leyser.token = :'a';
ALTER SYSTEM SET leyser.token = :'a';
CREATE FUNCTION regress_leyser_context.with_token() RETURNS bigint LANGUAGE sql
    SET leyser.token = :'a' AS 'SELECT count(*) FROM regress_leyser_context.invoice';
BEGIN;
SET LOCAL leyser.token = :'a';
SAVEPOINT s;
CREATE FUNCTION regress_leyser_context.with_token() RETURNS bigint LANGUAGE sql
    SET leyser.token FROM CURRENT AS 'SELECT count(*) FROM regress_leyser_context.invoice';
ROLLBACK TO s;
ALTER PROCEDURE regress_leyser_context.two_parts SET leyser.token FROM CURRENT;
ROLLBACK TO s;
ALTER ROLE regress_leyser_app SET leyser.token FROM CURRENT;
ROLLBACK;
CREATE FUNCTION regress_leyser_context.without_token() RETURNS bigint LANGUAGE sql
    SET leyser.token = '' AS 'SELECT count(*) FROM regress_leyser_context.invoice';
SELECT setconfig FROM pg_db_role_setting WHERE setconfig::text LIKE '%leyser.token%';
SELECT proname, proconfig FROM pg_proc WHERE proconfig::text LIKE '%leyser.token%';
\c - regress_leyser_app
-- a function that empties the context for itself hides it, and gives it back
BEGIN;
SET LOCAL leyser.token = :'a';
SAVEPOINT s;
SELECT regress_leyser_context.without_token();
ROLLBACK TO s;
SELECT leyser.tenant_id();
COMMIT;

-- Getters, each for its type; a number or uuid must be canonical.
\set getters 'SELECT leyser.tenant_id(); SAVEPOINT s; SELECT leyser.tenant_id_int8(); ROLLBACK TO s; SELECT leyser.tenant_id_uuid(); ROLLBACK;'
BEGIN;
SET LOCAL leyser.token = :'a';
:getters
BEGIN;
SET LOCAL leyser.token = :'number';
:getters
BEGIN;
SET LOCAL leyser.token = :'smallest';
:getters
BEGIN;
SET LOCAL leyser.token = :'too_large';
:getters
BEGIN;
SET LOCAL leyser.token = :'uuid';
:getters
\set VERBOSITY default
BEGIN;
SET LOCAL leyser.token = :'a';
CALL trial.attempt('SELECT leyser.tenant_id_int8()');
CALL trial.attempt('SELECT leyser.tenant_id_uuid()');
COMMIT;

-- The gateway: enter(), issue_token(); an application has neither.
CALL trial.attempt('SELECT leyser.enter(''ctx-a'')');
CALL trial.attempt('SELECT leyser.issue_token(''ctx-a'')');
\c - regress_leyser_gateway
BEGIN;
SELECT leyser.enter('ctx-a', 'ann');
SELECT leyser.tenant_id(), leyser.account_name();
SELECT * FROM regress_leyser_context.invoice;
CALL trial.attempt('SELECT leyser.enter(''ctx-b'')');
CALL trial.attempt('SELECT leyser.enter(''ctx-a'', ''ann'')');
CALL trial.attempt('SELECT leyser.issue_token(''ctx-a'')');
SELECT leyser.leave();
CALL trial.attempt('SELECT leyser.enter(''ctx-b'')');
CALL trial.attempt('SELECT leyser.issue_token(''ctx-b'')');
COMMIT;
SELECT state FROM leyser.context_status();
-- rolled back to before enter(): still this transaction's tenant
BEGIN;
SAVEPOINT s;
SELECT leyser.enter('ctx-a');
ROLLBACK TO s;
CALL trial.attempt('SELECT leyser.enter(''ctx-b'')');
ROLLBACK;
SELECT leyser.enter('ctx-a');
CALL trial.attempt('SELECT * FROM regress_leyser_context.invoice');
SELECT leyser.leave();
CALL trial.attempt('SELECT leyser.enter(NULL)');
CALL trial.attempt('SELECT leyser.enter(''nobody'')');
CALL trial.attempt('SELECT leyser.enter(''ctx-a'', '''')');
CALL trial.attempt('SELECT leyser.enter(''ctx-a'', repeat(''ä'', 201))');
CALL trial.attempt('SELECT leyser.enter(''ctx-a'', E''a\nb'')');
CALL trial.attempt('SELECT leyser.enter(''ctx-a'', repeat(''ä'', 200))');
CALL trial.attempt('SELECT leyser.issue_token(NULL)');
CALL trial.attempt('SELECT leyser.issue_token(''nobody'')');
CALL trial.attempt('SELECT leyser.issue_token(''ctx-a'', lifetime => NULL)');
CALL trial.attempt('SELECT leyser.issue_token(''ctx-a'', lifetime => ''0'')');
CALL trial.attempt('SELECT leyser.issue_token(''ctx-a'', lifetime => ''-1 day'')');
CALL trial.attempt('SELECT leyser.issue_token(''ctx-a'', lifetime => ''1 month'')');
CALL trial.attempt('SELECT leyser.issue_token(''ctx-a'', lifetime => ''25 hours'')');
CALL trial.attempt('SELECT leyser.issue_token(''ctx-a'', lifetime => ''1 day'')');
CALL trial.attempt('SELECT leyser.issue_token(''ctx-a'', lifetime => ''1 second'')');

-- Lifetimes: what is issued, and what is accepted.
\c - :superuser
SELECT leyser.issue_token('ctx-a', lifetime => '1 hour') AS long \gset
SET leyser.max_token_lifetime = '10 min';
CALL trial.attempt('SELECT leyser.issue_token(''ctx-a'', lifetime => ''11 min'')');
CALL trial.attempt('SELECT leyser.issue_token(''ctx-a'', lifetime => ''10 min'')');
\set VERBOSITY terse
SET leyser.token = :'long';
BEGIN;
SET LOCAL leyser.token = :'a';
SELECT leyser.tenant_id();
COMMIT;

-- Expiry counts within a statement that takes long: its clock runs.
\c - :superuser
SET SESSION AUTHORIZATION regress_leyser_gateway;
\set VERBOSITY terse
DO $$
BEGIN
    PERFORM set_config('leyser.token', leyser.issue_token('ctx-a', lifetime => '3 seconds'), true);
    RAISE INFO 'at first: % row', (SELECT count(*) FROM regress_leyser_context.invoice);
    PERFORM pg_sleep(3.1);
    RAISE INFO 'then: %', (SELECT s.state FROM leyser.context_status() s);
    PERFORM count(*) FROM regress_leyser_context.invoice;
END
$$;
SELECT leyser.issue_token('ctx-a', lifetime => '1 second') AS short \gset
SELECT pg_sleep(1.2);
BEGIN;
SET LOCAL leyser.token = :'short';
ROLLBACK;
-- the clocks of others may be a little behind, and our own is nobody else's
RESET SESSION AUTHORIZATION;
SET leyser.clock_leeway = '5 min';
SET SESSION AUTHORIZATION regress_leyser_gateway;
BEGIN;
SET LOCAL leyser.token = :'short';
ROLLBACK;

-- What a superuser may set for a role.
\c - :superuser
ALTER ROLE regress_leyser_app SET leyser.context_scope = 'session';
\c - regress_leyser_app
\set VERBOSITY sqlstate
SET leyser.token = :'a';
SELECT count(*) FROM regress_leyser_context.invoice;
BEGIN;
SELECT count(*) FROM regress_leyser_context.invoice;
SET leyser.token = :'b';
ROLLBACK;
SELECT leyser.tenant_id();
SET leyser.token = :'b';
SELECT count(*) FROM regress_leyser_context.invoice;
SELECT leyser.leave();
SELECT count(*) FROM regress_leyser_context.invoice;
DISCARD ALL;
\c - :superuser
ALTER ROLE regress_leyser_app RESET leyser.context_scope;
ALTER ROLE regress_leyser_app SET leyser.on_missing_context = 'hide';
\c - regress_leyser_app
\set VERBOSITY default
SELECT count(*) FROM regress_leyser_context.invoice;
CALL trial.attempt('INSERT INTO regress_leyser_context.invoice VALUES (''ctx-a'', 9)');
BEGIN;
SET LOCAL leyser.token = :'b';
SELECT count(*) FROM regress_leyser_context.invoice;
COMMIT;
SELECT leyser.tenant_id() IS NULL AS hidden;
\c - :superuser
ALTER ROLE regress_leyser_app RESET leyser.on_missing_context;
ALTER ROLE regress_leyser_app SET leyser.context_switch = 'allow';
\c - regress_leyser_app
BEGIN;
SET LOCAL leyser.token = :'a';
SELECT count(*) FROM regress_leyser_context.invoice;
SET LOCAL leyser.token = :'b';
SELECT count(*) FROM regress_leyser_context.invoice;
COMMIT;

\c - :superuser
SET client_min_messages = warning;
SELECT leyser.revoke_usage('regress_leyser_app', 'application');
SELECT leyser.revoke_usage('regress_leyser_gateway', 'gateway');
DROP SCHEMA regress_leyser_context CASCADE;
DROP ROLE regress_leyser_owner, regress_leyser_app, regress_leyser_gateway;
