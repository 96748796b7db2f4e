/* recipe.c: combination types, releases and sign methods by name, and which parameters go together. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "parts.h"

static const struct fuse_traits types[FUSE_TYPES] = {
	[FUSE_LINEAR] = {"linear", THIN_NONE, false, false},
	[FUSE_CAT] = {"cat", THIN_NONE, false, false},
	[FUSE_SVD] = {"svd", THIN_NONE, false, true},
	[FUSE_TIES] = {"ties", THIN_MAGNITUDE, true, false},
	[FUSE_TIES_SVD] = {"ties_svd", THIN_MAGNITUDE, true, true},
	[FUSE_DARE_LINEAR] = {"dare_linear", THIN_RANDOM, false, false},
	[FUSE_DARE_TIES] = {"dare_ties", THIN_RANDOM, true, false},
	[FUSE_DARE_LINEAR_SVD] = {"dare_linear_svd", THIN_RANDOM, false, true},
	[FUSE_DARE_TIES_SVD] = {"dare_ties_svd", THIN_RANDOM, true, true},
	[FUSE_MAGNITUDE_PRUNE] = {"magnitude_prune", THIN_MAGNITUDE, false, false},
	[FUSE_MAGNITUDE_PRUNE_SVD] = {"magnitude_prune_svd", THIN_MAGNITUDE, false, true},
};

static const char *const maths[FUSE_MATHS] = {
	[FUSE_MATHS_TRUE] = "true",   [FUSE_PEFT_0_6] = "peft-0.6",   [FUSE_PEFT_0_7] = "peft-0.7",
	[FUSE_PEFT_0_9] = "peft-0.9", [FUSE_PEFT_0_18] = "peft-0.18", [FUSE_PEFT_0_19] = "peft-0.19",
};

static const char *const signs[] = {[FUSE_SIGN_TOTAL] = "total", [FUSE_SIGN_FREQUENCY] = "frequency"};
enum { SIGNS = sizeof signs / sizeof signs[0] };

const struct fuse_traits *fuse_traits(enum fuse_type t)
{
	return (unsigned)t < FUSE_TYPES ? &types[t] : NULL;
}

const char *fuse_type_name(enum fuse_type t)
{
	return (unsigned)t < FUSE_TYPES ? types[t].name : "?";
}

const char *fuse_maths_name(enum fuse_maths m)
{
	return (unsigned)m < FUSE_MATHS ? maths[m] : "?";
}

const char *fuse_sign_name(enum fuse_sign s)
{
	return (unsigned)s < SIGNS ? signs[s] : "?";
}

/* "unknown WHAT NAME: expected one of A, B, C" */
static int unknown(struct core_error *err, const char *what, const char *name, const char *(*nth)(unsigned), unsigned n)
{
	char list[256];
	size_t at = 0;

	for (unsigned i = 0; i < n && at < sizeof list; i++)
		at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", i > 0 ? ", " : "", nth(i));
	return core_fail(err, CORE_EINVAL, "unknown %s %.40s: expected one of %s", what, name, list);
}

static const char *nth_type(unsigned i)
{
	return types[i].name;
}

static const char *nth_maths(unsigned i)
{
	return maths[i];
}

static const char *nth_sign(unsigned i)
{
	return signs[i];
}

int fuse_type_parse(const char *name, enum fuse_type *out, struct core_error *err)
{
	for (unsigned i = 0; i < FUSE_TYPES; i++)
		if (strcmp(types[i].name, name) == 0) {
			*out = (enum fuse_type)i;
			return 0;
		}
	return unknown(err, "combination type", name, nth_type, FUSE_TYPES);
}

int fuse_maths_parse(const char *name, enum fuse_maths *out, struct core_error *err)
{
	for (unsigned i = 0; i < FUSE_MATHS; i++)
		if (strcmp(maths[i], name) == 0) {
			*out = (enum fuse_maths)i;
			return 0;
		}
	return unknown(err, "mathematics", name, nth_maths, FUSE_MATHS);
}

int fuse_sign_parse(const char *name, enum fuse_sign *out, struct core_error *err)
{
	for (unsigned i = 0; i < SIGNS; i++)
		if (strcmp(signs[i], name) == 0) {
			*out = (enum fuse_sign)i;
			return 0;
		}
	return unknown(err, "sign method", name, nth_sign, SIGNS);
}

enum fuse_type fuse_type_for(const struct fuse_recipe *r, unsigned adapters)
{
	return r->maths != FUSE_MATHS_TRUE && adapters == 1 ? FUSE_LINEAR : r->type;
}

/* The field at fault, and why. */
static int refuse(const char **at, const char *field, struct core_error *err, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static int refuse(const char **at, const char *field, struct core_error *err, const char *fmt, ...)
{
	char text[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	*at = field;
	return core_fail(err, CORE_EINVAL, "%s", text);
}

static int check_parameters(const struct fuse_recipe *r, const struct fuse_traits *t, const char **at, struct core_error *err)
{
	if (t->thin == THIN_NONE && r->density != 0)
		return refuse(at, "density", err, "density: %s has none", t->name);
	if (t->thin != THIN_NONE && !(r->density > 0 && r->density <= 1))
		return refuse(at, "density", err,
			      "density: %g: %s needs the share of values that stays, above 0 and up to 1", r->density, t->name);
	if ((unsigned)r->sign >= SIGNS || (!t->elect && r->sign != FUSE_SIGN_TOTAL))
		return refuse(at, "sign_method", err, "sign method: %s: %s elects no sign", fuse_sign_name(r->sign), t->name);
	if (!t->svd && r->svd_rank != 0)
		return refuse(at, "svd_rank", err, "svd_rank: %s has none: its rank follows from the inputs", t->name);
	if (r->svd_rank > LORA_RANK_MAX)
		return refuse(at, "svd_rank", err, "svd_rank: %u: expected at most %d", r->svd_rank, LORA_RANK_MAX);
	if (!t->svd && r->svd_clamp != 0)
		return refuse(at, "svd_clamp", err, "svd_clamp: %s has none", t->name);
	if (t->svd && !(r->svd_clamp >= 0 && r->svd_clamp <= 1))
		return refuse(at, "svd_clamp", err, "svd_clamp: %g: expected a quantile above 0 and up to 1, or 0 for none",
			      r->svd_clamp);
	if (t->thin != THIN_RANDOM && r->seed != 0)
		return refuse(at, "seed", err, "seed: %s draws nothing at random", t->name);
	return 0;
}

static int check_weights(const struct fuse_recipe *r, const struct fuse_traits *t, const double *weights, unsigned n,
			 const char **at, struct core_error *err)
{
	bool old = r->maths == FUSE_PEFT_0_7 || r->maths == FUSE_PEFT_0_9, roots = old && !t->svd && r->type != FUSE_CAT;

	if (n < 1 || n > CORE_BLEND_MAX)
		return refuse(at, "parts", err, "%u adapters: expected 1 to %d", n, CORE_BLEND_MAX);
	for (unsigned i = 0; i < n; i++) {
		if (!isfinite(weights[i]))
			return refuse(at, "parts", err, "weight %u is not a finite number", i + 1);
		if (weights[i] < 0 && (roots || (n == 1 && old)))
			return refuse(at, "parts", err, "weight %u is %g: %s takes roots of weights and fails for negative ones", i + 1,
				      weights[i], maths[r->maths]);
	}
	return 0;
}

int fuse_recipe_check(const struct fuse_recipe *r, const double *weights, unsigned n, const char **field, struct core_error *err)
{
	const struct fuse_traits *t = fuse_traits(r->type);
	const char *unasked, **at = field != NULL ? field : &unasked;
	int rc;

	if (t == NULL || (unsigned)r->maths >= FUSE_MATHS)
		return refuse(at, t == NULL ? "type" : "mathematics", err, "combination type %d of mathematics %d does not exist",
			      (int)r->type, (int)r->maths);
	if ((r->maths == FUSE_PEFT_0_6 || r->maths == FUSE_PEFT_0_7) && t->thin != THIN_NONE)
		return refuse(at, "mathematics", err, "%s has no %s: its types are linear, cat and svd", maths[r->maths], t->name);
	rc = check_weights(r, t, weights, n, at, err);
	return rc < 0 ? rc : check_parameters(r, t, at, err);
}
