# Loops over rows of logits: each instruction set is a library of its own flags.
scan_paths =
if X86
noinst_LTLIBRARIES += daemon/libscan_avx2.la daemon/libscan_avx512.la
scan_paths += daemon/libscan_avx2.la daemon/libscan_avx512.la
daemon_libscan_avx2_la_SOURCES = daemon/scan.c daemon/scan.h
daemon_libscan_avx2_la_CPPFLAGS = $(AM_CPPFLAGS) -DSCAN_NAME=avx2
daemon_libscan_avx2_la_CFLAGS = $(AM_CFLAGS) -mavx2 -O3
daemon_libscan_avx512_la_SOURCES = daemon/scan.c daemon/scan.h
daemon_libscan_avx512_la_CPPFLAGS = $(AM_CPPFLAGS) -DSCAN_NAME=avx512
daemon_libscan_avx512_la_CFLAGS = $(AM_CFLAGS) -mavx512f -mavx512dq -mavx512vl -mprefer-vector-width=512 -O3
endif

# daemon/libengine.la: plugins, sampler chains and the engine thread; the sockets and the queue are not in it
noinst_LTLIBRARIES += daemon/libengine.la
daemon_libengine_la_SOURCES = \
	daemon/arena.c daemon/arena.h \
	daemon/batch.c daemon/batch.h \
	daemon/bytes.c daemon/bytes.h \
	daemon/candidates.c \
	daemon/chain.c daemon/chain.h \
	daemon/checkpoint.c \
	daemon/engine.c daemon/engine.h \
	daemon/feed.c \
	daemon/histogram.c daemon/histogram.h \
	daemon/host.c daemon/host.h \
	daemon/logits.c daemon/logits.h \
	daemon/philox.c daemon/philox.h \
	daemon/plugin.c daemon/plugin.h \
	daemon/plugin_args.c \
	daemon/plugin_check.c daemon/plugin_check.h \
	daemon/run.c daemon/run.h \
	daemon/scan.c daemon/scan.h \
	daemon/seq.c \
	daemon/worst.c
daemon_libengine_la_CPPFLAGS = $(AM_CPPFLAGS) $(SODIUM_CFLAGS)
daemon_libengine_la_LIBADD = $(scan_paths) kernels/libcore.la client/libwire.la $(SODIUM_LIBS) -lm
