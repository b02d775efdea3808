#!/bin/bash
# How a purge's cost grows: with the tenant's rows, with what others have in the same
# tables, and with the number of tables; three points each.

. "$(dirname "$0")/figures.sh"
. "$(dirname "$0")/purge_figures.sh"

# Purges a tenant from new tables, and prints the milliseconds of the deletion and of
# all.  Arguments: the point's number, the tenant's rows, others' rows, tables.
point()
{
	quiet_sql -o /dev/null -v tenant="gone$1" -v other="other$1" -v rows="$2" -v others="$3" -v tables="$4" <<- 'EOS'
		SELECT leyser.create_tenant(t) FROM unnest(ARRAY[:'tenant', :'other']) t;
		SELECT format('CREATE TABLE grown_%1$s (tenant_id text NOT NULL, id int, v text DEFAULT repeat(''x'', 50), PRIMARY KEY (tenant_id, id))', n),
			format('INSERT INTO grown_%s SELECT CASE WHEN g <= %s AND g %% greatest(%2$s / %s, 1) = 0 THEN %L ELSE %L END, g FROM generate_series(1, %2$s) g',
				n, :rows / :tables + :others / :tables, greatest(:rows / :tables, 1), :'tenant', :'other'),
			format('SELECT leyser.protect(''grown_%s'')', n)
		FROM generate_series(1, :tables) n \gexec
		VACUUM ANALYZE;
		CHECKPOINT;
	EOS
	end_contract "gone$1"
	purge "gone$1"
	quiet_sql -o /dev/null -v tables="$4" <<- 'EOS'
		SELECT format('SELECT leyser.unprotect(''grown_%s'')', n), format('DROP TABLE grown_%s', n) FROM generate_series(1, :tables) n \gexec
	EOS
}

# Arguments: what the point is, those of point() but its number.
tell_point()
{
	local what=$1 figures
	shift
	points=$((points + 1))
	figures=$(point "$points" "$@")
	[ -n "$figures" ] || fail "point $points has no figures"
	tell "$what: deletion, from the call on, and all, ms" "$figures"
}

points=0
for rows in 10000 100000 1000000; do
	rows=$(scaled "$rows")
	tell_point "$rows rows of the tenant, among $(scaled 1000000)" "$rows" "$(scaled 1000000)" 3
done
for others in 100000 1000000 10000000; do
	others=$(scaled "$others")
	tell_point "$(scaled 10000) rows of the tenant, among $others" "$(scaled 10000)" "$others" 3
done
for tables in 3 30 300; do
	tell_point "$(scaled 10000) rows of the tenant in $tables tables" "$(scaled 10000)" "$(scaled 100000)" "$tables"
done
finish
