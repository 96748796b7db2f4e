/* learn.h: the weights of a blend, learned from prompts and their answers.
 *
 * FashionGPT's paper fuses its adapters "with learnable weights"; its formula is not public, so this is weft's own. The blend is
 *     y = W x + sum over adapters k of lam[k][g] * s_k * B_k (A_k x)
 * with one weight per adapter (LEARN_GLOBAL), per adapter and layer, or per adapter, layer and linear; the loss is the mean of
 * -log p over the answers' tokens.
 *
 *   LEARN_GRADIENT  Adam (0.9, 0.999) on exact gradients (pass.h) of batches that follow a seeded order. What is moved is z:
 *                     raw      lam = z
 *                     softmax  lam[.][g] = softmax over the adapters of z[.][g]
 *                     sigmoid  lam = 1 / (1 + e^-z)
 *                     clamp    lam = z, put back into [0, 1] after every step
 *   LEARN_SEARCH    no gradients, in the manner of LoraHub: an evolution strategy with a step size per weight (separable CMA-ES)
 *                   within [-bound, bound], on a seeded choice of examples that stays the same. The candidates of a generation
 *                   are different blends in one batch of the core. Its result is the best candidate that was seen.
 *
 * Both start from the uniform blend (1 / n each) and may add l1 * mean |lam| to the loss. Losses that are reported, in the end,
 * come from the core's own forward pass, of the base, each adapter alone, the uniform and the learned blend, on examples that were
 * not learned from. Same input and seed, same bytes, at any number of threads.
 *
 * It may take hours: it runs on the caller's thread (and `threads` - 1 of its own, with the caller's priority). */
#ifndef WEFT_LEARN_LEARN_H
#define WEFT_LEARN_LEARN_H

#include "kernels/core.h"
#include "pass.h"

enum learn_method { LEARN_GRADIENT, LEARN_SEARCH, LEARN_METHODS };
enum learn_by { LEARN_GLOBAL, LEARN_LAYER, LEARN_MODULE, LEARN_BYS };
enum learn_form { LEARN_RAW, LEARN_SOFTMAX, LEARN_SIGMOID, LEARN_CLAMP, LEARN_FORMS };
const char *learn_method_name(enum learn_method m);
const char *learn_by_name(enum learn_by b);
const char *learn_form_name(enum learn_form f);
/* CORE_EINVAL, with the names there are. */
int learn_method_parse(const char *name, enum learn_method *out, struct core_error *err);
int learn_by_parse(const char *name, enum learn_by *out, struct core_error *err);
int learn_form_parse(const char *name, enum learn_form *out, struct core_error *err);

enum { LEARN_STEPS_MAX = 100000, LEARN_POPULATION_MAX = 256, LEARN_EXAMPLES_MAX = 1000000 };

struct learn_params {
	const struct core_model *model;
	struct core_adapter *const *adapters; /* [n_adapters], 1 to CORE_BLEND_MAX, no DoRA */
	uint32_t n_adapters;
	const struct pass_example *examples; /* [n_examples]; their tokens fit into the model's context */
	uint32_t n_examples;
	const struct pass_example *held_out; /* [n_held_out]; none: a seeded fifth of the examples is taken away */
	uint32_t n_held_out;
	enum learn_method method;
	enum learn_by by;
	enum learn_form form; /* LEARN_SEARCH: raw */
	uint32_t steps;       /* of Adam, or generations */
	uint32_t batch;       /* examples of a step, or of the search; 0: 16, or up to 64 */
	double rate;          /* LEARN_GRADIENT: of Adam; 0: 0.05 */
	double l1;
	uint32_t population; /* LEARN_SEARCH: candidates of a generation; 0: 4 + 3 ln(weights), at least 8 */
	double bound;        /* LEARN_SEARCH; 0: 1.5 */
	uint64_t seed;
	int threads; /* 0: one per online CPU */
	/* After every step: the loss of its batch, or of the best candidate so far. NULL: nobody is told. */
	void (*progress)(void *arg, uint32_t step, double loss);
	bool (*stop)(void *arg); /* true: PASS_STOPPED soon; NULL: never */
	void *arg;
};

struct learn_losses {
	double base, uniform, learned, adapter[CORE_BLEND_MAX];
};

struct learn_result {
	float *weights;                        /* [n_adapters][layers][CORE_LINEARS]; with LEARN_GLOBAL: [n_adapters] */
	double *curve;                         /* [steps] what progress() was told */
	uint32_t steps, n_learned, n_held_out; /* n: examples */
	uint64_t answer_tokens;                /* of the held-out examples */
	struct learn_losses held_out;
};
/* On failure nothing is left to finish. */
int learn_run(struct learn_result *out, const struct learn_params *params, struct core_error *err);
void learn_result_finish(struct learn_result *r);
/* Parts of a blend with these weights: parts[n] point into them. */
void learn_blend_parts(struct core_blend_part *parts, struct core_adapter *const *adapters, uint32_t n, enum learn_by by,
		       const float *weights, uint32_t layers);

#endif
