/* task.c: a thread, a lock, and what goes through it. */
#include "config.h"
#include "task.h"
#include "deadline.h"
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { TASK_NICE = 19 };
#define PROGRESS_EVERY_NS 100000000

struct task {
	const struct task_kind *kind;
	void *arg;
	struct tasks *room; /* while it runs */
	uint64_t job;
	pthread_t thread;
	TAILQ_ENTRY(task) link;
	atomic_bool cancelled;
	struct problem problem; /* the thread's until its end */
	struct wire_buf result; /* likewise */
	pthread_mutex_t lock;   /* of all that follows */
	pthread_cond_t over;
	bool ended;
	int rc;
	bool unsaid;     /* progress that the loop has not taken */
	int64_t said_at; /* when the loop was woken for progress last */
	uint64_t done, total;
	void *detail;
	size_t detail_len;
};

struct task *task_new(const struct task_kind *kind, void *arg)
{
	struct task *t = calloc(1, sizeof *t);
	pthread_condattr_t monotonic;
	if (!t) {
		kind->free(arg);
		return NULL;
	}
	t->kind = kind;
	t->arg = arg;
	wire_buf_init(&t->result);
	pthread_mutex_init(&t->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&t->over, &monotonic);
	pthread_condattr_destroy(&monotonic);
	return t;
}

void task_free(struct task *t)
{
	if (!t)
		return;
	t->kind->free(t->arg);
	wire_buf_finish(&t->result);
	pthread_mutex_destroy(&t->lock);
	pthread_cond_destroy(&t->over);
	free(t->detail);
	free(t);
}

/* ---- on the thread ---- */

bool task_cancelled(const struct task *t)
{
	return atomic_load_explicit(&t->cancelled, memory_order_relaxed);
}

void task_progress(struct task *t, uint64_t done, uint64_t total, const struct wire_buf *detail)
{
	size_t len = detail && !detail->failed ? detail->out.size : 0;
	void *copy = len ? malloc(len) : NULL, *old;
	int64_t now = clock_now();
	bool wake;
	if (copy)
		memcpy(copy, detail->out.data, len);
	pthread_mutex_lock(&t->lock);
	t->unsaid = true;
	t->done = done;
	t->total = total;
	old = t->detail;
	t->detail = copy;
	t->detail_len = copy ? len : 0;
	wake = !t->said_at || now - t->said_at >= PROGRESS_EVERY_NS;
	if (wake)
		t->said_at = now;
	pthread_mutex_unlock(&t->lock);
	free(old);
	if (wake)
		t->room->wake(t->room->arg);
}

void *task_arg(const struct task *t)
{
	return t->arg;
}

struct wire_buf *task_result(struct task *t)
{
	return &t->result;
}

int task_fail(struct task *t, enum wire_code code, const char *fmt, ...)
{
	char text[sizeof t->problem.text];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	return problem_set(&t->problem, code, NULL, "%s", text);
}

/* Whatever else wants a CPU goes first; on Linux both calls are about the calling thread alone. */
static void step_back(void)
{
	enum { WHO_PROCESS = 1, CLASS_IDLE = 3 << 13 };
	setpriority(PRIO_PROCESS, 0, TASK_NICE);
#ifdef SYS_ioprio_set
	syscall(SYS_ioprio_set, WHO_PROCESS, 0, CLASS_IDLE);
#endif
}

static void *thread_main(void *arg)
{
	struct task *t = arg;
	struct tasks *room = t->room; /* t may be gone when its end has been taken */
	void (*wake)(void *arg) = room->wake;
	void *wake_arg = room->arg;
	step_back();
	int rc = t->kind->run(t, t->arg);
	if (rc && t->problem.code == WIRE_OK)
		task_fail(t, WIRE_INTERNAL, "%s ended without a reason", t->kind->op);
	pthread_mutex_lock(&t->lock);
	t->ended = true;
	t->rc = rc ? -1 : 0;
	pthread_cond_signal(&t->over);
	pthread_mutex_unlock(&t->lock);
	wake(wake_arg);
	return NULL;
}

/* ---- on the loop ---- */

void tasks_init(struct tasks *room)
{
	TAILQ_INIT(&room->running);
	room->n = room->n_leaving = 0;
}

int task_start(struct tasks *room, struct task *t, uint64_t job)
{
	sigset_t all, old;
	t->room = room;
	t->job = job;
	sigfillset(&all); /* signals are the loop's */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int rc = pthread_create(&t->thread, NULL, thread_main, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc)
		return -1;
	TAILQ_INSERT_TAIL(&room->running, t, link);
	room->n++;
	return 0;
}

void task_cancel(struct task *t)
{
	atomic_store(&t->cancelled, true);
}

static bool has_news(struct task *t)
{
	pthread_mutex_lock(&t->lock);
	bool news = t->unsaid || t->ended;
	pthread_mutex_unlock(&t->lock);
	return news;
}

struct task *tasks_news(struct tasks *room)
{
	struct task *t;
	TAILQ_FOREACH(t, &room->running, link)
	if (has_news(t))
		return t;
	return NULL;
}

uint64_t task_job(const struct task *t)
{
	return t->job;
}

bool task_take_progress(struct task *t, uint64_t *done, uint64_t *total, void **detail, size_t *len)
{
	pthread_mutex_lock(&t->lock);
	bool unsaid = t->unsaid;
	t->unsaid = false;
	*done = t->done;
	*total = t->total;
	*detail = t->detail;
	*len = t->detail_len;
	t->detail = NULL;
	t->detail_len = 0;
	pthread_mutex_unlock(&t->lock);
	return unsaid;
}

/* A thread that has said its end may still wait for a CPU, behind all that goes first: the loop does not wait with it. */
static void part_from(struct tasks *room, pthread_t thread)
{
	for (unsigned i = 0; i < room->n_leaving;)
		if (pthread_tryjoin_np(room->leaving[i], NULL) == 0)
			room->leaving[i] = room->leaving[--room->n_leaving];
		else
			i++;
	if (pthread_tryjoin_np(thread, NULL) == 0)
		return;
	if (room->n_leaving < TASKS_LEAVING)
		room->leaving[room->n_leaving++] = thread;
	else
		pthread_join(thread, NULL);
}

static void leave_room(struct tasks *room, struct task *t)
{
	part_from(room, t->thread);
	TAILQ_REMOVE(&room->running, t, link);
	room->n--;
	t->room = NULL;
}

bool task_take_end(struct tasks *room, struct task *t, int *rc)
{
	pthread_mutex_lock(&t->lock);
	bool ended = t->ended;
	*rc = t->rc;
	pthread_mutex_unlock(&t->lock);
	if (ended)
		leave_room(room, t);
	return ended;
}

int task_settle(struct task *t, struct server *s)
{
	int rc = t->kind->settle ? t->kind->settle(t, t->arg, s) : 0;
	if (rc && t->problem.code == WIRE_OK)
		task_fail(t, WIRE_INTERNAL, "%s ended without a reason", t->kind->op);
	return rc;
}

const char *task_op(const struct task *t)
{
	return t->kind->op;
}

const struct problem *task_problem(const struct task *t)
{
	return &t->problem;
}

const void *task_result_data(const struct task *t, size_t *len)
{
	*len = t->result.out.size;
	return *len && !t->result.failed ? t->result.out.data : NULL;
}

bool tasks_stop(struct tasks *room, int64_t ms)
{
	int64_t until = clock_after(clock_now(), (uint64_t)ms);
	const struct timespec at = {.tv_sec = until / 1000000000, .tv_nsec = until % 1000000000};
	struct task *t, *next;
	TAILQ_FOREACH(t, &room->running, link)
	task_cancel(t);
	for (t = TAILQ_FIRST(&room->running); t; t = next) {
		next = TAILQ_NEXT(t, link);
		int late = 0;
		pthread_mutex_lock(&t->lock);
		while (!t->ended && !late)
			late = pthread_cond_timedwait(&t->over, &t->lock, &at);
		bool ended = t->ended;
		pthread_mutex_unlock(&t->lock);
		if (ended)
			leave_room(room, t);
	}
	while (room->n_leaving > 0)
		pthread_join(room->leaving[--room->n_leaving], NULL);
	return room->n == 0;
}
