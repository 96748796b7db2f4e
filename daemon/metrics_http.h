/* metrics_http.h: the pages of metrics.h and the server's health over HTTP, for Prometheus and for load balancers. Optional
 * (libmicrohttpd).
 *
 *     GET /metrics        metrics_write()               GET /healthz   200 while the loop turns: else no answer in time, 503
 *     GET /metrics/vllm   with vLLM's names as well     GET /readyz    200 when new work is taken and done, else 503; both say why
 *
 * A thread of libmicrohttpd takes the connections; it asks the loop for a fresh page and waits a short while, so what a page says
 * is true, and a loop that hangs is seen. Pages hold no prompts and no secrets; still, the address is loopback unless the operator
 * says otherwise. */
#ifndef WEFT_DAEMON_METRICS_HTTP_H
#define WEFT_DAEMON_METRICS_HTTP_H

#include "conf.h"
#include <stdbool.h>
#include <stddef.h>

struct metrics_http;

/* What the loop hands over. Strings are malloc'ed and become the room's. */
struct metrics_pages {
	char *metrics, *vllm; /* NULL: out of memory */
	bool ready;
	char health[256]; /* one line: why it is not ready, or "ready" */
};

/* address: "HOST:PORT" or "[HOST]:PORT"; port 0 takes a free one. ask: [http] the loop should call metrics_http_answer() soon. -1:
 * why. */
int metrics_http_start(struct metrics_http **out, const char *address, void (*ask)(void *arg), void *arg,
		       char why[static CONF_WHY]);
bool metrics_http_wanted(struct metrics_http *h);                              /* [loop] is somebody waiting? */
void metrics_http_answer(struct metrics_http *h, struct metrics_pages *fresh); /* [loop] takes what it points to */
unsigned metrics_http_port(const struct metrics_http *h);
void metrics_http_stop(struct metrics_http *h); /* [loop] NULL is fine */

#endif
