-- A pooled connection is a shared room.  A hostile client of an application
-- tries to leave something behind for the next client, who is another tenant.
-- \c stands for a new server connection; without it, the next client of the
-- pool comes to the same one.

SELECT current_user AS superuser \gset
SET client_min_messages = warning;
CREATE ROLE regress_leyser_owner;
CREATE ROLE regress_leyser_app LOGIN;
CREATE ROLE regress_leyser_pool LOGIN;
CREATE ROLE regress_leyser_group;
GRANT regress_leyser_app, regress_leyser_group TO regress_leyser_pool;
CREATE ROLE regress_leyser_plain LOGIN;
CREATE SCHEMA regress_leyser_shop AUTHORIZATION regress_leyser_owner;
GRANT USAGE ON SCHEMA regress_leyser_shop TO PUBLIC;
SET search_path = regress_leyser_shop;
SET ROLE regress_leyser_owner;
CREATE TABLE invoice (tenant_id text NOT NULL, invoice_id int, PRIMARY KEY (tenant_id, invoice_id));
GRANT SELECT, INSERT, UPDATE, DELETE ON invoice TO PUBLIC;
SELECT leyser.protect('invoice');
RESET ROLE;
CREATE FUNCTION helper(statement text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
    AS $$ BEGIN EXECUTE statement; END $$;
CREATE TABLE groups_own (i int);
CREATE FUNCTION groups_helper(statement text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
    AS $$ BEGIN EXECUTE statement; END $$;
ALTER TABLE groups_own OWNER TO regress_leyser_group;
GRANT INSERT, SELECT ON groups_own TO regress_leyser_app;
SELECT leyser.grant_usage('regress_leyser_app', 'application');
SELECT leyser.create_tenant('conn-a'), leyser.create_tenant('conn-b');
SELECT leyser.issue_token('conn-a') AS a, leyser.issue_token('conn-b') AS b \gset

-- The rules are told to the client with what to do instead.
\c - regress_leyser_app
SET search_path = regress_leyser_shop;
CREATE TEMP TABLE invoice (tenant_id text, invoice_id int);
\set VERBOSITY terse

-- A temporary table that lasts would catch the next tenant's INSERT.
\c - regress_leyser_app
CREATE TEMP TABLE invoice (tenant_id text, invoice_id int);
CREATE TEMP TABLE invoice (tenant_id text, invoice_id int) ON COMMIT DELETE ROWS;
CREATE TABLE pg_temp.invoice (tenant_id text, invoice_id int);
CREATE TEMP TABLE invoice AS SELECT 'conn-b' AS tenant_id, 1 AS invoice_id;
CREATE TABLE pg_temp.invoice AS SELECT 'conn-b' AS tenant_id, 1 AS invoice_id;
SELECT 'conn-b' AS tenant_id, 1 AS invoice_id INTO TEMP invoice;
EXPLAIN (ANALYZE, COSTS OFF) CREATE TEMP TABLE invoice AS SELECT 1;
DO $$ BEGIN CREATE TEMP TABLE invoice (invoice_id int); END $$;
CREATE TEMP VIEW invoice AS SELECT 'conn-b' AS tenant_id, 1 AS invoice_id;
CREATE TEMP SEQUENCE invoice;
SET search_path = pg_temp;
CREATE TABLE invoice (tenant_id text, invoice_id int);
RESET search_path;
-- ... also through a function that runs with other rights
SELECT regress_leyser_shop.helper('CREATE TEMP TABLE invoice (invoice_id int)');
SELECT regress_leyser_shop.helper('CREATE TABLE pg_temp.invoice (invoice_id int)');
SELECT regress_leyser_shop.helper('CREATE TEMP VIEW invoice AS SELECT 1');
SELECT regress_leyser_shop.helper('CREATE TEMP SEQUENCE invoice');

-- Other things that last in pg_temp, and DDL that is none of its business.
CREATE FUNCTION pg_temp.lower(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
CREATE TYPE pg_temp.mood AS ENUM ('bad');
CREATE DOMAIN pg_temp.amount AS int;
CREATE SCHEMA regress_leyser_own CREATE TABLE t (i int);
CREATE OPERATOR pg_temp.= (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
GRANT SELECT ON regress_leyser_shop.invoice TO PUBLIC;
COMMENT ON TABLE regress_leyser_shop.invoice IS 'mine';
ALTER ROLE regress_leyser_app SET search_path = pg_temp;
ALTER ROLE regress_leyser_app PASSWORD 'known to the next';
ALTER ROLE CURRENT_USER SET row_security = off;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC;
ALTER TABLE regress_leyser_shop.invoice NO FORCE ROW LEVEL SECURITY;
DROP TABLE regress_leyser_shop.invoice;
DROP OWNED BY regress_leyser_app;

-- What works beside it: temporary tables for the transaction.
BEGIN;
SET LOCAL leyser.token = :'a';
CREATE TEMP TABLE work (id serial PRIMARY KEY, note text) ON COMMIT DROP;
CREATE INDEX ON work (note);
ALTER TABLE work ADD extra int;
ALTER TABLE work RENAME extra TO more;
INSERT INTO work (note) VALUES ('one') RETURNING id, note;
ALTER SEQUENCE work_id_seq OWNED BY NONE;
ROLLBACK;
BEGIN;
CREATE TEMP TABLE work ON COMMIT DROP AS SELECT 1 AS one;
ANALYZE work;
DROP TABLE work;
DROP TABLE IF EXISTS work;
COMMIT;

-- A statement name that the next client's driver uses.
PREPARE "S_1" AS DELETE FROM regress_leyser_shop.invoice;
DO $$ BEGIN EXECUTE 'PREPARE "S_1" AS DELETE FROM regress_leyser_shop.invoice'; END $$;
DEALLOCATE ALL;

-- Estimates come from all tenants' rows: EXPLAIN would tell their values one by one.
SET search_path = regress_leyser_shop;
EXPLAIN SELECT * FROM invoice WHERE tenant_id = 'conn-b';
EXPLAIN (ANALYZE, COSTS OFF) SELECT * FROM invoice;
EXPLAIN SELECT 1;
DO $$ BEGIN EXECUTE 'EXPLAIN SELECT * FROM invoice'; END $$;
DO $$ DECLARE line text; BEGIN FOR line IN EXPLAIN SELECT * FROM invoice LOOP RAISE INFO '%', line; END LOOP; END $$;
RESET search_path;
BEGIN;
SET LOCAL leyser.token = :'a';
EXPLAIN SELECT * FROM regress_leyser_shop.invoice;
ROLLBACK;
EXPLAIN EXECUTE "S_1";
EXPLAIN DECLARE mine CURSOR FOR SELECT 1;
SELECT regress_leyser_shop.helper('EXPLAIN SELECT 1');

-- A cursor with the rows of this tenant, for the next one to fetch.
BEGIN;
SET LOCAL leyser.token = :'a';
DECLARE mine CURSOR WITH HOLD FOR SELECT * FROM regress_leyser_shop.invoice;
ROLLBACK;
BEGIN;
SET LOCAL leyser.token = :'a';
INSERT INTO regress_leyser_shop.invoice (invoice_id) VALUES (1);
DECLARE mine CURSOR FOR SELECT * FROM regress_leyser_shop.invoice;
FETCH mine;
COMMIT;
FETCH mine;

LISTEN gossip;
UNLISTEN *;

-- A transaction in two phases: its locks would outlast the client.  One that failed ends.
BEGIN;
SET LOCAL leyser.token = :'a';
PREPARE TRANSACTION 'regress_leyser_gone';
ROLLBACK;
COMMIT PREPARED 'regress_leyser_gone';
BEGIN;
SELECT 1 / 0;
PREPARE TRANSACTION 'regress_leyser_gone';

-- Settings of the session, in a context.
BEGIN;
SET LOCAL leyser.token = :'a';
SAVEPOINT s;
SET search_path = pg_temp;
ROLLBACK TO s;
SET SESSION work_mem = '64kB';
ROLLBACK TO s;
SET ROLE regress_leyser_app;
ROLLBACK TO s;
SET SESSION AUTHORIZATION regress_leyser_app;
ROLLBACK TO s;
SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY;
ROLLBACK TO s;
SET TIME ZONE 'Asia/Tokyo';
ROLLBACK TO s;
-- what does not last, or goes back to the beginning, is allowed
SET LOCAL search_path = regress_leyser_shop;
SET LOCAL TIME ZONE 'Asia/Tokyo';
SET CONSTRAINTS ALL IMMEDIATE;
SET TRANSACTION READ ONLY;
SET leyser.token = :'a';
RESET work_mem;
SET work_mem TO DEFAULT;
RESET ALL;
COMMIT;

-- set_config() and a SET before the token are seen when the next token comes.
\set VERBOSITY default
BEGIN;
SET LOCAL leyser.token = :'a';
SELECT set_config('search_path', 'pg_temp, public', false);
COMMIT;
BEGIN;
SET LOCAL leyser.token = :'b';
ROLLBACK;
DISCARD ALL;
\set VERBOSITY terse
BEGIN;
SET LOCAL leyser.token = :'b';
SELECT leyser.tenant_id();
COMMIT;

-- a setting that was made in a transaction counts from the next one on
BEGIN;
SET search_path = pg_temp;
SET LOCAL leyser.token = :'a';
COMMIT;
BEGIN;
SET LOCAL leyser.token = :'b';
ROLLBACK;
BEGIN;
SET LOCAL search_path = public;
SET LOCAL leyser.token = :'b';
ROLLBACK;
BEGIN;
RESET search_path;
SET LOCAL leyser.token = :'b';
COMMIT;

\set try_residue 'BEGIN; SET LOCAL leyser.token = :''b''; ROLLBACK; RESET ALL; RESET ROLE;'
\set VERBOSITY default
SET row_security = off;
:try_residue
SET standard_conforming_strings = off;
:try_residue
SET backslash_quote = on;
:try_residue
SET transform_null_equals = on;
:try_residue
SET array_nulls = off;
:try_residue

\set VERBOSITY terse
-- A role that the session took on; but SET LOCAL ROLE is this client's own.
\c - regress_leyser_pool
SET ROLE regress_leyser_app;
BEGIN;
SET LOCAL leyser.token = :'a';
ROLLBACK;
RESET ROLE;
BEGIN;
SET LOCAL ROLE regress_leyser_app;
SET LOCAL search_path = regress_leyser_shop;
SET LOCAL leyser.token = :'a';
SELECT tenant_id, invoice_id, current_user FROM invoice;
COMMIT;
CREATE TEMP TABLE t (i int);

-- A group of the login owns a table that is not governed.  After SET ROLE to it the
-- client leaves a rule behind that copies what the next client inserts, or a function
-- that the next one calls.
BEGIN;
SET LOCAL ROLE regress_leyser_group;
SAVEPOINT s;
CREATE RULE copy AS ON INSERT TO regress_leyser_shop.groups_own DO ALSO NOTIFY gossip;
ROLLBACK TO s;
CREATE FUNCTION pg_temp.lower(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
ROLLBACK TO s;
ALTER TABLE regress_leyser_shop.groups_own ADD spy text;
ROLLBACK TO s;
GRANT ALL ON regress_leyser_shop.groups_own TO PUBLIC;
ROLLBACK TO s;
DROP TABLE regress_leyser_shop.groups_own;
ROLLBACK TO s;
DO $$ BEGIN CREATE RULE copy AS ON INSERT TO regress_leyser_shop.groups_own DO ALSO NOTHING; END $$;
ROLLBACK TO s;
EXPLAIN SELECT 1;
ROLLBACK TO s;
-- what the role may do there, it may do
INSERT INTO regress_leyser_shop.groups_own VALUES (1);
SELECT * FROM regress_leyser_shop.groups_own;
CREATE TEMP TABLE t (i int) ON COMMIT DROP;
ROLLBACK;
-- ... and a definer function, whose text is its owner's, may do what its owner may
BEGIN;
SET LOCAL ROLE regress_leyser_app;
SELECT regress_leyser_shop.groups_helper('ALTER TABLE regress_leyser_shop.groups_own ADD spy text');
ROLLBACK;

-- Roles without usage are left alone.
\c - regress_leyser_plain
CREATE TEMP TABLE t (i int);
PREPARE p AS SELECT 1;
EXPLAIN (COSTS OFF) SELECT 1;
LISTEN gossip;
DECLARE held CURSOR WITH HOLD FOR SELECT 1;
SET work_mem = '1MB';
ALTER ROLE regress_leyser_plain SET work_mem = '1MB';
ALTER ROLE regress_leyser_plain RESET ALL;

-- Superusers are not bound: what they leave behind is their own affair.
\c - :superuser
CREATE TEMP TABLE t (i int);
PREPARE p AS SELECT 1;
BEGIN;
SET LOCAL leyser.token = :'a';
SET work_mem = '1MB';
SELECT leyser.tenant_id();
COMMIT;
-- A temporary object that was there before the rules were.
\c - :superuser
SET client_min_messages = warning;
SELECT leyser.grant_usage('regress_leyser_plain', 'application');
SET SESSION AUTHORIZATION regress_leyser_plain;
CREATE TEMP TABLE t (i int);
RESET SESSION AUTHORIZATION;
CREATE TEMP TABLE t (i int);
SET SESSION AUTHORIZATION regress_leyser_plain;
BEGIN;
SET LOCAL leyser.token = :'a';
ROLLBACK;
RESET SESSION AUTHORIZATION;
-- with guards off, statements pass, but an unclean connection does not
SET leyser.guards = off;
SET SESSION AUTHORIZATION regress_leyser_plain;
PREPARE p AS SELECT 1;
CREATE TEMP TABLE t2 (i int);
BEGIN;
SET LOCAL leyser.token = :'a';
ROLLBACK;
SET leyser.guards = on;
DISCARD ALL;

SET client_min_messages = warning;
SELECT leyser.revoke_usage('regress_leyser_plain', 'application');
SELECT leyser.revoke_usage('regress_leyser_app', 'application');
DROP SCHEMA regress_leyser_shop CASCADE;
DROP ROLE regress_leyser_owner, regress_leyser_pool, regress_leyser_group, regress_leyser_app, regress_leyser_plain;
