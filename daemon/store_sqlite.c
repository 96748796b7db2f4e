/* store_sqlite.c: the store in one file beside the daemon.
 *
 * WAL: a commit is one append and one fsync, whatever it touches. synchronous=FULL: that fsync is made by each commit (NORMAL
 * leaves it to the next checkpoint, and a power failure then takes back what was acknowledged). locking_mode=EXCLUSIVE: one
 * connection, no shared memory file; beside it a lock on PATH-lock names the daemon that has the file.
 *
 * Checkpoints are made here and not inside of a commit: after the ops of a group were told that they are kept (tidy), when the log
 * has grown to CHECKPOINT_PAGES, so the work of one is bounded by that, and no commit waits for it but the next. */
#include "store_sql.h"
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	PAGE_SIZE = 4096,
	CHECKPOINT_PAGES = 1024, /* 4 MiB */
	WAL_KEPT = 16 << 20,     /* bytes of the log file that stay when it starts anew */
	FREE_PAGES_KEPT = 1024,  /* more free pages than these are given back, */
	FREE_PAGES_STEP = 256,   /* so many in a step */
	BUSY_MS = 2000
};

struct sqlite_store {
	struct db db;
	sqlite3 *conn; /* NULL: closed after a failure; begin() opens it again */
	sqlite3_stmt *stmt[SQL_N];
	sqlite3_stmt *begin_stmt, *commit_stmt, *rollback_stmt;
	char *path, *owner, *model;
	int lock_fd;
	int wal_pages;
	struct {
		bool known;
		dev_t dev;
		ino_t ino;
	} files[2]; /* PATH and its log, as this connection has them */
	bool was_broken; /* the connection was given up: before going on, what the log has is written to the file */
};

/* ---- failures -------------------------------------------------------------------------------------------------------------------
 */

/* SQLite keeps the system's reason for some failures, but not for those of a commit; those left it in errno, which is cleared
 * before. */
static int system_reason(sqlite3 *conn)
{
	return errno ? errno : conn ? sqlite3_system_errno(conn) : 0;
}

static int code_of(int rc, int err)
{
	switch (rc & 0xff) {
	case SQLITE_FULL:
	case SQLITE_READONLY:
		return STORE_EFULL;
	case SQLITE_IOERR:
		if (rc == SQLITE_IOERR_NOMEM)
			return STORE_ENOMEM;
		return err == ENOSPC || err == EDQUOT || err == EROFS || err == EFBIG ? STORE_EFULL : STORE_EDOWN;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_SCHEMA:
	case SQLITE_FORMAT:
		return STORE_EBROKEN;
	case SQLITE_NOMEM:
		return STORE_ENOMEM;
	case SQLITE_CANTOPEN:
		return err == EROFS || err == ENOSPC ? STORE_EFULL : STORE_EDOWN;
	case SQLITE_CONSTRAINT:
	case SQLITE_TOOBIG:
	case SQLITE_MISMATCH:
		return STORE_CONFLICT;
	default:
		return STORE_EDOWN;
	}
}

static int failed(struct sqlite_store *s, int rc, const char *doing)
{
	int err = system_reason(s->conn);
	const char *text = s->conn ? sqlite3_errmsg(s->conn) : sqlite3_errstr(rc);
	if (err && ((rc & 0xff) == SQLITE_IOERR || (rc & 0xff) == SQLITE_CANTOPEN || (rc & 0xff) == SQLITE_FULL))
		snprintf(s->db.text, sizeof(s->db.text), "%s: %s: %s (%d)", doing, text, strerror(err), rc);
	else
		snprintf(s->db.text, sizeof(s->db.text), "%s: %s (%d)", doing, text, rc);
	return code_of(rc, err);
}

static int give_text(struct sqlite_store *s, int code, char text[static STORE_TEXT])
{
	if (code < 0)
		snprintf(text, STORE_TEXT, "%s", s->db.text);
	return code;
}

/* ---- the driver -----------------------------------------------------------------------------------------------------------------
 */

/* A statement's $1 becomes ?1. */
static int prepare(struct sqlite_store *s, enum sql_id id, sqlite3_stmt **out)
{
	char text[SQL_TEXT_MAX];
	sql_render(s->db.driver, id, text);
	for (char *c = text; *c; c++)
		if (*c == '$')
			*c = '?';
	int rc = sqlite3_prepare_v3(s->conn, text, -1, SQLITE_PREPARE_PERSISTENT, out, NULL);
	return rc == SQLITE_OK ? 0 : failed(s, rc, sql_name(id));
}

static int bind_one(sqlite3_stmt *stmt, int i, const struct sql_param *p)
{
	switch (p->type) {
	case SQL_INT:
		return sqlite3_bind_int64(stmt, i, p->i);
	case SQL_TEXT:
		return sqlite3_bind_text64(stmt, i, p->data, p->len, SQLITE_STATIC, SQLITE_UTF8);
	case SQL_BYTES:
		return sqlite3_bind_blob64(stmt, i, p->data, p->len, SQLITE_STATIC);
	default:
		return sqlite3_bind_null(stmt, i);
	}
}

/* The statement of a query, bound; prepared at its first use. */
static int start(struct sql *q)
{
	struct sqlite_store *s = (struct sqlite_store *)q->db;
	int rc = s->stmt[q->id] ? 0 : prepare(s, q->id, &s->stmt[q->id]);
	if (rc < 0)
		return rc;
	q->result = s->stmt[q->id];
	for (int i = 0; i < q->n; i++) {
		rc = bind_one(q->result, i + 1, &q->param[i]);
		if (rc != SQLITE_OK)
			return failed(s, rc, sql_name(q->id));
	}
	return 0;
}

static int lite_row(struct sql *q)
{
	struct sqlite_store *s = (struct sqlite_store *)q->db;
	if (q->row < 0)
		return 0;
	int rc = q->result ? 0 : start(q);
	if (rc < 0)
		return rc;
	errno = 0;
	rc = sqlite3_step(q->result);
	if (rc == SQLITE_ROW) {
		q->row++;
		return 1;
	}
	q->row = -1; /* another step would start it again */
	return rc == SQLITE_DONE ? 0 : failed(s, rc, sql_name(q->id));
}

static int lite_run(struct sql *q)
{
	int rc;
	do
		rc = lite_row(q);
	while (rc == 1);
	return rc;
}

static int64_t lite_int(struct sql *q, int col)
{
	return sqlite3_column_int64(q->result, col);
}

static const void *lite_bytes(struct sql *q, int col, size_t *len)
{
	*len = 0;
	if (sqlite3_column_type(q->result, col) == SQLITE_NULL)
		return NULL;
	const void *p = sqlite3_column_blob(q->result, col);
	*len = (size_t)sqlite3_column_bytes(q->result, col);
	return p ? p : ""; /* an empty value is no NULL */
}

/* What is bound belongs to the op and may go: so is the binding. */
static void lite_end(struct sql *q)
{
	if (!q->result)
		return;
	sqlite3_reset(q->result);
	sqlite3_clear_bindings(q->result);
	q->result = NULL;
}

static int lite_script(struct db *db, const char *text)
{
	struct sqlite_store *s = (struct sqlite_store *)db;
	int rc = sqlite3_exec(s->conn, text, NULL, NULL, NULL);
	return rc == SQLITE_OK ? 0 : failed(s, rc, "schema");
}

static const struct sql_driver driver = {.lock = "",
					 .skip = "",
					 .blob = "blob",
					 .id_key = "INTEGER PRIMARY KEY",
					 .norowid = "WITHOUT ROWID",
					 .row = lite_row,
					 .run = lite_run,
					 .get_int = lite_int,
					 .get_bytes = lite_bytes,
					 .end = lite_end,
					 .script = lite_script};

/* ---- opening --------------------------------------------------------------------------------------------------------------------
 */

static int on_wal(void *arg, sqlite3 *conn, const char *name, int pages)
{
	((struct sqlite_store *)arg)->wal_pages = pages;
	return SQLITE_OK;
}

static void disconnect(struct sqlite_store *s)
{
	for (int i = 0; i < SQL_N; i++) {
		sqlite3_finalize(s->stmt[i]);
		s->stmt[i] = NULL;
	}
	sqlite3_finalize(s->begin_stmt);
	sqlite3_finalize(s->commit_stmt);
	sqlite3_finalize(s->rollback_stmt);
	s->begin_stmt = s->commit_stmt = s->rollback_stmt = NULL;
	sqlite3_close(s->conn);
	s->conn = NULL;
	memset(s->files, 0, sizeof(s->files));
}

static int pragma(struct sqlite_store *s, const char *text)
{
	errno = 0;
	int rc = sqlite3_exec(s->conn, text, NULL, NULL, NULL);
	return rc == SQLITE_OK ? 0 : failed(s, rc, text);
}

static int pragma_int(struct sqlite_store *s, const char *text, int *out)
{
	sqlite3_stmt *stmt;
	int rc = sqlite3_prepare_v2(s->conn, text, -1, &stmt, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		*out = sqlite3_column_int(stmt, 0);
	int code = rc == SQLITE_ROW ? 0 : failed(s, rc, text);
	sqlite3_finalize(stmt);
	return code;
}

/* The lock first: whoever looks into the file before it is exclusive makes a shared memory file. */
static int settings(struct sqlite_store *s)
{
	static const char *const texts[] = {"PRAGMA locking_mode = EXCLUSIVE",  "PRAGMA page_size = 4096",
					    "PRAGMA auto_vacuum = INCREMENTAL", "PRAGMA journal_mode = WAL",
					    "PRAGMA synchronous = FULL",        "PRAGMA wal_autocheckpoint = 0",
					    "PRAGMA temp_store = MEMORY",       "PRAGMA cache_size = -16384",
					    "PRAGMA trusted_schema = OFF",      "PRAGMA cell_size_check = ON"};
	char limit[64];
	int rc = 0;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]) && rc >= 0; i++)
		rc = pragma(s, texts[i]);
	snprintf(limit, sizeof(limit), "PRAGMA journal_size_limit = %d", WAL_KEPT);
	if (rc >= 0)
		rc = pragma(s, limit);
	sqlite3_wal_hook(s->conn, on_wal, s); /* after wal_autocheckpoint, which sets a hook of its own */
	return rc;
}

static int prepare_control(struct sqlite_store *s)
{
	const struct {
		const char *text;
		sqlite3_stmt **stmt;
	} list[] = {{"BEGIN IMMEDIATE", &s->begin_stmt}, {"COMMIT", &s->commit_stmt}, {"ROLLBACK", &s->rollback_stmt}};
	for (int i = 0; i < 3; i++) {
		int rc = sqlite3_prepare_v3(s->conn, list[i].text, -1, SQLITE_PREPARE_PERSISTENT, list[i].stmt, NULL);
		if (rc != SQLITE_OK)
			return failed(s, rc, list[i].text);
	}
	return 0;
}

static int connect_file(struct sqlite_store *s)
{
	errno = 0;
	int rc = sqlite3_open_v2(s->path, &s->conn, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE, NULL);
	if (rc != SQLITE_OK) {
		rc = failed(s, rc, s->path);
		disconnect(s);
		return rc;
	}
	sqlite3_extended_result_codes(s->conn, 1);
	sqlite3_busy_timeout(s->conn, BUSY_MS);
	if (sqlite3_db_readonly(s->conn, "main") == 1) {
		snprintf(s->db.text, sizeof(s->db.text), "%s cannot be written", s->path);
		disconnect(s);
		return STORE_EFULL;
	}
	rc = settings(s);
	if (rc >= 0)
		rc = prepare_control(s);
	if (rc >= 0 && s->was_broken) {
		/* After a failed fsync the system may take the log's pages for written: what it has of them goes into the file,
		 * with an fsync of its own. */
		int full = sqlite3_wal_checkpoint_v2(s->conn, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
		if (full != SQLITE_OK)
			rc = failed(s, full, "checkpoint");
	}
	if (rc >= 0)
		s->was_broken = false;
	else
		disconnect(s);
	return rc;
}

/* ---- transactions ---------------------------------------------------------------------------------------------------------------
 */

static int control(struct sqlite_store *s, sqlite3_stmt *stmt, const char *doing)
{
	errno = 0;
	int rc = sqlite3_step(stmt);
	int code = rc == SQLITE_DONE ? 0 : failed(s, rc, doing);
	sqlite3_reset(stmt);
	return code;
}

static int64_t wall_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * (int64_t)1000 + t.tv_nsec / 1000000;
}

static int lite_begin(void *self, char text[static STORE_TEXT])
{
	struct sqlite_store *s = self;
	int rc = s->conn ? 0 : connect_file(s);
	tally_clear(&s->db.tally);
	s->db.news = false;
	s->db.now = wall_ms();
	if (rc >= 0)
		rc = control(s, s->begin_stmt, "begin");
	return give_text(s, rc, text);
}

static int lite_apply(void *self, struct store_op *op, char text[static STORE_TEXT])
{
	struct sqlite_store *s = self;
	return give_text(s, store_apply(&s->db, op), text);
}

/* What is written to files that somebody took away is lost with them, though SQLite goes on as if nothing were. So each commit looks whether
 * they still stand where the next start will look for them; when they were put back, all goes on. */
static int in_place(struct sqlite_store *s)
{
	static const char *const ends[] = {"", "-wal"};
	char path[4300];
	struct stat st;
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s%s", s->path, ends[i]);
		bool there = stat(path, &st) == 0;
		if (!s->files[i].known && there) {
			s->files[i].known = true;
			s->files[i].dev = st.st_dev;
			s->files[i].ino = st.st_ino;
		} else if (s->files[i].known && (!there || st.st_dev != s->files[i].dev || st.st_ino != s->files[i].ino)) {
			snprintf(s->db.text, sizeof(s->db.text), "%.200s was %s: put it back", path, there ? "replaced" : "moved or removed");
			return STORE_EDOWN;
		}
	}
	return 0;
}

static int lite_commit(void *self, char text[static STORE_TEXT])
{
	struct sqlite_store *s = self;
	int rc = store_flush(&s->db);
	if (rc >= 0)
		rc = in_place(s);
	if (rc >= 0)
		rc = control(s, s->commit_stmt, "commit");
	return give_text(s, rc, text);
}

/* A commit here is done or not. */
static int lite_settle(void *self, char text[static STORE_TEXT])
{
	return STORE_STALE;
}

/* The connection stays after a failure: what a failed commit left in the log is written over by the next one. (Opened anew, the log
 * might be read as if the commit had happened.) Only one that cannot even go back is given up, and begin() makes another. */
static void lite_rollback(void *self)
{
	struct sqlite_store *s = self;
	tally_clear(&s->db.tally);
	if (!s->conn || sqlite3_get_autocommit(s->conn))
		return;
	sqlite3_step(s->rollback_stmt);
	sqlite3_reset(s->rollback_stmt);
	if (sqlite3_get_autocommit(s->conn))
		return;
	s->was_broken = true;
	disconnect(s);
}

/* ---- check and migration --------------------------------------------------------------------------------------------------------
 */

static int quick_check(struct sqlite_store *s)
{
	sqlite3_stmt *stmt;
	errno = 0;
	int rc = sqlite3_prepare_v2(s->conn, "PRAGMA quick_check(1)", -1, &stmt, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	int code = 0;
	if (rc != SQLITE_ROW) {
		code = failed(s, rc, "integrity check");
	} else if (strcmp((const char *)sqlite3_column_text(stmt, 0), "ok") != 0) {
		/* A page that cannot be read is told in the same way as one that is wrong. */
		bool unread = errno == EIO;
		snprintf(s->db.text, sizeof(s->db.text), "the file %s: %.180s", unread ? "cannot be read" : "is damaged",
			 (const char *)sqlite3_column_text(stmt, 0));
		code = unread ? STORE_EDOWN : STORE_EBROKEN;
	}
	sqlite3_finalize(stmt);
	return code;
}

/* One step in one transaction, with its number. */
static int migrate_step(struct sqlite_store *s, int version)
{
	char set[64], text[STORE_TEXT];
	int rc = lite_begin(s, text);
	if (rc >= 0)
		rc = schema_step(&s->db, version);
	snprintf(set, sizeof(set), "PRAGMA user_version = %d", version + 1);
	if (rc >= 0)
		rc = pragma(s, set);
	if (rc >= 0)
		rc = lite_commit(s, text);
	if (rc < 0)
		lite_rollback(s);
	return rc;
}

static int migrate(struct sqlite_store *s)
{
	int version = 0, rc = pragma_int(s, "PRAGMA user_version", &version);
	if (rc >= 0 && (version < 0 || version > STORE_SCHEMA)) {
		snprintf(s->db.text, sizeof(s->db.text),
			 "the store is of schema %d, this weftd knows up to %d: it was written by a newer one", version,
			 STORE_SCHEMA);
		return STORE_EBROKEN;
	}
	for (; rc >= 0 && version < schema_upto; version++)
		rc = migrate_step(s, version);
	return rc;
}

static int recover(struct sqlite_store *s)
{
	char text[STORE_TEXT];
	int rc = lite_begin(s, text);
	if (rc >= 0)
		rc = store_recover_all(&s->db);
	if (rc >= 0)
		rc = lite_commit(s, text);
	if (rc < 0)
		lite_rollback(s);
	return rc;
}

/* ---- the file and its lock ------------------------------------------------------------------------------------------------------
 */

static int refuse(struct sqlite_store *s, const char *path, int fd)
{
	char who[32] = "";
	ssize_t n = pread(fd, who, sizeof(who) - 1, 0);
	who[n > 0 ? n : 0] = 0;
	who[strcspn(who, "\n")] = 0;
	snprintf(s->db.text, sizeof(s->db.text), "%.150s is in use by another weftd (process %s)", path, who[0] ? who : "unknown");
	return STORE_EBROKEN;
}

/* Who has the file: a lock that goes with the process, whatever ends it. */
static int lock_file(struct sqlite_store *s)
{
	char path[4096], pid[32];
	if ((size_t)snprintf(path, sizeof(path), "%s-lock", s->path) >= sizeof(path)) {
		snprintf(s->db.text, sizeof(s->db.text), "the path of the store is too long");
		return STORE_EBROKEN;
	}
	s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (s->lock_fd < 0) {
		snprintf(s->db.text, sizeof(s->db.text), "%.150s: %s", path, strerror(errno));
		return errno == ENOSPC || errno == EROFS || errno == EDQUOT ? STORE_EFULL : STORE_EDOWN;
	}
	if (flock(s->lock_fd, LOCK_EX | LOCK_NB) != 0)
		return refuse(s, s->path, s->lock_fd);
	int n = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
	if (ftruncate(s->lock_fd, 0) != 0 || pwrite(s->lock_fd, pid, (size_t)n, 0) != n)
		return 0; /* it is for people only */
	return 0;
}

/* The name of a new file is on disk when its folder is. */
static void sync_folder(const char *path)
{
	char folder[4096];
	const char *slash = strrchr(path, '/');
	snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - path + 1) : 1, slash ? path : ".");
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	fsync(fd);
	close(fd);
}

/* With the right mode from the start; SQLite gives its other files the same. */
static int create_file(struct sqlite_store *s)
{
	int fd = open(s->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0) {
		int err = errno;
		snprintf(s->db.text, sizeof(s->db.text), "%.150s: %s", s->path, strerror(err));
		return err == ENOSPC || err == EROFS || err == EDQUOT || err == EACCES ? STORE_EFULL : STORE_EDOWN;
	}
	close(fd);
	sync_folder(s->path);
	return 0;
}

static void lite_close(void *self)
{
	struct sqlite_store *s = self;
	if (!s)
		return;
	disconnect(s);
	if (s->lock_fd >= 0)
		close(s->lock_fd);
	tally_finish(&s->db.tally);
	free(s->path);
	free(s->owner);
	free(s->model);
	free(s);
}

static int open_steps(struct sqlite_store *s)
{
	int rc = lock_file(s);
	if (rc >= 0)
		rc = create_file(s);
	if (rc >= 0)
		rc = connect_file(s);
	if (rc >= 0)
		rc = quick_check(s);
	if (rc >= 0)
		rc = migrate(s);
	return rc < 0 ? rc : recover(s);
}

static int lite_open(void **self, const struct store_params *p, char text[static STORE_TEXT])
{
	const char *path = p->url + strlen("sqlite:");
	struct sqlite_store *s = calloc(1, sizeof(*s));
	if (s)
		s->lock_fd = -1;
	if (!s || !(s->path = strdup(path)) || !(s->owner = strdup(p->owner)) || !(s->model = strdup(p->model ? p->model : ""))) {
		lite_close(s);
		snprintf(text, STORE_TEXT, "out of memory");
		return STORE_ENOMEM;
	}
	s->db.driver = &driver;
	s->db.owner = s->owner;
	s->db.model = s->model;
	int rc = path[0] ? open_steps(s) : STORE_EBROKEN;
	if (!path[0])
		snprintf(s->db.text, sizeof(s->db.text), "sqlite: is followed by the path of the file");
	if (rc < 0) {
		give_text(s, rc, text);
		lite_close(s);
		return rc;
	}
	*self = s;
	return 0;
}

/* ---- tidying --------------------------------------------------------------------------------------------------------------------
 */

static int checkpoint(struct sqlite_store *s)
{
	if (s->wal_pages < CHECKPOINT_PAGES)
		return 0;
	s->wal_pages = 0;
	errno = 0;
	int rc = sqlite3_wal_checkpoint_v2(s->conn, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
	return rc == SQLITE_OK || rc == SQLITE_BUSY ? 0 : failed(s, rc, "checkpoint");
}

/* The file gets shorter again, a little at a time. 1: more is to be given back. */
static int give_back(struct sqlite_store *s)
{
	char text[64];
	int free_pages = 0, rc = pragma_int(s, "PRAGMA freelist_count", &free_pages);
	if (rc < 0 || free_pages <= FREE_PAGES_KEPT)
		return rc;
	snprintf(text, sizeof(text), "PRAGMA incremental_vacuum(%d)", FREE_PAGES_STEP);
	rc = pragma(s, text);
	return rc < 0 ? rc : free_pages - FREE_PAGES_STEP > FREE_PAGES_KEPT;
}

static int tidy_rows(struct sqlite_store *s)
{
	char text[STORE_TEXT];
	int more = 0, rc = lite_begin(s, text);
	if (rc >= 0)
		rc = more = store_tidy(&s->db);
	if (rc >= 0)
		rc = lite_commit(s, text);
	if (rc < 0)
		lite_rollback(s);
	return rc < 0 ? rc : more;
}

static int lite_tidy(void *self, char text[static STORE_TEXT])
{
	struct sqlite_store *s = self;
	int rc = s->conn ? checkpoint(s) : 0, more = 0;
	if (rc >= 0)
		rc = more = tidy_rows(s);
	if (rc == 0)
		rc = more = give_back(s);
	return rc < 0 ? give_text(s, rc, text) : more;
}

static bool lite_wants_tidy(void *self)
{
	const struct sqlite_store *s = self;
	return s->db.untidy || s->wal_pages >= CHECKPOINT_PAGES;
}

static int lite_hint_fd(void *self)
{
	return -1;
}

static bool lite_take_hint(void *self)
{
	return false;
}

const struct store_backend store_sqlite = {.scheme = "sqlite",
					   .name = "sqlite",
					   .open = lite_open,
					   .close = lite_close,
					   .begin = lite_begin,
					   .apply = lite_apply,
					   .commit = lite_commit,
					   .settle = lite_settle,
					   .rollback = lite_rollback,
					   .tidy = lite_tidy,
					   .wants_tidy = lite_wants_tidy,
					   .hint_fd = lite_hint_fd,
					   .take_hint = lite_take_hint};
