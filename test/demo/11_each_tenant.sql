\set SHOW_CONTEXT never
\echo
\echo '== 20. The job of the month''s end, for each branch in its own context'
\echo
CREATE ROLE bank_jobs LOGIN;
GRANT SELECT, UPDATE ON pgbench_accounts TO bank_jobs;
SELECT leyser.grant_usage('bank_jobs', 'gateway') \g /dev/null
SELECT count(*) AS charged, sum(abalance) AS balances FROM pgbench_accounts WHERE aid % 1000 = 0 \gset before_
\c -reuse-previous=on - bank_jobs
\echo '   As it was written for one bank, it is refused:'
\echo '   bank_jobs=> UPDATE pgbench_accounts SET abalance = abalance - 1 WHERE aid % 1000 = 0;'
\set ON_ERROR_STOP off
UPDATE pgbench_accounts SET abalance = abalance - 1 WHERE aid % 1000 = 0;
\ir refused.psql
\echo '   One transaction a branch does it right; what fails, fails alone, and the same call goes on after a crash:'
\set QUIET off
\set VERBOSITY terse
\echo '   bank_jobs=> CALL leyser.for_each_tenant(''UPDATE pgbench_accounts SET …'', label => ''fee of November'');'
CALL leyser.for_each_tenant('UPDATE pgbench_accounts SET abalance = abalance - 1 WHERE aid % 1000 = 0', label => 'fee of November');
\set QUIET on
\set VERBOSITY default
SELECT label, count(*) AS branches, min(state) AS state FROM leyser.each_tenant GROUP BY label;
\c -reuse-previous=on - postgres
SELECT count(*) AS charged, sum(abalance) AS balances FROM pgbench_accounts WHERE aid % 1000 = 0 \gset after_
SELECT 1 / (:before_charged > 0 AND :before_balances - :after_balances = :before_charged)::int AS checked \gset
\echo '   Every account was charged once:' :after_charged
