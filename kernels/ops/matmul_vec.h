/* matmul_vec.h: matmul.h's float kinds on 16 lanes: one chain per output element, TILE_ROWS activation rows by TILE_BLOCKS blocks
 * of weights at a time, so that each weight is loaded (and widened) once per tile and there are chains enough to hide latency. */
#include "matmul.h"
#include "vec16.h"

#ifdef __AVX512F__
enum { TILE_ROWS = 12, TILE_BLOCKS = 2 };
#else
enum { TILE_ROWS = 4, TILE_BLOCKS = 1 };
#endif

/* rows and blocks are constants where this is called. */
VEC void float_tile(float *out, size_t ldo, const struct matrix *w, const float *x, size_t ldx, uint32_t rows, uint32_t b0, uint32_t blocks,
		    enum pack_kind kind)
{
	v16 acc[TILE_ROWS][MATMUL_CHUNK];
	size_t stride = matrix_block_bytes(w);
	const unsigned char *c = w->codes + b0 * stride;

	UNROLL
	for (uint32_t i = 0; i < rows; i++)
		UNROLL
		for (uint32_t b = 0; b < blocks; b++)
			acc[i][b] = v16_zero();
	if (kind == PACK_BF16)
		for (uint32_t k = 0; k < w->kpad; k += 2, c += 64) {
			v16 even[MATMUL_CHUNK], odd[MATMUL_CHUNK];

			UNROLL
			for (uint32_t b = 0; b < blocks; b++) {
				even[b] = v16_bf16_even(c + b * stride);
				odd[b] = v16_bf16_odd(c + b * stride);
			}
			UNROLL
			for (uint32_t i = 0; i < rows; i++)
				UNROLL
				for (uint32_t b = 0; b < blocks; b++)
					acc[i][b] = v16_fma(even[b], v16_all(x[i * ldx + k]), acc[i][b]);
			UNROLL
			for (uint32_t i = 0; i < rows; i++)
				UNROLL
				for (uint32_t b = 0; b < blocks; b++)
					acc[i][b] = v16_fma(odd[b], v16_all(x[i * ldx + k + 1]), acc[i][b]);
		}
	else
		for (uint32_t k = 0; k < w->kpad; k++, c += kind == PACK_F16 ? 32 : 64) {
			v16 v[MATMUL_CHUNK];

			UNROLL
			for (uint32_t b = 0; b < blocks; b++)
				v[b] = kind == PACK_F16 ? v16_half(c + b * stride) : v16_load((const float *)(c + b * stride));
			UNROLL
			for (uint32_t i = 0; i < rows; i++)
				UNROLL
				for (uint32_t b = 0; b < blocks; b++)
					acc[i][b] = v16_fma(v[b], v16_all(x[i * ldx + k]), acc[i][b]);
		}
	UNROLL
	for (uint32_t i = 0; i < rows; i++)
		UNROLL
		for (uint32_t b = 0; b < blocks; b++)
			v16_store(out + i * ldo + (b0 + b) * LANES, acc[i][b]);
}

VEC void float_blocks(float *out, size_t ldo, const struct matrix *w, const struct rows *x, uint32_t m, uint32_t b0, uint32_t blocks,
		      enum pack_kind kind)
{
	uint32_t i = 0;

	for (; i + TILE_ROWS <= m; i += TILE_ROWS)
		float_tile(out + i * ldo, ldo, w, x->f + i * x->ld, x->ld, TILE_ROWS, b0, blocks, kind);
	for (; TILE_ROWS > 8 && i + 8 <= m; i += 8)
		float_tile(out + i * ldo, ldo, w, x->f + i * x->ld, x->ld, 8, b0, blocks, kind);
	for (; TILE_ROWS > 4 && i + 4 <= m; i += 4)
		float_tile(out + i * ldo, ldo, w, x->f + i * x->ld, x->ld, 4, b0, blocks, kind);
	for (; i + 2 <= m; i += 2)
		float_tile(out + i * ldo, ldo, w, x->f + i * x->ld, x->ld, 2, b0, blocks, kind);
	if (i < m)
		float_tile(out + i * ldo, ldo, w, x->f + i * x->ld, x->ld, 1, b0, blocks, kind);
}

VEC void float_kind(float *out, size_t ldo, const struct matrix *w, const struct rows *x, uint32_t m, uint32_t b0, uint32_t b1, enum pack_kind kind)
{
	uint32_t b = b0;

	if (m == 1 && b1 - b0 == MATMUL_CHUNK) {
		float_tile(out, ldo, w, x->f, x->ld, 1, b0, MATMUL_CHUNK, kind);
		return;
	}
	for (; b + TILE_BLOCKS <= b1; b += TILE_BLOCKS)
		float_blocks(out, ldo, w, x, m, b, TILE_BLOCKS, kind);
	for (; b < b1; b++)
		float_blocks(out, ldo, w, x, m, b, 1, kind);
}

VEC void matmul_floats(float *out, size_t ldo, const struct matrix *w, const struct rows *x, uint32_t m, uint32_t b0, uint32_t b1)
{
	if (w->kind == PACK_BF16)
		float_kind(out, ldo, w, x, m, b0, b1, PACK_BF16);
	else if (w->kind == PACK_F16)
		float_kind(out, ldo, w, x, m, b0, b1, PACK_F16);
	else
		float_kind(out, ldo, w, x, m, b0, b1, PACK_F32);
}
