/* Vocabularies built here: what a file may say about its tokens, and what is refused. */
#include <fcntl.h>
#include <pthread.h>

#include "gguf_build.h"
#include "kernels/format/charsmap.h"
#include "tokenizer_test.h"

struct token {
	const char *text;
	float score;
	int32_t type;	/* 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte */
};

enum {
	UNK,
	BOS,
	EOS,
	FIRST_BYTE,
	FIRST_TEXT = FIRST_BYTE + 256,
	SPACE = FIRST_TEXT,
	A,
	B,
	SPACE_A,
	AB,
	SPACE_AB,
	EAR,
	SMILE,
	N_TOKENS
};

static struct token tokens[N_TOKENS];
static char byte_names[256][8];
static struct build b;

static int fill_tokens(void **state)
{
	static const struct token text[] = {{"\u2581", 0, 1}, {"a", -1, 1},        {"b", -2, 1},     {"\u2581a", -3, 1},
					    {"ab", -4, 1},    {"\u2581ab", -5, 1}, {"<ear>", -6, 4}, {"\u263a", -7, 1}};

	tokens[UNK] = (struct token){"<unk>", 0, 2};
	tokens[BOS] = (struct token){"<s>", 0, 3};
	tokens[EOS] = (struct token){"</s>", 0, 3};
	for (int i = 0; i < 256; i++) {
		snprintf(byte_names[i], sizeof byte_names[i], "<0x%02X>", i);
		tokens[FIRST_BYTE + i] = (struct token){byte_names[i], 0, 6};
	}
	memcpy(tokens + FIRST_TEXT, text, sizeof text);
	return 0;
}

/* The vocabulary with some of its `scores` and `types` left out, and more metadata. */
static const char *put_vocab(uint64_t scores, uint64_t types, void (*values)(struct build *), unsigned n_values)
{
	put_head(&b, 3, 0, 4 + n_values);
	kv_text(&b, "tokenizer.ggml.model", "llama");
	kv_array(&b, "tokenizer.ggml.tokens", 8, N_TOKENS);
	for (int i = 0; i < N_TOKENS; i++)
		put_text(&b, tokens[i].text);
	kv_array(&b, "tokenizer.ggml.scores", 6, scores);
	for (uint64_t i = 0; i < scores; i++)
		put(&b, &tokens[i].score, 4);
	kv_array(&b, "tokenizer.ggml.token_type", 5, types);
	for (uint64_t i = 0; i < types; i++)
		put(&b, &tokens[i].type, 4);
	if (values != NULL)
		values(&b);
	return build_save(&b);
}

static struct core_tokenizer *load(void (*values)(struct build *), unsigned n_values)
{
	return load_tokenizer(put_vocab(N_TOKENS, N_TOKENS, values, n_values));
}

static void expect_ids(const struct core_tokenizer *t, const char *text, unsigned flags, const int32_t *want, size_t n_want)
{
	int32_t *ids;
	size_t n;
	struct core_error err;

	assert_int_equal(core_tokenizer_encode(t, text, strlen(text), flags, &ids, &n, &err), 0);
	assert_int_equal(n, n_want);
	assert_memory_equal(ids, want, n * sizeof *ids);
	free(ids);
}

#define IDS(...) (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t)

static void merges_bytes_prefix_and_special_tokens(void **state)
{
	struct core_tokenizer *t = load(NULL, 0);

	assert_int_equal(core_tokenizer_size(t), N_TOKENS);
	assert_int_equal(core_tokenizer_bos(t), BOS);
	assert_int_equal(core_tokenizer_eos(t), EOS);
	expect_ids(t, "ab", 0, IDS(SPACE_AB));
	expect_ids(t, "ab", CORE_ENCODE_NO_PREFIX, IDS(AB));
	expect_ids(t, "ab", CORE_ENCODE_BOS, IDS(BOS, SPACE_AB));
	expect_ids(t, "b\x01", CORE_ENCODE_BOS | CORE_ENCODE_NO_PREFIX, IDS(BOS, B, FIRST_BYTE + 1));
	expect_ids(t, "\u263a\u00e9", CORE_ENCODE_NO_PREFIX, IDS(SMILE, FIRST_BYTE + 0xc3, FIRST_BYTE + 0xa9));
	expect_ids(t, "a<ear>b", 0, IDS(SPACE_A, EAR, B)); /* user defined: found in text */
	expect_ids(t, "  a", CORE_ENCODE_NO_PREFIX, IDS(SPACE, SPACE_A));
	core_tokenizer_free(t);
}

static void pieces_are_bytes_of_running_text(void **state)
{
	struct core_tokenizer *t = load(NULL, 0);
	size_t len;
	const char *p = core_tokenizer_piece(t, SPACE_AB, &len);

	assert_int_equal(len, 3);
	assert_memory_equal(p, " ab", 3);
	p = core_tokenizer_piece(t, FIRST_BYTE + 0xe2, &len);
	assert_int_equal(len, 1);
	assert_memory_equal(p, "\xe2", 1);
	p = core_tokenizer_piece(t, UNK, &len);
	assert_int_equal(len, 5);
	assert_memory_equal(p, " \u2047 ", 5);
	assert_non_null(core_tokenizer_piece(t, BOS, &len));
	assert_int_equal(len, 0);
	assert_null(core_tokenizer_piece(t, -1, &len));
	assert_null(core_tokenizer_piece(t, N_TOKENS, &len));
	assert_true(core_tokenizer_is_control(t, EOS));
	assert_false(core_tokenizer_is_control(t, EAR) || core_tokenizer_is_control(t, -1) ||
		     core_tokenizer_is_control(t, N_TOKENS));
	core_tokenizer_free(t);
}

static void a_token_outside_the_vocabulary_is_an_error_to_decode(void **state)
{
	struct core_tokenizer *t = load(NULL, 0);
	struct core_error err;
	struct core_detok d = {0};
	char *text, out[64];
	size_t len;

	assert_int_equal(core_tokenizer_decode(t, IDS(A, N_TOKENS), &text, &len, &err), CORE_EINVAL);
	assert_null(text);
	assert_int_equal(core_detok_push(&d, t, N_TOKENS, out), 0);
	assert_int_equal(core_detok_push(&d, t, -1, out), 0);
	core_tokenizer_free(t);
}

static void bad_utf8_of_byte_tokens_is_replaced_byte_by_byte(void **state)
{
	struct core_tokenizer *t = load(NULL, 0);
#define BYTE(x) FIRST_BYTE + (x)

	expect_text(t, IDS(BYTE(0xe2), BYTE(0x98), BYTE(0xba)), "\u263a");
	expect_text(t, IDS(BYTE(0xe2), BYTE(0x98), A), "\ufffd\ufffda");
	expect_text(t, IDS(BYTE(0xe2), BYTE(0x98), BOS, BYTE(0xba)), "\ufffd\ufffd\ufffd");
	expect_text(t, IDS(BYTE(0xe2), BYTE(0xe2), BYTE(0x98), BYTE(0xba)), "\ufffd\u263a");
	expect_text(t, IDS(BYTE(0xf0), BYTE(0x9f), BYTE(0x98)), "\ufffd\ufffd\ufffd");
	expect_text(t, IDS(BYTE(0xed), BYTE(0xa0), BYTE(0x80)), "\ufffd\ufffd\ufffd");
	expect_text(t, IDS(BYTE(0xc0), BYTE(0x80), BYTE('x')), "\ufffd\ufffdx");
	expect_text(t, IDS(BYTE(0xe0), BYTE(0x80), BYTE(0x80)), "\ufffd\ufffd\ufffd");
	expect_text(t, IDS(BYTE(0xf0), BYTE(0x8f), BYTE(0xbf), BYTE(0xbf)), "\ufffd\ufffd\ufffd\ufffd");
	expect_text(t, IDS(BYTE(0xf4), BYTE(0x90), BYTE(0x80), BYTE(0x80)), "\ufffd\ufffd\ufffd\ufffd");
	expect_text(t, IDS(BYTE(0xf4), BYTE(0x8f), BYTE(0xbf), BYTE(0xbf)), "\U0010ffff");
	core_tokenizer_free(t);
}

static void no_space_prefix(struct build *to)
{
	kv_bool(to, "tokenizer.ggml.add_space_prefix", false);
}

static void without_a_prefix_nothing_is_added_or_taken_away(void **state)
{
	struct core_tokenizer *t = load(no_space_prefix, 1);

	expect_ids(t, "ab", 0, IDS(AB));
	expect_ids(t, "ab", CORE_ENCODE_NO_PREFIX, IDS(AB));
	expect_ids(t, " ab", 0, IDS(SPACE_AB));
	expect_text(t, IDS(SPACE_AB), " ab");
	core_tokenizer_free(t);
}

static void trims_spaces(struct build *to)
{
	kv_bool(to, "tokenizer.ggml.remove_extra_whitespaces", true);
}

static void a_vocabulary_that_trims_decodes_without_leading_spaces(void **state)
{
	struct core_tokenizer *t = load(trims_spaces, 1);

	expect_ids(t, "  a   b ", 0, IDS(SPACE_A, SPACE, B));
	expect_text(t, IDS(SPACE, SPACE, SPACE_A, SPACE, B), "a b");
	core_tokenizer_free(t);
}

static void other_ids(struct build *to)
{
	kv_u32(to, "tokenizer.ggml.bos_token_id", A);
	kv_u32(to, "tokenizer.ggml.eos_token_id", B);
	kv_bool(to, "tokenizer.ggml.add_bos_token", true);
}

static void no_bos(struct build *to)
{
	kv_u32(to, "tokenizer.ggml.bos_token_id", UINT32_MAX);
}

static void bos_not_wanted(struct build *to)
{
	kv_bool(to, "tokenizer.ggml.add_bos_token", false);
}

static void the_file_says_what_bos_and_eos_are(void **state)
{
	struct core_tokenizer *t = load(other_ids, 3);

	assert_int_equal(core_tokenizer_bos(t), A);
	assert_int_equal(core_tokenizer_eos(t), B);
	expect_ids(t, "b", CORE_ENCODE_BOS | CORE_ENCODE_NO_PREFIX, IDS(A, B));
	core_tokenizer_free(t);
	t = load(no_bos, 1);
	assert_int_equal(core_tokenizer_bos(t), -1);
	expect_ids(t, "b", CORE_ENCODE_BOS | CORE_ENCODE_NO_PREFIX, IDS(B));
	core_tokenizer_free(t);
	t = load(bos_not_wanted, 1);
	assert_int_equal(core_tokenizer_bos(t), BOS);
	expect_ids(t, "b", CORE_ENCODE_BOS | CORE_ENCODE_NO_PREFIX, IDS(B));
	core_tokenizer_free(t);
}

/* ---- refusals ---- */

static void expect_refusal(const char *path, int code, const char *words)
{
	struct core_tokenizer *t;
	struct core_error err = {0};
	int rc = core_tokenizer_load(&t, path, &err);

	if (rc != code || err.code != code || t != NULL || strstr(err.text, words) == NULL)
		fail_msg("code %d \"%s\", expected %d and \"%s\"", rc, err.text, code, words);
}

static void expect_token_refused(int id, struct token instead, const char *words)
{
	struct token kept = tokens[id];

	tokens[id] = instead;
	expect_refusal(put_vocab(N_TOKENS, N_TOKENS, NULL, 0), CORE_EFORMAT, words);
	tokens[id] = kept;
}

static void bos_outside(struct build *to)
{
	kv_u32(to, "tokenizer.ggml.bos_token_id", N_TOKENS);
}

static void vocabularies_that_make_no_sense_are_refused(void **state)
{
	expect_token_refused(AB, (struct token){"", 0, 1}, "token 263");
	expect_token_refused(AB, (struct token){"ab", 0.0f / 0.0f, 1}, "token 263");
	expect_token_refused(AB, (struct token){"ab", 0, 7}, "token 263");
	expect_token_refused(AB, (struct token){"a", 0, 1}, "already defined");
	expect_token_refused(AB, (struct token){"\xe2\x82", 0, 1}, "not UTF-8");
	expect_token_refused(AB, (struct token){"<unk2>", 0, 2}, "unk");
	expect_token_refused(FIRST_BYTE + 7, (struct token){"seven", 0, 1}, "256 byte pieces");
	expect_refusal(put_vocab(N_TOKENS - 1, N_TOKENS, NULL, 0), CORE_EFORMAT, "scores");
	expect_refusal(put_vocab(N_TOKENS, N_TOKENS - 1, NULL, 0), CORE_EFORMAT, "types");
	expect_refusal(put_vocab(N_TOKENS, N_TOKENS, bos_outside, 1), CORE_EFORMAT, "bos_token_id");
	put_head(&b, 3, 0, 1);
	kv_text(&b, "tokenizer.ggml.model", "gpt2");
	expect_refusal(build_save(&b), CORE_EUNSUPPORTED, "gpt2");
	put_head(&b, 3, 0, 1);
	kv_text(&b, "tokenizer.ggml.model", "llama");
	expect_refusal(build_save(&b), CORE_EFORMAT, "tokenizer.ggml.tokens is missing");
}

static void files_that_are_no_vocabulary_are_refused(void **state)
{
	static const uint8_t no_pieces[] = {0x1a, 2, 0x18, 0};

	expect_refusal("no-such-file", CORE_EIO, "No such file");
	expect_refusal(".", CORE_EIO, "regular file");
	b.n = 0;
	expect_refusal(build_save(&b), CORE_EFORMAT, "neither");
	put(&b, "plain text, no vocabulary", 25);
	expect_refusal(build_save(&b), CORE_EFORMAT, "neither");
	b.n = 0;
	put(&b, no_pieces, sizeof no_pieces);
	expect_refusal(build_save(&b), CORE_EFORMAT, "neither");
}

static void spm_model_switches_that_streams_cannot_follow_are_refused(void **state)
{
	static const uint8_t piece[] = {0x0a, 3, 0x0a, 1, 'a'};
	static const uint8_t suffix[] = {0x12, 3, 0xc0, 0x01, 1};	/* trainer_spec.treat_whitespace_as_suffix */
	static const uint8_t denormal[] = {0x2a, 3, 0x12, 1, 'x'};	/* denormalizer_spec.precompiled_charsmap */

	b.n = 0;
	put(&b, piece, sizeof piece);
	put(&b, suffix, sizeof suffix);
	expect_refusal(build_save(&b), CORE_EUNSUPPORTED, "treat_whitespace_as_suffix");
	b.n = 0;
	put(&b, piece, sizeof piece);
	put(&b, denormal, sizeof denormal);
	expect_refusal(build_save(&b), CORE_EUNSUPPORTED, "denormalizer");
}

static void the_library_prints_nothing(void **state)
{
	char name[64], text[8];
	int kept = dup(2), fd;
	ssize_t n;

	snprintf(name, sizeof name, "stderr-%d", (int)getpid());
	fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_true(kept >= 0 && fd >= 0);
	dup2(fd, 2);
	expect_token_refused(AB, (struct token){"a", 0, 1}, "already defined");
	core_tokenizer_free(load(NULL, 0));
	dup2(kept, 2);
	n = pread(fd, text, sizeof text, 0);
	close(fd);
	close(kept);
	unlink(name);
	assert_int_equal(n, 0);
}

static void a_model_with_self_tests_loads(void **state)
{
	char path[1024];
	struct core_tokenizer *t;

	/* Its recorded sample has the prefix, which the processor without prefix would fail. */
	snprintf(path, sizeof path, "%s/tests/kernels/fuzz/corpus/vocab/model", getenv("top_srcdir"));
	t = load_tokenizer(path);
	expect_ids(t, "a", 0, IDS(262));
	expect_ids(t, "a", CORE_ENCODE_NO_PREFIX, IDS(260));
	core_tokenizer_free(t);
}

/* ---- threads ---- */

struct worker {
	const struct core_tokenizer *t;
	uint64_t sum;	/* of everything that came back, in order */
};

static uint64_t mix(uint64_t sum, const void *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		sum = (sum ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3;
	return sum;
}

static void *encode_and_decode(void *arg)
{
	struct worker *w = arg;
	uint64_t seed = 5;
	char text[4096], *back;
	int32_t *ids;
	size_t n, len;

	for (int i = 0; i < 200; i++) {
		size_t size = random_text(&seed, true, text, sizeof text);
		if (core_tokenizer_encode(w->t, text, size, i % 4, &ids, &n, NULL) < 0)
			return NULL;
		w->sum = mix(w->sum, ids, n * sizeof *ids);
		if (core_tokenizer_decode(w->t, ids, n, &back, &len, NULL) < 0)
			return NULL;
		w->sum = mix(w->sum, back, len);
		free(ids);
		free(back);
	}
	return w;
}

static void threads_share_one_tokenizer(void **state)
{
	struct core_tokenizer *t = load_tokenizer(fixture("rules.model"));
	struct worker alone = {.t = t}, workers[4];
	pthread_t threads[4];
	void *result;

	assert_non_null(encode_and_decode(&alone));
	for (int i = 0; i < 4; i++) {
		workers[i] = (struct worker){.t = t};
		assert_int_equal(pthread_create(&threads[i], NULL, encode_and_decode, &workers[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(threads[i], &result), 0);
		assert_non_null(result);
		assert_true(workers[i].sum == alone.sum);
	}
	core_tokenizer_free(t);
}

/* ---- normalisation rules ---- */

/* rules.model: U+FB01 to "fi", U+FF21 to "A", U+2003 to a space, U+00AD to nothing. */
static size_t load_rules(uint8_t *bytes, size_t room)
{
	FILE *f = fopen(fixture("rules.model"), "rb");
	size_t n;

	assert_non_null(f);
	n = fread(bytes, 1, room, f);
	fclose(f);
	assert_true(n > 0 && n < room);
	return n;
}

static void expect_same_tokens(const struct core_tokenizer *t, const char *a, const char *b2)
{
	int32_t *x, *y;
	size_t n, m;
	struct core_error err;

	assert_int_equal(core_tokenizer_encode(t, a, strlen(a), 0, &x, &n, &err), 0);
	assert_int_equal(core_tokenizer_encode(t, b2, strlen(b2), 0, &y, &m, &err), 0);
	assert_int_equal(n, m);
	assert_memory_equal(x, y, n * sizeof *x);
	free(x);
	free(y);
}

static void normalisation_rules_are_applied(void **state)
{
	struct core_tokenizer *t = load_tokenizer(fixture("rules.model"));

	expect_same_tokens(t, "\uff21 \ufb01ne\u2003co\u00adat", "A fine coat");
	core_tokenizer_free(t);
}

/* A map of n units, all 0 but the one given, and one empty text. */
static bool sound_with(uint32_t n, uint32_t at, uint32_t unit)
{
	uint32_t map[1024] = {4 * n};

	assert_true(n + 2 < 1024 && at < n);
	map[1 + at] = unit;
	return charsmap_is_sound((const uint8_t *)map, 4 + 4 * n + 1);
}

static void every_neighbour_of_a_unit_lies_inside_the_rules(void **state)
{
	assert_true(charsmap_is_sound(NULL, 0));
	assert_true(sound_with(256, 0, 0));
	assert_false(sound_with(255, 0, 0));	/* the byte 255 would lead outside */
	assert_false(sound_with(4, 0, 0));
	assert_false(sound_with(256, 0, 256 << 10));	/* the root's block is not there */
	assert_true(sound_with(512, 0, 256 << 10));
	assert_false(sound_with(256, 'a', 'a' | 256 << 10));	/* after an 'a' */
	assert_true(sound_with(512, 'a', 'a' | 256 << 10));
	assert_true(sound_with(256, 'b', 'a' | 256 << 10));	/* nothing leads to it */
	assert_true(sound_with(256, 'a', 'a' | 1 << 8 | 1 << 10));	/* its value, in the next unit, is text 0 */
	assert_false(sound_with(256, 'a', 'a' | 1 << 8));	/* its value is the unit itself: no such text */
}

/* The library follows the offsets that it finds in the rules: damaged ones must be refused, or be harmless to any text. */
static void damaged_rules_never_lead_outside_the_file(void **state)
{
	static const char *const texts[] = {"\ufb01\uff21\u2003\u00ad", "plain", "\u00ac\ufb02\uff20\U0010ffff\u2004"};
	size_t whole = load_rules(b.bytes, sizeof b.bytes), at = 0, refused = 0;
	uint8_t *kept = malloc(whole);
	uint64_t seed = 11;

	while (memcmp(b.bytes + at, "user_defined\x12", 13) != 0)
		assert_true(++at + 13 < whole);
	memcpy(kept, b.bytes, whole);
	for (int i = 0; i < 300; i++) {
		struct core_tokenizer *t;
		struct core_error err;
		b.n = whole;
		memcpy(b.bytes, kept, whole);
		/* Past the name, the tag and a length of two bytes: a few bytes anywhere, or the first units whole. */
		for (int k = 0; k <= i % 3; k++)
			b.bytes[at + 15 + draw(&seed) % (whole - at - 15 - 12)] ^= (uint8_t)(draw(&seed) % 255 + 1);
		for (int k = 0; k < 1024 && i % 4 == 3; k++)
			b.bytes[at + 15 + 4 + k] = (uint8_t)draw(&seed);
		if (core_tokenizer_load(&t, build_save(&b), &err) < 0) {
			refused++;
			continue;
		}
		for (int k = 0; k < 3; k++) {
			int32_t *ids;
			size_t n;
			if (core_tokenizer_encode(t, texts[k], strlen(texts[k]), 0, &ids, &n, &err) == 0)
				free(ids);
		}
		core_tokenizer_free(t);
	}
	free(kept);
	if (refused < 5 || refused > 295)
		fail_msg("%zu of 300 were refused", refused);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(merges_bytes_prefix_and_special_tokens),
		cmocka_unit_test(pieces_are_bytes_of_running_text),
		cmocka_unit_test(a_token_outside_the_vocabulary_is_an_error_to_decode),
		cmocka_unit_test(bad_utf8_of_byte_tokens_is_replaced_byte_by_byte),
		cmocka_unit_test(without_a_prefix_nothing_is_added_or_taken_away),
		cmocka_unit_test(a_vocabulary_that_trims_decodes_without_leading_spaces),
		cmocka_unit_test(the_file_says_what_bos_and_eos_are),
		cmocka_unit_test(vocabularies_that_make_no_sense_are_refused),
		cmocka_unit_test(files_that_are_no_vocabulary_are_refused),
		cmocka_unit_test(spm_model_switches_that_streams_cannot_follow_are_refused),
		cmocka_unit_test(the_library_prints_nothing),
		cmocka_unit_test(a_model_with_self_tests_loads),
		cmocka_unit_test(threads_share_one_tokenizer),
		cmocka_unit_test(normalisation_rules_are_applied),
		cmocka_unit_test(every_neighbour_of_a_unit_lies_inside_the_rules),
		cmocka_unit_test(damaged_rules_never_lead_outside_the_file),
	};
	return cmocka_run_group_tests(tests, fill_tokens, build_remove);
}
