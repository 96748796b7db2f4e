# the CUDA core, on the shim
if CMOCKA
check_PROGRAMS += tests/kernels/cuda_ops
TESTS += tests/kernels/cuda_ops
endif
tests_kernels_cuda_ops_SOURCES = tests/kernels/cuda_ops.cc
tests_kernels_cuda_ops_CPPFLAGS = $(core_test_cppflags)
tests_kernels_cuda_ops_LDADD = kernels/libcudahost.la $(core_test_ldadd)
