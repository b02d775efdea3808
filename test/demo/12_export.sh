#!/bin/bash
# Branch 4 moves to another bank: its rows leave in files, and come in elsewhere.
set -eu
bindir=$("$PG_CONFIG" --bindir)
home=$PGHOST
files=$home/branch_4

# Arguments: psql's.
ask()
{
	psql -X -At -q -v ON_ERROR_STOP=1 "$@"
}

# Every row of branch 4, in the database that the arguments name.
digest()
{
	ask "$@" -c "
		SELECT count(*), sum(hashtextextended(r, 0)::numeric) FROM (
			SELECT 'a' || a::text AS r FROM pgbench_accounts a WHERE bid = 4
			UNION ALL SELECT 't' || t::text FROM pgbench_tellers t WHERE bid = 4
			UNION ALL SELECT 'b' || b::text FROM pgbench_branches b WHERE bid = 4
			UNION ALL SELECT 'h' || h::text FROM pgbench_history h WHERE bid = 4
			UNION ALL SELECT 's' || s::text FROM standing_order s WHERE bid = 4) q"
}

echo
echo "== 22. Branch 4 moves to another bank: it is handed over"
echo
mkdir -p "$files"
cd "$files"
ask -c "CREATE ROLE bank_exporter LOGIN" -c "SELECT leyser.grant_usage('bank_exporter', 'exporter')" > /dev/null
echo "   bank_exporter=> SELECT leyser.open_export('4', '1 hour', 'moves to the new bank');"
ask -U bank_exporter -c "SELECT leyser.open_export('4', '1 hour', 'moves to the new bank')" > /dev/null
echo "   bank_exporter=> SELECT step, relation, copy_command FROM leyser.export_plan('4');"
psql -X -q -P pager=off -U bank_exporter -c "
	SELECT step, relation, left(copy_command, 70) || ' …' AS copy_command FROM leyser.export_plan('4') WHERE copy_command IS NOT NULL ORDER BY step"
for command in copy import; do
	ask -U bank_exporter -o "$command.psql" \
		-c "SELECT ${command}_command FROM leyser.export_plan('4') WHERE copy_command IS NOT NULL ORDER BY step"
done
ask -U bank_exporter -1 -f copy.psql
ask -U bank_exporter -c "SELECT leyser.close_export()" > /dev/null
wc -l ./*.copy | sed 's/^/   /'
others=$({
	cut -f 1 ./*branches.copy ./*standing_order.copy
	cut -f 2 ./*accounts.copy ./*tellers.copy ./*history.copy
} | grep -cvx 4 || true)
echo "   Rows of other branches in these files: $others"
[ "$others" = 0 ]

echo "   The new bank has a database of its own:"
ask -c "CREATE DATABASE new_bank TEMPLATE template0"
"$bindir/pgbench" -i -I dtp -q new_bank 2> /dev/null
ask -d new_bank > /dev/null <<- 'SQL'
	SET client_min_messages = warning;
	CREATE EXTENSION leyser CASCADE;
	SELECT leyser.initialize_keyring();
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	ALTER TABLE pgbench_accounts ALTER bid SET NOT NULL;
	ALTER TABLE pgbench_tellers ALTER bid SET NOT NULL;
	ALTER TABLE pgbench_history ALTER bid SET NOT NULL;
	CREATE TABLE standing_order (bid int NOT NULL, aid int NOT NULL, amount int NOT NULL);
	SELECT leyser.protect(t::regclass, 'bid')
		FROM unnest('{pgbench_branches,pgbench_tellers,pgbench_accounts,pgbench_history,standing_order}'::text[]) t;
	SELECT leyser.create_tenant('4');
	CREATE ROLE new_bank_import LOGIN;
	GRANT SELECT, INSERT ON pgbench_branches, pgbench_tellers, pgbench_accounts, pgbench_history, standing_order TO new_bank_import;
	SELECT leyser.grant_usage('new_bank_import', 'gateway');
SQL
echo "   new_bank_import=> BEGIN; SELECT leyser.enter('4'); \\i import.psql"
ask -U new_bank_import -d new_bank -1 -c "SELECT leyser.enter('4')" -f import.psql > /dev/null
echo "   Rows and their digest here and there: $(digest -d postgres), $(digest -d new_bank)"
[ "$(digest -d postgres)" = "$(digest -d new_bank)" ]
ask -d new_bank -c "SELECT leyser.unprotect_all()" > /dev/null
ask -c "DROP DATABASE new_bank"
