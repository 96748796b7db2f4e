#!/bin/sh
# libweft.so exports exactly what weft.h declares.
library=$top_builddir/client/.libs/libweft.so
[ -f "$library" ] || { echo "SKIP: no shared library"; exit 77; }
command -v nm >/dev/null || { echo "SKIP: no nm"; exit 77; }
T=$(mktemp -d) || exit 99
trap 'rm -rf "$T"' EXIT
nm -D --defined-only "$library" | sed 's/.* //' | grep -v '^_' | sort >"$T/exported"
sed -n 's/^WEFT_API.*[ *]\(weft_[a-z_]*\)(.*/\1/p' "$top_srcdir/client/weft.h" | sort >"$T/declared"
[ -s "$T/declared" ] || { echo "weft.h declares nothing"; exit 1; }
diff "$T/declared" "$T/exported" || { echo "< declared in weft.h, > exported by libweft"; exit 1; }
