/* engine.h: the engine thread: it owns the core, the KV pages and the plugin instances, and turns jobs into tokens.
 *
 * The loop thread hands it jobs and commands (a locked list), and gets events back (another locked list; `wake` is called when it stops
 * being empty, from the engine thread; wakes coalesce, so drain fully). Nothing else is shared but the atomic counters of engine_stats.
 *
 * Each step: take commands -> decoder.plan() of every running job that has no open feeds -> one batch of rows: first one row (or the
 * whole short feed) for every job that generates, then prompt chunks, interactive class before batch class, up to max_rows and to what
 * keeps the step short (batch.h) -> core_forward -> targets and sampler chains of the feeds that are complete -> decoder.commit() ->
 * events. The thread sleeps when no job is running.
 *
 * Pages: the loop admits jobs so that the sum of engine_worst_pages() fits; should pages run short all the same (a decoder that forks
 * more than it said), the engine pre-empts the job of lowest rank by itself. A pre-empted job keeps its decoder, samplers and token
 * lists, loses its pages, and is rebuilt from its tokens when it goes on (each token by the path it came by), with the same bytes
 * (P1). A job that is pre-empted before its first plan says EV_STARTED when it goes on, any other EV_RESUMED.
 *
 * Checkpoints (P2): between two plans a job can be turned into bytes, from which it goes on in another process, with another number of
 * threads, on another machine of the same model and plugins. They leave as EV_CHECKPOINT among the job's other events: everything in
 * front of one and its bytes are one consistent cut. A job that is submitted with them as `resume` says EV_RESUMED and then exactly what
 * the undisturbed job said behind the cut: deltas with the same borders, tokens, log-probabilities, scores, finishes, usage, and later
 * checkpoints with the same bytes. (Not the same: progress of prompts, cached_tokens, EV_RESUMED and EV_PREEMPTED, which tell of time.) It may be cut off again
 * anywhere. With `checkpoints` the engine makes them by itself, at a pace that costs next to nothing (struct engine_pace); engine_checkpoint
 * and engine_release ask for one.
 *
 * What a checkpoint is bound to: the model, the blend, the request (prompt, continuations, seed, all parameters of decoder and samplers, by
 * their digest), the files of the plugins, and this format. Another one of these, or one damaged byte, and it is refused with the reason. */
#ifndef WEFT_DAEMON_ENGINE_H
#define WEFT_DAEMON_ENGINE_H

#include "histogram.h"
#include "kernels/core.h"
#include "plugin.h"
#include <stdatomic.h>

enum job_class { CLASS_INTERACTIVE, CLASS_BATCH };

enum { ENGINE_SALT_MAX = 192 };	/* bytes */

/* Everything that a job needs to run. Made by the loop, owned by the engine from engine_submit on. Strings and arrays are malloc'ed. */
struct engine_job {
	uint64_t id;			/* not 0 */
	enum job_class class;
	uint32_t priority;		/* 0 first */
	struct plugin_set *plugins;	/* a reference of the job's own */
	struct plugin_args decoder;
	struct plugin_args *samplers;	/* [n_samplers] in chain order */
	size_t n_samplers;
	int32_t *prompt;		/* [n_prompt], n_prompt >= 1 */
	size_t n_prompt;
	int32_t **continuations;	/* [n_continuations], score jobs */
	size_t *continuation_len;
	size_t n_continuations;
	struct core_blend *blend; /* a reference; NULL: the base alone */
	char salt[ENGINE_SALT_MAX];	/* jobs of different salts share nothing in the prefix cache */
	size_t salt_len;		/* 0: none */
	uint64_t seed;
	bool checkpoints;	/* EV_CHECKPOINT now and then, by itself */
	void *resume;		/* a checkpoint to go on from; NULL: start from the prompt */
	size_t resume_len;
	bool or_restart;	/* a `resume` that is refused: a line in the log, and the job starts from its prompt (it says EV_STARTED); else it fails */
	struct engine_event *last;	/* its EV_DONE, made with the job so that the end of a job cannot fail; the engine's business */
	struct engine_job *next;	/* likewise */
};
struct engine_job *engine_job_new(void);	/* zeroed; NULL: out of memory */
void engine_job_free(struct engine_job *j);	/* [loop]: gives the reference to the plugins back; NULL is fine */

enum engine_event_kind {
	EV_STARTED,	/* first plan was made (sent again as EV_RESUMED after a pre-emption) */
	EV_RESUMED,
	EV_DELTA,
	EV_SCORE,
	EV_FINISH,	/* of one choice */
	EV_PROGRESS,	/* done of total (prompt tokens while prefilling, or what the decoder says) */
	EV_PREEMPTED,	/* parked; wants engine_resume */
	EV_CHECKPOINT,	/* blob: the job after all events in front of this one. Without blob (only when one was asked for): it cannot be saved
			 * (a plugin without save, or whose save failed) and starts from its prompt */
	EV_DONE		/* the job is gone from the engine: state, error and usage are final */
};
enum engine_end {
	END_DONE, END_FAILED, END_CANCELLED,
	END_RELEASED	/* by engine_release: not an end of the job; it goes on from its last checkpoint, or from its prompt */
};

struct engine_top { int32_t token; float logprob; };
struct engine_token { int32_t token; float logprob; bool greedy; uint32_t n_top; struct engine_top *top; };

struct engine_event {
	struct engine_event *next;
	enum engine_event_kind kind;
	uint64_t job;
	uint32_t choice;		/* DELTA, FINISH; index of a SCORE */
	char *text;			/* DELTA: text_len bytes of UTF-8; DONE with END_FAILED: the reason */
	size_t text_len;
	struct engine_token *tokens;	/* DELTA, SCORE: [n_tokens] */
	size_t n_tokens;
	bool has_logprobs, greedy, first_null;
	double logprob;			/* SCORE */
	enum weft_finish finish;	/* FINISH */
	enum engine_end end;		/* DONE */
	int code;			/* DONE with END_FAILED: enum weft_code */
	uint64_t done, total;		/* PROGRESS */
	void *blob;			/* CHECKPOINT: blob_len bytes */
	size_t blob_len;
	uint64_t prompt_tokens, completion_tokens, cached_tokens;	/* DONE; cached: of the prompt, taken from the prefix cache when it first ran */
	int64_t at_ns;			/* CLOCK_MONOTONIC when it was made */
	struct engine_job *spent;	/* DONE: the job comes back to the loop thread here and is freed with the event */
};
void engine_event_free(struct engine_event *e);

/* How often a job with `checkpoints` is saved: when all of these hold. The lengths of its checkpoints, added up, stay in proportion to the
 * tokens that it made, however long it grows. */
struct engine_pace {
	uint32_t tokens;	/* made (drawn, scored or fed) since the last one */
	uint32_t bytes;		/* and for each of them so many bytes of the last one: 16000 bytes at 64 wait for 250 tokens */
	uint32_t ms;		/* since the last one, or since the job began */
};
extern const struct engine_pace engine_usual_pace;

struct engine_params {
	const struct core_model *model;
	int threads;			/* 0: all CPUs */
	uint32_t kv_pages;
	enum core_kv_type kv_type;
	uint32_t max_rows;		/* rows of one step */
	uint32_t max_jobs;		/* running at once; the loop keeps to it */
	uint32_t max_context;		/* 0: the model's */
	bool prefix_cache;		/* prompts and rebuilds begin with what others of the same blend and salt have computed */
	const char *device, *module;	/* as of struct core_ctx_params */
	const struct engine_pace *pace;	/* copied; NULL: the usual one */
	void (*wake)(void *arg);	/* [engine] there are events */
	void (*log)(void *arg, uint64_t job, int level, const char *text);	/* [any]: lines of plugins and of the engine */
	void *arg;
};

struct engine;
int engine_new(struct engine **out, const struct engine_params *p, struct core_error *err);	/* starts the thread */
void engine_free(struct engine *e);	/* stops at the next step; running jobs are dropped without events */

/* [loop] Commands. submit takes ownership; ids must be new. The others are no-ops for ids that are gone (their EV_DONE is under way). */
void engine_submit(struct engine *e, struct engine_job *job);
void engine_cancel(struct engine *e, uint64_t id);	/* EV_DONE with END_CANCELLED follows, also for parked jobs */
void engine_preempt(struct engine *e, uint64_t id);	/* EV_PREEMPTED follows */
void engine_resume(struct engine *e, uint64_t id);
/* EV_CHECKPOINT follows, at once when the job is between two plans (also while it is parked or not rebuilt yet), else when it is the next
 * time; none when it ends before, and none before its first plan: there is nothing to save. */
void engine_checkpoint(struct engine *e, uint64_t id);
/* EV_CHECKPOINT, then EV_DONE with END_RELEASED. A job that generates is let go when its step is over. One that would take longer (in a
 * prompt, in scores, parked or rebuilding, with feeds open) is let go at once, without a new checkpoint: it goes on from its last one. */
void engine_release(struct engine *e, uint64_t id);
struct engine_event *engine_take_events(struct engine *e);	/* all of them, oldest first; the caller frees each */

/* [loop] Pages a job may come to hold: (prompt + max_tokens) per choice, by the parameters max_tokens and n if the decoder has them. */
uint32_t engine_worst_pages(const struct engine *e, const struct engine_job *job);
uint32_t engine_pages_total(const struct engine *e);
uint32_t engine_context(const struct engine *e);

/* [loop] Host memory that a job may take at worst, in bytes: the engine's side of it, and all events that it may cause (struct
 * engine_event with texts, tokens, log-probabilities and lists of likely tokens) if they were kept together until its end. By the
 * parameters max_tokens, n, echo, logprobs and prompt_logprobs if the decoder has them; samplers whose parameters the request names
 * count with 16 bytes for each token of vocabulary and context. Pages are not in it. */
uint64_t engine_worst_bytes(const struct engine *e, const struct engine_job *job);

struct engine_stats {		/* [any]; read with atomic loads */
	atomic_uint_fast64_t steps, prompt_rows, generated_rows, draws, preemptions, step_ns, plugin_ns, last_step_at_ns;
	atomic_uint_fast64_t core_rows;	/* whose token the core has drawn or looked up, where it had the logits (a CUDA device) */
	atomic_uint_fast64_t rebuilt_rows;	/* run again after a pre-emption; not in prompt_rows and generated_rows */
	atomic_uint_fast64_t checkpoints, checkpoint_bytes, checkpoint_ns;	/* made; the time is in plugin_ns, too */
	/* The prefix cache: how often a prompt or a rebuild found something in it, the tokens that were found and not run, the pages that made
	 * room for others; and how many it has now. */
	atomic_uint_fast64_t prefix_hits, prefix_tokens, prefix_evictions;
	atomic_uint prefix_pages;
	atomic_uint_fast64_t forward_ns;	/* of step_ns: inside core_forward; plugin_ns: plan, reduction of logits, samplers, commit */
	struct histogram step_us;	/* of each step; the mean is step_ns / steps */
	atomic_uint running, parked, pages_used;	/* pages that jobs hold; those that only the prefix cache has are free */
	atomic_bool busy;	/* at least one job wants rows: last_step_at must advance */
};
const struct engine_stats *engine_stats(const struct engine *e);
const char *engine_kv_type(const struct engine *e);	/* "f16", "int8"; static */
const char *engine_backend(const struct engine *e);	/* "cpu-avx512", "cuda:0"; borrowed */
const char *engine_note(const struct engine *e);	/* core_ctx_note() */
int engine_threads(const struct engine *e);

#endif
