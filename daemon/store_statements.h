/* store_statements.h: every statement of the store, as SQL(name, text): included by store_sql.h and store_sql.c.
 *
 * Both dialects read them: parameters are $1.., {lock} and {skip} are row locks where there is more than one writer, and whatever
 * decides the use of a partial index (a state, batch <> 0) is a literal. Numbers of states are those of enum store_state;
 * tests/daemon/store_plan_test.c asks the database which index each statement takes. */

/* ---- ids */
SQL(IDS, "UPDATE meta SET value = value + $1 WHERE name = 'next_id' RETURNING value - $1")

/* ---- adding */
#define JOB_INSERT                                                                                                                 \
	"INSERT INTO job (id, identity, topic, op, key, body, class, priority, rank, affinity, batch, row_no, custom_id, model, "  \
	"state, accepted_at, run_at, "                                                                                             \
	"deadline_at, queue_until, owner, token, attempt, n_events) "                                                              \
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)"
SQL(ADD, JOB_INSERT)
SQL(ADD_KEYED, JOB_INSERT " ON CONFLICT (identity, key) WHERE key IS NOT NULL DO NOTHING RETURNING id")
#undef JOB_INSERT
SQL(BY_KEY, "SELECT id, body FROM job WHERE identity = $1 AND key = $2 AND key IS NOT NULL")
SQL(BY_ROW, "SELECT id, body FROM job WHERE batch = $1 AND row_no = $2 AND batch <> 0")
SQL(REQUEST_ADD, "INSERT INTO request (job, data) VALUES ($1, $2)")
SQL(CHUNK_ADD, "INSERT INTO chunk (job, seq, n, owner, data) VALUES ($1, $2, $3, $4, $5)")

/* ---- claiming; see the indexes job_queue, job_delayed and job_held */
SQL(DUE_DELAYED, "SELECT id, identity, batch FROM job WHERE state = 1 AND run_at <= $1 ORDER BY run_at LIMIT $2 {skip}")
SQL(UNDELAY, "UPDATE job SET state = 0, run_at = 0 WHERE id = $1")
SQL(PICK, "SELECT id, rank, affinity, batch, identity FROM job WHERE state = 0 AND model = $1 AND class = $2 ORDER BY rank, "
	  "affinity, id LIMIT $3 {skip}")
SQL(HOLD, "UPDATE job SET state = 3, owner = $2, token = $3, attempt = attempt + 1, armed = 0, reason_code = '', reason = '' WHERE "
	  "id = $1")
SQL(CHUNKS, "SELECT data FROM chunk WHERE job = $1 ORDER BY seq")
SQL(CLAIMED,
    "SELECT j.id, j.batch, j.row_no, j.identity, j.topic, j.op, j.key, j.custom_id, j.class, j.priority, j.rank, j.accepted_at, "
    "j.deadline_at, j.queue_until, "
    "j.attempt, j.crashes, j.started, j.n_events, j.checkpoint_seq, r.data, c.data FROM job j LEFT JOIN request r ON r.job = j.id "
    "LEFT JOIN checkpoint c ON c.job = j.id WHERE j.id = $1")
SQL(BATCH_CANCELLED, "SELECT cancelled FROM batch WHERE id = $1")
/* Of a fleet: owners whose lease ran out, and what they hold. */
SQL(OWNER_BEAT, "INSERT INTO owner (name, lease) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET lease = excluded.lease")
SQL(OWNERS_GONE, "SELECT name FROM owner WHERE lease < $1 AND name <> $2 AND EXISTS (SELECT 1 FROM job WHERE state = 3 AND owner = "
		 "name) LIMIT 4 {skip}")
SQL(HELD_BY,
    "SELECT id, identity, batch, verb, verb_at, crashes, armed FROM job WHERE state = 3 AND owner = $1 ORDER BY id LIMIT $2 {skip}")
SQL(HELD_ANY, "SELECT id, identity, batch, verb, verb_at, crashes, armed FROM job WHERE state = 3 ORDER BY owner LIMIT $1")
SQL(LOST_ADD, "INSERT INTO lost (owner, job) VALUES ($1, $2) ON CONFLICT (owner, job) DO NOTHING")
SQL(LOST_TAKE, "DELETE FROM lost WHERE owner = $1 RETURNING job")
SQL(LOST_DROP, "DELETE FROM lost WHERE owner = $1")
SQL(OWNERS_OLD,
    "SELECT name FROM owner WHERE lease < $1 AND NOT EXISTS (SELECT 1 FROM job WHERE state = 3 AND owner = name) LIMIT 16 {skip}")
SQL(OWNER_DROP, "DELETE FROM owner WHERE name = $1")

/* ---- holding */
SQL(LOG_MORE,
    "UPDATE job SET n_events = n_events + $4, checkpoint_seq = CASE WHEN $5 = 1 THEN n_events + $4 ELSE checkpoint_seq END, "
    "started = CASE WHEN $6 = 1 THEN 1 ELSE started END, armed = CASE WHEN $6 = 1 THEN 1 ELSE armed END, "
    "started_at = CASE WHEN $6 = 1 AND started_at = 0 THEN $7 ELSE started_at END, crashes = CASE WHEN $8 = 1 THEN 0 ELSE crashes "
    "END, "
    "prompt_tokens = CASE WHEN $9 > 0 THEN $9 ELSE prompt_tokens END, completion_tokens = CASE WHEN $10 > 0 THEN $10 ELSE "
    "completion_tokens END "
    "WHERE id = $1 AND token = $2 AND state = 3 AND n_events = $3 RETURNING id")
SQL(LOG_END,
    "UPDATE job SET n_events = n_events + $4, state = $5, reason_code = $6, reason = $7, ended_at = $8, kept_at = $8, told = $9, "
    "prompt_tokens = CASE WHEN $10 > 0 THEN $10 ELSE prompt_tokens END, completion_tokens = CASE WHEN $11 > 0 THEN $11 ELSE "
    "completion_tokens END, "
    "errors = errors + $12, started_at = CASE WHEN $13 = 1 AND started_at = 0 THEN $8 ELSE started_at END, token = 0, armed = 0, "
    "verb = 0, verb_at = 0 "
    "WHERE id = $1 AND token = $2 AND state = 3 AND n_events = $3 RETURNING identity, batch, prompt_tokens, completion_tokens")
SQL(LOG_WHY, "SELECT state, token, n_events FROM job WHERE id = $1")
SQL(CHECKPOINT, "INSERT INTO checkpoint (job, data) VALUES ($1, $2) ON CONFLICT (job) DO UPDATE SET data = excluded.data")
SQL(RELEASE_GET, "SELECT identity, batch, verb, verb_at, crashes FROM job WHERE id = $1 AND token = $2 AND state = 3 {lock}")
SQL(RELEASE_WHY, "UPDATE job SET errors = errors + 1, reason_code = $2, reason = $3 WHERE id = $1")
SQL(ORDERS, "SELECT id, verb, verb_at FROM job WHERE state = 3 AND owner = $1 AND verb <> 0")

/* ---- changes of state without a holder */
SQL(WAIT,
    "UPDATE job SET state = $2, run_at = $3, crashes = $4, owner = '', token = 0, armed = 0, verb = 0, verb_at = 0 WHERE id = $1")
SQL(END, "UPDATE job SET state = $2, reason_code = $3, reason = $4, ended_at = $5, kept_at = $5, owner = '', token = 0, armed = 0, "
	 "verb = 0, verb_at = 0, told = 0 "
	 "WHERE id = $1")
SQL(NOTE, "INSERT INTO note (job, at) VALUES ($1, $2)")
SQL(JOB_GET, "SELECT identity, batch, state, verb, verb_at, crashes FROM job WHERE id = $1 {lock}")
SQL(ORDER, "UPDATE job SET verb = $2, verb_at = $3 WHERE id = $1")
SQL(KEEP, "UPDATE job SET kept_at = $2 WHERE id = $1")
SQL(REQUEST_DROP, "DELETE FROM request WHERE job = $1")
SQL(CHECKPOINT_DROP, "DELETE FROM checkpoint WHERE job = $1")
SQL(CHUNKS_DROP, "DELETE FROM chunk WHERE job = $1")
SQL(JOB_DROP, "DELETE FROM job WHERE id = $1")

/* ---- reading */
#define VIEW_COLUMNS                                                                                                               \
	"id, batch, row_no, state, identity, topic, op, owner, reason_code, reason, custom_id, class, priority, attempt, "         \
	"crashes, errors, n_events, "                                                                                              \
	"prompt_tokens, completion_tokens, accepted_at, started_at, ended_at, run_at"
SQL(VIEW, "SELECT " VIEW_COLUMNS " FROM job WHERE id = $1")
#undef VIEW_COLUMNS
SQL(LIST, "SELECT id FROM job WHERE identity = $1 AND state = $2 AND class = $3 AND id > $4 ORDER BY id LIMIT $5")
SQL(EVENTS_JOB, "SELECT state, n_events, reason_code, reason, identity FROM job WHERE id = $1")
SQL(EVENTS, "SELECT seq, n, data FROM chunk WHERE job = $1 AND seq >= (SELECT coalesce(max(seq), 0) FROM chunk WHERE job = $1 AND "
	    "seq <= $2) ORDER BY seq LIMIT $3")
SQL(COUNT_IDENTITY, "SELECT kind, CAST(sum(n) AS bigint) FROM tally WHERE identity = $1 GROUP BY kind")
SQL(COUNT_BATCH, "SELECT kind, CAST(sum(n) AS bigint) FROM tally WHERE batch = $1 AND batch <> 0 GROUP BY kind")

/* ---- watching: of a fleet only */
SQL(WATCH, "SELECT c.xid, c.job, c.seq, j.topic FROM chunk c JOIN job j ON j.id = c.job WHERE c.xid >= $1 AND c.xid < $2 AND "
	   "c.owner <> $3 "
	   "ORDER BY c.xid, c.job, c.seq LIMIT $4")
SQL(WATCH_ENDS, "SELECT e.xid, e.job, j.n_events, j.topic, j.state, j.reason_code, j.reason FROM note e JOIN job j ON j.id = e.job "
		"WHERE e.xid >= $1 AND e.xid < $2 "
		"ORDER BY e.xid, e.job")
SQL(CHUNK_GET, "SELECT data FROM chunk WHERE job = $1 AND seq = $2")

/* ---- counts */
SQL(TALLY, "INSERT INTO tally (identity, batch, shard, kind, n) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (batch, identity, shard, "
	   "kind) DO UPDATE SET n = tally.n + $5")
SQL(ENDS, "UPDATE batch SET ends = ends + $2 WHERE id = $1 RETURNING ends - $2")
SQL(END_NO, "UPDATE job SET end_no = $2 WHERE id = $1")

/* ---- batches */
SQL(BATCH_ADD, "INSERT INTO batch (id, identity, name, created_at, meta) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (identity, name) "
	       "WHERE name <> '' AND closed = 0 DO NOTHING "
	       "RETURNING id")
#define BATCH_COLUMNS "id, identity, name, created_at, sealed_at, rows_in, cancelled, meta"
SQL(BATCH_GET, "SELECT " BATCH_COLUMNS " FROM batch WHERE id = $1 AND closed = 0")
SQL(BATCH_BY_NAME, "SELECT " BATCH_COLUMNS " FROM batch WHERE identity = $1 AND name = $2 AND name <> '' AND closed = 0")
#undef BATCH_COLUMNS
SQL(BATCH_LIST, "SELECT id FROM batch WHERE identity = $1 AND closed = 0 AND id > $2 ORDER BY id LIMIT $3")
SQL(BATCH_LOCK, "SELECT identity, rows_in, sealed_at, cancelled FROM batch WHERE id = $1 AND closed = 0 {lock}")
SQL(BATCH_ROWS, "UPDATE batch SET rows_in = $2 WHERE id = $1")
SQL(BATCH_SEAL, "UPDATE batch SET sealed_at = $2 WHERE id = $1 AND sealed_at = 0")
SQL(BATCH_ENDED_AT, "SELECT ended_at FROM job WHERE batch = $1 AND end_no > 0 ORDER BY end_no DESC LIMIT 1")
SQL(BATCH_CANCEL, "UPDATE batch SET cancelled = 1, cancel_row = 0 WHERE id = $1")
SQL(BATCH_UNCANCEL, "UPDATE batch SET cancelled = 0, cancel_row = 0 WHERE id = $1")
SQL(BATCH_ORDERS, "UPDATE job SET verb = $2, verb_at = 0 WHERE state = 3 AND batch = $1")
SQL(BATCH_CLOSE, "UPDATE batch SET closed = 1 WHERE id = $1")
#define DONE_EVENT "CASE WHEN told = 1 THEN (SELECT data FROM chunk WHERE chunk.job = job.id ORDER BY seq DESC LIMIT 1) END"
SQL(RESULTS, "SELECT id, row_no, end_no, state, custom_id, reason_code, reason, " DONE_EVENT
	     ", ended_at FROM job WHERE batch = $1 AND end_no > 0 AND end_no > $2 ORDER BY end_no LIMIT $3")
SQL(RESULTS_ROWS, "SELECT id, row_no, end_no, state, custom_id, reason_code, reason, " DONE_EVENT
		  ", ended_at FROM job WHERE batch = $1 AND batch <> 0 AND row_no >= $2 ORDER BY row_no LIMIT $3")
#undef DONE_EVENT
SQL(RETRY_PICK, "SELECT id, row_no, state, prompt_tokens, completion_tokens FROM job WHERE batch = $1 AND batch <> 0 AND state > 4 "
		"AND row_no >= $2 ORDER BY row_no LIMIT $3 {lock}")
SQL(RETRY, "UPDATE job SET id = $2, state = 0, accepted_at = $3, started_at = 0, ended_at = 0, kept_at = 0, run_at = 0, owner = "
	   "'', token = 0, attempt = 0, crashes = 0, "
	   "errors = 0, started = 0, armed = 0, told = 0, n_events = 0, checkpoint_seq = 0, prompt_tokens = 0, completion_tokens = "
	   "0, reason_code = '', reason = '', "
	   "verb = 0, verb_at = 0, end_no = 0 WHERE id = $1")
SQL(RETRY_REQUEST, "UPDATE request SET job = $2 WHERE job = $1")

/* ---- tidying */
SQL(SWEEP, "SELECT id, identity, state FROM job WHERE kept_at > 0 AND kept_at < $1 AND batch = 0 ORDER BY kept_at LIMIT $2 {skip}")
SQL(TIDY_CANCEL, "SELECT id, identity, cancel_row FROM batch WHERE cancelled = 1 AND cancel_row >= 0 AND closed = 0 LIMIT 1 {skip}")
SQL(TIDY_CANCEL_AT, "UPDATE batch SET cancel_row = $2 WHERE id = $1")
SQL(TIDY_ROWS, "SELECT id, row_no, state FROM job WHERE batch = $1 AND batch <> 0 AND row_no >= $2 ORDER BY row_no LIMIT $3 {lock}")
SQL(TIDY_CLOSED, "SELECT id, identity FROM batch WHERE closed = 1 LIMIT 1 {skip}")
SQL(TIDY_CLOSED_ROWS, "SELECT id FROM job WHERE batch = $1 AND batch <> 0 ORDER BY row_no LIMIT $2")
SQL(TIDY_TALLY, "DELETE FROM tally WHERE batch = $1 AND batch <> 0")
SQL(TIDY_BATCH, "DELETE FROM batch WHERE id = $1")
SQL(TIDY_NOTES, "DELETE FROM note WHERE at < $1")

/* ---- the connection */
SQL(NOW, "SELECT CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS bigint), txid_snapshot_xmin(txid_current_snapshot())")
/* The mark goes with what it vouches for; a transaction that has changed nothing gets no number by it. */
SQL(XID, "WITH x AS (SELECT coalesce(txid_current_if_assigned(), 0) AS n), m AS (INSERT INTO meta (name, value) SELECT $1, $2 FROM x WHERE n <> 0 "
	 "ON CONFLICT (name) DO UPDATE SET value = excluded.value) SELECT n FROM x")
SQL(MARK, "SELECT value FROM meta WHERE name = $1")
SQL(MARK_DROP, "DELETE FROM meta WHERE name = 'commit ' || $1")
SQL(FATE, "SELECT txid_status($1)")
SQL(END_PROCESS, "SELECT pg_terminate_backend(CAST($1 AS integer))")
SQL(NOTIFY, "SELECT pg_notify($1, '')")
