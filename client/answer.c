/* answer.c: following a job: its text on stdout while it comes, its progress on a stderr that is a terminal, its end as an exit
 * code. */
#include "cli.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SILENCE_MS = 5000 }; /* without an event for so long, the server is asked whether it still has the job */

struct follow {
	struct cli *cli;
	struct answer *answer;
	bool progress; /* stderr is a terminal */
	bool shown;    /* a progress line stands there */
	bool one;      /* one choice only: it may be shown while it comes */
	bool streamed;
	char last;   /* character written to stdout; '\n' at the start */
	bool broken; /* nobody reads our stdout any more */
};

void answer_finish(struct answer *a)
{
	free(a->text);
	weft_reply_free(a->done);
	a->text = NULL;
	a->done = NULL;
}

/* ---- ends ---- */

int answer_exit_code(const struct weft_reply *done)
{
	const char *state = weft_reply_str(done, "state", NULL);

	if (state == NULL)
		return EXIT_UNREACHABLE;
	return strcmp(state, "done") == 0        ? EXIT_OK
	       : strcmp(state, "expired") == 0   ? EXIT_EXPIRED
	       : strcmp(state, "cancelled") == 0 ? EXIT_CANCELLED
						 : EXIT_FAILED;
}

void answer_report_end(const struct weft_reply *done)
{
	const char *state = weft_reply_str(done, "state", NULL), *message = weft_reply_str(done, "error.message", NULL);
	const char *code = weft_reply_str(done, "error.code", NULL);
	uint64_t job = 0;

	if (state == NULL || strcmp(state, "done") == 0)
		return;
	weft_reply_uint(done, "job", &job);
	fprintf(stderr, "weft: job %llu: %s", (unsigned long long)job, state);
	if (message != NULL) {
		fprintf(stderr, " (%s): ", code != NULL ? code : "internal");
		cli_put_text(stderr, message, strlen(message));
	}
	fputc('\n', stderr);
}

static void print_score(const struct weft_reply *done, size_t n)
{
	char path[64];

	puts("       logprob  tokens  greedy");
	for (size_t i = 0; i < n; i++) {
		double logprob = 0;
		bool greedy = false;
		snprintf(path, sizeof(path), "choices.%zu.logprob", i);
		weft_reply_float(done, path, &logprob);
		snprintf(path, sizeof(path), "choices.%zu.greedy", i);
		weft_reply_bool(done, path, &greedy);
		snprintf(path, sizeof(path), "choices.%zu.tokens", i);
		printf("%3zu %10.4f %7zu  %s\n", i, logprob, weft_reply_count(done, path), greedy ? "yes" : "no");
	}
}

/* What a task has made, whatever it is. */
static void print_result(const struct weft_reply *done)
{
	for (size_t i = 0; i < weft_reply_count(done, "result"); i++) {
		const char *key = weft_reply_key(done, "result", i);
		char path[160], *json = NULL;
		snprintf(path, sizeof(path), "result.%s", key);
		const char *text = weft_reply_str(done, path, NULL);
		if (text == NULL)
			json = weft_reply_json(done, path);
		printf("%-18s %s\n", key, text != NULL ? text : json != NULL ? json : "");
		free(json);
	}
}

void answer_print_choices(const struct weft_reply *done)
{
	size_t n = weft_reply_count(done, "choices"), len;
	char path[64];

	print_result(done);
	if (n > 0 && weft_reply_has(done, "choices.0.logprob")) {
		print_score(done, n);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "choices.%zu.text", i);
		const char *text = weft_reply_str(done, path, &len);
		if (n > 1)
			printf("[%zu]\n", i);
		if (text == NULL)
			continue;
		cli_put_text(stdout, text, len);
		if (len > 0 && text[len - 1] != '\n')
			putchar('\n');
	}
}

static void print_figures(const struct weft_event *e)
{
	double generating = (e->total_ms - e->queued_ms - e->prefill_ms) / 1000;

	fprintf(stderr, "weft: %llu prompt tokens, %llu answer tokens in %.3f s", (unsigned long long)e->prompt_tokens,
		(unsigned long long)e->completion_tokens, e->total_ms / 1000);
	if (e->completion_tokens > e->n_choices && generating > 0) /* each choice's first token comes with the prompt */
		fprintf(stderr, ", %.1f tokens/s", (double)(e->completion_tokens - e->n_choices) / generating);
	fputc('\n', stderr);
}

/* ---- on the way ---- */

static void clear_progress(struct follow *f)
{
	if (f->shown)
		fputs("\r\033[K", stderr);
	f->shown = false;
}

static void note_loss(struct follow *f, const struct weft_event *e)
{
	struct answer *a = f->answer;
	double loss;

	if (e->kind != WEFT_EVENT_PROGRESS || !weft_reply_float(e->body, "detail.loss", &loss))
		return;
	if (a->n_losses++ == 0)
		a->first_loss = loss;
	a->last_loss = loss;
}

static void show_share(const struct follow *f, const struct weft_event *e)
{
	const struct answer *a = f->answer;

	fprintf(stderr, "%s, %llu%%", a->task != NULL ? a->task : "reading the prompt",
		(unsigned long long)(e->done * 100 / e->total));
	if (a->n_losses > 0)
		fprintf(stderr, ", loss %.4f", a->last_loss);
}

static void show_progress(struct follow *f, const struct weft_event *e)
{
	note_loss(f, e);
	if (!f->progress || f->streamed)
		return;
	clear_progress(f);
	if (e->kind == WEFT_EVENT_QUEUED && e->position > 0)
		fprintf(stderr, "in the queue, %llu before", (unsigned long long)e->position);
	else if (e->kind == WEFT_EVENT_PROGRESS && e->total > 0)
		show_share(f, e);
	else if (e->kind == WEFT_EVENT_PREEMPTED)
		fputs("waiting for more urgent jobs", stderr);
	else
		return;
	f->shown = true;
}

static bool keep_text(struct answer *a, const struct weft_event *e)
{
	char *more = realloc(a->text, a->text_len + e->text_len + 1);

	if (more == NULL)
		return false;
	a->text = more;
	memcpy(more + a->text_len, e->text, e->text_len);
	a->text_len += e->text_len;
	more[a->text_len] = 0;
	return true;
}

static void show_delta(struct follow *f, const struct weft_event *e)
{
	if (e->text_len == 0 || !f->one)
		return;
	clear_progress(f);
	cli_put_text(stdout, e->text, e->text_len);
	fflush(stdout);
	f->streamed = true;
	f->last = e->text[e->text_len - 1];
}

static void show_end(struct follow *f, const struct weft_event *e, bool figures)
{
	clear_progress(f);
	if (f->answer->task != NULL) {
		f->answer->done = weft_reply_copy(e->body, NULL);
		figures = f->progress = false;
	} else if (!f->cli->json) {
		if (!f->streamed) /* several choices, a score, or no text at all */
			answer_print_choices(e->body);
		else if (f->last != '\n')
			putchar('\n');
		fflush(stdout);
	}
	if (f->answer->interrupted == 0)
		answer_report_end(e->body);
	if (figures || f->progress)
		print_figures(e);
}

/* The user has had enough, or nobody reads: the job is cancelled, and its end is awaited. */
static int give_up(struct follow *f, uint64_t job)
{
	if (weft_client_cancel(f->cli->client, job, f->cli->timeout) < 0)
		return cli_failed(f->cli, 0);
	return 0;
}

static bool is_away(const struct weft_client_error *e)
{
	return e->code == WEFT_CLIENT_EUNREACHABLE || e->code == WEFT_CLIENT_ETIMEOUT ||
	       (e->code == WEFT_CLIENT_EREFUSED && e->retry);
}

static int ask_whether_it_lives(struct follow *f, uint64_t job)
{
	struct weft_request *r = weft_request_new("job");
	struct weft_reply *reply = NULL;
	int status;

	weft_request_uint(r, "job", job);
	if (f->answer->patient && weft_client_call(f->cli->client, r, &reply, f->cli->timeout) < 0 &&
	    is_away(weft_client_error(f->cli->client))) {
		weft_request_free(r);
		if (f->progress && !f->streamed) {
			clear_progress(f);
			fputs("the server is away: waiting for it", stderr);
			f->shown = true;
		}
		return 0;
	}
	weft_reply_free(reply);
	reply = NULL;
	status = cli_call(f->cli, r, &reply);
	weft_reply_free(reply);
	return status;
}

static int show(struct follow *f, const struct weft_event *e)
{
	if (f->cli->json) {
		int status = cli_print_json(e->body, NULL);
		fflush(stdout);
		if (status != 0)
			return status;
	} else if (e->kind == WEFT_EVENT_DELTA) {
		show_delta(f, e);
	}
	if (e->kind == WEFT_EVENT_DELTA && e->choice == 0 && !keep_text(f->answer, e)) {
		fputs("weft: out of memory\n", stderr);
		return EXIT_FAILED;
	}
	show_progress(f, e);
	return 0;
}

int answer_follow(struct cli *cli, uint64_t job, bool figures, struct answer *a)
{
	struct follow f = {.cli = cli, .answer = a, .progress = isatty(STDERR_FILENO) && !cli->json, .last = '\n'};
	const struct weft_event *e;
	json_int_t n = json_integer_value(json_object_get(cli->sampling, "n"));
	int err, status;

	f.one = n <= 1;
	for (;;) {
		err = weft_client_next(cli->client, &e, a->interrupted ? cli->timeout : SILENCE_MS);
		if (err == WEFT_CLIENT_ETIMEOUT && a->interrupted == 0) { /* a long wait in the queue, or no server any more */
			if ((status = ask_whether_it_lives(&f, job)) != 0)
				return status;
			continue;
		}
		if (err == WEFT_CLIENT_EINTERRUPTED && a->interrupted == 0) {
			a->interrupted = cli_interrupted();
			clear_progress(&f);
			if ((status = give_up(&f, job)) != 0)
				return status;
			continue;
		}
		if (err < 0) {
			clear_progress(&f);
			return cli_failed(cli, err);
		}
		if ((status = show(&f, e)) != 0)
			return status;
		if (ferror(stdout) && !f.broken) {
			f.broken = true;
			if ((status = give_up(&f, job)) != 0)
				return status;
		}
		if (e->kind == WEFT_EVENT_DONE)
			break;
	}
	show_end(&f, e, figures);
	return a->interrupted ? 128 + a->interrupted : f.broken ? EXIT_FAILED : answer_exit_code(e->body);
}

int answer_detach(struct cli *cli, struct weft_request *r)
{
	struct weft_reply *reply;
	uint64_t job;
	int status = EXIT_OK;

	if (weft_client_submit(cli->client, r, &job, &reply, cli->timeout) < 0)
		return cli_failed(cli, 0);
	if (cli->json)
		status = cli_print_json(reply, NULL);
	else
		printf("%llu\n", (unsigned long long)job);
	weft_reply_free(reply);
	return status;
}

int answer_task(struct cli *cli, struct weft_request *r, int status, const char *doing, void (*print)(const struct answer *a))
{
	struct answer a = {.task = doing};
	uint64_t job;

	if (r == NULL)
		status = cli_usage(cli, "out of memory");
	if (status == 0)
		status = cli_open(cli);
	if (status == 0 && option_given(cli, "detach"))
		status = answer_detach(cli, r);
	else if (status == 0 && weft_client_submit(cli->client, r, &job, NULL, cli->timeout) < 0)
		status = cli_failed(cli, 0);
	else if (status == 0)
		status = answer_follow(cli, job, false, &a);
	if (a.done != NULL && !cli->json)
		print(&a);
	answer_finish(&a);
	weft_request_free(r);
	return status;
}
