/* learn.c: core_learn(): what is learned from what, from the first check to the losses at the end. */
#include "config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/model.h"
#include "random.h"
#include "work.h"

/* ---- names ---- */

static const char *const method_names[CORE_LEARN_METHODS] = {"gradient", "search"};
static const char *const by_names[CORE_LEARN_BYS] = {"global", "layer", "module"};
static const char *const form_names[CORE_LEARN_FORMS] = {"raw", "softmax", "sigmoid", "clamp"};

const char *core_learn_method_name(enum core_learn_method m)
{
	return (unsigned)m < CORE_LEARN_METHODS ? method_names[m] : "?";
}

const char *core_learn_by_name(enum core_learn_by b)
{
	return (unsigned)b < CORE_LEARN_BYS ? by_names[b] : "?";
}

const char *core_learn_form_name(enum core_learn_form f)
{
	return (unsigned)f < CORE_LEARN_FORMS ? form_names[f] : "?";
}

static int parse(const char *const *names, unsigned n, const char *name, const char *list, unsigned *out, struct core_error *err)
{
	for (unsigned i = 0; i < n; i++)
		if (!strcmp(names[i], name)) {
			*out = i;
			return CORE_OK;
		}
	return core_fail(err, CORE_EINVAL, "\"%.40s\": expected %s", name, list);
}

int core_learn_method_parse(const char *name, enum core_learn_method *out, struct core_error *err)
{
	unsigned i = 0;
	int rc = parse(method_names, CORE_LEARN_METHODS, name, "gradient or search", &i, err);

	*out = (enum core_learn_method)i;
	return rc;
}

int core_learn_by_parse(const char *name, enum core_learn_by *out, struct core_error *err)
{
	unsigned i = 0;
	int rc = parse(by_names, CORE_LEARN_BYS, name, "global, layer or module", &i, err);

	*out = (enum core_learn_by)i;
	return rc;
}

int core_learn_form_parse(const char *name, enum core_learn_form *out, struct core_error *err)
{
	unsigned i = 0;
	int rc = parse(form_names, CORE_LEARN_FORMS, name, "raw, softmax, sigmoid or clamp", &i, err);

	*out = (enum core_learn_form)i;
	return rc;
}

/* ---- weights ---- */

uint32_t work_group(const struct work *w, uint32_t layer, unsigned linear)
{
	return w->params->by == CORE_LEARN_GLOBAL ? 0 : w->params->by == CORE_LEARN_LAYER ? layer : layer * CORE_LINEARS + linear;
}

void work_spread(const struct work *w, const double *lam, float *out)
{
	for (uint32_t k = 0; k < w->k; k++, lam += w->groups) {
		if (w->params->by == CORE_LEARN_GLOBAL) {
			*out++ = (float)*lam;
			continue;
		}
		for (uint32_t i = 0; i < w->layers; i++)
			for (unsigned l = 0; l < CORE_LINEARS; l++)
				*out++ = (float)lam[work_group(w, i, l)];
	}
}

void core_learn_parts(struct core_blend_part *parts, struct core_adapter *const *adapters, uint32_t n, enum core_learn_by by,
		      const float *weights, uint32_t layers)
{
	for (uint32_t k = 0; k < n; k++)
		parts[k] = by == CORE_LEARN_GLOBAL
				   ? (struct core_blend_part){adapters[k], weights[k], NULL}
				   : (struct core_blend_part){adapters[k], 1, weights + (size_t)k * layers * CORE_LINEARS};
}

static size_t spread_size(const struct work *w)
{
	return w->params->by == CORE_LEARN_GLOBAL ? w->k : (size_t)w->k * w->layers * CORE_LINEARS;
}

int work_blend(const struct work *w, const double *lam, struct core_blend **out)
{
	struct core_blend_part parts[CORE_BLEND_MAX];
	float *weights = malloc(spread_size(w) * sizeof(float));
	int rc;

	*out = NULL;
	if (!weights)
		return core_fail(w->err, CORE_ENOMEM, "no memory for the weights of a blend");
	work_spread(w, lam, weights);
	core_learn_parts(parts, w->params->adapters, w->k, w->params->by, weights, w->layers);
	rc = core_blend_new(out, parts, w->k, w->err);
	free(weights);
	return rc;
}

void work_tell(struct work *w, double loss)
{
	w->curve[w->told++] = loss;
	if (w->params->progress)
		w->params->progress(w->params->arg, w->told, loss);
}

double work_answer_tokens(const struct core_example *e, uint32_t n)
{
	double tokens = 0;

	for (uint32_t i = 0; i < n; i++)
		tokens += e[i].n - e[i].from;
	return tokens;
}

/* ---- what is asked for ---- */

static int check_numbers(const struct core_learn_params *p, struct core_error *err)
{
	if (p->steps < 1 || p->steps > CORE_LEARN_STEPS_MAX)
		return core_fail(err, CORE_EINVAL, "steps is %u: expected 1 to %d", p->steps, CORE_LEARN_STEPS_MAX);
	if (p->population && (p->population < 4 || p->population > CORE_LEARN_POPULATION_MAX))
		return core_fail(err, CORE_EINVAL, "population is %u: expected 4 to %d", p->population, CORE_LEARN_POPULATION_MAX);
	if (!(p->rate >= 0) || !(p->l1 >= 0) || !(p->bound >= 0) || !isfinite(p->rate + p->l1 + p->bound))
		return core_fail(err, CORE_EINVAL, "rate, l1 and bound: expected finite numbers that are not negative");
	if (p->method == CORE_LEARN_SEARCH && p->form != CORE_LEARN_RAW)
		return core_fail(err, CORE_EINVAL, "form %s: a search moves the weights themselves, within its bound (raw)",
				 core_learn_form_name(p->form));
	if (p->form == CORE_LEARN_SOFTMAX && p->n_adapters == 1)
		return core_fail(err, CORE_EINVAL, "form softmax: with one adapter there is nothing to learn");
	return CORE_OK;
}

static int check_adapters(const struct core_learn_params *p, struct core_error *err)
{
	if (p->n_adapters < 1 || p->n_adapters > CORE_BLEND_MAX)
		return core_fail(err, CORE_EINVAL, "%u adapters: expected 1 to %d", p->n_adapters, CORE_BLEND_MAX);
	for (uint32_t k = 0; k < p->n_adapters; k++) {
		const struct core_adapter *a = p->adapters[k];

		if (a->dora)
			return core_fail(err, CORE_EUNSUPPORTED,
					 "adapter %.12s is a DoRA: it scales the whole output, so it is no part of a sum",
					 a->info.digest);
		if (a->embed.rank && p->by != CORE_LEARN_GLOBAL)
			return core_fail(
				err, CORE_EUNSUPPORTED,
				"adapter %.12s changes the embedding, which is of no layer: only one weight for all of it can "
				"be learned (global)",
				a->info.digest);
	}
	return CORE_OK;
}

static int check_examples(const struct core_learn_params *p, const struct core_example *e, uint32_t n, const char *what,
			  struct core_error *err)
{
	uint32_t context = p->model->config.context;

	for (uint32_t i = 0; i < n; i++) {
		if (e[i].n < 2 || e[i].from < 1 || e[i].from >= e[i].n)
			return core_fail(err, CORE_EINVAL, "%s %u has no prompt or no answer", what, i + 1);
		if (e[i].n > context)
			return core_fail(err, CORE_EINVAL, "%s %u has %u tokens: the model takes %u", what, i + 1, e[i].n, context);
		for (uint32_t k = 0; k < e[i].n; k++)
			if (e[i].tokens[k] < 0 || (uint32_t)e[i].tokens[k] >= p->model->config.vocab)
				return core_fail(err, CORE_EINVAL, "%s %u: token %d: expected 0 to %u", what, i + 1, e[i].tokens[k],
						 p->model->config.vocab - 1);
	}
	return CORE_OK;
}

static int check(const struct core_learn_params *p, struct core_error *err)
{
	int rc = check_numbers(p, err);

	if (!rc)
		rc = check_adapters(p, err);
	if (!rc && (p->n_examples < (p->n_held_out ? 1 : 2) || p->n_examples > CORE_LEARN_EXAMPLES_MAX ||
		    p->n_held_out > CORE_LEARN_EXAMPLES_MAX))
		rc = core_fail(err, CORE_EINVAL, "%u examples: expected 2 (1 with a held-out set) to %d", p->n_examples,
			       CORE_LEARN_EXAMPLES_MAX);
	if (!rc)
		rc = check_examples(p, p->examples, p->n_examples, "example", err);
	return rc ? rc : check_examples(p, p->held_out, p->n_held_out, "held-out example", err);
}

/* ---- which examples ---- */

/* All of them, and the held-out set; without one a fifth, chosen by the seed, stays away from learning. */
static int split(struct work *w)
{
	const struct core_learn_params *p = w->params;
	uint32_t *order = calloc(p->n_examples, sizeof(*order)), away = p->n_held_out ? 0 : (p->n_examples + 4) / 5;

	w->n_train = p->n_examples - away;
	w->n_held_out = p->n_held_out ? p->n_held_out : away;
	w->train = calloc(w->n_train, sizeof(*w->train));
	w->held_out = calloc(w->n_held_out, sizeof(*w->held_out));
	if (!order || !w->train || !w->held_out) {
		free(order);
		return core_fail(w->err, CORE_ENOMEM, "no memory for the list of examples");
	}
	random_order(&w->random, order, p->n_examples);
	for (uint32_t i = 0; i < w->n_train; i++)
		w->train[i] = p->examples[order[i]];
	for (uint32_t i = 0; i < w->n_held_out; i++)
		w->held_out[i] = p->n_held_out ? p->held_out[i] : p->examples[order[w->n_train + i]];
	for (uint32_t i = 0; i < w->n_train + w->n_held_out; i++) {
		const struct core_example *e = i < w->n_train ? &w->train[i] : &w->held_out[i - w->n_train];

		w->longest = e->n > w->longest ? e->n : w->longest;
	}
	free(order);
	return CORE_OK;
}

static int prepare(struct work *w)
{
	const struct core_learn_params *p = w->params;
	uint32_t usual = p->method == CORE_LEARN_SEARCH ? 64 : 16;
	int rc = split(w);

	if (rc)
		return rc;
	w->batch = p->batch ? p->batch : usual;
	w->batch = w->batch < w->n_train ? w->batch : w->n_train;
	w->lam = calloc((size_t)w->k * w->groups, sizeof(*w->lam));
	w->curve = calloc(p->steps, sizeof(*w->curve));
	if (!w->lam || !w->curve)
		return core_fail(w->err, CORE_ENOMEM, "no memory for %u weights and %u steps", w->k * w->groups, p->steps);
	for (size_t i = 0; i < (size_t)w->k * w->groups; i++)
		w->lam[i] = 1.0 / w->k;
	return trial_new(&w->trial, p->model, p->threads, w->longest, w->err);
}

/* ---- the losses at the end ---- */

enum { BASE, UNIFORM, LEARNED, FIRST_ADAPTER };

static int make_blends(const struct work *w, struct core_blend **blends)
{
	struct core_blend_part parts[CORE_BLEND_MAX];
	int rc = CORE_OK;

	for (uint32_t k = 0; k < w->k; k++)
		parts[k] = (struct core_blend_part){w->params->adapters[k], 1, NULL};
	for (uint32_t k = 0; k < w->k && !rc; k++)
		rc = core_blend_new(&blends[FIRST_ADAPTER + k], &parts[k], 1, w->err);
	for (uint32_t k = 0; k < w->k; k++)
		parts[k].scale = 1.0f / (float)w->k;
	if (!rc)
		rc = core_blend_new(&blends[UNIFORM], parts, w->k, w->err);
	return rc ? rc : work_blend(w, w->lam, &blends[LEARNED]);
}

static int compare(struct work *w, struct core_learn_losses *out)
{
	struct core_blend *blends[FIRST_ADAPTER + CORE_BLEND_MAX] = {NULL};
	double loss[FIRST_ADAPTER + CORE_BLEND_MAX], tokens = work_answer_tokens(w->held_out, w->n_held_out);
	uint32_t n = FIRST_ADAPTER + w->k;
	int rc = make_blends(w, blends);

	if (!rc)
		rc = trial_losses(w->trial, blends, n, w->held_out, w->n_held_out, loss, w->params->stop, w->params->arg, w->err);
	for (uint32_t i = 0; i < n; i++)
		core_blend_unref(blends[i]);
	if (rc)
		return rc;
	*out = (struct core_learn_losses){loss[BASE] / tokens, loss[UNIFORM] / tokens, loss[LEARNED] / tokens, {0}};
	for (uint32_t k = 0; k < w->k; k++)
		out->adapter[k] = loss[FIRST_ADAPTER + k] / tokens;
	return CORE_OK;
}

/* ---- the whole ---- */

static int take_result(struct work *w, struct core_learn_result *out)
{
	*out = (struct core_learn_result){.weights = malloc(spread_size(w) * sizeof(float)),
					  .steps = w->told,
					  .n_learned = w->n_train,
					  .n_held_out = w->n_held_out,
					  .answer_tokens = (uint64_t)work_answer_tokens(w->held_out, w->n_held_out)};
	if (!out->weights)
		return core_fail(w->err, CORE_ENOMEM, "no memory for the result");
	work_spread(w, w->lam, out->weights);
	for (size_t i = 0; i < (size_t)w->k * w->groups; i++) /* what is measured is what is given */
		w->lam[i] = (float)w->lam[i];
	out->curve = w->curve;
	w->curve = NULL;
	return compare(w, &out->held_out);
}

int core_learn(struct core_learn_result *out, const struct core_learn_params *params, struct core_error *err)
{
	struct work w = {.params = params, .err = err, .k = params->n_adapters, .random = params->seed};
	int rc = check(params, err);

	*out = (struct core_learn_result){0};
	if (rc)
		return rc;
	w.layers = params->model->config.layers;
	w.groups = params->by == CORE_LEARN_GLOBAL ? 1 : params->by == CORE_LEARN_LAYER ? w.layers : w.layers * CORE_LINEARS;
	rc = prepare(&w);
	if (!rc)
		rc = params->method == CORE_LEARN_SEARCH ? learn_by_search(&w) : learn_by_gradient(&w);
	if (!rc)
		rc = take_result(&w, out);
	if (rc)
		core_learn_result_finish(out);
	trial_free(w.trial);
	free(w.train);
	free(w.held_out);
	free(w.lam);
	free(w.curve);
	return rc;
}

void core_learn_result_finish(struct core_learn_result *r)
{
	free(r->weights);
	free(r->curve);
	*r = (struct core_learn_result){0};
}
