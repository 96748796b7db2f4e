/* engine_checkpoint_test.c: promise P2 at the engine: a job goes on from its checkpoint, in another engine or another process, with
 * the same bytes to the end.
 *
 * Each request runs once undisturbed and leaves a checkpoint after every step. From each of them it is run again in a fresh engine:
 * what it says there, put behind what was said before the cut, is the undisturbed answer, and the checkpoints that it makes from
 * there on are the undisturbed ones, byte for byte. */
#include "config.h"

#include <sodium.h>
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

static const int32_t bos[] = {1}, byte_f0[] = {3 + 0xf0};

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
	/* the tutorial's plugins: a decoder with save, a sampler that is told its history */
	{.words = "decoder=loud seed=14 max_tokens=15 samplers=penalties,no_repeat_last,temperature no_repeat_last=7 "
		  "temperature=1.2 "
		  "checkpoints=1",
	 .prompt = CHAT("Linen or cotton?")},
	/* bytes of one character, prompt and answer together: tokens wait for their text, and the echo's first one has not been
	   sent */
	{.words = "seed=15 max_tokens=9 echo=1 logprobs=2 allowed_tokens=162 checkpoints=1", .tokens = byte_f0, .n_tokens = 1},
	/* nothing before it: the first text of the answer loses its leading space */
	{.words = "seed=13 max_tokens=12 n=3 temperature=1.5 checkpoints=1", .tokens = bos, .n_tokens = 1},
	{.words = "decoder=score logprobs=2 checkpoints=1",
	 .prompt = CHAT("Is silk warm?"),
	 .continuations = {TWENTY("Yes"), TWENTY("No, silk")}},
	{.words = "decoder=score echo=1 tailor=0.7 checkpoints=1", .prompt = CHAT("What is tweed?"), .continuations = {"A cloth."}},
};
enum { N_ASKS = sizeof asks / sizeof *asks };

static void init_kit(void)
{
	kit_init(&kit,
		 (const char *const[]){"engine_crooked", "engine_crooked_saver", "engine_loud", "engine_no_repeat_last", NULL});
}

/* The undisturbed runs, one engine each. */
static struct kit_run expected[N_ASKS];

static int setup(void **state)
{
	init_kit();
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

static uint32_t rng = 12345;

static uint32_t random_below(uint32_t n)
{
	rng = rng * 1664525u + 1013904223u;
	return (uint32_t)((uint64_t)(rng >> 8) * n >> 24);
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

static void with_more_threads_and_prompts_in_pieces(void **state)
{
	static const struct kit_params others[] = {
		{.threads = 2, .kv_pages = 256, .max_context = CONTEXT, .max_rows = 256, .pace = &each_step},
		{.threads = 1, .kv_pages = 64, .max_context = CONTEXT, .max_rows = 5, .pace = &each_step}};

	for (size_t i = 0; i < N_ASKS; i++)
		for (size_t k = 0; k < 2; k++)
			check_cut(i, random_below((uint32_t)expected[i].answers[0].n_cuts), &others[k]);
}

static void resume_parked(struct kit_run *r)
{
	for (size_t i = 0; i < r->n; i++)
		if (r->answers[i].preempted > 0 && !r->answers[i].done)
			engine_resume(r->engine, r->answers[i].id);
}

/* Many at once, each from a cut of its own, with too few pages for all, sent away and taken back at random. */
static void among_neighbours_that_push_each_other_out(void **state)
{
	enum { N = 5 * N_ASKS };
	const struct kit_cut *from[N];
	struct kit_run r;
	unsigned preempted = 0;

	kit_start(&r, &kit, &(struct kit_params){.threads = 1, .kv_pages = 64, .max_rows = 40, .max_context = CONTEXT});
	for (size_t i = 0; i < N; i++) {
		const struct kit_answer *whole = &expected[i % N_ASKS].answers[0];
		from[i] = &whole->cuts[random_below((uint32_t)whole->n_cuts)];
		engine_submit(r.engine, job_from(i % N_ASKS, i + 1, from[i]));
	}
	for (size_t rounds = 0; r.done < N; rounds++) {
		if (rounds < 500)
			engine_preempt(r.engine, 1 + random_below(N));
		resume_parked(&r);
		kit_wait(&r);
	}
	for (size_t i = 0; i < N; i++) {
		assert_rest(i % N_ASKS, from[i], kit_answer(&r, i + 1), "among neighbours");
		preempted += kit_answer(&r, i + 1)->preempted;
	}
	assert_true(preempted > 10);
	kit_assert_idle(&r);
	kit_stop(&r);
}

/* ---- cut off again and again ---- */

static struct engine_job *job_with(size_t which, const void *blob, size_t len)
{
	return blob == NULL ? kit_job(&kit, 1, &asks[which])
			    : job_from(which, 1, &(struct kit_cut){.blob = (void *)blob, .blob_len = len});
}

/* A life in many processes: what was said up to the last checkpoint of each is kept, the rest is lost. */
static void live_in_pieces(size_t which, size_t steps, bool release)
{
	const struct kit_answer *whole = &expected[which].answers[0];
	char *log = NULL, *blob = NULL;
	size_t log_len = 0, blob_len = 0;
	bool done = false;

	for (unsigned lives = 0; !done; lives++) {
		struct kit_run r;
		assert_true(lives < 200);
		kit_start(&r, &kit, &plain);
		engine_submit(r.engine, job_with(which, blob, blob_len));
		while (r.done == 0 && (r.n == 0 || r.answers[0].n_cuts < steps))
			kit_wait(&r);
		if (release) {
			engine_release(r.engine, 1);
			kit_wait_done(&r, 1);
		}
		struct kit_answer *a = &r.answers[0];
		done = a->done && a->end != END_RELEASED;
		assert_true(done || a->n_cuts >= 1);
		struct kit_cut *last = a->n_cuts == 0 ? NULL : &a->cuts[a->n_cuts - 1];
		size_t kept = done ? a->log_len : last->log_len;
		if (release && !done)
			assert_int_equal(kept, a->log_len); /* nothing was lost */
		log = realloc(log, log_len + kept + 1);
		assert_non_null(log);
		memcpy(log + log_len, a->log == NULL ? "" : a->log, kept);
		log_len += kept;
		if (last != NULL) {
			free(blob);
			blob = last->blob;
			blob_len = last->blob_len;
			last->blob = NULL;
		}
		if (done)
			assert_int_equal(a->completion_tokens, whole->completion_tokens);
		kit_stop(&r);
	}
	kit_same(release ? "released again and again" : "cut off again and again", whole->log, whole->log_len, log, log_len);
	free(log);
	free(blob);
}

static void cut_off_again_and_again(void **state)
{
	for (size_t i = 0; i < N_ASKS; i++)
		live_in_pieces(i, 3, false);
}

static void released_again_and_again(void **state)
{
	for (size_t i = 0; i < N_ASKS; i++)
		live_in_pieces(i, 1, true);
}

/* ---- another process ---- */

static void write_file(const char *path, const void *data, size_t len)
{
	FILE *f = fopen(path, "wb");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

/* In the other process: goes on from the bytes in the file and prints what is said. */
static int go_on(size_t which, const char *path)
{
	static char blob[1 << 20];
	FILE *f = fopen(path, "rb");
	struct kit_run r;

	if (f == NULL)
		return 1;
	size_t len = fread(blob, 1, sizeof blob, f);
	fclose(f);
	init_kit();
	kit_start(&r, &kit, &plain);
	engine_submit(r.engine, job_with(which, blob, len));
	kit_wait_done(&r, 1);
	fwrite(r.answers[0].log, 1, r.answers[0].log_len, stdout);
	kit_stop(&r);
	kit_finish(&kit);
	return 0;
}

/* Also on another kind of machine: every other one with the kernels in plain C, unless this machine has AMX, whose bits are its own. */
static void in_another_process(void **state)
{
	char path[] = "/tmp/weft-checkpoint-XXXXXX", self[4096], command[8192];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	int fd = mkstemp(path);
	enum core_cpu cpu;

	assert_true(n > 0 && fd >= 0);
	assert_int_equal(core_cpu_pick(&cpu, NULL), CORE_OK);
	close(fd);
	self[n] = '\0';
	for (size_t i = 0; i < N_ASKS; i++) {
		const struct kit_answer *whole = &expected[i].answers[0];
		const struct kit_cut *from = &whole->cuts[whole->n_cuts / 2];
		struct kit_answer got = {.done = 1, .resumed = 1};
		write_file(path, from->blob, from->blob_len);
		snprintf(command, sizeof command, "%s '%s' go-on %zu %s", i % 2 == 0 && cpu != CORE_CPU_AMX ? "WEFT_CPU=plain" : "", self, i, path);
		FILE *f = popen(command, "r");
		assert_non_null(f);
		got.log = malloc(1 << 20);
		assert_non_null(got.log);
		got.log_len = fread(got.log, 1, 1 << 20, f);
		assert_int_equal(pclose(f), 0);
		kit_same("in another process", whole->log + from->log_len, whole->log_len - from->log_len, got.log, got.log_len);
		free(got.log);
	}
	unlink(path);
}

/* On this machine both paths of a token may well have the same bits: so it is looked at where the path is written down. */
static void a_checkpoint_says_by_which_path_each_token_came(void **state)
{
	const struct kit_answer *a = &expected[5].answers[0];
	const struct kit_cut *last = &a->cuts[a->n_cuts - 1];
	uint8_t words[4 * 16];

	assert_true(a->streams[0].n_tokens > 16);
	for (size_t i = 0; i < 16; i++) {
		uint32_t word = (uint32_t)a->streams[0].tokens[i] | UINT32_C(0x80000000);
		for (int k = 0; k < 4; k++)
			words[4 * i + k] = (uint8_t)(word >> 8 * k);
	}
	assert_non_null(memmem(last->blob, last->blob_len, words, sizeof words));
}

/* ---- on demand ---- */

static void wait_for(struct kit_run *r, const unsigned *what)
{
	while (*what == 0)
		kit_wait(r);
}

/* No checkpoints by themselves: only those that are asked for. */
static struct kit_ask quiet(size_t which, char words[static 512])
{
	struct kit_ask ask = asks[which];

	snprintf(words, 512, "%s", ask.words);
	*strstr(words, " checkpoints=1") = '\0';
	ask.words = words;
	return ask;
}

static void start_quiet(struct kit_run *r, size_t which, const struct kit_params *p)
{
	char words[512];
	struct kit_ask ask = quiet(which, words);

	kit_start(r, &kit, p);
	engine_submit(r->engine, kit_job(&kit, 1, &ask));
}

static void a_checkpoint_comes_when_it_is_asked_for(void **state)
{
	struct kit_run r;

	start_quiet(&r, 2, &plain);
	engine_checkpoint(r.engine, 1); /* before its first plan: after the first commit */
	kit_wait_done(&r, 1);
	assert_int_equal(r.answers[0].n_cuts, 1);
	const struct kit_cut *first = &expected[2].answers[0].cuts[0];
	assert_int_equal(r.answers[0].cuts[0].log_len, first->log_len);
	assert_int_equal(r.answers[0].cuts[0].blob_len, first->blob_len);
	assert_memory_equal(r.answers[0].cuts[0].blob, first->blob, first->blob_len);
	engine_checkpoint(r.engine, 1); /* gone: nothing happens */
	kit_stop(&r);
}

/* Asked for behind the command that parks it: it has no feeds open then, or they are the prompt's, and the answer comes when it
 * goes on. */
static void a_parked_job_can_be_saved(void **state)
{
	struct kit_run r;

	for (size_t k = 0; k < 4; k++) {
		start_quiet(&r, k, &plain);
		kit_wait(&r);
		engine_preempt(r.engine, 1);
		engine_checkpoint(r.engine, 1);
		engine_resume(r.engine, 1);
		kit_wait_done(&r, 1);
		struct kit_answer *a = &r.answers[0];
		assert_true(a->n_cuts == 1 || a->preempted == 0); /* else it had ended before all of these commands */
		kit_same("saved while parked", expected[k].answers[0].log, expected[k].answers[0].log_len, a->log, a->log_len);
		if (a->n_cuts == 1) {
			struct kit_run again;
			struct kit_cut cut = a->cuts[0];
			kit_start(&again, &kit, &plain);
			char words[512];
			struct kit_ask ask = quiet(k, words);
			struct engine_job *j = kit_job(&kit, 1, &ask);
			j->resume = cut.blob;
			j->resume_len = cut.blob_len;
			a->cuts[0].blob = NULL;
			engine_submit(again.engine, j);
			kit_wait_done(&again, 1);
			assert_rest(k, &cut, &again.answers[0], "saved while parked");
			kit_stop(&again);
		}
		kit_stop(&r);
	}
}

static void released_before_its_first_step_it_has_nothing_to_save(void **state)
{
	struct kit_run r;

	start_quiet(&r, 0, &plain);
	engine_preempt(r.engine, 1);
	engine_release(r.engine, 1);
	kit_wait_done(&r, 1);
	assert_int_equal(r.answers[0].end, END_RELEASED);
	if (r.answers[0].started == 0)
		assert_int_equal(r.answers[0].n_cuts, 0);
	kit_assert_idle(&r);
	kit_stop(&r);
}

static void released_in_its_prompt_it_leaves_at_once(void **state)
{
	int32_t prompt[140];
	struct kit_ask ask = {.words = "max_tokens=3 checkpoints=1", .tokens = prompt, .n_tokens = 140};
	struct kit_run r;

	for (int i = 0; i < 140; i++)
		prompt[i] = 300 + i;
	kit_start(&r, &kit, &(struct kit_params){.threads = 1, .kv_pages = 64, .max_context = CONTEXT, .max_rows = 2});
	engine_submit(r.engine, kit_job(&kit, 1, &ask));
	while (r.n == 0)
		kit_wait(&r);
	wait_for(&r, &r.answers[0].progress);
	engine_release(r.engine, 1);
	kit_wait_done(&r, 1);
	assert_int_equal(r.answers[0].end, END_RELEASED);
	assert_int_equal(r.answers[0].n_cuts, 0);
	assert_int_equal(r.answers[0].completion_tokens, 0);
	assert_true(atomic_load(&engine_stats(r.engine)->prompt_rows) < 140);
	kit_assert_idle(&r);
	kit_stop(&r);
}

/* ---- what cannot be saved ---- */

static void a_decoder_without_save_starts_again_from_its_prompt(void **state)
{
	struct kit_ask ask = {.words = "decoder=crooked crooked_tokens=20 samplers= checkpoints=1", .prompt = "A hat"};
	struct kit_run r;

	kit_start(&r, &kit, &plain);
	engine_submit(r.engine, kit_job(&kit, 1, &ask));
	engine_checkpoint(r.engine, 1);
	kit_wait_done(&r, 1);
	assert_int_equal(r.answers[0].end, END_DONE);
	assert_int_equal(r.answers[0].n_cuts, 1); /* the one that was asked for says that there is none */
	assert_null(r.answers[0].cuts[0].blob);
	struct engine_job *j = job_from(0, 2, &expected[0].answers[0].cuts[0]), *k = kit_job(&kit, 2, &ask);
	k->resume = j->resume;
	k->resume_len = j->resume_len;
	j->resume = NULL;
	engine_job_free(j);
	engine_submit(r.engine, k);
	kit_wait_done(&r, 2);
	assert_int_equal(kit_answer(&r, 2)->end, END_FAILED);
	assert_non_null(strstr(kit_answer(&r, 2)->reason, "the plugin crooked cannot load one"));
	kit_stop(&r);
}

static void a_save_that_fails_costs_the_checkpoint_and_not_the_job(void **state)
{
	static const char *const modes[] = {"save_error", "save_positive", "feed_in_save", "save_without_end"};
	char words[200];
	struct kit_run r;

	kit_start(&r, &kit, &plain);
	for (uint64_t i = 0; i < 4; i++) {
		struct kit_ask ask = {.words = words, .prompt = "A hat"};
		snprintf(words, sizeof words, "decoder=crooked_saver crooked_mode=%s crooked_at=3 samplers= checkpoints=1",
			 modes[i]);
		engine_submit(r.engine, kit_job(&kit, 1 + i, &ask));
	}
	kit_wait_done(&r, 4);
	for (uint64_t i = 0; i < 4; i++) {
		struct kit_answer *a = kit_answer(&r, 1 + i);
		assert_int_equal(a->end, END_DONE);
		assert_int_equal(a->deltas, 10);
		assert_int_equal(a->n_cuts, 2); /* those before it failed */
	}
	kit_assert_idle(&r);
	kit_stop(&r);
}

static void a_load_that_fails_is_told(void **state)
{
	static const char *const modes[] = {"load_error", "load_positive"}, *const words_of[] = {"load() returned -1",
												 "load() returned 3"};
	char words[200];

	for (size_t i = 0; i < 2; i++) {
		struct kit_ask ask = {.words = words, .prompt = "A hat"};
		struct kit_run r;
		snprintf(words, sizeof words, "decoder=crooked_saver crooked_mode=%s crooked_at=3 samplers= checkpoints=1",
			 modes[i]);
		kit_start(&r, &kit, &plain);
		engine_submit(r.engine, kit_job(&kit, 1, &ask));
		kit_wait_done(&r, 1);
		for (int restart = 0; restart < 2; restart++) {
			struct engine_job *j = kit_job(&kit, 2 + (uint64_t)restart, &ask);
			j->resume = malloc(r.answers[0].cuts[2].blob_len);
			j->resume_len = r.answers[0].cuts[2].blob_len;
			j->or_restart = restart == 1;
			memcpy(j->resume, r.answers[0].cuts[2].blob, j->resume_len);
			engine_submit(r.engine, j);
			kit_wait_done(&r, 2 + (size_t)restart);
		}
		assert_int_equal(kit_answer(&r, 2)->end, END_FAILED);
		if (strstr(kit_answer(&r, 2)->reason, words_of[i]) == NULL)
			fail_msg("%s: %s", modes[i], kit_answer(&r, 2)->reason);
		assert_int_equal(kit_answer(&r, 3)->started, 1);
		kit_same(modes[i], kit_answer(&r, 1)->log, kit_answer(&r, 1)->log_len, kit_answer(&r, 3)->log,
			 kit_answer(&r, 3)->log_len);
		kit_stop(&r);
	}
}

/* ---- what is refused ---- */

/* Runs request `which` from a checkpoint that is not good for it; then the same with leave to start from the prompt. */
static void assert_refused(size_t which, const void *blob, size_t len, const char *reason)
{
	struct kit_cut cut = {.blob = (void *)blob, .blob_len = len};
	struct kit_run r;

	kit_start(&r, &kit, &plain);
	engine_submit(r.engine, job_from(which, 1, &cut));
	struct engine_job *j = job_from(which, 2, &cut);
	j->or_restart = true;
	engine_submit(r.engine, j);
	kit_wait_done(&r, 2);
	struct kit_answer *a = kit_answer(&r, 1), *b = kit_answer(&r, 2);
	assert_int_equal(a->end, END_FAILED);
	assert_int_equal(a->code, WEFT_EINVAL);
	if (strstr(a->reason, "the checkpoint cannot be used: ") == NULL || strstr(a->reason, reason) == NULL)
		fail_msg("refused with \"%s\", not with \"%s\"", a->reason, reason);
	assert_int_equal(a->started + a->resumed, 0);
	assert_int_equal(b->started, 1);
	kit_same("from the prompt", expected[which].answers[0].log, expected[which].answers[0].log_len, b->log, b->log_len);
	assert_int_equal(b->n_cuts, expected[which].answers[0].n_cuts);
	kit_assert_idle(&r);
	kit_stop(&r);
}

static void another_request_is_refused(void **state)
{
	const struct kit_cut *cut = &expected[0].answers[0].cuts[3], *woven = &expected[10].answers[0].cuts[3];
	struct engine_job *j = job_from(0, 1, cut);
	struct kit_run r;

	assert_refused(1, cut->blob, cut->blob_len, "it is of another request");
	assert_refused(15, cut->blob, cut->blob_len, "it is of another request");
	assert_refused(0, woven->blob, woven->blob_len, "it is of another blend of adapters");
	assert_refused(0, "weft", 4, "it is no checkpoint");
	assert_refused(0, "", 0, "it is no checkpoint");
	j->seed++;
	kit_start(&r, &kit, &plain);
	engine_submit(r.engine, j);
	kit_wait_done(&r, 1);
	assert_non_null(strstr(r.answers[0].reason, "it is of another request"));
	kit_stop(&r);
}

static void another_format_is_refused(void **state)
{
	const struct kit_cut *cut = &expected[0].answers[0].cuts[3];
	char copy[1 << 14];

	assert_true(cut->blob_len < sizeof copy);
	memcpy(copy, cut->blob, cut->blob_len);
	copy[8]++;
	assert_refused(0, copy, cut->blob_len, "it has the format 3, and this weftd reads 2");
}

static void another_version_of_a_plugin_is_refused(void **state)
{
	static const char *const names[] = {"sample", "penalties"};

	for (size_t i = 0; i < 2; i++) {
		struct plugin *p = (struct plugin *)plugin_find(kit.plugins, names[i]);
		const struct kit_cut *cut = &expected[3].answers[0].cuts[3];
		char was = p->digest[0], reason[100];
		struct kit_run r;
		snprintf(reason, sizeof reason, "it was made by another version of the plugin %s", names[i]);
		p->digest[0] = was == '0' ? '1' : '0';
		kit_start(&r, &kit, &plain);
		engine_submit(r.engine, job_from(3, 1, cut));
		kit_wait_done(&r, 1);
		p->digest[0] = was;
		assert_int_equal(r.answers[0].end, END_FAILED);
		assert_non_null(strstr(r.answers[0].reason, reason));
		kit_stop(&r);
	}
}

/* An upgrade may change the last bits of logits: an answer does not begin on some and end on others. */
static void bits_of_another_core_are_refused(void **state)
{
	enum { DIGEST_AT = 12, BODY = 28, CORE_AT = BODY + 2 * 16 }; /* checkpoint.c */
	const struct kit_cut *cut = &expected[0].answers[0].cuts[3];
	uint8_t copy[1 << 14];

	assert_true(cut->blob_len < sizeof copy);
	memcpy(copy, cut->blob, cut->blob_len);
	copy[CORE_AT] ^= 1;
	crypto_generichash(copy + DIGEST_AT, BODY - DIGEST_AT, copy + BODY, cut->blob_len - BODY, NULL, 0);
	assert_refused(0, copy, cut->blob_len, "it was computed by another version of the core");
}

/* Keys and values of another precision give other bits, too. */
static void another_kind_of_kv_is_refused(void **state)
{
	const struct kit_cut *cut = &expected[0].answers[0].cuts[3];
	struct kit_params int8 = plain;
	struct kit_run r;

	int8.kv_type = CORE_KV_INT8;
	kit_start(&r, &kit, &int8);
	engine_submit(r.engine, job_from(0, 1, cut));
	kit_wait_done(&r, 1);
	assert_int_equal(r.answers[0].end, END_FAILED);
	assert_non_null(strstr(r.answers[0].reason, "with another kv_type"));
	kit_stop(&r);
}

/* A CPU with AMX computes prompts with bits of its own, and so does one that is held to the others' instructions beside it. */
static void the_bits_of_amx_and_of_other_sets_do_not_go_on_from_each_other(void **state)
{
	const struct kit_cut *cut = &expected[0].answers[0].cuts[3];
	enum core_cpu cpu;
	struct kit_run r;

	assert_int_equal(core_cpu_pick(&cpu, NULL), CORE_OK);
	if (cpu != CORE_CPU_AMX || getenv("WEFT_CPU"))
		skip();
	setenv("WEFT_CPU", "plain", 1);
	kit_start(&r, &kit, &plain);
	unsetenv("WEFT_CPU");
	engine_submit(r.engine, job_from(0, 1, cut));
	kit_wait_done(&r, 1);
	assert_int_equal(r.answers[0].end, END_FAILED);
	assert_non_null(strstr(r.answers[0].reason, "or one of both with AMX"));
	kit_stop(&r);
}

/* One engine, one job per flipped byte and per length. */
static void every_damaged_byte_is_noticed(void **state)
{
	const struct kit_cut *cut = &expected[4].answers[0].cuts[5];
	struct kit_run r;
	uint64_t id = 0;

	kit_start(&r, &kit, &plain);
	for (size_t i = 0; i < cut->blob_len; i++) {
		struct engine_job *flipped = job_from(4, ++id, cut), *shorter = job_from(4, ++id, cut);
		((uint8_t *)flipped->resume)[i] ^= (uint8_t)(1u << random_below(8));
		shorter->resume_len = i;
		engine_submit(r.engine, flipped);
		engine_submit(r.engine, shorter);
	}
	kit_wait_done(&r, id);
	for (size_t i = 0; i < r.n; i++) {
		assert_int_equal(r.answers[i].end, END_FAILED);
		assert_non_null(strstr(r.answers[i].reason, "the checkpoint cannot be used: "));
	}
	kit_assert_idle(&r);
	kit_stop(&r);
}

/* ---- cost ---- */

static void all_checkpoints_of_a_long_answer_are_in_proportion_to_it(void **state)
{
	static const struct engine_pace pace = {.tokens = 16, .bytes = 64};
	struct kit_ask ask = {.words = "seed=1 ignore_eos=1 repetition_penalty=1.1 max_tokens=400 checkpoints=1", .prompt = "Silk"};
	struct kit_run r;
	size_t sum = 0;

	kit_start(&r, &kit, &(struct kit_params){.threads = 1, .kv_pages = 64, .max_rows = 64, .pace = &pace});
	engine_submit(r.engine, kit_job(&kit, 1, &ask));
	kit_wait_done(&r, 1);
	struct kit_answer *a = &r.answers[0];
	assert_int_equal(a->completion_tokens, 400);
	assert_true(a->n_cuts >= 8 && a->n_cuts <= 25);
	for (size_t i = 0; i < a->n_cuts; i++)
		sum += a->cuts[i].blob_len;
	assert_true(sum <= 64 * 400 + a->cuts[a->n_cuts - 1].blob_len);
	assert_int_equal(atomic_load(&engine_stats(r.engine)->checkpoints), a->n_cuts);
	assert_int_equal(atomic_load(&engine_stats(r.engine)->checkpoint_bytes), sum);
	kit_stop(&r);
}

static void no_job_takes_more_than_its_worst(void **state)
{
	for (size_t i = 0; i < N_ASKS; i++) {
		struct engine_job *j = kit_job(&kit, 2, &asks[i]);
		uint64_t worst = engine_worst_bytes(expected[i].engine, j);
		engine_job_free(j);
		if (worst < expected[i].answers[0].event_bytes)
			fail_msg("request %zu: its events took %zu bytes, and %llu were the worst", i,
				 expected[i].answers[0].event_bytes, (unsigned long long)worst);
		assert_true(worst < 8 << 20);
	}
}

static void the_worst_grows_with_what_is_asked_for(void **state)
{
	static const char *const words[] = {"max_tokens=10",
					    "max_tokens=100",
					    "max_tokens=100 logprobs=0",
					    "max_tokens=100 logprobs=20",
					    "max_tokens=100 logprobs=20 n=8",
					    "max_tokens=100 logprobs=20 n=8 repetition_penalty=2",
					    "max_tokens=100 logprobs=20 n=64 repetition_penalty=2",
					    "logprobs=20 n=64 repetition_penalty=2"};
	uint64_t before = 0;

	for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
		struct kit_ask ask = {.words = words[i], .prompt = "Silk"};
		struct engine_job *j = kit_job(&kit, 1, &ask);
		uint64_t worst = engine_worst_bytes(expected[0].engine, j);
		engine_job_free(j);
		assert_true(i == 2 ? worst == before : worst > before);
		before = worst;
	}
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "go-on") == 0)
		return go_on((size_t)atoi(argv[2]), argv[3]);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_step_left_a_checkpoint),
		cmocka_unit_test(from_any_cut_the_rest_is_the_same),
		cmocka_unit_test(with_more_threads_and_prompts_in_pieces),
		cmocka_unit_test(among_neighbours_that_push_each_other_out),
		cmocka_unit_test(cut_off_again_and_again),
		cmocka_unit_test(released_again_and_again),
		cmocka_unit_test(in_another_process),
		cmocka_unit_test(a_checkpoint_says_by_which_path_each_token_came),
		cmocka_unit_test(a_checkpoint_comes_when_it_is_asked_for),
		cmocka_unit_test(a_parked_job_can_be_saved),
		cmocka_unit_test(released_before_its_first_step_it_has_nothing_to_save),
		cmocka_unit_test(released_in_its_prompt_it_leaves_at_once),
		cmocka_unit_test(a_decoder_without_save_starts_again_from_its_prompt),
		cmocka_unit_test(a_save_that_fails_costs_the_checkpoint_and_not_the_job),
		cmocka_unit_test(a_load_that_fails_is_told),
		cmocka_unit_test(another_request_is_refused),
		cmocka_unit_test(another_format_is_refused),
		cmocka_unit_test(bits_of_another_core_are_refused),
		cmocka_unit_test(another_kind_of_kv_is_refused),
		cmocka_unit_test(the_bits_of_amx_and_of_other_sets_do_not_go_on_from_each_other),
		cmocka_unit_test(another_version_of_a_plugin_is_refused),
		cmocka_unit_test(every_damaged_byte_is_noticed),
		cmocka_unit_test(all_checkpoints_of_a_long_answer_are_in_proportion_to_it),
		cmocka_unit_test(no_job_takes_more_than_its_worst),
		cmocka_unit_test(the_worst_grows_with_what_is_asked_for),
	};
	return cmocka_run_group_tests_name("a job goes on from its checkpoint", tests, setup, teardown);
}
