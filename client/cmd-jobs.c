/* cmd-jobs.c: `weft jobs | job | cancel | close`. */
#include "cli.h"
#include <stdlib.h>
#include <string.h>

const struct cli_option delay_options[] = {
	{"delay-ms", "MS", "how long the job rests"},
	{0},
};

const struct cli_option jobs_options[] = {
	{"state", "STATE",
	 "only jobs in this state: queued, running, preempted, delayed, buried, done, failed, cancelled, expired or dead"},
	{"class", "CLASS", "only jobs of this class: interactive or batch"},
	{"limit", "N", "at most so many, 1 to 1000; default 100"},
	{"after", "JOB", "only jobs with a higher number"},
	{0},
};

static unsigned long long uint_at(const struct weft_reply *r, const char *path, size_t i, const char *key)
{
	char full[96];
	uint64_t v = 0;

	snprintf(full, sizeof(full), path, i, key);
	weft_reply_uint(r, full, &v);
	return v;
}

static const char *str_at(const struct weft_reply *r, const char *path, size_t i, const char *key)
{
	char full[96];
	const char *s;

	snprintf(full, sizeof(full), path, i, key);
	s = weft_reply_str(r, full, NULL);
	return s != NULL ? s : "";
}

/* Why a durable job failed or is dead, below its line. */
static void print_reason(const struct weft_reply *r, size_t i)
{
	const char *message = str_at(r, "jobs.%zu.%s", i, "error.message");

	if (message[0] == 0)
		return;
	fputs("          ", stdout);
	cli_put_text(stdout, message, strlen(message));
	putchar('\n');
}

static void print_jobs(const struct weft_reply *r)
{
	static const char p[] = "jobs.%zu.%s";
	size_t n = weft_reply_count(r, "jobs");

	printf("%8s  %-9s  %-12s  %-11s %8s %9s %9s %7s %7s  %s\n", "JOB", "STATE", "OP", "CLASS", "PRIORITY", "AGE/s", "RUN/s",
	       "PROMPT", "ANSWER", "HOLDER");
	for (size_t i = 0; i < n; i++) {
		printf("%8llu  %-9s  %-12s  %-11s %8llu %9.1f %9.1f %7llu %7llu  %s\n", uint_at(r, p, i, "job"),
		       str_at(r, p, i, "state"), str_at(r, p, i, "op"), str_at(r, p, i, "class"), uint_at(r, p, i, "priority"),
		       (double)uint_at(r, p, i, "age_ms") / 1000, (double)uint_at(r, p, i, "running_ms") / 1000,
		       uint_at(r, p, i, "prompt_tokens"), uint_at(r, p, i, "completion_tokens"), str_at(r, p, i, "owner"));
		print_reason(r, i);
	}
}

int cmd_jobs(struct cli *cli)
{
	struct weft_request *r = weft_request_new("jobs");
	struct weft_reply *reply;
	int status = 0;
	uint64_t v;

	if (option_given(cli, "state"))
		weft_request_str(r, "state", option_value(cli, "state"));
	if (option_given(cli, "class"))
		weft_request_str(r, "class", option_value(cli, "class"));
	if (option_uint(cli, "limit", &v, &status))
		weft_request_uint(r, "limit", v);
	if (status == 0 && option_uint(cli, "after", &v, &status))
		weft_request_uint(r, "after", v);
	if (status != 0) {
		weft_request_free(r);
		return status;
	}
	if ((status = cli_call(cli, r, &reply)) != 0)
		return status;
	if (cli->json)
		status = cli_print_json(reply, NULL);
	else
		print_jobs(reply);
	weft_reply_free(reply);
	return status;
}

/* One operation on one job; *reply on success. */
static int call_job(struct cli *cli, const char *op, const char *text, struct weft_reply **reply)
{
	struct weft_request *r;
	uint64_t job;
	int status = cli_job_argument(cli, text, &job);

	if (status != 0)
		return status;
	r = weft_request_new(op);
	weft_request_uint(r, "job", job);
	return cli_call(cli, r, reply);
}

int cmd_job(struct cli *cli)
{
	struct weft_reply *reply;
	int status = call_job(cli, "job", cli->args[0], &reply);

	if (status != 0)
		return status;
	if (cli->json) {
		status = cli_print_json(reply, NULL);
	} else {
		for (size_t i = 0; i < weft_reply_count(reply, NULL); i++) {
			const char *key = weft_reply_key(reply, NULL, i), *text = weft_reply_str(reply, key, NULL);
			char *json;
			if (strcmp(key, "v") == 0 || strcmp(key, "id") == 0 || strcmp(key, "ok") == 0)
				continue;
			json = text == NULL ? weft_reply_json(reply, key) : NULL;
			printf("%-18s %s\n", key, text != NULL ? text : json != NULL ? json : "");
			free(json);
		}
	}
	weft_reply_free(reply);
	return status;
}

/* cancel, close, bury, kick and touch take several jobs: all are tried; the first failure is the exit code. */
static int each_job(struct cli *cli, const char *op)
{
	int first = 0;

	for (int i = 0; i < cli->n_args; i++) {
		struct weft_reply *reply = NULL;
		int status = call_job(cli, op, cli->args[i], &reply);
		const char *result = reply != NULL ? weft_reply_str(reply, "result", NULL) : NULL;
		if (status == 0 && cli->json)
			status = cli_print_json(reply, NULL);
		else if (status == 0 && result != NULL)
			printf("%s %s\n", cli->args[i], result);
		weft_reply_free(reply);
		if (first == 0)
			first = status;
	}
	return first;
}

int cmd_cancel(struct cli *cli)
{
	return each_job(cli, "cancel");
}

int cmd_close(struct cli *cli)
{
	return each_job(cli, "close");
}

int cmd_verb(struct cli *cli)
{
	return each_job(cli, cli->command->name);
}

int cmd_delay(struct cli *cli)
{
	struct weft_request *r;
	struct weft_reply *reply;
	const char *result;
	uint64_t job, ms;
	int status = cli_job_argument(cli, cli->args[0], &job);

	if (status == 0 && !option_uint(cli, "delay-ms", &ms, &status) && status == 0)
		status = cli_usage(cli, "--delay-ms is missing");
	if (status != 0)
		return status;
	r = weft_request_new("delay");
	weft_request_uint(r, "job", job);
	weft_request_uint(r, "delay_ms", ms);
	if ((status = cli_call(cli, r, &reply)) != 0)
		return status;
	result = weft_reply_str(reply, "result", NULL);
	if (cli->json)
		status = cli_print_json(reply, NULL);
	else
		printf("%s %s\n", cli->args[0], result != NULL ? result : "");
	weft_reply_free(reply);
	return status;
}
