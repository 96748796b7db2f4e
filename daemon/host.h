/* host.h: the struct weft_host that plugins are handed. Private to the engine and the plugin loader. */
#ifndef WEFT_DAEMON_HOST_H
#define WEFT_DAEMON_HOST_H

#include "plugins/weft-plugin.h"

extern const struct weft_host host_table;

/* What host->fail(NULL, ...) said last; "" when nothing. For init(), which belongs to no job. [main] */
const char *host_orphan_reason(void);
void host_orphan_clear(void);

#endif
