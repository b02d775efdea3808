#!/bin/bash
# take_backup() beside pg_basebackup and pg_verifybackup with the same options, by
# turns, of a cluster of about a gigabyte.  Both write into memory where there is room:
# what a disk shared with others takes for its fsyncs differs more than the two do.

. "$(dirname "$0")/figures.sh"

ROUNDS=10
folder=$(sql -c "SELECT regexp_replace(current_setting('data_directory'), '/data$', '')")
target=$folder
if [ "$(df -m --output=avail /dev/shm 2> /dev/null | tail -n 1)" -gt 3000 ]; then
	target=$(mktemp -d /dev/shm/leyser-XXXXXX)
	trap 'rm -rf "$target"' EXIT
fi
mkdir -m 0700 "$target/own" "$target/by_hand"

sql -o /dev/null <<- EOS
	CREATE TABLE wide AS SELECT g AS id, repeat(md5(g::text), 30) AS t FROM generate_series(1, 1000000) g;
	ALTER SYSTEM SET leyser.backup_directory = '$target/own';
	SELECT pg_reload_conf();
	CHECKPOINT;
EOS
sleep 1

# Prints the milliseconds that a command takes.
took()
{
	local began ended
	began=$(date +%s%N)
	"$@" > /dev/null 2> "$folder/errors" || fail "$1 failed: $(head -n 3 "$folder/errors")"
	ended=$(date +%s%N)
	echo $(((ended - began) / 1000000))
}

take()
{
	sql -c 'SELECT leyser.take_backup()'
}

copy()
{
	pg_basebackup --pgdata="$target/by_hand/data" --format=plain --wal-method=stream \
		--checkpoint=fast --manifest-checksums=SHA256 --no-password
}

verify()
{
	pg_verifybackup --quiet --exit-on-error "$target/by_hand/data"
}

# Prints, for the last one of ours: milliseconds until it was complete.
completed_after()
{
	sql -c "SELECT round(extract(epoch FROM completed_at - started_at) * 1000)
		FROM leyser.generation_record ORDER BY generation_id DESC LIMIT 1"
}

by_programs()
{
	copied=$(took copy)
	checked=$(took verify)
	rm -rf "$target/by_hand/data"
}

by_leyser()
{
	ours=$(took take)
	ours_copied=$(completed_after)
	rm -rf "$target"/own/leyser-*
}

# Who comes second finds what the first one has left: by turns.
for ((round = 0; round <= ROUNDS; round++)); do
	if ((round % 2)); then
		by_programs
		by_leyser
	else
		by_leyser
		by_programs
	fi
	# the first ones fill the caches
	[ "$round" -gt 0 ] || continue
	echo "$copied $((copied + checked)) $ours_copied $ours"
done > "$folder/figures"

# Prints the middle one of a ratio of two columns, or of a column.
column()
{
	awk -v a="$1" -v b="${2:-}" '{ print b ? $a / $b : $a }' "$folder/figures" | median
}

tell "backups lie in" "$(df --output=fstype "$target" | tail -n 1)"
tell "cluster, MB" "$(sql -c "SELECT sum(pg_tablespace_size(oid)) / 1000000 FROM pg_tablespace" | cut -d. -f1)"
tell "pg_basebackup, ms" "$(column 1)"
tell "pg_basebackup and pg_verifybackup, ms" "$(column 2)"
tell "take_backup() until it is complete, ms" "$(column 3)"
tell "take_backup(), ms" "$(column 4)"
judge "complete, times of pg_basebackup" "$(column 3 1)" "at most" 1.1
judge "take_backup(), times of both programs" "$(column 4 2)" "at most" 1.1
finish
