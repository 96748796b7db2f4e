/* matmul_avx2.c: integers by maddubs (u8 * s8, pairs summed in 16 bits) and madd (to 32 bits).
 *
 * The 16-bit pair sums are exact: activations are -127 .. 127. Signed bytes (zero = 128) go in as |w| and sign(x, w), at most
 * 2 * 128 * 127 = 32512; other types have codes up to 63. */
#include "matmul_vec.h"

enum { INT_ROWS = 4 };
/* Nibbles that one or two rows meet come from memory as fast as they are multiplied only when they are asked for so many bytes ahead: the
 * hardware's own stream is late then. For bytes it is in time, and is disturbed by being helped. */
enum { FAR = 8192 };

VEC v16 to_floats(__m256i lo, __m256i hi)
{
	return (v16){ _mm256_cvtepi32_ps(lo), _mm256_cvtepi32_ps(hi) };
}

VEC __m256i four(const int8_t *q)
{
	int32_t v;

	memcpy(&v, q, 4);
	return _mm256_set1_epi32(v);
}

enum code_kind { CODES_4, CODES_8, CODES_SIGNED };

/* Sums of pairs of codes . q, 8 rows: of 4 k, or for CODES_4 of 8 k, at most 4 * 15 * 127. v and u are the low and high nibbles;
 * for CODES_SIGNED the signed weight and its magnitude. */
VEC __m256i pairs(__m256i v, __m256i u, const int8_t *q, enum code_kind kind)
{
	if (kind == CODES_SIGNED)
		return _mm256_maddubs_epi16(u, _mm256_sign_epi8(four(q), v));
	if (kind == CODES_8)
		return _mm256_maddubs_epi16(v, four(q));
	return _mm256_add_epi16(_mm256_maddubs_epi16(v, four(q)), _mm256_maddubs_epi16(u, four(q + 4)));
}

/* One group of one block: n[i][half] += codes . q */
VEC void int_group(__m256i n[INT_ROWS][2], const unsigned char *c, const int8_t *q, size_t ldq, uint32_t rows, uint32_t group,
		   enum code_kind kind)
{
	const __m256i low = _mm256_set1_epi8(15), flip = _mm256_set1_epi8(-128);

	for (uint32_t k = 0; k < group; k += kind == CODES_4 ? 8 : 4, c += 64) {
		if (kind == CODES_4 && rows <= 2)
			_mm_prefetch((const char *)c + FAR, _MM_HINT_T1);
		UNROLL
		for (int h = 0; h < 2; h++) {
			__m256i v = _mm256_loadu_si256((const __m256i *)(c + 32 * h)), u = v;

			if (kind == CODES_4) {
				u = _mm256_and_si256(_mm256_srli_epi16(v, 4), low);
				v = _mm256_and_si256(v, low);
			} else if (kind == CODES_SIGNED) {
				v = _mm256_xor_si256(v, flip);
				u = _mm256_abs_epi8(v);
			}
			UNROLL
			for (uint32_t i = 0; i < rows; i++)
				n[i][h] = _mm256_add_epi32(
					n[i][h], _mm256_madd_epi16(pairs(v, u, q + i * ldq + k, kind), _mm256_set1_epi16(1)));
		}
	}
}

VEC void int_tile(float *out, size_t ldo, const struct matrix *w, const struct rows *x, uint32_t first, uint32_t rows, uint32_t b,
		  enum code_kind kind)
{
	v16 acc[INT_ROWS];
	const unsigned char *codes = w->codes + b * matrix_block_bytes(w);
	const float *xs = x->scale + (size_t)first * w->groups;
	const int32_t *sum = x->sum + (size_t)first * w->groups;
	int32_t zero = kind == CODES_SIGNED ? 0 : w->zero;

	UNROLL
	for (uint32_t i = 0; i < rows; i++)
		acc[i] = v16_zero();
	for (uint32_t g = 0; g < w->groups; g++) {
		__m256i n[INT_ROWS][2];
		size_t k = (size_t)g * w->group;
		v16 f = factors(w->scales, w->sub_scales, w, b, g);

		UNROLL
		for (uint32_t i = 0; i < rows; i++)
			n[i][0] = n[i][1] = _mm256_set1_epi32(-zero * sum[i * w->groups + g]);
		int_group(n, codes + k * LANES * (kind == CODES_4 ? 4 : 8) / 8, x->q + first * x->ldq + k, x->ldq, rows,
			  w->group, kind);
		UNROLL
		for (uint32_t i = 0; i < rows; i++)
			acc[i] = v16_fma(v16_mul(f, v16_all(xs[i * w->groups + g])), to_floats(n[i][0], n[i][1]), acc[i]);
		if (!w->has_min)
			continue;
		f = factors(w->mins, w->sub_mins, w, b, g);
		UNROLL
		for (uint32_t i = 0; i < rows; i++)
			acc[i] = v16_fma(f, v16_all(-(xs[i * w->groups + g] * (float)sum[i * w->groups + g])), acc[i]);
	}
	UNROLL
	for (uint32_t i = 0; i < rows; i++)
		v16_store(out + (first + i) * ldo + b * LANES, acc[i]);
}

VEC void int_kind(float *out, size_t ldo, const struct matrix *w, const struct rows *x, uint32_t m, uint32_t b0, uint32_t b1,
		  enum code_kind kind)
{
	for (uint32_t b = b0; b < b1; b++) {
		uint32_t i = 0;

		for (; i + INT_ROWS <= m; i += INT_ROWS)
			int_tile(out, ldo, w, x, i, INT_ROWS, b, kind);
		for (; i + 2 <= m; i += 2)
			int_tile(out, ldo, w, x, i, 2, b, kind);
		if (i < m)
			int_tile(out, ldo, w, x, i, 1, b, kind);
	}
}

void matmul_avx2(float *out, size_t ldo, const struct matrix *w, const struct rows *x, uint32_t m, uint32_t b0, uint32_t b1)
{
	if (w->kind == PACK_NF4)
		matmul_nf4(out, ldo, w, x, m, b0, b1);
	else if (w->kind != PACK_INT)
		matmul_floats(out, ldo, w, x, m, b0, b1, false);
	else if (w->bits == 4)
		int_kind(out, ldo, w, x, m, b0, b1, CODES_4);
	else if (w->zero == 128)
		int_kind(out, ldo, w, x, m, b0, b1, CODES_SIGNED);
	else
		int_kind(out, ldo, w, x, m, b0, b1, CODES_8);
}

void matmul_add_avx2(float *out, size_t ldo, const struct matrix *w, const struct rows *x, uint32_t m, uint32_t b0, uint32_t b1)
{
	matmul_floats(out, ldo, w, x, m, b0, b1, true);
}

void matmul_few_avx2(float *const out[], const struct matrix *const w[], const float *const x[], uint32_t m, uint32_t b0,
		     uint32_t b1, bool add)
{
	matmul_few(out, w, x, m, b0, b1, add);
}
