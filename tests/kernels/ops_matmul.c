/* ops_matmul.c: packed matrices mean what the file means, and every instruction set multiplies them to the same bits. */
#include "ops_test.h"
#include "kernels/ops/guest.h"

struct activations {
	struct rows rows;
	float *f;
	int8_t *q;
	float *scale;
	int32_t *sum;
};

static struct activations make_rows(const struct matrix *w, uint32_t m)
{
	struct activations a;
	uint32_t ld = (w->kpad + 15) / 16 * 16, ldq = w->kpad + 48, groups = w->groups ? w->groups : 1;

	a.f = calloc((size_t)m * ld, sizeof(float));
	a.q = poisoned((size_t)m * ldq);
	a.scale = poisoned((size_t)m * groups * sizeof(float));
	a.sum = poisoned((size_t)m * groups * sizeof(int32_t));
	for (uint32_t i = 0; i < m; i++) {
		fill_hard(a.f + (size_t)i * ld, w->cols);
		if (w->groups)
			quantize_plain(a.q + (size_t)i * ldq, a.scale + (size_t)i * groups, a.sum + (size_t)i * groups,
				       a.f + (size_t)i * ld, w->cols, w->kpad, w->group);
	}
	a.rows = (struct rows){ a.f, ld, a.q, ldq, a.scale, a.sum, NULL };
	return a;
}

static void free_rows(struct activations *a)
{
	free(a->f);
	free(a->q);
	free(a->scale);
	free(a->sum);
}

static float *multiply(const struct ops *ops, const struct matrix *w, const struct activations *a, uint32_t m, size_t ldo)
{
	float *out = poisoned(m * ldo * sizeof(float));
	struct rows rows = a->rows;
	struct guest guest;

	/* What is fetched meanwhile changes nothing: two runs, in as many calls as there are. */
	guest_none(&guest);
	guest_add(&guest, a->f, 1000);
	guest_add(&guest, w->codes, matrix_block_bytes(w));
	guest.calls = (w->blocks + MATMUL_CHUNK - 1) / MATMUL_CHUNK;
	rows.guest = m % 2 ? &guest : NULL;
	for (uint32_t b = 0; b < w->blocks; b += MATMUL_CHUNK)
		ops->matmul(out, ldo, w, &rows, m, b, b + MATMUL_CHUNK < w->blocks ? b + MATMUL_CHUNK : w->blocks);
	return out;
}

static void same_bits(const struct matrix *w, uint32_t m, const char *what)
{
	struct activations a = make_rows(w, m);
	size_t ldo = w->blocks * LANES + 16;	/* the last 16 are nobody's */
	float *want = multiply(ops_for(CORE_CPU_PLAIN), w, &a, m, ldo);

	for (const char *const *cpu = cpus_here() + 1; *cpu; cpu++) {
		float *got = multiply(ops_named(*cpu), w, &a, m, ldo);

		for (size_t i = 0; i < m * ldo; i++)
			if (memcmp(&got[i], &want[i], 4))
				fail_msg("%s (%u x %u), %u rows, %s: [%zu][%zu] is %a, plain gives %a", what, w->rows, w->cols, m,
					 *cpu, i / ldo, i % ldo, got[i], want[i]);
		free(got);
	}
	/* and a row's result does not depend on the other rows */
	for (uint32_t i = 0; i < m; i++) {
		struct activations one = a;
		float *alone;

		one.rows.f += i * a.rows.ld;
		one.rows.q += i * a.rows.ldq;
		one.rows.scale += (size_t)i * w->groups;
		one.rows.sum += (size_t)i * w->groups;
		alone = multiply(ops_for(CORE_CPU_PLAIN), w, &one, 1, ldo);
		assert_memory_equal(alone, want + i * ldo, ldo * sizeof(float));
		free(alone);
		if (m > 8)
			i += 6;
	}
	free(want);
	free_rows(&a);
}

/* out += product: the bits of the product, added once; over more blocks at a time than a product takes. */
static void adds_to_the_same_bits(const struct matrix *w, uint32_t m, const char *what)
{
	struct activations a = make_rows(w, m);
	size_t ldo = w->blocks * LANES + 16;
	float *product = multiply(ops_for(CORE_CPU_PLAIN), w, &a, m, ldo), *before = malloc(m * ldo * sizeof(float));

	fill_hard(before, m * ldo);
	for (const char *const *cpu = cpus_here(); *cpu; cpu++) {
		float *got = malloc(m * ldo * sizeof(float));

		memcpy(got, before, m * ldo * sizeof(float));
		ops_named(*cpu)->matmul_add(got, ldo, w, &a.rows, m, 0, w->blocks);
		for (size_t i = 0; i < m * ldo; i++) {
			float want = i % ldo < w->blocks * LANES ? before[i] + product[i] : before[i];

			if (memcmp(&got[i], &want, 4))
				fail_msg("%s (%u x %u), %u rows, %s: += at [%zu][%zu] gives %a, expected %a", what, w->rows, w->cols, m,
					 *cpu, i / ldo, i % ldo, got[i], want);
		}
		free(got);
	}
	free(product);
	free(before);
	free_rows(&a);
}

/* Rows far apart and in any order give the bits of rows that lie together; nothing else is written. */
static void few_rows_anywhere_give_the_same_bits(const struct matrix *w, uint32_t m, const char *what)
{
	struct activations a = make_rows(w, m);
	size_t ldo = w->blocks * LANES + 16;
	float *product = multiply(ops_for(CORE_CPU_PLAIN), w, &a, m, ldo), *before = malloc(m * ldo * sizeof(float));

	fill_hard(before, m * ldo);
	for (const char *const *cpu = cpus_here(); *cpu; cpu++)
		for (int add = 0; add < 2; add++) {
			float *got = malloc(m * ldo * sizeof(float)), *out[MATMUL_FEW];
			const float *x[MATMUL_FEW];

			memcpy(got, before, m * ldo * sizeof(float));
			for (uint32_t i = 0; i < m; i++) {	/* the last row first */
				x[i] = a.rows.f + (m - 1 - i) * a.rows.ld;
				out[i] = got + (m - 1 - i) * ldo;
			}
			ops_named(*cpu)->matmul_few(out, (const struct matrix *const[]){ w, w, w, w }, x, m, 0, w->blocks, add);
			for (size_t i = 0; i < m * ldo; i++) {
				float want = i % ldo >= w->blocks * LANES ? before[i] : add ? before[i] + product[i] : product[i];

				if (memcmp(&got[i], &want, 4))
					fail_msg("%s (%u x %u), %u rows, %s, add %d: [%zu][%zu] is %a, expected %a", what, w->rows,
						 w->cols, m, *cpu, add, i / ldo, i % ldo, got[i], want);
			}
			free(got);
		}
	free(product);
	free(before);
	free_rows(&a);
}

static void all_counts(const struct matrix *w, const char *what)
{
	static const uint32_t counts[] = { 1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 16, 17, 29, 32, 49, 65 };

	for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		same_bits(w, counts[i], what);
	for (uint32_t m = 1; m <= 25 && w->kind != PACK_INT && w->kind != PACK_NF4; m += m < 4 ? 1 : 7)
		adds_to_the_same_bits(w, m, what);
	for (uint32_t m = 1; m <= MATMUL_FEW && w->kind != PACK_INT && w->kind != PACK_NF4; m++)
		few_rows_anywhere_give_the_same_bits(w, m, what);
}

/* All lines, once, in as many calls and steps as were told; also when a run is no whole number of lines. */
static void what_is_fetched_meanwhile_is_shared_among_the_calls(void **state)
{
	static const size_t bytes[] = { 1, 64, 65, 4096, 100 };
	static char some[4096];
	struct guest g;

	for (uint32_t calls = 1; calls <= 4; calls++)
		for (size_t steps = 1; steps < 100; steps = steps * 2 + 1) {
			size_t lines = 0, left;

			guest_none(&g);
			for (unsigned i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++) {
				guest_add(&g, some, bytes[i]);
				lines += (bytes[i] + 63) / 64;
			}
			assert_int_equal(g.lines, lines);
			g.calls = calls;
			for (uint32_t c = 0; c < calls; c++) {
				left = g.lines;
				guest_begin(&g, steps);
				for (size_t k = 0; k < steps; k++)
					guest_step(&g);
				assert_true(left - g.lines >= left / (calls - c)); /* its share */
			}
			assert_int_equal(g.lines, 0);
			assert_int_equal(g.next, g.n);
			guest_step(&g);
			assert_int_equal(g.lines, 0);
		}
}

static void every_file_type_multiplies_to_the_same_bits_everywhere(void **state)
{
	static const uint32_t shapes[][2] = { { 1, 256 }, { 37, 512 }, { 64, 256 }, { 100, 768 } };

	for (int i = 0; i < N_TYPES; i++)
		for (unsigned s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
			struct tensor t = random_tensor(all_types[i], shapes[s][0], shapes[s][1]);
			struct matrix w;

			pack_whole(&w, &t, PACK_KEEP);
			all_counts(&w, t.name);
			free(w.codes);
			free((void *)t.data);
		}
}

/* The largest codes there are times activations of one sign: sums of fewer bits than 32 must hold them. */
static void sums_hold_the_largest_codes(const struct matrix *w, int8_t q, const char *what)
{
	enum { M = 7 };
	size_t ldo = w->blocks * LANES;
	struct activations a = make_rows(w, M);
	float *want;

	for (uint32_t i = 0; i < M; i++) {
		memset(a.q + i * a.rows.ldq, q, w->kpad);
		for (uint32_t g = 0; g < w->groups; g++)
			a.sum[i * w->groups + g] = q * (int32_t)w->group;
	}
	want = multiply(ops_for(CORE_CPU_PLAIN), w, &a, M, ldo);
	for (const char *const *cpu = cpus_here() + 1; *cpu; cpu++)
		for (uint32_t m = 1; m <= M; m++) {
			float *got = multiply(ops_named(*cpu), w, &a, m, ldo);

			if (memcmp(got, want, m * ldo * sizeof(float)))
				fail_msg("%s, codes of %u bits in groups of %u, all activations %d, %u rows, %s", what, w->bits, w->group, q, m, *cpu);
			free(got);
		}
	free(want);
	free_rows(&a);
}

static void largest_codes_of(enum tensor_type type, enum pack_form form)
{
	struct tensor t = random_tensor(type, 40, 768);
	struct matrix w;

	pack_whole(&w, &t, form);
	if (w.kind == PACK_INT)
		for (int signed_largest = 0; signed_largest < 2; signed_largest++) {
			int code = w.bits == 4 ? 0xff : w.zero == 128 ? signed_largest ? 0xff : 0 : 63;

			memset(w.codes, code, w.blocks * matrix_block_bytes(&w));
			sums_hold_the_largest_codes(&w, 127, t.name);
			sums_hold_the_largest_codes(&w, -127, t.name);
		}
	free(w.codes);
	free((void *)t.data);
}

static void the_largest_codes_overflow_nowhere(void **state)
{
	for (int i = 0; i < N_TYPES; i++)
		largest_codes_of(all_types[i], PACK_KEEP);
	largest_codes_of(TENSOR_F32, PACK_Q8);
	largest_codes_of(TENSOR_F32, PACK_Q4);
}

/* More inputs than a slice of the AMX tiles takes, in slices of unequal length; full tiles of rows, some that are not, and several panels. */
static void long_rows_multiply_to_the_same_bits_everywhere(void **state)
{
	static const uint32_t counts[] = { 4, 13, 16, 17, 35, 64, 131 };

	for (int i = 0; i < N_TYPES; i++) {
		struct tensor t = random_tensor(all_types[i], 90, 2816);
		struct matrix w;

		pack_whole(&w, &t, PACK_KEEP);
		for (unsigned k = 0; k < sizeof(counts) / sizeof(counts[0]) && w.kind == PACK_INT; k++)
			same_bits(&w, counts[k], t.name);
		free(w.codes);
		free((void *)t.data);
	}
	for (enum pack_form form = PACK_Q8; form <= PACK_Q4; form++) {
		struct tensor t = random_tensor(TENSOR_F32, 90, 1100);
		struct matrix w;

		pack_whole(&w, &t, form);
		for (unsigned k = 0; k < sizeof(counts) / sizeof(counts[0]); k++)
			same_bits(&w, counts[k], form == PACK_Q8 ? "long q8" : "long q4");
		free(w.codes);
		free((void *)t.data);
	}
}

/* 1 to 9 groups: the nested values of a block's rows are one, or some, or one each. */
static void nf4_multiplies_to_the_same_bits_with_and_without_double_quantisation(void **state)
{
	static const uint32_t shapes[][2] = { { 1, 64 }, { 37, 192 }, { 64, 576 }, { 300, 64 }, { 20, 256 * 64 } };

	for (unsigned s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++)
		for (int nested = 0; nested < 2; nested++) {
			struct tensor t = random_nf4(shapes[s][0], shapes[s][1], nested);
			float *got = malloc(shapes[s][1] * sizeof(float)), *want = malloc(shapes[s][1] * sizeof(float));
			struct matrix w;

			pack_whole(&w, &t, PACK_KEEP);
			assert_int_equal(w.kind, PACK_NF4);
			for (uint32_t r = 0; r < w.rows; r++) {
				matrix_row_f32(&w, r, got);
				tensor_row_f32(&t, r, want);
				assert_memory_equal(got, want, w.cols * sizeof(float));
			}
			all_counts(&w, nested ? "nf4" : "nf4 of f32 absmax");
			free(got);
			free(want);
			free(w.codes);
			free((void *)t.data);
		}
}

static void own_formats_multiply_to_the_same_bits_at_any_length(void **state)
{
	static const uint32_t shapes[][2] = { { 3, 1 }, { 17, 16 }, { 16, 35 }, { 33, 48 }, { 65, 96 }, { 48, 192 }, { 80, 384 } };

	for (unsigned s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
		struct tensor t = random_tensor(TENSOR_F32, shapes[s][0], shapes[s][1]);
		struct matrix w;

		for (enum pack_form form = PACK_KEEP; form <= PACK_Q4; form++) {
			pack_whole(&w, &t, form);
			all_counts(&w, form == PACK_Q8 ? "q8" : form == PACK_Q4 ? "q4" : "f32");
			free(w.codes);
		}
		free((void *)t.data);
		t = random_tensor(TENSOR_BF16, shapes[s][0], shapes[s][1]);
		pack_whole(&w, &t, PACK_KEEP);
		all_counts(&w, "bf16 of odd length");
		free(w.codes);
		free((void *)t.data);
	}
}

static void factors_of_8_bits_multiply_to_the_same_bits_at_any_rank(void **state)
{
	static const uint32_t shapes[][2] = { { 2048, 1 }, { 64, 3 }, { 65, 8 }, { 48, 16 }, { 33, 30 }, { 16, 64 }, { 20, 200 } };

	for (unsigned s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
		struct tensor t = random_tensor(TENSOR_F32, shapes[s][0], shapes[s][1]);
		struct matrix w;

		pack_whole(&w, &t, PACK_FACTOR);
		all_counts(&w, "factors");
		free(w.codes);
		free((void *)t.data);
	}
}

/* Row i times a matrix of its own; the last two rows add to the same place, one after the other. */
static void each_by_its_own(const struct matrix w[MATMUL_FEW], uint32_t m, const char *what)
{
	struct activations a = make_rows(w, m);
	const uint32_t ldo = w->blocks * LANES + 16, plain_ldo = w->blocks * LANES;
	const struct matrix *each[MATMUL_FEW] = { &w[0], &w[1], &w[2], &w[3] };
	float *before = malloc(m * ldo * sizeof(float)), *product[MATMUL_FEW];
	const float *x[MATMUL_FEW];

	fill_hard(before, m * ldo);
	for (uint32_t i = 0; i < m; i++) {
		x[i] = a.rows.f + i * a.rows.ld;
		product[i] = poisoned(plain_ldo * sizeof(float));
		matmul_few_plain(&product[i], &each[i], &x[i], 1, 0, w->blocks, false);
	}
	for (const char *const *cpu = cpus_here(); *cpu; cpu++) {
		float *got = malloc(m * ldo * sizeof(float)), *out[MATMUL_FEW];

		memcpy(got, before, m * ldo * sizeof(float));
		for (uint32_t i = 0; i < m; i++)
			out[i] = got + (i == m - 1 ? m - 2 : i) * ldo;
		ops_named(*cpu)->matmul_few(out, each, x, m, 0, w->blocks, true);
		for (size_t at = 0; at < m * ldo; at++) {
			uint32_t i = (uint32_t)(at / ldo), r = (uint32_t)(at % ldo);
			float want = before[at];

			if (r < plain_ldo && i < m - 1)
				want += product[i][r];
			if (r < plain_ldo && i == m - 2)
				want += product[m - 1][r];
			if (memcmp(&got[at], &want, 4))
				fail_msg("%s (%u x %u), %u rows, %s: [%u][%u] is %a, expected %a", what, w->rows, w->cols, m, *cpu, i, r,
					 got[at], want);
		}
		free(got);
	}
	for (uint32_t i = 0; i < m; i++)
		free(product[i]);
	free(before);
	free_rows(&a);
}

static void rows_of_matrices_of_their_own_give_the_same_bits(void **state)
{
	static const uint32_t shapes[][2] = { { 2048, 1 }, { 65, 8 }, { 48, 16 }, { 33, 30 }, { 16, 64 }, { 20, 200 } };
	static const enum tensor_type types[] = { TENSOR_F32, TENSOR_F16, TENSOR_BF16, TENSOR_F32 };

	for (unsigned s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++)
		for (unsigned k = 0; k < sizeof(types) / sizeof(types[0]); k++) {
			struct matrix w[MATMUL_FEW];

			for (int i = 0; i < MATMUL_FEW; i++) {
				struct tensor t = random_tensor(types[k], shapes[s][0], shapes[s][1]);

				pack_whole(&w[i], &t, k == 3 ? PACK_FACTOR : PACK_KEEP);
				free((void *)t.data);
			}
			for (uint32_t m = 2; m <= MATMUL_FEW; m++)
				each_by_its_own(w, m, k == 3 ? "factors" : "floats");
			for (int i = 0; i < MATMUL_FEW; i++)
				free(w[i].codes);
		}
}

/* Whatever their size: trained factors begin at zero. */
static void factors_of_8_bits_are_off_by_half_a_step_of_their_group(void **state)
{
	static const float sizes[] = { 1, 1e-4f, 1e-12f, 3e4f };
	float row[100];

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct tensor t = random_tensor(TENSOR_F32, 17, 100);
		float *x = (float *)t.data;
		struct matrix w;

		for (int k = 0; k < 17 * 100; k++)
			x[k] *= sizes[i];
		memset(x + 5 * 100, 0, 100 * sizeof(float));
		pack_whole(&w, &t, PACK_FACTOR);
		assert_int_equal(w.kind, PACK_S8);
		for (uint32_t r = 0; r < 17; r++) {
			matrix_row_f32(&w, r, row);
			for (uint32_t k = 0; k < 100; k++) {
				float top = 0;

				for (uint32_t j = k / w.group * w.group; j < (k / w.group + 1) * w.group; j++)
					top = fmaxf(top, fabsf(x[r * 100 + j]));
				/* half a step, and what bf16 rounds the step up by */
				assert_true(fabsf(row[k] - x[r * 100 + k]) <= top / 127 * (0.5f + 1.0f / 128));
			}
		}
		free(w.codes);
		free((void *)t.data);
	}
}

static void a_packed_matrix_means_what_the_file_means(void **state)
{
	for (int i = 0; i < N_TYPES; i++) {
		struct tensor t = random_tensor(all_types[i], 37, 512);
		struct matrix w;
		float got[512], want[512];

		pack_whole(&w, &t, PACK_KEEP);
		for (uint32_t r = 0; r < w.rows; r++) {
			matrix_row_f32(&w, r, got);
			tensor_row_f32(&t, r, want);
			for (int k = 0; k < 512; k++)
				if (got[k] != want[k])
					fail_msg("%s row %u element %d: packed %a, file %a", t.name, r, k, got[k], want[k]);
		}
		free(w.codes);
		free((void *)t.data);
	}
}

static void rows_of_gguf_query_heads_are_put_back_into_hf_order(void **state)
{
	struct tensor t = random_tensor(TENSOR_Q4_0, 64, 64);
	struct matrix w;
	float got[64], want[64];

	t.permuted_heads = 4;
	pack_whole(&w, &t, PACK_KEEP);
	for (uint32_t r = 0; r < 64; r++) {
		matrix_row_f32(&w, r, got);
		blocks_f32(t.type, (const unsigned char *)t.data + tensor_source_row(&t, r) * 2 * 18, 64, want);
		assert_memory_equal(got, want, sizeof(got));
	}
	free(w.codes);
	free((void *)t.data);
}

/* The sum of |terms| times the number of roundings times 2^-24 bounds any order of f32 summation; integers round per group only. */
static void the_plain_reference_is_within_rounding_of_double(void **state)
{
	for (int i = 0; i < N_TYPES; i++) {
		struct tensor t = random_tensor(all_types[i], 20, 1024);
		struct matrix w;
		struct activations a;
		float row[1024], *out;

		pack_whole(&w, &t, PACK_KEEP);
		a = make_rows(&w, 3);
		out = multiply(ops_for(CORE_CPU_PLAIN), &w, &a, 3, w.blocks * LANES);
		for (uint32_t r = 0; r < w.rows; r++)
			for (uint32_t m = 0; m < 3; m++) {
				bool integers = w.kind == PACK_INT;
				double sum = 0, size = 0, roundings = integers ? 4.0 * w.groups : w.kpad;

				matrix_row_f32(&w, r, row);
				for (uint32_t k = 0; k < w.cols; k++) {
					double x = integers ? (double)a.scale[m * w.groups + k / w.group] * a.q[m * a.rows.ldq + k]
							    : a.f[m * a.rows.ld + k];

					sum += row[k] * x;
					size += fabs(row[k] * x);
				}
				/* row[k] itself is rounded once where a type has minima: 2^-24 of scale * code, at most twice |min|
				 * + |value| */
				assert_true(fabs(out[m * w.blocks * LANES + r] - sum) <= (roundings + 32) * size * 6e-8 + 1e-30);
			}
		free(out);
		free_rows(&a);
		free(w.codes);
		free((void *)t.data);
	}
}

static void weights_that_no_format_can_hold_are_refused_by_row(void **state)
{
	static const float bad[] = { INFINITY, -INFINITY, NAN, 1e31f };

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		for (enum pack_form form = PACK_Q8; form <= PACK_FACTOR; form++) {
			struct tensor t = random_tensor(TENSOR_F32, 5, 64);
			struct matrix w;

			((float *)t.data)[3 * 64 + 7 + 15 * i] = bad[i];
			pack_plan(&w, &t, form);
			pack_place(&w, poisoned(pack_bytes(&w)));
			assert_int_equal(pack_blocks(&w, &t, form, 0, 1, &why), CORE_EFORMAT);
			assert_non_null(strstr(why.text, "row 3"));
			free(w.codes);
			free((void *)t.data);
		}
}

/* Steps of the format: q8 rounds to 1/127 of the group's largest, q4 to 1/15 of its range; the search may only do better. */
static void own_formats_lose_no_more_than_half_a_step(void **state)
{
	float x[128], scale, min, range = 0;
	uint8_t codes[128];

	for (int round = 0; round < 200; round++) {
		double plain = 0, searched = 0;
		float low = INFINITY, high = -INFINITY, top = 0;

		for (int k = 0; k < 128; k++) {
			x[k] = random_hard();
			low = fminf(low, x[k]);
			high = fmaxf(high, x[k]);
			top = fmaxf(top, fabsf(x[k]));
		}
		quantize_group_q8(x, 128, codes, &scale);
		for (int k = 0; k < 128; k++)
			assert_true(fabsf(scale * (float)(codes[k] - 128) - x[k]) <=
				    top / 127 * 0.57f); /* f16 scale: 127 * 2^-11 more */
		quantize_group_q4(x, 128, codes, &scale, &min);
		range = (high - low) / 15;
		for (int k = 0; k < 128; k++) {
			double naive = low + range * roundf((x[k] - low) / range) - x[k],
			       ours = scale * (float)codes[k] - min - x[k];

			plain += naive * naive;
			searched += ours * ours;
		}
		assert_true(searched <= plain * 1.02);	/* 2%: f16 factors against exact ones */
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_packed_matrix_means_what_the_file_means),
		cmocka_unit_test(rows_of_gguf_query_heads_are_put_back_into_hf_order),
		cmocka_unit_test(what_is_fetched_meanwhile_is_shared_among_the_calls),
		cmocka_unit_test(every_file_type_multiplies_to_the_same_bits_everywhere),
		cmocka_unit_test(the_largest_codes_overflow_nowhere),
		cmocka_unit_test(long_rows_multiply_to_the_same_bits_everywhere),
		cmocka_unit_test(nf4_multiplies_to_the_same_bits_with_and_without_double_quantisation),
		cmocka_unit_test(own_formats_multiply_to_the_same_bits_at_any_length),
		cmocka_unit_test(factors_of_8_bits_multiply_to_the_same_bits_at_any_rank),
		cmocka_unit_test(rows_of_matrices_of_their_own_give_the_same_bits),
		cmocka_unit_test(factors_of_8_bits_are_off_by_half_a_step_of_their_group),
		cmocka_unit_test(the_plain_reference_is_within_rounding_of_double),
		cmocka_unit_test(weights_that_no_format_can_hold_are_refused_by_row),
		cmocka_unit_test(own_formats_lose_no_more_than_half_a_step),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
