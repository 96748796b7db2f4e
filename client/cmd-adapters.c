/* cmd-adapters.c: `weft adapters`: what the server has, and loading and unloading by name. Fusing is in cmd-fuse.c, learning in
 * cmd-learn.c. */
#include "cli.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Which verbs an option goes with stands before the colon. */
const struct cli_option adapters_options[] = {
	{"adapter", "NAME[=WEIGHT]", "fuse, learn: an adapter, and for fuse its weight, which may be negative; may be repeated"},
	{"type", "TYPE",
	 "fuse: cat (default), svd, linear, ties, magnitude_prune, dare_linear, dare_ties; each but cat and svd also with _svd"},
	{"density", "SHARE", "fuse: the share of values that stays, above 0 up to 1"},
	{"sign-method", "METHOD", "fuse: total (default) or frequency"},
	{"svd-rank", "N", "fuse: rank of the result; default: the largest of the adapters"},
	{"svd-clamp", "QUANTILE", "fuse: values beyond this quantile are cut to it"},
	{"mathematics", "WHOSE", "fuse: true (default), peft-0.6, peft-0.7, peft-0.9, peft-0.18 or peft-0.19"},
	{"dtype", "TYPE", "fuse: f32 (default), f16 or bf16, for the form peft"},
	{"shard-bytes", "N", "fuse: the most that a file holds, for the form base"},
	{"data", "FILE", "learn: what to learn from: on each line a JSON object of prompt, messages or tokens, and answer"},
	{"held-out", "FILE", "learn: what the result is measured on; default: a fifth of the data, which is then not learned from"},
	{"template", "NAME", "learn: how messages become a prompt; default: the server's"},
	{"by", "WHAT", "learn: one weight per adapter for the whole (global, default), each layer or each module"},
	{"method", "METHOD", "learn: gradient (default) or search"},
	{"steps", "N", "learn: steps of the gradient (default 100), or generations of the search (default 20)"},
	{"batch", "N", "learn: lines of a step (default 16), or of the search (default 64)"},
	{"rate", "RATE", "learn: of the gradient's steps; default 0.05"},
	{"penalty", "WEIGHT", "learn: of the weights' mean size in what is made small; default 0, for the search 0.05"},
	{"population", "N", "learn: candidates of a generation of the search; default: by the number of weights"},
	{"bound", "SIZE", "learn: the largest weight of the search; default 1.5"},
	{"form", "FORM",
	 "fuse, learn: what is fused: peft (default), gguf, or base: merged into the server's model; how weights move: raw (default), softmax, "
	 "sigmoid or clamp"},
	{"seed", "N", "fuse, learn: of what is random"},
	{"replace", NULL, "fuse, learn: what has that name already gives way"},
	{"class", "CLASS", "fuse, learn: interactive or batch (default)"},
	{"priority", "N", "fuse, learn: 0 to 1000, 0 first; default 100"},
	{"deadline-ms", "MS", "fuse, learn: the job expires when it has not ended by then"},
	{"queue-ms", "MS", "fuse, learn: the job expires when it has not started by then"},
	{"on-disconnect", "WHAT", "fuse, learn: keep (default) or cancel: what becomes of the job when this client goes away"},
	{"detach", NULL, "fuse, learn: print the job's number and do not wait"},
	{0},
};

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

/* ", check passed, KL 1.7e-06" */
static void print_check(const struct weft_reply *r, const char *path)
{
	const char *state = str_of(r, path, "check.state");
	double divergence = 0;
	char full[160];

	if (state[0] == 0)
		return;
	printf(", check %s", state);
	snprintf(full, sizeof(full), "%s.check.divergence", path);
	if (weft_reply_float(r, full, &divergence))
		printf(", KL %.2g", divergence);
}

static void print_adapter(const struct weft_reply *r, const char *path)
{
	const char *digest = str_of(r, path, "digest"), *reason = str_of(r, path, "reason");

	printf("%-32s %-10s", str_of(r, path, "name"), str_of(r, path, "residency"));
	if (digest[0] != 0)
		printf(" %-5s rank %llu to %llu, %llu modules, %.1f MB, %llu pins, %.12s", str_of(r, path, "kind"),
		       uint_of(r, path, "rank_min"), uint_of(r, path, "rank_max"), uint_of(r, path, "modules"),
		       (double)uint_of(r, path, "bytes") / 1e6, uint_of(r, path, "pins"), digest);
	print_check(r, path);
	printf("%s%s\n", reason[0] != 0 ? " " : "", reason);
}

/* Blends that stand in files, with what they are worth. */
static void print_learned(const json_t *list)
{
	json_t *b, *part, *h;
	const char *name;
	size_t i;

	json_array_foreach(list, i, b)
	{
		printf("%-32s learned   ", json_string_value(json_object_get(b, "name")));
		json_object_foreach(json_object_get(b, "adapters"), name, part)
			printf(" %s:%g", name, json_number_value(json_object_get(part, "weight")));
		if (json_object_get(b, "reason") != NULL)
			printf(" %s", json_string_value(json_object_get(b, "reason")));
		if ((h = json_object_get(b, "held_out")) != NULL)
			printf(", by %s, held-out loss %.4f (uniform %.4f)", json_string_value(json_object_get(b, "by")),
			       json_number_value(json_object_get(h, "learned")), json_number_value(json_object_get(h, "uniform")));
		putchar('\n');
	}
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
	print_learned(json_object_get(all, "learned"));
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

static bool goes_with(const struct cli_option *o, const char *verb)
{
	const char *at = strstr(o->doc, verb);

	return at != NULL && at < strchr(o->doc, ':');
}

/* 0: all options that were given are the verb's. */
static int check_options(const struct cli *cli, const char *verb)
{
	for (const struct cli_option *o = adapters_options; o->name != NULL; o++)
		if (option_given(cli, o->name) && !goes_with(o, verb))
			return cli_usage(cli, "--%s goes with %.*s NAME", o->name, (int)(strchr(o->doc, ':') - o->doc), o->doc);
	return 0;
}

int cmd_adapters(struct cli *cli)
{
	struct weft_reply *reply;
	bool loads;
	int status;

	status = check_options(cli, cli->n_args == 2 ? cli->args[0] : "\n");
	if (status != 0)
		return status;
	if (cli->n_args == 2 && strcmp(cli->args[0], "fuse") == 0)
		return adapters_fuse(cli, cli->args[1]);
	if (cli->n_args == 2 && strcmp(cli->args[0], "learn") == 0)
		return adapters_learn(cli, cli->args[1]);
	if (cli->n_args == 0)
		return list(cli);
	loads = strcmp(cli->args[0], "load") == 0;
	if (cli->n_args != 2 || (!loads && strcmp(cli->args[0], "unload") != 0))
		return cli_usage(cli, "expected nothing, or load, unload, fuse or learn with a NAME");
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
