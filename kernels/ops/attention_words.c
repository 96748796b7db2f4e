/* attention_words.c: the plain reference. */
#include "attention_words.h"

#include "../format/blocks.h"

void kv_store_int8_plain(const struct kv_view *kv, uint32_t position, const float *k, const float *v)
{
	struct kv_codes c;

	kv_quantize(&c, quantize_plain, kv, k);
	kv_put_k(kv, position, &c);
	kv_quantize(&c, quantize_plain, kv, v);
	kv_put_v(kv, position, &c);
}

/* One query head on its way through the keys. */
struct query {
	const struct kv_view *kv;
	struct word_limits limit;
	int16_t q[ATTENTION_MAX_HEAD];
	float unit, m, l[PAGE], acc[ATTENTION_MAX_HEAD];
};

static void query_take(struct query *s, const struct kv_view *kv, const float *q)
{
	uint32_t top = 0, bits;
	float inverse;

	memset(s, 0, sizeof(*s));
	s->kv = kv;
	s->limit = word_limits(kv->kind, kv->head_dim);
	s->m = -INFINITY;
	for (uint32_t d = 0; d < kv->head_dim; d++) {
		memcpy(&bits, &q[d], 4);
		bits &= 0x7fffffff;
		top = bits > top ? bits : top;
	}
	s->unit = query_unit(top, kv->head_dim, s->limit.q, &inverse);
	for (uint32_t d = 0; d < kv->head_dim && inverse > 0; d++)
		s->q[d] = (int16_t)lrintf(q[d] * inverse);
}

/* Codes of a token's n values, one of f16 in `step`; returns their scale. */
static float half_codes(int16_t *code, const unsigned char *at, size_t step, uint32_t n, float limit)
{
	uint16_t h[ATTENTION_MAX_HEAD], top = 0;
	float a, inverse;

	for (uint32_t d = 0; d < n; d++) {
		memcpy(&h[d], at + 2 * step * d, 2);
		top = (h[d] & 0x7fff) > top ? h[d] & 0x7fff : top;
	}
	a = top < 0x7c00 ? half_to_float(top) : INFINITY;
	inverse = limit / a;
	for (uint32_t d = 0; d < n; d++)
		code[d] = top > 0 && top < 0x7c00 ? (int16_t)lrintf(half_to_float(h[d]) * inverse) : 0;
	return a / limit;
}

/* A key's codes; returns their scale. */
static float k_codes(int16_t *code, const struct kv_view *kv, uint32_t t)
{
	const unsigned char *k = kv_page_k(kv, t / PAGE);

	if (kv->kind == KV_F16)
		return half_codes(code, k + t % PAGE * 2, PAGE, kv->head_dim, HALF_K);
	for (uint32_t d = 0; d < kv->head_dim; d++)
		code[d] = ((const int8_t *)k)[(d / 2 * PAGE + t % PAGE) * 2 + d % 2];
	return kv_page_scales(kv, t / PAGE)[t % PAGE];
}

static float v_codes(int16_t *code, const struct kv_view *kv, uint32_t t)
{
	const unsigned char *v = kv_page_v(kv, t / PAGE);

	if (kv->kind == KV_F16)
		return half_codes(code, v + (size_t)t % PAGE * kv->head_pad * 2, 1, kv->head_dim, HALF_V);
	for (uint32_t d = 0; d < kv->head_dim; d++)
		code[d] = ((const int8_t *)v)[((size_t)(t % PAGE / 2) * kv->head_pad + d) * 2 + t % 2];
	return kv_page_scales(kv, t / PAGE)[PAGE + t % PAGE];
}

static float score(const struct query *s, uint32_t t)
{
	int16_t k[ATTENTION_MAX_HEAD];
	float scale = k_codes(k, s->kv, t);
	int32_t sum = 0;

	for (uint32_t d = 0; d < s->kv->head_dim; d++)
		sum += s->q[d] * k[d];
	return (float)sum * scale;
}

/* sum[head_dim] of weights p[n] as codes times V of keys from `base` on; returns what a code of 1 is worth in units of V's codes. */
static float weighted(int32_t *sum, const struct query *s, const float *p, uint32_t base, uint32_t n)
{
	int16_t v[ATTENTION_BLOCK][ATTENTION_MAX_HEAD];
	float scale[ATTENTION_BLOCK], top = 0, inverse;

	memset(sum, 0, s->kv->head_dim * sizeof(*sum));
	for (uint32_t t = 0; t < n; t++) {
		scale[t] = v_codes(v[t], s->kv, base + t);
		top = scale[t] > top ? scale[t] : top;
	}
	inverse = s->limit.w / top;
	for (uint32_t t = 0; t < n; t++) {
		float f = scale[t] * inverse;	/* no number when all of V is 0 */
		int16_t w = (int16_t)lrintf(p[t] * (f < s->limit.w ? f : s->limit.w));

		for (uint32_t d = 0; d < s->kv->head_dim; d++)
			sum[d] += w * v[t][d];
	}
	return top / s->limit.w;
}

static void take_block(struct query *s, uint32_t base, uint32_t n)
{
	float p[ATTENTION_BLOCK], sum[PAGE] = { 0 }, top = -INFINITY, was, is;
	int32_t v[ATTENTION_MAX_HEAD];

	for (uint32_t t = 0; t < ATTENTION_BLOCK; t++) {
		p[t] = t < n ? score(s, base + t) : -INFINITY;
		top = p[t] > top ? p[t] : top;
	}
	blocks_meet(&s->m, top * s->unit, &was, &is);
	for (uint32_t t = 0; t < ATTENTION_BLOCK; t++) {
		p[t] = power_of_two((p[t] - top) * s->unit);
		sum[t % PAGE] += p[t];
	}
	for (uint32_t t = 0; t < PAGE; t++)
		s->l[t] = fmaf(sum[t], is, s->l[t] * was);
	is *= weighted(v, s, p, base, n);
	for (uint32_t d = 0; d < s->kv->head_dim; d++)
		s->acc[d] = fmaf((float)v[d], is, s->acc[d] * was);
}

static void attend_head(float *out, const float *q, const struct kv_view *kv, uint32_t n_keys)
{
	struct query s;

	query_take(&s, kv, q);
	for (uint32_t base = 0; base < n_keys; base += ATTENTION_BLOCK)
		take_block(&s, base, n_keys - base < ATTENTION_BLOCK ? n_keys - base : ATTENTION_BLOCK);
	for (uint32_t w = PAGE / 2; w; w /= 2)
		for (uint32_t j = 0; j < w; j++)
			s.l[j] += s.l[j + w];
	for (uint32_t d = 0; d < kv->head_dim; d++)
		out[d] = s.acc[d] / s.l[0];
}

void attention_words_row(float *out, const float *q, uint32_t heads, const struct kv_view *kv, uint32_t n_keys)
{
	for (uint32_t h = 0; h < heads; h++)
		attend_head(out + h * kv->head_dim, q + h * kv->head_dim, kv, n_keys);
}

void attention_words_plain(const struct attention_tile *t)
{
	for (uint32_t r = 0; r < t->rows; r++)
		attention_words_row(t->out[r], t->q[r], t->heads, &t->kv, t->n_keys + r);
}
