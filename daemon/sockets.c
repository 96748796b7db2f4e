/* sockets.c: what libzmq is asked to do, and why each option is set. */
#include "sockets.h"
#include "log.h"
#include "client/wire.h"
#include "zap.h"
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <zmq.h>

enum { ROUTE_MAX = 256 };

struct sockets {
	void *context, *request, *answer;
	struct zap *zap;        /* NULL: no CURVE */
	int lock[2];            /* of the two ipc paths; -1: none */
	char *path[2];          /* bound, to be unlinked; NULL: none */
	zmq_msg_t subscription; /* the last one received */
};

struct incoming {
	unsigned char route[ROUTE_MAX];
	size_t route_len;
	bool delimiter; /* an empty frame stood before the body */
	char identity[KEY_LEN + 1];
	zmq_msg_t body;
};

/* ---- ipc paths ---- */

static const char *ipc_path(const char *endpoint)
{
	return strncmp(endpoint, "ipc://", 6) == 0 ? endpoint + 6 : NULL;
}

static int check_length(const char *path, char *why)
{
	const size_t room = sizeof((struct sockaddr_un *)0)->sun_path;
	if (strlen(path) < room)
		return 0;
	snprintf(why, CONF_WHY, "%s: a socket path has at most %zu bytes", path, room - 1);
	return EXIT_CONFIG;
}

static int make_folder(const char *path, char *why)
{
	char copy[4096];
	snprintf(copy, sizeof copy, "%s", path);
	const char *folder = dirname(copy);
	if (mkdir(folder, 0750) == 0 || errno == EEXIST)
		return 0;
	snprintf(why, CONF_WHY, "%s: %s", folder, strerror(errno));
	return EXIT_CANTBIND;
}

/* The lock file stays: to remove it would let two daemons hold locks on two files of one name. */
static int take_lock(const char *path, int *fd, char *why)
{
	char lock[4096];
	snprintf(lock, sizeof lock, "%s.lock", path);
	*fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (*fd < 0) {
		snprintf(why, CONF_WHY, "%.400s: %s", lock, strerror(errno));
		return EXIT_CANTBIND;
	}
	if (flock(*fd, LOCK_EX | LOCK_NB)) {
		snprintf(why, CONF_WHY, "%s: another weftd serves this endpoint", path);
		return EXIT_CANTBIND;
	}
	return 0;
}

static int clear_path(const char *path, char *why)
{
	struct stat st;
	if (lstat(path, &st))
		return 0;
	if (!S_ISSOCK(st.st_mode)) {
		snprintf(why, CONF_WHY, "%s: is there and is not a socket", path);
		return EXIT_CANTBIND;
	}
	unlink(path); /* left behind: we hold the lock */
	return 0;
}

static int lock_and_clear(const char *path, int *lock, char *why)
{
	int rc = take_lock(path, lock, why);
	return rc ? rc : clear_path(path, why);
}

/* ---- opening ---- */

static void set_int(void *socket, int option, int value)
{
	zmq_setsockopt(socket, option, &value, sizeof value);
}

static int set_curve(void *socket, const struct keys *keys, char *why)
{
	int one = 1;
	if (zmq_setsockopt(socket, ZMQ_ZAP_DOMAIN, ZAP_DOMAIN, strlen(ZAP_DOMAIN)) ||
	    zmq_setsockopt(socket, ZMQ_CURVE_SERVER, &one, sizeof one) ||
	    zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, keys->secret, KEY_LEN + 1)) {
		snprintf(why, CONF_WHY, "CURVE: %s", zmq_strerror(errno));
		return EXIT_CONFIG;
	}
	return 0;
}

static int bind_one(struct sockets *s, int i, void *socket, const char *endpoint, const struct keys *keys, char *why)
{
	const char *path = ipc_path(endpoint);
	int rc = 0;
	if (path)
		rc = check_length(path, why) ?: make_folder(path, why) ?: lock_and_clear(path, &s->lock[i], why);
	else if (keys->wanted)
		rc = set_curve(socket, keys, why);
	if (rc)
		return rc;
	/* Nobody may get in between bind and chmod. No other thread makes files meanwhile. */
	mode_t mask = umask(0177);
	rc = zmq_bind(socket, endpoint);
	umask(mask);
	if (rc) {
		snprintf(why, CONF_WHY, "%s: %s", endpoint, zmq_strerror(errno));
		return EXIT_CANTBIND;
	}
	if (path && (!(s->path[i] = strdup(path)) || chmod(path, 0660))) {
		snprintf(why, CONF_WHY, "%s: %s", path, strerror(errno));
		return EXIT_CANTBIND;
	}
	return 0;
}

/* MANDATORY: a reply to nobody is an error that we count, not a silence. The marks bound the memory of one peer: 64 requests that
 * wait to be read, 256 replies that the peer does not read. HEARTBEAT finds peers that went without a word. */
static void set_request_options(void *socket, const struct conf *c)
{
	int64_t max = c->max_message;
	set_int(socket, ZMQ_ROUTER_MANDATORY, 1);
	set_int(socket, ZMQ_RCVHWM, 64);
	set_int(socket, ZMQ_SNDHWM, 256);
	zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &max, sizeof max);
}

/* MANUAL: we decide about each subscription. A subscriber that lags by the mark loses events and sees it by seq. What subscribers
 * send is a topic or the handshake: 4 KiB is plenty. */
static void set_answer_options(void *socket)
{
	int64_t max = 4096;
	set_int(socket, ZMQ_XPUB_MANUAL, 1);
	set_int(socket, ZMQ_SNDHWM, 10000);
	zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &max, sizeof max);
}

static void *new_socket(void *context, int type)
{
	void *socket = zmq_socket(context, type);
	if (!socket)
		return NULL;
	set_int(socket, ZMQ_LINGER, 0);
	set_int(socket, ZMQ_HEARTBEAT_IVL, 10000);
	set_int(socket, ZMQ_HEARTBEAT_TIMEOUT, 30000);
	return socket;
}

int sockets_open(struct sockets **out, const struct conf *c, struct keys *keys, char why[static CONF_WHY])
{
	struct sockets *s = calloc(1, sizeof *s);
	int rc = EXIT_INTERNAL;
	snprintf(why, CONF_WHY, "out of memory");
	if (!s)
		return rc;
	s->lock[0] = s->lock[1] = -1;
	zmq_msg_init(&s->subscription);
	s->context = zmq_ctx_new();
	if (!s->context)
		goto fail;
	zmq_ctx_set(s->context, ZMQ_MAX_SOCKETS, 64); /* sockets of ours, not connections: we have five */
	if (keys->wanted) {
		if (zap_start(&s->zap, s->context, why))
			goto fail;
		zap_set(s->zap, &keys->clients);
	}
	s->request = new_socket(s->context, ZMQ_ROUTER);
	s->answer = new_socket(s->context, ZMQ_XPUB);
	if (!s->request || !s->answer)
		goto fail;
	set_request_options(s->request, c);
	set_answer_options(s->answer);
	rc = bind_one(s, 0, s->answer, c->answer, keys, why) ?: bind_one(s, 1, s->request, c->request, keys, why);
	if (rc)
		goto fail;
	*out = s;
	return 0;
fail:
	sockets_close(s, 0);
	return rc;
}

void sockets_close(struct sockets *s, int linger_ms)
{
	if (!s)
		return;
	zmq_msg_close(&s->subscription);
	void *const ours[] = {s->request, s->answer};
	for (int i = 0; i < 2; i++)
		if (ours[i]) {
			set_int(ours[i], ZMQ_LINGER, linger_ms);
			zmq_close(ours[i]);
		}
	zap_stop(s->zap);
	if (s->context)
		zmq_ctx_term(s->context);
	for (int i = 0; i < 2; i++) {
		if (s->path[i])
			unlink(s->path[i]); /* libzmq leaves it; the lock is still ours */
		free(s->path[i]);
		if (s->lock[i] >= 0)
			close(s->lock[i]);
	}
	free(s);
}

void sockets_set_clients(struct sockets *s, struct key_list *clients)
{
	if (s->zap)
		zap_set(s->zap, clients);
	key_list_finish(clients);
}

static int fd_of(void *socket)
{
	int fd = -1;
	size_t size = sizeof fd;
	zmq_getsockopt(socket, ZMQ_FD, &fd, &size);
	return fd;
}

int sockets_request_fd(const struct sockets *s)
{
	return fd_of(s->request);
}

int sockets_answer_fd(const struct sockets *s)
{
	return fd_of(s->answer);
}

static bool readable(void *socket)
{
	int events = 0;
	size_t size = sizeof events;
	zmq_getsockopt(socket, ZMQ_EVENTS, &events, &size);
	return events & ZMQ_POLLIN;
}

bool sockets_request_ready(const struct sockets *s)
{
	return readable(s->request);
}

bool sockets_answer_ready(const struct sockets *s)
{
	return readable(s->answer);
}

/* ---- requests ---- */

static void skip_rest(void *socket, const zmq_msg_t *last)
{
	bool more = zmq_msg_more((zmq_msg_t *)last);
	while (more) {
		zmq_msg_t m;
		zmq_msg_init(&m);
		more = zmq_msg_recv(&m, socket, ZMQ_DONTWAIT) >= 0 && zmq_msg_more(&m);
		zmq_msg_close(&m);
	}
}

/* Receives [route][empty?][body]. 1: done; 0: not of this form, dropped; -1: nothing there. */
static int receive(void *socket, struct incoming *in)
{
	int len = zmq_recv(socket, in->route, sizeof in->route, ZMQ_DONTWAIT);
	if (len < 0)
		return -1;
	in->route_len = (size_t)len < sizeof in->route ? (size_t)len : sizeof in->route;
	for (in->delimiter = false;; in->delimiter = true) {
		if (zmq_msg_recv(&in->body, socket, ZMQ_DONTWAIT) < 0)
			return 0;
		bool more = zmq_msg_more(&in->body);
		if (!more)
			return 1;
		if (in->delimiter || zmq_msg_size(&in->body) != 0) {
			skip_rest(socket, &in->body);
			return 0;
		}
	}
}

struct incoming *sockets_receive(struct sockets *s)
{
	struct incoming *in = malloc(sizeof *in);
	int rc;
	if (!in)
		return NULL;
	zmq_msg_init(&in->body);
	while ((rc = receive(s->request, in)) == 0)
		log_debug("dropped a message that is not a request");
	if (rc < 0) {
		incoming_free(in);
		return NULL;
	}
	const char *user = zmq_msg_gets(&in->body, "User-Id");
	snprintf(in->identity, sizeof in->identity, "%s", user ? user : "");
	return in;
}

const void *incoming_data(const struct incoming *in, size_t *size)
{
	*size = zmq_msg_size(&in->body);
	return zmq_msg_data((zmq_msg_t *)&in->body);
}

const char *incoming_identity(const struct incoming *in)
{
	return in->identity;
}

bool incoming_same_sender(const struct incoming *a, const struct incoming *b)
{
	return a->route_len == b->route_len && memcmp(a->route, b->route, a->route_len) == 0;
}

void incoming_free(struct incoming *in)
{
	zmq_msg_close(&in->body);
	free(in);
}

bool sockets_reply(struct sockets *s, struct incoming *in, const void *data, size_t size)
{
	bool sent = zmq_send(s->request, in->route, in->route_len, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0;
	if (sent && in->delimiter)
		sent = zmq_send(s->request, "", 0, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0;
	if (sent)
		sent = zmq_send(s->request, data, size, ZMQ_DONTWAIT) >= 0;
	incoming_free(in);
	return sent;
}

/* ---- events ---- */

int sockets_subscription(struct sockets *s, const char **topic, size_t *len)
{
	for (;;) {
		zmq_msg_close(&s->subscription);
		zmq_msg_init(&s->subscription);
		if (zmq_msg_recv(&s->subscription, s->answer, ZMQ_DONTWAIT) < 0)
			return -1;
		const unsigned char *data = zmq_msg_data(&s->subscription);
		size_t size = zmq_msg_size(&s->subscription);
		bool alone = !zmq_msg_more(&s->subscription);
		skip_rest(s->answer, &s->subscription);
		if (alone && size >= 1 && data[0] <= 1) {
			*topic = (const char *)data + 1;
			*len = size - 1;
			return data[0];
		}
	}
}

void sockets_admit(struct sockets *s, bool on, const char *topic, size_t len)
{
	zmq_setsockopt(s->answer, on ? ZMQ_SUBSCRIBE : ZMQ_UNSUBSCRIBE, topic, len);
}

void sockets_publish(struct sockets *s, const char *topic, const void *data, size_t size)
{
	if (zmq_send(s->answer, topic, WIRE_TOPIC_LEN, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0 ||
	    zmq_send(s->answer, data, size, ZMQ_DONTWAIT) < 0)
		log_debug("an event was not published: %s", zmq_strerror(errno));
}
