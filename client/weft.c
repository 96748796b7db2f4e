/* weft.c: the `weft` program: the table of its commands, their help, and main. */
#include "cli.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

const struct cli_option global_options[] = {
	{"request", "ENDPOINT", "the server's request endpoint; default $WEFT_REQUEST, then ipc:///run/weft/request"},
	{"answer", "ENDPOINT", "the server's answer endpoint; default $WEFT_ANSWER, then ipc:///run/weft/answer"},
	{"server-key", "KEY", "the server's public CURVE key, or a file with it; default $WEFT_SERVER_KEY"},
	{"client-key", "FILE", "the file with this client's secret CURVE key; default $WEFT_CLIENT_KEY"},
	{"timeout", "SECONDS", "longest wait for a reply; default 10"},
	{"json", NULL, "print what the server sends, one JSON value a line"},
	{"help", NULL, "show this help (-h)"},
	{"version", NULL, "show the version (-V)"},
	{0},
};

const struct command commands[] = {
	{"generate", "[PROMPT | -]", "answer a prompt, as it comes", generate_options, CMD_SAMPLING, 0, 1, cmd_generate},
	{"chat", "", "talk, line by line", chat_options, CMD_SAMPLING, 0, 0, cmd_chat},
	{"score", "PROMPT CONTINUATION...", "how likely continuations of a prompt are", score_options, CMD_SAMPLING, 2, -1,
	 cmd_score},
	{"jobs", "", "list jobs", jobs_options, 0, 0, 0, cmd_jobs},
	{"job", "JOB", "what is known of one job", NULL, 0, 1, 1, cmd_job},
	{"cancel", "JOB...", "end jobs", NULL, 0, 1, -1, cmd_cancel},
	{"results", "JOB", "a job's answer, or what there is of it", results_options, 0, 1, 1, cmd_results},
	{"close", "JOB...", "let the server forget finished jobs", NULL, 0, 1, -1, cmd_close},
	{"delay", "JOB", "let a durable job rest for a while", delay_options, 0, 1, 1, cmd_delay},
	{"bury", "JOB...", "let durable jobs rest until they are kicked", NULL, 0, 1, -1, cmd_verb},
	{"kick", "JOB...", "queue jobs that rest", NULL, 0, 1, -1, cmd_verb},
	{"touch", "JOB...", "keep the answers of ended durable jobs for a whole retention from now on", NULL, 0, 1, -1, cmd_verb},
	{"batch", "VERB [FILE | NAME]", "answer the rows of a file: submit, run, status, results, cancel, retry, close", batch_options, CMD_SAMPLING, 1, 2,
	 cmd_batch},
	{"plugins", "", "list decoders and samplers, and their options", NULL, 0, 0, 0, cmd_plugins},
	{"adapters", "[(load | unload | fuse | learn) NAME]",
	 "list the server's adapters; load or unload one; make one of several, or learn their weights", adapters_options, 0, 0, 2,
	 cmd_adapters},
	{"stats", "", "counters of the server", NULL, 0, 0, 0, cmd_stats},
	{"tokenize", "[TEXT | -]", "text to tokens", tokenize_options, 0, 0, 1, cmd_tokenize},
	{"detokenize", "[TOKEN... | -]", "tokens to text", NULL, 0, 0, -1, cmd_detokenize},
	{"hello", "", "who answers: model, limits, state", NULL, 0, 0, 0, cmd_hello},
	{"pause", "", "take no new jobs", NULL, 0, 0, 0, cmd_state},
	{"resume", "", "take new jobs again", NULL, 0, 0, 0, cmd_state},
	{"drain", "", "finish what there is, then end the server", NULL, 0, 0, 0, cmd_state},
	{"keygen", "FILE", "make a CURVE key pair: the secret key to FILE, the public key to standard output", NULL, 0, 1, 1,
	 cmd_keygen},
	{0},
};

static void print_options(const char *title, const struct cli_option *o)
{
	char left[64];

	if (o == NULL || o->name == NULL)
		return;
	printf("\n%s\n", title);
	for (; o->name != NULL; o++) {
		snprintf(left, sizeof(left), "--%s%s%s", o->name, o->arg != NULL ? " " : "", o->arg != NULL ? o->arg : "");
		printf("  %-26s %s\n", left, o->doc);
	}
}

static void help(const struct command *one)
{
	if (one == NULL) {
		printf("usage: weft [OPTION...] COMMAND [OPTION...] [ARGUMENT...]\n\nCommands\n");
		for (const struct command *c = commands; c->name != NULL; c++)
			printf("  %-12s %-24s %s\n", c->name, c->args, c->doc);
		print_options("Options of every command", global_options);
		puts("\nweft COMMAND --help shows the options of a command; weft(1) is the manual.");
		return;
	}
	printf("usage: weft [OPTION...] %s [OPTION...]%s%s\n%s\n", one->name, one->args[0] != 0 ? " " : "", one->args, one->doc);
	print_options("Options", one->options);
	if (one->flags & CMD_SAMPLING)
		puts("\nSampling options\n  --some-option VALUE        any option of the server's plugins: --max-tokens 100, "
		     "--temperature 0.7, --stop TEXT ...\n"
		     "                             (weft plugins lists them)");
	print_options("Options of every command", global_options);
}

static const struct command *find_command(const char *name)
{
	for (const struct command *c = commands; c->name != NULL; c++)
		if (strcmp(c->name, name) == 0)
			return c;
	return NULL;
}

/* The first word that is no option, nor the value of a global one: the command. argc: there is none. */
static int command_at(int argc, char **argv)
{
	int i = 1;

	while (i < argc && argv[i][0] == '-') {
		const struct cli_option *o = global_options;
		while (o->name != NULL && (strncmp(argv[i], "--", 2) != 0 || strcmp(argv[i] + 2, o->name) != 0))
			o++;
		i += o->name != NULL && o->arg != NULL ? 2 : 1;
	}
	return i < argc ? i : argc;
}

static int run(struct cli *cli, int argc, char **argv)
{
	int at = command_at(argc, argv), status;

	if (at < argc) {
		cli->command = find_command(argv[at]);
		if (cli->command == NULL)
			return cli_usage(cli, "no such command: %s", argv[at]);
		memmove(&argv[at], &argv[at + 1],
			(size_t)(argc - at - 1) * sizeof(*argv)); /* what is left are options and arguments */
		argc--;
	}
	status = options_parse(cli, argc - 1, argv + 1);
	if (status != 0)
		return status;
	if (option_given(cli, "version"))
		printf("weft %s\n", weft_client_version());
	else if (option_given(cli, "help"))
		help(cli->command);
	else if (cli->command == NULL)
		return cli_usage(cli, "which command?");
	else
		return cli->command->run(cli);
	return EXIT_OK;
}

int main(int argc, char **argv)
{
	struct cli cli = {0};
	int status;

	signal(SIGPIPE, SIG_IGN); /* a reader that goes away is seen at the next write: the job is cancelled then */
	status = run(&cli, argc, argv);
	weft_client_free(cli.client);
	options_finish(&cli);
	if ((fflush(stdout) != 0 || ferror(stdout)) && status == EXIT_OK) {
		if (errno != EPIPE)
			fprintf(stderr, "weft: standard output: %s\n", strerror(errno));
		status = EXIT_FAILED;
	}
	return status;
}
