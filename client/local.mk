# client: its parts, for the top Makefile.am

# The codec that weftd, libweft and the tests share.
noinst_LTLIBRARIES += client/libwire.la
client_libwire_la_SOURCES = client/wire.c client/wire.h
client_libwire_la_CFLAGS = $(AM_CFLAGS) $(MSGPACK_CFLAGS)
client_libwire_la_LIBADD = $(MSGPACK_LIBS) -lm

# libweft, for other people's programs. Only what weft.h marks is exported.
lib_LTLIBRARIES += client/libweft.la
include_HEADERS += client/weft.h
pkgconfig_DATA += client/weft.pc
client_libweft_la_SOURCES = client/connection.c client/jobs.c client/libweft.h client/reply.c client/request.c client/weft.h \
	client/wire-json.c client/wire-json.h
client_libweft_la_CFLAGS = $(AM_CFLAGS) $(MSGPACK_CFLAGS) $(ZMQ_CFLAGS) $(JANSSON_CFLAGS)
client_libweft_la_LDFLAGS = -version-info 0:0:0 -no-undefined
client_libweft_la_LIBADD = client/libwire.la $(MSGPACK_LIBS) $(ZMQ_LIBS) $(JANSSON_LIBS)

bin_PROGRAMS += client/weft
# One source a line: commands come and go by themselves.
client_weft_SOURCES = \
	client/answer.c \
	client/batch-follow.c client/batch-send.c client/batch.h \
	client/cli.c client/cli.h \
	client/cmd-adapters.c \
	client/cmd-batch.c \
	client/cmd-chat.c \
	client/cmd-fuse.c \
	client/cmd-generate.c \
	client/cmd-jobs.c \
	client/cmd-learn.c \
	client/cmd-results.c \
	client/cmd-score.c \
	client/cmd-server.c \
	client/cmd-tokens.c \
	client/ledger.c client/ledger.h \
	client/openai.c client/openai.h \
	client/options.c \
	client/row.c client/row.h \
	client/weft.c client/weft.h
client_weft_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS) $(SODIUM_CFLAGS)
client_weft_LDADD = client/libweft.la $(JANSSON_LIBS) $(SODIUM_LIBS)

dist_man_MANS += client/weft.1
EXTRA_DIST += client/PROTOCOL.md
