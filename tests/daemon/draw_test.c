/* draw_test.c: what the CUDA core draws is what the daemon's own chain draws, with the samplers that ship, whatever the logits are; and an
 * engine whose core draws says the same bytes as one whose host does. On the shim. */
#include "config.h"

#include <math.h>

#include "daemon/host.h"
#include "daemon/run.h"
#include "draw_device.h"
#include "engine_kit.h"

static struct kit kit;
static struct run_out out;
static uint64_t rng = 99;

static double uniform(void)
{
	rng = rng * 6364136223846793005u + 1442695040888963407u;
	return (double)(rng >> 11) * 0x1p-53;
}

static int setup(void **state)
{
	kit_init(&kit, (const char *const[]){"engine_still", NULL});
	return 0;
}

static int teardown(void **state)
{
	kit_finish(&kit);
	return 0;
}

/* ---- logits of all kinds ---- */

static float wide(uint32_t i, uint32_t n)
{
	return (float)(12 * uniform() - 8 * uniform());
}

static float peaked(uint32_t i, uint32_t n)
{
	return (float)(9 * log(1e-6 + uniform()));
}

static float tied(uint32_t i, uint32_t n)
{
	return floorf((float)(6 * uniform()) - 3);
}

static float zeros(uint32_t i, uint32_t n)
{
	return uniform() < 0.5 ? -0.0f : uniform() < 0.9 ? 0.0f : uniform() < 0.5 ? 1e-45f : -1e-45f;
}

static float equal(uint32_t i, uint32_t n)
{
	return -3.25f;
}

static float one_huge(uint32_t i, uint32_t n)
{
	return i == n / 3 ? 3e38f : (float)(uniform() * -3e38);
}

static float mostly_impossible(uint32_t i, uint32_t n)
{
	return i % 7 == 3 || i == n - 1 ? (float)(2 * uniform()) : -INFINITY;
}

static float ulps(uint32_t i, uint32_t n)
{
	return 20.0f + (float)(i * 37 % 11) * 0x1p-19f;
}

static float far_apart(uint32_t i, uint32_t n)
{
	return (float)(i * 31 % n) * -0.9f;
}

static float (*const kinds[])(uint32_t i, uint32_t n) = {wide,     peaked,            tied, zeros,    equal,
							  one_huge, mostly_impossible, ulps, far_apart};
enum { KINDS = sizeof kinds / sizeof *kinds };

static const char *const chains[] = {
	"seed=1",
	"seed=2 temperature=0",
	"seed=3 temperature=0.7",
	"seed=4 temperature=100",
	"seed=5 temperature=0.000001 top_p=0.9",
	"seed=6 top_k=1",
	"seed=7 top_k=40",
	"seed=8 top_k=40 top_p=0.9 temperature=0.8 min_p=0.02",
	"seed=9 top_k=700 temperature=3 top_p=0.99",
	"seed=10 top_p=0.5",
	"seed=11 top_p=0",
	"seed=12 top_p=0.999 temperature=0.3",
	"seed=13 top_p=0.95 min_p=0.05",
	"seed=14 min_p=0.1",
	"seed=15 min_p=1",
	"seed=16 min_p=0.000001 temperature=1.5",
	"seed=17 temperature=0 top_k=5 top_p=0.5 min_p=0.5",
};
enum { CHAINS = sizeof chains / sizeof *chains };

/* ---- one row by both ---- */

struct bench {
	struct run_model model;
	struct chain_room room;
	uint32_t n, m;
	float *logits;		 /* [m][n] */
	double *sums;		 /* [logits_blocks(n)] */
	struct core_draw draws[KINDS * CHAINS];
	int32_t want[KINDS * CHAINS]; /* -1: the chain refuses such logits */
	struct logits_row rows[KINDS * CHAINS];
	uint64_t here;		 /* drawn on the device */
};

static struct weft_job *job_of(const struct bench *b, const char *words)
{
	static const int32_t prompt[] = {1, 2, 3};
	struct kit_ask ask = {.words = words, .tokens = prompt, .n_tokens = 3};

	out = (struct run_out){.last = &out.first};
	struct weft_job *job = run_new(kit_job(&kit, 1, &ask), &b->model, NULL, &out);
	assert_non_null(job);
	return job;
}

static void job_free(struct weft_job *job)
{
	for (struct engine_event *e = out.first, *next; e != NULL; e = next) {
		next = e->next;
		engine_event_free(e);
	}
	out.first = NULL;
	run_free(job);
}

static void add_row(struct bench *b, const char *words, float (*kind)(uint32_t, uint32_t))
{
	struct weft_job *job = job_of(b, words);
	float *row = b->logits + (size_t)b->m * b->n;
	uint64_t position = 3 + b->m;
	struct chain c;

	for (uint32_t i = 0; i < b->n; i++)
		row[i] = kind(i, b->n);
	assert_true(chain_init(&c, job, 0));
	assert_true(chain_formula(&c, job, position, &b->draws[b->m]));
	b->rows[b->m].sums = b->sums;
	assert_true(logits_weigh(&b->rows[b->m], row, b->n));
	if (!chain_draw(&c, job, &b->room, row, &b->rows[b->m], position, &b->want[b->m]))
		fail_msg("%s", out.first->text);
	b->m++;
	chain_finish(&c);
	job_free(job);
}

static void compare(struct bench *b)
{
	struct core_drawn *got = malloc(b->m * sizeof *got);
	const char *wrong;

	memset(got, 0xa5, b->m * sizeof *got);
	wrong = draw_on_device(b->logits, b->n, b->m, b->draws, got);
	if (wrong != NULL)
		fail_msg("%s", wrong);
	for (uint32_t i = 0; i < b->m; i++) {
		const float *row = b->logits + (size_t)i * b->n;
		const char *how = chains[i / KINDS];
		if (got[i].token == -1) {
			if (b->n <= 1024)
				fail_msg("%u logits of kind %u, %s: not drawn", b->n, i % KINDS, how);
			continue;
		}
		b->here++;
		if (got[i].token != b->want[i])
			fail_msg("%u logits of kind %u, %s: drew %d, the chain %d", b->n, i % KINDS, how, got[i].token, b->want[i]);
		assert_memory_equal(&got[i].total, &b->rows[i].total, sizeof(double));
		assert_memory_equal(&got[i].logit, &row[got[i].token], sizeof(float));
		assert_int_equal(got[i].best, b->rows[i].best);
		assert_true(got[i].max == b->rows[i].max);
		assert_true(logits_lse(got[i].max, got[i].total) == b->rows[i].lse);
	}
	free(got);
}

static void check(uint32_t n, unsigned least)
{
	struct bench *b = calloc(1, sizeof *b);

	b->n = n;
	b->model = (struct run_model){n, core_model_info(kit.model)->context, 2, core_model_tokenizer(kit.model), ""};
	b->logits = malloc((size_t)KINDS * CHAINS * n * sizeof(float));
	b->sums = malloc(logits_blocks(n) * sizeof(double));
	assert_int_equal(chain_room_init(&b->room, n), 0);
	for (unsigned c = 0; c < CHAINS; c++)
		for (unsigned k = 0; k < KINDS; k++)
			add_row(b, chains[c], kinds[k]);
	compare(b);
	printf("%u logits: %u of %u rows drawn on the device\n", n, (unsigned)b->here, b->m);
	assert_true(b->here >= least);
	chain_room_finish(&b->room);
	free(b->logits);
	free(b->sums);
	free(b);
}

static void a_device_draws_what_the_chain_draws(void **state)
{
	check(4, KINDS * CHAINS);
	check(257, KINDS * CHAINS);
	check(1024, KINDS * CHAINS);
	check(3001, KINDS * CHAINS * 3 / 4);
}

static void logits_that_are_no_numbers_are_left_to_the_host(void **state)
{
	enum { N = 600 };
	float logits[5 * N];
	struct core_draw draws[5];
	struct core_drawn got[5];

	for (unsigned i = 0; i < 5 * N; i++)
		logits[i] = i / N == 3 ? -INFINITY : (float)uniform();
	logits[0 * N + 599] = NAN;
	logits[1 * N + 17] = INFINITY;
	for (unsigned i = 0; i < 5; i++)
		draws[i] = (struct core_draw){.uniform = 0.5, .temperature = i == 2 ? -1 : 0.5, .top_p = 1, .min_log_p = -INFINITY};
	assert_null(draw_on_device(logits, N, 5, draws, got));
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(got[i].token, -1);
	assert_true(got[4].token >= 0);
}

static void chains_of_other_samplers_or_another_order_have_no_formula(void **state)
{
	static const char *const words[] = {"samplers=top_p,temperature top_p=0.2 temperature=5", "repetition_penalty=1.5", "typical_p=0.5",
					    "samplers=temperature,engine_still temperature=0.5 engine_still=1", "samplers=min_p,top_k top_k=3 min_p=0.1"};
	struct bench b = {.model = {2000, 4096, 2, core_model_tokenizer(kit.model), ""}};

	for (unsigned i = 0; i < sizeof words / sizeof *words; i++) {
		struct weft_job *job = job_of(&b, words[i]);
		struct core_draw d;
		struct chain c;
		assert_true(chain_init(&c, job, 0));
		assert_true(c.n > 0);
		assert_false(chain_formula(&c, job, 7, &d));
		chain_finish(&c);
		job_free(job);
	}
}

/* ---- in the core ---- */

static const char *module_path(void)
{
	static char path[512];
	const char *top = getenv("top_builddir");

	snprintf(path, sizeof path, "%s/kernels/.libs/weft-cuda-shim.so", top ? top : ".");
	return path;
}

static struct core_error why;

static void must(int rc)
{
	if (rc != 0)
		fail_msg("%s", why.text);
}

static int32_t token_at(uint32_t vocab, uint32_t i)
{
	return (int32_t)((i * 7919u + i * i * 31u + 3) % vocab);
}

static struct core_ctx *core_on(const char *device)
{
	struct core_ctx_params p = {.model = kit.model, .threads = 1, .kv_pages = 16, .max_rows = 8, .device = device, .module = module_path()};
	struct core_ctx *c = NULL;

	must(core_ctx_new(&c, &p, &why));
	return c;
}

static const struct core_draw greedy = {.temperature = 0, .top_p = 1, .min_log_p = -INFINITY};

/* Feeds the next token to each of three sequences; row 0 may draw, and so may row 2, but its list would be too long. */
static void tell_three(struct core_ctx *c, struct core_seq *s[3], uint32_t vocab, uint32_t at, bool ask, enum core_path path)
{
	const struct core_draw too_many = {.uniform = 0.3, .temperature = 0.7, .top_p = 1, .min_log_p = -INFINITY, .top_k = 1500};
	struct core_row rows[3];

	for (uint32_t i = 0; i < 3; i++)
		rows[i] = (struct core_row){s[i], token_at(vocab, at + 100 * i), i == 1 ? path : CORE_GENERATED, true};
	if (ask) {
		assert_true(core_want_token(c, 0, &greedy));
		assert_true(core_want_token(c, 2, &too_many));
	}
	must(core_forward(c, rows, 3, &why));
}

static void check_three(const struct core_ctx *c, const float *want, uint32_t vocab)
{
	const struct core_drawn *drawn = core_drawn(c, 0);
	uint32_t best = 0;

	for (uint32_t k = 1; k < vocab; k++)
		if (want[k] > want[best])
			best = k;
	assert_non_null(drawn);
	assert_int_equal(drawn->token, best);
	assert_int_equal(drawn->best, best);
	assert_true(drawn->logit == want[best] && drawn->max == want[best] && drawn->total >= 1);
	assert_null(core_logits(c, 0));
	for (uint32_t i = 1; i < 3; i++) { /* nobody asked; nobody could */
		assert_null(core_drawn(c, i));
		assert_memory_equal(core_logits(c, i), want + (size_t)i * vocab, vocab * sizeof(float));
	}
	assert_null(core_drawn(c, 3));
	assert_null(core_logits(c, 3));
}

static void a_row_gives_a_token_or_logits(void **state)
{
	uint32_t vocab = core_model_info(kit.model)->vocab;
	struct core_ctx *c = core_on("cuda:0"), *cpu = core_on("cpu");
	float *want = malloc(3 * vocab * sizeof(float));
	struct core_seq *s[3];

	assert_true(vocab > 1500);
	for (uint32_t i = 0; i < 3; i++)
		s[i] = core_seq_new(c);
	for (uint32_t at = 0; at < 4; at++) {
		enum core_path path = at < 2 ? CORE_PROMPT : CORE_GENERATED; /* not a graph, and then a graph */

		tell_three(c, s, vocab, at, false, path);
		for (uint32_t i = 0; i < 3; i++) {
			assert_null(core_drawn(c, i));
			memcpy(want + (size_t)i * vocab, core_logits(c, i), vocab * sizeof(float));
			must(core_seq_trim(c, s[i], at));
		}
		tell_three(c, s, vocab, at, true, path);
		check_three(c, want, vocab);
	}
	assert_false(core_want_token(cpu, 0, &greedy)); /* hands out logits */
	for (uint32_t i = 0; i < 3; i++)
		core_seq_free(c, s[i]);
	free(want);
	core_ctx_free(cpu);
	core_ctx_free(c);
}

/* ---- in the engine ---- */

/* The same jobs, one of whose samplers does nothing and has no formula: then the host draws. */
static uint64_t answers_of(struct kit_run *r, bool still)
{
	static const char *const asks[] = {"seed=1 max_tokens=9", "seed=2 max_tokens=7 temperature=0 logprobs=0", "seed=3 n=3 max_tokens=6 top_k=30",
					   "seed=4 max_tokens=8 temperature=0.8 top_p=0.9 logprobs=0", "seed=5 max_tokens=5 min_p=0.1 logprobs=2",
					   "seed=6 max_tokens=5 frequency_penalty=0.5"};
	enum { ASKS = sizeof asks / sizeof *asks };
	struct kit_params p = {.threads = 1, .kv_pages = 200, .max_rows = 32, .device = "cuda:0", .module = module_path()};
	char words[512];

	kit_start(r, &kit, &p);
	for (unsigned i = 0; i < ASKS; i++) {
		struct kit_ask ask = {.words = words, .prompt = "Once upon a time"};
		snprintf(words, sizeof words, "%s%s", asks[i], still ? " engine_still=1" : "");
		engine_submit(r->engine, kit_job(&kit, i + 1, &ask));
	}
	kit_wait_done(r, ASKS);
	return atomic_load(&engine_stats(r->engine)->core_draws);
}

static void answers_are_the_same_bytes_whoever_draws(void **state)
{
	struct kit_run device, host;
	uint64_t drawn = answers_of(&device, false), none = answers_of(&host, true);

	printf("the device drew %u tokens\n", (unsigned)drawn);
	assert_true(drawn >= 20);
	assert_int_equal(none, 0);
	for (uint64_t id = 1; id <= device.n; id++) {
		struct kit_answer *a = kit_answer(&device, id), *b = kit_answer(&host, id);
		assert_int_equal(a->end, END_DONE);
		kit_same("drawn on the device and on the host", a->bytes, a->len, b->bytes, b->len);
	}
	kit_stop(&device);
	kit_stop(&host);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_device_draws_what_the_chain_draws),
		cmocka_unit_test(logits_that_are_no_numbers_are_left_to_the_host),
		cmocka_unit_test(chains_of_other_samplers_or_another_order_have_no_formula),
		cmocka_unit_test(a_row_gives_a_token_or_logits),
		cmocka_unit_test(answers_are_the_same_bytes_whoever_draws),
	};
	return cmocka_run_group_tests_name("draws on a device", tests, setup, teardown);
}
