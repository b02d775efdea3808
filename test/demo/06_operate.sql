\set SHOW_CONTEXT never
\echo '== 7. A tenant is suspended while its connection is open'
\echo
\c -reuse-previous=on - bank_gateway
SELECT leyser.issue_token('3') AS token_3 \gset
\c -reuse-previous=on - bank_app
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT set_config('leyser.token', :'token_3', true) AS token;
SELECT count(*) AS accounts FROM pgbench_accounts;
\echo '   In another connection: bank_operator=> SELECT leyser.suspend_tenant(''3'');'
\! psql -X -q -U bank_operator -c "SELECT leyser.suspend_tenant('3')" > /dev/null
\echo '   The next statement of the open transaction:'
\set ON_ERROR_STOP off
SELECT count(*) FROM pgbench_accounts;
\ir refused.psql
ROLLBACK;
\! psql -X -q -U bank_operator -c "SELECT leyser.resume_tenant('3')" > /dev/null
\echo '== 8. Nobody opens a protected table unseen'
\echo
\c -reuse-previous=on - bank_operator
SET ROLE bank_owner;
\echo '   bank_owner=> ALTER TABLE pgbench_accounts DISABLE ROW LEVEL SECURITY;'
\set ON_ERROR_STOP off
ALTER TABLE pgbench_accounts DISABLE ROW LEVEL SECURITY;
\ir refused.psql
\echo '   bank_owner=> DROP POLICY leyser_tenant ON pgbench_accounts;'
\set ON_ERROR_STOP off
DROP POLICY leyser_tenant ON pgbench_accounts;
\ir refused.psql
\echo '   bank_owner=> TRUNCATE pgbench_history;'
\set ON_ERROR_STOP off
TRUNCATE pgbench_history;
\ir refused.psql
\c -reuse-previous=on - postgres
\echo '   postgres=# DROP EXTENSION leyser CASCADE;'
\set ON_ERROR_STOP off
DROP EXTENSION leyser CASCADE;
\ir refused.psql
\echo '== 9. Who did what: the event log (each event is also a line of the server log)'
\echo
\c -reuse-previous=on - bank_auditor
SELECT event, count(*), max(caller_role) AS caller, max(object) AS "for example" FROM leyser.event
GROUP BY event ORDER BY min(event_id);
