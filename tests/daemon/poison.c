/* poison: a sampler that kills the process when an answer reaches a certain length: what no daemon survives. */
#include "plugins/weft-plugin.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct poison {
	const struct weft_host *host;
	uint32_t drawn, at;
};

static int create(const struct weft_host *host, struct weft_job *job, const struct weft_value *params, void **self)
{
	struct poison *p;

	if (params[0].i < 0)
		return 0; /* neutral */
	p = calloc(1, sizeof *p);
	if (p == NULL)
		return WEFT_ENOMEM;
	*p = (struct poison){.host = host, .at = (uint32_t)params[0].i};
	*self = p;
	return 0;
}

static int apply(void *self, struct weft_job *job, struct weft_candidates *c)
{
	struct poison *p = self;

	if (p->drawn == p->at)
		kill(getpid(), SIGKILL);
	return 0;
}

static int accept(void *self, struct weft_job *job, int32_t token, uint32_t from_prompt)
{
	((struct poison *)self)->drawn += !from_prompt;
	return 0;
}

static int save(void *self, struct weft_blob *out)
{
	struct poison *p = self;

	return p->host->blob_write(out, &p->drawn, sizeof p->drawn);
}

static int load(void *self, const struct weft_blob *in)
{
	if (in->len != sizeof(uint32_t))
		return WEFT_EINVAL;
	memcpy(&((struct poison *)self)->drawn, in->data, sizeof(uint32_t));
	return 0;
}

static const struct weft_param params[] = {
	{.size = sizeof(struct weft_param),
	 .type = WEFT_INT,
	 .name = "poison",
	 .doc = "At which token the process dies; -1 is off.",
	 .def = -1,
	 .min = -1,
	 .max = 100000},
};
static const struct weft_sampler sampler = {.size = sizeof sampler,
					    .order = 1,
					    .create = create,
					    .apply = apply,
					    .accept = accept,
					    .save = save,
					    .load = load,
					    .destroy = free};
static const struct weft_plugin plugin = {.size = sizeof plugin,
					  .abi = WEFT_ABI,
					  .name = "poison",
					  .version = "1",
					  .doc = "Kills the process.",
					  .params = params,
					  .n_params = 1,
					  .sampler = &sampler};

const struct weft_plugin *weft_plugin(void)
{
	return &plugin;
}
