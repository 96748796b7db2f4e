/* store_plan_test.c [URL]: how the database runs each statement of the store: none reads a table from one end to the other, and
 * none sorts, however many rows wait. */
#include "config.h"
#include "store_kit.h"
#include "daemon/store_sql.h"
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#ifdef HAVE_POSTGRESQL
#include <libpq-fe.h>
#endif

/* Of one identity or batch there are few lines of counts: those may be grouped as it likes. Batches and owners are few as well, and
 * so is what a watcher has not seen. */
static bool may_sort(enum sql_id id)
{
	return id == SQL_COUNT_IDENTITY || id == SQL_COUNT_BATCH;
}

static bool of_fleets(enum sql_id id)
{
	switch (id) {
	case SQL_NOW:
	case SQL_XID:
	case SQL_FATE:
	case SQL_END_PROCESS:
	case SQL_NOTIFY:
	case SQL_OWNER_BEAT:
	case SQL_OWNERS_GONE:
	case SQL_OWNERS_OLD:
	case SQL_OWNER_DROP:
	case SQL_LOST_ADD:
	case SQL_LOST_TAKE:
	case SQL_LOST_DROP:
	case SQL_NOTE:
	case SQL_TIDY_NOTES:
	case SQL_WATCH:
	case SQL_WATCH_ENDS:
		return true;
	default:
		return false;
	}
}

static int params_of(const char *text)
{
	int most = 0;
	for (const char *c = text; (c = strchr(c, '$')); c++)
		if (atoi(c + 1) > most)
			most = atoi(c + 1);
	return most;
}

static int bad;

static void complain(enum sql_id id, const char *line)
{
	fprintf(stderr, "%s: %s\n", sql_name(id), line);
	bad++;
}

/* ---- SQLite ---------------------------------------------------------------------------------------------------------------------
 */

static const struct sql_driver lite = {.lock = "", .skip = ""};

static void explain_lite(sqlite3 *db, enum sql_id id)
{
	char text[SQL_TEXT_MAX], query[SQL_TEXT_MAX + 32];
	sqlite3_stmt *stmt;
	sql_render(&lite, id, text);
	for (char *c = text; *c; c++)
		if (*c == '$')
			*c = '?';
	snprintf(query, sizeof(query), "EXPLAIN QUERY PLAN %s", text);
	CHECK_INT(sqlite3_prepare_v2(db, query, -1, &stmt, NULL), SQLITE_OK);
	while (sqlite3_step(stmt) == SQLITE_ROW) {
		const char *line = (const char *)sqlite3_column_text(stmt, 3);
		bool scans = strncmp(line, "SCAN", 4) == 0 && !strstr(line, "INDEX") && strcmp(line, "SCAN CONSTANT ROW") != 0;
		bool sorts = strstr(line, "TEMP B-TREE") && !may_sort(id);
		if (scans || sorts)
			complain(id, line);
	}
	sqlite3_finalize(stmt);
}

static int on_lite(void)
{
	char *folder = kit_folder(), text[STORE_TEXT];
	struct kit k = {.quiet = true};
	sqlite3 *db;
	snprintf(k.url, sizeof(k.url), "sqlite:%s/plan.db", folder);
	CHECK_INT(kit_open(&k, text), STORE_OK);
	kit_close(&k);
	CHECK_INT(sqlite3_open(k.url + 7, &db), SQLITE_OK);
	for (int id = 0; id < SQL_N; id++)
		if (!of_fleets((enum sql_id)id))
			explain_lite(db, (enum sql_id)id);
	sqlite3_close(db);
	free(folder);
	return bad != 0;
}

/* ---- PostgreSQL -----------------------------------------------------------------------------------------------------------------
 */

#ifdef HAVE_POSTGRESQL
static const struct sql_driver pg = {.lock = "FOR UPDATE", .skip = "FOR UPDATE SKIP LOCKED"};

static PGresult *must(PGconn *c, PGresult *r, const char *what)
{
	ExecStatusType s = PQresultStatus(r);
	if (s != PGRES_COMMAND_OK && s != PGRES_TUPLES_OK) {
		fprintf(stderr, "%s: %s", what, PQerrorMessage(c));
		exit(1);
	}
	return r;
}

static void exec(PGconn *c, const char *text)
{
	PQclear(must(c, PQexec(c, text), text));
}

static void explain_pg(PGconn *c, enum sql_id id)
{
	char text[SQL_TEXT_MAX], query[512];
	sql_render(&pg, id, text);
	PQclear(must(c, PQprepare(c, sql_name(id), text, 0, NULL), sql_name(id)));
	size_t n = (size_t)snprintf(query, sizeof(query), "EXPLAIN EXECUTE \"%s\"", sql_name(id));
	for (int i = 0, last = params_of(text); i < last; i++)
		n += (size_t)snprintf(query + n, sizeof(query) - n, "%sNULL%s", i ? ", " : "(", i == last - 1 ? ")" : "");
	PGresult *r = must(c, PQexec(c, query), query);
	for (int i = 0; i < PQntuples(r); i++) {
		const char *line = PQgetvalue(r, i, 0), *scan = strstr(line, "Seq Scan on ");
		bool scans = scan && (strstr(scan, " job") || strstr(scan, " chunk") || strstr(scan, " request") ||
				      strstr(scan, " checkpoint"));
		bool sorts = strstr(line, "Sort Key") && !may_sort(id) && id != SQL_BATCH_LIST && id != SQL_WATCH &&
			     id != SQL_WATCH_ENDS;
		if (scans || sorts)
			complain(id, line);
	}
	PQclear(r);
}

static void fill(PGconn *c)
{
	exec(c, "INSERT INTO job (id, identity, topic, op, body, class, priority, rank, affinity, batch, row_no, custom_id, model, "
		"state, accepted_at, run_at, "
		"deadline_at, queue_until, owner, token, attempt, n_events) SELECT i, 'me', '', 'generate', '', i % 2, 0, i, i % "
		"7, i % 3, i, '', 'm1', "
		"CASE WHEN i % 100 = 0 THEN i / 100 % 9 ELSE 0 END, 1, i, 0, 0, 'o' || i % 50, 0, 0, 1 FROM generate_series(1, "
		"60000) i");
	exec(c, "INSERT INTO request SELECT i, '' FROM generate_series(1, 60000) i");
	exec(c, "INSERT INTO chunk (job, seq, n, owner, xid, data) SELECT i, 0, 1, '', i, '' FROM generate_series(1, 60000) i");
	exec(c, "INSERT INTO checkpoint SELECT i, '' FROM generate_series(1, 60000) i");
	exec(c, "INSERT INTO note (job, at, xid) SELECT i, i, i FROM generate_series(1, 2000) i");
	exec(c, "ANALYZE job, request, chunk, checkpoint, note");
	exec(c, "SET plan_cache_mode TO force_generic_plan");
}

static int on_pg(const char *url)
{
	char text[STORE_TEXT];
	struct kit k = {.quiet = true};
	snprintf(k.url, sizeof(k.url), "%s&schema=plan", url);
	CHECK_INT(kit_open(&k, text), STORE_OK);
	kit_close(&k);
	PGconn *c = PQconnectdb(url);
	CHECK_INT(PQstatus(c), CONNECTION_OK);
	exec(c, "SET search_path TO plan");
	fill(c);
	for (int id = 0; id < SQL_N; id++)
		explain_pg(c, (enum sql_id)id);
	PQfinish(c);
	return bad != 0;
}
#endif

int main(int argc, char **argv)
{
#ifdef HAVE_POSTGRESQL
	if (argc > 1)
		return on_pg(argv[1]);
#endif
	return on_lite();
}
