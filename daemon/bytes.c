/* bytes.c: numbers and strings to bytes and back. */
#include <stdlib.h>
#include <string.h>

#include "daemon/bytes.h"

static uint8_t *room(struct bytes_out *o, size_t n)
{
	size_t cap = o->cap == 0 ? 512 : o->cap;

	if (o->failed || n > SIZE_MAX / 4 - o->len) {
		o->failed = true;
		return NULL;
	}
	while (cap < o->len + n)
		cap *= 2;
	if (cap > o->cap) {
		uint8_t *grown = realloc(o->data, cap);
		if (grown == NULL) {
			o->failed = true;
			return NULL;
		}
		o->data = grown;
		o->cap = cap;
	}
	o->len += n;
	return o->data + o->len - n;
}

void bytes_put(struct bytes_out *o, const void *data, size_t n)
{
	uint8_t *to = room(o, n);

	if (to != NULL && n > 0)
		memcpy(to, data, n);
}

void bytes_put_u8(struct bytes_out *o, uint8_t v)
{
	bytes_put(o, &v, 1);
}

/* Loops of this form become plain moves where the machine is little-endian. */
static void put_u32(uint8_t *to, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		to[i] = (uint8_t)(v >> 8 * i);
}

static uint32_t get_u32(const uint8_t *from)
{
	return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

void bytes_put_u32(struct bytes_out *o, uint32_t v)
{
	bytes_put_words(o, &v, 1);
}

void bytes_put_u64(struct bytes_out *o, uint64_t v)
{
	bytes_put_words(o, (const uint32_t[]){(uint32_t)v, (uint32_t)(v >> 32)}, 2);
}

void bytes_put_words(struct bytes_out *o, const uint32_t *v, size_t n)
{
	uint8_t *to = n > SIZE_MAX / 16 ? room(o, SIZE_MAX) : room(o, 4 * n);

	for (size_t i = 0; to != NULL && i < n; i++)
		put_u32(to + 4 * i, v[i]);
}

const uint8_t *bytes_take(struct bytes_in *in, uint64_t n)
{
	const uint8_t *p = in->at;

	if (in->failed || n > in->left) {
		in->failed = true;
		return NULL;
	}
	in->at += n;
	in->left -= n;
	return p;
}

uint8_t bytes_take_u8(struct bytes_in *in)
{
	const uint8_t *p = bytes_take(in, 1);

	return p == NULL ? 0 : *p;
}

uint32_t bytes_take_u32(struct bytes_in *in)
{
	const uint8_t *p = bytes_take(in, 4);

	return p == NULL ? 0 : get_u32(p);
}

uint64_t bytes_take_u64(struct bytes_in *in)
{
	uint64_t low = bytes_take_u32(in);

	return low | (uint64_t)bytes_take_u32(in) << 32;
}

bool bytes_take_words(struct bytes_in *in, uint32_t *v, size_t n)
{
	const uint8_t *p = n > SIZE_MAX / 4 ? NULL : bytes_take(in, 4 * (uint64_t)n);

	if (p == NULL) {
		in->failed = true;
		return false;
	}
	for (size_t i = 0; i < n; i++)
		v[i] = get_u32(p + 4 * i);
	return true;
}
