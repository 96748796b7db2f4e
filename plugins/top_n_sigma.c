/* top_n_sigma: keeps the candidates whose logit is within n standard deviations of the largest one. (Tang et al., Top-n sigma: Not
 * All Logits Are You Need, 2024.) The deviation is that of the possible candidates as a population. What is kept does not depend on
 * the temperature, since dividing all logits by T scales both sides alike. */
#include "sampler-util.h"

struct top_n_sigma {
	double n;
};

static int create(const struct weft_host *host, struct weft_job *job, const struct weft_value *params, void **self)
{
	*self = NULL;
	if (params[0].f <= 0)
		return 0;
	return create_plain(&(struct top_n_sigma){.n = params[0].f}, sizeof(struct top_n_sigma), self);
}

static int apply(void *self, struct weft_job *job, struct weft_candidates *c)
{
	const struct top_n_sigma *s = self;
	double max = candidates_max(c), sum = 0, squares = 0, mean;
	uint32_t n = 0;

	if (max == -INFINITY)
		return 0;
	for (uint32_t i = 0; i < c->n; i++) {
		if (c->logits[i] != -INFINITY) {
			sum += c->logits[i];
			n++;
		}
	}
	mean = sum / n;
	for (uint32_t i = 0; i < c->n; i++) {
		if (c->logits[i] != -INFINITY)
			squares += (c->logits[i] - mean) * (c->logits[i] - mean);
	}
	candidates_drop_below(c, max - s->n * sqrt(squares / n));
	return 0;
}

static int clone(const void *self, void **copy)
{
	return clone_plain(self, sizeof(struct top_n_sigma), copy);
}

static const struct weft_param params[] = {
	PARAM_FLOAT(
		"top_n_sigma", -1, -1, 1000,
		"Only tokens whose logit is within this many standard deviations of the largest can be drawn; 0 or below is off."),
};
static const struct weft_sampler sampler = {
	.size = sizeof(sampler),
	.flags = WEFT_ARGMAX_INVARIANT | WEFT_DETERMINISTIC | WEFT_SIDE_BY_SIDE,
	.order = 600,
	.create = create,
	.apply = apply,
	.clone = clone,
	.destroy = free,
};
static const struct weft_plugin plugin = {
	PLUGIN("top_n_sigma", "Keeps tokens whose logit is near the largest, in standard deviations."),
	PARAMS(params),
	.sampler = &sampler,
};

const struct weft_plugin *weft_plugin(void)
{
	return &plugin;
}
