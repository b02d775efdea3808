\set SHOW_CONTEXT never
\echo
\echo '== 2. The extension, duties for roles, a keyring, tenants'
\echo
CREATE EXTENSION pg_cron;
CREATE EXTENSION leyser CASCADE;
SELECT leyser.grant_usage('bank_app', 'application'), leyser.grant_usage('bank_gateway', 'gateway'),
       leyser.grant_usage('bank_operator', 'operator'), leyser.grant_usage('bank_sales', 'provisioner'),
       leyser.grant_usage('bank_custodian', 'key_custodian'), leyser.grant_usage('bank_auditor', 'auditor') \g /dev/null
\echo '   A role that could step around row security is not accepted as an application:'
\echo '   =# SELECT leyser.grant_usage(''bank_owner'', ''application'');'
ALTER ROLE bank_owner CREATEROLE;
\set ON_ERROR_STOP off
SELECT leyser.grant_usage('bank_owner', 'application');
\ir refused.psql
ALTER ROLE bank_owner NOCREATEROLE;

\c -reuse-previous=on - bank_custodian
\echo '   bank_custodian=> SELECT leyser.initialize_keyring();'
SELECT leyser.initialize_keyring() \g /dev/null
SELECT regexp_replace(item, '[0-9]{8}T.*', '…') AS item, state FROM leyser.keyring_status();

\c -reuse-previous=on - postgres
CREATE TEMP TABLE branch AS SELECT bid FROM pgbench_branches;
GRANT SELECT ON branch TO bank_sales;
\echo '   bank_sales=> SELECT leyser.create_tenant(bid::text, format(''branch %s'', bid)) FROM branch;'
SET ROLE bank_sales;
SELECT count(leyser.create_tenant(bid::text, format('branch %s', bid))) AS tenants_created FROM branch;
