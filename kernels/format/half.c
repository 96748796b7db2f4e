/* half.c: 16-bit floats to and from f32, exactly, on every machine. */
#include <string.h>

#include "blocks.h"

static float bits_to_float(uint32_t u)
{
	float f;

	memcpy(&f, &u, sizeof f);
	return f;
}

static uint32_t float_to_bits(float f)
{
	uint32_t u;

	memcpy(&u, &f, sizeof u);
	return u;
}

float half_to_float(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16;
	uint32_t exponent = (h >> 10) & 31, fraction = h & 1023;

	if (exponent == 31) /* infinity and NaN */
		return bits_to_float(sign | 0x7f800000 | fraction << 13);
	if (exponent == 0) { /* zero and subnormals: fraction * 2^-24 is exact in f32 */
		float f = (float)fraction * 0x1p-24f;
		return sign ? -f : f;
	}
	return bits_to_float(sign | (exponent + 112) << 23 | fraction << 13);
}

uint16_t float_to_half(float f)
{
	uint32_t u = float_to_bits(f), sign = u >> 16 & 0x8000, magnitude = u & 0x7fffffff;

	if (magnitude > 0x7f800000) /* NaN: keep the top of the payload and make it quiet, so that it stays NaN */
		return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
	if (magnitude >= 0x477ff000) /* 65520 and above round to infinity */
		return (uint16_t)(sign | 0x7c00);
	if (magnitude < 0x38800000) { /* below 2^-14: adding 0.5 rounds to a multiple of 2^-24 in the current mode (nearest even) */
		float r = bits_to_float(magnitude) + 0.5f;
		return (uint16_t)(sign | (float_to_bits(r) - 0x3f000000));
	}
	magnitude += 0xfff + (magnitude >> 13 & 1);
	return (uint16_t)(sign | (magnitude - 0x38000000) >> 13);
}

float bf16_to_float(uint16_t b)
{
	return bits_to_float((uint32_t)b << 16);
}

uint16_t float_to_bf16(float f)
{
	uint32_t u = float_to_bits(f);

	if ((u & 0x7fffffff) > 0x7f800000)
		return (uint16_t)(u >> 16 | 0x40);
	return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
