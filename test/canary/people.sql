-- People of two tenants and what they did, in leyser's own tables: markers in names of
-- tenants, accounts and roles, in scopes, reasons, issuers and contents of events.
-- Reads the markers (tenant, number, marker) from the file that psql variable
-- "markers" names.

CREATE TABLE marker (tenant_id text, id int, m text);
\set copy '\\copy marker FROM ' :'markers'
:copy
CREATE ROLE canary_support;
SELECT leyser.create_tenant(tenant_id, CASE WHEN tenant_id <> 'control' THEN m END) FROM marker WHERE id = 1;
SELECT leyser.create_permission('canary.read', 'reads canaries'), leyser.create_permission('canary.write', 'writes canaries');
DO $$
DECLARE
    tenant text;
BEGIN
    FOREACH tenant IN ARRAY '{canary,other}'::text[] LOOP
        PERFORM leyser.invite_account(m, tenant, administrator => true) FROM marker WHERE tenant_id = tenant AND id = 2;
        PERFORM leyser.import_account(m, '$2a$04$' || left(m || m, 53), tenant) FROM marker WHERE tenant_id = tenant AND id BETWEEN 3 AND 60;
        PERFORM leyser.invite_account(m, tenant) FROM marker WHERE tenant_id = tenant AND id BETWEEN 61 AND 120;
        PERFORM leyser.create_account('admin of ' || m, tenant, administrator => true) FROM marker WHERE tenant_id = tenant AND id = 121;
        PERFORM leyser.login(tenant, m, 'a wrong one') FROM marker WHERE tenant_id = tenant AND id BETWEEN 3 AND 10;
        PERFORM leyser.recover_administrator(tenant, m) FROM marker WHERE tenant_id = tenant AND id = 122;
    END LOOP;
END $$;
CREATE PROCEDURE administer(tenant text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM leyser.enter(tenant, 'admin of ' || m) FROM marker WHERE tenant_id = tenant AND id = 121;
    PERFORM leyser.create_role('role ' || m, '{canary.read}') FROM marker WHERE tenant_id = tenant AND id BETWEEN 130 AND 160;
    PERFORM leyser.grant_role(a.m, 'role ' || r.m, scope => lower(a.m))
        FROM marker a JOIN marker r ON r.tenant_id = a.tenant_id AND r.id = a.id + 120
        WHERE a.tenant_id = tenant AND a.id BETWEEN 10 AND 40;
    PERFORM leyser.deny_permission(m, 'canary.write', scope => lower(m)) FROM marker WHERE tenant_id = tenant AND id BETWEEN 10 AND 20;
    PERFORM leyser.rename_account(m, 'renamed ' || reverse(m)) FROM marker WHERE tenant_id = tenant AND id BETWEEN 41 AND 50;
    PERFORM leyser.disable_account(m) FROM marker WHERE tenant_id = tenant AND id BETWEEN 51 AND 55;
    PERFORM leyser.delete_account(m) FROM marker WHERE tenant_id = tenant AND id BETWEEN 56 AND 60;
    PERFORM leyser.drop_role('role ' || m, cascade => true) FROM marker WHERE tenant_id = tenant AND id BETWEEN 155 AND 160;
    PERFORM leyser.grant_support_access('canary_support', '1 hour', m) FROM marker WHERE tenant_id = tenant AND id BETWEEN 161 AND 165;
    COMMIT;
END $$;
CALL administer('canary');
CALL administer('other');
DROP PROCEDURE administer;
INSERT INTO leyser.session_record (session_id, tenant_id, account_id, expires_at, client_address)
    SELECT gen_random_uuid(), a.tenant_id, a.account_id, now() + interval '1 hour', '10.1.2.3' FROM leyser.account_record a;
INSERT INTO leyser.familiar_address (account_id, network) SELECT a.account_id, '10.1.2.3' FROM leyser.account_record a;
DROP TABLE marker;
