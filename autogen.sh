#!/bin/sh
# autogen.sh         make ./configure (for people who then build by hand)
# autogen.sh deps    install what building and testing needs, and nothing else
# autogen.sh run     deps, build, start weftd with the demo model, stream an answer, stop
# autogen.sh check   deps, build, run all tests
# The build of run and check goes to ./build; CONFIGURE_FLAGS and BUILD change flags and folder, JOBS the parallelism.
set -eu
cd "$(dirname "$0")"
top=$(pwd)
: "${BUILD:=build}" "${CONFIGURE_FLAGS:=}" "${JOBS:=$(nproc 2>/dev/null || echo 2)}"

say() { printf '%s\n' "$*" >&2; }

# ---- deps ----------------------------------------------------------------------------------------------------------------

have_apt() { command -v apt-get >/dev/null 2>&1 && command -v dpkg-query >/dev/null 2>&1; }
installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# What building needs, then what only the tests need. The C library of msgpack has two names: libmsgpack-c-dev is the newer one.
packages() {
	msgpack=libmsgpack-dev
	if apt-cache show libmsgpack-c-dev >/dev/null 2>&1; then msgpack=libmsgpack-c-dev; fi
	echo autoconf automake libtool make gcc g++ pkg-config libuv1-dev libzmq3-dev "$msgpack" libsentencepiece-dev libjansson-dev \
		libinih-dev liblapacke-dev libsodium-dev libsqlite3-dev libpq-dev libsystemd-dev libmicrohttpd-dev
	echo libcmocka-dev python3 python3-zmq python3-msgpack python3-prometheus-client sentencepiece mandoc postgresql systemd binutils xz-utils
}
missing() {
	for p in $(packages); do installed "$p" || printf '%s ' "$p"; done
}
as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}
deps() {
	if ! have_apt; then
		if command -v autoreconf >/dev/null && pkg-config --exists libuv libzmq sentencepiece jansson inih lapacke libsodium sqlite3 2>/dev/null; then return 0; fi
		say "This system has no apt. Install what these Debian packages hold, then run this again:"
		packages >&2
		exit 1
	fi
	need=$(missing)
	[ -n "$need" ] || return 0
	if [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; then
		say "Packages are missing. Run this line, then this script again:"
		say "    sudo apt-get update && sudo apt-get install -y --no-install-recommends $need"
		exit 1
	fi
	say "installing: $need"
	# A bare machine has no package lists yet, and then does not know which name msgpack has: so update first, and look again.
	as_root apt-get update -q >/dev/null
	need=$(missing)
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $need >"${TMPDIR:-/tmp}/weft-apt.$$" 2>&1 || {
		tail -n 20 "${TMPDIR:-/tmp}/weft-apt.$$" >&2
		say "apt-get failed; its output is in ${TMPDIR:-/tmp}/weft-apt.$$"
		exit 1
	}
	rm -f "${TMPDIR:-/tmp}/weft-apt.$$"
}

# ---- build ---------------------------------------------------------------------------------------------------------------

bootstrap() {
	command -v autoreconf >/dev/null || { say "autoreconf is missing: run ./autogen.sh deps first"; exit 1; }
	autoreconf -fi >"${TMPDIR:-/tmp}/weft-autoreconf.$$" 2>&1 || { cat "${TMPDIR:-/tmp}/weft-autoreconf.$$" >&2; exit 1; }
	rm -f "${TMPDIR:-/tmp}/weft-autoreconf.$$"
}
build() {
	if [ ! -x configure ] || [ configure.ac -nt configure ]; then bootstrap; fi
	mkdir -p "$BUILD"
	cd "$BUILD"
	if [ ! -f Makefile ] || [ "$top/configure" -nt config.status ] || [ "$CONFIGURE_FLAGS" != "$(cat .flags 2>/dev/null)" ]; then
		# shellcheck disable=SC2086
		"$top/configure" -q $CONFIGURE_FLAGS
		printf '%s' "$CONFIGURE_FLAGS" >.flags
	fi
	make -s -j"$JOBS"
}

# ---- run -----------------------------------------------------------------------------------------------------------------

run() {
	dir=$(mktemp -d "${TMPDIR:-/tmp}/weft-demo.XXXXXX")
	pid=
	# Stop the daemon and remove its folder however this ends.
	trap 'if [ -n "$pid" ]; then kill "$pid" 2>/dev/null || :; wait "$pid" 2>/dev/null || :; fi; rm -rf "$dir"' EXIT
	trap 'exit 130' INT TERM
	export WEFT_REQUEST="ipc://$dir/request" WEFT_ANSWER="ipc://$dir/answer"
	daemon/weftd --model "$top/tests/demo/model" --plugins plugins/.libs --request "$WEFT_REQUEST" --answer "$WEFT_ANSWER" \
		--state "$dir" 2>"$dir/log" &
	pid=$!
	if ! client/weft --timeout 60 hello >/dev/null; then
		say "weftd did not come up:"
		cat "$dir/log" >&2
		exit 1
	fi
	question=${1:-"What should I wear to a summer wedding?"}
	printf '> %s\n\n' "$question"
	client/weft generate --figures --temperature 0 "$question"
	kill "$pid"
	wait "$pid"
	pid=
}

# `make check`, sooner: tests that share a machine well run beside each other.
check() {
	failed=
	make -s -j"$JOBS" check-side-by-side || failed=1
	make -s check-one-by-one || failed=1
	[ -z "$failed" ]
}

case "${1:-}" in
"") bootstrap; say "Now: ./configure && make && make check && make install" ;;
deps) deps ;;
run) shift; deps; build; run "$@" ;;
check) deps; build; check ;;
*) sed -n '2,6s/^# //p' "$0" >&2; exit 2 ;;
esac
