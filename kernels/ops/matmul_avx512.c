/* matmul_avx512.c: integers by VNNI: one dpbusd does 4 k of 16 rows, on the packed codes as they lie in memory. */
#include "matmul_vec.h"

enum { INT_ROWS = 8 };

VEC v16 factors(const uint16_t *high, const int8_t *sub, const struct matrix *w, uint32_t b, uint32_t g)
{
	v16 f;

	high += b * matrix_block_scales(w);
	if (!w->two_level)
		return v16_half(high + (size_t)g * LANES);
	f = v16_half(high + (size_t)g * w->group / SUPER * LANES);
	return v16_mul(f, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(sub + ((size_t)b * w->groups + g) * LANES)))));
}

VEC __m512i four(const int8_t *q)
{
	int32_t v;

	memcpy(&v, q, 4);
	return _mm512_set1_epi32(v);
}

/* One group: n[i][b] = -zero * sum + codes . q */
VEC void int_group(__m512i n[INT_ROWS][MATMUL_CHUNK], const unsigned char *c, size_t stride, const int8_t *q, size_t ldq, uint32_t rows, uint32_t blocks,
		   uint32_t group, unsigned bits)
{
	const __m512i low = _mm512_set1_epi8(15);

	for (uint32_t k = 0; k < group; k += 32 / bits, c += 64) {
		__m512i v[MATMUL_CHUNK], u[MATMUL_CHUNK];

		for (uint32_t b = 0; b < blocks; b++) {
			u[b] = v[b] = _mm512_loadu_si512(c + b * stride);
			if (bits == 4) {
				u[b] = _mm512_and_si512(_mm512_srli_epi16(v[b], 4), low);
				v[b] = _mm512_and_si512(v[b], low);
			}
		}
		for (uint32_t i = 0; i < rows; i++) {
			__m512i q0 = four(q + i * ldq + k);

			for (uint32_t b = 0; b < blocks; b++)
				n[i][b] = _mm512_dpbusd_epi32(n[i][b], v[b], q0);
		}
		for (uint32_t i = 0; i < rows && bits == 4; i++) {
			__m512i q1 = four(q + i * ldq + k + 4);

			for (uint32_t b = 0; b < blocks; b++)
				n[i][b] = _mm512_dpbusd_epi32(n[i][b], u[b], q1);
		}
	}
}

VEC void int_tile(float *out, size_t ldo, const struct matrix *w, const struct rows *x, uint32_t first, uint32_t rows, uint32_t b0, uint32_t blocks,
		  unsigned bits)
{
	v16 acc[INT_ROWS][MATMUL_CHUNK];
	size_t stride = matrix_block_bytes(w);
	const float *xs = x->scale + (size_t)first * w->groups;
	const int32_t *sum = x->sum + (size_t)first * w->groups;

	for (uint32_t i = 0; i < rows; i++)
		for (uint32_t b = 0; b < blocks; b++)
			acc[i][b] = v16_zero();
	for (uint32_t g = 0; g < w->groups; g++) {
		__m512i n[INT_ROWS][MATMUL_CHUNK];
		size_t k = (size_t)g * w->group;

		for (uint32_t i = 0; i < rows; i++)
			for (uint32_t b = 0; b < blocks; b++)
				n[i][b] = _mm512_set1_epi32(-(int32_t)w->zero * sum[i * w->groups + g]);
		int_group(n, w->codes + b0 * stride + k * LANES * bits / 8, stride, x->q + (size_t)first * w->kpad + k, w->kpad, rows, blocks, w->group, bits);
		for (uint32_t b = 0; b < blocks; b++) {
			v16 scale = factors(w->scales, w->sub_scales, w, b0 + b, g);

			for (uint32_t i = 0; i < rows; i++)
				acc[i][b] = v16_fma(v16_mul(scale, v16_all(xs[i * w->groups + g])), _mm512_cvtepi32_ps(n[i][b]), acc[i][b]);
		}
		for (uint32_t b = 0; b < blocks && w->has_min; b++) {
			v16 min = factors(w->mins, w->sub_mins, w, b0 + b, g);

			for (uint32_t i = 0; i < rows; i++)
				acc[i][b] = v16_fma(min, v16_all(-(xs[i * w->groups + g] * (float)sum[i * w->groups + g])), acc[i][b]);
		}
	}
	for (uint32_t i = 0; i < rows; i++)
		for (uint32_t b = 0; b < blocks; b++)
			v16_store(out + (first + i) * ldo + (b0 + b) * LANES, acc[i][b]);
}

VEC void int_blocks(float *out, size_t ldo, const struct matrix *w, const struct rows *x, uint32_t m, uint32_t b0, uint32_t blocks, unsigned bits)
{
	uint32_t i = 0;

	for (; i + INT_ROWS <= m; i += INT_ROWS)
		int_tile(out, ldo, w, x, i, INT_ROWS, b0, blocks, bits);
	for (; i + 4 <= m; i += 4)
		int_tile(out, ldo, w, x, i, 4, b0, blocks, bits);
	for (; i < m; i++)
		int_tile(out, ldo, w, x, i, 1, b0, blocks, bits);
}

VEC void int_bits(float *out, size_t ldo, const struct matrix *w, const struct rows *x, uint32_t m, uint32_t b0, uint32_t b1, unsigned bits)
{
	if (m == 1 && b1 - b0 == MATMUL_CHUNK) {
		int_tile(out, ldo, w, x, 0, 1, b0, MATMUL_CHUNK, bits);
		return;
	}
	for (; b0 + 2 <= b1; b0 += 2)
		int_blocks(out, ldo, w, x, m, b0, 2, bits);
	for (; b0 < b1; b0++)
		int_blocks(out, ldo, w, x, m, b0, 1, bits);
}

void matmul_avx512(float *out, size_t ldo, const struct matrix *w, const struct rows *x, uint32_t m, uint32_t b0, uint32_t b1)
{
	if (w->kind != PACK_INT)
		matmul_floats(out, ldo, w, x, m, b0, b1);
	else if (w->bits == 8)
		int_bits(out, ldo, w, x, m, b0, b1, 8);
	else
		int_bits(out, ldo, w, x, m, b0, b1, 4);
}
