/* jobs.c: each job's events in order, once, without a gap.
 *
 * Live events come through the answer socket. For each job the client knows the seq that is due: an older one is dropped, the one
 * that is due is handed out, a later one shows a gap. After a gap, after a reconnect and after a time of silence (the last event
 * may be the lost one) the job is asked for by `results`, which gives what is due in any case. */
#include "libweft.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

enum { CHECK_FIRST_MS = 2000, CHECK_MAX_MS = 30000, REPLAY_MIN_MS = 1000, REPLAY_MAX_MS = 5000 };

/* ---- events as structs ---- */

static const struct {
	const char *name;
	enum weft_event_kind kind;
} kinds[] = {
	{"queued", WEFT_EVENT_QUEUED}, {"started", WEFT_EVENT_STARTED},     {"progress", WEFT_EVENT_PROGRESS},
	{"delta", WEFT_EVENT_DELTA},   {"preempted", WEFT_EVENT_PREEMPTED}, {"resumed", WEFT_EVENT_RESUMED},
	{"done", WEFT_EVENT_DONE},     {"recovered", WEFT_EVENT_RECOVERED},
};

static uint64_t uint_at(const struct weft_reply *r, const char *path)
{
	uint64_t v;

	return weft_reply_uint(r, path, &v) ? v : 0;
}

static double float_at(const struct weft_reply *r, const char *path)
{
	double v;

	return weft_reply_float(r, path, &v) ? v : 0;
}

static const char *str_at(const struct weft_reply *r, const char *path)
{
	const char *s = weft_reply_str(r, path, NULL);

	return s != NULL ? s : "";
}

/* Tokens of an array, in the reply's zone. False: out of memory. What is no token ends the list. */
static bool take_tokens(struct weft_reply *r, const msgpack_object *array, const uint32_t **tokens, size_t *n)
{
	uint32_t *list;
	uint64_t v;

	*tokens = NULL;
	*n = 0;
	if (array == NULL || array->type != MSGPACK_OBJECT_ARRAY || array->via.array.size == 0)
		return true;
	list = msgpack_zone_malloc(&r->msg.zone, array->via.array.size * sizeof(*list));
	if (list == NULL)
		return false;
	while (*n < array->via.array.size && wire_get_uint(&array->via.array.ptr[*n], &v) && v <= UINT32_MAX)
		list[(*n)++] = (uint32_t)v;
	*tokens = list;
	return true;
}

static bool take_choices(struct weft_reply *r, struct weft_event *e)
{
	const msgpack_object *array = reply_at(r, "choices");
	struct weft_choice *list;
	size_t len;

	if (array == NULL || array->type != MSGPACK_OBJECT_ARRAY || array->via.array.size == 0)
		return true;
	list = msgpack_zone_malloc(&r->msg.zone, array->via.array.size * sizeof(*list));
	if (list == NULL)
		return false;
	for (uint32_t i = 0; i < array->via.array.size; i++) {
		const msgpack_object *o = &array->via.array.ptr[i];
		struct weft_choice *ch = &list[i];
		*ch = (struct weft_choice){.finish = "", .text = ""};
		wire_get_str(wire_get(o, "finish"), &ch->finish, &len);
		wire_get_str(wire_get(o, "text"), &ch->text, &ch->text_len);
		wire_get_float(wire_get(o, "logprob"), &ch->logprob);
		wire_get_bool(wire_get(o, "greedy"), &ch->greedy);
		if (!take_tokens(r, wire_get(o, "tokens"), &ch->tokens, &ch->n_tokens))
			return false;
	}
	e->choices = list;
	e->n_choices = array->via.array.size;
	return true;
}

/* Takes over the body. NULL: out of memory (the body is gone, too). */
static struct client_event *event_new(struct weft_reply *body)
{
	struct client_event *x = calloc(1, sizeof(*x));
	struct weft_event *e;

	if (x == NULL)
		goto fail;
	x->body = body;
	e = &x->event;
	e->body = body;
	e->text = e->state = e->error_code = e->error_message = "";
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (wire_is_cstr(reply_at(body, "event"), kinds[i].name))
			e->kind = kinds[i].kind;
	e->job = uint_at(body, "job");
	e->seq = uint_at(body, "seq");
	e->position = uint_at(body, "position");
	if (e->kind == WEFT_EVENT_PROGRESS) {
		e->done = uint_at(body, "done");
		e->total = uint_at(body, "total");
	} else if (e->kind == WEFT_EVENT_DELTA) {
		e->choice = (uint32_t)uint_at(body, "choice");
		wire_get_str(reply_at(body, "text"), &e->text, &e->text_len);
		if (!take_tokens(body, reply_at(body, "tokens"), &e->tokens, &e->n_tokens))
			goto fail;
	} else if (e->kind == WEFT_EVENT_DONE) {
		e->state = str_at(body, "state");
		e->prompt_tokens = uint_at(body, "usage.prompt_tokens");
		e->completion_tokens = uint_at(body, "usage.completion_tokens");
		e->cached_tokens = uint_at(body, "usage.cached_tokens");
		e->queued_ms = float_at(body, "timing.queued_ms");
		e->prefill_ms = float_at(body, "timing.prefill_ms");
		e->total_ms = float_at(body, "timing.total_ms");
		e->error_code = str_at(body, "error.code");
		e->error_message = str_at(body, "error.message");
		if (!take_choices(body, e))
			goto fail;
	}
	return x;
fail:
	weft_reply_free(body);
	free(x);
	return NULL;
}

static void event_free(struct client_event *x)
{
	if (x == NULL)
		return;
	weft_reply_free(x->body);
	free(x);
}

/* ---- jobs ---- */

static struct client_job *job_find(const struct weft_client *c, uint64_t id)
{
	struct client_job *j = c->jobs;

	while (j != NULL && j->id != id)
		j = j->next;
	return j;
}

static void job_forget(struct weft_client *c, uint64_t id)
{
	struct client_job **p = &c->jobs, *gone;

	while (*p != NULL && (*p)->id != id)
		p = &(*p)->next;
	gone = *p;
	if (gone == NULL)
		return;
	*p = gone->next;
	free(gone);
}

static void job_heard(struct client_job *j)
{
	j->check_after = CHECK_FIRST_MS;
	j->check_at = client_now() + j->check_after;
}

/* Queues the event that is due; takes over the body. */
static int deliver(struct weft_client *c, struct client_job *j, struct weft_reply *body)
{
	struct client_event *x = event_new(body);

	if (x == NULL)
		return client_fail(&c->error, WEFT_CLIENT_ENOMEM, "out of memory");
	if (c->last != NULL)
		c->last->next = x;
	else
		c->first = x;
	c->last = x;
	j->seq++;
	j->ended = x->event.kind == WEFT_EVENT_DONE;
	return 0;
}

/* One event body from the answer socket; taken over. */
static int receive_event(struct weft_client *c, struct weft_reply *body)
{
	struct client_job *j;
	uint64_t job, seq;
	int err = 0;

	if (wire_is_cstr(reply_at(body, "event"), "hello")) {
		c->subscribed = true;
	} else if (weft_reply_uint(body, "job", &job) && weft_reply_uint(body, "seq", &seq) && (j = job_find(c, job)) != NULL &&
		   !j->ended) {
		if (seq == j->seq) {
			job_heard(j);
			return deliver(c, j, body);
		}
		if (seq > j->seq)
			j->check_at = 0; /* a gap: ask at once */
	}
	weft_reply_free(body);
	return err;
}

int jobs_receive(struct weft_client *c)
{
	for (;;) {
		struct weft_reply *body = NULL;
		const char *why = "it is not [topic][body]";
		zmq_msg_t msg;
		int part = 0, more;
		do {
			zmq_msg_init(&msg);
			if (zmq_msg_recv(&msg, c->answer.socket, ZMQ_DONTWAIT) < 0) {
				zmq_msg_close(&msg);
				return 0;
			}
			more = zmq_msg_more(&msg);
			if (part++ == 1 && !more)
				body = reply_decode(zmq_msg_data(&msg), zmq_msg_size(&msg), &why);
			zmq_msg_close(&msg);
		} while (more);
		if (body == NULL)
			return client_fail(&c->error, WEFT_CLIENT_EPROTOCOL, "an event from %s cannot be read: %s",
					   c->answer.endpoint, why);
		int err = receive_event(c, body);
		if (err < 0)
			return err;
	}
}

/* Queues what `results` has from the due event on. */
static int take_results(struct weft_client *c, struct client_job *j, const struct weft_reply *reply)
{
	size_t n = weft_reply_count(reply, "events"), taken = 0;
	char path[64];
	int err = 0;

	for (size_t i = 0; i < n && err == 0 && !j->ended; i++) {
		uint64_t seq;
		snprintf(path, sizeof(path), "events.%zu.seq", i);
		if (!weft_reply_uint(reply, path, &seq) || seq != j->seq)
			continue;
		snprintf(path, sizeof(path), "events.%zu", i);
		struct weft_reply *body = weft_reply_copy(reply, path);
		err = body != NULL ? deliver(c, j, body) : client_fail(&c->error, WEFT_CLIENT_ENOMEM, "out of memory");
		taken++;
	}
	if (taken > 0) { /* there may be more: one reply is bounded */
		job_heard(j);
		j->check_at = client_now();
	} else {
		j->check_after = j->check_after * 2 < CHECK_MAX_MS ? j->check_after * 2 : CHECK_MAX_MS;
		j->check_at = client_now() + j->check_after;
	}
	return err;
}

static int replay(struct weft_client *c, struct client_job *j, int64_t deadline)
{
	int64_t now = client_now(), least = now + REPLAY_MIN_MS, most = now + REPLAY_MAX_MS;
	struct weft_request *r = weft_request_new("results");
	struct weft_reply *reply = NULL;
	uint64_t id = j->id;
	int err;

	if (r == NULL)
		return client_fail(&c->error, WEFT_CLIENT_ENOMEM, "out of memory");
	weft_request_uint(r, "job", id);
	weft_request_uint(r, "from", j->seq);
	err = client_exchange(c, r, NULL, &reply, deadline < least ? least : deadline > most ? most : deadline);
	weft_request_free(r);
	if (err == 0) {
		err = take_results(c, j, reply);
	} else if (err == WEFT_CLIENT_EREFUSED && !c->error.retry) {
		err = client_fail(&c->error, WEFT_CLIENT_ELOST,
				  "the rest of job %llu is lost: the server does not know it any more", (unsigned long long)id);
		job_forget(c, id);
	} else if (err == WEFT_CLIENT_EREFUSED || err == WEFT_CLIENT_ETIMEOUT || err == WEFT_CLIENT_EUNREACHABLE) {
		err = 0; /* later, then: the caller's timeout decides how long to hope */
		j->check_at = client_now() + j->check_after;
	}
	weft_reply_free(reply);
	return err;
}

/* After a reconnect events may have been lost; ask for every job soon. */
static void check_after_reconnect(struct weft_client *c)
{
	if (!c->answer.back)
		return;
	c->answer.back = false;
	for (struct client_job *j = c->jobs; j != NULL; j = j->next) {
		j->check_at = client_now();
		j->check_after = CHECK_FIRST_MS;
	}
}

static struct client_job *next_check(const struct weft_client *c)
{
	struct client_job *first = NULL;

	for (struct client_job *j = c->jobs; j != NULL; j = j->next)
		if (!j->ended && (first == NULL || j->check_at < first->check_at))
			first = j;
	return first;
}

static void hand_out(struct weft_client *c, const struct weft_event **event)
{
	c->current = c->first;
	c->first = c->current->next;
	if (c->first == NULL)
		c->last = NULL;
	*event = &c->current->event;
	if ((*event)->kind == WEFT_EVENT_DONE)
		job_forget(c, (*event)->job);
}

/* ---- public ---- */

int weft_client_next(struct weft_client *c, const struct weft_event **event, int timeout)
{
	int64_t deadline = client_deadline(timeout);

	event_free(c->current);
	c->current = NULL;
	*event = NULL;
	if (c->first == NULL && c->jobs == NULL)
		return client_fail(&c->error, WEFT_CLIENT_EINVAL, "this client has no job to wait for");
	for (bool last_look = false;;) {
		int err;
		if ((err = jobs_receive(c)) < 0)
			return err;
		if (c->first != NULL) {
			hand_out(c, event);
			return 0;
		}
		check_after_reconnect(c);
		struct client_job *j = next_check(c);
		if (j != NULL && j->check_at <= client_now()) {
			if ((err = replay(c, j, deadline)) < 0)
				return err;
			continue;
		}
		if (last_look)
			return client_fail(&c->error, WEFT_CLIENT_ETIMEOUT, "no event in time");
		err = client_wait(c, WAIT_ANSWER_IN, j != NULL && j->check_at < deadline ? j->check_at : deadline);
		if (err < 0)
			return err;
		last_look = client_now() >= deadline;
	}
}

int weft_client_submit(struct weft_client *c, const struct weft_request *r, uint64_t *job, struct weft_reply **reply, int timeout)
{
	int64_t deadline = client_deadline(timeout), left;
	struct weft_reply *accepted = NULL;
	struct client_job *j;
	int err;

	if (!c->subscribed && (err = weft_client_connect(c, NULL, timeout)) < 0)
		return err;
	j = calloc(1, sizeof(*j)); /* before the job exists: no failure may come after that */
	if (j == NULL)
		return client_fail(&c->error, WEFT_CLIENT_ENOMEM, "out of memory");
	left = deadline - client_now();
	err = client_exchange(c, r, c->topic, &accepted, left > 0 ? deadline : client_now());
	if (err == 0 && !weft_reply_uint(accepted, "job", &j->id))
		err = client_fail(&c->error, WEFT_CLIENT_EPROTOCOL, "%s accepted a job and did not name it", c->request.endpoint);
	if (err < 0) {
		weft_reply_free(accepted);
		free(j);
		return err;
	}
	job_heard(j);
	if (weft_reply_has(accepted, "existing"))
		j->check_at = client_now(); /* what it said so far was said before we listened */
	j->next = c->jobs;
	c->jobs = j;
	*job = j->id;
	if (reply != NULL)
		*reply = accepted;
	else
		weft_reply_free(accepted);
	return 0;
}

size_t weft_client_jobs(const struct weft_client *c)
{
	size_t n = 0;

	for (const struct client_job *j = c->jobs; j != NULL; j = j->next)
		n++;
	return n;
}

int weft_client_cancel(struct weft_client *c, uint64_t job, int timeout)
{
	struct weft_request *r = weft_request_new("cancel");
	int err;

	if (r == NULL)
		return client_fail(&c->error, WEFT_CLIENT_ENOMEM, "out of memory");
	weft_request_uint(r, "job", job);
	err = weft_client_call(c, r, NULL, timeout);
	weft_request_free(r);
	return err;
}

void jobs_finish(struct weft_client *c)
{
	struct client_event *x;

	event_free(c->current);
	c->current = NULL;
	while ((x = c->first) != NULL) {
		c->first = x->next;
		event_free(x);
	}
	c->last = NULL;
	while (c->jobs != NULL)
		job_forget(c, c->jobs->id);
}
