/* cmd-batch.c: `weft batch`: many rows of a file, answered while nothing more urgent is there. The batch lives in the server's
 * store under a name; this program may come and go. */
#include "batch.h"
#include <errno.h>
#include <inttypes.h>
#include <libgen.h>
#include <poll.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE_MS = 1000 }; /* between two tries to reach a server that is away */

const struct cli_option batch_options[] = {
	{"output", "FILE", "run, results: where answers go; - is standard output, the default of results"},
	{"errors", "FILE", "run, results: where rows without an answer go; default: FILE.errors beside the output"},
	{"ordered", NULL, "run, results: answers in the order of the rows, not of their ends"},
	{"follow", NULL, "results: wait until the last row has ended"},
	{"name", "NAME", "submit, run: the batch's name; default: from the file's name and place"},
	{"in-flight", "N", "run: send no more rows while so many have not ended; default 100000"},
	{"priority", "N", "0 to 1000, 0 first; default 100"},
	{"model", "NAME", "of rows that name none: the base, or a blend of the server"},
	{"adapter", "NAME=SCALE", "of rows that name neither adapters nor a model; may be repeated"},
	{"template", "NAME", "chat template of rows with messages"},
	{"seed", "N", "of rows that have none"},
	{0},
};

/* ---- the server ---- */

int64_t batch_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int batch_wait(int ms)
{
	struct pollfd p = {.fd = cli_interrupt_fd(), .events = POLLIN};

	return poll(&p, p.fd >= 0, ms) > 0 ? EXIT_INTERRUPTED : 0;
}

static bool passes(const struct weft_client_error *e)
{
	return e->code == WEFT_CLIENT_EUNREACHABLE || e->code == WEFT_CLIENT_ETIMEOUT ||
	       (e->code == WEFT_CLIENT_EREFUSED && e->retry);
}

int batch_call(struct batch *b, struct weft_request *r, struct weft_reply **reply)
{
	bool said = false;
	int status = cli_open(b->cli);

	while (status == 0 && weft_client_call(b->cli->client, r, reply, b->cli->timeout) < 0) {
		const struct weft_client_error *e = weft_client_error(b->cli->client);
		if (!passes(e)) {
			status = cli_failed(b->cli, 0);
			break;
		}
		if (!said)
			fprintf(stderr, "%sweft batch: %s: trying again until it works (Ctrl-C ends this program, not the batch)\n",
				b->progress ? "\n" : "", e->text);
		said = true;
		status = batch_wait(e->retry_after_ms > 0 && e->retry_after_ms < 60000 ? (int)e->retry_after_ms : PATIENCE_MS);
	}
	weft_request_free(r);
	return status;
}

static uint64_t uint_of(const struct weft_reply *r, const char *path)
{
	uint64_t v = 0;

	weft_reply_uint(r, path, &v);
	return v;
}

static void take_figures(struct batch *b, const struct weft_reply *r)
{
	static const char *const ends[] = {"failed", "cancelled", "expired", "dead"};
	char path[48];

	b->id = uint_of(r, "batch.batch");
	b->rows = uint_of(r, "batch.rows");
	weft_reply_bool(r, "batch.sealed", &b->sealed);
	b->completion_tokens = uint_of(r, "batch.completion_tokens");
	b->failed = 0;
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		snprintf(path, sizeof(path), "batch.counts.%s", ends[i]);
		b->failed += uint_of(r, path);
	}
	b->ended = b->failed + uint_of(r, "batch.counts.done");
}

int batch_look(struct batch *b)
{
	struct weft_request *r = weft_request_new("batch.status");
	struct weft_reply *reply;
	int status;

	weft_request_str(r, "name", b->name);
	if ((status = batch_call(b, r, &reply)) != 0)
		return status;
	take_figures(b, reply);
	weft_reply_free(reply);
	return 0;
}

/* ---- a batch from a file ---- */

/* The same file in the same place has the same name, so that the same command goes on. */
static int choose_name(struct batch *b)
{
	const char *given = option_value(b->cli, "name");
	char *place = realpath(b->path, NULL), *copy = strdup(b->path), hex[9];
	unsigned char digest[crypto_generichash_BYTES_MIN];
	int n;

	if (given != NULL) {
		n = snprintf(b->name, sizeof(b->name), "%s", given);
	} else if (place == NULL || copy == NULL) {
		fprintf(stderr, "weft batch: %s: %s\n", b->path, strerror(errno));
		n = -1;
	} else {
		crypto_generichash(digest, sizeof(digest), (unsigned char *)place, strlen(place), NULL, 0);
		sodium_bin2hex(hex, sizeof(hex), digest, 4);
		n = snprintf(b->name, sizeof(b->name), "%.80s-%s", basename(copy), hex);
		for (char *c = b->name; *c; c++)
			if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-", *c) == NULL)
				*c = '-';
		if (b->name[0] == '.')
			b->name[0] = '-';
	}
	free(place);
	free(copy);
	if (n >= (int)sizeof(b->name))
		return cli_usage(b->cli, "a batch's name has at most %zu characters", sizeof(b->name) - 1);
	return n < 0 ? EXIT_FAILED : 0;
}

/* What the options say for all rows, as the fields of a request. */
static int defaults_of(struct batch *b)
{
	json_t *adapters = json_object();
	const char *template = option_value(b->cli, "template"), *model = option_value(b->cli, "model");
	uint64_t seed, priority;
	int status = adapters_given(b->cli, adapters);

	b->defaults = json_copy(b->cli->sampling);
	if (status == 0 && option_uint(b->cli, "seed", &seed, &status))
		json_object_set_new(b->defaults, "seed", json_integer((json_int_t)seed));
	if (status == 0 && option_uint(b->cli, "priority", &priority, &status))
		json_object_set_new(b->defaults, "priority", json_integer((json_int_t)priority));
	if (template != NULL)
		json_object_set_new(b->defaults, "template", json_string(template));
	if (status == 0 && model != NULL && json_object_size(adapters) > 0)
		status = cli_usage(b->cli, "--model and --adapter exclude each other");
	if (model != NULL)
		json_object_set_new(b->defaults, "model", json_string(model));
	else if (json_object_size(adapters) > 0)
		json_object_set(b->defaults, "adapters", adapters);
	json_decref(adapters);
	return status;
}

static int open_batch(struct batch *b)
{
	struct weft_request *r = weft_request_new("batch.open");
	struct weft_reply *reply;
	const char *first;
	int status;

	weft_request_str(r, "name", b->name);
	cli_add_json(r, "meta", json_pack("{s:s}", "first_row", b->first));
	if ((status = batch_call(b, r, &reply)) != 0)
		return status;
	take_figures(b, reply);
	first = weft_reply_str(reply, "batch.meta.first_row", NULL);
	if (first == NULL || strcmp(first, b->first) != 0) {
		fprintf(stderr,
			"weft batch: there is a batch %s already, made from another file: --name gives this one another name, "
			"`weft batch close %s` forgets that one\n",
			b->name, b->name);
		status = EXIT_FAILED;
	}
	weft_reply_free(reply);
	return status;
}

static void begin_figures(struct batch *b)
{
	b->began = batch_now();
	b->shown = b->began;
	b->began_ended = b->ended;
	b->began_tokens = b->completion_tokens;
	b->progress = isatty(STDERR_FILENO);
}

static int prepare(struct batch *b, const char *path)
{
	int status;

	b->path = path;
	cli_catch_interrupts();
	if (sodium_init() < 0)
		return EXIT_FAILED;
	if ((status = batch_first_line(b)) != 0 || (status = choose_name(b)) != 0 || (status = defaults_of(b)) != 0)
		return status;
	status = open_batch(b);
	begin_figures(b);
	return status;
}

static int submit(struct batch *b)
{
	bool end = b->sealed;
	int status = 0;

	while (!end && (status = batch_send_some(b, &end)) == 0) {
		if (b->progress)
			batch_show(b, false);
		if (cli_interrupted())
			return EXIT_INTERRUPTED;
	}
	if (status == 0 && !b->sealed) {
		struct weft_request *r = weft_request_new("batch.seal");
		weft_request_uint(r, "batch", b->id);
		status = batch_call(b, r, NULL);
	}
	if (status == 0)
		puts(b->name);
	return status;
}

static int open_output(struct batch *b, const char *output)
{
	char why[512];

	if (ledger_open(&b->ledger, output, option_value(b->cli, "errors"), b->name, option_given(b->cli, "ordered"), why) == 0)
		return 0;
	fprintf(stderr, "weft batch: %s\n", why);
	return EXIT_FAILED;
}

static int finish(struct batch *b, int status)
{
	if (status == EXIT_INTERRUPTED)
		fprintf(stderr,
			"weft batch: %s goes on without this program: the same command follows it again, `weft batch cancel %s` "
			"ends it\n",
			b->name, b->name);
	if (status == 0 && b->failed > 0 && b->ledger.errors.path != NULL)
		fprintf(stderr, "weft batch: %" PRIu64 " rows have no answer: see %s\n", b->failed, b->ledger.errors.path);
	if (status == 0 && b->failed > 0)
		status = EXIT_FAILED;
	return status;
}

static int verb_submit(struct batch *b, const char *path)
{
	int status = prepare(b, path);

	return status == 0 ? submit(b) : status;
}

static int verb_run(struct batch *b, const char *path)
{
	const char *output = option_value(b->cli, "output");
	int status;

	if (output == NULL)
		return cli_usage(b->cli, "run wants --output FILE");
	if ((status = prepare(b, path)) != 0 || (status = open_output(b, output)) != 0)
		return status;
	return finish(b, batch_follow(b));
}

/* ---- a batch by its name ---- */

static int verb_results(struct batch *b, const char *name)
{
	const char *output = option_value(b->cli, "output");
	bool any = true;
	int status;

	snprintf(b->name, sizeof(b->name), "%s", name);
	cli_catch_interrupts();
	if ((status = batch_look(b)) != 0 || (status = open_output(b, output != NULL ? output : "-")) != 0)
		return status;
	begin_figures(b);
	if (option_given(b->cli, "follow"))
		return finish(b, batch_follow(b));
	while (status == 0 && any)
		status = batch_fetch(b, &any);
	return finish(b, status);
}

static void print_batch(const struct weft_reply *r, const char *path)
{
	static const char *const states[] = {"queued", "delayed",   "buried",  "running", "done",
					     "failed", "cancelled", "expired", "dead"};
	char full[96];
	const char *name;
	bool sealed = false;

	snprintf(full, sizeof(full), "%s.name", path);
	name = weft_reply_str(r, full, NULL);
	snprintf(full, sizeof(full), "%s.rows", path);
	printf("%-40s %8" PRIu64 " rows", name != NULL ? name : "", uint_of(r, full));
	snprintf(full, sizeof(full), "%s.sealed", path);
	if (!weft_reply_bool(r, full, &sealed) || !sealed)
		printf(" so far");
	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		snprintf(full, sizeof(full), "%s.counts.%s", path, states[i]);
		if (uint_of(r, full) > 0)
			printf(", %" PRIu64 " %s", uint_of(r, full), states[i]);
	}
	putchar('\n');
}

static int list(struct batch *b)
{
	struct weft_reply *reply;
	int status = cli_call(b->cli, weft_request_new("batch.list"), &reply);
	char path[32];

	if (status != 0)
		return status;
	if (b->cli->json)
		status = cli_print_json(reply, "batches");
	for (size_t i = 0; !b->cli->json && i < weft_reply_count(reply, "batches"); i++) {
		snprintf(path, sizeof(path), "batches.%zu", i);
		print_batch(reply, path);
	}
	weft_reply_free(reply);
	return status;
}

/* cancel, retry, close: the name's batch is asked for, then the operation is done on its number. */
static int by_name(struct batch *b, const char *op, const char *name)
{
	struct weft_request *r = weft_request_new("batch.status");
	struct weft_reply *reply;
	int status;

	weft_request_str(r, "name", name);
	if (op != NULL) {
		if ((status = cli_call(b->cli, r, &reply)) != 0)
			return status;
		r = weft_request_new(op);
		weft_request_uint(r, "batch", uint_of(reply, "batch.batch"));
		weft_reply_free(reply);
	}
	if ((status = cli_call(b->cli, r, &reply)) != 0)
		return status;
	if (b->cli->json)
		status = cli_print_json(reply, NULL);
	else if (weft_reply_has(reply, "batch.name"))
		print_batch(reply, "batch");
	weft_reply_free(reply);
	return status;
}

static int verb_status(struct batch *b, const char *name)
{
	return name != NULL ? by_name(b, NULL, name) : list(b);
}

static int verb_cancel(struct batch *b, const char *name)
{
	return by_name(b, "batch.cancel", name);
}

static int verb_retry(struct batch *b, const char *name)
{
	return by_name(b, "batch.retry", name);
}

static int verb_close(struct batch *b, const char *name)
{
	return by_name(b, "batch.close", name);
}

static const struct verb {
	const char *name;
	int min_args, max_args;
	int (*run)(struct batch *b, const char *argument);
} verbs[] = {
	{"submit", 1, 1, verb_submit}, {"run", 1, 1, verb_run},     {"status", 0, 1, verb_status}, {"results", 1, 1, verb_results},
	{"cancel", 1, 1, verb_cancel}, {"retry", 1, 1, verb_retry}, {"close", 1, 1, verb_close},
};

static int run(struct batch *b)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		const struct verb *v = &verbs[i];
		int n = b->cli->n_args - 1;
		if (strcmp(b->cli->args[0], v->name) != 0)
			continue;
		if (n < v->min_args || n > v->max_args)
			return cli_usage(b->cli, "%s takes %s", v->name,
					 v->run == verb_submit || v->run == verb_run ? "a FILE" : "the NAME of a batch");
		return v->run(b, n > 0 ? b->cli->args[1] : NULL);
	}
	return cli_usage(b->cli,
			 "expected submit FILE, run FILE, status [NAME], results NAME, cancel NAME, retry NAME or close NAME");
}

int cmd_batch(struct cli *cli)
{
	struct batch b = {.cli = cli};
	int status = run(&b);

	if (b.in != NULL)
		fclose(b.in);
	json_decref(b.defaults);
	if (ledger_close(&b.ledger) < 0 && status == 0)
		status = EXIT_FAILED;
	return status;
}
