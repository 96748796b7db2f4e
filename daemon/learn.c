/* learn.c: from the fields of adapter.learn to core_learn(), and from its end to the blend's file. */
#include "config.h"
#include "learn.h"
#include "blend_file.h"
#include "fields.h"
#include "pairs.h"
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { WORD = 16, GRADIENT_STEPS = 100, SEARCH_STEPS = 20, GRADIENT_BATCH = 16, SEARCH_BATCH = 64 };
#define RATE 0.05
#define SEARCH_L1 0.05
#define SEARCH_BOUND 1.5

struct data { /* examples, and their tokens */
	struct core_example *list;
	uint32_t n;
};

struct learning { /* what one task has */
	struct core_learn_params params;
	char names[CORE_BLEND_MAX][ADAPTER_NAME_MAX + 1];
	char name[ADAPTER_NAME_MAX + 1];
	struct data data, held_out;
	bool replace;
	const struct adapters *adapters; /* of them only the folders and names */
	char *target;                    /* since learn_look() */
	struct core_adapter *adapter[CORE_BLEND_MAX];
	struct task *task; /* while it runs */
};

static void data_finish(struct data *d)
{
	for (uint32_t i = 0; i < d->n; i++)
		free((void *)d->list[i].tokens);
	free(d->list);
}

static void learning_free(void *arg)
{
	struct learning *l = arg;
	for (size_t i = 0; i < CORE_BLEND_MAX; i++)
		core_adapter_unref(l->adapter[i]);
	data_finish(&l->data);
	data_finish(&l->held_out);
	free(l->target);
	free(l);
}

static const struct task_kind kind;

static int oom(struct problem *p)
{
	return problem_set(p, WIRE_INTERNAL, NULL, "out of memory");
}

/* ---- names ---- */

static int take_name(struct learning *l, const msgpack_object *body, struct problem *p)
{
	const msgpack_object *o = wire_get(body, "name");
	const char *s;
	size_t len;
	if (!wire_get_str(o, &s, &len))
		return problem_type(p, "name", "the name of the blend that is made", o);
	if (!adapter_name_valid(s, len))
		return problem_set(p, WIRE_INVALID_ARGUMENT, "name",
				   "expected 1 to %d characters of A-Z a-z 0-9 . _ -, the first no dot", ADAPTER_NAME_MAX);
	memcpy(l->name, s, len);
	if (strcmp(l->name, core_model_info(l->params.model)->name) == 0)
		return problem_set(p, WIRE_CONFLICT, "name", "this is the name of the base");
	return 0;
}

static int take_adapters(struct learning *l, const msgpack_object *body, struct problem *p)
{
	const msgpack_object *o = wire_get(body, "adapters");
	char field[32];
	if (!o || o->type != MSGPACK_OBJECT_ARRAY)
		return problem_type(p, "adapters", "an array of the names of adapters", o);
	if (o->via.array.size < 1 || o->via.array.size > CORE_BLEND_MAX)
		return problem_set(p, WIRE_INVALID_ARGUMENT, "adapters", "expected 1 to %d adapters", CORE_BLEND_MAX);
	for (uint32_t i = 0; i < o->via.array.size; i++) {
		const char *s;
		size_t len;
		snprintf(field, sizeof field, "adapters.%u", i);
		if (!wire_get_str(&o->via.array.ptr[i], &s, &len))
			return problem_type(p, field, "the name of an adapter", &o->via.array.ptr[i]);
		if (!adapter_name_valid(s, len))
			return problem_set(p, WIRE_NOT_FOUND, field, "no adapter can have this name");
		memcpy(l->names[i], s, len);
		for (uint32_t k = 0; k < i; k++)
			if (strcmp(l->names[k], l->names[i]) == 0)
				return problem_set(p, WIRE_INVALID_ARGUMENT, field, "it is named twice");
		l->params.n_adapters = i + 1;
	}
	return 0;
}

/* ---- data ---- */

static int refuse_other_keys(const msgpack_object *line, const char *where, struct problem *p)
{
	char word[65], field[96];
	for (uint32_t k = 0; k < line->via.map.size; k++) {
		const msgpack_object *key = &line->via.map.ptr[k].key;
		if (wire_is_cstr(key, "prompt") || wire_is_cstr(key, "messages") || wire_is_cstr(key, "tokens") ||
		    wire_is_cstr(key, "answer"))
			continue;
		snprintf(field, sizeof field, "%s.%s", where, problem_name(word, key->via.str.ptr, key->via.str.size));
		return problem_set(p, WIRE_INVALID_ARGUMENT, field, "unknown: a line has prompt, messages or tokens, and answer");
	}
	return 0;
}

/* The answer goes on where the prompt ends, and ends as the model's answers do. */
static int add_answer(const struct draft_env *env, const msgpack_object *answer, int32_t **tokens, size_t *n, struct problem *p)
{
	int32_t *more = NULL, eos = core_tokenizer_eos(env->tokenizer), *grown;
	struct core_error err = {0};
	const char *s;
	size_t len, n_more;
	if (!wire_get_str(answer, &s, &len))
		return problem_type(p, "answer", "a str", answer);
	if (len / env->longest_piece > env->context)
		return problem_set(p, WIRE_TOO_LARGE, "answer", "%zu bytes cannot fit into a context of %u tokens", len, env->context);
	if (core_tokenizer_encode(env->tokenizer, s, len, CORE_ENCODE_NO_PREFIX, &more, &n_more, &err))
		return problem_set(p, WIRE_INTERNAL, NULL, "tokenizer: %s", err.text);
	grown = realloc(*tokens, (*n + n_more + 1) * sizeof *grown);
	if (!grown) {
		free(more);
		return oom(p);
	}
	*tokens = grown;
	if (n_more)
		memcpy(grown + *n, more, n_more * sizeof *more);
	free(more);
	*n += n_more;
	if (eos >= 0)
		grown[(*n)++] = eos;
	if (*n > env->context)
		return problem_set(p, WIRE_TOO_LARGE, "answer", "prompt and answer are %zu tokens, the context has %u", *n, env->context);
	return 0;
}

static int take_line(struct data *d, const struct draft_env *env, const msgpack_object *line, const char *where, struct problem *p)
{
	const msgpack_object *answer;
	int32_t *tokens = NULL;
	size_t n = 0, from;
	char field[sizeof p->field];
	if (line->type != MSGPACK_OBJECT_MAP)
		return problem_type(p, where, "a map with prompt, messages or tokens, and answer", line);
	if (refuse_other_keys(line, where, p))
		return -1;
	answer = wire_get(line, "answer");
	int rc = draft_prompt_tokens(env, line, &tokens, &n, p);
	from = n;
	if (!rc)
		rc = add_answer(env, answer, &tokens, &n, p);
	if (!rc && n == from)
		rc = problem_set(p, WIRE_INVALID_ARGUMENT, "answer", "expected at least one token");
	if (rc) {
		free(tokens);
		snprintf(field, sizeof field, "%.32s%s%.60s", where, p->field[0] ? "." : "", p->field);
		memcpy(p->field, field, sizeof field);
		return -1;
	}
	d->list[d->n++] = (struct core_example){tokens, (uint32_t)n, (uint32_t)from};
	return 0;
}

static int take_data(struct data *d, const struct draft_env *env, const msgpack_object *body, const char *name, bool needed,
		     struct problem *p)
{
	const msgpack_object *o = wire_get(body, name);
	char where[40];
	if (!o && !needed)
		return 0;
	if (!o || o->type != MSGPACK_OBJECT_ARRAY)
		return problem_type(p, name, "an array of maps with prompt, messages or tokens, and answer", o);
	if (o->via.array.size < 1 || o->via.array.size > CORE_LEARN_EXAMPLES_MAX)
		return problem_set(p, WIRE_INVALID_ARGUMENT, name, "expected 1 to %d lines", CORE_LEARN_EXAMPLES_MAX);
	d->list = calloc(o->via.array.size, sizeof *d->list);
	if (!d->list)
		return oom(p);
	for (uint32_t i = 0; i < o->via.array.size; i++) {
		snprintf(where, sizeof where, "%s.%u", name, i);
		if (take_line(d, env, &o->via.array.ptr[i], where, p))
			return -1;
	}
	return 0;
}

static int take_all_data(struct learning *l, const struct draft_env *env, const msgpack_object *body, struct problem *p)
{
	struct draft_env with = *env;
	const msgpack_object *o = wire_get(body, "template");
	const char *s;
	size_t len;
	if (o && !wire_get_str(o, &s, &len))
		return problem_type(p, "template", "the name of a template", o);
	if (o && !(with.template = template_find(s, len)))
		return problem_set(p, WIRE_INVALID_ARGUMENT, "template", "expected one of %s", TEMPLATE_NAMES);
	if (take_data(&l->data, &with, body, "data", true, p) || take_data(&l->held_out, &with, body, "held_out", false, p))
		return -1;
	if (l->data.n < 2 && !l->held_out.n)
		return problem_set(p, WIRE_INVALID_ARGUMENT, "data", "expected at least 2 lines, or held_out beside 1");
	l->params.examples = l->data.list;
	l->params.n_examples = l->data.n;
	l->params.held_out = l->held_out.list;
	l->params.n_held_out = l->held_out.n;
	return 0;
}

/* ---- options ---- */

static int take_words(struct learning *l, const msgpack_object *body, struct problem *p)
{
	char method[WORD] = "gradient", by[WORD] = "global", form[WORD] = "raw";
	struct core_error err;
	if (field_text(body, "method", method, WORD, p) || field_text(body, "by", by, WORD, p) ||
	    field_text(body, "form", form, WORD, p))
		return -1;
	if (core_learn_method_parse(method, &l->params.method, &err))
		return problem_set(p, WIRE_INVALID_ARGUMENT, "method", "%s", err.text);
	if (core_learn_by_parse(by, &l->params.by, &err))
		return problem_set(p, WIRE_INVALID_ARGUMENT, "by", "%s", err.text);
	if (core_learn_form_parse(form, &l->params.form, &err))
		return problem_set(p, WIRE_INVALID_ARGUMENT, "form", "%s", err.text);
	return 0;
}

/* An option that would be ignored is refused. */
static int refuse_unread(const struct learning *l, const msgpack_object *body, struct problem *p)
{
	static const struct {
		const char *name;
		enum core_learn_method method;
	} rows[] = {{"form", CORE_LEARN_GRADIENT}, {"rate", CORE_LEARN_GRADIENT}, {"population", CORE_LEARN_SEARCH}, {"bound", CORE_LEARN_SEARCH}};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (wire_get(body, rows[i].name) && rows[i].method != l->params.method)
			return problem_set(p, WIRE_INVALID_ARGUMENT, rows[i].name, "goes with the method %s only",
					   core_learn_method_name(rows[i].method));
	if (l->params.form == CORE_LEARN_SOFTMAX && l->params.n_adapters == 1)
		return problem_set(p, WIRE_INVALID_ARGUMENT, "form", "softmax over one adapter leaves nothing to learn");
	return 0;
}

static int take_positive(const msgpack_object *body, const char *name, double *out, bool zero, struct problem *p)
{
	if (field_float(body, name, out, p))
		return -1;
	if (!(*out >= 0 && *out <= 1e6) || (*out == 0 && !zero))
		return problem_set(p, WIRE_INVALID_ARGUMENT, name, "expected a number %s, at most 1e6", zero ? "from 0 on" : "above 0");
	return 0;
}

static int take_numbers(struct learning *l, const msgpack_object *body, struct problem *p)
{
	struct core_learn_params *q = &l->params;
	bool search = q->method == CORE_LEARN_SEARCH;
	uint64_t steps = search ? SEARCH_STEPS : GRADIENT_STEPS, batch = search ? SEARCH_BATCH : GRADIENT_BATCH, population = 0;
	q->rate = RATE;
	q->bound = SEARCH_BOUND;
	q->l1 = search ? SEARCH_L1 : 0;
	randombytes_buf(&q->seed, sizeof q->seed);
	q->seed &= WIRE_MAX_INT;
	if (field_uint(body, "steps", 1, CORE_LEARN_STEPS_MAX, &steps, p) ||
	    field_uint(body, "batch", 1, CORE_LEARN_EXAMPLES_MAX, &batch, p) ||
	    field_uint(body, "population", 4, CORE_LEARN_POPULATION_MAX, &population, p) ||
	    field_uint(body, "seed", 0, WIRE_MAX_INT, &q->seed, p) || take_positive(body, "rate", &q->rate, false, p) ||
	    take_positive(body, "penalty", &q->l1, true, p) || take_positive(body, "bound", &q->bound, false, p) ||
	    field_bool(body, "replace", &l->replace, p))
		return -1;
	q->steps = (uint32_t)steps;
	q->batch = (uint32_t)batch;
	q->population = (uint32_t)population;
	return 0;
}

/* The effective set: a request with these options and the same data makes the same file. */
static int write_options(struct draft *d, const struct learning *l, struct problem *p)
{
	const struct core_learn_params *q = &l->params;
	bool search = q->method == CORE_LEARN_SEARCH;
	struct wire_buf b;
	wire_buf_init(&b);
	draft_begin_options(d, 9 + (search ? 1 + (q->population > 0) : 2), &b);
	pair_str(&b, "name", l->name);
	wire_str(&b, "adapters");
	wire_array(&b, q->n_adapters);
	for (uint32_t i = 0; i < q->n_adapters; i++)
		wire_str(&b, l->names[i]);
	pair_str(&b, "by", core_learn_by_name(q->by));
	pair_str(&b, "method", core_learn_method_name(q->method));
	pair_uint(&b, "steps", q->steps);
	pair_uint(&b, "batch", q->batch);
	pair_float(&b, "penalty", q->l1);
	pair_uint(&b, "seed", q->seed);
	if (search)
		pair_float(&b, "bound", q->bound);
	if (search && q->population)
		pair_uint(&b, "population", q->population);
	if (!search)
		pair_str(&b, "form", core_learn_form_name(q->form));
	if (!search)
		pair_float(&b, "rate", q->rate);
	wire_str(&b, "replace");
	wire_bool(&b, l->replace);
	d->options = wire_buf_take(&b, &d->options_len);
	wire_buf_finish(&b);
	return d->options ? 0 : oom(p);
}

int learn_prepare(struct draft *d, const struct draft_env *env, const msgpack_object *body, struct problem *p)
{
	if (draft_prepare_task(d, env, body, p))
		return -1;
	struct learning *l = calloc(1, sizeof *l);
	if (!l || !(d->task = task_new(&kind, l)))
		return oom(p);
	l->params.model = env->model;
	return take_name(l, body, p) || take_adapters(l, body, p) || take_words(l, body, p) || refuse_unread(l, body, p) ||
			       take_numbers(l, body, p) || take_all_data(l, env, body, p) || write_options(d, l, p)
		       ? -1
		       : 0;
}

/* ---- places ---- */

int learn_look(struct draft *d, const struct adapters *a, struct problem *p)
{
	struct learning *l = task_arg(d->task);
	struct adapter_sight seen;
	char field[96];
	struct stat st;
	l->adapters = a;
	if (a->n_folders == 0)
		return problem_set(p, WIRE_UNSUPPORTED, "adapters",
				   "this server has no adapters: its configuration names no folder");
	for (uint32_t i = 0; i < l->params.n_adapters; i++) {
		snprintf(field, sizeof field, "adapters.%u", i);
		adapters_look(a, l->names[i], &seen);
		if (!seen.there)
			return problem_set(p, WIRE_NOT_FOUND, field, "no adapter of that name is registered");
	}
	for (size_t i = 0; i < a->n_blends; i++)
		if (strcmp(a->blends[i].name, l->name) == 0)
			return problem_set(p, WIRE_CONFLICT, "name", "the configuration has a blend of that name");
	if (asprintf(&l->target, "%s/%s" BLEND_FILE_SUFFIX, a->folders[0], l->name) < 0) {
		l->target = NULL;
		return oom(p);
	}
	if (!l->replace && lstat(l->target, &st) == 0)
		return problem_set(p, WIRE_CONFLICT, "name", "there is a blend of that name already: say replace, or take another");
	return 0;
}

/* ---- the work: on the task's thread ---- */

static int failed(struct task *t, const char *what, const struct core_error *err)
{
	enum wire_code code = err->code == CORE_EUNSUPPORTED || err->code == CORE_EFORMAT || err->code == CORE_EIO ? WIRE_UNSUPPORTED
			      : err->code == CORE_EINVAL ? WIRE_INVALID_ARGUMENT
							 : WIRE_INTERNAL;
	return task_fail(t, code, "%s%s%.300s", what, what[0] ? ": " : "", err->text);
}

/* Read as the registry would read them, at one state of their files. */
static int load_adapters(struct task *t, struct learning *l)
{
	for (uint32_t i = 0; i < l->params.n_adapters; i++) {
		struct adapter_load load = {.model = l->params.model, .limit = l->adapters->limit};
		struct adapter_sight seen;
		adapters_look(l->adapters, l->names[i], &seen);
		if (!seen.there)
			return task_fail(t, WIRE_NOT_FOUND, "the files of %s are gone", l->names[i]);
		if (task_cancelled(t))
			return task_fail(t, WIRE_INTERNAL, "cancelled");
		if (asprintf(&load.path, "%s/%s", l->adapters->folders[seen.folder], l->names[i]) < 0)
			return task_fail(t, WIRE_INTERNAL, "out of memory");
		adapter_load_run(&load);
		free(load.path);
		l->adapter[i] = load.adapter;
		if (!load.adapter)
			return failed(t, l->names[i], &load.err);
	}
	l->params.adapters = l->adapter;
	return 0;
}

static void on_progress(void *arg, uint32_t step, double loss)
{
	struct learning *l = arg;
	struct wire_buf b;
	wire_buf_init(&b);
	wire_map(&b, 1);
	pair_float(&b, "loss", loss);
	task_progress(l->task, step, l->params.steps, &b);
	wire_buf_finish(&b);
}

static bool stop(void *arg)
{
	return task_cancelled(((struct learning *)arg)->task);
}

static void fill_part(struct blend_file_part *part, const struct learning *l, uint32_t i, const struct core_learn_result *r)
{
	size_t n = (size_t)core_model_info(l->params.model)->layers * CORE_LINEARS;
	double sum = 0;
	memcpy(part->name, l->names[i], sizeof part->name);
	memcpy(part->digest, core_adapter_info(l->adapter[i])->digest, sizeof part->digest);
	if (l->params.by == CORE_LEARN_GLOBAL) {
		part->weight = r->weights[i];
		return;
	}
	part->weights = r->weights + i * n;
	for (size_t k = 0; k < n; k++)
		sum += part->weights[k];
	part->weight = (float)(sum / (double)n);
}

static int write_blend(struct task *t, const struct learning *l, const struct core_learn_result *r, struct blend_file *f)
{
	const struct core_model_info *m = core_model_info(l->params.model);
	const struct blend_learned how = {&l->params, r};
	char why[BLEND_FILE_WHY];
	f->layers = m->layers;
	f->n = l->params.n_adapters;
	f->held_out = r->held_out;
	snprintf(f->base, sizeof f->base, "%s", m->name);
	for (uint32_t i = 0; i < f->n; i++)
		fill_part(&f->part[i], l, i, r);
	int rc = blend_file_write(f, &how, l->target, l->replace, why);
	return rc ? task_fail(t, rc == -2 ? WIRE_CONFLICT : WIRE_INTERNAL, "%s" BLEND_FILE_SUFFIX ": %s", l->name, why) : 0;
}

static int digest_of(struct task *t, const struct learning *l, const struct core_learn_result *r, char digest[static 65])
{
	struct core_blend_part parts[CORE_BLEND_MAX];
	struct core_blend *blend;
	struct core_error err;
	core_learn_parts(parts, l->adapter, l->params.n_adapters, l->params.by, r->weights, core_model_info(l->params.model)->layers);
	if (core_blend_new(&blend, parts, l->params.n_adapters, &err))
		return failed(t, "", &err);
	snprintf(digest, 65, "%s", core_blend_digest(blend));
	core_blend_unref(blend);
	return 0;
}

static void write_result(struct wire_buf *b, const struct learning *l, const struct core_learn_result *r, const struct blend_file *f,
			 const char *digest)
{
	wire_map(b, 8);
	pair_str(b, "name", l->name);
	pair_str(b, "digest", digest);
	pair_str(b, "by", core_learn_by_name(l->params.by));
	pair_str(b, "method", core_learn_method_name(l->params.method));
	wire_str(b, "weights");
	wire_map(b, f->n);
	for (uint32_t i = 0; i < f->n; i++)
		pair_float(b, f->part[i].name, (double)f->part[i].weight);
	pair_uint(b, "examples", r->n_learned);
	pair_uint(b, "held_out_examples", r->n_held_out);
	wire_str(b, "held_out");
	wire_map(b, 4);
	pair_float(b, "base", r->held_out.base);
	pair_float(b, "uniform", r->held_out.uniform);
	pair_float(b, "learned", r->held_out.learned);
	wire_str(b, "adapters");
	wire_map(b, f->n);
	for (uint32_t i = 0; i < f->n; i++)
		pair_float(b, f->part[i].name, r->held_out.adapter[i]);
}

static int run(struct task *t, void *arg)
{
	struct learning *l = arg;
	struct core_learn_result result;
	struct blend_file file = {0};
	struct core_error err;
	char digest[65];
	l->task = t;
	l->params.progress = on_progress;
	l->params.stop = stop;
	l->params.arg = l;
	if (load_adapters(t, l))
		return -1;
	if (core_learn(&result, &l->params, &err))
		return failed(t, "", &err);
	int rc = digest_of(t, l, &result, digest) || write_blend(t, l, &result, &file) ? -1 : 0;
	if (!rc)
		write_result(task_result(t), l, &result, &file, digest);
	core_learn_result_finish(&result); /* file's weights were its */
	return rc;
}

static const struct task_kind kind = {.op = "adapter.learn", .run = run, .free = learning_free};
