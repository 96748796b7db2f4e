# What runs on a machine with a GPU: tests/gpu/run. In make check only what that script itself does.
EXTRA_DIST += tests/gpu/run tests/gpu/run_test.sh tests/gpu/bench.cu
TESTS += tests/gpu/run_test.sh
EXTRA_PROGRAMS += tests/gpu/generate
tests_gpu_generate_SOURCES = tests/gpu/generate.c
tests_gpu_generate_LDADD = kernels/libcore.la
.PHONY: gpu-programs
if CUDA
gpu_nvcc = $(NVCC) -std=c++17 -O3 -lineinfo -fmad=false $(NVCC_ARCHS) -cudart static $(DEFS) $(AM_CPPFLAGS) $(CPPFLAGS) $(NVCCFLAGS)
tests/gpu/cuda_ops: kernels/libcudadevice.a kernels/libcore.la $(top_srcdir)/tests/kernels/cuda_ops.cc
	$(AM_V_NVCC)$(MKDIR_P) $(@D) && $(gpu_nvcc) -x cu -o tests/gpu/cuda_ops.o -c $(top_srcdir)/tests/kernels/cuda_ops.cc && \
		$(LIBTOOL) $(AM_V_lt) --tag=CXX --mode=link $(NVCC) -cudart static -o $@ tests/gpu/cuda_ops.o kernels/libcudadevice.a \
		kernels/libcore.la $(CMOCKA_LIBS)
tests/gpu/bench: kernels/libcudadevice.a $(top_srcdir)/tests/gpu/bench.cu
	$(AM_V_NVCC)$(MKDIR_P) $(@D) && $(gpu_nvcc) -o $@ $(top_srcdir)/tests/gpu/bench.cu kernels/libcudadevice.a
gpu-programs: kernels/weft-cuda.so tests/gpu/cuda_ops tests/gpu/bench tests/gpu/generate tests/kernels/cuda_core
CLEANFILES += tests/gpu/cuda_ops tests/gpu/cuda_ops.o tests/gpu/bench tests/gpu/generate
endif
