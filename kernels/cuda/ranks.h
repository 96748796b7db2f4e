/* ranks.h: tensor parallelism: where the ranks' parts of delta are added up, twice a layer, in the order of ranks for every element, however
 * many rows there are (P1). Two ways: NCCL carries the parts to every rank's device, where a kernel adds them; or the host does both
 * (core_reduce.sum), which needs no library and no graph can hold. */
#ifndef WEFT_CUDA_RANKS_H
#define WEFT_CUDA_RANKS_H

#include "gpu.h"
#include "kernels/backend.h"

struct cuda_core;

enum { RANK_ROWS = 256 }; /* gathered at once */

struct cuda_ranks {
	uint32_t n, rank; /* n 1: the model is whole, nothing below is used */
	struct core_reduce reduce;
	float *host;        /* pinned [max_rows][ld_dim]; NULL: NCCL */
	float *parts;       /* on the device: [n][up to RANK_ROWS][ld_dim]; NULL: the host */
	struct nccl *nccl;  /* of this instance */
	const char *reason; /* of NCCL's last failure; static */
};

/* Floats of `parts`. */
static inline size_t ranks_floats(const struct cuda_ranks *r, uint32_t max_rows, uint32_t ld)
{
	return r->n > 1 && r->reduce.group ? (size_t)r->n * (max_rows < RANK_ROWS ? max_rows : (uint32_t)RANK_ROWS) * ld : 0;
}

/* Behind the plan and the device: with NCCL it waits until every rank is there. */
int ranks_open(struct cuda_core *c, struct core_error *err);
void ranks_close(struct cuda_core *c);
/* delta[m][dim] becomes the sum. */
cudaError_t ranks_sum(struct cuda_core *c, uint32_t m);

#endif
