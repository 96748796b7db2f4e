# tests of plugins/
plugin_tests = \
	tests/plugins/truncation \
	tests/plugins/history \
	tests/plugins/contract

if CMOCKA
check_PROGRAMS += $(plugin_tests)
TESTS += $(plugin_tests)
endif
EXTRA_DIST += tests/plugins/vectors.py

plugin_test_cppflags = $(AM_CPPFLAGS) $(CMOCKA_CFLAGS)
plugin_test_host = tests/plugins/fakehost.c tests/plugins/fakehost.h
plugin_test_ldadd = $(CMOCKA_LIBS) -lm

tests_plugins_truncation_SOURCES = tests/plugins/truncation.c tests/plugins/samplers.h tests/plugins/vectors.h $(plugin_test_host)
tests_plugins_truncation_CPPFLAGS = $(plugin_test_cppflags)
tests_plugins_truncation_LDADD = $(plugin_test_ldadd)
tests_plugins_history_SOURCES = tests/plugins/history.c tests/plugins/samplers.h tests/plugins/vectors.h $(plugin_test_host)
tests_plugins_history_CPPFLAGS = $(plugin_test_cppflags)
tests_plugins_history_LDADD = $(plugin_test_ldadd)
tests_plugins_contract_SOURCES = tests/plugins/contract.c tests/plugins/samplers.h $(plugin_test_host)
tests_plugins_contract_CPPFLAGS = $(plugin_test_cppflags)
tests_plugins_contract_LDADD = $(plugin_test_ldadd)
