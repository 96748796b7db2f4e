/* weft.h: talk to weftd from C. Public; installed; needs nothing but stddef/stdint/stdbool. Link with -lweft (pkg-config weft).
 *
 *	struct weft_client *c;
 *	struct weft_client_error error;
 *	if (weft_client_new(&c, NULL, &error) < 0) ...   // NULL: $WEFT_REQUEST and $WEFT_ANSWER, or the defaults
 *	struct weft_request *r = weft_request_new("generate");
 *	weft_request_message(r, "user", "Which fabric keeps warm?");
 *	weft_request_uint(r, "max_tokens", 100);
 *	uint64_t job;
 *	if (weft_client_submit(c, r, &job, NULL, 10000) < 0) ...              // weft_client_error(c)->text says why
 *	const struct weft_event *e;
 *	while (weft_client_next(c, &e, 60000) == 0 && e->kind != WEFT_EVENT_DONE)
 *		fwrite(e->text, 1, e->text_len, stdout);
 *	weft_request_free(r);
 *	weft_client_free(c);
 *
 * client/PROTOCOL.md says which operations, fields, options and events there are; this library carries them without knowing each.
 *
 * Threads: one client belongs to one thread at a time; clients are independent of each other. Nothing here prints or exits.
 * Ownership: _new/_free pairs; free accepts NULL. Pointers into an event, a reply or an error are borrowed, see each.
 * Return: 0, or a negative enum weft_client_code whose reason is in weft_client_error(). Timeouts are milliseconds; -1 waits
 * for ever. Strings are UTF-8. Names: weft_client_ weft_request_ weft_reply_ weft_event; may be included beside weft-plugin.h. */
#ifndef WEFT_H
#define WEFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WEFT_API __attribute__((visibility("default")))
#define WEFT_MUST_CHECK __attribute__((warn_unused_result))

WEFT_API const char *weft_client_version(void); /* of the library: "0.1.0" */

/* ---- errors ---- */

enum weft_client_code {
	WEFT_CLIENT_OK = 0,
	WEFT_CLIENT_EINVAL = -1, /* the caller asked for something impossible; nothing was sent */
	WEFT_CLIENT_ENOMEM = -2,
	WEFT_CLIENT_ESYSTEM = -3,      /* a socket or a file */
	WEFT_CLIENT_EUNREACHABLE = -4, /* no connection within the timeout, or the server refuses this key; nothing was sent */
	WEFT_CLIENT_ETIMEOUT = -5,     /* connected, but no reply or no event within the timeout */
	WEFT_CLIENT_EREFUSED = -6,     /* the server said no: see server_code, field, retry */
	WEFT_CLIENT_EPROTOCOL = -7,    /* the other side does not speak protocol version 1 */
	WEFT_CLIENT_ELOST = -8,        /* the server does not know the job any more: its remaining events are lost */
	WEFT_CLIENT_EINTERRUPTED = -9  /* interrupt_fd became readable */
};

struct weft_client_error {
	int code;                /* enum weft_client_code */
	char text[512];          /* one sentence */
	char server_code[32];    /* EREFUSED: "invalid_argument"...; else "" */
	char field[128];         /* EREFUSED: the field at fault, or "" */
	bool retry;              /* EREFUSED: the same request may succeed later */
	uint64_t retry_after_ms; /* EREFUSED: a good moment for that; 0: not said */
};

/* ---- requests ---- */

/* A request is an operation and its fields; v, id and topic are put in by the client. Setters copy. A mistake (the same field
 * twice, text that is not UTF-8, bad JSON, out of memory) is kept and reported when the request is sent. A request may be sent many
 * times. */
struct weft_request;
WEFT_API struct weft_request *weft_request_new(const char *op); /* NULL: out of memory */
WEFT_API void weft_request_free(struct weft_request *r);
WEFT_API void weft_request_str(struct weft_request *r, const char *field, const char *text);
WEFT_API void weft_request_strn(struct weft_request *r, const char *field, const char *text, size_t len);
WEFT_API void weft_request_uint(struct weft_request *r, const char *field, uint64_t value);
WEFT_API void weft_request_int(struct weft_request *r, const char *field, int64_t value);
WEFT_API void weft_request_float(struct weft_request *r, const char *field, double value);
WEFT_API void weft_request_bool(struct weft_request *r, const char *field, bool value);
WEFT_API void weft_request_strs(struct weft_request *r, const char *field, const char *const *texts, size_t n);
WEFT_API void weft_request_tokens(struct weft_request *r, const char *field, const uint32_t *tokens, size_t n);
WEFT_API void weft_request_json(struct weft_request *r, const char *field, const char *json);      /* any JSON value */
WEFT_API void weft_request_message(struct weft_request *r, const char *role, const char *content); /* appends to "messages" */

/* ---- replies ---- */

/* What the server answered: a tree of maps and arrays. A path names a place in it: keys and array indices joined by dots
 * ("model.layers", "jobs.0.state"); NULL or "" is the whole. Getters return false when there is nothing of that type at the path.
 */
struct weft_reply;
WEFT_API void weft_reply_free(struct weft_reply *r);
WEFT_API bool weft_reply_has(const struct weft_reply *r, const char *path);
WEFT_API bool weft_reply_uint(const struct weft_reply *r, const char *path, uint64_t *value);
WEFT_API bool weft_reply_int(const struct weft_reply *r, const char *path, int64_t *value);
WEFT_API bool weft_reply_float(const struct weft_reply *r, const char *path, double *value); /* integers, too */
WEFT_API bool weft_reply_bool(const struct weft_reply *r, const char *path, bool *value);
/* Borrowed from the reply; len may be NULL; there is a NUL behind the text. */
WEFT_API const char *weft_reply_str(const struct weft_reply *r, const char *path, size_t *len);
WEFT_API size_t weft_reply_count(const struct weft_reply *r, const char *path); /* elements of an array or map; 0 for all else */
/* The i-th key of a map; borrowed from the reply; NULL: no map, or not so many. */
WEFT_API const char *weft_reply_key(const struct weft_reply *r, const char *path, size_t i);
WEFT_API struct weft_reply *weft_reply_copy(const struct weft_reply *r,
					    const char *path); /* of a map; the caller frees it; NULL: no map there, or no memory */
WEFT_API char *weft_reply_json(const struct weft_reply *r,
			       const char *path); /* one line; the caller frees it; NULL: nothing there, or no memory */

/* ---- the client ---- */

struct weft_client;

struct weft_client_params {  /* zeroed fields take their defaults */
	const char *request; /* endpoint; default $WEFT_REQUEST, then ipc:///run/weft/request */
	const char *answer;  /* endpoint; default $WEFT_ANSWER, then ipc:///run/weft/answer */
	/* CURVE, for tcp:// endpoints: the server's public key (40 Z85 characters, or a file that begins with them), and the file
	 * with this client's secret key (40 Z85 characters; its public half follows from it). Default $WEFT_SERVER_KEY and
	 * $WEFT_CLIENT_KEY, then none. Both or neither. */
	const char *server_key;
	const char *client_key;
	int interrupt_fd; /* ends every wait with EINTERRUPTED while it is readable (never read from); 0: none */
};

WEFT_API int weft_client_new(struct weft_client **out, const struct weft_client_params *params,
			     struct weft_client_error *error) WEFT_MUST_CHECK;
WEFT_API void weft_client_free(struct weft_client *c);
WEFT_API const struct weft_client_error *weft_client_error(const struct weft_client *c); /* of the last call that failed */
WEFT_API const char *weft_client_topic(const struct weft_client *c); /* 32 hex characters, made by weft_client_new */

/* Subscribes, and says hello until the subscription is seen to work. *hello (may be NULL) is the server's reply; the caller frees
 * it. weft_client_submit does this by itself when it was not done. */
WEFT_API int weft_client_connect(struct weft_client *c, struct weft_reply **hello, int timeout) WEFT_MUST_CHECK;

/* Sends one request and waits for its reply. When no reply comes, the request is sent again until the timeout, if its operation may
 * be repeated (all but those that make jobs: generate and score without a key, adapter.fuse, adapter.learn). *reply (may be NULL) is set on success only; the caller frees it. */
WEFT_API int weft_client_call(struct weft_client *c, const struct weft_request *r, struct weft_reply **reply,
			      int timeout) WEFT_MUST_CHECK;

/* Sends a request that makes a job (generate, score, adapter.fuse, adapter.learn) with this client's topic. From its success on, weft_client_next
 * gives the job's events; what a task has made is in its done event, at "result" of body.
 * ETIMEOUT leaves open whether the job was accepted; it is never sent twice. */
WEFT_API int weft_client_submit(struct weft_client *c, const struct weft_request *r, uint64_t *job, struct weft_reply **reply,
				int timeout) WEFT_MUST_CHECK;

enum weft_event_kind {
	WEFT_EVENT_OTHER,  /* one that this version of the library does not know: see body */
	WEFT_EVENT_QUEUED, /* position */
	WEFT_EVENT_STARTED,
	WEFT_EVENT_PROGRESS, /* done, total */
	WEFT_EVENT_DELTA,    /* choice, text, tokens */
	WEFT_EVENT_PREEMPTED,
	WEFT_EVENT_RESUMED,
	WEFT_EVENT_DONE,     /* state, choices, usage, timing, error; of a task: state, timing, error, and "result" in body */
	WEFT_EVENT_RECOVERED /* a durable job goes on after its server went */
};

struct weft_choice {
	const char *finish; /* "" in the choices of a score job */
	const char *text;   /* generate; NUL behind it */
	size_t text_len;
	const uint32_t *tokens;
	size_t n_tokens;
	double logprob; /* score: the sum */
	bool greedy;    /* score */
};

/* Fields that do not belong to the kind are zero, "" or NULL. */
struct weft_event {
	enum weft_event_kind kind;
	uint64_t job, seq;
	uint64_t position;
	uint64_t done, total;
	uint32_t choice;
	const char *text; /* whole characters; NUL behind it */
	size_t text_len;
	const uint32_t *tokens;
	size_t n_tokens;
	const char *state; /* "done" "failed" "cancelled" "expired" */
	const struct weft_choice *choices;
	size_t n_choices;
	uint64_t prompt_tokens, completion_tokens, cached_tokens;
	double queued_ms, prefill_ms, total_ms;
	const char *error_code, *error_message; /* state "failed" */
	const struct weft_reply *body;          /* the whole event, for everything else (logprobs...) */
};

/* The next event of any job of this client: each job's events in order, without a gap, once. What was lost on the way (a gap in
 * seq, a reconnect, silence) is fetched again through `results`. *event is borrowed until the next call of this function or
 * weft_client_free. After ELOST the job is forgotten, others go on. */
WEFT_API int weft_client_next(struct weft_client *c, const struct weft_event **event, int timeout) WEFT_MUST_CHECK;

WEFT_API size_t weft_client_jobs(const struct weft_client *c); /* jobs whose done event was not handed out yet */
WEFT_API int weft_client_cancel(struct weft_client *c, uint64_t job, int timeout) WEFT_MUST_CHECK; /* its done event still comes */

/* A new CURVE key pair, as 40 Z85 characters and NUL each. */
WEFT_API int weft_client_keygen(char public_key[41], char secret_key[41]) WEFT_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
