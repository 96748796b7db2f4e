# kernels: its parts, for the top Makefile.am
noinst_LTLIBRARIES += libcore.la
libcore_la_SOURCES = kernels/core.c kernels/core.h
libcore_la_CPPFLAGS = $(AM_CPPFLAGS) $(SODIUM_CFLAGS)
libcore_la_LIBADD = $(SODIUM_LIBS) -lm
