/* scan.c: compiled once for each instruction set, by flags alone; SCAN_NAME says which. */
#include "config.h"

#include <math.h>
#include <string.h>

#include "daemon/scan.h"

#ifndef SCAN_NAME
#define SCAN_NAME plain
#endif
#define JOINED(a, b) a##b
#define TABLE(name) JOINED(scan_, name)
#define QUOTED(name) #name
#define TEXT(name) QUOTED(name)

#if defined(__AVX512DQ__)
enum { LANES = 8 };
#elif defined(__AVX2__)
enum { LANES = 4 };
#else
enum { LANES = 2 };
#endif
enum { AT_ONCE = LANES < 4 ? 4 : LANES, FLOATS = 2 * LANES };

typedef double lanes __attribute__((vector_size(8 * LANES)));
typedef int64_t bits __attribute__((vector_size(8 * LANES)));
typedef float narrow __attribute__((vector_size(4 * LANES)));
typedef double four __attribute__((vector_size(32)));
typedef float floats __attribute__((vector_size(4 * FLOATS)));
typedef int32_t marks __attribute__((vector_size(4 * FLOATS)));

/* ---- exp ---- */

/* *w = exp(x[0..LANES) - max); 0 where x - max < -700. x <= max, -INFINITY included. */
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

static inline void exp_some(const float *x, double max, double w[static AT_ONCE])
{
	lanes v;

	for (int l = 0; l < AT_ONCE; l += LANES) {
		exp_lanes(x + l, max, &v);
		memcpy(w + l, &v, sizeof v);
	}
}

/* The last m < AT_ONCE entries; weights of 0 stand behind them. */
static inline void exp_last(const float *x, uint32_t m, double max, double w[static AT_ONCE])
{
	float tail[AT_ONCE];

	for (uint32_t i = 0; i < AT_ONCE; i++)
		tail[i] = i < m ? x[i] : -INFINITY;
	exp_some(tail, max, w);
}

static inline void add(four *sum, const double w[static AT_ONCE])
{
	four v;

	for (int l = 0; l < AT_ONCE; l += 4) {
		memcpy(&v, w + l, sizeof v);
		*sum += v;
	}
}

static double weigh_block(const float *logits, uint32_t m, double max)
{
	four sum = {0};
	double w[AT_ONCE];
	uint32_t i = 0;

	for (; i + AT_ONCE <= m; i += AT_ONCE) {
		exp_some(logits + i, max, w);
		add(&sum, w);
	}
	if (i < m) {
		exp_last(logits + i, m - i, max, w);
		add(&sum, w);
	}
	return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

static void weigh(const float *logits, uint32_t n, double max, double *sums)
{
	for (uint32_t at = 0; at < n; at += SCAN_BLOCK)
		*sums++ = weigh_block(logits + at, n - at < SCAN_BLOCK ? n - at : SCAN_BLOCK, max);
}

static void weights(const float *logits, uint32_t n, double max, double *to)
{
	double w[AT_ONCE];
	uint32_t i = 0;

	for (; i + AT_ONCE <= n; i += AT_ONCE)
		exp_some(logits + i, max, to + i);
	if (i < n) {
		exp_last(logits + i, n - i, max, w);
		memcpy(to + i, w, (n - i) * sizeof *w);
	}
}

/* ---- the best ---- */

/* The greatest of m <= SCAN_BLOCK. *good: is all below +INFINITY? */
static inline float best_of_block(const float *logits, uint32_t m, bool *good)
{
	floats most, v;
	marks fine;
	float max = -INFINITY;
	uint32_t i = 0;

	memset(&fine, 0xff, sizeof fine);
	most = (floats){0} - INFINITY;
	for (; i + FLOATS <= m; i += FLOATS) {
		memcpy(&v, logits + i, sizeof v);
		fine &= v < INFINITY;
		marks more = v > most;
		most = (floats)(((marks)v & more) | ((marks)most & ~more));
	}
	for (int l = 0; l < FLOATS; l++) {
		max = most[l] > max ? most[l] : max;
		*good &= fine[l] != 0;
	}
	for (; i < m; i++) {
		max = logits[i] > max ? logits[i] : max;
		*good &= logits[i] < INFINITY;
	}
	return max;
}

static bool best(const float *logits, uint32_t n, float *max, uint32_t *at)
{
	bool good = true;
	uint32_t first = 0;

	*max = -INFINITY;
	for (uint32_t i = 0; i < n; i += SCAN_BLOCK) {
		float m = best_of_block(logits + i, n - i < SCAN_BLOCK ? n - i : SCAN_BLOCK, &good);
		if (m > *max) {
			*max = m;
			first = i;
		}
	}
	while (first < n && logits[first] != *max)
		first++;
	*at = first < n ? first : 0; /* NaN and nothing else */
	return good;
}

static bool outside(const int32_t *ids, uint32_t n, uint32_t end)
{
	uint32_t most = 0;

	for (uint32_t i = 0; i < n; i++)
		most = (uint32_t)ids[i] > most ? (uint32_t)ids[i] : most;
	return most >= end;
}

const struct scan TABLE(SCAN_NAME) = {TEXT(SCAN_NAME), best, weigh, weights, outside};
