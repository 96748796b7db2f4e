# tests of the engine and of the plugin host
engine_tests = \
	tests/daemon/engine_same_bytes_test

if CMOCKA
check_PROGRAMS += $(engine_tests)
TESTS += $(engine_tests)
endif

engine_test_cppflags = $(AM_CPPFLAGS) $(CMOCKA_CFLAGS)
engine_test_ldadd = daemon/libengine.la $(CMOCKA_LIBS)
engine_kit = tests/daemon/engine_kit.c tests/daemon/engine_kit.h

tests_daemon_engine_same_bytes_test_SOURCES = tests/daemon/engine_same_bytes_test.c $(engine_kit)
tests_daemon_engine_same_bytes_test_CPPFLAGS = $(engine_test_cppflags)
tests_daemon_engine_same_bytes_test_LDADD = $(engine_test_ldadd)
