#!/bin/bash
# What a look-up before a context costs beside the query that it stands for, of a
# table without row security: as statements of their own, each planned once.

. "$(dirname "$0")/figures.sh"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
seconds=20

sql -o /dev/null <<- 'EOS'
	CREATE ROLE bench_app LOGIN;
	SELECT leyser.grant_usage('bench_app', 'application');
	SELECT leyser.create_tenant(g::text) FROM generate_series(1, 1000) g;
	CREATE TABLE site (tenant_id bigint NOT NULL, host text NOT NULL UNIQUE);
	INSERT INTO site SELECT 1 + g % 1000, 'host-' || g FROM generate_series(1, 100000) g;
	CREATE TABLE bare (LIKE site INCLUDING ALL);
	INSERT INTO bare SELECT * FROM site;
	GRANT SELECT ON bare TO bench_app;
	SELECT leyser.protect('site');
	SELECT leyser.create_lookup('tenant_of_host', 'site', '{host}');
	VACUUM ANALYZE;
EOS
cat > "$folder/bare" <<- 'EOS'
	\set n random(1, 100000)
	SELECT tenant_id FROM bare WHERE host = 'host-' || :n;
EOS
cat > "$folder/lookup" <<- 'EOS'
	\set n random(1, 100000)
	SELECT tenant_of_host('host-' || :n);
EOS
mapfile -t averages < <(take_turns "$seconds" 1 "$folder" -U bench_app -f "$folder/bare" -f "$folder/lookup")
tell "the bare indexed query, µs a transaction" "${averages[0]}"
tell "a look-up, µs a transaction" "${averages[1]}"
judge "a look-up over the bare query, µs" \
	"$(awk -v a="${averages[0]}" -v b="${averages[1]}" 'BEGIN { printf "%.2f", b - a }')" "at most" 20
finish
