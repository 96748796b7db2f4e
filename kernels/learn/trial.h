/* trial.h: what examples cost under several blends at once: sequences of different blends go through the core in one batch. */
#ifndef WEFT_LEARN_TRIAL_H
#define WEFT_LEARN_TRIAL_H

#include "pass.h"

struct trial;
/* longest: tokens of the longest example there will be. */
int trial_new(struct trial **out, const struct core_model *m, int threads, uint32_t longest, struct core_error *err);
void trial_free(struct trial *t); /* NULL is fine */
/* loss[b]: the sum of -log p over all predicted tokens under blends[b] (NULL: the base). stop: asked between batches. */
int trial_losses(struct trial *t, struct core_blend *const *blends, uint32_t n_blends, const struct core_example *examples,
		 uint32_t n, double *loss, bool (*stop)(void *arg), void *arg, struct core_error *err);

#endif
