/* The table of options: parsing, units, bounds, reload; and that the manual knows every option (the sample file is
 * tests/systemd's). */
#include "unit.h"
#include "daemon/conf.h"

static struct conf fresh(void)
{
	struct conf c;
	assert_int_equal(conf_init(&c), 0);
	return c;
}

static int set(struct conf *c, const char *name, const char *value)
{
	char why[CONF_WHY] = "";
	int rc = conf_set(c, conf_find(name), value, why);
	if (rc)
		assert_non_null(strstr(why, name));
	return rc;
}

static void every_default_is_within_its_own_bounds_and_shown_as_it_is_written(void **state)
{
	struct conf c = fresh();
	for (size_t i = 0; i < conf_n_options; i++) {
		char text[512];
		assert_non_null(conf_options[i].doc);
		conf_show(&c, &conf_options[i], text, sizeof text);
		assert_int_equal(set(&c, conf_options[i].name, text), 0);
		char again[512];
		conf_show(&c, &conf_options[i], again, sizeof again);
		assert_string_equal(text, again);
	}
	conf_finish(&c);
}

static void units_are_understood_and_nonsense_is_not(void **state)
{
	struct conf c = fresh();
	static const struct {
		const char *name, *value;
		int64_t want; /* -1: refused */
	} rows[] = {
		{"drain_timeout", "90", 90000},
		{"drain_timeout", "1500ms", 1500},
		{"drain_timeout", "2 min", 120000},
		{"drain_timeout", "1h", 3600000},
		{"drain_timeout", "1d", -1},
		{"drain_timeout", "", -1},
		{"drain_timeout", "-1s", -1},
		{"drain_timeout", "99999999999999999999s", -1},
		{"drain_timeout", "9223372036854775807h", -1},
		{"drain_timeout", "1.5s", -1},
		{"drain_timeout", "5 s s", -1},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		c.drain_timeout = 7;
		assert_int_equal(set(&c, rows[i].name, rows[i].value), rows[i].want < 0 ? -1 : 0);
		assert_int_equal(c.drain_timeout, rows[i].want < 0 ? 7 : rows[i].want);
	}
	assert_int_equal(set(&c, "kv_memory", "2G"), 0);
	assert_true(c.kv_memory == (int64_t)2 << 30);
	assert_int_equal(set(&c, "kv_memory", "2X"), -1);
	assert_int_equal(set(&c, "preempt", "off"), 0);
	assert_false(c.preempt);
	assert_int_equal(set(&c, "preempt", "nope"), -1);
	assert_int_equal(set(&c, "quant", "q"), -1);
	assert_int_equal(set(&c, "quant", "none|q8"), -1);
	assert_int_equal(set(&c, "quant", ""), -1);
	assert_int_equal(set(&c, "quant", "q8"), 0);
	conf_finish(&c);
}

static const char *names_kept[64];
static size_t n_kept;

static void on_kept(const struct conf_option *o)
{
	names_kept[n_kept++] = o->name;
}

static void a_reload_takes_the_reloadable_options_and_names_the_others(void **state)
{
	struct conf c = fresh(), f = fresh();
	set(&f, "max_queue", "7");
	set(&f, "template", "alpaca");
	set(&f, "preempt", "no");
	set(&f, "threads", "3");
	set(&f, "model", "/elsewhere");
	conf_reload(&c, &f, on_kept);
	assert_int_equal(c.max_queue, 7);
	assert_string_equal(c.template, "alpaca");
	assert_false(c.preempt);
	assert_int_equal(c.threads, 0);
	assert_string_equal(c.model, "");
	assert_int_equal(n_kept, 2);
	assert_string_equal(names_kept[0], "model");
	assert_string_equal(names_kept[1], "threads");
	conf_finish(&c);
	conf_finish(&f);
}

static void a_tcp_endpoint_without_keys_must_be_asked_for_in_so_many_words(void **state)
{
	struct conf c = fresh();
	char why[CONF_WHY];
	set(&c, "model", "/m");
	assert_int_equal(conf_check(&c, why), 0);
	set(&c, "answer", "tcp://127.0.0.1:5000");
	assert_int_equal(conf_check(&c, why), EXIT_CONFIG);
	assert_non_null(strstr(why, "allow_plain_tcp"));
	set(&c, "allow_plain_tcp", "yes");
	assert_int_equal(conf_check(&c, why), 0);
	set(&c, "curve_clients", "/keys");
	assert_int_equal(conf_check(&c, why), EXIT_CONFIG); /* both: a contradiction */
	set(&c, "allow_plain_tcp", "no");
	assert_int_equal(conf_check(&c, why), 0);
	conf_finish(&c);
}

/* ---- documents ---- */

static char *read_document(const char *name)
{
	char path[1024];
	const char *top = getenv("top_srcdir");
	snprintf(path, sizeof path, "%s/%s", top ? top : ".", name);
	FILE *f = fopen(path, "r");
	if (!f)
		fail_msg("cannot open %s", path);
	char *text = calloc(1, 1 << 20);
	size_t n = fread(text, 1, (1 << 20) - 1, f);
	fclose(f);
	text[n] = 0;
	return text;
}

static void the_manual_has_every_option_with_its_default_in_its_section(void **state)
{
	char *text = read_document("daemon/weftd.conf.5");
	for (size_t i = 0; i < conf_n_options; i++) {
		const struct conf_option *o = &conf_options[i];
		char item[96], section[64];
		snprintf(section, sizeof section, "\n.Ss [%s]\n", o->section);
		snprintf(item, sizeof item, "\n.It Ic %s\n", o->name);
		char *at = strstr(text, section), *it = at ? strstr(at, item) : NULL, *next = at ? strstr(at + 1, "\n.Ss [") : NULL;
		if (!it || (next && it > next))
			fail_msg("weftd.conf.5 does not describe %s in section [%s]", o->name, o->section);
		char *end = strstr(it + 1, "\n.It "), def[256];
		if (o->def[0] && strcmp(o->name, "plugins") != 0)
			snprintf(def, sizeof def, "Default:\n.Ql %s .\n", o->def);
		else
			snprintf(def, sizeof def, "Default:\n");
		char *d = strstr(it, def);
		if (!d || (end && d > end))
			fail_msg("weftd.conf.5: %s: its default is not given as in the table: %s", o->name, def);
	}
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_default_is_within_its_own_bounds_and_shown_as_it_is_written),
		cmocka_unit_test(units_are_understood_and_nonsense_is_not),
		cmocka_unit_test(a_reload_takes_the_reloadable_options_and_names_the_others),
		cmocka_unit_test(a_tcp_endpoint_without_keys_must_be_asked_for_in_so_many_words),
		cmocka_unit_test(the_manual_has_every_option_with_its_default_in_its_section),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
