/* fields.h: one field of a request, judged. Each function leaves *out alone when the field is absent, and returns 0, or -1 with the
 * problem. [any thread] */
#ifndef WEFT_DAEMON_FIELDS_H
#define WEFT_DAEMON_FIELDS_H

#include "problem.h"

int field_uint(const msgpack_object *body, const char *name, uint64_t min, uint64_t max, uint64_t *out, struct problem *p);
int field_float(const msgpack_object *body, const char *name, double *out, struct problem *p);
int field_bool(const msgpack_object *body, const char *name, bool *out, struct problem *p);
/* A str of at most size - 1 bytes without NUL, into buf. */
int field_text(const msgpack_object *body, const char *name, char *buf, size_t size, struct problem *p);

#endif
