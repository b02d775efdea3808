-- Bad input: SQLSTATE, detail and hint, and nothing changed.

SELECT current_user AS superuser, current_database() AS database \gset
SET client_min_messages = warning;
CREATE ROLE regress_leyser_owner;
CREATE ROLE regress_leyser_app;
CREATE ROLE regress_leyser_provisioner;
CREATE ROLE regress_leyser_operator;
SELECT leyser.grant_usage('regress_leyser_provisioner', 'provisioner'), leyser.grant_usage('regress_leyser_operator', 'operator');
CREATE SCHEMA regress_leyser_bad AUTHORIZATION regress_leyser_owner;
GRANT USAGE ON SCHEMA regress_leyser_bad TO PUBLIC;
SET search_path = regress_leyser_bad;
-- everything that a call could change, as one digest
CREATE FUNCTION state() RETURNS text LANGUAGE sql AS $$
    SELECT md5(concat(
        trial.digest(),
        (SELECT string_agg(p::text, ',' ORDER BY p::text) FROM pg_policy p),
        (SELECT string_agg(oid || ' ' || relrowsecurity || relforcerowsecurity, ',' ORDER BY oid) FROM pg_class),
        (SELECT string_agg(d::text, ',' ORDER BY d::text) FROM pg_attrdef d),
        (SELECT string_agg(oid || proacl::text, ',' ORDER BY oid) FROM pg_proc)))
$$;

SET ROLE regress_leyser_owner;
CREATE TABLE fine (tenant_id text NOT NULL);
CREATE TABLE lacking (id int);
CREATE TABLE nullable (tenant_id text);
CREATE TABLE as_numeric (tenant_id numeric NOT NULL);
CREATE TABLE as_json (tenant_id jsonb NOT NULL);
CREATE TABLE as_char (tenant_id char(10) NOT NULL);
CREATE TABLE as_name (tenant_id name NOT NULL);
CREATE TABLE as_array (tenant_id text[] NOT NULL);
CREATE DOMAIN number AS numeric;
CREATE TABLE as_domain (tenant_id number NOT NULL);
CREATE COLLATION ignoring (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE ignoring_case (tenant_id text COLLATE ignoring NOT NULL);
CREATE DOMAIN ignoring_domain AS text COLLATE ignoring;
CREATE TABLE ignoring_case_too (tenant_id ignoring_domain NOT NULL);
CREATE TABLE not_canonical (tenant_id text NOT NULL);
INSERT INTO not_canonical VALUES ('042'), ('fine'), ('{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}'), (''), (repeat('x', 201)), ('042'), ('42');
CREATE VIEW a_view AS SELECT * FROM fine;
CREATE MATERIALIZED VIEW a_matview AS SELECT * FROM fine;
CREATE SEQUENCE a_sequence;
CREATE TYPE a_type AS (tenant_id text);
CREATE INDEX an_index ON fine (tenant_id);
CREATE TEMP TABLE a_temporary (tenant_id text NOT NULL);
CREATE TABLE parted (tenant_id text NOT NULL, i int) PARTITION BY LIST (i);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE parent (tenant_id text NOT NULL, id int PRIMARY KEY, UNIQUE (tenant_id, id));
CREATE TABLE child (tenant_id text NOT NULL, id int REFERENCES parent);
CREATE TABLE child_well (tenant_id text NOT NULL, id int, FOREIGN KEY (tenant_id, id) REFERENCES parent (tenant_id, id));
CREATE TABLE policy_names (tenant_id text NOT NULL);
CREATE POLICY leyser_rows ON policy_names USING (false);
CREATE TABLE large (id int, tenant_id text NOT NULL, filler text);
ALTER TABLE large ALTER COLUMN filler SET STORAGE PLAIN;
INSERT INTO large SELECT i, 'fine', repeat('x', 1000) FROM generate_series(1, 9000) i;
CREATE INDEX ON large (id, tenant_id);
CREATE INDEX ON large (tenant_id) WHERE id > 0;
CREATE TABLE dropped_column (tenant_id text);
ALTER TABLE dropped_column DROP COLUMN tenant_id;
RESET ROLE;
CREATE FOREIGN DATA WRAPPER regress_leyser_wrapper;
CREATE SERVER regress_leyser_server FOREIGN DATA WRAPPER regress_leyser_wrapper;
CREATE FOREIGN TABLE a_foreign (tenant_id text NOT NULL) SERVER regress_leyser_server;
SELECT state() AS before \gset

-- protect(): what is no table, or not one to protect.
CALL trial.attempt($$SELECT leyser.protect('unknown')$$);
CALL trial.attempt($$SELECT leyser.protect(NULL)$$);
CALL trial.attempt($$SELECT leyser.unprotect(NULL)$$);
CALL trial.attempt($$SELECT leyser.unprotect('pg_views')$$);
CALL trial.attempt($$SELECT leyser.unprotect('fine')$$);
CALL trial.attempt($$SELECT leyser.protect(0)$$);
CALL trial.attempt($$SELECT leyser.protect('a_view')$$);
CALL trial.attempt($$SELECT leyser.protect('a_matview')$$);
CALL trial.attempt($$SELECT leyser.protect('a_foreign')$$);
CALL trial.attempt($$SELECT leyser.protect('pg_class')$$);
CALL trial.attempt($$SELECT leyser.protect('information_schema.sql_parts', 'feature_id')$$);
CALL trial.attempt($$SELECT leyser.protect('leyser.tenant_record')$$);
CALL trial.attempt($$SELECT leyser.protect('a_temporary')$$);
CALL trial.attempt($$SELECT leyser.protect('a_sequence')$$);
CALL trial.attempt($$SELECT leyser.protect('a_type')$$);
CALL trial.attempt($$SELECT leyser.protect('an_index')$$);
CALL trial.attempt($$SELECT leyser.protect('parted_1')$$);

-- protect(): the tenant column.
CALL trial.attempt($$SELECT leyser.protect('lacking')$$);
CALL trial.attempt($$SELECT leyser.protect('dropped_column')$$);
CALL trial.attempt($$SELECT leyser.protect('fine', 'Tenant_id')$$);
CALL trial.attempt($$SELECT leyser.protect('fine', 'ctid')$$);
CALL trial.attempt($$SELECT leyser.protect('fine', '')$$);
CALL trial.attempt($$SELECT leyser.protect('as_numeric')$$);
CALL trial.attempt($$SELECT leyser.protect('as_json')$$);
CALL trial.attempt($$SELECT leyser.protect('as_char')$$);
CALL trial.attempt($$SELECT leyser.protect('as_name')$$);
CALL trial.attempt($$SELECT leyser.protect('as_array')$$);
CALL trial.attempt($$SELECT leyser.protect('as_domain')$$);
CALL trial.attempt($$SELECT leyser.protect('ignoring_case')$$);
CALL trial.attempt($$SELECT leyser.protect('ignoring_case_too')$$);
CALL trial.attempt($$SELECT leyser.protect('nullable')$$);
CALL trial.attempt($$SELECT leyser.protect('not_canonical')$$);
SELECT DISTINCT left(tenant_id, 40) AS tenant_id, leyser.tenant_id_problem(tenant_id) FROM not_canonical WHERE leyser.tenant_id_problem(tenant_id) IS NOT NULL ORDER BY 1;
CALL trial.attempt($$SELECT leyser.protect('large')$$);
CALL trial.attempt($$SELECT leyser.protect('policy_names')$$);
CALL trial.attempt($$SELECT leyser.protect('fine', kind => 'shared')$$);
CALL trial.attempt($$SELECT leyser.protect('fine', kind => '')$$);
CALL trial.attempt($$SELECT leyser.protect('fine', enforcement => 'never')$$);
CALL trial.attempt($$SELECT leyser.protect('fine') FROM (SELECT set_config('role', 'regress_leyser_app', true)) s$$);
SELECT state() = :'before' AS nothing_changed;

-- Foreign keys without the tenant columns: told from both sides, with the cure.
SELECT leyser.protect('parent');
SELECT state() AS before \gset
CALL trial.attempt($$SELECT leyser.protect('child')$$);
SELECT state() = :'before' AS nothing_changed;
SELECT leyser.protect('child_well');
SELECT leyser.protect('child', accept_gaps => true);
SELECT leyser.unprotect('parent');
CALL trial.attempt($$SELECT leyser.protect('parent')$$);
SELECT gaps FROM leyser.governed_table WHERE relation = 'child'::regclass;
SELECT leyser.protect('parent', accept_gaps => true);
SELECT relation, gaps FROM leyser.governed_table WHERE relation IN ('child'::regclass, 'parent'::regclass) ORDER BY 1;
SELECT leyser.unprotect('child'), leyser.unprotect('child_well'), leyser.unprotect('parent');

-- What the hints say works when pasted.
ALTER TABLE nullable ADD CONSTRAINT tenant_not_null CHECK (tenant_id IS NOT NULL) NOT VALID;
ALTER TABLE nullable VALIDATE CONSTRAINT tenant_not_null;
ALTER TABLE nullable ALTER COLUMN tenant_id SET NOT NULL;
ALTER TABLE nullable DROP CONSTRAINT tenant_not_null;
SELECT leyser.protect('nullable');
CREATE INDEX CONCURRENTLY ON large (tenant_id);
SELECT leyser.protect('large'), leyser.unprotect('large');
SELECT leyser.protect('parted');

-- Names with quotes, spaces, 63 bytes of multibyte characters.
CREATE TABLE "it's a ""table""" ("tenant's ""id""" text NOT NULL DEFAULT 'it''s');
INSERT INTO "it's a ""table""" VALUES ('bad '' "quotes"');
SELECT leyser.protect('"it''s a ""table"""', 'tenant''s "id"');
CREATE TABLE 三十三三十三三十三三十三三十三三十三三十三 (四十四四十四四十四四十四四十四四十四四十四 text);
SELECT octet_length(relname::text) FROM pg_class WHERE relname LIKE '三十%';
SELECT leyser.protect('三十三三十三三十三三十三三十三三十三三十三', '四十四四十四四十四四十四四十四四十四四十四', 'own_and_global');
SELECT relation, kind, tenant_column, gaps FROM leyser.governed_table WHERE relation::text ~ 'table|三' ORDER BY 1;
CALL trial.attempt($$SELECT leyser.protect('"it''s a ""table"""', 'another "one"')$$);
SELECT leyser.unprotect('"it''s a ""table"""'), leyser.unprotect('三十三三十三三十三三十三三十三三十三三十三');
SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = '"it''s a ""table"""'::regclass;

-- Tenant ids.
SET ROLE regress_leyser_provisioner;
SELECT leyser.create_tenant('bad-1', 'Name', 'JP');
RESET ROLE;
SELECT state() AS before \gset
SET ROLE regress_leyser_provisioner;
CALL trial.attempt($$SELECT leyser.create_tenant('')$$);
CALL trial.attempt($$SELECT leyser.create_tenant(NULL)$$);
CALL trial.attempt($$SELECT leyser.create_tenant(repeat('x', 201))$$);
CALL trial.attempt($$SELECT leyser.create_tenant(E'a\tb')$$);
CALL trial.attempt($$SELECT leyser.create_tenant(E'a\x7f')$$);
CALL trial.attempt($$SELECT leyser.create_tenant(U&'a\0085b')$$);
CALL trial.attempt($$SELECT leyser.create_tenant('042')$$);
CALL trial.attempt($$SELECT leyser.create_tenant('+42')$$);
CALL trial.attempt($$SELECT leyser.create_tenant(' 42')$$);
CALL trial.attempt($$SELECT leyser.create_tenant('42 ')$$);
CALL trial.attempt($$SELECT leyser.create_tenant('-0')$$);
CALL trial.attempt($$SELECT leyser.create_tenant('1_000')$$);
CALL trial.attempt($$SELECT leyser.create_tenant('0x1F')$$);
CALL trial.attempt($$SELECT leyser.create_tenant('-0x1F')$$);
CALL trial.attempt($$SELECT leyser.create_tenant('0b101')$$);
CALL trial.attempt($$SELECT leyser.create_tenant('0o17')$$);
CALL trial.attempt($$SELECT leyser.create_tenant('A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11')$$);
CALL trial.attempt($$SELECT leyser.create_tenant('{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}')$$);
CALL trial.attempt($$SELECT leyser.create_tenant('a0eebc999c0b4ef8bb6d6bb9bd380a11')$$);
CALL trial.attempt($$SELECT leyser.create_tenant('bad-1')$$);
CALL trial.attempt($$SELECT leyser.create_tenant('bad-2', E'two\nlines')$$);
CALL trial.attempt($$SELECT leyser.create_tenant('bad-2', U&'two\0085lines')$$);
CALL trial.attempt($$SELECT leyser.create_tenant('bad-2', repeat('x', 201))$$);
CALL trial.attempt($$SELECT leyser.create_tenant('bad-2', region => 'J P')$$);
CALL trial.attempt($$SELECT leyser.create_tenant('bad-2', region => '')$$);
CALL trial.attempt($$SELECT leyser.create_tenant('bad-2', region => repeat('x', 64))$$);
CALL trial.attempt($$SELECT leyser.suspend_tenant('bad-1')$$);
RESET ROLE;
SELECT state() = :'before' AS nothing_changed;
-- what may be
SET ROLE regress_leyser_provisioner;
BEGIN;
SELECT leyser.create_tenant('it''s "quoted" $1 %s; DROP TABLE x;--'), leyser.create_tenant('顧客'),
    length(leyser.create_tenant(repeat('三', 200))), length(leyser.create_tenant()),
    leyser.create_tenant('BAD-1'), leyser.create_tenant('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'), leyser.create_tenant('-42'), leyser.create_tenant('0'),
    leyser.create_tenant('0babe'), leyser.create_tenant('0x'), leyser.create_tenant('-'), leyser.create_tenant('4 2');
SELECT tenant_id, name, region, state FROM leyser.tenant WHERE tenant_id ~* '^(bad|it)' ORDER BY 1;
SET LOCAL ROLE :superuser;
SELECT leyser.enter('it''s "quoted" $1 %s; DROP TABLE x;--');
SELECT leyser.tenant_id();
ROLLBACK;
RESET ROLE;

-- A tenant's state.
SELECT state() AS before \gset
SET ROLE regress_leyser_operator;
CALL trial.attempt($$SELECT leyser.suspend_tenant('unknown')$$);
CALL trial.attempt($$SELECT leyser.suspend_tenant(NULL)$$);
CALL trial.attempt($$SELECT leyser.resume_tenant('unknown')$$);
CALL trial.attempt($$SELECT leyser.resume_tenant('bad-1')$$);
CALL trial.attempt($$SELECT leyser.create_tenant('bad-3')$$);
RESET ROLE;
SELECT state() = :'before' AS nothing_changed;
SELECT leyser.suspend_tenant('bad-1');
SELECT state() AS before \gset
CALL trial.attempt($$SELECT leyser.suspend_tenant('bad-1')$$);
CALL trial.attempt($$SELECT leyser.create_tenant('bad-1')$$);
SELECT state() = :'before' AS nothing_changed;
SELECT leyser.resume_tenant('bad-1');

-- Usages: roles that could step around row security, each with its remedy.
CREATE ROLE regress_leyser_super SUPERUSER;
CREATE ROLE regress_leyser_bypass BYPASSRLS;
CREATE ROLE regress_leyser_maker CREATEROLE;
CREATE ROLE regress_leyser_replica REPLICATION;
CREATE ROLE regress_leyser_member IN ROLE regress_leyser_bypass;
CREATE ROLE regress_leyser_grandchild NOINHERIT IN ROLE regress_leyser_member;
CREATE ROLE regress_leyser_server IN ROLE pg_read_server_files;
CREATE ROLE "regress_leyser ""odd""";
SELECT leyser.protect('fine');
SELECT state() AS before \gset
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_super', 'application')$$);
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_bypass', 'application')$$);
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_maker', 'gateway')$$);
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_replica', 'application')$$);
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_member', 'application')$$);
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_grandchild', 'application')$$);
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_server', 'application')$$);
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_owner', 'application')$$);
CALL trial.attempt($$SELECT leyser.grant_usage('unknown', 'application')$$);
CALL trial.attempt($$SELECT leyser.grant_usage(NULL, 'application')$$);
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_app', 'everything')$$);
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_app', NULL)$$);
CALL trial.attempt($$SELECT leyser.revoke_usage('regress_leyser_app', 'application')$$);
SET ROLE regress_leyser_operator;
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_app', 'application')$$);
RESET ROLE;
SELECT state() = :'before' AS nothing_changed;
-- CREATE on a schema or the database; the remedies as the hint gives them
GRANT CREATE ON SCHEMA regress_leyser_bad TO regress_leyser_app, "regress_leyser ""odd""";
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_app', 'application')$$);
CALL trial.attempt($$SELECT leyser.grant_usage('"regress_leyser ""odd"""', 'application')$$);
REVOKE CREATE ON SCHEMA regress_leyser_bad FROM regress_leyser_app;
REVOKE CREATE ON SCHEMA regress_leyser_bad FROM "regress_leyser ""odd""";
GRANT CREATE ON SCHEMA regress_leyser_bad TO PUBLIC;
CALL trial.attempt($$SELECT leyser.grant_usage('regress_leyser_app', 'application')$$);
REVOKE CREATE ON SCHEMA regress_leyser_bad FROM PUBLIC;
GRANT CREATE ON DATABASE :"database" TO regress_leyser_app;
DO $$
BEGIN
    PERFORM leyser.grant_usage('regress_leyser_app', 'application');
EXCEPTION WHEN invalid_grant_operation THEN
    DECLARE
        told text;
    BEGIN
        GET STACKED DIAGNOSTICS told = PG_EXCEPTION_HINT;
        RAISE INFO '%', replace(told, current_database(), 'this');
        EXECUTE substring(told from '^[^;]*;');
    END;
END
$$;
SELECT leyser.grant_usage('regress_leyser_app', 'application');
SELECT leyser.grant_usage('"regress_leyser ""odd"""', 'gateway');
SELECT leyser.grant_usage('regress_leyser_super', 'operator');
SELECT leyser.grant_usage('regress_leyser_app', 'application');
SELECT role, usage FROM leyser.granted_usage WHERE role::text ~ 'app|odd|super' ORDER BY 1, 2;
-- a role that has a usage is not dropped unseen
\set VERBOSITY sqlstate
DROP ROLE regress_leyser_app;
\set VERBOSITY default

-- The keyring's calls.
CALL trial.attempt($$SELECT leyser.activate_signing_key('unknown')$$);
CALL trial.attempt($$SELECT leyser.retire_signing_key('unknown')$$);
CALL trial.attempt($$SELECT leyser.retire_signing_key((SELECT key_id FROM leyser.signing_key WHERE state = 'active'))$$);
CALL trial.attempt($$SELECT leyser.remove_issuer_key('unknown')$$);
CALL trial.attempt($$SELECT leyser.add_issuer_key('key', 'no pem', 'issuer', 'audience')$$);
CALL trial.attempt($$SELECT leyser.add_issuer_key('', 'no pem', 'issuer', 'audience')$$);
CALL trial.attempt($$SELECT leyser.add_issuer_key('key', NULL, 'issuer', 'audience')$$);
CALL trial.attempt($$SELECT leyser.add_issuer_key('key', 'pem', '', 'audience')$$);
CALL trial.attempt($$SELECT leyser.add_issuer_key('key', 'pem', U&'iss\0085uer', 'audience')$$);
CALL trial.attempt($$SELECT leyser.add_issuer_key('key', 'pem', 'issuer', E'aud\x7fience')$$);
CALL trial.attempt($$SELECT leyser.add_issuer_key('key', 'pem', 'issuer', E'a\nb')$$);
CALL trial.attempt($$SELECT leyser.add_issuer_key('key', 'pem', 'issuer', 'audience', 'unknown')$$);
CALL trial.attempt($$SELECT leyser.add_issuer_key('../key', 'pem', 'issuer', 'audience')$$);

SET client_min_messages = warning;
SELECT leyser.revoke_usage('regress_leyser_app', 'application'), leyser.revoke_usage('"regress_leyser ""odd"""', 'gateway'),
    leyser.revoke_usage('regress_leyser_super', 'operator'), leyser.revoke_usage('regress_leyser_provisioner', 'provisioner'),
    leyser.revoke_usage('regress_leyser_operator', 'operator');
DROP SCHEMA regress_leyser_bad CASCADE;
DROP FOREIGN DATA WRAPPER regress_leyser_wrapper CASCADE;
DROP TABLE a_temporary;
DROP ROLE regress_leyser_owner, regress_leyser_app, regress_leyser_provisioner, regress_leyser_operator,
    regress_leyser_super, regress_leyser_bypass, regress_leyser_maker, regress_leyser_replica,
    regress_leyser_member, regress_leyser_grandchild, regress_leyser_server, "regress_leyser ""odd""";
