/* connection.c: the client's two sockets, their monitors, CURVE keys, and one request and its reply. */
#include "config.h"
#include "libweft.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

enum { RESEND_FIRST_MS = 1000, RESEND_MAX_MS = 8000, HELLO_EVERY_MS = 100, ANSWER_HWM = 100000 };

const char *weft_client_version(void)
{
	return PACKAGE_VERSION;
}

int client_fail(struct weft_client_error *error, int code, const char *fmt, ...)
{
	va_list args;

	memset(error, 0, sizeof(*error));
	error->code = code;
	va_start(args, fmt);
	vsnprintf(error->text, sizeof(error->text), fmt, args);
	va_end(args);
	return code;
}

int64_t client_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t client_deadline(int timeout)
{
	return timeout < 0 ? INT64_MAX : client_now() + timeout;
}

/* ---- keys ---- */

/* Takes 40 Z85 characters: the first line of a file that is neither empty nor a comment (#). What is in the file is never part of
 * an error text. */
static int read_key(char key[41], const char *path, bool secret, struct weft_client_error *error)
{
	char line[256] = "";
	uint8_t bytes[32];
	struct stat st;
	FILE *f = fopen(path, "re");
	int err = 0;

	if (f == NULL)
		return client_fail(error, WEFT_CLIENT_ESYSTEM, "the key file %s: %s", path, strerror(errno));
	if (secret && (fstat(fileno(f), &st) < 0 || (st.st_mode & (S_IROTH | S_IWOTH)) != 0)) {
		err = client_fail(error, WEFT_CLIENT_EINVAL, "the key file %s is open to everybody: chmod 600 it", path);
	} else {
		while ((line[0] == 0 || line[0] == '#') && fgets(line, sizeof(line), f) != NULL)
			line[strcspn(line, " \t\r\n")] = 0;
		if (strlen(line) == 40 && zmq_z85_decode(bytes, line) != NULL)
			memcpy(key, line, 41);
		else
			err = client_fail(error, WEFT_CLIENT_EINVAL, "the key file %s does not begin with 40 Z85 characters", path);
	}
	fclose(f);
	explicit_bzero(line, sizeof(line));
	explicit_bzero(bytes, sizeof(bytes));
	return err;
}

static int load_keys(struct weft_client *c, const char *server, const char *own, struct weft_client_error *error)
{
	uint8_t bytes[32];
	int err;

	if (server == NULL && own == NULL)
		return 0;
	if (server == NULL || own == NULL)
		return client_fail(error, WEFT_CLIENT_EINVAL,
				   "CURVE needs both the server's public key and the file of this client's secret key");
	if (strlen(server) == 40 && access(server, F_OK) != 0 && zmq_z85_decode(bytes, server) != NULL)
		memcpy(c->server_key, server, 41);
	else if ((err = read_key(c->server_key, server, false, error)) < 0)
		return err;
	if ((err = read_key(c->secret_key, own, true, error)) < 0)
		return err;
	if (zmq_curve_public(c->public_key, c->secret_key) < 0)
		return client_fail(error, WEFT_CLIENT_ESYSTEM, "this libzmq is built without CURVE");
	return 0;
}

int weft_client_keygen(char public_key[41], char secret_key[41])
{
	return zmq_curve_keypair(public_key, secret_key) < 0 ? WEFT_CLIENT_ESYSTEM : 0;
}

/* ---- sockets ---- */

static int link_open(struct weft_client *c, struct client_link *l, int type, const char *name)
{
	const int zero = 0, one = 1, hwm = ANSWER_HWM;
	char monitor[80];

	l->socket = zmq_socket(c->context, type);
	if (l->socket == NULL)
		goto fail;
	zmq_setsockopt(l->socket, ZMQ_LINGER, &zero, sizeof(zero));
	if (type == ZMQ_SUB) {
		zmq_setsockopt(l->socket, ZMQ_RCVHWM, &hwm, sizeof(hwm));
		if (zmq_setsockopt(l->socket, ZMQ_SUBSCRIBE, c->topic, WIRE_TOPIC_LEN) < 0)
			goto fail;
	} else { /* nothing is queued for a server that is not there: what was sent has gone out */
		zmq_setsockopt(l->socket, ZMQ_IMMEDIATE, &one, sizeof(one));
	}
	if (c->server_key[0] != 0 && (zmq_setsockopt(l->socket, ZMQ_CURVE_SERVERKEY, c->server_key, 41) < 0 ||
				      zmq_setsockopt(l->socket, ZMQ_CURVE_PUBLICKEY, c->public_key, 41) < 0 ||
				      zmq_setsockopt(l->socket, ZMQ_CURVE_SECRETKEY, c->secret_key, 41) < 0))
		goto fail;
	snprintf(monitor, sizeof(monitor), "inproc://weft-%s", name);
	if (zmq_socket_monitor(l->socket, monitor,
			       ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) < 0)
		goto fail;
	l->monitor = zmq_socket(c->context, ZMQ_PAIR);
	if (l->monitor == NULL || zmq_connect(l->monitor, monitor) < 0)
		goto fail;
	if (zmq_connect(l->socket, l->endpoint) < 0)
		goto fail;
	return 0;
fail:
	return client_fail(&c->error, errno == EINVAL || errno == EPROTONOSUPPORT ? WEFT_CLIENT_EINVAL : WEFT_CLIENT_ESYSTEM,
			   "cannot open %s: %s", l->endpoint, zmq_strerror(errno));
}

static void link_close(struct client_link *l)
{
	if (l->socket != NULL)
		zmq_socket_monitor(l->socket, NULL, 0);
	if (l->monitor != NULL)
		zmq_close(l->monitor);
	if (l->socket != NULL)
		zmq_close(l->socket);
	l->socket = l->monitor = NULL;
	l->up = false;
}

/* Takes what the monitor has to tell. True: the link came up or was refused, so that a wait should be looked at again. */
static bool link_follow(struct client_link *l)
{
	bool news = false;
	zmq_msg_t msg;

	for (;;) {
		uint16_t event = 0;
		zmq_msg_init(&msg);
		if (zmq_msg_recv(&msg, l->monitor, ZMQ_DONTWAIT) < 0) {
			zmq_msg_close(&msg);
			return news;
		}
		if (zmq_msg_size(&msg) == 6) /* [u16 event, u32 value], then [endpoint] */
			memcpy(&event, zmq_msg_data(&msg), 2);
		zmq_msg_close(&msg);
		if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
			l->back |= l->ever_up;
			l->up = l->ever_up = news = true;
			l->refused = false;
		} else if (event == ZMQ_EVENT_DISCONNECTED) {
			l->up = false;
		} else if (event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) {
			l->refused = news = true;
		}
	}
}

int client_open_answer(struct weft_client *c)
{
	int err = 0;

	if (c->answer.socket == NULL && (err = link_open(c, &c->answer, ZMQ_SUB, "answer")) < 0)
		link_close(&c->answer);
	return err;
}

static int milliseconds_until(int64_t deadline)
{
	int64_t left;

	if (deadline == INT64_MAX)
		return -1;
	left = deadline - client_now();
	return left < 0 ? 0 : left > 3600000 ? 3600000 : (int)left;
}

int client_wait(struct weft_client *c, unsigned what, int64_t deadline)
{
	zmq_pollitem_t items[5] = {
		{c->request.socket, 0, ((what & WAIT_REQUEST_IN) ? ZMQ_POLLIN : 0) | ((what & WAIT_REQUEST_OUT) ? ZMQ_POLLOUT : 0),
		 0},
		{c->request.monitor, 0, ZMQ_POLLIN, 0},
	};
	int n = 2, answer = -1, interrupt = -1;

	if (c->answer.socket != NULL) {
		answer = n;
		items[n++] = (zmq_pollitem_t){c->answer.socket, 0, (what & WAIT_ANSWER_IN) ? ZMQ_POLLIN : 0, 0};
		items[n++] = (zmq_pollitem_t){c->answer.monitor, 0, ZMQ_POLLIN, 0};
	}
	if (c->interrupt_fd >= 0) {
		interrupt = n;
		items[n++] = (zmq_pollitem_t){NULL, c->interrupt_fd, ZMQ_POLLIN, 0};
	}
	for (;;) {
		int wait = milliseconds_until(deadline), ready = zmq_poll(items, n, wait);
		unsigned found = 0;
		bool news = false;
		if (ready < 0 && errno != EINTR)
			return client_fail(&c->error, WEFT_CLIENT_ESYSTEM, "waiting for %s: %s", c->request.endpoint,
					   zmq_strerror(errno));
		if (ready <= 0) {
			if (wait == 0 || (ready == 0 && milliseconds_until(deadline) == 0))
				return 0;
			continue;
		}
		if (interrupt >= 0 && items[interrupt].revents != 0)
			return client_fail(&c->error, WEFT_CLIENT_EINTERRUPTED, "interrupted");
		if (items[1].revents != 0)
			news |= link_follow(&c->request);
		if (answer >= 0 && items[answer + 1].revents != 0)
			news |= link_follow(&c->answer);
		found |= (items[0].revents & ZMQ_POLLIN) ? WAIT_REQUEST_IN : 0;
		found |= (items[0].revents & ZMQ_POLLOUT) ? WAIT_REQUEST_OUT : 0;
		found |= answer >= 0 && (items[answer].revents & ZMQ_POLLIN) ? WAIT_ANSWER_IN : 0;
		if (found != 0 || news)
			return (int)found;
	}
}

/* ---- one request and its reply ---- */

static int fail_unreachable(struct weft_client *c, const struct client_link *l)
{
	if (l->refused)
		return client_fail(&c->error, WEFT_CLIENT_EUNREACHABLE, "the server at %s refuses this client's key", l->endpoint);
	if (c->server_key[0] != 0)
		return client_fail(&c->error, WEFT_CLIENT_EUNREACHABLE,
				   "no connection to %s in time (is weftd running there, and is its key the one given?)",
				   l->endpoint);
	return client_fail(&c->error, WEFT_CLIENT_EUNREACHABLE, "no connection to %s in time (is weftd running there?)",
			   l->endpoint);
}

static int send_request(struct weft_client *c, const struct wire_buf *body, int64_t deadline)
{
	for (;;) {
		int ready = client_wait(c, WAIT_REQUEST_OUT, deadline);
		if (ready < 0)
			return ready;
		if (ready & WAIT_REQUEST_OUT) {
			if (zmq_send(c->request.socket, body->out.data, body->out.size, ZMQ_DONTWAIT) >= 0)
				return 0;
			if (errno != EAGAIN && errno != EINTR)
				return client_fail(&c->error, WEFT_CLIENT_ESYSTEM, "sending to %s: %s", c->request.endpoint,
						   zmq_strerror(errno));
		}
		if (c->request.refused || client_now() >= deadline)
			return fail_unreachable(c, &c->request);
	}
}

static int take_error(struct weft_client *c, const struct weft_reply *r)
{
	const char *message = weft_reply_str(r, "error.message", NULL), *code = weft_reply_str(r, "error.code", NULL);
	const char *field = weft_reply_str(r, "error.field", NULL);

	if (code == NULL)
		return client_fail(&c->error, WEFT_CLIENT_EPROTOCOL, "%s sent a refusal without a code", c->request.endpoint);
	client_fail(&c->error, WEFT_CLIENT_EREFUSED, "%s", message != NULL ? message : code);
	snprintf(c->error.server_code, sizeof(c->error.server_code), "%s", code);
	snprintf(c->error.field, sizeof(c->error.field), "%s", field != NULL ? field : "");
	weft_reply_bool(r, "error.retry", &c->error.retry);
	weft_reply_uint(r, "error.retry_after_ms", &c->error.retry_after_ms);
	return WEFT_CLIENT_EREFUSED;
}

/* Takes one message. 1: it is the reply to id, in *reply. 0: it was nothing of interest (the late reply to an earlier request). */
static int take_reply(struct weft_client *c, uint64_t id, struct weft_reply **reply)
{
	struct weft_reply *r;
	const char *why;
	uint64_t v;
	bool ok, more;
	zmq_msg_t msg;

	do { /* the last part is the body */
		zmq_msg_init(&msg);
		if (zmq_msg_recv(&msg, c->request.socket, ZMQ_DONTWAIT) < 0) {
			zmq_msg_close(&msg);
			return 0;
		}
		more = zmq_msg_more(&msg);
		if (more)
			zmq_msg_close(&msg);
	} while (more);
	r = reply_decode(zmq_msg_data(&msg), zmq_msg_size(&msg), &why);
	zmq_msg_close(&msg);
	if (r == NULL)
		return client_fail(&c->error, WEFT_CLIENT_EPROTOCOL, "%s sent what is not protocol version 1: %s",
				   c->request.endpoint, why);
	if (!weft_reply_uint(r, "v", &v) || v != WIRE_VERSION || !weft_reply_bool(r, "ok", &ok)) {
		weft_reply_free(r);
		return client_fail(&c->error, WEFT_CLIENT_EPROTOCOL, "%s does not speak protocol version 1", c->request.endpoint);
	}
	if ((weft_reply_uint(r, "id", &v) && v == id) || (!ok && weft_reply_has(r, "id") && !weft_reply_uint(r, "id", &v))) {
		int result = ok ? 1 : take_error(c, r);
		if (result == 1 && reply != NULL)
			*reply = r;
		else
			weft_reply_free(r);
		return result;
	}
	weft_reply_free(r);
	return 0;
}

int client_exchange(struct weft_client *c, const struct weft_request *r, const char *topic, struct weft_reply **reply,
		    int64_t deadline)
{
	int64_t resend_after = RESEND_FIRST_MS, resend_at;
	uint64_t id = ++c->last_id;
	struct wire_buf body;
	int result = request_check(r, &c->error);

	if (result < 0)
		return result;
	wire_buf_init(&body);
	request_encode(r, id, topic, &body);
	if (body.failed)
		result = client_fail(&c->error, WEFT_CLIENT_ENOMEM, "out of memory");
	else
		result = send_request(c, &body, deadline);
	resend_at = request_may_repeat(r) ? client_now() + resend_after : INT64_MAX;
	while (result == 0) {
		int ready = client_wait(c, WAIT_REQUEST_IN, resend_at < deadline ? resend_at : deadline);
		if (ready < 0)
			result = ready;
		else if (ready & WAIT_REQUEST_IN)
			result = take_reply(c, id, reply);
		else if (client_now() >= deadline)
			result = client_fail(&c->error, WEFT_CLIENT_ETIMEOUT,
					     request_may_repeat(r) ? "%s does not answer"
								   : "%s does not answer; whether the job was accepted is open",
					     c->request.endpoint);
		else if (client_now() >= resend_at) {
			result = send_request(c, &body, deadline);
			resend_after = resend_after * 2 < RESEND_MAX_MS ? resend_after * 2 : RESEND_MAX_MS;
			resend_at = client_now() + resend_after;
		}
	}
	wire_buf_finish(&body);
	return result < 0 ? result : 0;
}

/* ---- public ---- */

static char *endpoint_or_default(const char *given, const char *variable, const char *fallback)
{
	const char *env = getenv(variable);

	if (given == NULL)
		given = env != NULL && *env != 0 ? env : fallback;
	return strdup(given);
}

static const char *or_variable(const char *given, const char *variable)
{
	const char *env = getenv(variable);

	return given != NULL ? given : env != NULL && *env != 0 ? env : NULL;
}

static int make_topic(char topic[WIRE_TOPIC_LEN + 1])
{
	uint8_t bytes[WIRE_TOPIC_LEN / 2];

	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		return -1;
	for (size_t i = 0; i < sizeof(bytes); i++)
		snprintf(topic + 2 * i, 3, "%02x", bytes[i]);
	return 0;
}

int weft_client_new(struct weft_client **out, const struct weft_client_params *params, struct weft_client_error *error)
{
	static const struct weft_client_params defaults;
	struct weft_client_error ignored;
	struct weft_client *c = calloc(1, sizeof(*c));
	int err;

	*out = NULL;
	if (params == NULL)
		params = &defaults;
	if (error == NULL)
		error = &ignored;
	if (c == NULL)
		return client_fail(error, WEFT_CLIENT_ENOMEM, "out of memory");
	c->interrupt_fd = params->interrupt_fd > 0 ? params->interrupt_fd : -1;
	c->endpoints[0] = endpoint_or_default(params->request, "WEFT_REQUEST", "ipc:///run/weft/request");
	c->endpoints[1] = endpoint_or_default(params->answer, "WEFT_ANSWER", "ipc:///run/weft/answer");
	c->request.endpoint = c->endpoints[0];
	c->answer.endpoint = c->endpoints[1];
	c->context = zmq_ctx_new();
	if (c->endpoints[0] == NULL || c->endpoints[1] == NULL || c->context == NULL)
		err = client_fail(&c->error, WEFT_CLIENT_ENOMEM, "out of memory");
	else if (make_topic(c->topic) < 0)
		err = client_fail(&c->error, WEFT_CLIENT_ESYSTEM, "no random numbers: %s", strerror(errno));
	else if ((err = load_keys(c, or_variable(params->server_key, "WEFT_SERVER_KEY"),
				  or_variable(params->client_key, "WEFT_CLIENT_KEY"), &c->error)) == 0)
		err = link_open(c, &c->request, ZMQ_DEALER, "request");
	if (err < 0) {
		*error = c->error;
		weft_client_free(c);
		return err;
	}
	*out = c;
	return 0;
}

void weft_client_free(struct weft_client *c)
{
	if (c == NULL)
		return;
	jobs_finish(c);
	link_close(&c->request);
	link_close(&c->answer);
	if (c->context != NULL)
		zmq_ctx_term(c->context);
	free(c->endpoints[0]);
	free(c->endpoints[1]);
	explicit_bzero(c->secret_key, sizeof(c->secret_key));
	free(c);
}

const struct weft_client_error *weft_client_error(const struct weft_client *c)
{
	return &c->error;
}

const char *weft_client_topic(const struct weft_client *c)
{
	return c->topic;
}

int weft_client_call(struct weft_client *c, const struct weft_request *r, struct weft_reply **reply, int timeout)
{
	return client_exchange(c, r, NULL, reply, client_deadline(timeout));
}

int weft_client_connect(struct weft_client *c, struct weft_reply **hello, int timeout)
{
	int64_t deadline = client_deadline(timeout), again;
	struct weft_request *r = weft_request_new("hello");
	struct weft_reply *reply = NULL;
	int err = r == NULL ? client_fail(&c->error, WEFT_CLIENT_ENOMEM, "out of memory") : client_open_answer(c);

	c->subscribed = false;
	while (err == 0 && !c->subscribed) {
		weft_reply_free(reply);
		reply = NULL;
		err = client_exchange(c, r, c->topic, &reply, deadline);
		again = client_now() + HELLO_EVERY_MS;
		while (err == 0 && !c->subscribed && client_now() < again) {
			int ready = client_wait(c, WAIT_ANSWER_IN, again < deadline ? again : deadline);
			if (ready < 0)
				err = ready;
			else if (ready & WAIT_ANSWER_IN)
				err = jobs_receive(c);
			if (err == 0 && !c->subscribed && (c->answer.refused || client_now() >= deadline))
				err = c->answer.up ? client_fail(&c->error, WEFT_CLIENT_ETIMEOUT, "no event comes from %s",
								 c->answer.endpoint)
						   : fail_unreachable(c, &c->answer);
		}
	}
	weft_request_free(r);
	if (err == 0 && hello != NULL)
		*hello = reply;
	else
		weft_reply_free(reply);
	return err;
}
