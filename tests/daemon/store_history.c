/* store_history.c: see store_history.h. */
#include "store_history.h"
#include <stdlib.h>
#include <string.h>

enum { JOBS_MAX = 4000, EVENT_MAX = 200 };

struct mjob { /* as the model has it */
	uint64_t id;
	bool there, held, started, armed;
	enum store_state state;
	uint32_t n_events, crashes, errors, checkpoint_seq;
	uint32_t request_len, checkpoint_len, checkpoint_salt; /* len 0: none */
};

struct step { /* an op, as far as the model needs it */
	enum store_kind kind;
	enum store_verb verb;
	int first, n; /* jobs */
	int state;
	uint32_t n_events, checkpoint_len, salt;
	bool hold[4], started;
	uint32_t request_len[4];
};

struct history {
	uint64_t seed, first_id;
	unsigned large;
	uint64_t random;
	struct mjob job[JOBS_MAX];
	int n_jobs;
	struct step *step;
	size_t n_steps, cap, acked;
	bool broken; /* an op did not finish well: those behind it do not count */
};

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static uint32_t draw(struct history *h, uint32_t below)
{
	h->random = mix(h->random);
	return (uint32_t)(h->random % below);
}

struct history *history_new(uint64_t seed, uint64_t first_id, unsigned large)
{
	struct history *h = calloc(1, sizeof(*h));
	CHECK(h != NULL);
	h->seed = seed;
	h->random = mix(seed);
	h->first_id = first_id;
	h->large = large;
	return h;
}

void history_free(struct history *h)
{
	free(h->step);
	free(h);
}

size_t history_made(const struct history *h)
{
	return h->n_steps;
}

size_t history_acked(const struct history *h)
{
	return h->acked;
}

uint64_t history_next_id(const struct history *h)
{
	return h->first_id + (uint64_t)h->n_jobs;
}

/* ---- bytes: each is made again from what it belongs to --------------------------------------------------------------------------
 */

static void fill(char *p, size_t len, uint64_t salt)
{
	for (size_t i = 0; i < len; i++) {
		if (i % 8 == 0)
			salt = mix(salt);
		p[i] = (char)(salt >> 8 * (i % 8));
	}
}

static bool same(const void *data, size_t len, size_t want_len, uint64_t salt)
{
	char *want = malloc(want_len + 1);
	CHECK(want != NULL);
	fill(want, want_len, salt);
	bool ok = len == want_len && memcmp(want, data, len) == 0;
	free(want);
	return ok;
}

static uint32_t event_len(uint64_t id, uint32_t seq)
{
	return (uint32_t)(mix(id * 1000003 + seq) % EVENT_MAX);
}

static void put_event(struct store_bytes *b, uint64_t id, uint32_t seq)
{
	uint32_t len = event_len(id, seq);
	char *p = realloc(b->data, b->len + 4 + len);
	CHECK(p != NULL);
	for (int k = 0; k < 4; k++)
		p[b->len + (size_t)k] = (char)(len >> 8 * k);
	fill(p + b->len + 4, len, id ^ (uint64_t)seq << 40);
	b->data = p;
	b->len += 4 + len;
}

/* ---- steps ----------------------------------------------------------------------------------------------------------------------
 */

/* A random job for which `fits` holds; -1: none near. */
static int pick(struct history *h, bool (*fits)(const struct mjob *j))
{
	if (!h->n_jobs)
		return -1;
	for (int i = 0; i < 20; i++) {
		int at = (int)draw(h, (uint32_t)h->n_jobs);
		if (h->job[at].there && fits(&h->job[at]))
			return at;
	}
	return -1;
}

static bool is_held(const struct mjob *j)
{
	return j->held;
}

static bool waits(const struct mjob *j)
{
	return j->state == STORE_QUEUED || j->state == STORE_BURIED;
}

static bool ended(const struct mjob *j)
{
	return store_state_final(j->state);
}

static bool make_add(struct history *h, struct step *s)
{
	s->kind = STORE_OP_ADD;
	s->first = h->n_jobs;
	s->n = 1 + (int)draw(h, 4);
	for (int i = 0; i < s->n; i++) {
		s->hold[i] = draw(h, 5) != 0;
		s->request_len[i] = h->large && draw(h, h->large) == 0 ? 100000 + draw(h, 200000) : draw(h, 500);
	}
	return h->n_jobs + s->n <= JOBS_MAX;
}

static bool make_log(struct history *h, struct step *s)
{
	s->kind = STORE_OP_LOG;
	s->first = pick(h, is_held);
	s->n_events = draw(h, 4);
	s->started = draw(h, 3) == 0;
	s->state = draw(h, 6) ? -1 : draw(h, 2) ? STORE_DONE : STORE_FAILED;
	s->checkpoint_len = draw(h, 3) ? 0 : 1 + draw(h, draw(h, 10) ? 300 : 20000);
	s->salt = draw(h, UINT32_MAX);
	return s->first >= 0;
}

static bool make_release(struct history *h, struct step *s)
{
	s->kind = STORE_OP_RELEASE;
	s->first = pick(h, is_held);
	s->state = draw(h, 3) ? STORE_QUEUED : STORE_BURIED;
	return s->first >= 0;
}

static bool make_verb(struct history *h, struct step *s)
{
	static const enum store_verb verbs[] = {STORE_CANCEL, STORE_BURY, STORE_KICK, STORE_CLOSE};
	s->kind = STORE_OP_VERB;
	s->verb = verbs[draw(h, 4)];
	s->first = pick(h, s->verb == STORE_CLOSE ? ended : waits);
	return s->first >= 0;
}

static void make(struct history *h, struct step *s)
{
	for (;;) {
		uint32_t d = draw(h, 16);
		*s = (struct step){0};
		if (d < 4 ? make_add(h, s) : d < 11 ? make_log(h, s) : d < 13 ? make_release(h, s) : make_verb(h, s))
			return;
	}
}

static void play_verb(struct mjob *j, enum store_verb verb)
{
	if (verb == STORE_CLOSE)
		j->there = false;
	else
		j->state = verb == STORE_CANCEL ? STORE_CANCELLED : verb == STORE_BURY ? STORE_BURIED : STORE_QUEUED;
}

static void play_log(struct mjob *j, const struct step *s)
{
	j->n_events += s->n_events;
	j->started |= s->started;
	j->armed |= s->started;
	if (!s->started && (s->n_events || s->checkpoint_len) && s->state < 0)
		j->crashes = 0;
	if (s->checkpoint_len && s->state < 0) {
		j->checkpoint_len = s->checkpoint_len;
		j->checkpoint_salt = s->salt;
		j->checkpoint_seq = j->n_events;
	}
	if (s->state >= 0) {
		j->state = (enum store_state)s->state;
		j->held = j->armed = false;
		j->errors += s->state == STORE_FAILED;
	}
}

static void play(struct mjob *jobs, int *n_jobs, uint64_t first_id, const struct step *s)
{
	struct mjob *j = &jobs[s->first];
	switch (s->kind) {
	case STORE_OP_ADD:
		for (int i = 0; i < s->n; i++, ++*n_jobs)
			jobs[*n_jobs] = (struct mjob){.id = first_id + (uint64_t)*n_jobs,
						      .there = true,
						      .held = s->hold[i],
						      .state = s->hold[i] ? STORE_RUNNING : STORE_QUEUED,
						      .request_len = s->request_len[i]};
		break;
	case STORE_OP_LOG:
		play_log(j, s);
		break;
	case STORE_OP_RELEASE:
		j->state = (enum store_state)s->state;
		j->held = j->armed = false;
		break;
	default:
		play_verb(j, s->verb);
	}
}

/* ---- ops ------------------------------------------------------------------------------------------------------------------------
 */

struct ack {
	struct history *h;
	void (*acked)(void *arg);
	void *arg;
	void *bytes;
};

static void op_done(struct store_op *op, void *arg)
{
	struct ack *a = arg;
	if (op->code != STORE_OK)
		a->h->broken = true;
	for (size_t i = 0; i < op->n_add; i++)
		if (op->add[i].code != STORE_OK)
			a->h->broken = true;
	if (!a->h->broken) {
		a->h->acked++;
		if (a->acked)
			a->acked(a->arg);
	} else if (op->code == STORE_STALE || op->code == STORE_CONFLICT || op->code == STORE_NOTFOUND) {
		fprintf(stderr, "op of kind %d on job %llu: %d %s\n", op->kind, (unsigned long long)op->job, op->code, op->text);
	}
	free(a->bytes);
	free(a);
	store_op_free(op);
}

static void build_add(struct history *h, struct store_op *op, const struct step *s, struct ack *a)
{
	size_t at = 0, total = 0;
	for (int i = 0; i < s->n; i++)
		total += s->request_len[i];
	char *bytes = a->bytes = malloc(total + 1);
	op->add = calloc((size_t)s->n, sizeof(*op->add));
	op->n_add = (size_t)s->n;
	for (int i = 0; i < s->n; i++) {
		uint64_t id = h->first_id + (uint64_t)(s->first + i);
		op->add[i] = kit_job(id);
		fill(bytes + at, s->request_len[i], id);
		op->add[i].request = bytes + at;
		op->add[i].request_len = s->request_len[i];
		op->add[i].hold = s->hold[i];
		op->add[i].token = id + 1;
		at += s->request_len[i];
	}
}

static void build_log(struct history *h, struct store_op *op, const struct step *s)
{
	const struct mjob *j = &h->job[s->first]; /* before this step */
	op->from = j->n_events;
	op->n_events = s->n_events;
	op->started = s->started;
	for (uint32_t i = 0; i < s->n_events; i++)
		put_event(&op->events, j->id, j->n_events + i);
	if (s->checkpoint_len) {
		op->checkpoint = (struct store_bytes){malloc(s->checkpoint_len), s->checkpoint_len};
		fill(op->checkpoint.data, s->checkpoint_len, s->salt);
	}
}

static struct step *next_step(struct history *h)
{
	if (h->n_steps == h->cap) {
		h->cap = h->cap ? h->cap * 2 : 64;
		h->step = realloc(h->step, h->cap * sizeof(*h->step));
		CHECK(h->step != NULL);
	}
	struct step *s = &h->step[h->n_steps++];
	make(h, s);
	return s;
}

void history_skip(struct history *h)
{
	play(h->job, &h->n_jobs, h->first_id, next_step(h));
}

struct store_op *history_op(struct history *h, void (*acked)(void *arg), void *arg)
{
	struct step *s = next_step(h);
	struct ack *a = malloc(sizeof(*a));
	CHECK(a != NULL);
	*a = (struct ack){h, acked, arg, NULL};
	struct store_op *op = store_op_new(s->kind, op_done, a);
	op->verb = s->verb;
	op->state = s->kind == STORE_OP_LOG || s->kind == STORE_OP_RELEASE ? s->state : -1;
	snprintf(op->identity, sizeof(op->identity), "me");
	if (s->kind == STORE_OP_ADD) {
		build_add(h, op, s, a);
	} else {
		op->job = h->job[s->first].id;
		op->token = op->job + 1;
	}
	if (s->kind == STORE_OP_LOG)
		build_log(h, op, s);
	play(h->job, &h->n_jobs, h->first_id, s);
	return op;
}

/* ---- checking -------------------------------------------------------------------------------------------------------------------
 */

struct seen {
	int state; /* or a negative code */
	uint32_t n_events, crashes, errors;
	bool events_right;
};

static bool events_right(struct kit *k, uint64_t id, uint32_t n)
{
	bool ok = true;
	for (uint32_t seq = 0; seq < n && ok;) {
		struct store_op *e = kit_events(k, id, "me", seq, 0);
		struct store_bytes want = {0};
		for (uint32_t i = 0; i < e->n_events; i++)
			put_event(&want, id, seq + i);
		ok = e->code == STORE_OK && e->n_events > 0 && e->events.len == want.len &&
		     memcmp(e->events.data, want.data, want.len) == 0;
		seq += e->n_events;
		free(want.data);
		store_op_free(e);
	}
	return ok;
}

static void look(struct kit *k, uint64_t id, struct seen *s)
{
	struct store_op *v = kit_view(k, id);
	*s = (struct seen){.state = v->code};
	if (v->code == STORE_OK) {
		*s = (struct seen){(int)v->views[0].state, v->views[0].n_events, v->views[0].crashes, v->views[0].errors, true};
		s->events_right = events_right(k, id, s->n_events);
	}
	store_op_free(v);
}

/* Whoever opened the store gave back what was held. */
static bool agrees(const struct mjob *j, const struct seen *s)
{
	if (!j->there)
		return s->state == STORE_NOTFOUND;
	int state = j->held ? STORE_QUEUED : (int)j->state;
	return s->state == state && s->n_events == j->n_events && s->crashes == j->crashes + j->armed && s->errors == j->errors &&
	       s->events_right;
}

static void tell(char *text, size_t size, const struct mjob *j, const struct seen *s, size_t m)
{
	snprintf(text, size,
		 "after %zu ops job %llu is %s state %d events %u crashes %u errors %u; the store has state %d events %u%s crashes "
		 "%u errors %u",
		 m, (unsigned long long)j->id, j->there ? "there" : "gone", j->held ? STORE_QUEUED : (int)j->state, j->n_events,
		 j->crashes + j->armed, j->errors, s->state, s->n_events, s->events_right ? "" : " (WRONG)", s->crashes, s->errors);
}

static int first_difference(const struct mjob *jobs, int n_jobs, const struct seen *seen, int all)
{
	for (int i = 0; i < all; i++)
		if (i < n_jobs ? !agrees(&jobs[i], &seen[i]) : seen[i].state != STORE_NOTFOUND)
			return i;
	return -1;
}

/* Of what was claimed, all that is of this history. */
static bool claimed_right(const struct store_op *c, const struct mjob *jobs, int n_jobs, uint64_t first_id)
{
	for (size_t i = 0; i < c->n_out; i++) {
		const struct store_job *j = &c->jobs[i];
		if (j->id < first_id)
			continue;
		const struct mjob *m = &jobs[j->id - first_id];
		if (j->id - first_id >= (uint64_t)n_jobs || !same(j->request.data, j->request.len, m->request_len, j->id) ||
		    j->checkpoint.len != m->checkpoint_len)
			return false;
		if (m->checkpoint_len && (!same(j->checkpoint.data, j->checkpoint.len, m->checkpoint_len, m->checkpoint_salt) ||
					  j->checkpoint_seq != m->checkpoint_seq))
			return false;
	}
	return true;
}

bool history_check(struct history *h, struct kit *k, size_t acked, bool claims)
{
	static struct mjob jobs[JOBS_MAX];
	static struct seen seen[JOBS_MAX];
	char text[512] = "";
	int n = 0, bad = 0;
	for (int i = 0; i < h->n_jobs; i++)
		look(k, h->first_id + (uint64_t)i, &seen[i]);
	struct store_op *c = claims ? kit_claim(k, 0, JOBS_MAX) : NULL;
	bool found = false;
	for (size_t m = 0; m <= h->n_steps && !found; m++) {
		bad = first_difference(jobs, n, seen, h->n_jobs);
		found = m >= acked && bad < 0 && (!c || claimed_right(c, jobs, n, h->first_id));
		if (m == acked && bad >= 0)
			tell(text, sizeof(text), &jobs[bad], &seen[bad], m);
		else if (bad < 0 && m >= acked)
			snprintf(text, sizeof(text), "after %zu ops a request or a checkpoint is another", m);
		if (m < h->n_steps)
			play(jobs, &n, h->first_id, &h->step[m]);
	}
	store_op_free(c);
	if (!found)
		fprintf(stderr, "no prefix of %zu to %zu ops is what the store holds; %s\n", acked, h->n_steps, text);
	return found;
}
