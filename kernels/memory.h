/* memory.h: large zero-filled blocks straight from the system: touched pages only cost memory when they are first written. */
#ifndef WEFT_MEMORY_H
#define WEFT_MEMORY_H

#include <stddef.h>

/* Page-aligned zeros, NULL when the system refuses or bytes is 0. Huge pages are asked for: weights are read end to end. */
void *memory_map(size_t bytes);
void memory_unmap(void *p, size_t bytes);	/* NULL is fine */
void memory_seal(void *p, size_t bytes);	/* from now on writing to it ends the process */
/* Lets the system take back the pages that lie wholly inside, of a file that is mapped for reading: they come back when they are touched. */
void memory_forget(const void *p, size_t bytes);

#endif
