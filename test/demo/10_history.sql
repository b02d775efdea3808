\set SHOW_CONTEXT never
\echo
\echo '== 19. History gets its foreign key, with the tenant''s column in it'
\echo
\c -reuse-previous=on - bank_operator
SET ROLE bank_owner;
\echo '   pgbench makes none.  Online, and looked at over all branches, of which its owner sees none:'
CREATE UNIQUE INDEX CONCURRENTLY pgbench_accounts_bid_aid ON pgbench_accounts (bid, aid);
ALTER TABLE pgbench_history ADD CONSTRAINT history_account FOREIGN KEY (bid, aid) REFERENCES pgbench_accounts (bid, aid) NOT VALID;
\echo '   bank_owner=> SELECT leyser.validate_constraint(''pgbench_history'', ''history_account'');'
SELECT leyser.validate_constraint('pgbench_history', 'history_account') \g /dev/null
SELECT conname, convalidated, pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'history_account';
SELECT 1 / (count(*) = 1)::int AS checked FROM pg_constraint WHERE conname = 'history_account' AND convalidated \gset
\c -reuse-previous=on - bank_gateway
SELECT leyser.issue_token('4') AS token_4 \gset
\c -reuse-previous=on - bank_app
BEGIN;
SELECT set_config('leyser.token', :'token_4', true) AS token;
\echo '   Branch 4 notes a payment from an account of branch 5:'
\set ON_ERROR_STOP off
INSERT INTO pgbench_history (tid, aid, delta, mtime) VALUES (31, 450001, -5, CURRENT_TIMESTAMP);
\ir refused.psql
ROLLBACK;
