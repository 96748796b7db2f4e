/* zip.c: a bounded reader of the zip central directory, zip64 included.
 *
 * Only the central directory says what is in the archive; local headers are used for one thing, the length that they have. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "zip.h"

enum {
	END_SIGNATURE = 0x06054b50, END_SIZE = 22, COMMENT_MAX = 65535,
	END64_SIGNATURE = 0x06064b50, LOCATOR_SIGNATURE = 0x07064b50, LOCATOR_SIZE = 20,
	CENTRAL_SIGNATURE = 0x02014b50, CENTRAL_SIZE = 46,
	LOCAL_SIGNATURE = 0x04034b50, LOCAL_SIZE = 30,
	ENCRYPTED = 1, ZIP64_EXTRA = 1
};

struct directory {
	uint64_t at, size, entries;
};

static struct cursor at(const struct map *m, uint64_t offset)
{
	struct cursor c = {.data = m->data, .size = m->size, .bad = offset > m->size};

	if (!c.bad)
		c.at = (size_t)offset;
	return c;
}

static uint32_t u32_at(const struct map *m, uint64_t offset)
{
	struct cursor c = at(m, offset);

	return cursor_u32(&c);
}

/* The end record is the last thing but a comment of unknown length. false: none. */
static bool find_end(const struct map *m, size_t *end)
{
	for (size_t comment = 0; comment <= COMMENT_MAX && comment + END_SIZE <= m->size; comment++) {
		*end = m->size - END_SIZE - comment;
		if (m->data[*end] == 'P' && u32_at(m, *end) == END_SIGNATURE)
			return true;
	}
	return false;
}

bool zip_probe(const struct map *m)
{
	size_t end;

	return find_end(m, &end);
}

static bool read_end(const struct map *m, struct directory *d)
{
	size_t end;
	struct cursor c;

	if (!find_end(m, &end))
		return false;
	c = at(m, (uint64_t)end + 10);
	d->entries = cursor_u16(&c);
	d->size = cursor_u32(&c);
	d->at = cursor_u32(&c);
	if (end >= LOCATOR_SIZE && u32_at(m, end - LOCATOR_SIZE) == LOCATOR_SIGNATURE) {
		c = at(m, (uint64_t)end - LOCATOR_SIZE + 8);
		c = at(m, cursor_u64(&c));
		if (cursor_u32(&c) != END64_SIGNATURE)
			return false;
		cursor_take(&c, 28); /* record size, versions, disks, entries of this disk */
		d->entries = cursor_u64(&c);
		d->size = cursor_u64(&c);
		d->at = cursor_u64(&c);
	}
	return !c.bad && d->at <= m->size && d->size <= m->size - d->at && d->entries <= d->size / CENTRAL_SIZE;
}

/* 32-bit fields that overflowed stand, in this order, in the zip64 extra field. */
static bool widen(struct cursor extra, uint64_t *usize, uint64_t *csize, uint64_t *local)
{
	uint64_t *fields[] = {usize, csize, local};

	while (!extra.bad && extra.at < extra.size) {
		uint16_t id = cursor_u16(&extra), len = cursor_u16(&extra);
		const uint8_t *body = cursor_take(&extra, len);
		struct cursor c = {.data = body, .size = len};
		if (body == NULL || id != ZIP64_EXTRA)
			continue;
		for (int i = 0; i < 3; i++)
			if (*fields[i] == UINT32_MAX)
				*fields[i] = cursor_u64(&c);
		return !c.bad;
	}
	return !extra.bad;
}

static int read_entry(struct zip_entry *e, struct cursor *c, const struct map *m, const char *path, struct core_error *err)
{
	uint32_t signature = cursor_u32(c);
	uint16_t flags, method, name_len, extra_len, comment_len;
	uint64_t csize, usize, local;
	struct cursor extra, l;

	cursor_take(c, 4); /* versions */
	flags = cursor_u16(c);
	method = cursor_u16(c);
	cursor_take(c, 8); /* time, date, crc */
	csize = cursor_u32(c);
	usize = cursor_u32(c);
	name_len = cursor_u16(c);
	extra_len = cursor_u16(c);
	comment_len = cursor_u16(c);
	cursor_take(c, 8); /* disk, attributes */
	local = cursor_u32(c);
	e->name = (const char *)cursor_take(c, name_len);
	e->name_len = name_len;
	extra = (struct cursor){.data = cursor_take(c, extra_len), .size = extra_len};
	cursor_take(c, comment_len);
	if (c->bad || signature != CENTRAL_SIGNATURE || !widen(extra, &usize, &csize, &local))
		return core_fail(err, CORE_EFORMAT, "%s: the zip directory is damaged", path);
	if (method != 0 || (flags & ENCRYPTED) != 0 || csize != usize)
		return core_fail(err, CORE_EUNSUPPORTED, "%s: %.*s is compressed or encrypted; torch stores members as they are",
				 path, (int)name_len < 100 ? (int)name_len : 100, e->name);
	l = at(m, local);
	if (cursor_u32(&l) != LOCAL_SIGNATURE)
		l.bad = true;
	cursor_take(&l, 22);
	name_len = cursor_u16(&l);
	extra_len = cursor_u16(&l);
	cursor_take(&l, (uint64_t)name_len + extra_len);
	e->data = cursor_take(&l, csize);
	e->size = csize;
	if (l.bad)
		return core_fail(err, CORE_EFORMAT, "%s: %.*s does not lie inside the file (%zu bytes; is it complete?)", path,
				 (int)e->name_len < 100 ? (int)e->name_len : 100, e->name, m->size);
	return 0;
}

static int name_order(const void *a, const void *b)
{
	const struct zip_entry *x = a, *y = b;
	size_t n = x->name_len < y->name_len ? x->name_len : y->name_len;
	int order = n != 0 ? memcmp(x->name, y->name, n) : 0;

	return order != 0 ? order : (x->name_len > y->name_len) - (x->name_len < y->name_len);
}

int zip_open(struct zip *z, const struct map *m, const char *path, struct core_error *err)
{
	struct directory d = {0};
	struct cursor c;
	int rc = 0;

	*z = (struct zip){0};
	if (!read_end(m, &d))
		return core_fail(err, CORE_EFORMAT, "%s: not a zip archive, or cut off", path);
	z->entries = malloc((size_t)(d.entries + 1) * sizeof *z->entries);
	if (z->entries == NULL)
		return core_fail(err, CORE_ENOMEM, "%s: out of memory", path);
	c = (struct cursor){.data = m->data + d.at, .size = (size_t)d.size};
	for (; z->n < d.entries && rc == 0; z->n++)
		rc = read_entry(&z->entries[z->n], &c, m, path, err);
	if (rc == 0)
		qsort(z->entries, z->n, sizeof *z->entries, name_order);
	for (size_t i = 1; i < z->n && rc == 0; i++)
		if (name_order(&z->entries[i - 1], &z->entries[i]) == 0)
			rc = core_fail(err, CORE_EFORMAT, "%s: two members have the same name", path);
	if (rc < 0)
		zip_finish(z);
	return rc;
}

void zip_finish(struct zip *z)
{
	free(z->entries);
	*z = (struct zip){0};
}

const struct zip_entry *zip_find(const struct zip *z, const char *name, size_t len)
{
	struct zip_entry key = {.name = name, .name_len = len};

	return z->n != 0 ? bsearch(&key, z->entries, z->n, sizeof key, name_order) : NULL;
}
