/* cmd-learn.c: `weft adapters learn`: the weights of a blend, learned from files of prompts and answers. */
#include "cli.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ENVELOPE = 4096 }; /* bytes of a request beside its data, at most */

/* What the server reads of a line; all else is the file's own. NULL: printed. */
static json_t *example_of(const struct cli *cli, const char *path, size_t number, const char *text)
{
	static const char *const keys[] = {"prompt", "messages", "tokens", "answer"};
	json_error_t error;
	json_t *line = json_loads(text, JSON_REJECT_DUPLICATES, &error), *out, *v;

	if (!json_is_object(line)) {
		fprintf(stderr, "weft %s: %s, line %zu: %s\n", cli->command->name, path, number,
			line == NULL ? error.text : "expected an object with prompt, messages or tokens, and answer");
		json_decref(line);
		return NULL;
	}
	out = json_object();
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if ((v = json_object_get(line, keys[i])) != NULL)
			json_object_set(out, keys[i], v);
	json_decref(line);
	return out;
}

/* The file's lines as an array. NULL: printed. */
static json_t *read_examples(const struct cli *cli, const char *path)
{
	FILE *f = fopen(path, "re");
	json_t *all = json_array(), *one;
	char *line = NULL;
	size_t room = 0, number = 0;
	bool good = f != NULL;

	while (good && getline(&line, &room, f) >= 0) {
		number++;
		if (line[strspn(line, " \t\r\n")] == 0)
			continue;
		one = example_of(cli, path, number, line);
		good = one != NULL && json_array_append_new(all, one) == 0;
	}
	if (f == NULL || ferror(f)) {
		fprintf(stderr, "weft %s: %s: %s\n", cli->command->name, path, strerror(errno));
		good = false;
	}
	if (f != NULL)
		fclose(f);
	free(line);
	if (good)
		return all;
	json_decref(all);
	return NULL;
}

/* A message that is too large would be dropped without a word: JSON is never shorter than what is sent. */
static int check_size(struct cli *cli, size_t bytes)
{
	struct weft_reply *hello;
	uint64_t most = 0;
	int status = cli_call(cli, weft_request_new("hello"), &hello);

	if (status != 0)
		return status;
	weft_reply_uint(hello, "limits.max_message", &most);
	weft_reply_free(hello);
	if (most == 0 || bytes + ENVELOPE <= most)
		return 0;
	fprintf(stderr, "weft %s: the data come to %zu bytes, the server takes messages of %llu (max_message): give fewer lines\n",
		cli->command->name, bytes, (unsigned long long)most);
	return EXIT_FAILED;
}

static int add_file(struct cli *cli, struct weft_request *r, const char *option, const char *field, size_t *bytes)
{
	const char *path = option_value(cli, option);
	json_t *all = path != NULL ? read_examples(cli, path) : NULL;
	char *text;

	if (path == NULL)
		return 0;
	if (all == NULL)
		return EXIT_FAILED;
	text = json_dumps(all, JSON_COMPACT);
	*bytes += text != NULL ? strlen(text) : 0;
	free(text);
	cli_add_json(r, field, all);
	return 0;
}

static int add_names(struct cli *cli, struct weft_request *r)
{
	json_t *names = json_array();

	for (size_t i = 0; i < cli->n_values; i++)
		if (strcmp(cli->values[i].option->name, "adapter") == 0)
			json_array_append_new(names, json_string(cli->values[i].value));
	if (json_array_size(names) == 0) {
		json_decref(names);
		return cli_usage(cli, "which adapters? --adapter NAME, once for each");
	}
	cli_add_json(r, "adapters", names);
	return 0;
}

static int add_numbers(struct cli *cli, struct weft_request *r)
{
	static const char *const whole[][2] = {{"steps", "steps"},      {"batch", "batch"},       {"population", "population"},
					       {"seed", "seed"},        {"priority", "priority"}, {"deadline-ms", "deadline_ms"},
					       {"queue-ms", "queue_ms"}};
	static const char *const broken[] = {"rate", "penalty", "bound"};
	int status = 0;
	uint64_t v;
	double x;

	for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]) && status == 0; i++)
		if (option_uint(cli, whole[i][0], &v, &status))
			weft_request_uint(r, whole[i][1], v);
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]) && status == 0; i++)
		if (option_float(cli, broken[i], &x, &status))
			weft_request_float(r, broken[i], x);
	return status;
}

static int make_request(struct cli *cli, struct weft_request *r, const char *name)
{
	static const char *const texts[][2] = {{"by", "by"},       {"method", "method"},
					       {"form", "form"},   {"template", "template"},
					       {"class", "class"}, {"on-disconnect", "on_disconnect"}};
	size_t bytes = 0;
	int status;

	if (!option_given(cli, "data"))
		return cli_usage(
			cli, "learned from what? --data FILE, with a JSON object of prompt or messages, and answer, on each line");
	weft_request_str(r, "name", name);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (option_given(cli, texts[i][0]))
			weft_request_str(r, texts[i][1], option_value(cli, texts[i][0]));
	if (option_given(cli, "replace"))
		weft_request_bool(r, "replace", true);
	if ((status = add_names(cli, r)) != 0 || (status = add_numbers(cli, r)) != 0 ||
	    (status = add_file(cli, r, "data", "data", &bytes)) != 0 ||
	    (status = add_file(cli, r, "held-out", "held_out", &bytes)) != 0)
		return status;
	return check_size(cli, bytes);
}

/* ---- what came out ---- */

static double number_at(const json_t *o, const char *key)
{
	return json_number_value(json_object_get(o, key));
}

/* Names of adapters may have dots, so the JSON text is read. */
static void print_learned(const struct answer *a)
{
	char *text = weft_reply_json(a->done, "result");
	json_t *r = text != NULL ? json_loads(text, 0, NULL) : NULL, *held_out = json_object_get(r, "held_out"), *v;
	const char *name;

	if (r == NULL)
		return;
	printf("%s: learned by %s, %s, from %.0f examples%s", json_string_value(json_object_get(r, "name")),
	       json_string_value(json_object_get(r, "method")), json_string_value(json_object_get(r, "by")),
	       number_at(r, "examples"), a->n_losses > 0 ? "" : "\n");
	if (a->n_losses > 0)
		printf(": loss %.4f, in the end %.4f\n", a->first_loss, a->last_loss);
	json_object_foreach(json_object_get(r, "weights"), name, v) printf("  %-30s weight %+.4f\n", name, json_number_value(v));
	printf("mean loss on %.0f held-out examples\n  %-30s %.4f\n", number_at(r, "held_out_examples"), "base",
	       number_at(held_out, "base"));
	json_object_foreach(json_object_get(held_out, "adapters"), name, v) printf("  %-30s %.4f\n", name, json_number_value(v));
	printf("  %-30s %.4f\n  %-30s %.4f\n", "uniform blend", number_at(held_out, "uniform"), "learned blend",
	       number_at(held_out, "learned"));
	json_decref(r);
	free(text);
}

int adapters_learn(struct cli *cli, const char *name)
{
	struct weft_request *r = weft_request_new("adapter.learn");

	return answer_task(cli, r, r == NULL ? 0 : make_request(cli, r, name), "learning", print_learned);
}
