#!/bin/bash
# What it costs to look who gets past row security: point queries of a table that is not
# protected, of a protected one in a context, and of a superuser, whose statements are
# counted.  The same loop runs with leyser.privileged_access off and on, in turns; what
# the looking adds is compared with a point query as a client sends it.

. "$(dirname "$0")/figures.sh"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
seconds=${LEYSER_BENCH_SECONDS:-10}
rounds=${LEYSER_BENCH_ROUNDS:-9}
loops=100000

sql -o /dev/null <<- 'EOS'
	CREATE ROLE bench_app LOGIN;
	SELECT leyser.grant_usage('bench_app', 'gateway');
	SELECT leyser.create_tenant('1');
	CREATE TABLE bare (tenant_id bigint NOT NULL, id int PRIMARY KEY);
	CREATE TABLE item (tenant_id bigint NOT NULL, id int, PRIMARY KEY (tenant_id, id));
	INSERT INTO bare SELECT 1, g FROM generate_series(1, 1000) g;
	INSERT INTO item SELECT * FROM bare;
	SELECT leyser.protect('item');
	GRANT SELECT ON bare, item TO bench_app;
	CREATE FUNCTION look_at_bare(n int) RETURNS void LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1 .. n LOOP PERFORM FROM public.bare WHERE id = 7; END LOOP; END $$;
	CREATE FUNCTION look_at_item(n int) RETURNS void LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1 .. n LOOP PERFORM FROM public.item WHERE tenant_id = 1 AND id = 7; END LOOP; END $$;
	VACUUM ANALYZE bare, item;
EOS

# Arguments: off or record.
set_access()
{
	sql -o /dev/null -c "ALTER SYSTEM SET leyser.privileged_access = $1" -c 'SELECT pg_reload_conf()'
	sleep 0.2
}

# Arguments: role, statements before, function.  Prints nanoseconds a query, of the
# processor: what else the machine does counts less.
run_loop()
{
	local clock="\\! cut -d' ' -f1 /proc/\$BACKEND/schedstat"
	printf '%s\n' "$2" "SELECT $3(1000) \\g /dev/null" 'SELECT pg_backend_pid() AS pid \gset' '\setenv BACKEND :pid' \
		"$clock" "SELECT $3($loops) \\g /dev/null" "$clock" |
		sql -U "$1" | awk -v n="$loops" 'NR == 1 { begin = $1 } { end = $1 } END { printf "%.1f\n", (end - begin) / n }'
}

for ((round = 0; round < rounds; round++)); do
	for access in off record; do
		set_access "$access"
		run_loop bench_app '' look_at_bare >> "$folder/bare.$access"
		run_loop bench_app "BEGIN; SELECT leyser.enter('1') \\g /dev/null" look_at_item >> "$folder/item.$access"
		run_loop postgres '' look_at_item >> "$folder/superuser.$access"
	done
done

echo "SELECT FROM item WHERE tenant_id = 1 AND id = 7;" > "$folder/point"
pgbench -n -M prepared -T "$seconds" -f "$folder/point" 2> /dev/null | sed -n 's/^latency average = \([0-9.]*\) ms/\1/p' > "$folder/latency"
latency=$(awk '{ print $1 * 1e6 }' "$folder/latency")
tell "a point query of a client, µs" "$(awk -v l="$latency" 'BEGIN { printf "%.1f", l / 1000 }')"

# Arguments: what is told, file.  The quickest rounds are those that nothing disturbed.
compare()
{
	local off record
	off=$(sort -g "$folder/$2.off" | head -n 1)
	record=$(sort -g "$folder/$2.record" | head -n 1)
	tell "$1: a query within a function, ns, not looked at" "$off"
	tell "$1: ... looked at" "$record"
	judge "$1: what looking adds, in % of a client's point query" \
		"$(awk -v a="$off" -v b="$record" -v l="$latency" 'BEGIN { printf "%.2f", (b - a) * 100 / l }')" "at most" 1
}

compare "not protected" bare
compare "protected, in a context" item
compare "a superuser, counted" superuser
finish
