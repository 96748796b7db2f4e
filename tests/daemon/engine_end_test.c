/* engine_end_test.c: every job that was submitted ends exactly once, and nothing of it stays behind, whatever befalls it. */
#include "config.h"

#include "engine_kit.h"

static struct kit kit;
static const struct kit_params params = {.threads = 1, .kv_pages = 96, .max_rows = 64};
static uint32_t rng = 4711;

static uint32_t random_below(uint32_t n)
{
	rng = rng * 1664525u + 1013904223u;
	return (uint32_t)((uint64_t)(rng >> 8) * n >> 24);
}

static int setup(void **state)
{
	kit_init(&kit, (const char *const[]){"engine_crooked", NULL});
	return 0;
}

static int teardown(void **state)
{
	kit_finish(&kit);
	return 0;
}

static const struct kit_ask asks[] = {
	{.words = "max_tokens=3", .prompt = "A hat"},
	{.words = "max_tokens=9 n=3 class=batch", .prompt = "A coat for a tall man who likes green"},
	{.words = "max_tokens=1 logprobs=5", .prompt = "Wool"},
	{.words = "max_tokens=30 ignore_eos=1 temperature=0.5 priority=2", .prompt = "Linen and silk"},
	{.words = "decoder=score", .prompt = "Is silk warm?", .continuations = {"Yes.", "No."}},
	{.words = "decoder=crooked crooked_mode=plan_error crooked_at=3 samplers=", .prompt = "Wrong"},
	{.words = "decoder=crooked crooked_mode=create_error samplers=", .prompt = "Wrong"},
	{.words = "max_tokens=60 ignore_eos=1 class=batch priority=5",
	 .prompt = "A long story about a scarf that went around the world and came back"},
};
enum { N_ASKS = sizeof asks / sizeof *asks };

static void resume_parked(struct kit_run *r)
{
	for (size_t i = 0; i < r->n; i++)
		if (r->answers[i].preempted > 0 && !r->answers[i].done)
			engine_resume(r->engine, r->answers[i].id);
}

static void a_thousand_jobs_end_once_each(void **state)
{
	enum { N = 1000, AT_ONCE = 40 };
	struct kit_run r;
	uint64_t next = 1;
	unsigned ends[3] = {0};

	kit_start(&r, &kit, &params);
	while (r.done < N) {
		while (next <= N && next - 1 - r.done < AT_ONCE) {
			engine_submit(r.engine, kit_job(&kit, next, &asks[random_below(N_ASKS)]));
			if (random_below(12) == 0)
				engine_cancel(r.engine, next); /* before its first step */
			next++;
		}
		for (int k = 0; k < 4; k++) {
			uint64_t id = next - 1 - random_below(AT_ONCE < next ? AT_ONCE : (uint32_t)next - 1);
			uint32_t dice = random_below(8);
			if (dice == 0)
				engine_cancel(r.engine, id);
			else if (dice < 4)
				engine_preempt(r.engine, id);
			else if (dice < 6)
				engine_resume(r.engine, id);
		}
		engine_cancel(r.engine, N + 1 + random_below(1000)); /* never heard of */
		resume_parked(&r);
		kit_wait(&r);
	}
	assert_int_equal(r.n, N);
	for (size_t i = 0; i < r.n; i++) {
		assert_int_equal(r.answers[i].done, 1);
		assert_int_equal(r.answers[i].after_done, 0);
		assert_true(r.answers[i].started <= 1);
		assert_true(r.answers[i].resumed <= r.answers[i].preempted);
		ends[r.answers[i].end]++;
	}
	assert_true(ends[END_DONE] > 300 && ends[END_FAILED] > 100 && ends[END_CANCELLED] > 50);
	kit_assert_idle(&r);
	kit_stop(&r);
}

static void a_parked_job_can_be_cancelled(void **state)
{
	struct kit_run r;

	kit_start(&r, &kit, &params);
	engine_submit(r.engine, kit_job(&kit, 1, &asks[7]));
	engine_preempt(r.engine, 1);
	while (kit_answer(&r, 1) == NULL || kit_answer(&r, 1)->preempted == 0)
		kit_wait(&r);
	assert_int_equal(atomic_load(&engine_stats(r.engine)->pages_used), 0);
	engine_cancel(r.engine, 1);
	kit_wait_done(&r, 1);
	assert_int_equal(kit_answer(&r, 1)->end, END_CANCELLED);
	kit_assert_idle(&r);
	kit_stop(&r);
}

/* One chunk of a long prompt has run when the cancel comes; the next step has none of it. */
static void a_cancel_in_the_middle_of_a_prompt_frees_its_pages(void **state)
{
	int32_t prompt[500];
	struct kit_ask ask = {.words = "max_tokens=3", .tokens = prompt, .n_tokens = 500};
	struct kit_run r;

	for (int i = 0; i < 500; i++)
		prompt[i] = 300 + i;
	kit_start(&r, &kit, &(struct kit_params){.threads = 1, .kv_pages = 96, .max_rows = 4});
	engine_submit(r.engine, kit_job(&kit, 1, &ask));
	while (kit_answer(&r, 1) == NULL || kit_answer(&r, 1)->progress == 0)
		kit_wait(&r);
	engine_cancel(r.engine, 1);
	kit_wait_done(&r, 1);
	assert_int_equal(kit_answer(&r, 1)->end, END_CANCELLED);
	assert_int_equal(kit_answer(&r, 1)->completion_tokens, 0);
	kit_assert_idle(&r);
	assert_true(atomic_load(&engine_stats(r.engine)->prompt_rows) < 500);
	kit_stop(&r);
}

static void the_engine_can_be_freed_at_any_moment(void **state)
{
	for (int round = 0; round < 12; round++) {
		struct kit_run r;
		kit_start(&r, &kit, &params);
		for (uint64_t i = 1; i <= 30; i++)
			engine_submit(r.engine, kit_job(&kit, i, &asks[i % N_ASKS]));
		engine_preempt(r.engine, 3);
		for (int k = 0; k < round; k++)
			kit_wait(&r);
		kit_stop(&r); /* leak checkers look at what is left */
	}
}

static void the_usage_of_a_job_is_its_tokens(void **state)
{
	struct kit_run r;

	kit_start(&r, &kit, &params);
	struct engine_job *job = kit_job(&kit, 1, &(struct kit_ask){.words = "max_tokens=7 n=2 ignore_eos=1", .prompt = "A hat"});
	struct engine_job *score = kit_job(&kit, 2, &asks[4]);
	size_t n_prompt = job->n_prompt, n_scored = score->continuation_len[0] + score->continuation_len[1];
	engine_submit(r.engine, job);
	engine_submit(r.engine, score);
	kit_wait_done(&r, 2);
	assert_int_equal(kit_answer(&r, 1)->prompt_tokens, n_prompt);
	assert_int_equal(kit_answer(&r, 1)->completion_tokens, 14);
	assert_int_equal(kit_answer(&r, 2)->completion_tokens, n_scored);
	assert_int_equal(kit_answer(&r, 1)->started, 1);
	assert_int_equal(atomic_load(&engine_stats(r.engine)->draws), 14);
	kit_stop(&r);
}

/* What the loop admits by is never less than what a job comes to hold. */
static void worst_pages_are_an_upper_bound(void **state)
{
	static const struct kit_ask bound[] = {
		{.words = "max_tokens=40 n=5 ignore_eos=1", .prompt = "A coat for a tall man who likes green and has a blue hat"},
		{.words = "max_tokens=33 ignore_eos=1", .prompt = "A"},
		{.words = "max_tokens=0 ignore_eos=1", .prompt = "A coat"},
		{.words = "decoder=score",
		 .prompt = "Is silk warm?",
		 .continuations = {"Yes, it is warm and light and it dries in no time.", "No."}},
	};

	for (size_t i = 0; i < sizeof bound / sizeof *bound; i++) {
		struct kit_run r;
		struct engine_job *job = kit_job(&kit, 1, &bound[i]);
		kit_start(&r, &kit, &params);
		uint32_t worst = engine_worst_pages(r.engine, job);
		kit_stop(&r);
		kit_start(&r, &kit, &(struct kit_params){.threads = 1, .kv_pages = worst, .max_rows = 64});
		engine_submit(r.engine, job);
		kit_wait_done(&r, 1);
		if (kit_answer(&r, 1)->end != END_DONE)
			fail_msg("with its %u worst pages job %zu failed: %s", worst, i, kit_answer(&r, 1)->reason);
		assert_int_equal(kit_answer(&r, 1)->preempted, 0);
		kit_stop(&r);
	}
}

static void an_engine_that_cannot_be_is_refused(void **state)
{
	struct engine_params p = {.model = kit.model, .threads = 1, .kv_pages = 4, .max_rows = 4, .max_jobs = 1};
	struct engine *e;
	struct core_error err;

	p.max_context = core_model_info(kit.model)->context + 1;
	assert_int_equal(engine_new(&e, &p, &err), CORE_EINVAL);
	assert_non_null(strstr(err.text, "context"));
	p.max_context = 0;
	p.max_rows = 0;
	assert_int_equal(engine_new(&e, &p, &err), CORE_EINVAL);
	engine_free(NULL);
	engine_job_free(NULL);
	engine_event_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_thousand_jobs_end_once_each),
		cmocka_unit_test(a_parked_job_can_be_cancelled),
		cmocka_unit_test(a_cancel_in_the_middle_of_a_prompt_frees_its_pages),
		cmocka_unit_test(the_engine_can_be_freed_at_any_moment),
		cmocka_unit_test(the_usage_of_a_job_is_its_tokens),
		cmocka_unit_test(worst_pages_are_an_upper_bound),
		cmocka_unit_test(an_engine_that_cannot_be_is_refused),
	};
	return cmocka_run_group_tests_name("every job ends once", tests, setup, teardown);
}
