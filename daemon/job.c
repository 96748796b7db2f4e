/* job.c: the state machine and the table of jobs. */
#include "job.h"
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

static const char *const state_names[] = {
#define X(id, name) #name,
	JOB_STATES(X)
#undef X
};

const char *job_state_name(enum job_state s)
{
	return state_names[s];
}

int job_state_parse(const char *name, size_t len)
{
	for (int i = 0; i < JOB_N_STATES; i++)
		if (strlen(state_names[i]) == len && memcmp(state_names[i], name, len) == 0)
			return i;
	return -1;
}

/* ---- the table ---- */

int jobs_init(struct jobs *t)
{
	*t = (struct jobs){.size = 1024};
	TAILQ_INIT(&t->all);
	TAILQ_INIT(&t->ended);
	t->table = calloc(t->size, sizeof *t->table);
	return t->table ? 0 : -1;
}

void jobs_finish(struct jobs *t)
{
	struct job *j;
	while (t->table && (j = TAILQ_FIRST(&t->all)))
		job_forget(t, j);
	free(t->table);
	*t = (struct jobs){0};
}

static struct job **slot(const struct jobs *t, uint64_t id)
{
	return &t->table[id & (t->size - 1)]; /* ids count up: no better hash is needed */
}

static void grow(struct jobs *t)
{
	size_t old_size = t->size;
	struct job **old = t->table, **table = calloc(2 * old_size, sizeof *table);
	if (!table)
		return; /* longer chains do no harm */
	t->table = table;
	t->size = 2 * old_size;
	for (size_t i = 0; i < old_size; i++)
		for (struct job *j = old[i], *next; j; j = next) {
			next = j->chain;
			j->chain = *slot(t, j->id);
			*slot(t, j->id) = j;
		}
	free(old);
}

uint64_t jobs_ids_left(const struct jobs *t)
{
	if (!t->ids_end)
		return UINT64_MAX;
	return t->ids_end - 1 - t->last_id + t->more_ids[1] - t->more_ids[0];
}

uint64_t jobs_take_id(struct jobs *t)
{
	if (!jobs_ids_left(t))
		return 0;
	if (t->last_id + 1 == t->ids_end) {
		t->last_id = t->more_ids[0] - 1;
		t->ids_end = t->more_ids[1];
		t->more_ids[0] = t->more_ids[1] = 0;
	}
	return ++t->last_id;
}

void jobs_add_ids(struct jobs *t, uint64_t first, uint64_t end)
{
	if (!t->ids_end) {
		t->last_id = first - 1;
		t->ids_end = end;
	} else if (first == t->ids_end && !t->more_ids[1]) {
		t->ids_end = end;
	} else { /* another use of the store's numbers came between */
		t->more_ids[0] = first;
		t->more_ids[1] = end;
	}
}

/* Nearly always at the end: only jobs that come out of the store have older numbers. */
static void insert_by_id(struct jobs *t, struct job *j)
{
	struct job *before = TAILQ_LAST(&t->all, job_list);
	while (before && before->id > j->id)
		before = TAILQ_PREV(before, job_list, by_id);
	if (before)
		TAILQ_INSERT_AFTER(&t->all, before, j, by_id);
	else
		TAILQ_INSERT_HEAD(&t->all, j, by_id);
}

struct job *job_new(struct jobs *t)
{
	uint64_t id = jobs_take_id(t);
	return id ? job_new_as(t, id) : NULL;
}

struct job *job_new_as(struct jobs *t, uint64_t id)
{
	struct job *j = calloc(1, sizeof *j);
	if (!j)
		return NULL;
	if (t->n >= t->size)
		grow(t);
	j->id = id;
	j->entry.id = j->id;
	j->chain = *slot(t, j->id);
	*slot(t, j->id) = j;
	insert_by_id(t, j);
	t->n++;
	t->count[JOB_QUEUED]++;
	t->total[JOB_QUEUED]++;
	return j;
}

struct job *job_find(const struct jobs *t, uint64_t id)
{
	struct job *j = *slot(t, id);
	while (j && j->id != id)
		j = j->chain;
	return j;
}

static void free_events(struct job *j)
{
	for (size_t i = 0; i < j->n_events; i++)
		free(j->events[i].data);
	free(j->events);
}

static void score_finish(struct job_score *s)
{
	free(s->tokens); /* the tops stand in the same block */
	*s = (struct job_score){0};
}

void job_drop_answer(struct job *j)
{
	for (uint32_t i = 0; j->choices && i < j->n_choices; i++) {
		free(j->choices[i].text);
		free(j->choices[i].tokens);
		free(j->choices[i].logprobs);
	}
	for (size_t i = 0; i < j->n_scores; i++)
		score_finish(&j->scores[i]);
	score_finish(&j->prompt_score);
	free(j->choices);
	free(j->scores);
	j->choices = NULL;
	j->scores = NULL;
	j->n_scores = 0;
}

void job_forget(struct jobs *t, struct job *j)
{
	struct job **p = slot(t, j->id);
	while (*p != j)
		p = &(*p)->chain;
	*p = j->chain;
	TAILQ_REMOVE(&t->all, j, by_id);
	t->n--;
	t->count[j->state]--;
	if (job_state_final(j->state)) {
		TAILQ_REMOVE(&t->ended, j, by_end);
		t->n_ended--;
		t->ended_bytes -= j->event_bytes;
	}
	job_drop_answer(j);
	free_events(j);
	if (j->work)
		engine_job_free(j->work);
	task_free(j->task);
	journal_free(j->journal);
	free(j);
}

/* ---- the mover ---- */

int job_move(struct jobs *t, struct job *j, enum job_state to)
{
	static const unsigned arrows[JOB_N_STATES] = {
		[JOB_QUEUED] = 1 << JOB_RUNNING | 1 << JOB_FAILED | 1 << JOB_CANCELLED | 1 << JOB_EXPIRED | 1 << JOB_DEAD,
		[JOB_RUNNING] = 1 << JOB_PREEMPTED | 1 << JOB_DONE | 1 << JOB_FAILED | 1 << JOB_CANCELLED | 1 << JOB_EXPIRED,
		[JOB_PREEMPTED] = 1 << JOB_RUNNING | 1 << JOB_FAILED | 1 << JOB_CANCELLED | 1 << JOB_EXPIRED,
	};
	if (!(arrows[j->state] >> to & 1))
		return -1;
	t->count[j->state]--;
	t->count[to]++;
	t->total[to]++;
	j->state = to;
	if (job_state_final(to)) {
		TAILQ_INSERT_TAIL(&t->ended, j, by_end);
		t->n_ended++;
		t->ended_bytes += j->event_bytes;
	}
	return 0;
}

/* ---- events and answers ---- */

static int reserve(void **array, size_t *cap, size_t n, size_t item)
{
	if (n <= *cap)
		return 0;
	size_t want = n < 16 ? 16 : n + n / 2;
	void *grown = realloc(*array, want * item);
	if (!grown)
		return -1;
	*array = grown;
	*cap = want;
	return 0;
}

int job_keep_event(struct jobs *t, struct job *j, void *data, size_t len)
{
	if (reserve((void **)&j->events, &j->events_cap, j->n_events + 1, sizeof *j->events)) {
		free(data);
		return -1;
	}
	j->events[j->n_events++] = (struct job_event){.data = data, .len = len};
	j->event_bytes += len;
	if (job_state_final(j->state))
		t->ended_bytes += len;
	return 0;
}

int job_add_delta(struct job *j, const struct engine_event *e)
{
	if (!j->choices || e->choice >= j->n_choices)
		return -1;
	struct job_choice *c = &j->choices[e->choice];
	if (reserve((void **)&c->text, &c->text_cap, c->len + e->text_len, 1) ||
	    reserve((void **)&c->tokens, &c->tokens_cap, c->n_tokens + e->n_tokens, sizeof *c->tokens))
		return -1;
	if (e->text_len)
		memcpy(c->text + c->len, e->text, e->text_len);
	c->len += e->text_len;
	for (size_t i = 0; i < e->n_tokens; i++)
		c->tokens[c->n_tokens++] = e->tokens[i].token;
	return 0;
}

int job_add_logprobs(struct job *j, uint32_t choice, const void *entries, size_t len, size_t n)
{
	if (!j->choices || choice >= j->n_choices)
		return -1;
	struct job_choice *c = &j->choices[choice];
	if (reserve((void **)&c->logprobs, &c->logprobs_cap, c->logprobs_len + len, 1))
		return -1;
	memcpy(c->logprobs + c->logprobs_len, entries, len);
	c->logprobs_len += len;
	c->n_logprobs += n;
	return 0;
}

int job_add_score(struct job *j, struct engine_event *e)
{
	if (!e->first_null && (!j->score || e->choice >= j->n_choices))
		return -1;
	if (!e->first_null && !j->scores) {
		j->scores = calloc(j->n_choices, sizeof *j->scores);
		if (!j->scores)
			return -1;
		j->n_scores = j->n_choices;
	}
	struct job_score *s = e->first_null ? &j->prompt_score : &j->scores[e->choice];
	if (s->present)
		return -1;
	*s = (struct job_score){.present = true,
				.greedy = e->greedy,
				.first_null = e->first_null,
				.logprob = e->logprob,
				.tokens = e->tokens,
				.n_tokens = e->n_tokens};
	e->tokens = NULL;
	e->n_tokens = 0;
	return 0;
}

static void digest_number(crypto_hash_sha256_state *h, uint32_t v)
{
	unsigned char le[4] = {v & 0xff, v >> 8 & 0xff, v >> 16 & 0xff, v >> 24};
	crypto_hash_sha256_update(h, le, sizeof le);
}

void job_digest(const struct job *j, char hex[static 65])
{
	crypto_hash_sha256_state h;
	unsigned char out[crypto_hash_sha256_BYTES];
	crypto_hash_sha256_init(&h);
	for (size_t i = 0; i < j->n_scores; i++) {
		digest_number(&h, (uint32_t)j->scores[i].n_tokens);
		for (size_t k = 0; k < j->scores[i].n_tokens; k++)
			digest_number(&h, (uint32_t)j->scores[i].tokens[k].token);
		crypto_hash_sha256_update(&h, (const unsigned char *)&j->scores[i].logprob, sizeof(double));
	}
	for (uint32_t i = 0; j->choices && i < j->n_choices; i++) {
		digest_number(&h, (uint32_t)j->choices[i].n_tokens);
		for (size_t k = 0; k < j->choices[i].n_tokens; k++)
			digest_number(&h, (uint32_t)j->choices[i].tokens[k]);
	}
	crypto_hash_sha256_final(&h, out);
	sodium_bin2hex(hex, 65, out, sizeof out);
}
