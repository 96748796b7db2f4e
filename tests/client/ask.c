/* ask: the example at the top of weft.h as a whole program, which ask_test.sh runs against a real weftd.
 *
 *	ask QUESTION		prints the answer as it comes; the endpoints are in the environment */
#include "client/weft.h"
#include <stdio.h>

static int say(const struct weft_client_error *error)
{
	fprintf(stderr, "ask: %s\n", error->text);
	return 1;
}

static int follow(struct weft_client *c)
{
	const struct weft_event *e;

	do {
		if (weft_client_next(c, &e, 60000) < 0)
			return say(weft_client_error(c));
		fwrite(e->text, 1, e->text_len, stdout);
	} while (e->kind != WEFT_EVENT_DONE);
	putchar('\n');
	fprintf(stderr, "%s: %s, %zu choice, %llu tokens\n", e->state, e->choices[0].finish, e->n_choices,
		(unsigned long long)e->completion_tokens);
	return 0;
}

int main(int argc, char **argv)
{
	struct weft_client_error error;
	struct weft_client *c;
	struct weft_request *r;
	uint64_t job;
	int status;

	if (argc != 2)
		return 2;
	if (weft_client_new(&c, NULL, &error) < 0)
		return say(&error);
	r = weft_request_new("generate");
	weft_request_message(r, "user", argv[1]);
	weft_request_uint(r, "max_tokens", 20);
	weft_request_float(r, "temperature", 0);
	status = weft_client_submit(c, r, &job, NULL, 60000) < 0 ? say(weft_client_error(c)) : follow(c);
	weft_request_free(r);
	weft_client_free(c);
	return status;
}
