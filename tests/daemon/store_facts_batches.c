/* store_facts_batches.c: batches of rows. */
#include "store_conformance.h"
#include <stdlib.h>
#include <string.h>

static const char *const done[] = {"delta", "done!"};

static struct store_op *batch_open(struct kit *k, const char *name, const char *meta)
{
	struct store_op *op = kit_batch_op(STORE_OP_BATCH_OPEN, 0);
	snprintf(op->name, sizeof(op->name), "%s", name);
	if (meta)
		op->meta = kit_bytes(meta, strlen(meta));
	CHECK_INT(kit_run(k, op), STORE_OK);
	CHECK_INT(op->n_out, 1);
	return op;
}

/* A batch "b" of n rows; the number of its first job. */
static uint64_t batch_of(struct kit *k, uint64_t n, uint64_t *batch)
{
	struct store_op *b = batch_open(k, "b", NULL), *op = kit_op(STORE_OP_ADD);
	uint64_t id = kit_ids(k, (uint32_t)n);
	char(*names)[32] = malloc(n * sizeof(*names));
	*batch = b->batches[0].id;
	op->add = calloc(n, sizeof(*op->add));
	op->n_add = n;
	for (uint64_t i = 0; i < n; i++) {
		op->add[i] = kit_job(id + i);
		op->add[i].batch = *batch;
		op->add[i].row = i;
		snprintf(names[i], sizeof(*names), "row-%llu", (unsigned long long)i);
		op->add[i].custom_id = names[i];
	}
	CHECK_INT(kit_run(k, op), STORE_OK);
	for (uint64_t i = 0; i < n; i++)
		CHECK_INT(op->add[i].code, STORE_OK);
	store_op_free(op);
	store_op_free(b);
	free(names);
	return id;
}

static struct store_op *batch_view(struct kit *k, uint64_t batch)
{
	struct store_op *op = kit_batch_op(STORE_OP_BATCH_VIEW, batch);
	CHECK_INT(kit_run(k, op), STORE_OK);
	CHECK_INT(op->n_out, 1);
	return op;
}

static struct store_op *results(struct kit *k, uint64_t batch, uint64_t cursor, bool ordered, uint32_t max, size_t bytes)
{
	struct store_op *op = kit_batch_op(STORE_OP_BATCH_RESULTS, batch);
	op->cursor = cursor;
	op->ordered = ordered;
	op->n[0] = max;
	op->max_bytes = bytes;
	CHECK_INT(kit_run(k, op), STORE_OK);
	return op;
}

/* Claims all rows that wait and ends each as `state` says of its row; -1: left running, then released at the end of the fact. */
static void end_rows(struct kit *k, int (*state)(uint64_t row))
{
	struct store_op *c = kit_claim(k, 0, 10000);
	for (size_t i = 0; i < c->n_out; i++) {
		struct store_job *j = &c->jobs[i];
		int to = state(j->row);
		if (to < 0)
			continue;
		struct store_op *op = kit_op(STORE_OP_LOG);
		op->job = j->id;
		op->token = j->token;
		op->n_events = 2;
		op->events = kit_chunk(2, done);
		op->state = to;
		op->prompt_tokens = 10;
		op->completion_tokens = j->row;
		snprintf(op->reason_code, sizeof(op->reason_code), "%s", to == STORE_DONE ? "" : "why");
		CHECK_INT(kit_run(k, op), STORE_OK);
		store_op_free(op);
	}
	store_op_free(c);
}

static int all_done(uint64_t row)
{
	return STORE_DONE;
}

static int thirds_fail(uint64_t row)
{
	return row % 3 ? STORE_DONE : row % 2 ? STORE_FAILED : STORE_EXPIRED;
}

static int even_done(uint64_t row)
{
	return row % 2 ? -1 : STORE_DONE;
}

static void a_batch_is_opened_once_by_name(struct kit *k)
{
	struct store_op *a = batch_open(k, "night", "meta"), *b = batch_open(k, "night", "other"), *c = batch_open(k, "", NULL),
			*d = batch_open(k, "", NULL);
	CHECK_INT(a->batches[0].id, b->batches[0].id);
	CHECK_INT(b->batches[0].meta.len, 4);
	CHECK(memcmp(b->batches[0].meta.data, "meta", 4) == 0);
	CHECK(c->batches[0].id != d->batches[0].id);
	CHECK_STR(b->batches[0].name, "night");
	CHECK(!b->batches[0].sealed && !b->batches[0].cancelled && b->batches[0].ended_at == 0);
	struct store_op *v = kit_op(STORE_OP_BATCH_VIEW);
	snprintf(v->name, sizeof(v->name), "night");
	snprintf(v->identity, sizeof(v->identity), "me");
	CHECK_INT(kit_run(k, v), STORE_OK);
	CHECK_INT(v->batches[0].id, a->batches[0].id);
	store_op_free(v);
	v = kit_batch_op(STORE_OP_BATCH_VIEW, a->batches[0].id);
	snprintf(v->identity, sizeof(v->identity), "you");
	CHECK_INT(kit_run(k, v), STORE_NOTFOUND);
	CHECK_INT(v->n_out, 0);
	store_op_free(v);
	v = kit_batch_op(STORE_OP_BATCH_LIST, 0);
	CHECK_INT(kit_run(k, v), STORE_OK);
	CHECK_INT(v->n_out, 3);
	store_op_free(v);
	CHECK_INT(kit_batch(k, STORE_OP_BATCH_SEAL, 999999), STORE_NOTFOUND);
	store_op_free(a);
	store_op_free(b);
	store_op_free(c);
	store_op_free(d);
}

static void rows_come_in_order_and_once(struct kit *k)
{
	uint64_t batch, id = batch_of(k, 3, &batch);
	struct store_new a = kit_job(kit_ids(k, 1));
	a.batch = batch;
	a.row = 1;
	CHECK_INT(kit_add(k, &a), STORE_OK);
	CHECK_INT(a.existing, id + 1);
	a.body[0] = 1;
	CHECK_INT(kit_add(k, &a), STORE_CONFLICT);
	a.row = 4;
	CHECK_INT(kit_add(k, &a), STORE_CONFLICT);
	CHECK_INT(a.existing, 0);
	a.identity = "you";
	a.row = 3;
	CHECK_INT(kit_add(k, &a), STORE_NOTFOUND);
	a.identity = "me";
	CHECK_INT(kit_add(k, &a), STORE_OK);
	CHECK_INT(a.existing, 0);
	CHECK_INT(kit_batch(k, STORE_OP_BATCH_SEAL, batch), STORE_OK);
	CHECK_INT(kit_batch(k, STORE_OP_BATCH_SEAL, batch), STORE_OK);
	a.row = 4;
	CHECK_INT(kit_add(k, &a), STORE_CONFLICT);
	struct store_op *v = batch_view(k, batch);
	CHECK_INT(v->batches[0].rows, 4);
	CHECK(v->batches[0].sealed);
	CHECK_INT(v->batches[0].count[STORE_QUEUED], 4);
	store_op_free(v);
	CHECK_INT(kit_verb(k, id, "me", STORE_CANCEL, 0), STORE_OK);
	CHECK_INT(kit_verb(k, id, "me", STORE_CLOSE, 0), STORE_CONFLICT);
}

static void results_come_in_the_order_of_ends_without_gaps(struct kit *k)
{
	enum { N = 300 };
	uint64_t batch;
	bool seen[N] = {false};
	batch_of(k, N, &batch);
	struct store_op *r = results(k, batch, 0, false, 0, 0);
	CHECK_INT(r->n_out, 0);
	CHECK_INT(r->cursor, 0);
	store_op_free(r);
	end_rows(k, even_done);
	uint64_t cursor = 0;
	size_t n = 0;
	for (;;) {
		r = results(k, batch, cursor, false, 17, 0);
		if (!r->n_out)
			break;
		CHECK(r->n_out <= 17);
		for (size_t i = 0; i < r->n_out; i++) {
			struct store_record *rec = &r->records[i];
			CHECK(rec->cursor > cursor && rec->row < N && rec->row % 2 == 0 && !seen[rec->row]);
			cursor = rec->cursor;
			seen[rec->row] = true;
			char want[32];
			snprintf(want, sizeof(want), "row-%llu", (unsigned long long)rec->row);
			CHECK_STR(rec->custom_id, want);
			CHECK_INT(rec->done.len, 5);
			CHECK(memcmp(rec->done.data, "done!", 5) == 0);
			CHECK_INT(rec->state, STORE_DONE);
			n++;
		}
		store_op_free(r);
	}
	store_op_free(r);
	CHECK_INT(n, N / 2);
	r = results(k, batch, 0, false, 0, 30); /* bytes bound it, too */
	CHECK(r->n_out >= 1 && r->n_out <= 6);
	store_op_free(r);
	r = results(k, batch, 0, true, 0, 0);
	CHECK_INT(r->n_out, 1); /* row 1 runs */
	CHECK_INT(r->records[0].row, 0);
	CHECK_INT(r->cursor, 1);
	store_op_free(r);
}

static void ordered_results_wait_for_the_first_unended_row(struct kit *k)
{
	uint64_t batch, id = batch_of(k, 100, &batch);
	CHECK_INT(kit_verb(k, id + 60, "me", STORE_BURY, 0), STORE_OK);
	end_rows(k, all_done);
	uint64_t cursor = 0;
	for (int pass = 0; pass < 2; pass++) {
		for (;;) {
			struct store_op *r = results(k, batch, cursor, true, 33, 0);
			for (size_t i = 0; i < r->n_out; i++)
				CHECK_INT(r->records[i].row, cursor + i);
			cursor = r->cursor;
			size_t n = r->n_out;
			store_op_free(r);
			if (!n)
				break;
		}
		CHECK_INT(cursor, pass ? 100 : 60);
		CHECK_INT(kit_verb(k, id + 60, "me", STORE_CANCEL, 0), STORE_OK);
	}
	struct store_op *r = results(k, batch, 60, true, 1, 0);
	CHECK_INT(r->records[0].state, STORE_CANCELLED);
	CHECK(r->records[0].done.data == NULL);
	CHECK_STR(r->records[0].reason_code, "cancelled");
	store_op_free(r);
}

static void a_batch_ends_with_its_last_row(struct kit *k)
{
	uint64_t batch;
	batch_of(k, 10, &batch);
	end_rows(k, thirds_fail);
	struct store_op *v = batch_view(k, batch);
	CHECK_INT(v->batches[0].ended_at, 0); /* more rows may come */
	CHECK_INT(v->batches[0].count[STORE_DONE], 6);
	CHECK_INT(v->batches[0].count[STORE_FAILED], 2);
	CHECK_INT(v->batches[0].count[STORE_EXPIRED], 2);
	CHECK_INT(v->batches[0].prompt_tokens, 100);
	CHECK_INT(v->batches[0].completion_tokens, 45);
	store_op_free(v);
	CHECK_INT(kit_batch(k, STORE_OP_BATCH_SEAL, batch), STORE_OK);
	v = batch_view(k, batch);
	CHECK(v->batches[0].ended_at > 1600000000000);
	store_op_free(v);
}

static void failed_rows_are_tried_again_as_new_jobs(struct kit *k)
{
	enum { N = 1201 }; /* more than one step */
	uint64_t batch, id = batch_of(k, N, &batch), cursor = 0;
	CHECK_INT(kit_batch(k, STORE_OP_BATCH_SEAL, batch), STORE_OK);
	end_rows(k, thirds_fail);
	CHECK_INT(kit_state(k, id), STORE_EXPIRED);
	uint32_t again = 0;
	int steps = 0;
	do {
		struct store_op *op = kit_batch_op(STORE_OP_BATCH_RETRY, batch);
		op->cursor = cursor;
		CHECK_INT(kit_run(k, op), STORE_OK);
		again += op->n[0];
		cursor = op->cursor;
		store_op_free(op);
		CHECK(++steps < 100);
	} while (cursor);
	CHECK_INT(again, 401);
	CHECK_INT(kit_state(k, id), STORE_NOTFOUND);
	struct store_op *v = batch_view(k, batch);
	CHECK_INT(v->batches[0].count[STORE_QUEUED], 401);
	CHECK_INT(v->batches[0].count[STORE_DONE], 800);
	CHECK_INT(v->batches[0].count[STORE_FAILED] + v->batches[0].count[STORE_EXPIRED], 0);
	CHECK_INT(v->batches[0].prompt_tokens, 8000);
	CHECK_INT(v->batches[0].ended_at, 0);
	store_op_free(v);
	struct store_op *c = kit_claim(k, 0, 1);
	CHECK_INT(c->jobs[0].row % 3, 0);
	CHECK_INT(c->jobs[0].request.len, 7);
	CHECK_INT(c->jobs[0].attempt, 1);
	CHECK_INT(c->jobs[0].n_events, 0);
	CHECK_INT(kit_release(k, c->jobs[0].id, c->jobs[0].token, STORE_QUEUED), STORE_OK);
	store_op_free(c);
	end_rows(k, all_done);
	struct store_op *r = results(k, batch, 0, true, 0, 0);
	CHECK_INT(r->n_out, N);
	store_op_free(r);
	size_t n = 0;
	for (cursor = 0;; n += r->n_out, cursor = r->cursor, store_op_free(r)) {
		r = results(k, batch, cursor, false, 500, 0);
		if (!r->n_out)
			break;
	}
	store_op_free(r);
	CHECK_INT(n, N);
	v = batch_view(k, batch);
	CHECK_INT(v->batches[0].count[STORE_DONE], N);
	CHECK_INT(v->batches[0].prompt_tokens, 10 * N);
	CHECK(v->batches[0].ended_at > 0);
	store_op_free(v);
}

static void a_cancelled_batch_ends_little_by_little(struct kit *k)
{
	enum { N = 1000 };
	uint64_t batch;
	batch_of(k, N, &batch);
	struct store_op *c = kit_claim(k, 0, 10);
	CHECK_INT(c->n_out, 10);
	CHECK_INT(kit_batch(k, STORE_OP_BATCH_CANCEL, batch), STORE_OK);
	struct store_op *v = batch_view(k, batch), *r = results(k, batch, 0, false, 0, 0);
	const struct store_batch *b = &v->batches[0];
	CHECK(b->cancelled && b->sealed && b->count[STORE_CANCELLED] > 0 && b->ended_at == 0);
	CHECK_INT(b->count[STORE_RUNNING], 10);
	CHECK_INT(b->count[STORE_CANCELLED] + b->count[STORE_QUEUED], N - 10);
	CHECK(b->count[STORE_CANCELLED] <= r->n_out); /* a row that counts as ended has its result */
	store_op_free(r);
	store_op_free(v);
	struct store_op *none = kit_claim(k, 5, 5);
	CHECK_INT(none->n_out, 0);
	store_op_free(none);
	struct store_op *h = kit_op(STORE_OP_HEARTBEAT);
	CHECK_INT(kit_run(k, h), STORE_OK);
	CHECK_INT(h->n_out, 10);
	for (size_t i = 0; i < h->n_out; i++)
		CHECK_INT(h->orders[i].verb, STORE_CANCEL);
	store_op_free(h);
	for (size_t i = 0; i < c->n_out; i++) /* half obey, half give back, which is as good */
		CHECK_INT(i % 2 ? kit_log(k, c->jobs[i].id, c->jobs[i].token, 0, 2, done, STORE_CANCELLED)
				: kit_release(k, c->jobs[i].id, c->jobs[i].token, STORE_QUEUED),
			  STORE_OK);
	store_op_free(c);
	size_t n = 0;
	uint64_t cursor = 0;
	for (int i = 0; n < N && i < 1000; i++) {
		r = results(k, batch, cursor, false, 0, 0);
		n += r->n_out;
		cursor = r->cursor;
		for (size_t m = 0; m < r->n_out; m++)
			CHECK_INT(r->records[m].state, STORE_CANCELLED);
		if (!r->n_out)
			kit_wait(k, 20);
		store_op_free(r);
	}
	CHECK_INT(n, N);
	v = batch_view(k, batch);
	CHECK_INT(v->batches[0].count[STORE_CANCELLED], N);
	CHECK(v->batches[0].ended_at > 0);
	store_op_free(v);
}

static void a_cancelled_batch_is_closed_while_its_rows_end(struct kit *k)
{
	enum { N = 1000 };
	uint64_t batch, id = batch_of(k, N, &batch);
	struct store_op *c = kit_claim(k, 0, 1);
	CHECK_INT(c->n_out, 1);
	CHECK_INT(kit_batch(k, STORE_OP_BATCH_CANCEL, batch), STORE_OK);
	CHECK_INT(kit_batch(k, STORE_OP_BATCH_CLOSE, batch), STORE_CONFLICT);
	CHECK_INT(kit_log(k, c->jobs[0].id, c->jobs[0].token, 0, 2, done, STORE_CANCELLED), STORE_OK);
	store_op_free(c);
	CHECK_INT(kit_batch(k, STORE_OP_BATCH_CLOSE, batch), STORE_OK);
	for (int i = 0; i < 1000 && kit_state(k, id + N - 1) != STORE_NOTFOUND; i++)
		kit_wait(k, 20);
	CHECK_INT(kit_state(k, id + N - 1), STORE_NOTFOUND);
}

static void a_closed_batch_is_forgotten(struct kit *k)
{
	enum { N = 500 };
	uint64_t batch, id = batch_of(k, N, &batch);
	CHECK_INT(kit_batch(k, STORE_OP_BATCH_CLOSE, batch), STORE_CONFLICT);
	end_rows(k, all_done);
	CHECK_INT(kit_batch(k, STORE_OP_BATCH_CLOSE, batch), STORE_OK);
	CHECK_INT(kit_batch(k, STORE_OP_BATCH_CLOSE, batch), STORE_NOTFOUND);
	CHECK_INT(kit_batch(k, STORE_OP_BATCH_VIEW, batch), STORE_NOTFOUND);
	CHECK_INT(kit_batch(k, STORE_OP_BATCH_RESULTS, batch), STORE_NOTFOUND);
	struct store_op *b = batch_open(k, "b", NULL);
	CHECK(b->batches[0].id != batch);
	CHECK_INT(b->batches[0].rows, 0);
	store_op_free(b);
	for (int i = 0; i < 1000 && kit_state(k, id + N - 1) != STORE_NOTFOUND; i++)
		kit_wait(k, 20);
	for (uint64_t i = 0; i < N; i++)
		CHECK_INT(kit_state(k, id + i), STORE_NOTFOUND);
}

const struct fact facts_of_batches[] = {
	FACT(a_batch_is_opened_once_by_name),
	FACT(rows_come_in_order_and_once),
	FACT(results_come_in_the_order_of_ends_without_gaps),
	FACT(ordered_results_wait_for_the_first_unended_row),
	FACT(a_batch_ends_with_its_last_row),
	FACT(failed_rows_are_tried_again_as_new_jobs),
	FACT(a_cancelled_batch_ends_little_by_little),
	FACT(a_cancelled_batch_is_closed_while_its_rows_end),
	FACT(a_closed_batch_is_forgotten),
	{0},
};
