/* engine_batch_test.c: who gets the rows of a step, who gives way when pages are short, and what a rebuild runs. */
#include "config.h"

#include "daemon/batch.h"
#include "daemon/host.h"
#include "engine_kit.h"

enum { JOBS = 64, ROWS = 64 };

static struct kit kit;
static struct core_ctx *core;
static struct run_model model;
static struct run_out out;
static struct batch batch;
static struct weft_job *jobs[JOBS];
static uint32_t n_jobs;
static int32_t some_tokens[512];

static int setup(void **state)
{
	kit_init(&kit, NULL);
	for (int i = 0; i < 512; i++)
		some_tokens[i] = 300 + i;
	return 0;
}

static int teardown(void **state)
{
	kit_finish(&kit);
	return 0;
}

static void begin_with(bool prefix_cache, uint32_t pages, uint32_t rows)
{
	struct core_ctx_params p = {
		.model = kit.model, .threads = 1, .kv_pages = pages, .max_rows = rows, .prefix_cache = prefix_cache};

	assert_int_equal(core_ctx_new(&core, &p, NULL), 0);
	assert_int_equal(batch_init(&batch, rows), 0);
	model = (struct run_model){core_model_info(kit.model)->vocab, core_model_info(kit.model)->context, 2,
				   core_model_tokenizer(kit.model),
				   core_model_info(kit.model)->digest};
	out = (struct run_out){.last = &out.first};
	n_jobs = 0;
}

/* All prompts have the same tokens here: without the cache nobody waits for another's pages. */
static void begin(uint32_t pages, uint32_t rows)
{
	begin_with(false, pages, rows);
}

static int end(void **state)
{
	batch_finish(&batch);
	for (uint32_t i = 0; i < n_jobs; i++)
		run_free(jobs[i]);
	for (struct engine_event *e = out.first, *next; e != NULL; e = next) {
		next = e->next;
		engine_event_free(e);
	}
	core_ctx_free(core);
	return 0;
}

static void feed(struct weft_job *job, uint32_t seq, uint32_t flags, uint32_t n)
{
	struct weft_feed f = {.size = sizeof f, .flags = flags, .seq = seq, .n_tokens = n, .tokens = some_tokens};

	run_enter(job, PHASE_PLAN, job->spec->decoder.plugin, 0);
	assert_int_equal(host_table.feed(job, &f), 0);
	assert_true(run_leave(job, "plan", 0));
}

static struct weft_job *add(enum job_class class, uint32_t priority)
{
	struct weft_job *job =
		run_new(kit_job(&kit, n_jobs + 1, &(struct kit_ask){.words = "seed=1", .prompt = "A"}), &model, core, &out);

	assert_non_null(job);
	assert_non_null(seq_make(job));
	job->spec->class = class;
	job->spec->priority = priority;
	job->born = n_jobs + 1;
	if (n_jobs > 0)
		jobs[n_jobs - 1]->next = job;
	return jobs[n_jobs++] = job;
}

static struct weft_job *add_fed(enum job_class class, uint32_t flags, uint32_t n)
{
	struct weft_job *job = add(class, 0);

	feed(job, 0, flags, n);
	return job;
}

static uint32_t rows_of(const struct weft_job *job)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < batch.n; i++)
		n += batch.from[i].job == job;
	return n;
}

static void build(void)
{
	struct weft_job *who;

	assert_int_equal(batch_build(&batch, jobs[0], core, &who), BATCH_READY);
}

static void forward(void)
{
	struct core_error err;

	if (core_forward(core, batch.rows, batch.n, &err) != 0)
		fail_msg("%s", err.text);
	batch_ran(&batch);
	batch.n = 0;
	for (uint32_t i = 0; i < n_jobs; i++)
		while (jobs[i]->feeds_done < jobs[i]->n_feeds &&
		       jobs[i]->feeds[jobs[i]->feeds_done].ran == jobs[i]->feeds[jobs[i]->feeds_done].n_tokens)
			jobs[i]->feeds_done++;
}

/* Runs steps until all feeds are through, then closes them. */
static void run_all(void)
{
	for (build(); batch.n > 0; build())
		forward();
	for (uint32_t i = 0; i < n_jobs; i++)
		feed_clear(jobs[i]);
}

static void of_prompts_that_go_on_with_the_same_page_the_one_of_highest_rank_runs(void **state)
{
	begin_with(true, 512, ROWS);
	struct weft_job *low = add_fed(CLASS_BATCH, WEFT_FEED_PROMPT, 100);
	struct weft_job *high = add_fed(CLASS_INTERACTIVE, WEFT_FEED_PROMPT, 100);
	struct weft_job *less_than_a_page = add_fed(CLASS_BATCH, WEFT_FEED_PROMPT, 9);
	build();
	assert_int_equal(rows_of(high), ROWS);
	assert_int_equal(rows_of(low), 0);
	assert_int_equal(low->waited, 0);
	assert_int_equal(less_than_a_page->waited, 1);
	forward();
	feed_reuse(low);
	assert_int_equal(low->seqs[0]->present, ROWS);
	assert_int_equal(low->feeds[0].ran, ROWS);
	build();
	assert_int_equal(rows_of(high), 100 - ROWS);
	assert_int_equal(rows_of(low), 0);
	assert_int_equal(rows_of(less_than_a_page), 9);
	forward();
	feed_reuse(low);
	build();
	assert_int_equal(rows_of(low), 4); /* the last page of a prompt is its own */
	assert_int_equal(low->cached, 96);
}

/* The rest of it could not be taken from the cache. */
static void a_prompt_in_the_middle_of_a_page_waits_for_nobody(void **state)
{
	begin_with(true, 512, 40);
	struct weft_job *low = add_fed(CLASS_BATCH, WEFT_FEED_PROMPT, 100);
	build();
	forward();
	struct weft_job *high = add_fed(CLASS_INTERACTIVE, WEFT_FEED_PROMPT, 33 + CORE_PAGE);
	feed_reuse(low);
	feed_reuse(high);
	assert_int_equal(high->feeds[0].ran, 32);
	build();
	assert_int_equal(rows_of(high), 17);
	assert_int_equal(rows_of(low), 23);
}

/* The cache has what the second feed would be if the first one had run. */
static void a_feed_takes_nothing_before_its_turn(void **state)
{
	begin_with(true, 512, ROWS);
	struct weft_job *first = add_fed(CLASS_INTERACTIVE, WEFT_FEED_PROMPT, CORE_PAGE);
	feed(first, 0, WEFT_FEED_PROMPT, CORE_PAGE);
	run_all();
	struct weft_job *second = add_fed(CLASS_INTERACTIVE, WEFT_FEED_PROMPT, 2 * CORE_PAGE);
	feed(second, 0, WEFT_FEED_PROMPT, 2 * CORE_PAGE);
	feed_reuse(second);
	assert_int_equal(second->seqs[0]->n, CORE_PAGE);
	assert_int_equal(second->feeds[0].ran, CORE_PAGE);
	assert_int_equal(second->feeds[1].ran, 0);
	build();
	assert_int_equal(rows_of(second), 3 * CORE_PAGE);
}

static void generating_jobs_come_first_and_prompts_share_the_rest(void **state)
{
	begin(512, ROWS);
	struct weft_job *long_prompt = add_fed(CLASS_INTERACTIVE, WEFT_FEED_PROMPT, 400);
	struct weft_job *batch_prompt = add_fed(CLASS_BATCH, WEFT_FEED_PROMPT, 400);
	struct weft_job *short_prompt = add_fed(CLASS_INTERACTIVE, WEFT_FEED_PROMPT, 9);
	struct weft_job *generates = add_fed(CLASS_INTERACTIVE, 0, 1);
	struct weft_job *generates_too = add_fed(CLASS_BATCH, 0, 4);
	build();
	assert_int_equal(batch.n, ROWS);
	assert_ptr_equal(batch.from[0].job, generates);
	assert_ptr_equal(batch.from[1].job, generates_too);
	assert_int_equal(rows_of(generates), 1);
	assert_int_equal(rows_of(generates_too), 4);
	assert_int_equal(rows_of(short_prompt), 9); /* all of it: the long one does not stand in its way */
	assert_int_equal(rows_of(long_prompt), ROWS - 14);
	assert_int_equal(rows_of(batch_prompt), 0);
}

static void a_generating_job_never_waits_while_prompts_stream_in(void **state)
{
	begin(512, ROWS);
	for (int i = 0; i < 12; i++)
		add_fed(CLASS_INTERACTIVE, WEFT_FEED_PROMPT, 200);
	struct weft_job *generates = add_fed(CLASS_INTERACTIVE, 0, 1);
	for (int step = 0; step < 20; step++) {
		build();
		assert_int_equal(rows_of(generates), 1);
		assert_int_equal(batch.n, ROWS);
		forward();
		feed_clear(generates);
		feed(generates, 0, 0, 1);
	}
}

static void the_engine_may_keep_prompts_from_making_a_step_long(void **state)
{
	begin(512, ROWS);
	struct weft_job *prompt = add_fed(CLASS_INTERACTIVE, WEFT_FEED_PROMPT, 400);
	struct weft_job *other = add_fed(CLASS_BATCH, WEFT_FEED_PROMPT, 400);
	batch.beside = 20;
	batch.alone = 50;
	build();
	assert_int_equal(batch.n, 50);
	struct weft_job *generates = add_fed(CLASS_BATCH, 0, 3);
	for (int step = 0; step <= 3 * BATCH_PATIENCE; step++) { /* also in the steps in which the other has waited too long */
		build();
		assert_int_equal(rows_of(generates), 3);
		assert_int_equal(rows_of(prompt) + rows_of(other), 20);
	}
}

static void a_first_token_waits_for_no_full_step_of_batch_prompts(void **state)
{
	begin(512, ROWS);
	struct weft_job *other = add_fed(CLASS_BATCH, WEFT_FEED_PROMPT, 400);
	batch.beside = 20;
	batch.alone = 50;
	build();
	assert_int_equal(rows_of(other), 50);
	struct weft_job *prompt = add_fed(CLASS_INTERACTIVE, WEFT_FEED_PROMPT, 9);
	build();
	assert_int_equal(rows_of(prompt), 9);
	assert_int_equal(rows_of(other), 20);
	struct weft_job *long_prompt = add_fed(CLASS_INTERACTIVE, WEFT_FEED_PROMPT, 400);
	build();
	assert_int_equal(rows_of(prompt), 9);
	assert_int_equal(rows_of(long_prompt), 41); /* its own prompt is not made slower */
	assert_int_equal(rows_of(other), 0);
}

/* So many batch prompts that each of them has its turn less often than BATCH_PATIENCE asks for. */
static void a_first_token_waits_for_no_prompts_that_have_waited_long(void **state)
{
	uint32_t steps = 0, others = 0;

	begin(2048, 256);
	struct weft_job *generates = add_fed(CLASS_BATCH, 0, 1);
	for (int i = 0; i < 24; i++)
		add_fed(CLASS_BATCH, WEFT_FEED_PROMPT, 400);
	batch.beside = 16;
	for (int step = 0; step < 5 * BATCH_PATIENCE; step++)
		build();
	struct weft_job *prompt = add_fed(CLASS_INTERACTIVE, WEFT_FEED_PROMPT, 32);
	for (; prompt->feeds_done == 0; steps++) {
		build();
		assert_int_equal(rows_of(generates), 1);
		others += batch.n - 1 - rows_of(prompt);
		forward();
		feed_clear(generates);
		feed(generates, 0, 0, 1);
	}
	assert_int_equal(steps, 3); /* with three quarters of the 16 rows */
	assert_int_equal(others, 16); /* and the others have the rest */
}

/* Searches and jobs of many answers: they have more rows to generate than a step has. */
static void a_first_token_waits_for_no_batch_jobs_that_generate_many_rows(void **state)
{
	uint32_t others = 0, turns[8] = {0};

	begin(2048, ROWS);
	for (int i = 0; i < 8; i++)
		add_fed(CLASS_BATCH, 0, 16);
	build();
	assert_int_equal(batch.n, ROWS);
	struct weft_job *prompt = add_fed(CLASS_INTERACTIVE, WEFT_FEED_PROMPT, 9);
	build();
	assert_int_equal(rows_of(prompt), 9);
	assert_int_equal(batch.n, ROWS); /* and what it does not want is theirs */
	feed(prompt, 0, WEFT_FEED_PROMPT, 300);
	for (int step = 0; step < 2 * BATCH_PATIENCE; step++) {
		build();
		for (int i = 0; i < 8; i++)
			turns[i] += rows_of(jobs[i]) > 0;
		others += batch.n - rows_of(prompt);
		assert_in_range(rows_of(prompt), 9, ROWS / 4);
	}
	assert_int_equal(others, 2 * BATCH_PATIENCE * ROWS * 3 / 4);
	for (int i = 0; i < 8; i++)
		assert_true(turns[i] > 0);
}

/* One step; who has to give way is parked. */
static void step_with_parking(void)
{
	struct weft_job *who;

	while (batch_build(&batch, jobs[0], core, &who) == BATCH_PREEMPT) {
		batch_clear(&batch);
		run_park(who);
	}
	assert_true(batch.n > 0);
}

/* What a decoder does between two steps, and the loop, which resumes what was parked when the pool is not full. */
static void go_on(uint32_t generating)
{
	forward();
	for (uint32_t i = 0; i < n_jobs; i++) {
		if (jobs[i]->parked && core_ctx_pages_free(core) > 4)
			assert_true(run_resume(jobs[i]));
		if (jobs[i]->rebuilding)
			assert_true(run_rebuild(jobs[i]));
		if (i < generating && jobs[i]->feeds_done == jobs[i]->n_feeds) {
			feed_clear(jobs[i]);
			feed(jobs[i], 0, 0, 16);
		}
	}
}

/* At any moment of a load of batch class that generates more rows than a step has, has more impatient prompts than their share of one, and has
 * filled the pool, so that some are parked and some are rebuilt: the prompt runs in the next step, whole. */
static void a_first_token_takes_one_step_beside_any_batch_load(void **state)
{
	unsigned parked = 0, rebuilt = 0, impatient = 0, full = 0;

	begin(40, ROWS);
	for (int i = 0; i < 5; i++)
		add_fed(CLASS_BATCH, 0, 16);
	for (int i = 0; i < 24; i++)
		add_fed(CLASS_BATCH, WEFT_FEED_PROMPT, 400);
	struct weft_job *prompt = add(CLASS_INTERACTIVE, 0);
	batch.beside = 20;
	batch.alone = 50;
	for (int step = 0; step < 24; step++) {
		step_with_parking();
		go_on(5);
		for (uint32_t i = 0; i < n_jobs; i++) {
			parked += jobs[i]->parked;
			rebuilt += jobs[i]->rebuilding;
			impatient += jobs[i]->waited >= BATCH_PATIENCE;
		}
		full += core_ctx_pages_free(core) == 0;
		prompt->waited = 0;
		feed(prompt, 0, WEFT_FEED_PROMPT, 9);
		step_with_parking();
		assert_int_equal(rows_of(prompt), 9);
		batch_clear(&batch); /* as if it had not been asked */
		feed_clear(prompt);
	}
	assert_true(parked > 0 && rebuilt > 0 && impatient > 0 && full > 0);
}

static void every_job_has_its_turn(void **state)
{
	uint32_t last[JOBS] = {0};

	begin(2048, 8);
	for (uint32_t i = 0; i < 40; i++)
		add_fed(i % 3 == 0 ? CLASS_BATCH : CLASS_INTERACTIVE, i % 5 == 0 ? WEFT_FEED_PROMPT : 0, i % 5 == 0 ? 300 : 1);
	for (uint32_t step = 1; step <= 60; step++) {
		build(); /* without a forward pass: all keep wanting the same rows */
		assert_int_equal(batch.n, 8);
		for (uint32_t i = 0; i < 40; i++)
			if (rows_of(jobs[i]) > 0)
				last[i] = step;
	}
	for (uint32_t i = 0; i < 40; i++)
		if (last[i] < 60 - 24)
			fail_msg("job %u had its last row in step %u of 60", i, last[i]);
}

static void feeds_of_a_job_run_in_order(void **state)
{
	begin(512, 16);
	struct weft_job *job = add(CLASS_INTERACTIVE, 0);
	feed(job, 0, WEFT_FEED_PROMPT, 20);
	feed(job, 0, 0, 3);
	build();
	assert_int_equal(batch.n, 16);
	for (uint32_t i = 0; i < 16; i++) {
		assert_int_equal(batch.from[i].row, i);
		assert_int_equal(batch.rows[i].path, CORE_PROMPT);
	}
	forward();
	build();
	assert_int_equal(batch.n, 7);
	assert_int_equal(batch.rows[3].path, CORE_PROMPT);
	assert_int_equal(batch.rows[4].path, CORE_GENERATED);
	assert_ptr_equal(batch.from[4].feed, &job->feeds[1]);
	forward();
	assert_int_equal(job->feeds_done, 2);
	assert_int_equal(job->seqs[0]->n, 23);
	assert_int_equal(core_seq_len(job->seqs[0]->kv), 23);
}

/* Three jobs hold all pages and want more: the lowest gives way to the others, the highest never does. */
static void the_lowest_job_gives_way_when_pages_are_short(void **state)
{
	struct weft_job *who;

	begin(6, ROWS);
	struct weft_job *high = add(CLASS_INTERACTIVE, 1);
	struct weft_job *low = add(CLASS_BATCH, 0);
	struct weft_job *middle = add(CLASS_INTERACTIVE, 2);
	struct weft_job *all[] = {high, low, middle};
	for (int i = 0; i < 3; i++)
		feed(all[i], 0, WEFT_FEED_PROMPT, 32);
	run_all();
	assert_int_equal(core_ctx_pages_free(core), 0);
	for (int i = 0; i < 3; i++)
		feed(all[i], 0, 0, 1);
	assert_ptr_equal(batch_lowest(jobs[0]), low);
	assert_int_equal(batch_build(&batch, jobs[0], core, &who), BATCH_PREEMPT);
	assert_ptr_equal(who, low);
	batch_clear(&batch);
	run_park(low);
	assert_int_equal(core_ctx_pages_free(core), 2);
	build();
	assert_int_equal(batch.n, 2);
	forward();
	feed_clear(high);
	feed_clear(middle);
	feed(high, 0, 0, 15 + 1); /* one more page each */
	feed(middle, 0, 0, 15 + 1);
	assert_int_equal(batch_build(&batch, jobs[0], core, &who), BATCH_PREEMPT);
	assert_ptr_equal(who, middle);
	batch_clear(&batch);
	run_park(middle);
	build();
	assert_int_equal(rows_of(high), 16);
	forward();
	feed_clear(high);
	feed(high, 0, 0, 20);
	build();
	forward();
	feed_clear(high);
	assert_int_equal(high->seqs[0]->n, 69);
	feed(high, 0, 0, 100); /* alone, it takes what there is, */
	build();
	assert_int_equal(rows_of(high), 96 - 69);
	forward();
	assert_int_equal(batch_build(&batch, jobs[0], core, &who), BATCH_STUCK); /* and then it is stuck */
	assert_ptr_equal(who, high);
}

static void a_job_of_low_rank_waits_for_pages_without_disturbing_others(void **state)
{
	begin(4, ROWS);
	struct weft_job *high = add(CLASS_INTERACTIVE, 0);
	feed(high, 0, WEFT_FEED_PROMPT, 60);
	run_all();
	struct weft_job *low = add_fed(CLASS_BATCH, WEFT_FEED_PROMPT, 40);
	feed(high, 0, 0, 1);
	for (int step = 0; step < 3; step++) {
		build();
		assert_int_equal(rows_of(high), 1);
		assert_int_equal(rows_of(low), 0);
		forward();
		feed_clear(high);
		feed(high, 0, 0, 1);
	}
	run_release(high);
	high->ended = true;
	build();
	assert_int_equal(rows_of(low), 40);
	high->ended = false; /* for end() */
}

/* A rebuild runs each token by the path it came by, shared beginnings once, and then the open feed goes on. */
static void a_rebuild_runs_every_token_once_by_its_own_path(void **state)
{
	uint32_t two, three;
	unsigned seen = 0;

	begin(64, ROWS);
	struct weft_job *job = add(CLASS_INTERACTIVE, 0);
	feed(job, 0, WEFT_FEED_PROMPT, 37);
	run_all();
	feed(job, 0, 0, 5);
	run_all();
	run_enter(job, PHASE_PLAN, job->spec->decoder.plugin, 0);
	assert_int_equal(host_table.fork(job, 0, &two), 0);
	assert_int_equal(host_table.fork(job, 0, &three), 0);
	assert_int_equal(host_table.trim(job, three, 20), 0);
	feed(job, two, 0, 3);
	run_all();
	feed(job, 0, 0, 10);
	build();
	batch_clear(&batch);
	uint32_t used = core_ctx_pages_total(core) - core_ctx_pages_free(core);
	run_park(job);
	assert_int_equal(core_ctx_pages_free(core), core_ctx_pages_total(core));
	assert_true(run_resume(job));
	while (assert_true(run_rebuild(job)), job->rebuilding) {
		build();
		assert_true(batch.n > 0);
		for (uint32_t i = 0; i < batch.n; i++) {
			assert_null(batch.from[i].feed);
			assert_false(batch.rows[i].want_logits);
			uint32_t at = batch.from[i].seq->present; /* rows of one sequence in order: count those before */
			for (uint32_t k = 0; k < i; k++)
				at += batch.from[k].seq == batch.from[i].seq;
			assert_int_equal(batch.rows[i].path, at < 37 ? CORE_PROMPT : CORE_GENERATED);
		}
		seen += batch.n;
		forward();
	}
	assert_int_equal(seen, 37 + 5 + 3); /* the rest was forked */
	assert_int_equal(core_seq_len(seq_find(job, 0)->kv), 42);
	assert_int_equal(core_seq_len(seq_find(job, two)->kv), 45);
	assert_int_equal(core_seq_len(seq_find(job, three)->kv), 20);
	assert_true(core_ctx_pages_total(core) - core_ctx_pages_free(core) <= used);
	build();
	assert_int_equal(batch.n, 10);
	assert_int_equal(batch.from[0].row, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(of_prompts_that_go_on_with_the_same_page_the_one_of_highest_rank_runs, end),
		cmocka_unit_test_teardown(a_prompt_in_the_middle_of_a_page_waits_for_nobody, end),
		cmocka_unit_test_teardown(a_feed_takes_nothing_before_its_turn, end),
		cmocka_unit_test_teardown(generating_jobs_come_first_and_prompts_share_the_rest, end),
		cmocka_unit_test_teardown(a_generating_job_never_waits_while_prompts_stream_in, end),
		cmocka_unit_test_teardown(the_engine_may_keep_prompts_from_making_a_step_long, end),
		cmocka_unit_test_teardown(a_first_token_waits_for_no_full_step_of_batch_prompts, end),
		cmocka_unit_test_teardown(a_first_token_waits_for_no_prompts_that_have_waited_long, end),
		cmocka_unit_test_teardown(a_first_token_waits_for_no_batch_jobs_that_generate_many_rows, end),
		cmocka_unit_test_teardown(a_first_token_takes_one_step_beside_any_batch_load, end),
		cmocka_unit_test_teardown(every_job_has_its_turn, end),
		cmocka_unit_test_teardown(feeds_of_a_job_run_in_order, end),
		cmocka_unit_test_teardown(the_lowest_job_gives_way_when_pages_are_short, end),
		cmocka_unit_test_teardown(a_job_of_low_rank_waits_for_pages_without_disturbing_others, end),
		cmocka_unit_test_teardown(a_rebuild_runs_every_token_once_by_its_own_path, end),
	};
	return cmocka_run_group_tests_name("rows and pages of a step", tests, setup, teardown);
}
