/* lora.c: the tensors of an adapter to pairs of factors. Every tensor finds its place, or the adapter is refused. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format.h"
#include "peft.h"

enum { CONFIG_MAX = 8 << 20, MODULE_LEN = 96 };

static const char *const linear_names[CORE_LINEARS] = {
	[CORE_Q] = "self_attn.q_proj", [CORE_K] = "self_attn.k_proj", [CORE_V] = "self_attn.v_proj", [CORE_O] = "self_attn.o_proj",
	[CORE_GATE] = "mlp.gate_proj", [CORE_UP] = "mlp.up_proj",     [CORE_DOWN] = "mlp.down_proj",
};

static void module_name(char *out, uint32_t layer, unsigned kind)
{
	if (kind == LORA_EMBED)
		snprintf(out, MODULE_LEN, "model.embed_tokens");
	else
		snprintf(out, MODULE_LEN, "model.layers.%" PRIu32 ".%s", layer, linear_names[kind]);
}

/* [out, in] of a module's weight. */
static void weight_shape(const struct llama_config *c, unsigned kind, uint64_t *out, uint64_t *in)
{
	uint64_t q = (uint64_t)c->heads * c->head_dim, kv = (uint64_t)c->kv_heads * c->head_dim;

	*in = kind == LORA_EMBED ? c->vocab : kind == CORE_O ? q : kind == CORE_DOWN ? c->ffn_dim : c->dim;
	switch (kind) {
	case CORE_Q:
		*out = q;
		break;
	case CORE_K:
	case CORE_V:
		*out = kv;
		break;
	case CORE_GATE:
	case CORE_UP:
		*out = c->ffn_dim;
		break;
	default:
		*out = c->dim;
	}
}

/* ---- filing ---- */

struct pairing {
	struct lora_file *f;
	const struct llama_config *c;
	const char *where;
	struct lora_pair *slot; /* [layers * CORE_LINEARS + 1]; in the order that pairs have */
	size_t n_slots;
	struct core_error *err;
};

static int misplaced(struct pairing *p, const struct tensor *t, const char *why)
{
	return core_fail(p->err, CORE_EUNSUPPORTED, "%s: tensor %.120s: %s", p->where, t->name, why);
}

static bool cut_prefix(const char **s, const char *prefix)
{
	size_t n = strlen(prefix);

	if (strncmp(*s, prefix, n) != 0)
		return false;
	*s += n;
	return true;
}

/* "17." to 17; a number beyond the model's layers is not one. */
static bool cut_layer(const struct pairing *p, const char **s, uint32_t *layer)
{
	uint64_t n = 0;
	const char *d = *s;

	for (; *d >= '0' && *d <= '9' && d - *s < 6; d++)
		n = n * 10 + (uint64_t)(*d - '0');
	if (d == *s || *d != '.' || (**s == '0' && d - *s > 1) || n >= p->c->layers)
		return false;
	*s = d + 1;
	*layer = (uint32_t)n;
	return true;
}

static int add_copy(struct pairing *p, const struct tensor *t, enum lora_copy_kind kind, uint32_t layer)
{
	struct lora_copy *more = realloc(p->f->copies, (p->f->n_copies + 1) * sizeof *more);
	bool norm = kind >= LORA_COPY_NORM;
	uint64_t rows = norm ? p->c->dim : p->c->vocab;

	if (more == NULL)
		return core_fail(p->err, CORE_ENOMEM, "%s: out of memory", p->where);
	p->f->copies = more;
	if (t->n_dims != (norm ? 1 : 2) || t->dims[0] != rows || (!norm && t->dims[1] != p->c->dim))
		return misplaced(p, t, "a whole weight of another shape than the model's: was the vocabulary resized?");
	more[p->f->n_copies++] = (struct lora_copy){kind, layer, t};
	return 0;
}

static int file_factor(struct pairing *p, const struct tensor *t, uint32_t layer, unsigned kind, const char *part)
{
	struct lora_pair *s = &p->slot[kind == LORA_EMBED ? p->n_slots - 1 : (size_t)layer * CORE_LINEARS + kind];
	const struct tensor **to;

	if (strcmp(part, kind == LORA_EMBED ? ".lora_embedding_A" : ".lora_A.weight") == 0)
		to = &s->a;
	else if (strcmp(part, kind == LORA_EMBED ? ".lora_embedding_B" : ".lora_B.weight") == 0)
		to = &s->b;
	else if (strcmp(part, ".lora_magnitude_vector") == 0)
		to = &s->magnitude;
	else if (strcmp(part, ".lora_B.bias") == 0)
		return misplaced(p, t, "lora_bias is not computed");
	else if (strcmp(part, ".weight") == 0 || strcmp(part, ".base_layer.weight") == 0)
		return misplaced(p, t, "a whole weight (modules_to_save) cannot be blended; merge it into the base");
	else
		return misplaced(p, t, "not a part of a LoRA pair that is computed here");
	if (*to != NULL)
		return core_fail(p->err, CORE_EFORMAT, "%s: tensor %.120s is there twice", p->where, t->name);
	*to = t;
	s->layer = layer;
	s->kind = kind;
	return 0;
}

static int file_in_layer(struct pairing *p, const struct tensor *t, const char *rest)
{
	uint32_t layer;

	if (!cut_layer(p, &rest, &layer))
		return misplaced(p, t, "the model has no such layer");
	for (unsigned kind = 0; kind < CORE_LINEARS; kind++)
		if (cut_prefix(&rest, linear_names[kind]))
			return file_factor(p, t, layer, kind, rest);
	if (strcmp(rest, "input_layernorm.weight") == 0)
		return add_copy(p, t, LORA_COPY_ATTN_NORM, layer);
	if (strcmp(rest, "post_attention_layernorm.weight") == 0)
		return add_copy(p, t, LORA_COPY_FFN_NORM, layer);
	return misplaced(p, t, "not a module of a Llama that an adapter may change here");
}

static int file_tensor(struct pairing *p, const struct tensor *t)
{
	const char *rest = t->name;

	if (!cut_prefix(&rest, "base_model.model."))
		return misplaced(p, t, "expected a name that begins with base_model.model.");
	if (cut_prefix(&rest, "model.layers."))
		return file_in_layer(p, t, rest);
	if (strcmp(rest, "model.norm.weight") == 0)
		return add_copy(p, t, LORA_COPY_NORM, 0);
	if (cut_prefix(&rest, "model.embed_tokens"))
		return strcmp(rest, ".weight") == 0 || strcmp(rest, ".base_layer.weight") == 0
			       ? add_copy(p, t, LORA_COPY_EMBED, 0)
			       : file_factor(p, t, 0, LORA_EMBED, rest);
	if (cut_prefix(&rest, "lm_head"))
		return strcmp(rest, ".weight") == 0 || strcmp(rest, ".base_layer.weight") == 0
			       ? add_copy(p, t, LORA_COPY_HEAD, 0)
			       : misplaced(p, t, "factors of lm_head are not computed");
	return misplaced(p, t, "not a module of a Llama that an adapter may change here");
}

/* ---- checking ---- */

static int wrong_shape(struct pairing *p, const struct tensor *t, uint64_t rows, uint64_t cols)
{
	return core_fail(p->err, CORE_EFORMAT,
			 "%s: tensor %.120s is [%" PRIu64 ", %" PRIu64 "], expected [%" PRIu64 ", %" PRIu64 "]", p->where, t->name,
			 t->dims[0], t->n_dims > 1 ? t->dims[1] : 1, rows, cols);
}

static int check_shapes(struct pairing *p, struct lora_pair *s, const char *module)
{
	uint64_t out, in, rank;
	unsigned at;

	weight_shape(p->c, s->kind, &out, &in);
	s->by_token = s->kind == LORA_EMBED && p->f->tensors->gguf;
	at = s->by_token ? 1 : 0;
	if (s->a->n_dims != 2 || s->b->n_dims != 2)
		return core_fail(p->err, CORE_EFORMAT, "%s: %s: its factors are not matrices", p->where, module);
	rank = s->a->dims[at];
	if (rank < 1 || rank > LORA_RANK_MAX)
		return core_fail(p->err, CORE_EFORMAT, "%s: tensor %.120s: rank %" PRIu64 ": expected 1 to %d", p->where,
				 s->a->name, rank, LORA_RANK_MAX);
	s->rank = (uint32_t)rank;
	if (s->a->dims[1 - at] != in)
		return wrong_shape(p, s->a, s->by_token ? in : rank, s->by_token ? rank : in);
	if (s->b->dims[0] != out || s->b->dims[1] != rank)
		return wrong_shape(p, s->b, out, rank);
	if (s->magnitude != NULL && (s->magnitude->n_dims != 1 || s->magnitude->dims[0] != out))
		return wrong_shape(p, s->magnitude, out, 1);
	return 0;
}

/* Is the pair what the config announces? */
static int check_config(struct pairing *p, const struct lora_pair *s, const struct peft_rules *rules, const char *module)
{
	enum peft_target target = peft_rules_target(rules, module, s->kind == LORA_EMBED ? -1 : (int64_t)s->layer);
	const struct tensor *any = s->a != NULL ? s->a : s->b != NULL ? s->b : s->magnitude;

	if (any == NULL)
		return target != PEFT_TARGET_YES
			       ? 0
			       : core_fail(p->err, CORE_EFORMAT, "%s: target_modules names %s, but its tensors are missing",
					   p->where, module);
	if (target == PEFT_TARGET_NO)
		return core_fail(p->err, CORE_EFORMAT, "%s: tensor %.120s is there, but target_modules does not name its module",
				 p->where, any->name);
	if (peft_rules_dora(rules) && s->kind == LORA_EMBED)
		return core_fail(p->err, CORE_EUNSUPPORTED, "%s: use_dora on the embedding is not computed", p->where);
	if (peft_rules_tie(rules) && s->kind == LORA_EMBED && p->c->tied)
		return core_fail(p->err, CORE_EUNSUPPORTED, "%s: ensure_weight_tying is set: factors of lm_head are not computed",
				 p->where);
	if (peft_rules_dora(rules) != (s->magnitude != NULL))
		return core_fail(p->err, CORE_EFORMAT, "%s: %s: use_dora is %s, and lora_magnitude_vector is %s", p->where, module,
				 s->magnitude != NULL ? "false" : "true", s->magnitude != NULL ? "there" : "missing");
	return 0;
}

static int set_scale(struct pairing *p, struct lora_pair *s, const struct peft_rules *rules, const char *module)
{
	float alpha = p->f->tensors->alpha;

	if (rules != NULL)
		return peft_rules_scale(rules, module, s->rank, &s->scale, p->err);
	s->scale = alpha != 0 ? alpha / (float)s->rank : 1; /* llama.cpp's rule (FACTS 3.6) */
	return 0;
}

static int check_slot(struct pairing *p, struct lora_pair *s, const struct peft_rules *rules)
{
	char module[MODULE_LEN];
	size_t i = (size_t)(s - p->slot);
	int rc = 0;

	s->layer = i == p->n_slots - 1 ? 0 : (uint32_t)(i / CORE_LINEARS);
	s->kind = i == p->n_slots - 1 ? LORA_EMBED : (unsigned)(i % CORE_LINEARS);
	module_name(module, s->layer, s->kind);
	if (rules != NULL)
		rc = check_config(p, s, rules, module);
	if (rc < 0 || (s->a == NULL && s->b == NULL && s->magnitude == NULL))
		return rc;
	if (s->a == NULL || s->b == NULL)
		return core_fail(p->err, CORE_EFORMAT, "%s: %s: factor %s is missing", p->where, module, s->a == NULL ? "A" : "B");
	rc = check_shapes(p, s, module);
	if (rc == 0)
		rc = set_scale(p, s, rules, module);
	if (rc == 0)
		p->f->pairs[p->f->n_pairs++] = *s;
	return rc;
}

int lora_pair_up(struct lora_file *f, const struct llama_config *model, const struct peft_rules *rules, const char *where,
		 struct core_error *err)
{
	struct pairing p = {.f = f, .c = model, .where = where, .n_slots = (size_t)model->layers * CORE_LINEARS + 1, .err = err};
	int rc = 0;

	p.slot = calloc(p.n_slots, sizeof *p.slot);
	f->pairs = calloc(p.n_slots, sizeof *f->pairs);
	if (p.slot == NULL || f->pairs == NULL)
		rc = core_fail(err, CORE_ENOMEM, "%s: out of memory for %" PRIu32 " layers", where, model->layers);
	for (size_t i = 0; i < checkpoint_count(f->tensors) && rc == 0; i++)
		rc = file_tensor(&p, checkpoint_at(f->tensors, i));
	for (size_t i = 0; i < p.n_slots && rc == 0; i++)
		rc = check_slot(&p, &p.slot[i], rules);
	if (rc == 0 && f->n_pairs == 0)
		rc = core_fail(err, CORE_EFORMAT, "%s: no LoRA factors in it", where);
	f->dora = rules != NULL && peft_rules_dora(rules);
	free(p.slot);
	return rc;
}

/* ---- opening ---- */

static int read_weights(struct checkpoint *cp, const char *folder, struct core_error *err)
{
	static const struct {
		const char *file;
		checkpoint_reader read;
	} forms[] = {{"adapter_model.safetensors", safetensors_read}, {"adapter_model.bin", torch_read}};

	for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
		char *path = path_join(folder, forms[i].file);
		bool there = path != NULL && access(path, F_OK) == 0;
		int rc = path == NULL ? core_fail(err, CORE_ENOMEM, "%s: out of memory", folder)
			 : there      ? checkpoint_read_file(cp, path, forms[i].read, err)
				      : 0;
		free(path);
		if (there || rc < 0)
			return rc;
	}
	return core_fail(err, CORE_EIO, "%s: no weights: expected adapter_model.safetensors or adapter_model.bin", folder);
}

/* Trainers keep checkpoints as checkpoint-N/adapter_model/adapter_config.json. */
static int no_config(const char *folder, struct core_error *err)
{
	char *inner = path_join(folder, "adapter_model"), *config = inner != NULL ? path_join(inner, "adapter_config.json") : NULL;
	bool there = config != NULL && access(config, F_OK) == 0;

	free(config);
	free(inner);
	if (there)
		return core_fail(err, CORE_EFORMAT,
				 "%s: the adapter is in the folder adapter_model of this one: put that, or a link to it, here",
				 folder);
	return core_fail(err, CORE_EIO, "%s: no adapter_config.json: not a PEFT adapter", folder);
}

static int open_folder(struct lora_file *f, const char *folder, const struct llama_config *model, struct core_error *err)
{
	char *path = path_join(folder, "adapter_config.json");
	struct peft_rules *rules = NULL;
	struct map m = {0};
	int rc;

	if (path == NULL)
		return core_fail(err, CORE_ENOMEM, "%s: out of memory", folder);
	rc = access(path, F_OK) < 0 && errno == ENOENT ? no_config(folder, err) : map_read(&m, path, CONFIG_MAX, err);
	if (rc == 0)
		rc = peft_rules_new(&rules, (const char *)m.data, m.size, path, err);
	map_close(&m);
	if (rc == 0)
		rc = read_weights(f->tensors, folder, err);
	if (rc == 0)
		rc = lora_pair_up(f, model, rules, folder, err);
	peft_rules_free(rules);
	free(path);
	return rc;
}

int lora_open(struct lora_file *f, const char *path, const struct llama_config *model, struct core_error *err)
{
	struct stat st;
	int rc;

	*f = (struct lora_file){0};
	if (stat(path, &st) < 0)
		return core_fail(err, CORE_EIO, "%s: %s", path, strerror(errno));
	f->tensors = calloc(1, sizeof *f->tensors);
	if (f->tensors == NULL)
		return core_fail(err, CORE_ENOMEM, "%s: out of memory", path);
	f->tensors->adapter = true;
	f->tensors->config = *model;
	if (S_ISDIR(st.st_mode)) {
		rc = open_folder(f, path, model, err);
	} else {
		rc = checkpoint_read_file(f->tensors, path, gguf_lora_read, err);
		if (rc == 0)
			rc = lora_pair_up(f, model, NULL, path, err);
	}
	if (rc < 0)
		lora_close(f);
	return rc;
}

void lora_close(struct lora_file *f)
{
	checkpoint_close(f->tensors);
	free(f->pairs);
	free(f->copies);
	*f = (struct lora_file){0};
}
