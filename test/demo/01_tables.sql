\set SHOW_CONTEXT never
\echo
\echo '== 1. A bank with ten branches in one database'
\echo '   The tables are those of pgbench.  Each branch is a tenant of the service.'
\echo
SELECT 'pgbench_branches' AS "table", count(*) AS "rows" FROM pgbench_branches
UNION ALL SELECT 'pgbench_tellers', count(*) FROM pgbench_tellers
UNION ALL SELECT 'pgbench_accounts', count(*) FROM pgbench_accounts;

CREATE ROLE bank_owner;                -- owns the tables, runs migrations
CREATE ROLE bank_app LOGIN;            -- the application
CREATE ROLE bank_gateway LOGIN;        -- the middle tier that hands out tokens
CREATE ROLE bank_operator LOGIN;       -- runs the service; sees no rows
CREATE ROLE bank_sales LOGIN;          -- makes tenants, and invites their first administrators
CREATE ROLE bank_custodian LOGIN;      -- keeps the keys; sees no rows
CREATE ROLE bank_auditor LOGIN;        -- reads the records; changes nothing
GRANT bank_owner TO bank_operator;
GRANT CREATE ON SCHEMA public TO bank_owner;
ALTER TABLE pgbench_branches OWNER TO bank_owner;
ALTER TABLE pgbench_tellers OWNER TO bank_owner;
ALTER TABLE pgbench_accounts OWNER TO bank_owner;
ALTER TABLE pgbench_history OWNER TO bank_owner;
GRANT SELECT, INSERT, UPDATE, DELETE ON pgbench_branches, pgbench_tellers, pgbench_accounts,
    pgbench_history TO bank_app;

\echo '   Without leyser, one forgotten WHERE shows everybody''s accounts:'
\echo '   bank_app=> SELECT count(DISTINCT bid) AS branches_seen FROM pgbench_accounts;'
\c -reuse-previous=on - bank_app
SELECT count(DISTINCT bid) AS branches_seen FROM pgbench_accounts;
