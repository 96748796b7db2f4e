/* The room of tasks: what a kind can rely on, and what the loop sees of it. */
#include "unit.h"
#include "daemon/bell.h"
#include "daemon/task.h"
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/resource.h>
#include <unistd.h>

enum { DEADLINE_MS = 60000 };

struct work { /* what the kinds below are given */
	pthread_t loop;
	bool own_thread;
	int nice;
	uint64_t steps;
	sem_t started, go;
	bool freed;
};

static struct bell bell; /* the loop's */

static void ring(void *arg)
{
	bell_ring(&bell);
}

static void wait_for_bell(void)
{
	struct pollfd p = {.fd = bell_fd(&bell), .events = POLLIN};
	assert_int_equal(poll(&p, 1, DEADLINE_MS), 1);
	bell_hear(&bell);
}

static void set_free(void *arg)
{
	((struct work *)arg)->freed = true;
}

static struct tasks *open_room(struct tasks *room)
{
	*room = (struct tasks){.wake = ring};
	tasks_init(room);
	return room;
}

static void init_work(struct work *w)
{
	*w = (struct work){.loop = pthread_self()};
	sem_init(&w->started, 0, 0);
	sem_init(&w->go, 0, 0);
}

/* Waits for the end; the progress on the way is counted, and the last of it kept. */
static int follow(struct tasks *room, struct task *t, unsigned *times, uint64_t *done, bool *detailed)
{
	int rc;
	*times = 0;
	for (;;) {
		struct task *with_news;
		wait_for_bell();
		while ((with_news = tasks_news(room))) {
			uint64_t now, total;
			void *detail;
			size_t len;
			assert_ptr_equal(with_news, t);
			if (task_take_progress(t, &now, &total, &detail, &len)) {
				assert_true(*times == 0 || now > *done);
				*done = now;
				*detailed = detail && len == 1 && *(unsigned char *)detail == 0x80;
				++*times;
			}
			free(detail);
			if (task_take_end(room, t, &rc))
				return rc;
		}
	}
}

static int count(struct task *t, void *arg)
{
	struct work *w = arg;
	struct wire_buf empty;
	w->own_thread = !pthread_equal(pthread_self(), w->loop);
	w->nice = getpriority(PRIO_PROCESS, 0);
	wire_buf_init(&empty);
	wire_map(&empty, 0);
	for (uint64_t i = 1; i <= w->steps; i++)
		task_progress(t, i, w->steps, &empty);
	wire_buf_finish(&empty);
	wire_map(task_result(t), 1);
	wire_str(task_result(t), "steps");
	wire_uint(task_result(t), w->steps);
	return 0;
}

static void it_has_a_thread_of_the_lowest_rank_and_its_last_progress_is_never_lost(void **state)
{
	static const struct task_kind kind = {.op = "count", .run = count, .free = set_free};
	struct tasks room;
	struct work w;
	struct wire_msg result;
	unsigned times;
	uint64_t done = 0, steps;
	bool detailed = false;
	const char *why;
	size_t len;
	init_work(&w);
	w.steps = 100000;
	struct task *t = task_new(&kind, &w);
	assert_string_equal(task_op(t), "count");
	assert_int_equal(task_start(open_room(&room), t, 77), 0);
	assert_int_equal(task_job(t), 77);
	assert_int_equal(follow(&room, t, &times, &done, &detailed), 0);
	assert_int_equal(done, w.steps);
	assert_true(detailed);
	assert_true(times < w.steps); /* some are left out, and no bell was rung for each */
	assert_true(w.own_thread);
	assert_int_equal(w.nice, 19);
	assert_true(getpriority(PRIO_PROCESS, 0) < 19);
	assert_int_equal(room.n, 0);
	assert_null(tasks_news(&room));
	const void *data = task_result_data(t, &len);
	assert_int_equal(wire_decode(&result, data, len, &why), 0);
	assert_true(wire_get_uint(wire_get(&result.root, "steps"), &steps) && steps == w.steps);
	wire_finish(&result);
	task_free(t);
	assert_true(w.freed);
}

static int until_cancelled(struct task *t, void *arg)
{
	struct work *w = arg;
	sem_post(&w->started);
	while (!task_cancelled(t))
		sched_yield();
	return task_fail(t, WIRE_UNSUPPORTED, "told to stop");
}

static void it_can_be_cancelled_and_says_why_it_failed(void **state)
{
	static const struct task_kind kind = {.op = "wait", .run = until_cancelled, .free = set_free};
	struct tasks room;
	struct work w;
	unsigned times;
	uint64_t done;
	bool detailed;
	init_work(&w);
	struct task *t = task_new(&kind, &w);
	assert_int_equal(task_start(open_room(&room), t, 1), 0);
	sem_wait(&w.started);
	assert_null(tasks_news(&room));
	task_cancel(t);
	assert_int_equal(follow(&room, t, &times, &done, &detailed), -1);
	assert_int_equal(times, 0);
	assert_int_equal(task_problem(t)->code, WIRE_UNSUPPORTED);
	assert_string_equal(task_problem(t)->text, "told to stop");
	task_free(t);
}

static int fail_in_silence(struct task *t, void *arg)
{
	return -1;
}

static void a_failure_without_a_reason_gets_one(void **state)
{
	static const struct task_kind kind = {.op = "mute", .run = fail_in_silence, .free = set_free};
	struct tasks room;
	struct work w;
	unsigned times;
	uint64_t done;
	bool detailed;
	size_t len;
	init_work(&w);
	struct task *t = task_new(&kind, &w);
	assert_int_equal(task_start(open_room(&room), t, 1), 0);
	assert_int_equal(follow(&room, t, &times, &done, &detailed), -1);
	assert_int_equal(task_problem(t)->code, WIRE_INTERNAL);
	assert_true(task_problem(t)->text[0]);
	assert_null(task_result_data(t, &len));
	task_free(t);
}

static int deaf(struct task *t, void *arg)
{
	struct work *w = arg;
	sem_post(&w->started);
	sem_wait(&w->go);
	return 0;
}

static void stopping_waits_for_those_that_end_and_tells_of_those_that_do_not(void **state)
{
	static const struct task_kind kinds[] = {{.op = "wait", .run = until_cancelled, .free = set_free},
						 {.op = "deaf", .run = deaf, .free = set_free}};
	struct tasks room;
	struct work w[2];
	struct task *t[2];
	open_room(&room);
	for (int i = 0; i < 2; i++) {
		init_work(&w[i]);
		t[i] = task_new(&kinds[i], &w[i]);
		assert_int_equal(task_start(&room, t[i], i + 1), 0);
		sem_wait(&w[i].started);
	}
	assert_int_equal(room.n, 2);
	assert_false(tasks_stop(&room, 200));
	assert_int_equal(room.n, 1);
	sem_post(&w[1].go);
	assert_true(tasks_stop(&room, DEADLINE_MS));
	assert_true(tasks_stop(&room, 0));
	for (int i = 0; i < 2; i++) {
		task_free(t[i]);
		assert_true(w[i].freed);
	}
}

/* As a thread does that loses its CPU right there. */
static void ring_and_stay(void *arg)
{
	bell_ring(&bell);
	sem_wait(arg);
}

static void its_end_is_taken_while_its_thread_is_still_on_its_way_out(void **state)
{
	static const struct task_kind kind = {.op = "count", .run = count, .free = set_free};
	sem_t out;
	struct tasks room = {.wake = ring_and_stay, .arg = &out};
	struct work w;
	int rc;
	init_work(&w);
	w.steps = 0;
	sem_init(&out, 0, 0);
	tasks_init(&room);
	struct task *t = task_new(&kind, &w);
	assert_int_equal(task_start(&room, t, 1), 0);
	wait_for_bell();
	alarm(DEADLINE_MS / 1000); /* whoever waits for the thread waits for ever */
	assert_true(task_take_end(&room, t, &rc));
	assert_int_equal(room.n, 0);
	task_free(t);
	assert_true(w.freed);
	sem_post(&out);
	assert_true(tasks_stop(&room, DEADLINE_MS));
	assert_int_equal(room.n_leaving, 0);
	alarm(0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_has_a_thread_of_the_lowest_rank_and_its_last_progress_is_never_lost),
		cmocka_unit_test(it_can_be_cancelled_and_says_why_it_failed),
		cmocka_unit_test(a_failure_without_a_reason_gets_one),
		cmocka_unit_test(its_end_is_taken_while_its_thread_is_still_on_its_way_out),
		cmocka_unit_test(stopping_waits_for_those_that_end_and_tells_of_those_that_do_not),
	};
	if (bell_open(&bell))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
