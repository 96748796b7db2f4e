/* rope_cuda.cu: ops/rope.h on q and k, and k and v into their page.
 *
 * Versions:
 *   1  a block a row, angles from a table that the host made in double (the CPU's own bits). 70B shape: 80 KiB in and out a
 *      row, 2 us. int8: a warp takes a head of k or v, whose largest value it needs. */
#include "kernels/cuda/prepare.h"

enum { ROPE_THREADS = 256 };

DEVICE float rotated(const float *x, uint32_t d, uint32_t half, const float *cosine, const float *sine)
{
	return d < half ? x[d] * cosine[d] - x[d + half] * sine[d] : x[d - half] * sine[d - half] + x[d] * cosine[d - half];
}

DEVICE void rotate_queries(const struct rope_args &a, const float *cosine, const float *sine)
{
	const uint32_t half = a.kv.head_dim / 2;
	float *q = a.q + (size_t)blockIdx.x * a.ldq;

	for (uint32_t i = threadIdx.x; i < a.kv.heads * half; i += ROPE_THREADS) {
		float *x = q + i / half * 2 * half;
		uint32_t d = i % half;
		float lo = rotated(x, d, half, cosine, sine), hi = rotated(x, d + half, half, cosine, sine);

		x[d] = lo;
		x[d + half] = hi;
	}
}

/* Of the row's page. */
DEVICE unsigned char *head_of(const struct rope_args &a, const struct drow &row, uint32_t head)
{
	return a.kv.pool + (uint64_t)row.slot * a.kv.page + a.layer * a.kv.layer + head * a.kv.head;
}

KERNEL BLOCK_OF(ROPE_THREADS) rope_store(const struct rope_args a)
{
	const struct drow row = a.rows[blockIdx.x];
	const uint32_t half = a.kv.head_dim / 2;
	const float *cosine = a.angles + (size_t)row.position * 2 * half, *sine = cosine + half;
	const float *k = a.k + (size_t)blockIdx.x * a.ldk, *v = a.v + (size_t)blockIdx.x * a.ldk;

	rotate_queries(a, cosine, sine);
	if (row.slot < 0)
		return;
	for (uint32_t i = threadIdx.x; i < a.kv.kv_heads * a.kv.pad; i += ROPE_THREADS) {
		uint32_t head = i / a.kv.pad, d = i % a.kv.pad, t = row.position % KV_PAGE;
		uint16_t *page = (uint16_t *)head_of(a, row, head);
		bool real = d < a.kv.head_dim;

		page[kv_k_at(t, d)] = float_to_half_bits(real ? rotated(k + head * 2 * half, d, half, cosine, sine) : 0);
		page[a.kv.pad * KV_PAGE + kv_v_at(t, d)] = float_to_half_bits(real ? v[head * 2 * half + d] : 0);
	}
}

/* ---- int8 ---- */

/* A lane has dimensions lane, lane + 32, ...: x[i]. The warp's codes and their scale, by the rule of ops/quantize.h; infinite for what is
 * not finite. Returns the scale. */
enum { LANE_DIMS = 8 };
DEVICE float quantize_head(int32_t code[LANE_DIMS], const float x[LANE_DIMS])
{
	float a = 0, inverse;
	uint32_t bits;

	for (int i = 0; i < LANE_DIMS; i++)
		a = larger_magnitude(a, x[i]);
	for (uint32_t w = WARP / 2; w; w /= 2)
		a = larger_magnitude(a, shuffle_xor(a, w));
	bits = float_to_bits(a);
	inverse = bits >= 0x7f800000 || a < 1e-30f ? 0 : 127 / a;
	for (int i = 0; i < LANE_DIMS; i++)
		code[i] = inverse != 0 ? round_to_int(x[i] * inverse) : 0;
	return bits >= 0x7f800000 ? bits_to_float(0x7f800000) : inverse != 0 ? a / 127 : 0;
}

KERNEL BLOCK_OF(ROPE_THREADS) rope_store_int8(const struct rope_args a)
{
	const struct drow row = a.rows[blockIdx.x];
	const uint32_t half = a.kv.head_dim / 2, t = row.position % KV_PAGE, bytes = a.kv.pad * KV_PAGE;
	const float *cosine = a.angles + (size_t)row.position * 2 * half, *sine = cosine + half;

	rotate_queries(a, cosine, sine);
	if (row.slot < 0)
		return;
	for (uint32_t i = warp(); i < 2 * a.kv.kv_heads; i += ROPE_THREADS / WARP) {
		const bool value = i % 2;
		const float *from = (value ? a.v : a.k) + (size_t)blockIdx.x * a.ldk + i / 2 * 2 * half;
		unsigned char *page = head_of(a, row, i / 2);
		float x[LANE_DIMS], scale;
		int32_t code[LANE_DIMS];

		for (uint32_t k = 0; k < LANE_DIMS; k++) {
			uint32_t d = k * WARP + lane();

			x[k] = d >= a.kv.head_dim ? 0 : value ? from[d] : rotated(from, d, half, cosine, sine);
		}
		scale = quantize_head(code, x);
		for (uint32_t k = 0; k < LANE_DIMS; k++)
			if (k * WARP < a.kv.pad)
				page[value ? bytes + kv_v8_at(t, k * WARP + lane()) : kv_k8_at(t, k * WARP + lane())] =
					(unsigned char)code[k];
		if (lane() == 0)
			((float *)(page + 2 * bytes))[value * KV_PAGE + t] = scale;
	}
}

cudaError_t rope_store_cuda(const struct rope_args *a, cudaStream_t s)
{
	if (a->kv.int8)
		return LAUNCH(rope_store_int8, dim3(a->m), (unsigned)ROPE_THREADS, (size_t)0, s, *a);
	return LAUNCH(rope_store, dim3(a->m), (unsigned)ROPE_THREADS, (size_t)0, s, *a);
}
