#!/bin/bash
# What a purge's deletion costs beside plain DELETEs in the right order, a million
# rows over three tables each, by turns; and what all of a purge takes.

. "$(dirname "$0")/figures.sh"

rounds=3

sql -o /dev/null <<- 'EOS'
	CREATE TABLE customer (tenant_id text NOT NULL, id int, v text DEFAULT repeat('x', 50), PRIMARY KEY (tenant_id, id));
	CREATE TABLE purchase (tenant_id text NOT NULL, id int, customer int, v text DEFAULT repeat('x', 50),
		PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, customer) REFERENCES customer);
	CREATE TABLE item (tenant_id text NOT NULL, id int, purchase int, v text DEFAULT repeat('x', 50),
		PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, purchase) REFERENCES purchase);
	CREATE INDEX ON purchase (tenant_id, customer);
	CREATE INDEX ON item (tenant_id, purchase);
	SELECT leyser.protect(r) FROM unnest('{customer,purchase,item}'::regclass[]) r;
	SELECT leyser.create_tenant('other');
EOS

# Fills in the tenants of a round, interleaved with another one.
fill()
{
	sql -o /dev/null -v purged="purged$1" -v plain="plain$1" <<- 'EOS' 2> /dev/null
		SELECT leyser.create_tenant(t) FROM unnest(ARRAY[:'purged', :'plain']) t;
		INSERT INTO customer SELECT t, g FROM generate_series(1, 10000) g, unnest(ARRAY[:'purged', :'plain']) t;
		INSERT INTO purchase SELECT t, g, 1 + g % 10000 FROM generate_series(1, 90000) g, unnest(ARRAY[:'purged', :'plain']) t;
		-- the checks of foreign keys plan by it
		ANALYZE customer, purchase;
		INSERT INTO item SELECT t, g, 1 + g % 90000 FROM generate_series(1, 900000) g, unnest(ARRAY[:'purged', :'plain']) t;
		VACUUM ANALYZE;
		CHECKPOINT;
		SELECT leyser.terminate_contract(:'purged', 'now'::text);
	EOS
}

# Milliseconds of plain DELETEs.
plain_delete()
{
	sql -v tenant="plain$1" <<- 'EOS' | awk -F '|' 'NR == 1 { s = $1 } END { printf "%.0f\n", ($1 - s) * 1000 }'
		SELECT extract(epoch FROM clock_timestamp());
		DELETE FROM item WHERE tenant_id = :'tenant';
		DELETE FROM purchase WHERE tenant_id = :'tenant';
		DELETE FROM customer WHERE tenant_id = :'tenant';
		SELECT extract(epoch FROM clock_timestamp());
	EOS
}

# Milliseconds of a purge's deletion, and of all of it.
purge()
{
	sql -c "CALL leyser.purge('purged$1')" 2> /dev/null
	sql -F ' ' -c "SELECT round(extract(epoch FROM deleted_at - started_at) * 1000),
		round(extract(epoch FROM erased_at - started_at) * 1000)
		FROM leyser.purge_status WHERE tenant_id = 'purged$1'"
}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for round in $(seq "$rounds"); do
	fill "$round"
	# whose turn is first changes, for who is second finds more in memory
	if [ $((round % 2)) -eq 0 ]; then
		plain_delete "$round" >> "$folder/plain"
		purge "$round" >> "$folder/purge"
	else
		purge "$round" >> "$folder/purge"
		plain_delete "$round" >> "$folder/plain"
	fi
done
plain=$(median < "$folder/plain")
deletion=$(cut -d ' ' -f 1 "$folder/purge" | median)
tell "plain DELETEs of a million rows, ms (median of $rounds)" "$plain"
tell "a purge's deletion of as many, ms" "$deletion"
tell "all of that purge, to the last byte, ms" "$(cut -d ' ' -f 2 "$folder/purge" | median)"
judge "deletion's speed beside plain DELETEs" "$(awk -v p="$plain" -v d="$deletion" 'BEGIN { printf "%.2f", p / d }')" "at least" 0.9
finish
