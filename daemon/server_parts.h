/* server_parts.h: what the files of the server share. Private to server*.c. [loop]
 *
 *   server.c          the end of a job, listeners, the server's own state, begin and end
 *   server_accept.c   from a draft to a job: room to wait, adapters, deadlines
 *   server_run.c      who runs next, who makes room, and what engine and tasks say of those that run
 *   server_durable.c  jobs of the store: kept, claimed, brought back to life, given away */
#ifndef WEFT_DAEMON_SERVER_PARTS_H
#define WEFT_DAEMON_SERVER_PARTS_H

#include "server.h"

static inline struct job *job_of(struct deadline *d, size_t offset)
{
	return (struct job *)((char *)d - offset);
}

static inline int64_t now_ms(void)
{
	return clock_now() / 1000000;
}

/* ---- server.c ---- */

/* The one place where jobs end. code and reason: of a failure. Forgetting is left to the deadlines, so callers may go on using j.
 */
void server_conclude(struct server *s, struct job *j, enum job_state state, const char *code, const char *reason);
enum job_state server_end_state(enum job_why why);
void server_stop_loading(struct server *s, struct job *j); /* it does not wait for adapters any more */
struct queue *server_queue_of(struct server *s, const struct job *j);
void server_drop_task(struct job *j);
void server_count_durable(struct server *s, const struct job *j, int by);
void server_on_deadline(struct deadline *d, void *arg);
void server_on_patience(struct deadline *d, void *arg);
void server_on_gone(struct deadline *d, void *arg); /* of a topic without listeners */

/* ---- server_accept.c ---- */

uint32_t server_weigh(struct server *s, struct draft *d);                                     /* pages that it may come to hold */
int server_judge(struct server *s, const struct draft *d, uint32_t pages, struct problem *p); /* may it wait at all? */
const char *server_full(const struct server *s, const struct draft *d); /* the bound that it would break; NULL: none */
void server_fill(struct server *s, struct job *j, struct draft *d, const char *identity, uint32_t pages, int64_t now);
int server_arm(struct server *s, struct job *j, const struct draft *d,
	       int64_t now); /* topic, deadlines, queue; -1: out of memory, undone */
int server_take_adapters(struct server *s, struct job *j, struct draft *d, struct engine_job *work, struct problem *p);
bool server_other_blend(const struct job *j); /* than the one that it was accepted with */
void server_fail_blend(struct server *s, struct job *j);
void server_on_adapters(void *arg, struct adapter_use *use, const struct core_error *failed);
void server_take_work(struct job *j, struct draft *d);
struct job *server_make(struct server *s, struct draft *d, const char *identity, uint32_t pages, bool pin, struct problem *p);
void server_note_accepted(struct server *s, const struct job *j);

/* ---- server_run.c ---- */

void server_start_next(struct server *s); /* starts what fits, in the order of ranks */
void server_submit(struct server *s, struct job *j);
void server_release(struct server *s, struct job *j);  /* its slot and pages */
void server_put_down(struct server *s, struct job *j); /* out of the queue */
void server_park(struct server *s, struct job *j);

/* ---- server_durable.c ---- */

void server_start_over(struct job *j); /* what was said again does not count twice */

#endif
