/* zap.c: the handler's thread. It ends when zap_stop() sends it an empty message. */
#include "zap.h"
#include "log.h"
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

enum { FRAMES = 7, FRAME_MAX = 256 };

struct zap {
	void *handler;        /* REP; used by the thread alone once it runs */
	void *stop, *stopped; /* PAIR: loop's end, thread's end */
	pthread_t thread;
	pthread_mutex_t lock; /* of clients */
	struct key_list clients;
};

struct question { /* version, request id, domain, address, identity, mechanism, credentials */
	char frame[FRAMES][FRAME_MAX];
	size_t len[FRAMES];
	int n;
	bool good;
};
enum { VERSION, REQUEST_ID, DOMAIN, ADDRESS, IDENTITY, MECHANISM, CREDENTIALS };

static void receive(void *socket, struct question *q)
{
	int more = 1;
	size_t size = sizeof more;
	*q = (struct question){.good = true};
	while (more) {
		char *to = q->frame[q->n < FRAMES ? q->n : FRAMES - 1];
		int len = zmq_recv(socket, to, FRAME_MAX - 1, 0);
		if (len < 0 || len >= FRAME_MAX || q->n >= FRAMES)
			q->good = false;
		else
			q->len[q->n] = (size_t)len;
		q->n++;
		if (len < 0 && errno != EINTR)
			return;
		zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &size);
	}
	q->good &= q->n == FRAMES;
}

static bool frame_is(const struct question *q, int i, const char *text)
{
	return q->len[i] == strlen(text) && memcmp(q->frame[i], text, q->len[i]) == 0;
}

/* The user id is the client's key in Z85: the daemon knows jobs' owners by it. */
static bool judge(struct zap *z, const struct question *q, char user[static KEY_LEN + 1])
{
	user[0] = 0;
	if (!q->good || !frame_is(q, VERSION, "1.0") || !frame_is(q, DOMAIN, ZAP_DOMAIN) || !frame_is(q, MECHANISM, "CURVE") ||
	    q->len[CREDENTIALS] != 32 || !zmq_z85_encode(user, (const uint8_t *)q->frame[CREDENTIALS], 32))
		return false;
	pthread_mutex_lock(&z->lock);
	bool known = key_list_has(&z->clients, user);
	pthread_mutex_unlock(&z->lock);
	if (!known) {
		log_warning("refused a client from %s: its key %s is not on the list", q->frame[ADDRESS], user);
		user[0] = 0;
	}
	return known;
}

static void answer(struct zap *z, const struct question *q)
{
	char user[KEY_LEN + 1];
	bool yes = judge(z, q, user);
	zmq_send(z->handler, "1.0", 3, ZMQ_SNDMORE);
	zmq_send(z->handler, q->frame[REQUEST_ID], q->len[REQUEST_ID], ZMQ_SNDMORE);
	zmq_send(z->handler, yes ? "200" : "400", 3, ZMQ_SNDMORE);
	zmq_send(z->handler, yes ? "OK" : "refused", yes ? 2 : 7, ZMQ_SNDMORE);
	zmq_send(z->handler, user, strlen(user), ZMQ_SNDMORE);
	zmq_send(z->handler, "", 0, 0);
}

static void *run(void *arg)
{
	struct zap *z = arg;
	struct question q;
	zmq_pollitem_t items[] = {{.socket = z->stopped, .events = ZMQ_POLLIN}, {.socket = z->handler, .events = ZMQ_POLLIN}};
	for (;;) {
		if (zmq_poll(items, 2, -1) < 0 && errno != EINTR)
			break;
		if (items[0].revents)
			break;
		if (items[1].revents) {
			receive(z->handler, &q);
			answer(z, &q);
		}
	}
	return NULL;
}

static void *open_socket(void *context, int type, const char *endpoint, bool bind)
{
	void *s = zmq_socket(context, type);
	int zero = 0;
	if (!s)
		return NULL;
	zmq_setsockopt(s, ZMQ_LINGER, &zero, sizeof zero);
	if ((bind ? zmq_bind(s, endpoint) : zmq_connect(s, endpoint)) == 0)
		return s;
	zmq_close(s);
	return NULL;
}

static void close_all(struct zap *z)
{
	if (z->handler)
		zmq_close(z->handler);
	if (z->stop)
		zmq_close(z->stop);
	if (z->stopped)
		zmq_close(z->stopped);
	pthread_mutex_destroy(&z->lock);
	key_list_finish(&z->clients);
	free(z);
}

int zap_start(struct zap **out, void *context, char why[static CONF_WHY])
{
	struct zap *z = calloc(1, sizeof *z);
	if (!z) {
		snprintf(why, CONF_WHY, "out of memory");
		return -1;
	}
	pthread_mutex_init(&z->lock, NULL);
	z->handler = open_socket(context, ZMQ_REP, "inproc://zeromq.zap.01", true);
	z->stopped = open_socket(context, ZMQ_PAIR, "inproc://zap-stop", true);
	z->stop = open_socket(context, ZMQ_PAIR, "inproc://zap-stop", false);
	if (!z->handler || !z->stopped || !z->stop || pthread_create(&z->thread, NULL, run, z)) {
		snprintf(why, CONF_WHY, "the authentication handler does not start: %s", zmq_strerror(errno));
		close_all(z);
		return -1;
	}
	*out = z;
	return 0;
}

void zap_set(struct zap *z, struct key_list *clients)
{
	pthread_mutex_lock(&z->lock);
	struct key_list old = z->clients;
	z->clients = *clients;
	pthread_mutex_unlock(&z->lock);
	*clients = (struct key_list){0};
	key_list_finish(&old);
}

void zap_stop(struct zap *z)
{
	if (!z)
		return;
	zmq_send(z->stop, "", 0, 0);
	pthread_join(z->thread, NULL);
	close_all(z);
}
