# tests of the engine and of the plugin host
engine_tests = \
	tests/daemon/engine_batch_test \
	tests/daemon/engine_checkpoint_test \
	tests/daemon/chain_test \
	tests/daemon/draw_test \
	tests/daemon/engine_end_test \
	tests/daemon/plugin_test \
	tests/daemon/chain_logits_test \
	tests/daemon/chain_philox_test \
	tests/daemon/engine_same_bytes_test \
	tests/daemon/engine_prefix_test \
	tests/daemon/engine_crooked_test
engine_modules = \
	tests/daemon/plugin_variant.la \
	tests/daemon/engine_crooked.la \
	tests/daemon/engine_crooked_saver.la \
	tests/daemon/engine_loud.la \
	tests/daemon/engine_no_repeat_last.la \
	tests/daemon/engine_still.la \
	tests/daemon/engine_crooked_sampler.la \
	tests/daemon/engine_crooked_aside.la

if CMOCKA
check_PROGRAMS += $(engine_tests)
check_LTLIBRARIES += $(engine_modules)
TESTS += $(engine_tests)
endif

engine_test_cppflags = $(AM_CPPFLAGS) $(CMOCKA_CFLAGS)
engine_test_ldadd = daemon/libengine.la $(CMOCKA_LIBS)
engine_kit = tests/daemon/engine_kit.c tests/daemon/engine_kit.h
# -rpath: libtool builds a module that can be opened only when it has one; it is never installed
engine_module_flags = -module -avoid-version -shared -no-undefined -rpath /nowhere -export-symbols-regex '^weft_plugin$$'

tests_daemon_engine_same_bytes_test_SOURCES = tests/daemon/engine_same_bytes_test.c $(engine_kit)
tests_daemon_engine_same_bytes_test_CPPFLAGS = $(engine_test_cppflags)
tests_daemon_engine_same_bytes_test_LDADD = $(engine_test_ldadd) -lm

tests_daemon_engine_prefix_test_SOURCES = tests/daemon/engine_prefix_test.c $(engine_kit)
tests_daemon_engine_prefix_test_CPPFLAGS = $(engine_test_cppflags)
tests_daemon_engine_prefix_test_LDADD = $(engine_test_ldadd)

tests_daemon_engine_checkpoint_test_SOURCES = tests/daemon/engine_checkpoint_test.c $(engine_kit)
tests_daemon_engine_checkpoint_test_CPPFLAGS = $(engine_test_cppflags)
tests_daemon_engine_checkpoint_test_LDADD = $(engine_test_ldadd)

tests_daemon_engine_crooked_test_SOURCES = tests/daemon/engine_crooked_test.c $(engine_kit)
tests_daemon_engine_crooked_test_CPPFLAGS = $(engine_test_cppflags)
tests_daemon_engine_crooked_test_LDADD = $(engine_test_ldadd)
tests_daemon_engine_crooked_la_SOURCES = tests/daemon/engine_crooked.c
tests_daemon_engine_crooked_la_LDFLAGS = $(engine_module_flags)
tests_daemon_engine_crooked_saver_la_SOURCES = tests/daemon/engine_crooked.c
tests_daemon_engine_crooked_saver_la_CPPFLAGS = $(AM_CPPFLAGS) -DCROOKED_SAVES
tests_daemon_engine_crooked_saver_la_LDFLAGS = $(engine_module_flags)
# the tutorial's plugins
tests_daemon_engine_loud_la_SOURCES = tests/daemon/engine_loud.c
tests_daemon_engine_loud_la_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/plugins
tests_daemon_engine_loud_la_LDFLAGS = $(engine_module_flags)
tests_daemon_engine_no_repeat_last_la_SOURCES = tests/daemon/engine_no_repeat_last.c
tests_daemon_engine_no_repeat_last_la_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/plugins
tests_daemon_engine_no_repeat_last_la_LDFLAGS = $(engine_module_flags)
tests_daemon_engine_still_la_SOURCES = tests/daemon/engine_still.c
tests_daemon_engine_still_la_LDFLAGS = $(engine_module_flags)
tests_daemon_engine_crooked_aside_la_SOURCES = tests/daemon/engine_crooked_sampler.c
tests_daemon_engine_crooked_aside_la_CPPFLAGS = $(AM_CPPFLAGS) -DCROOKED_ASIDE
tests_daemon_engine_crooked_aside_la_LDFLAGS = $(engine_module_flags)

tests_daemon_engine_crooked_sampler_la_SOURCES = tests/daemon/engine_crooked_sampler.c
tests_daemon_engine_crooked_sampler_la_LDFLAGS = $(engine_module_flags)

tests_daemon_chain_logits_test_SOURCES = tests/daemon/chain_logits_test.c
tests_daemon_chain_logits_test_CPPFLAGS = $(engine_test_cppflags)
tests_daemon_chain_logits_test_LDADD = $(engine_test_ldadd) -lm

tests_daemon_chain_philox_test_SOURCES = tests/daemon/chain_philox_test.c
tests_daemon_chain_philox_test_CPPFLAGS = $(engine_test_cppflags)
tests_daemon_chain_philox_test_LDADD = $(engine_test_ldadd) -lm

tests_daemon_plugin_test_SOURCES = tests/daemon/plugin_test.c
tests_daemon_plugin_test_CPPFLAGS = $(engine_test_cppflags)
tests_daemon_plugin_test_LDADD = $(engine_test_ldadd)
tests_daemon_plugin_variant_la_SOURCES = tests/daemon/plugin_variant.c
tests_daemon_plugin_variant_la_LDFLAGS = -module -avoid-version -shared -no-undefined -rpath /nowhere

tests_daemon_chain_test_SOURCES = tests/daemon/chain_test.c $(engine_kit)
tests_daemon_chain_test_CPPFLAGS = $(engine_test_cppflags)
tests_daemon_chain_test_LDADD = $(engine_test_ldadd) -lm

tests_daemon_draw_test_SOURCES = tests/daemon/draw_test.c tests/daemon/draw_device.cc tests/daemon/draw_device.h $(engine_kit)
tests_daemon_draw_test_CPPFLAGS = $(engine_test_cppflags)
tests_daemon_draw_test_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=core_want_token
tests_daemon_draw_test_LDADD = kernels/libcudahost.la $(engine_test_ldadd) -lm

tests_daemon_engine_end_test_SOURCES = tests/daemon/engine_end_test.c $(engine_kit)
tests_daemon_engine_end_test_CPPFLAGS = $(engine_test_cppflags)
tests_daemon_engine_end_test_LDADD = $(engine_test_ldadd) -lm

tests_daemon_engine_batch_test_SOURCES = tests/daemon/engine_batch_test.c $(engine_kit)
tests_daemon_engine_batch_test_CPPFLAGS = $(engine_test_cppflags)
tests_daemon_engine_batch_test_LDADD = $(engine_test_ldadd)

# The fuzz target: always as a fixed run in `make check`, with --enable-fuzzers as a libFuzzer program, too.
check_PROGRAMS += tests/daemon/fuzz_checkpoint_fixed
TESTS += tests/daemon/fuzz_checkpoint_fixed
tests_daemon_fuzz_checkpoint_fixed_SOURCES = tests/daemon/fuzz_checkpoint.c
tests_daemon_fuzz_checkpoint_fixed_CPPFLAGS = $(AM_CPPFLAGS) -DFUZZ_STANDALONE $(SODIUM_CFLAGS)
tests_daemon_fuzz_checkpoint_fixed_LDADD = daemon/libengine.la $(SODIUM_LIBS)
if FUZZERS
noinst_PROGRAMS += tests/daemon/fuzz_checkpoint
tests_daemon_fuzz_checkpoint_SOURCES = tests/daemon/fuzz_checkpoint.c
tests_daemon_fuzz_checkpoint_CPPFLAGS = $(AM_CPPFLAGS) $(SODIUM_CFLAGS)
tests_daemon_fuzz_checkpoint_CFLAGS = $(AM_CFLAGS) -fsanitize=fuzzer,address,undefined
tests_daemon_fuzz_checkpoint_LDFLAGS = -fsanitize=fuzzer,address,undefined
tests_daemon_fuzz_checkpoint_LDADD = daemon/libengine.la $(SODIUM_LIBS)
endif
