# The CUDA core. Its sources compile twice: by nvcc to weft-cuda.so, where there is an nvcc, and always by the C++ compiler, on the shim of
# tests/shim, for the tests.
cuda_headers = kernels/backend.h kernels/cuda/gpu.h kernels/cuda/ops.h kernels/cuda/prepare.h kernels/cuda/ptx.h kernels/cuda/weights.h
cuda_sources = \
	kernels/cuda/weights.cu \
	kernels/ops/attention_cuda.cu \
	kernels/ops/embed_cuda.cu \
	kernels/ops/lora_cuda.cu \
	kernels/ops/matmul_cuda.cu \
	kernels/ops/quantize_cuda.cu \
	kernels/ops/rmsnorm_cuda.cu \
	kernels/ops/rope_cuda.cu \
	kernels/ops/swiglu_cuda.cu
EXTRA_DIST += $(cuda_headers) $(cuda_sources)

# ---- on the shim ----
SUFFIXES = .cu
cuda_host_flags = $(WEFT_CXXFLAGS) -Wno-unknown-pragmas -ffp-contract=off -fno-math-errno
.cu.lo:
	$(AM_V_CXX)$(LIBTOOL) $(AM_V_lt) --tag=CXX --mode=compile $(CXX) $(DEFS) $(AM_CPPFLAGS) $(CPPFLAGS) $(cuda_host_flags) $(CXXFLAGS) \
		-x c++ -c -o $@ $<
.cu.o:
	$(AM_V_CXX)$(CXX) $(DEFS) $(AM_CPPFLAGS) $(CPPFLAGS) $(cuda_host_flags) $(CXXFLAGS) -x c++ -c -o $@ $<
shim_headers = tests/shim/shim.h tests/shim/internal.h
check_LTLIBRARIES += kernels/libcudahost.la
kernels_libcudahost_la_SOURCES = tests/shim/shim.cc tests/shim/runtime.cc $(shim_headers)
nodist_kernels_libcudahost_la_SOURCES = $(cuda_sources)
kernels_libcudahost_la_CXXFLAGS = $(AM_CXXFLAGS) -ffp-contract=off -fno-math-errno
$(cuda_sources:.cu=.lo): $(cuda_headers) tests/shim/shim.h
