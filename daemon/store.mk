# daemon/libstore.la: the durable store, without loop, sockets and engine
noinst_LTLIBRARIES += daemon/libstore.la
daemon_libstore_la_SOURCES = \
	daemon/bell.c daemon/bell.h \
	daemon/store.c daemon/store.h \
	daemon/store_add.c \
	daemon/store_batch.c \
	daemon/store_claim.c \
	daemon/store_hold.c \
	daemon/store_move.c \
	daemon/store_op.c daemon/store_op.h \
	daemon/store_read.c \
	daemon/store_schema.c \
	daemon/store_sql.c daemon/store_sql.h \
	daemon/store_sqlite.c \
	daemon/store_statements.h \
	daemon/store_tally.c daemon/store_tally.h \
	daemon/store_verb.c
daemon_libstore_la_CFLAGS = $(AM_CFLAGS) $(SQLITE_CFLAGS) $(SODIUM_CFLAGS)
daemon_libstore_la_LIBADD = $(SQLITE_LIBS) $(SODIUM_LIBS)
EXTRA_DIST += daemon/STORE.md
if POSTGRESQL
daemon_libstore_la_SOURCES += daemon/store_pg.c
daemon_libstore_la_CFLAGS += $(PQ_CFLAGS)
daemon_libstore_la_LIBADD += $(PQ_LIBS)
else
EXTRA_DIST += daemon/store_pg.c
endif
