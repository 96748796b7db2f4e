/* lora_cuda.cu: y += factor B (A x) for blends, at true ranks, on f32 activations (weave.h says the sum).
 *
 * Rows come in items of up to 8 rows of one blend. shrink: a CTA takes 16 rows of a stacked A for one part of an item, over
 * 512 of K;
 * expand: a CTA takes 256 outputs of one linear for an item, adds up the splits of h and walks the parts in their order.
 *
 * Versions:
 *   1  plain f32 arithmetic, coalesced 2- and 4-byte loads. Bound by bytes at decode: 70B, r = 16 on seven linears is 414 MB
 *      a row with an adapter of its own, 96 us at 4.3 TB/s, and eight launches a layer. Prompts of one blend read an adapter once
 *      per 8 rows from L2;
 *      at 4,096 rows 1.7 TFLOP on the CUDA cores, about 5% of the base's time. */
#include "kernels/cuda/ops.h"

enum { LORA_THREADS = 256, CHAINS = 16 };

DEVICE float value_at(const struct dfactor &f, uint32_t block, uint32_t k, uint32_t r)
{
	switch (f.form) {
	case FORM_F32:
		return ((const float *)f.values)[((size_t)block * f.k + k) * 16 + r];
	case FORM_F16:
		return half_bits_to_float(((const uint16_t *)f.values)[((size_t)block * f.k + k) * 16 + r]);
	case FORM_I8:
		return (float)((const int8_t *)f.values)[((size_t)block * f.k + k) * 16 + r] *
		       bits_to_float((uint32_t)f.scales[((size_t)block * (f.k / f.group) + k / f.group) * 16 + r] << 16);
	default:
		return bits_to_float((uint32_t)((const uint16_t *)f.values)[((size_t)block * f.k + (k & ~1u)) * 16 + 2 * r + k % 2]
				     << 16);
	}
}

/* ---- h = A x ---- */

KERNEL BLOCK_OF(LORA_THREADS, 1) shrink(const struct lora_args a)
{
	const struct dlora_piece piece = a.pieces[blockIdx.y];
	const struct dlora_item item = a.items[piece.item];
	const struct dpart part = a.parts[piece.part];
	const struct dfactor f = part.layers[a.layer].a[a.input];
	const uint32_t r = threadIdx.x % 16, chain = threadIdx.x / 16, from = blockIdx.z * LORA_SPLIT;
	const uint32_t end = from + LORA_SPLIT < a.k ? from + LORA_SPLIT : a.k;
	shared<float> sums = shared_at<float>(0, LORA_ROWS * LORA_THREADS); /* [row][chain][16] */
	float acc[LORA_ROWS] = {0};

	if (blockIdx.x >= f.blocks)
		return;
	for (uint32_t k = from + 2 * chain; k < end; k += 2 * CHAINS)
		for (uint32_t e = 0; e < 2 && k + e < end; e++) {
			float v = value_at(f, blockIdx.x, k + e, r);

#pragma unroll
			for (uint32_t i = 0; i < LORA_ROWS; i++)
				if (i < item.m)
					acc[i] = fmaf(v, a.x[(size_t)(item.row + i) * a.ldx + k + e], acc[i]);
		}
#pragma unroll
	for (uint32_t i = 0; i < LORA_ROWS; i++)
		sums[i * LORA_THREADS + threadIdx.x] = acc[i];
	sync_block();
	if (chain >= item.m)
		return;
	float total = 0;

	for (uint32_t c = 0; c < CHAINS; c++)
		total += sums[chain * LORA_THREADS + c * 16 + r];
	a.h[((size_t)blockIdx.z * a.max_rows + item.row + chain) * a.ldh + part.at + blockIdx.x * 16 + r] = total;
}

/* ---- y += factor B h ---- */

enum { H_CHUNK = 64 }; /* of h that a CTA holds at a time, for LORA_ROWS rows */

/* Which linear, and which of its outputs this thread has. */
DEVICE uint32_t output_of(const struct lora_args &a, uint32_t tile, uint32_t *r)
{
	uint32_t l = 0;

	while (l + 1 < a.linears && tile >= (a.rows[l] + LORA_THREADS - 1) / LORA_THREADS)
		tile -= (a.rows[l++] + LORA_THREADS - 1) / LORA_THREADS;
	*r = tile * LORA_THREADS + threadIdx.x;
	return l;
}

KERNEL BLOCK_OF(LORA_THREADS, 1) expand(const struct lora_args a)
{
	const struct dlora_item item = a.items[blockIdx.y];
	const uint32_t splits = (a.k + LORA_SPLIT - 1) / LORA_SPLIT;
	shared<float> h = shared_at<float>(0, LORA_ROWS * H_CHUNK);
	uint32_t r;
	const uint32_t l = output_of(a, blockIdx.x, &r), linear = a.first + l;
	const bool real = r < a.rows[l];
	float y[LORA_ROWS];

#pragma unroll
	for (uint32_t i = 0; i < LORA_ROWS; i++)
		y[i] = real && i < item.m ? a.out[l][(size_t)(item.row + i) * a.ldo[l] + r] : 0;
	for (uint32_t p = item.part; p < item.part + item.parts; p++) {
		const struct dpart part = a.parts[p];
		const struct dlora_layer *layer = &part.layers[a.layer];
		const uint32_t rank = layer->rank[linear];
		const float factor = part.factor[a.layer * LORA_LINEARS + linear], *gain = layer->gain[linear];
		float t[LORA_ROWS] = {0};

		for (uint32_t j0 = 0; j0 < rank; j0 += H_CHUNK) {
			uint32_t n = rank - j0 < H_CHUNK ? rank - j0 : (uint32_t)H_CHUNK;

			sync_block();
			for (uint32_t e = threadIdx.x; e < item.m * n; e += LORA_THREADS) {
				const float *from =
					a.h + (size_t)(item.row + e / n) * a.ldh + part.at + layer->at[linear] + j0 + e % n;
				float sum = 0;

				for (uint32_t s = 0; s < splits; s++)
					sum += from[(size_t)s * a.max_rows * a.ldh];
				h[e / n * H_CHUNK + e % n] = sum * factor;
			}
			sync_block();
			for (uint32_t j = 0; real && j < n; j++) {
				float v = value_at(layer->b[linear], r / 16, j0 + j, r % 16);

#pragma unroll
				for (uint32_t i = 0; i < LORA_ROWS; i++)
					if (i < item.m)
						t[i] = fmaf(v, h[i * H_CHUNK + j], t[i]);
			}
		}
#pragma unroll
		for (uint32_t i = 0; i < LORA_ROWS; i++)
			y[i] = !rank ? y[i] : gain && real ? (y[i] + t[i]) * gain[r] : y[i] + t[i];
	}
#pragma unroll
	for (uint32_t i = 0; i < LORA_ROWS; i++)
		if (real && i < item.m)
			a.out[l][(size_t)(item.row + i) * a.ldo[l] + r] = y[i];
}

cudaError_t lora_cuda(const struct lora_args *a, cudaStream_t s)
{
	uint32_t splits = (a->k + LORA_SPLIT - 1) / LORA_SPLIT, tiles = 0;
	cudaError_t rc;

	if (!a->n_items || !a->a_blocks)
		return cudaSuccess;
	for (uint32_t i = 0; i < a->linears; i++)
		tiles += (a->rows[i] + LORA_THREADS - 1) / LORA_THREADS;
	rc = LAUNCH(shrink, dim3(a->a_blocks, a->n_pieces, splits), (unsigned)LORA_THREADS,
		    LORA_ROWS * LORA_THREADS * sizeof(float), s, *a);
	if (rc != cudaSuccess)
		return rc;
	return LAUNCH(expand, dim3(tiles, a->n_items), (unsigned)LORA_THREADS, LORA_ROWS * H_CHUNK * sizeof(float), s, *a);
}

/* ---- the embedding ---- */

KERNEL BLOCK_OF(LORA_THREADS, 1) embed_parts(const struct lora_embed_args a)
{
	const struct dlora_item item = a.items[blockIdx.y];
	const uint32_t d = blockIdx.x * LORA_THREADS + threadIdx.x;

	for (uint32_t i = 0; d < a.n && i < item.m; i++) {
		float *x = a.x + (size_t)(item.row + i) * a.ldx + d, y = *x;

		for (uint32_t p = item.part; p < item.part + item.parts; p++) {
			const struct dembed e = a.embeds[p];
			const float *v = e.a ? e.a + (size_t)a.token[item.row + i] * e.rank : NULL;
			float t = 0;

			for (uint32_t j = 0; v && j < e.rank; j++)
				t = fmaf(value_at(e.b, d / 16, j, d % 16), e.factor * v[j], t);
			y += t;
		}
		*x = y;
	}
}

cudaError_t lora_embed_cuda(const struct lora_embed_args *a, cudaStream_t s)
{
	if (!a->n_items)
		return cudaSuccess;
	return LAUNCH(embed_parts, dim3((a->n + LORA_THREADS - 1) / LORA_THREADS, a->n_items), (unsigned)LORA_THREADS, (size_t)0, s,
		      *a);
}
