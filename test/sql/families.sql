-- Whoever reads a parent reads its children under the parent's policies alone.  So a
-- protected table has no parent that is not protected, however it would come by one;
-- and what a partition or child brings along is judged as protect() judges it.

SELECT current_user AS superuser \gset
SET client_min_messages = warning;
CREATE ROLE regress_leyser_owner;
CREATE ROLE regress_leyser_operator LOGIN;
CREATE ROLE regress_leyser_app LOGIN;
CREATE SCHEMA regress_leyser_shop AUTHORIZATION regress_leyser_owner;
GRANT USAGE ON SCHEMA regress_leyser_shop TO PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE regress_leyser_owner IN SCHEMA regress_leyser_shop GRANT ALL ON TABLES TO regress_leyser_app;
SELECT leyser.grant_usage('regress_leyser_operator', 'operator');
SELECT leyser.grant_usage('regress_leyser_app', 'application');
SELECT leyser.create_tenant('fam-a'), leyser.create_tenant('fam-b');
SELECT leyser.issue_token('fam-a') AS a \gset
SET search_path = regress_leyser_shop;
-- The kinds and gaps of tables.
CREATE FUNCTION look(VARIADIC names text[]) RETURNS TABLE (relation regclass, kind text, parent regclass, gaps text[]) LANGUAGE sql
    SECURITY DEFINER SET search_path = regress_leyser_shop AS $$ SELECT g.relation, g.kind, g.parent, g.gaps FROM leyser.governed_table g
          WHERE g.relation = ANY (names::regclass[]) ORDER BY g.relation::text $$;

SET ROLE regress_leyser_owner;
CREATE TABLE safe (tenant_id text NOT NULL, n int);
CREATE TABLE wide (tenant_id text NOT NULL, n int);
SELECT leyser.protect('safe');

-- The owner makes a child of both: SELECT * FROM wide would show every tenant's rows.
CALL trial.attempt('CREATE TABLE child () INHERITS (safe, wide)');
CALL trial.attempt('CREATE TABLE child () INHERITS (wide, safe)');
CALL trial.attempt('CREATE TABLE child (extra int) INHERITS (safe, wide)');
SELECT to_regclass('child');
-- ... or makes it later
CREATE TABLE child () INHERITS (safe);
CALL trial.attempt('ALTER TABLE child INHERIT wide');
CREATE TABLE wide_child () INHERITS (wide);
CALL trial.attempt('ALTER TABLE wide_child INHERIT safe');
CREATE TABLE grandchild () INHERITS (child);
CALL trial.attempt('CREATE TABLE deep () INHERITS (grandchild, wide_child)');
CALL trial.attempt('ALTER TABLE grandchild INHERIT wide');
CREATE TABLE spies (tenant_id text NOT NULL, n int) PARTITION BY LIST (n);
CREATE TABLE spy (tenant_id text NOT NULL, n int);
SELECT leyser.protect('spy');
CALL trial.attempt('ALTER TABLE spies ATTACH PARTITION spy FOR VALUES IN (1)');
-- Under two protected parents a child is at home.
SELECT leyser.protect('wide');
CREATE TABLE second () INHERITS (safe, wide);
ALTER TABLE child INHERIT wide;
SELECT * FROM look('safe', 'wide', 'child', 'wide_child', 'grandchild', 'second');
SELECT leyser.protect('spies');
ALTER TABLE spies ATTACH PARTITION spy FOR VALUES IN (1);
SELECT * FROM look('spies', 'spy');

-- protect() of a family with a parent outside: neither parent may go first, and the
-- hint says how both can.
CREATE TABLE mother (tenant_id text NOT NULL);
CREATE TABLE father (tenant_id text NOT NULL);
CREATE TABLE daughter () INHERITS (mother, father);
CREATE TABLE granddaughter () INHERITS (daughter);
CALL trial.attempt('SELECT leyser.protect(''mother'')');
CALL trial.attempt('SELECT leyser.protect(''father'')');
CALL trial.attempt('SELECT leyser.protect(''daughter'')');
CALL trial.attempt('SELECT leyser.protect(''granddaughter'')');
SELECT * FROM look('mother', 'father', 'daughter', 'granddaughter');
ALTER TABLE daughter NO INHERIT father;
SELECT leyser.protect('mother'), leyser.protect('father');
ALTER TABLE daughter INHERIT father;
SELECT * FROM look('mother', 'father', 'daughter', 'granddaughter');

-- unprotect() of one parent keeps what the other one still protects.
RESET ROLE;
INSERT INTO daughter VALUES ('fam-a'), ('fam-b');
SET ROLE regress_leyser_operator;
SELECT leyser.unprotect('regress_leyser_shop.mother');
RESET ROLE;
SELECT * FROM look('mother', 'father', 'daughter', 'granddaughter');
\c - regress_leyser_app
BEGIN;
SET LOCAL leyser.token = :'a';
SELECT * FROM regress_leyser_shop.daughter;
SELECT * FROM regress_leyser_shop.father;
CALL trial.attempt('INSERT INTO regress_leyser_shop.granddaughter VALUES (''fam-b'')');
COMMIT;
CALL trial.attempt('SELECT * FROM regress_leyser_shop.daughter');
\c - regress_leyser_operator
SELECT leyser.unprotect('regress_leyser_shop.father');
\c - :superuser
SET client_min_messages = warning;
SET search_path = regress_leyser_shop;
SELECT relname, relrowsecurity, relforcerowsecurity, (SELECT count(*) FROM pg_policy WHERE polrelid = c.oid) AS policies
    FROM pg_class c WHERE relname IN ('mother', 'father', 'daughter', 'granddaughter') ORDER BY 1;
SELECT * FROM look('mother', 'father', 'daughter', 'granddaughter');

-- A partition that brings a foreign key without the tenant columns: by ON DELETE
-- CASCADE one tenant would delete another's rows.
SET ROLE regress_leyser_owner;
CREATE TABLE customer (tenant_id text NOT NULL, customer_id int UNIQUE, UNIQUE (tenant_id, customer_id));
CREATE TABLE invoice (tenant_id text NOT NULL, customer_id int, year int) PARTITION BY LIST (year);
SELECT leyser.protect('customer'), leyser.protect('invoice');
CALL trial.attempt('CREATE TABLE invoice_1 PARTITION OF invoice (FOREIGN KEY (customer_id) REFERENCES customer (customer_id) ON DELETE CASCADE) FOR VALUES IN (1)');
CALL trial.attempt('CREATE TABLE invoice_1 PARTITION OF invoice (customer_id REFERENCES customer (customer_id)) FOR VALUES IN (1)');
CREATE TABLE invoice_2 (tenant_id text NOT NULL, customer_id int REFERENCES customer (customer_id) ON DELETE CASCADE, year int);
CALL trial.attempt('ALTER TABLE invoice ATTACH PARTITION invoice_2 FOR VALUES IN (2)');
CALL trial.attempt('CREATE TABLE invoice_3 (FOREIGN KEY (customer_id) REFERENCES customer (customer_id)) INHERITS (safe, customer)');
RESET ROLE;
CALL trial.attempt('CREATE SCHEMA regress_leyser_more CREATE TABLE invoice_1 PARTITION OF regress_leyser_shop.invoice
    (FOREIGN KEY (customer_id) REFERENCES regress_leyser_shop.customer (customer_id) ON DELETE CASCADE) FOR VALUES IN (1)');
SELECT to_regclass('invoice_1'), to_regclass('regress_leyser_more.invoice_1');
SELECT count(*) FROM pg_inherits WHERE inhparent = 'invoice'::regclass;
-- With the tenant columns it may come.
SET ROLE regress_leyser_owner;
CREATE TABLE invoice_1 PARTITION OF invoice
    (FOREIGN KEY (tenant_id, customer_id) REFERENCES customer (tenant_id, customer_id) ON DELETE CASCADE) FOR VALUES IN (1);
ALTER TABLE invoice_2 DROP CONSTRAINT invoice_2_customer_id_fkey;
ALTER TABLE invoice ATTACH PARTITION invoice_2 FOR VALUES IN (2);
SELECT * FROM look('invoice', 'invoice_1', 'invoice_2');
-- ... and a gap that was accepted for the root, its new partitions may have, too
RESET ROLE;
SELECT leyser.protect('invoice', accept_gaps => true);
SET ROLE regress_leyser_owner;
CREATE TABLE invoice_4 PARTITION OF invoice (FOREIGN KEY (customer_id) REFERENCES customer (customer_id)) FOR VALUES IN (4);

-- With guards off a family can be opened; the gaps tell.
RESET ROLE;
CREATE TABLE open (tenant_id text NOT NULL, n int);
SET leyser.guards = off;
ALTER TABLE second INHERIT open;
CREATE TABLE third () INHERITS (safe, open);
SET leyser.guards = on;
SELECT * FROM look('second', 'third');
SELECT leyser.protect('open');
SELECT * FROM look('second', 'third');

SET client_min_messages = warning;
DROP SCHEMA regress_leyser_shop CASCADE;
SELECT leyser.revoke_usage('regress_leyser_operator', 'operator'), leyser.revoke_usage('regress_leyser_app', 'application');
DROP ROLE regress_leyser_owner, regress_leyser_operator, regress_leyser_app;
