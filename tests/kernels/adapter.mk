# tests of adapters and blends
adapter_tests = \
	tests/kernels/adapter_blend \
	tests/kernels/adapter_files \
	tests/kernels/adapter_golden \
	tests/kernels/adapter_p1 \
	tests/kernels/core_shards

if CMOCKA
check_PROGRAMS += $(adapter_tests)
TESTS += $(adapter_tests)
endif
EXTRA_DIST += tests/kernels/fixtures/adapters

adapter_test_headers = tests/kernels/adapter_test.h tests/kernels/core_test.h
tests_kernels_adapter_blend_SOURCES = tests/kernels/adapter_blend.c $(adapter_test_headers)
tests_kernels_adapter_blend_CPPFLAGS = $(core_test_cppflags)
tests_kernels_adapter_blend_LDADD = $(core_test_ldadd)
tests_kernels_adapter_files_SOURCES = tests/kernels/adapter_files.c tests/kernels/gguf_build.h tests/kernels/format_test.h $(adapter_test_headers)
tests_kernels_adapter_files_CPPFLAGS = $(core_test_cppflags)
tests_kernels_adapter_files_LDADD = $(core_test_ldadd)
tests_kernels_adapter_golden_SOURCES = tests/kernels/adapter_golden.c $(adapter_test_headers)
tests_kernels_adapter_golden_CPPFLAGS = $(core_test_cppflags)
tests_kernels_adapter_golden_LDADD = $(core_test_ldadd)
tests_kernels_adapter_p1_SOURCES = tests/kernels/adapter_p1.c $(adapter_test_headers)
tests_kernels_adapter_p1_CPPFLAGS = $(core_test_cppflags)
tests_kernels_adapter_p1_LDADD = $(core_test_ldadd)
tests_kernels_core_shards_SOURCES = tests/kernels/core_shards.c tests/kernels/adapter_test.h $(gguf_model_headers)
tests_kernels_core_shards_CPPFLAGS = $(core_test_cppflags)
tests_kernels_core_shards_LDADD = $(core_test_ldadd)

# The fuzz target, as in format.mk.
check_PROGRAMS += tests/kernels/fuzz/fuzz_adapter_fixed
TESTS += tests/kernels/fuzz/fuzz_adapter_fixed
tests_kernels_fuzz_fuzz_adapter_fixed_SOURCES = tests/kernels/fuzz/fuzz_adapter.c $(fuzz_shared)
tests_kernels_fuzz_fuzz_adapter_fixed_LDADD = kernels/libformat.la
if FUZZERS
noinst_PROGRAMS += tests/kernels/fuzz/fuzz_adapter
tests_kernels_fuzz_fuzz_adapter_SOURCES = tests/kernels/fuzz/fuzz_adapter.c tests/kernels/fuzz/fuzz.h $(format_sources)
tests_kernels_fuzz_fuzz_adapter_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS) $(fuzz_flags)
tests_kernels_fuzz_fuzz_adapter_LDFLAGS = $(fuzz_flags)
tests_kernels_fuzz_fuzz_adapter_LDADD = $(JANSSON_LIBS) -lm
endif
