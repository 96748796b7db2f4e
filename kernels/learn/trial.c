#include "config.h"
#include "trial.h"

#include <math.h>
#include <stdlib.h>

#include "kernels/llama.h"

enum { ROWS = 512, SEQS = 64 }; /* of one batch; ROWS: unless an example is longer */

struct member { /* of a batch */
	struct core_seq *seq;
	const struct core_example *example;
	uint32_t blend, first; /* its first row of logits */
};

struct trial {
	struct core_ctx *ctx;
	uint32_t max_rows;
	struct core_row *rows; /* [max_rows] */
	uint32_t n_rows, n_logits;
	struct member member[SEQS];
	uint32_t n;
	int32_t *target;  /* [max_rows] by row of logits */
	double *row_loss; /* likewise */
};

int trial_new(struct trial **out, const struct core_model *m, int threads, uint32_t longest, struct core_error *err)
{
	struct trial *t = calloc(1, sizeof(*t));
	struct core_ctx_params p = {.model = m, .threads = threads};
	int rc = CORE_ENOMEM;

	if (t) {
		t->max_rows = longest > ROWS ? longest : ROWS;
		t->rows = calloc(t->max_rows, sizeof(t->rows[0]));
		t->target = calloc(t->max_rows, sizeof(t->target[0]));
		t->row_loss = calloc(t->max_rows, sizeof(t->row_loss[0]));
	}
	if (!t || !t->rows || !t->target || !t->row_loss) {
		core_fail(err, CORE_ENOMEM, "no memory for a batch of examples");
	} else {
		p.max_rows = t->max_rows;
		p.kv_pages = t->max_rows / CORE_PAGE + SEQS;
		rc = core_ctx_new(&t->ctx, &p, err);
	}
	if (rc)
		trial_free(t);
	else
		*out = t;
	return rc;
}

void trial_free(struct trial *t)
{
	if (!t)
		return;
	core_ctx_free(t->ctx);
	free(t->rows);
	free(t->target);
	free(t->row_loss);
	free(t);
}

static void clear(struct trial *t)
{
	for (uint32_t i = 0; i < t->n; i++)
		core_seq_free(t->ctx, t->member[i].seq);
	t->n = t->n_rows = t->n_logits = 0;
}

static int add(struct trial *t, struct core_blend *blend, uint32_t number, const struct core_example *e, struct core_error *err)
{
	struct member *b = &t->member[t->n];

	*b = (struct member){core_seq_new(t->ctx), e, number, t->n_logits};
	if (!b->seq)
		return core_fail(err, CORE_ENOMEM, "no memory for a sequence");
	t->n++;
	if (core_seq_set_blend(t->ctx, b->seq, blend))
		return core_fail(err, CORE_ENOMEM, "no memory for a blend");
	for (uint32_t k = 0; k + 1 < e->n; k++) {
		bool wanted = k + 1 >= e->from;

		t->rows[t->n_rows++] = (struct core_row){b->seq, e->tokens[k], wanted ? CORE_GENERATED : CORE_PROMPT, wanted};
		if (wanted)
			t->target[t->n_logits++] = e->tokens[k + 1];
	}
	return CORE_OK;
}

static void loss_row(void *arg, uint32_t i)
{
	struct trial *t = arg;
	const float *z = core_logits(t->ctx, i);
	uint32_t vocab = t->ctx->model->config.vocab;
	double sum = 0;
	float top = z[0];

	for (uint32_t k = 1; k < vocab; k++)
		top = z[k] > top ? z[k] : top;
	for (uint32_t k = 0; k < vocab; k++)
		sum += exp((double)z[k] - top);
	t->row_loss[i] = log(sum) + top - z[t->target[i]];
}

static int run(struct trial *t, double *loss, struct core_error *err)
{
	int rc = t->n ? core_forward(t->ctx, t->rows, t->n_rows, err) : CORE_OK;

	if (rc)
		return rc;
	pool_run(t->ctx->pool, loss_row, t, t->n_logits);
	for (uint32_t i = 0; i < t->n; i++) {
		uint32_t end = i + 1 < t->n ? t->member[i + 1].first : t->n_logits;

		for (uint32_t k = t->member[i].first; k < end; k++)
			loss[t->member[i].blend] += t->row_loss[k];
	}
	clear(t);
	return CORE_OK;
}

int trial_losses(struct trial *t, struct core_blend *const *blends, uint32_t n_blends, const struct core_example *examples,
		 uint32_t n, double *loss, bool (*stop)(void *arg), void *arg, struct core_error *err)
{
	int rc = CORE_OK;

	for (uint32_t b = 0; b < n_blends; b++)
		loss[b] = 0;
	for (uint32_t i = 0; i < n && !rc; i++)
		for (uint32_t b = 0; b < n_blends && !rc; b++) {
			if (t->n == SEQS || examples[i].n - 1 > t->max_rows - t->n_rows) {
				rc = stop && stop(arg) ? core_fail(err, CORE_ECANCELLED, "stopped") : run(t, loss, err);
				if (rc)
					break;
			}
			rc = add(t, blends[b], b, &examples[i], err);
		}
	if (!rc)
		rc = run(t, loss, err);
	clear(t);
	return rc;
}
