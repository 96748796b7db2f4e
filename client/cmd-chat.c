/* cmd-chat.c: `weft chat`: a conversation, line by line. The history is kept here and sent whole with every turn. Works in a pipe,
 * too: each line of standard input is one turn. */
#include "cli.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct message {
	const char *role; /* "user" or "assistant" */
	char *content;
};

struct chat {
	struct cli *cli;
	char *system; /* NULL: none */
	struct message *history;
	size_t n;
	bool terminal;
	int status; /* of the first turn that failed */
	bool quit;
};

static bool push(struct chat *c, const char *role, const char *content, size_t len)
{
	struct message *more = realloc(c->history, (c->n + 1) * sizeof(*more));
	char *copy = strndup(content, len);

	if (more != NULL)
		c->history = more;
	if (more == NULL || copy == NULL) {
		free(copy);
		fputs("weft: out of memory\n", stderr);
		c->status = EXIT_FAILED;
		c->quit = true;
		return false;
	}
	more[c->n++] = (struct message){role, copy};
	return true;
}

static void cut(struct chat *c, size_t n)
{
	while (c->n > n)
		free(c->history[--c->n].content);
}

static void failed(struct chat *c, int status)
{
	if (c->status == EXIT_OK)
		c->status = status;
	if (status == EXIT_UNREACHABLE || status == EXIT_USAGE)
		c->quit = true; /* no turn would fare better */
}

static size_t without_trailing_space(const char *text, size_t len)
{
	while (len > 0 && strchr(" \t\r\n", text[len - 1]) != NULL)
		len--;
	return len;
}

/* Sends the conversation and shows the answer. On failure the user's message is taken back: the next turn starts from what was
 * answered. */
static void turn(struct chat *c, const char *line)
{
	struct weft_request *r = weft_request_new("generate");
	struct answer a = {0};
	uint64_t job;
	int status;

	if (r == NULL || !push(c, "user", line, strlen(line)))
		goto end;
	if (c->system != NULL)
		weft_request_message(r, "system", c->system);
	for (size_t i = 0; i < c->n; i++)
		weft_request_message(r, c->history[i].role, c->history[i].content);
	status = request_common(c->cli, r);
	if (status == 0 && weft_client_submit(c->cli->client, r, &job, NULL, c->cli->timeout) < 0)
		status = cli_failed(c->cli, 0);
	else if (status == 0)
		status = answer_follow(c->cli, job, false, &a);
	size_t len = without_trailing_space(a.text != NULL ? a.text : "", a.text_len);
	if (len > 0 && (status == EXIT_OK || a.interrupted != 0))
		push(c, "assistant", a.text, len); /* a part that the user stopped counts as the answer */
	else
		cut(c, c->n - 1);
	if (status != EXIT_OK && !(c->terminal && a.interrupted != 0))
		failed(c, status);
	if (a.interrupted != 0 && !c->terminal)
		c->quit = true;
end:
	answer_finish(&a);
	weft_request_free(r);
}

static void command(struct chat *c, const char *line)
{
	if (strcmp(line, "/quit") == 0) {
		c->quit = true;
	} else if (strcmp(line, "/reset") == 0) {
		cut(c, 0);
	} else if (strncmp(line, "/system", 7) == 0 && (line[7] == ' ' || line[7] == 0)) {
		free(c->system);
		c->system = line[7] == ' ' && line[8] != 0 ? strdup(line + 8) : NULL;
	} else {
		fputs("/system TEXT  set the system message (without TEXT: none)\n"
		      "/reset        forget the conversation\n"
		      "/quit         end (so does the end of input)\n",
		      stderr);
		if (strcmp(line, "/help") != 0 && !c->terminal)
			failed(c, EXIT_USAGE);
	}
}

static void read_turns(struct chat *c)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t n;

	while (!c->quit) {
		if (c->terminal) {
			fputs("> ", stdout);
			fflush(stdout);
		}
		n = getline(&line, &room, stdin);
		if (cli_interrupted() != 0)
			failed(c, EXIT_INTERRUPTED);
		if (n < 0)
			break;
		if (n > 0 && line[n - 1] == '\n')
			line[--n] = 0;
		if (n == 0)
			continue;
		if ((size_t)n != strlen(line))
			failed(c, cli_usage(c->cli, "a line has a NUL character"));
		else if (line[0] == '/')
			command(c, line);
		else
			turn(c, line);
	}
	free(line);
	if (c->terminal)
		putchar('\n');
}

int cmd_chat(struct cli *cli)
{
	struct chat c = {.cli = cli, .terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)};
	const char *system = option_value(cli, "system");
	int status = cli_open(cli);

	if (status == 0 && weft_client_connect(cli->client, NULL, cli->timeout) < 0)
		status = cli_failed(cli, 0); /* better now than after the first line */
	if (status != 0)
		return status;
	c.system = system != NULL ? strdup(system) : NULL;
	read_turns(&c);
	cut(&c, 0);
	free(c.history);
	free(c.system);
	return c.status;
}
