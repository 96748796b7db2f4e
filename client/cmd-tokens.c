/* cmd-tokens.c: `weft tokenize | detokenize`. */
#include "cli.h"
#include <stdlib.h>

const struct cli_option tokenize_options[] = {
	{"bos", NULL, "put the model's beginning-of-text token in front"},
	{0},
};

int cmd_tokenize(struct cli *cli)
{
	struct weft_request *r;
	struct weft_reply *reply;
	size_t len;
	int status = 0;
	char path[40], *text = cli_text_argument(cli, 0, "the text", &len, &status);
	uint64_t token;

	if (text == NULL)
		return status;
	r = weft_request_new("tokenize");
	weft_request_strn(r, "text", text, len);
	if (option_given(cli, "bos"))
		weft_request_bool(r, "bos", true);
	free(text);
	if ((status = cli_call(cli, r, &reply)) != 0)
		return status;
	if (cli->json) {
		status = cli_print_json(reply, NULL);
	} else {
		for (size_t i = 0; i < weft_reply_count(reply, "tokens"); i++) {
			snprintf(path, sizeof(path), "tokens.%zu", i);
			if (weft_reply_uint(reply, path, &token))
				printf("%s%llu", i > 0 ? " " : "", (unsigned long long)token);
		}
		putchar('\n');
	}
	weft_reply_free(reply);
	return status;
}

int cmd_detokenize(struct cli *cli)
{
	struct weft_request *r = weft_request_new("detokenize");
	struct weft_reply *reply;
	json_t *list = json_array();
	size_t len;
	int status = 0;
	const char *text;

	for (int i = 0; status == 0 && (i == 0 || i < cli->n_args); i++) {
		char *numbers = cli_text_argument(cli, i, "the list of tokens", &len, &status);
		json_t *more = numbers != NULL ? cli_tokens(numbers) : NULL;
		if (numbers != NULL && more == NULL)
			status = cli_usage(cli, "\"%s\" is no list of tokens", numbers);
		json_array_extend(list, more);
		json_decref(more);
		free(numbers);
	}
	cli_add_json(r, "tokens", list);
	if (status != 0) {
		weft_request_free(r);
		return status;
	}
	if ((status = cli_call(cli, r, &reply)) != 0)
		return status;
	text = weft_reply_str(reply, "text", &len);
	if (cli->json) {
		status = cli_print_json(reply, NULL);
	} else if (text != NULL) {
		cli_put_text(stdout, text, len);
		putchar('\n');
	}
	weft_reply_free(reply);
	return status;
}
