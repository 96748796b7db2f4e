/* cli.h: what the files of the `weft` program share. A command is one row of a table (name, arguments, text, options, handler):
 * help, the parser and the test of the manual follow from it. cmd-*.c hold the handlers; cli.c talks to the server and to the user;
 * options.c parses; answer.c shows a job's answer while it comes. */
#ifndef WEFT_CLI_H
#define WEFT_CLI_H

#include "weft.h"
#include <jansson.h>
#include <stdio.h>

/* Exit codes; in weft(1), too. */
enum {
	EXIT_OK = 0,
	EXIT_FAILED = 1, /* the job failed, or something here did */
	EXIT_USAGE = 2,
	EXIT_REFUSED = 3,      /* the server said no */
	EXIT_UNREACHABLE = 4,  /* no connection, no reply, or no protocol version 1 */
	EXIT_EXPIRED = 5,      /* the job's deadline passed */
	EXIT_CANCELLED = 6,    /* somebody else cancelled the job, or the server went down */
	EXIT_INTERRUPTED = 130 /* Ctrl-C */
};

struct cli_option {
	const char *name; /* without the dashes */
	const char *arg;  /* "TEXT"; NULL: a flag */
	const char *doc;
};

struct cli;

enum { CMD_SAMPLING = 1 }; /* flags: options of the server's plugins are taken as well */

struct command {
	const char *name, *args, *doc;
	const struct cli_option *options; /* ends with a row of NULLs; NULL: none */
	unsigned flags;
	int min_args, max_args;      /* max -1: any number */
	int (*run)(struct cli *cli); /* returns the exit code */
};
extern const struct command commands[]; /* ends with a row of NULLs */
extern const struct cli_option global_options[];

struct cli_value {
	const struct cli_option *option;
	const char *value; /* NULL for a flag */
};

struct cli {
	const struct command *command;
	struct weft_client *client; /* opened by the first use */
	int timeout;                /* ms, for replies */
	bool json;
	struct cli_value *values; /* options in the order given */
	size_t n_values;
	const char **args; /* what is left */
	int n_args;
	json_t *sampling; /* {option: value}, typed by the schemas of the server's plugins */
	json_t *schema;   /* {option: type}; NULL: not asked for yet */
};

/* ---- options.c ---- */

/* Parses argv behind the command's name. 0, or the exit code of a usage error that was printed. */
int options_parse(struct cli *cli, int argc, char **argv);
const char *option_value(const struct cli *cli, const char *name); /* the last one given; NULL: not given. A flag: "" */
bool option_given(const struct cli *cli, const char *name);
bool option_uint(const struct cli *cli, const char *name, uint64_t *value,
		 int *status); /* false: not given, or *status is a usage error's */
bool option_float(const struct cli *cli, const char *name, double *value, int *status); /* as above */
void options_finish(struct cli *cli);
void options_into(const struct cli *cli, struct weft_request *r); /* the sampling options */

/* ---- cli.c ---- */

int cli_usage(const struct cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* prints, returns EXIT_USAGE */
int cli_open(struct cli *cli);                                                                    /* 0 or an exit code; prints */
int cli_failed(struct cli *cli, int code); /* prints the client's error, returns the exit code that belongs to it */
int cli_call(struct cli *cli, struct weft_request *r, struct weft_reply **reply); /* opens, calls, frees r; 0 or an exit code */
int cli_print_json(const struct weft_reply *r, const char *path);                 /* one line */
int cli_job_argument(const struct cli *cli, const char *text, uint64_t *job);
/* Text from the model: control characters are shown as U+FFFD on a terminal, where they could do harm. */
void cli_put_text(FILE *f, const char *text, size_t len);
char *cli_read_stdin(const struct cli *cli, size_t *len); /* malloc'ed, NUL behind it; NULL: printed */
/* The one text argument: args[at], or standard input for "-" or, when it is no terminal, for nothing. malloc'ed; NULL: printed,
 * *status set. */
char *cli_text_argument(const struct cli *cli, int at, const char *what, size_t *len, int *status);
json_t *cli_tokens(const char *text); /* "1 2 3", "1,2,3" or "[1, 2, 3]" as an array; NULL: it is something else */
void cli_add_json(struct weft_request *r, const char *field, json_t *v); /* takes over v */
void cli_catch_interrupts(void); /* SIGINT and SIGTERM end waits of the client; a second one ends the program */
int cli_interrupted(void);       /* takes the signal: its number, or 0 */
int cli_interrupt_fd(void);

/* ---- answer.c ---- */

struct answer {     /* what came of a job */
	char *text; /* of choice 0; malloc'ed */
	size_t text_len;
	int interrupted; /* the signal that made us cancel it; 0 */
	bool patient;    /* the job is durable: a server that is away comes back to it */
	const char *task; /* what a task does, for the progress line ("fusing"); NULL: it is no task */
	struct weft_reply *done; /* of a task: its done event, for the command to show */
	size_t n_losses;         /* that its progress told of, as detail.loss */
	double first_loss, last_loss;
};
void answer_finish(struct answer *a);
/* Follows a submitted job to its end: text to stdout as it comes (or, with --json, each event as a line), progress to a stderr that
 * is a terminal, and the figures when they are wanted. Returns the exit code. */
int answer_follow(struct cli *cli, uint64_t job, bool figures, struct answer *a);
/* Submits what makes a job, and prints its number (or, with --json, the reply): --detach. Returns the exit code. */
int answer_detach(struct cli *cli, struct weft_request *r);
/* Submits what makes a task and, unless --detach is given, follows it to its end; `doing` stands in the line of progress, `print`
 * shows what came of it. Frees r (NULL: out of memory). status: of making r; not 0: it is returned. */
int answer_task(struct cli *cli, struct weft_request *r, int status, const char *doing, void (*print)(const struct answer *a));
int answer_exit_code(const struct weft_reply *done);      /* of the state of a done event */
void answer_report_end(const struct weft_reply *done);    /* says on stderr why it is no success, if it is none */
void answer_print_choices(const struct weft_reply *done); /* generate: texts; score: a table; a task: its result */

/* ---- cmd-*.c ---- */

extern const struct cli_option batch_options[], generate_options[], chat_options[], score_options[], jobs_options[], delay_options[], results_options[],
	tokenize_options[], adapters_options[];
int cmd_generate(struct cli *cli);
int cmd_chat(struct cli *cli);
int cmd_score(struct cli *cli);
int cmd_jobs(struct cli *cli);
int cmd_job(struct cli *cli);
int cmd_cancel(struct cli *cli);
int cmd_results(struct cli *cli);
int cmd_close(struct cli *cli);
int cmd_verb(struct cli *cli); /* bury, kick, touch */
int cmd_delay(struct cli *cli);
int cmd_hello(struct cli *cli);
int cmd_plugins(struct cli *cli);
int cmd_stats(struct cli *cli);
int cmd_adapters(struct cli *cli);
int adapters_fuse(struct cli *cli, const char *name);
int adapters_learn(struct cli *cli, const char *name);
int cmd_batch(struct cli *cli);
int cmd_state(struct cli *cli); /* pause, resume, drain */
int cmd_tokenize(struct cli *cli);
int cmd_detokenize(struct cli *cli);
int cmd_keygen(struct cli *cli);
int adapters_given(struct cli *cli, json_t *adapters); /* --adapter NAME=SCALE ... into {"NAME": SCALE, ...} */
int request_common(struct cli *cli,
		   struct weft_request *r); /* class, priority, deadlines, adapters...: of what makes jobs */

#endif
