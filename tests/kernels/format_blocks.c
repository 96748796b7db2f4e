/* The block types against gguf-py's decoder (fixtures/format/blocks.bin), and the 16-bit floats against arithmetic in double. */
#include <math.h>

#include "format_test.h"
#include "kernels/format/blocks.h"

struct golden {
	uint32_t type, bytes, n;
	const uint8_t *blocks;
	float *values;
};

enum { FILE_MAX = 1 << 18 };
static uint8_t file[FILE_MAX];

/* The records of blocks.bin, one call each; false at the end. */
static bool next_golden(size_t *at, size_t size, struct golden *g)
{
	uint32_t head[3];

	if (*at >= size)
		return false;
	assert_true(*at + sizeof head <= size);
	memcpy(head, file + *at, sizeof head);
	*g = (struct golden){head[0], head[1], head[2], file + *at + sizeof head, malloc(head[2] * sizeof(float))};
	assert_true(*at + sizeof head + g->bytes + g->n * sizeof(float) <= size);
	memcpy(g->values, g->blocks + g->bytes, g->n * sizeof(float));
	*at += sizeof head + g->bytes + g->n * sizeof(float);
	return true;
}

static size_t load(void)
{
	FILE *f = fopen(fixture("blocks.bin"), "rb");
	size_t n;

	assert_non_null(f);
	n = fread(file, 1, FILE_MAX, f);
	fclose(f);
	assert_true(n > 0 && n < FILE_MAX);
	return n;
}

/* Same bits, or both NaN: infinite scales make NaN, whose payload is nobody's promise. */
static bool same(float a, float b)
{
	return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

static void every_block_type_decodes_like_gguf_py(void **state)
{
	size_t at = 0, size = load();
	struct golden g;
	int types = 0;

	for (; next_golden(&at, size, &g); types++) {
		float *got = malloc(g.n * sizeof(float));
		assert_int_equal(g.bytes / tensor_type_bytes(g.type) * tensor_type_block(g.type), g.n);
		memset(got, 0x55, g.n * sizeof(float));
		blocks_f32(g.type, g.blocks, g.n, got);
		for (uint32_t i = 0; i < g.n; i++)
			if (!same(got[i], g.values[i]))
				fail_msg("%s element %u: got %a, expected %a", tensor_type_name(g.type), i, (double)got[i],
					 (double)g.values[i]);
		free(got);
		free(g.values);
	}
	assert_int_equal(types, 10);
}

static void codes_scales_and_minima_say_the_same_as_the_values(void **state)
{
	size_t at = 0, size = load();
	struct golden g;

	while (next_golden(&at, size, &g)) {
		struct block_form form;
		uint8_t *codes = malloc(g.n);
		float *scales = malloc(g.n * sizeof(float)), *mins = calloc(g.n, sizeof(float));
		assert_true(blocks_form(g.type, &form));
		blocks_expand(g.type, g.blocks, g.n, codes, scales, form.has_min ? mins : NULL);
		for (uint32_t i = 0; i < g.n; i++) {
			float v = scales[i / form.group] * (float)((int)codes[i] - (int)form.zero);
			if (form.has_min)
				v -= mins[i / form.group];
			assert_true(codes[i] < 1u << form.bits);
			if (!same(v, g.values[i]))
				fail_msg("%s element %u: %a, expected %a", tensor_type_name(g.type), i, (double)v,
					 (double)g.values[i]);
		}
		free(codes);
		free(scales);
		free(mins);
		free(g.values);
	}
}

static void plain_types_are_not_blocks(void **state)
{
	struct block_form form;

	assert_false(blocks_form(TENSOR_F32, &form));
	assert_false(blocks_form(TENSOR_BF16, &form));
	assert_false(blocks_form((enum tensor_type)9, &form));
	assert_null(tensor_type_name((enum tensor_type)9));
	assert_int_equal(tensor_type_block((enum tensor_type)31), 0);
	assert_string_equal(tensor_type_name(TENSOR_Q5_K), "Q5_K");
}

/* ---- 16-bit floats ---- */

/* The value of a format with the given exponent and fraction bits, from its definition. */
static double value_of(uint16_t h, int e_bits, int f_bits)
{
	int bias = (1 << (e_bits - 1)) - 1, e = h >> f_bits & ((1 << e_bits) - 1), f = h & ((1 << f_bits) - 1);
	double v = e == 0 ? ldexp(f, 1 - bias - f_bits) : ldexp((1 << f_bits) + f, e - bias - f_bits);

	if (e == (1 << e_bits) - 1)
		v = f != 0 ? (double)NAN : (double)INFINITY;
	return h >> 15 ? -v : v;
}

static void every_half_and_bf16_reads_by_its_definition(void **state)
{
	for (uint32_t h = 0; h < 65536; h++) {
		double half = value_of((uint16_t)h, 5, 10), bf = value_of((uint16_t)h, 8, 7);
		float a = half_to_float((uint16_t)h), b = bf16_to_float((uint16_t)h);
		if (!same(a, (float)half) || !same(b, (float)bf))
			fail_msg("0x%04x: %a and %a, expected %a and %a", h, (double)a, (double)b, half, bf);
	}
}

static void every_half_and_bf16_survives_the_way_back(void **state)
{
	for (uint32_t h = 0; h < 65536; h++) {
		if (!isnan(half_to_float((uint16_t)h)))
			assert_int_equal(float_to_half(half_to_float((uint16_t)h)), h);
		if (!isnan(bf16_to_float((uint16_t)h)))
			assert_int_equal(float_to_bf16(bf16_to_float((uint16_t)h)), h);
	}
	assert_true(isnan(half_to_float(float_to_half(NAN))));
	assert_true(isnan(bf16_to_float(float_to_bf16(-NAN))));
}

/* Between neighbours x < y: just below the middle gives x, just above gives y, the middle gives the even one. */
static void expect_rounding(uint16_t x, float (*up)(uint16_t), uint16_t (*down)(float))
{
	double middle = ((double)up(x) + (double)up((uint16_t)(x + 1))) / 2;

	assert_int_equal(down(nextafterf((float)middle, 0)), x);
	assert_int_equal(down(nextafterf((float)middle, INFINITY)), x + 1);
	assert_int_equal(down((float)middle), x & 1 ? x + 1 : x);
}

static void rounding_is_to_nearest_even(void **state)
{
	for (uint16_t h = 0; h < 0x7bff; h++)
		expect_rounding(h, half_to_float, float_to_half);
	for (uint16_t h = 1; h < 0x7f7f; h += 7)
		expect_rounding(h, bf16_to_float, float_to_bf16);
	assert_int_equal(float_to_half(65519.996f), 0x7bff);
	assert_int_equal(float_to_half(65520.0f), 0x7c00);
	assert_int_equal(float_to_half(-1e30f), 0xfc00);
	assert_int_equal(float_to_half(-0.0f), 0x8000);
	assert_int_equal(float_to_bf16(3.4e38f), 0x7f80);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_block_type_decodes_like_gguf_py),
		cmocka_unit_test(codes_scales_and_minima_say_the_same_as_the_values),
		cmocka_unit_test(plain_types_are_not_blocks),
		cmocka_unit_test(every_half_and_bf16_reads_by_its_definition),
		cmocka_unit_test(every_half_and_bf16_survives_the_way_back),
		cmocka_unit_test(rounding_is_to_nearest_even),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
