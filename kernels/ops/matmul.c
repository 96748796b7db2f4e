/* matmul.c: the plain reference. Says what matmul.h says, one output element at a time. */
#include "matmul.h"

#include <math.h>
#include <string.h>

#include "../format/blocks.h"

const float matrix_nf4[LANES] = {	/* nf4_code[i ^ 7] */
	0.0f, -0.09105003625154495f, -0.18477343022823334f, -0.28444138169288635f,
	-0.39491748809814453f, -0.5250730514526367f, -0.6961928009986877f, -1.0f,
	1.0f, 0.7229568362236023f, 0.5626170039176941f, 0.44070982933044434f,
	0.33791524171829224f, 0.24611230194568634f, 0.16093020141124725f, 0.07958029955625534f
};

static unsigned code_at(const struct matrix *w, uint32_t b, uint32_t lane, uint32_t k)
{
	const unsigned char *c = w->codes + b * matrix_block_bytes(w);

	if (w->bits == 8)
		return c[(size_t)k / 4 * 64 + lane * 4 + k % 4];
	c += (size_t)k / 8 * 64 + lane * 4 + k % 4;
	return k % 8 < 4 ? *c & 15 : *c >> 4;
}

/* Of the kinds that have a scale per group and multiply floats: what stands before the scale, and the scale. */
static float scaled_at(const struct matrix *w, uint32_t b, uint32_t lane, uint32_t k)
{
	if (w->kind == PACK_NF4)
		return matrix_nf4[code_at(w, b, lane, k)];
	return (float)(int8_t)w->codes[b * matrix_block_bytes(w) + (size_t)k * LANES + lane];
}

static float scale_at(const struct matrix *w, uint32_t b, uint32_t lane, uint32_t g)
{
	if (w->kind == PACK_NF4)
		return matrix_absmax(w, b * LANES + lane, g);
	return bf16_to_float(w->scales[b * matrix_block_scales(w) + (size_t)g * LANES + lane]);
}

static bool is_scaled(const struct matrix *w)
{
	return w->kind == PACK_S8 || w->kind == PACK_NF4;
}

static float float_at(const struct matrix *w, uint32_t b, uint32_t lane, uint32_t k)
{
	const unsigned char *c = w->codes + b * matrix_block_bytes(w);
	uint16_t half;
	float f;

	switch (w->kind) {
	case PACK_F32:
		memcpy(&f, c + ((size_t)k * LANES + lane) * 4, 4);
		return f;
	case PACK_F16:
		memcpy(&half, c + ((size_t)k * LANES + lane) * 2, 2);
		return half_to_float(half);
	case PACK_S8:
	case PACK_NF4:
		return scale_at(w, b, lane, k / w->group) * scaled_at(w, b, lane, k);
	default:
		memcpy(&half, c + (((size_t)k / 2 * LANES + lane) * 2 + k % 2) * 2, 2);
		return bf16_to_float(half);
	}
}

static float factor_at(const struct matrix *w, const uint16_t *high, const int8_t *sub, uint32_t b, uint32_t lane, uint32_t g)
{
	high += b * matrix_block_scales(w);
	if (!w->two_level)
		return half_to_float(high[(size_t)g * LANES + lane]);
	sub += ((size_t)b * w->groups + g) * LANES;
	return half_to_float(high[(size_t)g * w->group / SUPER * LANES + lane]) * (float)sub[lane];
}

void matrix_row_f32(const struct matrix *w, uint32_t row, float *out)
{
	uint32_t b = row / LANES, lane = row % LANES;

	for (uint32_t k = 0; k < w->cols; k++) {
		uint32_t g;

		if (w->kind != PACK_INT) {
			out[k] = float_at(w, b, lane, k);
			continue;
		}
		g = k / w->group;
		out[k] = factor_at(w, w->scales, w->sub_scales, b, lane, g) * (float)((int)code_at(w, b, lane, k) - w->zero);
		if (w->has_min)
			out[k] -= factor_at(w, w->mins, w->sub_mins, b, lane, g);
	}
}

float matrix_fused(const struct matrix *w, uint32_t row, uint32_t k)
{
	uint32_t b = row / LANES, lane = row % LANES, g = w->group ? k / w->group : 0;
	float scale, min;

	if (w->kind != PACK_INT)
		return float_at(w, b, lane, k);
	scale = factor_at(w, w->scales, w->sub_scales, b, lane, g);
	min = w->has_min ? factor_at(w, w->mins, w->sub_mins, b, lane, g) : 0;
	return fmaf(scale, (float)code_at(w, b, lane, k), -fmaf(scale, w->zero, min));
}

static float dot_float(const struct matrix *w, uint32_t b, uint32_t lane, const float *x)
{
	float acc = 0;

	for (uint32_t k = 0; k < w->kpad; k++)
		acc = fmaf(float_at(w, b, lane, k), x[k], acc);
	return acc;
}

static float dot_scaled(const struct matrix *w, uint32_t b, uint32_t lane, const float *x)
{
	float acc = 0;

	for (uint32_t g = 0; g < w->groups; g++) {
		float t = 0;

		for (uint32_t k = g * w->group; k < (g + 1) * w->group; k++)
			t = fmaf(scaled_at(w, b, lane, k), x[k], t);
		acc = fmaf(scale_at(w, b, lane, g), t, acc);
	}
	return acc;
}

static float dot_int(const struct matrix *w, uint32_t b, uint32_t lane, const struct rows *x, uint32_t i)
{
	const int8_t *xq = x->q + i * x->ldq;
	float acc = 0;

	for (uint32_t g = 0; g < w->groups; g++) {
		float xs = x->scale[(size_t)i * w->groups + g];
		int32_t n = 0;

		for (uint32_t k = g * w->group; k < (g + 1) * w->group; k++)
			n += ((int)code_at(w, b, lane, k) - w->zero) * xq[k];
		acc = fmaf(factor_at(w, w->scales, w->sub_scales, b, lane, g) * xs, (float)n, acc);
		if (w->has_min) {
			float sum = xs * (float)x->sum[(size_t)i * w->groups + g];

			acc = fmaf(factor_at(w, w->mins, w->sub_mins, b, lane, g), -sum, acc);
		}
	}
	return acc;
}

static float dot(const struct matrix *w, uint32_t r, const float *x)
{
	return is_scaled(w) ? dot_scaled(w, r / LANES, r % LANES, x) : dot_float(w, r / LANES, r % LANES, x);
}

void matmul_few_plain(float *const out[], const struct matrix *const w[], const float *const x[], uint32_t m, uint32_t b0,
		     uint32_t b1, bool add)
{
	for (uint32_t i = 0; i < m; i++)
		for (uint32_t r = b0 * LANES; r < b1 * LANES; r++)
			out[i][r] = add ? out[i][r] + dot(w[i], r, x[i]) : dot(w[i], r, x[i]);
}

void matmul_add_plain(float *out, size_t ldo, const struct matrix *w, const struct rows *x, uint32_t m, uint32_t b0, uint32_t b1)
{
	for (uint32_t i = 0; i < m; i++)
		for (uint32_t r = b0 * LANES; r < b1 * LANES; r++)
			out[i * ldo + r] += dot(w, r, x->f + i * x->ld);
}

void matmul_plain(float *out, size_t ldo, const struct matrix *w, const struct rows *x, uint32_t m, uint32_t b0, uint32_t b1)
{
	for (uint32_t i = 0; i < m; i++)
		for (uint32_t r = b0 * LANES; r < b1 * LANES; r++)
			out[i * ldo + r] =
				w->kind == PACK_INT ? dot_int(w, r / LANES, r % LANES, x, i) : dot(w, r, x->f + i * x->ld);
}
