/* plugin_test.c: loading plugins: what is left out and why, versions, duplicates, reloading, and the values of parameters. */
#include "config.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "daemon/plugin.h"

static char dir[] = "/tmp/weft-plugins-XXXXXX";
static char source[4200];
static char reports[16384];

static void report(void *arg, const char *text)
{
	size_t n = strlen(reports);

	snprintf(reports + n, sizeof reports - n, "%s\n", text);
}

static void path_of(char *to, size_t size, const char *name)
{
	snprintf(to, size, "%s/%s.so", dir, name);
}

/* A file of its own for each name: the dynamic linker tells files apart by inode. */
static void copy_as(const char *name)
{
	char to[4400], buf[65536];
	size_t n;

	path_of(to, sizeof to, name);
	FILE *in = fopen(source, "rb"), *out = fopen(to, "wb");
	assert_non_null(in);
	assert_non_null(out);
	while ((n = fread(buf, 1, sizeof buf, in)) > 0)
		assert_int_equal(fwrite(buf, 1, n, out), n);
	fclose(in);
	assert_int_equal(fclose(out), 0);
}

static void write_as(const char *name, const char *text)
{
	char to[4400];

	path_of(to, sizeof to, name);
	FILE *f = fopen(to, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void remove_all(void)
{
	char command[100];

	snprintf(command, sizeof command, "rm -f %s/*.so", dir);
	assert_int_equal(system(command), 0);
}

static struct plugin_set *load(void)
{
	reports[0] = '\0';
	struct plugin_set *s = plugin_set_load((const char *const[]){dir}, 1, report, NULL);
	assert_non_null(s);
	return s;
}

static int setup(void **state)
{
	const char *top = getenv("top_builddir");

	snprintf(source, sizeof source, "%s/tests/daemon/.libs/plugin_variant.so", top == NULL || top[0] == '\0' ? "." : top);
	if (access(source, R_OK) != 0)
		fail_msg("%s is not built", source);
	return mkdtemp(dir) == NULL ? -1 : 0;
}

static int teardown(void **state)
{
	remove_all();
	return rmdir(dir);
}

static int clean(void **state)
{
	remove_all();
	return 0;
}

static void a_malformed_plugin_is_left_out_with_its_reason(void **state)
{
	static const struct {
		const char *name, *reason;
	} wrong[] = {
		{"null", "weft_plugin() returned NULL"},
		{"bad_major", "built for plugin ABI 2.0, and this is 1.2"},
		{"bad_size", "struct weft_plugin has the impossible size 4"},
		{"short_size", "struct weft_plugin has the impossible size"},
		{"huge_size", "struct weft_plugin has the impossible size 1073741824"},
		{"no_name", "no valid name"},
		{"bad_name", "no valid name"},
		{"long_name", "no valid name"},
		{"same_name", "the name good is taken by"},
		{"no_doc", "a version and a doc"},
		{"neither", "a sampler or a decoder: it is neither"},
		{"both", "a sampler or a decoder: it is both"},
		{"init_fails", "init() failed with code -3: no such device"},
		{"no_apply", "create, apply and destroy"},
		{"bad_sampler_size", "struct weft_sampler has the impossible size 16"},
		{"save_alone", "both save and load"},
		{"no_plan", "create, plan, commit and destroy"},
		{"no_table", "declares 2 parameters and has no table"},
		{"many_params", "declares 1000 parameters"},
		{"param_bad_name", "parameter 1 has no valid name"},
		{"param_reserved", "parameter priority has the name of a request's own field"},
		{"param_twice", "the parameter param_twice_a twice"},
		{"param_no_doc", "param_no_doc_b has no doc"},
		{"param_type", "unknown type 99"},
		{"param_range", "two finite numbers, the smaller one first"},
		{"param_nan", "two finite numbers"},
		{"param_default", "its default is outside its range"},
		{"param_fraction", "whole numbers"},
		{"param_bool", "boolean must be 0 or 1"},
		{"param_list", "max_items must be"},
		{"param_size", "another size than the first"},
		{"param_taken", "parameter good_a is declared by good as well"},
	};
	enum { N = sizeof wrong / sizeof *wrong };
	char line[4600];

	copy_as("good");
	for (int i = 0; i < N; i++)
		copy_as(wrong[i].name);
	struct plugin_set *s = load();
	for (int i = 0; i < N; i++) {
		snprintf(line, sizeof line, "%s/%s.so: left out: ", dir, wrong[i].name);
		char *at = strstr(reports, line);
		if (at == NULL)
			fail_msg("%s was not reported:\n%s", wrong[i].name, reports);
		char *end = strchr(at, '\n');
		*end = '\0';
		if (strstr(at, wrong[i].reason) == NULL)
			fail_msg("%s; expected: %s", at, wrong[i].reason);
		*end = '\n';
	}
	assert_int_equal(s->n, 1);
	assert_string_equal(s->list[0]->desc->name, "good");
	plugin_set_unref(s);
}

static void a_file_that_is_no_plugin_is_left_out(void **state)
{
	write_as("text", "this is not a shared object");
	write_as("empty", "");
	assert_int_equal(symlink("/nowhere", strcat(strcpy((char[100]){0}, dir), "/dangling.so")), 0);
	struct plugin_set *s = load();
	assert_int_equal(s->n, 0);
	assert_non_null(strstr(reports, "text.so: left out: it cannot be opened"));
	assert_non_null(strstr(reports, "empty.so: left out: it cannot be opened"));
	assert_non_null(strstr(reports, "dangling.so: left out: it cannot be read"));
	plugin_set_unref(s);
}

/* libm exports a great deal, but no weft_plugin. */
static void a_library_without_the_symbol_is_left_out(void **state)
{
	char to[4400];
	void *libm = dlopen("libm.so.6", RTLD_NOW);
	Dl_info info;

	assert_non_null(libm);
	assert_int_not_equal(dladdr(dlsym(libm, "sin"), &info), 0);
	path_of(to, sizeof to, "library");
	assert_int_equal(symlink(info.dli_fname, to), 0);
	struct plugin_set *s = load();
	assert_int_equal(s->n, 0);
	assert_non_null(strstr(reports, "library.so: left out: it does not export weft_plugin"));
	plugin_set_unref(s);
	dlclose(libm);
}

static void a_folder_that_is_not_there_is_reported(void **state)
{
	copy_as("good");
	reports[0] = '\0';
	struct plugin_set *s = plugin_set_load((const char *const[]){"/nowhere/at/all", dir}, 2, report, NULL);
	assert_non_null(strstr(reports, "/nowhere/at/all: the folder cannot be read"));
	assert_int_equal(s->n, 1);
	plugin_set_unref(s);
}

static void structs_of_an_older_minor_are_filled_with_zeros(void **state)
{
	copy_as("older");
	struct plugin_set *s = load();
	assert_string_equal(reports, "");
	const struct weft_plugin *d = plugin_find(s, "older")->desc;
	assert_int_equal(d->size, sizeof *d);
	assert_null(d->init);
	assert_null(d->fini);
	assert_int_equal(d->n_params, 2);
	assert_string_equal(d->params[1].name, "older_b");
	assert_true(d->params[1].max == 9);
	assert_null(d->params[1].def_str);
	assert_non_null(d->sampler->destroy);
	assert_null(d->sampler->formula);
	assert_int_equal(d->params[1].shared, 0);
	plugin_set_unref(s);
}

static void structs_of_a_newer_minor_are_cut(void **state)
{
	copy_as("newer");
	struct plugin_set *s = load();
	assert_string_equal(reports, "");
	const struct weft_plugin *d = plugin_find(s, "newer")->desc;
	assert_int_equal(d->size, sizeof *d);
	assert_int_equal(d->sampler->size, sizeof *d->sampler);
	assert_int_equal(d->sampler->order, 50);
	assert_string_equal(d->params[0].name, "newer_a");
	assert_string_equal(d->params[1].name, "newer_b");
	assert_int_equal(d->params[1].size, sizeof(struct weft_param));
	plugin_set_unref(s);
}

static void a_parameter_may_be_shared_when_both_say_so_and_agree(void **state)
{
	copy_as("share_a");
	copy_as("share_b");
	copy_as("share_c");
	copy_as("share_d");
	struct plugin_set *s = load();
	assert_non_null(plugin_find(s, "share_a"));
	assert_non_null(plugin_find(s, "share_b"));
	assert_null(plugin_find(s, "share_c"));
	assert_null(plugin_find(s, "share_d"));
	assert_non_null(strstr(
		reports,
		"share_c.so: left out: its shared parameter common has another type, default or range than that of share_a"));
	assert_non_null(strstr(
		reports, "share_d.so: left out: its parameter common is declared by share_a as well, and not shared by both"));
	plugin_set_unref(s);
}

static void plugins_are_listed_by_name_with_the_digest_of_their_file(void **state)
{
	copy_as("zebra");
	copy_as("decoder_ok");
	copy_as("no_params");
	struct plugin_set *s = load();
	assert_string_equal(reports, "");
	assert_int_equal(s->n, 3);
	assert_string_equal(s->list[0]->desc->name, "decoder_ok");
	assert_string_equal(s->list[1]->desc->name, "no_params");
	assert_string_equal(s->list[2]->desc->name, "zebra");
	assert_non_null(s->list[0]->desc->decoder);
	assert_null(s->list[0]->desc->sampler);
	assert_int_equal(strlen(s->list[0]->digest), 64);
	assert_string_equal(s->list[0]->digest, s->list[2]->digest);
	assert_null(plugin_find(s, "nobody"));
	plugin_set_unref(s);
}

/* A reload opens the same files beside the old set: init() has run once, fini() waits for the last set. */
static void init_and_fini_run_once_for_all_sets_of_a_file(void **state)
{
	char path[4400];
	int (*inits)(void), (*finis)(void);

	copy_as("good");
	path_of(path, sizeof path, "good");
	void *h = dlopen(path, RTLD_NOW | RTLD_LOCAL); /* keeps its counters */
	assert_non_null(h);
	*(void **)&inits = dlsym(h, "variant_inits");
	*(void **)&finis = dlsym(h, "variant_finis");
	struct plugin_set *old = load();
	struct plugin_set *new = load();
	assert_string_equal(reports, "");
	assert_int_equal(inits(), 1);
	plugin_set_ref(old);
	plugin_set_unref(old);
	plugin_set_unref(old);
	assert_int_equal(finis(), 0);
	plugin_set_unref(new);
	assert_int_equal(finis(), 1);
	struct plugin_set *again = load();
	assert_int_equal(inits(), 2);
	plugin_set_unref(again);
	assert_int_equal(finis(), 2);
	dlclose(h);
}

static void arguments_begin_as_the_defaults_and_copy_what_is_set(void **state)
{
	static const struct weft_param params[] = {
		{.size = sizeof(struct weft_param), .type = WEFT_INT, .name = "i", .doc = "i", .def = 4, .max = 9},
		{.size = sizeof(struct weft_param), .type = WEFT_FLOAT, .name = "f", .doc = "f", .def = 0.5, .max = 1},
		{.size = sizeof(struct weft_param), .type = WEFT_STRING, .name = "s", .doc = "s", .def_str = "hat"},
		{.size = sizeof(struct weft_param), .type = WEFT_STRING, .name = "e", .doc = "e"},
		{.size = sizeof(struct weft_param), .type = WEFT_STRING_LIST, .name = "l", .doc = "l", .max_items = 3},
		{.size = sizeof(struct weft_param), .type = WEFT_INT_LIST, .name = "n", .doc = "n", .max_items = 3},
		{.size = sizeof(struct weft_param), .type = WEFT_TOKEN_MAP, .name = "m", .doc = "m", .max_items = 3},
	};
	struct weft_plugin desc = {.params = params, .n_params = 7};
	struct plugin p = {.desc = &desc};
	struct plugin_args a;
	char word[] = "coat";
	const char *words[2] = {word, "shoe"};
	int64_t ints[2] = {7, 8};
	double floats[2] = {0.25, -1};

	assert_int_equal(plugin_args_init(&a, &p), 0);
	assert_int_equal(a.values[0].i, 4);
	assert_true(a.values[1].f == 0.5);
	assert_string_equal(a.values[2].str, "hat");
	assert_string_equal(a.values[3].str, "");
	for (int i = 0; i < 7; i++)
		assert_int_equal(a.values[i].set, 0);
	assert_int_equal(a.values[4].n, 0);
	plugin_args_set_number(&a, 0, 6, 6);
	assert_int_equal(plugin_args_set_string(&a, 2, "scarf and more", 5), 0);
	for (int twice = 0; twice < 2; twice++) {
		assert_int_equal(plugin_args_set_strings(&a, 4, words, 2), 0);
		assert_int_equal(plugin_args_set_ints(&a, 5, ints, 2), 0);
		assert_int_equal(plugin_args_set_map(&a, 6, ints, floats, 2), 0);
	}
	word[0] = 'g';
	ints[0] = 0;
	floats[0] = 0;
	assert_int_equal(a.values[0].i, 6);
	assert_int_equal(a.values[0].set, 1);
	assert_string_equal(a.values[2].str, "scarf");
	assert_int_equal(a.values[4].n, 2);
	assert_string_equal(a.values[4].strs[0], "coat");
	assert_int_equal(a.values[5].ints[0], 7);
	assert_int_equal(a.values[6].ints[0], 7);
	assert_true(a.values[6].floats[0] == 0.25);
	assert_int_equal(plugin_args_set_ints(&a, 5, NULL, 0), 0);
	assert_int_equal(a.values[5].n, 0);
	assert_int_equal(plugin_param_index(&p, "m"), 6);
	assert_int_equal(plugin_param_index(&p, "x"), -1);
	plugin_args_finish(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(a_malformed_plugin_is_left_out_with_its_reason, clean),
		cmocka_unit_test_teardown(a_file_that_is_no_plugin_is_left_out, clean),
		cmocka_unit_test_teardown(a_library_without_the_symbol_is_left_out, clean),
		cmocka_unit_test_teardown(a_folder_that_is_not_there_is_reported, clean),
		cmocka_unit_test_teardown(structs_of_an_older_minor_are_filled_with_zeros, clean),
		cmocka_unit_test_teardown(structs_of_a_newer_minor_are_cut, clean),
		cmocka_unit_test_teardown(a_parameter_may_be_shared_when_both_say_so_and_agree, clean),
		cmocka_unit_test_teardown(plugins_are_listed_by_name_with_the_digest_of_their_file, clean),
		cmocka_unit_test_teardown(init_and_fini_run_once_for_all_sets_of_a_file, clean),
		cmocka_unit_test(arguments_begin_as_the_defaults_and_copy_what_is_set),
	};
	return cmocka_run_group_tests_name("plugins", tests, setup, teardown);
}
