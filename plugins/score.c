/* score: the decoder that computes log-likelihoods of given continuations.
 *
 * The prompt without its last token is fed once to sequence 0. Each continuation gets a fork of it and feeds the prompt's last
 * token and its own tokens but the last: so the row of each of these tokens predicts the next one, and one row is computed twice so
 * that all continuations can be asked for in the same way. Everything runs by the prompt path. At most WIDTH continuations are
 * under way at once, so that a job's pages are bounded by the prompt and WIDTH continuations. */
#include "declare.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { LOGPROBS, ECHO };
enum { WIDTH = 16 };

struct score {
	const struct weft_host *host;
	bool echo;
	bool prompt_fed; /* planned and committed */
	uint32_t top;
	uint64_t n;     /* continuations */
	uint64_t first; /* the first of those under way, or the next one */
	uint32_t width; /* how many are under way */
	uint32_t seqs[WIDTH];
};

static int create(const struct weft_host *host, struct weft_job *job, const struct weft_value *params, void **self)
{
	uint64_t n = host->continuations(job), prompt = host->prompt(job, &(const int32_t *){NULL});
	struct score *s;

	if (n == 0 && !params[ECHO].i)
		return host->fail(job, WEFT_EINVAL,
				  "nothing to score: give continuations, or echo for the prompt's own log-probabilities");
	if (prompt > host->context(job))
		return host->fail(job, WEFT_EINVAL, "the prompt is longer than the context");
	for (uint64_t i = 0; i < n; i++) {
		uint64_t len = host->continuation(job, i, &(const int32_t *){NULL});

		if (len == 0)
			return host->fail(job, WEFT_EINVAL, "a continuation is empty");
		if (prompt + len - 1 > host->context(job)) /* the last token is not fed */
			return host->fail(job, WEFT_EINVAL, "the prompt and a continuation together are longer than the context");
	}
	s = calloc(1, sizeof(*s));
	if (!s)
		return WEFT_ENOMEM;
	s->host = host;
	s->echo = params[ECHO].i;
	s->top = params[LOGPROBS].i > 0 ? (uint32_t)params[LOGPROBS].i : 0;
	s->n = n;
	*self = s;
	return 0;
}

/* The prompt but its last token; all of it where nothing comes behind it. Targets: the prompt's own tokens from the second on. */
static int plan_prompt(struct score *s, struct weft_job *job)
{
	struct weft_feed f = {.size = sizeof(f), .flags = WEFT_FEED_PROMPT, .top = s->top};
	uint64_t n = s->host->prompt(job, &f.tokens);

	f.n_tokens = (uint32_t)(n > 1 ? n - 1 : 1);
	f.targets = s->echo && n > 1 ? f.tokens + 1 : NULL;
	return s->host->feed(job, &f);
}

/* One fork and one feed for continuation i. `tokens` has room for 1 + its tokens. */
static int plan_one(struct score *s, struct weft_job *job, uint64_t i, uint32_t *seq)
{
	struct weft_feed f = {.size = sizeof(f), .flags = WEFT_FEED_PROMPT, .top = s->top};
	const int32_t *prompt;
	uint64_t n_prompt = s->host->prompt(job, &prompt), n = s->host->continuation(job, i, &f.targets);
	int32_t *tokens = malloc(n * sizeof(*tokens));
	int rc;

	if (!tokens)
		return WEFT_ENOMEM;
	tokens[0] = prompt[n_prompt - 1];
	memcpy(tokens + 1, f.targets, (n - 1) * sizeof(*tokens));
	f.tokens = tokens;
	f.n_tokens = (uint32_t)n;
	rc = s->host->fork(job, 0, seq);
	f.seq = *seq;
	if (!rc)
		rc = s->host->feed(job, &f);
	free(tokens);
	return rc;
}

static int plan(void *self, struct weft_job *job)
{
	struct score *s = self;
	const int32_t *prompt;
	int rc = 0;

	if (!s->prompt_fed && (s->n == 0 || s->host->prompt(job, &prompt) > 1))
		return plan_prompt(s, job);
	s->prompt_fed = true;
	for (uint32_t k = 0; k < s->width && !rc; k++)
		rc = s->host->drop(job, s->seqs[k]);
	s->first += s->width;
	s->width = 0;
	while (!rc && s->width < WIDTH && s->first + s->width < s->n) {
		rc = plan_one(s, job, s->first + s->width, &s->seqs[s->width]);
		s->width++;
	}
	return rc;
}

static int emit_continuation(struct score *s, struct weft_job *job, uint64_t i, const struct weft_result *r)
{
	struct weft_score score = {
		.size = sizeof(score), .index = (uint32_t)i, .greedy = 1, .n_tokens = r->n_targets, .tokens = r->targets};

	for (uint32_t k = 0; k < r->n_targets; k++) {
		score.logprob += r->targets[k].logprob;
		score.greedy &= r->targets[k].greedy;
	}
	return s->host->score(job, &score);
}

/* The prompt's own score: its first token, of which nothing can be said, and the results of the others (r may be NULL: there are
 * none). */
static int emit_prompt(struct score *s, struct weft_job *job, const struct weft_result *r)
{
	const int32_t *prompt;
	uint64_t n = s->host->prompt(job, &prompt);
	struct weft_score score = {.size = sizeof(score), .greedy = 1, .n_tokens = (uint32_t)n, .first_null = 1};
	struct weft_drawn *tokens = malloc(n * sizeof(*tokens));
	int rc;

	if (!tokens)
		return WEFT_ENOMEM;
	tokens[0] = (struct weft_drawn){.size = sizeof(tokens[0]), .token = prompt[0]};
	for (uint64_t i = 1; i < n; i++) {
		tokens[i] = r->targets[i - 1];
		score.logprob += tokens[i].logprob;
		score.greedy &= tokens[i].greedy;
	}
	score.tokens = tokens;
	rc = s->host->score(job, &score);
	free(tokens);
	return rc;
}

static int commit(void *self, struct weft_job *job, const struct weft_result *results, uint32_t n_results)
{
	struct score *s = self;
	int rc = 0;

	if (!s->prompt_fed) {
		s->prompt_fed = true;
		if (s->echo)
			rc = emit_prompt(s, job, &results[0]);
		if (!rc && s->n == 0)
			rc = s->host->done(job);
		return rc;
	}
	/* A prompt of one token has no shared part: its score was not asked for yet. */
	if (s->echo && s->first == 0 && s->host->prompt(job, &(const int32_t *){NULL}) == 1)
		rc = emit_prompt(s, job, NULL);
	for (uint32_t k = 0; k < s->width && k < n_results && !rc; k++)
		rc = emit_continuation(s, job, s->first + k, &results[k]);
	if (!rc)
		rc = s->host->progress(job, s->first + s->width, s->n);
	if (!rc && s->first + s->width == s->n)
		rc = s->host->done(job);
	return rc;
}

/* The state as bytes, for weftd on this machine: what is under way and what is next. */
struct saved {
	uint64_t first;
	uint32_t prompt_fed, width;
	uint32_t seqs[WIDTH];
};

static int save(void *self, struct weft_blob *out)
{
	struct score *s = self;
	struct saved saved = {.first = s->first, .prompt_fed = s->prompt_fed, .width = s->width};

	memcpy(saved.seqs, s->seqs, sizeof(saved.seqs));
	return s->host->blob_write(out, &saved, sizeof(saved));
}

static int load(void *self, const struct weft_blob *in)
{
	struct score *s = self;
	struct saved saved;

	if (in->len != sizeof(saved))
		return WEFT_EINVAL;
	memcpy(&saved, in->data, sizeof(saved));
	if (saved.width > WIDTH || saved.first > s->n || saved.width > s->n - saved.first)
		return WEFT_EINVAL;
	s->prompt_fed = saved.prompt_fed;
	s->first = saved.first;
	s->width = saved.width;
	memcpy(s->seqs, saved.seqs, sizeof(s->seqs));
	return 0;
}

static const struct weft_param params[] = {
	[LOGPROBS] = SHARED_LOGPROBS,
	[ECHO] = SHARED_ECHO,
};
static const struct weft_decoder decoder = {
	.size = sizeof(decoder),
	.create = create,
	.plan = plan,
	.commit = commit,
	.save = save,
	.load = load,
	.destroy = free,
};
static const struct weft_plugin plugin = {
	PLUGIN("score", "Gives the log-likelihood of continuations of a prompt, and of the prompt itself."),
	PARAMS(params),
	.decoder = &decoder,
};

const struct weft_plugin *weft_plugin(void)
{
	return &plugin;
}
