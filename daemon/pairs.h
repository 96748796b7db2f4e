/* pairs.h: a key of ours and its value, into a map that is being written. */
#ifndef WEFT_DAEMON_PAIRS_H
#define WEFT_DAEMON_PAIRS_H

#include "client/wire.h"

static inline void pair_uint(struct wire_buf *b, const char *key, uint64_t v)
{
	wire_str(b, key);
	wire_uint(b, v);
}

static inline void pair_str(struct wire_buf *b, const char *key, const char *v)
{
	wire_str(b, key);
	wire_str(b, v);
}

static inline void pair_float(struct wire_buf *b, const char *key, double v)
{
	wire_str(b, key);
	wire_float(b, v);
}

static inline void pair_bool(struct wire_buf *b, const char *key, bool v)
{
	wire_str(b, key);
	wire_bool(b, v);
}

#endif
