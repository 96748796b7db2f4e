/* cuda_ranks.c: tensor parallelism on devices, with ranks as threads of this process that share the shim's device: parts are added up by the host
 * or by a kernel behind NCCL's gather (tests/shim/nccl.cc). Both give the same bytes in every rank and under any batch, near the whole
 * model's. On a machine with several GPUs nothing of this has run. */
#include <dlfcn.h>
#include <pthread.h>

#include "adapter_test.h"

enum { RANKS_MAX = 4, SEQS = 2, PROMPT = 14, LENGTH = 18, ROWS = 32, PAGES = 4 };

static char module[512];
static const char *(*shim_fault)(void);
static size_t (*shim_allocated)(void);

static int load_shim(void **state)
{
	const char *top = getenv("top_builddir");
	void *so;

	snprintf(module, sizeof(module), "%s/kernels/.libs/weft-cuda-shim.so", top ? top : ".");
	so = dlopen(module, RTLD_NOW | RTLD_LOCAL);
	if (!so)
		fail_msg("%s", dlerror());
	*(void **)&shim_fault = dlsym(so, "shim_fault");
	*(void **)&shim_allocated = dlsym(so, "shim_allocated");
	unsetenv("WEFT_CPU");
	return 0;
}

/* ---- ranks ---- */

/* ONE_BY_ONE: a sequence after the other, a token a pass; TOGETHER: both in every pass, prompts in pieces. */
enum { ONE_BY_ONE, WHOLE_PROMPTS, TOGETHER, WAYS };

struct group {
	const char *path, *adapter;
	enum core_quant quant;
	enum core_kv_type kv_type;
	uint32_t ranks, vocab, sums;
	bool nccl;
	unsigned char id[CORE_GROUP_ID];
	pthread_barrier_t all;
	const float *part[RANKS_MAX];
	struct rank {
		struct group *g;
		uint32_t rank;
		struct core_model *m;
		struct core_ctx *c;
		struct core_blend *blend;
		float *logits;	/* [WAYS][SEQS][LENGTH][vocab] */
		float *sum;	/* [ROWS][dim] */
		int rc;
		struct core_error err;
	} rank[RANKS_MAX];
};

/* In the order of ranks, and the rows are written when all have read them. */
static void sum(void *arg, float *rows, uint32_t m, uint32_t n, size_t ld)
{
	struct rank *r = arg;
	struct group *g = r->g;

	g->part[r->rank] = rows;
	if (pthread_barrier_wait(&g->all) == PTHREAD_BARRIER_SERIAL_THREAD)
		g->sums++;
	for (uint32_t i = 0; i < m; i++)
		for (uint32_t k = 0; k < n; k++) {
			float all = 0;

			for (uint32_t p = 0; p < g->ranks; p++)
				all += g->part[p][i * ld + k];
			r->sum[i * n + k] = all;
		}
	pthread_barrier_wait(&g->all);
	for (uint32_t i = 0; i < m; i++)
		memcpy(rows + i * ld, r->sum + i * n, n * sizeof(float));
}

static void feed_some(struct rank *r, int way, struct core_seq *const s[SEQS], const uint32_t from[SEQS], const uint32_t to[SEQS])
{
	struct core_row rows[ROWS];
	uint32_t n = 0, at[ROWS];

	for (uint32_t i = 0; i < SEQS; i++)
		for (uint32_t k = from[i]; k < to[i]; k++) {
			at[n] = (way * SEQS + i) * LENGTH + k;
			rows[n++] = (struct core_row){s[i], (int32_t)((k * 29 + k * k * 7 + i) % r->g->vocab), k < PROMPT ? CORE_PROMPT : CORE_GENERATED,
						      true};
		}
	if (!n || r->rc)
		return;
	r->rc = core_forward(r->c, rows, n, &r->err);
	for (uint32_t i = 0; i < n && !r->rc; i++)
		memcpy(r->logits + (size_t)at[i] * r->g->vocab, core_logits(r->c, i), r->g->vocab * sizeof(float));
}

static void play(struct rank *r, int way)
{
	struct core_seq *s[SEQS] = {core_seq_new(r->c), core_seq_new(r->c)};
	uint32_t from[SEQS] = {0}, to[SEQS] = {0};

	r->rc |= core_seq_set_blend(r->c, s[1], r->blend);
	for (uint32_t i = 0; i < SEQS && way != TOGETHER; i++)
		for (from[i] = to[i]; from[i] < LENGTH; from[i] = to[i]) {
			to[i] += way == WHOLE_PROMPTS && !to[i] ? PROMPT : 1;
			feed_some(r, way, s, from, to);
		}
	for (uint32_t pass = 0; way == TOGETHER && (from[0] < LENGTH || from[1] < LENGTH); pass++) {
		for (uint32_t i = 0; i < SEQS; i++)
			to[i] = from[i] + 1 + (pass + i) % 3 * 3 < LENGTH ? from[i] + 1 + (pass + i) % 3 * 3 : LENGTH;
		feed_some(r, way, s, from, to);
		memcpy(from, to, sizeof(to));
	}
	for (uint32_t i = 0; i < SEQS; i++)
		core_seq_free(r->c, s[i]);
}

static void *live(void *arg)
{
	struct rank *r = arg;
	struct group *g = r->g;
	struct core_ctx_params p = {.model = r->m, .kv_pages = PAGES, .max_rows = ROWS, .max_context = LENGTH, .kv_type = g->kv_type,
				    .device = "cuda:0", .module = module};

	if (g->ranks > 1 && g->nccl)
		p.reduce = (struct core_reduce){.group = g->id, .nccl = module};
	else if (g->ranks > 1)
		p.reduce = (struct core_reduce){.sum = sum, .arg = r};
	r->rc = core_ctx_new(&r->c, &p, &r->err);
	for (int way = 0; way < WAYS && !r->rc; way++)
		play(r, way);
	core_ctx_free(r->c);
	return NULL;
}

static struct core_blend *blend_for(const struct core_model *m, const char *path)
{
	struct core_blend_part p = {NULL, 0.8f, NULL};
	struct core_blend *b = NULL;

	must(core_adapter_load(&p.adapter, m, path, &why));
	must(core_blend_new(&b, &p, 1, &why));
	core_adapter_unref(p.adapter);
	return b;
}

static void run(struct group *g)
{
	pthread_t thread[RANKS_MAX];

	pthread_barrier_init(&g->all, NULL, g->ranks);
	if (g->nccl)
		must(core_group_new(g->id, module, &why));
	for (uint32_t i = 0; i < g->ranks; i++) {
		struct core_model_params load = {.path = g->path, .quant = g->quant, .rank = i, .ranks = g->ranks};
		struct rank *r = &g->rank[i];

		r->g = g;
		r->rank = i;
		must(core_model_load(&r->m, &load, &why));
		r->blend = g->adapter ? blend_for(r->m, g->adapter) : NULL;
		g->vocab = core_model_info(r->m)->vocab;
		r->logits = calloc((size_t)WAYS * SEQS * LENGTH * g->vocab, sizeof(float));
		r->sum = calloc((size_t)ROWS * core_model_info(r->m)->dim, sizeof(float));
	}
	for (uint32_t i = 0; i < g->ranks; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, live, &g->rank[i]), 0);
	for (uint32_t i = 0; i < g->ranks; i++)
		pthread_join(thread[i], NULL);
	for (uint32_t i = 0; i < g->ranks; i++)
		if (g->rank[i].rc)
			fail_msg("rank %u: %s", i, g->rank[i].err.text);
	assert_null(shim_fault());
	assert_int_equal(shim_allocated(), 0);
}

static void finish(struct group *g)
{
	for (uint32_t i = 0; i < g->ranks; i++) {
		core_blend_unref(g->rank[i].blend);
		core_model_free(g->rank[i].m);
		free(g->rank[i].logits);
		free(g->rank[i].sum);
	}
	pthread_barrier_destroy(&g->all);
}

/* ---- what they promise ---- */

/* All ranks and all ways. */
static void same_bytes(const struct group *g)
{
	size_t story = (size_t)SEQS * LENGTH * g->vocab;

	for (uint32_t i = 0; i < g->ranks; i++)
		for (int way = 0; way < WAYS; way++)
			assert_memory_equal(g->rank[i].logits + way * story, g->rank[0].logits, story * sizeof(float));
}

static void agree(const char *path, enum core_quant quant, enum core_kv_type kv_type, const char *adapter, uint32_t ranks, double bound)
{
	struct group whole = {.path = path, .adapter = adapter, .quant = quant, .kv_type = kv_type, .ranks = 1}, host = whole, nccl = whole;
	double worst = 0;

	host.ranks = nccl.ranks = ranks;
	nccl.nccl = true;
	run(&whole);
	run(&host);
	run(&nccl);
	same_bytes(&whole);
	same_bytes(&host);
	same_bytes(&nccl);
	assert_memory_equal(host.rank[0].logits, nccl.rank[0].logits, (size_t)SEQS * LENGTH * host.vocab * sizeof(float));
	assert_true(host.sums && host.sums % (2 * core_model_info(host.rank[0].m)->layers) == 0);
	assert_int_equal(nccl.sums, 0);
	for (uint32_t i = 0; i < SEQS * LENGTH; i++)
		worst = fmax(worst, row_error(host.rank[0].logits + (size_t)i * host.vocab, whole.rank[0].logits + (size_t)i * host.vocab, host.vocab));
	print_message("%s, %u ranks: off by %.2g of the row's largest logit\n", core_model_info(whole.rank[0].m)->quant, ranks, worst);
	assert_true(worst > 0 && worst <= bound);
	finish(&whole);
	finish(&host);
	finish(&nccl);
}

static void ranks_on_devices_give_the_same_bytes_by_host_and_by_nccl(void **state)
{
	char path[512];

	agree(golden_path("gqa-untied"), CORE_QUANT_NONE, CORE_KV_AUTO, adapter_path("all-linear"), 2, 5e-3);
	agree(golden_path("mha-tied"), CORE_QUANT_NONE, CORE_KV_INT8, NULL, 4, 2e-2);
	snprintf(path, sizeof(path), "%s/tests/demo/model", getenv("top_srcdir") ? getenv("top_srcdir") : ".");
	agree(path, CORE_QUANT_Q4, CORE_KV_AUTO, NULL, 2, 0.05);
}

static void ranks_without_nccl_are_refused_with_the_reason(void **state)
{
	struct core_model_params load = {.path = golden_path("gqa-untied"), .ranks = 2};
	struct core_ctx_params p = {.kv_pages = 1, .max_rows = 1, .device = "cuda:0", .module = module};
	unsigned char id[CORE_GROUP_ID] = {0};
	struct core_model *m = NULL;
	struct core_ctx *c = NULL;

	assert_int_equal(core_group_new(id, "/nowhere/libnccl.so.2", &why), CORE_EUNSUPPORTED);
	assert_non_null(strstr(why.text, "a group of ranks needs NCCL: /nowhere/libnccl.so.2"));
	assert_int_equal(core_group_new(id, "libm.so.6", &why), CORE_EUNSUPPORTED);
	assert_string_equal(why.text, "libm.so.6 is not NCCL");
	must(core_model_load(&m, &load, &why));
	p.model = m;
	p.reduce = (struct core_reduce){.group = id, .nccl = "/nowhere/libnccl.so.2"};
	assert_int_equal(core_ctx_new(&c, &p, &why), CORE_EUNSUPPORTED);
	assert_non_null(strstr(why.text, "cuda:0: a model in parts for 2 ranks: /nowhere/libnccl.so.2"));
	p.reduce.nccl = "libm.so.6";
	assert_int_equal(core_ctx_new(&c, &p, &why), CORE_EUNSUPPORTED);
	assert_string_equal(why.text, "cuda:0: libm.so.6 is not NCCL");
	p.device = "cpu";
	assert_int_equal(core_ctx_new(&c, &p, &why), CORE_EINVAL);
	assert_string_equal(why.text, "a group of ranks is for CUDA devices: on the CPU core_reduce needs sum()");
	assert_int_equal(shim_allocated(), 0);
	core_model_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranks_on_devices_give_the_same_bytes_by_host_and_by_nccl),
		cmocka_unit_test(ranks_without_nccl_are_refused_with_the_reason),
	};

	return cmocka_run_group_tests(tests, load_shim, NULL);
}
