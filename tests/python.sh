#!/bin/sh
# Runs a test that is a Python script; without a Python that has zmq and msgpack the test is skipped, and so is one that WEFT_TEST_SKIP names.
if [ "${TEST_PYTHON:-none}" = none ]; then
	echo "SKIP: no Python with zmq and msgpack"
	exit 77
fi
for name in ${WEFT_TEST_SKIP:-}; do
	case $1 in
	*/"$name")
		echo "SKIP: $name is named in WEFT_TEST_SKIP: too slow for this run"
		exit 77
		;;
	esac
done
PYTHONDONTWRITEBYTECODE=1 exec "$TEST_PYTHON" "$@"
