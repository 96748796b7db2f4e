/* libweft against a scripted peer: the faults that a healthy weftd does not produce on demand (lost replies, gaps, reconnects,
 * forgotten jobs, refused keys, replies that are no protocol). Everything else is tested against the real weftd. */
#include "client/weft.h"
#include "client/wire-json.h"
#include "client/wire.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>
#include <cmocka.h>

enum { LONG = 60000 }; /* ms: no test waits so long unless it fails */

/* ---- the peer: a thread that plays the server ---- */

struct peer {
	char folder[64], request_endpoint[96], answer_endpoint[96];
	void *context, *request, *answer;
	pthread_t thread;
	void (*script)(struct peer *p);
	char why[256]; /* what the script found wrong; "" */
	/* the request in hand */
	zmq_msg_t identity;
	struct wire_msg body;
	bool in_hand;
	char topic[WIRE_TOPIC_LEN + 1]; /* of the last request that had one */
	const char *curve_secret;       /* NULL: no CURVE */
};

static void peer_fail(struct peer *p, const char *what)
{
	if (p->why[0] == 0)
		snprintf(p->why, sizeof(p->why), "%s", what);
}

static void *peer_bind(struct peer *p, int type, const char *endpoint)
{
	const int one = 1, zero = 0;
	int timeout = LONG;
	void *s = zmq_socket(p->context, type);

	zmq_setsockopt(s, ZMQ_LINGER, &zero, sizeof(zero));
	zmq_setsockopt(s, ZMQ_RCVTIMEO, &timeout, sizeof(timeout));
	if (p->curve_secret != NULL) {
		zmq_setsockopt(s, ZMQ_CURVE_SERVER, &one, sizeof(one));
		zmq_setsockopt(s, ZMQ_CURVE_SECRETKEY, p->curve_secret, 41);
		zmq_setsockopt(s, ZMQ_ZAP_DOMAIN, "test", 4);
	}
	if (zmq_bind(s, endpoint) < 0)
		peer_fail(p, zmq_strerror(errno));
	return s;
}

static void peer_drop(struct peer *p)
{
	if (!p->in_hand)
		return;
	zmq_msg_close(&p->identity);
	wire_finish(&p->body);
	p->in_hand = false;
}

/* Takes the next request, which must be this op. */
static void peer_expect(struct peer *p, const char *op)
{
	const char *why, *topic;
	zmq_msg_t msg;
	size_t n;

	peer_drop(p);
	if (p->why[0] != 0)
		return;
	zmq_msg_init(&p->identity);
	zmq_msg_init(&msg);
	if (zmq_msg_recv(&p->identity, p->request, 0) < 0 || zmq_msg_recv(&msg, p->request, 0) < 0)
		return peer_fail(p, "no request came");
	if (wire_decode(&p->body, zmq_msg_data(&msg), zmq_msg_size(&msg), &why) < 0)
		return peer_fail(p, why);
	p->in_hand = true;
	zmq_msg_close(&msg);
	if (!wire_is_cstr(wire_get(&p->body.root, "op"), op)) {
		peer_fail(p, "another op than expected: ");
		snprintf(p->why + strlen(p->why), 64, "%s", op);
	}
	if (wire_get_str(wire_get(&p->body.root, "topic"), &topic, &n) && n == WIRE_TOPIC_LEN)
		memcpy(p->topic, topic, n);
}

static void pack(struct wire_buf *b, const char *json)
{
	json_error_t error;
	json_t *v = json_loads(json, 0, &error);

	if (v == NULL) {
		fprintf(stderr, "bad JSON in the test: %s\n", json);
		abort();
	}
	wire_from_json(b, v);
	json_decref(v);
}

static void peer_send_raw(struct peer *p, const void *data, size_t n)
{
	if (!p->in_hand)
		return;
	zmq_send(p->request, zmq_msg_data(&p->identity), zmq_msg_size(&p->identity), ZMQ_SNDMORE);
	zmq_send(p->request, data, n, 0);
}

/* Answers the request in hand with these fields (and v, id). */
static void peer_reply(struct peer *p, const char *fields)
{
	uint64_t id = 0;
	char json[4096];
	struct wire_buf b;

	if (!p->in_hand)
		return;
	wire_get_uint(wire_get(&p->body.root, "id"), &id);
	snprintf(json, sizeof(json), "{\"v\": 1, \"id\": %llu, %s}", (unsigned long long)id, fields);
	wire_buf_init(&b);
	pack(&b, json);
	peer_send_raw(p, b.out.data, b.out.size);
	wire_buf_finish(&b);
}

static void peer_publish(struct peer *p, const char *json)
{
	struct wire_buf b;

	wire_buf_init(&b);
	pack(&b, json);
	zmq_send(p->answer, p->topic, WIRE_TOPIC_LEN, ZMQ_SNDMORE);
	zmq_send(p->answer, b.out.data, b.out.size, 0);
	wire_buf_finish(&b);
}

static void peer_expect_subscription(struct peer *p)
{
	char bytes[64];

	if (p->why[0] == 0 && zmq_recv(p->answer, bytes, sizeof(bytes), 0) != 1 + WIRE_TOPIC_LEN)
		peer_fail(p, "no subscription came");
}

/* Subscription, hello, its event: and a generate that is accepted as job 7. */
static void peer_accept_job(struct peer *p)
{
	peer_expect_subscription(p);
	peer_expect(p, "hello");
	peer_publish(p, "{\"v\": 1, \"event\": \"hello\"}");
	peer_reply(p, "\"ok\": true");
	peer_expect(p, "generate");
	peer_reply(p, "\"ok\": true, \"job\": 7");
}

static void *peer_main(void *arg)
{
	struct peer *p = arg;

	p->script(p);
	peer_drop(p);
	return NULL;
}

static void peer_start(struct peer *p, void (*script)(struct peer *p))
{
	snprintf(p->folder, sizeof(p->folder), "/tmp/weft-XXXXXX");
	assert_non_null(mkdtemp(p->folder));
	snprintf(p->request_endpoint, sizeof(p->request_endpoint), "ipc://%s/request", p->folder);
	snprintf(p->answer_endpoint, sizeof(p->answer_endpoint), "ipc://%s/answer", p->folder);
	p->context = zmq_ctx_new();
	p->request = peer_bind(p, ZMQ_ROUTER, p->request_endpoint);
	p->answer = peer_bind(p, ZMQ_XPUB, p->answer_endpoint);
	p->script = script;
	assert_int_equal(pthread_create(&p->thread, NULL, peer_main, p), 0);
}

static void peer_finish(struct peer *p)
{
	char path[128];

	pthread_join(p->thread, NULL);
	zmq_close(p->request);
	zmq_close(p->answer);
	zmq_ctx_term(p->context);
	snprintf(path, sizeof(path), "%s/request", p->folder);
	unlink(path);
	snprintf(path, sizeof(path), "%s/answer", p->folder);
	unlink(path);
	rmdir(p->folder);
	if (p->why[0] != 0)
		fail_msg("the peer: %s", p->why);
}

static struct weft_client *dial(const struct peer *p)
{
	struct weft_client_params params = {.request = p->request_endpoint, .answer = p->answer_endpoint};
	struct weft_client_error error;
	struct weft_client *c;

	if (weft_client_new(&c, &params, &error) < 0)
		fail_msg("%s", error.text);
	return c;
}

static int call(struct weft_client *c, const char *op, struct weft_reply **reply, int timeout)
{
	struct weft_request *r = weft_request_new(op);
	int err = weft_client_call(c, r, reply, timeout);

	weft_request_free(r);
	return err;
}

static uint64_t submit(struct weft_client *c)
{
	struct weft_request *r = weft_request_new("generate");
	uint64_t job = 0;

	weft_request_str(r, "prompt", "Hello");
	if (weft_client_submit(c, r, &job, NULL, LONG) < 0)
		fail_msg("%s", weft_client_error(c)->text);
	weft_request_free(r);
	return job;
}

static void expect_event(struct weft_client *c, uint64_t seq, enum weft_event_kind kind)
{
	const struct weft_event *e;

	if (weft_client_next(c, &e, LONG) < 0)
		fail_msg("%s", weft_client_error(c)->text);
	assert_int_equal(e->job, 7);
	assert_int_equal(e->seq, seq);
	assert_int_equal(e->kind, kind);
}

/* ---- events ---- */

#define QUEUED "{\"v\": 1, \"job\": 7, \"seq\": 0, \"event\": \"queued\", \"position\": 3}"
#define STARTED "{\"v\": 1, \"job\": 7, \"seq\": 1, \"event\": \"started\"}"
#define DELTA "{\"v\": 1, \"job\": 7, \"seq\": 2, \"event\": \"delta\", \"choice\": 1, \"text\": \"w\u00f6l\", \"tokens\": [5, 6]}"
#define DONE                                                                                                                       \
	"{\"v\": 1, \"job\": 7, \"seq\": 3, \"event\": \"done\", \"state\": \"done\", \"choices\": [{\"finish\": \"stop\", "       \
	"\"text\": \"wool\", \"tokens\": "                                                                                         \
	"[5, 6, 2]}], \"usage\": {\"prompt_tokens\": 4, \"completion_tokens\": 3, \"cached_tokens\": 1}, \"timing\": "             \
	"{\"queued_ms\": 1.5, "                                                                                                    \
	"\"prefill_ms\": 2, \"total_ms\": 10.25}, \"digest\": \"00\"}"

static void script_four_events(struct peer *p)
{
	peer_accept_job(p);
	peer_publish(p, QUEUED);
	peer_publish(p, STARTED);
	peer_publish(p, DELTA);
	peer_publish(p, DONE);
}

static void test_events_come_as_structs(void **state)
{
	struct peer p = {0};
	const struct weft_event *e;

	peer_start(&p, script_four_events);
	struct weft_client *c = dial(&p);
	assert_int_equal(submit(c), 7);
	assert_int_equal(weft_client_jobs(c), 1);
	assert_int_equal(weft_client_next(c, &e, LONG), 0);
	assert_int_equal(e->kind, WEFT_EVENT_QUEUED);
	assert_int_equal(e->position, 3);
	expect_event(c, 1, WEFT_EVENT_STARTED);
	assert_int_equal(weft_client_next(c, &e, LONG), 0);
	assert_int_equal(e->choice, 1);
	assert_string_equal(e->text, "wöl");
	assert_int_equal(e->text_len, 4);
	assert_int_equal(e->n_tokens, 2);
	assert_int_equal(e->tokens[1], 6);
	assert_int_equal(weft_client_next(c, &e, LONG), 0);
	assert_string_equal(e->state, "done");
	assert_int_equal(e->n_choices, 1);
	assert_string_equal(e->choices[0].finish, "stop");
	assert_string_equal(e->choices[0].text, "wool");
	assert_int_equal(e->choices[0].n_tokens, 3);
	assert_int_equal(e->completion_tokens, 3);
	assert_true(e->queued_ms == 1.5 && e->prefill_ms == 2 && e->total_ms == 10.25);
	assert_string_equal(weft_reply_str(e->body, "digest", NULL), "00");
	assert_int_equal(weft_client_jobs(c), 0);
	assert_int_equal(weft_client_next(c, &e, 0), WEFT_CLIENT_EINVAL);
	weft_client_free(c);
	peer_finish(&p);
}

static void expect_results_from(struct peer *p, uint64_t from, const char *fields)
{
	uint64_t job = 0, got = 99;

	peer_expect(p, "results");
	if (!p->in_hand)
		return;
	wire_get_uint(wire_get(&p->body.root, "job"), &job);
	wire_get_uint(wire_get(&p->body.root, "from"), &got);
	if (job != 7 || got != from)
		peer_fail(p, "results for another job or from another event");
	peer_reply(p, fields);
}

static void script_gap(struct peer *p)
{
	peer_accept_job(p);
	peer_publish(p, QUEUED);
	peer_publish(p, DELTA); /* started is lost */
	/* more than was asked for: the first one was handed out before */
	expect_results_from(p, 1, "\"ok\": true, \"job\": 7, \"events\": [" QUEUED ", " STARTED "], \"next\": 2");
	expect_results_from(p, 2, "\"ok\": true, \"job\": 7, \"events\": [" DELTA "], \"next\": 3");
	expect_results_from(p, 3, "\"ok\": true, \"job\": 7, \"events\": [], \"next\": 3");
	peer_publish(p, STARTED); /* late, and for the second time */
	peer_publish(p, DELTA);
	peer_publish(p, DONE);
}

/* Silence alone would bring `results` after two seconds: what shows that it was asked for at once is a run that is faster. A slow
 * machine gets several. */
enum { AT_ONCE_MS = 1500, ATTEMPTS = 8 };

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool gap_is_filled_at_once(void)
{
	struct peer p = {0};
	int64_t begin;
	bool fast;

	peer_start(&p, script_gap);
	struct weft_client *c = dial(&p);
	submit(c);
	begin = now_ms();
	expect_event(c, 0, WEFT_EVENT_QUEUED);
	expect_event(c, 1, WEFT_EVENT_STARTED);
	fast = now_ms() - begin < AT_ONCE_MS;
	expect_event(c, 2, WEFT_EVENT_DELTA);
	expect_event(c, 3, WEFT_EVENT_DONE);
	weft_client_free(c);
	peer_finish(&p);
	return fast;
}

static void test_a_gap_is_filled_from_results_at_once_and_nothing_comes_twice(void **state)
{
	int attempts = 0;

	while (!gap_is_filled_at_once())
		assert_true(++attempts < ATTEMPTS);
}

static void script_end_is_lost(struct peer *p)
{
	peer_accept_job(p);
	peer_publish(p, QUEUED);
	expect_results_from(p, 1, "\"ok\": true, \"job\": 7, \"events\": [" STARTED ", " DELTA ", " DONE "], \"next\": 4");
}

static void test_a_lost_end_is_found_after_a_time_of_silence(void **state)
{
	struct peer p = {0};

	peer_start(&p, script_end_is_lost);
	struct weft_client *c = dial(&p);
	submit(c);
	for (uint64_t seq = 0; seq < 3; seq++)
		expect_event(c, seq, WEFT_EVENT_QUEUED + (seq > 1 ? 3 : seq));
	expect_event(c, 3, WEFT_EVENT_DONE);
	weft_client_free(c);
	peer_finish(&p);
}

static void script_reconnect(struct peer *p)
{
	peer_accept_job(p);
	peer_publish(p, QUEUED);
	peer_expect(p, "stats"); /* queued has been seen by now */
	zmq_close(p->answer);
	p->answer = peer_bind(p, ZMQ_XPUB, p->answer_endpoint);
	peer_expect_subscription(p);
	peer_reply(p, "\"ok\": true");
	expect_results_from(p, 1, "\"ok\": true, \"job\": 7, \"events\": [" STARTED ", " DELTA ", " DONE "], \"next\": 4");
}

static bool reconnect_asks_at_once(void)
{
	struct peer p = {0};
	int64_t begin;
	bool fast;

	peer_start(&p, script_reconnect);
	struct weft_client *c = dial(&p);
	submit(c);
	expect_event(c, 0, WEFT_EVENT_QUEUED);
	begin = now_ms();
	assert_int_equal(call(c, "stats", NULL, LONG), 0);
	expect_event(c, 1, WEFT_EVENT_STARTED);
	fast = now_ms() - begin < AT_ONCE_MS;
	expect_event(c, 2, WEFT_EVENT_DELTA);
	expect_event(c, 3, WEFT_EVENT_DONE);
	weft_client_free(c);
	peer_finish(&p);
	return fast;
}

static void test_a_reconnect_asks_at_once_for_what_was_missed(void **state)
{
	int attempts = 0;

	while (!reconnect_asks_at_once())
		assert_true(++attempts < ATTEMPTS);
}

static void script_forgotten(struct peer *p)
{
	peer_accept_job(p);
	peer_publish(p, QUEUED);
	peer_publish(p, DELTA);
	peer_expect(p, "results");
	peer_reply(p, "\"ok\": false, \"error\": {\"code\": \"not_found\", \"message\": \"no such job\", \"field\": \"job\", "
		      "\"retry\": false}");
}

static void test_a_job_that_the_server_forgot_is_reported_lost(void **state)
{
	struct peer p = {0};
	const struct weft_event *e;

	peer_start(&p, script_forgotten);
	struct weft_client *c = dial(&p);
	submit(c);
	expect_event(c, 0, WEFT_EVENT_QUEUED);
	assert_int_equal(weft_client_next(c, &e, LONG), WEFT_CLIENT_ELOST);
	assert_non_null(strstr(weft_client_error(c)->text, "job 7"));
	assert_null(e);
	assert_int_equal(weft_client_jobs(c), 0);
	weft_client_free(c);
	peer_finish(&p);
}

static void script_hello_event_is_late(struct peer *p)
{
	peer_expect_subscription(p);
	peer_expect(p, "hello");
	peer_reply(p, "\"ok\": true");
	peer_expect(p, "hello"); /* again, as no event came */
	peer_publish(p, "{\"v\": 1, \"event\": \"hello\"}");
	peer_reply(p, "\"ok\": true, \"server\": \"weftd\"");
}

static void test_hello_is_said_until_its_event_comes(void **state)
{
	struct peer p = {0};
	struct weft_reply *hello;

	peer_start(&p, script_hello_event_is_late);
	struct weft_client *c = dial(&p);
	assert_int_equal(weft_client_connect(c, &hello, LONG), 0);
	weft_reply_free(hello);
	assert_int_equal(strlen(weft_client_topic(c)), WIRE_TOPIC_LEN);
	assert_true(wire_topic_valid(weft_client_topic(c), strlen(weft_client_topic(c))));
	weft_client_free(c);
	peer_finish(&p);
	assert_true(wire_topic_valid(p.topic, strlen(p.topic)));
}

/* ---- replies ---- */

static void script_first_stats_is_lost(struct peer *p)
{
	uint64_t first = 0, second = 1;

	peer_expect(p, "stats");
	if (p->in_hand)
		wire_get_uint(wire_get(&p->body.root, "id"), &first);
	peer_expect(p, "stats");
	if (p->in_hand)
		wire_get_uint(wire_get(&p->body.root, "id"), &second);
	if (first != second)
		peer_fail(p, "the repeated request has another id");
	peer_reply(p, "\"ok\": true, \"uptime_ms\": 5");
	peer_reply(p, "\"ok\": true, \"uptime_ms\": 6"); /* the first one was not lost, only late */
	peer_expect(p, "jobs");
	peer_reply(p, "\"ok\": true, \"jobs\": []");
}

static void test_a_request_without_reply_is_sent_again_and_late_replies_are_ignored(void **state)
{
	struct peer p = {0};
	struct weft_reply *reply;
	uint64_t v;

	peer_start(&p, script_first_stats_is_lost);
	struct weft_client *c = dial(&p);
	assert_int_equal(call(c, "stats", &reply, LONG), 0);
	assert_true(weft_reply_uint(reply, "uptime_ms", &v) && v == 5);
	weft_reply_free(reply);
	assert_int_equal(call(c, "jobs", &reply, LONG), 0);
	assert_true(weft_reply_has(reply, "jobs"));
	weft_reply_free(reply);
	weft_client_free(c);
	peer_finish(&p);
}

static void script_generate_is_not_answered(struct peer *p)
{
	peer_expect_subscription(p);
	peer_expect(p, "hello");
	peer_publish(p, "{\"v\": 1, \"event\": \"hello\"}");
	peer_reply(p, "\"ok\": true");
	peer_expect(p, "generate");
	peer_expect(p, "adapter.fuse"); /* and not generate again */
	peer_expect(p, "stats");
	peer_reply(p, "\"ok\": true");
}

static void test_a_job_is_never_sent_twice(void **state)
{
	struct peer p = {0};
	uint64_t job;

	peer_start(&p, script_generate_is_not_answered);
	struct weft_client *c = dial(&p);
	assert_int_equal(weft_client_connect(c, NULL, LONG), 0);
	struct weft_request *r = weft_request_new("generate");
	weft_request_str(r, "prompt", "x");
	assert_int_equal(weft_client_submit(c, r, &job, NULL, 2500), WEFT_CLIENT_ETIMEOUT); /* long enough to send others twice */
	assert_non_null(strstr(weft_client_error(c)->text, "open"));
	weft_request_free(r);
	r = weft_request_new("adapter.fuse");
	assert_int_equal(weft_client_submit(c, r, &job, NULL, 1500), WEFT_CLIENT_ETIMEOUT);
	weft_request_free(r);
	assert_int_equal(call(c, "stats", NULL, LONG), 0);
	weft_client_free(c);
	peer_finish(&p);
}

static void script_refusals(struct peer *p)
{
	static const char id_nil[] = "\x84\xa1v\x01\xa2id\xc0\xa2ok\xc2\xa5"
				     "error\x83\xa4"
				     "code\xafinvalid_request\xa7message\xa1m\xa5retry\xc2";

	peer_expect(p, "generate");
	peer_reply(p, "\"ok\": false, \"error\": {\"code\": \"overloaded\", \"message\": \"the queue is full\", \"retry\": true, "
		      "\"retry_after_ms\": 250}");
	peer_expect(p, "generate");
	peer_reply(p, "\"ok\": false, \"error\": {\"code\": \"invalid_argument\", \"message\": \"top_p: 0 to 1\", \"field\": "
		      "\"top_p\", \"retry\": false}");
	peer_expect(p, "generate");
	peer_send_raw(p, id_nil, sizeof(id_nil) - 1); /* the server could not read it */
}

static void test_a_refusal_carries_code_field_and_retry(void **state)
{
	struct peer p = {0};
	struct weft_reply *reply = (void *)&p;

	peer_start(&p, script_refusals);
	struct weft_client *c = dial(&p);
	assert_int_equal(call(c, "generate", &reply, LONG), WEFT_CLIENT_EREFUSED);
	assert_ptr_equal(reply, &p); /* untouched */
	assert_string_equal(weft_client_error(c)->server_code, "overloaded");
	assert_string_equal(weft_client_error(c)->text, "the queue is full");
	assert_true(weft_client_error(c)->retry);
	assert_int_equal(weft_client_error(c)->retry_after_ms, 250);
	assert_int_equal(call(c, "generate", NULL, LONG), WEFT_CLIENT_EREFUSED);
	assert_string_equal(weft_client_error(c)->field, "top_p");
	assert_false(weft_client_error(c)->retry);
	assert_int_equal(weft_client_error(c)->retry_after_ms, 0);
	assert_int_equal(call(c, "generate", NULL, LONG), WEFT_CLIENT_EREFUSED);
	assert_string_equal(weft_client_error(c)->server_code, "invalid_request");
	weft_client_free(c);
	peer_finish(&p);
}

static void script_strange_replies(struct peer *p)
{
	peer_expect(p, "stats");
	peer_send_raw(p, "\xc1", 1);
	peer_expect(p, "stats");
	peer_send_raw(p, "\x81\xa1v\x02", 4);
	peer_expect(p, "stats");
	peer_send_raw(p, "\x80", 1);
}

static void test_a_reply_that_is_no_protocol_is_an_error_of_its_own(void **state)
{
	struct peer p = {0};

	peer_start(&p, script_strange_replies);
	struct weft_client *c = dial(&p);
	for (int i = 0; i < 3; i++)
		assert_int_equal(call(c, "stats", NULL, LONG), WEFT_CLIENT_EPROTOCOL);
	weft_client_free(c);
	peer_finish(&p);
}

static void script_tree(struct peer *p)
{
	peer_expect(p, "hello");
	peer_reply(p, "\"ok\": true, \"model\": {\"name\": \"demo\", \"layers\": 4}, \"list\": [{\"x\": -1}, 2.5, null], \"flag\": "
		      "false");
}

static void test_replies_are_read_by_path(void **state)
{
	struct peer p = {0};
	struct weft_reply *r;
	uint64_t u;
	int64_t i;
	double f;
	bool b = true;
	size_t n;

	peer_start(&p, script_tree);
	struct weft_client *c = dial(&p);
	assert_int_equal(call(c, "hello", &r, LONG), 0);
	assert_string_equal(weft_reply_str(r, "model.name", &n), "demo");
	assert_int_equal(n, 4);
	assert_true(weft_reply_uint(r, "model.layers", &u) && u == 4);
	assert_true(weft_reply_int(r, "list.0.x", &i) && i == -1);
	assert_true(weft_reply_float(r, "list.1", &f) && f == 2.5);
	assert_true(weft_reply_bool(r, "flag", &b) && !b);
	assert_true(weft_reply_has(r, "list.2"));
	assert_false(weft_reply_has(r, "list.3"));
	assert_false(weft_reply_has(r, "list.x"));
	assert_false(weft_reply_has(r, "model.name.x"));
	assert_false(weft_reply_uint(r, "list.0.x", &u));
	assert_null(weft_reply_str(r, "model", NULL));
	assert_int_equal(weft_reply_count(r, "list"), 3);
	assert_int_equal(weft_reply_count(r, "model"), 2);
	assert_int_equal(weft_reply_count(r, "flag"), 0);
	assert_string_equal(weft_reply_key(r, "model", 1), "layers");
	assert_null(weft_reply_key(r, "model", 2));
	char *json = weft_reply_json(r, "list");
	assert_string_equal(json, "[{\"x\": -1}, 2.5, null]");
	free(json);
	assert_null(weft_reply_json(r, "nothing"));
	weft_reply_free(r);
	weft_client_free(c);
	peer_finish(&p);
}

static void script_all_types(struct peer *p)
{
	static const char want[] = "{\"s\": \"a\", \"u\": 5, \"i\": -5, \"f\": 0.5, \"b\": true, \"l\": [\"x\", \"y\"], \"t\": [1, "
				   "70000], \"j\": {\"k\": [null]}, "
				   "\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}";
	char *got;
	json_t *v;

	peer_expect(p, "tokenize");
	if (!p->in_hand)
		return;
	v = wire_to_json(&p->body.root);
	json_object_del(v, "v");
	json_object_del(v, "id");
	json_object_del(v, "op");
	got = json_dumps(v, 0);
	if (strcmp(got, want) != 0)
		peer_fail(p, got);
	free(got);
	json_decref(v);
	peer_reply(p, "\"ok\": true");
}

static void test_requests_carry_every_type(void **state)
{
	struct peer p = {0};

	peer_start(&p, script_all_types);
	struct weft_client *c = dial(&p);
	struct weft_request *r = weft_request_new("tokenize");
	weft_request_str(r, "s", "a");
	weft_request_uint(r, "u", 5);
	weft_request_int(r, "i", -5);
	weft_request_float(r, "f", 0.5);
	weft_request_bool(r, "b", true);
	weft_request_strs(r, "l", (const char *[]){"x", "y"}, 2);
	weft_request_tokens(r, "t", (uint32_t[]){1, 70000}, 2);
	weft_request_json(r, "j", "{\"k\": [null]}");
	weft_request_message(r, "user", "hi");
	assert_int_equal(weft_client_call(c, r, NULL, LONG), 0);
	weft_request_free(r);
	weft_client_free(c);
	peer_finish(&p);
}

/* ---- without a peer ---- */

static void expect_mistake(struct weft_client *c, struct weft_request *r, const char *part)
{
	assert_int_equal(weft_client_call(c, r, NULL, LONG), WEFT_CLIENT_EINVAL);
	if (strstr(weft_client_error(c)->text, part) == NULL)
		fail_msg("\"%s\", expected \"%s\"", weft_client_error(c)->text, part);
	weft_request_free(r);
}

static void test_mistakes_of_a_request_are_reported_when_it_is_sent(void **state)
{
	struct weft_client_params params = {.request = "ipc:///nowhere/request", .answer = "ipc:///nowhere/answer"};
	struct weft_request *r;
	struct weft_client *c;

	assert_int_equal(weft_client_new(&c, &params, NULL), 0);
	r = weft_request_new("generate");
	weft_request_uint(r, "seed", 1);
	weft_request_uint(r, "seed", 2);
	expect_mistake(c, r, "seed is set twice");
	r = weft_request_new("generate");
	weft_request_str(r, "prompt", "\xff");
	expect_mistake(c, r, "prompt is not valid UTF-8");
	r = weft_request_new("generate");
	weft_request_message(r, "user", "\xc0\x80");
	expect_mistake(c, r, "messages is not valid UTF-8");
	r = weft_request_new("generate");
	weft_request_strs(r, "stop", (const char *[]){"ok", "\xed\xa0\x80"}, 2);
	expect_mistake(c, r, "stop is not valid UTF-8");
	r = weft_request_new("generate");
	weft_request_json(r, "logit_bias", "{\"1\": ");
	expect_mistake(c, r, "logit_bias is not JSON");
	weft_client_free(c);
}

static void test_nobody_there_is_said_within_the_timeout(void **state)
{
	struct weft_client_params params = {.request = "ipc:///nowhere/request", .answer = "ipc:///nowhere/answer"};
	struct weft_client *c;

	assert_int_equal(weft_client_new(&c, &params, NULL), 0);
	assert_int_equal(call(c, "stats", NULL, 100), WEFT_CLIENT_EUNREACHABLE);
	assert_non_null(strstr(weft_client_error(c)->text, "ipc:///nowhere/request"));
	weft_client_free(c);
}

static void test_an_endpoint_that_is_none_is_refused(void **state)
{
	struct weft_client_params params = {.request = "weft:nonsense"};
	struct weft_client_error error;
	struct weft_client *c = (void *)1;

	assert_int_equal(weft_client_new(&c, &params, &error), WEFT_CLIENT_EINVAL);
	assert_non_null(strstr(error.text, "weft:nonsense"));
	assert_null(c);
}

static void test_a_readable_interrupt_fd_ends_a_wait(void **state)
{
	int fds[2];
	struct weft_client *c;

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(write(fds[1], "x", 1), 1);
	struct weft_client_params params = {.request = "ipc:///nowhere/request", .interrupt_fd = fds[0]};
	assert_int_equal(weft_client_new(&c, &params, NULL), 0);
	assert_int_equal(call(c, "stats", NULL, -1), WEFT_CLIENT_EINTERRUPTED);
	weft_client_free(c);
	close(fds[0]);
	close(fds[1]);
}

static void test_two_clients_have_two_topics(void **state)
{
	struct weft_client *a, *b;
	struct weft_client_params params = {.request = "ipc:///nowhere/request"};

	assert_int_equal(weft_client_new(&a, &params, NULL), 0);
	assert_int_equal(weft_client_new(&b, &params, NULL), 0);
	assert_string_not_equal(weft_client_topic(a), weft_client_topic(b));
	weft_client_free(a);
	weft_client_free(b);
	weft_client_free(NULL);
}

/* ---- keys ---- */

struct keys {
	char server_public[41], server_secret[41], client_public[41], client_secret[41], path[64];
};

static void make_keys(struct keys *k)
{
	FILE *f;

	assert_int_equal(weft_client_keygen(k->server_public, k->server_secret), 0);
	assert_int_equal(weft_client_keygen(k->client_public, k->client_secret), 0);
	snprintf(k->path, sizeof(k->path), "/tmp/weft-key-XXXXXX");
	f = fdopen(mkstemp(k->path), "w");
	fprintf(f, "%s\n", k->client_secret);
	fclose(f);
}

/* Lets in, or not, whoever asks: a ZAP handler for one connection after the other until the request is there. */
static void answer_zap(struct peer *p, void *zap, const char *status, int times)
{
	for (int i = 0; i < times; i++) {
		char id[64];
		int n = -1, more = 1;
		for (int part = 0; more != 0; part++) {
			zmq_msg_t msg;
			zmq_msg_init(&msg);
			if (zmq_msg_recv(&msg, zap, 0) < 0)
				return peer_fail(p, "nobody asked to be let in");
			more = zmq_msg_more(&msg);
			if (part == 1 && (n = (int)zmq_msg_size(&msg)) < 64)
				memcpy(id, zmq_msg_data(&msg), n);
			zmq_msg_close(&msg);
		}
		zmq_send(zap, "1.0", 3, ZMQ_SNDMORE);
		zmq_send(zap, id, n, ZMQ_SNDMORE);
		zmq_send(zap, status, 3, ZMQ_SNDMORE);
		zmq_send(zap, "", 0, ZMQ_SNDMORE);
		zmq_send(zap, "", 0, ZMQ_SNDMORE);
		zmq_send(zap, "", 0, 0);
	}
}

static void *zap_bind(struct peer *p)
{
	int timeout = LONG;
	void *zap = zmq_socket(p->context, ZMQ_REP);

	zmq_setsockopt(zap, ZMQ_RCVTIMEO, &timeout, sizeof(timeout));
	zmq_bind(zap, "inproc://zeromq.zap.01");
	return zap;
}

static void curve_script(struct peer *p, const char *status)
{
	void *zap = zap_bind(p);

	zmq_close(p->request);
	p->request = peer_bind(p, ZMQ_ROUTER, p->request_endpoint);
	answer_zap(p, zap, status, 1);
	if (strcmp(status, "200") == 0) {
		peer_expect(p, "stats");
		peer_reply(p, "\"ok\": true");
	}
	zmq_close(zap);
}

static void script_curve_lets_in(struct peer *p)
{
	curve_script(p, "200");
}

static void script_curve_refuses(struct peer *p)
{
	curve_script(p, "400");
}

static int call_with_keys(struct peer *p, const struct keys *k, const char *server_key, char *text, size_t size)
{
	struct weft_client_params params = {
		.request = p->request_endpoint, .answer = p->answer_endpoint, .server_key = server_key, .client_key = k->path};
	struct weft_client_error error;
	struct weft_client *c;
	int err;

	if (weft_client_new(&c, &params, &error) < 0)
		fail_msg("%s", error.text);
	err = call(c, "stats", NULL, LONG);
	snprintf(text, size, "%s", weft_client_error(c)->text);
	weft_client_free(c);
	return err;
}

static void test_a_client_with_an_allowed_key_is_let_in(void **state)
{
	struct keys k;
	struct peer p = {.curve_secret = k.server_secret};
	char text[512];

	make_keys(&k);
	peer_start(&p, script_curve_lets_in);
	assert_int_equal(call_with_keys(&p, &k, k.server_public, text, sizeof(text)), 0);
	peer_finish(&p);
	unlink(k.path);
}

static void test_a_refused_key_is_said_at_once_and_not_after_the_timeout(void **state)
{
	struct keys k;
	struct peer p = {.curve_secret = k.server_secret};
	char text[512];

	make_keys(&k);
	peer_start(&p, script_curve_refuses);
	assert_int_equal(call_with_keys(&p, &k, k.server_public, text, sizeof(text)), WEFT_CLIENT_EUNREACHABLE);
	assert_non_null(strstr(text, "refuses this client's key"));
	peer_finish(&p);
	unlink(k.path);
}

static void test_key_files_are_checked(void **state)
{
	struct keys k;
	struct weft_client_params params = {.request = "ipc:///nowhere/request"};
	struct weft_client_error error;
	struct weft_client *c;
	FILE *f;

	make_keys(&k);
	params.client_key = k.path;
	assert_int_equal(weft_client_new(&c, &params, &error), WEFT_CLIENT_EINVAL);
	assert_non_null(strstr(error.text, "both"));
	params.server_key = "/nowhere/key";
	assert_int_equal(weft_client_new(&c, &params, &error), WEFT_CLIENT_ESYSTEM);
	params.server_key = k.path; /* a file will do for a public key */
	assert_int_equal(weft_client_new(&c, &params, &error), 0);
	weft_client_free(c);
	params.server_key = k.server_public;
	chmod(k.path, 0604);
	assert_int_equal(weft_client_new(&c, &params, &error), WEFT_CLIENT_EINVAL);
	assert_non_null(strstr(error.text, "chmod"));
	f = fopen(k.path, "w");
	fputs("short\n", f);
	fclose(f);
	chmod(k.path, 0600);
	assert_int_equal(weft_client_new(&c, &params, &error), WEFT_CLIENT_EINVAL);
	assert_non_null(strstr(error.text, "40 Z85"));
	unlink(k.path);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_events_come_as_structs),
		cmocka_unit_test(test_a_gap_is_filled_from_results_at_once_and_nothing_comes_twice),
		cmocka_unit_test(test_a_lost_end_is_found_after_a_time_of_silence),
		cmocka_unit_test(test_a_reconnect_asks_at_once_for_what_was_missed),
		cmocka_unit_test(test_a_job_that_the_server_forgot_is_reported_lost),
		cmocka_unit_test(test_hello_is_said_until_its_event_comes),
		cmocka_unit_test(test_a_request_without_reply_is_sent_again_and_late_replies_are_ignored),
		cmocka_unit_test(test_a_job_is_never_sent_twice),
		cmocka_unit_test(test_a_refusal_carries_code_field_and_retry),
		cmocka_unit_test(test_a_reply_that_is_no_protocol_is_an_error_of_its_own),
		cmocka_unit_test(test_replies_are_read_by_path),
		cmocka_unit_test(test_requests_carry_every_type),
		cmocka_unit_test(test_mistakes_of_a_request_are_reported_when_it_is_sent),
		cmocka_unit_test(test_nobody_there_is_said_within_the_timeout),
		cmocka_unit_test(test_an_endpoint_that_is_none_is_refused),
		cmocka_unit_test(test_a_readable_interrupt_fd_ends_a_wait),
		cmocka_unit_test(test_two_clients_have_two_topics),
		cmocka_unit_test(test_a_client_with_an_allowed_key_is_let_in),
		cmocka_unit_test(test_a_refused_key_is_said_at_once_and_not_after_the_timeout),
		cmocka_unit_test(test_key_files_are_checked),
	};

	for (const char *const *v =
		     (const char *const[]){"WEFT_REQUEST", "WEFT_ANSWER", "WEFT_SERVER_KEY", "WEFT_CLIENT_KEY", NULL};
	     *v != NULL; v++)
		unsetenv(*v);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
