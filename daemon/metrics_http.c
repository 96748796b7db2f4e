#include "config.h"
#include "metrics_http.h"
#include <stdio.h>

#ifdef HAVE_MICROHTTPD
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { WAIT_MS = 2000, CONNECTIONS = 16, IDLE_S = 10 };

struct metrics_http {
	struct MHD_Daemon *daemon;
	void (*ask)(void *arg);
	void *arg;
	unsigned port;
	pthread_mutex_t lock;
	pthread_cond_t fresh;
	uint64_t wanted, answered; /* pages asked for; the newest that `pages` is an answer to */
	bool stopping;
	struct metrics_pages pages;
};

/* ---- the loop's side ---- */

bool metrics_http_wanted(struct metrics_http *h)
{
	pthread_mutex_lock(&h->lock);
	bool yes = h->wanted > h->answered;
	pthread_mutex_unlock(&h->lock);
	return yes;
}

static void drop(struct metrics_pages *p)
{
	free(p->metrics);
	free(p->vllm);
	*p = (struct metrics_pages){0};
}

void metrics_http_answer(struct metrics_http *h, struct metrics_pages *fresh)
{
	pthread_mutex_lock(&h->lock);
	drop(&h->pages);
	h->pages = *fresh;
	h->answered = h->wanted;
	pthread_cond_broadcast(&h->fresh);
	pthread_mutex_unlock(&h->lock);
	*fresh = (struct metrics_pages){0};
}

/* ---- the thread of libmicrohttpd ---- */

/* A page that was written after this call. Locked on return; false: the loop did not write one in time. */
static bool wait_for_page(struct metrics_http *h)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += WAIT_MS / 1000;
	pthread_mutex_lock(&h->lock);
	uint64_t mine = ++h->wanted;
	pthread_mutex_unlock(&h->lock);
	h->ask(h->arg);
	pthread_mutex_lock(&h->lock);
	while (h->answered < mine && !h->stopping)
		if (pthread_cond_timedwait(&h->fresh, &h->lock, &until) == ETIMEDOUT)
			break;
	return h->answered >= mine;
}

static enum MHD_Result reply(struct MHD_Connection *c, unsigned status, const char *type, const char *text)
{
	struct MHD_Response *r = MHD_create_response_from_buffer(strlen(text), (void *)text, MHD_RESPMEM_MUST_COPY);
	if (!r)
		return MHD_NO;
	MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	enum MHD_Result rc = MHD_queue_response(c, status, r);
	MHD_destroy_response(r);
	return rc;
}

static enum MHD_Result reply_page(struct metrics_http *h, struct MHD_Connection *c, const char *url)
{
	const char *plain = "text/plain; charset=utf-8", *page = "text/plain; version=0.0.4; charset=utf-8";
	enum MHD_Result rc;
	char line[sizeof h->pages.health + 1];
	bool there = wait_for_page(h);
	if (!there) {
		rc = reply(c, MHD_HTTP_SERVICE_UNAVAILABLE, plain, "the event loop does not answer\n");
	} else if (strcmp(url, "/healthz") == 0 || strcmp(url, "/readyz") == 0) {
		snprintf(line, sizeof line, "%s\n", h->pages.health);
		rc = reply(c, h->pages.ready || url[1] == 'h' ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, plain, line);
	} else {
		const char *text = strcmp(url, "/metrics") == 0 ? h->pages.metrics : h->pages.vllm;
		rc = text ? reply(c, MHD_HTTP_OK, page, text) : reply(c, MHD_HTTP_INTERNAL_SERVER_ERROR, plain, "out of memory\n");
	}
	pthread_mutex_unlock(&h->lock);
	return rc;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *c, const char *url, const char *method, const char *version,
				  const char *upload, size_t *upload_size, void **state)
{
	static const char *const known[] = {"/metrics", "/metrics/vllm", "/healthz", "/readyz"};
	if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
		return reply(c, MHD_HTTP_METHOD_NOT_ALLOWED, "text/plain", "GET only\n");
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (strcmp(url, known[i]) == 0)
			return reply_page(arg, c, url);
	return reply(c, MHD_HTTP_NOT_FOUND, "text/plain", "/metrics, /metrics/vllm, /healthz, /readyz\n");
}

/* ---- start and stop ---- */

/* "HOST:PORT" or "[HOST]:PORT". -1: neither. */
static int split(const char *address, char host[128], char port[8])
{
	const char *colon = strrchr(address, ':'), *from = address, *to = colon;
	if (!colon || strlen(colon + 1) == 0 || strlen(colon + 1) > 5 || strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
	    atoi(colon + 1) > 65535)
		return -1;
	if (*from == '[' && to > from && to[-1] == ']') {
		from++;
		to--;
	}
	if (to <= from || to - from > 127)
		return -1;
	snprintf(host, 128, "%.*s", (int)(to - from), from);
	snprintf(port, 8, "%s", colon + 1);
	return 0;
}

static int bind_to(const char *address, unsigned *port, char why[static CONF_WHY])
{
	char host[128], service[8];
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICHOST},
			*found = NULL;
	struct sockaddr_storage bound;
	socklen_t len = sizeof bound;
	int one = 1;
	if (split(address, host, service) || getaddrinfo(host, service, &hints, &found)) {
		snprintf(why, CONF_WHY, "metrics: \"%s\" is no HOST:PORT with a numeric address (127.0.0.1:9464, [::1]:9464)",
			 address);
		return -1;
	}
	int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) || bind(fd, found->ai_addr, found->ai_addrlen) ||
	    listen(fd, CONNECTIONS) || getsockname(fd, (struct sockaddr *)&bound, &len)) {
		snprintf(why, CONF_WHY, "metrics: %s: %s", address, strerror(errno));
		if (fd >= 0)
			close(fd);
		fd = -1;
	} else {
		*port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
							  : ((struct sockaddr_in *)&bound)->sin_port);
	}
	freeaddrinfo(found);
	return fd;
}

int metrics_http_start(struct metrics_http **out, const char *address, void (*ask)(void *arg), void *arg, char why[static CONF_WHY])
{
	struct metrics_http *h = calloc(1, sizeof *h);
	pthread_condattr_t attr;
	if (!h) {
		snprintf(why, CONF_WHY, "metrics: out of memory");
		return -1;
	}
	*h = (struct metrics_http){.ask = ask, .arg = arg};
	int fd = bind_to(address, &h->port, why);
	if (fd < 0) {
		free(h);
		return -1;
	}
	pthread_mutex_init(&h->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&h->fresh, &attr);
	pthread_condattr_destroy(&attr);
	h->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL, 0, NULL, NULL, on_request, h,
				     MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS,
				     MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S, MHD_OPTION_END);
	if (!h->daemon) {
		snprintf(why, CONF_WHY, "metrics: %s: the HTTP server does not start", address);
		close(fd);
		metrics_http_stop(h);
		return -1;
	}
	*out = h;
	return 0;
}

unsigned metrics_http_port(const struct metrics_http *h)
{
	return h->port;
}

void metrics_http_stop(struct metrics_http *h)
{
	if (!h)
		return;
	pthread_mutex_lock(&h->lock);
	h->stopping = true;
	pthread_cond_broadcast(&h->fresh);
	pthread_mutex_unlock(&h->lock);
	if (h->daemon)
		MHD_stop_daemon(h->daemon); /* closes the listening socket, too */
	drop(&h->pages);
	pthread_cond_destroy(&h->fresh);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

#else

int metrics_http_start(struct metrics_http **out, const char *address, void (*ask)(void *arg), void *arg, char why[static CONF_WHY])
{
	snprintf(why, CONF_WHY, "metrics: this weftd was built without libmicrohttpd");
	return -1;
}

bool metrics_http_wanted(struct metrics_http *h)
{
	return false;
}

void metrics_http_answer(struct metrics_http *h, struct metrics_pages *fresh)
{
}

unsigned metrics_http_port(const struct metrics_http *h)
{
	return 0;
}

void metrics_http_stop(struct metrics_http *h)
{
}

#endif
