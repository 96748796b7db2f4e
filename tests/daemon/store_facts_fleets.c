/* store_facts_fleets.c: several daemons on one server. Each store has a writer thread and a connection of its own, so what is
 * submitted to several of them at once does run at once. */
#include "config.h"
#include "store_conformance.h"
#include <stdlib.h>
#include <string.h>
#ifdef HAVE_POSTGRESQL
#include <libpq-fe.h>
#endif

static const char *const one[] = {"event"};
static const char topic_a[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", topic_b[] = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

static void join(struct kit *k, const struct kit *first, const char *owner, int64_t lease_ms)
{
	char text[STORE_TEXT];
	*k = (struct kit){.lease_ms = lease_ms};
	snprintf(k->url, sizeof(k->url), "%s", first->url);
	snprintf(k->model, sizeof(k->model), "%s", first->model);
	snprintf(k->owner, sizeof(k->owner), "%s", owner);
	CHECK_INT(kit_open(k, text), STORE_OK);
}

static void three_join(struct kit of[3], const struct kit *k)
{
	join(&of[0], k, "one", 30000);
	join(&of[1], k, "two", 30000);
	join(&of[2], k, "three", 30000);
}

static void three_leave(struct kit of[3])
{
	for (int i = 0; i < 3; i++)
		kit_close(&of[i]);
}

static uint64_t add_rows(struct kit *k, uint64_t n, uint64_t batch)
{
	uint64_t id = kit_ids(k, (uint32_t)n);
	struct store_op *op = kit_op(STORE_OP_ADD);
	op->add = calloc(n, sizeof(*op->add));
	op->n_add = n;
	for (uint64_t i = 0; i < n; i++) {
		op->add[i] = kit_job(id + i);
		op->add[i].batch = batch;
		op->add[i].row = batch ? i : 0;
	}
	CHECK_INT(kit_run(k, op), STORE_OK);
	store_op_free(op);
	return id;
}

static struct store_op *log_op(uint64_t job, uint64_t token, uint32_t from, int state)
{
	struct store_op *op = kit_op(STORE_OP_LOG);
	op->job = job;
	op->token = token;
	op->from = from;
	op->n_events = 1;
	op->events = kit_chunk(1, one);
	op->state = state;
	return op;
}

static void no_job_is_claimed_twice(struct kit *k)
{
	enum { N = 900 };
	struct kit of[3];
	bool seen[N] = {false};
	int total = 0, by[3] = {0};
	uint64_t id = add_rows(k, N, 0);
	three_join(of, k);
	while (total < N) {
		struct store_op *c[3];
		int got = 0;
		for (int i = 0; i < 3; i++) {
			c[i] = kit_op(STORE_OP_CLAIM);
			c[i]->n[1] = 7 + (uint32_t)i;
			kit_submit(&of[i], c[i]);
		}
		for (int i = 0; i < 3; i++) {
			CHECK_INT(kit_wait_for(&of[i], c[i]), STORE_OK);
			for (size_t m = 0; m < c[i]->n_out; m++) {
				uint64_t at = c[i]->jobs[m].id - id;
				CHECK(at < N && !seen[at]);
				seen[at] = true;
			}
			got += (int)c[i]->n_out;
			by[i] += (int)c[i]->n_out;
			store_op_free(c[i]);
		}
		CHECK(got > 0);
		total += got;
	}
	CHECK(by[0] > 0 && by[1] > 0 && by[2] > 0);
	three_leave(of);
}

static void a_late_write_changes_nothing_and_its_writer_hears_of_it(struct kit *k)
{
	struct kit late, next;
	uint64_t id = add_rows(k, 1, 0);
	join(&late, k, "late", 300);
	join(&next, k, "next", 30000);
	struct store_op *a = kit_claim(&late, 0, 1), *b = NULL;
	CHECK_INT(a->n_out, 1);
	CHECK_INT(kit_log(&late, id, a->jobs[0].token, 0, 1, one, -1), STORE_OK);
	for (int i = 0; i < 200; i++) {
		b = kit_claim(&next, 0, 1);
		if (b->n_out)
			break;
		store_op_free(b);
		kit_wait(&next, 50);
	}
	CHECK_INT(b->n_out, 1);
	CHECK_INT(b->jobs[0].n_events, 1);
	CHECK_INT(kit_log(&late, id, a->jobs[0].token, 1, 1, one, STORE_DONE), STORE_STALE);
	CHECK_INT(kit_release(&late, id, a->jobs[0].token, STORE_QUEUED), STORE_STALE);
	struct store_op *h = kit_op(STORE_OP_HEARTBEAT);
	CHECK_INT(kit_run(&late, h), STORE_OK);
	CHECK_INT(h->n_out, 1);
	CHECK(h->orders[0].lost);
	CHECK_INT(h->orders[0].id, id);
	store_op_free(h);
	h = kit_op(STORE_OP_HEARTBEAT);
	CHECK_INT(kit_run(&late, h), STORE_OK);
	CHECK_INT(h->n_out, 0);
	store_op_free(h);
	CHECK_INT(kit_log(&next, id, b->jobs[0].token, 1, 1, one, STORE_DONE), STORE_OK);
	struct store_op *v = kit_view(k, id);
	CHECK_INT(v->views[0].state, STORE_DONE);
	CHECK_STR(v->views[0].owner, "next");
	CHECK_INT(v->views[0].n_events, 2);
	CHECK_INT(v->views[0].attempt, 2);
	store_op_free(v);
	store_op_free(a);
	store_op_free(b);
	kit_close(&late);
	kit_close(&next);
}

static void heartbeats_keep_what_is_held(struct kit *k)
{
	struct kit a, b;
	uint64_t id = add_rows(k, 2, 0);
	join(&a, k, "a", 3000);
	join(&b, k, "b", 3000);
	struct store_op *c = kit_claim(&a, 0, 1);
	for (int i = 0; i < 45; i++) {
		struct store_op *h = kit_op(STORE_OP_HEARTBEAT), *other = kit_claim(&b, 0, 1);
		CHECK_INT(kit_run(&a, h), STORE_OK);
		CHECK_INT(h->n_out, 0);
		CHECK_INT(other->n_out, i == 0);
		if (other->n_out) /* b keeps it without heartbeats: nobody else asks */
			CHECK_INT(other->jobs[0].id, id + 1);
		store_op_free(h);
		store_op_free(other);
		kit_wait(&a, 100);
	}
	CHECK_INT(kit_log(&a, id, c->jobs[0].token, 0, 1, one, STORE_DONE), STORE_OK);
	store_op_free(c);
	kit_close(&a);
	kit_close(&b);
}

static void a_key_is_one_job_in_the_whole_fleet(struct kit *k)
{
	struct kit of[3];
	three_join(of, k);
	for (int round = 0; round < 30; round++) {
		char key[32];
		struct store_op *op[3];
		uint64_t id = kit_ids(k, 3), kept = 0;
		int added = 0;
		snprintf(key, sizeof(key), "key-%d", round);
		for (int i = 0; i < 3; i++) {
			op[i] = kit_op(STORE_OP_ADD);
			op[i]->add = malloc(sizeof(struct store_new));
			op[i]->add[0] = kit_job(id + (uint64_t)i);
			op[i]->add[0].key = key;
			op[i]->n_add = 1;
		}
		for (int i = 0; i < 3; i++)
			kit_submit(&of[i], op[i]);
		for (int i = 0; i < 3; i++) {
			CHECK_INT(kit_wait_for(&of[i], op[i]), STORE_OK);
			CHECK_INT(op[i]->add[0].code, STORE_OK);
			added += op[i]->add[0].existing == 0;
			if (op[i]->add[0].existing == 0)
				kept = id + (uint64_t)i;
		}
		CHECK_INT(added, 1);
		for (int i = 0; i < 3; i++) {
			CHECK(op[i]->add[0].existing == 0 || op[i]->add[0].existing == kept);
			store_op_free(op[i]);
		}
	}
	three_leave(of);
}

/* Three end rows at once while a fourth follows the results by their cursor. */
static void results_by_cursor_miss_nothing(struct kit *k)
{
	enum { N = 1500 };
	struct kit of[3];
	bool seen[N] = {false};
	size_t n = 0;
	uint64_t cursor = 0;
	struct store_op *b = kit_batch_op(STORE_OP_BATCH_OPEN, 0);
	CHECK_INT(kit_run(k, b), STORE_OK);
	uint64_t batch = b->batches[0].id;
	store_op_free(b);
	add_rows(k, N, batch);
	three_join(of, k);
	struct store_op *log[N];
	struct kit *whose[N];
	int submitted = 0;
	for (int i = 0; i < 3; i++) {
		struct store_op *c = kit_claim(&of[i], 0, N / 3);
		CHECK_INT(c->n_out, N / 3);
		for (size_t m = 0; m < c->n_out; m++, submitted++) {
			log[submitted] = log_op(c->jobs[m].id, c->jobs[m].token, 0, STORE_DONE);
			whose[submitted] = &of[i];
		}
		store_op_free(c);
	}
	for (int i = 0; i < N; i++) { /* the three in turn, and a look at the results between */
		int at = i / 3 + i % 3 * (N / 3);
		kit_submit(whose[at], log[at]);
		if (i % 10 != 9)
			continue;
		struct store_op *r = kit_batch_op(STORE_OP_BATCH_RESULTS, batch);
		r->cursor = cursor;
		CHECK_INT(kit_run(k, r), STORE_OK);
		for (size_t m = 0; m < r->n_out; m++, n++) {
			CHECK(!seen[r->records[m].row]);
			seen[r->records[m].row] = true;
		}
		cursor = r->cursor;
		store_op_free(r);
	}
	for (int i = 0; i < N; i++) {
		CHECK_INT(kit_wait_for(whose[i], log[i]), STORE_OK);
		store_op_free(log[i]);
	}
	struct store_op *r = kit_batch_op(STORE_OP_BATCH_RESULTS, batch);
	r->cursor = cursor;
	CHECK_INT(kit_run(k, r), STORE_OK);
	CHECK_INT(n + r->n_out, N);
	store_op_free(r);
	b = kit_batch_op(STORE_OP_BATCH_VIEW, batch);
	CHECK_INT(kit_run(k, b), STORE_OK);
	CHECK_INT(b->batches[0].count[STORE_DONE], N);
	CHECK_INT(b->batches[0].count[STORE_RUNNING], 0);
	store_op_free(b);
	three_leave(of);
}

static struct store_op *watch(struct kit *k, uint64_t cursor, const char *topic)
{
	struct store_op *op = kit_op(STORE_OP_WATCH);
	op->cursor = cursor;
	op->topics = malloc(2 * sizeof(*op->topics));
	op->n_topics = 2;
	op->topics[0] = strdup("ffffffffffffffffffffffffffffffff");
	op->topics[1] = strdup(topic);
	op->max_bytes = 1000;
	CHECK_INT(kit_run(k, op), STORE_OK);
	return op;
}

/* Jobs 0 and 2 of a and c have the topic, job 1 of a has another one, and so do the watcher's own. */
static void events_of_others_are_seen_once_in_order(struct kit *k)
{
	enum { N = 400 };
	struct kit of[3];
	uint64_t id = kit_ids(k, 4), cursor = 0;
	uint32_t next[4] = {0};
	static struct store_op *log[4 * N];
	three_join(of, k);
	struct kit *whose[4] = {&of[0], &of[0], &of[2], &of[1]};
	for (int i = 0; i < 4; i++) {
		struct store_new a = kit_job(id + (uint64_t)i);
		a.topic = i == 1 ? topic_b : topic_a;
		a.hold = true;
		a.token = 11;
		CHECK_INT(kit_add(whose[i], &a), STORE_OK);
	}
	struct store_op *w = watch(&of[1], 0, topic_a);
	CHECK_INT(w->n_out, 0);
	cursor = w->cursor;
	CHECK(cursor > 0);
	store_op_free(w);
	int done = 0;
	for (int i = 0; done < 2; i++) {
		if (i < 4 * N) {
			log[i] = log_op(id + (uint64_t)(i % 4), 11, (uint32_t)(i / 4), i / 4 == N - 1 ? STORE_DONE : -1);
			kit_submit(whose[i % 4], log[i]);
		}
		if (i % 16 != 0)
			continue;
		CHECK(i < 100 * N);
		w = watch(&of[1], cursor, topic_a);
		for (size_t m = 0; m < w->n_out; m++) {
			uint64_t at = w->seen[m].job - id;
			CHECK(at == 0 || at == 2);
			CHECK_INT(w->seen[m].seq, next[at]++);
			CHECK_INT(w->seen[m].data.len, 5);
			CHECK_STR(w->seen[m].topic, topic_a);
			done += next[at] == N;
		}
		CHECK(w->cursor >= cursor);
		cursor = w->cursor;
		store_op_free(w);
	}
	for (int i = 0; i < 4 * N; i++) {
		CHECK_INT(kit_wait_for(whose[i % 4], log[i]), STORE_OK);
		store_op_free(log[i]);
	}
	three_leave(of);
}

static void an_end_without_a_holder_is_seen(struct kit *k)
{
	struct kit a;
	struct store_new n = kit_job(kit_ids(k, 1));
	join(&a, k, "a", 30000);
	n.topic = topic_a;
	CHECK_INT(kit_add(&a, &n), STORE_OK);
	struct store_op *w = watch(k, 0, topic_a);
	uint64_t cursor = w->cursor;
	store_op_free(w);
	CHECK_INT(kit_verb(&a, n.id, "me", STORE_CANCEL, 0), STORE_OK);
	for (int i = 0; i < 200; i++) { /* another transaction may still hold the line */
		w = watch(k, cursor, topic_a);
		if (w->n_out)
			break;
		store_op_free(w);
		kit_wait(k, 20);
	}
	CHECK_INT(w->n_out, 1);
	CHECK_INT(w->seen[0].state, STORE_CANCELLED);
	CHECK_INT(w->seen[0].seq, 0);
	CHECK(w->seen[0].data.data == NULL);
	CHECK_STR(w->seen[0].reason_code, "cancelled");
	store_op_free(w);
	kit_close(&a);
}

static void others_are_hinted_at_what_was_added(struct kit *k)
{
	struct kit a;
	bool hint = false;
	join(&a, k, "a", 30000);
	while (store_take(k->store, 100, &hint))
		;
	add_rows(&a, 1, 0);
	for (int i = 0; i < 100 && !hint; i++) {
		kit_poll(k, 100);
		store_take(k->store, 100, &hint);
	}
	CHECK(hint);
	kit_close(&a);
}

#ifdef HAVE_POSTGRESQL
static PGconn *raw(const struct kit *k)
{
	char url[512], set[128];
	const char *schema = strstr(k->url, "schema=");
	snprintf(url, sizeof(url), "%.*s", (int)(schema - k->url - 1), k->url);
	PGconn *c = PQconnectdb(url);
	CHECK_INT(PQstatus(c), CONNECTION_OK);
	snprintf(set, sizeof(set), "SET search_path TO %s", schema + 7);
	PQclear(PQexec(c, set));
	return c;
}

static void raw_exec(PGconn *c, const char *text)
{
	PGresult *r = PQexec(c, text);
	if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK)
		fprintf(stderr, "%s: %s", text, PQerrorMessage(c));
	CHECK(PQresultStatus(r) == PGRES_COMMAND_OK || PQresultStatus(r) == PGRES_TUPLES_OK);
	PQclear(r);
}

/* A transaction that began first and commits last: what came between waits for it, so that the cursor passes neither. */
static void a_commit_that_comes_late_is_not_passed(struct kit *k)
{
	struct kit a;
	char text[256];
	uint64_t id = kit_ids(k, 2);
	join(&a, k, "a", 30000);
	for (uint64_t i = 0; i < 2; i++) {
		struct store_new n = kit_job(id + i);
		n.topic = topic_a;
		n.hold = true;
		n.token = 5;
		CHECK_INT(kit_add(&a, &n), STORE_OK);
	}
	PGconn *c = raw(k);
	struct store_op *w = watch(k, 0, topic_a);
	uint64_t cursor = w->cursor, seen = 0;
	store_op_free(w);
	raw_exec(c, "BEGIN");
	snprintf(text, sizeof(text), "INSERT INTO chunk (job, seq, n, owner, data) VALUES (%llu, 0, 1, 'late', '\\x0100000041')",
		 (unsigned long long)id);
	raw_exec(c, text);
	CHECK_INT(kit_log(&a, id + 1, 5, 0, 1, one, -1), STORE_OK);
	for (int i = 0; i < 5; i++) {
		w = watch(k, cursor, topic_a);
		CHECK_INT(w->n_out, 0);
		cursor = w->cursor;
		store_op_free(w);
	}
	raw_exec(c, "COMMIT");
	for (int i = 0; i < 200 && seen < 2; i++) {
		w = watch(k, cursor, topic_a);
		seen += w->n_out;
		cursor = w->cursor;
		store_op_free(w);
		kit_wait(k, 10);
	}
	CHECK_INT(seen, 2);
	PQfinish(c);
	kit_close(&a);
}

static void a_newer_schema_is_refused(struct kit *k)
{
	char text[STORE_TEXT];
	PGconn *c = raw(k);
	raw_exec(c, "UPDATE version SET number = number + 1");
	kit_close(k);
	CHECK_INT(kit_open(k, text), STORE_EBROKEN);
	CHECK(strstr(text, "newer") != NULL);
	raw_exec(c, "UPDATE version SET number = number - 1");
	CHECK_INT(kit_open(k, text), STORE_OK);
	PQfinish(c);
}

/* The server throws every connection out: a new one is made, and no op fails. */
static void a_lost_connection_is_made_again(struct kit *k)
{
	PGconn *c = raw(k);
	for (int i = 0; i < 10; i++) {
		raw_exec(c, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'weftd' AND usename = "
			    "current_user AND pid <> pg_backend_pid()");
		struct store_new a = kit_job(kit_ids(k, 1));
		CHECK_INT(kit_add(k, &a), STORE_OK);
		CHECK_INT(kit_state(k, a.id), STORE_QUEUED);
	}
	PQfinish(c);
}
#endif

const struct fact facts_of_fleets[] = {
	FACT(no_job_is_claimed_twice),
	FACT(a_late_write_changes_nothing_and_its_writer_hears_of_it),
	FACT(heartbeats_keep_what_is_held),
	FACT(a_key_is_one_job_in_the_whole_fleet),
	FACT(results_by_cursor_miss_nothing),
	FACT(events_of_others_are_seen_once_in_order),
	FACT(an_end_without_a_holder_is_seen),
	FACT(others_are_hinted_at_what_was_added),
#ifdef HAVE_POSTGRESQL
	FACT(a_commit_that_comes_late_is_not_passed),
	FACT(a_newer_schema_is_refused),
	FACT(a_lost_connection_is_made_again),
#endif
	{0},
};
