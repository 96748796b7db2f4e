/* queue.h: which waiting job runs next, which running job makes room for it, and whether one more may wait. Pure: no clock, no
 * loop.
 *
 * Rank. A waiting job has one number that never changes, so that the order needs no upkeep:
 *      rank = time of acceptance (ms) + (priority + (batch ? 1000 : 0)) * ageing / 1000
 * and the lowest rank goes first. So priority 0 goes before 100, interactive before batch, and every job gets older: none is
 * overtaken by jobs that came more than 2 * ageing after it. Pre-empted jobs keep rank and age, so they re-enter before new equals.
 *
 * The order is strict: when the first job does not fit, none behind it slips through, so large jobs do not starve either. But somebody waits
 * for the first token of an interactive job: batch jobs that have aged past it hold it up only when they would otherwise have less than
 * queue_kept() of the places. While they have those, batch work goes on; when they have not, the order is strict again. */
#ifndef WEFT_DAEMON_QUEUE_H
#define WEFT_DAEMON_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A job as the queue sees it; embedded in struct job. */
struct queue_entry {
	int64_t rank;
	uint64_t id; /* breaks ties: the older first */
	bool batch;
	uint32_t pages;         /* it may come to hold */
	uint64_t tokens, bytes; /* against the bounds */
	size_t place;           /* in the heap of its class, from 1; 0: not waiting */
};

struct queue_limits {
	uint64_t jobs, tokens, bytes;
};

struct queue {
	struct queue_heap {
		struct queue_entry **at; /* [n]; not owned */
		size_t n, cap;
	} of[2]; /* interactive, batch */
	size_t n; /* of both */
	uint64_t tokens, bytes; /* of those that wait */
	double departure_ms;    /* smoothed time between two departures while jobs waited; 0: not known yet */
	int64_t last_departure_ms;
};

int64_t queue_rank(int64_t now_ms, bool batch, uint32_t priority, int64_t ageing_ms);
void queue_finish(struct queue *q);
/* May one more wait? NULL, or the name of the bound that it would break ("jobs", "tokens", "bytes"). */
const char *queue_full(const struct queue *q, const struct queue_limits *limits, uint64_t tokens, uint64_t bytes);
int queue_push(struct queue *q, struct queue_entry *e);                 /* -1: out of memory */
void queue_remove(struct queue *q, struct queue_entry *e);              /* not waiting: nothing happens */
struct queue_entry *queue_first(const struct queue *q);                 /* NULL: empty */
struct queue_entry *queue_first_interactive(const struct queue *q);     /* NULL: none waits */
size_t queue_ahead(const struct queue *q, const struct queue_entry *e); /* how many go before it */

/* A job left the engine for good: learns the pace. */
void queue_departed(struct queue *q, int64_t now_ms);
/* When a refused client should try again: the time that a quarter of the queue needs at the present pace; 100 ms to 60 s. */
uint64_t queue_retry_after(const struct queue *q);

struct queue_room {
	uint32_t slots, pages; /* free */
};
bool queue_fits(const struct queue_entry *e, const struct queue_room *room);
/* Of so many places for running jobs, those that batch jobs keep once they have aged. */
size_t queue_kept(size_t places);
/* Which of running[0..n) to pre-empt so that `first` fits: batch jobs, the last rank first, as few as that order needs; of those that
 * have aged past it only so many that `kept` batch jobs are left. Writes them to out[0..n) and returns how many; 0: no need, no right
 * (only interactive jobs pre-empt), or it would not help. Sorts running. */
size_t queue_victims(const struct queue_entry *first, struct queue_entry **running, size_t n, size_t kept, const struct queue_room *room,
		     struct queue_entry **out);

#endif
