/* chain_logits_test.c: what is computed over a row of logits, against plain code in double. */
#include "config.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "daemon/logits.h"

enum { MAX = 40000 };
static float logits[MAX], work[MAX];
static int32_t ids[MAX];
static double sums[MAX / SCAN_BLOCK + 1], weights[MAX];
static uint32_t rng = 7;

static double uniform(void)
{
	rng = rng * 1664525u + 1013904223u;
	return (rng >> 8) / 16777216.0;
}

/* Hard rows: wide, narrow, many ties, mostly impossible, one giant. */
static void fill(uint32_t n, int kind)
{
	for (uint32_t i = 0; i < n; i++) {
		double u = uniform();
		logits[i] = kind == 0   ? (float)(20 * u - 10)
			    : kind == 1 ? (float)(1e-3 * u)
			    : kind == 2 ? (float)(int)(4 * u)
			    : kind == 3 ? (u < 0.9 ? -INFINITY : (float)(u * 100))
					: (float)(-800 * u);
	}
	if (kind == 3)
		logits[n / 2] = 90.5f;
	if (kind == 4)
		logits[n - 1] = 3e38f;
}

static const uint32_t sizes[] = {1, 2, 3, 5, 255, 256, 257, 2048, 32000, 32003};
enum { N_SIZES = sizeof sizes / sizeof *sizes, KINDS = 5 };

/* Into weights[0..n). */
static void weigh_all(uint32_t n, float max)
{
	memset(weights, 0xff, sizeof weights);
	for (uint32_t i = 0; i < n; i += SCAN_BLOCK)
		scan_here()->weights(logits + i, n - i < SCAN_BLOCK ? n - i : SCAN_BLOCK, max, weights + i);
}

static void log_sum_exp_and_logprobs_agree_with_double(void **state)
{
	for (int s = 0; s < N_SIZES; s++)
		for (int kind = 0; kind < KINDS; kind++) {
			uint32_t n = sizes[s], best = 0;
			struct logits_row row = {.sums = sums};
			double max = -INFINITY, sum = 0;
			fill(n, kind);
			assert_true(logits_weigh(&row, logits, n));
			for (uint32_t i = 0; i < n; i++)
				if (logits[i] > max) {
					max = logits[i];
					best = i;
				}
			weigh_all(n, row.max);
			for (uint32_t i = 0; i < n; i++) {
				double w = exp(logits[i] - max);
				sum += w;
				assert_true(fabs(weights[i] - w) <= 1e-13 * w + 1e-300);
			}
			assert_int_equal(row.best, best);
			assert_true(row.max == (float)max);
			assert_true(fabs(row.total / sum - 1) < 1e-12);
			assert_true(fabs(row.lse - (max + log(sum))) <= 1e-12 * fabs(max + log(sum)) + 1e-12);
			float got = logits_logprob(&row, logits[best]), want = (float)(max - (max + log(sum)));
			assert_true(fabsf(got - want) <= 1e-6f * fabsf(want) + 1e-6f);
		}
}

static void same_bits(const struct scan *a, const struct scan *b, const float *row, uint32_t n)
{
	static double one[MAX], other[MAX];
	float max[2];
	uint32_t at[2];

	assert_true(a->best(row, n, &max[0], &at[0]) == b->best(row, n, &max[1], &at[1]));
	assert_memory_equal(&max[0], &max[1], sizeof max[0]);
	assert_int_equal(at[0], at[1]);
	a->weigh(row, n, max[0], one);
	b->weigh(row, n, max[0], other);
	assert_memory_equal(one, other, logits_blocks(n) * sizeof *one);
	for (uint32_t i = 0; i < n; i += SCAN_BLOCK) {
		uint32_t m = n - i < SCAN_BLOCK ? n - i : SCAN_BLOCK;
		a->weights(row + i, m, max[0], one + i);
		b->weights(row + i, m, max[0], other + i);
	}
	assert_memory_equal(one, other, n * sizeof *one);
}

/* An answer must not depend on how wide the machine's registers are. */
static void every_instruction_set_gives_the_same_bits(void **state)
{
	const struct scan *all[3];

	scan_all(all);
	for (int i = 1; i < 3 && all[i] != NULL; i++)
		for (int kind = 0; kind < KINDS; kind++)
			for (uint32_t n = 1; n < 3000; n += n < 70 ? 1 : 211) {
				fill(n, kind);
				same_bits(all[0], all[i], logits, n);
				same_bits(all[0], all[i], logits + 1, n); /* rows need not be aligned */
			}
	for (int i = 0; i < 3 && all[i] != NULL; i++)
		for (uint32_t n = 1; n < 100; n++)
			for (uint32_t at = 0; at < n; at++) {
				for (uint32_t k = 0; k < n; k++)
					ids[k] = (int32_t)(k * 7 % 90);
				assert_false(all[i]->outside(ids, n, 90));
				ids[at] = at % 2 ? -1 : 90;
				assert_true(all[i]->outside(ids, n, 90));
			}
}

static void rows_that_are_not_numbers_are_refused(void **state)
{
	struct logits_row row = {.sums = sums};

	for (uint32_t at = 0; at < 19; at++) {
		fill(19, 0);
		logits[at] = NAN;
		assert_false(logits_weigh(&row, logits, 19));
		logits[at] = INFINITY;
		assert_false(logits_weigh(&row, logits, 19));
		logits[at] = -INFINITY;
		assert_true(logits_weigh(&row, logits, 19));
	}
	for (uint32_t i = 0; i < 19; i++)
		logits[i] = -INFINITY;
	assert_false(logits_weigh(&row, logits, 19));
}

/* The reference: all places sorted by logit descending, ties by id ascending. */
static int by_order(const void *x, const void *y)
{
	int32_t a = *(const int32_t *)x, b = *(const int32_t *)y;

	if (logits[a] != logits[b])
		return logits[a] > logits[b] ? -1 : 1;
	return a < b ? -1 : a > b;
}

static void top_k_is_in_order_with_ties_by_id(void **state)
{
	static int32_t order[MAX];
	struct weft_top top[64];
	struct logits_row row = {.sums = sums};

	for (int s = 0; s < N_SIZES; s++)
		for (int kind = 0; kind < KINDS; kind++)
			for (uint32_t k = 0; k <= 64; k += 1 + k / 2) {
				uint32_t n = sizes[s];
				fill(n, kind);
				assert_true(logits_weigh(&row, logits, n));
				for (uint32_t i = 0; i < n; i++)
					order[i] = (int32_t)i;
				qsort(order, n, sizeof *order, by_order);
				uint32_t have = logits_top(&row, logits, n, k, top);
				assert_int_equal(have, k < n ? k : n);
				for (uint32_t i = 0; i < have; i++) {
					assert_int_equal(top[i].token, order[i]);
					assert_true(top[i].logprob == logits_logprob(&row, logits[order[i]]));
				}
			}
}

static void sort_puts_the_k_best_first_and_loses_nobody(void **state)
{
	static int32_t order[MAX];
	static const uint32_t ks[] = {0, 1, 2, 40, 128, 129, 1000, 31999, 40000};

	for (int s = 0; s < N_SIZES; s++)
		for (int kind = 0; kind < KINDS; kind++)
			for (size_t q = 0; q < sizeof ks / sizeof *ks; q++)
				for (uint32_t drop = 0; drop < 2; drop++) {
					uint32_t n = sizes[s], k = ks[q] < n ? ks[q] : n;
					fill(n, kind);
					uint64_t sum = 0;
					for (uint32_t i = 0; i < n; i++) {
						order[i] = (int32_t)i;
						ids[i] = (int32_t)(n - 1 - i); /* not dense, and ids against the order of places */
						work[i] = logits[n - 1 - i];
					}
					qsort(order, n, sizeof *order, by_order);
					struct weft_candidates c = {.size = sizeof c, .n = n, .ids = ids, .logits = work};
					candidates_sort(&c, ks[q], drop);
					assert_int_equal(c.n, drop && k > 0 ? k : n);
					for (uint32_t i = 0; i < k; i++)
						assert_int_equal(ids[i], order[i]);
					for (uint32_t i = 0; i < c.n; i++) {
						assert_true(work[i] == logits[ids[i]]);
						sum += (uint64_t)ids[i];
					}
					if (c.n == n)
						assert_int_equal(sum, (uint64_t)n * (n - 1) / 2);
					if (k == n)
						assert_int_equal(c.sorted, 1);
				}
}

/* As temperature 0 asks for it. */
static void the_best_of_a_row_in_the_order_of_tokens_is_the_first_of_the_greatest(void **state)
{
	for (int s = 0; s < N_SIZES; s++)
		for (int kind = 0; kind < KINDS; kind++) {
			uint32_t n = sizes[s], first = 0;
			fill(n, kind);
			for (uint32_t i = 0; i < n; i++) {
				ids[i] = (int32_t)i;
				work[i] = logits[i];
				first = logits[i] > logits[first] ? i : first;
			}
			struct weft_candidates c = {.size = sizeof c, .n = n, .ids = ids, .logits = work, .dense = 1};
			candidates_sort(&c, 1, 1);
			assert_int_equal(c.n, 1);
			assert_int_equal(c.dense, n == 1 ? c.dense : 0);
			assert_int_equal(c.sorted, 1);
			assert_int_equal(ids[0], first);
			assert_true(work[0] == logits[first]);
		}
}

/* Rows that are in order already, or in the opposite one, are the bad cases of a careless quicksort. */
static void sort_is_quick_on_rows_that_are_in_order(void **state)
{
	for (int up = 0; up < 2; up++) {
		for (uint32_t i = 0; i < MAX; i++) {
			ids[i] = (int32_t)i;
			work[i] = up ? (float)i : -(float)i;
		}
		struct weft_candidates c = {.size = sizeof c, .n = MAX, .ids = ids, .logits = work};
		candidates_sort(&c, MAX, 0);
		for (uint32_t i = 1; i < MAX; i++)
			assert_true(work[i - 1] > work[i]);
	}
}

static void pick_is_the_inverse_of_the_cumulative_sum(void **state)
{
	struct logits_row row = {.sums = sums};

	for (int s = 0; s < N_SIZES; s++)
		for (int kind = 0; kind < KINDS; kind++) {
			uint32_t n = sizes[s];
			fill(n, kind);
			assert_true(logits_weigh(&row, logits, n));
			weigh_all(n, row.max);
			for (int k = 0; k < 50; k++) {
				double u = k == 0 ? 0 : k == 1 ? 1 - 0x1p-53 : uniform(), before = 0;
				uint32_t at = logits_pick(&row, logits, n, u);
				assert_true(at < n && weights[at] > 0);
				for (uint32_t i = 0; i < at; i++)
					before += weights[i];
				/* the reference adds in another order: a rounding of the whole sum either way */
				assert_true(u * row.total >= before - 1e-11 * row.total);
				assert_true(u * row.total <= before + weights[at] + 1e-11 * row.total);
			}
		}
}

static void pick_draws_by_weight(void **state)
{
	static const float l[4] = {0, 1, 2, -INFINITY}; /* e^0 : e^1 : e^2 */
	unsigned hits[4] = {0};
	struct logits_row row = {.sums = sums};

	assert_true(logits_weigh(&row, l, 4));
	for (int i = 0; i < 100000; i++)
		hits[logits_pick(&row, l, 4, (i + 0.5) / 100000)]++;
	assert_int_equal(hits[0], 9003); /* 100000 / (1 + e + e^2) = 9003.06 */
	assert_in_range(hits[1], 24472, 24474);
	assert_in_range(hits[2], 66523, 66525);
	assert_int_equal(hits[3], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(log_sum_exp_and_logprobs_agree_with_double),
		cmocka_unit_test(every_instruction_set_gives_the_same_bits),
		cmocka_unit_test(rows_that_are_not_numbers_are_refused),
		cmocka_unit_test(top_k_is_in_order_with_ties_by_id),
		cmocka_unit_test(sort_puts_the_k_best_first_and_loses_nobody),
		cmocka_unit_test(the_best_of_a_row_in_the_order_of_tokens_is_the_first_of_the_greatest),
		cmocka_unit_test(sort_is_quick_on_rows_that_are_in_order),
		cmocka_unit_test(pick_is_the_inverse_of_the_cumulative_sum),
		cmocka_unit_test(pick_draws_by_weight),
	};
	return cmocka_run_group_tests_name("rows of logits", tests, NULL, NULL);
}
