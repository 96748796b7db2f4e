/* Fuzz target of wire_decode: whatever is accepted obeys the rules, agrees with msgpack-c, and survives a round trip.
 * With libFuzzer (configure --enable-fuzzers CC=clang): tests/client/fuzz_wire [CORPUS]. In `make check` the same target runs on a
 * fixed set of seeds and 200,000 fixed mutations of them (FUZZ_STANDALONE). */
#include "client/wire.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "fuzz_wire: %s\n", what);
		abort();
	}
}

static unsigned depth_of(const msgpack_object *o)
{
	unsigned deepest = 0, d;

	if (o->type == MSGPACK_OBJECT_ARRAY) {
		for (uint32_t i = 0; i < o->via.array.size; i++)
			if ((d = depth_of(&o->via.array.ptr[i])) > deepest)
				deepest = d;
		return deepest + 1;
	}
	if (o->type == MSGPACK_OBJECT_MAP) {
		for (uint32_t i = 0; i < o->via.map.size; i++) {
			require(o->via.map.ptr[i].key.type == MSGPACK_OBJECT_STR, "a key is no str");
			if ((d = depth_of(&o->via.map.ptr[i].val)) > deepest)
				deepest = d;
		}
		return deepest + 1;
	}
	require(o->type != MSGPACK_OBJECT_EXT, "an ext got through");
	if (o->type == MSGPACK_OBJECT_STR)
		require(wire_utf8_valid(o->via.str.ptr, o->via.str.size), "a str is no UTF-8");
	return 0;
}

static bool has_nan(const msgpack_object *o)
{
	if (o->type == MSGPACK_OBJECT_ARRAY) {
		for (uint32_t i = 0; i < o->via.array.size; i++)
			if (has_nan(&o->via.array.ptr[i]))
				return true;
	} else if (o->type == MSGPACK_OBJECT_MAP) {
		for (uint32_t i = 0; i < o->via.map.size; i++)
			if (has_nan(&o->via.map.ptr[i].val))
				return true;
	}
	return (o->type == MSGPACK_OBJECT_FLOAT32 || o->type == MSGPACK_OBJECT_FLOAT64) && o->via.f64 != o->via.f64;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wire_msg m, again;
	struct wire_buf b;
	const char *why = NULL;

	if (wire_decode(&m, data, size, &why) < 0) {
		require(why != NULL && *why != 0, "a refusal without a reason");
		return 0;
	}
	require(m.root.type == MSGPACK_OBJECT_MAP, "the root is no map");
	require(depth_of(&m.root) <= WIRE_MAX_DEPTH, "nested too deep");
	wire_buf_init(&b);
	wire_object(&b, &m.root);
	require(!b.failed, "cannot be written");
	if (wire_decode(&again, b.out.data, b.out.size, &why) < 0) {
		require(false, why);
		return 0;
	}
	require(has_nan(&m.root) || msgpack_object_equal(m.root, again.root), "the round trip changed it");
	wire_finish(&again);
	wire_finish(&m);
	wire_buf_finish(&b);
	return 0;
}

#ifdef FUZZ_STANDALONE
static const struct {
	const char *bytes;
	size_t len;
} seeds[] = {
#define SEED(s)                                                                                                                    \
	{                                                                                                                          \
		s, sizeof(s) - 1                                                                                                   \
	}
	SEED("\x80"),
	SEED("\x83\xa1v\x01\xa2id\x07\xa2op\xa5hello"),
	SEED("\x86\xa1v\x01\xa2id\xa3one\xa2op\xa8generate\xa6prompt\xa5Hello\xa4stop\x92\xa1.\xa2\xc3\xa9\xaalogit_bias\x82\xa3"
	     "123\xca\xc0\x20\x00\x00\xa1"
	     "4\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a"),
	SEED("\x81\xa6tokens\xdc\x00\x04\x01\xcc\xff\xcd\x12\x34\xce\x00\x01\x00\x00"),
	SEED("\x81\xa8messages\x92\x82\xa4role\xa4user\xa7"
	     "content\xd9\x04text\x82\xa4role\xa9"
	     "assistant\xa7"
	     "content\xda\x00\x02ok"),
	SEED("\xde\x00\x02\xa1"
	     "a\xc0\xa1"
	     "b\xdf\x00\x00\x00\x01\xa1x\xc4\x02\xff\xfe"),
	SEED("\x81\xa1"
	     "a\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\xc3"),
	SEED("\x84\xa1i\xd0\x80\xa1j\xd1\x80\x00\xa1k\xd2\x80\x00\x00\x00\xa1l\xd3\x80\x00\x00\x00\x00\x00\x00\x00"),
};

static uint32_t next_random(uint32_t *x) /* xorshift32 */
{
	*x ^= *x << 13;
	*x ^= *x >> 17;
	*x ^= *x << 5;
	return *x;
}

int main(void)
{
	enum { MUTATIONS = 200000, MAX = 256 };
	uint32_t x = 2463534242u;
	static const uint8_t heads[] = {0x80, 0x81, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc4, 0xc7, 0xca,
					0xcb, 0xcf, 0xd3, 0xd4, 0xd9, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0xff};

	for (size_t i = 0; i < sizeof(seeds) / sizeof(seeds[0]); i++)
		LLVMFuzzerTestOneInput((const uint8_t *)seeds[i].bytes, seeds[i].len);
	for (int i = 0; i < MUTATIONS; i++) {
		size_t s = next_random(&x) % (sizeof(seeds) / sizeof(seeds[0])), n = seeds[s].len;
		uint8_t bytes[MAX];
		memcpy(bytes, seeds[s].bytes, n);
		for (unsigned edits = 1 + next_random(&x) % 4; edits > 0 && n > 0; edits--) {
			size_t at = next_random(&x) % n;
			switch (next_random(&x) % 4) {
			case 0:
				bytes[at] = next_random(&x);
				break;
			case 1:
				bytes[at] = heads[next_random(&x) % sizeof(heads)];
				break;
			case 2:
				n = at;
				break;
			case 3:
				if (n + 1 < MAX) {
					memmove(bytes + at + 1, bytes + at, n - at);
					bytes[at] = heads[next_random(&x) % sizeof(heads)];
					n++;
				}
				break;
			}
		}
		uint8_t *copy = malloc(n > 0 ? n : 1); /* its own block, so that a sanitizer sees its end */
		memcpy(copy, bytes, n);
		LLVMFuzzerTestOneInput(copy, n);
		free(copy);
	}
	return 0;
}
#endif
