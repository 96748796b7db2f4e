# tests of daemon/store*: none of them needs a daemon
check_LTLIBRARIES += tests/daemon/libstorekit.la
tests_daemon_libstorekit_la_SOURCES = tests/daemon/store_kit.c tests/daemon/store_kit.h
store_test_ldadd = tests/daemon/libstorekit.la daemon/libstore.la

# The facts: as they stand on SQLite, and by the script on a server of their own.
check_PROGRAMS += tests/daemon/store_conformance
TESTS += tests/daemon/store_conformance tests/daemon/store_postgresql.sh
tests_daemon_store_conformance_SOURCES = tests/daemon/store_conformance.c tests/daemon/store_conformance.h \
	tests/daemon/store_facts_jobs.c tests/daemon/store_facts_holding.c tests/daemon/store_facts_batches.c tests/daemon/store_facts_fleets.c
tests_daemon_store_conformance_CFLAGS = $(AM_CFLAGS) $(PQ_CFLAGS)
tests_daemon_store_conformance_LDADD = $(store_test_ldadd) $(PQ_LIBS)
EXTRA_DIST += tests/daemon/pg_server.sh tests/daemon/store_postgresql.sh
