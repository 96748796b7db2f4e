/* nf4.c: NF4 is what bitsandbytes makes of it: the values of what it saved, and the bytes of what it quantises (fixtures/make_nf4.py). */
#include <errno.h>
#include <sodium.h>
#include <sys/stat.h>

#include "core_test.h"
#include "kernels/format/nf4.h"
#include "kernels/model.h"
#include "kernels/quant_nf4.h"

static const char *source(const char *name)
{
	static char paths[4][600];
	static unsigned next;
	const char *top = getenv("top_srcdir");
	char *p = paths[next++ % 4];

	snprintf(p, sizeof(paths[0]), "%s/tests/%s", top ? top : ".", name);
	return p;
}

static struct checkpoint *open_model(const char *path)
{
	struct checkpoint *cp;

	must(checkpoint_open(&cp, path, &why));
	return cp;
}

static void digest_is(crypto_generichash_state *h, const char *want, const char *what)
{
	unsigned char digest[32];
	char hex[65];

	crypto_generichash_final(h, digest, sizeof(digest));
	sodium_bin2hex(hex, sizeof(hex), digest, sizeof(digest));
	if (strcmp(hex, want))
		fail_msg("%s: not what bitsandbytes has", what);
}

/* ---- reading ---- */

static void what_bitsandbytes_saved_has_its_values(void **state)
{
	struct checkpoint *cp = open_model(source("kernels/fixtures/nf4/model"));
	FILE *f = fopen(source("kernels/fixtures/nf4/values.txt"), "r");
	char name[128], want[65];
	int n = 0;

	assert_non_null(f);
	for (; fscanf(f, "%127s %64s", name, want) == 2; n++) {
		const struct tensor *t = checkpoint_find(cp, name);
		crypto_generichash_state h;
		float row[128];

		assert_non_null(t);
		assert_int_equal(t->type, TENSOR_NF4);
		assert_int_equal(t->nf4->nested, strstr(name, ".layers.0.") != NULL);
		crypto_generichash_init(&h, NULL, 0, 32);
		for (uint64_t r = 0; r < t->dims[0]; r++) {
			memset(row, 0xff, sizeof(row));
			tensor_row_f32(t, r, row);
			crypto_generichash_update(&h, (const unsigned char *)row, t->dims[1] * sizeof(float));
		}
		digest_is(&h, want, name);
	}
	assert_int_equal(n, 14);
	assert_int_equal(checkpoint_count(cp), 14 + 3 + 4);
	fclose(f);
	checkpoint_close(cp);
}

static void a_model_of_it_says_what_it_is_and_stays_so_under_nf4(void **state)
{
	struct core_model *kept = load_model(source("kernels/fixtures/nf4/model"), CORE_QUANT_NONE),
			  *asked = load_model(source("kernels/fixtures/nf4/model"), CORE_QUANT_NF4),
			  *q8 = load_model(source("kernels/fixtures/nf4/model"), CORE_QUANT_Q8);

	assert_string_equal(core_model_info(kept)->quant, "bitsandbytes(nf4,bf16)");
	assert_string_equal(core_model_info(kept)->digest, core_model_info(asked)->digest);
	assert_string_not_equal(core_model_info(kept)->digest, core_model_info(q8)->digest);
	assert_int_equal(kept->layers[0].gate.kind, PACK_NF4);
	assert_true(kept->layers[0].gate.two_level);
	assert_false(kept->layers[1].gate.two_level);
	assert_false(kept->small_factors);	/* its products are exact: so are the adapters' beside it */
	core_model_free(kept);
	core_model_free(asked);
	core_model_free(q8);
}

/* ---- quantising ---- */

static void the_demo_model_becomes_the_bytes_that_bitsandbytes_makes_of_it(void **state)
{
	struct checkpoint *cp = open_model(source("demo/model"));
	FILE *f = fopen(source("kernels/fixtures/nf4/demo.txt"), "r");
	char name[128], codes[65], scales[65];
	int n = 0;

	assert_non_null(f);
	for (; fscanf(f, "%127s %64s %64s", name, codes, scales) == 3; n++) {
		const struct tensor *t = checkpoint_find(cp, name);
		uint64_t blocks = t->dims[0] * t->dims[1] / NF4_BLOCK;
		crypto_generichash_state h;
		struct nf4_matrix m;

		nf4_init(&m, t);
		must(nf4_room(&m, &why));
		must(nf4_rows(&m, 0, 33, &why));
		must(nf4_rows(&m, 33, t->dims[0], &why));
		nf4_scales(&m);
		crypto_generichash_init(&h, NULL, 0, 32);
		crypto_generichash_update(&h, m.codes, t->dims[0] * t->dims[1] / 2);
		digest_is(&h, codes, name);
		crypto_generichash_init(&h, NULL, 0, 32);
		crypto_generichash_update(&h, m.absmax8, blocks);
		crypto_generichash_update(&h, (unsigned char *)m.nested, (blocks + NF4_NESTED - 1) / NF4_NESTED * sizeof(float));
		crypto_generichash_update(&h, (unsigned char *)&m.s.offset, sizeof(float));
		digest_is(&h, scales, name);
		nf4_finish(&m);
	}
	assert_int_equal(n, 28);
	fclose(f);
	checkpoint_close(cp);
}

static void zeros_stay_zeros_and_what_is_not_finite_is_refused_by_row(void **state)
{
	float x[3 * 64] = { 0 }, row[64];
	struct tensor t = { .name = "zeros", .type = TENSOR_F32, .n_dims = 2, .dims = { 3, 64 }, .data = x, .bytes = sizeof(x) };
	struct nf4_matrix m;

	x[64 + 5] = 3;
	nf4_init(&m, &t);
	must(nf4_room(&m, &why));
	must(nf4_rows(&m, 0, 3, &why));
	nf4_scales(&m);
	for (int r = 0; r < 3; r += 2) {
		tensor_row_f32(&m.t, (uint64_t)r, row);
		for (int k = 0; k < 64; k++)
			assert_true(row[k] == 0);
	}
	tensor_row_f32(&m.t, 1, row);
	assert_true(fabsf(row[5] - 3) < 0.03f && row[6] == 0);
	x[128] = INFINITY;
	assert_int_equal(nf4_rows(&m, 0, 3, &why), CORE_EFORMAT);
	assert_non_null(strstr(why.text, "row 2"));
	x[128] = NAN;
	assert_int_equal(nf4_rows(&m, 2, 3, &why), CORE_EFORMAT);
	nf4_finish(&m);
}

static void rows_that_are_not_whole_blocks_are_refused_by_name(void **state)
{
	struct core_model_params p = { .path = golden_path("odd-sizes"), .quant = CORE_QUANT_NF4 };
	struct core_model *m;

	assert_int_equal(core_model_load(&m, &p, &why), CORE_EUNSUPPORTED);
	assert_non_null(strstr(why.text, "model.layers.0.self_attn.q_proj.weight"));
	assert_non_null(strstr(why.text, "blocks of 64"));
}

/* ---- damage ---- */

static char dir[64];

static int make_dir(void **state)
{
	snprintf(dir, sizeof(dir), "nf4-damage-%d", (int)getpid());
	return mkdir(dir, 0777) < 0 && errno != EEXIST ? -1 : 0;
}

static int remove_dir(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

static unsigned char *slurp(const char *name, size_t *n)
{
	FILE *f = fopen(name, "rb");
	unsigned char *data = malloc(1 << 18);

	assert_non_null(f);
	*n = fread(data, 1, 1 << 18, f);
	fclose(f);
	return data;
}

static unsigned char *first_of(unsigned char *data, size_t n, const void *what, size_t len)
{
	for (size_t i = 0; i + len <= n; i++)
		if (!memcmp(data + i, what, len))
			return data + i;
	fail_msg("the fixture does not hold what is to be changed");
	return NULL;
}

/* A file of the model, with the first `from` in it turned into `to`, of the same length. */
static void copy_with(const char *name, const void *from, const void *to, size_t len)
{
	char path[128], whole[64];
	size_t n;
	unsigned char *data;
	FILE *f;

	snprintf(whole, sizeof(whole), "kernels/fixtures/nf4/model/%s", name);
	data = slurp(source(whole), &n);
	memcpy(first_of(data, n, from, len), to, len);
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, n, f), n);
	fclose(f);
	free(data);
}

static void is_refused(int code, const char *words)
{
	struct checkpoint *cp;

	assert_int_equal(checkpoint_open(&cp, dir, &why), code);
	if (!strstr(why.text, words))
		fail_msg("\"%s\" does not say \"%s\"", why.text, words);
}

static void what_is_not_nf4_or_not_whole_is_refused_by_name(void **state)
{
	static const struct {
		const char *from, *to;
		int code;
		const char *words;
	} cases[] = {
		{ "bitsandbytes__nf4", "bitsandbytes__fp4", CORE_EUNSUPPORTED, "fp4: only nf4 is read" },
		{ "\"quant_type\": \"nf4\"", "\"quant_type\": \"fp4\"", CORE_EUNSUPPORTED, "blocks of 64" },
		{ "\"blocksize\": 64", "\"blocksize\": 32", CORE_EUNSUPPORTED, "blocks of 64" },
		{ "\"nested_blocksize\": 256", "\"nested_blocksize\": 128", CORE_EFORMAT, "nested parts" },
		{ "\"nested_offset\"", "\"nested_offzet\"", CORE_EFORMAT, "nested parts" },
		{ "weight.nested_absmax", "weight.nestet_absmax", CORE_EFORMAT, "nested parts" },
		{ "weight.nested_quant_map", "weight.nestet_quant_map", CORE_EFORMAT, "nested parts" },
		{ "weight.absmax", "weight.abzmax", CORE_EFORMAT, "nested parts" },
		{ "weight.quant_map", "weight.quant_mop", CORE_EUNSUPPORTED, "quant_map" },
		{ "\"shape\": [64, 128]", "\"shape\": [32, 128]", CORE_EFORMAT, "do not fit" },
		{ "\"shape\": [64, 128]", "\"shape\": [128, 64]", CORE_EFORMAT, "the config says [64, 128]" },
		{ "\"shape\": [64, 128]", "\"shape\": [256, 32]", CORE_EUNSUPPORTED, "whole blocks" },
		{ "\"shape\": [64, 128]", "\"shape\": [-64,128]", CORE_EFORMAT, "two sizes" },
		{ "\"quant_type\"", "\"quant_type'", CORE_EFORMAT, "JSON" },
		{ "quant_state.bits", "quant_stale.bits", CORE_EUNSUPPORTED, "without its quant_state" },
	};
	const float zero = 0, tiny = 1e-9f;

	copy_with("config.json", "", "", 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(strlen(cases[i].from), strlen(cases[i].to));
		copy_with("model.safetensors", cases[i].from, cases[i].to, strlen(cases[i].from));
		is_refused(cases[i].code, cases[i].words);
	}
	copy_with("model.safetensors", (float[]){ -0.09105003625154495f, zero }, (float[]){ -0.09105003625154495f, tiny }, 8);
	is_refused(CORE_EUNSUPPORTED, "code book");
}

static void a_config_of_anything_but_nf4_is_refused_by_its_key(void **state)
{
	static const struct {
		const char *from, *to, *words;
	} cases[] = {
		{ "\"bnb_4bit_quant_type\": \"nf4\"", "\"bnb_4bit_quant_type\": \"fp4\"", "bnb_4bit_quant_type fp4" },
		{ "\"bnb_4bit_quant_type\"", "\"bnb_4bit_quant_tipe\"", "fp4 (transformers' default)" },
		{ "\"load_in_4bit\": true", "\"load_in_4bit\": null", "load_in_4bit" },
		{ "\"quant_method\": \"bitsandbytes\"", "\"quant_method\": \"bitsandbites\"", "bitsandbites" },
	};

	copy_with("model.safetensors", "", "", 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		copy_with("config.json", cases[i].from, cases[i].to, strlen(cases[i].from));
		is_refused(CORE_EUNSUPPORTED, cases[i].words);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_bitsandbytes_saved_has_its_values),
		cmocka_unit_test(a_model_of_it_says_what_it_is_and_stays_so_under_nf4),
		cmocka_unit_test(the_demo_model_becomes_the_bytes_that_bitsandbytes_makes_of_it),
		cmocka_unit_test(zeros_stay_zeros_and_what_is_not_finite_is_refused_by_row),
		cmocka_unit_test(rows_that_are_not_whole_blocks_are_refused_by_name),
		cmocka_unit_test_setup_teardown(what_is_not_nf4_or_not_whole_is_refused_by_name, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(a_config_of_anything_but_nf4_is_refused_by_its_key, make_dir, remove_dir),
	};

	return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
