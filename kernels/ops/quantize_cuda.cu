/* quantize_cuda.cu: rows of f32 to what the products read: int8 with scales and sums (ops/quantize.h, the same bits), f16, bf16.
 *
 * Versions:
 *   1  a block takes 4,096 elements of a row, a thread four neighbours; a group's largest value by shuffles among its lanes.
 *      Bound by latency: one row of 8,192 is 32 KiB in, 8 KiB out; 2 us predicted, nearly all of it the launch. */
#include "kernels/cuda/prepare.h"

KERNEL BLOCK_OF(ROW_THREADS) prepare(const struct dforms to, const float *x, uint32_t ld, uint32_t n, uint32_t span)
{
	prepare_row(to, blockIdx.x, x + (size_t)blockIdx.x * ld, n, blockIdx.y * span, span, shared_at<float>(0, ROW_WARPS));
}

cudaError_t prepare_cuda(const struct dforms *to, const float *x, uint32_t ld, uint32_t m, uint32_t n, cudaStream_t s)
{
	uint32_t span = row_span(to, n);

	if (!to->n)
		return cudaSuccess;
	return LAUNCH(prepare, dim3(m, (n + span - 1) / span), (unsigned)ROW_THREADS, ROW_WARPS * sizeof(float), s, *to, x, ld, n,
		      span);
}
