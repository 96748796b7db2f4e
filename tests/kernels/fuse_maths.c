/* The mathematics of fusing: FACTS appendix B, PEFT's own results release by release (fixtures/make_fuse.py), and properties. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>

#include "kernels/fuse/parts.h"

/* ---- small helpers ---- */

static uint32_t lcg_state;

static double draw(void) /* -1 .. 1 */
{
	lcg_state = lcg_state * 1664525 + 1013904223;
	return (double)(lcg_state >> 8) / 0x1p23 - 1;
}

static float *draw_floats(uint64_t n)
{
	float *v = malloc(n * sizeof *v);

	for (uint64_t i = 0; i < n; i++)
		v[i] = (float)draw();
	return v;
}

/* D = sum of c_i B_i A_i in double, plainly. */
static double *product(const struct fuse_part *parts, unsigned n, uint64_t out, uint64_t in)
{
	double *d = calloc(out * in, sizeof *d);

	for (unsigned p = 0; p < n; p++)
		for (uint64_t o = 0; o < out; o++)
			for (uint64_t i = 0; i < in; i++)
				for (uint32_t k = 0; k < parts[p].rank; k++)
					d[o * in + i] += parts[p].weight * parts[p].scale *
							 (double)parts[p].b[o * parts[p].rank + k] * (double)parts[p].a[k * in + i];
	return d;
}

static double *product_of(const struct fuse_factors *f, uint64_t out, uint64_t in)
{
	struct fuse_part one = {.a = f->a, .b = f->b, .rank = f->rank, .scale = 1, .weight = 1};

	return product(&one, 1, out, in);
}

static double norm(const double *v, uint64_t n)
{
	double s = 0;

	for (uint64_t i = 0; i < n; i++)
		s += v[i] * v[i];
	return sqrt(s);
}

static double distance(const double *a, const double *b, uint64_t n)
{
	double s = 0;

	for (uint64_t i = 0; i < n; i++)
		s += (a[i] - b[i]) * (a[i] - b[i]);
	return sqrt(s);
}

/* Singular values of m [rows][cols], largest first, by one-sided Jacobi: nothing of LAPACK in it. m is overwritten. */
static void singular_values(double *m, uint64_t rows, uint64_t cols, double *s)
{
	for (int sweep = 0; sweep < 60; sweep++)
		for (uint64_t i = 0; i < rows; i++)
			for (uint64_t j = i + 1; j < rows; j++) {
				double *x = m + i * cols, *y = m + j * cols, xx = 0, yy = 0, xy = 0, zeta, t, c;
				for (uint64_t k = 0; k < cols; k++) {
					xx += x[k] * x[k];
					yy += y[k] * y[k];
					xy += x[k] * y[k];
				}
				if (fabs(xy) <= 1e-17 * sqrt(xx * yy))
					continue;
				zeta = (yy - xx) / (2 * xy);
				t = (zeta >= 0 ? 1 : -1) / (fabs(zeta) + sqrt(1 + zeta * zeta));
				c = 1 / sqrt(1 + t * t);
				for (uint64_t k = 0; k < cols; k++) {
					double old = x[k];
					x[k] = c * old - c * t * y[k];
					y[k] = c * t * old + c * y[k];
				}
			}
	for (uint64_t i = 0; i < rows; i++) {
		double v = norm(m + i * cols, cols);
		uint64_t at = i;
		for (; at > 0 && s[at - 1] < v; at--)
			s[at] = s[at - 1];
		s[at] = v;
	}
}

static void combine(const struct fuse_recipe *r, const struct fuse_module *m, struct fuse_factors *f)
{
	struct core_error err = {0};
	double weights[CORE_BLEND_MAX] = {0};

	for (unsigned i = 0; i < m->n; i++)
		weights[i] = m->parts[i].weight;
	if (fuse_recipe_check(r, weights, m->adapters, NULL, &err) < 0 || fuse_module_combine(r, m, f, NULL, &err) < 0)
		fail_msg("%s: %s", fuse_type_name(r->type), err.text);
}

/* ---- FACTS appendix B ---- */

static const double vectors[3][6] = {{1, -2, 0.5, 3, -0.1, 0}, {-4, 1.1, 0.25, -0.9, 2, 0.75}, {0.5, 1.5, -0.5, -1.25, -3, 0.2}};

static void vector_row(const void *arg, unsigned part, uint64_t row, double *out)
{
	memcpy(out, vectors[part], sizeof vectors[part]);
}

static void keep_row(void *arg, uint64_t row, const double *values)
{
	memcpy(arg, values, sizeof vectors[0]);
}

static void expect_mix(enum fuse_type type, double density, enum fuse_sign sign, const double *expected)
{
	static const double weight[3] = {1, 0.5, -0.5};
	static const unsigned adapter[3] = {0, 1, 2};
	struct mix_source s = {vector_row, NULL, 1, 6, 3};
	struct mix_rule rule = {.thin = fuse_traits(type)->thin,
				.elect = fuse_traits(type)->elect,
				.sign = sign,
				.density = density,
				.tensor = "appendix",
				.adapter = adapter,
				.weight = weight};
	double got[6];

	assert_int_equal(mix_run(&s, &rule, keep_row, got, NULL, NULL), 0);
	for (int i = 0; i < 6; i++)
		if (!(fabs(got[i] - expected[i]) < 1e-12))
			fail_msg("%s, density %g, %s: place %d: %.17g, expected %.17g", fuse_type_name(type), density,
				 fuse_sign_name(sign), i, got[i], expected[i]);
}

static void facts_appendix_b_holds(void **state)
{
	expect_mix(FUSE_TIES, 1, FUSE_SIGN_TOTAL, (double[]){-2.0, -0.1, 0.3125, 3.0, 0.7, 0.1375});
	expect_mix(FUSE_TIES, 1, FUSE_SIGN_FREQUENCY, (double[]){0.375, -0.1, 0.3125, 0.0875, 0.7, 0.1375});
	expect_mix(FUSE_MAGNITUDE_PRUNE, 1, FUSE_SIGN_TOTAL, (double[]){-1.25, -2.2, 0.875, 3.175, 2.4, 0.275});
	expect_mix(FUSE_TIES, 0.5, FUSE_SIGN_TOTAL, (double[]){-2.0, -0.1, 0.0, 3.0, 1.5, 0.0});
	expect_mix(FUSE_TIES, 0.5, FUSE_SIGN_FREQUENCY, (double[]){1.0, -0.1, 0.0, 3.0, 1.0, 0.0});
	expect_mix(FUSE_MAGNITUDE_PRUNE, 0.5, FUSE_SIGN_TOTAL, (double[]){-1.0, -2.2, 0.0, 3.625, 2.5, 0.0});
}

static void expect_scalar(enum fuse_type type, enum fuse_maths maths, double c2, double expected)
{
	float a[2] = {2, 5}, b[2] = {3, 7};
	struct fuse_part parts[2] = {{&a[0], &b[0], 1, 1, 0.25, 0}, {&a[1], &b[1], 1, 1, c2, 1}};
	struct fuse_module m = {"m", 1, 1, parts, 2, 2};
	struct fuse_factors f;
	double *d;

	combine(&(struct fuse_recipe){.type = type, .maths = maths}, &m, &f);
	d = product_of(&f, 1, 1);
	if (fabs(d[0] - expected) > 1e-5)
		fail_msg("%s, %s: %.9g, expected %.9g", fuse_type_name(type), fuse_maths_name(maths), d[0], expected);
	free(d);
	fuse_factors_finish(&f);
}

static void cat_is_exact_and_linear_has_cross_terms(void **state)
{
	expect_scalar(FUSE_CAT, FUSE_MATHS_TRUE, 1, 36.5);
	expect_scalar(FUSE_LINEAR, FUSE_MATHS_TRUE, 1, 51);
	expect_scalar(FUSE_CAT, FUSE_MATHS_TRUE, -1, -33.5);
	expect_scalar(FUSE_LINEAR, FUSE_MATHS_TRUE, -1, -34);
	expect_scalar(FUSE_SVD, FUSE_MATHS_TRUE, -1, -33.5);
	expect_scalar(FUSE_LINEAR, FUSE_PEFT_0_18, -1,
		      (1.0 - 5) * (1.5 - 7)); /* the sign is on both, and lost for an adapter alone */
	expect_scalar(FUSE_LINEAR, FUSE_PEFT_0_6, 1, (0.5 + 5) * 10);
}

/* ---- PEFT's results ---- */

static json_t *fixture;
static uint64_t out_size, inner_size, vocab_size;

static int read_fixture(void **state)
{
	char path[1024];

	snprintf(path, sizeof path, "%s/tests/kernels/fixtures/fuse/peft.json",
		 getenv("top_srcdir") != NULL ? getenv("top_srcdir") : ".");
	fixture = json_load_file(path, 0, NULL);
	if (fixture == NULL)
		return -1;
	out_size = (uint64_t)json_integer_value(json_object_get(fixture, "out"));
	inner_size = (uint64_t)json_integer_value(json_object_get(fixture, "inner"));
	vocab_size = (uint64_t)json_integer_value(json_object_get(fixture, "vocab"));
	return 0;
}

static int drop_fixture(void **state)
{
	json_decref(fixture);
	return 0;
}

static float *floats_of(const json_t *array)
{
	size_t n = json_array_size(array);
	float *v = malloc((n + 1) * sizeof *v);

	for (size_t i = 0; i < n; i++)
		v[i] = (float)json_number_value(json_array_get(array, i));
	return v;
}

static const char *text_of(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

/* The inputs of a case. The floats are freed by parts_free(). */
static unsigned parts_of(const json_t *set, const char *module, const json_t *weights, struct fuse_part *parts)
{
	unsigned n = (unsigned)json_array_size(weights);

	for (unsigned i = 0; i < n; i++) {
		const json_t *o = json_array_get(set, i), *f = json_object_get(o, module);
		parts[i] = (struct fuse_part){.a = floats_of(json_object_get(f, "a")),
					      .b = floats_of(json_object_get(f, "b")),
					      .rank = (uint32_t)json_integer_value(json_object_get(o, "rank")),
					      .scale = json_number_value(json_object_get(o, "scale")),
					      .weight = json_number_value(json_array_get(weights, i)),
					      .adapter = i};
	}
	return n;
}

static void parts_free(struct fuse_part *parts, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		free((void *)parts[i].a);
		free((void *)parts[i].b);
	}
}

static struct fuse_recipe recipe_of(const json_t *c)
{
	struct fuse_recipe r = {0};
	struct core_error err;

	assert_int_equal(fuse_type_parse(text_of(c, "type"), &r.type, &err), 0);
	assert_int_equal(fuse_maths_parse(text_of(c, "maths"), &r.maths, &err), 0);
	assert_int_equal(fuse_sign_parse(text_of(c, "sign"), &r.sign, &err), 0);
	r.density = json_number_value(json_object_get(c, "density"));
	r.svd_rank = (uint32_t)json_integer_value(json_object_get(c, "rank"));
	r.svd_clamp = json_number_value(json_object_get(c, "clamp"));
	if (fuse_traits(r.type)->thin == THIN_RANDOM)
		r.seed = strtoull(text_of(fixture, "seed"), NULL, 10);
	return r;
}

static void expect_close(const json_t *c, const char *what, const float *got, uint64_t n, const float *expected)
{
	double most = 0;

	for (uint64_t i = 0; i < n; i++)
		most = fmax(most, fabs((double)expected[i]));
	for (uint64_t i = 0; i < n; i++)
		if (!(fabs((double)got[i] - (double)expected[i]) <= 1e-6 * most)) {
			char *text = json_dumps(c, JSON_COMPACT);
			fail_msg("%s[%u] is %.9g, PEFT has %.9g: %.300s", what, (unsigned)i, (double)got[i], (double)expected[i],
				 text);
		}
}

static void expect_case(const json_t *c)
{
	bool embed = strcmp(text_of(c, "module"), "embed_tokens") == 0;
	struct fuse_recipe r = recipe_of(c);
	struct fuse_part parts[CORE_BLEND_MAX];
	unsigned n = parts_of(json_object_get(json_object_get(fixture, "sets"), text_of(c, "set")), text_of(c, "module"),
			      json_object_get(c, "weights"), parts);
	struct fuse_module m = {embed ? "model.embed_tokens" : "model.q_proj",
				embed ? inner_size : out_size,
				embed ? vocab_size : inner_size,
				parts,
				n,
				n};
	struct fuse_factors f;
	uint32_t rank = (uint32_t)json_integer_value(json_object_get(c, "result_rank"));
	float *a = floats_of(json_object_get(c, "a")), *b = floats_of(json_object_get(c, "b"));

	combine(&r, &m, &f);
	assert_int_equal(f.rank, rank);
	expect_close(c, "A", f.a, rank * m.in, a);
	expect_close(c, "B", f.b, m.out * rank, b);
	fuse_factors_finish(&f);
	parts_free(parts, n);
	free(a);
	free(b);
}

static void every_release_of_peft_is_met(void **state)
{
	const json_t *cases = json_object_get(fixture, "cases");
	unsigned types[FUSE_TYPES] = {0}, maths[FUSE_MATHS] = {0};

	for (size_t i = 0; i < json_array_size(cases); i++) {
		struct fuse_recipe r = recipe_of(json_array_get(cases, i));
		expect_case(json_array_get(cases, i));
		types[r.type]++;
		maths[r.maths]++;
	}
	for (unsigned t = 0; t < FUSE_TYPES; t++)
		assert_true(types[t] >= 5);
	for (unsigned t = 0; t < FUSE_MATHS; t++)
		assert_true(maths[t] >= 5);
}

static void singular_values_are_numpys(void **state)
{
	json_t *weights = json_pack("[f, f, f]", 1.0, 0.5, -0.5);
	struct fuse_part parts[3];
	struct fuse_factors f;

	parts_of(json_object_get(json_object_get(fixture, "sets"), "mixed"), "q_proj", weights, parts);
	combine(&(struct fuse_recipe){.type = FUSE_SVD, .svd_rank = 10},
		&(struct fuse_module){"q", out_size, inner_size, parts, 3, 3}, &f);
	assert_int_equal(f.rank, 9); /* 2 + 3 + 4: the tenth is zero and is not made */
	for (uint32_t j = 0; j < f.rank; j++) {
		double s = 0,
		       expected =
			       json_number_value(json_array_get(json_object_get(json_object_get(fixture, "spectra"), "mixed"), j));
		for (uint64_t o = 0; o < out_size; o++)
			s += (double)f.b[o * f.rank + j] * (double)f.b[o * f.rank + j];
		assert_true(fabs(sqrt(s) - expected) < 1e-6 * expected);
	}
	fuse_factors_finish(&f);
	parts_free(parts, 3);
	json_decref(weights);
}

/* ---- properties ---- */

struct shape {
	uint64_t out, in;
	uint32_t ranks[3];
};

static void make_parts(struct fuse_part *parts, const struct shape *s)
{
	lcg_state = 5;
	for (unsigned i = 0; i < 3; i++)
		parts[i] = (struct fuse_part){.a = draw_floats(s->ranks[i] * s->in),
					      .b = draw_floats(s->out * s->ranks[i]),
					      .rank = s->ranks[i],
					      .scale = 0.5 + i,
					      .weight = i == 1 ? -0.7 : 1.1,
					      .adapter = i};
}

static void cat_is_the_exact_sum(void **state)
{
	struct shape s = {70, 50, {4, 1, 9}};
	struct fuse_part parts[3];
	struct fuse_module m = {"m", s.out, s.in, parts, 3, 3};
	struct fuse_factors f;
	double *want, *got;

	make_parts(parts, &s);
	combine(&(struct fuse_recipe){.type = FUSE_CAT}, &m, &f);
	assert_int_equal(f.rank, 14);
	want = product(parts, 3, s.out, s.in);
	got = product_of(&f, s.out, s.in);
	assert_true(distance(want, got, s.out * s.in) < 1e-7 * norm(want, s.out * s.in));
	free(want);
	free(got);
	fuse_factors_finish(&f);
	parts_free(parts, 3);
}

/* Eckart and Young: no product of this rank is nearer, and the distance is the root of the dropped squares. */
static void expect_best(const struct shape *s, uint32_t rank, enum fuse_type type)
{
	struct fuse_part parts[3];
	struct fuse_module m = {"m", s->out, s->in, parts, 3, 3};
	struct fuse_recipe r = {.type = type, .svd_rank = rank, .density = type == FUSE_SVD ? 0 : 1};
	struct fuse_factors f;
	double *want, *got, *copy, sigma[128], tail = 0, all;

	make_parts(parts, s);
	combine(&r, &m, &f);
	want = product(parts, 3, s->out, s->in);
	got = product_of(&f, s->out, s->in);
	copy = product(parts, 3, s->out, s->in);
	singular_values(copy, s->out, s->in, sigma);
	all = norm(want, s->out * s->in);
	for (uint64_t i = rank; i < s->out; i++)
		tail += sigma[i] * sigma[i];
	if (!(fabs(distance(want, got, s->out * s->in) - sqrt(tail)) < 2e-7 * all))
		fail_msg("[%u, %u] at rank %u: distance %.9g, the best is %.9g of %.9g", (unsigned)s->out, (unsigned)s->in, rank,
			 distance(want, got, s->out * s->in), sqrt(tail), all);
	free(want);
	free(got);
	free(copy);
	fuse_factors_finish(&f);
	parts_free(parts, 3);
}

static void svd_is_the_best_approximation(void **state)
{
	static const struct shape shapes[] = {{40, 90, {4, 2, 8}}, {90, 40, {4, 2, 8}}, {10, 64, {8, 8, 8}},
					      {64, 10, {8, 8, 8}}, {1, 7, {1, 2, 3}},   {9, 9, {3, 3, 3}}};

	for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
		for (uint32_t rank = 1; rank < 30; rank += 6) {
			expect_best(&shapes[i], rank, FUSE_SVD);
			expect_best(&shapes[i], rank,
				    FUSE_MAGNITUDE_PRUNE_SVD); /* at density 1 it is svd by way of the whole matrix */
		}
}

static void zero_products_and_zero_weights_are_fine(void **state)
{
	struct shape s = {8, 6, {2, 2, 2}};
	struct fuse_part parts[3];
	struct fuse_module m = {"m", s.out, s.in, parts, 3, 3};

	make_parts(parts, &s);
	for (unsigned i = 0; i < 3; i++)
		parts[i].weight = 0;
	for (unsigned t = 0; t < FUSE_TYPES; t++) {
		struct fuse_recipe r = {.type = (enum fuse_type)t,
					.density = fuse_traits((enum fuse_type)t)->thin != THIN_NONE ? 0.5 : 0};
		struct fuse_factors f;
		double *d;
		combine(&r, &m, &f);
		d = product_of(&f, s.out, s.in);
		assert_true(norm(d, s.out * s.in) == 0);
		free(d);
		fuse_factors_finish(&f);
	}
	parts_free(parts, 3);
}

/* One adapter of ones: what stays of it is 1 / density. */
static double kept_share(double density, uint64_t seed, unsigned adapter, const char *name, uint64_t *pattern)
{
	enum { N = 40000 };
	float *a = malloc(N * sizeof *a), b = 1;
	struct fuse_part part = {a, &b, 1, 1, 1, adapter};
	struct fuse_module m = {name, 1, N, &part, 1, 1};
	struct fuse_factors f;
	uint64_t kept = 0;

	for (unsigned i = 0; i < N; i++)
		a[i] = 1;
	*pattern = 0;
	/* B is one number that may be dropped; the A half is what is looked at. */
	combine(&(struct fuse_recipe){.type = FUSE_DARE_LINEAR, .density = density, .seed = seed}, &m, &f);
	for (unsigned i = 0; i < N; i++) {
		bool stays = f.a[i] != 0;
		assert_true(!stays || f.a[i] == (float)(1 / density));
		kept += stays;
		*pattern = *pattern * 31 + stays;
	}
	fuse_factors_finish(&f);
	free(a);
	return (double)kept / N;
}

static void dare_keeps_its_share_and_depends_on_what_it_says(void **state)
{
	uint64_t first, again, other;

	for (int i = 1; i < 10; i++) { /* 5 standard deviations */
		double density = i / 10.0, share = kept_share(density, 7, 0, "m", &first);
		assert_true(fabs(share - density) < 5 * sqrt(density * (1 - density) / 40000));
	}
	kept_share(0.5, 7, 0, "m", &first);
	kept_share(0.5, 7, 0, "m", &again);
	assert_true(first == again);
	kept_share(0.5, 8, 0, "m", &other);
	assert_true(first != other);
	kept_share(0.5, 7, 1, "m", &other);
	assert_true(first != other);
	kept_share(0.5, 7, 0, "n", &other);
	assert_true(first != other);
}

static void the_mean_of_dare_is_linear(void **state)
{
	struct shape s = {6, 8, {3, 3, 3}};
	struct fuse_part parts[3];
	struct fuse_module m = {"m", s.out, s.in, parts, 3, 3};
	struct fuse_factors f, linear;
	double mean[24] = {0}, spread = 0;
	enum { RUNS = 4000 };

	make_parts(parts, &s);
	combine(&(struct fuse_recipe){.type = FUSE_LINEAR}, &m, &linear);
	for (unsigned seed = 0; seed < RUNS; seed++) {
		combine(&(struct fuse_recipe){.type = FUSE_DARE_LINEAR, .density = 0.4, .seed = seed}, &m, &f);
		for (unsigned i = 0; i < 24; i++)
			mean[i] += (double)f.a[i] / RUNS;
		fuse_factors_finish(&f);
	}
	for (unsigned i = 0; i < 24; i++)
		spread = fmax(spread, fabs(mean[i] - (double)linear.a[i]));
	assert_true(spread < 0.15); /* a value's deviation is below sqrt(3 * 1.5) * 1.7 / sqrt(4000) = 0.06 */
	fuse_factors_finish(&linear);
	parts_free(parts, 3);
}

/* A plain reference: sort all magnitudes; the first of equals stay. */
static void magnitude_keeps_the_largest_and_the_first_of_equals(void **state)
{
	enum { N = 30 };
	float a[N], b = 1;
	struct fuse_part part = {a, &b, 1, 1, 1, 0};
	struct fuse_module m = {"m", 1, N, &part, 1, 1};

	for (unsigned i = 0; i < N; i++)
		a[i] = (float)((i * 7 % 5) - 2) * 1e-30f;
	for (double density = 0.02; density <= 1; density += 0.09) {
		struct fuse_factors f;
		unsigned keep = (unsigned)(density * N);
		combine(&(struct fuse_recipe){.type = FUSE_MAGNITUDE_PRUNE, .density = density}, &m, &f);
		for (unsigned i = 0; i < N; i++) {
			unsigned before = 0;
			for (unsigned j = 0; j < N; j++)
				before += fabsf(a[j]) > fabsf(a[i]) || (fabsf(a[j]) == fabsf(a[i]) && j < i);
			assert_true(f.a[i] == (before < keep ? a[i] : 0));
		}
		assert_true(f.b[0] == (density < 1 ? 0 : 1)); /* int(density * 1) of one value */
		fuse_factors_finish(&f);
	}
}

/* ---- refusals ---- */

static void expect_refused(struct fuse_recipe r, unsigned n, double w, const char *why)
{
	double weights[CORE_BLEND_MAX + 1] = {1, w, 1};
	struct core_error err = {0};

	assert_int_equal(fuse_recipe_check(&r, weights, n, NULL, &err), CORE_EINVAL);
	if (strstr(err.text, why) == NULL)
		fail_msg("\"%s\" does not speak of %s", err.text, why);
}

static void senseless_recipes_are_refused(void **state)
{
	expect_refused((struct fuse_recipe){.type = FUSE_TIES}, 2, 1, "density");
	expect_refused((struct fuse_recipe){.type = FUSE_TIES, .density = 1.01}, 2, 1, "density");
	expect_refused((struct fuse_recipe){.type = FUSE_DARE_LINEAR, .density = -0.1}, 2, 1, "density");
	expect_refused((struct fuse_recipe){.type = FUSE_DARE_LINEAR, .density = NAN}, 2, 1, "density");
	expect_refused((struct fuse_recipe){.type = FUSE_LINEAR, .density = 0.5}, 2, 1, "density");
	expect_refused((struct fuse_recipe){.type = FUSE_LINEAR, .sign = FUSE_SIGN_FREQUENCY}, 2, 1, "sign");
	expect_refused((struct fuse_recipe){.type = FUSE_CAT, .svd_rank = 4}, 2, 1, "svd_rank");
	expect_refused((struct fuse_recipe){.type = FUSE_CAT, .svd_clamp = 0.5}, 2, 1, "svd_clamp");
	expect_refused((struct fuse_recipe){.type = FUSE_SVD, .svd_clamp = 1.5}, 2, 1, "svd_clamp");
	expect_refused((struct fuse_recipe){.type = FUSE_SVD, .seed = 1}, 2, 1, "seed");
	expect_refused((struct fuse_recipe){.type = FUSE_SVD}, 0, 1, "adapters");
	expect_refused((struct fuse_recipe){.type = FUSE_SVD}, CORE_BLEND_MAX + 1, 1, "adapters");
	expect_refused((struct fuse_recipe){.type = FUSE_SVD}, 2, INFINITY, "finite");
	expect_refused((struct fuse_recipe){.type = FUSE_TYPES}, 2, 1, "does not exist");
	expect_refused((struct fuse_recipe){.type = FUSE_TIES, .maths = FUSE_PEFT_0_7, .density = 0.5}, 2, 1,
		       "peft-0.7 has no ties");
	expect_refused((struct fuse_recipe){.type = FUSE_LINEAR, .maths = FUSE_PEFT_0_7}, 2, -1, "negative");
	expect_refused((struct fuse_recipe){.type = FUSE_TIES, .maths = FUSE_PEFT_0_9, .density = 0.5}, 2, -1, "negative");
}

static void unknown_names_are_refused_with_the_known_ones(void **state)
{
	struct core_error err;
	enum fuse_type t;
	enum fuse_maths m;
	enum fuse_sign s;

	assert_int_equal(fuse_type_parse("task_arithmetic", &t, &err), CORE_EINVAL);
	assert_non_null(strstr(err.text, "dare_ties_svd, magnitude_prune"));
	assert_int_equal(fuse_maths_parse("peft-0.8", &m, &err), CORE_EINVAL);
	assert_non_null(strstr(err.text, "peft-0.18"));
	assert_int_equal(fuse_sign_parse("", &s, &err), CORE_EINVAL);
	assert_non_null(strstr(err.text, "total, frequency"));
}

static void expect_module_refused(enum fuse_type type, float poison, const char *why)
{
	struct shape s = {8, 6, {2, 2, 3}};
	struct fuse_part parts[3];
	struct fuse_factors f;
	struct core_error err = {0};

	make_parts(parts, &s);
	((float *)parts[1].b)[3] = poison;
	parts[0].weight = parts[1].weight = 1e30;
	assert_int_equal(fuse_module_combine(&(struct fuse_recipe){.type = type}, &(struct fuse_module){"m", 8, 6, parts, 3, 3}, &f,
					     NULL, &err),
			 CORE_EINVAL);
	assert_null(f.a);
	if (strstr(err.text, why) == NULL)
		fail_msg("\"%s\" does not speak of %s", err.text, why);
	parts_free(parts, 3);
}

static void what_cannot_be_combined_is_refused(void **state)
{
	expect_module_refused(FUSE_LINEAR, 1, "equal ranks");
	expect_module_refused(FUSE_CAT, NAN, "finite");
	expect_module_refused(FUSE_SVD, -INFINITY, "finite");
	expect_module_refused(FUSE_SVD, 1e30f, "beyond f32");
}

static void a_cancelled_combination_ends(void **state)
{
	struct shape s = {8, 6, {2, 2, 2}};
	struct fuse_part parts[3];
	struct fuse_factors f;
	struct core_error err = {0};
	atomic_bool cancel = true;
	struct fuse_watch watch = {.cancel = &cancel};

	make_parts(parts, &s);
	for (unsigned t = 0; t < FUSE_TYPES; t++) {
		struct fuse_recipe r = {.type = (enum fuse_type)t, .density = 0.5};
		assert_int_equal(fuse_module_combine(&r, &(struct fuse_module){"m", 8, 6, parts, 3, 3}, &f, &watch, &err),
				 FUSE_CANCELLED);
		assert_null(f.a);
	}
	parts_free(parts, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(facts_appendix_b_holds),
		cmocka_unit_test(cat_is_exact_and_linear_has_cross_terms),
		cmocka_unit_test(every_release_of_peft_is_met),
		cmocka_unit_test(singular_values_are_numpys),
		cmocka_unit_test(cat_is_the_exact_sum),
		cmocka_unit_test(svd_is_the_best_approximation),
		cmocka_unit_test(zero_products_and_zero_weights_are_fine),
		cmocka_unit_test(dare_keeps_its_share_and_depends_on_what_it_says),
		cmocka_unit_test(the_mean_of_dare_is_linear),
		cmocka_unit_test(magnitude_keeps_the_largest_and_the_first_of_equals),
		cmocka_unit_test(senseless_recipes_are_refused),
		cmocka_unit_test(unknown_names_are_refused_with_the_known_ones),
		cmocka_unit_test(what_cannot_be_combined_is_refused),
		cmocka_unit_test(a_cancelled_combination_ends),
	};

	return cmocka_run_group_tests(tests, read_fixture, drop_fixture);
}
