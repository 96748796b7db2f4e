# tests of daemon/store*: none of them needs a daemon
check_LTLIBRARIES += tests/daemon/libstorekit.la
tests_daemon_libstorekit_la_SOURCES = tests/daemon/store_kit.c tests/daemon/store_kit.h tests/daemon/store_history.c tests/daemon/store_history.h
store_test_cflags = $(AM_CFLAGS) $(SQLITE_CFLAGS) $(PQ_CFLAGS)
store_test_ldadd = tests/daemon/libstorekit.la daemon/libstore.la $(SQLITE_LIBS) $(PQ_LIBS)

# store_conformance, store_plan_test: as they stand on SQLite, and by the scripts on a server of their own.
# store_power [ROUNDS [SEED]], store_kill [KILLS [SEED]]: as many as one likes; few of them here.
store_programs = \
	tests/daemon/store_conformance \
	tests/daemon/store_plan_test \
	tests/daemon/store_sqlite_test \
	tests/daemon/store_power \
	tests/daemon/store_kill
store_scripts = \
	tests/daemon/store_postgresql.sh \
	tests/daemon/store_pg_restart.sh
check_PROGRAMS += $(store_programs) tests/daemon/store_restart tests/daemon/store_cut
TESTS += $(store_programs) $(store_scripts)
EXTRA_DIST += $(store_scripts) tests/daemon/pg_server.sh

tests_daemon_store_conformance_SOURCES = tests/daemon/store_conformance.c tests/daemon/store_conformance.h \
	tests/daemon/store_facts_jobs.c tests/daemon/store_facts_holding.c tests/daemon/store_facts_batches.c tests/daemon/store_facts_fleets.c
tests_daemon_store_conformance_CFLAGS = $(store_test_cflags)
tests_daemon_store_conformance_LDADD = $(store_test_ldadd)
tests_daemon_store_plan_test_SOURCES = tests/daemon/store_plan_test.c
tests_daemon_store_plan_test_CFLAGS = $(store_test_cflags)
tests_daemon_store_plan_test_LDADD = $(store_test_ldadd)
tests_daemon_store_sqlite_test_SOURCES = tests/daemon/store_sqlite_test.c
tests_daemon_store_sqlite_test_CFLAGS = $(store_test_cflags)
tests_daemon_store_sqlite_test_LDADD = $(store_test_ldadd)
tests_daemon_store_power_SOURCES = tests/daemon/store_power.c tests/daemon/store_vfs.c tests/daemon/store_vfs.h
tests_daemon_store_power_CFLAGS = $(store_test_cflags)
tests_daemon_store_power_LDADD = $(store_test_ldadd)
tests_daemon_store_kill_SOURCES = tests/daemon/store_kill.c
tests_daemon_store_kill_CFLAGS = $(store_test_cflags)
tests_daemon_store_kill_LDADD = $(store_test_ldadd)
tests_daemon_store_restart_SOURCES = tests/daemon/store_restart.c
tests_daemon_store_restart_LDADD = $(store_test_ldadd)
tests_daemon_store_cut_SOURCES = tests/daemon/store_cut.c
tests_daemon_store_cut_LDADD = $(store_test_ldadd)
