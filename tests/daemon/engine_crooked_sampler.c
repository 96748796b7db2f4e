/* crooked_sampler: a sampler that does nothing, until the parameter says which promise to break. With CROOKED_ASIDE it is crooked_aside, which
 * runs beside those of other jobs. */
#include "plugins/weft-plugin.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#ifdef CROOKED_ASIDE
#define NAME "crooked_aside"
#define FLAGS WEFT_SIDE_BY_SIDE
#else
#define NAME "crooked_sampler"
#define FLAGS 0
#endif

struct crooked {
	const struct weft_host *host;
	const char *mode;
	uint32_t drawn, at;
	pthread_t maker;
};

static int create(const struct weft_host *host, struct weft_job *job, const struct weft_value *params, void **self)
{
	struct crooked *s;

	if (params[0].str[0] == '\0')
		return 0; /* neutral */
	if (strcmp(params[0].str, "create_error") == 0)
		return host->fail(job, WEFT_EINVAL, NAME ": this value is refused");
	s = calloc(1, sizeof *s);
	if (s == NULL)
		return WEFT_ENOMEM;
	s->host = host;
	s->mode = params[0].str;
	s->at = (uint32_t)params[1].i;
	s->maker = pthread_self();
	*self = s;
	return 0;
}

static void set_all(struct weft_candidates *c, float to)
{
	for (uint32_t i = 0; i < c->n; i++)
		c->logits[i] = to;
}

static int apply(void *self, struct weft_job *job, struct weft_candidates *c)
{
	static int32_t other[1 << 16];
	struct crooked *s = self;
	const char *m = s->mode;

	if (strcmp(m, "thread") == 0 && !pthread_equal(s->maker, pthread_self()))
		return s->host->fail(job, WEFT_EINTERNAL, "another thread");
	if (s->drawn != s->at)
		return 0;
	if (strcmp(m, "apply_error") == 0)
		return s->host->fail(job, WEFT_EINTERNAL, "apply does not want to");
	if (strcmp(m, "nan") == 0)
		c->logits[c->n / 2] = NAN;
	if (strcmp(m, "infinite") == 0)
		c->logits[0] = INFINITY;
	if (strcmp(m, "none_left") == 0)
		c->n = 0;
	if (strcmp(m, "all_impossible") == 0)
		set_all(c, -INFINITY);
	if (strcmp(m, "more") == 0)
		c->n++;
	if (strcmp(m, "outside") == 0)
		c->ids[3] = 1 << 30;
	if (strcmp(m, "dense_lie") == 0)
		c->n = 10;
	if (strcmp(m, "exchange") == 0)
		c->ids = other;
	if (strcmp(m, "feed") == 0)
		s->host->feed(job, &(struct weft_feed){.size = sizeof(struct weft_feed)});
	if (strcmp(m, "secret_order") == 0) /* not to be seen from outside; must not be felt by others */
		for (uint32_t i = 0; i < c->n; i++)
			c->ids[i] = (int32_t)(c->n - 1 - i);
	return 0;
}

static int accept(void *self, struct weft_job *job, int32_t token, uint32_t from_prompt)
{
	struct crooked *s = self;

	if (strcmp(s->mode, "accept_error") == 0 && s->drawn == s->at)
		return WEFT_EINTERNAL;
	s->drawn += !from_prompt;
	return 0;
}

static const struct weft_param params[] = {
	{.size = sizeof(struct weft_param),
	 .type = WEFT_STRING,
	 .name = NAME,
	 .doc = "What to do wrong; empty is nothing."},
	{.size = sizeof(struct weft_param),
	 .type = WEFT_INT,
	 .name = NAME "_at",
	 .doc = "At which token.",
	 .min = 0,
	 .max = 1000},
};
static const struct weft_sampler sampler = {
	.size = sizeof sampler, .flags = FLAGS, .order = 1, .create = create, .apply = apply, .accept = accept, .destroy = free};
static const struct weft_plugin plugin = {.size = sizeof plugin,
					  .abi = WEFT_ABI,
					  .name = NAME,
					  .version = "1",
					  .doc = "Breaks the promises of a sampler.",
					  .params = params,
					  .n_params = 2,
					  .sampler = &sampler};

const struct weft_plugin *weft_plugin(void)
{
	return &plugin;
}
