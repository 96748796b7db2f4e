/* core_p1.c: promise P1. The logits of a row are the same bytes alone, among neighbours, with any chunking of the prompt, after
 * trims and forks, on any number of threads, and on every instruction set of this machine. */
#include "core_test.h"
#include "gguf_model.h"
#include "kernels/llama.h"

enum { LENGTH = 70, PAGES = 256, ROWS = 80, CONTEXT = 512 };	/* longer than some of the models were made for: fine for bytes */

struct story {
	struct core_model *m;
	enum core_kv_type kv;
	uint32_t vocab;
	int32_t token[LENGTH];
	float *want;		/* [LENGTH][vocab]: fed one by one, alone, one thread */
};

static void expect(const struct story *t, const struct core_ctx *c, uint32_t got, uint32_t position, const char *how)
{
	const float *a = core_logits(c, got), *b = t->want + (size_t)position * t->vocab;

	assert_non_null(a);
	if (memcmp(a, b, t->vocab * sizeof(float)))
		for (uint32_t k = 0; k < t->vocab; k++)
			if (memcmp(&a[k], &b[k], sizeof(float)))
				fail_msg("%s (%s, %d threads, %s): position %u, token %u: %a, alone it was %a",
					 core_model_info(t->m)->quant, core_ctx_cpu(c), core_ctx_threads(c), how, position, k, a[k],
					 b[k]);
}

static struct core_ctx *engine(const struct story *t, const char *cpu, int threads)
{
	struct core_ctx_params p = {.model = t->m, .threads = threads, .kv_pages = PAGES, .max_rows = ROWS, .max_context = CONTEXT,
				    .kv_type = t->kv};
	struct core_ctx *c = NULL;

	if (cpu)
		setenv("WEFT_CPU", cpu, 1);
	else
		unsetenv("WEFT_CPU");
	must(core_ctx_new(&c, &p, &why));
	c->kv.poison = true;
	memset(c->kv.pool, 0xff, c->kv.n_pages * c->kv.page_bytes);
	return c;
}

static struct story story_new(const char *path, enum core_quant quant, enum core_kv_type kv)
{
	struct story t = { .m = load_model(path, quant), .kv = kv };
	struct core_ctx *c = engine(&t, NULL, 1);
	struct core_seq *s = core_seq_new(c);

	t.vocab = core_model_info(t.m)->vocab;
	t.want = calloc((size_t)LENGTH * t.vocab, sizeof(float));
	for (uint32_t i = 0; i < LENGTH; i++)
		t.token[i] = (int32_t)((i * 7919u + i * i * 31u + 3) % t.vocab);
	for (uint32_t i = 0; i < LENGTH; i++) {
		feed(c, s, t.token + i, 1);
		memcpy(t.want + (size_t)i * t.vocab, core_logits(c, 0), t.vocab * sizeof(float));
		for (uint32_t k = 0; k < t.vocab; k++)
			assert_true(isfinite(core_logits(c, 0)[k]));
	}
	core_seq_free(c, s);
	core_ctx_free(c);
	return t;
}

static void story_free(struct story *t)
{
	core_model_free(t->m);
	free(t->want);
}

static void in_chunks(const struct story *t, struct core_ctx *c, uint32_t chunk)
{
	struct core_seq *s = core_seq_new(c);

	for (uint32_t i = 0; i < LENGTH; i += chunk) {
		uint32_t n = LENGTH - i < chunk ? LENGTH - i : chunk;

		feed(c, s, t->token + i, n);
		for (uint32_t j = 0; j < n; j++)
			expect(t, c, j, i + j, "in chunks");
	}
	core_seq_free(c, s);
}

/* Our sequence's rows among 63 others: chunks of 1 to 3 rows of ours per pass, between prompts and single steps of neighbours. */
static void among_neighbours(const struct story *t, struct core_ctx *c)
{
	struct core_seq *ours = core_seq_new(c), *other[6];
	struct core_row rows[64];

	for (int k = 0; k < 6; k++)
		other[k] = core_seq_new(c);
	for (uint32_t at = 0, pass = 0; at < LENGTH; pass++) {
		uint32_t mine = 1 + pass % 3, n = 0, first, got = 0;

		mine = at + mine > LENGTH ? LENGTH - at : mine;
		first = at;
		for (uint32_t i = 0; i < 64; i++) {
			bool us = i % 21 == (pass * 5) % 21 && mine > 0;
			struct core_seq *s = us ? ours : other[i < 30 ? 0 : 1 + (i + pass) % 5];

			if (!us && core_seq_len(s) + 64 > CONTEXT)
				must(core_seq_trim(c, s, 0));
			rows[n++] = (struct core_row){s, us ? t->token[at++] : (int32_t)((i * 37 + pass * 101) % t->vocab),
						      i % 2 ? CORE_PROMPT : CORE_GENERATED, us || i % 5 == 0};
			mine -= us;
		}
		must(core_forward(c, rows, n, &why));
		for (uint32_t i = 0, p = first; i < n; i++) {
			if (rows[i].seq == ours)
				expect(t, c, got, p++, "among neighbours");
			got += rows[i].want_logits;
		}
	}
	core_seq_free(c, ours);
	for (int k = 0; k < 6; k++)
		core_seq_free(c, other[k]);
}

static void after_trim_and_replay(const struct story *t, struct core_ctx *c)
{
	struct core_seq *s = core_seq_new(c);
	static const uint32_t cut[] = { 0, 1, 15, 16, 17, 33 };

	for (unsigned k = 0; k < sizeof(cut) / sizeof(cut[0]); k++) {
		uint32_t from = cut[k] < core_seq_len(s) ? cut[k] : 0;

		must(core_seq_trim(c, s, from));
		feed(c, s, t->token + from, LENGTH - from);
		for (uint32_t i = from; i < LENGTH; i++)
			expect(t, c, i - from, i, "after trim and replay");
	}
	core_seq_free(c, s);
}

static void after_forks(const struct story *t, struct core_ctx *c)
{
	struct core_seq *parent = core_seq_new(c), *child, *wild;

	for (uint32_t at = 0; at < LENGTH; at++) {
		feed(c, parent, t->token + at, 1);
		expect(t, c, 0, at, "parent of forks");
		if (at % 11 != 5 || at + 1 == LENGTH)
			continue;
		wild = core_seq_fork(c, parent);
		child = core_seq_fork(c, parent);
		feed(c, child, t->token + at + 1, 1);
		expect(t, c, 0, at + 1, "in a fork");
		feed(c, wild, t->token, LENGTH - at - 1);	/* other tokens, where child and parent would find them without a copy */
		for (uint32_t i = at + 2; i < LENGTH; i++) {
			feed(c, child, t->token + i, 1);
			expect(t, c, 0, i, "in a fork");
		}
		core_seq_free(c, wild);
		core_seq_free(c, child);
	}
	core_seq_free(c, parent);
}

static void holds_with(const char *path, enum core_quant quant, enum core_kv_type kv)
{
	static const uint32_t chunks[] = { LENGTH, 1, 5, 16, 17, 31 };
	struct story t = story_new(path, quant, kv);

	for (const char *const *cpu = cpus_here(); *cpu; cpu++) {
		bool plain = !strcmp(*cpu, "plain");

		for (int threads = 1; threads <= (plain ? 1 : 3); threads++) {
			struct core_ctx *c = engine(&t, *cpu, threads);

			for (unsigned i = 0; i < (plain ? 1 : sizeof(chunks) / sizeof(chunks[0])); i++)
				in_chunks(&t, c, chunks[i]);
			if (!plain) {
				among_neighbours(&t, c);
				after_trim_and_replay(&t, c);
				after_forks(&t, c);
			}
			assert_int_equal(core_ctx_pages_free(c), PAGES);
			core_ctx_free(c);
		}
	}
	story_free(&t);
}

static void holds(const char *path, enum core_quant quant)
{
	holds_with(path, quant, CORE_KV_AUTO);
}

static const char *demo_path(void)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/tests/demo/model", getenv("top_srcdir") ? getenv("top_srcdir") : ".");
	return path;
}

#define CASE(id, path, quant)                                                                                                      \
	static void id(void **state)                                                                                               \
	{                                                                                                                          \
		holds(path, quant);                                                                                                \
	}
CASE(f32, golden_path("gqa-untied"), CORE_QUANT_NONE)
CASE(f32_of_odd_sizes, golden_path("odd-sizes"), CORE_QUANT_NONE)
CASE(q8_of_odd_sizes, golden_path("odd-sizes"), CORE_QUANT_Q8)
CASE(q4_of_odd_sizes, golden_path("odd-sizes"), CORE_QUANT_Q4)
CASE(demo_bf16, demo_path(), CORE_QUANT_NONE)
CASE(demo_q8, demo_path(), CORE_QUANT_Q8)
CASE(demo_q4, demo_path(), CORE_QUANT_Q4)
CASE(demo_nf4, demo_path(), CORE_QUANT_NF4)

static void keys_and_values_of_8_bits(void **state)
{
	holds_with(golden_path("odd-sizes"), CORE_QUANT_NONE, CORE_KV_INT8);
	holds_with(golden_path("gqa-untied"), CORE_QUANT_Q8, CORE_KV_INT8);
	holds_with(demo_path(), CORE_QUANT_Q8, CORE_KV_INT8);
}

static void gguf_of_all_block_types(void **state)
{
	holds(write_gguf(0, true), CORE_QUANT_NONE);
	holds(write_gguf(4, true), CORE_QUANT_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(f32),
		cmocka_unit_test(f32_of_odd_sizes),
		cmocka_unit_test(q8_of_odd_sizes),
		cmocka_unit_test(q4_of_odd_sizes),
		cmocka_unit_test(demo_bf16),
		cmocka_unit_test(demo_q8),
		cmocka_unit_test(demo_q4),
		cmocka_unit_test(demo_nf4),
		cmocka_unit_test(keys_and_values_of_8_bits),
		cmocka_unit_test_teardown(gguf_of_all_block_types, build_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
