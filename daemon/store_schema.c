/* store_schema.c: the tables, as steps from one version to the next. A step runs in one transaction together with the new version
 * number, so whoever is killed in the middle finds the old version whole. A step that was ever released is never changed: what
 * comes later is another step. */
#include "store_sql.h"
#include <stdio.h>

/* {blob}, {id} and {norowid} are the dialect's. Every number is a bigint. */
static const char *const tables_1[] = {
	"CREATE TABLE meta (name text PRIMARY KEY, value bigint NOT NULL) {norowid};"
	"INSERT INTO meta (name, value) VALUES ('next_id', 1);"
	"CREATE TABLE job ("
	"id {id}, identity text NOT NULL, topic text NOT NULL, op text NOT NULL, key text, body {blob} NOT NULL, class bigint NOT "
	"NULL, priority bigint NOT NULL, "
	"rank bigint NOT NULL, affinity bigint NOT NULL, batch bigint NOT NULL, row_no bigint NOT NULL, custom_id text NOT NULL, "
	"model text NOT NULL, "
	"state bigint NOT NULL, accepted_at bigint NOT NULL, started_at bigint NOT NULL DEFAULT 0, ended_at bigint NOT NULL "
	"DEFAULT 0, "
	"kept_at bigint NOT NULL DEFAULT 0, run_at bigint NOT NULL, deadline_at bigint NOT NULL, queue_until bigint NOT NULL, "
	"owner text NOT NULL, token bigint NOT NULL, attempt bigint NOT NULL, crashes bigint NOT NULL DEFAULT 0, errors bigint NOT "
	"NULL DEFAULT 0, "
	"started bigint NOT NULL DEFAULT 0, armed bigint NOT NULL DEFAULT 0, told bigint NOT NULL DEFAULT 0, n_events bigint NOT "
	"NULL, "
	"checkpoint_seq bigint NOT NULL DEFAULT 0, prompt_tokens bigint NOT NULL DEFAULT 0, completion_tokens bigint NOT NULL "
	"DEFAULT 0, "
	"reason_code text NOT NULL DEFAULT '', reason text NOT NULL DEFAULT '', verb bigint NOT NULL DEFAULT 0, verb_at bigint NOT "
	"NULL DEFAULT 0, "
	"end_no bigint NOT NULL DEFAULT 0);",
	"CREATE UNIQUE INDEX job_key ON job (identity, key) WHERE key IS NOT NULL;"
	"CREATE INDEX job_queue ON job (model, class, rank, affinity, id) WHERE state = 0;"
	"CREATE INDEX job_delayed ON job (run_at) WHERE state = 1;"
	"CREATE INDEX job_held ON job (owner, id) WHERE state = 3;"
	"CREATE INDEX job_list ON job (identity, state, class, id);"
	"CREATE UNIQUE INDEX job_row ON job (batch, row_no) WHERE batch <> 0;"
	"CREATE INDEX job_end ON job (batch, end_no) WHERE end_no > 0;"
	"CREATE INDEX job_failed ON job (batch, row_no) WHERE batch <> 0 AND state > 4;"
	"CREATE INDEX job_kept ON job (kept_at) WHERE kept_at > 0 AND batch = 0;",
	"CREATE TABLE request (job {id}, data {blob} NOT NULL);"
	"CREATE TABLE checkpoint (job {id}, data {blob} NOT NULL);",
	"CREATE TABLE batch (id {id}, identity text NOT NULL, name text NOT NULL, created_at bigint NOT NULL, sealed_at bigint NOT "
	"NULL DEFAULT 0, "
	"rows_in bigint NOT NULL DEFAULT 0, cancelled bigint NOT NULL DEFAULT 0, cancel_row bigint NOT NULL DEFAULT 0, closed "
	"bigint NOT NULL DEFAULT 0, "
	"ends bigint NOT NULL DEFAULT 0, meta {blob} NOT NULL);"
	"CREATE UNIQUE INDEX batch_name ON batch (identity, name) WHERE name <> '' AND closed = 0;"
	"CREATE INDEX batch_list ON batch (identity, id);"
	"CREATE INDEX batch_tidy ON batch (id) WHERE cancelled = 1 AND cancel_row >= 0 AND closed = 0;"
	"CREATE INDEX batch_closed ON batch (id) WHERE closed = 1;",
	NULL};
/* Who wrote a chunk, and in which transaction, only matters where there are others. */
static const char *const alone_1[] = {"CREATE TABLE chunk (job bigint NOT NULL, seq bigint NOT NULL, n bigint NOT NULL, owner text "
				      "NOT NULL, data {blob} NOT NULL, PRIMARY KEY (job, seq)) "
				      "{norowid};",
				      NULL};
static const char *const fleet_1[] = {
	"CREATE TABLE chunk (job bigint NOT NULL, seq bigint NOT NULL, n bigint NOT NULL, owner text NOT NULL, xid bigint NOT NULL "
	"DEFAULT txid_current(), "
	"data {blob} NOT NULL, PRIMARY KEY (job, seq));"
	"CREATE INDEX chunk_xid ON chunk (xid);",
	"CREATE TABLE note (job bigint NOT NULL, at bigint NOT NULL, xid bigint NOT NULL DEFAULT txid_current());"
	"CREATE INDEX note_xid ON note (xid);"
	"CREATE INDEX note_at ON note (at);"
	"CREATE TABLE owner (name text PRIMARY KEY, lease bigint NOT NULL);"
	"CREATE TABLE lost (owner text NOT NULL, job bigint NOT NULL, PRIMARY KEY (owner, job));",
	NULL};

/* Version 2 keeps counts; those of the jobs that are there are made here, once. */
static const char *const tables_2[] = {"CREATE TABLE tally (identity text NOT NULL, batch bigint NOT NULL, shard bigint NOT NULL, "
				       "kind bigint NOT NULL, n bigint NOT NULL, "
				       "PRIMARY KEY (batch, identity, shard, kind)) {norowid};"
				       "CREATE INDEX tally_identity ON tally (identity);"
				       "INSERT INTO tally (identity, batch, shard, kind, n) SELECT identity, batch, 0, state, "
				       "count(*) FROM job GROUP BY identity, batch, state;"
				       "INSERT INTO tally (identity, batch, shard, kind, n) SELECT identity, batch, 0, 9, "
				       "sum(prompt_tokens) FROM job WHERE state >= 4 GROUP BY identity, batch;"
				       "INSERT INTO tally (identity, batch, shard, kind, n) SELECT identity, batch, 0, 10, "
				       "sum(completion_tokens) FROM job WHERE state >= 4 GROUP BY identity, batch;",
				       NULL};
_Static_assert(STORE_DONE == 4 && TALLY_PROMPT == 9 && TALLY_COMPLETION == 10, "numbers of the schema");

int schema_upto = STORE_SCHEMA;

static int run_scripts(struct db *db, const char *const *scripts)
{
	char text[4096];
	int rc = 0;
	for (; *scripts && rc >= 0; scripts++) {
		sql_render_text(db->driver, *scripts, text, sizeof(text));
		rc = db->driver->script(db, text);
	}
	return rc;
}

int schema_step(struct db *db, int version)
{
	int rc = STORE_EBROKEN;
	switch (version) {
	case 0:
		rc = run_scripts(db, tables_1);
		return rc < 0 ? rc : run_scripts(db, db->fleet ? fleet_1 : alone_1);
	case 1:
		return run_scripts(db, tables_2);
	}
	snprintf(db->text, sizeof(db->text), "no way from schema %d", version);
	return rc;
}
