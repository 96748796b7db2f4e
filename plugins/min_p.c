/* min_p: keeps the candidates that are at least min_p times as likely as the most likely one. */
#include "sampler-util.h"

struct min_p {
	double log_p;
};

static int create(const struct weft_host *host, struct weft_job *job, const struct weft_value *params, void **self)
{
	*self = NULL;
	if (params[0].f == 0)
		return 0;
	return create_plain(&(struct min_p){.log_p = log(params[0].f)}, sizeof(struct min_p), self);
}

static int apply(void *self, struct weft_job *job, struct weft_candidates *c)
{
	const struct min_p *s = self;

	/* p_i >= min_p * p_max, without the sum that both share: the most likely candidate always passes, as log_p <= 0. */
	candidates_drop_below(c, candidates_max(c) + s->log_p);
	return 0;
}

static int clone(const void *self, void **copy)
{
	return clone_plain(self, sizeof(struct min_p), copy);
}

static int formula(const void *self, struct weft_formula *out)
{
	const struct min_p *s = self;

	out->kind = WEFT_FORMULA_MIN_P;
	out->x = s->log_p;
	return 0;
}

static const struct weft_param params[] = {
	PARAM_FLOAT("min_p", 0, 0, 1,
		    "Only tokens at least this many times as likely as the most likely one can be drawn; 0 is off."),
};
static const struct weft_sampler sampler = {
	.size = sizeof(sampler),
	.flags = WEFT_ARGMAX_INVARIANT | WEFT_DETERMINISTIC | WEFT_SIDE_BY_SIDE,
	.order = 1000,
	.create = create,
	.apply = apply,
	.clone = clone,
	.destroy = free,
	.formula = formula,
};
static const struct weft_plugin plugin = {
	PLUGIN("min_p", "Drops tokens much less likely than the most likely one."),
	PARAMS(params),
	.sampler = &sampler,
};

const struct weft_plugin *weft_plugin(void)
{
	return &plugin;
}
