/* host.c: what plugins may ask for. Each function checks when it may be called and what it is handed; an impossible wish is a
 * breach, which ends the job whatever the plugin returns. Structs that plugins hand over may be of an older minor: they are copied
 * into full-size ones. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/wire.h"
#include "daemon/host.h"
#include "daemon/philox.h"
#include "daemon/run.h"

enum {
	TEXT_MAX = 1 << 20,    /* bytes of a text to tokenize */
	DELTA_TOKENS = 1 << 16 /* tokens of one delta; a score may have a context of them */
};
#define NEEDED(type, last) (offsetof(type, last) + sizeof(((type *)0)->last))

/* ---- words ---- */

static char orphan[300];

const char *host_orphan_reason(void)
{
	return orphan;
}

void host_orphan_clear(void)
{
	orphan[0] = '\0';
}

static struct {
	void (*log)(void *arg, int level, const char *text);
	void *arg;
} orphan_log;

void plugin_log_set(void (*log)(void *arg, int level, const char *text), void *arg)
{
	orphan_log.log = log;
	orphan_log.arg = arg;
}

/* One line, whatever the plugin sent. */
static void one_line(char *to, size_t size, const char *text)
{
	size_t n = 0;

	for (; text != NULL && text[n] != '\0' && n + 1 < size; n++)
		to[n] = (unsigned char)text[n] < ' ' || text[n] == 0x7f ? ' ' : text[n];
	while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80) /* no cut inside a UTF-8 character */
		n--;
	to[n] = '\0';
}

static void host_log(struct weft_job *job, int level, const char *text)
{
	char line[600], clean[500];

	one_line(clean, sizeof clean, text);
	if (job == NULL) {
		if (orphan_log.log != NULL)
			orphan_log.log(orphan_log.arg, level, clean);
	} else if (job->out->log != NULL) {
		snprintf(line, sizeof line, "%s: %s", job->caller == NULL ? "plugin" : job->caller->desc->name, clean);
		job->out->log(job->out->log_arg, job->spec->id, level, line);
	}
}

static int host_fail(struct weft_job *job, int code, const char *text)
{
	if (job == NULL) {
		one_line(orphan, sizeof orphan, text);
	} else {
		one_line(job->said, sizeof job->said, text);
		job->said_code = code;
	}
	return code;
}

/* ---- facts ---- */

static uint32_t host_vocab(struct weft_job *job)
{
	return job->model->vocab;
}

static int32_t host_eos(struct weft_job *job)
{
	return job->model->eos;
}

static uint32_t host_context(struct weft_job *job)
{
	return job->model->context;
}

static const char *host_piece(struct weft_job *job, int32_t token, uint64_t *len)
{
	size_t n = 0;
	const char *p = core_tokenizer_piece(job->model->tokenizer, token, &n);

	*len = n;
	return p;
}

static int64_t host_tokenize(struct weft_job *job, const char *text, uint64_t len, int32_t *out, uint64_t cap)
{
	struct core_error err;
	int32_t *tokens = NULL;
	size_t n = 0;

	if (len > TEXT_MAX)
		return run_breach(job, WEFT_EINVAL, "it tokenizes a text of %llu bytes; %d is the limit", (unsigned long long)len,
				  TEXT_MAX);
	if (core_tokenizer_encode(job->model->tokenizer, text, len, CORE_ENCODE_NO_PREFIX, &tokens, &n, &err) != 0)
		return run_breach(job, WEFT_EINTERNAL, "a text could not be tokenized: %s", err.text);
	if (n > 0 && cap > 0)
		memcpy(out, tokens, (n < cap ? n : cap) * sizeof *out);
	free(tokens);
	return (int64_t)n;
}

static uint64_t host_prompt(struct weft_job *job, const int32_t **tokens)
{
	*tokens = job->spec->prompt;
	return job->spec->n_prompt;
}

static uint64_t host_continuations(struct weft_job *job)
{
	return job->spec->n_continuations;
}

static uint64_t host_continuation(struct weft_job *job, uint64_t i, const int32_t **tokens)
{
	if (i >= job->spec->n_continuations) {
		*tokens = NULL;
		return 0;
	}
	*tokens = job->spec->continuations[i];
	return job->spec->continuation_len[i];
}

static double host_uniform(struct weft_job *job, uint32_t choice, uint64_t position, uint32_t k)
{
	uint32_t whose = job->phase == PHASE_SAMPLER ? job->caller_choice : choice;

	return philox_uniform(job->spec->seed, position, whose, job->caller_stream, k);
}

/* ---- wishes: plan() ---- */

static bool may_plan(struct weft_job *job, const char *what)
{
	if (job->phase == PHASE_PLAN)
		return true;
	run_breach(job, WEFT_EINVAL, "it calls %s outside of plan", what);
	return false;
}

static int host_feed(struct weft_job *job, const struct weft_feed *f)
{
	struct weft_feed full = {0};

	if (!may_plan(job, "feed") || job->breach_code != 0)
		return WEFT_EINVAL;
	if (f->size < NEEDED(struct weft_feed, tokens))
		return run_breach(job, WEFT_EINVAL, "struct weft_feed has the impossible size %u", f->size);
	memcpy(&full, f, f->size < sizeof full ? f->size : sizeof full);
	return feed_add(job, &full);
}

static struct seq *wanted_seq(struct weft_job *job, uint32_t number, const char *what)
{
	if (!may_plan(job, what) || job->breach_code != 0)
		return NULL;
	struct seq *s = seq_find(job, number);
	if (s == NULL)
		run_breach(job, WEFT_EINVAL, "it calls %s for the sequence %u, which is not there", what, number);
	return s;
}

static int host_fork(struct weft_job *job, uint32_t seq, uint32_t *new_seq)
{
	struct seq *s = wanted_seq(job, seq, "fork");

	if (s == NULL)
		return WEFT_EINVAL;
	if (job->n_seqs == RUN_SEQS)
		return run_breach(job, WEFT_EINVAL, "it has %d sequences, which is the limit", RUN_SEQS);
	s = seq_fork(job, s);
	if (s == NULL)
		return run_breach(job, WEFT_ENOMEM, "out of memory");
	*new_seq = s->number;
	return 0;
}

static int host_trim(struct weft_job *job, uint32_t seq, uint64_t len)
{
	struct seq *s = wanted_seq(job, seq, "trim");

	if (s == NULL)
		return WEFT_EINVAL;
	if (len > s->n)
		return run_breach(job, WEFT_EINVAL, "it trims the sequence %u to %llu tokens, and it has %u", seq,
				  (unsigned long long)len, s->n);
	if (s->planned > 0)
		return run_breach(job, WEFT_EINVAL, "it trims the sequence %u, which it feeds in the same plan", seq);
	if (core_seq_trim(job->core, s->kv, (uint32_t)len) != 0)
		return run_breach(job, WEFT_ENOMEM, "out of memory");
	s->n = s->present = (uint32_t)len;
	return 0;
}

static int host_drop(struct weft_job *job, uint32_t seq)
{
	struct seq *s = wanted_seq(job, seq, "drop");

	if (s == NULL)
		return WEFT_EINVAL;
	if (s->planned > 0)
		return run_breach(job, WEFT_EINVAL, "it drops the sequence %u, which it feeds in the same plan", seq);
	seq_drop(job, s);
	return 0;
}

static uint64_t host_seq_len(struct weft_job *job, uint32_t seq)
{
	const struct seq *s = seq_find(job, seq);

	return s == NULL ? 0 : s->n;
}

/* ---- answers: commit(), and plan() ---- */

/* Room for one more event of `bytes` in this call of the plugin. */
static bool may_say(struct weft_job *job, const char *what, uint64_t bytes)
{
	if (job->phase != PHASE_PLAN && job->phase != PHASE_COMMIT) {
		run_breach(job, WEFT_EINVAL, "it calls %s outside of plan and commit", what);
		return false;
	}
	if (job->breach_code != 0)
		return false;
	if (bytes > RUN_EVENT_BYTES || (job->call_bytes += bytes) > RUN_EVENT_BYTES || ++job->call_events > RUN_EVENTS) {
		run_breach(job, WEFT_EINVAL, "it says more than %d bytes or %d times in one call", RUN_EVENT_BYTES, RUN_EVENTS);
		return false;
	}
	return true;
}

static int host_detokenize(struct weft_job *job, uint32_t choice, int32_t token, const char **text, uint64_t *len)
{
	*text = job->detok_text;
	*len = 0;
	if (!may_say(job, "detokenize", 0))
		return WEFT_EINVAL;
	job->call_events--; /* it causes none */
	struct choice *c = run_choice_make(job, choice);
	if (c == NULL)
		return WEFT_ENOMEM;
	if (token >= 0 && (uint32_t)token >= job->model->vocab)
		return run_breach(job, WEFT_EINVAL, "it detokenizes the token %d, and the vocabulary has %u", token,
				  job->model->vocab);
	*len = token < 0 ? core_detok_flush(&c->detok, job->detok_text)
			 : core_detok_push(&c->detok, job->model->tokenizer, token, job->detok_text);
	return 0;
}

/* Copies tokens with their log-probabilities into an event: one block, the tops behind the tokens. drawn NULL: ids alone. */
static int copy_tokens(struct weft_job *job, struct engine_event *e, const int32_t *ids, const struct weft_drawn *drawn, size_t n,
		       bool first_null)
{
	size_t n_tops = 0;

	for (size_t i = 0; i < n; i++) {
		int32_t id = ids != NULL ? ids[i] : drawn[i].token;
		if ((uint32_t)id >= job->model->vocab)
			return run_breach(job, WEFT_EINVAL, "it reports the token %d, and the vocabulary has %u", id,
					  job->model->vocab);
		if (drawn != NULL && (drawn[i].n_top > RUN_TOP || (drawn[i].n_top > 0 && drawn[i].top == NULL)))
			return run_breach(job, WEFT_EINVAL, "it reports %u most likely tokens; %d is the limit", drawn[i].n_top,
					  RUN_TOP);
		n_tops += drawn == NULL || (i == 0 && first_null) ? 0 : drawn[i].n_top;
	}
	e->tokens = calloc(1, n * sizeof *e->tokens + n_tops * sizeof(struct engine_top) + 1);
	if (e->tokens == NULL)
		return run_breach(job, WEFT_ENOMEM, "out of memory");
	struct engine_top *tops = (struct engine_top *)(e->tokens + n);
	e->n_tokens = n;
	for (size_t i = 0; i < n; i++) {
		e->tokens[i].token = ids != NULL ? ids[i] : drawn[i].token;
		if (drawn == NULL || (i == 0 && first_null))
			continue;
		e->tokens[i].logprob = drawn[i].logprob;
		e->tokens[i].greedy = drawn[i].greedy != 0;
		e->tokens[i].n_top = drawn[i].n_top;
		e->tokens[i].top = tops;
		for (uint32_t k = 0; k < drawn[i].n_top; k++)
			tops[k] = (struct engine_top){drawn[i].top[k].token, drawn[i].top[k].logprob};
		tops += drawn[i].n_top;
	}
	return 0;
}

static uint64_t weight(uint64_t n_tokens, bool logprobs)
{
	return n_tokens * (sizeof(struct engine_token) + (logprobs ? RUN_TOP / 4 * sizeof(struct engine_top) : 0));
}

static int host_delta(struct weft_job *job, const struct weft_delta *given)
{
	struct weft_delta d = {0};

	if (given->size < NEEDED(struct weft_delta, n_tokens))
		return run_breach(job, WEFT_EINVAL, "struct weft_delta has the impossible size %u", given->size);
	memcpy(&d, given, given->size < sizeof d ? given->size : sizeof d);
	if (d.n_tokens > DELTA_TOKENS || (d.n_tokens > 0 && d.tokens == NULL) || (d.text_len > 0 && d.text == NULL))
		return run_breach(job, WEFT_EINVAL, "it sends a delta of %u tokens; %d is the limit", d.n_tokens, DELTA_TOKENS);
	if (d.text_len > RUN_EVENT_BYTES || !may_say(job, "delta", d.text_len + weight(d.n_tokens, d.has_logprobs)))
		return WEFT_EINVAL;
	if (!wire_utf8_valid(d.text_len > 0 ? d.text : "", d.text_len))
		return run_breach(job, WEFT_EINVAL, "the text of its delta is not UTF-8");
	if (d.has_logprobs && d.logprobs == NULL && d.n_tokens > 0)
		return run_breach(job, WEFT_EINVAL, "its delta promises log-probabilities and has none");
	struct choice *c = run_choice_make(job, d.choice);
	if (c == NULL)
		return WEFT_ENOMEM;
	if (c->finished)
		return run_breach(job, WEFT_EINVAL, "it sends a delta of the choice %u, which is finished", d.choice);
	c->spoke = true;
	struct engine_event *e = run_event(job, EV_DELTA);
	if (e == NULL)
		return WEFT_ENOMEM;
	e->choice = d.choice;
	e->has_logprobs = d.has_logprobs != 0;
	e->first_null = d.first_null != 0;
	e->text = malloc(d.text_len + 1);
	if (e->text == NULL)
		return run_breach(job, WEFT_ENOMEM, "out of memory");
	if (d.text_len > 0)
		memcpy(e->text, d.text, d.text_len);
	e->text[d.text_len] = '\0';
	e->text_len = d.text_len;
	return copy_tokens(job, e, d.tokens, d.has_logprobs ? d.logprobs : NULL, d.n_tokens, e->first_null);
}

static int host_score(struct weft_job *job, const struct weft_score *given)
{
	struct weft_score s = {0};

	if (given->size < NEEDED(struct weft_score, tokens))
		return run_breach(job, WEFT_EINVAL, "struct weft_score has the impossible size %u", given->size);
	memcpy(&s, given, given->size < sizeof s ? given->size : sizeof s);
	if (s.n_tokens > job->model->context || (s.n_tokens > 0 && s.tokens == NULL))
		return run_breach(job, WEFT_EINVAL, "it scores %u tokens, and the context has %u", s.n_tokens, job->model->context);
	if (!may_say(job, "score", weight(s.n_tokens, true)))
		return WEFT_EINVAL;
	struct engine_event *e = run_event(job, EV_SCORE);
	if (e == NULL)
		return WEFT_ENOMEM;
	e->choice = s.index;
	e->has_logprobs = true;
	e->logprob = s.logprob;
	e->greedy = s.greedy != 0;
	e->first_null = s.first_null != 0;
	job->scored += s.first_null != 0 ? 0 : s.n_tokens;
	return copy_tokens(job, e, NULL, s.tokens, s.n_tokens, e->first_null);
}

static int host_finish(struct weft_job *job, uint32_t choice, uint32_t finish)
{
	if (!may_say(job, "finish", 0))
		return WEFT_EINVAL;
	if (finish < WEFT_FINISH_STOP || finish > WEFT_FINISH_ERROR)
		return run_breach(job, WEFT_EINVAL, "it finishes the choice %u with the unknown reason %u", choice, finish);
	struct choice *c = run_choice_make(job, choice);
	if (c == NULL)
		return WEFT_ENOMEM;
	if (c->finished)
		return run_breach(job, WEFT_EINVAL, "it finishes the choice %u twice", choice);
	struct engine_event *e = run_event(job, EV_FINISH);
	if (e == NULL)
		return WEFT_ENOMEM;
	c->finished = true;
	e->choice = choice;
	e->finish = (enum weft_finish)finish;
	return 0;
}

static int host_progress(struct weft_job *job, uint64_t done, uint64_t total)
{
	if (!may_say(job, "progress", 0))
		return WEFT_EINVAL;
	struct engine_event *e = run_event(job, EV_PROGRESS);
	if (e == NULL)
		return WEFT_ENOMEM;
	e->done = done;
	e->total = total;
	return 0;
}

static int host_done(struct weft_job *job)
{
	if (!may_say(job, "done", 0))
		return WEFT_EINVAL;
	job->said_done = true;
	return 0;
}

/* ---- tools ---- */

static int host_blob_write(struct weft_blob *out, const void *data, uint64_t len)
{
	/* The buffer behind a blob grows by doubling: its capacity is the power of two at or above its length. */
	uint64_t old_cap = 64, cap = 64;

	if (len > RUN_EVENT_BYTES || out->len + len > RUN_EVENT_BYTES)
		return WEFT_ENOMEM;
	while (old_cap < out->len)
		old_cap *= 2;
	while (cap < out->len + len)
		cap *= 2;
	if (out->data == NULL || cap > old_cap) {
		uint8_t *grown = realloc((void *)out->data, cap);
		if (grown == NULL)
			return WEFT_ENOMEM;
		out->data = grown;
	}
	if (len > 0)
		memcpy((uint8_t *)out->data + out->len, data, len);
	out->len += len;
	return 0;
}

const struct weft_host host_table = {
	.size = sizeof(struct weft_host),
	.abi = WEFT_ABI,
	.log = host_log,
	.fail = host_fail,
	.vocab = host_vocab,
	.eos = host_eos,
	.context = host_context,
	.piece = host_piece,
	.tokenize = host_tokenize,
	.prompt = host_prompt,
	.continuations = host_continuations,
	.continuation = host_continuation,
	.uniform = host_uniform,
	.feed = host_feed,
	.fork = host_fork,
	.trim = host_trim,
	.drop = host_drop,
	.seq_len = host_seq_len,
	.detokenize = host_detokenize,
	.delta = host_delta,
	.score = host_score,
	.finish = host_finish,
	.progress = host_progress,
	.done = host_done,
	.sort = candidates_sort,
	.blob_write = host_blob_write,
	.weigh = logits_weights,
};
