/* log.c: each line leaves in one write(2), so that lines of different threads never mix. */
#include "log.h"
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_LEN = 1024 }; /* a longer line is cut: no caller has more to say than a reason and a path */

static const char *const names[] = {[LOG_AT_ERROR] = "error",
				    [LOG_AT_WARNING] = "warning",
				    [LOG_AT_NOTICE] = "notice",
				    [LOG_AT_INFO] = "info",
				    [LOG_AT_DEBUG] = "debug"};
static atomic_int max_level = LOG_AT_INFO;
static bool to_journal;

/* JOURNAL_STREAM names device and inode of the stream that systemd handed us; a redirected stderr is another one. */
void log_start(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;
	to_journal = stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
		     (unsigned long long)st.st_dev == dev && (unsigned long long)st.st_ino == ino;
}

void log_set_level(enum log_level level)
{
	max_level = level;
}

enum log_level log_level_parse(const char *name)
{
	for (int i = LOG_AT_ERROR; i <= LOG_AT_DEBUG; i++)
		if (strcmp(name, names[i]) == 0)
			return i;
	return LOG_AT_INFO;
}

static size_t put_prefix(char *line, size_t size, enum log_level level, uint64_t job)
{
	size_t n = 0;
	if (to_journal) {
		n = (size_t)snprintf(line, size, "<%d>", (int)level);
	} else {
		struct timespec now;
		struct tm tm;
		clock_gettime(CLOCK_REALTIME, &now);
		gmtime_r(&now.tv_sec, &tm);
		n = strftime(line, size, "%Y-%m-%dT%H:%M:%S", &tm);
		n += (size_t)snprintf(line + n, size - n, ".%03ldZ %s: ", now.tv_nsec / 1000000, names[level]);
	}
	if (job)
		n += (size_t)snprintf(line + n, size - n, "job %llu: ", (unsigned long long)job);
	return n;
}

void log_line(enum log_level level, uint64_t job, const char *fmt, ...)
{
	if ((int)level > max_level)
		return;
	char line[LINE_MAX_LEN];
	size_t head = put_prefix(line, sizeof line, level, job);
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(line + head, sizeof line - 1 - head, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	size_t len = head + (size_t)n;
	if (len > sizeof line - 2)
		len = sizeof line - 2;
	for (size_t i = head; i < len; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	line[len++] = '\n';
	/* A log that cannot be written has nowhere to complain. */
	ssize_t ignored = write(STDERR_FILENO, line, len);
	(void)ignored;
}
