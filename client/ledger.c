/* ledger.c: see ledger.h. */
#include "config.h"
#include "ledger.h"
#include "row.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 65536 };

static int fail(char why[static 512], const char *path, const char *text)
{
	snprintf(why, 512, "%s: %s", path, text);
	return -1;
}

/* ---- going on ---- */

/* Offset behind the last line feed before `end`; 0: there is none. -1: cannot be read. */
static off_t line_start(int fd, off_t end)
{
	char block[BLOCK];

	while (end > 0) {
		off_t from = end > BLOCK ? end - BLOCK : 0;
		ssize_t n = pread(fd, block, (size_t)(end - from), from);
		if (n != end - from)
			return -1;
		while (n > 0 && block[n - 1] != '\n')
			n--;
		if (n > 0)
			return from + n;
		end = from;
	}
	return 0;
}

static char *read_line(int fd, off_t from, off_t to)
{
	char *line = malloc((size_t)(to - from) + 1);

	if (line != NULL && pread(fd, line, (size_t)(to - from), from) == to - from) {
		line[to - from] = 0;
		return line;
	}
	free(line);
	return NULL;
}

/* Cuts a torn last line off, and learns the cursor of the last whole one. */
static int find_end(struct ledger_file *file, const char *batch, char why[static 512])
{
	int fd = fileno(file->f);
	struct stat st;
	uint64_t row;
	off_t end, start;
	char *line;
	bool ours;

	if (fstat(fd, &st) < 0 || (end = line_start(fd, st.st_size)) < 0 || (end < st.st_size && ftruncate(fd, end) < 0))
		return fail(why, file->path, strerror(errno));
	if (end == 0)
		return 0;
	start = line_start(fd, end - 1);
	line = start >= 0 ? read_line(fd, start, end - 1) : NULL;
	ours = line != NULL && row_place(line, batch, &row, &file->last);
	free(line);
	return ours ? 0 : fail(why, file->path, "has lines that are not this batch's: move it away, or name another file");
}

static int open_file(struct ledger_file *file, const char *path, const char *batch, char why[static 512])
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);

	file->path = strdup(path);
	file->f = fd >= 0 ? fdopen(fd, "r+") : NULL;
	if (file->f == NULL || file->path == NULL)
		return fail(why, path, strerror(errno));
	if (find_end(file, batch, why))
		return -1;
	return fseeko(file->f, 0, SEEK_END) < 0 ? fail(why, path, "is not a plain file: use -o - for a pipe") : 0;
}

static uint64_t uint_of(const json_t *o, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(o, key));
}

/* The mark is good for files that have at least what they had when it was written; one that was removed or shortened by hand is
 * filled again. */
static void take_mark(struct ledger *l, const json_t *mark)
{
	uint64_t both = l->out.last < l->errors.last ? l->out.last : l->errors.last;

	if (mark != NULL && uint_of(mark, "output") <= l->out.last && uint_of(mark, "errors") <= l->errors.last)
		l->cursor = uint_of(mark, "cursor");
	if (both > l->cursor)
		l->cursor = both;
}

static int read_mark(struct ledger *l, const char *output, const char *errors, char why[static 512])
{
	json_error_t where;
	json_t *mark = json_load_file(l->mark, 0, &where);
	const char *batch = json_string_value(json_object_get(mark, "batch"));
	int rc = 0;

	if (mark == NULL && access(l->mark, F_OK) == 0)
		rc = fail(why, l->mark, "is damaged: remove it, and the output is looked through again");
	else if (batch != NULL && strcmp(batch, l->batch) != 0)
		rc = fail(why, l->mark, "says that the output is of another batch: move the files away, or name others");
	else if (batch != NULL && json_is_true(json_object_get(mark, "ordered")) != l->ordered)
		rc = fail(why, l->mark, "says that the output was begun in the other order (--ordered)");
	if (rc == 0)
		rc = open_file(&l->out, output, l->batch, why) || open_file(&l->errors, errors, l->batch, why) ? -1 : 0;
	if (rc == 0)
		take_mark(l, mark);
	json_decref(mark);
	return rc;
}

static char *joined(const char *a, const char *b)
{
	char *s;

	return asprintf(&s, "%s%s", a, b) < 0 ? NULL : s;
}

int ledger_open(struct ledger *l, const char *output, const char *errors, const char *batch, bool ordered, char why[static 512])
{
	char *beside = joined(output, ".errors");
	int rc;

	*l = (struct ledger){.ordered = ordered};
	snprintf(l->batch, sizeof(l->batch), "%s", batch);
	if (strcmp(output, "-") == 0) {
		free(beside);
		l->out.f = stdout;
		return errors != NULL ? open_file(&l->errors, errors, batch, why) : 0;
	}
	l->mark = joined(output, ".weft");
	if (beside == NULL || l->mark == NULL)
		rc = fail(why, output, "out of memory");
	else
		rc = read_mark(l, output, errors != NULL ? errors : beside, why);
	free(beside);
	return rc;
}

/* ---- writing ---- */

int ledger_put(struct ledger *l, const char *line, uint64_t cursor, bool error)
{
	struct ledger_file *file = error && l->errors.f != NULL ? &l->errors : &l->out;

	if (cursor <= file->last)
		return 0;
	file->last = cursor;
	return fputs(line, file->f) < 0 || fputc('\n', file->f) < 0 ? -1 : 0;
}

static int to_disk(FILE *f)
{
	if (f == NULL)
		return 0;
	if (fflush(f) != 0)
		return -1;
	return fdatasync(fileno(f)) < 0 && errno != EINVAL && errno != EROFS ? -1 : 0; /* a pipe has no disk */
}

/* A new file under the old name: a reader sees the one or the other. */
static int write_mark(const struct ledger *l)
{
	json_t *mark = json_pack("{s:s,s:b,s:I,s:I,s:I}", "batch", l->batch, "ordered", l->ordered, "cursor", (json_int_t)l->cursor,
				 "output", (json_int_t)l->out.last, "errors", (json_int_t)l->errors.last);
	char *fresh = joined(l->mark, ".new");
	int rc = mark == NULL || fresh == NULL || json_dump_file(mark, fresh, JSON_COMPACT) < 0 || rename(fresh, l->mark) < 0 ? -1
															      : 0;

	json_decref(mark);
	free(fresh);
	return rc;
}

int ledger_sync(struct ledger *l, uint64_t cursor)
{
	if (to_disk(l->errors.f) || to_disk(l->out.f))
		return -1;
	l->cursor = cursor;
	return l->mark != NULL ? write_mark(l) : 0;
}

static int close_file(struct ledger_file *file)
{
	int rc = file->f != NULL && file->f != stdout ? fclose(file->f) : 0;

	free(file->path);
	*file = (struct ledger_file){0};
	return rc;
}

int ledger_close(struct ledger *l)
{
	int rc = close_file(&l->out), rc_errors = close_file(&l->errors);

	free(l->mark);
	l->mark = NULL;
	return rc || rc_errors ? -1 : 0;
}
