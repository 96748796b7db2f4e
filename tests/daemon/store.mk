# tests of daemon/store*: none of them needs a daemon
check_LTLIBRARIES += tests/daemon/libstorekit.la
tests_daemon_libstorekit_la_SOURCES = tests/daemon/store_kit.c tests/daemon/store_kit.h

store_tests = tests/daemon/store_conformance
check_PROGRAMS += $(store_tests)
TESTS += $(store_tests)
tests_daemon_store_conformance_SOURCES = tests/daemon/store_conformance.c tests/daemon/store_conformance.h tests/daemon/store_conformance_main.c
tests_daemon_store_conformance_LDADD = tests/daemon/libstorekit.la daemon/libstore.la
