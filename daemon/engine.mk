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
	daemon/seq.c \
	daemon/worst.c
daemon_libengine_la_CPPFLAGS = $(AM_CPPFLAGS) $(SODIUM_CFLAGS)
daemon_libengine_la_LIBADD = kernels/libcore.la client/libwire.la $(SODIUM_LIBS) -lm
