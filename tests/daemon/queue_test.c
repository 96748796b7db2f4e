/* The queue without a loop: ranks, ageing, bounds, room and victims; and the heap of deadlines. */
#include "unit.h"
#include "daemon/deadline.h"
#include "daemon/queue.h"

enum { AGEING = 60000 };

static struct queue_entry entry(uint64_t id, int64_t at, bool batch, uint32_t priority)
{
	return (struct queue_entry){
		.id = id, .rank = queue_rank(at, batch, priority, AGEING), .batch = batch, .pages = 1, .tokens = 10, .bytes = 100};
}

static uint64_t pop(struct queue *q)
{
	struct queue_entry *e = queue_first(q);
	if (!e)
		return 0;
	queue_remove(q, e);
	return e->id;
}

static void interactive_goes_before_batch_and_lower_priority_first(void **state)
{
	struct queue q = {0};
	struct queue_entry e[] = {entry(1, 0, true, 100), entry(2, 1, false, 100), entry(3, 2, false, 0), entry(4, 3, false, 100),
				  entry(5, 4, true, 0)};
	for (int i = 0; i < 5; i++)
		assert_int_equal(queue_push(&q, &e[i]), 0);
	assert_int_equal(queue_ahead(&q, &e[0]), 4);
	const uint64_t want[] = {3, 2, 4, 5, 1, 0};
	for (int i = 0; i < 6; i++)
		assert_int_equal(pop(&q), want[i]);
	queue_finish(&q);
}

static void a_batch_job_that_waited_long_enough_goes_before_new_interactive_ones(void **state)
{
	struct queue q = {0};
	struct queue_entry old = entry(1, 0, true, 100), young = entry(2, AGEING - 1, false, 100),
			   younger = entry(3, AGEING + 1, false, 100);
	queue_push(&q, &younger);
	queue_push(&q, &old);
	queue_push(&q, &young);
	assert_int_equal(pop(&q), 2);
	assert_int_equal(pop(&q), 1);
	assert_int_equal(pop(&q), 3);
	queue_finish(&q);
}

/* The worst job (batch, priority 1000) against an endless stream of the best: overtaken for 2 * ageing, not longer. */
static void no_job_is_overtaken_for_longer_than_twice_the_ageing_time(void **state)
{
	struct queue_entry worst = entry(1, 0, true, 1000);
	assert_true(worst.rank > entry(2, 2 * AGEING - 1, false, 0).rank);
	assert_true(worst.rank <= entry(3, 2 * AGEING, false, 0).rank);
}

static void equals_go_in_the_order_of_acceptance_also_after_a_preemption(void **state)
{
	struct queue q = {0};
	struct queue_entry parked = entry(7, 5, true, 100), equal = entry(8, 5, true, 100), newer = entry(9, 6, true, 100);
	queue_push(&q, &newer);
	queue_push(&q, &equal);
	queue_push(&q, &parked); /* came back last, with the rank it always had */
	assert_int_equal(pop(&q), 7);
	assert_int_equal(pop(&q), 8);
	queue_finish(&q);
}

static void the_heap_agrees_with_sorting_whatever_is_removed(void **state)
{
	enum { N = 500 };
	struct queue q = {0};
	struct queue_entry *e = calloc(N, sizeof *e);
	srand(3);
	for (int i = 0; i < N; i++) {
		e[i] = entry((uint64_t)i + 1, rand() % 1000, rand() % 2, (uint32_t)rand() % 1001);
		queue_push(&q, &e[i]);
	}
	for (int i = 0; i < N; i += 3)
		queue_remove(&q, &e[i]);
	queue_remove(&q, &e[0]); /* again: nothing happens */
	int64_t last = INT64_MIN;
	for (struct queue_entry *f; (f = queue_first(&q));) {
		assert_int_not_equal((f->id - 1) % 3, 0);
		assert_int_equal(queue_ahead(&q, f), 0);
		assert_true(f->rank >= last);
		last = f->rank;
		queue_remove(&q, f);
	}
	assert_int_equal(q.tokens, 0);
	assert_int_equal(q.bytes, 0);
	queue_finish(&q);
	free(e);
}

static void each_bound_refuses_by_its_name_and_none_overflows(void **state)
{
	struct queue q = {0};
	const struct queue_limits l = {.jobs = 2, .tokens = 25, .bytes = 1000};
	struct queue_entry a = entry(1, 0, false, 0), b = entry(2, 0, false, 0);
	assert_null(queue_full(&q, &l, 25, 1000));
	assert_string_equal(queue_full(&q, &l, 26, 1), "tokens");
	assert_string_equal(queue_full(&q, &l, UINT64_MAX, 1), "tokens");
	assert_string_equal(queue_full(&q, &l, 1, UINT64_MAX), "bytes");
	queue_push(&q, &a);
	assert_string_equal(queue_full(&q, &l, 16, 1), "tokens");
	assert_string_equal(queue_full(&q, &l, 1, 901), "bytes");
	assert_null(queue_full(&q, &l, 15, 900));
	queue_push(&q, &b);
	assert_string_equal(queue_full(&q, &l, 1, 1), "jobs");
	queue_finish(&q);
}

static void retry_after_follows_the_pace_and_the_length(void **state)
{
	struct queue q = {0};
	struct queue_entry e[100];
	for (int i = 0; i < 100; i++) {
		e[i] = entry((uint64_t)i + 1, 0, false, 0);
		queue_push(&q, &e[i]);
	}
	uint64_t unknown = queue_retry_after(&q);
	assert_in_range(unknown, 100, 60000);
	for (int i = 1; i <= 50; i++)
		queue_departed(&q, i * 40);
	assert_in_range(queue_retry_after(&q), 26 * 39, 26 * 41);
	for (int i = 1; i <= 200; i++)
		queue_departed(&q, 2000 + i * 60000);
	assert_int_equal(queue_retry_after(&q), 60000);
	queue_finish(&q);
}

static struct queue_entry running(uint64_t id, int64_t rank, bool batch, uint32_t pages)
{
	return (struct queue_entry){.id = id, .rank = rank, .batch = batch, .pages = pages};
}

static void the_batch_jobs_of_last_rank_give_way_and_no_more_than_needed(void **state)
{
	struct queue_entry r[] = {running(1, 100, true, 4), running(2, 300, true, 4), running(3, 900, false, 4),
				  running(4, 200, true, 4)};
	struct queue_entry *list[] = {&r[0], &r[1], &r[2], &r[3]}, *out[4];
	struct queue_entry first = {.id = 9, .rank = 50, .pages = 3};
	struct queue_room room = {.slots = 0, .pages = 0};
	assert_int_equal(queue_victims(&first, list, 4, 1, &room, out), 1);
	assert_int_equal(out[0]->id, 2);
	first.pages = 7;
	assert_int_equal(queue_victims(&first, list, 4, 1, &room, out), 2);
	assert_int_equal(out[0]->id, 2);
	assert_int_equal(out[1]->id, 4);
	first.pages = 13; /* all batch jobs together hold 12 */
	assert_int_equal(queue_victims(&first, list, 4, 1, &room, out), 0);
}

static void nobody_gives_way_to_batch_or_to_a_later_rank_or_for_nothing(void **state)
{
	struct queue_entry aged = running(1, 40, true, 4), *list[] = {&aged}, *out[1];
	struct queue_room none = {0}, enough = {.slots = 1, .pages = 4};
	struct queue_entry batch = {.id = 9, .rank = 1, .batch = true, .pages = 1}, first = {.id = 9, .rank = 50, .pages = 3};
	assert_int_equal(queue_victims(&batch, list, 1, 1, &none, out), 0);
	assert_int_equal(queue_victims(&first, list, 1, 1, &none, out), 0); /* the batch job has aged past it */
	aged.rank = 60;
	assert_int_equal(queue_victims(&first, list, 1, 1, &none, out), 1);
	assert_int_equal(queue_victims(&first, list, 1, 1, &enough, out), 0);
	assert_true(queue_fits(&first, &enough));
	assert_false(queue_fits(&first, &none));
}

static void batch_jobs_that_have_aged_give_way_until_the_kept_ones_are_left(void **state)
{
	struct queue_entry r[] = {running(1, 10, true, 4), running(2, 20, true, 4), running(3, 30, false, 4), running(4, 15, true, 4)};
	struct queue_entry *list[] = {&r[0], &r[1], &r[2], &r[3]}, *out[4];
	struct queue_entry first = {.id = 9, .rank = 50, .pages = 8};
	struct queue_room room = {.slots = 0, .pages = 0};
	assert_int_equal(queue_victims(&first, list, 4, 1, &room, out), 2);
	assert_int_equal(out[0]->id, 2);
	assert_int_equal(out[1]->id, 4);
	assert_int_equal(queue_victims(&first, list, 4, 2, &room, out), 0);
	r[1].rank = 60; /* younger: has no such right */
	r[3].rank = 55;
	assert_int_equal(queue_victims(&first, list, 4, 3, &room, out), 2);
	assert_int_equal(queue_kept(1), 1);
	assert_int_equal(queue_kept(16), 4);
}

static void the_first_interactive_job_is_known_behind_batch_jobs_that_have_aged(void **state)
{
	struct queue q = {0};
	struct queue_entry old = entry(1, 0, true, 100), young = entry(2, AGEING + 2, false, 100), younger = entry(3, AGEING + 3, false, 100);
	queue_push(&q, &old);
	assert_null(queue_first_interactive(&q));
	queue_push(&q, &younger);
	queue_push(&q, &young);
	assert_int_equal(queue_first(&q)->id, 1);
	assert_int_equal(queue_first_interactive(&q)->id, 2);
	assert_int_equal(queue_ahead(&q, &younger), 2);
	queue_remove(&q, &young);
	assert_int_equal(queue_first_interactive(&q)->id, 3);
	queue_finish(&q);
}

/* ---- deadlines ---- */

static int64_t fired[1000];
static size_t n_fired;

static void fire(struct deadline *d, void *arg)
{
	assert_int_equal(d->place, 0);
	fired[n_fired++] = d->at;
}

static void deadlines_fire_in_order_and_disarmed_ones_never(void **state)
{
	enum { N = 300 };
	struct deadlines h = {0};
	struct deadline *d = calloc(N, sizeof *d);
	srand(5);
	for (int i = 0; i < N; i++) {
		d[i].fire = fire;
		assert_int_equal(deadline_arm(&h, &d[i], rand() % 1000), 0);
	}
	for (int i = 0; i < N; i += 2)
		deadline_disarm(&h, &d[i]);
	for (int i = 1; i < N; i += 4)
		deadline_arm(&h, &d[i], 1000 + rand() % 1000); /* moved */
	n_fired = 0;
	assert_false(deadlines_run(&h, -1, 10, NULL));
	assert_int_equal(n_fired, 0);
	assert_true(deadlines_run(&h, 999, 10, NULL));
	assert_int_equal(n_fired, 10);
	assert_false(deadlines_run(&h, 999, N, NULL));
	assert_int_equal(n_fired, N / 4);
	assert_true(deadlines_next(&h) >= 1000);
	deadlines_run(&h, INT64_MAX, N, NULL);
	assert_int_equal(n_fired, N / 2);
	for (size_t i = 1; i < n_fired; i++)
		assert_true(fired[i - 1] <= fired[i]);
	assert_true(deadlines_next(&h) == INT64_MAX);
	deadlines_finish(&h);
	free(d);
}

static void a_far_deadline_does_not_overflow(void **state)
{
	assert_true(clock_after(5, UINT64_MAX) == INT64_MAX);
	assert_true(clock_after(INT64_MAX - 5, 1) == INT64_MAX);
	assert_int_equal(clock_after(5, 2), 2000005);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(interactive_goes_before_batch_and_lower_priority_first),
		cmocka_unit_test(a_batch_job_that_waited_long_enough_goes_before_new_interactive_ones),
		cmocka_unit_test(no_job_is_overtaken_for_longer_than_twice_the_ageing_time),
		cmocka_unit_test(equals_go_in_the_order_of_acceptance_also_after_a_preemption),
		cmocka_unit_test(the_heap_agrees_with_sorting_whatever_is_removed),
		cmocka_unit_test(each_bound_refuses_by_its_name_and_none_overflows),
		cmocka_unit_test(retry_after_follows_the_pace_and_the_length),
		cmocka_unit_test(the_batch_jobs_of_last_rank_give_way_and_no_more_than_needed),
		cmocka_unit_test(nobody_gives_way_to_batch_or_to_a_later_rank_or_for_nothing),
		cmocka_unit_test(batch_jobs_that_have_aged_give_way_until_the_kept_ones_are_left),
		cmocka_unit_test(the_first_interactive_job_is_known_behind_batch_jobs_that_have_aged),
		cmocka_unit_test(deadlines_fire_in_order_and_disarmed_ones_never),
		cmocka_unit_test(a_far_deadline_does_not_overflow),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
