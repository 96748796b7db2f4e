# kernels/learn: the Llama as a differentiable function, and what is learned with it
noinst_LTLIBRARIES += kernels/liblearn.la
kernels_liblearn_la_SOURCES = \
	kernels/learn/check.c \
	kernels/learn/descend.c \
	kernels/learn/learn.c \
	kernels/learn/pass.c kernels/learn/pass.h \
	kernels/learn/product.c kernels/learn/product.h \
	kernels/learn/random.h \
	kernels/learn/search.c \
	kernels/learn/trial.c kernels/learn/trial.h \
	kernels/learn/work.h
# -O3: sums are plain loops, and are to run on vectors. The order of a sum stays as written.
kernels_liblearn_la_CFLAGS = $(AM_CFLAGS) -O3
# What links it names kernels/libcore.la after it.
