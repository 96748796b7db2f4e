/* engine_kit.h: a real engine on the demo model with the plugins that ship, for tests. */
#ifndef WEFT_TESTS_ENGINE_KIT_H
#define WEFT_TESTS_ENGINE_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "daemon/engine.h"
#include <pthread.h>

/* Loads tests/demo/model, plugins/ and the modules of tests/daemon named in `extra` (NULL-terminated, without ".so"; may be NULL). Skips the test
 * program (77) with a reason when a part is not there. */
struct kit {
	struct core_model *model;
	struct plugin_set *plugins;
	struct core_adapter *adapters[2];	/* NULL until a job asks for them */
};
void kit_init(struct kit *k, const char *const *extra);
void kit_finish(struct kit *k);

/* One request in words: "decoder=sample seed=7 n=2 max_tokens=20 temperature=0.8 stop=a|b class=batch priority=3". Samplers are all that
 * are loaded, in default order, unless "samplers=a,b" names them. "tailor=1 orderline=0.5" weaves the demo's adapters, "checkpoints=1" makes
 * them, "salt=x" is its salt. prompt: text, or NULL for `tokens`. */
enum { KIT_CONTINUATIONS = 48 };
struct kit_ask {
	const char *words, *prompt;
	const int32_t *tokens;
	size_t n_tokens;
	const char *continuations[KIT_CONTINUATIONS];	/* NULL-terminated: a score job */
};
struct engine_job *kit_job(struct kit *k, uint64_t id, const struct kit_ask *ask);

/* What an engine said about one job. */
struct kit_answer {
	uint64_t id;
	char *bytes;		/* everything about the answer that P1 promises: tokens, log-probabilities, texts, finishes, scores; by choice */
	size_t len;
	char *log;		/* the same events, of all choices, in the order they came in */
	size_t log_len;
	struct kit_cut {	/* a checkpoint */
		size_t log_len;	/* of the events in front of it */
		void *blob;
		size_t blob_len;
	} *cuts;
	size_t n_cuts;
	size_t event_bytes;	/* that the events took */
	struct kit_stream {
		uint32_t choice;
		char *bytes, *text;
		size_t len, text_len;
		unsigned finishes;
		int32_t *tokens;	/* [n_tokens] of all deltas */
		float *logprobs;	/* [n_tokens]; 0 where none was reported */
		size_t n_tokens;
	} *streams;
	size_t n_streams;
	unsigned started, resumed, preempted, progress, done, after_done, deltas;
	enum engine_end end;
	int code;
	char reason[700];
	uint64_t prompt_tokens, completion_tokens, cached_tokens;
};

/* An engine and the answers that came from it so far. */
struct kit_run {
	struct engine *engine;
	struct kit_answer *answers;	/* [n], by the order of their first event */
	size_t n, done, gone;
	pthread_mutex_t lock;
	pthread_cond_t woken;
	unsigned wakes;
};
struct kit_params {
	int threads;
	uint32_t kv_pages, max_rows, max_context;
	enum core_kv_type kv_type;
	bool no_prefix_cache;
	const struct engine_pace *pace;
	const char *device, *module;	/* as of struct core_ctx_params */
};
void kit_start(struct kit_run *r, const struct kit *k, const struct kit_params *p);
void kit_stop(struct kit_run *r);
/* Waits for events and files them; fails the test when none comes for a minute. */
void kit_wait(struct kit_run *r);
void kit_wait_done(struct kit_run *r, size_t n);	/* until n jobs are done */
struct kit_answer *kit_answer(struct kit_run *r, uint64_t id);	/* NULL: no event of it yet */
/* Runs one job on an engine of its own. The caller frees the bytes. */
char *kit_alone(struct kit *k, const struct kit_params *p, const struct kit_ask *ask, size_t *len);
/* Fails with a readable difference when two answers are not the same bytes. */
void kit_same(const char *what, const char *a, size_t a_len, const char *b, size_t b_len);
void kit_assert_idle(struct kit_run *r);	/* no job runs or is parked, and every page is free */

#endif
