/* plan.h: the modules that the inputs change, in order, and what each output form does with them. Private to kernels/fuse. */
#ifndef WEFT_FUSE_PLAN_H
#define WEFT_FUSE_PLAN_H

#include <sodium.h>

#include "parts.h"
#include "stage.h"

enum { MODULE_NAME = 96 };

struct plan_module {
	uint32_t layer;
	unsigned kind;
	uint64_t out, in;
	uint32_t rank;			/* of the result */
	char name[MODULE_NAME];		/* "model.layers.0.self_attn.q_proj", "model.embed_tokens" */
	const struct lora_pair *pair[CORE_BLEND_MAX];	/* by input; NULL: that one has no such module */
};

struct plan {
	const struct fuse_job *job;
	struct fuse_recipe recipe;	/* with svd_rank filled in */
	struct plan_module *modules;	/* by layer and kind, the embedding last */
	size_t n;
	uint32_t rank;			/* the largest of the modules' */
	double work, done;		/* in arbitrary units */
	double whole, lost;		/* of the modules that were combined */
	const struct fuse_watch *watch;
	crypto_generichash_state sum;	/* of the shards of a merged base */
};

int plan_new(struct plan *p, const struct fuse_job *job, const struct fuse_watch *watch, struct core_error *err);
void plan_finish(struct plan *p);
/* Reads the inputs' factors of a module and combines them. */
int plan_combine(struct plan *p, const struct plan_module *m, struct fuse_factors *f, struct core_error *err);
/* Some work is done: tells the watch, and asks it whether to stop. */
int plan_advance(struct plan *p, double work, struct core_error *err);
/* What was made from what, as JSON; the caller frees it. */
char *plan_record(const struct plan *p);

/* ---- the three forms ---- */

int write_peft(struct plan *p, struct stage *s, struct core_error *err);
int write_gguf(struct plan *p, struct stage *s, struct core_error *err);
int write_base(struct plan *p, struct stage *s, struct core_error *err);

/* ---- write_tensors.c: tensors of known shape to one file ---- */

struct st_tensor {
	const char *name;
	enum tensor_type type;		/* F32, F16, BF16 */
	unsigned n_dims;
	const uint64_t *dims;
	uint64_t bytes;
};
/* The header; the tensors' bytes follow by file_write() in the same order. */
int st_begin(struct file *f, const struct st_tensor *tensors, size_t n, struct core_error *err);
/* n values, each rounded once; one that the type cannot hold is CORE_EINVAL. `what` names it. */
int st_values(struct file *f, enum tensor_type type, const double *values, size_t n, const char *what, struct core_error *err);
int st_floats(struct file *f, enum tensor_type type, const float *values, size_t n, const char *what, struct core_error *err);

/* A whole text as a file. */
int write_text(struct stage *s, const char *name, const char *text, struct core_error *err);

#endif
