/* store_tally.c: counts of a transaction. */
#include "store_tally.h"
#include "store_sql.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tally_clear(struct tally *t)
{
	t->n_lines = t->n_ends = 0;
}

void tally_finish(struct tally *t)
{
	free(t->line);
	free(t->end);
	*t = (struct tally){0};
}

static int no_memory(struct db *db)
{
	snprintf(db->text, sizeof(db->text), "out of memory");
	return STORE_ENOMEM;
}

static void *room(void **array, size_t n, size_t *cap, size_t size)
{
	if (n == *cap) {
		size_t more = *cap ? *cap * 2 : 16;
		void *p = realloc(*array, more * size);
		if (!p)
			return NULL;
		*array = p;
		*cap = more;
	}
	return (char *)*array + n * size;
}

/* Backwards: the line that was used last is mostly the one. */
static struct tally_line *find(struct tally *t, const char *identity, uint64_t batch)
{
	for (size_t i = t->n_lines; i-- > 0;)
		if (t->line[i].batch == batch && strcmp(t->line[i].identity, identity) == 0)
			return &t->line[i];
	return NULL;
}

int tally_count(struct db *db, const char *identity, uint64_t batch, int kind, int64_t by)
{
	struct tally *t = &db->tally;
	struct tally_line *l = find(t, identity, batch);
	if (!l) {
		l = room((void **)&t->line, t->n_lines, &t->lines_cap, sizeof(*l));
		if (!l)
			return no_memory(db);
		t->n_lines++;
		*l = (struct tally_line){.batch = batch};
		snprintf(l->identity, sizeof(l->identity), "%s", identity);
	}
	l->n[kind] += by;
	return 0;
}

int tally_move(struct db *db, const char *identity, uint64_t batch, enum store_state from, enum store_state to)
{
	int rc = tally_count(db, identity, batch, from, -1);
	return rc < 0 ? rc : tally_count(db, identity, batch, to, 1);
}

int tally_ended(struct db *db, uint64_t batch, uint64_t job)
{
	struct tally *t = &db->tally;
	if (!batch)
		return 0;
	struct tally_end *e = room((void **)&t->end, t->n_ends, &t->ends_cap, sizeof(*e));
	if (!e)
		return no_memory(db);
	t->n_ends++;
	*e = (struct tally_end){batch, job};
	return 0;
}

/* Each owner adds to a line of its own, more or less, so that daemons seldom wait for each other. */
static int shard(const struct db *db)
{
	uint32_t h = 2166136261u;
	if (!db->fleet)
		return 0;
	for (const char *c = db->owner; *c; c++)
		h = (h ^ (unsigned char)*c) * 16777619u;
	return (int)(h % 16);
}

/* All daemons lock in the same order: lines by batch and identity, then batches by id. */
static int by_line(const void *a, const void *b)
{
	const struct tally_line *x = a, *y = b;
	if (x->batch != y->batch)
		return x->batch < y->batch ? -1 : 1;
	return strcmp(x->identity, y->identity);
}

static int flush_line(struct db *db, const struct tally_line *l)
{
	for (int k = 0; k < TALLY_KINDS; k++) {
		if (!l->n[k])
			continue;
		struct sql q;
		sql_start(&q, db, SQL_TALLY);
		sql_text(&q, l->identity);
		sql_int(&q, (int64_t)l->batch);
		sql_int(&q, shard(db));
		sql_int(&q, k);
		sql_int(&q, l->n[k]);
		int rc = sql_run(&q);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* By batch; within it as they ended (the addresses tell: qsort alone would not keep the order). */
static int by_batch(const void *a, const void *b)
{
	const struct tally_end *const *x = a, *const *y = b;
	if ((*x)->batch != (*y)->batch)
		return (*x)->batch < (*y)->batch ? -1 : 1;
	return *x < *y ? -1 : 1;
}

static int flush_batch(struct db *db, struct tally_end *const *e, size_t n)
{
	struct sql q;
	sql_start(&q, db, SQL_ENDS);
	sql_int(&q, (int64_t)e[0]->batch);
	sql_int(&q, (int64_t)n);
	int64_t last = sql_row(&q) == 1 ? sql_get_int(&q, 0) : -1;
	int rc = sql_end(&q);
	if (rc < 0 || last < 0) /* no such batch: it was closed, nobody reads its results */
		return rc;
	for (size_t i = 0; i < n && rc >= 0; i++)
		rc = SQL_RUN(db, SQL_END_NO, (int64_t)e[i]->job, last + 1 + (int64_t)i);
	return rc;
}

static int flush_ends(struct db *db)
{
	struct tally *t = &db->tally;
	struct tally_end **order = malloc((t->n_ends ? t->n_ends : 1) * sizeof(*order));
	int rc = 0;
	if (!order)
		return no_memory(db);
	for (size_t i = 0; i < t->n_ends; i++)
		order[i] = &t->end[i];
	qsort(order, t->n_ends, sizeof(*order), by_batch);
	for (size_t i = 0, n; i < t->n_ends && rc >= 0; i += n) {
		for (n = 1; i + n < t->n_ends && order[i + n]->batch == order[i]->batch; n++)
			;
		rc = flush_batch(db, order + i, n);
	}
	free(order);
	return rc;
}

int tally_flush(struct db *db)
{
	struct tally *t = &db->tally;
	int rc = 0;
	if (t->n_lines)
		qsort(t->line, t->n_lines, sizeof(*t->line), by_line);
	for (size_t i = 0; i < t->n_lines && rc >= 0; i++)
		rc = flush_line(db, &t->line[i]);
	if (rc >= 0 && t->n_ends)
		rc = flush_ends(db);
	tally_clear(t);
	return rc;
}
