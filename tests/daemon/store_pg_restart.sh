#!/bin/sh
# store_pg_restart.sh [ROUNDS]: a PostgreSQL server that crashes again and again under a store; and connections that are cut in the middle of a commit.
set -u
. "$top_srcdir/tests/daemon/pg_server.sh"
grep -q '^#define HAVE_POSTGRESQL 1' "$top_builddir/config.h" || { echo "skipped: built without PostgreSQL"; exit 77; }
pg_start
cat >"$PG_DIR/crash" <<EOF
PG_DIR='$PG_DIR' PG_BIN='$PG_BIN' PG_USER='$PG_USER'
. '$top_srcdir/tests/daemon/pg_server.sh'
pg_as "$PG_BIN/pg_ctl" -D "$PG_DIR/data" -m immediate -w stop >/dev/null && pg_up
EOF
"$top_builddir/tests/daemon/store_cut" "$PG_DIR/.s.PGSQL.5432" postgresql://weft@/weft &&
	"$top_builddir/tests/daemon/store_restart" "$PG_URL" "${1:-3}" "sh $PG_DIR/crash" || { echo "--- the server's log"; tail -n 40 "$PG_DIR/log"; exit 1; }
