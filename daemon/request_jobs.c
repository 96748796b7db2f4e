/* request_jobs.c: operations on jobs. A job is in memory, in the store, or both: then memory knows better, until its end is on
 * disk. */
#include "publish.h"
#include "request_ops.h"
#include "saved.h"
#include <stdlib.h>
#include <string.h>

int request_oom(struct request *r)
{
	return problem_set(&r->problem, WIRE_INTERNAL, NULL, "out of memory");
}

/* ---- waiting for the store ---- */

static void on_result(struct store_op *op, void *arg)
{
	struct request *r = arg;
	store_op_free(r->result);
	r->result = op;
	r->waiting = false;
	r->ready(r);
}

int request_wait(struct request *r, struct server *s, struct store_op *op, request_step *step)
{
	if (!op)
		return request_oom(r);
	op->done = on_result;
	op->arg = r;
	r->waiting = true;
	r->step = step;
	store_submit(s->durable.store, op);
	return 0;
}

struct store_op *request_op(struct request *r, enum store_kind kind)
{
	struct store_op *op = store_op_new(kind, NULL, NULL);
	if (op)
		snprintf(op->identity, sizeof op->identity, "%s", r->identity);
	return op;
}

/* The result, or -1 with the problem of a failed op. */
static int result_of(struct request *r)
{
	if (r->result->code == STORE_OK)
		return 0;
	durable_problem(&r->problem, r->result->code, r->result->text);
	if (r->result->code == STORE_CONFLICT)
		snprintf(r->problem.field, sizeof r->problem.field, "job");
	return -1;
}

/* ---- finding ---- */

int request_job_id(struct request *r, uint64_t *id)
{
	const msgpack_object *o = field(r, "job");
	return wire_get_uint(o, id) ? 0 : problem_type(&r->problem, "job", "the number of a job", o);
}

static int no_job(struct request *r)
{
	return problem_set(&r->problem, WIRE_NOT_FOUND, "job", "no such job, or it was forgotten");
}

static int not_yours(struct request *r)
{
	return problem_set(&r->problem, WIRE_UNAUTHORIZED, "job", "the job belongs to another client");
}

static bool here(const struct job *j)
{
	return !j->journal || (!j->journal->admitting && !j->journal->lost);
}

struct job *request_find(struct request *r, const struct server *s, uint64_t id)
{
	struct job *j = job_find(&s->jobs, id);
	if (j && here(j) && strcmp(j->identity, r->identity) == 0)
		return j;
	if (j && here(j))
		not_yours(r);
	else if (!s->durable.store)
		no_job(r);
	return NULL;
}

/* Asks the store for the row of a job that is not here, and goes on in `step` with r->result->views[0]. */
static int view(struct request *r, struct server *s, uint64_t id, request_step *step)
{
	struct store_op *op;
	if (r->problem.code != WIRE_OK)
		return -1;
	op = request_op(r, STORE_OP_VIEW);
	if (op)
		op->job = id;
	return request_wait(r, s, op, step);
}

/* NULL with the problem. */
static const struct store_view *viewed(struct request *r)
{
	if (result_of(r))
		return NULL;
	if (r->result->n_out == 0) {
		no_job(r);
		return NULL;
	}
	if (strcmp(r->result->views[0].identity, r->identity) != 0) {
		not_yours(r);
		return NULL;
	}
	return &r->result->views[0];
}

/* ---- job ---- */

const char *request_state_name(int state)
{
	static const enum job_state states[STORE_STATES] = {
		[STORE_QUEUED] = JOB_QUEUED,   [STORE_DELAYED] = JOB_DELAYED,     [STORE_BURIED] = JOB_BURIED,
		[STORE_RUNNING] = JOB_RUNNING, [STORE_DONE] = JOB_DONE,           [STORE_FAILED] = JOB_FAILED,
		[STORE_DEAD] = JOB_DEAD,       [STORE_CANCELLED] = JOB_CANCELLED, [STORE_EXPIRED] = JOB_EXPIRED};
	return state >= 0 && state < STORE_STATES ? job_state_name(states[state]) : "unknown";
}

static void put_times(struct wire_buf *b, int64_t age, int64_t queued, int64_t running)
{
	pair_uint(b, "age_ms", (uint64_t)(age > 0 ? age : 0));
	pair_uint(b, "queued_ms", (uint64_t)(queued > 0 ? queued : 0));
	pair_uint(b, "running_ms", (uint64_t)(running > 0 ? running : 0));
}

/* A task has no decoder and no tokens. */
static void put_job(const struct server *s, const struct job *j, struct wire_buf *b)
{
	int64_t now = clock_now();
	int64_t running = j->running_ns + (j->running_since ? now - j->running_since : 0);
	int64_t queued = (j->ended_at ? j->ended_at : now) - j->accepted_at - running;
	const struct journal *g = j->journal;
	pair_uint(b, "job", j->id);
	pair_str(b, "state", job_state_name(server_state_of(j)));
	pair_str(b, "op", j->op);
	pair_str(b, "class", j->class == CLASS_BATCH ? "batch" : "interactive");
	pair_uint(b, "priority", j->priority);
	pair_str(b, "topic", j->topic);
	put_times(b, (now - j->accepted_at) / 1000000, queued / 1000000, running / 1000000);
	pair_uint(b, "seq", g ? g->n_public : j->n_events);
	if (j->decoder[0]) {
		pair_str(b, "decoder", j->decoder);
		pair_uint(b, "prompt_tokens", j->prompt_tokens);
		pair_uint(b, "completion_tokens", j->completion_tokens);
	}
	if (!g)
		return;
	pair_bool(b, "durable", true);
	pair_str(b, "owner", s->durable.owner);
	pair_uint(b, "attempt", g->attempt);
	pair_uint(b, "crashes", g->crashes);
}

static size_t job_pairs(const struct job *j)
{
	return (j->decoder[0] ? 13 : 10) + (j->journal ? 4 : 0);
}

static size_t view_pairs(const struct store_view *v)
{
	return 16 + (v->reason[0] != 0) + 2 * (v->batch != 0) + (v->custom_id[0] != 0);
}

static void put_view(const struct store_view *v, struct wire_buf *b)
{
	int64_t now = wall_now(), end = v->ended_at ? v->ended_at : now, start = v->started_at ? v->started_at : end;
	pair_uint(b, "job", v->id);
	pair_str(b, "state", request_state_name(v->state));
	pair_str(b, "op", v->op);
	pair_str(b, "class", v->batch_class ? "batch" : "interactive");
	pair_uint(b, "priority", v->priority);
	pair_str(b, "topic", v->topic);
	put_times(b, now - v->accepted_at, start - v->accepted_at, end - start);
	pair_uint(b, "seq", v->n_events);
	pair_uint(b, "prompt_tokens", v->prompt_tokens);
	pair_uint(b, "completion_tokens", v->completion_tokens);
	pair_bool(b, "durable", true);
	pair_str(b, "owner", v->owner);
	pair_uint(b, "attempt", v->attempt);
	pair_uint(b, "crashes", v->crashes);
	if (v->batch) {
		pair_uint(b, "batch", v->batch);
		pair_uint(b, "row", v->row);
	}
	if (v->custom_id[0])
		pair_str(b, "custom_id", v->custom_id);
	if (v->reason[0]) {
		wire_str(b, "error");
		wire_map(b, 2);
		pair_str(b, "code", v->reason_code);
		pair_str(b, "message", v->reason);
	}
}

static int job_viewed(struct request *r, struct server *s, struct wire_buf *b)
{
	const struct store_view *v = viewed(r);
	if (!v)
		return -1;
	put_head(r, b, true, view_pairs(v));
	put_view(v, b);
	return 0;
}

int answer_job(struct request *r, struct server *s, struct wire_buf *b)
{
	uint64_t id;
	if (request_job_id(r, &id))
		return -1;
	struct job *j = request_find(r, s, id);
	if (!j)
		return view(r, s, id, job_viewed);
	put_head(r, b, true, job_pairs(j));
	put_job(s, j, b);
	return 0;
}

/* ---- jobs ---- */

struct filter {
	int state, class; /* -1: any */
	uint64_t limit, after;
};

static int read_filter(struct request *r, struct filter *f)
{
	const msgpack_object *state = field(r, "state"), *class = field(r, "class"), *limit = field(r, "limit"),
			     *after = field(r, "after");
	const char *name = "";
	size_t len = 0;
	*f = (struct filter){.state = -1, .class = -1, .limit = 100};
	if (state && (!wire_get_str(state, &name, &len) || (f->state = job_state_parse(name, len)) < 0))
		return problem_set(&r->problem, WIRE_INVALID_ARGUMENT, "state", "expected the name of a state");
	if (class) {
		f->class = wire_is_cstr(class, "batch") ? CLASS_BATCH : CLASS_INTERACTIVE;
		if (f->class == CLASS_INTERACTIVE && !wire_is_cstr(class, "interactive"))
			return problem_set(&r->problem, WIRE_INVALID_ARGUMENT, "class", "expected \"interactive\" or \"batch\"");
	}
	if (limit && (!wire_get_uint(limit, &f->limit) || f->limit < 1 || f->limit > JOBS_MAX))
		return problem_set(&r->problem, WIRE_INVALID_ARGUMENT, "limit", "must be from 1 to %d", JOBS_MAX);
	if (after && !wire_get_uint(after, &f->after))
		return problem_type(&r->problem, "after", "the number of a job", after);
	return 0;
}

static enum job_state state_of_view(int state)
{
	const char *name = request_state_name(state);
	return (enum job_state)job_state_parse(name, strlen(name));
}

/* Rows of the store, and jobs of memory, in the order of their numbers. */
struct listing {
	const struct job *jobs[JOBS_MAX];
	const struct store_view *views[JOBS_MAX];
	size_t n_jobs, n_views;
	uint64_t counts[JOB_N_STATES];
};

/* What memory has is left to memory. The last number that is surely complete. */
static uint64_t take_views(const struct server *s, const struct store_op *op, const struct filter *f, struct listing *l)
{
	for (int i = 0; i < STORE_STATES; i++)
		l->counts[state_of_view(i)] += op->counts[i];
	for (size_t i = 0; i < op->n_out; i++) {
		const struct job *j = job_find(&s->jobs, op->views[i].id);
		if (j && here(j))
			continue;
		l->views[l->n_views++] = &op->views[i];
		if (l->n_views == f->limit)
			return op->views[i].id;
	}
	return op->n_out && op->n_out == op->filter.limit ? op->views[op->n_out - 1].id : UINT64_MAX;
}

static void take_jobs(const struct request *r, const struct server *s, const struct filter *f, uint64_t last, bool stored,
		      struct listing *l)
{
	const struct job *j;
	TAILQ_FOREACH(j, &s->jobs.all, by_id)
	{
		if (!here(j) || strcmp(j->identity, r->identity) != 0)
			continue;
		enum job_state state = server_state_of(j);
		l->counts[state]++;
		if (j->journal && stored && l->counts[JOB_RUNNING])
			l->counts[JOB_RUNNING]--; /* the store counts all that are held so */
		if (j->id > f->after && j->id <= last && l->n_jobs < f->limit && (f->state < 0 || (int)state == f->state) &&
		    (f->class < 0 || (int)j->class == f->class))
			l->jobs[l->n_jobs++] = j;
	}
}

static void put_listing(const struct request *r, const struct server *s, const struct filter *f, const struct listing *l,
			bool partial, struct wire_buf *b)
{
	size_t n = l->n_jobs + l->n_views < f->limit ? l->n_jobs + l->n_views : f->limit;
	put_head(r, b, true, 2 + partial);
	wire_str(b, "jobs");
	wire_array(b, n);
	for (size_t i = 0, v = 0; i + v < n;) {
		bool job = i < l->n_jobs && (v == l->n_views || l->jobs[i]->id < l->views[v]->id);
		wire_map(b, job ? job_pairs(l->jobs[i]) : view_pairs(l->views[v]));
		if (job)
			put_job(s, l->jobs[i++], b);
		else
			put_view(l->views[v++], b);
	}
	wire_str(b, "counts");
	wire_map(b, JOB_N_STATES);
	for (int i = 0; i < JOB_N_STATES; i++)
		pair_uint(b, job_state_name(i), l->counts[i]);
	if (partial)
		pair_bool(b, "partial", true);
}

static int jobs_listed(struct request *r, struct server *s, struct wire_buf *b)
{
	bool partial = r->result && r->result->code != STORE_OK;
	struct listing *l = calloc(1, sizeof *l);
	struct filter f;
	if (!l)
		return request_oom(r);
	read_filter(r, &f);
	bool stored = r->result && !partial;
	uint64_t last = stored ? take_views(s, r->result, &f, l) : UINT64_MAX;
	take_jobs(r, s, &f, last, stored, l);
	put_listing(r, s, &f, l, partial, b);
	free(l);
	return 0;
}

int answer_jobs(struct request *r, struct server *s, struct wire_buf *b)
{
	static const int states[JOB_N_STATES] = {
		[JOB_QUEUED] = STORE_QUEUED,      [JOB_RUNNING] = STORE_RUNNING, [JOB_PREEMPTED] = -2,
		[JOB_DELAYED] = STORE_DELAYED,    [JOB_BURIED] = STORE_BURIED,   [JOB_DONE] = STORE_DONE,
		[JOB_FAILED] = STORE_FAILED,      [JOB_EXPIRED] = STORE_EXPIRED, [JOB_DEAD] = STORE_DEAD,
		[JOB_CANCELLED] = STORE_CANCELLED};
	struct filter f;
	if (read_filter(r, &f))
		return -1;
	if (!s->durable.store)
		return jobs_listed(r, s, b);
	struct store_op *op = request_op(r, STORE_OP_LIST);
	if (op) {
		op->filter.state = f.state < 0 ? -1 : states[f.state] == -2 ? STORE_RUNNING : states[f.state];
		op->filter.batch_class = f.class < 0 ? -1 : f.class == CLASS_BATCH;
		op->filter.after = f.after;
		op->filter.limit = (uint32_t)f.limit + s->durable.held[0] + s->durable.held[1];
	}
	return request_wait(r, s, op, jobs_listed);
}

/* ---- results ---- */

static int put_results(struct request *r, const struct job *j, uint64_t from, struct wire_buf *b)
{
	size_t n = j->journal ? j->journal->n_public : j->n_events;
	size_t first = from < n ? (size_t)from : n, next = first, bytes = 0;
	while (next < n && (next == first || bytes + j->events[next].len <= RESULTS_MAX))
		bytes += j->events[next++].len;
	put_head(r, b, true, 4);
	pair_uint(b, "job", j->id);
	pair_str(b, "state", job_state_name(server_state_of(j)));
	wire_str(b, "events");
	wire_array(b, next - first);
	for (size_t i = first; i < next; i++)
		wire_raw(b, j->events[i].data, j->events[i].len);
	pair_uint(b, "next", from > next ? from : next);
	return 0;
}

static bool is_done(const void *event, size_t len)
{
	struct wire_msg m;
	const char *why;
	if (wire_decode(&m, event, len, &why))
		return false;
	bool done = wire_is_cstr(wire_get(&m.root, "event"), "done");
	wire_finish(&m);
	return done;
}

/* Is the last event of the chunk the last one of all? */
static bool ends_with_done(const struct store_op *op)
{
	const void *at = op->events.data, *event, *last = NULL;
	size_t left = op->events.len, n, len = 0;
	while ((event = journal_chunk_next(&at, &left, &n))) {
		last = event;
		len = n;
	}
	return last && is_done(last, len);
}

static request_step end_looked_for;

static int ask_events(struct request *r, struct server *s, uint64_t id, uint64_t from, request_step *step)
{
	struct store_op *op = request_op(r, STORE_OP_EVENTS);
	if (op) {
		op->job = id;
		op->from = from > UINT32_MAX ? UINT32_MAX : (uint32_t)from;
		op->max_bytes = RESULTS_MAX;
	}
	return request_wait(r, s, op, step);
}

/* unheld: the job ended in the store alone, and its last event is made up here. */
static int put_chunk(struct request *r, uint64_t from, bool unheld, struct wire_buf *b)
{
	const struct store_op *op = r->result;
	const void *at = op->events.data, *event;
	size_t left = op->events.len, n;
	put_head(r, b, true, 4);
	pair_uint(b, "job", op->job);
	pair_str(b, "state", request_state_name(op->state));
	wire_str(b, "events");
	wire_array(b, op->n_events + unheld);
	while ((event = journal_chunk_next(&at, &left, &n)))
		wire_raw(b, event, n);
	if (unheld)
		publish_write_unheld_end(b, op->job, op->first, op->state, op->reason_code, op->reason);
	uint64_t next = (uint64_t)op->from + op->n_events + unheld;
	pair_uint(b, "next", from > next ? from : next);
	return 0;
}

static int events_read(struct request *r, struct server *s, struct wire_buf *b)
{
	const struct store_op *op = r->result;
	uint64_t from = 0;
	wire_get_uint(field(r, "from"), &from);
	if (result_of(r))
		return -1;
	bool at_end = store_state_final((enum store_state)op->state) && (uint64_t)op->from + op->n_events >= op->first;
	if (!at_end || from > op->first || ends_with_done(op))
		return put_chunk(r, from, false, b);
	if (op->n_events == 0 && op->first > 0)
		return ask_events(r, s, op->job, op->first - 1, end_looked_for);
	return put_chunk(r, from, true, b);
}

/* The client has all events of the store: is `done` among them? */
static int end_looked_for(struct request *r, struct server *s, struct wire_buf *b)
{
	struct store_op *op = r->result;
	if (result_of(r))
		return -1;
	bool unheld = !ends_with_done(op);
	free(op->events.data);
	op->events = (struct store_bytes){0};
	op->from = (uint32_t)op->first;
	op->n_events = 0;
	return put_chunk(r, op->first, unheld, b);
}

int answer_results(struct request *r, struct server *s, struct wire_buf *b)
{
	const msgpack_object *o = field(r, "from");
	uint64_t from = 0, id;
	if (request_job_id(r, &id))
		return -1;
	if (o && !wire_get_uint(o, &from))
		return problem_type(&r->problem, "from", "an unsigned integer", o);
	struct job *j = request_find(r, s, id);
	if (j)
		return put_results(r, j, from, b);
	return r->problem.code != WIRE_OK ? -1 : ask_events(r, s, id, from, events_read);
}

/* ---- verbs ---- */

static int put_verb(struct request *r, uint64_t id, const char *state, const char *result, struct wire_buf *b)
{
	put_head(r, b, true, result ? 3 : 1);
	pair_uint(b, "job", id);
	if (result) {
		pair_str(b, "state", state);
		pair_str(b, "result", result);
	}
	return 0;
}

static const char *verb_word(enum store_verb verb)
{
	static const char *const words[] = {[STORE_CANCEL] = "cancelled",
					    [STORE_BURY] = "buried",
					    [STORE_KICK] = "kicked",
					    [STORE_DELAY] = "delayed",
					    [STORE_TOUCH] = "touched"};
	return words[verb];
}

/* r->result is the op of the verb; r->count is the state before it, r->held whether it was there at all. */
static int verb_done(struct request *r, struct server *s, struct wire_buf *b)
{
	struct store_op *op = r->result;
	if (result_of(r))
		return -1;
	if (op->verb == STORE_CLOSE)
		return put_verb(r, op->job, NULL, NULL, b);
	bool same = (int)r->count == op->state && !op->held && op->verb != STORE_TOUCH && op->verb != STORE_DELAY;
	if (op->verb == STORE_TOUCH && !store_state_final((enum store_state)op->state))
		same = true;
	if (op->verb == STORE_CANCEL && op->state == STORE_CANCELLED && !same)
		publish_unheld_end(s, r->text, op->job, r->n_tokens, op->state, "", "");
	if (op->verb == STORE_KICK || op->verb == STORE_DELAY)
		durable_want(s);
	return put_verb(r, op->job, request_state_name(op->state), same ? "noop" : op->held ? "ordered" : verb_word(op->verb), b);
}

static enum store_verb verb_of(const struct request *r)
{
	static const struct {
		const char *name;
		enum store_verb verb;
	} rows[] = {{"cancel", STORE_CANCEL}, {"bury", STORE_BURY},   {"kick", STORE_KICK},
		    {"delay", STORE_DELAY},   {"touch", STORE_TOUCH}, {"close", STORE_CLOSE}};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (strcmp(r->op->name, rows[i].name) == 0)
			return rows[i].verb;
	return 0;
}

static int read_delay(struct request *r, int64_t *run_at)
{
	const msgpack_object *o = field(r, "delay_ms");
	uint64_t ms;
	if (!wire_get_uint(o, &ms))
		return problem_type(&r->problem, "delay_ms", "an unsigned integer", o);
	if (ms < 1 || ms > 604800000)
		return problem_set(&r->problem, WIRE_INVALID_ARGUMENT, "delay_ms", "must be from 1 to 604800000");
	*run_at = wall_now() + (int64_t)ms;
	return 0;
}

static int verb_viewed(struct request *r, struct server *s, struct wire_buf *b)
{
	const struct store_view *v = viewed(r);
	enum store_verb verb = verb_of(r);
	int64_t run_at = 0;
	if (!v || (verb == STORE_DELAY && read_delay(r, &run_at)))
		return -1;
	r->count = v->state;
	r->n_tokens = v->n_events;
	r->text = strdup(v->topic);
	struct store_op *op = r->text ? request_op(r, STORE_OP_VERB) : NULL;
	if (op) {
		op->job = v->id;
		op->verb = verb;
		op->run_at = run_at;
	}
	return request_wait(r, s, op, verb_done);
}

/* The job of a verb, when it is here. Else *j is NULL and what is returned is the answer: a problem, or the store is asked. */
static int verb_here(struct request *r, struct server *s, struct job **j)
{
	uint64_t id;
	*j = NULL;
	if (request_job_id(r, &id))
		return -1;
	*j = request_find(r, s, id);
	return *j ? 0 : view(r, s, id, verb_viewed);
}

int answer_cancel(struct request *r, struct server *s, struct wire_buf *b)
{
	struct job *j;
	int rc = verb_here(r, s, &j);
	if (!j)
		return rc;
	bool ended = server_end(s, j, WHY_CANCEL);
	return put_verb(r, j->id, job_state_name(server_state_of(j)), ended ? "cancelled" : "noop", b);
}

int answer_close(struct request *r, struct server *s, struct wire_buf *b)
{
	struct job *j;
	int rc = verb_here(r, s, &j);
	if (!j)
		return rc;
	if (j->journal || !job_state_final(j->state))
		return problem_set(&r->problem, WIRE_CONFLICT, "job", "the job is %s: only an ended job can be closed",
				   job_state_name(server_state_of(j)));
	put_verb(r, j->id, NULL, NULL, b);
	server_forget(s, j);
	return 0;
}

/* Gives a job that is here back to the store. */
static int leave(struct request *r, struct server *s, int state, int64_t run_at, struct wire_buf *b)
{
	struct job *j;
	int rc = verb_here(r, s, &j);
	if (!j)
		return rc;
	if (!j->journal)
		return problem_set(&r->problem, WIRE_CONFLICT, "job", "only a durable job can be buried or delayed");
	if (job_state_final(j->state))
		return problem_set(&r->problem, WIRE_CONFLICT, "job", "the job is at its end");
	server_leave(s, j, state, run_at);
	return put_verb(r, j->id, job_state_name(server_state_of(j)), state == STORE_BURIED ? "buried" : "delayed", b);
}

int answer_bury(struct request *r, struct server *s, struct wire_buf *b)
{
	return leave(r, s, STORE_BURIED, 0, b);
}

int answer_delay(struct request *r, struct server *s, struct wire_buf *b)
{
	int64_t run_at;
	return read_delay(r, &run_at) ? -1 : leave(r, s, STORE_DELAYED, run_at, b);
}

/* kick and touch of a job that is here: it waits or runs already, and its retention has not begun. */
static int leave_alone(struct request *r, struct server *s, struct wire_buf *b)
{
	struct job *j;
	int rc = verb_here(r, s, &j);
	if (!j)
		return rc;
	if (!j->journal)
		return problem_set(&r->problem, WIRE_CONFLICT, "job", "only a durable job can be kicked or touched");
	return put_verb(r, j->id, job_state_name(server_state_of(j)), "noop", b);
}

int answer_kick(struct request *r, struct server *s, struct wire_buf *b)
{
	return leave_alone(r, s, b);
}

int answer_touch(struct request *r, struct server *s, struct wire_buf *b)
{
	return leave_alone(r, s, b);
}

/* ---- durable generate and score ---- */

static int existing(struct request *r, uint64_t id, const char *state, const char *topic, struct wire_buf *b)
{
	put_head(r, b, true, 5);
	pair_uint(b, "job", id);
	pair_bool(b, "existing", true);
	pair_str(b, "state", state);
	pair_str(b, "topic", topic);
	pair_bool(b, "durable", true);
	return 0;
}

static int existing_viewed(struct request *r, struct server *s, struct wire_buf *b)
{
	const struct store_view *v = viewed(r);
	return v ? existing(r, v->id, request_state_name(v->state), v->topic, b) : -1;
}

/* The key is known: the answer is the job that has it. Its events from here on go to this client's topic, too, if it is here. */
static int attach(struct request *r, struct server *s, uint64_t id, struct wire_buf *b)
{
	struct job *j = request_find(r, s, id);
	if (!j)
		return view(r, s, id, existing_viewed);
	journal_also(j, r->draft.topic);
	return existing(r, id, job_state_name(server_state_of(j)), j->topic, b);
}

static int refuse(struct request *r, struct server *s, int code, const char *text)
{
	if (code == STORE_CONFLICT)
		return problem_set(&r->problem, WIRE_CONFLICT, "key", "the key stands for another request");
	s->rejected++;
	return durable_problem(&r->problem, code, text);
}

static int durable_added(struct request *r, struct server *s, struct wire_buf *b)
{
	struct job *j = job_find(&s->jobs, r->job);
	const struct store_op *op = r->result;
	int code = op->code != STORE_OK ? op->code : op->add[0].code;
	uint64_t known = code == STORE_OK ? op->add[0].existing : 0;
	if (code != STORE_OK || known) {
		server_unmake(s, j);
		return code != STORE_OK ? refuse(r, s, code, op->text) : attach(r, s, known, b);
	}
	put_accepted(r, s, j, b);
	server_enter_durable(s, j, &r->draft, r->held);
	server_schedule(s);
	return 0;
}

int answer_durable(struct request *r, struct server *s, struct wire_buf *b)
{
	const struct draft *d = &r->draft;
	struct job *j;
	if (server_make_durable(s, &r->draft, r->identity, &j, &r->held, &r->problem))
		return -1;
	r->job = j->id;
	struct store_op *op = durable_add(s, j, d, r->held, d->delay_ms ? wall_now() + (int64_t)d->delay_ms : 0);
	if (!op)
		server_unmake(s, j);
	return request_wait(r, s, op, durable_added);
}
