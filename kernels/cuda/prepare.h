/* prepare.h: a row of f32 to the forms that matrices want (ops.h), by the threads of one block of ROW_THREADS. The row
 * kernels end with it. */
#ifndef WEFT_CUDA_PREPARE_H
#define WEFT_CUDA_PREPARE_H

#include "ops.h"

/* A thread has elements 4 t .. 4 t + 3, and again every 4 ROW_THREADS elements. A block of a row that is shared out takes
 * ROW_SPAN elements. */
enum { ROW_THREADS = 512, ROW_SPAN = 4096, ROW_WARPS = ROW_THREADS / WARP };

/* x[4 c ..], zeros from n on. ld is a multiple of 16, so the load stays within the row. */
DEVICE void load_four(float v[4], const float *x, uint32_t c, uint32_t n)
{
	uint4 u = {0, 0, 0, 0};

	if (4 * c < n)
		u = load16(x + 4 * c);
	v[0] = 4 * c < n ? bits_to_float(u.x) : 0;
	v[1] = 4 * c + 1 < n ? bits_to_float(u.y) : 0;
	v[2] = 4 * c + 2 < n ? bits_to_float(u.z) : 0;
	v[3] = 4 * c + 3 < n ? bits_to_float(u.w) : 0;
}

/* Magnitudes as bits are ordered as numbers, infinities and NaNs on top. */
DEVICE float larger_magnitude(float a, float b)
{
	uint32_t x = float_to_bits(a) & 0x7fffffff, y = float_to_bits(b) & 0x7fffffff;

	return bits_to_float(x > y ? x : y);
}

/* Over the block, the same in every thread. scratch: [ROW_WARPS]. */
DEVICE float block_magnitude(float a, const shared<float> &scratch)
{
	float top = 0;

	for (uint32_t w = WARP / 2; w; w /= 2)
		a = larger_magnitude(a, shuffle_xor(a, w));
	sync_block();
	if (lane() == 0)
		scratch[warp()] = a;
	sync_block();
	for (uint32_t i = 0; i < ROW_WARPS; i++)
		top = larger_magnitude(top, scratch[i]);
	return top;
}

/* Over the block: each warp's butterfly, then the warps in order. */
DEVICE float block_sum(float x, const shared<float> &scratch)
{
	float sum = 0;

	x = warp_sum(x);
	sync_block();
	if (lane() == 0)
		scratch[warp()] = x;
	sync_block();
	for (uint32_t i = 0; i < ROW_WARPS; i++)
		sum += scratch[i];
	return sum;
}

/* ops/quantize.h: a group is held by group / 4 neighbouring lanes. */
DEVICE void prepare_integers(const struct dform &f, uint32_t row, const float *x, uint32_t n, uint32_t c0, uint32_t c1)
{
	for (uint32_t base = c0 + warp() * WARP; base < c1; base += ROW_THREADS) {
		uint32_t c = base + lane(), g = 4 * c / f.group, bits, packed = 0;
		float v[4], a = 0, inverse, sum = 0;

		load_four(v, x, c, n);
		for (uint32_t i = 0; i < 4; i++)
			a = larger_magnitude(a, v[i]);
		for (uint32_t w = f.group / 8; w; w /= 2)
			a = larger_magnitude(a, shuffle_xor(a, w));
		bits = float_to_bits(a);
		inverse = bits >= 0x7f800000 || a < 1e-30f ? 0 : 127 / a;
		for (uint32_t i = 0; i < 4; i++) {
			int32_t q = inverse != 0 ? round_to_int(v[i] * inverse) : 0;

			packed |= (uint32_t)(q & 255) << 8 * i;
			sum += (float)q;
		}
		for (uint32_t w = f.group / 8; w; w /= 2)
			sum += shuffle_xor(sum, w);
		if (4 * c >= f.ldx)
			continue;
		*(uint32_t *)(f.x + (size_t)row * f.ldx + 4 * c) = packed;
		if (4 * c % f.group || 4 * c >= n)
			continue;
		f.scale[(size_t)g * f.ldm + row] = bits >= 0x7f800000 ? bits_to_float(0x7fc00000) : inverse != 0 ? a / 127 : 0;
		f.sum[(size_t)g * f.ldm + row] = (int32_t)sum;
	}
}

DEVICE void prepare_halves(const struct dform &f, uint32_t row, const float *x, uint32_t n, uint32_t c0, uint32_t c1,
			   const shared<float> &scratch)
{
	float factor = 1;

	if (f.form == FORM_F16) {
		float a = 0, v[4];
		uint32_t bits;

		for (uint32_t c = threadIdx.x; 4 * c < n; c += ROW_THREADS) {
			load_four(v, x, c, n);
			for (uint32_t i = 0; i < 4; i++)
				a = larger_magnitude(a, v[i]);
		}
		bits = float_to_bits(block_magnitude(a, scratch));
		/* 2^15 <= a < infinity: bring it below 2^15. The exponent's field is at most 254: both powers are normal. */
		if (bits >= 0x47000000 && bits < 0x7f800000)
			factor = bits_to_float((127 - ((bits >> 23) - 141)) << 23);
		if (threadIdx.x == 0)
			f.scale[row] = 1 / factor;
	}
	for (uint32_t c = c0 + threadIdx.x; c < c1; c += ROW_THREADS) {
		float v[4];

		if (8 * c >= f.ldx)
			continue;
		load_four(v, x, c, n);
		uint2 to;

		if (f.form == FORM_F16) {
			to.x = pack_half(v[0] * factor, v[1] * factor);
			to.y = pack_half(v[2] * factor, v[3] * factor);
		} else {
			to.x = (uint32_t)float_to_bf16_bits(v[0]) | (uint32_t)float_to_bf16_bits(v[1]) << 16;
			to.y = (uint32_t)float_to_bf16_bits(v[2]) | (uint32_t)float_to_bf16_bits(v[3]) << 16;
		}
		*(uint2 *)(f.x + (size_t)row * f.ldx + 8 * c) = to;
	}
}

/* Elements from `begin` on, `span` of them (a multiple of 128), of row x[n]: this block's part of the forms. What the block
 * wrote to x before it must be behind a sync_block(). With f16 a block takes the whole row. */
DEVICE void prepare_row(const struct dforms &to, uint32_t row, const float *x, uint32_t n, uint32_t begin, uint32_t span,
			const shared<float> &scratch)
{
	/* rows end with zeros up to ldx: up to 63 elements more than n */
	uint32_t end = (n + 127) / 128 * 128, c0 = begin / 4, c1 = (begin + span < end ? begin + span : end) / 4;

	for (uint32_t i = 0; i < to.n; i++)
		if (to.form[i].form == FORM_I8)
			prepare_integers(to.form[i], row, x, n, c0, c1);
		else
			prepare_halves(to.form[i], row, x, n, c0, c1, scratch);
}

/* Elements of a row that one block takes. */
static inline uint32_t row_span(const struct dforms *to, uint32_t n)
{
	for (uint32_t i = 0; i < to->n; i++)
		if (to->form[i].form == FORM_F16)
			return (n + 127) / 128 * 128;
	return ROW_SPAN;
}

#endif
