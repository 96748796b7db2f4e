# tests of kernels/format and the tokenizer
format_tests = \
	tests/kernels/format_blocks \
	tests/kernels/format_config \
	tests/kernels/format_containers \
	tests/kernels/format_damage \
	tests/kernels/format_gguf \
	tests/kernels/format_zip \
	tests/kernels/tokenizer_demo \
	tests/kernels/tokenizer_llama2 \
	tests/kernels/tokenizer_vocab

if CMOCKA
check_PROGRAMS += $(format_tests)
TESTS += $(format_tests)
endif
EXTRA_DIST += tests/kernels/fixtures/make_format.py tests/kernels/fixtures/format

tokenizer_test_headers = tests/kernels/format_test.h tests/kernels/tokenizer_test.h
format_test_cppflags = $(AM_CPPFLAGS) $(CMOCKA_CFLAGS)
format_test_ldadd = kernels/libformat.la $(CMOCKA_LIBS) -lm

tests_kernels_format_blocks_SOURCES = tests/kernels/format_blocks.c tests/kernels/format_test.h
tests_kernels_format_blocks_CPPFLAGS = $(format_test_cppflags)
tests_kernels_format_blocks_LDADD = $(format_test_ldadd)

tests_kernels_format_config_SOURCES = tests/kernels/format_config.c tests/kernels/format_test.h
tests_kernels_format_config_CPPFLAGS = $(format_test_cppflags)
tests_kernels_format_config_LDADD = $(format_test_ldadd)

tests_kernels_format_containers_SOURCES = tests/kernels/format_containers.c tests/kernels/format_test.h
tests_kernels_format_containers_CPPFLAGS = $(format_test_cppflags)
tests_kernels_format_containers_LDADD = $(format_test_ldadd)

tests_kernels_format_damage_SOURCES = tests/kernels/format_damage.c tests/kernels/format_test.h
tests_kernels_format_damage_CPPFLAGS = $(format_test_cppflags)
tests_kernels_format_damage_LDADD = $(format_test_ldadd)

tests_kernels_format_gguf_SOURCES = tests/kernels/format_gguf.c tests/kernels/format_test.h tests/kernels/gguf_build.h
tests_kernels_format_gguf_CPPFLAGS = $(format_test_cppflags)
tests_kernels_format_gguf_LDADD = $(format_test_ldadd)

tests_kernels_format_zip_SOURCES = tests/kernels/format_zip.c tests/kernels/format_test.h
tests_kernels_format_zip_CPPFLAGS = $(format_test_cppflags)
tests_kernels_format_zip_LDADD = $(format_test_ldadd)

tests_kernels_tokenizer_demo_SOURCES = tests/kernels/tokenizer_demo.c $(tokenizer_test_headers)
tests_kernels_tokenizer_demo_CPPFLAGS = $(format_test_cppflags)
tests_kernels_tokenizer_demo_LDADD = $(format_test_ldadd)

tests_kernels_tokenizer_llama2_SOURCES = tests/kernels/tokenizer_llama2.c $(tokenizer_test_headers)
tests_kernels_tokenizer_llama2_CPPFLAGS = $(format_test_cppflags)
tests_kernels_tokenizer_llama2_LDADD = $(format_test_ldadd)

tests_kernels_tokenizer_vocab_SOURCES = tests/kernels/tokenizer_vocab.c tests/kernels/gguf_build.h $(tokenizer_test_headers)
tests_kernels_tokenizer_vocab_CPPFLAGS = $(format_test_cppflags)
tests_kernels_tokenizer_vocab_LDADD = $(format_test_ldadd)

# The fuzz targets: always as a fixed run over fuzz/corpus/NAME in `make check`; with --enable-fuzzers as libFuzzer programs, too
# (tests/kernels/fuzz/fuzz_NAME -malloc_limit_mb=64 tests/kernels/fuzz/corpus/NAME).
EXTRA_DIST += tests/kernels/fuzz/corpus
fuzz_fixed = \
	tests/kernels/fuzz/fuzz_config_fixed \
	tests/kernels/fuzz/fuzz_gguf_fixed \
	tests/kernels/fuzz/fuzz_pickle_fixed \
	tests/kernels/fuzz/fuzz_safetensors_fixed \
	tests/kernels/fuzz/fuzz_vocab_fixed
check_PROGRAMS += $(fuzz_fixed)
TESTS += $(fuzz_fixed)
fuzz_shared = tests/kernels/fuzz/fuzz.h tests/kernels/fuzz/standalone.c
tests_kernels_fuzz_fuzz_config_fixed_SOURCES = tests/kernels/fuzz/fuzz_config.c $(fuzz_shared)
tests_kernels_fuzz_fuzz_config_fixed_LDADD = kernels/libformat.la
tests_kernels_fuzz_fuzz_gguf_fixed_SOURCES = tests/kernels/fuzz/fuzz_gguf.c $(fuzz_shared)
tests_kernels_fuzz_fuzz_gguf_fixed_LDADD = kernels/libformat.la
tests_kernels_fuzz_fuzz_pickle_fixed_SOURCES = tests/kernels/fuzz/fuzz_pickle.c $(fuzz_shared)
tests_kernels_fuzz_fuzz_pickle_fixed_LDADD = kernels/libformat.la
tests_kernels_fuzz_fuzz_safetensors_fixed_SOURCES = tests/kernels/fuzz/fuzz_safetensors.c $(fuzz_shared)
tests_kernels_fuzz_fuzz_safetensors_fixed_LDADD = kernels/libformat.la
tests_kernels_fuzz_fuzz_vocab_fixed_SOURCES = tests/kernels/fuzz/fuzz_vocab.c $(fuzz_shared)
tests_kernels_fuzz_fuzz_vocab_fixed_LDADD = kernels/libformat.la

if FUZZERS
fuzz_flags = -fsanitize=fuzzer,address,undefined
noinst_PROGRAMS += \
	tests/kernels/fuzz/fuzz_config \
	tests/kernels/fuzz/fuzz_gguf \
	tests/kernels/fuzz/fuzz_pickle \
	tests/kernels/fuzz/fuzz_safetensors \
	tests/kernels/fuzz/fuzz_vocab
tests_kernels_fuzz_fuzz_config_SOURCES = tests/kernels/fuzz/fuzz_config.c tests/kernels/fuzz/fuzz.h $(format_sources)
tests_kernels_fuzz_fuzz_config_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS) $(fuzz_flags)
tests_kernels_fuzz_fuzz_config_LDFLAGS = $(fuzz_flags)
tests_kernels_fuzz_fuzz_config_LDADD = $(JANSSON_LIBS) -lm
tests_kernels_fuzz_fuzz_gguf_SOURCES = tests/kernels/fuzz/fuzz_gguf.c tests/kernels/fuzz/fuzz.h $(format_sources)
tests_kernels_fuzz_fuzz_gguf_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS) $(fuzz_flags)
tests_kernels_fuzz_fuzz_gguf_LDFLAGS = $(fuzz_flags)
tests_kernels_fuzz_fuzz_gguf_LDADD = $(JANSSON_LIBS) -lm
tests_kernels_fuzz_fuzz_pickle_SOURCES = tests/kernels/fuzz/fuzz_pickle.c tests/kernels/fuzz/fuzz.h $(format_sources)
tests_kernels_fuzz_fuzz_pickle_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS) $(fuzz_flags)
tests_kernels_fuzz_fuzz_pickle_LDFLAGS = $(fuzz_flags)
tests_kernels_fuzz_fuzz_pickle_LDADD = $(JANSSON_LIBS) -lm
tests_kernels_fuzz_fuzz_safetensors_SOURCES = tests/kernels/fuzz/fuzz_safetensors.c tests/kernels/fuzz/fuzz.h $(format_sources)
tests_kernels_fuzz_fuzz_safetensors_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS) $(fuzz_flags)
tests_kernels_fuzz_fuzz_safetensors_LDFLAGS = $(fuzz_flags)
tests_kernels_fuzz_fuzz_safetensors_LDADD = $(JANSSON_LIBS) -lm
tests_kernels_fuzz_fuzz_vocab_SOURCES = tests/kernels/fuzz/fuzz_vocab.c tests/kernels/fuzz/fuzz.h $(format_sources)
tests_kernels_fuzz_fuzz_vocab_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS) $(fuzz_flags)
tests_kernels_fuzz_fuzz_vocab_LDFLAGS = $(fuzz_flags)
tests_kernels_fuzz_fuzz_vocab_LDADD = $(JANSSON_LIBS) -lm
endif
