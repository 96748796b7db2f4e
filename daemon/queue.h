/* queue.h: which waiting job runs next, which running job makes room for it, and whether one more may wait. Pure: no clock, no
 * loop.
 *
 * Rank. A waiting job has one number that never changes, so that the order needs no upkeep:
 *      rank = time of acceptance (ms) + (priority + (batch ? 1000 : 0)) * ageing / 1000
 * and the lowest rank goes first. So priority 0 goes before 100, interactive before batch, and every job gets older: none is
 * overtaken by jobs that came more than 2 * ageing after it. Pre-empted jobs keep rank and age, so they re-enter before new equals.
 *
 * The order is strict: when the first job does not fit, none behind it slips through, so large jobs do not starve either. */
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
	size_t place;           /* in the heap, from 1; 0: not waiting */
};

struct queue_limits {
	uint64_t jobs, tokens, bytes;
};

struct queue {
	struct queue_entry **heap; /* [n]; not owned */
	size_t n, cap;
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
size_t queue_ahead(const struct queue *q, const struct queue_entry *e); /* how many go before it */

/* A job left the engine for good: learns the pace. */
void queue_departed(struct queue *q, int64_t now_ms);
/* When a refused client should try again: the time that a quarter of the queue needs at the present pace; 100 ms to 60 s. */
uint64_t queue_retry_after(const struct queue *q);

struct queue_room {
	uint32_t slots, pages; /* free */
};
bool queue_fits(const struct queue_entry *e, const struct queue_room *room);
/* Which of running[0..n) to pre-empt so that `first` fits: batch jobs of a later rank, the last rank first, as few as that order
 * needs. Writes them to out[0..n) and returns how many; 0: no need, no right (only interactive jobs pre-empt), or it would not
 * help. Sorts running. */
size_t queue_victims(const struct queue_entry *first, struct queue_entry **running, size_t n, const struct queue_room *room,
		     struct queue_entry **out);

#endif
