/* batch-follow.c: finished rows from the server into the output files, a page at a time, and the line that says how far it is. */
#include "batch.h"
#include "row.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
	PAGE = 256,        /* records of one request */
	PAUSE_MIN_MS = 20, /* between two looks that find nothing; doubles */
	PAUSE_MAX_MS = 1000,
	SHOW_MS = 500,       /* between two lines of progress on a terminal */
	SHOW_FILE_MS = 30000 /* and when stderr is a file */
};

/* ---- progress ---- */

static const char *left(char text[16], double seconds)
{
	if (!(seconds >= 0 && seconds < 360000))
		snprintf(text, 16, "-");
	else if (seconds >= 3600)
		snprintf(text, 16, "%dh%02dm", (int)(seconds / 3600), (int)(seconds / 60) % 60);
	else
		snprintf(text, 16, "%dm%02ds", (int)(seconds / 60), (int)seconds % 60);
	return text;
}

/* Rows of the whole file: known at its end, guessed from the bytes read until then. */
static double total_rows(const struct batch *b)
{
	if (b->sealed || b->in == NULL || b->in_bytes == 0)
		return (double)b->rows;
	return (double)b->line * ((double)b->in_size / (double)b->in_bytes);
}

void batch_show(struct batch *b, bool last)
{
	int64_t now = batch_now();
	double seconds = (double)(now - b->began) / 1000, rate = seconds > 0 ? (double)(b->ended - b->began_ended) / seconds : 0;
	double all = total_rows(b), tokens = seconds > 0 ? (double)(b->completion_tokens - b->began_tokens) / seconds : 0;
	char eta[16];

	if (!last && now - b->shown < (b->progress ? SHOW_MS : SHOW_FILE_MS))
		return;
	b->shown = now;
	fprintf(stderr, "%s%s: %" PRIu64 " of %s%.0f rows (%.0f %%), %.1f rows/s, %.0f tokens/s, %s left, %" PRIu64 " failed%s",
		b->progress ? "\r" : "", b->name, b->ended, b->sealed ? "" : "about ", all,
		all > 0 ? 100 * (double)b->ended / all : 0, rate, tokens,
		left(eta, rate > 0 ? (all - (double)b->ended) / rate : -1), b->failed, b->progress ? "\033[K" : "\n");
	if (b->progress && last)
		fputc('\n', stderr);
	fflush(stderr);
}

/* ---- records ---- */

static int write_error(const struct batch *b)
{
	fprintf(stderr, "weft batch: %s: cannot be written; what is there is whole, and the same command goes on\n",
		b->ledger.out.path != NULL ? b->ledger.out.path : "standard output");
	return EXIT_FAILED;
}

static int put_record(struct batch *b, const json_t *record)
{
	bool error;
	uint64_t cursor = (uint64_t)json_integer_value(json_object_get(record, "cursor"));
	json_t *line = row_record(record, b->name, &error);
	char *text = line != NULL ? json_dumps(line, JSON_COMPACT) : NULL;
	int status = text != NULL ? ledger_put(&b->ledger, text, cursor, error) : -1;

	json_decref(line);
	free(text);
	b->written += status == 0;
	return status != 0 ? write_error(b) : 0;
}

int batch_fetch(struct batch *b, bool *any)
{
	struct weft_request *r = weft_request_new("batch.results");
	struct weft_reply *reply;
	uint64_t cursor = b->ledger.cursor;
	json_t *records, *record;
	char *text;
	size_t i;
	int status;

	weft_request_uint(r, "batch", b->id);
	weft_request_uint(r, "cursor", cursor);
	weft_request_uint(r, "limit", PAGE);
	weft_request_bool(r, "ordered", b->ledger.ordered);
	if ((status = batch_call(b, r, &reply)) != 0)
		return status;
	text = weft_reply_json(reply, "results");
	weft_reply_free(reply);
	records = text != NULL ? json_loads(text, 0, NULL) : NULL;
	free(text);
	if (records == NULL) {
		fputs("weft batch: out of memory, or no list of results in the reply\n", stderr);
		return EXIT_FAILED;
	}
	*any = json_array_size(records) > 0;
	json_array_foreach(records, i, record)
	{
		if ((status = put_record(b, record)) != 0)
			break;
		cursor = (uint64_t)json_integer_value(json_object_get(record, "cursor"));
	}
	json_decref(records);
	if (status == 0 && *any && ledger_sync(&b->ledger, cursor) < 0)
		status = write_error(b);
	return status;
}

/* ---- the whole ---- */

static int seal(struct batch *b)
{
	struct weft_request *r = weft_request_new("batch.seal");
	int status;

	weft_request_uint(r, "batch", b->id);
	status = batch_call(b, r, NULL);
	b->sealed |= status == 0;
	return status;
}

/* Sends while there is something to send and the server has no more than `in_flight` rows that have not ended. */
static int send(struct batch *b, uint64_t in_flight, bool *sent)
{
	bool end = false;
	int status;

	*sent = false;
	if (b->sealed || b->in == NULL || (b->rows > b->ended && b->rows - b->ended >= in_flight))
		return 0;
	if ((status = batch_send_some(b, &end)) != 0)
		return status;
	*sent = true;
	return end ? seal(b) : 0;
}

int batch_follow(struct batch *b)
{
	uint64_t in_flight = 100000;
	int status = 0, pause = PAUSE_MIN_MS;
	bool sent, any = false;

	option_uint(b->cli, "in-flight", &in_flight, &status);
	while (status == 0) {
		if ((status = send(b, in_flight, &sent)) != 0 || (status = batch_fetch(b, &any)) != 0)
			break;
		if (!any && (status = batch_look(b)) != 0)
			break;
		batch_show(b, false);
		/* Figures come after records: when all rows had ended and the next page is empty, it was the last one. */
		if (!any && b->sealed && b->ended == b->rows && (status = batch_fetch(b, &any)) == 0 && !any)
			break;
		pause = any || sent ? PAUSE_MIN_MS : pause * 2 < PAUSE_MAX_MS ? pause * 2 : PAUSE_MAX_MS;
		if (status == 0 && !any && !sent)
			status = batch_wait(pause);
	}
	if (status == 0)
		status = batch_look(b);
	batch_show(b, true);
	return status;
}
