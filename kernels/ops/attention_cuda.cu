/* attention_cuda.cu: ops/attention.h and ops/attention_words.h on tensor cores, over paged KV whose pages lie in the order of the
 * fragments. What becomes of a block of keys is in cuda/attend_half.h and cuda/attend_int8.h.
 *
 * A tile is 16 rows: the query heads that share a KV head.
 *
 * Versions:
 *   1  generated: a CTA takes one row, one KV head and 512 keys; four warps a quarter each, K and V from memory straight
 *      into registers (16 bytes a lane, 512 bytes a warp in one piece). Bound by bytes: 512 per key and KV head at head_dim 128
 *      (int8: 264), and 1.6% (3%) more for the partial sums, written and read. Predicted 75 - 80% of bandwidth at batch 64, 8k
 *      (int8: 65 - 70%, cuda/NOTES.md).
 *   2  prompt: a CTA takes 64 rows (70B: 8 tokens x 8 heads) and walks the keys in blocks of 64 that four warps share
 *      through shared memory, two stages of cp.async. Bound by the exponentials and mma about alike: 40% of the bf16 rate
 *      predicted; int8 by instructions, 35%.
 * Not measured. */
#include "kernels/cuda/attend_half.h"
#include "kernels/cuda/attend_int8.h"

enum { ATT_WARPS = 4, ATT_THREADS = ATT_WARPS * WARP, WARP_KEYS = ATTENTION_SPLIT / ATT_WARPS };

/* ---- generated tokens ---- */

DEVICE uint32_t partial_stride(const struct attention_args &a)
{
	return a.kv.heads / a.kv.kv_heads * (a.kv.pad + 2);
}

/* A warp's quarter of the split. */
template <int C, template <int> class Kind>
DEVICE void walk(tile<C> &t, const struct attention_args &a, const uint32_t *pages, uint32_t head, uint32_t from, uint32_t keys)
{
	const uint32_t end = from + WARP_KEYS < keys ? from + WARP_KEYS : keys, limit[2] = {keys, keys};

	for (uint32_t key = from; key < end; key += ATTENTION_KEYS)
		Kind<C>::attend(t, block_in_memory{a, pages + key / KV_PAGE, head, keys - key}, key, limit, key + ATTENTION_KEYS > keys);
}

template <int C, template <int> class Kind> KERNEL BLOCK_OF(ATT_THREADS) generated(const struct attention_args a)
{
	const uint32_t row = a.decode[blockIdx.z], head = blockIdx.y, split = blockIdx.x, group = a.kv.heads / a.kv.kv_heads;
	const uint32_t keys = a.rows[row].position + 1, g = lane() / 4, q = lane() % 4, stride = 32 * C + 2;
	const float *query = a.q + (size_t)row * a.ld + (size_t)head * group * a.kv.head_dim;
	shared<float> part = shared_at<float>(0, ATT_WARPS * ATTENTION_GROUP_MAX * stride); /* [warp][row] { o, top, sum } */
	float *out = a.partial + (((size_t)blockIdx.z * a.kv.kv_heads + head) * a.splits + split) * partial_stride(a);
	tile<C> t;

	if (split * ATTENTION_SPLIT >= keys)
		return;
	Kind<C>::begin(t, g < group ? query + g * a.kv.head_dim : NULL, g + 8 < group ? query + (g + 8) * a.kv.head_dim : NULL,
		       a.kv.head_dim, a.scale);
	walk<C, Kind>(t, a, a.pages + a.rows[row].pages, head, split * ATTENTION_SPLIT + warp() * WARP_KEYS, keys);
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

template <int C, template <int> class Kind> struct prompt_of {
	enum { page = Kind<C>::page_bytes, block = BLOCK_PAGES * page, stages = C > 4 ? 1 : 2 }; /* bytes; a page as in memory */
};

/* The block's pages to shared memory; those that the sequence does not have are zeros. */
template <int page_bytes>
DEVICE void fetch_block(const shared<unsigned char> &to, const struct attention_args &a, const uint32_t *pages, uint32_t head,
			uint32_t key, uint32_t keys)
{
	for (uint32_t p = 0; p < BLOCK_PAGES; p++) {
		bool real = key + p * KV_PAGE < keys;
		const unsigned char *from = real ? page_of(a, pages[key / KV_PAGE + p], head) : a.kv.pool;

		for (uint32_t u = threadIdx.x; u < page_bytes / 16; u += ATT_THREADS)
			copy_async16(to, p * page_bytes + 16 * u, real ? from + 16 * u : from, real);
	}
}

template <int C, template <int> class Kind> KERNEL BLOCK_OF(ATT_THREADS) prompt(const struct attention_args a)
{
	const struct dtile own = a.tiles[blockIdx.x];
	const uint32_t head = blockIdx.y, group = a.kv.heads / a.kv.kv_heads, g = lane() / 4, q = lane() % 4;
	const uint32_t keys = a.rows[own.row + own.n - 1].position + 1, seen_by_all = a.rows[own.row].position + 1;
	const uint32_t stages = prompt_of<C, Kind>::stages, bytes = prompt_of<C, Kind>::block, page = prompt_of<C, Kind>::page;
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
	Kind<C>::begin(t, at[0] < 0 ? NULL : a.q + at[0], at[1] < 0 ? NULL : a.q + at[1], a.kv.head_dim, a.scale);
	for (uint32_t i = 0; i + 1 < stages; i++) {
		fetch_block<prompt_of<C, Kind>::page>(shared_at<unsigned char>(0, bytes), a, pages, head, 0, keys);
		copy_commit();
	}
	for (uint32_t key = 0, n = 0; key < keys; key += ATTENTION_KEYS, n++) {
		uint32_t ahead = key + (stages - 1) * ATTENTION_KEYS;

		sync_block(); /* nobody reads the stage that is filled now */
		if (ahead < keys)
			fetch_block<prompt_of<C, Kind>::page>(shared_at<unsigned char>((n + stages - 1) % stages * bytes, bytes), a, pages, head,
							      ahead, keys);
		copy_commit();
		copy_wait<prompt_of<C, Kind>::stages - 1>();
		sync_block();
		Kind<C>::attend(t, block_in_shared{shared_at<unsigned char>(n % stages * bytes, bytes), page, keys - key}, key, limit,
				key + ATTENTION_KEYS > seen_by_all);
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

template <int C, template <int> class Kind> static cudaError_t attend(const struct attention_args *a, cudaStream_t s)
{
	const size_t part = ATT_WARPS * ATTENTION_GROUP_MAX * (32 * C + 2) * sizeof(float);
	const size_t blocks = (size_t)prompt_of<C, Kind>::stages * prompt_of<C, Kind>::block;
	cudaError_t rc = cudaSuccess;

	if (a->n_tiles)
		rc = LAUNCH((prompt<C, Kind>), dim3(a->n_tiles, a->kv.kv_heads), (unsigned)ATT_THREADS, blocks, s, *a);
	if (rc != cudaSuccess || !a->n_decode)
		return rc;
	rc = LAUNCH((generated<C, Kind>), dim3(a->splits, a->kv.kv_heads, a->n_decode), (unsigned)ATT_THREADS, part, s, *a);
	return rc != cudaSuccess ? rc : LAUNCH(meet, dim3(a->kv.heads, a->n_decode), (unsigned)ATT_THREADS, (size_t)0, s, *a);
}

template <int C> static cudaError_t attend_kind(const struct attention_args *a, cudaStream_t s)
{
	return a->kv.int8 ? attend<C, int8_kv>(a, s) : attend<C, half_kv>(a, s);
}

cudaError_t attention_cuda(const struct attention_args *a, cudaStream_t s)
{
	switch (a->kv.pad) {
	case 32:
		return attend_kind<1>(a, s);
	case 64:
		return attend_kind<2>(a, s);
	case 96:
		return attend_kind<3>(a, s);
	case 128:
		return attend_kind<4>(a, s);
	case 256:
		return attend_kind<8>(a, s);
	default:
		return cudaErrorInvalidValue;
	}
}
