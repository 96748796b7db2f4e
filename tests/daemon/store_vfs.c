/* store_vfs.c: see store_vfs.h. */
#include "store_vfs.h"
#include "store_kit.h"
#include <errno.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

enum { SECTOR = 512, FILES = 8, NAME = 512 };

struct image {
	uint8_t *data;
	int64_t size, room;
};

struct change { /* since the last sync; a truncation has no data */
	int64_t at, len;
	uint8_t *data;
};

struct file {
	char name[NAME];
	bool there, named; /* named: its name is on the platter */
	struct image now, platter;
	struct change *change;
	int n_changes, cap;
};

struct handle {
	sqlite3_file base;
	struct file *file;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct file files[FILES];
static struct file kept[FILES];
static uint64_t ops, off_at, random_state = 1, faults_hit;
static bool off;
static enum vfs_fault fault;
static unsigned fault_every;
static int last_errno;

static uint64_t draw(uint64_t below)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % below;
}

void vfs_seed(uint64_t seed)
{
	random_state = seed * 0x9e3779b97f4a7c15u | 1;
}

/* ---- images ---------------------------------------------------------------------------------------------------------------------
 */

static void image_size(struct image *m, int64_t size)
{
	if (size > m->room) {
		m->room = size * 2;
		m->data = realloc(m->data, (size_t)m->room);
		CHECK(m->data != NULL);
	}
	if (size > m->size)
		memset(m->data + m->size, 0, (size_t)(size - m->size));
	m->size = size;
}

static void image_write(struct image *m, int64_t at, const uint8_t *data, int64_t len)
{
	if (at + len > m->size)
		image_size(m, at + len);
	memcpy(m->data + at, data, (size_t)len);
}

static void image_copy(struct image *to, const struct image *from)
{
	image_size(to, 0);
	image_size(to, from->size);
	if (from->size)
		memcpy(to->data, from->data, (size_t)from->size);
}

static void changes_drop(struct file *f)
{
	for (int i = 0; i < f->n_changes; i++)
		free(f->change[i].data);
	f->n_changes = 0;
}

static void change_add(struct file *f, int64_t at, const void *data, int64_t len)
{
	if (f->n_changes == f->cap) {
		f->cap = f->cap ? f->cap * 2 : 64;
		f->change = realloc(f->change, (size_t)f->cap * sizeof(*f->change));
		CHECK(f->change != NULL);
	}
	struct change *c = &f->change[f->n_changes++];
	*c = (struct change){.at = at, .len = len};
	if (data) {
		c->data = malloc((size_t)len);
		memcpy(c->data, data, (size_t)len);
	}
}

/* ---- the power goes -------------------------------------------------------------------------------------------------------------
 */

/* One sector of one write reaches the platter: whole, or its first bytes only. */
static void land_sector(struct image *platter, const struct change *c, int64_t from, int64_t to)
{
	int64_t len = to - from;
	if (draw(16) == 0)
		len = (int64_t)draw((uint64_t)len + 1);
	if (len)
		image_write(platter, from, c->data + (from - c->at), len);
}

/* How keen this power failure is: of 8 sectors so many arrive. Truncations arrive or not like everything else. */
static void lose_power_of(struct file *f, uint64_t arrive)
{
	int order[4096], n = f->n_changes < 4096 ? f->n_changes : 4096;
	bool shuffle = draw(2);
	for (int i = 0; i < n; i++)
		order[i] = i;
	for (int i = n - 1; i > 0 && shuffle; i--) {
		int other = (int)draw((uint64_t)i + 1), t = order[i];
		order[i] = order[other];
		order[other] = t;
	}
	for (int i = 0; i < n; i++) {
		const struct change *c = &f->change[order[i]];
		if (!c->data) {
			if (draw(8) < arrive)
				image_size(&f->platter, c->at);
			continue;
		}
		for (int64_t at = c->at; at < c->at + c->len;) {
			int64_t end = (at / SECTOR + 1) * SECTOR;
			if (end > c->at + c->len)
				end = c->at + c->len;
			if (draw(8) < arrive)
				land_sector(&f->platter, c, at, end);
			at = end;
		}
	}
}

static void lose_power(void)
{
	uint64_t arrive = draw(9);
	off = true;
	for (int i = 0; i < FILES; i++) {
		struct file *f = &files[i];
		if (!f->there)
			continue;
		lose_power_of(f, arrive);
		if (!f->named && draw(2))
			f->there = false;
	}
}

/* Every operation that changes something: false when there is no power (any more). */
static bool tick(void)
{
	if (off)
		return false;
	if (++ops == off_at)
		lose_power();
	return !off;
}

void vfs_power_on(void)
{
	pthread_mutex_lock(&lock);
	if (!off)
		lose_power();
	for (int i = 0; i < FILES; i++) {
		changes_drop(&files[i]);
		if (files[i].there)
			image_copy(&files[i].now, &files[i].platter);
	}
	off = false;
	ops = off_at = 0;
	pthread_mutex_unlock(&lock);
}

void vfs_power_off_at(uint64_t op)
{
	pthread_mutex_lock(&lock);
	off_at = op ? ops + op : 0;
	pthread_mutex_unlock(&lock);
}

bool vfs_is_off(void)
{
	pthread_mutex_lock(&lock);
	bool is = off;
	pthread_mutex_unlock(&lock);
	return is;
}

uint64_t vfs_ops(void)
{
	pthread_mutex_lock(&lock);
	uint64_t n = ops;
	pthread_mutex_unlock(&lock);
	return n;
}

/* ---- the disk as a whole --------------------------------------------------------------------------------------------------------
 */

void vfs_format(void)
{
	pthread_mutex_lock(&lock);
	for (int i = 0; i < FILES; i++) {
		changes_drop(&files[i]);
		files[i].there = files[i].named = false;
		files[i].now.size = files[i].platter.size = 0;
	}
	off = false;
	ops = off_at = 0;
	fault = VFS_WELL;
	pthread_mutex_unlock(&lock);
}

static void copy_disk(struct file *to, struct file *from)
{
	for (int i = 0; i < FILES; i++) {
		changes_drop(&to[i]);
		CHECK(from[i].n_changes == 0 || !from[i].there);
		memcpy(to[i].name, from[i].name, NAME);
		to[i].there = from[i].there;
		to[i].named = from[i].named;
		image_copy(&to[i].now, &from[i].now);
		image_copy(&to[i].platter, &from[i].platter);
	}
}

void vfs_keep(void)
{
	pthread_mutex_lock(&lock);
	for (int i = 0; i < FILES; i++) { /* all is synced */
		changes_drop(&files[i]);
		image_copy(&files[i].platter, &files[i].now);
		files[i].named = true;
	}
	copy_disk(kept, files);
	pthread_mutex_unlock(&lock);
}

void vfs_restore(void)
{
	pthread_mutex_lock(&lock);
	copy_disk(files, kept);
	off = false;
	ops = off_at = 0;
	pthread_mutex_unlock(&lock);
}

void vfs_fault(enum vfs_fault which, unsigned every)
{
	pthread_mutex_lock(&lock);
	fault = which;
	fault_every = every;
	pthread_mutex_unlock(&lock);
}

uint64_t vfs_faults_hit(void)
{
	pthread_mutex_lock(&lock);
	uint64_t n = faults_hit;
	pthread_mutex_unlock(&lock);
	return n;
}

static bool hit(void)
{
	if (draw(fault_every) != 0)
		return false;
	faults_hit++;
	return true;
}

/* ---- SQLite's side --------------------------------------------------------------------------------------------------------------
 */

static struct file *of(sqlite3_file *f)
{
	return ((struct handle *)f)->file;
}

static int x_close(sqlite3_file *f)
{
	return SQLITE_OK;
}

static int x_read(sqlite3_file *f, void *buf, int len, sqlite3_int64 at)
{
	int rc = SQLITE_OK;
	pthread_mutex_lock(&lock);
	const struct image *m = &of(f)->now;
	if (off || (fault == VFS_READ_ERROR && hit())) {
		errno = last_errno = EIO;
		rc = SQLITE_IOERR_READ;
	} else {
		int64_t n = m->size - at < 0 ? 0 : m->size - at < len ? m->size - at : len;
		if (n)
			memcpy(buf, m->data + at, (size_t)n);
		memset((char *)buf + n, 0, (size_t)(len - n));
		rc = n < len ? SQLITE_IOERR_SHORT_READ : SQLITE_OK;
	}
	pthread_mutex_unlock(&lock);
	return rc;
}

static int write_fault(void)
{
	if (fault == VFS_FULL && hit()) {
		errno = last_errno = ENOSPC;
		return SQLITE_FULL;
	}
	if (fault == VFS_READ_ONLY && hit()) {
		errno = last_errno = EROFS;
		return SQLITE_IOERR_WRITE;
	}
	if (fault == VFS_WRITE_ERROR && hit()) {
		errno = last_errno = EIO;
		return SQLITE_IOERR_WRITE;
	}
	return SQLITE_OK;
}

/* A write that fails may have written its first part. */
static int x_write(sqlite3_file *f, const void *buf, int len, sqlite3_int64 at)
{
	pthread_mutex_lock(&lock);
	struct file *file = of(f);
	int rc = tick() ? write_fault() : SQLITE_IOERR_WRITE;
	int64_t n = rc == SQLITE_OK ? len : off ? 0 : (int64_t)draw((uint64_t)len);
	if (n) {
		change_add(file, at, buf, n);
		image_write(&file->now, at, buf, n);
	}
	pthread_mutex_unlock(&lock);
	return rc;
}

static int x_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	pthread_mutex_lock(&lock);
	int rc = tick() ? write_fault() : SQLITE_IOERR_TRUNCATE;
	if (rc == SQLITE_OK) {
		change_add(of(f), size, NULL, 0);
		image_size(&of(f)->now, size);
	}
	pthread_mutex_unlock(&lock);
	return rc;
}

static int x_sync(sqlite3_file *f, int flags)
{
	pthread_mutex_lock(&lock);
	struct file *file = of(f);
	int rc = tick() ? SQLITE_OK : SQLITE_IOERR_FSYNC;
	if (rc == SQLITE_OK && fault == VFS_SYNC_ERROR && hit()) {
		errno = last_errno = EIO;
		rc = SQLITE_IOERR_FSYNC;
	}
	if (rc == SQLITE_OK) {
		image_copy(&file->platter, &file->now);
		changes_drop(file);
		file->named = true;
	}
	pthread_mutex_unlock(&lock);
	return rc;
}

static int x_size(sqlite3_file *f, sqlite3_int64 *size)
{
	pthread_mutex_lock(&lock);
	*size = of(f)->now.size;
	int rc = off ? SQLITE_IOERR_FSTAT : SQLITE_OK;
	pthread_mutex_unlock(&lock);
	return rc;
}

static int x_lock(sqlite3_file *f, int level)
{
	return SQLITE_OK;
}

static int x_check_lock(sqlite3_file *f, int *out)
{
	*out = 0;
	return SQLITE_OK;
}

static int x_control(sqlite3_file *f, int op, void *arg)
{
	return SQLITE_NOTFOUND;
}

static int x_sector(sqlite3_file *f)
{
	return SECTOR;
}

static int x_device(sqlite3_file *f)
{
	return 0;
}

static const sqlite3_io_methods methods = {.iVersion = 1,
					   .xClose = x_close,
					   .xRead = x_read,
					   .xWrite = x_write,
					   .xTruncate = x_truncate,
					   .xSync = x_sync,
					   .xFileSize = x_size,
					   .xLock = x_lock,
					   .xUnlock = x_lock,
					   .xCheckReservedLock = x_check_lock,
					   .xFileControl = x_control,
					   .xSectorSize = x_sector,
					   .xDeviceCharacteristics = x_device};

static struct file *find(const char *name, bool make)
{
	struct file *free_one = NULL;
	for (int i = 0; i < FILES; i++) {
		if (files[i].there && strcmp(files[i].name, name) == 0)
			return &files[i];
		if (!files[i].there && !free_one)
			free_one = &files[i];
	}
	if (!make)
		return NULL;
	CHECK(free_one != NULL && strlen(name) < NAME);
	changes_drop(free_one);
	strcpy(free_one->name, name);
	free_one->there = true;
	free_one->named = false;
	free_one->now.size = free_one->platter.size = 0;
	return free_one;
}

static int x_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
	struct handle *h = (struct handle *)f;
	memset(h, 0, sizeof(*h));
	pthread_mutex_lock(&lock);
	/* The store made the file itself, before SQLite opens it without SQLITE_OPEN_CREATE. */
	h->file = off || !name ? NULL : find(name, true);
	if (h->file && (flags & SQLITE_OPEN_MAIN_DB))
		h->file->named = true;
	pthread_mutex_unlock(&lock);
	if (!h->file)
		return SQLITE_CANTOPEN;
	h->base.pMethods = &methods;
	if (out)
		*out = flags;
	return SQLITE_OK;
}

static int x_delete(sqlite3_vfs *v, const char *name, int sync_folder)
{
	pthread_mutex_lock(&lock);
	struct file *f = find(name, false);
	int rc = tick() ? SQLITE_OK : SQLITE_IOERR_DELETE;
	if (rc == SQLITE_OK && f)
		f->there = false;
	pthread_mutex_unlock(&lock);
	return rc;
}

static int x_access(sqlite3_vfs *v, const char *name, int flags, int *out)
{
	pthread_mutex_lock(&lock);
	const struct file *f = find(name, false);
	*out = f && (flags != SQLITE_ACCESS_EXISTS || f->now.size > 0);
	pthread_mutex_unlock(&lock);
	return SQLITE_OK;
}

static int x_full_path(sqlite3_vfs *v, const char *name, int n, char *out)
{
	sqlite3_snprintf(n, out, "%s", name);
	return SQLITE_OK;
}

static int x_last_error(sqlite3_vfs *v, int n, char *buf)
{
	pthread_mutex_lock(&lock);
	int e = last_errno;
	pthread_mutex_unlock(&lock);
	return e;
}

static sqlite3_vfs vfs;

void vfs_install(void)
{
	const sqlite3_vfs *system = sqlite3_vfs_find(NULL);
	vfs = *system;
	vfs.iVersion = 1;
	vfs.szOsFile = sizeof(struct handle);
	vfs.zName = "platter";
	vfs.pNext = NULL;
	vfs.xOpen = x_open;
	vfs.xDelete = x_delete;
	vfs.xAccess = x_access;
	vfs.xFullPathname = x_full_path;
	vfs.xGetLastError = x_last_error;
	CHECK_INT(sqlite3_vfs_register(&vfs, 1), SQLITE_OK);
}
