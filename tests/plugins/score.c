/* score: the decoder that computes log-likelihoods. */
#include "decoders.h"

static const struct weft_plugin *plugin;

static int load(void **state)
{
	plugin = fake_load("score");
	return 0;
}

static const int32_t prompt[] = {BOS, 5, 17, 9, 33};

/* Continuations of 1 to 6 tokens; every third one is what the model likes best. */
enum { MANY = 40 };
static int32_t texts[MANY][6];
static const int32_t *lists[MANY];
static uint64_t lengths[MANY];

static void make_continuations(uint64_t n_prompt)
{
	for (int i = 0; i < MANY; i++) {
		int32_t so_far[16], best;

		memcpy(so_far, prompt, n_prompt * sizeof(prompt[0]));
		lengths[i] = 1 + (uint64_t)i % 6;
		lists[i] = texts[i];
		for (uint64_t k = 0; k < lengths[i]; k++) {
			random_logprob(so_far, n_prompt + k, 0, &best);
			texts[i][k] = i % 3 ? (int32_t)(2 + (i * 13 + k * 5) % 48) : best;
			so_far[n_prompt + k] = texts[i][k];
		}
	}
}

static struct weft_job *job_of(uint64_t n_prompt, uint64_t n)
{
	struct weft_job *j = fake_job(random_model(), prompt, n_prompt);

	make_continuations(n_prompt);
	j->continuations = lists;
	j->continuation_len = lengths;
	j->n_continuations = n;
	return j;
}

static void expect_continuation(const struct fake_score *s, uint64_t n_prompt, uint32_t top)
{
	int32_t so_far[16], best;
	double sum = 0;
	uint32_t greedy = 1;

	memcpy(so_far, prompt, n_prompt * sizeof(prompt[0]));
	assert_int_equal(s->n, lengths[s->index]);
	assert_int_equal(s->first_null, 0);
	for (uint64_t k = 0; k < s->n; k++) {
		double want = random_logprob(so_far, n_prompt + k, texts[s->index][k], &best);

		assert_int_equal(s->tokens[k].token, texts[s->index][k]);
		assert_true(fabs(s->tokens[k].logprob - want) < 1e-5);
		assert_int_equal(s->tokens[k].greedy, best == texts[s->index][k]);
		assert_int_equal(s->tokens[k].n_top, top);
		greedy &= s->tokens[k].greedy;
		sum += s->tokens[k].logprob;
		so_far[n_prompt + k] = texts[s->index][k];
	}
	assert_int_equal(s->greedy, greedy);
	assert_true(s->logprob == sum);
}

static void every_continuation_is_scored_and_the_prompt_is_computed_once(void **state)
{
	for (uint64_t n_prompt = 1; n_prompt <= 5; n_prompt += 2) {
		struct weft_value *v = fake_values(plugin);
		struct weft_job *j = job_of(n_prompt, MANY);
		uint64_t rows = n_prompt - 1;
		int greedy = 0;

		fake_set(plugin, v, "logprobs", 4);
		j->restless = n_prompt == 3;
		assert_int_equal(fake_run(j, plugin, v, 20), 0);
		assert_int_equal(j->n_scores, MANY);
		for (uint32_t i = 0; i < MANY; i++) {
			assert_int_equal(j->scores[i].index, i);
			expect_continuation(&j->scores[i], n_prompt, 4);
			rows += lengths[i];
			greedy += (int)j->scores[i].greedy;
		}
		assert_true(greedy >= MANY / 3 && greedy < MANY);
		assert_int_equal(j->rows, rows);
		assert_true(j->most_seqs <= 17);
		assert_int_equal(j->progress_done, MANY);
		assert_int_equal(j->progress_total, MANY);
		fake_job_free(j);
		fake_values_free(plugin, v);
	}
}

static void echo_scores_the_prompt_itself_with_null_first(void **state)
{
	for (int k = 0; k < 8; k++) { /* prompts of 1 and 5 tokens, with and without continuations and tops */
		uint64_t n_prompt = k & 1 ? 1 : 5, n = k & 2 ? MANY : 0;
		struct weft_value *v = fake_values(plugin);
		struct weft_job *j = job_of(n_prompt, n);
		const struct fake_score *s = &j->scores[0];
		double sum = 0;
		int32_t best;

		j->restless = k & 4;
		fake_set(plugin, v, "echo", 1);
		fake_set(plugin, v, "logprobs", k & 4 ? 2 : -1);
		assert_int_equal(fake_run(j, plugin, v, 20), 0);
		assert_int_equal(j->n_scores, n + 1);
		assert_true(s->first_null && s->index == 0 && s->n == n_prompt && s->tokens[0].null && s->tokens[0].n_top == 0);
		for (uint64_t i = 1; i < n_prompt; i++) {
			assert_int_equal(s->tokens[i].token, prompt[i]);
			assert_true(fabs(s->tokens[i].logprob - random_logprob(prompt, i, prompt[i], &best)) < 1e-5);
			assert_int_equal(s->tokens[i].n_top, k & 4 ? 2 : 0);
			sum += s->tokens[i].logprob;
		}
		assert_true(s->logprob == sum);
		for (uint64_t i = 0; i < n; i++)
			expect_continuation(&j->scores[i + 1], n_prompt, k & 4 ? 2 : 0);
		fake_job_free(j);
		fake_values_free(plugin, v);
	}
}

static void what_cannot_be_scored_is_refused_with_the_reason(void **state)
{
	struct weft_value *v = fake_values(plugin);
	struct weft_job *j = job_of(5, 0);
	static const int32_t many[100] = {0};
	const int32_t *list[] = {many};

	assert_int_equal(fake_run(j, plugin, v, 1), WEFT_EINVAL);
	assert_non_null(strstr(j->failed, "nothing to score"));
	j->continuations = list;
	j->n_continuations = 1;
	j->continuation_len = (uint64_t[]){0};
	assert_int_equal(fake_run(j, plugin, v, 1), WEFT_EINVAL);
	assert_non_null(strstr(j->failed, "empty"));
	j->continuation_len = (uint64_t[]){61};
	assert_int_equal(fake_run(j, plugin, v, 1), WEFT_EINVAL);
	assert_non_null(strstr(j->failed, "context"));
	j->continuation_len = (uint64_t[]){60}; /* 5 + 60 - 1 tokens are fed: the context's 64 */
	assert_int_equal(fake_run(j, plugin, v, 5), 0);
	assert_int_equal(j->scores[0].n, 60);
	fake_job_free(j);
	fake_values_free(plugin, v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_continuation_is_scored_and_the_prompt_is_computed_once),
		cmocka_unit_test(echo_scores_the_prompt_itself_with_null_first),
		cmocka_unit_test(what_cannot_be_scored_is_refused_with_the_reason),
	};

	return cmocka_run_group_tests(tests, load, NULL);
}
