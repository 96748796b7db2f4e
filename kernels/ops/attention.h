/* attention.h: softmax(q K^T / sqrt(head_dim)) V, for the query heads that share one KV head and neighbouring rows of a sequence.
 *
 * KV lies in pages of 16 tokens (kv.h). Per page and KV head: K as [head_dim][16 tokens], so that a lane is a token and a score
 * sums over head_dim in one chain; V as [16 tokens][head_pad], so that a lane is a dimension and an output sums over tokens in
 * one chain. head_pad is head_dim rounded up to 16.
 *
 * Keys go in blocks of ATTENTION_BLOCK counted from position 0, so a row's result depends on its own position and its sequence
 * alone, not on the rows that share its tile. Scores are in base 2: q is multiplied by log2(e) / sqrt(head_dim) first. Per block:
 * scores s (keys at or past the row's last are -inf, whatever their pages hold), m' = max(m, max s), p = 2^(s - m') (expo.h),
 * c = 2^(m - m'), l[lane] = l[lane] * c + the block's p in page order, acc[d] = acc[d] * c, then fma(p[t], V[t][d], acc[d]) for
 * t ascending over the row's own keys. At the end out[d] = acc[d] / l, the lanes of l meeting as a tree (8, 4, 2, 1).
 *
 * Prompt rows over f16 have an order of their own: that of attention_words.h. Where there are tiles of bf16 (AMX) prompt rows over f16 and
 * int8 have this one. The same blocks; bf() rounds to 8 bits, ties away from 0, cut() cuts off to 8 bits. A dot of 32 is a sum of the even and one of the odd elements, each in one chain of fma
 * from 0, and then the sum of both; numbers below 2^-126 are 0 there. Per block, keys past the row's last having weights of 0:
 *
 *     s[t] = sum of dots of 32 of bf(q) bf(K), d ascending        q multiplied as above first; K of int8: bf(code * scale)
 *     where some s[t] > m + 8: m' = max s, and acc and l are multiplied by 2^(m - m')
 *     p[t] = cut(2^(s[t] - m)): an error of up to 2^-7, which l has, too; the power is good to 7.5e-5
 *     l[lane] = l[lane] + (p[lane] + p[lane + 16]), then the same with the block's other half
 *     acc[d] = acc[d] + the dot of 32 of p and bf(V[t][d]), whose pairs are tokens t and t + 16; then the other half */
#ifndef WEFT_OPS_ATTENTION_H
#define WEFT_OPS_ATTENTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ATTENTION_BLOCK = 64, ATTENTION_MAX_HEAD = 256, PAGE = 16 };
/* Of a tile: enough that reading and widening K and V costs little beside using them, few enough that all stays in the caches. */
enum { ATTENTION_QUERIES = 64, ATTENTION_PROMPT = 256 };

/* INT8: attention_words.h tells the layout and what is computed. */
enum kv_kind { KV_F32, KV_F16, KV_INT8 };

static inline size_t kv_value_bytes(enum kv_kind k)
{
	return k == KV_F32 ? 4 : k == KV_F16 ? 2 : 1;
}

/* One sequence's pages as one layer and one KV head sees them. */
struct kv_view {
	unsigned char *pool;		/* first byte of this layer and head in page 0 */
	size_t page_bytes;
	const uint32_t *table;		/* page of positions 16 i .. 16 i + 15 */
	uint32_t head_dim, head_pad;
	enum kv_kind kind;
};

static inline unsigned char *kv_page_k(const struct kv_view *v, uint32_t i)
{
	return v->pool + v->table[i] * v->page_bytes;
}

static inline unsigned char *kv_page_v(const struct kv_view *v, uint32_t i)
{
	return kv_page_k(v, i) + (size_t)v->head_dim * PAGE * kv_value_bytes(v->kind);
}

/* Rows of one sequence at positions that follow each other: row r sees keys 0 .. n_keys + r - 1, n_keys > 0. */
struct attention_tile {
	struct kv_view kv;
	uint32_t rows, heads;		/* rows * heads <= ATTENTION_QUERIES, of prompt rows ATTENTION_PROMPT; or one row */
	uint32_t n_keys;
	const float *q[ATTENTION_PROMPT];	/* [rows] each [heads][head_dim], rotated, not scaled */
	float *out[ATTENTION_PROMPT];		/* [rows] each [heads][head_dim] */
};

typedef void attention_fn(const struct attention_tile *t);
/* k[head_dim] (rotated), v[head_dim] of one position into its page. */
typedef void kv_store_fn(const struct kv_view *kv, uint32_t position, const float *k, const float *v);

attention_fn attention_tile_plain, attention_avx2, attention_avx512;
attention_fn attention_prompt_plain, attention_prompt_amx;	/* prompt rows with tiles */
attention_fn attention_words_plain, attention_words_avx2, attention_words_avx512;	/* prompt rows without; attention_words.h */
kv_store_fn kv_store_plain, kv_store_avx2, kv_store_avx512;

/* The reference: one row. out[heads][head_dim], q[heads][head_dim], keys 0 .. n_keys - 1. */
void attention_plain(float *out, const float *q, uint32_t heads, const struct kv_view *kv, uint32_t n_keys);

#endif
