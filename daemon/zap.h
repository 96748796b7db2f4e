/* zap.h: who may connect with CURVE: a thread that answers libzmq's questions (ZAP, RFC 27) from the list of client keys.
 * It is bound before any socket that asks, and what it cannot read it refuses: it fails closed. */
#ifndef WEFT_DAEMON_ZAP_H
#define WEFT_DAEMON_ZAP_H

#include "keys.h"

#define ZAP_DOMAIN "weft"

struct zap;
int zap_start(struct zap **out, void *zmq_context, char why[static CONF_WHY]);
/* Takes over the list. New connections are judged by it; those that are there stay. [any thread] */
void zap_set(struct zap *z, struct key_list *clients);
void zap_stop(struct zap *z); /* NULL is fine */

#endif
