-- Who works for tenants has no other duty, and stays bound by row security alone:
-- neither grant_usage() nor a statement that comes later brings two hats together.

SELECT current_user AS superuser \gset
SET client_min_messages = warning;
CREATE ROLE regress_leyser_owner;
CREATE ROLE regress_leyser_app LOGIN;
CREATE ROLE regress_leyser_app2 LOGIN;
CREATE ROLE regress_leyser_gateway LOGIN;
CREATE ROLE regress_leyser_operator;
CREATE ROLE regress_leyser_custodian;
CREATE ROLE regress_leyser_pool LOGIN;
CREATE ROLE regress_leyser_group;
CREATE ROLE regress_leyser_admin CREATEROLE;
CREATE SCHEMA regress_leyser_shop AUTHORIZATION regress_leyser_owner;
GRANT USAGE ON SCHEMA regress_leyser_shop TO PUBLIC;
SET ROLE regress_leyser_owner;
CREATE TABLE regress_leyser_shop.invoice (tenant_id text NOT NULL, amount int);
INSERT INTO regress_leyser_shop.invoice VALUES ('duty-a', 1), ('duty-b', 2);
SELECT leyser.protect('regress_leyser_shop.invoice');
RESET ROLE;
SELECT leyser.create_tenant('duty-a');
SELECT leyser.grant_usage('regress_leyser_app', 'application');
SELECT leyser.grant_usage('regress_leyser_gateway', 'gateway');
SELECT leyser.grant_usage('regress_leyser_operator', 'operator');
SELECT leyser.grant_usage('regress_leyser_custodian', 'key_custodian');
SELECT leyser.issue_token('duty-a') AS a \gset

-- grant_usage() keeps duties apart, whichever comes first.
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_app', 'operator')$$);
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_app', 'key_custodian')$$);
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_operator', 'application')$$);
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_operator', 'gateway')$$);
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_custodian', 'application')$$);
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_gateway', 'operator')$$);
-- ... also by way of a membership: the application could SET ROLE
GRANT regress_leyser_operator TO regress_leyser_app2;
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_app2', 'application')$$);
REVOKE regress_leyser_operator FROM regress_leyser_app2;
GRANT regress_leyser_custodian TO regress_leyser_app2;
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_app2', 'application')$$);
REVOKE regress_leyser_custodian FROM regress_leyser_app2;
GRANT regress_leyser_gateway TO regress_leyser_app2;
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_app2', 'application')$$);
REVOKE regress_leyser_gateway FROM regress_leyser_app2;
GRANT regress_leyser_group TO regress_leyser_app;
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_group', 'operator')$$);
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_group', 'gateway')$$);
REVOKE regress_leyser_group FROM regress_leyser_app;
-- ... and so are rights on all data, and on leyser's own tables
GRANT pg_write_all_data TO regress_leyser_app2;
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_app2', 'application')$$);
REVOKE pg_write_all_data FROM regress_leyser_app2;
GRANT INSERT ON leyser.usage_record TO regress_leyser_app2;
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_app2', 'application')$$);
REVOKE INSERT ON leyser.usage_record FROM regress_leyser_app2;
GRANT SET ON PARAMETER leyser.guards TO regress_leyser_app2;
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_app2', 'application')$$);
REVOKE SET ON PARAMETER leyser.guards FROM regress_leyser_app2;
-- What goes together: application and gateway; auditors and provisioners change no rows.
BEGIN;
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_gateway', 'application')$$);
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_app', 'gateway')$$);
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_app', 'auditor')$$);
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_app', 'provisioner')$$);
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_operator', 'key_custodian')$$);
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_app2', 'application')$$);
SELECT role, usage, problems FROM leyser.granted_usage WHERE role::text ~ '^regress_leyser' ORDER BY role::text, usage;
ROLLBACK;

-- Later statements that would bring it about; the administrator is told why.
CALL trial.attempt('GRANT regress_leyser_operator TO regress_leyser_app');
CREATE PROCEDURE trial.briefly(statement text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RAISE INFO 'works';
EXCEPTION WHEN OTHERS THEN
    RAISE INFO '%: %', SQLSTATE, SQLERRM;
END
$$;
CREATE TABLE trial.statement (id int GENERATED ALWAYS AS IDENTITY, text text);
INSERT INTO trial.statement (text) VALUES
    ('GRANT regress_leyser_operator TO regress_leyser_app'),
    ('GRANT regress_leyser_custodian TO regress_leyser_gateway'),
    ('GRANT regress_leyser_gateway TO regress_leyser_app'),
    ('GRANT regress_leyser_owner TO regress_leyser_app'),
    ('ALTER GROUP regress_leyser_operator ADD USER regress_leyser_app'),
    ('GRANT pg_read_all_data TO regress_leyser_app'),
    ('GRANT pg_write_all_data TO regress_leyser_app'),
    ('GRANT pg_execute_server_program TO regress_leyser_gateway'),
    ('ALTER ROLE regress_leyser_app BYPASSRLS'),
    ('ALTER ROLE regress_leyser_app CREATEROLE'),
    ('ALTER ROLE regress_leyser_app SUPERUSER'),
    ('ALTER ROLE regress_leyser_gateway REPLICATION'),
    ('CREATE ROLE regress_leyser_new BYPASSRLS ROLE regress_leyser_app'),
    ('CREATE ROLE regress_leyser_new SUPERUSER ADMIN regress_leyser_app'),
    ('GRANT INSERT ON leyser.usage_record TO regress_leyser_app'),
    ('GRANT ALL ON ALL TABLES IN SCHEMA leyser TO regress_leyser_app'),
    ('GRANT UPDATE ON leyser.tenant_record TO PUBLIC'),
    ('GRANT UPDATE (state) ON leyser.tenant_record TO regress_leyser_app'),
    ('GRANT TRIGGER ON leyser.event_record TO regress_leyser_gateway'),
    ('GRANT SET ON PARAMETER leyser.guards TO regress_leyser_app'),
    ('GRANT SET ON PARAMETER leyser.on_missing_context TO PUBLIC'),
    ('GRANT SET ON PARAMETER session_replication_role TO regress_leyser_gateway'),
    ('GRANT CREATE ON SCHEMA regress_leyser_shop TO regress_leyser_app'),
    ('GRANT CREATE ON SCHEMA regress_leyser_shop TO PUBLIC'),
    ('DO $do$ BEGIN EXECUTE format(''GRANT CREATE ON DATABASE %I TO regress_leyser_app'', current_database()); END $do$'),
    ('DO $do$ BEGIN EXECUTE format(''ALTER DATABASE %I OWNER TO regress_leyser_app'', current_database()); END $do$'),
    ('ALTER SCHEMA regress_leyser_shop OWNER TO regress_leyser_app'),
    ('ALTER TABLE regress_leyser_shop.invoice OWNER TO regress_leyser_app'),
    ('CREATE SCHEMA regress_leyser_own AUTHORIZATION regress_leyser_app'),
    ('REASSIGN OWNED BY regress_leyser_owner TO regress_leyser_app');
DO $$
DECLARE
    one text;
BEGIN
    FOR one IN SELECT text FROM trial.statement ORDER BY id LOOP
        RAISE INFO '%', one;
        CALL trial.briefly(one);
    END LOOP;
END $$;
-- ... whoever sends it: an administrator of roles who is no superuser
GRANT regress_leyser_operator TO regress_leyser_admin WITH ADMIN OPTION;
GRANT EXECUTE ON PROCEDURE trial.briefly(text) TO PUBLIC;
SET ROLE regress_leyser_admin;
CALL trial.briefly('GRANT regress_leyser_operator TO regress_leyser_app');
CALL trial.briefly('GRANT regress_leyser_operator TO regress_leyser_app2');
CALL trial.briefly('REVOKE regress_leyser_operator FROM regress_leyser_app2');
RESET ROLE;
-- ... or an owner who gives away a schema's right
SET ROLE regress_leyser_owner;
CALL trial.briefly('GRANT CREATE ON SCHEMA regress_leyser_shop TO regress_leyser_app');
CALL trial.briefly('GRANT CREATE ON SCHEMA regress_leyser_shop TO regress_leyser_app2');
CALL trial.briefly('REVOKE CREATE ON SCHEMA regress_leyser_shop FROM regress_leyser_app2');
RESET ROLE;
SELECT role, usage, problems FROM leyser.granted_usage WHERE problems <> '{}';

-- What is none of it passes.
CALL trial.briefly('GRANT SELECT, INSERT, UPDATE, DELETE ON regress_leyser_shop.invoice TO regress_leyser_app, regress_leyser_gateway');
CALL trial.briefly('GRANT USAGE ON SCHEMA regress_leyser_shop TO regress_leyser_app');
CALL trial.briefly('GRANT SELECT ON leyser.tenant TO regress_leyser_gateway');
CALL trial.briefly('ALTER ROLE regress_leyser_app CONNECTION LIMIT 50');
CALL trial.briefly('GRANT regress_leyser_group TO regress_leyser_app');
CALL trial.briefly('GRANT regress_leyser_app TO regress_leyser_pool');
CALL trial.briefly('GRANT SET ON PARAMETER log_statement TO regress_leyser_app');
CALL trial.briefly('REVOKE SET ON PARAMETER log_statement FROM regress_leyser_app');
CALL trial.briefly('CREATE SCHEMA regress_leyser_own');
CALL trial.briefly('DROP SCHEMA regress_leyser_own');

-- With guards off all of it passes, and the view tells.
SET leyser.guards = off;
DO $$
DECLARE
    one text;
    problem text;
BEGIN
    FOR one IN SELECT text FROM trial.statement ORDER BY id LOOP
        RAISE INFO '%', one;
        BEGIN
            EXECUTE one;
            FOR problem IN SELECT DISTINCT format('%s: %s', u.role, p) FROM leyser.granted_usage u, unnest(u.problems) p ORDER BY 1 LOOP
                RAISE INFO '    %', problem;
            END LOOP;
            RAISE division_by_zero;
        EXCEPTION WHEN division_by_zero THEN
        END;
    END LOOP;
END $$;
-- What was wrong before does not block other work, and is not refused twice.
GRANT CREATE ON SCHEMA regress_leyser_shop TO regress_leyser_app;
SET leyser.guards = on;
CALL trial.briefly('ALTER ROLE regress_leyser_app CONNECTION LIMIT 60');
CALL trial.briefly('GRANT CREATE ON SCHEMA regress_leyser_shop TO regress_leyser_app');
CALL trial.briefly('ALTER ROLE regress_leyser_app BYPASSRLS');
SELECT leyser.grant_usage('regress_leyser_app2', 'application');
CALL trial.briefly('REVOKE CREATE ON SCHEMA regress_leyser_shop FROM regress_leyser_app');

-- A role that row security does not bind gets no context.
SET leyser.guards = off;
ALTER ROLE regress_leyser_app BYPASSRLS;
\set VERBOSITY default
\c - regress_leyser_app
BEGIN;
SET LOCAL leyser.token = :'a';
ROLLBACK;
SELECT count(*) FROM regress_leyser_shop.invoice;
-- ... nor by SET ROLE
\set VERBOSITY terse
\c - regress_leyser_pool
BEGIN;
SET LOCAL ROLE regress_leyser_app;
SET LOCAL leyser.token = :'a';
ROLLBACK;
-- ... while others are not touched
\c - regress_leyser_gateway
BEGIN;
SET LOCAL leyser.token = :'a';
SELECT * FROM regress_leyser_shop.invoice;
COMMIT;
\c - :superuser
SET leyser.guards = off;
ALTER ROLE regress_leyser_app NOBYPASSRLS SUPERUSER;
\c - regress_leyser_app
BEGIN;
SET LOCAL leyser.token = :'a';
ROLLBACK;
\c - :superuser
ALTER ROLE regress_leyser_app NOSUPERUSER;
\c - regress_leyser_pool
BEGIN;
SET LOCAL ROLE regress_leyser_app;
SET LOCAL leyser.token = :'a';
SELECT * FROM regress_leyser_shop.invoice;
COMMIT;

\c - :superuser
SET client_min_messages = warning;
DROP SCHEMA regress_leyser_shop CASCADE;
DROP PROCEDURE trial.briefly(text);
DROP TABLE trial.statement;
SELECT leyser.revoke_usage(role, usage) FROM leyser.granted_usage WHERE role::text ~ '^regress_leyser';
REVOKE SELECT ON leyser.tenant FROM regress_leyser_gateway;
DROP ROLE regress_leyser_owner, regress_leyser_app, regress_leyser_app2, regress_leyser_gateway, regress_leyser_operator,
    regress_leyser_custodian, regress_leyser_pool, regress_leyser_group, regress_leyser_admin;
