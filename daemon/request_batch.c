/* request_batch.c: batches: sets of rows, each a durable job of class batch of whose events only the last one is made.
 *
 * A row is judged when it is claimed: one that cannot run is one failed row. Here only the form of the message is. */
#include "publish.h"
#include "request_ops.h"
#include "saved.h"
#include <math.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_MAX = 10000, META_MAX = 65536, RECORDS_MAX = 1000, PREFIX = 256, NAME_MAX_LEN = 127, CUSTOM_ID_MAX = 1024, REFUSAL_MAX = 1024 };

static int no_store(struct request *r, const struct server *s)
{
	if (s->durable.store)
		return 0;
	return problem_set(&r->problem, WIRE_UNSUPPORTED, "op", "this server keeps no store: see state and store in weftd.conf");
}

static int result_of(struct request *r)
{
	if (r->result->code == STORE_OK)
		return 0;
	durable_problem(&r->problem, r->result->code, r->result->text);
	snprintf(r->problem.field, sizeof r->problem.field, "batch");
	if (r->result->code == STORE_NOTFOUND)
		snprintf(r->problem.text, sizeof r->problem.text, "no such batch");
	return -1;
}

/* ---- a batch as people see it ---- */

static void put_counts(const struct store_batch *x, struct wire_buf *b)
{
	wire_str(b, "counts");
	wire_map(b, STORE_STATES);
	for (int i = 0; i < STORE_STATES; i++)
		pair_uint(b, request_state_name(i), x->count[i]);
}

static void put_batch(const struct store_batch *x, struct wire_buf *b)
{
	struct wire_msg m;
	const char *why;
	bool meta = x->meta.data && wire_decode(&m, x->meta.data, x->meta.len, &why) == 0;
	if (meta)
		wire_finish(&m);
	wire_map(b, 10 + meta);
	pair_uint(b, "batch", x->id);
	pair_str(b, "name", x->name);
	pair_uint(b, "rows", x->rows);
	pair_bool(b, "sealed", x->sealed);
	pair_bool(b, "cancelled", x->cancelled);
	pair_uint(b, "created_ms", (uint64_t)(x->created_at > 0 ? x->created_at : 0));
	wire_str(b, "ended_ms");
	x->ended_at > 0 ? wire_uint(b, (uint64_t)x->ended_at) : wire_nil(b);
	put_counts(x, b);
	pair_uint(b, "prompt_tokens", x->prompt_tokens);
	pair_uint(b, "completion_tokens", x->completion_tokens);
	if (meta) {
		wire_str(b, "meta");
		wire_raw(b, x->meta.data, x->meta.len);
	}
}

static int put_batch_reply(struct request *r, struct server *s, struct wire_buf *b)
{
	if (result_of(r))
		return -1;
	if (r->result->n_out == 0)
		return problem_set(&r->problem, WIRE_NOT_FOUND, "batch", "no such batch");
	put_head(r, b, true, 1);
	wire_str(b, "batch");
	put_batch(&r->result->batches[0], b);
	return 0;
}

static int batch_id(struct request *r, uint64_t *id)
{
	const msgpack_object *o = field(r, "batch");
	return wire_get_uint(o, id) ? 0 : problem_type(&r->problem, "batch", "the number of a batch", o);
}

static int batch_name(struct request *r, const msgpack_object *o, char *name)
{
	const char *text;
	size_t len;
	if (!wire_get_str(o, &text, &len))
		return problem_type(&r->problem, "name", "a str of 1 to 127 bytes", o);
	if (len < 1 || len > NAME_MAX_LEN || memchr(text, 0, len))
		return problem_set(&r->problem, WIRE_INVALID_ARGUMENT, "name", "expected 1 to %d bytes, none of them NUL", NAME_MAX_LEN);
	memcpy(name, text, len);
	name[len] = 0;
	return 0;
}

/* An op on one batch, by its number. */
static int on_batch(struct request *r, struct server *s, enum store_kind kind, request_step *step)
{
	uint64_t id;
	if (no_store(r, s) || batch_id(r, &id))
		return -1;
	struct store_op *op = request_op(r, kind);
	if (op)
		op->batch = id;
	return request_wait(r, s, op, step);
}

/* The batch as it is after an op on it. */
static int view_after(struct request *r, struct server *s, struct wire_buf *b)
{
	return result_of(r) ? -1 : on_batch(r, s, STORE_OP_BATCH_VIEW, put_batch_reply);
}

/* ---- open, seal, status, list ---- */

int prepare_batch_open(struct request *r)
{
	const msgpack_object *meta = field(r, "meta");
	char name[NAME_MAX_LEN + 1];
	if (batch_name(r, field(r, "name"), name))
		return -1;
	if (meta && meta->type != MSGPACK_OBJECT_MAP)
		return problem_type(&r->problem, "meta", "a map", meta);
	return 0;
}

static int take_meta(struct request *r, struct store_op *op)
{
	const msgpack_object *meta = field(r, "meta");
	struct wire_buf b;
	if (!meta)
		return 0;
	wire_buf_init(&b);
	wire_object(&b, meta);
	op->meta.data = wire_buf_take(&b, &op->meta.len);
	wire_buf_finish(&b);
	if (!op->meta.data)
		return request_oom(r);
	if (op->meta.len > META_MAX)
		return problem_set(&r->problem, WIRE_TOO_LARGE, "meta", "at most %d bytes", META_MAX);
	return 0;
}

int answer_batch_open(struct request *r, struct server *s, struct wire_buf *b)
{
	if (no_store(r, s))
		return -1;
	struct store_op *op = request_op(r, STORE_OP_BATCH_OPEN);
	if (!op)
		return request_oom(r);
	if (batch_name(r, field(r, "name"), op->name) || take_meta(r, op)) {
		store_op_free(op);
		return -1;
	}
	return request_wait(r, s, op, put_batch_reply);
}

int answer_batch_seal(struct request *r, struct server *s, struct wire_buf *b)
{
	return on_batch(r, s, STORE_OP_BATCH_SEAL, view_after);
}

int answer_batch_status(struct request *r, struct server *s, struct wire_buf *b)
{
	const msgpack_object *name = field(r, "name");
	if (!!name + !!field(r, "batch") != 1)
		return problem_set(&r->problem, WIRE_INVALID_ARGUMENT, "batch", "expected batch or name");
	if (!name)
		return on_batch(r, s, STORE_OP_BATCH_VIEW, put_batch_reply);
	if (no_store(r, s))
		return -1;
	struct store_op *op = request_op(r, STORE_OP_BATCH_VIEW);
	if (op && batch_name(r, name, op->name)) {
		store_op_free(op);
		return -1;
	}
	return request_wait(r, s, op, put_batch_reply);
}

static int batches_listed(struct request *r, struct server *s, struct wire_buf *b)
{
	const struct store_op *op = r->result;
	if (result_of(r))
		return -1;
	put_head(r, b, true, 1);
	wire_str(b, "batches");
	wire_array(b, op->n_out);
	for (size_t i = 0; i < op->n_out; i++)
		put_batch(&op->batches[i], b);
	return 0;
}

int answer_batch_list(struct request *r, struct server *s, struct wire_buf *b)
{
	return no_store(r, s) ? -1 : request_wait(r, s, request_op(r, STORE_OP_BATCH_LIST), batches_listed);
}

/* ---- rows ---- */

static int row_problem(struct request *r, size_t i, const char *member, const char *text)
{
	char name[96];
	snprintf(name, sizeof name, "rows.%zu%s", i, member);
	return problem_set(&r->problem, WIRE_INVALID_ARGUMENT, name, "%s", text);
}

static bool has(const msgpack_object *request, const char *name)
{
	return wire_get(request, name) != NULL;
}

/* The row's request as a request of the protocol: what would change between two runs is fixed now. A field that a row cannot have
 * stands there twice then, and the row fails with that reason when it is claimed. */
static void write_body(struct request *r, const msgpack_object *request, const char *op, const char *topic, struct wire_buf *b)
{
	bool score = strcmp(op, "score") == 0, seed = !score && !has(request, "seed");
	bool template = has(request, "messages") && !has(request, "template") && r->env.template;
	uint64_t random;
	randombytes_buf(&random, sizeof random);
	wire_map(b, request->via.map.size + 6 + seed + template);
	for (uint32_t i = 0; i < request->via.map.size; i++) {
		wire_object(b, &request->via.map.ptr[i].key);
		wire_object(b, &request->via.map.ptr[i].val);
	}
	if (seed)
		pair_uint(b, "seed", random & WIRE_MAX_INT);
	if (template)
		pair_str(b, "template", template_name(r->env.template));
	pair_uint(b, "v", WIRE_VERSION);
	pair_uint(b, "id", 0);
	pair_str(b, "op", op);
	pair_str(b, "topic", topic[0] ? topic : "00000000000000000000000000000000");
	pair_str(b, "class", "batch");
	pair_str(b, "on_disconnect", "keep");
}

static uint64_t digest8(const struct wire_buf *b)
{
	uint64_t h = 0;
	unsigned char out[crypto_generichash_BYTES_MIN];
	crypto_generichash(out, sizeof out, (const unsigned char *)b->out.data, b->out.size, NULL, 0);
	memcpy(&h, out, sizeof h);
	return h >> 1; /* databases count with a sign */
}

static void begin_of(const msgpack_object *o, struct wire_buf *b)
{
	const char *text;
	size_t len;
	if (wire_get_str(o, &text, &len))
		wire_strn(b, text, len < PREFIX ? len : PREFIX);
	else if (o && o->type == MSGPACK_OBJECT_ARRAY && o->via.array.size)
		for (uint32_t i = 0; i < o->via.array.size && i < PREFIX / 4; i++)
			wire_object(b, &o->via.array.ptr[i]);
}

/* Rows whose prompts begin alike, for the same blend, run one after the other: they share what was computed of their beginning. */
static uint64_t affinity_of(const msgpack_object *request)
{
	static const char *const blend[] = {"model", "adapters", "template"};
	const msgpack_object *messages = wire_get(request, "messages");
	struct wire_buf b;
	wire_buf_init(&b);
	for (size_t i = 0; i < sizeof blend / sizeof *blend; i++)
		if (has(request, blend[i]))
			wire_object(&b, wire_get(request, blend[i]));
	if (messages && messages->type == MSGPACK_OBJECT_ARRAY && messages->via.array.size)
		begin_of(wire_get(&messages->via.array.ptr[0], "content"), &b);
	else
		begin_of(wire_get(request, has(request, "prompt") ? "prompt" : "tokens"), &b);
	uint64_t h = b.failed ? 0 : digest8(&b);
	wire_buf_finish(&b);
	return h;
}

static int take_custom_id(struct request *r, size_t i, const msgpack_object *o, struct store_new *n)
{
	const char *text;
	size_t len;
	if (!o)
		return 0;
	if (!wire_get_str(o, &text, &len) || len < 1 || len > CUSTOM_ID_MAX || memchr(text, 0, len))
		return row_problem(r, i, ".custom_id", "expected a str of 1 to 1024 bytes, none of them NUL");
	n->custom_id = strndup(text, len);
	return n->custom_id ? 0 : request_oom(r);
}

static int64_t uint_of(const msgpack_object *request, const char *name, int64_t max)
{
	uint64_t v;
	return wire_get_uint(wire_get(request, name), &v) && v <= (uint64_t)max ? (int64_t)v : -1;
}

static int take_request(struct request *r, const msgpack_object *request, const char *topic, struct store_new *n)
{
	struct saved_request saved = {.quiet = true};
	struct wire_buf b;
	wire_buf_init(&b);
	wire_object(&b, request);
	bool good = !b.failed;
	if (good)
		crypto_hash_sha256(n->body, (const unsigned char *)b.out.data, b.out.size);
	wire_buf_clear(&b);
	write_body(r, request, n->op, topic, &b);
	if (good && !b.failed) {
		saved.body = b.out.data;
		saved.body_len = b.out.size;
		n->request = saved_request_write(&saved, &n->request_len);
	}
	wire_buf_finish(&b);
	return n->request ? 0 : request_oom(r);
}

/* {code, message}: what its sender says of a row of which no request could be made. */
static int take_refusal(struct request *r, size_t i, const msgpack_object *o, struct store_new *n)
{
	struct saved_request saved = {.quiet = true, .refused = true};
	struct wire_buf b;
	const char *code, *message;
	size_t code_len, len;
	if (o->type != MSGPACK_OBJECT_MAP || o->via.map.size != 2 || !wire_get_str(wire_get(o, "code"), &code, &code_len) ||
	    !wire_get_str(wire_get(o, "message"), &message, &len) || wire_code_from_name(code, code_len) == WIRE_OK || len > REFUSAL_MAX)
		return row_problem(r, i, ".refused", "expected {code: an error's code, message: a str of at most 1024 bytes}");
	wire_buf_init(&b);
	wire_object(&b, o);
	if (!b.failed) {
		crypto_hash_sha256(n->body, (const unsigned char *)b.out.data, b.out.size);
		saved.body = b.out.data;
		saved.body_len = b.out.size;
		n->request = saved_request_write(&saved, &n->request_len);
	}
	wire_buf_finish(&b);
	return n->request ? 0 : request_oom(r);
}

static int take_row(struct request *r, size_t i, const msgpack_object *o, const char *topic, struct store_new *n)
{
	const msgpack_object *request = wire_get(o, "request"), *op = wire_get(o, "op"), *refused = wire_get(o, "refused");
	int64_t now = wall_now(), ms;
	if (o->type != MSGPACK_OBJECT_MAP)
		return row_problem(r, i, "", "expected a map with request or refused, and perhaps custom_id and op");
	for (uint32_t k = 0; k < o->via.map.size; k++) {
		const msgpack_object *key = &o->via.map.ptr[k].key;
		if (!wire_is_cstr(key, "request") && !wire_is_cstr(key, "custom_id") && !wire_is_cstr(key, "op") &&
		    !wire_is_cstr(key, "refused"))
			return row_problem(r, i, "", "unknown field: a row has request or refused, custom_id and op");
	}
	if (refused && (request || op))
		return row_problem(r, i, ".refused", "a row has either request or refused");
	if (!refused && (!request || request->type != MSGPACK_OBJECT_MAP))
		return row_problem(r, i, ".request", "expected a map: the fields of generate or score");
	n->op = op && wire_is_cstr(op, "score") ? "score" : "generate";
	if (op && !wire_is_cstr(op, n->op))
		return row_problem(r, i, ".op", "expected \"generate\" or \"score\"");
	n->batch_class = true;
	n->priority = 100;
	n->accepted_at = now;
	if (take_custom_id(r, i, wire_get(o, "custom_id"), n))
		return -1;
	if (refused)
		return take_refusal(r, i, refused, n);
	if (take_request(r, request, topic, n))
		return -1;
	n->priority = (ms = uint_of(request, "priority", 1000)) >= 0 ? (uint32_t)ms : 100;
	n->affinity = affinity_of(request);
	n->deadline_at = (ms = uint_of(request, "deadline_ms", 604800000)) > 0 ? now + ms : 0;
	n->queue_until = (ms = uint_of(request, "queue_ms", 604800000)) > 0 ? now + ms : 0;
	return 0;
}

static int take_topic(struct request *r, char topic[WIRE_TOPIC_LEN + 1])
{
	const msgpack_object *o = field(r, "topic");
	const char *text;
	size_t len;
	topic[0] = 0;
	if (!o)
		return 0;
	if (!wire_get_str(o, &text, &len) || !wire_topic_valid(text, len))
		return problem_set(&r->problem, WIRE_INVALID_ARGUMENT, "topic", "expected 32 lower-case hex characters");
	memcpy(topic, text, WIRE_TOPIC_LEN);
	topic[WIRE_TOPIC_LEN] = 0;
	return 0;
}

int prepare_batch_add(struct request *r)
{
	const msgpack_object *rows = field(r, "rows"), *first = field(r, "first");
	char topic[WIRE_TOPIC_LEN + 1];
	uint64_t id, n;
	if (batch_id(r, &id) || take_topic(r, topic))
		return -1;
	if (!wire_get_uint(first, &n))
		return problem_type(&r->problem, "first", "the number of the first of these rows, from 0", first);
	if (!rows || rows->type != MSGPACK_OBJECT_ARRAY)
		return problem_type(&r->problem, "rows", "an array of rows", rows);
	n = rows->via.array.size;
	if (n < 1 || n > ROWS_MAX)
		return problem_set(&r->problem, WIRE_INVALID_ARGUMENT, "rows", "expected 1 to %d of them", ROWS_MAX);
	r->rows = calloc(n, sizeof *r->rows);
	if (!r->rows)
		return request_oom(r);
	r->n_rows = n;
	for (size_t i = 0; i < n; i++)
		if (take_row(r, i, &rows->via.array.ptr[i], topic, &r->rows[i]))
			return -1;
	return 0;
}

void batch_rows_free(struct request *r)
{
	for (size_t i = 0; i < r->n_rows; i++) {
		free((void *)r->rows[i].request);
		free((void *)r->rows[i].custom_id);
	}
	free(r->rows);
	r->rows = NULL;
	r->n_rows = 0;
}

static int rows_added(struct request *r, struct server *s, struct wire_buf *b)
{
	const struct store_op *op = r->result;
	uint64_t added = 0, id;
	if (result_of(r))
		return -1;
	for (size_t i = 0; i < op->n_add; i++) {
		if (op->add[i].code != STORE_OK)
			return problem_set(&r->problem, WIRE_CONFLICT, "rows", "row %llu is known, and was another one",
					   (unsigned long long)op->add[i].row);
		added += op->add[i].existing == 0;
	}
	batch_id(r, &id);
	s->accepted += added;
	put_head(r, b, true, 3);
	pair_uint(b, "batch", id);
	pair_uint(b, "rows", r->count);
	pair_uint(b, "added", added);
	durable_want(s);
	return 0;
}

static void finish_row(const struct request *r, struct server *s, const struct store_batch *x, uint64_t row, struct store_new *n)
{
	n->id = jobs_take_id(&s->jobs);
	n->identity = r->identity;
	n->topic = "";
	n->batch = x->id;
	n->row = row;
	n->model = s->durable.model;
	/* All rows of a batch are as old as it is: among equals the affinity counts. */
	n->rank = queue_rank(x->created_at, true, n->priority, s->conf->ageing);
}

/* The batch is known: its rows follow. */
static int batch_viewed(struct request *r, struct server *s, struct wire_buf *b)
{
	uint64_t first = 0;
	char topic[WIRE_TOPIC_LEN + 1];
	wire_get_uint(field(r, "first"), &first);
	if (result_of(r))
		return -1;
	if (r->result->n_out == 0)
		return problem_set(&r->problem, WIRE_NOT_FOUND, "batch", "no such batch");
	const struct store_batch *x = &r->result->batches[0];
	if (x->sealed || x->cancelled)
		return problem_set(&r->problem, WIRE_CONFLICT, "batch", "the batch is %s: it takes no more rows",
				   x->cancelled ? "cancelled" : "sealed");
	if (first > x->rows)
		return problem_set(&r->problem, WIRE_CONFLICT, "first", "the next row is %llu", (unsigned long long)x->rows);
	if (jobs_ids_left(&s->jobs) < r->n_rows) {
		problem_set(&r->problem, WIRE_OVERLOADED, NULL, "job numbers are short: they are being fetched");
		r->problem.retry_after_ms = 100;
		return -1;
	}
	struct store_op *op = request_op(r, STORE_OP_ADD);
	if (!op || !(op->add = calloc(r->n_rows, sizeof *op->add))) {
		store_op_free(op);
		return request_oom(r);
	}
	op->n_add = r->n_rows;
	for (size_t i = 0; i < r->n_rows; i++) {
		finish_row(r, s, x, first + i, &r->rows[i]);
		op->add[i] = r->rows[i];
	}
	take_topic(r, topic);
	if (topic[0] && !(op->meta.data = strdup(topic))) {
		store_op_free(op);
		return request_oom(r);
	}
	for (size_t i = 0; topic[0] && i < op->n_add; i++)
		op->add[i].topic = op->meta.data;
	r->count = x->rows > first + r->n_rows ? x->rows : first + r->n_rows;
	return request_wait(r, s, op, rows_added);
}

int answer_batch_add(struct request *r, struct server *s, struct wire_buf *b)
{
	if (s->state != SERVER_RUNNING)
		return problem_set(&r->problem, WIRE_DRAINING, NULL, "the server is %s: it takes no new work", server_state_name(s));
	return on_batch(r, s, STORE_OP_BATCH_VIEW, batch_viewed);
}

/* ---- results ---- */

static void put_record(const struct store_record *x, struct wire_buf *b)
{
	wire_map(b, 6 + (x->custom_id && x->custom_id[0]));
	pair_uint(b, "row", x->row);
	pair_uint(b, "job", x->job);
	pair_str(b, "state", request_state_name(x->state));
	pair_uint(b, "cursor", x->cursor);
	pair_uint(b, "ended_ms", (uint64_t)(x->ended_at > 0 ? x->ended_at : 0));
	if (x->custom_id && x->custom_id[0])
		pair_str(b, "custom_id", x->custom_id);
	wire_str(b, "done");
	if (x->done.data)
		wire_raw(b, x->done.data, x->done.len);
	else
		publish_write_unheld_end(b, x->job, 0, x->state, x->reason_code, x->reason);
}

static int records_read(struct request *r, struct server *s, struct wire_buf *b)
{
	const struct store_op *op = r->result;
	uint64_t cursor = 0, id;
	if (result_of(r))
		return -1;
	batch_id(r, &id);
	wire_get_uint(field(r, "cursor"), &cursor);
	put_head(r, b, true, 3);
	pair_uint(b, "batch", id);
	wire_str(b, "results");
	wire_array(b, op->n_out);
	for (size_t i = 0; i < op->n_out; i++)
		put_record(&op->records[i], b);
	pair_uint(b, "cursor", op->n_out ? op->records[op->n_out - 1].cursor : cursor);
	return 0;
}

int answer_batch_results(struct request *r, struct server *s, struct wire_buf *b)
{
	const msgpack_object *cursor = field(r, "cursor"), *ordered = field(r, "ordered"), *limit = field(r, "limit");
	uint64_t id, from = 0, n = 100;
	bool in_order = false;
	if (no_store(r, s) || batch_id(r, &id))
		return -1;
	if (cursor && !wire_get_uint(cursor, &from))
		return problem_type(&r->problem, "cursor", "an unsigned integer", cursor);
	if (ordered && !wire_get_bool(ordered, &in_order))
		return problem_type(&r->problem, "ordered", "a bool", ordered);
	if (limit && (!wire_get_uint(limit, &n) || n < 1 || n > RECORDS_MAX))
		return problem_set(&r->problem, WIRE_INVALID_ARGUMENT, "limit", "must be from 1 to %d", RECORDS_MAX);
	struct store_op *op = request_op(r, STORE_OP_BATCH_RESULTS);
	if (op) {
		op->batch = id;
		op->cursor = from;
		op->ordered = in_order;
		op->n[0] = (uint32_t)n;
		op->max_bytes = RESULTS_MAX;
	}
	return request_wait(r, s, op, records_read);
}

/* ---- cancel, retry, close ---- */

static int cancelled(struct request *r, struct server *s, struct wire_buf *b)
{
	struct job *j, *next;
	uint64_t id;
	if (result_of(r))
		return -1;
	batch_id(r, &id);
	/* Those that are here need no order. */
	for (j = TAILQ_FIRST(&s->jobs.all); j; j = next) {
		next = TAILQ_NEXT(j, by_id);
		if (j->journal && j->journal->batch == id)
			server_end(s, j, WHY_CANCEL);
	}
	server_schedule(s);
	return view_after(r, s, b);
}

int answer_batch_cancel(struct request *r, struct server *s, struct wire_buf *b)
{
	return on_batch(r, s, STORE_OP_BATCH_CANCEL, cancelled);
}

static int retried(struct request *r, struct server *s, struct wire_buf *b)
{
	const struct store_op *before = r->result;
	uint64_t id;
	if (result_of(r))
		return -1;
	batch_id(r, &id);
	r->count += before->n[0];
	if (before->cursor) {
		struct store_op *op = request_op(r, STORE_OP_BATCH_RETRY);
		if (op) {
			op->batch = id;
			op->cursor = before->cursor;
		}
		return request_wait(r, s, op, retried);
	}
	durable_want(s);
	put_head(r, b, true, 2);
	pair_uint(b, "batch", id);
	pair_uint(b, "retried", r->count);
	return 0;
}

int answer_batch_retry(struct request *r, struct server *s, struct wire_buf *b)
{
	return on_batch(r, s, STORE_OP_BATCH_RETRY, retried);
}

static int batch_closed(struct request *r, struct server *s, struct wire_buf *b)
{
	uint64_t id;
	if (result_of(r))
		return -1;
	batch_id(r, &id);
	put_head(r, b, true, 1);
	pair_uint(b, "batch", id);
	return 0;
}

int answer_batch_close(struct request *r, struct server *s, struct wire_buf *b)
{
	return on_batch(r, s, STORE_OP_BATCH_CLOSE, batch_closed);
}
