/* descend.c: learning by gradient: Adam on z, through the forms that turn z into weights. */
#include "config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/model.h"
#include "random.h"
#include "work.h"

enum { ROWS = 512 }; /* of one pass, unless an example is longer: a batch may take several */
#define RATE 0.05

struct descent {
	struct work *w;
	struct pass *pass;
	size_t n;                           /* k * groups */
	double *z, *slope, *first, *second; /* [n]: what is moved, its gradient, Adam's moments */
	float *linear, *embed;              /* the weights as a pass takes them */
	double *g_linear, *g_embed;         /* their gradients */
	struct core_example *batch;         /* [w->batch] */
	uint32_t *order, next;              /* [w->n_train] of this epoch */
};

/* ---- z and lam ---- */

static double sigmoid(double z)
{
	return 1 / (1 + exp(-z));
}

static void softmax(const struct work *w, const double *z, double *lam)
{
	for (uint32_t g = 0; g < w->groups; g++) {
		double top = -INFINITY, sum = 0;

		for (uint32_t k = 0; k < w->k; k++)
			top = fmax(top, z[k * w->groups + g]);
		for (uint32_t k = 0; k < w->k; k++)
			sum += exp(z[k * w->groups + g] - top);
		for (uint32_t k = 0; k < w->k; k++)
			lam[k * w->groups + g] = exp(z[k * w->groups + g] - top) / sum;
	}
}

static void weights_of(struct descent *d)
{
	struct work *w = d->w;

	if (w->params->form == CORE_LEARN_SOFTMAX)
		softmax(w, d->z, w->lam);
	else
		for (size_t i = 0; i < d->n; i++)
			w->lam[i] = w->params->form == CORE_LEARN_SIGMOID ? sigmoid(d->z[i]) : d->z[i];
}

/* slope: from the gradient by lam to that by z. */
static void through_the_form(struct descent *d)
{
	const struct work *w = d->w;

	if (w->params->form == CORE_LEARN_SIGMOID)
		for (size_t i = 0; i < d->n; i++)
			d->slope[i] *= w->lam[i] * (1 - w->lam[i]);
	if (w->params->form != CORE_LEARN_SOFTMAX)
		return;
	for (uint32_t g = 0; g < w->groups; g++) {
		double mean = 0;

		for (uint32_t k = 0; k < w->k; k++)
			mean += w->lam[k * w->groups + g] * d->slope[k * w->groups + g];
		for (uint32_t k = 0; k < w->k; k++)
			d->slope[k * w->groups + g] = w->lam[k * w->groups + g] * (d->slope[k * w->groups + g] - mean);
	}
}

/* From the uniform blend; a sigmoid never reaches 1. */
static void start(struct descent *d)
{
	double lam = fmin(1.0 / d->w->k, 0.95);

	for (size_t i = 0; i < d->n; i++)
		d->z[i] = d->w->params->form == CORE_LEARN_SOFTMAX   ? 0
			  : d->w->params->form == CORE_LEARN_SIGMOID ? log(lam / (1 - lam))
								     : 1.0 / d->w->k;
	weights_of(d);
}

/* ---- a step ---- */

static void next_batch(struct descent *d)
{
	struct work *w = d->w;

	for (uint32_t i = 0; i < w->batch; i++) {
		if (d->next == w->n_train) {
			random_order(&w->random, d->order, w->n_train);
			d->next = 0;
		}
		d->batch[i] = w->train[d->order[d->next++]];
	}
}

/* Whole examples, as many as fit into one pass. */
static uint32_t fitting(const struct descent *d, uint32_t from)
{
	uint32_t most = d->w->longest > ROWS ? d->w->longest : ROWS, rows = 0, n = from;

	while (n < d->w->batch && rows + d->batch[n].n - 1 <= most)
		rows += d->batch[n++].n - 1;
	return n - from;
}

static void spread(struct descent *d)
{
	const struct work *w = d->w;

	for (uint32_t k = 0; k < w->k; k++) {
		d->embed[k] = (float)w->lam[k * w->groups]; /* used with CORE_LEARN_GLOBAL alone */
		for (uint32_t i = 0; i < w->layers; i++)
			for (unsigned l = 0; l < CORE_LINEARS; l++)
				d->linear[((size_t)k * w->layers + i) * CORE_LINEARS + l] =
					(float)w->lam[k * w->groups + work_group(w, i, l)];
	}
}

static void gather(struct descent *d, double scale)
{
	const struct work *w = d->w;

	memset(d->slope, 0, d->n * sizeof(*d->slope));
	for (uint32_t k = 0; k < w->k; k++) {
		for (uint32_t i = 0; i < w->layers; i++)
			for (unsigned l = 0; l < CORE_LINEARS; l++)
				d->slope[k * w->groups + work_group(w, i, l)] +=
					scale * d->g_linear[((size_t)k * w->layers + i) * CORE_LINEARS + l];
		if (w->params->by == CORE_LEARN_GLOBAL)
			d->slope[k] += scale * d->g_embed[k];
	}
}

/* The batch's mean loss, and in slope its gradient by lam. */
static int measure(struct descent *d, double *loss)
{
	struct work *w = d->w;
	const struct pass_weights weights = {d->linear, d->embed};
	const struct pass_gradient gradient = {d->g_linear, d->g_embed};
	double tokens = work_answer_tokens(d->batch, w->batch), sum = 0, part;

	spread(d);
	memset(d->g_linear, 0, (size_t)w->k * w->layers * CORE_LINEARS * sizeof(*d->g_linear));
	memset(d->g_embed, 0, w->k * sizeof(*d->g_embed));
	for (uint32_t i = 0, n; i < w->batch; i += n) {
		int rc;

		n = fitting(d, i);
		rc = pass_loss(d->pass, &weights, d->batch + i, n, &part, &gradient, w->err);
		if (rc)
			return rc;
		sum += part;
	}
	gather(d, 1 / tokens);
	*loss = sum / tokens;
	return isfinite(*loss) ? CORE_OK : core_fail(w->err, CORE_EINVAL, "the loss is no longer finite: a smaller rate may help");
}

static void add_penalty(struct descent *d)
{
	const struct work *w = d->w;

	for (size_t i = 0; i < d->n; i++)
		d->slope[i] += w->params->l1 / (double)d->n * (w->lam[i] > 0 ? 1 : w->lam[i] < 0 ? -1 : 0);
}

static void adam(struct descent *d, uint32_t step)
{
	double rate = d->w->params->rate > 0 ? d->w->params->rate : RATE, a = 1 - pow(0.9, step), b = 1 - pow(0.999, step);

	for (size_t i = 0; i < d->n; i++) {
		d->first[i] = 0.9 * d->first[i] + 0.1 * d->slope[i];
		d->second[i] = 0.999 * d->second[i] + 0.001 * d->slope[i] * d->slope[i];
		d->z[i] -= rate * (d->first[i] / a) / (sqrt(d->second[i] / b) + 1e-8);
		if (d->w->params->form == CORE_LEARN_CLAMP)
			d->z[i] = fmin(fmax(d->z[i], 0), 1);
	}
}

static int descend(struct descent *d)
{
	double loss;

	start(d);
	for (uint32_t step = 1; step <= d->w->params->steps; step++) {
		int rc;

		next_batch(d);
		rc = measure(d, &loss);
		if (rc)
			return rc;
		add_penalty(d);
		through_the_form(d);
		adam(d, step);
		weights_of(d);
		work_tell(d->w, loss);
	}
	return CORE_OK;
}

/* ---- the whole ---- */

static int make(struct descent *d)
{
	struct work *w = d->w;
	size_t all = (size_t)w->k * w->layers * CORE_LINEARS;
	const struct pass_params p = {.model = w->params->model,
				      .threads = w->params->threads,
				      .max_rows = w->longest > ROWS ? w->longest : ROWS,
				      .adapters = (const struct core_adapter *const *)w->params->adapters,
				      .n_adapters = w->k,
				      .stop = w->params->stop,
				      .stop_arg = w->params->arg};

	d->n = (size_t)w->k * w->groups;
	d->z = calloc(4 * d->n, sizeof(double));
	d->linear = calloc(all + w->k, sizeof(float));
	d->g_linear = calloc(all + w->k, sizeof(double));
	d->batch = calloc(w->batch, sizeof(*d->batch));
	d->order = calloc(w->n_train, sizeof(*d->order));
	d->next = w->n_train;
	if (!d->z || !d->linear || !d->g_linear || !d->batch || !d->order)
		return core_fail(w->err, CORE_ENOMEM, "no memory to learn %zu weights", d->n);
	d->slope = d->z + d->n;
	d->first = d->slope + d->n;
	d->second = d->first + d->n;
	d->embed = d->linear + all;
	d->g_embed = d->g_linear + all;
	return pass_new(&d->pass, &p, w->err);
}

int learn_by_gradient(struct work *w)
{
	struct descent d = {.w = w};
	int rc = make(&d);

	if (!rc)
		rc = descend(&d);
	pass_free(d.pass);
	free(d.z);
	free(d.linear);
	free(d.g_linear);
	free(d.batch);
	free(d.order);
	return rc;
}
