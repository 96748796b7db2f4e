/* sample: the decoder that draws answers. */
#include "decoders.h"

static const struct weft_plugin *plugin;

static int load(void **state)
{
	plugin = fake_load("sample");
	return 0;
}

static void expect_text(const struct weft_job *j, uint32_t choice, const char *text, uint32_t finish)
{
	const struct fake_answer *a = j->answers[choice];

	if (a->len != strlen(text) || memcmp(a->text, text, a->len) || a->finish != finish)
		fail_msg("choice %u: \"%.*s\", finish %u, and not \"%s\", finish %u", choice, (int)a->len, a->text, a->finish, text,
			 finish);
	if (!a->agreed)
		fail_msg("\"%s\": a delta's text is not that of its tokens", text);
}

/* Runs the script with these values; the caller frees the job. */
static struct weft_job *say(struct script *s, const struct weft_value *v)
{
	struct weft_job *j = script_job(s);

	assert_int_equal(fake_run(j, plugin, v, 200), 0);
	return j;
}

/* ---- ends ---- */

static void the_end_of_text_token_ends_the_answer_and_shows_no_text(void **state)
{
	struct script s = script_of((const char *[]){"Hel", "lo", " you"}, 3);
	struct weft_value *v = fake_values(plugin);
	struct weft_job *j = say(&s, v);

	expect_text(j, 0, "Hello you", WEFT_FINISH_STOP);
	assert_int_equal(j->answers[0]->n, 4);
	assert_int_equal(j->answers[0]->tokens[3].token, EOS);
	assert_int_equal(j->answers[0]->deltas, 4);
	assert_int_equal(j->rows, 4); /* what ends the answer is not fed */
	fake_job_free(j);
	fake_values_free(plugin, v);
}

static void a_stop_token_ends_the_answer_and_shows_no_text(void **state)
{
	struct script s = script_of((const char *[]){"Hel", "lo", " you"}, 3);
	struct weft_value *v = fake_values(plugin);
	struct weft_job *j;

	fake_set_ints(plugin, v, "stop_token_ids", (int64_t[]){FIRST + 2, FIRST + 1}, 2);
	j = say(&s, v);
	expect_text(j, 0, "Hel", WEFT_FINISH_STOP);
	assert_int_equal(j->answers[0]->n, 2);
	assert_int_equal(j->answers[0]->tokens[1].token, FIRST + 1);
	fake_job_free(j);
	fake_values_free(plugin, v);
}

static void ignored_the_end_of_text_token_is_one_like_any_other(void **state)
{
	struct script s = script_of((const char *[]){"a"}, 1);
	struct weft_value *v = fake_values(plugin);
	struct weft_job *j;

	fake_set(plugin, v, "ignore_eos", 1);
	fake_set(plugin, v, "max_tokens", 7);
	j = say(&s, v);
	expect_text(j, 0, "a", WEFT_FINISH_LENGTH);
	assert_int_equal(j->answers[0]->n, 7);
	fake_job_free(j);
	fake_values_free(plugin, v);
}

static void an_answer_ends_with_max_tokens_or_with_the_context(void **state)
{
	struct script s = script_of((const char *[]){"a", "b", "c", "d", "e", "f", "g", "h"}, 8);
	struct weft_value *v = fake_values(plugin);
	struct weft_job *j;

	fake_set(plugin, v, "max_tokens", 3);
	j = say(&s, v);
	expect_text(j, 0, "abc", WEFT_FINISH_LENGTH);
	fake_job_free(j);
	s.m.context = 6; /* one token of prompt, five of answer */
	fake_set(plugin, v, "max_tokens", 0);
	j = say(&s, v);
	expect_text(j, 0, "abcde", WEFT_FINISH_CONTEXT);
	assert_int_equal(j->answers[0]->n, 5);
	fake_job_free(j);
	fake_set(plugin, v, "max_tokens", 5); /* both at once: it is the limit that was asked for */
	j = say(&s, v);
	expect_text(j, 0, "abcde", WEFT_FINISH_LENGTH);
	fake_job_free(j);
	fake_values_free(plugin, v);
}

/* ---- stop strings ---- */

struct stop_case {
	const char *text;
	const char *stops[4];
	const char *want;
	uint32_t finish;
};

static const struct stop_case stop_cases[] = {
	{"abcabd###end", {"###"}, "abcabd", WEFT_FINISH_STOP_STRING},
	{"abcd!", {"abcd", "bc"}, "a", WEFT_FINISH_STOP_STRING},  /* bc is complete first */
	{"xabcd!", {"cd", "abcd"}, "x", WEFT_FINISH_STOP_STRING}, /* both are complete at d: the longest */
	{"aaab", {"aab"}, "a", WEFT_FINISH_STOP_STRING},
	{"ababac!", {"abac"}, "ab", WEFT_FINISH_STOP_STRING},
	{"ab##", {"###"}, "ab##", WEFT_FINISH_STOP}, /* held, and sent at the end */
	{"a##b##c", {"###"}, "a##b##c", WEFT_FINISH_STOP},
	{"###a", {"###"}, "", WEFT_FINISH_STOP_STRING},
	{"\xc3\xa9t\xc3\xa9!", {"t\xc3\xa9"}, "\xc3\xa9", WEFT_FINISH_STOP_STRING},
	{"a\xe2\x82\xac\xe2\x82\xad.", {"\xe2\x82\xad"}, "a\xe2\x82\xac", WEFT_FINISH_STOP_STRING},
	{"\xf0\x9f\x91\x97 ok", {"no"}, "\xf0\x9f\x91\x97 ok", WEFT_FINISH_STOP},
	{"a\n### User:", {"\n### User:", "### User:"}, "a", WEFT_FINISH_STOP_STRING},
};

/* Every way in which the text falls into tokens, pieces of characters included, gives the same answer. */
static void the_answer_does_not_depend_on_how_its_text_falls_into_tokens(void **state)
{
	for (size_t k = 0; k < sizeof(stop_cases) / sizeof(stop_cases[0]); k++) {
		const struct stop_case *t = &stop_cases[k];
		size_t len = strlen(t->text), n_stops = 0;
		struct weft_value *v = fake_values(plugin);

		while (n_stops < 4 && t->stops[n_stops])
			n_stops++;
		fake_set_strings(plugin, v, "stop", t->stops, n_stops);
		for (uint32_t cuts = 0; cuts < 1u << (len - 1); cuts++) {
			char pieces[32][32] = {{0}};
			const char *list[32];
			struct script s;
			struct weft_job *j;
			uint32_t n = 0;

			for (size_t i = 0, at = 0; i < len; i++) {
				pieces[n][at++] = t->text[i];
				list[n] = pieces[n];
				if (i + 1 == len || cuts >> i & 1) {
					n++;
					at = 0;
				}
			}
			s = script_of(list, n);
			j = say(&s, v);
			for (uint32_t i = 0; i < n && !j->answers[0]->agreed; i++)
				print_error("piece %u: \"%s\"\n", i, pieces[i]);
			expect_text(j, 0, t->want, t->finish);
			fake_job_free(j);
		}
		fake_values_free(plugin, v);
	}
}

static void an_answer_goes_on_from_saved_bytes_as_if_nothing_had_happened(void **state)
{
	struct script s = script_of((const char *[]){"a", "b#", "\xe2", "\x82", "\xac#", "#", "c#", "##d"}, 8);
	struct weft_value *v = fake_values(plugin);

	fake_set_strings(plugin, v, "stop", (const char *[]){"###", "\xac\xac"}, 2);
	fake_set(plugin, v, "logprobs", 5);
	fake_set(plugin, v, "echo", 1);
	fake_set(plugin, v, "n", 3);
	for (int restless = 0; restless <= 1; restless++) {
		struct weft_job *j = script_job(&s);

		j->restless = restless;
		assert_int_equal(fake_run(j, plugin, v, 200), 0);
		for (uint32_t i = 0; i < 3; i++) {
			expect_text(j, i, "ab#\xe2\x82\xac##c", WEFT_FINISH_STOP_STRING);
			assert_int_equal(j->answers[i]->n, 9);
			assert_int_equal(j->answers[i]->deltas, 5); /* prompt | a | b# | the euro sign and ## | c */
			assert_true(j->answers[i]->tokens[0].null && !j->answers[i]->tokens[1].null);
			for (int k = 1; k < 9; k++)
				assert_int_equal(j->answers[i]->tokens[k].top[0].token, j->answers[i]->tokens[k].token);
		}
		fake_job_free(j);
	}
	fake_values_free(plugin, v);
}

static void text_is_sent_as_soon_as_it_can_be_no_stop_string(void **state)
{
	struct script s = script_of((const char *[]){"ab", "c#", "#", "d", "e"}, 5);
	struct weft_value *v = fake_values(plugin);
	struct weft_job *j;

	fake_set_strings(plugin, v, "stop", (const char *[]){"###"}, 1);
	j = say(&s, v);
	expect_text(j, 0, "abc##de", WEFT_FINISH_STOP);
	assert_int_equal(j->answers[0]->deltas, 4); /* ab | c##d | e | end */
	fake_job_free(j);
	fake_values_free(plugin, v);
}

static void all_drawn_tokens_are_sent_also_those_of_a_stop_string(void **state)
{
	struct script s = script_of((const char *[]){"a", "b#", "#", "#c", "d"}, 5);
	struct weft_value *v = fake_values(plugin);
	struct weft_job *j;

	fake_set_strings(plugin, v, "stop", (const char *[]){"###"}, 1);
	j = say(&s, v);
	expect_text(j, 0, "ab", WEFT_FINISH_STOP_STRING);
	assert_int_equal(j->answers[0]->n, 4);
	for (int32_t i = 0; i < 4; i++)
		assert_int_equal(j->answers[0]->tokens[i].token, FIRST + i);
	fake_job_free(j);
	fake_values_free(plugin, v);
}

static void before_min_tokens_nothing_ends_the_answer(void **state)
{
	struct script s = script_of((const char *[]){"a", "#", "#", "b", "#", "c"}, 6);
	struct weft_value *v = fake_values(plugin);
	struct weft_job *j;

	fake_set_strings(plugin, v, "stop", (const char *[]){"#"}, 1);
	fake_set_ints(plugin, v, "stop_token_ids", (int64_t[]){FIRST + 1}, 1);
	fake_set(plugin, v, "min_tokens", 3);
	j = say(&s, v);
	expect_text(j, 0, "a##b", WEFT_FINISH_STOP_STRING);
	fake_job_free(j);
	fake_values_free(plugin, v);
}

static void an_unfinished_character_at_the_end_becomes_a_replacement(void **state)
{
	struct script s = script_of((const char *[]){"a", "\xe2", "\x82"}, 3);
	struct weft_value *v = fake_values(plugin);
	struct weft_job *j = say(&s, v);

	assert_int_equal(j->answers[0]->finish, WEFT_FINISH_STOP);
	assert_int_equal(j->answers[0]->len, 7);
	assert_memory_equal(j->answers[0]->text, "a\xef\xbf\xbd\xef\xbf\xbd", 7);
	assert_int_equal(j->answers[0]->n, 4);
	fake_job_free(j);
	fake_values_free(plugin, v);
}

/* ---- choices ---- */

static const int32_t prompt[] = {BOS, 5, 17, 9, 33};
enum { PROMPT = 5 };

static struct weft_job *draw_some(const struct weft_value *v, uint64_t seed)
{
	struct weft_job *j = fake_job(random_model(), prompt, PROMPT);

	j->seed = seed;
	assert_int_equal(fake_run(j, plugin, v, 200), 0);
	return j;
}

static void choices_share_the_prompt_and_the_first_is_that_of_a_lone_answer(void **state)
{
	struct weft_value *v = fake_values(plugin);
	int early = 0, distinct = 0;

	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct weft_job *alone, *all;
		uint64_t fed = PROMPT;

		fake_set(plugin, v, "max_tokens", 20);
		fake_set(plugin, v, "n", 1);
		alone = draw_some(v, seed);
		fake_set(plugin, v, "n", 8);
		all = draw_some(v, seed);
		assert_int_equal(all->answers[0]->n, alone->answers[0]->n);
		for (uint64_t i = 0; i < alone->answers[0]->n; i++)
			assert_int_equal(all->answers[0]->tokens[i].token, alone->answers[0]->tokens[i].token);
		for (int c = 0; c < 8; c++) {
			assert_int_not_equal(all->answers[c]->finish, 0);
			fed += all->answers[c]->n - 1;
			early += all->answers[c]->n < 20;
			distinct += c && (all->answers[c]->len != all->answers[0]->len ||
					  memcmp(all->answers[c]->text, all->answers[0]->text, all->answers[0]->len));
		}
		assert_int_equal(all->rows, fed);
		assert_true(all->most_seqs <= 8);
		fake_job_free(alone);
		fake_job_free(all);
	}
	assert_true(early > 10 && distinct > 100); /* the cases that matter were there */
	fake_values_free(plugin, v);
}

/* The end of text is the likeliest first token, and likely later. */
static void hasty_logits(void *arg, const int32_t *tokens, uint64_t n, float *out)
{
	random_logits(arg, tokens, n, out);
	out[EOS] = n == PROMPT ? 9 : 7;
}

static void a_choice_that_ends_gives_its_sequence_back_and_leaves_the_others_alone(void **state)
{
	struct fake_model m = *random_model();
	struct weft_value *v = fake_values(plugin);

	m.logits = hasty_logits;
	fake_set(plugin, v, "n", 8);
	for (uint64_t seed = 1; seed <= 30; seed++) {
		struct weft_job *j = fake_job(&m, prompt, PROMPT);
		uint64_t longest = 0, fed = PROMPT, last = 0, live = 0;

		j->seed = seed;
		assert_int_equal(fake_run(j, plugin, v, 100), 0);
		for (int c = 0; c < 8; c++) {
			longest = j->answers[c]->n > longest ? j->answers[c]->n : longest;
			fed += j->answers[c]->n - 1;
		}
		for (int c = 0; c < 8; c++)
			last += j->answers[c]->n == longest;
		for (uint32_t i = 0; i < j->n_seqs; i++)
			live += j->seqs[i].live;
		assert_int_equal(j->rows, fed);
		assert_int_equal(live, longest > 1 ? last : 1); /* those of the choices that ended last */
		fake_job_free(j);
	}
	fake_values_free(plugin, v);
}

static void choices_go_on_from_saved_bytes_on_their_own_sequences(void **state)
{
	struct weft_value *v = fake_values(plugin);
	struct fake_model m = *random_model();

	fake_set(plugin, v, "n", 6);
	fake_set(plugin, v, "max_tokens", 12);
	for (uint64_t seed = 1; seed <= 5; seed++) {
		struct weft_job *a = fake_job(&m, prompt, PROMPT), *b = fake_job(&m, prompt, PROMPT);

		m.logits = seed % 2 ? hasty_logits : random_logits;
		a->seed = b->seed = seed;
		b->restless = true;
		assert_int_equal(fake_run(a, plugin, v, 100), 0);
		assert_int_equal(fake_run(b, plugin, v, 100), 0);
		assert_int_equal(a->rows, b->rows);
		for (int c = 0; c < 6; c++) {
			assert_int_equal(a->answers[c]->n, b->answers[c]->n);
			assert_int_equal(a->answers[c]->len, b->answers[c]->len);
			assert_memory_equal(a->answers[c]->text, b->answers[c]->text, a->answers[c]->len);
		}
		fake_job_free(a);
		fake_job_free(b);
	}
	fake_values_free(plugin, v);
}

static void samplers_see_each_choice_apart(void **state)
{
	const struct weft_plugin *greedy = fake_load("temperature");
	struct weft_value *v = fake_values(plugin), *g = fake_values(greedy);
	struct weft_job *j = fake_job(random_model(), prompt, PROMPT);

	fake_set(plugin, v, "max_tokens", 6);
	fake_set(plugin, v, "n", 3);
	fake_set(greedy, g, "temperature", 0);
	fake_chain_add(j, greedy, g);
	assert_int_equal(fake_run(j, plugin, v, 200), 0);
	for (int c = 0; c < 3; c++) {
		int32_t so_far[PROMPT + 6], best;

		memcpy(so_far, prompt, sizeof(prompt));
		for (uint64_t i = 0; i < j->answers[c]->n; i++) {
			random_logprob(so_far, PROMPT + i, 0, &best);
			assert_int_equal(j->answers[c]->tokens[i].token, best);
			so_far[PROMPT + i] = best;
		}
	}
	fake_job_free(j);
	fake_values_free(plugin, v);
	fake_values_free(greedy, g);
}

/* ---- log-probabilities and echo ---- */

/* Checks tokens[from .. n) of an answer that follows `before` tokens against the definition. */
static void expect_logprobs(const struct fake_token *tokens, uint64_t n, const int32_t *before, uint64_t n_before, uint32_t top)
{
	int32_t so_far[256], best;

	memcpy(so_far, before, n_before * sizeof(before[0]));
	for (uint64_t i = 0; i < n; i++) {
		double want = random_logprob(so_far, n_before + i, tokens[i].token, &best);

		assert_false(tokens[i].null);
		assert_true(fabs(tokens[i].logprob - want) < 1e-5);
		assert_int_equal(tokens[i].greedy, tokens[i].token == best);
		assert_int_equal(tokens[i].n_top, top);
		for (uint32_t k = 0; k < top; k++) {
			double p = random_logprob(so_far, n_before + i, tokens[i].top[k].token, &best);

			assert_true(fabs(tokens[i].top[k].logprob - p) < 1e-5);
			assert_true(k == 0 || tokens[i].top[k - 1].logprob >= tokens[i].top[k].logprob);
		}
		if (top)
			assert_int_equal(tokens[i].top[0].token, best);
		so_far[n_before + i] = tokens[i].token;
	}
}

static void logprobs_come_with_each_token_and_only_when_asked_for(void **state)
{
	for (int k = -1; k <= 20; k += 7) {
		struct weft_value *v = fake_values(plugin);
		struct weft_job *j;

		fake_set(plugin, v, "max_tokens", 12);
		fake_set(plugin, v, "n", 3);
		fake_set(plugin, v, "logprobs", k);
		j = draw_some(v, 4);
		for (int c = 0; c < 3; c++) {
			assert_int_equal(j->answers[c]->has_logprobs, k >= 0);
			if (k >= 0)
				expect_logprobs(j->answers[c]->tokens, j->answers[c]->n, prompt, PROMPT, (uint32_t)k);
		}
		assert_int_equal(j->n_scores, 0);
		fake_job_free(j);
		fake_values_free(plugin, v);
	}
}

static void echo_puts_the_prompt_before_every_choice(void **state)
{
	struct weft_value *v = fake_values(plugin);
	struct weft_job *j;

	fake_set(plugin, v, "max_tokens", 5);
	fake_set(plugin, v, "n", 3);
	fake_set(plugin, v, "echo", 1);
	j = draw_some(v, 2);
	for (int c = 0; c < 3; c++) {
		const struct fake_answer *a = j->answers[c];

		assert_memory_equal(a->text, "5 17 9 33", 9); /* without the leading space */
		for (int i = 0; i < PROMPT; i++)
			assert_int_equal(a->tokens[i].token, prompt[i]);
		assert_true(a->n > PROMPT && a->n <= PROMPT + 5);
		assert_false(a->has_logprobs);
	}
	fake_job_free(j);
	fake_values_free(plugin, v);
}

/* What lm-evaluation-harness asks for: the prompt's log-probabilities, and one greedy token. */
static void echo_with_logprobs_has_those_of_the_prompt_and_null_first(void **state)
{
	struct weft_value *v = fake_values(plugin);
	struct weft_job *j;
	const struct fake_answer *a;

	fake_set(plugin, v, "max_tokens", 1);
	fake_set(plugin, v, "echo", 1);
	fake_set(plugin, v, "logprobs", 2);
	j = draw_some(v, 2);
	a = j->answers[0];
	assert_int_equal(a->n, PROMPT + 1);
	assert_true(a->tokens[0].null && a->tokens[0].n_top == 0 && a->tokens[0].token == prompt[0]);
	expect_logprobs(a->tokens + 1, a->n - 1, prompt, 1, 2);
	for (uint64_t i = 1; i < a->n; i++) /* is_greedy is told by exact equality */
		assert_int_equal(a->tokens[i].greedy, a->tokens[i].logprob == a->tokens[i].top[0].logprob);
	fake_job_free(j);
	fake_values_free(plugin, v);
}

static void prompt_logprobs_are_a_score_of_their_own(void **state)
{
	for (uint32_t top = 3; top <= 11; top += 8) { /* fewer and more than those of the answer */
		struct weft_value *v = fake_values(plugin);
		struct weft_job *j;
		double sum = 0;

		fake_set(plugin, v, "max_tokens", 2);
		fake_set(plugin, v, "n", 2);
		fake_set(plugin, v, "logprobs", 7);
		fake_set(plugin, v, "prompt_logprobs", top);
		j = draw_some(v, 2);
		assert_int_equal(j->n_scores, 1);
		assert_int_equal(j->scores[0].n, PROMPT);
		assert_true(j->scores[0].first_null && j->scores[0].index == 0 && j->scores[0].tokens[0].token == prompt[0]);
		expect_logprobs(j->scores[0].tokens + 1, PROMPT - 1, prompt, 1, top);
		for (int i = 1; i < PROMPT; i++)
			sum += j->scores[0].tokens[i].logprob;
		assert_true(sum == j->scores[0].logprob);
		expect_logprobs(j->answers[1]->tokens, j->answers[1]->n, prompt, PROMPT, 7);
		fake_job_free(j);
		fake_values_free(plugin, v);
	}
}

static void a_long_echo_comes_in_pieces_that_join(void **state)
{
	static int32_t longer[1300];
	struct fake_model m = *random_model();
	struct weft_value *v = fake_values(plugin);
	struct weft_job *j;

	for (int i = 0; i < 1300; i++)
		longer[i] = 2 + i * 7 % 48;
	m.context = 2000;
	j = fake_job(&m, longer, 1300);
	fake_set(plugin, v, "max_tokens", 1);
	fake_set(plugin, v, "echo", 1);
	fake_set(plugin, v, "logprobs", 0);
	assert_int_equal(fake_run(j, plugin, v, 10), 0);
	assert_int_equal(j->answers[0]->n, 1301);
	assert_true(j->answers[0]->deltas >= 4);
	for (int i = 0; i < 1300; i++) {
		assert_int_equal(j->answers[0]->tokens[i].token, longer[i]);
		assert_int_equal(j->answers[0]->tokens[i].null, i == 0);
	}
	fake_job_free(j);
	fake_values_free(plugin, v);
}

/* ---- refusals ---- */

static void expect_refused(const char *why, struct weft_value *v, uint64_t n_prompt)
{
	static const int32_t tokens[4097] = {0};
	struct fake_model m = *random_model();
	struct weft_job *j;

	m.context = n_prompt > 64 ? 5000 : 64;
	j = fake_job(&m, tokens, n_prompt);

	assert_int_equal(fake_run(j, plugin, v, 1), WEFT_EINVAL);
	if (!strstr(j->failed, why))
		fail_msg("\"%s\" does not say \"%s\"", j->failed, why);
	fake_job_free(j);
	fake_values_free(plugin, v);
}

static void what_cannot_be_is_refused_with_the_reason(void **state)
{
	char longest[258];
	struct weft_value *v = fake_values(plugin);

	memset(longest, 'x', 257);
	longest[257] = 0;
	fake_set_strings(plugin, v, "stop", (const char *[]){"a", ""}, 2);
	expect_refused("stop: each string must have 1 to 256 bytes", v, 3);
	v = fake_values(plugin);
	fake_set_strings(plugin, v, "stop", (const char *[]){longest}, 1);
	expect_refused("stop: each string must have 1 to 256 bytes", v, 3);
	v = fake_values(plugin);
	fake_set_ints(plugin, v, "stop_token_ids", (int64_t[]){RANDOM_VOCAB}, 1);
	expect_refused("stop_token_ids", v, 3);
	v = fake_values(plugin);
	fake_set(plugin, v, "min_tokens", 5);
	fake_set(plugin, v, "max_tokens", 4);
	expect_refused("min_tokens", v, 3);
	expect_refused("fills the context", fake_values(plugin), 64);
	v = fake_values(plugin);
	fake_set(plugin, v, "echo", 1);
	fake_set(plugin, v, "n", 64);
	expect_refused("ask for fewer answers", v, 4097);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_end_of_text_token_ends_the_answer_and_shows_no_text),
		cmocka_unit_test(a_stop_token_ends_the_answer_and_shows_no_text),
		cmocka_unit_test(ignored_the_end_of_text_token_is_one_like_any_other),
		cmocka_unit_test(an_answer_ends_with_max_tokens_or_with_the_context),
		cmocka_unit_test(the_answer_does_not_depend_on_how_its_text_falls_into_tokens),
		cmocka_unit_test(an_answer_goes_on_from_saved_bytes_as_if_nothing_had_happened),
		cmocka_unit_test(text_is_sent_as_soon_as_it_can_be_no_stop_string),
		cmocka_unit_test(all_drawn_tokens_are_sent_also_those_of_a_stop_string),
		cmocka_unit_test(before_min_tokens_nothing_ends_the_answer),
		cmocka_unit_test(an_unfinished_character_at_the_end_becomes_a_replacement),
		cmocka_unit_test(choices_share_the_prompt_and_the_first_is_that_of_a_lone_answer),
		cmocka_unit_test(a_choice_that_ends_gives_its_sequence_back_and_leaves_the_others_alone),
		cmocka_unit_test(choices_go_on_from_saved_bytes_on_their_own_sequences),
		cmocka_unit_test(samplers_see_each_choice_apart),
		cmocka_unit_test(logprobs_come_with_each_token_and_only_when_asked_for),
		cmocka_unit_test(echo_puts_the_prompt_before_every_choice),
		cmocka_unit_test(echo_with_logprobs_has_those_of_the_prompt_and_null_first),
		cmocka_unit_test(prompt_logprobs_are_a_score_of_their_own),
		cmocka_unit_test(a_long_echo_comes_in_pieces_that_join),
		cmocka_unit_test(what_cannot_be_is_refused_with_the_reason),
	};

	return cmocka_run_group_tests(tests, load, NULL);
}
