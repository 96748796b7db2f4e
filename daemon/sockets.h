/* sockets.h: the two ZeroMQ sockets, without a loop: opening, receiving, sending. The one file besides zap.c that knows libzmq.
 *
 * A socket's file descriptor is edge-triggered and becomes readable for any change of state: after each wake-up and after each send
 * or receive the truth is what sockets_request_ready() and sockets_answer_ready() say. [loop] */
#ifndef WEFT_DAEMON_SOCKETS_H
#define WEFT_DAEMON_SOCKETS_H

#include "keys.h"

struct sockets;
struct incoming; /* one request, with the way back to its sender */

/* Locks and binds. 0, or an exit code with the reason. */
int sockets_open(struct sockets **out, const struct conf *c, struct keys *keys, char why[static CONF_WHY]);
/* Waits up to linger_ms for what was sent to leave, then closes, unlinks and unlocks. NULL is fine. */
void sockets_close(struct sockets *s, int linger_ms);
void sockets_set_clients(struct sockets *s, struct key_list *clients); /* takes them over; without CURVE: drops them */

int sockets_request_fd(const struct sockets *s);
int sockets_answer_fd(const struct sockets *s);
bool sockets_request_ready(const struct sockets *s); /* a request can be received */
bool sockets_answer_ready(const struct sockets *s);  /* a subscription can be received */

/* The next request; NULL: none (a message that is not [body] or [empty][body] is dropped, and the next one tried). */
struct incoming *sockets_receive(struct sockets *s);
const void *incoming_data(const struct incoming *in, size_t *size);
const char *incoming_identity(const struct incoming *in); /* the sender's public key, or "" */
bool incoming_same_sender(const struct incoming *a, const struct incoming *b);
/* Sends the reply and frees `in`. false: the sender is gone, or reads no replies. */
bool sockets_reply(struct sockets *s, struct incoming *in, const void *data, size_t size);
void incoming_free(struct incoming *in);

/* The next change of a subscription: 1 subscribed, 0 unsubscribed, -1 none. topic is borrowed until the next call. */
int sockets_subscription(struct sockets *s, const char **topic, size_t *len);
void sockets_admit(struct sockets *s, bool on, const char *topic, size_t len); /* for the subscription that was just received */
void sockets_publish(struct sockets *s, const char *topic, const void *data, size_t size);

#endif
