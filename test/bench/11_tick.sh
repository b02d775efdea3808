#!/bin/bash
# What a tick costs that finds nothing to do, a minute's heartbeat: in a session that
# has ticked before, and in a new one, as pg_cron begins one each time.

. "$(dirname "$0")/figures.sh"

rounds=200

sql -o /dev/null <<- 'EOS'
	SELECT leyser.create_tenant('tenant ' || g) FROM generate_series(1, 5000) g;
	VACUUM ANALYZE;
	CALL leyser.tick();
EOS

# Milliseconds of so many ticks in one session, one a line; the first is left out.
ticks_of_a_session()
{
	{
		printf '\\timing on\n'
		yes 'CALL leyser.tick();' | head -n $((rounds + 1))
	} | sql | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' | tail -n "$rounds"
}

# The same of sessions' first ticks.
first_ticks()
{
	local round
	for round in $(seq 20); do
		sql -c '\timing on' -c 'CALL leyser.tick()' | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p'
	done
}

judge "a tick without anything to do, ms (median of $rounds)" "$(ticks_of_a_session | median)" "at most" 5
tell "the first one of a session, ms (median of 20)" "$(first_ticks | median)"
finish
