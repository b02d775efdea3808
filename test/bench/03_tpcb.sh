#!/bin/bash
# pgbench's TPC-B where the branches are tenants: protected tables with a token in
# each transaction, against copies without row security whose statements name the
# branch.  Twice: with as many tenants as branches (10), and with 100,000 branches
# and tenants, of whom ten are at work.
#
# Each side sends its statements one by one, as pgbench does, in prepared mode; the
# token travels with BEGIN in one round trip.  One client sends both sides'
# transactions in turn, and what they take is compared; then four clients send one
# side's as fast as they can, then the other's, and so on.
#
# Told besides, without a mark: the same where the server does not wait for the disk
# (fsync is off), and where a transaction is sent as one pipeline.  The less there is
# to wait for, the more the few microseconds of row security itself weigh: policies
# that compare with current_setting() cost nearly the same.
#
# BENCH_SECONDS (20) is the length of a run of one client; those of four take a fifth
# of it, BENCH_ROUNDS (9) for each side.

. "$(dirname "$0")/figures.sh"

seconds=${BENCH_SECONDS:-20}
rounds=${BENCH_ROUNDS:-9}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

sql -o /dev/null <<- 'EOS'
	CREATE ROLE bench_owner;
	CREATE ROLE bench_app LOGIN;
	SELECT leyser.grant_usage('bench_app', 'application');
EOS

# Two schemas with the tables of pgbench at scale 10, their million accounts spread over
# so many branches of ten tellers each.  Arguments: the number of branches.
make_tables()
{
	sql -o /dev/null -c 'SET client_min_messages = warning' -c 'DROP SCHEMA IF EXISTS own, plain CASCADE' \
		-c 'CREATE SCHEMA own AUTHORIZATION bench_owner' -c 'CREATE SCHEMA plain'
	for schema in own plain; do
		sql -o /dev/null -v schema="$schema" -v branches="$1" <<- 'EOS'
			SET search_path = :schema;
			CREATE TABLE branches (bid int PRIMARY KEY, bbalance int, filler char(88)) WITH (fillfactor = 50);
			CREATE TABLE tellers (tid int PRIMARY KEY, bid int NOT NULL, tbalance int, filler char(84)) WITH (fillfactor = 50);
			CREATE TABLE accounts (aid int PRIMARY KEY, bid int NOT NULL, abalance int, filler char(84)) WITH (fillfactor = 90);
			CREATE TABLE history (tid int, bid int NOT NULL, aid int, delta int, mtime timestamp, filler char(22));
			INSERT INTO branches SELECT n, 0 FROM generate_series(1, :branches) n;
			INSERT INTO tellers SELECT n, (n - 1) / 10 + 1, 0 FROM generate_series(1, :branches * 10) n;
			INSERT INTO accounts SELECT n, (n - 1) / (1000000 / :branches) + 1, 0, ''
			    FROM generate_series(1, 1000000) n;
			CREATE INDEX ON accounts (bid);
			CREATE INDEX ON tellers (bid);
			GRANT USAGE ON SCHEMA :schema TO bench_app;
			GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA :schema TO bench_app;
		EOS
	done
	for table in branches tellers accounts history; do
		sql -o /dev/null -c "ALTER TABLE own.$table OWNER TO bench_owner" \
			-c "SELECT leyser.protect('own.$table', tenant_column => 'bid')"
	done
	sql -c 'VACUUM (ANALYZE, FREEZE)' -c 'CHECKPOINT'
}

# Arguments: how many tenants there shall be.  Prints seconds.
make_tenants()
{
	local started=$EPOCHREALTIME
	sql -o /dev/null -c "SELECT leyser.create_tenant(n::text) FROM generate_series(1, $1) n
		WHERE NOT EXISTS (SELECT FROM leyser.tenant WHERE tenant_id = n::text)"
	awk -v a="$started" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.2f\n", b - a }'
}

# The script of one branch, for one side.
# Arguments: own or plain, pipelined or stepwise, branch, branches.
script()
{
	local accounts=$((1000000 / $4)) filter='' token='' begin='' end='' first='' last=''
	if [ "$1" = own ]; then
		token="SELECT set_config('leyser.token', :token_$3, true);"
	else
		filter=' AND bid = :bid'
	fi
	if [ "$2" = pipelined ]; then
		first='\startpipeline' last='\endpipeline'
	else
		begin='\startpipeline' end='\endpipeline'
	fi
	cat <<- EOS
		\\set bid $3
		\\set aid random(($3 - 1) * $accounts + 1, $3 * $accounts)
		\\set tid random(($3 - 1) * 10 + 1, $3 * 10)
		\\set delta random(-5000, 5000)
		$first$begin
		BEGIN;
		$token
		$end
		UPDATE $1.accounts SET abalance = abalance + :delta WHERE aid = :aid$filter;
		SELECT abalance FROM $1.accounts WHERE aid = :aid$filter;
		UPDATE $1.tellers SET tbalance = tbalance + :delta WHERE tid = :tid$filter;
		UPDATE $1.branches SET bbalance = bbalance + :delta WHERE bid = :bid;
		INSERT INTO $1.history (tid, bid, aid, delta, mtime) VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);
		END;
		$last
	EOS
}

# Writes the scripts and tokens of the tenants who work, one line an option.
# Arguments: branches, the branches at work.
prepare()
{
	local branches=$1 way side bid
	shift
	for way in pipelined stepwise; do
		for side in own plain; do
			for bid in "$@"; do
				script "$side" "$way" "$bid" "$branches" | sed '/^$/d' > "$folder/$side-$way-$bid"
				printf '%s\n' "--file=$folder/$side-$way-$bid"
			done > "$folder/$side-$way"
		done
	done
	sql -c "SELECT format('--define=token_%s=%s', n, leyser.issue_token(n::text, lifetime => '8 hours'))
		FROM unnest('{$(tr ' ' , <<< "$*")}'::int[]) n" > "$folder/tokens"
}

# Transactions a second.  Arguments: own or plain, pipelined or stepwise.
tps()
{
	local options
	mapfile -t options < <(cat "$folder/tokens" "$folder/$1-$2")
	pgbench -n -U bench_app -M prepared -c 4 -j 2 -T "$((seconds / 5))" "${options[@]}" \
		2> "$folder/errors" | sed -n 's/^tps = \([0-9.]*\).*/\1/p'
	[ ! -s "$folder/errors" ] || fail "$(head -n 3 "$folder/errors")"
}

# Prints what a transaction takes on both sides, and the ratio.
# Arguments: stepwise or pipelined, on or off (fsync).
compare()
{
	local own plain options
	sql -c "ALTER SYSTEM SET fsync = $2" -c "SELECT pg_reload_conf()" > /dev/null
	mapfile -t options < <(cat "$folder/tokens" "$folder/plain-$1" "$folder/own-$1")
	{
		read -r plain
		read -r own
	} < <(take_turns "$seconds" 10 "$folder" -U bench_app "${options[@]}")
	awk -v a="$plain" -v b="$own" 'BEGIN { printf "%.0f %.0f %.3f\n", a, b, a / b }'
}

# The same with four clients, as throughput.
race()
{
	local way=$1 tenants=$2 own plain i
	sql -c "ALTER SYSTEM SET fsync = on" -c "SELECT pg_reload_conf()" > /dev/null
	for ((i = 0; i < rounds; i++)); do
		if ((i % 2)); then
			own=$(tps own "$way")
			plain=$(tps plain "$way")
		else
			plain=$(tps plain "$way")
			own=$(tps own "$way")
		fi
		awk -v a="$own" -v b="$plain" 'BEGIN { printf "%.3f\n", a / b }' >> "$folder/$tenants-$way"
	done
	tell "$tenants tenants, $way: four clients, last round, tps" "${plain%.*}, ${own%.*}"
	tell "$tenants tenants, $way: ratio, the middle of $rounds rounds" "$(median < "$folder/$tenants-$way")"
}

# Arguments: how many tenants there are.
measure()
{
	local plain own ratio way
	read -r plain own ratio < <(compare stepwise on)
	tell "$1 tenants: with filters written out, µs" "$plain"
	tell "$1 tenants: protected, a token each, µs" "$own"
	judge "$1 tenants: ratio" "$ratio" "at least" 0.93
	race stepwise "$1"
	for way in "stepwise off" "pipelined on" "pipelined off"; do
		# shellcheck disable=SC2086  # two words
		read -r plain own ratio < <(compare $way)
		tell "... ${way% *}, fsync ${way#* }: $plain µs against $own µs" "$ratio"
	done
}

make_tables 10
tell "create_tenant for 10 tenants, s" "$(make_tenants 10)"
prepare 10 $(seq 1 10)
measure 10

make_tables 100000
tell "create_tenant for 99,990 more tenants, s" "$(make_tenants 100000)"
prepare 100000 $(seq 5000 10000 100000)
measure 100000
finish
