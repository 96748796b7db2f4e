#!/bin/sh
# The manuals of the daemon are mdoc without a warning.
[ "${MANDOC:-none}" != none ] || { echo "SKIP: no mandoc"; exit 77; }
said=$("$MANDOC" -Tlint -Wwarning "$top_srcdir/daemon/weftd.8" "$top_srcdir/daemon/weftd.conf.5" 2>&1)
[ -z "$said" ] || { echo "$said"; exit 1; }
