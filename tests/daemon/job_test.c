/* The state machine, the table of jobs, topics, and the histogram of the loop's lag. */
#include "unit.h"
#include "daemon/histogram.h"
#include "daemon/job.h"
#include "daemon/names.h"
#include "daemon/topics.h"

static void only_the_arrows_of_the_picture_exist(void **state)
{
	static const char *const arrows[] = {"queued running",    "queued cancelled", "queued expired",      "running preempted",
					     "running done",      "running failed",   "running cancelled",   "running expired",
					     "queued failed", "queued dead", "preempted running", "preempted failed", "preempted cancelled", "preempted expired"};
	for (int from = 0; from < JOB_N_STATES; from++)
		for (int to = 0; to < JOB_N_STATES; to++) {
			struct jobs t;
			char arrow[64];
			int want = -1;
			if (from == JOB_DELAYED || from == JOB_BURIED)
				continue; /* not in memory */
			assert_int_equal(jobs_init(&t), 0);
			struct job *j = job_new(&t);
			/* the shortest way to `from` */
			if (from != JOB_QUEUED && from != JOB_CANCELLED && from != JOB_EXPIRED && from != JOB_DEAD)
				job_move(&t, j, JOB_RUNNING);
			if (j->state != (enum job_state)from)
				assert_int_equal(job_move(&t, j, from), 0);
			snprintf(arrow, sizeof arrow, "%s %s", job_state_name(from), job_state_name(to));
			for (size_t i = 0; i < sizeof arrows / sizeof *arrows; i++)
				if (strcmp(arrows[i], arrow) == 0)
					want = 0;
			if (job_move(&t, j, to) != want)
				fail_msg("%s", arrow);
			assert_int_equal(j->state, want == 0 ? to : from);
			assert_int_equal(t.count[j->state], 1);
			assert_int_equal(t.n_ended, job_state_final(j->state));
			jobs_finish(&t);
		}
}

static void jobs_are_found_by_id_and_forgotten_without_a_trace(void **state)
{
	struct jobs t;
	jobs_init(&t);
	for (int i = 1; i <= 5000; i++)
		assert_int_equal(job_new(&t)->id, i);
	for (uint64_t i = 1; i <= 5000; i += 2) {
		struct job *j = job_find(&t, i);
		assert_int_equal(job_keep_event(&t, j, strdup("event"), 6), 0);
		job_move(&t, j, JOB_CANCELLED);
		assert_int_equal(job_keep_event(&t, j, strdup("last"), 5), 0);
		job_forget(&t, j);
		assert_null(job_find(&t, i));
		assert_non_null(job_find(&t, i + 1));
	}
	assert_int_equal(t.n, 2500);
	assert_int_equal(t.n_ended, 0);
	assert_int_equal(t.ended_bytes, 0);
	assert_int_equal(t.count[JOB_CANCELLED], 0);
	assert_int_equal(t.total[JOB_CANCELLED], 2500);
	assert_null(job_find(&t, 0));
	assert_null(job_find(&t, UINT64_MAX));
	jobs_finish(&t);
}

static void an_answer_grows_by_deltas_and_strangers_are_refused(void **state)
{
	struct jobs t;
	struct engine_token tokens[] = {{.token = 7}, {.token = 8}};
	struct engine_event e = {.choice = 1, .text = (char *)"ab", .text_len = 2, .tokens = tokens, .n_tokens = 2};
	char a[65], b[65];
	jobs_init(&t);
	struct job *j = job_new(&t);
	j->n_choices = 2;
	j->choices = calloc(2, sizeof *j->choices);
	job_digest(j, a);
	assert_int_equal(job_add_delta(j, &e), 0);
	assert_int_equal(job_add_delta(j, &e), 0);
	assert_int_equal(j->choices[1].len, 4);
	assert_memory_equal(j->choices[1].text, "abab", 4);
	assert_int_equal(j->choices[1].n_tokens, 4);
	assert_int_equal(j->choices[0].len, 0);
	job_digest(j, b);
	assert_string_not_equal(a, b);
	e.choice = 2;
	assert_int_equal(job_add_delta(j, &e), -1);
	assert_int_equal(job_add_score(j, &e), -1); /* not a score job */
	jobs_finish(&t);
}

/* The digest of PROTOCOL.md, worked out by hand: one choice of the tokens 1 and 258. */
static void the_digest_is_that_of_the_protocol(void **state)
{
	struct jobs t;
	int32_t tokens[] = {1, 258};
	char hex[65];
	jobs_init(&t);
	struct job *j = job_new(&t);
	j->n_choices = 1;
	j->choices = calloc(1, sizeof *j->choices);
	j->choices[0].tokens = malloc(sizeof tokens);
	memcpy(j->choices[0].tokens, tokens, sizeof tokens);
	j->choices[0].n_tokens = 2;
	job_digest(j, hex);
	/* printf '\2\0\0\0\1\0\0\0\2\1\0\0' | sha256sum */
	assert_string_equal(hex, "d1a0d4101ca725b291d19899565ac091a42102fb0d714c1dda90873a4c271a0f");
	jobs_finish(&t);
}

static void a_topic_lives_as_long_as_a_listener_or_a_job(void **state)
{
	static const char name[] = "0123456789abcdef0123456789abcdef";
	struct topics t;
	struct jobs jobs;
	struct deadlines h = {0};
	assert_int_equal(topics_init(&t), 0);
	jobs_init(&jobs);
	assert_null(topics_drop_listener(&t, name));
	struct topic *p = topics_add_listener(&t, name);
	assert_ptr_equal(topics_add_listener(&t, name), p);
	assert_int_equal(t.listened, 1);
	struct job *j = job_new(&jobs);
	memcpy(j->topic, name, sizeof name);
	assert_ptr_equal(topics_add_job(&t, j), p);
	topics_drop_listener(&t, name);
	assert_int_equal(t.listened, 1);
	topics_drop_listener(&t, name);
	assert_int_equal(t.listened, 0);
	topics_let_go(&t, p, &h);
	assert_ptr_equal(topics_find(&t, name), p); /* the job speaks to it */
	topics_drop_job(&t, j, &h);
	assert_null(topics_find(&t, name));
	assert_int_equal(t.n, 0);
	topics_finish(&t);
	jobs_finish(&jobs);
	deadlines_finish(&h);
}

static void quantiles_are_right_within_an_eighth(void **state)
{
	struct histogram h = {0};
	assert_int_equal(histogram_quantile(&h, 0.5), 0);
	for (uint64_t v = 1; v <= 10000; v++)
		histogram_add(&h, v);
	assert_in_range(histogram_quantile(&h, 0.50), 5000, 5000 * 9 / 8);
	assert_in_range(histogram_quantile(&h, 0.99), 9900, 10000);
	assert_int_equal(histogram_quantile(&h, 1), 10000);
	histogram_add(&h, UINT64_MAX);
	assert_true(histogram_quantile(&h, 1) > 1000000000);
	assert_true(h.max == UINT64_MAX);
}

static void hints_are_near_and_absurd_words_have_none(void **state)
{
	static const struct {
		const char *word, *hint;
	} rows[] = {{"temprature", "temperature"},
		    {"max_token", "max_tokens"},
		    {"xyz", NULL},
		    {"", NULL},
		    {"t", NULL},
		    {"a_word_that_is_much_too_long_to_be_any_option_of_this_program_at_all", NULL}};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct names n;
		names_start(&n, rows[i].word, strlen(rows[i].word));
		names_offer(&n, "top_k");
		names_offer(&n, "max_tokens");
		names_offer(&n, "temperature");
		if (rows[i].hint)
			assert_string_equal(n.best, rows[i].hint);
		else
			assert_null(n.best);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_the_arrows_of_the_picture_exist),
		cmocka_unit_test(jobs_are_found_by_id_and_forgotten_without_a_trace),
		cmocka_unit_test(an_answer_grows_by_deltas_and_strangers_are_refused),
		cmocka_unit_test(the_digest_is_that_of_the_protocol),
		cmocka_unit_test(a_topic_lives_as_long_as_a_listener_or_a_job),
		cmocka_unit_test(quantiles_are_right_within_an_eighth),
		cmocka_unit_test(hints_are_near_and_absurd_words_have_none),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
