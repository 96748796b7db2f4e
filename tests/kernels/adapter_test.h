/* adapter_test.h: what the tests of adapters and blends share. */
#ifndef WEFT_ADAPTER_TEST_H
#define WEFT_ADAPTER_TEST_H

#include <math.h>

#include "core_test.h"

/* $top_srcdir/tests/kernels/fixtures/adapters/NAME, one of four buffers. */
static inline const char *adapter_path(const char *name)
{
	static char paths[4][512];
	static unsigned next;
	const char *top = getenv("top_srcdir");
	char *p = paths[next++ % 4];

	snprintf(p, sizeof(paths[0]), "%s/tests/kernels/fixtures/adapters/%s", top ? top : ".", name);
	return p;
}

static inline struct core_adapter *load_adapter(const struct core_model *m, const char *name)
{
	struct core_adapter *a = NULL;

	must(core_adapter_load(&a, m, adapter_path(name), &why));
	return a;
}

/* One adapter at scale 1, which the blend keeps alive. */
static inline struct core_blend *blend_of(const struct core_model *m, const char *name)
{
	struct core_blend_part p = {.adapter = load_adapter(m, name), .scale = 1};
	struct core_blend *b = NULL;

	must(core_blend_new(&b, &p, 1, &why));
	core_adapter_unref(p.adapter);
	return b;
}

struct golden {
	uint32_t tokens, vocab;
	int32_t *token;
	float *logits;
};

/* NAME.golden: u32 tokens, u32 vocab, i32 token[tokens], f32 logits[tokens][vocab]. */
static inline struct golden read_golden(const char *name)
{
	char path[600];
	struct golden g;
	FILE *f;

	snprintf(path, sizeof(path), "%s.golden", adapter_path(name));
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

static inline void golden_free(struct golden *g)
{
	free(g->token);
	free(g->logits);
}

static inline double row_error(const float *got, const float *want, uint32_t n)
{
	double top = 0, error = 0;

	for (uint32_t k = 0; k < n; k++) {
		top = fmax(top, fabs(want[k]));
		error = fmax(error, isnan(got[k]) ? INFINITY : fabs((double)got[k] - want[k]));
	}
	return error / top;
}

/* The largest error of any row, relative to the row's largest logit. b NULL: the base alone. */
static inline double golden_error(struct core_ctx *c, struct core_blend *b, const struct golden *g)
{
	struct core_seq *s = core_seq_new(c);
	double worst = 0;

	assert_int_equal(core_seq_set_blend(c, s, b), CORE_OK);
	feed(c, s, g->token, g->tokens);
	for (uint32_t i = 0; i < g->tokens; i++)
		worst = fmax(worst, row_error(core_logits(c, i), g->logits + (size_t)i * g->vocab, g->vocab));
	core_seq_free(c, s);
	return worst;
}

#endif
