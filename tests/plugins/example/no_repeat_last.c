/* no_repeat_last: a sampler. A token cannot be drawn when it is one of the last n tokens of the answer. */
#include <math.h>
#include <stdlib.h>
#include <weft-plugin.h>

struct no_repeat_last {
	int64_t n;
	int64_t seen;     /* tokens of the answer */
	int32_t last[16]; /* the i-th token of the answer is at i % 16 */
};

static int create(const struct weft_host *host, struct weft_job *job, const struct weft_value *params, void **self)
{
	struct no_repeat_last *s;

	(void)host;
	(void)job;
	*self = NULL;
	if (params[0].i == 0)
		return 0; /* neutral: weftd leaves us out */
	s = calloc(1, sizeof(*s));
	if (!s)
		return WEFT_ENOMEM;
	s->n = params[0].i;
	*self = s;
	return 0;
}

static int recent(const struct no_repeat_last *s, int32_t token)
{
	for (int64_t k = s->seen < s->n ? 0 : s->seen - s->n; k < s->seen; k++) {
		if (s->last[k % 16] == token)
			return 1;
	}
	return 0;
}

static int apply(void *self, struct weft_job *job, struct weft_candidates *c)
{
	const struct no_repeat_last *s = self;
	uint32_t kept = 0;
	int possible = 0;

	(void)job;
	for (uint32_t i = 0; i < c->n; i++)
		possible |= c->logits[i] > -INFINITY && !recent(s, c->ids[i]);
	if (!possible)
		return 0; /* something must be left to draw: let it repeat */
	for (uint32_t i = 0; i < c->n; i++) {
		if (recent(s, c->ids[i]))
			continue;
		c->ids[kept] = c->ids[i];
		c->logits[kept++] = c->logits[i];
	}
	if (kept < c->n)
		c->dense = 0; /* ids[i] == i no longer holds; the order is as it was */
	c->n = kept;
	return 0;
}

static int accept(void *self, struct weft_job *job, int32_t token, uint32_t from_prompt)
{
	struct no_repeat_last *s = self;

	(void)job;
	(void)from_prompt; /* 0: we did not ask for WEFT_NEEDS_HISTORY */
	s->last[s->seen++ % 16] = token;
	return 0;
}

static int clone(const void *self, void **copy)
{
	struct no_repeat_last *s = malloc(sizeof(*s));

	if (!s)
		return WEFT_ENOMEM;
	*s = *(const struct no_repeat_last *)self;
	*copy = s;
	return 0;
}

static const struct weft_param params[] = {
	{.size = sizeof(struct weft_param),
	 .type = WEFT_INT,
	 .name = "no_repeat_last",
	 .def = 0,
	 .min = 0,
	 .max = 16,
	 .doc = "How many of the answer's last tokens cannot be drawn again; 0 is off."},
};

static const struct weft_sampler sampler = {
	.size = sizeof(struct weft_sampler),
	.flags = WEFT_DETERMINISTIC,
	.order = 350, /* behind the penalties (300), before the temperature (500) */
	.create = create,
	.apply = apply,
	.accept = accept,
	.clone = clone,
	.destroy = free,
};

static const struct weft_plugin plugin = {
	.size = sizeof(struct weft_plugin),
	.abi = WEFT_ABI,
	.name = "no_repeat_last",
	.version = "1.0",
	.doc = "Forbids the tokens that were just drawn.",
	.params = params,
	.n_params = 1,
	.sampler = &sampler,
};

const struct weft_plugin *weft_plugin(void)
{
	return &plugin;
}
