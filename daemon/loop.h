/* loop.h: weftd's event loop: libuv around the sockets, the engine's events, the deadlines and the signals. */
#ifndef WEFT_DAEMON_LOOP_H
#define WEFT_DAEMON_LOOP_H

#include "conf.h"

struct loop_params {
	struct conf *conf; /* checked; changed by a reload */
	/* Reads the configuration again, as at start (file, then command line). 0 or -1 with the reason. */
	int (*read_conf)(void *arg, struct conf *fresh, char why[static CONF_WHY]);
	void *arg;
};
/* Loads, serves until a signal or `drain`, and cleans up. Returns the exit code of weftd. */
int loop_run(const struct loop_params *p);

#endif
