# tests of the shim itself; the shim is built in kernels/cuda.mk
EXTRA_DIST += tests/shim/toys.cu
if CMOCKA
check_PROGRAMS += tests/shim/shim_test
TESTS += tests/shim/shim_test
endif
tests_shim_shim_test_SOURCES = tests/shim/shim_test.cc tests/shim/toys.h
nodist_tests_shim_shim_test_SOURCES = tests/shim/toys.cu
tests_shim_shim_test_CPPFLAGS = $(AM_CPPFLAGS) $(CMOCKA_CFLAGS)
tests_shim_shim_test_LDADD = kernels/libcudahost.la $(CMOCKA_LIBS)
tests/shim/toys.$(OBJEXT): $(cuda_headers) tests/shim/shim.h tests/shim/toys.h
