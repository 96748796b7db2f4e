/* attention.c: the plain reference. */
#include "attention.h"

#include <math.h>
#include <string.h>

#include "../format/blocks.h"
#include "attention_words.h"
#include "expo.h"

static float value_at(const unsigned char *base, size_t i, bool half)
{
	uint16_t h;
	float f;

	if (half) {
		memcpy(&h, base + 2 * i, 2);
		return half_to_float(h);
	}
	memcpy(&f, base + 4 * i, 4);
	return f;
}

static void value_put(unsigned char *base, size_t i, bool half, float f)
{
	uint16_t h = float_to_half(f);

	if (half)
		memcpy(base + 2 * i, &h, 2);
	else
		memcpy(base + 4 * i, &f, 4);
}

void kv_store_plain(const struct kv_view *kv, uint32_t position, const float *k, const float *v)
{
	unsigned char *kp = kv_page_k(kv, position / PAGE), *vp = kv_page_v(kv, position / PAGE);
	const bool half = kv->kind == KV_F16;

	if (kv->kind == KV_INT8) {
		kv_store_int8_plain(kv, position, k, v);
		return;
	}
	for (uint32_t d = 0; d < kv->head_dim; d++) {
		value_put(kp, (size_t)d * PAGE + position % PAGE, half, k[d]);
		value_put(vp, (size_t)position % PAGE * kv->head_pad + d, half, v[d]);
	}
}

static float score(const float *q, const struct kv_view *kv, uint32_t key)
{
	const unsigned char *k = kv_page_k(kv, key / PAGE);
	float scale = EXPO_LOG2E / sqrtf((float)kv->head_dim), s = 0;

	for (uint32_t d = 0; d < kv->head_dim; d++)
		s = fmaf(value_at(k, (size_t)d * PAGE + key % PAGE, kv->kind == KV_F16), q[d] * scale, s);
	return s;
}

static void attend_head(float *out, const float *q, const struct kv_view *kv, uint32_t n_keys)
{
	float acc[ATTENTION_MAX_HEAD] = { 0 }, l[PAGE] = { 0 }, m = -INFINITY;

	for (uint32_t base = 0; base < n_keys; base += ATTENTION_BLOCK) {
		uint32_t n = n_keys - base < ATTENTION_BLOCK ? n_keys - base : ATTENTION_BLOCK;
		float p[ATTENTION_BLOCK], top = m, c;

		for (uint32_t t = 0; t < ATTENTION_BLOCK; t++) {
			p[t] = t < n ? score(q, kv, base + t) : -INFINITY;
			top = p[t] > top ? p[t] : top;
		}
		c = power_of_two(m - top);
		m = top;
		for (uint32_t t = 0; t < PAGE; t++)
			l[t] *= c;
		for (uint32_t t = 0; t < ATTENTION_BLOCK; t++) {
			p[t] = power_of_two(p[t] - m);
			l[t % PAGE] += p[t];
		}
		for (uint32_t d = 0; d < kv->head_dim; d++)
			acc[d] *= c;
		for (uint32_t t = 0; t < n; t++)
			for (uint32_t d = 0; d < kv->head_dim; d++)
				acc[d] = fmaf(p[t], value_at(kv_page_v(kv, (base + t) / PAGE),
							     (size_t)(base + t) % PAGE * kv->head_pad + d, kv->kind == KV_F16), acc[d]);
	}
	for (uint32_t w = PAGE / 2; w; w /= 2)
		for (uint32_t j = 0; j < w; j++)
			l[j] += l[j + w];
	for (uint32_t d = 0; d < kv->head_dim; d++)
		out[d] = acc[d] / l[0];
}

void attention_plain(float *out, const float *q, uint32_t heads, const struct kv_view *kv, uint32_t n_keys)
{
	if (kv->kind == KV_INT8) {
		attention_words_row(out, q, heads, kv, n_keys);
		return;
	}
	for (uint32_t h = 0; h < heads; h++)
		attend_head(out + h * kv->head_dim, q + h * kv->head_dim, kv, n_keys);
}

void attention_tile_plain(const struct attention_tile *t)
{
	for (uint32_t r = 0; r < t->rows; r++)
		attention_plain(t->out[r], t->q[r], t->heads, &t->kv, t->n_keys + r);
}
