/* tokenizer_test.h: what the tests of the tokenizer share. */
#ifndef WEFT_TOKENIZER_TEST_H
#define WEFT_TOKENIZER_TEST_H

#include "format_test.h"

static inline struct core_tokenizer *load_tokenizer(const char *path)
{
	struct core_tokenizer *t;
	struct core_error err = {0};

	if (core_tokenizer_load(&t, path, &err) < 0)
		fail_msg("%s", err.text);
	return t;
}

/* Encodes and compares with ids written in decimal; `want` ends at its end of line. */
static inline void expect_tokens(const struct core_tokenizer *t, const char *text, size_t len, unsigned flags, const char *want)
{
	int32_t *ids;
	size_t n, at = 0;
	char got[16384] = "";
	struct core_error err = {0};

	if (core_tokenizer_encode(t, text, len, flags, &ids, &n, &err) < 0)
		fail_msg("%s", err.text);
	for (size_t i = 0; i < n && at < sizeof got - 16; i++)
		at += (size_t)snprintf(got + at, sizeof got - at, "%s%d", i > 0 ? " " : "", ids[i]);
	free(ids);
	while (*want == ' ')
		want++;
	if (strlen(got) != strcspn(want, "\n") || strncmp(got, want, strlen(got)) != 0)
		fail_msg("\"%.*s\": got %s, expected %s", (int)len, text, got, want);
}

static inline void expect_text(const struct core_tokenizer *t, const int32_t *ids, size_t n, const char *want)
{
	char *got;
	size_t len;
	struct core_error err = {0};

	if (core_tokenizer_decode(t, ids, n, &got, &len, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(strlen(got), len);
	assert_string_equal(got, want);
	free(got);
}

/* A fixed sequence of random numbers (splitmix64). */
static inline uint64_t draw(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* Text of up to 60 pieces: words, runs of spaces, characters of every width, and (when asked for) bytes that are no UTF-8. Neither
 * newlines nor NULs, so that line-based tools can read it. */
static inline size_t random_text(uint64_t *state, bool broken, char *out, size_t room)
{
	static const char *const parts[] = {"linen",  " the",   " Wash",      "ing",          "### User:",
					    " 30",    "\u00b0", "C",          "silk-",        "don't",
					    "  ",     "    ",   " ",          "\t",           "\u00e9t\u00e9",
					    "\u2581", "\u00a0", "\U0001f457", "\u4e1d\u7ef8", "<s>",
					    "</s>",   "<0x41>", "1234567",    "\r",           "!?",
					    "\u0301", "\ufffd", "a",          "\U0010ffff",   "\u0416\u0443\u0440",
					    "<unk>"};
	static const char *const bad[] = {"\x80", "\xff", "\xc3", "\xe2\x82", "\xf0\x9f\x98", "\xed\xa0\x80", "\xc0\xaf", "\xf5"};
	size_t n = 0;

	for (uint64_t k = draw(state) % 60; k > 0; k--) {
		bool b = broken && draw(state) % 8 == 0;
		const char *p =
			b ? bad[draw(state) % (sizeof bad / sizeof bad[0])] : parts[draw(state) % (sizeof parts / sizeof parts[0])];
		assert_true(n + strlen(p) < room);
		memcpy(out + n, p, strlen(p));
		n += strlen(p);
	}
	return n;
}

/* Random tokens, with runs of byte tokens among them, never `except` (-1: any). */
static inline size_t random_tokens(uint64_t *state, const struct core_tokenizer *t, int32_t except, int32_t *out, size_t most)
{
	size_t n = draw(state) % (most + 1);

	for (size_t i = 0; i < n; i++) {
		bool byte = draw(state) % 2 == 0; /* byte tokens stand near the front of these vocabularies */
		do {
			out[i] = (int32_t)(draw(state) % (byte ? 262 : core_tokenizer_size(t)));
		} while (out[i] == except);
	}
	return n;
}

/* Pushes tokens one by one: each push gives whole characters, and all of them together are the decoded text. */
static inline void expect_stream_is_whole(const struct core_tokenizer *t, const int32_t *ids, size_t n)
{
	struct core_detok d = {.strip_space = true};
	size_t bound = core_detok_bound(t), at = 0, len;
	char *piece = malloc(bound), *all = malloc(bound * (n + 1)), *whole;
	struct core_error err = {0};

	for (size_t i = 0; i <= n; i++) {
		size_t k = i < n ? core_detok_push(&d, t, ids[i], piece) : core_detok_flush(&d, piece);
		assert_true(k <= bound);
		assert_int_equal(utf8_repair(piece, k, NULL), k);
		memcpy(all + at, piece, k);
		at += k;
	}
	assert_int_equal(core_tokenizer_decode(t, ids, n, &whole, &len, &err), 0);
	assert_int_equal(at, len);
	assert_memory_equal(all, whole, len);
	free(piece);
	free(all);
	free(whole);
}

#endif
