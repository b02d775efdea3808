#!/bin/bash
# The page pass over a cached table of which a tenth was deleted: where every page
# has something to zero, and where none has; beside a VACUUM of the same table, and
# beside the files that VACUUM FULL would write anew.

. "$(dirname "$0")/figures.sh"

# 64 bytes of content and a length that leaves pads.
sql -o /dev/null <<- 'EOS'
	CREATE TABLE page (tenant int, id int, content text);
	INSERT INTO page SELECT g % 100, g, left(md5(g::text) || md5((g + 1)::text), 40 + g % 24)
		FROM generate_series(1, 4000000) g;
	VACUUM (FREEZE) page;
	DELETE FROM page WHERE tenant < 10;
EOS
size=$(sql -c "SELECT pg_relation_size('page') / 1e6")

# Prints the milliseconds that a statement takes.
took()
{
	sql -o /dev/null -c 'CHECKPOINT'
	sql <<- EOS
		SELECT clock_timestamp() AS began \gset
		$1 \g /dev/null
		SELECT round(extract(epoch FROM clock_timestamp() - :'began') * 1000)
	EOS
}

per_second()
{
	awk -v mb="$size" -v ms="$1" 'BEGIN { printf "%.0f", mb / ms * 1000 }'
}

tell "table, MB" "${size%.*}"
tell "VACUUM that removes the rows, ms" "$(took 'VACUUM (TRUNCATE OFF) page')"
zeroing=$(took "SELECT leyser.scrub('page')")
pages=$(sql -c "SELECT leyser.scrub('page')")
[ "$pages" = 0 ] || fail "a second pass found something to zero on $pages pages"
clean=$(took "SELECT leyser.scrub('page')")
tell "page pass, every page zeroed and logged, ms" "$zeroing"
tell "page pass, nothing to zero, ms" "$clean"
tell "VACUUM FULL (locks all out), ms" "$(took 'VACUUM FULL page')"
judge "page pass, every page zeroed and logged, MB/s" "$(per_second "$zeroing")" "at least" 500
judge "page pass, nothing to zero, MB/s" "$(per_second "$clean")" "at least" 500
finish
