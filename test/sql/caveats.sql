-- What row security does not close, each as it is: the caveats of the manual.
-- Where leyser refuses a part of the route, that stands beside it.

SELECT current_user AS superuser \gset
SET client_min_messages = warning;
CREATE ROLE regress_leyser_owner;
CREATE ROLE regress_leyser_app LOGIN;
CREATE ROLE regress_leyser_stranger LOGIN;
CREATE ROLE regress_leyser_bypass BYPASSRLS;
CREATE SCHEMA regress_leyser_open AUTHORIZATION regress_leyser_owner;
GRANT USAGE ON SCHEMA regress_leyser_open TO PUBLIC;
CREATE SCHEMA regress_leyser_theirs AUTHORIZATION regress_leyser_stranger;
GRANT CREATE ON SCHEMA regress_leyser_open TO regress_leyser_bypass;
SET ROLE regress_leyser_owner;
SET search_path = regress_leyser_open;
CREATE TABLE customer (tenant_id text NOT NULL, customer_id int UNIQUE, name text, UNIQUE (tenant_id, customer_id));
INSERT INTO customer VALUES ('cav-a', 1, 'a one'), ('cav-b', 2, 'b two'), ('cav-b', 3, 'b three');
CREATE TABLE invoice (tenant_id text NOT NULL, customer_id int REFERENCES customer (customer_id) ON DELETE CASCADE);
INSERT INTO invoice VALUES ('cav-a', 1), ('cav-b', 1), ('cav-b', 2);
ANALYZE customer, invoice;
GRANT ALL ON customer, invoice TO regress_leyser_app, regress_leyser_bypass;
GRANT REFERENCES, SELECT ON customer TO regress_leyser_stranger;
SELECT leyser.protect('customer'), leyser.protect('invoice', accept_gaps => true);
CREATE FUNCTION spy(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE INFO 'saw %', $1; RETURN $1; END $$;
SET ROLE regress_leyser_bypass;
CREATE FUNCTION bypassing_function() RETURNS SETOF customer LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM regress_leyser_open.customer';
CREATE MATERIALIZED VIEW everybodys AS SELECT tenant_id, count(*) FROM customer GROUP BY 1;
GRANT SELECT ON everybodys TO regress_leyser_app;
RESET ROLE;
SELECT leyser.grant_usage('regress_leyser_app', 'application');
SELECT leyser.create_tenant('cav-a'), leyser.create_tenant('cav-b');
SELECT leyser.issue_token('cav-a') AS a, leyser.issue_token('cav-b') AS b \gset

-- The gaps that leyser sees are told.
SELECT relation, gap FROM leyser.governed_table, unnest(gaps) gap WHERE relation::text IN ('customer', 'invoice', 'everybodys') ORDER BY relation::text, gap;

-- A definer function, or a materialized view, of a role that bypasses row security.
\c - regress_leyser_app
BEGIN;
SET LOCAL leyser.token = :'a';
SELECT count(*) FROM regress_leyser_open.customer;
SELECT count(*) FROM regress_leyser_open.bypassing_function();
SELECT * FROM regress_leyser_open.everybodys ORDER BY 1;

-- A unique key without the tenant column tells that a key exists, not what it holds.
CALL trial.attempt('INSERT INTO regress_leyser_open.customer VALUES (''cav-a'', 2, ''x'')');
INSERT INTO regress_leyser_open.customer VALUES ('cav-a', 2, 'x') ON CONFLICT DO NOTHING RETURNING *;
CALL trial.attempt('INSERT INTO regress_leyser_open.customer VALUES (''cav-a'', 2, ''x'') ON CONFLICT (customer_id) DO UPDATE SET name = ''x''');

-- A foreign key without the tenant columns, accepted as a gap: one refers to
-- another tenant's row, and a cascade deletes another tenant's rows.
INSERT INTO regress_leyser_open.invoice VALUES ('cav-a', 2);
CALL trial.attempt('INSERT INTO regress_leyser_open.invoice VALUES (''cav-a'', 99)');
DELETE FROM regress_leyser_open.customer WHERE customer_id = 1;
COMMIT;
\c - :superuser
SELECT count(*) > 0 AS has_statistics FROM pg_statistic WHERE starelid = 'regress_leyser_open.customer'::regclass;
SELECT * FROM regress_leyser_open.invoice ORDER BY 1, 2;

-- Plans tell how many rows were passed over, and their estimates whether a value
-- exists, for statistics are of all tenants' rows: EXPLAIN is refused.  The
-- statistics themselves do not show values.
\c - regress_leyser_app
BEGIN;
SET LOCAL leyser.token = :'a';
CALL trial.attempt('EXPLAIN SELECT * FROM regress_leyser_open.customer');
CALL trial.attempt('EXPLAIN (ANALYZE, TIMING OFF) SELECT * FROM regress_leyser_open.customer');
CALL trial.attempt($$DO 'BEGIN EXECUTE ''EXPLAIN SELECT * FROM regress_leyser_open.customer''; END'$$);
SELECT count(*) FROM pg_stats WHERE schemaname = 'regress_leyser_open';
CALL trial.attempt('SELECT count(*) FROM pg_statistic');
COMMIT;

-- Large objects know no tenants: one role of a pool reads what another client wrote.
BEGIN;
SET LOCAL leyser.token = :'a';
SELECT lo_from_bytea(0, 'of tenant a') AS object \gset
COMMIT;
BEGIN;
SET LOCAL leyser.token = :'b';
SELECT convert_from(lo_get(:object), 'UTF8');
SELECT lo_unlink(:object);
COMMIT;
-- nor do notifications; applications cannot listen, others can
CALL trial.attempt('LISTEN gossip');
NOTIFY gossip, 'from a tenant';

-- A role that is no application's and may refer to a protected table asks it
-- for keys: REFERENCES is a right to be given with care.
\c - regress_leyser_stranger
CREATE TABLE regress_leyser_theirs.probe (customer_id int REFERENCES regress_leyser_open.customer (customer_id));
CALL trial.attempt('SELECT * FROM regress_leyser_open.customer');
CALL trial.attempt('INSERT INTO regress_leyser_theirs.probe VALUES (3)');
CALL trial.attempt('INSERT INTO regress_leyser_theirs.probe VALUES (4)');

-- The owner is bound by the policies, but not in what DDL computes; without
-- a context or, where it is not ALTER TABLE, within one.
\c - :superuser
SET ROLE regress_leyser_owner;
CALL trial.attempt('SELECT * FROM regress_leyser_open.customer');
BEGIN;
CREATE INDEX ON regress_leyser_open.customer (regress_leyser_open.spy(name));
ALTER TABLE regress_leyser_open.customer ADD CHECK (regress_leyser_open.spy(name) <> '');
ROLLBACK;
BEGIN;
SET LOCAL leyser.token = :'a';
CALL trial.attempt('ALTER TABLE regress_leyser_open.customer ADD CHECK (regress_leyser_open.spy(name) <> '''')');
CREATE INDEX ON regress_leyser_open.customer (regress_leyser_open.spy(name));
ROLLBACK;
-- what the owner copies in a context is the context's; the copy is not protected
BEGIN;
SET LOCAL leyser.token = :'b';
SET LOCAL search_path = regress_leyser_open;
CREATE TABLE copied AS SELECT * FROM customer;
SELECT leyser.leave();
SELECT tenant_id, count(*) FROM copied GROUP BY 1;
RESET ROLE;
SELECT relation, gaps FROM leyser.governed_table WHERE relation = 'copied'::regclass;
ROLLBACK;
-- refused: a materialized view of the owner, bound as it is by FORCE; filled in a
-- context it would show that tenant's rows to everybody who may read it
RESET ROLE;
SET ROLE regress_leyser_owner;
CALL trial.attempt('CREATE MATERIALIZED VIEW regress_leyser_open.mine AS SELECT * FROM regress_leyser_open.customer');
CREATE MATERIALIZED VIEW regress_leyser_open.mine AS SELECT * FROM regress_leyser_open.customer WITH NO DATA;
BEGIN;
SET LOCAL leyser.token = :'b';
SAVEPOINT attempt;
CREATE MATERIALIZED VIEW regress_leyser_open.other AS SELECT * FROM regress_leyser_open.customer;
ROLLBACK TO attempt;
REFRESH MATERIALIZED VIEW regress_leyser_open.mine;
COMMIT;
RESET ROLE;

SET client_min_messages = warning;
SELECT leyser.revoke_usage('regress_leyser_app', 'application');
DROP SCHEMA regress_leyser_open, regress_leyser_theirs CASCADE;
DROP ROLE regress_leyser_owner, regress_leyser_app, regress_leyser_stranger, regress_leyser_bypass;
