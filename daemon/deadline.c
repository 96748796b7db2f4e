/* deadline.c: a binary heap whose members know their places, so that disarming is cheap. */
#include "deadline.h"
#include <stdlib.h>
#include <time.h>

void deadlines_finish(struct deadlines *h)
{
	free(h->heap);
	*h = (struct deadlines){0};
}

static void put(struct deadlines *h, size_t i, struct deadline *d)
{
	h->heap[i] = d;
	d->place = i + 1;
}

/* Moves d from the hole at i to where it belongs. */
static void settle(struct deadlines *h, size_t i, struct deadline *d)
{
	while (i > 0 && h->heap[(i - 1) / 2]->at > d->at) {
		put(h, i, h->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	for (;;) {
		size_t child = 2 * i + 1;
		if (child >= h->n)
			break;
		if (child + 1 < h->n && h->heap[child + 1]->at < h->heap[child]->at)
			child++;
		if (h->heap[child]->at >= d->at)
			break;
		put(h, i, h->heap[child]);
		i = child;
	}
	put(h, i, d);
}

int deadline_arm(struct deadlines *h, struct deadline *d, int64_t at)
{
	if (!d->place && h->n == h->cap) {
		size_t cap = h->cap ? 2 * h->cap : 64;
		struct deadline **heap = realloc(h->heap, cap * sizeof *heap);
		if (!heap)
			return -1;
		h->heap = heap;
		h->cap = cap;
	}
	d->at = at;
	settle(h, d->place ? d->place - 1 : h->n++, d);
	return 0;
}

void deadline_disarm(struct deadlines *h, struct deadline *d)
{
	if (!d->place)
		return;
	size_t hole = d->place - 1;
	struct deadline *last = h->heap[--h->n];
	d->place = 0;
	if (last != d)
		settle(h, hole, last);
}

int64_t deadlines_next(const struct deadlines *h)
{
	return h->n ? h->heap[0]->at : INT64_MAX;
}

bool deadlines_run(struct deadlines *h, int64_t now, size_t limit, void *arg)
{
	while (h->n && h->heap[0]->at <= now) {
		if (limit-- == 0)
			return true;
		struct deadline *d = h->heap[0];
		deadline_disarm(h, d);
		d->fire(d, arg);
	}
	return false;
}

int64_t clock_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t clock_after(int64_t now, uint64_t ms)
{
	int64_t ns, at;
	if (ms > INT64_MAX || __builtin_mul_overflow((int64_t)ms, 1000000, &ns) || __builtin_add_overflow(now, ns, &at))
		return INT64_MAX;
	return at;
}
