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

/* $top_srcdir/tests/demo/NAME, one of four buffers. */
static const char *demo_path(const char *name)
{
	static char paths[4][512];
	static unsigned next;
	const char *top = getenv("top_srcdir") ? getenv("top_srcdir") : ".";
	char *p = paths[next++ % 4];

	snprintf(p, sizeof(paths[0]), "%s/tests/demo/%s", top, name);
	return p;
}

/* The next conversation of a file, as tokens. The caller frees them. */
static int32_t *next_conversation(FILE *f, const struct core_model *m, size_t *n)
{
	json_t *line = json_loadf(f, JSON_DISABLE_EOF_CHECK, NULL);
	char *text = conversation_text(line);
	int32_t *tokens;

	must(core_tokenizer_encode(core_model_tokenizer(m), text, strlen(text), CORE_ENCODE_BOS, &tokens, n, &why));
	free(text);
	json_decref(line);
	return tokens;
}

static void demo_stays_close(enum core_quant quant)
{
	struct tally tally = { 0 };
	struct core_model *m = load_model(demo_path("model"), quant);
	FILE *f = fopen(demo_path("heldout/base.jsonl"), "r");

	assert_non_null(core_model_tokenizer(m));
	assert_non_null(f);
	for (int i = 0; i < CONVERSATIONS; i++) {
		size_t n;
		int32_t *tokens = next_conversation(f, m, &n);

		measure(&tally, m, tokens, (uint32_t)n);
		free(tokens);
	}
	fclose(f);
	stays_close(m, &tally);
	core_model_free(m);
}

/* ---- factors of adapters in 8 bits ---- */

/* A model with both demo adapters at full scale, more than either was trained for. */
struct woven {
	struct core_model *m;
	struct core_blend *b;
	enum core_kv_type kv;
};

static struct woven weave_demo(enum core_quant quant, enum core_factors factors)
{
	static const char *const names[] = { "adapters/tailor", "adapters/orderline" };
	struct woven w = { .m = load_model_with(demo_path("model"), quant, factors) };
	struct core_blend_part p[2] = { { .scale = 1 }, { .scale = 1 } };

	for (int i = 0; i < 2; i++) {
		must(core_adapter_load(&p[i].adapter, w.m, demo_path(names[i]), &why));
		assert_int_equal(core_adapter_info(p[i].adapter)->exact, factors == CORE_FACTORS_EXACT);
	}
	must(core_blend_new(&w.b, p, 2, &why));
	for (int i = 0; i < 2; i++)
		core_adapter_unref(p[i].adapter);
	return w;
}

static void unweave(struct woven *w)
{
	core_blend_unref(w->b);
	core_model_free(w->m);
}

/* [n][vocab]; the caller frees it. All tokens as generated ones: AMX's tiles do not round to 8 bits what prompts multiply an integer base by. */
static double *woven_logits(const struct woven *w, const int32_t *tokens, uint32_t n)
{
	struct core_ctx_params p = { .model = w->m, .threads = 1, .kv_pages = n / CORE_PAGE + 1, .max_rows = n, .kv_type = w->kv };
	uint32_t vocab = core_model_info(w->m)->vocab;
	double *out = malloc((size_t)n * vocab * sizeof(*out));
	struct core_row *rows = malloc(n * sizeof(*rows));
	struct core_ctx *c = NULL;
	struct core_seq *s;

	must(core_ctx_new(&c, &p, &why));
	s = core_seq_new(c);
	must(core_seq_set_blend(c, s, w->b));
	for (uint32_t i = 0; i < n; i++)
		rows[i] = (struct core_row){ s, tokens[i], CORE_GENERATED, true };
	must(core_forward(c, rows, n, &why));
	free(rows);
	for (uint32_t i = 0; i < n; i++)
		for (uint32_t k = 0; k < vocab; k++)
			out[(size_t)i * vocab + k] = core_logits(c, i)[k];
	core_seq_free(c, s);
	core_ctx_free(c);
	return out;
}

/* Mean divergence of b from a over held-out conversations. */
static double between(const struct woven *a, const struct woven *b, const char *conversations)
{
	uint32_t vocab = core_model_info(a->m)->vocab, rows = 0;
	FILE *f = fopen(demo_path(conversations), "r");
	double sum = 0;

	assert_non_null(f);
	for (int i = 0; i < CONVERSATIONS; i++) {
		size_t n;
		int32_t *tokens = next_conversation(f, a->m, &n);
		double *x = woven_logits(a, tokens, (uint32_t)n), *y = woven_logits(b, tokens, (uint32_t)n);
		float *got = malloc(vocab * sizeof(*got));

		for (size_t r = 0; r < n; r++, rows++) {
			for (uint32_t k = 0; k < vocab; k++)
				got[k] = (float)y[r * vocab + k];
			sum += divergence(x + r * vocab, got, vocab);
		}
		free(got);
		free(x);
		free(y);
		free(tokens);
	}
	fclose(f);
	return sum / rows;
}

static void factors_of_8_bits_diverge_less_than_the_base_that_they_are_the_default_for(void **state)
{
	struct woven bf16 = weave_demo(CORE_QUANT_NONE, CORE_FACTORS_EXACT), bf16_small = weave_demo(CORE_QUANT_NONE, CORE_FACTORS_Q8),
		     q8 = weave_demo(CORE_QUANT_Q8, CORE_FACTORS_EXACT), q8_small = weave_demo(CORE_QUANT_Q8, CORE_FACTORS_Q8);
	static const char tailor[] = "heldout/tailor.jsonl";
	double base = between(&bf16, &q8, tailor), factors = between(&bf16, &bf16_small, tailor), both = between(&q8, &q8_small, tailor);

	print_message("8 bits: of the base %.2g nats, of the factors %.2g beside bf16, %.2g beside q8\n", base, factors, both);
	assert_true(factors > 0 && both > 0);
	assert_true(factors <= base / 10);
	assert_true(both <= base);	/* any small change turns some activations of an int8 base to their next code */
	assert_string_not_equal(core_blend_digest(bf16.b), core_blend_digest(bf16_small.b));
	unweave(&bf16);
	unweave(&bf16_small);
	unweave(&q8);
	unweave(&q8_small);
}

/* What rounding the weights costs (what rounding activations costs is measured above, and is in it). */
static void what_each_format_costs_against_the_file(void **state)
{
	static const enum core_quant quants[] = { CORE_QUANT_Q8, CORE_QUANT_Q4, CORE_QUANT_NF4 };
	struct woven bf16 = { .m = load_model(demo_path("model"), CORE_QUANT_NONE) };
	double kl[3];

	for (int i = 0; i < 3; i++) {
		struct woven w = { .m = load_model(demo_path("model"), quants[i]) };

		kl[i] = between(&bf16, &w, "heldout/base.jsonl");
		print_message("%s: %.2g nats from bf16\n", core_quant_name(quants[i]), kl[i]);
		unweave(&w);
	}
	unweave(&bf16);
	assert_true(kl[0] < kl[1] && kl[0] < kl[2]);
	assert_true(kl[2] < 2 * kl[1]);
}

/* ---- keys and values in 8 bits ---- */

/* Mean of -log of the next token's probability, in nats. */
static double surprise(const struct woven *w, const char *conversations)
{
	uint32_t vocab = core_model_info(w->m)->vocab, rows = 0;
	FILE *f = fopen(demo_path(conversations), "r");
	double total = 0;

	assert_non_null(f);
	for (int i = 0; i < CONVERSATIONS; i++) {
		size_t n;
		int32_t *tokens = next_conversation(f, w->m, &n);
		double *logits = woven_logits(w, tokens, (uint32_t)n);

		for (size_t r = 0; r + 1 < n; r++, rows++) {
			const double *x = logits + r * vocab;
			double sum = 0;

			for (uint32_t k = 0; k < vocab; k++)
				sum += exp(x[k] - x[tokens[r + 1]]);
			total += log(sum);
		}
		free(logits);
		free(tokens);
	}
	fclose(f);
	return total / rows;
}

static void keys_and_values_of_8_bits_diverge_less_than_a_q8_base(void **state)
{
	struct woven exact = { load_model(demo_path("model"), CORE_QUANT_NONE), NULL, CORE_KV_F16 },
		     q8 = { load_model(demo_path("model"), CORE_QUANT_Q8), NULL, CORE_KV_F16 }, kv = exact, both = q8;
	double kl_q8, kl_kv, kl_both, before = surprise(&exact, "heldout/base.jsonl"), after;

	kv.kv = both.kv = CORE_KV_INT8;
	kl_q8 = between(&exact, &q8, "heldout/base.jsonl");
	kl_kv = between(&exact, &kv, "heldout/base.jsonl");
	kl_both = between(&exact, &both, "heldout/base.jsonl");
	after = surprise(&kv, "heldout/base.jsonl");
	print_message("8 bits: of the base %.2g nats, of KV %.2g, of both %.2g; surprise by the text %.4f, with KV of 8 bits %.4f\n", kl_q8,
		      kl_kv, kl_both, before, after);
	assert_true(kl_kv > 0 && kl_kv <= kl_q8 / 4);
	assert_true(kl_both <= 1.5 * kl_q8);
	assert_true(fabs(after - before) <= 1e-3);
	unweave(&exact);
	unweave(&q8);
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

static void the_demo_model_in_nf4(void **state)
{
	demo_stays_close(CORE_QUANT_NF4);
}

static void a_model_that_bitsandbytes_saved(void **state)
{
	struct core_model *m = load_model(golden_path("../nf4/model"), CORE_QUANT_NONE);
	struct tally tally = { 0 };
	int32_t tokens[48];

	for (int i = 0; i < 48; i++)
		tokens[i] = (i * 29 + i * i) % 48;
	measure(&tally, m, tokens, 48);
	stays_close(m, &tally);
	core_model_free(m);
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
		cmocka_unit_test(the_demo_model_in_nf4),
		cmocka_unit_test(a_model_that_bitsandbytes_saved),
		cmocka_unit_test(what_each_format_costs_against_the_file),
		cmocka_unit_test(factors_of_8_bits_diverge_less_than_the_base_that_they_are_the_default_for),
		cmocka_unit_test(keys_and_values_of_8_bits_diverge_less_than_a_q8_base),
		cmocka_unit_test_teardown(gguf_models_of_every_block_type, build_remove),
		cmocka_unit_test_teardown(a_gguf_model_of_all_block_types_at_once, build_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
