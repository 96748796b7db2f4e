/* publish.h: job events as msgpack: made, kept for `results`, published. [loop] */
#ifndef WEFT_DAEMON_PUBLISH_H
#define WEFT_DAEMON_PUBLISH_H

#include "server.h"

void publish_queued(struct server *s, struct job *j, uint64_t position);
void publish_plain(struct server *s, struct job *j, const char *event); /* started, preempted, resumed */
/* detail: len bytes, one msgpack map; NULL: none. */
void publish_progress(struct server *s, struct job *j, uint64_t done, uint64_t total, const void *detail, size_t len);
/* One that was published before a restart is compared with what it was: -1 when it differs. */
int publish_delta(struct server *s, struct job *j, const struct engine_event *e);
void publish_recovered(struct server *s, struct job *j);
/* The terminal event; the job has its final state already. code and reason: of a failed job, else NULL. */
void publish_done(struct server *s, struct job *j, const char *code, const char *reason);

/* The terminal event of a job that ended in the store, without a daemon: written, and published. state: enum store_state. */
void publish_write_unheld_end(struct wire_buf *b, uint64_t job, uint64_t seq, int state, const char *code, const char *reason);
void publish_unheld_end(struct server *s, const char *topic, uint64_t job, uint64_t seq, int state, const char *code,
			const char *reason);

const char *publish_finish_name(const struct job *j, int finish);

#endif
