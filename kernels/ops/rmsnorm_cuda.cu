/* rmsnorm_cuda.cu: ops/rmsnorm.h with the residual added before and the forms of the result after it.
 *
 * Versions:
 *   1  one block a row, 16-byte loads, the row read twice (the second time from L1 or L2).
 *      Bound by latency: at one row of 8,192, 128 KiB pass through one SM: 3 us predicted. Two of them in each layer are 5% of a
 *      4-bit step of the 70B shape; spreading a row over a cluster's shared memory is what could come next. */
#include "kernels/cuda/prepare.h"

/* x + delta of elements 4 c .. */
DEVICE void residual(float v[4], const float *x, const float *delta, uint32_t c, uint32_t n)
{
	float d[4];

	load_four(v, x, c, n);
	if (!delta)
		return;
	load_four(d, delta, c, n);
	for (uint32_t i = 0; i < 4; i++)
		v[i] += d[i];
}

DEVICE void store_four(float *x, uint32_t c, uint32_t n, const float v[4])
{
	for (uint32_t i = 0; i < 4; i++)
		if (4 * c + i < n)
			x[4 * c + i] = v[i];
}

KERNEL BLOCK_OF(ROW_THREADS) rmsnorm(const struct norm_args a)
{
	shared<float> scratch = shared_at<float>(0, ROW_WARPS);
	const uint32_t from = a.rows ? a.rows[blockIdx.x] : blockIdx.x;
	float *x = a.x + (size_t)from * a.ld, *h = a.h + (size_t)blockIdx.x * a.ld, v[4], w[4], r, sum = 0;
	const float *delta = a.delta ? a.delta + (size_t)from * a.ld : NULL;

	for (uint32_t c = threadIdx.x; 4 * c < a.n; c += ROW_THREADS) {
		residual(v, x, delta, c, a.n);
		for (uint32_t i = 0; i < 4; i++)
			sum = fmaf(v[i], v[i], sum);
		store_four(h, c, a.n, v);
		if (delta && !a.rows)
			store_four(x, c, a.n, v);
	}
	r = 1.0f / sqrtf(block_sum(sum, scratch) / (float)a.n + a.eps);
	for (uint32_t c = threadIdx.x; 4 * c < a.n; c += ROW_THREADS) {
		load_four(v, h, c, a.n); /* this thread's own words of above */
		load_four(w, a.weight, c, a.n);
		for (uint32_t i = 0; i < 4; i++)
			v[i] = v[i] * r * w[i];
		store_four(h, c, a.n, v);
	}
	sync_block();
	prepare_row(a.to, blockIdx.x, h, a.n, 0, (a.n + 127) / 128 * 128, scratch);
}

cudaError_t rmsnorm_cuda(const struct norm_args *a, cudaStream_t s)
{
	return LAUNCH(rmsnorm, dim3(a->m), (unsigned)ROW_THREADS, ROW_WARPS * sizeof(float), s, *a);
}
