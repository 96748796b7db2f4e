/* bans: tokens that cannot be drawn. banned_tokens never; with allowed_tokens, all others never; and until the answer has
 * min_tokens tokens, those that would end it (the end-of-text token, unless ignore_eos, and stop_token_ids). */
#include "sampler-util.h"

enum { ALLOWED, BANNED, MIN_TOKENS, STOP_TOKEN_IDS, IGNORE_EOS };
enum { FREE, BANNED_EARLY, BANNED_ALWAYS };

struct bans {
	const struct weft_host *host;
	uint64_t min_tokens;
	uint32_t vocab;
	uint8_t mark[]; /* [vocab]: FREE and so on */
};

static int check_ids(const struct weft_host *host, struct weft_job *job, const struct weft_value *list, const char *text)
{
	for (uint64_t i = 0; i < list->n; i++) {
		if (list->ints[i] >= host->vocab(job))
			return host->fail(job, WEFT_EINVAL, text);
	}
	return 0;
}

static void mark_all(struct bans *s, struct weft_job *job, const struct weft_value *p)
{
	int32_t eos = s->host->eos(job);

	memset(s->mark, p[ALLOWED].n ? BANNED_ALWAYS : FREE, s->vocab);
	for (uint64_t i = 0; i < p[ALLOWED].n; i++)
		s->mark[p[ALLOWED].ints[i]] = FREE;
	for (uint64_t i = 0; i < p[BANNED].n; i++)
		s->mark[p[BANNED].ints[i]] = BANNED_ALWAYS;
	if (!s->min_tokens)
		return;
	for (uint64_t i = 0; i < p[STOP_TOKEN_IDS].n; i++) {
		uint8_t *mark = &s->mark[p[STOP_TOKEN_IDS].ints[i]];

		*mark = *mark == FREE ? BANNED_EARLY : *mark;
	}
	if (eos >= 0 && !p[IGNORE_EOS].i && s->mark[eos] == FREE)
		s->mark[eos] = BANNED_EARLY;
}

static int create(const struct weft_host *host, struct weft_job *job, const struct weft_value *params, void **self)
{
	struct bans *s;
	uint32_t vocab = host->vocab(job), left = 0;
	int rc = check_ids(host, job, &params[ALLOWED], "allowed_tokens: an id is outside the vocabulary");

	*self = NULL;
	if (!rc)
		rc = check_ids(host, job, &params[BANNED], "banned_tokens: an id is outside the vocabulary");
	if (!rc)
		rc = check_ids(host, job, &params[STOP_TOKEN_IDS], "stop_token_ids: an id is outside the vocabulary");
	if (rc || (!params[ALLOWED].n && !params[BANNED].n && !params[MIN_TOKENS].i))
		return rc;
	s = malloc(sizeof(*s) + vocab);
	if (!s)
		return WEFT_ENOMEM;
	s->host = host;
	s->min_tokens = (uint64_t)params[MIN_TOKENS].i;
	s->vocab = vocab;
	mark_all(s, job, params);
	for (uint32_t i = 0; i < vocab; i++)
		left += s->mark[i] == FREE;
	if (left == 0 || left == vocab) {
		free(s);
		return left ? 0
			    : host->fail(job, WEFT_EINVAL,
					 "allowed_tokens, banned_tokens and min_tokens together leave no token to draw");
	}
	*self = s;
	return 0;
}

static int apply(void *self, struct weft_job *job, struct weft_candidates *c)
{
	const struct bans *s = self;
	uint8_t worst = c->generated < s->min_tokens ? FREE : BANNED_EARLY;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < c->n; i++) {
		if (s->mark[c->ids[i]] > worst)
			continue;
		c->ids[kept] = c->ids[i];
		c->logits[kept++] = c->logits[i];
	}
	if (!kept)
		return s->host->fail(job, WEFT_EINVAL, "a sampler before bans left banned tokens only; put bans first in samplers");
	if (kept < c->n)
		c->dense = 0;
	c->n = kept;
	return 0;
}

static int clone(const void *self, void **copy)
{
	const struct bans *s = self;

	return clone_plain(s, sizeof(*s) + s->vocab, copy);
}

static const struct weft_param params[] = {
	[ALLOWED] = PARAM_LIST(WEFT_INT_LIST, "allowed_tokens", 0, TOKEN_MAX, 65536,
			       "Only these token ids can be drawn; empty is off."),
	[BANNED] =
		PARAM_LIST(WEFT_INT_LIST, "banned_tokens", 0, TOKEN_MAX, 65536, "These token ids cannot be drawn; empty is off."),
	[MIN_TOKENS] = SHARED_MIN_TOKENS,
	[STOP_TOKEN_IDS] = SHARED_STOP_TOKEN_IDS,
	[IGNORE_EOS] = SHARED_IGNORE_EOS,
};
static const struct weft_sampler sampler = {
	.size = sizeof(sampler),
	.flags = WEFT_DETERMINISTIC | WEFT_SIDE_BY_SIDE,
	.order = 100,
	.create = create,
	.apply = apply,
	.clone = clone,
	.destroy = free,
};
static const struct weft_plugin plugin = {
	PLUGIN("bans", "Forbids tokens: banned ones, all but allowed ones, and early ends."),
	PARAMS(params),
	.sampler = &sampler,
};

const struct weft_plugin *weft_plugin(void)
{
	return &plugin;
}
