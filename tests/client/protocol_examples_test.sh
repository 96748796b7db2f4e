#!/bin/sh
# The examples of PROTOCOL.md: their hex is their encoding, and a fresh weftd answers them as the page says. The last one drains it.
. "$top_srcdir/tests/client/lib.sh"

play=$top_builddir/tests/client/play
page=$top_srcdir/client/PROTOCOL.md

"$play" check "$page" || fail "an example's hex is not its encoding"
mkdir "$T/adapters" && cp -R "$top_srcdir/tests/demo/adapters/"* "$T/adapters" && chmod -R u+w "$T/adapters" || exit 99
weftd_start --threads 1 --state "$T/state" --adapters "$T/adapters"
timeout $DEADLINE "$play" live "$page" "$WEFT_REQUEST" "$WEFT_ANSWER" || fail "the server answers otherwise"
wait "$WEFTD_PID" || fail "weftd ended with status $? after drain"
WEFTD_PID=
