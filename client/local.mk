# client: its parts, for the top Makefile.am

# The codec that weftd, libweft and the tests share.
noinst_LTLIBRARIES += client/libwire.la
client_libwire_la_SOURCES = client/wire.c client/wire.h
client_libwire_la_CFLAGS = $(AM_CFLAGS) $(MSGPACK_CFLAGS)
client_libwire_la_LIBADD = $(MSGPACK_LIBS) -lm

EXTRA_DIST += client/PROTOCOL.md
