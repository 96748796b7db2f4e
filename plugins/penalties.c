/* penalties: makes tokens that were there before less likely.
 *
 * repetition_penalty r: the logit of every token of prompt or answer is divided by r when positive and multiplied by r when not
 * (Keskar et al., CTRL, 2019). presence_penalty and frequency_penalty look at the answer only: a token that occurs k times in it
 * loses presence + k * frequency. penalty_last_n limits all three to the last n tokens of the sequence. */
#include "sampler-util.h"

enum { REPETITION, PRESENCE, FREQUENCY, LAST_N };

struct counts {
	uint32_t all;    /* occurrences in the window */
	uint32_t answer; /* those drawn */
};

struct penalties {
	double repetition, presence, frequency;
	uint32_t vocab;
	uint32_t window;        /* tokens; 0: the whole history */
	uint64_t seen;          /* tokens accepted */
	struct counts counts[]; /* [vocab], then the window: uint32_t[window], token << 1 | drawn, place seen % window */
};

static uint32_t *window(struct penalties *s)
{
	return (uint32_t *)(s->counts + s->vocab);
}

static size_t bytes(uint32_t vocab, uint32_t window)
{
	return sizeof(struct penalties) + vocab * sizeof(struct counts) + window * sizeof(uint32_t);
}

static int create(const struct weft_host *host, struct weft_job *job, const struct weft_value *params, void **self)
{
	struct penalties *s;
	uint32_t vocab = host->vocab(job), window = (uint32_t)params[LAST_N].i;

	*self = NULL;
	if (params[REPETITION].f == 1 && params[PRESENCE].f == 0 && params[FREQUENCY].f == 0)
		return 0;
	window = window < host->context(job) ? window : 0;
	s = calloc(1, bytes(vocab, window));
	if (!s)
		return WEFT_ENOMEM;
	s->repetition = params[REPETITION].f;
	s->presence = params[PRESENCE].f;
	s->frequency = params[FREQUENCY].f;
	s->vocab = vocab;
	s->window = window;
	*self = s;
	return 0;
}

static int apply(void *self, struct weft_job *job, struct weft_candidates *c)
{
	const struct penalties *s = self;

	for (uint32_t i = 0; i < c->n; i++) {
		const struct counts *k = &s->counts[c->ids[i]];
		double l = c->logits[i];

		if (!k->all)
			continue;
		l = l > 0 ? l / s->repetition : l * s->repetition;
		if (k->answer)
			l -= s->presence + k->answer * s->frequency;
		c->logits[i] = logit_from(l);
	}
	c->sorted = 0;
	return 0;
}

static void count(struct penalties *s, uint32_t entry, uint32_t by)
{
	s->counts[entry >> 1].all += by;
	if (entry & 1)
		s->counts[entry >> 1].answer += by;
}

static int accept(void *self, struct weft_job *job, int32_t token, uint32_t from_prompt)
{
	struct penalties *s = self;
	uint32_t entry = (uint32_t)token << 1 | !from_prompt;

	if (s->window) {
		uint32_t *place = &window(s)[s->seen % s->window];

		if (s->seen >= s->window)
			count(s, *place, -1u);
		*place = entry;
	}
	count(s, entry, 1);
	s->seen++;
	return 0;
}

static int clone(const void *self, void **copy)
{
	const struct penalties *s = self;

	return clone_plain(s, bytes(s->vocab, s->window), copy);
}

static const struct weft_param params[] = {
	[REPETITION] = PARAM_FLOAT(
		"repetition_penalty", 1, 0.01, 100,
		"Divides the positive and multiplies the negative logits of tokens in prompt and answer; 1 is neutral."),
	[PRESENCE] = PARAM_FLOAT("presence_penalty", 0, -10, 10,
				 "Subtracted from the logits of tokens that the answer has; 0 is neutral."),
	[FREQUENCY] = PARAM_FLOAT("frequency_penalty", 0, -10, 10,
				  "Subtracted from a token's logit once for each time that the answer has it; 0 is neutral."),
	[LAST_N] = PARAM_INT("penalty_last_n", 0, 0, 1 << 20,
			     "How many of the last tokens the penalties look at; 0: all of prompt and answer."),
};
static const struct weft_sampler sampler = {
	.size = sizeof(sampler),
	.flags = WEFT_NEEDS_HISTORY | WEFT_DETERMINISTIC | WEFT_SIDE_BY_SIDE,
	.order = 300,
	.create = create,
	.apply = apply,
	.accept = accept,
	.clone = clone,
	.destroy = free,
};
static const struct weft_plugin plugin = {
	PLUGIN("penalties", "Makes tokens that were there before less likely."),
	PARAMS(params),
	.sampler = &sampler,
};

const struct weft_plugin *weft_plugin(void)
{
	return &plugin;
}
