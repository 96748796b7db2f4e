/* store_claim.c: handing out jobs: those of vanished daemons go back first, delayed ones whose time has come wake, then the first
 * of each class are held. Every step takes a bounded number of rows, in the order of an index; rows that another daemon is looking
 * at are passed over. */
#include "store_sql.h"
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WAKE_AT_ONCE = 1000, RECOVER_AT_ONCE = 256, PICK_AT_ONCE = 64, CANCEL_AT_ONCE = 1024 };

static int no_memory(struct db *db)
{
	snprintf(db->text, sizeof(db->text), "out of memory");
	return STORE_ENOMEM;
}

/* ---- daemons that are gone ------------------------------------------------------------------------------------------------------
 */

static int recover_of(struct db *db, const char *owner)
{
	struct held held[RECOVER_AT_ONCE];
	size_t n = 0;
	struct sql q;
	sql_start(&q, db, SQL_HELD_BY);
	sql_text(&q, owner);
	sql_int(&q, RECOVER_AT_ONCE);
	for (; n < RECOVER_AT_ONCE && sql_row(&q) == 1; n++)
		held_get(&q, &held[n]);
	int rc = sql_end(&q);
	for (size_t i = 0; i < n && rc >= 0; i++) {
		rc = move_recover(db, &held[i]);
		if (rc < 0)
			return rc;
		sql_start(&q, db, SQL_LOST_ADD);
		sql_text(&q, owner);
		sql_int(&q, (int64_t)held[i].id);
		rc = sql_run(&q);
	}
	return rc;
}

/* The rows of the owners are locked, too: a heartbeat that comes just now waits, and then hears what it lost. */
static int recover_gone(struct db *db)
{
	char owner[4][256];
	int n = 0;
	struct sql q;
	sql_start(&q, db, SQL_OWNERS_GONE);
	sql_int(&q, db->now);
	sql_text(&q, db->owner);
	for (; n < 4 && sql_row(&q) == 1; n++)
		sql_get_text_in(&q, 0, owner[n], sizeof(owner[n]));
	int rc = sql_end(&q);
	for (int i = 0; i < n && rc >= 0; i++)
		rc = recover_of(db, owner[i]);
	return rc;
}

/* ---- delayed jobs whose time has come -------------------------------------------------------------------------------------------
 */

static int wake_delayed(struct db *db)
{
	struct held *due = malloc(WAKE_AT_ONCE * sizeof(*due));
	size_t n = 0;
	struct sql q;
	if (!due)
		return no_memory(db);
	sql_start(&q, db, SQL_DUE_DELAYED);
	sql_int(&q, db->now);
	sql_int(&q, WAKE_AT_ONCE);
	for (; n < WAKE_AT_ONCE && sql_row(&q) == 1; n++) {
		due[n] = (struct held){.id = sql_get_u64(&q, 0), .batch = sql_get_u64(&q, 2)};
		sql_get_text_in(&q, 1, due[n].identity, sizeof(due[n].identity));
	}
	int rc = sql_end(&q);
	for (size_t i = 0; i < n && rc >= 0; i++) {
		rc = SQL_RUN(db, SQL_UNDELAY, (int64_t)due[i].id);
		if (rc >= 0)
			rc = tally_move(db, due[i].identity, due[i].batch, STORE_DELAYED, STORE_QUEUED);
	}
	free(due);
	return rc;
}

/* ---- the first of a class -------------------------------------------------------------------------------------------------------
 */

struct target_batch {
	uint64_t id;
	bool cancelled;
};
struct pick {
	struct held held;
	int64_t rank;
	uint64_t affinity;
};

/* As the index has them: numbers are signed there. */
static int by_order(const void *a, const void *b)
{
	const struct pick *x = a, *y = b;
	if (x->rank != y->rank)
		return x->rank < y->rank ? -1 : 1;
	if (x->affinity != y->affinity)
		return (int64_t)x->affinity < (int64_t)y->affinity ? -1 : 1;
	return x->held.id < y->held.id ? -1 : x->held.id > y->held.id;
}

static int pick_model(struct db *db, const char *model, int class, int n, struct pick *picks, int *n_picks)
{
	struct sql q;
	sql_start(&q, db, SQL_PICK);
	sql_text(&q, model);
	sql_int(&q, class);
	sql_int(&q, n);
	while (n-- > 0 && sql_row(&q) == 1) {
		struct pick *p = &picks[(*n_picks)++];
		*p = (struct pick){.held = {.id = sql_get_u64(&q, 0), .batch = sql_get_u64(&q, 3), .state = STORE_QUEUED},
				   .rank = sql_get_int(&q, 1),
				   .affinity = sql_get_u64(&q, 2)};
		sql_get_text_in(&q, 4, p->held.identity, sizeof(p->held.identity));
	}
	return sql_end(&q);
}

static int get_chunks(struct db *db, struct store_job *j)
{
	struct sql q;
	sql_start(&q, db, SQL_CHUNKS);
	sql_int(&q, (int64_t)j->id);
	while (sql_row(&q) == 1) {
		size_t len;
		const void *data = db->driver->get_bytes(&q, 0, &len);
		void *p = realloc(j->events.data, j->events.len + len + 1);
		if (!p) {
			q.code = no_memory(db);
			break;
		}
		j->events.data = p;
		memcpy((char *)p + j->events.len, data, len);
		j->events.len += len;
	}
	return sql_end(&q);
}

static int get_job(struct db *db, struct store_job *j, uint64_t id)
{
	struct sql q;
	sql_start(&q, db, SQL_CLAIMED);
	sql_int(&q, (int64_t)id);
	if (sql_row(&q) == 1) {
		j->id = id;
		j->batch = sql_get_u64(&q, 1);
		j->row = sql_get_u64(&q, 2);
		j->identity = sql_get_text(&q, 3);
		j->topic = sql_get_text(&q, 4);
		j->op = sql_get_text(&q, 5);
		j->key = sql_get_text(&q, 6);
		j->custom_id = sql_get_text(&q, 7);
		j->batch_class = sql_get_int(&q, 8) != 0;
		j->priority = (uint32_t)sql_get_int(&q, 9);
		j->rank = sql_get_int(&q, 10);
		j->accepted_at = sql_get_int(&q, 11);
		j->deadline_at = sql_get_int(&q, 12);
		j->queue_until = sql_get_int(&q, 13);
		j->attempt = (uint32_t)sql_get_int(&q, 14);
		j->crashes = (uint32_t)sql_get_int(&q, 15);
		j->started = sql_get_int(&q, 16) != 0;
		j->dead = j->crashes >= STORE_CRASHES;
		j->n_events = (uint32_t)sql_get_int(&q, 17);
		j->checkpoint_seq = (uint32_t)sql_get_int(&q, 18);
		sql_get_bytes(&q, 19, &j->request);
		sql_get_bytes(&q, 20, &j->checkpoint);
	}
	int rc = sql_end(&q);
	return rc < 0 || !j->n_events ? rc : get_chunks(db, j);
}

static int take(struct db *db, struct store_op *op, const struct held *h, uint64_t token)
{
	struct sql q;
	sql_start(&q, db, SQL_HOLD);
	sql_int(&q, (int64_t)h->id);
	sql_text(&q, db->owner);
	sql_int(&q, (int64_t)token);
	int rc = sql_run(&q);
	if (rc >= 0)
		rc = tally_move(db, h->identity, h->batch, STORE_QUEUED, STORE_RUNNING);
	if (rc < 0)
		return rc;
	struct store_job *j = op_grow((void **)&op->jobs, &op->n_out, sizeof(*j));
	if (!j)
		return no_memory(db);
	j->token = token;
	return get_job(db, j, h->id);
}

/* Rows of a batch that was cancelled and is not tidied up to here yet. The last answer is kept: rows of one batch come together. */
static int is_cancelled(struct db *db, uint64_t batch, struct target_batch *last)
{
	if (!batch || last->id == batch)
		return batch && last->cancelled;
	struct sql q;
	*last = (struct target_batch){.id = batch};
	sql_start(&q, db, SQL_BATCH_CANCELLED);
	sql_int(&q, (int64_t)batch);
	if (sql_row(&q) == 1)
		last->cancelled = sql_get_int(&q, 0) != 0;
	int rc = sql_end(&q);
	return rc < 0 ? rc : last->cancelled;
}

/* One round: up to *want jobs. How many rows it went through, 0: no more there. */
static int claim_round(struct db *db, struct store_op *op, int class, uint32_t *want, uint64_t token)
{
	struct pick picks[2 * PICK_AT_ONCE];
	struct target_batch batch = {0};
	int n = *want < PICK_AT_ONCE ? (int)*want : PICK_AT_ONCE, found = 0;
	int rc = pick_model(db, "", class, n, picks, &found);
	if (rc >= 0 && db->model[0])
		rc = pick_model(db, db->model, class, n, picks, &found);
	qsort(picks, (size_t)found, sizeof(*picks), by_order);
	if (found > n)
		found = n;
	for (int i = 0; i < found && rc >= 0; i++) {
		rc = is_cancelled(db, picks[i].held.batch, &batch);
		if (rc == 1) {
			rc = move_end(db, &picks[i].held, STORE_CANCELLED, "cancelled", "the batch was cancelled");
		} else if (rc == 0) {
			rc = take(db, op, &picks[i].held, token);
			--*want;
		}
	}
	return rc < 0 ? rc : found;
}

static int claim_class(struct db *db, struct store_op *op, int class, uint32_t want, uint64_t token)
{
	for (int seen = 0; want && seen < CANCEL_AT_ONCE + (int)op->n_out;) {
		int n = claim_round(db, op, class, &want, token);
		if (n <= 0)
			return n;
		seen += n;
	}
	return 0;
}

/* One token for all jobs of one claim: (job, token) is new all the same. Never 0, which says "nobody". */
static uint64_t new_token(void)
{
	uint64_t t;
	do
		randombytes_buf(&t, sizeof(t));
	while (t == 0);
	return t;
}

int op_claim(struct db *db, struct store_op *op)
{
	uint64_t token = new_token();
	int rc = db->fleet ? recover_gone(db) : 0;
	if (rc >= 0)
		rc = wake_delayed(db);
	if (rc >= 0)
		rc = claim_class(db, op, 0, op->n[0], token);
	return rc < 0 ? rc : claim_class(db, op, 1, op->n[1], token);
}
