/* tiles.h: the product of matmul.h by tiles of bf16 (AMX), with an order of sums of its own: it agrees with itself, not with matmul.h.
 *
 * x goes in two planes, hi = bf16(x) and lo = bf16(x - hi): 16 bits of significand. bf16() rounds to nearest even, and what is below
 * 2^-126 is zero, here and in all that follows: tiles know no subnormal numbers. Weights:
 *
 *   PACK_BF16   w = W as it lies                                                       products, in this order   lo w, hi w
 *   PACK_F16    v = bf16(W), u = W - v, which bf16 holds exactly                                                 lo v, hi u, hi v
 *   PACK_INT    w = bf16(fma(scale, code, -fma(scale, zero, min)))                                               hi w
 *   PACK_NF4    w = bf16(absmax * nf4[code])                                                                     hi w
 *
 * A weight of integers is thus off by up to 2^-9 of itself, and so is x: less than what int8 activations are off by.
 *
 *   acc = 0; for steps of 32 k ascending, for each of the products a b above:
 *     even = odd = 0; for i in 0 .. 15: even = fma(a[2i], b[2i], even), odd = fma(a[2i + 1], b[2i + 1], odd)
 *     acc = acc + (even + odd)
 *
 * What lies past the last k is zeros. So an element's bits depend on its row of x and of W alone: not on how many rows there are. */
#ifndef WEFT_OPS_TILES_H
#define WEFT_OPS_TILES_H

#include "matrix.h"

struct guest;

enum { TILES_ROWS = 16, TILES_K = 32 };

/* k in whole steps. */
static inline size_t tiles_depth(uint32_t k)
{
	return ((size_t)k + TILES_K - 1) / TILES_K * TILES_K;
}

/* Activation rows in the order of tiles: [rows / 16, rounded up][stride / 32][16][32] each, of which depth / 32 are used. */
struct planes {
	uint16_t *hi, *lo;	/* lo may be NULL for products that do not read it */
	size_t depth, stride;
};

/* An odd number of 16 KiB from 16 rows to the next: what is read of all rows at a time, 512 k, then lies evenly in the second cache. */
static inline size_t tiles_stride(size_t depth)
{
	return ((depth / TILES_K + 15) / 16 | 1) * 16 * TILES_K;
}

/* Where k of row i lies. */
static inline size_t tiles_at(const struct planes *p, uint32_t i, size_t k)
{
	return i / TILES_ROWS * p->stride * TILES_ROWS + k / TILES_K * TILES_K * TILES_ROWS + i % TILES_ROWS * TILES_K + k % TILES_K;
}

/* Row i of the planes from x[n]; zeros from there up to the depth. lo only where it is not NULL. */
typedef void split_fn(const struct planes *p, uint32_t i, const float *x, uint32_t n);
/* Blocks [b0, b1) of W (b1 - b0 <= TILES_CHUNK, not PACK_F32 or PACK_S8) against m rows. out[i * ldo + r], written whole up to row
 * 16 * b1. guest: what to fetch meanwhile (guest.h), or NULL. */
typedef void tiles_fn(float *out, size_t ldo, const struct matrix *w, const struct planes *x, uint32_t m, uint32_t b0, uint32_t b1,
		      struct guest *guest);
enum { TILES_CHUNK = 24, TILES_FEW = 32 };	/* up to so many rows there is no gain in more than MATMUL_CHUNK blocks at a time */

split_fn split_plain, split_amx;
tiles_fn tiles_plain, tiles_amx;

static inline bool tiles_read_lo(const struct matrix *w)
{
	return w->kind == PACK_BF16 || w->kind == PACK_F16;
}

#endif
