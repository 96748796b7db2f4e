/* run.h: a job inside the engine. Private to the engine; everything here belongs to the engine thread.
 *
 *   engine.c   the thread: commands, the step, events, statistics
 *   batch.c    who gets how many rows of a step, and who gives way when pages are short
 *   run.c      one job: birth, plan, commit, end, parking
 *   feed.c     one wish of a decoder: recording it, and reducing rows of logits to its results
 *   seq.c      token sequences, their KV, and rebuilding it after a pre-emption
 *   chain.c    one choice's samplers and the draw
 *   checkpoint.c  a job as bytes, and a job from bytes
 *   worst.c    what a job may take, before it runs
 *   host.c     struct weft_host: what plugins may ask for; checks every wish and passes it on to the others
 *
 * Life of a job:
 *
 *   submit -> [active] --- plan -> feeds open -> rows run in one step or in many -> commit ---> [active] ... -> done, failed
 *               |  ^                                                                               (at any moment: cancelled)
 *       preempt |  | resume: the KV is rebuilt from the sequences' tokens, then open feeds go on where they were
 *               v  |
 *             [parked]
 *
 * Between commit and plan (no feeds are open) a job is nothing but tokens, numbers and what its plugins say of themselves: there it is saved
 * (checkpoint.c). A job made from a checkpoint begins like a parked one that is resumed. */
#ifndef WEFT_DAEMON_RUN_H
#define WEFT_DAEMON_RUN_H

#include "daemon/arena.h"
#include "daemon/bytes.h"
#include "daemon/chain.h"
#include "daemon/engine.h"

enum {
	RUN_SEQS = 1024,		/* sequences of one job at a time */
	RUN_FEEDS = 4096,		/* feeds of one plan */
	RUN_CHOICES = 4096,		/* choices of one job */
	RUN_TOP = 64,			/* most likely tokens of one draw or target */
	RUN_VALUES = 1 << 23,		/* reported values of one plan */
	RUN_EVENTS = 1 << 16,		/* events that one call of a plugin may cause */
	RUN_EVENT_BYTES = 64 << 20,	/* and what they may weigh */
	RUN_CHECKPOINT_BYTES = 64 << 20,	/* of one checkpoint */
	RUN_REASON = 600		/* bytes of why a job ends, with the 0 */
};

/* What the host tells plugins about the model. */
struct run_model {
	uint32_t vocab, context;
	int32_t eos;
	const struct core_tokenizer *tokenizer;
	const char *digest;	/* hex */
};

struct seq {
	uint32_t number;
	uint32_t n, cap;	/* tokens that have run: what a rebuild has to bring back */
	uint32_t *tokens;	/* [n]: core_word() of each */
	struct core_seq *kv;	/* NULL while parked and before its turn in a rebuild */
	uint32_t present;	/* tokens whose KV is there; = n except in a rebuild */
	uint32_t batched;	/* rows of it in the batch that is being built */
	uint32_t planned;	/* tokens that the open feeds will have added when all of them have run */
	/* rebuild: the first `shared` tokens are taken from the KV of `source` */
	struct seq *source;
	uint32_t shared;
};

struct choice {
	uint32_t index;
	struct chain chain;
	bool has_chain;
	struct core_detok detok;
	uint64_t plan;		/* number of the plan that draws for it last */
	bool spoke, finished;	/* had a delta; has its finish */
};

struct feed {
	struct seq *seq;
	uint32_t start;			/* tokens of the sequence before its own */
	uint32_t flags, n_tokens, n_choices, top;
	uint32_t ran, batched;		/* rows that have run, rows in the batch that is being built */
	int32_t *tokens, *targets;	/* [n_tokens]; targets may be NULL. All memory of a feed is of the job's arena. */
	struct choice **choices;	/* [n_choices] */
	uint32_t n_targets;
	uint32_t targets_done;
	struct weft_drawn *target_results, *draw_results;	/* [n_targets], [n_choices] */
	float *logits;			/* [vocab] with WEFT_FEED_LOGITS, after its last row */
};

/* What is known of one row of logits before anybody draws from it. */
struct measured {
	struct logits_row row;
	bool sane, weighed;		/* not weighed: of row there are max and best alone */
	uint32_t n_top;
	struct weft_top top[RUN_TOP];	/* [n_top] of the most likely; found once for all that is drawn from the row */
};

enum run_phase { PHASE_NONE, PHASE_CREATE, PHASE_PLAN, PHASE_COMMIT, PHASE_SAVE, PHASE_LOAD, PHASE_SAMPLER };

struct weft_job {
	struct engine_job *spec;	/* owned until EV_DONE takes it along */
	struct weft_job *next;
	const struct run_model *model;
	struct core_ctx *core;
	struct run_out *out;		/* where events go; the engine's */

	void *decoder;			/* instance; NULL before create */
	struct seq **seqs;		/* [n_seqs] by number */
	uint32_t n_seqs, seqs_cap, next_seq;
	struct choice **choices;	/* [n_choices] by index */
	uint32_t n_choices, choices_cap;
	struct feed *feeds;		/* [n_feeds] of the open plan */
	uint32_t n_feeds, feeds_cap;
	uint32_t feeds_done;		/* how many of them have run, in order */
	uint64_t values;		/* reported values that the plan asks for */
	uint64_t plan;			/* its number */
	struct arena arena;		/* lives from plan to commit */
	char *detok_text;		/* [core_detok_bound + 1] */

	bool started;			/* EV_STARTED was sent */
	bool parked, rebuilding, said_done;
	bool ended;			/* EV_DONE is in the out list, and the spec went with it */
	struct seq **order;		/* [n_seqs] in a rebuild: neighbours share the longest beginnings */
	uint32_t waited;		/* steps without a row */
	bool loading;			/* in this step: its adapters are on their way to the device (core_seq_ready) */
	bool behind;			/* in this step: a job of higher rank computes what this one takes from the prefix cache in the next */
	uint64_t born;			/* order of submission */

	/* The plugin that runs just now, for host functions. */
	enum run_phase phase;
	const struct plugin *caller;
	uint32_t caller_stream, caller_choice;
	uint32_t call_events;		/* events and bytes that this call caused */
	uint64_t call_bytes;
	/* Aside: other threads than the engine's may have the job, so run_end() only notes why it ends; run_return() makes it so. */
	bool aside, late;
	int late_code;
	char late_text[RUN_REASON];
	uint32_t drawing;	/* its place among the jobs that have logits in this step, from 1; 0: none */

	/* Why the job ends. said: by host->fail, counts only when the function returns an error. breach: an impossible wish, counts always. */
	int said_code, breach_code;
	char said[400], breach[400];

	uint64_t prompt_done, prompt_total;	/* prompt rows of the open plan; told as progress when they take more than one step */
	int64_t progress_at;			/* ns; 0: none was sent in this plan */
	uint64_t drawn, scored;			/* tokens */
	uint64_t cached;			/* prompt tokens that the prefix cache had */

	/* Checkpoints. */
	uint64_t made, made_before;	/* tokens drawn, scored or fed so far; and when the last one was made */
	size_t last_len;		/* bytes of the last one */
	int64_t saved_at;		/* ns; of the last one, at first of the job's beginning */
	bool wanted, leaving;		/* engine_checkpoint and engine_release wait for the next commit */
	bool unsaveable;		/* a plugin has no save, or its save failed */
	struct bytes_out identity;	/* what its checkpoints are bound to; empty before the first one */
};

/* Events of one step on their way to the loop. */
struct run_out {
	struct engine_event *first, **last;
	void (*log)(void *arg, uint64_t job, int level, const char *text);
	void *log_arg;
	struct engine_pace pace;
	uint64_t checkpoints, checkpoint_bytes, checkpoint_ns;	/* made since the engine has counted them */
	uint64_t prefix_hits, prefix_tokens;			/* likewise: what the prefix cache had, and how often it had something */
};

/* ---- run.c ---- */
int64_t run_now_ns(void);	/* CLOCK_MONOTONIC */
struct weft_job *run_new(struct engine_job *spec, const struct run_model *model, struct core_ctx *core, struct run_out *out);
void run_release(struct weft_job *job);	/* plugin instances, sequences, memory: all but the spec; no event */
void run_free(struct weft_job *job);	/* the rest, and the spec unless it went with EV_DONE */
/* EV_DONE of a job that could not even be made. */
void run_refuse(struct engine_job *spec, struct run_out *out, const char *text);
/* Each of these returns false when the job has ended: its EV_DONE is in the out list and the caller frees it. */
bool run_create(struct weft_job *job);		/* the decoder and the first chain, or all that the checkpoint has */
bool run_make_decoder(struct weft_job *job);
bool run_plan(struct weft_job *job);
bool run_commit(struct weft_job *job);
void run_end(struct weft_job *job, enum engine_end end, int code, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void run_return(struct weft_job *job);		/* it is not aside any more; if it failed there, it ends now */
void run_park(struct weft_job *job);		/* gives up its pages and says EV_PREEMPTED */
bool run_resume(struct weft_job *job);		/* from parked to rebuilding; false as above */
bool run_rebuild(struct weft_job *job);		/* between steps: takes the rebuild further, or ends it; false as above */
void run_progress(struct weft_job *job);	/* after a step that left its prompt unfinished: now and then an EV_PROGRESS */
bool run_holds_pages(const struct weft_job *job);
struct choice *run_choice_make(struct weft_job *job, uint32_t index);	/* finds or makes; NULL: out of memory or too many (breach) */
bool run_choice_chain(struct weft_job *job, struct choice *c);	/* makes its samplers when it has none yet; false as above */
struct engine_event *run_event(struct weft_job *job, enum engine_event_kind kind);	/* in the out list; NULL: out of memory (breach) */
/* Marks an impossible wish (the first one counts) and returns code. */
int run_breach(struct weft_job *job, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Around each call of a plugin: who is speaking, and what it may do. */
void run_enter(struct weft_job *job, enum run_phase phase, const struct plugin *caller, uint32_t choice);
/* After a plugin function: true when all is well; else the job has been ended with the reason. */
bool run_leave(struct weft_job *job, const char *function, int rc);
/* The same for functions whose failure is not the job's end: 0 or the code, with the reason in text. */
int run_verdict(struct weft_job *job, const char *function, int rc, char text[static RUN_REASON]);
/* The engine's wishes for a checkpoint and for the job's leave, between steps. */
void run_want_checkpoint(struct weft_job *job);
void run_want_leave(struct weft_job *job);

/* ---- seq.c ---- */
struct seq *seq_find(const struct weft_job *job, uint32_t number);
struct seq *seq_make(struct weft_job *job);				/* empty, with KV; NULL: out of memory */
struct seq *seq_fork(struct weft_job *job, const struct seq *from);	/* NULL: out of memory */
void seq_drop(struct weft_job *job, struct seq *s);
/* s goes on with words[0..n): returns how many of them the prefix cache had, which are in its KV now. */
uint32_t seq_reuse(struct weft_job *job, struct seq *s, const uint32_t *words, uint32_t n);
int seq_reserve(struct seq *s, uint32_t n);				/* room for n tokens in all; -1: out of memory */
void seq_free_all(struct weft_job *job);
/* Of a checkpoint: n tokens (to be filled in by the caller), no KV yet, as in a parked job. Numbers ascend. NULL: out of memory. */
struct seq *seq_restore(struct weft_job *job, uint32_t number, uint32_t n);
void seq_park(struct weft_job *job);					/* gives up the KV of all */
int seq_rebuild_begin(struct weft_job *job);				/* -1: out of memory */
/* Opens every sequence whose source is far enough: 1: the rebuild is over; 0: rows are wanted; -1: out of memory. */
int seq_rebuild_settle(struct weft_job *job);

/* ---- feed.c ---- */
int feed_add(struct weft_job *job, const struct weft_feed *f);		/* 0 or a breach */
bool feed_wants_logits(const struct feed *f, uint32_t row);
/* Between plan and the rows of a step: the beginning of the next prompt feeds counts as run where the prefix cache has it. */
void feed_reuse(struct weft_job *job);
/* The page that the job's prompt fills next; false: it fills none. *all: the prefix cache could give it the whole page. */
bool feed_page(const struct weft_job *job, unsigned char key[CORE_PAGE_KEY], bool *all);
uint64_t feed_work(const struct weft_job *job);	/* tokens that the plan has made: drawn, scored or fed behind the prompt */
/* Before its last row is measured: makes the chains of its choices. False: the job has ended. */
bool feed_make_chains(struct weft_job *job, struct feed *f);
bool feed_may_go_aside(const struct feed *f);	/* all samplers in its chains run side by side */
/* Measures one row of logits for f; m->row.sums is there. [any thread] */
void feed_measure(const struct weft_job *job, const struct feed *f, const float *logits, struct measured *m);
/* Reduces the logits of one row, which were measured. False: the job has ended, or will when it is not aside any more. [any thread, if the
 * job is aside] */
bool feed_row(struct weft_job *job, struct feed *f, uint32_t row, const float *logits, const struct measured *m, struct chain_room *room);
/* Whether a core may do with the row what is wanted of it: either one target, or one choice whose samplers have formulas; and no logits
 * beside it. out->edits lies in edits. */
bool feed_draw(const struct weft_job *job, const struct feed *f, uint32_t row, struct core_draw *out,
	       struct core_edit edits[static CORE_EDITS]);
/* In place of feed_row, where a core did it. [any thread, if the job is aside] */
bool feed_token(struct weft_job *job, struct feed *f, uint32_t row, const struct core_drawn *drawn);
int feed_results(struct weft_job *job, struct weft_result **out);	/* [job->n_feeds], of the arena; -1: out of memory */
void feed_clear(struct weft_job *job);

/* ---- checkpoint.c: between commit and plan only ---- */
bool checkpoint_due(const struct weft_job *job);
/* EV_CHECKPOINT. A job that cannot be saved gets one without bytes if `asked`, else none; out of memory: none, another time. */
void checkpoint_make(struct weft_job *job, bool asked);
/* Makes the job from its spec's `resume`: as parked, and not resumed yet. Refused: what was made is still in it. */
enum restored checkpoint_restore(struct weft_job *job, char why[static RUN_REASON]);

/* ---- worst.c: engine_worst_pages and engine_worst_bytes ---- */
uint32_t worst_pages(const struct run_model *m, const struct engine_job *job);
uint64_t worst_bytes(const struct run_model *m, const struct engine_job *job);

#endif
