/* The bell: rings are heard, are not lost between hearing and looking, and hold up nobody. */
#include "unit.h"
#include "daemon/bell.h"
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

enum { DEADLINE_MS = 60000, RINGS = 200000, RINGERS = 4 };

static bool rung(const struct bell *b, int ms)
{
	struct pollfd p = {.fd = bell_fd(b), .events = POLLIN};
	return poll(&p, 1, ms) == 1;
}

static void any_number_of_rings_is_heard_once_and_none_blocks(void **state)
{
	struct bell b;
	assert_int_equal(bell_open(&b), 0);
	assert_false(rung(&b, 0));
	for (int i = 0; i < RINGS; i++) /* more than a pipe holds */
		bell_ring(&b);
	assert_true(rung(&b, 0));
	bell_hear(&b);
	assert_false(rung(&b, 0));
	bell_ring(&b);
	assert_true(rung(&b, 0));
	bell_close(&b);
}

struct counter {
	struct bell bell;
	atomic_uint n;
};

static void *count_up(void *arg)
{
	struct counter *c = arg;
	for (int i = 0; i < RINGS; i++) {
		atomic_fetch_add(&c->n, 1);
		bell_ring(&c->bell);
	}
	return NULL;
}

static void what_was_done_before_a_ring_is_seen_after_hearing_it(void **state)
{
	struct counter c = {.n = 0};
	pthread_t thread[RINGERS];
	unsigned seen = 0;
	assert_int_equal(bell_open(&c.bell), 0);
	for (int i = 0; i < RINGERS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, count_up, &c), 0);
	while (seen < RINGERS * RINGS) {
		assert_true(rung(&c.bell, DEADLINE_MS)); /* a lost ring would end here */
		bell_hear(&c.bell);
		seen = atomic_load(&c.n);
	}
	for (int i = 0; i < RINGERS; i++)
		pthread_join(thread[i], NULL);
	bell_close(&c.bell);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_number_of_rings_is_heard_once_and_none_blocks),
		cmocka_unit_test(what_was_done_before_a_ring_is_seen_after_hearing_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
