#!/bin/sh
# The facts about the store, and its plans, on a real PostgreSQL server; a role without special rights is enough.
set -u
. "$top_srcdir/tests/daemon/pg_server.sh"
grep -q '^#define HAVE_POSTGRESQL 1' "$top_builddir/config.h" || { echo "skipped: built without PostgreSQL"; exit 77; }
pg_start
"$top_builddir/tests/daemon/store_conformance" "$PG_URL" "$@" && "$top_builddir/tests/daemon/store_plan_test" "$PG_URL" || { echo "--- the server's log"; tail -n 40 "$PG_DIR/log"; exit 1; }
