/* ops_bits.c: the operators compute the bits that CORE_BITS stands for. An answer that was cut off goes on only where these bits are the
 * same, so whoever changes them raises CORE_BITS, and puts the new digest here. (The other tests hold every instruction set to the plain
 * operators; what is hashed here needs no function of the C library but sqrt and fma, which are exact everywhere.) */
#include "ops_test.h"
#include <sodium.h>

static const char *const known[] = {
	[2] = "438d87d9ce9f6c536522c29076e7821c",
	[3] = "438d87d9ce9f6c536522c29076e7821c", /* 2's, and known_prompts */
};
static const char known_prompts[] = "2f3292610efa0c8880ccfacab7c19daf";

/* Of what AMX computes in place of some of them; whoever changes that raises CORE_BITS_TILES. */
static const char known_tiles[] = "6cedb7256d8391d60c8dd77dbf9d27b3";

static crypto_generichash_state all;

static void begin(void)
{
	crypto_generichash_init(&all, NULL, 0, 16);
}

/* Of what was taken since begin(). version: as it is called in core.h. */
static void is_known(const char *known_hex, const char *what, const char *version)
{
	unsigned char digest[16];
	char hex[33];

	crypto_generichash_final(&all, digest, sizeof(digest));
	sodium_bin2hex(hex, sizeof(hex), digest, sizeof(digest));
	if (!known_hex || strcmp(hex, known_hex))
		fail_msg("the bits of %s are %s: not those of this %s. Was that intended? Then raise it (core.h).", what, hex, version);
}

static void take(const void *p, size_t n)
{
	crypto_generichash_update(&all, p, n);
}

static void take_product(enum tensor_type type, enum pack_form form)
{
	enum { ROWS = 40, COLS = 768 };
	float x[COLS], out[48];
	int8_t q[COLS];
	int32_t sum[COLS / 16];
	float scale[COLS / 16];
	struct rows rows = { .f = x, .ld = COLS, .q = q, .ldq = COLS, .scale = scale, .sum = sum };
	struct tensor t = random_tensor(type, ROWS, COLS);
	struct matrix w;

	pack_whole(&w, &t, form);
	fill_hard(x, COLS);
	if (w.kind == PACK_INT)
		quantize_plain(q, scale, sum, x, COLS, w.kpad, w.group);
	for (uint32_t b = 0; b < w.blocks; b++)
		matmul_plain(out, 0, &w, &rows, 1, b, b + 1);
	take(out, ROWS * sizeof(float));
	free(w.codes);
	free((void *)t.data);
}

static void take_tiles(enum tensor_type type, enum pack_form form)
{
	enum { ROWS = 40, COLS = 768 };
	static uint16_t hi[TILES_ROWS * 17 * 32 * TILES_K], lo[TILES_ROWS * 17 * 32 * TILES_K];
	struct planes planes = { hi, lo, tiles_depth(COLS), tiles_stride(tiles_depth(COLS)) };
	struct tensor t = random_tensor(type, ROWS, COLS);
	float x[COLS], out[48];
	struct matrix w;

	assert_true(planes.stride * TILES_ROWS <= sizeof(hi) / sizeof(hi[0]));
	pack_whole(&w, &t, form);
	fill_hard(x, COLS);
	split_plain(&planes, 0, x, COLS);
	tiles_plain(out, 0, &w, &planes, 1, 0, w.blocks, NULL);
	take(out, ROWS * sizeof(float));
	free(w.codes);
	free((void *)t.data);
}

/* prompt: NULL, or what prompt rows have. */
static void take_attention(enum kv_kind kind, attention_fn *prompt)
{
	enum { DIM = 80, KEYS = 131, PAGES = (KEYS + PAGE - 1) / PAGE };
	size_t page = (size_t)PAGE * 2 * DIM * kv_value_bytes(kind) + (kind == KV_INT8 ? 2 * PAGE * sizeof(float) : 0);
	uint32_t table[PAGES];
	unsigned char *pool = poisoned(page * PAGES);
	struct kv_view kv = { pool, page, table, DIM, DIM, kind };
	float q[3 * DIM], k[DIM], v[DIM], out[3 * DIM];

	for (uint32_t i = 0; i < PAGES; i++)
		table[i] = PAGES - 1 - i;
	for (uint32_t t = 0; t < KEYS; t++) {
		fill_hard(k, DIM);
		fill_hard(v, DIM);
		kv_store_plain(&kv, t, k, v);
	}
	fill_hard(q, 3 * DIM);
	if (prompt)
		prompt(&(struct attention_tile){ .kv = kv, .rows = 1, .heads = 3, .n_keys = KEYS, .q = { q }, .out = { out } });
	else
		attention_plain(out, q, 3, &kv, KEYS);
	take(out, sizeof(out));
	free(pool);
}

static void take_rows(void)
{
	enum { N = 500 };
	float a[N], b[N], out[N];

	fill_hard(a, N);
	fill_hard(b, N);
	rmsnorm_plain(out, a, b, N, 1e-5f);
	take(out, sizeof(out));
	swiglu_plain(out, a, b, N);
	take(out, sizeof(out));
}

static void the_operators_compute_the_bits_of_core_bits(void **state)
{
	begin();
	for (int i = 0; i < N_TYPES && all_types[i] != TENSOR_NF4; i++)
		take_product(all_types[i], PACK_KEEP);
	take_product(TENSOR_F32, PACK_Q8);
	take_product(TENSOR_F32, PACK_Q4);
	take_product(TENSOR_F32, PACK_FACTOR);
	take_attention(KV_F32, NULL);
	take_attention(KV_F16, NULL);
	take_attention(KV_INT8, NULL);
	take_rows();
	take_product(TENSOR_NF4, PACK_KEEP);	/* the last: a kind that came later */
	is_known(CORE_BITS < sizeof(known) / sizeof(known[0]) ? known[CORE_BITS] : NULL, "the operators", "CORE_BITS");
}

static void tiles_and_prompts_attention_compute_the_bits_of_core_bits_tiles(void **state)
{
	begin();
	take_tiles(TENSOR_BF16, PACK_KEEP);
	take_tiles(TENSOR_F16, PACK_KEEP);
	take_tiles(TENSOR_F32, PACK_Q8);
	take_tiles(TENSOR_F32, PACK_Q4);
	take_tiles(TENSOR_NF4, PACK_KEEP);
	take_attention(KV_F16, attention_prompt_plain);
	take_attention(KV_INT8, attention_prompt_plain);
	is_known(known_tiles, "AMX", "CORE_BITS_TILES");
}

/* The last: what came later draws its numbers later. */
static void prompt_rows_compute_the_bits_of_core_bits(void **state)
{
	begin();
	take_attention(KV_F16, attention_words_plain);
	take_attention(KV_INT8, attention_words_plain);
	is_known(known_prompts, "prompt rows", "CORE_BITS");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_operators_compute_the_bits_of_core_bits),
		cmocka_unit_test(tiles_and_prompts_attention_compute_the_bits_of_core_bits_tiles),
		cmocka_unit_test(prompt_rows_compute_the_bits_of_core_bits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
