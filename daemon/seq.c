/* seq.c: the token sequences of a job and their KV.
 *
 * A sequence remembers each token and the path it came by. That is all a rebuild needs: promise P1 of the core says that the same
 * tokens by the same paths give the same KV. Beginnings that sequences have in common are computed once and forked, as they were
 * the first time: sorted by their tokens, a sequence shares the most with the one before it. */
#include <stdlib.h>
#include <string.h>

#include "daemon/run.h"

struct seq *seq_find(const struct weft_job *job, uint32_t number)
{
	uint32_t lo = 0, hi = job->n_seqs;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (job->seqs[mid]->number < number)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < job->n_seqs && job->seqs[lo]->number == number ? job->seqs[lo] : NULL;
}

int seq_reserve(struct seq *s, uint32_t n)
{
	uint32_t cap = s->cap == 0 ? 64 : s->cap;

	if (n <= s->cap)
		return 0;
	while (cap < n)
		cap = cap > UINT32_MAX / 2 ? n : cap * 2;
	uint32_t *grown = realloc(s->tokens, cap * sizeof *grown);
	if (grown == NULL)
		return -1;
	s->tokens = grown;
	s->cap = cap;
	return 0;
}

static void seq_free(struct weft_job *job, struct seq *s)
{
	if (s == NULL)
		return;
	if (s->kv != NULL)
		core_seq_free(job->core, s->kv);
	free(s->tokens);
	free(s);
}

/* Puts s at the end of the job's list; takes ownership also on failure. */
static struct seq *enlist(struct weft_job *job, struct seq *s, uint32_t number)
{
	if (job->n_seqs == job->seqs_cap) {
		uint32_t cap = job->seqs_cap == 0 ? 4 : job->seqs_cap * 2;
		struct seq **grown = realloc(job->seqs, cap * sizeof *grown);
		if (grown == NULL) {
			seq_free(job, s);
			return NULL;
		}
		job->seqs = grown;
		job->seqs_cap = cap;
	}
	s->number = number;
	job->seqs[job->n_seqs++] = s;
	return s;
}

struct seq *seq_restore(struct weft_job *job, uint32_t number, uint32_t n)
{
	struct seq *s = calloc(1, sizeof *s);

	if (s == NULL)
		return NULL;
	if (seq_reserve(s, n + 1) != 0) {
		seq_free(job, s);
		return NULL;
	}
	s->n = n;
	return enlist(job, s, number);
}

/* A core sequence with the job's blend and salt. NULL: out of memory. */
static struct core_seq *open_kv(struct weft_job *job)
{
	const struct engine_job *spec = job->spec;
	struct core_seq *kv = core_seq_new(job->core);

	if (kv != NULL && (core_seq_set_blend(job->core, kv, spec->blend) != 0 || core_seq_set_salt(kv, spec->salt, spec->salt_len) != 0)) {
		core_seq_free(job->core, kv);
		return NULL;
	}
	return kv;
}

struct seq *seq_make(struct weft_job *job)
{
	struct seq *s = calloc(1, sizeof *s);

	if (s == NULL)
		return NULL;
	s->kv = open_kv(job);
	if (s->kv == NULL) {
		seq_free(job, s);
		return NULL;
	}
	return enlist(job, s, job->next_seq++);
}

struct seq *seq_fork(struct weft_job *job, const struct seq *from)
{
	struct seq *s = calloc(1, sizeof *s);

	if (s == NULL)
		return NULL;
	if (seq_reserve(s, from->n + 1) != 0 || (s->kv = core_seq_fork(job->core, from->kv)) == NULL) {
		seq_free(job, s);
		return NULL;
	}
	if (from->n > 0)
		memcpy(s->tokens, from->tokens, from->n * sizeof *s->tokens);
	s->n = s->present = from->n;
	return enlist(job, s, job->next_seq++);
}

void seq_drop(struct weft_job *job, struct seq *s)
{
	uint32_t at = 0;

	while (job->seqs[at] != s)
		at++;
	memmove(job->seqs + at, job->seqs + at + 1, (job->n_seqs - at - 1) * sizeof *job->seqs);
	job->n_seqs--;
	seq_free(job, s);
}

void seq_free_all(struct weft_job *job)
{
	for (uint32_t i = 0; i < job->n_seqs; i++)
		seq_free(job, job->seqs[i]);
	free(job->seqs);
	free(job->order);
	job->seqs = job->order = NULL;
	job->n_seqs = job->seqs_cap = 0;
}

uint32_t seq_reuse(struct weft_job *job, struct seq *s, const uint32_t *words, uint32_t n)
{
	uint32_t got = core_seq_reuse(job->core, s->kv, words, n);

	s->present += got;
	job->out->prefix_hits += got > 0;
	job->out->prefix_tokens += got;
	return got;
}

/* ---- giving up and rebuilding ---- */

void seq_park(struct weft_job *job)
{
	for (uint32_t i = 0; i < job->n_seqs; i++) {
		struct seq *s = job->seqs[i];
		if (s->kv != NULL)
			core_seq_free(job->core, s->kv);
		s->kv = NULL;
		s->present = s->batched = 0;
	}
	free(job->order);
	job->order = NULL;
}

static uint32_t common(const struct seq *a, const struct seq *b)
{
	uint32_t n = a->n < b->n ? a->n : b->n, i = 0;

	while (i < n && a->tokens[i] == b->tokens[i])
		i++;
	return i;
}

/* The longer one first when one is the beginning of the other: then the shorter needs no row of its own. */
static int by_tokens(const void *x, const void *y)
{
	const struct seq *a = *(struct seq *const *)x, *b = *(struct seq *const *)y;
	uint32_t i = common(a, b);

	if (i < a->n && i < b->n)
		return a->tokens[i] < b->tokens[i] ? -1 : 1;
	if (a->n != b->n)
		return a->n > b->n ? -1 : 1;
	return a->number < b->number ? -1 : 1;
}

int seq_rebuild_begin(struct weft_job *job)
{
	uint32_t n = job->n_seqs;

	job->order = malloc((n == 0 ? 1 : n) * sizeof *job->order);
	if (job->order == NULL)
		return -1;
	if (n > 0) {
		memcpy(job->order, job->seqs, n * sizeof *job->order);
		qsort(job->order, n, sizeof *job->order, by_tokens);
	}
	for (uint32_t i = 0; i < n; i++) {
		struct seq *s = job->order[i];
		s->source = i == 0 ? NULL : job->order[i - 1];
		s->shared = i == 0 ? 0 : common(s, s->source);
	}
	return 0;
}

/* Gives s its KV when its source is far enough, with all that the prefix cache has behind that: 1 yes, 0 not yet, -1 out of memory. */
static int reopen(struct weft_job *job, struct seq *s)
{
	if (s->shared > 0 && (s->source->kv == NULL || s->source->present < s->shared))
		return 0;
	s->kv = s->shared == 0 ? open_kv(job) : core_seq_fork(job->core, s->source->kv);
	if (s->kv == NULL || core_seq_trim(job->core, s->kv, s->shared) != 0)
		return -1;
	s->present = s->shared;
	if (s->n > s->shared)
		seq_reuse(job, s, s->tokens + s->shared, s->n - s->shared);
	return 1;
}

int seq_rebuild_settle(struct weft_job *job)
{
	bool over = true;

	for (uint32_t i = 0; i < job->n_seqs; i++) { /* in this order one that opens may open the next */
		struct seq *s = job->order[i];
		if (s->kv == NULL && reopen(job, s) < 0)
			return -1;
		over = over && s->kv != NULL && s->present == s->n;
	}
	return over;
}
