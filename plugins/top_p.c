/* top_p: nucleus sampling. Keeps the smallest set of most likely candidates whose probabilities sum to p or more; never fewer
 * than one. (Holtzman et al., The Curious Case of Neural Text Degeneration, 2020.) */
#include "sampler-util.h"

struct top_p {
	const struct weft_host *host;
	double p;
};

static int create(const struct weft_host *host, struct weft_job *job, const struct weft_value *params, void **self)
{
	*self = NULL;
	if (params[0].f >= 1)
		return 0;
	return create_plain(&(struct top_p){.host = host, .p = params[0].f}, sizeof(struct top_p), self);
}

static int apply(void *self, struct weft_job *job, struct weft_candidates *c)
{
	const struct top_p *s = self;
	double max = candidates_max(c), goal, mass = 0, weights[64];
	uint32_t kept = 0, known = c->sorted ? c->n : 0;

	if (max == -INFINITY)
		return 0;
	goal = s->p * s->host->weigh(c->logits, c->n, max, NULL);
	/* A nucleus is most often small: order no more of the vocabulary than it takes. */
	for (uint32_t k = 64; kept == 0 || (mass < goal && kept < c->n); k = k < c->n / 4 ? k * 4 : c->n) {
		if (k > known) {
			known = k < c->n ? k : c->n;
			s->host->sort(c, known, 0);
		}
		for (uint32_t at = 0; kept < known && (kept == 0 || mass < goal); at = (at + 1) % 64) {
			if (at == 0)
				s->host->weigh(c->logits + kept, known - kept < 64 ? known - kept : 64, max, weights);
			mass += weights[at];
			kept++;
		}
	}
	c->n = kept;
	c->sorted = 1;
	c->dense = 0;
	return 0;
}

static int clone(const void *self, void **copy)
{
	return clone_plain(self, sizeof(struct top_p), copy);
}

static int formula(const void *self, struct weft_formula *out)
{
	const struct top_p *s = self;

	out->kind = WEFT_FORMULA_TOP_P;
	out->x = s->p;
	return 0;
}

static const struct weft_param params[] = {
	PARAM_FLOAT("top_p", 1, 0, 1,
		    "Only the smallest set of most likely tokens whose probabilities sum to at least this can be drawn; 1 is off."),
};
static const struct weft_sampler sampler = {
	.size = sizeof(sampler),
	.flags = WEFT_ARGMAX_INVARIANT | WEFT_DETERMINISTIC | WEFT_SIDE_BY_SIDE,
	.order = 900,
	.create = create,
	.apply = apply,
	.clone = clone,
	.destroy = free,
	.formula = formula,
};
static const struct weft_plugin plugin = {
	PLUGIN("top_p", "Keeps the smallest set of most likely tokens that holds the mass p (nucleus)."),
	PARAMS(params),
	.sampler = &sampler,
};

const struct weft_plugin *weft_plugin(void)
{
	return &plugin;
}
