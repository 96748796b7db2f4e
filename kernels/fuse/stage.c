/* stage.c: write beside, flush, rename. */
#include "config.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuse.h"
#include "stage.h"

#define MARK ".fusing-"
enum { DIGITS = 16, BUFFER = 1 << 20 };

/* ---- what killed runs left ---- */

static bool is_hidden_name(const char *name)
{
	size_t n = strlen(name), tail = sizeof MARK - 1 + DIGITS;

	if (name[0] != '.' || n <= 1 + tail || strncmp(name + n - tail, MARK, sizeof MARK - 1) != 0)
		return false;
	for (size_t i = n - DIGITS; i < n; i++)
		if (!isdigit((unsigned char)name[i]) && (name[i] < 'a' || name[i] > 'f'))
			return false;
	return true;
}

/* The files of a hidden folder; it has no folders in it. fd stays open. */
static int empty_folder(int fd)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
	DIR *d = copy >= 0 ? fdopendir(copy) : NULL;
	struct dirent *e;

	if (d == NULL) {
		rc = -errno;
		if (copy >= 0)
			close(copy);
		return rc;
	}
	while ((e = readdir(d)) != NULL)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && unlinkat(fd, e->d_name, 0) < 0 &&
		    errno != ENOENT)
			rc = -errno;
	closedir(d);
	return rc;
}

/* 1 when there are folders in it, 0 when there are none; a negative errno. */
static int has_folders(int fd)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), found = 0;
	DIR *d = copy >= 0 ? fdopendir(copy) : NULL;
	struct dirent *e;
	struct stat st;

	if (d == NULL) {
		found = -errno;
		if (copy >= 0)
			close(copy);
		return found;
	}
	while ((e = readdir(d)) != NULL)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
		    (fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || S_ISDIR(st.st_mode)))
			found = 1;
	closedir(d);
	return found;
}

/* Removes one hidden name; its lock is held through fd. */
static int remove_hidden(int parent, const char *name, int fd)
{
	struct stat st;
	bool folder = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
	int rc = folder ? empty_folder(fd) : 0;

	if (rc == 0 && unlinkat(parent, name, folder ? AT_REMOVEDIR : 0) < 0 && errno != ENOENT)
		rc = -errno;
	return rc;
}

int stage_sweep(int parent)
{
	int copy = openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), removed = 0, rc = 0;
	DIR *d = copy >= 0 ? fdopendir(copy) : NULL;
	struct dirent *e;

	if (d == NULL) {
		rc = -errno;
		if (copy >= 0)
			close(copy);
		return rc;
	}
	while ((e = readdir(d)) != NULL) {
		int fd;
		if (!is_hidden_name(e->d_name))
			continue;
		fd = openat(parent, e->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0)
			continue; /* gone meanwhile, or not ours to open */
		if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
			int one = remove_hidden(parent, e->d_name, fd);
			rc = one < 0 ? one : rc;
			removed += one == 0;
		}
		close(fd);
	}
	closedir(d);
	return rc < 0 ? rc : removed;
}

int fuse_sweep(const char *folder, struct core_error *err)
{
	int parent = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), n = parent >= 0 ? stage_sweep(parent) : -errno;

	if (parent >= 0)
		close(parent);
	return n >= 0 ? n : core_fail(err, CORE_EIO, "%s: %s", folder, strerror(-n));
}

/* ---- begin ---- */

/* Opens the folder of `target` and takes its last name. */
static int open_parent(struct stage *s, const char *target, struct core_error *err)
{
	size_t n = strlen(target), cut;
	char *folder;

	while (n > 1 && target[n - 1] == '/')
		n--;
	for (cut = n; cut > 0 && target[cut - 1] != '/';)
		cut--;
	if (n - cut == 0 || target[cut] == '.')
		return core_fail(err, CORE_EINVAL, "target %.200s: expected a name that does not begin with a dot", target);
	if (n - cut + sizeof "." MARK + DIGITS > sizeof s->name)
		return core_fail(err, CORE_EINVAL, "target: its name of %zu characters is too long", n - cut);
	memcpy(s->name, target + cut, n - cut);
	folder = cut > 0 ? strndup(target, cut) : strdup(".");
	if (folder == NULL)
		return core_fail(err, CORE_ENOMEM, "out of memory");
	s->parent = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->parent < 0)
		core_fail(err, CORE_EIO, "%.200s: %s", folder, strerror(errno));
	free(folder);
	return s->parent < 0 ? CORE_EIO : 0;
}

/* One try: 0 when the hidden name is made and locked, 1 when a sweeper was quicker, else a negative errno. */
static int make_hidden(struct stage *s)
{
	unsigned char id[DIGITS / 2];
	char hex[DIGITS + 1];
	struct stat mine, there;

	randombytes_buf(id, sizeof id);
	sodium_bin2hex(hex, sizeof hex, id, sizeof id);
	memset(s->hidden, 0, sizeof s->hidden);
	s->hidden[0] = '.';
	memcpy(s->hidden + 1, s->name, strlen(s->name));
	strcat(s->hidden, MARK);
	strcat(s->hidden, hex);
	if (s->folder && mkdirat(s->parent, s->hidden, 0777) < 0)
		return -errno;
	s->fd = openat(s->parent, s->hidden,
		       s->folder ? O_RDONLY | O_DIRECTORY | O_CLOEXEC : O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (s->fd < 0)
		return errno == ENOENT ? 1 : -errno;
	if (flock(s->fd, LOCK_EX | LOCK_NB) == 0 && fstat(s->fd, &mine) == 0 &&
	    fstatat(s->parent, s->hidden, &there, AT_SYMLINK_NOFOLLOW) == 0 && mine.st_ino == there.st_ino &&
	    mine.st_dev == there.st_dev)
		return 0;
	close(s->fd);
	s->fd = -1;
	return 1;
}

/* What the result may take the place of: a file for a file, a folder of files for a folder. */
static int check_replaced(const struct stage *s, const struct stat *st, const char *target, struct core_error *err)
{
	bool folder = S_ISDIR(st->st_mode);
	int fd, inner = 0;

	if (!s->replace)
		return core_fail(err, CORE_EINVAL, "target %.200s is there already", target);
	if (S_ISLNK(st->st_mode))
		return 0;
	if (folder != s->folder || (!folder && !S_ISREG(st->st_mode)))
		return core_fail(err, CORE_EINVAL, "target %.200s is there already, and is %s", target,
				 folder ? "a folder" : "no folder");
	fd = folder ? openat(s->parent, s->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
	if (fd >= 0)
		inner = has_folders(fd);
	if (fd >= 0)
		close(fd);
	if (folder && (fd < 0 || inner != 0))
		return core_fail(err, CORE_EINVAL, "target %.200s is there already, and is not a folder of files only", target);
	return 0;
}

int stage_begin(struct stage *s, const char *target, bool folder, bool replace, struct core_error *err)
{
	struct stat st;
	int rc;

	*s = (struct stage){.parent = -1, .fd = -1, .folder = folder, .replace = replace};
	if (sodium_init() < 0)
		return core_fail(err, CORE_ENOMEM, "libsodium cannot start");
	rc = open_parent(s, target, err);
	if (rc < 0)
		return rc;
	if (fstatat(s->parent, s->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		rc = check_replaced(s, &st, target, err);
	if (rc == 0) {
		stage_sweep(s->parent); /* what cannot be removed does not hinder */
		do {
			rc = make_hidden(s);
		} while (rc == 1);
		if (rc < 0)
			rc = core_fail(err, CORE_EIO, "beside %.200s: %s", target, strerror(-rc));
	}
	if (rc < 0)
		close(s->parent);
	return rc;
}

/* ---- end ---- */

static void stage_close(struct stage *s)
{
	if (s->fd >= 0)
		close(s->fd);
	if (s->parent >= 0)
		close(s->parent);
	s->fd = s->parent = -1;
}

void stage_abort(struct stage *s)
{
	if (s->fd >= 0)
		remove_hidden(s->parent, s->hidden, s->fd);
	stage_close(s);
}

/* A rename that never replaces. Old kernels and some file systems lack the flag; there the last moment's look must do. */
static int rename_new(const struct stage *s)
{
	struct stat st;

	if (renameat2(s->parent, s->hidden, s->parent, s->name, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	if (fstatat(s->parent, s->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST;
	return renameat(s->parent, s->hidden, s->parent, s->name) < 0 ? -errno : 0;
}

/* The old one has the hidden name now, and no lock: what cannot be removed is left to a sweep. */
static void remove_old(const struct stage *s)
{
	int fd = openat(s->parent, s->hidden, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0) { /* a symbolic link */
		unlinkat(s->parent, s->hidden, 0);
		return;
	}
	remove_hidden(s->parent, s->hidden, fd);
	close(fd);
}

/* In one step where the file system has it. Where it has not, the name is gone for a moment, and comes back should the second
 * step fail. */
static int exchange(const struct stage *s)
{
	char aside[STAGE_NAME];
	int rc;

	if (renameat2(s->parent, s->hidden, s->parent, s->name, RENAME_EXCHANGE) == 0) {
		fsync(s->parent); /* before the old one goes */
		remove_old(s);
		return 0;
	}
	if (errno == ENOENT)
		return rename_new(s);
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	if (!s->folder)
		return renameat(s->parent, s->hidden, s->parent, s->name) < 0 ? -errno : 0;
	memcpy(aside, s->hidden, sizeof aside);
	aside[strlen(aside) - 1] ^= 1; /* another digit */
	if (renameat(s->parent, s->name, s->parent, aside) < 0)
		return -errno;
	rc = rename_new(s);
	if (rc < 0)
		renameat(s->parent, aside, s->parent, s->name);
	else
		stage_sweep(s->parent);
	return rc;
}

int stage_commit(struct stage *s, struct core_error *err)
{
	int rc = fsync(s->fd) < 0 ? -errno : s->replace ? exchange(s) : rename_new(s);

	if (rc == 0 && fsync(s->parent) < 0)
		rc = -errno; /* renamed, but perhaps not for a power failure: said, and not undone */
	if (rc < 0) {
		rc = core_fail(err, CORE_EIO, "%s: %s", s->name, strerror(-rc));
		stage_abort(s);
		return rc;
	}
	stage_close(s);
	return 0;
}

/* ---- files ---- */

int file_open(struct file *f, struct stage *s, const char *name, struct core_error *err)
{
	*f = (struct file){.fd = -1, .stage = s};
	snprintf(f->name, sizeof f->name, "%s", name != NULL ? name : s->name);
	f->buffer = malloc(BUFFER);
	if (f->buffer == NULL)
		return core_fail(err, CORE_ENOMEM, "%s: out of memory", f->name);
	f->fd = name != NULL ? openat(s->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)
			     : fcntl(s->fd, F_DUPFD_CLOEXEC, 0);
	if (f->fd >= 0)
		return 0;
	free(f->buffer);
	f->buffer = NULL;
	return core_fail(err, CORE_EIO, "%s: %s", f->name, strerror(errno));
}

static int flush(struct file *f, struct core_error *err)
{
	for (size_t at = 0; at < f->used;) {
		ssize_t n = write(f->fd, f->buffer + at, f->used - at);
		if (n < 0 && errno != EINTR)
			return core_fail(err, CORE_EIO, "%s: %s", f->name, strerror(errno));
		at += n > 0 ? (size_t)n : 0;
	}
	f->used = 0;
	return 0;
}

int file_write(struct file *f, const void *data, size_t n, struct core_error *err)
{
	const unsigned char *from = data;

	f->written += n;
	if (f->sum != NULL)
		crypto_generichash_update(f->sum, data, n);
	while (n > 0) {
		size_t room = BUFFER - f->used, some = n < room ? n : room;
		memcpy(f->buffer + f->used, from, some);
		f->used += some;
		from += some;
		n -= some;
		if (f->used == BUFFER && flush(f, err) < 0)
			return CORE_EIO;
	}
	return 0;
}

int file_pad(struct file *f, unsigned alignment, struct core_error *err)
{
	static const unsigned char zeros[64];
	uint64_t over = f->written % alignment;

	return over == 0 ? 0 : file_write(f, zeros, (size_t)(alignment - over), err);
}

int file_close(struct file *f, struct core_error *err)
{
	int rc = flush(f, err);

	if (rc == 0 && fsync(f->fd) < 0)
		rc = core_fail(err, CORE_EIO, "%s: %s", f->name, strerror(errno));
	if (rc == 0)
		f->stage->bytes += f->written;
	file_drop(f);
	return rc;
}

void file_drop(struct file *f)
{
	if (f->buffer != NULL)
		close(f->fd);
	free(f->buffer);
	*f = (struct file){0};
}
