/* store_read.c: ops that only read jobs: VIEW, LIST, EVENTS, WATCH. */
#include "store_sql.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LIST_MAX = 1000, EVENTS_AT_ONCE = 64, WATCH_AT_ONCE = 4096 };
static const size_t bytes_default = 16 << 20;

static int no_memory(struct db *db)
{
	snprintf(db->text, sizeof(db->text), "out of memory");
	return STORE_ENOMEM;
}

/* ---- VIEW, LIST -----------------------------------------------------------------------------------------------------------------
 */

static void fill_view(struct sql *q, struct store_view *v)
{
	v->id = sql_get_u64(q, 0);
	v->batch = sql_get_u64(q, 1);
	v->row = sql_get_u64(q, 2);
	v->state = (enum store_state)sql_get_int(q, 3);
	v->identity = sql_get_text(q, 4);
	v->topic = sql_get_text(q, 5);
	v->op = sql_get_text(q, 6);
	v->owner = sql_get_text(q, 7);
	v->reason_code = sql_get_text(q, 8);
	v->reason = sql_get_text(q, 9);
	v->custom_id = sql_get_text(q, 10);
	v->batch_class = sql_get_int(q, 11) != 0;
	v->priority = (uint32_t)sql_get_int(q, 12);
	v->attempt = (uint32_t)sql_get_int(q, 13);
	v->crashes = (uint32_t)sql_get_int(q, 14);
	v->errors = (uint32_t)sql_get_int(q, 15);
	v->n_events = (uint32_t)sql_get_int(q, 16);
	v->prompt_tokens = sql_get_u64(q, 17);
	v->completion_tokens = sql_get_u64(q, 18);
	v->accepted_at = sql_get_int(q, 19);
	v->started_at = sql_get_int(q, 20);
	v->ended_at = sql_get_int(q, 21);
	v->run_at = sql_get_int(q, 22);
}

static int add_view(struct db *db, struct store_op *op, uint64_t id)
{
	struct sql q;
	sql_start(&q, db, SQL_VIEW);
	sql_int(&q, (int64_t)id);
	if (sql_row(&q) == 1) {
		struct store_view *v = op_grow((void **)&op->views, &op->n_out, sizeof(*v));
		if (v)
			fill_view(&q, v);
		else
			q.code = no_memory(db);
	}
	return sql_end(&q);
}

int op_view(struct db *db, struct store_op *op)
{
	int rc = add_view(db, op, op->job);
	return rc < 0 || op->n_out ? rc : op_finish(op, STORE_NOTFOUND, "no such job");
}

static int by_id(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

/* The first `limit` ids of one state and class; the caller merges them. */
static int list_part(struct db *db, const struct store_op *op, int state, int class, uint32_t limit, uint64_t *ids, size_t *n)
{
	struct sql q;
	sql_start(&q, db, SQL_LIST);
	sql_text(&q, op->identity);
	sql_int(&q, state);
	sql_int(&q, class);
	sql_int(&q, (int64_t)op->filter.after);
	sql_int(&q, limit);
	while (limit-- > 0 && sql_row(&q) == 1)
		ids[(*n)++] = sql_get_u64(&q, 0);
	return sql_end(&q);
}

static int list_ids(struct db *db, struct store_op *op, uint32_t limit, uint64_t *ids, size_t *n)
{
	for (int state = 0; state < STORE_STATES; state++)
		for (int class = 0; class < 2; class ++) {
			if ((op->filter.state >= 0 && op->filter.state != state) ||
			    (op->filter.batch_class >= 0 && op->filter.batch_class != class))
				continue;
			int rc = list_part(db, op, state, class, limit, ids, n);
			if (rc < 0)
				return rc;
		}
	return 0;
}

static int count_identity(struct db *db, struct store_op *op)
{
	struct sql q;
	sql_start(&q, db, SQL_COUNT_IDENTITY);
	sql_text(&q, op->identity);
	while (sql_row(&q) == 1) {
		int64_t kind = sql_get_int(&q, 0);
		if (kind >= 0 && kind < STORE_STATES)
			op->counts[kind] = sql_get_u64(&q, 1);
	}
	return sql_end(&q);
}

int op_list(struct db *db, struct store_op *op)
{
	uint32_t limit = op->filter.limit && op->filter.limit < LIST_MAX ? op->filter.limit : LIST_MAX;
	size_t n = 0;
	uint64_t *ids = malloc((size_t)limit * STORE_STATES * 2 * sizeof(*ids));
	if (!ids)
		return no_memory(db);
	int rc = tally_flush(db);
	if (rc >= 0)
		rc = list_ids(db, op, limit, ids, &n);
	qsort(ids, n, sizeof(*ids), by_id);
	for (size_t i = 0; i < n && i < limit && rc >= 0; i++)
		rc = add_view(db, op, ids[i]);
	free(ids);
	return rc < 0 ? rc : count_identity(db, op);
}

/* ---- EVENTS ---------------------------------------------------------------------------------------------------------------------
 */

static int events_job(struct db *db, struct store_op *op, bool *found)
{
	struct sql q;
	sql_start(&q, db, SQL_EVENTS_JOB);
	sql_int(&q, (int64_t)op->job);
	if (sql_row(&q) == 1) {
		char identity[sizeof(op->identity)];
		op->state = (int)sql_get_int(&q, 0);
		op->first = sql_get_u64(&q, 1);
		sql_get_text_in(&q, 2, op->reason_code, sizeof(op->reason_code));
		sql_get_text_in(&q, 3, op->reason, sizeof(op->reason));
		sql_get_text_in(&q, 4, identity, sizeof(identity));
		*found = strcmp(identity, op->identity) == 0;
	}
	return sql_end(&q);
}

static int append(struct db *db, struct store_bytes *b, const void *data, size_t len)
{
	void *p = realloc(b->data, b->len + len);
	if (!p)
		return no_memory(db);
	memcpy((char *)p + b->len, data, len);
	b->data = p;
	b->len += len;
	return 0;
}

static uint32_t get32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Of one chunk whose first event is seq: those from *next on, until max bytes are there. 1: that is enough. */
static int take_events(struct db *db, struct store_op *op, const uint8_t *p, size_t len, uint32_t seq, uint32_t *next, size_t max)
{
	for (size_t at = 0; len - at >= 4; seq++) {
		size_t size = 4 + (size_t)get32(p + at);
		if (size > len - at) {
			snprintf(db->text, sizeof(db->text), "job %llu: the chunk with event %u is cut",
				 (unsigned long long)op->job, seq);
			return STORE_EBROKEN;
		}
		if (seq == *next) {
			if (op->n_events && op->events.len + size > max)
				return 1;
			int rc = append(db, &op->events, p + at, size);
			if (rc < 0)
				return rc;
			++*next;
			op->n_events++;
		}
		at += size;
	}
	return 0;
}

/* One step: some chunks from *next on. 1: enough, or no more there. */
static int events_step(struct db *db, struct store_op *op, uint32_t *next, size_t max)
{
	struct sql q;
	int enough = 0, chunks = 0;
	sql_start(&q, db, SQL_EVENTS);
	sql_int(&q, (int64_t)op->job);
	sql_int(&q, *next);
	sql_int(&q, EVENTS_AT_ONCE);
	for (; enough == 0 && sql_row(&q) == 1; chunks++) {
		size_t len;
		const void *data = db->driver->get_bytes(&q, 2, &len);
		enough = take_events(db, op, data, len, (uint32_t)sql_get_int(&q, 0), next, max);
	}
	int rc = sql_end(&q);
	if (rc >= 0 && enough < 0)
		rc = enough;
	return rc < 0 ? rc : enough || chunks < EVENTS_AT_ONCE;
}

int op_events(struct db *db, struct store_op *op)
{
	bool found = false;
	uint32_t next = op->from;
	int rc = events_job(db, op, &found);
	if (rc < 0)
		return rc;
	if (!found)
		return op_finish(op, STORE_NOTFOUND, "no such job");
	op->n_events = 0;
	while (rc == 0 && next < op->first)
		rc = events_step(db, op, &next, op->max_bytes ? op->max_bytes : bytes_default);
	return rc < 0 ? rc : 0;
}

/* ---- WATCH ----------------------------------------------------------------------------------------------------------------------
 */

/* A plain running number would not do as a cursor: transactions get theirs before they commit, in any order, and a reader would
 * pass those that commit late. So each chunk has the number of its transaction, and only those below the oldest transaction that
 * still runs are read: they are all there. */

static int by_topic(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

struct glance { /* at a chunk that may concern a subscriber here */
	uint64_t job;
	int64_t xid, seq;
	char topic[64];
};

static bool wanted(const struct store_op *op, const char *topic)
{
	return op->n_topics && bsearch(&topic, op->topics, op->n_topics, sizeof(*op->topics), by_topic) != NULL;
}

static int see_chunk(struct db *db, struct store_op *op, uint64_t job, int64_t seq, const char *topic)
{
	struct sql q;
	sql_start(&q, db, SQL_CHUNK_GET);
	sql_int(&q, (int64_t)job);
	sql_int(&q, seq);
	if (sql_row(&q) == 1) {
		size_t len;
		const uint8_t *p = db->driver->get_bytes(&q, 0, &len);
		for (size_t at = 0; len - at >= 4 && len - at - 4 >= get32(p + at); seq++) {
			size_t size = get32(p + at);
			struct store_seen *s = op_grow((void **)&op->seen, &op->n_out, sizeof(*s));
			char *data = malloc(size ? size : 1);
			if (!s || !data || !(s->topic = strdup(topic))) {
				free(data);
				q.code = no_memory(db);
				break;
			}
			memcpy(data, p + at + 4, size);
			s->job = job;
			s->seq = (uint32_t)seq;
			s->state = -1;
			s->data = (struct store_bytes){data, size};
			at += 4 + size;
		}
	}
	return sql_end(&q);
}

/* Chunks of transactions from..below, whole transactions only: *below is lowered to where it had to stop. */
static int glance(struct db *db, int64_t from, int64_t *below, int64_t limit, struct glance **list, size_t *n)
{
	struct sql q;
	sql_start(&q, db, SQL_WATCH);
	sql_int(&q, from);
	sql_int(&q, *below);
	sql_text(&q, db->owner);
	sql_int(&q, limit);
	while (sql_row(&q) == 1) {
		struct glance *g = op_grow((void **)list, n, sizeof(*g));
		if (!g) {
			q.code = no_memory(db);
			break;
		}
		g->xid = sql_get_int(&q, 0);
		g->job = sql_get_u64(&q, 1);
		g->seq = sql_get_int(&q, 2);
		sql_get_text_in(&q, 3, g->topic, sizeof(g->topic));
	}
	int rc = sql_end(&q);
	if (rc < 0 || (int64_t)*n < limit)
		return rc;
	int64_t last = (*list)[*n - 1].xid;
	if ((*list)[0].xid == last) { /* one large transaction: all of it */
		*n = 0;
		*below = last + 1;
		return glance(db, last, below, INT64_MAX, list, n);
	}
	while ((*list)[*n - 1].xid == last)
		--*n;
	*below = last;
	return 0;
}

static int see_chunks(struct db *db, struct store_op *op, const struct glance *list, size_t n, int64_t *below)
{
	size_t bytes = 0, max = op->max_bytes ? op->max_bytes : bytes_default;
	int rc = 0;
	for (size_t i = 0; i < n && rc >= 0; i++) {
		if (bytes >= max && list[i].xid != list[i - 1].xid) {
			*below = list[i].xid;
			break;
		}
		size_t before = op->n_out;
		if (wanted(op, list[i].topic))
			rc = see_chunk(db, op, list[i].job, list[i].seq, list[i].topic);
		for (size_t k = before; k < op->n_out; k++)
			bytes += op->seen[k].data.len;
	}
	return rc;
}

static int see_ends(struct db *db, struct store_op *op, int64_t from, int64_t below)
{
	struct sql q;
	sql_start(&q, db, SQL_WATCH_ENDS);
	sql_int(&q, from);
	sql_int(&q, below);
	while (sql_row(&q) == 1) {
		char topic[64];
		sql_get_text_in(&q, 3, topic, sizeof(topic));
		if (!wanted(op, topic))
			continue;
		struct store_seen *s = op_grow((void **)&op->seen, &op->n_out, sizeof(*s));
		if (!s || !(s->topic = strdup(topic))) {
			q.code = no_memory(db);
			break;
		}
		s->job = sql_get_u64(&q, 1);
		s->seq = (uint32_t)sql_get_int(&q, 2);
		s->state = (int)sql_get_int(&q, 4);
		s->reason_code = sql_get_text(&q, 5);
		s->reason = sql_get_text(&q, 6);
	}
	return sql_end(&q);
}

/* Where one daemon holds everything there is nothing to see. */
int op_watch(struct db *db, struct store_op *op)
{
	int64_t from = (int64_t)op->cursor, below = db->watch_below;
	struct glance *list = NULL;
	size_t n = 0;
	if (!db->fleet)
		return 0;
	if (from == 0)
		op->cursor = (uint64_t)below;
	if (from == 0 || from >= below)
		return 0;
	if (op->n_topics)
		qsort(op->topics, op->n_topics, sizeof(*op->topics), by_topic);
	int rc = glance(db, from, &below, WATCH_AT_ONCE, &list, &n);
	if (rc >= 0)
		rc = see_chunks(db, op, list, n, &below);
	if (rc >= 0)
		rc = see_ends(db, op, from, below);
	op->cursor = (uint64_t)below;
	free(list);
	return rc;
}
