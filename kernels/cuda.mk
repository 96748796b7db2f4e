# The CUDA core. Its sources compile twice: by nvcc to weft-cuda.so, where there is an nvcc, and always by the C++ compiler, on the shim of
# tests/shim, for the tests.
cuda_headers = kernels/backend.h kernels/cuda/attend.h kernels/cuda/attend_half.h kernels/cuda/attend_int8.h kernels/cuda/core.h kernels/cuda/gpu.h kernels/cuda/ops.h kernels/cuda/prepare.h kernels/cuda/ptx.h kernels/cuda/ranks.h kernels/cuda/weights.h
cuda_sources = \
	kernels/cuda/adapters.cu \
	kernels/cuda/module.cu \
	kernels/cuda/pass.cu \
	kernels/cuda/ranks.cu \
	kernels/cuda/weights.cu \
	kernels/ops/attention_cuda.cu \
	kernels/ops/draw_cuda.cu \
	kernels/ops/embed_cuda.cu \
	kernels/ops/lora_cuda.cu \
	kernels/ops/matmul_cuda.cu \
	kernels/ops/quantize_cuda.cu \
	kernels/ops/rmsnorm_cuda.cu \
	kernels/ops/rope_cuda.cu \
	kernels/ops/swiglu_cuda.cu
EXTRA_DIST += $(cuda_headers) $(cuda_sources) kernels/cuda/NOTES.md

# ---- on the shim ----
SUFFIXES = .cu .nvo .ptxas
cuda_host_flags = $(WEFT_CXXFLAGS) -Wno-unknown-pragmas -ffp-contract=off -fno-math-errno
.cu.lo:
	$(AM_V_CXX)$(LIBTOOL) $(AM_V_lt) --tag=CXX --mode=compile $(CXX) $(DEFS) $(AM_CPPFLAGS) $(CPPFLAGS) $(cuda_host_flags) $(CXXFLAGS) \
		-x c++ -c -o $@ $<
.cu.o:
	$(AM_V_CXX)$(CXX) $(DEFS) $(AM_CPPFLAGS) $(CPPFLAGS) $(cuda_host_flags) $(CXXFLAGS) -x c++ -c -o $@ $<
shim_headers = tests/shim/shim.h tests/shim/internal.h
check_LTLIBRARIES += kernels/libcudahost.la
kernels_libcudahost_la_SOURCES = tests/shim/shim.cc tests/shim/runtime.cc tests/shim/nccl.cc $(shim_headers)
nodist_kernels_libcudahost_la_SOURCES = $(cuda_sources)
kernels_libcudahost_la_CXXFLAGS = $(AM_CXXFLAGS) -ffp-contract=off -fno-math-errno
# The whole module on the shim, for tests to load as weftd loads the real one. (-rpath makes a shared object of it.)
check_LTLIBRARIES += kernels/weft-cuda-shim.la
kernels_weft_cuda_shim_la_SOURCES =
nodist_EXTRA_kernels_weft_cuda_shim_la_SOURCES = it-is-c++.cc
kernels_weft_cuda_shim_la_LIBADD = kernels/libcudahost.la
kernels_weft_cuda_shim_la_LDFLAGS = -module -avoid-version -shared -rpath $(abs_builddir)/kernels
$(cuda_sources:.cu=.lo): $(cuda_headers) tests/shim/shim.h

# ---- for devices ----
# -fmad=false: a product and a sum are fused only where the source says fmaf(), as on the host. What ptxas says is kept for a test, and
# for that test asked about the other devices, too.
AM_V_NVCC = $(am__v_NVCC_@AM_V@)
am__v_NVCC_ = $(am__v_NVCC_@AM_DEFAULT_V@)
am__v_NVCC_0 = @echo "  NVCC    " $@;
am__v_NVCC_1 =
nvcc_compile = $(NVCC) -std=c++17 -O3 -lineinfo -fmad=false -Xptxas -v $(DEFS) $(AM_CPPFLAGS) $(CPPFLAGS) $(NVCCFLAGS)
.cu.nvo:
	$(AM_V_NVCC)$(MKDIR_P) $(@D) && $(nvcc_compile) $(NVCC_ARCHS) -Xcompiler -fPIC,-fvisibility=hidden -c -o $@ $< >$@.ptxas 2>&1 || \
		{ cat $@.ptxas >&2; rm -f $@; exit 1; }
.cu.ptxas:
	$(AM_V_NVCC)$(MKDIR_P) $(@D) && : >$@ && { test -z "$(NVCC_OTHERS)" || \
		$(nvcc_compile) $(NVCC_OTHERS) -fatbin -o $@.fatbin $< >$@ 2>&1 || { cat $@ >&2; rm -f $@; exit 1; }; rm -f $@.fatbin; }
cuda_objects = $(cuda_sources:.cu=.nvo)
if CUDA
cudadir = $(pkglibdir)
cuda_DATA = kernels/weft-cuda.so
check_DATA = $(cuda_sources:.cu=.ptxas)
$(cuda_objects) $(cuda_sources:.cu=.ptxas): $(cuda_headers)
kernels/libcudadevice.a: $(cuda_objects)
	$(AM_V_AR)rm -f $@ && $(AR) cr $@ $(cuda_objects)
kernels/weft-cuda.so: kernels/libcudadevice.a
	$(AM_V_NVCC)$(NVCC) -shared -cudart static -Xlinker -u -Xlinker weft_backend -Xlinker --exclude-libs -Xlinker libcudart_static.a \
		-o $@ kernels/libcudadevice.a
CLEANFILES += kernels/weft-cuda.so kernels/libcudadevice.a $(cuda_objects) $(cuda_objects:=.ptxas) $(cuda_sources:.cu=.ptxas)
endif
