/* adapters.cu: blends on the device. An adapter is one block of memory: the host's arena as it is, and a table of its layers.
 * Blends and adapters are counted; those that nobody holds stay until memory is short.
 *
 * Loading: acquire() takes memory and sends what is small. Arenas follow in pieces, through pinned memory and on a stream of their own, while
 * the host would wait for a pass of others (adapters_beside). The first pass with a blend waits for that stream, on the device
 * (adapters_join). */
#include "core.h"

#include <string.h>

/* ---- room ---- */

static bool is_loading(const struct cuda_adapter *a)
{
	return a->arena != NULL;
}

static void stop_loading(struct cuda_core *c, struct cuda_adapter *a)
{
	for (size_t i = 0; i < c->loading.size(); i++)
		if (c->loading[i] == a) {
			c->loading.erase(c->loading.begin() + (ptrdiff_t)i);
			break;
		}
	a->arena = NULL;
}

static void drop_adapter(struct cuda_core *c, size_t i)
{
	struct cuda_adapter *a = c->adapters[i];

	if (is_loading(a))
		stop_loading(c, a);
	cudaFree(a->memory);
	delete a;
	c->adapters.erase(c->adapters.begin() + (ptrdiff_t)i);
}

static void drop_blend(struct cuda_core *c, size_t i)
{
	for (uint32_t k = 0; k < c->blends[i]->n; k++)
		c->blends[i]->adapter[k]->uses--;
	cudaFree(c->blends[i]->factors);
	delete c->blends[i];
	c->blends.erase(c->blends.begin() + (ptrdiff_t)i);
}

/* Everything that nobody holds. The pass's stream is idle between passes, so nothing reads it; copies to it may be on their way. */
static void make_room(struct cuda_core *c)
{
	if (c->copies)
		cudaStreamSynchronize(c->copies);
	for (size_t i = c->blends.size(); i--;)
		if (!c->blends[i]->uses)
			drop_blend(c, i);
	for (size_t i = c->adapters.size(); i--;)
		if (!c->adapters[i]->uses)
			drop_adapter(c, i);
}

static cudaError_t allocate(struct cuda_core *c, void **out, size_t bytes)
{
	cudaError_t rc = cudaMalloc((unsigned char **)out, bytes);

	if (rc != cudaErrorMemoryAllocation)
		return rc;
	cudaGetLastError(); /* it is told once more otherwise */
	make_room(c);
	return cudaMalloc((unsigned char **)out, bytes);
}

/* ---- an adapter ---- */

/* Where parts of an arena of the host are on the device. */
struct mirror {
	const unsigned char *host, *dev;
};

static const unsigned char *there(const struct mirror *m, const void *host)
{
	return host ? m->dev + ((const unsigned char *)host - m->host) : NULL;
}

static struct dfactor mirror_factor(const struct mirror *m, const struct matrix *w)
{
	struct dfactor f = {NULL, NULL, 0, 0, 0, FORM_F32};

	if (!w || !w->blocks)
		return f;
	f.k = w->kpad;
	f.blocks = w->blocks;
	f.form = w->kind == PACK_F16 ? FORM_F16 : w->kind == PACK_BF16 ? FORM_BF16 : w->kind == PACK_S8 ? FORM_I8 : FORM_F32;
	f.values = there(m, w->codes);
	if (w->kind != PACK_S8)
		return f;
	f.group = w->group;
	f.scales = (const uint16_t *)there(m, w->scales);
	return f;
}

static void mirror_layer(const struct mirror *m, struct dlora_layer *to, const struct backend_adapter_layer *from)
{
	memset(to, 0, sizeof(*to));
	for (unsigned i = 0; i < BACKEND_INPUTS; i++)
		to->a[i] = mirror_factor(m, from->a[i]);
	for (unsigned i = 0; i < CORE_LINEARS; i++) {
		to->rank[i] = from->linear[i].rank;
		to->at[i] = from->linear[i].at;
		if (!to->rank[i])
			continue;
		to->b[i] = mirror_factor(m, from->linear[i].b);
		to->gain[i] = (const float *)there(m, from->linear[i].gain);
	}
}

/* The table of layers, behind the arena. */
static cudaError_t send_table(struct cuda_core *c, struct cuda_adapter *a, const struct backend_part *from, size_t at)
{
	const struct mirror m = {from->arena, a->memory};
	std::vector<struct dlora_layer> table(c->layers);

	for (uint32_t i = 0; i < c->layers; i++)
		mirror_layer(&m, &table[i], &from->layers[i]);
	a->layers = (const struct dlora_layer *)(a->memory + at);
	a->embed = dembed();
	a->embed.rank = from->embed_rank;
	if (from->embed_rank) {
		a->embed.a = (const float *)there(&m, from->embed_a);
		a->embed.b = mirror_factor(&m, from->embed_b);
	}
	return upload(&c->loads, a->memory + at, table.data(), table.size() * sizeof(table[0]));
}

static struct cuda_adapter *find_adapter(struct cuda_core *c, const unsigned char *digest)
{
	for (size_t i = 0; i < c->adapters.size(); i++)
		if (!memcmp(c->adapters[i]->digest, digest, sizeof(c->adapters[i]->digest)))
			return c->adapters[i];
	return NULL;
}

/* Begins to load: the arena follows piece by piece. */
static cudaError_t load_adapter(struct cuda_core *c, struct cuda_adapter **out, const struct backend_part *from)
{
	struct cuda_adapter *a = new cuda_adapter();
	size_t table_at = (from->arena_bytes + 63) & ~(size_t)63;
	cudaError_t rc = allocate(c, (void **)&a->memory, table_at + c->layers * sizeof(struct dlora_layer));

	if (rc == cudaSuccess)
		rc = send_table(c, a, from, table_at);
	if (rc != cudaSuccess) {
		cudaStreamSynchronize(c->copies);
		cudaFree(a->memory);
		delete a;
		return rc;
	}
	memcpy(a->digest, from->digest, sizeof(a->digest));
	a->arena = from->arena;
	a->arena_bytes = from->arena_bytes;
	c->adapters.push_back(a);
	c->loading.push_back(a);
	*out = a;
	return cudaSuccess;
}

static cudaError_t load_piece(struct cuda_core *c, struct cuda_adapter *a)
{
	size_t rest = a->arena_bytes - a->at, some = rest < UPLOAD_BESIDE ? rest : (size_t)UPLOAD_BESIDE;
	cudaError_t rc = upload(&c->loads, a->memory + a->at, a->arena + a->at, some);

	a->at += some;
	if (a->at == a->arena_bytes)
		stop_loading(c, a);
	return rc;
}

static cudaError_t load_rest(struct cuda_core *c, struct cuda_adapter *a)
{
	cudaError_t rc = cudaSuccess;

	while (is_loading(a) && rc == cudaSuccess)
		rc = load_piece(c, a);
	return rc;
}

cudaError_t adapters_beside(struct cuda_core *c)
{
	cudaError_t rc = cudaSuccess;

	while (!c->loading.empty() && rc == cudaSuccess) {
		rc = load_piece(c, c->loading[0]);
		if (rc == cudaSuccess && cudaStreamQuery(c->stream) != cudaErrorNotReady)
			break;
		cudaGetLastError(); /* "not ready" is told once more otherwise */
	}
	return rc;
}

/* ---- a blend ---- */

/* Room for h in every row, for a blend of this width. Graphs know the old place. */
static cudaError_t widen(struct cuda_core *c, uint32_t width)
{
	uint32_t k = c->dim > c->ffn ? c->dim : c->ffn;
	float *wider;
	cudaError_t rc;

	k = c->heads * c->head_dim > k ? c->heads * c->head_dim : k;
	if (width <= c->ld_lora)
		return cudaSuccess;
	rc = allocate(c, (void **)&wider, (size_t)((k + LORA_SPLIT - 1) / LORA_SPLIT) * c->max_rows * width * sizeof(float));
	if (rc != cudaSuccess)
		return rc;
	pass_forget_graphs(c);
	cudaFree(c->lora);
	c->lora = wider;
	c->ld_lora = width;
	return cudaSuccess;
}

/* Graphs know how wide the widest A is. */
static void note_blocks(struct cuda_core *c, const struct backend_part *p)
{
	for (uint32_t i = 0; i < c->layers; i++)
		for (unsigned k = 0; k < BACKEND_INPUTS; k++) {
			uint32_t blocks = p->layers[i].a[k] ? p->layers[i].a[k]->blocks : 0;

			if (blocks <= c->a_blocks[k])
				continue;
			c->a_blocks[k] = blocks;
			pass_forget_graphs(c);
		}
}

static cudaError_t add_part(struct cuda_core *c, struct cuda_blend *to, const struct backend_part *from)
{
	struct cuda_adapter *a = find_adapter(c, from->digest);
	cudaError_t rc = a ? cudaSuccess : load_adapter(c, &a, from);
	float *factors = to->factors + (size_t)to->n * c->layers * CORE_LINEARS;

	if (rc == cudaSuccess)
		rc = upload(&c->loads, factors, from->factor, (size_t)c->layers * CORE_LINEARS * sizeof(float));
	if (rc != cudaSuccess)
		return rc;
	a->uses++;
	to->adapter[to->n] = a;
	to->part[to->n] = dpart{a->layers, factors, from->at};
	to->embed[to->n] = a->embed;
	to->embed[to->n].factor = from->embed_factor;
	to->embeds |= from->embed_rank > 0;
	to->n++;
	note_blocks(c, from);
	return cudaSuccess;
}

static int load_blend(struct cuda_core *c, struct cuda_blend **out, const struct backend_blend *b, struct core_error *err)
{
	struct cuda_blend *to = new cuda_blend();
	cudaError_t rc;

	memcpy(to->digest, b->digest, sizeof(to->digest));
	to->uses = 1; /* while it is made: adapters of its own must not make room for each other */
	c->blends.push_back(to);
	rc = widen(c, b->width);
	if (rc == cudaSuccess)
		rc = allocate(c, (void **)&to->factors, (size_t)b->n * c->layers * CORE_LINEARS * sizeof(float));
	for (uint32_t i = 0; i < b->n && rc == cudaSuccess; i++)
		rc = add_part(c, to, &b->parts[i]);
	*out = to;
	if (rc == cudaSuccess)
		return CORE_OK;
	to->uses = 0;
	make_room(c);
	return cuda_fail_with(err, c, rc, "loading a blend's adapters");
}

int adapters_acquire(struct cuda_core *c, void **blend, const struct backend_blend *b, struct core_error *err)
{
	struct cuda_blend *made;
	int rc;

	for (size_t i = 0; i < c->blends.size(); i++)
		if (!memcmp(c->blends[i]->digest, b->digest, sizeof(c->blends[i]->digest))) {
			c->blends[i]->uses++;
			*blend = c->blends[i];
			return CORE_OK;
		}
	rc = load_blend(c, &made, b, err);
	if (!rc)
		*blend = made;
	return rc;
}

static cudaError_t load_rest_of(struct cuda_core *c, struct cuda_blend *b)
{
	cudaError_t rc = cudaSuccess;

	for (uint32_t i = 0; i < b->n && rc == cudaSuccess; i++)
		rc = load_rest(c, b->adapter[i]);
	return rc;
}

bool adapters_ready(struct cuda_core *c, struct cuda_blend *b, bool wait)
{
	if (wait)
		load_rest_of(c, b); /* what goes wrong is told by the pass */
	for (uint32_t i = 0; i < b->n && !wait; i++)
		if (is_loading(b->adapter[i]))
			return false;
	return true;
}

cudaError_t adapters_join(struct cuda_core *c, struct cuda_blend *b)
{
	cudaError_t rc;

	if (!b || b->joined)
		return cudaSuccess;
	rc = load_rest_of(c, b);
	if (rc == cudaSuccess)
		rc = cudaEventRecord(c->loaded, c->copies); /* the stream keeps the order: all of b is before it */
	if (rc == cudaSuccess)
		rc = cudaStreamWaitEvent(c->stream, c->loaded, 0);
	b->joined = rc == cudaSuccess;
	return rc;
}

/* Whether a blend that somebody holds has a part in it. */
static bool is_held(const struct cuda_core *c, const struct cuda_adapter *a)
{
	for (size_t i = 0; i < c->blends.size(); i++)
		for (uint32_t k = 0; k < c->blends[i]->n; k++)
			if (c->blends[i]->adapter[k] == a && c->blends[i]->uses)
				return true;
	return false;
}

/* What nobody holds and the host has not been read for. */
static void drop_unread(struct cuda_core *c)
{
	cudaStreamSynchronize(c->copies);
	for (size_t i = c->blends.size(); i--;) {
		bool unread = false;

		for (uint32_t k = 0; k < c->blends[i]->n; k++)
			unread |= is_loading(c->blends[i]->adapter[k]);
		if (unread && !c->blends[i]->uses)
			drop_blend(c, i);
	}
	for (size_t i = c->adapters.size(); i--;)
		if (is_loading(c->adapters[i]) && !c->adapters[i]->uses)
			drop_adapter(c, i);
}

/* The host may free the arenas now. What nobody needs any more is not read to its end. */
void adapters_release(struct cuda_core *c, struct cuda_blend *b)
{
	bool drop = false;

	if (!b)
		return;
	b->uses--;
	for (uint32_t i = 0; i < b->n; i++) {
		if (!is_loading(b->adapter[i]))
			continue;
		if (is_held(c, b->adapter[i]))
			load_rest(c, b->adapter[i]);
		else
			drop = true;
	}
	if (drop)
		drop_unread(c);
}

void adapters_finish(struct cuda_core *c)
{
	for (size_t i = 0; i < c->blends.size(); i++)
		c->blends[i]->uses = 0;
	make_room(c);
}
