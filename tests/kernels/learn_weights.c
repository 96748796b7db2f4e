/* learn_weights.c: what is learned on the demo model's two adapters: a blend for both tasks beats each adapter alone and the
 * uniform blend, by both methods, in several groupings and forms; the same seed gives the same bytes; what makes no sense is
 * refused. */
#include <jansson.h>

#include "adapter_test.h"
#include "kernels/model.h"

enum { EACH = 12, ADAPTERS = 2 };

struct lesson {
	struct core_model *m;
	struct core_adapter *a[ADAPTERS];
	struct core_example e[2 * EACH];
	uint32_t n;
};

static const char *demo_path(const char *what)
{
	static char path[512];
	const char *top = getenv("top_srcdir");

	snprintf(path, sizeof(path), "%s/tests/demo/%s", top ? top : ".", what);
	return path;
}

/* FashionGPT's template, and the answer with its end. */
static struct core_example example_of(const struct core_model *m, const json_t *line)
{
	const struct core_tokenizer *t = core_model_tokenizer(m);
	const char *answer = json_string_value(json_object_get(line, "answer"));
	const json_t *message;
	int32_t *prompt, *rest, *all;
	size_t size, i, n, more;
	char *text = NULL;
	FILE *f = open_memstream(&text, &size);

	json_array_foreach(json_object_get(line, "messages"), i, message)
	{
		const char *role = json_string_value(json_object_get(message, "role"));

		fprintf(f, "### %s:\n%s\n",
			!strcmp(role, "system") ? "System"
			: !strcmp(role, "user") ? "User"
						: "Assistant",
			json_string_value(json_object_get(message, "content")));
	}
	fprintf(f, "### Assistant:\n");
	fclose(f);
	must(core_tokenizer_encode(t, text, strlen(text), CORE_ENCODE_BOS, &prompt, &n, &why));
	must(core_tokenizer_encode(t, answer, strlen(answer), CORE_ENCODE_NO_PREFIX, &rest, &more, &why));
	all = malloc((n + more + 1) * sizeof(*all));
	memcpy(all, prompt, n * sizeof(*all));
	memcpy(all + n, rest, more * sizeof(*all));
	all[n + more] = core_tokenizer_eos(t);
	free(prompt);
	free(rest);
	free(text);
	return (struct core_example){all, (uint32_t)(n + more + 1), (uint32_t)n};
}

/* Every other line is of the other task. */
static struct lesson lesson_new(enum core_quant quant)
{
	struct lesson l = {.m = load_model(demo_path("model"), quant)};
	FILE *f[2];

	must(core_adapter_load(&l.a[0], l.m, demo_path("adapters/tailor"), &why));
	must(core_adapter_load(&l.a[1], l.m, demo_path("adapters/orderline"), &why));
	f[0] = fopen(demo_path("heldout/tailor.jsonl"), "r");
	f[1] = fopen(demo_path("heldout/orderline.jsonl"), "r");
	assert_non_null(f[0]);
	assert_non_null(f[1]);
	for (; l.n < 2 * EACH; l.n++) {
		json_t *line = json_loadf(f[l.n % 2], JSON_DISABLE_EOF_CHECK, NULL);

		l.e[l.n] = example_of(l.m, line);
		json_decref(line);
	}
	fclose(f[0]);
	fclose(f[1]);
	return l;
}

static void lesson_free(struct lesson *l)
{
	for (uint32_t i = 0; i < l->n; i++)
		free((void *)l->e[i].tokens);
	core_adapter_unref(l->a[0]);
	core_adapter_unref(l->a[1]);
	core_model_free(l->m);
}

static struct core_learn_params params_of(const struct lesson *l, enum core_learn_method method, enum core_learn_by by,
					  enum core_learn_form form, uint32_t steps)
{
	return (struct core_learn_params){.model = l->m,
					  .adapters = l->a,
					  .n_adapters = ADAPTERS,
					  .examples = l->e,
					  .n_examples = 16,
					  .held_out = l->e + 16,
					  .n_held_out = 8,
					  .method = method,
					  .by = by,
					  .form = form,
					  .steps = steps,
					  .seed = 7};
}

static struct core_learn_result learn(const struct core_learn_params *p)
{
	struct core_learn_result r;

	must(core_learn(&r, p, &why));
	print_message(
		"%s %s %s: curve %.3f ... %.3f; held out: base %.3f, tailor %.3f, orderline %.3f, uniform %.3f, learned %.3f\n",
		core_learn_method_name(p->method), core_learn_by_name(p->by), core_learn_form_name(p->form), r.curve[0],
		r.curve[r.steps - 1], r.held_out.base, r.held_out.adapter[0], r.held_out.adapter[1], r.held_out.uniform,
		r.held_out.learned);
	return r;
}

static void is_best(const struct core_learn_params *p)
{
	struct core_learn_result r = learn(p);

	assert_int_equal(r.steps, p->steps);
	assert_int_equal(r.n_held_out, 8);
	assert_true(r.held_out.learned < r.held_out.uniform);
	assert_true(r.held_out.learned < r.held_out.base);
	assert_true(r.held_out.learned < r.held_out.adapter[0] && r.held_out.learned < r.held_out.adapter[1]);
	core_learn_result_finish(&r);
}

static void groupings_and_forms_by_gradient(void **state)
{
	static const struct {
		enum core_learn_by by;
		enum core_learn_form form;
		double rate;
	} ways[] = {{CORE_LEARN_GLOBAL, CORE_LEARN_RAW, 0.1},
		    {CORE_LEARN_LAYER, CORE_LEARN_SIGMOID, 0.3},
		    {CORE_LEARN_MODULE, CORE_LEARN_SOFTMAX, 0.2},
		    {CORE_LEARN_MODULE, CORE_LEARN_CLAMP, 0.1}};
	struct lesson l = lesson_new(CORE_QUANT_NONE);

	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		struct core_learn_params p = params_of(&l, CORE_LEARN_GRADIENT, ways[i].by, ways[i].form, 5);

		p.rate = ways[i].rate;
		p.batch = 6;
		is_best(&p);
	}
	lesson_free(&l);
}

static void groupings_by_search(void **state)
{
	struct lesson l = lesson_new(CORE_QUANT_Q8);

	for (int by = CORE_LEARN_GLOBAL; by < CORE_LEARN_MODULE; by++) {
		struct core_learn_params p = params_of(&l, CORE_LEARN_SEARCH, (enum core_learn_by)by, CORE_LEARN_RAW, 3);

		p.batch = 4;
		p.l1 = 0.05;
		is_best(&p);
	}
	lesson_free(&l);
}

static void the_bound_of_a_search_is_kept(void **state)
{
	struct lesson l = lesson_new(CORE_QUANT_NONE);
	struct core_learn_params p = params_of(&l, CORE_LEARN_SEARCH, CORE_LEARN_LAYER, CORE_LEARN_RAW, 2);
	struct core_learn_result r;

	p.batch = 2;
	p.bound = 0.6;
	r = learn(&p);
	for (size_t i = 0; i < (size_t)ADAPTERS * 4 * CORE_LINEARS; i++)
		assert_true(r.weights[i] >= -0.6f && r.weights[i] <= 0.6f);
	core_learn_result_finish(&r);
	lesson_free(&l);
}

/* Sums of 1 and shares between 0 and 1, as the forms promise. */
static void forms_keep_their_ranges(void **state)
{
	struct lesson l = lesson_new(CORE_QUANT_NONE);
	struct core_learn_params p = params_of(&l, CORE_LEARN_GRADIENT, CORE_LEARN_MODULE, CORE_LEARN_SOFTMAX, 3);
	size_t n = 4 * CORE_LINEARS;
	struct core_learn_result r;

	p.batch = 2;
	p.rate = 2;
	r = learn(&p);
	for (size_t i = 0; i < n; i++)
		assert_true(fabsf(r.weights[i] + r.weights[n + i] - 1) < 1e-5f);
	core_learn_result_finish(&r);
	p.form = CORE_LEARN_CLAMP;
	r = learn(&p);
	for (size_t i = 0; i < 2 * n; i++)
		assert_true(r.weights[i] >= 0 && r.weights[i] <= 1);
	core_learn_result_finish(&r);
	lesson_free(&l);
}

/* ---- determinism ---- */

static bool same(const struct core_learn_result *a, const struct core_learn_result *b, size_t n)
{
	return !memcmp(a->weights, b->weights, n * sizeof(float)) && !memcmp(a->curve, b->curve, a->steps * sizeof(double)) &&
	       !memcmp(&a->held_out, &b->held_out, sizeof(a->held_out));
}

static void the_seed_decides(struct core_learn_params p)
{
	struct core_learn_result a, b, c;

	p.batch = 3;
	p.n_held_out = 0; /* the split is the seed's, too */
	p.n_examples = 10;
	p.threads = 1;
	a = learn(&p);
	p.threads = 3;
	b = learn(&p);
	p.seed++;
	c = learn(&p);
	assert_int_equal(a.n_held_out, 2);
	assert_int_equal(a.n_learned, 8);
	assert_true(same(&a, &b, (size_t)ADAPTERS * 4 * CORE_LINEARS));
	assert_false(same(&a, &c, (size_t)ADAPTERS * 4 * CORE_LINEARS));
	core_learn_result_finish(&a);
	core_learn_result_finish(&b);
	core_learn_result_finish(&c);
}

static void the_same_seed_gives_the_same_bytes(void **state)
{
	struct lesson l = lesson_new(CORE_QUANT_Q4);

	the_seed_decides(params_of(&l, CORE_LEARN_GRADIENT, CORE_LEARN_MODULE, CORE_LEARN_RAW, 2));
	the_seed_decides(params_of(&l, CORE_LEARN_SEARCH, CORE_LEARN_LAYER, CORE_LEARN_RAW, 2));
	lesson_free(&l);
}

/* ---- what is told is what was measured ---- */

/* In one pass, the answer as generated tokens, whose bits differ from a prompt's. */
static void feed_example(struct core_ctx *c, struct core_seq *s, const struct core_example *e)
{
	struct core_row *rows = calloc(e->n, sizeof(*rows));

	for (uint32_t k = 0; k + 1 < e->n; k++)
		rows[k] = (struct core_row){s, e->tokens[k], k + 1 < e->from ? CORE_PROMPT : CORE_GENERATED, k + 1 >= e->from};
	must(core_forward(c, rows, e->n - 1, &why));
	free(rows);
}

static double loss_of(const struct lesson *l, const struct core_learn_params *p, const struct core_learn_result *r)
{
	struct core_blend_part parts[ADAPTERS];
	struct core_blend *b = NULL;
	struct core_ctx *c = new_ctx(l->m, NULL, 1, 64, 512);
	double sum = 0, tokens = 0;

	core_learn_parts(parts, p->adapters, ADAPTERS, p->by, r->weights, l->m->config.layers);
	must(core_blend_new(&b, parts, ADAPTERS, &why));
	for (uint32_t i = 0; i < p->n_held_out; i++) {
		const struct core_example *e = &p->held_out[i];
		struct core_seq *s = core_seq_new(c);

		assert_int_equal(core_seq_set_blend(c, s, b), CORE_OK);
		feed_example(c, s, e);
		for (uint32_t k = e->from; k < e->n; k++, tokens++) {
			const float *z = core_logits(c, k - e->from);
			double all = 0;

			for (uint32_t j = 0; j < l->m->config.vocab; j++)
				all += exp(z[j]);
			sum += log(all) - z[e->tokens[k]];
		}
		core_seq_free(c, s);
	}
	core_blend_unref(b);
	core_ctx_free(c);
	return sum / tokens;
}

static void the_learned_loss_is_that_of_the_blend(void **state)
{
	struct lesson l = lesson_new(CORE_QUANT_NONE);

	for (int by = CORE_LEARN_GLOBAL; by < CORE_LEARN_BYS; by++) {
		struct core_learn_params p = params_of(&l, CORE_LEARN_GRADIENT, (enum core_learn_by)by, CORE_LEARN_RAW, 2);
		struct core_learn_result r = (p.batch = 4, learn(&p));

		double core = loss_of(&l, &p, &r), off = fabs(core - r.held_out.learned);

		print_message("the core's loss: %.2g apart\n", off);
		assert_true(off < 1e-5);
		core_learn_result_finish(&r);
	}
	lesson_free(&l);
}

/* ---- refusals ---- */

static bool yes(void *arg)
{
	return true;
}

static void refused(const struct core_learn_params *p, int code)
{
	struct core_learn_result r;

	assert_int_equal(core_learn(&r, p, &why), code);
	assert_null(r.weights);
	print_message("%s\n", why.text);
}

static void what_makes_no_sense_is_refused(void **state)
{
	struct lesson l = lesson_new(CORE_QUANT_NONE);
	const struct core_learn_params good = params_of(&l, CORE_LEARN_GRADIENT, CORE_LEARN_LAYER, CORE_LEARN_RAW, 1);
	struct core_example bad = l.e[0];
	struct core_learn_params p = good;

	p.steps = 0;
	refused(&p, CORE_EINVAL);
	p = good;
	p.rate = NAN;
	refused(&p, CORE_EINVAL);
	p = good;
	p.n_adapters = 0;
	refused(&p, CORE_EINVAL);
	p = good;
	p.n_adapters = 1;
	p.form = CORE_LEARN_SOFTMAX;
	refused(&p, CORE_EINVAL);
	p = good;
	p.method = CORE_LEARN_SEARCH;
	p.form = CORE_LEARN_SIGMOID;
	refused(&p, CORE_EINVAL);
	p = good;
	p.n_examples = 1;
	p.n_held_out = 0;
	refused(&p, CORE_EINVAL);
	p = good;
	bad.from = bad.n;
	p.held_out = &bad;
	p.n_held_out = 1;
	refused(&p, CORE_EINVAL);
	p = good;
	p.stop = yes;
	refused(&p, CORE_ECANCELLED);
	p.method = CORE_LEARN_SEARCH;
	refused(&p, CORE_ECANCELLED);
	lesson_free(&l);
}

static void an_adapter_of_the_embedding_has_one_weight(void **state)
{
	struct core_model *m = load_model(golden_path("gqa-untied"), CORE_QUANT_NONE);
	struct core_adapter *a[ADAPTERS] = {load_adapter(m, "embedding"), load_adapter(m, "plain")},
			    *dora = load_adapter(m, "dora");
	const int32_t token[] = {1, 5, 9, 2, 7};
	const struct core_example e[2] = {{token, 5, 2}, {token, 4, 1}};
	struct core_learn_params p = {
		.model = m, .adapters = a, .n_adapters = ADAPTERS, .examples = e, .n_examples = 2, .steps = 3};
	struct core_learn_result r;

	must(core_learn(&r, &p, &why));
	core_learn_result_finish(&r);
	p.by = CORE_LEARN_LAYER;
	refused(&p, CORE_EUNSUPPORTED);
	p.by = CORE_LEARN_GLOBAL;
	p.adapters = &dora;
	p.n_adapters = 1;
	refused(&p, CORE_EUNSUPPORTED);
	core_adapter_unref(a[0]);
	core_adapter_unref(a[1]);
	core_adapter_unref(dora);
	core_model_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(groupings_and_forms_by_gradient),    cmocka_unit_test(groupings_by_search),
		cmocka_unit_test(the_bound_of_a_search_is_kept),      cmocka_unit_test(forms_keep_their_ranges),
		cmocka_unit_test(the_same_seed_gives_the_same_bytes), cmocka_unit_test(the_learned_loss_is_that_of_the_blend),
		cmocka_unit_test(what_makes_no_sense_is_refused),     cmocka_unit_test(an_adapter_of_the_embedding_has_one_weight),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
