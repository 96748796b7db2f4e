#include "config.h"
#include "llama.h"

#include "format/peft.h"
#include "ops/guest.h"
#include "project.h"

struct weave_step {
	const struct project *base;
	struct core_ctx *c;
	uint32_t layer;
	enum adapter_input input;
	uint32_t range;		/* blocks of outputs that are one range */
	uint32_t ranges, first;	/* of them the first ones beside down, the others beside up */
	uint32_t parts;		/* of the step under way */
	size_t reads;		/* bytes of factors */
};

/* What share i of n is of `all`: [*from, *to). */
static void share(uint32_t all, uint32_t i, uint32_t n, uint32_t *from, uint32_t *to)
{
	*from = (uint32_t)((uint64_t)all * i / n);
	*to = (uint32_t)((uint64_t)all * (i + 1) / n);
}

/* ---- rows of a piece ---- */

static bool together(const struct weave_piece *p)
{
	return p->runs->m == p->m;
}

/* The i-th row of a piece: its number in the pass, and the part of its blend. */
static uint32_t row_of(const struct weave_piece *p, uint32_t i)
{
	return together(p) ? p->runs->row + i : p->runs[i].row;
}

static const struct blend_part *part_of(const struct weave_piece *p, uint32_t i)
{
	return together(p) ? p->runs->part : p->runs[i].part;
}

static const struct core_adapter *adapter_of(const struct weave_piece *p, uint32_t i)
{
	return part_of(p, i)->adapter;
}

static float *h_of(const struct weave *w, const struct weave_piece *p, uint32_t i)
{
	return w->h + row_of(p, i) * w->ld + part_of(p, i)->at;
}

static float *in_buffer(const struct buffer *b, const struct weave_piece *p, uint32_t i)
{
	return b->data + row_of(p, i) * b->ld;
}

/* ---- down: h = f A x ---- */

static const struct matrix *down_matrix(const struct weave_step *s, const struct weave_piece *p, uint32_t i)
{
	return &adapter_of(p, i)->layers[s->layer].a[s->input];
}

/* Row i's h that blocks b0 .. b1 - 1 of the stacked A gave, times the factors of the linears that it belongs to. */
static void scale_h(const struct weave_step *s, const struct weave_piece *p, uint32_t i, uint32_t b0, uint32_t b1)
{
	const struct adapter_linear *y = adapter_of(p, i)->layers[s->layer].linear;
	float *h = h_of(&s->c->weave, p, i);

	for (unsigned l = 0; l < CORE_LINEARS; l++) {
		uint32_t k0 = y[l].at > b0 * LANES ? y[l].at : b0 * LANES, end = y[l].at + y[l].rank,
			 k1 = end < b1 * LANES ? end : b1 * LANES;
		float f;

		if (adapter_input_of(l) != s->input || k0 >= k1)
			continue;
		f = blend_factor(part_of(p, i), s->layer, l);
		for (uint32_t k = k0; k < k1; k++)
			h[k] *= f;
	}
}

static void down_blocks(const struct weave_step *s, const struct weave_piece *p, uint32_t b0, uint32_t b1)
{
	const struct weave *w = &s->c->weave;

	if (together(p)) {
		struct rows x = {.f = in_buffer(s->base->x, p, 0), .ld = s->base->x->ld};

		s->c->ops->matmul(h_of(w, p, 0), w->ld, down_matrix(s, p, 0), &x, p->m, b0, b1);
	} else {
		float *h[MATMUL_FEW];
		const struct matrix *a[MATMUL_FEW];
		const float *x[MATMUL_FEW];

		for (uint32_t i = 0; i < p->m; i++) {
			h[i] = h_of(w, p, i);
			a[i] = down_matrix(s, p, i);
			x[i] = in_buffer(s->base->x, p, i);
		}
		s->c->ops->matmul_few(h, a, x, p->m, b0, b1, false);
	}
	for (uint32_t i = 0; i < p->m; i++)
		scale_h(s, p, i, b0, b1);
}

/* The blocks of the u-th unit: a chunk of A by a piece. false: this piece's A has fewer chunks. */
static bool down_unit(const struct weave_step *s, uint32_t u, const struct weave_piece **p, uint32_t *b0, uint32_t *b1)
{
	const struct weave *w = &s->c->weave;
	uint32_t blocks;

	*p = &w->piece[u / w->chunks];
	blocks = down_matrix(s, *p, 0)->blocks;
	*b0 = u % w->chunks * MATMUL_CHUNK;
	*b1 = *b0 + MATMUL_CHUNK < blocks ? *b0 + MATMUL_CHUNK : blocks;
	return *b0 < *b1;
}

static void fetch_blocks(struct guest *g, const struct matrix *w, uint32_t b0, uint32_t b1)
{
	size_t bytes = matrix_block_bytes(w), scales = matrix_block_scales(w) * sizeof(w->scales[0]);

	guest_add(g, w->codes + b0 * bytes, (b1 - b0) * bytes);
	if (w->kind == PACK_S8)
		guest_add(g, (const char *)w->scales + b0 * scales, (b1 - b0) * scales);
}

static void base_range(const struct weave_step *s, uint32_t i, struct guest *g)
{
	uint32_t b0, b1, k = project_range(s->base, s->range, i, &b0, &b1);

	g->calls = (b1 - b0 + MATMUL_CHUNK - 1) / MATMUL_CHUNK;
	project_blocks(s->base, &s->base->l[k], b0, b1, g);
}

/* The adapter of the r-th run; NULL: the run before it has the same. */
static const struct core_adapter *next_adapter(const struct weave *w, uint32_t r)
{
	const struct core_adapter *a = w->cut[r].part->adapter;

	return r && w->cut[r - 1].part->adapter == a ? NULL : a;
}

/* As much of the A's as part i of the base has time for, in the order in which they are used: never later than that. */
static void fetch_down(const struct weave_step *s, struct guest *g, uint32_t i)
{
	const struct weave *w = &s->c->weave;
	const struct core_adapter *adapter;
	uint32_t from, to;

	share(w->n_cut, i, s->parts, &from, &to);
	for (uint32_t r = from; r < to; r++)
		if ((adapter = next_adapter(w, r)) != NULL) {
			const struct matrix *a = &adapter->layers[s->layer].a[s->input];

			fetch_blocks(g, a, 0, a->blocks);
		}
}

static void down_part(void *arg, uint32_t i)
{
	const struct weave_step *s = arg;
	const struct weave_piece *p;
	struct guest g;
	uint32_t from, to, b0, b1;

	share(s->c->weave.n * s->c->weave.chunks, i, s->parts, &from, &to);
	if (i < s->first) {
		guest_none(&g);
		fetch_down(s, &g, i);
		base_range(s, i, &g);
	}
	for (uint32_t u = from; u < to; u++)
		if (down_unit(s, u, &p, &b0, &b1))
			down_blocks(s, p, b0, b1);
}

/* ---- up: y += B h, piece after piece ---- */

static void gain(float *y, const float *g, uint32_t b0, uint32_t b1)
{
	for (uint32_t k = b0 * LANES; g && k < b1 * LANES; k++)
		y[k] *= g[k];
}

static unsigned first_linear(enum adapter_input input)
{
	static const unsigned first[ADAPTER_INPUTS] = {CORE_Q, CORE_O, CORE_GATE, CORE_DOWN};

	return first[input];
}

/* Of row i's adapter: the k-th linear of this step. */
static const struct adapter_linear *up_linear(const struct weave_step *s, const struct weave_piece *p, uint32_t i, uint32_t k)
{
	return &adapter_of(p, i)->layers[s->layer].linear[first_linear(s->input) + k];
}

static void up_blocks(const struct weave_step *s, const struct weave_piece *p, uint32_t k, uint32_t b0, uint32_t b1)
{
	const struct weave *w = &s->c->weave;
	const struct buffer *out = s->base->l[k].out;

	if (together(p)) {
		const struct adapter_linear *l = up_linear(s, p, 0, k);
		struct rows h = {.f = h_of(w, p, 0) + l->at, .ld = w->ld};

		s->c->ops->matmul_add(in_buffer(out, p, 0), out->ld, &l->b, &h, p->m, b0, b1);
	} else {
		float *y[MATMUL_FEW];
		const struct matrix *b[MATMUL_FEW];
		const float *h[MATMUL_FEW];

		for (uint32_t i = 0; i < p->m; i++) {
			const struct adapter_linear *l = up_linear(s, p, i, k);

			y[i] = in_buffer(out, p, i);
			b[i] = &l->b;
			h[i] = h_of(w, p, i) + l->at;
		}
		s->c->ops->matmul_few(y, b, h, p->m, b0, b1, true);
	}
	for (uint32_t i = 0; i < p->m; i++)
		gain(in_buffer(out, p, i), up_linear(s, p, i, k)->gain, b0, b1);
}

static void fetch_up(const struct weave_step *s, struct guest *g, uint32_t range)
{
	const struct weave *w = &s->c->weave;
	uint32_t b0, b1, k = project_range(s->base, s->range, range, &b0, &b1);
	const struct core_adapter *adapter;

	for (uint32_t r = 0; r < w->n_cut; r++)
		if ((adapter = next_adapter(w, r)) != NULL) {
			const struct adapter_linear *l = &adapter->layers[s->layer].linear[first_linear(s->input) + k];

			if (l->rank)
				fetch_blocks(g, &l->b, b0, b1);
		}
}

static void up_range(const struct weave_step *s, uint32_t range)
{
	const struct weave *w = &s->c->weave;
	uint32_t b0, b1, k = project_range(s->base, s->range, range, &b0, &b1);

	for (const struct weave_piece *p = w->piece; p < w->piece + w->n; p++)
		if (up_linear(s, p, 0, k)->rank)
			up_blocks(s, p, k, b0, b1);
}

static void up_part(void *arg, uint32_t i)
{
	const struct weave_step *s = arg;
	struct guest g;
	uint32_t from, to;

	share(s->first, i, s->parts, &from, &to);
	if (s->first + i < s->ranges) {
		guest_none(&g);
		fetch_up(s, &g, s->first + i);
		for (uint32_t k = from; k < to; k++)
			fetch_up(s, &g, k);
		base_range(s, s->first + i, &g);
		up_range(s, s->first + i);
	}
	for (uint32_t k = from; k < to; k++)
		up_range(s, k);
}

/* ---- the whole ---- */

static uint32_t most(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* How many of the ranges go beside down: as the bytes of A are to those of A and B, so that each thread has as many as the next. */
static uint32_t ranges_beside_down(struct weave_step *s)
{
	const struct weave *w = &s->c->weave;
	uint32_t threads = (uint32_t)pool_threads(s->c->pool);
	size_t a = 0, b = 0;

	for (uint32_t i = 0; i < w->n; i++) {
		const struct matrix *m = down_matrix(s, &w->piece[i], 0);

		a += m->blocks ? m->blocks * matrix_block_bytes(m) : 0;
		for (uint32_t k = 0; k < s->base->n; k++) {
			const struct adapter_linear *l = up_linear(s, &w->piece[i], 0, k);

			b += l->rank ? l->b.blocks * matrix_block_bytes(&l->b) : 0;
		}
	}
	s->reads = a + b;
	return a + b ? least((uint32_t)(s->ranges * a / (a + b) + threads / 2) / threads * threads, s->ranges) : 0;
}

void weave(const struct project *base, uint32_t layer, enum adapter_input input)
{
	struct weave_step s = {.base = base, .c = base->c, .layer = layer, .input = input};
	uint32_t blocks = 0, threads = (uint32_t)pool_threads(s.c->pool), units = s.c->weave.n * s.c->weave.chunks;

	for (uint32_t k = 0; k < base->n; k++)
		blocks += base->l[k].w->blocks;
	/* Long ranges read long runs of B; short ones keep all threads busy. */
	s.range = least(most(blocks / (8 * threads) / MATMUL_CHUNK * MATMUL_CHUNK, MATMUL_CHUNK), 4 * MATMUL_CHUNK);
	s.ranges = project_ranges(base, s.range);
	s.first = ranges_beside_down(&s);
	s.parts = most(s.first, least(units, 4 * threads));
	if (s.reads)
		pool_run(s.c->pool, down_part, &s, s.parts);
	s.parts = most(s.ranges - s.first, least(s.first, 4 * threads));
	pool_run(s.c->pool, up_part, &s, s.parts);
}

void weave_embed(const struct core_ctx *c, uint32_t i)
{
	const struct core_blend *blend = c->rows[i].seq->blend;
	float h[LORA_RANK_MAX + LANES], *x = c->x.data + i * c->x.ld;

	for (uint32_t k = 0; blend && k < blend->n; k++) {
		const struct adapter_embed *e = &blend->parts[k].adapter->embed;
		const float *a = e->a + (size_t)c->rows[i].token * e->rank;
		struct rows r = {.f = h, .ld = 0};
		float f;

		if (!e->rank)
			continue;
		f = blend_embed_factor(&blend->parts[k]);
		for (uint32_t j = 0; j < e->b.kpad; j++)
			h[j] = j < e->rank ? f * a[j] : 0;
		c->ops->matmul_add(x, 0, &e->b, &r, 1, 0, e->b.blocks);
	}
}
