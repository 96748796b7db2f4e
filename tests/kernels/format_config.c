/* config.json: every Llama shape is read; what would not be computed exactly is refused by its key. */
#include <math.h>

#include "format_test.h"
#include "kernels/format/format.h"

#define BASE                                                                                                                       \
	"\"model_type\":\"llama\",\"hidden_size\":16,\"intermediate_size\":24,\"num_hidden_layers\":2,\"num_attention_heads\":4,"  \
	"\"vocab_size\":32"

static int parse(const char *json, struct llama_config *c, struct core_error *err)
{
	char text[2048];

	snprintf(text, sizeof text, json[0] == ',' || json[0] == '\0' ? "{" BASE "%s}" : "%s", json);
	memset(c, 0x55, sizeof *c);
	*err = (struct core_error){0};
	return config_parse(c, text, strlen(text), err);
}

static struct llama_config good(const char *json)
{
	struct llama_config c;
	struct core_error err;

	if (parse(json, &c, &err) < 0)
		fail_msg("%s: %s", json, err.text);
	return c;
}

static void missing_keys_have_transformers_defaults(void **state)
{
	struct llama_config c = good("");

	assert_int_equal(c.kv_heads, 4);
	assert_int_equal(c.head_dim, 4);
	assert_int_equal(c.context, 2048);
	assert_true(c.norm_eps == 1e-6f);
	assert_true(c.rope_theta == 10000);
	assert_int_equal(c.scaling, ROPE_NONE);
	assert_false(c.tied);
	assert_int_equal(c.bos, -1);
	assert_int_equal(c.eos, -1);
	assert_null(c.rope_freqs);
}

static void every_shape_key_is_read(void **state)
{
	struct llama_config c = good(
		",\"num_key_value_heads\":2,\"head_dim\":8,\"max_position_embeddings\":4096,\"rms_norm_eps\":1e-05,\"rope_theta\":"
		"1000000,\"tie_word_embeddings\":true,\"bos_token_id\":1,\"eos_token_id\":[2,7],\"pad_token_id\":0,\"use_cache\":"
		"false,"
		"\"rope_scaling\":null,\"hidden_act\":\"silu\",\"attention_bias\":false,\"mlp_bias\":null,\"architectures\":"
		"[\"LlamaForCausalLM\"],\"quantization_config\":null,\"attention_dropout\":0.0");

	assert_int_equal(c.kv_heads, 2);
	assert_int_equal(c.head_dim, 8);
	assert_int_equal(c.context, 4096);
	assert_true(c.norm_eps == 1e-5f);
	assert_true(c.rope_theta == 1e6f);
	assert_true(c.tied);
	assert_int_equal(c.bos, 1);
	assert_int_equal(c.eos, 2);
}

static void rope_scaling_in_old_and_new_spelling(void **state)
{
	struct llama_config c = good(",\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}");

	assert_int_equal(c.scaling, ROPE_LINEAR);
	assert_true(c.scaling_factor == 2);
	c = good(",\"rope_parameters\":{\"rope_type\":\"llama3\",\"rope_theta\":500000.0,\"factor\":8.0,\"low_freq_factor\":1.0,"
		 "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":8192}");
	assert_int_equal(c.scaling, ROPE_LLAMA3);
	assert_true(c.rope_theta == 500000 && c.scaling_factor == 8 && c.low_freq_factor == 1 && c.high_freq_factor == 4);
	assert_int_equal(c.original_context, 8192);
	c = good(",\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":20000}");
	assert_int_equal(c.scaling, ROPE_NONE);
	assert_true(c.rope_theta == 20000);
}

static void yarn_with_and_without_its_optional_keys(void **state)
{
	struct llama_config c = good(",\"max_position_embeddings\":512,\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4.0}");
	double want;

	assert_int_equal(c.scaling, ROPE_YARN);
	assert_true(c.beta_fast == 32 && c.beta_slow == 1 && c.attention_factor == 0 && c.scaling_factor == 4);
	assert_int_equal(c.original_context, 512);
	c = good(",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4,\"attention_factor\":1.25,\"beta_fast\":16,\"beta_slow\":2,"
		 "\"original_max_position_embeddings\":128}");
	assert_true(c.beta_fast == 16 && c.beta_slow == 2 && c.attention_factor == 1.25f);
	assert_int_equal(c.original_context, 128);
	c = good(",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":40,\"mscale\":1.0,\"mscale_all_dim\":0.5}");
	want = (0.1 * 1.0 * log(40) + 1) / (0.1 * 0.5 * log(40) + 1);
	assert_true(fabs(c.attention_factor - want) < 1e-6);
}

static const struct {
	const char *json;
	int code;
	const char *words;	/* the message must hold them */
} bad[] = {
	{",\"architectures\":[\"MistralForCausalLM\"]", CORE_EUNSUPPORTED, "MistralForCausalLM"},
	{"{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"mixtral\"}", CORE_EUNSUPPORTED, "model_type"},
	{"{\"hidden_size\":16}", CORE_EFORMAT, "architectures"},
	{",\"hidden_act\":\"gelu\"", CORE_EUNSUPPORTED, "hidden_act"},
	{",\"attention_bias\":true", CORE_EUNSUPPORTED, "attention_bias"},
	{",\"mlp_bias\":true", CORE_EUNSUPPORTED, "mlp_bias"},
	{",\"mlp_bias\":1", CORE_EFORMAT, "mlp_bias"},
	{",\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4}", CORE_EUNSUPPORTED, "gptq"},
	{",\"quantization_config\":{}", CORE_EUNSUPPORTED, "quantization_config"},
	{",\"partial_rotary_factor\":0.5", CORE_EUNSUPPORTED, "partial_rotary_factor"},
	{",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2}", CORE_EUNSUPPORTED, "split into passes"},
	{",\"rope_scaling\":{\"rope_type\":\"longrope\",\"factor\":2}", CORE_EUNSUPPORTED, "longrope"},
	{",\"rope_scaling\":{\"factor\":2}", CORE_EFORMAT, "rope_type"},
	{",\"rope_scaling\":{\"type\":\"linear\"}", CORE_EFORMAT, "factor"},
	{",\"rope_scaling\":{\"type\":\"linear\",\"factor\":-1}", CORE_EFORMAT, "factor"},
	{",\"rope_scaling\":{\"type\":\"linear\",\"factor\":\"2\"}", CORE_EFORMAT, "factor"},
	{",\"rope_scaling\":{\"type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,\"high_freq_factor\":4}", CORE_EFORMAT,
	 "high_freq_factor"},
	{",\"rope_scaling\":{\"type\":\"llama3\",\"factor\":8,\"high_freq_factor\":4}", CORE_EFORMAT, "low_freq_factor"},
	{",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":8,\"truncate\":false}", CORE_EUNSUPPORTED, "truncate"},
	{",\"rope_scaling\":2", CORE_EFORMAT, "rope_scaling"},
	{",\"rope_theta\":0", CORE_EFORMAT, "rope_theta"},
	{",\"num_key_value_heads\":3", CORE_EFORMAT, "evenly"},
	{",\"num_key_value_heads\":0", CORE_EFORMAT, "num_key_value_heads"},
	{",\"num_key_value_heads\":8", CORE_EFORMAT, "evenly"},
	{",\"head_dim\":5", CORE_EFORMAT, "head_dim"},
	{",\"head_dim\":4.0", CORE_EFORMAT, "head_dim"},
	{",\"rms_norm_eps\":0", CORE_EFORMAT, "rms_norm_eps"},
	{",\"bos_token_id\":\"1\"", CORE_EFORMAT, "bos_token_id"},
	{",\"eos_token_id\":-7", CORE_EFORMAT, "eos_token_id"},
	{",\"vocab_size\":64", CORE_EFORMAT, "uplicate"},
	{"{\"model_type\":\"llama\",\"hidden_size\":16}", CORE_EFORMAT, "num_hidden_layers"},
	{"{\"model_type\":\"llama\",\"num_hidden_layers\":9223372036854775807}", CORE_EFORMAT, "num_hidden_layers"},
	{"{\"model_type\":\"llama\",\"num_hidden_layers\":99999999999999999999}", CORE_EFORMAT, "JSON"},
	{"{\"model_type\":\"llama\",\"num_hidden_layers\":2,\"hidden_size\":10,\"intermediate_size\":4,\"num_attention_heads\":4,"
	 "\"vocab_size\":9}",
	 CORE_EFORMAT, "multiple"},
	{"[]", CORE_EFORMAT, "object"},
	{"nonsense", CORE_EFORMAT, "JSON"},
	{"{\"model_type\":\"llama\"", CORE_EFORMAT, "JSON"},
};

static void what_is_not_exact_is_refused_by_its_key(void **state)
{
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct llama_config c;
		struct core_error err;
		int code = parse(bad[i].json, &c, &err);
		if (code != bad[i].code || err.code != code || strstr(err.text, bad[i].words) == NULL ||
		    strstr(err.text, "config.json") == NULL)
			fail_msg("%s: code %d \"%s\", expected %d and \"%s\"", bad[i].json, code, err.text, bad[i].code,
				 bad[i].words);
	}
}

static void an_empty_file_is_refused(void **state)
{
	struct llama_config c;
	struct core_error err = {0};

	assert_int_equal(config_parse(&c, NULL, 0, &err), CORE_EFORMAT);
}

static void messages_are_plain_text_whatever_the_file_holds(void **state)
{
	struct llama_config c;
	struct core_error err;

	assert_int_equal(parse(",\"hidden_act\":\"a\\u0001\\n\\u00e9\\u007f\"", &c, &err), CORE_EUNSUPPORTED);
	assert_non_null(strstr(err.text, "a??\u00e9?"));
	core_fail(&err, CORE_EFORMAT, "%s", "cut \xe2\x82");
	assert_string_equal(err.text, "cut ??");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(missing_keys_have_transformers_defaults),
		cmocka_unit_test(every_shape_key_is_read),
		cmocka_unit_test(rope_scaling_in_old_and_new_spelling),
		cmocka_unit_test(yarn_with_and_without_its_optional_keys),
		cmocka_unit_test(what_is_not_exact_is_refused_by_its_key),
		cmocka_unit_test(an_empty_file_is_refused),
		cmocka_unit_test(messages_are_plain_text_whatever_the_file_holds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
