# tests of kernels/format and the tokenizer
format_tests = \
	tests/kernels/tokenizer_llama2

if CMOCKA
check_PROGRAMS += $(format_tests)
TESTS += $(format_tests)
endif
AM_FORMAT_CPPFLAGS = $(AM_CPPFLAGS) $(CMOCKA_CFLAGS)
AM_FORMAT_LDADD = kernels/libformat.la $(CMOCKA_LIBS)

tests_kernels_tokenizer_llama2_SOURCES = tests/kernels/tokenizer_llama2.c tests/kernels/format_test.h
tests_kernels_tokenizer_llama2_CPPFLAGS = $(AM_FORMAT_CPPFLAGS)
tests_kernels_tokenizer_llama2_LDADD = $(AM_FORMAT_LDADD)
