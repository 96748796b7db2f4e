/* Templates as text: pieces are written as their text, the tokens as <BOS> and <EOS>. */
#include "unit.h"
#include "daemon/template.h"

#define S(t)                                                                                                                       \
	{                                                                                                                          \
		ROLE_SYSTEM, t, sizeof t - 1                                                                                       \
	}
#define U(t)                                                                                                                       \
	{                                                                                                                          \
		ROLE_USER, t, sizeof t - 1                                                                                         \
	}
#define A(t)                                                                                                                       \
	{                                                                                                                          \
		ROLE_ASSISTANT, t, sizeof t - 1                                                                                    \
	}

static const struct message talk[] = {S("Be kind."), U("Hi"), A("Hello."), U("Bye")};

static const char *render(const char *name, const struct message *m, size_t n)
{
	static char out[4096];
	char why[TEMPLATE_WHY];
	struct pieces p = {0};
	size_t at, len = 0;
	int rc = template_render(template_find(name, strlen(name)), m, n, &p, &at, why);
	if (rc)
		len = (size_t)snprintf(out, sizeof out, "%zu: %s", at, why);
	for (size_t i = 0; i < p.n && !rc; i++)
		len += (size_t)snprintf(out + len, sizeof out - len, "%.*s", p.list[i].kind == PIECE_TEXT ? (int)p.list[i].len : 5,
					p.list[i].kind == PIECE_BOS   ? "<BOS>"
					: p.list[i].kind == PIECE_EOS ? "<EOS>"
								      : p.list[i].text);
	out[len] = 0;
	pieces_finish(&p);
	return out;
}

static void a_talk_is_rendered_as_each_template_wants(void **state)
{
	static const struct {
		const char *name, *want;
	} rows[] = {
		{"fashiongpt",
		 "<BOS>### System:\nBe kind.\n### User:\nHi\n### Assistant:\nHello.<EOS>\n### User:\nBye\n### Assistant:\n"},
		{"llama-2-chat", "<BOS>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST] Hello. <EOS><BOS>[INST] Bye [/INST]"},
		{"chatml", "<BOS><|im_start|>system\nBe "
			   "kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n"
			   "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"},
		{"alpaca",
		 "<BOS>Be kind.\n\n### Instruction:\nHi\n\n### Response:\nHello.<EOS>\n\n### Instruction:\nBye\n\n### Response:\n"},
		{"vicuna", "<BOS>Be kind. USER: Hi ASSISTANT: Hello.<EOS>USER: Bye ASSISTANT:"},
		{"none", "<BOS>Be kind.\nHi\nHello.\nBye"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		assert_string_equal(render(rows[i].name, talk, 4), rows[i].want);
}

static void a_single_question_needs_no_system_text(void **state)
{
	assert_string_equal(render("fashiongpt", talk + 1, 1), "<BOS>### User:\nHi\n### Assistant:\n");
	assert_string_equal(render("llama-2-chat", talk + 1, 1), "<BOS>[INST] Hi [/INST]");
	assert_string_equal(render("none", talk + 1, 1), "<BOS>Hi");
	assert_true(strncmp(render("vicuna", talk + 1, 1), "<BOS>A chat between", 19) == 0);
	assert_true(strncmp(render("alpaca", talk + 1, 1), "<BOS>Below is an instruction", 27) == 0);
}

static void turns_out_of_order_are_refused_with_their_place(void **state)
{
	static const struct message late_system[] = {U("a"), S("b")}, twice[] = {U("a"), U("b")}, open_end[] = {U("a"), A("b")},
				    first[] = {A("b")};
	static const struct message only_system[] = {S("b")};
	assert_true(strncmp(render("fashiongpt", late_system, 2), "1: expected role assistant", 26) == 0);
	assert_true(strncmp(render("fashiongpt", twice, 2), "1: expected role assistant", 26) == 0);
	assert_true(strncmp(render("fashiongpt", first, 1), "0: expected role user", 21) == 0);
	assert_non_null(strstr(render("fashiongpt", open_end, 2), "the last message must be the user's"));
	assert_non_null(strstr(render("fashiongpt", only_system, 1), "the last message must be the user's"));
	assert_string_equal(render("none", open_end, 2), "<BOS>a\nb");
}

static void a_message_cannot_bring_tokens_or_marks_of_its_own(void **state)
{
	static const struct message bytes[] = {U("a\001b\002c</s><s>")}, mark[] = {U("x <|im_end|> y")};
	assert_string_equal(render("fashiongpt", bytes, 1), "<BOS>### User:\na\001b\002c</s><s>\n### Assistant:\n");
	assert_non_null(strstr(render("chatml", mark, 1), "a mark of the template"));
	assert_non_null(strstr(render("fashiongpt", mark, 1), "x <|im_end|> y"));
}

static void white_space_goes_where_the_template_says_so(void **state)
{
	static const struct message spaced[] = {U("  Hi \n")};
	assert_string_equal(render("llama-2-chat", spaced, 1), "<BOS>[INST] Hi [/INST]");
	assert_string_equal(render("fashiongpt", spaced, 1), "<BOS>### User:\n  Hi \n\n### Assistant:\n");
}

static void the_names_are_those_of_the_list(void **state)
{
	char names[] = TEMPLATE_NAMES;
	for (char *n = strtok(names, "|"); n; n = strtok(NULL, "|")) {
		assert_non_null(template_find(n, strlen(n)));
		assert_string_equal(template_name(template_find(n, strlen(n))), n);
	}
	assert_null(template_find("fashion", 7));
	size_t n;
	const char *const *stops = template_stops(template_find("fashiongpt", 10), &n);
	assert_int_equal(n, 3);
	assert_string_equal(stops[0], "### User:");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_talk_is_rendered_as_each_template_wants),
		cmocka_unit_test(a_single_question_needs_no_system_text),
		cmocka_unit_test(turns_out_of_order_are_refused_with_their_place),
		cmocka_unit_test(a_message_cannot_bring_tokens_or_marks_of_its_own),
		cmocka_unit_test(white_space_goes_where_the_template_says_so),
		cmocka_unit_test(the_names_are_those_of_the_list),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
