-- A tenant with very many grants, no two of which are alike: each of them is listed,
-- and taken away with its grantor's.

SET client_min_messages = warning;
SELECT leyser.create_permission('many.read', 'read'), leyser.create_tenant('many');
SELECT leyser.create_account('ada', 'many') > 0 AS ada;
BEGIN;
SELECT leyser.enter('many', 'ada');
SELECT leyser.create_account(a) > 0 AS made FROM unnest('{bob,cyd,dan}'::text[]) a;
SELECT leyser.grant_administrator('bob');
COMMIT;
INSERT INTO leyser.grant_record (account_id, kind, permission, scope, valid_from, valid_until, with_grant_option, granted_by)
    SELECT c.account_id, 'permission', 'many.read', 's' || i, now(), 'infinity', false, b.account_id
    FROM leyser.account_record b, leyser.account_record c, generate_series(1, 20000) i
    WHERE (b.tenant_id, b.account_name) = ('many', 'bob') AND (c.tenant_id, c.account_name) = ('many', 'cyd');

BEGIN;
SELECT leyser.enter('many', 'dan');
SELECT count(*) FROM leyser.granted;
COMMIT;
BEGIN;
SELECT leyser.enter('many', 'cyd');
SELECT count(*), count(DISTINCT scope) FROM leyser.granted;
COMMIT;
SELECT grant_id FROM leyser.grant_record JOIN leyser.account_record USING (account_id)
    WHERE tenant_id = 'many' AND account_name = 'bob' AND kind = 'administrator' \gset
SELECT cardinality(leyser.dependent_grants(ARRAY[:grant_id]));
-- some that the grantor holds besides stay
INSERT INTO leyser.grant_record (account_id, kind, permission, scope, valid_from, valid_until, with_grant_option)
    SELECT account_id, 'permission', 'many.read', s, now(), 'infinity', true
    FROM leyser.account_record, unnest('{s1,s2,s3}'::text[]) s WHERE tenant_id = 'many' AND account_name = 'bob';
SELECT cardinality(leyser.dependent_grants(ARRAY[:grant_id]));
DELETE FROM leyser.grant_record g USING leyser.account_record a WHERE a.account_id = g.account_id AND a.tenant_id = 'many' AND g.kind = 'permission';
