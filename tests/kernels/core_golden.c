/* core_golden.c: logits of tiny f32 models agree with what transformers computed (fixtures/golden/make_golden.py). */
#include "core_test.h"

/* Both sides round in f32, in different orders: about 1e-6 of the row's largest logit after two layers. 1e-4 is the promise. */
#define BOUND 1e-4

struct golden {
	uint32_t tokens, vocab;
	int32_t *token;
	float *logits;
};

static struct golden read_golden(const char *name)
{
	char path[600];
	struct golden g;
	FILE *f;

	snprintf(path, sizeof(path), "%s/golden.bin", golden_path(name));
	f = fopen(path, "rb");
	assert_non_null(f);
	assert_int_equal(fread(&g, 4, 2, f), 2);
	g.token = malloc(g.tokens * sizeof(*g.token));
	g.logits = malloc((size_t)g.tokens * g.vocab * sizeof(*g.logits));
	assert_int_equal(fread(g.token, sizeof(*g.token), g.tokens, f), g.tokens);
	assert_int_equal(fread(g.logits, sizeof(*g.logits), (size_t)g.tokens * g.vocab, f), (size_t)g.tokens * g.vocab);
	fclose(f);
	return g;
}

static double compare_row(const float *got, const float *want, uint32_t n)
{
	double top = 0, error = 0;

	for (uint32_t k = 0; k < n; k++) {
		top = fmax(top, fabs(want[k]));
		error = fmax(error, isnan(got[k]) ? INFINITY : fabs((double)got[k] - want[k]));
	}
	return error / top;
}

static void agrees(const char *name)
{
	struct golden g = read_golden(name);
	struct core_model *m = load_model(golden_path(name), CORE_QUANT_NONE);

	assert_string_equal(core_model_info(m)->quant, "none(f32)");
	assert_int_equal(core_model_info(m)->vocab, g.vocab);
	for (const char *const *cpu = cpus_here(); *cpu; cpu++) {
		struct core_ctx *c = new_ctx(m, *cpu, 1, 8, 64);
		struct core_seq *s = core_seq_new(c);
		double worst = 0;

		feed(c, s, g.token, g.tokens);
		for (uint32_t i = 0; i < g.tokens; i++)
			worst = fmax(worst, compare_row(core_logits(c, i), g.logits + (size_t)i * g.vocab, g.vocab));
		print_message("%s on %s: largest error %.2g of the row's largest logit\n", name, *cpu, worst);
		assert_true(worst <= BOUND);
		core_seq_free(c, s);
		core_ctx_free(c);
	}
	core_model_free(m);
	free(g.token);
	free(g.logits);
}

#define CASE(id, name)                                                                                                             \
	static void id(void **state)                                                                                               \
	{                                                                                                                          \
		agrees(name);                                                                                                      \
	}
CASE(grouped_heads_with_an_untied_head, "gqa-untied")
CASE(one_kv_head_per_head_with_a_tied_head, "mha-tied")
CASE(sizes_that_no_vector_divides, "odd-sizes")
CASE(rope_scaling_linear, "rope-linear")
CASE(rope_scaling_llama3_beyond_the_original_context, "rope-llama3")
CASE(rope_scaling_yarn_beyond_the_original_context, "rope-yarn")

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(grouped_heads_with_an_untied_head),
		cmocka_unit_test(one_kv_head_per_head_with_a_tied_head),
		cmocka_unit_test(sizes_that_no_vector_divides),
		cmocka_unit_test(rope_scaling_linear),
		cmocka_unit_test(rope_scaling_llama3_beyond_the_original_context),
		cmocka_unit_test(rope_scaling_yarn_beyond_the_original_context),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
