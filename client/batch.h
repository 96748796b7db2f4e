/* batch.h: what the files of `weft batch` share. cmd-batch.c has the verbs; batch-send.c streams a file of rows to the server;
 * batch-follow.c fetches what is finished into the output files (ledger.h) and shows how far it is. All operations used are
 * idempotent, so every call is tried again until the server is back. */
#ifndef WEFT_BATCH_H
#define WEFT_BATCH_H

#include "cli.h"
#include "ledger.h"

struct batch {
	struct cli *cli;
	char name[128];
	uint64_t id;
	uint64_t rows;                             /* that the server has */
	bool sealed;                               /* no more rows come */
	uint64_t ended, failed, completion_tokens; /* as the server last said; failed: ended without an answer */

	/* sending */
	FILE *in;
	const char *path;
	json_t *defaults;  /* fields of every row */
	uint64_t line;     /* rows read so far */
	uint64_t in_bytes; /* of the file, read so far */
	uint64_t in_size;  /* 0: a pipe */
	char first[65];    /* digest of its first line */

	/* following */
	struct ledger ledger;
	uint64_t written;                   /* records that are in the output files, in this run */
	int64_t began, shown;               /* ms, monotonic */
	uint64_t began_ended, began_tokens; /* when this run began */
	bool progress;                      /* stderr is a terminal */
};

int64_t batch_now(void); /* ms, monotonic */
/* Waits; EXIT_INTERRUPTED on a signal, else 0. */
int batch_wait(int ms);
/* As cli_call, but with a server that is away, full or draining it tries again, until a signal comes. Takes r. */
int batch_call(struct batch *b, struct weft_request *r, struct weft_reply **reply);
int batch_look(struct batch *b); /* asks for the batch's figures: rows, ended... */

/* batch-send.c */
int batch_first_line(struct batch *b);           /* opens the file; sets first, in_size */
int batch_send_some(struct batch *b, bool *end); /* one request with rows; *end: the file has no more */

/* batch-follow.c */
int batch_fetch(struct batch *b, bool *any); /* one page of results into the files */
int batch_follow(struct batch *b);           /* until the last row has ended; sends what is to be sent meanwhile */
void batch_show(struct batch *b, bool last); /* the line of progress */

#endif
