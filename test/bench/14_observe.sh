#!/bin/bash
# What an observed table costs beside an enforced one: the same statements of the same
# tenant on the same rows, in its context.  And what one without a context costs, beside
# a table that nobody protects.
#
# The readings alternate; ratios are those of one round, and the middle one counts.

. "$(dirname "$0")/figures.sh"

sql -o /dev/null <<- 'EOS'
	CREATE ROLE bench_app;
	CREATE TABLE enforced (tenant_id bigint NOT NULL, item_id bigint NOT NULL, payload text NOT NULL);
	INSERT INTO enforced SELECT CASE WHEN n % 5 = 0 THEN 1 ELSE 2 + (n::bigint * 7919) % 999 END, n, md5(n::text)
	    FROM generate_series(1, 1000000) n;
	CREATE TABLE observed AS TABLE enforced;
	CREATE TABLE bare AS TABLE enforced;
	ALTER TABLE enforced ADD PRIMARY KEY (tenant_id, item_id);
	ALTER TABLE observed ADD PRIMARY KEY (tenant_id, item_id), ALTER tenant_id SET NOT NULL;
	ALTER TABLE bare ADD PRIMARY KEY (tenant_id, item_id);
	GRANT ALL ON enforced, observed, bare TO bench_app;
	SELECT leyser.create_tenant(n::text) FROM generate_series(1, 1000) n;
	VACUUM (ANALYZE, FREEZE) enforced, observed, bare;
	CREATE TABLE reading (kind text, side text, round int, ms float8);
	CREATE TABLE statement (kind text, text text, times int);
	INSERT INTO statement VALUES
	    ('scan', 'SELECT count(payload) FROM %s WHERE tenant_id = 1', 1),
	    ('probe', 'SELECT payload FROM %s WHERE tenant_id = 1 AND item_id = 500', 500),
	    ('range', 'SELECT sum(length(payload)) FROM %s WHERE tenant_id = 1 AND item_id < 50000', 5),
	    ('insert', 'INSERT INTO %s SELECT 1, 2000000 + (random() * 1e15)::bigint, ''x'' FROM generate_series(1, 5000)', 1),
	    ('update', 'UPDATE %s SET payload = payload WHERE tenant_id = 1 AND item_id < 10000', 1);
	SELECT leyser.protect('enforced'), leyser.protect('observed', enforcement => 'observe');
	CREATE FUNCTION time_statement(text text, times int) RETURNS float8 LANGUAGE plpgsql AS $$
	DECLARE
	    started timestamptz;
	    spent float8;
	BEGIN
	    PERFORM set_config('role', 'bench_app', true);
	    started := clock_timestamp();
	    FOR i IN 1 .. times LOOP
	        EXECUTE text;
	    END LOOP;
	    spent := extract(epoch FROM clock_timestamp() - started) * 1000 / times;
	    PERFORM set_config('role', 'postgres', true);
	    RETURN spent;
	END $$;
EOS

sql -o /dev/null <<- 'EOS'
	SET max_parallel_workers_per_gather = 0;
	BEGIN;
	SELECT set_config('leyser.token', leyser.issue_token('1'), true);
	SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_indexonlyscan = off;
	INSERT INTO reading SELECT s.kind, t.side, round, time_statement(format(s.text, t.side), s.times)
	    FROM generate_series(1, 15) round, statement s, (VALUES ('enforced'), ('observed')) t (side)
	    WHERE s.kind = 'scan' ORDER BY round, s.kind, t.side;
	COMMIT;
	BEGIN;
	SELECT set_config('leyser.token', leyser.issue_token('1'), true);
	INSERT INTO reading SELECT s.kind, t.side, round, time_statement(format(s.text, t.side), s.times)
	    FROM generate_series(1, 15) round, statement s, (VALUES ('enforced'), ('observed')) t (side)
	    WHERE s.kind <> 'scan' ORDER BY round, s.kind, t.side;
	COMMIT;
	-- without a context: a gap each time
	INSERT INTO reading SELECT 'gap', t.side, round, time_statement(format(s.text, t.side), s.times)
	    FROM generate_series(1, 15) round, statement s, (VALUES ('bare'), ('observed')) t (side)
	    WHERE s.kind = 'probe' ORDER BY round, t.side;
EOS

# The middle one of a kind's ratios.  Arguments: the kind, the side to compare with.
ratio()
{
	sql -c "SELECT round(percentile_cont(0.5) WITHIN GROUP (ORDER BY a.ms / b.ms)::numeric, 2)
		FROM reading a JOIN reading b USING (kind, round)
		WHERE kind = '$1' AND a.side = 'observed' AND b.side = '$2'"
}

while IFS='|' read -r kind side ms; do
	tell "$kind, ms: $side" "$ms"
done < <(sql -c 'SELECT kind, side, round(percentile_cont(0.5) WITHIN GROUP (ORDER BY ms)::numeric, 3) FROM reading GROUP BY 1, 2 ORDER BY 1, 2')
for kind in scan probe range insert update; do
	judge "$kind: observed against enforced" "$(ratio "$kind" enforced)" "at most" 2
done
tell "gap: a probe without a context against a bare table" "$(ratio gap bare)"
finish
