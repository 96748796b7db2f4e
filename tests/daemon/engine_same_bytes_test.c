/* engine_same_bytes_test.c: promise P1 at the engine: a request has one answer, whatever runs beside it. */
#include "config.h"

#include <math.h>

#include "daemon/philox.h"
#include "engine_kit.h"

static struct kit kit;
enum { CONTEXT = 160 }; /* short enough that a job may well come to its end */
static const struct kit_params plain = {.threads = 1, .kv_pages = 2048, .max_context = CONTEXT, .max_rows = 256};

#define CHAT(user) "### System:\nYou are a fashion assistant.\n### User:\n" user "\n### Assistant:\n"

/* Requests of every kind; their answers alone are what all other runs are compared with. */
static const struct kit_ask asks[] = {
	{.words = "seed=1 max_tokens=24 logprobs=3", .prompt = CHAT("How do I wash a wool coat?")},
	{.words = "seed=2 max_tokens=40 temperature=0 logprobs=0", .prompt = CHAT("Which shoes go with a navy suit?")},
	{.words = "seed=3 max_tokens=20 n=4 temperature=0.8 top_k=40 top_p=0.9 logprobs=2",
	 .prompt = CHAT("Name a light summer fabric.")},
	{.words = "seed=4 max_tokens=30 temperature=1.3 min_p=0.02 repetition_penalty=1.2 frequency_penalty=0.3 penalty_last_n=64",
	 .prompt = CHAT("What is denim?")},
	{.words = "seed=5 max_tokens=16 n=3 mirostat=2 mirostat_tau=4 class=batch", .prompt = CHAT("I need a hat.")},
	{.words = "seed=6 max_tokens=25 xtc_probability=0.5 xtc_threshold=0.05 top_n_sigma=2 ignore_eos=1", .prompt = "A"},
	{.words = "seed=7 max_tokens=40 stop=the|a typical_p=0.9 min_tokens=5", .prompt = CHAT("Tell me about linen.")},
	{.words = "seed=8 max_tokens=6 prompt_logprobs=2 echo=1 logprobs=1", .prompt = CHAT("Is silk warm?")},
	{.words = "decoder=score logprobs=2",
	 .prompt = CHAT("Is silk warm?"),
	 .continuations = {"Yes, it is.", "No.", "Silk keeps you warm in winter."}},
	{.words = "decoder=score echo=1 class=batch",
	 .prompt = CHAT("What is tweed?"),
	 .continuations = {"A rough woollen cloth."}},
	{.words = "seed=9 max_tokens=12 n=2 temperature=0.7 class=batch priority=9",
	 .prompt = CHAT(
		 "I have a wedding in May, a dinner in June and a long journey in July. I like green and dark red, I do not like "
		 "wool, "
		 "and I am rather tall. My shoes are brown, my belt is black, and my coat is very old. Which five pieces should I "
		 "buy first, in which order, and how should I care for each of them once I am back at home?")},
	{.words = "seed=10 max_tokens=0 ignore_eos=1", .prompt = CHAT("Go on until the context is full.")},
};
enum { N_ASKS = sizeof asks / sizeof *asks };

static struct {
	char *bytes;
	size_t len;
} expected[N_ASKS];

static int setup(void **state)
{
	kit_init(&kit, NULL);
	for (size_t i = 0; i < N_ASKS; i++)
		expected[i].bytes = kit_alone(&kit, &plain, &asks[i], &expected[i].len);
	return 0;
}

static int teardown(void **state)
{
	for (size_t i = 0; i < N_ASKS; i++)
		free(expected[i].bytes);
	kit_finish(&kit);
	return 0;
}

static uint32_t rng = 12345;

static uint32_t random_below(uint32_t n)
{
	rng = rng * 1664525u + 1013904223u;
	return (uint32_t)((uint64_t)(rng >> 8) * n >> 24);
}

static void assert_expected(struct kit_run *r, const char *what)
{
	char text[80];

	for (size_t i = 0; i < r->n; i++) {
		struct kit_answer *a = &r->answers[i];
		size_t which = a->id % N_ASKS;
		snprintf(text, sizeof text, "%s, request %zu, job %llu", what, which, (unsigned long long)a->id);
		assert_int_equal(a->done, 1);
		assert_int_equal(a->after_done, 0);
		kit_same(text, expected[which].bytes, expected[which].len, a->bytes, a->len);
	}
}

/* Submits n jobs in a mixed order, all at once. */
static void submit_mixed(struct kit_run *r, size_t n)
{
	uint64_t ids[256];

	for (size_t i = 0; i < n; i++)
		ids[i] = i + N_ASKS; /* id % N_ASKS is the request */
	for (size_t i = n; i > 1; i--) {
		uint32_t k = random_below((uint32_t)i);
		uint64_t t = ids[i - 1];
		ids[i - 1] = ids[k];
		ids[k] = t;
	}
	for (size_t i = 0; i < n; i++)
		engine_submit(r->engine, kit_job(&kit, ids[i], &asks[ids[i] % N_ASKS]));
}

static void check_mixed(const struct kit_params *p, size_t n, const char *what)
{
	struct kit_run r;

	kit_start(&r, &kit, p);
	submit_mixed(&r, n);
	kit_wait_done(&r, n);
	assert_expected(&r, what);
	kit_assert_idle(&r);
	kit_stop(&r);
}

static void answers_are_not_empty(void **state)
{
	for (size_t i = 0; i < N_ASKS; i++) {
		if (strstr(expected[i].bytes, "end 0 code 0") == NULL)
			fail_msg("request %zu: %s", i, expected[i].bytes);
	}
	assert_non_null(strstr(expected[N_ASKS - 1].bytes, "finish 4")); /* the context was filled to its last token */
}

static void alone_and_among_64_neighbours(void **state)
{
	check_mixed(&plain, 64, "among 64");
}

static void with_two_threads(void **state)
{
	check_mixed(&(struct kit_params){.threads = 2, .kv_pages = 2048, .max_context = CONTEXT, .max_rows = 256}, 48,
		    "two threads");
}

static void with_prompts_cut_into_chunks_of_any_size(void **state)
{
	static const uint32_t rows[] = {1, 3, 7, 33, 512};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char what[40];
		snprintf(what, sizeof what, "max_rows %u", rows[i]);
		check_mixed(&(struct kit_params){.threads = 1, .kv_pages = 2048, .max_context = CONTEXT, .max_rows = rows[i]},
			    rows[i] == 1 ? N_ASKS : 24, what);
	}
}

/* Sends jobs away and takes them back at random while their events come in. */
static void after_preemption_at_random_moments(void **state)
{
	enum { N = 36 };
	struct kit_run r;
	unsigned preempted = 0;

	kit_start(&r, &kit, &(struct kit_params){.threads = 1, .kv_pages = 2048, .max_context = CONTEXT, .max_rows = 48});
	submit_mixed(&r, N);
	for (size_t quiet = 0; r.done < N;) {
		size_t done = r.done;
		for (int k = 0; k < 3 && quiet < 2000; k++)
			engine_preempt(r.engine, N_ASKS + random_below(N));
		for (size_t i = 0; i < r.n; i++)
			if (r.answers[i].preempted > r.answers[i].resumed || r.answers[i].preempted > 0)
				engine_resume(r.engine, r.answers[i].id);
		kit_wait(&r);
		quiet = r.done == done ? quiet + 1 : quiet;
	}
	for (size_t i = 0; i < r.n; i++)
		preempted += r.answers[i].preempted;
	assert_true(preempted > N);
	assert_true(atomic_load(&engine_stats(r.engine)->rebuilt_rows) > 0);
	assert_expected(&r, "pre-empted");
	kit_assert_idle(&r);
	kit_stop(&r);
}

/* The pool holds a fraction of what the jobs want: the engine sends jobs away by itself, the kit takes them back at once. */
static void when_pages_are_short(void **state)
{
	enum { N = 24 };
	struct kit_run r;
	unsigned preempted = 0;

	kit_start(&r, &kit, &(struct kit_params){.threads = 1, .kv_pages = 32, .max_rows = 128, .max_context = CONTEXT});
	submit_mixed(&r, N);
	while (r.done < N) {
		kit_wait(&r);
		for (size_t i = 0; i < r.n; i++)
			if (r.answers[i].preempted > 0 && !r.answers[i].done)
				engine_resume(r.engine, r.answers[i].id);
	}
	for (size_t i = 0; i < r.n; i++)
		preempted += r.answers[i].preempted;
	assert_true(preempted > 0);
	assert_expected(&r, "short of pages");
	kit_assert_idle(&r);
	kit_stop(&r);
}

/* The draw and its log-probability in plain double, from one row of logits. */
static int32_t plain_draw(const float *logits, uint32_t n, uint64_t seed, uint64_t position, double *logprob, double *edge)
{
	double sum = 0, passed = 0, u = philox_uniform(seed, position, 0, philox_stream(PHILOX_DRAW), 0);
	float max = logits[0];
	uint32_t i;

	for (i = 1; i < n; i++)
		max = logits[i] > max ? logits[i] : max;
	for (i = 0; i < n; i++)
		sum += exp((double)logits[i] - max);
	for (i = 0; i < n - 1; i++) {
		passed += exp((double)logits[i] - max);
		if (u * sum < passed)
			break;
	}
	*logprob = logits[i] - max - log(sum);
	*edge = fabs(u * sum - passed) / sum;
	return (int32_t)i;
}

/* The shortest way to the same answer: the core alone, one token at a time. */
static void an_answer_is_that_of_a_plain_loop_over_the_core(void **state)
{
	enum { N = 40, SEED = 2024 };
	struct kit_ask ask = {.words = "seed=2024 max_tokens=40 ignore_eos=1 logprobs=0",
			      .prompt = CHAT("Which colours go with grey?")};
	struct core_ctx_params cp = {.model = kit.model, .threads = 1, .kv_pages = 64, .max_rows = 128};
	struct core_row rows[128];
	struct core_ctx *core;
	struct kit_run r;

	kit_start(&r, &kit, &(struct kit_params){.threads = 1, .kv_pages = 64, .max_rows = 16});
	struct engine_job *job = kit_job(&kit, 1, &ask);
	uint32_t n = (uint32_t)job->n_prompt, vocab = core_model_info(kit.model)->vocab;
	assert_int_equal(core_ctx_new(&core, &cp, NULL), 0);
	struct core_seq *seq = core_seq_new(core);
	assert_true(n <= 128);
	for (uint32_t i = 0; i < n; i++)
		rows[i] = (struct core_row){seq, job->prompt[i], CORE_PROMPT, i == n - 1};
	assert_int_equal(core_forward(core, rows, n, NULL), 0);
	engine_submit(r.engine, job);
	kit_wait_done(&r, 1);
	const struct kit_stream *got = &r.answers[0].streams[0];
	assert_int_equal(got->n_tokens, N);
	for (uint32_t i = 0; i < N; i++) {
		double logprob, edge;
		int32_t token = plain_draw(core_logits(core, 0), vocab, SEED, n + i, &logprob, &edge);
		assert_true(edge >
			    1e-12); /* else the draw falls on the edge of two tokens, and either is right: take another seed */
		assert_int_equal(got->tokens[i], token);
		assert_true(fabs(got->logprobs[i] - logprob) < 1e-6 * (1 + fabs(logprob)));
		rows[0] = (struct core_row){seq, token, CORE_GENERATED, true};
		assert_int_equal(core_forward(core, rows, 1, NULL), 0);
	}
	core_seq_free(core, seq);
	core_ctx_free(core);
	kit_stop(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_are_not_empty),
		cmocka_unit_test(an_answer_is_that_of_a_plain_loop_over_the_core),
		cmocka_unit_test(alone_and_among_64_neighbours),
		cmocka_unit_test(with_two_threads),
		cmocka_unit_test(with_prompts_cut_into_chunks_of_any_size),
		cmocka_unit_test(after_preemption_at_random_moments),
		cmocka_unit_test(when_pages_are_short),
	};
	return cmocka_run_group_tests_name("one request has one answer", tests, setup, teardown);
}
