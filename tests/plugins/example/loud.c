/* loud: a decoder. Draws one answer and gives its text in capitals; told to, it fails at a step. */
#include <stdlib.h>
#include <string.h>
#include <weft-plugin.h>

enum { MAX_TOKENS, FAIL_AT }; /* places in params[] */

struct loud {
	const struct weft_host *host;
	int64_t max_tokens, fail_at;
	int64_t room; /* tokens that fit behind the prompt */
	int64_t step; /* forward passes so far */
	int32_t last; /* the token drawn last: not fed yet */
};

static int create(const struct weft_host *host, struct weft_job *job, const struct weft_value *params, void **self)
{
	struct loud *s;
	const int32_t *prompt;
	uint64_t n_prompt = host->prompt(job, &prompt);

	if (n_prompt >= host->context(job))
		return host->fail(job, WEFT_EINVAL, "the prompt fills the context");
	s = calloc(1, sizeof(*s));
	if (!s)
		return WEFT_ENOMEM;
	s->host = host;
	s->max_tokens = params[MAX_TOKENS].i;
	s->fail_at = params[FAIL_AT].i;
	s->room = (int64_t)(host->context(job) - n_prompt);
	*self = s;
	return 0;
}

/* First the prompt, then the token drawn last; behind either, one token for choice 0. */
static int plan(void *self, struct weft_job *job)
{
	struct loud *s = self;
	uint32_t choice = 0;
	struct weft_feed f = {.size = sizeof(f), .seq = 0, .choices = &choice, .n_choices = 1};

	if (s->step == 0) {
		f.flags = WEFT_FEED_PROMPT;
		f.n_tokens = (uint32_t)s->host->prompt(job, &f.tokens);
	} else {
		f.tokens = &s->last;
		f.n_tokens = 1;
	}
	return s->host->feed(job, &f);
}

/* Sends one token with text in capitals. text is borrowed, so it is copied before it is changed. */
static int send(struct loud *s, struct weft_job *job, const int32_t *token, const char *text, uint64_t len)
{
	struct weft_delta d = {.size = sizeof(d), .choice = 0, .text_len = len, .tokens = token, .n_tokens = token ? 1 : 0};
	char *capitals;
	int rc;

	if (!token && len == 0)
		return 0;
	capitals = malloc(len + 1);
	if (!capitals)
		return WEFT_ENOMEM;
	for (uint64_t i = 0; i < len; i++)
		capitals[i] = text[i] >= 'a' && text[i] <= 'z' ? (char)(text[i] - 'a' + 'A') : text[i];
	d.text = capitals;
	rc = s->host->delta(job, &d);
	free(capitals);
	return rc;
}

static int end(struct loud *s, struct weft_job *job, uint32_t finish)
{
	const char *text;
	uint64_t len;
	int rc = s->host->detokenize(job, 0, -1, &text, &len); /* what is left of an unfinished character */

	if (!rc)
		rc = send(s, job, NULL, text, len);
	if (!rc)
		rc = s->host->finish(job, 0, finish);
	return rc ? rc : s->host->done(job);
}

static int commit(void *self, struct weft_job *job, const struct weft_result *results, uint32_t n_results)
{
	struct loud *s = self;
	const char *text;
	uint64_t len;
	int rc;

	(void)n_results; /* one feed, one result */
	s->last = results[0].draws[0].token;
	s->step++;
	if (s->step == s->fail_at)
		return s->host->fail(job, WEFT_EINTERNAL, "loud was told to fail here");
	rc = s->host->detokenize(job, 0, s->last, &text, &len);
	if (!rc)
		rc = send(s, job, &s->last, text, len);
	if (rc)
		return rc;
	if (s->last == s->host->eos(job))
		return end(s, job, WEFT_FINISH_STOP);
	if (s->step == s->max_tokens)
		return end(s, job, WEFT_FINISH_LENGTH);
	if (s->step == s->room)
		return end(s, job, WEFT_FINISH_CONTEXT);
	return 0;
}

/* What of the state does not follow from the request: create() has the rest again after a restart. */
struct saved {
	int64_t step, last;
};

static int save(void *self, struct weft_blob *out)
{
	struct loud *s = self;
	struct saved saved = {.step = s->step, .last = s->last};

	return s->host->blob_write(out, &saved, sizeof(saved));
}

static int load(void *self, const struct weft_blob *in)
{
	struct loud *s = self;
	struct saved saved;

	if (in->len != sizeof(saved))
		return WEFT_EINVAL;
	memcpy(&saved, in->data, sizeof(saved));
	s->step = saved.step;
	s->last = (int32_t)saved.last;
	return 0;
}

static const struct weft_param params[] = {
	/* As the decoder sample declares it: shared parameters must agree in type, default and range. */
	[MAX_TOKENS] = {.size = sizeof(struct weft_param),
			.type = WEFT_INT,
			.name = "max_tokens",
			.def = 0,
			.min = 0,
			.max = 1 << 24,
			.shared = 1,
			.doc = "Tokens an answer has at most; 0: until the context is full."},
	[FAIL_AT] = {.size = sizeof(struct weft_param),
		     .type = WEFT_INT,
		     .name = "loud_fail_at",
		     .def = 0,
		     .min = 0,
		     .max = 1000000,
		     .doc = "The token at which loud fails, counted from 1; 0 is never."},
};

static const struct weft_decoder decoder = {
	.size = sizeof(struct weft_decoder),
	.create = create,
	.plan = plan,
	.commit = commit,
	.save = save,
	.load = load,
	.destroy = free,
};

static const struct weft_plugin plugin = {
	.size = sizeof(struct weft_plugin),
	.abi = WEFT_ABI,
	.name = "loud",
	.version = "1.0",
	.doc = "Draws one answer, in capitals.",
	.params = params,
	.n_params = 2,
	.decoder = &decoder,
};

const struct weft_plugin *weft_plugin(void)
{
	return &plugin;
}
