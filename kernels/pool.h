/* pool.h: worker threads that share the parts of one loop.
 *
 * pool_run() hands out the indices 0 .. n - 1 to the caller and the workers, a contiguous share each and what is left to whoever
 * is free, in no promised order, and returns when all are done: what a part computes must not depend on who computes it (P1 holds
 * by the operators' orders, not by the partition). Nothing is allocated per run. Workers spin briefly between runs, because a
 * forward pass is hundreds of short runs, then sleep; a worker that wakes late finds the run closed and goes back to sleep, and
 * nobody waits for it. */
#ifndef WEFT_POOL_H
#define WEFT_POOL_H

#include "core.h"

struct pool;
typedef void pool_fn(void *arg, uint32_t index);

/* threads counts the caller; 0: one per online CPU. */
int pool_new(struct pool **out, int threads, struct core_error *err);
void pool_free(struct pool *p);
int pool_threads(const struct pool *p);
/* One thread at a time may call it. A call from inside a part runs its parts on the spot. */
void pool_run(struct pool *p, pool_fn *fn, void *arg, uint32_t n);

#endif
