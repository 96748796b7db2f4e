/* engine_crooked_test.c: a plugin that fails or cheats ends its own job, with the reason; its neighbours do not notice. */
#include "config.h"

#include "engine_kit.h"

static struct kit kit;
static const struct kit_params params = {.threads = 1, .kv_pages = 4096, .max_rows = 64};
static const struct kit_params several = {.threads = 3, .kv_pages = 4096, .max_rows = 64};
static const struct kit_ask honest = {.words = "seed=5 max_tokens=40 n=2 temperature=0.9 top_k=50 logprobs=1",
				      .prompt = "Which hat goes with a raincoat?"};
static char *expected;
static size_t expected_len;

static int setup(void **state)
{
	kit_init(&kit, (const char *const[]){"engine_crooked", "engine_crooked_sampler", "engine_crooked_aside", NULL});
	expected = kit_alone(&kit, &params, &honest, &expected_len);
	return 0;
}

static int teardown(void **state)
{
	free(expected);
	kit_finish(&kit);
	return 0;
}

/* what goes wrong, the code that the job ends with, and words that must stand in the reason */
struct crime {
	const char *mode;
	int code;
	const char *reason;
};

static const struct crime decoder_crimes[] = {
	{"create_error", WEFT_EINVAL, "crooked: crooked_mode: this value is refused"},
	{"create_nothing", WEFT_EINTERNAL, "made no instance"},
	{"delta_in_create", WEFT_EINVAL, "calls delta outside of plan and commit"},
	{"plan_nothing", WEFT_EINTERNAL, "planned nothing"},
	{"plan_error", WEFT_EINTERNAL, "plan() returned -4 without a reason"},
	{"plan_reason", WEFT_EUNSUPPORTED, "crooked: not today"},
	{"plan_positive", WEFT_EINTERNAL, "plan() returned 7"},
	{"commit_error", WEFT_ENOMEM, "commit() returned -2"},
	{"bad_seq", WEFT_EINVAL, "sequence 77, which is not there"},
	{"bad_token", WEFT_EINVAL, "feeds the token 1073741824"},
	{"bad_target", WEFT_EINVAL, "asks for the token 1073741824"},
	{"no_tokens", WEFT_EINVAL, "feeds no tokens"},
	{"bad_choice", WEFT_EINVAL, "choice 65536"},
	{"draw_twice", WEFT_EINVAL, "draws the choice 0 twice"},
	{"feed_twice", WEFT_EINVAL, "draws the choice 0 twice"},
	{"draw_finished", WEFT_EINVAL, "draws the choice 0, which is finished"},
	{"top_65", WEFT_EINVAL, "65 most likely tokens"},
	{"beyond_context", WEFT_EINVAL, "the context has"},
	{"small_struct", WEFT_EINVAL, "impossible size 8"},
	{"trim_beyond", WEFT_EINVAL, "trims the sequence 0 to 1048576"},
	{"trim_fed", WEFT_EINVAL, "trims the sequence 0, which it feeds"},
	{"drop_fed", WEFT_EINVAL, "drops the sequence 0, which it feeds"},
	{"fork_nothing", WEFT_EINVAL, "fork for the sequence 5"},
	{"drop_nothing", WEFT_EINVAL, "drop for the sequence 5"},
	{"finish_early", WEFT_EINVAL, "draws the choice 0, which is finished"},
	{"finish_unknown", WEFT_EINVAL, "unknown reason 99"},
	{"detokenize_outside", WEFT_EINVAL, "detokenizes the token"},
	{"flood_feeds", WEFT_EINVAL, "limit"},
	{"flood_forks", WEFT_EINVAL, "1024 sequences"},
	{"flood_values", WEFT_EINVAL, "values in one plan"},
	{"flood_progress", WEFT_EINVAL, "65536 times"},
	{"done_with_feeds", WEFT_EINTERNAL, "said done and planned feeds"},
	{"feed_in_commit", WEFT_EINVAL, "feed outside of plan"},
	{"fork_in_commit", WEFT_EINVAL, "fork outside of plan"},
	{"bad_utf8", WEFT_EINVAL, "not UTF-8"},
	{"delta_outside", WEFT_EINVAL, "reports the token"},
	{"no_logprobs", WEFT_EINVAL, "promises log-probabilities"},
	{"done_unfinished", WEFT_EINTERNAL, "the choice 0 has no finish"},
	{"delta_finished", WEFT_EINVAL, "delta of the choice 0, which is finished"},
	{"finish_twice", WEFT_EINVAL, "finishes the choice 0 twice"},
};

static const struct crime sampler_crimes[] = {
	{"create_error", WEFT_EINVAL, ": this value is refused"},
	{"apply_error", WEFT_EINTERNAL, "apply does not want to"},
	{"accept_error", WEFT_EINTERNAL, "accept() returned -4"},
	{"nan", WEFT_EINTERNAL, "NaN or +infinity"},
	{"infinite", WEFT_EINTERNAL, "NaN or +infinity"},
	{"none_left", WEFT_EINTERNAL, "left no candidate"},
	{"all_impossible", WEFT_EINTERNAL, "every candidate impossible"},
	{"more", WEFT_EINTERNAL, "more candidates than there were"},
	{"outside", WEFT_EINTERNAL, "outside the vocabulary"},
	{"dense_lie", WEFT_EINTERNAL, "left the dense mark"},
	{"exchange", WEFT_EINTERNAL, "exchanged the arrays"},
	{"feed", WEFT_EINVAL, "feed outside of plan"},
};
enum { N_DECODER = sizeof decoder_crimes / sizeof *decoder_crimes, N_SAMPLER = sizeof sampler_crimes / sizeof *sampler_crimes };

static void assert_crime(struct kit_run *r, uint64_t id, const struct crime *c)
{
	struct kit_answer *a = kit_answer(r, id);

	if (a == NULL || a->done != 1 || a->after_done != 0)
		fail_msg("%s: not exactly one end", c->mode);
	if (a->end != END_FAILED || a->code != c->code || strstr(a->reason, c->reason) == NULL)
		fail_msg("%s: ended with %d, code %d, \"%s\"; expected code %d, \"%s\"", c->mode, a->end, a->code, a->reason,
			 c->code, c->reason);
}

static void assert_honest(struct kit_run *r, uint64_t id)
{
	struct kit_answer *a = kit_answer(r, id);

	assert_int_equal(a->done, 1);
	kit_same("an honest neighbour", expected, expected_len, a->bytes, a->len);
}

static void submit(struct kit_run *r, uint64_t id, const char *fmt, const char *mode, int at)
{
	char words[200];
	struct kit_ask ask = {.words = words, .prompt = "Which hat goes with a raincoat?"};

	snprintf(words, sizeof words, fmt, mode, at);
	engine_submit(r->engine, kit_job(&kit, id, &ask));
}

static void a_decoder_that_cheats_ends_its_own_job(void **state)
{
	struct kit_run r;

	for (int at = 0; at <= 3; at += 3) { /* in the prompt, and among generated tokens */
		kit_start(&r, &kit, &params);
		for (uint64_t i = 0; i < N_DECODER; i++) {
			submit(&r, 1000 + i, "decoder=crooked crooked_mode=%s crooked_at=%d samplers=", decoder_crimes[i].mode, at);
			if (i % 4 == 0)
				engine_submit(r.engine, kit_job(&kit, 1 + i, &honest));
		}
		kit_wait_done(&r, N_DECODER + (N_DECODER + 3) / 4);
		for (uint64_t i = 0; i < N_DECODER; i++) {
			assert_crime(&r, 1000 + i, &decoder_crimes[i]);
			if (i % 4 == 0)
				assert_honest(&r, 1 + i);
		}
		kit_assert_idle(&r);
		kit_stop(&r);
	}
}

static void check_sampler(const char *words)
{
	struct kit_run r;

	for (int at = 0; at <= 4; at += 4) {
		kit_start(&r, &kit, &several);
		for (uint64_t i = 0; i < N_SAMPLER; i++) {
			submit(&r, 1000 + i, words, sampler_crimes[i].mode, at);
			engine_submit(r.engine, kit_job(&kit, 1 + i, &honest));
		}
		kit_wait_done(&r, 2 * N_SAMPLER);
		for (uint64_t i = 0; i < N_SAMPLER; i++) {
			assert_crime(&r, 1000 + i, &sampler_crimes[i]);
			assert_honest(&r, 1 + i);
		}
		kit_assert_idle(&r);
		kit_stop(&r);
	}
}

static void a_sampler_that_cheats_ends_its_own_job(void **state)
{
	check_sampler("max_tokens=8 ignore_eos=1 samplers=crooked_sampler,temperature crooked_sampler=%s crooked_sampler_at=%d");
}

/* Its end waits until the other threads are done. */
static void a_sampler_that_cheats_beside_others_ends_its_own_job(void **state)
{
	check_sampler("max_tokens=8 ignore_eos=1 samplers=crooked_aside,temperature crooked_aside=%s crooked_aside_at=%d");
}

static void a_sampler_runs_on_the_engines_thread_unless_it_says_otherwise(void **state)
{
	struct kit_run r;

	kit_start(&r, &kit, &several);
	for (uint64_t i = 0; i < 16; i++)
		submit(&r, 1 + i, "max_tokens=40 ignore_eos=1 samplers=temperature,crooked_sampler crooked_sampler=%s crooked_sampler_at=%d",
		       "thread", 0);
	kit_wait_done(&r, 16);
	for (uint64_t i = 0; i < 16; i++)
		assert_int_equal(r.answers[i].end, END_DONE);
	kit_stop(&r);
}

static void a_sampler_that_moves_ids_in_secret_is_not_felt_by_others(void **state)
{
	struct kit_run r;

	kit_start(&r, &kit, &params);
	submit(&r, 1, "max_tokens=40 ignore_eos=1 samplers=crooked_sampler crooked_sampler=%s crooked_sampler_at=%d",
	       "secret_order", 3);
	engine_submit(r.engine, kit_job(&kit, 2, &honest));
	kit_wait_done(&r, 2);
	assert_honest(&r, 2);
	kit_stop(&r);
}

static void an_honest_answer_comes_of_structs_of_an_older_minor(void **state)
{
	struct kit_run r;

	kit_start(&r, &kit, &params);
	submit(&r, 1, "decoder=crooked crooked_mode=%s crooked_at=%d samplers=", "short_delta", 2);
	kit_wait_done(&r, 1);
	assert_int_equal(r.answers[0].end, END_DONE);
	assert_int_equal(r.answers[0].deltas, 10);
	assert_int_equal(r.answers[0].completion_tokens, 10);
	kit_stop(&r);
}

static void a_job_that_needs_more_pages_than_there_are_fails_with_that_reason(void **state)
{
	struct kit_run r;

	kit_start(&r, &kit, &(struct kit_params){.threads = 1, .kv_pages = 3, .max_rows = 64});
	submit(&r, 1, "decoder=crooked crooked_mode=%s crooked_at=%d crooked_tokens=200 samplers=", "none", 0);
	kit_wait_done(&r, 1);
	assert_int_equal(r.answers[0].end, END_FAILED);
	assert_int_equal(r.answers[0].code, WEFT_ENOMEM);
	assert_non_null(strstr(r.answers[0].reason, "more KV pages than there are: 3"));
	engine_submit(r.engine, kit_job(&kit, 2, &(struct kit_ask){.words = "max_tokens=2", .prompt = "A"}));
	kit_wait_done(&r, 2);
	assert_int_equal(kit_answer(&r, 2)->end, END_DONE);
	kit_assert_idle(&r);
	kit_stop(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_decoder_that_cheats_ends_its_own_job),
		cmocka_unit_test(a_sampler_that_cheats_ends_its_own_job),
		cmocka_unit_test(a_sampler_that_cheats_beside_others_ends_its_own_job),
		cmocka_unit_test(a_sampler_runs_on_the_engines_thread_unless_it_says_otherwise),
		cmocka_unit_test(a_sampler_that_moves_ids_in_secret_is_not_felt_by_others),
		cmocka_unit_test(an_honest_answer_comes_of_structs_of_an_older_minor),
		cmocka_unit_test(a_job_that_needs_more_pages_than_there_are_fails_with_that_reason),
	};
	return cmocka_run_group_tests_name("crooked plugins", tests, setup, teardown);
}
