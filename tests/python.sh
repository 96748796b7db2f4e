#!/bin/sh
# Runs a test that is a Python script; without a Python that has zmq and msgpack the test is skipped.
if [ "${TEST_PYTHON:-none}" = none ]; then
	echo "SKIP: no Python with zmq and msgpack"
	exit 77
fi
PYTHONDONTWRITEBYTECODE=1 exec "$TEST_PYTHON" "$@"
