# tests of kernels/fuse
fuse_tests = \
	tests/kernels/fuse_maths \
	tests/kernels/fuse_files

if CMOCKA
check_PROGRAMS += $(fuse_tests)
TESTS += $(fuse_tests) tests/kernels/fuse_tools.py
endif
EXTRA_DIST += tests/kernels/fuse_tools.py tests/kernels/fixtures/make_fuse.py tests/kernels/fixtures/fuse

fuse_test_cppflags = $(AM_CPPFLAGS) $(CMOCKA_CFLAGS) $(JANSSON_CFLAGS)
fuse_test_ldadd = kernels/libfuse.la kernels/libformat.la $(CMOCKA_LIBS) $(JANSSON_LIBS) -lm

tests_kernels_fuse_maths_SOURCES = tests/kernels/fuse_maths.c
tests_kernels_fuse_maths_CPPFLAGS = $(fuse_test_cppflags)
tests_kernels_fuse_maths_LDADD = $(fuse_test_ldadd)

tests_kernels_fuse_files_SOURCES = tests/kernels/fuse_files.c tests/kernels/adapter_test.h tests/kernels/core_test.h
tests_kernels_fuse_files_CPPFLAGS = $(core_test_cppflags)
tests_kernels_fuse_files_LDADD = kernels/libfuse.la $(core_test_ldadd)
