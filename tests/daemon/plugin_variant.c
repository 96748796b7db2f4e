/* A plugin whose description follows from the name of the file that it was opened as: the test copies it under the names below.
 * Most of them are wrong in one way; the others are of an older or a newer minor version. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "plugins/weft-plugin.h"

#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Structs of a later minor: ours with something behind. */
struct newer_param {
	struct weft_param old;
	uint64_t unknown[3];
};
struct newer_sampler {
	struct weft_sampler old;
	void (*unknown)(void);
};
struct newer_plugin {
	struct weft_plugin old;
	const char *unknown;
};

static int create(const struct weft_host *host, struct weft_job *job, const struct weft_value *params, void **self)
{
	return 0;
}

static int apply(void *self, struct weft_job *job, struct weft_candidates *c)
{
	return 0;
}

static int step(void *self, struct weft_job *job)
{
	return 0;
}

static int commit(void *self, struct weft_job *job, const struct weft_result *results, uint32_t n)
{
	return 0;
}

static int save(void *self, struct weft_blob *out)
{
	return 0;
}

static int inits, finis; /* of this copy of the file */

static int init(const struct weft_host *host)
{
	inits++;
	return WEFT_HAS(host, blob_write) ? 0 : WEFT_EINVAL;
}

static void fini(void)
{
	finis++;
}

static int init_fails(const struct weft_host *host)
{
	return host->fail(NULL, WEFT_EUNSUPPORTED, "no such device");
}

/* What stands behind a struct of 1.0 is no field of it. */
static int no_field(const void *self, struct weft_formula *out)
{
	return 0;
}

WEFT_EXPORT int variant_inits(void);
WEFT_EXPORT int variant_finis(void);

int variant_inits(void)
{
	return inits;
}

int variant_finis(void)
{
	return finis;
}

static struct newer_param params[3];
static struct newer_sampler sampler = {
	.old = {.size = sizeof(struct weft_sampler), .order = 50, .create = create, .apply = apply, .destroy = free}};
static struct weft_decoder decoder = {.size = sizeof decoder, .create = create, .plan = step, .commit = commit, .destroy = free};
static struct newer_plugin plugin = {.old = {.size = sizeof(struct weft_plugin),
					     .abi = WEFT_ABI,
					     .version = "1",
					     .doc = "A variant.",
					     .n_params = 2,
					     .sampler = &sampler.old,
					     .init = init,
					     .fini = fini}};
static char name[80], own[2][80];

static struct weft_param *param(size_t i)
{
	return (struct weft_param *)((char *)params + i * params[0].old.size);
}

/* Lays the parameters out with `stride` bytes each, as a plugin of another minor would have them. */
static void lay_out(uint32_t stride)
{
	memset(params, 0, sizeof params);
	params[0].old.size = stride;
	for (size_t i = 0; i < 2; i++) {
		struct weft_param p = {
			.size = stride, .type = WEFT_INT, .name = own[i], .doc = "A number.", .def = 3, .min = 0, .max = 9};
		memcpy((char *)params + i * stride, &p, stride < sizeof p ? stride : sizeof p);
	}
}

static void break_plugin(const char *v)
{
	struct weft_plugin *p = &plugin.old;

	if (!strcmp(v, "bad_major"))
		p->abi = 2u << 16;
	else if (!strcmp(v, "bad_size"))
		p->size = 4;
	else if (!strcmp(v, "short_size"))
		p->size = offsetof(struct weft_plugin, sampler);
	else if (!strcmp(v, "huge_size"))
		p->size = 1u << 30;
	else if (!strcmp(v, "no_name"))
		p->name = NULL;
	else if (!strcmp(v, "bad_name"))
		p->name = "Top-K";
	else if (!strcmp(v, "long_name"))
		p->name = "a234567890a234567890a234567890a234567890a234567890a234567890a234567890";
	else if (!strcmp(v, "same_name"))
		p->name = "good";
	else if (!strcmp(v, "no_doc"))
		p->doc = NULL;
	else if (!strcmp(v, "neither"))
		p->sampler = NULL;
	else if (!strcmp(v, "both"))
		p->decoder = &decoder;
	else if (!strcmp(v, "init_fails"))
		p->init = init_fails;
	else if (!strcmp(v, "no_apply"))
		sampler.old.apply = NULL;
	else if (!strcmp(v, "bad_sampler_size"))
		sampler.old.size = 16;
	else if (!strcmp(v, "save_alone"))
		sampler.old.save = save;
	else if (!strcmp(v, "no_plan"))
		p->sampler = NULL, p->decoder = &decoder, decoder.plan = NULL;
	else if (!strcmp(v, "decoder_ok"))
		p->sampler = NULL, p->decoder = &decoder;
	else if (!strcmp(v, "no_table"))
		p->params = NULL;
	else if (!strcmp(v, "many_params"))
		p->n_params = 1000;
	else if (!strcmp(v, "no_params"))
		p->n_params = 0, p->params = NULL;
	else if (!strcmp(v, "older"))
		p->size = offsetof(struct weft_plugin, init), lay_out(offsetof(struct weft_param, def_str)),
			sampler.old.size = offsetof(struct weft_sampler, formula), sampler.old.formula = no_field;
	else if (!strcmp(v, "newer")) {
		p->size = sizeof plugin, p->abi = WEFT_ABI + 7, plugin.unknown = "x";
		sampler.old.size = sizeof sampler, lay_out(sizeof(struct newer_param));
	}
}

static void break_param(const char *v)
{
	struct weft_param *p = param(1);

	if (!strcmp(v, "param_bad_name"))
		p->name = "no spaces";
	else if (!strcmp(v, "param_reserved"))
		p->name = "priority";
	else if (!strcmp(v, "param_twice"))
		p->name = own[0];
	else if (!strcmp(v, "param_no_doc"))
		p->doc = "";
	else if (!strcmp(v, "param_type"))
		p->type = 99;
	else if (!strcmp(v, "param_range"))
		p->min = 9, p->max = 1;
	else if (!strcmp(v, "param_nan"))
		p->type = WEFT_FLOAT, p->max = NAN;
	else if (!strcmp(v, "param_default"))
		p->def = 10;
	else if (!strcmp(v, "param_fraction"))
		p->def = 0.5;
	else if (!strcmp(v, "param_bool"))
		p->type = WEFT_BOOL;
	else if (!strcmp(v, "param_list"))
		p->type = WEFT_INT_LIST;
	else if (!strcmp(v, "param_size"))
		p->size = 8;
	else if (!strcmp(v, "param_taken"))
		p->name = "good_a";
	else if (!strcmp(v, "share_a") || !strcmp(v, "share_b"))
		p->name = "common", p->shared = 1;
	else if (!strcmp(v, "share_c"))
		p->name = "common", p->shared = 1, p->max = 8;
	else if (!strcmp(v, "share_d"))
		p->name = "common";
}

const struct weft_plugin *weft_plugin(void)
{
	Dl_info info;
	size_t n;

	if (dladdr(&plugin, &info) == 0)
		return NULL;
	const char *v = strrchr(info.dli_fname, '/') == NULL ? info.dli_fname : strrchr(info.dli_fname, '/') + 1;
	n = strcspn(v, ".");
	if (n > 60)
		return NULL;
	memcpy(name, v, n);
	name[n] = '\0';
	for (size_t i = 0; i < 2; i++) {
		memcpy(own[i], name, n);
		memcpy(own[i] + n, i == 0 ? "_a" : "_b", 3);
	}
	plugin.old.name = name;
	plugin.old.params = (struct weft_param *)params;
	lay_out(sizeof(struct weft_param));
	break_plugin(name);
	break_param(name);
	return strcmp(name, "null") == 0 ? NULL : &plugin.old;
}
