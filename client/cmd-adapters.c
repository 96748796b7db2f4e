/* cmd-adapters.c: `weft adapters`: what the server has, and loading and unloading by name. Fusing is in cmd-fuse.c. */
#include "cli.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *str_of(const struct weft_reply *r, const char *path, const char *key)
{
	char full[160];
	const char *text;

	snprintf(full, sizeof(full), "%s.%s", path, key);
	text = weft_reply_str(r, full, NULL);
	return text != NULL ? text : "";
}

static unsigned long long uint_of(const struct weft_reply *r, const char *path, const char *key)
{
	char full[160];
	uint64_t v = 0;

	snprintf(full, sizeof(full), "%s.%s", path, key);
	weft_reply_uint(r, full, &v);
	return (unsigned long long)v;
}

static void print_adapter(const struct weft_reply *r, const char *path)
{
	const char *digest = str_of(r, path, "digest"), *reason = str_of(r, path, "reason");

	printf("%-32s %-10s", str_of(r, path, "name"), str_of(r, path, "residency"));
	if (digest[0] != 0)
		printf(" %-5s rank %llu to %llu, %llu modules, %.1f MB, %llu pins, %.12s", str_of(r, path, "kind"),
		       uint_of(r, path, "rank_min"), uint_of(r, path, "rank_max"), uint_of(r, path, "modules"),
		       (double)uint_of(r, path, "bytes") / 1e6, uint_of(r, path, "pins"), digest);
	printf("%s%s\n", reason[0] != 0 ? " " : "", reason);
}

/* The reply's strings are names of the server; a blend's own name may have dots, so its members are read from the JSON text. */
static void print_blends(const struct weft_reply *r)
{
	char *text = weft_reply_json(r, NULL);
	json_t *all = text != NULL ? json_loads(text, 0, NULL) : NULL, *parts, *scale;
	const char *name, *part;

	json_object_foreach(json_object_get(all, "blends"), name, parts)
	{
		printf("%-32s blend     ", name);
		json_object_foreach(parts, part, scale) printf(" %s:%g", part, json_number_value(scale));
		putchar('\n');
	}
	json_decref(all);
	free(text);
}

static int list(struct cli *cli)
{
	struct weft_reply *reply;
	int status = cli_call(cli, weft_request_new("adapters"), &reply);
	char path[32];

	if (status != 0)
		return status;
	if (cli->json) {
		status = cli_print_json(reply, NULL);
	} else {
		for (size_t i = 0; i < weft_reply_count(reply, "adapters"); i++) {
			snprintf(path, sizeof(path), "adapters.%zu", i);
			print_adapter(reply, path);
		}
		print_blends(reply);
	}
	weft_reply_free(reply);
	return status;
}

static int call(struct cli *cli, const char *op, const char *name, struct weft_reply **reply)
{
	struct weft_request *r = weft_request_new(op);

	weft_request_str(r, "name", name);
	return cli_call(cli, r, reply);
}

/* Asks to load again and again until the adapter is there or has failed: asking twice changes nothing. */
static int load(struct cli *cli, const char *name, struct weft_reply **reply)
{
	const struct timespec pause = {.tv_nsec = 50000000};
	int status;

	cli_catch_interrupts();
	while ((status = call(cli, "adapter.load", name, reply)) == 0) {
		if (strcmp(str_of(*reply, "adapter", "residency"), "loading") != 0)
			return 0;
		weft_reply_free(*reply);
		nanosleep(&pause, NULL);
		if (cli_interrupted())
			return EXIT_INTERRUPTED;
	}
	return status;
}

int cmd_adapters(struct cli *cli)
{
	struct weft_reply *reply;
	bool loads;
	int status;

	if (cli->n_args == 2 && strcmp(cli->args[0], "fuse") == 0)
		return adapters_fuse(cli, cli->args[1]);
	for (const struct cli_option *o = adapters_options; o->name != NULL; o++)
		if (option_given(cli, o->name))
			return cli_usage(cli, "--%s goes with fuse NAME", o->name);
	if (cli->n_args == 0)
		return list(cli);
	loads = strcmp(cli->args[0], "load") == 0;
	if (cli->n_args != 2 || (!loads && strcmp(cli->args[0], "unload") != 0))
		return cli_usage(cli, "expected nothing, load NAME, unload NAME or fuse NAME");
	status = loads ? load(cli, cli->args[1], &reply) : call(cli, "adapter.unload", cli->args[1], &reply);
	if (status != 0)
		return status;
	if (cli->json)
		status = cli_print_json(reply, NULL);
	else
		print_adapter(reply, "adapter");
	if (strcmp(str_of(reply, "adapter", "residency"), "failed") == 0)
		status = EXIT_FAILED;
	weft_reply_free(reply);
	return status;
}
