#!/bin/bash
# What an import costs beside a plain COPY: the same file of a million rows, into
# tables with the same key and index, one of them protected.

. "$(dirname "$0")/figures.sh"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
rows=1000000
rounds=3

sql -o /dev/null <<- 'EOS'
	CREATE ROLE bench_gateway LOGIN;
	SELECT leyser.grant_usage('bench_gateway', 'gateway');
	SELECT leyser.create_tenant('1');
	CREATE TABLE plain (tenant_id bigint NOT NULL, id bigint NOT NULL, made timestamptz, amount numeric, note text,
		PRIMARY KEY (tenant_id, id));
	CREATE INDEX ON plain (tenant_id, made);
	CREATE TABLE protected (LIKE plain INCLUDING ALL);
	GRANT SELECT, INSERT ON plain, protected TO bench_gateway;
	SELECT leyser.protect('protected');
EOS
sql -c "COPY (SELECT g, timestamptz '2026-01-01' + g * interval '1 second', g * 1.01, 'note of row ' || g
	FROM generate_series(1, $rows) g) TO STDOUT" > "$folder/rows"
sed 's/^/1\t/' "$folder/rows" > "$folder/rows_with_tenant"

# Seconds of a script of psql.  Arguments: the script.
seconds_of()
{
	local before after
	sql -c 'TRUNCATE plain, protected' -c CHECKPOINT
	before=$(date +%s.%N)
	sql -U bench_gateway -o /dev/null -f "$1"
	after=$(date +%s.%N)
	awk -v a="$before" -v b="$after" 'BEGIN { printf "%.3f\n", b - a }'
}

cat > "$folder/copy" <<- EOS
	\\copy plain FROM '$folder/rows_with_tenant'
EOS
cat > "$folder/import" <<- EOS
	BEGIN;
	SELECT leyser.enter('1');
	SELECT leyser.import_table('protected');
	\\copy leyser_import_protected FROM '$folder/rows'
	SELECT leyser.import_finish('leyser_import_protected');
	COMMIT;
EOS
for ((i = 0; i < rounds; i++)); do
	seconds_of "$folder/copy" >> "$folder/copies"
	seconds_of "$folder/import" >> "$folder/imports"
	[ "$(sql -c 'SELECT count(*) FROM protected')" = "$rows" ] || fail "the import is not whole"
done
copy=$(median < "$folder/copies")
import=$(median < "$folder/imports")
tell "a plain COPY of 1 M rows, s (median of $rounds)" "$copy"
tell "an import of them, s (median of $rounds)" "$import"
judge "rows a second of an import, of those of a COPY" \
	"$(awk -v a="$copy" -v b="$import" 'BEGIN { printf "%.2f", a / b }')" "at least" 0.5
finish
