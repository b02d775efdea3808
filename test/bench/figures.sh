# What the benchmarks share; sourced by bash.

. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

missed=0

# psql that prints bare values and stops at the first error.
sql()
{
	psql -X -q -A -t -v ON_ERROR_STOP=1 "$@"
}

# Prints a figure, and whether it is as good as it should be.
# Arguments: what it is, the figure, "at most" or "at least", the mark.
judge()
{
	local verdict
	verdict=$(awk -v f="$2" -v m="$4" -v w="$3" \
		'BEGIN { print (w == "at most" ? f <= m : f >= m) ? "good" : "MISSED" }')
	printf '%-58s %10s  (%s %s: %s)\n' "$1" "$2" "$3" "$4" "$verdict"
	[ "$verdict" = good ] || missed=1
}

# Prints a figure that has no mark.  Arguments: what it is, the figure.
tell()
{
	printf '%-58s %10s\n' "$1" "$2"
}

# The last line of a benchmark: fails where a mark was missed.
finish()
{
	exit "$missed"
}

# The middle one of numbers on standard input, one a line.
median()
{
	sort -g | awk '{ n[NR] = $1 } END { print NR % 2 ? n[(NR + 1) / 2] : (n[NR / 2] + n[NR / 2 + 1]) / 2 }'
}

# Runs scripts of pgbench for two sides, each transaction at random one side's or the
# other's, so that both meet the same machine.  Prints the microseconds that a side's
# transactions take on average, without the slowest tenth, in which something else
# got in between, and the fastest twentieth: one line a side.
# Arguments: seconds, how many scripts each side has, a folder, pgbench's options
# with the scripts of the first side before those of the second.
take_turns()
{
	local seconds=$1 scripts=$2 folder=$3 side
	shift 3
	rm -f "$folder"/log.*
	pgbench -n -M prepared -T "$seconds" -l --log-prefix="$folder/log" "$@" \
		> /dev/null 2> "$folder/errors"
	[ ! -s "$folder/errors" ] || fail "$(head -n 3 "$folder/errors")"
	for side in 0 1; do
		# the first transactions make plans
		cat "$folder"/log.* | awk -v side="$side" -v scripts="$scripts" \
			'$2 > 20 * scripts && int($4 / scripts) == side { print $3 }' | sort -g |
			awk '{ n[NR] = $1 }
				END { for (i = int(NR / 20) + 1; i <= NR * 0.9; i++) { sum += n[i]; count++ }
					printf "%.2f\n", sum / count }'
	done
}
