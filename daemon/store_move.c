/* store_move.c: changes of state that several ops share.
 *
 *      ADD -----> QUEUED <----> DELAYED, BURIED        (run_at reached; VERB; RELEASE)
 *     (hold) \    |    ^
 *             \   | CLAIM | RELEASE; the holder vanished
 *              v  v    |
 *            RUNNING --+
 *               | LOG with a final state: its holder alone, fenced by the token
 *               v
 *     DONE FAILED CANCELLED EXPIRED DEAD  <--- CANCELLED by VERB or BATCH_CANCEL, of jobs that nobody holds */
#include "store_sql.h"

static int drop_work(struct db *db, uint64_t job, bool request)
{
	int rc = SQL_RUN(db, SQL_CHECKPOINT_DROP, (int64_t)job);
	return rc < 0 || !request ? rc : SQL_RUN(db, SQL_REQUEST_DROP, (int64_t)job);
}

int move_end(struct db *db, const struct held *h, enum store_state to, const char *reason_code, const char *reason)
{
	struct sql q;
	sql_start(&q, db, SQL_END);
	sql_int(&q, (int64_t)h->id);
	sql_int(&q, to);
	sql_text(&q, reason_code);
	sql_text(&q, reason);
	sql_int(&q, db->now);
	int rc = sql_run(&q);
	if (rc >= 0)
		rc = drop_work(db, h->id, h->batch == 0); /* BATCH_RETRY asks for the requests of its rows again */
	if (rc >= 0)
		rc = tally_move(db, h->identity, h->batch, h->state, to);
	if (rc >= 0)
		rc = tally_ended(db, h->batch, h->id);
	if (rc >= 0 && db->fleet)
		rc = SQL_RUN(db, SQL_NOTE, (int64_t)h->id, db->now);
	db->news = true;
	return rc;
}

int move_wait(struct db *db, const struct held *h, enum store_state to, int64_t run_at, uint32_t crashes)
{
	int rc = SQL_RUN(db, SQL_WAIT, (int64_t)h->id, to, to == STORE_DELAYED ? run_at : 0, crashes);
	if (rc >= 0 && to != h->state)
		rc = tally_move(db, h->identity, h->batch, h->state, to);
	db->news = true;
	return rc;
}

int move_recover(struct db *db, const struct held *h)
{
	uint32_t crashes = h->crashes + (h->armed ? 1 : 0);
	switch (h->verb) {
	case STORE_CANCEL:
		return move_end(db, h, STORE_CANCELLED, "cancelled", "cancelled while its daemon was gone");
	case STORE_BURY:
		return move_wait(db, h, STORE_BURIED, 0, crashes);
	case STORE_DELAY:
		return move_wait(db, h, STORE_DELAYED, h->verb_at, crashes);
	default:
		return move_wait(db, h, STORE_QUEUED, 0, crashes);
	}
}

int move_forget(struct db *db, const struct held *h)
{
	static const enum sql_id drops[] = {SQL_CHUNKS_DROP, SQL_REQUEST_DROP, SQL_CHECKPOINT_DROP, SQL_JOB_DROP};
	int rc = 0;
	for (size_t i = 0; i < sizeof(drops) / sizeof(drops[0]) && rc >= 0; i++)
		rc = SQL_RUN(db, drops[i], (int64_t)h->id);
	return rc < 0 ? rc : tally_count(db, h->identity, h->batch, h->state, -1);
}

/* In steps of a bounded number of rows: a daemon holds as many as its memory holds, but the memory of this list is bounded, too. */
int store_recover_all(struct db *db)
{
	for (;;) {
		struct held held[256];
		size_t n = 0;
		struct sql q;
		sql_start(&q, db, SQL_HELD_ANY);
		sql_int(&q, 256);
		for (; sql_row(&q) == 1; n++)
			held_get(&q, &held[n]);
		int rc = sql_end(&q);
		for (size_t i = 0; i < n && rc >= 0; i++)
			rc = move_recover(db, &held[i]);
		if (rc < 0 || n < 256)
			return rc;
	}
}

void held_get(struct sql *q, struct held *h)
{
	*h = (struct held){.id = sql_get_u64(q, 0),
			   .batch = sql_get_u64(q, 2),
			   .state = STORE_RUNNING,
			   .verb = (enum store_verb)sql_get_int(q, 3),
			   .verb_at = sql_get_int(q, 4),
			   .crashes = (uint32_t)sql_get_int(q, 5),
			   .armed = sql_get_int(q, 6) != 0};
	sql_get_text_in(q, 1, h->identity, sizeof(h->identity));
}
