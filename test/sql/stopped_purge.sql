-- A purge deletes what is the tenant's and touches nothing else.  Each thing that
-- stops it is told by purge_plan(), then refused by plan_purge() with table,
-- constraint and number of rows; and nothing is changed.

SET client_min_messages = warning;
CREATE ROLE regress_leyser_owner;
CREATE ROLE regress_leyser_neighbour;
CREATE ROLE regress_leyser_operator LOGIN;
SELECT leyser.grant_usage('regress_leyser_operator', 'operator');
CREATE SCHEMA regress_leyser_stop;
GRANT ALL ON SCHEMA regress_leyser_stop TO regress_leyser_owner, regress_leyser_neighbour;
GRANT USAGE ON SCHEMA regress_leyser_stop TO regress_leyser_operator;
SET search_path = regress_leyser_stop;
SELECT leyser.create_tenant('stop-a'), leyser.create_tenant('stop-b');
CREATE VIEW stops AS SELECT p.relation, p.rows, p.note FROM leyser.purge_plan('stop-a') p WHERE p.action = 'stop' ORDER BY p.step;
CREATE FUNCTION content() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    one regclass;
    rows text;
    gathered text := '';
BEGIN
    -- that a superuser reads the tables is an event of its own
    FOR one IN SELECT c.oid FROM pg_class c WHERE c.relkind = 'r' AND c.relname <> 'event_pending'
            AND c.relnamespace IN ('regress_leyser_stop'::regnamespace, 'leyser'::regnamespace) ORDER BY c.oid LOOP
        EXECUTE format('SELECT string_agg(t::text, '','' ORDER BY t::text) FROM %s t WHERE t::text !~ ''privileged[.]access''', one) INTO rows;
        gathered := md5(gathered || coalesce(rows, ''));
    END LOOP;
    RETURN gathered;
END $$;
-- What plan_purge() says, and whether anything changed.
CREATE PROCEDURE refused() LANGUAGE plpgsql AS $$
DECLARE
    made bigint;
    before text := content();
    told_table text;
    told_constraint text;
    told_detail text;
    told_hint text;
BEGIN
    BEGIN
        INSERT INTO leyser.purge_record (tenant_id, state, batch_size, max_rows_per_second, queued_by)
            VALUES ('stop-a', 'due', 1000, 0, 'x') RETURNING purge_id INTO made;
        PERFORM leyser.plan_purge(made);
        RAISE EXCEPTION 'nothing stops it' USING ERRCODE = '00001';
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS told_table = TABLE_NAME, told_constraint = CONSTRAINT_NAME, told_detail = PG_EXCEPTION_DETAIL,
            told_hint = PG_EXCEPTION_HINT;
        RAISE INFO '% [table "%", constraint "%"]: %', SQLSTATE, told_table, told_constraint, SQLERRM
            USING DETAIL = told_detail, HINT = coalesce(nullif(told_hint, ''), '(none)');
    END;
    IF content() <> before THEN
        RAISE EXCEPTION 'something changed';
    END IF;
END $$;

SET ROLE regress_leyser_owner;
CREATE TABLE customer (tenant_id text NOT NULL, id int UNIQUE, PRIMARY KEY (tenant_id, id));
SELECT leyser.protect('customer');
RESET ROLE;
INSERT INTO customer SELECT CASE WHEN g <= 5 THEN 'stop-a' ELSE 'stop-b' END, g FROM generate_series(1, 10) g;
CALL refused();

-- A table of no kind that refers to the tenant's rows, whatever its foreign key
-- would do: other people's users and the provider's invoices would go or change.
SET ROLE regress_leyser_owner;
CREATE TABLE note (customer int REFERENCES customer (id) ON DELETE CASCADE);
RESET ROLE;
INSERT INTO note VALUES (6), (NULL);
CALL refused();
INSERT INTO note VALUES (1), (1), (2);
SELECT * FROM stops;
CALL refused();
ALTER TABLE note DROP CONSTRAINT note_customer_fkey;
ALTER TABLE note ADD CONSTRAINT "note's" FOREIGN KEY (customer) REFERENCES customer (id) ON DELETE SET NULL;
CALL refused();
-- Declared or not, what is kept must not refer to what goes.
SELECT leyser.declare_table('note', 'retained', 'tax law');
CALL refused();
SELECT leyser.declare_table('note', 'ignored', 'no matter');
CALL refused();
SELECT leyser.declare_table('note', 'shared', 'all read it');
CALL refused();
-- A condition that finds only some of them.
SELECT leyser.declare_table('note', 'by_rule', 'notes', $$customer = 1 AND $1 = 'stop-a'$$);
CALL refused();
SELECT leyser.declare_table('note', 'by_rule', 'notes', $$customer IN (SELECT c.id FROM regress_leyser_stop.customer c WHERE c.tenant_id = $1)$$);
CALL refused();
SELECT action, rows, note FROM leyser.purge_plan('stop-a') WHERE relation = 'note'::regclass;
SELECT leyser.unprotect('note');
DROP TABLE note;

-- Another tenant's row that refers to the tenant's.
SET ROLE regress_leyser_owner;
CREATE TABLE visit (tenant_id text NOT NULL, customer int CONSTRAINT visit_customer REFERENCES customer (id));
SELECT leyser.protect('visit', accept_gaps => true);
RESET ROLE;
INSERT INTO visit VALUES ('stop-a', 1), ('stop-b', 6), ('stop-a', 7);
CALL refused();
INSERT INTO visit VALUES ('stop-b', 3);
SELECT * FROM stops;
CALL refused();
DROP TABLE visit;
-- ... or a row of all.
SET ROLE regress_leyser_owner;
CREATE TABLE visit (tenant_id text, customer int CONSTRAINT visit_customer REFERENCES customer (id));
SELECT leyser.protect('visit', kind => 'own_and_global', accept_gaps => true);
RESET ROLE;
INSERT INTO visit VALUES (NULL, 1);
CALL refused();
DROP TABLE visit;

-- Partitions on both sides, and columns by other names, types and collations.
SET ROLE regress_leyser_owner;
CREATE TABLE room (tenant_id text NOT NULL, "no." varchar COLLATE "C", n bigint, UNIQUE (n, "no.")) PARTITION BY RANGE (n);
CREATE TABLE room_1 PARTITION OF room FOR VALUES FROM (0) TO (10);
CREATE TABLE room_2 PARTITION OF room FOR VALUES FROM (10) TO (20);
SELECT leyser.protect('room');
CREATE TABLE key (id int, what text COLLATE "POSIX", "of" int, CONSTRAINT room_key FOREIGN KEY ("of", what) REFERENCES room (n, "no.")) PARTITION BY LIST (id);
CREATE TABLE key_1 PARTITION OF key FOR VALUES IN (1);
CREATE TABLE key_2 PARTITION OF key DEFAULT;
RESET ROLE;
INSERT INTO room VALUES ('stop-a', 'a', 1), ('stop-a', 'a', 11), ('stop-b', 'a', 2), ('stop-b', 'a', 12);
INSERT INTO key VALUES (1, 'a', 1), (2, 'a', 2), (3, 'a', 11), (4, 'a', 11), (5, NULL, 11);
SELECT * FROM stops;
CALL refused();
-- Two owners: neither's code runs with the other's rights.
ALTER TABLE key OWNER TO regress_leyser_neighbour;
ALTER TABLE key_1 OWNER TO regress_leyser_neighbour;
ALTER TABLE key_2 OWNER TO regress_leyser_neighbour;
SELECT * FROM stops;
DROP TABLE key, room;
SET ROLE regress_leyser_owner;
CREATE FUNCTION spying_owner(x char) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
    IF current_user = 'regress_leyser_neighbour' THEN RAISE INFO 'with the rights of %', current_user; END IF; RETURN true; END $$;
CREATE DOMAIN code AS char(3) CHECK (regress_leyser_stop.spying_owner(VALUE));
CREATE TABLE place (tenant_id text NOT NULL, code code UNIQUE);
SELECT leyser.protect('place');
RESET ROLE;
CREATE TABLE thing (code char(3) CONSTRAINT thing_code REFERENCES place (code));
ALTER TABLE thing OWNER TO regress_leyser_neighbour;
INSERT INTO place VALUES ('stop-a', 'a'), ('stop-a', 'b'), ('stop-b', 'c');
INSERT INTO thing VALUES ('a'), ('c');
SELECT * FROM stops;
DROP TABLE thing, place;

-- leyser's own rows are the tenant's as well.
CREATE TABLE profile (account bigint CONSTRAINT profile_account REFERENCES leyser.account_record, hobby text);
ALTER TABLE profile OWNER TO regress_leyser_owner;
SET client_min_messages = error;
SELECT leyser.create_account('ann', 'stop-a') AS ann \gset
SET client_min_messages = warning;
INSERT INTO profile SELECT account_id, 'chess' FROM leyser.account_record WHERE tenant_id = 'stop-a';
SELECT * FROM stops;
DROP TABLE profile;
-- The tenant's own row stays, as a tombstone: one may refer to that.
CREATE TABLE bill (tenant text REFERENCES leyser.tenant_record);
INSERT INTO bill VALUES ('stop-a');
CALL refused();
DROP TABLE bill;

-- Rules change what DELETE does.
CREATE TABLE archive (LIKE customer);
CREATE RULE keep AS ON DELETE TO customer DO ALSO INSERT INTO regress_leyser_stop.archive VALUES (OLD.tenant_id, OLD.id);
SELECT * FROM stops;
CALL refused();
ALTER TABLE customer DISABLE RULE keep;
CALL refused();
ALTER TABLE customer ENABLE REPLICA RULE keep;
CALL refused();
DROP RULE keep ON customer;
CREATE RULE no_deletes AS ON DELETE TO customer DO INSTEAD NOTHING;
CALL refused();
DROP RULE no_deletes ON customer;
DROP TABLE archive;

-- Its owner, as whom a purge deletes, may not.
REVOKE DELETE ON customer FROM regress_leyser_owner;
SELECT * FROM stops;
CALL refused();
GRANT DELETE ON customer TO regress_leyser_owner;

-- The server refuses to delete what it cannot publish.
CREATE TABLE loose (tenant_id text NOT NULL, x int);
SELECT leyser.protect('loose');
SET client_min_messages = error;
CREATE PUBLICATION regress_leyser_stop_publication FOR TABLE loose;
SET client_min_messages = warning;
CALL refused();
INSERT INTO loose VALUES ('stop-a', 1);
SELECT * FROM stops;
CALL refused();
ALTER TABLE loose REPLICA IDENTITY FULL;
CALL refused();
ALTER TABLE loose REPLICA IDENTITY DEFAULT, ADD PRIMARY KEY (tenant_id);
CALL refused();
ALTER PUBLICATION regress_leyser_stop_publication SET TABLE loose WHERE (x > 0);
CALL refused();
ALTER PUBLICATION regress_leyser_stop_publication SET (publish = 'insert');
CALL refused();
DROP PUBLICATION regress_leyser_stop_publication;

-- Pages of another kind cannot be scrubbed.
CREATE ACCESS METHOD regress_leyser_heap TYPE TABLE HANDLER heap_tableam_handler;
ALTER TABLE loose SET ACCESS METHOD regress_leyser_heap;
DELETE FROM loose;
SELECT * FROM stops;
CALL refused();
ALTER TABLE loose SET ACCESS METHOD heap;
DROP ACCESS METHOD regress_leyser_heap;
DROP TABLE loose;

-- Conditions.  An operator sees no rows and is nobody's owner; its conditions run as
-- the table's owner, over all rows.  First what must work.
SET ROLE regress_leyser_owner;
CREATE TABLE job (id int, payload jsonb, tenant text);
CREATE FUNCTION tenant_of(payload jsonb) RETURNS text LANGUAGE sql STABLE AS $$ SELECT payload ->> 'tenant' $$;
RESET ROLE;
INSERT INTO job SELECT g, jsonb_build_object('tenant', 'stop-a', 'secret', 'Xyzzy' || g), CASE WHEN g = 1 THEN '1' ELSE 'Xyzzy' END
    FROM generate_series(1, 3) g;
CREATE PROCEDURE with_condition(condition text) LANGUAGE plpgsql AS $$
DECLARE
    told record;
BEGIN
    PERFORM leyser.declare_table('regress_leyser_stop.job', 'by_rule', 'queue', condition);
    SELECT p.action, p.rows, p.note INTO told FROM leyser.purge_plan('stop-a') p WHERE p.relation = 'regress_leyser_stop.job'::regclass;
    RAISE INFO '%: % (%)', told.action, told.note, told.rows;
END $$;
ALTER PROCEDURE with_condition(text) SET client_min_messages = info;
CALL with_condition($$payload ->> 'tenant' = $1$$);
CALL with_condition($$regress_leyser_stop.tenant_of(job.payload) = $1 /* theirs */ -- ours$$);
CALL with_condition($$payload ->> 'tenant' = $1 AND tableoid > 0 AND id IN (VALUES (1), (2))$$);
CALL with_condition($$EXISTS (SELECT FROM regress_leyser_stop.customer c WHERE c.id = job.id AND c.tenant_id = $1)$$);
-- What ends the parentheses, or adds a clause or a statement.
CALL with_condition($$true) OR (true$$);
CALL with_condition($$true); DELETE FROM regress_leyser_stop.customer; --$$);
CALL with_condition($$true; SELECT 1$$);
CALL with_condition($$true /* never closed$$);
CALL with_condition($$'never closed$$);
CALL with_condition($$true FROM regress_leyser_stop.customer$$);
CALL with_condition($$true AS x$$);
CALL with_condition($$true, true$$);
CALL with_condition($$true LIMIT 1$$);
CALL with_condition($$true UNION SELECT true$$);
-- A backslash that only a session with other rules would take for an escape.
SET standard_conforming_strings = off;
SET escape_string_warning = off;
CALL with_condition($$'\' = $1 OR true -- '$$);
CALL with_condition($$'\'' = $1) OR (true --'$$);
RESET standard_conforming_strings;
RESET escape_string_warning;
-- What is no condition.
CALL with_condition($$1$$);
CALL with_condition($$no_column = $1$$);
CALL with_condition($$payload ->> 'tenant' = $2$$);
CALL with_condition($$count(*) > 0$$);
CALL with_condition($$*$$);
-- Volatile functions, and whatever the operator could have made.
GRANT CREATE ON SCHEMA regress_leyser_stop TO regress_leyser_operator;
SET ROLE regress_leyser_operator;
CREATE FUNCTION spy(x text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE INFO 'the operator reads %', x; RETURN true; END $$;
CREATE FUNCTION spy2(text, text) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT regress_leyser_stop.spy($1)';
CREATE OPERATOR === (LEFTARG = text, RIGHTARG = text, FUNCTION = spy2);
CREATE DOMAIN spying AS text CHECK (regress_leyser_stop.spy(VALUE));
CREATE VIEW looking AS SELECT regress_leyser_stop.spy('view') AS seen;
CREATE TABLE bait (id int, x text);
CREATE AGGREGATE spies (text) (SFUNC = textcat, STYPE = text, FINALFUNC = spy);
CREATE TYPE spying_row AS (x spying);
CREATE TYPE spying_range AS RANGE (subtype = spying);
CREATE TABLE spying_bait (x spying[]);
CREATE FUNCTION takes_spies(x spying[]) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE OPERATOR @@@ (RIGHTARG = spying[], FUNCTION = takes_spies);
CREATE DOMAIN pg_temp.spying_for_a_while AS text CHECK (regress_leyser_stop.spy(VALUE));
RESET ROLE;
GRANT SELECT ON looking, bait TO PUBLIC;
CALL with_condition($$pg_sleep(0) IS NOT NULL$$);
CALL with_condition($$lo_from_bytea(0, '') > 0$$);
CALL with_condition($$set_config('leyser.guards', 'off', false) = $1$$);
CALL with_condition($$regress_leyser_stop.spy(payload ->> 'secret')$$);
CALL with_condition($$payload ->> 'secret' OPERATOR(regress_leyser_stop.===) $1$$);
CALL with_condition($$(payload ->> 'secret')::regress_leyser_stop.spying = $1$$);
CALL with_condition($$(SELECT l.seen FROM regress_leyser_stop.looking l)$$);
CALL with_condition($$id IN (SELECT b.id FROM regress_leyser_stop.bait b)$$);
CALL with_condition($$(SELECT regress_leyser_stop.spies(j.payload ->> 'secret') FROM regress_leyser_stop.job j)$$);
CALL with_condition($$ARRAY[payload ->> 'secret'] OPERATOR(pg_catalog.=) ARRAY[$1] OR tenant OPERATOR(regress_leyser_stop.===) ANY (ARRAY[$1])$$);
CALL with_condition($$true ORDER BY regress_leyser_stop.spy('x')$$);
-- ... or what analysis would run already: the literals of its types.
CALL with_condition($$'{x}'::regress_leyser_stop.spying[] IS NULL$$);
CALL with_condition($$CAST('(x)' AS regress_leyser_stop.spying_row) IS NULL$$);
CALL with_condition($$'[a,b]'::regress_leyser_stop.spying_range IS NULL$$);
CALL with_condition($$'{[a,b]}'::regress_leyser_stop.spying_multirange IS NULL$$);
CALL with_condition($$regress_leyser_stop._spying('{x}') IS NULL$$);
CALL with_condition($$'{x}'::_spying_for_a_while IS NULL$$);
CALL with_condition($$'{x}'::spying_for_a_while[] IS NULL$$);
CALL with_condition($$spying_for_a_while('x') IS NULL$$);
CALL with_condition($$regress_leyser_stop.takes_spies('{x}')$$);
CALL with_condition($$OPERATOR(regress_leyser_stop.@@@) '{x}'$$);
CALL with_condition($$1 = ANY (SELECT 1 FROM regress_leyser_stop.spying_bait s WHERE s.x = '{x}')$$);
CALL with_condition($$(payload ->> 'secret', 1) = ANY (SELECT s.x[1], 2 FROM regress_leyser_stop.spying_bait s ORDER BY 1 USING OPERATOR(regress_leyser_stop.===))$$);
CALL with_condition($$EXISTS (SELECT FROM pg_catalog.json_to_record('{"x": "x"}') AS r (x regress_leyser_stop.spying))$$);
CALL with_condition($$xmlserialize(CONTENT '<x/>' AS regress_leyser_stop.spying) IS NULL$$);
-- ... or built-in functions that run what their arguments name.
GRANT USAGE ON SCHEMA regress_leyser_stop TO PUBLIC;
CALL with_condition($$domain_in('x', 'regress_leyser_stop.spying'::regtype::oid, -1) IS NULL$$);
CALL with_condition($$array_in('{x}', 'regress_leyser_stop.spying'::regtype::oid, -1) IS NULL$$);
CALL with_condition($$table_to_xml('regress_leyser_stop.looking', true, true, '') IS NULL$$);
CALL with_condition($$schema_to_xml('regress_leyser_stop', true, true, '') IS NULL$$);
CALL with_condition($$database_to_xml(true, true, '') IS NULL$$);
CALL with_condition($$query_to_xml('SELECT regress_leyser_stop.spy(''x'')', true, true, '') IS NULL$$);
CALL with_condition($$pg_relation_size('regress_leyser_stop.job') = 1$$);
-- Stable functions of plain values may be called.
CALL with_condition($$concat(payload ->> 'tenant', '') = $1 AND to_char(now(), 'YYYY') > '2000'$$);
CALL with_condition($$(payload ->> 'at')::timestamptz < now() OR array_to_string(ARRAY[payload ->> 'tenant'], '') = $1$$);
-- Locks and changes in subqueries, and kinds of clauses that conditions do without.
CALL with_condition($$id IN (SELECT c.id FROM regress_leyser_stop.customer c FOR UPDATE)$$);
CALL with_condition($$id IN (WITH d AS (DELETE FROM regress_leyser_stop.customer RETURNING id) SELECT id FROM d)$$);
CALL with_condition($$id IN (SELECT c.id FROM regress_leyser_stop.customer c TABLESAMPLE system (10))$$);
CALL with_condition($$id IN (WITH d AS (SELECT c.id FROM regress_leyser_stop.customer c WHERE c.tenant_id = $1) SELECT d.id FROM d)$$);
CALL with_condition($$CASE WHEN payload ? 'tenant' THEN (payload ->> 'tenant') COLLATE "C" IN ($1, NULL) ELSE coalesce(tenant, 'x') LIKE $1 END$$);
-- An error that would quote a row is told by its SQLSTATE alone.
CALL with_condition($$tenant::int = 1 AND $1 <> ''$$);
CALL with_condition($$tenant IS NOT NULL$$);
CALL with_condition($$(payload ->> 'secret')::int = 1 AND $1 = 'x'$$);
CALL with_condition($$tenant = $1::uuid::text$$);
SELECT * FROM stops;
CALL refused();
-- The owner's conditions see rows under row security as the owner does.
SELECT leyser.unprotect('job');

-- Several at once: all are told, one is refused, with the number of the others.
SELECT leyser.declare_table('job', 'by_rule', 'queue', 'no_column = $1');
CREATE TABLE note (customer int CONSTRAINT note_1 REFERENCES customer (id), other int CONSTRAINT note_2 REFERENCES customer (id));
INSERT INTO note VALUES (1, 2);
SELECT * FROM stops;
CALL refused();
-- ... of no other tenant
SELECT p.* FROM leyser.purge_plan('stop-b') p WHERE p.action = 'stop';

SELECT leyser.unprotect('job'), leyser.unprotect('customer');
DROP DOMAIN pg_temp.spying_for_a_while;
DROP SCHEMA regress_leyser_stop CASCADE;
SELECT leyser.revoke_usage('regress_leyser_operator', 'operator');
DROP ROLE regress_leyser_owner, regress_leyser_neighbour, regress_leyser_operator;
