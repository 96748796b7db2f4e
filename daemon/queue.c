/* queue.c: two heaps of ranks, one for each class. */
#include "queue.h"
#include <stdlib.h>

int64_t queue_rank(int64_t now_ms, bool batch, uint32_t priority, int64_t ageing_ms)
{
	return now_ms + ((int64_t)priority + (batch ? 1000 : 0)) * ageing_ms / 1000;
}

void queue_finish(struct queue *q)
{
	free(q->of[0].at);
	free(q->of[1].at);
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

static void put(struct queue_heap *h, size_t i, struct queue_entry *e)
{
	h->at[i] = e;
	e->place = i + 1;
}

static void settle(struct queue_heap *h, size_t i, struct queue_entry *e)
{
	while (i > 0 && before(e, h->at[(i - 1) / 2])) {
		put(h, i, h->at[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	for (size_t child; (child = 2 * i + 1) < h->n; i = child) {
		if (child + 1 < h->n && before(h->at[child + 1], h->at[child]))
			child++;
		if (!before(h->at[child], e))
			break;
		put(h, i, h->at[child]);
	}
	put(h, i, e);
}

int queue_push(struct queue *q, struct queue_entry *e)
{
	struct queue_heap *h = &q->of[e->batch];
	if (h->n == h->cap) {
		size_t cap = h->cap ? 2 * h->cap : 64;
		struct queue_entry **at = realloc(h->at, cap * sizeof *at);
		if (!at)
			return -1;
		h->at = at;
		h->cap = cap;
	}
	q->n++;
	q->tokens += e->tokens;
	q->bytes += e->bytes;
	settle(h, h->n++, e);
	return 0;
}

void queue_remove(struct queue *q, struct queue_entry *e)
{
	struct queue_heap *h = &q->of[e->batch];
	if (!e->place)
		return;
	size_t hole = e->place - 1;
	struct queue_entry *last = h->at[--h->n];
	e->place = 0;
	q->n--;
	q->tokens -= e->tokens;
	q->bytes -= e->bytes;
	if (last != e)
		settle(h, hole, last);
}

static struct queue_entry *top(const struct queue_heap *h)
{
	return h->n ? h->at[0] : NULL;
}

struct queue_entry *queue_first(const struct queue *q)
{
	struct queue_entry *interactive = top(&q->of[0]), *batch = top(&q->of[1]);
	return !batch || (interactive && before(interactive, batch)) ? interactive : batch;
}

struct queue_entry *queue_first_interactive(const struct queue *q)
{
	return top(&q->of[0]);
}

size_t queue_ahead(const struct queue *q, const struct queue_entry *e)
{
	size_t ahead = 0;
	for (int k = 0; k < 2; k++)
		for (size_t i = 0; i < q->of[k].n; i++)
			ahead += q->of[k].at[i] != e && before(q->of[k].at[i], e);
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

size_t queue_kept(size_t places)
{
	return places < 4 ? 1 : places / 4;
}

size_t queue_victims(const struct queue_entry *first, struct queue_entry **running, size_t n, size_t kept, const struct queue_room *room,
		     struct queue_entry **out)
{
	uint64_t slots = room->slots, pages = room->pages;
	size_t taken = 0, batch = 0;
	if (first->batch)
		return 0;
	for (size_t i = 0; i < n; i++)
		batch += running[i]->batch;
	qsort(running, n, sizeof *running, last_rank_first);
	for (size_t i = 0; i < n && (slots < 1 || pages < first->pages); i++) {
		if (!running[i]->batch || (!before(first, running[i]) && batch - taken <= kept))
			continue;
		out[taken++] = running[i];
		slots++;
		pages += running[i]->pages;
	}
	return slots >= 1 && pages >= first->pages ? taken : 0;
}
