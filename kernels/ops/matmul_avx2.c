/* matmul_avx2.c: integers by maddubs (u8 * s8, pairs summed in 16 bits) and madd (to 32 bits).
 *
 * The 16-bit sums are exact: activations are -127 .. 127. Signed bytes (zero = 128) go in as |w| and sign(x, w), a pair of them at most
 * 2 * 128 * 127 = 32512; other types have codes up to 63, and sums of several pairs fit. */
#include "matmul_vec.h"

enum { INT_ROWS = 4, SLICE = 64 /* groups */ };

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

/* As instructions of ours: with the intrinsics GCC 12 loses more of these sums to memory. */
VEC void add_words(__m256i *sum, __m256i a)
{
	__asm__("vpaddw %1, %0, %0" : "+x"(*sum) : "x"(a));
}

VEC void add_longs(__m256i *sum, __m256i a)
{
	__asm__("vpaddd %1, %0, %0" : "+x"(*sum) : "x"(a));
}

/* So many bytes ahead the first rows to meet a block ask for codes, or not at all: 0. Blocks lie one after the other, so the next one's beginning
 * is asked for as well. Intel's own stream is late whenever much is done with a line; AMD's is in time, and disturbed by help, but for the
 * nibbles of few rows. */
static uint32_t bytes_ahead(enum code_kind kind, uint32_t m)
{
	if (__builtin_cpu_is("intel"))
		return 4096;
	return kind == CODES_4 && m % INT_ROWS ? 8192 : 0;
}

VEC void fetch(const unsigned char *c, uint32_t ahead)
{
	if (ahead)
		_mm_prefetch((const char *)c + ahead, _MM_HINT_T1);
}

/* One group of one block: n[i][half] += codes . q; of signed bytes. */
VEC void signed_group(__m256i n[INT_ROWS][2], const unsigned char *c, uint32_t ahead, const int8_t *q, size_t ldq, uint32_t rows,
		      uint32_t group)
{
	const __m256i flip = _mm256_set1_epi8(-128);

	for (uint32_t k = 0; k < group; k += 4, c += 64) {
		fetch(c, ahead);
		UNROLL
		for (int h = 0; h < 2; h++) {
			__m256i w = _mm256_loadu_si256((const __m256i *)(c + 32 * h)), size;

			w = _mm256_xor_si256(w, flip);
			size = _mm256_abs_epi8(w);
			UNROLL
			for (uint32_t i = 0; i < rows; i++)
				add_longs(&n[i][h], _mm256_madd_epi16(_mm256_maddubs_epi16(size, _mm256_sign_epi8(four(q + i * ldq + k), w)),
								   _mm256_set1_epi16(1)));
		}
	}
}

/* sum[i][half] of a line of 64 bytes: pairs of codes . q, of 4 k or, of nibbles, of 8. */
VEC void unsigned_line(__m256i sum[INT_ROWS][2], const unsigned char *c, uint32_t ahead, const int8_t *q, size_t ldq, uint32_t rows,
		       unsigned bits, bool begin)
{
	const __m256i low = _mm256_set1_epi8(15);
	__m256i v[2], u[2];

	fetch(c, ahead);
	UNROLL
	for (int h = 0; h < 2; h++) {
		u[h] = v[h] = _mm256_loadu_si256((const __m256i *)(c + 32 * h));
		if (bits == 4) {
			u[h] = _mm256_and_si256(_mm256_srli_epi16(v[h], 4), low);
			v[h] = _mm256_and_si256(v[h], low);
		}
	}
	UNROLL
	for (uint32_t i = 0; i < rows; i++) {
		__m256i x = four(q + i * ldq);

		UNROLL
		for (int h = 0; h < 2; h++)
			if (begin)
				sum[i][h] = _mm256_maddubs_epi16(v[h], x);
			else
				add_words(&sum[i][h], _mm256_maddubs_epi16(v[h], x));
		if (bits == 8)
			continue;
		x = four(q + i * ldq + 4);
		UNROLL
		for (int h = 0; h < 2; h++)
			add_words(&sum[i][h], _mm256_maddubs_epi16(u[h], x));
	}
}

/* One group of one block: n[i][half] += codes . q; of codes below 64, or of nibbles. 16 bits hold the pair sums of two lines, 2 * 2 * 63 * 127,
 * and of four of nibbles, 4 * 4 * 15 * 127. */
VEC void unsigned_group(__m256i n[INT_ROWS][2], const unsigned char *c, uint32_t ahead, const int8_t *q, size_t ldq, uint32_t rows,
			uint32_t group, unsigned bits, uint32_t lines)
{
	const uint32_t step = 32 / bits;

	for (uint32_t k = 0; k < group; k += step * lines, c += 64 * lines) {
		__m256i sum[INT_ROWS][2];

		UNROLL
		for (uint32_t l = 0; l < lines; l++)
			unsigned_line(sum, c + 64 * l, ahead, q + k + step * l, ldq, rows, bits, l == 0);
		UNROLL
		for (uint32_t i = 0; i < rows; i++)
			UNROLL
			for (int h = 0; h < 2; h++)
				n[i][h] = _mm256_add_epi32(n[i][h], _mm256_madd_epi16(sum[i][h], _mm256_set1_epi16(1)));
	}
}

VEC void int_group(__m256i n[INT_ROWS][2], const unsigned char *c, uint32_t ahead, const int8_t *q, size_t ldq, uint32_t rows,
		   uint32_t group, enum code_kind kind)
{
	if (kind == CODES_SIGNED)
		signed_group(n, c, ahead, q, ldq, rows, group);
	else if (kind == CODES_8)
		unsigned_group(n, c, ahead, q, ldq, rows, group, 8, 2);
	else if (group == 16)
		unsigned_group(n, c, ahead, q, ldq, rows, group, 4, 2);
	else
		unsigned_group(n, c, ahead, q, ldq, rows, group, 4, 4);
}

/* ---- few rows ---- */

VEC void int_tile(float *out, size_t ldo, const struct matrix *w, const struct rows *x, uint32_t first, uint32_t rows, uint32_t b,
		  uint32_t ahead, enum code_kind kind)
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
		int_group(n, codes + k * LANES * (kind == CODES_4 ? 4 : 8) / 8, ahead, x->q + first * x->ldq + k, x->ldq, rows,
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

/* The first of them fetch what comes. */
VEC uint32_t first_rows(float *out, size_t ldo, const struct matrix *w, const struct rows *x, uint32_t m, uint32_t b, uint32_t ahead,
			enum code_kind kind)
{
	if (m >= INT_ROWS)
		int_tile(out, ldo, w, x, 0, INT_ROWS, b, ahead, kind);
	else if (m >= 2)
		int_tile(out, ldo, w, x, 0, 2, b, ahead, kind);
	else
		int_tile(out, ldo, w, x, 0, 1, b, ahead, kind);
	return m >= INT_ROWS ? INT_ROWS : m >= 2 ? 2 : 1;
}

/* m is INT_ROWS at most. */
VEC void int_few(float *out, size_t ldo, const struct matrix *w, const struct rows *x, uint32_t m, uint32_t b0, uint32_t b1,
		  enum code_kind kind)
{
	const uint32_t ahead = bytes_ahead(kind, m);

	for (uint32_t b = b0; b < b1; b++) {
		uint32_t i = ahead ? first_rows(out, ldo, w, x, m, b, ahead, kind) : first_rows(out, ldo, w, x, m, b, 0, kind);

		if (i < m)
			int_tile(out, ldo, w, x, i, 1, b, 0, kind);
	}
}

/* ---- many rows ---- */

/* Some groups of a block, whose factors become floats once for all rows. */
struct slice {
	uint32_t b, g0, n;
	float scale[SLICE][LANES], min[SLICE][LANES];
};

static void slice_factors(struct slice *s, const struct matrix *w)
{
	for (uint32_t j = 0; j < s->n; j++)
		v16_store(s->scale[j], factors(w->scales, w->sub_scales, w, s->b, s->g0 + j));
	for (uint32_t j = 0; j < s->n && w->has_min; j++)
		v16_store(s->min[j], factors(w->mins, w->sub_mins, w, s->b, s->g0 + j));
}

/* What the codes' zero and a minimum of 1 take off some rows, in the slice's groups. */
struct terms {
	int32_t zero[INT_ROWS][SLICE];
	float min[INT_ROWS][SLICE];
};

VEC void row_terms(struct terms *t, const float *xs, const int32_t *sum, uint32_t rows, uint32_t groups, uint32_t n, int32_t zero,
		   bool has_zero, bool has_min)
{
	const __m256i less = _mm256_set1_epi32(-zero);
	const __m256 sign = _mm256_set1_ps(-0.0f);

	for (uint32_t i = 0; i < rows; i++, xs += groups, sum += groups) {
		uint32_t j = 0;

		for (; j + 8 <= n; j += 8) {
			__m256i v = _mm256_loadu_si256((const __m256i *)(sum + j));
			__m256 product = _mm256_mul_ps(_mm256_loadu_ps(xs + j), _mm256_cvtepi32_ps(v));

			if (has_zero)
				_mm256_storeu_si256((__m256i *)(t->zero[i] + j), _mm256_mullo_epi32(v, less));
			if (has_min)
				_mm256_storeu_ps(t->min[i] + j, _mm256_xor_ps(product, sign));
		}
		for (; j < n; j++) {
			t->zero[i][j] = -zero * sum[j];
			t->min[i][j] = -(xs[j] * (float)sum[j]);
		}
	}
}

/* As int_tile(), but of a slice; between two of them the sums wait in `out`. */
VEC void slice_tile(float *out, size_t ldo, const struct matrix *w, const struct rows *x, uint32_t first, uint32_t rows, const struct slice *s,
		    uint32_t ahead, enum code_kind kind, bool has_min)
{
	const uint32_t n_groups = s->n, groups = w->groups, group = w->group, g0 = s->g0;
	const size_t step = (size_t)group * LANES * (kind == CODES_4 ? 4 : 8) / 8;
	const unsigned char *codes = w->codes + s->b * matrix_block_bytes(w) + g0 * step;
	const int8_t *q = x->q + first * x->ldq + (size_t)g0 * group;
	const float *xs = x->scale + (size_t)first * groups + g0;
	const bool has_zero = kind != CODES_SIGNED;
	struct terms t;
	v16 acc[INT_ROWS];

	row_terms(&t, xs, x->sum + (size_t)first * groups + g0, rows, groups, n_groups, w->zero, has_zero, has_min);
	out += first * ldo + (size_t)s->b * LANES;
	UNROLL
	for (uint32_t i = 0; i < rows; i++)
		acc[i] = g0 ? v16_load(out + i * ldo) : v16_zero();
	for (uint32_t j = 0; j < n_groups; j++, codes += step, q += group) {
		__m256i n[INT_ROWS][2];
		v16 scale = v16_load(s->scale[j]), min = has_min ? v16_load(s->min[j]) : v16_zero();

		UNROLL
		for (uint32_t i = 0; i < rows; i++)
			n[i][0] = n[i][1] = has_zero ? _mm256_set1_epi32(t.zero[i][j]) : _mm256_setzero_si256();
		int_group(n, codes, ahead, q, x->ldq, rows, group, kind);
		UNROLL
		for (uint32_t i = 0; i < rows; i++)
			acc[i] = v16_fma(v16_mul(scale, v16_all(xs[i * groups + j])), to_floats(n[i][0], n[i][1]), acc[i]);
		UNROLL
		for (uint32_t i = 0; has_min && i < rows; i++)
			acc[i] = v16_fma(min, v16_all(t.min[i][j]), acc[i]);
	}
	UNROLL
	for (uint32_t i = 0; i < rows; i++)
		v16_store(out + i * ldo, acc[i]);
}

/* The first rows fetch what comes. A loop of its own for the others: with one for all, prompts of bytes lost 6 to 13%. */
VEC void int_many(float *out, size_t ldo, const struct matrix *w, const struct rows *x, uint32_t m, uint32_t b0, uint32_t b1,
		   enum code_kind kind, bool has_min)
{
	const uint32_t ahead = bytes_ahead(kind, m);
	struct slice s;

	for (s.b = b0; s.b < b1; s.b++)
		for (s.g0 = 0; s.g0 < w->groups; s.g0 += SLICE) {
			uint32_t i = 0;

			s.n = w->groups - s.g0 < SLICE ? w->groups - s.g0 : SLICE;
			slice_factors(&s, w);
			if (ahead) {
				slice_tile(out, ldo, w, x, 0, INT_ROWS, &s, ahead, kind, has_min);
				i = INT_ROWS;
			}
			for (; i + INT_ROWS <= m; i += INT_ROWS)
				slice_tile(out, ldo, w, x, i, INT_ROWS, &s, 0, kind, has_min);
			for (; i + 2 <= m; i += 2)
				slice_tile(out, ldo, w, x, i, 2, &s, 0, kind, has_min);
			if (i < m)
				slice_tile(out, ldo, w, x, i, 1, &s, 0, kind, has_min);
		}
}

/* ---- by kind ---- */

/* Functions of their own, so that the compiler gives each its registers. */
#define KIND(name, kind)                                                                                                           \
	static __attribute__((noinline)) void name##_few(float *out, size_t ldo, const struct matrix *w, const struct rows *x,      \
							 uint32_t m, uint32_t b0, uint32_t b1)                                     \
	{                                                                                                                          \
		int_few(out, ldo, w, x, m, b0, b1, kind);                                                                         \
	}                                                                                                                          \
	static __attribute__((noinline)) void name##_many(float *out, size_t ldo, const struct matrix *w, const struct rows *x,     \
							  uint32_t m, uint32_t b0, uint32_t b1)                                    \
	{                                                                                                                          \
		int_many(out, ldo, w, x, m, b0, b1, kind, false);                                                                 \
	}                                                                                                                          \
	static __attribute__((noinline)) void name##_many_min(float *out, size_t ldo, const struct matrix *w, const struct rows *x, \
							      uint32_t m, uint32_t b0, uint32_t b1)                                \
	{                                                                                                                          \
		int_many(out, ldo, w, x, m, b0, b1, kind, true);                                                                  \
	}                                                                                                                          \
	static void name(float *out, size_t ldo, const struct matrix *w, const struct rows *x, uint32_t m, uint32_t b0, uint32_t b1) \
	{                                                                                                                          \
		(m <= INT_ROWS ? name##_few : w->has_min ? name##_many_min : name##_many)(out, ldo, w, x, m, b0, b1);              \
	}

KIND(nibbles, CODES_4)
KIND(bytes, CODES_8)
KIND(signed_bytes, CODES_SIGNED)

void matmul_avx2(float *out, size_t ldo, const struct matrix *w, const struct rows *x, uint32_t m, uint32_t b0, uint32_t b1)
{
	if (w->kind == PACK_NF4)
		matmul_nf4(out, ldo, w, x, m, b0, b1);
	else if (w->kind != PACK_INT)
		matmul_floats(out, ldo, w, x, m, b0, b1, false);
	else if (w->bits == 4)
		nibbles(out, ldo, w, x, m, b0, b1);
	else if (w->zero == 128)
		signed_bytes(out, ldo, w, x, m, b0, b1);
	else
		bytes(out, ldo, w, x, m, b0, b1);
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
