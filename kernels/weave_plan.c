/* weave_plan.c: the rows of a pass by blends, and the pieces that weave.c walks. */
#include "config.h"
#include "llama.h"

#include <string.h>

#include "memory.h"

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

/* Where rows of one path and blend lie: first those of the prompt's path, then the generated ones; of each, first those without a
 * blend. The same on every instruction set, for the ranks of one model must agree. */
static uint32_t place_of(const struct core_row *r, uint32_t blends)
{
	return (r->path == CORE_GENERATED ? blends + 1 : 0) + (r->seq->blend ? 1 + r->seq->group : 0);
}

/* A counting sort, each group in the caller's order. w->group: two times (n + 1), for rows without a blend and then for each of n blends. */
static uint32_t group_rows(struct core_ctx *c)
{
	struct weave *w = &c->weave;
	uint32_t n = 0, at = 0;

	for (uint32_t i = 0; i < c->n_touched; i++)
		if (c->touched[i]->blend)
			c->touched[i]->group = group_of(w, &n, c->touched[i]->blend);
	for (uint32_t g = 2 * n + 2; g--; )
		w->group[g] = (struct weave_group){.blend = g % (n + 1) ? w->group[g % (n + 1) - 1].blend : NULL};
	for (uint32_t i = 0; i < c->m; i++)
		w->group[place_of(&c->rows[i], n)].m++;
	for (uint32_t g = 0; g < 2 * n + 2; g++) {
		w->group[g].row = at;
		at += w->group[g].m;
		w->group[g].m = 0; /* counted again below */
	}
	for (uint32_t i = 0; i < c->m; i++) {
		struct weave_group *g = &w->group[place_of(&c->rows[i], n)];

		w->to[i] = g->row + g->m++;
		w->rows[w->to[i]] = c->rows[i];
		w->position[w->to[i]] = c->position[i];
	}
	c->m_prompt = w->group[n + 1].row;
	return 2 * n + 2;
}

static void add_runs(struct weave *w, uint32_t *n, const struct weave_group *g)
{
	for (uint32_t k = 0; g->m && g->blend && k < g->blend->n; k++) {
		const struct blend_part *p = &g->blend->parts[k];
		uint32_t chunks = (p->adapter->width / LANES + MATMUL_CHUNK - 1) / MATMUL_CHUNK;

		w->chunks = chunks > w->chunks ? chunks : w->chunks;
		w->run[(*n)++] = (struct weave_run){p, g->row, g->m};
	}
}

static bool before(const struct weave_run *a, const struct weave_run *b)
{
	int order = memcmp(a->part->adapter->digest, b->part->adapter->digest, ADAPTER_DIGEST);

	return order ? order < 0 : a->row < b->row;
}

/* Shell's sort: in place, and a pass has tens of runs. */
static void sort_runs(struct weave_run *r, uint32_t n)
{
	for (uint32_t gap = n / 2; gap; gap = gap > 2 ? gap * 5 / 11 : gap / 2)
		for (uint32_t i = gap; i < n; i++) {
			struct weave_run x = r[i];
			uint32_t k = i;

			for (; k >= gap && before(&x, &r[k - gap]); k -= gap)
				r[k] = r[k - gap];
			r[k] = x;
		}
}

static bool same_adapter(const struct weave_run *a, const struct weave_run *b)
{
	return !memcmp(a->part->adapter->digest, b->part->adapter->digest, ADAPTER_DIGEST);
}

/* A run of more than MATMUL_FEW rows becomes pieces of neighbours. Returns how many runs it was cut in. */
static uint32_t cut_run(struct weave *w, const struct weave_run *r, struct weave_run *to)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < r->m; i += WEAVE_ROWS, n++) {
		to[n] = (struct weave_run){r->part, r->row + i, r->m - i < WEAVE_ROWS ? r->m - i : WEAVE_ROWS};
		w->piece[w->n++] = (struct weave_piece){&to[n], to[n].m};
	}
	return n;
}

/* The rows of short runs r[0] .. r[n - 1], all of one adapter, four by four. Returns how many rows. */
static uint32_t gather_runs(struct weave *w, const struct weave_run *r, uint32_t n, struct weave_run *to)
{
	uint32_t rows = 0;

	for (uint32_t k = 0; k < n; k++)
		for (uint32_t i = 0; r[k].m <= MATMUL_FEW && i < r[k].m; i++)
			to[rows++] = (struct weave_run){r[k].part, r[k].row + i, 1};
	for (uint32_t i = 0; i < rows; i += MATMUL_FEW)
		w->piece[w->n++] = (struct weave_piece){&to[i], rows - i < MATMUL_FEW ? rows - i : MATMUL_FEW};
	return rows;
}

/* Whether the factors of both have the same kinds and shapes everywhere. */
static bool alike(const struct core_adapter *a, const struct core_adapter *b)
{
	for (uint32_t l = 0; l < a->n_layers; l++) {
		const struct adapter_layer *x = &a->layers[l], *y = &b->layers[l];

		for (unsigned i = 0; i < ADAPTER_INPUTS; i++)
			if (x->a[i].blocks != y->a[i].blocks || x->a[i].kind != y->a[i].kind)
				return false;
		for (unsigned i = 0; i < CORE_LINEARS; i++)
			if (x->linear[i].rank != y->linear[i].rank || x->linear[i].b.kind != y->linear[i].b.kind)
				return false;
	}
	return true;
}

/* Pieces of a single row each, next to each other, become one. */
static void join_pieces(struct weave *w)
{
	struct weave_piece *last = w->piece;
	bool single = last->m == 1;

	for (struct weave_piece *p = w->piece + 1; p < w->piece + w->n; p++)
		if (single && p->m == 1 && last->m < MATMUL_FEW && alike(p->runs->part->adapter, last->runs->part->adapter)) {
			last->m++;
		} else {
			*++last = *p;
			single = p->m == 1;
		}
	w->n = (uint32_t)(last - w->piece) + 1;
}

static void make_pieces(struct weave *w, uint32_t runs)
{
	struct weave_run *to = w->cut;
	uint32_t end;

	for (uint32_t i = 0; i < runs; i = end) {
		for (end = i; end < runs && same_adapter(&w->run[end], &w->run[i]); end++)
			if (w->run[end].m > MATMUL_FEW)
				to += cut_run(w, &w->run[end], to);
		to += gather_runs(w, &w->run[i], end - i, to);
	}
	w->n_cut = (uint32_t)(to - w->cut);
	join_pieces(w);
}

/* Whether the rows lie as they should: all of one path, and none with a blend. Then m_prompt is set. */
static bool is_simple(struct core_ctx *c)
{
	c->m_prompt = 0;
	for (uint32_t i = 0; i < c->n_touched; i++)
		if (c->touched[i]->blend)
			return false;
	for (uint32_t i = 0; i < c->m; i++)
		c->m_prompt += c->rows[i].path == CORE_PROMPT;
	return c->m_prompt == 0 || c->m_prompt == c->m;
}

void weave_plan(struct core_ctx *c)
{
	struct weave *w = &c->weave;
	uint32_t groups, runs = 0;

	w->n = w->chunks = 0;
	if (is_simple(c))
		return;
	groups = group_rows(c);
	c->rows = w->rows;
	memcpy(c->position, w->position, c->m * sizeof(c->position[0]));
	for (uint32_t i = 0; i < c->n_logits; i++)
		c->wanted[i] = w->to[c->wanted[i]];
	for (uint32_t g = 0; g < groups; g++)
		add_runs(w, &runs, &w->group[g]);
	sort_runs(w->run, runs);
	if (runs)
		make_pieces(w, runs);
}
