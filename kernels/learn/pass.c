/* pass.c: read layer_forward() and layer_backward() first. Every step is a loop over rows, or over parts of a product, that is
 * shared out to the pool. */
#include "config.h"
#include "pass.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/memory.h"
#include "kernels/model.h"
#include "kernels/ops/expo.h"
#include "product.h"

enum { HEAD_ROWS = 64 }; /* rows of logits at a time */

struct rows_of {
	float *data; /* [max_rows][ld] */
	size_t ld;
};

struct pass {
	const struct core_model *model;
	const struct ops *ops;
	struct pool *pool;
	struct pass_params params;
	const struct core_adapter *adapter[CORE_BLEND_MAX];
	uint32_t n_adapters;

	/* the batch in hand */
	const struct pass_weights *weights;
	const struct core_example *examples;
	const struct pass_gradient *gradient;
	uint32_t n, m;                        /* examples, rows */
	uint32_t *first, *example, *position; /* [max_rows] first row of an example; example and position of a row */
	uint32_t *wanted, n_wanted;           /* [max_rows] rows whose logits are wanted */
	int32_t *token;                       /* [max_rows] that a row reads */

	struct rows_of *x;          /* [layers + 1] inputs of the layers, and what the last one gives */
	struct rows_of mid, h1, h2; /* after attention; normed inputs */
	struct rows_of q, k, v, a;  /* rotated; attention's output */
	struct rows_of gate, up, act;
	struct rows_of g, gh; /* gradients: of x, of a normed input */
	struct rows_of gq, gk, gv, ga, ggate, gup, gact;
	struct rows_of cosine, sine, minus_sine;
	struct rows_of low[ADAPTER_INPUTS][CORE_BLEND_MAX]; /* h = A x */
	struct rows_of u;
	struct rows_of scores;     /* [max_rows][2 * kv_heads]: see attend() */
	struct rows_of hn, logits; /* [HEAD_ROWS] */
	double *row_loss;          /* [max_rows] */
	unsigned char *workspace;
	size_t bytes;
};

/* ---- workspace: one block, cut in two walks (first to measure, then to place) ---- */

static void *cut(struct pass *p, size_t *at, size_t bytes)
{
	void *here = p->workspace ? p->workspace + *at : NULL;

	*at += (bytes + 63) & ~(size_t)63;
	return here;
}

static void cut_rows(struct pass *p, size_t *at, struct rows_of *r, size_t width, size_t rows)
{
	r->ld = (width + 15) & ~(size_t)15;
	r->data = cut(p, at, r->ld * rows * sizeof(float));
}

static size_t low_width(const struct core_adapter *a, unsigned input)
{
	size_t most = 0;

	for (uint32_t i = 0; i < a->n_layers; i++)
		most = a->layers[i].a[input].rows > most ? a->layers[i].a[input].rows : most;
	return most;
}

static void cut_adapters(struct pass *p, size_t *at)
{
	size_t widest = 0;

	for (uint32_t k = 0; k < p->n_adapters; k++) {
		for (unsigned i = 0; i < ADAPTER_INPUTS; i++) {
			size_t width = p->params.merged ? 0 : low_width(p->adapter[k], i);

			widest = width > widest ? width : widest;
			cut_rows(p, at, &p->low[i][k], width, p->params.max_rows);
		}
		widest = p->adapter[k]->embed.rank > widest ? p->adapter[k]->embed.rank : widest;
	}
	cut_rows(p, at, &p->u, widest, p->params.max_rows);
}

static size_t cut_all(struct pass *p)
{
	const struct llama_config *c = &p->model->config;
	uint32_t heads = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim, rows = p->params.max_rows;
	struct rows_of *dim[] = {&p->mid, &p->h1, &p->h2, &p->g, &p->gh};
	struct rows_of *wide[] = {&p->q, &p->a, &p->gq, &p->ga}, *narrow[] = {&p->k, &p->v, &p->gk, &p->gv};
	struct rows_of *ffn[] = {&p->gate, &p->up, &p->act, &p->ggate, &p->gup, &p->gact};
	struct rows_of *half[] = {&p->cosine, &p->sine, &p->minus_sine};
	size_t at = 0;

	p->first = cut(p, &at, rows * sizeof(uint32_t));
	p->example = cut(p, &at, rows * sizeof(uint32_t));
	p->position = cut(p, &at, rows * sizeof(uint32_t));
	p->wanted = cut(p, &at, rows * sizeof(uint32_t));
	p->token = cut(p, &at, rows * sizeof(int32_t));
	p->row_loss = cut(p, &at, rows * sizeof(double));
	for (uint32_t i = 0; i <= c->layers; i++)
		cut_rows(p, &at, &p->x[i], c->dim, rows);
	for (size_t i = 0; i < sizeof(dim) / sizeof(dim[0]); i++)
		cut_rows(p, &at, dim[i], c->dim, rows);
	for (size_t i = 0; i < sizeof(wide) / sizeof(wide[0]); i++)
		cut_rows(p, &at, wide[i], heads, rows);
	for (size_t i = 0; i < sizeof(narrow) / sizeof(narrow[0]); i++)
		cut_rows(p, &at, narrow[i], kv, rows);
	for (size_t i = 0; i < sizeof(ffn) / sizeof(ffn[0]); i++)
		cut_rows(p, &at, ffn[i], c->ffn_dim, rows);
	for (size_t i = 0; i < sizeof(half) / sizeof(half[0]); i++)
		cut_rows(p, &at, half[i], c->head_dim / 2, rows);
	cut_rows(p, &at, &p->scores, 2 * (size_t)c->kv_heads, rows);
	p->scores.ld = 2 * (size_t)c->kv_heads;
	cut_rows(p, &at, &p->hn, c->dim, HEAD_ROWS);
	cut_rows(p, &at, &p->logits, c->vocab, HEAD_ROWS);
	cut_adapters(p, &at);
	return at;
}

/* ---- making ---- */

static int core_check_params(const struct pass_params *q, struct core_error *err)
{
	if (q->max_rows == 0 || q->max_rows > 65536 || q->n_adapters > CORE_BLEND_MAX)
		return core_fail(err, CORE_EINVAL, "%u rows and %u adapters: expected 1 to 65536, and at most %d", q->max_rows,
				 q->n_adapters, CORE_BLEND_MAX);
	if (q->model->ranks > 1)
		return core_fail(err, CORE_EUNSUPPORTED, "the model is rank %u of %u: gradients need all of it", q->model->rank, q->model->ranks);
	for (uint32_t k = 0; k < q->n_adapters; k++) {
		if (q->adapters[k]->model != q->model)
			return core_fail(err, CORE_EINVAL, "adapter %.12s was loaded for another model",
					 q->adapters[k]->info.digest);
		if (q->adapters[k]->dora && !(q->merged && q->n_adapters == 1))
			return core_fail(err, CORE_EUNSUPPORTED, "adapter %.12s is a DoRA: it is no part of a sum with weights",
					 q->adapters[k]->info.digest);
	}
	return CORE_OK;
}

static int build(struct pass *p, struct core_error *err)
{
	enum core_cpu cpu;
	int rc = core_cpu_pick(&cpu, err);

	if (rc)
		return rc;
	p->ops = ops_for(cpu);
	p->x = calloc(p->model->config.layers + 1, sizeof(p->x[0]));
	if (!p->x)
		return core_fail(err, CORE_ENOMEM, "no memory for %u layers", p->model->config.layers);
	p->bytes = cut_all(p);
	p->workspace = memory_map(p->bytes);
	if (!p->workspace)
		return core_fail(err, CORE_ENOMEM, "no memory for %zu bytes of activations", p->bytes);
	cut_all(p);
	return pool_new(&p->pool, p->params.threads, err);
}

int pass_new(struct pass **out, const struct pass_params *params, struct core_error *err)
{
	int rc = core_check_params(params, err);
	struct pass *p;

	if (rc)
		return rc;
	p = calloc(1, sizeof(*p));
	if (!p)
		return core_fail(err, CORE_ENOMEM, "no memory for a pass");
	p->params = *params;
	p->model = params->model;
	p->n_adapters = params->n_adapters;
	if (p->n_adapters)
		memcpy(p->adapter, params->adapters, p->n_adapters * sizeof(p->adapter[0]));
	rc = build(p, err);
	if (rc)
		pass_free(p);
	else
		*out = p;
	return rc;
}

void pass_free(struct pass *p)
{
	if (!p)
		return;
	pool_free(p->pool);
	memory_unmap(p->workspace, p->bytes);
	free(p->x);
	free(p);
}

/* ---- the batch ---- */

static int check_example(const struct pass *p, const struct core_example *e, uint32_t i, struct core_error *err)
{
	if (e->n < 2 || e->from < 1 || e->from >= e->n)
		return core_fail(err, CORE_EINVAL, "example %u: %u tokens, predicted from %u on: expected 1 to %u", i, e->n,
				 e->from, e->n ? e->n - 1 : 0);
	for (uint32_t k = 0; k < e->n; k++)
		if (e->tokens[k] < 0 || (uint32_t)e->tokens[k] >= p->model->config.vocab)
			return core_fail(err, CORE_EINVAL, "example %u: token %d: expected 0 to %u", i, e->tokens[k],
					 p->model->config.vocab - 1);
	return CORE_OK;
}

static int take_batch(struct pass *p, const struct pass_weights *w, const struct core_example *e, uint32_t n, bool all,
		      struct core_error *err)
{
	p->weights = w;
	p->examples = e;
	p->n = n;
	p->m = p->n_wanted = 0;
	for (uint32_t i = 0; i < n; i++) {
		int rc = check_example(p, &e[i], i, err);

		if (rc)
			return rc;
		if (e[i].n - 1 > p->params.max_rows - p->m)
			return core_fail(err, CORE_EINVAL, "example %u: the batch has more than %u rows", i, p->params.max_rows);
		p->first[i] = p->m;
		for (uint32_t k = 0; k + 1 < e[i].n; k++, p->m++) {
			p->token[p->m] = e[i].tokens[k];
			p->example[p->m] = i;
			p->position[p->m] = k;
			if (all || k + 1 >= e[i].from)
				p->wanted[p->n_wanted++] = p->m;
		}
	}
	return p->m ? CORE_OK : core_fail(err, CORE_EINVAL, "a batch without examples");
}

static bool told_to_stop(const struct pass *p)
{
	return p->params.stop && p->params.stop(p->params.stop_arg);
}

static int stopped(struct core_error *err)
{
	return core_fail(err, CORE_ECANCELLED, "stopped");
}

/* ---- linears ---- */

static float *row(const struct rows_of *r, uint32_t i)
{
	return r->data + i * r->ld;
}

static const struct matrix *base_of(const struct pass *p, uint32_t layer, unsigned linear)
{
	const struct layer *y = &p->model->layers[layer];
	const struct matrix *const w[CORE_LINEARS] = {&y->q, &y->k, &y->v, &y->o, &y->gate, &y->up, &y->down};

	return w[linear];
}

static size_t weight_at(const struct pass *p, uint32_t k, uint32_t layer, unsigned linear)
{
	return ((size_t)k * p->model->config.layers + layer) * CORE_LINEARS + linear;
}

/* lam * s of adapter k. */
static float factor_of(const struct pass *p, uint32_t k, uint32_t layer, unsigned linear)
{
	return (float)((double)p->weights->linear[weight_at(p, k, layer, linear)] *
		       p->adapter[k]->layers[layer].linear[linear].scale);
}

static struct product times(const struct pass *p, const struct matrix *w, float factor, bool add)
{
	return (struct product){.ops = p->ops, .pool = p->pool, .w = w, .factor = factor, .add = add};
}

/* y = (W + sum of lam s B A) x, as one matrix. */
static void linear_merged(struct pass *p, uint32_t layer, unsigned linear, const struct rows_of *x, const struct rows_of *y)
{
	struct product_delta delta[CORE_BLEND_MAX];
	struct product t = times(p, base_of(p, layer, linear), 1, false);

	for (uint32_t k = 0; k < p->n_adapters; k++) {
		const struct adapter_layer *a = &p->adapter[k]->layers[layer];
		const struct adapter_linear *l = &a->linear[linear];

		if (l->rank)
			delta[t.n_delta++] = (struct product_delta){&l->b,   &a->a[adapter_input_of(linear)], l->at, l->rank,
								    l->gain, factor_of(p, k, layer, linear)};
	}
	t.delta = delta;
	product(&t, y->data, y->ld, x->data, x->ld, p->m);
}

/* h = A x, for all linears of one input. */
static void lower(struct pass *p, uint32_t layer, enum adapter_input input, const struct rows_of *x)
{
	for (uint32_t k = 0; k < p->n_adapters && !p->params.merged; k++) {
		const struct matrix *a = &p->adapter[k]->layers[layer].a[input];
		struct product t = times(p, a, 1, false);

		if (a->blocks)
			product(&t, p->low[input][k].data, p->low[input][k].ld, x->data, x->ld, p->m);
	}
}

/* y = W x + sum of lam s B h. */
static void linear(struct pass *p, uint32_t layer, unsigned linear, const struct rows_of *x, const struct rows_of *y)
{
	enum adapter_input input = adapter_input_of(linear);
	struct product base = times(p, base_of(p, layer, linear), 1, false);

	if (p->params.merged) {
		linear_merged(p, layer, linear, x, y);
		return;
	}
	product(&base, y->data, y->ld, x->data, x->ld, p->m);
	for (uint32_t k = 0; k < p->n_adapters; k++) {
		const struct adapter_linear *l = &p->adapter[k]->layers[layer].linear[linear];
		struct product t = times(p, &l->b, factor_of(p, k, layer, linear), true);

		if (l->rank)
			product(&t, y->data, y->ld, p->low[input][k].data + l->at, p->low[input][k].ld, p->m);
	}
}

static double inner(const struct rows_of *a, size_t at, const struct rows_of *b, uint32_t m, uint32_t n)
{
	double sum = 0;

	for (uint32_t i = 0; i < m; i++)
		for (uint32_t k = 0; k < n; k++)
			sum += (double)row(a, i)[at + k] * row(b, i)[k];
	return sum;
}

/* gx (+)= W^T g + sum of lam s A^T B^T g, and the gradient of lam. `low` still holds the h of this layer. */
static void linear_back(struct pass *p, uint32_t layer, unsigned linear, const struct rows_of *gx, const struct rows_of *g,
			bool add)
{
	enum adapter_input input = adapter_input_of(linear);
	struct product base = times(p, base_of(p, layer, linear), 1, add);

	product_back(&base, gx->data, gx->ld, g->data, g->ld, p->m);
	for (uint32_t k = 0; k < p->n_adapters; k++) {
		const struct adapter_layer *a = &p->adapter[k]->layers[layer];
		const struct adapter_linear *l = &a->linear[linear];
		struct product up = times(p, &l->b, 1, false), down = times(p, &a->a[input], factor_of(p, k, layer, linear), true);

		if (!l->rank)
			continue;
		/* u takes the place that this linear has in the stacked A; what belongs to the others is zero. */
		memset(p->u.data, 0, p->u.ld * p->m * sizeof(float));
		product_back(&up, p->u.data + l->at, p->u.ld, g->data, g->ld, p->m);
		p->gradient->linear[weight_at(p, k, layer, linear)] +=
			l->scale * inner(&p->low[input][k], l->at, &(struct rows_of){p->u.data + l->at, p->u.ld}, p->m, l->rank);
		product_back(&down, gx->data, gx->ld, p->u.data, p->u.ld, p->m);
	}
}

/* ---- the embedding ---- */

static void embed_row(void *arg, uint32_t i)
{
	struct pass *p = arg;

	matrix_row_f32(&p->model->embed, (uint32_t)p->token[i], row(&p->x[0], i));
	rope_angles(row(&p->cosine, i), row(&p->sine, i), p->model->rope, p->position[i]);
	for (uint32_t k = 0; k < p->model->config.head_dim / 2; k++)
		row(&p->minus_sine, i)[k] = -row(&p->sine, i)[k];
}

/* u = the adapter's rows of the tokens. */
static void embed_low(struct pass *p, const struct adapter_embed *e)
{
	for (uint32_t i = 0; i < p->m; i++)
		memcpy(row(&p->u, i), e->a + (size_t)p->token[i] * e->rank, e->rank * sizeof(float));
}

static void embed(struct pass *p)
{
	pool_run(p->pool, embed_row, p, p->m);
	for (uint32_t k = 0; k < p->n_adapters; k++) {
		const struct adapter_embed *e = &p->adapter[k]->embed;
		struct product t = times(p, &e->b, (float)((double)p->weights->embed[k] * e->scale), true);

		if (!e->rank)
			continue;
		embed_low(p, e);
		product(&t, p->x[0].data, p->x[0].ld, p->u.data, p->u.ld, p->m);
	}
}

static void embed_back(struct pass *p)
{
	for (uint32_t k = 0; k < p->n_adapters; k++) {
		const struct adapter_embed *e = &p->adapter[k]->embed;
		struct product t = times(p, &e->b, e->scale, false);

		if (!e->rank)
			continue;
		embed_low(p, e);
		product(&t, p->gh.data, p->gh.ld, p->u.data, p->u.ld, p->m);
		p->gradient->embed[k] += inner(&p->gh, 0, &p->g, p->m, p->model->config.dim);
	}
}

/* ---- norms ---- */

struct norm_step {
	struct pass *p;
	const float *weight;
	const struct rows_of *x, *out, *g;
};

static void norm_row(void *arg, uint32_t i)
{
	struct norm_step *s = arg;
	const struct llama_config *c = &s->p->model->config;

	s->p->ops->rmsnorm(row(s->out, i), row(s->x, i), s->weight, c->dim, c->norm_eps);
}

static void norm(struct pass *p, const struct rows_of *out, const struct rows_of *x, const float *weight)
{
	struct norm_step s = {.p = p, .weight = weight, .x = x, .out = out};

	pool_run(p->pool, norm_row, &s, p->m);
}

/* out += the gradient of x, from g of weight[j] * x[j] * r, r = (mean of x^2 + eps)^-1/2 */
static void norm_back_row(void *arg, uint32_t i)
{
	struct norm_step *s = arg;
	const struct llama_config *c = &s->p->model->config;
	const float *x = row(s->x, i), *g = row(s->g, i);
	float *out = row(s->out, i);
	double square = 0, along = 0, r, pull;

	for (uint32_t k = 0; k < c->dim; k++) {
		square += (double)x[k] * x[k];
		along += (double)g[k] * s->weight[k] * x[k];
	}
	r = 1 / sqrt(square / c->dim + c->norm_eps);
	pull = along * r * r * r / c->dim;
	for (uint32_t k = 0; k < c->dim; k++)
		out[k] += (float)(r * g[k] * s->weight[k] - pull * x[k]);
}

static void norm_back(struct pass *p, const struct rows_of *out, const struct rows_of *x, const float *weight,
		      const struct rows_of *g)
{
	struct norm_step s = {.p = p, .weight = weight, .x = x, .out = out, .g = g};

	pool_run(p->pool, norm_back_row, &s, p->m);
}

/* ---- attention: one part per example and KV head, which walks its query heads and rows in order ---- */

static float dot(const float *restrict a, const float *restrict b, uint32_t n)
{
	float chain[8] = {0}, sum = 0;
	uint32_t k;

	for (k = 0; k + 8 <= n; k += 8)
		for (uint32_t j = 0; j < 8; j++)
			chain[j] += a[k + j] * b[k + j];
	for (; k < n; k++)
		sum += a[k] * b[k];
	for (uint32_t j = 0; j < 8; j++)
		sum += chain[j];
	return sum;
}

static void add_times(float *restrict y, const float *restrict x, float f, uint32_t n)
{
	for (uint32_t k = 0; k < n; k++)
		y[k] += f * x[k];
}

struct head {
	const struct pass *p;
	uint32_t first, rows, kv_at, dim; /* of the example; where the KV head begins in a row of k and v */
	float *prob, *slope;              /* [rows] each: scratch of this part */
};

static struct head head_of(const struct pass *p, uint32_t part)
{
	const struct llama_config *c = &p->model->config;
	uint32_t e = part / c->kv_heads, h = part % c->kv_heads, rows = p->examples[e].n - 1;
	float *scratch = row(&p->scores, p->first[e]) + 2 * (size_t)h * rows;

	return (struct head){p, p->first[e], rows, h * c->head_dim, c->head_dim, scratch, scratch + rows};
}

/* prob[t] = softmax over t <= i of q k[t] / sqrt(dim) */
static void softmax_scores(const struct head *h, uint32_t i, const float *q)
{
	float top = -INFINITY, sum = 0, scale = 1 / sqrtf((float)h->dim);

	for (uint32_t t = 0; t <= i; t++) {
		h->prob[t] = scale * dot(q, row(&h->p->k, h->first + t) + h->kv_at, h->dim);
		top = h->prob[t] > top ? h->prob[t] : top;
	}
	for (uint32_t t = 0; t <= i; t++)
		sum += h->prob[t] = expo(h->prob[t] - top);
	for (uint32_t t = 0; t <= i; t++)
		h->prob[t] /= sum;
}

static void attend_part(void *arg, uint32_t part)
{
	struct pass *p = arg;
	struct head h = head_of(p, part);
	uint32_t share = p->model->config.heads / p->model->config.kv_heads;

	for (uint32_t j = 0; j < share; j++)
		for (uint32_t i = 0; i < h.rows; i++) {
			size_t at = (size_t)h.kv_at * share + (size_t)j * h.dim;
			float *out = row(&p->a, h.first + i) + at;

			softmax_scores(&h, i, row(&p->q, h.first + i) + at);
			memset(out, 0, h.dim * sizeof(float));
			for (uint32_t t = 0; t <= i; t++)
				add_times(out, row(&p->v, h.first + t) + h.kv_at, h.prob[t], h.dim);
		}
}

/* From the gradient of one query head's output: of its query, and added to those of the keys and values that it saw. */
static void attend_back_row(struct pass *p, const struct head *h, uint32_t i, size_t at)
{
	const float *q = row(&p->q, h->first + i) + at, *g = row(&p->ga, h->first + i) + at;
	float *gq = row(&p->gq, h->first + i) + at, scale = 1 / sqrtf((float)h->dim), mean = 0;

	softmax_scores(h, i, q);
	for (uint32_t t = 0; t <= i; t++) {
		h->slope[t] = dot(g, row(&p->v, h->first + t) + h->kv_at, h->dim);
		mean += h->prob[t] * h->slope[t];
		add_times(row(&p->gv, h->first + t) + h->kv_at, g, h->prob[t], h->dim);
	}
	memset(gq, 0, h->dim * sizeof(float));
	for (uint32_t t = 0; t <= i; t++) {
		float s = scale * h->prob[t] * (h->slope[t] - mean);

		add_times(gq, row(&p->k, h->first + t) + h->kv_at, s, h->dim);
		add_times(row(&p->gk, h->first + t) + h->kv_at, q, s, h->dim);
	}
}

static void attend_back_part(void *arg, uint32_t part)
{
	struct pass *p = arg;
	struct head h = head_of(p, part);
	uint32_t share = p->model->config.heads / p->model->config.kv_heads;

	for (uint32_t i = 0; i < h.rows; i++) {
		memset(row(&p->gk, h.first + i) + h.kv_at, 0, h.dim * sizeof(float));
		memset(row(&p->gv, h.first + i) + h.kv_at, 0, h.dim * sizeof(float));
	}
	for (uint32_t j = 0; j < share; j++)
		for (uint32_t i = 0; i < h.rows; i++)
			attend_back_row(p, &h, i, (size_t)h.kv_at * share + (size_t)j * h.dim);
}

static void rotate_row(void *arg, uint32_t i)
{
	struct pass *p = arg;
	const struct llama_config *c = &p->model->config;

	rope_rotate(row(&p->q, i), c->heads, c->head_dim / 2, row(&p->cosine, i), row(&p->sine, i));
	rope_rotate(row(&p->k, i), c->kv_heads, c->head_dim / 2, row(&p->cosine, i), row(&p->sine, i));
}

/* A rotation's transpose turns the other way. */
static void rotate_back_row(void *arg, uint32_t i)
{
	struct pass *p = arg;
	const struct llama_config *c = &p->model->config;

	rope_rotate(row(&p->gq, i), c->heads, c->head_dim / 2, row(&p->cosine, i), row(&p->minus_sine, i));
	rope_rotate(row(&p->gk, i), c->kv_heads, c->head_dim / 2, row(&p->cosine, i), row(&p->minus_sine, i));
}

/* ---- the gate ---- */

static void swiglu_row(void *arg, uint32_t i)
{
	struct pass *p = arg;

	p->ops->swiglu(row(&p->act, i), row(&p->gate, i), row(&p->up, i), p->model->config.ffn_dim);
}

static void swiglu_back_row(void *arg, uint32_t i)
{
	struct pass *p = arg;
	const float *gate = row(&p->gate, i), *up = row(&p->up, i), *g = row(&p->gact, i);
	float *ggate = row(&p->ggate, i), *gup = row(&p->gup, i);

	for (uint32_t k = 0; k < p->model->config.ffn_dim; k++) {
		float s = 1 / (1 + expo(-gate[k]));

		gup[k] = g[k] * gate[k] * s;
		ggate[k] = g[k] * up[k] * s * (1 + gate[k] * (1 - s));
	}
}

/* ---- a layer ---- */

struct add_step {
	const struct rows_of *out, *a;
	uint32_t n;
};

static void add_row(void *arg, uint32_t i)
{
	struct add_step *s = arg;

	add_times(row(s->out, i), row(s->a, i), 1, s->n);
}

static void add(struct pass *p, const struct rows_of *out, const struct rows_of *a)
{
	struct add_step s = {out, a, p->model->config.dim};

	pool_run(p->pool, add_row, &s, p->m);
}

/* x[i] to x[i + 1]; what lies between stays for layer_backward(). again: x[i + 1] is there already. */
static void layer_forward(struct pass *p, uint32_t i, bool again)
{
	const struct layer *y = &p->model->layers[i];
	const struct rows_of *x = &p->x[i], *next = &p->x[i + 1];

	norm(p, &p->h1, x, y->attn_norm);
	lower(p, i, ADAPTER_ATTN, &p->h1);
	linear(p, i, CORE_Q, &p->h1, &p->q);
	linear(p, i, CORE_K, &p->h1, &p->k);
	linear(p, i, CORE_V, &p->h1, &p->v);
	pool_run(p->pool, rotate_row, p, p->m);
	pool_run(p->pool, attend_part, p, p->n * p->model->config.kv_heads);
	lower(p, i, ADAPTER_O, &p->a);
	linear(p, i, CORE_O, &p->a, &p->mid);
	add(p, &p->mid, x);
	norm(p, &p->h2, &p->mid, y->ffn_norm);
	lower(p, i, ADAPTER_MLP, &p->h2);
	linear(p, i, CORE_GATE, &p->h2, &p->gate);
	linear(p, i, CORE_UP, &p->h2, &p->up);
	pool_run(p->pool, swiglu_row, p, p->m);
	lower(p, i, ADAPTER_DOWN, &p->act);
	if (again)
		return;
	linear(p, i, CORE_DOWN, &p->act, next);
	add(p, next, &p->mid);
}

/* g: from the gradient of x[i + 1] to that of x[i]. */
static void layer_backward(struct pass *p, uint32_t i)
{
	const struct layer *y = &p->model->layers[i];

	linear_back(p, i, CORE_DOWN, &p->gact, &p->g, false);
	pool_run(p->pool, swiglu_back_row, p, p->m);
	linear_back(p, i, CORE_GATE, &p->gh, &p->ggate, false);
	linear_back(p, i, CORE_UP, &p->gh, &p->gup, true);
	norm_back(p, &p->g, &p->mid, y->ffn_norm, &p->gh); /* g: of mid */
	linear_back(p, i, CORE_O, &p->ga, &p->g, false);
	pool_run(p->pool, attend_back_part, p, p->n * p->model->config.kv_heads);
	pool_run(p->pool, rotate_back_row, p, p->m);
	linear_back(p, i, CORE_Q, &p->gh, &p->gq, false);
	linear_back(p, i, CORE_K, &p->gh, &p->gk, true);
	linear_back(p, i, CORE_V, &p->gh, &p->gv, true);
	norm_back(p, &p->g, &p->x[i], y->attn_norm, &p->gh);
}

static int forward(struct pass *p, struct core_error *err)
{
	embed(p);
	for (uint32_t i = 0; i < p->model->config.layers; i++) {
		if (told_to_stop(p))
			return stopped(err);
		layer_forward(p, i, false);
	}
	norm(p, &p->h1, &p->x[p->model->config.layers], p->model->norm);
	return CORE_OK;
}

/* ---- the head ---- */

/* Logits of `n` wanted rows from `at` on. */
static void head(struct pass *p, uint32_t at, uint32_t n)
{
	struct product t = times(p, &p->model->head, 1, false);

	for (uint32_t i = 0; i < n; i++)
		memcpy(row(&p->hn, i), row(&p->h1, p->wanted[at + i]), p->model->config.dim * sizeof(float));
	product(&t, p->logits.data, p->logits.ld, p->hn.data, p->hn.ld, n);
}

struct loss_step {
	struct pass *p;
	uint32_t at;
};

/* The row's loss; its logits become its gradient: softmax - 1 at the token that came. */
static void loss_row(void *arg, uint32_t i)
{
	struct loss_step *s = arg;
	struct pass *p = s->p;
	uint32_t r = p->wanted[s->at + i], vocab = p->model->config.vocab;
	uint32_t target = (uint32_t)p->examples[p->example[r]].tokens[p->position[r] + 1];
	float *z = row(&p->logits, i), top = z[0], at_target = z[target];
	double sum = 0;

	for (uint32_t k = 1; k < vocab; k++)
		top = z[k] > top ? z[k] : top;
	for (uint32_t k = 0; k < vocab; k++) {
		z[k] = expo(z[k] - top);
		sum += z[k];
	}
	p->row_loss[s->at + i] = log(sum) + top - at_target;
	for (uint32_t k = 0; k < vocab; k++)
		z[k] = (float)(z[k] / sum);
	z[target] -= 1;
}

/* Losses of all wanted rows, and with a gradient gh: that of the normed last activations. */
static double losses(struct pass *p)
{
	struct product back = times(p, &p->model->head, 1, false);
	double loss = 0;

	if (p->gradient)
		memset(p->gh.data, 0, p->gh.ld * p->m * sizeof(float));
	for (uint32_t at = 0; at < p->n_wanted; at += HEAD_ROWS) {
		uint32_t n = p->n_wanted - at < HEAD_ROWS ? p->n_wanted - at : HEAD_ROWS;
		struct loss_step s = {p, at};

		head(p, at, n);
		pool_run(p->pool, loss_row, &s, n);
		if (!p->gradient)
			continue;
		product_back(&back, p->hn.data, p->hn.ld, p->logits.data, p->logits.ld, n);
		for (uint32_t i = 0; i < n; i++)
			memcpy(row(&p->gh, p->wanted[at + i]), row(&p->hn, i), p->model->config.dim * sizeof(float));
	}
	for (uint32_t i = 0; i < p->n_wanted; i++)
		loss += p->row_loss[i];
	return loss;
}

static int backward(struct pass *p, struct core_error *err)
{
	uint32_t layers = p->model->config.layers;

	memset(p->g.data, 0, p->g.ld * p->m * sizeof(float));
	norm_back(p, &p->g, &p->x[layers], p->model->norm, &p->gh);
	for (uint32_t i = layers; i--;) {
		if (told_to_stop(p))
			return stopped(err);
		layer_forward(p, i, true);
		layer_backward(p, i);
	}
	embed_back(p);
	return CORE_OK;
}

int pass_loss(struct pass *p, const struct pass_weights *w, const struct core_example *examples, uint32_t n, double *loss,
	      const struct pass_gradient *gradient, struct core_error *err)
{
	int rc;

	if (gradient && p->params.merged)
		return core_fail(err, CORE_EINVAL, "a merged pass has no gradient");
	rc = take_batch(p, w, examples, n, false, err);
	if (rc)
		return rc;
	p->gradient = gradient;
	rc = forward(p, err);
	if (rc)
		return rc;
	*loss = losses(p);
	return gradient ? backward(p, err) : CORE_OK;
}

int pass_logits(struct pass *p, const struct pass_weights *w, const struct core_example *examples, uint32_t n,
		void (*take)(void *arg, uint32_t row, const float *logits), void *arg, struct core_error *err)
{
	int rc = take_batch(p, w, examples, n, true, err);

	p->gradient = NULL;
	if (!rc)
		rc = forward(p, err);
	for (uint32_t at = 0; at < p->n_wanted && !rc; at += HEAD_ROWS) {
		uint32_t rows = p->n_wanted - at < HEAD_ROWS ? p->n_wanted - at : HEAD_ROWS;

		head(p, at, rows);
		for (uint32_t i = 0; i < rows; i++)
			take(arg, at + i, row(&p->logits, i));
	}
	return rc;
}
