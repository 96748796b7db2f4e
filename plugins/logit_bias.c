/* logit_bias: adds a number to the logits of chosen tokens. */
#include "sampler-util.h"

struct logit_bias {
	uint32_t vocab, n;
	float bias[]; /* [vocab], then the tokens that have one: int32_t[n] */
};

static int32_t *biased(const struct logit_bias *s)
{
	return (int32_t *)(s->bias + s->vocab);
}

static size_t bytes(uint32_t vocab, uint32_t n)
{
	return sizeof(struct logit_bias) + vocab * sizeof(float) + n * sizeof(int32_t);
}

static int create(const struct weft_host *host, struct weft_job *job, const struct weft_value *params, void **self)
{
	uint32_t vocab = host->vocab(job);
	struct logit_bias *s;
	uint32_t n = 0;

	*self = NULL;
	for (uint64_t i = 0; i < params[0].n; i++)
		n += params[0].floats[i] != 0;
	if (!n)
		return 0;
	s = calloc(1, bytes(vocab, n));
	if (!s)
		return WEFT_ENOMEM;
	s->vocab = vocab;
	for (uint64_t i = 0; i < params[0].n; i++) {
		if (params[0].floats[i] == 0)
			continue;
		s->bias[params[0].ints[i]] = (float)params[0].floats[i];
		biased(s)[s->n++] = (int32_t)params[0].ints[i];
	}
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

	return clone_plain(s, bytes(s->vocab, s->n), copy);
}

/* A sum of two floats is the same whether it is rounded once or, by way of double, twice. */
static int formula(const void *self, struct weft_formula *out)
{
	const struct logit_bias *s = self;
	const int32_t *token = biased(s);

	if (!WEFT_HAS(out, n_edits) || s->n > out->room)
		return WEFT_EUNSUPPORTED;
	out->kind = WEFT_FORMULA_EDITS;
	out->n_edits = s->n;
	for (uint32_t i = 0; i < s->n; i++)
		out->edits[i] = (struct weft_edit){.token = token[i], .ratio = 1, .minus = -(double)s->bias[token[i]]};
	return 0;
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
	.formula = formula,
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
