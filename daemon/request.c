/* request.c: one row per operation: its fields, what is prepared, what is answered. */
#include "config.h"
#include "request.h"
#include "fuse.h"
#include "learn.h"
#include "names.h"
#include "options.h"
#include "request_ops.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ID_MAX = 128 };

/* ---- replies ---- */

static void put_problem(const struct request *r, struct wire_buf *b)
{
	const struct problem *p = &r->problem;
	put_head(r, b, false, 1);
	wire_str(b, "error");
	wire_map(b, 3 + (p->field[0] != 0) + (p->retry_after_ms != 0));
	pair_str(b, "code", wire_code_name(p->code));
	pair_str(b, "message", p->text);
	wire_str(b, "retry");
	wire_bool(b, wire_code_retry(p->code));
	if (p->field[0])
		pair_str(b, "field", p->field);
	if (p->retry_after_ms)
		pair_uint(b, "retry_after_ms", p->retry_after_ms);
}

/* ---- generate, score ---- */

static int prepare_generate(struct request *r)
{
	return draft_prepare(&r->draft, &r->env, false, &r->msg.root, r->size, &r->problem);
}

static int prepare_score(struct request *r)
{
	return draft_prepare(&r->draft, &r->env, true, &r->msg.root, r->size, &r->problem);
}

static void look_draft(struct request *r)
{
	struct draft *d = &r->draft;
	if (adapters_resolve(r->adapters, d->model, d->adapters, &d->n_adapters, &d->blend_file, &r->problem))
		return;
	for (size_t i = 0; i < d->n_adapters; i++)
		adapters_look(r->adapters, d->adapters[i].name, &d->seen[i]);
}

/* Each adapter with its scale, and the digest of the version that is pinned (nil: it is being loaded). */
static void put_uses(const struct adapter_use *u, struct wire_buf *b)
{
	wire_str(b, "adapters");
	wire_map(b, u->n);
	for (size_t i = 0; i < u->n; i++) {
		const struct adapter_version *v = u->part[i].version;
		wire_str(b, u->part[i].entry->name);
		wire_map(b, 2 + (u->part[i].weights != NULL));
		wire_str(b, "scale");
		wire_float(b, (double)u->part[i].scale);
		if (u->part[i].weights) {
			wire_str(b, "weighted");
			wire_bool(b, true);
		}
		wire_str(b, "digest");
		v ? wire_str(b, core_adapter_info(v->adapter)->digest) : wire_nil(b);
	}
}

void put_accepted(struct request *r, struct server *s, struct job *j, struct wire_buf *b)
{
	put_head(r, b, true, 4 + (j->adapters != NULL) + r->draft.durable);
	pair_uint(b, "job", j->id);
	wire_str(b, "options");
	wire_raw(b, r->draft.options, r->draft.options_len);
	pair_uint(b, "prompt_tokens", j->prompt_tokens);
	pair_uint(b, "position", server_position(s, j));
	if (j->adapters)
		put_uses(j->adapters, b);
	if (r->draft.durable)
		pair_bool(b, "durable", true);
}

static int answer_draft(struct request *r, struct server *s, struct wire_buf *b)
{
	struct job *j;
	if (r->draft.durable)
		return answer_durable(r, s, b);
	if (server_accept(s, &r->draft, r->identity, &j, &r->problem))
		return -1;
	put_accepted(r, s, j, b);
	server_schedule(s);
	return 0;
}

/* The draft of a task, accepted. */
static int answer_task(struct request *r, struct server *s, struct wire_buf *b)
{
	struct job *j;
	if (server_accept(s, &r->draft, r->identity, &j, &r->problem))
		return -1;
	put_head(r, b, true, 3);
	pair_uint(b, "job", j->id);
	wire_str(b, "options");
	wire_raw(b, r->draft.options, r->draft.options_len);
	pair_uint(b, "position", server_position(s, j));
	server_schedule(s);
	return 0;
}

/* ---- texts and tokens ---- */

static int prepare_tokenize(struct request *r)
{
	const msgpack_object *text = field(r, "text"), *bos = field(r, "bos");
	struct core_error err = {0};
	const char *s;
	size_t len;
	bool with_bos = false;
	if (!wire_get_str(text, &s, &len))
		return problem_type(&r->problem, "text", "a str", text);
	if (bos && !wire_get_bool(bos, &with_bos))
		return problem_type(&r->problem, "bos", "a bool", bos);
	if (core_tokenizer_encode(r->env.tokenizer, s, len, with_bos ? CORE_ENCODE_BOS : 0, &r->tokens, &r->n_tokens, &err))
		return problem_set(&r->problem, WIRE_INTERNAL, NULL, "tokenizer: %s", err.text);
	return 0;
}

static int answer_tokenize(struct request *r, struct server *s, struct wire_buf *b)
{
	put_head(r, b, true, 1);
	wire_str(b, "tokens");
	wire_array(b, r->n_tokens);
	for (size_t i = 0; i < r->n_tokens; i++)
		wire_int(b, r->tokens[i]);
	return 0;
}

static int prepare_detokenize(struct request *r)
{
	struct core_error err = {0};
	if (draft_token_array(&r->env, "tokens", field(r, "tokens"), &r->tokens, &r->n_tokens, &r->problem))
		return -1;
	if (core_tokenizer_decode(r->env.tokenizer, r->tokens, r->n_tokens, &r->text, &r->text_len, &err))
		return problem_set(&r->problem, WIRE_INTERNAL, NULL, "tokenizer: %s", err.text);
	return 0;
}

static int answer_detokenize(struct request *r, struct server *s, struct wire_buf *b)
{
	put_head(r, b, true, 1);
	wire_str(b, "text");
	wire_strn(b, r->text ? r->text : "", r->text_len);
	return 0;
}

/* ---- the server ---- */

static void put_model(const struct server *s, struct wire_buf *b)
{
	const struct core_model_info *m = core_model_info(s->model);
	wire_map(b, 11);
	pair_str(b, "name", m->name);
	pair_str(b, "arch", m->arch);
	pair_uint(b, "layers", m->layers);
	pair_uint(b, "dim", m->dim);
	pair_uint(b, "context", engine_context(s->engine));
	pair_uint(b, "vocab", m->vocab);
	pair_uint(b, "parameters", m->parameters);
	pair_str(b, "backend", engine_backend(s->engine));
	pair_str(b, "quant", m->quant);
	pair_str(b, "digest", m->digest);
	pair_str(b, "template", s->conf->template);
}

static void put_limits(const struct server *s, struct wire_buf *b)
{
	const struct conf *c = s->conf;
	const struct {
		const char *key;
		int64_t value;
	} rows[] = {{"max_message", c->max_message},  {"max_queue", c->max_queue},
		    {"max_running", c->max_running},  {"max_prompt_tokens", engine_context(s->engine) - 1},
		    {"max_n", DRAFT_MAX_N},           {"disconnect_ms", c->disconnect_grace},
		    {"retention_ms", c->results_time}};
	wire_map(b, sizeof rows / sizeof *rows);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		pair_uint(b, rows[i].key, (uint64_t)rows[i].value);
}

static int answer_hello(struct request *r, struct server *s, struct wire_buf *b)
{
	const msgpack_object *o = field(r, "topic");
	const char *topic;
	size_t len;
	char name[WIRE_TOPIC_LEN + 1] = "";
	if (o && !wire_get_str(o, &topic, &len))
		return problem_type(&r->problem, "topic", "a str of 32 lower-case hex characters", o);
	if (o && !wire_topic_valid(topic, len))
		return problem_set(&r->problem, WIRE_INVALID_ARGUMENT, "topic", "expected 32 lower-case hex characters");
	put_head(r, b, true, 7);
	pair_str(b, "server", "weftd");
	pair_str(b, "version", PACKAGE_VERSION);
	pair_uint(b, "protocol", WIRE_VERSION);
	wire_str(b, "model");
	put_model(s, b);
	wire_str(b, "limits");
	put_limits(s, b);
	pair_str(b, "state", server_state_name(s));
	pair_str(b, "store", stats_store_state(s));
	if (o) {
		memcpy(name, topic, WIRE_TOPIC_LEN);
		server_hello(s, name);
	}
	return 0;
}

static const char *type_name(uint32_t type)
{
	static const char *const names[] = {
		[WEFT_BOOL] = "bool",          [WEFT_INT] = "int",           [WEFT_FLOAT] = "float",
		[WEFT_STRING] = "string",      [WEFT_INT_LIST] = "int_list", [WEFT_STRING_LIST] = "string_list",
		[WEFT_TOKEN_MAP] = "token_map"};
	return type < sizeof names / sizeof *names && names[type] ? names[type] : "unknown";
}

static void put_param(const struct weft_param *d, struct wire_buf *b)
{
	bool list = d->type == WEFT_INT_LIST || d->type == WEFT_STRING_LIST || d->type == WEFT_TOKEN_MAP;
	bool range = d->type == WEFT_INT || d->type == WEFT_FLOAT || d->type == WEFT_INT_LIST || d->type == WEFT_TOKEN_MAP;
	wire_map(b, 4 + 2 * range + list);
	pair_str(b, "name", d->name);
	pair_str(b, "type", type_name(d->type));
	pair_str(b, "doc", d->doc ? d->doc : "");
	wire_str(b, "default");
	options_write_default(d, b);
	if (range) {
		bool whole = d->type == WEFT_INT || d->type == WEFT_INT_LIST;
		wire_str(b, "min");
		whole ? wire_int(b, (int64_t)d->min) : wire_float(b, d->min);
		wire_str(b, "max");
		whole ? wire_int(b, (int64_t)d->max) : wire_float(b, d->max);
	}
	if (list)
		pair_uint(b, "max_items", d->max_items);
}

static void put_plugin(const struct plugin *p, struct wire_buf *b)
{
	const struct weft_plugin *d = p->desc;
	wire_map(b, 6 + (d->sampler != NULL));
	pair_str(b, "name", d->name);
	pair_str(b, "kind", d->decoder ? "decoder" : "sampler");
	pair_str(b, "version", d->version ? d->version : "");
	pair_str(b, "doc", d->doc ? d->doc : "");
	pair_str(b, "digest", p->digest);
	if (d->sampler)
		pair_uint(b, "order", d->sampler->order);
	wire_str(b, "params");
	wire_array(b, d->n_params);
	for (size_t i = 0; i < d->n_params; i++)
		put_param(options_param(p, i), b);
}

static int answer_plugins(struct request *r, struct server *s, struct wire_buf *b)
{
	const struct plugin *chain[256];
	size_t n = options_chain(s->plugins, chain, sizeof chain / sizeof *chain);
	put_head(r, b, true, 2);
	wire_str(b, "plugins");
	wire_array(b, s->plugins->n);
	for (size_t i = 0; i < s->plugins->n; i++)
		put_plugin(s->plugins->list[i], b);
	wire_str(b, "chain");
	wire_array(b, n);
	for (size_t i = 0; i < n; i++)
		wire_str(b, chain[i]->desc->name);
	return 0;
}

static int answer_stats(struct request *r, struct server *s, struct wire_buf *b)
{
	put_head(r, b, true, stats_count());
	stats_write(s, b);
	return 0;
}

static int put_state(struct request *r, struct server *s, struct wire_buf *b)
{
	put_head(r, b, true, 1);
	pair_str(b, "state", server_state_name(s));
	return 0;
}

static int set_pause(struct request *r, struct server *s, bool paused)
{
	if (server_pause(s, paused))
		return problem_set(&r->problem, WIRE_CONFLICT, NULL, "the server is going down: there is no way back");
	return 0;
}

static int answer_pause(struct request *r, struct server *s, struct wire_buf *b)
{
	return set_pause(r, s, true) ? -1 : put_state(r, s, b);
}

static int answer_resume(struct request *r, struct server *s, struct wire_buf *b)
{
	return set_pause(r, s, false) ? -1 : put_state(r, s, b);
}

static int answer_drain(struct request *r, struct server *s, struct wire_buf *b)
{
	server_drain(s);
	return put_state(r, s, b);
}

/* ---- adapters ---- */

static void put_check(const char *state, const struct core_check_result *r, struct wire_buf *b)
{
	bool done = strcmp(state, "passed") == 0 || strcmp(state, "failed") == 0;
	wire_str(b, "check");
	wire_map(b, done ? 7 : 1);
	pair_str(b, "state", state);
	if (!done)
		return;
	wire_str(b, "divergence");
	wire_float(b, r->divergence);
	wire_str(b, "bound");
	wire_float(b, core_check_bound(r));
	wire_str(b, "rounding");
	wire_float(b, r->rounding);
	wire_str(b, "difference");
	wire_float(b, r->difference);
	pair_uint(b, "layers", r->layers);
	pair_uint(b, "of", r->of);
}

static void put_adapter(const struct adapters *a, const struct adapter_entry *e, struct wire_buf *b)
{
	const char *check = adapter_check_state(a, e);
	const struct core_adapter_info *info = e->version ? core_adapter_info(e->version->adapter) : NULL;
	wire_map(b, 3 + (info ? 6 : 0) + (e->reason != NULL) + (check != NULL));
	pair_str(b, "name", e->name);
	pair_str(b, "residency", adapter_residency(e));
	pair_uint(b, "pins", e->version ? e->version->pins : 0);
	if (e->reason)
		pair_str(b, "reason", e->reason);
	if (check)
		put_check(check, &e->found, b);
	if (!info)
		return;
	pair_str(b, "digest", info->digest);
	pair_str(b, "kind", info->kind);
	pair_uint(b, "rank_min", info->rank_min);
	pair_uint(b, "rank_max", info->rank_max);
	pair_uint(b, "modules", info->modules);
	pair_uint(b, "bytes", info->bytes);
}

static void put_losses(const struct blend_file *f, struct wire_buf *b)
{
	wire_str(b, "held_out");
	wire_map(b, 4);
	wire_str(b, "base");
	wire_float(b, f->held_out.base);
	wire_str(b, "uniform");
	wire_float(b, f->held_out.uniform);
	wire_str(b, "learned");
	wire_float(b, f->held_out.learned);
	wire_str(b, "adapters");
	wire_map(b, f->n);
	for (uint32_t i = 0; i < f->n; i++) {
		wire_str(b, f->part[i].name);
		wire_float(b, f->held_out.adapter[i]);
	}
}

/* Blends that stand in files. */
static void put_learned(const struct blend_listing *l, struct wire_buf *b)
{
	wire_str(b, "learned");
	wire_array(b, l->n);
	for (size_t i = 0; i < l->n; i++) {
		const struct blend_file *f = l->list[i].file;
		wire_map(b, f ? 4 + f->has_losses : 2);
		pair_str(b, "name", l->list[i].name);
		if (!f) {
			pair_str(b, "reason", l->list[i].why);
			continue;
		}
		pair_str(b, "by", f->by);
		pair_str(b, "method", f->method);
		wire_str(b, "adapters");
		wire_map(b, f->n);
		for (uint32_t k = 0; k < f->n; k++) {
			wire_str(b, f->part[k].name);
			wire_map(b, 2);
			wire_str(b, "weight");
			wire_float(b, (double)f->part[k].weight);
			pair_str(b, "digest", f->part[k].digest);
		}
		if (f->has_losses)
			put_losses(f, b);
	}
}

static void look_adapters(struct request *r)
{
	adapters_list(r->adapters, &r->listing);
	blend_files_list(r->adapters, &r->blends);
}

static int answer_adapters(struct request *r, struct server *s, struct wire_buf *b)
{
	struct adapters *a = &s->adapters;
	size_t n = 0;
	adapters_take_listing(a, &r->listing);
	for (size_t i = 0; i < a->n; i++)
		n += !a->entries[i]->gone;
	put_head(r, b, true, 6);
	wire_str(b, "adapters");
	wire_array(b, n);
	for (size_t i = 0; i < a->n; i++)
		if (!a->entries[i]->gone)
			put_adapter(a, a->entries[i], b);
	wire_str(b, "blends");
	wire_map(b, a->n_blends);
	for (size_t i = 0; i < a->n_blends; i++) {
		wire_str(b, a->blends[i].name);
		wire_map(b, a->blends[i].n);
		for (size_t k = 0; k < a->blends[i].n; k++) {
			wire_str(b, a->blends[i].part[k].name);
			wire_float(b, (double)a->blends[i].part[k].scale);
		}
	}
	put_learned(&r->blends, b);
	pair_uint(b, "resident_bytes", a->resident);
	pair_uint(b, "memory", a->limit);
	pair_uint(b, "evictions", a->evictions);
	return 0;
}

static bool take_name(struct request *r, char name[static ADAPTER_NAME_MAX + 1])
{
	const char *text;
	size_t len;
	name[0] = 0;
	if (!wire_get_str(field(r, "name"), &text, &len))
		return false;
	if (adapter_name_valid(text, len)) {
		memcpy(name, text, len);
		name[len] = 0;
	}
	return true;
}

static int prepare_name(struct request *r)
{
	char name[ADAPTER_NAME_MAX + 1];
	return take_name(r, name) ? 0 : problem_type(&r->problem, "name", "the name of an adapter", field(r, "name"));
}

static void look_name(struct request *r)
{
	char name[ADAPTER_NAME_MAX + 1];
	take_name(r, name);
	adapters_look(r->adapters, name, &r->seen);
}

static struct adapter_entry *find_adapter(struct request *r, struct server *s)
{
	char name[ADAPTER_NAME_MAX + 1];
	take_name(r, name);
	return adapters_find(&s->adapters, name, &r->seen, &r->problem);
}

static int put_adapter_reply(struct request *r, const struct adapters *a, const struct adapter_entry *e, struct wire_buf *b)
{
	put_head(r, b, true, 1);
	wire_str(b, "adapter");
	put_adapter(a, e, b);
	return 0;
}

static int answer_adapter_load(struct request *r, struct server *s, struct wire_buf *b)
{
	struct adapter_entry *e = find_adapter(r, s);
	if (!e)
		return -1;
	adapters_request_load(&s->adapters, e, &r->seen);
	return put_adapter_reply(r, &s->adapters, e, b);
}

static int answer_adapter_unload(struct request *r, struct server *s, struct wire_buf *b)
{
	struct adapter_entry *e = find_adapter(r, s);
	return !e || adapters_unload(&s->adapters, e, &r->problem) ? -1 : put_adapter_reply(r, &s->adapters, e, b);
}

static int prepare_fuse(struct request *r)
{
	return fuse_prepare(&r->draft, &r->env, &r->msg.root, &r->problem);
}

static void look_fuse(struct request *r)
{
	fuse_look(&r->draft, &r->env, r->adapters, &r->problem);
}

static int prepare_learn(struct request *r)
{
	return learn_prepare(&r->draft, &r->env, &r->msg.root, &r->problem);
}

static void look_learn(struct request *r)
{
	learn_look(&r->draft, r->adapters, &r->problem);
}

/* ---- the table ---- */

static const struct op ops[] = {
	{"hello", " topic ", NULL, NULL, answer_hello},
	{"generate", NULL, prepare_generate, look_draft, answer_draft},
	{"score", NULL, prepare_score, look_draft, answer_draft},
	{"job", " job ", NULL, NULL, answer_job},
	{"jobs", " state class limit after ", NULL, NULL, answer_jobs},
	{"cancel", " job ", NULL, NULL, answer_cancel},
	{"results", " job from ", NULL, NULL, answer_results},
	{"close", " job ", NULL, NULL, answer_close},
	{"bury", " job ", NULL, NULL, answer_bury},
	{"kick", " job ", NULL, NULL, answer_kick},
	{"delay", " job delay_ms ", NULL, NULL, answer_delay},
	{"touch", " job ", NULL, NULL, answer_touch},
	{"batch.open", " name meta ", prepare_batch_open, NULL, answer_batch_open},
	{"batch.add", " batch first rows topic ", prepare_batch_add, NULL, answer_batch_add},
	{"batch.seal", " batch ", NULL, NULL, answer_batch_seal},
	{"batch.status", " batch name ", NULL, NULL, answer_batch_status},
	{"batch.list", " ", NULL, NULL, answer_batch_list},
	{"batch.results", " batch cursor ordered limit ", NULL, NULL, answer_batch_results},
	{"batch.cancel", " batch ", NULL, NULL, answer_batch_cancel},
	{"batch.retry", " batch ", NULL, NULL, answer_batch_retry},
	{"batch.close", " batch ", NULL, NULL, answer_batch_close},
	{"tokenize", " text bos ", prepare_tokenize, NULL, answer_tokenize},
	{"detokenize", " tokens ", prepare_detokenize, NULL, answer_detokenize},
	{"plugins", " ", NULL, NULL, answer_plugins},
	{"stats", " ", NULL, NULL, answer_stats},
	{"pause", " ", NULL, NULL, answer_pause},
	{"resume", " ", NULL, NULL, answer_resume},
	{"drain", " ", NULL, NULL, answer_drain},
	{"adapters", " ", NULL, look_adapters, answer_adapters},
	{"adapter.load", " name ", prepare_name, look_name, answer_adapter_load},
	{"adapter.unload", " name ", prepare_name, look_name, answer_adapter_unload},
	{"adapter.learn", LEARN_FIELDS, prepare_learn, look_learn, answer_task},
	{"adapter.fuse", FUSE_FIELDS, prepare_fuse, look_fuse, answer_task},
};

static int find_op(struct request *r)
{
	const msgpack_object *o = field(r, "op");
	char word[65], hint[96];
	struct names n;
	const char *name;
	size_t len;
	if (!wire_get_str(o, &name, &len)) {
		problem_type(&r->problem, "op", "the name of an operation", o);
		r->problem.code = WIRE_INVALID_REQUEST;
		return -1;
	}
	names_start(&n, name, len);
	for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
		if (strlen(ops[i].name) == len && memcmp(ops[i].name, name, len) == 0) {
			r->op = &ops[i];
			return 0;
		}
		names_offer(&n, ops[i].name);
	}
	return problem_set(&r->problem, WIRE_UNKNOWN_OP, "op", "no operation \"%s\"%s", problem_name(word, name, len),
			   names_hint(&n, hint, sizeof hint));
}

static bool in_list(const char *list, const char *name, size_t len)
{
	if (memchr(name, ' ', len))
		return false;
	for (const char *p = list; (p = strchr(p, ' ')) && p[1]; p++)
		if (strncmp(p + 1, name, len) == 0 && p[1 + len] == ' ' && len)
			return true;
	return false;
}

static int check_fields(struct request *r)
{
	char word[65];
	for (uint32_t i = 0; r->op->fields && i < r->msg.root.via.map.size; i++) {
		const msgpack_object *key = &r->msg.root.via.map.ptr[i].key;
		const char *name = key->via.str.ptr;
		size_t len = key->via.str.size;
		if (!in_list(" v id op ", name, len) && !in_list(r->op->fields, name, len)) {
			problem_name(word, name, len);
			return problem_set(&r->problem, WIRE_INVALID_ARGUMENT, word, "unknown: %s has %s%s", r->op->name,
					   r->op->fields[1] ? "these fields:" : "no fields", r->op->fields);
		}
	}
	return 0;
}

static int check_envelope(struct request *r)
{
	const msgpack_object *v = field(r, "v"), *id = field(r, "id");
	uint64_t n;
	const char *s;
	size_t len;
	if (wire_get_uint(id, &n) || (wire_get_str(id, &s, &len) && len >= 1 && len <= ID_MAX))
		r->id = id;
	else
		return problem_set(&r->problem, WIRE_INVALID_REQUEST, "id",
				   "expected an unsigned integer, or a str of 1 to %d bytes", ID_MAX);
	if (!wire_get_uint(v, &n) || n != WIRE_VERSION)
		return problem_set(&r->problem, WIRE_INVALID_REQUEST, "v", "this server speaks version %d of the protocol",
				   WIRE_VERSION);
	return 0;
}

/* ---- the way of a request ---- */

void request_init(struct request *r, struct server *s, const char *identity, const void *data, size_t size)
{
	*r = (struct request){.env = s->env, .adapters = &s->adapters, .data = data, .size = size};
	plugin_set_ref(r->env.plugins);
	snprintf(r->identity, sizeof r->identity, "%s", identity);
	s->requests++;
}

void request_prepare(struct request *r)
{
	const char *why;
	if (wire_decode(&r->msg, r->data, r->size, &why)) {
		problem_set(&r->problem, WIRE_INVALID_REQUEST, NULL, "%s", why);
		return;
	}
	r->decoded = true;
	if (check_envelope(r) || find_op(r) || check_fields(r))
		return;
	if (r->op->prepare)
		r->op->prepare(r);
}

bool request_looks(const struct request *r)
{
	bool draft = r->draft.work != NULL;
	return r->problem.code == WIRE_OK && r->op && r->op->look && (!draft || r->draft.n_adapters || r->draft.model[0]);
}

void request_look(struct request *r)
{
	if (request_looks(r))
		r->op->look(r);
}

bool request_answer(struct request *r, struct server *s, struct wire_buf *reply)
{
	request_step *step = r->step ? r->step : r->op ? r->op->answer : NULL;
	if (r->problem.code == WIRE_OK)
		step(r, s, reply);
	if (r->problem.code == WIRE_OK && r->waiting)
		return false;
	if (r->problem.code != WIRE_OK)
		put_problem(r, reply);
	return true;
}

void request_finish(struct request *r)
{
	draft_finish(&r->draft);
	adapter_listing_finish(&r->listing);
	store_op_free(r->result);
	batch_rows_free(r);
	blend_listing_finish(&r->blends);
	free(r->tokens);
	free(r->text);
	if (r->decoded)
		wire_finish(&r->msg);
	plugin_set_unref(r->env.plugins);
	*r = (struct request){0};
}
