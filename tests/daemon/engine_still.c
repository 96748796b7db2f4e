/* A sampler that changes nothing and says nothing of itself: what stands in its chain is drawn by the host. */
#include "plugins/declare.h"

#include <stdlib.h>

static int create(const struct weft_host *host, struct weft_job *job, const struct weft_value *params, void **self)
{
	*self = params[0].i ? malloc(1) : NULL;
	return params[0].i && *self == NULL ? WEFT_ENOMEM : 0;
}

static int apply(void *self, struct weft_job *job, struct weft_candidates *c)
{
	return 0;
}

static const struct weft_param params[] = {PARAM(WEFT_BOOL, "engine_still", 0, 0, 1, 0, 0, "Whether it stands in the chain.")};
static const struct weft_sampler sampler = {
	.size = sizeof sampler, .flags = WEFT_ARGMAX_INVARIANT | WEFT_DETERMINISTIC, .order = 4000, .create = create, .apply = apply, .destroy = free};
static const struct weft_plugin plugin = {PLUGIN("engine_still", "Changes nothing."), PARAMS(params), .sampler = &sampler};

WEFT_EXPORT const struct weft_plugin *weft_plugin(void)
{
	return &plugin;
}
