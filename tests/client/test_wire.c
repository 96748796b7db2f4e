/* The codec: good frames, hostile frames, typed reads, the writer, and the error table of PROTOCOL.md. */
#include "client/wire.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define BYTES(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

static void expect_refused(const void *data, size_t len, const char *part)
{
	struct wire_msg m;
	const char *why = NULL;

	/* An exact copy on the heap: a sanitizer sees every byte read behind the frame. */
	void *copy = malloc(len > 0 ? len : 1);
	memcpy(copy, data, len);
	assert_int_equal(wire_decode(&m, copy, len, &why), -1);
	free(copy);
	assert_non_null(why);
	if (strstr(why, part) == NULL)
		fail_msg("refused for \"%s\", expected \"%s\"", why, part);
}

static void decode(struct wire_msg *m, const void *data, size_t len)
{
	const char *why = "";

	if (wire_decode(m, data, len, &why) < 0)
		fail_msg("refused: %s", why);
}

static void decode_buf(struct wire_msg *m, struct wire_buf *b)
{
	assert_false(b->failed);
	decode(m, b->out.data, b->out.size);
}

static void test_a_good_frame_reads_back_and_outlives_its_bytes(void **state)
{
	uint8_t frame[] = {0x83, 0xa1, 'v',  1,    0xa2, 'o',  'p',  0xa5, 'h', 'e', 'l', 'l', 'o',
			   0xa1, 'l',  0x92, 0xc0, 0xcb, 0x3f, 0xe0, 0,    0,   0,   0,   0,   0};
	struct wire_msg m;
	uint64_t v;
	double f;

	decode(&m, frame, sizeof(frame));
	memset(frame, 0xc1, sizeof(frame));
	assert_true(wire_get_uint(wire_get(&m.root, "v"), &v));
	assert_int_equal(v, 1);
	assert_true(wire_is_cstr(wire_get(&m.root, "op"), "hello"));
	assert_false(wire_is_cstr(wire_get(&m.root, "op"), "hell"));
	const msgpack_object *l = wire_get(&m.root, "l");
	assert_int_equal(l->type, MSGPACK_OBJECT_ARRAY);
	assert_true(wire_get_float(&l->via.array.ptr[1], &f));
	assert_true(f == 0.5);
	assert_null(wire_get(&m.root, "x"));
	assert_null(wire_get(l, "v"));
	assert_null(wire_get(NULL, "v"));
	wire_finish(&m);
}

static void test_an_empty_map_is_a_frame(void **state)
{
	struct wire_msg m;

	decode(&m, BYTES(0x80));
	assert_int_equal(m.root.via.map.size, 0);
	wire_finish(&m);
}

static void test_what_is_no_map_is_refused(void **state)
{
	expect_refused("", 0, "empty");
	expect_refused(BYTES(0x90), "not a map");
	expect_refused(BYTES(0xc0), "not a map");
	expect_refused(BYTES(0xa1, 'v'), "not a map");
	expect_refused(BYTES(0xc1), "not a map");
}

static void test_counts_beyond_the_bytes_are_refused_before_memory_is_asked_for(void **state)
{
	expect_refused(BYTES(0xdf, 0xff, 0xff, 0xff, 0xff), "more elements");
	expect_refused(BYTES(0xde, 0xff, 0xff), "more elements");
	expect_refused(BYTES(0x8f), "more elements");
	expect_refused(BYTES(0x81, 0xa1, 'a', 0xdd, 0xff, 0xff, 0xff, 0xff), "more elements");
	/* Each array alone would fit into what is left; together they do not: the count is of all that is owed. */
	expect_refused(BYTES(0x81, 0xa1, 'a', 0x96, 0x96, 0, 0, 0, 0, 0, 0, 0, 0), "more elements");
	expect_refused(BYTES(0x81, 0xa1, 'a', 0x92, 0x00), "more elements");
}

static void test_truncated_values_are_refused(void **state)
{
	expect_refused(BYTES(0x81), "more elements");
	expect_refused(BYTES(0x81, 0xa1, 'a'), "ends inside");
	expect_refused(BYTES(0x81, 0xa2, 'a'), "ends inside");
	expect_refused(BYTES(0x81, 0xd9, 0xff), "ends inside");
	expect_refused(BYTES(0x81, 0xdb, 0xff, 0xff, 0xff, 0xff), "ends inside");
	expect_refused(BYTES(0x81, 0xa1, 'a', 0xcf, 0, 0, 0), "ends inside");
	expect_refused(BYTES(0x81, 0xa1, 'a', 0xcb, 0, 0, 0), "ends inside");
	expect_refused(BYTES(0x81, 0xa1, 'a', 0xc6, 0xff, 0xff, 0xff, 0xff), "ends inside");
	expect_refused(BYTES(0x81, 0xa1, 'a', 0xc6, 0xff), "ends inside");
	expect_refused(BYTES(0xdf, 0x00), "ends inside");
}

static void test_every_prefix_of_a_frame_is_refused(void **state)
{
	struct wire_buf b;
	struct wire_msg m;

	wire_buf_init(&b);
	wire_map(&b, 3);
	wire_str(&b, "a");
	wire_array(&b, 2);
	wire_float(&b, 1.1);
	wire_uint(&b, 70000);
	wire_str(&b, "text");
	wire_str(&b, "a string that is longer than thirty-two bytes");
	wire_str(&b, "c");
	wire_map(&b, 0);
	decode_buf(&m, &b);
	wire_finish(&m);
	for (size_t n = 0; n < b.out.size; n++)
		expect_refused(b.out.data, n, "");
	wire_buf_finish(&b);
}

static void test_trailing_bytes_are_refused(void **state)
{
	expect_refused(BYTES(0x80, 0x00), "follow");
	expect_refused(BYTES(0x81, 0xa1, 'a', 0x01, 0x80), "follow");
}

static void test_foreign_types_are_refused(void **state)
{
	expect_refused(BYTES(0x81, 0xa1, 'a', 0xc1), "0xc1");
	expect_refused(BYTES(0x81, 0xa1, 'a', 0xd4, 1, 2), "ext");
	expect_refused(BYTES(0x81, 0xa1, 'a', 0xd6, 0xff, 0, 0, 0, 0), "ext");
	expect_refused(BYTES(0x81, 0xa1, 'a', 0xc7, 0, 1), "ext");
	expect_refused(BYTES(0x81, 0xa1, 'a', 0xc9, 0xff, 0xff, 0xff, 0xff, 1), "ext");
}

static void test_keys_that_are_no_str_are_refused(void **state)
{
	expect_refused(BYTES(0x81, 0x01, 0x01), "key is not a str");
	expect_refused(BYTES(0x81, 0xc4, 1, 'a', 0x01), "key is not a str");
	expect_refused(BYTES(0x81, 0x90, 0x01), "key is not a str");
	expect_refused(BYTES(0x81, 0xa1, 'a', 0x81, 0xc0, 0x01), "key is not a str");
}

static void test_text_that_is_no_utf8_is_refused(void **state)
{
	static const char *const bad[] = {"\x80",
					  "\xc0\xaf",
					  "\xc1\xbf",
					  "\xe0\x80\xaf",
					  "\xe0\x9f\xbf",
					  "\xed\xa0\x80",
					  "\xed\xbf\xbf",
					  "\xf0\x80\x80\xaf",
					  "\xf0\x8f\xbf\xbf",
					  "\xf4\x90\x80\x80",
					  "\xf5\x80\x80\x80",
					  "\xff",
					  "\xe2\x82",
					  "\xf0\x9f\x98",
					  "\xc3(",
					  "\xe2(\xa1",
					  "\xe2\x82("};
	static const char *const good[] = {"",
					   "plain",
					   "\xc2\x80",
					   "\xdf\xbf",
					   "\xe0\xa0\x80",
					   "\xed\x9f\xbf",
					   "\xee\x80\x80",
					   "\xef\xbf\xbf",
					   "\xf0\x90\x80\x80",
					   "\xf4\x8f\xbf\xbf",
					   "eight ASCII bytes and then \xe2\x82\xac"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		for (int before = 0; before < 20; before++) { /* at every place in the eight-byte stride */
			char text[64];
			uint8_t frame[80] = {0x81, 0xa1, 'a'};
			int n = snprintf(text, sizeof(text), "%.*s%s", before, "aaaaaaaaaaaaaaaaaaaa", bad[i]);
			frame[3] = 0xa0 | n;
			memcpy(frame + 4, text, n);
			expect_refused(frame, 4 + n, "UTF-8");
		}
	}
	expect_refused(BYTES(0x81, 0xa1, 0xff, 0x01), "UTF-8"); /* a key, too */
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(wire_utf8_valid(good[i], strlen(good[i])));
	assert_true(wire_utf8_valid("a\0b", 3));
}

static size_t nested(uint8_t *frame, unsigned arrays)
{
	size_t n = 0;

	frame[n++] = 0x81;
	frame[n++] = 0xa1;
	frame[n++] = 'a';
	for (unsigned i = 0; i < arrays; i++)
		frame[n++] = 0x91;
	frame[n++] = 0xc0;
	return n;
}

static void test_nesting_is_bounded_at_sixteen(void **state)
{
	uint8_t *frame = malloc(100010);
	struct wire_msg m;

	decode(&m, frame, nested(frame, WIRE_MAX_DEPTH - 1));
	wire_finish(&m);
	expect_refused(frame, nested(frame, WIRE_MAX_DEPTH), "nested deeper");
	expect_refused(frame, nested(frame, 100000), "nested deeper");
	free(frame);
}

static void test_duplicate_keys_are_refused_at_every_level(void **state)
{
	expect_refused(BYTES(0x82, 0xa1, 'a', 1, 0xa1, 'a', 2), "twice");
	expect_refused(BYTES(0x81, 0xa1, 'm', 0x82, 0xa0, 1, 0xa0, 2), "twice");
	expect_refused(BYTES(0x81, 0xa1, 'l', 0x91, 0x83, 0xa1, 'x', 1, 0xa1, 'y', 2, 0xa1, 'x', 3), "twice");
	/* the same key in another encoding */
	expect_refused(BYTES(0x82, 0xa1, 'a', 1, 0xd9, 1, 'a', 2), "twice");
}

static void write_wide_map(struct wire_buf *b, uint32_t n, bool twice)
{
	char key[32];

	wire_map(b, n + twice);
	for (uint32_t i = 0; i < n; i++) {
		snprintf(key, sizeof(key), "key%u", i * 2654435761u);
		wire_str(b, key);
		wire_nil(b);
	}
	if (twice) {
		snprintf(key, sizeof(key), "key%u", 17 * 2654435761u);
		wire_str(b, key);
		wire_nil(b);
	}
}

static void test_a_map_of_half_a_million_keys_is_checked_in_no_time(void **state)
{
	struct wire_buf b;
	struct wire_msg m;

	alarm(60); /* comparing each key with each other one would take hours */
	wire_buf_init(&b);
	write_wide_map(&b, 500000, false);
	decode_buf(&m, &b);
	wire_finish(&m);
	wire_buf_clear(&b);
	write_wide_map(&b, 500000, true);
	expect_refused(b.out.data, b.out.size, "twice");
	wire_buf_finish(&b);
	alarm(0);
}

static void test_a_frame_holds_at_most_two_million_values(void **state)
{
	size_t n = WIRE_MAX_OBJECTS - 3; /* beside the map, its key and the array */
	uint8_t *frame = malloc(n + 16);
	struct wire_msg m;

	for (int more = 0; more < 2; more++) {
		uint32_t count = n + more;
		memcpy(frame, (uint8_t[]){0x81, 0xa1, 'a', 0xdd, count >> 24, count >> 16, count >> 8, count}, 8);
		memset(frame + 8, 1, count);
		if (more) {
			expect_refused(frame, 8 + count, "more than 2097152 values");
		} else {
			decode(&m, frame, 8 + count);
			wire_finish(&m);
		}
	}
	free(frame);
}

static void test_a_frame_larger_than_the_limit_is_refused(void **state)
{
	uint8_t *frame = calloc(1, WIRE_MAX_MESSAGE + 1);

	frame[0] = 0x80;
	expect_refused(frame, WIRE_MAX_MESSAGE + 1, "16 MiB");
	free(frame);
}

static void test_numbers_read_as_their_types_only(void **state)
{
	msgpack_object o = {.type = MSGPACK_OBJECT_POSITIVE_INTEGER, .via.u64 = 5};
	uint64_t u;
	int64_t i;
	double f;
	bool b;

	assert_true(wire_get_uint(&o, &u) && u == 5);
	assert_true(wire_get_int(&o, &i) && i == 5);
	assert_true(wire_get_float(&o, &f) && f == 5);
	assert_false(wire_get_bool(&o, &b));
	o = (msgpack_object){.type = MSGPACK_OBJECT_NEGATIVE_INTEGER, .via.i64 = -5};
	assert_false(wire_get_uint(&o, &u));
	assert_true(wire_get_int(&o, &i) && i == -5);
	assert_true(wire_get_float(&o, &f) && f == -5);
	assert_string_equal(wire_type_name(&o), "int");
	o = (msgpack_object){.type = MSGPACK_OBJECT_FLOAT64, .via.f64 = 5.0};
	assert_false(wire_get_uint(&o, &u));
	assert_false(wire_get_int(&o, &i));
	assert_true(wire_get_float(&o, &f) && f == 5);
	o = (msgpack_object){.type = MSGPACK_OBJECT_NIL};
	assert_false(wire_get_float(&o, &f));
	assert_false(wire_get_bool(&o, &b));
	assert_false(wire_get_uint(NULL, &u));
	assert_false(wire_get_float(NULL, &f));
	assert_false(wire_get_bool(NULL, &b));
	assert_string_equal(wire_type_name(NULL), "nothing");
}

static void test_integers_beyond_53_bits_and_floats_that_are_not_finite_are_no_numbers(void **state)
{
	msgpack_object o = {.type = MSGPACK_OBJECT_POSITIVE_INTEGER, .via.u64 = WIRE_MAX_INT};
	uint64_t u;
	int64_t i;
	double f;

	assert_true(wire_get_uint(&o, &u) && u == WIRE_MAX_INT);
	o.via.u64 = WIRE_MAX_INT + 1;
	assert_false(wire_get_uint(&o, &u));
	assert_false(wire_get_int(&o, &i));
	assert_false(wire_get_float(&o, &f));
	assert_non_null(strstr(wire_type_name(&o), "2^53"));
	o = (msgpack_object){.type = MSGPACK_OBJECT_NEGATIVE_INTEGER, .via.i64 = -(int64_t)WIRE_MAX_INT};
	assert_true(wire_get_int(&o, &i));
	o.via.i64--;
	assert_false(wire_get_int(&o, &i));
	o.via.i64 = INT64_MIN;
	assert_false(wire_get_int(&o, &i));
	o = (msgpack_object){.type = MSGPACK_OBJECT_FLOAT64, .via.f64 = NAN};
	assert_false(wire_get_float(&o, &f));
	o.via.f64 = INFINITY;
	assert_false(wire_get_float(&o, &f));
	assert_non_null(strstr(wire_type_name(&o), "finite"));
}

static void expect_bytes(struct wire_buf *b, const uint8_t *want, size_t n)
{
	assert_false(b->failed);
	assert_int_equal(b->out.size, n);
	assert_memory_equal(b->out.data, want, n);
	wire_buf_clear(b);
}

static void test_the_writer_takes_the_shortest_exact_form(void **state)
{
	struct wire_buf b;

	wire_buf_init(&b);
	wire_uint(&b, 127);
	wire_uint(&b, 128);
	wire_int(&b, -32);
	wire_int(&b, 300);
	expect_bytes(&b, BYTES(0x7f, 0xcc, 0x80, 0xe0, 0xcd, 0x01, 0x2c));
	wire_float(&b, 0.5);
	expect_bytes(&b, BYTES(0xca, 0x3f, 0, 0, 0));
	wire_float(&b, 0.1);
	expect_bytes(&b, BYTES(0xcb, 0x3f, 0xb9, 0x99, 0x99, 0x99, 0x99, 0x99, 0x9a));
	wire_float(&b, -0.0);
	expect_bytes(&b, BYTES(0xca, 0x80, 0, 0, 0));
	wire_float(&b, 1e300);
	expect_bytes(&b, BYTES(0xcb, 0x7e, 0x37, 0xe4, 0x3c, 0x88, 0x00, 0x75, 0x9c));
	wire_float(&b, NAN);
	wire_float(&b, -INFINITY);
	expect_bytes(&b, BYTES(0xc0, 0xc0));
	wire_strn(&b, "ab\0c", 4);
	wire_str(&b, "");
	wire_bool(&b, true);
	wire_raw(&b, "\x90", 1);
	expect_bytes(&b, BYTES(0xa4, 'a', 'b', 0, 'c', 0xa0, 0xc3, 0x90));
	wire_buf_finish(&b);
}

static void test_a_decoded_value_writes_back_as_it_was(void **state)
{
	static const uint8_t frame[] = {0x82, 0xa1, 'a',  0x93, 0xca, 0x3f, 0,    0,   0,
					0xc2, 0xd0, 0x80, 0xa1, 'b',  0x81, 0xa1, 'x', 0xc0};
	struct wire_msg m;
	struct wire_buf b;

	decode(&m, frame, sizeof(frame));
	wire_buf_init(&b);
	wire_object(&b, &m.root);
	expect_bytes(&b, frame, sizeof(frame));
	wire_buf_finish(&b);
	wire_finish(&m);
}

static void test_taking_the_bytes_leaves_an_empty_buffer(void **state)
{
	struct wire_buf b;
	size_t n;

	wire_buf_init(&b);
	wire_str(&b, "x");
	char *bytes = wire_buf_take(&b, &n);
	assert_int_equal(n, 2);
	assert_memory_equal(bytes, "\xa1x", 2);
	free(bytes);
	assert_int_equal(b.out.size, 0);
	wire_nil(&b);
	b.failed = true;
	assert_null(wire_buf_take(&b, &n));
	assert_int_equal(n, 0);
	assert_false(b.failed);
	wire_buf_finish(&b);
}

static void test_topics_are_32_lower_case_hex_characters(void **state)
{
	assert_true(wire_topic_valid("00112233445566778899aabbccddeeff", 32));
	assert_false(wire_topic_valid("00112233445566778899AABBCCDDEEFF", 32));
	assert_false(wire_topic_valid("00112233445566778899aabbccddeefg", 32));
	assert_false(wire_topic_valid("00112233445566778899aabbccddeeff0", 33));
	assert_false(wire_topic_valid("00112233445566778899aabbccddeef", 31));
	assert_false(wire_topic_valid("", 0));
}

static void test_codes_and_names_find_each_other(void **state)
{
	for (int c = WIRE_OK + 1; c < WIRE_N_CODES; c++)
		assert_int_equal(wire_code_from_name(wire_code_name(c), strlen(wire_code_name(c))), c);
	assert_int_equal(wire_code_from_name("overload", 8), WIRE_OK);
	assert_int_equal(wire_code_from_name("", 0), WIRE_OK);
	assert_true(wire_code_retry(WIRE_OVERLOADED));
	assert_false(wire_code_retry(WIRE_CONFLICT));
	assert_string_equal(wire_code_name(WIRE_N_CODES), "internal");
}

/* PROTOCOL.md section 5 has exactly the rows of WIRE_CODES, in that order. */
static void test_the_error_table_of_the_protocol_is_the_one_of_the_code(void **state)
{
	static const char *const rows[] = {
#define X(id, name, retry, text) "| `" name "` | ", retry ? "yes" : "no", " | " text " |\n",
		WIRE_CODES(X)
#undef X
	};
	const char *top = getenv("top_srcdir");
	char path[4096], line[1024], want[1024];
	size_t row = 0;
	bool inside = false;

	snprintf(path, sizeof(path), "%s/client/PROTOCOL.md", top != NULL ? top : ".");
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL) {
		if (strncmp(line, "## ", 3) == 0)
			inside = strncmp(line, "## 5.", 5) == 0;
		if (!inside || strncmp(line, "| `", 3) != 0)
			continue;
		assert_true(row < sizeof(rows) / sizeof(rows[0]));
		snprintf(want, sizeof(want), "%s%s%s", rows[row], rows[row + 1], rows[row + 2]);
		assert_string_equal(line, want);
		row += 3;
	}
	fclose(f);
	assert_int_equal(row, sizeof(rows) / sizeof(rows[0]));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_good_frame_reads_back_and_outlives_its_bytes),
		cmocka_unit_test(test_an_empty_map_is_a_frame),
		cmocka_unit_test(test_what_is_no_map_is_refused),
		cmocka_unit_test(test_counts_beyond_the_bytes_are_refused_before_memory_is_asked_for),
		cmocka_unit_test(test_truncated_values_are_refused),
		cmocka_unit_test(test_every_prefix_of_a_frame_is_refused),
		cmocka_unit_test(test_trailing_bytes_are_refused),
		cmocka_unit_test(test_foreign_types_are_refused),
		cmocka_unit_test(test_keys_that_are_no_str_are_refused),
		cmocka_unit_test(test_text_that_is_no_utf8_is_refused),
		cmocka_unit_test(test_nesting_is_bounded_at_sixteen),
		cmocka_unit_test(test_duplicate_keys_are_refused_at_every_level),
		cmocka_unit_test(test_a_map_of_half_a_million_keys_is_checked_in_no_time),
		cmocka_unit_test(test_a_frame_holds_at_most_two_million_values),
		cmocka_unit_test(test_a_frame_larger_than_the_limit_is_refused),
		cmocka_unit_test(test_numbers_read_as_their_types_only),
		cmocka_unit_test(test_integers_beyond_53_bits_and_floats_that_are_not_finite_are_no_numbers),
		cmocka_unit_test(test_the_writer_takes_the_shortest_exact_form),
		cmocka_unit_test(test_a_decoded_value_writes_back_as_it_was),
		cmocka_unit_test(test_taking_the_bytes_leaves_an_empty_buffer),
		cmocka_unit_test(test_topics_are_32_lower_case_hex_characters),
		cmocka_unit_test(test_codes_and_names_find_each_other),
		cmocka_unit_test(test_the_error_table_of_the_protocol_is_the_one_of_the_code),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
