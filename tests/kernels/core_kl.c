/* core_kl.c: fast paths (bf16, q8, q4, GGUF blocks; int8 activations, f16 KV) stay close to a double-precision run of the same
 * dequantised weights. */
#include <jansson.h>

#include "core_double.h"
#include "gguf_model.h"

#define BOUND 1e-3	/* mean divergence in nats: what the project promises */

struct tally {
	double sum, worst;
	uint32_t n;
};

static void measure(struct tally *t, const struct core_model *m, const int32_t *tokens, uint32_t n)
{
	uint32_t vocab = core_model_info(m)->vocab;
	double *want = double_forward(m, tokens, n);
	struct core_ctx *c = new_ctx(m, NULL, 1, n / CORE_PAGE + 1, n);
	struct core_seq *s = core_seq_new(c);

	feed(c, s, tokens, n);
	for (uint32_t i = 0; i < n; i++) {
		double kl = divergence(want + (size_t)i * vocab, core_logits(c, i), vocab);

		assert_true(isfinite(kl));
		t->sum += kl;
		t->worst = fmax(t->worst, kl);
	}
	t->n += n;
	core_seq_free(c, s);
	core_ctx_free(c);
	free(want);
}

static void stays_close(const struct core_model *m, const struct tally *t)
{
	print_message("%s: mean divergence %.2g, worst %.2g, %u tokens\n", core_model_info(m)->quant, t->sum / t->n, t->worst,
		      t->n);
	assert_true(t->sum / t->n <= BOUND);
}

/* ---- the demo model on conversations that it was not trained on ---- */

enum { CONVERSATIONS = 12 };

/* FashionGPT's template, with the answer. The caller frees it. */
static char *conversation_text(const json_t *line)
{
	const json_t *message;
	char *text = NULL;
	size_t size, i;
	FILE *f = open_memstream(&text, &size);

	json_array_foreach(json_object_get(line, "messages"), i, message) {
		const char *role = json_string_value(json_object_get(message, "role"));

		fprintf(f, "### %s:\n%s\n", !strcmp(role, "system") ? "System" : !strcmp(role, "user") ? "User" : "Assistant",
			json_string_value(json_object_get(message, "content")));
	}
	fprintf(f, "### Assistant:\n%s", json_string_value(json_object_get(line, "answer")));
	fclose(f);
	return text;
}

static void demo_stays_close(enum core_quant quant)
{
	const char *top = getenv("top_srcdir") ? getenv("top_srcdir") : ".";
	struct tally tally = { 0 };
	struct core_model *m;
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/tests/demo/model", top);
	m = load_model(path, quant);
	assert_non_null(core_model_tokenizer(m));
	snprintf(path, sizeof(path), "%s/tests/demo/heldout/base.jsonl", top);
	f = fopen(path, "r");
	assert_non_null(f);
	for (int i = 0; i < CONVERSATIONS; i++) {
		json_t *line = json_loadf(f, JSON_DISABLE_EOF_CHECK, NULL);
		char *text = conversation_text(line);
		int32_t *tokens;
		size_t n;

		must(core_tokenizer_encode(core_model_tokenizer(m), text, strlen(text), CORE_ENCODE_BOS, &tokens, &n, &why));
		measure(&tally, m, tokens, (uint32_t)n);
		free(tokens);
		free(text);
		json_decref(line);
	}
	fclose(f);
	stays_close(m, &tally);
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
	struct tally tally = { 0 };
	int32_t tokens[TOKENS];

	for (int i = 0; i < TOKENS; i++)
		tokens[i] = (int32_t)(random_bits() % GGUF_VOCAB);
	measure(&tally, m, tokens, TOKENS);
	stays_close(m, &tally);
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
