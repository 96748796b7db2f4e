/* The Llama-2 vocabulary gives the tokens of llama.cpp's vectors and of FACTS appendix A, from tokenizer.model and from GGUF. */
#include "format_test.h"

static struct core_tokenizer *load(const char *name)
{
	char path[1024];
	struct core_tokenizer *t;
	struct core_error err = {0};

	snprintf(path, sizeof path, "%s/../shared/data/%s", getenv("top_srcdir"), name);
	if (core_tokenizer_load(&t, path, &err) < 0)
		fail_msg("%s", err.text);
	return t;
}

static void expect(const struct core_tokenizer *t, const char *text, size_t len, unsigned flags, const char *want)
{
	int32_t *ids;
	size_t n, at = 0;
	char got[8192] = "", *end;
	struct core_error err = {0};

	if (core_tokenizer_encode(t, text, len, flags, &ids, &n, &err) < 0)
		fail_msg("%s", err.text);
	for (size_t i = 0; i < n; i++)
		at += (size_t)snprintf(got + at, sizeof got - at, "%s%d", i > 0 ? " " : "", ids[i]);
	while (*want == ' ')
		want++;
	end = strchr(want, '\n');
	if (strlen(got) != (end != NULL ? (size_t)(end - want) : strlen(want)) || strncmp(got, want, strlen(got)) != 0)
		fail_msg("\"%.*s\": got %s, expected %s", (int)len, text, got, want);
	free(ids);
}

static void require_shared_data(void)
{
	char path[1024];

	snprintf(path, sizeof path, "%s/../shared/data/llama2-tokenizer.model", getenv("top_srcdir"));
	if (access(path, R_OK) < 0) {
		printf("skipped: %s is not there (the real Llama-2 vocabulary is not part of this tree)\n", path);
		exit(77);
	}
}

static char *slurp(const char *name)
{
	char path[1024], *text = calloc(1, 1 << 20);
	FILE *f;

	snprintf(path, sizeof path, "%s/../shared/data/%s", getenv("top_srcdir"), name);
	f = fopen(path, "rb");
	assert_non_null(f);
	assert_true(fread(text, 1, (1 << 20) - 1, f) > 0);
	fclose(f);
	return text;
}

static void check_vectors(const char *vocabulary)
{
	static const char rule[] = "\n__ggml_vocab_test__\n";
	struct core_tokenizer *t = load(vocabulary);
	char *texts = slurp("ggml-vocab-llama-spm.gguf.inp"), *want = slurp("ggml-vocab-llama-spm.gguf.out"), *line = want;
	int n = 0;

	for (char *text = texts, *end; text != NULL; text = end != NULL ? end + strlen(rule) : NULL, n++) {
		end = strstr(text, rule);
		expect(t, text, end != NULL ? (size_t)(end - text) : strlen(text), 0, line);
		line = strchr(line, '\n') != NULL ? strchr(line, '\n') + 1 : line + strlen(line);
	}
	assert_int_equal(n, 47);
	free(texts);
	free(want);
	core_tokenizer_free(t);
}

static void llama_cpp_vectors_from_tokenizer_model(void **state)
{
	check_vectors("llama2-tokenizer.model");
}

static void llama_cpp_vectors_from_gguf(void **state)
{
	check_vectors("ggml-vocab-llama-spm.gguf");
}

int main(void)
{
	require_shared_data();
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(llama_cpp_vectors_from_tokenizer_model),
		cmocka_unit_test(llama_cpp_vectors_from_gguf),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
