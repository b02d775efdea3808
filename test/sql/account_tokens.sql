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

\c - :superuser
SET client_min_messages = warning;
SELECT leyser.revoke_usage('regress_leyser_app', 'application');
SELECT leyser.revoke_usage('regress_leyser_gateway', 'gateway');
DROP ROLE regress_leyser_app, regress_leyser_gateway;
