/* cuda_core.c: the CUDA core as weftd loads it: device choice, the whole forward pass against the CPU's, promise P1, blends.
 * On the shim; or, when WEFT_CUDA_MODULE names the real module, on a device (tests/gpu/run). */
#include <dlfcn.h>

#include "adapter_test.h"

enum { PAGES = 64, ROWS = 80 };

static void (*shim_seed)(uint64_t);
static void (*shim_memory)(size_t);
static void (*shim_devices)(int);
static void (*shim_reset)(void);
static void (*shim_eager)(int);
static uint64_t (*shim_launches)(void);
static size_t (*shim_allocated)(void);
static const char *(*shim_fault)(void);

static const char *module_path(void)
{
	static char path[512];
	const char *top = getenv("top_builddir");

	if (getenv("WEFT_CUDA_MODULE"))
		return getenv("WEFT_CUDA_MODULE");
	snprintf(path, sizeof(path), "%s/kernels/.libs/weft-cuda-shim.so", top ? top : ".");
	return path;
}

static int load_shim(void **state)
{
	void *so = dlopen(module_path(), RTLD_NOW | RTLD_LOCAL);
	const char *seed = getenv("SHIM_SEED");

	if (!so)
		fail_msg("%s", dlerror());
	*(void **)&shim_seed = dlsym(so, "shim_seed");
	*(void **)&shim_memory = dlsym(so, "shim_memory");
	*(void **)&shim_devices = dlsym(so, "shim_devices");
	*(void **)&shim_reset = dlsym(so, "shim_reset");
	*(void **)&shim_eager = dlsym(so, "shim_eager");
	*(void **)&shim_launches = dlsym(so, "shim_launches");
	*(void **)&shim_allocated = dlsym(so, "shim_allocated");
	*(void **)&shim_fault = dlsym(so, "shim_fault");
	if (!shim_fault) /* a real module; its device is the one that tests/gpu/run has seen */
		return 0;
	shim_seed(seed ? strtoull(seed, NULL, 10) : 1);
	return 0;
}

static enum core_kv_type kv_type; /* of the engines to come */

static int open_core(struct core_ctx **c, const struct core_model *m, const char *device, const char *module)
{
	struct core_ctx_params p = {
		.model = m, .threads = 2, .kv_pages = PAGES, .max_rows = ROWS, .kv_type = kv_type, .prefix_cache = true, .device = device, .module = module};

	*c = NULL;
	unsetenv("WEFT_CPU");
	if (!strcmp(device, "cpu")) /* the one whose rows become integers wherever it runs, as on the device: AMX takes those of prompts as bf16 */
		setenv("WEFT_CPU", "plain", 1);
	return core_ctx_new(c, &p, &why);
}

static struct core_ctx *on_device(const struct core_model *m)
{
	struct core_ctx *c;

	must(open_core(&c, m, "cuda:0", module_path()));
	return c;
}

static struct core_ctx *on_cpu(const struct core_model *m)
{
	struct core_ctx *c;

	must(open_core(&c, m, "cpu", NULL));
	return c;
}

/* With nothing rounded that the weights do not ask for. */
static struct core_ctx *on_exact_cpu(const struct core_model *m)
{
	enum core_kv_type kept = kv_type;
	struct core_ctx *c;

	kv_type = CORE_KV_AUTO;
	c = on_cpu(m);
	kv_type = kept;
	return c;
}

static struct core_model *demo(enum core_quant quant)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/tests/demo/model", getenv("top_srcdir") ? getenv("top_srcdir") : ".");
	return load_model(path, quant);
}

/* ---- which device ---- */

static void a_device_that_is_missing_is_refused_with_the_reason(void **state)
{
	struct core_model *m = load_model(golden_path("gqa-untied"), CORE_QUANT_NONE);
	struct core_ctx *c;

	assert_int_equal(open_core(&c, m, "cuda:0", "/nowhere/weft-cuda.so"), CORE_EUNSUPPORTED);
	assert_non_null(strstr(why.text, "/nowhere/weft-cuda.so"));
	if (!shim_fault) {
		core_model_free(m);
		return;
	}
	assert_int_equal(open_core(&c, m, "cuda:7", module_path()), CORE_EUNSUPPORTED);
	assert_string_equal(why.text, "cuda:7: this machine has 1 CUDA device, numbered from 0");
	shim_devices(0);
	assert_int_equal(open_core(&c, m, "cuda:0", module_path()), CORE_EUNSUPPORTED);
	assert_non_null(strstr(why.text, "no CUDA-capable device"));
	shim_devices(1);
	assert_int_equal(open_core(&c, m, "cuda:", module_path()), CORE_EINVAL);
	assert_int_equal(open_core(&c, m, "cuda:0x", module_path()), CORE_EINVAL);
	assert_int_equal(open_core(&c, m, "gpu", module_path()), CORE_EINVAL);
	core_model_free(m);
}

static void auto_takes_the_device_or_says_why_not(void **state)
{
	struct core_model *m = load_model(golden_path("gqa-untied"), CORE_QUANT_NONE);
	struct core_ctx *c;

	must(open_core(&c, m, "auto", module_path()));
	assert_string_equal(core_ctx_device(c), "cuda:0");
	assert_non_null(strstr(core_ctx_note(c), "weights"));
	core_ctx_free(c);
	must(open_core(&c, m, "auto", "/nowhere/weft-cuda.so"));
	assert_string_equal(core_ctx_device(c), "cpu");
	assert_non_null(strstr(core_ctx_note(c), "/nowhere/weft-cuda.so"));
	core_ctx_free(c);
	must(open_core(&c, m, "cpu", NULL));
	assert_null(core_ctx_note(c));
	core_ctx_free(c);
	core_model_free(m);
}

static void what_does_not_fit_is_refused_before_it_is_loaded(void **state)
{
	struct core_model *m;
	struct core_ctx *c;
	uint64_t launches;

	if (!shim_fault)
		skip();
	m = demo(CORE_QUANT_Q8);
	launches = shim_launches();

	shim_memory((size_t)200 << 20);
	assert_int_equal(open_core(&c, m, "cuda:0", module_path()), CORE_ENOMEM);
	assert_non_null(strstr(why.text, "0.20 GiB free of 0.20: weights 0.00, KV pages"));
	assert_int_equal(shim_allocated(), 0);
	assert_true(shim_launches() == launches);
	shim_memory((size_t)8 << 30);
	core_model_free(m);
}

static void everything_is_given_back(void **state)
{
	struct core_model *m;
	struct core_ctx *c;

	if (!shim_fault)
		skip();
	m = demo(CORE_QUANT_Q4);
	c = on_device(m);
	assert_true(shim_allocated() > core_model_info(m)->weight_bytes);
	core_ctx_free(c);
	assert_int_equal(shim_allocated(), 0);
	assert_null(shim_fault());
	core_model_free(m);
}

/* ---- the forward pass ---- */

static int32_t token_at(const struct core_model *m, uint32_t i)
{
	return (int32_t)((i * 7919u + i * i * 31u + 3) % core_model_info(m)->vocab);
}

/* Feeds positions [from, to) of the story to s in one pass, all logits wanted. */
static void tell(struct core_ctx *c, struct core_seq *s, const struct core_model *m, uint32_t from, uint32_t to,
		 enum core_path path)
{
	struct core_row rows[ROWS];

	for (uint32_t i = from; i < to; i++)
		rows[i - from] = (struct core_row){s, token_at(m, i), path, true};
	must(core_forward(c, rows, to - from, &why));
}

/* Prompt of 29 tokens, then 5 generated ones, over the end of a page. [34][vocab], to be freed. */
enum { PROMPT = 29, LENGTH = 34 };
static float *logits_of(struct core_ctx *c, const struct core_model *m, struct core_blend *b)
{
	uint32_t vocab = core_model_info(m)->vocab;
	float *all = malloc((size_t)LENGTH * vocab * sizeof(float));
	struct core_seq *s = core_seq_new(c);

	must(core_seq_set_blend(c, s, b));
	tell(c, s, m, 0, PROMPT, CORE_PROMPT);
	for (uint32_t i = 0; i < PROMPT; i++)
		memcpy(all + (size_t)i * vocab, core_logits(c, i), vocab * sizeof(float));
	for (uint32_t i = PROMPT; i < LENGTH; i++) {
		tell(c, s, m, i, i + 1, CORE_GENERATED);
		memcpy(all + (size_t)i * vocab, core_logits(c, 0), vocab * sizeof(float));
	}
	core_seq_free(c, s);
	return all;
}

/* Root mean square of the difference, as a share of that of b. */
static double distance(const float *a, const float *b, size_t n)
{
	double d = 0, size = 0;

	for (size_t i = 0; i < n; i++) {
		d += isnan(a[i]) ? INFINITY : ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
		size += (double)b[i] * b[i];
	}
	return sqrt(d / size);
}

/* Either a bound on the distance from the CPU; or, with exact (the same model as the file has it), device and CPU are no
 * further apart than the format takes the CPU from the truth, and the device is hardly further from it: what the format costs is
 * paid once. */
static void check_against_cpu(const struct core_model *m, struct core_blend *b, double bound, const struct core_model *exact,
			      struct core_blend *exact_blend, const char *what)
{
	size_t n = (size_t)LENGTH * core_model_info(m)->vocab;
	struct core_ctx *device = on_device(m), *cpu = on_cpu(m), *best = exact ? on_exact_cpu(exact) : NULL;
	float *got = logits_of(device, m, b), *want = logits_of(cpu, m, b),
	      *truth = exact ? logits_of(best, exact, exact_blend) : NULL;
	double apart = distance(got, want, n), ours = exact ? distance(got, truth, n) : 0,
	       theirs = exact ? distance(want, truth, n) : 0;

	print_message("%s: device to CPU %.2g", what, apart);
	print_message(exact ? "; to the exact model: device %.2g, CPU %.2g\n" : "\n", ours, theirs);
	bound = exact ? theirs : bound;
	if (!(apart <= bound && ours <= 1.33 * theirs))
		fail_msg("%s: device to CPU %g (bound %g); to the exact model: device %g, CPU %g", what, apart, bound, ours,
			 theirs);
	free(got);
	free(want);
	free(truth);
	core_ctx_free(device);
	core_ctx_free(cpu);
	core_ctx_free(best);
}

/* f32: what is left is KV in f16. bf16: activations have 8 bits of mantissa on the device, 24 on the CPU. q8, q4: where
 * the CPU rounds a value to one of 255 steps, the device, a little off, sometimes takes the next one. */
static void the_forward_pass_agrees_with_the_cpu_within_the_formats_error(void **state)
{
	struct core_model *exact = demo(CORE_QUANT_NONE), *q8 = demo(CORE_QUANT_Q8), *q4 = demo(CORE_QUANT_Q4), *nf4 = demo(CORE_QUANT_NF4);
	struct core_model *saved = load_model(golden_path("../nf4/model"), CORE_QUANT_NONE);
	struct core_model *f32 = load_model(golden_path("gqa-untied"), CORE_QUANT_NONE);
	struct core_model *odd = load_model(golden_path("odd-sizes"), CORE_QUANT_NONE),
			  *odd_q4 = load_model(golden_path("odd-sizes"), CORE_QUANT_Q4);

	check_against_cpu(exact, NULL, 1e-2, NULL, NULL, "demo bf16");
	check_against_cpu(q8, NULL, 0, exact, NULL, "demo q8");
	check_against_cpu(q4, NULL, 0, exact, NULL, "demo q4");
	check_against_cpu(nf4, NULL, 1e-2, NULL, NULL, "demo nf4");
	check_against_cpu(saved, NULL, 1e-2, NULL, NULL, "nf4 and a head in bf16, as bitsandbytes saved them");
	check_against_cpu(f32, NULL, 2e-3, NULL, NULL, "f32");
	check_against_cpu(odd, NULL, 2e-3, NULL, NULL, "f32 of odd sizes");
	check_against_cpu(odd_q4, NULL, 0, odd, NULL, "q4 of odd sizes");
	core_model_free(exact);
	core_model_free(q8);
	core_model_free(q4);
	core_model_free(nf4);
	core_model_free(saved);
	core_model_free(f32);
	core_model_free(odd);
	core_model_free(odd_q4);
}

/* ---- keys and values in 8 bits ---- */

static int back_to_auto(void **state)
{
	kv_type = CORE_KV_AUTO;
	return 0;
}

/* bf16: activations are a little off, and some values get the next code. */
static void int8_kv_agrees_with_the_cpus(void **state)
{
	struct core_model *bf16 = demo(CORE_QUANT_NONE), *q8 = demo(CORE_QUANT_Q8);
	struct core_model *f32 = load_model(golden_path("gqa-untied"), CORE_QUANT_NONE), *odd = load_model(golden_path("odd-sizes"), CORE_QUANT_NONE);

	kv_type = CORE_KV_INT8;
	check_against_cpu(bf16, NULL, 2e-2, NULL, NULL, "demo bf16, KV in int8");
	check_against_cpu(q8, NULL, 0, bf16, NULL, "demo q8, KV in int8");
	check_against_cpu(f32, NULL, 0, f32, NULL, "f32, KV in int8");
	check_against_cpu(odd, NULL, 0, odd, NULL, "f32 of odd sizes, KV in int8");
	core_model_free(bf16);
	core_model_free(q8);
	core_model_free(f32);
	core_model_free(odd);
}

/* The demo model's heads of 32: 1 KiB + 128 bytes a page, head and layer for f16's 2 KiB. */
static void int8_pages_take_about_half_the_memory(void **state)
{
	struct core_model *m = demo(CORE_QUANT_Q8);
	const struct core_model_info *info = core_model_info(m);
	size_t heads = (size_t)info->layers * info->kv_heads * PAGES, half;
	struct core_ctx *c;

	assert_int_equal(info->head_dim, 32);
	c = on_device(m);
	assert_int_equal(core_ctx_kv_type(c), CORE_KV_F16);
	half = shim_fault ? shim_allocated() : 0;
	core_ctx_free(c);
	kv_type = CORE_KV_INT8;
	c = on_device(m);
	assert_int_equal(core_ctx_kv_type(c), CORE_KV_INT8);
	if (shim_fault)
		assert_int_equal(half - shim_allocated(), heads * (2048 - 1152));
	core_ctx_free(c);
	kv_type = CORE_KV_F32;
	assert_int_equal(open_core(&c, m, "cuda:0", module_path()), CORE_EUNSUPPORTED);
	assert_string_equal(why.text, "cuda:0: keys and values in f32 are for the CPU: this device has f16 and int8");
	core_model_free(m);
}

/* ---- blends ---- */

static struct core_adapter *demo_adapter(const struct core_model *m, const char *name)
{
	char path[512];
	struct core_adapter *a = NULL;

	snprintf(path, sizeof(path), "%s/tests/demo/adapters/%s", getenv("top_srcdir") ? getenv("top_srcdir") : ".", name);
	must(core_adapter_load(&a, m, path, &why));
	return a;
}

/* Both demo adapters, one of them with weights per layer and linear. */
static struct core_blend *demo_blend(const struct core_model *m, float first, float second)
{
	float weights[4 * CORE_LINEARS];
	struct core_blend_part p[2] = {{demo_adapter(m, "orderline"), first, NULL}, {demo_adapter(m, "tailor"), second, weights}};
	struct core_blend *b = NULL;

	for (unsigned i = 0; i < sizeof(weights) / sizeof(weights[0]); i++)
		weights[i] = 0.5f + 0.05f * (float)i;
	must(core_blend_new(&b, p, 2, &why));
	core_adapter_unref(p[0].adapter);
	core_adapter_unref(p[1].adapter);
	return b;
}

static void blends_agree_with_the_cpu_within_the_formats_error(void **state)
{
	static const char *const names[] = {"plain", "f16", "bf16", "patterns", "dora", "embedding", "rslora", "one-layer"};
	struct core_model *exact = demo(CORE_QUANT_NONE), *q8 = demo(CORE_QUANT_Q8);
	struct core_model *f32 = load_model(golden_path("gqa-untied"), CORE_QUANT_NONE);
	struct core_blend *a = demo_blend(exact, 0.7f, -0.4f), *b = demo_blend(q8, 0.7f, -0.4f);

	check_against_cpu(exact, a, 1e-2, NULL, NULL, "demo bf16, two adapters");
	check_against_cpu(q8, b, 0, exact, a, "demo q8, two adapters");
	core_blend_unref(a);
	core_blend_unref(b);
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		a = blend_of(f32, names[i]);
		check_against_cpu(f32, a, 2e-3, NULL, NULL, names[i]);
		core_blend_unref(a);
	}
	core_model_free(exact);
	core_model_free(q8);
	core_model_free(f32);
}

/* ---- loading beside passes ---- */

/* A pass of generated tokens of s alone. */
static void others_step(struct core_ctx *c, struct core_seq *s, const struct core_model *m)
{
	tell(c, s, m, core_seq_len(s), core_seq_len(s) + 1, CORE_GENERATED);
}

static void check_loading(bool eager)
{
	struct core_model *m = demo(CORE_QUANT_Q8);
	struct core_blend *b = demo_blend(m, 0.7f, -0.4f), *same = demo_blend(m, 0.7f, -0.4f);
	struct core_ctx *c = on_device(m);
	size_t n = (size_t)LENGTH * core_model_info(m)->vocab, before;
	float *want = logits_of(c, m, b), *got;
	struct core_seq *other, *s;
	unsigned passes = 0;

	core_ctx_free(c);
	if (shim_eager)
		shim_eager(eager);
	c = on_device(m);
	other = core_seq_new(c);
	before = shim_allocated ? shim_allocated() : 0;

	s = core_seq_new(c); /* it goes before its adapters are there: nothing is read from them any more */
	must(core_seq_set_blend(c, s, b));
	assert_false(core_seq_ready(c, s, false));
	others_step(c, other, m);
	core_seq_free(c, s);
	core_blend_unref(b);
	others_step(c, other, m);
	if (shim_allocated)
		assert_true(shim_allocated() <= before + (1 << 20)); /* rows got wider */

	s = core_seq_new(c);
	must(core_seq_set_blend(c, s, same));
	assert_false(core_seq_ready(c, s, false));
	for (; !core_seq_ready(c, s, false); passes++)
		others_step(c, other, m);
	if (shim_fault)
		assert_true(passes > 1); /* it does not all go with one */
	got = logits_of(c, m, same);
	assert_memory_equal(got, want, n * sizeof(float));
	free(got);
	core_seq_free(c, s);
	core_seq_free(c, other);
	core_ctx_free(c);

	c = on_device(m); /* who does not ask has to wait */
	s = core_seq_new(c);
	must(core_seq_set_blend(c, s, same));
	other = core_seq_new(c); /* the adapters of one that goes have another reader */
	must(core_seq_set_blend(c, other, same));
	core_seq_free(c, s);
	got = logits_of(c, m, same);
	assert_memory_equal(got, want, n * sizeof(float));
	free(got);
	core_seq_free(c, other);
	core_ctx_free(c);

	c = on_device(m);
	s = core_seq_new(c);
	must(core_seq_set_blend(c, s, same));
	assert_true(core_seq_ready(c, s, true));
	assert_true(core_seq_ready(c, s, false));
	core_seq_free(c, s);
	core_ctx_free(c);
	free(want);
	core_blend_unref(same);
	core_model_free(m);
	if (shim_eager)
		shim_eager(0);
	if (shim_fault) {
		assert_int_equal(shim_allocated(), 0);
		assert_null(shim_fault());
	}
}

static void adapters_arrive_beside_passes_of_others(void **state)
{
	check_loading(false);
	check_loading(true);
}

/* ---- P1 ---- */

struct story {
	struct core_model *m;
	struct core_ctx *c;
	struct core_blend *blend; /* of our sequence */
	uint32_t vocab;
	float *want; /* as logits_of() gives it: alone */
};

static void same(const struct story *t, uint32_t got, uint32_t position, const char *how)
{
	const float *a = core_logits(t->c, got), *b = t->want + (size_t)position * t->vocab;

	for (uint32_t k = 0; k < t->vocab; k++)
		if (memcmp(&a[k], &b[k], sizeof(float)))
			fail_msg("%s: %s: position %u, token %u: %a, alone it was %a", core_model_info(t->m)->quant, how, position,
				 k, a[k], b[k]);
}

static struct core_seq *ours(const struct story *t)
{
	struct core_seq *s = core_seq_new(t->c);

	must(core_seq_set_blend(t->c, s, t->blend));
	return s;
}

static void in_chunks(const struct story *t, uint32_t chunk)
{
	struct core_seq *s = ours(t);

	for (uint32_t i = 0; i < PROMPT; i += chunk) {
		uint32_t end = i + chunk < PROMPT ? i + chunk : PROMPT;

		tell(t->c, s, t->m, i, end, CORE_PROMPT);
		for (uint32_t k = i; k < end; k++)
			same(t, k - i, k, "prompt in chunks");
	}
	tell(t->c, s, t->m, PROMPT, LENGTH, CORE_GENERATED); /* as after a restart: all at once */
	for (uint32_t k = PROMPT; k < LENGTH; k++)
		same(t, k - PROMPT, k, "generated tokens again");
	core_seq_free(t->c, s);
}

/* Pages that other sequences have computed: one of the prompt, and one that the answer begins in. */
static void behind_the_prefix_cache(const struct story *t)
{
	uint32_t words[LENGTH];
	struct core_seq *s = ours(t);

	for (uint32_t i = 0; i < LENGTH; i++)
		words[i] = core_word(token_at(t->m, i), i < PROMPT ? CORE_PROMPT : CORE_GENERATED);
	assert_int_equal(core_seq_reuse(t->c, s, words, PROMPT - 1), 16);
	tell(t->c, s, t->m, 16, PROMPT, CORE_PROMPT);
	for (uint32_t k = 16; k < PROMPT; k++)
		same(t, k - 16, k, "prompt behind a cached page");
	must(core_seq_trim(t->c, s, 0));
	assert_int_equal(core_seq_reuse(t->c, s, words, LENGTH), 32);
	tell(t->c, s, t->m, 32, LENGTH, CORE_GENERATED);
	for (uint32_t k = 32; k < LENGTH; k++)
		same(t, k - 32, k, "answer behind cached pages");
	core_seq_free(t->c, s);
}

/* n neighbours of both paths and several blends around our rows, which come one by one. */
static void among_neighbours(const struct story *t, uint32_t n, bool prompts)
{
	struct core_seq *s = ours(t), *other[16];
	struct core_blend *b = prompts ? demo_blend(t->m, -0.25f, 1) : NULL;
	struct core_row rows[ROWS];

	tell(t->c, s, t->m, 0, PROMPT, CORE_PROMPT);
	for (uint32_t i = 0; i < n; i++) {
		other[i] = core_seq_new(t->c);
		must(core_seq_set_blend(t->c, other[i], i % 3 == 1 ? b : i % 3 == 2 ? t->blend : NULL));
	}
	for (uint32_t at = PROMPT; at < LENGTH; at++) {
		uint32_t m = 0, mine = at % (n + 1);

		for (uint32_t i = 0; i <= n; i++)
			if (i == mine)
				rows[m++] = (struct core_row){s, token_at(t->m, at), CORE_GENERATED, true};
			else
				for (uint32_t k = 0; k < (prompts ? 1 + i % 4 : 1); k++)
					rows[m++] =
						(struct core_row){other[i < mine ? i : i - 1], token_at(t->m, at * 31 + i * 7 + k),
								  prompts && i % 2 ? CORE_PROMPT : CORE_GENERATED, true};
		must(core_forward(t->c, rows, m, &why));
		for (uint32_t i = 0; i < m; i++)
			if (rows[i].seq == s)
				same(t, i, at, "among neighbours");
	}
	for (uint32_t i = 0; i < n; i++)
		core_seq_free(t->c, other[i]);
	core_seq_free(t->c, s);
	core_blend_unref(b);
}

/* A fork in the middle of a page: both go on, one with other tokens. */
static void in_forks(const struct story *t)
{
	struct core_seq *s = ours(t), *wild;
	struct core_row rows[2];

	tell(t->c, s, t->m, 0, PROMPT, CORE_PROMPT);
	wild = core_seq_fork(t->c, s);
	for (uint32_t at = PROMPT; at < LENGTH; at++) {
		rows[0] = (struct core_row){wild, token_at(t->m, at + 1000), CORE_GENERATED, true};
		rows[1] = (struct core_row){s, token_at(t->m, at), CORE_GENERATED, true};
		must(core_forward(t->c, rows, 2, &why));
		same(t, 1, at, "beside its fork");
	}
	core_seq_free(t->c, wild);
	must(core_seq_trim(t->c, s, 5));
	tell(t->c, s, t->m, 5, PROMPT, CORE_PROMPT);
	same(t, PROMPT - 6, PROMPT - 1, "after a trim");
	core_seq_free(t->c, s);
}

static void holds(enum core_quant quant, bool with_blend)
{
	struct story t = {.m = demo(quant)};

	t.c = on_device(t.m);
	t.vocab = core_model_info(t.m)->vocab;
	t.blend = with_blend ? demo_blend(t.m, 0.7f, -0.4f) : NULL;
	t.want = logits_of(t.c, t.m, t.blend);
	in_chunks(&t, PROMPT);
	in_chunks(&t, 7);
	behind_the_prefix_cache(&t);
	among_neighbours(&t, 2, false);
	among_neighbours(&t, 6, true);
	in_forks(&t);
	assert_int_equal(core_ctx_pages_free(t.c), PAGES);
	free(t.want);
	core_blend_unref(t.blend);
	core_ctx_free(t.c);
	core_model_free(t.m);
	if (!shim_fault)
		return;
	assert_int_equal(shim_allocated(), 0);
	assert_null(shim_fault());
}

static void logits_are_the_same_bytes_under_any_load(void **state)
{
	holds(CORE_QUANT_NONE, false);
	holds(CORE_QUANT_Q8, true);
	holds(CORE_QUANT_NF4, false);
	kv_type = CORE_KV_INT8;
	holds(CORE_QUANT_NONE, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_device_that_is_missing_is_refused_with_the_reason),
		cmocka_unit_test(auto_takes_the_device_or_says_why_not),
		cmocka_unit_test(what_does_not_fit_is_refused_before_it_is_loaded),
		cmocka_unit_test(everything_is_given_back),
		cmocka_unit_test(the_forward_pass_agrees_with_the_cpu_within_the_formats_error),
		cmocka_unit_test(blends_agree_with_the_cpu_within_the_formats_error),
		cmocka_unit_test(adapters_arrive_beside_passes_of_others),
		cmocka_unit_test_teardown(int8_kv_agrees_with_the_cpus, back_to_auto),
		cmocka_unit_test_teardown(int8_pages_take_about_half_the_memory, back_to_auto),
		cmocka_unit_test_teardown(logits_are_the_same_bytes_under_any_load, back_to_auto),
	};

	return cmocka_run_group_tests(tests, load_shim, NULL);
}
