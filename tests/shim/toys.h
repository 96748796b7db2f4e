/* toys.h: toys.cu for its test. */
#ifndef WEFT_SHIM_TOYS_H
#define WEFT_SHIM_TOYS_H

#include "kernels/cuda/gpu.h"

/* x: 256 floats (1024 bytes), out: 192. */
struct toy {
	const char *name;
	cudaError_t (*run)(const float *x, float *out, cudaStream_t s);
};
extern const struct toy sound_toys[], broken_toys[]; /* end with name NULL */
cudaError_t toy_sum(const float *x, float *out, uint32_t n, cudaStream_t s);

#endif
