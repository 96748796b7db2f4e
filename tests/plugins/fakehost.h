/* fakehost.h: a host for plugins without a daemon: it loads the built modules, keeps sequences as lists of tokens, computes logits
 * with a function of the test, and records all that a plugin does. One job at a time, one thread. Misuse of the ABI by a plugin
 * fails the test. */
#ifndef FAKEHOST_H
#define FAKEHOST_H

#include "plugins/weft-plugin.h"

#include <stdbool.h>
#include <stddef.h>

enum { FAKE_SEQS = 128, FAKE_CHOICES = 64, FAKE_FEEDS = 128, FAKE_CHAIN = 16 };

/* The module NAME of the build tree (or a path with a slash); fails the test when it cannot be loaded. */
const struct weft_plugin *fake_load(const char *name);

/* ---- parameters: [n_params], defaults first, then what the test sets. Freed with fake_values_free. ---- */
struct weft_value *fake_values(const struct weft_plugin *p);
void fake_values_free(const struct weft_plugin *p, struct weft_value *v);
void fake_set(const struct weft_plugin *p, struct weft_value *v, const char *name, double number);
/* The arrays are borrowed until the values are freed. */
void fake_set_strings(const struct weft_plugin *p, struct weft_value *v, const char *name, const char *const *strs, uint64_t n);
void fake_set_ints(const struct weft_plugin *p, struct weft_value *v, const char *name, const int64_t *ints, uint64_t n);
void fake_set_map(const struct weft_plugin *p, struct weft_value *v, const char *name, const int64_t *ints, const double *floats,
		  uint64_t n);

/* ---- model ---- */
struct fake_model {
	uint32_t vocab, context;
	int32_t eos;
	const char *const *pieces; /* [vocab]; NULL: every piece is empty */
	/* Logits of the token that follows tokens[0 .. n). */
	void (*logits)(void *arg, const int32_t *tokens, uint64_t n, float *out);
	void *arg;
};

/* ---- what a job did ---- */
struct fake_token {
	int32_t token;
	float logprob;
	bool null; /* it had no logprob */
	uint32_t greedy, n_top;
	struct weft_top top[64];
};

struct fake_answer {
	char text[65536];
	uint64_t len;
	struct fake_token *tokens; /* [n] */
	uint64_t n, deltas;
	bool has_logprobs;
	uint32_t finish;  /* 0: not finished */
	uint64_t shown;   /* bytes of the pieces of all delivered tokens */
	uint64_t unshown; /* of these, bytes that are not in text */
	bool agreed;      /* after each delta but the last one, text was exactly the tokens' text */
};

struct fake_score {
	uint32_t index, greedy, first_null;
	double logprob;
	struct fake_token *tokens;
	uint64_t n;
};

/* ---- job ---- */
struct fake_seq {
	bool live;
	int32_t *tokens;
	uint64_t n;
};

struct fake_sampler {
	const struct weft_sampler *sampler;
	void *self[FAKE_CHOICES]; /* NULL: left out */
	bool made[FAKE_CHOICES];
	const struct weft_value *values;
};

struct weft_job {
	const struct fake_model *model;
	uint64_t seed;
	const int32_t *prompt;
	uint64_t n_prompt;
	const int32_t *const *continuations;
	const uint64_t *continuation_len;
	uint64_t n_continuations;
	struct fake_sampler chain[FAKE_CHAIN]; /* [n_chain], in order */
	uint32_t n_chain;
	uint32_t drawing; /* the choice whose chain runs */

	struct fake_seq seqs[FAKE_SEQS];
	uint32_t n_seqs;
	struct weft_feed feeds[FAKE_FEEDS];
	uint32_t n_feeds;
	unsigned char held[FAKE_CHOICES][4]; /* detokenisers */
	unsigned n_held[FAKE_CHOICES];
	char readable[256];

	struct fake_answer *answers[FAKE_CHOICES];
	struct fake_score scores[64];
	uint32_t n_scores;
	uint64_t rows, steps, progress_done, progress_total;
	uint32_t most_seqs; /* live at once */
	bool done, planning;
	bool restless;    /* save after each step, and go on with a fresh instance that loads it */
	int code;         /* what the decoder returned at last */
	char failed[256]; /* text of host->fail */
};

extern const struct weft_host fake_host;

struct weft_job *fake_job(const struct fake_model *m, const int32_t *prompt, uint64_t n);
void fake_job_free(struct weft_job *j);
void fake_chain_add(struct weft_job *j, const struct weft_plugin *p, const struct weft_value *values);
/* Runs a decoder to its end; returns its last code. More than `max_steps` steps fail the test. */
int fake_run(struct weft_job *j, const struct weft_plugin *p, const struct weft_value *values, uint64_t max_steps);

/* ---- candidates: a dense list of n logits, as at the start of a chain ---- */
struct weft_candidates *fake_candidates(const float *logits, uint32_t n);
void fake_candidates_free(struct weft_candidates *c);

/* Counter-based uniform numbers, as the daemon's are: a pure function of its arguments. */
double fake_uniform(uint64_t seed, uint32_t choice, uint64_t position, uint32_t k);

struct weft_blob *fake_blob(void);
void fake_blob_free(struct weft_blob *b);

#endif
