/* quantize_vec.h: quantize.h on 16 lanes. Groups are multiples of 16; the last one may reach past n, where x counts as zeros. */
#ifndef WEFT_OPS_QUANTIZE_VEC_H
#define WEFT_OPS_QUANTIZE_VEC_H

#include "quantize.h"
#include "vec16.h"

/* x[0..15], lanes from n on zeros. */
VEC v16 v16_some(const float *x, uint32_t n)
{
	return n >= 16 ? v16_load(x) : v16_first(v16_load(x), n, 0);
}

#ifdef __AVX512F__
typedef __m512i code_sum;	/* lanes, to be added up once a group */

VEC code_sum code_sum_zero(void) { return _mm512_setzero_si512(); }
VEC int32_t code_sum_all(code_sum s) { return _mm512_reduce_add_epi32(s); }

VEC code_sum put_codes(int8_t *q, v16 x, code_sum s)
{
	__m512i n = _mm512_cvtps_epi32(x);

	_mm_storeu_si128((__m128i *)q, _mm512_cvtepi32_epi8(n));
	return _mm512_add_epi32(s, n);
}

VEC uint32_t group_bits(const float *x, uint32_t group, uint32_t n)
{
	__m512i top = _mm512_setzero_si512(), no_sign = _mm512_set1_epi32(0x7fffffff);

	for (uint32_t k = 0; k < group && k < n; k += 16)
		top = _mm512_max_epu32(top, _mm512_and_si512(_mm512_castps_si512(v16_some(x + k, n - k)), no_sign));
	return _mm512_reduce_max_epu32(top);
}
#else
VEC __m256i max_bits(__m256i top, __m256 x)
{
	return _mm256_max_epu32(top, _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7fffffff)));
}

typedef __m256i code_sum;

VEC code_sum code_sum_zero(void) { return _mm256_setzero_si256(); }
VEC int32_t code_sum_all(code_sum s)
{
	__m128i t = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));

	t = _mm_add_epi32(t, _mm_shuffle_epi32(t, 0x4e));
	return _mm_cvtsi128_si32(_mm_add_epi32(t, _mm_shuffle_epi32(t, 0xb1)));
}

VEC code_sum put_codes(int8_t *q, v16 x, code_sum s)
{
	__m256i lo = _mm256_cvtps_epi32(x.lo), hi = _mm256_cvtps_epi32(x.hi);

	s = _mm256_add_epi32(s, _mm256_add_epi32(lo, hi));
	lo = _mm256_permute4x64_epi64(_mm256_packs_epi32(lo, hi), 0xd8);	/* 16 words in order */
	_mm_storeu_si128((__m128i *)q, _mm_packs_epi16(_mm256_castsi256_si128(lo), _mm256_extracti128_si256(lo, 1)));
	return s;
}

VEC uint32_t group_bits(const float *x, uint32_t group, uint32_t n)
{
	__m256i top = _mm256_setzero_si256();
	uint32_t lane[8], best = 0;

	for (uint32_t k = 0; k < group && k < n; k += 16) {
		v16 v = v16_some(x + k, n - k);

		top = max_bits(max_bits(top, v.lo), v.hi);
	}
	_mm256_storeu_si256((__m256i *)lane, top);
	for (int j = 0; j < 8; j++)
		best = lane[j] > best ? lane[j] : best;
	return best;
}
#endif

VEC void quantize_vec(int8_t *q, float *scale, int32_t *sum, const float *x, uint32_t n, uint32_t kpad, uint32_t group)
{
	for (uint32_t g = 0; g < kpad / group; g++, q += group, x += group, n = n > group ? n - group : 0) {
		uint32_t bits = group_bits(x, group, n);
		code_sum codes = code_sum_zero();
		float a, inverse;

		memcpy(&a, &bits, 4);
		sum[g] = 0;
		scale[g] = bits >= 0x7f800000 ? NAN : a < QUANTIZE_TINY ? 0 : a / 127;
		if (bits >= 0x7f800000 || a < QUANTIZE_TINY) {
			memset(q, 0, group);
			continue;
		}
		inverse = 127 / a;
		for (uint32_t k = 0; k < group; k += 16)
			if (k < n)
				codes = put_codes(q + k, v16_mul(v16_some(x + k, n - k), v16_all(inverse)), codes);
			else
				memset(q + k, 0, 16);
		sum[g] = code_sum_all(codes);
	}
}

#endif
