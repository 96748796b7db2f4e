# kernels/fuse: several adapters made into one
noinst_LTLIBRARIES += kernels/libfuse.la
kernels_libfuse_la_SOURCES = \
	kernels/fuse/combine.c \
	kernels/fuse/core_fuse.c \
	kernels/fuse/fuse.h \
	kernels/fuse/job.c \
	kernels/fuse/mix.c \
	kernels/fuse/parts.h \
	kernels/fuse/plan.h \
	kernels/fuse/recipe.c \
	kernels/fuse/stage.c \
	kernels/fuse/stage.h \
	kernels/fuse/svd.c \
	kernels/fuse/write_base.c \
	kernels/fuse/write_gguf.c \
	kernels/fuse/write_peft.c \
	kernels/fuse/write_tensors.c
kernels_libfuse_la_CPPFLAGS = $(AM_CPPFLAGS) $(JANSSON_CFLAGS) $(LAPACKE_CFLAGS) $(SODIUM_CFLAGS)
# -O3: the sums over rows are plain loops, and are to run on vectors. The order of a sum stays as written.
kernels_libfuse_la_CFLAGS = $(AM_CFLAGS) -O3
# What links it names kernels/libformat.la, or libcore.la which holds that, after it.
kernels_libfuse_la_LIBADD = $(JANSSON_LIBS) $(LAPACKE_LIBS) $(SODIUM_LIBS) -lm
