/* openai.c: see openai.h. One table says what becomes of each key of a body. */
#include "openai.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { COMPLETIONS_MAX_TOKENS = 16 }; /* OpenAI's default for completions; chat has none */

static int refuse(struct openai_problem *p, const char *code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static int refuse(struct openai_problem *p, const char *code, const char *fmt, ...)
{
	va_list args;

	p->code = code;
	va_start(args, fmt);
	vsnprintf(p->text, sizeof(p->text), fmt, args);
	va_end(args);
	return -1;
}

static int wrong(struct openai_problem *p, const char *key, const char *expected)
{
	return refuse(p, "invalid_argument", "%s: expected %s", key, expected);
}

bool openai_endpoint_parse(const char *url, enum openai_endpoint *out)
{
	if (strcmp(url, "/v1/chat/completions") == 0)
		*out = OPENAI_CHAT;
	else if (strcmp(url, "/v1/completions") == 0)
		*out = OPENAI_COMPLETIONS;
	else
		return false;
	return true;
}

/* ---- prompts ---- */

/* A message's content: a str, or OpenAI's list of parts, of which weft knows those of text. A new reference; NULL: refused. */
static json_t *content_of(const json_t *message, struct openai_problem *p)
{
	json_t *content = json_object_get(message, "content"), *text = json_string(""), *joined;
	size_t i;
	json_t *part;

	if (json_is_string(content)) {
		json_decref(text);
		return json_incref(content);
	}
	json_array_foreach(content, i, part)
	{
		const char *type = json_string_value(json_object_get(part, "type")),
			   *piece = json_string_value(json_object_get(part, "text"));
		if (type == NULL || strcmp(type, "text") != 0 || piece == NULL)
			break;
		joined = json_sprintf("%s%s", json_string_value(text), piece);
		json_decref(text);
		text = joined;
	}
	if (json_is_array(content) && i == json_array_size(content))
		return text;
	json_decref(text);
	refuse(p, "unsupported", "messages: content is a str, or a list of parts of type text");
	return NULL;
}

static int put_messages(json_t *out, const json_t *list, struct openai_problem *p)
{
	json_t *messages = json_array(), *m;
	size_t i;

	if (!json_is_array(list) || json_array_size(list) == 0) {
		json_decref(messages);
		return wrong(p, "messages", "a list of {role, content}");
	}
	json_array_foreach(list, i, m)
	{
		const char *role = json_string_value(json_object_get(m, "role"));
		json_t *content = role != NULL ? content_of(m, p) : NULL;
		if (role == NULL)
			wrong(p, "messages", "a list of {role, content}");
		if (content == NULL) {
			json_decref(messages);
			return -1;
		}
		/* "developer" is OpenAI's newer name for "system" */
		json_array_append_new(messages, json_pack("{s:s,s:o}", "role", strcmp(role, "developer") == 0 ? "system" : role,
							  "content", content));
	}
	return json_object_set_new(out, "messages", messages);
}

static bool all_integers(const json_t *list)
{
	size_t i;
	json_t *v;

	json_array_foreach(list, i, v) if (!json_is_integer(v)) return false;
	return json_array_size(list) > 0;
}

static int put_prompt(json_t *out, json_t *prompt, struct openai_problem *p)
{
	/* A list of one prompt is that prompt; several would be several jobs. */
	if (json_is_array(prompt) && !all_integers(prompt)) {
		if (json_array_size(prompt) > 1)
			return refuse(p, "unsupported", "prompt: one prompt in each request, not %zu", json_array_size(prompt));
		prompt = json_array_get(prompt, 0);
	}
	if (json_is_string(prompt))
		return json_object_set(out, "prompt", prompt);
	if (json_is_array(prompt) && all_integers(prompt))
		return json_object_set(out, "tokens", prompt);
	return wrong(p, "prompt", "a str or a list of tokens");
}

/* ---- options ---- */

static int put_stop(json_t *out, json_t *v, struct openai_problem *p)
{
	if (json_is_string(v))
		return json_object_set_new(out, "stop", json_pack("[O]", v));
	return json_is_array(v) ? json_object_set(out, "stop", v) : wrong(p, "stop", "a str or a list of str");
}

/* max_completion_tokens is the newer name of max_tokens; both must agree. */
static int put_max_tokens(json_t *out, const char *key, json_t *v, struct openai_problem *p)
{
	json_t *earlier = json_object_get(out, "max_tokens");

	if (!json_is_integer(v) || json_integer_value(v) < 1)
		return wrong(p, key, "an integer of at least 1");
	if (earlier != NULL && json_integer_value(earlier) != json_integer_value(v))
		return refuse(p, "invalid_argument", "%s: max_tokens and max_completion_tokens differ", key);
	return json_object_set(out, "max_tokens", v);
}

static int put_chat_logprobs(json_t *out, const json_t *body, struct openai_problem *p)
{
	const json_t *on = json_object_get(body, "logprobs"), *top = json_object_get(body, "top_logprobs");

	if (on != NULL && !json_is_null(on) && !json_is_boolean(on))
		return wrong(p, "logprobs", "a bool");
	if (top != NULL && !json_is_null(top) && !json_is_integer(top))
		return wrong(p, "top_logprobs", "an integer from 0 to 20");
	if (!json_is_true(on)) {
		if (json_is_integer(top) && json_integer_value(top) > 0)
			return refuse(p, "invalid_argument", "top_logprobs: only with logprobs true");
		return 0;
	}
	return json_object_set_new(out, "logprobs", json_integer(json_integer_value(top)));
}

enum rule {
	PASS,      /* as it is */
	TAKEN,     /* judged elsewhere */
	NOTHING,   /* no influence on an answer */
	ONLY_OFF,  /* null, false, "none", an empty list: else unsupported */
	TEXT_ONLY, /* response_format */
	BEST_OF,
	MAX_TOKENS,
	STOP
};

static const struct {
	const char *key;
	enum rule chat, completions;
} rules[] = {
	{"messages", TAKEN, PASS},
	{"prompt", PASS, TAKEN},
	{"model", TAKEN, TAKEN},
	{"logprobs", TAKEN, PASS},
	{"top_logprobs", TAKEN, PASS},
	{"max_tokens", MAX_TOKENS, MAX_TOKENS},
	{"max_completion_tokens", MAX_TOKENS, MAX_TOKENS},
	{"stop", STOP, STOP},
	{"user", NOTHING, NOTHING},
	{"metadata", NOTHING, NOTHING},
	{"store", NOTHING, NOTHING},
	{"service_tier", NOTHING, NOTHING},
	{"stream", ONLY_OFF, ONLY_OFF},
	{"stream_options", ONLY_OFF, ONLY_OFF},
	{"suffix", ONLY_OFF, ONLY_OFF},
	{"tools", ONLY_OFF, ONLY_OFF},
	{"tool_choice", ONLY_OFF, ONLY_OFF},
	{"parallel_tool_calls", NOTHING, NOTHING}, /* says something about tools only */
	{"functions", ONLY_OFF, ONLY_OFF},
	{"function_call", ONLY_OFF, ONLY_OFF},
	{"modalities", ONLY_OFF, ONLY_OFF},
	{"audio", ONLY_OFF, ONLY_OFF},
	{"prediction", ONLY_OFF, ONLY_OFF},
	{"response_format", TEXT_ONLY, TEXT_ONLY},
	{"best_of", BEST_OF, BEST_OF},
};

static enum rule rule_of(enum openai_endpoint endpoint, const char *key)
{
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		if (strcmp(rules[i].key, key) == 0)
			return endpoint == OPENAI_CHAT ? rules[i].chat : rules[i].completions;
	return PASS;
}

static bool is_off(const json_t *v)
{
	const char *word = json_string_value(v);

	return json_is_false(v) || (json_is_array(v) && json_array_size(v) == 0) ||
	       (word != NULL && (*word == 0 || strcmp(word, "none") == 0));
}

static bool is_text(const json_t *format)
{
	const char *type = json_string_value(json_object_get(format, "type"));

	return type != NULL && strcmp(type, "text") == 0;
}

static int put(json_t *out, enum openai_endpoint endpoint, const json_t *body, const char *key, json_t *v, struct openai_problem *p)
{
	enum rule rule = rule_of(endpoint, key);
	json_int_t n = json_is_integer(json_object_get(body, "n")) ? json_integer_value(json_object_get(body, "n")) : 1;

	if (rule == TAKEN || rule == NOTHING || json_is_null(v))
		return 0;
	switch (rule) {
	case ONLY_OFF:
		return is_off(v) ? 0 : refuse(p, "unsupported", "%s: not something this server does", key);
	case TEXT_ONLY:
		return is_text(v) ? 0 : refuse(p, "unsupported", "%s: only {\"type\": \"text\"}", key);
	case BEST_OF:
		return json_is_integer(v) && json_integer_value(v) == n ? 0
									: refuse(p, "unsupported", "%s: only the value of n", key);
	case MAX_TOKENS:
		return put_max_tokens(out, key, v, p);
	case STOP:
		return put_stop(out, v, p);
	default:
		return json_object_set(out, key, v);
	}
}

static int put_all(json_t *out, enum openai_endpoint endpoint, const json_t *body, struct openai_problem *p)
{
	const json_t *model = json_object_get(body, "model");
	const char *key;
	json_t *v;

	if (model != NULL && !json_is_string(model))
		return wrong(p, "model", "a str");
	if (model != NULL)
		json_object_set(out, "model", (json_t *)model);
	if (endpoint == OPENAI_CHAT ? put_messages(out, json_object_get(body, "messages"), p) || put_chat_logprobs(out, body, p)
				    : put_prompt(out, json_object_get(body, "prompt"), p))
		return -1;
	json_object_foreach((json_t *)body, key, v) if (put(out, endpoint, body, key, v, p)) return -1;
	if (endpoint == OPENAI_COMPLETIONS && json_object_get(out, "max_tokens") == NULL)
		return json_object_set_new(out, "max_tokens", json_integer(COMPLETIONS_MAX_TOKENS));
	return 0;
}

json_t *openai_request(enum openai_endpoint endpoint, const json_t *body, struct openai_problem *p)
{
	json_t *out = json_object();

	if (!json_is_object(body))
		wrong(p, "body", "an object");
	else if (put_all(out, endpoint, body, p) == 0)
		return out;
	json_decref(out);
	return NULL;
}

/* ---- answers ---- */

static const char *finish_of(const json_t *choice)
{
	const char *finish = json_string_value(json_object_get(choice, "finish"));

	if (finish == NULL || strcmp(finish, "stop_string") == 0)
		return "stop";
	return strcmp(finish, "context") == 0 ? "length" : finish;
}

/* Of a chat: {content: [{token, logprob, bytes, top_logprobs}]}. A token's text comes with it as `text`. */
static json_t *chat_logprob(const json_t *entry)
{
	const char *text = json_string_value(json_object_get(entry, "text"));
	json_t *bytes = json_array(), *top = json_array(), *t;
	size_t i;

	for (const char *b = text; b != NULL && *b != 0; b++)
		json_array_append_new(bytes, json_integer((unsigned char)*b));
	json_array_foreach(json_object_get(entry, "top"), i, t) json_array_append_new(top, chat_logprob(t));
	return json_pack("{s:s,s:O,s:o,s:o}", "token", text != NULL ? text : "", "logprob", json_object_get(entry, "logprob"),
			 "bytes", bytes, "top_logprobs", top);
}

static json_t *chat_logprobs(const json_t *list)
{
	json_t *content = json_array(), *entry;
	size_t i;

	if (list == NULL) {
		json_decref(content);
		return json_null();
	}
	json_array_foreach(list, i, entry) json_array_append_new(content, chat_logprob(entry));
	return json_pack("{s:o}", "content", content);
}

/* Of a completion: four lists side by side. Two likely tokens may have the same text: the first, the likelier one, stands. */
static json_t *completion_logprobs(const json_t *list)
{
	json_t *tokens = json_array(), *logprobs = json_array(), *tops = json_array(), *offsets = json_array(), *entry, *t;
	json_int_t offset = 0;
	size_t i, k;

	json_array_foreach(list, i, entry)
	{
		const char *text = json_string_value(json_object_get(entry, "text"));
		json_t *top = json_object();
		json_array_append_new(tokens, json_string(text != NULL ? text : ""));
		json_array_append(logprobs, json_object_get(entry, "logprob"));
		json_array_append_new(offsets, json_integer(offset));
		json_array_foreach(json_object_get(entry, "top"), k, t)
		{
			const char *name = json_string_value(json_object_get(t, "text"));
			if (name != NULL && json_object_get(top, name) == NULL)
				json_object_set(top, name, json_object_get(t, "logprob"));
		}
		json_array_append_new(tops, json_is_null(json_object_get(entry, "logprob")) ? json_null() : json_incref(top));
		json_decref(top);
		for (const char *b = text; b != NULL && *b != 0; b++)
			offset += ((unsigned char)*b & 0xc0) != 0x80; /* characters, as in Python */
	}
	if (list != NULL)
		return json_pack("{s:o,s:o,s:o,s:o}", "tokens", tokens, "token_logprobs", logprobs, "top_logprobs", tops,
				 "text_offset", offsets);
	json_decref(tokens);
	json_decref(logprobs);
	json_decref(tops);
	json_decref(offsets);
	return json_null();
}

static json_t *choice_of(enum openai_endpoint endpoint, const json_t *c, size_t index)
{
	json_t *text = json_object_get(c, "text"), *logprobs = json_object_get(c, "logprobs");

	if (endpoint == OPENAI_CHAT)
		return json_pack("{s:I,s:{s:s,s:O},s:o,s:s}", "index", (json_int_t)index, "message", "role", "assistant", "content",
				 text, "logprobs", chat_logprobs(logprobs), "finish_reason", finish_of(c));
	return json_pack("{s:I,s:O,s:o,s:s}", "index", (json_int_t)index, "text", text, "logprobs", completion_logprobs(logprobs),
			 "finish_reason", finish_of(c));
}

static json_int_t usage_of(const json_t *done, const char *key)
{
	return json_integer_value(json_object_get(json_object_get(done, "usage"), key));
}

json_t *openai_response(enum openai_endpoint endpoint, const json_t *done, const char *model, long long created)
{
	json_t *choices = json_array(), *c, *digest = json_object_get(done, "digest"), *out;
	json_int_t prompt = usage_of(done, "prompt_tokens"), completion = usage_of(done, "completion_tokens");
	bool chat = endpoint == OPENAI_CHAT;
	size_t i;

	json_array_foreach(json_object_get(done, "choices"), i, c) json_array_append_new(choices, choice_of(endpoint, c, i));
	out = json_pack("{s:o,s:s,s:I,s:s,s:o,s:{s:I,s:I,s:I,s:{s:I}}}", "id",
			json_sprintf("%s-weft-%" JSON_INTEGER_FORMAT, chat ? "chatcmpl" : "cmpl",
				     json_integer_value(json_object_get(done, "job"))),
			"object", chat ? "chat.completion" : "text_completion", "created", (json_int_t)created, "model", model,
			"choices", choices, "usage", "prompt_tokens", prompt, "completion_tokens", completion, "total_tokens",
			prompt + completion, "prompt_tokens_details", "cached_tokens", usage_of(done, "cached_tokens"));
	if (out != NULL && digest != NULL)
		json_object_set(out, "digest", digest); /* ours: the same digest is the same answer, byte for byte */
	return out;
}
