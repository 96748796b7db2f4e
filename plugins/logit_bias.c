/* logit_bias: adds a number to the logits of chosen tokens. */
#include "sampler-util.h"

struct logit_bias {
	uint32_t vocab;
	float bias[]; /* [vocab] */
};

static int create(const struct weft_host *host, struct weft_job *job, const struct weft_value *params, void **self)
{
	uint32_t vocab = host->vocab(job);
	struct logit_bias *s;
	uint64_t biased = 0;

	*self = NULL;
	for (uint64_t i = 0; i < params[0].n; i++)
		biased += params[0].floats[i] != 0;
	if (!biased)
		return 0;
	s = calloc(1, sizeof(*s) + vocab * sizeof(s->bias[0]));
	if (!s)
		return WEFT_ENOMEM;
	s->vocab = vocab;
	for (uint64_t i = 0; i < params[0].n; i++)
		s->bias[params[0].ints[i]] = (float)params[0].floats[i];
	*self = s;
	return 0;
}

static int apply(void *self, struct weft_job *job, struct weft_candidates *c)
{
	const struct logit_bias *s = self;

	for (uint32_t i = 0; i < c->n; i++)
		c->logits[i] += s->bias[c->ids[i]];
	c->sorted = 0;
	return 0;
}

static int clone(const void *self, void **copy)
{
	const struct logit_bias *s = self;

	return clone_plain(s, sizeof(*s) + s->vocab * sizeof(s->bias[0]), copy);
}

static const struct weft_param params[] = {
	PARAM_LIST(WEFT_TOKEN_MAP, "logit_bias", -100, 100, 4096,
		   "Numbers from -100 to 100 to add to the logits of these token ids (-100 all but forbids, 100 all but forces); "
		   "empty is off."),
};
static const struct weft_sampler sampler = {
	.size = sizeof(sampler),
	.flags = WEFT_DETERMINISTIC | WEFT_SIDE_BY_SIDE,
	.order = 200,
	.create = create,
	.apply = apply,
	.clone = clone,
	.destroy = free,
};
static const struct weft_plugin plugin = {
	PLUGIN("logit_bias", "Makes chosen tokens likelier or less likely."),
	PARAMS(params),
	.sampler = &sampler,
};

const struct weft_plugin *weft_plugin(void)
{
	return &plugin;
}
