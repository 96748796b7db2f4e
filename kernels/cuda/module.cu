/* module.cu: weft-cuda.so: an instance's making and unmaking. What it takes is added up and held against what the device has before
 * anything is loaded: the same walk measures first, then allocates. */
#include "config.h"
#include "core.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int cuda_fail(struct core_error *err, int code, const char *fmt, ...)
{
	va_list args;

	if (!err)
		return code;
	err->code = code;
	va_start(args, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, args);
	va_end(args);
	return code;
}

int cuda_fail_with(struct core_error *err, const struct cuda_core *c, cudaError_t rc, const char *what)
{
	return cuda_fail(err, rc == cudaErrorMemoryAllocation ? CORE_ENOMEM : CORE_EIO, "cuda:%d: %s: %s", c->device, what,
			 cudaGetErrorString(rc));
}

/* ---- memory ---- */

struct plan {
	bool measure;
	size_t weights, kv, workspace;
	cudaError_t rc;
};

/* A block of the plan: counted under *sum, or allocated. */
template <typename T> static void want(struct cuda_core *c, struct plan *p, size_t *sum, T **out, size_t n)
{
	size_t bytes = (n * sizeof(T) + 255) & ~(size_t)255;

	if (p->measure) {
		*sum += bytes;
		return;
	}
	if (p->rc != cudaSuccess)
		return;
	p->rc = cudaMalloc(out, bytes);
	if (p->rc == cudaSuccess)
		c->memory.push_back((void *)*out);
}

static uint32_t round_up(uint32_t n, uint32_t to)
{
	return (n + to - 1) / to * to;
}

static void want_matrix(struct cuda_core *c, struct plan *p, struct dmatrix *out, const struct backend_weights *w)
{
	if (p->measure) {
		p->weights += weights_bytes(w);
		return;
	}
	if (p->rc != cudaSuccess)
		return;
	p->rc = weights_upload(&c->uploads, out, w);
	if (out->codes)
		c->memory.push_back((void *)(uintptr_t)out->codes);
}

/* A 1-d weight, padded to whole vectors. */
static void want_norm(struct cuda_core *c, struct plan *p, float **out, const float *weight)
{
	want(c, p, &p->weights, out, round_up(c->dim, 16));
	if (!p->measure && p->rc == cudaSuccess)
		p->rc = upload(&c->uploads, *out, weight, c->dim * sizeof(float));
}

static void want_weights(struct cuda_core *c, struct plan *p, const struct backend_model *m)
{
	for (uint32_t i = 0; i < c->layers; i++) {
		for (unsigned k = 0; k < CORE_LINEARS; k++)
			want_matrix(c, p, &c->layer[i].linear[k], &m->layer[i].linear[k]);
		want_norm(c, p, &c->layer[i].attn_norm, m->layer[i].attn_norm);
		want_norm(c, p, &c->layer[i].ffn_norm, m->layer[i].ffn_norm);
	}
	want_norm(c, p, &c->norm, m->norm);
	want_matrix(c, p, &c->embed, &m->embed);
	if (m->head.w->codes != m->embed.w->codes)
		want_matrix(c, p, &c->head, &m->head);
	else
		c->head = c->embed;
}

/* The form that rows take for w: its place among the core's, or -1 for f32. */
static int form_key(const struct matrix *w)
{
	if (w->kind == PACK_F32)
		return -1;
	return w->kind == PACK_F16 || w->kind == PACK_NF4 ? 4
	       : w->kind == PACK_BF16 ? 5
	       : w->group == 16       ? 0
	       : w->group == 32       ? 1
	       : w->group == 64       ? 2
				      : 3;
}

static uint32_t forms_needed(const struct backend_model *m)
{
	uint32_t needed = 0;
	int key = form_key(m->head.w);

	needed |= key < 0 ? 0 : 1u << key;
	for (uint32_t i = 0; i < m->layers; i++)
		for (unsigned k = 0; k < CORE_LINEARS; k++) {
			key = form_key(m->layer[i].linear[k].w);
			needed |= key < 0 ? 0 : 1u << key;
		}
	return needed;
}

static void want_forms(struct cuda_core *c, struct plan *p, const struct backend_model *m)
{
	uint32_t needed = forms_needed(m), widest = c->dim > c->ffn ? c->dim : c->ffn;

	widest = c->heads * c->head_dim > widest ? c->heads * c->head_dim : widest;
	for (int i = 0; i < FORM_KEYS; i++) {
		struct dform *f = &c->form[i];

		if (!(needed >> i & 1))
			continue;
		f->form = i < 4 ? FORM_I8 : i == 4 ? FORM_F16 : FORM_BF16;
		f->group = i < 4 ? 16u << i : 0;
		f->ldm = round_up(c->max_rows, 8);
		f->ldx = round_up(i < 4 ? widest : 2 * widest, 64); /* the widest; a pass sets its own */
		want(c, p, &p->workspace, &f->x, (size_t)c->max_rows * f->ldx);
		if (i < 4) {
			want(c, p, &p->workspace, &f->scale, (size_t)(widest + f->group - 1) / f->group * f->ldm);
			want(c, p, &p->workspace, &f->sum, (size_t)(widest + f->group - 1) / f->group * f->ldm);
		} else if (i == 4) {
			want(c, p, &p->workspace, &f->scale, c->max_rows);
		}
	}
}

/* Cosines and sines of every position, in double, as the CPU has them. */
static cudaError_t fill_angles(struct cuda_core *c, const struct backend_model *m)
{
	uint32_t half = c->head_dim / 2, run = UPLOAD_PIECE / 4 / c->head_dim;
	std::vector<float> some((size_t)run * c->head_dim);
	cudaError_t rc = cudaSuccess;

	for (uint32_t at = 0; at < c->max_context && rc == cudaSuccess; at += run) {
		uint32_t n = c->max_context - at < run ? c->max_context - at : run;

		for (uint32_t i = 0; i < n; i++)
			for (uint32_t k = 0; k < half; k++) {
				double angle = (at + i) * m->frequency[k];

				some[(size_t)i * c->head_dim + k] = (float)(cos(angle) * m->magnitude);
				some[(size_t)i * c->head_dim + half + k] = (float)(sin(angle) * m->magnitude);
			}
		rc = upload(&c->uploads, c->angles + (size_t)at * c->head_dim, some.data(),
			    (size_t)n * c->head_dim * sizeof(float));
	}
	return rc;
}

/* Partial sums of attention: for as many rows at once as fit in 64 MiB, at least for one. */
static uint64_t partial_of(const struct cuda_core *c)
{
	uint64_t row = (uint64_t)c->heads * (c->max_context / ATTENTION_SPLIT + 1) * (c->kv.pad + 2), rows = (16ull << 20) / row;

	rows = rows < 1 ? 1 : rows > c->max_rows ? c->max_rows : rows;
	return row * rows;
}

template <typename T> static void lay(T **host, T **dev, struct cuda_core *c, size_t *at, size_t n)
{
	*host = (T *)(c->host_arrays + *at);
	*dev = (T *)(c->dev_arrays + *at);
	*at += (n * sizeof(T) + 63) & ~(size_t)63;
}

static size_t lay_arrays(struct cuda_core *c)
{
	size_t at = 0, rows = c->max_rows;

	lay(&c->host.token, &c->dev.token, c, &at, rows);
	lay(&c->host.rows, &c->dev.rows, c, &at, rows);
	lay(&c->host.decode, &c->dev.decode, c, &at, rows);
	lay(&c->host.wanted, &c->dev.wanted, c, &at, rows);
	lay(&c->host.tiles, &c->dev.tiles, c, &at, rows);
	lay(&c->host.draws, &c->dev.draws, c, &at, rows);
	lay(&c->host.items, &c->dev.items, c, &at, rows + 1);
	c->head_bytes = at;
	lay(&c->host.pieces, &c->dev.pieces, c, &at, rows * CORE_BLEND_MAX);
	lay(&c->host.parts, &c->dev.parts, c, &at, rows * CORE_BLEND_MAX);
	lay(&c->host.embeds, &c->dev.embeds, c, &at, rows * CORE_BLEND_MAX);
	lay(&c->host.pages, &c->dev.pages, c, &at, rows * c->max_pages);
	lay(&c->host.edits, &c->dev.edits, c, &at, CORE_PASS_EDITS);
	return at;
}

static void want_workspace(struct cuda_core *c, struct plan *p, const struct backend_params *params)
{
	size_t rows = c->max_rows;

	want(c, p, &p->kv, &c->kv.pool, (size_t)params->kv_pages * c->kv.page);
	want(c, p, &p->workspace, &c->x, rows * c->ld_dim);
	want(c, p, &p->workspace, &c->h, rows * c->ld_dim);
	want(c, p, &p->workspace, &c->delta, rows * c->ld_dim);
	want(c, p, &p->workspace, &c->q, rows * c->ld_q);
	want(c, p, &p->workspace, &c->a, rows * c->ld_q);
	want(c, p, &p->workspace, &c->k, rows * c->ld_kv);
	want(c, p, &p->workspace, &c->v, rows * c->ld_kv);
	want(c, p, &p->workspace, &c->gate, rows * c->ld_ffn);
	want(c, p, &p->workspace, &c->up, rows * c->ld_ffn);
	want(c, p, &p->workspace, &c->logits, rows * c->ld_vocab);
	want(c, p, &p->workspace, &c->scaled, (size_t)DRAW_ROWS * c->ld_vocab);
	want(c, p, &p->workspace, &c->drawn, rows);
	want(c, p, &p->workspace, &c->tops, rows * CORE_TOP);
	want(c, p, &p->workspace, &c->angles, (size_t)c->max_context * c->head_dim);
	want(c, p, &p->workspace, &c->partial, c->partial_floats);
	if (ranks_floats(&c->ranks, c->max_rows, c->ld_dim))
		want(c, p, &p->workspace, &c->ranks.parts, ranks_floats(&c->ranks, c->max_rows, c->ld_dim));
	want(c, p, &p->workspace, &c->dev_arrays, lay_arrays(c));
	want_forms(c, p, params->model);
}

/* ---- opening ---- */

static void shape_of(struct cuda_core *c, const struct backend_params *p)
{
	const struct backend_model *m = p->model;
	uint32_t hd = m->head_dim;

	c->device = p->device;
	c->layers = m->layers;
	c->dim = m->dim;
	c->ffn = m->ffn_dim;
	c->heads = m->heads;
	c->kv_heads = m->kv_heads;
	c->head_dim = hd;
	c->vocab = m->head.w->rows;
	c->eps = m->norm_eps;
	c->max_rows = p->max_rows;
	c->max_context = p->max_context;
	c->max_pages = (p->max_context + KV_PAGE - 1) / KV_PAGE;
	c->ld_dim = round_up(c->dim, 16);
	c->ld_q = round_up(c->heads * hd, 16);
	c->ld_kv = round_up(c->kv_heads * hd, 16);
	c->ld_ffn = round_up(c->ffn, 16);
	c->ld_vocab = round_up(c->vocab, 16);
	c->kv.heads = c->heads;
	c->kv.kv_heads = c->kv_heads;
	c->kv.head_dim = hd;
	c->kv.pad = hd <= 32 ? 32 : hd <= 64 ? 64 : hd <= 96 ? 96 : hd <= 128 ? 128 : 256;
	c->ranks.n = m->ranks;
	c->ranks.rank = p->rank;
	c->ranks.reduce = p->reduce;
	c->kv.int8 = p->int8_kv;
	c->kv.head = kv_head_bytes(c->kv.pad, c->kv.int8);
	c->kv.layer = c->kv_heads * c->kv.head;
	c->kv.page = c->kv.layer * c->layers;
	c->partial_floats = partial_of(c);
}

static double gib(size_t bytes)
{
	return (double)bytes / (1 << 30);
}

static int check_device(struct cuda_core *c, struct cudaDeviceProp *prop, struct core_error *err)
{
	int n = 0;
	cudaError_t rc = cudaGetDeviceCount(&n);

	if (rc != cudaSuccess || n == 0)
		return cuda_fail(err, CORE_EUNSUPPORTED, "cuda:%d: %s", c->device,
				 rc == cudaSuccess ? "this machine has no CUDA device" : cudaGetErrorString(rc));
	if (c->device < 0 || c->device >= n)
		return cuda_fail(err, CORE_EUNSUPPORTED, "cuda:%d: this machine has %d CUDA device%s, numbered from 0", c->device,
				 n, n > 1 ? "s" : "");
	rc = cudaGetDeviceProperties(prop, c->device);
	if (rc == cudaSuccess)
		rc = cudaSetDevice(c->device);
	if (rc != cudaSuccess)
		return cuda_fail_with(err, c, rc, "opening it");
	if (prop->major < 8)
		return cuda_fail(err, CORE_EUNSUPPORTED, "cuda:%d: %s has compute capability %d.%d: expected 8.0 or later",
				 c->device, prop->name, prop->major, prop->minor);
	if (c->heads / c->kv_heads > ATTENTION_GROUP_MAX)
		return cuda_fail(err, CORE_EUNSUPPORTED, "cuda:%d: %u query heads share a KV head: this core takes up to %d",
				 c->device, c->heads / c->kv_heads, ATTENTION_GROUP_MAX);
	return CORE_OK;
}

/* What the driver and the graphs take beside the plan. */
enum { MARGIN = 256 << 20 };

static int check_plan(struct cuda_core *c, const struct plan *p, const struct cudaDeviceProp *prop, struct core_error *err)
{
	size_t free_bytes = 0, total = 0, sum = p->weights + p->kv + p->workspace + 2 * (size_t)(UPLOAD_PIECE + UPLOAD_BESIDE);
	cudaError_t rc = cudaMemGetInfo(&free_bytes, &total);

	if (rc != cudaSuccess)
		return cuda_fail_with(err, c, rc, "asking for its memory");
	if (sum + MARGIN > free_bytes)
		return cuda_fail(err, CORE_ENOMEM,
				 "cuda:%d: %s has %.2f GiB free of %.2f: weights %.2f, KV pages %.2f, workspace %.2f and a margin "
				 "of %.2f GiB need %.2f",
				 c->device, prop->name, gib(free_bytes), gib(total), gib(p->weights), gib(p->kv), gib(p->workspace),
				 gib(MARGIN), gib(sum + MARGIN));
	snprintf(c->text, sizeof(c->text),
		 "cuda:%d %s, sm_%d%d: weights %.2f GiB, KV pages (%s) %.2f, workspace %.2f, left for adapters %.2f", c->device,
		 prop->name, prop->major, prop->minor, gib(p->weights), c->kv.int8 ? "int8" : "f16", gib(p->kv), gib(p->workspace),
		 gib(free_bytes - sum - MARGIN));
	return CORE_OK;
}

static int load(struct cuda_core *c, const struct backend_params *params, struct core_error *err)
{
	struct plan p = {false, 0, 0, 0, cudaSuccess};

	p.rc = cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking);
	if (p.rc == cudaSuccess)
		p.rc = cudaStreamCreateWithFlags(&c->copies, cudaStreamNonBlocking);
	if (p.rc == cudaSuccess)
		p.rc = cudaEventCreateWithFlags(&c->loaded, cudaEventDisableTiming);
	if (p.rc == cudaSuccess)
		p.rc = uploader_init(&c->uploads, c->stream, UPLOAD_PIECE);
	if (p.rc == cudaSuccess)
		p.rc = uploader_init(&c->loads, c->copies, UPLOAD_BESIDE);
	want_weights(c, &p, params->model);
	want_workspace(c, &p, params);
	if (p.rc == cudaSuccess)
		p.rc = cudaMallocHost(&c->host_arrays, lay_arrays(c));
	if (p.rc == cudaSuccess)
		p.rc = cudaMallocHost(&c->host_logits, (size_t)c->max_rows * c->ld_vocab * sizeof(float));
	if (p.rc == cudaSuccess)
		p.rc = cudaMallocHost(&c->host_drawn, c->max_rows * sizeof(c->host_drawn[0]));
	if (p.rc == cudaSuccess)
		p.rc = cudaMallocHost(&c->host_tops, c->max_rows * CORE_TOP * sizeof(c->host_tops[0]));
	lay_arrays(c);
	if (p.rc == cudaSuccess)
		p.rc = fill_angles(c, params->model);
	if (p.rc == cudaSuccess)
		p.rc = cudaStreamSynchronize(c->stream);
	uploader_finish(&c->uploads);
	return p.rc == cudaSuccess ? CORE_OK : cuda_fail_with(err, c, p.rc, "loading the model");
}

static void core_close(void *self)
{
	struct cuda_core *c = (struct cuda_core *)self;

	if (!c)
		return;
	cudaSetDevice(c->device);
	if (c->stream)
		cudaStreamSynchronize(c->stream);
	pass_forget_graphs(c);
	adapters_finish(c);
	ranks_close(c);
	uploader_finish(&c->uploads);
	uploader_finish(&c->loads);
	for (size_t i = 0; i < c->memory.size(); i++)
		cudaFree(c->memory[i]);
	cudaFree(c->lora);
	cudaFreeHost(c->host_arrays);
	cudaFreeHost(c->host_logits);
	if (c->loaded)
		cudaEventDestroy(c->loaded);
	if (c->copies)
		cudaStreamDestroy(c->copies);
	cudaFreeHost(c->host_drawn);
	cudaFreeHost(c->host_tops);
	if (c->stream)
		cudaStreamDestroy(c->stream);
	delete[] c->layer;
	delete c;
}

static int core_open(void **self, const struct backend_params *params, struct core_error *err)
{
	struct cuda_core *c = new cuda_core();
	struct plan p = {true, 0, 0, 0, cudaSuccess};
	struct cudaDeviceProp prop;
	int rc;

	shape_of(c, params);
	c->layer = new cuda_layer[c->layers]();
	rc = check_device(c, &prop, err);
	if (!rc) {
		want_weights(c, &p, params->model);
		want_workspace(c, &p, params);
		rc = check_plan(c, &p, &prop, err);
	}
	if (!rc)
		rc = load(c, params, err);
	if (!rc)
		rc = ranks_open(c, err);
	if (rc)
		core_close(c);
	else
		*self = c;
	return rc;
}

/* ---- the table ---- */

static const char *core_describe(void *self)
{
	return ((struct cuda_core *)self)->text;
}

static int core_acquire(void *self, void **blend, const struct backend_blend *b, struct core_error *err)
{
	struct cuda_core *c = (struct cuda_core *)self;

	cudaSetDevice(c->device);
	return adapters_acquire(c, blend, b, err);
}

static void core_release(void *self, void *blend)
{
	struct cuda_core *c = (struct cuda_core *)self;

	cudaSetDevice(c->device);
	adapters_release(c, (struct cuda_blend *)blend);
}

static bool core_ready(void *self, void *blend, bool wait)
{
	struct cuda_core *c = (struct cuda_core *)self;

	cudaSetDevice(c->device);
	return adapters_ready(c, (struct cuda_blend *)blend, wait);
}

static int core_pass(void *self, const struct backend_pass *pass, const float **logits, size_t *ld, const struct core_drawn **drawn,
		     struct core_error *err)
{
	struct cuda_core *c = (struct cuda_core *)self;

	cudaSetDevice(c->device); /* of this thread: not always the one that opened it */
	return pass_forward(c, pass, logits, ld, drawn, err);
}

__attribute__((visibility("default"))) const struct backend *weft_backend(void)
{
	static const struct backend table = {sizeof(table), BACKEND_ABI,  PACKAGE_VERSION, core_open, core_close,
					     core_describe, core_acquire, core_release,    core_ready,     core_pass};

	return &table;
}
