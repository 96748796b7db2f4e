/* check.h: does an adapter, woven into the forward pass, do what it would do merged into the weights?
 *
 * Three fixed prompts go through the core with the adapter and without it, all in one batch; and through a plain f32 pass over
 * W + s B A, and over W. Of the two with the adapter the divergence of their next-token distributions is what the adapter's weaving
 * costs; that of the two without it is what the core's rounding (int8 activations, f16 keys and values) costs anyway on this base.
 *
 * A large model is checked in windows: some of its layers in a row, as a model of their own between embedding and head. Windows
 * come in an order that spreads them over the depth, until all are done or the time is over; the first one is always done. */
#ifndef WEFT_LEARN_CHECK_H
#define WEFT_LEARN_CHECK_H

#include "kernels/core.h"

/* Divergences in nats, mean over the prompts' positions, of the worst window. */
struct check_result {
	double divergence;   /* of the woven adapter from the merged one */
	double rounding;     /* of the base alone, the same way */
	double difference;   /* largest of any logit, woven against merged */
	uint32_t layers, of; /* checked */
};

struct check_params {
	double seconds;          /* CPU time of the calling thread */
	uint32_t window;         /* layers of a window; 0: by their size */
	bool (*stop)(void *arg); /* now and then; true ends it without a result; NULL: never */
	void *arg;
};

/* Works on the calling thread alone. PASS_STOPPED when it was stopped. */
int check_adapter(struct check_result *out, const struct core_model *m, const struct core_adapter *a,
		  const struct check_params *params, struct core_error *err);
/* Is that result as it should be? The bound is what the project promises of the core's rounding, and as much again as ten times
 * what the base itself shows: a term that is missing, doubled or misplaced costs far more unless the adapter changes nothing. */
bool check_passed(const struct check_result *r);
double check_bound(const struct check_result *r);

#endif
