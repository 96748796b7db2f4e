/* ops_attention.c: attention over pages: the same bits everywhere, near double, blind to what pages hold past the last key. */
#include "ops_test.h"

enum { PAGES = 24, TOKENS = PAGES * PAGE };

struct cache {
	struct kv_view view;
	float *k, *v;		/* [TOKENS][head_dim] what was stored */
};

static uint32_t table[PAGES];

/* Pages in an order of their own, in a pool of NaNs; two heads per page, so that strides matter. */
static void cache_fill(struct cache *c, const struct ops *ops, uint32_t head_dim, bool half)
{
	uint32_t pad = (head_dim + 15) / 16 * 16;
	size_t head = (size_t)PAGE * (head_dim + pad) * (half ? 2 : 4);
	unsigned char *pool = poisoned(2 * head * PAGES);

	for (uint32_t i = 0; i < PAGES; i++)
		table[i] = (i * 7 + 3) % PAGES;
	c->view = (struct kv_view){ pool, 2 * head, table, head_dim, pad, half };
	for (uint32_t t = 0; t < TOKENS; t++)
		ops->kv_store(&c->view, t, c->k + t * head_dim, c->v + t * head_dim);
}

static struct cache cache_new(const struct ops *ops, uint32_t head_dim, bool half)
{
	struct cache c;

	c.k = malloc((size_t)TOKENS * head_dim * sizeof(float));
	c.v = malloc((size_t)TOKENS * head_dim * sizeof(float));
	for (size_t i = 0; i < (size_t)TOKENS * head_dim; i++) {
		c.k[i] = half_to_float(float_to_half(random_unit() * 3));
		c.v[i] = half_to_float(float_to_half(random_hard()));
	}
	cache_fill(&c, ops, head_dim, half);
	return c;
}

static void cache_free(struct cache *c)
{
	free(c->view.pool);
	free(c->k);
	free(c->v);
}

/* One row by itself. */
static void attend(const struct ops *ops, float *out, const float *q, uint32_t heads, const struct kv_view *kv, uint32_t n_keys)
{
	ops->attention(&(struct attention_tile){ .kv = *kv, .rows = 1, .heads = heads, .n_keys = n_keys, .q = { q }, .out = { out } });
}

static const uint32_t dims[] = { 2, 8, 10, 16, 64, 80, 100, 128, 256 };
static const uint32_t keys[] = { 1, 2, 15, 16, 17, 63, 64, 65, 80, 129, 300, TOKENS };

static void attention_gives_the_same_bits_everywhere(void **state)
{
	for (unsigned d = 0; d < sizeof(dims) / sizeof(dims[0]); d++)
		for (int half = 0; half < 2; half++) {
			struct cache c = cache_new(ops_for(CORE_CPU_PLAIN), dims[d], half);
			float q[9 * 256], want[9 * 256], got[9 * 256];

			fill_hard(q, sizeof(q) / sizeof(q[0]));
			for (unsigned n = 0; n < sizeof(keys) / sizeof(keys[0]); n++) {
				uint32_t heads = 1 + n % 9;

				memset(want, 0xff, sizeof(want));
				attention_plain(want, q, heads, &c.view, keys[n]);
				for (const char *const *cpu = cpus_here() + 1; *cpu; cpu++) {
					memset(got, 0xff, sizeof(got));
					attend(ops_named(*cpu), got, q, heads, &c.view, keys[n]);
					if (memcmp(got, want, sizeof(got)))
						fail_msg("head_dim %u, %u heads, %u keys, f%d: %s differs", dims[d], heads, keys[n],
							 half ? 16 : 32, *cpu);
				}
			}
			cache_free(&c);
		}
}

/* Rows of a tile lie anywhere, and each gets the bits that it has alone, wherever its last key falls in a block. */
static void one_tile(const struct ops *ops, const char *cpu, struct cache *c, uint32_t rows, uint32_t heads, uint32_t n_keys)
{
	uint32_t width = heads * c->view.head_dim, ld = width + 16;
	size_t bytes = (size_t)rows * ld * sizeof(float);
	float *q = malloc(bytes), *got = poisoned(bytes), *want = malloc(width * sizeof(float));
	struct attention_tile t = { .kv = c->view, .rows = rows, .heads = heads, .n_keys = n_keys };

	fill_hard(q, (size_t)rows * ld);
	for (uint32_t r = 0; r < rows; r++) {
		t.q[r] = q + (rows - 1 - r) * ld;
		t.out[r] = got + (rows - 1 - r) * ld;
	}
	ops->attention(&t);
	for (uint32_t r = 0; r < rows; r++) {
		attention_plain(want, t.q[r], heads, &c->view, n_keys + r);
		if (memcmp(t.out[r], want, width * sizeof(float)))
			fail_msg("%s: head_dim %u, %u heads, row %u of %u, %u keys: not what it is alone", cpu, c->view.head_dim, heads, r,
				 rows, n_keys + r);
	}
	free(q);
	free(got);
	free(want);
}

static void rows_of_a_tile_get_the_bits_that_they_have_alone(void **state)
{
	static const uint32_t shapes[][2] = { { 1, 64 }, { 1, 80 }, { 2, 32 }, { 3, 5 }, { 5, 9 }, { 8, 8 }, { 17, 2 }, { 64, 1 } };

	for (unsigned d = 0; d < sizeof(dims) / sizeof(dims[0]); d++)
		for (int half = 0; half < 2; half++) {
			struct cache c = cache_new(ops_for(CORE_CPU_PLAIN), dims[d], half);

			for (const char *const *cpu = cpus_here(); *cpu; cpu++)
				for (unsigned i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
					for (unsigned n = 0; n < sizeof(keys) / sizeof(keys[0]); n++)
						if (keys[n] + shapes[i][0] - 1 <= TOKENS)
							one_tile(ops_named(*cpu), *cpu, &c, shapes[i][0], shapes[i][1], keys[n]);
			cache_free(&c);
		}
}

static void stores_give_the_same_pages_everywhere(void **state)
{
	for (unsigned d = 0; d < sizeof(dims) / sizeof(dims[0]); d++)
		for (int half = 0; half < 2; half++) {
			struct cache c = cache_new(ops_for(CORE_CPU_PLAIN), dims[d], half);

			for (const char *const *cpu = cpus_here() + 1; *cpu; cpu++) {
				struct cache other = c;

				cache_fill(&other, ops_named(*cpu), dims[d], half);
				for (uint32_t i = 0; i < PAGES; i++)
					for (uint32_t t = 0; t < PAGE; t++) {
						size_t size = half ? 2 : 4, row = (size_t)t * c.view.head_pad * size;

						assert_memory_equal(kv_page_v(&other.view, i) + row, kv_page_v(&c.view, i) + row,
								    dims[d] * size);
						assert_memory_equal(kv_page_k(&other.view, i), kv_page_k(&c.view, i),
								    dims[d] * PAGE * size);
					}
				free(other.view.pool);
			}
			cache_free(&c);
		}
}

static void attention_is_near_double(void **state)
{
	for (unsigned d = 0; d < sizeof(dims) / sizeof(dims[0]); d++) {
		struct cache c = cache_new(ops_for(CORE_CPU_PLAIN), dims[d], true);
		float q[256], out[256];

		fill_hard(q, dims[d]);
		for (unsigned i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
			double s[TOKENS], top = -INFINITY, sum = 0, size = 0;

			attention_plain(out, q, 1, &c.view, keys[i]);
			for (uint32_t t = 0; t < keys[i]; t++) {
				s[t] = 0;
				for (uint32_t j = 0; j < dims[d]; j++) {
					s[t] += (double)q[j] * c.k[t * dims[d] + j] / sqrt(dims[d]);
					size = fmax(size, fabs(q[j] * c.k[t * dims[d] + j]));
				}
				top = fmax(top, s[t]);
			}
			for (uint32_t t = 0; t < keys[i]; t++)
				sum += s[t] = exp(s[t] - top);
			for (uint32_t j = 0; j < dims[d]; j++) {
				double exact = 0, spread = 0;

				for (uint32_t t = 0; t < keys[i]; t++) {
					exact += s[t] / sum * c.v[t * dims[d] + j];
					spread += s[t] / sum * fabs(c.v[t * dims[d] + j]);
				}
				/* a score is off by head_dim roundings of its terms; e^x turns that into a relative error of each
				 * weight */
				assert_true(fabs(out[j] - exact) <= spread * (dims[d] * size + keys[i] + 20) * 6e-8 * 2);
			}
		}
		cache_free(&c);
	}
}

static void keys_past_the_last_one_do_not_matter(void **state)
{
	for (const char *const *cpu = cpus_here(); *cpu; cpu++) {
		struct cache c = cache_new(ops_named(*cpu), 64, true);
		float q[4 * 64], before[4 * 64], after[4 * 64], nan[64];

		fill_hard(q, 4 * 64);
		for (int j = 0; j < 64; j++)
			nan[j] = NAN;
		attend(ops_named(*cpu), before, q, 4, &c.view, 101);
		for (uint32_t t = 101; t < TOKENS; t++)
			ops_named(*cpu)->kv_store(&c.view, t, nan, nan);
		attend(ops_named(*cpu), after, q, 4, &c.view, 101);
		assert_memory_equal(before, after, sizeof(after));
		cache_free(&c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(attention_gives_the_same_bits_everywhere),
		cmocka_unit_test(rows_of_a_tile_get_the_bits_that_they_have_alone),
		cmocka_unit_test(stores_give_the_same_pages_everywhere),
		cmocka_unit_test(attention_is_near_double),
		cmocka_unit_test(keys_past_the_last_one_do_not_matter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
