/* attention_cuda.cu: ops/attention.h on tensor cores, over paged KV in f16 whose pages lie in the order of the fragments.
 *
 * A tile is 16 rows: the query heads that share a KV head. Per page of 16 keys: S = Q K^T is two mma columns of 8 keys per
 * 16 dimensions, softmax stays in registers (base 2), and S's registers are, as they stand, the A fragments of O += P V.
 *
 * Versions:
 *   1  generated: a CTA takes one row, one KV head and 512 keys; four warps a quarter each, K and V from memory straight
 *      into registers (16 bytes a lane, 512 bytes a warp in one piece). Bound by bytes: 512 per key and KV head at head_dim 128,
 *      and 1.6% more for the
 *      partial sums, written and read. Predicted 75 - 80% of bandwidth at batch 64, 8k.
 *   2  prompt: a CTA takes 64 rows (70B: 8 tokens x 8 heads) and walks the keys in blocks of 64 that four warps share
 *      through shared memory, two stages of cp.async. Bound by the exponentials and mma about alike: 40% of the bf16 rate
 *      predicted.
 * Not measured. */
#include "kernels/cuda/ops.h"

#define LOG2E 1.44269504088896341f

enum {
	ATT_WARPS = 4,
	ATT_THREADS = ATT_WARPS * WARP,
	WARP_KEYS = ATTENTION_SPLIT / ATT_WARPS,
	BLOCK_PAGES = ATTENTION_KEYS / KV_PAGE
};

DEVICE float minus_infinity(void)
{
	return bits_to_float(0xff800000);
}

/* ---- one warp's tile ---- */

/* C: dimensions / 32. A lane has rows g and g + 8. */
template <int C> struct tile {
	uint32_t q[2 * C][4]; /* A fragments: 32 dimensions give two; lane q of four has dimensions 8q .. 8q + 7 of them */
	float o[4 * C][4];    /* [8 dimensions] */
	float top[2], sum[2]; /* of a row: largest score so far; this lane's part of the sum */
};

/* Two neighbouring elements of a query, in base 2. NULL: a row that is not there. */
DEVICE uint32_t query_pair(const float *q, uint32_t d, uint32_t n, float scale)
{
	return pack_half(q && d < n ? q[d] * scale : 0, q && d + 1 < n ? q[d + 1] * scale : 0);
}

/* low, high: the queries of rows g and g + 8. */
template <int C> DEVICE void begin(tile<C> &t, const float *low, const float *high, uint32_t n, float scale)
{
	for (int c = 0; c < 2 * C; c++) {
		uint32_t d = c / 2 * 32 + lane() % 4 * 8 + c % 2 * 4;

		t.q[c][0] = query_pair(low, d, n, scale * LOG2E);
		t.q[c][1] = query_pair(high, d, n, scale * LOG2E);
		t.q[c][2] = query_pair(low, d + 2, n, scale * LOG2E);
		t.q[c][3] = query_pair(high, d + 2, n, scale * LOG2E);
	}
	for (int i = 0; i < 4 * C; i++)
		for (int k = 0; k < 4; k++)
			t.o[i][k] = 0;
	for (int h = 0; h < 2; h++) {
		t.top[h] = minus_infinity();
		t.sum[h] = 0;
	}
}

/* Where K or V of a page comes from: unit i of 16 bytes. */
struct from_memory {
	const uint16_t *p;
	DEVICE_METHOD uint4 load(uint32_t i) const
	{
		return load16(p + 8 * i);
	}
};
struct from_shared {
	shared<unsigned char> p;
	uint32_t at;
	DEVICE_METHOD uint4 load(uint32_t i) const
	{
		return p.load16(at + 16 * i);
	}
};

/* s[0] and s[1]: the scores of keys 4q, 4q + 1 and 4q + 2, 4q + 3 of a page. */
template <int C, typename From> DEVICE void score_page(float s[2][4], const tile<C> &t, const From &k)
{
	for (int j = 0; j < 2; j++) {
		for (int i = 0; i < 4; i++)
			s[j][i] = 0;
		for (int c = 0; c < C; c++) {
			uint4 v = k.load((2 * c + j) * WARP + lane());
			uint32_t low[2] = {v.x, v.y}, high[2] = {v.z, v.w};

			mma_f16(s[j], t.q[2 * c], low);
			mma_f16(s[j], t.q[2 * c + 1], high);
		}
	}
}

/* Keys of the block at or past what a row may see count as never there. limit: of rows g and g + 8. */
DEVICE void mask(float s[2 * BLOCK_PAGES][4], uint32_t key, const uint32_t limit[2])
{
	for (int p = 0; p < 2 * BLOCK_PAGES; p++)
		for (int i = 0; i < 4; i++)
			if (key + p / 2 * KV_PAGE + lane() % 4 * 4 + p % 2 * 2 + i % 2 >= limit[i / 2])
				s[p][i] = minus_infinity();
}

/* Scores to weights, and what is there already to the new largest score. */
template <int C> DEVICE void weigh(tile<C> &t, float s[2 * BLOCK_PAGES][4])
{
	for (int h = 0; h < 2; h++) {
		float top = t.top[h], c;

		for (int p = 0; p < 2 * BLOCK_PAGES; p++)
			for (int e = 0; e < 2; e++)
				top = s[p][2 * h + e] > top ? s[p][2 * h + e] : top;
		for (uint32_t w = 1; w < 4; w *= 2) {
			float other = shuffle_xor(top, w);

			top = other > top ? other : top;
		}
		/* A row that sees no key yet keeps zeros. */
		c = top == minus_infinity() ? 1 : power_of_two(t.top[h] - top);
		t.top[h] = top;
		t.sum[h] *= c;
		for (int i = 0; i < 4 * C; i++) {
			t.o[i][2 * h] *= c;
			t.o[i][2 * h + 1] *= c;
		}
		for (int p = 0; p < 2 * BLOCK_PAGES; p++)
			for (int e = 0; e < 2; e++) {
				float &x = s[p][2 * h + e];

				x = x == minus_infinity() ? 0 : power_of_two(x - top);
				t.sum[h] += x;
			}
	}
}

/* O += P V of one page. valid: keys of the page that were ever written; what lies behind them may be NaNs. */
template <int C, typename From> DEVICE void add_page(tile<C> &t, const float s[2][4], const From &v, uint32_t valid)
{
	const uint32_t p[4] = {pack_half(s[0][0], s[0][1]), pack_half(s[0][2], s[0][3]), pack_half(s[1][0], s[1][1]),
			       pack_half(s[1][2], s[1][3])};
	const uint32_t key = lane() % 4 * 4;

	for (int i = 0; i < 2 * C; i++) {
		uint4 u = v.load(i * WARP + lane());

		if (valid < KV_PAGE) {
			uint32_t low = key + 1 < valid ? 0xffffffff : key < valid ? 0xffff : 0;
			uint32_t high = key + 3 < valid ? 0xffffffff : key + 2 < valid ? 0xffff : 0;

			u.x &= low;
			u.y &= high;
			u.z &= low;
			u.w &= high;
		}
		uint32_t even[2] = {u.x, u.y}, odd[2] = {u.z, u.w};

		mma_f16(t.o[2 * i], p, even);
		mma_f16(t.o[2 * i + 1], p, odd);
	}
}

/* A row's sum over the four lanes that share it. */
DEVICE float row_sum(float x)
{
	x += shuffle_xor(x, 1);
	return x + shuffle_xor(x, 2);
}

/* This layer's and head's elements of a page. */
DEVICE const uint16_t *page_of(const struct attention_args &a, uint32_t page, uint32_t head)
{
	return a.kv.pool + (uint64_t)page * a.kv.page + a.layer * a.kv.layer + (size_t)head * a.kv.pad * KV_PAGE * 2;
}

/* ---- generated tokens ---- */

DEVICE uint32_t partial_stride(const struct attention_args &a)
{
	return a.kv.heads / a.kv.kv_heads * (a.kv.pad + 2);
}

/* A warp's quarter of the split. */
template <int C>
DEVICE void walk(tile<C> &t, const struct attention_args &a, const uint32_t *pages, uint32_t head, uint32_t from, uint32_t keys)
{
	const uint32_t end = from + WARP_KEYS < keys ? from + WARP_KEYS : keys, limit[2] = {keys, keys};

	for (uint32_t key = from; key < end; key += ATTENTION_KEYS) {
		float s[2 * BLOCK_PAGES][4];

#pragma unroll
		for (int p = 0; p < BLOCK_PAGES; p++) {
			if (key + p * KV_PAGE < keys)
				score_page<C>(&s[2 * p], t, from_memory{page_of(a, pages[key / KV_PAGE + p], head)});
			else
				for (int i = 0; i < 8; i++)
					s[2 * p + i / 4][i % 4] = minus_infinity();
		}
		if (key + ATTENTION_KEYS > keys)
			mask(s, key, limit);
		weigh<C>(t, s);
#pragma unroll
		for (int p = 0; p < BLOCK_PAGES; p++)
			if (key + p * KV_PAGE < keys)
				add_page<C>(t, &s[2 * p],
					    from_memory{page_of(a, pages[key / KV_PAGE + p], head) + a.kv.pad * KV_PAGE},
					    keys - (key + p * KV_PAGE));
	}
}

template <int C> KERNEL BLOCK_OF(ATT_THREADS) generated(const struct attention_args a)
{
	const uint32_t row = a.decode[blockIdx.z], head = blockIdx.y, split = blockIdx.x, group = a.kv.heads / a.kv.kv_heads;
	const uint32_t keys = a.rows[row].position + 1, g = lane() / 4, q = lane() % 4, stride = 32 * C + 2;
	const float *query = a.q + (size_t)row * a.ld + (size_t)head * group * a.kv.head_dim;
	shared<float> part = shared_at<float>(0, ATT_WARPS * ATTENTION_GROUP_MAX * stride); /* [warp][row] { o, top, sum } */
	float *out = a.partial + (((size_t)blockIdx.z * a.kv.kv_heads + head) * a.splits + split) * partial_stride(a);
	tile<C> t;

	if (split * ATTENTION_SPLIT >= keys)
		return;
	begin<C>(t, g < group ? query + g * a.kv.head_dim : NULL, g + 8 < group ? query + (g + 8) * a.kv.head_dim : NULL,
		 a.kv.head_dim, a.scale);
	walk<C>(t, a, a.pages + a.rows[row].pages, head, split * ATTENTION_SPLIT + warp() * WARP_KEYS, keys);
	for (int h = 0; h < 2; h++) {
		uint32_t at = (warp() * ATTENTION_GROUP_MAX + g + 8 * h) * stride;
		float sum = row_sum(t.sum[h]);

		for (int i = 0; i < 4 * C; i++) {
			part[at + 8 * i + 2 * q] = t.o[i][2 * h];
			part[at + 8 * i + 2 * q + 1] = t.o[i][2 * h + 1];
		}
		if (q == 0) {
			part[at + 32 * C] = t.top[h];
			part[at + 32 * C + 1] = sum;
		}
	}
	sync_block();
	for (uint32_t i = threadIdx.x; i < group * stride; i += ATT_THREADS) {
		uint32_t r = i / stride, d = i % stride;
		float top = minus_infinity(), v = 0;

		for (uint32_t w = 0; w < ATT_WARPS; w++) {
			float x = part[(w * ATTENTION_GROUP_MAX + r) * stride + 32 * C];

			top = x > top ? x : top;
		}
		for (uint32_t w = 0; w < ATT_WARPS; w++) {
			uint32_t at = (w * ATTENTION_GROUP_MAX + r) * stride;

			v = fmaf(power_of_two((float)part[at + 32 * C] - top), part[at + d], v);
		}
		out[r * stride + d] = d == 32 * C ? top : v;
	}
}

/* The splits of a row and head, in order. */
KERNEL BLOCK_OF(ATT_THREADS) meet(const struct attention_args a)
{
	const uint32_t row = a.decode[blockIdx.y], head = blockIdx.x, group = a.kv.heads / a.kv.kv_heads, stride = a.kv.pad + 2;
	const uint32_t splits = a.rows[row].position / ATTENTION_SPLIT + 1;
	const float *part = a.partial + ((size_t)blockIdx.y * a.kv.kv_heads + head / group) * a.splits * partial_stride(a) +
			    head % group * stride;

	for (uint32_t d = threadIdx.x; d < a.kv.head_dim; d += ATT_THREADS) {
		float top = minus_infinity(), v = 0, sum = 0;

		for (uint32_t i = 0; i < splits; i++)
			top = part[(size_t)i * partial_stride(a) + a.kv.pad] > top ? part[(size_t)i * partial_stride(a) + a.kv.pad]
										   : top;
		for (uint32_t i = 0; i < splits; i++) {
			const float *p = part + (size_t)i * partial_stride(a);
			float c = power_of_two(p[a.kv.pad] - top);

			v = fmaf(c, p[d], v);
			sum = fmaf(c, p[a.kv.pad + 1], sum);
		}
		a.out[(size_t)row * a.ld + (size_t)head * a.kv.head_dim + d] = v / sum;
	}
}

/* ---- prompts ---- */

enum { PROMPT_ROWS = 64 };
template <int C> struct prompt_of {
	enum { page = 32 * C * KV_PAGE * 4, block = BLOCK_PAGES * page, stages = C > 4 ? 1 : 2 }; /* bytes; a page: K, then V */
};

/* The block's pages to shared memory; those that the sequence does not have are zeros. */
template <int C>
DEVICE void fetch_block(const shared<unsigned char> &to, const struct attention_args &a, const uint32_t *pages, uint32_t head,
			uint32_t key, uint32_t keys)
{
	const uint32_t units = prompt_of<C>::page / 16;

	for (uint32_t p = 0; p < BLOCK_PAGES; p++) {
		bool real = key + p * KV_PAGE < keys;
		const uint16_t *from = real ? page_of(a, pages[key / KV_PAGE + p], head) : a.kv.pool;

		for (uint32_t u = threadIdx.x; u < units; u += ATT_THREADS)
			copy_async16(to, p * prompt_of<C>::page + 16 * u, real ? from + 8 * u : from, real);
	}
}

template <int C>
DEVICE void attend_block(tile<C> &t, const shared<unsigned char> &block, uint32_t key, uint32_t keys, const uint32_t limit[2])
{
	float s[2 * BLOCK_PAGES][4];

#pragma unroll
	for (int p = 0; p < BLOCK_PAGES; p++)
		score_page<C>(&s[2 * p], t, from_shared{block, (uint32_t)(p * prompt_of<C>::page)});
	mask(s, key, limit);
	weigh<C>(t, s);
#pragma unroll
	for (int p = 0; p < BLOCK_PAGES; p++) {
		uint32_t at = key + p * KV_PAGE;

		add_page<C>(t, &s[2 * p], from_shared{block, (uint32_t)(p * prompt_of<C>::page + prompt_of<C>::page / 2)},
			    at < keys ? keys - at : 0);
	}
}

template <int C> KERNEL BLOCK_OF(ATT_THREADS) prompt(const struct attention_args a)
{
	const struct dtile own = a.tiles[blockIdx.x];
	const uint32_t head = blockIdx.y, group = a.kv.heads / a.kv.kv_heads, g = lane() / 4, q = lane() % 4;
	const uint32_t keys = a.rows[own.row + own.n - 1].position + 1, stages = prompt_of<C>::stages;
	const uint32_t *pages = a.pages + a.rows[own.row].pages;
	uint32_t limit[2];
	int32_t at[2]; /* of a lane's two rows in q and out; -1: none */
	tile<C> t;

	for (int h = 0; h < 2; h++) {
		uint32_t r = warp() * 16 + g + 8 * h, token = r / group;
		bool real = token < own.n;

		limit[h] = real ? a.rows[own.row + token].position + 1 : 0;
		at[h] = real ? (int32_t)((own.row + token) * a.ld + (head * group + r % group) * a.kv.head_dim) : -1;
	}
	begin<C>(t, at[0] < 0 ? NULL : a.q + at[0], at[1] < 0 ? NULL : a.q + at[1], a.kv.head_dim, a.scale);
	for (uint32_t i = 0; i + 1 < stages; i++) {
		fetch_block<C>(shared_at<unsigned char>(0, prompt_of<C>::block), a, pages, head, 0, keys);
		copy_commit();
	}
	for (uint32_t key = 0, n = 0; key < keys; key += ATTENTION_KEYS, n++) {
		uint32_t ahead = key + (stages - 1) * ATTENTION_KEYS;

		sync_block(); /* nobody reads the stage that is filled now */
		if (ahead < keys)
			fetch_block<C>(
				shared_at<unsigned char>((n + stages - 1) % stages * prompt_of<C>::block, prompt_of<C>::block), a,
				pages, head, ahead, keys);
		copy_commit();
		copy_wait<prompt_of<C>::stages - 1>();
		sync_block();
		attend_block<C>(t, shared_at<unsigned char>(n % stages * prompt_of<C>::block, prompt_of<C>::block), key, keys,
				limit);
	}
	for (int h = 0; h < 2; h++) {
		float sum = row_sum(t.sum[h]);

		for (int i = 0; i < 4 * C; i++)
			for (int e = 0; e < 2; e++) {
				uint32_t d = 8 * i + 2 * q + e;

				if (at[h] >= 0 && d < a.kv.head_dim)
					a.out[at[h] + d] = t.o[i][2 * h + e] / sum;
			}
	}
}

/* ---- launching ---- */

template <int C> static cudaError_t attend(const struct attention_args *a, cudaStream_t s)
{
	const size_t part = ATT_WARPS * ATTENTION_GROUP_MAX * (32 * C + 2) * sizeof(float);
	cudaError_t rc = cudaSuccess;

	if (a->n_tiles)
		rc = LAUNCH(prompt<C>, dim3(a->n_tiles, a->kv.kv_heads), (unsigned)ATT_THREADS,
			    (size_t)(prompt_of<C>::stages * prompt_of<C>::block), s, *a);
	if (rc != cudaSuccess || !a->n_decode)
		return rc;
	rc = LAUNCH(generated<C>, dim3(a->splits, a->kv.kv_heads, a->n_decode), (unsigned)ATT_THREADS, part, s, *a);
	return rc != cudaSuccess ? rc : LAUNCH(meet, dim3(a->kv.heads, a->n_decode), (unsigned)ATT_THREADS, (size_t)0, s, *a);
}

cudaError_t attention_cuda(const struct attention_args *a, cudaStream_t s)
{
	switch (a->kv.pad) {
	case 32:
		return attend<1>(a, s);
	case 64:
		return attend<2>(a, s);
	case 96:
		return attend<3>(a, s);
	case 128:
		return attend<4>(a, s);
	case 256:
		return attend<8>(a, s);
	default:
		return cudaErrorInvalidValue;
	}
}
