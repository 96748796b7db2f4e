/* attention_prompt.c: the plain reference of prompt rows with tiles (attention.h). */
#include "attention.h"

#include <math.h>
#include <string.h>

#include "../format/blocks.h"
#include "attention_words.h"
#include "expo.h"

enum { DEPTH = 32 };
#define SLACK 8.0f

/* A NaN remains one: its upper half is not 0. */
static float cut(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, 4);
	bits &= 0xffff0000;
	memcpy(&f, &bits, 4);
	return f;
}

static float bf(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, 4);
	bits += isnan(f) ? 0 : 0x8000;
	memcpy(&f, &bits, 4);
	return cut(f);
}

static float normal(float f)
{
	return fabsf(f) < 0x1p-126f ? copysignf(0, f) : f;
}

/* acc and a dot of 32, whose pairs are a[i], a[i + odd]. */
static float add_dot(float acc, const float *a, const float *b, uint32_t step, uint32_t odd)
{
	float sum[2] = { 0 };

	for (uint32_t i = 0; i < DEPTH / 2; i++)
		for (uint32_t j = 0; j < 2; j++)
			sum[j] = normal(fmaf(normal(a[i * step + j * odd]), normal(b[i * step + j * odd]), sum[j]));
	return normal(normal(acc) + normal(sum[0] + sum[1]));
}

static float half_at(const unsigned char *base, size_t i)
{
	uint16_t h;

	memcpy(&h, base + 2 * i, 2);
	return half_to_float(h);
}

static float k_at(const struct kv_view *kv, uint32_t key, uint32_t d)
{
	const unsigned char *k = kv_page_k(kv, key / PAGE);

	if (kv->kind == KV_F16)
		return bf(half_at(k, (size_t)d * PAGE + key % PAGE));
	return bf(((const int8_t *)k)[(d / 2 * PAGE + key % PAGE) * 2 + d % 2] * kv_page_scales(kv, key / PAGE)[key % PAGE]);
}

static float v_at(const struct kv_view *kv, uint32_t key, uint32_t d)
{
	const unsigned char *v = kv_page_v(kv, key / PAGE);
	uint32_t t = key % PAGE;

	if (kv->kind == KV_F16)
		return bf(half_at(v, (size_t)t * kv->head_pad + d));
	return bf(((const int8_t *)v)[((size_t)(t / 2) * kv->head_pad + d) * 2 + t % 2] * kv_page_scales(kv, key / PAGE)[PAGE + t]);
}

/* One query head on its way through the keys. */
struct query {
	const struct kv_view *kv;
	float q[ATTENTION_MAX_HEAD], m, l[PAGE], acc[ATTENTION_MAX_HEAD];
};

static float score(const struct query *s, uint32_t key)
{
	float k[ATTENTION_MAX_HEAD] = { 0 }, sum = 0;

	for (uint32_t d = 0; d < s->kv->head_dim; d++)
		k[d] = k_at(s->kv, key, d);
	for (uint32_t d = 0; d < s->kv->head_dim; d += DEPTH)
		sum = add_dot(sum, s->q + d, k + d, 2, 1);
	return sum;
}

static void take_top(struct query *s, float top)
{
	float factor = power_of_two(s->m - top);

	if (!(top > s->m + SLACK))
		return;
	s->m = top;
	for (uint32_t d = 0; d < s->kv->head_dim; d++)
		s->acc[d] *= factor;
	for (uint32_t t = 0; t < PAGE; t++)
		s->l[t] *= factor;
}

/* The block's n keys, from `base` on. */
static void take_block(struct query *s, uint32_t base, uint32_t n)
{
	float p[ATTENTION_BLOCK], v[ATTENTION_BLOCK] = { 0 }, top = -INFINITY;

	for (uint32_t t = 0; t < ATTENTION_BLOCK; t++) {
		p[t] = t < n ? score(s, base + t) : -INFINITY;
		top = p[t] > top ? p[t] : top;
	}
	take_top(s, top);
	for (uint32_t t = 0; t < ATTENTION_BLOCK; t++)
		p[t] = t < n ? cut(rough_power_of_two(p[t] - s->m)) : 0;
	for (uint32_t t = 0; t < ATTENTION_BLOCK; t += DEPTH)
		for (uint32_t j = 0; j < PAGE; j++)
			s->l[j] += p[t + j] + p[t + j + PAGE];
	for (uint32_t d = 0; d < s->kv->head_dim; d++) {
		for (uint32_t t = 0; t < n; t++)
			v[t] = v_at(s->kv, base + t, d);
		for (uint32_t t = 0; t < n; t += DEPTH)
			s->acc[d] = add_dot(s->acc[d], p + t, v + t, 1, PAGE);
	}
}

static void attend_head(float *out, const float *q, const struct kv_view *kv, uint32_t n_keys)
{
	struct query s = { .kv = kv, .m = -INFINITY };
	const float scale = EXPO_LOG2E / sqrtf((float)kv->head_dim);

	for (uint32_t d = 0; d < kv->head_dim; d++)
		s.q[d] = bf(q[d] * scale);
	for (uint32_t base = 0; base < n_keys; base += ATTENTION_BLOCK)
		take_block(&s, base, n_keys - base < ATTENTION_BLOCK ? n_keys - base : ATTENTION_BLOCK);
	for (uint32_t w = PAGE / 2; w; w /= 2)
		for (uint32_t j = 0; j < w; j++)
			s.l[j] += s.l[j + w];
	for (uint32_t d = 0; d < kv->head_dim; d++)
		out[d] = s.acc[d] / s.l[0] + 0.0f;
}

void attention_prompt_plain(const struct attention_tile *t)
{
	for (uint32_t r = 0; r < t->rows; r++)
		for (uint32_t h = 0; h < t->heads; h++)
			attend_head(t->out[r] + (size_t)h * t->kv.head_dim, t->q[r] + (size_t)h * t->kv.head_dim, &t->kv, t->n_keys + r);
}
