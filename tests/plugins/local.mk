# tests of plugins/
plugin_tests = \
	tests/plugins/truncation \
	tests/plugins/history \
	tests/plugins/contract \
	tests/plugins/sample \
	tests/plugins/score

if CMOCKA
check_PROGRAMS += $(plugin_tests)
TESTS += $(plugin_tests)
check_PROGRAMS += tests/plugins/example	# run by tutorial.sh
endif
plugin_scripts = tests/plugins/abi.sh tests/plugins/tutorial.sh
TESTS += $(plugin_scripts)
EXTRA_DIST += $(plugin_scripts) tests/plugins/vectors.py tests/plugins/example/no_repeat_last.c tests/plugins/example/loud.c

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
tests_plugins_sample_SOURCES = tests/plugins/sample.c tests/plugins/decoders.h $(plugin_test_host)
tests_plugins_sample_CPPFLAGS = $(plugin_test_cppflags)
tests_plugins_sample_LDADD = $(plugin_test_ldadd)
tests_plugins_score_SOURCES = tests/plugins/score.c tests/plugins/decoders.h $(plugin_test_host)
tests_plugins_score_CPPFLAGS = $(plugin_test_cppflags)
tests_plugins_score_LDADD = $(plugin_test_ldadd)
tests_plugins_example_SOURCES = tests/plugins/example.c tests/plugins/decoders.h $(plugin_test_host)
tests_plugins_example_CPPFLAGS = $(plugin_test_cppflags)
tests_plugins_example_LDADD = $(plugin_test_ldadd)
