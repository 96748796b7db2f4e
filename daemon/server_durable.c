/* server_durable.c: jobs of the store: kept before they are accepted, claimed, brought back to life, given away. */
#include "server_parts.h"
#include "log.h"
#include "publish.h"
#include "saved.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
	uint32_t pages = server_weigh(s, d);
	if (server_judge(s, d, pages, p))
		return -1;
	*held = !d->delay_ms && !s->durable.away && !server_full(s, d);
	struct job *j = server_make(s, d, identity, pages, *held, p);
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
	server_take_work(j, d);
	publish_queued(s, j, server_position(s, j));
	*out = j;
	return 0;
}

/* From here on its topic, its deadlines and the queue know it. */
static int enter(struct server *s, struct job *j, const struct draft *d, int64_t now)
{
	if (server_arm(s, j, d, now))
		return -1;
	topics_find(&s->topics, j->topic)->gone.fire = server_on_gone;
	return 0;
}

void server_enter_durable(struct server *s, struct job *j, const struct draft *d, bool held)
{
	struct journal *g = j->journal;
	g->admitting = false;
	g->n_logged = g->n_public = j->n_events;
	journal_forget(s, j); /* nothing waits to be written */
	server_note_accepted(s, j);
	journal_show(s, j, 0, j->n_events);
	if (!held) {
		server_unmake(s, j);
		durable_want(s);
		return;
	}
	server_count_durable(s, j, 1);
	if (enter(s, j, d, j->accepted_at)) {
		g->leave_to = STORE_QUEUED;
		journal_leave(s, j);
	} else if (j->broken) {
		server_conclude(s, j, JOB_FAILED, wire_code_name(WIRE_UNSUPPORTED), j->broken);
	}
}

/* Takes it out of everything here, without an end: it lives elsewhere. */
static void drop(struct server *s, struct job *j)
{
	if (!job_state_final(j->state)) {
		queue_remove(&s->queue, &j->entry);
		server_stop_loading(s, j);
		deadline_disarm(&s->deadlines, &j->deadline);
		deadline_disarm(&s->deadlines, &j->patience);
		if (j->by_topic.tqe_prev) /* it has entered */
			topics_drop_job(&s->topics, j, &s->deadlines);
		server_count_durable(s, j, -1);
		server_put_down(s, j);
		if (!j->in_engine)
			server_release(s, j);
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
	server_start_next(s);
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
	server_start_next(s);
}

void server_begun(struct server *s, struct job *j)
{
	struct journal *g = j->journal;
	if (!g->beginning)
		return; /* its slot was given to others meanwhile */
	g->beginning = false;
	if (!job_state_final(j->state) && !g->lost)
		server_submit(s, j);
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
			server_release(s, j);
		}
	}
	server_start_next(s);
}

/* Parks what runs and is durable: its events would fill the memory. */
void server_park_durable(struct server *s)
{
	for (size_t i = s->n_running; i-- > 0;) { /* from the end, for those that are parked are taken out */
		struct job *j = s->running[i];
		if (j->journal && j->in_engine && j->why == WHY_NONE && j->journal->leave_to < 0)
			server_park(s, j);
	}
}

/* ---- claimed jobs ---- */

/* The engine begins at the prompt: all that was published will be said again. */
void server_start_over(struct job *j)
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
		server_start_over(j);
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
		server_start_over(j);
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
	server_conclude(s, j, JOB_DEAD, wire_code_name(WIRE_INTERNAL), why);
}

/* Of a fleet: what earlier holders said goes to our listeners before what we say. They may have heard some of it from the watch. */
static void retell(struct server *s, struct job *j)
{
	const struct topic *t = topics_find(&s->topics, j->topic);
	if (store_is_fleet(s->durable.store) && t && t->listeners)
		journal_show(s, j, 0, j->n_events);
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
	uint32_t pages = server_weigh(s, d);
	server_fill(s, j, d, v->row.identity, pages, clock_now());
	fill_claimed(s, j, v);
	j->keep |= !d->work; /* else as it was asked for: a client of before has its grace to come back */
	server_count_durable(s, j, 1);
	s->durable.claimed++;
	s->durable.recovered += v->row.started;
	take_times(d, &v->row);
	if (!j->score && d->work && !(j->choices = calloc(j->n_choices, sizeof *j->choices))) {
		give_back(s, j);
		return;
	}
	server_take_work(j, d);
	if (load_events(s, j, &v->row, &deltas)) {
		p = (struct problem){.code = WIRE_INTERNAL};
		snprintf(p.text, sizeof p.text, "what the store has of it is damaged");
		problem = &p;
	}
	j->journal->n_logged = j->journal->n_public = j->n_events;
	load_answer(j, &v->row, deltas);
	if (!problem && d->n_adapters && server_take_adapters(s, j, d, j->work, &p))
		problem = &p;
	bool ready = !problem && !v->row.dead;
	if (ready ? enter(s, j, d, clock_now()) != 0 : topics_add_job(&s->topics, j) == NULL) {
		give_back(s, j);
		return;
	}
	retell(s, j);
	if (v->row.dead)
		conclude_dead(s, j);
	else if (problem)
		server_conclude(s, j, JOB_FAILED, wire_code_name(problem->code), problem->text);
	else if (j->adapters && j->adapters->ready && server_other_blend(j))
		server_fail_blend(s, j);
}
