/* store_hold.c: what a holder does with its job: LOG, RELEASE, HEARTBEAT. Fenced: a statement names job and token, and changes
 * nothing where the row has another. */
#include "store_sql.h"
#include <stdio.h>
#include <stdlib.h>

/* Why a fenced statement found no row. */
static int why_not(struct db *db, struct store_op *op, uint32_t from)
{
	struct sql q;
	int known = 0, state = 0;
	uint64_t token = 0, n_events = 0;
	sql_start(&q, db, SQL_LOG_WHY);
	sql_int(&q, (int64_t)op->job);
	if (sql_row(&q) == 1) {
		known = 1;
		state = (int)sql_get_int(&q, 0);
		token = sql_get_u64(&q, 1);
		n_events = sql_get_u64(&q, 2);
	}
	int rc = sql_end(&q);
	if (rc < 0)
		return rc;
	if (!known)
		return op_finish(op, STORE_NOTFOUND, "no such job");
	if (state != STORE_RUNNING || token != op->token)
		return op_finish(op, STORE_STALE, "the job is not held with this token any more");
	return op_finish(op, STORE_CONFLICT, "the job's next event is %llu, not %u", (unsigned long long)n_events, from);
}

static int log_more(struct db *db, struct store_op *op)
{
	bool progress = !op->started && (op->n_events || op->checkpoint.data);
	struct sql q;
	sql_start(&q, db, SQL_LOG_MORE);
	sql_int(&q, (int64_t)op->job);
	sql_int(&q, (int64_t)op->token);
	sql_int(&q, op->from);
	sql_int(&q, op->n_events);
	sql_int(&q, op->checkpoint.data != NULL);
	sql_int(&q, op->started);
	sql_int(&q, db->now);
	sql_int(&q, progress);
	sql_int(&q, (int64_t)op->prompt_tokens);
	sql_int(&q, (int64_t)op->completion_tokens);
	int found = sql_row(&q);
	int rc = sql_end(&q);
	return rc < 0 ? rc : found;
}

/* The end of a job by its holder. What only a holder needs goes; a row that failed keeps its request for BATCH_RETRY. */
static int log_end(struct db *db, struct store_op *op)
{
	struct held h = {.id = op->job};
	int64_t prompt = 0, completion = 0;
	struct sql q;
	sql_start(&q, db, SQL_LOG_END);
	sql_int(&q, (int64_t)op->job);
	sql_int(&q, (int64_t)op->token);
	sql_int(&q, op->from);
	sql_int(&q, op->n_events);
	sql_int(&q, op->state);
	sql_text(&q, op->reason_code);
	sql_text(&q, op->reason);
	sql_int(&q, db->now);
	sql_int(&q, op->n_events > 0);
	sql_int(&q, (int64_t)op->prompt_tokens);
	sql_int(&q, (int64_t)op->completion_tokens);
	sql_int(&q, op->state == STORE_FAILED);
	sql_int(&q, op->started);
	int found = sql_row(&q);
	if (found == 1) {
		sql_get_text_in(&q, 0, h.identity, sizeof(h.identity));
		h.batch = sql_get_u64(&q, 1);
		prompt = sql_get_int(&q, 2);
		completion = sql_get_int(&q, 3);
	}
	int rc = sql_end(&q);
	if (rc < 0 || found != 1)
		return rc < 0 ? rc : 0;
	rc = SQL_RUN(db, SQL_CHECKPOINT_DROP, (int64_t)h.id);
	if (rc >= 0 && (h.batch == 0 || op->state == STORE_DONE))
		rc = SQL_RUN(db, SQL_REQUEST_DROP, (int64_t)h.id);
	if (rc >= 0)
		rc = tally_move(db, h.identity, h.batch, STORE_RUNNING, (enum store_state)op->state);
	if (rc >= 0 && prompt)
		rc = tally_count(db, h.identity, h.batch, TALLY_PROMPT, prompt);
	if (rc >= 0 && completion)
		rc = tally_count(db, h.identity, h.batch, TALLY_COMPLETION, completion);
	if (rc >= 0)
		rc = tally_ended(db, h.batch, h.id);
	return rc < 0 ? rc : 1;
}

static int log_rest(struct db *db, const struct store_op *op)
{
	struct sql q;
	int rc = 0;
	if (op->n_events) {
		sql_start(&q, db, SQL_CHUNK_ADD);
		sql_int(&q, (int64_t)op->job);
		sql_int(&q, op->from);
		sql_int(&q, op->n_events);
		sql_text(&q, db->owner);
		sql_bytes(&q, op->events.data, op->events.len);
		rc = sql_run(&q);
		db->news = true;
	}
	if (rc < 0 || !op->checkpoint.data || op->state >= 0)
		return rc;
	sql_start(&q, db, SQL_CHECKPOINT);
	sql_int(&q, (int64_t)op->job);
	sql_bytes(&q, op->checkpoint.data, op->checkpoint.len);
	return sql_run(&q);
}

int op_log(struct db *db, struct store_op *op)
{
	if (op->state >= 0 && (op->state >= STORE_STATES || !store_state_final((enum store_state)op->state)))
		return op_finish(op, STORE_CONFLICT, "state %d is no end; STORE_OP_RELEASE gives a job up", op->state);
	if (op->token == 0)
		return op_finish(op, STORE_STALE, "no token");
	int found = op->state >= 0 ? log_end(db, op) : log_more(db, op);
	if (found < 0)
		return found;
	return found ? log_rest(db, op) : why_not(db, op, op->from);
}

int op_release(struct db *db, struct store_op *op)
{
	struct held h = {.id = op->job, .state = STORE_RUNNING};
	if (op->state != STORE_QUEUED && op->state != STORE_DELAYED && op->state != STORE_BURIED)
		return op_finish(op, STORE_CONFLICT, "a job is released to queued, delayed or buried");
	struct sql q;
	sql_start(&q, db, SQL_RELEASE_GET);
	sql_int(&q, (int64_t)op->job);
	sql_int(&q, (int64_t)op->token);
	int found = op->token ? sql_row(&q) : 0;
	if (found == 1) {
		sql_get_text_in(&q, 0, h.identity, sizeof(h.identity));
		h.batch = sql_get_u64(&q, 1);
		h.verb = (enum store_verb)sql_get_int(&q, 2);
		h.verb_at = sql_get_int(&q, 3);
		h.crashes = (uint32_t)sql_get_int(&q, 4);
	}
	int rc = sql_end(&q);
	if (rc < 0 || found != 1)
		return rc < 0 ? rc : why_not(db, op, 0);
	if (op->reason_code[0]) {
		sql_start(&q, db, SQL_RELEASE_WHY);
		sql_int(&q, (int64_t)op->job);
		sql_text(&q, op->reason_code);
		sql_text(&q, op->reason);
		rc = sql_run(&q);
		if (rc < 0)
			return rc;
	}
	if (h.verb == STORE_CANCEL) {
		op->state = STORE_CANCELLED;
		return move_end(db, &h, STORE_CANCELLED, "cancelled", "cancelled");
	}
	if (h.verb == STORE_BURY)
		op->state = STORE_BURIED;
	if (h.verb == STORE_DELAY) {
		op->state = STORE_DELAYED;
		op->run_at = h.verb_at;
	}
	return move_wait(db, &h, (enum store_state)op->state, op->run_at, h.crashes);
}

/* ---- heartbeat ------------------------------------------------------------------------------------------------------------------
 */

static int beat(struct db *db)
{
	struct sql q;
	sql_start(&q, db, SQL_OWNER_BEAT);
	sql_text(&q, db->owner);
	sql_int(&q, db->now + db->lease_ms);
	return sql_run(&q);
}

static int collect(struct db *db, struct store_op *op, enum sql_id id)
{
	struct sql q;
	sql_start(&q, db, id);
	sql_text(&q, db->owner);
	while (sql_row(&q) == 1) {
		struct store_order *o = op_grow((void **)&op->orders, &op->n_out, sizeof(*o));
		if (!o) {
			snprintf(db->text, sizeof(db->text), "out of memory");
			q.code = STORE_ENOMEM;
			break;
		}
		o->id = sql_get_u64(&q, 0);
		o->lost = id == SQL_LOST_TAKE;
		o->verb = o->lost ? 0 : (enum store_verb)sql_get_int(&q, 1);
		o->run_at = o->lost ? 0 : sql_get_int(&q, 2);
	}
	return sql_end(&q);
}

int op_heartbeat(struct db *db, struct store_op *op)
{
	int rc = db->fleet ? beat(db) : 0;
	if (rc >= 0 && db->fleet)
		rc = collect(db, op, SQL_LOST_TAKE);
	return rc < 0 ? rc : collect(db, op, SQL_ORDERS);
}
