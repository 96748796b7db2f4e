/* store_op.c: an op's memory, and the table from kind to function. */
#include "store_op.h"
#include "store_sql.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct store_op *store_op_new(enum store_kind kind, void (*done)(struct store_op *op, void *arg), void *arg)
{
	struct store_op *op = calloc(1, sizeof(*op));
	if (!op)
		return NULL;
	op->kind = kind;
	op->done = done;
	op->arg = arg;
	op->state = -1;
	op->filter.state = op->filter.batch_class = -1;
	return op;
}

static void job_free(struct store_job *j)
{
	free(j->identity);
	free(j->topic);
	free(j->op);
	free(j->key);
	free(j->custom_id);
	free(j->request.data);
	free(j->events.data);
	free(j->checkpoint.data);
}

static void view_free(struct store_view *v)
{
	free(v->identity);
	free(v->topic);
	free(v->op);
	free(v->owner);
	free(v->reason_code);
	free(v->reason);
	free(v->custom_id);
}

void batch_free(struct store_batch *b)
{
	free(b->name);
	free(b->identity);
	free(b->meta.data);
}

static void record_free(struct store_record *r)
{
	free(r->custom_id);
	free(r->done.data);
	free(r->reason_code);
	free(r->reason);
}

static void seen_free(struct store_seen *s)
{
	free(s->topic);
	free(s->data.data);
	free(s->reason_code);
	free(s->reason);
}

static void free_out(struct store_op *op)
{
	for (size_t i = 0; op->jobs && i < op->n_out; i++)
		job_free(&op->jobs[i]);
	for (size_t i = 0; op->views && i < op->n_out; i++)
		view_free(&op->views[i]);
	for (size_t i = 0; op->batches && i < op->n_out; i++)
		batch_free(&op->batches[i]);
	for (size_t i = 0; op->records && i < op->n_out; i++)
		record_free(&op->records[i]);
	for (size_t i = 0; op->seen && i < op->n_out; i++)
		seen_free(&op->seen[i]);
	free(op->jobs);
	free(op->views);
	free(op->batches);
	free(op->records);
	free(op->seen);
	free(op->orders);
	op->jobs = NULL;
	op->views = NULL;
	op->batches = NULL;
	op->records = NULL;
	op->seen = NULL;
	op->orders = NULL;
	op->n_out = 0;
	memset(op->counts, 0, sizeof(op->counts));
	if (op->kind == STORE_OP_EVENTS) {
		free(op->events.data);
		op->events = (struct store_bytes){0};
	}
}

void store_op_free(struct store_op *op)
{
	if (!op)
		return;
	free_out(op);
	for (size_t i = 0; i < op->n_topics; i++)
		free(op->topics[i]);
	free(op->topics);
	free(op->add);
	free(op->events.data);
	free(op->checkpoint.data);
	free(op->meta.data);
	free(op);
}

void store_op_save(struct store_op *op)
{
	op->given.cursor = op->cursor;
	op->given.run_at = op->run_at;
	op->given.n[0] = op->n[0];
	op->given.n[1] = op->n[1];
	op->given.from = op->from;
	op->given.n_events = op->n_events;
	op->given.state = op->state;
}

void store_op_restore(struct store_op *op)
{
	free_out(op);
	op->cursor = op->given.cursor;
	op->run_at = op->given.run_at;
	op->n[0] = op->given.n[0];
	op->n[1] = op->given.n[1];
	op->from = op->given.from;
	op->n_events = op->given.n_events;
	op->state = op->given.state;
	op->held = false;
	op->code = STORE_OK;
	op->text[0] = 0;
	for (size_t i = 0; i < op->n_add; i++) {
		op->add[i].code = STORE_OK;
		op->add[i].existing = 0;
	}
}

/* What it brings to a transaction, so that a group stays of bounded size. */
size_t store_op_bytes(const struct store_op *op)
{
	size_t n = op->checkpoint.len + op->meta.len + (op->kind == STORE_OP_EVENTS ? 0 : op->events.len);
	for (size_t i = 0; i < op->n_add; i++)
		n += op->add[i].request_len + op->add[i].events_len;
	return n;
}

bool store_op_reads(const struct store_op *op)
{
	switch (op->kind) {
	case STORE_OP_VIEW:
	case STORE_OP_LIST:
	case STORE_OP_EVENTS:
	case STORE_OP_WATCH:
	case STORE_OP_BATCH_VIEW:
	case STORE_OP_BATCH_LIST:
	case STORE_OP_BATCH_RESULTS:
		return true;
	default:
		return false;
	}
}

int op_finish(struct store_op *op, int code, const char *fmt, ...)
{
	va_list ap;
	op->code = code;
	va_start(ap, fmt);
	vsnprintf(op->text, sizeof(op->text), fmt, ap);
	va_end(ap);
	return 0;
}

/* The n things before the new one stay where a failure finds them: the count grows with the room. */
void *op_grow(void **array, size_t *n, size_t size)
{
	if ((*n & (*n - 1)) == 0) {
		void *p = realloc(*array, (*n ? *n * 2 : 1) * size);
		if (!p)
			return NULL;
		*array = p;
	}
	void *item = (char *)*array + *n * size;
	memset(item, 0, size);
	++*n;
	return item;
}

int store_apply(struct db *db, struct store_op *op)
{
	static int (*const apply[])(struct db *, struct store_op *) = {
		[STORE_OP_IDS] = op_ids,
		[STORE_OP_ADD] = op_add,
		[STORE_OP_CLAIM] = op_claim,
		[STORE_OP_LOG] = op_log,
		[STORE_OP_RELEASE] = op_release,
		[STORE_OP_HEARTBEAT] = op_heartbeat,
		[STORE_OP_VERB] = op_verb,
		[STORE_OP_VIEW] = op_view,
		[STORE_OP_LIST] = op_list,
		[STORE_OP_EVENTS] = op_events,
		[STORE_OP_WATCH] = op_watch,
		[STORE_OP_BATCH_OPEN] = op_batch_open,
		[STORE_OP_BATCH_SEAL] = op_batch_seal,
		[STORE_OP_BATCH_VIEW] = op_batch_view,
		[STORE_OP_BATCH_LIST] = op_batch_list,
		[STORE_OP_BATCH_RESULTS] = op_batch_results,
		[STORE_OP_BATCH_CANCEL] = op_batch_cancel,
		[STORE_OP_BATCH_RETRY] = op_batch_retry,
		[STORE_OP_BATCH_CLOSE] = op_batch_close,
		[STORE_OP_SWEEP] = op_sweep,
	};
	return apply[op->kind](db, op);
}
