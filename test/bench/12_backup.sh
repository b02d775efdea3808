#!/bin/bash
# What the books of backups cost when they are long: what the policy says of 10,000
# generations, and the horizon of 10,000 erased tenants over 1,000 generations, of
# which all are still there in the worst case.

. "$(dirname "$0")/figures.sh"

rounds=5

fill()
{
	sql -v generations="$1" <<- 'EOS'
		TRUNCATE leyser.generation_record RESTART IDENTITY;
		INSERT INTO leyser.generation_record (state, kind, tool, label, region, system_identifier, timeline, start_lsn, started_at, completed_at, recorded_by)
			SELECT 'complete', CASE WHEN g % 7 = 1 THEN 'full' ELSE 'incremental' END, 'manual', 'generation ' || g, 'JP', c.system_identifier, 1,
				'0/1000000'::pg_lsn + g * 100, t.at, t.at, 'bench'
			FROM pg_control_system() c, generate_series(1, :generations) g, LATERAL (SELECT now() - make_interval(hours => :generations - g)) t (at)
			ORDER BY g;
		UPDATE leyser.generation_record SET parent = generation_id - 1 WHERE kind = 'incremental';
		VACUUM ANALYZE leyser.generation_record;
	EOS
}

# Milliseconds that a query takes, the middle of some rounds.
milliseconds_of()
{
	local round
	for round in $(seq "$rounds"); do
		sql -c '\timing on' -c "$1" | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p'
	done | median
}

fill 10000
judge "the policy over 10,000 generations, ms (median of $rounds)" \
	"$(milliseconds_of 'SELECT count(*) FROM leyser.policy_decision(now(), leyser.this_system())')" "at most" 100
tell "view backup_generation over as many, ms" "$(milliseconds_of 'SELECT count(*) FROM leyser.backup_generation')"
fill 1000
sql <<- 'EOS'
	INSERT INTO leyser.tenant_record (tenant_id, state) SELECT 'bench ' || g, 'erased' FROM generate_series(1, 10000) g;
	INSERT INTO leyser.purge_record (tenant_id, state, batch_size, max_rows_per_second, queued_by, scrub_end_lsn, scrub_system, scrub_timeline, erased_at)
		SELECT 'bench ' || g, 'erased', 1, 0, 'bench', '0/1000000'::pg_lsn + g * 10 + 5, c.system_identifier, 1, now() - make_interval(mins => 6 * (10000 - g))
		FROM pg_control_system() c, generate_series(1, 10000) g;
	INSERT INTO leyser.wal_archive_record (tool, source, system_identifier, timeline, oldest_segment, oldest_lsn)
		SELECT 'pgbackrest', 'main/1', c.system_identifier, 1, '000000010000000000000001', '0/1000000' FROM pg_control_system() c;
	VACUUM ANALYZE leyser.purge_record;
EOS
judge "the horizon of 10,000 tenants over 1,000 generations, ms" \
	"$(milliseconds_of 'SELECT count(*), count(gone_at), sum(cardinality(generations)) FROM leyser.erasure_horizon')" "at most" 1000
sql -c "UPDATE leyser.generation_record SET state = 'deleted', deleted_at = now() WHERE generation_id <= 970"
tell "the same where 30 generations are left, ms" \
	"$(milliseconds_of 'SELECT count(*), count(gone_at), sum(cardinality(generations)) FROM leyser.erasure_horizon')"
finish
