/* wire-json.h: protocol bodies as JSON and back, for libweft, `weft --json` and the examples of PROTOCOL.md. [any thread] */
#ifndef WEFT_WIRE_JSON_H
#define WEFT_WIRE_JSON_H

#include "wire.h"
#include <jansson.h>

json_t *wire_to_json(const msgpack_object *o);            /* a new reference; NULL: out of memory, or a type that JSON lacks */
void wire_from_json(struct wire_buf *b, const json_t *v); /* integers stay integers, reals become floats */

#endif
