# tests of client/
EXTRA_DIST += tests/client/weftd.py tests/client/lib.sh

if CMOCKA
check_PROGRAMS += tests/client/test_wire
TESTS += tests/client/test_wire
tests_client_test_wire_SOURCES = tests/client/test_wire.c
tests_client_test_wire_CFLAGS = $(AM_CFLAGS) $(MSGPACK_CFLAGS) $(CMOCKA_CFLAGS)
tests_client_test_wire_LDADD = client/libwire.la $(CMOCKA_LIBS)

# Links the codec beside the library: the library does not export it.
check_PROGRAMS += tests/client/test_libweft
TESTS += tests/client/test_libweft
tests_client_test_libweft_SOURCES = tests/client/test_libweft.c client/wire-json.c
tests_client_test_libweft_CFLAGS = $(AM_CFLAGS) $(MSGPACK_CFLAGS) $(ZMQ_CFLAGS) $(JANSSON_CFLAGS) $(CMOCKA_CFLAGS)
tests_client_test_libweft_LDADD = client/libweft.la client/libwire.la $(ZMQ_LIBS) $(JANSSON_LIBS) $(CMOCKA_LIBS) -lpthread

check_PROGRAMS += tests/client/test_batch
TESTS += tests/client/test_batch
tests_client_test_batch_SOURCES = tests/client/test_batch.c client/ledger.c client/openai.c client/row.c
tests_client_test_batch_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS) $(CMOCKA_CFLAGS)
tests_client_test_batch_LDADD = $(JANSSON_LIBS) $(CMOCKA_LIBS)
endif

check_PROGRAMS += tests/client/headers tests/client/headers_cxx
TESTS += tests/client/headers tests/client/headers_cxx
tests_client_headers_SOURCES = tests/client/headers.c
tests_client_headers_LDADD = client/libweft.la
tests_client_headers_cxx_SOURCES = tests/client/headers_cxx.cc
tests_client_headers_cxx_LDADD = client/libweft.la

# The fuzz target: always as a fixed run in `make check`, with --enable-fuzzers as a libFuzzer program, too.
check_PROGRAMS += tests/client/fuzz_wire_fixed
TESTS += tests/client/fuzz_wire_fixed
tests_client_fuzz_wire_fixed_SOURCES = tests/client/fuzz_wire.c
tests_client_fuzz_wire_fixed_CPPFLAGS = $(AM_CPPFLAGS) -DFUZZ_STANDALONE
tests_client_fuzz_wire_fixed_CFLAGS = $(AM_CFLAGS) $(MSGPACK_CFLAGS)
tests_client_fuzz_wire_fixed_LDADD = client/libwire.la
if FUZZERS
noinst_PROGRAMS += tests/client/fuzz_wire
tests_client_fuzz_wire_SOURCES = tests/client/fuzz_wire.c client/wire.c
tests_client_fuzz_wire_CFLAGS = $(AM_CFLAGS) $(MSGPACK_CFLAGS) -fsanitize=fuzzer,address,undefined
tests_client_fuzz_wire_LDFLAGS = -fsanitize=fuzzer,address,undefined
tests_client_fuzz_wire_LDADD = $(MSGPACK_LIBS) -lm
endif

# The examples of PROTOCOL.md, encoded and played.
check_PROGRAMS += tests/client/play
tests_client_play_SOURCES = tests/client/play.c client/wire-json.c
tests_client_play_CFLAGS = $(AM_CFLAGS) $(MSGPACK_CFLAGS) $(ZMQ_CFLAGS) $(JANSSON_CFLAGS)
tests_client_play_LDADD = client/libwire.la $(ZMQ_LIBS) $(JANSSON_LIBS)

check_PROGRAMS += tests/client/ask
tests_client_ask_SOURCES = tests/client/ask.c
tests_client_ask_LDADD = client/libweft.la

# Against the real weftd.
client_scripts = \
	tests/client/ask_test.sh \
	tests/client/cli_fuse_test.py \
	tests/client/cli_learn_test.py \
	tests/client/cli_batch_test.py \
	tests/client/cli_durable_test.py \
	tests/client/cli_test.py \
	tests/client/curve_test.py \
	tests/client/foreign.py \
	tests/client/manual_test.sh \
	tests/client/protocol_examples_test.sh \
	tests/client/protocol_options_test.py \
	tests/client/symbols_test.sh
TESTS += $(client_scripts)
EXTRA_DIST += $(client_scripts)
