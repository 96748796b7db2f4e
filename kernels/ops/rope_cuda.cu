/* rope_cuda.cu: ops/rope.h on q and k, and k and v into their page.
 *
 * Versions:
 *   1  a block a row, angles from a table that the host made in double (the CPU's own bits). 70B shape: 80 KiB in and out a
 *      row, 2 us. */
#include "kernels/cuda/ops.h"

DEVICE float rotated(const float *x, uint32_t d, uint32_t half, const float *cosine, const float *sine)
{
	return d < half ? x[d] * cosine[d] - x[d + half] * sine[d] : x[d - half] * sine[d - half] + x[d] * cosine[d - half];
}

KERNEL BLOCK_OF(256) rope_store(const struct rope_args a)
{
	const struct drow row = a.rows[blockIdx.x];
	const uint32_t half = a.kv.head_dim / 2;
	const float *cosine = a.angles + (size_t)row.position * 2 * half, *sine = cosine + half;
	const float *k = a.k + (size_t)blockIdx.x * a.ldk, *v = a.v + (size_t)blockIdx.x * a.ldk;
	float *q = a.q + (size_t)blockIdx.x * a.ldq;

	for (uint32_t i = threadIdx.x; i < a.kv.heads * half; i += 256) {
		float *x = q + i / half * 2 * half;
		uint32_t d = i % half;
		float lo = rotated(x, d, half, cosine, sine), hi = rotated(x, d + half, half, cosine, sine);

		x[d] = lo;
		x[d + half] = hi;
	}
	if (row.slot < 0)
		return;
	for (uint32_t i = threadIdx.x; i < a.kv.kv_heads * a.kv.pad; i += 256) {
		uint32_t head = i / a.kv.pad, d = i % a.kv.pad, t = row.position % KV_PAGE;
		uint16_t *page =
			a.kv.pool + (uint64_t)row.slot * a.kv.page + a.layer * a.kv.layer + (size_t)head * a.kv.pad * KV_PAGE * 2;
		bool real = d < a.kv.head_dim;

		page[kv_k_at(t, d)] = float_to_half_bits(real ? rotated(k + head * 2 * half, d, half, cosine, sine) : 0);
		page[a.kv.pad * KV_PAGE + kv_v_at(t, d)] = float_to_half_bits(real ? v[head * 2 * half + d] : 0);
	}
}

cudaError_t rope_store_cuda(const struct rope_args *a, cudaStream_t s)
{
	return LAUNCH(rope_store, dim3(a->m), 256u, (size_t)0, s, *a);
}
