/* logits.c: log-sum-exp, the best few and the draw, each in a fixed order. */
#include "config.h"

#include <math.h>
#include <string.h>

#include "daemon/logits.h"

void scan_all(const struct scan *all[static 3])
{
	all[0] = &scan_plain;
	all[1] = all[2] = NULL;
#ifdef HAVE_X86
	if (__builtin_cpu_supports("avx2"))
		all[1] = &scan_avx2;
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
		all[2] = &scan_avx512;
#endif
}

const struct scan *scan_here(void)
{
	const struct scan *all[3];

	scan_all(all);
	return all[2] != NULL ? all[2] : all[1] != NULL ? all[1] : all[0];
}

uint32_t logits_blocks(uint32_t n)
{
	return (n + SCAN_BLOCK - 1) / SCAN_BLOCK;
}

double logits_lse(float max, double total)
{
	return max + log(total);
}

bool logits_best(struct logits_row *out, const float *logits, uint32_t n)
{
	uint32_t at;
	bool numbers = scan_here()->best(logits, n, &out->max, &at);

	out->best = (int32_t)at;
	return numbers && out->max != -INFINITY;
}

bool logits_weigh(struct logits_row *out, const float *logits, uint32_t n)
{
	if (!logits_best(out, logits, n))
		return false;
	scan_here()->weigh(logits, n, out->max, out->sums);
	out->total = 0;
	for (uint32_t block = 0; block < logits_blocks(n); block++)
		out->total += out->sums[block];
	out->lse = logits_lse(out->max, out->total);
	return true;
}

double logits_weights(const float *logits, uint32_t n, double max, double *weights)
{
	const struct scan *scan = scan_here();
	double total = 0, sum;

	for (uint32_t at = 0; at < n; at += SCAN_BLOCK) {
		uint32_t m = n - at < SCAN_BLOCK ? n - at : SCAN_BLOCK;
		if (weights != NULL)
			scan->weights(logits + at, m, max, weights + at);
		scan->weigh(logits + at, m, max, &sum);
		total += sum;
	}
	return total;
}

float logits_logprob(const struct logits_row *row, float logit)
{
	return (float)(logit - row->lse);
}

uint32_t logits_top(const struct logits_row *row, const float *logits, uint32_t n, uint32_t k, struct weft_top *out)
{
	uint32_t have = 0;

	if (k == 0)
		return 0;
	for (uint32_t i = 0; i < n; i++) {
		/* ids ascend, so an equal logit that comes later stands behind */
		if (have == k && !(logits[i] > out[k - 1].logprob))
			continue;
		uint32_t at = have < k ? have++ : k - 1;
		for (; at > 0 && logits[i] > out[at - 1].logprob; at--)
			out[at] = out[at - 1];
		out[at] = (struct weft_top){(int32_t)i, logits[i]};
	}
	for (uint32_t i = 0; i < have; i++)
		out[i].logprob = logits_logprob(row, out[i].logprob);
	return have;
}

uint32_t logits_pick(const struct logits_row *row, const float *logits, uint32_t n, double u)
{
	double target = u * row->total, passed = 0, weights[SCAN_BLOCK];
	uint32_t block = 0, blocks = logits_blocks(n), last = 0;

	while (block + 1 < blocks && !(target < passed + row->sums[block])) {
		passed += row->sums[block];
		block++;
	}
	/* A block whose sum is 0 is never stopped at, unless it is the last: then step back to one that has weight. */
	while (block > 0 && row->sums[block] == 0)
		block--;
	uint32_t from = block * SCAN_BLOCK, m = n - from < SCAN_BLOCK ? n - from : SCAN_BLOCK;
	scan_here()->weights(logits + from, m, row->max, weights);
	for (uint32_t i = 0; i < m; i++) {
		if (weights[i] == 0)
			continue;
		last = from + i;
		passed += weights[i];
		if (target < passed)
			break;
	}
	return last; /* the sum of a block may differ from its walk by a rounding: its last entry with weight closes the gap */
}
