#include "config.h"
#include "memory.h"

#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

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

void memory_seal(void *p, size_t bytes)
{
	mprotect(p, bytes, PROT_READ);	/* a guard: where the system refuses, things are as before */
}

void memory_forget(const void *p, size_t bytes)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	uintptr_t from = ((uintptr_t)p + page - 1) & ~(page - 1), to = ((uintptr_t)p + bytes) & ~(page - 1);

	if (from < to)
		madvise((void *)from, to - from, MADV_DONTNEED);
}
