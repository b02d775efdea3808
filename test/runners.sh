# The runners of test/run, and how they count; sourced by bash, after lib.sh.

passed=0
failed=0
wanted=()

pgxs_folder()
{
	dirname "$(dirname "$(dirname "$("$PG_CONFIG" --pgxs)")")"
}

# One test, told in a line.  Arguments: ok or failed, the test's name.
tell()
{
	if [ "$1" = ok ]; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
	fi
	printf '%-7s %s\n' "$1" "$2"
}

close_with_totals()
{
	if [ $((passed + failed)) -eq 0 ]; then
		say "no test ran"
	fi
	say "$passed passed, $failed failed"
	[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}

# Arguments: a kind of test.
wanted_kind()
{
	local what
	for what in "${wanted[@]}"; do
		[ "${what%%/*}" != "$1" ] || return 0
	done
	return 1
}

# Prints the names of a kind's tests that are wanted; those numbered 00 set up what
# the others need, and always are.
# Arguments: kind, folder, suffix.
tests_of()
{
	local kind=$1 file name what
	for file in "$2"/*"$3"; do
		[ -e "$file" ] || continue
		name=$(basename "$file" "$3")
		for what in "${wanted[@]}"; do
			if [ "$what" = "$kind" ] || [ "$what" = "$kind/$name" ] ||
				[[ $what == "$kind"/* && $name == 00_* ]]; then
				printf '%s\n' "$name"
				break
			fi
		done
	done
}

# Runs a command quietly as one test; where it fails, the start of its output is
# shown.  Arguments: the test's name, the command.
run_quietly()
{
	local name=$1 log=$workspace/quiet.log
	shift
	if run_child "$@" > "$log" 2>&1; then
		tell ok "$name"
	else
		tell failed "$name"
		head -n 60 "$log"
		return 1
	fi
}

# The build that users install: without assertions other warnings show up.
run_build()
{
	run_quietly "build without assertions" make -s -j "$(nproc)" all || close_with_totals
	make -s clean > /dev/null
	run_quietly "META.json and CHANGELOG.md name the version" version_agrees || true
}

# The version stands in leyser.control; PGXN's metadata and the changes follow it.
version_agrees()
{
	local version
	version=$(sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" leyser.control)
	grep -qF "## $version" CHANGELOG.md &&
		[ "$(grep -cF "\"version\": \"$version\"" META.json)" -eq 2 ]
}

# The tested build.  Debian has no server with assertions; leyser's own work all
# the same, since every server has ExceptionalCondition().
run_build_with_assertions()
{
	build_and_stage COPT=-DUSE_ASSERT_CHECKING || {
		tell failed "build with assertions"
		close_with_totals
	}
}

# All that is not static carries our prefix: PostgreSQL 15 exports all of it.
foreign_symbols()
{
	nm -D --defined-only leyser.so |
		awk '$3 !~ /^(leyser_|pg_finfo_leyser_|_PG_init$|Pg_magic_func$|_init$|_fini$)/ { print $3; n++ }
			END { exit n > 0 }'
}

run_symbols()
{
	run_quietly "symbols carry the prefix" foreign_symbols || true
}

# Versions of clang-format differ in taste; Debian 12's is the measure.
run_lint()
{
	if clang-format --version | grep -q 'version 14\.'; then
		run_quietly "C sources are formatted" make -s lint || true
	else
		say "skipped: the formatting of C sources, which wants clang-format 14"
	fi
}

run_regress()
{
	run_pg_regress regress "$(pgxs_folder)/src/test/regress/pg_regress" \
		"$(tests_of regress test/sql .sql)"
}

run_isolation()
{
	run_pg_regress isolation "$(pgxs_folder)/src/test/isolation/pg_isolation_regress" \
		"$(tests_of isolation test/specs .spec)"
}

# Each kind has a cluster, and so a keyring, of its own.
# Arguments: kind, the runner's path, the names of the tests.
run_pg_regress()
{
	local kind=$1 runner=$2 tests=$3 folder=$workspace/$1 log=$workspace/$1.log
	[ -n "$tests" ] || return 0
	start_cluster "$folder" "leyser_$kind" > "$log" 2>&1 || {
		tell failed "$kind: a cluster with leyser starts"
		cat "$log" "$folder/server.log" || true
		return 0
	}
	rm -f regression.diffs
	expect_something "$tests"
	# The output folder is also where expected/ is looked for, up to 15.
	# shellcheck disable=SC2086  # a list of names
	run_child "$runner" --inputdir=test --outputdir=. \
		--bindir="$("$PG_CONFIG" --bindir)" --host="$folder" --port=5432 --user=postgres \
		--dbname="leyser_$kind" --use-existing $tests > "$log" 2>&1 || true
	count_pg_regress "$kind" "$log" "$tests"
	tell_crashes "$kind" "$folder/server.log"
	test/cluster stop "$folder" || true
}

# pg_regress ends at the first test whose expected output is not there yet.
# Arguments: the names of the tests.
expect_something()
{
	local name
	for name in $1; do
		[ -e "expected/$name.out" ] || : > "expected/$name.out"
	done
}

# Arguments: folder, the name of a database to make there.
start_cluster()
{
	local environment
	# A subshell: later tests have clusters of their own.
	(
		environment=$(test/cluster start "$1") &&
			eval "$environment" &&
			test/database "$2"
	)
}

# PostgreSQL 15 says "test name ... ok", later ones speak TAP.
# Arguments: kind, log, names.
count_pg_regress()
{
	local name failed_before=$failed
	for name in $3; do
		if grep -qE "^(test $name +\.\.\. ok|ok +[0-9]+ +[-+] +$name( |\$))" "$2"; then
			tell ok "$1/$name"
		else
			tell failed "$1/$name"
		fi
	done
	if [ "$failed" -gt "$failed_before" ]; then
		if [ -s regression.diffs ]; then cat regression.diffs; else cat "$2"; fi
	fi
}

# A server that crashed under a test is a failure of its own.
# Arguments: kind, server log.
tell_crashes()
{
	if grep -E 'TRAP: |was terminated by signal' "$2"; then
		tell failed "$1: the server survives"
	fi
}

run_tap()
{
	local processors
	processors=$(nproc)
	run_tap_files tap test/t $((processors < 4 ? processors : 4))
}

# What takes longer than minutes, and five minutes of fuzzing.
run_long()
{
	run_tap_files long test/long 1
	if [[ " ${wanted[*]} " =~ \ long(/fuzz)?\  ]]; then
		run_fuzz long/fuzz 300
	fi
}

# Mutated tokens and keyring files.  Arguments: the test's name, seconds.
run_fuzz()
{
	run_quietly "$1: $2 s of mutated tokens and keyring files" test/fuzz/run "$2" || true
}

# Arguments: kind, folder, how many files at a time.
run_tap_files()
{
	local names totals=$workspace/totals good bad
	names=$(tests_of "$1" "$2" .pl)
	tap_environment
	: > "$totals"
	# shellcheck disable=SC2086  # a list of names
	run_child share_tap_files "$@" $names || true
	while read -r good bad; do
		passed=$((passed + good))
		failed=$((failed + bad))
	done < "$totals"
	if [ "$(wc -l < "$totals")" -ne "$(wc -w <<< "$names")" ]; then
		tell failed "$1: all files come to their end"
	fi
}

# Arguments: kind, folder, how many files at a time, the names.
share_tap_files()
{
	local kind=$1 folder=$2 most=$3 running=0 name
	shift 3
	# One process group with us, so that who ends us ends them.
	set +m
	for name in "$@"; do
		if [ "$running" -eq "$most" ]; then
			wait -n || true
			running=$((running - 1))
		fi
		run_tap_file "$kind" "$folder" "$name" &
		running=$((running + 1))
	done
	wait
}

# Tells the verdict, and adds a line of two numbers to the totals.
# Arguments: kind, folder, name.
run_tap_file()
{
	local log=$workspace/$1.$3.log status=0 good bad verdict=ok started=$SECONDS folder
	"${perl[@]}" "$2/$3.pl" > "$log" 2>&1 || status=$?
	good=$(grep -E '^ok ' "$log" | grep -civE '# (skip|todo)' || true)
	bad=$(grep -cE '^not ok ' "$log" || true)
	# A file that died without a failed test failed all the same.
	if [ "$bad" -eq 0 ] && [ $((status + (good == 0))) -ne 0 ]; then
		bad=1
	fi
	[ "$bad" -eq 0 ] || verdict=failed
	{
		printf '%-7s %s: %s passed, %s failed, %s s\n' "$verdict" "$1/$3" "$good" "$bad" \
			"$((SECONDS - started))"
		[ "$bad" -eq 0 ] || grep -vE '^ok ' "$log" | tail -n 100
	} > "$log.verdict"
	cat "$log.verdict"
	printf '%s %s\n' "$good" "$bad" >> "$workspace/totals"
	# PostgreSQL's modules name a node's folder after the file.
	for folder in "$ROOT/tmp_check/t_$3"_*; do
		stop_servers_below "$folder"
		[ -n "${LEYSER_KEEP:-}" ] || rm -rf "$folder"
	done
}

# What PostgreSQL's own Perl modules read.
tap_environment()
{
	export TESTDIR=$ROOT TESTLOGDIR=$ROOT/tmp_check/log TESTDATADIR=$ROOT/tmp_check
	export PG_TEST_PORT_DIR=$workspace/ports
	perl=(perl -I test/perl -I "$(pgxs_folder)/src/test/perl")
	export PG_REGRESS PATH
	PG_REGRESS=$(pgxs_folder)/src/test/regress/pg_regress
	PATH=$("$PG_CONFIG" --bindir):$PATH
}
