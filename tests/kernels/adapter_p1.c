/* adapter_p1.c: promise P1 with blends. A row's logits are the same bytes alone and in a pass of 64 rows of 20 blends with mixed
 * ranks, with any chunking, on any number of threads, on every instruction set (with AMX they are other bytes); for bases and factors of every precision. */
#include "adapter_test.h"
#include "kernels/llama.h"
#include "ops_test.h"

enum { BLENDS = 20, BASES = 2, SEQS = BLENDS + BASES, LENGTH = 40, PAGES = 256, ROWS = 64 };

static const char *const names[] = {"plain", "patterns",  "rslora", "query-value", "one-layer",
				    "regex", "embedding", "f16",    "bf16",        "all-linear"};
enum { NAMES = sizeof(names) / sizeof(names[0]) };

struct story {
	struct core_model *m;
	uint32_t vocab;
	struct core_blend *blend[SEQS]; /* the last BASES are NULL */
	int32_t token[SEQS][LENGTH];
	float *want; /* [SEQS][LENGTH][vocab] */
};

static struct core_ctx *engine(const struct story *t, const char *cpu, int threads)
{
	struct core_ctx *c = new_ctx(t->m, cpu, threads, PAGES, ROWS);

	c->kv.poison = true;
	memset(c->kv.pool, 0xff, c->kv.n_pages * c->kv.page_bytes);
	return c;
}

static struct core_seq *start(struct core_ctx *c, struct core_blend *b)
{
	struct core_seq *s = core_seq_new(c);

	assert_int_equal(core_seq_set_blend(c, s, b), CORE_OK);
	if (c->weave.h)
		memset(c->weave.h, 0xff, c->weave.h_bytes);
	return s;
}

static void expect(const struct story *t, const struct core_ctx *c, uint32_t got, uint32_t seq, uint32_t position, const char *how)
{
	const float *a = core_logits(c, got), *b = t->want + ((size_t)seq * LENGTH + position) * t->vocab;

	assert_non_null(a);
	if (memcmp(a, b, t->vocab * sizeof(float)))
		for (uint32_t k = 0; k < t->vocab; k++)
			if (memcmp(&a[k], &b[k], sizeof(float)))
				fail_msg("%s (%s, %d threads, %s): blend %u, position %u, token %u: %a, alone it was %a",
					 core_model_info(t->m)->quant, core_ctx_cpu(c), core_ctx_threads(c), how, seq, position, k,
					 a[k], b[k]);
}

/* Blend i: 1 to 6 adapters, some shared with every neighbour, some scales negative, some with weights; the last is a DoRA. */
static struct core_blend *make_blend(struct core_adapter *const *a, struct core_adapter *dora, uint32_t i)
{
	struct core_blend_part p[NAMES];
	struct core_blend *b = NULL;
	float w[2 * CORE_LINEARS];
	uint32_t n = 1 + i % 6;

	for (unsigned k = 0; k < 2 * CORE_LINEARS; k++)
		w[k] = (float)((k * 5 + i) % 7) / 4 - 0.5f;
	for (uint32_t k = 0; k < n; k++)
		p[k] = (struct core_blend_part){a[(i + k * 3) % NAMES], (float)(i % 4 + 1) / (k % 2 ? -5.0f : 4.0f),
						i % 5 == 2 && k == 0 ? w : NULL};
	if (i == BLENDS - 1)
		p[0] = (struct core_blend_part){dora, 1, NULL}, n = 1;
	must(core_blend_new(&b, p, n, &why));
	return b;
}

/* The first tokens of a sequence are its prompt. */
static enum core_path path_of(uint32_t position)
{
	return position < LENGTH / 2 ? CORE_PROMPT : CORE_GENERATED;
}

static void tell(struct core_ctx *c, struct core_seq *s, const int32_t *tokens, uint32_t from, uint32_t n)
{
	struct core_row rows[LENGTH];

	for (uint32_t i = 0; i < n; i++)
		rows[i] = (struct core_row){s, tokens[i], path_of(from + i), true};
	must(core_forward(c, rows, n, &why));
}

static struct story story_new(enum core_quant quant, enum core_factors factors, const char *cpu)
{
	struct story t = {.m = load_model_with(golden_path("gqa-untied"), quant, factors)};
	struct core_adapter *a[NAMES], *dora = load_adapter(t.m, "dora");
	struct core_ctx *c = engine(&t, cpu, 1);

	t.vocab = core_model_info(t.m)->vocab;
	t.want = calloc((size_t)SEQS * LENGTH * t.vocab, sizeof(float));
	for (unsigned i = 0; i < NAMES; i++)
		a[i] = load_adapter(t.m, names[i]);
	for (uint32_t i = 0; i < SEQS; i++) {
		struct core_seq *s;

		t.blend[i] = i < BLENDS ? make_blend(a, dora, i) : NULL;
		s = start(c, t.blend[i]);
		for (uint32_t k = 0; k < LENGTH; k++) {
			t.token[i][k] = (int32_t)((k * 29 + k * k * 7 + i % 3) % t.vocab); /* the same tokens under many blends */
			tell(c, s, &t.token[i][k], k, 1);
			memcpy(t.want + ((size_t)i * LENGTH + k) * t.vocab, core_logits(c, 0), t.vocab * sizeof(float));
			for (uint32_t j = 0; j < t.vocab; j++)
				assert_true(isfinite(core_logits(c, 0)[j]));
		}
		core_seq_free(c, s);
	}
	for (unsigned i = 0; i < NAMES; i++)
		core_adapter_unref(a[i]);
	core_adapter_unref(dora);
	core_ctx_free(c);
	return t;
}

static void story_free(struct story *t)
{
	for (int i = 0; i < SEQS; i++)
		core_blend_unref(t->blend[i]);
	core_model_free(t->m);
	free(t->want);
}

/* The whole story in passes of up to 64 rows that take 1 to 7 tokens of every sequence, starting at another one each time. */
static void all_together(const struct story *t, struct core_ctx *c)
{
	struct core_seq *s[SEQS];
	uint32_t at[SEQS] = {0};

	for (uint32_t i = 0; i < SEQS; i++)
		s[i] = start(c, t->blend[i]);
	for (uint32_t pass = 0, left = SEQS * LENGTH; left; pass++) {
		struct core_row rows[ROWS];
		uint32_t owner[ROWS], where[ROWS], n = 0, got = 0;

		for (uint32_t k = 0; k < SEQS * 3 && n < ROWS; k++) {
			uint32_t i = (k * 5 + pass) % SEQS, run = 1 + (i + pass + k) % 3;

			for (; run && n < ROWS && at[i] < LENGTH; run--, n++, left--) {
				owner[n] = i;
				where[n] = at[i];
				rows[n] = (struct core_row){s[i], t->token[i][at[i]++], path_of(where[n]),
							    (n + pass) % 4 != 3};
			}
		}
		must(core_forward(c, rows, n, &why));
		for (uint32_t r = 0; r < n; r++)
			if (rows[r].want_logits)
				expect(t, c, got++, owner[r], where[r], "all together");
	}
	for (uint32_t i = 0; i < SEQS; i++)
		core_seq_free(c, s[i]);
}

/* Long runs of one blend: more rows than a piece has. */
static void in_chunks(const struct story *t, struct core_ctx *c, uint32_t chunk)
{
	for (uint32_t i = 0; i < SEQS; i += 3) {
		struct core_seq *s = start(c, t->blend[i]);

		for (uint32_t at = 0; at < LENGTH; at += chunk) {
			uint32_t n = LENGTH - at < chunk ? LENGTH - at : chunk;

			tell(c, s, t->token[i] + at, at, n);
			for (uint32_t k = 0; k < n; k++)
				expect(t, c, k, i, at + k, "in chunks");
		}
		core_seq_free(c, s);
	}
}

static void forks_inherit(const struct story *t, struct core_ctx *c)
{
	for (uint32_t i = 0; i < SEQS; i++) {
		struct core_seq *s = start(c, t->blend[i]), *f;

		tell(c, s, t->token[i], 0, 21);
		f = core_seq_fork(c, s);
		core_seq_free(c, s);
		tell(c, f, t->token[i] + 21, 21, LENGTH - 21);
		for (uint32_t k = 21; k < LENGTH; k++)
			expect(t, c, k - 21, i, k, "in a fork");
		core_seq_free(c, f);
	}
}

static uint32_t bits_of(const char *cpu)
{
	return ops_named(cpu)->tiles ? CORE_BITS | CORE_BITS_TILES : CORE_BITS;
}

static void holds(enum core_quant quant, enum core_factors factors)
{
	struct story t = { 0 };
	uint32_t bits = 0;

	for (const char *const *cpu = cpus_here(); *cpu; cpu++)
		for (int threads = 1; threads <= (strcmp(*cpu, "plain") ? 3 : 1); threads++) {
			struct core_ctx *c;

			if (bits != bits_of(*cpu)) {	/* the first set, and AMX: it has bits of its own */
				if (bits)
					story_free(&t);
				t = story_new(quant, factors, *cpu);
				bits = bits_of(*cpu);
			}
			c = engine(&t, *cpu, threads);
			all_together(&t, c);
			in_chunks(&t, c, LENGTH);
			in_chunks(&t, c, 7);
			forks_inherit(&t, c);
			assert_int_equal(core_ctx_pages_free(c), PAGES);
			core_ctx_free(c);
		}
	story_free(&t);
}

static void f32_base(void **state)
{
	holds(CORE_QUANT_NONE, CORE_FACTORS_AUTO);
}

static void f32_base_and_factors_of_8_bits(void **state)
{
	holds(CORE_QUANT_NONE, CORE_FACTORS_Q8);
}

static void q8_base(void **state)
{
	holds(CORE_QUANT_Q8, CORE_FACTORS_AUTO);
}

static void q4_base_and_exact_factors(void **state)
{
	holds(CORE_QUANT_Q4, CORE_FACTORS_EXACT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(f32_base),
		cmocka_unit_test(f32_base_and_factors_of_8_bits),
		cmocka_unit_test(q8_base),
		cmocka_unit_test(q4_base_and_exact_factors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
