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
