/* learn_check.c: the check at load passes for every adapter on bases of every precision, and tells when the weaving goes wrong.
 *
 * The program is linked with --wrap=blend_factor: the core calls __wrap_blend_factor() here, which can leave out or double what a
 * linear of one input of one layer is to get. */
#include "adapter_test.h"
#include "kernels/blend.h"
#include "kernels/learn/pass.h"
#include "kernels/llama.h"

float __real_blend_factor(const struct blend_part *p, uint32_t layer, unsigned linear);
float __wrap_blend_factor(const struct blend_part *p, uint32_t layer, unsigned linear);

static enum { WHOLE, LEFT_OUT, TWICE } how;
static uint32_t where_layer;
static enum adapter_input where_input;

float __wrap_blend_factor(const struct blend_part *p, uint32_t layer, unsigned linear)
{
	float f = __real_blend_factor(p, layer, linear);

	if (layer != where_layer || adapter_input_of(linear) != where_input)
		return f;
	return how == LEFT_OUT ? 0 : how == TWICE ? 2 * f : f;
}

static const struct core_check_params patient = {.seconds = 1e9};

static struct core_check_result check(const struct core_model *m, const struct core_adapter *a)
{
	struct core_check_result r;

	must(core_check(&r, m, a, &patient, &why));
	return r;
}

static void passes(const struct core_model *m, const char *name)
{
	struct core_adapter *a = load_adapter(m, name);
	struct core_check_result r = check(m, a);

	print_message("%s %s %s: divergence %.2g, rounding %.2g, logits %.2g\n", core_model_info(m)->name,
		      core_model_info(m)->quant, name, r.divergence, r.rounding, r.difference);
	assert_true(core_check_passed(&r));
	assert_int_equal(r.layers, r.of);
	core_adapter_unref(a);
}

static void every_adapter_passes_on_every_base(void **state)
{
	static const char *const names[] = {"plain", "patterns",  "rslora", "query-value", "one-layer", "regex",
					    "dora",  "embedding", "f16",    "bf16",        "all-linear"};

	for (int q = CORE_QUANT_NONE; q <= CORE_QUANT_Q4; q++) {
		struct core_model *m = load_model(golden_path("gqa-untied"), (enum core_quant)q);

		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			passes(m, names[i]);
		core_model_free(m);
		m = load_model(golden_path("odd-sizes"), (enum core_quant)q);
		passes(m, "odd-sizes");
		core_model_free(m);
		m = load_model(golden_path("mha-tied"), (enum core_quant)q);
		passes(m, "embedding-tied");
		core_model_free(m);
	}
}

static struct core_model *demo(enum core_quant q, struct core_adapter **tailor, struct core_adapter **orderline)
{
	const char *top = getenv("top_srcdir") ? getenv("top_srcdir") : ".";
	struct core_model *m;
	char path[512];

	snprintf(path, sizeof(path), "%s/tests/demo/model", top);
	m = load_model(path, q);
	snprintf(path, sizeof(path), "%s/tests/demo/adapters/tailor", top);
	must(core_adapter_load(tailor, m, path, &why));
	snprintf(path, sizeof(path), "%s/tests/demo/adapters/orderline", top);
	must(core_adapter_load(orderline, m, path, &why));
	return m;
}

static void expect_failure(const struct core_model *m, const struct core_adapter *a, const char *name)
{
	struct core_check_result r = check(m, a);

	if (core_check_passed(&r))
		fail_msg("%s %s, layer %u, input %d: divergence %.2g, bound %.2g", name, how == TWICE ? "twice" : "left out",
			 where_layer, where_input, r.divergence, core_check_bound(&r));
}

/* The demo adapters, as they were trained; any one of their sixteen sums left out or added twice. */
static void a_sum_that_is_missing_or_doubled_is_found(void **state)
{
	for (int q = CORE_QUANT_NONE; q <= CORE_QUANT_NF4; q++) {
		struct core_adapter *tailor, *orderline;
		struct core_model *m = demo((enum core_quant)q, &tailor, &orderline);
		struct core_check_result good[2] = {check(m, tailor), check(m, orderline)};

		print_message("demo %s: tailor %.2g, orderline %.2g, rounding %.2g\n", core_model_info(m)->quant,
			      good[0].divergence, good[1].divergence, good[0].rounding);
		assert_true(core_check_passed(&good[0]) && core_check_passed(&good[1]));
		for (where_layer = 0; where_layer < m->config.layers; where_layer++)
			for (where_input = ADAPTER_ATTN; where_input < ADAPTER_INPUTS; where_input++)
				for (how = LEFT_OUT; how <= TWICE; how++) {
					expect_failure(m, tailor, "tailor");
					if (where_input <= ADAPTER_O)
						expect_failure(m, orderline, "orderline");
				}
		how = WHOLE;
		core_adapter_unref(tailor);
		core_adapter_unref(orderline);
		core_model_free(m);
	}
}

/* Layer by layer, in an order that meets each of them; and no longer than the time that there is. */
static void windows_cover_the_depth(void **state)
{
	struct core_adapter *tailor, *orderline;
	struct core_model *m = demo(CORE_QUANT_Q8, &tailor, &orderline);
	struct core_check_params p = {.seconds = 1e9, .window = 1};
	struct core_check_result r;

	must(core_check(&r, m, tailor, &p, &why));
	assert_true(core_check_passed(&r));
	assert_int_equal(r.layers, 4);
	how = LEFT_OUT;
	where_input = ADAPTER_MLP;
	where_layer = 0; /* of the window */
	must(core_check(&r, m, tailor, &p, &why));
	assert_false(core_check_passed(&r));
	how = WHOLE;
	p.seconds = 0;
	must(core_check(&r, m, tailor, &p, &why));
	assert_int_equal(r.layers, 1);
	assert_int_equal(r.of, 4);
	core_adapter_unref(tailor);
	core_adapter_unref(orderline);
	core_model_free(m);
}

static void what_is_no_number_does_not_pass(void **state)
{
	const struct core_check_result r = {.divergence = NAN, .rounding = 1e-4}, both = {.divergence = NAN, .rounding = NAN};

	assert_false(core_check_passed(&r));
	assert_false(core_check_passed(&both));
}

static bool count_down(void *arg)
{
	return --*(int *)arg < 0;
}

static void it_ends_when_it_is_told_to(void **state)
{
	struct core_model *m = load_model(golden_path("gqa-untied"), CORE_QUANT_NONE);
	struct core_adapter *a = load_adapter(m, "plain");
	int left = 3;
	struct core_check_params p = {.seconds = 1e9, .stop = count_down, .arg = &left};
	struct core_check_result r;

	assert_int_equal(core_check(&r, m, a, &p, &why), CORE_ECANCELLED);
	core_adapter_unref(a);
	core_model_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_adapter_passes_on_every_base),
		cmocka_unit_test(a_sum_that_is_missing_or_doubled_is_found),
		cmocka_unit_test(windows_cover_the_depth),
		cmocka_unit_test(what_is_no_number_does_not_pass),
		cmocka_unit_test(it_ends_when_it_is_told_to),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
