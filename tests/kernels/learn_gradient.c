/* learn_gradient.c: the gradient of the loss by the weights of a blend is what finite differences of a double-precision reference
 * say: every linear, grouped and plain heads, tied and untied heads, odd sizes, every packed form; and it depends on nothing else.
 */
#include "adapter_test.h"
#include "gguf_model.h"
#include "kernels/learn/product.h"
#include "learn_double.h"

enum { ADAPTERS = 2, EXAMPLES = 3, ROWS = 64, LONGEST = 24 };

struct story {
	struct core_model *m;
	struct core_adapter *a[ADAPTERS];
	uint32_t n;
	int32_t (*token)[LONGEST]; /* [EXAMPLES] */
	struct core_example e[EXAMPLES];
	float *linear, embed[ADAPTERS];
};

static size_t weights_of(const struct story *s)
{
	return (size_t)s->m->config.layers * CORE_LINEARS * s->n;
}

/* Examples of 2 tokens (one row), 9 and 24; weights spread around 1 and below zero. */
static struct story story_new(struct core_model *m, const char *first, const char *second)
{
	struct story s = {.m = m, .n = second ? 2 : 1};
	static const uint32_t length[EXAMPLES] = {2, 9, LONGEST}, from[EXAMPLES] = {1, 4, 1};

	s.a[0] = load_adapter(m, first);
	s.a[1] = second ? load_adapter(m, second) : NULL;
	s.token = calloc(EXAMPLES, sizeof(*s.token));
	s.linear = malloc(weights_of(&s) * sizeof(float));
	for (size_t i = 0; i < weights_of(&s); i++)
		s.linear[i] = (float)((i * 5 + 3) % 11) / 4 - 1;
	s.embed[0] = 0.75f;
	s.embed[1] = -0.5f;
	for (uint32_t i = 0; i < EXAMPLES; i++)
		for (uint32_t k = 0; k < length[i]; k++)
			s.token[i][k] = (int32_t)((i * 31 + k * 7 + k * k * 3) % m->config.vocab);
	for (uint32_t i = 0; i < EXAMPLES; i++)
		s.e[i] = (struct core_example){s.token[i], length[i], from[i]};
	return s;
}

static void story_free(struct story *s)
{
	core_adapter_unref(s->a[0]);
	core_adapter_unref(s->a[1]);
	core_model_free(s->m);
	free(s->token);
	free(s->linear);
}

static struct pass *pass_of(const struct story *s, int threads, bool merged)
{
	struct pass_params p = {.model = s->m,
				.threads = threads,
				.max_rows = ROWS,
				.adapters = (const struct core_adapter *const *)s->a,
				.n_adapters = s->n,
				.merged = merged};
	struct pass *out = NULL;

	must(pass_new(&out, &p, &why));
	return out;
}

struct result {
	double loss, *linear, embed[ADAPTERS];
};

static struct result gradient_of(const struct story *s, struct pass *p, const struct core_example *e, uint32_t n)
{
	struct result r = {.linear = calloc(weights_of(s), sizeof(double))};
	struct pass_gradient g = {r.linear, r.embed};
	struct pass_weights w = {s->linear, s->embed};

	must(pass_loss(p, &w, e, n, &r.loss, &g, &why));
	return r;
}

static double difference(struct double_blend *d, double *at, const struct story *s)
{
	double was = *at, step = 1e-4, up, down;

	*at = was + step;
	up = double_loss(d, s->e, EXAMPLES);
	*at = was - step;
	down = double_loss(d, s->e, EXAMPLES);
	*at = was;
	return (up - down) / (2 * step);
}

/* Every weight; the bound is of the largest component, since f32 rounds where terms cancel. */
static void gradient_is_the_difference(struct story s)
{
	double *linear = malloc(weights_of(&s) * sizeof(*linear)), embed[ADAPTERS] = {s.embed[0], s.embed[1]}, top = 0, worst = 0,
	       d;
	struct double_blend b = {s.m, (const struct core_adapter *const *)s.a, s.n, linear, embed};
	struct pass *p = pass_of(&s, 2, false);
	struct result r = gradient_of(&s, p, s.e, EXAMPLES);

	for (size_t i = 0; i < weights_of(&s); i++)
		linear[i] = s.linear[i];
	for (size_t i = 0; i < weights_of(&s); i++) {
		d = difference(&b, &linear[i], &s);
		top = fmax(top, fabs(d));
		worst = fmax(worst, fabs(d - r.linear[i]));
	}
	for (uint32_t k = 0; k < s.n; k++) {
		d = s.a[k]->embed.rank ? difference(&b, &embed[k], &s) : 0;
		top = fmax(top, fabs(d));
		worst = fmax(worst, fabs(d - r.embed[k]));
	}
	print_message("%s, %s: loss %.4f, largest slope %.3g, worst error %.2g of it\n", core_model_info(s.m)->name,
		      core_model_info(s.m)->quant, r.loss, top, worst / top);
	assert_true(top > 1e-3);
	assert_true(worst <= 5e-5 * top);
	assert_true(fabs(r.loss - double_loss(&b, s.e, EXAMPLES)) <= 1e-4 * fabs(r.loss));
	free(r.linear);
	free(linear);
	pass_free(p);
	story_free(&s);
}

static void grouped_heads(void **state)
{
	gradient_is_the_difference(story_new(load_model(golden_path("gqa-untied"), CORE_QUANT_NONE), "all-linear", "patterns"));
}

static void an_adapter_of_the_embedding(void **state)
{
	gradient_is_the_difference(story_new(load_model(golden_path("gqa-untied"), CORE_QUANT_NONE), "embedding", "rslora"));
}

static void halves(void **state)
{
	gradient_is_the_difference(story_new(load_model(golden_path("gqa-untied"), CORE_QUANT_NONE), "f16", "bf16"));
}

static void a_tied_head(void **state)
{
	gradient_is_the_difference(story_new(load_model(golden_path("mha-tied"), CORE_QUANT_NONE), "embedding-tied", NULL));
}

static void odd_sizes(void **state)
{
	gradient_is_the_difference(story_new(load_model(golden_path("odd-sizes"), CORE_QUANT_NONE), "odd-sizes", NULL));
}

static void integer_bases(void **state)
{
	gradient_is_the_difference(story_new(load_model(golden_path("gqa-untied"), CORE_QUANT_Q8), "all-linear", "one-layer"));
	gradient_is_the_difference(story_new(load_model(golden_path("gqa-untied"), CORE_QUANT_Q4), "all-linear", "one-layer"));
}

/* ---- the packed forms ---- */

static void unpacked_is_what_the_matrix_means(const struct matrix *w)
{
	float *row = malloc(w->cols * sizeof(float)), out[64 * LANES];

	for (uint32_t b = 0; b < w->blocks; b++)
		for (uint32_t i = 0; i < LANES && b * LANES + i < w->rows; i++) {
			matrix_row_f32(w, b * LANES + i, row);
			for (uint32_t k0 = 0; k0 < w->cols; k0 += 37) {
				uint32_t n = w->cols - k0 < 37 ? w->cols - k0 : 37;

				product_unpack(w, b, k0, n, out);
				for (uint32_t k = 0; k < n; k++)
					assert_true(out[k * LANES + i] == row[k0 + k]);
			}
		}
	free(row);
}

static void every_packed_form_unpacks_exactly(void **state)
{
	for (unsigned i = 0; i < N_SPREADS; i++) {
		struct core_model *m = load_model(write_gguf(i, false), CORE_QUANT_NONE);

		for (unsigned k = 0; k < CORE_LINEARS; k++)
			unpacked_is_what_the_matrix_means(double_base(&m->layers[1], k));
		core_model_free(m);
		build_remove(NULL);
	}
	for (int q = CORE_QUANT_NONE; q <= CORE_QUANT_Q4; q++) {
		struct core_model *m = load_model(golden_path("odd-sizes"), (enum core_quant)q);

		for (unsigned k = 0; k < CORE_LINEARS; k++)
			unpacked_is_what_the_matrix_means(double_base(&m->layers[0], k));
		unpacked_is_what_the_matrix_means(&m->head);
		core_model_free(m);
	}
}

static void nf4_unpacks_exactly_with_and_without_double_quantisation(void **state)
{
	struct core_model *m = load_model(golden_path("../nf4/model"), CORE_QUANT_NONE);

	for (unsigned i = 0; i < 2; i++)
		for (unsigned k = 0; k < CORE_LINEARS; k++)
			unpacked_is_what_the_matrix_means(double_base(&m->layers[i], k));
	core_model_free(m);
}

/* Both directions against double sums, for more rows and inputs than one slab has. */
static void products_of_many_slabs(void **state)
{
	struct core_model *m = load_model(write_gguf(7, true), CORE_QUANT_NONE);
	const struct matrix *w = &m->layers[0].down; /* 256 x 512 */
	enum { M = 101 };
	float *x = malloc(sizeof(float) * M * w->cols), *g = malloc(sizeof(float) * M * w->rows),
	      *y = malloc(sizeof(float) * M * 640), *row = malloc(w->cols * sizeof(float));
	double *want = calloc((size_t)M * w->rows, sizeof(double)), *back = calloc((size_t)M * w->cols, sizeof(double));
	struct product p = {.ops = ops_for(CORE_CPU_PLAIN), .w = w, .factor = -0.5f};

	must(pool_new(&p.pool, 3, &why));
	for (size_t i = 0; i < (size_t)M * w->cols; i++)
		x[i] = random_unit();
	for (size_t i = 0; i < (size_t)M * w->rows; i++)
		g[i] = random_unit();
	for (uint32_t r = 0; r < w->rows; r++) {
		matrix_row_f32(w, r, row);
		for (uint32_t i = 0; i < M; i++)
			for (uint32_t k = 0; k < w->cols; k++) {
				want[(size_t)i * w->rows + r] -= 0.5 * row[k] * x[(size_t)i * w->cols + k];
				back[(size_t)i * w->cols + k] -= 0.5 * row[k] * g[(size_t)i * w->rows + r];
			}
	}
	product(&p, y, 640, x, w->cols, M);
	for (uint32_t i = 0; i < M; i++)
		for (uint32_t r = 0; r < w->rows; r++)
			assert_true(fabs(y[i * 640 + r] - want[(size_t)i * w->rows + r]) < 1e-4);
	product_back(&p, y, 640, g, w->rows, M);
	p.add = true;
	product_back(&p, y, 640, g, w->rows, M);
	for (uint32_t i = 0; i < M; i++)
		for (uint32_t k = 0; k < w->cols; k++)
			assert_true(fabs(y[i * 640 + k] - 2 * back[(size_t)i * w->cols + k]) < 1e-4);
	pool_free(p.pool);
	free(x);
	free(g);
	free(y);
	free(row);
	free(want);
	free(back);
	core_model_free(m);
}

/* ---- what it must not depend on ---- */

static void same_result(const struct story *s, const struct result *a, const struct result *b)
{
	assert_memory_equal(&a->loss, &b->loss, sizeof(a->loss));
	assert_memory_equal(a->linear, b->linear, weights_of(s) * sizeof(double));
	assert_memory_equal(a->embed, b->embed, sizeof(a->embed));
}

static void threads_and_instruction_sets_do_not_matter(void **state)
{
	struct story s = story_new(load_model(golden_path("gqa-untied"), CORE_QUANT_Q4), "embedding", "patterns");
	const char *const *cpus = cpus_here();
	struct result want = {0};

	for (; *cpus; cpus++)
		for (int threads = 1; threads <= 3; threads++) {
			struct pass *p;
			struct result r;

			setenv("WEFT_CPU", *cpus, 1);
			p = pass_of(&s, threads, false);
			r = gradient_of(&s, p, s.e, EXAMPLES);
			if (want.linear)
				same_result(&s, &want, &r);
			free(want.linear);
			want = r;
			pass_free(p);
		}
	free(want.linear);
	unsetenv("WEFT_CPU");
	story_free(&s);
}

static void a_batch_is_the_sum_of_its_examples(void **state)
{
	struct story s = story_new(load_model(golden_path("gqa-untied"), CORE_QUANT_NONE), "embedding", "patterns");
	struct pass *p = pass_of(&s, 2, false);
	struct result whole = gradient_of(&s, p, s.e, EXAMPLES), one[EXAMPLES];
	double loss = 0;

	for (int i = 0; i < EXAMPLES; i++) {
		one[i] = gradient_of(&s, p, &s.e[i], 1);
		loss += one[i].loss;
	}
	assert_true(fabs(loss - whole.loss) < 1e-9);
	for (size_t k = 0; k < weights_of(&s); k++) {
		double sum = 0;

		for (int i = 0; i < EXAMPLES; i++)
			sum += one[i].linear[k];
		assert_true(fabs(sum - whole.linear[k]) < 1e-5);
	}
	for (int i = 0; i < EXAMPLES; i++)
		free(one[i].linear);
	free(whole.linear);
	pass_free(p);
	story_free(&s);
}

/* ---- merged ---- */

struct taken {
	float *logits;
	uint32_t n, vocab;
};

static void take(void *arg, uint32_t row, const float *logits)
{
	struct taken *t = arg;

	assert_int_equal(row, t->n++);
	memcpy(t->logits + (size_t)row * t->vocab, logits, t->vocab * sizeof(float));
}

static void merged_weights_give_the_same_logits(void **state)
{
	struct story s = story_new(load_model(golden_path("gqa-untied"), CORE_QUANT_Q8), "embedding", "patterns");
	uint32_t vocab = s.m->config.vocab;
	struct pass_weights w = {s.linear, s.embed};
	struct taken t[2];

	for (int i = 0; i < 2; i++) {
		struct pass *p = pass_of(&s, 2, i);

		t[i] = (struct taken){malloc((size_t)ROWS * vocab * sizeof(float)), 0, vocab};
		must(pass_logits(p, &w, s.e, EXAMPLES, take, &t[i], &why));
		assert_int_equal(t[i].n, 1 + 8 + 23);
		pass_free(p);
	}
	for (size_t k = 0; k < (size_t)t[0].n * vocab; k++)
		assert_true(fabsf(t[0].logits[k] - t[1].logits[k]) < 1e-4f);
	free(t[0].logits);
	free(t[1].logits);
	story_free(&s);
}

/* ---- refusals ---- */

static bool yes(void *arg)
{
	return true;
}

static void what_cannot_be_learned_from_is_refused(void **state)
{
	struct story s = story_new(load_model(golden_path("gqa-untied"), CORE_QUANT_NONE), "plain", NULL);
	struct pass_weights w = {s.linear, s.embed};
	struct pass *p = pass_of(&s, 1, false);
	struct core_example none = {s.token[1], 1, 0}, all = {s.token[1], 9, 9}, zero = {s.token[1], 9, 0},
			    outside = {(const int32_t[]){1, 67}, 2, 1}, many[4] = {s.e[2], s.e[2], s.e[2], s.e[2]};
	struct pass_params q = {.model = s.m, .threads = 1, .max_rows = 8, .stop = yes};
	struct core_adapter *dora = load_adapter(s.m, "dora");
	const struct core_model_params half = {.path = golden_path("gqa-untied"), .ranks = 2};
	struct core_model *part = NULL;
	double loss;

	assert_int_equal(pass_loss(p, &w, &none, 1, &loss, NULL, &why), CORE_EINVAL);
	assert_int_equal(pass_loss(p, &w, &all, 1, &loss, NULL, &why), CORE_EINVAL);
	assert_int_equal(pass_loss(p, &w, &zero, 1, &loss, NULL, &why), CORE_EINVAL);
	assert_int_equal(pass_loss(p, &w, &outside, 1, &loss, NULL, &why), CORE_EINVAL);
	assert_int_equal(pass_loss(p, &w, many, 4, &loss, NULL, &why), CORE_EINVAL);
	assert_int_equal(pass_loss(p, &w, NULL, 0, &loss, NULL, &why), CORE_EINVAL);
	must(pass_loss(p, &w, s.e, EXAMPLES, &loss, NULL, &why));
	pass_free(p);
	must(pass_new(&p, &q, &why));
	assert_int_equal(pass_loss(p, &w, s.e, 1, &loss, NULL, &why), CORE_ECANCELLED);
	pass_free(p);
	q.adapters = (const struct core_adapter *const *)&dora;
	q.n_adapters = 1;
	assert_int_equal(pass_new(&p, &q, &why), CORE_EUNSUPPORTED);
	q.n_adapters = 0;
	must(core_model_load(&part, &half, &why));
	q.model = part;
	assert_int_equal(pass_new(&p, &q, &why), CORE_EUNSUPPORTED);
	assert_non_null(strstr(why.text, "rank 0 of 2"));
	core_model_free(part);
	core_adapter_unref(dora);
	story_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nf4_unpacks_exactly_with_and_without_double_quantisation),
		cmocka_unit_test(every_packed_form_unpacks_exactly),
		cmocka_unit_test_teardown(products_of_many_slabs, build_remove),
		cmocka_unit_test(grouped_heads),
		cmocka_unit_test(an_adapter_of_the_embedding),
		cmocka_unit_test(halves),
		cmocka_unit_test(a_tied_head),
		cmocka_unit_test(odd_sizes),
		cmocka_unit_test(integer_bases),
		cmocka_unit_test(threads_and_instruction_sets_do_not_matter),
		cmocka_unit_test(a_batch_is_the_sum_of_its_examples),
		cmocka_unit_test(merged_weights_give_the_same_logits),
		cmocka_unit_test(what_cannot_be_learned_from_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
