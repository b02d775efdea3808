#!/bin/bash
# What a purge's deletion costs beside plain DELETEs in the right order, a million
# rows over three tables each, by turns; and all of a purge beside DELETE and VACUUM
# FULL: the time, the strongest lock, and how long others had to wait for it.

. "$(dirname "$0")/figures.sh"
. "$(dirname "$0")/purge_figures.sh"

rounds=3
rows=$(scaled 1000000)

make_tables
fill "$(scaled 100000)" other

# ---- deletion ----

for round in $(seq "$rounds"); do
	fill "$rows" "purged$round" "plain$round"
	end_contract "purged$round"
	# whose turn is first changes, for who is second finds more in memory
	if [ $((round % 2)) -eq 0 ]; then
		took delete_all "plain$round" >> "$folder/plain"
		purge "purged$round" >> "$folder/purge"
	else
		purge "purged$round" >> "$folder/purge"
		took delete_all "plain$round" >> "$folder/plain"
	fi
	sql -c 'VACUUM'
done
plain=$(median < "$folder/plain")
deletion=$(cut -d ' ' -f 1 "$folder/purge" | median)
tell "plain DELETEs of $rows rows, ms (median of $rounds)" "$plain"
tell "a purge's deletion of as many, ms" "$deletion"
tell "... from the call on, with the plan and a worker's start, ms" "$(cut -d ' ' -f 2 "$folder/purge" | median)"
judge "deletion's speed beside plain DELETEs" "$(awk -v p="$plain" -v d="$deletion" 'BEGIN { printf "%.2f", p / d }')" "at least" 0.9

# ---- all of it ----

# Somebody reads and somebody writes another tenant's rows all the time, and the
# locks of whoever works are looked at, while a function runs.  Prints the function's
# milliseconds, the longest wait of each, and the strongest lock on the tables.
watched()
{
	local watchers=() time name
	cat > "$folder/read" <<< "SELECT v FROM item WHERE tenant_id = 'other' AND id = 7;"
	cat > "$folder/write" <<< "UPDATE item SET v = v WHERE tenant_id = 'other' AND id = 7;"
	cat > "$folder/look" <<- 'EOS'
		SELECT mode FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE l.granted AND relation IN ('item'::regclass, 'purchase'::regclass, 'customer'::regclass)
			AND (a.backend_type = 'leyser purge worker' OR a.application_name = 'bench worker') \watch 0.02
	EOS
	rm -f "$folder"/wait.*
	for name in read write; do
		pgbench -n -T 3600 -R 200 -l --log-prefix="$folder/wait.$name" -f "$folder/$name" > /dev/null 2>&1 &
		watchers+=($!)
	done
	sql -f "$folder/look" > "$folder/locks" 2> /dev/null &
	watchers+=($!)
	sleep 1
	time=$(took "$@")
	sleep 1
	kill "${watchers[@]}" 2> /dev/null || true
	wait "${watchers[@]}" 2> /dev/null || true
	echo "$time $(longest read) $(longest write) $(strongest)"
}

# The longest transaction of a log, in ms; its second column of times is how late it began.
longest()
{
	cat "$folder/wait.$1".* | awk '{ t = ($3 + $7) / 1000; if (t > max) max = t } END { printf "%.0f", max }'
}

strongest()
{
	local mode
	for mode in AccessExclusiveLock ExclusiveLock ShareRowExclusiveLock ShareLock ShareUpdateExclusiveLock RowExclusiveLock RowShareLock AccessShareLock; do
		if grep -qx "$mode" "$folder/locks"; then
			echo "$mode"
			return
		fi
	done
	echo none
}

purge_all()
{
	purge watched1 > /dev/null
}

vacuum_full()
{
	delete_all watched2
	PGAPPNAME='bench worker' sql -c 'VACUUM FULL customer' -c 'VACUUM FULL purchase' -c 'VACUUM FULL item'
}

fill "$rows" watched1 watched2
end_contract watched1
read -r purge_time purge_read purge_write purge_lock < <(watched purge_all)
read -r full_time full_read full_write full_lock < <(watched vacuum_full)
tell "all of a purge of $rows rows, to the last byte, ms" "$purge_time"
tell "... longest read and write of others meanwhile, ms" "$purge_read $purge_write"
tell "... strongest lock on the tables" "$purge_lock"
tell "DELETE and VACUUM FULL (bytes stay in indexes' and old files' blocks, statistics, WAL), ms" "$full_time"
tell "... longest read and write of others meanwhile, ms" "$full_read $full_write"
tell "... strongest lock on the tables" "$full_lock"
finish
