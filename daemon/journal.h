/* journal.h: a durable job's way to disk: what it says goes to the store first, and to its listeners when it is committed there. So a
 * seq that was seen is on disk, and a daemon that has lost a job says nothing of it any more.
 *
 *     publish.c makes an event -> job.events -> journal_note()
 *     [end of the loop's round] journal_flush(): for each job with news, and no op in flight, one STORE_OP_LOG with all of it
 *     [commit] its events are published; what came meanwhile goes with the next one: group commit by nature
 *
 * Before a job reaches the engine it is on disk that it runs there (`begun`), so that a job that kills its daemon can be blamed for it.
 * One that was running when its daemon died is a suspect until it comes further than it was: it runs alone in the engine, and nothing
 * of it is written before it makes progress. [loop] */
#ifndef WEFT_DAEMON_JOURNAL_H
#define WEFT_DAEMON_JOURNAL_H

#include "client/wire.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

struct job;
struct server;
struct store_op;

enum { JOURNAL_ALSO = 8 };

struct journal {
	uint64_t token;
	uint64_t batch, row; /* 0, 0: not of a batch */
	uint32_t attempt, crashes;
	bool admitting; /* its first commit is under way: it is not accepted yet, and nobody knows of it */
	bool quiet;     /* of its events only the last one is made */
	bool beginning; /* holds a slot; the engine gets it when it is on disk that it runs */
	bool begun;     /* that is on disk, by this daemon */
	bool suspect;   /* alone in the engine, please */
	bool stalled;   /* kept out of the queue while the store is away */
	bool recovered; /* goes on with what another process began: said when it does */
	bool lost;      /* another daemon has it */
	bool dirty;     /* in durable.dirty */
	bool moved, moving; /* there is progress that waits for an op; that is in one */
	unsigned in_flight; /* ops */
	int64_t sent_at;    /* ns; of the op in flight */
	size_t n_logged;    /* events that were handed to the store */
	size_t n_public;    /* that it has committed */
	size_t backlog;     /* bytes of events that are not committed */
	void *checkpoint;   /* to be written; valid after the first checkpoint_cut events; owned */
	size_t checkpoint_len, checkpoint_cut;
	size_t replay, replay_end; /* journaled events that the engine is saying again: compared, not published */
	int leave_to;              /* enum store_state: given back to the store so, when the engine has let go; -1: it stays */
	int64_t leave_until;       /* with STORE_DELAYED: wall clock, ms */
	char pinned[65];           /* digest of the blend that it was accepted or begun with; "": none yet */
	char end_code[32];         /* of its failure, for the store */
	char *end_reason;          /* owned */
	char also[JOURNAL_ALSO][WIRE_TOPIC_LEN + 1]; /* topics of clients that came to it by its key */
	size_t n_also;
	TAILQ_ENTRY(job) link; /* in durable.dirty */
};
struct journal *journal_new(void); /* NULL: out of memory */
void journal_free(struct journal *g);

/* An event, or a checkpoint, was made. progress: the job came further than its last holder had. */
void journal_note(struct server *s, struct job *j, size_t bytes, bool progress);
size_t journal_cut(const struct job *j); /* the first event that the engine has not said (again) so far */
/* Keeps a checkpoint (taken) that stands there. */
void journal_checkpoint(struct server *s, struct job *j, void *data, size_t len);
void journal_flush(struct server *s);                       /* at the end of each round */
void journal_begin(struct server *s, struct job *j);        /* says on disk that it runs; server_begun() follows */
void journal_leave(struct server *s, struct job *j);        /* gives it up to journal.leave_to, after all that was said so far */
void journal_forget(struct server *s, struct job *j);       /* takes it out of the lists; before job_forget() */
void journal_show(struct server *s, struct job *j, size_t from, size_t to); /* publishes events [from, to) */
bool journal_also(struct job *j, const char *topic);        /* false: there are too many */

/* Appends one event to a chunk, as store.h has it. -1: out of memory. */
int journal_chunk_add(void **chunk, size_t *len, const void *event, size_t n);
/* The next event of a chunk; NULL: none, or the chunk is damaged. */
const void *journal_chunk_next(const void **at, size_t *left, size_t *n);

#endif
