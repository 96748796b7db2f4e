/* tiles.c: the plain reference. Says what tiles.h says, one output element at a time. */
#include "tiles.h"

#include <math.h>
#include <string.h>

#include "../format/blocks.h"
#include "matmul.h"

static float no_subnormal(float f)
{
	return fabsf(f) < 0x1p-126f ? copysignf(0, f) : f;
}

static uint16_t rounded(float f)
{
	return float_to_bf16(no_subnormal(f));
}

void split_plain(const struct planes *p, uint32_t i, const float *x, uint32_t n)
{
	for (uint32_t k = 0; k < p->depth; k++) {
		size_t at = tiles_at(p, i, k);
		float f = k < n ? x[k] : 0;

		p->hi[at] = rounded(f);
		if (p->lo)
			p->lo[at] = rounded(f - bf16_to_float(p->hi[at]));
	}
}

/* The weight W[r][k] as one plane, or as two. */
static void planes_of(const struct matrix *w, uint32_t r, uint32_t k, float *hi, float *lo)
{
	float v = k < w->kpad ? matrix_fused(w, r, k) : 0;

	*hi = bf16_to_float(rounded(v));
	*lo = w->kind == PACK_F16 ? v - *hi : 0;
}

/* One step of 32 k of one product. */
static float step(float acc, const float *a, const float *b)
{
	float sum[2] = { 0 };

	for (uint32_t k = 0; k < TILES_K; k++)
		sum[k % 2] = no_subnormal(fmaf(a[k], b[k], sum[k % 2]));
	return no_subnormal(acc + no_subnormal(sum[0] + sum[1]));
}

static float product(const struct matrix *w, uint32_t r, const struct planes *x, uint32_t i)
{
	size_t at = tiles_at(x, i, 0);
	float acc = 0;

	for (uint32_t k = 0; k < w->kpad; k += TILES_K, at += (size_t)TILES_K * TILES_ROWS) {
		float hi[TILES_K], lo[TILES_K], v[TILES_K], u[TILES_K];

		for (uint32_t j = 0; j < TILES_K; j++) {
			hi[j] = bf16_to_float(x->hi[at + j]);
			lo[j] = tiles_read_lo(w) ? bf16_to_float(x->lo[at + j]) : 0;
			planes_of(w, r, k + j, &v[j], &u[j]);
		}
		if (tiles_read_lo(w))
			acc = step(acc, lo, v);
		if (w->kind == PACK_F16)
			acc = step(acc, hi, u);
		acc = step(acc, hi, v);
	}
	return acc;
}

void tiles_plain(float *out, size_t ldo, const struct matrix *w, const struct planes *x, uint32_t m, uint32_t b0, uint32_t b1,
		 struct guest *guest)
{
	(void)guest;
	for (uint32_t i = 0; i < m; i++)
		for (uint32_t r = b0 * LANES; r < b1 * LANES; r++)
			out[i * ldo + r] = product(w, r, x, i);
}
