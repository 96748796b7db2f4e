/* core_kv.c: pages are shared by forks, copied on write, given back, and never leak; a refused pass changes nothing. */
#include "core_test.h"
#include "kernels/llama.h"

struct bench {
	struct core_model *m;
	struct core_ctx *c;
};

static const int32_t text[40] = { 5, 9, 1, 33, 17, 2, 8, 60, 41, 7, 13, 22, 3, 3, 50, 12, 6, 66, 0, 19,
				  28, 31, 44, 4, 15, 9, 9, 10, 53, 62, 11, 25, 37, 48, 59, 64, 20, 30, 40, 50 };

static int setup(void **state)
{
	static struct bench b;

	b.m = load_model(golden_path("gqa-untied"), CORE_QUANT_NONE);
	b.c = new_ctx(b.m, NULL, 1, 6, 64);
	b.c->kv.poison = true;
	*state = &b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	assert_int_equal(core_ctx_pages_free(b->c), core_ctx_pages_total(b->c));	/* nothing leaked */
	core_ctx_free(b->c);
	core_model_free(b->m);
	return 0;
}

static void a_sequence_takes_a_page_per_sixteen_tokens_and_gives_them_back(void **state)
{
	struct core_ctx *c = ((struct bench *)*state)->c;
	struct core_seq *s = core_seq_new(c);

	assert_int_equal(core_seq_pages_needed(c, s, 0), 0);
	assert_int_equal(core_seq_pages_needed(c, s, 16), 1);
	assert_int_equal(core_seq_pages_needed(c, s, 17), 2);
	feed(c, s, text, 33);
	assert_int_equal(core_seq_len(s), 33);
	assert_int_equal(core_ctx_pages_free(c), 3);
	assert_int_equal(core_seq_pages_needed(c, s, 15), 0);
	assert_int_equal(core_seq_trim(c, s, 34), CORE_EINVAL);
	must(core_seq_trim(c, s, 32));
	assert_int_equal(core_ctx_pages_free(c), 4);
	must(core_seq_trim(c, s, 0));
	assert_int_equal(core_ctx_pages_free(c), 6);
	core_seq_free(c, s);
}

static void forks_share_pages_and_copy_the_one_they_write(void **state)
{
	struct core_ctx *c = ((struct bench *)*state)->c;
	struct core_seq *a = core_seq_new(c), *b, *d;

	feed(c, a, text, 20);
	b = core_seq_fork(c, a);
	d = core_seq_fork(c, a);
	assert_int_equal(core_ctx_pages_free(c), 4);	/* all three on two pages */
	assert_int_equal(core_seq_pages_needed(c, b, 1), 1);
	feed(c, b, text + 20, 1);
	assert_int_equal(core_ctx_pages_free(c), 3);
	assert_int_equal(core_seq_pages_needed(c, b, 1), 0);	/* its own by now */
	feed(c, d, text + 21, 1);
	assert_int_equal(core_seq_pages_needed(c, a, 1), 0);	/* the last holder writes in place */
	core_seq_free(c, b);
	core_seq_free(c, d);
	assert_int_equal(core_ctx_pages_free(c), 4);
	feed(c, a, text + 20, 1);
	assert_int_equal(core_ctx_pages_free(c), 4);
	core_seq_free(c, a);
}

static void a_fork_on_a_page_boundary_needs_no_copy(void **state)
{
	struct core_ctx *c = ((struct bench *)*state)->c;
	struct core_seq *a = core_seq_new(c), *b;

	feed(c, a, text, 16);
	b = core_seq_fork(c, a);
	assert_int_equal(core_seq_pages_needed(c, b, 1), 1);
	feed(c, b, text, 1);
	assert_int_equal(core_ctx_pages_free(c), 4);
	core_seq_free(c, a);
	core_seq_free(c, b);
}

/* Both forks of one partly filled page in one pass: the first copies, the second keeps the original. */
static void forks_written_in_one_pass_do_not_see_each_other(void **state)
{
	struct core_ctx *c = ((struct bench *)*state)->c;
	struct core_seq *a = core_seq_new(c), *b, *alone = core_seq_new(c);
	uint32_t vocab = core_model_info(((struct bench *)*state)->m)->vocab;
	float *want = malloc(vocab * sizeof(float));

	feed(c, alone, text, 21);
	memcpy(want, core_logits(c, 20), vocab * sizeof(float));
	core_seq_free(c, alone);
	feed(c, a, text, 20);
	b = core_seq_fork(c, a);
	{
		struct core_row rows[] = {
			{b, 63, CORE_GENERATED, true}, {a, text[20], CORE_GENERATED, true}, {b, 62, CORE_GENERATED, true}};

		must(core_forward(c, rows, 3, &why));
	}
	assert_memory_equal(core_logits(c, 1), want, vocab * sizeof(float));
	assert_int_equal(core_seq_len(b), 22);
	core_seq_free(c, a);
	core_seq_free(c, b);
	free(want);
}

static void a_pass_that_does_not_fit_changes_no_sequence(void **state)
{
	struct core_ctx *c = ((struct bench *)*state)->c;
	struct core_seq *a = core_seq_new(c), *b, *d = core_seq_new(c);
	struct core_row rows[64];
	uint32_t n = 0, before;

	feed(c, a, text, 20);
	b = core_seq_fork(c, a);
	before = core_ctx_pages_free(c);	/* 4: the copy for b, then 4 pages for d would be 5 */
	rows[n++] = (struct core_row){ b, 1, CORE_PROMPT, true };
	for (; n < 51; n++)
		rows[n] = (struct core_row){ d, 1, CORE_PROMPT, true };
	assert_int_equal(core_forward(c, rows, n, &why), CORE_ENOMEM);
	assert_int_equal(core_ctx_pages_free(c), before);
	assert_int_equal(core_seq_len(a) + core_seq_len(b) + core_seq_len(d), 40);
	assert_int_equal(core_seq_pages_needed(c, b, 1), 1);	/* still shared */
	assert_null(core_logits(c, 0));
	must(core_forward(c, rows, 40, &why));
	core_seq_free(c, a);
	core_seq_free(c, b);
	core_seq_free(c, d);
}

static void bad_rows_are_refused_by_number_and_change_nothing(void **state)
{
	struct core_ctx *c = ((struct bench *)*state)->c;
	struct core_seq *a = core_seq_new(c);
	struct core_row rows[65];

	for (int i = 0; i < 65; i++)
		rows[i] = (struct core_row){ a, 1, CORE_PROMPT, false };
	assert_int_equal(core_forward(c, rows, 0, &why), CORE_EINVAL);
	assert_int_equal(core_forward(c, rows, 65, &why), CORE_EINVAL);
	rows[7].token = 67;
	assert_int_equal(core_forward(c, rows, 8, &why), CORE_EINVAL);
	assert_non_null(strstr(why.text, "row 7"));
	rows[7].token = -1;
	assert_int_equal(core_forward(c, rows, 8, &why), CORE_EINVAL);
	rows[7].token = 1;
	must(core_forward(c, rows, 64, &why));
	assert_int_equal(core_forward(c, rows, 1, &why), CORE_EINVAL);	/* the context is 64 */
	assert_non_null(strstr(why.text, "context"));
	assert_int_equal(core_seq_len(a), 64);
	core_seq_free(c, a);
}

static void impossible_engines_are_refused(void **state)
{
	struct core_model *m = ((struct bench *)*state)->m;
	struct core_ctx *c = NULL;
	struct core_ctx_params p = { .model = m, .threads = -1, .kv_pages = 4, .max_rows = 4 };

	assert_int_equal(core_ctx_new(&c, &p, &why), CORE_EINVAL);
	p.threads = 1;
	p.kv_pages = 0;
	assert_int_equal(core_ctx_new(&c, &p, &why), CORE_EINVAL);
	p.kv_pages = 4;
	p.max_rows = 0;
	assert_int_equal(core_ctx_new(&c, &p, &why), CORE_EINVAL);
	p.max_rows = 4;
	setenv("WEFT_CPU", "amx", 1);
	if (core_ctx_new(&c, &p, &why) != CORE_OK) {
		assert_int_equal(why.code, CORE_EUNSUPPORTED);
		assert_non_null(strstr(why.text, "amx"));
	}
	core_ctx_free(c);
	c = NULL;
	setenv("WEFT_CPU", "sse9", 1);
	assert_int_equal(core_ctx_new(&c, &p, &why), CORE_EUNSUPPORTED);
	unsetenv("WEFT_CPU");
	assert_null(c);
}

static void keys_and_values_have_the_kind_that_was_asked_for(void **state)
{
	static const char *const names[] = { "auto", "f16", "f32", "int8" };
	struct core_model *m = ((struct bench *)*state)->m;	/* of f32 weights */
	const struct core_model_info *i = core_model_info(m);
	uint64_t heads = i->layers * i->kv_heads, values = heads * CORE_PAGE * (i->head_dim + (i->head_dim + 15) / 16 * 16);
	enum core_kv_type kv;

	for (int k = 0; k < 4; k++) {
		struct core_ctx_params p = { .model = m, .threads = 1, .kv_pages = 4, .max_rows = 4 };
		struct core_ctx *c = NULL;

		assert_int_equal(core_kv_type_parse(names[k], &p.kv_type), CORE_OK);
		assert_string_equal(core_kv_type_name(p.kv_type), names[k]);
		must(core_ctx_new(&c, &p, &why));
		assert_int_equal(core_ctx_kv_type(c), k ? p.kv_type : CORE_KV_F32);
		assert_int_equal(c->kv.page_bytes, core_kv_page_bytes(m, p.kv_type));
		core_ctx_free(c);
	}
	assert_int_equal(core_kv_type_parse("q8", &kv), CORE_EINVAL);
	assert_int_equal(core_kv_page_bytes(m, CORE_KV_F32), 4 * values);
	assert_int_equal(core_kv_page_bytes(m, CORE_KV_F16), 2 * values);
	assert_int_equal(core_kv_page_bytes(m, CORE_KV_INT8), values + heads * 2 * CORE_PAGE * sizeof(float));
}

static void a_device_refuses_keys_and_values_that_it_has_not(void **state)
{
	struct core_ctx_params p = { .model = ((struct bench *)*state)->m, .kv_pages = 4, .max_rows = 4, .device = "cuda:0" };
	struct core_ctx *c = NULL;

	p.kv_type = CORE_KV_F32;
	assert_int_equal(core_ctx_new(&c, &p, &why), CORE_EUNSUPPORTED);
	assert_string_equal(why.text, "cuda:0: keys and values in f32 are for the CPU: this device has f16 and int8");
	assert_null(c);
}

static void the_forced_instruction_set_is_the_one_that_runs(void **state)
{
	struct core_model *m = ((struct bench *)*state)->m;

	for (const char *const *cpu = cpus_here(); *cpu; cpu++) {
		struct core_ctx *c = new_ctx(m, *cpu, 1, 4, 4);

		assert_string_equal(core_ctx_cpu(c), *cpu);
		assert_int_equal(core_ctx_threads(c), 1);
		core_ctx_free(c);
	}
	unsetenv("WEFT_CPU");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_sequence_takes_a_page_per_sixteen_tokens_and_gives_them_back, setup, teardown),
		cmocka_unit_test_setup_teardown(forks_share_pages_and_copy_the_one_they_write, setup, teardown),
		cmocka_unit_test_setup_teardown(a_fork_on_a_page_boundary_needs_no_copy, setup, teardown),
		cmocka_unit_test_setup_teardown(forks_written_in_one_pass_do_not_see_each_other, setup, teardown),
		cmocka_unit_test_setup_teardown(a_pass_that_does_not_fit_changes_no_sequence, setup, teardown),
		cmocka_unit_test_setup_teardown(bad_rows_are_refused_by_number_and_change_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(impossible_engines_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(keys_and_values_have_the_kind_that_was_asked_for, setup, teardown),
		cmocka_unit_test_setup_teardown(a_device_refuses_keys_and_values_that_it_has_not, setup, teardown),
		cmocka_unit_test_setup_teardown(the_forced_instruction_set_is_the_one_that_runs, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
