/* store.h: what was accepted is kept: durable jobs, their events and checkpoints, and batches; in SQLite beside the daemon
 * ("sqlite:PATH"), or in PostgreSQL for a fleet of daemons that share one queue ("postgresql://...").
 *
 *     [loop]  store_submit(op) ---> list ---> [writer thread]  begin; every op that waits, in order; commit
 *     [loop]  op->done(op)    <--- list <---                   only now are they finished (group commit)
 *             ^ store_take(), after `wake`
 *
 * So a done() with STORE_OK means: on disk. Ops of one job finish in the order of their submission. A commit that fails (disk full,
 * read-only, server gone) finishes each op with that code and changes nothing of it, except those with `stubborn`: they stay in
 * front of the list and are tried again until they succeed or the store is closed. The writer reconnects and recovers by itself;
 * store_health() tells.
 *
 * Holding. A job that runs, or waits in a daemon's memory, is held: `owner` and a `token` that is new for each claim. Each write of
 * a holder names its token; one that is not the row's any more changes nothing and finishes as STORE_STALE (fencing): another
 * daemon has the job. Leases are renewed by STORE_HEARTBEAT; PostgreSQL counts them by its own clock. With SQLite the one daemon of
 * the file (a lock makes sure) holds without end, and what was held when the store is opened was held by a process that is gone.
 *
 * Crashes. A job that is claimed after its holder vanished while it was started (STORE_LOG with `started`, and no clean release)
 * has crashes + 1; a STORE_LOG without `started` that has events or a checkpoint sets it to 0 (it makes progress). A job whose
 * crashes reach STORE_CRASHES is handed out with `dead` set, until a holder ends it with a STORE_LOG that says STORE_DEAD, the
 * reason and the terminal event.
 *
 * Ends. A holder ends a job by a STORE_LOG with a final state and its done event. A job that nobody holds and that is cancelled
 * (VERB, BATCH_CANCEL, or an order that its vanished holder did not obey) ends in the store without a done event: whoever reads it
 * (EVENTS, BATCH_RESULTS, WATCH) makes that event up from state and reason; its seq is the row's n_events.
 *
 * Times are wall clock, milliseconds since 1970; 0 means none. All memory of results belongs to the op and goes with
 * store_op_free(). */
#ifndef WEFT_DAEMON_STORE_H
#define WEFT_DAEMON_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STORE_CRASHES = 3, STORE_TEXT = 240, STORE_KEY_MAX = 256, STORE_SCHEMA = 2 };

enum store_code {
	STORE_OK = 0,
	STORE_STALE = -1,    /* the token is not the job's (any more) */
	STORE_CONFLICT = -2, /* same key, other body; or the state does not allow it */
	STORE_NOTFOUND = -3,
	STORE_EFULL = -4,   /* no space, or read-only: nothing was written */
	STORE_EDOWN = -5,   /* the server or the file cannot be reached just now */
	STORE_EBROKEN = -6, /* damaged, of a newer schema, or in use by another daemon: a person must look */
	STORE_ENOMEM = -7,
	/* of backends only; no op ends so */
	STORE_AGAIN = -100, /* the transaction lost a race (deadlock): run it again */
	STORE_DOUBT = -101  /* the server went while it committed: settle() will tell */
};

/* As rows know them. RUNNING: held by a daemon, in its queue or engine. */
enum store_state {
	STORE_QUEUED,
	STORE_DELAYED,
	STORE_BURIED,
	STORE_RUNNING,
	STORE_DONE,
	STORE_FAILED,
	STORE_CANCELLED,
	STORE_EXPIRED,
	STORE_DEAD,
	STORE_STATES
};
static inline bool store_state_final(enum store_state s)
{
	return s >= STORE_DONE;
}

struct store_bytes {
	void *data; /* malloc'ed; NULL: none */
	size_t len;
};

/* A job to be kept. Strings and bytes are borrowed until done(). */
struct store_new {
	uint64_t id;                       /* from STORE_IDS */
	const char *identity, *topic, *op; /* op: "generate", "score" */
	const char *key;                   /* NULL: none. Unique per identity while the job is kept */
	unsigned char body[32];            /* digest of what the key stands for */
	bool batch_class;
	uint32_t priority;
	int64_t rank;          /* queue.h; lower first */
	uint64_t affinity;     /* rows of equal rank: equal values together (shared prefixes) */
	uint64_t batch, row;   /* 0, 0: not of a batch. Rows come in order: a row below batch.rows is known already (existing, or
				* STORE_CONFLICT   where the body differs), one above it is STORE_CONFLICT */
	const char *custom_id; /* of a row; NULL: none */
	const char *model;     /* digest of model and quantisation: only daemons with the same one may claim it; "" any */
	int64_t accepted_at, run_at, deadline_at, queue_until; /* run_at not 0: DELAYED (then not held) */
	const void *request; /* the request as one msgpack map, seed and all defaults that matter filled in */
	size_t request_len;
	const void *events; /* chunk of its first events (see STORE_LOG); n_events of them */
	size_t events_len;
	uint32_t n_events;
	bool hold; /* the caller holds it from the start, with this token */
	uint64_t token;
	/* out */
	int code; /* STORE_OK; STORE_CONFLICT; STORE_OK with existing != 0: the key is known, this job was not added */
	uint64_t existing;
};

/* A job as claimed: all that is needed to run it, and to go on where its journal ends. */
struct store_job {
	uint64_t id, batch, row;
	char *identity, *topic, *op, *key, *custom_id; /* "" for none */
	bool batch_class;
	uint32_t priority;
	int64_t rank, accepted_at, deadline_at, queue_until;
	struct store_bytes request;
	uint64_t token;
	uint32_t attempt; /* claims so far, 1 first */
	uint32_t crashes;
	bool started;                  /* it ran before */
	bool dead;                     /* end it: crashes reached STORE_CRASHES */
	uint32_t n_events;             /* journaled: the next seq */
	struct store_bytes events;     /* chunk of all of them */
	struct store_bytes checkpoint; /* the last one */
	uint32_t checkpoint_seq;       /* events journaled with or before it */
};

/* A job as people see it. */
struct store_view {
	uint64_t id, batch, row;
	enum store_state state;
	char *identity, *topic, *op, *owner, *reason_code, *reason, *custom_id; /* "" for none */
	bool batch_class;
	uint32_t priority, attempt, crashes, errors, n_events;
	uint64_t prompt_tokens, completion_tokens;
	int64_t accepted_at, started_at, ended_at, run_at;
};

struct store_batch {
	uint64_t id;
	char *name, *identity;
	int64_t created_at, ended_at;
	uint64_t rows;          /* received: the next row number */
	bool sealed, cancelled; /* no more rows come; rows that wait are cancelled */
	uint64_t count[STORE_STATES];
	uint64_t prompt_tokens, completion_tokens;
	struct store_bytes meta; /* whatever the client kept with it */
};

/* An order for a held job that came through another daemon, or by store verbs (CANCEL, BURY, DELAY): told by each STORE_HEARTBEAT
 * until it is obeyed, which is done by LOG (final) or RELEASE; when the holder vanishes the store obeys it. A later order replaces
 * an earlier one; CANCEL stays. */
enum store_verb { STORE_CANCEL = 1, STORE_BURY, STORE_KICK, STORE_DELAY, STORE_TOUCH, STORE_CLOSE };
struct store_order {
	uint64_t id;
	enum store_verb verb;
	int64_t run_at; /* of STORE_DELAY */
	bool lost;      /* no order: the job is not ours any more */
};

struct store_record { /* of a batch's results */
	uint64_t row, job;
	uint64_t cursor; /* pass the last one seen to go on */
	enum store_state state;
	int64_t ended_at;
	char *custom_id;
	struct store_bytes done; /* its done event, as published; NULL: it ended without a holder, see above */
	char *reason_code, *reason;
};

struct store_seen { /* an event of another daemon's job, for a subscriber here */
	uint64_t job;
	char *topic;
	uint32_t seq;
	struct store_bytes data;    /* NULL: it ended without a holder as `state`; see above */
	int state;                  /* -1: not told */
	char *reason_code, *reason; /* with a state; else NULL */
};

enum store_kind {
	STORE_OP_IDS,   /* n -> first: n numbers that are never given out again */
	STORE_OP_ADD,   /* add[n_add]: all in one transaction; each has its own code */
	STORE_OP_CLAIM, /* n[0] interactive and n[1] batch jobs at most, in order of rank; jobs whose lease ran out included -> jobs
			 */
	STORE_OP_LOG,   /* job, token: appends events, replaces the checkpoint, moves the state; fenced */
	STORE_OP_RELEASE, /* job, token: gives it up, to `state` (QUEUED, DELAYED until run_at, BURIED), or as an order wants it ->
			   * state; no crash; with a reason_code one error more; fenced */
	STORE_OP_HEARTBEAT, /* renews all leases of this daemon -> orders */
	STORE_OP_VERB, /* job, identity, verb, run_at: of a job that need not be held here -> state (what it is now), held (an order
			* was left for its holder). CANCEL of an ended job and KICK, TOUCH of one that needs none change nothing;
			* TOUCH of an ended one starts its retention anew; CLOSE forgets an ended one; else STORE_CONFLICT */
	STORE_OP_VIEW, /* job -> views[1] */
	STORE_OP_LIST, /* identity, filter -> views, counts (of this identity) */
	STORE_OP_EVENTS, /* job, identity, from, max_bytes -> events (chunk; at least one if there is one), from, n_events (of
			  * them), first (one past the last seq that the job has), state, reason_code, reason */
	STORE_OP_WATCH,  /* topics[n_topics], cursor -> seen, cursor: events committed since, of jobs that others hold; cursor 0:
			    from now on */
	STORE_OP_BATCH_OPEN,    /* identity, name, meta -> batches[1]: a new one, or the one of that name */
	STORE_OP_BATCH_SEAL,    /* batch: no more rows come */
	STORE_OP_BATCH_VIEW,    /* batch, or name with batch 0 -> batches[1] */
	STORE_OP_BATCH_LIST,    /* identity -> batches */
	STORE_OP_BATCH_RESULTS, /* batch, cursor, ordered, n[0], max_bytes -> records in order of their ends (ordered: of rows, up
				   to the first unended one) */
	STORE_OP_BATCH_CANCEL,  /* batch: rows that wait end as cancelled (little by little; counted as such at once); orders for
				   those that run */
	STORE_OP_BATCH_RETRY,   /* batch, cursor: failed, expired, dead and cancelled rows are queued again as new jobs (their old
				 * ones are forgotten)
				 * -> n[0], and cursor: not 0: more may be left, go on with it */
	STORE_OP_BATCH_CLOSE,   /* batch: forgets it with its rows (little by little); STORE_CONFLICT while rows wait or run */
	/* all BATCH ops: of another identity is STORE_NOTFOUND */
	STORE_OP_SWEEP /* before: forgets jobs outside batches that ended before it, at most n[0] -> n[0] */
};

/* A chunk of events: for each, its length as 4 bytes, little-endian, and then its bytes. */
struct store_op {
	enum store_kind kind;
	bool stubborn;
	void (*done)(struct store_op *op, void *arg); /* [loop] must store_op_free() it, now or later */
	void *arg;
	int code;              /* out: enum store_code */
	char text[STORE_TEXT]; /* out: the reason, for people */

	uint64_t job, token, batch, first, cursor;
	uint32_t n[2];
	char identity[64], name[128]; /* identity "": everyone behind sockets without CURVE */
	enum store_verb verb;
	int64_t run_at, before;
	size_t max_bytes;
	bool ordered, held;

	struct store_new *add; /* [n_add]; owned by the op, what it points to is not */
	size_t n_add;

	/* LOG: owned by the op */
	uint32_t from, n_events; /* from: seq of the first event; must be the row's n_events */
	struct store_bytes events, checkpoint, meta;
	bool started;
	int state; /* LOG: -1, or a final state; RELEASE: the state; out of VERB and EVENTS */
	char reason_code[32], reason[STORE_TEXT];
	uint64_t prompt_tokens, completion_tokens;

	struct {
		int state, batch_class; /* -1: any */
		uint64_t after;
		uint32_t limit;
	} filter;
	char **topics;
	size_t n_topics;

	/* out */
	struct store_job *jobs;
	struct store_view *views;
	struct store_order *orders;
	struct store_record *records;
	struct store_seen *seen;
	struct store_batch *batches;
	size_t n_out; /* of whichever of these the kind has */
	uint64_t counts[STORE_STATES];

	/* the store's */
	struct store_op *next;
	struct {
		uint64_t cursor;
		int64_t run_at;
		uint32_t n[2], from, n_events;
		int state;
	} given; /* in/out fields as submitted, for another try */
};
struct store_op *store_op_new(enum store_kind kind, void (*done)(struct store_op *op, void *arg),
			      void *arg); /* NULL: out of memory */
void store_op_free(struct store_op *op);  /* with all that it owns; NULL is fine */

struct store_params {
	const char *url;   /* "sqlite:PATH" or "postgresql://..." */
	const char *owner; /* name of this daemon for people, unique in a fleet: host:pid:random */
	const char *model; /* claim only jobs of this model (or of "") */
	int64_t lease_ms;  /* PostgreSQL */
	void (*wake)(
		void *arg); /* [writer] ops are finished, or (fleet) the database hints at work: call store_take() on the loop */
	void (*log)(void *arg, int level, const char *text); /* [writer] */
	void *arg;
};

struct store;
/* Opens, checks integrity, migrates older schemas, refuses newer ones; then starts the writer thread. May take long: call it on a
 * worker. */
int store_open(struct store **out, const struct store_params *p, char text[static STORE_TEXT]);
void store_close(struct store *s); /* finishes what waits (bounded: 5 s), stops the thread; ops that are left finish as STORE_EDOWN
				      in a last store_take() before */
void store_submit(struct store *s, struct store_op *op); /* [loop] the op is the store's until done() */
/* [loop] Calls done() of at most max finished ops; true: more are left. *hint (may be NULL) is set when other daemons committed
 * something since. */
bool store_take(struct store *s, unsigned max, bool *hint);

struct store_health { /* [any] */
	int code;     /* of the last commit: STORE_OK, STORE_EFULL, STORE_EDOWN, STORE_EBROKEN */
	char text[STORE_TEXT];
	int64_t since_ms; /* monotonic, since when it is so */
	uint64_t waiting; /* ops */
	uint64_t commits, ops, commit_us_total, commit_us_max, retries;
};
void store_get_health(struct store *s, struct store_health *out);
bool store_is_fleet(const struct store *s);
const char *store_backend_name(const struct store *s); /* "sqlite", "postgresql" */

/* What a backend is: everything on the writer thread, in the transaction that begin opened. apply() sets op->code itself for
 * answers such as STALE and returns 0; a negative return is a failed transaction (rolled back by the caller). */
struct store_backend {
	const char *scheme, *name;
	bool fleet;
	int (*open)(void **self, const struct store_params *p, char text[static STORE_TEXT]);
	void (*close)(void *self);
	int (*begin)(void *self, char text[static STORE_TEXT]);
	int (*apply)(void *self, struct store_op *op, char text[static STORE_TEXT]);
	int (*commit)(void *self, char text[static STORE_TEXT]); /* STORE_DOUBT: then settle() until it tells */
	int (*settle)(
		void *self,
		char text[static STORE_TEXT]); /* STORE_OK: it is committed; STORE_STALE: it is not; STORE_EDOWN: not known yet */
	void (*rollback)(void *self);
	/* Work that can wait, in a transaction of its own (begin and commit are in here) that takes a few milliseconds at most: 1:
	 * more is left; 0: none. */
	int (*tidy)(void *self, char text[static STORE_TEXT]);
	bool (*wants_tidy)(void *self); /* now, and not in a second */
	int (*hint_fd)(void *self);     /* to wait on together with the list; -1: none */
	bool (*take_hint)(void *self);  /* other daemons committed something */
	void (*hurry)(
		void *self); /* [any] the store is being closed: wait for nothing longer than a few seconds; NULL: it never does */
};
extern const struct store_backend store_sqlite;
extern const struct store_backend store_postgres; /* where configured with libpq */

#endif
