/* packed.c: one head, then the arena as it lies in memory. */
#include "config.h"
#include "packed.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory.h"
#include "pack.h"

enum { HEAD_BYTES = 4096, SLICE = 1 << 20, WRITE_PIECE = 8 << 20 };

/* At the beginning of the file; zeros up to HEAD_BYTES follow. Numbers are little-endian, as this machine's (configure checks). */
struct head {
	char magic[8];
	uint32_t version, reserved;	/* PACK_VERSION */
	uint64_t bytes;			/* of the weights */
	uint64_t sum;			/* of the weights */
	unsigned char key[PACKED_KEY];
	char digest[72];		/* hex, NUL-terminated */
	uint64_t head_sum;		/* of all above */
};
_Static_assert(sizeof(struct head) == 144, "no holes");
static const char magic[8] = "weftpack";

/* ---- the checksum ---- */

static inline uint64_t mix(uint64_t sum, uint64_t word)
{
	sum = (sum ^ word) * 0x9e3779b97f4a7c15u;
	return sum << 29 | sum >> 35;
}

/* Eight sums that do not wait for each other. Each step is one-to-one in the word: no single change goes unseen. */
static uint64_t sum_words(const unsigned char *data, size_t bytes)
{
	uint64_t lane[8] = { 1, 2, 3, 4, 5, 6, 7, 8 }, word[8], sum = bytes;
	size_t n;

	for (; bytes; data += n, bytes -= n) {
		n = bytes < sizeof(word) ? bytes : sizeof(word);
		memset(word, 0, sizeof(word));
		memcpy(word, data, n);
		for (int i = 0; i < 8; i++)
			lane[i] = mix(lane[i], word[i]);
	}
	for (int i = 0; i < 8; i++)
		sum = mix(sum, lane[i]);
	return sum;
}

struct summing {
	const unsigned char *data;
	uint64_t bytes;
	uint64_t *sums;		/* of the slices */
};

static void sum_slice(void *arg, uint32_t i)
{
	struct summing *s = arg;
	uint64_t at = (uint64_t)i * SLICE;

	s->sums[i] = sum_words(s->data + at, s->bytes - at < SLICE ? s->bytes - at : SLICE);
}

static bool sum_weights(struct pool *pool, const unsigned char *data, uint64_t bytes, uint64_t *sum)
{
	uint32_t slices = (uint32_t)((bytes + SLICE - 1) / SLICE);
	struct summing s = { data, bytes, malloc(slices * sizeof(s.sums[0]) + 1) };

	if (!s.sums)
		return false;
	pool_run(pool, sum_slice, &s, slices);
	*sum = sum_words((const unsigned char *)s.sums, slices * sizeof(s.sums[0]));
	free(s.sums);
	return true;
}

/* ---- names ---- */

bool packed_name(struct packed *p, const char *folder, const char *name, const char *form, const char *source)
{
	char *real = realpath(source, NULL), part[65], hex[17];
	unsigned char hash[crypto_generichash_BYTES_MIN];
	int n;

	if (!real)
		return false;
	crypto_generichash(hash, sizeof(hash), (const unsigned char *)real, strlen(real), NULL, 0);
	free(real);
	sodium_bin2hex(hex, sizeof(hex), hash, 8);
	snprintf(part, sizeof(part), "%.64s", name);
	for (char *c = part; *c; c++)
		if (!((*c >= '0' && *c <= '9') || (*c >= 'A' && *c <= 'Z') || (*c >= 'a' && *c <= 'z') || (c > part && (*c == '-' || *c == '.'))))
			*c = '_';
	p->folder = folder;
	n = snprintf(p->path, sizeof(p->path), "%s/%s-%s-%s.packed", folder, part, form, hex);
	return n > 0 && (size_t)n + sizeof(".part") < sizeof(p->path);
}

/* ---- reading ---- */

static const char *judge(const struct packed *p, const struct head *h)
{
	if (memcmp(h->magic, magic, sizeof(magic)))
		return "it was damaged";
	if (h->version != PACK_VERSION)	/* whose head may look otherwise */
		return "another version of weft had packed it";
	if (sum_words((const unsigned char *)h, offsetof(struct head, head_sum)) != h->head_sum)
		return "it was damaged";
	if (h->bytes != p->bytes || memcmp(h->key, p->key, sizeof(p->key)))
		return "the source has changed";
	return NULL;
}

/* The whole file and p->lock, or NULL with the reason. */
static unsigned char *map_file(struct packed *p, const char **reason)
{
	void *file = NULL;
	struct stat st;
	struct head h;
	int fd = open(p->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	*reason = fd >= 0 ? NULL : errno == ENOENT ? "" : strerror(errno);
	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode))
		*reason = "it was not a regular file";
	else if (pread(fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h))
		*reason = "it had another length";
	else if ((*reason = judge(p, &h)) == NULL && (uint64_t)st.st_size != HEAD_BYTES + p->bytes)
		*reason = "it had another length";
	if (!*reason) {
		file = mmap(NULL, HEAD_BYTES + p->bytes, PROT_READ, MAP_SHARED, fd, 0);
		*reason = file == MAP_FAILED ? strerror(errno) : NULL;
	}
	if (*reason) {
		close(fd);
		return NULL;
	}
	p->lock = fd;
	return file;
}

/* Tidiers see that it is in use, and when it was. Where the file system does not do that, the worst is that one of them removes the file. */
static void mark_used(int fd)
{
	if (flock(fd, LOCK_SH | LOCK_NB) || futimens(fd, NULL))
		return;
}

unsigned char *packed_map(struct packed *p, struct pool *pool, char digest[static PACKED_DIGEST], char why[static PACKED_WHY])
{
	const char *reason;
	unsigned char *file = map_file(p, &reason);
	uint64_t sum;

	if (file) {
		unsigned char *weights = file + HEAD_BYTES;
		const struct head *h = (const struct head *)file;

		madvise(file, HEAD_BYTES + p->bytes, MADV_HUGEPAGE);	/* wishes, both */
		madvise(file, HEAD_BYTES + p->bytes, MADV_WILLNEED);
		if (sum_weights(pool, weights, p->bytes, &sum) && sum == h->sum) {
			snprintf(digest, PACKED_DIGEST, "%.64s", h->digest);
			mark_used(p->lock);
			return weights;
		}
		packed_unmap(weights, p->bytes);
		close(p->lock);
		reason = "it was damaged";
	}
	snprintf(why, PACKED_WHY, "%s", reason);
	return NULL;
}

void packed_unmap(unsigned char *weights, uint64_t bytes)
{
	if (weights)
		memory_unmap(weights - HEAD_BYTES, HEAD_BYTES + bytes);
}

/* ---- writing ---- */

static bool write_all(int fd, const unsigned char *data, uint64_t n)
{
	while (n) {
		ssize_t w = write(fd, data, n < WRITE_PIECE ? n : WRITE_PIECE);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0) {
			errno = w ? errno : EIO;
			return false;
		}
		data += w;
		n -= (uint64_t)w;
	}
	return true;
}

/* A descriptor of PATH.part that nobody else writes to, or a negative errno; EBUSY: somebody does. */
static int open_part(const char *part)
{
	struct stat mine, named;
	int fd = open(part, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0640), rc = 0;

	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB))
		rc = errno == EWOULDBLOCK ? -EBUSY : -errno;
	else if (fstat(fd, &mine) || stat(part, &named) || mine.st_ino != named.st_ino || mine.st_dev != named.st_dev)
		rc = -EBUSY;	/* between open and lock its writer renamed it: this is the finished file */
	if (!rc)
		return fd;
	close(fd);
	return rc;
}

/* fallocate(2) says at once that there is no room, instead of using up what others may need. Some file systems cannot. */
static int fill(int fd, const unsigned char head[static HEAD_BYTES], const unsigned char *weights, uint64_t bytes)
{
	if (ftruncate(fd, 0) || (fallocate(fd, 0, 0, (off_t)(HEAD_BYTES + bytes)) && errno != EOPNOTSUPP && errno != ENOSYS) ||
	    !write_all(fd, head, HEAD_BYTES) || !write_all(fd, weights, bytes) || fsync(fd))
		return -errno;
	return 0;
}

static void sync_folder(const char *folder)
{
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return;
	fsync(fd);	/* that it fails is no harm: a rename undone by a power failure costs one more packing */
	close(fd);
}

int packed_write(struct packed *p, struct pool *pool, const unsigned char *weights, const char *digest)
{
	union {
		unsigned char bytes[HEAD_BYTES];
		struct head head;
	} block = { { 0 } };
	struct head *h = &block.head;
	char part[sizeof(p->path) + 8];
	int fd, rc;

	memcpy(h->magic, magic, sizeof(magic));
	h->version = PACK_VERSION;
	h->bytes = p->bytes;
	memcpy(h->key, p->key, sizeof(h->key));
	snprintf(h->digest, sizeof(h->digest), "%s", digest);
	if (!sum_weights(pool, weights, p->bytes, &h->sum))
		return -ENOMEM;
	h->head_sum = sum_words(block.bytes, offsetof(struct head, head_sum));
	snprintf(part, sizeof(part), "%s.part", p->path);
	if (mkdir(p->folder, 0750) && errno != EEXIST)
		return -errno;
	fd = open_part(part);
	if (fd < 0)
		return fd;
	rc = fill(fd, block.bytes, weights, p->bytes);
	if (!rc && rename(part, p->path))
		rc = -errno;
	if (rc)
		unlink(part);	/* ours: we hold its lock */
	if (rc) {
		close(fd);
		return rc;
	}
	sync_folder(p->folder);
	p->lock = fd;
	mark_used(fd);		/* no writer's lock any more, but that of a user */
	return 0;
}

/* ---- tidying ---- */

static const char suffix[] = ".packed", part_suffix[] = ".packed.part";

struct kept {
	char name[NAME_MAX + 1];
	uint64_t bytes;
	struct timespec used;
};

static bool ends_with(const char *name, const char *end)
{
	size_t n = strlen(name), m = strlen(end);

	return n > m && !strcmp(name + n - m, end);
}

static int longest_ago_first(const void *a, const void *b)
{
	const struct kept *x = a, *y = b;

	if (x->used.tv_sec != y->used.tv_sec)
		return x->used.tv_sec < y->used.tv_sec ? -1 : 1;
	return (x->used.tv_nsec > y->used.tv_nsec) - (x->used.tv_nsec < y->used.tv_nsec);
}

/* false: it is in use, is not what it was when it was listed, or may not be removed. */
static bool remove_unused(int folder, const char *name)
{
	int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat mine, named;
	bool gone;

	if (fd < 0)
		return false;
	gone = !flock(fd, LOCK_EX | LOCK_NB) && !fstat(fd, &mine) && S_ISREG(mine.st_mode) &&
	       !fstatat(folder, name, &named, AT_SYMLINK_NOFOLLOW) && mine.st_ino == named.st_ino && mine.st_dev == named.st_dev && !unlinkat(folder, name, 0);
	close(fd);
	return gone;
}

/* All files of packed weights, malloc'ed; leavings are removed on the way. */
static struct kept *list_kept(DIR *d, size_t *n)
{
	struct kept *list = NULL, *more;
	struct dirent *e;
	struct stat st;

	for (*n = 0; (e = readdir(d));) {
		if (ends_with(e->d_name, part_suffix))
			remove_unused(dirfd(d), e->d_name);
		if (!ends_with(e->d_name, suffix) || fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode))
			continue;
		more = realloc(list, (*n + 1) * sizeof(*list));
		if (!more)
			break;	/* what was found is as good as a smaller folder */
		list = more;
		list[*n] = (struct kept){.bytes = (uint64_t)st.st_size, .used = st.st_mtim};
		snprintf(list[(*n)++].name, sizeof(list->name), "%s", e->d_name);
	}
	return list;
}

struct packed_tidied packed_tidy(const char *folder, uint64_t most)
{
	struct packed_tidied done = { 0 };
	DIR *d = opendir(folder);
	struct kept *list;
	uint64_t all = 0;
	size_t n;

	if (!d)
		return done;
	list = list_kept(d, &n);
	for (size_t i = 0; i < n; i++)
		all += list[i].bytes;
	if (n)
		qsort(list, n, sizeof(*list), longest_ago_first);
	for (size_t i = 0; i < n && all > most; i++)
		if (remove_unused(dirfd(d), list[i].name)) {
			all -= list[i].bytes;
			done.bytes += list[i].bytes;
			done.files++;
		}
	free(list);
	closedir(d);
	return done;
}
