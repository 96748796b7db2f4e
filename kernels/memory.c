#include "config.h"
#include "memory.h"

#include <sys/mman.h>

void *memory_map(size_t bytes)
{
	void *p;

	if (!bytes)
		return NULL;
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	madvise(p, bytes, MADV_HUGEPAGE);	/* a wish: fails without harm where the system has none */
	return p;
}

void memory_unmap(void *p, size_t bytes)
{
	if (p)
		munmap(p, bytes);
}
