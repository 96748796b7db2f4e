/* store_kit.h: a store in a temporary folder, and ops that are waited for. */
#ifndef WEFT_TESTS_STORE_KIT_H
#define WEFT_TESTS_STORE_KIT_H

#include "daemon/store.h"
#include <stdio.h>
#include <unistd.h>

struct kit {
	struct store *store;
	char url[1024], owner[64], model[64];
	int64_t lease_ms;
	int wake[2]; /* pipe */
	bool quiet;  /* do not print the store's log */
};

char *kit_folder(void);                                    /* a new temporary folder, removed at exit; malloc'ed */
int kit_open(struct kit *k, char text[static STORE_TEXT]); /* url, owner, model, lease_ms are set */
void kit_close(struct kit *k);
void kit_lease(struct kit *k, int64_t ms); /* opens it again with such leases */
void kit_wait(struct kit *k, int ms);      /* until the store wakes, or the time is over; takes what is done */
void kit_poll(struct kit *k, int ms);      /* the same without taking */
/* Submits and waits (30 s at most); the op stays the caller's, until store_op_free(). */
int kit_run(struct kit *k, struct store_op *op);
struct store_op *kit_op(enum store_kind kind);
void kit_submit(struct kit *k, struct store_op *op);
int kit_wait_for(struct kit *k, struct store_op *op);

/* Shorter forms of usual ops. */
struct store_bytes kit_chunk(int n, const char *const *events); /* malloc'ed */
struct store_bytes kit_bytes(const void *data, size_t len);
uint64_t kit_ids(struct kit *k, uint32_t n);
struct store_new kit_job(uint64_t id);           /* all that must be there, in static texts; of batch class */
int kit_add(struct kit *k, struct store_new *a); /* one; a's out fields are set. The code of the op, or of the job */
struct store_op *kit_claim(struct kit *k, uint32_t interactive, uint32_t batch);
int kit_log(struct kit *k, uint64_t job, uint64_t token, uint32_t from, int n, const char *const *events, int state);
int kit_release(struct kit *k, uint64_t job, uint64_t token, int state);
struct store_op *kit_view(struct kit *k, uint64_t job);
int kit_state(struct kit *k, uint64_t job); /* or a negative code */
int kit_verb(struct kit *k, uint64_t job, const char *identity, enum store_verb verb, int64_t run_at);
struct store_op *kit_events(struct kit *k, uint64_t job, const char *identity, uint32_t from, size_t max_bytes);
struct store_op *kit_batch_op(enum store_kind kind, uint64_t batch); /* of identity "me" */
int kit_batch(struct kit *k, enum store_kind kind, uint64_t batch);  /* its code */

#define CHECK(cond) kit_check(cond, #cond, __FILE__, __LINE__)
#define CHECK_INT(a, b) kit_check_int((long long)(a), (long long)(b), #a " == " #b, __FILE__, __LINE__)
#define CHECK_STR(a, b) kit_check_str(a, b, #a " == " #b, __FILE__, __LINE__)
void kit_check(bool ok, const char *what, const char *file, int line);
void kit_check_int(long long a, long long b, const char *what, const char *file, int line);
void kit_check_str(const char *a, const char *b, const char *what, const char *file, int line);

#endif
