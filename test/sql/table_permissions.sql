-- set_permissions(): restrictive policies that nobody's policy, view or function
-- widens.
SELECT current_user AS superuser \gset
CREATE ROLE regress_leyser_owner;
CREATE ROLE regress_leyser_app LOGIN;
CREATE ROLE regress_leyser_operator LOGIN;
ALTER ROLE regress_leyser_app SET search_path = regress_leyser_permit;
CREATE SCHEMA regress_leyser_permit AUTHORIZATION regress_leyser_owner;
GRANT USAGE ON SCHEMA regress_leyser_permit TO regress_leyser_app, regress_leyser_operator;
SELECT leyser.grant_usage('regress_leyser_app', 'application'), leyser.grant_usage('regress_leyser_operator', 'operator');
SELECT leyser.create_tenant('61'), leyser.create_tenant('62');
INSERT INTO leyser.permission_record VALUES ('doc.read', 'read'), ('doc.write', 'write');
INSERT INTO leyser.account_record (tenant_id, account_name, name_key, state)
    VALUES ('61', 'all', 'all', 'active'), ('61', 'jp', 'jp', 'active'), ('61', 'none', 'none', 'active'), ('62', 'jp', 'jp', 'active');
INSERT INTO leyser.grant_record (account_id, kind, permission, scope, valid_from, valid_until, with_grant_option)
    SELECT a.account_id, g.kind, g.permission, g.scope, '-infinity', 'infinity', false
    FROM leyser.account_record a JOIN (VALUES ('all', 'administrator', NULL, NULL),
        ('jp', 'permission', 'doc.read', 'jp'), ('jp', 'permission', 'doc.write', 'jp.tokyo')) g (name, kind, permission, scope)
    ON a.account_name = g.name WHERE a.tenant_id = '61';
SELECT leyser.issue_token('61', 'all') AS all, leyser.issue_token('61', 'jp') AS jp,
    leyser.issue_token('61', 'none') AS none, leyser.issue_token('62', 'jp') AS other, leyser.issue_token('61') AS nobody \gset

SET ROLE regress_leyser_owner;
SET search_path = regress_leyser_permit;
CREATE TABLE doc (tenant_id bigint NOT NULL, id int NOT NULL, place varchar(50), PRIMARY KEY (tenant_id, id)) PARTITION BY RANGE (id);
CREATE TABLE doc_1 PARTITION OF doc FOR VALUES FROM (0) TO (100);
INSERT INTO doc SELECT t, n, (ARRAY['jp', 'jp.tokyo', 'us', NULL, 'not a path'])[n] FROM generate_series(61, 62) t, generate_series(1, 5) n;
-- somebody's own, generous policy
CREATE POLICY everybody ON doc USING (true) WITH CHECK (true);

-- What cannot be.
CALL trial.attempt($$SELECT leyser.set_permissions('doc', 'doc.read')$$);
SELECT leyser.protect('doc');
CALL trial.attempt($$SELECT leyser.set_permissions('doc', 'doc.raed')$$);
CALL trial.attempt($$SELECT leyser.set_permissions('doc', 'doc.read', scope_column => 'id')$$);
CALL trial.attempt($$SELECT leyser.set_permissions('doc', 'doc.read', scope_column => 'plaec')$$);
CALL trial.attempt($$SELECT leyser.set_permissions('doc', scope_column => 'place')$$);
CALL trial.attempt($$SELECT leyser.set_permissions('doc_1', 'doc.read')$$);
CALL trial.attempt($$SELECT leyser.set_permissions('leyser.grant_record', 'doc.read')$$);
CALL trial.attempt($$SELECT leyser.set_permissions('pg_class', 'doc.read')$$);
SELECT count(*) FROM pg_policy WHERE polname ~ 'permission' AND polrelid::regclass::text ~ 'doc';

SELECT leyser.set_permissions('doc', 'doc.read', 'doc.write', 'place');
CREATE TABLE doc_2 PARTITION OF doc FOR VALUES FROM (100) TO (200);
ALTER TABLE doc RENAME place TO location;
CREATE VIEW everything AS SELECT * FROM doc;
CREATE FUNCTION read_all() RETURNS SETOF int LANGUAGE sql SECURITY DEFINER AS 'SELECT id FROM regress_leyser_permit.doc ORDER BY id';
GRANT ALL ON ALL TABLES IN SCHEMA regress_leyser_permit TO regress_leyser_app;

-- The owner adds; to change or to remove is an operator's, or nobody's.
CALL trial.attempt($$SELECT leyser.set_permissions('doc', 'doc.read')$$);
CALL trial.attempt($$SELECT leyser.set_permissions('doc', write_permission => 'doc.read')$$);
CALL trial.attempt($$SELECT leyser.set_permissions('doc', '')$$);
CALL trial.attempt($$SELECT leyser.set_permissions('doc', scope_column => '')$$);
CALL trial.attempt($$DROP POLICY leyser_permission_read ON doc$$);
CALL trial.attempt($$ALTER POLICY leyser_permission_read ON doc USING (true)$$);
CALL trial.attempt($$ALTER TABLE doc DROP COLUMN location CASCADE$$);
RESET search_path;
\c - regress_leyser_app
CALL trial.attempt($$SELECT leyser.set_permissions('regress_leyser_permit.doc', 'doc.write')$$);

-- Each reads and writes what it may.
BEGIN; SELECT set_config('leyser.token', :'all', true) \g /dev/null
SELECT id, location FROM doc ORDER BY id;
UPDATE doc SET id = id + 10 WHERE id = 3 RETURNING id;
ROLLBACK;
BEGIN; SELECT set_config('leyser.token', :'jp', true) \g /dev/null
SELECT id, location FROM doc ORDER BY id;
SELECT id FROM doc_1 ORDER BY id;
SELECT id FROM everything ORDER BY id;
SELECT read_all();
UPDATE doc SET id = 120 WHERE location = 'jp' RETURNING id;
UPDATE doc SET id = 120 RETURNING id;
DELETE FROM doc RETURNING id;
INSERT INTO doc VALUES (61, 7, 'jp.tokyo.shibuya') RETURNING id;
SAVEPOINT one;
INSERT INTO doc VALUES (61, 8, 'jp');
ROLLBACK TO one;
INSERT INTO doc_2 VALUES (61, 108, 'us');
ROLLBACK TO one;
UPDATE doc SET location = 'us' WHERE id = 7;
ROLLBACK TO one;
INSERT INTO doc VALUES (61, 8, 'no path');
ROLLBACK TO one;
INSERT INTO doc VALUES (61, 7, 'jp.tokyo') ON CONFLICT (tenant_id, id) DO UPDATE SET location = 'us';
ROLLBACK;
BEGIN; SELECT set_config('leyser.token', :'none', true) \g /dev/null
SELECT count(*) FROM doc;
DELETE FROM doc;
ROLLBACK;
-- no account; an account of the same name in another tenant
BEGIN; SELECT set_config('leyser.token', :'nobody', true) \g /dev/null
SELECT count(*) FROM doc;
ROLLBACK;
BEGIN; SELECT set_config('leyser.token', :'other', true) \g /dev/null
SELECT count(*) FROM doc;
ROLLBACK;
SELECT count(*) FROM doc;

-- The tenant comes first: no other tenant's row is asked for its scope; indexes
-- are used, and the estimate is the tenant's.  The owner asks: an application may
-- not EXPLAIN.
\c - :superuser
SET ROLE regress_leyser_owner;
SET search_path = regress_leyser_permit;
BEGIN; SELECT set_config('leyser.token', :'all', true) \g /dev/null
SELECT set_config(s, 'off', true) FROM unnest('{enable_indexscan, enable_bitmapscan}'::text[]) s \g /dev/null
EXPLAIN (COSTS OFF) SELECT * FROM doc_1;
SELECT set_config('enable_indexscan', 'on', true), set_config('enable_seqscan', 'off', true) \g /dev/null
EXPLAIN (COSTS OFF) SELECT * FROM doc_1 WHERE id = 3;
COMMIT;

-- What is registered, what is missing where somebody lifted the guards.
\c - :superuser
SET search_path = regress_leyser_permit;
SELECT relation, gaps, read_permission, write_permission, scope_column FROM leyser.governed_table
    WHERE read_permission IS NOT NULL ORDER BY relation::text;
SELECT polname, polcmd, polpermissive, pg_get_expr(polqual, polrelid) AS using, pg_get_expr(polwithcheck, polrelid) AS with_check
    FROM pg_policy WHERE polrelid = 'doc_2'::regclass ORDER BY 1;
BEGIN;
SET LOCAL leyser.guards = off;
DROP POLICY leyser_permission_insert ON doc_1;
ALTER POLICY leyser_permission_read ON doc_1 USING (leyser.row_permission('doc.read', location) OR true);
ALTER POLICY leyser_permission_update ON doc_1 TO regress_leyser_app;
SELECT gaps FROM leyser.governed_table WHERE relation = 'doc_1'::regclass;
-- protect() again puts them back
SELECT leyser.protect('doc');
SELECT gaps FROM leyser.governed_table WHERE relation = 'doc_1'::regclass;
ROLLBACK;
-- a permission that a table asks for stays
DELETE FROM leyser.permission_record WHERE permission = 'doc.read';

-- An operator changes and removes; unprotect() leaves nothing.
\c - regress_leyser_operator
SELECT leyser.set_permissions('regress_leyser_permit.doc', '', scope_column => '');
SELECT relation, gaps, read_permission, write_permission, scope_column FROM leyser.governed_table
    WHERE write_permission IS NOT NULL ORDER BY relation::text;
\c - regress_leyser_app
BEGIN; SELECT set_config('leyser.token', :'jp', true) \g /dev/null
SELECT count(*) FROM regress_leyser_permit.doc;
DELETE FROM regress_leyser_permit.doc;
ROLLBACK;
\c - regress_leyser_operator
SELECT leyser.set_permissions('regress_leyser_permit.doc', write_permission => '');
SELECT count(*) FROM pg_policy WHERE polname ~ 'permission' AND polrelid::regclass::text ~ 'doc';
SELECT leyser.set_permissions('regress_leyser_permit.doc', 'doc.read', 'doc.write', 'location');
SELECT leyser.unprotect('regress_leyser_permit.doc');
SELECT polname FROM pg_policy WHERE polname ~ '^leyser_' AND polrelid::regclass::text ~ '^regress_leyser_permit';

\c - :superuser
SELECT event, object, detail FROM leyser.event WHERE event = 'table.permissions_set' AND object ~ '^regress_leyser_permit' ORDER BY event_id;
SET client_min_messages = warning;
SELECT leyser.revoke_usage('regress_leyser_app', 'application'), leyser.revoke_usage('regress_leyser_operator', 'operator');
DROP SCHEMA regress_leyser_permit CASCADE;
DELETE FROM leyser.grant_record g USING leyser.account_record a WHERE a.account_id = g.account_id AND a.tenant_id ~ '^6[12]$';
DELETE FROM leyser.permission_record WHERE permission ~ '^doc';
DELETE FROM leyser.account_record WHERE tenant_id ~ '^6[12]$';
DROP ROLE regress_leyser_owner, regress_leyser_app, regress_leyser_operator;
