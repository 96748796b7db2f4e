/* attention_words_vec.h: attention_words.h on 16 lanes: attention_vec.h with words in the place of floats. A lane of a sum takes two
 * products at once: of two dimensions of a key for a score, of two keys for a dimension of an output. */
#ifndef WEFT_OPS_ATTENTION_WORDS_VEC_H
#define WEFT_OPS_ATTENTION_WORDS_VEC_H

#include "ahead.h"
#include "attention_words.h"
#include "quantize_vec.h"
#include "vec16.h"
#include "words16.h"

#ifdef __AVX512F__
enum { WORDS_QUERIES = 4, WORDS_VECTORS = 4 };
#else
enum { WORDS_QUERIES = 4, WORDS_VECTORS = 1 };
#endif

/* So many queries meet a block at a time that it, their scores and their weights stay in the first cache. */
enum { WORDS_SIDE = 32 };

/* All rows are 64-byte aligned; pad is head_pad. */
struct words_state {
	float *acc;			/* [queries][pad] */
	float *l;			/* [queries][16] */
	int16_t *q;			/* [queries][pad] */
	float *x;			/* [WORDS_SIDE][ATTENTION_BLOCK] scores */
	int16_t *w;			/* [WORDS_SIDE][ATTENTION_BLOCK] weights */
	int16_t *k;			/* [head_dim / 2][ATTENTION_BLOCK][2] the block as words */
	int16_t *v;			/* [ATTENTION_BLOCK / 2][pad][2] */
	float k_scale[ATTENTION_BLOCK], v_scale[ATTENTION_BLOCK];
	float unit[ATTENTION_PROMPT], m[ATTENTION_PROMPT];
	float top[WORDS_SIDE], was[WORDS_SIDE], is[WORDS_SIDE];
	struct word_limits limit;
	struct ahead ahead;
	uint32_t dim, pad;
};
enum { WORDS_STATE = ATTENTION_PROMPT * ((4 + 2) * ATTENTION_MAX_HEAD + 4 * 16) + WORDS_SIDE * (4 + 2) * ATTENTION_BLOCK +
		     2 * 2 * ATTENTION_BLOCK * ATTENTION_MAX_HEAD };	/* bytes */

/* What is inlined always has no address. */
static void quantize_head(int8_t *q, float *scale, int32_t *sum, const float *x, uint32_t n, uint32_t kpad, uint32_t group)
{
	quantize_vec(q, scale, sum, x, n, kpad, group);
}

VEC void kv_store_int8_vec(const struct kv_view *kv, uint32_t position, const float *k, const float *v)
{
	struct kv_codes c;

	kv_quantize(&c, quantize_head, kv, k);
	kv_put_k(kv, position, &c);
	kv_quantize(&c, quantize_head, kv, v);
	kv_put_v(kv, position, &c);
}

/* The block at `base` to words: `n` keys of it. */
VEC void widen_bytes(struct words_state *s, const struct kv_view *kv, uint32_t base, uint32_t n)
{
	for (uint32_t t0 = 0; t0 < n; t0 += PAGE) {
		const unsigned char *k = kv_page_k(kv, (base + t0) / PAGE), *v = kv_page_v(kv, (base + t0) / PAGE);
		const float *scale = kv_page_scales(kv, (base + t0) / PAGE);

		for (uint32_t d = 0; d < s->dim / 2; d++)
			words_store(s->k + (d * ATTENTION_BLOCK + t0) * 2, words_bytes(k + d * 2 * PAGE));
		for (uint32_t t = 0; t < PAGE / 2; t++)
			for (uint32_t d = 0; d < s->pad; d += 16)
				words_store(s->v + ((t0 / 2 + t) * s->pad + d) * 2, words_bytes(v + ((size_t)t * s->pad + d) * 2));
		v16_store(s->k_scale + t0, v16_load(scale));
		v16_store(s->v_scale + t0, v16_load(scale + PAGE));
	}
}

/* The scales of 16 tokens with such magnitudes, and what turns their values into codes. */
VEC v16 token_scales(float *scale, v16 top, float limit)
{
	v16_store(scale, v16_div(top, v16_all(limit)));
	return v16_div(v16_all(limit), top);
}

/* The same of f16. What is no number becomes 0 as a word. */
VEC void widen_halves(struct words_state *s, const struct kv_view *kv, uint32_t base, uint32_t n)
{
	const size_t row = s->pad * 2;

	for (uint32_t t0 = 0; t0 < n; t0 += PAGE) {
		const unsigned char *k = kv_page_k(kv, (base + t0) / PAGE), *v = kv_page_v(kv, (base + t0) / PAGE);
		__attribute__((aligned(64))) float inverse[PAGE];
		v16 by;

		by = token_scales(s->k_scale + t0, halves_top_of_lanes(k, s->dim), HALF_K);
		for (uint32_t d = 0; d < s->dim / 2; d++)
			words_store(s->k + (d * ATTENTION_BLOCK + t0) * 2,
				    words_two(v16_mul(v16_half(k + d * 64), by), v16_mul(v16_half(k + d * 64 + 32), by)));
		v16_store(inverse, token_scales(s->v_scale + t0, halves_top_of_rows(v, s->pad, s->dim), HALF_V));
		for (uint32_t t = 0; t < PAGE; t += 2)
			for (uint32_t d = 0; d < s->pad; d += 16)
				words_store(s->v + ((t0 + t) / 2 * s->pad + d) * 2,
					    words_two(v16_mul(v16_half(v + t * row + d * 2), v16_all(inverse[t])),
						      v16_mul(v16_half(v + (t + 1) * row + d * 2), v16_all(inverse[t + 1]))));
	}
}

/* sum[q][lane] of a[q * lda + 2 i ..] times b[i * ldb + 2 lane ..], i < n. */
struct words_product {
	float *out;
	const int16_t *a, *b;
	size_t ldo, lda, ldb;
	uint32_t n;
	const float *scale;		/* out = sum * scale[lane]; NULL: out = out * was[q] + sum * is[q] */
	const float *was, *is;
	struct ahead *ahead;
};

/* Of queries from q0 on, lanes from d on. */
VEC void words_tile(const struct words_product *p, uint32_t q0, uint32_t d, uint32_t queries, uint32_t vectors)
{
	const int16_t *a = p->a + q0 * p->lda, *b = p->b + 2 * d;
	sums16 sum[WORDS_QUERIES][WORDS_VECTORS];

	UNROLL
	for (uint32_t q = 0; q < queries; q++)
		UNROLL
		for (uint32_t j = 0; j < vectors; j++)
			sum[q][j] = sums_zero();
	for (uint32_t i = 0; i < p->n; i++) {
		words32 x[WORDS_VECTORS];

		ahead_step(p->ahead);
		UNROLL
		for (uint32_t j = 0; j < vectors; j++)
			x[j] = words_load(b + i * p->ldb + 32 * j);
		UNROLL
		for (uint32_t q = 0; q < queries; q++) {
			words32 y = words_pair(a + q * p->lda + 2 * i);

			UNROLL
			for (uint32_t j = 0; j < vectors; j++)
				sums_dot(&sum[q][j], x[j], y);
		}
	}
	UNROLL
	for (uint32_t q = 0; q < queries; q++)
		UNROLL
		for (uint32_t j = 0; j < vectors; j++) {
			float *out = p->out + (q0 + q) * p->ldo + d + 16 * j;
			v16 s = sums_float(sum[q][j]);

			if (p->scale)
				v16_store(out, v16_mul(s, v16_load(p->scale + d + 16 * j)));
			else
				v16_store(out, v16_fma(s, v16_all(p->is[q0 + q]), v16_mul(v16_load(out), v16_all(p->was[q0 + q]))));
		}
}

/* The same for any number of queries and a width of any multiple of 16. */
VEC void words_products(const struct words_product *p, uint32_t queries, uint32_t width)
{
	for (uint32_t q = 0; q < queries;) {
		uint32_t step = queries - q >= WORDS_QUERIES ? WORDS_QUERIES : 1, d = 0;

		for (; d + 16 * WORDS_VECTORS <= width; d += 16 * WORDS_VECTORS)
			if (step == 1)
				words_tile(p, q, d, 1, WORDS_VECTORS);
			else
				words_tile(p, q, d, WORDS_QUERIES, WORDS_VECTORS);
		for (; WORDS_VECTORS > 1 && d < width; d += 16)
			if (step == 1)
				words_tile(p, q, d, 1, 1);
			else
				words_tile(p, q, d, WORDS_QUERIES, 1);
		q += step;
	}
}

/* The largest score of query i, of n keys of the block; others become -inf. */
VEC float block_top(float *x, uint32_t n)
{
	v16 top = v16_all(-INFINITY);

	UNROLL
	for (uint32_t j = 0; j < ATTENTION_BLOCK / 16; j++) {
		v16 y = v16_load(x + 16 * j);

		if (n < ATTENTION_BLOCK) {
			y = v16_first(y, n > 16 * j ? n - 16 * j : 0, -INFINITY);
			v16_store(x + 16 * j, y);
		}
		top = v16_max(y, top);
	}
	return v16_top(top);
}

/* Scores of query i, the j-th at a time, to weights. factor: of the weights' codes. */
VEC void weigh_words(struct words_state *s, uint32_t i, uint32_t j, const float *factor)
{
	v16 sum = v16_zero(), top = v16_all(s->top[j]), unit = v16_all(s->unit[i]);

	UNROLL
	for (uint32_t t = 0; t < ATTENTION_BLOCK; t += 16) {
		v16 p = v16_power(v16_mul(v16_sub(v16_load(s->x + j * ATTENTION_BLOCK + t), top), unit));

		sum = v16_add(sum, p);
		words_put(s->w + j * ATTENTION_BLOCK + t, v16_mul(p, v16_load(factor + t)));
	}
	v16_store(s->l + i * 16, v16_fma(sum, v16_all(s->is[j]), v16_mul(v16_load(s->l + i * 16), v16_all(s->was[j]))));
}

/* factor[t] of n keys of the block, 0 past them; returns what a code of 1 is worth in units of V's codes. limit: of the codes. */
VEC float code_factors(float *factor, const float *v_scale, uint32_t n, float limit)
{
	v16 top = v16_zero(), inverse;
	float best;

	for (uint32_t j = 0; j < ATTENTION_BLOCK; j += 16)
		top = v16_max(v16_first(v16_load(v_scale + j), n > j ? n - j : 0, 0), top);
	best = v16_top(top);
	inverse = v16_all(limit / best);
	for (uint32_t j = 0; j < ATTENTION_BLOCK; j += 16) {
		v16 f = v16_min(v16_mul(v16_load(v_scale + j), inverse), v16_all(limit));

		v16_store(factor + j, v16_first(f, n > j ? n - j : 0, 0));
	}
	return best / limit;
}

/* `count` queries, at most WORDS_SIDE, from `first` on take in n keys of the block. */
VEC void attend_words_side(struct words_state *s, uint32_t first, uint32_t count, uint32_t n, const float *factor, float unit)
{
	const struct words_product scores = {
		.out = s->x,
		.ldo = ATTENTION_BLOCK,
		.a = s->q + first * s->pad,
		.lda = s->pad,
		.b = s->k,
		.ldb = 2 * ATTENTION_BLOCK,
		.n = s->dim / 2,
		.scale = s->k_scale,
		.ahead = &s->ahead,
	}, outputs = {
		.out = s->acc + first * s->pad,
		.ldo = s->pad,
		.a = s->w,
		.lda = ATTENTION_BLOCK,
		.b = s->v,
		.ldb = 2 * s->pad,
		.n = (n + 1) / 2,
		.was = s->was,
		.is = s->is,
		.ahead = &s->ahead,
	};

	words_products(&scores, count, ATTENTION_BLOCK);
	for (uint32_t j = 0; j < count; j++)
		s->top[j] = block_top(s->x + j * ATTENTION_BLOCK, n);
	for (uint32_t j = 0; j < count; j++)
		blocks_meet(&s->m[first + j], s->top[j] * s->unit[first + j], &s->was[j], &s->is[j]);
	for (uint32_t j = 0; j < count; j++) {
		weigh_words(s, first + j, j, factor);
		s->is[j] *= unit;
	}
	words_products(&outputs, count, s->pad);
}

/* `count` queries from `first` on take in n keys of the block. */
VEC void attend_words_block(struct words_state *s, uint32_t first, uint32_t count, uint32_t n)
{
	__attribute__((aligned(64))) float factor[ATTENTION_BLOCK];
	const float unit = code_factors(factor, s->v_scale, n, s->limit.w);

	for (uint32_t at = 0; at < count; at += WORDS_SIDE)
		attend_words_side(s, first + at, count - at < WORDS_SIDE ? count - at : WORDS_SIDE, n, factor, unit);
}

/* Query i to words. */
VEC void take_query(struct words_state *s, uint32_t i, const float *q)
{
	__attribute__((aligned(64))) float x[ATTENTION_MAX_HEAD] = { 0 };
	uint32_t bits;
	float inverse;

	memcpy(x, q, s->dim * sizeof(float));
	bits = group_bits(x, s->pad, s->pad);
	s->unit[i] = query_unit(bits, s->dim, s->limit.q, &inverse);
	for (uint32_t d = 0; d < s->pad; d += 16)
		if (inverse > 0)
			words_put(s->q + i * s->pad + d, v16_mul(v16_load(x + d), v16_all(inverse)));
		else
			memset(s->q + i * s->pad + d, 0, 16 * sizeof(s->q[0]));
	s->m[i] = -INFINITY;
}

VEC void place_words(struct words_state *s, void *memory, const struct kv_view *kv, uint32_t queries)
{
	s->dim = kv->head_dim;
	s->pad = kv->head_pad;
	s->limit = word_limits(kv->kind, kv->head_dim);
	s->acc = memory;
	s->l = s->acc + queries * s->pad;
	s->x = s->l + queries * 16;
	s->k = (int16_t *)(s->x + WORDS_SIDE * ATTENTION_BLOCK);
	s->v = s->k + (size_t)s->pad * ATTENTION_BLOCK;
	s->w = s->v + (size_t)s->pad * ATTENTION_BLOCK;
	s->q = s->w + WORDS_SIDE * ATTENTION_BLOCK;
	memset(s->acc, 0, queries * s->pad * sizeof(float));
	memset(s->l, 0, queries * 16 * sizeof(float));
}

/* Heads from `head` on of a tile. */
VEC void attend_words_heads(const struct attention_tile *t, uint32_t head, uint32_t heads, bool half)
{
	__attribute__((aligned(64))) unsigned char memory[WORDS_STATE];
	const uint32_t queries = t->rows * heads, keys = t->n_keys + t->rows - 1;
	const uint32_t turns = (queries + WORDS_QUERIES - 1) / WORDS_QUERIES * (t->kv.head_dim + t->kv.head_pad) / 2 * ATTENTION_BLOCK /
			       (16 * WORDS_VECTORS);
	struct words_state s;

	place_words(&s, memory, &t->kv, queries);
	for (uint32_t i = 0; i < queries; i++)
		take_query(&s, i, t->q[i / heads] + (size_t)(head + i % heads) * s.dim);
	for (uint32_t base = 0; base < keys; base += ATTENTION_BLOCK) {
		uint32_t n = keys - base < ATTENTION_BLOCK ? keys - base : ATTENTION_BLOCK;

		ahead_begin(&s.ahead, &t->kv, base, keys, turns);
		if (half)
			widen_halves(&s, &t->kv, base, n);
		else
			widen_bytes(&s, &t->kv, base, n);
		if (base + ATTENTION_BLOCK <= t->n_keys) {
			attend_words_block(&s, 0, queries, ATTENTION_BLOCK);
			continue;
		}
		for (uint32_t r = 0; r < t->rows; r++) {
			uint32_t sees = t->n_keys + r > base ? t->n_keys + r - base : 0;

			if (sees)
				attend_words_block(&s, r * heads, heads, sees < ATTENTION_BLOCK ? sees : ATTENTION_BLOCK);
		}
	}
	for (uint32_t i = 0; i < queries; i++) {
		float *out = t->out[i / heads] + (size_t)(head + i % heads) * s.dim, l = v16_sum(v16_load(s.l + i * 16));

		for (uint32_t d = 0; d < s.dim; d++)
			out[d] = s.acc[i * s.pad + d] / l;
	}
}

VEC void attention_words_vec(const struct attention_tile *t)
{
	for (uint32_t head = 0; head < t->heads; head += ATTENTION_PROMPT) {
		uint32_t heads = t->heads - head < ATTENTION_PROMPT ? t->heads - head : ATTENTION_PROMPT;

		attend_words_heads(t, head, heads, t->kv.kind == KV_F16);
	}
}

#endif
