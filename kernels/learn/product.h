/* product.h: f32 products with packed weights, in both directions, for passes that are differentiated or that check others.
 *
 * The core multiplies packed integers by activations that it has rounded to int8. Here the weights are what they mean
 * (ops/matrix.h), as f32, and the activations stay as they are. No f32 copy of a matrix is made: a part of a product unpacks a slab
 * of it on its stack, some tens of kilobytes, and multiplies it by all rows with the core's own f32 product. It pays from tens of
 * rows on.
 *
 * Slabs and the order of their sums follow from the shape of the matrix, so a result does not depend on the number of rows or
 * threads. */
#ifndef WEFT_LEARN_PRODUCT_H
#define WEFT_LEARN_PRODUCT_H

#include "kernels/ops/ops.h"
#include "kernels/pool.h"

/* What is merged into the weights while they are unpacked: factor * B A, with B [out][rank], and the rank rows of A from `at` on.
 */
struct product_delta {
	const struct matrix *b, *a;
	uint32_t at, rank;
	const float *gain; /* of the rows of the sum (DoRA); NULL: 1 */
	float factor;
};

struct product {
	const struct ops *ops;
	struct pool *pool;
	const struct matrix *w;
	const struct product_delta *delta; /* [n_delta]; forward only */
	uint32_t n_delta;
	float factor; /* of the whole product */
	bool add;     /* y +=, else y = */
};

/* y[m][ldy] = factor * W x: x[m][ldx] has w->cols elements a row, y gets w->rows; nothing else of y is touched. */
void product(const struct product *p, float *y, size_t ldy, const float *x, size_t ldx, uint32_t m);
/* y[m][ldy] = factor * W^T g: g[m][ldg] has w->rows elements a row, y gets w->cols. */
void product_back(const struct product *p, float *y, size_t ldy, const float *g, size_t ldg, uint32_t m);

/* Rows 16 b .. 16 b + 15 of W at inputs k0 .. k0 + n - 1, as out[n][16]; rows past the end are zeros. */
void product_unpack(const struct matrix *w, uint32_t b, uint32_t k0, uint32_t n, float *out);

#endif
