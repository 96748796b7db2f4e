/* engine_prefix_test.c: promises P1 and P6 at the engine: what the prefix cache has need not run, and nobody sees it in an answer. */
#include "config.h"

#include "engine_kit.h"

static struct kit kit;
enum { CONTEXT = 160 };
static const struct engine_pace each_step = {.tokens = 1, .bytes = UINT32_MAX};

#define SYSTEM                                                                                                                     \
	"### System:\nYou are a fashion assistant. You answer in one sentence, you never name a price, and you recommend what lasts.\n"
#define CHAT(user) SYSTEM "### User:\n" user "\n### Assistant:\n"

/* Requests of every kind behind one system prompt. */
static const struct kit_ask asks[] = {
	{.words = "seed=1 max_tokens=24 logprobs=3", .prompt = CHAT("How do I wash a wool coat?")},
	{.words = "seed=2 max_tokens=20 n=4 temperature=0.8 top_k=40 logprobs=2", .prompt = CHAT("Name a light summer fabric.")},
	{.words = "seed=3 max_tokens=18 repetition_penalty=1.2 dry_multiplier=1", .prompt = CHAT("What is denim?")},
	{.words = "seed=4 max_tokens=20 tailor=1 orderline=0.5 logprobs=1", .prompt = CHAT("Is velvet out of fashion?")},
	{.words = "seed=5 max_tokens=20 tailor=1 n=2 logprobs=1 class=batch", .prompt = CHAT("Is velvet out of fashion?")},
	{.words = "seed=6 max_tokens=20 tailor=0.5 logprobs=1", .prompt = CHAT("Is velvet out of fashion?")},
	{.words = "seed=7 max_tokens=6 prompt_logprobs=2 echo=1", .prompt = CHAT("Is silk warm?")},
	{.words = "decoder=score logprobs=2", .prompt = CHAT("Is silk warm?"), .continuations = {"Yes, it is.", "No.", "Silk keeps you warm."}},
	{.words = "decoder=score echo=1 tailor=0.7", .prompt = CHAT("What is tweed?"), .continuations = {"A rough woollen cloth."}},
	{.words = "seed=8 max_tokens=0 ignore_eos=1", .prompt = CHAT("Go on until the context is full.")},
};
enum { N_ASKS = sizeof asks / sizeof *asks };

static struct {
	char *bytes;
	size_t len;
} expected[N_ASKS];

static struct kit_params params(uint32_t pages, uint32_t rows)
{
	return (struct kit_params){.threads = 1, .kv_pages = pages, .max_rows = rows, .max_context = CONTEXT};
}

/* Each alone, in an engine without the cache. */
static int setup(void **state)
{
	struct kit_params p = params(256, 256);

	p.no_prefix_cache = true;
	kit_init(&kit, NULL);
	for (size_t i = 0; i < N_ASKS; i++)
		expected[i].bytes = kit_alone(&kit, &p, &asks[i], &expected[i].len);
	return 0;
}

static int teardown(void **state)
{
	for (size_t i = 0; i < N_ASKS; i++)
		free(expected[i].bytes);
	kit_finish(&kit);
	return 0;
}

static struct kit_answer *ask(struct kit_run *r, uint64_t id, const struct kit_ask *a)
{
	engine_submit(r->engine, kit_job(&kit, id, a));
	kit_wait_done(r, r->done + 1);
	return kit_answer(r, id);
}

static void assert_expected(const struct kit_answer *a, size_t which, const char *what)
{
	char text[80];

	snprintf(text, sizeof text, "%s, request %zu", what, which);
	kit_same(text, expected[which].bytes, expected[which].len, a->bytes, a->len);
}

static uint64_t whole_pages(uint64_t tokens)
{
	return tokens / CORE_PAGE * CORE_PAGE;
}

static uint64_t stat(const atomic_uint_fast64_t *counter)
{
	return atomic_load(counter);
}

/* ---- P1 ---- */

static void a_hit_gives_the_bytes_of_a_miss_with_prompts_in_pieces_of_any_size(void **state)
{
	static const uint32_t rows[] = {256, 1, 7, 48};

	for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
		struct kit_params p = params(256, rows[k]);
		struct kit_run r;
		char what[40];

		snprintf(what, sizeof what, "max_rows %u", rows[k]);
		kit_start(&r, &kit, &p);
		for (uint64_t id = 1; id <= 2 * N_ASKS; id++)
			assert_expected(ask(&r, id, &asks[id % N_ASKS]), id % N_ASKS, what);
		assert_true(stat(&engine_stats(r.engine)->prefix_hits) > N_ASKS);
		kit_assert_idle(&r);
		kit_stop(&r);
	}
}

/* The second time a prompt is there in whole pages, but for its last token, whose logits are wanted; one that is scored is run. */
static void the_second_time_all_of_a_prompt_is_there_that_no_logits_are_wanted_of(void **state)
{
	struct kit_params p = params(512, 256);
	struct kit_run r;

	for (size_t i = 0; i < N_ASKS; i++) {
		kit_start(&r, &kit, &p);
		assert_int_equal(ask(&r, 1, &asks[i])->cached_tokens, 0);
		uint64_t rows = stat(&engine_stats(r.engine)->prompt_rows);
		const struct kit_answer *a = ask(&r, 2, &asks[i]);
		bool echo = strstr(asks[i].words, "echo") != NULL, score = strstr(asks[i].words, "score") != NULL;
		uint64_t there = echo ? 0 : whole_pages(a->prompt_tokens - 1 - score); /* score feeds the last token once more */
		assert_int_equal(a->cached_tokens, there);
		assert_int_equal(stat(&engine_stats(r.engine)->prompt_rows), 2 * rows - there);
		assert_int_equal(stat(&engine_stats(r.engine)->prefix_tokens), there);
		kit_stop(&r);
	}
}

/* The prompt of a score without its last token is two pages, and no logits are wanted of it. */
static void a_feed_that_is_there_in_whole_still_has_a_row_to_run(void **state)
{
	int32_t prompt[2 * CORE_PAGE + 1];
	struct kit_ask a = {.words = "decoder=score", .tokens = prompt, .n_tokens = 2 * CORE_PAGE + 1, .continuations = {"Yes.", "No."}};
	struct kit_params p = params(64, 256);
	struct kit_run r;

	for (int i = 0; i <= 2 * CORE_PAGE; i++)
		prompt[i] = 400 + i;
	kit_start(&r, &kit, &p);
	size_t len = ask(&r, 1, &a)->len;
	const struct kit_answer *second = ask(&r, 2, &a);
	assert_int_equal(second->cached_tokens, CORE_PAGE);
	kit_same("scored again", kit_answer(&r, 1)->bytes, len, second->bytes, second->len);
	kit_stop(&r);
}

static void many_at_once_have_the_answers_that_each_has_alone(void **state)
{
	struct kit_params p = params(64, 32);
	struct kit_run r;

	kit_start(&r, &kit, &p);
	for (uint64_t id = 1; id <= 4 * N_ASKS; id++)
		engine_submit(r.engine, kit_job(&kit, id, &asks[id % N_ASKS]));
	while (r.done < 4 * N_ASKS) {
		kit_wait(&r);
		for (size_t i = 0; i < r.n; i++)
			if (r.answers[i].preempted > 0 && !r.answers[i].done)
				engine_resume(r.engine, r.answers[i].id);
	}
	for (size_t i = 0; i < r.n; i++)
		assert_expected(&r.answers[i], r.answers[i].id % N_ASKS, "many at once");
	assert_true(stat(&engine_stats(r.engine)->prefix_hits) > 0);
	kit_assert_idle(&r);
	kit_stop(&r);
}

/* Whole pages that two prompts have in common, and of which neither wants logits. */
static size_t common(const struct engine_job *a, const struct engine_job *b)
{
	size_t n = 0;

	while (n + 1 < a->n_prompt && n + 1 < b->n_prompt && a->prompt[n] == b->prompt[n])
		n++;
	return whole_pages(n);
}

/* Each of them would be in the middle of the same prompt in the same step; and some join when it has run in part. */
static void those_who_come_together_compute_what_they_have_in_common_once(void **state)
{
	static const uint32_t rows[] = {256, 64, 7, 1};
	enum { N = 16 };

	for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
		struct kit_params p = params(512, rows[k]);
		size_t want = 0;
		struct kit_run r;

		kit_start(&r, &kit, &p);
		for (uint64_t id = 1; id <= N; id++) {
			struct engine_job *j = kit_job(&kit, id, &asks[id % 3]);
			size_t most = 0;
			for (uint64_t before = 1; before < id; before++) {
				struct engine_job *b = kit_job(&kit, before, &asks[before % 3]);
				size_t n = common(j, b);
				most = n > most ? n : most;
				engine_job_free(b);
			}
			want += j->n_prompt - most;
			engine_submit(r.engine, j);
		}
		kit_wait_done(&r, N);
		for (size_t i = 0; i < r.n; i++)
			assert_expected(&r.answers[i], r.answers[i].id % 3, "together");
		assert_int_equal(stat(&engine_stats(r.engine)->prompt_rows), want);
		kit_assert_idle(&r);
		kit_stop(&r);
	}
}

/* The one that leads is cancelled: the next one takes the lead. */
static void a_job_that_waits_for_a_cancelled_one_goes_on_by_itself(void **state)
{
	struct kit_params p = params(512, 1);
	struct kit_run r;

	kit_start(&r, &kit, &p);
	for (uint64_t id = 1; id <= 3; id++)
		engine_submit(r.engine, kit_job(&kit, id, &asks[0]));
	while (kit_answer(&r, 1) == NULL)
		kit_wait(&r);
	engine_cancel(r.engine, 1);
	kit_wait_done(&r, 3);
	for (uint64_t id = 2; id <= 3; id++)
		assert_expected(kit_answer(&r, id), 0, "after a cancel");
	kit_stop(&r);
}

/* The pool holds one job and a half: what is cached gives way, and no answer is another one for it. */
static void a_full_cache_keeps_no_job_from_its_pages(void **state)
{
	struct kit_params p = params(16, 64);
	struct kit_run r;

	kit_start(&r, &kit, &p);
	for (uint64_t id = 1; id <= 3 * N_ASKS; id++) {
		size_t which = id * 3 % N_ASKS; /* no two of one request in a row */
		const struct kit_answer *a;
		if (strstr(asks[which].words, "n=4") != NULL || strstr(asks[which].words, "score") != NULL)
			continue; /* they are larger than the pool */
		a = ask(&r, id, &asks[which]);
		assert_int_equal(a->preempted, 0);
		assert_expected(a, which, "a full cache");
	}
	assert_true(stat(&engine_stats(r.engine)->prefix_evictions) > 0);
	kit_assert_idle(&r);
	kit_stop(&r);
}

static void a_parked_job_finds_again_what_it_has_computed(void **state)
{
	struct kit_params p = params(256, 256);
	struct kit_run r;

	kit_start(&r, &kit, &p);
	engine_submit(r.engine, kit_job(&kit, 1, &asks[9]));
	while (kit_answer(&r, 1) == NULL || kit_answer(&r, 1)->deltas < 20)
		kit_wait(&r);
	engine_preempt(r.engine, 1);
	while (kit_answer(&r, 1)->preempted == 0)
		kit_wait(&r);
	engine_resume(r.engine, 1);
	kit_wait_done(&r, 1);
	assert_expected(kit_answer(&r, 1), 9, "parked");
	assert_true(stat(&engine_stats(r.engine)->rebuilt_rows) < CORE_PAGE);
	assert_int_equal(kit_answer(&r, 1)->cached_tokens, 0); /* its prompt has run */
	kit_stop(&r);
}

static void from_a_checkpoint_the_rest_is_the_same_with_a_cache_that_has_all_of_it(void **state)
{
	struct kit_ask a = {.words = "seed=9 max_tokens=40 n=2 tailor=1 ignore_eos=1 logprobs=1 checkpoints=1", .prompt = CHAT("Linen?")};
	struct kit_params p = params(256, 256);
	struct kit_run r;

	p.pace = &each_step;
	kit_start(&r, &kit, &p);
	size_t n = ask(&r, 1, &a)->n_cuts;
	for (size_t i = 0; i < n; i += 7) {
		struct engine_job *j = kit_job(&kit, i + 2, &a);
		uint64_t rebuilt = stat(&engine_stats(r.engine)->rebuilt_rows);
		const struct kit_cut *cut = &kit_answer(&r, 1)->cuts[i];
		j->resume = malloc(cut->blob_len);
		j->resume_len = cut->blob_len;
		memcpy(j->resume, cut->blob, cut->blob_len);
		engine_submit(r.engine, j);
		kit_wait_done(&r, r.done + 1);
		const struct kit_answer *whole = kit_answer(&r, 1), *rest = kit_answer(&r, i + 2);
		size_t from = whole->cuts[i].log_len;
		kit_same("resumed", whole->log + from, whole->log_len - from, rest->log, rest->log_len);
		assert_true(stat(&engine_stats(r.engine)->rebuilt_rows) - rebuilt < CORE_PAGE + 40); /* the second answer forks within a page */
	}
	kit_assert_idle(&r);
	kit_stop(&r);
}

static void a_cancelled_prompt_leaves_what_it_has_computed(void **state)
{
	int32_t prompt[150];
	struct kit_ask a = {.words = "max_tokens=3 temperature=0 logprobs=2", .tokens = prompt, .n_tokens = 150};
	struct kit_params p = params(64, 16), without = p;
	struct kit_run r;
	size_t len;

	for (int i = 0; i < 150; i++)
		prompt[i] = 300 + i;
	without.no_prefix_cache = true;
	char *bytes = kit_alone(&kit, &without, &a, &len);
	kit_start(&r, &kit, &p);
	engine_submit(r.engine, kit_job(&kit, 1, &a));
	while (kit_answer(&r, 1) == NULL || kit_answer(&r, 1)->progress == 0)
		kit_wait(&r);
	engine_cancel(r.engine, 1);
	kit_wait_done(&r, 1);
	const struct kit_answer *second = ask(&r, 2, &a);
	assert_true(second->cached_tokens >= 16);
	kit_same("after a cancelled one", bytes, len, second->bytes, second->len);
	free(bytes);
	kit_stop(&r);
}

/* ---- P6 ---- */

static void another_blend_scale_or_salt_shares_nothing(void **state)
{
	static const char *const words[] = {"", " tailor=1", " tailor=0.5", " orderline=1", " tailor=1 orderline=1", " salt=a", " salt=b"};
	struct kit_params p = params(512, 256);
	struct kit_ask a = {.prompt = CHAT("What is tulle?")};
	struct kit_run r;
	char text[80];

	kit_start(&r, &kit, &p);
	for (uint64_t round = 0; round < 2; round++)
		for (uint64_t i = 0; i < sizeof words / sizeof *words; i++) {
			snprintf(text, sizeof text, "max_tokens=2%s", words[i]);
			a.words = text;
			const struct kit_answer *got = ask(&r, round * 100 + i + 1, &a);
			assert_int_equal(got->cached_tokens, round == 0 ? 0 : whole_pages(got->prompt_tokens - 1));
		}
	kit_stop(&r);
}

/* The tokens of an answer came by another path than those of a prompt. */
static void an_answer_that_comes_back_as_a_prompt_is_run_behind_the_prompt_that_it_had(void **state)
{
	struct kit_params p = params(64, 256), without = p;
	struct kit_ask a = {.words = "seed=5 max_tokens=40 ignore_eos=1", .prompt = CHAT("Tell me about felt.")};
	int32_t turn[CONTEXT];
	struct kit_run r;
	size_t len;

	kit_start(&r, &kit, &p);
	struct engine_job *j = kit_job(&kit, 1, &a);
	size_t n = j->n_prompt;
	memcpy(turn, j->prompt, n * sizeof *turn);
	engine_submit(r.engine, j);
	kit_wait_done(&r, 1);
	memcpy(turn + n, kit_answer(&r, 1)->streams[0].tokens, 40 * sizeof *turn);
	struct kit_ask again = {.words = "seed=6 max_tokens=10 logprobs=2", .tokens = turn, .n_tokens = n + 40};
	const struct kit_answer *second = ask(&r, 2, &again);
	assert_int_equal(second->cached_tokens, whole_pages(n));
	without.no_prefix_cache = true;
	char *bytes = kit_alone(&kit, &without, &again, &len);
	kit_same("the next turn", bytes, len, second->bytes, second->len);
	free(bytes);
	kit_stop(&r);
}

static void an_engine_without_the_cache_finds_nothing(void **state)
{
	struct kit_params p = params(256, 256);
	struct kit_run r;

	p.no_prefix_cache = true;
	kit_start(&r, &kit, &p);
	for (uint64_t id = 1; id <= 2; id++)
		assert_int_equal(ask(&r, id, &asks[0])->cached_tokens, 0);
	assert_int_equal(stat(&engine_stats(r.engine)->prefix_tokens), 0);
	assert_int_equal(atomic_load(&engine_stats(r.engine)->prefix_pages), 0);
	kit_stop(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_hit_gives_the_bytes_of_a_miss_with_prompts_in_pieces_of_any_size),
		cmocka_unit_test(the_second_time_all_of_a_prompt_is_there_that_no_logits_are_wanted_of),
		cmocka_unit_test(a_feed_that_is_there_in_whole_still_has_a_row_to_run),
		cmocka_unit_test(many_at_once_have_the_answers_that_each_has_alone),
		cmocka_unit_test(those_who_come_together_compute_what_they_have_in_common_once),
		cmocka_unit_test(a_job_that_waits_for_a_cancelled_one_goes_on_by_itself),
		cmocka_unit_test(a_full_cache_keeps_no_job_from_its_pages),
		cmocka_unit_test(a_parked_job_finds_again_what_it_has_computed),
		cmocka_unit_test(from_a_checkpoint_the_rest_is_the_same_with_a_cache_that_has_all_of_it),
		cmocka_unit_test(a_cancelled_prompt_leaves_what_it_has_computed),
		cmocka_unit_test(another_blend_scale_or_salt_shares_nothing),
		cmocka_unit_test(an_answer_that_comes_back_as_a_prompt_is_run_behind_the_prompt_that_it_had),
		cmocka_unit_test(an_engine_without_the_cache_finds_nothing),
	};
	return cmocka_run_group_tests_name("a beginning is computed once", tests, setup, teardown);
}
