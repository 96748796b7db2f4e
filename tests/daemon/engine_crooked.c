/* crooked: a decoder that draws one answer, and at a moment that its parameters name does something that no decoder may do. Built a
 * second time with CROOKED_SAVES, as crooked_saver, which has save and load and can do these wrong, too. */
#include "plugins/weft-plugin.h"

#include <stdlib.h>
#include <string.h>

enum { MODE, AT, TOKENS };

struct crooked {
	const struct weft_host *host;
	struct weft_job *job;
	const char *mode;
	int64_t at, tokens, step; /* step: commits so far */
	int32_t last;
};

static int is(const struct crooked *s, const char *mode)
{
	return s->step == s->at && strcmp(s->mode, mode) == 0;
}

static int create(const struct weft_host *host, struct weft_job *job, const struct weft_value *params, void **self)
{
	struct weft_delta d = {.size = sizeof d, .text = "x", .text_len = 1};
	struct crooked *s;

	if (strcmp(params[MODE].str, "create_error") == 0)
		return host->fail(job, WEFT_EINVAL, "crooked_mode: this value is refused");
	if (strcmp(params[MODE].str, "create_nothing") == 0)
		return 0;
	if (strcmp(params[MODE].str, "delta_in_create") == 0)
		host->delta(job, &d);
	s = calloc(1, sizeof *s);
	if (s == NULL)
		return WEFT_ENOMEM;
	s->host = host;
	s->job = job;
	s->mode = params[MODE].str;
	s->at = params[AT].i;
	s->tokens = params[TOKENS].i;
	*self = s;
	return 0;
}

/* The wish of an honest decoder. */
static struct weft_feed honest(struct crooked *s, struct weft_job *job)
{
	static const uint32_t zero;
	struct weft_feed f = {.size = sizeof f, .n_tokens = 1, .tokens = &s->last, .choices = &zero, .n_choices = 1};

	if (s->step == 0) {
		f.n_tokens = (uint32_t)s->host->prompt(job, &f.tokens);
		f.flags = WEFT_FEED_PROMPT;
	}
	return f;
}

static int plan_floods(struct crooked *s, struct weft_job *job)
{
	const struct weft_host *h = s->host;
	uint32_t seq = 0;

	if (is(s, "flood_feeds")) {
		struct weft_feed f = {.size = sizeof f, .n_tokens = 1, .tokens = &s->last};
		for (int i = 0; i < 100000; i++) {
			h->fork(job, 0, &f.seq);
			h->feed(job, &f);
		}
	}
	if (is(s, "flood_forks"))
		for (int i = 0; i < 100000; i++)
			h->fork(job, 0, &seq);
	if (is(s, "flood_values")) {
		static const int32_t zeros[300];
		struct weft_feed f = {.size = sizeof f, .n_tokens = 300, .tokens = zeros, .targets = zeros, .top = 64};
		for (int i = 0; i < 1000; i++) {
			h->fork(job, 0, &f.seq);
			h->feed(job, &f);
		}
	}
	if (is(s, "flood_progress"))
		for (int i = 0; i < 1000000; i++)
			h->progress(job, 1, 2);
	return 0;
}

static int plan_wishes(struct crooked *s, struct weft_job *job, struct weft_feed *f)
{
	const struct weft_host *h = s->host;
	static const uint32_t twice[2] = {0, 0}, far = 65536;
	static int32_t many[100000];
	static const int32_t outside = 1 << 30;

	if (is(s, "bad_seq"))
		f->seq = 77;
	if (is(s, "bad_token"))
		f->tokens = &outside, f->n_tokens = 1;
	if (is(s, "bad_target"))
		f->targets = &outside, f->n_tokens = 1;
	if (is(s, "no_tokens"))
		f->n_tokens = 0;
	if (is(s, "bad_choice"))
		f->choices = &far;
	if (is(s, "draw_twice"))
		f->choices = twice, f->n_choices = 2;
	if (is(s, "top_65"))
		f->top = 65;
	if (is(s, "beyond_context"))
		f->tokens = many, f->n_tokens = 100000;
	if (is(s, "small_struct"))
		f->size = 8;
	if (is(s, "trim_beyond"))
		h->trim(job, 0, 1 << 20);
	if (is(s, "fork_nothing"))
		h->fork(job, 5, &f->seq);
	if (is(s, "drop_nothing"))
		h->drop(job, 5);
	if (is(s, "finish_early"))
		h->finish(job, 0, WEFT_FINISH_STOP);
	if (is(s, "finish_unknown"))
		h->finish(job, 0, 99);
	if (is(s, "detokenize_outside")) {
		const char *text;
		uint64_t len;
		h->detokenize(job, 0, outside, &text, &len);
	}
	return h->feed(job, f);
}

static int plan(void *self, struct weft_job *job)
{
	struct crooked *s = self;
	struct weft_feed f = honest(s, job);
	int rc;

	if (is(s, "plan_nothing"))
		return 0;
	if (is(s, "plan_error"))
		return WEFT_EINTERNAL;
	if (is(s, "plan_reason"))
		return s->host->fail(job, WEFT_EUNSUPPORTED, "not today");
	if (is(s, "plan_positive"))
		return 7;
	plan_floods(s, job);
	rc = plan_wishes(s, job, &f);
	if (is(s, "trim_fed"))
		s->host->trim(job, 0, 0);
	if (is(s, "drop_fed"))
		s->host->drop(job, 0);
	if (is(s, "feed_twice"))
		s->host->feed(job, &f); /* the same choice again */
	if (is(s, "done_with_feeds"))
		s->host->done(job);
	return strcmp(s->mode, "bad_seq") == 0 ? 0 : rc; /* an error that is not passed on counts all the same */
}

static int say(struct crooked *s, struct weft_job *job, const struct weft_drawn *drawn)
{
	struct weft_delta d = {.size = sizeof d, .tokens = &drawn->token, .n_tokens = 1};
	static const int32_t outside = 1 << 30;
	int rc = s->host->detokenize(job, 0, drawn->token, &d.text, &d.text_len);

	if (rc != 0)
		return rc;
	if (is(s, "bad_utf8"))
		d.text = "\xc3(", d.text_len = 2;
	if (is(s, "delta_outside"))
		d.tokens = &outside;
	if (is(s, "no_logprobs"))
		d.has_logprobs = 1;
	if (is(s, "short_delta"))
		d.size = offsetof(struct weft_delta, has_logprobs);
	return s->host->delta(job, &d);
}

static int commit(void *self, struct weft_job *job, const struct weft_result *results, uint32_t n_results)
{
	struct crooked *s = self;
	struct weft_feed f = {.size = sizeof f, .n_tokens = 1, .tokens = &s->last};
	int rc;

	if (n_results != 1 || results[0].n_draws != 1)
		return s->host->fail(job, WEFT_EINTERNAL, "the result is not what was asked for");
	s->last = results[0].draws[0].token;
	if (is(s, "commit_error"))
		return WEFT_ENOMEM;
	if (is(s, "feed_in_commit"))
		s->host->feed(job, &f);
	if (is(s, "fork_in_commit"))
		s->host->fork(job, 0, &f.seq);
	rc = say(s, job, &results[0].draws[0]);
	if (rc != 0)
		return rc;
	if (is(s, "done_unfinished"))
		return s->host->done(job);
	if (is(s, "draw_finished") || is(s, "delta_finished") || is(s, "finish_twice"))
		s->host->finish(job, 0, WEFT_FINISH_STOP);
	if (is(s, "delta_finished"))
		return say(s, job, &results[0].draws[0]);
	if (is(s, "finish_twice"))
		return s->host->finish(job, 0, WEFT_FINISH_STOP);
	s->step++;
	if (s->step < s->tokens)
		return 0;
	s->host->finish(job, 0, WEFT_FINISH_LENGTH);
	return s->host->done(job);
}

#ifdef CROOKED_SAVES
#define NAME "crooked_saver"
#define SAVE save
#define LOAD load

static int save(void *self, struct weft_blob *out)
{
	const struct crooked *s = self;
	struct weft_feed f = {.size = sizeof f, .n_tokens = 1, .tokens = &s->last};
	static const uint8_t zeros[1 << 20];
	int rc = 0;

	if (is(s, "save_error"))
		return WEFT_EINTERNAL;
	if (is(s, "save_positive"))
		return 3;
	if (is(s, "feed_in_save"))
		s->host->feed(s->job, &f);
	while (is(s, "save_without_end") && rc == 0)
		rc = s->host->blob_write(out, zeros, sizeof zeros);
	if (rc == 0)
		rc = s->host->blob_write(out, &s->step, sizeof s->step);
	return rc != 0 ? rc : s->host->blob_write(out, &s->last, sizeof s->last);
}

static int load(void *self, const struct weft_blob *in)
{
	struct crooked *s = self;

	if (in->len != sizeof s->step + sizeof s->last)
		return WEFT_EINVAL;
	memcpy(&s->step, in->data, sizeof s->step);
	memcpy(&s->last, in->data + sizeof s->step, sizeof s->last);
	return is(s, "load_error") ? WEFT_EINVAL : is(s, "load_positive") ? 3 : 0;
}
#else
#define NAME "crooked"
#define SAVE NULL
#define LOAD NULL
#endif

static const struct weft_param params[] = {
	{.size = sizeof(struct weft_param),
	 .type = WEFT_STRING,
	 .name = "crooked_mode",
	 .shared = 1,
	 .doc = "What to do wrong; empty is nothing.",
	 .def_str = ""},
	{.size = sizeof(struct weft_param),
	 .type = WEFT_INT,
	 .name = "crooked_at",
	 .shared = 1,
	 .doc = "After how many tokens.",
	 .def = 0,
	 .min = 0,
	 .max = 1000},
	{.size = sizeof(struct weft_param),
	 .type = WEFT_INT,
	 .name = "crooked_tokens",
	 .shared = 1,
	 .doc = "Length of the answer.",
	 .def = 10,
	 .min = 1,
	 .max = 1000},
};
static const struct weft_decoder decoder = {
	.size = sizeof decoder, .create = create, .plan = plan, .commit = commit, .save = SAVE, .load = LOAD, .destroy = free};
static const struct weft_plugin plugin = {.size = sizeof plugin,
					  .abi = WEFT_ABI,
					  .name = NAME,
					  .version = "1",
					  .doc = "Does what no decoder may do.",
					  .params = params,
					  .n_params = 3,
					  .decoder = &decoder};

const struct weft_plugin *weft_plugin(void)
{
	return &plugin;
}
