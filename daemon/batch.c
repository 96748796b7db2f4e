/* batch.c: building the rows of one step. */
#include <stdlib.h>
#include <string.h>

#include "daemon/batch.h"

int batch_init(struct batch *b, uint32_t max_rows)
{
	*b = (struct batch){.cap = max_rows};
	b->rows = calloc(max_rows, sizeof *b->rows);
	b->from = calloc(max_rows, sizeof *b->from);
	if (b->rows == NULL || b->from == NULL) {
		batch_finish(b);
		return -1;
	}
	return 0;
}

void batch_finish(struct batch *b)
{
	free(b->rows);
	free(b->from);
	free(b->turns);
	free(b->pages);
	*b = (struct batch){0};
}

/* ---- rank ---- */

/* True when a has to give way before b. */
static bool lower(const struct weft_job *a, const struct weft_job *b)
{
	if (a->spec->class != b->spec->class)
		return a->spec->class == CLASS_BATCH;
	if (a->spec->priority != b->spec->priority)
		return a->spec->priority > b->spec->priority;
	return a->born > b->born;
}

static bool active(const struct weft_job *job)
{
	return !job->parked && !job->ended;
}

struct weft_job *batch_lowest(struct weft_job *jobs)
{
	struct weft_job *low = NULL;

	for (struct weft_job *j = jobs; j != NULL; j = j->next)
		if (active(j) && run_holds_pages(j) && (low == NULL || lower(j, low)))
			low = j;
	return low;
}

/* ---- rows ---- */

/* Adds up to m rows that continue s, as many as there are pages for. Fewer than m (and not by b->cap): pages are short. */
static uint32_t reserve_pages(struct batch *b, struct weft_job *job, const struct seq *s, uint32_t m)
{
	uint32_t before = s->batched == 0 ? 0 : core_seq_pages_needed(job->core, s->kv, s->batched);

	while (m > 0) {
		uint32_t more = core_seq_pages_needed(job->core, s->kv, s->batched + m) - before;
		if (more <= b->pages_left) {
			b->pages_left -= more;
			break;
		}
		uint32_t over = (more - b->pages_left - 1) * CORE_PAGE + 1; /* at least so many rows too many */
		m = m > over ? m - over : 0;
	}
	return m;
}

static void add_row(struct batch *b, struct weft_job *job, struct seq *s, struct feed *f, uint32_t row, int32_t token,
		    enum core_path path)
{
	b->rows[b->n] = (struct core_row){s->kv, token, path, f != NULL && feed_wants_logits(f, row)};
	b->from[b->n++] = (struct batch_from){job, s, f, row};
	s->batched++;
}

enum taken { TAKEN, SHORT };

static enum taken take_rebuild(struct batch *b, struct weft_job *job, uint32_t grant)
{
	for (uint32_t i = 0; i < job->n_seqs && grant > 0; i++) {
		struct seq *s = job->order[i];
		if (s->kv == NULL)
			continue; /* its source is not so far yet */
		uint32_t at = s->present + s->batched, want = s->n - at < grant ? s->n - at : grant;
		uint32_t got = reserve_pages(b, job, s, want);
		for (uint32_t k = 0; k < got; k++) {
			uint32_t t = s->tokens[at + k];
			add_row(b, job, s, NULL, 0, (int32_t)(t & ~CORE_WORD_GENERATED),
				(t & CORE_WORD_GENERATED) != 0 ? CORE_GENERATED : CORE_PROMPT);
		}
		grant -= got;
		if (got < want)
			return SHORT;
	}
	return TAKEN;
}

static enum taken take_feeds(struct batch *b, struct weft_job *job, uint32_t grant)
{
	for (uint32_t i = job->feeds_done; i < job->n_feeds && grant > 0; i++) {
		struct feed *f = &job->feeds[i];
		uint32_t at = f->ran + f->batched, want = f->n_tokens - at < grant ? f->n_tokens - at : grant;
		uint32_t got = reserve_pages(b, job, f->seq, want);
		for (uint32_t k = 0; k < got; k++)
			add_row(b, job, f->seq, f, at + k, f->tokens[at + k],
				(f->flags & WEFT_FEED_PROMPT) != 0 ? CORE_PROMPT : CORE_GENERATED);
		f->batched += got;
		grant -= got;
		if (got < want)
			return SHORT;
	}
	return TAKEN;
}

/* ---- claims ---- */

/* Pages that a rebuild takes, all told: it begins only when they are there, lest it is parked again half way. */
static uint32_t rebuild_pages(const struct weft_job *job)
{
	uint64_t pages = 0;

	for (uint32_t i = 0; i < job->n_seqs; i++)
		pages += (job->order[i]->n - job->order[i]->shared + CORE_PAGE - 1) / CORE_PAGE + 1;
	return pages > UINT32_MAX ? UINT32_MAX : (uint32_t)pages;
}

static uint32_t claim(const struct weft_job *job, uint32_t cap, bool *generates)
{
	uint64_t want = 0;

	*generates = false;
	if (job->rebuilding) {
		for (uint32_t i = 0; i < job->n_seqs; i++)
			want += job->seqs[i]->kv == NULL ? 0 : job->seqs[i]->n - job->seqs[i]->present;
	} else if (job->feeds_done < job->n_feeds) {
		const struct feed *first = &job->feeds[job->feeds_done];
		*generates = (first->flags & WEFT_FEED_PROMPT) == 0 && first->n_tokens <= BATCH_SHORT_FEED;
		for (uint32_t i = job->feeds_done; i < job->n_feeds && want < cap; i++) {
			const struct feed *f = &job->feeds[i];
			if (*generates && ((f->flags & WEFT_FEED_PROMPT) != 0 || f->n_tokens > BATCH_SHORT_FEED))
				break; /* the long one behind it has its turn among the prompts */
			want += f->n_tokens - f->ran;
		}
	}
	return want > cap ? cap : (uint32_t)want;
}

/* In the order of a step; behind each of the last two stands the same of batch class. */
enum { IMPATIENT = 0, GENERATING = 1, BATCH_GENERATING = 2, INTERACTIVE_PROMPTS = 3 };

static int by_turn(const void *x, const void *y)
{
	const struct batch_turn *a = x, *b = y;

	if (a->group != b->group)
		return a->group < b->group ? -1 : 1;
	if (a->job->waited != b->job->waited)
		return a->job->waited > b->job->waited ? -1 : 1;
	return a->job->born < b->job->born ? -1 : 1;
}

static int by_want(const void *x, const void *y)
{
	const struct batch_turn *a = x, *b = y;

	if (a->want != b->want)
		return a->want < b->want ? -1 : 1;
	return a->job->born < b->job->born ? -1 : 1;
}

/* Room for one more behind list[n). NULL: out of memory, and the list is as it was. */
static void *grow(void *list, uint32_t n, uint32_t *cap, size_t item)
{
	if (n < *cap)
		return list;
	uint32_t more = *cap == 0 ? 64 : *cap * 2;
	void *grown = realloc(list, more * item);
	if (grown != NULL)
		*cap = more;
	return grown;
}

static int by_page(const void *x, const void *y)
{
	const struct batch_page *a = x, *b = y;
	int order = memcmp(a->key, b->key, sizeof a->key);

	return order != 0 ? order : lower(a->job, b->job) ? 1 : -1;
}

/* Finds the jobs that are behind another one. -1: out of memory. */
static int line_up(struct batch *b, struct weft_job *jobs)
{
	uint32_t n = 0;

	for (struct weft_job *j = jobs; j != NULL; j = j->next) {
		struct batch_page page = {.job = j};
		j->behind = false;
		if (!active(j) || j->rebuilding || !feed_page(j, page.key, &page.all))
			continue;
		struct batch_page *grown = grow(b->pages, n, &b->pages_cap, sizeof *grown);
		if (grown == NULL)
			return -1;
		b->pages = grown;
		b->pages[n++] = page;
	}
	if (n > 1)
		qsort(b->pages, n, sizeof *b->pages, by_page);
	for (uint32_t i = 1; i < n; i++)
		b->pages[i].job->behind = b->pages[i].all && memcmp(b->pages[i].key, b->pages[i - 1].key, sizeof b->pages[i].key) == 0;
	return 0;
}

/* Collects the claims in order of groups. Returns how many, or -1. */
static int64_t collect(struct batch *b, struct weft_job *jobs)
{
	uint32_t n = 0;

	for (struct weft_job *j = jobs; j != NULL; j = j->next) {
		bool generates;
		uint32_t want = active(j) && !j->behind && !j->loading ? claim(j, b->cap, &generates) : 0;
		if (want == 0)
			continue;
		struct batch_turn *grown = grow(b->turns, n, &b->turns_cap, sizeof *grown);
		if (grown == NULL)
			return -1;
		b->turns = grown;
		uint32_t group = (generates ? GENERATING : INTERACTIVE_PROMPTS) + (j->spec->class == CLASS_BATCH);
		b->turns[n++] = (struct batch_turn){j, want, j->waited >= BATCH_PATIENCE ? IMPATIENT : group, generates};
	}
	if (n > 1)
		qsort(b->turns, n, sizeof *b->turns, by_turn);
	return n;
}

/* ---- building ---- */

static enum taken take(struct batch *b, struct weft_job *job, uint32_t grant, bool alone)
{
	if (!job->rebuilding)
		return take_feeds(b, job, grant);
	if (!alone && !run_holds_pages(job) && rebuild_pages(job) > b->pages_left)
		return SHORT;
	return take_rebuild(b, job, grant);
}

/* Whom a job that is short of pages may send away; NULL: nobody of lower rank. *alone: nobody else holds any. */
static struct weft_job *gives_way(struct weft_job *jobs, const struct weft_job *to, bool *alone)
{
	struct weft_job *low = NULL;

	*alone = true;
	for (struct weft_job *j = jobs; j != NULL; j = j->next) {
		if (j == to || !active(j) || !run_holds_pages(j))
			continue;
		*alone = false;
		if (lower(j, to) && (low == NULL || lower(j, low)))
			low = j;
	}
	return low;
}

void batch_clear(struct batch *b)
{
	for (uint32_t i = 0; i < b->n; i++) {
		b->from[i].seq->batched = 0;
		if (b->from[i].feed != NULL)
			b->from[i].feed->batched = 0;
	}
	b->n = 0;
}

/* Gives the claims turns[0..n) up to `budget` rows. */
static enum batch_state serve(struct batch *b, struct batch_turn *turns, uint32_t n, uint32_t budget, struct weft_job *jobs,
			      struct weft_job **who, struct weft_job **stuck)
{
	qsort(turns, n, sizeof *turns, by_want);
	for (uint32_t i = 0; i < n && budget > 0; i++) {
		struct weft_job *job = turns[i].job;
		uint32_t share = (budget + n - i - 1) / (n - i), before = b->n;
		uint32_t grant = turns[i].want < share ? turns[i].want : share;
		if (!turns[i].generates && grant > b->prompt_left)
			grant = b->prompt_left;
		bool alone;
		enum taken t = take(b, job, grant, false);
		if (t == SHORT && (*who = gives_way(jobs, job, &alone)) != NULL)
			return BATCH_PREEMPT;
		if (t == SHORT && alone && b->n == before)
			t = take(b, job, grant, true);
		if (t == SHORT && (*stuck == NULL || lower(*stuck, job)))
			*stuck = job;
		budget -= b->n - before;
		b->prompt_left -= turns[i].generates ? 0 : b->n - before;
	}
	return BATCH_READY;
}

/* The impatient beside a first token that somebody waits for: one after the other, and of what prompts may have a quarter, too, lest so
 * many of them that each is impatient at its turn leave nothing. */
static enum batch_state serve_impatient(struct batch *b, struct batch_turn *turns, uint32_t n, struct weft_job *jobs,
					struct weft_job **who, struct weft_job **stuck)
{
	uint32_t left = (b->cap - b->n + 3) / 4, kept = b->prompt_left - (b->prompt_left + 3) / 4;
	enum batch_state state = BATCH_READY;

	b->prompt_left -= kept;
	for (uint32_t i = 0; i < n && left > 0 && state == BATCH_READY; i++) {
		uint32_t before = b->n;
		state = serve(b, turns + i, 1, left, jobs, who, stuck);
		left -= b->n - before;
	}
	b->prompt_left += kept;
	return state;
}

/* Rows of the step that batch jobs which generate leave to first tokens that somebody waits for, lest jobs of many choices take all. */
static uint32_t kept_for_first_tokens(const struct batch *b)
{
	uint32_t quarter = (b->cap - b->n) / 4, most = b->prompt_left < quarter ? b->prompt_left : quarter;

	return b->first_tokens < most ? b->first_tokens : most;
}

/* The whole group turns[0..n), those who waited longest first: as many at a time as can have a row each, or of prompts a piece that
 * is not tiny. */
static enum batch_state serve_group(struct batch *b, struct batch_turn *turns, uint32_t n, struct weft_job *jobs,
				    struct weft_job **who, struct weft_job **stuck)
{
	uint32_t group = turns->group, left = b->cap - b->n;

	if (group == IMPATIENT)
		left = left < 4 ? left : left / 4;
	else if (group == BATCH_GENERATING)
		left -= kept_for_first_tokens(b);
	else if (group >= INTERACTIVE_PROMPTS && left > b->prompt_left)
		left = b->prompt_left;
	while (n > 0 && left > 0) {
		uint32_t at_once = group < INTERACTIVE_PROMPTS ? left : left < BATCH_LEAST ? 1 : left / BATCH_LEAST;
		uint32_t m = n < at_once ? n : at_once, before = b->n;
		enum batch_state state = serve(b, turns, m, left, jobs, who, stuck);
		if (state != BATCH_READY)
			return state;
		left -= b->n - before;
		turns += m;
		n -= m;
	}
	return BATCH_READY;
}

enum batch_state batch_build(struct batch *b, struct weft_job *jobs, struct core_ctx *core, struct weft_job **who)
{
	struct weft_job *stuck = NULL;
	int64_t n;

	batch_clear(b);
	b->pages_left = core_ctx_pages_free(core);
	*who = NULL;
	n = line_up(b, jobs) != 0 ? -1 : collect(b, jobs);
	if (n < 0)
		return BATCH_NO_MEMORY;
	bool generating = false;
	b->first_tokens = 0;
	for (int64_t i = 0; i < n; i++) {
		generating |= b->turns[i].generates;
		b->first_tokens += b->turns[i].group == INTERACTIVE_PROMPTS ? b->turns[i].want : 0;
	}
	b->prompt_left = generating ? b->beside : b->alone;
	if (b->prompt_left == 0)
		b->prompt_left = b->cap;
	for (int64_t at = 0, end; at < n; at = end) {
		uint32_t before = b->n;
		for (end = at; end < n && b->turns[end].group == b->turns[at].group; end++)
			;
		bool hurry = b->turns[at].group == IMPATIENT && b->first_tokens > 0;
		enum batch_state state = (hurry ? serve_impatient : serve_group)(b, b->turns + at, (uint32_t)(end - at), jobs, who, &stuck);
		if (state != BATCH_READY)
			return state;
		if (b->turns[at].group == INTERACTIVE_PROMPTS && b->n > before && b->beside > 0 && b->prompt_left > b->beside)
			b->prompt_left = b->beside;
	}
	/* Every job was short: the highest of them has sent all others away, and it is still not enough. */
	if (b->n == 0 && stuck != NULL) {
		*who = stuck;
		return BATCH_STUCK;
	}
	for (struct weft_job *j = jobs; j != NULL; j = j->next)
		j->waited += !j->behind;
	for (uint32_t i = 0; i < b->n; i++)
		b->from[i].job->waited = 0;
	return BATCH_READY;
}

struct batch_rows batch_ran(struct batch *b)
{
	struct batch_rows rows = {0};

	for (uint32_t i = 0; i < b->n; i++) {
		const struct batch_from *from = &b->from[i];
		struct seq *s = from->seq;
		bool generated = b->rows[i].path == CORE_GENERATED;
		s->present++;
		s->batched = 0;
		if (from->feed == NULL) {
			rows.rebuilt++;
			continue;
		}
		rows.generated += generated;
		rows.prompt += !generated;
		s->tokens[s->n++] = core_word(b->rows[i].token, b->rows[i].path); /* feed_add made room */
		from->feed->ran++;
		from->feed->batched = 0;
		from->job->prompt_done += !generated;
	}
	return rows;
}
