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
	uint32_t place;  /* in the list, with any */
};

struct penalties {
	double repetition, presence, frequency;
	uint32_t vocab;
	uint32_t window;        /* tokens; 0: the whole history */
	uint64_t seen;          /* tokens accepted */
	uint32_t n;             /* tokens that occur */
	/* [vocab], then the list of those that occur: uint32_t[vocab]; then the window: uint32_t[window], token << 1 | drawn, place
	 * seen % window */
	struct counts counts[];
};

static uint32_t *list(const struct penalties *s)
{
	return (uint32_t *)(s->counts + s->vocab);
}

static uint32_t *window(struct penalties *s)
{
	return list(s) + s->vocab;
}

static size_t bytes(uint32_t vocab, uint32_t window)
{
	return sizeof(struct penalties) + vocab * (sizeof(struct counts) + sizeof(uint32_t)) + window * sizeof(uint32_t);
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

/* What a token that occurs loses, once repetition has had its share. */
static double minus(const struct penalties *s, const struct counts *k)
{
	return k->answer ? s->presence + k->answer * s->frequency : 0;
}

static float punished(const struct penalties *s, uint32_t token, double l)
{
	l = l > 0 ? l / s->repetition : l * s->repetition;
	return logit_from(l - minus(s, &s->counts[token]));
}

static int apply(void *self, struct weft_job *job, struct weft_candidates *c)
{
	const struct penalties *s = self;

	for (uint32_t i = 0; i < s->n && c->dense; i++) {
		uint32_t token = list(s)[i];

		c->logits[token] = punished(s, token, c->logits[token]);
	}
	for (uint32_t i = 0; i < c->n && !c->dense; i++)
		if (s->counts[c->ids[i]].all)
			c->logits[i] = punished(s, (uint32_t)c->ids[i], c->logits[i]);
	c->sorted = 0;
	return 0;
}

static void add(struct penalties *s, uint32_t entry)
{
	struct counts *k = &s->counts[entry >> 1];

	if (!k->all++) {
		k->place = s->n++;
		list(s)[k->place] = entry >> 1;
	}
	k->answer += entry & 1;
}

static void take_away(struct penalties *s, uint32_t entry)
{
	struct counts *k = &s->counts[entry >> 1];

	k->answer -= entry & 1;
	if (--k->all)
		return;
	uint32_t last = list(s)[--s->n]; /* moves to where this one stood */
	list(s)[k->place] = last;
	s->counts[last].place = k->place;
}

static int accept(void *self, struct weft_job *job, int32_t token, uint32_t from_prompt)
{
	struct penalties *s = self;
	uint32_t entry = (uint32_t)token << 1 | !from_prompt;

	if (s->window) {
		uint32_t *place = &window(s)[s->seen % s->window];

		if (s->seen >= s->window)
			take_away(s, *place);
		*place = entry;
	}
	add(s, entry);
	s->seen++;
	return 0;
}

static int clone(const void *self, void **copy)
{
	const struct penalties *s = self;

	return clone_plain(s, bytes(s->vocab, s->window), copy);
}

static int formula(const void *self, struct weft_formula *out)
{
	const struct penalties *s = self;

	if (!WEFT_HAS(out, n_edits))
		return WEFT_EUNSUPPORTED;
	out->kind = WEFT_FORMULA_EDITS;
	out->n_edits = 0;
	for (uint32_t i = 0; i < s->n; i++) {
		uint32_t token = list(s)[i];

		if (s->repetition == 1 && !s->counts[token].answer)
			continue;
		if (out->n_edits == out->room)
			return WEFT_EUNSUPPORTED;
		out->edits[out->n_edits++] = (struct weft_edit){
			.token = (int32_t)token, .ratio = s->repetition, .minus = minus(s, &s->counts[token])};
	}
	return 0;
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
	.formula = formula,
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
