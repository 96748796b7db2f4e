/* durable.h: the daemon's half of the store (store.h): numbers for jobs, claims, and what a claimed job needs to go on here.
 *
 *     accept:   the job is made, STORE_OP_ADD, and with its commit it enters the queue and the client is answered
 *     claim:    once a second, and when there is room: jobs of the store -> revival (prepared like a request, large ones by a worker)
 *               -> job with its journaled events -> queue -> engine, from its checkpoint
 *     away:     the store cannot be written, or lags too far behind: durable jobs wait, others go on; all goes on when it is back
 *     leave:    drain, bury, delay: the engine lets go, and the row goes back to the store
 *
 * Memory holds a window of the durable jobs; the others stay in the store until there is room. [loop] */
#ifndef WEFT_DAEMON_DURABLE_H
#define WEFT_DAEMON_DURABLE_H

#include "histogram.h"
#include "job.h"
#include "problem.h"
#include "store.h"

struct draft;
struct request;

/* A claimed job on its way to being one again. */
struct revival {
	struct store_job row;
	bool quiet, refused;
	char blend[65];
	struct request *request; /* what it was made by, prepared again; owned */
};

struct durable {
	struct store *store; /* NULL: there is none, and nothing here is used */
	char model[80];      /* as in store_params */
	char owner[128];
	int64_t epoch_ms;    /* ranks of the store are ranks in memory and this */
	bool away;           /* see above */
	struct store_health health;
	uint64_t backlog;    /* bytes of events that wait for their commit */
	TAILQ_HEAD(, job) dirty;
	uint32_t held[2];    /* durable jobs in memory that have not ended, by class */
	bool claiming, hungry, asking, beating, sweeping, watching, closing;
	int64_t beat_at, sweep_at, watch_at; /* ns */
	uint64_t cursor;     /* of STORE_OP_WATCH */
	struct histogram commit; /* of the journal: from the op to its end, microseconds */
	uint64_t claimed, recovered, lost, dead; /* since the start */
	struct deadline tick;
	/* Lets a worker do revival_prepare(), then calls durable_revived(). false: it cannot. */
	bool (*submit)(void *arg, struct revival *v);
	void *arg;
};

int64_t wall_now(void); /* CLOCK_REALTIME, ms since 1970 */

/* Opens the store of the configuration and fetches the first numbers. May block. 0, or an exit code with the reason. [any thread, before
 * the loop uses it] */
struct conf;
int durable_open(struct durable *d, uint64_t ids[static 2], const struct conf *c, const char *model, void (*wake)(void *arg), void *arg,
		 char *why, size_t why_size);
void durable_init(struct server *s);
bool durable_round(struct server *s);  /* ops that are finished, then what the round brought forth; true: more is left */
void durable_close(struct server *s);  /* finishes what waits */
void durable_want(struct server *s);   /* there is room, or there is work in the store: look soon */

/* The op that makes j durable; j->journal says whether it is held. Borrows from d and j. NULL: out of memory. */
struct store_op *durable_add(struct server *s, struct job *j, const struct draft *d, bool hold, int64_t run_at);
/* What a failed op means for a request. Returns -1. */
int durable_problem(struct problem *p, int code, const char *text);
uint64_t durable_token(void);

void revival_prepare(struct revival *v);                     /* [any thread] may block */
void durable_revived(struct server *s, struct revival *v);   /* takes it */

#endif
