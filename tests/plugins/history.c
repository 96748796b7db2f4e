/* history: the samplers that change logits or remember tokens: temperature, bans, logit_bias, penalties, dry, mirostat. */
#include "samplers.h"

#include "vectors.h"

struct setup {
	const struct weft_plugin *p;
	struct weft_value *v;
	struct weft_job *j;
	struct fake_model m;
	void *self;
};

static struct setup *setup(const char *name, uint32_t vocab)
{
	struct setup *s = calloc(1, sizeof(*s));

	s->p = fake_load(name);
	s->v = fake_values(s->p);
	s->m = (struct fake_model){.vocab = vocab,
				   .context = 4096,
				   .eos = vocab > 2 ? 2 : -1,
				   .logits = no_logits,
				   .pieces = vocab <= 5 ? test_pieces : NULL};
	s->j = fake_job(&s->m, NULL, 0);
	return s;
}

static int make(struct setup *s)
{
	return s->p->sampler->create(&fake_host, s->j, s->v, &s->self);
}

static void teardown(struct setup *s)
{
	if (s->self)
		s->p->sampler->destroy(s->self);
	fake_values_free(s->p, s->v);
	fake_job_free(s->j);
	free(s);
}

static void feed(struct setup *s, const int32_t *tokens, uint32_t n, uint32_t from_prompt)
{
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(s->p->sampler->accept(s->self, s->j, tokens[i], from_prompt), 0);
}

/* Applies to a fresh dense list and compares every logit. */
static void expect(struct setup *s, const float *in, const double *want, uint32_t n)
{
	struct weft_candidates *c = fake_candidates(in, n);

	assert_int_equal(s->p->sampler->apply(s->self, s->j, c), 0);
	assert_truthful(c);
	assert_int_equal(c->n, n);
	for (uint32_t i = 0; i < n; i++) {
		double w = want[c->ids[i]], tolerance = 1e-6 * (1 + fabs(w));

		if (!(fabs(c->logits[i] - w) <= tolerance || c->logits[i] == w))
			fail_msg("%s: id %d has logit %.9g and not %.9g", s->p->name, c->ids[i], c->logits[i], w);
	}
	fake_candidates_free(c);
}

/* ---- temperature ---- */

static void temperature_divides_differences_of_logits(void **state)
{
	for (int k = 0; k < HARD_CASES; k++) {
		struct hard *h = hard_case(k);
		struct setup *s = setup("temperature", h->n);
		struct weft_candidates *c = fake_candidates(h->logits, h->n);
		double best = -INFINITY;

		for (uint32_t i = 0; i < h->n; i++)
			best = h->logits[i] > best ? h->logits[i] : best;
		fake_set(s->p, s->v, "temperature", 0.7);
		assert_int_equal(make(s), 0);
		assert_int_equal(s->p->sampler->apply(s->self, s->j, c), 0);
		assert_truthful(c);
		for (uint32_t i = 0; i < h->n; i++) {
			double want = (h->logits[i] - best) / 0.7;

			assert_true(c->logits[i] == want || fabs(c->logits[i] - want) <= 1e-6 * fabs(want));
		}
		fake_candidates_free(c);
		teardown(s);
	}
}

static void temperature_zero_keeps_the_best_and_ties_go_to_the_lowest_id(void **state)
{
	struct setup *s = setup("temperature", 5);
	struct weft_candidates *c = fake_candidates((float[]){1, 7, 3, 7, 7}, 5);

	fake_set(s->p, s->v, "temperature", 0);
	assert_int_equal(make(s), 0);
	assert_int_equal(s->p->sampler->apply(s->self, s->j, c), 0);
	assert_truthful(c);
	assert_int_equal(c->n, 1);
	assert_int_equal(c->ids[0], 1);
	fake_candidates_free(c);
	teardown(s);
}

static void a_tiny_temperature_makes_others_impossible_and_nothing_infinite(void **state)
{
	struct setup *s = setup("temperature", 4);

	fake_set(s->p, s->v, "temperature", 1e-300);
	assert_int_equal(make(s), 0);
	expect(s, (float[]){3e38f, 3e38f, -3e38f, -INFINITY}, (double[]){0, 0, -INFINITY, -INFINITY}, 4);
	teardown(s);
}

/* ---- bans and logit_bias ---- */

static void expect_ids(struct setup *s, uint32_t vocab, uint64_t generated, const int32_t *ids, uint32_t n)
{
	float logits[16] = {0};
	struct weft_candidates *c = fake_candidates(logits, vocab);

	c->generated = generated;
	assert_int_equal(s->p->sampler->apply(s->self, s->j, c), 0);
	assert_truthful(c);
	assert_int_equal(c->n, n);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(c->ids[i], ids[i]);
	fake_candidates_free(c);
}

static void banned_tokens_are_gone_and_only_allowed_ones_stay(void **state)
{
	struct setup *s = setup("bans", 8);

	fake_set_ints(s->p, s->v, "banned_tokens", (int64_t[]){0, 7}, 2);
	assert_int_equal(make(s), 0);
	expect_ids(s, 8, 0, (int32_t[]){1, 2, 3, 4, 5, 6}, 6);
	s->p->sampler->destroy(s->self);
	fake_set_ints(s->p, s->v, "allowed_tokens", (int64_t[]){7, 3, 5}, 3);
	assert_int_equal(make(s), 0);
	expect_ids(s, 8, 0, (int32_t[]){3, 5}, 2);
	teardown(s);
}

static void nothing_that_ends_the_answer_is_left_before_min_tokens(void **state)
{
	struct setup *s = setup("bans", 6);

	fake_set(s->p, s->v, "min_tokens", 3);
	fake_set_ints(s->p, s->v, "stop_token_ids", (int64_t[]){4}, 1);
	assert_int_equal(make(s), 0);
	expect_ids(s, 6, 2, (int32_t[]){0, 1, 3, 5}, 4);
	expect_ids(s, 6, 3, (int32_t[]){0, 1, 2, 3, 4, 5}, 6);
	s->p->sampler->destroy(s->self);
	fake_set(s->p, s->v, "ignore_eos", 1);
	assert_int_equal(make(s), 0);
	expect_ids(s, 6, 2, (int32_t[]){0, 1, 2, 3, 5}, 5);
	teardown(s);
}

static void bans_that_leave_no_token_are_refused_with_the_reason(void **state)
{
	struct setup *s = setup("bans", 6);

	fake_set_ints(s->p, s->v, "allowed_tokens", (int64_t[]){2, 4}, 2);
	fake_set_ints(s->p, s->v, "banned_tokens", (int64_t[]){4}, 1);
	fake_set(s->p, s->v, "min_tokens", 1);
	assert_int_equal(make(s), WEFT_EINVAL);
	assert_non_null(strstr(s->j->failed, "leave no token"));
	assert_null(s->self);
	fake_set_ints(s->p, s->v, "allowed_tokens", (int64_t[]){6}, 1);
	assert_int_equal(make(s), WEFT_EINVAL);
	assert_non_null(strstr(s->j->failed, "allowed_tokens"));
	teardown(s);
}

static void bans_behind_a_sampler_that_left_only_banned_tokens_fail_the_job(void **state)
{
	struct setup *s = setup("bans", 6);
	struct weft_candidates *c = fake_candidates((float[]){1}, 1);

	fake_set_ints(s->p, s->v, "banned_tokens", (int64_t[]){0}, 1);
	assert_int_equal(make(s), 0);
	assert_int_equal(s->p->sampler->apply(s->self, s->j, c), WEFT_EINVAL);
	assert_non_null(strstr(s->j->failed, "bans first"));
	fake_candidates_free(c);
	teardown(s);
}

static void logit_bias_is_added_wherever_the_token_stands(void **state)
{
	struct setup *s = setup("logit_bias", 4);
	struct weft_candidates *c = fake_candidates((float[]){1, 2, 3}, 3);

	fake_set_map(s->p, s->v, "logit_bias", (int64_t[]){3, 0}, (double[]){-100, 2.5}, 2);
	assert_int_equal(make(s), 0);
	expect(s, (float[]){1, 2, -INFINITY, 4}, (double[]){3.5, 2, -INFINITY, -96}, 4);
	memcpy(c->ids, (int32_t[]){3, 1, 0}, 3 * sizeof(c->ids[0]));
	c->dense = 0;
	assert_int_equal(s->p->sampler->apply(s->self, s->j, c), 0);
	assert_true(c->logits[0] == -99 && c->logits[1] == 2 && c->logits[2] == 5.5f);
	fake_candidates_free(c);
	teardown(s);
}

/* ---- penalties ---- */

static void repetition_looks_at_prompt_and_answer_the_others_at_the_answer(void **state)
{
	struct setup *s = setup("penalties", 5);

	fake_set(s->p, s->v, "repetition_penalty", 2);
	fake_set(s->p, s->v, "presence_penalty", 0.25);
	fake_set(s->p, s->v, "frequency_penalty", 0.5);
	assert_int_equal(make(s), 0);
	feed(s, (int32_t[]){0, 1, 0}, 3, 1);
	feed(s, (int32_t[]){1, 2, 2}, 3, 0);
	expect(s, (float[]){4, 4, -4, 4, -INFINITY}, (double[]){2, 2 - 0.25 - 0.5, -8 - 0.25 - 1, 4, -INFINITY}, 5);
	teardown(s);
}

static void penalties_forget_what_left_the_window(void **state)
{
	/* against a count by hand of the last 3, after each of 40 tokens */
	struct setup *s = setup("penalties", 5);
	int32_t tokens[40];

	fake_set(s->p, s->v, "repetition_penalty", 1.5);
	fake_set(s->p, s->v, "frequency_penalty", 1);
	fake_set(s->p, s->v, "penalty_last_n", 3);
	assert_int_equal(make(s), 0);
	for (int i = 0; i < 40; i++) {
		double want[5];

		tokens[i] = (int32_t)(hard_uniform() * 5);
		feed(s, &tokens[i], 1, i < 5);
		for (int t = 0; t < 5; t++) {
			int all = 0, answer = 0;

			for (int k = i < 2 ? 0 : i - 2; k <= i; k++) {
				all += tokens[k] == t;
				answer += tokens[k] == t && k >= 5;
			}
			want[t] = all ? 3 / 1.5 - answer : 3;
		}
		expect(s, (float[]){3, 3, 3, 3, 3}, want, 5);
	}
	teardown(s);
}

/* ---- dry ---- */

static void dry_penalties_are_those_of_the_reference_script(void **state)
{
	for (size_t i = 0; i < sizeof(dry_vectors) / sizeof(dry_vectors[0]); i++) {
		const struct dry_vector *d = &dry_vectors[i];
		struct setup *s = setup("dry", 5);
		double want[5];

		fake_set(s->p, s->v, "dry_multiplier", 0.8);
		fake_set(s->p, s->v, "dry_allowed_length", d->allowed);
		fake_set(s->p, s->v, "dry_penalty_last_n", 0);
		assert_int_equal(make(s), 0);
		feed(s, d->tokens, d->n / 2, 1);
		feed(s, d->tokens + d->n / 2, d->n - d->n / 2, 0);
		for (int t = 0; t < 5; t++)
			want[t] = 1 - d->penalty[t];
		expect(s, (float[]){1, 1, 1, 1, 1}, want, 5);
		expect(s, (float[]){1, 1, 1, 1, 1}, want, 5); /* apply leaves no trace */
		teardown(s);
	}
}

static void dry_sees_only_its_window(void **state)
{
	/* "0 1 4" stands 6 tokens back: inside a window of 9, outside one of 8; the history has been compacted many times by then
	 */
	for (int n = 8; n <= 9; n++) {
		struct setup *s = setup("dry", 5);
		int32_t noise = 2;

		fake_set(s->p, s->v, "dry_multiplier", 1);
		fake_set(s->p, s->v, "dry_penalty_last_n", n);
		assert_int_equal(make(s), 0);
		for (int i = 0; i < 50; i++)
			feed(s, &noise, 1, 1);
		feed(s, (int32_t[]){0, 1, 4, 3, 2, 4, 3, 0, 1}, 9, 0);
		expect(s, (float[]){0, 0, 0, 0, 0}, (double[]){0, 0, 0, 0, n == 9 ? -1 : 0}, 5);
		teardown(s);
	}
}

static void a_breaker_that_spans_tokens_breaks_a_match(void **state)
{
	/* pieces: 0 "a", 1 "b", 2 " c", 3 "\n", 4 "def"; the breaker "b c" ends in token 2 when token 1 is before it */
	const char *const breakers[] = {"b c"};
	const int32_t with[] = {0, 1, 2, 4, 0, 1, 2}, without[] = {1, 0, 2, 4, 1, 0, 2};
	struct setup *s;

	for (int k = 0; k < 2; k++) {
		s = setup("dry", 5);
		fake_set(s->p, s->v, "dry_multiplier", 1);
		fake_set(s->p, s->v, "dry_allowed_length", 1);
		fake_set(s->p, s->v, "dry_base", 2);
		fake_set_strings(s->p, s->v, "dry_sequence_breakers", breakers, 1);
		assert_int_equal(make(s), 0);
		feed(s, k ? without : with, 7, 0);
		expect(s, (float[]){0, 0, 0, 0, 0}, (double[]){0, 0, 0, 0, k ? -4 : 0}, 5);
		teardown(s);
	}
}

static void an_empty_breaker_breaks_nothing_and_an_empty_list_is_the_usual_ones(void **state)
{
	for (uint64_t n = 0; n <= 1; n++) {
		struct setup *s = setup("dry", 5);

		fake_set(s->p, s->v, "dry_multiplier", 1);
		fake_set_strings(s->p, s->v, "dry_sequence_breakers", (const char *[]){""}, n);
		assert_int_equal(make(s), 0);
		feed(s, (int32_t[]){3, 3, 3, 3}, 4, 0);
		expect(s, (float[]){0, 0, 0, 0, 0}, (double[]){0, 0, 0, n ? -1.75 : 0, 0}, 5);
		teardown(s);
	}
}

static void a_dry_penalty_beyond_all_numbers_makes_a_token_impossible(void **state)
{
	struct setup *s = setup("dry", 5);
	int32_t zero = 0;

	fake_set(s->p, s->v, "dry_multiplier", 1);
	fake_set(s->p, s->v, "dry_base", 100);
	fake_set(s->p, s->v, "dry_penalty_last_n", 0);
	assert_int_equal(make(s), 0);
	for (int i = 0; i < 3000; i++)
		feed(s, &zero, 1, 1);
	expect(s, (float[]){5, 1, 1, 1, 1}, (double[]){-INFINITY, 1, 1, 1, 1}, 5);
	teardown(s);
}

/* ---- mirostat ---- */

static void mirostat_follows_the_reference_script_also_over_save_load_and_clone(void **state)
{
	struct setup *s = setup("mirostat", 64);
	struct weft_blob *b = fake_blob();
	void *other = NULL;

	fake_set(s->p, s->v, "mirostat", 2);
	fake_set(s->p, s->v, "mirostat_tau", 3);
	fake_set(s->p, s->v, "mirostat_eta", 0.4);
	assert_int_equal(make(s), 0);
	for (size_t k = 0; k < sizeof(mirostat_vectors) / sizeof(mirostat_vectors[0]); k++) {
		const struct mirostat_vector *want = &mirostat_vectors[k];
		struct weft_candidates *c = fake_candidates(vec_mirostat_logits + 64 * k, 64);
		double mu;

		assert_int_equal(s->p->sampler->apply(s->self, s->j, c), 0);
		assert_truthful(c);
		assert_int_equal(c->n, want->kept);
		assert_int_equal(s->p->sampler->accept(s->self, s->j, want->drawn, 0), 0);
		b->len = 0;
		assert_int_equal(s->p->sampler->save(s->self, b), 0);
		memcpy(&mu, b->data, sizeof(mu));
		assert_true(fabs(mu - want->mu) < 1e-12);
		if (k % 3 == 0) { /* go on with another instance, loaded or cloned */
			if (k % 2) {
				assert_int_equal(s->p->sampler->clone(s->self, &other), 0);
			} else {
				assert_int_equal(s->p->sampler->create(&fake_host, s->j, s->v, &other), 0);
				assert_int_equal(s->p->sampler->load(other, b), 0);
			}
			s->p->sampler->destroy(s->self);
			s->self = other;
		}
		fake_candidates_free(c);
	}
	b->len = 3;
	assert_int_equal(s->p->sampler->load(s->self, b), WEFT_EINVAL);
	fake_blob_free(b);
	teardown(s);
}

static void mirostat_keeps_the_best_when_all_is_too_surprising(void **state)
{
	struct setup *s = setup("mirostat", 100);
	struct hard *h = hard_case(0);
	struct weft_candidates *c = fake_candidates(h->logits, 100);

	fake_set(s->p, s->v, "mirostat", 2);
	fake_set(s->p, s->v, "mirostat_tau", 0);
	assert_int_equal(make(s), 0);
	assert_int_equal(s->p->sampler->apply(s->self, s->j, c), 0);
	assert_int_equal(c->n, 1);
	for (int i = 0; i < 100; i++)
		assert_true(h->logits[i] <= c->logits[0]);
	fake_candidates_free(c);
	teardown(s);
}

static void mirostat_one_is_refused_with_the_reason(void **state)
{
	struct setup *s = setup("mirostat", 8);

	fake_set(s->p, s->v, "mirostat", 1);
	assert_int_equal(make(s), WEFT_EUNSUPPORTED);
	assert_non_null(strstr(s->j->failed, "version 1"));
	teardown(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(temperature_divides_differences_of_logits),
		cmocka_unit_test(temperature_zero_keeps_the_best_and_ties_go_to_the_lowest_id),
		cmocka_unit_test(a_tiny_temperature_makes_others_impossible_and_nothing_infinite),
		cmocka_unit_test(banned_tokens_are_gone_and_only_allowed_ones_stay),
		cmocka_unit_test(nothing_that_ends_the_answer_is_left_before_min_tokens),
		cmocka_unit_test(bans_that_leave_no_token_are_refused_with_the_reason),
		cmocka_unit_test(bans_behind_a_sampler_that_left_only_banned_tokens_fail_the_job),
		cmocka_unit_test(logit_bias_is_added_wherever_the_token_stands),
		cmocka_unit_test(repetition_looks_at_prompt_and_answer_the_others_at_the_answer),
		cmocka_unit_test(penalties_forget_what_left_the_window),
		cmocka_unit_test(dry_penalties_are_those_of_the_reference_script),
		cmocka_unit_test(dry_sees_only_its_window),
		cmocka_unit_test(a_breaker_that_spans_tokens_breaks_a_match),
		cmocka_unit_test(an_empty_breaker_breaks_nothing_and_an_empty_list_is_the_usual_ones),
		cmocka_unit_test(a_dry_penalty_beyond_all_numbers_makes_a_token_impossible),
		cmocka_unit_test(mirostat_follows_the_reference_script_also_over_save_load_and_clone),
		cmocka_unit_test(mirostat_keeps_the_best_when_all_is_too_surprising),
		cmocka_unit_test(mirostat_one_is_refused_with_the_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
