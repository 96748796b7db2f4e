/* server.c: the end of jobs, their listeners, and the server as a whole. The picture of the states is in job.h; which file does what, in
 * server_parts.h. */
#include "server_parts.h"
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

void server_stop_loading(struct server *s, struct job *j)
{
	if (!j->loading)
		return;
	j->loading = false;
	s->loading_jobs--;
	s->loading_tokens -= j->entry.tokens;
	s->loading_bytes -= j->entry.bytes;
}

struct queue *server_queue_of(struct server *s, const struct job *j)
{
	return j->task ? &s->task_queue : &s->queue;
}

void server_drop_task(struct job *j)
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

void server_count_durable(struct server *s, const struct job *j, int by)
{
	s->durable.held[j->entry.batch] += (uint32_t)by;
}

static void note_journal(struct server *s, struct job *j, const char *code, const char *reason)
{
	struct journal *g = j->journal;
	snprintf(g->end_code, sizeof g->end_code, "%s", code ? code : "");
	g->end_reason = reason ? strdup(reason) : NULL;
	s->durable.dead += j->state == JOB_DEAD;
	server_count_durable(s, j, -1);
	durable_want(s);
}

void server_conclude(struct server *s, struct job *j, enum job_state state, const char *code, const char *reason)
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
	queue_remove(server_queue_of(s, j), &j->entry);
	server_stop_loading(s, j);
	if (!j->task)
		metrics_job_ended(&s->metrics, j);
	adapters_release(&s->adapters, j->adapters);
	j->adapters = NULL;
	deadline_disarm(&s->deadlines, &j->deadline);
	deadline_disarm(&s->deadlines, &j->patience);
	if (!j->in_engine)
		server_release(s, j); /* a durable job has its slot a little earlier */
	server_put_down(s, j);
	publish_done(s, j, code, reason);
	job_drop_answer(j);
	topics_drop_job(&s->topics, j, &s->deadlines);
	note_end(j, reason);
	server_drop_task(j);
	if (j->journal) {
		note_journal(s, j, code, reason);
		return; /* gone when its end is on disk */
	}
	j->oblivion.fire = on_oblivion;
	deadline_arm(&s->deadlines, &j->oblivion, clock_after(now, (uint64_t)s->conf->results_time));
	if (s->jobs.n_ended > (uint64_t)s->conf->results_jobs || s->jobs.ended_bytes > (uint64_t)s->conf->results_bytes)
		deadline_arm(&s->deadlines, &s->trim, now);
}

enum job_state server_end_state(enum job_why why)
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
		server_conclude(s, j, server_end_state(why), NULL, NULL);
		return true;
	}
	queue_remove(&s->queue, &j->entry);
	engine_cancel(s->engine, j->id);
	return true;
}

void server_on_deadline(struct deadline *d, void *arg)
{
	server_end(arg, job_of(d, offsetof(struct job, deadline)), WHY_DEADLINE);
}

void server_on_patience(struct deadline *d, void *arg)
{
	server_end(arg, job_of(d, offsetof(struct job, patience)), WHY_DEADLINE);
}

/* ---- listeners ---- */

void server_on_gone(struct deadline *d, void *arg)
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
	server_start_next(s);
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
	t->gone.fire = server_on_gone;
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
	server_start_next(s);
	return 0;
}

void server_schedule(struct server *s)
{
	adapters_start(&s->adapters);
	server_start_next(s);
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
		server_conclude(s, j, server_end_state(j->why), NULL, NULL);
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
	server_start_next(s); /* a pause ends here */
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
	s->adapters.settled = server_on_adapters;
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
