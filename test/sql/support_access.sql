-- A tenant lets a role of the provider look: read-only, for a time, recorded.

\set SHOW_CONTEXT never
SELECT current_user AS superuser \gset
SET client_min_messages = warning;
CREATE ROLE regress_leyser_owner;
CREATE ROLE regress_leyser_gateway LOGIN;
CREATE ROLE regress_leyser_support LOGIN;
CREATE ROLE regress_leyser_other LOGIN;
CREATE ROLE regress_leyser_bypass LOGIN BYPASSRLS;
CREATE ROLE regress_leyser_auditor;
CREATE ROLE regress_leyser_provisioner;
CREATE ROLE regress_leyser_app;
CREATE ROLE regress_leyser_member NOINHERIT IN ROLE regress_leyser_auditor;
SELECT leyser.grant_usage('regress_leyser_auditor', 'auditor'), leyser.grant_usage('regress_leyser_provisioner', 'provisioner'),
    leyser.grant_usage('regress_leyser_app', 'application');
SELECT leyser.grant_usage('regress_leyser_gateway', 'gateway');
SELECT max(event_id) AS first_event FROM leyser.event \gset
CREATE SCHEMA regress_leyser_support AUTHORIZATION regress_leyser_owner;
GRANT USAGE ON SCHEMA regress_leyser_support TO PUBLIC;
CREATE PROCEDURE regress_leyser_support.act(account text, statement text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM leyser.enter('sup-a', account);
    CALL trial.attempt(statement);
END
$$;
SELECT leyser.create_permission('sup.read', 'read'), leyser.create_permission('sup.write', 'write');
SELECT leyser.create_tenant('sup-a'), leyser.create_tenant('sup-b');
SELECT leyser.create_account('ada', 'sup-a') > 0 AS ada, leyser.create_account('bob', 'sup-a') > 0 AS bob, leyser.create_account('zoe', 'sup-b') > 0 AS zoe;
SET ROLE regress_leyser_owner;
CREATE TABLE regress_leyser_support.item (tenant_id text NOT NULL, item int);
INSERT INTO regress_leyser_support.item VALUES ('sup-a', 1), ('sup-b', 2);
GRANT ALL ON regress_leyser_support.item TO regress_leyser_gateway, regress_leyser_support, regress_leyser_other;
SELECT leyser.protect('regress_leyser_support.item');
SELECT leyser.set_permissions('regress_leyser_support.item', 'sup.read', 'sup.write');
\c - regress_leyser_support
CALL trial.attempt('SELECT leyser.enter_support(''sup-a'')');
CALL trial.attempt('SELECT * FROM regress_leyser_support.item');

-- By an administrator only, for a role that row security binds.
\c - regress_leyser_gateway
CALL regress_leyser_support.act('bob', 'SELECT leyser.grant_support_access(''regress_leyser_support'', ''1 hour'', ''ticket 1'')');
CALL regress_leyser_support.act('ada', 'SELECT leyser.grant_support_access(''regress_leyser_bypass'', ''1 hour'', ''ticket 1'')');
CALL regress_leyser_support.act('ada', format('SELECT leyser.grant_support_access(%L, ''1 hour'', ''ticket 1'')', :'superuser'));
CALL regress_leyser_support.act('ada', 'SELECT leyser.grant_support_access(''regress_leyser_support'', ''31 days'', ''ticket 1'')');
CALL regress_leyser_support.act('ada', 'SELECT leyser.grant_support_access(''regress_leyser_support'', ''-1 day'', ''ticket 1'')');
CALL regress_leyser_support.act('ada', 'SELECT leyser.grant_support_access(''regress_leyser_support'', NULL, ''ticket 1'')');
CALL regress_leyser_support.act('ada', 'SELECT leyser.grant_support_access(''regress_leyser_support'', ''-178000000 years'', ''ticket 1'')');
CALL regress_leyser_support.act('ada', 'SELECT leyser.grant_support_access(''regress_leyser_support'', ''2000000000 days -66666600 months'', ''ticket 1'')');
-- nor one that has another duty, or can take one on
CALL regress_leyser_support.act('ada', 'SELECT leyser.grant_support_access(''regress_leyser_gateway'', ''1 hour'', ''ticket 1'')');
CALL regress_leyser_support.act('ada', 'SELECT leyser.grant_support_access(''regress_leyser_auditor'', ''1 hour'', ''ticket 1'')');
CALL regress_leyser_support.act('ada', 'SELECT leyser.grant_support_access(''regress_leyser_provisioner'', ''1 hour'', ''ticket 1'')');
CALL regress_leyser_support.act('ada', 'SELECT leyser.grant_support_access(''regress_leyser_app'', ''1 hour'', ''ticket 1'')');
CALL regress_leyser_support.act('ada', 'SELECT leyser.grant_support_access(''regress_leyser_member'', ''1 hour'', ''ticket 1'')');
CALL regress_leyser_support.act('ada', 'SELECT leyser.grant_support_access(''regress_leyser_support'', ''1 day'', '' '')');
CALL regress_leyser_support.act('ada', 'SELECT leyser.grant_support_access(NULL, ''1 day'', ''ticket 1'')');
CALL regress_leyser_support.act('ada', 'SELECT leyser.grant_support_access(''regress_leyser_support'', ''1 hour'', ''ticket 1'')');

-- It looks, at this tenant.
\c - regress_leyser_support
BEGIN;
SELECT leyser.enter_support('sup-a');
SELECT * FROM regress_leyser_support.item;
SELECT leyser.tenant_id(), leyser.account_name(), leyser.has_permission('sup.read');
-- it does not write, and cannot make itself able to
SAVEPOINT s;
INSERT INTO regress_leyser_support.item VALUES ('sup-a', 3);
ROLLBACK TO s;
SET TRANSACTION READ WRITE;
ROLLBACK TO s;
SET LOCAL transaction_read_only = off;
ROLLBACK TO s;
DELETE FROM regress_leyser_support.item;
ROLLBACK TO s;
SELECT leyser.grant_permission('bob', 'sup.read');
ROLLBACK TO s;
SELECT leyser.enter_support('sup-b');
ROLLBACK TO s;
SELECT * FROM regress_leyser_support.item;
SHOW leyser.token;
COMMIT;
-- the next transaction is without it
CALL trial.attempt('SELECT * FROM regress_leyser_support.item');
CALL trial.attempt('SELECT leyser.enter_support(''sup-b'')');
BEGIN;
SELECT leyser.enter_support('sup-a');
SET TRANSACTION READ WRITE;
ROLLBACK;
-- the end of a subtransaction gives the right to write back, and the context ends
BEGIN;
SAVEPOINT s;
SELECT leyser.enter_support('sup-a');
SELECT count(*) FROM regress_leyser_support.item;
RELEASE s;
SHOW transaction_read_only;
SAVEPOINT s;
SELECT * FROM regress_leyser_support.item;
ROLLBACK TO s;
INSERT INTO regress_leyser_support.item VALUES ('sup-a', 3);
ROLLBACK;
DO $$
BEGIN
    BEGIN
        PERFORM leyser.enter_support('sup-a');
    EXCEPTION WHEN division_by_zero THEN
    END;
    INSERT INTO regress_leyser_support.item VALUES ('sup-a', 4);
END
$$;
-- so does the end of a function with a SET clause
CREATE FUNCTION pg_temp.enter() RETURNS void LANGUAGE sql SET transaction_read_only = on AS 'SELECT leyser.enter_support(''sup-a'')';
BEGIN;
SELECT pg_temp.enter();
SHOW transaction_read_only;
INSERT INTO regress_leyser_support.item VALUES ('sup-a', 5);
ROLLBACK;
BEGIN;
SELECT pg_temp.enter();
INSERT INTO regress_leyser_support.item SELECT 'sup-a', 5 FROM set_config('transaction_read_only', 'on', true);
ROLLBACK;
-- a statement that writes already
INSERT INTO regress_leyser_support.item SELECT 'sup-a', 6 FROM leyser.enter_support('sup-a');
WITH w AS (INSERT INTO regress_leyser_support.item SELECT 'sup-a', 6 FROM leyser.enter_support('sup-a')) SELECT 1;
UPDATE regress_leyser_support.item SET item = 7 FROM leyser.enter_support('sup-a');
DELETE FROM regress_leyser_support.item USING leyser.enter_support('sup-a');
CREATE FUNCTION pg_temp.write() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO regress_leyser_support.item SELECT 'sup-a', 8 FROM leyser.enter_support('sup-a');
    RETURN 1;
END
$$;
SELECT pg_temp.write();
-- a read-only transaction does not make another role support
\c - regress_leyser_gateway
BEGIN READ ONLY;
SELECT leyser.enter('sup-a');
SELECT * FROM regress_leyser_support.item;
COMMIT;
\c - regress_leyser_other
CALL trial.attempt('SELECT leyser.enter_support(''sup-a'')');

-- Revoked in the middle of a transaction: the next statement is refused.
\c - :superuser
SET SESSION AUTHORIZATION regress_leyser_support;
BEGIN;
SELECT leyser.enter_support('sup-a');
SELECT * FROM regress_leyser_support.item;
COMMIT;
RESET SESSION AUTHORIZATION;
\c - regress_leyser_gateway
CALL regress_leyser_support.act('bob', 'SELECT leyser.revoke_support_access(''regress_leyser_support'')');
CALL regress_leyser_support.act('ada', 'SELECT leyser.revoke_support_access(''regress_leyser_other'')');
CALL regress_leyser_support.act('bob', 'SELECT * FROM leyser.support_access');
CALL regress_leyser_support.act('ada', 'SELECT leyser.revoke_support_access(''regress_leyser_support'')');
BEGIN;
SELECT leyser.enter('sup-a', 'ada');
SELECT to_role, reason, granted_by, valid_until - granted_at BETWEEN '59 min' AND '1 hour' AS an_hour, revoked_at IS NOT NULL AS revoked, is_open FROM leyser.support_access;
COMMIT;
\c - regress_leyser_support
CALL trial.attempt('SELECT leyser.enter_support(''sup-a'')');
-- given a duty meanwhile
\c - regress_leyser_gateway
CALL regress_leyser_support.act('ada', 'SELECT leyser.grant_support_access(''regress_leyser_other'', ''1 hour'', ''ticket 3'')');
\c - :superuser
SELECT leyser.grant_usage('regress_leyser_other', 'auditor');
SET SESSION AUTHORIZATION regress_leyser_other;
CALL trial.attempt('SELECT leyser.enter_support(''sup-a'')');
RESET SESSION AUTHORIZATION;
SELECT leyser.revoke_usage('regress_leyser_other', 'auditor');
-- over
\c - regress_leyser_gateway
CALL regress_leyser_support.act('ada', 'SELECT leyser.grant_support_access(''regress_leyser_support'', ''2 s'', ''ticket 2'')');
\c - regress_leyser_support
BEGIN;
SELECT leyser.enter_support('sup-a');
SELECT * FROM regress_leyser_support.item;
SELECT pg_sleep(2);
CALL trial.attempt('SELECT * FROM regress_leyser_support.item');
COMMIT;
CALL trial.attempt('SELECT leyser.enter_support(''sup-a'')');
\c - :superuser
SELECT tenant_id, item FROM regress_leyser_support.item ORDER BY 1, 2;
SELECT event, tenant_id, session_role, account_name, object, detail - 'valid_until' AS detail FROM leyser.event
    WHERE event_id > :first_event AND event LIKE 'support%' ORDER BY event_id;

SET client_min_messages = warning;
DROP SCHEMA regress_leyser_support CASCADE;
SELECT leyser.revoke_usage('regress_leyser_gateway', 'gateway'), leyser.revoke_usage('regress_leyser_app', 'application'),
    leyser.revoke_usage('regress_leyser_auditor', 'auditor'), leyser.revoke_usage('regress_leyser_provisioner', 'provisioner');
DELETE FROM leyser.support_record;
DROP ROLE regress_leyser_owner, regress_leyser_gateway, regress_leyser_support, regress_leyser_other, regress_leyser_bypass,
    regress_leyser_auditor, regress_leyser_provisioner, regress_leyser_app, regress_leyser_member;
