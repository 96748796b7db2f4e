/* model.c: loading. The checkpoint's tensors are found and planned into one arena; then they are packed by all CPUs and hashed, or the arena
 * is mapped as an earlier start packed it. */
#include "config.h"
#include "model.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memory.h"
#include "pack.h"
#include "packed.h"
#include "pool.h"
#include "quant_nf4.h"
#include "shard.h"

enum { HASH_SLICE = 1 << 20, HASH_BYTES = 32, PACK_RUN = 4 };	/* PACK_RUN: blocks that one part of a pool_run packs */
enum { NORMS_PER_LAYER = 2 };

/* One matrix on its way from the file into the arena. */
struct packing {
	struct matrix *w;
	const struct tensor *t;
	enum pack_form form;
	bool nf4;			/* t becomes NF4 first */
};

struct loader {
	struct core_model *m;
	const struct core_model_params *params;
	struct checkpoint *cp;
	struct pool *pool;
	struct packing *list;		/* [n]; the embedding first, then the linears */
	size_t n;
	struct tensor *parts;		/* [n] what list[i].t points at, where a rank has a part of it */
	float *next_norm;		/* in m->norms */
	bool *used;			/* [checkpoint_count]: tensors that found their place */
	struct core_error *err;
};

/* ---- finding tensors ---- */

/* rows 0: a 1-d tensor. */
static const struct tensor *find(struct loader *l, const char *name, uint64_t rows, uint64_t cols)
{
	const struct tensor *t = checkpoint_find(l->cp, name);
	unsigned n_dims = rows ? 2 : 1;

	if (!t) {
		core_fail(l->err, CORE_EFORMAT, "tensor %s is missing", name);
		return NULL;
	}
	if (t->n_dims != n_dims || t->dims[n_dims - 1] != cols || (rows && t->dims[0] != rows)) {
		core_fail(l->err, CORE_EFORMAT,
			  "tensor %s has %u dimensions (%" PRIu64 ", %" PRIu64 "): the config asks for (%" PRIu64 ", %" PRIu64 ")",
			  name, t->n_dims, t->dims[0], t->n_dims > 1 ? t->dims[1] : 1, rows ? rows : cols, rows ? cols : 1);
		return NULL;
	}
	for (size_t i = 0; i < checkpoint_count(l->cp); i++)
		if (checkpoint_at(l->cp, i) == t)
			l->used[i] = true;
	return t;
}

static void enlist(struct loader *l, struct packing p)
{
	l->m->arena_bytes += pack_bytes(p.w);
	l->list[l->n++] = p;
}

static int add_matrix(struct loader *l, struct matrix *w, const char *name, uint32_t rows, uint32_t cols, enum pack_form form)
{
	const struct tensor *t = find(l, name, rows, cols);

	if (!t)
		return CORE_EFORMAT;
	pack_plan(w, t, form);
	enlist(l, (struct packing){ w, t, form, false });
	return CORE_OK;
}

/* What bitsandbytes saved stays as it is. */
static int add_nf4(struct loader *l, struct matrix *w, const char *name, uint32_t rows, uint32_t cols)
{
	const struct tensor *t = find(l, name, rows, cols);
	struct nf4_matrix m;

	if (!t)
		return CORE_EFORMAT;
	if (cols % NF4_BLOCK)
		return core_fail(l->err, CORE_EUNSUPPORTED, "tensor %s has rows of %u: nf4 takes whole blocks of %u; use q8 or q4", name,
				 cols, NF4_BLOCK);
	nf4_init(&m, t);
	pack_plan(w, t->type == TENSOR_NF4 ? t : &m.t, PACK_KEEP);
	enlist(l, (struct packing){ w, t, PACK_KEEP, t->type != TENSOR_NF4 });
	return CORE_OK;
}

/* This rank's part of a linear, in the whole's codes: its groups are groups of the whole. */
static int add_part(struct loader *l, struct matrix *w, const char *name, uint32_t rows, uint32_t cols, enum pack_form form,
		    enum shard_axis axis)
{
	const struct tensor *t = find(l, name, rows, cols);
	struct tensor *part = &l->parts[l->n];
	struct matrix whole;
	int rc;

	if (!t)
		return CORE_EFORMAT;
	rc = shard_tensor(part, t, axis, l->m->rank, l->m->ranks, l->err);
	if (rc)
		return rc;
	pack_plan(&whole, t, form);
	pack_plan(w, part, form);
	if (axis == SHARD_INPUTS && whole.group && w->cols % whole.group)
		return core_fail(l->err, CORE_EUNSUPPORTED, "tensor %s: the %u inputs of a rank are not whole groups of %u", name, w->cols,
				 whole.group);
	enlist(l, (struct packing){ w, part, form, false });
	return CORE_OK;
}

static int add_linear(struct loader *l, struct matrix *w, const char *name, uint32_t rows, uint32_t cols, enum shard_axis axis)
{
	enum core_quant q = l->params->quant;
	enum pack_form form = q == CORE_QUANT_Q8 ? PACK_Q8 : q == CORE_QUANT_Q4 ? PACK_Q4 : PACK_KEEP;

	if (l->m->ranks > 1)
		return add_part(l, w, name, rows, cols, form, axis);
	return q == CORE_QUANT_NF4 ? add_nf4(l, w, name, rows, cols) : add_matrix(l, w, name, rows, cols, form);
}

static int add_norm(struct loader *l, float **out, const char *name)
{
	const struct tensor *t = find(l, name, 0, l->m->config.dim);

	if (!t)
		return CORE_EFORMAT;
	*out = l->next_norm;
	l->next_norm += l->m->config.dim;
	tensor_row_f32(t, 0, *out);
	return CORE_OK;
}

static int add_layer(struct loader *l, uint32_t i)
{
	const struct llama_config *c = &l->m->whole;
	struct layer *y = &l->m->layers[i];
	uint32_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
	const struct {
		struct matrix *w;
		const char *name;
		uint32_t rows, cols;
	} part[CORE_LINEARS] = {	/* in the order of enum core_linear */
		{ &y->q, "self_attn.q_proj", q, c->dim },
		{ &y->k, "self_attn.k_proj", kv, c->dim },
		{ &y->v, "self_attn.v_proj", kv, c->dim },
		{ &y->o, "self_attn.o_proj", c->dim, q },
		{ &y->gate, "mlp.gate_proj", c->ffn_dim, c->dim },
		{ &y->up, "mlp.up_proj", c->ffn_dim, c->dim },
		{ &y->down, "mlp.down_proj", c->dim, c->ffn_dim },
	};
	char name[128];
	int rc = CORE_OK;

	for (unsigned p = 0; p < CORE_LINEARS && !rc; p++) {
		snprintf(name, sizeof(name), "model.layers.%u.%s.weight", i, part[p].name);
		rc = add_linear(l, part[p].w, name, part[p].rows, part[p].cols, shard_axis_of(p));
	}
	snprintf(name, sizeof(name), "model.layers.%u.input_layernorm.weight", i);
	if (!rc)
		rc = add_norm(l, &y->attn_norm, name);
	snprintf(name, sizeof(name), "model.layers.%u.post_attention_layernorm.weight", i);
	return rc ? rc : add_norm(l, &y->ffn_norm, name);
}

/* With q4 the head stays at q8: it is where small errors cost most, and a small part of the bytes. bitsandbytes leaves it alone. */
static enum pack_form head_form(const struct loader *l)
{
	return l->params->quant == CORE_QUANT_NONE || l->params->quant == CORE_QUANT_NF4 ? PACK_KEEP : PACK_Q8;
}

static int add_head(struct loader *l)
{
	const struct llama_config *c = &l->m->config;
	enum pack_form form = head_form(l);

	if (c->tied && form == PACK_KEEP)
		return CORE_OK;	/* place() lets it share the embedding's memory */
	return add_matrix(l, &l->m->head, c->tied ? "model.embed_tokens.weight" : "lm_head.weight", c->vocab, c->dim, form);
}

static bool may_be_unused(const struct loader *l, const char *name)
{
	size_t n = strlen(name), tail = strlen("rotary_emb.inv_freq");

	return (n >= tail && !strcmp(name + n - tail, "rotary_emb.inv_freq")) || !strcmp(name, "rope_freqs.weight") ||
	       (l->m->config.tied && !strcmp(name, "lm_head.weight"));
}

/* A weight that this forward pass would not use makes another model than the file means. */
static int refuse_leftovers(struct loader *l)
{
	for (size_t i = 0; i < checkpoint_count(l->cp); i++) {
		const char *name = checkpoint_at(l->cp, i)->name;

		if (!l->used[i] && !may_be_unused(l, name))
			return core_fail(l->err, CORE_EUNSUPPORTED,
					 "tensor %s has no place in a Llama model as this core computes it", name);
	}
	return CORE_OK;
}

static int add_all(struct loader *l)
{
	struct core_model *m = l->m;
	const struct llama_config *c = &m->config;
	int rc;

	m->layers = calloc(c->layers, sizeof(m->layers[0]));
	m->norms = malloc(((size_t)c->layers * NORMS_PER_LAYER + 1) * c->dim * sizeof(float));
	l->list = calloc((size_t)c->layers * CORE_LINEARS + 2, sizeof(l->list[0]));
	l->parts = m->ranks > 1 ? calloc((size_t)c->layers * CORE_LINEARS + 2, sizeof(l->parts[0])) : NULL;
	l->used = calloc(checkpoint_count(l->cp) + 1, sizeof(l->used[0]));
	if (!m->layers || !m->norms || !l->list || !l->used || (m->ranks > 1 && !l->parts))
		return core_fail(l->err, CORE_ENOMEM, "no memory for the lists of %u layers", c->layers);
	l->next_norm = m->norms;
	rc = add_matrix(l, &m->embed, "model.embed_tokens.weight", c->vocab, c->dim, PACK_KEEP);
	for (uint32_t i = 0; i < c->layers && !rc; i++)
		rc = add_layer(l, i);
	if (!rc)
		rc = add_norm(l, &m->norm, "model.norm.weight");
	if (!rc)
		rc = add_head(l);
	return rc ? rc : refuse_leftovers(l);
}

/* ---- packing ---- */

static void place(struct loader *l)
{
	struct core_model *m = l->m;
	unsigned char *next = m->arena;

	for (size_t i = 0; i < l->n; i++) {
		pack_place(l->list[i].w, next);
		next += pack_bytes(l->list[i].w);
	}
	if (m->config.tied && head_form(l) == PACK_KEEP)
		m->head = m->embed;
}

struct pack_run {
	const struct packing *p;
	struct nf4_matrix *nf4;		/* to quantise instead; or NULL */
	atomic_int rc;
	atomic_flag told;
	struct core_error err;		/* of the first part that failed */
};

static void pack_part(void *arg, uint32_t i)
{
	struct pack_run *r = arg;
	struct core_error err;
	uint32_t b0 = i * PACK_RUN, b1 = b0 + PACK_RUN < r->p->w->blocks ? b0 + PACK_RUN : r->p->w->blocks;
	uint32_t rows = r->p->w->rows;
	int rc = atomic_load(&r->rc) ? CORE_OK
		 : r->nf4	     ? nf4_rows(r->nf4, b0 * LANES, b1 * LANES < rows ? b1 * LANES : rows, &err)
				     : pack_blocks(r->p->w, r->p->t, r->p->form, b0, b1, &err);

	if (rc && !atomic_flag_test_and_set(&r->told)) {
		r->err = err;
		atomic_store(&r->rc, rc);
	}
}

struct hash_run {
	const unsigned char *data;
	size_t bytes;
	unsigned char *digest;		/* [slices][HASH_BYTES] */
};

static void hash_part(void *arg, uint32_t i)
{
	struct hash_run *r = arg;
	size_t at = (size_t)i * HASH_SLICE, n = r->bytes - at < HASH_SLICE ? r->bytes - at : HASH_SLICE;

	crypto_generichash(r->digest + (size_t)i * HASH_BYTES, HASH_BYTES, r->data + at, n, NULL, 0);
}

static void hash_matrix_shape(crypto_generichash_state *h, const struct matrix *w)
{
	const uint32_t shape[] = { w->kind, w->rows, w->cols, w->group, w->bits, w->zero, w->has_min, w->two_level };

	crypto_generichash_update(h, (const unsigned char *)shape, sizeof(shape));
}

/* The shape of w, then the digests of its slices. */
static int hash_matrix(struct loader *l, crypto_generichash_state *h, const struct matrix *w)
{
	struct hash_run r = { w->codes, pack_bytes(w), NULL };
	uint32_t slices = (uint32_t)((r.bytes + HASH_SLICE - 1) / HASH_SLICE);

	r.digest = malloc((size_t)slices * HASH_BYTES + 1);
	if (!r.digest)
		return core_fail(l->err, CORE_ENOMEM, "no memory for %u digests", slices);
	pool_run(l->pool, hash_part, &r, slices);
	hash_matrix_shape(h, w);
	crypto_generichash_update(h, r.digest, (size_t)slices * HASH_BYTES);
	free(r.digest);
	return CORE_OK;
}

static void hash_shape(crypto_generichash_state *h, const struct core_model *m)
{
	const struct llama_config *c = &m->config;
	const uint32_t whole[] = { c->layers, c->dim, c->ffn_dim, c->heads, c->kv_heads, c->head_dim, c->vocab, c->tied };
	const uint32_t shard[] = { m->rank, m->ranks };

	crypto_generichash_init(h, NULL, 0, HASH_BYTES);
	crypto_generichash_update(h, (const unsigned char *)whole, sizeof(whole));
	if (m->ranks > 1)
		crypto_generichash_update(h, (const unsigned char *)shard, sizeof(shard));
	crypto_generichash_update(h, (const unsigned char *)&c->norm_eps, sizeof(c->norm_eps));
	crypto_generichash_update(h, (const unsigned char *)&m->rope->magnitude, sizeof(m->rope->magnitude));
	crypto_generichash_update(h, (const unsigned char *)m->rope->frequency, m->rope->half * sizeof(m->rope->frequency[0]));
	crypto_generichash_update(h, (const unsigned char *)m->norms,
				  ((size_t)c->layers * NORMS_PER_LAYER + 1) * c->dim * sizeof(float));
}

static int run_parts(struct loader *l, const struct packing *p, struct nf4_matrix *nf4)
{
	struct pack_run r = { .p = p, .nf4 = nf4, .told = ATOMIC_FLAG_INIT };

	pool_run(l->pool, pack_part, &r, (p->w->blocks + PACK_RUN - 1) / PACK_RUN);
	if (r.rc && l->err)
		*l->err = r.err;
	return r.rc;
}

static int pack_as_nf4(struct loader *l, const struct packing *p)
{
	struct nf4_matrix m;
	int rc;

	nf4_init(&m, p->t);
	rc = nf4_room(&m, l->err);
	if (!rc)
		rc = run_parts(l, p, &m);
	if (!rc) {
		nf4_scales(&m);
		rc = run_parts(l, &(struct packing){ p->w, &m.t, PACK_KEEP, false }, NULL);
	}
	nf4_finish(&m);
	return rc;
}

static int pack_all(struct loader *l)
{
	crypto_generichash_state h;
	unsigned char digest[HASH_BYTES];
	size_t done = 0;
	int rc;

	hash_shape(&h, l->m);
	for (size_t i = 0; i < l->n; i++) {
		const struct packing *p = &l->list[i];

		rc = p->nf4 ? pack_as_nf4(l, p) : run_parts(l, p, NULL);
		if (!rc)
			rc = hash_matrix(l, &h, p->w);
		if (rc)
			return rc;
		memory_forget(p->t->data, p->t->bytes);	/* the source's pages count as ours while they are mapped */
		done += pack_bytes(p->w);
		if (l->params->progress)
			l->params->progress(l->params->progress_arg, (double)done / (double)l->m->arena_bytes);
	}
	crypto_generichash_final(&h, digest, sizeof(digest));
	sodium_bin2hex(l->m->info.digest, sizeof(l->m->info.digest), digest, sizeof(digest));
	return CORE_OK;
}

static int pack_anew(struct loader *l)
{
	struct core_model *m = l->m;
	int rc;

	m->arena = memory_map(m->arena_bytes);
	if (!m->arena)
		return core_fail(l->err, CORE_ENOMEM, "no memory for %zu bytes of weights", m->arena_bytes);
	place(l);
	rc = pack_all(l);
	memory_seal(m->arena, m->arena_bytes);
	return rc;
}

/* ---- the file of packed weights ---- */

/* Whatever the packed bytes follow from: the shape and the norms, how each matrix is packed and a sample of its data, and which files they
 * are in. Reading all of the source is what the cache saves: a change of it shows in the files' stamps. */
static void make_key(struct loader *l, unsigned char key[static PACKED_KEY])
{
	enum { SAMPLE = 64 };
	const struct file_stamp *stamp;
	crypto_generichash_state h;

	hash_shape(&h, l->m);
	for (size_t i = 0; i < l->n; i++) {
		const struct tensor *t = l->list[i].t;
		const uint32_t form[] = { l->list[i].form, l->list[i].nf4, t->type, t->permuted_heads };
		const unsigned char *middle = (const unsigned char *)t->data + t->bytes / 2;

		hash_matrix_shape(&h, l->list[i].w);
		crypto_generichash_update(&h, (const unsigned char *)form, sizeof(form));
		crypto_generichash_update(&h, middle, t->bytes / 2 < SAMPLE ? t->bytes / 2 : SAMPLE);
	}
	for (size_t i = 0; (stamp = checkpoint_stamp(l->cp, i)); i++)
		crypto_generichash_update(&h, (const unsigned char *)stamp, sizeof(*stamp));
	crypto_generichash_final(&h, key, PACKED_KEY);
}

/* Has somebody written into the source while it was packed? */
static bool source_changed(struct loader *l)
{
	const struct file_stamp *was, *is;
	struct checkpoint *now;
	bool same = true;

	if (checkpoint_open(&now, l->params->path, NULL))
		return true;
	for (size_t i = 0; same && (was = checkpoint_stamp(l->cp, i)); i++) {
		is = checkpoint_stamp(now, i);
		same = is && !memcmp(is, was, sizeof(*is));
	}
	checkpoint_close(now);
	return !same;
}

static int note(struct loader *l, enum core_cache what, const char *doing, const char *path, const char *why)
{
	size_t size = strlen(doing) + strlen(path) + strlen(why) + 8;

	l->m->cache = what;
	l->m->cache_note = malloc(size);
	if (!l->m->cache_note)
		return core_fail(l->err, CORE_ENOMEM, "no memory for a path");
	snprintf(l->m->cache_note, size, "%s %s%s%s", doing, path, *why ? ": " : "", why);
	return CORE_OK;
}

/* Adds what became of older files to the reason. */
static void tidy(const struct loader *l, char why[static PACKED_WHY])
{
	size_t n = strlen(why);
	struct packed_tidied t = { 0 };

	if (l->params->cache_most)
		t = packed_tidy(l->params->cache, l->params->cache_most);
	if (t.files)
		snprintf(why + n, PACKED_WHY - n, "%s%u older file%s of %.1f MB removed", n ? "; " : "", t.files, t.files > 1 ? "s" : "",
			 (double)t.bytes / 1e6);
}

/* The arena from the file; else packed anew, and then into the file. */
static int use_cache(struct loader *l)
{
	struct core_model *m = l->m;
	struct packed p = { .bytes = m->arena_bytes };
	char form[48], why[PACKED_WHY];
	int rc, kept;

	snprintf(form, sizeof(form), "%s", core_quant_name(l->params->quant));
	if (m->ranks > 1)
		snprintf(form, sizeof(form), "%s-%u-of-%u", core_quant_name(l->params->quant), m->rank, m->ranks);
	if (!packed_name(&p, l->params->cache, m->config.name, form, l->params->path))
		return core_fail(l->err, CORE_EINVAL, "%s: the name of this folder for packed weights is too long", l->params->cache);
	make_key(l, p.key);
	m->arena = packed_map(&p, l->pool, m->info.digest, why);
	if (m->arena) {
		m->cache_lock = p.lock;
		place(l);
		if (l->params->progress)
			l->params->progress(l->params->progress_arg, 1);
		return note(l, CORE_CACHE_MAPPED, "from", p.path, "");
	}
	rc = pack_anew(l);
	if (rc)
		return rc;
	if (source_changed(l))
		return note(l, CORE_CACHE_FAILED, "not kept in", p.path, "the source changed meanwhile");
	kept = packed_write(&p, l->pool, m->arena, m->info.digest);
	if (kept)
		return note(l, CORE_CACHE_FAILED, "not kept in", p.path, kept == -EBUSY ? "another process is writing it" : strerror(-kept));
	m->cache_lock = p.lock;
	tidy(l, why);
	return note(l, CORE_CACHE_WRITTEN, "written to", p.path, why);
}

/* ---- what the model is ---- */

static bool has_blocks(const uint64_t *bytes)
{
	for (unsigned i = 0; i < TENSOR_TYPES; i++)
		if (bytes[i] && tensor_type_block(i) > 1)
			return true;
	return false;
}

/* "none(bf16)", "gguf(Q4_K,Q6_K)", "bitsandbytes(nf4)": the linears' types in the file, the one with most bytes first. */
static void describe_types(struct loader *l, char *out, size_t size)
{
	uint64_t bytes[TENSOR_TYPES] = { 0 };
	size_t at;

	for (size_t i = 1; i < l->n; i++)
		bytes[l->list[i].t->type] += l->list[i].t->bytes;
	at = (size_t)snprintf(out, size, "%s(", bytes[TENSOR_NF4] ? "bitsandbytes" : has_blocks(bytes) ? "gguf" : "none");
	for (bool first = true;; first = false) {
		unsigned top = 0;
		const char *name;

		for (unsigned i = 1; i < TENSOR_TYPES; i++)
			top = bytes[i] > bytes[top] ? i : top;
		if (!bytes[top])
			break;
		bytes[top] = 0;
		l->m->f32 |= first && top == TENSOR_F32;
		name = top == TENSOR_F32    ? "f32"
		       : top == TENSOR_F16  ? "f16"
		       : top == TENSOR_BF16 ? "bf16"
		       : top == TENSOR_NF4  ? "nf4"
					    : tensor_type_name(top);
		if (at + strlen(name) + 3 > size)
			break;
		at += (size_t)snprintf(out + at, size - at, "%s%s", first ? "" : ",", name);
	}
	snprintf(out + at, size - at, ")");
}

static uint32_t int_group(const struct matrix *w)
{
	return w->kind == PACK_INT ? w->group : 0;
}

static void describe(struct loader *l)
{
	struct core_model *m = l->m;
	const struct llama_config *c = &m->whole;
	struct core_model_info *i = &m->info;

	snprintf(i->name, sizeof(i->name), "%s", c->name);
	snprintf(i->arch, sizeof(i->arch), "llama");
	if (l->params->quant == CORE_QUANT_NONE)
		describe_types(l, i->quant, sizeof(i->quant));
	else
		snprintf(i->quant, sizeof(i->quant), "%s", core_quant_name(l->params->quant));
	i->layers = c->layers;
	i->dim = c->dim;
	i->ffn_dim = c->ffn_dim;
	i->heads = c->heads;
	i->kv_heads = c->kv_heads;
	i->head_dim = c->head_dim;
	i->vocab = c->vocab;
	i->context = c->context;
	i->norm_eps = c->norm_eps;
	i->rope_theta = c->rope_theta;
	i->tied = c->tied;
	i->rank = m->rank;
	i->ranks = m->ranks;
	i->parameters = ((uint64_t)c->layers * NORMS_PER_LAYER + 1) * c->dim;
	for (size_t k = 0; k < l->n; k++) {
		if (k == 0 || l->list[k].t != l->list[0].t)
			i->parameters += (uint64_t)l->list[k].w->rows * l->list[k].w->cols;
		m->groups |= k ? int_group(l->list[k].w) : 0;
	}
	m->groups |= int_group(&m->head);
	m->small_factors = l->params->factors == CORE_FACTORS_Q8 || (l->params->factors == CORE_FACTORS_AUTO && m->groups);
	i->weight_bytes = m->arena_bytes + ((uint64_t)c->layers * NORMS_PER_LAYER + 1) * c->dim * sizeof(float);
}

static int check_config(const struct llama_config *c, struct core_error *err)
{
	if (!c->layers || !c->dim || !c->ffn_dim || !c->heads || !c->kv_heads || !c->head_dim || !c->vocab || !c->context)
		return core_fail(err, CORE_EFORMAT, "the config has a zero among layers, sizes, heads, vocabulary and context");
	if (c->heads % c->kv_heads)
		return core_fail(err, CORE_EFORMAT, "%u query heads do not divide among %u KV heads", c->heads, c->kv_heads);
	if (c->head_dim % 2 || c->head_dim > 256)
		return core_fail(err, CORE_EUNSUPPORTED, "head_dim is %u: this core takes even numbers up to 256", c->head_dim);
	return CORE_OK;
}

/* The model becomes that rank's part. */
static int take_rank(struct loader *l)
{
	const struct core_model_params *p = l->params;

	l->m->rank = p->rank;
	l->m->ranks = p->ranks ? p->ranks : 1;
	if (l->m->rank >= l->m->ranks)
		return core_fail(l->err, CORE_EINVAL, "rank %u of %u: ranks count from 0", l->m->rank, l->m->ranks);
	if (l->m->ranks > 1 && p->quant == CORE_QUANT_NF4)
		return core_fail(l->err, CORE_EUNSUPPORTED, "nf4 is not cut for ranks: its scales have scales that run across rows");
	return shard_config(&l->m->config, l->m->ranks, l->err);
}

static int load_tokenizer(struct loader *l)
{
	const char *path = checkpoint_tokenizer_path(l->cp);

	if (!path || access(path, F_OK))
		return CORE_OK;
	return core_tokenizer_load(&l->m->tokenizer, path, l->err);
}

static int load(struct loader *l)
{
	struct core_model *m = l->m;
	int rc = checkpoint_open(&l->cp, l->params->path, l->err);

	if (rc)
		return rc;
	m->config = *checkpoint_config(l->cp);
	rc = check_config(&m->config, l->err);
	if (rc)
		return rc;
	m->rope = rope_new(&m->config);
	m->config.rope_freqs = NULL;	/* it points into the file */
	m->whole = m->config;
	rc = take_rank(l);
	if (rc)
		return rc;
	if (!m->rope || sodium_init() < 0)
		return core_fail(l->err, CORE_ENOMEM, "no memory for the rotary frequencies, or no libsodium");
	rc = pool_new(&l->pool, 0, l->err);
	if (!rc)
		rc = load_tokenizer(l);
	if (!rc)
		rc = add_all(l);
	if (rc)
		return rc;
	rc = l->params->cache ? use_cache(l) : pack_anew(l);
	if (rc)
		return rc;
	describe(l);
	return CORE_OK;
}

int core_model_load(struct core_model **out, const struct core_model_params *params, struct core_error *err)
{
	struct loader l = { .params = params, .err = err };
	int rc;

	if (!params->path || params->quant > CORE_QUANT_NF4 || params->factors > CORE_FACTORS_Q8)
		return core_fail(err, CORE_EINVAL,
				 "a model needs a path, none, q8, q4 or nf4 as its quantisation, and auto, exact or q8 as that of factors");
	l.m = calloc(1, sizeof(*l.m));
	if (!l.m)
		return core_fail(err, CORE_ENOMEM, "no memory for a model");
	rc = load(&l);
	pool_free(l.pool);
	checkpoint_close(l.cp);
	free(l.list);
	free(l.parts);
	free(l.used);
	if (rc)
		core_model_free(l.m);
	else
		*out = l.m;
	return rc;
}

void core_model_free(struct core_model *m)
{
	if (!m)
		return;
	core_tokenizer_free(m->tokenizer);
	if (m->cache == CORE_CACHE_MAPPED)
		packed_unmap(m->arena, m->arena_bytes);
	else
		memory_unmap(m->arena, m->arena_bytes);
	if (m->cache == CORE_CACHE_MAPPED || m->cache == CORE_CACHE_WRITTEN)
		close(m->cache_lock);
	free(m->cache_note);
	free(m->norms);
	free(m->layers);
	free(m->rope);
	free(m);
}

const struct core_model_info *core_model_info(const struct core_model *m)
{
	return &m->info;
}

const struct core_tokenizer *core_model_tokenizer(const struct core_model *m)
{
	return m->tokenizer;
}

enum core_cache core_model_cache(const struct core_model *m, const char **note)
{
	*note = m->cache_note;
	return m->cache;
}
