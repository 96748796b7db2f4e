# tests of daemon/
include tests/daemon/engine.mk

if CMOCKA
daemon_units = tests/daemon/queue_test tests/daemon/job_test tests/daemon/conf_test tests/daemon/template_test tests/daemon/options_test
check_PROGRAMS += $(daemon_units)
TESTS += $(daemon_units)
endif
daemon_unit_cflags = $(AM_CFLAGS) $(MSGPACK_CFLAGS) $(CMOCKA_CFLAGS)
daemon_unit_ldadd = daemon/libdaemon.la $(CMOCKA_LIBS)
tests_daemon_queue_test_SOURCES = tests/daemon/queue_test.c tests/daemon/unit.h
tests_daemon_queue_test_CFLAGS = $(daemon_unit_cflags)
tests_daemon_queue_test_LDADD = $(daemon_unit_ldadd)
tests_daemon_job_test_SOURCES = tests/daemon/job_test.c tests/daemon/unit.h
tests_daemon_job_test_CFLAGS = $(daemon_unit_cflags)
tests_daemon_job_test_LDADD = $(daemon_unit_ldadd)
tests_daemon_conf_test_SOURCES = tests/daemon/conf_test.c tests/daemon/unit.h
tests_daemon_conf_test_CFLAGS = $(daemon_unit_cflags)
tests_daemon_conf_test_LDADD = $(daemon_unit_ldadd)
tests_daemon_template_test_SOURCES = tests/daemon/template_test.c tests/daemon/unit.h
tests_daemon_template_test_CFLAGS = $(daemon_unit_cflags)
tests_daemon_template_test_LDADD = $(daemon_unit_ldadd)
tests_daemon_options_test_SOURCES = tests/daemon/options_test.c tests/daemon/unit.h
tests_daemon_options_test_CFLAGS = $(daemon_unit_cflags)
tests_daemon_options_test_LDADD = $(daemon_unit_ldadd)

TESTS += tests/daemon/manuals_are_clean.sh
EXTRA_DIST += tests/daemon/manuals_are_clean.sh

# Against the real program, by a foreign client.
daemon_scripts = \
	tests/daemon/jobs_test.py \
	tests/daemon/requests_test.py \
	tests/daemon/stop_test.py \
	tests/daemon/many_jobs_test.py \
	tests/daemon/load_test.py
TESTS += $(daemon_scripts)
EXTRA_DIST += $(daemon_scripts) tests/daemon/peer.py
