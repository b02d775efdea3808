-- Contracts end at a moment that is said before: what may say it, what it means,
-- and who is locked out from then on, in open connections too.

\set SHOW_CONTEXT never
SELECT current_user AS superuser \gset
SET client_min_messages = warning;
CREATE ROLE regress_leyser_owner;
CREATE ROLE regress_leyser_app LOGIN;
CREATE ROLE regress_leyser_operator LOGIN;
CREATE ROLE regress_leyser_provisioner LOGIN;
CREATE ROLE regress_leyser_auditor LOGIN;
SELECT leyser.grant_usage('regress_leyser_app', 'application'), leyser.grant_usage('regress_leyser_operator', 'operator'),
    leyser.grant_usage('regress_leyser_provisioner', 'provisioner'), leyser.grant_usage('regress_leyser_auditor', 'auditor');
SELECT max(event_id) AS first_event FROM leyser.event \gset
SELECT leyser.create_tenant('con-a', 'First & Sons'), leyser.create_tenant('con-b'), leyser.create_tenant('con-c'), leyser.create_tenant('con-d');
CREATE SCHEMA regress_leyser_contracts AUTHORIZATION regress_leyser_owner;
GRANT USAGE ON SCHEMA regress_leyser_contracts TO PUBLIC;
-- Tells how a statement ends, without what each run makes anew.
CREATE PROCEDURE regress_leyser_contracts.judge(statement text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RAISE INFO 'works';
EXCEPTION WHEN OTHERS THEN
    RAISE INFO '%: %', SQLSTATE, SQLERRM;
END
$$;
-- Announces an end and takes it back.
CREATE PROCEDURE regress_leyser_contracts.announce(effective_at text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SELECT leyser.terminate_contract(%L, %s)', 'con-a', effective_at);
    PERFORM leyser.cancel_termination('con-a');
EXCEPTION WHEN OTHERS THEN
    RAISE INFO '%: %', SQLSTATE, SQLERRM;
END
$$;
SET ROLE regress_leyser_owner;
CREATE TABLE regress_leyser_contracts.item (tenant_id text NOT NULL, item int);
INSERT INTO regress_leyser_contracts.item VALUES ('con-a', 1), ('con-a', 2), ('con-b', 3);
CREATE INDEX ON regress_leyser_contracts.item (tenant_id);
GRANT SELECT, INSERT ON regress_leyser_contracts.item TO regress_leyser_app;
SELECT leyser.protect('regress_leyser_contracts.item');

-- What a moment may look like.  A day means its end, in the contract's time zone,
-- however it comes; the session's zone and date style have no say.
\c - regress_leyser_operator
SET client_min_messages = notice;
SET TimeZone = 'America/Los_Angeles';
SET DateStyle = 'German, DMY';
CALL regress_leyser_contracts.announce($$'2999-12-31'$$);
CALL regress_leyser_contracts.announce($$' 2999-12-31 '::text$$);
CALL regress_leyser_contracts.announce($$date '2999-12-31'$$);
CALL regress_leyser_contracts.announce($$effective_at => '2999-12-31', reason => 'they left'$$);
CALL regress_leyser_contracts.announce($$'2999-12-31 18:00 Asia/Tokyo'$$);
CALL regress_leyser_contracts.announce($$'2999-12-31 18:00:30.5+0900'$$);
CALL regress_leyser_contracts.announce($$'2999-12-31T09:00Z'$$);
-- this one says in the NOTICE that it is a day less than it looks
CALL regress_leyser_contracts.announce($$timestamptz '2999-12-31 00:00 Asia/Tokyo'$$);
-- what could mean two things, or nothing
CALL regress_leyser_contracts.announce($$'2999-12-31 18:00'$$);
CALL regress_leyser_contracts.announce($$'2999-12-31 18:00 JST'$$);
CALL regress_leyser_contracts.announce($$'2999-12-31 18:00 JST-9'$$);
CALL regress_leyser_contracts.announce($$'31.12.2999'$$);
CALL regress_leyser_contracts.announce($$'12/11/2999'$$);
CALL regress_leyser_contracts.announce($$'29991231'$$);
CALL regress_leyser_contracts.announce($$'2999-12'$$);
CALL regress_leyser_contracts.announce($$'today'$$);
CALL regress_leyser_contracts.announce($$'infinity'$$);
CALL regress_leyser_contracts.announce($$''$$);
CALL regress_leyser_contracts.announce($$'2999-02-29'$$);
CALL regress_leyser_contracts.announce($$timestamp '2999-12-31 00:00'$$);
CALL regress_leyser_contracts.announce($$current_date + interval '30 days'$$);
CALL regress_leyser_contracts.announce($$date 'infinity'$$);
CALL regress_leyser_contracts.announce($$timestamptz '-infinity'$$);
CALL regress_leyser_contracts.announce($$timestamptz '294276-12-31 10:00Z'$$);
CALL regress_leyser_contracts.announce($$date '5874897-12-31'$$);
CALL regress_leyser_contracts.announce($$date '9999-12-31'$$);
CALL regress_leyser_contracts.announce($$NULL$$);
CALL regress_leyser_contracts.announce($$NULL::date$$);
CALL regress_leyser_contracts.announce($$'2026-01-31'$$);
CALL regress_leyser_contracts.announce($$clock_timestamp() - interval '61 seconds'$$);
CALL regress_leyser_contracts.announce($$'2999-12-31', E'two\nlines'$$);
CALL trial.attempt($$SELECT leyser.terminate_contract('con-a', '2999-12-31 18:00')$$);
CALL trial.attempt($$SELECT leyser.terminate_contract('con-a', '2999-02-29')$$);
CALL trial.attempt($$SELECT leyser.terminate_contract('con-a', timestamp '2999-12-31 00:00')$$);
CALL trial.attempt($$SELECT leyser.terminate_contract('con-a', '2026-01-31')$$);
CALL trial.attempt($$SELECT leyser.terminate_contract('con-a', NULL)$$);
CALL trial.attempt($$SELECT leyser.terminate_contract('nobody', '2999-12-31')$$);
CALL trial.attempt($$SELECT leyser.terminate_contract(NULL, '2999-12-31')$$);
RESET DateStyle;
SET TimeZone = 'UTC';

-- What the tenant has is told in figures, as far as that takes no time.
\c - :superuser
SET ROLE regress_leyser_owner;
CREATE TABLE regress_leyser_contracts.queue (payload jsonb);
INSERT INTO regress_leyser_contracts.queue SELECT '{"tenant": "con-a"}' FROM generate_series(1, 100001);
CREATE TABLE regress_leyser_contracts.broken (payload text);
INSERT INTO regress_leyser_contracts.broken VALUES ('no number');
CREATE UNLOGGED TABLE regress_leyser_contracts.vast (tenant text, pad text) WITH (fillfactor = 10);
INSERT INTO regress_leyser_contracts.vast SELECT 'con-a', repeat('x', 1000) FROM generate_series(1, 17000);
RESET ROLE;
SELECT leyser.declare_table('regress_leyser_contracts.queue', 'by_rule', 'work', 'payload ->> ''tenant'' = $1'),
    leyser.declare_table('regress_leyser_contracts.broken', 'by_rule', 'work', 'payload::int = length($1)'),
    leyser.declare_table('regress_leyser_contracts.vast', 'by_rule', 'work', 'tenant = $1');
\c - regress_leyser_operator
SET client_min_messages = notice;
CALL regress_leyser_contracts.announce($$'2999-12-31'$$);
\c - :superuser
SET client_min_messages = warning;
SELECT leyser.unprotect('regress_leyser_contracts.queue'), leyser.unprotect('regress_leyser_contracts.broken'), leyser.unprotect('regress_leyser_contracts.vast');
DROP TABLE regress_leyser_contracts.queue, regress_leyser_contracts.broken, regress_leyser_contracts.vast;
\c - regress_leyser_operator
SET client_min_messages = notice;
SET TimeZone = 'UTC';

-- The zone of the last day.
CALL trial.attempt($$SELECT leyser.set_contract_time_zone('JST-9')$$);
CALL trial.attempt($$SELECT leyser.set_contract_time_zone(NULL)$$);
BEGIN;
SELECT leyser.set_contract_time_zone('America/New_York');
SELECT leyser.terminate_contract('con-b', '2999-06-30'), leyser.terminate_contract('con-c', date '2999-12-31');
ROLLBACK;

-- An announced end changes nothing before its moment, and is not announced twice.
SELECT leyser.terminate_contract('con-b', '2999-12-31', 'they left');
CALL trial.attempt($$SELECT leyser.terminate_contract('con-b', '2998-12-31')$$);
CALL trial.attempt($$SELECT leyser.suspend_tenant('con-b')$$);
CALL trial.attempt($$SELECT leyser.confirm_termination('con-b')$$);
CALL trial.attempt($$SELECT leyser.confirm_termination('con-a')$$);
SELECT tenant_id, state, ends_at FROM leyser.tenant WHERE tenant_id IN ('con-a', 'con-b') ORDER BY 1;
SELECT tenant_id, state, effective_at, ends_at, purge_from, reason, requested_by, confirmed_by, legal_basis FROM leyser.contract WHERE tenant_id ~ '^con-';
\c - :superuser
SELECT leyser.issue_token('con-b') AS b \gset
SET SESSION AUTHORIZATION regress_leyser_app;
BEGIN;
SET LOCAL leyser.token = :'b';
SELECT * FROM regress_leyser_contracts.item;
COMMIT;
\c - regress_leyser_operator
SELECT leyser.cancel_termination('con-b');
SELECT tenant_id, state, ends_at FROM leyser.tenant WHERE tenant_id = 'con-b';
CALL trial.attempt($$SELECT leyser.cancel_termination('con-b')$$);
CALL trial.attempt($$SELECT leyser.cancel_termination('nobody')$$);

-- A suspended tenant stays locked out while its contract runs out, and what
-- takes the end back leads to where it was.
SELECT leyser.suspend_tenant('con-c');
SELECT leyser.terminate_contract('con-c', '2999-12-31');
\c - :superuser
CALL trial.attempt($$SELECT leyser.issue_token('con-c')$$);
CALL trial.attempt($$SELECT leyser.resume_tenant('con-c')$$);
\c - regress_leyser_operator
SELECT leyser.cancel_termination('con-c');
SELECT state FROM leyser.tenant WHERE tenant_id = 'con-c';
SELECT leyser.resume_tenant('con-c');
\c - :superuser
SELECT length(leyser.issue_token('con-c')) > 0 AS issued;

-- The moment comes in the middle of a transaction that has its token: the next
-- statement is refused, whatever its kind; nobody had to change a row for it.
SET client_min_messages = warning;
SET plan_cache_mode = force_generic_plan;
SELECT leyser.issue_token('con-a') AS a \gset
PREPARE reading AS SELECT count(*) FROM regress_leyser_contracts.item;
CREATE PROCEDURE regress_leyser_contracts.read_until_refused() LANGUAGE plpgsql AS $$
DECLARE
    reads int := 0;
BEGIN
    WHILE clock_timestamp() < (SELECT ends_at FROM leyser.tenant_record WHERE tenant_id = 'con-a') + interval '10 seconds' LOOP
        PERFORM pg_sleep(0.05);
        PERFORM * FROM regress_leyser_contracts.item;
        reads := reads + 1;
    END LOOP;
    RAISE INFO 'never refused';
EXCEPTION WHEN SQLSTATE 'LY004' THEN
    RAISE INFO 'refused, after it read: %', reads > 0;
END
$$;
SELECT leyser.terminate_contract('con-a', clock_timestamp() + interval '1 second') > now() AS announced;
GRANT SELECT ON leyser.tenant_record TO regress_leyser_app;
SET SESSION AUTHORIZATION regress_leyser_app;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SET LOCAL leyser.token = :'a';
EXECUTE reading;
DECLARE walk CURSOR FOR SELECT item FROM regress_leyser_contracts.item;
FETCH 1 FROM walk;
-- an index scan asks for the tenant once, at its beginning
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
DECLARE walk_index CURSOR FOR SELECT item FROM regress_leyser_contracts.item;
FETCH 1 FROM walk_index;
CALL regress_leyser_contracts.read_until_refused();
SAVEPOINT s;
EXECUTE reading;
ROLLBACK TO s;
FETCH 1 FROM walk;
ROLLBACK TO s;
FETCH 1 FROM walk_index;
ROLLBACK TO s;
INSERT INTO regress_leyser_contracts.item VALUES ('con-a', 9);
ROLLBACK TO s;
SELECT leyser.has_permission('leyser.accounts');
ROLLBACK TO s;
SELECT state, sqlstate FROM leyser.context_status();
COMMIT;
CALL trial.attempt(format('SELECT set_config(''leyser.token'', %L, true)', :'a'));
RESET SESSION AUTHORIZATION;
REVOKE SELECT ON leyser.tenant_record FROM regress_leyser_app;
CALL trial.attempt($$SELECT leyser.enter('con-a')$$);
DEALLOCATE reading;
RESET plan_cache_mode;
-- the views tell it, though the row does not yet
SELECT state FROM leyser.tenant_record WHERE tenant_id = 'con-a';
SELECT t.state, t.state_since = t.ends_at AS since, c.state AS contract, c.purge_from = c.ends_at AS at_once
FROM leyser.tenant t JOIN leyser.contract c USING (tenant_id) WHERE tenant_id = 'con-a';

-- Nothing leads back, nothing new is stored for it.
\c - regress_leyser_operator
CALL regress_leyser_contracts.judge($$SELECT leyser.cancel_termination('con-a')$$);
CALL regress_leyser_contracts.judge($$SELECT leyser.terminate_contract('con-a', '2999-12-31')$$);
CALL regress_leyser_contracts.judge($$SELECT leyser.resume_tenant('con-a')$$);
CALL regress_leyser_contracts.judge($$SELECT leyser.suspend_tenant('con-a')$$);
CALL regress_leyser_contracts.judge($$SELECT leyser.confirm_termination('con-a')$$);
\c - regress_leyser_provisioner
CALL trial.attempt($$SELECT leyser.create_account('late', 'con-a')$$);
CALL trial.attempt($$SELECT leyser.invite_account('late', 'con-a')$$);
CALL trial.attempt($$SELECT leyser.recover_administrator('con-a', 'late')$$);
CALL trial.attempt($$SELECT leyser.create_tenant('con-a')$$);
\c - :superuser
CALL trial.attempt($$SELECT leyser.import_account('late', '$2b$10$' || repeat('a', 53), 'con-a')$$);
CALL trial.attempt($$SELECT leyser.check_issuer_key('regress', 'pem', 'issuer', 'audience', 'con-a', 'tenant')$$);
-- with now() it has ended when the call returns; in a transaction block ROLLBACK undoes that
SET client_min_messages = warning;
BEGIN;
SELECT leyser.terminate_contract('con-d', now()) <= clock_timestamp() AS ended;
SELECT state FROM leyser.tenant_record WHERE tenant_id = 'con-d';
CALL trial.attempt($$SELECT leyser.enter('con-d')$$);
ROLLBACK;
SELECT state FROM leyser.tenant WHERE tenant_id = 'con-d';
SELECT leyser.terminate_contract('con-d', 'now') <= clock_timestamp() AS ended;
SELECT state FROM leyser.tenant WHERE tenant_id = 'con-d';

-- Who may.
\c - regress_leyser_auditor
CALL trial.attempt($$SELECT leyser.terminate_contract('con-b', '2999-12-31')$$);
SELECT count(*) FROM leyser.contract WHERE tenant_id IN ('con-a', 'con-d');
\c - regress_leyser_provisioner
CALL trial.attempt($$SELECT leyser.terminate_contract('con-b', now())$$);
CALL trial.attempt($$SELECT leyser.cancel_termination('con-b')$$);
CALL trial.attempt($$SELECT leyser.set_contract_time_zone('Asia/Tokyo')$$);
\c - regress_leyser_app
CALL trial.attempt($$SELECT leyser.terminate_contract('con-b', date '2999-12-31')$$);
CALL trial.attempt($$SELECT leyser.confirm_termination('con-b')$$);
CALL trial.attempt($$SELECT * FROM leyser.contract$$);

-- The record of all this.
\c - regress_leyser_auditor
SELECT event, tenant_id, session_role, detail - 'effective_at' - 'ends_at' AS detail FROM leyser.event
WHERE event_id > :first_event AND event ~ '^contract' ORDER BY event_id;

\c - :superuser
SET client_min_messages = warning;
DROP SCHEMA regress_leyser_contracts CASCADE;
DELETE FROM leyser.termination_record WHERE tenant_id ~ '^con-';
DELETE FROM leyser.tenant_record WHERE tenant_id ~ '^con-';
SELECT leyser.revoke_usage('regress_leyser_app', 'application'), leyser.revoke_usage('regress_leyser_operator', 'operator'),
    leyser.revoke_usage('regress_leyser_provisioner', 'provisioner'), leyser.revoke_usage('regress_leyser_auditor', 'auditor');
DROP ROLE regress_leyser_owner, regress_leyser_app, regress_leyser_operator, regress_leyser_provisioner, regress_leyser_auditor;
