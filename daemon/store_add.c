/* store_add.c: numbers and new jobs. */
#include "store_sql.h"
#include <stdio.h>
#include <string.h>

int op_ids(struct db *db, struct store_op *op)
{
	struct sql q;
	sql_start(&q, db, SQL_IDS);
	sql_int(&q, op->n[0]);
	if (sql_row(&q) == 1)
		op->first = sql_get_u64(&q, 0);
	return sql_end(&q);
}

/* The batch whose rows an op adds; its row is locked from the first of them on, so the numbers of rows have one order. */
struct target {
	uint64_t id, rows;
	bool found, changed;
	char identity[64];
	const char *closed; /* why it takes no more */
};

static int target_store(struct db *db, struct target *t)
{
	if (!t->changed)
		return 0;
	t->changed = false;
	return SQL_RUN(db, SQL_BATCH_ROWS, (int64_t)t->id, (int64_t)t->rows);
}

static int target_load(struct db *db, struct target *t, uint64_t id)
{
	int rc = target_store(db, t);
	if (rc < 0)
		return rc;
	struct sql q;
	*t = (struct target){.id = id};
	sql_start(&q, db, SQL_BATCH_LOCK);
	sql_int(&q, (int64_t)id);
	if (sql_row(&q) == 1) {
		t->found = true;
		sql_get_text_in(&q, 0, t->identity, sizeof(t->identity));
		t->rows = sql_get_u64(&q, 1);
		t->closed = sql_get_int(&q, 3) ? "the batch is cancelled" : sql_get_int(&q, 2) ? "the batch is sealed" : NULL;
	}
	return sql_end(&q);
}

/* What is there already, by key or by row: the same, or in conflict. 1: found. */
static int known(struct sql *q, struct store_new *a)
{
	size_t len;
	int found = 0;
	if (sql_row(q) == 1) {
		found = 1;
		a->existing = sql_get_u64(q, 0);
		const void *body = q->db->driver->get_bytes(q, 1, &len);
		a->code = len == sizeof(a->body) && memcmp(body, a->body, len) == 0 ? STORE_OK : STORE_CONFLICT;
	}
	int rc = sql_end(q);
	return rc < 0 ? rc : found;
}

static int known_row(struct db *db, struct store_new *a)
{
	struct sql q;
	sql_start(&q, db, SQL_BY_ROW);
	sql_int(&q, (int64_t)a->batch);
	sql_int(&q, (int64_t)a->row);
	int rc = known(&q, a);
	if (rc == 0) /* the row was there and is not: nobody can say what it was */
		a->code = STORE_CONFLICT;
	return rc;
}

/* 0: add it; 1: it has its answer. */
static int check_row(struct db *db, struct target *t, struct store_new *a)
{
	if (t->id != a->batch) {
		int rc = target_load(db, t, a->batch);
		if (rc < 0)
			return rc;
	}
	if (!t->found || strcmp(t->identity, a->identity) != 0) {
		a->code = STORE_NOTFOUND;
		return 1;
	}
	if (a->row < t->rows) {
		int rc = known_row(db, a);
		return rc < 0 ? rc : 1;
	}
	if (a->row > t->rows || t->closed) {
		a->code = STORE_CONFLICT;
		return 1;
	}
	return 0;
}

static void bind_new(struct sql *q, const struct db *db, const struct store_new *a, enum store_state state)
{
	bool held = state == STORE_RUNNING;
	sql_int(q, (int64_t)a->id);
	sql_text(q, a->identity);
	sql_text(q, a->topic);
	sql_text(q, a->op);
	if (a->key)
		sql_text(q, a->key);
	else
		sql_null(q);
	sql_bytes(q, a->body, sizeof(a->body));
	sql_int(q, a->batch_class);
	sql_int(q, a->priority);
	sql_int(q, a->rank);
	sql_int(q, (int64_t)a->affinity);
	sql_int(q, (int64_t)a->batch);
	sql_int(q, (int64_t)a->row);
	sql_text(q, a->custom_id);
	sql_text(q, a->model);
	sql_int(q, state);
	sql_int(q, a->accepted_at);
	sql_int(q, a->run_at);
	sql_int(q, a->deadline_at);
	sql_int(q, a->queue_until);
	sql_text(q, held ? db->owner : "");
	sql_int(q, held ? (int64_t)a->token : 0);
	sql_int(q, held);
	sql_int(q, a->n_events);
}

/* 1: added; 0: its key is known. */
static int insert_job(struct db *db, struct store_new *a, enum store_state state)
{
	struct sql q;
	sql_start(&q, db, a->key ? SQL_ADD_KEYED : SQL_ADD);
	bind_new(&q, db, a, state);
	if (!a->key) {
		int rc = sql_run(&q);
		return rc < 0 ? rc : 1;
	}
	int added = sql_row(&q);
	int rc = sql_end(&q);
	if (rc < 0 || added == 1)
		return rc < 0 ? rc : 1;
	sql_start(&q, db, SQL_BY_KEY);
	sql_text(&q, a->identity);
	sql_text(&q, a->key);
	rc = known(&q, a);
	if (rc == 0) {
		snprintf(db->text, sizeof(db->text), "the job of a key was forgotten at that moment");
		return STORE_AGAIN;
	}
	return rc < 0 ? rc : 0;
}

static int insert_rest(struct db *db, const struct store_new *a)
{
	struct sql q;
	sql_start(&q, db, SQL_REQUEST_ADD);
	sql_int(&q, (int64_t)a->id);
	sql_bytes(&q, a->request, a->request_len);
	int rc = sql_run(&q);
	if (rc < 0 || !a->n_events)
		return rc;
	sql_start(&q, db, SQL_CHUNK_ADD);
	sql_int(&q, (int64_t)a->id);
	sql_int(&q, 0);
	sql_int(&q, a->n_events);
	sql_text(&q, db->owner);
	sql_bytes(&q, a->events, a->events_len);
	return sql_run(&q);
}

static int add_one(struct db *db, struct target *t, struct store_new *a)
{
	enum store_state state = a->run_at ? STORE_DELAYED : a->hold ? STORE_RUNNING : STORE_QUEUED;
	int rc = a->batch ? check_row(db, t, a) : 0;
	if (rc != 0)
		return rc < 0 ? rc : 0;
	rc = insert_job(db, a, state);
	if (rc <= 0)
		return rc;
	if (a->batch) {
		t->rows++;
		t->changed = true;
	}
	rc = insert_rest(db, a);
	if (state == STORE_QUEUED)
		db->news = true;
	return rc < 0 ? rc : tally_count(db, a->identity, a->batch, state, 1);
}

int op_add(struct db *db, struct store_op *op)
{
	struct target t = {0};
	int rc = 0;
	for (size_t i = 0; i < op->n_add && rc >= 0; i++)
		rc = add_one(db, &t, &op->add[i]);
	return rc < 0 ? rc : target_store(db, &t);
}
