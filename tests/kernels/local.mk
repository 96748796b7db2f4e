# tests of kernels/
include tests/kernels/format.mk

core_tests = \
	tests/kernels/core_golden

if CMOCKA
check_PROGRAMS += $(core_tests)
TESTS += $(core_tests)
endif
core_test_cppflags = $(AM_CPPFLAGS) $(CMOCKA_CFLAGS)
core_test_ldadd = kernels/libcore.la $(CMOCKA_LIBS) -lm
EXTRA_DIST += tests/kernels/fixtures/golden

tests_kernels_core_golden_SOURCES = tests/kernels/core_golden.c tests/kernels/core_test.h
tests_kernels_core_golden_CPPFLAGS = $(core_test_cppflags)
tests_kernels_core_golden_LDADD = $(core_test_ldadd)
