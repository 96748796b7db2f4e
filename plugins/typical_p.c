/* typical_p: locally typical sampling. Orders the candidates by how near their surprise -ln p is to the entropy of the whole
 * distribution, and keeps the smallest set from the front whose probabilities sum to typical_p or more; never fewer than one.
 * (Meister et al., Locally Typical Sampling, 2023.) Equally near ones: the likelier first, then the lower id. */
#include "sampler-util.h"

struct typical_p {
	double p;
};

struct rated {
	double distance; /* |surprise - entropy| */
	float logit;
	int32_t id;
};

static int create(const struct weft_host *host, struct weft_job *job, const struct weft_value *params, void **self)
{
	*self = NULL;
	if (params[0].f >= 1)
		return 0;
	return create_plain(&(struct typical_p){.p = params[0].f}, sizeof(struct typical_p), self);
}

static int rated_before(const struct rated *a, const struct rated *b)
{
	if (a->distance != b->distance)
		return a->distance < b->distance;
	return a->logit != b->logit ? a->logit > b->logit : a->id < b->id;
}

/* r[0 .. n) is a heap, the first at its root, but for r[at], which may belong further down. */
static void rated_sink(struct rated *r, uint32_t n, uint32_t at)
{
	for (uint32_t child = 2 * at + 1; child < n; child = 2 * at + 1) {
		struct rated held = r[at];

		if (child + 1 < n && rated_before(&r[child + 1], &r[child]))
			child++;
		if (!rated_before(&r[child], &held))
			break;
		r[at] = r[child];
		r[child] = held;
		at = child;
	}
}

static int apply(void *self, struct weft_job *job, struct weft_candidates *c)
{
	const struct typical_p *s = self;
	double max = candidates_max(c), log_sum, sum, entropy = 0, mass = 0;
	struct rated *r;
	uint32_t n = 0, kept = 0;

	if (max == -INFINITY)
		return 0;
	r = malloc(c->n * sizeof(*r));
	if (!r)
		return WEFT_ENOMEM;
	sum = candidates_sum(c, max);
	log_sum = log(sum);
	for (uint32_t i = 0; i < c->n; i++) {
		double surprise = log_sum - (c->logits[i] - max);

		if (c->logits[i] == -INFINITY)
			continue;
		entropy += exp(-surprise) * surprise;
		r[n++] = (struct rated){.distance = surprise, .logit = c->logits[i], .id = c->ids[i]};
	}
	for (uint32_t i = 0; i < n; i++)
		r[i].distance = fabs(r[i].distance - entropy);
	for (uint32_t i = n / 2; i-- > 0;) /* a heap: what is kept is most often little of the vocabulary */
		rated_sink(r, n, i);
	while (n && (kept == 0 || mass < s->p * sum)) {
		c->ids[kept] = r[0].id;
		c->logits[kept++] = r[0].logit;
		mass += exp(r[0].logit - max);
		r[0] = r[--n];
		rated_sink(r, n, 0);
	}
	free(r);
	c->n = kept;
	c->sorted = 0;
	c->dense = 0;
	return 0;
}

static int clone(const void *self, void **copy)
{
	return clone_plain(self, sizeof(struct typical_p), copy);
}

static const struct weft_param params[] = {
	PARAM_FLOAT("typical_p", 1, 0, 1,
		    "Only the most typical tokens, by closeness of surprise to entropy, whose probabilities sum to at least this "
		    "can be drawn; "
		    "1 is off."),
};
static const struct weft_sampler sampler = {
	.size = sizeof(sampler),
	.flags = WEFT_DETERMINISTIC | WEFT_SIDE_BY_SIDE,
	.order = 800,
	.create = create,
	.apply = apply,
	.clone = clone,
	.destroy = free,
};
static const struct weft_plugin plugin = {
	PLUGIN("typical_p", "Keeps tokens about as surprising as the distribution is on average."),
	PARAMS(params),
	.sampler = &sampler,
};

const struct weft_plugin *weft_plugin(void)
{
	return &plugin;
}
