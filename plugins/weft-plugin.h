/* weft-plugin.h: the ABI between weftd and its decoders and samplers. Public; installed; C11, C++ and nvcc clean.
 *
 * A plugin is one shared object that exports one function, weft_plugin(), which returns one constant struct weft_plugin.
 * It is either a sampler (it changes the distribution that a token is drawn from) or a decoder (it decides which tokens
 * are fed to the model and what becomes of the answer).
 *
 * Life of a sampler:  create(params) -> accept(prompt tokens) -> { apply(candidates) -> [weftd draws] -> accept(token) }* -> destroy
 *   One instance per choice of a job. Instances of one job never run at the same time.
 * Life of a decoder:  create(job, params) -> { plan(job) -> [one forward pass of all jobs together] -> commit(job) }* -> destroy
 *   One instance per job. "The decoder proposes, the core disposes": plan() declares what to feed and what is wanted back;
 *   weftd merges the plans of all jobs into one forward pass, cutting long feeds into chunks as it likes, runs the sampler
 *   chains, and calls commit() when everything that was planned has happened. A decoder never sees chunks or neighbours.
 *
 * Threads: every function below runs on the engine thread [engine], except weft_plugin(), init() and fini(), which run on the
 *   main thread [main] while no job of the plugin runs, and samplers' apply() and accept(), which run on any thread with
 *   WEFT_SIDE_BY_SIDE. None may block: no file or network waits, no sleeping, no locks held by others.
 * Memory: who allocates frees. What a function is handed is borrowed until it returns, unless its comment says otherwise.
 * Errors: a function returns 0 or a negative WEFT_E* code; to give the reason, call host->fail(job, code, text) first.
 *   An error of a plugin ends its job (and its job only), with state failed.
 * Determinism (promise P1): a plugin's result may depend only on its parameters, the tokens and host->uniform(). No clocks,
 *   no addresses, no global counters.
 * Versions: every struct begins with its size; structs grow at the end only. Ask WEFT_HAS(p, field) before using a field that
 *   is newer than minor 0. The major number must match; the minor is information. weft_value, weft_top, weft_drawn, weft_result and
 *   weft_edit, which stand in arrays, never grow within a major number; an array of weft_param has the stride of its own size field. */
#ifndef WEFT_PLUGIN_H
#define WEFT_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#define WEFT_STATIC_ASSERT static_assert
#else
#define WEFT_STATIC_ASSERT _Static_assert
#endif

#define WEFT_ABI_MAJOR 1u
#define WEFT_ABI_MINOR 2u
#define WEFT_ABI (WEFT_ABI_MAJOR << 16 | WEFT_ABI_MINOR)

/* True when the other side's struct is long enough to hold `field`. */
#define WEFT_HAS(p, field) (offsetof_end_(p, field) <= (p)->size)
#define offsetof_end_(p, field) ((size_t)((const char *)&(p)->field - (const char *)(p)) + sizeof((p)->field))
/* Each struct ends where its last field ends, rounded up to its alignment: no forgotten field, no stray padding. */
#define WEFT_ENDS_WITH(type, last)                                                                                              \
	WEFT_STATIC_ASSERT(sizeof(type) == (offsetof(type, last) + sizeof(((type *)0)->last) + 7) / 8 * 8, #type " must end with " #last)

#if defined(_WIN32)
#define WEFT_EXPORT
#else
#define WEFT_EXPORT __attribute__((visibility("default")))
#endif

enum weft_code {
	WEFT_OK = 0,
	WEFT_EINVAL = -1,	/* a parameter value is impossible: the request is refused */
	WEFT_ENOMEM = -2,
	WEFT_EUNSUPPORTED = -3,
	WEFT_EINTERNAL = -4
};

/* Opaque: a running job, seen from the plugin; valid in every call that is handed it. */
struct weft_job;

/* ---- parameters ------------------------------------------------------------------------------------------------------ */

/* A plugin declares its parameters once; weftd validates requests against them, fills in defaults, lists them in
 * `weft plugins` and refuses unknown names. Names share one flat space with all loaded plugins: a duplicate is refused at load,
 * unless `shared` is set on both and type, default and range are the same. */
enum weft_type {
	WEFT_BOOL = 1,		/* .i: 0 or 1 */
	WEFT_INT,		/* .i, in [min, max] */
	WEFT_FLOAT,		/* .f, in [min, max]; never NaN or infinite */
	WEFT_STRING,		/* .str, UTF-8, NUL-terminated; default: def_str (NULL: "") */
	WEFT_INT_LIST,		/* .n values in .ints; default empty; each in [min, max] */
	WEFT_STRING_LIST,	/* .n values in .strs; default empty */
	WEFT_TOKEN_MAP		/* .n pairs: .ints[i] is a token id, .floats[i] in [min, max]; default empty; ids are unique and in the vocabulary */
};

struct weft_param {
	uint32_t size;
	uint32_t type;		/* enum weft_type */
	const char *name;	/* lower case, [a-z0-9_] */
	const char *doc;	/* one sentence, with the neutral value */
	double def;		/* default of BOOL, INT, FLOAT */
	double min, max;	/* inclusive range; a list's or map's element range */
	const char *def_str;
	uint32_t max_items;	/* longest list or map */
	uint32_t shared;	/* 1: other plugins may declare the same parameter */
};
WEFT_ENDS_WITH(struct weft_param, shared);

struct weft_value {
	int64_t i;
	double f;
	const char *str;
	uint64_t n;
	const int64_t *ints;
	const double *floats;
	const char *const *strs;
	uint32_t set;		/* 1: the request named it; 0: default */
	uint32_t pad_;
};
WEFT_ENDS_WITH(struct weft_value, pad_);

/* ---- samplers -------------------------------------------------------------------------------------------------------- */

/* The candidates for one token. apply() edits them in place: change logits, drop entries (compact and lower n), reorder.
 * At the start of a chain n == vocab and ids[i] == i. At least one candidate must be left. logits are f32, natural-log scale up
 * to a constant; -INFINITY is allowed and means impossible, NaN and +INFINITY are not. */
struct weft_candidates {
	uint32_t size;
	uint32_t n;
	int32_t *ids;		/* [n] */
	float *logits;		/* [n] */
	uint32_t sorted;	/* 1: by logit descending, ties by id ascending; clear it when you break that */
	uint32_t dense;		/* 1: ids[i] == i for all i; clear it when you break that */
	uint64_t position;	/* of the token being drawn: tokens of prompt and answer before it */
	uint64_t generated;	/* tokens of this answer before it */
};
WEFT_ENDS_WITH(struct weft_candidates, generated);

struct weft_blob {		/* a growing byte string owned by weftd; write with host->blob_write */
	uint32_t size;
	uint32_t pad_;
	const uint8_t *data;
	uint64_t len;
};
WEFT_ENDS_WITH(struct weft_blob, len);

/* What an instance's apply() computes, in a word and a number (1.1), so that weftd may compute it beside the logits on a device, to the same
 * bit. l: logits; max: the greatest of them; weights: exp(l - max) as host->weigh() has them. */
enum weft_formula_kind {
	WEFT_FORMULA_TEMPERATURE = 1,	/* x 0: all but the first by logit and id are dropped; else l = (l - max) / x in double, rounded to float,
					 * -INFINITY below its range. The order becomes unknown */
	WEFT_FORMULA_TOP_K,		/* the k best are left, in order */
	WEFT_FORMULA_TOP_P,		/* in order; the first ones, at least one, until their weights, added one by one in double, reach x times the sum
					 * that host->weigh() returns for the candidates as they came; x below 1 */
	WEFT_FORMULA_MIN_P,		/* those with l < max + x, in double, are dropped; the others keep their order */
	WEFT_FORMULA_EDITS		/* 1.2: of the tokens of edits[0 .. n_edits), each of which is there once, l = (l > 0 ? l / ratio : l * ratio) - minus
					 * in double, rounded to float; -INFINITY below its range, the greatest float above it. The order becomes unknown */
};
struct weft_edit {		/* (1.2) */
	int32_t token;
	uint32_t pad_;
	double ratio, minus;	/* ratio above 0; both finite */
};
WEFT_ENDS_WITH(struct weft_edit, minus);
struct weft_formula {
	uint32_t size;
	uint32_t kind;		/* enum weft_formula_kind */
	double x;
	uint64_t k;
	struct weft_edit *edits;	/* 1.2: [room], weftd's, to write to; what needs more has no formula. Asked for with WEFT_HAS(f, n_edits) */
	uint32_t room, n_edits;		/* n_edits: yours to set */
};
WEFT_ENDS_WITH(struct weft_formula, n_edits);

enum weft_sampler_flags {
	WEFT_ARGMAX_INVARIANT = 1,	/* never changes which candidate is first */
	WEFT_NEEDS_HISTORY = 2,		/* wants accept() for prompt tokens, too */
	WEFT_DETERMINISTIC = 4,		/* never calls host->uniform */
	/* apply() and accept() touch nothing but their instance, what they are handed and the host: weftd may call them on any thread, those of
	 * several jobs at the same time. Instances of one job are never called at the same time. */
	WEFT_SIDE_BY_SIDE = 8
};

struct weft_host;

struct weft_sampler {
	uint32_t size;
	uint32_t flags;
	uint32_t order;		/* place in the default chain, ascending; the shipped ones use hundreds (see the plugin tutorial) */
	uint32_t pad_;
	/* Make an instance. params[i] belongs to the plugin's i-th struct weft_param; borrowed until the instance is destroyed.
	 * *self = NULL with return 0 says that these values are neutral: weftd leaves the sampler out. [engine] */
	int (*create)(const struct weft_host *host, struct weft_job *job, const struct weft_value *params, void **self);
	int (*apply)(void *self, struct weft_job *job, struct weft_candidates *c);
	/* A token joined the sequence: from_prompt 1 for prompt tokens (only with WEFT_NEEDS_HISTORY), else drawn. May be NULL. */
	int (*accept)(void *self, struct weft_job *job, int32_t token, uint32_t from_prompt);
	/* State to bytes and back, so that a job survives a restart; both or neither. save() is called between two tokens and changes nothing;
	 * load() on an instance fresh from create() with the same parameters, which has accepted nothing. The bytes are those that the same file
	 * of the plugin has written. An error of save() costs the checkpoint, not the job. NULL: the state follows from accept() alone; weftd tells
	 * a fresh instance the prompt (with WEFT_NEEDS_HISTORY) and all drawn tokens again. */
	int (*save)(void *self, struct weft_blob *out);
	int (*load)(void *self, const struct weft_blob *in);
	int (*clone)(const void *self, void **copy);	/* for forked choices; NULL: cannot be cloned */
	void (*destroy)(void *self);			/* never called with NULL */
	/* 1.1: 0, with what apply() would compute now; where it is taken at its word, apply() is not called, and accept() is. NULL, or any other
	 * return: there is no formula for it. */
	int (*formula)(const void *self, struct weft_formula *out);
};
WEFT_ENDS_WITH(struct weft_sampler, formula);

/* ---- decoders -------------------------------------------------------------------------------------------------------- */

enum weft_feed_flags {
	WEFT_FEED_PROMPT = 1,	/* tokens belong to the prompt (P1: the prompt path), not to the answer */
	WEFT_FEED_LOGITS = 2,	/* the raw logits of the last row are wanted in the result */
	WEFT_FEED_NO_LOGPROBS = 4	/* nobody looks at the log-probabilities of draws: they may be 0, which saves a sum over the vocabulary */
};

/* One wish of plan(): append tokens to a sequence, and say what is wanted back. */
struct weft_feed {
	uint32_t size;
	uint32_t flags;
	uint32_t seq;			/* a sequence of this job: 0 exists from the start, empty */
	uint32_t n_tokens;		/* >= 1 */
	const int32_t *tokens;		/* [n_tokens]; copied by host->feed */
	/* Log-likelihoods: targets[i] >= 0 asks for log p(targets[i] | everything up to and with tokens[i]). NULL: none. Copied. */
	const int32_t *targets;		/* [n_tokens] or NULL */
	/* Draws: after the last row, one token for each of these choices, by the choice's own sampler chain. Copied. */
	const uint32_t *choices;	/* [n_choices], each < 65536 */
	uint32_t n_choices;
	uint32_t top;			/* with targets or draws: how many of the most likely tokens to report, 0..64 */
};
WEFT_ENDS_WITH(struct weft_feed, top);

struct weft_top {		/* one of the most likely tokens; logprob: natural log, full vocabulary, before the sampler chain */
	int32_t token;
	float logprob;
};

struct weft_drawn {		/* what came of one draw or one target */
	uint32_t size;
	int32_t token;		/* drawn, or the target */
	float logprob;		/* as in struct weft_top; of a draw with WEFT_FEED_NO_LOGPROBS perhaps 0 */
	uint32_t greedy;	/* 1: it is the most likely token */
	const struct weft_top *top;	/* [n_top], most likely first */
	uint32_t n_top;
	uint32_t choice;	/* of a draw */
};
WEFT_ENDS_WITH(struct weft_drawn, choice);

struct weft_result {		/* of one feed, in the order of the host->feed calls */
	uint32_t size;
	uint32_t seq;
	const struct weft_drawn *draws;		/* [n_draws], in the order of choices */
	uint32_t n_draws;
	uint32_t n_targets;
	const struct weft_drawn *targets;	/* [n_targets] = the rows whose target was >= 0, in order */
	const float *logits;			/* [vocab] with WEFT_FEED_LOGITS, else NULL */
};
WEFT_ENDS_WITH(struct weft_result, logits);

enum weft_finish { WEFT_FINISH_STOP = 1, WEFT_FINISH_STOP_STRING, WEFT_FINISH_LENGTH, WEFT_FINISH_CONTEXT, WEFT_FINISH_ERROR };

struct weft_delta {		/* new piece of one choice's answer */
	uint32_t size;
	uint32_t choice;
	const char *text;	/* UTF-8, whole characters; may be empty */
	uint64_t text_len;
	const int32_t *tokens;	/* [n_tokens] */
	uint32_t n_tokens;
	uint32_t has_logprobs;
	const struct weft_drawn *logprobs;	/* [n_tokens] with has_logprobs */
	uint32_t first_null;	/* 1: tokens[0] has no logprob (an echoed prompt begins: nothing stands before it) */
	uint32_t pad_;
};
WEFT_ENDS_WITH(struct weft_delta, pad_);

struct weft_score {		/* log-likelihood of one continuation, or (first_null 1) of the prompt itself */
	uint32_t size;
	uint32_t index;		/* of the continuation; 0 for the prompt */
	double logprob;		/* sum over its tokens */
	uint32_t greedy;	/* 1: every token is the most likely one */
	uint32_t n_tokens;
	const struct weft_drawn *tokens;	/* [n_tokens] */
	uint32_t first_null;	/* 1: these are the prompt's tokens; tokens[0] has no logprob (nothing stands before it) and is not in the sum */
	uint32_t pad_;
};
WEFT_ENDS_WITH(struct weft_score, pad_);

struct weft_decoder {
	uint32_t size;
	uint32_t flags;		/* 0 */
	int (*create)(const struct weft_host *host, struct weft_job *job, const struct weft_value *params, void **self);
	/* Declare this step's wishes by host->feed/fork/trim/drop. At least one feed, unless host->done was called. */
	int (*plan)(void *self, struct weft_job *job);
	/* All of them have happened. May emit, finish choices, and say done. results is valid until the return. */
	int (*commit)(void *self, struct weft_job *job, const struct weft_result *results, uint32_t n_results);
	/* Bytes from which load() on a fresh instance (create() with the same parameters) goes on as if nothing had happened; both or neither.
	 * save() is called between commit and plan, often, and changes nothing; neither may call feed, fork, delta and the like. Sequences under
	 * their numbers, samplers, detokenisers and finishes of the choices come back by themselves. The bytes are those that the same file of the
	 * plugin has written. An error of save() costs the checkpoint, not the job; after one of load() the job starts again from its prompt, as it
	 * does after a restart when they are NULL. */
	int (*save)(void *self, struct weft_blob *out);
	int (*load)(void *self, const struct weft_blob *in);
	void (*destroy)(void *self);
};
WEFT_ENDS_WITH(struct weft_decoder, destroy);

/* ---- what weftd offers ------------------------------------------------------------------------------------------------- */

enum weft_log_level { WEFT_LOG_ERROR = 3, WEFT_LOG_WARNING = 4, WEFT_LOG_INFO = 6, WEFT_LOG_DEBUG = 7 };	/* as syslog */

struct weft_host {		/* one constant table: valid from init() to the end of fini() */
	uint32_t size;
	uint32_t abi;
	/* [any] One line to weftd's log; job may be NULL. Never put prompt text there. */
	void (*log)(struct weft_job *job, int level, const char *text);
	/* [engine] Ends the job with this reason when the plugin function returns an error. text is copied. Returns code. */
	int (*fail)(struct weft_job *job, int code, const char *text);

	/* Facts of the model. [any] */
	uint32_t (*vocab)(struct weft_job *job);
	int32_t (*eos)(struct weft_job *job);		/* -1: none */
	uint32_t (*context)(struct weft_job *job);	/* longest sequence in tokens */
	/* Bytes of one token inside running text; borrowed for the job's life; NULL outside the vocabulary. */
	const char *(*piece)(struct weft_job *job, int32_t token, uint64_t *len);
	/* Tokens of a text that continues earlier text (no BOS, no dummy space). Writes at most cap; returns how many there are. */
	int64_t (*tokenize)(struct weft_job *job, const char *text, uint64_t len, int32_t *out, uint64_t cap);

	/* Facts of the job. [engine] */
	uint64_t (*prompt)(struct weft_job *job, const int32_t **tokens);	/* returns the count; borrowed */
	uint64_t (*continuations)(struct weft_job *job);			/* of a score job */
	uint64_t (*continuation)(struct weft_job *job, uint64_t i, const int32_t **tokens);
	/* A uniform number in [0, 1): a pure function of the request's seed, the plugin's name, choice, position and k. Inside a
	 * sampler call, choice is the instance's own and the argument is ignored. */
	double (*uniform)(struct weft_job *job, uint32_t choice, uint64_t position, uint32_t k);

	/* For decoders, in plan(). [engine] An impossible wish (a sequence that is not there, a token outside the vocabulary, a feed beyond
	 * the context, a choice drawn twice in one plan or after its finish, too many wishes) ends the job, whatever plan() returns.
	 * Several feeds of one sequence in one plan follow each other; a sequence that was fed in this plan cannot be trimmed or dropped in it.
	 * Limits: 4096 feeds in a plan, 1024 sequences at a time, 4096 choices in a job, and in a plan 2^23 reported values: (targets + draws) *
	 * (1 + top), and vocab for each WEFT_FEED_LOGITS. */
	int (*feed)(struct weft_job *job, const struct weft_feed *f);
	int (*fork)(struct weft_job *job, uint32_t seq, uint32_t *new_seq);	/* shares what is in seq, if anything, before this plan's feeds */
	int (*trim)(struct weft_job *job, uint32_t seq, uint64_t len);
	int (*drop)(struct weft_job *job, uint32_t seq);			/* frees it; its number is not used again */
	uint64_t (*seq_len)(struct weft_job *job, uint32_t seq);	/* tokens in it, without this plan's feeds; 0: no such sequence */

	/* For decoders, in commit() and in plan(). [engine] Streams are kept per choice. */
	/* Feeds one token to the choice's detokeniser and gives the text that became readable (whole UTF-8 characters; borrowed until the
	 * next call). token -1 flushes. */
	int (*detokenize)(struct weft_job *job, uint32_t choice, int32_t token, const char **text, uint64_t *len);
	int (*delta)(struct weft_job *job, const struct weft_delta *d);
	int (*score)(struct weft_job *job, const struct weft_score *s);
	int (*finish)(struct weft_job *job, uint32_t choice, uint32_t finish);	/* enum weft_finish; once per choice */
	int (*progress)(struct weft_job *job, uint64_t done, uint64_t total);
	/* Nothing more will be planned. Every choice that had a delta must have its finish by then. In plan(): no feeds. */
	int (*done)(struct weft_job *job);

	/* Tools for samplers. [engine] */
	/* The k best candidates first, in sorted order, and the rest dropped when drop is 1 (else behind, unordered unless k >= n). */
	void (*sort)(struct weft_candidates *c, uint32_t k, uint32_t drop);
	int (*blob_write)(struct weft_blob *out, const void *data, uint64_t len);
	/* 1.1: weights[i] = exp(logits[i] - max) (NULL: not wanted), and their sum, with the arithmetic and the order that weftd's own draw has.
	 * max: at least the greatest logit. */
	double (*weigh)(const float *logits, uint32_t n, double max, double *weights);
};
WEFT_ENDS_WITH(struct weft_host, weigh);

/* ---- the plugin -------------------------------------------------------------------------------------------------------- */

struct weft_plugin {
	uint32_t size;			/* sizeof(struct weft_plugin) */
	uint32_t abi;			/* WEFT_ABI */
	const char *name;		/* [a-z0-9_]+, unique among the loaded plugins */
	const char *version;
	const char *doc;		/* one sentence */
	const struct weft_param *params;	/* [n_params] */
	uint64_t n_params;
	const struct weft_sampler *sampler;	/* exactly one of sampler and decoder is not NULL */
	const struct weft_decoder *decoder;
	int (*init)(const struct weft_host *host);	/* may be NULL; on failure nothing is to be undone. [main] */
	void (*fini)(void);				/* may be NULL. [main] */
};
WEFT_ENDS_WITH(struct weft_plugin, fini);

/* The one symbol that a plugin exports. */
WEFT_EXPORT const struct weft_plugin *weft_plugin(void);

/* CHANGES
 * 1.0  first version
 * 1.1  weft_sampler.formula with struct weft_formula; weft_host.weigh
 * 1.2  WEFT_FORMULA_EDITS with weft_formula.edits, room and n_edits */

#ifdef __cplusplus
}
#endif
#endif
