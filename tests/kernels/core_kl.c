/* core_kl.c: fast paths (bf16, q8, q4, GGUF blocks; int8 activations, f16 KV) stay close to a double-precision run of the same
 * dequantised weights. */
#include "core_double.h"
#include "gguf_model.h"

#define BOUND 1e-3	/* mean divergence in nats: what the project promises */

static void stays_close(struct core_model *m, const int32_t *tokens, uint32_t n)
{
	uint32_t vocab = core_model_info(m)->vocab;
	double *want = double_forward(m, tokens, n), sum = 0, worst = 0;
	struct core_ctx *c = new_ctx(m, NULL, 1, 16, n);
	struct core_seq *s = core_seq_new(c);

	feed(c, s, tokens, n);
	for (uint32_t i = 0; i < n; i++) {
		double kl = divergence(want + (size_t)i * vocab, core_logits(c, i), vocab);

		assert_true(isfinite(kl));
		sum += kl;
		worst = fmax(worst, kl);
	}
	print_message("%s on %s: mean divergence %.2g, worst %.2g\n", core_model_info(m)->quant, core_ctx_cpu(c), sum / n, worst);
	assert_true(sum / n <= BOUND);
	core_seq_free(c, s);
	core_ctx_free(c);
	free(want);
}

/* ---- the demo model on its own kind of text ---- */

static const char sentence[] = "A chat between a curious human and an artificial intelligence assistant. ### User: How do I wash a wool "
			       "sweater without shrinking it, and which colour goes with navy trousers? ### Assistant: Wash it cold by hand, "
			       "press the water out and dry it flat.";

static void demo_stays_close(enum core_quant quant)
{
	char path[512];
	struct core_model *m;
	int32_t *tokens;
	size_t n;

	snprintf(path, sizeof(path), "%s/tests/demo/model", getenv("top_srcdir") ? getenv("top_srcdir") : ".");
	m = load_model(path, quant);
	assert_non_null(core_model_tokenizer(m));
	must(core_tokenizer_encode(core_model_tokenizer(m), sentence, strlen(sentence), CORE_ENCODE_BOS, &tokens, &n, &why));
	stays_close(m, tokens, (uint32_t)n);
	free(tokens);
	core_model_free(m);
}

static void the_demo_model_in_bf16(void **state)
{
	demo_stays_close(CORE_QUANT_NONE);
}

static void the_demo_model_in_q8(void **state)
{
	demo_stays_close(CORE_QUANT_Q8);
}

static void the_demo_model_in_q4(void **state)
{
	demo_stays_close(CORE_QUANT_Q4);
}

/* ---- random GGUF models: two layers in which every linear has the type in question ---- */

enum { TOKENS = 40 };

static void gguf_stays_close(unsigned which, bool mixed)
{
	struct core_model *m = load_model(write_gguf(which, mixed), CORE_QUANT_NONE);
	int32_t tokens[TOKENS];

	for (int i = 0; i < TOKENS; i++)
		tokens[i] = (int32_t)(random_bits() % GGUF_VOCAB);
	stays_close(m, tokens, TOKENS);
	core_model_free(m);
}

static void gguf_models_of_every_block_type(void **state)
{
	for (unsigned i = 0; i < N_SPREADS; i++)
		gguf_stays_close(i, false);
}

static void a_gguf_model_of_all_block_types_at_once(void **state)
{
	for (unsigned i = 0; i < 3; i++)
		gguf_stays_close(i, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_demo_model_in_bf16),
		cmocka_unit_test(the_demo_model_in_q8),
		cmocka_unit_test(the_demo_model_in_q4),
		cmocka_unit_test_teardown(gguf_models_of_every_block_type, build_remove),
		cmocka_unit_test_teardown(a_gguf_model_of_all_block_types_at_once, build_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
