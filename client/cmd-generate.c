/* cmd-generate.c: `weft generate`: one prompt, one answer; and the request fields that generate, chat and score share. */
#include "cli.h"
#include <stdlib.h>
#include <string.h>

/* clang-format off */
#define JOB_OPTIONS                                                                                                             \
	{"class", "CLASS", "interactive or batch: batch waits for interactive jobs"},                                            \
	{"priority", "N", "0 to 1000, 0 first; default 100"},                                                                    \
	{"deadline-ms", "MS", "the job expires when it has not ended by then"},                                                  \
	{"queue-ms", "MS", "the job expires when it has not started by then"},                                                   \
	{"on-disconnect", "WHAT", "cancel or keep: what becomes of the job when this client goes away"},                        \
	{"durable", NULL, "the job is on disk before it counts as accepted: it survives any end of the server"},                 \
	{"key", "KEY", "durable, and sending it again with the same key is harmless: it is the same job"},                       \
	{"delay-ms", "MS", "with durable: the job begins to wait in the queue only then"},                                       \
	{"adapter", "NAME=SCALE", "an adapter and its scale; may be repeated"},                                                  \
	{"model", "NAME", "a blend by its name (weft adapters), or the base"}
/* clang-format on */

const struct cli_option generate_options[] = {
	{"raw", NULL, "send the prompt as it is, without the model's chat template"},
	{"system", "TEXT", "system message in front of the prompt"},
	{"template", "NAME", "chat template: fashiongpt, llama-2-chat, chatml, alpaca, vicuna or none"},
	{"tokens", NULL, "the prompt is a list of tokens (numbers), sent as it is"},
	{"decoder", "NAME", "decoder plugin; default sample"},
	{"samplers", "A,B,C", "the sampler chain, in this order; default: the server's (weft plugins)"},
	{"seed", "N", "the same seed gives the same answer"},
	{"detach", NULL, "print the job's number and do not wait (weft results gives the answer)"},
	{"figures", NULL, "print the line of figures to stderr even when it is no terminal"},
	JOB_OPTIONS,
	{0},
};

const struct cli_option chat_options[] = {
	{"system", "TEXT", "system message at the start"},
	{"template", "NAME", "chat template: fashiongpt, llama-2-chat, chatml, alpaca, vicuna or none"},
	{"decoder", "NAME", "decoder plugin; default sample"},
	{"samplers", "A,B,C", "the sampler chain, in this order; default: the server's (weft plugins)"},
	{"seed", "N", "seed of every answer"},
	JOB_OPTIONS,
	{0},
};

const struct cli_option score_options[] = {
	{"tokens", NULL, "prompt and continuations are lists of tokens (numbers)"},
	JOB_OPTIONS,
	{0},
};

int adapters_given(struct cli *cli, json_t *adapters)
{
	int status = 0;

	for (size_t i = 0; i < cli->n_values && status == 0; i++) {
		const char *text = cli->values[i].value, *equals;
		char *name, *end;
		double scale;
		if (strcmp(cli->values[i].option->name, "adapter") != 0)
			continue;
		equals = strrchr(text, '=');
		scale = equals != NULL ? strtod(equals + 1, &end) : 0;
		if (equals == NULL || equals == text || equals[1] == 0 || *end != 0) {
			status = cli_usage(cli, "--adapter wants NAME=SCALE, not \"%s\"", text);
			break;
		}
		name = strndup(text, (size_t)(equals - text));
		if (name != NULL && json_object_get(adapters, name) != NULL)
			status = cli_usage(cli, "--adapter %s is given twice", name);
		else if (name == NULL || json_object_set_new(adapters, name, json_real(scale)) < 0)
			status = cli_usage(cli, "--adapter cannot take \"%s\"", text);
		free(name);
	}
	return status;
}

static int add_adapters(struct cli *cli, struct weft_request *r)
{
	json_t *adapters = json_object();
	int status = adapters_given(cli, adapters);

	if (status == 0 && json_object_size(adapters) > 0)
		cli_add_json(r, "adapters", adapters);
	else
		json_decref(adapters);
	return status;
}

static void add_samplers(struct weft_request *r, const char *text)
{
	json_t *list = json_array();
	char *copy = strdup(text), *rest = copy, *name;

	while (copy != NULL && *text != 0 && (name = strsep(&rest, ",")) != NULL)
		json_array_append_new(list, json_string(name));
	cli_add_json(r, "samplers", list);
	free(copy);
}

int request_common(struct cli *cli, struct weft_request *r)
{
	static const char *const numbers[][2] = {{"priority", "priority"},
						 {"deadline-ms", "deadline_ms"},
						 {"queue-ms", "queue_ms"},
						 {"delay-ms", "delay_ms"},
						 {"seed", "seed"}};
	static const char *const texts[][2] = {{"class", "class"},
					       {"on-disconnect", "on_disconnect"},
					       {"key", "key"},
					       {"template", "template"},
					       {"model", "model"}};
	int status = 0;
	uint64_t v;

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]) && status == 0; i++)
		if (option_uint(cli, numbers[i][0], &v, &status))
			weft_request_uint(r, numbers[i][1], v);
	if (status != 0)
		return status;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (option_given(cli, texts[i][0]))
			weft_request_str(r, texts[i][1], option_value(cli, texts[i][0]));
	if (option_given(cli, "durable"))
		weft_request_bool(r, "durable", true);
	if (option_given(cli, "decoder"))
		cli_add_json(r, "decoder", json_pack("{s:s}", "name", option_value(cli, "decoder")));
	if (option_given(cli, "samplers"))
		add_samplers(r, option_value(cli, "samplers"));
	options_into(cli, r);
	return add_adapters(cli, r);
}

static int add_prompt(struct cli *cli, struct weft_request *r, char *text, size_t len)
{
	const char *system = option_value(cli, "system");
	bool raw = option_given(cli, "raw"), tokens = option_given(cli, "tokens");
	json_t *list;

	if ((raw || tokens) && (system != NULL || option_given(cli, "template") || (raw && tokens)))
		return cli_usage(cli, "--raw, --tokens and a conversation (--system, --template) exclude each other");
	if (tokens) {
		list = cli_tokens(text);
		if (list == NULL)
			return cli_usage(cli, "--tokens wants a list of numbers, not \"%s\"", text);
		cli_add_json(r, "tokens", list);
		return 0;
	}
	if (raw) {
		weft_request_strn(r, "prompt", text, len);
		return 0;
	}
	if (len > 0 && text[len - 1] == '\n' && (cli->n_args == 0 || strcmp(cli->args[0], "-") == 0))
		text[--len] = 0; /* the end of a file's last line; an argument stays as it is */
	if (strlen(text) != len)
		return cli_usage(cli, "the prompt has a NUL character");
	if (system != NULL)
		weft_request_message(r, "system", system);
	weft_request_message(r, "user", text);
	return 0;
}

int cmd_generate(struct cli *cli)
{
	struct weft_request *r = weft_request_new("generate");
	struct answer a = {0};
	size_t len;
	uint64_t job;
	int status = 0;
	char *text = cli_text_argument(cli, 0, "the prompt", &len, &status);

	if (text == NULL)
		goto end;
	if ((status = request_common(cli, r)) != 0 || (status = add_prompt(cli, r, text, len)) != 0 ||
	    (status = cli_open(cli)) != 0)
		goto end;
	if (option_given(cli, "detach")) {
		if (!option_given(cli, "on-disconnect"))
			weft_request_str(r, "on_disconnect", "keep");
		status = answer_detach(cli, r);
	} else if (weft_client_submit(cli->client, r, &job, NULL, cli->timeout) < 0) {
		status = cli_failed(cli, 0);
	} else {
		a.patient = option_given(cli, "durable") || option_given(cli, "key");
		status = answer_follow(cli, job, option_given(cli, "figures"), &a);
	}
end:
	answer_finish(&a);
	free(text);
	weft_request_free(r);
	return status;
}
