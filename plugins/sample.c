/* sample: the decoder that draws answers token by token.
 *
 * The prompt is fed once to sequence 0, and the first token of every choice is drawn from its last row; from then on each choice
 * has a fork of its own (the first live one keeps sequence 0) and feeds the token that it drew last.
 *
 * What a choice has drawn but not sent waits in a queue of tokens and the text they stand for. A delta carries whole tokens and
 * exactly their text (but for the token that ends the answer and the text of a stop string, which are not shown): so a token waits
 * while its bytes are an unfinished UTF-8 character, and while its text may still become part of a stop string.
 *
 *   prompt fed         each commit: take(token)
 *   choice --> running -------------------------> finished:
 *                                                   stop         the token is EOS or a stop token; it is sent, without text
 *                                                   stop_string  the text is cut before the match; all tokens are sent
 *                                                   length       max_tokens were drawn
 *                                                   context      the sequence cannot grow
 *
 * Of several stop strings the one that is complete first wins (of those that end together, the longest): so the answer does not
 * depend on how its text falls into tokens. */
#include "declare.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TOKENS, MIN_TOKENS, N, STOP, STOP_TOKEN_IDS, IGNORE_EOS, LOGPROBS, PROMPT_LOGPROBS, ECHO };
enum { STOP_MAX_BYTES = 256 };
enum {
	ECHO_PIECE = 512,  /* tokens of an echoed prompt in one delta */
	ECHO_MAX = 1 << 18 /* and in all choices together: they are sent in one step */
};

struct token {
	struct weft_drawn drawn; /* .top is NULL: see top[] */
	struct weft_top top[TOP_MAX];
	uint64_t end; /* length of the waiting text up to and with this token */
};

struct choice {
	uint32_t seq;
	bool finished;
	bool dropped;    /* its sequence was given back */
	bool first_null; /* the next token sent is the first of an echoed prompt */
	uint64_t generated;
	int32_t last; /* drawn, not fed yet */
	char *text;   /* [len]: waiting to be sent */
	size_t len, cap;
	size_t searched;      /* no stop string ends in text[0 .. searched) */
	struct token *tokens; /* [n]: the tokens that text belongs to */
	size_t n, tokens_cap;
	size_t whole; /* tokens[0 .. whole) have all their bytes in text */
};

struct sample {
	const struct weft_host *host;
	const struct weft_value *p;
	bool prompt_fed; /* planned and committed */
	bool forked;
	int32_t top; /* tops asked for in every feed */
	uint32_t draws; /* flags of feeds that draw */
	uint32_t n;
	uint64_t room; /* tokens an answer may have before the context is full */
	int32_t *ids;  /* [n_ids], room for one delta */
	struct weft_drawn *drawn;
	size_t n_ids;
	struct choice choices[];
};

static void destroy(void *self)
{
	struct sample *s = self;

	for (uint32_t i = 0; i < s->n; i++) {
		free(s->choices[i].text);
		free(s->choices[i].tokens);
	}
	free(s->ids);
	free(s->drawn);
	free(s);
}

/* ---- parameters ---- */

static int check(const struct weft_host *host, struct weft_job *job, const struct weft_value *p)
{
	uint32_t vocab = host->vocab(job);
	uint64_t prompt = host->prompt(job, &(const int32_t *){NULL});

	for (uint64_t i = 0; i < p[STOP].n; i++) {
		size_t len = strlen(p[STOP].strs[i]);

		if (len == 0 || len > STOP_MAX_BYTES)
			return host->fail(job, WEFT_EINVAL, "stop: each string must have 1 to 256 bytes");
	}
	for (uint64_t i = 0; i < p[STOP_TOKEN_IDS].n; i++) {
		if (p[STOP_TOKEN_IDS].ints[i] >= vocab)
			return host->fail(job, WEFT_EINVAL, "stop_token_ids: an id is outside the vocabulary");
	}
	if (p[MAX_TOKENS].i > 0 && p[MIN_TOKENS].i > p[MAX_TOKENS].i)
		return host->fail(job, WEFT_EINVAL, "min_tokens must not be above max_tokens");
	if (prompt >= host->context(job))
		return host->fail(job, WEFT_EINVAL, "the prompt fills the context: there is no room for an answer");
	if (p[ECHO].i && prompt * (uint64_t)p[N].i > ECHO_MAX)
		return host->fail(job, WEFT_EINVAL,
				  "echo: n times the prompt's tokens must not be more than 262144; ask for fewer answers");
	return 0;
}

static int create(const struct weft_host *host, struct weft_job *job, const struct weft_value *params, void **self)
{
	uint32_t n = (uint32_t)params[N].i;
	struct sample *s;
	int rc = check(host, job, params);

	if (rc)
		return rc;
	s = calloc(1, sizeof(*s) + n * sizeof(s->choices[0]));
	if (!s)
		return WEFT_ENOMEM;
	s->host = host;
	s->p = params;
	s->n = n;
	s->top = (int32_t)(params[LOGPROBS].i > params[PROMPT_LOGPROBS].i ? params[LOGPROBS].i : params[PROMPT_LOGPROBS].i);
	s->top = s->top < 0 ? 0 : s->top;
	s->draws = params[LOGPROBS].i < 0 && s->top == 0 ? WEFT_FEED_NO_LOGPROBS : 0;
	s->room = host->context(job) - host->prompt(job, &(const int32_t *){NULL});
	*self = s;
	return 0;
}

/* ---- what waits ---- */

static int reserve(void **array, size_t *cap, size_t need, size_t item)
{
	size_t more = *cap ? *cap : 16;
	void *grown;

	if (need <= *cap)
		return 0;
	while (more < need)
		more *= 2;
	grown = realloc(*array, more * item);
	if (!grown)
		return WEFT_ENOMEM;
	*array = grown;
	*cap = more;
	return 0;
}

static int text_append(struct choice *c, const char *text, uint64_t len)
{
	int rc = reserve((void **)&c->text, &c->cap, c->len + len, 1);

	if (rc || !len)
		return rc;
	memcpy(c->text + c->len, text, len);
	c->len += len;
	return 0;
}

/* Puts a token at the end of the queue; its text, as far as it is readable, is already in c->text. */
static int token_append(struct choice *c, const struct weft_drawn *d, uint32_t top)
{
	struct token *t;
	int rc = reserve((void **)&c->tokens, &c->tokens_cap, c->n + 1, sizeof(*t));

	if (rc)
		return rc;
	t = &c->tokens[c->n++];
	*t = (struct token){.drawn = *d};
	t->drawn.top = NULL;
	t->drawn.n_top = d->n_top < top ? d->n_top : top;
	if (t->drawn.n_top)
		memcpy(t->top, d->top, t->drawn.n_top * sizeof(t->top[0]));
	t->end = c->len;
	return 0;
}

/* Does text end within a UTF-8 character? */
static bool open_ended(const char *text, uint64_t len)
{
	for (uint64_t back = 1; back <= 3 && back <= len; back++) {
		unsigned char b = (unsigned char)text[len - back];

		if (b >= 0xc0)
			return back < (b >= 0xf0 ? 4u : b >= 0xe0 ? 3u : 2u);
		if (b < 0x80)
			return false;
	}
	return false;
}

/* Runs a token through the detokeniser and puts it and its text into the queue. `strip`: drop one leading space of the first text,
 * as whole-sequence decoding does. */
static int token_enter(struct sample *s, struct weft_job *job, uint32_t i, const struct weft_drawn *d, bool *strip)
{
	struct choice *c = &s->choices[i];
	const char *text, *piece;
	uint64_t len, piece_len = 0;
	size_t whole = c->whole;
	int rc = s->host->detokenize(job, i, d->token, &text, &len);

	if (rc)
		return rc;
	piece = s->host->piece(job, d->token, &piece_len);
	/* Only where the detokeniser holds nothing back do text and tokens end together. */
	if (len ? !open_ended(piece, piece_len) : !piece_len && c->whole == c->n)
		whole = c->n + 1;
	if (len && *strip) {
		*strip = false;
		if (text[0] == ' ') {
			text++;
			len--;
		}
	}
	rc = text_append(c, text, len);
	for (size_t k = c->whole; k < c->n; k++)
		c->tokens[k].end = c->len; /* a character that several tokens make is sent with all of them */
	if (!rc)
		rc = token_append(c, d, s->p[LOGPROBS].i > 0 ? (uint32_t)s->p[LOGPROBS].i : 0);
	c->whole = rc ? c->whole : whole;
	return rc;
}

/* Sends the first n waiting tokens with the first len bytes of waiting text, as one delta. */
static int send(struct sample *s, struct weft_job *job, uint32_t i, size_t n, size_t len)
{
	struct choice *c = &s->choices[i];
	struct weft_delta d = {
		.size = sizeof(d), .choice = i, .text = len ? c->text : "", .text_len = len, .n_tokens = (uint32_t)n};
	int rc;

	if (n == 0 && len == 0)
		return 0;
	if (n > s->n_ids) {
		size_t cap = s->n_ids;

		rc = reserve((void **)&s->ids, &cap, n, sizeof(s->ids[0]));
		cap = s->n_ids;
		if (!rc)
			rc = reserve((void **)&s->drawn, &cap, n, sizeof(s->drawn[0]));
		if (rc)
			return rc;
		s->n_ids = cap;
	}
	for (size_t k = 0; k < n; k++) {
		s->ids[k] = c->tokens[k].drawn.token;
		s->drawn[k] = c->tokens[k].drawn;
		s->drawn[k].top = c->tokens[k].top;
	}
	d.tokens = s->ids;
	d.has_logprobs = s->p[LOGPROBS].i >= 0;
	d.logprobs = d.has_logprobs ? s->drawn : NULL;
	d.first_null = c->first_null;
	rc = s->host->delta(job, &d);
	if (rc)
		return rc;
	c->first_null = false;
	memmove(c->tokens, c->tokens + n, (c->n - n) * sizeof(c->tokens[0]));
	c->n -= n;
	c->whole = c->whole > n ? c->whole - n : 0;
	for (size_t k = 0; k < c->n; k++)
		c->tokens[k].end -= len;
	if (len)
		memmove(c->text, c->text + len, c->len - len);
	c->len -= len;
	c->searched = c->searched > len ? c->searched - len : 0;
	return 0;
}

/* Sends the tokens that are whole and whose text ends within the first len bytes. */
static int send_whole(struct sample *s, struct weft_job *job, uint32_t i, size_t len)
{
	struct choice *c = &s->choices[i];
	size_t n = 0;

	while (n < c->whole && c->tokens[n].end <= len)
		n++;
	return send(s, job, i, n, n ? c->tokens[n - 1].end : 0);
}

/* ---- stop strings ---- */

/* Where the first complete stop string in the waiting text begins; -1: there is none. */
static int64_t stop_find(struct sample *s, struct choice *c)
{
	const struct weft_value *stop = &s->p[STOP];

	for (size_t end = c->searched + 1; stop->n && end <= c->len; end++) {
		size_t longest = 0;

		for (uint64_t k = 0; k < stop->n; k++) {
			size_t len = strlen(stop->strs[k]);

			if (len > longest && len <= end && memcmp(c->text + end - len, stop->strs[k], len) == 0)
				longest = len;
		}
		if (longest)
			return (int64_t)(end - longest);
	}
	c->searched = c->len;
	return -1;
}

/* Bytes at the end of the waiting text that may be the beginning of a stop string. */
static size_t stop_begun(const struct sample *s, const struct choice *c)
{
	const struct weft_value *stop = &s->p[STOP];
	size_t held = 0;

	for (uint64_t k = 0; k < stop->n; k++) {
		size_t n = strlen(stop->strs[k]) - 1;

		for (n = n < c->len ? n : c->len; n > held; n--) {
			if (memcmp(c->text + c->len - n, stop->strs[k], n) == 0) {
				held = n;
				break;
			}
		}
	}
	return held;
}

/* ---- the life of a choice ---- */

/* Ends the choice at a stop string: sends the text before it, and all tokens, so that they are what was drawn. */
static int cut(struct sample *s, struct weft_job *job, uint32_t i, size_t at)
{
	int rc = send(s, job, i, s->choices[i].n, at);

	if (rc)
		return rc;
	s->choices[i].finished = true;
	return s->host->finish(job, i, WEFT_FINISH_STOP_STRING);
}

/* Ends the choice: everything that waits is sent. `extra`: a token without text that ended it, or NULL. */
static int conclude(struct sample *s, struct weft_job *job, uint32_t i, const struct weft_drawn *extra, uint32_t finish)
{
	struct choice *c = &s->choices[i];
	const char *text;
	uint64_t len;
	int64_t at;
	int rc = s->host->detokenize(job, i, -1, &text, &len);

	if (!rc)
		rc = text_append(c, text, len);
	if (rc)
		return rc;
	if (c->n)
		c->tokens[c->n - 1].end = c->len;
	at = c->generated > (uint64_t)s->p[MIN_TOKENS].i ? stop_find(s, c) : -1;
	if (at >= 0)
		return cut(s, job, i, (size_t)at);
	if (extra)
		rc = token_append(c, extra, s->p[LOGPROBS].i > 0 ? (uint32_t)s->p[LOGPROBS].i : 0);
	if (!rc)
		rc = send(s, job, i, c->n, c->len);
	if (rc)
		return rc;
	c->finished = true;
	return s->host->finish(job, i, finish);
}

static bool ends_answer(const struct sample *s, struct weft_job *job, int32_t token)
{
	const struct weft_value *ids = &s->p[STOP_TOKEN_IDS];

	if (!s->p[IGNORE_EOS].i && token == s->host->eos(job))
		return true;
	for (uint64_t k = 0; k < ids->n; k++) {
		if (ids->ints[k] == token)
			return true;
	}
	return false;
}

/* One more token of choice i. */
static int take(struct sample *s, struct weft_job *job, uint32_t i, const struct weft_drawn *d)
{
	struct choice *c = &s->choices[i];
	uint64_t max = (uint64_t)s->p[MAX_TOKENS].i;
	bool may_stop = c->generated >= (uint64_t)s->p[MIN_TOKENS].i;
	int64_t at;
	int rc;

	c->generated++;
	c->last = d->token;
	if (may_stop && ends_answer(s, job, d->token))
		return conclude(s, job, i, d, WEFT_FINISH_STOP);
	rc = token_enter(s, job, i, d, &(bool){false});
	if (rc)
		return rc;
	at = may_stop ? stop_find(s, c) : -1;
	if (at >= 0)
		return cut(s, job, i, (size_t)at);
	if (max && c->generated == max)
		return conclude(s, job, i, NULL, WEFT_FINISH_LENGTH);
	if (c->generated == s->room)
		return conclude(s, job, i, NULL, WEFT_FINISH_CONTEXT);
	return send_whole(s, job, i, c->len - (may_stop ? stop_begun(s, c) : 0));
}

/* ---- the prompt ---- */

/* The i-th token of the prompt as a result; the first has no log-probability. */
static struct weft_drawn prompt_token(const struct weft_result *r, const int32_t *prompt, uint64_t i)
{
	if (i > 0 && r->n_targets)
		return r->targets[i - 1];
	return (struct weft_drawn){.size = sizeof(struct weft_drawn), .token = prompt[i]};
}

static int echo(struct sample *s, struct weft_job *job, uint32_t i, const struct weft_result *r)
{
	struct choice *c = &s->choices[i];
	const int32_t *prompt;
	uint64_t n = s->host->prompt(job, &prompt);
	bool strip = true;
	int rc = 0;

	c->first_null = true;
	for (uint64_t k = 0; k < n && !rc; k++) {
		struct weft_drawn d = prompt_token(r, prompt, k);

		rc = token_enter(s, job, i, &d, &strip);
		if (!rc && (c->n >= ECHO_PIECE || k + 1 == n))
			rc = send_whole(s, job, i, c->len);
	}
	return rc;
}

static int score_prompt(struct sample *s, struct weft_job *job, const struct weft_result *r)
{
	const int32_t *prompt;
	uint64_t n = s->host->prompt(job, &prompt);
	uint32_t top = (uint32_t)s->p[PROMPT_LOGPROBS].i;
	struct weft_score score = {.size = sizeof(score), .greedy = 1, .n_tokens = (uint32_t)n, .first_null = 1};
	struct weft_drawn *tokens = malloc(n * sizeof(*tokens));
	int rc;

	if (!tokens)
		return WEFT_ENOMEM;
	for (uint64_t i = 0; i < n; i++) {
		tokens[i] = prompt_token(r, prompt, i);
		tokens[i].n_top = tokens[i].n_top < top ? tokens[i].n_top : top;
		if (i > 0) {
			score.logprob += tokens[i].logprob;
			score.greedy &= tokens[i].greedy;
		}
	}
	score.tokens = tokens;
	rc = s->host->score(job, &score);
	free(tokens);
	return rc;
}

/* ---- decoder ---- */

static int plan_prompt(struct sample *s, struct weft_job *job)
{
	uint32_t choices[N_MAX];
	int32_t *targets = NULL;
	struct weft_feed f = {
		.size = sizeof(f), .flags = WEFT_FEED_PROMPT | s->draws, .choices = choices, .n_choices = s->n, .top = (uint32_t)s->top};
	int rc;

	f.n_tokens = (uint32_t)s->host->prompt(job, &f.tokens);
	for (uint32_t i = 0; i < s->n; i++)
		choices[i] = i;
	if (s->p[PROMPT_LOGPROBS].i >= 0 || (s->p[ECHO].i && s->p[LOGPROBS].i >= 0)) {
		targets = malloc(f.n_tokens * sizeof(*targets));
		if (!targets)
			return WEFT_ENOMEM;
		memcpy(targets, f.tokens + 1, (f.n_tokens - 1) * sizeof(*targets));
		targets[f.n_tokens - 1] = -1;
		f.targets = targets;
	}
	rc = s->host->feed(job, &f);
	free(targets);
	return rc;
}

/* Gives every live choice a sequence: the first keeps the prompt's own. */
static int fork_choices(struct sample *s, struct weft_job *job)
{
	bool first = true;
	int rc = 0;

	for (uint32_t i = 0; i < s->n && !rc; i++) {
		struct choice *c = &s->choices[i];

		c->dropped = c->finished;
		if (c->finished)
			continue;
		if (!first)
			rc = s->host->fork(job, 0, &c->seq);
		first = false;
	}
	s->forked = true;
	return rc;
}

static int plan(void *self, struct weft_job *job)
{
	struct sample *s = self;
	int rc = 0;

	if (!s->prompt_fed)
		return plan_prompt(s, job);
	if (!s->forked)
		rc = fork_choices(s, job);
	for (uint32_t i = 0; i < s->n && !rc; i++) {
		struct choice *c = &s->choices[i];

		if (!c->finished) {
			rc = s->host->feed(job, &(struct weft_feed){.size = sizeof(struct weft_feed),
								    .flags = s->draws,
								    .seq = c->seq,
								    .n_tokens = 1,
								    .tokens = &c->last,
								    .choices = &i,
								    .n_choices = 1,
								    .top = s->p[LOGPROBS].i > 0 ? (uint32_t)s->p[LOGPROBS].i : 0});
		} else if (!c->dropped) {
			rc = s->host->drop(job, c->seq);
			c->dropped = true;
		}
	}
	return rc;
}

static int commit(void *self, struct weft_job *job, const struct weft_result *results, uint32_t n_results)
{
	struct sample *s = self;
	bool live = false;
	int rc = 0;

	if (!s->prompt_fed) {
		s->prompt_fed = true;
		if (s->p[PROMPT_LOGPROBS].i >= 0)
			rc = score_prompt(s, job, &results[0]);
		for (uint32_t i = 0; i < s->n && s->p[ECHO].i && !rc; i++)
			rc = echo(s, job, i, &results[0]);
	}
	for (uint32_t k = 0; k < n_results && !rc; k++) {
		for (uint32_t j = 0; j < results[k].n_draws && !rc; j++)
			rc = take(s, job, results[k].draws[j].choice, &results[k].draws[j]);
	}
	for (uint32_t i = 0; i < s->n; i++)
		live |= !s->choices[i].finished;
	if (!rc && !live)
		rc = s->host->done(job);
	return rc;
}

/* ---- the state as bytes ---- */

/* Field by field, not as structs lie in memory: so the same state always has the same bytes, and none of them is what malloc left
 * there. The text and the tokens of a choice stand behind it, the tops behind each token. */
struct saved_choice {
	uint64_t generated, len, searched, n, whole;
	uint32_t seq, flags;
	int32_t last;
	uint32_t pad_;
};
struct saved_token {
	uint64_t end;
	int32_t token;
	float logprob;
	uint32_t greedy, n_top;
};
enum { SAVED_FINISHED = 1, SAVED_DROPPED = 2, SAVED_FIRST_NULL = 4 };

static int save_token(const struct sample *s, const struct token *t, struct weft_blob *out)
{
	struct saved_token saved = {.end = t->end,
				    .token = t->drawn.token,
				    .logprob = t->drawn.logprob,
				    .greedy = t->drawn.greedy,
				    .n_top = t->drawn.n_top};
	int rc = s->host->blob_write(out, &saved, sizeof(saved));

	return rc ? rc : s->host->blob_write(out, t->top, saved.n_top * sizeof(t->top[0]));
}

static int save_choice(const struct sample *s, const struct choice *c, struct weft_blob *out)
{
	struct saved_choice saved = {.generated = c->generated,
				     .len = c->len,
				     .searched = c->searched,
				     .n = c->n,
				     .whole = c->whole,
				     .seq = c->seq,
				     .flags = (c->finished ? SAVED_FINISHED : 0) | (c->dropped ? SAVED_DROPPED : 0) |
					      (c->first_null ? SAVED_FIRST_NULL : 0),
				     .last = c->last};
	int rc = s->host->blob_write(out, &saved, sizeof(saved));

	if (!rc)
		rc = s->host->blob_write(out, c->text, c->len);
	for (size_t k = 0; k < c->n && !rc; k++)
		rc = save_token(s, &c->tokens[k], out);
	return rc;
}

static int save(void *self, struct weft_blob *out)
{
	const struct sample *s = self;
	uint32_t head[3] = {s->n, s->prompt_fed, s->forked};
	int rc = s->host->blob_write(out, head, sizeof(head));

	for (uint32_t i = 0; i < s->n && !rc; i++)
		rc = save_choice(s, &s->choices[i], out);
	return rc;
}

/* Copies the next len bytes of *in to `to`. */
static int take_bytes(struct weft_blob *in, void *to, uint64_t len)
{
	if (len > in->len)
		return WEFT_EINVAL;
	if (len)
		memcpy(to, in->data, len);
	in->data += len;
	in->len -= len;
	return 0;
}

static int load_token(struct choice *c, struct weft_blob *in)
{
	struct saved_token saved;
	struct token *t = &c->tokens[c->n];

	if (take_bytes(in, &saved, sizeof(saved)) || saved.n_top > TOP_MAX || saved.end > c->len)
		return WEFT_EINVAL;
	*t = (struct token){.drawn = {.size = sizeof(t->drawn),
				      .token = saved.token,
				      .logprob = saved.logprob,
				      .greedy = saved.greedy,
				      .n_top = saved.n_top},
			    .end = saved.end};
	c->n++;
	return take_bytes(in, t->top, saved.n_top * sizeof(t->top[0]));
}

static int load_choice(struct choice *c, struct weft_blob *in)
{
	struct saved_choice saved;
	int rc = take_bytes(in, &saved, sizeof(saved));

	if (rc || saved.len > in->len || saved.n > in->len / sizeof(struct saved_token) || saved.whole > saved.n ||
	    saved.searched > saved.len)
		return WEFT_EINVAL;
	c->generated = saved.generated;
	c->seq = saved.seq;
	c->finished = saved.flags & SAVED_FINISHED;
	c->dropped = saved.flags & SAVED_DROPPED;
	c->first_null = saved.flags & SAVED_FIRST_NULL;
	c->last = saved.last;
	rc = reserve((void **)&c->text, &c->cap, saved.len + 1, 1);
	if (!rc)
		rc = reserve((void **)&c->tokens, &c->tokens_cap, saved.n + 1, sizeof(c->tokens[0]));
	if (!rc)
		rc = take_bytes(in, c->text, saved.len);
	c->len = rc ? 0 : saved.len;
	for (uint64_t k = 0; k < saved.n && !rc; k++)
		rc = load_token(c, in);
	c->searched = saved.searched;
	c->whole = saved.whole;
	return rc;
}

static int load(void *self, const struct weft_blob *in)
{
	struct sample *s = self;
	struct weft_blob rest = *in;
	uint32_t head[3];
	int rc = take_bytes(&rest, head, sizeof(head));

	if (rc || head[0] != s->n)
		return WEFT_EINVAL;
	s->prompt_fed = head[1];
	s->forked = head[2];
	for (uint32_t i = 0; i < s->n && !rc; i++)
		rc = load_choice(&s->choices[i], &rest);
	return rc || !rest.len ? rc : WEFT_EINVAL;
}

static const struct weft_param params[] = {
	[MAX_TOKENS] = SHARED_MAX_TOKENS,
	[MIN_TOKENS] = SHARED_MIN_TOKENS,
	[N] = SHARED_N,
	[STOP] = SHARED_STOP,
	[STOP_TOKEN_IDS] = SHARED_STOP_TOKEN_IDS,
	[IGNORE_EOS] = SHARED_IGNORE_EOS,
	[LOGPROBS] = SHARED_LOGPROBS,
	[PROMPT_LOGPROBS] = SHARED_PROMPT_LOGPROBS,
	[ECHO] = SHARED_ECHO,
};
static const struct weft_decoder decoder = {
	.size = sizeof(decoder),
	.create = create,
	.plan = plan,
	.commit = commit,
	.save = save,
	.load = load,
	.destroy = destroy,
};
static const struct weft_plugin plugin = {
	PLUGIN("sample", "Draws one or more answers to a prompt, token by token."),
	PARAMS(params),
	.decoder = &decoder,
};

const struct weft_plugin *weft_plugin(void)
{
	return &plugin;
}
