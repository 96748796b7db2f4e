/* parts.h: what the files of kernels/fuse share. Private to this folder. */
#ifndef WEFT_FUSE_PARTS_H
#define WEFT_FUSE_PARTS_H

#include "fuse.h"

enum thin { THIN_NONE, THIN_MAGNITUDE, THIN_RANDOM };

/* What a combination type is made of. */
struct fuse_traits {
	const char *name;
	enum thin thin;
	bool elect;	/* TIES: only values of the elected sign count */
	bool svd;	/* works on whole products and ends in a truncated decomposition */
};
const struct fuse_traits *fuse_traits(enum fuse_type t);
/* The type that is really computed: the old releases take a single adapter as linear. */
enum fuse_type fuse_type_for(const struct fuse_recipe *r, unsigned adapters);

/* FUSE_CANCELLED once the caller asked to stop, else 0. Cheap enough for every row. */
int fuse_stopped(const struct fuse_watch *watch, struct core_error *err);

/* ---- mix.c: tensors of one shape into one, element by element ---- */

struct mix_source {
	/* Row `row` of the part-th tensor, in double, before any weight. */
	void (*row)(const void *arg, unsigned part, uint64_t row, double *out);
	const void *arg;
	uint64_t rows, cols;
	unsigned n;
};

struct mix_rule {
	enum thin thin;
	bool elect;
	enum fuse_sign sign;
	double density;
	bool rescale;			/* what stays of a random choice is divided by the density */
	uint64_t seed;
	const char *tensor;		/* names the tensor in the random stream */
	const unsigned *adapter;	/* [n] */
	const double *weight;		/* [n] */
};

typedef void mix_put(void *arg, uint64_t row, const double *values);
/* Hands the rows to put() in order. Memory: a few rows, and a bit per element and tensor when values are thinned. */
int mix_run(const struct mix_source *s, const struct mix_rule *rule, mix_put *put, void *arg, const struct fuse_watch *watch,
	    struct core_error *err);

/* ---- svd.c ---- */

/* D = sum of coefficient[i] * B_i A_i over the module's parts: the best approximation at f->rank, which is at most the sum of their
 * ranks. */
int svd_of_sum(const struct fuse_module *m, const double *coefficient, double clamp, struct fuse_factors *f,
	       struct core_error *err);
/* The same of a whole matrix d [out][in], which is overwritten. */
int svd_of_matrix(const char *name, double *d, uint64_t out, uint64_t in, double clamp, struct fuse_factors *f,
		  struct core_error *err);

#endif
