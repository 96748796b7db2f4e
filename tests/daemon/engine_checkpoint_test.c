/* engine_checkpoint_test.c: promise P2 at the engine: a job goes on from its checkpoint, in another engine or another process, with
 * the same bytes to the end.
 *
 * Each request runs once undisturbed and leaves a checkpoint after every step. From each of them it is run again in a fresh engine:
 * what it says there, put behind what was said before the cut, is the undisturbed answer, and the checkpoints that it makes from
 * there on are the undisturbed ones, byte for byte. */
#include "config.h"

#include <sys/wait.h>
#include <unistd.h>

#include "engine_kit.h"

static struct kit kit;
enum { CONTEXT = 160 };
static const struct engine_pace each_step = {.tokens = 1, .bytes = UINT32_MAX};
static const struct kit_params plain = {.threads = 1, .kv_pages = 256, .max_context = CONTEXT, .max_rows = 256, .pace = &each_step};

#define CHAT(user) "### System:\nYou are a fashion assistant.\n### User:\n" user "\n### Assistant:\n"

#define TWENTY(x)                                                                                                                  \
	x ".", x " is.", x " it.", x " a b", x " c", x " in May.", x " red", x " or blue", x " at all", x "!", x "?", x " (warm)", \
		x " I do.", x " 1", x " 22", x " 333", x ", x", x ": y", x "; z", x "..."

/* Every decoder, every sampler and every parameter that has a say in what a step leaves behind. */
static const struct kit_ask asks[] = {
	{.words = "seed=1 max_tokens=24 logprobs=3 checkpoints=1", .prompt = CHAT("How do I wash a wool coat?")},
	{.words = "seed=2 max_tokens=24 temperature=0 logprobs=0 checkpoints=1",
	 .prompt = CHAT("Which shoes go with a navy suit?")},
	{.words = "seed=3 max_tokens=20 n=4 temperature=0.8 top_k=40 top_p=0.9 logprobs=2 checkpoints=1",
	 .prompt = CHAT("Name a light summer fabric.")},
	{.words = "seed=4 max_tokens=24 temperature=1.3 min_p=0.02 repetition_penalty=1.2 presence_penalty=0.2 "
		  "frequency_penalty=0.3 "
		  "penalty_last_n=16 checkpoints=1",
	 .prompt = CHAT("What is denim?")},
	{.words = "seed=5 max_tokens=16 n=3 mirostat=2 mirostat_tau=4 class=batch checkpoints=1", .prompt = CHAT("I need a hat.")},
	{.words = "seed=6 max_tokens=25 xtc_probability=0.5 xtc_threshold=0.05 top_n_sigma=2 ignore_eos=1 checkpoints=1",
	 .prompt = "A"},
	{.words = "seed=7 max_tokens=40 stop=the|a|and|silk typical_p=0.9 min_tokens=9 n=2 checkpoints=1",
	 .prompt = CHAT("Tell me about linen.")},
	{.words = "seed=8 max_tokens=6 prompt_logprobs=2 echo=1 logprobs=1 n=2 checkpoints=1", .prompt = CHAT("Is silk warm?")},
	{.words = "seed=9 max_tokens=30 dry_multiplier=2 dry_allowed_length=1 temperature=1.5 ignore_eos=1 checkpoints=1",
	 .prompt = CHAT("wool wool wool wool")},
	{.words = "seed=10 max_tokens=20 dry_multiplier=1 repetition_penalty=1.1 mirostat=2 n=2 stop_token_ids=300|301 "
		  "checkpoints=1",
	 .prompt = CHAT("Say it again.")},
	{.words = "seed=11 max_tokens=12 n=2 tailor=1 orderline=0.5 checkpoints=1", .prompt = CHAT("Is velvet out of fashion?")},
	{.words = "seed=12 max_tokens=0 ignore_eos=1 temperature=2 stop=\xe2\x82\xac|\xf0\x9f\x91\x97 checkpoints=1",
	 .prompt = CHAT("Go on until the context is full.")},
	{.words = "decoder=score logprobs=2 checkpoints=1",
	 .prompt = CHAT("Is silk warm?"),
	 .continuations = {TWENTY("Yes"), TWENTY("No, silk")}},
	{.words = "decoder=score echo=1 tailor=0.7 checkpoints=1", .prompt = CHAT("What is tweed?"), .continuations = {"A cloth."}},
};
enum { N_ASKS = sizeof asks / sizeof *asks };

/* The undisturbed runs, one engine each. */
static struct kit_run expected[N_ASKS];

static int setup(void **state)
{
	kit_init(&kit, NULL);
	for (size_t i = 0; i < N_ASKS; i++) {
		kit_start(&expected[i], &kit, &plain);
		engine_submit(expected[i].engine, kit_job(&kit, 1, &asks[i]));
		kit_wait_done(&expected[i], 1);
	}
	return 0;
}

static int teardown(void **state)
{
	for (size_t i = 0; i < N_ASKS; i++)
		kit_stop(&expected[i]);
	kit_finish(&kit);
	return 0;
}

static struct engine_job *job_from(size_t which, uint64_t id, const struct kit_cut *cut)
{
	struct engine_job *j = kit_job(&kit, id, &asks[which]);

	j->resume = malloc(cut->blob_len + 1);
	assert_non_null(j->resume);
	memcpy(j->resume, cut->blob, cut->blob_len);
	j->resume_len = cut->blob_len;
	return j;
}

/* An answer that went on from a cut is the rest of the undisturbed one. */
static void assert_rest(size_t which, const struct kit_cut *from, const struct kit_answer *got, const char *what)
{
	const struct kit_answer *whole = &expected[which].answers[0];
	char text[160];

	snprintf(text, sizeof text, "%s: request %zu from byte %zu of %zu", what, which, from->log_len, whole->log_len);
	kit_same(text, whole->log + from->log_len, whole->log_len - from->log_len, got->log == NULL ? "" : got->log, got->log_len);
	assert_int_equal(got->done, 1);
	assert_int_equal(got->end, whole->end);
	assert_int_equal(got->prompt_tokens, whole->prompt_tokens);
	assert_int_equal(got->completion_tokens, whole->completion_tokens);
	assert_int_equal(got->started, 0);
	assert_true(got->resumed >= 1);
}

/* The i-th checkpoint from the end is the i-th from the end of the undisturbed run. */
static void assert_same_cuts(size_t which, const struct kit_cut *from, const struct kit_answer *got)
{
	const struct kit_answer *whole = &expected[which].answers[0];
	size_t left = whole->n_cuts - (size_t)(from - whole->cuts) - 1;

	assert_int_equal(got->n_cuts, left);
	for (size_t i = 0; i < left; i++) {
		const struct kit_cut *a = &from[1 + i], *b = &got->cuts[i];
		assert_int_equal(a->log_len - from->log_len, b->log_len);
		assert_int_equal(a->blob_len, b->blob_len);
		assert_memory_equal(a->blob, b->blob, a->blob_len);
	}
}

static void check_cut(size_t which, size_t cut, const struct kit_params *p)
{
	const struct kit_cut *from = &expected[which].answers[0].cuts[cut];
	struct kit_run r;

	kit_start(&r, &kit, p);
	engine_submit(r.engine, job_from(which, 1, from));
	kit_wait_done(&r, 1);
	assert_rest(which, from, &r.answers[0], "resumed");
	assert_same_cuts(which, from, &r.answers[0]);
	kit_assert_idle(&r);
	kit_stop(&r);
}

static void each_step_left_a_checkpoint(void **state)
{
	for (size_t i = 0; i < N_ASKS; i++) {
		const struct kit_answer *a = &expected[i].answers[0];
		if (strstr(a->bytes, "end 0 code 0") == NULL)
			fail_msg("request %zu: %s", i, a->bytes);
		assert_true(a->n_cuts >= (strstr(asks[i].words, "score") == NULL ? 5 : 1));
	}
}

static void from_any_cut_the_rest_is_the_same(void **state)
{
	for (size_t i = 0; i < N_ASKS; i++)
		for (size_t c = 0; c < expected[i].answers[0].n_cuts; c++)
			check_cut(i, c, &plain);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_step_left_a_checkpoint),
		cmocka_unit_test(from_any_cut_the_rest_is_the_same),
	};
	return cmocka_run_group_tests_name("a job goes on from its checkpoint", tests, setup, teardown);
}
