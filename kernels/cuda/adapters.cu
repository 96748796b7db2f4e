/* adapters.cu: blends on the device. An adapter is one block of memory: its factors as the host has them, and a table of its
 * layers.
 * Blends and adapters are counted; those that nobody holds stay until memory is short. */
#include "core.h"

#include <string.h>

/* ---- room ---- */

static void drop_adapter(struct cuda_core *c, size_t i)
{
	cudaFree(c->adapters[i]->memory);
	delete c->adapters[i];
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

/* Everything that nobody holds. The stream is idle between passes, so nothing reads it. */
static void make_room(struct cuda_core *c)
{
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

/* Places bytes one behind the other; with memory, copies them there. */
struct placer {
	struct cuda_core *c;
	unsigned char *memory; /* NULL: measures */
	size_t at;
	cudaError_t rc;
};

static const unsigned char *place(struct placer *p, const void *from, size_t bytes)
{
	unsigned char *to = p->memory ? p->memory + p->at : NULL;

	p->at += (bytes + 63) & ~(size_t)63;
	if (to && p->rc == cudaSuccess)
		p->rc = upload(&p->c->uploads, to, from, bytes);
	return to;
}

static struct dfactor place_factor(struct placer *p, const struct matrix *w)
{
	struct dfactor f = {NULL, NULL, 0, 0, 0, FORM_F32};

	if (!w || !w->blocks)
		return f;
	f.k = w->kpad;
	f.blocks = w->blocks;
	f.form = w->kind == PACK_F16 ? FORM_F16 : w->kind == PACK_BF16 ? FORM_BF16 : w->kind == PACK_S8 ? FORM_I8 : FORM_F32;
	f.values = place(p, w->codes, w->blocks * matrix_block_bytes(w));
	if (w->kind != PACK_S8)
		return f;
	f.group = w->group;
	f.scales = (const uint16_t *)place(p, w->scales, w->blocks * matrix_block_scales(w) * sizeof(uint16_t));
	return f;
}

static void place_layer(struct placer *p, struct dlora_layer *to, const struct backend_adapter_layer *from)
{
	memset(to, 0, sizeof(*to));
	for (unsigned i = 0; i < BACKEND_INPUTS; i++)
		to->a[i] = place_factor(p, from->a[i]);
	for (unsigned i = 0; i < CORE_LINEARS; i++) {
		to->rank[i] = from->linear[i].rank;
		to->at[i] = from->linear[i].at;
		if (!to->rank[i])
			continue;
		to->b[i] = place_factor(p, from->linear[i].b);
		if (from->linear[i].gain)
			to->gain[i] = (const float *)place(p, from->linear[i].gain, from->linear[i].b->blocks * 16 * sizeof(float));
	}
}

static void place_adapter(struct placer *p, struct cuda_adapter *a, const struct backend_part *from)
{
	std::vector<struct dlora_layer> table(p->c->layers);

	for (uint32_t i = 0; i < p->c->layers; i++)
		place_layer(p, &table[i], &from->layers[i]);
	a->embed = dembed();
	a->embed.rank = from->embed_rank;
	if (from->embed_rank) {
		a->embed.a = (const float *)place(p, from->embed_a, (size_t)p->c->embed.rows * from->embed_rank * sizeof(float));
		a->embed.b = place_factor(p, from->embed_b);
	}
	a->layers = (const struct dlora_layer *)place(p, table.data(), table.size() * sizeof(table[0]));
}

static struct cuda_adapter *find_adapter(struct cuda_core *c, const unsigned char *digest)
{
	for (size_t i = 0; i < c->adapters.size(); i++)
		if (!memcmp(c->adapters[i]->digest, digest, sizeof(c->adapters[i]->digest)))
			return c->adapters[i];
	return NULL;
}

static cudaError_t load_adapter(struct cuda_core *c, struct cuda_adapter **out, const struct backend_part *from)
{
	struct cuda_adapter *a = new cuda_adapter();
	struct placer p = {c, NULL, 0, cudaSuccess};

	place_adapter(&p, a, from);
	a->bytes = p.at;
	p.at = 0;
	p.rc = allocate(c, (void **)&p.memory, a->bytes);
	a->memory = p.memory;
	if (p.rc == cudaSuccess)
		place_adapter(&p, a, from);
	if (p.rc != cudaSuccess) {
		cudaStreamSynchronize(c->stream); /* copies to it may be on their way */
		cudaFree(a->memory);
		delete a;
		return p.rc;
	}
	memcpy(a->digest, from->digest, sizeof(a->digest));
	c->adapters.push_back(a);
	*out = a;
	return cudaSuccess;
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
		rc = upload(&c->uploads, factors, from->factor, (size_t)c->layers * CORE_LINEARS * sizeof(float));
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
	if (rc == cudaSuccess)
		rc = cudaStreamSynchronize(c->stream);
	*out = to;
	if (rc == cudaSuccess)
		return CORE_OK;
	to->uses = 0;
	cudaStreamSynchronize(c->stream);
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

void adapters_release(struct cuda_core *c, struct cuda_blend *b)
{
	if (b)
		b->uses--;
}

void adapters_finish(struct cuda_core *c)
{
	for (size_t i = 0; i < c->blends.size(); i++)
		c->blends[i]->uses = 0;
	make_room(c);
}
