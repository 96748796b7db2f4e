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

#endif

#endif
