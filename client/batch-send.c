/* batch-send.c: the rows of a file, streamed to the server in requests of a bounded size. The file is read once, line by line, and
 * never held whole; rows that the server has from an earlier run are skipped without being looked at. */
#include "batch.h"
#include "row.h"
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
	ROWS_AT_ONCE = 512,
	BYTES_AT_ONCE = 1 << 20, /* of lines, until a request is sent; well below max_message */
	LINE_MAX_BYTES = 8 << 20
};

static int io_error(const struct batch *b)
{
	fprintf(stderr, "weft batch: %s: %s\n", b->path, strerror(errno));
	return EXIT_FAILED;
}

/* The next line that is not empty; *len 0: the end. The memory is the caller's, and grows. */
static int next_line(struct batch *b, char **line, size_t *room, size_t *len)
{
	ssize_t n;

	do {
		errno = 0;
		n = getline(line, room, b->in);
		if (n < 0) {
			*len = 0;
			return feof(b->in) ? 0 : io_error(b);
		}
		b->in_bytes += (uint64_t)n;
		while (n > 0 && strchr(" \t\r\n", (*line)[n - 1]) != NULL)
			n--;
		(*line)[n] = 0;
	} while (n == 0);
	*len = (size_t)n;
	return 0;
}

int batch_first_line(struct batch *b)
{
	unsigned char digest[32];
	struct stat st;
	char *line = NULL;
	size_t room = 0, len;
	int status;

	b->in = fopen(b->path, "re");
	if (b->in == NULL || fstat(fileno(b->in), &st) < 0)
		return io_error(b);
	if (!S_ISREG(st.st_mode)) {
		fprintf(stderr, "weft batch: %s: expected a plain file, so that the same command can go on with it\n", b->path);
		return EXIT_FAILED;
	}
	b->in_size = (uint64_t)st.st_size;
	status = next_line(b, &line, &room, &len);
	if (status == 0 && len == 0) {
		fprintf(stderr, "weft batch: %s: has no rows\n", b->path);
		status = EXIT_FAILED;
	}
	if (status == 0) {
		crypto_generichash(digest, sizeof(digest), (unsigned char *)line, len, NULL, 0);
		sodium_bin2hex(b->first, sizeof(b->first), digest, sizeof(digest));
	}
	free(line);
	rewind(b->in);
	b->in_bytes = 0;
	return status;
}

static int skip(struct batch *b)
{
	char *line = NULL;
	size_t room = 0, len = 1;
	int status = 0;

	while (status == 0 && b->line < b->rows && len > 0)
		if ((status = next_line(b, &line, &room, &len)) == 0 && len > 0)
			b->line++;
	free(line);
	if (status == 0 && len == 0) {
		fprintf(stderr,
			"weft batch: %s: has %" PRIu64 " rows, but the batch has %" PRIu64 ": it was made from a longer file\n",
			b->path, b->line, b->rows);
		status = EXIT_FAILED;
	}
	return status;
}

/* Rows until a bound is reached, as the JSON array of a request. */
static int gather(struct batch *b, json_t *rows, bool *end)
{
	char *line = NULL;
	size_t room = 0, len, bytes = 0;
	int status = 0;

	while (json_array_size(rows) < ROWS_AT_ONCE && bytes < BYTES_AT_ONCE) {
		struct row row = {0};
		if ((status = next_line(b, &line, &room, &len)) != 0)
			break;
		*end = len == 0;
		if (*end)
			break;
		/* A line beyond all measure is a bad row, not a bad batch. */
		if (row_parse(&row, len <= LINE_MAX_BYTES ? line : "", len <= LINE_MAX_BYTES ? len : 0, b->line, b->defaults) < 0 ||
		    json_array_append(rows, row.wire) < 0) {
			fputs("weft batch: out of memory\n", stderr);
			status = EXIT_FAILED;
		}
		row_finish(&row);
		if (status != 0)
			break;
		b->line++;
		bytes += len;
	}
	free(line);
	return status;
}

int batch_send_some(struct batch *b, bool *end)
{
	json_t *rows = json_array();
	struct weft_request *r;
	struct weft_reply *reply;
	uint64_t first;
	int status = b->line < b->rows ? skip(b) : 0;

	*end = false;
	first = b->line;
	if (status == 0)
		status = gather(b, rows, end);
	if (status != 0 || json_array_size(rows) == 0) {
		json_decref(rows);
		return status;
	}
	r = weft_request_new("batch.add");
	weft_request_uint(r, "batch", b->id);
	weft_request_uint(r, "first", first);
	cli_add_json(r, "rows", rows);
	status = batch_call(b, r, &reply);
	if (status != 0)
		return status;
	if (!weft_reply_uint(reply, "rows", &b->rows))
		b->rows = b->line;
	weft_reply_free(reply);
	return 0;
}
