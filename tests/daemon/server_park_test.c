/* server_park_test.c: an interactive job takes a batch job's place at once: it goes to the engine behind the park command, not after the
 * engine has obeyed it. So here the server hears nothing of the engine between the request and the question where its job is. */
#include "config.h"

#include "daemon/request.h"
#include "daemon/server.h"
#include "engine_kit.h"
#include <semaphore.h>
#include <time.h>

#define TOPIC "0123456789abcdef0123456789abcdef"

static struct kit kit;
static struct conf conf;
static struct server server;
static sem_t events;
static struct engine_event *unheard; /* what the engine said after what a test waited for */

static void wake(void *arg)
{
	sem_post(&events);
}

static void publish(void *arg, const char *topic, const void *data, size_t len)
{
}

static void no_work(void *arg)
{
}

static void open_server(bool preempt, int places)
{
	char why[CONF_WHY];
	struct core_error err;
	struct engine_params p = {
		.model = kit.model, .threads = 1, .kv_pages = 128, .max_rows = 64, .max_jobs = (uint32_t)places, .prefix_cache = true, .wake = wake};

	assert_int_equal(sem_init(&events, 0, 0), 0);
	assert_int_equal(conf_init(&conf), 0);
	conf.max_running = places;
	conf.preempt = preempt;
	server = (struct server){.conf = &conf, .model = kit.model, .plugins = plugin_set_ref(kit.plugins), .publish = publish};
	server.tasks.wake = no_work;
	if (engine_new(&server.engine, &p, &err))
		fail_msg("%s", err.text);
	if (server_init(&server, why))
		fail_msg("%s", why);
	assert_true(server_subscribed(&server, TOPIC, strlen(TOPIC)));
}

static int close_server(void **state)
{
	for (struct engine_event *e; (e = unheard);) {
		unheard = e->next;
		engine_event_free(e);
	}
	engine_free(server.engine);
	server_finish(&server);
	plugin_set_unref(server.plugins);
	conf_finish(&conf);
	sem_destroy(&events);
	return 0;
}

static struct job *ask(const char *class, unsigned max_tokens)
{
	struct wire_buf b, reply;
	struct request r;
	size_t len;

	wire_buf_init(&b);
	wire_map(&b, 8);
	wire_str(&b, "v"), wire_uint(&b, 1), wire_str(&b, "id"), wire_uint(&b, 1), wire_str(&b, "op"), wire_str(&b, "generate");
	wire_str(&b, "topic"), wire_str(&b, TOPIC), wire_str(&b, "prompt"), wire_str(&b, "wool"), wire_str(&b, "class"), wire_str(&b, class);
	wire_str(&b, "max_tokens"), wire_uint(&b, max_tokens), wire_str(&b, "ignore_eos"), wire_bool(&b, true);
	void *data = wire_buf_take(&b, &len);
	request_init(&r, &server, "", data, len);
	request_prepare(&r);
	wire_buf_init(&reply);
	assert_true(request_answer(&r, &server, &reply));
	if (r.problem.code != WIRE_OK)
		fail_msg("%s", r.problem.text);
	request_finish(&r);
	wire_buf_finish(&b);
	wire_buf_finish(&reply);
	free(data);
	return TAILQ_LAST(&server.jobs.all, job_list);
}

static bool has_spoken(const struct job *j)
{
	return j->first_delta_at != 0;
}

static bool has_ended(const struct job *j)
{
	return job_state_final(j->state);
}

/* Hears the engine until `what` is true of j, and not a word more: the engine may be far ahead, the server is where the test has it.
 * n: NULL, or of which job and kind the events were. */
static void hear(struct job *j, bool (*what)(const struct job *j), uint64_t of[], unsigned kinds[], size_t *n)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 60;
	while (!what(j)) {
		struct engine_event *e = unheard;

		if (!e) {
			if (sem_timedwait(&events, &until))
				fail_msg("the engine said nothing for a minute");
			unheard = engine_take_events(server.engine);
			continue;
		}
		unheard = e->next;
		if (n && *n < 1000) {
			of[*n] = e->job;
			kinds[(*n)++] = e->kind;
		}
		server_engine_event(&server, e);
		engine_event_free(e);
	}
}

static size_t place_of(uint64_t job, unsigned kind, const uint64_t of[], const unsigned kinds[], size_t n)
{
	size_t i = 0;

	while (i < n && (of[i] != job || kinds[i] != kind))
		i++;
	return i;
}

static void an_interactive_job_is_submitted_right_behind_the_park_command(void **state)
{
	static uint64_t of[1000];
	static unsigned kinds[1000];
	size_t n = 0;

	open_server(true, 1);
	struct job *batch = ask("batch", 300);
	hear(batch, has_spoken, NULL, NULL, NULL);
	assert_true(batch->holding);
	struct job *quick = ask("interactive", 2);
	assert_true(batch->leaving);
	assert_false(batch->holding);
	assert_int_equal(batch->state, JOB_RUNNING); /* nobody has said otherwise yet */
	assert_true(quick->holding);
	assert_true(quick->in_engine);
	assert_int_equal(quick->state, JOB_RUNNING);
	uint64_t ids[2] = {batch->id, quick->id};
	hear(quick, has_ended, of, kinds, &n);
	size_t parked = place_of(ids[0], EV_PREEMPTED, of, kinds, n), started = place_of(ids[1], EV_STARTED, of, kinds, n);
	assert_true(started < n);
	assert_true(parked < started || place_of(ids[0], EV_DONE, of, kinds, n) < started); /* done: on a machine that let it run on meanwhile */
	hear(batch, has_ended, NULL, NULL, NULL);
	assert_int_equal(batch->state, JOB_DONE);
}

static void with_preempt_no_it_waits(void **state)
{
	open_server(false, 1);
	struct job *batch = ask("batch", 30);
	hear(batch, has_spoken, NULL, NULL, NULL);
	struct job *quick = ask("interactive", 2);
	assert_true(batch->holding);
	assert_false(quick->holding);
	assert_false(quick->in_engine);
	hear(quick, has_ended, NULL, NULL, NULL);
	assert_int_equal(quick->state, JOB_DONE);
}

/* Batch jobs that waited for the ageing time rank before what comes now. */
static void batch_jobs_that_have_aged_hold_up_no_interactive_one_but_keep_a_place(void **state)
{
	open_server(true, 2);
	conf.ageing = 0;
	struct job *batch[3] = {ask("batch", 60), ask("batch", 60), ask("batch", 60)};
	hear(batch[1], has_spoken, NULL, NULL, NULL);
	assert_true(batch[0]->holding && batch[1]->holding && !batch[2]->holding);
	struct job *quick = ask("interactive", 2);
	assert_true(quick->holding && quick->in_engine);
	assert_true(batch[0]->holding && !batch[1]->holding);
	struct job *next = ask("interactive", 2); /* the last place is kept */
	assert_false(next->holding);
	assert_true(batch[0]->holding);
	struct job *all[] = {quick, next, batch[0], batch[1], batch[2]};
	for (int i = 0; i < 5; i++) {
		hear(all[i], has_ended, NULL, NULL, NULL);
		assert_int_equal(all[i]->state, JOB_DONE);
	}
}

static void batch_jobs_leave_memory_to_interactive_ones(void **state)
{
	open_server(true, 3);
	struct job *first = ask("batch", 60);
	assert_true(first->holding);
	conf.max_running_bytes = 2 * (int64_t)first->entry.bytes;
	struct job *second = ask("batch", 60);
	assert_false(second->holding);
	struct job *quick = ask("interactive", 60);
	assert_true(quick->holding);
	hear(second, has_ended, NULL, NULL, NULL);
	assert_int_equal(second->state, JOB_DONE);
}

static int setup(void **state)
{
	kit_init(&kit, NULL);
	return 0;
}

static int teardown(void **state)
{
	kit_finish(&kit);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(an_interactive_job_is_submitted_right_behind_the_park_command, close_server),
		cmocka_unit_test_teardown(with_preempt_no_it_waits, close_server),
		cmocka_unit_test_teardown(batch_jobs_that_have_aged_hold_up_no_interactive_one_but_keep_a_place, close_server),
		cmocka_unit_test_teardown(batch_jobs_leave_memory_to_interactive_ones, close_server),
	};
	return cmocka_run_group_tests_name("places of batch jobs", tests, setup, teardown);
}
