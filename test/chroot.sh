# Debian chroots for the tests that need another machine; sourced by bash, after
# lib.sh.  All mounts and processes live in namespaces that end with us, however
# we end.

chroots=${LEYSER_CHROOTS:-/var/tmp/leyser-chroots}

need_root_and_debootstrap()
{
	is_root || fail "making chroots takes root"
	command -v debootstrap > /dev/null && return
	say "installing: debootstrap"
	apt-get -qq -o DPkg::Lock::Timeout=300 update
	DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 install \
		--no-install-recommends debootstrap > /dev/null
}

# Makes a chroot unless a complete one lies there.  Until it is complete it has
# another name.  Arguments: Debian's suite, more arguments for debootstrap.
make_chroot()
{
	local suite=$1 new=$chroots/$1.new
	shift
	[ ! -d "$chroots/$suite" ] || return 0
	mkdir -p "$chroots"
	rm -rf --one-file-system "$new"
	say "making a Debian $suite in $chroots"
	debootstrap --variant=minbase "$@" "$suite" "$new" > "$chroots/$suite.log" 2>&1 || {
		tail -n 20 "$chroots/$suite.log" >&2
		fail "debootstrap failed"
	}
	take_apt_settings "$new"
	mv "$new" "$chroots/$suite"
}

# How this machine reaches the archive (a proxy, say) holds inside, too.
# Arguments: the chroot's folder.
take_apt_settings()
{
	apt-config dump | grep -E '^Acquire::(http|https|Check|Retries)' \
		> "$1/etc/apt/apt.conf.d/90machine" || true
}

# Runs a command in a chroot.  Arguments: its folder, command and arguments.
in_chroot()
{
	local folder=$1
	shift
	unshare --mount --pid --fork --kill-child -- bash -c '
		set -e
		cd "$1"
		shift
		mount -t proc proc proc
		mount -t tmpfs -o mode=1777 tmpfs dev/shm
		exec chroot . "$@"' chroot "$folder" \
		env -u PG_CONFIG -u LEYSER_STAGE -u MAKEFLAGS -u MAKELEVEL -u MFLAGS HOME=/root \
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@"
}
