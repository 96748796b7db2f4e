/* loop_parts.h: what loop.c is put together from. Private to loop*.c, the files that know libuv. Everything here belongs to the loop's
 * thread; what is marked [worker] in these files runs on one of libuv's. */
#ifndef WEFT_DAEMON_LOOP_PARTS_H
#define WEFT_DAEMON_LOOP_PARTS_H

#include "keys.h"
#include "loop.h"
#include "server.h"
#include "sockets.h"
#include <uv.h>

/* ---- loop_requests.c ---- */

enum {
	IN_HAND_LARGE = 64,                /* what a large request counts in: */
	IN_HAND_MOST = 64 * IN_HAND_LARGE, /* beyond, no request is read */
};

struct ticket;
TAILQ_HEAD(ticket_list, ticket);

/* Requests that were read and not answered yet. Those of one sender keep their order, though workers prepare the large ones. */
struct in_hand {
	uv_loop_t *uv; /* these three are borrowed */
	struct server *server;
	struct sockets *sockets;
	struct ticket_list working; /* with workers */
	size_t n;                   /* all of them, large ones IN_HAND_LARGE times */
};
void in_hand_init(struct in_hand *h, uv_loop_t *uv, struct server *server, struct sockets *sockets);
/* Takes a request, which is answered now or later. */
void in_hand_take(struct in_hand *h, struct incoming *in);
/* At the end: what waits behind requests with workers is gone; these end by themselves while the loop runs. */
void in_hand_drop_waiting(struct in_hand *h);
bool in_hand_has_workers(const struct in_hand *h);

/* ---- loop_reload.c ---- */

/* SIGHUP: the configuration is read again by a worker, and taken over whole or not at all. */
struct reload {
	uv_loop_t *uv; /* these four are borrowed */
	struct server *server;
	struct sockets *sockets;
	const struct loop_params *params;
	uv_work_t work;
	bool under_way, again; /* with a worker; another SIGHUP came meanwhile */
	bool ending;           /* the loop is being left: no other reload, and nothing to tell systemd */
	/* of the one under way */
	bool curve;  /* client keys are in use */
	bool failed; /* see why; else all that follows is there */
	char why[CONF_WHY];
	struct conf fresh;
	struct key_list clients;
	struct plugin_set *plugins;
};
void reload_init(struct reload *r, uv_loop_t *uv, struct server *server, struct sockets *sockets, const struct loop_params *params);
void reload_ask(struct reload *r);

#endif
