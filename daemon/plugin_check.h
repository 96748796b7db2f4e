/* plugin_check.h: what a plugin's description must be like, and the host-side copy of it. [loop] */
#ifndef WEFT_DAEMON_PLUGIN_CHECK_H
#define WEFT_DAEMON_PLUGIN_CHECK_H

#include "daemon/plugin.h"

struct plugin_reason {
	char text[300];	/* one sentence without the file's name */
};

/* Fills p->copy, sampler, decoder, params and desc from what the file returned; structs of an older or newer minor are cut or filled with
 * zeros. False: the reason says what is wrong, and p->params may have to be freed. */
bool plugin_check(struct plugin *p, const struct weft_plugin *from, struct plugin_reason *why);
/* Names and parameters against the plugins that are loaded already. */
bool plugin_check_set(const struct plugin *p, const struct plugin_set *s, struct plugin_reason *why);

#endif
