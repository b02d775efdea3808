-- Parallel plans: workers take the context over from their leader, and from
-- nobody else.

SELECT current_user AS superuser \gset
SET client_min_messages = warning;
CREATE ROLE regress_leyser_owner;
-- without a usage, for those with one may not EXPLAIN
CREATE ROLE regress_leyser_app LOGIN;
CREATE SCHEMA regress_leyser_many AUTHORIZATION regress_leyser_owner;
GRANT USAGE ON SCHEMA regress_leyser_many TO PUBLIC;
SET ROLE regress_leyser_owner;
SET search_path = regress_leyser_many;
CREATE TABLE entry (tenant_id text NOT NULL, row_id int) WITH (parallel_workers = 2);
CREATE TABLE number (tenant_id bigint NOT NULL, row_id int) WITH (parallel_workers = 2);
INSERT INTO entry SELECT CASE WHEN i % 4 = 0 THEN 'par-a' ELSE 'par-b' END, i FROM generate_series(1, 20000) i;
INSERT INTO number SELECT CASE WHEN i % 5 = 0 THEN 815 ELSE 816 END, i FROM generate_series(1, 20000) i;
ANALYZE entry, number;
GRANT SELECT ON entry, number TO PUBLIC;
SELECT leyser.protect('entry'), leyser.protect('number');
RESET ROLE;
-- whether a query really ran in workers
CREATE FUNCTION workers_of(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE 'EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF, FORMAT JSON) ' || query INTO plan;
    RETURN (SELECT string_agg(DISTINCT m[1], ', ') FROM regexp_matches(plan::text, '"Workers Launched": (\d+)', 'g') m);
END $$;
SELECT leyser.create_tenant('par-a'), leyser.create_tenant('par-b'), leyser.create_tenant('815');
INSERT INTO leyser.account_record (tenant_id, account_name, name_key, state)
    VALUES ('par-a', 'ann', 'ann', 'active');
SELECT leyser.issue_token('par-a', 'ann') AS a, leyser.issue_token('par-b') AS b, leyser.issue_token('815') AS number \gset

\c - regress_leyser_app
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;

-- With the leader taking part, and not.
SET parallel_leader_participation = on;
BEGIN;
SET LOCAL leyser.token = :'a';
SELECT regress_leyser_many.workers_of('SELECT count(*) FROM regress_leyser_many.entry');
SELECT count(*), min(tenant_id), max(tenant_id) FROM regress_leyser_many.entry;
COMMIT;
SET parallel_leader_participation = off;
BEGIN;
SET LOCAL leyser.token = :'b';
SELECT regress_leyser_many.workers_of('SELECT count(*) FROM regress_leyser_many.entry');
SELECT count(*), min(tenant_id), max(tenant_id) FROM regress_leyser_many.entry;
SELECT count(*), min(leyser.tenant_id()), count(leyser.account_name()) FROM regress_leyser_many.entry;
COMMIT;
BEGIN;
SET LOCAL leyser.token = :'a';
SELECT count(*), min(leyser.tenant_id()), min(leyser.account_name()) FROM regress_leyser_many.entry;
SELECT count(*) FROM regress_leyser_many.entry r JOIN regress_leyser_many.entry s USING (row_id);
COMMIT;
BEGIN;
SET LOCAL leyser.token = :'number';
SELECT count(*), min(tenant_id), max(tenant_id) FROM regress_leyser_many.number;
COMMIT;

-- Set within a savepoint, for the session, and changed by a rollback.
BEGIN;
SAVEPOINT s;
SET leyser.token = :'a';
SELECT count(*) FROM regress_leyser_many.entry;
SAVEPOINT t;
SELECT leyser.leave();
ROLLBACK TO t;
SELECT count(*) FROM regress_leyser_many.entry;
ROLLBACK TO s;
CALL trial.attempt('SELECT count(*) FROM regress_leyser_many.entry');
ROLLBACK;

-- Without a context workers refuse too.  (Leader or worker: who speaks first is chance.)
\set VERBOSITY sqlstate
SELECT count(*) FROM regress_leyser_many.entry;
\set VERBOSITY default
-- A wrong tenant for the type of the column: told from a worker.
BEGIN;
SET LOCAL leyser.token = :'a';
CALL trial.attempt('SELECT count(*) FROM regress_leyser_many.number');
COMMIT;

-- The stale token.  Tenant par-a sets its token for the session and leaves a
-- generic plan in the connection ...
\c - :superuser
PREPARE every AS SELECT count(*), min(tenant_id), max(tenant_id) FROM regress_leyser_many.entry;
SET SESSION AUTHORIZATION regress_leyser_app;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
SET plan_cache_mode = force_generic_plan;
BEGIN;
SET leyser.token = :'a';
EXECUTE every;
COMMIT;
-- ... the next client of the connection has no token, and lets workers work alone.
\set VERBOSITY sqlstate
SET parallel_leader_participation = off;
EXECUTE every;
BEGIN;
EXECUTE every;
ROLLBACK;
SET parallel_leader_participation = on;
EXECUTE every;
-- With its own token it gets its own rows, by the same plan.
SET parallel_leader_participation = off;
BEGIN;
SET LOCAL leyser.token = :'b';
EXECUTE every;
COMMIT;
EXECUTE every;
-- what the plan is made of
BEGIN;
SET LOCAL leyser.token = :'b';
EXPLAIN (COSTS OFF) EXECUTE every;
COMMIT;

\set VERBOSITY default
-- Compiled expressions, where the server has JIT.
SET jit = on;
SET jit_above_cost = 0;
SET jit_inline_above_cost = 0;
SET jit_optimize_above_cost = 0;
BEGIN;
SET LOCAL leyser.token = :'a';
CALL trial.attempt('SELECT count(*) FROM regress_leyser_many.number');
ROLLBACK;
BEGIN;
SET LOCAL leyser.token = :'b';
SELECT count(*), min(tenant_id), max(tenant_id) FROM regress_leyser_many.entry;
COMMIT;
BEGIN;
SET LOCAL leyser.token = :'number';
SELECT count(*), min(tenant_id), max(tenant_id) FROM regress_leyser_many.number;
COMMIT;
CALL trial.attempt('SELECT count(*) FROM regress_leyser_many.number');

-- A function that is called in workers, and sets nothing there.
\c - :superuser
CREATE FUNCTION regress_leyser_many.switching(int) RETURNS int LANGUAGE plpgsql PARALLEL SAFE AS $$
BEGIN
    PERFORM leyser.leave();
    RETURN $1;
END $$;
SET SESSION AUTHORIZATION regress_leyser_app;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET parallel_leader_participation = off;
BEGIN;
SET LOCAL leyser.token = :'a';
CALL trial.attempt('SELECT sum(regress_leyser_many.switching(row_id)) FROM regress_leyser_many.entry');
SELECT count(*) FROM regress_leyser_many.entry;
COMMIT;

\c - :superuser
SET client_min_messages = warning;
DROP SCHEMA regress_leyser_many CASCADE;
DROP ROLE regress_leyser_owner, regress_leyser_app;
