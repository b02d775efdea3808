#!/bin/bash
# What other tenants notice of a throttled purge: the transactions a second of four
# clients before it, while it deletes, while it scrubs, and after it, in one run.

. "$(dirname "$0")/figures.sh"
. "$(dirname "$0")/purge_figures.sh"

rounds=3
rows=$(scaled 300000)
seconds=$(awk -v scale="$scale" 'BEGIN { s = int(20 * scale / 100); print (s > 3 ? s : 3) }')

make_tables
fill "$(scaled 500000)" other1 other2
sql -o /dev/null <<- 'EOS'
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	CREATE ROLE bench_app LOGIN;
	SELECT leyser.grant_usage('bench_app', 'application');
	GRANT SELECT, INSERT, UPDATE ON customer, purchase, item TO bench_app;
	CREATE TABLE token AS SELECT n, leyser.issue_token('other' || n, lifetime => '10 hours') AS token FROM generate_series(1, 2) n;
	GRANT SELECT ON token TO bench_app;
EOS
cat > "$folder/script" <<- EOS
	\set t random(1, 2)
	\set i random(1, $(scaled 400000))
	BEGIN;
	SELECT set_config('leyser.token', token, true) FROM token WHERE n = :t;
	SELECT p.id, c.id FROM item i JOIN purchase p ON p.id = i.purchase JOIN customer c ON c.id = p.customer WHERE i.id = :i;
	UPDATE item SET v = repeat('y', 50) WHERE id = :i;
	COMMIT;
EOS

# Transactions a second between two moments of a log.  Arguments: log, from, to.
rate()
{
	cat "$1".* | awk -v from="$2" -v to="$3" '{ t = $5 + $6 / 1e6; if (t >= from && t < to) n++ }
		END { printf "%.1f", (to > from ? n / (to - from) : 0) }'
}

for round in $(seq "$rounds"); do
	fill "$rows" "gone$round"
	end_contract "gone$round"
	began=$(date +%s.%N)
	pgbench -n -M prepared -c 4 -T $((seconds * 5)) -U bench_app -l --log-prefix="$folder/log$round" -f "$folder/script" \
		> "$folder/out" 2> "$folder/errors" &
	load=$!
	sleep "$seconds"
	# the deletion takes about twice that time
	quiet_sql -c "CALL leyser.purge('gone$round', max_rows_per_second => $((rows / seconds / 2)))"
	wait "$load"
	ended=$(date +%s.%N)
	[ ! -s "$folder/errors" ] || fail "$(head -n 3 "$folder/errors")"
	read -r queued deleted erased < <(sql -F ' ' -c "SELECT extract(epoch FROM queued_at), extract(epoch FROM deleted_at),
		least(extract(epoch FROM erased_at), $ended) FROM leyser.purge_status WHERE tenant_id = 'gone$round'")
	# the first second makes plans
	rate "$folder/log$round" "$(awk -v b="$began" 'BEGIN { printf "%.6f", b + 1 }')" "$queued" >> "$folder/without"
	rate "$folder/log$round" "$queued" "$deleted" >> "$folder/deleting"
	rate "$folder/log$round" "$deleted" "$erased" >> "$folder/scrubbing"
	rate "$folder/log$round" "$queued" "$erased" >> "$folder/all"
	for file in without deleting scrubbing all; do echo >> "$folder/$file"; done
done
without=$(median < "$folder/without")
tell "transactions a second of others, without a purge" "$without"
for part in deleting scrubbing all; do
	during=$(median < "$folder/$part")
	ratio=$(awk -v d="$during" -v w="$without" 'BEGIN { printf "%.2f", d / w }')
	case $part in
		all) judge "... during all of a throttled purge ($rows rows), beside that" "$ratio" "at least" 0.9 ;;
		*) tell "... while it is $part, beside that" "$ratio" ;;
	esac
done
finish
