#!/bin/sh
# fleet_test.py over a PostgreSQL of its own.
[ "${TEST_PYTHON:-none}" != none ] || { echo "SKIP: no Python with zmq and msgpack"; exit 77; }
. "$top_srcdir/tests/daemon/pg_server.sh"
pg_start
export PG_URL PG_BIN
PYTHONDONTWRITEBYTECODE=1 "$TEST_PYTHON" "$top_srcdir/tests/daemon/fleet_test.py"
