/* The real Llama-2 vocabulary, from tokenizer.model and from GGUF: llama.cpp's vectors and the known encodings of its texts. */
#include "tokenizer_test.h"

static const char *const vocabularies[] = {"llama2-tokenizer.model", "ggml-vocab-llama-spm.gguf"};

static const char *data_path(const char *name)
{
	static char path[1024];

	snprintf(path, sizeof path, "%s/../shared/data/%s", getenv("top_srcdir"), name);
	return path;
}

static char *slurp(const char *name)
{
	char *text = calloc(1, 1 << 20);
	FILE *f = fopen(data_path(name), "rb");

	assert_non_null(f);
	assert_true(fread(text, 1, (1 << 20) - 1, f) > 0);
	fclose(f);
	return text;
}

/* The texts stand between rules, the last one empty; the tokens one line each. */
static void check_vectors(const struct core_tokenizer *t)
{
	static const char rule[] = "\n__ggml_vocab_test__\n";
	char *texts = slurp("ggml-vocab-llama-spm.gguf.inp"), *want = slurp("ggml-vocab-llama-spm.gguf.out"), *line = want;
	int n = 0;

	for (char *text = texts, *end; text != NULL; text = end != NULL ? end + strlen(rule) : NULL, n++) {
		end = strstr(text, rule);
		expect_tokens(t, text, end != NULL ? (size_t)(end - text) : strlen(text), 0, line);
		line += strcspn(line, "\n");
		line += *line == '\n';
	}
	assert_int_equal(n, 47);
	free(texts);
	free(want);
}

static void llama_cpp_vectors_are_exact(void **state)
{
	for (int i = 0; i < 2; i++) {
		struct core_tokenizer *t = load_tokenizer(data_path(vocabularies[i]));
		check_vectors(t);
		core_tokenizer_free(t);
	}
}

static const struct {
	const char *text;
	unsigned flags;
	const char *tokens;
} known[] = {
	{"Hello world", 0, "15043 3186"},
	{"", 0, ""},
	{"", CORE_ENCODE_BOS, "1"},
	{" A", 0, "29871 319"},
	{"A", 0, "319"},
	{"\n", 0, "29871 13"},
	{"Answer: A", 0, "673 29901 319"},
	{"a  b", 0, "263 29871 289"},
	{"    x", 0, "268 921"},
	{"12345", 0, "29871 29896 29906 29941 29946 29945"},
	{"\U0001f642", 0, "29871 243 162 156 133"},
	{"\u00e9", 0, "904"},
	{"\u00a0", 0, "20246"},
	{"<s>", 0, "529 29879 29958"},
	{"</s>", 0, "1533 29879 29958"},
	{"### System:\nYou are a helpful assistant.\n### User:\nWhat is 2+2?\n### Assistant:\n", CORE_ENCODE_BOS,
	 "1 835 2184 29901 13 3492 526 263 8444 20255 29889 13 2277 29937 4911 29901 13 5618 338 29871 29906 29974 29906 29973 13 "
	 "2277 29937 4007 "
	 "22137 29901 13"},
	{"Hello", CORE_ENCODE_NO_PREFIX, "10994"},
	{"The answer is 4.", CORE_ENCODE_NO_PREFIX, "1576 1234 338 29871 29946 29889"},
	{" Hello", CORE_ENCODE_NO_PREFIX, "15043"},
	{"Hello", 0, "15043"},
	{"\n### Assistant:\n", CORE_ENCODE_NO_PREFIX, "13 2277 29937 4007 22137 29901 13"},
	{"### User:", 0, "835 4911 29901"},
	{"\n### User:", CORE_ENCODE_NO_PREFIX, "13 2277 29937 4911 29901"},
	{"\n### User:", 0, "29871 13 2277 29937 4911 29901"},
	{" A", CORE_ENCODE_NO_PREFIX, "319"},
	{" four", CORE_ENCODE_NO_PREFIX, "3023"},
	{" 4", CORE_ENCODE_NO_PREFIX, "29871 29946"},
	{"", CORE_ENCODE_NO_PREFIX, ""},
	/* Only the prefix goes: spaces in the text stay, all of them. */
	{"  a  b ", CORE_ENCODE_NO_PREFIX, "29871 263 29871 289 29871"},
	/* Three bad bytes are three U+FFFD, of which the vocabulary has a pair. */
	{"\xff\xe2\x82z", CORE_ENCODE_NO_PREFIX, "26308 30140 29920"},
};

static void known_texts_are_exact(void **state)
{
	for (int i = 0; i < 2; i++) {
		struct core_tokenizer *t = load_tokenizer(data_path(vocabularies[i]));
		for (size_t k = 0; k < sizeof known / sizeof known[0]; k++)
			expect_tokens(t, known[k].text, strlen(known[k].text), known[k].flags, known[k].tokens);
		expect_tokens(t, "a\0b", 3, CORE_ENCODE_NO_PREFIX, "29874 3 29890");
		assert_int_equal(core_tokenizer_size(t), 32000);
		assert_int_equal(core_tokenizer_bos(t), 1);
		assert_int_equal(core_tokenizer_eos(t), 2);
		assert_true(core_tokenizer_is_control(t, 1) && core_tokenizer_is_control(t, 2));
		assert_false(core_tokenizer_is_control(t, 0) || core_tokenizer_is_control(t, 13) ||
			     core_tokenizer_is_control(t, 32000));
		core_tokenizer_free(t);
	}
}

static void both_files_encode_alike(void **state)
{
	struct core_tokenizer *a = load_tokenizer(data_path(vocabularies[0])), *b = load_tokenizer(data_path(vocabularies[1]));
	uint64_t seed = 1;
	char text[4096];
	struct core_error err;

	for (int i = 0; i < 400; i++) {
		size_t len = random_text(&seed, true, text, sizeof text), n, m;
		int32_t *x, *y;
		assert_int_equal(core_tokenizer_encode(a, text, len, i % 4, &x, &n, &err), 0);
		assert_int_equal(core_tokenizer_encode(b, text, len, i % 4, &y, &m, &err), 0);
		assert_int_equal(n, m);
		assert_memory_equal(x, y, n * sizeof *x);
		free(x);
		free(y);
	}
	core_tokenizer_free(a);
	core_tokenizer_free(b);
}

static void valid_text_comes_back(void **state)
{
	struct core_tokenizer *t = load_tokenizer(data_path(vocabularies[0]));
	uint64_t seed = 2;
	char text[4096];
	struct core_error err;

	for (int i = 0; i < 400; i++) {
		size_t len = random_text(&seed, false, text, sizeof text - 1), n, m;
		int32_t *ids;
		char *back;
		text[len] = '\0';
		if (strstr(text, "\u2581") != NULL) /* U+2581 reads as a space: that is SentencePiece's own loss */
			continue;
		assert_int_equal(core_tokenizer_encode(t, text, len, CORE_ENCODE_BOS, &ids, &n, &err), 0);
		assert_int_equal(core_tokenizer_decode(t, ids, n, &back, &m, &err), 0);
		assert_string_equal(back, text);
		free(ids);
		free(back);
	}
	core_tokenizer_free(t);
}

static void a_stream_is_the_whole_text(void **state)
{
	struct core_tokenizer *t = load_tokenizer(data_path(vocabularies[1]));
	uint64_t seed = 3;
	int32_t ids[200];

	for (int i = 0; i < 500; i++)
		expect_stream_is_whole(t, ids, random_tokens(&seed, t, -1, ids, 200));
	core_tokenizer_free(t);
}

static void a_character_appears_with_its_last_byte(void **state)
{
	struct core_tokenizer *t = load_tokenizer(data_path(vocabularies[0]));
	static const int32_t smile[] = {243, 162, 156, 133};
	struct core_detok d = {0};
	char out[256];

	assert_true(core_detok_bound(t) <= sizeof out);
	for (int i = 0; i < 3; i++)
		assert_int_equal(core_detok_push(&d, t, smile[i], out), 0);
	assert_int_equal(core_detok_push(&d, t, smile[3], out), 4);
	assert_memory_equal(out, "\U0001f642", 4);
	/* Cut short by a piece of text: a replacement for each byte, then the piece, with its space since this goes on. */
	core_detok_push(&d, t, smile[0], out);
	core_detok_push(&d, t, smile[1], out);
	assert_int_equal(core_detok_push(&d, t, 15043, out), 3 + 3 + 6);
	assert_memory_equal(out, "\ufffd\ufffd Hello", 12);
	/* Cut short by the end. */
	assert_int_equal(core_detok_push(&d, t, smile[0], out), 0);
	assert_int_equal(core_detok_flush(&d, out), 3);
	assert_int_equal(core_detok_flush(&d, out), 0);
	core_tokenizer_free(t);
}

static void decoding_drops_the_prefix_once(void **state)
{
	struct core_tokenizer *t = load_tokenizer(data_path(vocabularies[0]));

	expect_text(t, (const int32_t[]){15043, 3186}, 2, "Hello world");
	expect_text(t, (const int32_t[]){1, 15043, 2}, 3, "Hello");
	expect_text(t, (const int32_t[]){29871, 319}, 2, " A");
	expect_text(t, (const int32_t[]){259, 319}, 2, "  A");
	expect_text(t, (const int32_t[]){35, 319}, 2, "  A"); /* a space as a byte is no prefix */
	expect_text(t, (const int32_t[]){0, 319}, 2, " \u2047  A");
	expect_text(t, NULL, 0, "");
	core_tokenizer_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(llama_cpp_vectors_are_exact),
		cmocka_unit_test(known_texts_are_exact),
		cmocka_unit_test(both_files_encode_alike),
		cmocka_unit_test(valid_text_comes_back),
		cmocka_unit_test(a_stream_is_the_whole_text),
		cmocka_unit_test(a_character_appears_with_its_last_byte),
		cmocka_unit_test(decoding_drops_the_prefix_once),
	};

	if (access(data_path(vocabularies[0]), R_OK) < 0 || access(data_path(vocabularies[1]), R_OK) < 0) {
		printf("skipped: %s is not there (the real Llama-2 vocabulary is not part of this tree)\n",
		       data_path(vocabularies[0]));
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
