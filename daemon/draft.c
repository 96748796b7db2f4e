/* draft.c: from the fields of generate and score to an engine job. What can be refused cheaply is refused before anything is
 * tokenised. */
#include "draft.h"
#include "blend_file.h"
#include "fields.h"
#include "options.h"
#include <inttypes.h>
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WEEK_MS 604800000

struct making { /* one draft_prepare under way */
	struct draft *d;
	const struct draft_env *env;
	const msgpack_object *body;
	const struct template *template; /* NULL: not a messages request */
	struct options options;
	struct problem *p;
};

static const msgpack_object *field(const struct making *m, const char *name)
{
	return wire_get(m->body, name);
}

static int oom(struct problem *p)
{
	return problem_set(p, WIRE_INTERNAL, NULL, "out of memory");
}

/* ---- plain fields ---- */

static int take_uint(const struct making *m, const char *name, uint64_t min, uint64_t max, uint64_t *out)
{
	return field_uint(m->body, name, min, max, out, m->p);
}

/* Sets *out to the index of the word; absent: leaves it alone. */
static int take_word(const struct making *m, const char *name, const char *const words[2], int *out)
{
	const msgpack_object *o = field(m, name);
	if (!o)
		return 0;
	for (int i = 0; i < 2; i++)
		if (wire_is_cstr(o, words[i])) {
			*out = i;
			return 0;
		}
	return problem_set(m->p, WIRE_INVALID_ARGUMENT, name, "expected \"%s\" or \"%s\"", words[0], words[1]);
}

static int take_topic(const struct making *m)
{
	const msgpack_object *o = field(m, "topic");
	const char *s;
	size_t len;
	if (!wire_get_str(o, &s, &len))
		return problem_type(m->p, "topic", "a str of 32 lower-case hex characters", o);
	if (!wire_topic_valid(s, len))
		return problem_set(m->p, WIRE_INVALID_ARGUMENT, "topic", "expected 32 lower-case hex characters");
	memcpy(m->d->topic, s, len);
	return 0;
}

static int take_key(const struct making *m)
{
	const msgpack_object *o = field(m, "key");
	const char *s;
	size_t len;
	if (!o)
		return 0;
	if (!wire_get_str(o, &s, &len))
		return problem_type(m->p, "key", "a str of 1 to 256 bytes", o);
	if (len == 0 || len > DRAFT_KEY_MAX || memchr(s, 0, len))
		return problem_set(m->p, WIRE_INVALID_ARGUMENT, "key", "expected 1 to %d bytes, none of them NUL", DRAFT_KEY_MAX);
	memcpy(m->d->key, s, len);
	return 0;
}

/* A key implies durable, and a delay needs it. */
static int take_durable(const struct making *m)
{
	const msgpack_object *o = field(m, "durable");
	struct draft *d = m->d;
	if (o && !wire_get_bool(o, &d->durable))
		return problem_type(m->p, "durable", "a bool", o);
	if (take_key(m) || take_uint(m, "delay_ms", 1, WEEK_MS, &d->delay_ms))
		return -1;
	if (d->key[0] && o && !d->durable)
		return problem_set(m->p, WIRE_INVALID_ARGUMENT, "key", "a key stands for a durable job: leave durable out, or set it");
	d->durable |= d->key[0] != 0;
	if (d->delay_ms && !d->durable)
		return problem_set(m->p, WIRE_INVALID_ARGUMENT, "delay_ms", "only a durable job can be delayed");
	if (d->durable && !m->env->store)
		return problem_set(m->p, WIRE_UNSUPPORTED, d->key[0] ? "key" : "durable",
				   "this server keeps no store: see state and store in weftd.conf");
	return 0;
}

/* Tasks are not kept. */
static int refuse_durable(const struct making *m)
{
	static const char *const names[] = {"durable", "key", "delay_ms"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (field(m, names[i]))
			return problem_set(m->p, WIRE_UNSUPPORTED, names[i], "only generate and score jobs can be durable");
	return 0;
}

/* Only the form is judged here: which names there are is the loop's to know. */
static int take_adapters(const struct making *m)
{
	const msgpack_object *o = field(m, "adapters");
	struct draft *d = m->d;
	char word[65], name[96];
	if (!o)
		return 0;
	if (o->type != MSGPACK_OBJECT_MAP)
		return problem_type(m->p, "adapters", "a map from the name of an adapter to its scale", o);
	if (o->via.map.size > CORE_BLEND_MAX)
		return problem_set(m->p, WIRE_INVALID_ARGUMENT, "adapters", "at most %d adapters", CORE_BLEND_MAX);
	for (uint32_t i = 0; i < o->via.map.size; i++) {
		const msgpack_object_kv *kv = &o->via.map.ptr[i];
		struct adapter_wish *w = &d->adapters[d->n_adapters++];
		const char *text = kv->key.via.str.ptr;
		size_t len = kv->key.via.str.size;
		double scale;
		snprintf(name, sizeof name, "adapters.%s", problem_name(word, text, len));
		if (!adapter_name_valid(text, len))
			return problem_set(m->p, WIRE_NOT_FOUND, name, "no adapter can have this name");
		if (!wire_get_float(&kv->val, &scale))
			return problem_type(m->p, name, "a number", &kv->val);
		if (!isfinite((float)scale))
			return problem_set(m->p, WIRE_INVALID_ARGUMENT, name, "expected a number in the range of f32");
		memcpy(w->name, text, len);
		w->scale = (float)scale;
	}
	return 0;
}

static int take_model(const struct making *m)
{
	const msgpack_object *o = field(m, "model");
	const char *s;
	size_t len;
	if (!o)
		return 0;
	if (!wire_get_str(o, &s, &len))
		return problem_type(m->p, "model", "the name of a model", o);
	if (len == 0 || len > ADAPTER_NAME_MAX || memchr(s, 0, len))
		return problem_set(m->p, WIRE_NOT_FOUND, "model", "no model can have this name");
	memcpy(m->d->model, s, len);
	return 0;
}

/* What every job has. */
static int take_plain_fields(struct making *m, enum job_class usual)
{
	static const char *const classes[2] = {"interactive", "batch"}, *const policies[2] = {"cancel", "keep"};
	struct draft *d = m->d;
	int class = usual;
	uint64_t priority = 100;
	if (take_topic(m) || take_word(m, "class", classes, &class) || take_uint(m, "priority", 0, 1000, &priority))
		return -1;
	int keep = class == CLASS_BATCH || d->durable;
	d->queue_ms = m->env->queue_ms;
	if (take_uint(m, "deadline_ms", 1, WEEK_MS, &d->deadline_ms) || take_uint(m, "queue_ms", 1, WEEK_MS, &d->queue_ms) ||
	    take_word(m, "on_disconnect", policies, &keep))
		return -1;
	d->class = class;
	d->priority = (uint32_t)priority;
	d->keep = keep;
	return 0;
}

/* ---- options ---- */

static bool own_field(const char *name, size_t len, bool score)
{
	static const char *const names[] = {"v",        "id",    "op",       "topic",       "prompt",   "messages",      "tokens",
					    "template", "class", "priority", "deadline_ms", "queue_ms", "on_disconnect", "decoder",
					    "adapters", "model", "durable", "key", "delay_ms", "cache_salt", NULL};
	static const char *const generate[] = {"samplers", "seed", NULL}, *const scoring[] = {"continuations", NULL};
	const char *const *lists[] = {names, score ? scoring : generate};
	for (size_t k = 0; k < 2; k++)
		for (const char *const *n = lists[k]; *n; n++)
			if (strlen(*n) == len && memcmp(*n, name, len) == 0)
				return true;
	return false;
}

static int take_options(struct making *m)
{
	const struct draft *d = m->d;
	if (options_begin(&m->options, m->env->plugins, m->env->vocab, field(m, "decoder"), d->score ? "score" : "sample",
			  d->score ? NULL : field(m, "samplers"), !d->score, m->p))
		return -1;
	for (uint32_t i = 0; i < m->body->via.map.size; i++) {
		const msgpack_object_kv *kv = &m->body->via.map.ptr[i];
		const char *name = kv->key.via.str.ptr;
		size_t len = kv->key.via.str.size;
		if (!own_field(name, len, d->score) && options_take(&m->options, name, len, &kv->val, m->p))
			return -1;
	}
	size_t n = 0;
	const char *const *stops = m->template ? template_stops(m->template, &n) : NULL;
	if (options_add_stops(&m->options, stops, n))
		return oom(m->p);
	snprintf(m->d->decoder, sizeof m->d->decoder, "%s", m->options.decoder.plugin->desc->name);
	return 0;
}

static int take_seed(struct making *m)
{
	uint64_t seed = 0;
	randombytes_buf(&seed, sizeof seed);
	seed &= WIRE_MAX_INT;
	if (take_uint(m, "seed", 0, WIRE_MAX_INT, &seed))
		return -1;
	m->d->work->seed = seed;
	return 0;
}

/* ---- the prompt ---- */

static int take_template(struct making *m)
{
	const msgpack_object *o = field(m, "template");
	const char *name;
	size_t len;
	m->template = field(m, "messages") ? m->env->template : NULL;
	if (!o)
		return 0;
	if (!wire_get_str(o, &name, &len))
		return problem_type(m->p, "template", "the name of a template", o);
	if (!m->template)
		return problem_set(m->p, WIRE_INVALID_ARGUMENT, "template", "goes with messages only");
	m->template = template_find(name, len);
	if (!m->template)
		return problem_set(m->p, WIRE_INVALID_ARGUMENT, "template", "expected one of %s", TEMPLATE_NAMES);
	return 0;
}

/* A text that cannot fit is refused before it is tokenised. */
static int text_may_fit(const struct making *m, const char *name, size_t len)
{
	if (len / m->env->longest_piece > m->env->context)
		return problem_set(m->p, WIRE_TOO_LARGE, name, "%zu bytes cannot fit into a context of %u tokens", len,
				   m->env->context);
	return 0;
}

/* Appends the tokens of a text to work->prompt. */
static int append_text(struct making *m, const char *text, size_t len, unsigned flags)
{
	struct engine_job *w = m->d->work;
	struct core_error err = {0};
	int32_t *tokens;
	size_t n;
	if (core_tokenizer_encode(m->env->tokenizer, text, len, flags, &tokens, &n, &err))
		return problem_set(m->p, WIRE_INTERNAL, NULL, "tokenizer: %s", err.text);
	int32_t *grown = realloc(w->prompt, (w->n_prompt + n + 1) * sizeof *grown);
	if (!grown) {
		free(tokens);
		return oom(m->p);
	}
	if (n)
		memcpy(grown + w->n_prompt, tokens, n * sizeof *tokens);
	w->prompt = grown;
	w->n_prompt += n;
	free(tokens);
	return 0;
}

static int append_token(struct making *m, int32_t token)
{
	struct engine_job *w = m->d->work;
	if (token < 0)
		return 0; /* the model has no such token */
	int32_t *grown = realloc(w->prompt, (w->n_prompt + 1) * sizeof *grown);
	if (!grown)
		return oom(m->p);
	w->prompt = grown;
	w->prompt[w->n_prompt++] = token;
	return 0;
}

static int read_message(const struct making *m, uint32_t i, const msgpack_object *o, struct message *out)
{
	static const char *const roles[] = {"system", "user", "assistant"};
	char name[96], word[65];
	snprintf(name, sizeof name, "messages.%u", i);
	if (o->type != MSGPACK_OBJECT_MAP)
		return problem_type(m->p, name, "a map with role and content", o);
	for (uint32_t k = 0; k < o->via.map.size; k++) {
		const msgpack_object *key = &o->via.map.ptr[k].key;
		if (wire_is_cstr(key, "role") || wire_is_cstr(key, "content"))
			continue;
		snprintf(name, sizeof name, "messages.%u.%s", i, problem_name(word, key->via.str.ptr, key->via.str.size));
		return problem_set(m->p, WIRE_INVALID_ARGUMENT, name, "unknown: a message has role and content");
	}
	const msgpack_object *role = wire_get(o, "role"), *content = wire_get(o, "content");
	for (out->role = 0; out->role < 3 && !wire_is_cstr(role, roles[out->role]);)
		out->role++;
	snprintf(name, sizeof name, "messages.%u.role", i);
	if (out->role == 3)
		return problem_set(m->p, WIRE_INVALID_ARGUMENT, name, "expected \"system\", \"user\" or \"assistant\"");
	snprintf(name, sizeof name, "messages.%u.content", i);
	if (!wire_get_str(content, &out->text, &out->len))
		return problem_type(m->p, name, "a str", content);
	return 0;
}

static int append_pieces(struct making *m, const struct pieces *pieces)
{
	const struct core_tokenizer *t = m->env->tokenizer;
	for (size_t i = 0; i < pieces->n; i++) {
		const struct piece *piece = &pieces->list[i];
		int rc = piece->kind == PIECE_BOS   ? append_token(m, core_tokenizer_bos(t))
			 : piece->kind == PIECE_EOS ? append_token(m, core_tokenizer_eos(t))
						    : append_text(m, piece->text, piece->len, 0);
		if (rc)
			return -1;
	}
	return 0;
}

static int take_messages(struct making *m, const msgpack_object *o)
{
	char why[TEMPLATE_WHY], name[48];
	struct pieces pieces = {0};
	size_t at = 0, total = 0;
	if (o->type != MSGPACK_OBJECT_ARRAY)
		return problem_type(m->p, "messages", "an array of messages", o);
	if (o->via.array.size == 0)
		return problem_set(m->p, WIRE_INVALID_ARGUMENT, "messages", "expected at least one message");
	uint32_t n = o->via.array.size;
	struct message *list = calloc(n, sizeof *list);
	int rc = list ? 0 : oom(m->p);
	for (uint32_t i = 0; i < n && !rc; i++) {
		rc = read_message(m, i, &o->via.array.ptr[i], &list[i]);
		total += list[i].len;
	}
	if (!rc)
		rc = text_may_fit(m, "messages", total);
	if (!rc) {
		rc = template_render(m->template, list, n, &pieces, &at, why);
		snprintf(name, sizeof name, "messages.%zu", at);
		if (rc)
			rc = rc == -2 ? oom(m->p) : problem_set(m->p, WIRE_INVALID_ARGUMENT, name, "%s", why);
	}
	if (!rc)
		rc = append_pieces(m, &pieces);
	pieces_finish(&pieces);
	free(list);
	return rc;
}

int draft_token_array(const struct draft_env *env, const char *name, const msgpack_object *o, int32_t **out, size_t *n,
		      struct problem *p)
{
	char member[96];
	if (!o || o->type != MSGPACK_OBJECT_ARRAY)
		return problem_type(p, name, "an array of tokens", o);
	int32_t *tokens = malloc((o->via.array.size + 1) * sizeof *tokens);
	if (!tokens)
		return oom(p);
	for (uint32_t i = 0; i < o->via.array.size; i++) {
		uint64_t v;
		if (!wire_get_uint(&o->via.array.ptr[i], &v) || v >= env->vocab) {
			free(tokens);
			snprintf(member, sizeof member, "%s.%u", name, i);
			return problem_set(p, WIRE_INVALID_ARGUMENT, member, "expected a token below %u", env->vocab);
		}
		tokens[i] = (int32_t)v;
	}
	*out = tokens;
	*n = o->via.array.size;
	return 0;
}

static int take_prompt(struct making *m)
{
	const msgpack_object *text = field(m, "prompt"), *messages = field(m, "messages"), *tokens = field(m, "tokens");
	struct engine_job *w = m->d->work;
	const char *s;
	size_t len;
	int rc;
	if (!!text + !!messages + !!tokens != 1)
		return problem_set(m->p, WIRE_INVALID_ARGUMENT,
				   text       ? "prompt"
				   : messages ? "messages"
					      : "tokens",
				   "expected exactly one of prompt, messages and tokens");
	if (text && !wire_get_str(text, &s, &len))
		return problem_type(m->p, "prompt", "a str", text);
	if (text)
		rc = text_may_fit(m, "prompt", len) || append_text(m, s, len, CORE_ENCODE_BOS) ? -1 : 0;
	else if (messages)
		rc = take_messages(m, messages);
	else
		rc = draft_token_array(m->env, "tokens", tokens, &w->prompt, &w->n_prompt, m->p);
	if (rc)
		return -1;
	const char *name = text ? "prompt" : messages ? "messages" : "tokens";
	if (w->n_prompt == 0)
		return problem_set(m->p, WIRE_INVALID_ARGUMENT, name, "expected at least one token");
	if (w->n_prompt >= m->env->context)
		return problem_set(m->p, WIRE_TOO_LARGE, name, "%zu tokens leave no room in a context of %u", w->n_prompt,
				   m->env->context);
	return 0;
}

int draft_prompt_tokens(const struct draft_env *env, const msgpack_object *map, int32_t **out, size_t *n, struct problem *p)
{
	struct draft d = {.work = engine_job_new()};
	struct making m = {.d = &d, .env = env, .body = map, .p = p};
	if (!d.work)
		return oom(p);
	int rc = take_template(&m) || take_prompt(&m) ? -1 : 0;
	if (!rc) {
		*out = d.work->prompt;
		*n = d.work->n_prompt;
		d.work->prompt = NULL;
	}
	draft_finish(&d);
	return rc;
}

/* ---- continuations ---- */

static int take_continuation(struct making *m, uint32_t i, const msgpack_object *o)
{
	struct engine_job *w = m->d->work;
	struct core_error err = {0};
	char name[48];
	const char *s;
	size_t len, n;
	snprintf(name, sizeof name, "continuations.%u", i);
	if (wire_get_str(o, &s, &len)) {
		if (text_may_fit(m, name, len))
			return -1;
		if (core_tokenizer_encode(m->env->tokenizer, s, len, CORE_ENCODE_NO_PREFIX, &w->continuations[i], &n, &err))
			return problem_set(m->p, WIRE_INTERNAL, name, "tokenizer: %s", err.text);
	} else if (o->type != MSGPACK_OBJECT_ARRAY) {
		return problem_type(m->p, name, "a str or an array of tokens", o);
	} else if (draft_token_array(m->env, name, o, &w->continuations[i], &n, m->p)) {
		return -1;
	}
	w->n_continuations = i + 1;
	w->continuation_len[i] = n;
	if (n == 0)
		return problem_set(m->p, WIRE_INVALID_ARGUMENT, name, "expected at least one token");
	if (w->n_prompt + n > m->env->context)
		return problem_set(m->p, WIRE_TOO_LARGE, name, "prompt and continuation are %zu tokens, the context has %u",
				   w->n_prompt + n, m->env->context);
	return 0;
}

static int take_continuations(struct making *m)
{
	const msgpack_object *o = field(m, "continuations");
	struct engine_job *w = m->d->work;
	if (!o || o->type != MSGPACK_OBJECT_ARRAY)
		return problem_type(m->p, "continuations", "an array of str or of arrays of tokens", o);
	uint32_t n = o->via.array.size;
	if (n == 0 || n > DRAFT_MAX_N)
		return problem_set(m->p, WIRE_INVALID_ARGUMENT, "continuations", "expected 1 to %d of them", DRAFT_MAX_N);
	w->continuations = calloc(n, sizeof *w->continuations);
	w->continuation_len = calloc(n, sizeof *w->continuation_len);
	if (!w->continuations || !w->continuation_len)
		return oom(m->p);
	for (uint32_t i = 0; i < n; i++)
		if (take_continuation(m, i, &o->via.array.ptr[i]))
			return -1;
	m->d->n_choices = n;
	return 0;
}

/* ---- cost and echo ---- */

/* The longest this job may become, in tokens, and about what its events and answer will need: 96 bytes for a token, 24 for each of
 * its tops (twice: once in a delta, once in the answer). */
static int take_cost(struct making *m, size_t size)
{
	struct draft *d = m->d;
	uint64_t prompt = d->work->n_prompt, room = m->env->context - prompt, answer = 0;
	int64_t n = options_int(&m->options, "n", 1), max = options_int(&m->options, "max_tokens", 0),
		top = options_int(&m->options, "logprobs", -1);
	if (d->score) {
		for (size_t i = 0; i < d->work->n_continuations; i++)
			answer += d->work->continuation_len[i];
	} else {
		if (n < 1 || n > DRAFT_MAX_N)
			return problem_set(m->p, WIRE_INVALID_ARGUMENT, "n", "must be from 1 to %d", DRAFT_MAX_N);
		answer = (uint64_t)n * (max > 0 && (uint64_t)max < room ? (uint64_t)max : room);
		d->n_choices = (uint32_t)n;
	}
	d->tokens = prompt + answer;
	d->bytes = size + prompt * 4 + d->tokens * 2 * (96 + (top > 0 ? (uint64_t)top * 24 : 0));
	return 0;
}

void draft_begin_options(const struct draft *d, size_t more, struct wire_buf *b)
{
	wire_map(b, 3 + (d->deadline_ms > 0) + (d->queue_ms > 0) + more);
	wire_str(b, "class");
	wire_str(b, d->class == CLASS_BATCH ? "batch" : "interactive");
	wire_str(b, "priority");
	wire_uint(b, d->priority);
	wire_str(b, "on_disconnect");
	wire_str(b, d->keep ? "keep" : "cancel");
	if (d->deadline_ms) {
		wire_str(b, "deadline_ms");
		wire_uint(b, d->deadline_ms);
	}
	if (d->queue_ms) {
		wire_str(b, "queue_ms");
		wire_uint(b, d->queue_ms);
	}
}

/* The effective set as pairs of a map that has `more` others. */
static void write_options(const struct making *m, size_t more, struct wire_buf *b)
{
	const struct draft *d = m->d;
	const struct options *o = &m->options;
	draft_begin_options(
		d,
		more + 1 + (m->template != NULL) + (d->model[0] != 0) + (d->n_adapters > 0) + (d->cache_salt[0] != 0) + (d->score ? 0 : 2) +
			options_count(o),
		b);
	wire_str(b, "decoder");
	wire_map(b, 1);
	wire_str(b, "name");
	wire_str(b, o->decoder.plugin->desc->name);
	if (!d->score) {
		wire_str(b, "samplers");
		wire_array(b, o->n_samplers);
		for (size_t i = 0; i < o->n_samplers; i++)
			wire_str(b, o->samplers[i].plugin->desc->name);
		wire_str(b, "seed");
		wire_uint(b, d->work->seed);
	}
	if (d->model[0]) {
		wire_str(b, "model");
		wire_str(b, d->model);
	}
	if (d->n_adapters) {
		wire_str(b, "adapters");
		wire_map(b, d->n_adapters);
	}
	for (size_t i = 0; i < d->n_adapters; i++) {
		wire_str(b, d->adapters[i].name);
		wire_float(b, (double)d->adapters[i].scale);
	}
	if (d->cache_salt[0]) {
		wire_str(b, "cache_salt");
		wire_str(b, d->cache_salt);
	}
	if (m->template) {
		wire_str(b, "template");
		wire_str(b, template_name(m->template));
	}
	options_write(o, b);
}

/* ---- what a durable job is kept as ---- */

static int by_name(const void *a, const void *b)
{
	const msgpack_object_str *x = &(*(const msgpack_object_kv *const *)a)->key.via.str,
				 *y = &(*(const msgpack_object_kv *const *)b)->key.via.str;
	int order = memcmp(x->ptr, y->ptr, x->size < y->size ? x->size : y->size);
	return order ? order : (x->size > y->size) - (x->size < y->size);
}

/* What belongs to one sending, not to what is asked for. */
static bool of_sending(const msgpack_object *key)
{
	static const char *const names[] = {"v", "id", "topic", "durable", "key"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (wire_is_cstr(key, names[i]))
			return true;
	return false;
}

/* Over the fields in the order of their names: sending them in another order, or from another session, is the same request. */
static int take_digest(struct making *m)
{
	uint32_t n = m->body->via.map.size;
	const msgpack_object_kv **order = malloc((n + 1) * sizeof *order);
	struct wire_buf b;
	wire_buf_init(&b);
	for (uint32_t i = 0; order && i < n; i++)
		order[i] = &m->body->via.map.ptr[i];
	if (order)
		qsort(order, n, sizeof *order, by_name);
	for (uint32_t i = 0; order && i < n; i++) {
		if (of_sending(&order[i]->key))
			continue;
		wire_object(&b, &order[i]->key);
		wire_object(&b, &order[i]->val);
	}
	bool good = order && !b.failed;
	if (good)
		crypto_hash_sha256(m->d->digest, (const unsigned char *)b.out.data, b.out.size);
	wire_buf_finish(&b);
	free(order);
	return good ? 0 : oom(m->p);
}

/* The prompt as it was given and everything else as it was understood. */
static int take_body(struct making *m)
{
	static const char *const given[] = {"prompt", "messages", "tokens", "continuations"};
	struct draft *d = m->d;
	struct wire_buf b;
	size_t n = 0;
	for (size_t i = 0; i < sizeof given / sizeof *given; i++)
		n += field(m, given[i]) != NULL;
	wire_buf_init(&b);
	write_options(m, 4 + n, &b);
	wire_str(&b, "v");
	wire_uint(&b, WIRE_VERSION);
	wire_str(&b, "id");
	wire_uint(&b, 0);
	wire_str(&b, "op");
	wire_str(&b, d->score ? "score" : "generate");
	wire_str(&b, "topic");
	wire_str(&b, d->topic);
	for (size_t i = 0; i < sizeof given / sizeof *given; i++)
		if (field(m, given[i])) {
			wire_str(&b, given[i]);
			wire_object(&b, field(m, given[i]));
		}
	d->body = wire_buf_take(&b, &d->body_len);
	wire_buf_finish(&b);
	return d->body ? 0 : oom(m->p);
}

/* Hands the values over to the engine job. */
static int settle(struct making *m, size_t size)
{
	struct draft *d = m->d;
	struct wire_buf b;
	if (take_cost(m, size) || (d->durable && (take_digest(m) || take_body(m))))
		return -1;
	wire_buf_init(&b);
	write_options(m, 0, &b);
	d->options = wire_buf_take(&b, &d->options_len);
	wire_buf_finish(&b);
	if (!d->options)
		return oom(m->p);
	d->work->class = d->class;
	d->work->priority = d->priority;
	d->work->decoder = m->options.decoder;
	d->work->samplers = m->options.samplers;
	d->work->n_samplers = m->options.n_samplers;
	m->options = (struct options){0};
	return 0;
}

int draft_prepare(struct draft *d, const struct draft_env *env, bool score, const msgpack_object *body, size_t size,
		  struct problem *p)
{
	struct making m = {.d = d, .env = env, .body = body, .p = p};
	*d = (struct draft){.score = score, .plugins = env->plugins, .work = engine_job_new()};
	if (!d->work)
		return oom(p);
	int rc = take_durable(&m) || take_plain_fields(&m, CLASS_INTERACTIVE) || take_adapters(&m) || take_model(&m) ||
		 field_text(body, "cache_salt", d->cache_salt, sizeof d->cache_salt, p) || take_template(&m) ||
		 take_options(&m) || (!score && take_seed(&m)) || take_prompt(&m) || (score && take_continuations(&m)) ||
		 settle(&m, size);
	options_finish(&m.options);
	if (rc)
		draft_finish(d);
	return rc ? -1 : 0;
}

int draft_prepare_task(struct draft *d, const struct draft_env *env, const msgpack_object *body, struct problem *p)
{
	struct making m = {.d = d, .env = env, .body = body, .p = p};
	*d = (struct draft){0};
	return refuse_durable(&m) ? -1 : take_plain_fields(&m, CLASS_BATCH);
}

void draft_finish(struct draft *d)
{
	if (d->work)
		engine_job_free(d->work);
	task_free(d->task);
	blend_file_free(d->blend_file);
	free(d->options);
	free(d->body);
	*d = (struct draft){0};
}

size_t draft_longest_piece(const struct core_tokenizer *t)
{
	size_t longest = 16; /* white space, of which one unknown token may stand for more than its own text */
	for (uint32_t i = 0; i < core_tokenizer_size(t); i++) {
		size_t len;
		if (core_tokenizer_piece(t, (int32_t)i, &len) && len > longest)
			longest = len;
	}
	return longest;
}
