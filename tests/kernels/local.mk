# tests of kernels/
include tests/kernels/format.mk
include tests/kernels/adapter.mk
include tests/kernels/fuse.mk
include tests/kernels/cuda.mk
include tests/kernels/learn.mk

core_tests = \
	tests/kernels/ops_bits \
	tests/kernels/ops_matmul \
	tests/kernels/ops_tiles \
	tests/kernels/ops_rows \
	tests/kernels/ops_attention \
	tests/kernels/core_pool \
	tests/kernels/core_kv \
	tests/kernels/core_prefix \
	tests/kernels/core_p1 \
	tests/kernels/core_kl \
	tests/kernels/core_packed \
	tests/kernels/core_golden \
	tests/kernels/nf4

if CMOCKA
check_PROGRAMS += $(core_tests)
TESTS += $(core_tests)
endif
core_test_cppflags = $(AM_CPPFLAGS) $(CMOCKA_CFLAGS)
EXTRA_DIST += tests/kernels/hard_numbers.h
gguf_model_headers = tests/kernels/gguf_model.h tests/kernels/gguf_spread.h tests/kernels/gguf_build.h tests/kernels/ops_test.h tests/kernels/core_test.h
core_test_ldadd = kernels/libcore.la $(CMOCKA_LIBS) -lm
EXTRA_DIST += tests/kernels/fixtures/golden tests/kernels/fixtures/make_nf4.py tests/kernels/fixtures/nf4

tests_kernels_core_golden_SOURCES = tests/kernels/core_golden.c tests/kernels/core_test.h
tests_kernels_core_golden_CPPFLAGS = $(core_test_cppflags)
tests_kernels_core_golden_LDADD = $(core_test_ldadd)
tests_kernels_nf4_SOURCES = tests/kernels/nf4.c tests/kernels/core_test.h
tests_kernels_nf4_CPPFLAGS = $(core_test_cppflags) $(SODIUM_CFLAGS)
tests_kernels_nf4_LDADD = $(core_test_ldadd) $(SODIUM_LIBS)
tests_kernels_ops_bits_SOURCES = tests/kernels/ops_bits.c tests/kernels/ops_test.h tests/kernels/core_test.h
tests_kernels_ops_bits_CPPFLAGS = $(core_test_cppflags)
tests_kernels_ops_bits_LDADD = $(core_test_ldadd) $(SODIUM_LIBS)
tests_kernels_ops_tiles_SOURCES = tests/kernels/ops_tiles.c tests/kernels/ops_test.h tests/kernels/core_test.h
tests_kernels_ops_tiles_CPPFLAGS = $(core_test_cppflags)
tests_kernels_ops_tiles_LDADD = $(core_test_ldadd)
tests_kernels_ops_matmul_SOURCES = tests/kernels/ops_matmul.c tests/kernels/ops_test.h tests/kernels/core_test.h
tests_kernels_ops_matmul_CPPFLAGS = $(core_test_cppflags)
tests_kernels_ops_matmul_LDADD = $(core_test_ldadd)
tests_kernels_ops_rows_SOURCES = tests/kernels/ops_rows.c tests/kernels/ops_test.h tests/kernels/core_test.h
tests_kernels_ops_rows_CPPFLAGS = $(core_test_cppflags)
tests_kernels_ops_rows_LDADD = $(core_test_ldadd)
tests_kernels_ops_attention_SOURCES = tests/kernels/ops_attention.c tests/kernels/ops_test.h tests/kernels/core_test.h
tests_kernels_ops_attention_CPPFLAGS = $(core_test_cppflags)
tests_kernels_ops_attention_LDADD = $(core_test_ldadd)
tests_kernels_core_pool_SOURCES = tests/kernels/core_pool.c tests/kernels/core_test.h
tests_kernels_core_pool_CPPFLAGS = $(core_test_cppflags)
tests_kernels_core_pool_LDADD = $(core_test_ldadd)
tests_kernels_core_kv_SOURCES = tests/kernels/core_kv.c tests/kernels/core_test.h
tests_kernels_core_kv_CPPFLAGS = $(core_test_cppflags)
tests_kernels_core_kv_LDADD = $(core_test_ldadd)
tests_kernels_core_prefix_SOURCES = tests/kernels/core_prefix.c tests/kernels/adapter_test.h tests/kernels/core_test.h
tests_kernels_core_prefix_CPPFLAGS = $(core_test_cppflags)
tests_kernels_core_prefix_LDADD = $(core_test_ldadd)
tests_kernels_core_p1_SOURCES = tests/kernels/core_p1.c $(gguf_model_headers)
tests_kernels_core_p1_CPPFLAGS = $(core_test_cppflags)
tests_kernels_core_p1_LDADD = $(core_test_ldadd)
tests_kernels_core_kl_SOURCES = tests/kernels/core_kl.c tests/kernels/core_double.h $(gguf_model_headers)
tests_kernels_core_kl_CPPFLAGS = $(core_test_cppflags) $(JANSSON_CFLAGS)
tests_kernels_core_kl_LDADD = $(core_test_ldadd) $(JANSSON_LIBS)
tests_kernels_core_packed_SOURCES = tests/kernels/core_packed.c $(gguf_model_headers)
tests_kernels_core_packed_CPPFLAGS = $(core_test_cppflags) $(SODIUM_CFLAGS)
tests_kernels_core_packed_LDADD = $(core_test_ldadd) $(SODIUM_LIBS)
