/* temperature: divides the logits by T, so that T below 1 sharpens the distribution and T above 1 flattens it.
 *
 * T = 0 is the limit of that: only the most likely candidate is left, ties going to the lowest id. */
#include "sampler-util.h"

struct temperature {
	const struct weft_host *host;
	double t;
};

static int create(const struct weft_host *host, struct weft_job *job, const struct weft_value *params, void **self)
{
	*self = NULL;
	if (params[0].f == 1)
		return 0;
	return create_plain(&(struct temperature){.host = host, .t = params[0].f}, sizeof(struct temperature), self);
}

static int apply(void *self, struct weft_job *job, struct weft_candidates *c)
{
	const struct temperature *s = self;
	double max;

	if (s->t == 0) {
		s->host->sort(c, 1, 1);
		return 0;
	}
	/* The largest logit becomes 0, which changes no probability and keeps a tiny T from overflowing upwards. Downwards a
	 * quotient beyond float's range is what it looks like: impossible. Rounding may make new ties, whose order is by id. */
	max = candidates_max(c);
	if (max == -INFINITY)
		return 0;
	for (uint32_t i = 0; i < c->n; i++)
		c->logits[i] = logit_from((c->logits[i] - max) / s->t);
	c->sorted = 0;
	return 0;
}

static int clone(const void *self, void **copy)
{
	return clone_plain(self, sizeof(struct temperature), copy);
}

static int formula(const void *self, struct weft_formula *out)
{
	const struct temperature *s = self;

	out->kind = WEFT_FORMULA_TEMPERATURE;
	out->x = s->t;
	return 0;
}

static const struct weft_param params[] = {
	PARAM_FLOAT("temperature", 1, 0, 100, "Logits are divided by this; 0 always takes the most likely token; 1 is neutral."),
};
static const struct weft_sampler sampler = {
	.size = sizeof(sampler),
	.flags = WEFT_ARGMAX_INVARIANT | WEFT_DETERMINISTIC | WEFT_SIDE_BY_SIDE,
	.order = 500,
	.create = create,
	.apply = apply,
	.clone = clone,
	.destroy = free,
	.formula = formula,
};
static const struct weft_plugin plugin = {
	PLUGIN("temperature", "Sharpens or flattens the distribution."),
	PARAMS(params),
	.sampler = &sampler,
};

const struct weft_plugin *weft_plugin(void)
{
	return &plugin;
}
