/* One tiny Llama in every container: each loads to the same values, bit for bit. Fixtures: fixtures/make_format.py. */
#include "format_test.h"

static float expected[4096];
static size_t n_expected;

static int read_expected(void **state)
{
	FILE *f = fopen(fixture("expected.f32"), "rb");

	if (f == NULL)
		return -1;
	n_expected = fread(expected, sizeof(float), 4096, f);
	fclose(f);
	return n_expected > 0 ? 0 : -1;
}

static struct checkpoint *open_fixture(const char *name)
{
	struct checkpoint *cp;
	struct core_error err = {0};

	if (checkpoint_open(&cp, fixture(name), &err) < 0)
		fail_msg("%s", err.text);
	return cp;
}

/* All tensors in the order of their names, all rows, must be the expected floats; of_type: of the matrices. */
static void expect_values(const char *name, enum tensor_type of_type)
{
	struct checkpoint *cp = open_fixture(name);
	size_t at = 0;

	for (size_t i = 0; i < checkpoint_count(cp); i++) {
		const struct tensor *t = checkpoint_at(cp, i);
		uint64_t columns = t->dims[t->n_dims - 1], rows = t->n_dims == 2 ? t->dims[0] : 1;
		float row[64];
		if (strstr(t->name, "inv_freq") != NULL)
			continue;
		assert_ptr_equal(checkpoint_find(cp, t->name), t);
		if (t->n_dims == 2)
			assert_int_equal(t->type, of_type);
		for (uint64_t r = 0; r < rows; r++, at += columns) {
			memset(row, 0xff, sizeof row);
			tensor_row_f32(t, r, row);
			assert_true(at + columns <= n_expected);
			if (memcmp(row, expected + at, columns * sizeof(float)) != 0)
				fail_msg("%s: %s row %u: got %g, expected %g ...", name, t->name, (unsigned)r, (double)row[0],
					 (double)expected[at]);
		}
	}
	assert_int_equal(at, n_expected);
	checkpoint_close(cp);
}

static void safetensors_in_one_file(void **state)
{
	expect_values("safetensors_f32", TENSOR_F32);
	expect_values("safetensors_f16", TENSOR_F16);
}

static void safetensors_in_shards(void **state)
{
	expect_values("safetensors_bf16_sharded", TENSOR_BF16);
}

static void torch_in_one_file(void **state)
{
	expect_values("bin_f32", TENSOR_F32);
	expect_values("bin_f16", TENSOR_F16);
}

static void torch_in_shards(void **state)
{
	expect_values("bin_bf16_sharded", TENSOR_BF16);
}

static void gguf_rows_come_back_in_hf_order(void **state)
{
	expect_values("gguf/f32.gguf", TENSOR_F32);
	expect_values("gguf/f16.gguf", TENSOR_F16);
}

static void gguf_in_parts(void **state)
{
	expect_values("gguf/split-00001-of-00002.gguf", TENSOR_F32);
}

static void expect_config(const char *name, bool gguf, const char *model, const char *tokenizer)
{
	struct checkpoint *cp = open_fixture(name);
	const struct llama_config *c = checkpoint_config(cp);

	assert_int_equal(c->layers, 2);
	assert_int_equal(c->dim, 8);
	assert_int_equal(c->ffn_dim, 12);
	assert_int_equal(c->heads, 2);
	assert_int_equal(c->kv_heads, 1);
	assert_int_equal(c->head_dim, 4);
	assert_int_equal(c->vocab, 9);
	assert_int_equal(c->context, 64);
	assert_true(c->norm_eps == 1e-5f);
	assert_true(c->rope_theta == 10000);
	assert_int_equal(c->scaling, ROPE_NONE);
	assert_false(c->tied);
	assert_int_equal(c->bos, 1);
	assert_int_equal(c->eos, 2);
	assert_string_equal(c->name, model);
	assert_int_equal(checkpoint_is_gguf(cp), gguf);
	assert_string_equal(checkpoint_tokenizer_path(cp), fixture(tokenizer));
	assert_null(checkpoint_find(cp, "model.layers.2.mlp.up_proj.weight"));
	checkpoint_close(cp);
}

static void every_container_gives_the_same_config(void **state)
{
	expect_config("safetensors_f32", false, "safetensors_f32", "safetensors_f32/tokenizer.model");
	expect_config("bin_bf16_sharded", false, "bin_bf16_sharded", "bin_bf16_sharded/tokenizer.model");
	expect_config("gguf/f32.gguf", true, "tiny", "gguf/f32.gguf");
}

static void expect_refusal(const char *name, int code, const char *words)
{
	struct checkpoint *cp = (void *)1;
	struct core_error err = {0};

	assert_int_equal(checkpoint_open(&cp, fixture(name), &err), code);
	assert_int_equal(err.code, code);
	assert_null(cp);
	if (strstr(err.text, words) == NULL)
		fail_msg("%s: \"%s\" does not say \"%s\"", name, err.text, words);
}

static void old_torch_format_says_how_to_convert(void **state)
{
	expect_refusal("refused_legacy", CORE_EUNSUPPORTED, "torch.save(torch.load(");
}

static void a_weight_that_is_not_row_major_is_refused_by_name(void **state)
{
	expect_refusal("refused_transposed", CORE_EUNSUPPORTED, "model.layers.0.mlp.up_proj.weight");
}

static void a_pickle_that_calls_a_function_is_refused_by_its_name(void **state)
{
	expect_refusal("refused_call", CORE_EUNSUPPORTED, "system");
	assert_int_equal(access("/tmp/this-must-not-happen", F_OK), -1);
}

static void the_second_part_alone_is_refused(void **state)
{
	expect_refusal("gguf/split-00002-of-00002.gguf", CORE_EFORMAT, "");
}

static void what_is_not_there_is_an_io_error(void **state)
{
	expect_refusal("no-such-model", CORE_EIO, "No such file");
	expect_refusal("gguf", CORE_EIO, "config.json");
	expect_refusal("expected.f32", CORE_EFORMAT, "expected a model folder or a GGUF file");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(safetensors_in_one_file),
		cmocka_unit_test(safetensors_in_shards),
		cmocka_unit_test(torch_in_one_file),
		cmocka_unit_test(torch_in_shards),
		cmocka_unit_test(gguf_rows_come_back_in_hf_order),
		cmocka_unit_test(gguf_in_parts),
		cmocka_unit_test(every_container_gives_the_same_config),
		cmocka_unit_test(old_torch_format_says_how_to_convert),
		cmocka_unit_test(a_weight_that_is_not_row_major_is_refused_by_name),
		cmocka_unit_test(a_pickle_that_calls_a_function_is_refused_by_its_name),
		cmocka_unit_test(the_second_part_alone_is_refused),
		cmocka_unit_test(what_is_not_there_is_an_io_error),
	};
	return cmocka_run_group_tests(tests, read_expected, NULL);
}
