/* durable.c: everything that goes on between the daemon and its store without a client asking for it. */
#include "durable.h"
#include "conf.h"
#include "log.h"
#include "publish.h"
#include "request.h"
#include "saved.h"
#include "server.h"
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	IDS = 1 << 16,              /* numbers in one block; a second one is fetched before the first is used up */
	BOOT_MS = 30000,            /* for the first block */
	TAKE = 256,                 /* finished ops of one round */
	TICK_MS = 1000,
	SWEEP_MS = 60000, SWEEP = 1000, /* ended jobs that are forgotten at once */
	WATCH_MS = 2000, WATCH_TOPICS = 4096,
	BACKLOG = 64 << 20          /* bytes of events that may wait for the disk: then durable jobs are parked */
};

int64_t wall_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

uint64_t durable_token(void)
{
	uint64_t token;
	do
		randombytes_buf(&token, sizeof token);
	while ((token >>= 1) == 0); /* databases count with a sign */
	return token;
}

int durable_problem(struct problem *p, int code, const char *text)
{
	switch (code) {
	case STORE_NOTFOUND:
		return problem_set(p, WIRE_NOT_FOUND, "job", "no such job, or it was forgotten");
	case STORE_CONFLICT:
		return problem_set(p, WIRE_CONFLICT, NULL, "%s", text[0] ? text : "the state does not allow it");
	case STORE_EFULL:
	case STORE_EDOWN:
		problem_set(p, WIRE_OVERLOADED, NULL, "the store cannot be %s just now: %s", code == STORE_EFULL ? "written" : "reached", text);
		p->retry_after_ms = 5000;
		return -1;
	default:
		return problem_set(p, WIRE_INTERNAL, NULL, "the store: %s", text[0] ? text : "it failed");
	}
}

/* ---- begin and end ---- */

static void on_store_log(void *arg, int level, const char *text)
{
	log_line((enum log_level)level, 0, "store: %s", text);
}

struct first_ids {
	bool done;
	int code;
	uint64_t first;
	char text[STORE_TEXT];
};

static void on_first_ids(struct store_op *op, void *arg)
{
	struct first_ids *f = arg;
	*f = (struct first_ids){.done = true, .code = op->code, .first = op->first};
	memcpy(f->text, op->text, sizeof f->text);
	store_op_free(op);
}

static int first_ids(struct store *store, struct first_ids *f)
{
	struct store_op *op = store_op_new(STORE_OP_IDS, on_first_ids, f);
	if (!op)
		return -1;
	op->n[0] = IDS;
	store_submit(store, op);
	for (int ms = 0; !f->done && ms < BOOT_MS; ms++) {
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
		store_take(store, 1, NULL);
	}
	return f->done && f->code == STORE_OK ? 0 : -1;
}

static int open_code(int code)
{
	return code == STORE_EBROKEN ? EXIT_CONFIG : EXIT_CANTBIND; /* the second may pass: a restart tries again */
}

int durable_open(struct durable *d, uint64_t ids[static 2], const struct conf *c, const char *model, void (*wake)(void *arg), void *arg,
		 char *why, size_t why_size)
{
	char host[64] = "", url[4200], text[STORE_TEXT] = "";
	struct first_ids f = {0};
	gethostname(host, sizeof host - 1);
	snprintf(d->owner, sizeof d->owner, "%s:%d:%08x", host, (int)getpid(), randombytes_random());
	snprintf(d->model, sizeof d->model, "%s", model);
	if (strcmp(c->store, "auto") == 0)
		snprintf(url, sizeof url, "sqlite:%s/weft.db", c->state);
	else
		snprintf(url, sizeof url, "%s", c->store);
	struct store_params p = {.url = url,
				 .owner = d->owner,
				 .model = d->model,
				 .lease_ms = c->store_lease,
				 .wake = wake,
				 .log = on_store_log,
				 .arg = arg};
	int code = store_open(&d->store, &p, text);
	if (code) {
		d->store = NULL;
		snprintf(why, why_size, "store: %s", text);
		return open_code(code);
	}
	if (first_ids(d->store, &f)) {
		snprintf(why, why_size, "store: %s", f.text[0] ? f.text : "it does not answer");
		store_close(d->store);
		d->store = NULL;
		return open_code(f.code);
	}
	ids[0] = f.first;
	ids[1] = f.first + IDS;
	return 0;
}

static void on_tick(struct deadline *t, void *arg);

void durable_init(struct server *s)
{
	struct durable *d = &s->durable;
	TAILQ_INIT(&d->dirty);
	if (!d->store)
		return;
	d->epoch_ms = wall_now() - clock_now() / 1000000;
	d->hungry = true;
	d->tick.fire = on_tick;
	deadline_arm(&s->deadlines, &d->tick, clock_now());
}

void durable_close(struct server *s)
{
	if (!s->durable.store)
		return;
	journal_flush(s);
	s->durable.closing = true;
	store_close(s->durable.store);
	s->durable.store = NULL;
}

/* ---- numbers ---- */

static void on_ids(struct store_op *op, void *arg)
{
	struct server *s = arg;
	struct jobs *t = &s->jobs;
	s->durable.asking = false;
	if (op->code == STORE_OK && op->n[0] == IDS)
		jobs_add_ids(t, op->first, op->first + IDS);
	store_op_free(op);
}

static void ask_ids(struct server *s)
{
	struct durable *d = &s->durable;
	struct store_op *op;
	bool probe = d->away && d->health.waiting == 0; /* nothing else would find out that the store is back */
	bool enough = jobs_ids_left(&s->jobs) >= IDS;
	if (d->asking || (enough && !probe))
		return;
	op = store_op_new(STORE_OP_IDS, on_ids, s);
	if (!op)
		return;
	op->n[0] = enough ? 1 : IDS;
	d->asking = true;
	store_submit(d->store, op);
}

/* ---- claims ---- */

void durable_want(struct server *s)
{
	s->durable.hungry = true;
}

static void free_row(struct store_job *r)
{
	char *const texts[] = {r->identity, r->topic, r->op, r->key, r->custom_id};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		free(texts[i]);
	free(r->request.data);
	free(r->events.data);
	free(r->checkpoint.data);
}

static void on_returned(struct store_op *op, void *arg)
{
	store_op_free(op);
}

static void return_row(struct server *s, const struct store_job *r)
{
	struct store_op *op = store_op_new(STORE_OP_RELEASE, on_returned, s);
	if (!op)
		return;
	op->stubborn = true;
	op->job = r->id;
	op->token = r->token;
	op->state = STORE_QUEUED;
	store_submit(s->durable.store, op);
}

static void free_revival(struct revival *v)
{
	if (v->request)
		request_finish(v->request);
	free(v->request);
	free_row(&v->row);
	free(v);
}

/* A row whose sender could not make a request of it fails with the words of its sender. */
static void take_refusal(struct request *r)
{
	const char *why, *code, *message;
	size_t code_len, len;
	struct wire_msg m;
	if (wire_decode(&m, r->data, r->size, &why)) {
		problem_set(&r->problem, WIRE_INTERNAL, NULL, "%s", why);
		return;
	}
	if (wire_get_str(wire_get(&m.root, "code"), &code, &code_len) && wire_get_str(wire_get(&m.root, "message"), &message, &len))
		problem_set(&r->problem, wire_code_from_name(code, code_len), NULL, "%.*s", (int)len, message);
	wire_finish(&m);
	if (r->problem.code == WIRE_OK)
		problem_set(&r->problem, WIRE_INTERNAL, NULL, "the store has a refusal of it that this version does not understand");
}

void revival_prepare(struct revival *v)
{
	if (!v->request)
		return;
	if (v->refused) {
		take_refusal(v->request);
		return;
	}
	request_prepare(v->request);
	request_look(v->request);
}

void durable_revived(struct server *s, struct revival *v)
{
	struct draft none = {0};
	struct problem damaged = {.code = WIRE_INTERNAL, .text = "the store has a request of it that this version does not understand"};
	struct request *r = v->request;
	if (s->state == SERVER_DRAINING || job_find(&s->jobs, v->row.id))
		return_row(s, &v->row); /* it is still on its way out of here, or we are */
	else if (!r)
		server_revive(s, &none, v, &damaged);
	else if (r->problem.code != WIRE_OK)
		server_revive(s, &none, v, &r->problem);
	else
		server_revive(s, &r->draft, v, NULL);
	free_revival(v);
	server_schedule(s);
}

static void revive(struct server *s, struct store_job *row)
{
	struct revival *v = calloc(1, sizeof *v);
	struct saved_request saved;
	if (!v) {
		return_row(s, row);
		return;
	}
	v->row = *row;
	*row = (struct store_job){0};
	bool good = saved_request_read(&saved, v->row.request.data, v->row.request.len) == 0;
	if (good && (v->request = calloc(1, sizeof *v->request))) {
		v->quiet = saved.quiet;
		v->refused = saved.refused;
		memcpy(v->blend, saved.blend, sizeof v->blend);
		request_init(v->request, s, v->row.identity, saved.body, saved.body_len);
		s->requests--; /* nobody asked */
	}
	if (v->request && s->durable.submit(s->durable.arg, v))
		return;
	revival_prepare(v);
	durable_revived(s, v);
}

static void on_claimed(struct store_op *op, void *arg)
{
	struct server *s = arg;
	struct durable *d = &s->durable;
	d->claiming = false;
	d->hungry = op->code == STORE_OK && op->n_out > 0; /* there may be more */
	for (size_t i = 0; op->code == STORE_OK && i < op->n_out && !d->closing; i++)
		revive(s, &op->jobs[i]);
	store_op_free(op);
}

/* A window of each class: what runs, and as many again that wait for a place. */
static void claim(struct server *s)
{
	struct durable *d = &s->durable;
	uint32_t window = (uint32_t)s->conf->max_running * 2, least = window / 4 + 1;
	uint32_t n[2];
	if (d->claiming || d->away || s->state != SERVER_RUNNING)
		return;
	for (int i = 0; i < 2; i++)
		n[i] = d->held[i] + least <= window ? window - d->held[i] : 0;
	if (!n[0] && !n[1])
		return;
	struct store_op *op = store_op_new(STORE_OP_CLAIM, on_claimed, s);
	if (!op)
		return;
	memcpy(op->n, n, sizeof n);
	d->claiming = true;
	d->hungry = false;
	store_submit(d->store, op);
}

/* ---- the heart ---- */

static void obey(struct server *s, const struct store_order *o)
{
	struct job *j = job_find(&s->jobs, o->id);
	if (!j || !j->journal || j->journal->lost)
		return;
	if (o->lost)
		server_lost(s, j, STORE_STALE, "");
	else if (o->verb == STORE_CANCEL)
		server_end(s, j, WHY_CANCEL);
	else if (o->verb == STORE_BURY)
		server_leave(s, j, STORE_BURIED, 0);
	else if (o->verb == STORE_DELAY)
		server_leave(s, j, STORE_DELAYED, o->run_at);
}

static void on_beat(struct store_op *op, void *arg)
{
	struct server *s = arg;
	s->durable.beating = false;
	for (size_t i = 0; op->code == STORE_OK && i < op->n_out; i++)
		obey(s, &op->orders[i]);
	store_op_free(op);
}

static void beat(struct server *s, int64_t now)
{
	struct durable *d = &s->durable;
	struct store_op *op;
	if (d->beating || now < d->beat_at || !store_is_fleet(d->store))
		return;
	op = store_op_new(STORE_OP_HEARTBEAT, on_beat, s);
	if (!op)
		return;
	d->beating = true;
	d->beat_at = clock_after(now, (uint64_t)s->conf->store_lease / 3);
	store_submit(d->store, op);
}

static void on_swept(struct store_op *op, void *arg)
{
	struct server *s = arg;
	s->durable.sweeping = false;
	if (op->code == STORE_OK && op->n[0] >= SWEEP)
		s->durable.sweep_at = 0; /* there is more */
	store_op_free(op);
}

static void sweep(struct server *s, int64_t now)
{
	struct durable *d = &s->durable;
	struct store_op *op;
	if (d->sweeping || now < d->sweep_at || d->away)
		return;
	op = store_op_new(STORE_OP_SWEEP, on_swept, s);
	if (!op)
		return;
	op->before = wall_now() - s->conf->store_results_time;
	op->n[0] = SWEEP;
	d->sweeping = true;
	d->sweep_at = clock_after(now, SWEEP_MS);
	store_submit(d->store, op);
}

/* ---- what other daemons say ---- */

/* A job that came to us since: its listeners here have it from us. */
static bool is_ours(const struct server *s, const struct store_seen *e)
{
	const struct job *j = job_find(&s->jobs, e->job);
	return j && j->journal && !j->journal->lost && e->seq < j->n_events;
}

static void on_seen(struct store_op *op, void *arg)
{
	struct server *s = arg;
	struct durable *d = &s->durable;
	d->watching = false;
	if (op->code == STORE_OK)
		d->cursor = op->cursor;
	for (size_t i = 0; op->code == STORE_OK && i < op->n_out; i++) {
		const struct store_seen *e = &op->seen[i];
		if (is_ours(s, e))
			continue;
		if (e->data.data)
			s->publish(s->publish_arg, e->topic, e->data.data, e->data.len);
		else
			publish_unheld_end(s, e->topic, e->job, e->seq, e->state, e->reason_code, e->reason);
	}
	store_op_free(op);
}

static void watch(struct server *s, int64_t now)
{
	struct durable *d = &s->durable;
	struct store_op *op;
	if (d->watching || now < d->watch_at || !store_is_fleet(d->store))
		return;
	op = store_op_new(STORE_OP_WATCH, on_seen, s);
	if (!op)
		return;
	op->topics = topics_listened(&s->topics, WATCH_TOPICS, &op->n_topics);
	op->cursor = d->cursor;
	d->watching = true;
	d->watch_at = clock_after(now, WATCH_MS);
	store_submit(d->store, op);
}

/* ---- the round and the tick ---- */

static void look_after(struct server *s)
{
	struct durable *d = &s->durable;
	bool was = d->away;
	store_get_health(d->store, &d->health);
	bool bad = d->health.code != STORE_OK;
	bool away = bad || d->backlog > (was ? BACKLOG / 2 : BACKLOG);
	if (d->backlog > BACKLOG)
		server_park_durable(s);
	if (away == was)
		return;
	if (away)
		log_error("the store cannot keep up (%s): durable jobs wait, others go on", bad ? d->health.text : "too many events wait for it");
	else
		log_notice("the store is back: durable jobs go on");
	server_store_changed(s, away);
	d->hungry = !away;
}

static void on_tick(struct deadline *t, void *arg)
{
	struct server *s = arg;
	struct durable *d = &s->durable;
	int64_t now = clock_now();
	deadline_arm(&s->deadlines, t, clock_after(now, TICK_MS));
	if (!d->store)
		return;
	look_after(s);
	ask_ids(s);
	beat(s, now);
	sweep(s, now);
	watch(s, now);
	claim(s);
}

bool durable_round(struct server *s)
{
	struct durable *d = &s->durable;
	bool hint = false;
	if (!d->store)
		return false;
	bool more = store_take(d->store, TAKE, &hint);
	if (hint) {
		d->hungry = true;
		d->watch_at = d->beat_at = 0; /* an order may be for us: heard with the next tick */
		watch(s, clock_now());
	}
	if (d->hungry)
		claim(s);
	ask_ids(s);
	if (d->backlog > BACKLOG && !d->away)
		look_after(s);
	journal_flush(s);
	return more;
}

/* ---- adding ---- */

static int fill_request(struct store_new *n, const struct draft *d, const char *blend)
{
	struct saved_request saved = {.body = d->body, .body_len = d->body_len};
	snprintf(saved.blend, sizeof saved.blend, "%s", blend);
	void *data = saved_request_write(&saved, &n->request_len);
	n->request = data;
	return data ? 0 : -1;
}

struct store_op *durable_add(struct server *s, struct job *j, const struct draft *d, bool hold, int64_t run_at)
{
	struct store_op *op = store_op_new(STORE_OP_ADD, NULL, NULL);
	int64_t now = wall_now();
	if (!op || !(op->add = calloc(1, sizeof *op->add)))
		goto fail;
	struct store_new *n = op->add;
	*n = (struct store_new){.id = j->id,
				.identity = j->identity,
				.topic = j->topic,
				.op = j->op,
				.key = d->key[0] ? d->key : NULL,
				.batch_class = j->entry.batch,
				.priority = j->priority,
				.rank = j->entry.rank + s->durable.epoch_ms,
				.model = s->durable.model,
				.accepted_at = now,
				.run_at = run_at,
				.deadline_at = d->deadline_ms ? now + (int64_t)d->deadline_ms : 0,
				.queue_until = d->queue_ms ? now + (int64_t)d->queue_ms : 0,
				.hold = hold,
				.token = j->journal->token};
	memcpy(n->body, d->digest, sizeof n->body);
	op->n_add = 1;
	/* What the op borrows lives in op->meta and op->events, which are its own. */
	if (fill_request(n, d, j->journal->pinned))
		goto fail;
	op->meta = (struct store_bytes){(void *)n->request, n->request_len};
	for (size_t i = 0; i < j->n_events; i++)
		if (journal_chunk_add(&op->events.data, &op->events.len, j->events[i].data, j->events[i].len))
			goto fail;
	n->events = op->events.data;
	n->events_len = op->events.len;
	n->n_events = (uint32_t)j->n_events;
	return op;
fail:
	store_op_free(op);
	return NULL;
}
