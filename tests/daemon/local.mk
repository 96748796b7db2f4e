# tests of daemon/
include tests/daemon/engine.mk
include tests/daemon/store.mk

if CMOCKA
daemon_units = tests/daemon/queue_test tests/daemon/job_test tests/daemon/conf_test tests/daemon/template_test tests/daemon/options_test \
	tests/daemon/task_test tests/daemon/bell_test tests/daemon/server_park_test
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
tests_daemon_server_park_test_SOURCES = tests/daemon/server_park_test.c $(engine_kit)
tests_daemon_server_park_test_CPPFLAGS = $(engine_test_cppflags)
tests_daemon_server_park_test_CFLAGS = $(daemon_unit_cflags)
tests_daemon_server_park_test_LDADD = $(daemon_unit_ldadd)
tests_daemon_bell_test_SOURCES = tests/daemon/bell_test.c tests/daemon/unit.h
tests_daemon_bell_test_CFLAGS = $(daemon_unit_cflags)
tests_daemon_bell_test_LDADD = $(daemon_unit_ldadd)
tests_daemon_task_test_SOURCES = tests/daemon/task_test.c tests/daemon/unit.h
tests_daemon_task_test_CFLAGS = $(daemon_unit_cflags)
tests_daemon_task_test_LDADD = $(daemon_unit_ldadd)

TESTS += tests/daemon/manuals_are_clean.sh
EXTRA_DIST += tests/daemon/manuals_are_clean.sh

# Against the real program, by a foreign client.
daemon_scripts = \
	tests/daemon/jobs_test.py \
	tests/daemon/requests_test.py \
	tests/daemon/stop_test.py \
	tests/daemon/cache_test.py \
	tests/daemon/device_test.py \
	tests/daemon/tcp_test.py \
	tests/daemon/many_jobs_test.py \
	tests/daemon/load_test.py \
	tests/daemon/durable_test.py \
	tests/daemon/batch_test.py \
	tests/daemon/trouble_test.py \
	tests/daemon/crash.py \
	tests/daemon/fleet.py \
	tests/daemon/soak.py \
	tests/daemon/adapter_stress.py \
	tests/daemon/adapter_hostile_test.py \
	tests/daemon/metrics_test.py \
	tests/daemon/prefix_test.py \
	tests/daemon/adapter_registry_test.py \
	tests/daemon/fuse_test.py tests/daemon/learn_test.py tests/daemon/check_test.py
TESTS += $(daemon_scripts)
EXTRA_DIST += $(daemon_scripts) tests/daemon/peer.py tests/daemon/durable_kit.py tests/daemon/mixed_load.py tests/daemon/fleet_kit.py tests/daemon/adapter_kit.py tests/daemon/adapter_count.py tests/daemon/journal_cost.py tests/daemon/prefix_cost.py tests/daemon/start_time.py tests/daemon/RESULTS.md

# The fuzz target: always as a fixed run in `make check`, with --enable-fuzzers as a libFuzzer program, too.
check_PROGRAMS += tests/daemon/fuzz_request_fixed
TESTS += tests/daemon/fuzz_request_fixed
tests_daemon_fuzz_request_fixed_SOURCES = tests/daemon/fuzz_request.c
tests_daemon_fuzz_request_fixed_CPPFLAGS = $(AM_CPPFLAGS) -DFUZZ_STANDALONE
tests_daemon_fuzz_request_fixed_CFLAGS = $(AM_CFLAGS) $(MSGPACK_CFLAGS)
tests_daemon_fuzz_request_fixed_LDADD = daemon/libdaemon.la
if FUZZERS
noinst_PROGRAMS += tests/daemon/fuzz_request
tests_daemon_fuzz_request_SOURCES = tests/daemon/fuzz_request.c
tests_daemon_fuzz_request_CFLAGS = $(AM_CFLAGS) $(MSGPACK_CFLAGS) -fsanitize=fuzzer,address,undefined
tests_daemon_fuzz_request_LDFLAGS = -fsanitize=fuzzer,address,undefined
tests_daemon_fuzz_request_LDADD = daemon/libdaemon.la
endif

# Durable jobs, with a sampler that kills the process: in a folder of its own, as other tests load all that lies in theirs.
check_LTLIBRARIES += tests/daemon/poison/poison.la
tests_daemon_poison_poison_la_SOURCES = tests/daemon/poison.c
tests_daemon_poison_poison_la_LDFLAGS = $(engine_module_flags)

# What is preloaded into weftd: it dies in the middle of a call; its wall clock jumps.
check_LTLIBRARIES += tests/daemon/crash_point.la
tests_daemon_crash_point_la_SOURCES = tests/daemon/crash_point.c
tests_daemon_crash_point_la_LDFLAGS = -module -avoid-version -shared -no-undefined -rpath /nowhere
tests_daemon_crash_point_la_LIBADD = -ldl
check_LTLIBRARIES += tests/daemon/clock_jump.la
tests_daemon_clock_jump_la_SOURCES = tests/daemon/clock_jump.c
tests_daemon_clock_jump_la_LDFLAGS = -module -avoid-version -shared -no-undefined -rpath /nowhere
tests_daemon_clock_jump_la_LIBADD = -ldl
if POSTGRESQL
TESTS += tests/daemon/fleet_test.sh
endif
EXTRA_DIST += tests/daemon/fleet_test.sh tests/daemon/fleet_test.py
