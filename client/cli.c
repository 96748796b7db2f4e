/* cli.c: what all commands of `weft` need: the connection, errors as text and exit codes, standard input, signals. */
#include "config.h"
#include "cli.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_STDIN = 16 << 20 }; /* bytes: more than any message to the server may have */

/* ---- signals ---- */

static int signal_pipe[2] = {-1, -1};
static volatile sig_atomic_t signals_seen;

static void on_signal(int number)
{
	unsigned char byte = (unsigned char)number;
	int saved = errno;

	if (signals_seen++ > 0)
		_exit(128 + number); /* the user insists */
	if (write(signal_pipe[1], &byte, 1) < 0)
		_exit(128 + number);
	errno = saved;
}

void cli_catch_interrupts(void)
{
	struct sigaction action = {.sa_handler = on_signal};

	if (signal_pipe[0] >= 0 || pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) < 0)
		return;
	sigaction(SIGINT, &action, NULL); /* no SA_RESTART: a read from the terminal ends, too */
	sigaction(SIGTERM, &action, NULL);
}

int cli_interrupted(void)
{
	unsigned char byte;

	if (signal_pipe[0] < 0 || read(signal_pipe[0], &byte, 1) != 1)
		return 0;
	signals_seen = 0;
	return byte;
}

int cli_interrupt_fd(void)
{
	return signal_pipe[0];
}

/* ---- errors ---- */

int cli_usage(const struct cli *cli, const char *fmt, ...)
{
	va_list args;

	fprintf(stderr, "weft%s%s: ", cli->command != NULL ? " " : "", cli->command != NULL ? cli->command->name : "");
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr, "\nTry weft %s%s--help.\n", cli->command != NULL ? cli->command->name : "",
		cli->command != NULL ? " " : "");
	return EXIT_USAGE;
}

static int exit_code_of(int code)
{
	switch (code) {
	case WEFT_CLIENT_EINVAL:
		return EXIT_USAGE;
	case WEFT_CLIENT_EREFUSED:
		return EXIT_REFUSED;
	case WEFT_CLIENT_EUNREACHABLE:
	case WEFT_CLIENT_ETIMEOUT:
	case WEFT_CLIENT_EPROTOCOL:
	case WEFT_CLIENT_ELOST:
		return EXIT_UNREACHABLE;
	case WEFT_CLIENT_EINTERRUPTED:
		return EXIT_INTERRUPTED;
	default:
		return EXIT_FAILED;
	}
}

static int report(const struct cli *cli, const struct weft_client_error *e)
{
	if (e->code == WEFT_CLIENT_EINTERRUPTED)
		return EXIT_INTERRUPTED;
	fprintf(stderr, "weft %s: ", cli->command->name);
	if (e->code == WEFT_CLIENT_EREFUSED) {
		fprintf(stderr, "refused (%s%s%s): ", e->server_code, e->field[0] != 0 ? ", " : "", e->field);
		cli_put_text(stderr, e->text, strlen(e->text));
		if (e->retry_after_ms > 0)
			fprintf(stderr, " (try again in %.1f s)", (double)e->retry_after_ms / 1000);
	} else {
		cli_put_text(stderr, e->text, strlen(e->text));
	}
	fputc('\n', stderr);
	return exit_code_of(e->code);
}

int cli_failed(struct cli *cli, int code)
{
	return report(cli, weft_client_error(cli->client));
}

/* ---- the server ---- */

int cli_open(struct cli *cli)
{
	struct weft_client_error error;
	struct weft_client_params params = {
		.request = option_value(cli, "request"),
		.answer = option_value(cli, "answer"),
		.server_key = option_value(cli, "server-key"),
		.client_key = option_value(cli, "client-key"),
	};

	if (cli->client != NULL)
		return 0;
	cli_catch_interrupts();
	params.interrupt_fd = cli_interrupt_fd() > 0 ? cli_interrupt_fd() : 0;
	return weft_client_new(&cli->client, &params, &error) < 0 ? report(cli, &error) : 0;
}

int cli_call(struct cli *cli, struct weft_request *r, struct weft_reply **reply)
{
	int status;

	if (r == NULL)
		return cli_usage(cli, "out of memory");
	status = cli_open(cli);
	if (status == 0 && weft_client_call(cli->client, r, reply, cli->timeout) < 0)
		status = cli_failed(cli, 0);
	weft_request_free(r);
	return status;
}

int cli_print_json(const struct weft_reply *r, const char *path)
{
	char *text = weft_reply_json(r, path);

	if (text == NULL) {
		fputs("weft: out of memory\n", stderr);
		return EXIT_FAILED;
	}
	puts(text);
	free(text);
	return EXIT_OK;
}

/* ---- text in and out ---- */

void cli_put_text(FILE *f, const char *text, size_t len)
{
	size_t from = 0;

	if (!isatty(fileno(f))) {
		fwrite(text, 1, len, f);
		return;
	}
	for (size_t i = 0; i < len; i++) {
		unsigned char b = (unsigned char)text[i], next = i + 1 < len ? (unsigned char)text[i + 1] : 0;
		bool c1 = b == 0xc2 && next >= 0x80 && next < 0xa0; /* U+0080 to U+009F */
		if (!c1 && !(b < 0x20 && b != '\n' && b != '\t') && b != 0x7f)
			continue;
		fwrite(text + from, 1, i - from, f);
		fputs("\xef\xbf\xbd", f);
		i += c1;
		from = i + 1;
	}
	fwrite(text + from, 1, len - from, f);
}

char *cli_read_stdin(const struct cli *cli, size_t *len)
{
	size_t room = 65536, n = 0;
	char *text = malloc(room + 1);

	while (text != NULL) {
		ssize_t got = read(STDIN_FILENO, text + n, room - n);
		if (got < 0) {
			fprintf(stderr, "weft %s: standard input: %s\n", cli->command->name, strerror(errno));
			break;
		}
		n += (size_t)got;
		if (got == 0) {
			text[n] = 0;
			*len = n;
			return text;
		}
		if (n == room) {
			if (room >= MAX_STDIN) {
				fprintf(stderr, "weft %s: standard input is larger than %d MiB\n", cli->command->name,
					MAX_STDIN >> 20);
				break;
			}
			room *= 2;
			char *more = realloc(text, room + 1);
			if (more == NULL)
				break;
			text = more;
		}
	}
	free(text);
	return NULL;
}

char *cli_text_argument(const struct cli *cli, int at, const char *what, size_t *len, int *status)
{
	const char *given = cli->n_args > at ? cli->args[at] : NULL;
	char *text;

	if (given == NULL && isatty(STDIN_FILENO)) {
		*status = cli_usage(cli, "%s is missing (- reads it from standard input)", what);
		return NULL;
	}
	if (given == NULL || strcmp(given, "-") == 0) {
		text = cli_read_stdin(cli, len);
	} else {
		text = strdup(given);
		*len = strlen(given);
	}
	if (text == NULL)
		*status = EXIT_FAILED;
	return text;
}

json_t *cli_tokens(const char *text)
{
	json_t *list = json_array();
	char *copy = strdup(text), *rest = copy, *word, *end;
	bool good = copy != NULL;

	while (good && (word = strsep(&rest, " ,\t\r\n[]")) != NULL) {
		unsigned long long v = strtoull(word, &end, 10);
		if (*word == 0)
			continue;
		good = *word >= '0' && *word <= '9' && *end == 0 && v <= UINT32_MAX &&
		       json_array_append_new(list, json_integer((json_int_t)v)) == 0;
	}
	free(copy);
	if (good)
		return list;
	json_decref(list);
	return NULL;
}

void cli_add_json(struct weft_request *r, const char *field, json_t *v)
{
	char *text = json_dumps(v, JSON_ENCODE_ANY);

	weft_request_json(r, field, text != NULL ? text : ""); /* "" is no JSON: reported when the request is sent */
	free(text);
	json_decref(v);
}

int cli_job_argument(const struct cli *cli, const char *text, uint64_t *job)
{
	char *end;

	errno = 0;
	*job = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end != 0 || errno != 0)
		return cli_usage(cli, "\"%s\" is no job number", text);
	return 0;
}
