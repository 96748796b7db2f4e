/* pool.c: one word holds the state of the current run.
 *
 *     gate = generation << 32 | OPEN | workers inside
 *
 *   caller: publish fn, arg and shares -> gate = (generation + 1, OPEN, 0) -> wake sleepers -> take parts -> clear OPEN
 *           -> wait for inside == 0
 *   worker: sees OPEN with a generation it has not served -> inside + 1 by compare-and-swap -> take parts -> inside - 1
 *
 * The swap fails once the caller has closed the run, so a late worker never touches the fields of a run that is over, and the
 * caller waits only for workers that are in fact inside. */
#include "config.h"
#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#define OPEN (UINT64_C(1) << 31)
#define INSIDE (OPEN - 1)
enum { SPINS = 4000, THREADS_MAX = 1024 };	/* SPINS: some tens of microseconds */

/* Parts of one thread's share of a run. Shares are contiguous, so that a thread walks through memory in order; who is done
 * with its own goes on with those of others. */
struct share {
	_Atomic uint32_t next;
	uint32_t end;
} __attribute__((aligned(64)));

struct worker {
	struct pool *pool;
	int index;			/* 1 .. threads - 1; the caller is 0 */
	pthread_t thread;
};

struct pool {
	_Atomic uint64_t gate;
	struct share *share;		/* [threads] */
	pool_fn *fn;
	void *arg;

	_Atomic int sleepers;
	atomic_bool stop;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	int threads, started;
	struct worker *worker;		/* [threads - 1] */
};

static _Thread_local bool inside_run;

static void pause_cpu(unsigned spins)
{
	if (spins % 64 == 63)
		sched_yield();	/* on a crowded machine the thread that we wait for may need this CPU */
#ifdef HAVE_X86
	else
		__builtin_ia32_pause();
#endif
}

static void take_parts(struct pool *p, int self)
{
	uint32_t i;

	inside_run = true;
	for (int k = 0; k < p->threads; k++) {
		struct share *s = &p->share[(self + k) % p->threads];

		while ((i = atomic_fetch_add(&s->next, 1)) < s->end)
			p->fn(p->arg, i);
	}
	inside_run = false;
}

static bool wants_worker(struct pool *p, uint64_t served)
{
	uint64_t gate = atomic_load(&p->gate);

	return (gate & OPEN && gate >> 32 != served) || atomic_load(&p->stop);
}

/* Returns when there is a run to join or the pool stops. */
static void wait_for_run(struct pool *p, uint64_t served)
{
	for (unsigned spins = 0; spins < SPINS; spins++) {
		if (wants_worker(p, served))
			return;
		pause_cpu(spins);
	}
	pthread_mutex_lock(&p->lock);
	atomic_fetch_add(&p->sleepers, 1);	/* before the check below: the caller opens the gate, then reads sleepers */
	while (!wants_worker(p, served))
		pthread_cond_wait(&p->wake, &p->lock);
	atomic_fetch_sub(&p->sleepers, 1);
	pthread_mutex_unlock(&p->lock);
}

static void *worker_main(void *arg)
{
	const struct worker *w = arg;
	struct pool *p = w->pool;
	uint64_t served = 0, gate;

	for (;;) {
		wait_for_run(p, served);
		if (atomic_load(&p->stop))
			return NULL;
		gate = atomic_load(&p->gate);
		while (gate & OPEN && gate >> 32 != served)
			if (atomic_compare_exchange_weak(&p->gate, &gate, gate + 1)) {
				served = gate >> 32;
				take_parts(p, w->index);
				atomic_fetch_sub(&p->gate, 1);
				break;
			}
	}
}

static void wake_all(struct pool *p)
{
	if (!atomic_load(&p->sleepers))
		return;
	pthread_mutex_lock(&p->lock);
	pthread_cond_broadcast(&p->wake);
	pthread_mutex_unlock(&p->lock);
}

void pool_run(struct pool *p, pool_fn *fn, void *arg, uint32_t n)
{
	uint64_t generation;

	if (n <= 1 || p->started == 0 || inside_run) {
		for (uint32_t i = 0; i < n; i++)
			fn(arg, i);
		return;
	}
	p->fn = fn;
	p->arg = arg;
	for (int t = 0; t < p->threads; t++) {
		atomic_store(&p->share[t].next, (uint32_t)((uint64_t)n * (unsigned)t / (unsigned)p->threads));
		p->share[t].end = (uint32_t)((uint64_t)n * (unsigned)(t + 1) / (unsigned)p->threads);
	}
	generation = ((atomic_load(&p->gate) >> 32) + 1) & 0xffffffff;
	atomic_store(&p->gate, generation << 32 | OPEN);
	wake_all(p);
	take_parts(p, 0);
	atomic_fetch_and(&p->gate, ~OPEN);
	for (unsigned spins = 0; atomic_load(&p->gate) & INSIDE; spins++)
		pause_cpu(spins);
}

int pool_threads(const struct pool *p)
{
	return p->threads;
}

int pool_new(struct pool **out, int threads, struct core_error *err)
{
	struct pool *p;
	long online = sysconf(_SC_NPROCESSORS_ONLN);

	if (threads < 0 || threads > THREADS_MAX)
		return core_fail(err, CORE_EINVAL, "threads is %d: expected 0 to %d", threads, THREADS_MAX);
	if (threads == 0)
		threads = online < 1 ? 1 : online > THREADS_MAX ? THREADS_MAX : (int)online;
	p = calloc(1, sizeof(*p));
	if (p) {
		p->worker = calloc((size_t)threads, sizeof(p->worker[0]));
		p->share = aligned_alloc(sizeof(p->share[0]), (size_t)threads * sizeof(p->share[0]));
	}
	if (!p || !p->worker || !p->share) {
		free(p ? p->worker : NULL);
		free(p ? p->share : NULL);
		free(p);
		return core_fail(err, CORE_ENOMEM, "no memory for %d threads", threads);
	}
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wake, NULL);
	p->threads = threads;
	for (; p->started < threads - 1; p->started++) {
		struct worker *w = &p->worker[p->started];

		w->pool = p;
		w->index = p->started + 1;
		if (pthread_create(&w->thread, NULL, worker_main, w)) {
			int got = p->started + 1;

			pool_free(p);
			return core_fail(err, CORE_ENOMEM, "the system gave %d of %d threads", got, threads);
		}
	}
	*out = p;
	return CORE_OK;
}

void pool_free(struct pool *p)
{
	if (!p)
		return;
	atomic_store(&p->stop, true);
	pthread_mutex_lock(&p->lock);
	pthread_cond_broadcast(&p->wake);
	pthread_mutex_unlock(&p->lock);
	for (int i = 0; i < p->started; i++)
		pthread_join(p->worker[i].thread, NULL);
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
	free(p->worker);
	free(p->share);
	free(p);
}
