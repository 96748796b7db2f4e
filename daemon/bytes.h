/* bytes.h: numbers and strings to bytes and back, for what is read again by weftd only. Little-endian on every machine.
 *
 * A writer that ran out of memory and a reader that came to its end remember it: ask `failed` once, at the end. A failed reader gives
 * zeros and no bytes. */
#ifndef WEFT_DAEMON_BYTES_H
#define WEFT_DAEMON_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bytes_out {		/* zeroed is empty; data is malloc'ed and the caller's */
	uint8_t *data;
	size_t len, cap;
	bool failed;
};
void bytes_put(struct bytes_out *o, const void *data, size_t n);
void bytes_put_u8(struct bytes_out *o, uint8_t v);
void bytes_put_u32(struct bytes_out *o, uint32_t v);
void bytes_put_u64(struct bytes_out *o, uint64_t v);
void bytes_put_words(struct bytes_out *o, const uint32_t *v, size_t n);

struct bytes_in {
	const uint8_t *at;
	size_t left;
	bool failed;
};
const uint8_t *bytes_take(struct bytes_in *in, uint64_t n);	/* borrowed; NULL: there are not so many */
uint8_t bytes_take_u8(struct bytes_in *in);
uint32_t bytes_take_u32(struct bytes_in *in);
uint64_t bytes_take_u64(struct bytes_in *in);
bool bytes_take_words(struct bytes_in *in, uint32_t *v, size_t n);	/* false: there are not so many; v is as it was */

#endif
