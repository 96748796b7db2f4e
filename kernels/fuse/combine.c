/* combine.c: one module of several adapters to one pair of factors. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parts.h"

/* ---- coefficients ---- */

/* What the linear family multiplies A_i and B_i with. */
static int linear_coefficients(const struct fuse_recipe *r, const struct fuse_module *m, double *ca, double *cb,
			       struct core_error *err)
{
	for (unsigned i = 0; i < m->n; i++) {
		double w = m->parts[i].weight, s = m->parts[i].scale, c = w * s, root = sqrt(fabs(c)),
		       signed_root = c < 0 ? -root : root;
		switch (r->maths) {
		case FUSE_PEFT_0_6:
			ca[i] = c;
			cb[i] = 1;
			break;
		case FUSE_PEFT_0_7:
			ca[i] = sqrt(w) * s;
			cb[i] = sqrt(w);
			break;
		case FUSE_PEFT_0_9:
			ca[i] = cb[i] = sqrt(c);
			break;
		case FUSE_PEFT_0_18:
			ca[i] = cb[i] = signed_root;
			break;
		default:
			ca[i] = signed_root;
			cb[i] = root;
		}
		if (isnan(ca[i]))
			return core_fail(err, CORE_EINVAL, "%s: weight times scale is %g: %s takes its root and fails", m->name, c,
					 fuse_maths_name(r->maths));
	}
	return 0;
}

/* What the products s_i B_i A_i are multiplied with. */
static double product_weight(const struct fuse_recipe *r, const struct fuse_part *p)
{
	bool twice = r->maths >= FUSE_PEFT_0_9;

	return twice ? p->weight * p->scale : p->weight;
}

/* ---- sources of rows ---- */

static void row_of_a(const void *arg, unsigned part, uint64_t row, double *out)
{
	const struct fuse_module *m = arg;
	const float *a = m->parts[part].a + row * m->in;

	for (uint64_t c = 0; c < m->in; c++)
		out[c] = (double)a[c];
}

static void row_of_b(const void *arg, unsigned part, uint64_t row, double *out)
{
	const struct fuse_part *p = &((const struct fuse_module *)arg)->parts[part];

	for (uint32_t k = 0; k < p->rank; k++)
		out[k] = (double)p->b[row * p->rank + k];
}

/* s B A, a row: summed over the rank in order */
static void row_of_product(const void *arg, unsigned part, uint64_t row, double *out)
{
	const struct fuse_module *m = arg;
	const struct fuse_part *p = &m->parts[part];

	memset(out, 0, m->in * sizeof *out);
	for (uint32_t k = 0; k < p->rank; k++) {
		const float *a = p->a + k * m->in;
		double b = (double)p->b[row * p->rank + k];
		for (uint64_t c = 0; c < m->in; c++)
			out[c] += b * (double)a[c];
	}
	for (uint64_t c = 0; c < m->in; c++)
		out[c] *= p->scale;
}

/* ---- where rows go ---- */

struct sink {
	float *f; /* one of the two */
	double *d;
	uint64_t cols;
	bool beyond; /* a value left f32's range */
};

static void put_row(void *arg, uint64_t row, const double *values)
{
	struct sink *s = arg;

	if (s->d != NULL) {
		memcpy(s->d + row * s->cols, values, s->cols * sizeof *values);
		return;
	}
	for (uint64_t c = 0; c < s->cols; c++) {
		s->f[row * s->cols + c] = (float)values[c];
		s->beyond |= !isfinite(s->f[row * s->cols + c]);
	}
}

/* ---- the families ---- */

struct combining {
	const struct fuse_recipe *r;
	const struct fuse_module *m;
	const struct fuse_watch *watch;
	struct fuse_factors *f;
	unsigned adapter[CORE_BLEND_MAX];
	struct core_error *err;
};

static int mix(struct combining *c, const struct mix_source *source, const char *factor, const double *weight, struct sink *sink)
{
	const struct fuse_traits *t = fuse_traits(fuse_type_for(c->r, c->m->adapters));
	char tensor[256];
	struct mix_rule rule = {.thin = t->thin,
				.elect = t->elect,
				.sign = c->r->sign,
				.density = c->r->density,
				.seed = c->r->seed,
				.tensor = tensor,
				.adapter = c->adapter,
				.weight = weight};
	int rc;

	/* PEFT's releases before 0.19 divide and drop the quotient. */
	rule.rescale = t->thin == THIN_RANDOM && c->r->maths != FUSE_PEFT_0_9 && c->r->maths != FUSE_PEFT_0_18;
	snprintf(tensor, sizeof tensor, "%s.%s", c->m->name, factor);
	sink->cols = source->cols;
	rc = mix_run(source, &rule, put_row, sink, c->watch, c->err);
	if (rc == 0 && sink->beyond)
		rc = core_fail(c->err, CORE_EINVAL, "%s: the result has values beyond f32", tensor);
	return rc;
}

static int factors_new(struct combining *c)
{
	c->f->a = calloc(c->f->rank * c->m->in, sizeof *c->f->a);
	c->f->b = calloc(c->m->out * c->f->rank, sizeof *c->f->b);
	if (c->f->a == NULL || c->f->b == NULL)
		return core_fail(c->err, CORE_ENOMEM, "%s: out of memory for the factors", c->m->name);
	return 0;
}

static int combine_linear(struct combining *c)
{
	const struct fuse_module *m = c->m;
	struct mix_source a = {row_of_a, m, c->f->rank, m->in, m->n}, b = {row_of_b, m, m->out, c->f->rank, m->n};
	double ca[CORE_BLEND_MAX], cb[CORE_BLEND_MAX];
	int rc = linear_coefficients(c->r, m, ca, cb, c->err);

	if (rc == 0)
		rc = factors_new(c);
	if (rc == 0)
		rc = mix(c, &a, "lora_A", ca, &(struct sink){.f = c->f->a});
	if (rc == 0)
		rc = mix(c, &b, "lora_B", cb, &(struct sink){.f = c->f->b});
	return rc;
}

static int combine_cat(struct combining *c)
{
	const struct fuse_module *m = c->m;
	uint32_t first = 0;
	int rc = factors_new(c);

	for (unsigned i = 0; i < m->n && rc == 0; i++) {
		const struct fuse_part *p = &m->parts[i];
		float *a = c->f->a + first * m->in;
		bool beyond = false;
		for (uint64_t k = 0; k < p->rank * m->in; k++) {
			a[k] = (float)(p->weight * p->scale * (double)p->a[k]);
			beyond |= !isfinite(a[k]);
		}
		for (uint64_t o = 0; o < m->out; o++)
			memcpy(c->f->b + o * c->f->rank + first, p->b + o * p->rank, p->rank * sizeof(float));
		first += p->rank;
		if (beyond)
			rc = core_fail(c->err, CORE_EINVAL, "%s: the result has values beyond f32", m->name);
	}
	return rc;
}

static int combine_products(struct combining *c)
{
	const struct fuse_module *m = c->m;
	struct mix_source products = {row_of_product, m, m->out, m->in, m->n};
	double weight[CORE_BLEND_MAX], *d;
	int rc;

	for (unsigned i = 0; i < m->n; i++)
		weight[i] = product_weight(c->r, &m->parts[i]);
	if (c->r->type == FUSE_SVD) {
		for (unsigned i = 0; i < m->n; i++)
			weight[i] *= m->parts[i].scale;
		return svd_of_sum(m, weight, c->r->svd_clamp, c->f, c->err);
	}
	d = calloc(m->out * m->in, sizeof *d);
	if (d == NULL)
		return core_fail(c->err, CORE_ENOMEM, "%s: out of memory for its product, %" PRIu64 " by %" PRIu64 " numbers",
				 m->name, m->out, m->in);
	rc = mix(c, &products, "product", weight, &(struct sink){.d = d});
	if (rc == 0)
		rc = svd_of_matrix(m->name, d, m->out, m->in, c->r->svd_clamp, c->f, c->err);
	free(d);
	return rc;
}

/* ---- one module ---- */

int fuse_module_rank(const struct fuse_recipe *r, const struct fuse_module *m, uint32_t *rank, struct core_error *err)
{
	enum fuse_type type = fuse_type_for(r, m->adapters);
	uint64_t sum = 0, most = 0, limit = m->out < m->in ? m->out : m->in;

	for (unsigned i = 0; i < m->n; i++) {
		const struct fuse_part *p = &m->parts[i];
		if (!fuse_traits(type)->svd && type != FUSE_CAT && p->rank != m->parts[0].rank)
			return core_fail(err, CORE_EINVAL,
					 "%s: ranks %" PRIu32 " and %" PRIu32
					 ": %s needs equal ranks; cat and the svd types do not",
					 m->name, m->parts[0].rank, p->rank, fuse_type_name(type));
		sum += p->rank;
		most = p->rank > most ? p->rank : most;
	}
	if (fuse_traits(type)->svd) { /* no more than can be anything but zero */
		most = r->svd_rank != 0 ? r->svd_rank : most;
		limit = type == FUSE_SVD && sum < limit ? sum : limit;
		most = most < limit ? most : limit;
	}
	*rank = (uint32_t)(type == FUSE_CAT ? sum : most);
	return 0;
}

static int check_module(const struct fuse_module *m, struct core_error *err)
{
	for (unsigned i = 0; i < m->n; i++) {
		const struct fuse_part *p = &m->parts[i];
		bool finite = isfinite(p->scale) && isfinite(p->weight);
		for (uint64_t k = 0; k < p->rank * m->in && finite; k++)
			finite = isfinite(p->a[k]);
		for (uint64_t k = 0; k < m->out * p->rank && finite; k++)
			finite = isfinite(p->b[k]);
		if (!finite)
			return core_fail(err, CORE_EINVAL, "%s: adapter %u has values that are not finite numbers", m->name,
					 p->adapter + 1);
	}
	return 0;
}

int fuse_module_combine(const struct fuse_recipe *r, const struct fuse_module *m, struct fuse_factors *f,
			const struct fuse_watch *watch, struct core_error *err)
{
	struct combining c = {.r = r, .m = m, .watch = watch, .f = f, .err = err};
	enum fuse_type type = fuse_type_for(r, m->adapters);
	int rc;

	*f = (struct fuse_factors){0};
	rc = fuse_module_rank(r, m, &f->rank, err);
	if (rc == 0)
		rc = check_module(m, err);
	if (rc == 0)
		rc = fuse_stopped(watch, err);
	for (unsigned i = 0; i < m->n; i++)
		c.adapter[i] = m->parts[i].adapter;
	if (rc == 0)
		rc = type == FUSE_CAT ? combine_cat(&c) : fuse_traits(type)->svd ? combine_products(&c) : combine_linear(&c);
	if (rc < 0)
		fuse_factors_finish(f);
	return rc;
}

void fuse_factors_finish(struct fuse_factors *f)
{
	free(f->a);
	free(f->b);
	*f = (struct fuse_factors){0};
}
