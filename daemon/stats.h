/* stats.h: the reply of `stats`. */
#ifndef WEFT_DAEMON_STATS_H
#define WEFT_DAEMON_STATS_H

#include "client/wire.h"
#include <stdint.h>

struct server;
size_t stats_count(void); /* pairs that stats_write writes */
/* none, ok, behind, full, unreachable, broken */
const char *stats_store_state(const struct server *s);
void stats_write(const struct server *s, struct wire_buf *b);

#endif
