/* top_k: keeps the k most likely candidates, ties going to the lowest id, so that exactly k are left. */
#include "sampler-util.h"

struct top_k {
	const struct weft_host *host;
	uint32_t k;
};

static int create(const struct weft_host *host, struct weft_job *job, const struct weft_value *params, void **self)
{
	*self = NULL;
	if (params[0].i <= 0 || params[0].i >= host->vocab(job))
		return 0;
	return create_plain(&(struct top_k){.host = host, .k = (uint32_t)params[0].i}, sizeof(struct top_k), self);
}

static int apply(void *self, struct weft_job *job, struct weft_candidates *c)
{
	const struct top_k *s = self;

	if (s->k < c->n)
		s->host->sort(c, s->k, 1);
	return 0;
}

static int clone(const void *self, void **copy)
{
	return clone_plain(self, sizeof(struct top_k), copy);
}

static int formula(const void *self, struct weft_formula *out)
{
	const struct top_k *s = self;

	out->kind = WEFT_FORMULA_TOP_K;
	out->k = s->k;
	return 0;
}

static const struct weft_param params[] = {
	PARAM_INT("top_k", 0, -1, TOKEN_MAX, "Only this many of the most likely tokens can be drawn; 0 or -1 is off."),
};
static const struct weft_sampler sampler = {
	.size = sizeof(sampler),
	.flags = WEFT_ARGMAX_INVARIANT | WEFT_DETERMINISTIC | WEFT_SIDE_BY_SIDE,
	.order = 700,
	.create = create,
	.apply = apply,
	.clone = clone,
	.destroy = free,
	.formula = formula,
};
static const struct weft_plugin plugin = {
	PLUGIN("top_k", "Keeps the k most likely tokens."),
	PARAMS(params),
	.sampler = &sampler,
};

const struct weft_plugin *weft_plugin(void)
{
	return &plugin;
}
