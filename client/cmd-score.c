/* cmd-score.c: `weft score`: how likely continuations of a prompt are. */
#include "cli.h"
#include <stdlib.h>

static int add_tokens(struct cli *cli, struct weft_request *r, const char *prompt)
{
	json_t *list = cli_tokens(prompt), *continuations = json_array();

	for (int i = 1; i < cli->n_args && list != NULL; i++) {
		json_t *one = cli_tokens(cli->args[i]);
		if (one == NULL || json_array_append_new(continuations, one) < 0) {
			json_decref(list);
			list = NULL;
		}
	}
	if (list == NULL) {
		json_decref(continuations);
		return cli_usage(cli, "--tokens wants lists of numbers");
	}
	cli_add_json(r, "tokens", list);
	cli_add_json(r, "continuations", continuations);
	return 0;
}

int cmd_score(struct cli *cli)
{
	struct weft_request *r = weft_request_new("score");
	struct answer a = {0};
	size_t len;
	uint64_t job;
	int status = 0;
	char *text = cli_text_argument(cli, 0, "the prompt", &len, &status);

	if (text == NULL)
		goto end;
	if (option_given(cli, "tokens")) {
		status = add_tokens(cli, r, text);
	} else {
		weft_request_strn(r, "prompt", text, len);
		weft_request_strs(r, "continuations", cli->args + 1, (size_t)cli->n_args - 1);
	}
	if (status == 0 && (status = request_common(cli, r)) == 0 && (status = cli_open(cli)) == 0) {
		if (weft_client_submit(cli->client, r, &job, NULL, cli->timeout) < 0)
			status = cli_failed(cli, 0);
		else
			status = answer_follow(cli, job, false, &a);
	}
end:
	answer_finish(&a);
	free(text);
	weft_request_free(r);
	return status;
}
