/* request.c: a request under construction: its fields are kept encoded, one after the other, and counted. */
#include "libweft.h"
#include "wire-json.h"
#include <stdlib.h>
#include <string.h>

struct weft_request {
	char *op;
	struct wire_buf fields; /* key, value, key, value ... */
	size_t n_fields;
	struct wire_buf messages; /* the elements of "messages" */
	size_t n_messages;
	char **names;                     /* [n_fields]: of the fields that are set */
	struct weft_client_error mistake; /* the first one; code 0: none */
};

struct weft_request *weft_request_new(const char *op)
{
	struct weft_request *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	wire_buf_init(&r->fields);
	wire_buf_init(&r->messages);
	r->op = strdup(op);
	if (r->op == NULL) {
		weft_request_free(r);
		return NULL;
	}
	return r;
}

void weft_request_free(struct weft_request *r)
{
	if (r == NULL)
		return;
	for (size_t i = 0; i < r->n_fields; i++)
		free(r->names[i]);
	free(r->names);
	wire_buf_finish(&r->fields);
	wire_buf_finish(&r->messages);
	free(r->op);
	free(r);
}

/* Begins a field: false when it must not be written, the mistake being noted. */
static bool begin(struct weft_request *r, const char *field)
{
	char **names;

	if (r->mistake.code != 0)
		return false;
	for (size_t i = 0; i < r->n_fields; i++) {
		if (strcmp(r->names[i], field) == 0) {
			client_fail(&r->mistake, WEFT_CLIENT_EINVAL, "the field %s is set twice", field);
			return false;
		}
	}
	if (!wire_utf8_valid(field, strlen(field))) {
		client_fail(&r->mistake, WEFT_CLIENT_EINVAL, "a field's name is not valid UTF-8");
		return false;
	}
	names = realloc(r->names, (r->n_fields + 1) * sizeof(*names));
	if (names == NULL)
		goto no_memory;
	r->names = names;
	names[r->n_fields] = strdup(field);
	if (names[r->n_fields] == NULL)
		goto no_memory;
	r->n_fields++;
	wire_str(&r->fields, field);
	return true;
no_memory:
	client_fail(&r->mistake, WEFT_CLIENT_ENOMEM, "out of memory");
	return false;
}

static bool text_is_good(struct weft_request *r, const char *field, const char *text, size_t len)
{
	if (r->mistake.code == 0 && !wire_utf8_valid(text, len))
		client_fail(&r->mistake, WEFT_CLIENT_EINVAL, "the text of %s is not valid UTF-8", field);
	return r->mistake.code == 0;
}

void weft_request_strn(struct weft_request *r, const char *field, const char *text, size_t len)
{
	if (text_is_good(r, field, text, len) && begin(r, field))
		wire_strn(&r->fields, text, len);
}

void weft_request_str(struct weft_request *r, const char *field, const char *text)
{
	weft_request_strn(r, field, text, strlen(text));
}

void weft_request_uint(struct weft_request *r, const char *field, uint64_t value)
{
	if (begin(r, field))
		wire_uint(&r->fields, value);
}

void weft_request_int(struct weft_request *r, const char *field, int64_t value)
{
	if (begin(r, field))
		wire_int(&r->fields, value);
}

void weft_request_float(struct weft_request *r, const char *field, double value)
{
	if (begin(r, field))
		wire_float(&r->fields, value);
}

void weft_request_bool(struct weft_request *r, const char *field, bool value)
{
	if (begin(r, field))
		wire_bool(&r->fields, value);
}

void weft_request_strs(struct weft_request *r, const char *field, const char *const *texts, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!text_is_good(r, field, texts[i], strlen(texts[i])))
			return;
	if (!begin(r, field))
		return;
	wire_array(&r->fields, n);
	for (size_t i = 0; i < n; i++)
		wire_str(&r->fields, texts[i]);
}

void weft_request_tokens(struct weft_request *r, const char *field, const uint32_t *tokens, size_t n)
{
	if (!begin(r, field))
		return;
	wire_array(&r->fields, n);
	for (size_t i = 0; i < n; i++)
		wire_uint(&r->fields, tokens[i]);
}

void weft_request_json(struct weft_request *r, const char *field, const char *json)
{
	json_error_t error;
	json_t *v;

	if (r->mistake.code != 0)
		return;
	v = json_loads(json, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);
	if (v == NULL)
		client_fail(&r->mistake, WEFT_CLIENT_EINVAL, "the value of %s is not JSON: %s", field, error.text);
	else if (begin(r, field))
		wire_from_json(&r->fields, v);
	json_decref(v);
}

void weft_request_message(struct weft_request *r, const char *role, const char *content)
{
	if (!text_is_good(r, "messages", role, strlen(role)) || !text_is_good(r, "messages", content, strlen(content)))
		return;
	wire_map(&r->messages, 2);
	wire_str(&r->messages, "role");
	wire_str(&r->messages, role);
	wire_str(&r->messages, "content");
	wire_str(&r->messages, content);
	r->n_messages++;
}

int request_check(const struct weft_request *r, struct weft_client_error *error)
{
	if (r->mistake.code != 0) {
		*error = r->mistake;
		return r->mistake.code;
	}
	if (r->fields.failed || r->messages.failed)
		return client_fail(error, WEFT_CLIENT_ENOMEM, "out of memory");
	return 0;
}

/* With a key the server knows the second one for the first. */
static bool has_key(const struct weft_request *r)
{
	for (size_t i = 0; i < r->n_fields; i++)
		if (strcmp(r->names[i], "key") == 0)
			return true;
	return false;
}

bool request_may_repeat(const struct weft_request *r)
{
	static const char *const once[] = {"generate", "score", "adapter.fuse", "adapter.learn"};

	for (size_t i = 0; i < sizeof(once) / sizeof(once[0]); i++)
		if (strcmp(r->op, once[i]) == 0)
			return i < 2 && has_key(r);
	return true;
}

void request_encode(const struct weft_request *r, uint64_t id, const char *topic, struct wire_buf *out)
{
	wire_map(out, 3 + r->n_fields + (r->n_messages > 0) + (topic != NULL));
	wire_str(out, "v");
	wire_uint(out, WIRE_VERSION);
	wire_str(out, "id");
	wire_uint(out, id);
	wire_str(out, "op");
	wire_str(out, r->op);
	if (topic != NULL) {
		wire_str(out, "topic");
		wire_str(out, topic);
	}
	wire_raw(out, r->fields.out.data, r->fields.out.size);
	if (r->n_messages > 0) {
		wire_str(out, "messages");
		wire_array(out, r->n_messages);
		wire_raw(out, r->messages.out.data, r->messages.out.size);
	}
}
