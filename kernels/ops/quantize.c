/* quantize.c: the plain reference. */
#include "quantize.h"

#include <math.h>
#include <string.h>

static uint32_t magnitude_bits(float f)
{
	uint32_t u;

	memcpy(&u, &f, 4);
	return u & 0x7fffffff;	/* ordered as |f|, infinities and NaNs on top */
}

void quantize_plain(int8_t *q, float *scale, int32_t *sum, const float *x, uint32_t n, uint32_t kpad, uint32_t group)
{
	for (uint32_t g = 0; g < kpad / group; g++) {
		uint32_t begin = g * group, end = begin + group < n ? begin + group : n, bits = 0;
		float a, inverse;

		for (uint32_t k = begin; k < end; k++)
			bits = magnitude_bits(x[k]) > bits ? magnitude_bits(x[k]) : bits;
		memcpy(&a, &bits, 4);
		memset(q + begin, 0, group);
		sum[g] = 0;
		scale[g] = bits >= 0x7f800000 ? NAN : a < QUANTIZE_TINY ? 0 : a / 127;
		if (bits >= 0x7f800000 || a < QUANTIZE_TINY)
			continue;
		inverse = 127 / a;
		for (uint32_t k = begin; k < end; k++)
			sum[g] += q[k] = (int8_t)lrintf(x[k] * inverse);
	}
}
