/* core_pool.c: every part runs once, whoever comes late, and idle workers let the CPU go. */
#include <stdatomic.h>
#include <time.h>

#include "core_test.h"
#include "kernels/pool.h"

enum { PARTS = 500 };

struct tally {
	struct pool *pool;
	_Atomic unsigned done[PARTS];
	_Atomic unsigned nested;
};

static void count(void *arg, uint32_t i)
{
	atomic_fetch_add(&((struct tally *)arg)->done[i], 1);
}

static void every_part_runs_exactly_once(void **state)
{
	for (int threads = 1; threads <= 5; threads++) {
		static struct tally t;
		struct pool *p = NULL;

		memset(&t, 0, sizeof(t));
		must(pool_new(&p, threads, &why));
		assert_int_equal(pool_threads(p), threads);
		for (unsigned run = 1; run <= 400; run++) {
			uint32_t n = run % 7 ? run % PARTS : PARTS;
			unsigned before = 0, after = 0;

			for (int i = 0; i < PARTS; i++)
				before += t.done[i];
			pool_run(p, count, &t, n);
			for (int i = 0; i < PARTS; i++)
				after += t.done[i];
			assert_int_equal(after - before, n);
		}
		pool_free(p);
	}
}

/* Runs so short that workers find them closed: none may run a part of the wrong run, or keep the caller waiting. */
static void workers_that_come_too_late_do_no_harm(void **state)
{
	static struct tally t[2];
	struct pool *p = NULL;

	must(pool_new(&p, 4, &why));
	for (unsigned run = 0; run < 40000; run++)
		pool_run(p, count, &t[run % 2], 2 + run % 3);
	for (int k = 0; k < 2; k++)
		for (int i = 0; i < 2; i++)
			assert_int_equal(t[k].done[i], 20000);
	pool_free(p);
}

static void count_nested(void *arg, uint32_t i)
{
	atomic_fetch_add(&((struct tally *)arg)->nested, 1);
}

static void run_inside(void *arg, uint32_t i)
{
	pool_run(((struct tally *)arg)->pool, count_nested, arg, 3);
}

static void a_run_inside_a_part_runs_on_the_spot(void **state)
{
	static struct tally t;

	must(pool_new(&t.pool, 3, &why));
	for (int run = 0; run < 50; run++)
		pool_run(t.pool, run_inside, &t, 20);
	assert_int_equal(t.nested, 50 * 20 * 3);
	pool_free(t.pool);
}

static double clock_seconds(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* CPU time of all threads but this one, over 20 ms of this thread's watching. */
static double others_cpu_in_a_window(void)
{
	double begin = clock_seconds(CLOCK_MONOTONIC),
	       cpu = clock_seconds(CLOCK_PROCESS_CPUTIME_ID) - clock_seconds(CLOCK_THREAD_CPUTIME_ID);

	while (clock_seconds(CLOCK_MONOTONIC) - begin < 0.02)
		;
	return clock_seconds(CLOCK_PROCESS_CPUTIME_ID) - clock_seconds(CLOCK_THREAD_CPUTIME_ID) - cpu;
}

static void idle_workers_sleep_and_wake_for_the_next_run(void **state)
{
	static struct tally t;
	struct pool *p = NULL;
	double deadline = clock_seconds(CLOCK_MONOTONIC) + 30;

	must(pool_new(&p, 4, &why));
	for (int round = 0; round < 3; round++) {
		pool_run(p, count, &t, PARTS);
		while (others_cpu_in_a_window() > 0.001)
			assert_true(clock_seconds(CLOCK_MONOTONIC) < deadline);
	}
	for (int i = 0; i < PARTS; i++)
		assert_int_equal(t.done[i], 3);
	pool_free(p);
}

static void impossible_numbers_of_threads_are_refused(void **state)
{
	struct pool *p = NULL;

	assert_int_equal(pool_new(&p, -1, &why), CORE_EINVAL);
	assert_int_equal(pool_new(&p, 100000, &why), CORE_EINVAL);
	must(pool_new(&p, 0, &why));
	assert_true(pool_threads(p) >= 1);
	pool_free(p);
	pool_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_part_runs_exactly_once),
		cmocka_unit_test(workers_that_come_too_late_do_no_harm),
		cmocka_unit_test(a_run_inside_a_part_runs_on_the_spot),
		cmocka_unit_test(idle_workers_sleep_and_wake_for_the_next_run),
		cmocka_unit_test(impossible_numbers_of_threads_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
