#!/bin/sh
# tests/gpu/run with programs that only pretend: what it says and returns when all passes, something fails, takes too long, finds no device.
set -u
run=$top_srcdir/tests/gpu/run
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/made/gpu/lib" "$work/bin" || exit 1
bad=0

# program NAME LINES: a script in the place of a device program
program() {
	printf '#!/bin/sh\n%s\n' "$2" >"$work/made/gpu/$1" && chmod +x "$work/made/gpu/$1"
}

all_pass() {
	program cuda_ops 'exit 0'
	program cuda_core '[ -n "$WEFT_CUDA_MODULE" ]'
	program generate 'echo the same bytes >"$2"'
	program bench 'echo a device; [ $# -gt 0 ] || echo the bench'
}

# expect RC WORDS...: runs it in another folder, with a relative path
expect() {
	want=$1; shift
	said=$(cd "$work" && PATH="$work/bin:$PATH" SECONDS_ALL="${all:-60}" sh "$run" made 2>&1)
	rc=$?
	[ $rc -eq "$want" ] || { echo "FAIL: returned $rc, expected $want"; bad=1; }
	for w in "$@"; do
		printf '%s\n' "$said" | grep -q -e "$w" || { echo "FAIL: nothing like '$w'"; bad=1; }
	done
	[ $bad -eq 0 ] || { printf '%s\n' "$said"; exit 1; }
}

top_srcdir=$(cd "$top_srcdir" && pwd)
run=$top_srcdir/tests/gpu/run
printf '#!/bin/sh\nshift 4\nexec "$@"\n' >"$work/bin/compute-sanitizer"
printf '#!/bin/sh\necho statically linked\n' >"$work/bin/ldd"
chmod +x "$work/bin/compute-sanitizer" "$work/bin/ldd"

all_pass
expect 0 'the bench' '^operators_and_M_1_to_256 *pass' '^core *pass' '^same_bytes *pass' '^memcheck_core *pass' '^racecheck_operators *pass'
program cuda_core 'echo reason; exit 3'
expect 1 '^core *FAIL (3)' reason '^bench *pass'
all_pass
program generate 'echo $$ >"$2"'
expect 1 '^same_bytes *FAIL'
all_pass
all=4 expect 1 '^core *FAIL: no time left' # nothing runs past the end
program bench 'exit 77'
expect 77 'no GPU'
all_pass
printf '#!/bin/sh\necho "libx.so.1 => not found"\n' >"$work/bin/ldd"
expect 1 'libx.so.1 => not found' 'no newer than this one'
rm -rf "$work/made/gpu"
expect 1 "tests/gpu/run pack"
echo "PASS"
