/* deadline.h: one heap of points in time; the loop keeps one timer for its top. Times: CLOCK_MONOTONIC in ns. [loop] */
#ifndef WEFT_DAEMON_DEADLINE_H
#define WEFT_DAEMON_DEADLINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Embedded in what it belongs to (a job, a topic); zeroed memory is a deadline that is not armed. */
struct deadline {
	int64_t at;                                  /* ns */
	size_t place;                                /* in the heap, from 1; 0: not armed */
	void (*fire)(struct deadline *d, void *arg); /* it is disarmed already */
};
struct deadlines {
	struct deadline **heap; /* [n], heap[0] is due first; not owned */
	size_t n, cap;
};
void deadlines_finish(struct deadlines *h);
int deadline_arm(struct deadlines *h, struct deadline *d, int64_t at); /* again: moves it; -1: out of memory */
void deadline_disarm(struct deadlines *h, struct deadline *d);
int64_t deadlines_next(const struct deadlines *h); /* INT64_MAX: none */
/* Fires what is due at `now`, at most `limit` of them; true when more is due. */
bool deadlines_run(struct deadlines *h, int64_t now, size_t limit, void *arg);

int64_t clock_now(void); /* CLOCK_MONOTONIC, ns */
/* now + ms without overflow. */
int64_t clock_after(int64_t now, uint64_t ms);

#endif
