/* example: the plugins of the tutorial, as they were built outside the tree into the folder $EXAMPLES. Run by tutorial.sh. */
#include "decoders.h"

static const struct weft_plugin *example(const char *name)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s.so", getenv("EXAMPLES"), name);
	return fake_load(path);
}

static void the_example_sampler_forbids_what_was_just_drawn(void **state)
{
	const struct weft_plugin *p = example("no_repeat_last"), *sample = fake_load("sample");
	const int32_t prompt[] = {BOS, 5};
	struct weft_value *v = fake_values(p), *values = fake_values(sample);
	struct weft_job *j = fake_job(random_model(), prompt, 2);
	struct fake_answer *a = j->answers[0];

	fake_set(p, v, "no_repeat_last", 16);
	fake_set(sample, values, "ignore_eos", 1);
	fake_set(sample, values, "max_tokens", 50);
	fake_chain_add(j, p, v);
	assert_int_equal(fake_run(j, sample, values, 60), 0);
	assert_int_equal(a->n, 50);
	for (uint64_t i = 0; i < a->n; i++) {
		for (uint64_t k = i > 16 ? i - 16 : 0; k < i; k++)
			assert_int_not_equal(a->tokens[k].token, a->tokens[i].token);
	}
	fake_job_free(j);
	fake_values_free(p, v);
	fake_values_free(sample, values);
}

static void the_example_sampler_lets_repeat_when_nothing_else_is_left(void **state)
{
	const struct weft_plugin *p = example("no_repeat_last");
	struct weft_value *v = fake_values(p);
	struct weft_job *j = fake_job(random_model(), NULL, 0);
	struct weft_candidates *c = fake_candidates((float[]){1, -INFINITY}, 2);
	void *self;

	fake_set(p, v, "no_repeat_last", 3);
	assert_int_equal(p->sampler->create(&fake_host, j, v, &self), 0);
	assert_int_equal(p->sampler->accept(self, j, 0, 0), 0);
	assert_int_equal(p->sampler->apply(self, j, c), 0);
	assert_int_equal(c->n, 2);
	c->logits[1] = -5;
	assert_int_equal(p->sampler->apply(self, j, c), 0);
	assert_int_equal(c->n, 1);
	assert_int_equal(c->ids[0], 1);
	p->sampler->destroy(self);
	fake_candidates_free(c);
	fake_job_free(j);
	fake_values_free(p, v);
}

static void the_example_decoder_speaks_in_capitals_and_ends_as_it_should_also_over_restarts(void **state)
{
	const struct weft_plugin *p = example("loud");
	struct script s = script_of((const char *[]){"It's ", "lin", "en \xc3", "\xa9!", "\xe2"}, 5);

	for (int round = 0; round < 4; round++) {
		int max = round % 2 * 3;
		struct weft_value *v = fake_values(p);
		struct weft_job *j = script_job(&s);
		const char *want = max ? "IT'S LINEN \xef\xbf\xbd" : "IT'S LINEN \xc3\xa9!\xef\xbf\xbd";

		j->restless = round >= 2;
		fake_set(p, v, "max_tokens", max);
		assert_int_equal(fake_run(j, p, v, 20), 0);
		assert_int_equal(j->answers[0]->finish, max ? WEFT_FINISH_LENGTH : WEFT_FINISH_STOP);
		assert_int_equal(j->answers[0]->n, max ? max : 6);
		assert_int_equal(j->answers[0]->len, strlen(want));
		assert_memory_equal(j->answers[0]->text, want, strlen(want));
		fake_job_free(j);
		fake_values_free(p, v);
	}
	s.m.context = 3;
	struct weft_value *v = fake_values(p);
	struct weft_job *j = script_job(&s);

	assert_int_equal(fake_run(j, p, v, 20), 0);
	assert_int_equal(j->answers[0]->finish, WEFT_FINISH_CONTEXT);
	assert_int_equal(j->answers[0]->n, 2);
	fake_job_free(j);
	fake_values_free(p, v);
}

static void the_example_decoder_fails_when_told_with_its_reason(void **state)
{
	const struct weft_plugin *p = example("loud");
	struct script s = script_of((const char *[]){"a", "b", "c"}, 3);
	struct weft_value *v = fake_values(p);
	struct weft_job *j = script_job(&s);

	fake_set(p, v, "loud_fail_at", 3);
	assert_int_equal(fake_run(j, p, v, 20), WEFT_EINTERNAL);
	assert_string_equal(j->failed, "loud was told to fail here");
	assert_int_equal(j->answers[0]->n, 2);
	fake_job_free(j);
	fake_values_free(p, v);
}

static void the_example_decoder_shares_its_parameter_with_sample(void **state)
{
	const struct weft_param *a = &example("loud")->params[0], *b = &fake_load("sample")->params[0];

	assert_string_equal(a->name, b->name);
	assert_true(a->shared && b->shared && a->type == b->type && a->def == b->def && a->min == b->min && a->max == b->max);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_example_sampler_forbids_what_was_just_drawn),
		cmocka_unit_test(the_example_sampler_lets_repeat_when_nothing_else_is_left),
		cmocka_unit_test(the_example_decoder_speaks_in_capitals_and_ends_as_it_should_also_over_restarts),
		cmocka_unit_test(the_example_decoder_fails_when_told_with_its_reason),
		cmocka_unit_test(the_example_decoder_shares_its_parameter_with_sample),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
