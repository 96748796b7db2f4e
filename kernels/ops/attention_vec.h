/* attention_vec.h: attention.h on 16 lanes. A page's 16 tokens are the lanes of a score, 16 dimensions those of an output.
 * ATT_HEADS query heads and ATT_PAGES pages (ATT_DIMS vectors of V) share each KV load; such tiling changes no element's order. */
#include "attention.h"
#include "vec16.h"

enum { BLOCK_PAGES = ATTENTION_BLOCK / PAGE };
#ifdef __AVX512F__
enum { ATT_HEADS = 4, ATT_PAGES = 4, ATT_DIMS = 4 };
#else
enum { ATT_HEADS = 2, ATT_PAGES = 2, ATT_DIMS = 2 };
#endif

struct heads_state {
	float q[ATT_HEADS][ATTENTION_MAX_HEAD];		/* scaled */
	float acc[ATT_HEADS][ATTENTION_MAX_HEAD];
	float p[ATT_HEADS][ATTENTION_BLOCK];		/* scores, then weights */
	v16 l[ATT_HEADS];
	float m[ATT_HEADS];
};

VEC v16 kv_load(const unsigned char *p, size_t i, bool half)
{
	return half ? v16_half(p + 2 * i) : v16_load((const float *)(p + 4 * i));
}

VEC void kv_store_vec(const struct kv_view *kv, uint32_t position, const float *k, const float *v)
{
	unsigned char *kp = kv_page_k(kv, position / PAGE), *vp = kv_page_v(kv, position / PAGE);
	float tail[16];

	vp += (size_t)(position % PAGE) * kv->head_pad * (kv->half ? 2 : 4);
	for (uint32_t d = 0; d < kv->head_dim; d += 16) {
		uint32_t n = kv->head_dim - d < 16 ? kv->head_dim - d : 16;
		uint16_t half[16];

		memcpy(tail, v + d, n * sizeof(float));
		for (uint32_t j = n; j < 16; j++)
			tail[j] = 0;
		if (kv->half)
			v16_put_half(vp + 2 * (size_t)d, v16_load(tail));
		else
			memcpy(vp + 4 * (size_t)d, tail, sizeof(tail));
		memcpy(tail, k + d, n * sizeof(float));
		v16_put_half(half, v16_load(tail));
		for (uint32_t j = 0; j < n; j++)
			if (kv->half)
				memcpy(kp + 2 * ((size_t)(d + j) * PAGE + position % PAGE), &half[j], 2);
			else
				memcpy(kp + 4 * ((size_t)(d + j) * PAGE + position % PAGE), &tail[j], 4);
	}
}

/* Scores of `heads` heads against pages first .. first + ATT_PAGES - 1 of the block at `base`; pages past the end are masked. */
VEC void score_pages(struct heads_state *s, uint32_t heads, const struct kv_view *kv, uint32_t base, uint32_t first, uint32_t n,
		     bool half)
{
	v16 sum[ATT_HEADS][ATT_PAGES];
	const unsigned char *page[ATT_PAGES];

	UNROLL
	for (uint32_t j = 0; j < ATT_PAGES; j++)
		page[j] = kv_page_k(kv, (first + j) * PAGE < n ? base / PAGE + first + j : base / PAGE);
	UNROLL
	for (uint32_t h = 0; h < heads; h++)
		UNROLL
		for (uint32_t j = 0; j < ATT_PAGES; j++)
			sum[h][j] = v16_zero();
	for (uint32_t d = 0; d < kv->head_dim; d++)
		UNROLL
		for (uint32_t j = 0; j < ATT_PAGES; j++) {
			v16 k = kv_load(page[j], (size_t)d * PAGE, half);

			UNROLL
			for (uint32_t h = 0; h < heads; h++)
				sum[h][j] = v16_fma(k, v16_all(s->q[h][d]), sum[h][j]);
		}
	UNROLL
	for (uint32_t h = 0; h < heads; h++)
		UNROLL
		for (uint32_t j = 0; j < ATT_PAGES; j++) {
			uint32_t begin = (first + j) * PAGE;

			v16_store(s->p[h] + begin, v16_first(sum[h][j], n > begin ? n - begin : 0, -INFINITY));
		}
}

/* Scores to weights; returns the factor for what was summed before. */
VEC float weigh(float *p, v16 *l, float *m)
{
	v16 top = v16_all(*m);
	float factor;

	for (uint32_t t = 0; t < ATTENTION_BLOCK; t += 16)
		top = v16_max(v16_load(p + t), top);
	factor = v16_top(top);
	top = v16_all(factor);
	factor = expo(*m - factor);
	*m = v16_top(top);
	*l = v16_mul(*l, v16_all(factor));
	for (uint32_t t = 0; t < ATTENTION_BLOCK; t += 16) {
		v16 e = v16_expo(v16_sub(v16_load(p + t), top));

		v16_store(p + t, e);
		*l = v16_add(*l, e);
	}
	return factor;
}

VEC void gather_values(struct heads_state *s, uint32_t heads, const float *factor, const struct kv_view *kv, uint32_t base,
		       uint32_t n, uint32_t d, uint32_t vectors, bool half)
{
	v16 acc[ATT_HEADS][ATT_DIMS];

	UNROLL
	for (uint32_t h = 0; h < heads; h++)
		UNROLL
		for (uint32_t j = 0; j < vectors; j++)
			acc[h][j] = v16_mul(v16_load(s->acc[h] + d + 16 * j), v16_all(factor[h]));
	for (uint32_t t0 = 0; t0 < n; t0 += PAGE) {
		const unsigned char *page = kv_page_v(kv, (base + t0) / PAGE);

		for (uint32_t t = 0; t < PAGE && t0 + t < n; t++)
			UNROLL
			for (uint32_t j = 0; j < vectors; j++) {
				v16 v = kv_load(page, (size_t)t * kv->head_pad + d + 16 * j, half);

				UNROLL
				for (uint32_t h = 0; h < heads; h++)
					acc[h][j] = v16_fma(v16_all(s->p[h][t0 + t]), v, acc[h][j]);
			}
	}
	UNROLL
	for (uint32_t h = 0; h < heads; h++)
		UNROLL
		for (uint32_t j = 0; j < vectors; j++)
			v16_store(s->acc[h] + d + 16 * j, acc[h][j]);
}

VEC void attend_heads(float *out, const float *q, uint32_t heads, const struct kv_view *kv, uint32_t n_keys, bool half)
{
	struct heads_state s;
	float scale = 1.0f / sqrtf((float)kv->head_dim), factor[ATT_HEADS];

	UNROLL
	for (uint32_t h = 0; h < heads; h++) {
		for (uint32_t d = 0; d < kv->head_dim; d++)
			s.q[h][d] = q[h * kv->head_dim + d] * scale;
		memset(s.acc[h], 0, kv->head_pad * sizeof(float));
		s.l[h] = v16_zero();
		s.m[h] = -INFINITY;
	}
	for (uint32_t base = 0; base < n_keys; base += ATTENTION_BLOCK) {
		uint32_t n = n_keys - base < ATTENTION_BLOCK ? n_keys - base : ATTENTION_BLOCK, d = 0;

		for (uint32_t first = 0; first < BLOCK_PAGES; first += ATT_PAGES)
			score_pages(&s, heads, kv, base, first, n, half);
		UNROLL
		for (uint32_t h = 0; h < heads; h++)
			factor[h] = weigh(s.p[h], &s.l[h], &s.m[h]);
		for (; d + 16 * ATT_DIMS <= kv->head_pad; d += 16 * ATT_DIMS)
			gather_values(&s, heads, factor, kv, base, n, d, ATT_DIMS, half);
		for (; d < kv->head_pad; d += 16)
			gather_values(&s, heads, factor, kv, base, n, d, 1, half);
	}
	UNROLL
	for (uint32_t h = 0; h < heads; h++) {
		float l = v16_sum(s.l[h]);

		for (uint32_t d = 0; d < kv->head_dim; d++)
			out[h * kv->head_dim + d] = s.acc[h][d] / l;
	}
}

VEC void attention_kind(float *out, const float *q, uint32_t heads, const struct kv_view *kv, uint32_t n_keys, bool half)
{
	for (; heads >= ATT_HEADS; heads -= ATT_HEADS, out += ATT_HEADS * kv->head_dim, q += ATT_HEADS * kv->head_dim)
		attend_heads(out, q, ATT_HEADS, kv, n_keys, half);
	for (; heads; heads--, out += kv->head_dim, q += kv->head_dim)
		attend_heads(out, q, 1, kv, n_keys, half);
}

VEC void attention_vec(float *out, const float *q, uint32_t heads, const struct kv_view *kv, uint32_t n_keys)
{
	if (kv->half)
		attention_kind(out, q, heads, kv, n_keys, true);
	else
		attention_kind(out, q, heads, kv, n_keys, false);
}
