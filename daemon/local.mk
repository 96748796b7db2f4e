# daemon: its parts, for the top Makefile.am
include daemon/engine.mk
include daemon/store.mk

# All of weftd but main() and the loop: what the unit tests and the fuzzers link.
noinst_LTLIBRARIES += daemon/libdaemon.la
daemon_libdaemon_la_SOURCES = \
	daemon/adapters.c daemon/adapters.h daemon/adapter_look.c \
	daemon/blend_file.c daemon/blend_file.h \
	daemon/boot.c daemon/boot.h \
	daemon/checker.c daemon/checker.h \
	daemon/conf.c daemon/conf.h \
	daemon/deadline.c daemon/deadline.h \
	daemon/draft.c daemon/draft.h \
	daemon/fields.c daemon/fields.h \
	daemon/fuse.c daemon/fuse.h \
	daemon/job.c daemon/job.h \
	daemon/keys.c daemon/keys.h \
	daemon/learn.c daemon/learn.h \
	daemon/loader.c daemon/loader.h \
	daemon/log.c daemon/log.h \
	daemon/metrics.c daemon/metrics.h \
	daemon/metrics_http.c daemon/metrics_http.h \
	daemon/names.c daemon/names.h \
	daemon/notify.c daemon/notify.h \
	daemon/options.c daemon/options.h \
	daemon/pairs.h \
	daemon/problem.c daemon/problem.h \
	daemon/publish.c daemon/publish.h \
	daemon/queue.c daemon/queue.h \
	daemon/journal.c daemon/journal.h \
	daemon/durable.c daemon/durable.h \
	daemon/saved.c daemon/saved.h \
	daemon/request.c daemon/request_jobs.c daemon/request_batch.c daemon/request.h daemon/request_ops.h \
	daemon/server.c daemon/server.h daemon/server_parts.h \
	daemon/server_accept.c daemon/server_durable.c daemon/server_run.c \
	daemon/sockets.c daemon/sockets.h \
	daemon/stats.c daemon/stats.h \
	daemon/task.c daemon/task.h \
	daemon/template.c daemon/template.h \
	daemon/topics.c daemon/topics.h \
	daemon/zap.c daemon/zap.h
daemon_libdaemon_la_CFLAGS = $(AM_CFLAGS) $(MSGPACK_CFLAGS) $(ZMQ_CFLAGS) $(INIH_CFLAGS) $(SODIUM_CFLAGS) $(SYSTEMD_CFLAGS) $(MICROHTTPD_CFLAGS) $(JANSSON_CFLAGS)
daemon_libdaemon_la_LIBADD = kernels/libfuse.la kernels/liblearn.la daemon/libengine.la daemon/libstore.la client/libwire.la $(ZMQ_LIBS) $(INIH_LIBS) $(SODIUM_LIBS) $(SYSTEMD_LIBS) $(MICROHTTPD_LIBS) $(JANSSON_LIBS)

dist_man_MANS += daemon/weftd.8 daemon/weftd.conf.5

sbin_PROGRAMS += daemon/weftd
daemon_weftd_SOURCES = daemon/main.c daemon/loop.c daemon/loop.h daemon/loop_parts.h daemon/loop_reload.c daemon/loop_requests.c daemon/files.c daemon/files.h
daemon_weftd_CFLAGS = $(AM_CFLAGS) $(MSGPACK_CFLAGS) $(UV_CFLAGS) $(SODIUM_CFLAGS)
daemon_weftd_LDADD = daemon/libdaemon.la $(UV_LIBS) $(SODIUM_LIBS)
