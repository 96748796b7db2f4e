/* queue.c: a heap of ranks. */
#include "queue.h"
#include <stdlib.h>

int64_t queue_rank(int64_t now_ms, bool batch, uint32_t priority, int64_t ageing_ms)
{
	return now_ms + ((int64_t)priority + (batch ? 1000 : 0)) * ageing_ms / 1000;
}

void queue_finish(struct queue *q)
{
	free(q->heap);
	*q = (struct queue){0};
}

static bool before(const struct queue_entry *a, const struct queue_entry *b)
{
	return a->rank != b->rank ? a->rank < b->rank : a->id < b->id;
}

const char *queue_full(const struct queue *q, const struct queue_limits *limits, uint64_t tokens, uint64_t bytes)
{
	if (q->n >= limits->jobs)
		return "jobs";
	if (tokens > limits->tokens || q->tokens > limits->tokens - tokens)
		return "tokens";
	if (bytes > limits->bytes || q->bytes > limits->bytes - bytes)
		return "bytes";
	return NULL;
}

static void put(struct queue *q, size_t i, struct queue_entry *e)
{
	q->heap[i] = e;
	e->place = i + 1;
}

static void settle(struct queue *q, size_t i, struct queue_entry *e)
{
	while (i > 0 && before(e, q->heap[(i - 1) / 2])) {
		put(q, i, q->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	for (size_t child; (child = 2 * i + 1) < q->n; i = child) {
		if (child + 1 < q->n && before(q->heap[child + 1], q->heap[child]))
			child++;
		if (!before(q->heap[child], e))
			break;
		put(q, i, q->heap[child]);
	}
	put(q, i, e);
}

int queue_push(struct queue *q, struct queue_entry *e)
{
	if (q->n == q->cap) {
		size_t cap = q->cap ? 2 * q->cap : 64;
		struct queue_entry **heap = realloc(q->heap, cap * sizeof *heap);
		if (!heap)
			return -1;
		q->heap = heap;
		q->cap = cap;
	}
	q->tokens += e->tokens;
	q->bytes += e->bytes;
	settle(q, q->n++, e);
	return 0;
}

void queue_remove(struct queue *q, struct queue_entry *e)
{
	if (!e->place)
		return;
	size_t hole = e->place - 1;
	struct queue_entry *last = q->heap[--q->n];
	e->place = 0;
	q->tokens -= e->tokens;
	q->bytes -= e->bytes;
	if (last != e)
		settle(q, hole, last);
}

struct queue_entry *queue_first(const struct queue *q)
{
	return q->n ? q->heap[0] : NULL;
}

size_t queue_ahead(const struct queue *q, const struct queue_entry *e)
{
	size_t ahead = 0;
	for (size_t i = 0; i < q->n; i++)
		ahead += q->heap[i] != e && before(q->heap[i], e);
	return ahead;
}

/* ---- pace ---- */

void queue_departed(struct queue *q, int64_t now_ms)
{
	/* Without waiting jobs the time since the last departure says how few requests came, not how fast we are. */
	if (q->n && q->last_departure_ms) {
		double gap = (double)(now_ms - q->last_departure_ms);
		q->departure_ms = q->departure_ms > 0 ? 0.9 * q->departure_ms + 0.1 * gap : gap;
	}
	q->last_departure_ms = now_ms;
}

uint64_t queue_retry_after(const struct queue *q)
{
	double pace = q->departure_ms > 0 ? q->departure_ms : 250;
	double ms = pace * (double)(q->n / 4 + 1);
	return ms < 100 ? 100 : ms > 60000 ? 60000 : (uint64_t)ms;
}

/* ---- room ---- */

bool queue_fits(const struct queue_entry *e, const struct queue_room *room)
{
	return room->slots >= 1 && room->pages >= e->pages;
}

static int last_rank_first(const void *a, const void *b)
{
	const struct queue_entry *x = *(struct queue_entry *const *)a, *y = *(struct queue_entry *const *)b;
	return before(x, y) ? 1 : -1;
}

size_t queue_victims(const struct queue_entry *first, struct queue_entry **running, size_t n, const struct queue_room *room,
		     struct queue_entry **out)
{
	uint64_t slots = room->slots, pages = room->pages;
	size_t taken = 0;
	if (first->batch)
		return 0;
	qsort(running, n, sizeof *running, last_rank_first);
	for (size_t i = 0; i < n && (slots < 1 || pages < first->pages); i++) {
		if (!running[i]->batch || !before(first, running[i]))
			continue;
		out[taken++] = running[i];
		slots++;
		pages += running[i]->pages;
	}
	return slots >= 1 && pages >= first->pages ? taken : 0;
}
