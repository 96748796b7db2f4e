/* engine.c: the engine thread, its commands and its events. run.h has the map of the other files. */
#include "config.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/batch.h"

enum command_kind { DO_SUBMIT, DO_CANCEL, DO_PREEMPT, DO_RESUME, DO_CHECKPOINT, DO_RELEASE };

struct command {
	struct command *next;
	enum command_kind kind;
	uint64_t id;
	struct engine_job *job; /* SUBMIT */
};

struct engine {
	struct engine_params p;
	struct core_ctx *core;
	struct run_model model;
	char backend[32];
	struct engine_stats stats;
	pthread_t thread;

	pthread_mutex_t lock; /* of the next four */
	pthread_cond_t more;
	struct command *commands, **last_command;
	bool stop;

	pthread_mutex_t events_lock; /* of the next two */
	struct engine_event *events, **last_event;

	/* engine thread */
	struct weft_job *jobs, **last_job; /* running and parked, by age */
	uint64_t born;
	struct run_out out;
	struct batch batch;
	/* the rows of a step that have logits, and the jobs that they belong to */
	uint32_t *wanted, n_wanted; /* [max_rows]: their places in the batch */
	struct measured *measured;  /* [max_rows] */
	double *sums;		    /* [max_rows * logits_blocks()]: of theirs */
	struct drawing {
		struct weft_job *job;
		uint64_t drawn; /* by the job before */
		bool aside;
	} *drawing;		    /* [max_rows] */
	uint32_t n_aside;	    /* of these, in front */
	struct room {
		struct chain_room chain;
		atomic_flag taken;
	} *rooms;		    /* [n_rooms]: one for each thread of the core */
	int n_rooms;
	int64_t row_ns; /* what a row of a full batch has cost of late; 0: not known yet */
};

/* How long a step should take at most: tokens that users wait for come at this pace while others' prompts run, and commands are
 * heard. */
static const int64_t pace_beside_ns = 100 * 1000 * 1000, pace_alone_ns = 1000 * 1000 * 1000;

const struct engine_pace engine_usual_pace = {.tokens = 16, .bytes = 64, .ms = 200};

static void count(atomic_uint_fast64_t *counter, uint64_t by)
{
	atomic_fetch_add_explicit(counter, by, memory_order_relaxed);
}

/* ---- what travels ---- */

struct engine_job *engine_job_new(void)
{
	struct engine_job *j = calloc(1, sizeof *j);

	if (j == NULL || (j->last = calloc(1, sizeof *j->last)) == NULL) {
		free(j);
		return NULL;
	}
	return j;
}

void engine_job_free(struct engine_job *j)
{
	if (j == NULL)
		return;
	if (j->decoder.values != NULL)
		plugin_args_finish(&j->decoder);
	for (size_t i = 0; i < j->n_samplers; i++)
		plugin_args_finish(&j->samplers[i]);
	free(j->samplers);
	for (size_t i = 0; i < j->n_continuations; i++)
		free(j->continuations[i]);
	free(j->continuations);
	free(j->continuation_len);
	free(j->prompt);
	free(j->resume);
	free(j->last);
	core_blend_unref(j->blend);
	plugin_set_unref(j->plugins);
	free(j);
}

void engine_event_free(struct engine_event *e)
{
	if (e == NULL)
		return;
	free(e->text);
	free(e->blob);
	free(e->tokens); /* the tops stand in the same block */
	engine_job_free(e->spent);
	free(e);
}

/* ---- commands ---- */

static void engine_log(struct engine *e, uint64_t job, int level, const char *text)
{
	if (e->p.log != NULL)
		e->p.log(e->p.arg, job, level, text);
}

static bool post(struct engine *e, enum command_kind kind, uint64_t id, struct engine_job *job)
{
	struct command *c = calloc(1, sizeof *c);

	if (c == NULL) {
		engine_log(e, id, WEFT_LOG_ERROR, "out of memory: a command to the engine was lost");
		return false;
	}
	c->kind = kind;
	c->id = id;
	c->job = job;
	pthread_mutex_lock(&e->lock);
	*e->last_command = c;
	e->last_command = &c->next;
	pthread_cond_signal(&e->more);
	pthread_mutex_unlock(&e->lock);
	return true;
}

static void publish(struct engine *e)
{
	if (e->out.first == NULL)
		return;
	pthread_mutex_lock(&e->events_lock);
	bool was_empty = e->events == NULL;
	*e->last_event = e->out.first;
	e->last_event = e->out.last;
	pthread_mutex_unlock(&e->events_lock);
	e->out.first = NULL;
	e->out.last = &e->out.first;
	if (was_empty && e->p.wake != NULL)
		e->p.wake(e->p.arg);
}

void engine_cancel(struct engine *e, uint64_t id)
{
	post(e, DO_CANCEL, id, NULL);
}

void engine_preempt(struct engine *e, uint64_t id)
{
	post(e, DO_PREEMPT, id, NULL);
}

void engine_resume(struct engine *e, uint64_t id)
{
	post(e, DO_RESUME, id, NULL);
}

void engine_checkpoint(struct engine *e, uint64_t id)
{
	post(e, DO_CHECKPOINT, id, NULL);
}

void engine_release(struct engine *e, uint64_t id)
{
	post(e, DO_RELEASE, id, NULL);
}

struct engine_event *engine_take_events(struct engine *e)
{
	pthread_mutex_lock(&e->events_lock);
	struct engine_event *all = e->events;
	e->events = NULL;
	e->last_event = &e->events;
	pthread_mutex_unlock(&e->events_lock);
	return all;
}

static struct weft_job *find(struct engine *e, uint64_t id)
{
	for (struct weft_job *j = e->jobs; j != NULL; j = j->next)
		if (j->spec->id == id)
			return j;
	return NULL;
}

/* Takes the ended jobs out of the list; what is left of them is freed. */
static void reap(struct engine *e)
{
	struct weft_job **at = &e->jobs;

	while (*at != NULL) {
		struct weft_job *j = *at;
		if (j->ended) {
			*at = j->next;
			run_free(j);
		} else {
			at = &j->next;
		}
	}
	e->last_job = at;
}

static void begin(struct engine *e, struct engine_job *spec)
{
	struct weft_job *job = run_new(spec, &e->model, e->core, &e->out);

	if (job == NULL) {
		run_refuse(spec, &e->out, "out of memory");
		return;
	}
	job->born = ++e->born;
	*e->last_job = job;
	e->last_job = &job->next;
	run_create(job);
}

static void park(struct engine *e, struct weft_job *job)
{
	run_park(job);
	count(&e->stats.preemptions, 1);
}

static void obey(struct engine *e, struct command *c)
{
	struct weft_job *job = c->kind == DO_SUBMIT ? NULL : find(e, c->id);

	if (c->kind == DO_SUBMIT)
		begin(e, c->job);
	else if (job == NULL || job->ended)
		return; /* its EV_DONE is under way */
	else if (c->kind == DO_CANCEL)
		run_end(job, END_CANCELLED, 0, "%s", "");
	else if (c->kind == DO_PREEMPT && !job->parked)
		park(e, job);
	else if (c->kind == DO_RESUME && job->parked)
		run_resume(job);
	else if (c->kind == DO_CHECKPOINT)
		run_want_checkpoint(job);
	else if (c->kind == DO_RELEASE)
		run_want_leave(job);
}

/* ---- one step ---- */

/* Brings the gauges up to date: before events are published, so that who reads them after an event sees no older state. */
static bool survey(struct engine *e)
{
	unsigned running = 0, parked = 0;

	for (struct weft_job *j = e->jobs; j != NULL; j = j->next) {
		running += !j->parked;
		parked += j->parked;
	}
	atomic_store(&e->stats.running, running);
	atomic_store(&e->stats.parked, parked);
	atomic_store(&e->stats.pages_used, core_ctx_pages_total(e->core) - core_ctx_pages_free(e->core));
	if (running > 0 && !atomic_load(&e->stats.busy))
		atomic_store(&e->stats.last_step_at_ns, (uint64_t)run_now_ns());
	atomic_store(&e->stats.busy, running > 0);
	return running > 0;
}

static void plan_all(struct engine *e)
{
	for (struct weft_job *j = e->jobs; j != NULL; j = j->next) {
		if (j->parked || j->ended)
			continue;
		if (j->rebuilding && !run_rebuild(j))
			continue;
		if (!j->rebuilding && j->n_feeds == 0)
			run_plan(j);
	}
}

/* What other jobs have computed already. */
static void reuse_all(struct engine *e)
{
	for (struct weft_job *j = e->jobs; j != NULL; j = j->next)
		if (!j->parked && !j->ended && !j->rebuilding)
			feed_reuse(j);
}

static void too_few_pages(struct engine *e, struct weft_job *job)
{
	run_end(job, END_FAILED, WEFT_ENOMEM, "the job needs more KV pages than there are: %u of %d tokens each",
		core_ctx_pages_total(e->core), CORE_PAGE);
}

static bool is_ready(const struct engine *e, const struct weft_job *job, bool wait)
{
	for (uint32_t i = 0; i < job->n_seqs; i++)
		if (job->seqs[i]->kv != NULL) /* all have the job's blend */
			return core_seq_ready(e->core, job->seqs[i]->kv, wait);
	return true;
}

/* Jobs whose adapters are on their way to the device sit out: they arrive beside the steps of others. When there is nobody else, the first one is
 * waited for. */
static void wait_for_adapters(struct engine *e)
{
	struct weft_job *first = NULL;
	bool others = false;

	for (struct weft_job *j = e->jobs; j != NULL; j = j->next) {
		j->loading = !j->parked && !j->ended && !is_ready(e, j, false);
		others |= !j->parked && !j->ended && !j->loading;
		if (j->loading && first == NULL)
			first = j;
	}
	if (first != NULL && !others)
		first->loading = !is_ready(e, first, true);
}

/* Fills the batch; jobs are parked or ended until what is left fits. */
static void build(struct engine *e)
{
	struct weft_job *who;

	for (;;) {
		switch (batch_build(&e->batch, e->jobs, e->core, &who)) {
		case BATCH_READY:
			return;
		case BATCH_PREEMPT:
			batch_clear(&e->batch);
			park(e, who);
			break;
		case BATCH_STUCK:
			batch_clear(&e->batch);
			too_few_pages(e, who);
			break;
		case BATCH_NO_MEMORY: /* all that was in reach is asked for again in the next step */
			batch_clear(&e->batch);
			return;
		}
	}
}

/* What to do about a forward pass that failed. Nothing has changed in the sequences. */
static void forward_failed(struct engine *e, const struct core_error *err)
{
	struct batch *b = &e->batch;
	struct weft_job *low = batch_lowest(e->jobs);
	bool several = false;

	engine_log(e, 0, WEFT_LOG_ERROR, err->text);
	for (uint32_t i = 0; i < b->n; i++)
		several |= b->from[i].job != b->from[0].job;
	if (err->code == CORE_ENOMEM && several && low != NULL) {
		batch_clear(b);
		park(e, low);
		return;
	}
	for (uint32_t i = 0; i < b->n; i++) /* the batch is not looked into after this loop */
		run_end(b->from[i].job, END_FAILED, err->code == CORE_ENOMEM ? WEFT_ENOMEM : WEFT_EINTERNAL, "the model failed: %s",
			err->text);
	b->n = 0;
}

/* Offers the core to draw, and to look up targets, where it has the logits. It may decline, row by row. */
static void offer_draws(struct engine *e)
{
	struct core_edit edits[CORE_EDITS];
	struct core_draw draw;

	for (uint32_t i = 0; i < e->batch.n; i++) {
		const struct batch_from *from = &e->batch.from[i];
		if (e->batch.rows[i].want_logits && feed_draw(from->job, from->feed, from->row, &draw, edits) &&
		    !core_want_token(e->core, i, &draw))
			return; /* this core hands out logits */
	}
}

/* [core's threads] */
static void measure(void *arg, uint32_t i)
{
	struct engine *e = arg;
	const struct batch_from *from = &e->batch.from[e->wanted[i]];

	if (!from->job->ended && core_drawn(e->core, i) == NULL) /* ended: its feeds are gone */
		feed_measure(from->job, from->feed, core_logits(e->core, i), &e->measured[i]);
}

/* The i-th row that wanted logits; the core may have drawn its token, or looked up its target. */
static bool draw_row(struct engine *e, const struct batch_from *from, uint32_t i, struct chain_room *room)
{
	const struct core_drawn *token = core_drawn(e->core, i);

	count(&e->stats.core_rows, token != NULL);
	if (token != NULL)
		return feed_token(from->job, from->feed, from->row, token);
	return feed_row(from->job, from->feed, from->row, core_logits(e->core, i), &e->measured[i], room);
}

/* All rows of one job, in order. */
static void draw_rows(struct engine *e, struct weft_job *job, struct chain_room *room)
{
	for (uint32_t i = 0; i < e->n_wanted && !job->ended; i++) {
		const struct batch_from *from = &e->batch.from[e->wanted[i]];
		if (from->job == job && !draw_row(e, from, i, room))
			return;
	}
}

/* [core's threads] */
static void draw_aside(void *arg, uint32_t i)
{
	struct engine *e = arg;
	int r = 0;

	while (atomic_flag_test_and_set(&e->rooms[r].taken))
		r = (r + 1) % e->n_rooms;
	draw_rows(e, e->drawing[i].job, &e->rooms[r].chain);
	atomic_flag_clear(&e->rooms[r].taken);
}

static struct drawing *drawing_of(struct engine *e, struct weft_job *job, uint32_t *n)
{
	if (job->drawing == 0) {
		job->drawing = ++*n;
		e->drawing[*n - 1] = (struct drawing){job, job->drawn, true};
	}
	return &e->drawing[job->drawing - 1];
}

/* Finds the rows with logits and their jobs. Returns how many jobs. */
static uint32_t find_drawing(struct engine *e)
{
	uint32_t n = 0;

	e->n_wanted = 0;
	for (uint32_t i = 0; i < e->batch.n; i++) {
		const struct batch_from *from = &e->batch.from[i];
		if (!e->batch.rows[i].want_logits)
			continue;
		e->wanted[e->n_wanted++] = i;
		if (from->job->ended || (from->row == from->feed->n_tokens - 1 && !feed_make_chains(from->job, from->feed)))
			continue;
		struct drawing *d = drawing_of(e, from->job, &n);
		d->aside = d->aside && feed_may_go_aside(from->feed);
	}
	return n;
}

/* Those that go aside to the front. */
static void part_drawing(struct engine *e, uint32_t n)
{
	e->n_aside = 0;
	for (uint32_t i = 0; i < n; i++) {
		struct drawing d = e->drawing[i];
		d.job->drawing = 0;
		d.job->aside = d.aside && !d.job->ended;
		if (!d.job->aside)
			continue;
		e->drawing[i] = e->drawing[e->n_aside];
		e->drawing[e->n_aside++] = d;
	}
}

/* Rows and jobs side by side, but for the jobs with a sampler that has to run on this thread. */
static void reduce(struct engine *e)
{
	uint32_t n = find_drawing(e);

	part_drawing(e, n);
	core_spread(e->core, measure, e, e->n_wanted);
	core_spread(e->core, draw_aside, e, e->n_aside);
	for (uint32_t i = 0; i < n; i++) {
		struct weft_job *job = e->drawing[i].job;
		if (i >= e->n_aside)
			draw_rows(e, job, &e->rooms[0].chain);
		run_return(job);
		count(&e->stats.draws, job->drawn - e->drawing[i].drawn);
	}
	e->batch.n = 0;
}

static void commit_all(struct engine *e)
{
	for (struct weft_job *j = e->jobs; j != NULL; j = j->next) {
		if (j->ended || j->parked || j->rebuilding || j->n_feeds == 0)
			continue;
		while (j->feeds_done < j->n_feeds && j->feeds[j->feeds_done].ran == j->feeds[j->feeds_done].n_tokens)
			j->feeds_done++;
		if (j->feeds_done == j->n_feeds)
			run_commit(j);
		else
			run_progress(j);
	}
}

static uint32_t rows_within(const struct engine *e, int64_t ns)
{
	int64_t rows = e->row_ns == 0 ? 0 : ns / e->row_ns;

	return rows < BATCH_LEAST ? BATCH_LEAST : rows > e->p.max_rows ? e->p.max_rows : (uint32_t)rows;
}

/* Sizes the pieces that prompts run in. Time decides about the cutting alone, which no answer depends on (P1). */
static void set_pace(struct engine *e)
{
	e->batch.beside = rows_within(e, pace_beside_ns);
	e->batch.alone = rows_within(e, pace_alone_ns);
}

/* Few rows say nothing about many: the weights are read for each batch. */
static void learn_pace(struct engine *e, int64_t ns, uint32_t rows)
{
	if (rows < BATCH_LEAST)
		return;
	int64_t cost = ns / rows + 1;
	e->row_ns = e->row_ns == 0 ? cost : (3 * e->row_ns + cost) / 4;
}

static void step(struct engine *e)
{
	struct core_error err;
	int64_t t0 = run_now_ns(), t1, t2, t3;

	set_pace(e);
	plan_all(e);
	reuse_all(e);
	wait_for_adapters(e);
	build(e);
	t1 = t2 = run_now_ns();
	if (e->batch.n > 0) {
		offer_draws(e);
		int rc = core_forward(e->core, e->batch.rows, e->batch.n, &err);
		t2 = run_now_ns();
		if (rc == 0) {
			learn_pace(e, t2 - t1, e->batch.n);
			struct batch_rows rows = batch_ran(&e->batch);
			count(&e->stats.prompt_rows, rows.prompt);
			count(&e->stats.generated_rows, rows.generated);
			count(&e->stats.rebuilt_rows, rows.rebuilt);
			reduce(e);
			commit_all(e);
		} else {
			forward_failed(e, &err);
		}
	}
	t3 = run_now_ns();
	count(&e->stats.steps, 1);
	count(&e->stats.step_ns, (uint64_t)(t3 - t0));
	histogram_add(&e->stats.step_us, (uint64_t)(t3 - t0) / 1000);
	count(&e->stats.forward_ns, (uint64_t)(t2 - t1));
	count(&e->stats.plugin_ns, (uint64_t)((t1 - t0) + (t3 - t2)));
	atomic_store(&e->stats.last_step_at_ns, (uint64_t)t3);
}

static void count_checkpoints(struct engine *e)
{
	count(&e->stats.checkpoints, e->out.checkpoints);
	count(&e->stats.checkpoint_bytes, e->out.checkpoint_bytes);
	count(&e->stats.checkpoint_ns, e->out.checkpoint_ns);
	e->out.checkpoints = e->out.checkpoint_bytes = e->out.checkpoint_ns = 0;
}

static void count_prefixes(struct engine *e)
{
	struct core_cached cached;

	core_ctx_cached(e->core, &cached);
	count(&e->stats.prefix_hits, e->out.prefix_hits);
	count(&e->stats.prefix_tokens, e->out.prefix_tokens);
	e->out.prefix_hits = e->out.prefix_tokens = 0;
	atomic_store(&e->stats.prefix_evictions, cached.evictions);
	atomic_store(&e->stats.prefix_pages, cached.pages);
}

/* The end of a turn: what has ended goes, the gauges are set, the loop is told. True: there is more to do. */
static bool settle(struct engine *e)
{
	reap(e);
	count_checkpoints(e);
	count_prefixes(e);
	bool busy = survey(e);
	publish(e);
	return busy;
}

/* ---- the thread ---- */

/* The commands that have come, oldest first. Sleeps when there are none and `idle`. False: it is time to stop. */
static bool take_commands(struct engine *e, bool idle, struct command **out)
{
	pthread_mutex_lock(&e->lock);
	while (idle && e->commands == NULL && !e->stop)
		pthread_cond_wait(&e->more, &e->lock);
	*out = e->commands;
	e->commands = NULL;
	e->last_command = &e->commands;
	bool go_on = !e->stop;
	pthread_mutex_unlock(&e->lock);
	return go_on;
}

static void drop_commands(struct command *c)
{
	while (c != NULL) {
		struct command *next = c->next;
		engine_job_free(c->job);
		free(c);
		c = next;
	}
}

static void *engine_main(void *arg)
{
	struct engine *e = arg;
	struct command *commands;
	bool busy = false;

	while (take_commands(e, !busy, &commands)) {
		while (commands != NULL) {
			struct command *c = commands;
			commands = c->next;
			obey(e, c);
			free(c);
		}
		busy = settle(e);
		if (busy) {
			step(e);
			busy = settle(e);
		}
	}
	for (struct weft_job *j = e->jobs; j != NULL; j = j->next)
		run_release(j); /* plugins are left on the thread that they were used on */
	drop_commands(commands);
	return NULL;
}

static int start_thread(struct engine *e, struct core_error *err)
{
	sigset_t all, old;

	sigfillset(&all); /* signals are the loop's */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int rc = pthread_create(&e->thread, NULL, engine_main, e);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0)
		return core_fail(err, CORE_ENOMEM, "the engine thread could not be started: %s", strerror(rc));
	pthread_setname_np(e->thread, "weft-engine");
	return 0;
}

static int check_params(const struct engine_params *p, struct core_error *err)
{
	const struct core_model_info *info = core_model_info(p->model);

	if (p->max_rows == 0 || p->kv_pages == 0)
		return core_fail(err, CORE_EINVAL, "the engine needs at least one row and one KV page");
	if (p->max_context > info->context)
		return core_fail(err, CORE_EINVAL, "the context cannot be %u tokens: the model was made for %u", p->max_context,
				 info->context);
	return 0;
}

static int make_rooms(struct engine *e, uint32_t vocab)
{
	size_t rows = e->p.max_rows, blocks = logits_blocks(vocab);

	e->wanted = malloc(rows * sizeof *e->wanted);
	e->measured = calloc(rows, sizeof *e->measured);
	e->sums = malloc(rows * blocks * sizeof *e->sums);
	e->drawing = malloc(rows * sizeof *e->drawing);
	e->n_rooms = core_ctx_threads(e->core);
	e->rooms = calloc((size_t)e->n_rooms, sizeof *e->rooms);
	if (e->wanted == NULL || e->measured == NULL || e->sums == NULL || e->drawing == NULL || e->rooms == NULL)
		return -1;
	for (size_t i = 0; i < rows; i++)
		e->measured[i].row.sums = e->sums + i * blocks;
	for (int i = 0; i < e->n_rooms; i++) {
		atomic_flag_clear(&e->rooms[i].taken);
		if (chain_room_init(&e->rooms[i].chain, vocab) != 0)
			return -1;
	}
	return batch_init(&e->batch, e->p.max_rows);
}

static void free_rooms(struct engine *e)
{
	for (int i = 0; e->rooms != NULL && i < e->n_rooms; i++)
		chain_room_finish(&e->rooms[i].chain);
	free(e->rooms);
	free(e->drawing);
	free(e->measured);
	free(e->sums);
	free(e->wanted);
}

static void free_all(struct engine *e)
{
	for (struct weft_job *j = e->jobs, *next; j != NULL; j = next) {
		next = j->next;
		run_free(j);
	}
	for (struct engine_event *ev = e->events, *next; ev != NULL; ev = next) {
		next = ev->next;
		engine_event_free(ev);
	}
	drop_commands(e->commands);
	batch_finish(&e->batch);
	free_rooms(e);
	core_ctx_free(e->core);
	pthread_cond_destroy(&e->more);
	pthread_mutex_destroy(&e->lock);
	pthread_mutex_destroy(&e->events_lock);
	free(e);
}

int engine_new(struct engine **out, const struct engine_params *p, struct core_error *err)
{
	const struct core_model_info *info = core_model_info(p->model);
	int rc = check_params(p, err);

	if (rc != 0)
		return rc;
	struct engine *e = calloc(1, sizeof *e);
	if (e == NULL)
		return core_fail(err, CORE_ENOMEM, "out of memory");
	e->p = *p;
	e->last_command = &e->commands;
	e->last_event = &e->events;
	e->last_job = &e->jobs;
	e->out.last = &e->out.first;
	e->out.log = p->log;
	e->out.log_arg = p->arg;
	e->out.pace = p->pace == NULL ? engine_usual_pace : *p->pace;
	e->model.vocab = info->vocab;
	e->model.context = p->max_context == 0 ? info->context : p->max_context;
	e->model.digest = info->digest;
	e->model.tokenizer = core_model_tokenizer(p->model);
	e->model.eos = core_tokenizer_eos(e->model.tokenizer);
	pthread_mutex_init(&e->lock, NULL);
	pthread_mutex_init(&e->events_lock, NULL);
	pthread_cond_init(&e->more, NULL);
	struct core_ctx_params ctx = {.model = p->model,
				      .threads = p->threads,
				      .kv_pages = p->kv_pages,
				      .max_rows = p->max_rows,
				      .max_context = p->max_context,
				      .kv_type = p->kv_type,
				      .prefix_cache = p->prefix_cache,
				      .device = p->device,
				      .module = p->module};
	rc = core_ctx_new(&e->core, &ctx, err);
	if (rc == 0 && make_rooms(e, info->vocab) != 0)
		rc = core_fail(err, CORE_ENOMEM, "out of memory");
	if (rc == 0 && strcmp(core_ctx_device(e->core), "cpu") == 0)
		snprintf(e->backend, sizeof e->backend, "cpu-%s", core_ctx_cpu(e->core));
	else if (rc == 0)
		snprintf(e->backend, sizeof e->backend, "%s", core_ctx_device(e->core));
	if (rc == 0)
		rc = start_thread(e, err);
	if (rc != 0) {
		free_all(e);
		return rc;
	}
	*out = e;
	return 0;
}

void engine_free(struct engine *e)
{
	if (e == NULL)
		return;
	pthread_mutex_lock(&e->lock);
	e->stop = true;
	pthread_cond_signal(&e->more);
	pthread_mutex_unlock(&e->lock);
	pthread_join(e->thread, NULL);
	free_all(e);
}

void engine_submit(struct engine *e, struct engine_job *job)
{
	if (post(e, DO_SUBMIT, job->id, job))
		return;
	/* Its end was made with it: it can be told even now. */
	struct run_out out = {.last = &out.first};
	run_refuse(job, &out, "out of memory");
	pthread_mutex_lock(&e->events_lock);
	*e->last_event = out.first;
	e->last_event = out.last;
	pthread_mutex_unlock(&e->events_lock);
	if (e->p.wake != NULL)
		e->p.wake(e->p.arg);
}

/* ---- facts ---- */

uint32_t engine_worst_pages(const struct engine *e, const struct engine_job *job)
{
	return worst_pages(&e->model, job);
}

uint64_t engine_worst_bytes(const struct engine *e, const struct engine_job *job)
{
	return worst_bytes(&e->model, job);
}

uint32_t engine_pages_total(const struct engine *e)
{
	return core_ctx_pages_total(e->core);
}

uint32_t engine_context(const struct engine *e)
{
	return e->model.context;
}

const struct engine_stats *engine_stats(const struct engine *e)
{
	return &e->stats;
}

const char *engine_kv_type(const struct engine *e)
{
	return core_kv_type_name(core_ctx_kv_type(e->core));
}

const char *engine_backend(const struct engine *e)
{
	return e->backend;
}

const char *engine_note(const struct engine *e)
{
	return core_ctx_note(e->core);
}

int engine_threads(const struct engine *e)
{
	return core_ctx_threads(e->core);
}
