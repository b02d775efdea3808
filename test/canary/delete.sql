-- Deletes a tenant's rows (psql variable "tenant"), and nothing more.

BEGIN;
UPDATE customer SET last_line = NULL WHERE tenant_id = :'tenant';
DELETE FROM line WHERE tenant_id = :'tenant';
DELETE FROM invoice WHERE tenant_id = :'tenant';
DELETE FROM customer WHERE tenant_id = :'tenant';
DELETE FROM region WHERE tenant_id = :'tenant';
COMMIT;
DELETE FROM kept WHERE tenant_id = :'tenant';
DELETE FROM long_value WHERE tenant_id = :'tenant';
DELETE FROM by_tenant WHERE tenant_id = :'tenant';
DELETE FROM by_hash WHERE tenant_id = :'tenant';
DELETE FROM parent WHERE tenant_id = :'tenant';
DELETE FROM fleeting WHERE tenant_id = :'tenant';
DELETE FROM elsewhere WHERE tenant_id = :'tenant';
REFRESH MATERIALIZED VIEW seen;
