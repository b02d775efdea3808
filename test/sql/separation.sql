-- No statement shows or changes another tenant's row.  The tables belong to a
-- role of their own; an application works on them for tenant sep-a, whatever it
-- asks for.

SELECT current_user AS superuser \gset
SET client_min_messages = warning;
CREATE ROLE regress_leyser_owner;
CREATE ROLE regress_leyser_app LOGIN;
CREATE ROLE regress_leyser_bypass BYPASSRLS;
CREATE SCHEMA regress_leyser_shop AUTHORIZATION regress_leyser_owner;
GRANT USAGE ON SCHEMA regress_leyser_shop TO PUBLIC;
GRANT CREATE ON SCHEMA regress_leyser_shop TO regress_leyser_bypass;
SET ROLE regress_leyser_owner;
SET search_path = regress_leyser_shop;
CREATE TABLE customer (tenant_id text, customer_id int, name text, PRIMARY KEY (tenant_id, customer_id));
CREATE TABLE invoice (tenant_id text, invoice_id int, customer_id int, amount int,
    PRIMARY KEY (tenant_id, invoice_id),
    FOREIGN KEY (tenant_id, customer_id) REFERENCES customer);
CREATE TABLE payment (tenant_id text NOT NULL, at date, amount int) PARTITION BY RANGE (at);
CREATE TABLE payment_2025 PARTITION OF payment FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE payment_2026 PARTITION OF payment FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE note (tenant_id text NOT NULL, line text);
CREATE TABLE note_archive () INHERITS (note);
CREATE SEQUENCE number;
INSERT INTO customer SELECT t, n, format('%s %s', t, n) FROM unnest('{sep-a,sep-b}'::text[]) t, generate_series(1, 3) n;
INSERT INTO invoice SELECT tenant_id, customer_id * 10, customer_id, 100 FROM customer;
INSERT INTO payment SELECT tenant_id, format('%s-06-01', year)::date, customer_id
    FROM customer, generate_series(2025, 2026) year;
INSERT INTO note SELECT tenant_id, 'note' FROM customer;
INSERT INTO note_archive SELECT tenant_id, 'archived' FROM customer;
GRANT ALL ON ALL TABLES IN SCHEMA regress_leyser_shop TO regress_leyser_app, regress_leyser_bypass;
GRANT ALL ON ALL SEQUENCES IN SCHEMA regress_leyser_shop TO regress_leyser_app;
SELECT leyser.protect('customer'), leyser.protect('invoice'), leyser.protect('payment'), leyser.protect('note');
CREATE VIEW owners_view AS SELECT * FROM invoice;
CREATE VIEW invokers_view WITH (security_invoker) AS SELECT * FROM invoice;
CREATE FUNCTION owners_function() RETURNS SETOF invoice LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM regress_leyser_shop.invoice';
CREATE FUNCTION spy(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001
    AS $$ BEGIN RAISE INFO 'saw %', $1; RETURN true; END $$;
CREATE VIEW checked_view AS SELECT * FROM invoice WHERE amount < 1000 WITH CHECK OPTION;
SET ROLE regress_leyser_bypass;
CREATE VIEW bypassing_view AS SELECT * FROM invoice;
CREATE VIEW bypassing_invokers_view WITH (security_invoker) AS SELECT * FROM invoice;
RESET ROLE;
GRANT ALL ON ALL TABLES IN SCHEMA regress_leyser_shop TO regress_leyser_app;
SELECT leyser.grant_usage('regress_leyser_app', 'application');
SELECT leyser.create_tenant('sep-a'), leyser.create_tenant('sep-b');
SELECT leyser.issue_token('sep-a') AS a, leyser.issue_token('sep-b') AS b \gset
-- all rows, as a superuser sees them
CREATE FUNCTION state() RETURNS text LANGUAGE sql AS $$
    SELECT md5(string_agg(r, ' ' ORDER BY r)) FROM (
        SELECT c::text FROM customer c WHERE tenant_id <> 'sep-a'
        UNION ALL SELECT i::text FROM invoice i WHERE tenant_id <> 'sep-a'
        UNION ALL SELECT p::text FROM payment p WHERE tenant_id <> 'sep-a'
        UNION ALL SELECT n::text FROM note n WHERE tenant_id <> 'sep-a') a (r) $$;
SELECT state() AS state_before \gset

\c - regress_leyser_app
BEGIN;
SET LOCAL leyser.token = :'a';
SET LOCAL search_path = regress_leyser_shop;

-- Reading: tables, joins, common table expressions, subqueries, aggregates.
SELECT * FROM customer ORDER BY 1, 2;
SELECT count(*) FROM customer WHERE tenant_id = 'sep-b';
SELECT count(*) FROM customer WHERE tenant_id = 'sep-b' OR true;
SELECT c.tenant_id, count(*) FROM customer c JOIN invoice i USING (tenant_id, customer_id) GROUP BY 1;
SELECT count(*) FROM customer c FULL JOIN invoice i ON true;
WITH every AS MATERIALIZED (SELECT * FROM invoice) SELECT count(*) FROM every;
WITH RECURSIVE walk AS (SELECT 1 AS n UNION ALL
    SELECT n + 1 FROM walk WHERE EXISTS (SELECT FROM invoice WHERE tenant_id = 'sep-b') AND n < 5)
    SELECT count(*) FROM walk;
SELECT (SELECT max(name) FROM customer), ARRAY(SELECT DISTINCT tenant_id FROM payment);
SELECT count(*) FROM customer TABLESAMPLE SYSTEM (100);
SELECT tenant_id FROM customer FOR UPDATE;
COPY customer TO STDOUT;
COPY (SELECT * FROM customer) TO STDOUT;
TABLE note;
SELECT * FROM ONLY note;
SELECT has_table_privilege('customer', 'SELECT'), row_security_active('customer');

-- A function in the condition sees the tenant's rows only, however cheap it is.
SELECT count(*) FROM customer WHERE spy(name);
SELECT count(*) FROM customer WHERE 1 / (customer_id - CASE tenant_id WHEN 'sep-b' THEN customer_id ELSE 0 END) >= 0;

-- Writing one's own, with RETURNING.
INSERT INTO customer (customer_id, name) VALUES (4, 'new') RETURNING *;
INSERT INTO customer VALUES ('sep-a', 5, 'new') RETURNING tenant_id;
UPDATE customer SET name = 'changed' WHERE customer_id = 4 RETURNING *;
UPDATE customer SET name = name;
DELETE FROM customer WHERE customer_id > 3 RETURNING customer_id;
WITH gone AS (DELETE FROM invoice WHERE customer_id = 3 RETURNING *)
    INSERT INTO invoice SELECT * FROM gone RETURNING *;
SAVEPOINT s;

-- Writing another tenant's, or writing to another tenant.
CALL trial.attempt('INSERT INTO customer VALUES (''sep-b'', 9, ''forged'')');
CALL trial.attempt('INSERT INTO customer VALUES (NULL, 9, ''forged'')');
CALL trial.attempt('INSERT INTO customer SELECT ''sep-b'', 9, ''forged''');
CALL trial.attempt('UPDATE customer SET tenant_id = ''sep-b''');
CALL trial.attempt('UPDATE invoice SET tenant_id = ''sep-b'' WHERE invoice_id = 10');
\copy customer FROM /dev/null
ROLLBACK TO s;
UPDATE customer SET name = 'forged' WHERE tenant_id = 'sep-b';
DELETE FROM customer WHERE tenant_id = 'sep-b';
UPDATE invoice i SET amount = 0 FROM customer c WHERE c.tenant_id = 'sep-b';
DELETE FROM invoice USING customer c WHERE c.tenant_id = 'sep-b';

-- ON CONFLICT does not tell or change what another tenant has.
INSERT INTO customer VALUES ('sep-a', 1, 'again') ON CONFLICT (tenant_id, customer_id)
    DO UPDATE SET name = excluded.name RETURNING *;
CALL trial.attempt('INSERT INTO customer VALUES (''sep-b'', 1, ''x'') ON CONFLICT DO NOTHING');
CALL trial.attempt('INSERT INTO customer VALUES (''sep-b'', 1, ''x'') ON CONFLICT (tenant_id, customer_id) DO UPDATE SET name = excluded.name');
CALL trial.attempt('INSERT INTO customer VALUES (''sep-a'', 1, ''x'') ON CONFLICT (tenant_id, customer_id) DO UPDATE SET tenant_id = ''sep-b''');

-- MERGE.
MERGE INTO customer c USING (VALUES (1), (7)) v (id) ON c.customer_id = v.id
    WHEN MATCHED THEN UPDATE SET name = 'merged'
    WHEN NOT MATCHED THEN INSERT (customer_id, name) VALUES (v.id, 'merged');
SELECT * FROM customer WHERE name = 'merged' ORDER BY 2;
CALL trial.attempt('MERGE INTO customer c USING (VALUES (1)) v (id) ON c.customer_id = v.id WHEN MATCHED THEN UPDATE SET tenant_id = ''sep-b''');
CALL trial.attempt('MERGE INTO customer c USING (VALUES (8)) v (id) ON c.customer_id = v.id WHEN NOT MATCHED THEN INSERT VALUES (''sep-b'', v.id, ''forged'')');
MERGE INTO customer c USING (VALUES ('sep-b')) v (tenant) ON c.tenant_id = v.tenant WHEN MATCHED THEN DELETE;
-- ... whose source is a protected table
SELECT count(*) FROM invoice;
MERGE INTO invoice i USING customer c ON c.tenant_id = 'sep-b' WHEN MATCHED THEN DELETE;
SELECT count(*) FROM invoice;

-- Views: the owner is bound too, and the caller.
SELECT tenant_id, count(*) FROM owners_view GROUP BY 1;
SELECT tenant_id, count(*) FROM invokers_view GROUP BY 1;
SELECT tenant_id, count(*) FROM owners_function() GROUP BY 1;
SELECT tenant_id, count(*) FROM bypassing_invokers_view GROUP BY 1;
CALL trial.attempt('INSERT INTO owners_view VALUES (''sep-b'', 9, 1, 1)');
CALL trial.attempt('INSERT INTO checked_view VALUES (''sep-b'', 9, 1, 1)');
CALL trial.attempt('UPDATE checked_view SET tenant_id = ''sep-b''');
-- Caveat: a view runs with its owner's rights; one that belongs to a role with
-- BYPASSRLS (or a superuser) and lacks security_invoker shows every row.
SELECT tenant_id, count(*) FROM bypassing_view GROUP BY 1 ORDER BY 1;

-- Partitions and children, named directly.
SELECT tenant_id, count(*) FROM payment GROUP BY 1;
SELECT tenant_id, count(*) FROM payment_2025 GROUP BY 1;
SELECT tenant_id, count(*) FROM note GROUP BY 1;
SELECT tenant_id, count(*) FROM note_archive GROUP BY 1;
CALL trial.attempt('INSERT INTO payment_2025 VALUES (''sep-b'', ''2025-07-01'', 1)');
CALL trial.attempt('INSERT INTO payment VALUES (''sep-b'', ''2025-07-01'', 1)');
CALL trial.attempt('INSERT INTO note_archive VALUES (''sep-b'', ''forged'')');
INSERT INTO payment (at, amount) VALUES ('2026-07-01', 7) RETURNING tableoid::regclass, *;
INSERT INTO payment_2025 (at, amount) VALUES ('2025-07-01', 7) RETURNING *;
INSERT INTO note_archive (line) VALUES ('mine') RETURNING *;
UPDATE payment SET at = '2026-08-01' WHERE at = '2025-07-01' RETURNING tableoid::regclass, *;
DELETE FROM payment_2026 WHERE at = '2026-08-01' RETURNING *;
DELETE FROM note_archive WHERE tenant_id = 'sep-b';
DELETE FROM note;
INSERT INTO note_archive (line) VALUES ('one'), ('two');

-- Around row security: TRUNCATE, REFERENCES, row_security, DDL.
CALL trial.attempt('TRUNCATE invoice');
CALL trial.attempt('TRUNCATE payment_2025');
CALL trial.attempt('TRUNCATE customer CASCADE');
CALL trial.attempt('SET LOCAL row_security = off; SELECT * FROM regress_leyser_shop.customer');
CALL trial.attempt('CREATE TABLE probe (t text, c int, FOREIGN KEY (t, c) REFERENCES customer)');
CALL trial.attempt('CREATE TEMP TABLE probe ON COMMIT DROP AS SELECT * FROM customer; SELECT * FROM probe');
CALL trial.attempt('INSERT INTO invoice VALUES (''sep-a'', 99, 9, 1)');
CALL trial.attempt('ALTER TABLE customer NO FORCE ROW LEVEL SECURITY');
CALL trial.attempt('CREATE POLICY mine ON customer USING (true)');
CALL trial.attempt('SET LOCAL ROLE regress_leyser_owner');
-- a sequence has no tenants: its numbers tell how many were drawn (a caveat)
SELECT nextval('number');
COMMIT;

-- A prepared statement across contexts, as drivers keep them: with a plan of
-- its own each time, and with one generic plan.
\c - :superuser
PREPARE mine(int) AS SELECT tenant_id, count(*) FROM regress_leyser_shop.invoice WHERE customer_id > $1 GROUP BY 1 ORDER BY 1;
PREPARE change(text) AS UPDATE regress_leyser_shop.customer SET name = $1 RETURNING tenant_id, customer_id, name;
SET SESSION AUTHORIZATION regress_leyser_app;
SET plan_cache_mode = force_custom_plan;
BEGIN; SET LOCAL leyser.token = :'a'; EXECUTE mine(0); EXECUTE change('sep-a'); ROLLBACK;
BEGIN; SET LOCAL leyser.token = :'b'; EXECUTE mine(0); EXECUTE change('sep-b'); ROLLBACK;
SET plan_cache_mode = force_generic_plan;
BEGIN; SET LOCAL leyser.token = :'a'; EXECUTE mine(0); EXECUTE change('sep-a'); ROLLBACK;
BEGIN; SET LOCAL leyser.token = :'b'; EXECUTE mine(0); EXECUTE change('sep-b'); ROLLBACK;
EXECUTE mine(0);
-- the same plan for a superuser, and then for the application again
RESET SESSION AUTHORIZATION;
EXECUTE mine(0);
SET SESSION AUTHORIZATION regress_leyser_app;
EXECUTE mine(0);
BEGIN; SET LOCAL leyser.token = :'a'; EXECUTE mine(0); ROLLBACK;
RESET SESSION AUTHORIZATION;
DEALLOCATE ALL;

-- Functions keep their plans, too.
CREATE FUNCTION regress_leyser_shop.count_invoices() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT count(*) FROM regress_leyser_shop.invoice);
END $$;
CREATE FUNCTION regress_leyser_shop.total() RETURNS text LANGUAGE sql STABLE AS
    'SELECT string_agg(DISTINCT tenant_id, '','') FROM regress_leyser_shop.invoice';
DELETE FROM regress_leyser_shop.invoice WHERE tenant_id = 'sep-b' AND invoice_id = 30;
SET SESSION AUTHORIZATION regress_leyser_app;
SET plan_cache_mode = force_generic_plan;
BEGIN; SET LOCAL leyser.token = :'a'; SELECT regress_leyser_shop.count_invoices(), regress_leyser_shop.total(); COMMIT;
BEGIN; SET LOCAL leyser.token = :'b'; SELECT regress_leyser_shop.count_invoices(), regress_leyser_shop.total(); COMMIT;
\set VERBOSITY terse
SELECT regress_leyser_shop.count_invoices();
SELECT regress_leyser_shop.total();
\set VERBOSITY default
RESET SESSION AUTHORIZATION;
INSERT INTO regress_leyser_shop.invoice VALUES ('sep-b', 30, 3, 100);

-- A cursor needs its context as long as it reads, also for what it has sorted already.
\c - regress_leyser_app
BEGIN;
SET LOCAL leyser.token = :'a';
DECLARE walk CURSOR FOR SELECT tenant_id, customer_id FROM regress_leyser_shop.customer ORDER BY 1, 2;
FETCH 1 FROM walk;
SELECT leyser.leave();
FETCH 1 FROM walk;
COMMIT;
BEGIN;
SET LOCAL leyser.token = :'a';
DECLARE walk CURSOR FOR SELECT tenant_id, line FROM regress_leyser_shop.note_archive;
FETCH 1 FROM walk;
SELECT leyser.leave();
FETCH 1 FROM walk;
COMMIT;
BEGIN;
SET LOCAL leyser.token = :'a';
DECLARE walk CURSOR FOR SELECT tenant_id FROM regress_leyser_shop.customer;
SET LOCAL leyser.token = :'b';
ROLLBACK;
-- ... opened in one, read in another: where a superuser allows the switch
\c - :superuser
SET leyser.context_switch = 'allow';
SET SESSION AUTHORIZATION regress_leyser_app;
BEGIN;
SET LOCAL leyser.token = :'a';
DECLARE walk CURSOR FOR SELECT tenant_id, line FROM regress_leyser_shop.note_archive;
FETCH 1 FROM walk;
SET LOCAL leyser.token = :'b';
FETCH ALL FROM walk;
COMMIT;

-- Nothing of the other tenant has changed.
\c - :superuser
SET search_path = regress_leyser_shop;
SELECT state() = :'state_before' AS untouched;
-- one sees with TRUNCATE what the guard refused: superusers may
BEGIN;
TRUNCATE note;
SELECT count(*) FROM ONLY note;
ROLLBACK;
SET client_min_messages = warning;
SELECT leyser.revoke_usage('regress_leyser_app', 'application');
DROP SCHEMA regress_leyser_shop CASCADE;
DROP ROLE regress_leyser_owner, regress_leyser_app, regress_leyser_bypass;
