#!/bin/sh
# store_bench.sh [ARGS]: store_bench on SQLite, and on PostgreSQL where there is a server to start; both on the disk of TMPDIR.
set -eu
bench=$top_builddir/tests/bench/store_bench
dir=$(mktemp -d "${TMPDIR:-/tmp}/weft-bench.XXXXXX")
trap 'rm -rf "$dir"' EXIT
"$bench" "$@" "$dir"
rm -rf "$dir"
. "$top_srcdir/tests/daemon/pg_server.sh"
grep -q '^#define HAVE_POSTGRESQL 1' "$top_builddir/config.h" || exit 0
pg_start
mkdir "$PG_DIR/limit"
"$bench" "$@" "$PG_DIR/limit" "$PG_URL"
