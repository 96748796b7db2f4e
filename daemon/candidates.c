/* candidates.c: host->sort, a partial selection that never sorts more than it was asked for. */
#include "config.h"

#include <string.h>

#include "daemon/logits.h"

/* Up to this many are picked in one pass over the candidates with a heap; more by partial quicksort. */
enum { SMALL = 128, INSERTION = 16 };

static inline bool better(const struct weft_candidates *c, uint32_t a, uint32_t b)
{
	return c->logits[a] > c->logits[b] || (c->logits[a] == c->logits[b] && c->ids[a] < c->ids[b]);
}

static inline void swap(struct weft_candidates *c, uint32_t a, uint32_t b)
{
	float logit = c->logits[a];
	int32_t id = c->ids[a];
	c->logits[a] = c->logits[b];
	c->ids[a] = c->ids[b];
	c->logits[b] = logit;
	c->ids[b] = id;
}

/* ---- few: a heap of places whose root is the worst of the best ---- */

static void sift_down(const struct weft_candidates *c, uint32_t *heap, uint32_t n, uint32_t at)
{
	for (;;) {
		uint32_t worst = at, left = 2 * at + 1;
		if (left < n && better(c, heap[worst], heap[left]))
			worst = left;
		if (left + 1 < n && better(c, heap[worst], heap[left + 1]))
			worst = left + 1;
		if (worst == at)
			return;
		uint32_t t = heap[at];
		heap[at] = heap[worst];
		heap[worst] = t;
		at = worst;
	}
}

static void pick_few(struct weft_candidates *c, uint32_t k, bool drop)
{
	uint32_t heap[SMALL], order[SMALL];
	float logits[SMALL];
	int32_t ids[SMALL];

	for (uint32_t i = 0; i < k; i++)
		heap[i] = i;
	for (uint32_t i = k / 2; i-- > 0;)
		sift_down(c, heap, k, i);
	for (uint32_t i = k; i < c->n; i++)
		if (better(c, i, heap[0])) {
			heap[0] = i;
			sift_down(c, heap, k, 0);
		}
	for (uint32_t left = k; left > 0; left--) { /* the worst comes off first */
		order[left - 1] = heap[0];
		heap[0] = heap[left - 1];
		sift_down(c, heap, left - 1, 0);
	}
	for (uint32_t i = 0; i < k; i++) {
		logits[i] = c->logits[order[i]];
		ids[i] = c->ids[order[i]];
	}
	if (!drop) { /* what stands in the first k places and was not picked moves to the places that were picked behind them */
		bool picked[SMALL] = {false};
		uint32_t free_at = 0;
		for (uint32_t i = 0; i < k; i++)
			if (order[i] < k)
				picked[order[i]] = true;
		for (uint32_t i = 0; i < k; i++) {
			if (order[i] < k)
				continue;
			while (picked[free_at])
				free_at++;
			c->logits[order[i]] = c->logits[free_at];
			c->ids[order[i]] = c->ids[free_at++];
		}
	}
	memcpy(c->logits, logits, k * sizeof *logits);
	memcpy(c->ids, ids, k * sizeof *ids);
}

/* ---- many: quicksort that leaves alone what lies behind k; heapsort when the pivots are bad ---- */

static void heapsort_range(struct weft_candidates *c, uint32_t lo, uint32_t hi)
{
	uint32_t n = hi - lo;

	for (uint32_t start = n / 2, end = n; end > 1;) {
		if (start > 0) {
			start--;
		} else {
			end--;
			swap(c, lo, lo + end);
		}
		for (uint32_t at = start;;) {
			uint32_t worst = at, left = 2 * at + 1;
			if (left < end && better(c, lo + worst, lo + left))
				worst = left;
			if (left + 1 < end && better(c, lo + worst, lo + left + 1))
				worst = left + 1;
			if (worst == at)
				break;
			swap(c, lo + at, lo + worst);
			at = worst;
		}
	}
}

static void insertion_sort(struct weft_candidates *c, uint32_t lo, uint32_t hi)
{
	for (uint32_t i = lo + 1; i < hi; i++)
		for (uint32_t j = i; j > lo && better(c, j, j - 1); j--)
			swap(c, j, j - 1);
}

/* Splits [lo, hi) about the median of its first, middle and last; returns where the pivot came to stand. */
static uint32_t split(struct weft_candidates *c, uint32_t lo, uint32_t hi)
{
	uint32_t mid = lo + (hi - lo) / 2, last = hi - 1;

	if (better(c, mid, lo))
		swap(c, mid, lo);
	if (better(c, last, mid))
		swap(c, last, mid);
	if (better(c, mid, lo))
		swap(c, mid, lo);
	swap(c, mid, last); /* the pivot waits at the end */
	uint32_t at = lo;
	for (uint32_t i = lo; i < last; i++)
		if (better(c, i, last))
			swap(c, i, at++);
	swap(c, at, last);
	return at;
}

static void sort_front(struct weft_candidates *c, uint32_t k)
{
	struct {
		uint32_t lo, hi, depth;
	} stack[64];
	uint32_t depth = 0, top = 0;

	for (uint32_t n = c->n; n > 0; n /= 2)
		depth += 2;
	stack[top].lo = 0, stack[top].hi = c->n, stack[top++].depth = depth;
	while (top > 0) {
		uint32_t lo = stack[--top].lo, hi = stack[top].hi, left = stack[top].depth;
		if (lo >= k)
			continue;
		if (hi - lo <= INSERTION) {
			insertion_sort(c, lo, hi);
			continue;
		}
		if (left == 0) {
			heapsort_range(c, lo, hi);
			continue;
		}
		uint32_t at = split(c, lo, hi);
		/* the larger part goes on the stack first, so that the stack stays below log2(n) */
		bool left_larger = at - lo > hi - at - 1;
		for (int part = 0; part < 2; part++) {
			bool take_left = (part == 0) == left_larger;
			stack[top].lo = take_left ? lo : at + 1;
			stack[top].hi = take_left ? at : hi;
			stack[top++].depth = left - 1;
		}
	}
}

/* One of a row that is still in the order of tokens. False: it is not, or has entries that are no numbers. */
static bool pick_one(struct weft_candidates *c)
{
	float max;
	uint32_t at;

	if (!c->dense || !scan_here()->best(c->logits, c->n, &max, &at))
		return false;
	c->logits[0] = c->logits[at];
	c->ids[0] = c->ids[at];
	return true;
}

void candidates_sort(struct weft_candidates *c, uint32_t k, uint32_t drop)
{
	if (k > c->n)
		k = c->n;
	if (!c->sorted && k > 0) {
		if (k == 1 && drop && pick_one(c))
			;
		else if (k <= SMALL)
			pick_few(c, k, drop != 0);
		else
			sort_front(c, k);
		c->dense = 0;
		c->sorted = k == c->n;
	}
	if (drop && k > 0 && k < c->n) {
		c->n = k;
		c->dense = 0;
		c->sorted = 1;
	}
}
