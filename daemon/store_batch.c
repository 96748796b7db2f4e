/* store_batch.c: batches, and the work on many rows that is done little by little (store_tidy). */
#include "store_sql.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCHES_MAX = 1000, RECORDS_MAX = 10000, RECORDS_AT_ONCE = 32, RETRY_AT_ONCE = 500, TIDY_AT_ONCE = 128 };

static int no_memory(struct db *db)
{
	snprintf(db->text, sizeof(db->text), "out of memory");
	return STORE_ENOMEM;
}

static int not_found(struct store_op *op)
{
	return op_finish(op, STORE_NOTFOUND, "no such batch");
}

/* ---- OPEN, VIEW, LIST -----------------------------------------------------------------------------------------------------------
 */

static int counts(struct db *db, struct store_batch *b)
{
	struct sql q;
	sql_start(&q, db, SQL_COUNT_BATCH);
	sql_int(&q, (int64_t)b->id);
	while (sql_row(&q) == 1) {
		int64_t kind = sql_get_int(&q, 0);
		uint64_t n = sql_get_u64(&q, 1);
		if (kind >= 0 && kind < STORE_STATES)
			b->count[kind] = n;
		if (kind == TALLY_PROMPT)
			b->prompt_tokens = n;
		if (kind == TALLY_COMPLETION)
			b->completion_tokens = n;
	}
	return sql_end(&q);
}

/* A batch has ended when it is sealed and no row is left: then at the moment of its last row's end, or when it was sealed. */
static int ended_at(struct db *db, struct store_batch *b, int64_t sealed_at)
{
	struct sql q;
	if (!sealed_at || b->count[STORE_QUEUED] || b->count[STORE_DELAYED] || b->count[STORE_BURIED] || b->count[STORE_RUNNING])
		return 0;
	sql_start(&q, db, SQL_BATCH_ENDED_AT);
	sql_int(&q, (int64_t)b->id);
	int64_t last = sql_row(&q) == 1 ? sql_get_int(&q, 0) : 0;
	b->ended_at = last > sealed_at ? last : sealed_at;
	return sql_end(&q);
}

/* The one that q finds is added to op->batches. 1: found. */
static int load(struct db *db, struct store_op *op, struct sql *q)
{
	struct store_batch *b = NULL;
	int64_t sealed_at = 0;
	int found = sql_row(q);
	if (found == 1) {
		b = op_grow((void **)&op->batches, &op->n_out, sizeof(*b));
		if (!b) {
			sql_end(q);
			return no_memory(db);
		}
		b->id = sql_get_u64(q, 0);
		b->identity = sql_get_text(q, 1);
		b->name = sql_get_text(q, 2);
		b->created_at = sql_get_int(q, 3);
		sealed_at = sql_get_int(q, 4);
		b->rows = sql_get_u64(q, 5);
		b->sealed = sealed_at != 0;
		b->cancelled = sql_get_int(q, 6) != 0;
		sql_get_bytes(q, 7, &b->meta);
	}
	int rc = sql_end(q);
	if (rc < 0 || found != 1)
		return rc < 0 ? rc : 0;
	rc = tally_flush(db);
	if (rc >= 0)
		rc = counts(db, b);
	if (rc >= 0)
		rc = ended_at(db, b, sealed_at);
	return rc < 0 ? rc : 1;
}

static int load_by_id(struct db *db, struct store_op *op, uint64_t id)
{
	struct sql q;
	sql_start(&q, db, SQL_BATCH_GET);
	sql_int(&q, (int64_t)id);
	return load(db, op, &q);
}

static int load_by_name(struct db *db, struct store_op *op)
{
	struct sql q;
	sql_start(&q, db, SQL_BATCH_BY_NAME);
	sql_text(&q, op->identity);
	sql_text(&q, op->name);
	return load(db, op, &q);
}

/* 1: a new one with op->batch as its id; 0: the name is known. */
static int create(struct db *db, struct store_op *op)
{
	struct sql q;
	sql_start(&q, db, SQL_IDS);
	sql_int(&q, 1);
	uint64_t id = sql_row(&q) == 1 ? sql_get_u64(&q, 0) : 0;
	int rc = sql_end(&q);
	if (rc < 0)
		return rc;
	sql_start(&q, db, SQL_BATCH_ADD);
	sql_int(&q, (int64_t)id);
	sql_text(&q, op->identity);
	sql_text(&q, op->name);
	sql_int(&q, db->now);
	sql_bytes(&q, op->meta.data, op->meta.len);
	int added = sql_row(&q);
	rc = sql_end(&q);
	op->batch = id;
	return rc < 0 ? rc : added;
}

int op_batch_open(struct db *db, struct store_op *op)
{
	int rc = op->name[0] ? load_by_name(db, op) : 0;
	if (rc == 0) {
		rc = create(db, op);
		if (rc >= 0)
			rc = rc ? load_by_id(db, op, op->batch) : load_by_name(db, op);
	}
	if (rc == 0) {
		snprintf(db->text, sizeof(db->text), "the batch of a name was closed at that moment");
		return STORE_AGAIN;
	}
	if (rc > 0)
		op->batch = op->batches[0].id;
	return rc < 0 ? rc : 0;
}

int op_batch_view(struct db *db, struct store_op *op)
{
	int rc = op->batch ? load_by_id(db, op, op->batch) : load_by_name(db, op);
	if (rc < 0)
		return rc;
	if (rc == 1 && strcmp(op->batches[0].identity, op->identity) == 0)
		return 0;
	for (size_t i = 0; i < op->n_out; i++)
		batch_free(&op->batches[i]);
	op->n_out = 0;
	return not_found(op);
}

int op_batch_list(struct db *db, struct store_op *op)
{
	uint32_t limit = op->filter.limit && op->filter.limit < BATCHES_MAX ? op->filter.limit : BATCHES_MAX, n = 0;
	uint64_t *ids = malloc(limit * sizeof(*ids));
	if (!ids)
		return no_memory(db);
	struct sql q;
	sql_start(&q, db, SQL_BATCH_LIST);
	sql_text(&q, op->identity);
	sql_int(&q, (int64_t)op->filter.after);
	sql_int(&q, limit);
	while (n < limit && sql_row(&q) == 1)
		ids[n++] = sql_get_u64(&q, 0);
	int rc = sql_end(&q);
	for (uint32_t i = 0; i < n && rc >= 0; i++)
		rc = load_by_id(db, op, ids[i]);
	free(ids);
	return rc < 0 ? rc : 0;
}

/* ---- SEAL, CANCEL, CLOSE --------------------------------------------------------------------------------------------------------
 */

/* Locks the row of the op's batch. 1: it is there, and of this identity. */
static int lock_batch(struct db *db, const struct store_op *op, bool *cancelled)
{
	char identity[sizeof(op->identity)] = "";
	struct sql q;
	sql_start(&q, db, SQL_BATCH_LOCK);
	sql_int(&q, (int64_t)op->batch);
	int found = sql_row(&q);
	if (found == 1) {
		sql_get_text_in(&q, 0, identity, sizeof(identity));
		if (cancelled)
			*cancelled = sql_get_int(&q, 3) != 0;
	}
	int rc = sql_end(&q);
	return rc < 0 ? rc : found && strcmp(identity, op->identity) == 0;
}

int op_batch_seal(struct db *db, struct store_op *op)
{
	int rc = lock_batch(db, op, NULL);
	if (rc <= 0)
		return rc < 0 ? rc : not_found(op);
	return SQL_RUN(db, SQL_BATCH_SEAL, (int64_t)op->batch, db->now);
}

/* Ends the rows of a cancelled batch that wait, in order of their numbers; cancel_row is how far it came, -1 when it is through. */
static int cancel_rows(struct db *db, uint64_t batch, const char *identity, int64_t from)
{
	struct held held[TIDY_AT_ONCE];
	int64_t next = from;
	int n = 0, unended = 0;
	struct sql q;
	sql_start(&q, db, SQL_TIDY_ROWS);
	sql_int(&q, (int64_t)batch);
	sql_int(&q, from);
	sql_int(&q, TIDY_AT_ONCE);
	for (; n < TIDY_AT_ONCE && sql_row(&q) == 1; n++) {
		struct held h = {.id = sql_get_u64(&q, 0), .batch = batch, .state = (enum store_state)sql_get_int(&q, 2)};
		next = sql_get_int(&q, 1) + 1;
		snprintf(h.identity, sizeof(h.identity), "%s", identity);
		if (!store_state_final(h.state))
			held[unended++] = h;
	}
	int rc = sql_end(&q);
	for (int i = 0; i < unended && rc >= 0; i++)
		if (held[i].state == STORE_RUNNING) /* claimed while the batch was being cancelled */
			rc = SQL_RUN(db, SQL_ORDER, (int64_t)held[i].id, STORE_CANCEL, 0);
		else
			rc = move_end(db, &held[i], STORE_CANCELLED, "cancelled", "the batch was cancelled");
	if (rc >= 0)
		rc = SQL_RUN(db, SQL_TIDY_CANCEL_AT, (int64_t)batch, n < TIDY_AT_ONCE ? -1 : next);
	return rc < 0 ? rc : 1;
}

/* The first rows end here, so that a small batch is through at once; the rest little by little. Until then they count as what they
 * are: who sees that a batch has ended finds the results of all its rows. */
int op_batch_cancel(struct db *db, struct store_op *op)
{
	int rc = lock_batch(db, op, NULL);
	if (rc <= 0)
		return rc < 0 ? rc : not_found(op);
	db->news = db->untidy = true;
	rc = SQL_RUN(db, SQL_BATCH_CANCEL, (int64_t)op->batch);
	if (rc >= 0)
		rc = SQL_RUN(db, SQL_BATCH_SEAL, (int64_t)op->batch, db->now); /* no more rows come */
	if (rc >= 0)
		rc = SQL_RUN(db, SQL_BATCH_ORDERS, (int64_t)op->batch, STORE_CANCEL);
	if (rc >= 0)
		rc = cancel_rows(db, op->batch, op->identity, 0);
	return rc < 0 ? rc : 0;
}

int op_batch_close(struct db *db, struct store_op *op)
{
	static const enum store_state open[] = {STORE_RUNNING, STORE_QUEUED, STORE_DELAYED, STORE_BURIED};
	struct store_batch b = {.id = op->batch};
	bool cancelled = false;
	int rc = lock_batch(db, op, &cancelled);
	if (rc <= 0)
		return rc < 0 ? rc : not_found(op);
	rc = tally_flush(db);
	if (rc >= 0)
		rc = counts(db, &b);
	for (int i = 0; i < (cancelled ? 1 : 4) && rc >= 0; i++) /* what waits in a cancelled one never runs */
		if (b.count[open[i]])
			return op_finish(op, STORE_CONFLICT, "rows of the batch wait or run; cancel it first");
	db->untidy = true;
	return rc < 0 ? rc : SQL_RUN(db, SQL_BATCH_CLOSE, (int64_t)op->batch);
}

/* ---- RESULTS --------------------------------------------------------------------------------------------------------------------
 */

/* The last event of a chunk. */
static int last_event(struct db *db, struct store_bytes *b)
{
	uint8_t *p = b->data;
	for (size_t at = 0; b->data && b->len - at >= 4;) {
		size_t size = p[at] | (size_t)p[at + 1] << 8 | (size_t)p[at + 2] << 16 | (size_t)p[at + 3] << 24;
		if (size > b->len - at - 4)
			break;
		if (at + 4 + size == b->len) {
			memmove(p, p + at + 4, size);
			b->len = size;
			return 0;
		}
		at += 4 + size;
	}
	if (!b->data)
		return 0;
	snprintf(db->text, sizeof(db->text), "a chunk of events is cut");
	return STORE_EBROKEN;
}

static int fill_record(struct sql *q, struct store_record *r, bool ordered)
{
	r->job = sql_get_u64(q, 0);
	r->row = sql_get_u64(q, 1);
	r->cursor = ordered ? r->row + 1 : sql_get_u64(q, 2);
	r->state = (enum store_state)sql_get_int(q, 3);
	r->custom_id = sql_get_text(q, 4);
	r->reason_code = sql_get_text(q, 5);
	r->reason = sql_get_text(q, 6);
	r->ended_at = sql_get_int(q, 8);
	int rc = sql_get_bytes(q, 7, &r->done);
	return rc < 0 ? rc : last_event(q->db, &r->done);
}

/* 1: no more for now. */
static int results_step(struct db *db, struct store_op *op, uint32_t max, size_t *bytes, size_t max_bytes)
{
	uint32_t n = max < RECORDS_AT_ONCE ? max : RECORDS_AT_ONCE, rows = 0;
	bool more = true;
	struct sql q;
	sql_start(&q, db, op->ordered ? SQL_RESULTS_ROWS : SQL_RESULTS);
	sql_int(&q, (int64_t)op->batch);
	sql_int(&q, (int64_t)op->cursor);
	sql_int(&q, n);
	for (; more && *bytes < max_bytes && sql_row(&q) == 1; rows++) {
		if (op->ordered && (sql_get_u64(&q, 1) != op->cursor || !store_state_final((enum store_state)sql_get_int(&q, 3)))) {
			more = false;
			break;
		}
		struct store_record *r = op_grow((void **)&op->records, &op->n_out, sizeof(*r));
		if (!r) {
			q.code = no_memory(db);
			break;
		}
		int rc = fill_record(&q, r, op->ordered);
		if (rc < 0 && q.code == STORE_OK)
			q.code = rc;
		op->cursor = r->cursor;
		*bytes += r->done.len + 1;
	}
	int rc = sql_end(&q);
	return rc < 0 ? rc : !more || rows < n || *bytes >= max_bytes;
}

int op_batch_results(struct db *db, struct store_op *op)
{
	uint32_t max = op->n[0] && op->n[0] < RECORDS_MAX ? op->n[0] : RECORDS_MAX;
	size_t bytes = 0, max_bytes = op->max_bytes ? op->max_bytes : 16 << 20;
	char identity[sizeof(op->identity)] = "";
	struct sql q;
	int rc = tally_flush(db);
	if (rc < 0)
		return rc;
	sql_start(&q, db, SQL_BATCH_GET);
	sql_int(&q, (int64_t)op->batch);
	int found = sql_row(&q);
	if (found == 1)
		sql_get_text_in(&q, 1, identity, sizeof(identity));
	rc = sql_end(&q);
	if (rc < 0 || found != 1 || strcmp(identity, op->identity) != 0)
		return rc < 0 ? rc : not_found(op);
	while (rc == 0 && op->n_out < max)
		rc = results_step(db, op, max - (uint32_t)op->n_out, &bytes, max_bytes);
	return rc < 0 ? rc : 0;
}

/* ---- RETRY ----------------------------------------------------------------------------------------------------------------------
 */

struct again {
	uint64_t job, row;
	enum store_state state;
	int64_t prompt, completion;
};

static int retry_pick(struct db *db, struct store_op *op, struct again *list, uint32_t *n)
{
	struct sql q;
	sql_start(&q, db, SQL_RETRY_PICK);
	sql_int(&q, (int64_t)op->batch);
	sql_int(&q, (int64_t)op->cursor);
	sql_int(&q, RETRY_AT_ONCE);
	for (*n = 0; *n < RETRY_AT_ONCE && sql_row(&q) == 1; ++*n)
		list[*n] = (struct again){sql_get_u64(&q, 0), sql_get_u64(&q, 1), (enum store_state)sql_get_int(&q, 2),
					  sql_get_int(&q, 3), sql_get_int(&q, 4)};
	return sql_end(&q);
}

static int retry_one(struct db *db, const struct store_op *op, const struct again *a, uint64_t id)
{
	int rc = SQL_RUN(db, SQL_CHUNKS_DROP, (int64_t)a->job);
	if (rc >= 0)
		rc = SQL_RUN(db, SQL_RETRY, (int64_t)a->job, (int64_t)id, db->now);
	if (rc >= 0)
		rc = SQL_RUN(db, SQL_RETRY_REQUEST, (int64_t)a->job, (int64_t)id);
	if (rc >= 0)
		rc = tally_move(db, op->identity, op->batch, a->state, STORE_QUEUED);
	if (rc >= 0 && a->prompt)
		rc = tally_count(db, op->identity, op->batch, TALLY_PROMPT, -a->prompt);
	return rc < 0 || !a->completion ? rc : tally_count(db, op->identity, op->batch, TALLY_COMPLETION, -a->completion);
}

int op_batch_retry(struct db *db, struct store_op *op)
{
	struct again list[RETRY_AT_ONCE];
	uint32_t n = 0;
	uint64_t first = 0;
	struct sql q;
	int rc = lock_batch(db, op, NULL);
	if (rc <= 0)
		return rc < 0 ? rc : not_found(op);
	rc = tally_flush(db);
	if (rc >= 0)
		rc = SQL_RUN(db, SQL_BATCH_UNCANCEL, (int64_t)op->batch);
	if (rc >= 0)
		rc = retry_pick(db, op, list, &n);
	if (rc < 0)
		return rc;
	sql_start(&q, db, SQL_IDS);
	sql_int(&q, n);
	if (sql_row(&q) == 1)
		first = sql_get_u64(&q, 0);
	rc = sql_end(&q);
	for (uint32_t i = 0; i < n && rc >= 0; i++)
		rc = retry_one(db, op, &list[i], first + i);
	op->n[0] = n;
	op->cursor = n == RETRY_AT_ONCE ? list[n - 1].row + 1 : 0;
	db->news = true;
	return rc;
}

/* ---- little by little -----------------------------------------------------------------------------------------------------------
 */

static int tidy_cancelled(struct db *db)
{
	char identity[64] = "";
	uint64_t batch = 0;
	int64_t from = 0;
	struct sql q;
	sql_start(&q, db, SQL_TIDY_CANCEL);
	int found = sql_row(&q);
	if (found == 1) {
		batch = sql_get_u64(&q, 0);
		sql_get_text_in(&q, 1, identity, sizeof(identity));
		from = sql_get_int(&q, 2);
	}
	int rc = sql_end(&q);
	return rc < 0 || !found ? rc : cancel_rows(db, batch, identity, from);
}

static int forget_rows(struct db *db, uint64_t batch, int *n)
{
	static const enum sql_id drops[] = {SQL_CHUNKS_DROP, SQL_REQUEST_DROP, SQL_CHECKPOINT_DROP, SQL_JOB_DROP};
	int64_t id[TIDY_AT_ONCE];
	struct sql q;
	sql_start(&q, db, SQL_TIDY_CLOSED_ROWS);
	sql_int(&q, (int64_t)batch);
	sql_int(&q, TIDY_AT_ONCE);
	for (*n = 0; *n < TIDY_AT_ONCE && sql_row(&q) == 1; ++*n)
		id[*n] = sql_get_int(&q, 0);
	int rc = sql_end(&q);
	for (int i = 0; i < *n; i++)
		for (size_t k = 0; k < sizeof(drops) / sizeof(drops[0]) && rc >= 0; k++)
			rc = SQL_RUN(db, drops[k], id[i]);
	return rc;
}

static int tidy_closed(struct db *db)
{
	uint64_t batch = 0;
	int n = 0;
	struct sql q;
	sql_start(&q, db, SQL_TIDY_CLOSED);
	int found = sql_row(&q);
	if (found == 1)
		batch = sql_get_u64(&q, 0);
	int rc = sql_end(&q);
	if (rc < 0 || !found)
		return rc;
	rc = SQL_RUN(db, SQL_TIDY_TALLY, (int64_t)batch);
	if (rc >= 0)
		rc = forget_rows(db, batch, &n);
	if (rc >= 0 && n < TIDY_AT_ONCE)
		rc = SQL_RUN(db, SQL_TIDY_BATCH, (int64_t)batch);
	return rc < 0 ? rc : 1;
}

/* What fleets leave behind: owners that came to nothing a week ago, and notes that every watcher has read. */
static int tidy_fleet(struct db *db)
{
	const int64_t week = 7 * 24 * 3600 * (int64_t)1000, minutes = 600 * (int64_t)1000;
	char owner[16][256];
	int n = 0;
	struct sql q;
	sql_start(&q, db, SQL_OWNERS_OLD);
	sql_int(&q, db->now - week);
	for (; n < 16 && sql_row(&q) == 1; n++)
		sql_get_text_in(&q, 0, owner[n], sizeof(owner[n]));
	int rc = sql_end(&q);
	for (int i = 0; i < n && rc >= 0; i++) {
		static const enum sql_id drops[] = {SQL_LOST_DROP, SQL_MARK_DROP, SQL_OWNER_DROP};
		for (int k = 0; k < 3 && rc >= 0; k++) {
			sql_start(&q, db, drops[k]);
			sql_text(&q, owner[i]);
			rc = sql_run(&q);
		}
	}
	return rc < 0 ? rc : SQL_RUN(db, SQL_TIDY_NOTES, db->now - minutes);
}

int store_tidy(struct db *db)
{
	db->untidy = false;
	int rc = tidy_cancelled(db);
	if (rc == 0)
		rc = tidy_closed(db);
	if (rc == 0 && db->fleet)
		rc = tidy_fleet(db);
	return rc;
}

int store_flush(struct db *db)
{
	return tally_flush(db);
}
