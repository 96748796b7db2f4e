/* ops_tiles.c: tiles of bf16 multiply every kind of weights to the bits of tiles.h, for any number of rows, and stay close to exact. */
#include "ops_test.h"
#include "kernels/ops/guest.h"

static struct planes planes_new(uint32_t m, uint32_t k, bool lo)
{
	struct planes p = { .depth = tiles_depth(k), .stride = tiles_stride(tiles_depth(k)) };
	size_t bytes = (m + TILES_ROWS - 1) / TILES_ROWS * TILES_ROWS * p.stride * sizeof(uint16_t);

	p.hi = poisoned(bytes);
	p.lo = lo ? poisoned(bytes) : NULL;
	return p;
}

static void planes_free(struct planes *p)
{
	free(p->hi);
	free(p->lo);
}

/* m rows of x[cols], with tiny numbers, too. */
static float *rows_new(uint32_t m, uint32_t cols)
{
	uint32_t ld = (cols + 15) / 16 * 16;
	float *x = poisoned((size_t)m * ld * sizeof(float));

	for (uint32_t i = 0; i < m; i++) {
		fill_hard(x + (size_t)i * ld, cols);
		x[(size_t)i * ld + i % cols] = i % 3 ? 1e-41f : 3e-39f;
	}
	return x;
}

static struct planes split_rows(split_fn *split, const float *x, uint32_t m, uint32_t cols, bool lo)
{
	struct planes p = planes_new(m, cols, lo);

	for (uint32_t i = 0; i < m; i++)
		split(&p, i, x + (size_t)i * ((cols + 15) / 16 * 16), cols);
	return p;
}

static const struct ops *with_tiles(void)
{
	for (const char *const *cpu = cpus_here(); *cpu; cpu++)
		if (ops_named(*cpu)->tiles)
			return ops_named(*cpu);
	return NULL;
}

/* By chunks of `chunk` blocks. */
static float *multiply(tiles_fn *tiles, const struct matrix *w, const struct planes *p, uint32_t m, size_t ldo, uint32_t chunk)
{
	float *out = poisoned(m * ldo * sizeof(float));
	struct guest guest;

	guest_none(&guest);
	guest_add(&guest, w->codes, matrix_block_bytes(w));
	guest.calls = (w->blocks + chunk - 1) / chunk;
	for (uint32_t b = 0; b < w->blocks; b += chunk)
		tiles(out, ldo, w, p, m, b, b + chunk < w->blocks ? b + chunk : w->blocks, m % 2 ? &guest : NULL);
	return out;
}

static void same_bits(const struct matrix *w, uint32_t m, const char *what)
{
	static const uint32_t chunks[] = { TILES_CHUNK, 4, 3, 1 };
	const struct ops *ops = with_tiles();
	bool lo = tiles_read_lo(w);
	float *x = rows_new(m, w->cols);
	struct planes p = split_rows(split_plain, x, m, w->cols, lo), q = split_rows(ops->split, x, m, w->cols, lo);
	size_t ldo = w->blocks * LANES + 16;	/* the last 16 are nobody's */
	float *want = multiply(tiles_plain, w, &p, m, ldo, TILES_CHUNK);

	for (unsigned c = 0; c < sizeof(chunks) / sizeof(chunks[0]); c++) {
		float *got = multiply(ops->tiles, w, &q, m, ldo, chunks[c]);

		for (size_t i = 0; i < m * ldo; i++)
			if (memcmp(&got[i], &want[i], 4))
				fail_msg("%s (%u x %u), %u rows, %u blocks at a time: [%zu][%zu] is %a, expected %a", what, w->rows, w->cols, m,
					 chunks[c], i / ldo, i % ldo, got[i], want[i]);
		free(got);
	}
	free(want);
	planes_free(&p);
	planes_free(&q);
	free(x);
}

static void all_counts(struct tensor t, enum pack_form form)
{
	static const uint32_t counts[] = { 1, 2, 3, 8, 15, 16, 17, 31, 32, 33, 48, 49, 65 };
	struct matrix w;

	pack_whole(&w, &t, form);
	for (unsigned i = 0; with_tiles() && i < sizeof(counts) / sizeof(counts[0]); i++)
		same_bits(&w, counts[i], t.name);
	free(w.codes);
	free((void *)t.data);
}

/* Slices of 512 k (256 of two planes) and what is left after them; more blocks than a chunk. */
static void every_kind_multiplies_to_the_bits_of_the_plain_reference(void **state)
{
	static const uint32_t shapes[][2] = { { 1, 256 }, { 37, 768 }, { (TILES_CHUNK + 3) * LANES + 6, 256 } };

	if (!with_tiles())
		skip();
	for (int i = 0; i < N_TYPES; i++)
		for (unsigned s = 0; s < sizeof(shapes) / sizeof(shapes[0]) && all_types[i] != TENSOR_F32; s++)
			all_counts(random_tensor(all_types[i], shapes[s][0], shapes[s][1]), PACK_KEEP);
}

/* One kind of each number of planes is enough for what the two have to do with each other. */
static void slices_of_more_blocks_than_a_chunk_multiply_to_the_bits_of_the_plain_reference(void **state)
{
	const uint32_t rows = (TILES_CHUNK + 3) * LANES + 6, cols = 768;

	if (!with_tiles())
		skip();
	all_counts(random_tensor(TENSOR_F32, rows, cols), PACK_Q8);
	all_counts(random_tensor(TENSOR_BF16, rows, cols), PACK_KEEP);
}

static void any_length_multiplies_to_the_bits_of_the_plain_reference(void **state)
{
	static const uint32_t shapes[][2] = { { 3, 1 }, { 17, 16 }, { 16, 35 }, { 33, 48 }, { 65, 66 }, { 20, 541 } };

	if (!with_tiles())
		skip();
	for (unsigned s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
		all_counts(random_tensor(TENSOR_F32, shapes[s][0], shapes[s][1]), PACK_Q8);
		all_counts(random_tensor(TENSOR_F32, shapes[s][0], shapes[s][1]), PACK_Q4);
		all_counts(random_tensor(TENSOR_BF16, shapes[s][0], shapes[s][1]), PACK_KEEP);
		all_counts(random_tensor(TENSOR_F16, shapes[s][0], shapes[s][1]), PACK_KEEP);
	}
	all_counts(random_nf4(37, 192, false), PACK_KEEP);
}

static void activations_split_to_the_bits_of_the_plain_reference(void **state)
{
	static const uint32_t lengths[] = { 1, 15, 16, 17, 31, 32, 33, 100 };

	if (!with_tiles())
		skip();
	for (unsigned s = 0; s < sizeof(lengths) / sizeof(lengths[0]); s++) {
		uint32_t n = lengths[s];
		float *x = rows_new(20, n);
		struct planes p = split_rows(split_plain, x, 20, n, true), q = split_rows(with_tiles()->split, x, 20, n, true);

		for (uint32_t i = 0; i < 20; i++)
			for (uint32_t k = 0; k < p.depth; k++) {
				assert_int_equal(p.hi[tiles_at(&p, i, k)], q.hi[tiles_at(&p, i, k)]);
				assert_int_equal(p.lo[tiles_at(&p, i, k)], q.lo[tiles_at(&p, i, k)]);
			}
		planes_free(&p);
		planes_free(&q);
		free(x);
	}
}

/* x is off by 2^-17 of itself where both planes are read, else 2^-9, and so is a weight that is made bf16. */
static void the_plain_reference_is_within_its_rounding_of_double(void **state)
{
	for (int i = 0; i < N_TYPES; i++) {
		struct tensor t = random_tensor(all_types[i], 20, 768);
		struct matrix w;
		struct planes p;
		float row[768], *x, *out;

		pack_whole(&w, &t, PACK_KEEP);
		if (w.kind != PACK_F32) {
			double step = tiles_read_lo(&w) ? 0x1p-16 : 0x1p-8;

			x = rows_new(3, w.cols);
			p = split_rows(split_plain, x, 3, w.cols, true);
			out = multiply(tiles_plain, &w, &p, 3, w.blocks * LANES, TILES_CHUNK);
			for (uint32_t r = 0; r < w.rows; r++)
				for (uint32_t m = 0; m < 3; m++) {
					double sum = 0, size = 0;

					matrix_row_f32(&w, r, row);
					for (uint32_t k = 0; k < w.cols; k++) {
						sum += row[k] * (double)x[m * w.cols + k];
						size += fabs(row[k] * (double)x[m * w.cols + k]);
					}
					assert_true(fabs(out[m * w.blocks * LANES + r] - sum) <= size * (step * 1.01 + 200 * 6e-8) + 1e-30);
				}
			free(out);
			planes_free(&p);
			free(x);
		}
		free(w.codes);
		free((void *)t.data);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(activations_split_to_the_bits_of_the_plain_reference),
		cmocka_unit_test(every_kind_multiplies_to_the_bits_of_the_plain_reference),
		cmocka_unit_test(slices_of_more_blocks_than_a_chunk_multiply_to_the_bits_of_the_plain_reference),
		cmocka_unit_test(any_length_multiplies_to_the_bits_of_the_plain_reference),
		cmocka_unit_test(the_plain_reference_is_within_its_rounding_of_double),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
