#include "config.h"
#include "product.h"

#include <string.h>

#include "kernels/format/blocks.h"

enum { SLAB = 256, ROWS = 48 }; /* inputs of a slab; activation rows that meet it at a time: whole tiles of the products */

/* ---- packed weights as f32 ---- */

static void factors(float *out, const struct matrix *w, const uint16_t *high, const int8_t *sub, uint32_t b, uint32_t g)
{
	high += b * matrix_block_scales(w) + (w->two_level ? (size_t)g * w->group / SUPER : g) * LANES;
	sub += w->two_level ? ((size_t)b * w->groups + g) * LANES : 0;
	for (unsigned i = 0; i < LANES; i++)
		out[i] = half_to_float(high[i]) * (w->two_level ? (float)sub[i] : 1);
}

/* The codes of 16 rows at input k, as they are multiplied. */
static void codes_at(float *restrict out, const struct matrix *w, const unsigned char *c, uint32_t k)
{
	float zero = (float)w->zero;

	c += w->bits == 8 ? (size_t)k / 4 * 64 + k % 4 : (size_t)k / 8 * 64 + k % 4;
	if (w->bits == 8)
		for (unsigned i = 0; i < LANES; i++)
			out[i] = (float)c[4 * i] - zero;
	else if (k % 8 < 4)
		for (unsigned i = 0; i < LANES; i++)
			out[i] = (float)(c[4 * i] & 15) - zero;
	else
		for (unsigned i = 0; i < LANES; i++)
			out[i] = (float)(c[4 * i] >> 4) - zero;
}

static void unpack_int(const struct matrix *w, uint32_t b, uint32_t k0, uint32_t n, float *restrict out)
{
	const unsigned char *c = w->codes + b * matrix_block_bytes(w);
	float scale[LANES], min[LANES] = {0};

	for (uint32_t k = k0; k < k0 + n; k++, out += LANES) {
		if (k == k0 || k % w->group == 0) {
			factors(scale, w, w->scales, w->sub_scales, b, k / w->group);
			if (w->has_min)
				factors(min, w, w->mins, w->sub_mins, b, k / w->group);
		}
		codes_at(out, w, c, k);
		for (unsigned i = 0; i < LANES; i++)
			out[i] = scale[i] * out[i] - min[i];
	}
}

static void unpack_nf4(const struct matrix *w, uint32_t b, uint32_t k0, uint32_t n, float *restrict out)
{
	const unsigned char *c = w->codes + b * matrix_block_bytes(w);
	float absmax[LANES];

	for (uint32_t k = k0; k < k0 + n; k++, out += LANES) {
		const unsigned char *at = c + (size_t)k / 8 * 64 + k % 4;

		for (unsigned i = 0; i < LANES && (k == k0 || k % w->group == 0); i++)
			absmax[i] = matrix_absmax(w, b * LANES + i, k / w->group);
		for (unsigned i = 0; i < LANES; i++)
			out[i] = absmax[i] * matrix_nf4[k % 8 < 4 ? at[4 * i] & 15 : at[4 * i] >> 4];
	}
}

void product_unpack(const struct matrix *w, uint32_t b, uint32_t k0, uint32_t n, float *out)
{
	const unsigned char *c = w->codes + b * matrix_block_bytes(w);
	const uint16_t *h = (const uint16_t *)c;

	switch (w->kind) {
	case PACK_F32:
		memcpy(out, c + (size_t)k0 * LANES * sizeof(float), (size_t)n * LANES * sizeof(float));
		break;
	case PACK_F16:
		for (size_t i = 0; i < (size_t)n * LANES; i++)
			out[i] = half_to_float(h[(size_t)k0 * LANES + i]);
		break;
	case PACK_BF16: /* pairs of k */
		for (uint32_t k = k0; k < k0 + n; k++)
			for (unsigned i = 0; i < LANES; i++)
				out[(k - k0) * LANES + i] = bf16_to_float(h[((size_t)k / 2 * LANES + i) * 2 + k % 2]);
		break;
	case PACK_S8:
		for (uint32_t k = k0; k < k0 + n; k++)
			for (unsigned i = 0; i < LANES; i++)
				out[(k - k0) * LANES + i] =
					bf16_to_float(w->scales[b * matrix_block_scales(w) + (size_t)k / w->group * LANES + i]) *
					(float)(int8_t)c[(size_t)k * LANES + i];
		break;
	case PACK_INT:
		unpack_int(w, b, k0, n, out);
		break;
	case PACK_NF4:
		unpack_nf4(w, b, k0, n, out);
		break;
	}
}

/* tile[n][16] += factor * B A of the same rows and inputs: A's columns are the rows of one more product. */
static void merge(const struct ops *ops, float *restrict tile, const struct product_delta *d, uint32_t b, uint32_t k0, uint32_t n)
{
	float up[LANES * LANES] __attribute__((aligned(64))), down[SLAB * LANES], t[SLAB * LANES];

	/* A's rows come in blocks of 16 that need not begin where this adapter's do. */
	for (uint32_t first = d->at, end; first < d->at + d->rank; first = end) {
		struct matrix w = {.kind = PACK_F32, .rows = LANES, .blocks = 1, .codes = (unsigned char *)up};
		struct rows x = {.f = down + first % LANES, .ld = LANES};

		end = (first / LANES + 1) * LANES;
		end = end < d->at + d->rank ? end : d->at + d->rank;
		w.cols = w.kpad = end - first;
		product_unpack(d->a, first / LANES, k0, n, down);
		product_unpack(d->b, b, first - d->at, end - first, up);
		ops->matmul(t, LANES, &w, &x, n, 0, 1);
		for (uint32_t i = 0; i < n * LANES; i++)
			tile[i] += d->factor * t[i];
	}
	for (uint32_t i = 0; d->gain && i < n * LANES; i++)
		tile[i] *= d->gain[b * LANES + i % LANES];
}

/* ---- products ---- */

struct step {
	const struct product *p;
	float *y;
	const float *x;
	size_t ldy, ldx;
	uint32_t m, inputs, outputs; /* of the product: cols and rows of W, or the other way round */
	uint32_t run, runs;          /* activation rows of a part; parts per chunk of outputs */
	bool back;
};

/* Outputs 16 b .. of the product, from its inputs k0 .. k0 + n - 1. */
static void fill(const struct step *s, float *slab, uint32_t b, uint32_t k0, uint32_t n)
{
	const struct matrix *w = s->p->w;
	float tile[LANES * LANES];

	if (!s->back) {
		product_unpack(w, b, k0, n, slab);
		for (uint32_t i = 0; i < s->p->n_delta; i++)
			merge(s->p->ops, slab, &s->p->delta[i], b, k0, n);
		return;
	}
	/* W^T: what are outputs here lie along W's inputs. */
	for (uint32_t r = 0; r < n; r += LANES) {
		uint32_t cols = s->outputs - b * LANES < LANES ? s->outputs - b * LANES : LANES,
			 rows = n - r < LANES ? n - r : LANES;

		product_unpack(w, (k0 + r) / LANES, b * LANES, cols, tile);
		for (uint32_t i = 0; i < rows; i++)
			for (uint32_t k = 0; k < LANES; k++)
				slab[(r + i) * LANES + k] = k < cols ? tile[k * LANES + i] : 0;
	}
}

/* y (+)= factor * t for outputs o .. of rows i .. */
static void put(const struct step *s, const float *t, uint32_t i, uint32_t rows, uint32_t o, bool add)
{
	uint32_t n = s->outputs - o < MATMUL_CHUNK * LANES ? s->outputs - o : MATMUL_CHUNK * LANES;

	for (uint32_t r = 0; r < rows; r++, t += MATMUL_CHUNK * LANES) {
		float *y = s->y + (i + r) * s->ldy + o;

		for (uint32_t k = 0; k < n; k++)
			y[k] = s->p->factor * t[k] + (add ? y[k] : 0);
	}
}

static void step_part(void *arg, uint32_t part)
{
	const struct step *s = arg;
	float slab[MATMUL_CHUNK * SLAB * LANES] __attribute__((aligned(64))), t[ROWS * MATMUL_CHUNK * LANES];
	uint32_t b0 = part / s->runs * MATMUL_CHUNK, blocks = (s->outputs + LANES - 1) / LANES - b0, i0 = part % s->runs * s->run;
	uint32_t i1 = i0 + s->run < s->m ? i0 + s->run : s->m;

	blocks = blocks < MATMUL_CHUNK ? blocks : MATMUL_CHUNK;
	for (uint32_t k0 = 0; k0 < s->inputs; k0 += SLAB) {
		uint32_t n = s->inputs - k0 < SLAB ? s->inputs - k0 : SLAB;
		const struct matrix w = {.kind = PACK_F32,
					 .rows = blocks * LANES,
					 .cols = n,
					 .blocks = blocks,
					 .kpad = n,
					 .codes = (unsigned char *)slab};

		for (uint32_t b = 0; b < blocks; b++)
			fill(s, slab + (size_t)b * n * LANES, b0 + b, k0, n);
		for (uint32_t i = i0; i < i1; i += ROWS) {
			uint32_t rows = i1 - i < ROWS ? i1 - i : ROWS;
			struct rows x = {.f = s->x + i * s->ldx + k0, .ld = s->ldx};

			s->p->ops->matmul(t, MATMUL_CHUNK * LANES, &w, &x, rows, 0, blocks);
			put(s, t, i, rows, b0 * LANES, s->p->add || k0);
		}
	}
}

static void run(struct step *s)
{
	uint32_t chunks = ((s->outputs + LANES - 1) / LANES + MATMUL_CHUNK - 1) / MATMUL_CHUNK,
		 wanted = 4 * (uint32_t)pool_threads(s->p->pool), runs;

	/* Narrow products are shared out by rows, too; each part unpacks for itself. */
	runs = chunks < wanted ? wanted / chunks : 1;
	s->run = (s->m + runs - 1) / runs;
	s->run = s->run < 2 * ROWS ? 2 * ROWS : s->run;
	s->runs = (s->m + s->run - 1) / s->run;
	pool_run(s->p->pool, step_part, s, chunks * s->runs);
}

void product(const struct product *p, float *y, size_t ldy, const float *x, size_t ldx, uint32_t m)
{
	struct step s = {.p = p, .y = y, .ldy = ldy, .x = x, .ldx = ldx, .m = m, .inputs = p->w->cols, .outputs = p->w->rows};

	run(&s);
}

void product_back(const struct product *p, float *y, size_t ldy, const float *g, size_t ldg, uint32_t m)
{
	struct step s = {
		.p = p, .y = y, .ldy = ldy, .x = g, .ldx = ldg, .m = m, .inputs = p->w->rows, .outputs = p->w->cols, .back = true};

	run(&s);
}
