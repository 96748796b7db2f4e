/* search.c: learning without gradients: separable CMA-ES (Ros and Hansen 2008) in a box.
 *
 * A generation draws candidates around the mean, x = mean + sigma * deviation * normal, put back into the box; the better half,
 * weighted by rank, gives the next mean, the step size sigma (by the length of its path) and the deviation of every weight. */
#include "config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "random.h"
#include "work.h"

#define BOUND 1.5
#define SIGMA 0.3

struct candidate {
	double *lam; /* [n] */
	double cost;
};

struct search {
	struct work *w;
	size_t n;
	uint32_t population, parents;
	double bound, sigma;
	double *rank_weight, effective;                      /* [parents]; variance-effective number of parents */
	double c_sigma, d_sigma, c_c, c_1, c_mu, length;     /* learning rates; expected length of a normal vector */
	double *mean, *old, *variance, *path_sigma, *path_c; /* [n] */
	struct candidate *candidate;                         /* [population] */
	double *pool, *best, best_cost;                      /* memory of all candidates; [n] */
	struct core_blend **blends;                          /* [population] */
	double *loss;
};

/* ---- candidates ---- */

static void draw(struct search *s, bool first)
{
	for (uint32_t i = 0; i < s->population; i++)
		for (size_t k = 0; k < s->n; k++) {
			double x = s->mean[k] + s->sigma * sqrt(s->variance[k]) * random_normal(&s->w->random);

			s->candidate[i].lam[k] = fmin(fmax(x, -s->bound), s->bound);
		}
	if (first) /* the uniform blend itself */
		memcpy(s->candidate[0].lam, s->mean, s->n * sizeof(double));
}

/* All of a generation in the same batches. */
static int judge(struct search *s)
{
	struct work *w = s->w;
	double tokens = work_answer_tokens(w->train, w->batch);
	int rc = CORE_OK;

	for (uint32_t i = 0; i < s->population; i++)
		s->blends[i] = NULL;
	for (uint32_t i = 0; i < s->population && !rc; i++)
		rc = work_blend(w, s->candidate[i].lam, &s->blends[i]);
	if (!rc)
		rc = trial_losses(w->trial, s->blends, s->population, w->train, w->batch, s->loss, w->params->stop, w->params->arg,
				  w->err);
	for (uint32_t i = 0; i < s->population; i++)
		core_blend_unref(s->blends[i]);
	for (uint32_t i = 0; i < s->population && !rc; i++) {
		double size = 0;

		for (size_t k = 0; k < s->n; k++)
			size += fabs(s->candidate[i].lam[k]);
		s->candidate[i].cost = s->loss[i] / tokens + w->params->l1 * size / (double)s->n;
		if (isnan(s->candidate[i].cost))
			s->candidate[i].cost = INFINITY;
	}
	return rc;
}

static int by_cost(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	if (x->cost != y->cost)
		return x->cost < y->cost ? -1 : 1;
	return x->lam < y->lam ? -1 : x->lam > y->lam; /* the order of drawing */
}

/* ---- the next generation ---- */

static void move_mean(struct search *s)
{
	memcpy(s->old, s->mean, s->n * sizeof(double));
	for (size_t k = 0; k < s->n; k++) {
		s->mean[k] = 0;
		for (uint32_t i = 0; i < s->parents; i++)
			s->mean[k] += s->rank_weight[i] * s->candidate[i].lam[k];
	}
}

static void adapt(struct search *s, uint32_t generation)
{
	double square = 0, reach;
	bool steady;

	for (size_t k = 0; k < s->n; k++) {
		double step = (s->mean[k] - s->old[k]) / s->sigma;

		s->path_sigma[k] = (1 - s->c_sigma) * s->path_sigma[k] +
				   sqrt(s->c_sigma * (2 - s->c_sigma) * s->effective) * step / sqrt(s->variance[k]);
		square += s->path_sigma[k] * s->path_sigma[k];
	}
	reach = sqrt(square) / sqrt(1 - pow(1 - s->c_sigma, 2.0 * generation));
	steady = reach < (1.4 + 2 / ((double)s->n + 1)) * s->length;
	for (size_t k = 0; k < s->n; k++) {
		double step = (s->mean[k] - s->old[k]) / s->sigma, spread = 0;

		s->path_c[k] = (1 - s->c_c) * s->path_c[k] + (steady ? sqrt(s->c_c * (2 - s->c_c) * s->effective) * step : 0);
		for (uint32_t i = 0; i < s->parents; i++) {
			double away = (s->candidate[i].lam[k] - s->old[k]) / s->sigma;

			spread += s->rank_weight[i] * away * away;
		}
		s->variance[k] = (1 - s->c_1 - s->c_mu) * s->variance[k] + s->c_1 * s->path_c[k] * s->path_c[k] + s->c_mu * spread;
		s->variance[k] = fmax(s->variance[k], 1e-12);
	}
	s->sigma *= exp(s->c_sigma / s->d_sigma * (sqrt(square) / s->length - 1));
	s->sigma = fmin(fmax(s->sigma, 1e-6), s->bound);
}

static int evolve(struct search *s)
{
	for (uint32_t generation = 1; generation <= s->w->params->steps; generation++) {
		int rc;

		draw(s, generation == 1);
		rc = judge(s);
		if (rc)
			return rc;
		qsort(s->candidate, s->population, sizeof(s->candidate[0]), by_cost);
		if (s->candidate[0].cost < s->best_cost) {
			s->best_cost = s->candidate[0].cost;
			memcpy(s->best, s->candidate[0].lam, s->n * sizeof(double));
		}
		move_mean(s);
		adapt(s, generation);
		work_tell(s->w, s->best_cost);
	}
	if (!isfinite(s->best_cost))
		return core_fail(s->w->err, CORE_EINVAL, "no candidate has a finite loss");
	memcpy(s->w->lam, s->best, s->n * sizeof(double));
	return CORE_OK;
}

/* ---- making ---- */

static void set_rates(struct search *s)
{
	double n = (double)s->n, sum = 0, squares = 0, speed = (n + 2) / 3; /* of the separable form */

	for (uint32_t i = 0; i < s->parents; i++)
		sum += s->rank_weight[i] = log(s->parents + 0.5) - log(i + 1.0);
	for (uint32_t i = 0; i < s->parents; i++) {
		s->rank_weight[i] /= sum;
		squares += s->rank_weight[i] * s->rank_weight[i];
	}
	s->effective = 1 / squares;
	s->c_sigma = (s->effective + 2) / (n + s->effective + 5);
	s->d_sigma = 1 + 2 * fmax(0, sqrt((s->effective - 1) / (n + 1)) - 1) + s->c_sigma;
	s->c_c = (4 + s->effective / n) / (n + 4 + 2 * s->effective / n);
	s->c_1 = fmin(1, speed * 2 / ((n + 1.3) * (n + 1.3) + s->effective));
	s->c_mu = fmin(1 - s->c_1, speed * 2 * (s->effective - 2 + 1 / s->effective) / ((n + 2) * (n + 2) + s->effective));
	s->length = sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n));
}

static int make(struct search *s)
{
	const struct core_learn_params *p = s->w->params;
	uint32_t usual = 4 + (uint32_t)(3 * log((double)s->n));

	s->population = p->population ? p->population : usual < 8 ? 8 : usual;
	s->parents = s->population / 2;
	s->bound = p->bound > 0 ? p->bound : BOUND;
	s->sigma = SIGMA;
	s->best_cost = INFINITY;
	s->pool = calloc((s->population + 6) * s->n, sizeof(double));
	s->candidate = calloc(s->population, sizeof(s->candidate[0]));
	s->rank_weight = calloc(s->parents, sizeof(double));
	s->loss = calloc(s->population, sizeof(double));
	s->blends = calloc(s->population, sizeof(s->blends[0]));
	if (!s->pool || !s->candidate || !s->rank_weight || !s->loss || !s->blends)
		return core_fail(s->w->err, CORE_ENOMEM, "no memory for %u candidates of %zu weights", s->population, s->n);
	s->mean = s->pool + s->population * s->n;
	s->old = s->mean + s->n;
	s->variance = s->old + s->n;
	s->path_sigma = s->variance + s->n;
	s->path_c = s->path_sigma + s->n;
	s->best = s->path_c + s->n;
	for (uint32_t i = 0; i < s->population; i++)
		s->candidate[i].lam = s->pool + i * s->n;
	for (size_t k = 0; k < s->n; k++) {
		s->mean[k] = fmin(s->w->lam[k], s->bound);
		s->variance[k] = 1;
	}
	set_rates(s);
	return CORE_OK;
}

int learn_by_search(struct work *w)
{
	struct search s = {.w = w, .n = (size_t)w->k * w->groups};
	int rc = make(&s);

	if (!rc)
		rc = evolve(&s);
	free(s.pool);
	free(s.candidate);
	free(s.rank_weight);
	free(s.loss);
	free(s.blends);
	return rc;
}
