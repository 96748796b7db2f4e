/* logits.h: what is computed over one row of logits: log-sum-exp, the best few, ordering of candidates, the draw. [any thread]
 *
 * Every sum runs in double and in an order that follows from the length alone, so that a row gives the same bytes on every machine of one
 * kind, whatever stood before it (P1). Order of tokens everywhere: logit descending, ties by id ascending. */
#ifndef WEFT_DAEMON_LOGITS_H
#define WEFT_DAEMON_LOGITS_H

#include "plugins/weft-plugin.h"
#include <stdbool.h>

enum { LOGITS_BLOCK = 256 };	/* entries whose weights are summed together */

/* Room for the weights of one row; made once for the vocabulary. */
struct logits_room {
	uint32_t cap;		/* entries */
	double *weights;	/* [cap]: exp(logit - max) of the row that was weighed last */
	double *sums;		/* [cap / LOGITS_BLOCK, rounded up]: of each block of weights */
};
int logits_room_init(struct logits_room *r, uint32_t cap);	/* -1: out of memory */
void logits_room_finish(struct logits_room *r);

struct logits_row {
	float max;
	int32_t best;		/* the most likely token */
	double total;		/* sum of exp(logit - max) */
	double lse;		/* log of the sum of exp(logit) */
};
/* Measures n >= 1 logits and leaves their weights in the room. False: NaN, +INFINITY or nothing but -INFINITY among them. */
bool logits_weigh(struct logits_room *room, const float *logits, uint32_t n, struct logits_row *out);
float logits_logprob(const struct logits_row *row, float logit);
/* The k best of n in order, by token id = index; returns how many there are: min(k, n). k <= WEFT_MAX_TOP of the ABI, 64. */
uint32_t logits_top(const struct logits_row *row, const float *logits, uint32_t n, uint32_t k, struct weft_top *out);

/* The index that u in [0, 1) falls on in the distribution that was weighed last: the inverse of its cumulative sum. */
uint32_t logits_pick(const struct logits_room *room, uint32_t n, double total, double u);

/* host->sort: the k best first and in order; the rest dropped, or behind in an order that follows from the input alone. */
void candidates_sort(struct weft_candidates *c, uint32_t k, uint32_t drop);

#endif
