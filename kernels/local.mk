# kernels: its parts, for the top Makefile.am
include kernels/format/local.mk
include kernels/fuse.mk
include kernels/learn.mk

noinst_LTLIBRARIES += kernels/libcore.la
kernels_libcore_la_SOURCES = \
	kernels/core.c kernels/core.h \
	kernels/ctx.c \
	kernels/device.c kernels/device.h \
	kernels/kv.c kernels/kv.h kernels/kv_cache.c kernels/kv_cache.h \
	kernels/llama.c kernels/llama.h \
	kernels/model.c kernels/model.h \
	kernels/pack.c kernels/pack.h \
	kernels/packed.c kernels/packed.h \
	kernels/pool.c kernels/pool.h \
	kernels/project.c kernels/project.h \
	kernels/quant.c \
	kernels/quant_nf4.c kernels/quant_nf4.h \
	kernels/shard.c kernels/shard.h \
	kernels/ops/attention.c kernels/ops/attention.h \
	kernels/ops/attention_words.c kernels/ops/attention_words.h \
	kernels/ops/attention_prompt.c \
	kernels/ops/expo.h \
	kernels/ops/guest.h \
	kernels/ops/matmul.c kernels/ops/matmul.h \
	kernels/ops/matrix.h \
	kernels/ops/ops.c kernels/ops/ops.h \
	kernels/ops/quantize.c kernels/ops/quantize.h \
	kernels/ops/rmsnorm.c kernels/ops/rmsnorm.h \
	kernels/ops/rope.c kernels/ops/rope.h \
	kernels/ops/swiglu.c kernels/ops/swiglu.h \
	kernels/ops/tiles.c kernels/ops/tiles.h
include kernels/adapter.mk
include kernels/cuda.mk
EXTRA_DIST += kernels/ops/NOTES.md
kernels_libcore_la_CPPFLAGS = $(AM_CPPFLAGS) $(SODIUM_CFLAGS)
kernels_libcore_la_LIBADD = $(cpu_paths) kernels/libformat.la $(SODIUM_LIBS) -lm

# The fast paths: each instruction set is a library of its own flags, so that nothing else of the core needs them.
cpu_paths =
if X86
noinst_LTLIBRARIES += kernels/libavx2.la kernels/libavx512.la
cpu_paths += kernels/libavx2.la kernels/libavx512.la
vec_sources = kernels/ops/ahead.h kernels/ops/vec16.h kernels/ops/words16.h kernels/ops/attention_vec.h kernels/ops/attention_words_vec.h \
	kernels/ops/matmul_vec.h kernels/ops/quantize_vec.h kernels/ops/rmsnorm_vec.h kernels/ops/swiglu_vec.h
kernels_libavx2_la_SOURCES = kernels/ops/matmul_avx2.c kernels/ops/vec_avx2.c $(vec_sources)
kernels_libavx2_la_CFLAGS = $(AM_CFLAGS) -mavx2 -mfma -mf16c -O3
kernels_libavx512_la_SOURCES = kernels/ops/matmul_avx512.c kernels/ops/vec_avx512.c $(vec_sources)
kernels_libavx512_la_CFLAGS = $(AM_CFLAGS) -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mfma -mf16c -O3
if AMX
noinst_LTLIBRARIES += kernels/libamx.la
cpu_paths += kernels/libamx.la
kernels_libamx_la_SOURCES = kernels/ops/matmul_amx.c kernels/ops/tiles_amx.c kernels/ops/attention_amx.c $(vec_sources)
kernels_libamx_la_CFLAGS = $(kernels_libavx512_la_CFLAGS) $(AMX_FLAGS)
endif
endif
