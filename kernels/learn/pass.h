/* pass.h: the Llama as a differentiable function: forward and backward through all rows of some sequences at once, in f32, from the
 * packed weights of the base (product.h) and the factors of its adapters.
 *
 * With y = W x + sum over adapters k of lam[k][layer][linear] * s_k * B_k (A_k x), and with g = dL/dy of a row,
 *     h = A_k x,  u = B_k^T g,   dL/dlam = s_k * sum over rows of <u, h>,   dL/dx = W^T g + sum over k of lam s_k A_k^T u
 * exactly, up to rounding: activations are not quantised here and keys and values are not halved, as they are in the core. h and u
 * are also what the gradients of the factors are made of (dB = lam s g h^T, dA = lam s u x^T), should those be trained one day.
 *
 * Of the forward pass only the layers' inputs are kept; the backward pass runs each layer again. So memory grows with
 * rows * (layers + about 20) * dim * 4 bytes.
 *
 * Results do not depend on the number of threads. Functions return 0 or a core_code and explain themselves in *err. */
#ifndef WEFT_LEARN_PASS_H
#define WEFT_LEARN_PASS_H

#include "kernels/adapter.h"

struct pass;

struct pass_params {
	const struct core_model *model;
	int threads; /* 0: one per online CPU */
	uint32_t max_rows;
	const struct core_adapter *const *adapters; /* [n_adapters], n_adapters <= CORE_BLEND_MAX; they outlive the pass */
	uint32_t n_adapters;
	bool merged; /* forward only: W + sum of lam s B A is made while it is unpacked; the adapters' own products are not used.
			A DoRA, alone and with weights of 1, is fine here */
	bool (*stop)(void *arg); /* asked between layers: true ends the pass with CORE_ECANCELLED; NULL: never */
	void *stop_arg;
};
int pass_new(struct pass **out, const struct pass_params *params, struct core_error *err);
void pass_free(struct pass *p); /* NULL is fine */

/* lam: weights[k][layer][linear], embed[k] for what an adapter adds to the embedding. */
struct pass_weights {
	const float *linear; /* [n_adapters][layers][CORE_LINEARS] */
	const float *embed;  /* [n_adapters] */
};

/* The sum of -log p over the predicted tokens of all examples (of n - 1 rows each), whose rows must fit into max_rows; and, unless
 * NULL, its gradient, which is added to linear[n_adapters][layers][CORE_LINEARS] and embed[n_adapters]. */
struct pass_gradient {
	double *linear, *embed;
};
int pass_loss(struct pass *p, const struct pass_weights *w, const struct core_example *examples, uint32_t n, double *loss,
	      const struct pass_gradient *gradient, struct core_error *err);

/* Logits of every row: rows of example i stand where those of i - 1 end. Calls take(arg, row, logits[vocab]) in order. */
int pass_logits(struct pass *p, const struct pass_weights *w, const struct core_example *examples, uint32_t n,
		void (*take)(void *arg, uint32_t row, const float *logits), void *arg, struct core_error *err);

#endif
