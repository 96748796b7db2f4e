/* cmd-server.c: `weft hello | plugins | stats | pause | resume | drain | keygen`. */
#include "cli.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Prints a map as lines "name.name  value", in the order in which it came. */
static void print_facts(const struct weft_reply *r, const char *path, const char *shown)
{
	for (size_t i = 0; i < weft_reply_count(r, path); i++) {
		const char *key = weft_reply_key(r, path, i), *text;
		char full[128], name[128];
		double number;
		uint64_t whole;
		if (key == NULL || (path[0] == 0 && (strcmp(key, "v") == 0 || strcmp(key, "id") == 0 || strcmp(key, "ok") == 0)))
			continue;
		snprintf(full, sizeof(full), "%s%s%s", path, path[0] != 0 ? "." : "", key);
		snprintf(name, sizeof(name), "%s%s%s", shown, shown[0] != 0 ? " " : "", key);
		for (char *c = name; *c != 0; c++)
			if (*c == '_')
				*c = ' ';
		if ((text = weft_reply_str(r, full, NULL)) != NULL) {
			printf("%-28s %s\n", name, text);
		} else if (weft_reply_uint(r, full, &whole)) {
			printf("%-28s %llu\n", name, (unsigned long long)whole);
		} else if (weft_reply_float(r, full, &number)) {
			printf("%-28s %.2f\n", name, number);
		} else if (weft_reply_key(r, full, 0) != NULL) {
			print_facts(r, full, name);
		} else {
			char *json = weft_reply_json(r, full);
			printf("%-28s %s\n", name, json != NULL && strcmp(json, "null") != 0 ? json : "-");
			free(json);
		}
	}
}

static int print_op(struct cli *cli, const char *op)
{
	struct weft_reply *reply;
	int status = cli_call(cli, weft_request_new(op), &reply);

	if (status != 0)
		return status;
	if (cli->json)
		status = cli_print_json(reply, NULL);
	else
		print_facts(reply, "", "");
	weft_reply_free(reply);
	return status;
}

int cmd_hello(struct cli *cli)
{
	return print_op(cli, "hello");
}

int cmd_stats(struct cli *cli)
{
	return print_op(cli, "stats");
}

int cmd_state(struct cli *cli) /* pause, resume, drain: the command has the operation's name */
{
	struct weft_reply *reply;
	int status = cli_call(cli, weft_request_new(cli->command->name), &reply);
	const char *state;

	if (status != 0)
		return status;
	state = weft_reply_str(reply, "state", NULL);
	if (cli->json)
		status = cli_print_json(reply, NULL);
	else
		puts(state != NULL ? state : "");
	weft_reply_free(reply);
	return status;
}

/* ---- plugins ---- */

static const char *str_at(const struct weft_reply *r, const char *path, const char *key)
{
	char full[192];
	const char *s;

	snprintf(full, sizeof(full), "%s.%s", path, key);
	s = weft_reply_str(r, full, NULL);
	return s != NULL ? s : "";
}

/* A default or a bound, as short as it is exact enough to read; "" when there is none. */
static void value_at(char *text, size_t size, const struct weft_reply *r, const char *path, const char *key)
{
	char full[192], *json;
	double number;

	snprintf(full, sizeof(full), "%s.%s", path, key);
	if (weft_reply_float(r, full, &number)) {
		snprintf(text, size, "%.9g", number);
	} else {
		json = weft_reply_has(r, full) ? weft_reply_json(r, full) : NULL;
		snprintf(text, size, "%s", json != NULL ? json : "");
		free(json);
	}
}

static void print_param(const struct weft_reply *r, const char *path)
{
	char def[64], min[32], max[32], range[80] = "";

	value_at(def, sizeof(def), r, path, "default");
	value_at(min, sizeof(min), r, path, "min");
	value_at(max, sizeof(max), r, path, "max");
	if (min[0] != 0)
		snprintf(range, sizeof(range), "%s to %s", min, max);
	printf("  %-22s %-11s %-8s %-16s %s\n", str_at(r, path, "name"), str_at(r, path, "type"), def, range,
	       str_at(r, path, "doc"));
}

static void print_plugin(const struct weft_reply *r, size_t i)
{
	char path[64], params[96], one[128];

	snprintf(path, sizeof(path), "plugins.%zu", i);
	snprintf(params, sizeof(params), "%s.params", path);
	printf("%s%s (%s %s): %s\n", i > 0 ? "\n" : "", str_at(r, path, "name"), str_at(r, path, "kind"),
	       str_at(r, path, "version"), str_at(r, path, "doc"));
	for (size_t k = 0; k < weft_reply_count(r, params); k++) {
		if (k == 0)
			printf("  %-22s %-11s %-8s %-16s %s\n", "OPTION", "TYPE", "DEFAULT", "RANGE", "MEANING");
		snprintf(one, sizeof(one), "%s.%zu", params, k);
		print_param(r, one);
	}
}

int cmd_plugins(struct cli *cli)
{
	struct weft_reply *reply;
	int status = cli_call(cli, weft_request_new("plugins"), &reply);
	char path[32];

	if (status != 0)
		return status;
	if (cli->json) {
		status = cli_print_json(reply, NULL);
	} else {
		for (size_t i = 0; i < weft_reply_count(reply, "plugins"); i++)
			print_plugin(reply, i);
		printf("\nsampler chain:");
		for (size_t i = 0; i < weft_reply_count(reply, "chain"); i++) {
			snprintf(path, sizeof(path), "chain.%zu", i);
			const char *name = weft_reply_str(reply, path, NULL);
			printf(" %s", name != NULL ? name : "");
		}
		putchar('\n');
	}
	weft_reply_free(reply);
	return status;
}

/* ---- keygen ---- */

int cmd_keygen(struct cli *cli)
{
	const char *path = cli->args[0];
	char public_key[41], secret_key[41];
	int fd;

	if (weft_client_keygen(public_key, secret_key) < 0) {
		fputs("weft keygen: this libzmq is built without CURVE\n", stderr);
		return EXIT_FAILED;
	}
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, secret_key, 40) != 40 || write(fd, "\n", 1) != 1 || close(fd) < 0) {
		fprintf(stderr, "weft keygen: %s: %s\n", path, strerror(errno));
		return EXIT_FAILED;
	}
	puts(public_key);
	return EXIT_OK;
}
