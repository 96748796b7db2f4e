/* samplers.h: what the tests of samplers share: running one sampler on one list of logits, and hard lists of logits. */
#ifndef TEST_SAMPLERS_H
#define TEST_SAMPLERS_H

#include "fakehost.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { HARD_MAX = 5000 };

struct hard {
	const char *name;
	uint32_t n;
	float logits[HARD_MAX];
};

static uint64_t hard_state = 7;

static inline double hard_uniform(void)
{
	return fake_uniform(1, 0, hard_state++, 0);
}

static inline double hard_normal(void)
{
	return sqrt(-2 * log(1 - hard_uniform())) * cos(6.283185307179586 * hard_uniform());
}

enum { HARD_CASES = 14 };

/* The i-th hard list; valid until the next call. */
static inline struct hard *hard_case(int i)
{
	static struct hard h;

	h = (struct hard){.n = 1000};
	switch (i) {
#define HARD(k, text, count, expression)                                                                                           \
	case k:                                                                                                                    \
		h.name = text;                                                                                                     \
		h.n = count;                                                                                                       \
		for (uint32_t j = 0; j < h.n; j++)                                                                                 \
			h.logits[j] = (float)(expression);                                                                         \
		break;
		HARD(0, "normal", 1000, 3 * hard_normal())
		HARD(1, "all equal", 100, 1.5)
		HARD(2, "many ties", 1000, floor(2 * hard_normal()))
		HARD(3, "one outlier", 1000, j == 437 ? 80 : hard_normal())
		HARD(4, "half impossible", 1000, j % 2 ? -INFINITY : 2 * hard_normal())
		HARD(5, "all but one impossible", 300, j == 299 ? -4 : -INFINITY)
		HARD(6, "vocabulary of one", 1, 0.25)
		HARD(7, "vocabulary of two", 2, j ? 1 : 1)
		HARD(8, "ascending", 1000, j * 0.01)
		HARD(9, "descending", 1000, j * -0.01)
		HARD(10, "huge", 1000, 1e30 * hard_normal())
		HARD(11, "nearly equal", 1000, 1 + 1e-6 * hard_uniform())
		HARD(12, "long flat tail", 5000, j < 3 ? 6 : 0.1 * hard_normal())
		HARD(13, "far below zero", 500, -20000 + 3 * hard_normal())
#undef HARD
	}
	return &h;
}

static const char *const test_pieces[] __attribute__((unused)) = {"a", "b", " c", "\n", "def"};

static inline void no_logits(void *arg, const int32_t *tokens, uint64_t n, float *out)
{
	fail_msg("no model here");
}

static inline struct weft_job *sampler_job(uint32_t vocab)
{
	static struct fake_model m;

	m = (struct fake_model){.vocab = vocab, .context = 4096, .eos = vocab > 2 ? 2 : -1, .logits = no_logits};
	return fake_job(&m, NULL, 0);
}

/* A truthful list: sorted and dense only when it says so rightly, at least one entry, no NaN, no +inf. */
static inline void assert_truthful(const struct weft_candidates *c)
{
	assert_true(c->n >= 1);
	for (uint32_t i = 0; i < c->n; i++) {
		assert_true(c->logits[i] < INFINITY);
		if (c->dense)
			assert_int_equal(c->ids[i], i);
		if (c->sorted && i)
			assert_true(c->logits[i - 1] > c->logits[i] ||
				    (c->logits[i - 1] == c->logits[i] && c->ids[i - 1] < c->ids[i]));
	}
}

/* Makes, applies once and destroys. */
static inline int sampler_once(const struct weft_plugin *p, const struct weft_value *v, struct weft_job *j,
			       struct weft_candidates *c)
{
	void *self = NULL;
	int rc = p->sampler->create(&fake_host, j, v, &self);

	if (rc || !self)
		return rc;
	rc = p->sampler->apply(self, j, c);
	p->sampler->destroy(self);
	if (!rc)
		assert_truthful(c);
	return rc;
}

/* kept[id]: whether id is among the candidates. */
static inline void mark_kept(const struct weft_candidates *c, uint8_t *kept, uint32_t vocab)
{
	memset(kept, 0, vocab);
	for (uint32_t i = 0; i < c->n; i++) {
		assert_int_equal(kept[c->ids[i]], 0);
		kept[c->ids[i]] = 1;
	}
}

#endif
