/* ops_attention.c: attention over pages: the same bits everywhere, near double, blind to what pages hold past the last key. */
#include "ops_test.h"
#include "kernels/ops/attention_words.h"

enum { PAGES = 24, TOKENS = PAGES * PAGE };

struct cache {
	struct kv_view view;
	float *k, *v;		/* [TOKENS][head_dim] what was stored */
};

static uint32_t table[PAGES];

static const char *const kind_names[] = { [KV_F32] = "f32", [KV_F16] = "f16", [KV_INT8] = "int8" };

static size_t head_bytes(uint32_t head_dim, enum kv_kind kind)
{
	size_t values = (size_t)PAGE * (head_dim + (head_dim + 15) / 16 * 16);

	return kind == KV_INT8 ? values + 2 * PAGE * sizeof(float) : values * kv_value_bytes(kind);
}

/* Pages in an order of their own, in a pool of NaNs; two heads per page, so that strides matter. */
static void cache_fill(struct cache *c, const struct ops *ops, uint32_t head_dim, enum kv_kind kind)
{
	uint32_t pad = (head_dim + 15) / 16 * 16;
	size_t head = head_bytes(head_dim, kind);
	unsigned char *pool = poisoned(2 * head * PAGES);

	for (uint32_t i = 0; i < PAGES; i++)
		table[i] = (i * 7 + 3) % PAGES;
	c->view = (struct kv_view){ pool, 2 * head, table, head_dim, pad, kind };
	for (uint32_t t = 0; t < TOKENS; t++)
		ops->kv_store(&c->view, t, c->k + t * head_dim, c->v + t * head_dim);
}

static struct cache cache_new(const struct ops *ops, uint32_t head_dim, enum kv_kind kind)
{
	struct cache c;

	c.k = malloc((size_t)TOKENS * head_dim * sizeof(float));
	c.v = malloc((size_t)TOKENS * head_dim * sizeof(float));
	for (size_t i = 0; i < (size_t)TOKENS * head_dim; i++) {
		c.k[i] = half_to_float(float_to_half(random_unit() * 3));
		c.v[i] = half_to_float(float_to_half(random_hard()));
	}
	cache_fill(&c, ops, head_dim, kind);
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
		for (enum kv_kind kind = 0; kind <= KV_INT8; kind++) {
			struct cache c = cache_new(ops_for(CORE_CPU_PLAIN), dims[d], kind);
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
						fail_msg("head_dim %u, %u heads, %u keys, %s: %s differs", dims[d], heads, keys[n],
							 kind_names[kind], *cpu);
				}
			}
			cache_free(&c);
		}
}

/* Rows of a tile lie anywhere, and each gets the bits that it has alone, wherever its last key falls in a block. */
static void one_tile(struct cache *c, uint32_t rows, uint32_t heads, uint32_t n_keys)
{
	uint32_t width = heads * c->view.head_dim, ld = width + 16;
	size_t bytes = (size_t)rows * ld * sizeof(float);
	float *q = malloc(bytes), *got = poisoned(bytes), *want = malloc((size_t)rows * width * sizeof(float));
	struct attention_tile t = { .kv = c->view, .rows = rows, .heads = heads, .n_keys = n_keys };

	fill_hard(q, (size_t)rows * ld);
	for (uint32_t r = 0; r < rows; r++) {
		t.q[r] = q + (rows - 1 - r) * ld;
		t.out[r] = got + (rows - 1 - r) * ld;
		attention_plain(want + r * width, t.q[r], heads, &c->view, n_keys + r);
	}
	for (const char *const *cpu = cpus_here(); *cpu; cpu++) {
		memset(got, 0xff, bytes);
		ops_named(*cpu)->attention(&t);
		for (uint32_t r = 0; r < rows; r++)
			if (memcmp(t.out[r], want + r * width, width * sizeof(float)))
				fail_msg("%s, %s: head_dim %u, %u heads, row %u of %u, %u keys: not what it is alone", *cpu,
					 kind_names[c->view.kind], c->view.head_dim, heads, r, rows, n_keys + r);
	}
	free(q);
	free(got);
	free(want);
}

static void rows_of_a_tile_get_the_bits_that_they_have_alone(void **state)
{
	static const uint32_t shapes[][2] = { { 1, 64 }, { 1, 80 }, { 2, 32 }, { 3, 5 }, { 5, 9 }, { 8, 8 }, { 17, 2 }, { 64, 1 } };

	for (unsigned d = 0; d < sizeof(dims) / sizeof(dims[0]); d++)
		for (enum kv_kind kind = 0; kind <= KV_INT8; kind++) {
			struct cache c = cache_new(ops_for(CORE_CPU_PLAIN), dims[d], kind);

			for (unsigned i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
				for (unsigned n = 0; n < sizeof(keys) / sizeof(keys[0]); n++)
					if (keys[n] + shapes[i][0] - 1 <= TOKENS)
						one_tile(&c, shapes[i][0], shapes[i][1], keys[n]);
			cache_free(&c);
		}
}

/* ---- prompt rows ---- */

static attention_fn *prompt_reference(const char *cpu)
{
	return !strcmp(cpu, "amx") ? attention_prompt_plain : attention_words_plain;
}

/* Rows of a tile, in got, and each alone, in want: by this operator. */
static void compare_prompt(struct cache *c, uint32_t rows, uint32_t heads, uint32_t n_keys, const char *cpu, attention_fn *alone,
			   const char *what)
{
	uint32_t width = heads * c->view.head_dim, ld = width + 16;
	size_t bytes = (size_t)rows * ld * sizeof(float);
	float *q = malloc(bytes), *got = poisoned(bytes), *want = poisoned(bytes);
	struct attention_tile t = { .kv = c->view, .rows = rows, .heads = heads, .n_keys = n_keys };

	fill_hard(q, (size_t)rows * ld);
	for (uint32_t r = 0; r < rows; r++) {
		struct attention_tile one = { .kv = c->view, .rows = 1, .heads = heads, .n_keys = n_keys + r };

		t.q[r] = one.q[0] = q + (rows - 1 - r) * ld;
		t.out[r] = got + (rows - 1 - r) * ld;
		one.out[0] = want + (rows - 1 - r) * ld;
		alone(&one);
	}
	ops_named(cpu)->attention_prompt(&t);
	for (size_t i = 0; i < (size_t)rows * ld; i++)
		if (memcmp(&got[i], &want[i], sizeof(float)) && !(isnan(got[i]) && isnan(want[i]) && i % ld < width))
			fail_msg("%s: %s, %s, head_dim %u, %u heads, row %u of %u, %u keys, element %u: %a, expected %a", what, cpu,
				 kind_names[c->view.kind], c->view.head_dim, heads, rows - 1 - (uint32_t)(i / ld), rows, n_keys,
				 (uint32_t)(i % ld), (double)got[i], (double)want[i]);
	free(q);
	free(got);
	free(want);
}

static void each_cpus_prompt_rows(const char *cpu)
{
	static const uint32_t shapes[][2] = { { 1, 1 }, { 1, 9 }, { 3, 5 }, { 5, 4 }, { 17, 1 } };

	for (unsigned d = 0; d < sizeof(dims) / sizeof(dims[0]); d++)
		for (enum kv_kind kind = KV_F16; kind <= KV_INT8; kind++) {
			struct cache c = cache_new(ops_for(CORE_CPU_PLAIN), dims[d], kind);

			for (unsigned n = 0; n < sizeof(keys) / sizeof(keys[0]); n++) {
				const uint32_t *shape = shapes[n % 5];

				if (keys[n] + shape[0] - 1 <= TOKENS)
					compare_prompt(&c, shape[0], shape[1], keys[n], cpu, prompt_reference(cpu), "not the reference's");
			}
			cache_free(&c);
		}
}

static void prompt_rows_get_the_bits_of_their_reference(void **state)
{
	for (const char *const *cpu = cpus_here() + 1; *cpu; cpu++)
		each_cpus_prompt_rows(*cpu);
}

/* Also where a row has what is no number in its V: rows before it must not see it. */
static void each_cpus_tiles(const char *cpu)
{
	static const uint32_t shapes[][2] = { { 2, 1 }, { 256, 1 }, { 33, 1 }, { 64, 4 }, { 17, 8 }, { 32, 8 }, { 3, 71 }, { 1, 300 }, { 5, 3 } };
	attention_fn *own = ops_named(cpu)->attention_prompt;
	float nan[256];

	for (int j = 0; j < 256; j++)
		nan[j] = j % 9 ? 1 : NAN;
	for (unsigned d = 0; d < sizeof(dims) / sizeof(dims[0]); d++)
		for (enum kv_kind kind = KV_F16; kind <= KV_INT8; kind++) {
			struct cache c = cache_new(ops_for(CORE_CPU_PLAIN), dims[d], kind);

			for (unsigned i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
				for (unsigned n = 0; n < sizeof(keys) / sizeof(keys[0]); n++)
					if (keys[n] + shapes[i][0] - 1 <= TOKENS)
						compare_prompt(&c, shapes[i][0], shapes[i][1], keys[n], cpu, own, "not what it is alone");
			ops_for(CORE_CPU_PLAIN)->kv_store(&c.view, 70, c.k, nan);
			compare_prompt(&c, 9, 4, 66, cpu, own, "no number, and not what it is alone");
			compare_prompt(&c, 3, 2, 69, cpu, prompt_reference(cpu), "no number, and not the reference's");
			ops_for(CORE_CPU_PLAIN)->kv_store(&c.view, 68, nan, c.v);
			compare_prompt(&c, 3, 2, 67, cpu, prompt_reference(cpu), "no number in K, and not the reference's");
			cache_free(&c);
		}
}

static void prompt_rows_of_a_tile_get_the_bits_that_they_have_alone(void **state)
{
	for (const char *const *cpu = cpus_here() + 1; *cpu; cpu++)
		each_cpus_tiles(*cpu);
}

static void prompt_rows_are_blind_to_what_is_behind(void **state)
{
	float nan[64], q[32 * 64], before[32 * 64], after[32 * 64];

	for (int j = 0; j < 64; j++)
		nan[j] = NAN;
	for (const char *const *cpu = cpus_here(); *cpu; cpu++)
		for (unsigned n = 0; n < 2 * (sizeof(keys) / sizeof(keys[0]) - 1); n++) {
			const struct ops *ops = ops_named(*cpu);
			struct cache c = cache_new(ops, 64, n % 2 ? KV_F16 : KV_INT8);
			struct attention_tile t = { .kv = c.view, .rows = 1, .heads = 32, .n_keys = keys[n / 2], .q = { q }, .out = { before } };

			fill_hard(q, 32 * 64);
			ops->attention_prompt(&t);
			for (uint32_t i = keys[n / 2]; i < TOKENS; i++)
				ops->kv_store(&c.view, i, nan, nan);
			t.out[0] = after;
			ops->attention_prompt(&t);
			assert_memory_equal(before, after, sizeof(after));
			t.n_keys++;	/* but a number that is none shows */
			ops->attention_prompt(&t);
			for (int j = 0; j < 32 * 64; j++)
				assert_true(isnan(after[j]));
			cache_free(&c);
		}
}

/* Every byte of a page but those of V past head_dim, which nothing depends on. */
static void same_pages(const struct kv_view *a, const struct kv_view *b)
{
	size_t size = kv_value_bytes(a->kind);

	for (uint32_t i = 0; i < PAGES; i++) {
		assert_memory_equal(kv_page_k(a, i), kv_page_k(b, i), (size_t)a->head_dim * PAGE * size);
		for (uint32_t t = 0; t < PAGE; t += a->kind == KV_INT8 ? 2 : 1) {	/* there, two tokens make a row */
			size_t row = (size_t)t * a->head_pad * size, n = a->head_dim * size * (a->kind == KV_INT8 ? 2 : 1);

			assert_memory_equal(kv_page_v(a, i) + row, kv_page_v(b, i) + row, n);
		}
		if (a->kind == KV_INT8)
			assert_memory_equal(kv_page_scales(a, i), kv_page_scales(b, i), 2 * PAGE * sizeof(float));
	}
}

static void stores_give_the_same_pages_everywhere(void **state)
{
	for (unsigned d = 0; d < sizeof(dims) / sizeof(dims[0]); d++)
		for (enum kv_kind kind = 0; kind <= KV_INT8; kind++) {
			struct cache c = cache_new(ops_for(CORE_CPU_PLAIN), dims[d], kind);

			for (const char *const *cpu = cpus_here() + 1; *cpu; cpu++) {
				struct cache other = c;

				cache_fill(&other, ops_named(*cpu), dims[d], kind);
				same_pages(&other.view, &c.view);
				free(other.view.pool);
			}
			cache_free(&c);
		}
}

/* What bytes hold of x[head_dim]. */
static void through_bytes(float *x, uint32_t head_dim)
{
	uint32_t pad = (head_dim + 15) / 16 * 16;
	float padded[256] = { 0 }, scale;
	int8_t code[256];
	int32_t sum;

	memcpy(padded, x, head_dim * sizeof(float));
	quantize_plain(code, &scale, &sum, padded, head_dim, pad, pad);
	for (uint32_t d = 0; d < head_dim; d++)
		x[d] = (float)code[d] * scale;
}

/* What a score is off by when each element of q, of which q_top is the largest, is off by half a code. */
static double score_slack(const float *k, uint32_t head_dim, double q_top)
{
	double sum = 0;

	for (uint32_t d = 0; d < head_dim; d++)
		sum += fabs(k[d]);
	return sum * q_top / (2 * INT16_MAX) / sqrt(head_dim);
}

static void near_double(enum kv_kind kind)
{
	for (unsigned d = 0; d < sizeof(dims) / sizeof(dims[0]); d++) {
		struct cache c = cache_new(ops_for(CORE_CPU_PLAIN), dims[d], kind);
		double q_top = 0, v_top = 0;
		float q[256], out[256];

		fill_hard(q, dims[d]);
		for (uint32_t t = 0; t < TOKENS && kind == KV_INT8; t++) {
			through_bytes(c.k + t * dims[d], dims[d]);
			through_bytes(c.v + t * dims[d], dims[d]);
		}
		for (uint32_t j = 0; j < dims[d]; j++)
			q_top = fmax(q_top, fabs(q[j]));
		for (uint32_t j = 0; j < TOKENS * dims[d]; j++)
			v_top = fmax(v_top, fabs(c.v[j]));
		for (unsigned i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
			double s[TOKENS], top = -INFINITY, sum = 0, size = 0, off = 0;

			attention_plain(out, q, 1, &c.view, keys[i]);
			for (uint32_t t = 0; t < keys[i]; t++) {
				s[t] = 0;
				for (uint32_t j = 0; j < dims[d]; j++) {
					s[t] += (double)q[j] * c.k[t * dims[d] + j] / sqrt(dims[d]);
					size = fmax(size, fabs(q[j] * c.k[t * dims[d] + j]));
				}
				top = fmax(top, s[t]);
				if (kind == KV_INT8)
					off = fmax(off, score_slack(c.k + t * dims[d], dims[d], q_top));
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
				double bound = spread * ((dims[d] * size + keys[i] + 20) * 6e-8 * 2 + 2 * (exp(off) - 1));
				/* a weight is 2^-126 at least */
				bound += keys[i] * v_top * 0x1p-126;
				/* and half a code of each weight, which is no more than the block's largest */
				if (kind == KV_INT8)
					bound += ATTENTION_BLOCK * v_top / (2 * INT16_MAX);
				if (!(fabs(out[j] - exact) <= bound))
					fail_msg("%s, head_dim %u, %u keys, element %u: %g, exactly %g, off by %g of at most %g", kind_names[kind],
						 dims[d], keys[i], j, (double)out[j], exact, fabs(out[j] - exact), bound);
			}
		}
		cache_free(&c);
	}
}

static void attention_is_near_double(void **state)
{
	near_double(KV_F16);
	near_double(KV_INT8);
}

static void nothing_past_the_last_key(const struct ops *ops, enum kv_kind kind)
{
	struct cache c = cache_new(ops, 64, kind);
	float q[4 * 64], before[4 * 64], after[4 * 64], nan[64];

	fill_hard(q, 4 * 64);
	for (int j = 0; j < 64; j++)
		nan[j] = NAN;
	attend(ops, before, q, 4, &c.view, 101);
	for (uint32_t t = 101; t < TOKENS; t++)
		ops->kv_store(&c.view, t, nan, nan);
	attend(ops, after, q, 4, &c.view, 101);
	assert_memory_equal(before, after, sizeof(after));
	attend(ops, after, q, 4, &c.view, 102);	/* but a number that is none shows */
	for (int j = 0; j < 4 * 64; j++)
		assert_true(isnan(after[j]));
	cache_free(&c);
}

static void keys_past_the_last_one_do_not_matter(void **state)
{
	for (const char *const *cpu = cpus_here(); *cpu; cpu++)
		for (enum kv_kind kind = 0; kind <= KV_INT8; kind++)
			nothing_past_the_last_key(ops_named(*cpu), kind);
}

/* ---- bytes ---- */

/* Tokens as Llama's: some channels of K are many times larger than the others in every token, the first token takes most of the
 * attention and its V is next to nothing. Root of the mean square of what bytes change, in parts of the output's. */
static double what_bytes_change(uint32_t head_dim, float outlier, float sink)
{
	struct cache exact = cache_new(ops_for(CORE_CPU_PLAIN), head_dim, KV_F32), bytes = exact;
	float q[4 * 256], a[4 * 256], b[4 * 256];
	double off = 0, size = 0;

	for (uint32_t i = 0; i < 4 * head_dim; i++)
		q[i] = random_unit();
	for (uint32_t t = 0; t < TOKENS; t++)
		for (uint32_t d = 0; d < head_dim; d++) {
			exact.k[t * head_dim + d] = random_unit() + (d % 32 == 5 ? outlier : 0) + (t ? 0 : sink * q[d]);
			exact.v[t * head_dim + d] = (t ? 1 : 0.01f) * random_unit();
		}
	free(exact.view.pool);
	cache_fill(&exact, ops_for(CORE_CPU_PLAIN), head_dim, KV_F32);
	cache_fill(&bytes, ops_for(CORE_CPU_PLAIN), head_dim, KV_INT8);
	attention_plain(a, q, 4, &exact.view, TOKENS);
	attention_plain(b, q, 4, &bytes.view, TOKENS);
	for (uint32_t i = 0; i < 4 * head_dim; i++) {
		off += pow(a[i] - b[i], 2);
		size += pow(a[i], 2);
	}
	free(bytes.view.pool);
	cache_free(&exact);
	return sqrt(off / size);
}

static void bytes_change_little_also_beside_outliers_and_a_sink(void **state)
{
	for (unsigned d = 3; d < sizeof(dims) / sizeof(dims[0]); d++) {
		double even = what_bytes_change(dims[d], 0, 0), hard = what_bytes_change(dims[d], 20, 0),
		       sink = what_bytes_change(dims[d], 0, 8);

		print_message("head_dim %u: bytes change %.2g of the output; %.2g beside outliers, %.2g beside a sink\n", dims[d], even, hard,
			      sink);
		assert_true(even > 0 && even <= 0.01);
		assert_true(hard <= 0.05);
		assert_true(sink <= 0.01);
	}
}

/* Root of the mean square of what the prompt's rounding of q, K, V and the weights changes, in parts of the output's: a fraction of what
 * bytes in pages change. */
static double what_prompts_change(uint32_t head_dim, enum kv_kind kind, float outlier, float sink, attention_fn *prompt)
{
	struct cache c = cache_new(ops_for(CORE_CPU_PLAIN), head_dim, kind);
	float q[4 * 256], a[4 * 256], b[4 * 256];
	struct attention_tile t = { .kv = c.view, .rows = 1, .heads = 4, .n_keys = TOKENS, .q = { q }, .out = { b } };
	double off = 0, size = 0;

	for (uint32_t i = 0; i < 4 * head_dim; i++)
		q[i] = random_unit();
	for (uint32_t i = 0; i < TOKENS * head_dim; i++) {
		c.k[i] = random_unit() + (i % head_dim % 32 == 5 ? outlier : 0) + (i < head_dim ? sink * q[i] : 0);
		c.v[i] = (i < head_dim ? 0.01f : 1) * random_unit();
	}
	free(c.view.pool);
	cache_fill(&c, ops_for(CORE_CPU_PLAIN), head_dim, kind);
	t.kv = c.view;
	attention_plain(a, q, 4, &c.view, TOKENS);
	prompt(&t);
	for (uint32_t i = 0; i < 4 * head_dim; i++) {
		off += pow(a[i] - b[i], 2);
		size += pow(a[i], 2);
	}
	cache_free(&c);
	return sqrt(off / size);
}

static void near_the_other_ones(uint32_t head_dim, enum kv_kind kind, attention_fn *prompt, const char *by, double most_even,
				double most_hard, double most_sink)
{
	double even = what_prompts_change(head_dim, kind, 0, 0, prompt), hard = what_prompts_change(head_dim, kind, 20, 0, prompt),
	       sink = what_prompts_change(head_dim, kind, 0, 8, prompt);

	print_message("head_dim %u, %s: %s change %.2g of the output; %.2g beside outliers, %.2g beside a sink\n", head_dim, kind_names[kind], by,
		      even, hard, sink);
	assert_true(even > 0 && even <= most_even);
	assert_true(hard <= most_hard);
	assert_true(sink <= most_sink);
}

static void prompt_rows_are_near_the_other_ones(void **state)
{
	for (unsigned d = 3; d < sizeof(dims) / sizeof(dims[0]); d++) {
		near_the_other_ones(dims[d], KV_F16, attention_prompt_plain, "tiles", 0.004, 0.02, 0.004);
		near_the_other_ones(dims[d], KV_INT8, attention_prompt_plain, "tiles", 0.004, 0.02, 0.004);
		near_the_other_ones(dims[d], KV_F16, attention_words_plain, "words", 0.0005, 0.003, 0.003);
	}
}

/* Nothing to find the scale of: tokens of zeros, queries of zeros, and numbers near the ends of what f32 holds. */
static void attend_scaled(float kf, float qf, float vf, const char *what)
{
	for (const char *const *cpu = cpus_here(); *cpu; cpu++) {
		struct cache c = cache_new(ops_for(CORE_CPU_PLAIN), 64, KV_INT8);
		float q[64], want[64], got[64];

		for (uint32_t i = 0; i < TOKENS * 64; i++) {
			c.k[i] *= kf;
			c.v[i] *= vf;
		}
		for (int j = 0; j < 64; j++)
			q[j] = random_unit() * qf;
		free(c.view.pool);
		cache_fill(&c, ops_named(*cpu), 64, KV_INT8);
		attention_plain(want, q, 1, &c.view, 130);
		attend(ops_named(*cpu), got, q, 1, &c.view, 130);
		for (int j = 0; j < 64; j++)
			if (memcmp(&want[j], &got[j], 4) || !isfinite(got[j]))
				fail_msg("%s, %s: %g, expected %g", what, *cpu, (double)got[j], (double)want[j]);
		cache_free(&c);
	}
}

static void bytes_of_nothing_and_of_very_much_are_numbers(void **state)
{
	attend_scaled(0, 1, 1, "K of zeros");
	attend_scaled(1, 0, 1, "q of zeros");
	attend_scaled(1, 1, 0, "V of zeros");
	attend_scaled(1e-35f, 1, 1e-35f, "K and V below what has a scale");
	attend_scaled(1e18f, 1e18f, 1e30f, "very large scores and values");
	attend_scaled(0, 0, 0, "zeros");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(attention_gives_the_same_bits_everywhere),
		cmocka_unit_test(rows_of_a_tile_get_the_bits_that_they_have_alone),
		cmocka_unit_test(prompt_rows_get_the_bits_of_their_reference),
		cmocka_unit_test(prompt_rows_of_a_tile_get_the_bits_that_they_have_alone),
		cmocka_unit_test(prompt_rows_are_blind_to_what_is_behind),
		cmocka_unit_test(prompt_rows_are_near_the_other_ones),
		cmocka_unit_test(stores_give_the_same_pages_everywhere),
		cmocka_unit_test(attention_is_near_double),
		cmocka_unit_test(keys_past_the_last_one_do_not_matter),
		cmocka_unit_test(bytes_change_little_also_beside_outliers_and_a_sink),
		cmocka_unit_test(bytes_of_nothing_and_of_very_much_are_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
