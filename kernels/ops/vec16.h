/* vec16.h: sixteen f32 lanes: one AVX-512 register, or two AVX2 ones. Operators written with it give the bits of their plain
 * reference, since each lane does the reference's operations in the reference's order. Private to the *_vec.h files. */
#ifndef WEFT_OPS_VEC16_H
#define WEFT_OPS_VEC16_H

#include <immintrin.h>
#include <stdint.h>

#include "expo.h"

#define VEC static inline __attribute__((always_inline))
/* Before loops over a tile, whose bounds are constants once inlined: the tile then lives in registers. */
#define UNROLL _Pragma("GCC unroll 16")

#ifdef __AVX512F__

typedef __m512 v16;

VEC v16 v16_load(const float *p) { return _mm512_loadu_ps(p); }
VEC void v16_store(float *p, v16 a) { _mm512_storeu_ps(p, a); }
VEC v16 v16_all(float f) { return _mm512_set1_ps(f); }
VEC v16 v16_add(v16 a, v16 b) { return _mm512_add_ps(a, b); }
VEC v16 v16_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
VEC v16 v16_mul(v16 a, v16 b) { return _mm512_mul_ps(a, b); }
VEC v16 v16_div(v16 a, v16 b) { return _mm512_div_ps(a, b); }
VEC v16 v16_fma(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }
VEC v16 v16_max(v16 a, v16 b) { return _mm512_max_ps(a, b); }	/* a > b ? a : b */
VEC v16 v16_min(v16 a, v16 b) { return _mm512_min_ps(a, b); }
VEC v16 v16_rint(v16 a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
VEC v16 v16_half(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256(p)); }
VEC void v16_put_half(void *p, v16 a) { _mm256_storeu_si256(p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT)); }
/* Lanes from n on become `other`. */
VEC v16 v16_first(v16 a, unsigned n, float other)
{
	return _mm512_mask_mov_ps(v16_all(other), (__mmask16)((1u << (n < 16 ? n : 16)) - 1), a);
}
VEC v16 v16_zero_below(v16 a, v16 x, float limit)	/* x >= limit ? a : 0 */
{
	return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, v16_all(limit), _CMP_GE_OQ), a);
}
VEC v16 v16_power_of_two(v16 n)
{
	return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
}
VEC v16 v16_exponent_add(v16 a, v16 n)	/* the last bits of n, as an integer, to a's exponent */
{
	return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), _mm512_slli_epi32(_mm512_castps_si512(n), 23)));
}
VEC void v16_halves(v16 a, __m256 *lo, __m256 *hi)
{
	*lo = _mm512_castps512_ps256(a);
	*hi = _mm512_extractf32x8_ps(a, 1);
}
VEC v16 v16_bytes(const void *p) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p))); }
/* A table of 16, and what 16 lanes of 32 bits find in it by their four bits from `shift` on. */
typedef __m512 table16;
VEC table16 table16_load(const float *p) { return _mm512_loadu_ps(p); }
VEC v16 v16_look(table16 t, const void *lanes, unsigned shift)
{
	return _mm512_permutexvar_ps((__m512i)((__v16su)_mm512_loadu_si512(lanes) >> shift), t);
}
VEC v16 v16_at_bytes(const float *table, const void *index)
{
	return _mm512_i32gather_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(index)), table, 4);
}
VEC v16 v16_at_steps(const float *table, uint32_t first, uint32_t step)	/* lane i: table[(first + i * step) / 256] */
{
	const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
	__m512i at = _mm512_add_epi32(_mm512_set1_epi32((int)first), _mm512_mullo_epi32(lanes, _mm512_set1_epi32((int)step)));

	return _mm512_i32gather_ps(_mm512_srli_epi32(at, 8), table, 4);
}
VEC v16 v16_bf16(const void *p)
{
	return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}
/* Even and odd elements of 16 pairs of bf16. */
VEC v16 v16_bf16_even(const void *p) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16)); }
VEC v16 v16_bf16_odd(const void *p)
{
	return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32((int)0xffff0000)));
}

#else

typedef struct {
	__m256 lo, hi;
} v16;

VEC v16 v16_load(const float *p) { return (v16){ _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8) }; }
VEC void v16_store(float *p, v16 a)
{
	_mm256_storeu_ps(p, a.lo);
	_mm256_storeu_ps(p + 8, a.hi);
}
VEC v16 v16_all(float f) { return (v16){ _mm256_set1_ps(f), _mm256_set1_ps(f) }; }
VEC v16 v16_add(v16 a, v16 b) { return (v16){ _mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi) }; }
VEC v16 v16_sub(v16 a, v16 b) { return (v16){ _mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi) }; }
VEC v16 v16_mul(v16 a, v16 b) { return (v16){ _mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi) }; }
VEC v16 v16_div(v16 a, v16 b) { return (v16){ _mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi) }; }
VEC v16 v16_fma(v16 a, v16 b, v16 c) { return (v16){ _mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi) }; }
VEC v16 v16_max(v16 a, v16 b) { return (v16){ _mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi) }; }
VEC v16 v16_min(v16 a, v16 b) { return (v16){ _mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi) }; }
VEC v16 v16_rint(v16 a)
{
	return (v16){ _mm256_round_ps(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
		      _mm256_round_ps(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC) };
}
VEC v16 v16_half(const void *p)
{
	const __m128i *h = p;

	return (v16){ _mm256_cvtph_ps(_mm_loadu_si128(h)), _mm256_cvtph_ps(_mm_loadu_si128(h + 1)) };
}
VEC void v16_put_half(void *p, v16 a)
{
	__m128i *h = p;

	_mm_storeu_si128(h, _mm256_cvtps_ph(a.lo, _MM_FROUND_TO_NEAREST_INT));
	_mm_storeu_si128(h + 1, _mm256_cvtps_ph(a.hi, _MM_FROUND_TO_NEAREST_INT));
}
VEC v16 v16_first(v16 a, unsigned n, float other)
{
	__m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), end = _mm256_set1_epi32((int)(n < 16 ? n : 16));
	__m256 o = _mm256_set1_ps(other);
	__m256i lo = _mm256_cmpgt_epi32(end, lanes), hi = _mm256_cmpgt_epi32(end, _mm256_add_epi32(lanes, _mm256_set1_epi32(8)));

	return (v16){ _mm256_blendv_ps(o, a.lo, _mm256_castsi256_ps(lo)), _mm256_blendv_ps(o, a.hi, _mm256_castsi256_ps(hi)) };
}
VEC v16 v16_zero_below(v16 a, v16 x, float limit)
{
	__m256 l = _mm256_set1_ps(limit);

	return (v16){ _mm256_and_ps(a.lo, _mm256_cmp_ps(x.lo, l, _CMP_GE_OQ)),
		      _mm256_and_ps(a.hi, _mm256_cmp_ps(x.hi, l, _CMP_GE_OQ)) };
}
VEC __m256 v8_power_of_two(__m256 n)
{
	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
VEC v16 v16_power_of_two(v16 n) { return (v16){ v8_power_of_two(n.lo), v8_power_of_two(n.hi) }; }
VEC __m256 v8_exponent_add(__m256 a, __m256 n)
{
	return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), _mm256_slli_epi32(_mm256_castps_si256(n), 23)));
}
VEC v16 v16_exponent_add(v16 a, v16 n) { return (v16){ v8_exponent_add(a.lo, n.lo), v8_exponent_add(a.hi, n.hi) }; }
VEC void v16_halves(v16 a, __m256 *lo, __m256 *hi)
{
	*lo = a.lo;
	*hi = a.hi;
}
VEC __m256 v8_bytes(__m128i b) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b)); }
VEC v16 v16_bytes(const void *p)
{
	__m128i b = _mm_loadu_si128(p);

	return (v16){ v8_bytes(b), v8_bytes(_mm_srli_si128(b, 8)) };
}
typedef v16 table16;
VEC table16 table16_load(const float *p) { return v16_load(p); }
VEC __m256 v8_look(table16 t, __m256i v, unsigned shift)
{
	__m256i low = (__m256i)((__v8su)v >> shift), top = (__m256i)((__v8su)v << (28 - shift));	/* the fourth bit as a sign */

	return _mm256_blendv_ps(_mm256_permutevar8x32_ps(t.lo, low), _mm256_permutevar8x32_ps(t.hi, low), _mm256_castsi256_ps(top));
}
VEC v16 v16_look(table16 t, const void *lanes, unsigned shift)
{
	const __m256i *v = lanes;

	return (v16){ v8_look(t, _mm256_loadu_si256(v), shift), v8_look(t, _mm256_loadu_si256(v + 1), shift) };
}
VEC v16 v16_at_bytes(const float *table, const void *index)
{
	__m128i i = _mm_loadu_si128(index);

	return (v16){ _mm256_i32gather_ps(table, _mm256_cvtepu8_epi32(i), 4),
		      _mm256_i32gather_ps(table, _mm256_cvtepu8_epi32(_mm_srli_si128(i, 8)), 4) };
}
VEC __m256 v8_at_steps(const float *table, uint32_t first, uint32_t step)
{
	const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
	__m256i at = _mm256_add_epi32(_mm256_set1_epi32((int)first), _mm256_mullo_epi32(lanes, _mm256_set1_epi32((int)step)));

	return _mm256_i32gather_ps(table, _mm256_srli_epi32(at, 8), 4);
}
VEC v16 v16_at_steps(const float *table, uint32_t first, uint32_t step)
{
	return (v16){ v8_at_steps(table, first, step), v8_at_steps(table, first + 8 * step, step) };
}
VEC __m256 v8_bf16(__m128i h) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16)); }
VEC v16 v16_bf16(const void *p)
{
	const __m128i *h = p;

	return (v16){ v8_bf16(_mm_loadu_si128(h)), v8_bf16(_mm_loadu_si128(h + 1)) };
}
VEC v16 v16_bf16_even(const void *p)
{
	const __m256i *b = p;

	return (v16){ _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256(b), 16)),
		      _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256(b + 1), 16)) };
}
VEC v16 v16_bf16_odd(const void *p)
{
	const __m256i *b = p, mask = _mm256_set1_epi32((int)0xffff0000);

	return (v16){ _mm256_castsi256_ps(_mm256_and_si256(_mm256_loadu_si256(b), mask)),
		      _mm256_castsi256_ps(_mm256_and_si256(_mm256_loadu_si256(b + 1), mask)) };
}

#endif

VEC float v16_lane(v16 a)	/* the first one */
{
	__m256 lo, hi;

	v16_halves(a, &lo, &hi);
	return _mm256_cvtss_f32(lo);
}

VEC v16 v16_zero(void) { return v16_all(0); }

/* Lanes meet as a tree: j with j + 8, + 4, + 2, + 1. */
VEC float v16_sum(v16 a)
{
	__m256 lo, hi;
	__m128 s;

	v16_halves(a, &lo, &hi);
	lo = _mm256_add_ps(lo, hi);
	s = _mm_add_ps(_mm256_castps256_ps128(lo), _mm256_extractf128_ps(lo, 1));
	s = _mm_add_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

VEC float v16_top(v16 a)
{
	__m256 lo, hi;
	__m128 s;

	v16_halves(a, &lo, &hi);
	lo = _mm256_max_ps(lo, hi);
	s = _mm_max_ps(_mm256_castps256_ps128(lo), _mm256_extractf128_ps(lo, 1));
	s = _mm_max_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

/* expo.h on 16 lanes. */
VEC v16 v16_expo(v16 x)
{
	v16 n, r, p, y = v16_min(x, v16_all(EXPO_MAX));

	y = v16_max(y, v16_all(EXPO_MIN));	/* lanes below become 0 at the end; this keeps the exponent field in range */
	n = v16_rint(v16_mul(y, v16_all(EXPO_LOG2E)));
	r = v16_fma(n, v16_all(-EXPO_LN2_HI), y);
	r = v16_fma(n, v16_all(-EXPO_LN2_LO), r);
	p = v16_fma(v16_all(EXPO_C7), r, v16_all(EXPO_C6));
	p = v16_fma(p, r, v16_all(EXPO_C5));
	p = v16_fma(p, r, v16_all(EXPO_C4));
	p = v16_fma(p, r, v16_all(EXPO_C3));
	p = v16_fma(p, r, v16_all(0.5f));
	p = v16_fma(p, r, v16_all(1.0f));
	p = v16_fma(p, r, v16_all(1.0f));
	return v16_zero_below(v16_mul(p, v16_power_of_two(n)), x, EXPO_MIN);
}

/* power_of_two() of expo.h on 16 lanes. */
VEC v16 v16_power(v16 x)
{
	v16 y, r, p;

	x = v16_max(x, v16_all(POWER_MIN));
	y = v16_add(x, v16_all(POWER_ROUND));
	r = v16_sub(x, v16_sub(y, v16_all(POWER_ROUND)));
	p = v16_fma(v16_all(POWER_C5), r, v16_all(POWER_C4));
	p = v16_fma(p, r, v16_all(POWER_C3));
	p = v16_fma(p, r, v16_all(POWER_C2));
	p = v16_fma(p, r, v16_all(POWER_C1));
	p = v16_fma(p, r, v16_all(1.0f));
	return v16_exponent_add(p, y);
}

#endif
