/* cmd-fuse.c: `weft adapters fuse`: one adapter made of several, or a base with several in it. */
#include "cli.h"
#include <stdlib.h>
#include <string.h>

static int add_numbers(struct cli *cli, struct weft_request *r)
{
	static const char *const whole[][2] = {{"svd-rank", "svd_rank"}, {"shard-bytes", "shard_bytes"}},
				 *const broken[][2] = {{"density", "density"}, {"svd-clamp", "svd_clamp"}};
	int status = 0;
	uint64_t v;
	double x;

	for (size_t i = 0; i < 2 && status == 0; i++)
		if (option_uint(cli, whole[i][0], &v, &status))
			weft_request_uint(r, whole[i][1], v);
	for (size_t i = 0; i < 2 && status == 0; i++)
		if (option_float(cli, broken[i][0], &x, &status))
			weft_request_float(r, broken[i][1], x);
	return status;
}

static int make_request(struct cli *cli, struct weft_request *r, const char *name)
{
	static const char *const texts[][2] = {{"type", "type"},
					       {"sign-method", "sign_method"},
					       {"mathematics", "mathematics"},
					       {"form", "form"},
					       {"dtype", "dtype"}};
	int status;

	if (!option_given(cli, "adapter"))
		return cli_usage(cli, "which adapters? --adapter NAME=WEIGHT, once for each");
	weft_request_str(r, "name", name);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (option_given(cli, texts[i][0]))
			weft_request_str(r, texts[i][1], option_value(cli, texts[i][0]));
	if (option_given(cli, "replace"))
		weft_request_bool(r, "replace", true);
	status = add_numbers(cli, r);
	return status != 0 ? status : request_common(cli, r);
}

static void print_made(const struct answer *a)
{
	const struct weft_reply *done = a->done;
	const char *name = weft_reply_str(done, "result.name", NULL), *form = weft_reply_str(done, "result.form", NULL),
		   *digest = weft_reply_str(done, "result.digest", NULL);
	uint64_t rank = 0, modules = 0, bytes = 0;
	double ms = 0, left_out = 0;

	if (name == NULL || form == NULL || digest == NULL)
		return;
	weft_reply_uint(done, "result.rank", &rank);
	weft_reply_uint(done, "result.modules", &modules);
	weft_reply_uint(done, "result.bytes", &bytes);
	weft_reply_float(done, "timing.total_ms", &ms);
	weft_reply_float(done, "result.left_out", &left_out);
	printf("%-32s %-10s rank %llu, %llu modules, %.1f MB, %.12s, made in %.1f s", name, form, (unsigned long long)rank,
	       (unsigned long long)modules, (double)bytes / 1e6, digest, ms / 1000);
	if (weft_reply_has(done, "result.left_out"))
		printf(", %.2g %% left out", 100 * left_out);
	putchar('\n');
}

int adapters_fuse(struct cli *cli, const char *name)
{
	struct weft_request *r = weft_request_new("adapter.fuse");

	return answer_task(cli, r, r == NULL ? 0 : make_request(cli, r, name), "fusing", print_made);
}
