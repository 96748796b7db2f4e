/* xtc: exclude top choices. With probability xtc_probability, drops every candidate whose probability is xtc_threshold or more
 * except the least likely of them; with fewer than two such candidates nothing happens. Among equals the lowest ids go first. */
#include "sampler-util.h"

enum { PROBABILITY, THRESHOLD };

struct xtc {
	const struct weft_host *host;
	double probability, threshold;
};

static int create(const struct weft_host *host, struct weft_job *job, const struct weft_value *params, void **self)
{
	*self = NULL;
	/* Two candidates above one half cannot be. */
	if (params[PROBABILITY].f == 0 || params[THRESHOLD].f > 0.5)
		return 0;
	return create_plain(&(struct xtc){.host = host, .probability = params[PROBABILITY].f, .threshold = params[THRESHOLD].f},
			    sizeof(struct xtc), self);
}

static int apply(void *self, struct weft_job *job, struct weft_candidates *c)
{
	const struct xtc *s = self;
	double max, sum, least;
	uint32_t above = 0;

	if (s->host->uniform(job, 0, c->position, 0) >= s->probability)
		return 0;
	max = candidates_max(c);
	if (max == -INFINITY)
		return 0;
	sum = candidates_sum(c, max);
	least = s->threshold * sum;
	for (uint32_t i = 0; i < c->n; i++)
		above += c->logits[i] != -INFINITY && exp(c->logits[i] - max) >= least;
	if (above < 2)
		return 0;
	s->host->sort(c, above, 0);
	memmove(c->ids, c->ids + above - 1, (c->n - above + 1) * sizeof(c->ids[0]));
	memmove(c->logits, c->logits + above - 1, (c->n - above + 1) * sizeof(c->logits[0]));
	c->n -= above - 1;
	c->dense = 0;
	return 0;
}

static int clone(const void *self, void **copy)
{
	return clone_plain(self, sizeof(struct xtc), copy);
}

static const struct weft_param params[] = {
	[PROBABILITY] = PARAM_FLOAT("xtc_probability", 0, 0, 1, "How often the likeliest tokens are excluded; 0 is off."),
	[THRESHOLD] =
		PARAM_FLOAT("xtc_threshold", 0.1, 0, 1,
			    "Of the tokens at least this probable only the least likely is kept when xtc acts; above 0.5 is off."),
};
static const struct weft_sampler sampler = {
	.size = sizeof(sampler),
	.flags = WEFT_SIDE_BY_SIDE,
	.order = 1100,
	.create = create,
	.apply = apply,
	.clone = clone,
	.destroy = free,
};
static const struct weft_plugin plugin = {
	PLUGIN("xtc", "Now and then drops the likeliest tokens, for less predictable text."),
	PARAMS(params),
	.sampler = &sampler,
};

const struct weft_plugin *weft_plugin(void)
{
	return &plugin;
}
