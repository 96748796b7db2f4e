/* fuse.c: from the fields of adapter.fuse to a core_fuse, and from its end to the result. */
#include "config.h"
#include "fuse.h"
#include "fields.h"
#include "log.h"
#include "pairs.h"
#include <inttypes.h>
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OPEN_TRIES = 10, PROGRESS_TOTAL = 1000, WORD = 32 };
#define SHARD_MIN 1048576
#define SHARD_MAX ((uint64_t)1 << 50)

static const char *const forms[] = {[CORE_FUSE_PEFT] = "peft", [CORE_FUSE_GGUF] = "gguf", [CORE_FUSE_BASE] = "base"};

struct fusing {                         /* what one task has */
	struct core_fuse_params params; /* points into the rest */
	struct core_fuse_part parts[CORE_BLEND_MAX];
	char names[CORE_BLEND_MAX][ADAPTER_NAME_MAX + 1];
	char *paths[CORE_BLEND_MAX], *target; /* since fuse_look() */
	char name[ADAPTER_NAME_MAX + 1], type[WORD], mathematics[WORD], sign_method[WORD], dtype[WORD];
	const struct adapters *adapters; /* of them only the folders */
	const struct core_model *model;  /* that adapters are for */
};

static void fusing_free(void *arg)
{
	struct fusing *f = arg;
	for (uint32_t i = 0; i < f->params.n_parts; i++)
		free(f->paths[i]);
	free(f->target);
	free(f);
}

static const struct task_kind kind;

/* ---- fields ---- */

static int take_name(struct fusing *f, const msgpack_object *body, struct problem *p)
{
	const msgpack_object *o = wire_get(body, "name");
	const char *s;
	size_t len;
	if (!wire_get_str(o, &s, &len))
		return problem_type(p, "name", "the name of what is made", o);
	if (!adapter_name_valid(s, len))
		return problem_set(p, WIRE_INVALID_ARGUMENT, "name",
				   "expected 1 to %d characters of A-Z a-z 0-9 . _ -, the first no dot", ADAPTER_NAME_MAX);
	memcpy(f->name, s, len);
	bool gguf = len > 5 && strcmp(f->name + len - 5, ".gguf") == 0;
	if (gguf != (f->params.form == CORE_FUSE_GGUF))
		return problem_set(p, WIRE_INVALID_ARGUMENT, "name",
				   gguf ? "a name ending in .gguf is for the form gguf"
					: "the form gguf needs a name ending in .gguf");
	return 0;
}

/* In the order of the map: random choices depend on it. */
static int take_weights(struct fusing *f, const msgpack_object *body, struct problem *p)
{
	const msgpack_object *o = wire_get(body, "adapters");
	char word[65], field[96];
	if (!o || o->type != MSGPACK_OBJECT_MAP)
		return problem_type(p, "adapters", "a map from the name of an adapter to its weight", o);
	if (o->via.map.size < 1 || o->via.map.size > CORE_BLEND_MAX)
		return problem_set(p, WIRE_INVALID_ARGUMENT, "adapters", "expected 1 to %d adapters", CORE_BLEND_MAX);
	for (uint32_t i = 0; i < o->via.map.size; i++) {
		const msgpack_object_kv *kv = &o->via.map.ptr[i];
		const char *text = kv->key.via.str.ptr;
		size_t len = kv->key.via.str.size;
		snprintf(field, sizeof field, "adapters.%s", problem_name(word, text, len));
		if (!adapter_name_valid(text, len))
			return problem_set(p, WIRE_NOT_FOUND, field, "no adapter can have this name");
		if (!wire_get_float(&kv->val, &f->parts[i].weight))
			return problem_type(p, field, "a number", &kv->val);
		memcpy(f->names[i], text, len);
		f->parts[i].name = f->names[i];
		f->params.n_parts = i + 1;
	}
	return 0;
}

static int take_form(struct fusing *f, const msgpack_object *body, struct problem *p)
{
	char word[WORD] = "peft";
	if (field_text(body, "form", word, sizeof word, p))
		return -1;
	for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
		if (strcmp(forms[i], word) == 0) {
			f->params.form = (enum core_fuse_form)i;
			return 0;
		}
	return problem_set(p, WIRE_INVALID_ARGUMENT, "form", "expected peft, gguf or base");
}

/* An option that would be ignored is refused. */
static int refuse_unread(const struct fusing *f, const msgpack_object *body, struct problem *p)
{
	unsigned reads = core_fuse_reads(f->type);
	const struct {
		const char *name;
		bool read;
		const char *why;
	} rows[] = {{"density", reads & CORE_FUSE_DENSITY, "nothing is left out by this type"},
		    {"sign_method", reads & CORE_FUSE_SIGN, "this type elects no sign"},
		    {"svd_rank", reads & CORE_FUSE_SVD, "the rank follows from the adapters for this type"},
		    {"svd_clamp", reads & CORE_FUSE_SVD, "this type decomposes nothing"},
		    {"seed", reads & CORE_FUSE_SEED, "this type draws nothing at random"},
		    {"dtype", f->params.form == CORE_FUSE_PEFT, "goes with the form peft only"},
		    {"shard_bytes", f->params.form == CORE_FUSE_BASE, "goes with the form base only"}};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (wire_get(body, rows[i].name) && !rows[i].read)
			return problem_set(p, WIRE_INVALID_ARGUMENT, rows[i].name, "%s", rows[i].why);
	return 0;
}

static int take_options(struct fusing *f, const msgpack_object *body, struct problem *p)
{
	struct core_fuse_params *q = &f->params;
	uint64_t rank = 0;
	randombytes_buf(&q->seed, sizeof q->seed);
	q->seed &= WIRE_MAX_INT;
	if (take_form(f, body, p) || take_name(f, body, p) || take_weights(f, body, p) ||
	    field_text(body, "type", f->type, WORD, p) || field_text(body, "mathematics", f->mathematics, WORD, p) ||
	    field_text(body, "sign_method", f->sign_method, WORD, p) || field_text(body, "dtype", f->dtype, WORD, p) ||
	    field_float(body, "density", &q->density, p) || field_float(body, "svd_clamp", &q->svd_clamp, p) ||
	    field_uint(body, "svd_rank", 0, UINT32_MAX, &rank, p) || field_uint(body, "seed", 0, WIRE_MAX_INT, &q->seed, p) ||
	    field_uint(body, "shard_bytes", SHARD_MIN, SHARD_MAX, &q->shard_bytes, p) ||
	    field_bool(body, "replace", &q->replace, p))
		return -1;
	q->svd_rank = (uint32_t)rank;
	if (!(core_fuse_reads(f->type) & CORE_FUSE_SEED))
		q->seed = 0;
	return 0;
}

static int check(const struct fusing *f, const msgpack_object *body, struct problem *p)
{
	struct core_error err;
	const char *field = NULL;
	int rc = core_fuse_check(&f->params, &field, &err);
	bool type_is_known = rc == 0 || strcmp(field, "type") != 0;
	if (type_is_known && refuse_unread(f, body, p))
		return -1;
	if (rc)
		return problem_set(p, WIRE_INVALID_ARGUMENT, strcmp(field, "parts") == 0 ? "adapters" : field, "%s", err.text);
	return 0;
}

/* The effective set: a request with these options makes the same bytes. */
static int write_options(struct draft *d, const struct fusing *f, struct problem *p)
{
	const struct core_fuse_params *q = &f->params;
	unsigned reads = core_fuse_reads(f->type);
	bool density = reads & CORE_FUSE_DENSITY, sign = reads & CORE_FUSE_SIGN, svd = reads & CORE_FUSE_SVD,
	     seed = reads & CORE_FUSE_SEED, dtype = q->form == CORE_FUSE_PEFT, shards = q->form == CORE_FUSE_BASE;
	struct wire_buf b;
	wire_buf_init(&b);
	draft_begin_options(d, 6 + density + sign + 2 * svd + seed + dtype + shards, &b);
	pair_str(&b, "name", f->name);
	wire_str(&b, "adapters");
	wire_map(&b, q->n_parts);
	for (uint32_t i = 0; i < q->n_parts; i++)
		pair_float(&b, f->names[i], f->parts[i].weight);
	pair_str(&b, "type", f->type);
	pair_str(&b, "mathematics", f->mathematics);
	if (density)
		pair_float(&b, "density", q->density);
	if (sign)
		pair_str(&b, "sign_method", f->sign_method);
	if (svd)
		pair_uint(&b, "svd_rank", q->svd_rank);
	if (svd)
		pair_float(&b, "svd_clamp", q->svd_clamp);
	if (seed)
		pair_uint(&b, "seed", q->seed);
	pair_str(&b, "form", forms[q->form]);
	if (dtype)
		pair_str(&b, "dtype", f->dtype);
	if (shards)
		pair_uint(&b, "shard_bytes", q->shard_bytes);
	wire_str(&b, "replace");
	wire_bool(&b, q->replace);
	d->options = wire_buf_take(&b, &d->options_len);
	wire_buf_finish(&b);
	return d->options ? 0 : problem_set(p, WIRE_INTERNAL, NULL, "out of memory");
}

static struct fusing *fusing_new(const struct draft_env *env)
{
	struct fusing *f = calloc(1, sizeof *f);
	if (!f)
		return NULL;
	*f = (struct fusing){.type = "cat", .mathematics = "true", .sign_method = "total", .dtype = "f32", .model = env->model};
	f->params = (struct core_fuse_params){.base = env->model_path,
					      .parts = f->parts,
					      .type = f->type,
					      .mathematics = f->mathematics,
					      .sign_method = f->sign_method,
					      .dtype = f->dtype,
					      .shard_bytes = 5000000000};
	return f;
}

int fuse_prepare(struct draft *d, const struct draft_env *env, const msgpack_object *body, struct problem *p)
{
	if (draft_prepare_task(d, env, body, p))
		return -1;
	struct fusing *f = fusing_new(env);
	if (!f || !(d->task = task_new(&kind, f)))
		return problem_set(p, WIRE_INTERNAL, NULL, "out of memory");
	return take_options(f, body, p) || check(f, body, p) || write_options(d, f, p) ? -1 : 0;
}

/* ---- places ---- */

static int oom(struct problem *p)
{
	return problem_set(p, WIRE_INTERNAL, NULL, "out of memory");
}

static int look_parts(struct fusing *f, struct problem *p)
{
	const struct adapters *a = f->adapters;
	char field[96];
	for (uint32_t i = 0; i < f->params.n_parts; i++) {
		struct adapter_sight seen;
		adapters_look(a, f->names[i], &seen);
		snprintf(field, sizeof field, "adapters.%.80s", f->names[i]);
		if (!seen.there)
			return problem_set(p, WIRE_NOT_FOUND, field, "no adapter of that name is registered");
		if (asprintf(&f->paths[i], "%s/%s", a->folders[seen.folder], f->names[i]) < 0) {
			f->paths[i] = NULL;
			return oom(p);
		}
		f->parts[i].path = f->paths[i];
	}
	return 0;
}

static bool is_taken(const struct fusing *f)
{
	struct stat st;
	return !f->params.replace && lstat(f->target, &st) == 0;
}

static int look_target(struct fusing *f, const char *output, struct problem *p)
{
	const struct adapters *a = f->adapters;
	bool base = f->params.form == CORE_FUSE_BASE;
	struct adapter_sight seen = {0};
	struct stat st;
	if (base && !output[0])
		return problem_set(p, WIRE_UNSUPPORTED, "form",
				   "this server has no folder for merged bases: its configuration says no fuse_output");
	if (base && (stat(f->params.base, &st) || !S_ISDIR(st.st_mode)))
		return problem_set(
			p, WIRE_UNSUPPORTED, "form",
			"the server's base is a GGUF file, whose weights are rounded already: a merge needs a Hugging Face folder");
	if (!base)
		adapters_look(a, f->name, &seen);
	if (asprintf(&f->target, "%s/%s", base ? output : a->folders[seen.there ? seen.folder : 0], f->name) < 0) {
		f->target = NULL;
		return oom(p);
	}
	f->params.target = f->target;
	if (is_taken(f))
		return problem_set(p, WIRE_CONFLICT, "name",
				   "there is something of that name already: say replace, or take another");
	return 0;
}

int fuse_look(struct draft *d, const struct draft_env *env, const struct adapters *a, struct problem *p)
{
	struct fusing *f = task_arg(d->task);
	f->adapters = a;
	if (a->n_folders == 0)
		return problem_set(p, WIRE_UNSUPPORTED, "adapters",
				   "this server has no adapters: its configuration names no folder");
	return look_parts(f, p) || look_target(f, env->fuse_output, p) ? -1 : 0;
}

/* ---- the work: on the task's thread ---- */

/* The configured folder that the result goes to, when it is not there yet. What hinders is said by what writes into it. */
static void make_folder(const struct fusing *f)
{
	char *folder = strdup(f->target), *slash = folder ? strrchr(folder, '/') : NULL;
	if (slash) {
		*slash = 0;
		mkdir(folder, 0777);
	}
	free(folder);
}

static enum wire_code wire_code_of(int code)
{
	return code == CORE_EUNSUPPORTED || code == CORE_EFORMAT ? WIRE_UNSUPPORTED
	       : code == CORE_EINVAL                             ? WIRE_INVALID_ARGUMENT
								 : WIRE_INTERNAL;
}

static int failed(struct task *t, const struct core_error *err)
{
	return task_fail(t, wire_code_of(err->code), "%.300s", err->text);
}

static void on_progress(void *arg, double done)
{
	task_progress(arg, (uint64_t)(done * PROGRESS_TOTAL), PROGRESS_TOTAL, NULL);
}

static bool is_cancelled(void *arg)
{
	return task_cancelled(arg);
}

static void look_at_all(const struct fusing *f, struct adapter_sight *seen)
{
	for (uint32_t i = 0; i < f->params.n_parts; i++)
		adapters_look(f->adapters, f->names[i], &seen[i]);
}

/* Opens the adapters when nobody is just replacing their files: a config of one version with the factors of another would go
 * unnoticed. Once they are open, later versions change nothing. */
static int open_all(struct task *t, const struct fusing *f, struct core_fuse **out)
{
	struct adapter_sight before[CORE_BLEND_MAX], after[CORE_BLEND_MAX];
	struct core_error err;
	for (int tries = 0; tries < OPEN_TRIES; tries++) {
		bool same = true;
		look_at_all(f, before);
		int rc = core_fuse_open(out, &f->params, &err);
		look_at_all(f, after);
		for (uint32_t i = 0; i < f->params.n_parts; i++)
			same &= adapter_sight_same(&before[i], &after[i]);
		if (same)
			return rc ? failed(t, &err) : 0;
		if (!rc)
			core_fuse_close(*out);
	}
	return task_fail(t, WIRE_INTERNAL, "the adapters' files change all the time");
}

/* What was written is read as the server would read it: its digest is the one that `adapters` will show. */
static int digest_of(struct task *t, const struct fusing *f, struct core_fuse_result *r)
{
	struct core_adapter *a;
	struct core_error err;
	if (f->params.form == CORE_FUSE_BASE)
		return 0;
	if (core_adapter_load(&a, f->model, f->target, &err))
		return task_fail(t, WIRE_INTERNAL, "%s was made, and cannot be loaded: %.200s", f->name, err.text);
	memcpy(r->digest, core_adapter_info(a)->digest, sizeof r->digest);
	core_adapter_unref(a);
	return 0;
}

static void write_result(struct wire_buf *b, const struct fusing *f, const struct core_fuse_result *r)
{
	bool svd = core_fuse_reads(f->type) & CORE_FUSE_SVD;
	wire_map(b, 6 + svd);
	pair_str(b, "name", f->name);
	pair_str(b, "form", forms[f->params.form]);
	pair_str(b, "digest", r->digest);
	pair_uint(b, "bytes", r->bytes);
	pair_uint(b, "rank", r->rank);
	pair_uint(b, "modules", r->modules);
	if (svd)
		pair_float(b, "left_out", r->left_out);
}

static int run(struct task *t, void *arg)
{
	struct fusing *f = arg;
	const struct core_fuse_watch watch = {.progress = on_progress, .cancelled = is_cancelled, .arg = t};
	struct core_fuse_result result;
	struct core_error err;
	struct core_fuse *fuse;
	if (is_taken(f))
		return task_fail(t, WIRE_CONFLICT, "the name %s was taken meanwhile", f->name);
	if (open_all(t, f, &fuse))
		return -1;
	make_folder(f);
	int rc = core_fuse_run(fuse, &watch, &result, &err);
	core_fuse_close(fuse);
	if (rc)
		return failed(t, &err);
	if (digest_of(t, f, &result))
		return -1;
	write_result(task_result(t), f, &result);
	return 0;
}

static const struct task_kind kind = {.op = "adapter.fuse", .run = run, .free = fusing_free};

/* ---- leavings ---- */

static void sweep(const char *folder)
{
	struct core_error err;
	int n = access(folder, F_OK) == 0 ? core_fuse_sweep(folder, &err) : 0;
	if (n > 0)
		log_notice("%s: removed what %d killed fusions had left", folder, n);
	else if (n < 0)
		log_warning("looking for what killed fusions left: %s", err.text);
}

void fuse_sweep_all(const char *adapters, const char *output)
{
	char *copy = strdup(adapters), *rest = copy, *folder;
	while (rest && (folder = strsep(&rest, ":")))
		if (*folder)
			sweep(folder);
	free(copy);
	if (output[0])
		sweep(output);
}
