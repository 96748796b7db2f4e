/* The demo model's vocabulary against SentencePiece's own tools, spm_encode and spm_decode, on texts and tokens drawn at random. */
#include <sys/wait.h>

#include "tokenizer_test.h"

enum { LINES = 1500, LINE_MAX_BYTES = 8192 };

static char model[1024], dir[64], command[4096];

static FILE *open_in(const char *name, const char *mode)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	f = fopen(path, mode);
	assert_non_null(f);
	return f;
}

static void run_tool(const char *tool, const char *option)
{
	snprintf(command, sizeof command, "%s --model='%s' %s < %s/in > %s/out 2> %s/log", tool, model, option, dir, dir, dir);
	assert_int_equal(system(command), 0);
}

static int make_dir(void **state)
{
	snprintf(dir, sizeof dir, "tokenizer-demo-%d", (int)getpid());
	snprintf(command, sizeof command, "mkdir -p %s", dir);
	return system(command);
}

static int remove_dir(void **state)
{
	snprintf(command, sizeof command, "rm -rf %s", dir);
	return system(command);
}

static void tokens_agree_with_spm_encode(void **state)
{
	struct core_tokenizer *t = load_tokenizer(model);
	char text[LINE_MAX_BYTES], line[4 * LINE_MAX_BYTES];
	FILE *f = open_in("in", "wb");
	uint64_t seed = 7;

	for (int i = 0; i < LINES; i++) {
		size_t n = random_text(&seed, i % 2 == 0, text, sizeof text);
		fwrite(text, 1, n, f);
		fputc('\n', f);
	}
	fclose(f);
	run_tool("spm_encode", "--output_format=id");
	f = open_in("out", "rb");
	seed = 7;
	for (int i = 0; i < LINES; i++) {
		size_t n = random_text(&seed, i % 2 == 0, text, sizeof text);
		assert_non_null(fgets(line, sizeof line, f));
		expect_tokens(t, text, n, 0, line);
	}
	fclose(f);
	core_tokenizer_free(t);
}

/* A newline from a byte token would end the tool's line, so that one token is left out. */
static int32_t newline_token(const struct core_tokenizer *t)
{
	for (int32_t id = 0; id < (int32_t)core_tokenizer_size(t); id++) {
		size_t len;
		const char *p = core_tokenizer_piece(t, id, &len);
		if (len == 1 && p[0] == '\n')
			return id;
	}
	return -1;
}

static void text_agrees_with_spm_decode(void **state)
{
	struct core_tokenizer *t = load_tokenizer(model);
	char *line = malloc(1 << 20), *got;
	int32_t ids[100], newline = newline_token(t);
	size_t n, len;
	FILE *f = open_in("in", "wb");
	uint64_t seed = 8;
	struct core_error err;

	for (int i = 0; i < LINES; i++) {
		n = random_tokens(&seed, t, newline, ids, 100);
		for (size_t k = 0; k < n; k++)
			fprintf(f, "%s%d", k > 0 ? " " : "", ids[k]);
		fputc('\n', f);
	}
	fclose(f);
	run_tool("spm_decode", "--input_format=id");
	f = open_in("out", "rb");
	seed = 8;
	for (int i = 0; i < LINES; i++) {
		size_t want = 0;
		int c;
		n = random_tokens(&seed, t, newline, ids, 100);
		while ((c = fgetc(f)) != '\n' && c != EOF)
			line[want++] = (char)c; /* may hold NUL, so no fgets */
		assert_int_equal(core_tokenizer_decode(t, ids, n, &got, &len, &err), 0);
		if (len != want || memcmp(got, line, len) != 0)
			fail_msg("line %d: got \"%s\", expected \"%.*s\"", i, got, (int)want, line);
		free(got);
	}
	fclose(f);
	free(line);
	core_tokenizer_free(t);
}

static void a_stream_is_the_whole_text(void **state)
{
	struct core_tokenizer *t = load_tokenizer(model);
	int32_t ids[200];
	uint64_t seed = 9;

	for (int i = 0; i < 1000; i++)
		expect_stream_is_whole(t, ids, random_tokens(&seed, t, -1, ids, 200));
	core_tokenizer_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tokens_agree_with_spm_encode),
		cmocka_unit_test(text_agrees_with_spm_decode),
		cmocka_unit_test(a_stream_is_the_whole_text),
	};

	snprintf(model, sizeof model, "%s/tests/demo/model/tokenizer.model", getenv("top_srcdir"));
	if (access(model, R_OK) < 0 || system("command -v spm_encode spm_decode >/dev/null") != 0) {
		printf("skipped: needs %s and the programs spm_encode and spm_decode (Debian package sentencepiece)\n", model);
		return 77;
	}
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
