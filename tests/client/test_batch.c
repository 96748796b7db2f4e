/* Lines of a batch file as rows, records as lines, and output files that survive being cut anywhere. */
#include "config.h"
#include "client/ledger.h"
#include "client/openai.h"
#include "client/row.h"
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static json_t *json(const char *text)
{
	json_error_t where;
	json_t *v = json_loads(text, JSON_DECODE_ANY, &where);

	if (v == NULL)
		fail_msg("%s in %s", where.text, text);
	return v;
}

/* ---- rows ---- */

static void expect_request(const char *line, const char *defaults, const char *expected)
{
	struct row r;
	json_t *d = json(defaults), *e = json(expected);

	assert_int_equal(row_parse(&r, line, strlen(line), 0, d), 0);
	if (!json_equal(json_object_get(r.wire, "request"), e))
		fail_msg("%s became %s, expected %s", line, json_dumps(r.wire, 0), expected);
	row_finish(&r);
	json_decref(d);
	json_decref(e);
}

static void expect_refusal(const char *line, const char *code, const char *text)
{
	struct row r;
	json_t *d = json_object();
	const char *message;

	assert_int_equal(row_parse(&r, line, strlen(line), 6, d), 0);
	assert_null(json_object_get(r.wire, "request"));
	message = json_string_value(json_object_get(json_object_get(r.wire, "refused"), "message"));
	assert_string_equal(json_string_value(json_object_get(json_object_get(r.wire, "refused"), "code")), code);
	if (strstr(message, text) == NULL)
		fail_msg("%s was refused as \"%s\", which does not say \"%s\"", line, message, text);
	row_finish(&r);
	json_decref(d);
}

static void plain_lines_are_requests(void **state)
{
	expect_request("{\"prompt\":\"a\",\"max_tokens\":3,\"custom_id\":\"x\"}", "{}", "{\"prompt\":\"a\",\"max_tokens\":3}");
	expect_request("{\"tokens\":[1,2]}", "{\"temperature\":0}", "{\"tokens\":[1,2],\"temperature\":0}");
	expect_request("{\"prompt\":\"a\",\"temperature\":0.5}", "{\"temperature\":0,\"template\":\"none\"}",
		       "{\"prompt\":\"a\",\"temperature\":0.5}");
	expect_request("{\"messages\":[]}", "{\"template\":\"none\"}", "{\"messages\":[],\"template\":\"none\"}");
	expect_request("{\"prompt\":\"a\",\"continuations\":[\"b\"]}", "{}", "{\"prompt\":\"a\",\"continuations\":[\"b\"]}");
}

static void a_model_of_a_line_is_not_mixed_with_default_adapters(void **state)
{
	expect_request("{\"prompt\":\"a\",\"model\":\"m\"}", "{\"adapters\":{\"x\":1}}", "{\"prompt\":\"a\",\"model\":\"m\"}");
	expect_request("{\"prompt\":\"a\"}", "{\"adapters\":{\"x\":1}}", "{\"prompt\":\"a\",\"adapters\":{\"x\":1}}");
}

#define CHAT(body) "{\"custom_id\":\"1\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":" body "}"
#define COMPLETION(body) "{\"custom_id\":\"1\",\"method\":\"POST\",\"url\":\"/v1/completions\",\"body\":" body "}"
#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

static void chat_lines_are_translated(void **state)
{
	expect_request(
		CHAT("{" HI
		     ",\"model\":\"m\",\"max_completion_tokens\":5,\"stop\":\"x\",\"user\":\"u\",\"stream\":false,\"tools\":[]}"),
		"{}", "{" HI ",\"model\":\"m\",\"max_tokens\":5,\"stop\":[\"x\"]}");
	expect_request(CHAT("{" HI ",\"logprobs\":true,\"top_logprobs\":3}"), "{}", "{" HI ",\"logprobs\":3}");
	expect_request(CHAT("{" HI ",\"logprobs\":true}"), "{}", "{" HI ",\"logprobs\":0}");
	expect_request(CHAT("{" HI ",\"logprobs\":false,\"top_logprobs\":null,\"n\":2,\"best_of\":2,\"stop\":null}"), "{}",
		       "{" HI ",\"n\":2}");
	expect_request(CHAT("{\"messages\":[{\"role\":\"developer\",\"content\":\"s\"},{\"role\":\"user\",\"content\":[{\"type\":"
			    "\"text\",\"text\":\"a\"},{\"type\":"
			    "\"text\",\"text\":\"b\"}]}],\"top_k\":7,\"adapters\":{\"q\":-1}}"),
		       "{}",
		       "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"ab\"}],\"top_k\":7,"
		       "\"adapters\":{\"q\":-1}}");
	expect_request(CHAT("{" HI ",\"response_format\":{\"type\":\"text\"},\"max_tokens\":4,\"max_completion_tokens\":4}"), "{}",
		       "{" HI ",\"max_tokens\":4}");
}

static void completion_lines_are_translated(void **state)
{
	expect_request(COMPLETION("{\"prompt\":\"a\",\"logprobs\":2,\"echo\":true}"), "{}",
		       "{\"prompt\":\"a\",\"logprobs\":2,\"echo\":true,\"max_tokens\":16}");
	expect_request(COMPLETION("{\"prompt\":[1,2],\"max_tokens\":1}"), "{}", "{\"tokens\":[1,2],\"max_tokens\":1}");
	expect_request(COMPLETION("{\"prompt\":[[1,2]],\"max_tokens\":1}"), "{}", "{\"tokens\":[1,2],\"max_tokens\":1}");
	expect_request(COMPLETION("{\"prompt\":[\"a\"],\"max_tokens\":1,\"suffix\":null}"), "{}",
		       "{\"prompt\":\"a\",\"max_tokens\":1}");
}

static void what_cannot_be_done_is_refused_with_its_key(void **state)
{
	expect_refusal("{\"prompt\":", "invalid_argument", "line 7 is no JSON object");
	expect_refusal("[1]", "invalid_argument", "line 7 is no JSON object");
	expect_refusal("{\"prompt\":\"a\",\"prompt\":\"b\"}", "invalid_argument", "duplicate");
	expect_refusal("{\"text\":\"a\"}", "invalid_argument", "prompt, messages or tokens");
	expect_refusal("{\"prompt\":\"a\",\"op\":\"hello\"}", "invalid_argument", "op:");
	expect_refusal("{\"prompt\":\"a\",\"key\":\"b\"}", "invalid_argument", "key:");
	expect_refusal("{\"prompt\":\"a\",\"custom_id\":7}", "invalid_argument", "custom_id");
	expect_refusal(CHAT("{}"), "invalid_argument", "messages");
	expect_refusal(CHAT("7"), "invalid_argument", "body");
	expect_refusal(CHAT("{" HI ",\"stream\":true}"), "unsupported", "stream");
	expect_refusal(CHAT("{" HI ",\"tools\":[{}]}"), "unsupported", "tools");
	expect_refusal(CHAT("{" HI ",\"response_format\":{\"type\":\"json_object\"}}"), "unsupported", "response_format");
	expect_refusal(CHAT("{" HI ",\"best_of\":2}"), "unsupported", "best_of");
	expect_refusal(CHAT("{" HI ",\"top_logprobs\":2}"), "invalid_argument", "top_logprobs");
	expect_refusal(CHAT("{" HI ",\"logprobs\":2}"), "invalid_argument", "logprobs");
	expect_refusal(CHAT("{" HI ",\"max_tokens\":2,\"max_completion_tokens\":3}"), "invalid_argument", "differ");
	expect_refusal(CHAT("{" HI ",\"max_tokens\":0}"), "invalid_argument", "max_tokens");
	expect_refusal(CHAT("{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}"), "unsupported",
		       "content");
	expect_refusal(CHAT("{" HI "},\"extra\":1"), "invalid_argument", "extra");
	expect_refusal(COMPLETION("{\"prompt\":[\"a\",\"b\"]}"), "unsupported", "one prompt");
	expect_refusal(COMPLETION("{\"prompt\":[]}"), "invalid_argument", "prompt");
	expect_refusal("{\"custom_id\":\"1\",\"method\":\"GET\",\"url\":\"/v1/completions\",\"body\":{}}", "invalid_argument",
		       "method");
	expect_refusal("{\"custom_id\":\"1\",\"method\":\"POST\",\"url\":\"/v1/embeddings\",\"body\":{}}", "unsupported", "url");
}

/* ---- records ---- */

/* A row's line, sent and come back as a record of the server. */
static json_t *come_back(const char *line, const char *rest, bool *error)
{
	struct row r;
	json_t *none = json_object(), *record = json(rest), *out;

	assert_int_equal(row_parse(&r, line, strlen(line), 0, none), 0);
	json_object_set(record, "custom_id", json_object_get(r.wire, "custom_id"));
	out = row_record(record, "b", error);
	assert_non_null(out);
	row_finish(&r);
	json_decref(none);
	json_decref(record);
	return out;
}

static void expect_line(const char *line, const char *rest, bool is_error, const char *expected)
{
	bool error;
	json_t *out = come_back(line, rest, &error), *e = json(expected);

	assert_int_equal(error, is_error);
	if (!json_equal(out, e))
		fail_msg("got %s, expected %s", json_dumps(out, 0), expected);
	json_decref(out);
	json_decref(e);
}

#define DONE(choices)                                                                                                              \
	"{\"row\":3,\"cursor\":9,\"job\":12,\"state\":\"done\",\"ended_ms\":5000,\"done\":{\"job\":12,\"state\":\"done\","         \
	"\"choices\":[" choices                                                                                                    \
	"],\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":2,\"cached_tokens\":1},\"digest\":\"d\",\"timing\":{}}}"

static void answers_come_in_the_form_of_their_line(void **state)
{
	expect_line("{\"prompt\":\"a\",\"custom_id\":\"x\"}", DONE("{\"finish\":\"stop\",\"text\":\"t\",\"tokens\":[1]}"), false,
		    "{\"id\":\"b/3/"
		    "9\",\"custom_id\":\"x\",\"row\":3,\"choices\":[{\"finish\":\"stop\",\"text\":\"t\",\"tokens\":[1]}],\"usage\":"
		    "{\"prompt_tokens\":4,"
		    "\"completion_tokens\":2,\"cached_tokens\":1},\"digest\":\"d\"}");
	expect_line(CHAT("{" HI ",\"model\":\"m\"}"), DONE("{\"finish\":\"context\",\"text\":\"t\",\"tokens\":[1]}"), false,
		    "{\"id\":\"b/3/"
		    "9\",\"custom_id\":\"1\",\"error\":null,\"response\":{\"status_code\":200,\"request_id\":\"weft-job-12\","
		    "\"body\":{\"id\":\"chatcmpl-weft-12\","
		    "\"object\":\"chat.completion\",\"created\":5,\"model\":\"m\",\"digest\":\"d\",\"choices\":[{\"index\":0,"
		    "\"message\":{\"role\":\"assistant\",\"content\":\"t\"},"
		    "\"logprobs\":null,\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":2,"
		    "\"total_tokens\":6,\"prompt_tokens_details\":{"
		    "\"cached_tokens\":1}}}}}");
	expect_line(COMPLETION("{\"prompt\":\"a\",\"logprobs\":1}"),
		    DONE("{\"finish\":\"stop_string\",\"text\":\"\xc3\xa9"
			 "b\",\"tokens\":[1,2],\"logprobs\":[{\"token\":1,\"text\":\"\xc3\xa9\",\"logprob\":-1.5,\"top\":[{"
			 "\"text\":\"q\",\"logprob\":-0.5},{\"text\":\"q\",\"logprob\":-2.0}]},{"
			 "\"token\":2,\"text\":\"b\",\"logprob\":-0.25,\"top\":[]}]}"),
		    false,
		    "{\"id\":\"b/3/"
		    "9\",\"custom_id\":\"1\",\"error\":null,\"response\":{\"status_code\":200,\"request_id\":\"weft-job-12\","
		    "\"body\":{\"id\":\"cmpl-weft-12\","
		    "\"object\":\"text_completion\",\"created\":5,\"model\":\"\",\"digest\":\"d\",\"choices\":[{\"index\":0,"
		    "\"text\":\"\xc3\xa9"
		    "b\",\"finish_reason\":\"stop\",\"logprobs\":{\"tokens\":[\"\xc3\xa9\",\"b\"],\"token_logprobs\":[-1.5,-0.25],"
		    "\"top_logprobs\":[{\"q\":-0.5},{}],\"text_offset\":[0,1]}}],"
		    "\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":2,\"total_tokens\":6,\"prompt_tokens_details\":{\"cached_"
		    "tokens\":1}}}}}");
}

static void rows_without_an_answer_are_error_records(void **state)
{
	expect_line(CHAT("{}"),
		    "{\"row\":0,\"cursor\":1,\"job\":2,\"state\":\"failed\",\"done\":{\"state\":\"failed\",\"error\":{\"code\":"
		    "\"invalid_argument\",\"message\":\"no\"}}}",
		    true,
		    "{\"id\":\"b/0/"
		    "1\",\"custom_id\":\"1\",\"response\":null,\"error\":{\"code\":\"invalid_argument\",\"message\":\"no\"}}");
	expect_line(
		"{\"prompt\":\"a\"}",
		"{\"row\":0,\"cursor\":1,\"job\":2,\"state\":\"cancelled\",\"done\":{\"state\":\"cancelled\"}}", true,
		"{\"id\":\"b/0/1\",\"row\":0,\"error\":{\"code\":\"cancelled\",\"message\":\"the row ended without an answer\"}}");
}

static void a_row_of_another_program_keeps_its_custom_id(void **state)
{
	json_t *record = json("{\"row\":1,\"cursor\":2,\"job\":2,\"state\":\"done\",\"custom_id\":\"not "
			      "json\",\"done\":{\"choices\":[]}}"),
	       *out;
	bool error;

	out = row_record(record, "b", &error);
	assert_string_equal(json_string_value(json_object_get(out, "custom_id")), "not json");
	json_decref(out);
	json_decref(record);
}

static void lines_tell_their_place(void **state)
{
	uint64_t row, cursor;

	assert_true(row_place("{\"id\":\"a.b/12/99\"}", "a.b", &row, &cursor));
	assert_int_equal(row, 12);
	assert_int_equal(cursor, 99);
	assert_false(row_place("{\"id\":\"a/12/99\"}", "b", &row, &cursor));
	assert_false(row_place("{\"id\":\"a/12/99x\"}", "a", &row, &cursor));
	assert_false(row_place("{\"id\":\"a/12\"}", "a", &row, &cursor));
	assert_false(row_place("{\"id\":\"a/1", "a", &row, &cursor));
	assert_false(row_place("[]", "a", &row, &cursor));
}

/* ---- output files ---- */

static char folder[64], output[96], errors[112], mark[112];

static int make_folder(void **state)
{
	strcpy(folder, "/tmp/weft-batch-XXXXXX");
	if (mkdtemp(folder) == NULL)
		return -1;
	snprintf(output, sizeof(output), "%s/out", folder);
	snprintf(errors, sizeof(errors), "%s.errors", output);
	snprintf(mark, sizeof(mark), "%s.weft", output);
	return 0;
}

static int remove_folder(void **state)
{
	unlink(output);
	unlink(errors);
	unlink(mark);
	return rmdir(folder);
}

static void line_of(char text[64], uint64_t cursor)
{
	snprintf(text, 64, "{\"id\":\"b/%" PRIu64 "/%" PRIu64 "\",\"x\":\"%0*d\"}", cursor * 7, cursor, (int)(cursor % 20), 0);
}

static bool is_error(uint64_t cursor)
{
	return cursor % 5 == 3;
}

/* Goes on to `to`, in pages of three. Returns how many records were asked for. */
static uint64_t fill(uint64_t to)
{
	struct ledger l;
	char why[512], text[64];
	uint64_t asked = 0;

	if (ledger_open(&l, output, NULL, "b", false, why) < 0)
		fail_msg("%s", why);
	for (uint64_t c = l.cursor + 1; c <= to; c++) {
		line_of(text, c);
		asked++;
		assert_int_equal(ledger_put(&l, text, c, is_error(c)), 0);
		if (c % 3 == 0 || c == to)
			assert_int_equal(ledger_sync(&l, c), 0);
	}
	assert_int_equal(ledger_close(&l), 0);
	return asked;
}

static void expect_file(const char *path, uint64_t to, bool wants_errors)
{
	char line[128], text[64];
	FILE *f = fopen(path, "r");

	assert_non_null(f);
	for (uint64_t c = 1; c <= to; c++) {
		if (is_error(c) != wants_errors)
			continue;
		line_of(text, c);
		if (fgets(line, sizeof(line), f) == NULL)
			fail_msg("%s ends before %s", path, text);
		line[strcspn(line, "\n")] = 0;
		assert_string_equal(line, text);
	}
	if (fgets(line, sizeof(line), f) != NULL)
		fail_msg("%s has more: %s", path, line);
	fclose(f);
}

static void cut(const char *path, off_t bytes)
{
	struct stat st;

	if (stat(path, &st) == 0 && truncate(path, st.st_size > bytes ? st.st_size - bytes : 0) < 0)
		fail_msg("truncate");
}

/* Whatever a crash left of the two files and of the mark: each record stands once, in order. */
static void files_that_were_cut_anywhere_become_whole(void **state)
{
	srand(7);
	for (int round = 0; round < 200; round++) {
		uint64_t n = 1 + (uint64_t)(rand() % 40);
		fill(n);
		if (rand() % 2)
			cut(output, rand() % 200);
		if (rand() % 2)
			cut(errors, rand() % 200);
		if (rand() % 3 == 0)
			unlink(mark);
		if (rand() % 9 == 0)
			unlink(output);
		n += (uint64_t)(rand() % 10);
		fill(n);
		expect_file(output, n, false);
		expect_file(errors, n, true);
		unlink(output);
		unlink(errors);
		unlink(mark);
	}
}

static void whole_files_are_not_fetched_again(void **state)
{
	fill(31); /* the last error is 28: without the mark, all behind it would be asked for again */
	assert_int_equal(fill(31), 0);
	assert_int_equal(fill(32), 1);
}

static void another_batchs_output_is_left_alone(void **state)
{
	struct ledger l;
	char why[512];

	fill(4);
	assert_int_equal(ledger_open(&l, output, NULL, "other", false, why), -1);
	assert_non_null(strstr(why, "another batch"));
	ledger_close(&l);
	unlink(mark);
	assert_int_equal(ledger_open(&l, output, NULL, "other", false, why), -1);
	assert_non_null(strstr(why, "not this batch's"));
	ledger_close(&l);
	expect_file(output, 4, false);
	fill(4);
	assert_int_equal(ledger_open(&l, output, NULL, "b", true, why), -1);
	assert_non_null(strstr(why, "order"));
	ledger_close(&l);
}

static void a_full_disk_is_reported(void **state)
{
	struct ledger l;
	char why[512];

	if (access("/dev/full", W_OK) != 0)
		skip();
	if (ledger_open(&l, output, NULL, "b", false, why) < 0)
		fail_msg("%s", why);
	assert_non_null(freopen("/dev/full", "w", l.out.f));
	ledger_put(&l, "x", 1, false);
	assert_int_equal(ledger_sync(&l, 1), -1);
	ledger_close(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_lines_are_requests),
		cmocka_unit_test(a_model_of_a_line_is_not_mixed_with_default_adapters),
		cmocka_unit_test(chat_lines_are_translated),
		cmocka_unit_test(completion_lines_are_translated),
		cmocka_unit_test(what_cannot_be_done_is_refused_with_its_key),
		cmocka_unit_test(answers_come_in_the_form_of_their_line),
		cmocka_unit_test(rows_without_an_answer_are_error_records),
		cmocka_unit_test(a_row_of_another_program_keeps_its_custom_id),
		cmocka_unit_test(lines_tell_their_place),
		cmocka_unit_test_setup_teardown(files_that_were_cut_anywhere_become_whole, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(whole_files_are_not_fetched_again, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(another_batchs_output_is_left_alone, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(a_full_disk_is_reported, make_folder, remove_folder),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
