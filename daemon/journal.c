/* journal.c: one op per job in flight; all that came meanwhile goes with the next. */
#include "journal.h"
#include "durable.h"
#include "log.h"
#include "server.h"
#include <stdlib.h>
#include <string.h>

enum { LOG_BYTES = 4 << 20 }; /* of events in one op */

struct journal *journal_new(void)
{
	struct journal *g = calloc(1, sizeof *g);
	if (g)
		g->leave_to = -1;
	return g;
}

void journal_free(struct journal *g)
{
	if (!g)
		return;
	free(g->checkpoint);
	free(g->end_reason);
	free(g);
}

/* ---- chunks ---- */

int journal_chunk_add(void **chunk, size_t *len, const void *event, size_t n)
{
	if (n > UINT32_MAX)
		return -1;
	unsigned char *grown = realloc(*chunk, *len + 4 + n);
	if (!grown)
		return -1;
	for (int i = 0; i < 4; i++)
		grown[*len + i] = (unsigned char)(n >> 8 * i);
	memcpy(grown + *len + 4, event, n);
	*chunk = grown;
	*len += 4 + n;
	return 0;
}

const void *journal_chunk_next(const void **at, size_t *left, size_t *n)
{
	const unsigned char *p = *at;
	if (*left < 4)
		return NULL;
	*n = (size_t)p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16 | (size_t)p[3] << 24;
	if (*n > *left - 4)
		return NULL;
	*at = p + 4 + *n;
	*left -= 4 + *n;
	return p + 4;
}

/* ---- what is new ---- */

static void mark(struct server *s, struct job *j)
{
	struct journal *g = j->journal;
	if (g->dirty || g->admitting || g->lost)
		return;
	g->dirty = true;
	TAILQ_INSERT_TAIL(&s->durable.dirty, j, journal->link);
}

void journal_note(struct server *s, struct job *j, size_t bytes, bool progress)
{
	struct journal *g = j->journal;
	g->backlog += bytes;
	s->durable.backlog += bytes;
	g->moved |= progress;
	/* A suspect that gets no further must not look as if it had. */
	if (!g->suspect || g->moved)
		mark(s, j);
}

size_t journal_cut(const struct job *j)
{
	return j->journal->replay < j->journal->replay_end ? j->journal->replay : j->n_events;
}

void journal_checkpoint(struct server *s, struct job *j, void *data, size_t len)
{
	struct journal *g = j->journal;
	free(g->checkpoint);
	g->checkpoint = data;
	g->checkpoint_len = len;
	g->checkpoint_cut = journal_cut(j);
	journal_note(s, j, 0, g->replay >= g->replay_end);
}

bool journal_also(struct job *j, const char *topic)
{
	struct journal *g = j->journal;
	if (memcmp(j->topic, topic, WIRE_TOPIC_LEN) == 0)
		return true;
	for (size_t i = 0; i < g->n_also; i++)
		if (memcmp(g->also[i], topic, WIRE_TOPIC_LEN) == 0)
			return true;
	if (g->n_also == JOURNAL_ALSO)
		return false;
	memcpy(g->also[g->n_also++], topic, WIRE_TOPIC_LEN + 1);
	return true;
}

void journal_show(struct server *s, struct job *j, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++) {
		if (j->topic[0])
			s->publish(s->publish_arg, j->topic, j->events[i].data, j->events[i].len);
		for (size_t k = 0; k < j->journal->n_also; k++)
			s->publish(s->publish_arg, j->journal->also[k], j->events[i].data, j->events[i].len);
	}
}

/* ---- to the store ---- */

static void forget_backlog(struct server *s, struct journal *g, size_t bytes)
{
	bytes = bytes < g->backlog ? bytes : g->backlog;
	g->backlog -= bytes;
	s->durable.backlog -= bytes;
}

/* The op's job, if it is still the one that the op was made for. */
static struct job *job_of(struct server *s, const struct store_op *op)
{
	struct job *j = job_find(&s->jobs, op->job);
	return j && j->journal && j->journal->token == op->token ? j : NULL;
}

static void committed(struct server *s, struct job *j, const struct store_op *op)
{
	struct journal *g = j->journal;
	size_t from = g->n_public, bytes = 0;
	histogram_add(&s->durable.commit, (uint64_t)(clock_now() - g->sent_at) / 1000);
	for (size_t i = op->from; i < op->from + op->n_events; i++)
		bytes += j->events[i].len;
	forget_backlog(s, g, bytes);
	g->n_public = op->from + op->n_events;
	journal_show(s, j, from, g->n_public);
	if (g->moving) {
		g->suspect = false;
		g->crashes = 0;
	}
	g->moving = false;
	if (op->started && !g->begun) {
		g->begun = true;
		server_begun(s, j);
	}
	if (op->state >= 0)
		server_kept(s, j);
	else if (g->n_logged < j->n_events || g->checkpoint || (g->beginning && !g->begun))
		mark(s, j);
}

static void on_logged(struct store_op *op, void *arg)
{
	struct server *s = arg;
	struct job *j = job_of(s, op);
	if (j) {
		j->journal->in_flight--;
		if (op->code == STORE_OK)
			committed(s, j, op);
		else
			server_lost(s, j, op->code, op->text);
	}
	store_op_free(op);
}

static int final_state(const struct job *j)
{
	static const int states[JOB_N_STATES] = {[JOB_DONE] = STORE_DONE,
						 [JOB_FAILED] = STORE_FAILED,
						 [JOB_CANCELLED] = STORE_CANCELLED,
						 [JOB_EXPIRED] = STORE_EXPIRED,
						 [JOB_DEAD] = STORE_DEAD};
	return states[j->state];
}

static void fill_end(struct store_op *op, const struct job *j)
{
	const struct journal *g = j->journal;
	op->state = final_state(j);
	op->prompt_tokens = j->prompt_tokens;
	op->completion_tokens = j->completion_tokens;
	snprintf(op->reason_code, sizeof op->reason_code, "%s", g->end_code);
	snprintf(op->reason, sizeof op->reason, "%s", g->end_reason ? g->end_reason : "");
}

/* Hands everything that is new to the store; a part of it when it is much. */
static int write_log(struct server *s, struct job *j)
{
	struct journal *g = j->journal;
	struct store_op *op = store_op_new(STORE_OP_LOG, on_logged, s);
	size_t n = g->n_logged;
	if (!op)
		return -1;
	while (n < j->n_events && (n == g->n_logged || op->events.len + j->events[n].len <= LOG_BYTES)) {
		if (journal_chunk_add(&op->events.data, &op->events.len, j->events[n].data, j->events[n].len)) {
			store_op_free(op);
			return -1;
		}
		n++;
	}
	op->stubborn = true;
	op->job = j->id;
	op->token = g->token;
	op->from = (uint32_t)g->n_logged;
	op->n_events = (uint32_t)(n - g->n_logged);
	op->started = g->beginning && !g->begun;
	op->state = -1;
	if (g->checkpoint && g->checkpoint_cut <= n) {
		op->checkpoint = (struct store_bytes){g->checkpoint, g->checkpoint_len};
		g->checkpoint = NULL;
	}
	if (job_state_final(j->state) && n == j->n_events)
		fill_end(op, j);
	g->n_logged = n;
	g->moving |= g->moved;
	g->moved = false;
	g->in_flight++;
	g->sent_at = clock_now();
	store_submit(s->durable.store, op);
	return 0;
}

void journal_flush(struct server *s)
{
	struct job *j, *next;
	for (j = TAILQ_FIRST(&s->durable.dirty); j; j = next) {
		next = TAILQ_NEXT(j, journal->link);
		if (!j->journal->in_flight && write_log(s, j))
			continue; /* out of memory: another time */
		j->journal->dirty = false;
		TAILQ_REMOVE(&s->durable.dirty, j, journal->link);
	}
}

void journal_begin(struct server *s, struct job *j)
{
	struct journal *g = j->journal;
	g->beginning = true;
	mark(s, j);
}

static void on_left(struct store_op *op, void *arg)
{
	struct server *s = arg;
	struct job *j = job_of(s, op);
	if (j) {
		j->journal->in_flight--;
		server_left(s, j);
	}
	store_op_free(op);
}

void journal_leave(struct server *s, struct job *j)
{
	struct journal *g = j->journal;
	struct store_op *op;
	while (g->n_logged < j->n_events || g->checkpoint)
		if (write_log(s, j))
			break;
	op = store_op_new(STORE_OP_RELEASE, on_left, s);
	if (!op) { /* its lease ends by itself */
		server_left(s, j);
		return;
	}
	op->stubborn = true;
	op->job = j->id;
	op->token = g->token;
	op->state = g->leave_to;
	op->run_at = g->leave_until;
	g->in_flight++;
	store_submit(s->durable.store, op);
	g->lost = true; /* what the engine may still say of it is not ours to tell */
}

void journal_forget(struct server *s, struct job *j)
{
	struct journal *g = j->journal;
	forget_backlog(s, g, g->backlog);
	if (g->dirty)
		TAILQ_REMOVE(&s->durable.dirty, j, journal->link);
	g->dirty = false;
}
