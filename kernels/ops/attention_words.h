/* attention_words.h: attention (attention.h) by exact sums of integers: over keys and values of 8 bits, and of prompt rows over those of
 * f16.
 *
 * Pages of 8 bits, per page and KV head: K as bytes [head_dim / 2][16 tokens][2], V as bytes [8 pairs of tokens][head_pad][2], then f32
 * scales of K and of V, [16 tokens] each. A token's head is one group of quantize.h; the scale of one that is not finite is infinite, and
 * its codes 0: an output that looks there is NaN. K and V of f16 become such codes, of more bits, whenever they are read: with a the
 * largest magnitude of a token's head, the scale is a / HALF_K (a / HALF_V), a code x * (HALF_K / a), rounded.
 *
 * Queries and softmax's weights are rounded to as many bits as let their products with codes add up in 32: over at most ATTENTION_MAX_HEAD
 * dimensions 256 * 127 * 32767 < 2^31, and what word_limits() says for f16. Per block of ATTENTION_BLOCK keys, of which the row sees
 * the first n:
 *
 *     x[t] = k_scale[t] * sum of q[d] K[t][d]         unit: what a code of q is worth, times log2(e) / sqrt(head_dim)
 *     top = max x,  p[t] = 2^((x[t] - top) unit)      of the block's own top, so that weights have all their bits in every block
 *     w[t] = p[t] v_scale[t] / max v_scale * limit of w, rounded
 *     m' = max(m, top unit), was = 2^(m - m'), is = 2^(top unit - m')
 *     l[lane] = l[lane] was + is * the block's p in page order
 *     acc[d] = acc[d] was + (is * max v_scale / limit of w) * sum of w[t] V[t][d] */
#ifndef WEFT_OPS_ATTENTION_WORDS_H
#define WEFT_OPS_ATTENTION_WORDS_H

#include <math.h>
#include <string.h>

#include "attention.h"
#include "expo.h"
#include "quantize.h"

#define HALF_K 4095
#define HALF_V 2047

/* The largest codes: of queries and of weights. */
struct word_limits {
	float q, w;
};

static inline struct word_limits word_limits(enum kv_kind kind, uint32_t head_dim)
{
	int32_t most = INT32_MAX / (int32_t)head_dim / HALF_K;

	if (kind == KV_INT8)
		return (struct word_limits){ INT16_MAX, INT16_MAX };
	return (struct word_limits){ (float)(most < INT16_MAX ? most : INT16_MAX), INT32_MAX / ATTENTION_BLOCK / HALF_V };
}

/* f32 [2][PAGE]: of K, of V. */
static inline float *kv_page_scales(const struct kv_view *v, uint32_t i)
{
	return (float *)(void *)(kv_page_k(v, i) + (size_t)(v->head_dim + v->head_pad) * PAGE);
}

struct kv_codes {
	int8_t code[ATTENTION_MAX_HEAD];
	float scale;
};

static inline void kv_quantize(struct kv_codes *c, quantize_fn *quantize, const struct kv_view *kv, const float *x)
{
	float padded[ATTENTION_MAX_HEAD] = { 0 };
	int32_t sum;

	memcpy(padded, x, kv->head_dim * sizeof(float));
	quantize(c->code, &c->scale, &sum, padded, kv->head_dim, kv->head_pad, kv->head_pad);
	if (isnan(c->scale))
		c->scale = INFINITY;
}

static inline void kv_put_k(const struct kv_view *kv, uint32_t position, const struct kv_codes *c)
{
	unsigned char *at = kv_page_k(kv, position / PAGE) + position % PAGE * 2;

	for (uint32_t d = 0; d < kv->head_dim; d += 2)
		memcpy(at + (size_t)d * PAGE, c->code + d, 2);
	kv_page_scales(kv, position / PAGE)[position % PAGE] = c->scale;
}

static inline void kv_put_v(const struct kv_view *kv, uint32_t position, const struct kv_codes *c)
{
	unsigned char *at = kv_page_v(kv, position / PAGE) + (size_t)(position % PAGE / 2) * kv->head_pad * 2 + position % 2;

	for (uint32_t d = 0; d < kv->head_dim; d++)
		at[2 * d] = (unsigned char)c->code[d];
	kv_page_scales(kv, position / PAGE)[PAGE + position % PAGE] = c->scale;
}

/* From the bits of a query's largest magnitude, whose code is to be `limit`. inverse: codes of 1; 0 when all codes are 0. */
static inline float query_unit(uint32_t bits, uint32_t head_dim, float limit, float *inverse)
{
	float a;

	memcpy(&a, &bits, 4);
	*inverse = bits >= 0x7f800000 || a < QUANTIZE_TINY ? 0 : limit / a;
	return a / limit * (EXPO_LOG2E / sqrtf((float)head_dim));
}

/* A block whose top is `top` meets what was summed before. */
static inline void blocks_meet(float *m, float top, float *was, float *is)
{
	float d = top - *m, e = power_of_two(-fabsf(d));

	*was = d > 0 ? e : 1;
	*is = d > 0 ? 1 : e;
	*m = d > 0 ? top : *m;
}

kv_store_fn kv_store_int8_plain;
/* The reference: one row, as of attention_plain(). Not for KV_F32. */
void attention_words_row(float *out, const float *q, uint32_t heads, const struct kv_view *kv, uint32_t n_keys);

#endif
