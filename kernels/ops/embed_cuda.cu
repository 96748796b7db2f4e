/* embed_cuda.cu: rows of the embedding, in whatever form the checkpoint has it.
 *
 * Versions:
 *   1  a thread an element. A row of 8,192 is at most 32 KiB spread over as many sectors as it has 64-byte words: 2 us, once
 *      per pass. */
#include "kernels/cuda/ops.h"

DEVICE float factor_at(const uint16_t *high, const int8_t *sub, const struct dmatrix &w, uint32_t b, uint32_t r, uint32_t g)
{
	float f = half_bits_to_float(high[(size_t)b * w.block_scales + (size_t)(sub ? g * w.group / 256 : g) * 16 + r]);

	return sub ? f * (float)sub[((size_t)b * w.groups + g) * 16 + r] : f;
}

DEVICE float element_at(const struct dmatrix &w, uint32_t row, uint32_t k)
{
	const uint32_t b = row / 16, r = row % 16;
	const unsigned char *c = w.codes + b * w.block_bytes;
	uint32_t code;
	float v;

	switch (w.form) {
	case FORM_F32:
		return ((const float *)c)[(size_t)k * 16 + r];
	case FORM_F16:
		return half_bits_to_float(((const uint16_t *)c)[((size_t)k / 2 * 16 + r) * 2 + k % 2]);
	case FORM_BF16:
		return bits_to_float((uint32_t)((const uint16_t *)c)[((size_t)k / 2 * 16 + r) * 2 + k % 2] << 16);
	case FORM_I8:
		code = c[((size_t)k / 4 * 16 + r) * 4 + k % 4];
		break;
	default:
		code = c[((size_t)k / 8 * 16 + r) * 4 + k % 4];
		code = k % 8 < 4 ? code & 15 : code >> 4;
	}
	v = factor_at(w.scales, w.sub_scales, w, b, r, k / w.group) * (float)((int32_t)code - w.zero);
	return w.mins ? v - factor_at(w.mins, w.sub_mins, w, b, r, k / w.group) : v;
}

KERNEL BLOCK_OF(256) embed(float *x, uint32_t ld, const struct dmatrix w, const int32_t *token)
{
	uint32_t k = blockIdx.y * 256 + threadIdx.x;

	if (k < w.cols)
		x[(size_t)blockIdx.x * ld + k] = element_at(w, (uint32_t)token[blockIdx.x], k);
}

cudaError_t embed_cuda(float *x, uint32_t ld, const struct dmatrix *w, const int32_t *token, uint32_t m, cudaStream_t s)
{
	return LAUNCH(embed, dim3(m, (w->cols + 255) / 256), 256u, (size_t)0, s, x, ld, *w, token);
}
