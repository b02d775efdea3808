-- A tenant's state counts at the next statement; what was done is recorded, and
-- the record cannot be changed.

SELECT current_user AS superuser \gset
SET client_min_messages = warning;
CREATE ROLE regress_leyser_owner;
CREATE ROLE regress_leyser_app LOGIN;
CREATE ROLE regress_leyser_gateway LOGIN;
CREATE ROLE regress_leyser_provisioner LOGIN;
CREATE ROLE regress_leyser_operator LOGIN;
CREATE ROLE regress_leyser_auditor LOGIN;
CREATE SCHEMA regress_leyser_state AUTHORIZATION regress_leyser_owner;
GRANT USAGE ON SCHEMA regress_leyser_state TO PUBLIC;
SELECT max(event_id) AS first_event FROM leyser.event \gset
SELECT leyser.grant_usage('regress_leyser_app', 'application'), leyser.grant_usage('regress_leyser_gateway', 'gateway'),
    leyser.grant_usage('regress_leyser_provisioner', 'provisioner'), leyser.grant_usage('regress_leyser_operator', 'operator'),
    leyser.grant_usage('regress_leyser_auditor', 'auditor');
SET ROLE regress_leyser_owner;
CREATE TABLE regress_leyser_state.item (tenant_id text NOT NULL, item int);
INSERT INTO regress_leyser_state.item VALUES ('sta-a', 1), ('sta-b', 2);
GRANT SELECT, INSERT ON regress_leyser_state.item TO regress_leyser_app, regress_leyser_gateway;
SELECT leyser.protect('regress_leyser_state.item');
\c - regress_leyser_provisioner
SELECT leyser.create_tenant('sta-a', 'First', 'JP'), leyser.create_tenant('sta-b');
\c - :superuser
INSERT INTO leyser.account_record (tenant_id, account_name, name_key, state)
    VALUES ('sta-a', 'ann', 'ann', 'active'), ('sta-b', 'bob', 'bob', 'active');
\c - regress_leyser_provisioner
SELECT tenant_id, name, region, state, state_since >= created_at AS since FROM leyser.tenant WHERE tenant_id LIKE 'sta-%' ORDER BY 1;
\c - regress_leyser_gateway
SELECT leyser.issue_token('sta-a', 'ann', '4 minutes') AS a \gset

-- Suspended by an operator in the middle of a transaction that has its token:
-- the next statement is refused, and no statement before it was.
\c - :superuser
SELECT leyser.issue_token('sta-a') AS sa, leyser.issue_token('sta-b') AS sb \gset
SET SESSION AUTHORIZATION regress_leyser_app;
BEGIN;
SET LOCAL leyser.token = :'sa';
SELECT * FROM regress_leyser_state.item;
SET LOCAL ROLE regress_leyser_app;
RESET SESSION AUTHORIZATION;
SELECT leyser.suspend_tenant('sta-a');
SET SESSION AUTHORIZATION regress_leyser_app;
SAVEPOINT s;
CALL trial.attempt('SELECT * FROM regress_leyser_state.item');
CALL trial.attempt('INSERT INTO regress_leyser_state.item VALUES (''sta-a'', 3)');
CALL trial.attempt('SELECT leyser.tenant_id()');
SELECT state, tenant_id, sqlstate, detail FROM leyser.context_status();
COMMIT;
CALL trial.attempt(format('SELECT set_config(''leyser.token'', %L, true)', :'sa'));
BEGIN;
SET LOCAL leyser.token = :'sb';
SELECT * FROM regress_leyser_state.item;
COMMIT;
\c - regress_leyser_gateway
CALL trial.attempt('SELECT leyser.enter(''sta-a'')');
CALL trial.attempt('SELECT leyser.issue_token(''sta-a'')');
\c - regress_leyser_operator
SELECT state FROM leyser.tenant WHERE tenant_id = 'sta-a';
SELECT leyser.resume_tenant('sta-a');
\c - regress_leyser_app
BEGIN;
SET LOCAL leyser.token = :'sa';
SELECT * FROM regress_leyser_state.item;
COMMIT;

-- A suspension that is rolled back never was; nor the record of it.
\c - :superuser
BEGIN;
SET LOCAL leyser.token = :'sa';
SAVEPOINT s;
SELECT leyser.suspend_tenant('sta-a');
CALL trial.attempt('SELECT leyser.tenant_id()');
ROLLBACK TO s;
SELECT leyser.tenant_id();
COMMIT;

-- enter() by a gateway, within a read-only transaction too (the server log has it).
\c - regress_leyser_gateway
BEGIN;
SELECT leyser.enter('sta-b', 'bob');
SELECT * FROM regress_leyser_state.item;
COMMIT;
BEGIN READ ONLY;
SELECT leyser.enter('sta-b');
SELECT * FROM regress_leyser_state.item;
COMMIT;

-- Who did what: role of the session, role in force, tenant, account, object.
\c - regress_leyser_auditor
SELECT event, tenant_id, session_role = caller_role AS same_role, nullif(caller_role, :'superuser') AS caller_role, account_name, regexp_replace(object, '^\d+$', '(an id)') AS object, detail, client_address
    FROM leyser.event WHERE event_id > :first_event ORDER BY event_id;
SELECT bool_and(at BETWEEN now() - interval '5 minutes' AND clock_timestamp()) AS at, bool_and(length(digest) = 32) AS digest
    FROM leyser.event WHERE event_id > :first_event;
SELECT count(*) FROM leyser.event e WHERE e::text LIKE '%eyJ%';
CALL trial.attempt('SELECT * FROM leyser.event_record');
CALL trial.attempt('DELETE FROM leyser.event');
SELECT state FROM leyser.tenant WHERE tenant_id = 'sta-a';
SELECT kind FROM leyser.governed_table WHERE relation = 'regress_leyser_state.item'::regclass;
SELECT usage FROM leyser.granted_usage WHERE role = 'regress_leyser_auditor'::regrole;
-- others may not look
\c - regress_leyser_app
CALL trial.attempt('SELECT * FROM leyser.event');
CALL trial.attempt('SELECT * FROM leyser.tenant');
CALL trial.attempt('SELECT * FROM leyser.governed_table');
CALL trial.attempt('SELECT leyser.record_event(''forged'', NULL, NULL, NULL)');
\c - regress_leyser_operator
CALL trial.attempt('SELECT * FROM leyser.event');
CALL trial.attempt('SELECT leyser.keyring_status()');

-- The log is append-only, for superusers and replication roles too.
\c - :superuser
CALL trial.attempt('UPDATE leyser.event_record SET event = ''other''');
CALL trial.attempt('DELETE FROM leyser.event_record');
CALL trial.attempt('TRUNCATE leyser.event_record');
CALL trial.attempt('UPDATE leyser.event SET event = ''other''');
BEGIN;
SET LOCAL session_replication_role = replica;
CALL trial.attempt('DELETE FROM leyser.event_record WHERE event = ''none''');
ROLLBACK;

-- The digest is over salt and content, so that the content can go one day and
-- the digest still tells what it was.  (Details are walked: verify_events() knows.)
CREATE FUNCTION trial.field(value text) RETURNS bytea LANGUAGE sql AS $$
    SELECT coalesce('\x01'::bytea || int4send(octet_length(value)) || convert_to(value, 'UTF8'), '\x00') $$;
SELECT count(*) > 5 AS events, bool_and(e.digest = sha256('\x01'::bytea || int4send(32) || e.salt
        || trial.field(e.session_role) || trial.field(e.caller_role) || '\x00'::bytea
        || coalesce('\x01'::bytea || int8send(e.account_id), '\x00') || trial.field(e.object) || '\x0000'::bytea)) AS digests_fit
    FROM leyser.event_record e WHERE e.detail IS NULL AND e.client_address IS NULL;
SELECT count(DISTINCT salt) = count(*) AS salted, bool_and(length(salt) = 32) AS long_enough FROM leyser.event_record;

SET client_min_messages = warning;
SELECT leyser.revoke_usage(role, usage) FROM leyser.granted_usage WHERE role::text LIKE 'regress_leyser%';
DROP SCHEMA regress_leyser_state CASCADE;
DROP ROLE regress_leyser_owner, regress_leyser_app, regress_leyser_gateway, regress_leyser_provisioner,
    regress_leyser_operator, regress_leyser_auditor;
