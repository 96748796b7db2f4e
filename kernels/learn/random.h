/* random.h: seeded random numbers (splitmix64), the same on every machine but for the libm that normal numbers ask. */
#ifndef WEFT_LEARN_RANDOM_H
#define WEFT_LEARN_RANDOM_H

#include <math.h>
#include <stdint.h>

static inline uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static inline uint32_t random_below(uint64_t *state, uint32_t n)
{
	return (uint32_t)((random_next(state) >> 32) * n >> 32);
}

static inline double random_open(uint64_t *state) /* above 0, below 1 */
{
	return ((double)(random_next(state) >> 12) + 0.5) / 4503599627370496.0;
}

static inline double random_normal(uint64_t *state)
{
	double r = sqrt(-2 * log(random_open(state)));

	return r * cos(2 * M_PI * random_open(state));
}

/* 0 .. n - 1 in a random order. */
static inline void random_order(uint64_t *state, uint32_t *order, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		uint32_t j = random_below(state, i + 1);

		order[i] = order[j];
		order[j] = i;
	}
}

#endif
