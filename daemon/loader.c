/* loader.c: two lists of loads, one of dropped versions, and a thread of low rank between them. */
#include "config.h"
#include "loader.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

/* The engine's threads stand at 5 (loop.c): against them this comes to a tenth of a CPU. */
enum { LOADER_NICE = 15 };

struct loads { /* a queue */
	struct adapter_load *first, **last;
};

struct loader {
	pthread_t thread;
	pthread_mutex_t lock; /* of all below */
	pthread_cond_t more;
	struct loads todo, done;
	struct adapter_version *dropped;
	bool stop;
	void (*wake)(void *arg);
	void *arg;
};

static void put(struct loads *q, struct adapter_load *load)
{
	load->next = NULL;
	*q->last = load;
	q->last = &load->next;
}

static struct adapter_load *get(struct loads *q)
{
	struct adapter_load *load = q->first;
	if (load && !(q->first = load->next))
		q->last = &q->first;
	return load;
}

static void stand_back(void)
{
	const struct sched_param none = {0};
	setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + LOADER_NICE); /* of the calling thread, on Linux */
	sched_setscheduler(0, SCHED_BATCH, &none);
}

/* Sleeps until there is work. False: it is time to stop. */
static bool take_work(struct loader *l, struct adapter_load **load, struct adapter_version **dropped)
{
	pthread_mutex_lock(&l->lock);
	while (!l->stop && !l->todo.first && !l->dropped)
		pthread_cond_wait(&l->more, &l->lock);
	bool go_on = !l->stop;
	*load = go_on ? get(&l->todo) : NULL;
	*dropped = l->dropped;
	l->dropped = NULL;
	pthread_mutex_unlock(&l->lock);
	return go_on;
}

static void hand_back(struct loader *l, struct adapter_load *load)
{
	pthread_mutex_lock(&l->lock);
	put(&l->done, load);
	pthread_mutex_unlock(&l->lock);
	l->wake(l->arg);
}

static void *loader_main(void *arg)
{
	struct loader *l = arg;
	struct adapter_load *load;
	struct adapter_version *dropped;
	bool go_on;
	stand_back();
	do {
		go_on = take_work(l, &load, &dropped);
		adapter_versions_free(dropped); /* first: the load may want the memory */
		if (load) {
			adapter_load_run(load);
			hand_back(l, load);
		}
	} while (go_on);
	return NULL;
}

int loader_new(struct loader **out, void (*wake)(void *arg), void *arg)
{
	struct loader *l = calloc(1, sizeof *l);
	sigset_t all, old;
	if (!l)
		return -1;
	l->todo.last = &l->todo.first;
	l->done.last = &l->done.first;
	l->wake = wake;
	l->arg = arg;
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->more, NULL);
	sigfillset(&all); /* signals are the loop's */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int rc = pthread_create(&l->thread, NULL, loader_main, l);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc) {
		pthread_cond_destroy(&l->more);
		pthread_mutex_destroy(&l->lock);
		free(l);
		return -1;
	}
	pthread_setname_np(l->thread, "weft-loader");
	*out = l;
	return 0;
}

static void drop_all(struct loads *q)
{
	struct adapter_load *load;
	while ((load = get(q)))
		adapter_load_free(load);
}

void loader_free(struct loader *l)
{
	if (!l)
		return;
	pthread_mutex_lock(&l->lock);
	l->stop = true;
	pthread_cond_signal(&l->more);
	pthread_mutex_unlock(&l->lock);
	pthread_join(l->thread, NULL);
	drop_all(&l->todo);
	drop_all(&l->done);
	pthread_cond_destroy(&l->more);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

void loader_submit(struct loader *l, struct adapter_load *load)
{
	pthread_mutex_lock(&l->lock);
	put(&l->todo, load);
	pthread_cond_signal(&l->more);
	pthread_mutex_unlock(&l->lock);
}

struct adapter_load *loader_take(struct loader *l)
{
	pthread_mutex_lock(&l->lock);
	struct adapter_load *load = get(&l->done);
	pthread_mutex_unlock(&l->lock);
	return load;
}

void loader_drop(struct loader *l, struct adapter_version *list)
{
	struct adapter_version *last = list;
	while (last->next)
		last = last->next;
	pthread_mutex_lock(&l->lock);
	last->next = l->dropped;
	l->dropped = list;
	pthread_cond_signal(&l->more);
	pthread_mutex_unlock(&l->lock);
}
