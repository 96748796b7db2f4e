/* check.c: core_check(): what core.h says, window by window. */
#include "config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/blend.h"
#include "kernels/model.h"
#include "pass.h"

#define PROMISE 1e-3 /* nats */
enum { PROMPTS = 3, ROWS = 24, LONGEST = 17 };
#define WINDOW_PARAMETERS 1e9 /* of a window's layers */

struct check {
	const struct core_model *m;
	const struct core_adapter *a;
	const struct core_check_params *params;
	struct core_error *err;
	int32_t token[PROMPTS][LONGEST + 1];
	struct core_model part;  /* the window: a shallow copy with other layers */
	struct core_adapter low; /* likewise, of the adapter */
	float *woven, *base;     /* [ROWS][vocab]: what the core gives */
	double sum, top;         /* of one comparison */
	const float *against;
};

static const uint32_t length[PROMPTS] = {1, 6, LONGEST};

/* ---- prompts: the same for every model that has the same number of tokens ---- */

static void make_prompts(struct check *c)
{
	uint64_t x = 0x9e3779b97f4a7c15;

	for (uint32_t i = 0; i < PROMPTS; i++)
		for (uint32_t k = 0; k <= LONGEST; k++) {
			x ^= x << 13; /* xorshift */
			x ^= x >> 7;
			x ^= x << 17;
			c->token[i][k] = (int32_t)((x >> 32) % c->m->config.vocab);
		}
}

/* ---- through the core ---- */

/* The later half of a prompt comes as generated tokens do. */
static uint32_t add_rows(struct check *c, struct core_row *rows, struct core_seq *const *seq)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < 2 * PROMPTS; i++)
		for (uint32_t k = 0; k < length[i % PROMPTS]; k++)
			rows[n++] = (struct core_row){seq[i], c->token[i % PROMPTS][k],
						      2 * k < length[i % PROMPTS] ? CORE_PROMPT : CORE_GENERATED, true};
	return n;
}

static int weave_with(struct check *c, struct core_ctx *ctx, struct core_blend *blend)
{
	struct core_seq *seq[2 * PROMPTS];
	struct core_row rows[2 * ROWS];
	size_t vocab = c->m->config.vocab;
	int rc = CORE_OK;

	for (int i = 0; i < 2 * PROMPTS; i++) {
		seq[i] = core_seq_new(ctx);
		if (!seq[i] || (i < PROMPTS && core_seq_set_blend(ctx, seq[i], blend)))
			rc = core_fail(c->err, CORE_ENOMEM, "no memory for the check's sequences");
	}
	if (!rc)
		rc = core_forward(ctx, rows, add_rows(c, rows, seq), c->err);
	for (uint32_t i = 0; i < 2 * ROWS && !rc; i++)
		memcpy((i < ROWS ? c->woven : c->base) + i % ROWS * vocab, core_logits(ctx, i), vocab * sizeof(float));
	for (int i = 0; i < 2 * PROMPTS; i++)
		core_seq_free(ctx, seq[i]);
	return rc;
}

static int through_the_core(struct check *c)
{
	const struct core_ctx_params params = {.model = &c->part,
					       .threads = 1,
					       .kv_pages = 2 * PROMPTS * (LONGEST / CORE_PAGE + 1),
					       .max_rows = 2 * ROWS,
					       .max_context = LONGEST};
	struct core_blend_part part = {.adapter = &c->low, .scale = 1};
	struct core_blend *blend = NULL;
	struct core_ctx *ctx = NULL;
	int rc = core_ctx_new(&ctx, &params, c->err);

	if (!rc)
		rc = core_blend_new(&blend, &part, 1, c->err);
	if (!rc)
		rc = weave_with(c, ctx, blend);
	core_ctx_free(ctx);
	core_blend_unref(blend);
	return rc;
}

/* ---- through the plain pass ---- */

static void compare_row(void *arg, uint32_t row, const float *want)
{
	struct check *c = arg;
	uint32_t vocab = c->m->config.vocab;
	const float *got = c->against + (size_t)row * vocab;
	double top_w = -INFINITY, top_g = -INFINITY, sum_w = 0, sum_g = 0, kl = 0;

	for (uint32_t k = 0; k < vocab; k++) {
		double d = fabs((double)got[k] - want[k]);

		c->top = d <= c->top ? c->top : d; /* a NaN stays */
		top_w = fmax(top_w, want[k]);
		top_g = fmax(top_g, got[k]);
	}
	for (uint32_t k = 0; k < vocab; k++) {
		sum_w += exp(want[k] - top_w);
		sum_g += exp(got[k] - top_g);
	}
	for (uint32_t k = 0; k < vocab; k++) {
		double w = want[k] - top_w - log(sum_w);

		kl += exp(w) * (w - (got[k] - top_g - log(sum_g)));
	}
	c->sum += kl;
}

static int through_the_pass(struct check *c, bool with_adapter, double *divergence, double *difference)
{
	const struct core_adapter *low = &c->low;
	const struct pass_params params = {.model = &c->part,
					   .threads = 1,
					   .max_rows = ROWS,
					   .adapters = &low,
					   .n_adapters = with_adapter,
					   .merged = true,
					   .stop = c->params->stop,
					   .stop_arg = c->params->arg};
	float *ones = malloc((size_t)c->part.config.layers * CORE_LINEARS * sizeof(float)), one = 1;
	const struct pass_weights weights = {ones, &one};
	struct core_example prompt[PROMPTS];
	struct pass *p = NULL;
	int rc = ones ? pass_new(&p, &params, c->err) : core_fail(c->err, CORE_ENOMEM, "no memory for the check's weights");

	for (uint32_t i = 0; ones && i < c->part.config.layers * CORE_LINEARS; i++)
		ones[i] = 1;
	for (uint32_t i = 0; i < PROMPTS; i++)
		prompt[i] = (struct core_example){c->token[i], length[i] + 1, 1};
	c->against = with_adapter ? c->woven : c->base;
	c->sum = c->top = 0;
	if (!rc)
		rc = pass_logits(p, &weights, prompt, PROMPTS, compare_row, c, c->err);
	*divergence = c->sum / ROWS;
	*difference = c->top;
	pass_free(p);
	free(ones);
	return rc;
}

/* ---- windows ---- */

static void open_window(struct check *c, uint32_t first, uint32_t layers)
{
	c->part = *c->m;
	c->part.config.layers = layers;
	c->part.layers = c->m->layers + first;
	c->low = (struct core_adapter){.info = c->a->info,
				       .model = &c->part,
				       .refs = 2, /* nobody frees it */
				       .dora = c->a->dora,
				       .n_layers = layers,
				       .layers = c->a->layers + first,
				       .embed = c->a->embed,
				       .width = c->a->width};
	memcpy(c->low.digest, c->a->digest, sizeof(c->low.digest));
}

static double worse(double a, double b)
{
	return isnan(a) || a > b ? a : b;
}

static int check_window(struct check *c, uint32_t first, uint32_t layers, struct core_check_result *out)
{
	double divergence, rounding, difference, ignored;
	int rc;

	open_window(c, first, layers);
	rc = through_the_core(c);
	if (!rc)
		rc = through_the_pass(c, true, &divergence, &difference);
	if (!rc)
		rc = through_the_pass(c, false, &rounding, &ignored);
	if (rc)
		return rc;
	out->divergence = worse(divergence, out->divergence);
	out->rounding = worse(rounding, out->rounding);
	out->difference = worse(difference, out->difference);
	out->layers += layers;
	return CORE_OK;
}

static uint32_t window_of(const struct core_model *m)
{
	const struct matrix *const w[] = {&m->layers[0].q,    &m->layers[0].k,  &m->layers[0].v,   &m->layers[0].o,
					  &m->layers[0].gate, &m->layers[0].up, &m->layers[0].down};
	double layer = 0;
	uint32_t n;

	for (size_t i = 0; i < sizeof(w) / sizeof(w[0]); i++)
		layer += (double)w[i]->rows * w[i]->cols;
	n = (uint32_t)fmin(WINDOW_PARAMETERS / layer, m->config.layers);
	return n ? n : 1;
}

static double cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Steps of about 0.618 of the number of windows, without a common divisor with it, meet each of them once. */
static uint32_t stride_of(uint32_t windows)
{
	uint32_t stride = (uint32_t)(0.618 * windows);

	for (stride = stride ? stride : 1;; stride++) {
		uint32_t a = windows, b = stride;

		while (b) {
			uint32_t r = a % b;

			a = b;
			b = r;
		}
		if (a == 1)
			return stride;
	}
}

static int check_windows(struct check *c, struct core_check_result *out)
{
	uint32_t layers = c->m->config.layers, size = c->params->window ? c->params->window : window_of(c->m),
		 windows = (layers + size - 1) / size;
	double until = cpu_seconds() + c->params->seconds;
	uint32_t stride = stride_of(windows);

	for (uint32_t i = 0; i < windows && (i == 0 || cpu_seconds() < until); i++) {
		uint32_t first = (uint32_t)((uint64_t)i * stride % windows) * size;
		int rc = check_window(c, first, layers - first < size ? layers - first : size, out);

		if (rc)
			return rc;
	}
	return CORE_OK;
}

int core_check(struct core_check_result *out, const struct core_model *m, const struct core_adapter *a,
	       const struct core_check_params *params, struct core_error *err)
{
	struct check c = {.m = m, .a = a, .params = params, .err = err};
	size_t bytes = (size_t)ROWS * m->config.vocab * sizeof(float);
	int rc;

	*out = (struct core_check_result){.of = m->config.layers};
	c.woven = malloc(bytes);
	c.base = malloc(bytes);
	make_prompts(&c);
	rc = c.woven && c.base ? check_windows(&c, out) : core_fail(err, CORE_ENOMEM, "no memory for the check's logits");
	free(c.woven);
	free(c.base);
	return rc;
}

double core_check_bound(const struct core_check_result *r)
{
	return PROMISE + 5 * r->rounding;
}

bool core_check_passed(const struct core_check_result *r)
{
	return r->divergence <= core_check_bound(r); /* no NaN is */
}
