/* request.h: one request from its bytes to its reply.
 *
 *      bytes -> request_prepare() [any thread] decode, find the op, judge the fields, tokenise
 *            -> request_look()    [any thread] what is in the adapters' folders; may block
 *            -> request_answer()  [loop]       do it, write the reply
 *
 * Small requests are prepared on the loop, large ones on a worker thread: preparing reads only what the request was made with.
 * Those that must look into folders (request_looks) do so on a worker thread, whatever their size. */
#ifndef WEFT_DAEMON_REQUEST_H
#define WEFT_DAEMON_REQUEST_H

#include "blend_file.h"
#include "server.h"

struct op;
struct request {
	struct draft_env env; /* a copy; env.plugins is a reference of the request's own */
	char identity[IDENTITY_LEN + 1];
	const struct adapters *adapters; /* of them only the folders and the names of blends, which do not change */
	const void *data;                /* [size], borrowed: must outlive the request */
	size_t size;
	struct wire_msg msg;
	bool decoded;
	const msgpack_object *id; /* NULL: unknown */
	const struct op *op;
	struct problem problem;         /* code WIRE_OK: none so far */
	struct draft draft;             /* generate, score */
	struct adapter_sight seen;      /* adapter.load, adapter.unload */
	struct adapter_listing listing; /* adapters */
	struct blend_listing blends;    /* likewise */
	int32_t *tokens;                /* tokenize, detokenize */
	size_t n_tokens;
	char *text; /* detokenize */
	size_t text_len;
	struct store_new *rows; /* [n_rows] of batch.add; owned, with what they point to */
	size_t n_rows;
	/* An answer that waits for the store. */
	bool waiting;
	int (*step)(struct request *r, struct server *s, struct wire_buf *b); /* how it goes on */
	struct store_op *result;                                              /* what it waited for; owned */
	uint64_t job;                                                         /* a durable one on its way into the store */
	bool held;
	uint64_t count;                   /* of steps that are repeated */
	void (*ready)(struct request *r); /* [loop] request_answer() may be called again */
};
enum { REQUEST_SMALL = 4096 }; /* bytes: at most this much is prepared on the loop (well below a millisecond) */

void request_init(struct request *r, struct server *s, const char *identity, const void *data, size_t size); /* [loop] */
void request_prepare(struct request *r);
bool request_looks(const struct request *r); /* prepared, without a problem, and not complete without request_look */
void request_look(struct request *r);        /* nothing to do: fine */
/* False: it waits for the store; r->ready tells when to call again. r must stay where it is. */
bool request_answer(struct request *r, struct server *s, struct wire_buf *reply);
void request_finish(struct request *r); /* [loop] */

#endif
