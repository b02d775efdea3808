# What the scripts under test/ share; sourced by bash, never run.

set -euo pipefail

export PG_CONFIG=${PG_CONFIG:-pg_config}
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say()
{
	printf '%s\n' "$*"
}

fail()
{
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

is_root()
{
	[ "$(id -u)" -eq 0 ]
}

# The user that servers run as when root calls: PostgreSQL refuses root.
ordinary_user()
{
	local user
	for user in postgres nobody; do
		if getent passwd "$user" > /dev/null; then
			printf '%s\n' "$user"
			return
		fi
	done
	fail "there is no user to run a server as: create \"postgres\""
}

# Becomes that user without a parent process in between, so that a signal sent
# to us reaches the command.  Arguments: command and its arguments.
exec_as_ordinary_user()
{
	local user
	user=$(ordinary_user)
	exec setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups \
		env HOME=/nonexistent USER="$user" LOGNAME="$user" "$@"
}

# The same, and comes back.
as_ordinary_user()
{
	if is_root; then
		(exec_as_ordinary_user "$@")
	else
		"$@"
	fi
}

pg_major()
{
	"$PG_CONFIG" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/'
}

# A fresh folder that belongs to whoever will work in it.  A short path: the
# names of Unix sockets below it are limited to 107 bytes.
make_workspace()
{
	local folder
	folder=$(mktemp -d /tmp/leyser-XXXXXX)
	if is_root; then
		chown "$(ordinary_user):" "$folder"
	fi
	printf '%s\n' "$folder"
}

# The checkout as a tar archive, without history and build results.
tar_checkout()
{
	tar -C "$ROOT" --exclude=./.git --exclude='*.o' --exclude='*.so' --exclude='*.bc' \
		--exclude='./leyser--*.sql' --exclude=./results --exclude=./output_iso \
		--exclude=./tmp_check -cf - .
}

# Arguments: target folder, which will belong to whoever works in it.
copy_checkout()
{
	mkdir -p "$1"
	tar_checkout | tar -C "$1" --no-same-owner -xf -
	if is_root; then
		chown -R "$(ordinary_user):" "$1"
	fi
}

# Adds a runner's last line, "N passed, N failed", to the variables passed and
# failed; a runner that ran nothing or did not get that far counts as a failure.
# Arguments: the runner's output, its name.
add_totals()
{
	local last
	last=$(tail -n 1 "$1")
	if [[ $last =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ && $last != "0 passed, 0 failed" ]]; then
		passed=$((passed + BASH_REMATCH[1]))
		failed=$((failed + BASH_REMATCH[2]))
	else
		failed=$((failed + 1))
		say "failed  $2: no test ran, or not to the end"
	fi
}

# Stops whatever server still runs from a folder: a test that died may have
# left one.  Arguments: folder.
stop_servers_below()
{
	local file pid
	while IFS= read -r file; do
		pid=$(head -n 1 "$file" 2> /dev/null || true)
		if [[ $pid =~ ^[0-9]+$ ]] && runs_from "$pid" "$1"; then
			kill -QUIT "$pid" 2> /dev/null || true
			wait_for_end "$pid"
		fi
	done < <(find "$1" -name '*.pid' -type f 2> /dev/null)
}

# A pid file may be stale and its number taken by a stranger.
runs_from()
{
	tr '\0' ' ' < "/proc/$1/cmdline" 2> /dev/null | grep -qF "$2"
}

wait_for_end()
{
	local tries=100
	while [ $((tries--)) -gt 0 ]; do
		kill -0 "$1" 2> /dev/null || return 0
		sleep 0.1
	done
	kill -KILL "$1" 2> /dev/null || true
}

# Runs a command that a signal to this script ends at once, its children too.
child=
run_child()
{
	local status=0
	set -m
	"$@" < /dev/null &
	child=$!
	set +m
	wait "$child" || status=$?
	child=
	return "$status"
}

workspace=
remove_workspace()
{
	local status=$?
	trap '' INT TERM HUP
	if [ -n "$child" ]; then
		kill -TERM -- "-$child" 2> /dev/null || true
		wait "$child" 2> /dev/null || true
	fi
	if [ -n "$workspace" ] && [ -d "$workspace" ]; then
		stop_servers_below "$workspace"
		if [ -n "${LEYSER_KEEP:-}" ]; then
			say "kept: $workspace"
		else
			rm -rf "$workspace"
		fi
	fi
	return "$status"
}

# From here on the script leaves nothing behind, however it ends.
# Arguments: the workspace's folder.
clean_up_at_exit()
{
	workspace=$1
	trap remove_workspace EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
}

# The caller's connection settings are not for us.
forget_environment()
{
	local name
	for name in $(compgen -e PG); do
		[ "$name" = PG_CONFIG ] || unset "$name"
	done
	unset LEYSER_STAGE MAKEFLAGS MFLAGS MAKELEVEL
	export LC_ALL=C.UTF-8
}

# Called first by a script that needs servers: sees to the packages, and runs the
# script again on a copy of the checkout, as the user whom the copy belongs to.
# Returns in that second run only.  Whoever interrupts it leaves nothing behind.
# Arguments: demo, check or long (see test/packages), the script's path in the checkout,
# its arguments.
run_on_copy()
{
	local packages=$1 script=$2 folder=${LEYSER_WORKSPACE:-}
	shift 2
	if [ -n "$folder" ]; then
		unset LEYSER_WORKSPACE
		clean_up_at_exit "$folder"
		cd "$ROOT"
		return
	fi
	forget_environment
	"$ROOT/test/packages" "$packages"
	folder=$(make_workspace)
	clean_up_at_exit "$folder"
	copy_checkout "$folder/leyser"
	export LEYSER_WORKSPACE=$folder
	cd "$folder"
	if is_root; then
		exec_as_ordinary_user "$folder/leyser/$script" "$@"
	fi
	exec "$folder/leyser/$script" "$@"
}

# Builds the copy and installs it below the workspace for test/cluster to find.
# Arguments: more for make.
build_and_stage()
{
	local log=$workspace/build.log
	if run_child make -s -j "$(nproc)" all "$@" > "$log" 2>&1 &&
		make -s install DESTDIR="$workspace/stage" >> "$log" 2>&1; then
		export LEYSER_STAGE=$workspace/stage
	else
		head -n 60 "$log"
		return 1
	fi
}
