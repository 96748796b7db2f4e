# tests of client/
EXTRA_DIST += tests/client/weftd.py tests/client/lib.sh
