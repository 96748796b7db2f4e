/* fuse.h: several LoRA adapters made into one, or into the base itself.
 *
 * An adapter changes a weight W [out][in] to W + s B A, with A [rank][in], B [out][rank] and s = alpha / rank. Fusing gives each
 * adapter a weight w and makes new factors A', B' of scale 1, module by module. Which factors, is the combination type; the exact
 * sum is
 *     D = sum over adapters of c_i B_i A_i,   c_i = w_i s_i
 *   cat                A' = the c_i A_i stacked, B' = the B_i side by side: D, at the sum of the ranks
 *   svd                the best approximation of D at a smaller rank; D itself where that rank is at least D's
 *   linear             A' = sum a_i A_i, B' = sum b_i B_i with a_i = sign(c_i) sqrt|c_i|, b_i = sqrt|c_i|: cross terms B_i A_j
 *   ties               linear after TIES on the A_i, and on the B_i: small values go, then those against the majority's sign
 *   magnitude_prune    linear after the small values are gone
 *   dare_linear        linear after a random share of the values is gone and the rest is divided by the density
 *   dare_ties          ties with that random choice instead of the largest values
 *   ties_svd ...       the same on the whole products s_i B_i A_i with weights w_i, then the best approximation at the new rank
 * This is the mathematics of PEFT's add_weighted_adapter with its errors mended (FUSE_MATHS_TRUE), or of an old release, errors and
 * all: see enum fuse_maths. A module that only some adapters have is made from those; its rank can then differ from the others'.
 * The embedding is one more module, its product read as [dim][vocab].
 *
 * Same input, same bytes, at any thread count: sums are made here in double and in a fixed order, random choices are a function of
 * (seed, module, factor, adapter's place in the list, element), and LAPACK is held to one thread (svd.c). Another LAPACK may round
 * apart.
 *
 * Nothing here prints. A call may take hours: it runs on the caller's thread, reports through struct fuse_watch and ends soon after
 * *cancel turns true; only a decomposition is one call to LAPACK and comes to its end first. That is below a second for
 * svd, and grows with the cube of the smaller side for the other svd types, which decompose whole products. */
#ifndef WEFT_FUSE_H
#define WEFT_FUSE_H

#include <stdatomic.h>

#include "kernels/format/peft.h"

enum { FUSE_CANCELLED = CORE_ECANCELLED };	/* the caller asked to stop */

struct fuse_watch {
	void (*progress)(void *arg, double done);	/* may be NULL; 0..1, never falling */
	void *arg;
	const atomic_bool *cancel;			/* may be NULL; set from any thread */
	bool (*cancelled)(void *arg);			/* the same as a question; may be NULL */
};

/* ---- the recipe ---- */

enum fuse_type {
	FUSE_LINEAR, FUSE_CAT, FUSE_SVD, FUSE_TIES, FUSE_TIES_SVD, FUSE_DARE_LINEAR, FUSE_DARE_TIES, FUSE_DARE_LINEAR_SVD,
	FUSE_DARE_TIES_SVD, FUSE_MAGNITUDE_PRUNE, FUSE_MAGNITUDE_PRUNE_SVD, FUSE_TYPES
};
const char *fuse_type_name(enum fuse_type t);
int fuse_type_parse(const char *name, enum fuse_type *out, struct core_error *err);

/* Whose mathematics. All releases named here take a single adapter as linear, whatever the type. */
enum fuse_maths {
	FUSE_MATHS_TRUE,	/* "true": the table above; a single adapter is treated as the type says */
	FUSE_PEFT_0_6,		/* "peft-0.6", up to 0.6.2: linear has a_i = c_i, b_i = 1; types linear, cat, svd */
	FUSE_PEFT_0_7,		/* "peft-0.7", 0.7.0 - 0.8.2: linear has a_i = sqrt(w_i) s_i, b_i = sqrt(w_i); the same types */
	FUSE_PEFT_0_9,		/* "peft-0.9", 0.9.0 - 0.17.1: a_i = b_i = sqrt(c_i); svd types: s_i twice; dare does not rescale */
	FUSE_PEFT_0_18,		/* "peft-0.18": a_i = b_i = sign(c_i) sqrt|c_i|, so the sign is lost; else as 0.9 */
	FUSE_PEFT_0_19,		/* "peft-0.19", 0.19.0 - 0.20.x: linear as above; s_i twice */
	FUSE_MATHS
};
const char *fuse_maths_name(enum fuse_maths m);
int fuse_maths_parse(const char *name, enum fuse_maths *out, struct core_error *err);

/* The sign of the sum of values, or of the sum of signs; a zero sum is +. */
enum fuse_sign { FUSE_SIGN_TOTAL, FUSE_SIGN_FREQUENCY };
const char *fuse_sign_name(enum fuse_sign s);
int fuse_sign_parse(const char *name, enum fuse_sign *out, struct core_error *err);

struct fuse_recipe {
	enum fuse_type type;
	enum fuse_maths maths;
	enum fuse_sign sign;	/* the ties types */
	double density;		/* ties, dare and magnitude_prune types: the share that stays, above 0 up to 1; others: 0 */
	uint32_t svd_rank;	/* svd types: rank of the result; 0: the largest of the inputs */
	double svd_clamp;	/* svd types: values beyond this quantile of all of A' and B' are cut to it; 0: none */
	uint64_t seed;		/* dare types; others: 0 */
};
/* Does the recipe make sense for these weights? A parameter that the type would not read is refused, too. *field (may be NULL): what
 * is at fault, as core.h names it. */
int fuse_recipe_check(const struct fuse_recipe *r, const double *weights, unsigned n, const char **field, struct core_error *err);

/* ---- one module ---- */

struct fuse_part {
	const float *a;		/* [rank][in]; all values finite */
	const float *b;		/* [out][rank] */
	uint32_t rank;
	double scale;		/* s */
	double weight;		/* w */
	unsigned adapter;	/* place in the list of inputs: random choices depend on it */
};

struct fuse_module {
	const char *name;	/* "model.layers.0.self_attn.q_proj": random choices depend on it, messages name it */
	uint64_t out, in;
	const struct fuse_part *parts;	/* in the order of the inputs */
	unsigned n;		/* 1 or more, at most CORE_BLEND_MAX */
	unsigned adapters;	/* how many inputs there are, also those without this module */
};

struct fuse_factors {
	uint32_t rank;
	float *a, *b;		/* [rank][in], [out][rank]; owned; scale 1 */
	double whole, lost;	/* svd types: squared norm of what was decomposed, and of what the rank leaves out; else 0 */
};

/* The rank that the result will have; depends on shapes alone. */
int fuse_module_rank(const struct fuse_recipe *r, const struct fuse_module *m, uint32_t *rank, struct core_error *err);
/* The recipe must have passed fuse_recipe_check(). *f is made anew; on failure nothing is left to finish. */
int fuse_module_combine(const struct fuse_recipe *r, const struct fuse_module *m, struct fuse_factors *f,
			const struct fuse_watch *watch, struct core_error *err);
void fuse_factors_finish(struct fuse_factors *f);	/* an all-zero *f is fine */

/* ---- whole adapters ---- */

struct fuse_input {
	const char *name;		/* for messages and the record of the result */
	double weight;
	const struct lora_file *file;	/* opened for the base's shape */
};

enum fuse_form {
	FUSE_TO_PEFT,	/* a folder: adapter_config.json, adapter_model.safetensors */
	FUSE_TO_GGUF,	/* a GGUF LoRA file, f32 */
	FUSE_TO_BASE	/* a HF folder: the base with the result added, in the base's types, and its config and tokenizer files */
};

struct fuse_job {
	const struct checkpoint *base;	/* shapes; for FUSE_TO_BASE the weights, which must be f32, f16 or bf16 */
	const char *base_path;		/* FUSE_TO_BASE: the folder whose other files are copied; else only recorded, may be NULL */
	const struct fuse_input *inputs;
	unsigned n_inputs;		/* 1 to CORE_BLEND_MAX */
	struct fuse_recipe recipe;
	enum fuse_form form;
	enum tensor_type type;		/* FUSE_TO_PEFT: TENSOR_F32, TENSOR_F16 or TENSOR_BF16 */
	uint64_t shard_bytes;		/* FUSE_TO_BASE: most bytes of a shard (one tensor may exceed it); 0: 5,000,000,000 */
	const char *target;		/* what is made; its folder must exist */
	bool replace;			/* the target may exist: it is exchanged for the result, and removed */
};

struct fuse_made {
	uint32_t rank;			/* the largest of the modules' */
	uint32_t modules;
	uint64_t bytes;			/* on disk */
	double left_out;		/* svd types: share of the norm, over all modules, that the rank leaves out; else 0 */
	char digest[65];		/* FUSE_TO_BASE: hex, of the shards; else "" */
};

/* Refused beside bad shapes and recipes: DoRA, which is no sum of products; whole weights in an adapter that are not the base's
 * own; a GGUF base for a merge; an embedding's factors for a merge into a base whose lm_head shares that weight; an adapter of
 * larger rank than any reader takes (LORA_RANK_MAX).
 *
 * The target appears whole or not at all: it is written beside its place under a hidden name, flushed, and renamed at the end. What
 * a killed run left in that folder is removed first. Modules are read and written one at a time; the largest one's factors (and for
 * the types that need it its whole product, in double) are what memory is needed for. */
int fuse_run(const struct fuse_job *job, const struct fuse_watch *watch, struct fuse_made *made, struct core_error *err); /* made: may be NULL */
/* Removes what killed runs left in `folder`; what a living run is writing stays. Returns how many, or CORE_EIO. */
int fuse_sweep(const char *folder, struct core_error *err);

#endif
