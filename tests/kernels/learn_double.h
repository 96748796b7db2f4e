/* learn_double.h: the loss of a blend in double precision: core_double.h's Llama on weights W + sum of lam s B A, merged in double.
 */
#ifndef WEFT_LEARN_DOUBLE_H
#define WEFT_LEARN_DOUBLE_H

#include "core_double.h"
#include "kernels/adapter.h"
#include "kernels/learn/pass.h"

/* What a loss depends on. */
struct double_blend {
	const struct core_model *m;
	const struct core_adapter *const *adapters;
	uint32_t n;
	const double *linear, *embed; /* as in struct pass_weights */
};

static inline const struct matrix *double_base(const struct layer *y, unsigned linear)
{
	const struct matrix *const w[CORE_LINEARS] = {&y->q, &y->k, &y->v, &y->o, &y->gate, &y->up, &y->down};

	return w[linear];
}

/* W += factor * B A; row r of A is row at + r of `a`. */
static inline void double_merge(double *w, const struct matrix *b, const struct matrix *a, uint32_t at, uint32_t rank,
				double factor)
{
	float *up = malloc((b->cols + 1) * sizeof(*up)), *down = malloc((size_t)rank * a->cols * sizeof(*down));

	for (uint32_t r = 0; r < rank; r++)
		matrix_row_f32(a, at + r, down + (size_t)r * a->cols);
	for (uint32_t o = 0; o < b->rows; o++) {
		matrix_row_f32(b, o, up);
		for (uint32_t r = 0; r < rank; r++)
			for (uint32_t k = 0; k < a->cols; k++)
				w[(size_t)o * a->cols + k] += factor * up[r] * down[(size_t)r * a->cols + k];
	}
	free(up);
	free(down);
}

static inline double *double_apply(const struct double_blend *d, uint32_t layer, unsigned linear, const double *x, uint32_t n)
{
	const struct matrix *base = double_base(&d->m->layers[layer], linear);
	double *w = malloc((size_t)base->rows * base->cols * sizeof(*w)), *y = calloc((size_t)n * base->rows, sizeof(*y));
	float *row = malloc(base->cols * sizeof(*row));

	for (uint32_t r = 0; r < base->rows; r++) {
		matrix_row_f32(base, r, row);
		for (uint32_t k = 0; k < base->cols; k++)
			w[(size_t)r * base->cols + k] = row[k];
	}
	for (uint32_t i = 0; i < d->n; i++) {
		const struct adapter_layer *a = &d->adapters[i]->layers[layer];
		const struct adapter_linear *l = &a->linear[linear];

		if (l->rank)
			double_merge(w, &l->b, &a->a[adapter_input_of(linear)], l->at, l->rank,
				     d->linear[((size_t)i * d->m->config.layers + layer) * CORE_LINEARS + linear] * l->scale);
	}
	for (uint32_t i = 0; i < n; i++)
		for (uint32_t r = 0; r < base->rows; r++)
			for (uint32_t k = 0; k < base->cols; k++)
				y[(size_t)i * base->rows + r] += w[(size_t)r * base->cols + k] * x[(size_t)i * base->cols + k];
	free(row);
	free(w);
	return y;
}

static inline void double_blend_layer(const struct double_blend *d, uint32_t i, double *x, uint32_t n)
{
	const struct llama_config *c = &d->m->config;
	const struct layer *y = &d->m->layers[i];
	double *h = double_norm(x, y->attn_norm, n, c->dim, c->norm_eps), *q = double_apply(d, i, CORE_Q, h, n),
	       *k = double_apply(d, i, CORE_K, h, n), *v = double_apply(d, i, CORE_V, h, n), *a, *gate, *up;

	double_rope(q, n, c->heads, c->head_dim, c->rope_theta);
	double_rope(k, n, c->kv_heads, c->head_dim, c->rope_theta);
	a = double_attention(q, k, v, n, c);
	double_add(x, double_apply(d, i, CORE_O, a, n), (size_t)n * c->dim);
	free(h);
	free(q);
	free(k);
	free(v);
	free(a);
	h = double_norm(x, y->ffn_norm, n, c->dim, c->norm_eps);
	gate = double_apply(d, i, CORE_GATE, h, n);
	up = double_apply(d, i, CORE_UP, h, n);
	for (size_t j = 0; j < (size_t)n * c->ffn_dim; j++)
		gate[j] = gate[j] / (1 + exp(-gate[j])) * up[j];
	double_add(x, double_apply(d, i, CORE_DOWN, gate, n), (size_t)n * c->dim);
	free(h);
	free(gate);
	free(up);
}

static inline void double_embed(const struct double_blend *d, int32_t token, double *x)
{
	uint32_t dim = d->m->config.dim;
	float *row = malloc(dim * sizeof(*row)), b[LANES * 64];

	matrix_row_f32(&d->m->embed, (uint32_t)token, row);
	for (uint32_t k = 0; k < dim; k++)
		x[k] = row[k];
	for (uint32_t i = 0; i < d->n; i++) {
		const struct adapter_embed *e = &d->adapters[i]->embed;

		for (uint32_t k = 0; e->rank && k < dim; k++) {
			matrix_row_f32(&e->b, k, b);
			for (uint32_t r = 0; r < e->rank; r++)
				x[k] += d->embed[i] * e->scale * b[r] * e->a[(size_t)token * e->rank + r];
		}
	}
	free(row);
}

/* Logits [n][vocab]; the caller frees them. */
static inline double *double_blend_logits(const struct double_blend *d, const int32_t *tokens, uint32_t n)
{
	const struct llama_config *c = &d->m->config;
	double *x = malloc((size_t)n * c->dim * sizeof(*x)), *h, *logits;

	for (uint32_t i = 0; i < n; i++)
		double_embed(d, tokens[i], x + (size_t)i * c->dim);
	for (uint32_t i = 0; i < c->layers; i++)
		double_blend_layer(d, i, x, n);
	h = double_norm(x, d->m->norm, n, c->dim, c->norm_eps);
	logits = double_linear(&d->m->head, h, n);
	free(h);
	free(x);
	return logits;
}

static inline double double_loss(const struct double_blend *d, const struct core_example *e, uint32_t n)
{
	uint32_t vocab = d->m->config.vocab;
	double loss = 0;

	for (uint32_t i = 0; i < n; i++) {
		double *z = double_blend_logits(d, e[i].tokens, e[i].n - 1);

		for (uint32_t t = e[i].from; t < e[i].n; t++) {
			const double *row = z + (size_t)(t - 1) * vocab;
			double sum = 0;

			for (uint32_t k = 0; k < vocab; k++)
				sum += exp(row[k]);
			loss += log(sum) - row[e[i].tokens[t]];
		}
		free(z);
	}
	return loss;
}

#endif
