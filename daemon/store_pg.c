/* store_pg.c: the store as a queue that a fleet of daemons shares: PostgreSQL through libpq.
 *
 * The connection is in pipeline mode: a statement whose result nobody waits for is only sent, and its result is looked at when the
 * next one that matters is awaited, or at the commit; so a group of ops costs about one round trip for each question that it asks,
 * not for each statement.
 *
 *     begin   BEGIN, and the clock         -> one round trip
 *     ops     ...
 *     commit  counts, the number of the transaction -> one; COMMIT -> one
 *
 * When the connection goes while COMMIT is under way nobody knows whether it happened. The server does: settle() waits until that number
 * is no longer in progress, and then looks for the mark that each of our transactions leaves. (The number's fate alone would not do: a
 * server that crashed gives numbers out again that it had not yet written down, and then tells of another transaction.)
 *
 * Every wait has a deadline (a server that hangs is a server that is down), and the server has its own for statements and locks. */
#include "store_sql.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OID_BYTEA = 17, OID_INT8 = 20, OID_TEXT = 25, VERSION_MIN = 120000, NAME_MAX_LEN = 48 };
enum { WAIT_MS = 20000, MIGRATION_MS = 3600 * 1000, CONNECT_MS = 10000, HURRY_MS = 2000, SLICE_MS = 200, PENDING_MAX = 512 };

struct pg_store {
	struct db db;
	PGconn *conn;  /* NULL: begin() connects */
	bool pipeline; /* in pipeline mode */
	bool prepared[SQL_N];
	unsigned pending; /* results that are on their way and that nobody waits for */
	bool unsynced;    /* something was sent after the last sync */
	int64_t xid;      /* of the commit in doubt */
	int64_t mark;     /* what it left in meta; never the same twice */
	int xid_pid;      /* the server's process of it */
	char *url, *owner, *model, schema[NAME_MAX_LEN + 1], channel[NAME_MAX_LEN + 8];
	int patience; /* ms until a server that does not answer is gone */
	atomic_bool hurry;
};

/* ---- failures -------------------------------------------------------------------------------------------------------------------
 */

static int code_of(const char *state)
{
	static const struct {
		const char *start;
		int code;
	} codes[] = {
		{"40001", STORE_AGAIN},   /* serialization failure */
		{"40P01", STORE_AGAIN},   /* deadlock */
		{"53100", STORE_EFULL},   /* disk full */
		{"25006", STORE_EFULL},   /* read-only transaction: a standby */
		{"XX001", STORE_EBROKEN}, /* data corrupted */
		{"XX002", STORE_EBROKEN}, /* index corrupted */
		{"42", STORE_EBROKEN},    /* a table is not there, or not ours to use */
		{"3F", STORE_EBROKEN},    /* the schema is not there */
		{"28", STORE_EBROKEN},    /* authorization */
		{"3D", STORE_EBROKEN},    /* no such database */
		{"21", STORE_CONFLICT},   {"22", STORE_CONFLICT}, {"23", STORE_CONFLICT}, {"54", STORE_CONFLICT},
	};
	for (size_t i = 0; state && i < sizeof(codes) / sizeof(codes[0]); i++)
		if (strncmp(state, codes[i].start, strlen(codes[i].start)) == 0)
			return codes[i].code;
	return STORE_EDOWN;
}

/* One line, without the newline that libpq ends its texts with. */
static void set_text(struct pg_store *s, const char *doing, const char *text)
{
	size_t n = (size_t)snprintf(s->db.text, sizeof(s->db.text), "%s: %s", doing, text && text[0] ? text : "no reason given");
	if (n >= sizeof(s->db.text))
		n = sizeof(s->db.text) - 1;
	while (n && isspace((unsigned char)s->db.text[n - 1]))
		s->db.text[--n] = 0;
	for (char *c = s->db.text; *c; c++)
		if (*c == '\n')
			*c = ' ';
}

static void disconnect(struct pg_store *s)
{
	PQfinish(s->conn);
	s->conn = NULL;
	s->pipeline = s->unsynced = false;
	s->pending = 0;
	memset(s->prepared, 0, sizeof(s->prepared));
}

static int down(struct pg_store *s, const char *doing, const char *text)
{
	set_text(s, doing, text);
	disconnect(s);
	return STORE_EDOWN;
}

static int failed(struct pg_store *s, PGresult *r, const char *doing)
{
	const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE), *text = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
	int code = code_of(state);
	set_text(s, doing, text ? text : PQresultErrorMessage(r));
	/* 57P..: the server ends this connection; that arrives as a failure of whatever is asked next. */
	if (PQstatus(s->conn) != CONNECTION_OK || (state && strncmp(state, "57P", 3) == 0))
		disconnect(s);
	return code;
}

static int give_text(struct pg_store *s, int code, char text[static STORE_TEXT])
{
	if (code < 0)
		snprintf(text, STORE_TEXT, "%s", s->db.text);
	return code;
}

/* ---- waiting --------------------------------------------------------------------------------------------------------------------
 */

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * (int64_t)1000 + t.tv_nsec / 1000000;
}

/* Until the socket is ready for `events`. In slices, so that closing does not wait for a server that hangs. -1: too late. */
static int wait_socket(struct pg_store *s, short events, int64_t *end)
{
	for (;;) {
		struct pollfd fd = {.fd = PQsocket(s->conn), .events = events};
		int64_t now = now_ms();
		if (atomic_load(&s->hurry) && *end > now + HURRY_MS)
			*end = now + HURRY_MS;
		if (fd.fd < 0 || now >= *end)
			return -1;
		int n = poll(&fd, 1, *end - now < SLICE_MS ? (int)(*end - now) : SLICE_MS);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -1;
	}
}

/* Sends what is in the buffer; reads meanwhile, so that neither side waits for the other with full buffers. */
static int flush(struct pg_store *s)
{
	int64_t end = now_ms() + s->patience;
	int rc;
	while ((rc = PQflush(s->conn)) == 1) {
		if (wait_socket(s, POLLIN | POLLOUT, &end) != 0)
			return down(s, "send", "the server does not take what is sent");
		if (!PQconsumeInput(s->conn))
			return down(s, "send", PQerrorMessage(s->conn));
	}
	return rc == 0 ? 0 : down(s, "send", PQerrorMessage(s->conn));
}

/* The next result, or NULL with 0: the end of one statement's. */
static int next_result(struct pg_store *s, PGresult **r)
{
	int64_t end = now_ms() + s->patience;
	*r = NULL;
	while (PQisBusy(s->conn)) {
		if (wait_socket(s, POLLIN, &end) != 0)
			return down(s, "wait", "the server does not answer");
		if (!PQconsumeInput(s->conn))
			return down(s, "wait", PQerrorMessage(s->conn));
	}
	*r = PQgetResult(s->conn);
	return 0;
}

/* The result of one statement; the NULL behind it is taken, too. */
static int one_result(struct pg_store *s, PGresult **r, const char *doing)
{
	PGresult *end;
	int rc = next_result(s, r);
	if (rc < 0)
		return rc;
	if (!*r)
		return down(s, doing, "a result is missing");
	rc = next_result(s, &end);
	if (rc >= 0 && end) {
		PQclear(end);
		rc = down(s, doing, "one result too many");
	}
	ExecStatusType status = PQresultStatus(*r);
	if (rc >= 0 && status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
		rc = failed(s, *r, doing);
	if (rc < 0) {
		PQclear(*r);
		*r = NULL;
	}
	return rc;
}

static int take_pending(struct pg_store *s, const char *doing)
{
	while (s->pending) {
		PGresult *r;
		s->pending--;
		int rc = one_result(s, &r, doing);
		if (rc < 0)
			return rc;
		PQclear(r);
	}
	return 0;
}

/* ---- the driver -----------------------------------------------------------------------------------------------------------------
 */

static int prepare(struct pg_store *s, const struct sql *q)
{
	char text[SQL_TEXT_MAX];
	Oid types[SQL_PARAMS];
	for (int i = 0; i < q->n; i++)
		types[i] = q->param[i].type == SQL_INT ? OID_INT8 : q->param[i].type == SQL_BYTES ? OID_BYTEA : OID_TEXT;
	sql_render(s->db.driver, q->id, text);
	if (!PQsendPrepare(s->conn, sql_name(q->id), text, q->n, types))
		return down(s, sql_name(q->id), PQerrorMessage(s->conn));
	s->pending++;
	s->prepared[q->id] = true;
	return 0;
}

static int64_t big_endian(int64_t v)
{
	uint64_t u = (uint64_t)v;
	return (int64_t)((uint64_t)htonl((uint32_t)u) << 32 | htonl((uint32_t)(u >> 32)));
}

static int send_query(struct sql *q)
{
	struct pg_store *s = (struct pg_store *)q->db;
	const char *values[SQL_PARAMS];
	int lengths[SQL_PARAMS], formats[SQL_PARAMS];
	int64_t ints[SQL_PARAMS];
	if (!s->conn) {
		set_text(s, sql_name(q->id), "the connection is gone");
		return STORE_EDOWN;
	}
	int rc = s->prepared[q->id] ? 0 : prepare(s, q);
	if (rc < 0)
		return rc;
	for (int i = 0; i < q->n; i++) {
		const struct sql_param *p = &q->param[i];
		ints[i] = big_endian(p->i);
		values[i] = p->type == SQL_INT ? (const char *)&ints[i] : p->type == SQL_NULL ? NULL : p->data;
		lengths[i] = p->type == SQL_INT ? 8 : (int)p->len;
		formats[i] = 1;
		if (p->len > INT32_MAX / 2) {
			set_text(s, sql_name(q->id), "a value is longer than 1 GiB");
			return STORE_CONFLICT;
		}
	}
	if (!PQsendQueryPrepared(s->conn, sql_name(q->id), q->n, values, lengths, formats, 1))
		return down(s, sql_name(q->id), PQerrorMessage(s->conn));
	s->unsynced = true;
	return 0;
}

static int pg_run(struct sql *q)
{
	struct pg_store *s = (struct pg_store *)q->db;
	int rc = send_query(q);
	if (rc < 0)
		return rc;
	if (++s->pending < PENDING_MAX)
		return 0;
	if (!PQsendFlushRequest(s->conn))
		return down(s, sql_name(q->id), PQerrorMessage(s->conn));
	rc = flush(s);
	return rc < 0 ? rc : take_pending(s, sql_name(q->id));
}

static int fetch(struct sql *q)
{
	struct pg_store *s = (struct pg_store *)q->db;
	PGresult *r = NULL;
	int rc = send_query(q);
	if (rc >= 0 && !PQsendFlushRequest(s->conn))
		rc = down(s, sql_name(q->id), PQerrorMessage(s->conn));
	if (rc >= 0)
		rc = flush(s);
	if (rc >= 0)
		rc = take_pending(s, sql_name(q->id));
	if (rc >= 0)
		rc = one_result(s, &r, sql_name(q->id));
	q->result = r;
	return rc;
}

static int pg_row(struct sql *q)
{
	int rc = q->result ? 0 : fetch(q);
	if (rc < 0)
		return rc;
	return q->row < PQntuples(q->result) ? (q->row++, 1) : 0;
}

static int64_t pg_int(struct sql *q, int col)
{
	int64_t v = 0;
	if (!PQgetisnull(q->result, q->row - 1, col) && PQgetlength(q->result, q->row - 1, col) == 8)
		memcpy(&v, PQgetvalue(q->result, q->row - 1, col), 8);
	return big_endian(v);
}

static const void *pg_bytes(struct sql *q, int col, size_t *len)
{
	*len = 0;
	if (PQgetisnull(q->result, q->row - 1, col))
		return NULL;
	*len = (size_t)PQgetlength(q->result, q->row - 1, col);
	return PQgetvalue(q->result, q->row - 1, col);
}

static void pg_end(struct sql *q)
{
	PQclear(q->result);
	q->result = NULL;
}

/* ---- outside of the pipeline: setting up ----------------------------------------------------------------------------------------
 */

/* The last result of a text of several statements. */
static int simple(struct pg_store *s, const char *text, const char *doing, PGresult **out)
{
	PGresult *r, *last = NULL;
	int rc = PQsendQuery(s->conn, text) ? flush(s) : down(s, doing, PQerrorMessage(s->conn));
	while (rc >= 0 && (rc = next_result(s, &r)) >= 0 && r) {
		ExecStatusType status = PQresultStatus(r);
		PQclear(last);
		last = r;
		if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
			rc = failed(s, r, doing);
			PQclear(last);
			last = NULL;
			while (s->conn && next_result(s, &r) >= 0 && r)
				PQclear(r);
		}
	}
	if (rc >= 0 && out)
		*out = last;
	else
		PQclear(last);
	return rc;
}

static int script(struct db *db, const char *text)
{
	return simple((struct pg_store *)db, text, "schema", NULL);
}

static const struct sql_driver driver = {.lock = "FOR UPDATE",
					 .skip = "FOR UPDATE SKIP LOCKED",
					 .blob = "bytea",
					 .id_key = "bigint PRIMARY KEY",
					 .norowid = "",
					 .row = pg_row,
					 .run = pg_run,
					 .get_int = pg_int,
					 .get_bytes = pg_bytes,
					 .end = pg_end,
					 .script = script};

/* What libpq would print comes back as a failure as well. */
static void no_notice(void *arg, const char *text)
{
}

static int start_connection(struct pg_store *s)
{
	static const char *const keys[] = {
		"fallback_application_name", "keepalives_idle", "keepalives_interval", "keepalives_count",
		"tcp_user_timeout",          "dbname",          "client_encoding",     NULL};
	const char *values[] = {"weftd", "10", "5", "3", "20000", s->url, "UTF8", NULL};
	int64_t end = now_ms() + CONNECT_MS;
	s->conn = PQconnectStartParams(keys, values, 1);
	if (!s->conn)
		return set_text(s, "connect", "out of memory"), STORE_ENOMEM;
	PostgresPollingStatusType want = PGRES_POLLING_WRITING;
	while (PQstatus(s->conn) != CONNECTION_BAD) {
		if (wait_socket(s, want == PGRES_POLLING_READING ? POLLIN : POLLOUT, &end) != 0)
			return down(s, "connect", "the server does not answer");
		want = PQconnectPoll(s->conn);
		if (want == PGRES_POLLING_OK)
			return 0;
		if (want == PGRES_POLLING_FAILED)
			break;
	}
	/* libpq gives no SQLSTATE here. A server that refuses us by name will not change its mind, others may. */
	const char *text = PQerrorMessage(s->conn);
	bool refused = strstr(text, "FATAL:") && (strstr(text, "password authentication") || strstr(text, "does not exist") ||
						  strstr(text, "no pg_hba.conf entry"));
	int rc = down(s, "connect", text);
	return refused ? STORE_EBROKEN : rc;
}

static int check_server(struct pg_store *s)
{
	const char *encoding = PQparameterStatus(s->conn, "server_encoding");
	if (PQserverVersion(s->conn) < VERSION_MIN) {
		snprintf(s->db.text, sizeof(s->db.text), "the server is PostgreSQL %d; %d or later is needed",
			 PQserverVersion(s->conn) / 10000, VERSION_MIN / 10000);
		return STORE_EBROKEN;
	}
	if (!encoding || strcmp(encoding, "UTF8") != 0) {
		snprintf(s->db.text, sizeof(s->db.text), "the database has encoding %s; UTF8 is needed",
			 encoding ? encoding : "unknown");
		return STORE_EBROKEN;
	}
	return 0;
}

/* A commit means: on the server's disk, whatever its default says. */
static int session(struct pg_store *s)
{
	char text[1024];
	snprintf(text, sizeof(text),
		 "SET search_path TO %s; SET statement_timeout TO 15000; SET lock_timeout TO 10000; SET "
		 "idle_in_transaction_session_timeout TO 60000; "
		 "SET default_transaction_isolation TO 'read committed'; SET default_transaction_read_only TO off; SET "
		 "client_min_messages TO warning; "
		 "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'; LISTEN "
		 "%s",
		 s->schema, s->channel);
	return simple(s, text, "session", NULL);
}

/* ---- migration ------------------------------------------------------------------------------------------------------------------
 */

static int64_t lock_number(const struct pg_store *s)
{
	uint64_t h = 1469598103934665603u;
	for (const char *c = s->schema; *c; c++)
		h = (h ^ (unsigned char)*c) * 1099511628211u;
	return (int64_t)h;
}

/* The version under the lock of migrations, in an open transaction. A schema that exists needs no right to create one. */
static int read_version(struct pg_store *s, int *version)
{
	char text[512];
	PGresult *r = NULL;
	snprintf(text, sizeof(text),
		 "BEGIN; SET LOCAL statement_timeout TO 0; SET LOCAL lock_timeout TO 0; SELECT pg_advisory_xact_lock(%lld); "
		 "SELECT 1 FROM pg_namespace WHERE nspname = '%s'",
		 (long long)lock_number(s), s->schema);
	int rc = simple(s, text, "migration", &r);
	if (rc < 0)
		return rc;
	bool there = PQntuples(r) == 1;
	PQclear(r);
	snprintf(text, sizeof(text),
		 "%s%s%sCREATE TABLE IF NOT EXISTS version (number bigint NOT NULL); SELECT coalesce(max(number), 0)::text FROM "
		 "version",
		 there ? "" : "CREATE SCHEMA ", there ? "" : s->schema, there ? "" : "; ");
	rc = simple(s, text, "migration", &r);
	if (rc < 0)
		return rc;
	*version = atoi(PQgetvalue(r, 0, 0));
	PQclear(r);
	return 0;
}

/* One step, 1: there may be another. */
static int migrate_step(struct pg_store *s)
{
	char text[128];
	int version = 0, rc = read_version(s, &version);
	if (rc < 0)
		return rc;
	if (version > STORE_SCHEMA) {
		snprintf(s->db.text, sizeof(s->db.text),
			 "the store is of schema %d, this weftd knows up to %d: it was written by a newer one", version,
			 STORE_SCHEMA);
		return STORE_EBROKEN;
	}
	if (version >= schema_upto)
		return simple(s, "COMMIT", "migration", NULL);
	rc = schema_step(&s->db, version);
	snprintf(text, sizeof(text), "DELETE FROM version; INSERT INTO version VALUES (%d); COMMIT", version + 1);
	return rc < 0 || (rc = simple(s, text, "migration", NULL)) < 0 ? rc : 1;
}

/* Another daemon may be at it, and a step may have many rows to go through. */
static int migrate(struct pg_store *s)
{
	int rc;
	s->patience = MIGRATION_MS;
	while ((rc = migrate_step(s)) == 1)
		;
	s->patience = WAIT_MS;
	return rc;
}

/* ---- the connection -------------------------------------------------------------------------------------------------------------
 */

static int connect_server(struct pg_store *s)
{
	int rc = start_connection(s);
	if (rc < 0)
		return rc;
	PQsetnonblocking(s->conn, 1);
	PQsetNoticeProcessor(s->conn, no_notice, NULL);
	rc = check_server(s);
	if (rc >= 0)
		rc = session(s);
	if (rc >= 0)
		rc = migrate(s);
	if (rc >= 0 && !PQenterPipelineMode(s->conn))
		rc = down(s, "pipeline", PQerrorMessage(s->conn));
	if (rc >= 0)
		s->pipeline = true;
	else if (s->conn)
		disconnect(s);
	return rc;
}

static int send_word(struct pg_store *s, const char *word)
{
	if (!s->conn)
		return STORE_EDOWN;
	if (!PQsendQueryParams(s->conn, word, 0, NULL, NULL, NULL, NULL, 1))
		return down(s, word, PQerrorMessage(s->conn));
	s->unsynced = true;
	return 0;
}

/* Everything that was sent has its answer then; answers of statements that failed or were skipped are thrown away. */
static int sync_up(struct pg_store *s)
{
	PGresult *r;
	int rc = PQpipelineSync(s->conn) ? flush(s) : down(s, "sync", PQerrorMessage(s->conn));
	while (rc >= 0) {
		rc = next_result(s, &r);
		ExecStatusType status = r ? PQresultStatus(r) : PGRES_TUPLES_OK;
		PQclear(r);
		if (rc >= 0 && PQstatus(s->conn) != CONNECTION_OK)
			return down(s, "sync", PQerrorMessage(s->conn));
		if (status == PGRES_PIPELINE_SYNC)
			break;
	}
	s->pending = 0;
	s->unsynced = false;
	return rc;
}

/* BEGIN is on its way with the question for the time. */
static int begin(struct pg_store *s)
{
	struct sql q;
	int rc = s->conn ? 0 : connect_server(s);
	tally_clear(&s->db.tally);
	s->db.news = false;
	s->xid = 0;
	if (rc >= 0)
		rc = send_word(s, "BEGIN");
	if (rc < 0)
		return rc;
	s->pending++;
	sql_start(&q, &s->db, SQL_NOW);
	if (sql_row(&q) == 1) {
		s->db.now = sql_get_int(&q, 0);
		s->db.watch_below = sql_get_int(&q, 1);
	}
	return sql_end(&q);
}

/* A connection that died while nothing was going on is not worth a word: once more with a new one. */
static int pg_begin(void *self, char text[static STORE_TEXT])
{
	struct pg_store *s = self;
	bool fresh = !s->conn;
	int rc = begin(s);
	if (rc == STORE_EDOWN && !fresh && !s->conn)
		rc = begin(s);
	return give_text(s, rc, text);
}

/* The connection went before COMMIT was sent: nothing happened, and with a new one it may. */
static int again_if_lost(struct pg_store *s, int rc)
{
	return rc == STORE_EDOWN && !s->conn ? STORE_AGAIN : rc;
}

static int pg_apply(void *self, struct store_op *op, char text[static STORE_TEXT])
{
	struct pg_store *s = self;
	return give_text(s, again_if_lost(s, store_apply(&s->db, op)), text);
}

static int tell_others(struct pg_store *s)
{
	struct sql q;
	sql_start(&q, &s->db, SQL_NOTIFY);
	sql_text(&q, s->channel);
	return sql_run(&q);
}

/* Where our marks are. */
static const char *mark_name(const struct pg_store *s, char name[static 160])
{
	snprintf(name, 160, "commit %.128s", s->owner);
	return name;
}

static int get_xid(struct pg_store *s)
{
	struct sql q;
	char name[160];
	sql_start(&q, &s->db, SQL_XID);
	sql_text(&q, mark_name(s, name));
	sql_int(&q, ++s->mark);
	if (sql_row(&q) == 1)
		s->xid = sql_get_int(&q, 0);
	return sql_end(&q);
}

/* COMMIT and its answer. From the moment that it is sent a lost connection means doubt. */
static int commit_word(struct pg_store *s)
{
	PGresult *r = NULL;
	s->xid_pid = PQbackendPID(s->conn);
	int rc = send_word(s, "COMMIT");
	if (rc < 0)
		return rc; /* it was not even put into the buffer */
	if (!PQpipelineSync(s->conn))
		rc = down(s, "commit", PQerrorMessage(s->conn));
	if (rc >= 0)
		rc = flush(s);
	if (rc >= 0)
		rc = one_result(s, &r, "commit");
	/* COMMIT of a transaction that failed answers "ROLLBACK", and is no error. */
	if (rc >= 0 && strcmp(PQcmdStatus(r), "COMMIT") != 0) {
		set_text(s, "commit", "the transaction had failed");
		rc = STORE_CONFLICT;
	}
	PQclear(r);
	if (s->conn) {
		if (next_result(s, &r) >= 0) { /* the sync */
			PQclear(r);
			s->unsynced = false;
		}
		return rc;
	}
	return s->xid ? STORE_DOUBT : STORE_AGAIN; /* without a number it has changed nothing */
}

static int pg_commit(void *self, char text[static STORE_TEXT])
{
	struct pg_store *s = self;
	int rc = store_flush(&s->db);
	if (rc >= 0 && s->db.news)
		rc = tell_others(s);
	if (rc >= 0)
		rc = get_xid(s);
	rc = again_if_lost(s, rc);
	if (rc >= 0)
		rc = commit_word(s);
	return give_text(s, rc, text);
}

static void pg_rollback(void *self)
{
	struct pg_store *s = self;
	tally_clear(&s->db.tally);
	if (!s->conn || !s->pipeline)
		return;
	if (sync_up(s) < 0 || send_word(s, "ROLLBACK") < 0)
		return;
	sync_up(s);
}

/* The old process may still believe that we are there: it is told to go, which needs no other right than being the same user. */
static int ask_fate(struct pg_store *s, char fate[static 16])
{
	struct sql q;
	fate[0] = 0;
	sql_start(&q, &s->db, SQL_FATE);
	sql_int(&q, s->xid);
	if (sql_row(&q) == 1)
		sql_get_text_in(&q, 0, fate, 16);
	int rc = sql_end(&q);
	if (rc < 0 || strcmp(fate, "in progress") != 0)
		return rc;
	sql_start(&q, &s->db, SQL_END_PROCESS);
	sql_int(&q, s->xid_pid);
	sql_row(&q);
	return sql_end(&q);
}

static int look_for_mark(struct pg_store *s, bool *there)
{
	struct sql q;
	char name[160];
	sql_start(&q, &s->db, SQL_MARK);
	sql_text(&q, mark_name(s, name));
	while (sql_row(&q) == 1)
		*there = sql_get_int(&q, 0) == s->mark;
	return sql_end(&q);
}

static int settle(struct pg_store *s)
{
	char fate[16];
	int rc = s->conn ? 0 : connect_server(s);
	if (rc < 0)
		return rc;
	rc = ask_fate(s, fate);
	if (s->conn)
		sync_up(s);
	if (rc == STORE_CONFLICT) /* a number from the future: the server was set back to before it */
		return STORE_STALE;
	if (rc < 0)
		return rc;
	if (strcmp(fate, "in progress") == 0) {
		set_text(s, "commit", "the server has not yet decided about it");
		return STORE_EDOWN;
	}
	bool there = false;
	rc = look_for_mark(s, &there);
	if (s->conn)
		sync_up(s);
	return rc < 0 ? rc : there ? STORE_OK : STORE_STALE;
}

static int pg_settle(void *self, char text[static STORE_TEXT])
{
	struct pg_store *s = self;
	int rc = settle(s);
	return rc == STORE_EDOWN ? give_text(s, rc, text) : rc;
}

static int pg_tidy(void *self, char text[static STORE_TEXT])
{
	struct pg_store *s = self;
	int more = 0, rc = pg_begin(s, text);
	if (rc >= 0)
		rc = more = give_text(s, store_tidy(&s->db), text);
	if (rc >= 0)
		rc = pg_commit(s, text);
	if (rc < 0)
		pg_rollback(s);
	/* Whatever became of it: it will be done again. */
	return rc == STORE_DOUBT || rc == STORE_AGAIN ? 1 : rc < 0 ? rc : more;
}

static bool pg_wants_tidy(void *self)
{
	return ((struct pg_store *)self)->db.untidy;
}

/* ---- hints ----------------------------------------------------------------------------------------------------------------------
 */

static int pg_hint_fd(void *self)
{
	struct pg_store *s = self;
	return s->conn ? PQsocket(s->conn) : -1;
}

static bool pg_take_hint(void *self)
{
	struct pg_store *s = self;
	PGnotify *n;
	bool hint = false;
	if (!s->conn)
		return false;
	if (!PQconsumeInput(s->conn)) {
		disconnect(s);
		return false;
	}
	while ((n = PQnotifies(s->conn))) {
		hint |= n->be_pid != PQbackendPID(s->conn);
		PQfreemem(n);
	}
	return hint;
}

static void pg_hurry(void *self)
{
	struct pg_store *s = self;
	atomic_store(&s->hurry, true);
}

/* ---- opening --------------------------------------------------------------------------------------------------------------------
 */

static bool good_name(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_");
	return n && n <= NAME_MAX_LEN && !s[n] && !isdigit((unsigned char)s[0]) && strncmp(s, "pg_", 3) != 0;
}

/* Takes "schema=NAME" out of the URL's options: libpq refuses what it does not know. */
static int take_schema(struct pg_store *s)
{
	char *at = strchr(s->url, '?');
	snprintf(s->schema, sizeof(s->schema), "weft");
	for (at = at ? at + 1 : NULL; at && *at; at = strchr(at, '&') ? strchr(at, '&') + 1 : NULL) {
		if (strncmp(at, "schema=", 7) != 0)
			continue;
		size_t len = strcspn(at, "&");
		if (len - 7 > NAME_MAX_LEN)
			len = 7; /* is refused below */
		snprintf(s->schema, sizeof(s->schema), "%.*s", (int)len - 7, at + 7);
		len = strcspn(at, "&");
		memmove(at, at + len + (at[len] == '&'), strlen(at + len + (at[len] == '&')) + 1);
		break;
	}
	size_t n = strlen(s->url);
	if (n && (s->url[n - 1] == '?' || s->url[n - 1] == '&'))
		s->url[n - 1] = 0;
	snprintf(s->channel, sizeof(s->channel), "%s_news", s->schema);
	if (good_name(s->schema))
		return 0;
	snprintf(s->db.text, sizeof(s->db.text),
		 "schema in the store's URL: 1 to %d of a-z, 0-9 and _, not beginning with a digit or pg_", NAME_MAX_LEN);
	return STORE_EBROKEN;
}

static void pg_close(void *self)
{
	struct pg_store *s = self;
	if (!s)
		return;
	disconnect(s);
	tally_finish(&s->db.tally);
	free(s->url);
	free(s->owner);
	free(s->model);
	free(s);
}

/* The owner is known to the others from here on, so that what it holds can be missed. */
static int announce(struct pg_store *s)
{
	char text[STORE_TEXT];
	struct store_op op = {.kind = STORE_OP_HEARTBEAT};
	int rc = pg_begin(s, text);
	if (rc >= 0)
		rc = op_heartbeat(&s->db, &op);
	free(op.orders);
	if (rc >= 0)
		rc = pg_commit(s, text);
	if (rc < 0)
		pg_rollback(s);
	return rc == STORE_DOUBT || rc == STORE_AGAIN ? STORE_EDOWN : rc;
}

static int pg_open(void **self, const struct store_params *p, char text[static STORE_TEXT])
{
	struct pg_store *s = calloc(1, sizeof(*s));
	if (!s || !(s->url = strdup(p->url)) || !(s->owner = strdup(p->owner)) || !(s->model = strdup(p->model ? p->model : ""))) {
		pg_close(s);
		snprintf(text, STORE_TEXT, "out of memory");
		return STORE_ENOMEM;
	}
	s->db.driver = &driver;
	s->db.fleet = true;
	s->db.owner = s->owner;
	s->db.model = s->model;
	s->patience = WAIT_MS;
	s->db.lease_ms = p->lease_ms > 0 ? p->lease_ms : 30000;
	int rc = take_schema(s);
	if (rc >= 0)
		rc = announce(s);
	if (rc < 0) {
		give_text(s, rc, text);
		pg_close(s);
		return rc;
	}
	*self = s;
	return 0;
}

const struct store_backend store_postgres = {.scheme = "postgresql",
					     .name = "postgresql",
					     .fleet = true,
					     .open = pg_open,
					     .close = pg_close,
					     .begin = pg_begin,
					     .apply = pg_apply,
					     .commit = pg_commit,
					     .settle = pg_settle,
					     .rollback = pg_rollback,
					     .tidy = pg_tidy,
					     .wants_tidy = pg_wants_tidy,
					     .hint_fd = pg_hint_fd,
					     .take_hint = pg_take_hint,
					     .hurry = pg_hurry};
