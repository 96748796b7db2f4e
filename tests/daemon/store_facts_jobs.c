/* store_facts_jobs.c: adding, keys, verbs, lists, events, sweeping. */
#include "store_conformance.h"
#include <stdlib.h>
#include <string.h>

static const char *const one[] = {"queued"}, *const done[] = {"done"};

static void a_job_is_added_claimed_run_and_ended(struct kit *k)
{
	const char *started[] = {"started"}, *rest[] = {"delta", "done"}, *all[] = {"started", "delta", "done"};
	struct store_new a = kit_job(kit_ids(k, 1));
	struct store_bytes chunk = kit_chunk(1, one);
	a.events = chunk.data;
	a.events_len = chunk.len;
	a.n_events = 1;
	a.custom_id = "row-1";
	CHECK_INT(kit_add(k, &a), STORE_OK);
	CHECK_INT(a.existing, 0);
	CHECK_INT(kit_state(k, a.id), STORE_QUEUED);
	struct store_op *c = kit_claim(k, 4, 4);
	CHECK_INT(c->n_out, 1);
	struct store_job *j = &c->jobs[0];
	CHECK_INT(j->id, a.id);
	CHECK(j->token != 0);
	CHECK_INT(j->attempt, 1);
	CHECK_INT(j->crashes, 0);
	CHECK(!j->started && !j->dead && j->batch_class);
	CHECK_STR(j->identity, "me");
	CHECK_STR(j->topic, a.topic);
	CHECK_STR(j->op, "generate");
	CHECK_STR(j->custom_id, "row-1");
	CHECK_STR(j->key, "");
	CHECK_INT(j->n_events, 1);
	CHECK_INT(j->events.len, chunk.len);
	CHECK(memcmp(j->events.data, chunk.data, chunk.len) == 0);
	CHECK_INT(j->request.len, 7);
	CHECK(j->checkpoint.data == NULL);
	CHECK_INT(kit_state(k, a.id), STORE_RUNNING);
	CHECK_INT(kit_log(k, a.id, j->token, 1, 1, started, -1), STORE_OK);
	CHECK_INT(kit_log(k, a.id, j->token, 2, 2, rest, STORE_DONE), STORE_OK);
	CHECK_INT(kit_state(k, a.id), STORE_DONE);
	store_op_free(c);
	c = kit_claim(k, 4, 4);
	CHECK_INT(c->n_out, 0);
	store_op_free(c);
	struct store_op *e = kit_events(k, a.id, "me", 1, 0);
	struct store_bytes want = kit_chunk(3, all);
	CHECK_INT(e->code, STORE_OK);
	CHECK_INT(e->n_events, 3);
	CHECK_INT(e->from, 1);
	CHECK_INT(e->first, 4);
	CHECK_INT(e->state, STORE_DONE);
	CHECK_INT(e->events.len, want.len);
	CHECK(memcmp(e->events.data, want.data, want.len) == 0);
	store_op_free(e);
	free(want.data);
	free(chunk.data);
}

static void numbers_are_given_out_once(struct kit *k)
{
	char text[STORE_TEXT];
	uint64_t a = kit_ids(k, 10), b = kit_ids(k, 1), c = kit_ids(k, 1000);
	CHECK(a > 0 && b >= a + 10 && c > b);
	kit_close(k);
	CHECK_INT(kit_open(k, text), STORE_OK);
	CHECK(kit_ids(k, 1) >= c + 1000);
}

static void everything_of_a_job_comes_back(struct kit *k)
{
	struct store_new a = kit_job(kit_ids(k, 1));
	a.rank = INT64_MIN;
	a.affinity = UINT64_MAX;
	a.priority = UINT32_MAX;
	a.token = UINT64_MAX;
	a.accepted_at = INT64_MAX;
	a.deadline_at = INT64_MIN;
	a.queue_until = INT64_MAX;
	a.batch_class = false;
	a.key = "'; DROP TABLE job; --\"\\\x01%_?$1\xc3\xa9\xf0\x9f\xa7\xb5";
	a.identity = "o'brien\"\\ \xe2\x80\xae";
	a.topic = "";
	a.custom_id = "\n\t\r{skip}{lock}$1?1";
	a.op = "score";
	a.request = "\0\xff\0'";
	a.request_len = 4;
	a.model = "m1";
	a.hold = true;
	memset(a.body, 0xff, sizeof(a.body));
	CHECK_INT(kit_add(k, &a), STORE_OK);
	CHECK_INT(kit_release(k, a.id, UINT64_MAX, STORE_QUEUED), STORE_OK);
	struct store_op *c = kit_claim(k, 1, 0);
	CHECK_INT(c->n_out, 1);
	struct store_job *j = &c->jobs[0];
	CHECK_INT(j->rank, a.rank);
	CHECK_INT(j->priority, a.priority);
	CHECK_INT(j->accepted_at, a.accepted_at);
	CHECK_INT(j->deadline_at, a.deadline_at);
	CHECK_INT(j->queue_until, a.queue_until);
	CHECK_STR(j->key, a.key);
	CHECK_STR(j->identity, a.identity);
	CHECK_STR(j->topic, "");
	CHECK_STR(j->custom_id, a.custom_id);
	CHECK_STR(j->op, "score");
	CHECK_INT(j->request.len, 4);
	CHECK(memcmp(j->request.data, a.request, 4) == 0);
	CHECK_INT(j->attempt, 2);
	CHECK(!j->batch_class);
	store_op_free(c);
	struct store_new b = a;
	b.id = kit_ids(k, 1);
	CHECK_INT(kit_add(k, &b), STORE_OK);
	CHECK_INT(b.existing, a.id);
}

static void empty_and_large_bytes_are_kept(struct kit *k)
{
	const size_t size = 16 << 20;
	struct store_new a = kit_job(kit_ids(k, 2)), b = a;
	char *large = malloc(size);
	for (size_t i = 0; i < size; i++)
		large[i] = (char)(i * 2654435761u >> 13);
	a.request_len = 0;
	b.id = a.id + 1;
	b.rank++;
	b.request = large;
	b.request_len = size;
	CHECK_INT(kit_add(k, &a), STORE_OK);
	CHECK_INT(kit_add(k, &b), STORE_OK);
	struct store_op *c = kit_claim(k, 0, 2);
	CHECK_INT(c->n_out, 2);
	CHECK(c->jobs[0].request.data != NULL);
	CHECK_INT(c->jobs[0].request.len, 0);
	CHECK_INT(c->jobs[1].request.len, size);
	CHECK(memcmp(c->jobs[1].request.data, large, size) == 0);
	struct store_op *l = kit_op(STORE_OP_LOG);
	l->job = b.id;
	l->token = c->jobs[1].token;
	l->checkpoint = kit_bytes(large, size);
	CHECK_INT(kit_run(k, l), STORE_OK);
	store_op_free(l);
	CHECK_INT(kit_release(k, b.id, c->jobs[1].token, STORE_QUEUED), STORE_OK);
	store_op_free(c);
	c = kit_claim(k, 0, 1);
	CHECK_INT(c->n_out, 1);
	CHECK_INT(c->jobs[0].checkpoint.len, size);
	CHECK(memcmp(c->jobs[0].checkpoint.data, large, size) == 0);
	store_op_free(c);
	free(large);
}

static void a_key_means_one_job_until_it_is_closed(struct kit *k)
{
	uint64_t id = kit_ids(k, 6);
	struct store_new a = kit_job(id), b = kit_job(id + 1), c = kit_job(id + 2), d = kit_job(id + 3), e = kit_job(id + 4);
	a.key = b.key = c.key = d.key = e.key = "k";
	a.hold = true;
	a.token = 77;
	memset(c.body, 1, sizeof(c.body));
	d.identity = "you";
	CHECK_INT(kit_add(k, &a), STORE_OK);
	CHECK_INT(kit_add(k, &b), STORE_OK);
	CHECK_INT(b.existing, a.id);
	CHECK_INT(kit_add(k, &c), STORE_CONFLICT);
	CHECK_INT(c.existing, a.id);
	CHECK_INT(kit_add(k, &d), STORE_OK);
	CHECK_INT(d.existing, 0);
	CHECK_INT(kit_state(k, b.id), STORE_NOTFOUND);
	CHECK_INT(kit_verb(k, a.id, "me", STORE_CLOSE, 0), STORE_CONFLICT);
	CHECK_INT(kit_log(k, a.id, 77, 0, 1, done, STORE_DONE), STORE_OK);
	CHECK_INT(kit_add(k, &b), STORE_OK);
	CHECK_INT(b.existing, a.id);
	CHECK_INT(kit_verb(k, a.id, "me", STORE_CLOSE, 0), STORE_OK);
	CHECK_INT(kit_state(k, a.id), STORE_NOTFOUND);
	CHECK_INT(kit_add(k, &e), STORE_OK);
	CHECK_INT(e.existing, 0);
}

static void jobs_of_one_op_each_have_their_own_answer(struct kit *k)
{
	enum { N = 100 };
	uint64_t id = kit_ids(k, N);
	struct store_op *op = kit_op(STORE_OP_ADD);
	op->add = calloc(N, sizeof(*op->add));
	op->n_add = N;
	for (int i = 0; i < N; i++) {
		op->add[i] = kit_job(id + (uint64_t)i);
		op->add[i].key = i % 10 == 9 ? "same" : NULL;
		op->add[i].body[0] = i >= 50 && i % 10 == 9;
	}
	CHECK_INT(kit_run(k, op), STORE_OK);
	for (int i = 0; i < N; i++) {
		bool later = i % 10 == 9 && i > 9;
		CHECK_INT(op->add[i].code, later && i >= 50 ? STORE_CONFLICT : STORE_OK);
		CHECK_INT(op->add[i].existing, later ? id + 9 : 0);
		CHECK_INT(kit_state(k, id + (uint64_t)i), later ? STORE_NOTFOUND : STORE_QUEUED);
	}
	store_op_free(op);
}

static void a_number_that_is_taken_fails_alone(struct kit *k)
{
	uint64_t id = kit_ids(k, 3);
	struct store_op *op[3];
	struct store_new a = kit_job(id);
	CHECK_INT(kit_add(k, &a), STORE_OK);
	for (int i = 0; i < 3; i++) { /* in one group, or at least together */
		op[i] = kit_op(STORE_OP_ADD);
		op[i]->add = malloc(sizeof(a));
		op[i]->n_add = 1;
		op[i]->add[0] = kit_job(i == 1 ? id : id + 1 + (uint64_t)i / 2);
	}
	for (int i = 0; i < 3; i++)
		kit_submit(k, op[i]);
	CHECK_INT(kit_wait_for(k, op[0]), STORE_OK);
	CHECK_INT(kit_wait_for(k, op[1]), STORE_CONFLICT);
	CHECK_INT(kit_wait_for(k, op[2]), STORE_OK);
	CHECK_INT(kit_state(k, id + 1), STORE_QUEUED);
	CHECK_INT(kit_state(k, id + 2), STORE_QUEUED);
	for (int i = 0; i < 3; i++)
		store_op_free(op[i]);
	struct store_new next = kit_job(kit_ids(k, 1));
	CHECK_INT(kit_add(k, &next), STORE_OK);
}

static void verbs_move_jobs_that_nobody_holds(struct kit *k)
{
	struct store_new a = kit_job(kit_ids(k, 1));
	CHECK_INT(kit_add(k, &a), STORE_OK);
	CHECK_INT(kit_verb(k, a.id, "you", STORE_CANCEL, 0), STORE_NOTFOUND);
	CHECK_INT(kit_verb(k, a.id + 100, "me", STORE_CANCEL, 0), STORE_NOTFOUND);
	CHECK_INT(kit_verb(k, a.id, "me", STORE_TOUCH, 0), STORE_OK);
	CHECK_INT(kit_verb(k, a.id, "me", STORE_BURY, 0), STORE_OK);
	CHECK_INT(kit_state(k, a.id), STORE_BURIED);
	struct store_op *c = kit_claim(k, 1, 1);
	CHECK_INT(c->n_out, 0);
	store_op_free(c);
	CHECK_INT(kit_verb(k, a.id, "me", STORE_BURY, 0), STORE_OK);
	CHECK_INT(kit_verb(k, a.id, "me", STORE_KICK, 0), STORE_OK);
	CHECK_INT(kit_state(k, a.id), STORE_QUEUED);
	CHECK_INT(kit_verb(k, a.id, "me", STORE_KICK, 0), STORE_OK);
	CHECK_INT(kit_verb(k, a.id, "me", STORE_DELAY, INT64_MAX), STORE_OK);
	CHECK_INT(kit_state(k, a.id), STORE_DELAYED);
	c = kit_claim(k, 1, 1);
	CHECK_INT(c->n_out, 0);
	store_op_free(c);
	CHECK_INT(kit_verb(k, a.id, "me", STORE_DELAY, 1), STORE_OK); /* long ago */
	c = kit_claim(k, 1, 1);
	CHECK_INT(c->n_out, 1);
	CHECK_INT(kit_release(k, a.id, c->jobs[0].token, STORE_DELAYED), STORE_OK);
	store_op_free(c);
	CHECK_INT(kit_verb(k, a.id, "me", STORE_CANCEL, 0), STORE_OK);
	CHECK_INT(kit_state(k, a.id), STORE_CANCELLED);
	CHECK_INT(kit_verb(k, a.id, "me", STORE_CANCEL, 0), STORE_OK);
	CHECK_INT(kit_verb(k, a.id, "me", STORE_KICK, 0), STORE_CONFLICT);
	CHECK_INT(kit_verb(k, a.id, "me", STORE_BURY, 0), STORE_CONFLICT);
	CHECK_INT(kit_verb(k, a.id, "me", STORE_DELAY, 5), STORE_CONFLICT);
	CHECK_INT(kit_verb(k, a.id, "me", STORE_TOUCH, 0), STORE_OK);
	CHECK_INT(kit_verb(k, a.id, "me", STORE_CLOSE, 0), STORE_OK);
	CHECK_INT(kit_verb(k, a.id, "me", STORE_CLOSE, 0), STORE_NOTFOUND);
}

static void a_job_cancelled_without_a_holder_says_so(struct kit *k)
{
	struct store_new a = kit_job(kit_ids(k, 1));
	struct store_bytes chunk = kit_chunk(1, one);
	a.events = chunk.data;
	a.events_len = chunk.len;
	a.n_events = 1;
	CHECK_INT(kit_add(k, &a), STORE_OK);
	CHECK_INT(kit_verb(k, a.id, "me", STORE_CANCEL, 0), STORE_OK);
	struct store_op *e = kit_events(k, a.id, "me", 0, 0);
	CHECK_INT(e->n_events, 1);
	CHECK_INT(e->first, 1);
	CHECK_INT(e->state, STORE_CANCELLED);
	CHECK_STR(e->reason_code, "cancelled");
	store_op_free(e);
	free(chunk.data);
}

static void events_come_in_pieces_from_any_number(struct kit *k)
{
	struct store_new a = kit_job(kit_ids(k, 1));
	a.hold = true;
	a.token = 5;
	CHECK_INT(kit_add(k, &a), STORE_OK);
	struct store_op *e = kit_events(k, a.id, "me", 0, 0);
	CHECK_INT(e->code, STORE_OK);
	CHECK_INT(e->n_events, 0);
	store_op_free(e);
	uint32_t seq = 0;
	for (int i = 0; i < 200; i++) { /* chunks of 1, 2, 3, 4 events of 0.. bytes */
		char text[4][16];
		const char *list[4];
		for (int m = 0; m <= i % 4; m++) {
			snprintf(text[m], sizeof(text[m]), "%.*u", (int)((seq + (uint32_t)m) % 11), seq + (uint32_t)m);
			list[m] = text[m];
		}
		CHECK_INT(kit_log(k, a.id, 5, seq, i % 4 + 1, list, -1), STORE_OK);
		seq += (uint32_t)(i % 4 + 1);
	}
	for (uint32_t from = 0; from < seq; from += 7)
		for (size_t max = 1; max < 3000; max = max * 5 + 3) {
			e = kit_events(k, a.id, "me", from, max);
			CHECK_INT(e->first, seq);
			CHECK_INT(e->from, from);
			CHECK(e->n_events >= 1 && (e->n_events == 1 || e->events.len <= max));
			size_t at = 0;
			const uint8_t *p = e->events.data;
			for (uint32_t i = from; i < from + e->n_events; i++) {
				char want[16];
				int len = snprintf(want, sizeof(want), "%.*u", (int)(i % 11), i);
				CHECK_INT(p[at], len);
				CHECK(memcmp(p + at + 4, want, (size_t)len) == 0);
				at += 4 + (size_t)len;
			}
			CHECK_INT(at, e->events.len);
			if (at < max && from + e->n_events < seq)
				CHECK(e->events.len + 4 + 10 > max);
			store_op_free(e);
		}
	e = kit_events(k, a.id, "me", seq, 0);
	CHECK_INT(e->n_events, 0);
	store_op_free(e);
	e = kit_events(k, a.id, "you", 0, 0);
	CHECK_INT(e->code, STORE_NOTFOUND);
	store_op_free(e);
}

static struct store_op *list(struct kit *k, const char *identity, int state, int class, uint64_t after, uint32_t limit)
{
	struct store_op *op = kit_op(STORE_OP_LIST);
	snprintf(op->identity, sizeof(op->identity), "%s", identity);
	op->filter.state = state;
	op->filter.batch_class = class;
	op->filter.after = after;
	op->filter.limit = limit;
	CHECK_INT(kit_run(k, op), STORE_OK);
	return op;
}

static void lists_are_of_one_identity_in_order_and_counted(struct kit *k)
{
	uint64_t id = kit_ids(k, 40);
	for (uint64_t i = 0; i < 40; i++) {
		struct store_new a = kit_job(id + i);
		a.identity = i % 2 ? "me" : "";
		a.batch_class = i % 4 < 2;
		a.run_at = i % 10 == 1 ? INT64_MAX : 0;
		CHECK_INT(kit_add(k, &a), STORE_OK);
	}
	CHECK_INT(kit_verb(k, id + 3, "me", STORE_CANCEL, 0), STORE_OK);
	CHECK_INT(kit_verb(k, id + 5, "me", STORE_BURY, 0), STORE_OK);
	struct store_op *l = list(k, "me", -1, -1, 0, 0);
	CHECK_INT(l->n_out, 20);
	for (size_t i = 0; i < 20; i++)
		CHECK_INT(l->views[i].id, id + 1 + 2 * i);
	CHECK_INT(l->counts[STORE_QUEUED], 14);
	CHECK_INT(l->counts[STORE_DELAYED], 4);
	CHECK_INT(l->counts[STORE_BURIED], 1);
	CHECK_INT(l->counts[STORE_CANCELLED], 1);
	store_op_free(l);
	l = list(k, "", -1, -1, 0, 7);
	CHECK_INT(l->n_out, 7);
	CHECK_INT(l->views[6].id, id + 12);
	uint64_t after = l->views[6].id;
	store_op_free(l);
	l = list(k, "", -1, 1, after, 100);
	CHECK_INT(l->n_out, 6);
	CHECK_INT(l->views[0].id, id + 16);
	store_op_free(l);
	l = list(k, "me", STORE_BURIED, -1, 0, 5);
	CHECK_INT(l->n_out, 1);
	CHECK_INT(l->views[0].id, id + 5);
	CHECK_INT(l->views[0].state, STORE_BURIED);
	store_op_free(l);
	l = list(k, "nobody", -1, -1, 0, 5);
	CHECK_INT(l->n_out, 0);
	store_op_free(l);
}

static uint32_t sweep(struct kit *k, int64_t before, uint32_t max)
{
	struct store_op *op = kit_op(STORE_OP_SWEEP);
	op->before = before;
	op->n[0] = max;
	CHECK_INT(kit_run(k, op), STORE_OK);
	uint32_t n = op->n[0];
	store_op_free(op);
	return n;
}

static void the_sweep_forgets_what_ended_before(struct kit *k)
{
	uint64_t id = kit_ids(k, 10);
	for (uint64_t i = 0; i < 10; i++) {
		struct store_new a = kit_job(id + i);
		a.key = i ? NULL : "k";
		CHECK_INT(kit_add(k, &a), STORE_OK);
		if (i < 8)
			CHECK_INT(kit_verb(k, a.id, "me", STORE_CANCEL, 0), STORE_OK);
	}
	struct store_op *v = kit_view(k, id);
	int64_t ended_at = v->views[0].ended_at;
	CHECK(ended_at > 1600000000000);
	store_op_free(v);
	CHECK_INT(sweep(k, ended_at, 100), 0); /* not before */
	CHECK_INT(sweep(k, INT64_MAX, 3), 3);
	CHECK_INT(sweep(k, INT64_MAX, 100), 5);
	CHECK_INT(sweep(k, INT64_MAX, 100), 0);
	CHECK_INT(kit_state(k, id), STORE_NOTFOUND);
	CHECK_INT(kit_state(k, id + 8), STORE_QUEUED);
	struct store_op *l = list(k, "me", -1, -1, 0, 0);
	CHECK_INT(l->counts[STORE_CANCELLED], 0);
	CHECK_INT(l->counts[STORE_QUEUED], 2);
	store_op_free(l);
	struct store_new a = kit_job(kit_ids(k, 1));
	a.key = "k";
	CHECK_INT(kit_add(k, &a), STORE_OK);
	CHECK_INT(a.existing, 0);
}

static void many_ops_are_committed_together(struct kit *k)
{
	enum { N = 3000 };
	static struct store_op *op[N];
	uint64_t id = kit_ids(k, N);
	struct store_health before, after;
	store_get_health(k->store, &before);
	for (int i = 0; i < N; i++) {
		op[i] = kit_op(STORE_OP_ADD);
		op[i]->add = malloc(sizeof(struct store_new));
		op[i]->add[0] = kit_job(id + (uint64_t)i);
		op[i]->n_add = 1;
		kit_submit(k, op[i]);
	}
	for (int i = 0; i < N; i++) {
		CHECK_INT(kit_wait_for(k, op[i]), STORE_OK);
		store_op_free(op[i]);
	}
	store_get_health(k->store, &after);
	CHECK_INT(after.code, STORE_OK);
	CHECK_INT(after.waiting, 0);
	CHECK(after.ops - before.ops >= N);
	CHECK((after.commits - before.commits) * 4 < N);
	struct store_op *c = kit_claim(k, 0, N);
	CHECK_INT(c->n_out, N);
	for (int i = 0; i < N; i++)
		CHECK_INT(c->jobs[i].id, id + (uint64_t)i);
	store_op_free(c);
}

static void what_was_told_kept_is_there_after_reopening(struct kit *k)
{
	char text[STORE_TEXT];
	struct store_new a = kit_job(kit_ids(k, 1));
	a.key = "stays";
	CHECK_INT(kit_add(k, &a), STORE_OK);
	kit_close(k);
	CHECK_INT(kit_open(k, text), STORE_OK);
	CHECK_INT(kit_state(k, a.id), STORE_QUEUED);
	struct store_new b = kit_job(kit_ids(k, 1));
	b.key = "stays";
	CHECK_INT(kit_add(k, &b), STORE_OK);
	CHECK_INT(b.existing, a.id);
}

const struct fact facts_of_jobs[] = {
	FACT(a_job_is_added_claimed_run_and_ended),
	FACT(numbers_are_given_out_once),
	FACT(everything_of_a_job_comes_back),
	FACT(empty_and_large_bytes_are_kept),
	FACT(a_key_means_one_job_until_it_is_closed),
	FACT(jobs_of_one_op_each_have_their_own_answer),
	FACT(a_number_that_is_taken_fails_alone),
	FACT(verbs_move_jobs_that_nobody_holds),
	FACT(a_job_cancelled_without_a_holder_says_so),
	FACT(events_come_in_pieces_from_any_number),
	FACT(lists_are_of_one_identity_in_order_and_counted),
	FACT(the_sweep_forgets_what_ended_before),
	FACT(many_ops_are_committed_together),
	FACT(what_was_told_kept_is_there_after_reopening),
	{0},
};
