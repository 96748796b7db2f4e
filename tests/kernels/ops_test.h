/* ops_test.h: numbers for operator tests: seeded, with outliers and zeros; and buffers that show who wrote where. */
#ifndef WEFT_OPS_TEST_H
#define WEFT_OPS_TEST_H

#include "core_test.h"
#include "hard_numbers.h"
#include "kernels/format/blocks.h"
#include "kernels/format/nf4.h"
#include "kernels/ops/ops.h"
#include "kernels/pack.h"

static inline const struct ops *ops_named(const char *cpu)
{
	for (int i = CORE_CPU_PLAIN; i <= CORE_CPU_AMX; i++)
		if (!strcmp(cpu, core_cpu_name((enum core_cpu)i)))
			return ops_for((enum core_cpu)i);
	fail_msg("no instruction set %s", cpu);
	return NULL;
}

static inline void fill_hard(float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		x[i] = random_hard();
}

/* 64-byte aligned, filled with 0xff: NaNs as floats. */
static inline void *poisoned(size_t bytes)
{
	void *p = NULL;

	assert_int_equal(posix_memalign(&p, 64, bytes + 64), 0);
	memset(p, 0xff, bytes + 64);
	return p;
}

static const enum tensor_type all_types[] __attribute__((unused)) = {
	TENSOR_F32, TENSOR_F16, TENSOR_BF16, TENSOR_Q4_0, TENSOR_Q4_1, TENSOR_Q5_0, TENSOR_Q5_1, TENSOR_Q8_0,
	TENSOR_Q2_K, TENSOR_Q3_K, TENSOR_Q4_K, TENSOR_Q5_K, TENSOR_Q6_K, TENSOR_NF4
};
enum { N_TYPES = sizeof(all_types) / sizeof(all_types[0]) };

/* Codes, and in the same memory their scales: double quantisation, or absmax. */
static inline struct tensor random_nf4(uint32_t rows, uint32_t cols, bool nested)
{
	struct tensor t = { .name = "NF4", .type = TENSOR_NF4, .n_dims = 2, .dims = { rows, cols }, .bytes = (uint64_t)rows * cols / 2 };
	uint64_t blocks = (uint64_t)rows * cols / NF4_BLOCK, n = nested ? (blocks + NF4_NESTED - 1) / NF4_NESTED : blocks;
	unsigned char *data = malloc(t.bytes + sizeof(struct nf4) + n * sizeof(float) + blocks);
	struct nf4 *s = (struct nf4 *)(data + t.bytes);	/* a row is at least 32 bytes */
	float *floats = (float *)(s + 1);
	unsigned char *absmax8 = (unsigned char *)(floats + n);

	for (uint64_t i = 0; i < t.bytes; i++)
		data[i] = (unsigned char)random_bits();
	for (uint64_t i = 0; i < n; i++)
		floats[i] = random_unit();
	for (uint64_t i = 0; i < blocks; i++)
		absmax8[i] = (unsigned char)random_bits();
	*s = (struct nf4){ .nested = nested, .absmax8 = absmax8, .floats = floats, .offset = 0.3f };
	memcpy(s->map, nf4_map, sizeof(s->map));
	t.data = data;
	t.nf4 = s;
	return t;
}

/* A tensor of random contents; free data. */
static inline struct tensor random_tensor(enum tensor_type type, uint32_t rows, uint32_t cols)
{
	struct tensor t = { .name = tensor_type_name(type), .type = type, .n_dims = 2, .dims = { rows, cols } };
	unsigned char *data;

	if (type == TENSOR_NF4)
		return random_nf4(rows, cols, true);
	t.bytes = (uint64_t)rows * cols / tensor_type_block(type) * tensor_type_bytes(type);
	t.data = data = malloc(t.bytes);
	for (uint64_t i = 0; i < t.bytes; i += tensor_type_bytes(type)) {
		float f = random_unit();
		uint16_t h = type == TENSOR_F16 ? float_to_half(f) : float_to_bf16(f);

		if (type == TENSOR_F32)
			memcpy(data + i, &f, 4);
		else if (type == TENSOR_F16 || type == TENSOR_BF16)
			memcpy(data + i, &h, 2);
		else {
			for (unsigned k = 0; k < tensor_type_bytes(type); k++)
				data[i + k] = (unsigned char)random_bits();
			put_factors(type, data + i);
		}
	}
	return t;
}

static inline void pack_whole(struct matrix *w, const struct tensor *t, enum pack_form form)
{
	unsigned char *memory;

	pack_plan(w, t, form);
	memory = poisoned(pack_bytes(w));
	memset(memory, 0, pack_bytes(w));
	pack_place(w, memory);
	must(pack_blocks(w, t, form, 0, w->blocks, &why));
}

#endif
