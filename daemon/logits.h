/* logits.h: what is computed over one row of logits: log-sum-exp, the best few, ordering of candidates, the draw. [any thread]
 *
 * Every sum runs in double and in an order that follows from the length alone, so that a row gives the same bytes on every machine of one
 * kind, whatever stood before it (P1). Order of tokens everywhere: logit descending, ties by id ascending. */
#ifndef WEFT_DAEMON_LOGITS_H
#define WEFT_DAEMON_LOGITS_H

#include "daemon/scan.h"
#include "plugins/weft-plugin.h"

struct logits_row {
	double *sums;		/* [logits_blocks(n)]: of each block of exp(logit - max); the caller's room */
	float max;
	int32_t best;		/* the most likely token */
	double total;		/* of all of them */
	double lse;		/* log of the sum of exp(logit) */
};
uint32_t logits_blocks(uint32_t n);
/* Measures n >= 1 logits; out->sums is there. False: NaN, +INFINITY or nothing but -INFINITY among them. */
bool logits_weigh(struct logits_row *out, const float *logits, uint32_t n);
/* host->weigh: the weights alone (NULL: not wanted) and their sum. */
double logits_weights(const float *logits, uint32_t n, double max, double *weights);
/* Of a row that was weighed elsewhere: max and total are known. */
double logits_lse(float max, double total);
/* The first step of that: max and best alone. */
bool logits_best(struct logits_row *out, const float *logits, uint32_t n);
float logits_logprob(const struct logits_row *row, float logit);
/* The k best of n in order, by token id = index; returns how many there are: min(k, n). k <= WEFT_MAX_TOP of the ABI, 64. */
uint32_t logits_top(const struct logits_row *row, const float *logits, uint32_t n, uint32_t k, struct weft_top *out);

/* The index that u in [0, 1) falls on in the distribution of these logits, which were measured into row: the inverse of its cumulative sum. */
uint32_t logits_pick(const struct logits_row *row, const float *logits, uint32_t n, double u);

/* host->sort: the k best first and in order; the rest dropped, or behind in an order that follows from the input alone. */
void candidates_sort(struct weft_candidates *c, uint32_t k, uint32_t drop);

#endif
