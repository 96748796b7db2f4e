/* peft.c: adapter_config.json: what it says about ranks, scales and targets, and what in it this core does not compute. */
#include <jansson.h>
#include <math.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "format.h"
#include "peft.h"

/* Bounds on the work that a hostile file can ask for: patterns are matched against every module of the model. */
enum { PATTERNS_MAX = 8192, REGEXES_MAX = 256, REGEX_LEN = 256 };

/* A key of rank_pattern or alpha_pattern: PEFT matches (.*\.)?(KEY)$ from the start of the module's path. */
struct pattern {
	const char *key; /* inside the JSON tree */
	double value;
	bool literal; /* letters, digits, _ and dots: compared without a regex */
	regex_t re;
};

struct patterns {
	struct pattern *list;
	size_t n, regexes;
};

struct peft_rules {
	json_t *root;
	const char *where;
	uint32_t rank;
	double alpha;
	bool rslora, dora, tie;
	struct patterns ranks, alphas;
	const json_t *targets, *excluded, *layers; /* layers NULL: all; an integer or a list of integers */
	bool by_pattern;                           /* layers_pattern is set */
	bool has_regex;                            /* target_modules is a regex that POSIX can match */
	regex_t target;
};

/* ---- patterns ---- */

static bool is_literal(const char *key)
{
	return key[strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.")] == '\0';
}

static bool alphanumeric(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
}

/* The end of the bracket expression that starts at s, or NULL: written in a way that POSIX reads differently. */
static const char *bracket_end(const char *s)
{
	s += s[1] == '^' ? 2 : 1;
	if (*s == ']')
		s++;
	for (; *s != '\0' && *s != ']'; s++)
		if (*s == '\\' || (*s == '[' && strchr(":.=", s[1]) != NULL))
			return NULL;
	return *s == ']' ? s : NULL;
}

/* POSIX extended expressions and Python's agree on literals, . [...] * + ? | ( ) ^ $ and escaped punctuation. NULL: s uses nothing
 * else; otherwise what it uses. */
static const char *beyond_posix(const char *s)
{
	for (; *s != '\0'; s++) {
		if ((unsigned char)*s < ' ' || (unsigned char)*s > '~')
			return "characters beyond ASCII";
		if (*s == '\\' && (s[1] == '\0' || alphanumeric(s[1])))
			return "backslash classes";
		if (*s == '(' && s[1] == '?')
			return "(? groups";
		if (*s == '{')
			return "counted repeats";
		if (strchr("*+?", *s) != NULL && strchr("*+?", s[1]) != NULL && s[1] != '\0')
			return "lazy or possessive repeats";
		if (*s == '[') {
			s = bracket_end(s);
			if (s == NULL)
				return "escapes or classes in brackets";
		} else if (*s == '\\') {
			s++;
		}
	}
	return NULL;
}

static bool compile(regex_t *re, const char *before, const char *key)
{
	char whole[REGEX_LEN + 32];

	snprintf(whole, sizeof whole, "^%s(%s)$", before, key);
	return regcomp(re, whole, REG_EXTENDED | REG_NOSUB) == 0;
}

static int add_pattern(struct peft_rules *r, struct patterns *p, const char *which, const char *key, const json_t *value,
		       struct core_error *err)
{
	struct pattern *n = &p->list[p->n];
	const char *lack;

	if (!json_is_number(value) || !isfinite(json_number_value(value)))
		return core_fail(err, CORE_EFORMAT, "%s: %s: %.80s: expected a number", r->where, which, key);
	*n = (struct pattern){.key = key, .value = json_number_value(value), .literal = is_literal(key)};
	if (!n->literal) {
		lack = strlen(key) > REGEX_LEN      ? "too many characters"
		       : ++p->regexes > REGEXES_MAX ? "one expression too many"
						    : beyond_posix(key);
		if (lack != NULL)
			return core_fail(err, CORE_EUNSUPPORTED,
					 "%s: %s: %.80s: the expression has %s; name the modules with letters, . * + ? | ( ) [ ]",
					 r->where, which, key, lack);
		if (!compile(&n->re, "(.*\\.)?", key))
			return core_fail(err, CORE_EFORMAT, "%s: %s: %.80s: not a regular expression", r->where, which, key);
	}
	p->n++;
	return 0;
}

static int read_patterns(struct peft_rules *r, struct patterns *p, const char *which, struct core_error *err)
{
	json_t *map = json_object_get(r->root, which), *value;
	const char *key;
	int rc;

	if (map == NULL || json_is_null(map))
		return 0;
	if (!json_is_object(map) || json_object_size(map) > PATTERNS_MAX)
		return core_fail(err, CORE_EFORMAT, "%s: %s: expected an object of at most %d module names to numbers", r->where,
				 which, PATTERNS_MAX);
	p->list = calloc(json_object_size(map) + 1, sizeof *p->list);
	if (p->list == NULL)
		return core_fail(err, CORE_ENOMEM, "%s: out of memory", r->where);
	json_object_foreach(map, key, value)
	{
		rc = add_pattern(r, p, which, key, value, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* The key's dots stand for any character, as in an expression; what precedes it is nothing, or ends with a dot. */
static bool literal_matches(const char *key, const char *module)
{
	size_t n = strlen(key), m = strlen(module);

	if (n > m || (n < m && module[m - n - 1] != '.'))
		return false;
	module += m - n;
	for (size_t i = 0; i < n; i++)
		if (key[i] != '.' && key[i] != module[i])
			return false;
	return true;
}

/* The first key that matches, in the order of the file. NULL: none. */
static const struct pattern *pattern_for(const struct patterns *p, const char *module)
{
	for (size_t i = 0; i < p->n; i++) {
		const struct pattern *k = &p->list[i];
		if (k->literal ? literal_matches(k->key, module) : regexec(&k->re, module, 0, NULL, 0) == 0)
			return k;
	}
	return NULL;
}

static void patterns_finish(struct patterns *p)
{
	for (size_t i = 0; i < p->n; i++)
		if (!p->list[i].literal)
			regfree(&p->list[i].re);
	free(p->list);
}

/* ---- what is refused ---- */

/* What Python would take for false. */
static bool is_false(const json_t *v)
{
	return v == NULL || json_is_null(v) || json_is_false(v) || (json_is_number(v) && json_number_value(v) == 0) ||
	       (json_is_string(v) && json_string_length(v) == 0) || (json_is_array(v) && json_array_size(v) == 0) ||
	       (json_is_object(v) && json_object_size(v) == 0);
}

static const struct {
	const char *key, *why;
} refused[] = {
	{"modules_to_save", "whole modules that were trained cannot be blended; merge them into the base"},
	{"lora_bias", "a bias on B has no place in a blend"},
	{"fan_in_fan_out", "a Llama's weights do not stand that way"},
	{"layer_replication", "it changes the base's list of layers"},
	{"trainable_token_indices", "single trained tokens are not computed"},
	{"target_parameters", "only whole linears and the embedding are computed"},
	{"alora_invocation_tokens", "an adapter that is switched on in mid-sequence is not computed"},
	{"megatron_config", "layers of Megatron are not a Llama's"},
	{"use_qalora", "its pooled inputs are not computed"},
};

/* Configs that steer training only, for inits that leave the base alone (check_init() refuses the others). */
static bool trains_only(const char *key)
{
	static const char *const names[] = {"loftq_config",   "eva_config",    "corda_config",
					    "lora_ga_config", "velora_config", "runtime_config"};

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (strcmp(key, names[i]) == 0)
			return true;
	return false;
}

static int check_unknown(const struct peft_rules *r, struct core_error *err)
{
	const char *key;
	json_t *value;

	json_object_foreach(r->root, key, value)
	{
		size_t n = strlen(key);
		bool use = strncmp(key, "use_", 4) == 0 && strcmp(key, "use_rslora") != 0 && strcmp(key, "use_dora") != 0;
		bool config = n > 7 && strcmp(key + n - 7, "_config") == 0 && !trains_only(key);
		if ((use || config) && !is_false(value))
			return core_fail(err, CORE_EUNSUPPORTED, "%s: %.80s is set: not a plain LoRA that is computed here",
					 r->where, key);
	}
	return 0;
}

/* PiSSA and its like subtract their start from the base's weights: such an adapter fits another base. */
static int check_init(const struct peft_rules *r, struct core_error *err)
{
	static const char *const harmless[] = {"gaussian", "eva", "orthogonal"};
	const json_t *v = json_object_get(r->root, "init_lora_weights");
	const char *s = json_string_value(v);

	if (v == NULL || json_is_null(v) || json_is_boolean(v))
		return 0;
	for (size_t i = 0; s != NULL && i < sizeof harmless / sizeof harmless[0]; i++)
		if (strcmp(s, harmless[i]) == 0)
			return 0;
	return core_fail(
		err, CORE_EUNSUPPORTED,
		"%s: init_lora_weights: %.40s may have changed the base's weights; save the adapter converted to plain LoRA "
		"(path_initial_model_for_weight_conversion)",
		r->where, s != NULL ? s : "this value");
}

static int check_refused(const struct peft_rules *r, struct core_error *err)
{
	const char *type = json_string_value(json_object_get(r->root, "peft_type")), *bias = "none";
	const json_t *b = json_object_get(r->root, "bias");

	if (type == NULL || strcmp(type, "LORA") != 0)
		return core_fail(err, CORE_EUNSUPPORTED, "%s: peft_type: %.40s: expected LORA", r->where,
				 type != NULL ? type : "(missing)");
	if (b != NULL && !json_is_null(b))
		bias = json_is_string(b) ? json_string_value(b) : "not a string";
	if (strcmp(bias, "none") != 0)
		return core_fail(err, CORE_EUNSUPPORTED, "%s: bias: %.40s: expected none: a Llama has no biases", r->where, bias);
	for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
		if (!is_false(json_object_get(r->root, refused[i].key)))
			return core_fail(err, CORE_EUNSUPPORTED, "%s: %s is set: %s", r->where, refused[i].key, refused[i].why);
	return 0;
}

/* ---- reading ---- */

static int read_flag(const struct peft_rules *r, const char *key, bool *out, struct core_error *err)
{
	const json_t *v = json_object_get(r->root, key);

	*out = json_is_true(v);
	if (v == NULL || json_is_null(v) || json_is_boolean(v))
		return 0;
	return core_fail(err, CORE_EFORMAT, "%s: %s: expected true or false", r->where, key);
}

static int read_rank(struct peft_rules *r, struct core_error *err)
{
	const json_t *rank = json_object_get(r->root, "r"), *alpha = json_object_get(r->root, "lora_alpha");

	/* PEFT's defaults, which it also writes out. */
	r->rank = 8;
	r->alpha = 8;
	if (rank != NULL) {
		if (!json_is_integer(rank) || json_integer_value(rank) < 1 || json_integer_value(rank) > LORA_RANK_MAX)
			return core_fail(err, CORE_EFORMAT, "%s: r: expected a rank of 1 to %d", r->where, LORA_RANK_MAX);
		r->rank = (uint32_t)json_integer_value(rank);
	}
	if (alpha != NULL) {
		if (!json_is_number(alpha) || !isfinite(json_number_value(alpha)))
			return core_fail(err, CORE_EFORMAT, "%s: lora_alpha: expected a number", r->where);
		r->alpha = json_number_value(alpha);
	}
	return 0;
}

static bool list_of_strings(const json_t *v)
{
	for (size_t i = 0; i < json_array_size(v); i++)
		if (!json_is_string(json_array_get(v, i)))
			return false;
	return json_is_array(v) && json_array_size(v) <= PATTERNS_MAX;
}

static int read_targets(struct peft_rules *r, struct core_error *err)
{
	const json_t *t = json_object_get(r->root, "target_modules"), *x = json_object_get(r->root, "exclude_modules");
	const json_t *layers = json_object_get(r->root, "layers_to_transform");
	const char *s = json_string_value(t);
	bool ints = json_is_integer(layers) || json_is_array(layers);

	if (!is_false(t) && !json_is_string(t) && !list_of_strings(t))
		return core_fail(err, CORE_EFORMAT, "%s: target_modules: expected a list of names, or a string", r->where);
	if (!is_false(x) && !json_is_string(x) && !list_of_strings(x))
		return core_fail(err, CORE_EFORMAT, "%s: exclude_modules: expected a list of names, or a string", r->where);
	for (size_t i = 0; i < json_array_size(layers); i++)
		ints = ints && json_is_integer(json_array_get(layers, i));
	if (layers != NULL && !json_is_null(layers) && !ints)
		return core_fail(err, CORE_EFORMAT, "%s: layers_to_transform: expected a layer number or a list of them", r->where);
	r->targets = is_false(t) ? NULL : t;
	r->excluded = is_false(x) ? NULL : x;
	r->layers =
		layers == NULL || json_is_null(layers) || (json_is_array(layers) && json_array_size(layers) == 0) ? NULL : layers;
	r->by_pattern = !is_false(json_object_get(r->root, "layers_pattern"));
	if (s != NULL && strcasecmp(s, "all-linear") != 0 && strlen(s) <= REGEX_LEN && beyond_posix(s) == NULL)
		r->has_regex = compile(&r->target, "", s);
	return 0;
}

static int read_rules(struct peft_rules *r, struct core_error *err)
{
	int rc = check_refused(r, err);

	if (rc == 0)
		rc = check_init(r, err);
	if (rc == 0)
		rc = check_unknown(r, err);
	if (rc == 0)
		rc = read_rank(r, err);
	if (rc == 0)
		rc = read_flag(r, "use_rslora", &r->rslora, err);
	if (rc == 0)
		rc = read_flag(r, "use_dora", &r->dora, err);
	if (rc == 0)
		rc = read_flag(r, "ensure_weight_tying", &r->tie, err);
	if (rc == 0)
		rc = read_patterns(r, &r->ranks, "rank_pattern", err);
	if (rc == 0)
		rc = read_patterns(r, &r->alphas, "alpha_pattern", err);
	return rc == 0 ? read_targets(r, err) : rc;
}

int peft_rules_new(struct peft_rules **out, const char *json, size_t len, const char *where, struct core_error *err)
{
	struct peft_rules *r = calloc(1, sizeof *r);
	int rc;

	if (r == NULL)
		return core_fail(err, CORE_ENOMEM, "%s: out of memory", where);
	r->where = where;
	rc = json_parse(&r->root, json, len, where, err);
	if (rc == 0)
		rc = json_is_object(r->root) ? read_rules(r, err)
					     : core_fail(err, CORE_EFORMAT, "%s: expected a JSON object", where);
	if (rc < 0)
		peft_rules_free(r);
	else
		*out = r;
	return rc;
}

void peft_rules_free(struct peft_rules *r)
{
	if (r == NULL)
		return;
	patterns_finish(&r->ranks);
	patterns_finish(&r->alphas);
	if (r->has_regex)
		regfree(&r->target);
	json_decref(r->root);
	free(r);
}

/* ---- asking ---- */

bool peft_rules_dora(const struct peft_rules *r)
{
	return r->dora;
}

bool peft_rules_tie(const struct peft_rules *r)
{
	return r->tie;
}

/* Equal, or ends with a dot and the name. */
static bool listed(const json_t *list, const char *module)
{
	size_t m = strlen(module);

	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *name = json_string_value(json_array_get(list, i));
		size_t n = strlen(name);
		if (n <= m && strcmp(module + m - n, name) == 0 && (n == m || module[m - n - 1] == '.'))
			return true;
	}
	return false;
}

static bool layer_listed(const json_t *layers, int64_t layer)
{
	if (json_is_integer(layers))
		return json_integer_value(layers) == layer;
	for (size_t i = 0; i < json_array_size(layers); i++)
		if (json_integer_value(json_array_get(layers, i)) == layer)
			return true;
	return false;
}

enum peft_target peft_rules_target(const struct peft_rules *r, const char *module, int64_t layer)
{
	bool named;

	if (r->targets == NULL || (r->excluded != NULL && json_is_string(r->excluded)))
		return PEFT_TARGET_UNKNOWN;
	if (r->excluded != NULL && listed(r->excluded, module))
		return PEFT_TARGET_NO;
	if (json_is_string(r->targets)) {
		if (strcasecmp(json_string_value(r->targets), "all-linear") == 0)
			return layer >= 0 ? PEFT_TARGET_YES : PEFT_TARGET_NO;
		if (!r->has_regex)
			return PEFT_TARGET_UNKNOWN;
		return regexec(&r->target, module, 0, NULL, 0) == 0 ? PEFT_TARGET_YES : PEFT_TARGET_NO;
	}
	named = listed(r->targets, module);
	if (named && r->layers != NULL)
		return r->by_pattern ? PEFT_TARGET_UNKNOWN : layer_listed(r->layers, layer) ? PEFT_TARGET_YES : PEFT_TARGET_NO;
	return named ? PEFT_TARGET_YES : PEFT_TARGET_NO;
}

int peft_rules_scale(const struct peft_rules *r, const char *module, uint32_t rank, float *scale, struct core_error *err)
{
	const struct pattern *p = pattern_for(&r->ranks, module);
	double want = p != NULL ? p->value : r->rank, alpha;

	if (want != rank)
		return core_fail(err, CORE_EFORMAT, "%s: %s%.60s gives %s rank %g, its tensors have rank %u", r->where,
				 p != NULL ? "rank_pattern: " : "", p != NULL ? p->key : "r", module, want, rank);
	p = pattern_for(&r->alphas, module);
	alpha = p != NULL ? p->value : r->alpha;
	*scale = (float)(r->rslora ? alpha / sqrt(rank) : alpha / rank);
	if (!isfinite(*scale))
		return core_fail(err, CORE_EFORMAT, "%s: lora_alpha gives %s a scale beyond f32", r->where, module);
	return 0;
}
