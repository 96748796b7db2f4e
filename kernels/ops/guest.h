/* guest.h: bytes that another operator reads next, fetched into the second cache by a product that computes longer than memory
 * needs to bring its own weights. The AVX-512 products and those of floats do it. A hint: nothing depends on it, and what is not fetched in
 * time is read when it is used. */
#ifndef WEFT_OPS_GUEST_H
#define WEFT_OPS_GUEST_H

#include <stddef.h>
#include <stdint.h>

struct guest_run {
	const char *at;
	size_t bytes;
};

enum { GUEST_RUNS = 256, GUEST_LINE = 64 };

struct guest {
	struct guest_run run[GUEST_RUNS];
	uint32_t n, next;		/* runs; the one that follows the one being fetched */
	const char *at, *end;		/* what is left of that */
	size_t lines;			/* still to fetch, over all runs */
	uint32_t calls;			/* products that share them, from now on */
	uint32_t each;			/* lines a step of the product under way */
};

/* The runs are not touched: thousands of bytes. */
static inline void guest_none(struct guest *g)
{
	g->n = g->next = g->calls = g->each = 0;
	g->at = g->end = NULL;
	g->lines = 0;
}

/* More to fetch; forgotten when there is no room. */
static inline void guest_add(struct guest *g, const void *at, size_t bytes)
{
	if (g->n == GUEST_RUNS || !bytes)
		return;
	g->run[g->n++] = (struct guest_run){ (const char *)at, bytes };
	g->lines += (bytes + GUEST_LINE - 1) / GUEST_LINE;
}

/* A product begins that will call guest_step() so many times. */
static inline void guest_begin(struct guest *g, size_t steps)
{
	size_t share = g->lines / (g->calls ? g->calls : 1);

	g->calls -= g->calls > 0;
	g->each = (uint32_t)((share + steps - 1) / steps);
}

/* A few instructions a line: there are as many lines as the product has time for. */
static inline __attribute__((always_inline)) void guest_step(struct guest *g)
{
	size_t n = g->each < g->lines ? g->each : g->lines;
	const char *at = g->at, *end = g->end;

	g->lines -= n;
	for (; n; n--, at += GUEST_LINE) {
		if (at >= end) {
			at = g->run[g->next].at;
			end = at + g->run[g->next++].bytes;
		}
		__builtin_prefetch(at, 0, 2);
	}
	g->at = at;
	g->end = end;
}

#endif
