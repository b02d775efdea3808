\set SHOW_CONTEXT never
\echo
\echo '== 3. Protect the tables: what must be made first is told as SQL to paste'
\echo
\c -reuse-previous=on - bank_operator
SET ROLE bank_owner;
\echo '   bank_owner=> SELECT leyser.protect(''pgbench_accounts'', ''bid'');'
\set ON_ERROR_STOP off
SELECT leyser.protect('pgbench_accounts', 'bid');
\ir refused.psql
\echo '   So the owner of the tables does that, online, and asks again:'
ALTER TABLE pgbench_accounts ADD CONSTRAINT tenant_not_null CHECK (bid IS NOT NULL) NOT VALID;
ALTER TABLE pgbench_accounts VALIDATE CONSTRAINT tenant_not_null;
ALTER TABLE pgbench_accounts ALTER COLUMN bid SET NOT NULL;
ALTER TABLE pgbench_accounts DROP CONSTRAINT tenant_not_null;
ALTER TABLE pgbench_tellers ALTER COLUMN bid SET NOT NULL;
ALTER TABLE pgbench_history ALTER COLUMN bid SET NOT NULL;
\set ON_ERROR_STOP off
SELECT leyser.protect('pgbench_accounts', 'bid');
\ir refused.psql
CREATE INDEX CONCURRENTLY pgbench_accounts_bid ON pgbench_accounts (bid);
SELECT leyser.protect('pgbench_branches', 'bid'), leyser.protect('pgbench_tellers', 'bid'),
       leyser.protect('pgbench_accounts', 'bid'), leyser.protect('pgbench_history', 'bid') \g /dev/null
RESET ROLE;
SELECT relation, kind, tenant_column, enforcement FROM leyser.governed_table
WHERE kind IS NOT NULL ORDER BY relation::text;
\echo '   What is left is told, not hidden:'
SELECT relation, unnest(gaps) AS gap FROM leyser.governed_table WHERE kind IS NOT NULL ORDER BY 1;
