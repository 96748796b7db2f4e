/* attention_int8.c: the plain reference. */
#include "attention_int8.h"

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
	int16_t q[ATTENTION_MAX_HEAD];
	float unit, m, l[PAGE], acc[ATTENTION_MAX_HEAD];
};

static void query_take(struct query *s, const struct kv_view *kv, const float *q)
{
	uint32_t top = 0, bits;
	float inverse;

	memset(s, 0, sizeof(*s));
	s->kv = kv;
	s->m = -INFINITY;
	for (uint32_t d = 0; d < kv->head_dim; d++) {
		memcpy(&bits, &q[d], 4);
		bits &= 0x7fffffff;
		top = bits > top ? bits : top;
	}
	s->unit = int8_query_unit(top, kv->head_dim, &inverse);
	for (uint32_t d = 0; d < kv->head_dim && inverse > 0; d++)
		s->q[d] = (int16_t)lrintf(q[d] * inverse);
}

static float score(const struct query *s, uint32_t t)
{
	const int8_t *k = (const int8_t *)kv_page_k(s->kv, t / PAGE) + t % PAGE * 2;
	int32_t sum = 0;

	for (uint32_t d = 0; d < s->kv->head_dim; d++)
		sum += s->q[d] * k[d / 2 * 2 * PAGE + d % 2];
	return (float)sum * kv_page_scales(s->kv, t / PAGE)[t % PAGE];
}

/* sum[head_dim] of w[n] times V of keys from `base` on. */
static void weighted(int32_t *sum, const int16_t *w, const struct kv_view *kv, uint32_t base, uint32_t n)
{
	memset(sum, 0, kv->head_dim * sizeof(*sum));
	for (uint32_t i = 0; i < n; i++) {
		uint32_t t = base + i;
		const int8_t *v = (const int8_t *)kv_page_v(kv, t / PAGE) + (size_t)(t % PAGE / 2) * kv->head_pad * 2 + t % 2;

		for (uint32_t d = 0; d < kv->head_dim; d++)
			sum[d] += w[i] * v[2 * d];
	}
}

/* w[n] of weights p[n] of keys from `base` on; returns what a code of 1 is worth in units of V's codes. */
static float weights(int16_t *w, const struct kv_view *kv, const float *p, uint32_t base, uint32_t n)
{
	float scale[ATTENTION_BLOCK], top = 0, inverse;

	for (uint32_t t = 0; t < n; t++) {
		scale[t] = kv_page_scales(kv, (base + t) / PAGE)[PAGE + (base + t) % PAGE];
		top = scale[t] > top ? scale[t] : top;
	}
	inverse = INT8_WORD / top;
	for (uint32_t t = 0; t < n; t++) {
		float f = scale[t] * inverse;	/* no number when all of V is 0 */

		w[t] = (int16_t)lrintf(p[t] * (f < INT8_WORD ? f : INT8_WORD));
	}
	return top / INT8_WORD;
}

static void take_block(struct query *s, uint32_t base, uint32_t n)
{
	float p[ATTENTION_BLOCK], sum[PAGE] = { 0 }, top = -INFINITY, was, is;
	int32_t v[ATTENTION_MAX_HEAD];
	int16_t w[ATTENTION_BLOCK];

	for (uint32_t t = 0; t < ATTENTION_BLOCK; t++) {
		p[t] = t < n ? score(s, base + t) : -INFINITY;
		top = p[t] > top ? p[t] : top;
	}
	int8_meet(&s->m, top * s->unit, &was, &is);
	for (uint32_t t = 0; t < ATTENTION_BLOCK; t++) {
		p[t] = power_of_two((p[t] - top) * s->unit);
		sum[t % PAGE] += p[t];
	}
	for (uint32_t t = 0; t < PAGE; t++)
		s->l[t] = fmaf(sum[t], is, s->l[t] * was);
	is *= weights(w, s->kv, p, base, n);
	weighted(v, w, s->kv, base, n);
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

void attention_int8_plain(float *out, const float *q, uint32_t heads, const struct kv_view *kv, uint32_t n_keys)
{
	for (uint32_t h = 0; h < heads; h++)
		attend_head(out + h * kv->head_dim, q + h * kv->head_dim, kv, n_keys);
}
