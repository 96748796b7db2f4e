/* store_sql.h: what the two backends of the store share: one set of statements and one meaning of every op, over a thin layer that
 * prepares, binds and steps. A backend adds its connection, its transactions and its dialect. [writer]
 *
 * Every column of a number is a 64-bit integer; uint64_t are kept bit by bit (ids, rows and cursors stay below 2^63, so they also
 * sort right). */
#ifndef WEFT_DAEMON_STORE_SQL_H
#define WEFT_DAEMON_STORE_SQL_H

#include "store.h"
#include "store_tally.h"

enum { SQL_PARAMS = 32, SQL_TEXT_MAX = 2048 };

/* The statements: store_sql.c. */
enum sql_id {
#define SQL(id, text) SQL_##id,
#include "store_statements.h"
#undef SQL
	SQL_N
};

struct sql_param {
	enum { SQL_INT, SQL_TEXT, SQL_BYTES, SQL_NULL } type;
	int64_t i;
	const void *data;
	size_t len;
};

struct db;
/* One use of a statement. sql_start(), parameters in order, then sql_row() until it is not 1, or sql_run(); always sql_end(). */
struct sql {
	struct db *db;
	enum sql_id id;
	int n; /* parameters */
	struct sql_param param[SQL_PARAMS];
	void *result; /* the driver's */
	int row;
	int code; /* the first failure */
};

struct sql_driver {
	const char *lock, *skip; /* what {lock} and {skip} stand for in a statement: row locks */
	const char *blob, *id_key, *norowid;
	int (*row)(struct sql *q); /* 1: a row; 0: no more; negative: enum store_code, with db->text */
	int (*run)(struct sql *q); /* 0 or negative; what it returns is not wanted, and the failure may come with a later statement
				      or the commit */
	int64_t (*get_int)(struct sql *q, int col);
	const void *(*get_bytes)(struct sql *q, int col, size_t *len); /* until the next row */
	void (*end)(struct sql *q);
	int (*script)(struct db *db, const char *text); /* several statements without parameters */
};

struct db {
	const struct sql_driver *driver;
	bool fleet;
	const char *owner, *model;
	int64_t lease_ms;
	int64_t now;           /* of the open transaction, by the store's clock */
	bool news;             /* it changed something that other daemons wait for */
	bool untidy;           /* store_tidy() has work */
	struct tally tally;    /* of it */
	char text[STORE_TEXT]; /* of the last failure */
	int64_t watch_below;   /* of a fleet: transactions below this number have all ended */
};

void sql_start(struct sql *q, struct db *db, enum sql_id id);
void sql_int(struct sql *q, int64_t v);
void sql_text(struct sql *q, const char *s);                 /* NULL: "" */
void sql_bytes(struct sql *q, const void *data, size_t len); /* borrowed until sql_end() */
void sql_null(struct sql *q);
int sql_row(struct sql *q);
int sql_run(struct sql *q); /* ends it, too */
int64_t sql_get_int(struct sql *q, int col);
uint64_t sql_get_u64(struct sql *q, int col);
char *sql_get_text(struct sql *q, int col); /* malloc'ed; NULL: out of memory, then q->code says so */
void sql_get_text_in(struct sql *q, int col, char *buf, size_t size);
int sql_get_bytes(struct sql *q, int col, struct store_bytes *out); /* a copy; negative: out of memory */
int sql_end(struct sql *q);                                         /* 0, or the first failure of all calls since sql_start() */
/* The text of a statement in the driver's dialect. */
void sql_render(const struct sql_driver *driver, enum sql_id id, char out[static SQL_TEXT_MAX]);
void sql_render_text(const struct sql_driver *driver, const char *text, char *out, size_t size);
const char *sql_name(enum sql_id id);

/* Shorter for statements with numbers only. */
int sql_run_ints(struct db *db, enum sql_id id, int n, const int64_t *v);
#define SQL_RUN(db, id, ...)                                                                                                       \
	sql_run_ints(db, id, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})

/* store_schema.c: from `version` to the next; the caller has a transaction open, and writes the new number in it. */
int schema_step(struct db *db, int version);
extern int schema_upto; /* STORE_SCHEMA; tests of migrations stop before */

/* The ops. Each returns 0 with op->code set, or a negative failure of the transaction. store_apply() finds the right one. */
int store_apply(struct db *db, struct store_op *op);
int store_flush(struct db *db); /* before the commit: counts and the order of ends */
int store_tidy(struct db *db);  /* 1: more is left; 0: none; negative */
/* After open, when no other daemon can hold anything: what is held was held by a process that is gone. */
int store_recover_all(struct db *db);

int op_ids(struct db *db, struct store_op *op);
int op_add(struct db *db, struct store_op *op);
int op_claim(struct db *db, struct store_op *op);
int op_log(struct db *db, struct store_op *op);
int op_release(struct db *db, struct store_op *op);
int op_heartbeat(struct db *db, struct store_op *op);
int op_verb(struct db *db, struct store_op *op);
int op_view(struct db *db, struct store_op *op);
int op_list(struct db *db, struct store_op *op);
int op_events(struct db *db, struct store_op *op);
int op_watch(struct db *db, struct store_op *op);
int op_batch_open(struct db *db, struct store_op *op);
int op_batch_seal(struct db *db, struct store_op *op);
int op_batch_view(struct db *db, struct store_op *op);
int op_batch_list(struct db *db, struct store_op *op);
int op_batch_results(struct db *db, struct store_op *op);
int op_batch_cancel(struct db *db, struct store_op *op);
int op_batch_retry(struct db *db, struct store_op *op);
int op_batch_close(struct db *db, struct store_op *op);
int op_sweep(struct db *db, struct store_op *op);

/* store_move.c: changes of state that several ops share. */
struct held { /* of a row, as far as a change of state needs it */
	uint64_t id, batch;
	char identity[64];
	enum store_state state;
	enum store_verb verb; /* the order that waits */
	int64_t verb_at;
	uint32_t crashes;
	bool armed;
};
void held_get(struct sql *q, struct held *h); /* of a row of HELD_BY or HELD_ANY */
/* Ends a job that nobody holds. */
int move_end(struct db *db, const struct held *h, enum store_state to, const char *reason_code, const char *reason);
/* To a waiting state; the holder, if any, is forgotten. crashes: its new count. */
int move_wait(struct db *db, const struct held *h, enum store_state to, int64_t run_at, uint32_t crashes);
/* Its holder is gone: counts the crash, obeys the order that waits. */
int move_recover(struct db *db, const struct held *h);
int move_forget(struct db *db, const struct held *h);

int op_finish(struct store_op *op, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4))); /* sets code and text; 0 */
/* Room for one more of an array of out things; NULL: out of memory. */
void *op_grow(void **array, size_t *n, size_t size);
void batch_free(struct store_batch *b);

#endif
