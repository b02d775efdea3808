#!/bin/bash
# What it costs to ask whether the context's account may do something: a row, in
# the first check of a transaction in a session, with a million accounts and ten
# million grants in the tables, and for the others when a grant is revoked.

. "$(dirname "$0")/figures.sh"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
rounds=7

# ---- a million accounts, ten million grants ----
#
# Accounts 1 to 10,000 have a hundred grants each and are used from a pool; 10,001
# to 10,100 have ten thousand each; the others have eight or nine.  Each tenant has
# an administrator beside them.

sql -o /dev/null <<- 'EOS'
	CREATE ROLE bench_app LOGIN;
	SELECT leyser.grant_usage('bench_app', 'application');
	SELECT leyser.create_tenant('t' || n) FROM generate_series(0, 999) n;
	INSERT INTO leyser.permission_record SELECT 'bench.p' || n, 'permission' FROM generate_series(1, 100) n;

	ALTER TABLE leyser.account_record DISABLE TRIGGER ALL;
	ALTER TABLE leyser.grant_record DISABLE TRIGGER ALL;
	INSERT INTO leyser.account_record (account_id, tenant_id, account_name, name_key, state)
	    OVERRIDING SYSTEM VALUE
	    SELECT n, 't' || n % 1000, name, name, 'active'
	    FROM generate_series(1, 1001000) n, LATERAL (SELECT CASE WHEN n > 1000000 THEN 'admin' ELSE 'a' || n END AS name) x;
	INSERT INTO leyser.role_record (role_id, tenant_id, role_name, name_key) OVERRIDING SYSTEM VALUE
	    SELECT n, 't' || n % 1000, 'r' || n, 'r' || n FROM generate_series(0, 9999) n;
	INSERT INTO leyser.role_permission SELECT n, 'bench.p' || p FROM generate_series(0, 9999) n, generate_series(11, 30) p;
	-- the last of an account's grants is the role of its tenant
	INSERT INTO leyser.grant_record (account_id, kind, role_id, permission, scope, valid_from, valid_until, with_grant_option)
	    SELECT a, CASE WHEN g = grants THEN 'role' ELSE 'permission' END,
	        CASE WHEN g = grants THEN a % 1000 END, CASE WHEN g < grants THEN 'bench.p' || 1 + g % 10 END,
	        CASE WHEN g < grants THEN 's' || g / 100 || '.n' || g % 100 END, '-infinity', 'infinity', false
	    FROM (SELECT a, CASE WHEN a <= 10000 THEN 100 WHEN a <= 10100 THEN 10000 WHEN a % 8 = 0 THEN 9 ELSE 8 END AS grants
	          FROM generate_series(1, 1000000) a) a, generate_series(1, grants) g;
	INSERT INTO leyser.grant_record (account_id, kind, valid_from, valid_until, with_grant_option)
	    SELECT n, 'administrator', '-infinity', 'infinity', true FROM generate_series(1000001, 1001000) n;
	ALTER TABLE leyser.account_record ENABLE TRIGGER ALL;
	ALTER TABLE leyser.grant_record ENABLE TRIGGER ALL;
	DO $$
	DECLARE
	    one record;
	BEGIN
	    FOR one IN SELECT tgrelid::regclass AS relation, tgname FROM pg_trigger
	            WHERE tgrelid IN ('leyser.account_record'::regclass, 'leyser.grant_record'::regclass) AND NOT tgisinternal LOOP
	        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', one.relation, one.tgname);
	    END LOOP;
	END $$;
	VACUUM (ANALYZE) leyser.account_record, leyser.grant_record, leyser.role_record, leyser.role_permission;
EOS
tell "accounts in the tables" "$(sql -c 'SELECT count(*) FROM leyser.account_record')"
tell "grants in the tables" "$(sql -c 'SELECT count(*) FROM leyser.grant_record')"

# ---- a row ----

# What people write: their own tables of roles, asked for each row.
sql -o /dev/null <<- 'EOS'
	CREATE TABLE user_role (user_id bigint, role_id bigint, scope text, PRIMARY KEY (user_id, role_id, scope));
	CREATE TABLE role_right (role_id bigint, permission text, PRIMARY KEY (role_id, permission));
	INSERT INTO user_role SELECT u, r, 's' || r FROM generate_series(1, 10000) u, generate_series(1, 10) r;
	INSERT INTO role_right SELECT r, 'bench.p' || p FROM generate_series(1, 10) r, generate_series(1, 30) p;
	CREATE FUNCTION may(permission text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
	BEGIN
	    RETURN EXISTS (SELECT FROM user_role u JOIN role_right r USING (role_id)
	        WHERE u.user_id = current_setting('app.user')::bigint AND r.permission = may.permission);
	END $$;
	CREATE TABLE doc AS SELECT n AS id, 's' || n % 10 AS scope, 's' || n % 1000 AS many FROM generate_series(1, 1000000) n;
	VACUUM (ANALYZE) doc, user_role, role_right;
EOS

mine="u.user_id = current_setting('app.user')::bigint"
declare -A condition=(
	[empty]="pg_is_in_recovery() IS NOT NULL"
	[empty_scope]="(scope COLLATE \"C\") <> ''"
	[has]="leyser.has_permission(CASE WHEN id > 0 THEN 'bench.p11' END)"
	[has_scope]="leyser.has_permission('bench.p11', scope)"
	[has_many]="leyser.has_permission('bench.p11', many)"
	[plpgsql]="may(CASE WHEN id > 0 THEN 'bench.p11' END)"
	[exists]="(SELECT EXISTS (SELECT FROM user_role u JOIN role_right r USING (role_id) WHERE $mine AND r.permission = 'bench.p11' AND u.scope = doc.scope OFFSET 0))"
	[any]="scope = ANY (ARRAY(SELECT u.scope FROM user_role u JOIN role_right r USING (role_id) WHERE $mine AND r.permission = 'bench.p11'))"
	[join]="scope IN (SELECT u.scope FROM user_role u JOIN role_right r USING (role_id) WHERE $mine AND r.permission = 'bench.p11')"
	[case]="pg_is_in_recovery() IS NOT NULL AND (CASE WHEN id > 0 THEN 'bench.p11' END) IS NOT NULL"
)

# Nanoseconds a row.  Arguments: a condition, how many rows.
per_row()
{
	sql <<- EOS
		SET max_parallel_workers_per_gather = 0;
		BEGIN;
		SELECT set_config('leyser.token', leyser.issue_token('t42', 'a42'), true), set_config('app.user', '42', true) \g /dev/null
		EXPLAIN (ANALYZE, TIMING OFF, SUMMARY, FORMAT json) SELECT count(*) FROM doc WHERE id <= $2 AND $1;
	EOS
}

for ((i = 0; i < rounds; i++)); do
	for name in "${!condition[@]}"; do
		rows=1000000
		[[ $name != plpgsql && $name != exists ]] || rows=20000
		per_row "${condition[$name]}" $rows | sed -n 's/.*"Execution Time": \([0-9.]*\).*/\1/p' |
			awk -v rows=$rows '{ print $1 * 1000000 / rows }' >> "$folder/row.$name"
		# what it takes to pass the rows by
		per_row "pg_is_in_recovery() IS NOT NULL" 0 | sed -n 's/.*"Execution Time": \([0-9.]*\).*/\1/p' |
			awk '{ print $1 }' >> "$folder/pass"
	done
done
pass=$(median < "$folder/pass")
for name in plpgsql exists; do
	# these looked at 20,000 of the million rows
	awk -v pass="$pass" '{ print $1 - pass * 1000000 / 20000 }' "$folder/row.$name" > "$folder/own"
	mv "$folder/own" "$folder/row.$name"
done

# Arguments: a condition's name.
ns()
{
	median < "$folder/row.$1"
}

# Arguments: two numbers and what to do with them.
calculate()
{
	awk -v a="$1" -v b="$3" "BEGIN { printf \"%.1f\\n\", a $2 b }"
}

tell "a row with an empty C function, ns" "$(ns empty)"
tell "... and the argument that is computed for each row, ns" "$(ns case)"
judge "has_permission(permission) costs more by, ns a row" "$(calculate "$(ns has)" - "$(ns case)")" "at most" 40
judge "has_permission(permission, scope) costs more by, ns a row" "$(calculate "$(ns has_scope)" - "$(ns empty)")" "at most" 40
tell "... with a thousand scopes, ns a row" "$(calculate "$(ns has_many)" - "$(ns empty)")"
tell "= ANY (ARRAY(SELECT)) costs more by, ns a row" "$(calculate "$(ns any)" - "$(ns empty)")"
tell "a join costs more by, ns a row" "$(calculate "$(ns join)" - "$(ns empty)")"
tell "EXISTS for each row costs more by, ns a row" "$(calculate "$(ns exists)" - "$(ns empty)")"
tell "EXISTS in plpgsql costs more by, ns a row" "$(calculate "$(ns plpgsql)" - "$(ns empty)")"

# How many times faster than the other way: both over an empty C function, a part
# of a nanosecond counted as a whole one.
# Arguments: the other way's name, has_permission()'s, the empty function's beside it.
times_faster()
{
	awk -v e="$(ns "$1")" -v n="$(ns empty)" -v h="$(ns "$2")" -v c="$(ns "$3")" \
		'BEGIN { d = h - c; if (d < 1) d = 1; printf "%.0f", (e - n) / d }'
}

judge "has_permission() against EXISTS in SQL, times faster" "$(times_faster exists has_scope empty)" "at least" 50
judge "has_permission() against EXISTS in plpgsql, times faster" "$(times_faster plpgsql has case)" "at least" 50

# ---- the first check of a transaction ----
#
# Accounts 1 to 10,100 are logged in: a session each, whose tokens are signed as
# login() signs them, without the minutes that its bcrypt would take.  As many
# sessions of others were revoked and have not expired.

sql -o /dev/null <<- 'EOS'
	INSERT INTO leyser.session_record (session_id, tenant_id, account_id, expires_at)
	    SELECT gen_random_uuid(), 't' || n % 1000, n, now() + '8 hours'
	    FROM generate_series(1, 20200) n;
	INSERT INTO leyser.revoked_session SELECT session_id, expires_at FROM leyser.session_record WHERE account_id > 10100;
	VACUUM (ANALYZE) leyser.session_record, leyser.revoked_session;
	CREATE TABLE token AS
	    SELECT s.account_id::int AS n, leyser.sign_session_token(s.tenant_id, s.account_id, 'a' || s.account_id, s.session_id, s.expires_at) AS token
	    FROM leyser.session_record s;
	ALTER TABLE token ADD PRIMARY KEY (n);
	CREATE UNLOGGED TABLE first_check (grants int, us float8, allowed boolean, at timestamptz DEFAULT clock_timestamp());
	VACUUM (ANALYZE) token;
	GRANT SELECT ON token TO bench_app;
	GRANT INSERT ON first_check TO bench_app;
	CREATE FUNCTION first_check(n int, permission text, scope text) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
	    one text := (SELECT t.token FROM token t WHERE t.n = first_check.n);
	    started timestamptz := clock_timestamp();
	    allowed boolean;
	BEGIN
	    PERFORM set_config('leyser.token', one, true);
	    allowed := leyser.has_permission(permission, scope);
	    INSERT INTO first_check VALUES (CASE WHEN n <= 10000 THEN 100 ELSE 10000 END,
	        extract(epoch FROM clock_timestamp() - started) * 1e6, allowed);
	END $$;
EOS

# What comes of an account's token: its name, or an SQLSTATE.
# Arguments: the account's number.
session_of()
{
	sql -U bench_app -v n="$1" -v VERBOSITY=sqlstate <<- 'EOS' 2>&1 | sed 's/^.*ERROR:  //'
		SELECT token FROM token WHERE n = :n \gset
		BEGIN;
		SELECT set_config('leyser.token', :'token', true) \g /dev/null
		SELECT CASE WHEN leyser.session_id() IS NULL THEN 'none' ELSE leyser.account_name() END;
	EOS
}

tell "sessions" "$(sql -c 'SELECT count(*) FROM leyser.session_record WHERE account_id <= 10100')"
tell "... and revoked ones" "$(sql -c 'SELECT count(*) FROM leyser.revoked_session')"
[ "$(session_of 42)" = a42 ] || fail "a session's token is not taken: $(session_of 42)"
[ "$(session_of 10101)" = LY005 ] || fail "a revoked session's token is not refused: $(session_of 10101)"

printf '%s\n' '\set n random(1, 10000)' '\set s random(0, 98)' \
	"SELECT first_check(:n, 'bench.p' || 1 + :s % 10, 's0.n' || :s || '.below');" > "$folder/100.sql"
printf '%s\n' '\set n random(10001, 10100)' '\set s random(0, 98)' \
	"SELECT first_check(:n, 'bench.p' || 1 + :s % 10, 's' || :s || '.n' || :s || '.below');" > "$folder/10000.sql"
for grants in 100 10000; do
	# Fifty connections that are not all at work at once, as a pool's are not.  They
	# have been open for a while when it counts.
	pgbench -n -U bench_app -M prepared -c 50 -j 1 -R 1000 -T 30 -f "$folder/$grants.sql" > "$folder/pgbench.log" 2>&1 ||
		cat "$folder/pgbench.log"
	sql -c "DELETE FROM first_check WHERE grants = $grants
		AND at < (SELECT min(at) + '15 s' FROM first_check WHERE grants = $grants)" -o /dev/null
	tell "transactions of accounts with $grants grants" \
		"$(sql -c "SELECT count(*) FROM first_check WHERE grants = $grants")"
	tell "... that were allowed" \
		"$(sql -c "SELECT count(*) FROM first_check WHERE grants = $grants AND allowed")"
	judge "$grants grants: context and first check, median, µs" \
		"$(sql -c "SELECT round(percentile_cont(0.5) WITHIN GROUP (ORDER BY us)::numeric) FROM first_check WHERE grants = $grants")" \
		"at most" 150
	tell "... 95th percentile, µs" \
		"$(sql -c "SELECT round(percentile_cont(0.95) WITHIN GROUP (ORDER BY us)::numeric) FROM first_check WHERE grants = $grants")"
done

# ---- a revoke, with others connected ----
#
# An administrator takes one grant after another away, of another account each time.

sql -o /dev/null <<- 'EOS'
	CREATE TABLE administrator AS
	    SELECT n, leyser.issue_token('t' || n, 'admin', '23 hours') AS token FROM generate_series(0, 999) n;
	ALTER TABLE administrator ADD PRIMARY KEY (n);
	VACUUM (ANALYZE) administrator;
	GRANT SELECT ON administrator TO bench_app;
EOS
printf '%s\n' '\set n :n + 1' 'BEGIN;' \
	"SELECT set_config('leyser.token', (SELECT token FROM administrator WHERE n = :n % 1000), true);" \
	"SELECT leyser.revoke_permission('a' || :n, 'bench.p2', 's0.n1');" 'COMMIT;' > "$folder/revoke.sql"
revoked=0

# Milliseconds that a revoke takes, into a file.  Arguments: the file.
revokes()
{
	pgbench -n -U bench_app -c 1 -t 300 -D n="$revoked" -f "$folder/revoke.sql" > "$folder/pgbench.log" 2>&1 ||
		fail "$(head -n 3 "$folder/pgbench.log")"
	revoked=$((revoked + 300))
	sed -n 's/^latency average = \([0-9.]*\).*/\1/p' "$folder/pgbench.log" >> "$1"
}

revokes "$folder/first"
for ((i = 0; i < 3; i++)); do
	revokes "$folder/alone"
done
printf '%s\n' '\set n random(1, 10000)' "SELECT first_check(:n, 'bench.p1', 's0.n1');" '\sleep 120 s' > "$folder/idle.sql"
pgbench -n -U bench_app -c 200 -j 1 -t 1 -f "$folder/idle.sql" > /dev/null 2>&1 &
connected=$!
until [ "$(sql -c "SELECT count(*) FROM pg_stat_activity WHERE usename = 'bench_app' AND state = 'idle'")" -ge 200 ]; do
	sleep 0.5
	kill -0 "$connected" 2> /dev/null || fail "200 connections could not be made"
done
for ((i = 0; i < 3; i++)); do
	revokes "$folder/beside"
done
kill "$connected"
wait "$connected" 2> /dev/null || true
tell "revokes" "$(sql -c "SELECT count(*) FROM leyser.event WHERE event = 'grant.revoked'")"
tell "a revoke, ms" "$(median < "$folder/alone")"
tell "a revoke with 200 connected backends, ms" "$(median < "$folder/beside")"
judge "... times as long" "$(calculate "$(median < "$folder/beside")" / "$(median < "$folder/alone")")" "at most" 2
finish
