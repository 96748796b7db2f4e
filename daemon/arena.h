/* arena.h: memory that is given back all at once. One thread. */
#ifndef WEFT_DAEMON_ARENA_H
#define WEFT_DAEMON_ARENA_H

#include <stddef.h>

struct arena_block;
struct arena {			/* zeroed is empty */
	struct arena_block *blocks;
};

void *arena_alloc(struct arena *a, size_t n, size_t item);	/* n items, uninitialised, aligned for anything; NULL: out of memory */
void arena_clear(struct arena *a);	/* keeps one small block, so that a steady user asks malloc for nothing */
void arena_finish(struct arena *a);

#endif
