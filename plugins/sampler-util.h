/* sampler-util.h: what several samplers compute on their candidates. Private, header only: a plugin stays one file.
 *
 * Sums are double and run in the order of the candidates, so that a result follows from the candidates alone (promise P1). */
#ifndef WEFT_SAMPLER_UTIL_H
#define WEFT_SAMPLER_UTIL_H

#include "declare.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* clone() of an instance that points to nothing of its own. */
static inline int clone_plain(const void *self, size_t size, void **copy)
{
	*copy = malloc(size);
	if (!*copy)
		return WEFT_ENOMEM;
	memcpy(*copy, self, size);
	return 0;
}

/* create()'s last step: an instance holding a copy of `value`. */
static inline int create_plain(const void *value, size_t size, void **self)
{
	return clone_plain(value, size, self);
}

/* A computed logit as f32: beyond float's range downwards is impossible, upwards is as likely as can be said. */
static inline float logit_from(double x)
{
	return x < -FLT_MAX ? -INFINITY : x > FLT_MAX ? FLT_MAX : (float)x;
}

/* The largest logit; -INFINITY only when every candidate is impossible. */
static inline double candidates_max(const struct weft_candidates *c)
{
	float max = c->logits[0];

	for (uint32_t i = 1; i < c->n; i++)
		max = c->logits[i] > max ? c->logits[i] : max;
	return max;
}

/* Sum of exp(logit - max): candidate i has the probability exp(logits[i] - max) / sum. max must be finite. */
static inline double candidates_sum(const struct weft_candidates *c, double max)
{
	double sum = 0;

	for (uint32_t i = 0; i < c->n; i++)
		sum += exp(c->logits[i] - max);
	return sum;
}

/* Drops every candidate whose logit is below `least`; the others keep their order. */
static inline void candidates_drop_below(struct weft_candidates *c, double least)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < c->n; i++) {
		if (c->logits[i] < least)
			continue;
		c->ids[kept] = c->ids[i];
		c->logits[kept++] = c->logits[i];
	}
	if (kept < c->n)
		c->dense = 0;
	c->n = kept;
}

#endif
