/* attention_vec.h: attention.h on 16 lanes. A page's 16 tokens are the lanes of a score, 16 dimensions those of an output.
 *
 * A tile's queries (rows times heads) go through the keys together, block by block: K and V of a block are widened to f32 once, then
 * both products run on them as matrix products with ATT_QUERIES x ATT_VECTORS sums in registers. Such tiling changes no element's
 * order. A block that some rows do not see whole goes row by row. */
#include "attention.h"
#include "attention_words_vec.h"
#include "vec16.h"

#ifdef __AVX512F__
enum { ATT_QUERIES = 4, ATT_VECTORS = 4, FEW_QUERIES = 8, FEW_VECTORS = 2 };
#else
enum { ATT_QUERIES = 4, ATT_VECTORS = 1, FEW_QUERIES = 4, FEW_VECTORS = 1 };
#endif
enum { FEW_MOST = 16 };		/* queries that take K and V as they lie: to write them down wide would cost more than it saves */

/* All rows are 64-byte aligned; pad is head_pad. */
struct attention_state {
	float *q;			/* [queries][pad], scaled */
	float *acc;			/* [queries][pad] */
	float *p;			/* [queries][ATTENTION_BLOCK] scores, then weights */
	float *l;			/* [queries][16] */
	float *k;			/* [head_dim][ATTENTION_BLOCK] the block, widened */
	float *v;			/* [ATTENTION_BLOCK][pad] */
	float m[ATTENTION_QUERIES], factor[ATTENTION_QUERIES];
	struct ahead ahead;
	uint32_t dim, pad;
};
enum { ATTENTION_STATE = 2 * ATTENTION_QUERIES * ATTENTION_MAX_HEAD + ATTENTION_QUERIES * (ATTENTION_BLOCK + 16) +
			 2 * ATTENTION_BLOCK * ATTENTION_MAX_HEAD };

VEC v16 kv_load(const unsigned char *p, size_t i, bool half)
{
	return half ? v16_half(p + 2 * i) : v16_load((const float *)(p + 4 * i));
}

VEC void kv_store_vec(const struct kv_view *kv, uint32_t position, const float *k, const float *v)
{
	unsigned char *kp = kv_page_k(kv, position / PAGE), *vp = kv_page_v(kv, position / PAGE);
	const bool half = kv->kind == KV_F16;
	float tail[16];

	if (kv->kind == KV_INT8) {
		kv_store_int8_vec(kv, position, k, v);
		return;
	}
	vp += (size_t)(position % PAGE) * kv->head_pad * (half ? 2 : 4);
	for (uint32_t d = 0; d < kv->head_dim; d += 16) {
		uint32_t n = kv->head_dim - d < 16 ? kv->head_dim - d : 16;
		uint16_t h[16];

		memcpy(tail, v + d, n * sizeof(float));
		for (uint32_t j = n; j < 16; j++)
			tail[j] = 0;
		if (half)
			v16_put_half(vp + 2 * (size_t)d, v16_load(tail));
		else
			memcpy(vp + 4 * (size_t)d, tail, sizeof(tail));
		memcpy(tail, k + d, n * sizeof(float));
		v16_put_half(h, v16_load(tail));
		for (uint32_t j = 0; j < n; j++)
			if (half)
				memcpy(kp + 2 * ((size_t)(d + j) * PAGE + position % PAGE), &h[j], 2);
			else
				memcpy(kp + 4 * ((size_t)(d + j) * PAGE + position % PAGE), &tail[j], 4);
	}
}

/* The block at `base` to f32: `n` keys of it. */
VEC void widen_block(struct attention_state *s, const struct kv_view *kv, uint32_t base, uint32_t n, bool half)
{
	for (uint32_t t0 = 0; t0 < n; t0 += PAGE) {
		const unsigned char *k = kv_page_k(kv, (base + t0) / PAGE), *v = kv_page_v(kv, (base + t0) / PAGE);

		for (uint32_t d = 0; d < s->dim; d++)
			v16_store(s->k + d * ATTENTION_BLOCK + t0, kv_load(k, (size_t)d * PAGE, half));
		for (uint32_t t = 0; t < PAGE && t0 + t < n; t++)
			for (uint32_t d = 0; d < s->pad; d += 16)
				v16_store(s->v + (t0 + t) * s->pad + d, kv_load(v, (size_t)t * s->pad + d, half));
	}
}

/* out[queries][vectors] of `rows` products: a[q * lda + i] * b[i * ldb + lanes], i ascending, on top of what out * factor is. */
VEC void product(struct ahead *ahead, float *out, size_t ldo, const float *factor, const float *a, size_t lda, const float *b, size_t ldb,
		 uint32_t n, uint32_t queries, uint32_t vectors)
{
	v16 sum[ATT_QUERIES][ATT_VECTORS];

	UNROLL
	for (uint32_t q = 0; q < queries; q++)
		UNROLL
		for (uint32_t j = 0; j < vectors; j++)
			sum[q][j] = factor ? v16_mul(v16_load(out + q * ldo + 16 * j), v16_all(factor[q])) : v16_zero();
	for (uint32_t i = 0; i < n; i++) {
		v16 x[ATT_VECTORS];

		ahead_step(ahead);
		UNROLL
		for (uint32_t j = 0; j < vectors; j++)
			x[j] = v16_load(b + i * ldb + 16 * j);
		UNROLL
		for (uint32_t q = 0; q < queries; q++) {
			v16 y = v16_all(a[q * lda + i]);

			UNROLL
			for (uint32_t j = 0; j < vectors; j++)
				sum[q][j] = v16_fma(x[j], y, sum[q][j]);
		}
	}
	UNROLL
	for (uint32_t q = 0; q < queries; q++)
		UNROLL
		for (uint32_t j = 0; j < vectors; j++)
			v16_store(out + q * ldo + 16 * j, sum[q][j]);
}

/* The same for any number of queries and a width of any multiple of 16. */
VEC void products(struct ahead *ahead, float *out, size_t ldo, const float *factor, const float *a, size_t lda, const float *b, size_t ldb,
		  uint32_t n, uint32_t queries, uint32_t width)
{
	for (uint32_t q = 0; q < queries;) {
		uint32_t step = queries - q >= ATT_QUERIES ? ATT_QUERIES : 1, d = 0;
		const float *f = factor ? factor + q : NULL;

		for (; d + 16 * ATT_VECTORS <= width; d += 16 * ATT_VECTORS)
			if (step == 1)
				product(ahead, out + q * ldo + d, ldo, f, a + q * lda, lda, b + d, ldb, n, 1, ATT_VECTORS);
			else
				product(ahead, out + q * ldo + d, ldo, f, a + q * lda, lda, b + d, ldb, n, ATT_QUERIES, ATT_VECTORS);
		for (; ATT_VECTORS > 1 && d < width; d += 16)
			if (step == 1)
				product(ahead, out + q * ldo + d, ldo, f, a + q * lda, lda, b + d, ldb, n, 1, 1);
			else
				product(ahead, out + q * ldo + d, ldo, f, a + q * lda, lda, b + d, ldb, n, ATT_QUERIES, 1);
		q += step;
	}
}

/* Scores of a query to weights; returns the factor for what was summed before. n: keys of the block that it sees. */
VEC float weigh(float *p, float *l, float *m, uint32_t n)
{
	v16 s[ATTENTION_BLOCK / 16], top = v16_all(*m), sum = v16_load(l);
	float factor = 1;

	UNROLL
	for (uint32_t j = 0; j < ATTENTION_BLOCK / 16; j++) {
		s[j] = v16_load(p + 16 * j);
		if (n < ATTENTION_BLOCK)
			s[j] = v16_first(s[j], n > 16 * j ? n - 16 * j : 0, -INFINITY);
		top = v16_max(s[j], top);
	}
	top = v16_all(v16_top(top));
	if (v16_lane(top) != *m) {	/* 2^0 is 1 */
		factor = power_of_two(*m - v16_lane(top));
		*m = v16_lane(top);
		sum = v16_mul(sum, v16_all(factor));
	}
	UNROLL
	for (uint32_t j = 0; j < ATTENTION_BLOCK / 16; j++) {
		s[j] = v16_power(v16_sub(s[j], top));
		v16_store(p + 16 * j, s[j]);
		sum = v16_add(sum, s[j]);
	}
	v16_store(l, sum);
	return factor;
}

/* `count` queries from `first` on take in n keys of the block. */
VEC void attend_block(struct attention_state *s, uint32_t first, uint32_t count, uint32_t n)
{
	float *p = s->p + first * ATTENTION_BLOCK;

	products(&s->ahead, p, ATTENTION_BLOCK, NULL, s->q + first * s->pad, s->pad, s->k, ATTENTION_BLOCK, s->dim, count, ATTENTION_BLOCK);
	for (uint32_t i = 0; i < count; i++)
		s->factor[first + i] = weigh(p + i * ATTENTION_BLOCK, s->l + (first + i) * 16, &s->m[first + i], n);
	products(&s->ahead, s->acc + first * s->pad, s->pad, s->factor + first, p, ATTENTION_BLOCK, s->v, s->pad, n, count, s->pad);
}

/* ---- few queries: the same sums, of K and V as they lie ---- */

/* Of `queries` from q0 on: scores of a page's 16 keys. */
VEC void few_scores(struct attention_state *s, uint32_t q0, const unsigned char *k, float *p, uint32_t queries, bool half)
{
	const float *q = s->q + q0 * s->pad;
	v16 sum[FEW_QUERIES];

	UNROLL
	for (uint32_t i = 0; i < queries; i++)
		sum[i] = v16_zero();
	for (uint32_t d = 0; d < s->dim; d++) {
		v16 x = kv_load(k, (size_t)d * PAGE, half);

		ahead_step(&s->ahead);
		UNROLL
		for (uint32_t i = 0; i < queries; i++)
			sum[i] = v16_fma(x, v16_all(q[i * s->pad + d]), sum[i]);
	}
	UNROLL
	for (uint32_t i = 0; i < queries; i++)
		v16_store(p + (q0 + i) * ATTENTION_BLOCK, sum[i]);
}

/* Their outputs of n keys, dimensions from d on. */
VEC void few_outputs(struct attention_state *s, uint32_t q0, uint32_t d, const unsigned char *const page[], uint32_t n, uint32_t queries,
		     uint32_t vectors, bool half)
{
	const float *p = s->p + q0 * ATTENTION_BLOCK;
	float *out = s->acc + q0 * s->pad + d;
	v16 sum[FEW_QUERIES][FEW_VECTORS];

	UNROLL
	for (uint32_t i = 0; i < queries; i++)
		UNROLL
		for (uint32_t j = 0; j < vectors; j++)
			sum[i][j] = v16_mul(v16_load(out + i * s->pad + 16 * j), v16_all(s->factor[q0 + i]));
	for (uint32_t t = 0; t < n; t++) {
		const size_t at = (size_t)(t % PAGE) * s->pad + d;
		v16 x[FEW_VECTORS];

		ahead_step(&s->ahead);
		UNROLL
		for (uint32_t j = 0; j < vectors; j++)
			x[j] = kv_load(page[t / PAGE], at + 16 * j, half);
		UNROLL
		for (uint32_t i = 0; i < queries; i++)
			UNROLL
			for (uint32_t j = 0; j < vectors; j++)
				sum[i][j] = v16_fma(x[j], v16_all(p[i * ATTENTION_BLOCK + t]), sum[i][j]);
	}
	UNROLL
	for (uint32_t i = 0; i < queries; i++)
		UNROLL
		for (uint32_t j = 0; j < vectors; j++)
			v16_store(out + i * s->pad + 16 * j, sum[i][j]);
}

/* Scores or outputs of `queries` from q0 on; page: of K, or of V. */
VEC void few_side(struct attention_state *s, uint32_t q0, const unsigned char *const page[], uint32_t n, uint32_t queries, bool scores, bool half)
{
	uint32_t d = 0;

	if (scores) {
		for (uint32_t t = 0; t < n; t += PAGE)
			few_scores(s, q0, page[t / PAGE], s->p + t, queries, half);
		return;
	}
	for (; d + 16 * FEW_VECTORS <= s->pad; d += 16 * FEW_VECTORS)
		few_outputs(s, q0, d, page, n, queries, FEW_VECTORS, half);
	for (; FEW_VECTORS > 1 && d < s->pad; d += 16)
		few_outputs(s, q0, d, page, n, queries, 1, half);
}

VEC void few_sides(struct attention_state *s, uint32_t count, const unsigned char *const page[], uint32_t n, bool scores, bool half)
{
	for (uint32_t q0 = 0, step; q0 < count; q0 += step) {
		step = count - q0 >= FEW_QUERIES ? FEW_QUERIES : count - q0 >= 4 ? 4 : 1;
		if (step == FEW_QUERIES)
			few_side(s, q0, page, n, FEW_QUERIES, scores, half);
		else if (step == 4)
			few_side(s, q0, page, n, 4, scores, half);
		else
			few_side(s, q0, page, n, 1, scores, half);
	}
}

/* All queries take in n keys of the block at `base`. */
VEC void attend_few(struct attention_state *s, const struct kv_view *kv, uint32_t base, uint32_t count, uint32_t n, bool half)
{
	const unsigned char *k[ATTENTION_BLOCK / PAGE], *v[ATTENTION_BLOCK / PAGE];

	for (uint32_t t = 0; t < n; t += PAGE) {
		k[t / PAGE] = kv_page_k(kv, (base + t) / PAGE);
		v[t / PAGE] = kv_page_v(kv, (base + t) / PAGE);
	}
	few_sides(s, count, k, n, true, half);
	for (uint32_t i = 0; i < count; i++)
		s->factor[i] = weigh(s->p + i * ATTENTION_BLOCK, s->l + i * 16, &s->m[i], n);
	few_sides(s, count, v, n, false, half);
}

/* Memory for `queries` of them, cut from a block of ATTENTION_STATE floats. */
VEC void place_state(struct attention_state *s, float *at, const struct kv_view *kv, uint32_t queries)
{
	s->dim = kv->head_dim;
	s->pad = kv->head_pad;
	s->q = at;
	s->acc = s->q + queries * s->pad;
	s->p = s->acc + queries * s->pad;
	s->l = s->p + queries * ATTENTION_BLOCK;
	s->k = s->l + queries * 16;
	s->v = s->k + (size_t)s->pad * ATTENTION_BLOCK;
}

/* Heads from `head` on of a tile. */
VEC void attend_heads(const struct attention_tile *t, uint32_t head, uint32_t heads, bool half)
{
	__attribute__((aligned(64))) float memory[ATTENTION_STATE];
	const uint32_t queries = t->rows * heads, keys = t->n_keys + t->rows - 1;
	const float scale = EXPO_LOG2E / sqrtf((float)t->kv.head_dim);
	const uint32_t turns = (queries + ATT_QUERIES - 1) / ATT_QUERIES * (t->kv.head_dim + t->kv.head_pad) * ATTENTION_BLOCK /
			       (16 * ATT_VECTORS);
	const bool few = t->rows == 1 && queries <= FEW_MOST;
	struct attention_state s;

	place_state(&s, memory, &t->kv, queries);
	for (uint32_t i = 0; i < queries; i++) {
		const float *q = t->q[i / heads] + (size_t)(head + i % heads) * s.dim;

		for (uint32_t d = 0; d < s.dim; d++)
			s.q[i * s.pad + d] = q[d] * scale;
		s.m[i] = -INFINITY;
	}
	memset(s.acc, 0, queries * s.pad * sizeof(float));
	memset(s.l, 0, queries * 16 * sizeof(float));
	for (uint32_t base = 0; base < keys; base += ATTENTION_BLOCK) {
		uint32_t n = keys - base < ATTENTION_BLOCK ? keys - base : ATTENTION_BLOCK;

		ahead_begin(&s.ahead, &t->kv, base, keys, turns);
		if (few) {
			attend_few(&s, &t->kv, base, queries, n, half);
			continue;
		}
		widen_block(&s, &t->kv, base, n, half);
		if (base + ATTENTION_BLOCK <= t->n_keys) {
			attend_block(&s, 0, queries, ATTENTION_BLOCK);
			continue;
		}
		for (uint32_t r = 0; r < t->rows; r++) {
			uint32_t sees = t->n_keys + r > base ? t->n_keys + r - base : 0;

			if (sees)
				attend_block(&s, r * heads, heads, sees < ATTENTION_BLOCK ? sees : ATTENTION_BLOCK);
		}
	}
	for (uint32_t i = 0; i < queries; i++) {
		float *out = t->out[i / heads] + (size_t)(head + i % heads) * s.dim, l = v16_sum(v16_load(s.l + i * 16));

		for (uint32_t d = 0; d < s.dim; d++)
			out[d] = s.acc[i * s.pad + d] / l;
	}
}

VEC void attention_vec(const struct attention_tile *t)
{
	if (t->kv.kind == KV_INT8) {
		attention_words_vec(t);
		return;
	}
	for (uint32_t head = 0; head < t->heads; head += ATTENTION_QUERIES) {
		uint32_t heads = t->heads - head < ATTENTION_QUERIES ? t->heads - head : ATTENTION_QUERIES;

		if (t->kv.kind == KV_F16)
			attend_heads(t, head, heads, true);
		else
			attend_heads(t, head, heads, false);
	}
}
