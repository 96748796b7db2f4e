/* config.c: HF's config.json to a struct llama_config. What this core would not compute exactly is refused by its key. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "format.h"

/* Shapes far beyond any Llama, small enough that no product of two of them leaves 64 bits. */
enum { MAX_LAYERS = 4096, MAX_DIM = 1 << 20, MAX_FFN = 1 << 24, MAX_HEADS = 1 << 14, MAX_HEAD_DIM = 1 << 12, MAX_VOCAB = 1 << 24 };

static const char file[] = "config.json";

struct bounded {
	const char *key;
	uint32_t *to;
	uint32_t max;
	uint32_t missing;	/* the value when absent or null; UINT32_MAX: the key is required */
};

static int get_uint(const json_t *o, const struct bounded *b, struct core_error *err)
{
	const json_t *v = json_object_get(o, b->key);

	if (v == NULL || json_is_null(v)) {
		if (b->missing == UINT32_MAX)
			return core_fail(err, CORE_EFORMAT, "%s: %s is missing", file, b->key);
		*b->to = b->missing;
		return 0;
	}
	if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > b->max)
		return core_fail(err, CORE_EFORMAT, "%s: %s: expected an integer from 1 to %" PRIu32, file, b->key, b->max);
	*b->to = (uint32_t)json_integer_value(v);
	return 0;
}

/* A positive number. required false: an absent key leaves *to alone. */
static int get_positive(const json_t *o, const char *key, bool required, float *to, struct core_error *err)
{
	const json_t *v = json_object_get(o, key);
	float f;

	if (v == NULL || json_is_null(v))
		return required ? core_fail(err, CORE_EFORMAT, "%s: %s is missing", file, key) : 0;
	f = (float)json_number_value(v);
	if (!json_is_number(v) || !(f > 0) || !isfinite(f))
		return core_fail(err, CORE_EFORMAT, "%s: %s: expected a positive number", file, key);
	*to = f;
	return 0;
}

static int get_bool(const json_t *o, const char *key, bool *to, struct core_error *err)
{
	const json_t *v = json_object_get(o, key);

	*to = false;
	if (v == NULL || json_is_null(v))
		return 0;
	if (!json_is_boolean(v))
		return core_fail(err, CORE_EFORMAT, "%s: %s: expected true or false", file, key);
	*to = json_is_true(v);
	return 0;
}

/* Token ids are one number or, in newer files, a list whose first is the main one. */
static int get_token(const json_t *o, const char *key, int32_t *to, struct core_error *err)
{
	const json_t *v = json_object_get(o, key);

	*to = -1;
	if (json_is_array(v))
		v = json_array_get(v, 0);
	if (v == NULL || json_is_null(v))
		return 0;
	if (!json_is_integer(v) || json_integer_value(v) < -1 || json_integer_value(v) >= MAX_VOCAB)
		return core_fail(err, CORE_EFORMAT, "%s: %s: expected a token id", file, key);
	*to = (int32_t)json_integer_value(v);
	return 0;
}

static int refuse_other_models(const json_t *o, struct core_error *err)
{
	const json_t *list = json_object_get(o, "architectures"), *type = json_object_get(o, "model_type");
	const json_t *act = json_object_get(o, "hidden_act");
	const json_t *partial = json_object_get(o, "partial_rotary_factor");
	static const char *const biases[] = {"attention_bias", "mlp_bias"};
	bool bias;

	if (json_array_size(list) > 0) {
		const char *a = json_string_value(json_array_get(list, 0));
		if (a == NULL || strcmp(a, "LlamaForCausalLM") != 0)
			return core_fail(err, CORE_EUNSUPPORTED,
					 "%s: architectures: %.100s is not computed here, only LlamaForCausalLM", file,
					 a != NULL ? a : "(not a string)");
	} else if (type == NULL) {
		return core_fail(err, CORE_EFORMAT, "%s: neither architectures nor model_type is there", file);
	}
	if (type != NULL && (!json_is_string(type) || strcmp(json_string_value(type), "llama") != 0))
		return core_fail(err, CORE_EUNSUPPORTED, "%s: model_type: %.100s is not computed here, only llama", file,
				 json_is_string(type) ? json_string_value(type) : "(not a string)");
	if (act != NULL && (!json_is_string(act) || strcmp(json_string_value(act), "silu") != 0))
		return core_fail(err, CORE_EUNSUPPORTED, "%s: hidden_act: %.100s is not computed here, only silu", file,
				 json_is_string(act) ? json_string_value(act) : "(not a string)");
	if (json_is_number(partial) && json_number_value(partial) != 1.0)
		return core_fail(err, CORE_EUNSUPPORTED, "%s: partial_rotary_factor: only 1 is computed here", file);
	for (size_t i = 0; i < sizeof biases / sizeof biases[0]; i++) {
		int rc = get_bool(o, biases[i], &bias, err);
		if (rc < 0)
			return rc;
		if (bias)
			return core_fail(err, CORE_EUNSUPPORTED, "%s: %s: true is not computed here", file, biases[i]);
	}
	return 0;
}

/* The modules that it skips need no list: their weights are not in 4 bits. */
static int read_quantization(struct llama_config *c, const json_t *root, struct core_error *err)
{
	const json_t *o = json_object_get(root, "quantization_config");
	const char *method = json_string_value(json_object_get(o, "quant_method")),
		   *type = json_string_value(json_object_get(o, "bnb_4bit_quant_type"));

	if (!json_is_object(o))
		return 0;
	if (method == NULL || strcmp(method, "bitsandbytes") != 0)
		return core_fail(err, CORE_EUNSUPPORTED,
				 "%s: quantization_config: quant_method %.60s is not read by this version; use the unquantised "
				 "folder or a .gguf file",
				 file, method != NULL ? method : "(unnamed)");
	if (!json_is_true(json_object_get(o, "load_in_4bit")))
		return core_fail(err, CORE_EUNSUPPORTED, "%s: quantization_config: of bitsandbytes only load_in_4bit is read", file);
	if (type == NULL || strcmp(type, "nf4") != 0)
		return core_fail(err, CORE_EUNSUPPORTED, "%s: quantization_config: bnb_4bit_quant_type %.60s is not read, only nf4", file,
				 type != NULL ? type : "fp4 (transformers' default)");
	c->bitsandbytes = true;
	return 0;
}

static int read_llama3(struct llama_config *c, const json_t *o, struct core_error *err)
{
	struct bounded original = {"original_max_position_embeddings", &c->original_context, INT32_MAX, c->context};
	int rc = get_positive(o, "low_freq_factor", true, &c->low_freq_factor, err);

	if (rc == 0)
		rc = get_positive(o, "high_freq_factor", true, &c->high_freq_factor, err);
	if (rc == 0)
		rc = get_uint(o, &original, err);
	if (rc == 0 && c->high_freq_factor <= c->low_freq_factor)
		rc = core_fail(err, CORE_EFORMAT, "%s: high_freq_factor must be above low_freq_factor", file);
	return rc;
}

/* DeepSeek-style pairs give the factor as a quotient of two magnitudes. */
static float yarn_magnitude(float factor, float mscale)
{
	return factor <= 1 ? 1.0f : 0.1f * mscale * logf(factor) + 1.0f;
}

static int read_yarn(struct llama_config *c, const json_t *o, struct core_error *err)
{
	struct bounded original = {"original_max_position_embeddings", &c->original_context, INT32_MAX, c->context};
	float mscale = 0, all = 0;
	int rc;

	if (json_is_false(json_object_get(o, "truncate")))
		return core_fail(err, CORE_EUNSUPPORTED, "%s: rope_scaling.truncate: false is not computed here", file);
	c->beta_fast = 32;
	c->beta_slow = 1;
	rc = get_uint(o, &original, err);
	if (rc == 0)
		rc = get_positive(o, "beta_fast", false, &c->beta_fast, err);
	if (rc == 0)
		rc = get_positive(o, "beta_slow", false, &c->beta_slow, err);
	if (rc == 0)
		rc = get_positive(o, "attention_factor", false, &c->attention_factor, err);
	if (rc == 0)
		rc = get_positive(o, "mscale", false, &mscale, err);
	if (rc == 0)
		rc = get_positive(o, "mscale_all_dim", false, &all, err);
	if (rc == 0 && c->attention_factor == 0 && mscale > 0 && all > 0)
		c->attention_factor = yarn_magnitude(c->scaling_factor, mscale) / yarn_magnitude(c->scaling_factor, all);
	return rc;
}

/* rope_scaling (old: "type", newer: "rope_type") or the newest rope_parameters, which carry rope_theta too. */
static int read_rope(struct llama_config *c, const json_t *root, struct core_error *err)
{
	const json_t *o = json_object_get(root, "rope_parameters");
	const char *key = "rope_parameters", *type;
	int rc;

	c->rope_theta = 10000;
	rc = get_positive(root, "rope_theta", false, &c->rope_theta, err);
	if (o == NULL || json_is_null(o)) {
		o = json_object_get(root, "rope_scaling");
		key = "rope_scaling";
	}
	if (rc < 0 || o == NULL || json_is_null(o))
		return rc;
	if (!json_is_object(o))
		return core_fail(err, CORE_EFORMAT, "%s: %s: expected an object or null", file, key);
	rc = get_positive(o, "rope_theta", false, &c->rope_theta, err);
	if (rc < 0)
		return rc;
	type = json_string_value(json_object_get(o, "rope_type"));
	if (type == NULL)
		type = json_string_value(json_object_get(o, "type"));
	if (type == NULL)
		return core_fail(err, CORE_EFORMAT, "%s: %s: rope_type is missing", file, key);
	if (json_is_number(json_object_get(o, "partial_rotary_factor")) &&
	    json_number_value(json_object_get(o, "partial_rotary_factor")) != 1.0)
		return core_fail(err, CORE_EUNSUPPORTED, "%s: %s.partial_rotary_factor: only 1 is computed here", file, key);
	if (strcmp(type, "default") == 0)
		return 0;
	if (strcmp(type, "dynamic") == 0)
		return core_fail(err, CORE_EUNSUPPORTED,
				 "%s: %s: dynamic is refused: its angles depend on how a text is split into passes, so "
				 "answers would change with load",
				 file, key);
	if (strcmp(type, "linear") == 0)
		c->scaling = ROPE_LINEAR;
	else if (strcmp(type, "llama3") == 0)
		c->scaling = ROPE_LLAMA3;
	else if (strcmp(type, "yarn") == 0)
		c->scaling = ROPE_YARN;
	else
		return core_fail(err, CORE_EUNSUPPORTED, "%s: %s: type %.60s is not computed here (linear, llama3, yarn are)", file,
				 key, type);
	rc = get_positive(o, "factor", true, &c->scaling_factor, err);
	if (rc == 0 && c->scaling == ROPE_LLAMA3)
		rc = read_llama3(c, o, err);
	if (rc == 0 && c->scaling == ROPE_YARN)
		rc = read_yarn(c, o, err);
	return rc;
}

static int read_shape(struct llama_config *c, const json_t *o, struct core_error *err)
{
	const struct bounded keys[] = {
		{"num_hidden_layers", &c->layers, MAX_LAYERS, UINT32_MAX},
		{"hidden_size", &c->dim, MAX_DIM, UINT32_MAX},
		{"intermediate_size", &c->ffn_dim, MAX_FFN, UINT32_MAX},
		{"num_attention_heads", &c->heads, MAX_HEADS, UINT32_MAX},
		{"vocab_size", &c->vocab, MAX_VOCAB, UINT32_MAX},
		{"max_position_embeddings", &c->context, INT32_MAX, 2048}, /* transformers' own default */
	};
	struct bounded kv = {"num_key_value_heads", &c->kv_heads, MAX_HEADS, 0};
	struct bounded head = {"head_dim", &c->head_dim, MAX_HEAD_DIM, 0};
	int rc;

	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
		rc = get_uint(o, &keys[i], err);
		if (rc < 0)
			return rc;
	}
	kv.missing = c->heads;
	rc = get_uint(o, &kv, err);
	if (rc < 0)
		return rc;
	rc = get_uint(o, &head, err);
	if (rc == 0 && c->head_dim == 0) {
		if (c->dim % c->heads != 0)
			return core_fail(err, CORE_EFORMAT,
					 "%s: hidden_size is not a multiple of num_attention_heads and head_dim is missing", file);
		c->head_dim = c->dim / c->heads;
	}
	return rc;
}

int config_check(const struct llama_config *c, const char *where, struct core_error *err)
{
	if (c->layers == 0 || c->layers > MAX_LAYERS || c->dim == 0 || c->dim > MAX_DIM || c->ffn_dim == 0 ||
	    c->ffn_dim > MAX_FFN || c->heads == 0 || c->heads > MAX_HEADS || c->kv_heads == 0 || c->vocab == 0 ||
	    c->vocab > MAX_VOCAB || c->context == 0 || c->head_dim == 0 || c->head_dim > MAX_HEAD_DIM)
		return core_fail(err, CORE_EFORMAT,
				 "%s: a size is zero or absurd: layers %" PRIu32 ", dim %" PRIu32 ", ffn %" PRIu32
				 ", heads %" PRIu32 "/%" PRIu32 ", head_dim %" PRIu32 ", vocab %" PRIu32 ", context %" PRIu32,
				 where, c->layers, c->dim, c->ffn_dim, c->heads, c->kv_heads, c->head_dim, c->vocab, c->context);
	if (c->heads % c->kv_heads != 0)
		return core_fail(err, CORE_EFORMAT, "%s: %" PRIu32 " heads cannot share %" PRIu32 " key/value heads evenly", where,
				 c->heads, c->kv_heads);
	if (c->head_dim % 2 != 0)
		return core_fail(err, CORE_EFORMAT, "%s: head_dim %" PRIu32 " is odd: rotary positions need pairs", where,
				 c->head_dim);
	if (!(c->norm_eps > 0) || !isfinite(c->norm_eps) || !(c->rope_theta > 0) || !isfinite(c->rope_theta))
		return core_fail(err, CORE_EFORMAT, "%s: norm epsilon and rope theta must be positive numbers", where);
	return 0;
}

static int read_root(struct llama_config *c, const json_t *root, struct core_error *err)
{
	int rc = refuse_other_models(root, err);

	if (rc == 0)
		rc = read_quantization(c, root, err);
	if (rc == 0)
		rc = read_shape(c, root, err);
	c->norm_eps = 1e-6f; /* transformers' own default */
	if (rc == 0)
		rc = get_positive(root, "rms_norm_eps", false, &c->norm_eps, err);
	if (rc == 0)
		rc = get_bool(root, "tie_word_embeddings", &c->tied, err);
	if (rc == 0)
		rc = get_token(root, "bos_token_id", &c->bos, err);
	if (rc == 0)
		rc = get_token(root, "eos_token_id", &c->eos, err);
	if (rc == 0)
		rc = read_rope(c, root, err);
	return rc == 0 ? config_check(c, file, err) : rc;
}

int config_parse(struct llama_config *c, const char *json, size_t len, struct core_error *err)
{
	json_t *root;
	int rc = json_parse(&root, json, len, file, err);

	*c = (struct llama_config){.bos = -1, .eos = -1};
	if (rc < 0)
		return rc;
	if (json_is_object(root))
		rc = read_root(c, root, err);
	else
		rc = core_fail(err, CORE_EFORMAT, "%s: expected a JSON object", file);
	json_decref(root);
	return rc;
}
