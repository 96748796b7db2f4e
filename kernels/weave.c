#include "config.h"
#include "llama.h"

#include <string.h>

#include "format/peft.h"
#include "memory.h"

/* ---- planning ---- */

bool weave_reserve(struct core_ctx *c, const struct core_blend *b)
{
	struct weave *w = &c->weave;
	size_t bytes = (size_t)b->width * c->max_rows * sizeof(float);
	float *h;

	if (b->width <= w->ld)
		return true;
	h = memory_map(bytes);
	if (!h)
		return false;
	weave_finish(w);
	w->h = h;
	w->h_bytes = bytes;
	w->ld = b->width;
	return true;
}

void weave_finish(struct weave *w)
{
	memory_unmap(w->h, w->h_bytes);
	w->h = NULL;
}

/* Two blends of the same digest compute the same bits, so they are one group. */
static uint32_t group_of(struct weave *w, uint32_t *n, const struct core_blend *b)
{
	uint32_t g;

	for (g = 0; g < *n; g++)
		if (w->group[g].blend == b || !memcmp(w->group[g].blend->digest, b->digest, ADAPTER_DIGEST))
			return g;
	w->group[(*n)++] = (struct weave_group){.blend = b};
	return g;
}

/* A counting sort: base rows first, then group by group, each in the caller's order. Returns the number of groups. */
static uint32_t group_rows(struct core_ctx *c)
{
	struct weave *w = &c->weave;
	uint32_t n = 0, base = 0, at = 0;

	for (uint32_t i = 0; i < c->n_touched; i++)
		if (c->touched[i]->blend)
			c->touched[i]->group = group_of(w, &n, c->touched[i]->blend);
	for (uint32_t i = 0; i < c->m; i++)
		if (c->rows[i].seq->blend)
			w->group[c->rows[i].seq->group].m++;
		else
			at++;
	for (uint32_t g = 0; g < n; g++) {
		w->group[g].row = at;
		at += w->group[g].m;
		w->group[g].m = 0; /* counted again below */
	}
	for (uint32_t i = 0; i < c->m; i++) {
		const struct core_seq *s = c->rows[i].seq;
		struct weave_group *g = &w->group[s->group];

		w->to[i] = s->blend ? g->row + g->m++ : base++;
		w->rows[w->to[i]] = c->rows[i];
		w->position[w->to[i]] = c->position[i];
	}
	return n;
}

static void add_pieces(struct weave *w, const struct weave_group *g)
{
	for (uint32_t k = 0; k < g->blend->n; k++) {
		const struct blend_part *p = &g->blend->parts[k];
		uint32_t chunks = (p->adapter->width / LANES + MATMUL_CHUNK - 1) / MATMUL_CHUNK;

		w->chunks = chunks > w->chunks ? chunks : w->chunks;
		for (uint32_t i = 0; i < g->m; i += WEAVE_ROWS)
			w->piece[w->n++] = (struct weave_piece){p, g->row + i, g->m - i < WEAVE_ROWS ? g->m - i : WEAVE_ROWS};
	}
}

static bool before(const struct weave_piece *a, const struct weave_piece *b)
{
	int order = memcmp(a->part->adapter->digest, b->part->adapter->digest, ADAPTER_DIGEST);

	return order ? order < 0 : a->row < b->row;
}

/* Shell's sort: in place, and a pass has tens of pieces. */
static void sort_pieces(struct weave_piece *p, uint32_t n)
{
	for (uint32_t gap = n / 2; gap; gap = gap > 2 ? gap * 5 / 11 : gap / 2)
		for (uint32_t i = gap; i < n; i++) {
			struct weave_piece x = p[i];
			uint32_t k = i;

			for (; k >= gap && before(&x, &p[k - gap]); k -= gap)
				p[k] = p[k - gap];
			p[k] = x;
		}
}

void weave_plan(struct core_ctx *c)
{
	struct weave *w = &c->weave;
	bool any = false;
	uint32_t groups;

	w->n = w->chunks = 0;
	for (uint32_t i = 0; i < c->n_touched; i++)
		any |= c->touched[i]->blend != NULL;
	if (!any)
		return;
	groups = group_rows(c);
	c->rows = w->rows;
	memcpy(c->position, w->position, c->m * sizeof(c->position[0]));
	for (uint32_t i = 0; i < c->n_logits; i++)
		c->wanted[i] = w->to[c->wanted[i]];
	for (uint32_t g = 0; g < groups; g++)
		add_pieces(w, &w->group[g]);
	sort_pieces(w->piece, w->n);
}

/* ---- down: h = f A x ---- */

struct weave_step {
	struct core_ctx *c;
	uint32_t layer;
	enum adapter_input input;
	const struct buffer *x;
	const struct buffer *const *out;
	uint32_t range; /* blocks of outputs that one part of `up` takes */
};

/* The rows of the stacked A that b0 and b1 enclose, times the factors of the linears that they belong to. */
static void scale_h(const struct weave_step *s, const struct weave_piece *p, float *h, uint32_t b0, uint32_t b1)
{
	const struct adapter_linear *y = p->part->adapter->layers[s->layer].linear;

	for (unsigned l = 0; l < CORE_LINEARS; l++) {
		uint32_t k0 = y[l].at > b0 * LANES ? y[l].at : b0 * LANES, end = y[l].at + y[l].rank,
			 k1 = end < b1 * LANES ? end : b1 * LANES;
		float f;

		if (adapter_input_of(l) != s->input || k0 >= k1)
			continue;
		f = blend_factor(p->part, s->layer, l);
		for (uint32_t i = 0; i < p->m; i++)
			for (uint32_t k = k0; k < k1; k++)
				h[i * s->c->weave.ld + k] *= f;
	}
}

static void down_part(void *arg, uint32_t i)
{
	struct weave_step *s = arg;
	struct weave *w = &s->c->weave;
	const struct weave_piece *p = &w->piece[i / w->chunks];
	const struct matrix *a = &p->part->adapter->layers[s->layer].a[s->input];
	uint32_t b0 = i % w->chunks * MATMUL_CHUNK, b1 = b0 + MATMUL_CHUNK < a->blocks ? b0 + MATMUL_CHUNK : a->blocks;
	struct rows x = {.f = s->x->data + p->row * s->x->ld, .ld = s->x->ld};
	float *h = w->h + p->row * w->ld + p->part->at;

	if (b0 >= b1)
		return;
	s->c->ops->matmul(h, w->ld, a, &x, p->m, b0, b1);
	scale_h(s, p, h, b0, b1);
}

/* ---- up: y += B h, part after part ---- */

/* One piece, blocks b0 .. b1 - 1 of outputs. */
static void up_range(const struct weave_step *s, const struct weave_piece *p, const struct adapter_linear *l,
		     const struct buffer *out, uint32_t b0, uint32_t b1)
{
	const struct weave *w = &s->c->weave;
	struct rows h = {.f = w->h + p->row * w->ld + p->part->at + l->at, .ld = w->ld};
	float *y = out->data + p->row * out->ld;

	s->c->ops->matmul_add(y, out->ld, &l->b, &h, p->m, b0, b1);
	for (uint32_t i = 0; l->gain && i < p->m; i++, y += out->ld)
		for (uint32_t k = b0 * LANES; k < b1 * LANES; k++)
			y[k] *= l->gain[k];
}

/* Outputs of the k-th linear of an input, in blocks. */
static uint32_t out_blocks(const struct core_ctx *c, unsigned linear)
{
	const struct layer *y = &c->model->layers[0];
	const struct matrix *const w[CORE_LINEARS] = {&y->q, &y->k, &y->v, &y->o, &y->gate, &y->up, &y->down};

	return w[linear]->blocks;
}

static unsigned first_linear(enum adapter_input input)
{
	static const unsigned first[ADAPTER_INPUTS + 1] = {CORE_Q, CORE_O, CORE_GATE, CORE_DOWN, CORE_LINEARS};

	return first[input];
}

/* Asks for the first of blocks b0 .. b1 - 1 and all their scales ahead of their use: the ranges that a part reads are too short for
 * the hardware to guess. The product itself fetches the blocks that follow. */
static void fetch(const struct matrix *w, uint32_t b0, uint32_t b1)
{
	size_t bytes = matrix_block_bytes(w), scales = matrix_block_scales(w) * sizeof(w->scales[0]), n = (b1 - b0) * bytes;
	const char *codes = (const char *)w->codes + b0 * bytes, *scale = (const char *)w->scales + b0 * scales;

	for (size_t i = 0; i < (n < 2048 ? n : 2048); i += 64)
		__builtin_prefetch(codes + i, 0, 2);
	for (size_t i = 0; i < (b1 - b0) * scales; i += 64)
		__builtin_prefetch(scale + i, 0, 2);
}

static const struct adapter_linear *linear_of(const struct weave_step *s, uint32_t piece, unsigned linear)
{
	return &s->c->weave.piece[piece].part->adapter->layers[s->layer].linear[linear];
}

static void up_part(void *arg, uint32_t i)
{
	struct weave_step *s = arg;
	const struct weave *w = &s->c->weave;
	unsigned l = first_linear(s->input), k = 0;
	uint32_t b0, end;

	for (;; l++, k++) {
		uint32_t ranges = (out_blocks(s->c, l) + s->range - 1) / s->range;

		if (i < ranges)
			break;
		i -= ranges;
	}
	b0 = i * s->range;
	end = b0 + s->range < out_blocks(s->c, l) ? b0 + s->range : out_blocks(s->c, l);
	for (uint32_t p = 0; p < w->n; p++) {
		const struct adapter_linear *y = linear_of(s, p, l), *next = p + 1 < w->n ? linear_of(s, p + 1, l) : NULL;

		if (next && next->rank && next != y)
			fetch(&next->b, b0, end);
		if (y->rank)
			up_range(s, &w->piece[p], y, s->out[k], b0, end);
	}
}

/* ---- the whole ---- */

void weave(struct core_ctx *c, uint32_t layer, enum adapter_input input, const struct buffer *x, const struct buffer *const out[])
{
	struct weave_step s = {c, layer, input, x, out, 0};
	uint32_t blocks = 0, parts = 0, threads = (uint32_t)pool_threads(c->pool);

	if (!c->weave.n)
		return;
	pool_run(c->pool, down_part, &s, c->weave.n * c->weave.chunks);
	for (unsigned l = first_linear(input); l < first_linear(input + 1); l++)
		blocks += out_blocks(c, l);
	/* Long ranges read long runs of B; short ones keep all threads busy. */
	s.range = blocks / (4 * threads) / MATMUL_CHUNK * MATMUL_CHUNK;
	s.range = s.range < MATMUL_CHUNK ? MATMUL_CHUNK : s.range > 64 ? 64 : s.range;
	for (unsigned l = first_linear(input); l < first_linear(input + 1); l++)
		parts += (out_blocks(c, l) + s.range - 1) / s.range;
	pool_run(c->pool, up_part, &s, parts);
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
