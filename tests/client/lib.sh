# lib.sh: for test scripts: a weftd of one's own on private endpoints, and a few checks. Source it: . "$top_srcdir/tests/client/lib.sh"
#
#   weftd_start [weftd's arguments]   starts it and waits until it answers; sets WEFT_REQUEST and WEFT_ANSWER (exported) and WEFTD_PID
#   weftd_stop                        SIGTERM, and exit status 0 is demanded
#   weft ...                          the client of the build folder
#   fail TEXT                         ends the test; the daemon's log is shown
#   skip TEXT                         ends the test as skipped
#   $T                                the test's own temporary folder, removed at the end
# Everything has a deadline. Nothing sleeps.

T=$(mktemp -d /tmp/weft-XXXXXX) || exit 99	# short: a socket path holds 107 bytes
WEFTD_PID=
DEADLINE=$((120 * ${WEFT_TEST_PATIENCE:-1}))

weft() {
	"$top_builddir/client/weft" "$@"
}

fail() {
	echo "FAIL: $*" >&2
	if [ -f "$T/weftd.log" ]; then
		echo "---- log of weftd ----" >&2
		cat "$T/weftd.log" >&2
	fi
	exit 1
}

skip() {
	echo "SKIP: $*"
	exit 77
}

cleanup() {
	status=$?
	trap - EXIT
	if [ -n "$WEFTD_PID" ]; then
		kill -KILL "$WEFTD_PID" 2>/dev/null
		wait "$WEFTD_PID" 2>/dev/null
	fi
	rm -rf "$T"
	exit $status
}
trap cleanup EXIT
trap 'exit 1' INT TERM HUP

weftd_start() {
	WEFT_REQUEST=ipc://$T/request
	WEFT_ANSWER=ipc://$T/answer
	export WEFT_REQUEST WEFT_ANSWER
	"$top_builddir/daemon/weftd" --model "$top_srcdir/tests/demo/model" --request "$WEFT_REQUEST" --answer "$WEFT_ANSWER" \
		--plugins "$top_builddir/plugins/.libs" "$@" >"$T/weftd.log" 2>&1 </dev/null &
	WEFTD_PID=$!
	end=$(($(date +%s) + DEADLINE))
	until weft --timeout 1 hello >/dev/null 2>&1; do
		kill -0 "$WEFTD_PID" 2>/dev/null || fail "weftd ended at its start"
		[ "$(date +%s)" -lt $end ] || fail "weftd is not ready in time"
	done
}

weftd_stop() {
	kill -TERM "$WEFTD_PID" || fail "weftd is gone"
	(trap 'kill $nap; exit' TERM; sleep $DEADLINE & nap=$!; wait $nap; kill -KILL "$WEFTD_PID") >/dev/null 2>&1 &	# the deadline
	guard=$!
	wait "$WEFTD_PID"
	status=$?
	WEFTD_PID=
	kill $guard 2>/dev/null
	[ $status -eq 0 ] || fail "weftd ended with status $status after SIGTERM"
}
