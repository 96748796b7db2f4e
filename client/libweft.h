/* libweft.h: what the files of libweft share. Private. weft.h is the interface; reply.c reads, request.c builds, connection.c sends
 * and waits, jobs.c keeps each job's events in order. One client, one thread. */
#ifndef WEFT_LIBWEFT_H
#define WEFT_LIBWEFT_H

#include "weft.h"
#include "wire.h"

/* ---- reply.c ---- */

struct weft_reply {
	struct wire_msg msg; /* every str has a NUL behind it */
};
struct weft_reply *reply_decode(const void *data, size_t len, const char **why); /* NULL: why */
const msgpack_object *reply_at(const struct weft_reply *r, const char *path);    /* NULL: nothing there */

/* ---- request.c ---- */

int request_check(const struct weft_request *r, struct weft_client_error *error); /* 0, or the first mistake of the setters */
bool request_may_repeat(const struct weft_request *r);
void request_encode(const struct weft_request *r, uint64_t id, const char *topic, struct wire_buf *out); /* topic NULL: none */

/* ---- connection.c ---- */

struct client_link {            /* one socket, and what its monitor has told */
	const char *endpoint;   /* owned by the client */
	void *socket, *monitor; /* NULL: not opened */
	bool up;                /* connected, and the handshake is over */
	bool ever_up;
	bool refused; /* the other side turned this key down */
	bool back;    /* came up again since this was last cleared */
};

struct client_job {
	struct client_job *next;
	uint64_t id;
	uint64_t seq;        /* of the event that is due */
	bool ended;          /* its done event is in the list of events */
	int64_t check_at;    /* when to ask `results`, should it stay silent until then: ms of the monotonic clock */
	int64_t check_after; /* ms of silence for that, doubles */
};

struct client_event {
	struct client_event *next;
	struct weft_reply *body; /* owns everything that the event points to */
	struct weft_event event;
};

struct weft_client {
	char *endpoints[2];
	struct client_link request, answer;
	void *context;                                       /* of ZeroMQ */
	char server_key[41], public_key[41], secret_key[41]; /* Z85; server_key "": no CURVE */
	int interrupt_fd;                                    /* -1: none */
	char topic[WIRE_TOPIC_LEN + 1];
	bool subscribed; /* a hello event has come */
	uint64_t last_id;
	struct client_job *jobs;
	struct client_event *first, *last; /* ready to be handed out */
	struct client_event *current;      /* handed out by the last weft_client_next */
	struct weft_client_error error;
};

enum { WAIT_REQUEST_IN = 1, WAIT_REQUEST_OUT = 2, WAIT_ANSWER_IN = 4 };

int client_fail(struct weft_client_error *error, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int64_t client_now(void);             /* ms, monotonic */
int64_t client_deadline(int timeout); /* INT64_MAX for -1 */
/* Waits until one of `what` is possible: the mask of what is (0: deadline), or EINTERRUPTED, ESYSTEM. Follows the monitors
 * meanwhile; returns 0 early when a link comes back or is refused. */
int client_wait(struct weft_client *c, unsigned what, int64_t deadline);
int client_open_answer(struct weft_client *c);
int client_exchange(struct weft_client *c, const struct weft_request *r, const char *topic, struct weft_reply **reply,
		    int64_t deadline);

/* ---- jobs.c ---- */

int jobs_receive(struct weft_client *c); /* takes what is waiting at the answer socket */
void jobs_finish(struct weft_client *c);

#endif
