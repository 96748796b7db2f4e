/* quant.c: our own weight formats, one group at a time.
 *
 * Groups are multiples of 16, and inner loops run over 16 lanes: compilers make vectors of them, and sums keep one order. */
#include "pack.h"

#include <math.h>
#include <string.h>

#include "format/blocks.h"

enum { LARGEST_GROUP = 128 };
/* Weights up to here keep every scale and minimum inside f16, and (their rounding error) / (smallest f16) inside an int. */
#define HALF_ENOUGH 30000.0f

static float through_half(float f)
{
	return half_to_float(float_to_half(f));
}

static float lanes_sum(const float *lane)
{
	float sum = 0;

	for (uint32_t j = 0; j < LANES; j++)
		sum += lane[j];
	return sum;
}

/* Both are NaN when a value is not finite. */
static void range_of(const float *x, uint32_t n, float *low, float *high)
{
	float lo[LANES], hi[LANES], zero[LANES];

	memcpy(lo, x, sizeof(lo));
	memcpy(hi, x, sizeof(hi));
	for (uint32_t j = 0; j < LANES; j++)
		zero[j] = x[j] * 0;
	for (uint32_t k = LANES; k < n; k += LANES)
		for (uint32_t j = 0; j < LANES; j++) {
			lo[j] = x[k + j] < lo[j] ? x[k + j] : lo[j];
			hi[j] = x[k + j] > hi[j] ? x[k + j] : hi[j];
			zero[j] += x[k + j] * 0;
		}
	*low = lo[0];
	*high = hi[0];
	for (uint32_t j = 1; j < LANES; j++) {
		*low = lo[j] < *low ? lo[j] : *low;
		*high = hi[j] > *high ? hi[j] : *high;
	}
	*low += lanes_sum(zero);
	*high += lanes_sum(zero);
}

void quantize_group_q8(const float *x, uint32_t n, uint8_t *codes, float *scale)
{
	float low, high, inverse;

	range_of(x, n, &low, &high);
	*scale = INFINITY;
	if (!(high < HALF_ENOUGH * 127 && low > -HALF_ENOUGH * 127))
		return;
	*scale = through_half((-low > high ? -low : high) / 127);
	inverse = *scale > 0 ? 1 / *scale : 0;
	for (uint32_t k = 0; k < n; k += LANES)
		for (uint32_t j = 0; j < LANES; j++) {
			int q = (int)(x[k + j] * inverse + 128.5f);	/* the rounded scale may be a little small: clamp */

			q = q < 1 ? 1 : q;
			codes[k + j] = (uint8_t)(q > 255 ? 255 : q);
		}
}

/* Codes of a given scale and minimum, as whole floats; returns the squared error. */
static float round_q4(const float *x, uint32_t n, float scale, float min, float *codes)
{
	float inverse = scale > 0 ? 1 / scale : 0, error[LANES] = { 0 };

	for (uint32_t k = 0; k < n; k += LANES)
		for (uint32_t j = 0; j < LANES; j++) {
			int q = (int)((x[k + j] + min) * inverse + 0.5f);	/* below 2^31: see HALF_ENOUGH */
			float d;

			q = q < 0 ? 0 : q;
			q = q > 15 ? 15 : q;
			codes[k + j] = (float)q;
			d = scale * codes[k + j] - min - x[k + j];
			error[j] += d * d;
		}
	return lanes_sum(error);
}

/* The scale and minimum that fit x best for fixed codes: least squares on x = scale * code - min. */
static void fit_q4(const float *x, uint32_t n, const float *codes, float *scale, float *min)
{
	float c[LANES] = { 0 }, cc[LANES] = { 0 }, v[LANES] = { 0 }, cv[LANES] = { 0 };
	float sc, sv, det;

	for (uint32_t k = 0; k < n; k += LANES)
		for (uint32_t j = 0; j < LANES; j++) {
			c[j] += codes[k + j];
			cc[j] += codes[k + j] * codes[k + j];
			v[j] += x[k + j];
			cv[j] += codes[k + j] * x[k + j];
		}
	sc = lanes_sum(c);
	sv = lanes_sum(v);
	det = (float)n * lanes_sum(cc) - sc * sc;
	if (det <= 0)
		return;
	*scale = ((float)n * lanes_sum(cv) - sc * sv) / det;
	*min = (*scale * sc - sv) / (float)n;
}

/* The full range first; then narrower ranges (outliers clamp, the rest gets finer steps), each with one least-squares fit. */
void quantize_group_q4(const float *x, uint32_t n, uint8_t *codes, float *scale, float *min)
{
	static const float shrink[] = { 1.0f, 1.0f, 0.92f, 0.84f };
	float low, high, best = INFINITY, trial[LARGEST_GROUP], kept[LARGEST_GROUP];

	range_of(x, n, &low, &high);
	*scale = *min = INFINITY;
	if (!(high < HALF_ENOUGH && low > -HALF_ENOUGH))
		return;
	for (unsigned i = 0; i < sizeof(shrink) / sizeof(shrink[0]); i++) {
		float s = (high - low) * shrink[i] / 15;
		float m = s * 7.5f - (low + high) / 2, error;

		if (i > 0) {
			round_q4(x, n, s, m, trial);
			fit_q4(x, n, trial, &s, &m);
		}
		s = through_half(s);
		m = through_half(m);
		error = round_q4(x, n, s, m, trial);
		if (i > 0 && !(error < best))
			continue;
		best = error;
		*scale = s;
		*min = m;
		memcpy(kept, trial, n * sizeof(kept[0]));
	}
	for (uint32_t k = 0; k < n; k++)
		codes[k] = (uint8_t)(int)kept[k];
}

/* bf16 at or above f >= 0: codes then stay within 127. */
static float bf16_above(float f)
{
	uint32_t u;

	memcpy(&u, &f, 4);
	u = (u + 0xffff) & 0xffff0000;
	memcpy(&f, &u, 4);
	return f;
}

bool quantize_group_s8(const float *x, uint32_t n, int8_t *codes, float *scale)
{
	float top = 0, inverse;

	for (uint32_t k = 0; k < n; k++) {
		if (!(fabsf(x[k]) < 1e30f))
			return false;
		top = fabsf(x[k]) > top ? fabsf(x[k]) : top;
	}
	*scale = top < 1e-30f ? 0 : bf16_above(top / 127);	/* below: its inverse leaves f32 */
	inverse = *scale > 0 ? 1 / *scale : 0;
	for (uint32_t k = 0; k < n; k++) {
		float q = rintf(x[k] * inverse);

		codes[k] = (int8_t)(q > 127 ? 127 : q < -127 ? -127 : q);
	}
	return true;
}
