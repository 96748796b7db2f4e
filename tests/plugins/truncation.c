/* truncation: the samplers that keep some candidates and drop the others, against plain references in double, on hard lists. */
#include "samplers.h"

struct ref {
	double p[HARD_MAX];        /* probabilities */
	int32_t by_rank[HARD_MAX]; /* ids, likeliest first, ties by id */
	uint32_t n;
};

static const double *ref_key;

static int ref_compare(const void *pa, const void *pb)
{
	int32_t a = *(const int32_t *)pa, b = *(const int32_t *)pb;

	if (ref_key[a] != ref_key[b])
		return ref_key[a] > ref_key[b] ? -1 : 1;
	return (a > b) - (a < b);
}

static struct ref *reference(const struct hard *h)
{
	static struct ref r;
	static double l[HARD_MAX];
	long double sum = 0;
	double max = -INFINITY;

	r.n = h->n;
	for (uint32_t i = 0; i < h->n; i++) {
		l[i] = h->logits[i];
		r.by_rank[i] = (int32_t)i;
		max = l[i] > max ? l[i] : max;
	}
	for (uint32_t i = 0; i < h->n; i++)
		sum += expl((long double)l[i] - max);
	for (uint32_t i = 0; i < h->n; i++)
		r.p[i] = (double)(expl((long double)l[i] - max) / sum);
	ref_key = l;
	qsort(r.by_rank, r.n, sizeof(r.by_rank[0]), ref_compare);
	return &r;
}

/* Each reference marks what is to be kept. */
typedef void reference_fn(const struct hard *h, const struct ref *r, double value, uint8_t *keep);

static void ref_top_k(const struct hard *h, const struct ref *r, double k, uint8_t *keep)
{
	for (uint32_t i = 0; i < r->n; i++)
		keep[r->by_rank[i]] = i < k;
}

static void ref_top_p(const struct hard *h, const struct ref *r, double p, uint8_t *keep)
{
	long double mass = 0;

	for (uint32_t i = 0; i < r->n; i++) {
		keep[r->by_rank[i]] = i == 0 || mass < p;
		mass += r->p[r->by_rank[i]];
	}
}

static void ref_min_p(const struct hard *h, const struct ref *r, double p, uint8_t *keep)
{
	double best = h->logits[r->by_rank[0]];

	for (uint32_t i = 0; i < r->n; i++)
		keep[i] = (double)h->logits[i] - best >= log(p);
}

static void ref_top_n_sigma(const struct hard *h, const struct ref *r, double n, uint8_t *keep)
{
	long double sum = 0, squares = 0;
	uint32_t possible = 0;

	for (uint32_t i = 0; i < r->n; i++) {
		possible += isfinite(h->logits[i]);
		sum += isfinite(h->logits[i]) ? h->logits[i] : 0;
	}
	for (uint32_t i = 0; i < r->n; i++)
		squares += isfinite(h->logits[i]) ? (h->logits[i] - sum / possible) * (h->logits[i] - sum / possible) : 0;
	for (uint32_t i = 0; i < r->n; i++)
		keep[i] = (double)h->logits[i] >= (double)(h->logits[r->by_rank[0]] - n * sqrtl(squares / possible));
}

/* The list is shuffled by a fixed stride first when `stride` is above 1. */
static struct weft_candidates *candidates_of(const struct hard *h, uint32_t stride)
{
	struct weft_candidates *c = fake_candidates(h->logits, h->n);

	if (stride == 1 || h->n == 1)
		return c;
	while (h->n % stride == 0)
		stride += 2;
	for (uint32_t i = 0; i < h->n; i++) {
		c->ids[i] = (int32_t)((uint64_t)i * stride % h->n);
		c->logits[i] = h->logits[c->ids[i]];
	}
	c->dense = 0;
	return c;
}

static bool gcd_one(uint32_t a, uint32_t b)
{
	while (b) {
		uint32_t t = a % b;

		a = b;
		b = t;
	}
	return a == 1;
}

static void check_all(const char *name, reference_fn *fn, const double *values, int n_values)
{
	const struct weft_plugin *p = fake_load(name);
	static uint8_t want[HARD_MAX], got[HARD_MAX];

	for (int k = 0; k < HARD_CASES * n_values * 2; k++) {
		struct hard *h = hard_case(k / 2 / n_values);
		double value = values[k / 2 % n_values];
		uint32_t stride = k % 2 ? 7 : 1;
		struct weft_value *v = fake_values(p);
		struct weft_job *j = sampler_job(h->n);
		struct weft_candidates *c = candidates_of(h, gcd_one(stride, h->n) ? stride : 1);

		fake_set(p, v, name, value);
		fn(h, reference(h), value, want);
		assert_int_equal(sampler_once(p, v, j, c), 0);
		mark_kept(c, got, h->n);
		for (uint32_t i = 0; i < h->n; i++) {
			if (got[i] != want[i] && (got[i] || h->logits[i] != -INFINITY)) /* impossible ones may go at any time */
				fail_msg("%s=%g on \"%s\": id %u (logit %g) is %s", name, value, h->name, i, h->logits[i],
					 got[i] ? "kept" : "dropped");
		}
		for (uint32_t i = 0; i < c->n; i++)
			assert_true(c->logits[i] == h->logits[c->ids[i]]);
		fake_candidates_free(c);
		fake_job_free(j);
		fake_values_free(p, v);
	}
}

static void top_k_keeps_the_k_best_and_ties_go_to_the_lowest_id(void **state)
{
	check_all("top_k", ref_top_k, (double[]){1, 2, 50, 999, 1000, 5000}, 6);
}

static void top_p_keeps_the_smallest_set_that_reaches_the_mass(void **state)
{
	check_all("top_p", ref_top_p, (double[]){0, 1e-9, 0.123, 0.5123, 0.9001, 0.9999}, 6);
}

static void min_p_keeps_what_is_likely_enough_beside_the_best(void **state)
{
	check_all("min_p", ref_min_p, (double[]){1e-12, 0.05, 0.5, 1}, 4);
}

static void top_n_sigma_keeps_what_is_near_the_best(void **state)
{
	check_all("top_n_sigma", ref_top_n_sigma, (double[]){0.013, 1.01, 2.52, 30}, 4);
}

static void check_kept(const char *name, double value, const float *logits, uint32_t n, const int32_t *kept, uint32_t n_kept)
{
	const struct weft_plugin *p = fake_load(name);
	struct weft_value *v = fake_values(p);
	struct weft_job *j = sampler_job(n);
	struct weft_candidates *c = fake_candidates(logits, n);
	static uint8_t got[HARD_MAX];

	if (strcmp(name, "xtc") == 0) {
		fake_set(p, v, "xtc_threshold", value);
		fake_set(p, v, "xtc_probability", 1);
	} else {
		fake_set(p, v, name, value);
	}
	assert_int_equal(sampler_once(p, v, j, c), 0);
	mark_kept(c, got, n);
	for (uint32_t i = 0; i < n_kept; i++) {
		if (!got[kept[i]])
			fail_msg("%s=%g dropped id %d", name, value, kept[i]);
	}
	assert_int_equal(c->n, n_kept);
	fake_candidates_free(c);
	fake_job_free(j);
	fake_values_free(p, v);
}

static void a_mass_that_is_reached_exactly_takes_no_more(void **state)
{
	float equal[4] = {2, 2, 2, 2};

	check_kept("top_p", 0.5, equal, 4, (int32_t[]){0, 1}, 2);
	check_kept("typical_p", 0.5, equal, 4, (int32_t[]){0, 1}, 2);
	check_kept("top_p", 0.51, equal, 4, (int32_t[]){0, 1, 2}, 3);
	check_kept("typical_p", 0.51, equal, 4, (int32_t[]){0, 1, 2}, 3);
	check_kept("min_p", 1, equal, 4, (int32_t[]){0, 1, 2, 3}, 4);
}

#include "vectors.h"

static void kept_sets_are_those_of_the_reference_script(void **state)
{
	for (size_t i = 0; i < sizeof(kept_vectors) / sizeof(kept_vectors[0]); i++) {
		const struct kept_vector *k = &kept_vectors[i];

		check_kept(k->plugin, k->value, k->logits, k->n, k->kept, k->n_kept);
	}
}

static void xtc_acts_as_often_as_it_is_told(void **state)
{
	const struct weft_plugin *p = fake_load("xtc");
	struct weft_value *v = fake_values(p);
	struct weft_job *j = sampler_job(3);
	float logits[3] = {1, 1, 0};
	int acted = 0;
	void *self = NULL;

	fake_set(p, v, "xtc_probability", 0.3);
	assert_int_equal(p->sampler->create(&fake_host, j, v, &self), 0);
	for (uint64_t position = 0; position < 4000; position++) {
		struct weft_candidates *c = fake_candidates(logits, 3);

		c->position = position;
		assert_int_equal(p->sampler->apply(self, j, c), 0);
		acted += c->n != 3;
		assert_true(c->n == 3 || (c->n == 1 && c->ids[0] == 2));
		fake_candidates_free(c);
	}
	/* 1200 expected, standard deviation 29 */
	assert_in_range(acted, 1200 - 5 * 29, 1200 + 5 * 29);
	p->sampler->destroy(self);
	fake_job_free(j);
	fake_values_free(p, v);
}

static void xtc_leaves_a_lone_likely_token_alone(void **state)
{
	check_kept("xtc", 0.2, (float[]){9, 1, 0, 0}, 4, (int32_t[]){0, 1, 2, 3}, 4);
}

static void xtc_of_ties_keeps_the_highest_id_alone(void **state)
{
	check_kept("xtc", 0.1, (float[]){1, 1, 1, -9}, 4, (int32_t[]){2, 3}, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(top_k_keeps_the_k_best_and_ties_go_to_the_lowest_id),
		cmocka_unit_test(top_p_keeps_the_smallest_set_that_reaches_the_mass),
		cmocka_unit_test(min_p_keeps_what_is_likely_enough_beside_the_best),
		cmocka_unit_test(top_n_sigma_keeps_what_is_near_the_best),
		cmocka_unit_test(a_mass_that_is_reached_exactly_takes_no_more),
		cmocka_unit_test(kept_sets_are_those_of_the_reference_script),
		cmocka_unit_test(xtc_acts_as_often_as_it_is_told),
		cmocka_unit_test(xtc_leaves_a_lone_likely_token_alone),
		cmocka_unit_test(xtc_of_ties_keeps_the_highest_id_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
