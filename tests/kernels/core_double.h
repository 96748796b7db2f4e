/* core_double.h: the same Llama in double precision, from the same (dequantised) weights, written as the formulas stand in the
 * papers: no cache, no batches, float activations. What quantised activations and f32 sums cost is measured against it. */
#ifndef WEFT_CORE_DOUBLE_H
#define WEFT_CORE_DOUBLE_H

#include "core_test.h"
#include "kernels/model.h"

/* y[rows] = W x, for n positions. */
static inline double *double_linear(const struct matrix *w, const double *x, uint32_t n)
{
	double *y = calloc((size_t)n * w->rows, sizeof(*y));
	float *row = malloc(w->cols * sizeof(*row));

	for (uint32_t r = 0; r < w->rows; r++) {
		matrix_row_f32(w, r, row);
		for (uint32_t i = 0; i < n; i++)
			for (uint32_t k = 0; k < w->cols; k++)
				y[(size_t)i * w->rows + r] += row[k] * x[(size_t)i * w->cols + k];
	}
	free(row);
	return y;
}

static inline double *double_norm(const double *x, const float *weight, uint32_t n, uint32_t dim, double eps)
{
	double *y = malloc((size_t)n * dim * sizeof(*y));

	for (uint32_t i = 0; i < n; i++) {
		double sum = 0;

		for (uint32_t k = 0; k < dim; k++)
			sum += x[i * dim + k] * x[i * dim + k];
		for (uint32_t k = 0; k < dim; k++)
			y[i * dim + k] = x[i * dim + k] / sqrt(sum / dim + eps) * weight[k];
	}
	return y;
}

/* Unscaled rotary embedding, pairs (i, i + half). */
static inline void double_rope(double *x, uint32_t n, uint32_t heads, uint32_t dim, double theta)
{
	for (uint32_t i = 0; i < n; i++)
		for (uint32_t h = 0; h < heads; h++)
			for (uint32_t k = 0; k < dim / 2; k++) {
				double *a = x + ((size_t)i * heads + h) * dim + k, *b = a + dim / 2,
				       angle = i * pow(theta, -2.0 * k / dim), old = *a;

				*a = old * cos(angle) - *b * sin(angle);
				*b = old * sin(angle) + *b * cos(angle);
			}
}

static inline double *double_attention(const double *q, const double *k, const double *v, uint32_t n, const struct llama_config *c)
{
	uint32_t d = c->head_dim, share = c->heads / c->kv_heads;
	double *out = calloc((size_t)n * c->heads * d, sizeof(*out)), *p = malloc(n * sizeof(*p));

	for (uint32_t i = 0; i < n; i++)
		for (uint32_t h = 0; h < c->heads; h++) {
			double sum = 0;

			for (uint32_t t = 0; t <= i; t++) {
				double s = 0;

				for (uint32_t j = 0; j < d; j++)
					s += q[((size_t)i * c->heads + h) * d + j] *
					     k[((size_t)t * c->kv_heads + h / share) * d + j];
				sum += p[t] = exp(s / sqrt(d));
			}
			for (uint32_t t = 0; t <= i; t++)
				for (uint32_t j = 0; j < d; j++)
					out[((size_t)i * c->heads + h) * d + j] +=
						p[t] / sum * v[((size_t)t * c->kv_heads + h / share) * d + j];
		}
	free(p);
	return out;
}

static inline void double_add(double *x, double *delta, size_t n)
{
	for (size_t i = 0; i < n; i++)
		x[i] += delta[i];
	free(delta);
}

static inline void double_layer(double *x, uint32_t n, const struct layer *y, const struct llama_config *c)
{
	double *h = double_norm(x, y->attn_norm, n, c->dim, c->norm_eps), *q = double_linear(&y->q, h, n),
	       *k = double_linear(&y->k, h, n);
	double *v = double_linear(&y->v, h, n), *a, *gate, *up;

	double_rope(q, n, c->heads, c->head_dim, c->rope_theta);
	double_rope(k, n, c->kv_heads, c->head_dim, c->rope_theta);
	a = double_attention(q, k, v, n, c);
	double_add(x, double_linear(&y->o, a, n), (size_t)n * c->dim);
	free(h);
	free(q);
	free(k);
	free(v);
	free(a);
	h = double_norm(x, y->ffn_norm, n, c->dim, c->norm_eps);
	gate = double_linear(&y->gate, h, n);
	up = double_linear(&y->up, h, n);
	for (size_t i = 0; i < (size_t)n * c->ffn_dim; i++)
		gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
	double_add(x, double_linear(&y->down, gate, n), (size_t)n * c->dim);
	free(h);
	free(gate);
	free(up);
}

/* Logits [n][vocab] of tokens[n]; the caller frees them. */
static inline double *double_forward(const struct core_model *m, const int32_t *tokens, uint32_t n)
{
	const struct llama_config *c = &m->config;
	double *x = malloc((size_t)n * c->dim * sizeof(*x)), *h, *logits;
	float *row = malloc(c->dim * sizeof(*row));

	for (uint32_t i = 0; i < n; i++) {
		matrix_row_f32(&m->embed, (uint32_t)tokens[i], row);
		for (uint32_t k = 0; k < c->dim; k++)
			x[i * c->dim + k] = row[k];
	}
	for (uint32_t i = 0; i < c->layers; i++)
		double_layer(x, n, &m->layers[i], c);
	h = double_norm(x, m->norm, n, c->dim, c->norm_eps);
	logits = double_linear(&m->head, h, n);
	free(x);
	free(h);
	free(row);
	return logits;
}

/* KL divergence of softmax(got) from softmax(want), in nats. */
static inline double divergence(const double *want, const float *got, uint32_t n)
{
	double top_w = -INFINITY, top_g = -INFINITY, sum_w = 0, sum_g = 0, kl = 0;

	for (uint32_t k = 0; k < n; k++) {
		top_w = fmax(top_w, want[k]);
		top_g = fmax(top_g, got[k]);
	}
	for (uint32_t k = 0; k < n; k++) {
		sum_w += exp(want[k] - top_w);
		sum_g += exp(got[k] - top_g);
	}
	for (uint32_t k = 0; k < n; k++) {
		double lw = want[k] - top_w - log(sum_w), lg = got[k] - top_g - log(sum_g);

		kl += exp(lw) * (lw - lg);
	}
	return kl;
}

#endif
