/* rmsnorm.h: out[k] = (x[k] * (1 / sqrt(mean(x^2) + eps))) * weight[k], one row.
 *
 * The sum of squares runs in 16 chains: chain j takes k = j, j + 16, ... ascending by fma, and the chains meet as a tree:
 * j with j + 8, then + 4, + 2, + 1. */
#ifndef WEFT_OPS_RMSNORM_H
#define WEFT_OPS_RMSNORM_H

#include <stdint.h>

/* out[n], x[n], weight[n]; out may be x. */
typedef void rmsnorm_fn(float *out, const float *x, const float *weight, uint32_t n, float eps);

rmsnorm_fn rmsnorm_plain, rmsnorm_avx2, rmsnorm_avx512;

#endif
