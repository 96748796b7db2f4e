/* wire.h: protocol version 1 as bytes: bounded decoding of msgpack maps, a writer, and the table of error codes.
 * Shared by weftd and libweft; knows no sockets. client/PROTOCOL.md is the text that this file follows. [any thread] */
#ifndef WEFT_WIRE_H
#define WEFT_WIRE_H

#include <msgpack.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_MAX_INT ((UINT64_C(1) << 53) - 1)	/* largest integer, either sign: exact in every script language */
enum {
	WIRE_VERSION = 1,
	WIRE_MAX_DEPTH = 16,			/* nesting of maps and arrays */
	WIRE_MAX_MESSAGE = 16 << 20,		/* bytes of one frame that this codec looks at */
	WIRE_MAX_OBJECTS = 2 << 20,		/* values in one frame: a decoded one takes 24 to 48 bytes of memory */
	WIRE_TOPIC_LEN = 32			/* lower-case hex characters */
};

/* One row per code: name on the wire, may the same request be sent again later, what it means. (An X-macro: enum, names, test of the
 * table in PROTOCOL.md.) */
#define WIRE_CODES(X)                                                                                                           \
	X(INVALID_REQUEST, "invalid_request", false, "the frame is not a msgpack map of protocol version 1")                     \
	X(UNKNOWN_OP, "unknown_op", false, "no such operation")                                                                 \
	X(INVALID_ARGUMENT, "invalid_argument", false, "a field is missing, unknown, of the wrong type or out of range")        \
	X(NOT_FOUND, "not_found", false, "no such job or adapter")                                                      \
	X(CONFLICT, "conflict", false, "the same key with another body, or a verb that the state does not allow")               \
	X(TOO_LARGE, "too_large", false, "the request can never fit: prompt, context, pages or message size")                   \
	X(OVERLOADED, "overloaded", true, "the queue is full: try again after retry_after_ms")                                  \
	X(UNSUPPORTED, "unsupported", false, "understood, but this server cannot do it")                                        \
	X(UNAUTHORIZED, "unauthorized", false, "this identity may not do that")                                                 \
	X(DRAINING, "draining", true, "the server is going down or is paused for new work")                                     \
	X(INTERNAL, "internal", true, "the server failed; its log says more")
enum wire_code {
	WIRE_OK = 0,
#define X(id, name, retry, text) WIRE_##id,
	WIRE_CODES(X)
#undef X
	WIRE_N_CODES
};
const char *wire_code_name(enum wire_code c);
bool wire_code_retry(enum wire_code c);
enum wire_code wire_code_from_name(const char *name, size_t len);	/* WIRE_OK: unknown */

/* ---- reading ---- */

struct wire_msg {
	msgpack_zone zone;		/* holds copies: the frame may go away */
	msgpack_object root;		/* always a map */
};
/* Checks the whole frame before memory is asked for (depth, counts against the bytes that are there, valid UTF-8 in str, str keys,
 * no ext types, nothing behind the map), then decodes it and refuses duplicate keys. 0, or -1 with the reason in why (a static
 * string) and nothing to finish. */
int wire_decode(struct wire_msg *m, const void *data, size_t len, const char **why);
void wire_finish(struct wire_msg *m);
const msgpack_object *wire_get(const msgpack_object *map, const char *key);	/* NULL: absent, or map is not a map */
/* Typed reads: false when o is NULL or of another type. Strings are not NUL-terminated. Integers beyond WIRE_MAX_INT and floats that
 * are not finite do not read as numbers: wire_type_name says so in the error text. */
bool wire_get_str(const msgpack_object *o, const char **s, size_t *len);
bool wire_get_uint(const msgpack_object *o, uint64_t *v);
bool wire_get_int(const msgpack_object *o, int64_t *v);
bool wire_get_float(const msgpack_object *o, double *v);	/* integers, too */
bool wire_get_bool(const msgpack_object *o, bool *v);
bool wire_is_cstr(const msgpack_object *o, const char *text);	/* equals */
const char *wire_type_name(const msgpack_object *o);		/* "map", "str", "uint"...; "nothing" for NULL: for error texts */
bool wire_utf8_valid(const char *s, size_t len);

/* ---- writing ---- */

struct wire_buf {			/* grows by itself; failed is sticky: check it once at the end. Must not be moved after init. */
	msgpack_sbuffer out;
	msgpack_packer packer;
	bool failed;
};
void wire_buf_init(struct wire_buf *b);
void wire_buf_finish(struct wire_buf *b);
void wire_buf_clear(struct wire_buf *b);
void *wire_buf_take(struct wire_buf *b, size_t *len);	/* the bytes, malloc'ed; b is empty again; NULL when failed */
void wire_map(struct wire_buf *b, size_t n);
void wire_array(struct wire_buf *b, size_t n);
void wire_str(struct wire_buf *b, const char *s);
void wire_strn(struct wire_buf *b, const char *s, size_t n);
void wire_uint(struct wire_buf *b, uint64_t v);
void wire_int(struct wire_buf *b, int64_t v);
void wire_float(struct wire_buf *b, double v);		/* as f32 when that is exact, else f64; nil when not finite */
void wire_bool(struct wire_buf *b, bool v);
void wire_nil(struct wire_buf *b);
void wire_object(struct wire_buf *b, const msgpack_object *o);	/* copies a decoded value */
void wire_raw(struct wire_buf *b, const void *data, size_t n);	/* n bytes that are already msgpack */

/* True for exactly 32 lower-case hex characters: the only topics that exist. */
bool wire_topic_valid(const char *s, size_t len);

#endif
