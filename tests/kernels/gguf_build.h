/* gguf_build.h: GGUF files written by the tests, one piece at a time, right or wrong. */
#ifndef WEFT_GGUF_BUILD_H
#define WEFT_GGUF_BUILD_H

#include "format_test.h"

struct build {
	uint8_t bytes[1 << 16];
	size_t n;
};

static inline void put(struct build *b, const void *bytes, size_t n)
{
	assert_true(n <= sizeof b->bytes - b->n);
	memcpy(b->bytes + b->n, bytes, n);
	b->n += n;
}

static inline void put_u32(struct build *b, uint32_t v)
{
	put(b, &v, sizeof v);
}

static inline void put_u64(struct build *b, uint64_t v)
{
	put(b, &v, sizeof v);
}

static inline void put_text(struct build *b, const char *s)
{
	put_u64(b, strlen(s));
	put(b, s, strlen(s));
}

static inline void put_head(struct build *b, uint32_t version, uint64_t tensors, uint64_t values)
{
	b->n = 0;
	put(b, "GGUF", 4);
	put_u32(b, version);
	put_u64(b, tensors);
	put_u64(b, values);
}

static inline void kv_u32(struct build *b, const char *key, uint32_t v)
{
	put_text(b, key);
	put_u32(b, 4);
	put_u32(b, v);
}

static inline void kv_f32(struct build *b, const char *key, float v)
{
	put_text(b, key);
	put_u32(b, 6);
	put(b, &v, sizeof v);
}

static inline void kv_bool(struct build *b, const char *key, bool v)
{
	uint8_t byte = v;

	put_text(b, key);
	put_u32(b, 7);
	put(b, &byte, 1);
}

static inline void kv_text(struct build *b, const char *key, const char *v)
{
	put_text(b, key);
	put_u32(b, 8);
	put_text(b, v);
}

/* The head of an array; its elements follow with put(). */
static inline void kv_array(struct build *b, const char *key, uint32_t element, uint64_t count)
{
	put_text(b, key);
	put_u32(b, 9);
	put_u32(b, element);
	put_u64(b, count);
}

/* Writes the file where `path` says; one name per process. */
static inline const char *build_save(const struct build *b)
{
	static char path[64];
	FILE *f;

	snprintf(path, sizeof path, "build-%d.gguf", (int)getpid());
	f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(b->bytes, 1, b->n, f), b->n);
	fclose(f);
	return path;
}

static inline int build_remove(void **state)
{
	char path[64];

	snprintf(path, sizeof path, "build-%d.gguf", (int)getpid());
	unlink(path);
	return 0;
}

#endif
