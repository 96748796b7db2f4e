/* checker.c: one check on its way there, one on its way back, and a thread of the lowest rank between them. */
#include "config.h"
#include "checker.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>

enum { CHECKER_NICE = 19 };

struct checker {
	pthread_t thread;
	atomic_bool stop;
	pthread_mutex_t lock; /* of all below */
	pthread_cond_t more;
	struct adapter_check *todo, *done;
	void (*wake)(void *arg);
	void *arg;
};

static void step_back(void)
{
	const struct sched_param none = {0};
	setpriority(PRIO_PROCESS, 0, CHECKER_NICE); /* of the calling thread, on Linux */
#ifdef SCHED_IDLE
	sched_setscheduler(0, SCHED_IDLE, &none);
#else
	sched_setscheduler(0, SCHED_BATCH, &none);
#endif
}

static bool told_to_stop(void *arg)
{
	struct checker *c = arg;
	return atomic_load(&c->stop);
}

static struct adapter_check *wait_for_work(struct checker *c)
{
	pthread_mutex_lock(&c->lock);
	while (!atomic_load(&c->stop) && !c->todo)
		pthread_cond_wait(&c->more, &c->lock);
	struct adapter_check *check = atomic_load(&c->stop) ? NULL : c->todo;
	if (check)
		c->todo = NULL;
	pthread_mutex_unlock(&c->lock);
	return check;
}

static void *checker_main(void *arg)
{
	struct checker *c = arg;
	struct adapter_check *check;
	step_back();
	while ((check = wait_for_work(c))) {
		const struct core_check_params params = {.seconds = check->seconds, .stop = told_to_stop, .arg = c};
		check->rc = core_check(&check->result, check->model, check->adapter, &params, &check->err);
		pthread_mutex_lock(&c->lock);
		c->done = check;
		pthread_mutex_unlock(&c->lock);
		c->wake(c->arg);
	}
	return NULL;
}

int checker_new(struct checker **out, void (*wake)(void *arg), void *arg)
{
	struct checker *c = calloc(1, sizeof *c);
	sigset_t all, old;
	if (!c)
		return -1;
	c->wake = wake;
	c->arg = arg;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->more, NULL);
	sigfillset(&all); /* signals are the loop's */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int rc = pthread_create(&c->thread, NULL, checker_main, c);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc) {
		pthread_cond_destroy(&c->more);
		pthread_mutex_destroy(&c->lock);
		free(c);
		return -1;
	}
	pthread_setname_np(c->thread, "weft-checker");
	*out = c;
	return 0;
}

void checker_free(struct checker *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	atomic_store(&c->stop, true);
	pthread_cond_signal(&c->more);
	pthread_mutex_unlock(&c->lock);
	pthread_join(c->thread, NULL);
	adapter_check_free(c->todo);
	adapter_check_free(c->done);
	pthread_cond_destroy(&c->more);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

void checker_submit(struct checker *c, struct adapter_check *check)
{
	pthread_mutex_lock(&c->lock);
	c->todo = check;
	pthread_cond_signal(&c->more);
	pthread_mutex_unlock(&c->lock);
}

struct adapter_check *checker_take(struct checker *c)
{
	pthread_mutex_lock(&c->lock);
	struct adapter_check *check = c->done;
	c->done = NULL;
	pthread_mutex_unlock(&c->lock);
	return check;
}
