/* logits.c: log-sum-exp, the best few and the draw, each in a fixed order. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/logits.h"

int logits_room_init(struct logits_room *r, uint32_t cap)
{
	size_t blocks = ((size_t)cap + LOGITS_BLOCK - 1) / LOGITS_BLOCK;

	r->cap = cap;
	r->weights = malloc(cap * sizeof *r->weights);
	r->sums = malloc(blocks * sizeof *r->sums);
	if (r->weights == NULL || r->sums == NULL) {
		logits_room_finish(r);
		return -1;
	}
	return 0;
}

void logits_room_finish(struct logits_room *r)
{
	free(r->weights);
	free(r->sums);
	*r = (struct logits_room){0};
}

/* ---- exp, two at a time ----
 * The lanes are the same operations as one would be, so the width of the machine's registers does not show in the result. */

typedef double lanes __attribute__((vector_size(16)));
typedef int64_t bits __attribute__((vector_size(16)));
typedef float narrow __attribute__((vector_size(8)));

/* *w = exp(x[0..2) - max) with relative error below 1e-13; 0 where x - max < -700. x <= max, -INFINITY included. */
static inline void exp_lanes(const float *x, double max, lanes *w)
{
	const double log2e = 0x1.71547652b82fep0, ln2_high = 0x1.62e42fee00000p-1, ln2_low = 0x1.a39ef35793c76p-33;
	const double shift = 0x1.8p52; /* adding it rounds to an integer, which then stands in the low bits */
	narrow f;
	memcpy(&f, x, sizeof f);
	lanes v = __builtin_convertvector(f, lanes) - max;
	bits dead = v < -700.0;
	v = (lanes)((bits)v & ~dead);
	lanes t = v * log2e + shift;
	bits n = (bits)t << 52; /* the integer, moved to where a double keeps its exponent */
	lanes k = t - shift;
	lanes r = (v - k * ln2_high) - k * ln2_low; /* |r| <= ln 2 / 2 */
	/* Taylor: the first left-out term is r^12 / 12! < 7e-15 */
	lanes p = r * (1.0 / 39916800) + 1.0 / 3628800;
	p = p * r + 1.0 / 362880;
	p = p * r + 1.0 / 40320;
	p = p * r + 1.0 / 5040;
	p = p * r + 1.0 / 720;
	p = p * r + 1.0 / 120;
	p = p * r + 1.0 / 24;
	p = p * r + 1.0 / 6;
	p = p * r + 0.5;
	p = p * r + 1.0;
	p = p * r + 1.0;
	*w = (lanes)(((bits)p + n) & ~dead);
}

/* Weighs one block of m <= LOGITS_BLOCK entries and returns the sum of the weights. */
static double weigh_block(const float *logits, uint32_t m, double max, double *weights)
{
	lanes even = {0}, odd = {0}, v, w;
	uint32_t i = 0;

	for (; i + 4 <= m; i += 4) {
		exp_lanes(logits + i, max, &v);
		exp_lanes(logits + i + 2, max, &w);
		memcpy(weights + i, &v, sizeof v);
		memcpy(weights + i + 2, &w, sizeof w);
		even += v;
		odd += w;
	}
	if (i < m) {
		float tail[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
		double last[4];
		memcpy(tail, logits + i, (m - i) * sizeof *tail);
		exp_lanes(tail, max, &v);
		exp_lanes(tail + 2, max, &w);
		memcpy(last, &v, sizeof v);
		memcpy(last + 2, &w, sizeof w);
		memcpy(weights + i, last, (m - i) * sizeof *weights);
		even += v;
		odd += w;
	}
	return (even[0] + even[1]) + (odd[0] + odd[1]);
}

/* The greatest of n logits and the first place where it stands; false when one is NaN or +INFINITY, or all are -INFINITY. */
static bool find_best(const float *logits, uint32_t n, float *max, int32_t *best)
{
	float lane[8];
	uint32_t bad = 0, i = 0;

	for (int l = 0; l < 8; l++)
		lane[l] = -INFINITY;
	for (; i + 8 <= n; i += 8)
		for (int l = 0; l < 8; l++) {
			float x = logits[i + l];
			bad |= !(x < INFINITY);
			lane[l] = x > lane[l] ? x : lane[l];
		}
	for (; i < n; i++) {
		bad |= !(logits[i] < INFINITY);
		lane[0] = logits[i] > lane[0] ? logits[i] : lane[0];
	}
	for (int l = 1; l < 8; l++)
		lane[0] = lane[l] > lane[0] ? lane[l] : lane[0];
	if (bad || lane[0] == -INFINITY)
		return false;
	*max = lane[0];
	for (i = 0; logits[i] != lane[0]; i++)
		;
	*best = (int32_t)i;
	return true;
}

bool logits_weigh(struct logits_room *room, const float *logits, uint32_t n, struct logits_row *out)
{
	if (!find_best(logits, n, &out->max, &out->best))
		return false;
	out->total = 0;
	for (uint32_t at = 0, block = 0; at < n; at += LOGITS_BLOCK, block++) {
		uint32_t m = n - at < LOGITS_BLOCK ? n - at : LOGITS_BLOCK;
		room->sums[block] = weigh_block(logits + at, m, out->max, room->weights + at);
		out->total += room->sums[block];
	}
	out->lse = out->max + log(out->total);
	return true;
}

float logits_logprob(const struct logits_row *row, float logit)
{
	return (float)(logit - row->lse);
}

uint32_t logits_top(const struct logits_row *row, const float *logits, uint32_t n, uint32_t k, struct weft_top *out)
{
	uint32_t have = 0;

	if (k == 0)
		return 0;
	for (uint32_t i = 0; i < n; i++) {
		/* ids ascend, so an equal logit that comes later stands behind */
		if (have == k && !(logits[i] > out[k - 1].logprob))
			continue;
		uint32_t at = have < k ? have++ : k - 1;
		for (; at > 0 && logits[i] > out[at - 1].logprob; at--)
			out[at] = out[at - 1];
		out[at] = (struct weft_top){(int32_t)i, logits[i]};
	}
	for (uint32_t i = 0; i < have; i++)
		out[i].logprob = logits_logprob(row, out[i].logprob);
	return have;
}

uint32_t logits_pick(const struct logits_room *room, uint32_t n, double total, double u)
{
	double target = u * total, passed = 0;
	uint32_t block = 0, blocks = (n + LOGITS_BLOCK - 1) / LOGITS_BLOCK, last = 0;

	while (block + 1 < blocks && !(target < passed + room->sums[block])) {
		passed += room->sums[block];
		block++;
	}
	/* A block whose sum is 0 is never stopped at, unless it is the last: then step back to one that has weight. */
	while (block > 0 && room->sums[block] == 0)
		block--;
	uint32_t end = n - block * LOGITS_BLOCK < LOGITS_BLOCK ? n : (block + 1) * LOGITS_BLOCK;
	for (uint32_t i = block * LOGITS_BLOCK; i < end; i++) {
		if (room->weights[i] == 0)
			continue;
		last = i;
		passed += room->weights[i];
		if (target < passed)
			break;
	}
	return last; /* the sum of a block may differ from its walk by a rounding: its last entry with weight closes the gap */
}
