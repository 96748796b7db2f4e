/* request_ops.h: what the files of operations have in common. Private to request*.c. */
#ifndef WEFT_DAEMON_REQUEST_OPS_H
#define WEFT_DAEMON_REQUEST_OPS_H

#include "pairs.h"
#include "request.h"

enum { RESULTS_MAX = 1 << 20, JOBS_MAX = 1000 };

struct op {
	const char *name;
	const char *fields;                /* its own fields, each between blanks; NULL: the draft judges them */
	int (*prepare)(struct request *r); /* [any thread] may be NULL; -1 with r->problem */
	void (*look)(struct request *r);   /* [any thread] may be NULL, may block */
	/* [loop] writes the whole reply; -1 with r->problem, b untouched; or request_wait(), b untouched, too */
	int (*answer)(struct request *r, struct server *s, struct wire_buf *b);
};

typedef int request_step(struct request *r, struct server *s, struct wire_buf *b);

static inline const msgpack_object *field(const struct request *r, const char *name)
{
	return wire_get(&r->msg.root, name);
}

static inline void put_head(const struct request *r, struct wire_buf *b, bool ok, size_t more)
{
	wire_map(b, 3 + more);
	wire_str(b, "v");
	wire_uint(b, WIRE_VERSION);
	wire_str(b, "id");
	r->id ? wire_object(b, r->id) : wire_nil(b);
	wire_str(b, "ok");
	wire_bool(b, ok);
}

/* The answer goes on in `step` when the op is finished: r->result, freed with the request. NULL: out of memory. Returns 0, or -1. */
int request_wait(struct request *r, struct server *s, struct store_op *op, request_step *step);
struct store_op *request_op(struct request *r, enum store_kind kind); /* with the request's identity */
int request_job_id(struct request *r, uint64_t *id);
/* The job, if it is in memory and may be spoken of. NULL without a problem: perhaps the store knows it. */
struct job *request_find(struct request *r, const struct server *s, uint64_t id);
int request_oom(struct request *r);


/* ---- request_jobs.c: operations on jobs, in memory or in the store ---- */
request_step answer_durable, answer_job, answer_jobs, answer_cancel, answer_results, answer_close, answer_bury, answer_kick, answer_delay,
	answer_touch;
const char *request_state_name(int store_state);
void put_accepted(struct request *r, struct server *s, struct job *j, struct wire_buf *b);

/* ---- request_batch.c ---- */
int prepare_batch_open(struct request *r);
int prepare_batch_add(struct request *r);
void batch_rows_free(struct request *r);
request_step answer_batch_open, answer_batch_add, answer_batch_seal, answer_batch_status, answer_batch_list, answer_batch_results,
	answer_batch_cancel, answer_batch_retry, answer_batch_close;

#endif
