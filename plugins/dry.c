/* dry: "don't repeat yourself". Penalises each token that would make a stretch of text go on as it went on before.
 *
 * When the last L tokens of the sequence also stand somewhere earlier, followed by token t, then t loses
 * dry_multiplier * dry_base ^ (L - dry_allowed_length), for the longest such L, if L is dry_allowed_length or more. A match does
 * not reach over a sequence breaker: a token in which an occurrence of one of the breaker strings ends. Breakers themselves are not
 * penalised.
 *
 * All match lengths come from one run of the Z algorithm over the reversed window: z[k] is the length of the longest common
 * prefix of the reversed window and its suffix at k, that is, of the sequence's end and the text that ends k tokens before it. */
#include "sampler-util.h"

#include <stdbool.h>

enum { MULTIPLIER, BASE, ALLOWED_LENGTH, LAST_N, BREAKERS };
enum { BREAKER_MAX_BYTES = 64, BREAKER_MAX_ITEMS = 64 };

struct dry {
	const struct weft_host *host;
	double multiplier, base;
	uint32_t allowed_length;
	uint32_t window;             /* tokens looked at */
	const char *const *breakers; /* [n_breakers]; the request's or ours */
	uint64_t n_breakers;
	size_t tail_max;   /* longest breaker - 1 */
	uint32_t *history; /* [n], oldest first: token << 1 | is a breaker; holds at most 2 * window */
	size_t n, cap;
	uint32_t *longest; /* [vocab], all 0 between calls: longest L of each following token */
	uint32_t vocab;
	char *text; /* the last tail_len bytes of text, with room for one more piece */
	size_t tail_len, text_cap;
};

static const char *const default_breakers[] = {"\n", ":", "\"", "*"};

static void destroy(void *self)
{
	struct dry *s = self;

	free(s->history);
	free(s->longest);
	free(s->text);
	free(s);
}

static int create(const struct weft_host *host, struct weft_job *job, const struct weft_value *params, void **self)
{
	const struct weft_value *b = &params[BREAKERS];
	uint32_t context = host->context(job), last_n = (uint32_t)params[LAST_N].i;
	struct dry *s;

	*self = NULL;
	if (params[MULTIPLIER].f == 0)
		return 0;
	for (uint64_t i = 0; i < b->n; i++) {
		if (strlen(b->strs[i]) > BREAKER_MAX_BYTES)
			return host->fail(job, WEFT_EINVAL, "dry_sequence_breakers: each string must have at most 64 bytes");
	}
	s = calloc(1, sizeof(*s));
	if (!s)
		return WEFT_ENOMEM;
	*s = (struct dry){.host = host,
			  .multiplier = params[MULTIPLIER].f,
			  .base = params[BASE].f,
			  .vocab = host->vocab(job),
			  .allowed_length = (uint32_t)params[ALLOWED_LENGTH].i,
			  .window = last_n && last_n < context ? last_n : context,
			  .breakers = b->n ? b->strs : default_breakers,
			  .n_breakers = b->n ? b->n : sizeof(default_breakers) / sizeof(default_breakers[0])};
	for (uint64_t i = 0; i < s->n_breakers; i++) {
		size_t len = strlen(s->breakers[i]);

		s->tail_max = len > s->tail_max + 1 ? len - 1 : s->tail_max;
	}
	s->longest = calloc(s->vocab, sizeof(s->longest[0]));
	if (!s->longest) {
		destroy(s);
		return WEFT_ENOMEM;
	}
	*self = s;
	return 0;
}

/* ---- history ---- */

static int grow(void **array, size_t *cap, size_t need, size_t item)
{
	size_t more = 2 * need;
	void *grown;

	if (need <= *cap)
		return 0;
	grown = realloc(*array, more * item);
	if (!grown)
		return WEFT_ENOMEM;
	*array = grown;
	*cap = more;
	return 0;
}

/* Does a breaker end within the last `len` bytes of text[0 .. end)? */
static bool breaker_ends(const struct dry *s, size_t end, size_t len)
{
	for (uint64_t i = 0; i < s->n_breakers; i++) {
		size_t n = strlen(s->breakers[i]);

		for (size_t e = end - len + 1; n && e <= end; e++) {
			if (n <= e && memcmp(s->text + e - n, s->breakers[i], n) == 0)
				return true;
		}
	}
	return false;
}

static int accept(void *self, struct weft_job *job, int32_t token, uint32_t from_prompt)
{
	struct dry *s = self;
	uint64_t len = 0;
	const char *piece = s->host->piece(job, token, &len);
	size_t end = s->tail_len + len, keep = end < s->tail_max ? end : s->tail_max;
	int rc = grow((void **)&s->text, &s->text_cap, end, 1);

	if (!rc && s->n == 2 * (size_t)s->window) {
		memmove(s->history, s->history + s->window, s->window * sizeof(s->history[0]));
		s->n = s->window;
	}
	if (!rc)
		rc = grow((void **)&s->history, &s->cap, s->n + 1, sizeof(s->history[0]));
	if (rc)
		return rc;
	if (len)
		memcpy(s->text + s->tail_len, piece, len);
	s->history[s->n++] = (uint32_t)token << 1 | breaker_ends(s, end, len);
	if (keep)
		memmove(s->text, s->text + end - keep, keep);
	s->tail_len = keep;
	return 0;
}

/* ---- matches ---- */

/* z[k] for k in 1 .. n-1 over the sequence that ends at `last` and is read backwards: element i is last[-i]. */
static void z_backwards(const uint32_t *last, size_t n, uint32_t *z)
{
	size_t left = 0, right = 0; /* the match found so far that reaches furthest is [left, right) */

	for (size_t k = 1; k < n; k++) {
		size_t len = 0;

		if (k < right)
			len = z[k - left] < right - k ? z[k - left] : right - k;
		while (k + len < n && *(last - len) >> 1 == *(last - k - len) >> 1)
			len++;
		if (k + len > right) {
			left = k;
			right = k + len;
		}
		z[k] = (uint32_t)len;
	}
}

/* Fills longest[] from the last n tokens of the history. Returns whether any token is to be penalised. */
static int find_matches(struct dry *s, size_t n, bool *any)
{
	const uint32_t *last = s->history + s->n - 1;
	uint32_t *z;
	size_t limit = 0; /* tokens behind the last breaker */

	while (limit < n && !(*(last - limit) & 1))
		limit++;
	*any = false;
	if (limit < s->allowed_length)
		return 0;
	z = malloc(n * sizeof(*z));
	if (!z)
		return WEFT_ENOMEM;
	z_backwards(last, n, z);
	for (size_t k = 1; k < n; k++) {
		uint32_t next = *(last - k + 1), len = z[k] < limit ? z[k] : (uint32_t)limit;

		if (len >= s->allowed_length && !(next & 1) && len > s->longest[next >> 1]) {
			s->longest[next >> 1] = len;
			*any = true;
		}
	}
	free(z);
	return 0;
}

static int apply(void *self, struct weft_job *job, struct weft_candidates *c)
{
	struct dry *s = self;
	size_t n = s->n < s->window ? s->n : s->window;
	bool any;
	int rc;

	if (n < 2)
		return 0;
	rc = find_matches(s, n, &any);
	if (rc || !any)
		return rc;
	for (uint32_t i = 0; i < c->n; i++) {
		uint32_t len = s->longest[c->ids[i]];

		if (len)
			c->logits[i] = logit_from(c->logits[i] - s->multiplier * pow(s->base, len - s->allowed_length));
	}
	for (size_t k = 0; k < n; k++)
		s->longest[s->history[s->n - 1 - k] >> 1] = 0;
	c->sorted = 0;
	return 0;
}

static int clone(const void *self, void **copy)
{
	const struct dry *s = self;
	struct dry *d = malloc(sizeof(*d));

	if (!d)
		return WEFT_ENOMEM;
	*d = *s;
	d->history = malloc((s->cap + 1) * sizeof(d->history[0]));
	d->longest = calloc(s->vocab, sizeof(d->longest[0]));
	d->text = malloc(s->text_cap + 1);
	if (!d->history || !d->longest || !d->text) {
		destroy(d);
		return WEFT_ENOMEM;
	}
	if (s->n)
		memcpy(d->history, s->history, s->n * sizeof(d->history[0]));
	if (s->tail_len)
		memcpy(d->text, s->text, s->tail_len);
	*copy = d;
	return 0;
}

static const struct weft_param params[] = {
	[MULTIPLIER] = PARAM_FLOAT("dry_multiplier", 0, 0, 100,
				   "Strength of the penalty for going on as a repeated stretch went on; 0 is off."),
	[BASE] = PARAM_FLOAT("dry_base", 1.75, 1, 100,
			     "The penalty grows by this factor with each token that the repeated stretch is longer."),
	[ALLOWED_LENGTH] =
		PARAM_INT("dry_allowed_length", 2, 1, 1 << 20, "Tokens of the shortest repeated stretch that is penalised."),
	[LAST_N] = PARAM_INT("dry_penalty_last_n", 64, 0, 1 << 20,
			     "How many of the last tokens dry looks at; 0: all of prompt and answer."),
	[BREAKERS] = PARAM_LIST(
		WEFT_STRING_LIST, "dry_sequence_breakers", 0, 0, BREAKER_MAX_ITEMS,
		"Strings of at most 64 bytes that repeated stretches do not reach over; an empty list stands for line feed, colon, "
		"quote and asterisk, and one empty string for none."),
};
static const struct weft_sampler sampler = {
	.size = sizeof(sampler),
	.flags = WEFT_NEEDS_HISTORY | WEFT_DETERMINISTIC | WEFT_SIDE_BY_SIDE,
	.order = 400,
	.create = create,
	.apply = apply,
	.accept = accept,
	.clone = clone,
	.destroy = destroy,
};
static const struct weft_plugin plugin = {
	PLUGIN("dry", "Penalises going on as a repeated stretch of text went on."),
	PARAMS(params),
	.sampler = &sampler,
};

const struct weft_plugin *weft_plugin(void)
{
	return &plugin;
}
