/* server_accept.c: from a draft to a job: is there room to wait, which versions of adapters does it pin, what ends its waiting. */
#include "server_parts.h"
#include "log.h"
#include "publish.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- acceptance ---- */

/* What it may come to at worst: bytes of memory into the draft, and pages. */
uint32_t server_weigh(struct server *s, struct draft *d)
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
int server_judge(struct server *s, const struct draft *d, uint32_t pages, struct problem *p)
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
const char *server_full(const struct server *s, const struct draft *d)
{
	const struct queue_limits limits = limits_of(s);
	if (s->loading_jobs + s->queue.n + s->task_queue.n >= limits.jobs)
		return "jobs";
	return queue_full(&s->queue, &limits, d->tokens + s->loading_tokens, d->bytes + s->loading_bytes);
}

static int admit(struct server *s, const struct draft *d, uint32_t pages, struct problem *p)
{
	if (server_judge(s, d, pages, p))
		return -1;
	const char *bound = server_full(s, d);
	if (!bound)
		return 0;
	s->rejected++;
	metrics_rejected(&s->metrics, bound);
	problem_set(p, WIRE_OVERLOADED, NULL, "the queue is full (%s): %zu jobs wait", bound, s->queue.n + s->task_queue.n);
	p->retry_after_ms = queue_retry_after(&s->queue);
	return -1;
}

/* Whose pages a job may share: those of its client's own requests, and of them those of the same cache_salt. */
static void salt(struct engine_job *work, const char *identity, const char *cache_salt)
{
	_Static_assert(ENGINE_SALT_MAX > IDENTITY_LEN + 1 + DRAFT_SALT_MAX, "a salt has room for both");
	if (*identity || *cache_salt)
		work->salt_len = (size_t)snprintf(work->salt, sizeof work->salt, "%s%c%s", identity, 0, cache_salt);
}

void server_fill(struct server *s, struct job *j, struct draft *d, const char *identity, uint32_t pages, int64_t now)
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
	if (d->work)
		salt(d->work, j->identity, d->cache_salt);
	j->entry.batch = d->class == CLASS_BATCH;
	j->entry.pages = pages;
	j->entry.tokens = d->tokens;
	j->entry.bytes = d->bytes;
	j->entry.rank = queue_rank(now / 1000000, j->entry.batch, d->priority, s->conf->ageing);
	j->deadline.fire = server_on_deadline;
	j->patience.fire = server_on_patience;
}

/* What may fail, in an order in which undoing is easy. */
int server_arm(struct server *s, struct job *j, const struct draft *d, int64_t now)
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
	if (queue_push(server_queue_of(s, j), &j->entry) == 0)
		return 0;
	deadline_disarm(&s->deadlines, &j->patience);
no_patience:
	deadline_disarm(&s->deadlines, &j->deadline);
no_deadline:
	topics_drop_job(&s->topics, j, &s->deadlines);
	return -1;
}

/* ---- adapters ---- */

static enum wire_code core_code(int code)
{
	return code == CORE_EUNSUPPORTED || code == CORE_EFORMAT || code == CORE_EIO ? WIRE_UNSUPPORTED
	       : code == CORE_EINVAL                                                 ? WIRE_INVALID_ARGUMENT
										     : WIRE_INTERNAL;
}

/* Pins or orders what the draft names; the blend is there at once when all its adapters are. */
int server_take_adapters(struct server *s, struct job *j, struct draft *d, struct engine_job *work, struct problem *p)
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
bool server_other_blend(const struct job *j)
{
	return j->journal && j->journal->pinned[0] && strcmp(j->journal->pinned, j->blend) != 0;
}

void server_fail_blend(struct server *s, struct job *j)
{
	char why[256];
	snprintf(why, sizeof why, "its adapters are no longer those that it was accepted with: their sum was %.16s..., now it is %.16s...",
		 j->journal->pinned, j->blend);
	server_conclude(s, j, JOB_FAILED, wire_code_name(WIRE_CONFLICT), why);
}

void server_on_adapters(void *arg, struct adapter_use *use, const struct core_error *failed)
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
		server_conclude(s, j, JOB_FAILED, wire_code_name(core_code(failed->code)), failed->text);
		return;
	}
	snprintf(j->blend, sizeof j->blend, "%s", core_blend_digest(j->work->blend));
	if (j->journal && j->journal->admitting)
		return; /* it enters when it is in the store */
	if (server_other_blend(j)) {
		server_fail_blend(s, j);
		return;
	}
	server_stop_loading(s, j);
	if (queue_push(&s->queue, &j->entry))
		server_conclude(s, j, JOB_FAILED, wire_code_name(WIRE_INTERNAL), "out of memory");
}

void server_adapter_loaded(struct server *s, struct adapter_load *load)
{
	adapters_loaded(&s->adapters, load);
	server_start_next(s);
}

/* The draft's work becomes the job's. */
void server_take_work(struct job *j, struct draft *d)
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
struct job *server_make(struct server *s, struct draft *d, const char *identity, uint32_t pages, bool pin, struct problem *p)
{
	struct job *j = job_new(&s->jobs);
	problem_set(p, WIRE_INTERNAL, NULL, "out of memory");
	if (!j)
		return NULL;
	server_fill(s, j, d, identity, pages, clock_now());
	bool good = !d->work || j->score || (j->choices = calloc(j->n_choices, sizeof *j->choices));
	if (good && d->work && pin && server_take_adapters(s, j, d, d->work, p))
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

void server_note_accepted(struct server *s, const struct job *j)
{
	s->accepted++;
	log_line(LOG_AT_DEBUG, j->id, "accepted: %s, %s, priority %u, %" PRIu64 " prompt tokens, topic %.8s...", j->op,
		 j->entry.batch ? "batch" : "interactive", j->priority, j->prompt_tokens, j->topic);
}

int server_accept(struct server *s, struct draft *d, const char *identity, struct job **out, struct problem *p)
{
	uint32_t pages = server_weigh(s, d);
	if (admit(s, d, pages, p))
		return -1;
	struct job *j = server_make(s, d, identity, pages, true, p);
	if (!j)
		return -1;
	j->task = d->task;
	if (server_arm(s, j, d, j->accepted_at)) {
		j->task = NULL;
		server_unmake(s, j);
		return problem_set(p, WIRE_INTERNAL, NULL, "out of memory");
	}
	topics_find(&s->topics, j->topic)->gone.fire = server_on_gone;
	server_take_work(j, d);
	server_note_accepted(s, j);
	publish_queued(s, j, server_position(s, j));
	*out = j;
	return 0;
}
