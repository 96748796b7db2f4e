/* feed.c: one wish of a decoder, from host->feed to its struct weft_result.
 *
 * The rows of a feed may run in many steps. What is wanted of a row is reduced as soon as its logits are there, so that no more
 * than one step's logits are ever kept; what is not wanted is never computed. */
#include <stdlib.h>
#include <string.h>

#include "daemon/run.h"

/* ---- recording ---- */

static int check_tokens(struct weft_job *job, const struct weft_feed *f, uint32_t *n_targets)
{
	*n_targets = 0;
	for (uint32_t i = 0; i < f->n_tokens; i++) {
		if ((uint32_t)f->tokens[i] >= job->model->vocab)
			return run_breach(job, WEFT_EINVAL, "it feeds the token %d, and the vocabulary has %u", f->tokens[i],
					  job->model->vocab);
		if (f->targets == NULL || f->targets[i] < 0)
			continue;
		if ((uint32_t)f->targets[i] >= job->model->vocab)
			return run_breach(job, WEFT_EINVAL, "it asks for the token %d, and the vocabulary has %u", f->targets[i],
					  job->model->vocab);
		++*n_targets;
	}
	return 0;
}

static int check_feed(struct weft_job *job, const struct weft_feed *f, const struct seq *s, uint32_t *n_targets)
{
	if (s == NULL)
		return run_breach(job, WEFT_EINVAL, "it feeds the sequence %u, which is not there", f->seq);
	if (f->n_tokens == 0 || f->tokens == NULL)
		return run_breach(job, WEFT_EINVAL, "it feeds no tokens");
	uint64_t len = (uint64_t)s->n + s->planned + f->n_tokens;
	if (len > job->model->context)
		return run_breach(job, WEFT_EINVAL, "it feeds the sequence %u up to %llu tokens, and the context has %u", f->seq,
				  (unsigned long long)len, job->model->context);
	if (f->top > RUN_TOP)
		return run_breach(job, WEFT_EINVAL, "it asks for the %u most likely tokens; %d is the limit", f->top, RUN_TOP);
	if (f->n_choices > RUN_CHOICES || (f->n_choices > 0 && f->choices == NULL))
		return run_breach(job, WEFT_EINVAL, "it draws for %u choices; %d is the limit", f->n_choices, RUN_CHOICES);
	if (job->n_feeds == RUN_FEEDS)
		return run_breach(job, WEFT_EINVAL, "it feeds more than %d times in one plan", RUN_FEEDS);
	int rc = check_tokens(job, f, n_targets);
	if (rc != 0)
		return rc;
	uint64_t values =
		(uint64_t)(*n_targets + f->n_choices) * (1 + f->top) + ((f->flags & WEFT_FEED_LOGITS) != 0 ? job->model->vocab : 0);
	job->values += values;
	if (values > RUN_VALUES || job->values > RUN_VALUES)
		return run_breach(job, WEFT_EINVAL, "it asks for more than %d values in one plan", RUN_VALUES);
	return 0;
}

/* The choices that are drawn after the last row, each at most once in a plan, so that no draw depends on which row runs first. */
static int add_choices(struct weft_job *job, struct feed *to, const uint32_t *choices, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct choice *c = run_choice_make(job, choices[i]);
		if (c == NULL)
			return WEFT_ENOMEM; /* run_choice_make said why */
		if (c->plan == job->plan)
			return run_breach(job, WEFT_EINVAL, "it draws the choice %u twice in one plan", choices[i]);
		if (c->finished)
			return run_breach(job, WEFT_EINVAL, "it draws the choice %u, which is finished", choices[i]);
		c->plan = job->plan;
		to->choices[i] = c;
	}
	to->n_choices = n;
	return 0;
}

static void *copy(struct arena *a, const void *from, size_t n, size_t item)
{
	void *to = arena_alloc(a, n, item);

	if (to != NULL)
		memcpy(to, from, n * item);
	return to;
}

static int alloc_feed(struct weft_job *job, struct feed *to, const struct weft_feed *f, uint32_t n_targets)
{
	struct arena *a = &job->arena;
	size_t drawn = (size_t)n_targets + f->n_choices;

	to->tokens = copy(a, f->tokens, f->n_tokens, sizeof *f->tokens);
	to->targets = n_targets == 0 ? NULL : copy(a, f->targets, f->n_tokens, sizeof *f->targets);
	to->choices = arena_alloc(a, f->n_choices, sizeof(struct choice *));
	to->target_results = arena_alloc(a, drawn, sizeof *to->target_results);
	struct weft_top *tops = arena_alloc(a, drawn * f->top, sizeof *tops);
	to->logits = (f->flags & WEFT_FEED_LOGITS) == 0 ? NULL : arena_alloc(a, job->model->vocab, sizeof *to->logits);
	if (to->tokens == NULL || (to->targets == NULL && n_targets > 0) || to->choices == NULL || to->target_results == NULL ||
	    tops == NULL || (to->logits == NULL && (f->flags & WEFT_FEED_LOGITS) != 0))
		return -1;
	to->draw_results = to->target_results + n_targets;
	for (size_t i = 0; i < drawn; i++)
		to->target_results[i] = (struct weft_drawn){.size = sizeof(struct weft_drawn), .top = tops + i * f->top};
	return 0;
}

int feed_add(struct weft_job *job, const struct weft_feed *f)
{
	struct seq *s = seq_find(job, f->seq);
	uint32_t n_targets = 0;
	int rc = check_feed(job, f, s, &n_targets);

	if (rc != 0)
		return rc;
	if (job->n_feeds == job->feeds_cap) {
		uint32_t cap = job->feeds_cap == 0 ? 4 : job->feeds_cap * 2;
		struct feed *grown = realloc(job->feeds, cap * sizeof *grown);
		if (grown == NULL)
			return run_breach(job, WEFT_ENOMEM, "out of memory");
		job->feeds = grown;
		job->feeds_cap = cap;
	}
	struct feed *to = &job->feeds[job->n_feeds];
	*to = (struct feed){.seq = s,
			    .start = s->n + s->planned,
			    .flags = f->flags,
			    .n_tokens = f->n_tokens,
			    .top = f->top,
			    .n_targets = n_targets};
	if (alloc_feed(job, to, f, n_targets) != 0 || seq_reserve(s, s->n + s->planned + f->n_tokens) != 0)
		return run_breach(job, WEFT_ENOMEM, "out of memory");
	rc = add_choices(job, to, f->choices, f->n_choices);
	if (rc != 0)
		return rc;
	s->planned += f->n_tokens;
	if ((f->flags & WEFT_FEED_PROMPT) != 0)
		job->prompt_total += f->n_tokens;
	job->n_feeds++;
	return 0;
}

/* ---- what need not run ---- */

/* Rows from the next one on of which no more is wanted than their KV. The last row is never among them: the feed ends with a row that runs. */
static uint32_t rows_for_kv(const struct feed *f)
{
	uint32_t row = f->ran, last = f->n_tokens - 1;

	if (row < last && f->targets == NULL)
		return last - row;
	while (row < last && !feed_wants_logits(f, row))
		row++;
	return row - f->ran;
}

/* The next row of f continues its sequence by the path of prompts. */
static bool is_next(const struct feed *f)
{
	return (f->flags & WEFT_FEED_PROMPT) != 0 && f->seq->n == f->start + f->ran;
}

void feed_reuse(struct weft_job *job)
{
	for (uint32_t i = job->feeds_done; i < job->n_feeds; i++) {
		struct feed *f = &job->feeds[i];
		struct seq *s = f->seq;
		if (!is_next(f))
			continue;
		const uint32_t *words = (const uint32_t *)f->tokens + f->ran; /* core_word() of a prompt's token is the token */
		uint32_t got = seq_reuse(job, s, words, rows_for_kv(f));
		memcpy(s->tokens + s->n, words, got * sizeof *words);
		s->n += got;
		f->ran += got;
		job->prompt_done += got;
		job->cached += got;
	}
}

bool feed_page(const struct weft_job *job, unsigned char key[CORE_PAGE_KEY], bool *all)
{
	uint32_t words[CORE_PAGE];

	if (job->feeds_done == job->n_feeds)
		return false;
	const struct feed *f = &job->feeds[job->feeds_done];
	uint32_t there = f->seq->n % CORE_PAGE, more = CORE_PAGE - there;
	if (!is_next(f) || f->n_tokens - f->ran < more)
		return false;
	memcpy(words, f->seq->tokens + f->seq->n - there, there * sizeof *words);
	memcpy(words + there, f->tokens + f->ran, more * sizeof *words);
	*all = there == 0 && rows_for_kv(f) >= CORE_PAGE;
	return core_seq_page_key(job->core, f->seq->kv, words, key);
}

/* ---- reducing ---- */

bool feed_wants_logits(const struct feed *f, uint32_t row)
{
	if (f->targets != NULL && f->targets[row] >= 0)
		return true;
	return row == f->n_tokens - 1 && (f->n_choices > 0 || f->logits != NULL);
}

bool feed_make_chains(struct weft_job *job, struct feed *f)
{
	for (uint32_t i = 0; i < f->n_choices; i++)
		if (!run_choice_chain(job, f->choices[i]))
			return false;
	return true;
}

bool feed_may_go_aside(const struct feed *f)
{
	for (uint32_t i = 0; i < f->n_choices; i++)
		if (f->choices[i]->has_chain && !f->choices[i]->chain.side_by_side)
			return false;
	return true;
}

/* Does anybody want the sum over a whole row of f? */
static bool wants_sum(const struct feed *f)
{
	if ((f->flags & WEFT_FEED_NO_LOGPROBS) == 0 || f->n_targets > 0 || f->top > 0)
		return true;
	for (uint32_t i = 0; i < f->n_choices; i++)
		if (f->choices[i]->chain.n == 0)
			return true; /* the draw is from the row itself */
	return false;
}

void feed_measure(const struct weft_job *job, const struct feed *f, const float *logits, struct measured *m)
{
	uint32_t vocab = job->model->vocab;

	m->weighed = wants_sum(f);
	m->sane = m->weighed ? logits_weigh(&m->row, logits, vocab) : logits_best(&m->row, logits, vocab);
	m->n_top = m->sane ? logits_top(&m->row, logits, vocab, f->top, m->top) : 0;
}

static void fill_drawn(struct weft_drawn *d, int32_t token, const float *logits, const struct measured *m)
{
	d->token = token;
	d->logprob = m->weighed ? logits_logprob(&m->row, logits[token]) : 0;
	d->greedy = token == m->row.best;
	d->n_top = m->n_top;
	memcpy((struct weft_top *)d->top, m->top, m->n_top * sizeof *m->top);
}

static bool draw_all(struct weft_job *job, struct feed *f, const float *logits, const struct measured *m, uint64_t position,
		     struct chain_room *room)
{
	for (uint32_t i = 0; i < f->n_choices; i++) {
		struct choice *c = f->choices[i];
		int32_t token;
		if (!chain_draw(&c->chain, job, room, logits, &m->row, position, &token))
			return false;
		fill_drawn(&f->draw_results[i], token, logits, m);
		f->draw_results[i].choice = c->index;
		job->drawn++;
	}
	return true;
}

bool feed_row(struct weft_job *job, struct feed *f, uint32_t row, const float *logits, const struct measured *m, struct chain_room *room)
{
	uint64_t position = (uint64_t)f->start + row + 1; /* of the token that comes next */

	if (!m->sane) {
		run_end(job, END_FAILED, WEFT_EINTERNAL, "the model computed logits that are not numbers, at position %llu",
			(unsigned long long)position);
		return false;
	}
	if (f->targets != NULL && f->targets[row] >= 0)
		fill_drawn(&f->target_results[f->targets_done++], f->targets[row], logits, m);
	if (row < f->n_tokens - 1)
		return true;
	if (f->logits != NULL)
		memcpy(f->logits, logits, job->model->vocab * sizeof *logits);
	return draw_all(job, f, logits, m, position, room);
}

/* ---- where the core draws ---- */

static bool has_target(const struct feed *f, uint32_t row)
{
	return f->targets != NULL && f->targets[row] >= 0;
}

bool feed_draw(const struct weft_job *job, const struct feed *f, uint32_t row, struct core_draw *out,
	       struct core_edit edits[static CORE_EDITS])
{
	bool draws = row == f->n_tokens - 1 && f->n_choices > 0;

	if ((row == f->n_tokens - 1 && f->logits != NULL) || draws == has_target(f, row))
		return false;
	if (!draws)
		*out = (struct core_draw){.given = 1 + (uint32_t)f->targets[row]};
	else if (f->n_choices > 1 || !f->choices[0]->has_chain ||
		 !chain_formula(&f->choices[0]->chain, job, (uint64_t)f->start + row + 1, out, edits))
		return false;
	out->top = f->top;
	return true;
}

bool feed_token(struct weft_job *job, struct feed *f, uint32_t row, const struct core_drawn *drawn)
{
	const struct logits_row measured = {.best = drawn->best, .lse = logits_lse(drawn->max, drawn->total)};
	bool target = has_target(f, row);
	struct weft_drawn *d = target ? &f->target_results[f->targets_done++] : &f->draw_results[0];
	struct weft_top *top = (struct weft_top *)d->top;

	d->token = drawn->token;
	d->logprob = wants_sum(f) ? logits_logprob(&measured, drawn->logit) : 0;
	d->greedy = drawn->token == drawn->best;
	d->n_top = (uint32_t)drawn->n_top;
	for (uint32_t i = 0; i < d->n_top; i++)
		top[i] = (struct weft_top){drawn->top[i].token, logits_logprob(&measured, drawn->top[i].logit)};
	if (target)
		return true;
	d->choice = f->choices[0]->index;
	if (!chain_take(&f->choices[0]->chain, job, drawn->token))
		return false;
	job->drawn++;
	return true;
}

uint64_t feed_work(const struct weft_job *job)
{
	uint64_t work = 0;

	for (uint32_t i = 0; i < job->n_feeds; i++) {
		const struct feed *f = &job->feeds[i];
		uint64_t asked = (uint64_t)f->n_targets + f->n_choices;
		uint64_t fed = (f->flags & WEFT_FEED_PROMPT) != 0 ? 0 : f->n_tokens;
		work += asked > fed ? asked : fed;
	}
	return work;
}

int feed_results(struct weft_job *job, struct weft_result **out)
{
	struct weft_result *r = arena_alloc(&job->arena, job->n_feeds, sizeof *r);

	if (r == NULL)
		return -1;
	for (uint32_t i = 0; i < job->n_feeds; i++) {
		const struct feed *f = &job->feeds[i];
		r[i] = (struct weft_result){.size = sizeof *r,
					    .seq = f->seq->number,
					    .draws = f->draw_results,
					    .n_draws = f->n_choices,
					    .n_targets = f->n_targets,
					    .targets = f->target_results,
					    .logits = f->logits};
	}
	*out = r;
	return 0;
}

void feed_clear(struct weft_job *job)
{
	for (uint32_t i = 0; i < job->n_seqs; i++)
		job->seqs[i]->planned = 0;
	job->n_feeds = job->feeds_done = 0;
	job->values = 0;
	job->prompt_done = job->prompt_total = 0;
	job->progress_at = 0;
	arena_clear(&job->arena);
}
