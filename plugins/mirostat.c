/* mirostat: holds the surprise of the drawn tokens near a target, by cutting off what is too surprising. Version 2. (Basu et al.,
 * Mirostat: A Neural Text Decoding Algorithm that Directly Controls Perplexity, 2021, algorithm 2.)
 *
 * Surprise is -log2 p. Each step drops the candidates whose surprise is above mu (the most likely one always stays); then, of the
 * token that was drawn, by its probability among those left, mu -= eta * (surprise - tau). mu begins at 2 * tau.
 * It stands in for top_k, top_p and the like: leave those neutral. It must come last, since it learns from what it left. */
#include "sampler-util.h"

enum { VERSION, TAU, ETA };

struct mirostat {
	const struct weft_host *host;
	double tau, eta, mu;
	uint32_t n, cap;   /* what the last apply() left: */
	int32_t *ids;      /* [n] */
	double *surprises; /* [n] */
};

static void destroy(void *self)
{
	struct mirostat *s = self;

	free(s->ids);
	free(s->surprises);
	free(s);
}

static int create(const struct weft_host *host, struct weft_job *job, const struct weft_value *params, void **self)
{
	*self = NULL;
	if (params[VERSION].i == 0)
		return 0;
	if (params[VERSION].i == 1)
		return host->fail(job, WEFT_EUNSUPPORTED, "version 1 is not offered; use 2, or 0 for off");
	return create_plain(&(struct mirostat){.host = host, .tau = params[TAU].f, .eta = params[ETA].f, .mu = 2 * params[TAU].f},
			    sizeof(struct mirostat), self);
}

static int reserve(struct mirostat *s, uint32_t n)
{
	void *ids, *surprises;

	if (n <= s->cap)
		return 0;
	ids = realloc(s->ids, n * sizeof(s->ids[0]));
	s->ids = ids ? ids : s->ids;
	surprises = realloc(s->surprises, n * sizeof(s->surprises[0]));
	s->surprises = surprises ? surprises : s->surprises;
	if (!ids || !surprises)
		return WEFT_ENOMEM;
	s->cap = n;
	return 0;
}

static int apply(void *self, struct weft_job *job, struct weft_candidates *c)
{
	struct mirostat *s = self;
	double max = candidates_max(c), log_sum, least;
	int rc;

	s->n = 0;
	if (max == -INFINITY)
		return 0;
	least = max + log(candidates_sum(c, max)) - s->mu * M_LN2;
	candidates_drop_below(c, least < max ? least : max);
	log_sum = log(candidates_sum(c, max));
	rc = reserve(s, c->n);
	if (rc)
		return rc;
	for (s->n = 0; s->n < c->n; s->n++) {
		s->ids[s->n] = c->ids[s->n];
		s->surprises[s->n] = (log_sum - (c->logits[s->n] - max)) / M_LN2;
	}
	return 0;
}

static int accept(void *self, struct weft_job *job, int32_t token, uint32_t from_prompt)
{
	struct mirostat *s = self;

	for (uint32_t i = 0; i < s->n; i++) {
		if (s->ids[i] == token) {
			s->mu -= s->eta * (s->surprises[i] - s->tau);
			break;
		}
	}
	s->n = 0;
	return 0;
}

static int save(void *self, struct weft_blob *out)
{
	struct mirostat *s = self;

	return s->host->blob_write(out, &s->mu, sizeof(s->mu));
}

static int load(void *self, const struct weft_blob *in)
{
	struct mirostat *s = self;

	if (in->len != sizeof(s->mu))
		return WEFT_EINVAL;
	memcpy(&s->mu, in->data, sizeof(s->mu));
	return isnan(s->mu) ? WEFT_EINVAL : 0;
}

/* Between two tokens: what apply() left is not needed any more. */
static int clone(const void *self, void **copy)
{
	struct mirostat fresh = *(const struct mirostat *)self;

	fresh.n = fresh.cap = 0;
	fresh.ids = NULL;
	fresh.surprises = NULL;
	return clone_plain(&fresh, sizeof(fresh), copy);
}

static const struct weft_param params[] = {
	[VERSION] = PARAM_INT("mirostat", 0, 0, 2,
			      "2 holds the surprise of the drawn tokens near mirostat_tau (version 1 is refused); 0 is off."),
	[TAU] = PARAM_FLOAT("mirostat_tau", 5, 0, 100, "The surprise per token, in bits, that mirostat aims at."),
	[ETA] = PARAM_FLOAT("mirostat_eta", 0.1, 0, 1, "How fast mirostat corrects itself; 0 keeps its first cut-off."),
};
static const struct weft_sampler sampler = {
	.size = sizeof(sampler),
	.flags = WEFT_ARGMAX_INVARIANT | WEFT_DETERMINISTIC | WEFT_SIDE_BY_SIDE,
	.order = 1200,
	.create = create,
	.apply = apply,
	.accept = accept,
	.save = save,
	.load = load,
	.clone = clone,
	.destroy = destroy,
};
static const struct weft_plugin plugin = {
	PLUGIN("mirostat", "Holds the surprise of the answer near a target."),
	PARAMS(params),
	.sampler = &sampler,
};

const struct weft_plugin *weft_plugin(void)
{
	return &plugin;
}
