/* expo.h: e^x in f32, the same bits as scalar C and as vectors (vec16.h repeats these steps on 16 lanes).
 *
 * x = n ln 2 + r with |r| <= ln 2 / 2, ln 2 split in two so that r is exact to the last bits; e^r by its Taylor series to r^7
 * (next term below 2^-27); 2^n by the exponent field. Relative error below 2 ulp (tests). Below EXPO_MIN the result is 0,
 * above EXPO_MAX it is e^EXPO_MAX, which is finite. */
#ifndef WEFT_OPS_EXPO_H
#define WEFT_OPS_EXPO_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define EXPO_MIN (-87.0f)
#define EXPO_MAX 88.0f
#define EXPO_LOG2E 1.44269504088896341f
#define EXPO_LN2_HI 0.693359375f		/* 9 bits: n * EXPO_LN2_HI is exact */
#define EXPO_LN2_LO (-2.12194440e-4f)
#define EXPO_C7 (1.0f / 5040)
#define EXPO_C6 (1.0f / 720)
#define EXPO_C5 (1.0f / 120)
#define EXPO_C4 (1.0f / 24)
#define EXPO_C3 (1.0f / 6)

static inline float expo(float x)
{
	float n, r, p, power;
	int32_t bits;

	if (!(x >= EXPO_MIN))
		return 0;
	x = x < EXPO_MAX ? x : EXPO_MAX;
	n = rintf(x * EXPO_LOG2E);
	r = fmaf(n, -EXPO_LN2_HI, x);
	r = fmaf(n, -EXPO_LN2_LO, r);
	p = fmaf(EXPO_C7, r, EXPO_C6);
	p = fmaf(p, r, EXPO_C5);
	p = fmaf(p, r, EXPO_C4);
	p = fmaf(p, r, EXPO_C3);
	p = fmaf(p, r, 0.5f);
	p = fmaf(p, r, 1.0f);
	p = fmaf(p, r, 1.0f);
	bits = ((int32_t)n + 127) << 23;
	memcpy(&power, &bits, 4);
	return p * power;
}

#endif
