/* pass.cu: one forward pass on the device. Read enqueue() first: it is llama.c's llama_forward(), launch by launch.
 *
 * A pass of generated tokens alone, up to GRAPH_ROWS of them, is a CUDA graph per bucket of its shape: rows that fill up a
 * bucket have no page to write to and their results are dropped. By P1 the other rows' bits do not change. */
#include "core.h"

#include <math.h>
#include <string.h>

enum { GRAPH_ROWS = 64, GRAPHS_MAX = 64 };

#define TRY(call)                                                                                                                  \
	do {                                                                                                                       \
		cudaError_t rc_ = (call);                                                                                          \
		if (rc_ != cudaSuccess)                                                                                            \
			return rc_;                                                                                                \
	} while (0)

/* ---- what a pass reads ---- */

/* Rows and pages. The rows of a sequence stand together. */
static void lay_rows(struct cuda_core *c, const struct backend_pass *p, struct pass_shape *s, uint32_t *n_pages)
{
	uint32_t last = UINT32_MAX, pages = 0;

	for (uint32_t i = 0; i < p->n; i++) {
		const struct backend_row *r = &p->rows[i];
		const struct backend_seq *q = &p->seqs[r->seq];

		if (r->seq != last) {
			memcpy(c->host.pages + *n_pages, q->pages, q->n_pages * sizeof(uint32_t));
			pages = *n_pages;
			*n_pages += q->n_pages;
			last = r->seq;
		}
		c->host.token[i] = r->token;
		c->host.rows[i] = drow{r->position, (int32_t)q->pages[r->position / KV_PAGE], pages};
		if (r->generated) {
			c->host.decode[s->n_decode++] = i;
			s->splits = r->position / ATTENTION_SPLIT + 1 > s->splits ? r->position / ATTENTION_SPLIT + 1 : s->splits;
		}
	}
	memcpy(c->host.wanted, p->wanted, p->n_wanted * sizeof(uint32_t));
}

/* Runs of prompt rows of one sequence, cut to tiles. */
static void lay_tiles(struct cuda_core *c, const struct backend_pass *p, struct pass_shape *s)
{
	uint32_t most = attention_tile_rows(c->heads, c->kv_heads);

	for (uint32_t i = 0; i < p->n; i++) {
		struct dtile *t = s->n_tiles ? &c->host.tiles[s->n_tiles - 1] : NULL;

		if (p->rows[i].generated)
			continue;
		if (t && t->row + t->n == i && t->n < most && p->rows[i - 1].seq == p->rows[i].seq)
			t->n++;
		else
			c->host.tiles[s->n_tiles++] = dtile{i, 1};
	}
}

/* Items of up to LORA_ROWS rows of one blend; the parts of a blend are listed once. */
static void lay_blends(struct cuda_core *c, const struct backend_pass *p, struct pass_shape *s, uint32_t *n_parts)
{
	const struct cuda_blend *last = NULL;
	uint32_t first = 0;

	for (uint32_t i = 0; i < p->n; i++) {
		const struct cuda_blend *b = (const struct cuda_blend *)p->seqs[p->rows[i].seq].blend;
		struct dlora_item *item = s->n_items ? &c->host.items[s->n_items - 1] : NULL;

		if (b && b == last && item->m < LORA_ROWS) {
			item->m++;
			continue;
		}
		if (b && b != last) {
			first = *n_parts;
			memcpy(c->host.parts + first, b->part, b->n * sizeof(b->part[0]));
			memcpy(c->host.embeds + first, b->embed, b->n * sizeof(b->embed[0]));
			*n_parts += b->n;
			s->embeds |= b->embeds;
		}
		last = b;
		if (!b)
			continue;
		for (uint32_t k = 0; k < b->n; k++)
			c->host.pieces[s->n_pieces++] = dlora_piece{s->n_items, first + k};
		c->host.items[s->n_items++] = dlora_item{i, 1, first, b->n};
	}
	c->host.items[s->n_items] = dlora_item{0, 0, 0, 0};
}

static void lay_draws(struct cuda_core *c, const struct backend_pass *p, struct pass_shape *s, uint32_t *n_edits)
{
	for (uint32_t i = 0; p->draws && i < p->n_wanted; i++) {
		struct core_draw *d = &c->host.draws[i];

		*d = p->draws[i];
		if (d->temperature < 0)
			continue;
		s->draws = true;
		s->tops |= d->top > 0;
		for (uint32_t k = 0; k < d->n_edits; k++)
			c->host.edits[*n_edits + k] = d->edits[k];
		d->edits = c->dev.edits + *n_edits;
		*n_edits += d->n_edits;
	}
}

static uint32_t bucket(uint32_t n, uint32_t most)
{
	uint32_t b = 1;

	while (b < n)
		b *= 2;
	return n == 0 ? 0 : b < most ? b : most;
}

/* The shape rounded up, and what fills it up. */
static struct pass_shape fill_up(struct cuda_core *c, const struct pass_shape *s)
{
	struct pass_shape b = *s;

	b.m = b.n_decode = b.n_wanted = bucket(s->m, c->max_rows);
	b.splits = bucket(s->splits, c->max_context / ATTENTION_SPLIT + 1);
	b.n_items = bucket(s->n_items, c->max_rows);
	b.n_pieces = bucket(s->n_pieces, c->max_rows * CORE_BLEND_MAX);
	for (uint32_t i = s->m; i < b.m; i++) {
		c->host.token[i] = 0;
		c->host.rows[i] = drow{0, -1, 0};
		c->host.decode[i] = i;
	}
	for (uint32_t i = s->n_wanted; i < b.m; i++) {
		c->host.wanted[i] = 0;
		c->host.draws[i].temperature = -1;
	}
	for (uint32_t i = s->n_items; i < b.n_items; i++)
		c->host.items[i] = dlora_item{0, 0, 0, 0};
	for (uint32_t i = s->n_pieces; i < b.n_pieces; i++)
		c->host.pieces[i] = dlora_piece{s->n_items < b.n_items ? s->n_items : b.n_items, 0};
	c->host.items[b.n_items] = dlora_item{0, 0, 0, 0};
	return b;
}

static cudaError_t send(struct cuda_core *c, const void *host, size_t bytes)
{
	size_t at = (size_t)((const unsigned char *)host - c->host_arrays);

	return bytes ? cudaMemcpyAsync(c->dev_arrays + at, host, bytes, cudaMemcpyHostToDevice, c->stream) : cudaSuccess;
}

static cudaError_t send_arrays(struct cuda_core *c, const struct pass_shape *s, uint32_t n_parts, uint32_t n_pages,
			       uint32_t n_edits)
{
	TRY(send(c, c->host_arrays, c->head_bytes));
	TRY(send(c, c->host.pieces, s->n_pieces * sizeof(c->host.pieces[0])));
	TRY(send(c, c->host.parts, n_parts * sizeof(c->host.parts[0])));
	TRY(send(c, c->host.embeds, s->embeds ? n_parts * sizeof(c->host.embeds[0]) : 0));
	TRY(send(c, c->host.edits, n_edits * sizeof(c->host.edits[0])));
	return send(c, c->host.pages, n_pages * sizeof(c->host.pages[0]));
}

/* ---- linears ---- */

/* The core's rows in the form that w reads, for inputs of n elements; x NULL: f32. */
static struct dform form_for(const struct cuda_core *c, const struct dmatrix *w)
{
	bool integer = w->form == FORM_I4 || w->form == FORM_I8;
	struct dform none, f;

	memset(&none, 0, sizeof(none));
	none.form = FORM_F32;
	if (w->form == FORM_F32)
		return none;
	f = c->form[!integer ? (w->form == FORM_BF16 ? 5 : 4) : w->group == 16 ? 0 : w->group == 32 ? 1 : w->group == 64 ? 2 : 3];
	f.ldx = ((integer ? w->cols : 2 * w->cols) + 63) / 64 * 64;
	return f;
}

/* Every form that one of these matrices of one input reads, once. */
static struct dforms forms_for(const struct cuda_core *c, const struct dmatrix *const w[], uint32_t n)
{
	struct dforms to;

	memset(&to, 0, sizeof(to));
	for (uint32_t i = 0; i < n; i++) {
		struct dform f = form_for(c, w[i]);
		bool known = f.form == FORM_F32;

		for (uint32_t k = 0; k < to.n; k++)
			known |= to.form[k].x == f.x;
		if (!known)
			to.form[to.n++] = f;
	}
	return to;
}

struct project {
	const struct dmatrix *w[MATMUL_MAX];
	float *out[MATMUL_MAX];
	uint32_t ldo[MATMUL_MAX], n;
};

/* Linears of one input; those of one form in one launch. x: the input as f32. */
static cudaError_t project(struct cuda_core *c, const struct project *p, const float *x, uint32_t ldx, uint32_t m)
{
	bool done[MATMUL_MAX] = {false, false, false};

	for (uint32_t i = 0; i < p->n; i++) {
		struct matmul_args a;

		if (done[i])
			continue;
		memset(&a, 0, sizeof(a));
		for (uint32_t k = i; k < p->n; k++) {
			if (done[k] || p->w[k]->form != p->w[i]->form || p->w[k]->group != p->w[i]->group)
				continue;
			done[k] = true;
			a.w[a.n] = *p->w[k];
			a.out[a.n] = p->out[k];
			a.ldo[a.n++] = p->ldo[k];
		}
		a.m = m;
		a.x = form_for(c, p->w[i]);
		a.f = x;
		a.ldf = ldx;
		TRY(matmul_cuda(&a, c->stream));
	}
	return cudaSuccess;
}

static cudaError_t weave(struct cuda_core *c, const struct pass_shape *s, uint32_t layer, uint32_t input, const struct project *p,
			 const float *x, uint32_t ldx)
{
	static const uint32_t first[BACKEND_INPUTS] = {CORE_Q, CORE_O, CORE_GATE, CORE_DOWN};
	struct lora_args a;

	if (!s->n_items)
		return cudaSuccess;
	memset(&a, 0, sizeof(a));
	a.items = c->dev.items;
	a.pieces = c->dev.pieces;
	a.parts = c->dev.parts;
	a.n_items = s->n_items;
	a.n_pieces = s->n_pieces;
	a.a_blocks = c->a_blocks[input];
	a.layer = layer;
	a.input = input;
	a.first = first[input];
	a.linears = p->n;
	a.x = x;
	a.ldx = ldx;
	a.k = p->w[0]->cols;
	a.h = c->lora;
	a.ldh = c->ld_lora;
	a.max_rows = c->max_rows;
	for (uint32_t i = 0; i < p->n; i++) {
		a.out[i] = p->out[i];
		a.ldo[i] = p->ldo[i];
		a.rows[i] = p->w[i]->rows;
	}
	return lora_cuda(&a, c->stream);
}

/* ---- attention ---- */

static cudaError_t attend(struct cuda_core *c, const struct pass_shape *s, uint32_t layer)
{
	struct rope_args r = {c->q, c->k, c->v, c->angles, c->ld_q, c->ld_kv, s->m, layer, c->dev.rows, c->kv};
	uint64_t row = (uint64_t)c->heads * s->splits * (c->kv.pad + 2);
	uint32_t some = row ? (uint32_t)(c->partial_floats / row) : 0;
	struct attention_args a;

	TRY(rope_store_cuda(&r, c->stream));
	memset(&a, 0, sizeof(a));
	a.out = c->a;
	a.q = c->q;
	a.ld = c->ld_q;
	a.layer = layer;
	a.rows = c->dev.rows;
	a.pages = c->dev.pages;
	a.kv = c->kv;
	a.scale = 1.0f / sqrtf((float)c->head_dim);
	a.splits = s->splits;
	a.partial = c->partial;
	a.tiles = c->dev.tiles;
	a.n_tiles = s->n_tiles;
	if (s->n_tiles)
		TRY(attention_cuda(&a, c->stream));
	a.n_tiles = 0;
	for (uint32_t i = 0; i < s->n_decode; i += some) { /* as many rows as there is room for partial sums */
		a.decode = c->dev.decode + i;
		a.n_decode = s->n_decode - i < some ? s->n_decode - i : some;
		TRY(attention_cuda(&a, c->stream));
	}
	return cudaSuccess;
}

/* ---- the pass ---- */

static cudaError_t norm(struct cuda_core *c, const struct pass_shape *s, const float *weight, bool add, const struct project *next)
{
	struct norm_args a = {c->h,   c->x,   add ? c->delta : NULL,         weight, NULL, c->ld_dim, s->m,
			      c->dim, c->eps, forms_for(c, next->w, next->n)};

	return rmsnorm_cuda(&a, c->stream);
}

static cudaError_t layer(struct cuda_core *c, const struct pass_shape *s, uint32_t i)
{
	const struct cuda_layer *y = &c->layer[i];
	const struct dmatrix *w = y->linear;
	const struct project qkv = {{&w[CORE_Q], &w[CORE_K], &w[CORE_V]}, {c->q, c->k, c->v}, {c->ld_q, c->ld_kv, c->ld_kv}, 3};
	const struct project o = {{&w[CORE_O]}, {c->delta}, {c->ld_dim}, 1};
	const struct project mlp = {{&w[CORE_GATE], &w[CORE_UP]}, {c->gate, c->up}, {c->ld_ffn, c->ld_ffn}, 2};
	const struct project down = {{&w[CORE_DOWN]}, {c->delta}, {c->ld_dim}, 1};
	struct dforms o_forms = forms_for(c, o.w, 1), down_forms = forms_for(c, down.w, 1);

	TRY(norm(c, s, y->attn_norm, i > 0, &qkv));   /* h     [m][dim] */
	TRY(project(c, &qkv, c->h, c->ld_dim, s->m)); /* q, k, v */
	TRY(weave(c, s, i, 0, &qkv, c->h, c->ld_dim));
	TRY(attend(c, s, i)); /* a     [m][heads][head_dim] */
	TRY(prepare_cuda(&o_forms, c->a, c->ld_q, s->m, c->heads * c->head_dim, c->stream));
	TRY(project(c, &o, c->a, c->ld_q, s->m)); /* delta [m][dim] */
	TRY(weave(c, s, i, 1, &o, c->a, c->ld_q));
	TRY(ranks_sum(c, s->m));
	TRY(norm(c, s, y->ffn_norm, true, &mlp));     /* h     [m][dim] */
	TRY(project(c, &mlp, c->h, c->ld_dim, s->m)); /* gate, up [m][ffn] */
	TRY(weave(c, s, i, 2, &mlp, c->h, c->ld_dim));
	TRY(swiglu_cuda(&down_forms, c->gate, c->up, c->ld_ffn, s->m, c->ffn, c->stream));
	TRY(project(c, &down, c->gate, c->ld_ffn, s->m)); /* delta [m][dim] */
	TRY(weave(c, s, i, 3, &down, c->gate, c->ld_ffn));
	return ranks_sum(c, s->m);
}

static cudaError_t enqueue(struct cuda_core *c, const struct pass_shape *s)
{
	const struct project head = {{&c->head}, {c->logits}, {c->ld_vocab}, 1};
	const struct draw_args d = {c->logits, c->ld_vocab, c->vocab, s->n_wanted, c->dev.draws, c->drawn, c->tops, c->scaled};
	struct lora_embed_args e = {c->dev.items, c->dev.embeds, c->dev.token, s->n_items, c->dim, c->x, c->ld_dim};
	struct norm_args last = {c->h,      c->x,        c->delta, c->norm, c->dev.wanted,
				 c->ld_dim, s->n_wanted, c->dim,   c->eps,  forms_for(c, head.w, 1)};

	TRY(embed_cuda(c->x, c->ld_dim, &c->embed, c->dev.token, s->m, c->stream)); /* x      [m][dim] */
	if (s->embeds)
		TRY(lora_embed_cuda(&e, c->stream));
	for (uint32_t i = 0; i < c->layers; i++)
		TRY(layer(c, s, i)); /* x, but for the last delta */
	if (!s->n_wanted)
		return cudaSuccess;
	TRY(rmsnorm_cuda(&last, c->stream));                  /* h      [n_wanted][dim] */
	TRY(project(c, &head, c->h, c->ld_dim, s->n_wanted)); /* logits [n_wanted][vocab] */
	return s->draws ? draw_cuda(&d, c->stream) : cudaSuccess;
}

/* ---- graphs ---- */

void pass_forget_graphs(struct cuda_core *c)
{
	for (size_t i = 0; i < c->graphs.size(); i++)
		cudaGraphExecDestroy(c->graphs[i].exec);
	c->graphs.clear();
}

static bool same_shape(const struct pass_shape *a, const struct pass_shape *b)
{
	return a->m == b->m && a->splits == b->splits && a->n_items == b->n_items && a->n_pieces == b->n_pieces &&
	       a->embeds == b->embeds && a->draws == b->draws;
}

static cudaError_t capture(struct cuda_core *c, const struct pass_shape *s, cudaGraphExec_t *out)
{
	cudaGraph_t graph = NULL;
	cudaError_t rc, end;

	TRY(cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeThreadLocal));
	rc = enqueue(c, s);
	end = cudaStreamEndCapture(c->stream, &graph);
	rc = rc == cudaSuccess ? end : rc;
	if (rc == cudaSuccess)
		rc = cudaGraphInstantiate(out, graph, 0);
	if (graph)
		cudaGraphDestroy(graph);
	return rc;
}

static cudaError_t run_graph(struct cuda_core *c, const struct pass_shape *s)
{
	struct pass_graph g = {*s, NULL};

	for (size_t i = 0; i < c->graphs.size(); i++)
		if (same_shape(&c->graphs[i].shape, s))
			return cudaGraphLaunch(c->graphs[i].exec, c->stream);
	if (c->graphs.size() >= GRAPHS_MAX)
		pass_forget_graphs(c);
	TRY(capture(c, s, &g.exec));
	c->graphs.push_back(g);
	return cudaGraphLaunch(g.exec, c->stream);
}

/* ---- forward ---- */

static cudaError_t copy_pages(struct cuda_core *c, const struct backend_pass *p)
{
	for (uint32_t i = 0; i < p->n_copies; i++)
		TRY(cudaMemcpyAsync(c->kv.pool + p->copies[i][1] * c->kv.page, c->kv.pool + p->copies[i][0] * c->kv.page,
				    c->kv.page, cudaMemcpyDeviceToDevice, c->stream));
	return cudaSuccess;
}

/* Rows of logits, neighbours in one copy: those of which nothing was to be drawn, or (late) of which nothing was. */
static cudaError_t fetch_logits(struct cuda_core *c, const struct backend_pass *p, bool late, bool *some)
{
	uint32_t n = 0;

	*some = false;
	for (uint32_t i = 0; i <= p->n_wanted; i++) {
		bool draws = i < p->n_wanted && p->draws && p->draws[i].temperature >= 0;

		if (i < p->n_wanted && (late ? draws && c->host_drawn[i].token < 0 : !draws)) {
			n++;
			continue;
		}
		if (n)
			TRY(cudaMemcpyAsync(c->host_logits + (size_t)(i - n) * c->ld_vocab, c->logits + (size_t)(i - n) * c->ld_vocab,
					    (size_t)n * c->ld_vocab * sizeof(float), cudaMemcpyDeviceToHost, c->stream));
		*some |= n > 0;
		n = 0;
	}
	return cudaSuccess;
}

/* What the pass gave: tokens, and logits where there are none. */
static cudaError_t fetch(struct cuda_core *c, const struct backend_pass *p, const struct pass_shape *s)
{
	const size_t top = CORE_TOP * sizeof(c->tops[0]);
	bool some;

	TRY(fetch_logits(c, p, false, &some));
	if (s->draws)
		TRY(cudaMemcpyAsync(c->host_drawn, c->drawn, p->n_wanted * sizeof(c->drawn[0]), cudaMemcpyDeviceToHost, c->stream));
	if (s->tops)
		TRY(cudaMemcpyAsync(c->host_tops, c->tops, p->n_wanted * top, cudaMemcpyDeviceToHost, c->stream));
	TRY(adapters_beside(c));
	TRY(cudaStreamSynchronize(c->stream));
	if (!s->draws)
		return cudaSuccess;
	for (uint32_t i = 0; i < p->n_wanted; i++)
		c->host_drawn[i].top = c->host_tops + (size_t)i * CORE_TOP;
	TRY(fetch_logits(c, p, true, &some));
	return some ? cudaStreamSynchronize(c->stream) : cudaSuccess;
}

static cudaError_t run(struct cuda_core *c, const struct backend_pass *p, bool *draws)
{
	struct pass_shape s = {p->n, p->n_wanted, 0, 1, 0, 0, 0, false, false, false};
	uint32_t n_pages = 0, n_parts = 0, n_edits = 0;
	bool graph;

	lay_rows(c, p, &s, &n_pages);
	lay_tiles(c, p, &s);
	lay_blends(c, p, &s, &n_parts);
	for (uint32_t i = 0; i < p->n_seqs; i++)
		TRY(adapters_join(c, (struct cuda_blend *)p->seqs[i].blend));
	lay_draws(c, p, &s, &n_edits);
	*draws = s.draws;
	graph = !c->no_graphs && s.n_decode == s.m && s.n_wanted == s.m && s.m <= GRAPH_ROWS;
	if (graph)
		s = fill_up(c, &s);
	TRY(copy_pages(c, p));
	TRY(send_arrays(c, &s, n_parts, n_pages, n_edits));
	TRY(graph ? run_graph(c, &s) : enqueue(c, &s));
	return fetch(c, p, &s);
}

int pass_forward(struct cuda_core *c, const struct backend_pass *p, const float **logits, size_t *ld, const struct core_drawn **drawn,
		 struct core_error *err)
{
	bool draws = false;
	cudaError_t rc = run(c, p, &draws);

	if (rc != cudaSuccess && c->ranks.reason)
		return cuda_fail(err, CORE_EIO, "cuda:%d: NCCL, rank %u of %u: %s", c->device, c->ranks.rank, c->ranks.n, c->ranks.reason);
	if (rc != cudaSuccess)
		return cuda_fail_with(err, c, rc, "a forward pass");
	*logits = c->host_logits;
	*ld = c->ld_vocab;
	*drawn = draws ? c->host_drawn : NULL;
	return CORE_OK;
}
