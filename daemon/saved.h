/* saved.h: a durable job as the store keeps it: the request that makes it again, and what the daemon knows of its answer beside the
 * engine's checkpoint. Read by weftd only; the first byte is the format. */
#ifndef WEFT_DAEMON_SAVED_H
#define WEFT_DAEMON_SAVED_H

#include "job.h"

/* ---- the request ---- */

struct saved_request {
	bool quiet;          /* a row of a batch: of its events only the last one is made */
	bool refused;        /* it is no request: the body is {code, message}, with which the job fails */
	char blend[65];      /* digest that it must have; "": not known when it was accepted */
	const void *body;    /* a request of the protocol; borrowed */
	size_t body_len;
};
void *saved_request_write(const struct saved_request *r, size_t *len); /* malloc'ed; NULL: out of memory */
int saved_request_read(struct saved_request *r, const void *data, size_t len); /* -1: damaged, or of a later version */

/* ---- the answer so far ---- */

struct saved_answer {
	size_t cut;             /* events before it are part of it, those behind it will be said again */
	char blend[65];
	const void *checkpoint; /* the engine's; borrowed; NULL: none */
	size_t checkpoint_len;
};
/* Of the answer in j and this checkpoint. malloc'ed; NULL: out of memory. */
void *saved_answer_write(const struct job *j, const struct saved_answer *a, size_t *len);
/* Fills in the scores of j, the finishes of its choices and, of a quiet job, their texts and tokens. -1: damaged, or out of memory. */
int saved_answer_read(struct job *j, struct saved_answer *a, const void *data, size_t len);

/* Adds a delta event, as published, to the answer. 0; 1: it is no delta; -1: damaged, or out of memory. */
int saved_delta_add(struct job *j, const void *event, size_t len);

#endif
