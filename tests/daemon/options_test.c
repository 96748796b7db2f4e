/* Options against parameter tables of plugins that exist in this file only. Requests are written in msgpack, as they come. */
#include "unit.h"
#include "daemon/options.h"

#define P(t, n, d, lo, hi)                                                                                                         \
	{                                                                                                                          \
		.size = sizeof(struct weft_param), .type = t, .name = n, .doc = "", .def = d, .min = lo, .max = hi                 \
	}

static struct weft_param deco_params[] = {
	P(WEFT_INT, "max_tokens", 16, 0, 1000),
	P(WEFT_BOOL, "echo", 0, 0, 1),
	{.size = sizeof(struct weft_param), .type = WEFT_STRING_LIST, .name = "stop", .doc = "", .max_items = 3},
	{.size = sizeof(struct weft_param), .type = WEFT_INT, .name = "both", .doc = "", .def = 1, .min = 0, .max = 9, .shared = 1},
};
static struct weft_param heat_params[] = {
	P(WEFT_FLOAT, "heat", 1, 0, 2),
	{.size = sizeof(struct weft_param), .type = WEFT_INT, .name = "both", .doc = "", .def = 1, .min = 0, .max = 9, .shared = 1},
};
static struct weft_param bias_params[] = {
	{.size = sizeof(struct weft_param), .type = WEFT_TOKEN_MAP, .name = "bias", .doc = "", .min = -5, .max = 5, .max_items = 2},
	{.size = sizeof(struct weft_param), .type = WEFT_INT_LIST, .name = "list", .doc = "", .min = -2, .max = 2, .max_items = 3},
	{.size = sizeof(struct weft_param), .type = WEFT_STRING, .name = "word", .doc = "", .def_str = "hm"},
};
static const struct weft_decoder decoder;
static const struct weft_sampler late = {.order = 900}, early = {.order = 100};

static const struct weft_plugin descs[] = {
	{.name = "bias", .params = bias_params, .n_params = 3, .sampler = &late},
	{.name = "deco", .params = deco_params, .n_params = 4, .decoder = &decoder},
	{.name = "heat", .params = heat_params, .n_params = 2, .sampler = &early},
};
static struct plugin plugins[3] = {{.desc = &descs[0]}, {.desc = &descs[1]}, {.desc = &descs[2]}};
static struct plugin *list[] = {&plugins[0], &plugins[1], &plugins[2]};
static struct plugin_set set = {.list = list, .n = 3, .refs = 1};

/* A value written by `write`, decoded as the daemon would. */
static struct wire_msg decoded(void (*write)(struct wire_buf *b))
{
	struct wire_buf b;
	struct wire_msg m;
	const char *why;
	size_t len;
	wire_buf_init(&b);
	wire_map(&b, 1);
	wire_str(&b, "value");
	write(&b);
	void *data = wire_buf_take(&b, &len);
	wire_buf_finish(&b);
	assert_int_equal(wire_decode(&m, data, len, &why), 0);
	free(data);
	return m;
}

static int take(struct options *o, const char *name, void (*write)(struct wire_buf *b), struct problem *p)
{
	struct wire_msg m = decoded(write);
	int rc = options_take(o, name, strlen(name), wire_get(&m.root, "value"), p);
	wire_finish(&m);
	return rc;
}

static struct options begun(void)
{
	struct options o;
	struct problem p;
	assert_int_equal(options_begin(&o, &set, 100, NULL, "deco", NULL, true, &p), 0);
	return o;
}

static void write_int(struct wire_buf *b)
{
	wire_int(b, 7);
}
static void write_big(struct wire_buf *b)
{
	wire_int(b, 1001);
}
static void write_float(struct wire_buf *b)
{
	wire_float(b, 0.25);
}
static void write_str(struct wire_buf *b)
{
	wire_str(b, "x");
}
static void write_nul(struct wire_buf *b)
{
	wire_strn(b, "a\0b", 3);
}
static void write_strs(struct wire_buf *b)
{
	wire_array(b, 2);
	wire_str(b, "one");
	wire_str(b, "two");
}
static void write_four(struct wire_buf *b)
{
	wire_array(b, 4);
	for (int i = 0; i < 4; i++)
		wire_int(b, i - 2);
}
static void write_three(struct wire_buf *b)
{
	wire_array(b, 3);
	for (int i = 0; i < 3; i++)
		wire_int(b, i);
}
static void write_map(struct wire_buf *b)
{
	wire_map(b, 2);
	wire_str(b, "99");
	wire_float(b, 1.5);
	wire_str(b, "0");
	wire_int(b, -2);
}
static void write_outside(struct wire_buf *b)
{
	wire_map(b, 1);
	wire_str(b, "100");
	wire_int(b, 1);
}
static void write_padded(struct wire_buf *b)
{
	wire_map(b, 1);
	wire_str(b, "007");
	wire_int(b, 1);
}

static void values_arrive_with_their_types(void **state)
{
	struct options o = begun();
	struct problem p;
	assert_int_equal(take(&o, "max_tokens", write_int, &p), 0);
	assert_int_equal(options_int(&o, "max_tokens", -1), 7);
	assert_int_equal(options_int(&o, "nope", -1), -1);
	assert_int_equal(take(&o, "heat", write_float, &p), 0);
	assert_int_equal(take(&o, "stop", write_strs, &p), 0);
	assert_int_equal(take(&o, "bias", write_map, &p), 0);
	assert_int_equal(take(&o, "list", write_three, &p), 0);
	assert_int_equal(take(&o, "word", write_str, &p), 0);
	assert_string_equal(o.samplers[0].plugin->desc->name, "heat"); /* by order, not by name */
	assert_true(o.samplers[0].values[0].f == 0.25);
	assert_int_equal(o.samplers[1].values[0].n, 2);
	assert_int_equal(o.samplers[1].values[0].ints[0], 99);
	assert_true(o.samplers[1].values[0].floats[1] == -2);
	assert_int_equal(o.samplers[1].values[1].ints[2], 2);
	assert_string_equal(o.samplers[1].values[2].str, "x");
	assert_string_equal(o.decoder.values[2].strs[1], "two");
	options_finish(&o);
}

static void wrong_types_ranges_and_names_are_refused_by_field(void **state)
{
	static const struct {
		const char *name;
		void (*write)(struct wire_buf *b);
		const char *field;
	} rows[] = {
		{"max_tokens", write_float, "max_tokens"},
		{"max_tokens", write_big, "max_tokens"},
		{"max_tokens", write_str, "max_tokens"},
		{"echo", write_int, "echo"},
		{"heat", write_int, "heat"},
		{"heat", write_str, "heat"},
		{"stop", write_str, "stop"},
		{"stop", write_three, "stop.0"},
		{"stop", write_four, "stop"},
		{"list", write_four, "list"},
		{"list", write_strs, "list.0"},
		{"bias", write_four, "bias"},
		{"bias", write_outside, "bias.100"},
		{"bias", write_padded, "bias.007"},
		{"word", write_nul, "word"},
		{"word", write_int, "word"},
		{"haet", write_int, "haet"},
		{"", write_int, ""},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct options o = begun();
		struct problem p = {0};
		if (take(&o, rows[i].name, rows[i].write, &p) == 0)
			fail_msg("row %zu was taken", i);
		assert_int_equal(p.code, WIRE_INVALID_ARGUMENT);
		assert_string_equal(p.field, rows[i].field);
		assert_true(p.text[0] != 0);
		options_finish(&o);
	}
	struct options o = begun();
	struct problem p;
	take(&o, "haet", write_int, &p);
	assert_non_null(strstr(p.text, "\"heat\""));
	options_finish(&o);
}

static void a_shared_option_reaches_every_plugin_that_declares_it_and_is_echoed_once(void **state)
{
	struct options o = begun();
	struct problem p;
	struct wire_buf b;
	assert_int_equal(take(&o, "both", write_int, &p), 0);
	assert_int_equal(o.decoder.values[3].i, 7);
	assert_int_equal(o.samplers[0].values[1].i, 7);
	assert_int_equal(options_count(&o), 4 + 1 + 3);
	wire_buf_init(&b);
	wire_map(&b, options_count(&o));
	options_write(&o, &b);
	struct wire_msg m;
	const char *why;
	size_t len;
	void *data = wire_buf_take(&b, &len);
	assert_int_equal(wire_decode(&m, data, len, &why), 0); /* also: no key twice */
	assert_non_null(wire_get(&m.root, "both"));
	assert_true(wire_is_cstr(wire_get(&m.root, "word"), "hm"));
	wire_finish(&m);
	wire_buf_finish(&b);
	free(data);
	options_finish(&o);
}

static void write_chain(struct wire_buf *b)
{
	wire_array(b, 1);
	wire_str(b, "bias");
}
static void write_decoder(struct wire_buf *b)
{
	wire_map(b, 2);
	wire_str(b, "name");
	wire_str(b, "deco");
	wire_str(b, "max_tokens");
	wire_int(b, 5);
}

static void options_of_plugins_outside_the_job_are_refused_with_the_reason(void **state)
{
	struct wire_msg chain = decoded(write_chain), deco = decoded(write_decoder);
	struct options o;
	struct problem p;
	assert_int_equal(
		options_begin(&o, &set, 100, wire_get(&deco.root, "value"), "nope", wire_get(&chain.root, "value"), true, &p), 0);
	assert_int_equal(o.n_samplers, 1);
	assert_int_equal(take(&o, "heat", write_float, &p), -1);
	assert_non_null(strstr(p.text, "not in this job's chain"));
	assert_int_equal(options_int(&o, "max_tokens", 0), 5);
	assert_int_equal(take(&o, "max_tokens", write_int, &p), -1); /* flat and in the map */
	options_finish(&o);
	assert_int_equal(options_begin(&o, &set, 100, NULL, "deco", NULL, false, &p), 0);
	assert_int_equal(o.n_samplers, 0);
	assert_int_equal(take(&o, "word", write_str, &p), -1);
	options_finish(&o);
	assert_int_equal(options_begin(&o, &set, 100, NULL, "heat", NULL, true, &p), -1); /* a sampler is no decoder */
	options_finish(&o);
	wire_finish(&chain);
	wire_finish(&deco);
}

static void stops_are_added_once_and_never_beyond_the_room(void **state)
{
	static const char *const more[] = {"two", "three", "four", "five"};
	struct options o = begun();
	struct problem p;
	take(&o, "stop", write_strs, &p);
	assert_int_equal(options_add_stops(&o, more, 4), 0);
	assert_int_equal(o.decoder.values[2].n, 3);
	assert_string_equal(o.decoder.values[2].strs[0], "one");
	assert_string_equal(o.decoder.values[2].strs[2], "three");
	options_finish(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_arrive_with_their_types),
		cmocka_unit_test(wrong_types_ranges_and_names_are_refused_by_field),
		cmocka_unit_test(a_shared_option_reaches_every_plugin_that_declares_it_and_is_echoed_once),
		cmocka_unit_test(options_of_plugins_outside_the_job_are_refused_with_the_reason),
		cmocka_unit_test(stops_are_added_once_and_never_beyond_the_room),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
