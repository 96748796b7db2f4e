/* chain_philox_test.c: the random numbers. Known answers: kat_vectors of the Random123 distribution of the paper's authors. */
#include "config.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "daemon/philox.h"

static void agrees_with_the_known_answers(void **state)
{
	static const struct {
		uint32_t counter[4], key[2], out[4];
	} known[] = {
		{{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
		 {0xffffffff, 0xffffffff},
		 {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
		{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
		 {0xa4093822, 0x299f31d0},
		 {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
	};

	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		uint32_t out[4] = {0xdead, 0xdead, 0xdead, 0xdead};
		philox4x32_10(known[i].counter, known[i].key, out);
		assert_memory_equal(out, known[i].out, sizeof out);
	}
}

static void every_part_of_the_counter_and_the_key_matters(void **state)
{
	const uint32_t s = philox_stream("xtc");
	const double u = philox_uniform(1, 2, 3, s, 4);

	assert_true(u == philox_uniform(1, 2, 3, s, 4));
	assert_true(u != philox_uniform(2, 2, 3, s, 4));
	assert_true(u != philox_uniform(1 + (UINT64_C(1) << 32), 2, 3, s, 4));
	assert_true(u != philox_uniform(1, 3, 3, s, 4));
	assert_true(u != philox_uniform(1, 2, 4, s, 4));
	assert_true(u != philox_uniform(1, 2, 3, philox_stream(PHILOX_DRAW), 4));
	assert_true(u != philox_uniform(1, 2, 3, s, 5));
}

/* 200,000 numbers in 100 bins: chi-square with 99 degrees of freedom is below 180 but for one seed in a million. */
static void numbers_are_uniform_in_0_to_1_without_1(void **state)
{
	enum { N = 200000, BINS = 100 };
	unsigned bins[BINS] = {0};
	double chi = 0, sum = 0, expected = (double)N / BINS;

	for (uint32_t i = 0; i < N; i++) {
		double u = philox_uniform(42, i % 4096, i / 4096, philox_stream(PHILOX_DRAW), 0);
		assert_true(u >= 0 && u < 1);
		bins[(int)(u * BINS)]++;
		sum += u;
	}
	for (int b = 0; b < BINS; b++)
		chi += (bins[b] - expected) * (bins[b] - expected) / expected;
	assert_true(chi < 180);
	assert_true(fabs(sum / N - 0.5) < 0.005);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agrees_with_the_known_answers),
		cmocka_unit_test(every_part_of_the_counter_and_the_key_matters),
		cmocka_unit_test(numbers_are_uniform_in_0_to_1_without_1),
	};
	return cmocka_run_group_tests_name("philox", tests, NULL, NULL);
}
