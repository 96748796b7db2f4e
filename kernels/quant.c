/* quant.c: our own weight formats, one group at a time. */
#include "pack.h"

#include <math.h>
#include <string.h>

#include "format/blocks.h"

static float through_half(float f)
{
	return half_to_float(float_to_half(f));
}

void quantize_group_q8(const float *x, uint32_t n, uint8_t *codes, float *scale)
{
	float top = 0, inverse;

	for (uint32_t k = 0; k < n; k++)
		top = fabsf(x[k]) > top ? fabsf(x[k]) : top;
	*scale = through_half(top / 127);
	inverse = *scale > 0 ? 1 / *scale : 0;
	for (uint32_t k = 0; k < n; k++) {
		float q = x[k] * inverse;	/* the rounded scale may be a little small: clamp */

		q = q > 127 ? 127 : q < -127 ? -127 : q;
		codes[k] = (uint8_t)(128 + (int)(q + (q < 0 ? -0.5f : 0.5f)));
	}
}

/* Codes for a given scale and minimum; returns the squared error. */
static float codes_q4(const float *x, uint32_t n, float scale, float min, uint8_t *codes)
{
	float inverse = scale > 0 ? 1 / scale : 0, error = 0;

	for (uint32_t k = 0; k < n; k++) {
		float q = (x[k] + min) * inverse + 0.5f, d;
		int c;

		q = q < 0 ? 0 : q > 15 ? 15 : q;
		c = (int)q;
		codes[k] = (uint8_t)c;
		d = scale * (float)c - min - x[k];
		error += d * d;
	}
	return error;
}

/* The scale and minimum that fit x best for fixed codes: least squares on x = scale * code - min. */
static void fit_q4(const float *x, uint32_t n, const uint8_t *codes, float *scale, float *min)
{
	float sc = 0, scc = 0, sx = 0, scx = 0, det;

	for (uint32_t k = 0; k < n; k++) {
		float c = codes[k];

		sc += c;
		scc += c * c;
		sx += x[k];
		scx += c * x[k];
	}
	det = (float)n * scc - sc * sc;
	if (det <= 0)
		return;
	*scale = ((float)n * scx - sc * sx) / det;
	*min = (*scale * sc - sx) / (float)n;
}

/* The full range first; then narrower ranges (outliers clamp, the rest gets finer steps), each followed by one least-squares fit. */
void quantize_group_q4(const float *x, uint32_t n, uint8_t *codes, float *scale, float *min)
{
	static const float shrink[] = { 1.0f, 0.94f, 0.88f, 0.8f };
	float low = x[0], high = x[0], best = INFINITY;
	uint8_t trial[128];

	for (uint32_t k = 1; k < n; k++) {
		low = x[k] < low ? x[k] : low;
		high = x[k] > high ? x[k] : high;
	}
	for (unsigned i = 0; i < 2 * sizeof(shrink) / sizeof(shrink[0]); i++) {
		float s = (high - low) * shrink[i / 2] / 15;
		float m = -(low + high) / 2 + s * 7.5f, error;

		if (i % 2 == 1) {
			codes_q4(x, n, s, m, trial);
			fit_q4(x, n, trial, &s, &m);
		}
		s = through_half(s);
		m = through_half(m);
		error = codes_q4(x, n, s, m, trial);
		if (i > 0 && !(error < best))
			continue;
		best = error;
		*scale = s;
		*min = m;
		memcpy(codes, trial, n);
	}
}
