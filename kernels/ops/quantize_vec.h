/* quantize_vec.h: quantize.h on 16 lanes. Groups are multiples of 16; the last one may reach past n, where x counts as zeros. */
#ifndef WEFT_OPS_QUANTIZE_VEC_H
#define WEFT_OPS_QUANTIZE_VEC_H

#include "quantize.h"
#include "vec16.h"

#ifdef __AVX512F__
VEC void max_bits(__m512i *top, v16 x)
{
	*top = _mm512_max_epu32(*top, _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff)));
}

VEC int32_t put_codes(int8_t *q, v16 x)
{
	__m512i n = _mm512_cvtps_epi32(x);

	_mm_storeu_si128((__m128i *)q, _mm512_cvtepi32_epi8(n));
	return _mm512_reduce_add_epi32(n);
}

VEC uint32_t group_bits(const float *x, uint32_t group, uint32_t n)
{
	__m512i top = _mm512_setzero_si512();

	for (uint32_t k = 0; k < group && k < n; k += 16)
		max_bits(&top, v16_first(v16_load(x + k), n - k, 0));
	return _mm512_reduce_max_epu32(top);
}
#else
VEC __m256i max_bits(__m256i top, __m256 x)
{
	return _mm256_max_epu32(top, _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7fffffff)));
}

VEC int32_t put_codes(int8_t *q, v16 x)
{
	__m256i lo = _mm256_cvtps_epi32(x.lo), hi = _mm256_cvtps_epi32(x.hi), w = _mm256_add_epi32(lo, hi);
	__m128i s = _mm_add_epi32(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1));

	lo = _mm256_permute4x64_epi64(_mm256_packs_epi32(lo, hi), 0xd8);	/* 16 words in order */
	_mm_storeu_si128((__m128i *)q, _mm_packs_epi16(_mm256_castsi256_si128(lo), _mm256_extracti128_si256(lo, 1)));
	s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
	return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

VEC uint32_t group_bits(const float *x, uint32_t group, uint32_t n)
{
	__m256i top = _mm256_setzero_si256();
	uint32_t lane[8], best = 0;

	for (uint32_t k = 0; k < group && k < n; k += 16) {
		v16 v = v16_first(v16_load(x + k), n - k, 0);

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
				sum[g] += put_codes(q + k, v16_mul(v16_first(v16_load(x + k), n - k, 0), v16_all(inverse)));
			else
				memset(q + k, 0, 16);
	}
}

#endif
