/* map.c: files as memory, and bounded reads from it. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../memory.h"
#include "format.h"

/* A file descriptor of a regular file, with its size; or the code of the failure. */
static int open_regular(const char *path, size_t *size, struct core_error *err)
{
	struct stat st;
	/* O_NONBLOCK: a FIFO in a model folder must not hang the daemon; for regular files it means nothing. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return core_fail(err, CORE_EIO, "%s: %s", path, strerror(errno));
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return core_fail(err, CORE_EIO, "%s: not a regular file", path);
	}
	*size = (size_t)st.st_size;
	return fd;
}

enum { READ_PIECE = 256 << 10 };

int map_open(struct map *m, const char *path, struct core_error *err)
{
	size_t size;
	void *p = NULL;
	int fd = open_regular(path, &size, err);

	*m = (struct map){0};
	if (fd < 0)
		return fd;
	if (size > 0) {
		p = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (p == MAP_FAILED) {
			int e = errno;
			close(fd);
			return core_fail(err, e == ENOMEM ? CORE_ENOMEM : CORE_EIO, "%s: mmap: %s", path, strerror(e));
		}
	}
	close(fd);
	m->data = p;
	m->size = size;
	return 0;
}

/* The whole of it, or the code of the failure. In pieces: a kernel may give the CPU to nobody else during one long read. */
static int read_all(int fd, uint8_t *to, size_t size, const char *path, struct core_error *err)
{
	size_t at = 0;

	while (at < size) {
		ssize_t n = read(fd, to + at, size - at < READ_PIECE ? size - at : READ_PIECE);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return core_fail(err, CORE_EIO, "%s: %s", path, strerror(errno));
		if (n == 0)
			return core_fail(err, CORE_EIO, "%s: it was cut short while it was read", path);
		at += (size_t)n;
	}
	return 0;
}

int map_read(struct map *m, const char *path, uint64_t most, struct core_error *err)
{
	struct map got = {0};
	int fd = open_regular(path, &got.size, err), rc = 0;
	uint8_t *p = NULL;

	*m = (struct map){0};
	if (fd < 0)
		return fd;
	if (got.size > most)
		rc = core_fail(err, CORE_EFORMAT, "%s: %zu bytes; at most %" PRIu64 " are read", path, got.size, most);
	else if (got.size > 0 && (p = memory_map(got.size)) == NULL)
		rc = core_fail(err, CORE_ENOMEM, "%s: no memory for its %zu bytes", path, got.size);
	got.data = p;
	if (rc == 0)
		rc = read_all(fd, p, got.size, path, err);
	close(fd);
	if (rc == 0)
		*m = got;
	else
		map_close(&got);
	return rc;
}

void map_close(struct map *m)
{
	memory_unmap((void *)m->data, m->size);
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
