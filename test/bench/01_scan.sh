#!/bin/bash
# What a policy costs a row: one million rows of a thousand tenants, read through
# the policy and, for comparison, with the other predicates that people use.
#
# All read the same table.  The policy's reader is an application role; the others'
# predicates are written out and read by a superuser, whom no policy binds.  The
# readings alternate; ratios are those of readings of one round, and the middle one
# counts.

. "$(dirname "$0")/figures.sh"

sql -o /dev/null <<- 'EOS'
	CREATE ROLE bench_owner;
	CREATE ROLE bench_app;
	GRANT CREATE ON SCHEMA public TO bench_owner;
	SET ROLE bench_owner;
	CREATE TABLE item (tenant_id bigint NOT NULL, item_id bigint NOT NULL, payload text NOT NULL);
	-- tenant 1 has a fifth of all rows
	INSERT INTO item SELECT CASE WHEN n % 5 = 0 THEN 1 ELSE 2 + (n::bigint * 7919) % 999 END, n, md5(n::text)
	    FROM generate_series(1, 1000000) n;
	ALTER TABLE item ADD PRIMARY KEY (tenant_id, item_id);
	SELECT leyser.protect('item');
	GRANT SELECT ON item TO bench_app;
	RESET ROLE;
	SELECT leyser.create_tenant(n::text) FROM generate_series(1, 1000) n;
	VACUUM (ANALYZE, FREEZE) item;

	CREATE FUNCTION plpgsql_tenant() RETURNS bigint LANGUAGE plpgsql STABLE PARALLEL SAFE
	    AS $$ BEGIN RETURN current_setting('app.tenant')::bigint; END $$;
	CREATE FUNCTION json_tenant() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE
	    AS $$ SELECT coalesce(nullif(current_setting('request.jwt.claim.tenant', true), ''),
	        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'tenant')::bigint $$;

	CREATE TABLE predicate (n int, name text, condition text, role text);
	INSERT INTO predicate VALUES
	    (1, 'constant, no row security', 'tenant_id = %1$s', 'postgres'),
	    (2, 'leyser''s policy', 'true', 'bench_app'),
	    (3, '(select current_setting())', 'tenant_id = (SELECT current_setting(''app.tenant'')::bigint)', 'postgres'),
	    (4, 'current_setting()', 'tenant_id = current_setting(''app.tenant'')::bigint', 'postgres'),
	    (5, 'plpgsql function', 'tenant_id = plpgsql_tenant()', 'postgres'),
	    (6, 'auth.uid()-like function of JSON claims', 'tenant_id = json_tenant()', 'postgres');
	CREATE TABLE reading (kind text, round int, n int, ms float8);

	-- Sets every kind of context for a tenant.
	CREATE FUNCTION be_tenant(id bigint) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
	    PERFORM set_config('leyser.token', leyser.issue_token(id::text), true),
	        set_config('app.tenant', id::text, true),
	        set_config('request.jwt.claims', json_build_object('tenant', id::text, 'role', 'user',
	            'email', 'somebody@example.com', 'exp', 2000000000)::text, true);
	END $$;

	-- Runs a query so many times; gives milliseconds for each.
	CREATE FUNCTION time_query(query text, role text, times int) RETURNS float8 LANGUAGE plpgsql AS $$
	DECLARE
	    started timestamptz;
	    spent float8;
	BEGIN
	    PERFORM set_config('role', role, true);
	    started := clock_timestamp();
	    FOR i IN 1 .. times LOOP
	        EXECUTE query;
	    END LOOP;
	    spent := extract(epoch FROM clock_timestamp() - started) * 1000 / times;
	    PERFORM set_config('role', 'postgres', true);
	    RETURN spent;
	END $$;
EOS

sql -o /dev/null <<- 'EOS'
	SET max_parallel_workers_per_gather = 0;
	BEGIN;
	SELECT be_tenant(42);
	SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_indexonlyscan = off;
	INSERT INTO reading
	    SELECT 'scan', round, p.n, time_query(format('SELECT count(*) FROM item WHERE ' || p.condition, 42), p.role, 1)
	    FROM generate_series(1, 25) round, predicate p ORDER BY round, p.n;
	COMMIT;
	BEGIN;
	SELECT be_tenant(42);
	INSERT INTO reading
	    SELECT 'index', round, p.n, time_query(format('SELECT * FROM item WHERE ' || p.condition
	        || ' ORDER BY item_id DESC LIMIT 10', 42), p.role, 300)
	    FROM generate_series(1, 25) round, predicate p ORDER BY round, p.n;
	COMMIT;
EOS

# Arguments: scan or index, the predicate's number.
ms()
{
	sql -c "SELECT round(percentile_cont(0.5) WITHIN GROUP (ORDER BY ms)::numeric, 3)
		FROM reading WHERE kind = '$1' AND n = $2"
}

# How many times as long one predicate takes as another.
# Arguments: scan or index, the predicates' numbers.
ratio()
{
	sql -c "SELECT round(percentile_cont(0.5) WITHIN GROUP (ORDER BY a.ms / b.ms)::numeric, 2)
		FROM reading a JOIN reading b USING (kind, round)
		WHERE kind = '$1' AND a.n = $2 AND b.n = $3"
}

for kind in scan index; do
	while IFS='|' read -r n name; do
		tell "$kind, ms: $name" "$(ms "$kind" "$n")"
	done < <(sql -c 'SELECT n, name FROM predicate ORDER BY n')
done
judge "scan: policy against the constant" "$(ratio scan 2 1)" "at most" 1.1
judge "scan: current_setting() against the policy" "$(ratio scan 4 2)" "at least" 2
judge "scan: JSON claims against the policy" "$(ratio scan 6 2)" "at least" 10
judge "index: policy against the constant" "$(ratio index 2 1)" "at most" 1.5

# The planner's estimate of a tenant's rows.  Arguments: tenant, role, condition.
estimate()
{
	sql -c 'BEGIN' -c "SELECT be_tenant($1)" -c "SET LOCAL ROLE $2" \
		-c "EXPLAIN (FORMAT json) SELECT * FROM item WHERE $3" -c 'COMMIT' |
		sed -n 's/.*"Plan Rows": \([0-9]*\).*/\1/p' | head -n 1
}

for tenant in 1 42; do
	constant=$(estimate "$tenant" postgres "tenant_id = $tenant")
	judge "estimated rows of tenant $tenant, constant $constant" \
		"$(estimate "$tenant" bench_app true)" "at most" "$constant"
	judge "estimated rows of tenant $tenant, constant $constant" \
		"$(estimate "$tenant" bench_app true)" "at least" "$constant"
	tell "... with current_setting()" \
		"$(estimate "$tenant" postgres "tenant_id = current_setting('app.tenant')::bigint")"
	tell "... with (select current_setting())" \
		"$(estimate "$tenant" postgres "tenant_id = (SELECT current_setting('app.tenant')::bigint)")"
done
finish
