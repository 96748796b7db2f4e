#!/bin/sh
# store_pg_restart.sh [ROUNDS]: a PostgreSQL server that crashes again and again under a store; and connections that are cut in the middle of a commit,
# one of them by a crash after which the transaction's number is another's.
set -u
. "$top_srcdir/tests/daemon/pg_server.sh"
grep -q '^#define HAVE_POSTGRESQL 1' "$top_builddir/config.h" || { echo "skipped: built without PostgreSQL"; exit 77; }
pg_start
# What is not committed stays unwritten: the server does not write ahead by itself, and nobody else takes numbers.
for setting in "wal_writer_delay TO '10s'" "bgwriter_delay TO '10s'" "autovacuum TO off"; do
	pg_sql postgres "ALTER SYSTEM SET $setting" || exit 1
done
pg_sql postgres "SELECT pg_reload_conf()" >/dev/null
cat >"$PG_DIR/crash" <<EOF
PG_DIR='$PG_DIR' PG_BIN='$PG_BIN' PG_USER='$PG_USER'
. '$top_srcdir/tests/daemon/pg_server.sh'
crash() { pg_as "$PG_BIN/pg_ctl" -D "$PG_DIR/data" -m immediate -w stop >/dev/null && pg_up; }
EOF
# Other transactions follow up to the number of the store's that was under way. 3: the server had written it down, and does not give it again.
cat >"$PG_DIR/crash_in_commit" <<EOF
. '$PG_DIR/crash'
n=\$(pg_sql weft "SELECT backend_xid FROM pg_stat_activity WHERE usename = 'weft' AND backend_xid IS NOT NULL")
[ "\$n" ] && crash || exit 1
last=0
while [ "\$last" -lt "\$n" ]; do
	last=\$(pg_sql weft "SELECT txid_current()") || exit 1
done
[ "\$last" = "\$n" ] || exit 3
EOF
"$top_builddir/tests/daemon/store_cut" "$PG_DIR/.s.PGSQL.5432" postgresql://weft@/weft "sh $PG_DIR/crash_in_commit" &&
	"$top_builddir/tests/daemon/store_restart" "$PG_URL" "${1:-3}" ". $PG_DIR/crash; crash" || { echo "--- the server's log"; tail -n 40 "$PG_DIR/log"; exit 1; }
