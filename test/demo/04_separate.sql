\set SHOW_CONTEXT never
\echo
\echo '== 4. Branch 3 at work'
\echo '   The gateway issues a token for five minutes; the application sends it as a'
\echo '   parameter of its first statement.  It counts until the transaction ends.'
\echo
\c -reuse-previous=on - bank_gateway
SELECT leyser.issue_token('3') AS token_3, leyser.issue_token('4') AS token_4 \gset
\c -reuse-previous=on - bank_app
\echo '   The same forgotten WHERE, now without a token:'
\set ON_ERROR_STOP off
SELECT count(DISTINCT bid) AS branches_seen FROM pgbench_accounts;
\ir refused.psql
\echo '   … and with branch 3''s:'
BEGIN;
SELECT set_config('leyser.token', :'token_3', true) AS token;
SELECT count(*) AS accounts, count(DISTINCT bid) AS branches_seen, min(bid) AS branch FROM pgbench_accounts;
UPDATE pgbench_accounts SET abalance = abalance + 100 WHERE aid = 300001 - 50000 RETURNING aid, bid, abalance;
\echo '   Branch 4''s account 350001 cannot be seen, changed or taken:'
UPDATE pgbench_accounts SET abalance = 0 WHERE aid = 350001 RETURNING aid;
SAVEPOINT attempt;
\echo '   bank_app=> UPDATE pgbench_accounts SET bid = 4 WHERE aid = 250001;'
\set ON_ERROR_STOP off
UPDATE pgbench_accounts SET bid = 4 WHERE aid = 250001;
\ir refused.psql
ROLLBACK TO attempt;
\echo '   bank_app=> INSERT INTO pgbench_history (tid, bid, aid, delta) VALUES (1, 4, 350001, 5);'
\set ON_ERROR_STOP off
INSERT INTO pgbench_history (tid, bid, aid, delta) VALUES (1, 4, 350001, 5);
\ir refused.psql
ROLLBACK TO attempt;
\echo '   Another tenant''s token in the same transaction (an SQL injection would try):'
\set ON_ERROR_STOP off
SELECT set_config('leyser.token', :'token_4', true);
\ir refused.psql
ROLLBACK TO attempt;
COMMIT;
\echo '   A token that was altered by one character:'
SELECT overlay(:'token_3' placing CASE substr(:'token_3', 200, 1) WHEN 'A' THEN 'B' ELSE 'A' END from 200 for 1) AS forged \gset
\set ON_ERROR_STOP off
SELECT set_config('leyser.token', :'forged', true);
\ir refused.psql
\echo '== 5. A pooled connection is a shared room: nothing is left behind for the next'
\echo
\set ON_ERROR_STOP off
CREATE TEMP TABLE pgbench_history (tid int, bid int, aid int, delta int);
\ir refused.psql
\set ON_ERROR_STOP off
DECLARE window_left_open CURSOR WITH HOLD FOR SELECT 1;
\ir refused.psql
SET search_path = pg_catalog;
\set ON_ERROR_STOP off
SELECT set_config('leyser.token', :'token_3', true);
\ir refused.psql
\echo '   DISCARD ALL cleans the room.'
DISCARD ALL;
