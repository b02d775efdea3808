-- The plan of a purge: children before parents, circles together, and what is
-- kept, refreshed or must be confirmed is named.

SET client_min_messages = warning;
CREATE ROLE regress_leyser_owner;
CREATE ROLE regress_leyser_other_owner;
CREATE ROLE regress_leyser_operator LOGIN;
CREATE ROLE regress_leyser_auditor LOGIN;
SELECT leyser.grant_usage('regress_leyser_operator', 'operator'), leyser.grant_usage('regress_leyser_auditor', 'auditor');
CREATE SCHEMA regress_leyser_plan;
GRANT ALL ON SCHEMA regress_leyser_plan TO regress_leyser_owner, regress_leyser_other_owner;
SET search_path = regress_leyser_plan;
SELECT leyser.create_tenant('plan-a', 'A', 'JP'), leyser.create_tenant('plan-b'), leyser.create_tenant('1151'), leyser.create_tenant('1152');
-- A plan without leyser's own tables, which have a part of their own below.
CREATE FUNCTION plan(tenant text) RETURNS TABLE (step text, action text, rows bigint, note text) LANGUAGE sql AS $$
    SELECT coalesce(p.relation::text, '-'), p.action, p.rows, p.note FROM leyser.purge_plan(tenant) p
    WHERE p.relation IS NULL OR p.relation::text !~ '^leyser\.' ORDER BY p.step $$;
-- What plan_purge() keeps, or says; undone.
CREATE PROCEDURE try_plan(tenant text) LANGUAGE plpgsql AS $$
DECLARE
    made bigint;
    told_table text;
    told_constraint text;
    told_detail text;
    told_hint text;
BEGIN
    INSERT INTO leyser.purge_record (tenant_id, state, batch_size, max_rows_per_second, queued_by)
        VALUES (tenant, 'due', 1000, 0, current_user) RETURNING purge_id INTO made;
    PERFORM leyser.plan_purge(made);
    RAISE EXCEPTION 'undone' USING DETAIL = (SELECT count(*) || ' steps, ' || sum(t.rows_planned) || ' rows'
        FROM leyser.purge_table t WHERE t.purge_id = made AND t.relation_name !~ '^leyser');
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS told_table = TABLE_NAME, told_constraint = CONSTRAINT_NAME, told_detail = PG_EXCEPTION_DETAIL,
        told_hint = PG_EXCEPTION_HINT;
    RAISE INFO '% [table %, constraint %]: %', SQLSTATE, told_table, told_constraint, SQLERRM USING DETAIL = told_detail, HINT = told_hint;
END $$;

-- Four levels, a circle, a table that refers to itself, partitions, other types.
SET ROLE regress_leyser_owner;
CREATE TABLE country (tenant_id text NOT NULL, id int, PRIMARY KEY (tenant_id, id));
CREATE TABLE customer (tenant_id text NOT NULL, id int, country int, best_invoice int, PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, country) REFERENCES country);
CREATE TABLE invoice (tenant_id text NOT NULL, id int, customer int, PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, customer) REFERENCES customer);
ALTER TABLE customer ADD FOREIGN KEY (tenant_id, best_invoice) REFERENCES invoice;
CREATE TABLE line (tenant_id text NOT NULL, invoice int, n int, FOREIGN KEY (tenant_id, invoice) REFERENCES invoice) PARTITION BY RANGE (n);
CREATE TABLE line_low PARTITION OF line FOR VALUES FROM (0) TO (10);
CREATE TABLE line_high PARTITION OF line FOR VALUES FROM (10) TO (1000);
CREATE TABLE folder (tenant_id text NOT NULL, id int, up int, PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, up) REFERENCES folder);
CREATE TABLE setting (tenant_id text, name text);
CREATE TABLE "odd ""table"" $1" ("te""nant; id" varchar(50) NOT NULL, x int);
CREATE TABLE numbered (tenant_id smallint NOT NULL, x int);
CREATE TABLE keyed (tenant_id uuid NOT NULL, x int);
CREATE DOMAIN tenant_number AS bigint CHECK (VALUE > 0);
CREATE TABLE counted (tenant_id tenant_number NOT NULL, x int);
CREATE TABLE job (id int, payload jsonb);
CREATE TABLE remark (id int, about text, about_id int);
CREATE TABLE ledger (id int, tenant text, amount numeric);
CREATE TABLE currency (code text);
CREATE TABLE forgotten (tenant text);
SELECT leyser.protect(t::regclass) FROM unnest('{country,customer,invoice,line,folder,numbered,keyed,counted}'::text[]) t;
SELECT leyser.protect('setting', kind => 'own_and_global'), leyser.protect('"odd ""table"" $1"', 'te"nant; id');
RESET ROLE;
SELECT leyser.declare_table('job', 'by_rule', 'the queue', $$payload ->> 'tenant' = $1 -- a comment at its end$$);
SELECT leyser.declare_table('remark', 'by_rule', 'polymorphic',
    $$about = 'invoice' AND about_id IN (SELECT i.id FROM regress_leyser_plan.invoice i WHERE i.tenant_id = $1)$$);
SELECT leyser.declare_table('ledger', 'retained', 'tax law, 10 years'), leyser.declare_table('currency', 'shared', 'all read it');
INSERT INTO country SELECT t, 1 FROM unnest('{plan-a,plan-b}'::text[]) t;
INSERT INTO customer SELECT t, g, 1 FROM unnest('{plan-a,plan-b}'::text[]) t, generate_series(1, 5) g;
INSERT INTO invoice SELECT t, g, g FROM unnest('{plan-a,plan-b}'::text[]) t, generate_series(1, 5) g;
UPDATE customer SET best_invoice = id;
INSERT INTO line SELECT t, g % 5 + 1, g FROM unnest('{plan-a,plan-b}'::text[]) t, generate_series(1, 30) g;
INSERT INTO folder SELECT t, g, nullif(g - 1, 0) FROM unnest('{plan-a,plan-b}'::text[]) t, generate_series(1, 4) g;
INSERT INTO setting VALUES ('plan-a', 'x'), (NULL, 'x'), ('plan-b', 'x');
INSERT INTO "odd ""table"" $1" VALUES ('plan-a', 1), ('plan-b', 2);
INSERT INTO numbered VALUES (1151, 1), (1152, 2);
INSERT INTO counted VALUES (1151, 1), (1151, 2), (1152, 2);
INSERT INTO job VALUES (1, '{"tenant": "plan-a"}'), (2, '{"tenant": "plan-b"}'), (3, NULL);
INSERT INTO remark VALUES (1, 'invoice', 2), (2, 'customer', 2);
SELECT * FROM plan('plan-a');
SELECT * FROM plan('1151') WHERE rows > 0 OR step IN ('keyed', 'job', 'setting');
CALL try_plan('plan-a');
SELECT count(*) FROM leyser.purge_table;
-- For an unknown tenant, an erased one, and who may not.
CALL trial.attempt('SELECT * FROM leyser.purge_plan(''nobody'')');
BEGIN;
UPDATE leyser.tenant_record SET state = 'erased' WHERE tenant_id = '1152';
CALL trial.attempt('SELECT * FROM leyser.purge_plan(''1152'')');
ROLLBACK;
SET ROLE regress_leyser_owner;
CALL trial.attempt('SELECT * FROM leyser.purge_plan(''plan-a'')');
SET ROLE regress_leyser_operator;
CALL trial.attempt('SELECT leyser.plan_purge(1)');
CALL trial.attempt('SELECT leyser.query_as_owner(''regress_leyser_plan.job'', ''SELECT count(*) FROM regress_leyser_plan.job'', NULL)');
SELECT count(*) > 20 AS works FROM leyser.purge_plan('plan-a');
SET ROLE regress_leyser_auditor;
SELECT count(*) > 20 AS works FROM leyser.purge_plan('plan-a');
RESET ROLE;

-- A condition that reads a table comes before it, also among leyser's own.
SELECT string_agg(p.relation::text, ' ' ORDER BY p.step) FROM leyser.purge_plan('plan-a') p
    WHERE p.relation IN ('remark'::regclass, 'invoice'::regclass);
SELECT string_agg(p.relation::text, ' ' ORDER BY p.step) FROM leyser.purge_plan('plan-a') p
    WHERE p.relation IN ('leyser.revoked_session'::regclass, 'leyser.session_record');
SELECT string_agg(p.relation::text, ' ' ORDER BY p.step) FROM leyser.purge_plan('plan-a') p
    WHERE p.relation IN ('leyser.login_delay'::regclass, 'leyser.account_record');
SELECT p.relation, p.rows, p.note FROM leyser.purge_plan('plan-a') p WHERE p.action = 'erase' ORDER BY p.relation::text;
-- ... and one that reads its own table must run in one transaction.
BEGIN;
SELECT leyser.declare_table('remark', 'by_rule', purge_condition => $$id IN (SELECT r.id FROM regress_leyser_plan.remark r WHERE r.about = $1)$$);
SELECT * FROM plan('plan-a') WHERE step = 'remark';
ROLLBACK;

-- Triggers do not fire, and are named.
CREATE FUNCTION keep_history() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER history AFTER DELETE ON country FOR EACH ROW EXECUTE FUNCTION keep_history();
CREATE TRIGGER insertion AFTER INSERT ON country FOR EACH ROW EXECUTE FUNCTION keep_history();
SELECT * FROM plan('plan-a') WHERE step = 'country';
DROP FUNCTION keep_history CASCADE;

-- Indexes that cannot be rebuilt concurrently are named.
CREATE TABLE booking (tenant_id text NOT NULL, room box, CONSTRAINT one_at_a_time EXCLUDE USING gist (room WITH &&));
SELECT leyser.protect('booking');
SELECT * FROM plan('plan-a') WHERE step = 'booking';
DROP TABLE booking;

-- Partitions that can only hold one tenant's rows are truncated.
SET ROLE regress_leyser_owner;
CREATE TABLE item (tenant_id text NOT NULL, region text, n int) PARTITION BY LIST (tenant_id);
CREATE TABLE item_a PARTITION OF item FOR VALUES IN ('plan-a') PARTITION BY LIST (region);
CREATE TABLE item_a_x PARTITION OF item_a FOR VALUES IN ('plan-a', 'x');
CREATE TABLE item_both PARTITION OF item FOR VALUES IN ('plan-b', '1151');
CREATE TABLE item_default PARTITION OF item DEFAULT;
CREATE TABLE piece (tenant_id bigint NOT NULL, n int) PARTITION BY LIST (tenant_id);
CREATE TABLE piece_11 PARTITION OF piece FOR VALUES IN (1151);
CREATE TABLE piece_12 PARTITION OF piece FOR VALUES IN (1152);
-- a partition by another column, whose value happens to be the tenant's id
CREATE TABLE part (tenant_id text NOT NULL, n text) PARTITION BY LIST (n);
CREATE TABLE part_a PARTITION OF part FOR VALUES IN ('plan-a');
SELECT leyser.protect('item'), leyser.protect('piece'), leyser.protect('part');
RESET ROLE;
SELECT * FROM plan('plan-a') WHERE step ~ '^(item|part)';
SELECT * FROM plan('1151') WHERE step ~ '^(item|piece)';
CREATE FUNCTION note_truncate() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER noticed BEFORE TRUNCATE ON item_a_x EXECUTE FUNCTION note_truncate();
SELECT * FROM plan('plan-a') WHERE step ~ '^item_a';
DROP FUNCTION note_truncate CASCADE;
DROP TABLE item, piece, part;

-- Materialized views, through views and in order; those that cannot be refreshed.
CREATE VIEW customers AS SELECT tenant_id, count(*) AS n FROM customer GROUP BY 1;
CREATE MATERIALIZED VIEW a_last AS SELECT 1 AS one WITH NO DATA;
CREATE MATERIALIZED VIEW z_first AS SELECT * FROM customers;
DROP MATERIALIZED VIEW a_last;
CREATE MATERIALIZED VIEW a_last AS SELECT sum(n) FROM z_first;
CREATE MATERIALIZED VIEW unfilled AS SELECT * FROM line WITH NO DATA;
CREATE MATERIALIZED VIEW elsewhere AS SELECT code FROM currency;
CREATE FUNCTION all_folders() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM regress_leyser_plan.folder';
CREATE MATERIALIZED VIEW hidden AS SELECT all_folders();
CREATE MATERIALIZED VIEW owners AS SELECT * FROM line;
ALTER MATERIALIZED VIEW owners OWNER TO regress_leyser_owner;
SELECT * FROM plan('plan-a') WHERE step IN ('a_last', 'z_first', 'unfilled', 'elsewhere', 'hidden', 'owners');
DROP VIEW customers CASCADE;
DROP MATERIALIZED VIEW unfilled, elsewhere, hidden, owners;
DROP FUNCTION all_folders;

-- What nobody here can erase waits to be confirmed.
CREATE TABLE document (tenant_id text NOT NULL, file oid);
SELECT leyser.protect('document');
SELECT lo_from_bytea(0, 'x') AS file, lo_from_bytea(0, 'y') AS other \gset
INSERT INTO document VALUES ('plan-a', :file), ('plan-a', 1), ('plan-b', :other);
SELECT leyser.register_external_store('regress search index');
SET client_min_messages = error;
CREATE PUBLICATION regress_leyser_all FOR TABLES IN SCHEMA regress_leyser_plan WITH (publish = 'insert');
SET client_min_messages = warning;
SELECT * FROM plan('plan-a') WHERE action = 'confirm';
SELECT * FROM plan('1151') WHERE action = 'confirm';
-- ... by its name, once a purge is planned.
BEGIN;
UPDATE leyser.tenant_record SET state = 'terminated', ends_at = now() WHERE tenant_id = 'plan-a';
CALL trial.attempt('SELECT leyser.confirm_external_erasure(''plan-a'', ''large objects of regress_leyser_plan.document'')');
INSERT INTO leyser.purge_record (tenant_id, state, batch_size, max_rows_per_second, queued_by)
    VALUES ('plan-a', 'due', 1000, 0, 'x') RETURNING purge_id \gset
SELECT leyser.plan_purge(:purge_id);
SELECT * FROM leyser.missing_external_erasures('plan-a');
SELECT leyser.confirm_external_erasure('plan-a', 'large objects of regress_leyser_plan.document');
SELECT * FROM leyser.missing_external_erasures('plan-a');
SELECT note FROM plan('plan-a') WHERE action = 'confirm';
-- The rows that named them may be gone when the purge is planned anew.
DELETE FROM leyser.external_erasure WHERE tenant_id = 'plan-a';
DELETE FROM document WHERE tenant_id = 'plan-a';
SELECT leyser.plan_purge(:purge_id);
SELECT * FROM leyser.missing_external_erasures('plan-a');
SELECT leyser.plan_purge(:purge_id);
SELECT count(*), count(DISTINCT step) FROM leyser.purge_table WHERE purge_id = :purge_id AND action = 'confirm';
ROLLBACK;
DROP PUBLICATION regress_leyser_all;
SELECT leyser.drop_external_store('regress search index');
SELECT lo_unlink(:file), lo_unlink(:other);
DROP TABLE document;

-- A plan that is made again keeps what was done.
BEGIN;
INSERT INTO leyser.purge_record (tenant_id, state, batch_size, max_rows_per_second, queued_by)
    VALUES ('plan-a', 'due', 1000, 0, 'x') RETURNING purge_id \gset
SELECT leyser.plan_purge(:purge_id);
UPDATE leyser.purge_table SET rows_deleted = 7, pages_scrubbed = 3 WHERE relation = 'country'::regclass;
DELETE FROM line WHERE tenant_id = 'plan-a';
CREATE TABLE late (tenant_id text NOT NULL);
SELECT leyser.protect('late');
SELECT leyser.plan_purge(:purge_id);
SELECT relation_name, action, rows_planned, rows_deleted, pages_scrubbed FROM leyser.purge_table t
    WHERE t.purge_id = :purge_id AND relation IN ('country'::regclass, 'late'::regclass, 'line_low'::regclass) ORDER BY 1;
ROLLBACK;

SELECT leyser.unprotect(t::regclass) FROM unnest('{country,customer,invoice,line,folder,numbered,keyed,counted,setting,"\"odd \"\"table\"\" $1\""}'::text[]) t;
SET client_min_messages = warning;
DROP SCHEMA regress_leyser_plan CASCADE;
SELECT leyser.revoke_usage('regress_leyser_operator', 'operator'), leyser.revoke_usage('regress_leyser_auditor', 'auditor');
DROP ROLE regress_leyser_owner, regress_leyser_other_owner, regress_leyser_operator, regress_leyser_auditor;
