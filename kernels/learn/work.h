/* work.h: what the files of a learning run share. */
#ifndef WEFT_LEARN_WORK_H
#define WEFT_LEARN_WORK_H

#include "pass.h"
#include "trial.h"

struct work {
	const struct core_learn_params *params;
	struct core_error *err;
	uint32_t k, groups, layers; /* adapters; weights per adapter */
	struct core_example *train, *held_out;
	uint32_t n_train, n_held_out;
	uint32_t longest; /* tokens of an example */
	uint32_t batch;
	uint64_t random;
	struct trial *trial;
	double *lam;   /* [k][groups]: the result */
	double *curve; /* [steps] */
	uint32_t told; /* steps that were made */
};

/* Each moves w->lam from the uniform blend to its result. */
int learn_by_gradient(struct work *w);
int learn_by_search(struct work *w);

void work_tell(struct work *w, double loss);
/* out: [k][groups] as [k][layers][CORE_LINEARS], or [k] with CORE_LEARN_GLOBAL. */
void work_spread(const struct work *w, const double *lam, float *out);
/* NULL and CORE_OK: all weights are 0. */
int work_blend(const struct work *w, const double *lam, struct core_blend **out);
double work_answer_tokens(const struct core_example *e, uint32_t n);
uint32_t work_group(const struct work *w, uint32_t layer, unsigned linear);

#endif
