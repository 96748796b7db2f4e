/* llama.c: one forward pass over a batch of rows, any rows of any sequences. Read llama_forward() first.
 *
 * Every step is a loop over rows, or over parts of a matrix, shared out to the pool; it ends before the next one begins. */
#include "config.h"
#include "llama.h"

#include <string.h>

#include "project.h"

/* ---- steps over rows ---- */

/* x += d. Lanes of 16 become vectors. */
static void add_row(float *restrict x, const float *restrict d, uint32_t n)
{
	uint32_t k = 0;

	for (; k + LANES <= n; k += LANES)
		for (uint32_t j = 0; j < LANES; j++)
			x[k + j] += d[k + j];
	for (; k < n; k++)
		x[k] += d[k];
}

struct norm_step {
	struct core_ctx *c;
	const float *weight;
	bool add;		/* x += delta first */
	const uint32_t *from;	/* which row of x becomes row i of h; NULL: the i-th */
};

static void norm_row(void *arg, uint32_t i)
{
	struct norm_step *s = arg;
	struct core_ctx *c = s->c;
	uint32_t from = s->from ? s->from[i] : i, dim = c->model->config.dim;
	float *x = c->x.data + from * c->x.ld;

	if (s->add)
		add_row(x, c->delta.data + from * c->delta.ld, dim);
	c->ops->rmsnorm(c->h.data + i * c->h.ld, x, s->weight, dim, c->model->config.norm_eps);
}

static void embed_row(void *arg, uint32_t i)
{
	struct core_ctx *c = arg;

	matrix_row_f32(&c->model->embed, (uint32_t)c->rows[i].token, c->x.data + i * c->x.ld);
	weave_embed(c, i);
	rope_angles(c->cosine.data + i * c->cosine.ld, c->sine.data + i * c->sine.ld, c->model->rope, c->position[i]);
}

struct layer_step {
	struct core_ctx *c;
	uint32_t layer;
};

/* Rotates q and k, and files k and v under their position. */
static void store_row(void *arg, uint32_t i)
{
	struct layer_step *s = arg;
	struct core_ctx *c = s->c;
	const struct llama_config *cf = &c->model->config;
	const float *cosine = c->cosine.data + i * c->cosine.ld, *sine = c->sine.data + i * c->sine.ld;
	float *k = c->k.data + i * c->k.ld, *v = c->v.data + i * c->v.ld;
	struct kv_view view;

	rope_rotate(c->q.data + i * c->q.ld, cf->heads, cf->head_dim / 2, cosine, sine);
	rope_rotate(k, cf->kv_heads, cf->head_dim / 2, cosine, sine);
	for (uint32_t h = 0; h < cf->kv_heads; h++) {
		kv_view(&view, &c->kv, c->rows[i].seq, s->layer, h);
		c->ops->kv_store(&view, c->position[i], k + h * cf->head_dim, v + h * cf->head_dim);
	}
}

/* Prompt rows have attention of their own. */
static attention_fn *attention_of(const struct core_ctx *c, enum core_path path)
{
	bool own = path == CORE_PROMPT && c->kv.shape.kind != KV_F32;

	return own ? c->ops->attention_prompt : c->ops->attention;
}

/* Neighbours of one sequence and one path from order[first] on; returns how many. */
static uint32_t tile_rows(const struct core_ctx *c, uint32_t first, uint32_t left)
{
	uint32_t shared = c->model->config.heads / c->model->config.kv_heads, n = 1;
	enum core_path path = c->rows[c->order[first]].path;
	uint32_t queries = attention_of(c, path) == c->ops->attention ? ATTENTION_QUERIES : ATTENTION_PROMPT;
	uint32_t most = shared < queries ? queries / shared : 1;

	while (n < left && n < most && c->rows[c->order[first + n]].path == path)
		n++;
	return n;
}

/* The batch's rows by sequence, in tiles of neighbours. How many make a tile is a matter of speed alone. */
static void plan_tiles(struct core_ctx *c)
{
	uint32_t at = 0;

	for (uint32_t i = 0; i < c->n_touched; i++) {
		c->touched[i]->first = at;
		at += c->touched[i]->pending;
	}
	for (uint32_t i = 0; i < c->m; i++)
		c->order[c->rows[i].seq->first + c->position[i] - c->rows[i].seq->len] = i;
	c->n_tiles = 0;
	for (uint32_t i = 0; i < c->n_touched; i++) {
		const struct core_seq *s = c->touched[i];

		for (uint32_t k = 0, n; k < s->pending; k += n) {
			n = tile_rows(c, s->first + k, s->pending - k);
			c->tiles[c->n_tiles++] = (struct row_tile){ s->first + k, n };
		}
	}
}

/* Tiles of one KV head follow each other: those of one sequence find its keys in the cache. */
static void attend_part(void *arg, uint32_t part)
{
	struct layer_step *s = arg;
	struct core_ctx *c = s->c;
	const struct llama_config *cf = &c->model->config;
	const struct row_tile *own = &c->tiles[part % c->n_tiles];
	uint32_t h = part / c->n_tiles, shared = cf->heads / cf->kv_heads;
	const uint32_t *row = c->order + own->first;
	size_t at = (size_t)h * shared * cf->head_dim;
	struct attention_tile t = { .rows = own->n, .heads = shared, .n_keys = c->position[row[0]] + 1 };

	kv_view(&t.kv, &c->kv, c->rows[row[0]].seq, s->layer, h);
	for (uint32_t i = 0; i < own->n; i++) {
		t.q[i] = c->q.data + row[i] * c->q.ld + at;
		t.out[i] = c->a.data + row[i] * c->a.ld + at;
	}
	attention_of(c, c->rows[row[0]].path)(&t);
}

static void attend(struct core_ctx *c, uint32_t layer)
{
	struct layer_step s = { c, layer };

	pool_run(c->pool, store_row, &s, c->m);
	pool_run(c->pool, attend_part, &s, c->n_tiles * c->model->config.kv_heads);
}

static void swiglu_row(void *arg, uint32_t i)
{
	struct core_ctx *c = arg;
	float *gate = c->gate.data + i * c->gate.ld;

	c->ops->swiglu(gate, gate, c->up.data + i * c->up.ld, c->model->config.ffn_dim);
}

/* ---- linears ---- */

/* Up to three linears of the same input, with what the blends add to them. */
static void project(struct core_ctx *c, uint32_t layer, enum adapter_input which, const struct buffer *x, struct input input,
		    const struct linear *l, uint32_t n)
{
	struct project s;

	project_begin(&s, c, x, input, c->m, c->m_prompt, l, n);
	if (c->weave.n)
		weave(&s, layer, which);
	else
		project_run(&s);
}

/* The o and down of a rank read a part of the inputs: delta is a part of the sum, base and blends alike. */
static void reduce(struct core_ctx *c)
{
	if (c->reduce.sum)
		c->reduce.sum(c->reduce.arg, c->delta.data, c->m, c->model->config.dim, c->delta.ld);
}

static void logits(struct core_ctx *c)
{
	struct norm_step last = { c, c->model->norm, true, c->wanted };
	struct project s;

	project_begin(&s, c, &c->h, (struct input){ norm_row, &last }, c->n_logits, 0, &(struct linear){ &c->model->head, &c->logits }, 1);
	project_run(&s);
}

/* ---- the pass ---- */

static void layer(struct core_ctx *c, const struct layer *y, uint32_t i)
{
	const struct linear qkv[] = { { &y->q, &c->q }, { &y->k, &c->k }, { &y->v, &c->v } };
	const struct linear o[] = { { &y->o, &c->delta } };
	const struct linear gate_up[] = { { &y->gate, &c->gate }, { &y->up, &c->up } };
	const struct linear down[] = { { &y->down, &c->delta } };
	struct norm_step attn = { c, y->attn_norm, i > 0, NULL }, ffn = { c, y->ffn_norm, true, NULL };
	struct input normed = { norm_row, &attn }, ready = { NULL, NULL }, normed_again = { norm_row, &ffn }, gated = { swiglu_row, c };

	project(c, i, ADAPTER_ATTN, &c->h, normed, qkv, 3);		/* q        [m][heads][head_dim], k and v [m][kv_heads][head_dim] */
	attend(c, i);							/* a        [m][heads][head_dim] */
	project(c, i, ADAPTER_O, &c->a, ready, o, 1);			/* delta    [m][dim] */
	reduce(c);
	project(c, i, ADAPTER_MLP, &c->h, normed_again, gate_up, 2);	/* gate, up [m][ffn], from h [m][dim] */
	project(c, i, ADAPTER_DOWN, &c->gate, gated, down, 1);		/* delta    [m][dim] */
	reduce(c);
}

void llama_forward(struct core_ctx *c)
{
	const struct core_model *m = c->model;

	plan_tiles(c);
	pool_run(c->pool, embed_row, c, c->m);			/* x        [m][dim] */
	for (uint32_t i = 0; i < m->config.layers; i++)
		layer(c, &m->layers[i], i);			/* x, but for the last delta */
	if (c->n_logits)
		logits(c);					/* h [n_logits][dim]; logits [n_logits][vocab] */
}
