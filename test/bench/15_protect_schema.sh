#!/bin/bash
# The protection of a schema of 200 tables with a foreign key each, small ones: what is
# measured is the steps, not scans.

. "$(dirname "$0")/figures.sh"

sql <<- 'EOS'
	CREATE SCHEMA app;
	CREATE TABLE app.table_1 (id bigint PRIMARY KEY, tenant_id bigint, parent_id bigint);
	SELECT format('CREATE TABLE app.table_%s (id bigint PRIMARY KEY, tenant_id bigint, parent_id bigint REFERENCES app.table_%s)', g, g / 2)
		FROM generate_series(2, 200) g \gexec
	SELECT format('INSERT INTO app.table_%s SELECT n, n %% 10, n FROM generate_series(1, 100) n', g) FROM generate_series(1, 200) g \gexec
EOS

# Prints the seconds that a call takes.
took()
{
	local began=$EPOCHREALTIME
	sql -o /dev/null -c "$1" 2> /dev/null || fail "$1 failed"
	awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f\n", b - a }'
}

judge "protect_schema of 200 tables, 199 foreign keys, s" "$(took "CALL leyser.protect_schema('app')")" "at most" 20
[ "$(sql -c "SELECT count(*) FROM leyser.governed_table WHERE kind = 'own'")" = 200 ] || fail "not all tables are protected"
tell "... again, nothing to do, s" "$(took "CALL leyser.protect_schema('app')")"
finish
