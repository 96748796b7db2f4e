/* adapter.c: loading: pairs of factors from a file (format/peft.h) are checked, hashed and packed. */
#include "config.h"
#include "adapter.h"

#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/peft.h"
#include "memory.h"
#include "model.h"
#include "pack.h"
#include "pool.h"
#include "shard.h"

/* A pair as this rank has it: B is cut where the base's outputs are, A where its inputs are. */
struct rank_pair {
	struct lora_pair pair;
	struct tensor part;
};

struct adapter_loader {
	struct core_adapter *a;
	const struct core_model *m;
	const char *path;
	struct lora_file file;
	const struct lora_pair **pair; /* [layers][CORE_LINEARS]; NULL: none */
	struct rank_pair *parts; /* [file.n_pairs]; NULL: the model is whole */
	const struct lora_pair *embed;
	struct core_error *err;
};

static const struct lora_pair *pair_of(const struct adapter_loader *l, uint32_t layer, unsigned linear)
{
	return l->pair[(size_t)layer * CORE_LINEARS + linear];
}

static const struct matrix *base_of(const struct core_model *m, uint32_t layer, unsigned linear)
{
	const struct layer *y = &m->layers[layer];
	const struct matrix *const w[CORE_LINEARS] = {&y->q, &y->k, &y->v, &y->o, &y->gate, &y->up, &y->down};

	return w[linear];
}

/* ---- copies of the base's weights: PEFT writes them beside a trained embedding ---- */

/* Difference of a copy's row to the base's, and the base's row, as sums of squares. */
static void compare_rows(const struct tensor *t, uint64_t row, const float *base, float *scratch, uint64_t n, double *off,
			 double *all)
{
	tensor_row_f32(t, row, scratch);
	for (uint64_t k = 0; k < n; k++) {
		double d = (double)scratch[k] - base[k];

		*off += d * d;
		*all += (double)base[k] * base[k];
	}
}

static const float *base_norm(const struct core_model *m, const struct lora_copy *c)
{
	return c->kind == LORA_COPY_NORM        ? m->norm
	       : c->kind == LORA_COPY_ATTN_NORM ? m->layers[c->layer].attn_norm
						: m->layers[c->layer].ffn_norm;
}

/* What differs from the base by more than another rounding of the same numbers was trained: it is not what a blend adds. A base in
 * blocks of 4 or 8 bits is itself some percent off. */
static int check_copy(struct adapter_loader *l, const struct lora_copy *c)
{
	const struct matrix *w = c->kind == LORA_COPY_EMBED ? &l->m->embed : c->kind == LORA_COPY_HEAD ? &l->m->head : NULL;
	uint32_t dim = l->m->config.dim, rows = w ? l->m->config.vocab : 1;
	float *scratch = malloc(2 * (size_t)dim * sizeof(float));
	double off = 0, all = 0, most = w && (w->kind == PACK_INT || w->kind == PACK_NF4) ? 0.15 : 0.008;

	if (!scratch)
		return core_fail(l->err, CORE_ENOMEM, "no memory to check %s", c->t->name);
	for (uint32_t r = 0; r < rows; r++) {
		if (w)
			matrix_row_f32(w, r, scratch + dim);
		compare_rows(c->t, r, w ? scratch + dim : base_norm(l->m, c), scratch, dim, &off, &all);
	}
	free(scratch);
	if (off <= most * most * all)
		return CORE_OK;
	return core_fail(l->err, CORE_EUNSUPPORTED,
			 "%s: tensor %s is not the base's own: whole weights that were trained cannot be blended", l->path,
			 c->t->name);
}

/* ---- digest: the same for every container and every type that holds the same numbers ---- */

static int hash_rows(struct adapter_loader *l, crypto_generichash_state *h, const struct tensor *t)
{
	uint64_t rows = t->n_dims == 1 ? 1 : t->dims[0], cols = t->dims[t->n_dims - 1];
	float *row = malloc(cols * sizeof(float));

	if (!row)
		return core_fail(l->err, CORE_ENOMEM, "no memory for a row of %s", t->name);
	for (uint64_t r = 0; r < rows; r++) {
		tensor_row_f32(t, r, row);
		for (uint64_t k = 0; k < cols; k++)
			if (!isfinite(row[k])) {
				free(row);
				return core_fail(l->err, CORE_EFORMAT, "%s: tensor %s holds a number that is not finite", l->path,
						 t->name);
			}
		crypto_generichash_update(h, (const unsigned char *)row, cols * sizeof(float));
	}
	free(row);
	return CORE_OK;
}

static int hash_pair(struct adapter_loader *l, crypto_generichash_state *h, const struct lora_pair *p)
{
	const uint32_t head[] = {p->layer, p->kind, p->rank, p->magnitude != NULL};
	int rc;

	crypto_generichash_update(h, (const unsigned char *)head, sizeof(head));
	crypto_generichash_update(h, (const unsigned char *)&p->scale, sizeof(p->scale));
	if (p->kind == LORA_EMBED) { /* by token, however the file has it: already read */
		size_t n = (size_t)l->m->config.vocab * p->rank;

		for (size_t i = 0; i < n; i++)
			if (!isfinite(l->a->embed.a[i]))
				return core_fail(l->err, CORE_EFORMAT, "%s: tensor %s holds a number that is not finite", l->path,
						 p->a->name);
		crypto_generichash_update(h, (const unsigned char *)l->a->embed.a, n * sizeof(float));
	} else {
		rc = hash_rows(l, h, p->a);
		if (rc)
			return rc;
	}
	rc = hash_rows(l, h, p->b);
	return rc || !p->magnitude ? rc : hash_rows(l, h, p->magnitude);
}

static int hash_all(struct adapter_loader *l)
{
	crypto_generichash_state h;
	int rc = CORE_OK;

	crypto_generichash_init(&h, NULL, 0, ADAPTER_DIGEST);
	for (size_t i = 0; i < l->file.n_pairs && !rc; i++)
		rc = hash_pair(l, &h, &l->file.pairs[i]);
	crypto_generichash_final(&h, l->a->digest, ADAPTER_DIGEST);
	sodium_bin2hex(l->a->info.digest, sizeof(l->a->info.digest), l->a->digest, ADAPTER_DIGEST);
	return rc;
}

/* ---- planning ---- */

/* The type that holds both exactly, among those that the products read. */
static enum tensor_type common_type(enum tensor_type a, enum tensor_type b)
{
	return a == b && (a == TENSOR_F16 || a == TENSOR_BF16) ? a : TENSOR_F32;
}

static enum pack_form form_of(const struct adapter_loader *l)
{
	return l->a->info.exact ? PACK_KEEP : PACK_FACTOR;
}

static struct tensor shape_of(enum tensor_type type, uint32_t rows, uint32_t cols)
{
	return (struct tensor){.name = "a factor", .type = type, .n_dims = 2, .dims = {rows, cols}};
}

/* B's of one input, and the stack of their A's: each begins where the one before ends, counting what its B is padded to. */
static void plan_input(struct adapter_loader *l, uint32_t layer, enum adapter_input input)
{
	struct adapter_layer *y = &l->a->layers[layer];
	uint32_t rows = 0, cols = 0;
	enum tensor_type type = TENSOR_F32;

	for (unsigned i = 0; i < CORE_LINEARS; i++) {
		const struct lora_pair *p = pair_of(l, layer, i);
		struct tensor t;

		if (adapter_input_of(i) != input || !p)
			continue;
		t = shape_of(common_type(p->b->type, p->b->type), (uint32_t)p->b->dims[0], p->rank);
		pack_plan(&y->linear[i].b, &t, form_of(l));
		y->linear[i].rank = p->rank;
		y->linear[i].scale = p->scale;
		y->linear[i].at = rows;
		type = common_type(p->a->type, rows ? type : p->a->type);
		rows += y->linear[i].b.kpad;
		cols = (uint32_t)p->a->dims[1];
	}
	if (rows) {
		struct tensor t = shape_of(type, rows, cols);

		pack_plan(&y->a[input], &t, form_of(l));
		l->a->width = y->a[input].blocks * LANES > l->a->width ? y->a[input].blocks * LANES : l->a->width;
	}
}

static size_t place(struct core_adapter *a, size_t *at, size_t bytes)
{
	size_t here = *at;

	*at += (bytes + 63) & ~(size_t)63;
	return a->arena ? here : 0;
}

static void place_matrix(struct core_adapter *a, size_t *at, struct matrix *w)
{
	size_t here = place(a, at, w->blocks ? pack_bytes(w) : 0);

	if (a->arena && w->blocks)
		pack_place(w, a->arena + here);
}

static float *place_floats(struct core_adapter *a, size_t *at, size_t n)
{
	size_t here = place(a, at, n * sizeof(float));

	return a->arena ? (float *)(a->arena + here) : NULL;
}

/* Walks all parts in memory order: once to measure, once to place. */
static size_t place_all(struct adapter_loader *l)
{
	struct core_adapter *a = l->a;
	size_t at = 0;

	for (uint32_t i = 0; i < a->n_layers; i++) {
		struct adapter_layer *y = &a->layers[i];

		for (unsigned k = 0; k < ADAPTER_INPUTS; k++)
			place_matrix(a, &at, &y->a[k]);
		for (unsigned k = 0; k < CORE_LINEARS; k++) {
			place_matrix(a, &at, &y->linear[k].b);
			if (y->linear[k].rank && a->dora)
				y->linear[k].gain = place_floats(a, &at, (size_t)y->linear[k].b.blocks * LANES);
		}
	}
	if (a->embed.rank) {
		place_matrix(a, &at, &a->embed.b);
		a->embed.a = place_floats(a, &at, (size_t)l->m->config.vocab * a->embed.rank);
	}
	return at;
}

static int plan(struct adapter_loader *l)
{
	struct core_adapter *a = l->a;

	a->n_layers = l->m->config.layers;
	a->layers = calloc(a->n_layers, sizeof(a->layers[0]));
	if (!a->layers)
		return core_fail(l->err, CORE_ENOMEM, "no memory for %u layers", a->n_layers);
	for (uint32_t i = 0; i < a->n_layers; i++)
		for (unsigned k = 0; k < ADAPTER_INPUTS; k++)
			plan_input(l, i, (enum adapter_input)k);
	if (l->embed) {
		struct tensor t = shape_of(common_type(l->embed->b->type, l->embed->b->type), l->m->config.dim, l->embed->rank);

		a->embed.rank = l->embed->rank;
		a->embed.scale = l->embed->scale;
		pack_plan(&a->embed.b, &t, PACK_KEEP);
	}
	a->arena_bytes = place_all(l);
	a->arena = memory_map(a->arena_bytes);
	if (!a->arena)
		return core_fail(l->err, CORE_ENOMEM, "%s: no memory for %zu bytes of factors", l->path, a->arena_bytes);
	place_all(l);
	return CORE_OK;
}

/* ---- packing ---- */

/* Several tensors, one below the other, in the type of the packed matrix; what no tensor covers is zeros. */
struct stack {
	struct tensor t;
	unsigned char *rows;
};

static int stack_new(struct adapter_loader *l, struct stack *s, const struct matrix *w)
{
	enum tensor_type type = w->kind == PACK_F16 ? TENSOR_F16 : w->kind == PACK_BF16 ? TENSOR_BF16 : TENSOR_F32;

	s->t = shape_of(type, w->rows, w->cols);
	s->t.bytes = (uint64_t)w->rows * w->cols * tensor_type_bytes(type);
	s->t.data = s->rows = calloc(1, s->t.bytes);
	return s->rows ? CORE_OK : core_fail(l->err, CORE_ENOMEM, "%s: no memory to pack a factor", l->path);
}

static void stack_put(struct stack *s, uint32_t at, const struct tensor *t)
{
	size_t bytes = t->dims[1] * tensor_type_bytes(s->t.type);

	for (uint64_t r = 0; r < t->dims[0]; r++)
		if (t->type == s->t.type)
			memcpy(s->rows + (at + r) * bytes, tensor_row(t, r), bytes);
		else
			tensor_row_f32(t, r, (float *)(s->rows + (at + r) * bytes));
}

static int stack_pack(struct adapter_loader *l, struct stack *s, struct matrix *w)
{
	int rc = pack_blocks(w, &s->t, w->kind == PACK_S8 ? PACK_FACTOR : PACK_KEEP, 0, w->blocks, l->err);

	free(s->rows);
	return rc;
}

static int pack_b(struct adapter_loader *l, struct matrix *w, const struct lora_pair *p)
{
	struct stack s;
	int rc = stack_new(l, &s, w);

	if (rc)
		return rc;
	stack_put(&s, 0, p->b);
	return stack_pack(l, &s, w);
}

static int pack_a(struct adapter_loader *l, uint32_t layer, enum adapter_input input)
{
	struct adapter_layer *y = &l->a->layers[layer];
	struct stack s;
	int rc;

	if (!y->a[input].blocks)
		return CORE_OK;
	rc = stack_new(l, &s, &y->a[input]);
	if (rc)
		return rc;
	for (unsigned i = 0; i < CORE_LINEARS; i++)
		if (adapter_input_of(i) == input && y->linear[i].rank)
			stack_put(&s, y->linear[i].at, pair_of(l, layer, i)->a);
	return stack_pack(l, &s, &y->a[input]);
}

static int read_embed(struct adapter_loader *l)
{
	struct adapter_embed *e = &l->a->embed;
	const struct tensor *a = l->embed ? l->embed->a : NULL;
	uint32_t vocab = l->m->config.vocab;
	float *row;

	if (!a)
		return CORE_OK;
	if (l->embed->by_token) {
		for (uint32_t i = 0; i < vocab; i++)
			tensor_row_f32(a, i, e->a + (size_t)i * e->rank);
		return CORE_OK;
	}
	row = malloc((size_t)vocab * sizeof(float));
	if (!row)
		return core_fail(l->err, CORE_ENOMEM, "%s: no memory for a row of %s", l->path, a->name);
	for (uint32_t k = 0; k < e->rank; k++) {
		tensor_row_f32(a, k, row);
		for (uint32_t i = 0; i < vocab; i++)
			e->a[(size_t)i * e->rank + k] = row[i];
	}
	free(row);
	return CORE_OK;
}

/* ---- DoRA: y = magnitude / norm(W + scale * B A) * (W x + scale * B A x), row by row of W as this model has it ---- */

struct gain_run {
	const struct lora_pair *p;
	const struct matrix *w;
	const float *a;              /* [rank][cols] */
	float *gain;                 /* in: magnitudes; out: gains */
	atomic_bool no_memory, zero; /* zero: a row without length */
};

static void gain_part(void *arg, uint32_t block)
{
	struct gain_run *g = arg;
	uint32_t cols = g->w->cols, end = (block + 1) * LANES < g->w->rows ? (block + 1) * LANES : g->w->rows;
	float *w = malloc(2 * (size_t)cols * sizeof(float)), *d = w + cols, b[LORA_RANK_MAX];

	if (!w) {
		atomic_store(&g->no_memory, true);
		return;
	}
	for (uint32_t r = block * LANES; r < end; r++) {
		double sum = 0;

		matrix_row_f32(g->w, r, w);
		tensor_row_f32(g->p->b, r, b);
		memset(d, 0, cols * sizeof(float));
		for (uint32_t k = 0; k < g->p->rank; k++)
			for (uint32_t i = 0; i < cols; i++)
				d[i] += b[k] * g->a[(size_t)k * cols + i];
		for (uint32_t i = 0; i < cols; i++) {
			double v = (double)w[i] + (double)g->p->scale * d[i];

			sum += v * v;
		}
		if (!(sum > 0))
			atomic_store(&g->zero, true);
		g->gain[r] = (float)(g->gain[r] / sqrt(sum));
	}
	free(w);
}

static int make_gain(struct adapter_loader *l, struct pool *pool, uint32_t layer, unsigned linear)
{
	const struct lora_pair *p = pair_of(l, layer, linear);
	struct gain_run g = {.p = p, .w = base_of(l->m, layer, linear), .gain = l->a->layers[layer].linear[linear].gain};
	float *a = malloc((size_t)p->rank * g.w->cols * sizeof(float));

	if (!a)
		return core_fail(l->err, CORE_ENOMEM, "%s: no memory for a factor", l->path);
	for (uint32_t k = 0; k < p->rank; k++)
		tensor_row_f32(p->a, k, a + (size_t)k * g.w->cols);
	g.a = a;
	tensor_row_f32(p->magnitude, 0, g.gain);
	pool_run(pool, gain_part, &g, g.w->blocks);
	free(a);
	if (g.no_memory)
		return core_fail(l->err, CORE_ENOMEM, "%s: no memory for rows of the base", l->path);
	return g.zero ? core_fail(l->err, CORE_EFORMAT, "%s: tensor %s: a row of the merged weight has no length", l->path,
				  p->magnitude->name)
		      : CORE_OK;
}

static int make_gains(struct adapter_loader *l)
{
	struct pool *pool = NULL;
	int rc = pool_new(&pool, 0, l->err);

	for (uint32_t i = 0; i < l->a->n_layers && !rc; i++)
		for (unsigned k = 0; k < CORE_LINEARS && !rc; k++)
			if (pair_of(l, i, k))
				rc = make_gain(l, pool, i, k);
	pool_free(pool);
	return rc;
}

/* ---- the whole ---- */

static void describe(struct adapter_loader *l)
{
	struct core_adapter_info *info = &l->a->info;

	snprintf(info->kind, sizeof(info->kind), "%s", l->a->dora ? "dora" : "lora");
	info->rank_min = UINT32_MAX;
	for (size_t i = 0; i < l->file.n_pairs; i++) {
		const struct lora_pair *p = &l->file.pairs[i];

		info->rank_min = p->rank < info->rank_min ? p->rank : info->rank_min;
		info->rank_max = p->rank > info->rank_max ? p->rank : info->rank_max;
		info->parameters +=
			p->a->dims[0] * p->a->dims[1] + p->b->dims[0] * p->b->dims[1] + (p->magnitude ? p->magnitude->dims[0] : 0);
	}
	info->modules = (uint32_t)l->file.n_pairs;
	info->bytes = l->a->arena_bytes + sizeof(*l->a) + l->a->n_layers * sizeof(l->a->layers[0]);
}

/* The ranks' B (A x) add up to the whole's: they are cut as W is, and the sum over ranks takes W x + B (A x) of each. */
static int cut_pairs(struct adapter_loader *l)
{
	int rc = CORE_OK;

	if (l->m->ranks == 1)
		return CORE_OK;
	if (l->file.dora)
		return core_fail(l->err, CORE_EUNSUPPORTED, "%s: DoRA divides by the lengths of the base's rows: a rank holds parts of them",
				 l->path);
	l->parts = calloc(l->file.n_pairs + 1, sizeof(l->parts[0]));
	if (!l->parts)
		return core_fail(l->err, CORE_ENOMEM, "%s: no memory for the list of modules", l->path);
	for (size_t i = 0; i < l->file.n_pairs && !rc; i++) {
		struct rank_pair *to = &l->parts[i];
		const struct lora_pair *p = &l->file.pairs[i];
		enum shard_axis axis = shard_axis_of(p->kind);
		const struct tensor **cut = axis == SHARD_INPUTS ? &to->pair.a : &to->pair.b;

		to->pair = *p;
		if (p->kind == LORA_EMBED)
			continue;
		rc = shard_tensor(&to->part, *cut, axis, l->m->rank, l->m->ranks, l->err);
		*cut = &to->part;
	}
	return rc;
}

static int index_pairs(struct adapter_loader *l)
{
	l->pair = calloc((size_t)l->m->config.layers * CORE_LINEARS, sizeof(l->pair[0]));
	if (!l->pair)
		return core_fail(l->err, CORE_ENOMEM, "%s: no memory for the list of modules", l->path);
	for (size_t i = 0; i < l->file.n_pairs; i++) {
		const struct lora_pair *p = l->parts ? &l->parts[i].pair : &l->file.pairs[i];

		if (p->kind == LORA_EMBED)
			l->embed = p;
		else
			l->pair[(size_t)p->layer * CORE_LINEARS + p->kind] = p;
	}
	return CORE_OK;
}

static int pack_all(struct adapter_loader *l)
{
	int rc = read_embed(l);

	if (!rc)
		rc = hash_all(l);
	for (uint32_t i = 0; i < l->a->n_layers && !rc; i++) {
		for (unsigned k = 0; k < CORE_LINEARS && !rc; k++)
			if (pair_of(l, i, k))
				rc = pack_b(l, &l->a->layers[i].linear[k].b, pair_of(l, i, k));
		for (unsigned k = 0; k < ADAPTER_INPUTS && !rc; k++)
			rc = pack_a(l, i, (enum adapter_input)k);
	}
	if (!rc && l->embed)
		rc = pack_b(l, &l->a->embed.b, l->embed);
	return rc || !l->a->dora ? rc : make_gains(l);
}

static int load(struct adapter_loader *l)
{
	int rc = lora_open(&l->file, l->path, &l->m->whole, l->err);

	for (size_t i = 0; i < l->file.n_copies && !rc; i++)
		rc = check_copy(l, &l->file.copies[i]);
	if (!rc)
		rc = cut_pairs(l);
	if (!rc)
		rc = index_pairs(l);
	l->a->dora = l->file.dora;
	l->a->info.exact = l->a->dora || !l->m->small_factors; /* a DoRA's gains were made for its own factors */
	if (!rc)
		rc = plan(l);
	if (!rc)
		rc = pack_all(l);
	if (!rc)
		describe(l);
	return rc;
}

int core_adapter_load(struct core_adapter **out, const struct core_model *m, const char *path, struct core_error *err)
{
	struct adapter_loader l = {.m = m, .path = path, .err = err};
	int rc;

	l.a = calloc(1, sizeof(*l.a));
	if (!l.a)
		return core_fail(err, CORE_ENOMEM, "no memory for an adapter");
	l.a->model = m;
	l.a->refs = 1;
	rc = load(&l);
	lora_close(&l.file);
	free(l.pair);
	free(l.parts);
	if (rc)
		core_adapter_unref(l.a);
	else
		*out = l.a;
	return rc;
}

const struct core_adapter_info *core_adapter_info(const struct core_adapter *a)
{
	return &a->info;
}

struct core_adapter *core_adapter_ref(struct core_adapter *a)
{
	atomic_fetch_add(&a->refs, 1);
	return a;
}

void core_adapter_unref(struct core_adapter *a)
{
	if (!a || atomic_fetch_sub(&a->refs, 1) > 1)
		return;
	memory_unmap(a->arena, a->arena_bytes);
	free(a->layers);
	free(a);
}
