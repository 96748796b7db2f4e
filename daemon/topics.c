/* topics.c: a hash table with a secret key. */
#include "topics.h"
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

enum { TOPICS_SIZE = 4096 };

int topics_init(struct topics *t)
{
	*t = (struct topics){.table = calloc(TOPICS_SIZE, sizeof *t->table)};
	randombytes_buf(t->key, sizeof t->key);
	return t->table ? 0 : -1;
}

void topics_finish(struct topics *t)
{
	for (size_t i = 0; t->table && i < TOPICS_SIZE; i++)
		for (struct topic *p = t->table[i], *next; p; p = next) {
			next = p->chain;
			free(p);
		}
	free(t->table);
	*t = (struct topics){0};
}

static struct topic **slot(const struct topics *t, const char *name)
{
	uint64_t h;
	_Static_assert(crypto_shorthash_BYTES == sizeof h && crypto_shorthash_KEYBYTES == sizeof t->key, "SipHash-2-4");
	crypto_shorthash((unsigned char *)&h, (const unsigned char *)name, WIRE_TOPIC_LEN, t->key);
	return &t->table[h % TOPICS_SIZE];
}

struct topic *topics_find(const struct topics *t, const char *name)
{
	struct topic *p = *slot(t, name);
	while (p && memcmp(p->name, name, WIRE_TOPIC_LEN) != 0)
		p = p->chain;
	return p;
}

static struct topic *find_or_add(struct topics *t, const char *name)
{
	struct topic *p = topics_find(t, name);
	if (p)
		return p;
	p = calloc(1, sizeof *p);
	if (!p)
		return NULL;
	memcpy(p->name, name, WIRE_TOPIC_LEN);
	TAILQ_INIT(&p->jobs);
	struct topic **s = slot(t, name);
	p->chain = *s;
	*s = p;
	t->n++;
	return p;
}

void topics_let_go(struct topics *t, struct topic *topic, struct deadlines *h)
{
	if (topic->listeners || !TAILQ_EMPTY(&topic->jobs))
		return;
	struct topic **p = slot(t, topic->name);
	while (*p != topic)
		p = &(*p)->chain;
	*p = topic->chain;
	deadline_disarm(h, &topic->gone);
	t->n--;
	free(topic);
}

struct topic *topics_add_listener(struct topics *t, const char *name)
{
	struct topic *p = topics_find(t, name);
	if ((!p || p->listeners == 0) && t->listened >= TOPICS_MAX)
		return NULL;
	p = find_or_add(t, name);
	if (p && p->listeners++ == 0)
		t->listened++;
	return p;
}

struct topic *topics_drop_listener(struct topics *t, const char *name)
{
	struct topic *p = topics_find(t, name);
	if (!p || p->listeners == 0)
		return NULL;
	if (--p->listeners == 0)
		t->listened--;
	return p;
}

struct topic *topics_add_job(struct topics *t, struct job *j)
{
	struct topic *p = find_or_add(t, j->topic);
	if (p)
		TAILQ_INSERT_TAIL(&p->jobs, j, by_topic);
	return p;
}

void topics_drop_job(struct topics *t, struct job *j, struct deadlines *h)
{
	struct topic *p = topics_find(t, j->topic);
	if (!p)
		return;
	TAILQ_REMOVE(&p->jobs, j, by_topic);
	j->by_topic.tqe_prev = NULL;
	topics_let_go(t, p, h);
}

char **topics_listened(const struct topics *t, size_t max, size_t *n)
{
	size_t want = t->listened < max ? t->listened : max;
	char **names = calloc(want + 1, sizeof *names);
	*n = 0;
	for (size_t i = 0; names && i < TOPICS_SIZE; i++)
		for (const struct topic *p = t->table[i]; p && *n < want; p = p->chain)
			if (p->listeners && (names[*n] = strdup(p->name)))
				(*n)++;
	return names;
}
