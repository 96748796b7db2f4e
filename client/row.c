/* row.c: see row.h. What a finished row's line looks like depends on its kind, on the model that it named and on its custom_id; the
 * server keeps one text for each row, so that text holds all three ("tag"). */
#include "row.h"
#include "openai.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CUSTOM_ID_MAX = 512 };

static const char *const kind_names[] = {[OPENAI_CHAT] = "chat", [OPENAI_COMPLETIONS] = "completions"};

/* ---- in ---- */

static int refuse(struct openai_problem *p, const char *code, const char *text)
{
	p->code = code;
	snprintf(p->text, sizeof(p->text), "%s", text);
	return -1;
}

static void add_defaults(json_t *request, const json_t *defaults)
{
	bool prompt = json_object_get(request, "messages") == NULL;
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)defaults, key, v)
	{
		if (prompt && strcmp(key, "template") == 0)
			continue; /* only a conversation has one */
		if (strcmp(key, "adapters") == 0 && json_object_get(request, "model") != NULL)
			continue; /* the line's model is a choice of its own */
		if (json_object_get(request, key) == NULL)
			json_object_set(request, key, v);
	}
}

/* Fields that are the batch's business, not a row's. */
static int check_plain(const json_t *line, struct openai_problem *p)
{
	static const char *const taken[] = {"v",           "id",      "topic", "durable", "key", "class", "on_disconnect",
					    "deadline_ms", "queue_ms"};

	for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
		if (json_object_get(line, taken[i]) != NULL) {
			p->code = "invalid_argument";
			snprintf(p->text, sizeof(p->text), "%s: not a field of a batch's row", taken[i]);
			return -1;
		}
	return 0;
}

/* "generate" or "score": as the line says, or by what it has. NULL: neither. */
static const char *op_of(const json_t *line, struct openai_problem *p)
{
	json_t *v = json_object_get(line, "op");
	const char *op = json_string_value(v);

	if (v == NULL)
		return json_object_get(line, "continuations") != NULL ? "score" : "generate";
	if (op != NULL && (strcmp(op, "generate") == 0 || strcmp(op, "score") == 0))
		return op;
	refuse(p, "invalid_argument", "op: expected \"generate\" or \"score\"");
	return NULL;
}

static json_t *plain_request(const json_t *line, struct openai_problem *p)
{
	json_t *request;

	if (json_object_get(line, "prompt") == NULL && json_object_get(line, "messages") == NULL &&
	    json_object_get(line, "tokens") == NULL) {
		refuse(p, "invalid_argument",
		       "expected prompt, messages or tokens; or an OpenAI line with custom_id, method, url and body");
		return NULL;
	}
	if (check_plain(line, p))
		return NULL;
	if (op_of(line, p) == NULL)
		return NULL;
	request = json_copy((json_t *)line);
	json_object_del(request, "custom_id");
	json_object_del(request, "op");
	return request;
}

static json_t *openai_line(const json_t *line, enum openai_endpoint *endpoint, struct openai_problem *p)
{
	const char *method = json_string_value(json_object_get(line, "method")),
		   *url = json_string_value(json_object_get(line, "url")), *key;
	json_t *v;

	json_object_foreach((json_t *)line, key,
			    v) if (strcmp(key, "custom_id") && strcmp(key, "method") && strcmp(key, "url") && strcmp(key, "body"))
	{
		p->code = "invalid_argument";
		snprintf(p->text, sizeof(p->text), "%.100s: an OpenAI line has custom_id, method, url and body", key);
		return NULL;
	}
	if (method == NULL || strcmp(method, "POST") != 0) {
		refuse(p, "invalid_argument", "method: expected \"POST\"");
		return NULL;
	}
	if (url == NULL || !openai_endpoint_parse(url, endpoint)) {
		refuse(p, "unsupported", "url: expected \"/v1/chat/completions\" or \"/v1/completions\"");
		return NULL;
	}
	return openai_request(*endpoint, json_object_get(line, "body"), p);
}

static const char *custom_id_of(const json_t *line, struct openai_problem *p)
{
	json_t *v = json_object_get(line, "custom_id");
	const char *id = json_string_value(v);

	if (v != NULL && (id == NULL || strlen(id) > CUSTOM_ID_MAX))
		refuse(p, "invalid_argument", "custom_id: expected a str of at most 512 bytes");
	return id != NULL && strlen(id) <= CUSTOM_ID_MAX ? id : NULL;
}

static char *tag_of(const char *kind, const char *model, const char *custom_id)
{
	json_t *tag = json_pack("{s:s*,s:s*,s:s*}", "k", kind, "m", model, "c", custom_id);
	char *text = json_dumps(tag, JSON_COMPACT);

	json_decref(tag);
	return text;
}

static json_t *judge(const json_t *line, const char **kind, struct openai_problem *p)
{
	enum openai_endpoint endpoint;
	json_t *request;

	if (p->code != NULL)
		return NULL;
	if (json_object_get(line, "url") == NULL && json_object_get(line, "body") == NULL)
		return plain_request(line, p);
	request = openai_line(line, &endpoint, p);
	*kind = request != NULL ? kind_names[endpoint] : "openai";
	return request;
}

int row_parse(struct row *r, const char *text, size_t len, uint64_t number, const json_t *defaults)
{
	json_error_t where;
	json_t *line = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where), *request;
	struct openai_problem p = {0};
	const char *kind = NULL, *custom_id, *model;
	char *tag;

	if (!json_is_object(line)) {
		p.code = "invalid_argument";
		snprintf(p.text, sizeof(p.text), "line %" PRIu64 " is no JSON object%s%.150s", number + 1, line == NULL ? ": " : "",
			 line == NULL ? where.text : "");
	}
	custom_id = custom_id_of(line, &p);
	request = judge(line, &kind, &p);
	if (request != NULL)
		add_defaults(request, defaults);
	model = json_string_value(json_object_get(json_object_get(line, "body"), "model"));
	tag = tag_of(kind, model, custom_id);
	if (request != NULL)
		r->wire = json_pack("{s:s,s:s,s:o}", "custom_id", tag != NULL ? tag : "", "op", kind == NULL ? op_of(line, &p) : "generate", "request", request);
	else
		r->wire = json_pack("{s:s,s:{s:s,s:s}}", "custom_id", tag != NULL ? tag : "", "refused", "code", p.code, "message",
				    p.text);
	free(tag);
	json_decref(line);
	return r->wire != NULL ? 0 : -1;
}

void row_finish(struct row *r)
{
	json_decref(r->wire);
	r->wire = NULL;
}

/* ---- out ---- */

static const char *str_of(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

static json_t *error_of(const json_t *record, const json_t *done)
{
	const char *state = str_of(record, "state"), *code = str_of(json_object_get(done, "error"), "code");
	const char *message = str_of(json_object_get(done, "error"), "message");

	return json_pack("{s:s,s:s}", "code",
			 code != NULL    ? code
			 : state != NULL ? state
					 : "internal",
			 "message", message != NULL ? message : "the row ended without an answer");
}

/* A plain row's answer is the done event without what belongs to the transport. */
static json_t *plain_answer(json_t *out, const json_t *done)
{
	static const char *const keys[] = {"choices", "prompt_logprobs", "usage", "digest", "blend"};

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (json_object_get(done, keys[i]) != NULL)
			json_object_set(out, keys[i], json_object_get(done, keys[i]));
	return out;
}

static json_t *openai_answer(json_t *out, const json_t *record, const json_t *done, const json_t *tag, const char *kind, bool error)
{
	enum openai_endpoint endpoint = strcmp(kind, kind_names[OPENAI_CHAT]) == 0 ? OPENAI_CHAT : OPENAI_COMPLETIONS;
	const char *model = str_of(tag, "m");
	json_t *body;

	if (error) {
		json_object_set_new(out, "response", json_null());
		json_object_set_new(out, "error", error_of(record, done));
		return out;
	}
	body = openai_response(endpoint, done, model != NULL ? model : "",
			       (long long)(json_number_value(json_object_get(record, "ended_ms")) / 1000));
	json_object_set_new(
		out, "response",
		json_pack("{s:i,s:o,s:o}", "status_code", 200, "request_id",
			  json_sprintf("weft-job-%" JSON_INTEGER_FORMAT, json_integer_value(json_object_get(record, "job"))),
			  "body", body));
	json_object_set_new(out, "error", json_null());
	return out;
}

json_t *row_record(const json_t *record, const char *batch, bool *error)
{
	const char *text = str_of(record, "custom_id"), *state = str_of(record, "state"), *kind, *custom_id;
	json_t *tag = text != NULL ? json_loads(text, 0, NULL) : NULL, *done = json_object_get(record, "done"), *out;
	json_int_t row = json_integer_value(json_object_get(record, "row")),
		   cursor = json_integer_value(json_object_get(record, "cursor"));

	*error = state == NULL || strcmp(state, "done") != 0;
	kind = str_of(tag, "k");
	custom_id = str_of(tag, "c");
	if (tag == NULL)
		custom_id = text; /* a row that another program added */
	out = json_pack("{s:o,s:s*}", "id", json_sprintf("%s/%" JSON_INTEGER_FORMAT "/%" JSON_INTEGER_FORMAT, batch, row, cursor),
			"custom_id", custom_id);
	if (kind != NULL) {
		out = openai_answer(out, record, done, tag, kind, *error);
	} else {
		json_object_set_new(out, "row", json_integer(row));
		if (*error)
			json_object_set_new(out, "error", error_of(record, done));
		else
			plain_answer(out, done);
	}
	json_decref(tag);
	return out;
}

bool row_place(const char *line, const char *batch, uint64_t *row, uint64_t *cursor)
{
	json_t *o = json_loads(line, 0, NULL);
	const char *id = str_of(o, "id");
	size_t n = strlen(batch);
	char end;
	bool good = id != NULL && strncmp(id, batch, n) == 0 && id[n] == '/' &&
		    sscanf(id + n, "/%" SCNu64 "/%" SCNu64 "%c", row, cursor, &end) == 2;

	json_decref(o);
	return good;
}
