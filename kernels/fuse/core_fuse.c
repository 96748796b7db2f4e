/* core_fuse.c: fusing as core.h offers it: names to enums, paths to open files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parts.h"

struct core_fuse {
	struct checkpoint *base;
	struct lora_file files[CORE_BLEND_MAX];
	struct fuse_input inputs[CORE_BLEND_MAX];
	struct fuse_job job; /* n_inputs: files that are open */
};

unsigned core_fuse_reads(const char *type)
{
	struct core_error err;
	enum fuse_type t;

	if (fuse_type_parse(type, &t, &err) < 0)
		return 0;
	const struct fuse_traits *traits = fuse_traits(t);
	return (traits->thin != THIN_NONE ? CORE_FUSE_DENSITY : 0) | (traits->elect ? CORE_FUSE_SIGN : 0) |
	       (traits->svd ? CORE_FUSE_SVD : 0) | (traits->thin == THIN_RANDOM ? CORE_FUSE_SEED : 0);
}

static int parse_dtype(const char *name, enum tensor_type *out, struct core_error *err)
{
	static const struct {
		const char *name;
		enum tensor_type type;
	} rows[] = {{"f32", TENSOR_F32}, {"f16", TENSOR_F16}, {"bf16", TENSOR_BF16}};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if (strcmp(rows[i].name, name) == 0) {
			*out = rows[i].type;
			return 0;
		}
	return core_fail(err, CORE_EINVAL, "unknown type %.40s: expected f32, f16 or bf16", name);
}

static int parse(const struct core_fuse_params *p, struct fuse_recipe *r, enum tensor_type *type, const char **field,
		 struct core_error *err)
{
	*r = (struct fuse_recipe){
		.density = p->density, .svd_rank = p->svd_rank, .svd_clamp = p->svd_clamp, .seed = p->seed, .sign = FUSE_SIGN_TOTAL};
	*field = "type";
	if (fuse_type_parse(p->type, &r->type, err) < 0)
		return CORE_EINVAL;
	*field = "mathematics";
	if (fuse_maths_parse(p->mathematics != NULL ? p->mathematics : "true", &r->maths, err) < 0)
		return CORE_EINVAL;
	*field = "sign_method";
	if (p->sign_method != NULL && fuse_sign_parse(p->sign_method, &r->sign, err) < 0)
		return CORE_EINVAL;
	*field = "dtype";
	return parse_dtype(p->dtype != NULL ? p->dtype : "f32", type, err);
}

int core_fuse_check(const struct core_fuse_params *p, const char **field, struct core_error *err)
{
	double weights[CORE_BLEND_MAX];
	struct fuse_recipe r;
	enum tensor_type type;
	int rc = parse(p, &r, &type, field, err);

	for (uint32_t i = 0; i < p->n_parts && i < CORE_BLEND_MAX; i++)
		weights[i] = p->parts[i].weight;
	return rc < 0 ? rc : fuse_recipe_check(&r, weights, p->n_parts, field, err);
}

/* ---- open ---- */

static int open_parts(struct core_fuse *f, const struct core_fuse_params *p, struct core_error *err)
{
	for (uint32_t i = 0; i < p->n_parts; i++) {
		int rc = lora_open(&f->files[i], p->parts[i].path, checkpoint_config(f->base), err);
		if (rc < 0)
			return rc;
		f->inputs[i] = (struct fuse_input){p->parts[i].name, p->parts[i].weight, &f->files[i]};
		f->job.n_inputs = i + 1;
	}
	return 0;
}

int core_fuse_open(struct core_fuse **out, const struct core_fuse_params *p, struct core_error *err)
{
	static const enum fuse_form forms[] = {
		[CORE_FUSE_PEFT] = FUSE_TO_PEFT, [CORE_FUSE_GGUF] = FUSE_TO_GGUF, [CORE_FUSE_BASE] = FUSE_TO_BASE};
	struct core_fuse *f;
	const char *field;
	int rc = core_fuse_check(p, &field, err);

	if (rc < 0)
		return rc;
	f = calloc(1, sizeof *f);
	if (f == NULL)
		return core_fail(err, CORE_ENOMEM, "out of memory");
	parse(p, &f->job.recipe, &f->job.type, &field, err);
	f->job.base_path = p->base;
	f->job.inputs = f->inputs;
	f->job.form = forms[p->form];
	f->job.shard_bytes = p->shard_bytes;
	f->job.target = p->target;
	f->job.replace = p->replace;
	rc = checkpoint_open(&f->base, p->base, err);
	f->job.base = f->base;
	if (rc == 0)
		rc = open_parts(f, p, err);
	if (rc < 0)
		core_fuse_close(f);
	else
		*out = f;
	return rc;
}

void core_fuse_close(struct core_fuse *f)
{
	if (f == NULL)
		return;
	for (unsigned i = 0; i < f->job.n_inputs; i++)
		lora_close(&f->files[i]);
	if (f->base != NULL)
		checkpoint_close(f->base);
	free(f);
}

/* ---- run ---- */

int core_fuse_run(struct core_fuse *f, const struct core_fuse_watch *watch, struct core_fuse_result *result, struct core_error *err)
{
	struct fuse_watch w = {.progress = watch->progress, .cancelled = watch->cancelled, .arg = watch->arg};
	struct fuse_made made;
	int rc = fuse_run(&f->job, &w, &made, err);

	if (rc < 0)
		return rc;
	*result = (struct core_fuse_result){.rank = made.rank, .modules = made.modules, .bytes = made.bytes, .left_out = made.left_out};
	memcpy(result->digest, made.digest, sizeof result->digest);
	return 0;
}

int core_fuse_sweep(const char *folder, struct core_error *err)
{
	return fuse_sweep(folder, err);
}
