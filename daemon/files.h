/* files.h: descriptors, of which clients must never take the last. libzmq ends the process when it gets none for a connection, so weftd
 * stands between it and accept(2): what would reach into the last FILES_KEPT is closed again at once (the client tries again by itself), and
 * these are there for the store, adapters, plugins and results. */
#ifndef WEFT_DAEMON_FILES_H
#define WEFT_DAEMON_FILES_H

#include <stddef.h>

enum {
	FILES_LEAST = 128, /* a start with fewer is refused */
	FILES_KEPT = 48
};

/* Raises the limit as far as it goes. 0, or -1 with the reason: it is too low. */
int files_init(char *why, size_t size);

#endif
