/* attention_int8_vec.h: attention_int8.h on 16 lanes: attention_vec.h with words in the place of floats. A lane of a sum takes two
 * products at once: of two dimensions of a key for a score, of two keys for a dimension of an output. */
#ifndef WEFT_OPS_ATTENTION_INT8_VEC_H
#define WEFT_OPS_ATTENTION_INT8_VEC_H

#include "attention_int8.h"
#include "quantize_vec.h"
#include "vec16.h"
#include "words16.h"

#ifdef __AVX512F__
enum { INT8_QUERIES = 4, INT8_VECTORS = 4 };
#else
enum { INT8_QUERIES = 4, INT8_VECTORS = 1 };
#endif

/* All rows are 64-byte aligned; pad is head_pad. */
struct int8_state {
	float *acc;			/* [queries][pad] */
	float *x;			/* [queries][ATTENTION_BLOCK] scores */
	float *l;			/* [queries][16] */
	int16_t *q;			/* [queries][pad] */
	int16_t *w;			/* [queries][ATTENTION_BLOCK] weights */
	int16_t *k;			/* [head_dim / 2][ATTENTION_BLOCK][2] the block, widened */
	int16_t *v;			/* [ATTENTION_BLOCK / 2][pad][2] */
	float k_scale[ATTENTION_BLOCK], v_scale[ATTENTION_BLOCK];
	float unit[ATTENTION_QUERIES], top[ATTENTION_QUERIES], m[ATTENTION_QUERIES], was[ATTENTION_QUERIES], is[ATTENTION_QUERIES];
	uint32_t dim, pad;
};
enum { INT8_STATE = (4 + 2) * ATTENTION_QUERIES * ATTENTION_MAX_HEAD + ATTENTION_QUERIES * (6 * ATTENTION_BLOCK + 4 * 16) +
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

/* The block at `base` to words: `n` keys of it. The next block's bytes are asked for meanwhile. */
VEC void widen_int8(struct int8_state *s, const struct kv_view *kv, uint32_t base, uint32_t n, bool more)
{
	for (uint32_t t0 = 0; t0 < n; t0 += PAGE) {
		const unsigned char *k = kv_page_k(kv, (base + t0) / PAGE), *v = kv_page_v(kv, (base + t0) / PAGE);
		const unsigned char *next = more ? kv_page_k(kv, (base + ATTENTION_BLOCK + t0) / PAGE) : k;
		const float *scale = kv_page_scales(kv, (base + t0) / PAGE);

		for (uint32_t d = 0; d < s->dim / 2; d++) {	/* of K and V there are as many lines */
			__builtin_prefetch(next + d * 64, 0, 2);
			words_store(s->k + (d * ATTENTION_BLOCK + t0) * 2, words_bytes(k + d * 2 * PAGE));
		}
		for (uint32_t t = 0; t < PAGE / 2; t++)
			for (uint32_t d = 0; d < s->pad; d += 16)
				words_store(s->v + ((t0 / 2 + t) * s->pad + d) * 2, words_bytes(v + ((size_t)t * s->pad + d) * 2));
		__builtin_prefetch(next + (s->dim / 2) * 64, 0, 2);
		__builtin_prefetch(next + (s->dim / 2 + 1) * 64, 0, 2);
		v16_store(s->k_scale + t0, v16_load(scale));
		v16_store(s->v_scale + t0, v16_load(scale + PAGE));
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
};

/* Of queries from q0 on, lanes from d on. */
VEC void words_tile(const struct words_product *p, uint32_t q0, uint32_t d, uint32_t queries, uint32_t vectors)
{
	const int16_t *a = p->a + q0 * p->lda, *b = p->b + 2 * d;
	sums16 sum[INT8_QUERIES][INT8_VECTORS];

	UNROLL
	for (uint32_t q = 0; q < queries; q++)
		UNROLL
		for (uint32_t j = 0; j < vectors; j++)
			sum[q][j] = sums_zero();
	for (uint32_t i = 0; i < p->n; i++) {
		words32 x[INT8_VECTORS];

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
		uint32_t step = queries - q >= INT8_QUERIES ? INT8_QUERIES : 1, d = 0;

		for (; d + 16 * INT8_VECTORS <= width; d += 16 * INT8_VECTORS)
			if (step == 1)
				words_tile(p, q, d, 1, INT8_VECTORS);
			else
				words_tile(p, q, d, INT8_QUERIES, INT8_VECTORS);
		for (; INT8_VECTORS > 1 && d < width; d += 16)
			if (step == 1)
				words_tile(p, q, d, 1, 1);
			else
				words_tile(p, q, d, INT8_QUERIES, 1);
		q += step;
	}
}

/* The largest score of query i, of n keys of the block; others become -inf. */
VEC float top_int8(float *x, uint32_t n)
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

/* Scores of query i to weights. factor: of the weights' codes. */
VEC void weigh_int8(struct int8_state *s, uint32_t i, const float *factor)
{
	v16 sum = v16_zero(), top = v16_all(s->top[i]), unit = v16_all(s->unit[i]);

	UNROLL
	for (uint32_t j = 0; j < ATTENTION_BLOCK / 16; j++) {
		v16 p = v16_power(v16_mul(v16_sub(v16_load(s->x + i * ATTENTION_BLOCK + 16 * j), top), unit));

		sum = v16_add(sum, p);
		words_put(s->w + i * ATTENTION_BLOCK + 16 * j, v16_mul(p, v16_load(factor + 16 * j)));
	}
	v16_store(s->l + i * 16, v16_fma(sum, v16_all(s->is[i]), v16_mul(v16_load(s->l + i * 16), v16_all(s->was[i]))));
}

/* factor[t] of n keys of the block, 0 past them; returns what a code of 1 is worth in units of V's codes. */
VEC float code_factors(float *factor, const float *v_scale, uint32_t n)
{
	v16 top = v16_zero(), inverse;
	float best;

	for (uint32_t j = 0; j < ATTENTION_BLOCK; j += 16)
		top = v16_max(v16_first(v16_load(v_scale + j), n > j ? n - j : 0, 0), top);
	best = v16_top(top);
	inverse = v16_all(INT8_WORD / best);
	for (uint32_t j = 0; j < ATTENTION_BLOCK; j += 16) {
		v16 f = v16_min(v16_mul(v16_load(v_scale + j), inverse), v16_all(INT8_WORD));

		v16_store(factor + j, v16_first(f, n > j ? n - j : 0, 0));
	}
	return best / INT8_WORD;
}

/* `count` queries from `first` on take in n keys of the block. */
VEC void attend_int8_block(struct int8_state *s, uint32_t first, uint32_t count, uint32_t n)
{
	__attribute__((aligned(64))) float factor[ATTENTION_BLOCK];
	const float unit = code_factors(factor, s->v_scale, n);
	const struct words_product scores = {
		.out = s->x + first * ATTENTION_BLOCK,
		.ldo = ATTENTION_BLOCK,
		.a = s->q + first * s->pad,
		.lda = s->pad,
		.b = s->k,
		.ldb = 2 * ATTENTION_BLOCK,
		.n = s->dim / 2,
		.scale = s->k_scale,
	}, outputs = {
		.out = s->acc + first * s->pad,
		.ldo = s->pad,
		.a = s->w + first * ATTENTION_BLOCK,
		.lda = ATTENTION_BLOCK,
		.b = s->v,
		.ldb = 2 * s->pad,
		.n = (n + 1) / 2,
		.was = s->was + first,
		.is = s->is + first,
	};

	words_products(&scores, count, ATTENTION_BLOCK);
	for (uint32_t i = first; i < first + count; i++)
		s->top[i] = top_int8(s->x + i * ATTENTION_BLOCK, n);
	for (uint32_t i = first; i < first + count; i++)
		int8_meet(&s->m[i], s->top[i] * s->unit[i], &s->was[i], &s->is[i]);
	for (uint32_t i = first; i < first + count; i++) {
		weigh_int8(s, i, factor);
		s->is[i] *= unit;
	}
	words_products(&outputs, count, s->pad);
}

/* Query i to words. */
VEC void take_query(struct int8_state *s, uint32_t i, const float *q)
{
	__attribute__((aligned(64))) float x[ATTENTION_MAX_HEAD] = { 0 };
	uint32_t bits;
	float inverse;

	memcpy(x, q, s->dim * sizeof(float));
	bits = group_bits(x, s->pad, s->pad);
	s->unit[i] = int8_query_unit(bits, s->dim, &inverse);
	for (uint32_t d = 0; d < s->pad; d += 16)
		if (inverse > 0)
			words_put(s->q + i * s->pad + d, v16_mul(v16_load(x + d), v16_all(inverse)));
		else
			memset(s->q + i * s->pad + d, 0, 16 * sizeof(s->q[0]));
	s->m[i] = -INFINITY;
}

VEC void place_int8(struct int8_state *s, void *memory, const struct kv_view *kv, uint32_t queries)
{
	s->dim = kv->head_dim;
	s->pad = kv->head_pad;
	s->acc = memory;
	s->x = s->acc + queries * s->pad;
	s->l = s->x + queries * ATTENTION_BLOCK;
	s->k = (int16_t *)(s->l + queries * 16);
	s->v = s->k + (size_t)s->pad * ATTENTION_BLOCK;
	s->w = s->v + (size_t)s->pad * ATTENTION_BLOCK;
	s->q = s->w + queries * ATTENTION_BLOCK;
	memset(s->acc, 0, queries * s->pad * sizeof(float));
	memset(s->l, 0, queries * 16 * sizeof(float));
}

/* Heads from `head` on of a tile. */
VEC void attend_int8_heads(const struct attention_tile *t, uint32_t head, uint32_t heads)
{
	__attribute__((aligned(64))) unsigned char memory[INT8_STATE];
	const uint32_t queries = t->rows * heads, keys = t->n_keys + t->rows - 1;
	struct int8_state s;

	place_int8(&s, memory, &t->kv, queries);
	for (uint32_t i = 0; i < queries; i++)
		take_query(&s, i, t->q[i / heads] + (size_t)(head + i % heads) * s.dim);
	for (uint32_t base = 0; base < keys; base += ATTENTION_BLOCK) {
		uint32_t n = keys - base < ATTENTION_BLOCK ? keys - base : ATTENTION_BLOCK;

		widen_int8(&s, &t->kv, base, n, keys - base >= 2 * ATTENTION_BLOCK);
		if (base + ATTENTION_BLOCK <= t->n_keys) {
			attend_int8_block(&s, 0, queries, ATTENTION_BLOCK);
			continue;
		}
		for (uint32_t r = 0; r < t->rows; r++) {
			uint32_t sees = t->n_keys + r > base ? t->n_keys + r - base : 0;

			if (sees)
				attend_int8_block(&s, r * heads, heads, sees < ATTENTION_BLOCK ? sees : ATTENTION_BLOCK);
		}
	}
	for (uint32_t i = 0; i < queries; i++) {
		float *out = t->out[i / heads] + (size_t)(head + i % heads) * s.dim, l = v16_sum(v16_load(s.l + i * 16));

		for (uint32_t d = 0; d < s.dim; d++)
			out[d] = s.acc[i * s.pad + d] / l;
	}
}

#endif
