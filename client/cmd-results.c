/* cmd-results.c: `weft results`: the answer of a job that was left to itself, whole or as far as it has come. */
#include "cli.h"
#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum { WAIT_MS = 250 }; /* between two looks with --wait */

const struct cli_option results_options[] = {
	{"from", "SEQ", "with --json: the events from this number on"},
	{"wait", NULL, "wait until the job has ended"},
	{0},
};

struct results {
	uint64_t next; /* seq */
	char *text;    /* of choice 0, as far as it came; NULL: nothing */
	size_t len;
	struct weft_reply *done; /* the last event; NULL: not ended yet */
};

static int add_text(struct results *x, const char *text, size_t len)
{
	char *more = realloc(x->text, x->len + len + 1);

	if (more == NULL) {
		fputs("weft: out of memory\n", stderr);
		return EXIT_FAILED;
	}
	x->text = more;
	memcpy(more + x->len, text, len);
	x->len += len;
	return 0;
}

static int take_event(struct cli *cli, struct results *x, struct weft_reply *event)
{
	const char *kind = weft_reply_str(event, "event", NULL), *text;
	uint64_t choice;
	size_t len;
	int status = cli->json ? cli_print_json(event, NULL) : 0;

	if (status == 0 && kind != NULL && strcmp(kind, "delta") == 0 && weft_reply_uint(event, "choice", &choice) && choice == 0 &&
	    (text = weft_reply_str(event, "text", &len)) != NULL)
		status = add_text(x, text, len);
	if (kind != NULL && strcmp(kind, "done") == 0)
		x->done = event;
	else
		weft_reply_free(event);
	return status;
}

/* One look. *found says whether there was anything new. */
static int look(struct cli *cli, uint64_t job, struct results *x, bool *found)
{
	struct weft_request *r = weft_request_new("results");
	struct weft_reply *reply;
	char path[64];
	size_t n;
	int status;

	weft_request_uint(r, "job", job);
	weft_request_uint(r, "from", x->next);
	if ((status = cli_call(cli, r, &reply)) != 0)
		return status;
	n = weft_reply_count(reply, "events");
	*found = n > 0;
	for (size_t i = 0; i < n && status == 0 && x->done == NULL; i++) {
		snprintf(path, sizeof(path), "events.%zu", i);
		struct weft_reply *event = weft_reply_copy(reply, path);
		if (event != NULL)
			status = take_event(cli, x, event);
	}
	if (n > 0 && !weft_reply_uint(reply, "next", &x->next))
		*found = false;
	weft_reply_free(reply);
	return status;
}

static int show(struct cli *cli, const struct results *x)
{
	if (!cli->json && x->done != NULL) {
		answer_print_choices(x->done);
	} else if (!cli->json && x->len > 0) {
		cli_put_text(stdout, x->text, x->len);
		if (x->text[x->len - 1] != '\n')
			putchar('\n');
	}
	if (x->done == NULL)
		return EXIT_OK;
	answer_report_end(x->done);
	return answer_exit_code(x->done);
}

int cmd_results(struct cli *cli)
{
	struct results x = {0};
	uint64_t job;
	bool found = true;
	int status = cli_job_argument(cli, cli->args[0], &job);

	if (status == 0)
		option_uint(cli, "from", &x.next, &status);
	while (status == 0 && x.done == NULL && (found || option_given(cli, "wait"))) {
		struct pollfd interrupt = {cli_interrupt_fd(), POLLIN, 0};
		if (!found && poll(&interrupt, 1, WAIT_MS) != 0 && cli_interrupted() != 0)
			status = EXIT_INTERRUPTED;
		else
			status = look(cli, job, &x, &found);
	}
	if (status == 0)
		status = show(cli, &x);
	weft_reply_free(x.done);
	free(x.text);
	return status;
}
