/* map.c: files as memory, and bounded reads from it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format.h"

int map_open(struct map *m, const char *path, struct core_error *err)
{
	struct stat st;
	void *p = NULL;
	/* O_NONBLOCK: a FIFO in a model folder must not hang the daemon; for regular files it means nothing. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	*m = (struct map){0};
	if (fd < 0)
		return core_fail(err, CORE_EIO, "%s: %s", path, strerror(errno));
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return core_fail(err, CORE_EIO, "%s: not a regular file", path);
	}
	if (st.st_size > 0) {
		p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (p == MAP_FAILED) {
			int e = errno;
			close(fd);
			return core_fail(err, e == ENOMEM ? CORE_ENOMEM : CORE_EIO, "%s: mmap: %s", path, strerror(e));
		}
	}
	close(fd);
	m->data = p;
	m->size = (size_t)st.st_size;
	return 0;
}

void map_close(struct map *m)
{
	if (m->data != NULL)
		munmap((void *)m->data, m->size);
	*m = (struct map){0};
}

char *path_join(const char *folder, const char *name)
{
	size_t n = strlen(folder) + strlen(name) + 2;
	char *p = malloc(n);

	if (p != NULL)
		snprintf(p, n, "%s/%s", folder, name);
	return p;
}

const uint8_t *cursor_take(struct cursor *c, uint64_t n)
{
	const uint8_t *p;

	if (c->bad || n > c->size - c->at) {
		c->bad = true;
		return NULL;
	}
	p = c->data + c->at;
	c->at += (size_t)n;
	return p;
}

/* The machine is little-endian (configure checks), so a copy is a read. */
#define CURSOR_READ(name, type)                                                                                                    \
	type name(struct cursor *c)                                                                                                \
	{                                                                                                                          \
		type v = 0;                                                                                                        \
		const uint8_t *p = cursor_take(c, sizeof v);                                                                       \
		if (p != NULL)                                                                                                     \
			memcpy(&v, p, sizeof v);                                                                                   \
		return v;                                                                                                          \
	}
CURSOR_READ(cursor_u8, uint8_t)
CURSOR_READ(cursor_u16, uint16_t)
CURSOR_READ(cursor_u32, uint32_t)
CURSOR_READ(cursor_u64, uint64_t)
