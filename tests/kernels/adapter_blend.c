/* adapter_blend.c: what identifies adapters and blends (P6), who keeps whom alive, and which blends are refused. */
#include "adapter_test.h"

#include "kernels/llama.h"

static struct core_model *base(void)
{
	return load_model(golden_path("gqa-untied"), CORE_QUANT_NONE);
}

static const char *digest_of(const struct core_model *m, const char *name)
{
	static char digest[8][65];
	static unsigned next;
	struct core_adapter *a = load_adapter(m, name);
	char *d = digest[next++ % 8];

	strcpy(d, core_adapter_info(a)->digest);
	core_adapter_unref(a);
	return d;
}

static void the_digest_is_of_the_values_not_of_the_container(void **state)
{
	struct core_model *m = base();
	const char *plain = digest_of(m, "plain");

	assert_int_equal(strlen(plain), 64);
	assert_string_equal(digest_of(m, "plain-bin"), plain);
	assert_string_equal(digest_of(m, "plain.gguf"), plain);
	assert_string_not_equal(digest_of(m, "plain-f16.gguf"), plain); /* rounded: other values */
	assert_string_equal(digest_of(m, "embedding.gguf"), digest_of(m, "embedding"));
	assert_string_equal(digest_of(m, "rslora.gguf"), digest_of(m, "rslora"));
	assert_string_not_equal(digest_of(m, "f16"), digest_of(m, "bf16"));
	core_model_free(m);
}

static void info_describes_the_adapter(void **state)
{
	struct core_model *m = base();
	struct core_adapter *a = load_adapter(m, "patterns"), *d = load_adapter(m, "dora"), *e = load_adapter(m, "embedding");
	const struct core_adapter_info *i = core_adapter_info(a);

	assert_string_equal(i->kind, "lora");
	assert_int_equal(i->rank_min, 2);
	assert_int_equal(i->rank_max, 9);
	assert_int_equal(i->modules, 14);
	assert_true(i->bytes >= 4 * i->parameters);
	assert_string_equal(core_adapter_info(d)->kind, "dora");
	assert_int_equal(core_adapter_info(e)->modules, 3);
	core_adapter_unref(a);
	core_adapter_unref(d);
	core_adapter_unref(e);
	core_model_free(m);
}

/* Logits of one sequence with a blend, to be freed. */
static float *logits_with(const struct core_model *m, struct core_blend *b)
{
	static const int32_t token[] = {1, 7, 3, 5, 2, 8, 4, 6};
	struct core_ctx *c = new_ctx(m, NULL, 1, 8, 64);
	struct core_seq *s = core_seq_new(c);
	uint32_t vocab = core_model_info(m)->vocab;
	float *out = malloc(8 * vocab * sizeof(float));

	assert_int_equal(core_seq_set_blend(c, s, b), CORE_OK);
	feed(c, s, token, 8);
	for (uint32_t i = 0; i < 8; i++)
		memcpy(out + i * vocab, core_logits(c, i), vocab * sizeof(float));
	core_seq_free(c, s);
	core_ctx_free(c);
	return out;
}

static void the_same_digest_gives_the_same_bytes(void **state)
{
	struct core_model *m = base();
	struct core_blend *a = blend_of(m, "plain"), *b = blend_of(m, "plain.gguf");
	float *x = logits_with(m, a), *y = logits_with(m, b);

	assert_string_equal(core_blend_digest(a), core_blend_digest(b));
	assert_memory_equal(x, y, 8 * core_model_info(m)->vocab * sizeof(float));
	free(x);
	free(y);
	core_blend_unref(a);
	core_blend_unref(b);
	core_model_free(m);
}

static void the_order_of_parts_does_not_matter(void **state)
{
	struct core_model *m = base();
	struct core_blend_part p[4] = {{load_adapter(m, "plain"), 0.5f, NULL},
				       {load_adapter(m, "rslora"), -1, NULL},
				       {load_adapter(m, "bf16"), 0.25f, NULL},
				       {load_adapter(m, "one-layer"), 0, NULL}};
	struct core_blend_part q[3] = {p[2], p[0], p[1]};
	struct core_blend *a = NULL, *b = NULL;
	float *x, *y;

	must(core_blend_new(&a, p, 4, &why)); /* a scale of 0 leaves the part out */
	must(core_blend_new(&b, q, 3, &why));
	assert_string_equal(core_blend_digest(a), core_blend_digest(b));
	x = logits_with(m, a);
	y = logits_with(m, b);
	assert_memory_equal(x, y, 8 * core_model_info(m)->vocab * sizeof(float));
	free(x);
	free(y);
	core_blend_unref(a);
	core_blend_unref(b);
	for (int i = 0; i < 4; i++)
		core_adapter_unref(p[i].adapter);
	core_model_free(m);
}

static void digest_differs(struct core_adapter *a, float scale, const float *weights, const char *from)
{
	struct core_blend_part p = {a, scale, weights};
	struct core_blend *b = NULL;

	must(core_blend_new(&b, &p, 1, &why));
	assert_string_not_equal(core_blend_digest(b), from);
	core_blend_unref(b);
}

static void the_digest_tells_scales_weights_and_contents_apart(void **state)
{
	struct core_model *m = base();
	struct core_adapter *plain = load_adapter(m, "plain"), *other = load_adapter(m, "all-linear");
	float ones[2 * CORE_LINEARS], w[2 * CORE_LINEARS];
	struct core_blend_part p = {plain, 0.5f, NULL};
	struct core_blend *b = NULL, *same = NULL;

	for (unsigned i = 0; i < 2 * CORE_LINEARS; i++)
		ones[i] = w[i] = 1;
	w[9] = 0.5f;
	must(core_blend_new(&b, &p, 1, &why));
	p.weights = ones;
	must(core_blend_new(&same, &p, 1, &why));
	assert_string_equal(core_blend_digest(b), core_blend_digest(same));
	assert_string_not_equal(core_blend_digest(b), core_blend_digest(NULL));
	assert_string_not_equal(core_blend_digest(b), core_adapter_info(plain)->digest);
	assert_int_equal(strlen(core_blend_digest(NULL)), 64);
	digest_differs(plain, 0.50000006f, NULL, core_blend_digest(b));
	digest_differs(plain, -0.5f, NULL, core_blend_digest(b));
	digest_differs(plain, 0.5f, w, core_blend_digest(b));
	digest_differs(other, 0.5f, NULL, core_blend_digest(b));
	core_blend_unref(b);
	core_blend_unref(same);
	core_adapter_unref(plain);
	core_adapter_unref(other);
	core_model_free(m);
}

static void refused(const struct core_blend_part *p, uint32_t n, int code, const char *word)
{
	struct core_blend *b = (void *)&why;

	assert_int_equal(core_blend_new(&b, p, n, &why), code);
	assert_null(b);
	assert_int_equal(why.code, code);
	if (!strstr(why.text, word))
		fail_msg("\"%s\" does not say \"%s\"", why.text, word);
}

static void blends_that_mean_nothing_exact_are_refused(void **state)
{
	struct core_model *m = base(), *twin = base();
	struct core_adapter *plain = load_adapter(m, "plain"), *dora = load_adapter(m, "dora"),
			    *again = load_adapter(m, "plain.gguf");
	struct core_adapter *stranger = load_adapter(twin, "rslora");
	float w[2 * CORE_LINEARS] = {1};
	struct core_blend_part many[CORE_BLEND_MAX + 1];

	for (int i = 0; i <= CORE_BLEND_MAX; i++)
		many[i] = (struct core_blend_part){plain, 1, NULL};
	refused(many, CORE_BLEND_MAX + 1, CORE_EINVAL, "at most 16");
	refused((struct core_blend_part[]){{plain, 1, NULL}, {again, 2, NULL}}, 2, CORE_EINVAL, "twice");
	refused((struct core_blend_part[]){{plain, 1, NULL}, {dora, 1, NULL}}, 2, CORE_EUNSUPPORTED, "DoRA");
	refused((struct core_blend_part[]){{dora, 1, NULL}, {plain, 1, NULL}}, 2, CORE_EUNSUPPORTED, "DoRA");
	refused((struct core_blend_part[]){{dora, 0.5f, NULL}}, 1, CORE_EUNSUPPORTED, "scale of 1");
	refused((struct core_blend_part[]){{dora, 1, w}}, 1, CORE_EUNSUPPORTED, "scale of 1");
	refused((struct core_blend_part[]){{plain, 1, NULL}, {stranger, 1, NULL}}, 2, CORE_EINVAL, "another model");
	refused((struct core_blend_part[]){{plain, NAN, NULL}}, 1, CORE_EINVAL, "finite");
	refused((struct core_blend_part[]){{plain, INFINITY, NULL}}, 1, CORE_EINVAL, "finite");
	refused((struct core_blend_part[]){{plain, 3e38f, NULL}}, 1, CORE_EINVAL, "range");
	w[3] = NAN;
	refused((struct core_blend_part[]){{plain, 1, w}}, 1, CORE_EINVAL, "range");
	core_adapter_unref(plain);
	core_adapter_unref(again);
	core_adapter_unref(dora);
	core_adapter_unref(stranger);
	core_model_free(m);
	core_model_free(twin);
}

static void no_parts_left_is_the_base_alone(void **state)
{
	struct core_model *m = base();
	struct core_adapter *plain = load_adapter(m, "plain");
	struct core_blend_part p = {plain, 0, NULL};
	struct core_blend *b = (void *)&p;

	must(core_blend_new(&b, &p, 1, &why));
	assert_null(b);
	must(core_blend_new(&b, NULL, 0, &why));
	assert_null(b);
	core_adapter_unref(plain);
	core_model_free(m);
}

static void a_sequence_takes_its_blend_before_its_first_token(void **state)
{
	struct core_model *m = base(), *twin = base();
	struct core_blend *b = blend_of(m, "plain"), *stranger = blend_of(twin, "plain");
	struct core_ctx *c = new_ctx(m, NULL, 1, 8, 64);
	struct core_seq *s = core_seq_new(c);
	int32_t token = 3;

	assert_int_equal(core_seq_set_blend(c, s, stranger), CORE_EINVAL);
	assert_int_equal(core_seq_set_blend(c, s, b), CORE_OK);
	assert_int_equal(core_seq_set_blend(c, s, NULL), CORE_OK);
	assert_int_equal(core_seq_set_blend(c, s, b), CORE_OK);
	feed(c, s, &token, 1);
	assert_int_equal(core_seq_set_blend(c, s, NULL), CORE_EINVAL);
	assert_int_equal(core_seq_trim(c, s, 0), CORE_OK);
	assert_int_equal(core_seq_set_blend(c, s, NULL), CORE_OK);
	core_seq_free(c, s);
	core_ctx_free(c);
	core_blend_unref(b);
	core_blend_unref(stranger);
	core_model_free(m);
	core_model_free(twin);
}

/* The sequence holds the blend, the blend its adapters: what the owner gives back early is still used. */
static void a_sequence_keeps_its_adapters_alive(void **state)
{
	struct core_model *m = base();
	struct core_ctx *c = new_ctx(m, NULL, 1, 8, 64);
	struct core_seq *s = core_seq_new(c), *f;
	struct core_blend *b = blend_of(m, "plain");
	int32_t token[2] = {3, 4};

	assert_int_equal(core_seq_set_blend(c, s, b), CORE_OK);
	assert_int_equal(atomic_load(&b->refs), 2);
	feed(c, s, token, 1);
	f = core_seq_fork(c, s);
	assert_int_equal(atomic_load(&b->refs), 3);
	core_seq_free(c, s);
	core_blend_unref(b);
	assert_int_equal(atomic_load(&b->refs), 1);
	assert_int_equal(atomic_load(&b->parts[0].adapter->refs), 1);
	feed(c, f, token + 1, 1);
	core_seq_free(c, f);
	core_ctx_free(c);
	core_model_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_digest_is_of_the_values_not_of_the_container),
		cmocka_unit_test(info_describes_the_adapter),
		cmocka_unit_test(the_same_digest_gives_the_same_bytes),
		cmocka_unit_test(the_order_of_parts_does_not_matter),
		cmocka_unit_test(the_digest_tells_scales_weights_and_contents_apart),
		cmocka_unit_test(blends_that_mean_nothing_exact_are_refused),
		cmocka_unit_test(no_parts_left_is_the_base_alone),
		cmocka_unit_test(a_sequence_takes_its_blend_before_its_first_token),
		cmocka_unit_test(a_sequence_keeps_its_adapters_alive),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
