/* draft.h: a request for a job, judged and (generate, score) tokenised: all that is needed to accept it. Reads nothing that changes,
 * so that large requests can be prepared on a worker thread. [any thread] */
#ifndef WEFT_DAEMON_DRAFT_H
#define WEFT_DAEMON_DRAFT_H

#include "adapters.h"
#include "engine.h"
#include "problem.h"
#include "task.h"
#include "template.h"

/* What a request is judged by; constant while requests are under way. */
struct draft_env {
	struct plugin_set *plugins;
	const struct core_tokenizer *tokenizer;
	uint32_t vocab, context;
	size_t longest_piece;            /* bytes of the longest token: a text of n bytes has at least n / longest_piece tokens */
	const struct template *template; /* of messages, unless the request names one */
	uint64_t queue_ms;               /* unless the request says; 0: none */
	const struct core_model *model;
	const char *model_path, *fuse_output; /* as configured */
	bool store;                      /* there is one */
};

enum { DRAFT_KEY_MAX = 256, DRAFT_SALT_MAX = 128 };
enum { DRAFT_MAX_N = 64 }; /* choices or continuations of one job */

struct draft {
	bool score, keep;
	char topic[WIRE_TOPIC_LEN + 1];
	char decoder[64];
	enum job_class class;
	uint32_t priority, n_choices;
	uint64_t deadline_ms, queue_ms;   /* 0: none */
	uint64_t tokens;                  /* it may come to: prompt and longest answers */
	uint64_t bytes;                   /* of memory that it may come to need outside the engine */
	char model[ADAPTER_NAME_MAX + 1]; /* "": not named */
	char cache_salt[DRAFT_SALT_MAX + 1]; /* "": none */
	struct adapter_wish adapters[CORE_BLEND_MAX];
	struct adapter_sight seen[CORE_BLEND_MAX]; /* of each, in the folders: by request_look() */
	size_t n_adapters;
	struct plugin_set *plugins; /* that its options were judged by; borrowed of env */
	struct blend_file *blend_file; /* what the adapters come from; NULL: something else. Owned */
	struct engine_job *work; /* id and plugins are still missing; NULL: a task */
	struct task *task;
	void *options;           /* the effective set, as one msgpack map; malloc'ed */
	size_t options_len;
	/* durable jobs */
	bool durable;
	uint64_t delay_ms;
	char key[DRAFT_KEY_MAX + 1]; /* "": none */
	unsigned char digest[32];    /* of what the client asked for: what the key stands for */
	void *body;                  /* a request that has the same answer in another process; malloc'ed */
	size_t body_len;
};
/* body: the decoded request, `size` bytes of it. */
int draft_prepare(struct draft *d, const struct draft_env *env, bool score, const msgpack_object *body, size_t size,
		  struct problem *p);
/* The fields that every job has, for one that will be a task: its own fields and d->task are the kind's to add. DRAFT_FIELDS are their
 * names, for the list of the op's fields. */
int draft_prepare_task(struct draft *d, const struct draft_env *env, const msgpack_object *body, struct problem *p);
#define DRAFT_FIELDS " topic class priority deadline_ms queue_ms on_disconnect durable key "
/* Begins the map of the effective options with what every job has; `more` pairs are the caller's to add. */
void draft_begin_options(const struct draft *d, size_t more, struct wire_buf *b);
void draft_finish(struct draft *d);

/* The tokens of a map that has prompt, messages (and perhaps template) or tokens. *out is malloc'ed. */
int draft_prompt_tokens(const struct draft_env *env, const msgpack_object *map, int32_t **out, size_t *n, struct problem *p);
/* Also used by tokenize and detokenize. *out is malloc'ed. */
int draft_token_array(const struct draft_env *env, const char *field, const msgpack_object *array, int32_t **out, size_t *n,
		      struct problem *p);
size_t draft_longest_piece(const struct core_tokenizer *t);

#endif
