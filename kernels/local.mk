# kernels: its parts, for the top Makefile.am
include kernels/format/local.mk

noinst_LTLIBRARIES += kernels/libcore.la
kernels_libcore_la_SOURCES = kernels/core.c kernels/core.h
kernels_libcore_la_CPPFLAGS = $(AM_CPPFLAGS) $(SODIUM_CFLAGS)
kernels_libcore_la_LIBADD = kernels/libformat.la $(SODIUM_LIBS) -lm
