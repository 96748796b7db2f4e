/* job.h: a job from acceptance to oblivion, and the table of all jobs. Knows no sockets and no engine calls. [loop]
 *
 *   A job whose adapters are not in memory is QUEUED, too, outside the queue; when they cannot be loaded it goes from there to
 * FAILED.
 *
 *                 start                     done, failed
 *     QUEUED ---------------> RUNNING ----------------------> DONE  FAILED
 *        |                     |   ^                             ^
 *        |           preempted |   | resumed                     | failed (its rebuild may fail)
 *        |                     v   |                             |
 *        |                   PREEMPTED --------------------------+
 *        |                     |
 *        +------- any of the three: cancel, deadline, shutdown ------> CANCELLED  EXPIRED
 *
 * Delayed and buried jobs are in the store only: no job in memory has these states. DEAD is the end of a durable job that killed its
 * daemon too often.
 *
 * A task (task.h) goes QUEUED, RUNNING and to its end in the same way, and is never pre-empted.
 *
 * job_move() is the only function that changes a state, and refuses what the picture does not show. The four states on the right
 * are final: a job enters one of them once, with the one `done` event that job_end()'s caller writes (P3).
 *
 * Events are kept as the bytes that were published, by seq, so that `results` can give them again, until the retention of ended
 * jobs lets them go. The table owns the jobs. */
#ifndef WEFT_DAEMON_JOB_H
#define WEFT_DAEMON_JOB_H

#include "adapters.h"
#include "client/wire.h"
#include "deadline.h"
#include "engine.h"
#include "journal.h"
#include "queue.h"
#include "task.h"
#include <sys/queue.h>

#define JOB_STATES(X)                                                                                                              \
	X(QUEUED, queued)                                                                                                          \
	X(RUNNING, running) X(PREEMPTED, preempted) X(DELAYED, delayed) X(BURIED, buried)                                          \
	X(DONE, done) X(FAILED, failed) X(EXPIRED, expired) X(CANCELLED, cancelled) X(DEAD, dead)
enum job_state {
#define X(id, name) JOB_##id,
	JOB_STATES(X)
#undef X
		JOB_N_STATES
};
const char *job_state_name(enum job_state s);
int job_state_parse(const char *name, size_t len); /* -1: none */
static inline bool job_state_final(enum job_state s)
{
	return s >= JOB_DONE;
}

/* Why a job that has not ended yet is being ended. */
enum job_why { WHY_NONE, WHY_CANCEL, WHY_DISCONNECT, WHY_DEADLINE, WHY_SHUTDOWN };

enum { IDENTITY_LEN = 40 }; /* a CURVE public key in Z85 */

struct job_event {
	void *data; /* msgpack; malloc'ed */
	size_t len;
	bool delta;
};

struct job_choice { /* of a generate job: the answer so far */
	char *text;
	size_t len, text_cap;
	int32_t *tokens;
	size_t n_tokens, tokens_cap;
	char *logprobs; /* of a row of a batch, which has no deltas: n_logprobs entries of its done event, encoded */
	size_t logprobs_len, logprobs_cap, n_logprobs;
	int finish; /* enum weft_finish; 0: not finished */
};

struct job_score { /* of one continuation, or of an echoed prompt */
	bool present, greedy, first_null;
	double logprob;
	struct engine_token *tokens; /* [n_tokens]; owned, tops included */
	size_t n_tokens;
};

struct job {
	uint64_t id;
	enum job_state state;
	enum job_why why;
	const char *op;     /* of the request that made it; static */
	bool score;         /* op score; false: generate, or a task */
	bool keep;          /* on_disconnect = keep */
	bool in_engine;     /* submitted, its EV_DONE has not come */
	bool in_task;       /* its task has a thread, whose end was not taken yet */
	bool holding;       /* a slot and entry.pages: from start or resume until it is asked to leave, EV_PREEMPTED or EV_DONE */
	bool weighed;       /* has started: entry.bytes are part of server.bytes_started until its end */
	bool leaving;       /* engine_preempt was asked for; EV_PREEMPTED has not come */
	const char *broken; /* why it fails although the engine did not say so; static; NULL: it does not */
	char topic[WIRE_TOPIC_LEN + 1];
	char identity[IDENTITY_LEN + 1]; /* who made it; "" for everyone behind a socket without CURVE */
	char decoder[64];
	enum job_class class;
	uint32_t priority;
	uint32_t n_choices; /* of generate; of score: continuations */
	uint64_t prompt_tokens, completion_tokens, cached_tokens;
	int64_t accepted_at, started_at, first_delta_at, last_delta_at, ended_at; /* ns; 0: not yet */
	int64_t running_ns, running_since;                         /* time in the engine; since: 0 when not there */
	struct adapter_use *adapters;                              /* pinned until the end; NULL: none */
	bool loading;                                              /* waits for adapters, outside the queue */
	char blend[65];                                            /* digest; "": it named no adapters, or has not got them yet */
	struct engine_job *work;                                   /* until it is submitted; owned */
	struct task *task;                                         /* until its end; owned; NULL: the engine's business */
	size_t running_place;                                      /* in server.running */
	struct queue_entry entry;
	struct deadline deadline;   /* deadline_ms */
	struct deadline patience;   /* queue_ms; disarmed at the first start */
	struct deadline oblivion;   /* armed when ended */
	struct job_choice *choices; /* [n_choices] of generate; gone after the end */
	struct job_score *scores;   /* [n_scores], of the continuations; gone after the end */
	size_t n_scores;
	struct job_score prompt_score; /* of an echoed prompt */
	struct job_event *events;      /* [n_events]: seq 0.. */
	struct journal *journal;       /* of a durable job; owned; NULL: it lives in memory alone */
	size_t n_events, events_cap, event_bytes;
	TAILQ_ENTRY(job) by_id;    /* all jobs, in order of acceptance */
	TAILQ_ENTRY(job) by_end;   /* ended jobs, in order of their end */
	TAILQ_ENTRY(job) by_topic; /* unended jobs of one topic */
	struct job *chain;         /* of the hash table */
};
TAILQ_HEAD(job_list, job);

struct jobs {
	struct job **table; /* [size], a power of two */
	size_t size, n;
	uint64_t last_id, ids_end; /* numbers in (last_id, ids_end) may be given out; ids_end 0: all */
	uint64_t more_ids[2];      /* and then these: from the first to before the second */
	struct job_list all, ended;
	size_t ended_bytes, n_ended;
	uint64_t count[JOB_N_STATES]; /* jobs that are in the table, by state */
	uint64_t total[JOB_N_STATES]; /* jobs that ever entered the state */
};
int jobs_init(struct jobs *t);
void jobs_finish(struct jobs *t);    /* frees every job */
uint64_t jobs_ids_left(const struct jobs *t);        /* so many numbers can be given out */
uint64_t jobs_take_id(struct jobs *t);               /* 0: none is left */
void jobs_add_ids(struct jobs *t, uint64_t first, uint64_t end);
struct job *job_new(struct jobs *t);              /* QUEUED, with the next id; NULL: out of memory, or of numbers */
struct job *job_new_as(struct jobs *t, uint64_t id); /* with an id that the table does not have */
struct job *job_find(const struct jobs *t, uint64_t id);
void job_forget(struct jobs *t,
		struct job *j); /* takes it out and frees it; deadlines must be disarmed, the queue must not have it */

/* 0; -1 when the picture has no such arrow (nothing changes). */
int job_move(struct jobs *t, struct job *j, enum job_state to);
/* Keeps one event's bytes (owned from now on); its seq was j->n_events. -1: out of memory, data is freed. */
int job_keep_event(struct jobs *t, struct job *j, void *data, size_t len);
/* What a delta, a finish and a score add. -1: out of memory or an index outside the job. */
int job_add_delta(struct job *j, const struct engine_event *e);
int job_add_logprobs(struct job *j, uint32_t choice, const void *entries, size_t len, size_t n); /* -1: as above */
int job_add_score(struct job *j, struct engine_event *e); /* takes the tokens out of e */
void job_drop_answer(struct job *j);                      /* after the done event was written */
/* SHA-256 in hex, over each choice in order: the number of its tokens and the tokens, 4 bytes each; of a score then the logprob as
 * a double; all little-endian. */
void job_digest(const struct job *j, char hex[static 65]);

#endif
