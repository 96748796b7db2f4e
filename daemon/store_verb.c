/* store_verb.c: what people do to a job, whoever holds it; and forgetting what was kept long enough. */
#include "store_sql.h"
#include <string.h>

static int get(struct db *db, struct held *h, uint64_t id)
{
	struct sql q;
	*h = (struct held){.id = id};
	sql_start(&q, db, SQL_JOB_GET);
	sql_int(&q, (int64_t)id);
	int found = sql_row(&q);
	if (found == 1) {
		sql_get_text_in(&q, 0, h->identity, sizeof(h->identity));
		h->batch = sql_get_u64(&q, 1);
		h->state = (enum store_state)sql_get_int(&q, 2);
		h->verb = (enum store_verb)sql_get_int(&q, 3);
		h->verb_at = sql_get_int(&q, 4);
		h->crashes = (uint32_t)sql_get_int(&q, 5);
	}
	int rc = sql_end(&q);
	return rc < 0 ? rc : found;
}

/* Of a job that a daemon holds: leave an order. KICK takes back a BURY or DELAY that was not obeyed yet. */
static int order(struct db *db, struct store_op *op, const struct held *h)
{
	enum store_verb verb = op->verb;
	switch (verb) {
	case STORE_TOUCH:
		return 0;
	case STORE_CLOSE:
		return op_finish(op, STORE_CONFLICT, "the job has not ended");
	case STORE_KICK:
		verb = 0;
		break;
	default:
		op->held = true;
	}
	if (h->verb == STORE_CANCEL)
		return 0;
	db->news = true;
	return SQL_RUN(db, SQL_ORDER, (int64_t)h->id, verb, verb == STORE_DELAY ? op->run_at : 0);
}

static int on_waiting(struct db *db, struct store_op *op, const struct held *h)
{
	enum store_state to = h->state;
	switch (op->verb) {
	case STORE_CANCEL:
		op->state = STORE_CANCELLED;
		return move_end(db, h, STORE_CANCELLED, "cancelled", "cancelled");
	case STORE_BURY:
		to = STORE_BURIED;
		break;
	case STORE_KICK:
		to = STORE_QUEUED;
		break;
	case STORE_DELAY:
		to = STORE_DELAYED;
		break;
	case STORE_CLOSE:
		return op_finish(op, STORE_CONFLICT, "the job has not ended");
	case STORE_TOUCH:
		return 0;
	}
	op->state = to;
	return to == h->state && to != STORE_DELAYED ? 0 : move_wait(db, h, to, op->run_at, h->crashes);
}

static int on_ended(struct db *db, struct store_op *op, const struct held *h)
{
	switch (op->verb) {
	case STORE_CANCEL:
		return 0;
	case STORE_TOUCH:
		return SQL_RUN(db, SQL_KEEP, (int64_t)h->id, db->now);
	case STORE_CLOSE:
		if (h->batch)
			return op_finish(op, STORE_CONFLICT, "the job is row of a batch, and is closed with it");
		return move_forget(db, h);
	default:
		return op_finish(op, STORE_CONFLICT, "the job has ended");
	}
}

int op_verb(struct db *db, struct store_op *op)
{
	struct held h;
	int found = get(db, &h, op->job);
	if (found < 0)
		return found;
	if (found == 0 || strcmp(h.identity, op->identity) != 0)
		return op_finish(op, STORE_NOTFOUND, "no such job");
	op->state = h.state;
	if (h.state == STORE_RUNNING)
		return order(db, op, &h);
	return store_state_final(h.state) ? on_ended(db, op, &h) : on_waiting(db, op, &h);
}

/* ---- forgetting -----------------------------------------------------------------------------------------------------------------
 */

enum { SWEEP_MAX = 1000 };

int op_sweep(struct db *db, struct store_op *op)
{
	struct held held[SWEEP_MAX];
	uint32_t max = op->n[0] < SWEEP_MAX ? op->n[0] : SWEEP_MAX, n = 0;
	struct sql q;
	sql_start(&q, db, SQL_SWEEP);
	sql_int(&q, op->before);
	sql_int(&q, max);
	for (; n < max && sql_row(&q) == 1; n++) {
		held[n] = (struct held){.id = sql_get_u64(&q, 0), .state = (enum store_state)sql_get_int(&q, 2)};
		sql_get_text_in(&q, 1, held[n].identity, sizeof(held[n].identity));
	}
	int rc = sql_end(&q);
	for (uint32_t i = 0; i < n && rc >= 0; i++)
		rc = move_forget(db, &held[i]);
	op->n[0] = n;
	return rc;
}
