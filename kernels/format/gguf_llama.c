/* gguf_llama.c: a Llama in a GGUF file (or in several, when it was split) as a checkpoint with HF names. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gguf.h"

enum { MAX_PARTS = 1024, PART_TAIL = sizeof "-00001-of-00001.gguf" - 1 };

/* ---- names ---- */

static const struct name_row {
	const char *gguf, *hf;	/* per layer: after "blk.N." and "model.layers.N." */
	bool per_layer;
	char permuted;		/* 'q' or 'k': rows of each head are interleaved (FACTS 4.4) */
} names[] = {
	{"token_embd.weight", "model.embed_tokens.weight", false, 0},
	{"output_norm.weight", "model.norm.weight", false, 0},
	{"output.weight", "lm_head.weight", false, 0},
	{"attn_norm.weight", "input_layernorm.weight", true, 0},
	{"attn_q.weight", "self_attn.q_proj.weight", true, 'q'},
	{"attn_k.weight", "self_attn.k_proj.weight", true, 'k'},
	{"attn_v.weight", "self_attn.v_proj.weight", true, 0},
	{"attn_output.weight", "self_attn.o_proj.weight", true, 0},
	{"ffn_norm.weight", "post_attention_layernorm.weight", true, 0},
	{"ffn_gate.weight", "mlp.gate_proj.weight", true, 0},
	{"ffn_up.weight", "mlp.up_proj.weight", true, 0},
	{"ffn_down.weight", "mlp.down_proj.weight", true, 0},
};

bool gguf_hf_name(struct gguf_text name, char *out, size_t room, char *permuted)
{
	bool per_layer = name.len > 4 && memcmp(name.s, "blk.", 4) == 0;
	size_t digits = 0;

	if (per_layer) {
		name.s += 4;
		name.len -= 4;
		while (digits < name.len && digits < 5 && name.s[digits] >= '0' && name.s[digits] <= '9')
			digits++;
		if (digits == 0 || (digits > 1 && name.s[0] == '0') || digits == name.len || name.s[digits] != '.')
			return false;
		name.s += digits + 1;
		name.len -= digits + 1;
	}
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		if (names[i].per_layer != per_layer || !gguf_text_is(name, names[i].gguf))
			continue;
		if (per_layer)
			snprintf(out, room, "model.layers.%.*s.%s", (int)digits, name.s - digits - 1, names[i].hf);
		else
			snprintf(out, room, "%s", names[i].hf);
		*permuted = names[i].permuted;
		return true;
	}
	return false;
}

/* ---- tensors ---- */

int gguf_locate(const struct gguf *g, const struct gguf_tensor *from, struct tensor *t, struct core_error *err)
{
	int len = (int)from->name.len;

	t->type = (enum tensor_type)from->type;
	t->n_dims = from->n_dims;
	memcpy(t->dims, from->dims, sizeof t->dims);
	if (from->type > TENSOR_GGUF_MAX || tensor_type_name(t->type) == NULL)
		return core_fail(err, CORE_EUNSUPPORTED,
				 "%s: tensor %.*s has ggml type %" PRIu32 ", which is not read (F32, F16, BF16, Q4_0, Q4_1, Q5_0, "
				 "Q5_1, Q8_0 and Q2_K to Q6_K are)",
				 g->path, len, from->name.s, from->type);
	if (!tensor_size(t, &t->bytes))
		return core_fail(err, CORE_EFORMAT, "%s: tensor %.*s: a row is not whole blocks of %s, or the size overflows",
				 g->path, len, from->name.s, tensor_type_name(t->type));
	if (from->offset > g->data_size || t->bytes > g->data_size - from->offset)
		return core_fail(err, CORE_EFORMAT,
				 "%s: tensor %.*s lies outside the file's %" PRIu64 " data bytes (is it complete?)", g->path, len,
				 from->name.s, g->data_size);
	t->data = g->data + from->offset;
	return 0;
}

static int take_rope_freqs(struct checkpoint *cp, const struct gguf *g, const struct tensor *t, struct core_error *err)
{
	if (cp->rope_freqs != NULL || t->type != TENSOR_F32 || t->n_dims != 1 || t->dims[0] != cp->config.head_dim / 2)
		return core_fail(err, CORE_EFORMAT, "%s: rope_freqs.weight: expected one vector of %" PRIu32 " F32", g->path,
				 cp->config.head_dim / 2);
	cp->rope_freqs = malloc(t->bytes);
	if (cp->rope_freqs == NULL)
		return core_fail(err, CORE_ENOMEM, "%s: out of memory", g->path);
	memcpy(cp->rope_freqs, t->data, t->bytes);
	for (uint64_t i = 0; i < t->dims[0]; i++)
		if (!(cp->rope_freqs[i] > 0) || !isfinite(cp->rope_freqs[i]))
			return core_fail(err, CORE_EFORMAT, "%s: rope_freqs.weight: a divisor is not a positive number", g->path);
	cp->config.rope_freqs = cp->rope_freqs;
	return 0;
}

static int add_tensor(struct checkpoint *cp, const struct gguf *g, const struct gguf_tensor *from, struct core_error *err)
{
	char name[96];
	struct tensor t = {.name = name};
	char permuted = 0;
	bool known = gguf_hf_name(from->name, name, sizeof name, &permuted);
	bool freqs = gguf_text_is(from->name, "rope_freqs.weight");
	int rc;

	if (!known && !freqs)
		return core_fail(err, CORE_EUNSUPPORTED, "%s: tensor %.*s is not part of the Llama that this core computes",
				 g->path, (int)from->name.len, from->name.s);
	rc = gguf_locate(g, from, &t, err);
	if (rc < 0)
		return rc;
	if (freqs)
		return take_rope_freqs(cp, g, &t, err);
	if (permuted != 0)
		t.permuted_heads = permuted == 'q' ? cp->config.heads : cp->config.kv_heads;
	return checkpoint_add(cp, &t, g->path, err);
}

static int add_tensors(struct checkpoint *cp, const struct gguf *g, struct core_error *err)
{
	int rc = 0;

	for (size_t i = 0; i < g->n_tensors && rc == 0; i++)
		rc = add_tensor(cp, g, &g->tensors[i], err);
	return rc;
}

/* ---- shape ---- */

static int check_architecture(const struct gguf *g, struct core_error *err)
{
	/* Keys that change what a layer computes; absent or zero in a Llama. */
	static const char *const changes[] = {"llama.expert_count",           "llama.attention.sliding_window",
					      "llama.attention.scale",        "llama.logit_scale",
					      "llama.embedding_scale",        "llama.residual_scale",
					      "llama.attn_logit_softcapping", "llama.final_logit_softcapping"};
	struct gguf_text arch = {0};
	int rc = gguf_string(g, "general.architecture", true, &arch, err);

	if (rc < 0)
		return rc;
	if (!gguf_text_is(arch, "llama"))
		return core_fail(err, CORE_EUNSUPPORTED, "%s: general.architecture: %.*s is not computed here, only llama", g->path,
				 arch.len < 60 ? (int)arch.len : 60, arch.s);
	for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
		const struct gguf_value *v = gguf_find(g, changes[i]);
		bool zero = true;
		for (size_t b = 0; v != NULL && b < v->bytes.size; b++)
			zero = zero && v->bytes.data[b] == 0;
		if (!zero)
			return core_fail(err, CORE_EUNSUPPORTED, "%s: %s is not computed here", g->path, changes[i]);
	}
	return 0;
}

struct size_row {
	const char *key;
	uint32_t *to;
	bool required;
};

static int read_sizes(const struct gguf *g, const struct size_row *rows, size_t n, struct core_error *err)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t v = *rows[i].to;
		int rc = gguf_uint(g, rows[i].key, rows[i].required, INT32_MAX, &v, err);
		if (rc < 0)
			return rc;
		*rows[i].to = (uint32_t)v;
	}
	return 0;
}

static int read_shape(struct llama_config *c, const struct gguf *g, struct core_error *err)
{
	uint32_t value_length, rotated;
	const struct size_row sizes[] = {
		{"llama.block_count", &c->layers, true},
		{"llama.embedding_length", &c->dim, true},
		{"llama.feed_forward_length", &c->ffn_dim, true},
		{"llama.attention.head_count", &c->heads, true},
		{"llama.context_length", &c->context, true},
		{"llama.vocab_size", &c->vocab, false},
	};
	const struct size_row defaulted[] = {
		{"llama.attention.head_count_kv", &c->kv_heads, false},
		{"llama.attention.key_length", &c->head_dim, false},
	};
	const struct size_row checked[] = {
		{"llama.attention.value_length", &value_length, false},
		{"llama.rope.dimension_count", &rotated, false},
	};
	const struct gguf_value *tokens;
	int rc = read_sizes(g, sizes, 6, err);

	if (rc < 0)
		return rc;
	c->kv_heads = c->heads;
	c->head_dim = c->heads != 0 ? c->dim / c->heads : 0;
	rc = read_sizes(g, defaulted, 2, err);
	value_length = rotated = c->head_dim;
	if (rc == 0)
		rc = read_sizes(g, checked, 2, err);
	if (rc == 0)
		rc = gguf_array(g, "tokenizer.ggml.tokens", GGUF_STRING, false, &tokens, err);
	if (rc < 0)
		return rc;
	if (value_length != c->head_dim || rotated != c->head_dim)
		return core_fail(err, CORE_EUNSUPPORTED,
				 "%s: heads of %" PRIu32 " with values of %" PRIu32 " and %" PRIu32
				 " rotated dimensions are not computed here: the three must be equal",
				 g->path, c->head_dim, value_length, rotated);
	if (tokens != NULL)
		c->vocab = tokens->count <= UINT32_MAX ? (uint32_t)tokens->count : 0;
	return 0;
}

static int read_scaling(struct llama_config *c, const struct gguf *g, struct core_error *err)
{
	struct gguf_text type = {"linear", 6}; /* llama.cpp's rule: a factor alone is linear */
	float factor = 0, attention = 0;
	uint64_t original = c->context;
	int rc = gguf_float(g, "llama.rope.scale_linear", false, &factor, err);

	if (rc == 0)
		rc = gguf_float(g, "llama.rope.scaling.factor", false, &factor, err);
	if (rc == 0)
		rc = gguf_string(g, "llama.rope.scaling.type", false, &type, err);
	if (rc == 0)
		rc = gguf_uint(g, "llama.rope.scaling.original_context_length", false, INT32_MAX, &original, err);
	if (rc == 0)
		rc = gguf_float(g, "llama.rope.scaling.attn_factor", false, &attention, err);
	if (rc < 0)
		return rc;
	if (gguf_text_is(type, "linear") && attention == 1)
		attention = 0; /* the neutral value */
	if (gguf_text_is(type, "none") || (gguf_text_is(type, "linear") && (factor == 0 || factor == 1) && attention == 0))
		return 0;
	if (!(factor > 0) || !isfinite(factor) || !(attention >= 0) || !isfinite(attention) || original == 0)
		return core_fail(err, CORE_EFORMAT, "%s: llama.rope.scaling: factors must be positive numbers", g->path);
	c->scaling_factor = factor;
	if (gguf_text_is(type, "linear") && attention == 0) {
		c->scaling = ROPE_LINEAR;
		return 0;
	}
	if (!gguf_text_is(type, "yarn"))
		return core_fail(err, CORE_EUNSUPPORTED,
				 "%s: llama.rope.scaling: %.*s is not computed here (none, linear and yarn are)", g->path,
				 type.len < 40 ? (int)type.len : 40, type.s);
	c->scaling = ROPE_YARN;
	c->original_context = (uint32_t)original;
	c->beta_fast = 32;
	c->beta_slow = 1;
	/* GGUF's factor multiplies what the formula gives (FACTS 4.5); the config wants the product. */
	if (attention > 0)
		c->attention_factor = attention * (factor > 1 ? 0.1f * logf(factor) + 1.0f : 1.0f);
	return 0;
}

static int read_token_ids(struct llama_config *c, const struct gguf *g, struct core_error *err)
{
	uint64_t bos = UINT64_MAX, eos = UINT64_MAX;
	int rc = gguf_uint(g, "tokenizer.ggml.bos_token_id", false, UINT32_MAX, &bos, err);

	if (rc == 0)
		rc = gguf_uint(g, "tokenizer.ggml.eos_token_id", false, UINT32_MAX, &eos, err);
	/* Some writers put -1 as u32 for "none". */
	c->bos = bos < c->vocab ? (int32_t)bos : -1;
	c->eos = eos < c->vocab ? (int32_t)eos : -1;
	return rc;
}

static int read_config(struct llama_config *c, const struct gguf *g, struct core_error *err)
{
	const char *base = strrchr(g->path, '/');
	struct gguf_text name = {base != NULL ? base + 1 : g->path, strlen(base != NULL ? base + 1 : g->path)};
	int rc = check_architecture(g, err);

	if (rc == 0)
		rc = read_shape(c, g, err);
	if (rc == 0)
		rc = gguf_float(g, "llama.attention.layer_norm_rms_epsilon", true, &c->norm_eps, err);
	c->rope_theta = 10000;
	if (rc == 0)
		rc = gguf_float(g, "llama.rope.freq_base", false, &c->rope_theta, err);
	if (rc == 0)
		rc = read_scaling(c, g, err);
	if (rc == 0)
		rc = read_token_ids(c, g, err);
	if (rc == 0)
		rc = gguf_string(g, "general.name", false, &name, err);
	if (rc < 0)
		return rc;
	snprintf(c->name, sizeof c->name, "%.*s", name.len < sizeof c->name ? (int)name.len : (int)sizeof c->name - 1, name.s);
	return config_check(c, g->path, err);
}

/* ---- split files: NAME-00001-of-00003.gguf ... ---- */

static int check_part(const struct gguf *g, uint64_t number, uint64_t count, struct core_error *err)
{
	uint64_t no = 0, n = 0;
	int rc = gguf_uint(g, "split.no", true, UINT16_MAX, &no, err);

	if (rc == 0)
		rc = gguf_uint(g, "split.count", true, UINT16_MAX, &n, err);
	if (rc == 0 && (no != number || n != count))
		rc = core_fail(err, CORE_EFORMAT,
			       "%s: this is part %" PRIu64 " of %" PRIu64 ", expected part %" PRIu64 " of %" PRIu64, g->path,
			       no + 1, n, number + 1, count);
	return rc;
}

/* The other parts lie beside the first one and are found by its name; each comes back through gguf_read. */
static int read_parts(struct checkpoint *cp, const char *first, struct core_error *err)
{
	size_t len = strlen(first);
	char tail[32], *path;
	int rc = 0;

	snprintf(tail, sizeof tail, "-%05u-of-%05u.gguf", 1u, (unsigned)cp->parts);
	if (cp->parts > MAX_PARTS || len <= PART_TAIL || strcmp(first + len - PART_TAIL, tail) != 0)
		return core_fail(err, CORE_EFORMAT, "%s: the first of %" PRIu64 " parts must be named NAME%s", first, cp->parts,
				 tail);
	path = strdup(first);
	if (path == NULL)
		return core_fail(err, CORE_ENOMEM, "%s: out of memory", first);
	for (cp->part = 1; cp->part < cp->parts && rc == 0; cp->part++) {
		snprintf(path + len - PART_TAIL, PART_TAIL + 1, "-%05u-of-%05u.gguf", (unsigned)cp->part + 1, (unsigned)cp->parts);
		rc = checkpoint_read_file(cp, path, gguf_read, err);
	}
	free(path);
	return rc;
}

static int read_first(struct checkpoint *cp, const struct gguf *g, struct core_error *err)
{
	uint64_t parts = 1;
	int rc = gguf_uint(g, "split.count", false, UINT16_MAX, &parts, err);

	if (rc == 0 && parts > 1)
		rc = check_part(g, 0, parts, err);
	if (rc == 0)
		rc = read_config(&cp->config, g, err);
	if (rc == 0)
		rc = add_tensors(cp, g, err);
	cp->parts = parts != 0 ? parts : 1;
	if (rc == 0 && cp->parts > 1)
		rc = read_parts(cp, g->path, err);
	if (rc < 0)
		return rc;
	cp->config.tied = true;
	for (size_t i = 0; i < cp->n_tensors; i++)
		if (strcmp(cp->tensors[i].name, "lm_head.weight") == 0)
			cp->config.tied = false;
	cp->gguf = true;
	cp->tokenizer_path = strdup(g->path);
	return cp->tokenizer_path != NULL ? 0 : core_fail(err, CORE_ENOMEM, "%s: out of memory", g->path);
}

static int read_further(struct checkpoint *cp, const struct gguf *g, struct core_error *err)
{
	int rc = check_part(g, cp->part, cp->parts, err);

	return rc == 0 ? add_tensors(cp, g, err) : rc;
}

int gguf_read(struct checkpoint *cp, const struct map *m, const char *path, struct core_error *err)
{
	struct gguf g;
	int rc;

	if (!gguf_probe(m))
		return core_fail(err, CORE_EFORMAT, "%s: expected a model folder or a GGUF file", path);
	rc = gguf_parse(&g, m, path, err);
	if (rc < 0)
		return rc;
	rc = cp->parts == 0 ? read_first(cp, &g, err) : read_further(cp, &g, err);
	gguf_finish(&g);
	return rc;
}
