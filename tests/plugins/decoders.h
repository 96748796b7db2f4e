/* decoders.h: models for the tests of decoders: one that says a script, and one that says anything but always the same. */
#ifndef TEST_DECODERS_H
#define TEST_DECODERS_H

#include "fakehost.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Token 0 is the beginning, 1 the end of text; 2 + i is the i-th piece of the script. */
enum { BOS, EOS, FIRST };

struct script {
	struct fake_model m;
	const char *pieces[64];
	uint32_t n;
};

static const int32_t script_prompt[] = {BOS};

static inline void script_logits(void *arg, const int32_t *tokens, uint64_t n, float *out)
{
	struct script *s = arg;
	uint64_t next = n - 1; /* of the script: the prompt has one token */

	for (uint32_t i = 0; i < s->m.vocab; i++)
		out[i] = (float)fake_uniform(3, 0, n, i);
	out[next < s->n ? FIRST + next : EOS] += 200;
}

/* A model that says these pieces, one token each, and then the end. pieces[] must live as long as it. */
static inline struct script script_of(const char *const *pieces, uint32_t n)
{
	struct script s = {.n = n};

	s.pieces[BOS] = s.pieces[EOS] = "";
	for (uint32_t i = 0; i < n; i++)
		s.pieces[FIRST + i] = pieces[i];
	s.m = (struct fake_model){.vocab = n + FIRST, .context = 100, .eos = EOS, .logits = script_logits};
	return s;
}

static inline struct weft_job *script_job(struct script *s)
{
	s->m.pieces = s->pieces;
	s->m.arg = s;
	return fake_job(&s->m, script_prompt, 1);
}

/* A model whose logits follow from all tokens before; 50 pieces, "<0> <1> ..." */
enum { RANDOM_VOCAB = 50 };

static inline void random_logits(void *arg, const int32_t *tokens, uint64_t n, float *out)
{
	uint64_t h = n;

	for (uint64_t i = 0; i < n; i++)
		h = h * 31 + (uint64_t)tokens[i];
	for (uint32_t i = 0; i < RANDOM_VOCAB; i++)
		out[i] = (float)(6 * fake_uniform(11, 0, h, i));
}

static inline struct fake_model *random_model(void)
{
	static char text[RANDOM_VOCAB][8];
	static const char *pieces[RANDOM_VOCAB];
	static struct fake_model m = {.vocab = RANDOM_VOCAB, .context = 64, .eos = EOS, .pieces = pieces, .logits = random_logits};

	for (int i = 0; i < RANDOM_VOCAB; i++) {
		snprintf(text[i], sizeof(text[i]), i < FIRST ? "" : " %d", i);
		pieces[i] = text[i];
	}
	return &m;
}

/* log p(token | tokens[0 .. n)) of the random model, by the definition; *best: its likeliest token. */
static inline double random_logprob(const int32_t *tokens, uint64_t n, int32_t token, int32_t *best)
{
	float logits[RANDOM_VOCAB];
	double sum = 0;

	random_logits(NULL, tokens, n, logits);
	*best = 0;
	for (int i = 0; i < RANDOM_VOCAB; i++) {
		sum += exp(logits[i]);
		*best = logits[i] > logits[*best] ? i : *best;
	}
	return logits[token] - log(sum);
}

#endif
