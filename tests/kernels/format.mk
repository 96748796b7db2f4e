# tests of kernels/format and the tokenizer
format_tests = \
	tests/kernels/format_blocks \
	tests/kernels/format_containers \
	tests/kernels/tokenizer_llama2

if CMOCKA
check_PROGRAMS += $(format_tests)
TESTS += $(format_tests)
endif
EXTRA_DIST += tests/kernels/fixtures/make_format.py tests/kernels/fixtures/format

format_test_cppflags = $(AM_CPPFLAGS) $(CMOCKA_CFLAGS)
format_test_ldadd = kernels/libformat.la $(CMOCKA_LIBS) -lm

tests_kernels_format_blocks_SOURCES = tests/kernels/format_blocks.c tests/kernels/format_test.h
tests_kernels_format_blocks_CPPFLAGS = $(format_test_cppflags)
tests_kernels_format_blocks_LDADD = $(format_test_ldadd)

tests_kernels_format_containers_SOURCES = tests/kernels/format_containers.c tests/kernels/format_test.h
tests_kernels_format_containers_CPPFLAGS = $(format_test_cppflags)
tests_kernels_format_containers_LDADD = $(format_test_ldadd)

tests_kernels_tokenizer_llama2_SOURCES = tests/kernels/tokenizer_llama2.c tests/kernels/format_test.h
tests_kernels_tokenizer_llama2_CPPFLAGS = $(format_test_cppflags)
tests_kernels_tokenizer_llama2_LDADD = $(format_test_ldadd)
