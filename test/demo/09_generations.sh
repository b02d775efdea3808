#!/bin/bash
# Eight days of backups in a minute, on each of which the oldest goes; the last one from
# before the purge is restored.  The backups are real; a day passes by day.psql.
set -eu
bindir=$("$PG_CONFIG" --bindir)
home=$PGHOST
restored=$home/restored

# Arguments: psql's.
ask()
{
	psql -X -At -q -v ON_ERROR_STOP=1 "$@"
}

stop_restored()
{
	[ ! -e "$restored/data/postmaster.pid" ] ||
		"$bindir/pg_ctl" -D "$restored/data" -m immediate -w stop > /dev/null
}
trap stop_restored EXIT

one_day()
{
	ask -f "$(dirname "$0")/day.psql"
	ask -U bank_backup -c "SET client_min_messages = warning; SELECT leyser.take_backup()" > /dev/null
	ask -U bank_backup -c "SELECT leyser.expire_backups()" > /dev/null
	ask -c "SELECT leyser.clean_backups()" > /dev/null
	ask -U bank_backup -c "
		SELECT format('   day %s: %s generations, the oldest of %s days; branch 3 %s', $1,
			(SELECT count(*) FROM leyser.backup_generation WHERE state = 'verified'),
			(SELECT extract(day FROM now() - min(started_at)) FROM leyser.backup_generation WHERE state = 'verified'),
			CASE WHEN gone_at IS NULL
				THEN format('may still be in generations %s, due to be gone in %s days at the latest',
					array_to_string(generations, ', '), ceil(extract(epoch FROM due_at - now()) / 86400))
				ELSE 'is gone from all backups' END)
		FROM leyser.erasure_horizon WHERE tenant_id = '3'"
}

# Argument: a folder.
count_note()
{
	grep -raoF "$note" "$1" | wc -l
}

note=$(cat "$home/note")
echo
echo "== 16. A backup each day, seven generations: when is branch 3 gone from them, too?"
echo
for day in 1 2 3 4 5 6; do
	one_day "$day"
done

echo
echo "== 17. The oldest backup is restored: who was erased since is locked at once, and erased again"
echo
oldest=$(ask -U bank_backup -c "SELECT location FROM leyser.backup_generation WHERE state = 'verified' ORDER BY started_at LIMIT 1")
mkdir -m 0700 "$restored"
cp -a "$oldest/data" "$restored/data"
# the keyring, and in it the fence, come from the host that runs the service
cp -a "$home/keyring" "$restored/keyring"
"$bindir/pg_ctl" -D "$restored/data" -l "$restored/server.log" -w \
	-o "-c port=5433 -c leyser.keyring_directory='$restored/keyring' -c leyser.backup_directory=" start > /dev/null
export PGPORT=5433
echo "   In the restored server's files the note stands $(count_note "$restored/data") times."
echo "   restored=# SELECT tenant_id, leyser.tenant_is_active(tenant_id) …"
psql -X -q -P pager=off -c "SELECT tenant_id, leyser.tenant_is_active(tenant_id) AS let_in FROM leyser.tenant WHERE tenant_id IN ('2', '3')"
psql -X -q -P pager=off -c "SELECT alert, subject, detail FROM leyser.backup_alert WHERE alert ~ 'restore'"
echo "   bank_operator=> CALL leyser.replay_purges();"
psql -X -U bank_operator -v VERBOSITY=terse -c "CALL leyser.replay_purges()"
found=$(count_note "$restored/data")
echo "   In the restored server's files the note stands $found times."
[ "$found" = 0 ] && [ "$(ask -c "SELECT leyser.restore_is_held()")" = f ]
stop_restored
export PGPORT=5432

echo
echo "== 18. The eighth day"
echo
one_day 7
[ "$(ask -U bank_backup -c "SELECT gone_at IS NOT NULL FROM leyser.erasure_horizon WHERE tenant_id = '3'")" = t ]
echo "   In the files of all backups the note stands $(count_note "$home/backups") times."
[ "$(count_note "$home/backups")" = 0 ]
