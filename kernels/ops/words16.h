/* words16.h: 32 signed words as 16 pairs, and the exact sums of their products, for vec16.h's two instruction sets. Private to the
 * *_vec.h files. */
#ifndef WEFT_OPS_WORDS16_H
#define WEFT_OPS_WORDS16_H

#include "vec16.h"

#ifdef __AVX512F__

typedef __m512i words32, sums16;

VEC words32 words_load(const int16_t *p) { return _mm512_loadu_si512(p); }
VEC void words_store(int16_t *p, words32 a) { _mm512_storeu_si512(p, a); }
VEC words32 words_bytes(const void *p) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256(p)); }
VEC words32 words_pair(const int16_t *p)	/* in all 16 pairs */
{
	int32_t pair;

	memcpy(&pair, p, sizeof(pair));
	return _mm512_set1_epi32(pair);
}
VEC sums16 sums_zero(void) { return _mm512_setzero_si512(); }
/* Each pair's two products. As an instruction of ours: the intrinsic makes GCC 12 copy every sum to another register and back. */
VEC void sums_dot(sums16 *s, words32 a, words32 b)
{
	__asm__("vpdpwssd %2, %1, %0" : "+v"(*s) : "v"(a), "v"(b));
}
VEC v16 sums_float(sums16 s) { return _mm512_cvtepi32_ps(s); }
/* 16 floats rounded to words that can hold them. */
VEC void words_put(int16_t *p, v16 a) { _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(a))); }
/* Pairs of two floats each, rounded; what no word holds is of no matter, but what is no number becomes 0. */
VEC words32 words_two(v16 even, v16 odd)
{
	return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_cvtps_epi32(even), _mm512_slli_epi32(_mm512_cvtps_epi32(odd), 16));
}

#else

typedef struct {
	__m256i lo, hi;
} words32, sums16;

VEC words32 words_load(const int16_t *p)
{
	return (words32){ _mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)(p + 16)) };
}
VEC void words_store(int16_t *p, words32 a)
{
	_mm256_storeu_si256((__m256i *)p, a.lo);
	_mm256_storeu_si256((__m256i *)(p + 16), a.hi);
}
VEC words32 words_bytes(const void *p)
{
	const __m128i *b = p;

	return (words32){ _mm256_cvtepi8_epi16(_mm_loadu_si128(b)), _mm256_cvtepi8_epi16(_mm_loadu_si128(b + 1)) };
}
VEC words32 words_pair(const int16_t *p)
{
	int32_t pair;

	memcpy(&pair, p, sizeof(pair));
	return (words32){ _mm256_set1_epi32(pair), _mm256_set1_epi32(pair) };
}
VEC sums16 sums_zero(void) { return (sums16){ _mm256_setzero_si256(), _mm256_setzero_si256() }; }
VEC void sums_dot(sums16 *s, words32 a, words32 b)
{
	s->lo = _mm256_add_epi32(s->lo, _mm256_madd_epi16(a.lo, b.lo));
	s->hi = _mm256_add_epi32(s->hi, _mm256_madd_epi16(a.hi, b.hi));
}
VEC v16 sums_float(sums16 s) { return (v16){ _mm256_cvtepi32_ps(s.lo), _mm256_cvtepi32_ps(s.hi) }; }
VEC void words_put(int16_t *p, v16 a)
{
	__m256i w = _mm256_packs_epi32(_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi));

	_mm256_storeu_si256((__m256i *)p, _mm256_permute4x64_epi64(w, 0xd8));
}
VEC __m256i words_two_8(__m256 even, __m256 odd)
{
	return _mm256_blend_epi16(_mm256_cvtps_epi32(even), _mm256_slli_epi32(_mm256_cvtps_epi32(odd), 16), 0xaa);
}
VEC words32 words_two(v16 even, v16 odd)
{
	return (words32){ words_two_8(even.lo, odd.lo), words_two_8(even.hi, odd.hi) };
}

#endif

/* ---- the largest magnitudes of f16, found as integers; what is no number counts as infinity ---- */

VEC __m256i halves_magnitudes(const unsigned char *p)
{
	return _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(const void *)p), _mm256_set1_epi16(0x7fff));
}

/* Of n rows of 16, lane by lane. */
VEC v16 halves_top_of_lanes(const unsigned char *p, uint32_t n)
{
	__m256i top = _mm256_setzero_si256();

	for (uint32_t i = 0; i < n; i++)
		top = _mm256_max_epu16(top, halves_magnitudes(p + 32 * (size_t)i));
	top = _mm256_min_epu16(top, _mm256_set1_epi16(0x7c00));
	return v16_half(&top);
}

/* Of the first n of each of 16 rows, which are `ld` apart, a multiple of 16. */
VEC v16 halves_top_of_rows(const unsigned char *p, size_t ld, uint32_t n)
{
	static const uint16_t first[32] = { [0 ... 15] = 0xffff };
	const __m256i last = _mm256_loadu_si256((const __m256i *)(const void *)(first + (16 - n % 16) % 16));
	uint16_t row[16];

	for (uint32_t i = 0; i < 16; i++, p += 2 * ld) {
		__m256i top = _mm256_and_si256(halves_magnitudes(p + (n - 1) / 16 * 32), last);
		__m128i half;
		unsigned best;

		for (uint32_t j = 0; j + 16 < n; j += 16)
			top = _mm256_max_epu16(top, halves_magnitudes(p + 2 * j));
		half = _mm_max_epu16(_mm256_castsi256_si128(top), _mm256_extracti128_si256(top, 1));
		/* The instruction finds the least. */
		best = 0xffff ^ (unsigned)_mm_extract_epi16(_mm_minpos_epu16(_mm_xor_si128(half, _mm_set1_epi16(-1))), 0);
		row[i] = (uint16_t)(best < 0x7c00 ? best : 0x7c00);
	}
	return v16_half(row);
}

#endif
