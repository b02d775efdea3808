\set SHOW_CONTEXT never
\echo
\echo '== 23. A superuser looks: nothing stops it, and it is on record'
\echo
\c -reuse-previous=on - postgres
\echo '   postgres=# SELECT count(*) FROM pgbench_accounts WHERE bid = 4;'
SELECT count(*) AS accounts FROM pgbench_accounts WHERE bid = 4;
\c -reuse-previous=on - bank_auditor
\echo '   bank_auditor=> SELECT … FROM leyser.privileged_access;'
SELECT to_char(at, 'HH24:MI') AS at, session_role, bypass, command, relation, statements FROM leyser.privileged_access
WHERE command = 'SELECT' ORDER BY leyser.privileged_access.at DESC LIMIT 1;
SELECT 1 / (count(*) > 0)::int AS checked FROM leyser.privileged_access WHERE command = 'SELECT' AND session_role = 'postgres' \gset
\c -reuse-previous=on - postgres

\echo '== 24. Separation decays: a view is made for a report, as whom nothing binds'
\echo
CREATE VIEW branch_totals AS SELECT bid, sum(tbalance) AS total FROM pgbench_tellers GROUP BY bid;
GRANT SELECT ON branch_totals TO bank_app;
\echo '   bank_app sees the totals of all branches through it:'
\c -reuse-previous=on - bank_gateway
SELECT leyser.issue_token('4') AS token_4 \gset
\c -reuse-previous=on - bank_app
BEGIN;
SELECT set_config('leyser.token', :'token_4', true) AS token;
SELECT count(*) AS branches_seen FROM branch_totals;
COMMIT;
\echo '   The check finds it …'
\c -reuse-previous=on - bank_auditor
\echo '   bank_auditor=> SELECT check_id, severity, finding, remedy FROM leyser.check_security() WHERE object LIKE ''%branch_totals%'';'
\x on
SELECT check_id, severity, finding, remedy FROM leyser.check_security() WHERE object LIKE '%branch_totals%';
\x off
\echo '   … its remedy is pasted …'
\c -reuse-previous=on - postgres
SELECT 1 / (count(*) > 0)::int AS checked FROM leyser.check_security() WHERE object LIKE '%branch_totals%' \gset
SELECT DISTINCT remedy FROM leyser.check_security() WHERE object LIKE '%branch_totals%' \gexec
\echo '   … and it is mended:'
SELECT count(*) AS findings FROM leyser.check_security() WHERE object LIKE '%branch_totals%';
SELECT 1 / (count(*) = 0)::int AS checked FROM leyser.check_security() WHERE object LIKE '%branch_totals%' \gset
\c -reuse-previous=on - bank_app
BEGIN;
SELECT set_config('leyser.token', :'token_4', true) AS token;
SELECT count(*) AS branches_seen, min(bid) AS branch FROM branch_totals;
SELECT 1 / (count(*) = 1)::int AS checked FROM branch_totals \gset
COMMIT;

\echo '== 25. The record itself: an event is altered, by who can do everything'
\echo
\c -reuse-previous=on - bank_auditor
\echo '   bank_auditor=> SELECT * FROM leyser.verify_events();   -- no row: unbroken'
SELECT tenant, event_id, problem, detail FROM leyser.verify_events();
SELECT 1 / (count(*) = 0)::int AS checked FROM leyser.verify_events() \gset
\c -reuse-previous=on - postgres
\echo '   postgres=# UPDATE leyser.event_record SET session_role = ''bank_operator'' WHERE …'
\set ON_ERROR_STOP off
UPDATE leyser.event_record SET session_role = 'bank_operator' WHERE event = 'usage.granted';
\ir refused.psql
\echo '   It takes the triggers away that refuse this, and puts them back:'
SELECT tableoid::regclass AS month, event_id FROM leyser.event_record WHERE event = 'usage.granted' ORDER BY event_id LIMIT 1 \gset
SET leyser.guards = off;
BEGIN;
ALTER TABLE :month DISABLE TRIGGER refuse_change;
UPDATE :month SET session_role = 'bank_auditor' WHERE event_id = :event_id;
ALTER TABLE :month ENABLE ALWAYS TRIGGER refuse_change;
COMMIT;
\c -reuse-previous=on - bank_auditor
\echo '   bank_auditor=> SELECT * FROM leyser.verify_events();'
SELECT tenant, event_id, problem, detail FROM leyser.verify_events();
SELECT 1 / (count(*) = 1 AND min(event_id) = :event_id)::int AS checked FROM leyser.verify_events() \gset
