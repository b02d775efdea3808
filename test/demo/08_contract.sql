\set SHOW_CONTEXT never
\echo
\echo '== 13. Branch 3 leaves: its contract ends'
\echo '   Until then its people work; they write a note, never seen before, into 2000 accounts:'
\echo
\c -reuse-previous=on - bank_app
SELECT 'note-' || replace(gen_random_uuid()::text, '-', '') AS note \gset
SELECT leyser.login('3', 'ines', 'seven owls sing at noon') AS token_ines \gset
BEGIN;
SELECT set_config('leyser.token', :'token_ines', true) AS token;
UPDATE pgbench_accounts SET filler = :'note' WHERE aid % 50 = 0;
\echo '   bank_app=> UPDATE pgbench_accounts SET filler = … WHERE …;  -- UPDATE' :ROW_COUNT
SELECT 1 / (:ROW_COUNT = 2000)::int AS checked \gset
COMMIT;
\c -reuse-previous=on - postgres
SHOW data_directory \gset
CREATE INDEX pgbench_accounts_filler ON pgbench_accounts (filler);
ANALYZE pgbench_accounts;
CHECKPOINT;
\set found `grep -raoF ":note" ":data_directory" | wc -l`
\echo '   In the files of the data directory (tables, indexes, statistics, WAL) the note stands' :found 'times.'
SELECT 1 / (:found > 4000)::int AS checked \gset
\setenv NOTE :note
\! echo "$NOTE" > "$PGHOST/note"
CREATE ROLE bank_backup LOGIN;
SELECT leyser.grant_usage('bank_backup', 'backup') \g /dev/null
\! install -d -m 0700 "$PGHOST/backups"
\set backups `echo "$PGHOST/backups"`
ALTER SYSTEM SET leyser.backup_directory = :'backups';
SELECT pg_reload_conf() \g /dev/null
SELECT pg_sleep(0.5) \g /dev/null
\c -reuse-previous=on - bank_backup
\echo '   So it does in tonight''s backup:'
\set QUIET off
\set VERBOSITY terse
\echo '   bank_backup=> SELECT leyser.take_backup();'
SELECT leyser.take_backup() AS generation;
\set QUIET on
\set VERBOSITY default
\c -reuse-previous=on - postgres
\echo '   … and in those of six nights more.'
\! for night in 2 3 4 5 6 7; do psql -X -q -At -f test/demo/day.psql -c "SET client_min_messages = warning; SELECT leyser.take_backup()" > /dev/null; done
SELECT 1 / (count(*) = 7)::int AS checked FROM leyser.backup_generation WHERE state = 'verified' \gset
\set others 'SELECT count(DISTINCT a.bid) AS branches, count(*) AS "rows", sum(a.abalance) AS balances, sum(hashtextextended(a::text, 0)::numeric) AS digest_of_all_rows FROM pgbench_accounts a WHERE a.bid <> 3'
\echo '   The other branches, before:'
:others;
:others \gset before_

\c -reuse-previous=on - bank_operator
\echo '   A day means its end, in the contract''s time zone:'
\echo '   bank_operator=> SELECT leyser.terminate_contract(''3'', ''2099-12-31'');'
SELECT leyser.terminate_contract('3', '2099-12-31', 'moved to another bank') AS locked_out_at;
\echo '   They want to go today.  So that is taken back, and the contract ends now:'
SELECT leyser.cancel_termination('3') \g /dev/null
\c -reuse-previous=on - bank_app
BEGIN;
SELECT set_config('leyser.token', :'token_ines', true) AS token;
SELECT count(*) AS accounts FROM pgbench_accounts;
\echo '   In another connection: bank_operator=> SELECT leyser.terminate_contract(''3'', now());'
\! psql -X -q -U bank_operator -c "SELECT leyser.terminate_contract('3', now(), 'moved to another bank')" > /dev/null
\echo '   The next statement of the open transaction:'
\set ON_ERROR_STOP off
SELECT count(*) FROM pgbench_accounts;
\ir refused.psql
ROLLBACK;
\c -reuse-previous=on - bank_operator
SELECT tenant_id, state, reason, requested_by FROM leyser.contract;
\echo '== 14. What a purge would do'
\echo
SELECT step, relation, action, rows, note FROM leyser.purge_plan('3') ORDER BY step;
\echo '== 15. The purge: rows, files, statistics, WAL; the caller only watches'
\echo
\set QUIET off
\set VERBOSITY terse
\echo '   bank_operator=> CALL leyser.purge(''3'');'
CALL leyser.purge('3');
\set QUIET on
\set VERBOSITY default
SELECT state, rows_deleted, tables_scrubbed, blockers FROM leyser.purge_status;
SELECT 1 / (state = 'erased')::int AS checked FROM leyser.purge_status \gset
SELECT part, left(subject, 40) AS subject, state, left(detail, 60) || CASE WHEN length(detail) > 60 THEN ' …' ELSE '' END AS detail FROM leyser.purge_report('3') WHERE subject !~ '^leyser\.';
\c -reuse-previous=on - postgres
\set found `grep -raoF ":note" ":data_directory" | wc -l`
\echo '   In the files of the data directory the note stands' :found 'times.'
SELECT 1 / (:found = 0)::int AS checked \gset
\echo '   The other branches, after:'
:others;
:others \gset after_
SELECT 1 / (:before_digest_of_all_rows = :after_digest_of_all_rows AND :before_rows = :after_rows)::int AS checked \gset
\echo '   What is left of branch 3 is that it was there:'
SELECT tenant_id, name, state, created_at::date AS created, ends_at::date AS ended FROM leyser.tenant WHERE tenant_id = '3';
DROP INDEX pgbench_accounts_filler;
