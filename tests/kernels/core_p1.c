/* core_p1.c: promise P1. The logits of a row are the same bytes alone, among neighbours, with any chunking of the prompt, after
 * trims and forks, on any number of threads, and on every instruction set of this machine; with AMX's tiles they are other bytes, but the
 * same among themselves. */
#include "core_test.h"
#include "gguf_model.h"
#include "kernels/llama.h"

enum { LENGTH = 70, PAGES = 256, ROWS = 80, CONTEXT = 512 };	/* longer than some of the models were made for: fine for bytes */

struct story {
	struct core_model *m;
	enum core_kv_type kv;
	uint32_t vocab, prompt;	/* so many tokens go by the prompt's path, the others as generated ones */
	uint32_t bits;		/* whose: core_ctx_bits() */
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
	if (c->planes.hi)
		memset(c->planes.hi, 0xff, 2 * sizeof(c->planes.hi[0]) * (size_t)(c->planes.lo - c->planes.hi));
	return c;
}

static struct core_row row_of(const struct story *t, struct core_seq *s, uint32_t position)
{
	return (struct core_row){ s, t->token[position], position < t->prompt ? CORE_PROMPT : CORE_GENERATED, true };
}

/* Tokens from .. from + n - 1 of the story in one pass. */
static void tell(const struct story *t, struct core_ctx *c, struct core_seq *s, uint32_t from, uint32_t n)
{
	struct core_row rows[LENGTH];

	for (uint32_t i = 0; i < n; i++)
		rows[i] = row_of(t, s, from + i);
	must(core_forward(c, rows, n, &why));
}

static struct story story_new(const char *path, enum core_quant quant, enum core_kv_type kv)
{
	struct story t = { .m = load_model(path, quant), .kv = kv };

	t.vocab = core_model_info(t.m)->vocab;
	t.want = calloc((size_t)LENGTH * t.vocab, sizeof(float));
	for (uint32_t i = 0; i < LENGTH; i++)
		t.token[i] = (int32_t)((i * 7919u + i * i * 31u + 3) % t.vocab);
	return t;
}

/* What this instruction set computes alone, token by token. */
static void story_listen(struct story *t, const char *cpu, uint32_t prompt)
{
	struct core_ctx *c = engine(t, cpu, 1);
	struct core_seq *s = core_seq_new(c);

	t->prompt = prompt;
	t->bits = core_ctx_bits(c);
	for (uint32_t i = 0; i < LENGTH; i++) {
		tell(t, c, s, i, 1);
		memcpy(t->want + (size_t)i * t->vocab, core_logits(c, 0), t->vocab * sizeof(float));
		for (uint32_t k = 0; k < t->vocab; k++)
			assert_true(isfinite(core_logits(c, 0)[k]));
	}
	core_seq_free(c, s);
	core_ctx_free(c);
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

		tell(t, c, s, i, n);
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
			rows[n++] = us ? row_of(t, s, at++)
				       : (struct core_row){s, (int32_t)((i * 37 + pass * 101) % t->vocab),
							   i % 2 ? CORE_PROMPT : CORE_GENERATED, i % 5 == 0};
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
		tell(t, c, s, from, LENGTH - from);
		for (uint32_t i = from; i < LENGTH; i++)
			expect(t, c, i - from, i, "after trim and replay");
	}
	core_seq_free(c, s);
}

static void after_forks(const struct story *t, struct core_ctx *c)
{
	struct core_seq *parent = core_seq_new(c), *child, *wild;

	for (uint32_t at = 0; at < LENGTH; at++) {
		tell(t, c, parent, at, 1);
		expect(t, c, 0, at, "parent of forks");
		if (at % 11 != 5 || at + 1 == LENGTH)
			continue;
		wild = core_seq_fork(c, parent);
		child = core_seq_fork(c, parent);
		tell(t, c, child, at + 1, 1);
		expect(t, c, 0, at + 1, "in a fork");
		feed(c, wild, t->token, LENGTH - at - 1);	/* other tokens, where child and parent would find them without a copy */
		for (uint32_t i = at + 2; i < LENGTH; i++) {
			tell(t, c, child, i, 1);
			expect(t, c, 0, i, "in a fork");
		}
		core_seq_free(c, wild);
		core_seq_free(c, child);
	}
	core_seq_free(c, parent);
}

static void holds_on(const struct story *t, const char *cpu)
{
	static const uint32_t chunks[] = { LENGTH, 1, 5, 16, 17, 31, 33 };
	bool plain = !strcmp(cpu, "plain");

	for (int threads = 1; threads <= (plain ? 1 : 3); threads++) {
		struct core_ctx *c = engine(t, cpu, threads);

		assert_int_equal(core_ctx_bits(c), t->bits);
		for (unsigned i = 0; i < (plain ? 1 : sizeof(chunks) / sizeof(chunks[0])); i++)
			in_chunks(t, c, chunks[i]);
		if (!plain) {
			among_neighbours(t, c);
			after_trim_and_replay(t, c);
			after_forks(t, c);
		}
		assert_int_equal(core_ctx_pages_free(c), PAGES);
		core_ctx_free(c);
	}
}

/* Sets without tiles give the bits of one of them. With tiles a prompt of all tokens, too: rows enough for every form of the product. */
static void holds_with(const char *path, enum core_quant quant, enum core_kv_type kv)
{
	struct story t = story_new(path, quant, kv);
	const char *last = "plain";

	for (const char *const *cpu = cpus_here(); *cpu; cpu++)
		last = strcmp(*cpu, "amx") ? *cpu : last;
	story_listen(&t, last, LENGTH * 2 / 3);
	for (const char *const *cpu = cpus_here(); *cpu; cpu++) {
		if (!strcmp(*cpu, "amx")) {
			story_listen(&t, *cpu, LENGTH);
			holds_on(&t, *cpu);
			story_listen(&t, *cpu, LENGTH * 2 / 3);
			assert_int_equal(t.bits, CORE_BITS | CORE_BITS_TILES);
		}
		holds_on(&t, *cpu);
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
