/* job.c: a whole fusion: what the inputs change, module after module, into one of the three forms. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan.h"

static const char *const linear_names[CORE_LINEARS] = {
	[CORE_Q] = "self_attn.q_proj", [CORE_K] = "self_attn.k_proj", [CORE_V] = "self_attn.v_proj", [CORE_O] = "self_attn.o_proj",
	[CORE_GATE] = "mlp.gate_proj", [CORE_UP] = "mlp.up_proj",     [CORE_DOWN] = "mlp.down_proj",
};

static void set_shape(struct plan_module *m, const struct llama_config *c)
{
	uint64_t q = (uint64_t)c->heads * c->head_dim, kv = (uint64_t)c->kv_heads * c->head_dim;

	m->in = m->kind == LORA_EMBED ? c->vocab : m->kind == CORE_O ? q : m->kind == CORE_DOWN ? c->ffn_dim : c->dim;
	m->out = m->kind == CORE_Q                            ? q
		 : m->kind == CORE_K || m->kind == CORE_V     ? kv
		 : m->kind == CORE_GATE || m->kind == CORE_UP ? c->ffn_dim
							      : c->dim;
	if (m->kind == LORA_EMBED)
		snprintf(m->name, sizeof m->name, "model.embed_tokens");
	else
		snprintf(m->name, sizeof m->name, "model.layers.%" PRIu32 ".%s", m->layer, linear_names[m->kind]);
}

/* ---- the plan ---- */

static int bad_pair(const struct fuse_input *in, const struct plan_module *m, struct core_error *err)
{
	return core_fail(err, CORE_EINVAL, "%s: %s: its factors do not have this base's shape, [%" PRIu64 ", %" PRIu64 "]",
			 in->name, m->name, m->out, m->in);
}

static int add_pair(struct plan *p, unsigned i, const struct lora_pair *pair, struct core_error *err)
{
	const struct llama_config *c = checkpoint_config(p->job->base);
	const struct fuse_input *in = &p->job->inputs[i];
	unsigned at = pair->by_token ? 1 : 0;
	struct plan_module *m;

	if (pair->kind >= LORA_KINDS || (pair->kind == LORA_EMBED ? pair->layer != 0 : pair->layer >= c->layers))
		return core_fail(err, CORE_EINVAL, "%s: layer %" PRIu32 ", kind %u: the base has no such module", in->name,
				 pair->layer, pair->kind);
	m = &p->modules[pair->kind == LORA_EMBED ? (size_t)c->layers * CORE_LINEARS
						 : (size_t)pair->layer * CORE_LINEARS + pair->kind];
	m->layer = pair->layer;
	m->kind = pair->kind;
	set_shape(m, c);
	if (m->pair[i] != NULL)
		return core_fail(err, CORE_EINVAL, "%s: %s is there twice", in->name, m->name);
	if (pair->rank < 1 || (pair->by_token && pair->kind != LORA_EMBED) || pair->a->n_dims != 2 || pair->b->n_dims != 2 ||
	    pair->a->dims[at] != pair->rank || pair->a->dims[1 - at] != m->in || pair->b->dims[0] != m->out ||
	    pair->b->dims[1] != pair->rank)
		return bad_pair(in, m, err);
	m->pair[i] = pair;
	if (p->recipe.svd_rank < pair->rank && p->job->recipe.svd_rank == 0)
		p->recipe.svd_rank = pair->rank;
	return 0;
}

/* Shapes and weights of the module's parts, without their numbers. */
static unsigned list_parts(const struct plan *p, const struct plan_module *m, struct fuse_part *parts)
{
	unsigned n = 0;

	for (unsigned i = 0; i < p->job->n_inputs; i++)
		if (m->pair[i] != NULL)
			parts[n++] = (struct fuse_part){.rank = m->pair[i]->rank,
							.scale = (double)m->pair[i]->scale,
							.weight = p->job->inputs[i].weight,
							.adapter = i};
	return n;
}

static struct fuse_module as_module(const struct plan *p, const struct plan_module *m, const struct fuse_part *parts, unsigned n)
{
	return (struct fuse_module){
		.name = m->name, .out = m->out, .in = m->in, .parts = parts, .n = n, .adapters = p->job->n_inputs};
}

/* Drops the slots that no input fills, and finds the ranks. */
static int set_ranks(struct plan *p, size_t slots, struct core_error *err)
{
	struct fuse_part parts[CORE_BLEND_MAX];

	if (!fuse_traits(fuse_type_for(&p->recipe, p->job->n_inputs))->svd)
		p->recipe.svd_rank = 0;
	for (size_t i = 0; i < slots; i++) {
		struct plan_module *m = &p->modules[p->n];
		unsigned n;
		struct fuse_module shape;
		int rc;
		*m = p->modules[i];
		n = list_parts(p, m, parts);
		if (n == 0)
			continue;
		shape = as_module(p, m, parts, n);
		rc = fuse_module_rank(&p->recipe, &shape, &m->rank, err);
		if (rc < 0)
			return rc;
		p->rank = m->rank > p->rank ? m->rank : p->rank;
		p->work += (double)m->out * (double)m->in;
		p->n++;
	}
	if (p->rank > LORA_RANK_MAX && p->job->form != FUSE_TO_BASE)
		return core_fail(err, CORE_EINVAL, "the result would have the rank %" PRIu32 ", and no adapter may have more than %d: use svd",
				 p->rank, LORA_RANK_MAX);
	return p->n > 0 ? 0 : core_fail(err, CORE_EINVAL, "no input changes anything");
}

static int check_job(const struct fuse_job *job, struct core_error *err)
{
	double weights[CORE_BLEND_MAX];

	if (job->n_inputs < 1 || job->n_inputs > CORE_BLEND_MAX)
		return core_fail(err, CORE_EINVAL, "%u adapters: expected 1 to %d", job->n_inputs, CORE_BLEND_MAX);
	for (unsigned i = 0; i < job->n_inputs; i++) {
		weights[i] = job->inputs[i].weight;
		if (job->inputs[i].file->dora)
			return core_fail(err, CORE_EUNSUPPORTED,
					 "%s: use_dora: a DoRA adapter scales the weight itself and is no sum of products",
					 job->inputs[i].name);
	}
	if (job->form == FUSE_TO_PEFT && job->type != TENSOR_F32 && job->type != TENSOR_F16 && job->type != TENSOR_BF16)
		return core_fail(err, CORE_EINVAL, "type of the result: expected F32, F16 or BF16");
	if (job->form == FUSE_TO_BASE && (checkpoint_is_gguf(job->base) || job->base_path == NULL))
		return core_fail(err, CORE_EUNSUPPORTED,
				 "a GGUF file cannot be the base of a merge: its weights are rounded already; use the HF folder");
	if (job->form == FUSE_TO_BASE && checkpoint_config(job->base)->bitsandbytes)
		return core_fail(err, CORE_EUNSUPPORTED,
				 "what bitsandbytes saved in 4 bits cannot be the base of a merge: its weights are rounded already; use "
				 "the HF folder that it was made from");
	return fuse_recipe_check(&job->recipe, weights, job->n_inputs, NULL, err);
}

/* The base's tensor that a whole weight in an adapter repeats; NULL: the base has none. */
static const struct tensor *original(const struct checkpoint *base, const struct lora_copy *c)
{
	static const char *const names[] = {[LORA_COPY_EMBED] = "model.embed_tokens.weight",
					    [LORA_COPY_HEAD] = "lm_head.weight",
					    [LORA_COPY_NORM] = "model.norm.weight",
					    [LORA_COPY_ATTN_NORM] = "input_layernorm.weight",
					    [LORA_COPY_FFN_NORM] = "post_attention_layernorm.weight"};
	char name[MODULE_NAME];

	if (c->kind == LORA_COPY_HEAD && checkpoint_config(base)->tied)
		return checkpoint_find(base, names[LORA_COPY_EMBED]);
	if (c->kind != LORA_COPY_ATTN_NORM && c->kind != LORA_COPY_FFN_NORM)
		return checkpoint_find(base, names[c->kind]);
	snprintf(name, sizeof name, "model.layers.%" PRIu32 ".%s", c->layer, names[c->kind]);
	return checkpoint_find(base, name);
}

/* More than another rounding of the base's numbers was trained, and is not what the factors say. The bounds are those of a blend:
 * 0.8 % for floats, 15 % where the base is in blocks of integers. */
static int check_copy(const struct fuse_job *job, const struct fuse_input *in, const struct lora_copy *c, struct core_error *err)
{
	const struct tensor *t = original(job->base, c);
	uint64_t columns = c->t->dims[c->t->n_dims - 1], rows = c->t->n_dims > 1 ? c->t->dims[0] : 1;
	float *row = calloc(2 * columns, sizeof *row);
	bool floats = t != NULL && tensor_type_block(t->type) == 1;
	double off = 0, all = 0, most = floats ? 0.008 : 0.15;

	if (row == NULL)
		return core_fail(err, CORE_ENOMEM, "%s: out of memory", in->name);
	for (uint64_t r = 0; r < rows && t != NULL; r++) {
		tensor_row_f32(t, r, row);
		tensor_row_f32(c->t, r, row + columns);
		for (uint64_t k = 0; k < columns; k++) {
			double d = (double)row[columns + k] - (double)row[k];
			off += d * d;
			all += (double)row[k] * (double)row[k];
		}
	}
	free(row);
	if (t != NULL && off <= most * most * all)
		return 0;
	return core_fail(err, CORE_EUNSUPPORTED,
			 "%s: tensor %.120s is not the base's own: whole weights that were trained cannot be fused", in->name,
			 c->t->name);
}

int plan_new(struct plan *p, const struct fuse_job *job, const struct fuse_watch *watch, struct core_error *err)
{
	size_t slots = (size_t)checkpoint_config(job->base)->layers * CORE_LINEARS + 1;
	int rc = check_job(job, err);

	*p = (struct plan){.job = job, .recipe = job->recipe, .watch = watch};
	crypto_generichash_init(&p->sum, NULL, 0, crypto_generichash_BYTES);
	if (rc < 0)
		return rc;
	p->modules = calloc(slots, sizeof *p->modules);
	if (p->modules == NULL)
		return core_fail(err, CORE_ENOMEM, "out of memory for %zu modules", slots);
	for (unsigned i = 0; i < job->n_inputs && rc == 0; i++)
		for (size_t k = 0; k < job->inputs[i].file->n_pairs && rc == 0; k++)
			rc = add_pair(p, i, &job->inputs[i].file->pairs[k], err);
	for (unsigned i = 0; i < job->n_inputs && rc == 0; i++)
		for (size_t k = 0; k < job->inputs[i].file->n_copies && rc == 0; k++)
			rc = check_copy(job, &job->inputs[i], &job->inputs[i].file->copies[k], err);
	if (rc == 0)
		rc = set_ranks(p, slots, err);
	if (rc < 0)
		plan_finish(p);
	return rc;
}

void plan_finish(struct plan *p)
{
	free(p->modules);
	p->modules = NULL;
}

int plan_advance(struct plan *p, double work, struct core_error *err)
{
	p->done += work;
	if (p->watch != NULL && p->watch->progress != NULL)
		p->watch->progress(p->watch->arg, p->done < p->work ? p->done / p->work : 1);
	return fuse_stopped(p->watch, err);
}

char *plan_record(const struct plan *p)
{
	const struct fuse_recipe *r = &p->job->recipe;
	const struct fuse_traits *t = fuse_traits(r->type);
	json_t *inputs = json_array(), *o;
	char *text;

	for (unsigned i = 0; i < p->job->n_inputs; i++)
		json_array_append_new(inputs, json_pack("{s:s%, s:f}", "name", p->job->inputs[i].name,
							strlen(p->job->inputs[i].name), "weight", p->job->inputs[i].weight));
	o = json_pack("{s:s, s:s, s:o}", "type", t->name, "mathematics", fuse_maths_name(r->maths), "adapters", inputs);
	if (t->thin != THIN_NONE)
		json_object_set_new(o, "density", json_real(r->density));
	if (t->elect)
		json_object_set_new(o, "sign_method", json_string(fuse_sign_name(r->sign)));
	if (t->thin == THIN_RANDOM) { /* a string: not every reader's numbers hold 64 bits */
		char seed[24];
		snprintf(seed, sizeof seed, "%" PRIu64, r->seed);
		json_object_set_new(o, "seed", json_string(seed));
	}
	if (t->svd)
		json_object_set_new(o, "svd_rank", json_integer(p->recipe.svd_rank));
	if (r->svd_clamp > 0)
		json_object_set_new(o, "svd_clamp", json_real(r->svd_clamp));
	text = json_dumps(o, JSON_INDENT(1));
	json_decref(o);
	return text;
}

/* ---- one module ---- */

/* A as [rank][in] and B as [out][rank], whatever way they lie in the file. */
static void read_pair(const struct lora_pair *pair, const struct plan_module *m, float *a, float *b, float *token)
{
	for (uint64_t k = 0; k < pair->rank && !pair->by_token; k++)
		tensor_row_f32(pair->a, k, a + k * m->in);
	for (uint64_t t = 0; t < m->in && pair->by_token; t++) {
		tensor_row_f32(pair->a, t, token);
		for (uint32_t k = 0; k < pair->rank; k++)
			a[k * m->in + t] = token[k];
	}
	for (uint64_t o = 0; o < m->out; o++)
		tensor_row_f32(pair->b, o, b + o * pair->rank);
}

int plan_combine(struct plan *p, const struct plan_module *m, struct fuse_factors *f, struct core_error *err)
{
	struct fuse_part parts[CORE_BLEND_MAX];
	unsigned n = list_parts(p, m, parts);
	struct fuse_module module = as_module(p, m, parts, n);
	uint64_t values = 0;
	float *all, *at;
	int rc;

	for (unsigned i = 0; i < n; i++)
		values += parts[i].rank * (m->in + m->out + 1);
	all = at = calloc(values, sizeof *all);
	if (all == NULL)
		return core_fail(err, CORE_ENOMEM, "%s: out of memory for %" PRIu64 " numbers", m->name, values);
	for (unsigned i = 0; i < n; i++) {
		const struct lora_pair *pair = m->pair[parts[i].adapter];
		float *a = at, *b = a + pair->rank * m->in;
		at = b + m->out * pair->rank;
		read_pair(pair, m, a, b, at);
		at += pair->rank;
		parts[i].a = a;
		parts[i].b = b;
	}
	rc = fuse_module_combine(&p->recipe, &module, f, p->watch, err);
	if (rc == 0) {
		p->whole += f->whole;
		p->lost += f->lost;
	}
	free(all);
	return rc;
}

/* ---- the job ---- */

static void report(struct plan *p, const struct stage *s, struct fuse_made *made)
{
	unsigned char digest[crypto_generichash_BYTES];

	*made = (struct fuse_made){.rank = p->rank, .modules = (uint32_t)p->n, .bytes = s->bytes};
	made->left_out = p->whole > 0 ? sqrt(p->lost / p->whole) : 0;
	crypto_generichash_final(&p->sum, digest, sizeof digest);
	if (p->job->form == FUSE_TO_BASE)
		sodium_bin2hex(made->digest, sizeof made->digest, digest, sizeof digest);
}

int fuse_run(const struct fuse_job *job, const struct fuse_watch *watch, struct fuse_made *made, struct core_error *err)
{
	struct plan p;
	struct stage s;
	int rc = plan_new(&p, job, watch, err);

	if (rc < 0)
		return rc;
	rc = stage_begin(&s, job->target, job->form != FUSE_TO_GGUF, job->replace, err);
	if (rc == 0) {
		rc = job->form == FUSE_TO_PEFT   ? write_peft(&p, &s, err)
		     : job->form == FUSE_TO_GGUF ? write_gguf(&p, &s, err)
						 : write_base(&p, &s, err);
		if (rc == 0)
			rc = fuse_stopped(watch, err);
		if (rc == 0 && made != NULL)
			report(&p, &s, made);
		if (rc == 0)
			rc = stage_commit(&s, err);
		else
			stage_abort(&s);
	}
	plan_finish(&p);
	return rc;
}
