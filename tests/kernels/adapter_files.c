/* adapter_files.c: adapters written by the test, right or wrong: what is refused, and that the reason names the key or tensor. */
#include <sys/stat.h>

#include "adapter_test.h"
#include "gguf_build.h"

enum { LAYERS = 2, DIM = 32, KV = 16, RANK = 2 };

/* ---- a PEFT folder: q_proj and v_proj of both layers, until a test changes something ---- */

struct draft_tensor {
	char name[160];
	const char *dtype;
	uint32_t rows, cols; /* rows 0: a vector */
	float fill;          /* of every value; 2-byte types get its upper half */
};

struct draft {
	struct {
		char key[64], value[4096];
	} key[40];
	unsigned keys, tensors;
	struct draft_tensor tensor[40];
};

static void set(struct draft *d, const char *key, const char *value)
{
	unsigned i = 0;

	while (i < d->keys && strcmp(d->key[i].key, key))
		i++;
	d->keys += i == d->keys;
	snprintf(d->key[i].key, sizeof(d->key[i].key), "%s", key);
	snprintf(d->key[i].value, sizeof(d->key[i].value), "%s", value);
}

static struct draft_tensor *put_tensor(struct draft *d, const char *name, uint32_t rows, uint32_t cols)
{
	struct draft_tensor *t = &d->tensor[d->tensors++];

	*t = (struct draft_tensor){.dtype = "F32", .rows = rows, .cols = cols, .fill = 0.25f};
	snprintf(t->name, sizeof(t->name), "base_model.model.%s", name);
	return t;
}

static struct draft_tensor *tensor(struct draft *d, const char *name)
{
	for (unsigned i = 0; i < d->tensors; i++)
		if (!strcmp(d->tensor[i].name + strlen("base_model.model."), name))
			return &d->tensor[i];
	fail_msg("no tensor %s", name);
	return NULL;
}

static struct draft draft_new(void)
{
	struct draft d = {.keys = 0};

	set(&d, "peft_type", "\"LORA\"");
	set(&d, "r", "2");
	set(&d, "lora_alpha", "4");
	set(&d, "target_modules", "[\"q_proj\", \"v_proj\"]");
	for (int layer = 0; layer < LAYERS; layer++)
		for (int v = 0; v < 2; v++) {
			char name[128];

			snprintf(name, sizeof(name), "model.layers.%d.self_attn.%c_proj.lora_A.weight", layer, v ? 'v' : 'q');
			put_tensor(&d, name, RANK, DIM);
			snprintf(name, sizeof(name), "model.layers.%d.self_attn.%c_proj.lora_B.weight", layer, v ? 'v' : 'q');
			put_tensor(&d, name, v ? KV : DIM, RANK);
		}
	return d;
}

static const char *folder(void)
{
	static char path[64];

	snprintf(path, sizeof(path), "adapter-%d", (int)getpid());
	return path;
}

static FILE *create(const char *name)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder(), name);
	f = fopen(path, "wb");
	assert_non_null(f);
	return f;
}

static void write_config(const struct draft *d)
{
	FILE *f = create("adapter_config.json");

	for (unsigned i = 0; i < d->keys; i++)
		fprintf(f, "%s\"%s\": %s", i ? ",\n" : "{", d->key[i].key, d->key[i].value);
	fprintf(f, "}\n");
	fclose(f);
}

static void write_tensors(const struct draft *d)
{
	char *header = NULL;
	size_t length = 0, at = 0;
	uint64_t n;
	FILE *h = open_memstream(&header, &length), *f;

	for (unsigned i = 0; i < d->tensors; i++) {
		const struct draft_tensor *t = &d->tensor[i];
		size_t bytes = (size_t)(t->rows ? t->rows : 1) * t->cols * (t->dtype[0] == 'F' && t->dtype[1] == '3' ? 4 : 2);

		fprintf(h, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", i ? "," : "{", t->name, t->dtype);
		if (t->rows)
			fprintf(h, "%u,", t->rows);
		fprintf(h, "%u],\"data_offsets\":[%zu,%zu]}", t->cols, at, at + bytes);
		at += bytes;
	}
	fprintf(h, "%s}", d->tensors ? "" : "{");
	fclose(h);
	n = length;
	f = create("adapter_model.safetensors");
	fwrite(&n, 8, 1, f);
	fwrite(header, 1, length, f);
	for (unsigned i = 0; i < d->tensors; i++) {
		const struct draft_tensor *t = &d->tensor[i];
		bool wide = t->dtype[0] == 'F' && t->dtype[1] == '3';

		for (uint32_t k = 0; k < (t->rows ? t->rows : 1) * t->cols; k++)
			fwrite((const char *)&t->fill + (wide ? 0 : 2), wide ? 4 : 2, 1, f);
	}
	fclose(f);
	free(header);
}

static int load_draft(const struct draft *d, const struct core_model *m)
{
	struct core_adapter *a = NULL;
	int rc;

	mkdir(folder(), 0777);
	write_config(d);
	write_tensors(d);
	rc = core_adapter_load(&a, m, folder(), &why);
	if (!rc)
		core_adapter_unref(a);
	return rc;
}

static struct core_model *model; /* gqa-untied, f32 */

static void refused(const struct draft *d, int code, const char *word)
{
	int rc = load_draft(d, model);

	if (rc != code || !strstr(why.text, word))
		fail_msg("%d \"%s\": expected %d and \"%s\"", rc, rc ? why.text : "loaded", code, word);
	assert_int_equal(why.code, code);
}

static void accepted(const struct draft *d)
{
	if (load_draft(d, model))
		fail_msg("%s", why.text);
}

/* ---- the config ---- */

static void a_key_that_changes_the_computation_is_refused_by_name(void **state)
{
	static const struct {
		const char *key, *value;
	} bad[] = {
		{"peft_type", "\"LOHA\""},
		{"peft_type", "null"},
		{"modules_to_save", "[\"lm_head\"]"},
		{"bias", "\"all\""},
		{"bias", "\"lora_only\""},
		{"bias", "7"},
		{"lora_bias", "true"},
		{"fan_in_fan_out", "true"},
		{"layer_replication", "[[0, 2], [1, 2]]"},
		{"trainable_token_indices", "[5]"},
		{"target_parameters", "[\"x\"]"},
		{"alora_invocation_tokens", "[1, 2]"},
		{"megatron_config", "{\"a\": 1}"},
		{"use_qalora", "true"},
		{"use_bdlora", "{\"a\": 1}"},
		{"use_something_new", "true"},
		{"arrow_config", "{\"top_k\": 3}"},
		{"kasa_config", "{\"a\": 1}"},
		{"monteclora_config", "{\"a\": 1}"},
		{"init_lora_weights", "\"pissa\""},
		{"init_lora_weights", "\"pissa_niter_4\""},
		{"init_lora_weights", "\"olora\""},
		{"init_lora_weights", "\"corda\""},
		{"init_lora_weights", "\"lora_ga\""},
		{"init_lora_weights", "\"loftq\""},
		{"init_lora_weights", "{}"},
	};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct draft d = draft_new();

		set(&d, bad[i].key, bad[i].value);
		refused(&d, CORE_EUNSUPPORTED, bad[i].key);
	}
}

static void a_key_of_the_wrong_type_is_refused_by_name(void **state)
{
	static const struct {
		const char *key, *value;
	} bad[] = {
		{"r", "0"},
		{"r", "-1"},
		{"r", "1025"},
		{"r", "2.0"},
		{"r", "\"2\""},
		{"r", "99999999999999999999"},
		{"lora_alpha", "\"4\""},
		{"lora_alpha", "null"},
		{"use_rslora", "1"},
		{"use_dora", "\"yes\""},
		{"rank_pattern", "[1]"},
		{"rank_pattern", "{\"q_proj\": \"2\"}"},
		{"alpha_pattern", "{\"q_proj\": null}"},
		{"alpha_pattern", "{\"q(proj\": 1}"},
		{"target_modules", "[1]"},
		{"target_modules", "{\"a\": 1}"},
		{"exclude_modules", "[true]"},
		{"layers_to_transform", "\"0\""},
		{"layers_to_transform", "[0.5]"},
	};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct draft d = draft_new();
		int rc;

		set(&d, bad[i].key, bad[i].value);
		rc = load_draft(&d, model);
		if (rc != CORE_EFORMAT || (!strstr(why.text, bad[i].key) && !strstr(why.text, "JSON")))
			fail_msg("%s = %s: %d \"%s\"", bad[i].key, bad[i].value, rc, rc ? why.text : "loaded");
	}
}

static void keys_that_change_nothing_are_accepted(void **state)
{
	static const struct {
		const char *key, *value;
	} good[] = {
		{"modules_to_save", "null"},
		{"modules_to_save", "[]"},
		{"bias", "null"},
		{"megatron_core", "\"megatron.core\""},
		{"qalora_group_size", "16"},
		{"use_qalora", "false"},
		{"loftq_config", "{}"},
		{"velora_config", "{\"a\": 1}"},
		{"eva_config", "{\"rho\": 2.0}"},
		{"init_lora_weights", "\"gaussian\""},
		{"init_lora_weights", "false"},
		{"lora_dropout", "0.1"},
		{"task_type", "\"CAUSAL_LM\""},
		{"some_note", "\"anything\""},
		{"exclude_modules", "[\"k_proj\"]"},
		{"layers_to_transform", "[0, 1]"},
		{"target_modules", "null"},
		{"target_modules", "[\"self_attn.q_proj\", \"v_proj\", \"lm_head\"]"},
		{"target_modules", "\".*self_attn\\\\.(q|v)_proj\""},
		{"target_modules", "\"(?:.*?)\\\\bnot_posix\""},
		{"ensure_weight_tying", "true"},
		{"rank_pattern", "{\"k_proj\": 77, \"roj\": 3, \"^v_proj\": 9}"},
	};

	for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct draft d = draft_new();

		set(&d, good[i].key, good[i].value);
		accepted(&d);
	}
}

static void a_rank_that_the_config_does_not_mean_is_refused(void **state)
{
	struct draft d = draft_new();

	set(&d, "r", "3");
	refused(&d, CORE_EFORMAT, "rank 3, its tensors have rank 2");
	d = draft_new();
	set(&d, "rank_pattern", "{\".*1\\\\.self_attn\\\\.v_proj\": 5}");
	refused(&d, CORE_EFORMAT, "layers.1.self_attn.v_proj rank 5");
	d = draft_new();
	set(&d, "rank_pattern", "{\"layers.1.self_attn.v_proj\": 4, \"v_proj\": 5}"); /* the first that matches */
	refused(&d, CORE_EFORMAT, "layers.0.self_attn.v_proj rank 5");
}

static void an_expression_that_posix_reads_otherwise_is_refused(void **state)
{
	static const char *const bad[] = {"\\\\d+.q_proj", "(?:q|v)_proj",     "q.*?_proj",   "q_proj{1}",
					  "[\\\\w]_proj",  "[[:alpha:]]_proj", "q_pr\u00f6j", "q_pro++j"};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct draft d = draft_new();
		char value[256];

		snprintf(value, sizeof(value), "{\"%s\": 8}", bad[i]);
		set(&d, "alpha_pattern", value);
		refused(&d, CORE_EUNSUPPORTED, "alpha_pattern");
	}
}

static void targets_and_tensors_must_agree(void **state)
{
	struct draft d = draft_new();

	set(&d, "target_modules", "[\"q_proj\"]");
	refused(&d, CORE_EFORMAT, "v_proj.lora_A.weight is there, but target_modules does not name");
	d = draft_new();
	set(&d, "target_modules", "[\"q_proj\", \"v_proj\", \"k_proj\"]");
	refused(&d, CORE_EFORMAT, "target_modules names model.layers.0.self_attn.k_proj");
	d = draft_new();
	set(&d, "layers_to_transform", "1");
	refused(&d, CORE_EFORMAT, "layers.0.self_attn.q_proj");
	d = draft_new();
	set(&d, "target_modules", "\"all-linear\"");
	refused(&d, CORE_EFORMAT, "k_proj");
}

/* ---- the tensors ---- */

static void tensors_that_are_no_lora_pair_are_refused_by_name(void **state)
{
	static const struct {
		const char *name;
		uint32_t rows, cols;
		const char *word;
	} bad[] = {
		{"model.layers.0.self_attn.q_proj.weight", DIM, DIM, "whole weight"},
		{"model.layers.0.self_attn.q_proj.base_layer.weight", DIM, DIM, "whole weight"},
		{"model.layers.0.self_attn.q_proj.lora_B.bias", 0, DIM, "lora_bias"},
		{"model.layers.0.self_attn.q_proj.lora_A.default.weight", RANK, DIM, "not a part"},
		{"model.layers.2.self_attn.q_proj.lora_A.weight", RANK, DIM, "no such layer"},
		{"model.layers.00.self_attn.q_proj.lora_A.weight", RANK, DIM, "no such layer"},
		{"model.layers.0.self_attn.rotary.lora_A.weight", RANK, DIM, "not a module"},
		{"lm_head.lora_A.weight", RANK, DIM, "lm_head"},
		{"lm_head.weight", 70, DIM, "vocabulary"},
		{"lm_head.weight", 67, DIM, "not the base's own"},
		{"model.embed_tokens.weight", 67, DIM, "not the base's own"},
		{"model.embed_tokens.base_layer.weight", 67, DIM, "not the base's own"},
		{"model.norm.weight", 0, DIM, "not the base's own"},
		{"model.layers.1.input_layernorm.weight", 0, DIM, "not the base's own"},
		{"score.weight", 2, DIM, "not a module"},
	};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct draft d = draft_new();

		put_tensor(&d, bad[i].name, bad[i].rows, bad[i].cols)->fill = 9;
		refused(&d, CORE_EUNSUPPORTED, bad[i].word);
		assert_non_null(strstr(why.text, bad[i].name));
	}
}

static void a_name_without_the_prefix_is_refused(void **state)
{
	struct draft d = draft_new();

	strcpy(tensor(&d, "model.layers.0.self_attn.q_proj.lora_A.weight")->name, "model.layers.0.self_attn.q_proj.lora_A.weight");
	refused(&d, CORE_EUNSUPPORTED, "base_model.model.");
}

static void half_a_pair_is_refused(void **state)
{
	struct draft d = draft_new();

	d.tensors--;
	refused(&d, CORE_EFORMAT, "layers.1.self_attn.v_proj: factor B is missing");
	d = draft_new();
	d.tensor[0] = d.tensor[--d.tensors];
	set(&d, "target_modules", "null");
	refused(&d, CORE_EFORMAT, "layers.0.self_attn.q_proj: factor A is missing");
	d = draft_new();
	d.tensors = 0;
	set(&d, "target_modules", "null");
	refused(&d, CORE_EFORMAT, "no LoRA factors");
}

static void wrong_shapes_are_refused_by_name(void **state)
{
	static const struct {
		const char *name;
		uint32_t rows, cols;
		const char *word;
	} bad[] = {
		{"model.layers.0.self_attn.q_proj.lora_A.weight", RANK, DIM + 1, "expected [2, 32]"},
		{"model.layers.0.self_attn.q_proj.lora_A.weight", DIM, RANK, "expected [32, 32]"},
		{"model.layers.0.self_attn.q_proj.lora_A.weight", 0, DIM, "not matrices"},
		{"model.layers.0.self_attn.v_proj.lora_B.weight", DIM, RANK, "expected [16, 2]"},
		{"model.layers.0.self_attn.v_proj.lora_B.weight", KV, RANK + 1, "expected [16, 2]"},
		{"model.layers.0.self_attn.v_proj.lora_A.weight", 1025, DIM, "rank 1025: expected 1 to 1024"},
	};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct draft d = draft_new();
		struct draft_tensor *t = tensor(&d, bad[i].name);

		t->rows = bad[i].rows;
		t->cols = bad[i].cols;
		refused(&d, CORE_EFORMAT, bad[i].word);
	}
}

static void numbers_that_are_not_finite_are_refused(void **state)
{
	static const char *const names[] = {"model.layers.1.self_attn.v_proj.lora_A.weight",
					    "model.layers.0.self_attn.q_proj.lora_B.weight"};

	for (int i = 0; i < 4; i++) {
		struct draft d = draft_new();
		struct draft_tensor *t = tensor(&d, names[i % 2]);

		t->fill = i < 2 ? NAN : -INFINITY;
		refused(&d, CORE_EFORMAT, names[i % 2]);
		t->dtype = "BF16";
		refused(&d, CORE_EFORMAT, "not finite");
	}
}

/* A reader of models skips masks and counters of other types; in an adapter a skipped pair would be a silent loss. */
static void a_type_that_is_not_read_is_refused(void **state)
{
	struct draft d = draft_new();

	tensor(&d, "model.layers.0.self_attn.q_proj.lora_A.weight")->dtype = "I16";
	tensor(&d, "model.layers.0.self_attn.q_proj.lora_B.weight")->dtype = "I16";
	set(&d, "target_modules", "null");
	refused(&d, CORE_EUNSUPPORTED, "I16");
}

static void dora_needs_all_its_magnitudes(void **state)
{
	struct draft d = draft_new();

	set(&d, "use_dora", "true");
	refused(&d, CORE_EFORMAT, "lora_magnitude_vector is missing");
	d = draft_new();
	put_tensor(&d, "model.layers.0.self_attn.q_proj.lora_magnitude_vector", 0, DIM);
	refused(&d, CORE_EFORMAT, "use_dora is false, and lora_magnitude_vector is there");
	d = draft_new();
	set(&d, "use_dora", "true");
	for (int layer = 0; layer < LAYERS; layer++)
		for (int v = 0; v < 2; v++) {
			char name[128];

			snprintf(name, sizeof(name), "model.layers.%d.self_attn.%c_proj.lora_magnitude_vector", layer,
				 v ? 'v' : 'q');
			put_tensor(&d, name, 0, v ? KV : DIM);
		}
	accepted(&d);
	put_tensor(&d, "model.embed_tokens.lora_embedding_A", RANK, 67);
	put_tensor(&d, "model.embed_tokens.lora_embedding_B", DIM, RANK);
	set(&d, "target_modules", "null");
	refused(&d, CORE_EUNSUPPORTED, "use_dora on the embedding");
}

static void a_folder_without_its_files_is_refused(void **state)
{
	struct core_adapter *a = NULL;
	struct draft d = draft_new();
	char path[128];

	assert_int_equal(core_adapter_load(&a, model, "nowhere", &why), CORE_EIO);
	accepted(&d);
	snprintf(path, sizeof(path), "%s/adapter_model.safetensors", folder());
	unlink(path);
	assert_int_equal(core_adapter_load(&a, model, folder(), &why), CORE_EIO);
	assert_non_null(strstr(why.text, "adapter_model.safetensors"));
	snprintf(path, sizeof(path), "%s/adapter_config.json", folder());
	unlink(path);
	assert_int_equal(core_adapter_load(&a, model, folder(), &why), CORE_EIO);
	assert_non_null(strstr(why.text, "adapter_config.json"));
}

/* checkpoint-N/adapter_model/: the user is told where it is. */
static void an_adapter_one_folder_deeper_is_refused_with_its_place(void **state)
{
	struct core_adapter *a = NULL;
	char inner[128], path[160];
	FILE *f;

	snprintf(path, sizeof(path), "%s/adapter_config.json", folder());
	unlink(path);
	snprintf(inner, sizeof(inner), "%s/adapter_model", folder());
	snprintf(path, sizeof(path), "%s/adapter_config.json", inner);
	assert_int_equal(mkdir(inner, 0700), 0);
	f = fopen(path, "w");
	assert_non_null(f);
	fclose(f);
	assert_int_equal(core_adapter_load(&a, model, folder(), &why), CORE_EFORMAT);
	assert_non_null(strstr(why.text, "the adapter is in the folder adapter_model"));
	unlink(path);
	rmdir(inner);
}

/* torch.save before 1.6 wrote a row of pickles, not a zip archive. */
static void weights_of_an_old_torch_are_refused_with_the_way_out(void **state)
{
	static const unsigned char magic[] = {0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};
	struct core_adapter *a = NULL;
	struct draft d = draft_new();
	char path[128];
	FILE *f;

	accepted(&d);
	snprintf(path, sizeof(path), "%s/adapter_model.safetensors", folder());
	unlink(path);
	snprintf(path, sizeof(path), "%s/adapter_model.bin", folder());
	f = fopen(path, "wb");
	assert_non_null(f);
	fwrite(magic, sizeof(magic), 1, f);
	fclose(f);
	assert_int_equal(core_adapter_load(&a, model, folder(), &why), CORE_EUNSUPPORTED);
	assert_non_null(strstr(why.text, "before version 1.6"));
	unlink(path);
}

/* ---- GGUF ---- */

struct gguf_draft {
	const char *type, *arch, *adapter;
	bool alpha, alora;
	struct {
		const char *name;
		uint32_t rows, cols, type; /* rows 0: a vector */
	} tensor[4];
	uint64_t tensors;
};

static struct gguf_draft gguf_new(void)
{
	return (struct gguf_draft){
		"adapter", "llama", "lora",
		true,      false,   {{"blk.1.attn_q.weight.lora_a", RANK, DIM, 0}, {"blk.1.attn_q.weight.lora_b", DIM, RANK, 0}},
		2};
}

static int load_gguf(const struct gguf_draft *d)
{
	static struct build b;
	struct core_adapter *a = NULL;
	uint64_t at = 0;
	float one = 1;
	int rc;

	put_head(&b, 3, d->tensors, 3 + d->alpha + d->alora);
	kv_text(&b, "general.type", d->type);
	kv_text(&b, "general.architecture", d->arch);
	kv_text(&b, "adapter.type", d->adapter);
	if (d->alpha)
		kv_f32(&b, "adapter.lora.alpha", 4);
	if (d->alora) {
		kv_array(&b, "adapter.alora.invocation_tokens", 4, 1);
		put_u32(&b, 7);
	}
	for (uint64_t i = 0; i < d->tensors; i++) {
		put_text(&b, d->tensor[i].name);
		put_u32(&b, d->tensor[i].rows ? 2 : 1);
		put_u64(&b, d->tensor[i].cols);
		if (d->tensor[i].rows)
			put_u64(&b, d->tensor[i].rows);
		put_u32(&b, d->tensor[i].type);
		put_u64(&b, at);
		at += ((uint64_t)(d->tensor[i].rows ? d->tensor[i].rows : 1) * d->tensor[i].cols * 4 + 31) & ~31ull;
	}
	while (b.n % 32)
		put(&b, "", 1);
	for (uint64_t i = 0; i < at; i += 4)
		put(&b, &one, 4);
	rc = core_adapter_load(&a, model, build_save(&b), &why);
	if (!rc)
		core_adapter_unref(a);
	return rc;
}

static void gguf_refused(const struct gguf_draft *d, int code, const char *word)
{
	int rc = load_gguf(d);

	if (rc != code || !strstr(why.text, word))
		fail_msg("%d \"%s\": expected %d and \"%s\"", rc, rc ? why.text : "loaded", code, word);
}

static void gguf_adapters_of_other_kinds_are_refused(void **state)
{
	struct gguf_draft d = gguf_new();

	assert_int_equal(load_gguf(&d), CORE_OK);
	d.type = "model";
	gguf_refused(&d, CORE_EUNSUPPORTED, "general.type");
	d = gguf_new();
	d.arch = "gemma";
	gguf_refused(&d, CORE_EUNSUPPORTED, "general.architecture");
	d = gguf_new();
	d.adapter = "lokr";
	gguf_refused(&d, CORE_EUNSUPPORTED, "adapter.type");
	d = gguf_new();
	d.alpha = false;
	gguf_refused(&d, CORE_EFORMAT, "adapter.lora.alpha");
	d = gguf_new();
	d.alora = true;
	gguf_refused(&d, CORE_EUNSUPPORTED, "alora");
}

static void gguf_tensors_that_are_no_pair_are_refused(void **state)
{
	struct gguf_draft d = gguf_new();

	d.tensors = 1;
	gguf_refused(&d, CORE_EFORMAT, "factor B is missing");
	d = gguf_new();
	d.tensor[1].name = "blk.1.attn_qkv.weight.lora_b";
	gguf_refused(&d, CORE_EUNSUPPORTED, "blk.1.attn_qkv.weight.lora_b");
	d = gguf_new();
	d.tensor[1].name = "blk.2.attn_q.weight.lora_b";
	gguf_refused(&d, CORE_EUNSUPPORTED, "no such layer");
	d = gguf_new();
	d.tensor[1].name = "blk.1.attn_q.weight.lora_a";
	gguf_refused(&d, CORE_EFORMAT, "twice");
	d = gguf_new();
	d.tensor[0].type = 2;
	gguf_refused(&d, CORE_EUNSUPPORTED, "Q4_0");
	d = gguf_new();
	d.tensor[1].rows = 30;
	gguf_refused(&d, CORE_EFORMAT, "expected [32, 2]");
	d = gguf_new();
	d.tensor[2].name = "blk.1.ffn_gate.weight";
	d.tensor[2].rows = d.tensor[2].cols = 8;
	d.tensors = 3;
	gguf_refused(&d, CORE_EUNSUPPORTED, "whole weight");
	d.tensor[2].name = "blk.1.attn_norm.weight"; /* tolerated when it is the base's own (plain.gguf has one); this one is not */
	d.tensor[2].rows = 0;
	d.tensor[2].cols = DIM;
	gguf_refused(&d, CORE_EUNSUPPORTED, "not the base's own");
}

static void a_rank_of_one_may_lose_its_dimension(void **state)
{
	struct gguf_draft d = gguf_new();

	d.tensor[0].rows = 0;
	d.tensor[1].cols = 1;
	assert_int_equal(load_gguf(&d), CORE_OK);
}

static int start(void **state)
{
	model = load_model(golden_path("gqa-untied"), CORE_QUANT_NONE);
	return 0;
}

static int stop(void **state)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/adapter_config.json", folder());
	unlink(path);
	snprintf(path, sizeof(path), "%s/adapter_model.safetensors", folder());
	unlink(path);
	rmdir(folder());
	core_model_free(model);
	return build_remove(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_key_that_changes_the_computation_is_refused_by_name),
		cmocka_unit_test(a_key_of_the_wrong_type_is_refused_by_name),
		cmocka_unit_test(keys_that_change_nothing_are_accepted),
		cmocka_unit_test(a_rank_that_the_config_does_not_mean_is_refused),
		cmocka_unit_test(an_expression_that_posix_reads_otherwise_is_refused),
		cmocka_unit_test(targets_and_tensors_must_agree),
		cmocka_unit_test(tensors_that_are_no_lora_pair_are_refused_by_name),
		cmocka_unit_test(a_name_without_the_prefix_is_refused),
		cmocka_unit_test(half_a_pair_is_refused),
		cmocka_unit_test(wrong_shapes_are_refused_by_name),
		cmocka_unit_test(numbers_that_are_not_finite_are_refused),
		cmocka_unit_test(a_type_that_is_not_read_is_refused),
		cmocka_unit_test(dora_needs_all_its_magnitudes),
		cmocka_unit_test(a_folder_without_its_files_is_refused),
		cmocka_unit_test(an_adapter_one_folder_deeper_is_refused_with_its_place),
		cmocka_unit_test(weights_of_an_old_torch_are_refused_with_the_way_out),
		cmocka_unit_test(gguf_adapters_of_other_kinds_are_refused),
		cmocka_unit_test(gguf_tensors_that_are_no_pair_are_refused),
		cmocka_unit_test(a_rank_of_one_may_lose_its_dimension),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
