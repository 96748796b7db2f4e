/* bell.h: one byte in a pipe, by which a thread of any priority wakes one that polls. Any number of rings before it is heard are one.
 *
 * Ringing is one write(2), so a ringer that loses its CPU in the middle holds up nobody. (uv_async_send of libuv 1.44 marks its handle
 * as busy meanwhile, and the loop spins until the mark is gone: with ringers of the lowest priority that took up to 80 ms.) */
#ifndef WEFT_DAEMON_BELL_H
#define WEFT_DAEMON_BELL_H

struct bell {
	int fds[2];
};

int bell_open(struct bell *b);	/* -1: errno; the bell may be closed all the same */
void bell_close(struct bell *b);
void bell_ring(struct bell *b);	/* [any thread] never blocks */
int bell_fd(const struct bell *b);	/* readable: it was rung */
/* Call before looking at what it was rung for: what comes later rings again. */
void bell_hear(struct bell *b);

#endif
