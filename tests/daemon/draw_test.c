/* draw_test.c: what the CUDA core draws is what the daemon's own chain draws, with the samplers that ship, whatever the logits are; the
 * likeliest tokens and the targets, too; and an engine whose core does that says the same bytes as one whose host does. On the shim. */
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
	"seed=18 repetition_penalty=1.3",
	"seed=19 presence_penalty=0.7 frequency_penalty=0.31 temperature=0",
	"seed=20 repetition_penalty=0.8 frequency_penalty=-0.4 penalty_last_n=9 temperature=0.6 top_p=0.9",
	"seed=21 logit_bias=0:2.5|3:-100|2:0.125 top_k=9",
	"seed=22 logit_bias=1:100 repetition_penalty=1.7 presence_penalty=-3 temperature=0.9 min_p=0.01",
	"seed=23 logit_bias=1:-0.3|2:7.1|3:2|0:5 repetition_penalty=1.9 frequency_penalty=0.21 temperature=1.1",
	"seed=24 samplers=penalties,logit_bias,temperature,top_k logit_bias=1:-0.3|2:7.1|3:2|0:5 repetition_penalty=1.9 "
	"frequency_penalty=0.21 temperature=1.1 top_k=12",
	"seed=25 repetition_penalty=0.01 temperature=0",
	"seed=26 repetition_penalty=100 presence_penalty=10 frequency_penalty=10",
};
enum { CHAINS = sizeof chains / sizeof *chains, TAKEN = 40, PLAIN = 17 }; /* TAKEN: tokens of the answer so far; PLAIN: chains without edits */
static const uint32_t tops[] = {0, 1, 5, CORE_TOP, 0};

/* ---- one row by both ---- */

struct bench {
	struct run_model model;
	struct chain_room room;
	uint32_t n, m;
	float *logits;		 /* [m][n] */
	double *sums;		 /* [logits_blocks(n)] */
	struct core_draw draws[KINDS * CHAINS];
	struct core_edit edits[KINDS * CHAINS][CORE_EDITS];
	int32_t want[KINDS * CHAINS]; /* -1: the chain refuses such logits */
	struct logits_row rows[KINDS * CHAINS];
	struct core_drawn got[KINDS * CHAINS];
	struct core_top top[KINDS * CHAINS][CORE_TOP];
	float *views, *applied;	 /* [KINDS][n]: logits after the samplers that neither order nor drop, of the device and of the host */
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

/* A chain that has drawn `taken` tokens. */
static void begin(struct bench *b, struct chain *c, struct weft_job *job, uint32_t taken)
{
	assert_true(chain_init(c, job, 0));
	for (uint32_t i = 0; i < taken; i++)
		assert_true(chain_take(c, job, (int32_t)(uniform() * uniform() * b->n)));
}

/* What penalties, biases and a temperature make of a row. */
static void apply_plain(struct bench *b, const struct chain *c, struct weft_job *job, const float *row, float *to)
{
	struct weft_candidates cand = {.size = sizeof cand, .n = b->n, .ids = b->room.all, .logits = to, .dense = 1};

	memcpy(to, row, b->n * sizeof *row);
	for (size_t i = 0; i < c->n; i++) {
		const struct weft_plugin *p = c->links[i].plugin->desc;
		bool plain = strcmp(p->name, "penalties") == 0 || strcmp(p->name, "logit_bias") == 0 ||
			     (strcmp(p->name, "temperature") == 0 && b->draws[b->m].temperature > 0);
		if (plain)
			assert_int_equal(p->sampler->apply(c->links[i].self, job, &cand), 0);
	}
}

static void add_row(struct bench *b, const char *words, float (*kind)(uint32_t, uint32_t))
{
	struct weft_job *job = job_of(b, words);
	float *row = b->logits + (size_t)b->m * b->n;
	uint64_t position = 3 + TAKEN + b->m;
	struct chain c;

	for (uint32_t i = 0; i < b->n; i++)
		row[i] = kind(i, b->n);
	begin(b, &c, job, TAKEN);
	assert_true(chain_formula(&c, job, position, &b->draws[b->m], b->edits[b->m]));
	b->draws[b->m].top = tops[b->m % (sizeof tops / sizeof *tops)];
	apply_plain(b, &c, job, row, b->applied + (size_t)(b->m % KINDS) * b->n);
	b->rows[b->m].sums = b->sums;
	assert_true(logits_weigh(&b->rows[b->m], row, b->n));
	if (!chain_draw(&c, job, &b->room, row, &b->rows[b->m], position, &b->want[b->m]))
		fail_msg("%s", out.first->text);
	b->m++;
	chain_finish(&c);
	job_free(job);
}

/* What is said of a row besides its token. */
static void compare_row(const struct bench *b, const struct core_drawn *got, uint32_t i)
{
	const float *row = b->logits + (size_t)i * b->n;
	struct weft_top top[CORE_TOP];
	uint32_t n_top = logits_top(&b->rows[i], row, b->n, b->draws[i].top, top);
	const struct logits_row measured = {.lse = logits_lse(got->max, got->total)};

	assert_memory_equal(&got->total, &b->rows[i].total, sizeof(double));
	assert_memory_equal(&got->logit, &row[got->token], sizeof(float));
	assert_int_equal(got->best, b->rows[i].best);
	assert_true(got->max == b->rows[i].max);
	assert_true(measured.lse == b->rows[i].lse);
	assert_int_equal(got->n_top, n_top);
	for (uint32_t k = 0; k < n_top; k++) {
		float logprob = logits_logprob(&measured, got->top[k].logit);
		assert_int_equal(got->top[k].token, top[k].token);
		assert_memory_equal(&logprob, &top[k].logprob, sizeof logprob);
	}
}

static void draw_here(struct bench *b, float *views)
{
	memset(b->got, 0xa5, sizeof b->got);
	const char *wrong = draw_on_device(b->logits, b->n, b->m, b->draws, b->got, b->top[0], views);
	if (wrong != NULL)
		fail_msg("%s", wrong);
}

static void compare(struct bench *b)
{
	draw_here(b, NULL);
	for (uint32_t i = 0; i < b->m; i++) {
		const char *how = chains[i / KINDS];
		int32_t token = b->got[i].token;
		if (token == -1) {
			if (b->n <= 1024)
				fail_msg("%u logits of kind %u, %s: not drawn", b->n, i % KINDS, how);
			continue;
		}
		b->here++;
		if (token != b->want[i])
			fail_msg("%u logits of kind %u, %s: drew %d, the chain %d", b->n, i % KINDS, how, token, b->want[i]);
		compare_row(b, &b->got[i], i);
	}
}

/* The same rows, of which targets are looked up. */
static void compare_targets(struct bench *b)
{
	for (uint32_t i = 0; i < b->m; i++)
		b->draws[i].given = 1 + (uint32_t)(uniform() * b->n);
	draw_here(b, NULL);
	for (uint32_t i = 0; i < b->m; i++) {
		if (b->got[i].token == -1 && b->n > 1024 && b->draws[i].top > 0)
			continue; /* too many are alike */
		assert_int_equal(b->got[i].token, (int32_t)b->draws[i].given - 1);
		compare_row(b, &b->got[i], i);
	}
}

static struct bench *bench_new(uint32_t n)
{
	struct bench *b = calloc(1, sizeof *b);

	b->n = n;
	b->model = (struct run_model){n, core_model_info(kit.model)->context, 2, core_model_tokenizer(kit.model), ""};
	b->logits = malloc((size_t)KINDS * CHAINS * n * sizeof(float));
	b->views = malloc((size_t)KINDS * n * sizeof(float));
	b->applied = malloc((size_t)KINDS * n * sizeof(float));
	b->sums = malloc(logits_blocks(n) * sizeof(double));
	assert_int_equal(chain_room_init(&b->room, n), 0);
	return b;
}

static void bench_free(struct bench *b)
{
	chain_room_finish(&b->room);
	free(b->logits);
	free(b->views);
	free(b->applied);
	free(b->sums);
	free(b);
}

static void check(uint32_t n, unsigned least)
{
	struct bench *b = bench_new(n);

	for (unsigned c = 0; c < CHAINS; c++)
		for (unsigned k = 0; k < KINDS; k++)
			add_row(b, chains[c], kinds[k]);
	compare(b);
	compare_targets(b);
	printf("%u logits: %u of %u rows drawn on the device\n", n, (unsigned)b->here, b->m);
	assert_true(b->here >= least);
	bench_free(b);
}

static void a_device_draws_what_the_chain_draws(void **state)
{
	check(4, KINDS * CHAINS);
	check(257, KINDS * CHAINS);
	check(1024, KINDS * CHAINS);
	check(3001, KINDS * CHAINS * 3 / 4);
}

/* All logits, not just the one that is drawn. */
static void edits_and_temperature_are_the_samplers_to_the_bit(void **state)
{
	struct bench *b = bench_new(700);

	for (unsigned c = PLAIN; c < CHAINS; c++) {
		b->m = 0;
		for (unsigned k = 0; k < KINDS; k++)
			add_row(b, chains[c], kinds[k]);
		draw_here(b, b->views);
		for (unsigned k = 0; k < KINDS; k++) {
			const float *got = b->views + (size_t)k * b->n, *want = b->applied + (size_t)k * b->n;
			for (uint32_t i = 0; i < b->n; i++)
				if (!(got[i] == want[i]))
					fail_msg("kind %u, %s: the logit of %u is %a, the samplers make it %a", k, chains[c], i, got[i], want[i]);
		}
	}
	bench_free(b);
}

static void logits_that_are_no_numbers_are_left_to_the_host(void **state)
{
	enum { N = 600 };
	float logits[5 * N];
	struct core_draw draws[5];
	struct core_drawn got[5];
	struct core_top top[5][CORE_TOP];

	for (unsigned i = 0; i < 5 * N; i++)
		logits[i] = i / N == 3 ? -INFINITY : (float)uniform();
	logits[0 * N + 599] = NAN;
	logits[1 * N + 17] = INFINITY;
	for (unsigned i = 0; i < 5; i++)
		draws[i] = (struct core_draw){.uniform = 0.5, .temperature = i == 2 ? -1 : 0.5, .top_p = 1, .min_log_p = -INFINITY};
	assert_null(draw_on_device(logits, N, 5, draws, got, top[0], NULL));
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(got[i].token, -1);
	assert_true(got[4].token >= 0);
}

static void chains_of_other_samplers_or_another_order_have_no_formula(void **state)
{
	static const char *const words[] = {"samplers=top_p,temperature top_p=0.2 temperature=5", "typical_p=0.5",
					    "samplers=temperature,engine_still temperature=0.5 engine_still=1", "samplers=min_p,top_k top_k=3 min_p=0.1",
					    "samplers=temperature,penalties temperature=0.5 repetition_penalty=1.5"};
	struct core_edit edits[CORE_EDITS];
	struct bench *b = bench_new(2000);

	for (unsigned i = 0; i < sizeof words / sizeof *words; i++) {
		struct weft_job *job = job_of(b, words[i]);
		struct core_draw d;
		struct chain c;
		assert_true(chain_init(&c, job, 0));
		assert_true(c.n > 0);
		assert_false(chain_formula(&c, job, 7, &d, edits));
		chain_finish(&c);
		job_free(job);
	}
	bench_free(b);
}

/* The list is bounded: with one more the host draws, and when the window has moved on, the device again. */
static void more_edits_than_a_list_holds_are_left_to_the_host(void **state)
{
	struct bench *b = bench_new(3001);
	b->model.context = 4096;
	struct weft_job *job = job_of(b, "logit_bias=7:1|2999:-1 repetition_penalty=1.5 penalty_last_n=2047");
	struct core_edit edits[CORE_EDITS];
	struct core_draw d;
	struct chain c;

	begin(b, &c, job, 0);
	for (int32_t t = 0; t < 2100; t++) { /* two that have a bias, three of the prompt, and those taken */
		assert_int_equal(chain_formula(&c, job, 7, &d, edits), 5 + t <= CORE_EDITS);
		assert_true(chain_take(&c, job, 3000 - t));
	}
	for (int32_t t = 0; t < 10; t++)
		assert_true(chain_take(&c, job, 1));
	assert_true(chain_formula(&c, job, 7, &d, edits));
	assert_int_equal(d.n_edits, 2 + 2047 - 9); /* ten places hold one token */
	chain_finish(&c);
	job_free(job);
	bench_free(b);
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

/* The core, or nobody: then the host reduces all rows. Linked in the place of core_want_token(). */
static bool host_alone;
bool __real_core_want_token(struct core_ctx *c, uint32_t row, const struct core_draw *d);
bool __wrap_core_want_token(struct core_ctx *c, uint32_t row, const struct core_draw *d);

bool __wrap_core_want_token(struct core_ctx *c, uint32_t row, const struct core_draw *d)
{
	return !host_alone && __real_core_want_token(c, row, d);
}

static const struct core_draw greedy = {.temperature = 0, .top_p = 1, .min_log_p = -INFINITY};

static const struct core_edit edit = {.token = 7, .ratio = 1, .minus = -3e4};

/* Feeds the next token to each of four sequences; row 0 may draw, and so may row 2, but its list would be too long; row 3 has token 7 made
 * the likeliest, and is asked for more. */
static void tell_four(struct core_ctx *c, struct core_seq *s[4], uint32_t vocab, uint32_t at, bool ask, enum core_path path)
{
	const struct core_draw too_many = {.uniform = 0.3, .temperature = 0.7, .top_p = 1, .min_log_p = -INFINITY, .top_k = 1500};
	struct core_draw edited = greedy;
	struct core_edit copied = edit;
	struct core_row rows[4];

	edited.edits = &copied;
	edited.n_edits = 1;
	edited.top = 3;
	for (uint32_t i = 0; i < 4; i++)
		rows[i] = (struct core_row){s[i], token_at(vocab, at + 100 * i), i == 1 ? path : CORE_GENERATED, true};
	if (ask) {
		assert_true(core_want_token(c, 0, &greedy));
		assert_true(core_want_token(c, 2, &too_many));
		assert_true(core_want_token(c, 3, &edited));
	}
	copied.token = 0; /* nobody looks any more */
	must(core_forward(c, rows, 4, &why));
}

static void check_edited(const struct core_drawn *drawn, const float *want)
{
	assert_non_null(drawn);
	assert_int_equal(drawn->token, 7);
	assert_true(drawn->logit == want[7]);
	assert_int_equal(drawn->n_top, 3);
	assert_int_equal(drawn->top[0].token, drawn->best);
	for (uint32_t k = 0; k < 3; k++)
		assert_true(drawn->top[k].logit == want[drawn->top[k].token] && (k == 0 || drawn->top[k].logit <= drawn->top[k - 1].logit));
}

static void check_four(const struct core_ctx *c, const float *want, uint32_t vocab)
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
	check_edited(core_drawn(c, 3), want + 3 * (size_t)vocab);
	assert_null(core_drawn(c, 4));
	assert_null(core_logits(c, 4));
}

static void a_row_gives_a_token_or_logits(void **state)
{
	uint32_t vocab = core_model_info(kit.model)->vocab;
	struct core_ctx *c = core_on("cuda:0"), *cpu = core_on("cpu");
	float *want = malloc(4 * vocab * sizeof(float));
	struct core_seq *s[4];

	assert_true(vocab > 1500);
	for (uint32_t i = 0; i < 4; i++)
		s[i] = core_seq_new(c);
	for (uint32_t at = 0; at < 4; at++) {
		enum core_path path = at < 2 ? CORE_PROMPT : CORE_GENERATED; /* not a graph, and then a graph */

		tell_four(c, s, vocab, at, false, path);
		for (uint32_t i = 0; i < 4; i++) {
			assert_null(core_drawn(c, i));
			memcpy(want + (size_t)i * vocab, core_logits(c, i), vocab * sizeof(float));
			must(core_seq_trim(c, s[i], at));
		}
		tell_four(c, s, vocab, at, true, path);
		check_four(c, want, vocab);
	}
	assert_false(core_want_token(cpu, 0, &greedy)); /* hands out logits */
	for (uint32_t i = 0; i < 4; i++)
		core_seq_free(c, s[i]);
	free(want);
	core_ctx_free(cpu);
	core_ctx_free(c);
}

/* One pass of two rows: row 0 has asked often enough to leave no room for edits, and row 1 for `n` edits. Has row 1 given a token? */
static bool second_is_drawn(struct core_ctx *c, uint32_t times, uint32_t n)
{
	static struct core_edit many[CORE_EDITS + 1];
	struct core_draw full = greedy, more = greedy;
	struct core_seq *s[2] = {core_seq_new(c), core_seq_new(c)};
	struct core_row rows[2] = {{s[0], 5, CORE_PROMPT, true}, {s[1], 6, CORE_PROMPT, true}};

	for (uint32_t i = 0; i <= CORE_EDITS; i++)
		many[i] = (struct core_edit){.token = (int32_t)i % 2000, .stage = i / 2000, .ratio = 1, .minus = 0};
	full.edits = more.edits = many;
	full.n_edits = CORE_EDITS;
	more.n_edits = n;
	for (uint32_t i = 0; i < times; i++)
		assert_true(core_want_token(c, 0, &full));
	assert_true(core_want_token(c, 1, &more));
	must(core_forward(c, rows, 2, &why));
	assert_true((core_drawn(c, 0) != NULL) == (times > 0));
	bool drawn = core_drawn(c, 1) != NULL;
	assert_true(drawn == (core_logits(c, 1) == NULL));
	core_seq_free(c, s[0]);
	core_seq_free(c, s[1]);
	return drawn;
}

static void edits_beyond_the_bounds_of_row_and_pass_give_logits(void **state)
{
	struct core_ctx *c = core_on("cuda:0");

	assert_true(core_model_info(kit.model)->vocab >= 2000);
	assert_true(second_is_drawn(c, 0, CORE_EDITS));
	assert_false(second_is_drawn(c, 0, CORE_EDITS + 1));
	assert_true(second_is_drawn(c, CORE_PASS_EDITS / CORE_EDITS - 1, CORE_EDITS));
	assert_false(second_is_drawn(c, CORE_PASS_EDITS / CORE_EDITS, 1));
	assert_true(second_is_drawn(c, 0, 1));
	core_ctx_free(c);
}

/* ---- in the engine ---- */

static const struct kit_ask asks[] = {
	{.words = "seed=1 max_tokens=9", .prompt = "Once upon a time"},
	{.words = "seed=2 max_tokens=7 temperature=0 logprobs=0", .prompt = "Once upon a time"},
	{.words = "seed=3 n=3 max_tokens=6 top_k=30", .prompt = "Once upon a time"},
	{.words = "seed=4 max_tokens=8 temperature=0.8 top_p=0.9 logprobs=0", .prompt = "Once upon a time"},
	{.words = "seed=5 max_tokens=5 min_p=0.1 logprobs=2", .prompt = "Once upon a time"},
	{.words = "seed=6 max_tokens=8 frequency_penalty=0.5 presence_penalty=0.2 logprobs=20", .prompt = "wool wool wool"},
	{.words = "seed=7 max_tokens=8 repetition_penalty=1.3 logit_bias=300:5|301:4.5 temperature=0.9", .prompt = "A red coat, a red hat"},
	{.words = "seed=8 max_tokens=4 prompt_logprobs=2 echo=1 logprobs=0", .prompt = "Is silk warm?"},
	{.words = "decoder=score logprobs=3", .prompt = "Is silk warm?", .continuations = {"Yes, it is.", "No."}},
	{.words = "seed=9 max_tokens=6 engine_still=1", .prompt = "Once upon a time"}, /* a sampler without a formula */
};
enum { ASKS = sizeof asks / sizeof *asks };

static uint64_t answers_of(struct kit_run *r, bool host)
{
	struct kit_params p = {.threads = 1, .kv_pages = 200, .max_rows = 32, .device = "cuda:0", .module = module_path()};

	host_alone = host;
	kit_start(r, &kit, &p);
	for (unsigned i = 0; i < ASKS; i++)
		engine_submit(r->engine, kit_job(&kit, i + 1, &asks[i]));
	kit_wait_done(r, ASKS);
	host_alone = false;
	return atomic_load(&engine_stats(r->engine)->core_rows);
}

static void answers_are_the_same_bytes_whoever_draws(void **state)
{
	struct kit_run device, host;
	uint64_t drawn = answers_of(&device, false), none = answers_of(&host, true);

	printf("the device reduced %u rows\n", (unsigned)drawn);
	assert_true(drawn >= 60);
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
		cmocka_unit_test(edits_and_temperature_are_the_samplers_to_the_bit),
		cmocka_unit_test(more_edits_than_a_list_holds_are_left_to_the_host),
		cmocka_unit_test(logits_that_are_no_numbers_are_left_to_the_host),
		cmocka_unit_test(chains_of_other_samplers_or_another_order_have_no_formula),
		cmocka_unit_test(a_row_gives_a_token_or_logits),
		cmocka_unit_test(edits_beyond_the_bounds_of_row_and_pass_give_logits),
		cmocka_unit_test(answers_are_the_same_bytes_whoever_draws),
	};
	return cmocka_run_group_tests_name("draws on a device", tests, setup, teardown);
}
