# What the benchmarks of purges share; sourced by bash, after figures.sh.
#
# LEYSER_BENCH_SCALE is the size of tables in percent of the usual one (100).

scale=${LEYSER_BENCH_SCALE:-100}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# So many rows as the scale makes of them.
scaled()
{
	awk -v n="$1" -v scale="$scale" 'BEGIN { n = int(n * scale / 100); print (n > 10 ? n : 10) }'
}

# psql that tells errors, and no notices.
quiet_sql()
{
	PGOPTIONS='-c client_min_messages=warning' sql "$@"
}

# Three tables with foreign keys, an item's row in ten in the two above it.
make_tables()
{
	sql -o /dev/null <<- 'EOS'
		CREATE TABLE customer (tenant_id text NOT NULL, id int, v text DEFAULT repeat('x', 50), PRIMARY KEY (tenant_id, id));
		CREATE TABLE purchase (tenant_id text NOT NULL, id int, customer int, v text DEFAULT repeat('x', 50),
			PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, customer) REFERENCES customer);
		CREATE TABLE item (tenant_id text NOT NULL, id int, purchase int, v text DEFAULT repeat('x', 50),
			PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, purchase) REFERENCES purchase);
		CREATE INDEX ON purchase (tenant_id, customer);
		CREATE INDEX ON item (tenant_id, purchase);
		SELECT leyser.protect(r) FROM unnest('{customer,purchase,item}'::regclass[]) r;
	EOS
}

# Fills in tenants with so many rows each, interleaved.  Arguments: rows, tenants.
fill()
{
	local rows=$1
	shift
	quiet_sql -o /dev/null -v tenants="$(printf '%s ' "$@")" -v items=$((rows * 9 / 10)) -v purchases=$((rows * 9 / 100)) -v customers=$((rows / 100)) <<- 'EOS'
		CREATE TEMP TABLE filled AS SELECT t FROM string_to_table(trim(:'tenants'), ' ') t;
		SELECT leyser.create_tenant(t) FROM filled;
		INSERT INTO customer SELECT t, g FROM generate_series(0, :customers) g, filled;
		INSERT INTO purchase SELECT t, g, g % (:customers + 1) FROM generate_series(0, :purchases) g, filled;
		-- the checks of foreign keys plan by it
		ANALYZE customer, purchase;
		INSERT INTO item SELECT t, g, g % (:purchases + 1) FROM generate_series(1, :items) g, filled;
		VACUUM ANALYZE;
		CHECKPOINT;
	EOS
}

end_contract()
{
	quiet_sql -o /dev/null -c "SELECT leyser.terminate_contract('$1', 'now'::text)"
}

# Milliseconds of a purge's deletion (all its passes), and from the call on until that
# and until all was over.
# Arguments: tenant, further arguments of purge().
purge()
{
	quiet_sql -c "CALL leyser.purge('$1'${2:-})"
	sql -F ' ' -c "SELECT round(extract(epoch FROM deleted_at - started_at) * 1000),
		round(extract(epoch FROM deleted_at - queued_at) * 1000),
		round(extract(epoch FROM erased_at - queued_at) * 1000)
		FROM leyser.purge_status WHERE tenant_id = '$1'"
}

# Plain DELETEs in the right order.
delete_all()
{
	sql -o /dev/null -v tenant="$1" <<- 'EOS'
		DELETE FROM item WHERE tenant_id = :'tenant';
		DELETE FROM purchase WHERE tenant_id = :'tenant';
		DELETE FROM customer WHERE tenant_id = :'tenant';
	EOS
}

# Milliseconds of a command.
took()
{
	local began
	began=$(date +%s%N)
	"$@"
	echo $((($(date +%s%N) - began) / 1000000))
}
