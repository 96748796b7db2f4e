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

/* 2^x for x <= 0, for softmax: few steps, since every score of every row takes them. x = n + r with |r| <= 1/2, 2^r by a polynomial
 * through its Chebyshev nodes (relative error 2.1e-7; 2^0 is 1), n added to the exponent. Never below 2^POWER_MIN: what is that
 * small adds nothing to a sum that holds a 1. */
#define POWER_MIN (-126.0f)
#define POWER_ROUND 12582912.0f	/* 1.5 * 2^23: added, its last bits hold x rounded to an integer; taken away, that remains */
#define POWER_C1 0.6931471824645996f
#define POWER_C2 0.2402234971523285f
#define POWER_C3 0.055503811687231064f
#define POWER_C4 0.00966636836528778f
#define POWER_C5 0.0013381302123889327f

static inline float power_of_two(float x)
{
	float y, n, r, p;
	uint32_t shifted, bits;

	x = x > POWER_MIN ? x : POWER_MIN;
	y = x + POWER_ROUND;
	n = y - POWER_ROUND;
	r = x - n;
	p = fmaf(POWER_C5, r, POWER_C4);
	p = fmaf(p, r, POWER_C3);
	p = fmaf(p, r, POWER_C2);
	p = fmaf(p, r, POWER_C1);
	p = fmaf(p, r, 1.0f);
	memcpy(&shifted, &y, 4);
	memcpy(&bits, &p, 4);
	bits += shifted << 23;
	memcpy(&p, &bits, 4);
	return p;
}

/* 2^x as weights cut to 8 bits need it: 2^r for r in [0, 1], off by 7.5e-5 at most, times a power of two. */
#define ROUGH_C0 0.99992521856401f
#define ROUGH_C1 0.6958335405064481f
#define ROUGH_C2 0.22606715539312935f
#define ROUGH_C3 0.07802452266443254f

static inline float rough_power_of_two(float x)
{
	float n = floorf(x), r, p;
	double exact = (double)x - n;

	if (!(x >= -1000))
		return x < 0 ? 0 : x;
	r = (float)exact;
	r = r > exact ? nextafterf(r, 0) : r;	/* the instruction rounds down */
	p = fmaf(ROUGH_C3, r, ROUGH_C2);
	p = fmaf(p, r, ROUGH_C1);
	p = fmaf(p, r, ROUGH_C0);
	return ldexpf(p, (int)n);
}

#endif
