/* hard_numbers.h: seeded numbers for operator tests, in C and in C++: with outliers and zeros, and blocks whose factors are numbers. */
#ifndef WEFT_HARD_NUMBERS_H
#define WEFT_HARD_NUMBERS_H

#include "kernels/format/blocks.h"
#include <string.h>

static uint64_t seed_state __attribute__((unused)) = 88172645463325252u;

static inline uint32_t random_bits(void)
{
	seed_state ^= seed_state << 13;
	seed_state ^= seed_state >> 7;
	seed_state ^= seed_state << 17;
	return (uint32_t)(seed_state >> 32);
}

/* -1 .. 1 */
static inline float random_unit(void)
{
	return (float)(int32_t)random_bits() / 2147483648.0f;
}

/* Mostly small, now and then zero or two hundred times larger, as activations of language models are. */
static inline float random_hard(void)
{
	uint32_t kind = random_bits() % 64;

	return kind == 0 ? 0 : kind == 1 ? 200 * random_unit() : random_unit();
}

/* Where a block keeps its f16 factors; -1 ends. */
static inline void put_factors(enum tensor_type t, unsigned char *block)
{
	int at[2] = { 0, -1 };

	if (t == TENSOR_Q4_1 || t == TENSOR_Q5_1 || t == TENSOR_Q4_K || t == TENSOR_Q5_K)
		at[1] = 2;
	else if (t == TENSOR_Q2_K)
		at[0] = 80, at[1] = 82;
	else if (t == TENSOR_Q3_K)
		at[0] = 108;
	else if (t == TENSOR_Q6_K)
		at[0] = 208;
	for (int i = 0; i < 2 && at[i] >= 0; i++) {
		uint16_t h = float_to_half(random_bits() % 50 ? 0.02f * random_unit() : 0);

		memcpy(block + at[i], &h, 2);
	}
}

#endif
