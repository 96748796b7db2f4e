# tests of adapters and blends
adapter_tests = \
	tests/kernels/adapter_golden \
	tests/kernels/adapter_p1

if CMOCKA
check_PROGRAMS += $(adapter_tests)
TESTS += $(adapter_tests)
endif
EXTRA_DIST += tests/kernels/fixtures/adapters

tests_kernels_adapter_golden_SOURCES = tests/kernels/adapter_golden.c tests/kernels/adapter_test.h tests/kernels/core_test.h
tests_kernels_adapter_golden_CPPFLAGS = $(core_test_cppflags)
tests_kernels_adapter_golden_LDADD = $(core_test_ldadd)
tests_kernels_adapter_p1_SOURCES = tests/kernels/adapter_p1.c tests/kernels/adapter_test.h tests/kernels/core_test.h
tests_kernels_adapter_p1_CPPFLAGS = $(core_test_cppflags)
tests_kernels_adapter_p1_LDADD = $(core_test_ldadd)
