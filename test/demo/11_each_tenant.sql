\set SHOW_CONTEXT never
\echo
\echo '== 21. The job of the month''s end, for each branch in its own context'
\echo
CREATE ROLE bank_jobs LOGIN;
GRANT SELECT, UPDATE ON pgbench_tellers TO bank_jobs;
SELECT leyser.grant_usage('bank_jobs', 'gateway') \g /dev/null
SELECT count(*) AS charged, sum(tbalance) AS balances FROM pgbench_tellers \gset before_
\c -reuse-previous=on - bank_jobs
\echo '   As it was written for one bank, it is refused:'
\echo '   bank_jobs=> UPDATE pgbench_tellers SET tbalance = tbalance - 1;'
\set ON_ERROR_STOP off
UPDATE pgbench_tellers SET tbalance = tbalance - 1;
\ir refused.psql
\echo '   One transaction a branch does it right; what fails, fails alone, and the same call goes on after a crash:'
\set QUIET off
\set VERBOSITY terse
\echo '   bank_jobs=> CALL leyser.for_each_tenant(''UPDATE pgbench_tellers SET …'', label => ''fee of November'');'
CALL leyser.for_each_tenant('UPDATE pgbench_tellers SET tbalance = tbalance - 1', label => 'fee of November');
\set QUIET on
\set VERBOSITY default
SELECT label, count(*) AS branches, min(state) AS state FROM leyser.each_tenant GROUP BY label;
\c -reuse-previous=on - postgres
SELECT count(*) AS charged, sum(tbalance) AS balances FROM pgbench_tellers \gset after_
SELECT 1 / (:before_charged > 0 AND :before_balances - :after_balances = :before_charged)::int AS checked \gset
\echo '   Every teller was charged once:' :after_charged
