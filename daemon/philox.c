/* philox.c: Philox4x32-10. */
#include "daemon/philox.h"

/* Multipliers and Weyl increments from the paper. */
#define MUL0 UINT64_C(0xD2511F53)
#define MUL1 UINT64_C(0xCD9E8D57)
#define WEYL0 UINT32_C(0x9E3779B9)
#define WEYL1 UINT32_C(0xBB67AE85)

void philox4x32_10(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
	uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
	uint32_t k0 = key[0], k1 = key[1];

	for (int round = 0; round < 10; round++) {
		uint64_t p0 = MUL0 * c0, p1 = MUL1 * c2;
		c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
		c1 = (uint32_t)p1;
		c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
		c3 = (uint32_t)p0;
		k0 += WEYL0;
		k1 += WEYL1;
	}
	out[0] = c0;
	out[1] = c1;
	out[2] = c2;
	out[3] = c3;
}

uint32_t philox_stream(const char *name)
{
	uint32_t h = UINT32_C(2166136261);
	for (; *name != '\0'; name++)
		h = (h ^ (unsigned char)*name) * UINT32_C(16777619);
	return h;
}

double philox_uniform(uint64_t seed, uint64_t position, uint32_t choice, uint32_t stream, uint32_t k)
{
	const uint32_t counter[4] = {(uint32_t)position, choice, stream, k};
	const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
	uint32_t out[4];

	philox4x32_10(counter, key, out);
	uint64_t bits = (uint64_t)(out[0] >> 5) << 26 | out[1] >> 6; /* 27 + 26 bits */
	return (double)bits * 0x1p-53;
}
