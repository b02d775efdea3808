-- A table's owner attaches code to it: functions in indexes, statistics, checks and
-- domains.  Planning a query of the table, or parsing its default, runs that code.
-- mallory, who owns tables and is no superuser, waits for leyser to do so.

SELECT current_user AS superuser \gset
SET client_min_messages = warning;
CREATE ROLE regress_leyser_owner;
CREATE ROLE regress_leyser_mallory LOGIN;
CREATE ROLE regress_leyser_operator LOGIN;
CREATE SCHEMA regress_leyser_shop AUTHORIZATION regress_leyser_owner;
CREATE SCHEMA regress_leyser_evil AUTHORIZATION regress_leyser_mallory;
GRANT USAGE ON SCHEMA regress_leyser_shop, regress_leyser_evil TO PUBLIC;
SELECT leyser.grant_usage('regress_leyser_operator', 'operator');

\c - regress_leyser_mallory
SET search_path = regress_leyser_evil;
CREATE TABLE guarded (tenant_id text NOT NULL);
SELECT leyser.protect('guarded');
-- Whatever runs as somebody mightier is told here, and tries to rise.
CREATE TABLE seen (place text, runs_as name, attempt text, outcome text);
CREATE FUNCTION try(place text, statement text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    outcome text := 'WORKED';
BEGIN
    BEGIN
        EXECUTE statement;
    EXCEPTION WHEN OTHERS THEN
        outcome := CASE WHEN SQLSTATE ~ '^LY' THEN SQLSTATE || ' ' || SQLERRM ELSE SQLSTATE END;
    END;
    INSERT INTO regress_leyser_evil.seen VALUES (place, current_user, statement, outcome);
END $$;
CREATE FUNCTION attack(place text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM regress_leyser_evil.try(place, 'ALTER ROLE regress_leyser_mallory BYPASSRLS');
    PERFORM regress_leyser_evil.try(place, 'RESET ROLE');
    PERFORM regress_leyser_evil.try(place, 'SET leyser.guards = off');
    PERFORM regress_leyser_evil.try(place, 'SET leyser.registry_work = on');
    PERFORM regress_leyser_evil.try(place, 'ALTER TABLE regress_leyser_evil.guarded DISABLE ROW LEVEL SECURITY');
    PERFORM regress_leyser_evil.try(place, 'DROP POLICY leyser_tenant ON regress_leyser_evil.guarded');
    PERFORM regress_leyser_evil.try(place, 'SELECT leyser.unprotect(''regress_leyser_evil.guarded'')');
END $$;
-- "immutable": the planner calls it at once
CREATE FUNCTION one(place text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    PERFORM regress_leyser_evil.attack(place);
    RETURN 1;
END $$;
CREATE FUNCTION is_fine(value text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    PERFORM regress_leyser_evil.attack('domain');
    RETURN true;
END $$;
CREATE TABLE by_predicate (tenant_id text NOT NULL);
CREATE INDEX ON by_predicate (tenant_id) WHERE one('index predicate') = 1;
CREATE TABLE by_expression (tenant_id text NOT NULL, n int);
CREATE INDEX ON by_expression ((n + one('index expression')));
CREATE TABLE by_statistics (tenant_id text NOT NULL, n int);
CREATE STATISTICS statistics ON (n + one('statistics')), n FROM by_statistics;
CREATE TABLE by_check (tenant_id text NOT NULL CHECK (one('check') = 1));
CREATE DOMAIN fine AS text CHECK (is_fine(VALUE));
CREATE TABLE by_default (tenant_id text NOT NULL DEFAULT ('{x}'::fine[])[1]::text);
TRUNCATE seen;

-- A superuser protects them; in a new session each, where nothing was planned yet.
\c - :superuser
SET constraint_exclusion = on;
SELECT leyser.protect('regress_leyser_evil.by_predicate');
\c - :superuser
SELECT leyser.protect('regress_leyser_evil.by_expression');
\c - :superuser
SELECT leyser.protect('regress_leyser_evil.by_statistics');
\c - :superuser
SET constraint_exclusion = on;
SELECT leyser.protect('regress_leyser_evil.by_check');
-- the default that was there is parsed again by the second call
\c - :superuser
SELECT leyser.protect('regress_leyser_evil.by_default');
SELECT leyser.protect('regress_leyser_evil.by_default');
SET search_path = regress_leyser_evil;
SELECT DISTINCT place, runs_as FROM seen ORDER BY place;
SELECT DISTINCT attempt, outcome FROM seen ORDER BY attempt;
TRUNCATE seen;
-- ... and by an operator who lifts the protection
\c - regress_leyser_operator
SELECT leyser.unprotect('regress_leyser_evil.by_default'), leyser.unprotect('regress_leyser_evil.by_predicate'),
    leyser.unprotect('regress_leyser_evil.by_check');
\c - :superuser
SET search_path = regress_leyser_evil;
SELECT DISTINCT place, runs_as FROM seen ORDER BY place;
SELECT DISTINCT attempt, outcome FROM seen ORDER BY attempt;
SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = 'by_default'::regclass;
TRUNCATE seen;
-- ... and when a new partition follows
\c - regress_leyser_mallory
SET search_path = regress_leyser_evil;
CREATE TABLE by_partition (tenant_id text NOT NULL, n int) PARTITION BY LIST (n);
SELECT leyser.protect('by_partition');
CREATE TABLE part (tenant_id text NOT NULL DEFAULT ('{x}'::fine[])[1]::text, n int);
CREATE INDEX ON part (tenant_id) WHERE one('index of a partition') = 1;
TRUNCATE seen;
ALTER TABLE by_partition ATTACH PARTITION part FOR VALUES IN (1);
\c - :superuser
SET search_path = regress_leyser_evil;
SELECT leyser.protect('by_partition');
SELECT DISTINCT place, runs_as FROM seen;
-- what mallory is, and what protects the tables, is what it was
SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = 'regress_leyser_mallory';
SELECT relation, kind, gaps FROM leyser.governed_table WHERE relation IN ('guarded'::regclass, 'part'::regclass) ORDER BY relation::text;

-- The confused deputy: mallory's code calls protect() for another's table, when
-- somebody mightier comes by.
SET ROLE regress_leyser_owner;
CREATE TABLE regress_leyser_shop.invoice (tenant_id text NOT NULL, n2 text NOT NULL);
SELECT leyser.protect('regress_leyser_shop.invoice');
CREATE TABLE regress_leyser_shop.note (tenant_id text NOT NULL, n2 text NOT NULL);
SET ROLE regress_leyser_mallory;
CREATE FUNCTION deputy(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN n; END';
CREATE TABLE bait (n int);
CREATE INDEX bait_index ON bait (deputy(n));
INSERT INTO bait VALUES (1), (2);
CREATE OR REPLACE FUNCTION deputy(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    EXECUTE 'SELECT leyser.protect(''regress_leyser_shop.invoice'', ''n2'')';
    RETURN n;
END $$;
RESET ROLE;
\set VERBOSITY terse
ANALYZE bait;
REINDEX TABLE bait;
\set VERBOSITY default
-- ... its definer function runs as mallory, whoever calls
SET ROLE regress_leyser_mallory;
CREATE FUNCTION helper() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    CALL trial.attempt('SELECT leyser.protect(''regress_leyser_shop.note'', ''n2'')');
    CALL trial.attempt('SELECT leyser.protect(''regress_leyser_evil.bait'', ''n'')');
END $$;
SET ROLE regress_leyser_owner;
SELECT helper();
RESET ROLE;
SELECT helper();
-- ... while an owner's own definer function protects the owner's table
SET ROLE regress_leyser_owner;
CREATE FUNCTION regress_leyser_shop.protect_note() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM leyser.protect('regress_leyser_shop.note');
END $$;
SET ROLE regress_leyser_mallory;
CALL trial.attempt('SELECT regress_leyser_shop.protect_note()');
RESET ROLE;
SELECT relation, kind, tenant_column FROM leyser.governed_table WHERE relation IN ('regress_leyser_shop.invoice'::regclass, 'regress_leyser_shop.note'::regclass)
    ORDER BY 1::text;

SET client_min_messages = warning;
DROP SCHEMA regress_leyser_shop, regress_leyser_evil CASCADE;
SELECT leyser.revoke_usage('regress_leyser_operator', 'operator');
DROP ROLE regress_leyser_owner, regress_leyser_mallory, regress_leyser_operator;
