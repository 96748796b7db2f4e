/* store_conformance.c: what daemon/store.h promises, held against one backend: store_conformance [URL]; SQLite in a temporary folder without one. Each
 * fact starts from an empty store. */
#include "store_conformance.h"
#include <stdlib.h>
#include <string.h>

static void a_job_is_added_claimed_run_and_ended(struct kit *k)
{
	const char *queued[] = {"queued"}, *started[] = {"started"}, *rest[] = {"delta", "done"};
	struct store_new a = kit_job(kit_ids(k, 1));
	struct store_bytes chunk = kit_chunk(1, queued);
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
	CHECK(!j->started && !j->dead);
	CHECK_STR(j->identity, "me");
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
	CHECK_INT(kit_log(k, a.id, j->token, 4, 1, started, -1), STORE_STALE);
	store_op_free(c);
	c = kit_claim(k, 4, 4);
	CHECK_INT(c->n_out, 0);
	store_op_free(c);
	struct store_op *e = kit_op(STORE_OP_EVENTS);
	e->job = a.id;
	snprintf(e->identity, sizeof(e->identity), "me");
	e->from = 1;
	CHECK_INT(kit_run(k, e), STORE_OK);
	const char *all[] = {"started", "delta", "done"};
	struct store_bytes want = kit_chunk(3, all);
	CHECK_INT(e->n_events, 3);
	CHECK_INT(e->first, 4);
	CHECK_INT(e->state, STORE_DONE);
	CHECK_INT(e->events.len, want.len);
	CHECK(memcmp(e->events.data, want.data, want.len) == 0);
	store_op_free(e);
	free(want.data);
	free(chunk.data);
}

static const struct fact facts[] = {
	FACT(a_job_is_added_claimed_run_and_ended),
	{0},
};

int main(int argc, char **argv)
{
	return conformance_main(argc, argv, facts);
}
