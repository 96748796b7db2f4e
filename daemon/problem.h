/* problem.h: why a request is refused: what the error map of a reply says. [any thread] */
#ifndef WEFT_DAEMON_PROBLEM_H
#define WEFT_DAEMON_PROBLEM_H

#include "client/wire.h"

struct problem {
	enum wire_code code;     /* WIRE_OK: none */
	char field[96];          /* members joined by dots; "": none */
	char text[320];          /* for people; valid UTF-8 */
	uint64_t retry_after_ms; /* 0: not said */
};
/* Fills p and returns -1. field may be NULL. */
int problem_set(struct problem *p, enum wire_code code, const char *field, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* The most usual one: `field` should have been `expected`, but is of another type (or missing). */
int problem_type(struct problem *p, const char *field, const char *expected, const msgpack_object *got);

/* A bounded copy of a name from the wire, for texts: cut at a character's border. Returns buf. */
const char *problem_name(char buf[static 65], const char *s, size_t len);

#endif
