#!/bin/sh
# A C program with weft.h and nothing else gets the same answer from a real weftd as `weft generate` does.
. "$top_srcdir/tests/client/lib.sh"

question="Which fabric keeps warm?"
weftd_start --threads 1
timeout $DEADLINE "$top_builddir/tests/client/ask" "$question" >"$T/text" 2>"$T/figures" || fail "$(cat "$T/figures")"
weft generate --max-tokens 20 --temperature 0 "$question" >"$T/want" || fail "weft generate"
cmp "$T/text" "$T/want" || fail "the answers differ"
grep -q '^done: [a-z_]*, 1 choice, [0-9]* tokens$' "$T/figures" || fail "the figures are $(cat "$T/figures")"
weftd_stop
timeout $DEADLINE "$top_builddir/tests/client/ask" 2>/dev/null
[ $? -eq 2 ] || fail "usage"
