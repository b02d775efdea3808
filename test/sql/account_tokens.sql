-- Whose a token is: the account's that it was made for, whatever becomes of the name.

SELECT current_user AS superuser \gset
SET client_min_messages = warning;
CREATE ROLE regress_leyser_app LOGIN;
CREATE ROLE regress_leyser_gateway LOGIN;
SELECT leyser.grant_usage('regress_leyser_app', 'application');
SELECT leyser.grant_usage('regress_leyser_gateway', 'gateway');
SELECT leyser.create_tenant('tok-a');
SELECT leyser.create_account('Ada', 'tok-a') \g /dev/null
BEGIN;
SELECT leyser.enter('tok-a', 'Ada');
SELECT leyser.create_account('bob'), leyser.create_account(U&'Zo\00EB'), leyser.create_account('sam') \g /dev/null
SELECT leyser.disable_account('sam');
COMMIT;

-- A gateway gives the name as people do; the context has it as it is stored.
\c - regress_leyser_gateway
BEGIN; SELECT leyser.enter('tok-a', 'ADA'); SELECT leyser.account_name(); COMMIT;
BEGIN; SELECT leyser.enter('tok-a', 'ａｄａ'); SELECT leyser.account_name(); COMMIT;
BEGIN; SELECT leyser.enter('tok-a', U&'ZOE\0308'); SELECT leyser.account_name(); COMMIT;
SELECT leyser.issue_token('tok-a', 'aDa') AS ada \gset
BEGIN; SET LOCAL leyser.token = :'ada'; SELECT leyser.account_name(); COMMIT;
CALL trial.attempt($$SELECT leyser.enter('tok-a', 'nobody')$$);
CALL trial.attempt($$SELECT leyser.enter('tok-a', 'SAM')$$);
CALL trial.attempt($$SELECT leyser.issue_token('tok-a', 'nobody')$$);
CALL trial.attempt($$SELECT leyser.issue_token('tok-a', 'sam')$$);
CALL trial.attempt($$SELECT leyser.issue_token('tok-a', '')$$);

-- Deleted, and made again with the same name: what was issued for the one who is
-- gone is not the new one's; neither is what is in force in a transaction.
SELECT leyser.issue_token('tok-a', 'bob', '20 hours') AS former_bob \gset
BEGIN; SELECT leyser.enter('tok-a', 'Ada'); SELECT leyser.delete_account('bob'); SELECT leyser.create_account('bob') \g /dev/null
COMMIT;
SELECT leyser.issue_token('tok-a', 'bob') AS new_bob \gset
\c - regress_leyser_app
BEGIN; SET LOCAL leyser.token = :'new_bob'; SELECT leyser.account_name(); COMMIT;
BEGIN; SET LOCAL leyser.token = :'former_bob'; ROLLBACK;
-- as for a gateway, so for a session
\c - :superuser
BEGIN; SELECT leyser.enter('tok-a', 'Ada'); SELECT leyser.invite_account('eve') AS secret \gset
COMMIT;
SELECT leyser.accept_invitation('tok-a', 'eve', :'secret', 'a garden without any fence') \g /dev/null
SELECT leyser.login('tok-a', 'eve', 'a garden without any fence') AS former_eve \gset
SELECT leyser.issue_token('tok-a', 'eve') AS issued_to_eve \gset
-- renamed, and the name given to another account: not the former's, not the latter's
BEGIN; SELECT leyser.enter('tok-a', 'Ada'); SELECT leyser.rename_account('eve', 'eva'); COMMIT;
BEGIN; SET LOCAL leyser.token = :'issued_to_eve'; ROLLBACK;
BEGIN; SELECT leyser.enter('tok-a', 'Ada'); SELECT leyser.rename_account('bob', 'eve'); COMMIT;
BEGIN; SET LOCAL leyser.token = :'former_eve'; ROLLBACK;
BEGIN; SET LOCAL leyser.token = :'issued_to_eve'; ROLLBACK;
BEGIN; SET LOCAL leyser.token = :'new_bob'; ROLLBACK;
BEGIN; SELECT leyser.enter('tok-a', 'eve'); SELECT leyser.account_name(); COMMIT;
-- the name comes back: the same account, and its tokens are good again
BEGIN; SELECT leyser.enter('tok-a', 'Ada'); SELECT leyser.rename_account('eve', 'bob'); SELECT leyser.rename_account('eva', 'eve'); COMMIT;
BEGIN; SET LOCAL leyser.token = :'issued_to_eve'; SELECT leyser.account_name(); ROLLBACK;

-- A context in force ends, too, where its name goes to somebody else.
\c - :superuser
SELECT leyser.issue_token('tok-a', 'bob') AS bob \gset
BEGIN;
SET LOCAL leyser.token = :'bob';
SELECT leyser.account_name();
UPDATE leyser.account_record SET account_name = 'bo', name_key = 'bo' WHERE (tenant_id, account_name) = ('tok-a', 'bob');
SELECT state, sqlstate, detail FROM leyser.context_status();
INSERT INTO leyser.account_record (tenant_id, account_name, name_key, state) VALUES ('tok-a', 'bob', 'bob', 'active');
SELECT state, sqlstate, detail FROM leyser.context_status();
SELECT leyser.account_name();
ROLLBACK;

-- A session ends when it was said to, whatever is tolerated of others' clocks, in a
-- transaction that goes on, too; and the list of sessions says the same.
\c - regress_leyser_app
SHOW leyser.clock_leeway;
SELECT leyser.login('tok-a', 'eve', 'a garden without any fence', '2 s') AS brief,
    leyser.login('tok-a', 'eve', 'a garden without any fence', '1 minute') AS longer \gset
BEGIN; SET LOCAL leyser.token = :'longer'; SELECT count(*) FROM leyser.session; COMMIT;
BEGIN;
SET LOCAL leyser.token = :'brief';
SELECT leyser.renew_token() AS renewed, expires_at AS brief_ends FROM leyser.context_status() \gset
SELECT leyser.account_name();
SELECT pg_sleep(greatest(0, extract(epoch FROM :'brief_ends'::timestamptz - clock_timestamp()) + 0.01)) \g /dev/null
SELECT state, sqlstate FROM leyser.context_status();
SELECT leyser.account_name();
ROLLBACK;
BEGIN; SET LOCAL leyser.token = :'brief'; ROLLBACK;
BEGIN; SET LOCAL leyser.token = :'renewed'; ROLLBACK;
BEGIN; SET LOCAL leyser.token = :'longer'; SELECT count(*) FROM leyser.session; COMMIT;

\c - :superuser
SET client_min_messages = warning;
SELECT leyser.revoke_usage('regress_leyser_app', 'application');
SELECT leyser.revoke_usage('regress_leyser_gateway', 'gateway');
DROP ROLE regress_leyser_app, regress_leyser_gateway;
