/* ctx.c: an engine's making and unmaking, its sequences, and the checks in front of a forward pass. */
#include "config.h"
#include "llama.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"

/* ---- workspace: one block, cut in two walks (first to measure, then to place) ---- */

static void *cut(struct core_ctx *c, size_t *at, size_t bytes)
{
	void *p = c->workspace ? c->workspace + *at : NULL;

	*at += (bytes + 63) & ~(size_t)63;
	return p;
}

static void cut_buffer(struct core_ctx *c, size_t *at, struct buffer *b, uint32_t width)
{
	b->ld = (((size_t)width + 15) / 16 | 1) * 16;
	b->data = cut(c, at, b->ld * c->max_rows * sizeof(float));
}

static size_t cut_workspace(struct core_ctx *c)
{
	const struct llama_config *cf = &c->model->config;
	uint32_t q = cf->heads * cf->head_dim, kv = cf->kv_heads * cf->head_dim, widest = q;
	size_t at = 0, rows = c->max_rows;

	widest = cf->dim > widest ? cf->dim : widest;
	widest = ((cf->ffn_dim > widest ? cf->ffn_dim : widest) + 15) & ~15u;
	c->position = cut(c, &at, rows * sizeof(c->position[0]));
	c->touched = cut(c, &at, rows * sizeof(c->touched[0]));
	c->wanted = cut(c, &at, rows * sizeof(c->wanted[0]));
	c->order = cut(c, &at, rows * sizeof(c->order[0]));
	c->tiles = cut(c, &at, rows * sizeof(c->tiles[0]));
	cut_buffer(c, &at, &c->x, cf->dim);
	cut_buffer(c, &at, &c->h, cf->dim);
	cut_buffer(c, &at, &c->delta, cf->dim);
	cut_buffer(c, &at, &c->q, q);
	cut_buffer(c, &at, &c->a, q);
	cut_buffer(c, &at, &c->k, kv);
	cut_buffer(c, &at, &c->v, kv);
	cut_buffer(c, &at, &c->gate, cf->ffn_dim);
	cut_buffer(c, &at, &c->up, cf->ffn_dim);
	cut_buffer(c, &at, &c->cosine, cf->head_dim / 2);
	cut_buffer(c, &at, &c->sine, cf->head_dim / 2);
	for (uint32_t i = 0; i < GROUP_SIZES; i++) {
		struct quantized *z = &c->quantized[i];
		uint32_t group = 16u << i;

		if (!(c->model->groups & group))
			continue;
		z->q = cut(c, &at, rows * quantized_ld(widest));
		z->scale = cut(c, &at, rows * (widest / group) * sizeof(z->scale[0]));
		z->sum = cut(c, &at, rows * (widest / group) * sizeof(z->sum[0]));
	}
	if (c->ops->tiles) {
		size_t bytes = (rows + TILES_ROWS - 1) / TILES_ROWS * TILES_ROWS * tiles_stride(tiles_depth(widest)) * sizeof(c->planes.hi[0]);

		c->planes.hi = cut(c, &at, bytes);
		c->planes.lo = cut(c, &at, bytes);
	}
	cut_buffer(c, &at, &c->logits, cf->vocab);
	c->weave.piece = cut(c, &at, rows * CORE_BLEND_MAX * sizeof(c->weave.piece[0]));
	c->weave.run = cut(c, &at, rows * CORE_BLEND_MAX * sizeof(c->weave.run[0]));
	c->weave.cut = cut(c, &at, rows * CORE_BLEND_MAX * sizeof(c->weave.cut[0]));
	c->weave.group = cut(c, &at, 2 * (rows + 1) * sizeof(c->weave.group[0]));
	c->weave.rows = cut(c, &at, rows * sizeof(c->weave.rows[0]));
	c->weave.position = cut(c, &at, rows * sizeof(c->weave.position[0]));
	c->weave.to = cut(c, &at, rows * sizeof(c->weave.to[0]));
	return at;
}

/* ---- the engine ---- */

static enum kv_kind kv_kind_of(const struct core_model *m, enum core_kv_type t)
{
	if (t == CORE_KV_AUTO)
		return m->f32 ? KV_F32 : KV_F16;
	return t == CORE_KV_INT8 ? KV_INT8 : t == CORE_KV_F16 ? KV_F16 : KV_F32;
}

static struct kv_shape kv_shape_of(const struct core_model *m, enum core_kv_type t)
{
	return (struct kv_shape){ m->config.layers, m->config.kv_heads, m->config.head_dim, kv_kind_of(m, t), false };
}

uint64_t core_kv_page_bytes(const struct core_model *m, enum core_kv_type kv)
{
	struct kv_shape s = kv_shape_of(m, kv);

	return kv_page_size(&s);
}

/* The lists that a pass on a device needs, too; the rest of the workspace is the device's own. */
static size_t cut_lists(struct core_ctx *c)
{
	size_t at = 0, rows = c->max_rows;

	c->position = cut(c, &at, rows * sizeof(c->position[0]));
	c->touched = cut(c, &at, rows * sizeof(c->touched[0]));
	c->wanted = cut(c, &at, rows * sizeof(c->wanted[0]));
	return at;
}

/* c->device stays NULL for the CPU. */
static int open_device(struct core_ctx *c, const struct core_ctx_params *p, struct core_error *err)
{
	struct core_error why = { 0 };
	int rc;

	if (!p->device || !strcmp(p->device, "cpu"))
		return CORE_OK;
	rc = device_open(&c->device, p->device, p->module, p, c->max_context, &why);
	if (rc && !strcmp(p->device, "auto")) {
		c->note = strdup(why.text);
		return CORE_OK;
	}
	if (rc && err)
		*err = why;
	return rc;
}

static int ctx_build(struct core_ctx *c, const struct core_ctx_params *p, struct core_error *err)
{
	struct kv_shape shape;
	int rc;

	if (!p->model || p->max_rows == 0 || p->max_rows > 65536 || (unsigned)p->kv_type > CORE_KV_INT8)
		return core_fail(err, CORE_EINVAL, "max_rows is %u: expected 1 to 65536, with a model and a known KV type",
				 p->max_rows);
	if ((p->model->ranks > 1) != (p->reduce.sum || p->reduce.group))
		return core_fail(err, CORE_EINVAL, "the model is rank %u of %u: an engine needs core_reduce on a part, and only there",
				 p->model->rank, p->model->ranks);
	c->model = p->model;
	c->reduce = p->reduce;
	c->max_rows = p->max_rows;
	c->max_context = p->max_context ? p->max_context : p->model->config.context;
	if (c->max_context > 1u << 24)
		return core_fail(err, CORE_EINVAL, "max_context is %u: expected at most %u", c->max_context, 1u << 24);
	rc = core_cpu_pick(&c->cpu, err);
	if (!rc)
		rc = open_device(c, p, err);
	if (rc)
		return rc;
	if (!c->device && p->reduce.group && !p->reduce.sum)
		return core_fail(err, CORE_EINVAL, "a group of ranks is for CUDA devices: on the CPU core_reduce needs sum()");
	c->ops = ops_for(c->cpu);
	shape = kv_shape_of(p->model, p->kv_type);
	shape.outside = c->device != NULL;
	if (shape.outside && shape.kind == KV_F32)
		shape.kind = KV_F16;	/* auto: a device has no f32 */
	rc = kv_init(&c->kv, &shape, p->kv_pages, c->max_context, p->prefix_cache, err);
	if (rc)
		return rc;
	c->workspace_bytes = c->device ? cut_lists(c) : cut_workspace(c);
	c->workspace = memory_map(c->workspace_bytes);
	if (!c->workspace)
		return core_fail(err, CORE_ENOMEM, "no memory for %zu bytes of workspace", c->workspace_bytes);
	if (c->device)
		cut_lists(c);
	else
		cut_workspace(c);
	return c->device ? CORE_OK : pool_new(&c->pool, p->threads, err);
}

int core_ctx_new(struct core_ctx **out, const struct core_ctx_params *params, struct core_error *err)
{
	struct core_ctx *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return core_fail(err, CORE_ENOMEM, "no memory for an engine");
	rc = ctx_build(c, params, err);
	if (rc)
		core_ctx_free(c);
	else
		*out = c;
	return rc;
}

void core_ctx_free(struct core_ctx *c)
{
	if (!c)
		return;
	device_close(c->device);
	free(c->note);
	pool_free(c->pool);
	kv_finish(&c->kv);
	weave_finish(&c->weave);
	memory_unmap(c->workspace, c->workspace_bytes);
	free(c);
}

enum core_kv_type core_ctx_kv_type(const struct core_ctx *c)
{
	return c->kv.shape.kind == KV_INT8 ? CORE_KV_INT8 : c->kv.shape.kind == KV_F32 ? CORE_KV_F32 : CORE_KV_F16;
}

const char *core_ctx_cpu(const struct core_ctx *c)
{
	return core_cpu_name(c->cpu);
}

uint32_t core_ctx_bits(const struct core_ctx *c)
{
	return c->device || !c->ops->tiles ? CORE_BITS : CORE_BITS | CORE_BITS_TILES;
}

int core_ctx_threads(const struct core_ctx *c)
{
	return c->pool ? pool_threads(c->pool) : 1;
}

const char *core_ctx_device(const struct core_ctx *c)
{
	return c->device ? device_name(c->device) : "cpu";
}

const char *core_ctx_note(const struct core_ctx *c)
{
	return c->device ? device_describe(c->device) : c->note;
}

uint32_t core_ctx_pages_free(const struct core_ctx *c)
{
	return kv_pages_free(&c->kv);
}

uint32_t core_ctx_pages_total(const struct core_ctx *c)
{
	return c->kv.n_pages;
}

void core_ctx_cached(const struct core_ctx *c, struct core_cached *out)
{
	*out = (struct core_cached){ c->kv.cache.n_listed, c->kv.cache.n_idle, c->kv.cache.evictions };
}

/* ---- sequences ---- */

/* What the keys of its pages begin with. */
static void name_root(struct core_seq *s)
{
	unsigned char in[ADAPTER_DIGEST + CORE_PAGE_KEY] = { 0 };

	if (s->blend)
		memcpy(in, s->blend->digest, ADAPTER_DIGEST);
	memcpy(in + ADAPTER_DIGEST, s->salt, CORE_PAGE_KEY);
	crypto_generichash(s->root, sizeof(s->root), in, sizeof(in), NULL, 0);
}

struct core_seq *core_seq_new(struct core_ctx *c)
{
	struct core_seq *s = kv_seq_new(&c->kv);

	if (s)
		name_root(s);
	return s;
}

struct core_seq *core_seq_fork(struct core_ctx *c, const struct core_seq *s)
{
	struct core_seq *f = kv_seq_fork(&c->kv, s);

	if (!f)
		return NULL;
	f->blend = core_blend_ref(s->blend);
	if (c->device && device_acquire(c->device, &f->resident, s->blend, NULL)) {	/* it is there: only memory can be short */
		core_seq_free(c, f);
		return NULL;
	}
	return f;
}

void core_seq_free(struct core_ctx *c, struct core_seq *s)
{
	if (s && c->device)
		device_release(c->device, s->resident);
	if (s)
		core_blend_unref(s->blend);
	kv_seq_free(&c->kv, s);
}

int core_seq_set_blend(struct core_ctx *c, struct core_seq *s, struct core_blend *b)
{
	void *resident = NULL;
	int rc;

	if (s->len || (b && b->model != c->model))
		return CORE_EINVAL;
	if (c->device) {
		rc = device_acquire(c->device, &resident, b, NULL);
		if (rc)
			return rc;
		device_release(c->device, s->resident);
		s->resident = resident;
	} else if (b && !weave_reserve(c, b)) {
		return CORE_ENOMEM;
	}
	core_blend_ref(b);
	core_blend_unref(s->blend);
	s->blend = b;
	name_root(s);
	return CORE_OK;
}

bool core_seq_ready(const struct core_ctx *c, const struct core_seq *s, bool wait)
{
	return !c->device || device_ready(c->device, s->resident, wait);
}

int core_seq_set_salt(struct core_seq *s, const void *salt, size_t len)
{
	if (s->len)
		return CORE_EINVAL;
	memset(s->salt, 0, sizeof(s->salt));
	if (len)
		crypto_generichash(s->salt, sizeof(s->salt), salt, len, NULL, 0);
	name_root(s);
	return CORE_OK;
}

bool core_seq_page_key(const struct core_ctx *c, const struct core_seq *s, const uint32_t *words, unsigned char key[CORE_PAGE_KEY])
{
	if (c->kv.cache.pages)
		kv_page_key(&c->kv, s, words, key);
	return c->kv.cache.pages != NULL;
}

uint32_t core_seq_reuse(struct core_ctx *c, struct core_seq *s, const uint32_t *words, uint32_t n)
{
	return kv_reuse(&c->kv, s, words, n);
}

uint32_t core_seq_len(const struct core_seq *s)
{
	return s->len;
}

int core_seq_trim(struct core_ctx *c, struct core_seq *s, uint32_t len)
{
	if (len > s->len)
		return CORE_EINVAL;
	kv_trim(&c->kv, s, len);
	return CORE_OK;
}

uint32_t core_seq_pages_needed(const struct core_ctx *c, const struct core_seq *s, uint32_t n)
{
	return kv_needed(&c->kv, s, n);
}

/* ---- one pass ---- */

static void forget_pending(struct core_ctx *c)
{
	for (uint32_t i = 0; i < c->n_touched; i++)
		c->touched[i]->pending = 0;
}

/* Checks the rows and counts them per sequence (pending); positions and wanted rows follow from the order. */
static int take_rows(struct core_ctx *c, const struct core_row *rows, uint32_t n, struct core_error *err)
{
	c->n_touched = c->n_logits = 0;
	c->drawn = NULL;
	c->rows = rows;
	c->m = n;
	if (n == 0 || n > c->max_rows)
		return core_fail(err, CORE_EINVAL, "a pass of %u rows: expected 1 to %u", n, c->max_rows);
	for (uint32_t i = 0; i < n; i++) {
		const struct core_row *r = &rows[i];

		if (r->token < 0 || (uint32_t)r->token >= c->model->config.vocab)
			return core_fail(err, CORE_EINVAL, "row %u: token %d: expected 0 to %u", i, r->token,
					 c->model->config.vocab - 1);
		if (r->path != CORE_PROMPT && r->path != CORE_GENERATED)
			return core_fail(err, CORE_EINVAL, "row %u: unknown path %d", i, (int)r->path);
		if (r->seq->len + r->seq->pending >= c->max_context)
			return core_fail(err, CORE_EINVAL, "row %u: position %u is beyond the context of %u", i,
					 r->seq->len + r->seq->pending, c->max_context);
		if (r->seq->pending == 0)
			c->touched[c->n_touched++] = r->seq;
		c->position[i] = r->seq->len + r->seq->pending++;
		if (r->want_logits)
			c->wanted[c->n_logits++] = i;
	}
	return CORE_OK;
}

static int reserve_pages(struct core_ctx *c, struct core_error *err)
{
	uint32_t was_free = kv_pages_free(&c->kv);

	for (uint32_t i = 0; i < c->n_touched; i++) {
		if (kv_reserve(&c->kv, c->touched[i]))
			continue;
		while (i--)
			kv_undo(&c->kv, c->touched[i]);
		return core_fail(err, CORE_ENOMEM, "KV pages are short: %u free, the pass needs more", was_free);
	}
	return CORE_OK;
}

/* A device copies pages, computes, and only then is it certain that the pass was one. */
static int run_on_device(struct core_ctx *c, struct core_error *err)
{
	int rc = device_forward(c, err);

	for (uint32_t i = 0; i < c->n_touched; i++)
		if (rc)
			kv_undo(&c->kv, c->touched[i]);
		else
			kv_copy(&c->kv, c->touched[i]);	/* only forgets it */
	return rc;
}

static void run_here(struct core_ctx *c)
{
	for (uint32_t i = 0; i < c->n_touched; i++)
		kv_copy(&c->kv, c->touched[i]);
	weave_plan(c);
	llama_forward(c);
}

static void commit_all(struct core_ctx *c)
{
	for (uint32_t i = 0; i < c->m; i++)
		kv_note(&c->kv, c->rows[i].seq, c->position[i], core_word(c->rows[i].token, c->rows[i].path));
	for (uint32_t i = 0; i < c->n_touched; i++)
		kv_commit(&c->kv, c->touched[i]);
}

int core_forward(struct core_ctx *c, const struct core_row *rows, uint32_t n, struct core_error *err)
{
	int rc = take_rows(c, rows, n, err);

	if (!rc)
		rc = reserve_pages(c, err);
	if (!rc && c->device)
		rc = run_on_device(c, err);
	if (c->device)
		device_forget_tokens(c->device);
	if (rc) {
		forget_pending(c);
		c->n_logits = 0;
		return rc;
	}
	if (!c->device)
		run_here(c);
	commit_all(c);
	return CORE_OK;
}

const float *core_logits(const struct core_ctx *c, uint32_t i)
{
	return i < c->n_logits && !core_drawn(c, i) ? c->logits.data + i * c->logits.ld : NULL;
}

bool core_want_token(struct core_ctx *c, uint32_t row, const struct core_draw *d)
{
	if (c->device)
		device_want_token(c->device, row, d);
	return c->device != NULL;
}

const struct core_drawn *core_drawn(const struct core_ctx *c, uint32_t i)
{
	return i < c->n_logits && c->drawn && c->drawn[i].token >= 0 ? &c->drawn[i] : NULL;
}

void core_spread(struct core_ctx *c, void (*fn)(void *arg, uint32_t i), void *arg, uint32_t n)
{
	if (c->pool)
		pool_run(c->pool, fn, arg, n);
	else
		for (uint32_t i = 0; i < n; i++)
			fn(arg, i);
}
