/* matmul.h: out[i][r] = sum over k of W[r][k] * x[i][k], for packed W (matrix.h) and any number of activation rows.
 *
 * Orders of summation, the same in every file that implements this, for every number of rows:
 *
 *   float kinds   acc = 0; for k ascending: acc = fma(W[r][k], x[i][k], acc)                  one chain of f32 per element
 *   PACK_S8       acc = 0; for groups g ascending:
 *                     t   = 0; for k in g ascending: t = fma((float)code[r][k], x[i][k], t)   chains of groups run side by side
 *                     acc = fma(scale[r][g], t, acc)
 *   PACK_NF4      the same, with nf4[code[r][k]] and absmax[r][g]: the dequantised weights but for the rounding of f32
 *   integers      acc = 0; for groups g ascending:
 *                     n   = sum over k in g of (code[r][k] - zero) * xq[i][k]                 exact: |n| < 2^24
 *                     acc = fma(scale[r][g] * xs[i][g], (float)n, acc)
 *                     acc = fma(min[r][g], -(xs[i][g] * (float)xsum[i][g]), acc)              when W has minima
 *                 with xq, xs, xsum from quantize.h at W's group.
 *
 * With AMX, prompts and bf16 weights take another product: tiles.h.
 *
 * The f32 product scale * xs is rounded once; a two-level scale (f16 * int8) is exact in f32. */
#ifndef WEFT_OPS_MATMUL_H
#define WEFT_OPS_MATMUL_H

#include "matrix.h"

struct guest;

/* Activation rows. Float kinds read f, integers read q, scale and sum. */
struct rows {
	const float *f;		/* [m][ld], zeros from cols up to kpad */
	size_t ld;
	const int8_t *q;	/* [m][ldq], kpad of them read */
	size_t ldq;
	const float *scale;	/* [m][groups] */
	const int32_t *sum;	/* [m][groups]: sum of q over the group */
	struct guest *guest;	/* what to fetch meanwhile, where there is time (guest.h); or NULL */
};

/* Blocks [b0, b1) of W (b1 - b0 <= MATMUL_CHUNK) against m rows. out[i * ldo + r], written whole up to row 16 * b1. */
typedef void matmul_fn(float *out, size_t ldo, const struct matrix *w, const struct rows *x, uint32_t m, uint32_t b0, uint32_t b1);
enum { MATMUL_CHUNK = 4 };

matmul_fn matmul_plain, matmul_avx2, matmul_avx512, matmul_amx;

/* out += what the product is; not for PACK_INT and PACK_NF4, which no adapter has; any number of blocks. The sum runs from 0 and is added
 * once, so the bits are those of a product and an addition. */
matmul_fn matmul_add_plain, matmul_add_avx2, matmul_add_avx512;

/* The same for few rows that lie anywhere, each with a matrix of its own or the same: row i of x from x[i] on, times w[i], its results at
 * out[i] + r; add: to what is there, row after row. All w are of one kind and shape. Not for PACK_INT and
 * PACK_NF4. Any number of blocks; 1 <= m <= MATMUL_FEW. */
typedef void matmul_few_fn(float *const out[], const struct matrix *const w[], const float *const x[], uint32_t m, uint32_t b0, uint32_t b1,
			   bool add);
enum { MATMUL_FEW = 4 };

matmul_few_fn matmul_few_plain, matmul_few_avx2, matmul_few_avx512;

#endif
