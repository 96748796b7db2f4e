/* store_facts_holding.c: claims and their order, fencing, crashes, orders to holders. */
#include "store_conformance.h"
#include <stdlib.h>
#include <string.h>

static const char *const one[] = {"event"};

/* The daemon goes without a word, and another process opens the store: of a fleet, when the lease is over. */
static void crash(struct kit *k)
{
	char text[STORE_TEXT];
	static int n;
	kit_close(k);
	snprintf(k->owner, sizeof(k->owner), "next:%d:%d", (int)getpid(), n++);
	CHECK_INT(kit_open(k, text), STORE_OK);
}

/* The first job that comes, within the leases of these facts. */
static struct store_op *claim_one(struct kit *k)
{
	for (int i = 0; i < 200; i++) {
		struct store_op *c = kit_claim(k, 1, 1);
		if (c->n_out)
			return c;
		store_op_free(c);
		kit_wait(k, 50);
	}
	CHECK(!"no job came in 10 s");
	return NULL;
}

static void jobs_are_claimed_by_rank_affinity_and_number(struct kit *k)
{
	static const struct {
		int64_t rank;
		uint64_t affinity;
	} of[] = {{5, 1}, {5, 2}, {-3, 9}, {5, 1}, {5, 2}, {4, 7}, {5, 1}};
	static const int order[] = {2, 5, 0, 3, 6, 1, 4};
	uint64_t id = kit_ids(k, 7);
	for (int i = 0; i < 7; i++) {
		struct store_new a = kit_job(id + (uint64_t)i);
		a.rank = of[i].rank;
		a.affinity = of[i].affinity;
		a.model = i % 2 ? "m1" : "";
		CHECK_INT(kit_add(k, &a), STORE_OK);
	}
	struct store_op *c = kit_claim(k, 10, 3);
	CHECK_INT(c->n_out, 3);
	for (int i = 0; i < 3; i++)
		CHECK_INT(c->jobs[i].id, id + (uint64_t)order[i]);
	store_op_free(c);
	c = kit_claim(k, 0, 10);
	CHECK_INT(c->n_out, 4);
	for (int i = 0; i < 4; i++)
		CHECK_INT(c->jobs[i].id, id + (uint64_t)order[i + 3]);
	store_op_free(c);
}

static void each_class_has_its_own_number(struct kit *k)
{
	uint64_t id = kit_ids(k, 10);
	for (uint64_t i = 0; i < 10; i++) {
		struct store_new a = kit_job(id + i);
		a.batch_class = i < 5;
		CHECK_INT(kit_add(k, &a), STORE_OK);
	}
	struct store_op *c = kit_claim(k, 2, 1);
	CHECK_INT(c->n_out, 3);
	int interactive = 0;
	for (size_t i = 0; i < c->n_out; i++)
		interactive += !c->jobs[i].batch_class;
	CHECK_INT(interactive, 2);
	store_op_free(c);
}

static void jobs_of_other_models_stay(struct kit *k)
{
	struct store_new a = kit_job(kit_ids(k, 2)), b = a;
	a.model = "m2";
	b.id = a.id + 1;
	b.model = "m1";
	CHECK_INT(kit_add(k, &a), STORE_OK);
	CHECK_INT(kit_add(k, &b), STORE_OK);
	struct store_op *c = kit_claim(k, 5, 5);
	CHECK_INT(c->n_out, 1);
	CHECK_INT(c->jobs[0].id, b.id);
	store_op_free(c);
	CHECK_INT(kit_state(k, a.id), STORE_QUEUED);
}

static void only_the_token_writes(struct kit *k)
{
	struct store_new a = kit_job(kit_ids(k, 1));
	CHECK_INT(kit_add(k, &a), STORE_OK);
	CHECK_INT(kit_log(k, a.id, 0, 0, 1, one, -1), STORE_STALE);
	CHECK_INT(kit_log(k, a.id, 1, 0, 1, one, -1), STORE_STALE);
	CHECK_INT(kit_log(k, a.id + 1, 1, 0, 1, one, -1), STORE_NOTFOUND);
	CHECK_INT(kit_release(k, a.id, 1, STORE_QUEUED), STORE_STALE);
	CHECK_INT(kit_release(k, a.id, 0, STORE_QUEUED), STORE_STALE);
	struct store_op *c = kit_claim(k, 0, 1);
	uint64_t token = c->jobs[0].token;
	store_op_free(c);
	CHECK_INT(kit_log(k, a.id, token + 1, 0, 1, one, -1), STORE_STALE);
	CHECK_INT(kit_log(k, a.id, token + 1, 0, 1, one, STORE_DONE), STORE_STALE);
	CHECK_INT(kit_log(k, a.id, token, 1, 1, one, -1), STORE_CONFLICT);
	CHECK_INT(kit_log(k, a.id, token, 0, 1, one, STORE_RUNNING), STORE_CONFLICT);
	CHECK_INT(kit_log(k, a.id, token, 0, 1, one, -1), STORE_OK);
	CHECK_INT(kit_log(k, a.id, token, 0, 1, one, -1), STORE_CONFLICT);
	CHECK_INT(kit_release(k, a.id, token, STORE_RUNNING), STORE_CONFLICT);
	CHECK_INT(kit_release(k, a.id, token, STORE_QUEUED), STORE_OK);
	CHECK_INT(kit_log(k, a.id, token, 1, 1, one, -1), STORE_STALE);
	c = kit_claim(k, 0, 1);
	CHECK_INT(c->jobs[0].attempt, 2);
	CHECK_INT(c->jobs[0].n_events, 1);
	CHECK(c->jobs[0].token != token);
	CHECK_INT(kit_log(k, a.id, token, 1, 1, one, STORE_DONE), STORE_STALE);
	CHECK_INT(kit_log(k, a.id, c->jobs[0].token, 1, 1, one, STORE_DONE), STORE_OK);
	CHECK_INT(kit_log(k, a.id, c->jobs[0].token, 2, 1, one, STORE_DONE), STORE_STALE);
	store_op_free(c);
	struct store_op *e = kit_events(k, a.id, "me", 0, 0);
	CHECK_INT(e->n_events, 2);
	store_op_free(e);
}

static void a_vanished_holder_loses_its_job_and_its_token(struct kit *k)
{
	kit_lease(k, 200);
	struct store_new a = kit_job(kit_ids(k, 1));
	a.hold = true;
	a.token = 42;
	CHECK_INT(kit_add(k, &a), STORE_OK);
	crash(k);
	struct store_op *c = claim_one(k);
	CHECK_INT(c->jobs[0].id, a.id);
	CHECK_INT(c->jobs[0].attempt, 2);
	CHECK_INT(c->jobs[0].crashes, 0); /* it had not started */
	CHECK_INT(kit_log(k, a.id, 42, 0, 1, one, STORE_DONE), STORE_STALE);
	CHECK_INT(kit_state(k, a.id), STORE_RUNNING);
	store_op_free(c);
}

static int log_as(struct kit *k, const struct store_job *j, bool started, int n_events, const char *checkpoint)
{
	struct store_op *op = kit_op(STORE_OP_LOG);
	op->job = j->id;
	op->token = j->token;
	op->from = j->n_events;
	op->n_events = (uint32_t)n_events;
	if (n_events)
		op->events = kit_chunk(n_events, one);
	if (checkpoint)
		op->checkpoint = kit_bytes(checkpoint, strlen(checkpoint));
	op->started = started;
	int rc = kit_run(k, op);
	store_op_free(op);
	return rc;
}

static int log_as_n(struct kit *k, const struct store_job *j, int n)
{
	const char *list[] = {"a", "b", "c"};
	return kit_log(k, j->id, j->token, j->n_events, n, list, -1);
}

/* Claims the only job; says that it starts; goes. */
static void start_and_crash(struct kit *k, uint32_t crashes_before, bool progress)
{
	struct store_op *c = claim_one(k);
	struct store_job *j = &c->jobs[0];
	CHECK_INT(j->crashes, crashes_before);
	CHECK(!j->dead);
	CHECK_INT(log_as(k, j, true, 0, NULL), STORE_OK);
	if (progress)
		CHECK_INT(log_as(k, j, false, 1, NULL), STORE_OK);
	store_op_free(c);
	crash(k);
}

static void a_job_that_kills_its_daemon_three_times_is_dead(struct kit *k)
{
	kit_lease(k, 200);
	struct store_new a = kit_job(kit_ids(k, 1));
	CHECK_INT(kit_add(k, &a), STORE_OK);
	start_and_crash(k, 0, false);
	start_and_crash(k, 1, true); /* progress: counts anew */
	start_and_crash(k, 1, false);
	start_and_crash(k, 2, false);
	for (int i = 0; i < 2; i++) { /* and its end survives a crash, too */
		struct store_op *c = claim_one(k);
		CHECK(c->jobs[0].dead && c->jobs[0].started);
		CHECK_INT(c->jobs[0].crashes, 3);
		CHECK_INT(c->jobs[0].n_events, 1);
		if (i == 1)
			CHECK_INT(kit_log(k, a.id, c->jobs[0].token, 1, 1, one, STORE_DEAD), STORE_OK);
		store_op_free(c);
		if (i == 0)
			crash(k);
	}
	struct store_op *v = kit_view(k, a.id);
	CHECK_INT(v->views[0].state, STORE_DEAD);
	CHECK_INT(v->views[0].crashes, 3);
	CHECK_INT(v->views[0].errors, 0);
	store_op_free(v);
}

static void a_clean_release_is_no_crash(struct kit *k)
{
	struct store_new a = kit_job(kit_ids(k, 1));
	CHECK_INT(kit_add(k, &a), STORE_OK);
	for (uint32_t i = 0; i < 4; i++) {
		struct store_op *c = claim_one(k);
		CHECK_INT(c->jobs[0].crashes, 0);
		CHECK_INT(log_as(k, &c->jobs[0], true, 0, NULL), STORE_OK);
		struct store_op *r = kit_op(STORE_OP_RELEASE);
		r->job = a.id;
		r->token = c->jobs[0].token;
		r->state = STORE_QUEUED;
		if (i == 3)
			snprintf(r->reason_code, sizeof(r->reason_code), "failed");
		CHECK_INT(kit_run(k, r), STORE_OK);
		CHECK_INT(r->state, STORE_QUEUED);
		store_op_free(r);
		store_op_free(c);
	}
	struct store_op *v = kit_view(k, a.id);
	CHECK_INT(v->views[0].attempt, 4);
	CHECK_INT(v->views[0].errors, 1);
	CHECK_STR(v->views[0].reason_code, "failed");
	CHECK(v->views[0].started_at > 0);
	store_op_free(v);
}

static void the_last_checkpoint_comes_with_the_claim(struct kit *k)
{
	struct store_new a = kit_job(kit_ids(k, 1));
	CHECK_INT(kit_add(k, &a), STORE_OK);
	struct store_op *c = claim_one(k);
	struct store_job *j = &c->jobs[0];
	CHECK_INT(log_as(k, j, true, 1, "first"), STORE_OK);
	j->n_events = 1;
	CHECK_INT(log_as_n(k, j, 3), STORE_OK);
	j->n_events = 4;
	CHECK_INT(log_as(k, j, false, 0, "second"), STORE_OK);
	CHECK_INT(log_as_n(k, j, 2), STORE_OK);
	CHECK_INT(kit_release(k, a.id, j->token, STORE_QUEUED), STORE_OK);
	store_op_free(c);
	c = claim_one(k);
	CHECK_INT(c->jobs[0].n_events, 6);
	CHECK_INT(c->jobs[0].checkpoint_seq, 4);
	CHECK_INT(c->jobs[0].checkpoint.len, 6);
	CHECK(memcmp(c->jobs[0].checkpoint.data, "second", 6) == 0);
	store_op_free(c);
}

static struct store_op *beat(struct kit *k)
{
	struct store_op *op = kit_op(STORE_OP_HEARTBEAT);
	CHECK_INT(kit_run(k, op), STORE_OK);
	return op;
}

static void orders_reach_the_holder_until_they_are_obeyed(struct kit *k)
{
	struct store_new a = kit_job(kit_ids(k, 1));
	CHECK_INT(kit_add(k, &a), STORE_OK);
	struct store_op *c = claim_one(k), *h = beat(k);
	CHECK_INT(h->n_out, 0);
	store_op_free(h);
	struct store_op *v = kit_op(STORE_OP_VERB);
	v->job = a.id;
	snprintf(v->identity, sizeof(v->identity), "me");
	v->verb = STORE_BURY;
	CHECK_INT(kit_run(k, v), STORE_OK);
	CHECK(v->held);
	CHECK_INT(v->state, STORE_RUNNING);
	store_op_free(v);
	for (int i = 0; i < 2; i++) {
		h = beat(k);
		CHECK_INT(h->n_out, 1);
		CHECK_INT(h->orders[0].id, a.id);
		CHECK_INT(h->orders[0].verb, STORE_BURY);
		CHECK(!h->orders[0].lost);
		store_op_free(h);
	}
	CHECK_INT(kit_verb(k, a.id, "me", STORE_KICK, 0), STORE_OK);
	h = beat(k);
	CHECK_INT(h->n_out, 0);
	store_op_free(h);
	CHECK_INT(kit_verb(k, a.id, "me", STORE_DELAY, 12345), STORE_OK);
	CHECK_INT(kit_release(k, a.id, c->jobs[0].token, STORE_QUEUED), STORE_OK);
	struct store_op *w = kit_view(k, a.id);
	CHECK_INT(w->views[0].state, STORE_DELAYED);
	CHECK_INT(w->views[0].run_at, 12345);
	store_op_free(w);
	store_op_free(c);
	c = claim_one(k);
	CHECK_INT(kit_verb(k, a.id, "me", STORE_CANCEL, 0), STORE_OK);
	CHECK_INT(kit_verb(k, a.id, "me", STORE_DELAY, 1), STORE_OK);
	h = beat(k);
	CHECK_INT(h->n_out, 1);
	CHECK_INT(h->orders[0].verb, STORE_CANCEL);
	store_op_free(h);
	CHECK_INT(kit_log(k, a.id, c->jobs[0].token, 0, 1, one, STORE_CANCELLED), STORE_OK);
	h = beat(k);
	CHECK_INT(h->n_out, 0);
	store_op_free(h);
	store_op_free(c);
}

static void the_store_obeys_for_a_holder_that_is_gone(struct kit *k)
{
	kit_lease(k, 200);
	uint64_t id = kit_ids(k, 3);
	for (uint64_t i = 0; i < 3; i++) {
		struct store_new a = kit_job(id + i);
		a.hold = true;
		a.token = 9;
		CHECK_INT(kit_add(k, &a), STORE_OK);
	}
	CHECK_INT(kit_verb(k, id, "me", STORE_CANCEL, 0), STORE_OK);
	CHECK_INT(kit_verb(k, id + 1, "me", STORE_BURY, 0), STORE_OK);
	crash(k);
	struct store_op *c = claim_one(k);
	CHECK_INT(c->jobs[0].id, id + 2);
	store_op_free(c);
	CHECK_INT(kit_state(k, id), STORE_CANCELLED);
	CHECK_INT(kit_state(k, id + 1), STORE_BURIED);
}

static void ops_of_a_job_finish_in_their_order(struct kit *k)
{
	enum { N = 500 };
	static struct store_op *op[N];
	struct store_new a = kit_job(kit_ids(k, 1));
	a.hold = true;
	a.token = 3;
	CHECK_INT(kit_add(k, &a), STORE_OK);
	for (uint32_t i = 0; i < N; i++) {
		op[i] = kit_op(STORE_OP_LOG);
		op[i]->job = a.id;
		op[i]->token = 3;
		op[i]->from = i;
		op[i]->n_events = 1;
		op[i]->events = kit_chunk(1, one);
		op[i]->stubborn = true;
		op[i]->state = i == N - 1 ? STORE_DONE : -1;
		kit_submit(k, op[i]);
	}
	for (uint32_t i = 0; i < N; i++) {
		CHECK_INT(kit_wait_for(k, op[i]), STORE_OK);
		store_op_free(op[i]);
	}
	struct store_op *e = kit_events(k, a.id, "me", 0, 0);
	CHECK_INT(e->n_events, N);
	CHECK_INT(e->state, STORE_DONE);
	store_op_free(e);
}

const struct fact facts_of_holding[] = {
	FACT(jobs_are_claimed_by_rank_affinity_and_number),
	FACT(each_class_has_its_own_number),
	FACT(jobs_of_other_models_stay),
	FACT(only_the_token_writes),
	FACT(a_vanished_holder_loses_its_job_and_its_token),
	FACT(a_job_that_kills_its_daemon_three_times_is_dead),
	FACT(a_clean_release_is_no_crash),
	FACT(the_last_checkpoint_comes_with_the_claim),
	FACT(orders_reach_the_holder_until_they_are_obeyed),
	FACT(the_store_obeys_for_a_holder_that_is_gone),
	FACT(ops_of_a_job_finish_in_their_order),
	{0},
};
