/* llama.c: one forward pass over a batch of rows, any rows of any sequences. Read llama_forward() first.
 *
 * Every step is a loop over rows, or over parts of a matrix, shared out to the pool; it ends before the next one begins. */
#include "config.h"
#include "llama.h"

#include <string.h>

/* ---- steps over rows ---- */

struct norm_step {
	struct core_ctx *c;
	const float *weight;
	bool add;		/* x += delta first */
};

static void norm_row(void *arg, uint32_t i)
{
	struct norm_step *s = arg;
	struct core_ctx *c = s->c;
	float *x = c->x.data + i * c->x.ld;
	const float *d = c->delta.data + i * c->delta.ld;

	for (uint32_t k = 0; s->add && k < c->model->config.dim; k++)
		x[k] += d[k];
	c->ops->rmsnorm(c->h.data + i * c->h.ld, x, s->weight, c->model->config.dim, c->model->config.norm_eps);
}

static void norm(struct core_ctx *c, const float *weight, bool add)
{
	struct norm_step s = { c, weight, add };

	pool_run(c->pool, norm_row, &s, c->m);
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

static void attend_part(void *arg, uint32_t part)
{
	struct layer_step *s = arg;
	struct core_ctx *c = s->c;
	const struct llama_config *cf = &c->model->config;
	uint32_t i = part / cf->kv_heads, h = part % cf->kv_heads, shared = cf->heads / cf->kv_heads;
	size_t at = (size_t)h * shared * cf->head_dim;
	struct kv_view view;

	kv_view(&view, &c->kv, c->rows[i].seq, s->layer, h);
	c->ops->attention(c->a.data + i * c->a.ld + at, c->q.data + i * c->q.ld + at, shared, &view, c->position[i] + 1);
}

static void attend(struct core_ctx *c, uint32_t layer)
{
	struct layer_step s = { c, layer };

	pool_run(c->pool, store_row, &s, c->m);
	pool_run(c->pool, attend_part, &s, c->m * c->model->config.kv_heads);
}

static void swiglu_row(void *arg, uint32_t i)
{
	struct core_ctx *c = arg;
	float *gate = c->gate.data + i * c->gate.ld;

	c->ops->swiglu(gate, gate, c->up.data + i * c->up.ld, c->model->config.ffn_dim);
}

/* ---- linears ---- */

struct linear {
	const struct matrix *w;
	struct buffer *out;
};

struct project_step {
	struct core_ctx *c;
	const struct buffer *x;
	uint32_t m, group, kpad;
	struct linear l[3];
	uint32_t n;
};

static struct quantized *quantized_for(struct core_ctx *c, uint32_t group)
{
	return &c->quantized[__builtin_ctz(group) - 4];
}

static void quantize_row(void *arg, uint32_t i)
{
	struct project_step *s = arg;
	struct quantized *z = quantized_for(s->c, s->group);
	size_t groups = s->kpad / s->group;

	s->c->ops->quantize(z->q + i * quantized_ld(s->kpad), z->scale + i * groups, z->sum + i * groups, s->x->data + i * s->x->ld,
			    s->l[0].w->cols, s->kpad, s->group);
}

static uint32_t chunks(const struct matrix *w)
{
	return (w->blocks + MATMUL_CHUNK - 1) / MATMUL_CHUNK;
}

static void project_part(void *arg, uint32_t part)
{
	struct project_step *s = arg;
	const struct linear *l = s->l;
	struct rows rows = { .f = s->x->data, .ld = s->x->ld };
	uint32_t b0, b1;

	for (; part >= chunks(l->w); l++)
		part -= chunks(l->w);
	if (l->w->kind == PACK_INT) {
		struct quantized *z = quantized_for(s->c, l->w->group);

		rows.q = z->q;
		rows.ldq = quantized_ld(l->w->kpad);
		rows.scale = z->scale;
		rows.sum = z->sum;
	}
	b0 = part * MATMUL_CHUNK;
	b1 = b0 + MATMUL_CHUNK < l->w->blocks ? b0 + MATMUL_CHUNK : l->w->blocks;
	s->c->ops->matmul(l->out->data, l->out->ld, l->w, &rows, s->m, b0, b1);
}

/* Up to three linears of the same input: x is quantised once per group size that they need, then all their parts run together. */
static void project(struct core_ctx *c, const struct buffer *x, uint32_t m, const struct linear *l, uint32_t n)
{
	struct project_step s = { .c = c, .x = x, .m = m, .n = n };
	uint32_t parts = 0, done = 0;

	for (uint32_t i = 0; i < n; i++) {
		s.l[i] = l[i];
		parts += chunks(l[i].w);
		s.group = l[i].w->group;
		s.kpad = l[i].w->kpad;
		if (s.group & ~done)
			pool_run(c->pool, quantize_row, &s, m);
		done |= s.group;
	}
	pool_run(c->pool, project_part, &s, parts);
}

/* ---- the pass ---- */

static void layer(struct core_ctx *c, const struct layer *y, uint32_t i)
{
	const struct linear qkv[] = { { &y->q, &c->q }, { &y->k, &c->k }, { &y->v, &c->v } };
	const struct linear o[] = { { &y->o, &c->delta } };
	const struct linear gate_up[] = { { &y->gate, &c->gate }, { &y->up, &c->up } };
	const struct linear down[] = { { &y->down, &c->delta } };

	norm(c, y->attn_norm, i > 0);				/* h        [m][dim] */
	project(c, &c->h, c->m, qkv, 3);			/* q        [m][heads][head_dim], k and v [m][kv_heads][head_dim] */
	weave(c, i, ADAPTER_ATTN, &c->h, (const struct buffer *[]){ &c->q, &c->k, &c->v });
	attend(c, i);						/* a        [m][heads][head_dim] */
	project(c, &c->a, c->m, o, 1);				/* delta    [m][dim] */
	weave(c, i, ADAPTER_O, &c->a, (const struct buffer *[]){ &c->delta });
	norm(c, y->ffn_norm, true);				/* h        [m][dim] */
	project(c, &c->h, c->m, gate_up, 2);			/* gate, up [m][ffn] */
	weave(c, i, ADAPTER_MLP, &c->h, (const struct buffer *[]){ &c->gate, &c->up });
	pool_run(c->pool, swiglu_row, c, c->m);			/* gate     [m][ffn] */
	project(c, &c->gate, c->m, down, 1);			/* delta    [m][dim] */
	weave(c, i, ADAPTER_DOWN, &c->gate, (const struct buffer *[]){ &c->delta });
}

/* Row i of delta: the i-th row that wants logits. */
static void gather_row(void *arg, uint32_t i)
{
	struct core_ctx *c = arg;

	memcpy(c->delta.data + i * c->delta.ld, c->h.data + c->wanted[i] * c->h.ld, c->model->config.dim * sizeof(float));
}

void llama_forward(struct core_ctx *c)
{
	const struct core_model *m = c->model;
	const struct linear head[] = { { &m->head, &c->logits } };

	pool_run(c->pool, embed_row, c, c->m);			/* x        [m][dim] */
	for (uint32_t i = 0; i < m->config.layers; i++)
		layer(c, &m->layers[i], i);			/* x, but for the last delta */
	norm(c, m->norm, true);					/* h        [m][dim] */
	pool_run(c->pool, gather_row, c, c->n_logits);		/* delta    [n_logits][dim] */
	if (c->n_logits)
		project(c, &c->delta, c->n_logits, head, 1);	/* logits   [n_logits][vocab] */
}
