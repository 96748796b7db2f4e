/* worst.c: what a job may take at worst, read from its parameters before it runs. */
#include "daemon/run.h"

/* What the request says of sizes, each bounded. */
struct sizes {
	uint64_t prompt, context;
	uint64_t n;              /* answers; of a score job 1 */
	uint64_t answer;         /* tokens of each at most; of a score job 0 */
	uint64_t top;            /* likely tokens beside each token */
	uint64_t given, longest; /* tokens of all continuations, and of the longest */
};

/* A whole-number parameter of the decoder, or `absent`. */
static uint64_t whole_param(const struct plugin_args *a, const char *name, uint64_t absent)
{
	int i = plugin_param_index(a->plugin, name);

	if (i < 0 || a->plugin->desc->params[i].type != WEFT_INT || a->values[i].i < 0)
		return absent;
	return (uint64_t)a->values[i].i;
}

/* How many likely tokens a parameter asks for; -1 is off. A decoder without it may ask for as many as there can be. */
static uint64_t tops_param(const struct plugin_args *a, const char *name)
{
	bool there = plugin_param_index(a->plugin, name) >= 0;
	uint64_t n = whole_param(a, name, there ? 0 : RUN_TOP);

	return n > RUN_TOP ? RUN_TOP : n;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static struct sizes sizes_of(const struct run_model *m, const struct engine_job *job)
{
	const struct plugin_args *d = &job->decoder;
	struct sizes s = {.prompt = job->n_prompt, .context = m->context, .n = 1, .top = tops_param(d, "logprobs")};

	if (plugin_param_index(d->plugin, "prompt_logprobs") >= 0 && tops_param(d, "prompt_logprobs") > s.top)
		s.top = tops_param(d, "prompt_logprobs");
	for (size_t i = 0; i < job->n_continuations; i++) {
		s.given += job->continuation_len[i];
		s.longest = job->continuation_len[i] > s.longest ? job->continuation_len[i] : s.longest;
	}
	if (job->n_continuations > 0)
		return s;
	uint64_t n = whole_param(d, "n", 1), room = s.prompt < s.context ? s.context - s.prompt : 0;
	uint64_t answer = whole_param(d, "max_tokens", 0);
	s.n = n == 0 ? 1 : least(n, RUN_CHOICES);
	s.answer = answer == 0 ? room : least(answer, room);
	return s;
}

/* ---- pages ---- */

static uint64_t pages_of(uint64_t tokens)
{
	return (tokens + CORE_PAGE - 1) / CORE_PAGE;
}

uint32_t worst_pages(const struct run_model *m, const struct engine_job *job)
{
	struct sizes s = sizes_of(m, job);
	uint64_t shared = s.prompt / CORE_PAGE, pages = pages_of(s.prompt);

	/* Every answer and every continuation shares the whole pages of the prompt and has the rest to itself. */
	for (size_t i = 0; i < job->n_continuations; i++)
		pages += pages_of(s.prompt + job->continuation_len[i]) - shared;
	if (job->n_continuations == 0) {
		uint64_t end = s.prompt + s.answer;
		pages = s.n == 1 ? pages_of(end) : pages + s.n * (pages_of(end) - shared);
	}
	return pages > UINT32_MAX ? UINT32_MAX : (uint32_t)pages;
}

/* ---- host memory ---- */

enum {
	BESIDE = 64,         /* what malloc adds to the blocks of an event */
	HELD_BACK = 64 << 10, /* text and tokens that a choice may not show yet */
	PER_TOKEN = 16       /* of a sampler's instance, for each token of vocabulary and context (tests/plugins/contract.c) */
};

/* Of one choice: what the samplers that the request speaks of may hold. The others are neutral and make no instance. */
static uint64_t sampler_bytes(const struct run_model *m, const struct engine_job *job)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < job->n_samplers; i++) {
		const struct plugin_args *a = &job->samplers[i];
		bool named = false;
		for (size_t k = 0; k < a->plugin->desc->n_params; k++)
			named |= a->values[k].set != 0;
		sum += named ? PER_TOKEN * ((uint64_t)m->vocab + m->context) : 0;
	}
	return sum;
}

/* Every token of an answer in an event of its own; each answer may begin with the prompt, and the prompt may be scored once. */
static uint64_t event_bytes(const struct run_model *m, const struct engine_job *job, const struct sizes *s)
{
	uint64_t token = sizeof(struct engine_token) + s->top * sizeof(struct engine_top) + core_detok_bound(m->tokenizer);
	uint64_t tokens = (s->n + 1) * s->prompt + s->n * s->answer + s->given;
	uint64_t events = s->n * (s->answer + s->prompt / 256 + 4) + 2 * job->n_continuations + 8;

	return tokens * token + events * (sizeof(struct engine_event) + BESIDE);
}

/* Tokens of sequences and histories, in lists that grow by doubling; and once more in a checkpoint. */
static uint64_t list_bytes(const struct engine_job *job, const struct sizes *s)
{
	uint64_t seqs = job->n_continuations == 0 ? s->n : least(job->n_continuations + 1, RUN_SEQS);

	return 2 * 2 * sizeof(uint32_t) * (seqs * (s->prompt + s->answer + s->longest) + s->n * s->answer);
}

/* Of the largest plan, and of the decoder's copy of its results. */
static uint64_t plan_bytes(const struct sizes *s)
{
	uint64_t rows = s->prompt + s->given + s->n;

	return 2 * rows * (2 * sizeof(int32_t) + sizeof(struct weft_drawn) + s->top * sizeof(struct weft_top));
}

uint64_t worst_bytes(const struct run_model *m, const struct engine_job *job)
{
	struct sizes s = sizes_of(m, job);

	return event_bytes(m, job, &s) + list_bytes(job, &s) + plan_bytes(&s) + s.n * (HELD_BACK + sampler_bytes(m, job));
}
