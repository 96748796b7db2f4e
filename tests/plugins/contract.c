/* contract: what every shipped plugin keeps to: its table, neutral values, clones, repeatability. */
#include "samplers.h"

#include <ctype.h>
#include <malloc.h>

struct active {
	const char *plugin;
	struct {
		const char *name;
		double value;
	} set[2];
};

/* Every sampler in the order of the default chain, with values that make it act. */
static const struct active samplers[] = {
	{"bans", {{"min_tokens", 2}}},
	{"logit_bias", {{NULL, 0}}}, /* a map: set by hand below */
	{"penalties", {{"repetition_penalty", 1.3}, {"frequency_penalty", 0.5}}},
	{"dry", {{"dry_multiplier", 0.8}, {"dry_allowed_length", 1}}},
	{"temperature", {{"temperature", 0.6}}},
	{"top_n_sigma", {{"top_n_sigma", 1}}},
	{"top_k", {{"top_k", 20}}},
	{"typical_p", {{"typical_p", 0.5}}},
	{"top_p", {{"top_p", 0.5}}},
	{"min_p", {{"min_p", 0.1}}},
	{"xtc", {{"xtc_probability", 0.5}, {"xtc_threshold", 0.01}}},
	{"mirostat", {{"mirostat", 2}, {"mirostat_tau", 2}}},
};
enum { N_SAMPLERS = sizeof(samplers) / sizeof(samplers[0]) };

static struct weft_value *active_values(const struct weft_plugin *p, const struct active *a)
{
	static const int64_t ids[] = {1, 3};
	static const double biases[] = {2, -2};
	struct weft_value *v = fake_values(p);

	for (int k = 0; k < 2; k++) {
		if (a->set[k].name)
			fake_set(p, v, a->set[k].name, a->set[k].value);
	}
	if (strcmp(p->name, "logit_bias") == 0)
		fake_set_map(p, v, "logit_bias", ids, biases, 2);
	return v;
}

static void defaults_are_neutral_and_make_no_instance(void **state)
{
	for (int k = 0; k < N_SAMPLERS; k++) {
		const struct weft_plugin *p = fake_load(samplers[k].plugin);
		struct weft_value *v = fake_values(p);
		struct weft_job *j = sampler_job(100);
		void *self = &v;
		int rc = p->sampler->create(&fake_host, j, v, &self);

		if (rc || self)
			fail_msg("%s: code %d, instance %p", p->name, rc, self);
		fake_values_free(p, v);
		fake_job_free(j);
	}
}

static void the_default_chain_is_in_the_documented_order(void **state)
{
	for (int k = 0; k < N_SAMPLERS; k++) {
		const struct weft_plugin *p = fake_load(samplers[k].plugin);

		assert_string_equal(p->name, samplers[k].plugin);
		assert_null(p->decoder);
		assert_int_equal(p->sampler->order, 100 * (k + 1));
		assert_int_equal(p->sampler->size, sizeof(struct weft_sampler));
	}
}

static void tables_name_type_range_default_and_meaning(void **state)
{
	for (int k = 0; k < N_SAMPLERS + 2; k++) {
		const struct weft_plugin *p = fake_load(k < N_SAMPLERS ? samplers[k].plugin : k == N_SAMPLERS ? "sample" : "score");

		assert_int_equal(p->size, sizeof(*p));
		assert_int_equal(p->abi, WEFT_ABI);
		for (uint64_t i = 0; i < p->n_params; i++) {
			const struct weft_param *q = &p->params[i];
			bool list = q->type >= WEFT_STRING;

			assert_int_equal(q->size, sizeof(*q));
			assert_in_range(q->type, WEFT_BOOL, WEFT_TOKEN_MAP);
			for (const char *s = q->name; *s; s++)
				assert_true(islower(*s) || isdigit(*s) || *s == '_');
			assert_true(strlen(q->doc) > 20 && q->doc[strlen(q->doc) - 1] == '.');
			assert_true(q->min <= q->max && (list || (q->def >= q->min && q->def <= q->max)));
			assert_true(!list || q->max_items > 0);
		}
	}
}

static void shared_parameters_are_declared_alike(void **state)
{
	static const char *const all[] = {"sample", "score", "bans"};
	int pairs = 0;

	for (int a = 0; a < 3; a++) {
		for (int b = 0; b < a; b++) {
			const struct weft_plugin *p = fake_load(all[a]), *q = fake_load(all[b]);

			for (uint64_t i = 0; i < p->n_params * q->n_params; i++) {
				const struct weft_param *x = &p->params[i / q->n_params], *y = &q->params[i % q->n_params];

				if (strcmp(x->name, y->name))
					continue;
				pairs++;
				assert_true(x->shared && y->shared && x->type == y->type && x->def == y->def && x->min == y->min &&
					    x->max == y->max);
				assert_int_equal(x->max_items, y->max_items);
				assert_string_equal(x->doc, y->doc);
			}
		}
	}
	assert_int_equal(pairs, 5);
}

static void run_step(const struct weft_plugin *p, void *self, struct weft_job *j, int step, struct weft_candidates *c)
{
	c->position = (uint64_t)step;
	c->generated = (uint64_t)step;
	assert_int_equal(p->sampler->apply(self, j, c), 0);
	assert_truthful(c);
	if (p->sampler->accept)
		assert_int_equal(p->sampler->accept(self, j, c->ids[step % c->n], 0), 0);
}

static void assert_same(const struct weft_candidates *a, const struct weft_candidates *b)
{
	assert_int_equal(a->n, b->n);
	assert_memory_equal(a->ids, b->ids, a->n * sizeof(a->ids[0]));
	assert_memory_equal(a->logits, b->logits, a->n * sizeof(a->logits[0]));
}

/* weftd refuses what may need more memory than it has, and counts with no more (daemon/worst.c). */
static void an_instance_has_16_bytes_a_token_of_vocabulary_and_context_at_most(void **state)
{
	enum { VOCAB = 20000, CONTEXT = 2048 };

	for (int k = 0; k < N_SAMPLERS; k++) {
		const struct weft_plugin *p = fake_load(samplers[k].plugin);
		struct weft_value *v = active_values(p, &samplers[k]);
		struct weft_job *j = sampler_job(VOCAB);
		void *self = NULL;

		assert_int_equal(p->sampler->create(&fake_host, j, v, &self), 0);
		assert_in_range(malloc_usable_size(self), 1, 16 * (VOCAB + CONTEXT));
		p->sampler->destroy(self);
		fake_job_free(j);
		fake_values_free(p, v);
	}
}

static void a_clone_goes_on_as_the_original_does_and_outlives_it(void **state)
{
	for (int k = 0; k < N_SAMPLERS; k++) {
		const struct weft_plugin *p = fake_load(samplers[k].plugin);
		struct weft_value *v = active_values(p, &samplers[k]);
		struct weft_job *j = sampler_job(200);
		struct weft_candidates *want[8], *c;
		void *self = NULL, *copy = NULL;

		assert_int_equal(p->sampler->create(&fake_host, j, v, &self), 0);
		assert_non_null(self);
		for (int step = 0; step < 16; step++) {
			struct hard *h = hard_case(0);

			if (step == 8)
				assert_int_equal(p->sampler->clone(self, &copy), 0);
			for (int i = 0; i < 200; i++)
				h->logits[i] = (float)(3 * fake_uniform(5, 0, (uint64_t)step % 8, (uint32_t)i));
			c = fake_candidates(h->logits, 200);
			run_step(p, self, j, step, c);
			if (step < 8)
				fake_candidates_free(c);
			else
				want[step - 8] = c;
		}
		p->sampler->destroy(self);
		for (int step = 8; step < 16; step++) {
			struct hard *h = hard_case(0);

			for (int i = 0; i < 200; i++)
				h->logits[i] = (float)(3 * fake_uniform(5, 0, (uint64_t)step % 8, (uint32_t)i));
			c = fake_candidates(h->logits, 200);
			run_step(p, copy, j, step, c);
			assert_same(c, want[step - 8]);
			fake_candidates_free(c);
			fake_candidates_free(want[step - 8]);
		}
		p->sampler->destroy(copy);
		fake_job_free(j);
		fake_values_free(p, v);
	}
}

/* An instance with some history. */
static void *lived(const struct weft_plugin *p, const struct weft_value *v, struct weft_job *j)
{
	static const int32_t tokens[] = {1, 2, 4, 2, 3, 3, 0};
	void *self = NULL;

	assert_int_equal(p->sampler->create(&fake_host, j, v, &self), 0);
	for (uint32_t i = 0; i < 7 && p->sampler->accept; i++)
		assert_int_equal(p->sampler->accept(self, j, tokens[i], i < 3), 0);
	return self;
}

static void assert_edits(const struct weft_plugin *p, void *self, struct weft_job *j, const struct hard *h)
{
	struct weft_edit edits[8];
	struct weft_formula f = {.size = sizeof f, .edits = edits, .room = 8};
	struct weft_candidates *c = fake_candidates(h->logits, h->n);
	float want[HARD_MAX];

	assert_int_equal(p->sampler->formula(self, &f), 0);
	assert_int_equal(f.kind, WEFT_FORMULA_EDITS);
	assert_in_range(f.n_edits, 2, 8);
	memcpy(want, h->logits, sizeof want);
	for (uint32_t i = 0; i < f.n_edits; i++) {
		double l = h->logits[edits[i].token];

		assert_true(want[edits[i].token] == h->logits[edits[i].token] && edits[i].ratio > 0);
		l = (l > 0 ? l / edits[i].ratio : l * edits[i].ratio) - edits[i].minus;
		want[edits[i].token] = l < -3.4028234663852886e38 ? -INFINITY : l > 3.4028234663852886e38 ? 3.4028234663852886e38f : (float)l;
	}
	assert_int_equal(p->sampler->apply(self, j, c), 0);
	for (uint32_t i = 0; i < h->n; i++)
		if (!(c->logits[i] == want[i]))
			fail_msg("%s, \"%s\": the logit of %u is %a, by its formula %a", p->name, h->name, i, c->logits[i], want[i]);
	fake_candidates_free(c);
}

static void edits_are_what_apply_does_and_are_refused_where_they_do_not_fit(void **state)
{
	static const struct active edit[] = {
		{"logit_bias", {{NULL, 0}}}, {"penalties", {{"repetition_penalty", 1.3}, {"frequency_penalty", 0.37}}}, {"penalties", {{"presence_penalty", -3}}}};

	for (int k = 0; k < 3 * HARD_CASES; k++) {
		const struct weft_plugin *p = fake_load(edit[k / HARD_CASES].plugin);
		struct hard *h = hard_case(k % HARD_CASES);
		struct weft_job *j = sampler_job(h->n);
		struct weft_value *v = active_values(p, &edit[k / HARD_CASES]);
		struct weft_edit one;
		struct weft_formula small = {.size = sizeof small, .edits = &one, .room = 1};
		struct weft_formula old = {.size = offsetof(struct weft_formula, edits)}; /* of a host of 1.1 */
		void *self = h->n < 5 ? NULL : lived(p, v, j);

		if (self) {
			assert_edits(p, self, j, h);
			assert_int_not_equal(p->sampler->formula(self, &small), 0);
			assert_int_not_equal(p->sampler->formula(self, &old), 0);
			p->sampler->destroy(self);
		}
		fake_values_free(p, v);
		fake_job_free(j);
	}
}

static void every_sampler_leaves_a_possible_candidate_on_hard_lists(void **state)
{
	for (int k = 0; k < N_SAMPLERS * HARD_CASES; k++) {
		const struct weft_plugin *p = fake_load(samplers[k / HARD_CASES].plugin);
		struct hard *h = hard_case(k % HARD_CASES);
		struct weft_job *j;
		struct weft_value *v;
		struct weft_candidates *c;
		bool possible = false;

		if (h->n < 5 && strcmp(p->name, "logit_bias") == 0)
			continue; /* its ids would be outside the vocabulary, which weftd refuses */
		j = sampler_job(h->n);
		v = active_values(p, &samplers[k / HARD_CASES]);
		c = fake_candidates(h->logits, h->n);
		assert_int_equal(sampler_once(p, v, j, c), 0);
		for (uint32_t i = 0; i < c->n; i++)
			possible |= c->logits[i] > -INFINITY;
		if (!possible)
			fail_msg("%s left nothing possible of \"%s\"", p->name, h->name);
		fake_candidates_free(c);
		fake_values_free(p, v);
		fake_job_free(j);
	}
}

static void flags_tell_the_truth(void **state)
{
	for (int k = 0; k < N_SAMPLERS * HARD_CASES; k++) {
		const struct weft_plugin *p = fake_load(samplers[k / HARD_CASES].plugin);
		struct hard *h = hard_case(k % HARD_CASES);
		struct weft_job *j = sampler_job(h->n);
		struct weft_value *v = active_values(p, &samplers[k / HARD_CASES]);
		struct weft_candidates *c = fake_candidates(h->logits, h->n), *best = fake_candidates(h->logits, h->n);

		if ((p->sampler->flags & WEFT_ARGMAX_INVARIANT) && h->n >= 5) {
			fake_host.sort(best, 1, 1);
			assert_int_equal(sampler_once(p, v, j, c), 0);
			fake_host.sort(c, 1, 1);
			assert_int_equal(c->ids[0], best->ids[0]);
		}
		fake_candidates_free(c);
		fake_candidates_free(best);
		fake_values_free(p, v);
		fake_job_free(j);
	}
}

static void assert_in(const char *text, const char *what)
{
	if (!strstr(text, what))
		fail_msg("the tutorial does not say: %s", what);
}

static void the_tutorial_lists_every_plugin_place_and_parameter(void **state)
{
	static char text[1 << 16], want[4096];
	FILE *f;

	snprintf(want, sizeof(want), "%s/plugins/TUTORIAL.md", getenv("top_srcdir"));
	f = fopen(want, "r");
	assert_non_null(f);
	assert_in_range(fread(text, 1, sizeof(text) - 1, f), 1, sizeof(text) - 2);
	fclose(f);
	for (int k = 0; k < N_SAMPLERS + 2; k++) {
		const struct weft_plugin *p = fake_load(k < N_SAMPLERS ? samplers[k].plugin : k == N_SAMPLERS ? "sample" : "score");

		snprintf(want, sizeof(want), "`%s`", p->name);
		if (p->sampler)
			snprintf(want, sizeof(want), "| %u | `%s` |", p->sampler->order, p->name);
		assert_in(text, want);
		for (uint64_t i = 0; i < p->n_params; i++) {
			snprintf(want, sizeof(want), "`%s`", p->params[i].name);
			assert_in(text, want);
		}
	}
}

static void a_field_is_there_only_when_the_other_side_is_long_enough(void **state)
{
	struct weft_host host = {.size = offsetof(struct weft_host, blob_write)}; /* of a daemon that has no blob_write yet */
	struct weft_plugin p = {.size = sizeof(p)};

	assert_false(WEFT_HAS(&host, blob_write));
	assert_true(WEFT_HAS(&host, sort));
	host.size += sizeof(host.blob_write) - 1;
	assert_false(WEFT_HAS(&host, blob_write));
	host.size++;
	assert_true(WEFT_HAS(&host, blob_write));
	assert_true(WEFT_HAS(&p, fini));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_neutral_and_make_no_instance),
		cmocka_unit_test(the_default_chain_is_in_the_documented_order),
		cmocka_unit_test(tables_name_type_range_default_and_meaning),
		cmocka_unit_test(shared_parameters_are_declared_alike),
		cmocka_unit_test(an_instance_has_16_bytes_a_token_of_vocabulary_and_context_at_most),
		cmocka_unit_test(a_clone_goes_on_as_the_original_does_and_outlives_it),
		cmocka_unit_test(edits_are_what_apply_does_and_are_refused_where_they_do_not_fit),
		cmocka_unit_test(every_sampler_leaves_a_possible_candidate_on_hard_lists),
		cmocka_unit_test(flags_tell_the_truth),
		cmocka_unit_test(the_tutorial_lists_every_plugin_place_and_parameter),
		cmocka_unit_test(a_field_is_there_only_when_the_other_side_is_long_enough),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
