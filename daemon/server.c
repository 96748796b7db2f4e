/* server.c: the life of a job, from its acceptance to its last event. The picture of the states is in job.h. */
#include "server.h"
#include "log.h"
#include "publish.h"
#include "saved.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DRAIN_WAITING, DRAIN_ENDING, DRAIN_STOPPED };
enum { DRAIN_STORE_MS = 3000 }; /* how long the store may take for the last words */
enum { DRAIN_LAST_MS = 5000 }; /* after the drain timeout: how long engine and tasks may take to let go of their jobs */

static struct job *job_of(struct deadline *d, size_t offset)
{
	return (struct job *)((char *)d - offset);
}

static int64_t now_ms(void)
{
	return clock_now() / 1000000;
}

static void release(struct server *s, struct job *j);
static void put_down(struct server *s, struct job *j);
static void schedule(struct server *s);
static void on_drain(struct deadline *d, void *arg);

/* ---- the end of a job ---- */

static void on_oblivion(struct deadline *d, void *arg)
{
	server_forget(arg, job_of(d, offsetof(struct job, oblivion)));
}

static void on_trim(struct deadline *d, void *arg)
{
	struct server *s = arg;
	struct job *j, *next;
	for (j = TAILQ_FIRST(&s->jobs.ended); j; j = next) {
		next = TAILQ_NEXT(j, by_end);
		if (s->jobs.n_ended <= (uint64_t)s->conf->results_jobs && s->jobs.ended_bytes <= (uint64_t)s->conf->results_bytes)
			return;
		server_forget(s, j);
	}
}

void server_forget(struct server *s, struct job *j)
{
	if (j->in_engine || j->in_task)
		return; /* ended by server_stop_now: engine or thread still speaks of it */
	if (j->journal && job_state_final(j->state) && j->journal->n_public < j->n_events && !j->journal->lost)
		return; /* its end is on the way to disk */
	deadline_disarm(&s->deadlines, &j->oblivion);
	if (j->journal)
		journal_forget(s, j);
	job_forget(&s->jobs, j);
}

static void note_end(const struct job *j, const char *reason)
{
	uint64_t total_ms = (uint64_t)((j->ended_at - j->accepted_at) / 1000000);
	if (j->state == JOB_FAILED)
		log_line(LOG_AT_WARNING, j->id, "failed after %" PRIu64 " ms: %s", total_ms, reason);
	else if (j->task)
		log_line(LOG_AT_INFO, j->id, "%s: %s, %" PRIu64 " ms", job_state_name(j->state), j->op, total_ms);
	else
		log_line(LOG_AT_INFO, j->id, "%s: %" PRIu64 " prompt and %" PRIu64 " answer tokens, %" PRIu64 " ms",
			 job_state_name(j->state), j->prompt_tokens, j->completion_tokens, total_ms);
}

static void stop_loading(struct server *s, struct job *j)
{
	if (!j->loading)
		return;
	j->loading = false;
	s->loading_jobs--;
	s->loading_tokens -= j->entry.tokens;
	s->loading_bytes -= j->entry.bytes;
}

static struct queue *queue_of(struct server *s, const struct job *j)
{
	return j->task ? &s->task_queue : &s->queue;
}

static void drop_task(struct job *j)
{
	if (j->in_task)
		return; /* ended by server_stop_now */
	task_free(j->task);
	j->task = NULL;
}

/* The answer of a job that ends before the engine has said again all that was published: the published part counts. */
static void catch_up(struct job *j)
{
	struct journal *g = j->journal;
	for (; g->replay < g->replay_end; g->replay++)
		if (j->events[g->replay].delta)
			saved_delta_add(j, j->events[g->replay].data, j->events[g->replay].len);
}

static void count_durable(struct server *s, const struct job *j, int by)
{
	s->durable.held[j->entry.batch] += (uint32_t)by;
}

static void note_journal(struct server *s, struct job *j, const char *code, const char *reason)
{
	struct journal *g = j->journal;
	snprintf(g->end_code, sizeof g->end_code, "%s", code ? code : "");
	g->end_reason = reason ? strdup(reason) : NULL;
	s->durable.dead += j->state == JOB_DEAD;
	count_durable(s, j, -1);
	durable_want(s);
}

/* The one place where jobs end. code and reason: of a failure. Forgetting is left to the deadlines, so that callers may go on using
 * j. */
static void conclude(struct server *s, struct job *j, enum job_state state, const char *code, const char *reason)
{
	int64_t now = clock_now();
	if (job_move(&s->jobs, j, state)) {
		log_line(LOG_AT_ERROR, j->id, "bug: %s cannot become %s", job_state_name(j->state), job_state_name(state));
		return;
	}
	j->ended_at = now;
	if (j->journal && state != JOB_DONE)
		catch_up(j);
	if (j->running_since)
		j->running_ns += now - j->running_since;
	j->running_since = 0;
	queue_remove(queue_of(s, j), &j->entry);
	stop_loading(s, j);
	if (!j->task)
		metrics_job_ended(&s->metrics, j);
	adapters_release(&s->adapters, j->adapters);
	j->adapters = NULL;
	deadline_disarm(&s->deadlines, &j->deadline);
	deadline_disarm(&s->deadlines, &j->patience);
	if (!j->in_engine)
		release(s, j); /* a durable job has its slot a little earlier */
	put_down(s, j);
	publish_done(s, j, code, reason);
	job_drop_answer(j);
	topics_drop_job(&s->topics, j, &s->deadlines);
	note_end(j, reason);
	drop_task(j);
	if (j->journal) {
		note_journal(s, j, code, reason);
		return; /* gone when its end is on disk */
	}
	j->oblivion.fire = on_oblivion;
	deadline_arm(&s->deadlines, &j->oblivion, clock_after(now, (uint64_t)s->conf->results_time));
	if (s->jobs.n_ended > (uint64_t)s->conf->results_jobs || s->jobs.ended_bytes > (uint64_t)s->conf->results_bytes)
		deadline_arm(&s->deadlines, &s->trim, now);
}

static enum job_state end_state(enum job_why why)
{
	return why == WHY_DEADLINE ? JOB_EXPIRED : JOB_CANCELLED;
}

bool server_end(struct server *s, struct job *j, enum job_why why)
{
	if (job_state_final(j->state) || (j->journal && j->journal->lost))
		return false;
	if (j->why != WHY_NONE)
		return true; /* under way */
	j->why = why;
	if (j->in_task) {
		task_cancel(j->task);
		return true;
	}
	if (!j->in_engine) {
		conclude(s, j, end_state(why), NULL, NULL);
		return true;
	}
	queue_remove(&s->queue, &j->entry);
	engine_cancel(s->engine, j->id);
	return true;
}

static void on_deadline(struct deadline *d, void *arg)
{
	server_end(arg, job_of(d, offsetof(struct job, deadline)), WHY_DEADLINE);
}

static void on_patience(struct deadline *d, void *arg)
{
	server_end(arg, job_of(d, offsetof(struct job, patience)), WHY_DEADLINE);
}

/* ---- room ---- */

static void hold(struct server *s, struct job *j)
{
	j->holding = true;
	j->running_place = s->n_running;
	s->running[s->n_running++] = j;
	s->pages_held += j->entry.pages;
}

static void release(struct server *s, struct job *j)
{
	if (!j->holding)
		return;
	if (j->leaving) {
		s->slots_coming--;
		s->pages_coming -= j->entry.pages;
	}
	j->holding = j->leaving = false;
	s->pages_held -= j->entry.pages;
	s->running[j->running_place] = s->running[--s->n_running];
	s->running[j->running_place]->running_place = j->running_place;
}

static void put_down(struct server *s, struct job *j)
{
	s->bytes_started -= j->weighed ? j->entry.bytes : 0;
	j->weighed = false;
}

/* A job that has started keeps its memory to its end, also while it is parked; so when none runs, one more may always start. */
static bool memory_fits(const struct server *s, const struct job *j)
{
	return j->weighed || s->n_running == 0 || s->bytes_started + j->entry.bytes <= (uint64_t)s->conf->max_running_bytes;
}

static struct queue_room room(const struct server *s)
{
	return (struct queue_room){.slots = (uint32_t)((size_t)s->conf->max_running - s->n_running),
				   .pages = s->pages_total - s->pages_held,
				   .slots_coming = s->slots_coming,
				   .pages_coming = s->pages_coming};
}

/* To the engine; the job has its slot. */
static void submit(struct server *s, struct job *j)
{
	deadline_disarm(&s->deadlines, &j->patience);
	job_move(&s->jobs, j, JOB_RUNNING);
	j->running_since = clock_now();
	if (j->in_engine) {
		engine_resume(s->engine, j->id);
		return;
	}
	struct engine_job *work = j->work;
	j->work = NULL;
	j->in_engine = true;
	engine_submit(s->engine, work);
}

static void start(struct server *s, struct job *j)
{
	queue_remove(&s->queue, &j->entry);
	hold(s, j);
	s->bytes_started += j->weighed ? 0 : j->entry.bytes;
	j->weighed = true;
	if (j->journal && !j->journal->begun)
		journal_begin(s, j);
	else
		submit(s, j);
}

static void park(struct server *s, struct job *j)
{
	j->leaving = true;
	s->slots_coming++;
	s->pages_coming += j->entry.pages;
	engine_preempt(s->engine, j->id);
}

static void make_room(struct server *s, const struct queue_entry *first)
{
	struct queue_room r = room(s);
	struct queue_entry **candidates = s->scratch, **victims = s->scratch + s->conf->max_running;
	size_t n = 0;
	for (size_t i = 0; i < s->n_running; i++)
		if (!s->running[i]->leaving && s->running[i]->why == WHY_NONE && s->running[i]->in_engine)
			candidates[n++] = &s->running[i]->entry;
	n = queue_victims(first, candidates, n, &r, victims);
	for (size_t i = 0; i < n; i++)
		park(s, job_find(&s->jobs, victims[i]->id));
}

/* One that may have killed its daemon runs alone: then nobody else is suspected, or dies, for it. It has its turn in the order of
 * ranks. */
static bool must_wait(const struct server *s, const struct job *first)
{
	if (first->journal && first->journal->suspect)
		return s->n_running > 0;
	for (size_t i = 0; i < s->n_running; i++)
		if (s->running[i]->journal && s->running[i]->journal->suspect)
			return true;
	return false;
}

static void stall(struct server *s, struct job *j)
{
	queue_remove(&s->queue, &j->entry);
	j->journal->stalled = true;
}

static void start_task(struct server *s, struct job *j)
{
	queue_remove(&s->task_queue, &j->entry);
	if (task_start(&s->tasks, j->task, j->id)) {
		conclude(s, j, JOB_FAILED, wire_code_name(WIRE_INTERNAL), "there is no thread for it");
		return;
	}
	deadline_disarm(&s->deadlines, &j->patience);
	job_move(&s->jobs, j, JOB_RUNNING);
	j->in_task = true;
	j->started_at = j->running_since = clock_now();
	publish_plain(s, j, "started");
}

/* Starts what fits, in the order of ranks, and parks batch jobs for an interactive one that does not. */
static void schedule(struct server *s)
{
	struct queue_entry *first;
	if (s->state == SERVER_PAUSED)
		return;
	while (s->tasks.n < (size_t)s->conf->max_tasks && (first = queue_first(&s->task_queue)))
		start_task(s, job_find(&s->jobs, first->id));
	while ((first = queue_first(&s->queue))) {
		struct queue_room r = room(s);
		struct job *j = job_find(&s->jobs, first->id);
		if (j->journal && s->durable.away) {
			stall(s, j);
			continue;
		}
		if (must_wait(s, j) || !memory_fits(s, j))
			return;
		if (queue_fits(first, &r)) {
			start(s, j);
			continue;
		}
		if (s->conf->preempt)
			make_room(s, first);
		return;
	}
}

/* ---- acceptance ---- */

/* What it may come to at worst: bytes of memory into the draft, and pages. */
static uint32_t weigh(struct server *s, struct draft *d)
{
	if (!d->work)
		return 0;
	uint64_t worst = engine_worst_bytes(s->engine, d->work);
	d->bytes = worst > d->bytes ? worst : d->bytes;
	return engine_worst_pages(s->engine, d->work);
}

static struct queue_limits limits_of(const struct server *s)
{
	return (struct queue_limits){(uint64_t)s->conf->max_queue, (uint64_t)s->conf->max_queue_tokens,
				     (uint64_t)s->conf->max_queue_bytes};
}

/* What no waiting would cure, and what the server's state forbids. */
static int judge(struct server *s, const struct draft *d, uint32_t pages, struct problem *p)
{
	const struct queue_limits limits = limits_of(s);
	if (s->state == SERVER_DRAINING)
		return problem_set(p, WIRE_DRAINING, NULL, "the server is going down: it takes no new work");
	if (s->state == SERVER_PAUSED)
		return problem_set(p, WIRE_DRAINING, NULL, "the server is paused: it takes no new work");
	if (pages > s->pages_total)
		return problem_set(p, WIRE_TOO_LARGE, NULL,
				   "the job may need %u pages of keys and values, there are %u: lower max_tokens or n", pages,
				   s->pages_total);
	if (d->tokens > limits.tokens || d->bytes > limits.bytes)
		return problem_set(p, WIRE_TOO_LARGE, NULL,
				   "the job may come to %" PRIu64 " tokens and %" PRIu64 " bytes, the queue takes %" PRIu64
				   " and %" PRIu64,
				   d->tokens, d->bytes, limits.tokens, limits.bytes);
	if (d->bytes > (uint64_t)s->conf->max_running_bytes)
		return problem_set(p, WIRE_TOO_LARGE, NULL,
				   "the job may come to %" PRIu64 " bytes, max_running_bytes is %" PRId64 ": lower max_tokens, n or logprobs",
				   d->bytes, s->conf->max_running_bytes);
	if (jobs_ids_left(&s->jobs))
		return 0;
	s->rejected++;
	problem_set(p, WIRE_OVERLOADED, NULL, "the store is away, and with it new job numbers");
	p->retry_after_ms = 1000;
	return -1;
}

/* The bound that one more would break; NULL: it may wait. */
static const char *full(const struct server *s, const struct draft *d)
{
	const struct queue_limits limits = limits_of(s);
	if (s->loading_jobs + s->queue.n + s->task_queue.n >= limits.jobs)
		return "jobs";
	return queue_full(&s->queue, &limits, d->tokens + s->loading_tokens, d->bytes + s->loading_bytes);
}

static int admit(struct server *s, const struct draft *d, uint32_t pages, struct problem *p)
{
	if (judge(s, d, pages, p))
		return -1;
	const char *bound = full(s, d);
	if (!bound)
		return 0;
	s->rejected++;
	metrics_rejected(&s->metrics, bound);
	problem_set(p, WIRE_OVERLOADED, NULL, "the queue is full (%s): %zu jobs wait", bound, s->queue.n + s->task_queue.n);
	p->retry_after_ms = queue_retry_after(&s->queue);
	return -1;
}

static void fill(struct server *s, struct job *j, struct draft *d, const char *identity, uint32_t pages, int64_t now)
{
	j->op = d->task ? task_op(d->task) : d->score ? "score" : "generate";
	j->score = d->score;
	j->keep = d->keep;
	j->class = d->class;
	j->priority = d->priority;
	j->n_choices = d->n_choices;
	j->prompt_tokens = d->work ? d->work->n_prompt : 0;
	j->accepted_at = now;
	memcpy(j->topic, d->topic, sizeof j->topic);
	memcpy(j->decoder, d->decoder, sizeof j->decoder);
	strncpy(j->identity, identity, IDENTITY_LEN);
	j->entry.batch = d->class == CLASS_BATCH;
	j->entry.pages = pages;
	j->entry.tokens = d->tokens;
	j->entry.bytes = d->bytes;
	j->entry.rank = queue_rank(now / 1000000, j->entry.batch, d->priority, s->conf->ageing);
	j->deadline.fire = on_deadline;
	j->patience.fire = on_patience;
}

/* What may fail, in an order in which undoing is easy. */
static int arm_all(struct server *s, struct job *j, const struct draft *d, int64_t now)
{
	struct topic *topic = topics_add_job(&s->topics, j);
	if (!topic)
		return -1;
	if (topic->listeners == 0 && !j->keep && !topic->gone.place &&
	    deadline_arm(&s->deadlines, &topic->gone, clock_after(now, (uint64_t)s->conf->disconnect_grace)))
		goto no_deadline;
	if (d->deadline_ms && deadline_arm(&s->deadlines, &j->deadline, clock_after(now, d->deadline_ms)))
		goto no_deadline;
	if (d->queue_ms && deadline_arm(&s->deadlines, &j->patience, clock_after(now, d->queue_ms)))
		goto no_patience;
	if (j->adapters && !j->adapters->ready) {
		j->loading = true;
		s->loading_jobs++;
		s->loading_tokens += j->entry.tokens;
		s->loading_bytes += j->entry.bytes;
		return 0;
	}
	if (queue_push(queue_of(s, j), &j->entry) == 0)
		return 0;
	deadline_disarm(&s->deadlines, &j->patience);
no_patience:
	deadline_disarm(&s->deadlines, &j->deadline);
no_deadline:
	topics_drop_job(&s->topics, j, &s->deadlines);
	return -1;
}

static void on_gone(struct deadline *d, void *arg);

/* ---- adapters ---- */

static enum wire_code core_code(int code)
{
	return code == CORE_EUNSUPPORTED || code == CORE_EFORMAT || code == CORE_EIO ? WIRE_UNSUPPORTED
	       : code == CORE_EINVAL                                                 ? WIRE_INVALID_ARGUMENT
										     : WIRE_INTERNAL;
}

/* Pins or orders what the draft names; the blend is there at once when all its adapters are. */
static int take_adapters(struct server *s, struct job *j, struct draft *d, struct engine_job *work, struct problem *p)
{
	struct core_error err;
	if (d->n_adapters == 0)
		return 0;
	j->adapters = adapters_use(&s->adapters, d->adapters, d->seen, d->n_adapters, j, p);
	if (!j->adapters)
		return -1;
	if (!j->adapters->ready)
		return 0;
	if (adapter_use_blend(j->adapters, &work->blend, &err))
		return problem_set(p, core_code(err.code), "adapters", "%.300s", err.text);
	snprintf(j->blend, sizeof j->blend, "%s", core_blend_digest(work->blend));
	return 0;
}

/* A durable job runs with what it was accepted with, or not at all. */
static bool other_blend(const struct job *j)
{
	return j->journal && j->journal->pinned[0] && strcmp(j->journal->pinned, j->blend) != 0;
}

static void fail_blend(struct server *s, struct job *j)
{
	char why[256];
	snprintf(why, sizeof why, "its adapters are no longer those that it was accepted with: their sum was %.16s..., now it is %.16s...",
		 j->journal->pinned, j->blend);
	conclude(s, j, JOB_FAILED, wire_code_name(WIRE_CONFLICT), why);
}

static void on_adapters(void *arg, struct adapter_use *use, const struct core_error *failed)
{
	struct server *s = arg;
	struct job *j = use->owner;
	struct core_error err;
	if (!failed && adapter_use_blend(use, &j->work->blend, &err))
		failed = &err;
	if (failed && j->journal && j->journal->admitting) {
		j->broken = "its adapters could not be loaded"; /* told when it is accepted */
		return;
	}
	if (failed) {
		conclude(s, j, JOB_FAILED, wire_code_name(core_code(failed->code)), failed->text);
		return;
	}
	snprintf(j->blend, sizeof j->blend, "%s", core_blend_digest(j->work->blend));
	if (j->journal && j->journal->admitting)
		return; /* it enters when it is in the store */
	if (other_blend(j)) {
		fail_blend(s, j);
		return;
	}
	stop_loading(s, j);
	if (queue_push(&s->queue, &j->entry))
		conclude(s, j, JOB_FAILED, wire_code_name(WIRE_INTERNAL), "out of memory");
}

void server_adapter_loaded(struct server *s, struct adapter_load *load)
{
	adapters_loaded(&s->adapters, load);
	schedule(s);
}

/* The draft's work becomes the job's. */
static void take_work(struct job *j, struct draft *d)
{
	d->task = NULL;
	if (!d->work)
		return;
	j->work = d->work;
	j->work->id = j->id;
	j->work->plugins = plugin_set_ref(d->plugins);
	j->work->checkpoints = j->journal != NULL;
	d->work = NULL;
}

uint64_t server_position(const struct server *s, const struct job *j)
{
	return queue_ahead(j->task ? &s->task_queue : &s->queue, &j->entry);
}

/* The job of a draft, known to nobody yet. NULL with the problem. */
static struct job *make(struct server *s, struct draft *d, const char *identity, uint32_t pages, bool pin, struct problem *p)
{
	struct job *j = job_new(&s->jobs);
	problem_set(p, WIRE_INTERNAL, NULL, "out of memory");
	if (!j)
		return NULL;
	fill(s, j, d, identity, pages, clock_now());
	bool good = !d->work || j->score || (j->choices = calloc(j->n_choices, sizeof *j->choices));
	if (good && d->work && pin && take_adapters(s, j, d, d->work, p))
		good = false;
	if (good) {
		*p = (struct problem){0};
		return j;
	}
	server_unmake(s, j);
	return NULL;
}

void server_unmake(struct server *s, struct job *j)
{
	adapters_release(&s->adapters, j->adapters);
	j->adapters = NULL;
	if (j->journal)
		journal_forget(s, j);
	job_forget(&s->jobs, j);
}

static void note_accepted(struct server *s, const struct job *j)
{
	s->accepted++;
	log_line(LOG_AT_DEBUG, j->id, "accepted: %s, %s, priority %u, %" PRIu64 " prompt tokens, topic %.8s...", j->op,
		 j->entry.batch ? "batch" : "interactive", j->priority, j->prompt_tokens, j->topic);
}

int server_accept(struct server *s, struct draft *d, const char *identity, struct job **out, struct problem *p)
{
	uint32_t pages = weigh(s, d);
	if (admit(s, d, pages, p))
		return -1;
	struct job *j = make(s, d, identity, pages, true, p);
	if (!j)
		return -1;
	j->task = d->task;
	if (arm_all(s, j, d, j->accepted_at)) {
		j->task = NULL;
		server_unmake(s, j);
		return problem_set(p, WIRE_INTERNAL, NULL, "out of memory");
	}
	topics_find(&s->topics, j->topic)->gone.fire = on_gone;
	take_work(j, d);
	note_accepted(s, j);
	publish_queued(s, j, server_position(s, j));
	*out = j;
	return 0;
}

/* ---- durable jobs ---- */

enum job_state server_state_of(const struct job *j)
{
	const struct journal *g = j->journal;
	if (!g || !job_state_final(j->state) || g->n_public == j->n_events)
		return j->state;
	return j->started_at ? JOB_RUNNING : JOB_QUEUED;
}

int server_make_durable(struct server *s, struct draft *d, const char *identity, struct job **out, bool *held, struct problem *p)
{
	uint32_t pages = weigh(s, d);
	if (judge(s, d, pages, p))
		return -1;
	*held = !d->delay_ms && !s->durable.away && !full(s, d);
	struct job *j = make(s, d, identity, pages, *held, p);
	if (!j)
		return -1;
	j->journal = journal_new();
	if (!j->journal) {
		server_unmake(s, j);
		return problem_set(p, WIRE_INTERNAL, NULL, "out of memory");
	}
	j->journal->admitting = true;
	j->journal->token = durable_token();
	j->journal->attempt = 1;
	snprintf(j->journal->pinned, sizeof j->journal->pinned, "%s", j->blend);
	take_work(j, d);
	publish_queued(s, j, server_position(s, j));
	*out = j;
	return 0;
}

/* From here on its topic, its deadlines and the queue know it. */
static int enter(struct server *s, struct job *j, const struct draft *d, int64_t now)
{
	if (arm_all(s, j, d, now))
		return -1;
	topics_find(&s->topics, j->topic)->gone.fire = on_gone;
	return 0;
}

void server_enter_durable(struct server *s, struct job *j, const struct draft *d, bool held)
{
	struct journal *g = j->journal;
	g->admitting = false;
	g->n_logged = g->n_public = j->n_events;
	journal_forget(s, j); /* nothing waits to be written */
	note_accepted(s, j);
	journal_show(s, j, 0, j->n_events);
	if (!held) {
		server_unmake(s, j);
		durable_want(s);
		return;
	}
	count_durable(s, j, 1);
	if (enter(s, j, d, j->accepted_at)) {
		g->leave_to = STORE_QUEUED;
		journal_leave(s, j);
	} else if (j->broken) {
		conclude(s, j, JOB_FAILED, wire_code_name(WIRE_UNSUPPORTED), j->broken);
	}
}

/* Takes it out of everything here, without an end: it lives elsewhere. */
static void drop(struct server *s, struct job *j)
{
	if (!job_state_final(j->state)) {
		queue_remove(&s->queue, &j->entry);
		stop_loading(s, j);
		deadline_disarm(&s->deadlines, &j->deadline);
		deadline_disarm(&s->deadlines, &j->patience);
		if (j->by_topic.tqe_prev) /* it has entered */
			topics_drop_job(&s->topics, j, &s->deadlines);
		count_durable(s, j, -1);
		put_down(s, j);
		if (!j->in_engine)
			release(s, j);
	}
	adapters_release(&s->adapters, j->adapters);
	j->adapters = NULL;
	server_forget(s, j);
	durable_want(s);
}

void server_kept(struct server *s, struct job *j)
{
	server_forget(s, j);
}

void server_left(struct server *s, struct job *j)
{
	j->journal->lost = true;
	log_line(LOG_AT_DEBUG, j->id, "given back to the store");
	drop(s, j);
	schedule(s);
}

void server_lost(struct server *s, struct job *j, int code, const char *text)
{
	if (j->journal->lost)
		return;
	j->journal->lost = true;
	s->durable.lost++;
	log_line(LOG_AT_NOTICE, j->id, "no longer ours: %s", text[0] ? text : code == STORE_STALE ? "another daemon has it" : "it was closed");
	if (j->in_engine)
		engine_cancel(s->engine, j->id);
	drop(s, j);
	schedule(s);
}

void server_begun(struct server *s, struct job *j)
{
	struct journal *g = j->journal;
	if (!g->beginning)
		return; /* its slot was given to others meanwhile */
	g->beginning = false;
	if (!job_state_final(j->state) && !g->lost)
		submit(s, j);
}

void server_leave(struct server *s, struct job *j, int state, int64_t run_at)
{
	struct journal *g = j->journal;
	if (job_state_final(j->state) || g->lost || g->admitting || g->leave_to >= 0)
		return;
	g->leave_to = state;
	g->leave_until = run_at;
	g->beginning = g->stalled = false;
	queue_remove(&s->queue, &j->entry);
	if (j->in_engine)
		engine_release(s->engine, j->id);
	else
		journal_leave(s, j);
}

void server_store_changed(struct server *s, bool away)
{
	struct job *j;
	if (s->durable.away == away)
		return;
	s->durable.away = away;
	TAILQ_FOREACH(j, &s->jobs.all, by_id)
	{
		struct journal *g = j->journal;
		if (!g || g->lost || g->admitting || g->leave_to >= 0 || job_state_final(j->state))
			continue;
		if (!away && g->stalled) {
			g->stalled = false;
			if (queue_push(&s->queue, &j->entry))
				g->stalled = true;
		} else if (away && g->beginning) {
			g->beginning = false;
			g->stalled = true;
			release(s, j);
		}
	}
	schedule(s);
}

/* Parks what runs and is durable: its events would fill the memory. */
void server_park_durable(struct server *s)
{
	for (size_t i = 0; i < s->n_running; i++) {
		struct job *j = s->running[i];
		if (j->journal && j->in_engine && !j->leaving && j->why == WHY_NONE && j->journal->leave_to < 0)
			park(s, j);
	}
}

/* ---- claimed jobs ---- */

/* The engine begins at the prompt: all that was published will be said again. */
static void start_over(struct job *j)
{
	job_drop_answer(j);
	if (!j->score && j->n_choices && !(j->choices = calloc(j->n_choices, sizeof *j->choices)))
		j->broken = "out of memory";
	j->journal->replay = 0;
	j->first_delta_at = 0;
	j->completion_tokens = 0;
}

static int load_events(struct server *s, struct job *j, const struct store_job *row, bool *deltas)
{
	const void *at = row->events.data, *event;
	size_t left = row->events.len, n;
	while ((event = journal_chunk_next(&at, &left, &n))) {
		void *copy = malloc(n + 1);
		struct wire_msg m;
		const char *why;
		if (!copy)
			return -1;
		memcpy(copy, event, n);
		if (job_keep_event(&s->jobs, j, copy, n))
			return -1;
		if (wire_decode(&m, event, n, &why))
			return -1;
		const msgpack_object *kind = wire_get(&m.root, "event");
		j->events[j->n_events - 1].delta = wire_is_cstr(kind, "delta");
		*deltas |= wire_is_cstr(kind, "delta");
		j->journal->recovered |= wire_is_cstr(kind, "started");
		wire_finish(&m);
	}
	return left || j->n_events != row->n_events ? -1 : 0;
}

/* What was said so far, and from where the engine goes on. */
static void load_answer(struct job *j, const struct store_job *row, bool deltas)
{
	struct journal *g = j->journal;
	struct saved_answer a = {0};
	g->replay_end = j->n_events;
	if (!row->checkpoint.data)
		return;
	if (saved_answer_read(j, &a, row->checkpoint.data, row->checkpoint.len) || a.cut > j->n_events) {
		log_line(LOG_AT_WARNING, j->id, "its checkpoint is damaged: it starts from its prompt");
		start_over(j);
		return;
	}
	if (a.blend[0])
		memcpy(g->pinned, a.blend, sizeof g->pinned);
	for (; g->replay < a.cut; g->replay++)
		if (j->events[g->replay].delta)
			saved_delta_add(j, j->events[g->replay].data, j->events[g->replay].len);
	if (!j->work || !a.checkpoint)
		return;
	j->work->resume = malloc(a.checkpoint_len);
	if (!j->work->resume) {
		start_over(j);
		return;
	}
	memcpy(j->work->resume, a.checkpoint, a.checkpoint_len);
	j->work->resume_len = a.checkpoint_len;
	j->work->or_restart = !deltas; /* with words on the wire it goes on exactly there, or fails */
}

static void fill_claimed(struct server *s, struct job *j, const struct revival *v)
{
	const struct store_job *row = &v->row;
	struct journal *g = j->journal;
	int64_t age = wall_now() - row->accepted_at;
	j->op = strcmp(row->op, "score") == 0 ? "score" : "generate";
	j->class = row->batch_class ? CLASS_BATCH : CLASS_INTERACTIVE;
	j->priority = row->priority;
	j->accepted_at = clock_now() - (age > 0 ? age : 0) * 1000000;
	memset(j->topic, 0, sizeof j->topic);
	snprintf(j->topic, sizeof j->topic, "%s", row->topic);
	j->entry.batch = row->batch_class;
	j->entry.rank = row->rank - s->durable.epoch_ms;
	g->token = row->token;
	g->batch = row->batch;
	g->row = row->row;
	g->attempt = row->attempt;
	g->crashes = row->crashes;
	g->suspect = row->crashes > 0;
	g->quiet = v->quiet;
	memcpy(g->pinned, v->blend, sizeof g->pinned);
}

/* What is left of its times: of the wall clock, as another process began them. */
static void take_times(struct draft *d, const struct store_job *row)
{
	int64_t now = wall_now();
	d->deadline_ms = row->deadline_at ? (uint64_t)(row->deadline_at > now ? row->deadline_at - now : 1) : 0;
	d->queue_ms = row->queue_until && !row->started ? (uint64_t)(row->queue_until > now ? row->queue_until - now : 1) : 0;
}

static void conclude_dead(struct server *s, struct job *j)
{
	char why[128];
	snprintf(why, sizeof why, "the server died %u times in a row while it ran this job", j->journal->crashes);
	conclude(s, j, JOB_DEAD, wire_code_name(WIRE_INTERNAL), why);
}

/* Nobody knows it here yet: the store shall give it to somebody else, or to us later. */
static void give_back(struct server *s, struct job *j)
{
	j->journal->leave_to = STORE_QUEUED;
	journal_leave(s, j);
}

void server_revive(struct server *s, struct draft *d, const struct revival *v, const struct problem *problem)
{
	struct problem p = {0};
	bool deltas = false;
	struct job *j = job_new_as(&s->jobs, v->row.id);
	if (!j || !(j->journal = journal_new())) {
		if (j)
			job_forget(&s->jobs, j);
		return; /* out of memory: its lease ends by itself */
	}
	uint32_t pages = weigh(s, d);
	fill(s, j, d, v->row.identity, pages, clock_now());
	fill_claimed(s, j, v);
	j->keep |= !d->work; /* else as it was asked for: a client of before has its grace to come back */
	count_durable(s, j, 1);
	s->durable.claimed++;
	s->durable.recovered += v->row.started;
	take_times(d, &v->row);
	if (!j->score && d->work && !(j->choices = calloc(j->n_choices, sizeof *j->choices))) {
		give_back(s, j);
		return;
	}
	take_work(j, d);
	if (load_events(s, j, &v->row, &deltas)) {
		p = (struct problem){.code = WIRE_INTERNAL};
		snprintf(p.text, sizeof p.text, "what the store has of it is damaged");
		problem = &p;
	}
	j->journal->n_logged = j->journal->n_public = j->n_events;
	load_answer(j, &v->row, deltas);
	if (!problem && d->n_adapters && take_adapters(s, j, d, j->work, &p))
		problem = &p;
	bool ready = !problem && !v->row.dead;
	if (ready ? enter(s, j, d, clock_now()) != 0 : topics_add_job(&s->topics, j) == NULL) {
		give_back(s, j);
		return;
	}
	if (v->row.dead)
		conclude_dead(s, j);
	else if (problem)
		conclude(s, j, JOB_FAILED, wire_code_name(problem->code), problem->text);
	else if (j->adapters && j->adapters->ready && other_blend(j))
		fail_blend(s, j);
}

/* ---- listeners ---- */

static void on_gone(struct deadline *d, void *arg)
{
	struct topic *topic = (struct topic *)((char *)d - offsetof(struct topic, gone));
	struct server *s = arg;
	struct job *j, *next;
	for (j = TAILQ_FIRST(&topic->jobs); j; j = next) {
		next = TAILQ_NEXT(j, by_topic);
		if (j->keep)
			continue;
		log_line(LOG_AT_DEBUG, j->id, "nobody listens any more");
		server_end(s, j, WHY_DISCONNECT); /* with the last job the topic may go, too */
	}
	schedule(s);
}

bool server_subscribed(struct server *s, const char *topic, size_t len)
{
	if (!wire_topic_valid(topic, len))
		return false;
	struct topic *t = topics_add_listener(&s->topics, topic);
	if (!t)
		return false;
	deadline_disarm(&s->deadlines, &t->gone);
	return true;
}

void server_unsubscribed(struct server *s, const char *topic, size_t len)
{
	if (!wire_topic_valid(topic, len))
		return;
	struct topic *t = topics_drop_listener(&s->topics, topic);
	if (!t || t->listeners)
		return;
	t->gone.fire = on_gone;
	bool minded = false;
	struct job *j;
	TAILQ_FOREACH(j, &t->jobs, by_topic)
	minded |= !j->keep;
	if (minded)
		deadline_arm(&s->deadlines, &t->gone, clock_after(clock_now(), (uint64_t)s->conf->disconnect_grace));
	topics_let_go(&s->topics, t, &s->deadlines);
}

void server_hello(struct server *s, const char *topic)
{
	struct wire_buf b;
	size_t len;
	wire_buf_init(&b);
	wire_map(&b, 3);
	wire_str(&b, "v");
	wire_uint(&b, WIRE_VERSION);
	wire_str(&b, "event");
	wire_str(&b, "hello");
	wire_str(&b, "topic");
	wire_str(&b, topic);
	void *data = wire_buf_take(&b, &len);
	wire_buf_finish(&b);
	if (data)
		s->publish(s->publish_arg, topic, data, len);
	free(data);
}

/* ---- what the engine says ---- */

static const char *code_name(int weft_code)
{
	switch (weft_code) {
	case WEFT_EINVAL:
		return wire_code_name(WIRE_INVALID_ARGUMENT);
	case WEFT_EUNSUPPORTED:
		return wire_code_name(WIRE_UNSUPPORTED);
	default:
		return wire_code_name(WIRE_INTERNAL);
	}
}

static bool all_scored(const struct job *j)
{
	for (uint32_t i = 0; j->score && i < j->n_choices; i++)
		if (i >= j->n_scores || !j->scores[i].present)
			return false;
	return true;
}

/* Was something published that the engine has not said again? */
static bool unsaid(const struct job *j)
{
	for (size_t i = j->journal ? j->journal->replay : 0; j->journal && i < j->journal->replay_end; i++)
		if (j->events[i].delta)
			return true;
	return false;
}

static void on_done(struct server *s, struct job *j, const struct engine_event *e)
{
	const char *internal = wire_code_name(WIRE_INTERNAL);
	release(s, j);
	j->in_engine = false;
	queue_departed(&s->queue, now_ms());
	if (j->journal && j->journal->lost) {
		server_forget(s, j);
		return;
	}
	if (job_state_final(j->state))
		return;
	if (e->end == END_RELEASED && j->why == WHY_NONE && !j->broken) {
		queue_remove(&s->queue, &j->entry); /* it was parked, perhaps */
		journal_leave(s, j);
		return;
	}
	j->completion_tokens = e->completion_tokens;
	j->cached_tokens = e->cached_tokens;
	if (j->broken)
		conclude(s, j, JOB_FAILED, internal, j->broken);
	else if (e->end == END_FAILED)
		conclude(s, j, JOB_FAILED, code_name(e->code), e->text ? e->text : "the engine gave no reason");
	else if (e->end == END_DONE && !all_scored(j))
		conclude(s, j, JOB_FAILED, internal, "the decoder ended without a score for each continuation");
	else if (e->end == END_DONE && unsaid(j))
		conclude(s, j, JOB_FAILED, internal, "after a restart the answer ended sooner than before");
	else if (e->end == END_DONE)
		conclude(s, j, JOB_DONE, NULL, NULL);
	else if (j->why != WHY_NONE)
		conclude(s, j, end_state(j->why), NULL, NULL);
	else
		conclude(s, j, JOB_FAILED, internal, "the engine let go of the job");
}

static void on_preempted(struct server *s, struct job *j)
{
	bool asked = j->leaving;
	release(s, j);
	j->running_ns += clock_now() - j->running_since;
	j->running_since = 0;
	/* Pages ran short although the job held to its estimate: the estimate was too low. */
	if (!asked)
		j->entry.pages = j->entry.pages > s->pages_total / 2 ? s->pages_total : 2 * j->entry.pages;
	job_move(&s->jobs, j, JOB_PREEMPTED);
	publish_plain(s, j, "preempted");
	if (j->journal && j->journal->leave_to >= 0)
		return; /* on its way back to the store */
	if (j->why == WHY_NONE && queue_push(&s->queue, &j->entry)) {
		j->broken = "out of memory";
		engine_cancel(s->engine, j->id);
	}
}

/* A job that cannot go on although the engine would: fails at its next EV_DONE. */
static void breaks(struct server *s, struct job *j, const char *why)
{
	j->broken = why;
	engine_cancel(s->engine, j->id);
}

static void on_delta(struct server *s, struct job *j, const struct engine_event *e)
{
	if (!j->first_delta_at)
		j->first_delta_at = e->at_ns;
	if (job_add_delta(j, e)) {
		breaks(s, j, "the decoder spoke of a choice that this job does not have, or memory is short");
		return;
	}
	j->completion_tokens += e->first_null ? 0 : e->n_tokens;
	metrics_delta(&s->metrics, j, e->at_ns);
	if (publish_delta(s, j, e))
		breaks(s, j, "after a restart the answer came out differently: model, plugins or machine are not what they were");
}

static void on_checkpoint(struct server *s, struct job *j, const struct engine_event *e)
{
	struct saved_answer a = {.cut = journal_cut(j), .checkpoint = e->blob, .checkpoint_len = e->blob_len};
	size_t len;
	if (!e->blob)
		return; /* it cannot be saved: it will begin at its prompt, and say the same */
	memcpy(a.blend, j->blend, sizeof a.blend);
	void *data = saved_answer_write(j, &a, &len);
	if (data)
		journal_checkpoint(s, j, data, len);
}

/* It runs, for the first time in this process. */
static void on_recovered(struct server *s, struct job *j, bool from_prompt)
{
	j->journal->recovered = false;
	if (from_prompt)
		start_over(j);
	publish_recovered(s, j);
}

static void on_score(struct server *s, struct job *j, struct engine_event *e)
{
	if (!j->first_delta_at)
		j->first_delta_at = e->at_ns;
	if (job_add_score(j, e))
		breaks(s, j, "the decoder scored something that this job does not have, or memory is short");
}

static void on_finish(struct job *j, const struct engine_event *e)
{
	if (j->choices && e->choice < j->n_choices)
		j->choices[e->choice].finish = e->finish;
}

static void on_live_event(struct server *s, struct job *j, struct engine_event *e)
{
	switch (e->kind) {
	case EV_STARTED:
		if (!j->started_at)
			j->started_at = e->at_ns;
		if (j->journal && j->journal->recovered)
			on_recovered(s, j, true);
		else
			publish_plain(s, j, "started");
		break;
	case EV_RESUMED:
		if (!j->started_at)
			j->started_at = e->at_ns;
		if (j->journal && j->journal->recovered)
			on_recovered(s, j, false);
		else
			publish_plain(s, j, "resumed");
		break;
	case EV_CHECKPOINT:
		if (j->journal)
			on_checkpoint(s, j, e);
		break;
	case EV_DELTA:
		on_delta(s, j, e);
		break;
	case EV_SCORE:
		on_score(s, j, e);
		break;
	case EV_FINISH:
		on_finish(j, e);
		break;
	case EV_PROGRESS:
		publish_progress(s, j, e->done, e->total, NULL, 0);
		break;
	case EV_PREEMPTED:
		on_preempted(s, j);
		break;
	case EV_DONE:
		break;
	}
}

/* A parked job that nobody will resume. */
static void abandon(struct server *s, struct job *j)
{
	release(s, j);
	engine_cancel(s->engine, j->id);
}

void server_engine_event(struct server *s, struct engine_event *e)
{
	struct job *j = job_find(&s->jobs, e->job);
	if (!j)
		return;
	if (e->kind == EV_DONE)
		on_done(s, j, e);
	else if (!job_state_final(j->state) && !j->broken && !(j->journal && j->journal->lost))
		on_live_event(s, j, e);
	else if (e->kind == EV_PREEMPTED)
		abandon(s, j);
	if (e->kind == EV_DONE || e->kind == EV_PREEMPTED)
		schedule(s);
}

/* ---- what tasks say ---- */

static void on_task_progress(struct server *s, struct job *j, struct task *t)
{
	uint64_t done, total;
	void *detail;
	size_t len;
	if (!task_take_progress(t, &done, &total, &detail, &len))
		return;
	if (!job_state_final(j->state))
		publish_progress(s, j, done, total, detail, len);
	free(detail);
}

static void on_task_end(struct server *s, struct job *j, int rc)
{
	j->in_task = false;
	if (job_state_final(j->state)) { /* server_stop_now was quicker */
		drop_task(j);
		return;
	}
	bool done = rc == 0 && task_settle(j->task, s) == 0;
	const struct problem *p = task_problem(j->task);
	if (j->broken)
		conclude(s, j, JOB_FAILED, wire_code_name(WIRE_INTERNAL), j->broken);
	else if (done)
		conclude(s, j, JOB_DONE, NULL, NULL); /* also when it was cancelled too late */
	else if (j->why != WHY_NONE)
		conclude(s, j, end_state(j->why), NULL, NULL);
	else
		conclude(s, j, JOB_FAILED, wire_code_name(p->code), p->text);
}

void server_task_events(struct server *s)
{
	struct task *t;
	bool ended = false;
	int rc;
	while ((t = tasks_news(&s->tasks))) {
		struct job *j = job_find(&s->jobs, task_job(t));
		on_task_progress(s, j, t);
		if (!task_take_end(&s->tasks, t, &rc))
			continue;
		on_task_end(s, j, rc);
		ended = true;
	}
	if (ended)
		schedule(s);
}

/* ---- the server's own state ---- */

const char *server_state_name(const struct server *s)
{
	static const char *const names[] = {"running", "paused", "draining"};
	return names[s->state];
}

int server_pause(struct server *s, bool paused)
{
	if (s->state == SERVER_DRAINING)
		return -1;
	s->state = paused ? SERVER_PAUSED : SERVER_RUNNING;
	schedule(s);
	return 0;
}

void server_schedule(struct server *s)
{
	adapters_start(&s->adapters);
	schedule(s);
}

/* An end that is not on disk, or a job that is not back in the store, is waited for; in the end that, too, is given up: the store still
 * has what it had. */
static bool still_here(const struct server *s, const struct job *j)
{
	const struct journal *g = j->journal;
	if (!g)
		return !job_state_final(j->state);
	if (s->drain_stage > DRAIN_STOPPED)
		return false;
	return g->lost ? g->in_flight > 0 : !job_state_final(j->state) || g->n_public < j->n_events;
}

bool server_drained(const struct server *s)
{
	const struct job *j;
	if (s->state != SERVER_DRAINING || (s->durable.claiming && s->drain_stage <= DRAIN_STOPPED))
		return false;
	TAILQ_FOREACH(j, &s->jobs.all, by_id)
	if (still_here(s, j))
		return false;
	return true;
}

static void arm_drain(struct server *s, int stage, uint64_t ms)
{
	s->drain_stage = stage;
	deadline_arm(&s->deadlines, &s->drain, clock_after(clock_now(), ms));
}

/* Without asking the engine: a durable job goes back with its last checkpoint. */
static void stop_durable(struct server *s, struct job *j)
{
	if (j->journal->lost || j->journal->admitting)
		return;
	j->journal->leave_to = STORE_QUEUED;
	queue_remove(&s->queue, &j->entry);
	journal_leave(s, j);
}

void server_stop_now(struct server *s)
{
	struct job *j, *next;
	s->state = SERVER_DRAINING;
	s->drain.fire = on_drain;
	arm_drain(s, DRAIN_STOPPED, DRAIN_STORE_MS);
	for (j = TAILQ_FIRST(&s->jobs.all); j; j = next) {
		next = TAILQ_NEXT(j, by_id);
		if (job_state_final(j->state))
			continue;
		if (j->journal) {
			stop_durable(s, j);
			continue;
		}
		if (j->why == WHY_NONE)
			j->why = WHY_SHUTDOWN;
		if (j->in_task)
			task_cancel(j->task);
		conclude(s, j, end_state(j->why), NULL, NULL);
	}
}

static void on_drain(struct deadline *d, void *arg)
{
	struct server *s = arg;
	struct job *j, *next;
	if (s->drain_stage == DRAIN_STOPPED) {
		s->drain_stage++;
		return;
	}
	if (s->drain_stage == DRAIN_ENDING) {
		log_warning("some jobs do not come to their end: stopping without it");
		server_stop_now(s);
		return;
	}
	log_notice("the drain timeout has passed: durable jobs go back to the store, the others end");
	for (j = TAILQ_FIRST(&s->jobs.all); j; j = next) {
		next = TAILQ_NEXT(j, by_id);
		if (j->journal)
			server_leave(s, j, STORE_QUEUED, 0);
		else
			server_end(s, j, WHY_SHUTDOWN);
	}
	arm_drain(s, DRAIN_ENDING, DRAIN_LAST_MS);
}

void server_drain(struct server *s)
{
	struct job *j, *next;
	if (s->state == SERVER_DRAINING)
		return;
	s->state = SERVER_DRAINING;
	s->drain.fire = on_drain;
	arm_drain(s, DRAIN_WAITING, (uint64_t)s->conf->drain_timeout);
	/* What the engine does not have yet can as well wait in the store, or run elsewhere. */
	for (j = TAILQ_FIRST(&s->jobs.all); j; j = next) {
		next = TAILQ_NEXT(j, by_id);
		if (j->journal && !j->in_engine)
			server_leave(s, j, STORE_QUEUED, 0);
	}
	schedule(s); /* a pause ends here */
}

bool server_engine_alive(struct server *s, int64_t now)
{
	const struct engine_stats *e = engine_stats(s->engine);
	if (!atomic_load(&e->busy)) {
		s->busy_since = 0;
		return true;
	}
	if (!s->busy_since)
		s->busy_since = now;
	/* The last step of an earlier burst of work says nothing about this one. */
	int64_t step = (int64_t)atomic_load(&e->last_step_at_ns);
	int64_t sign = step > s->busy_since ? step : s->busy_since;
	return now - sign < s->conf->stall_timeout * 1000000;
}

bool server_ready(struct server *s, char *line, size_t size)
{
	bool alive = server_engine_alive(s, clock_now());
	if (!alive)
		snprintf(line, size, "the engine has work and makes no steps");
	else
		snprintf(line, size, "%s", s->state == SERVER_RUNNING ? "ready" : server_state_name(s));
	return alive && s->state == SERVER_RUNNING;
}

/* ---- begin and end ---- */

void server_conf_changed(struct server *s)
{
	s->env.template = template_find(s->conf->template, strlen(s->conf->template));
	s->env.queue_ms = (uint64_t)s->conf->queue_timeout;
	s->env.store = s->durable.store != NULL;
	s->adapters.check_seconds = (double)s->conf->adapters_check / 1000;
}

void server_new_plugins(struct server *s, struct plugin_set *set)
{
	plugin_set_unref(s->plugins);
	s->plugins = set;
	s->env.plugins = set;
}

int server_init(struct server *s, char why[static CONF_WHY])
{
	const struct core_model_info *info = core_model_info(s->model);
	size_t n = (size_t)s->conf->max_running;
	s->pages_total = engine_pages_total(s->engine);
	s->started_at = clock_now();
	tasks_init(&s->tasks);
	s->trim.fire = on_trim;
	s->env = (struct draft_env){.plugins = s->plugins,
				    .tokenizer = core_model_tokenizer(s->model),
				    .vocab = info->vocab,
				    .context = engine_context(s->engine),
				    .model = s->model,
				    .model_path = s->conf->model,
				    .fuse_output = s->conf->fuse_output};
	s->env.longest_piece = draft_longest_piece(s->env.tokenizer);
	server_conf_changed(s);
	s->running = calloc(n, sizeof *s->running);
	s->scratch = calloc(2 * n, sizeof *s->scratch);
	if (!s->running || !s->scratch || jobs_init(&s->jobs) || topics_init(&s->topics)) {
		server_finish(s);
		snprintf(why, CONF_WHY, "out of memory");
		return -1;
	}
	durable_init(s);
	s->adapters.settled = on_adapters;
	if (adapters_init(&s->adapters, s->model, s->conf->adapters, s->conf->blends, (uint64_t)s->conf->adapters_memory, why)) {
		server_finish(s);
		return -1;
	}
	return 0;
}

void server_finish(struct server *s)
{
	struct job *j;
	if (s->jobs.table)
		TAILQ_FOREACH(j, &s->jobs.all, by_id)
		{
			adapters_release(&s->adapters, j->adapters);
			j->adapters = NULL;
		}
	jobs_finish(&s->jobs);
	adapters_finish(&s->adapters);
	topics_finish(&s->topics);
	queue_finish(&s->queue);
	queue_finish(&s->task_queue);
	deadlines_finish(&s->deadlines);
	free(s->running);
	free(s->scratch);
	s->running = NULL;
	s->scratch = NULL;
}
