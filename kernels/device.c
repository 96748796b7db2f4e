#include "config.h"
#include "device.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "llama.h"
#include "pack.h"

struct device {
	const struct backend *ops;
	void *self;
	char name[16];
	struct backend_model model;
	struct backend_layer *layer;

	/* one pass; [max_rows] each */
	struct backend_row *rows;
	struct backend_seq *seqs;
	struct core_seq **order; /* the batch's sequences, those of one blend together */
	uint32_t *start, *to, *wanted, (*copies)[2];
	struct core_draw *asked; /* by the caller's order; a temperature below 0: logits */
	struct core_draw *draws; /* by the order of logits */
	struct core_edit *edits; /* [CORE_PASS_EDITS] of the rows that asked */
	uint32_t n_edits, max_rows;
	bool draw; /* somebody asked */
};

/* ---- the module ---- */

/* It stays loaded: a CUDA runtime does not like to be unloaded while the process lives on. */
static int load_module(struct device *d, const char *path, struct core_error *err)
{
	const struct backend *(*get)(void);
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);

	if (!handle)
		return core_fail(err, CORE_EUNSUPPORTED, "%s: the CUDA core cannot be loaded: %s", d->name, dlerror());
	*(void **)&get = dlsym(handle, BACKEND_SYMBOL);
	d->ops = get ? get() : NULL;
	dlclose(handle);
	if (!d->ops || d->ops->abi != BACKEND_ABI || d->ops->size != sizeof(*d->ops) || strcmp(d->ops->version, PACKAGE_VERSION))
		return core_fail(err, CORE_EUNSUPPORTED, "%s: %s is not the CUDA core of weft %s", d->name, path, PACKAGE_VERSION);
	return CORE_OK;
}

static struct backend_weights weights_of(const struct matrix *w)
{
	return (struct backend_weights){w, pack_bytes(w)};
}

static bool view_model(struct device *d, const struct core_model *m)
{
	const struct llama_config *c = &m->config;

	d->layer = calloc(c->layers, sizeof(d->layer[0]));
	if (!d->layer)
		return false;
	for (uint32_t i = 0; i < c->layers; i++) {
		const struct layer *y = &m->layers[i];
		const struct matrix *const w[CORE_LINEARS] = {&y->q, &y->k, &y->v, &y->o, &y->gate, &y->up, &y->down};

		d->layer[i].attn_norm = y->attn_norm;
		d->layer[i].ffn_norm = y->ffn_norm;
		for (unsigned k = 0; k < CORE_LINEARS; k++)
			d->layer[i].linear[k] = weights_of(w[k]);
	}
	d->model = (struct backend_model){c->layers,           c->dim,      c->ffn_dim,  c->heads,
					  c->kv_heads,         c->head_dim, m->ranks,  c->norm_eps, m->rope->magnitude,
					  m->rope->frequency,  d->layer,    m->norm,     weights_of(&m->embed),
					  weights_of(&m->head)};
	return true;
}

static bool make_lists(struct device *d, uint32_t rows)
{
	d->rows = calloc(rows, sizeof(d->rows[0]));
	d->seqs = calloc(rows, sizeof(d->seqs[0]));
	d->order = calloc(rows, sizeof(d->order[0]));
	d->start = calloc(rows, sizeof(d->start[0]));
	d->to = calloc(rows, sizeof(d->to[0]));
	d->wanted = calloc(rows, sizeof(d->wanted[0]));
	d->copies = calloc(rows, sizeof(d->copies[0]));
	d->asked = calloc(rows, sizeof(d->asked[0]));
	d->draws = calloc(rows, sizeof(d->draws[0]));
	d->edits = calloc(CORE_PASS_EDITS, sizeof(d->edits[0]));
	d->max_rows = rows;
	for (uint32_t i = 0; d->asked && i < rows; i++)
		d->asked[i].temperature = -1;
	return d->asked && d->draws && d->edits && d->rows && d->seqs && d->order && d->start && d->to && d->wanted && d->copies;
}

static int open_instance(struct device *d, const char *what, const char *module, const struct core_ctx_params *p,
			 uint32_t max_context, struct core_error *err)
{
	struct backend_params params = {
		.model = &d->model, .kv_pages = p->kv_pages, .max_rows = p->max_rows, .max_context = max_context,
		.int8_kv = p->kv_type == CORE_KV_INT8, .rank = p->model->rank, .reduce = p->reduce};
	char *end = NULL;
	long n = strcmp(what, "auto") ? strncmp(what, "cuda:", 5) ? -1 : strtol(what + 5, &end, 10) : 0;
	int rc;

	if (n < 0 || n > 999 || (end && (end == what + 5 || *end)))
		return core_fail(err, CORE_EINVAL, "device %.40s: expected auto, cpu or cuda:N", what);
	snprintf(d->name, sizeof(d->name), "cuda:%ld", n);
	params.device = (int)n;
	if (p->kv_type == CORE_KV_F32)
		return core_fail(err, CORE_EUNSUPPORTED, "%s: keys and values in f32 are for the CPU: this device has f16 and int8", d->name);
	rc = load_module(d, module ? module : PKGLIBDIR "/weft-cuda.so", err);
	if (rc)
		return rc;
	if (!view_model(d, p->model) || !make_lists(d, p->max_rows))
		return core_fail(err, CORE_ENOMEM, "no memory for the lists of an engine");
	return d->ops->open(&d->self, &params, err);
}

int device_open(struct device **out, const char *what, const char *module, const struct core_ctx_params *p, uint32_t max_context,
		struct core_error *err)
{
	struct device *d = calloc(1, sizeof(*d));
	int rc;

	if (!d)
		return core_fail(err, CORE_ENOMEM, "no memory for an engine");
	rc = open_instance(d, what, module, p, max_context, err);
	if (rc)
		device_close(d);
	else
		*out = d;
	return rc;
}

void device_close(struct device *d)
{
	if (!d)
		return;
	if (d->self)
		d->ops->close(d->self);
	free(d->layer);
	free(d->rows);
	free(d->seqs);
	free(d->order);
	free(d->start);
	free(d->to);
	free(d->wanted);
	free(d->copies);
	free(d->asked);
	free(d->draws);
	free(d->edits);
	free(d);
}

const char *device_describe(const struct device *d)
{
	return d->ops->describe(d->self);
}

const char *device_name(const struct device *d)
{
	return d->name;
}

/* ---- ranks ---- */

int core_group_new(unsigned char id[CORE_GROUP_ID], const char *nccl, struct core_error *err)
{
	int (*get)(unsigned char *id);
	const char *path = nccl ? nccl : "libnccl.so.2";
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
	int rc;

	if (!handle)
		return core_fail(err, CORE_EUNSUPPORTED, "a group of ranks needs NCCL: %s", dlerror());
	*(void **)&get = dlsym(handle, "ncclGetUniqueId");
	dlclose(handle);
	if (!get)
		return core_fail(err, CORE_EUNSUPPORTED, "%s is not NCCL", path);
	rc = get(id);
	return rc ? core_fail(err, CORE_EIO, "%s: no id for a group of ranks (error %d)", path, rc) : CORE_OK;
}

/* ---- blends ---- */

static void view_layer(struct backend_adapter_layer *to, const struct adapter_layer *from)
{
	for (unsigned i = 0; i < BACKEND_INPUTS; i++)
		to->a[i] = from->a[i].blocks ? &from->a[i] : NULL;
	for (unsigned i = 0; i < CORE_LINEARS; i++) {
		to->linear[i].rank = from->linear[i].rank;
		to->linear[i].at = from->linear[i].at;
		to->linear[i].b = &from->linear[i].b;
		to->linear[i].gain = from->linear[i].gain;
	}
}

static void view_part(struct backend_part *to, struct backend_adapter_layer *layers, float *factors, const struct blend_part *from)
{
	const struct core_adapter *a = from->adapter;

	for (uint32_t i = 0; i < a->n_layers; i++) {
		view_layer(&layers[i], &a->layers[i]);
		for (unsigned k = 0; k < CORE_LINEARS; k++)
			factors[i * CORE_LINEARS + k] = blend_factor(from, i, k);
	}
	*to = (struct backend_part){.digest = a->digest,
				    .arena = a->arena,
				    .arena_bytes = a->arena_bytes,
				    .layers = layers,
				    .factor = factors,
				    .at = from->at,
				    .embed_rank = a->embed.rank,
				    .embed_a = a->embed.a,
				    .embed_b = &a->embed.b};
	to->embed_factor = a->embed.rank ? blend_embed_factor(from) : 0;
}

int device_acquire(struct device *d, void **resident, const struct core_blend *b, struct core_error *err)
{
	uint32_t layers = d->model.layers;
	struct backend_part parts[CORE_BLEND_MAX];
	struct backend_blend view = {.parts = parts};
	struct backend_adapter_layer *layer;
	float *factors;
	int rc = CORE_ENOMEM;

	*resident = NULL;
	if (!b)
		return CORE_OK;
	layer = calloc((size_t)b->n * layers, sizeof(*layer));
	factors = calloc((size_t)b->n * layers * CORE_LINEARS, sizeof(*factors));
	if (layer && factors) {
		for (uint32_t i = 0; i < b->n; i++)
			view_part(&parts[i], layer + (size_t)i * layers, factors + (size_t)i * layers * CORE_LINEARS, &b->parts[i]);
		view.digest = b->digest;
		view.width = b->width;
		view.n = b->n;
		rc = d->ops->acquire(d->self, resident, &view, err);
	}
	free(layer);
	free(factors);
	return rc;
}

void device_release(struct device *d, void *resident)
{
	if (resident)
		d->ops->release(d->self, resident);
}

bool device_ready(struct device *d, void *resident, bool wait)
{
	return !resident || d->ops->ready(d->self, resident, wait);
}

/* ---- one pass ---- */

/* The batch's sequences: those without a blend, then blend by blend, each in the caller's order. */
static void order_sequences(struct device *d, const struct core_ctx *c)
{
	uint32_t n = 0, at = 0;

	for (uint32_t i = 0; i < c->n_touched; i++)
		if (!c->touched[i]->resident)
			d->order[n++] = c->touched[i];
	for (uint32_t i = 0; i < c->n_touched; i++) {
		bool first = c->touched[i]->resident != NULL;

		for (uint32_t k = 0; k < i && first; k++)
			first = c->touched[k]->resident != c->touched[i]->resident;
		for (uint32_t k = i; k < c->n_touched && first; k++)
			if (c->touched[k]->resident == c->touched[i]->resident)
				d->order[n++] = c->touched[k];
	}
	for (uint32_t i = 0; i < n; i++) {
		struct core_seq *s = d->order[i];

		s->group = i;
		d->start[i] = at;
		at += s->pending;
		d->seqs[i] = (struct backend_seq){s->table, s->pages, s->resident};
	}
}

static void place_rows(struct device *d, const struct core_ctx *c)
{
	for (uint32_t i = 0; i < c->m; i++) {
		const struct core_row *r = &c->rows[i];

		d->to[i] = d->start[r->seq->group]++;
		d->rows[d->to[i]] = (struct backend_row){r->token, c->position[i], r->seq->group, r->path == CORE_GENERATED};
	}
	for (uint32_t i = 0; i < c->n_logits; i++)
		d->wanted[i] = d->to[c->wanted[i]];
}

static uint32_t list_copies(struct device *d, const struct core_ctx *c)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < c->n_touched; i++) {
		const struct core_seq *s = c->touched[i];

		if (s->copied == KV_NONE)
			continue;
		d->copies[n][0] = s->copied;
		d->copies[n++][1] = s->table[s->len / PAGE];
	}
	return n;
}

void device_want_token(struct device *d, uint32_t row, const struct core_draw *draw)
{
	struct core_edit *edits = d->edits + d->n_edits;

	if (row >= d->max_rows || draw->n_edits > CORE_EDITS || draw->n_edits > CORE_PASS_EDITS - d->n_edits || draw->top > CORE_TOP)
		return;
	if (draw->n_edits)
		memcpy(edits, draw->edits, draw->n_edits * sizeof(edits[0]));
	d->n_edits += draw->n_edits;
	d->asked[row] = *draw;
	d->asked[row].edits = edits;
	if (draw->given) {
		d->asked[row].temperature = 0; /* not below 0, and nothing that costs */
		d->asked[row].n_edits = 0;
	}
	d->draw = true;
}

static void list_draws(struct device *d, const struct core_ctx *c)
{
	for (uint32_t i = 0; i < c->n_logits; i++)
		d->draws[i] = d->asked[c->wanted[i]];
}

void device_forget_tokens(struct device *d)
{
	for (uint32_t i = 0; d->draw && i < d->max_rows; i++)
		d->asked[i].temperature = -1;
	d->draw = false;
	d->n_edits = 0;
}

int device_forward(struct core_ctx *c, struct core_error *err)
{
	struct device *d = c->device;
	struct backend_pass pass = {.rows = d->rows,
				    .n = c->m,
				    .seqs = d->seqs,
				    .n_seqs = c->n_touched,
				    .wanted = d->wanted,
				    .n_wanted = c->n_logits,
				    .draws = d->draw ? d->draws : NULL,
				    .copies = (const uint32_t(*)[2])d->copies};
	const float *logits = NULL;
	int rc;

	order_sequences(d, c);
	place_rows(d, c);
	list_draws(d, c);
	pass.n_copies = list_copies(d, c);
	rc = d->ops->forward(d->self, &pass, &logits, &c->logits.ld, &c->drawn, err);
	c->logits.data = (float *)(uintptr_t)logits; /* only read */
	return rc;
}
