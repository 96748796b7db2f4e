/* task.h: jobs that decode nothing: work of minutes or hours, each on a thread of its own and of the lowest rank, beside loop and
 * engine, which never wait for it.
 *
 * To clients a task is a job like any other: a number, an owner, events without a gap, one end. The server queues, starts, cancels
 * and ends it; here is what runs it. A new kind of task is one struct task_kind. The `prepare` of its op judges the fields, and
 * puts task_new(kind, arg) and the effective options into the draft (draft.h); from there the way is the same for all kinds:
 *
 *     [loop]   it waits in server.task_queue, by rank; max_tasks run at once
 *     [task]   kind->run      the work; it tells of its progress, and asks whether it was cancelled
 *     [loop]   kind->settle   the server takes over what was made
 *     [loop]   the done event, with the result; kind->free
 *
 * The thread and the loop share nothing else but what task_progress() and the return of run() hand over under the task's lock. */
#ifndef WEFT_DAEMON_TASK_H
#define WEFT_DAEMON_TASK_H

#include "problem.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

struct task;
struct server;

struct task_kind {
	const char *op; /* of the request that makes it: "adapter.fuse" */
	/* [task] The work. 0, or -1 after task_fail(). Asks task_cancelled() between pieces of work that are well below a second,
	 * and once that is true returns -1 soon, leaving nothing behind. May block. */
	int (*run)(struct task *t, void *arg);
	/* [loop] After a run that returned 0, before the done event is written: 0, or -1 after task_fail(). NULL: nothing to do. */
	int (*settle)(struct task *t, void *arg, struct server *s);
	void (*free)(void *arg); /* [loop, or whoever prepares the request] */
};

/* ---- for a kind ---- */

struct task *task_new(const struct task_kind *kind, void *arg); /* takes arg; NULL: out of memory, arg is freed */
bool task_cancelled(const struct task *t);                      /* [any thread] */
/* [task] Any number of times: the loop publishes some ten a second and always the last one. detail: one msgpack map that stands in
 * the event as `detail`, copied; NULL: none. */
void task_progress(struct task *t, uint64_t done, uint64_t total, const struct wire_buf *detail);
/* [task, settle] What stands in the done event as `result`: the kind writes one map into it. Nothing written: there is none. */
struct wire_buf *task_result(struct task *t);
void *task_arg(const struct task *t);
/* [task, settle] Why it failed; returns -1. */
int task_fail(struct task *t, enum wire_code code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* ---- for the server [loop] ---- */

enum { TASKS_LEAVING = 16 };
struct tasks { /* those that run */
	TAILQ_HEAD(task_list, task) running;
	size_t n;
	pthread_t leaving[TASKS_LEAVING]; /* threads that have said their end and are not yet gone */
	unsigned n_leaving;
	void (*wake)(void *arg); /* [task] there is news */
	void *arg;
};
void tasks_init(struct tasks *room);                              /* wake and arg are the caller's */
int task_start(struct tasks *room, struct task *t, uint64_t job); /* -1: no thread */
void task_cancel(struct task *t);
/* A running task that has something to say; NULL: none. */
struct task *tasks_news(struct tasks *room);
uint64_t task_job(const struct task *t);
/* Progress that was not taken yet: false if there is none. *detail is the caller's to free; NULL: none. */
bool task_take_progress(struct task *t, uint64_t *done, uint64_t *total, void **detail, size_t *len);
/* Has run() returned? Then the task is out of the room, its thread is joined now or later, and *rc is what run() returned. */
bool task_take_end(struct tasks *room, struct task *t, int *rc);
int task_settle(struct task *t, struct server *s);
const char *task_op(const struct task *t);
const struct problem *task_problem(const struct task *t);
const void *task_result_data(const struct task *t, size_t *len); /* NULL: none was written, or memory ran out */
void task_free(struct task *t);                                  /* not while it runs; NULL is fine */
/* Cancels all and waits for their ends, at most so long. false: some still run, and the process must end without them. */
bool tasks_stop(struct tasks *room, int64_t ms);

#endif
