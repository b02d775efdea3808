-- Statements of table owners and superusers that would open a protected table.

SET client_min_messages = warning;
CREATE ROLE regress_leyser_owner;
CREATE ROLE regress_leyser_reader;
CREATE SCHEMA regress_leyser_guard AUTHORIZATION regress_leyser_owner;
GRANT USAGE ON SCHEMA regress_leyser_guard TO regress_leyser_reader;
SET search_path = regress_leyser_guard;
SELECT leyser.create_tenant('guard-a'), leyser.create_tenant('guard-b');
SELECT leyser.issue_token('guard-a') AS a \gset

SET ROLE regress_leyser_owner;
CREATE TABLE customer (tenant_id text NOT NULL, customer_id int NOT NULL, name text,
    PRIMARY KEY (tenant_id, customer_id), UNIQUE (customer_id));
CREATE TABLE invoice (tenant_id text NOT NULL, invoice_id int NOT NULL, customer_id int,
    amount int, PRIMARY KEY (tenant_id, invoice_id));
CREATE TABLE note (tenant_id text NOT NULL, body text);
ALTER TABLE note ENABLE ROW LEVEL SECURITY;
CREATE POLICY everything ON note USING (true);
CREATE TABLE plain (i int PRIMARY KEY);
INSERT INTO customer VALUES ('guard-a', 1, 'a'), ('guard-b', 2, 'b');
INSERT INTO invoice VALUES ('guard-a', 1, 1, 10), ('guard-b', 1, 2, 20);
GRANT ALL ON ALL TABLES IN SCHEMA regress_leyser_guard TO regress_leyser_reader;
SELECT leyser.protect('customer');
SELECT leyser.protect('invoice');
SELECT leyser.protect('note');

-- The owner takes the policies away.
ALTER TABLE invoice DISABLE ROW LEVEL SECURITY;
\set VERBOSITY terse
ALTER TABLE invoice NO FORCE ROW LEVEL SECURITY;
ALTER TABLE invoice NO FORCE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
DROP POLICY leyser_tenant ON invoice;
ALTER POLICY leyser_tenant ON invoice USING (true);
ALTER POLICY leyser_tenant ON invoice WITH CHECK (true);
ALTER POLICY leyser_tenant ON invoice RENAME TO unnoticed;
ALTER POLICY leyser_tenant ON invoice TO regress_leyser_reader;
DO $$ BEGIN EXECUTE 'DROP POLICY leyser_tenant ON regress_leyser_guard.invoice'; END $$;
ALTER TABLE invoice DROP COLUMN tenant_id;
ALTER TABLE invoice DROP COLUMN tenant_id CASCADE;
-- The error leaves everything as it was, in a subtransaction too.
DO $$
BEGIN
    ALTER TABLE invoice DISABLE ROW LEVEL SECURITY;
EXCEPTION WHEN SQLSTATE 'LY007' THEN
    RAISE WARNING 'refused';
END $$;
SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = 'invoice'::regclass;

-- A permissive policy beside ours would be OR-ed with it.
\set VERBOSITY default
CREATE POLICY small ON invoice USING (amount < 15);
\set VERBOSITY terse
CREATE POLICY small ON invoice AS RESTRICTIVE USING (amount < 15);
CREATE POLICY short ON note USING (length(body) < 10);
ALTER POLICY short ON note USING (length(body) < 20);
DROP POLICY small ON invoice;
DROP POLICY short ON note;

-- What does not weaken anything passes, also renames.
ALTER TABLE invoice ADD paid boolean;
ALTER TABLE invoice RENAME tenant_id TO tenant;
ALTER TABLE invoice RENAME TO bill;
ALTER TABLE bill RENAME TO invoice;
ALTER TABLE invoice RENAME tenant TO tenant_id;
CREATE INDEX ON invoice (customer_id);
COMMENT ON TABLE invoice IS 'bills';
ALTER TABLE plain ENABLE ROW LEVEL SECURITY;
ALTER TABLE plain DISABLE ROW LEVEL SECURITY;
RESET ROLE;
CREATE INDEX CONCURRENTLY invoice_amount ON invoice (amount);
CLUSTER invoice USING invoice_pkey;
REINDEX TABLE CONCURRENTLY invoice;
DROP INDEX CONCURRENTLY invoice_amount;
-- a superuser is bound too, and can say so
ALTER TABLE invoice NO FORCE ROW LEVEL SECURITY;
SET leyser.guards = off;
ALTER TABLE invoice NO FORCE ROW LEVEL SECURITY;
SET leyser.guards = on;
-- what was broken before does not block other work
ALTER TABLE invoice ADD note text;
ALTER TABLE invoice FORCE ROW LEVEL SECURITY;
SET ROLE regress_leyser_owner;
SET leyser.guards = off;
RESET ROLE;

-- TRUNCATE takes every tenant's rows.
SET ROLE regress_leyser_reader;
\set VERBOSITY default
TRUNCATE regress_leyser_guard.invoice;
\set VERBOSITY terse
TRUNCATE regress_leyser_guard.plain;
SET ROLE regress_leyser_owner;
TRUNCATE plain, invoice;
ALTER TABLE plain ADD FOREIGN KEY (i) REFERENCES plain;
RESET ROLE;
BEGIN;
TRUNCATE invoice;
ROLLBACK;

-- ALTER TABLE in a context: a default would stamp every tenant's rows.
SET ROLE regress_leyser_owner;
BEGIN;
SET LOCAL leyser.token = :'a';
\set VERBOSITY default
ALTER TABLE invoice ADD stamped text DEFAULT leyser.tenant_id();
\set VERBOSITY terse
ROLLBACK;
BEGIN;
SET LOCAL leyser.token = :'a';
ALTER TABLE plain ADD tenant text DEFAULT leyser.tenant_id();
SELECT leyser.leave();
ALTER TABLE invoice ADD later int;
ROLLBACK;

-- A materialized view filled in a context keeps one tenant's rows for everybody.
SET ROLE regress_leyser_owner;
BEGIN;
SET LOCAL leyser.token = :'a';
SAVEPOINT s;
\set VERBOSITY default
CREATE MATERIALIZED VIEW kept AS SELECT * FROM invoice;
\set VERBOSITY terse
ROLLBACK TO s;
EXPLAIN ANALYZE CREATE MATERIALIZED VIEW kept AS SELECT * FROM invoice;
ROLLBACK TO s;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) CREATE MATERIALIZED VIEW kept AS SELECT 1;
ROLLBACK TO s;
DO $$ BEGIN EXECUTE 'CREATE MATERIALIZED VIEW kept AS SELECT 1'; END $$;
ROLLBACK;
CREATE MATERIALIZED VIEW plain_kept AS SELECT * FROM plain;
REFRESH MATERIALIZED VIEW plain_kept;
RESET ROLE;

-- leyser's own objects carry the protection: a superuser changes them by an update.
\set VERBOSITY default
CALL trial.attempt('ALTER TABLE leyser.tenant_record RENAME state TO unnoticed');
\set VERBOSITY terse
DO $$
DECLARE
    one text;
BEGIN
    FOREACH one IN ARRAY ARRAY[
        'ALTER TABLE leyser.table_record RENAME TO unnoticed',
        'ALTER TABLE leyser.usage_record ADD unnoticed int',
        'ALTER TABLE leyser.event_record DISABLE TRIGGER ALL',
        'ALTER TABLE leyser.proxy_tables RENAME TO unnoticed',
        'ALTER VIEW leyser.governed_table RENAME TO unnoticed',
        'ALTER INDEX leyser.tenant_record_pkey RENAME TO unnoticed',
        'ALTER TABLE leyser.table_record SET SCHEMA regress_leyser_guard',
        'ALTER SCHEMA leyser RENAME TO unnoticed',
        'DROP SCHEMA leyser CASCADE',
        'ALTER EXTENSION leyser DROP TABLE leyser.table_record',
        'ALTER EXTENSION leyser DROP FUNCTION leyser.tenant_id()',
        'ALTER EXTENSION leyser ADD TABLE plain'] LOOP
        BEGIN
            EXECUTE one;
            RAISE EXCEPTION 'works'; -- and is undone
        EXCEPTION WHEN OTHERS THEN
            RAISE INFO E'%\n    %: %', one, SQLSTATE, SQLERRM;
        END;
    END LOOP;
END $$;
SET ROLE regress_leyser_owner;

-- Foreign keys: checked under row security they would be validated blindly.
\set VERBOSITY default
ALTER TABLE invoice ADD CONSTRAINT invoice_customer
    FOREIGN KEY (tenant_id, customer_id) REFERENCES customer;
\set VERBOSITY terse
ALTER TABLE invoice ADD CONSTRAINT invoice_customer
    FOREIGN KEY (tenant_id, customer_id) REFERENCES customer NOT VALID;
ALTER TABLE invoice VALIDATE CONSTRAINT invoice_customer;
ALTER TABLE plain ADD FOREIGN KEY (i) REFERENCES customer (customer_id);
ALTER TABLE invoice ADD COLUMN other int REFERENCES plain;
RESET ROLE;
ALTER TABLE invoice VALIDATE CONSTRAINT invoice_customer;
SELECT convalidated FROM pg_constraint WHERE conname = 'invoice_customer';
-- Without the tenant columns one tenant refers to another's rows.
\set VERBOSITY default
ALTER TABLE invoice ADD CONSTRAINT crossing FOREIGN KEY (customer_id)
    REFERENCES customer (customer_id) ON DELETE CASCADE;
\set VERBOSITY terse
ALTER TABLE invoice ADD CONSTRAINT crossing FOREIGN KEY (customer_id)
    REFERENCES customer (customer_id) NOT VALID;
ALTER TABLE invoice ADD COLUMN crossing int REFERENCES customer (customer_id);
ALTER TABLE invoice ADD FOREIGN KEY (tenant_id, customer_id) REFERENCES customer (tenant_id, customer_id);
ALTER TABLE invoice ADD COLUMN plain_id int REFERENCES plain;

-- The extension stays while it protects tables.
\set VERBOSITY default
DROP EXTENSION leyser;
DROP EXTENSION leyser CASCADE;
\set VERBOSITY terse
DROP SCHEMA leyser CASCADE;
ALTER SCHEMA leyser RENAME TO gone;
SELECT count(*) > 0 AS kept FROM leyser.tenant WHERE tenant_id = 'guard-a';

-- Partitions and children, however they come, are protected like their parent.
SET ROLE regress_leyser_owner;
CREATE TABLE event (tenant_id text NOT NULL, at date NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE event_2025 PARTITION OF event FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
SELECT leyser.protect('event');
CREATE TABLE event_2026 PARTITION OF event FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE event_2027 (tenant_id text NOT NULL, at date NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE event_2027_1 PARTITION OF event_2027 FOR VALUES FROM ('2027-01-01') TO ('2027-07-01');
ALTER TABLE event ATTACH PARTITION event_2027 FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');
DO $$ BEGIN
    CREATE TABLE event_2028 PARTITION OF event FOR VALUES FROM ('2028-01-01') TO ('2029-01-01');
END $$;
CREATE TABLE note_child () INHERITS (note);
CREATE TABLE note_late (LIKE note);
ALTER TABLE note_late INHERIT note;
CREATE TABLE note_like (LIKE note INCLUDING ALL);
CREATE TEMP TABLE note_temp () INHERITS (note);
DROP TABLE note_temp;
RESET ROLE;
SET leyser.guards = off;
CREATE TABLE event_2029 PARTITION OF event FOR VALUES FROM ('2029-01-01') TO ('2030-01-01');
RESET leyser.guards;
SELECT relation, kind, parent FROM leyser.governed_table
    WHERE relation::text ~ '^(event|note)' ORDER BY relation::text COLLATE "C";
SELECT c.relname, c.relrowsecurity, c.relforcerowsecurity, p.polname
    FROM pg_class c LEFT JOIN pg_policy p ON p.polrelid = c.oid
    WHERE c.relnamespace = 'regress_leyser_guard'::regnamespace AND c.relkind IN ('r', 'p')
      AND c.relname ~ '^(event|note)'
    ORDER BY c.relname COLLATE "C", p.polname COLLATE "C";
SET ROLE regress_leyser_owner;
INSERT INTO event_2026 VALUES ('guard-a', '2026-01-01');
BEGIN;
SET LOCAL leyser.token = :'a';
INSERT INTO event VALUES ('guard-a', '2026-01-01'), ('guard-a', '2027-01-01');
INSERT INTO event_2027_1 VALUES ('guard-b', '2027-01-01');
ROLLBACK;
-- a parent without policies would show the rows of a protected child
CREATE TABLE spy (LIKE invoice);
\set VERBOSITY default
ALTER TABLE invoice INHERIT spy;
\set VERBOSITY terse
CREATE TABLE spies (LIKE invoice) PARTITION BY LIST (tenant_id);
ALTER TABLE spies ATTACH PARTITION invoice DEFAULT;
CREATE TABLE shared_parent (i int);
CREATE TABLE shared_child () INHERITS (shared_parent);
ALTER TABLE shared_child NO INHERIT shared_parent;
ALTER TABLE shared_child INHERIT shared_parent;
-- a partition is only unprotected with its parent, and a protected table is
-- protected again after it was unprotected
ALTER TABLE event_2026 DISABLE ROW LEVEL SECURITY;
SELECT leyser.protect('event');
SELECT leyser.protect('event_2027');
ALTER TABLE event DETACH PARTITION event_2028;
ALTER TABLE event_2028 NO FORCE ROW LEVEL SECURITY;
DROP TABLE event_2028;
RESET ROLE;
SELECT leyser.unprotect('event');
ALTER TABLE event DISABLE ROW LEVEL SECURITY;
SELECT relname FROM pg_class WHERE relnamespace = 'regress_leyser_guard'::regnamespace
    AND relname ~ '^event' AND (relrowsecurity OR relforcerowsecurity);

-- Tables that are gone leave the registry.
DROP TABLE event, note CASCADE;
SELECT count(*) FROM leyser.table_record t
    WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.relation);

-- Guards are not for everybody to turn off.
SET ROLE regress_leyser_owner;
SET leyser.guards = off;
SET leyser.registry_work = on;
RESET ROLE;
DROP SCHEMA regress_leyser_guard CASCADE;
DROP ROLE regress_leyser_owner, regress_leyser_reader;
