# the CUDA core, on the shim
if CMOCKA
check_PROGRAMS += tests/kernels/cuda_ops tests/kernels/cuda_core tests/kernels/cuda_ranks
TESTS += tests/kernels/cuda_ops tests/kernels/cuda_core tests/kernels/cuda_ranks
endif
TESTS += tests/kernels/cuda_ptxas.sh
EXTRA_DIST += tests/kernels/cuda_ptxas.sh
tests_kernels_cuda_ops_SOURCES = tests/kernels/cuda_ops.cc
tests_kernels_cuda_ops_CPPFLAGS = $(core_test_cppflags)
tests_kernels_cuda_ops_LDADD = kernels/libcudahost.la $(core_test_ldadd)
tests_kernels_cuda_core_SOURCES = tests/kernels/cuda_core.c tests/kernels/adapter_test.h tests/kernels/core_test.h
tests_kernels_cuda_core_CPPFLAGS = $(core_test_cppflags)
tests_kernels_cuda_core_LDADD = $(core_test_ldadd)
tests_kernels_cuda_ranks_SOURCES = tests/kernels/cuda_ranks.c tests/kernels/adapter_test.h tests/kernels/core_test.h
tests_kernels_cuda_ranks_CPPFLAGS = $(core_test_cppflags)
tests_kernels_cuda_ranks_LDADD = $(core_test_ldadd)
