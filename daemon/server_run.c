/* server_run.c: which job runs next, who makes room for it, and what engine and tasks say of those that run. */
#include "server_parts.h"
#include "publish.h"
#include "saved.h"
#include <stdlib.h>
#include <string.h>

/* ---- room ---- */

static void hold(struct server *s, struct job *j)
{
	j->holding = true;
	j->leaving = false;
	j->running_place = s->n_running;
	s->running[s->n_running++] = j;
	s->pages_held += j->entry.pages;
}

void server_release(struct server *s, struct job *j)
{
	if (!j->holding)
		return;
	j->holding = false;
	s->pages_held -= j->entry.pages;
	s->running[j->running_place] = s->running[--s->n_running];
	s->running[j->running_place]->running_place = j->running_place;
}

void server_put_down(struct server *s, struct job *j)
{
	s->bytes_started -= j->weighed ? j->entry.bytes : 0;
	j->weighed = false;
}

/* A job that has started keeps its memory to its end, also while it is parked; so when none runs, one more may always start, and batch
 * jobs leave a quarter of it to interactive ones. */
static bool memory_fits(const struct server *s, const struct job *j)
{
	uint64_t all = (uint64_t)s->conf->max_running_bytes, most = j->entry.batch ? all - all / 4 : all;
	return j->weighed || s->n_running == 0 || s->bytes_started + j->entry.bytes <= most;
}

static struct queue_room room(const struct server *s)
{
	return (struct queue_room){.slots = (uint32_t)((size_t)s->conf->max_running - s->n_running),
				   .pages = s->pages_total - s->pages_held};
}

/* To the engine; the job has its slot. */
void server_submit(struct server *s, struct job *j)
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
		server_submit(s, j);
}

/* The engine obeys in order: what is submitted behind this finds the slot and the pages free, so they are given away at once. */
void server_park(struct server *s, struct job *j)
{
	server_release(s, j);
	j->leaving = true;
	engine_preempt(s->engine, j->id);
}

/* Parks whom `first` may send away. False: it has to wait all the same. */
static bool make_room(struct server *s, const struct queue_entry *first)
{
	struct queue_room r = room(s);
	struct queue_entry **candidates = s->scratch, **victims = s->scratch + s->conf->max_running;
	size_t n = 0;
	for (size_t i = 0; i < s->n_running; i++)
		if (s->running[i]->why == WHY_NONE && s->running[i]->in_engine)
			candidates[n++] = &s->running[i]->entry;
	n = queue_victims(first, candidates, n, queue_kept((size_t)s->conf->max_running), &r, victims);
	for (size_t i = 0; i < n; i++)
		server_park(s, job_find(&s->jobs, victims[i]->id));
	return n > 0;
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
		server_conclude(s, j, JOB_FAILED, wire_code_name(WIRE_INTERNAL), "there is no thread for it");
		return;
	}
	deadline_disarm(&s->deadlines, &j->patience);
	job_move(&s->jobs, j, JOB_RUNNING);
	j->in_task = true;
	j->started_at = j->running_since = clock_now();
	publish_plain(s, j, "started");
}

/* Starts it, if need be in the places of batch jobs, or lays it aside where its store is away. False: it has to wait. */
static bool start_or_stall(struct server *s, const struct queue_entry *e)
{
	struct queue_room r = room(s);
	struct job *j = job_find(&s->jobs, e->id);
	if (j->journal && s->durable.away) {
		stall(s, j);
		return true;
	}
	if (must_wait(s, j) || !memory_fits(s, j))
		return false;
	if (!queue_fits(e, &r) && !(s->conf->preempt && make_room(s, e)))
		return false;
	start(s, j);
	return true;
}

/* The interactive job that goes before `first`, a batch job that has aged and has to wait; NULL: none. */
static struct queue_entry *may_overtake(const struct server *s, const struct queue_entry *first)
{
	size_t batch = 0;
	for (size_t i = 0; i < s->n_running; i++)
		batch += s->running[i]->entry.batch;
	return first->batch && batch >= queue_kept((size_t)s->conf->max_running) ? queue_first_interactive(&s->queue) : NULL;
}

/* Starts what fits, in the order of ranks, and parks batch jobs for an interactive one that does not. */
void server_start_next(struct server *s)
{
	struct queue_entry *first;
	if (s->state == SERVER_PAUSED)
		return;
	while (s->tasks.n < (size_t)s->conf->max_tasks && (first = queue_first(&s->task_queue)))
		start_task(s, job_find(&s->jobs, first->id));
	while ((first = queue_first(&s->queue)))
		if (!start_or_stall(s, first) && (!(first = may_overtake(s, first)) || !start_or_stall(s, first)))
			return;
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
	server_release(s, j);
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
		server_conclude(s, j, JOB_FAILED, internal, j->broken);
	else if (e->end == END_FAILED)
		server_conclude(s, j, JOB_FAILED, code_name(e->code), e->text ? e->text : "the engine gave no reason");
	else if (e->end == END_DONE && !all_scored(j))
		server_conclude(s, j, JOB_FAILED, internal, "the decoder ended without a score for each continuation");
	else if (e->end == END_DONE && unsaid(j))
		server_conclude(s, j, JOB_FAILED, internal, "after a restart the answer ended sooner than before");
	else if (e->end == END_DONE)
		server_conclude(s, j, JOB_DONE, NULL, NULL);
	else if (j->why != WHY_NONE)
		server_conclude(s, j, server_end_state(j->why), NULL, NULL);
	else
		server_conclude(s, j, JOB_FAILED, internal, "the engine let go of the job");
}

static void on_preempted(struct server *s, struct job *j)
{
	bool asked = j->leaving;
	server_release(s, j);
	j->leaving = false;
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
		server_start_over(j);
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
	server_release(s, j);
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
		server_start_next(s);
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
		server_drop_task(j);
		return;
	}
	bool done = rc == 0 && task_settle(j->task, s) == 0;
	const struct problem *p = task_problem(j->task);
	if (j->broken)
		server_conclude(s, j, JOB_FAILED, wire_code_name(WIRE_INTERNAL), j->broken);
	else if (done)
		server_conclude(s, j, JOB_DONE, NULL, NULL); /* also when it was cancelled too late */
	else if (j->why != WHY_NONE)
		server_conclude(s, j, server_end_state(j->why), NULL, NULL);
	else
		server_conclude(s, j, JOB_FAILED, wire_code_name(p->code), p->text);
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
		server_start_next(s);
}
