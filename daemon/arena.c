/* arena.c: a list of blocks, the newest first. */
#include <stdint.h>
#include <stdlib.h>

#include "daemon/arena.h"

enum { BLOCK = 8192, ALIGN = 16 };

struct arena_block {
	struct arena_block *next;
	size_t used, size;
	_Alignas(ALIGN) char bytes[];
};

void *arena_alloc(struct arena *a, size_t n, size_t item)
{
	struct arena_block *b = a->blocks;

	if (n > (SIZE_MAX - BLOCK) / item)
		return NULL;
	size_t need = (n * item + ALIGN - 1) / ALIGN * ALIGN;
	if (b == NULL || b->size - b->used < need) {
		size_t size = need > BLOCK ? need : BLOCK;
		b = malloc(sizeof *b + size);
		if (b == NULL)
			return NULL;
		b->next = a->blocks;
		b->used = 0;
		b->size = size;
		a->blocks = b;
	}
	void *p = b->bytes + b->used;
	b->used += need;
	return p;
}

void arena_clear(struct arena *a)
{
	struct arena_block *kept = NULL;

	while (a->blocks != NULL) {
		struct arena_block *b = a->blocks;
		a->blocks = b->next;
		if (kept == NULL && b->size == BLOCK)
			kept = b;
		else
			free(b);
	}
	if (kept != NULL) {
		kept->next = NULL;
		kept->used = 0;
	}
	a->blocks = kept;
}

void arena_finish(struct arena *a)
{
	arena_clear(a);
	free(a->blocks);
	a->blocks = NULL;
}
