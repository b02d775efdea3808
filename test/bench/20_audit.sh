# What audit() costs: a row that is updated by itself, with the chain, and 100,000 rows
# at once; and how fast events are verified.

. "$(dirname "$0")/figures.sh"

seconds=${LEYSER_BENCH_SECONDS:-20}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

sql -o /dev/null <<- 'EOS'
	SELECT leyser.create_tenant('t' || g) FROM generate_series(1, 20) g;
	CALL leyser.tick();
	CREATE TABLE plain (tenant_id text NOT NULL, id int NOT NULL, amount int NOT NULL, note text, PRIMARY KEY (tenant_id, id)) WITH (fillfactor = 50);
	CREATE TABLE audited (LIKE plain INCLUDING ALL) WITH (fillfactor = 50);
	INSERT INTO plain SELECT 't' || g % 20 + 1, g, 0, repeat('x', 84) FROM generate_series(1, 100000) g;
	CREATE TABLE captured (LIKE plain INCLUDING ALL) WITH (fillfactor = 50);
	INSERT INTO audited SELECT * FROM plain;
	INSERT INTO captured SELECT * FROM plain;
	SELECT leyser.protect('plain'), leyser.protect('audited'), leyser.protect('captured');
	SELECT leyser.audit('audited');
	CREATE FUNCTION do_nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
	CREATE TRIGGER capture AFTER UPDATE ON captured REFERENCING OLD TABLE AS former NEW TABLE AS present
		FOR EACH STATEMENT EXECUTE FUNCTION do_nothing();
	VACUUM ANALYZE plain, audited, captured;
	CHECKPOINT;
EOS

# ---- one row at a time; what is written is sealed meanwhile ----

for table in plain audited; do
	cat > "$folder/$table.sql" <<- EOS
		\\set id random(1, 100000)
		UPDATE $table SET amount = amount + 1 WHERE tenant_id = 't' || :id % 20 + 1 AND id = :id;
	EOS
done
while sleep 1; do sql -c 'CALL leyser.tick()' > /dev/null 2>&1; done &
ticking=$!
mapfile -t microseconds < <(take_turns "$seconds" 1 "$folder" -f "$folder/plain.sql" -f "$folder/audited.sql")
kill "$ticking" 2> /dev/null || true
tell "a row is updated, µs" "${microseconds[0]}"
tell "... audited" "${microseconds[1]}"
judge "throughput of audited updates to others" \
	"$(awk -v a="${microseconds[0]}" -v b="${microseconds[1]}" 'BEGIN { printf "%.2f", a / b }')" "at least" 0.65

# ---- many rows at once ----

# Milliseconds of a statement that updates all rows.
bulk()
{
	printf '\\timing on\nUPDATE %s SET amount = amount + 1;\n' "$1" | sql | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p'
	sql -c "VACUUM $1"
}

for round in 1 2 3 4 5; do
	bulk plain >> "$folder/plain.ms"
	bulk captured >> "$folder/captured.ms"
	bulk audited >> "$folder/audited.ms"
done
plain=$(median < "$folder/plain.ms")
audited=$(median < "$folder/audited.ms")
tell "100,000 rows are updated, ms" "$plain"
tell "... with transition tables that nobody reads" "$(median < "$folder/captured.ms")"
tell "... audited" "$audited"
judge "time of audited bulk updates to others" \
	"$(awk -v a="$plain" -v b="$audited" 'BEGIN { printf "%.2f", b / a }')" "at most" 1.5

# ---- verification ----

sql -o /dev/null <<- 'EOS'
	DROP TABLE plain, captured; SELECT leyser.unaudit('audited');
	DO $$
	BEGIN
		FOR i IN 1 .. 50 LOOP
			PERFORM leyser.insert_event(clock_timestamp(), 'row.read', 't' || g % 20 + 1, 'application', 'application',
				'192.0.2.1', g, 'public.item', jsonb_build_object('rows', 1, 'reason', 'a question')) FROM generate_series(1, 20000) g;
			COMMIT;
			PERFORM leyser.seal_events();
			COMMIT;
		END LOOP;
	END $$;
	VACUUM ANALYZE leyser.event_record;
EOS
events=$(sql -c 'SELECT count(*) FROM leyser.event_record')
for round in 1 2 3; do
	printf '\\timing on\nSELECT count(*) FROM leyser.verify_events() \\g /dev/null\n' | sql | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p'
done > "$folder/verify.ms"
tell "events" "$events"
judge "events verified, millions a second" \
	"$(awk -v n="$events" -v ms="$(median < "$folder/verify.ms")" 'BEGIN { printf "%.2f", n / ms / 1000 }')" "at least" 1
finish
