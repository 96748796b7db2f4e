/* adapter_golden.c: logits with adapters agree with what PEFT computed (fixtures/adapters/make_adapters.py). */
#include "adapter_test.h"

/* As for the base (core_golden.c): both sides round in f32. */
#define BOUND 1e-4

static void check(const struct core_model *m, struct core_blend *b, const char *golden)
{
	struct golden g = read_golden(golden);

	for (const char *const *cpu = cpus_here(); *cpu; cpu++) {
		struct core_ctx *c = new_ctx(m, *cpu, 1, 8, 64);
		double error = golden_error(c, b, &g), base = golden_error(c, NULL, &g);

		print_message("%s on %s: largest error %.2g of the row's largest logit; the base alone would be %.2g off\n", golden,
			      *cpu, error, base);
		assert_true(error <= BOUND);
		assert_true(base > 100 * BOUND); /* the adapter matters */
		core_ctx_free(c);
	}
	golden_free(&g);
}

/* base: a model of fixtures/golden, or a .gguf of fixtures/adapters. */
static void agrees(const char *base, const char *adapter, const char *golden)
{
	struct core_model *m = load_model(strstr(base, ".gguf") ? adapter_path(base) : golden_path(base), CORE_QUANT_NONE);
	struct core_blend *b = blend_of(m, adapter);

	check(m, b, golden);
	core_blend_unref(b);
	core_model_free(m);
}

#define CASE(id, base, adapter, golden)                                                                                            \
	static void id(void **state)                                                                                               \
	{                                                                                                                          \
		agrees(base, adapter, golden);                                                                                     \
	}
CASE(all_seven_linears, "gqa-untied", "plain", "plain")
CASE(rank_and_alpha_patterns, "gqa-untied", "patterns", "patterns")
CASE(rslora_scales, "gqa-untied", "rslora", "rslora")
CASE(query_and_value_only_from_bin, "gqa-untied", "query-value", "query-value")
CASE(all_linear_targets, "gqa-untied", "all-linear", "all-linear")
CASE(some_layers_only, "gqa-untied", "one-layer", "one-layer")
CASE(targets_by_regex, "gqa-untied", "regex", "regex")
CASE(lora_on_the_embedding, "gqa-untied", "embedding", "embedding")
CASE(lora_on_a_tied_embedding_leaves_the_head, "mha-tied", "embedding-tied", "embedding-tied")
CASE(dora, "gqa-untied", "dora", "dora")
CASE(f16_from_bin, "gqa-untied", "f16", "f16")
CASE(bf16_of_odd_rank, "gqa-untied", "bf16", "bf16")
CASE(sizes_that_no_vector_divides, "odd-sizes", "odd-sizes", "odd-sizes")
CASE(dora_with_rslora_and_patterns, "gqa-untied", "dora-patterns", "dora-patterns")
CASE(rslora_and_patterns_on_the_embedding, "gqa-untied", "embedding-rslora", "embedding-rslora")
CASE(excluded_modules, "gqa-untied", "excluded", "excluded")
CASE(one_layer_by_its_number, "gqa-untied", "layer-number", "layer-number")
CASE(dora_on_a_gguf_base, "base.gguf", "dora", "dora")
CASE(embedding_on_a_gguf_base, "base.gguf", "embedding", "embedding")
CASE(gguf_embedding_on_a_gguf_base, "base.gguf", "embedding.gguf", "embedding")
CASE(gguf_f32_undoes_the_permutation, "gqa-untied", "plain.gguf", "plain")
CASE(peft_on_a_gguf_base, "base.gguf", "plain", "plain")
CASE(gguf_on_a_gguf_base, "base.gguf", "plain.gguf", "plain")
CASE(gguf_q8_0, "gqa-untied", "plain-q8.gguf", "plain-q8")
CASE(gguf_embedding, "gqa-untied", "embedding.gguf", "embedding")
CASE(gguf_alpha_that_carries_rslora, "gqa-untied", "rslora.gguf", "rslora")

/* ---- several adapters at once ---- */

static const struct {
	const char *name;
	float scale;
} parts[] = {{"plain", 0.7f}, {"patterns", -0.4f}, {"rslora", 1.3f}, {"bf16", 0.25f}};
enum { PARTS = sizeof(parts) / sizeof(parts[0]) };

static void a_blend(const char *golden)
{
	struct core_model *m = load_model(golden_path("gqa-untied"), CORE_QUANT_NONE);
	struct core_blend_part p[PARTS];
	struct core_blend *b = NULL;

	for (int i = 0; i < PARTS; i++)
		p[i] = (struct core_blend_part){.adapter = load_adapter(m, parts[i].name), .scale = parts[i].scale};
	must(core_blend_new(&b, p, PARTS, &why));
	for (int i = 0; i < PARTS; i++)
		core_adapter_unref(p[i].adapter); /* the blend keeps them */
	check(m, b, golden);
	core_blend_unref(b);
	core_model_free(m);
}

static void four_adapters_active_in_peft(void **state)
{
	a_blend("blend");
}

static void four_adapters_merged_into_the_base(void **state)
{
	a_blend("merged");
}

static void weights_per_layer_and_linear(void **state)
{
	struct core_model *m = load_model(golden_path("gqa-untied"), CORE_QUANT_NONE);
	float w[2][2 * CORE_LINEARS];
	struct core_blend_part p[2] = {{load_adapter(m, "plain"), 0.9f, w[0]}, {load_adapter(m, "rslora"), -0.6f, w[1]}};
	struct core_blend *b = NULL;

	for (unsigned a = 0; a < 2; a++)
		for (unsigned i = 0; i < 2 * CORE_LINEARS; i++)
			w[a][i] = (float)((i + 3 * a) % 5) / 4 - 0.25f;
	must(core_blend_new(&b, p, 2, &why));
	core_adapter_unref(p[0].adapter);
	core_adapter_unref(p[1].adapter);
	memset(w, 0xff, sizeof(w)); /* they were copied */
	check(m, b, "weighted");
	core_blend_unref(b);
	core_model_free(m);
}

/* Logits of g's tokens on the base alone, in place of g's. */
static void base_alone(const struct core_model *m, struct golden *g)
{
	struct core_ctx *c = new_ctx(m, NULL, 1, 8, 64);
	struct core_seq *s = core_seq_new(c);

	feed(c, s, g->token, g->tokens);
	for (uint32_t i = 0; i < g->tokens; i++)
		memcpy(g->logits + (size_t)i * g->vocab, core_logits(c, i), g->vocab * sizeof(float));
	core_seq_free(c, s);
	core_ctx_free(c);
}

/* A quantised base is off by its own error; an adapter on f32 activations adds none of that size. */
static void a_quantised_base_is_hardly_further_off_with_an_adapter(void **state)
{
	struct core_model *exact = load_model(golden_path("gqa-untied"), CORE_QUANT_NONE);
	struct golden with = read_golden("plain"), without = read_golden("plain");

	base_alone(exact, &without);
	for (int quant = CORE_QUANT_Q8; quant <= CORE_QUANT_Q4; quant++) {
		struct core_model *m = load_model(golden_path("gqa-untied"), (enum core_quant)quant);
		struct core_blend *b = blend_of(m, "plain");
		struct core_ctx *c = new_ctx(m, NULL, 1, 8, 64);
		double error = golden_error(c, b, &with), base = golden_error(c, NULL, &without);

		print_message("%s base: off by %.2g of the row's largest logit, with the adapter %.2g\n",
			      core_quant_name((enum core_quant)quant), base, error);
		assert_true(error <= 2 * base);
		core_ctx_free(c);
		core_blend_unref(b);
		core_model_free(m);
	}
	golden_free(&with);
	golden_free(&without);
	core_model_free(exact);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_seven_linears),
		cmocka_unit_test(rank_and_alpha_patterns),
		cmocka_unit_test(rslora_scales),
		cmocka_unit_test(query_and_value_only_from_bin),
		cmocka_unit_test(all_linear_targets),
		cmocka_unit_test(some_layers_only),
		cmocka_unit_test(targets_by_regex),
		cmocka_unit_test(lora_on_the_embedding),
		cmocka_unit_test(lora_on_a_tied_embedding_leaves_the_head),
		cmocka_unit_test(dora),
		cmocka_unit_test(f16_from_bin),
		cmocka_unit_test(bf16_of_odd_rank),
		cmocka_unit_test(sizes_that_no_vector_divides),
		cmocka_unit_test(dora_with_rslora_and_patterns),
		cmocka_unit_test(rslora_and_patterns_on_the_embedding),
		cmocka_unit_test(excluded_modules),
		cmocka_unit_test(one_layer_by_its_number),
		cmocka_unit_test(dora_on_a_gguf_base),
		cmocka_unit_test(embedding_on_a_gguf_base),
		cmocka_unit_test(gguf_embedding_on_a_gguf_base),
		cmocka_unit_test(gguf_f32_undoes_the_permutation),
		cmocka_unit_test(peft_on_a_gguf_base),
		cmocka_unit_test(gguf_on_a_gguf_base),
		cmocka_unit_test(gguf_q8_0),
		cmocka_unit_test(gguf_embedding),
		cmocka_unit_test(gguf_alpha_that_carries_rslora),
		cmocka_unit_test(four_adapters_active_in_peft),
		cmocka_unit_test(four_adapters_merged_into_the_base),
		cmocka_unit_test(weights_per_layer_and_linear),
		cmocka_unit_test(a_quantised_base_is_hardly_further_off_with_an_adapter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
