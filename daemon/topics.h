/* topics.h: which topics have a live subscriber, and which unended jobs speak to them. [loop]
 *
 * A topic is known while somebody listens to it or a job that has not ended speaks to it. */
#ifndef WEFT_DAEMON_TOPICS_H
#define WEFT_DAEMON_TOPICS_H

#include "job.h"

struct topic {
	char name[WIRE_TOPIC_LEN + 1];
	uint32_t listeners;
	struct job_list jobs; /* not ended, by job.by_topic */
	struct deadline gone; /* armed while nobody listens and a job would mind */
	struct topic *chain;
};
struct topics {
	struct topic **table;  /* [TOPICS_SIZE] */
	unsigned char key[16]; /* of the hash: names are chosen by clients */
	size_t n, listened;    /* known; with at least one listener */
};
enum { TOPICS_MAX = 65536 }; /* topics with listeners: beyond, subscriptions are not admitted */

int topics_init(struct topics *t);
void topics_finish(struct topics *t);
struct topic *topics_find(const struct topics *t, const char *name); /* NULL: unknown */
/* NULL: out of memory or too many. */
struct topic *topics_add_listener(struct topics *t, const char *name);
struct topic *topics_drop_listener(struct topics *t, const char *name); /* the topic; NULL: nobody listened */
struct topic *topics_add_job(struct topics *t, struct job *j);
void topics_drop_job(struct topics *t, struct job *j, struct deadlines *h);
/* The names of topics with listeners, at most max of them: malloc'ed, each name too. NULL and 0: none, or out of memory. */
char **topics_listened(const struct topics *t, size_t max, size_t *n);
/* Frees the topic when nothing needs it any more. */
void topics_let_go(struct topics *t, struct topic *topic, struct deadlines *h);

#endif
