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
	madvise(p, bytes, MADV_HUGEPAGE); /* a wish: fails without harm where the system has none */
	return p;
}

/* In pieces: while the system takes back much memory at once, every other thread that asks for some waits. */
void memory_unmap(void *p, size_t bytes)
{
	const size_t piece = 4 << 20;

	if (!p)
		return;
	for (size_t at = 0; bytes > piece && at < bytes; at += piece)
		madvise((char *)p + at, bytes - at < piece ? bytes - at : piece, MADV_DONTNEED);
	munmap(p, bytes);
}
