/* core_shards.c: tensor parallelism with ranks as threads of this process: each has its part of the model, and a barrier makes the sums.
 * Their logits are the whole model's but for rounding, the same bytes in every rank, under any batch and whatever the prefix cache had of
 * it, with every kind of KV; what cannot be cut is refused. */
#include "adapter_test.h"

#include <pthread.h>

#include "gguf_model.h"
#include "kernels/model.h"
#include "kernels/shard.h"

enum { RANKS_MAX = 4, SEQS = 3, LENGTH = 37, PROMPT = 20, ROWS = 64, PAGES = 16 };

/* ---- a sum over threads, in the order of the ranks ---- */

struct meeting {
	pthread_barrier_t all;
	uint32_t ranks, sums;
	struct {
		uint32_t m, n;
		float *rows;	/* [m][n] */
	} part[RANKS_MAX];
	bool differ;		/* ranks came with different shapes */
};

struct rank {
	struct meeting *meeting;
	uint32_t rank;
	struct core_model *m;
	struct core_ctx *c;
	struct core_blend *blend[SEQS];
	float *logits;		/* [SEQS][LENGTH][vocab] of the run under way */
	uint32_t reused[SEQS];	/* tokens that the prefix cache had of it: these rows have no logits */
	uint32_t story;
	int how, rc;
	struct core_error err;
};

static void sum(void *arg, float *rows, uint32_t m, uint32_t n, size_t ld)
{
	struct rank *r = arg;
	struct meeting *t = r->meeting;

	t->part[r->rank].m = m;
	t->part[r->rank].n = n;
	for (uint32_t i = 0; i < m; i++)
		memcpy(t->part[r->rank].rows + (size_t)i * n, rows + i * ld, n * sizeof(float));
	if (pthread_barrier_wait(&t->all) == PTHREAD_BARRIER_SERIAL_THREAD) {
		t->sums++;
		for (uint32_t k = 1; k < t->ranks; k++)
			t->differ |= t->part[k].m != t->part[0].m || t->part[k].n != t->part[0].n;
	}
	for (uint32_t i = 0; i < m; i++)
		for (uint32_t k = 0; k < n; k++) {
			float all = 0;

			for (uint32_t p = 0; p < t->ranks; p++)
				all += t->part[p].rows[(size_t)i * n + k];
			rows[i * ld + k] = all;
		}
	pthread_barrier_wait(&t->all);	/* before anybody brings the next part */
}

/* ---- ranks ---- */

/* What is told to them: adapters of sequences 1 and 2; sequence 0 is the base alone. */
struct subject {
	const char *path;
	enum core_quant quant;
	const char *adapter[SEQS - 1][3];
	double bound;		/* against the whole, of the row's largest logit */
	enum core_kv_type kv;
	bool prefix_cache;
};

struct group {
	struct meeting meeting;
	struct rank rank[RANKS_MAX];
	uint32_t n, vocab;
};

static struct core_model *load_part(const char *path, enum core_quant quant, uint32_t rank, uint32_t ranks)
{
	struct core_model_params p = {.path = path, .quant = quant, .rank = rank, .ranks = ranks};
	struct core_model *m = NULL;

	must(core_model_load(&m, &p, &why));
	return m;
}

static struct core_blend *blend_for(const struct core_model *m, const char *const adapter[3], float scale)
{
	struct core_blend_part p[3];
	struct core_blend *b = NULL;
	uint32_t n = 0;

	for (; n < 3 && adapter[n]; n++) {
		p[n] = (struct core_blend_part){NULL, scale / (float)(n + 1), NULL};
		must(core_adapter_load(&p[n].adapter, m, adapter[n], &why));
	}
	must(core_blend_new(&b, p, n, &why));
	while (n--)
		core_adapter_unref(p[n].adapter);
	return b;
}

static void rank_init(struct rank *r, struct group *g, uint32_t rank, const struct subject *s)
{
	struct core_ctx_params p = {.threads = 1 + (int)rank % 2,
				    .kv_pages = PAGES,
				    .max_rows = ROWS,
				    .max_context = LENGTH,
				    .kv_type = s->kv,
				    .prefix_cache = s->prefix_cache};
	uint32_t dim;

	r->m = load_part(s->path, s->quant, rank, g->n);
	p.model = r->m;
	r->meeting = &g->meeting;
	r->rank = rank;
	if (g->n > 1)
		p.reduce = (struct core_reduce){.sum = sum, .arg = r};
	must(core_ctx_new(&r->c, &p, &why));
	for (unsigned i = 1; i < SEQS; i++)
		if (s->adapter[i - 1][0])
			r->blend[i] = blend_for(r->m, s->adapter[i - 1], i == 1 ? 1 : -0.7f);
	dim = core_model_info(r->m)->dim;
	g->vocab = core_model_info(r->m)->vocab;
	g->meeting.part[rank].rows = calloc((size_t)ROWS * dim, sizeof(float));
	r->logits = calloc((size_t)SEQS * LENGTH * g->vocab, sizeof(float));
}

static void group_init(struct group *g, const struct subject *s, uint32_t n)
{
	memset(g, 0, sizeof(*g));
	g->n = g->meeting.ranks = n;
	pthread_barrier_init(&g->meeting.all, NULL, n);
	for (uint32_t i = 0; i < n; i++)
		rank_init(&g->rank[i], g, i, s);
}

static void group_finish(struct group *g)
{
	for (uint32_t i = 0; i < g->n; i++) {
		struct rank *r = &g->rank[i];

		for (unsigned k = 0; k < SEQS; k++)
			core_blend_unref(r->blend[k]);
		core_ctx_free(r->c);
		core_model_free(r->m);
		free(r->logits);
		free(g->meeting.part[i].rows);
	}
	pthread_barrier_destroy(&g->meeting.all);
}

/* ---- one story in several batches ---- */

enum { ONE_BY_ONE, PROMPTS_WHOLE, ALL_TOGETHER, WAYS };

/* How many tokens of a sequence the next pass takes. */
static uint32_t some(int how, uint32_t seq, uint32_t at, uint32_t pass)
{
	uint32_t n = how == ONE_BY_ONE ? 1 : how == PROMPTS_WHOLE ? (at < PROMPT ? PROMPT - at : 1) : 1 + (seq + pass) % 3 * 4;

	return n < LENGTH - at ? n : LENGTH - at;
}

static int pass(struct rank *r, const struct core_row *rows, const uint32_t *to, uint32_t n)
{
	uint32_t vocab = core_model_info(r->m)->vocab;
	int rc = core_forward(r->c, rows, n, &r->err);

	for (uint32_t i = 0; i < n && !rc; i++)
		memcpy(r->logits + (size_t)to[i] * vocab, core_logits(r->c, i), vocab * sizeof(float));
	return rc;
}

static uint32_t token(const struct rank *r, uint32_t seq, uint32_t at)
{
	return (at * 29 + at * at * 7 + seq % 2 + r->story * 11) % core_model_info(r->m)->vocab;
}

/* Nothing, where there is no prefix cache. */
static uint32_t reuse(struct rank *r, struct core_seq *s, uint32_t seq)
{
	uint32_t words[LENGTH];

	for (uint32_t i = 0; i < LENGTH; i++)
		words[i] = token(r, seq, i) | (i < PROMPT ? 0 : CORE_WORD_GENERATED);
	return core_seq_reuse(r->c, s, words, LENGTH);
}

static void *play(void *arg)
{
	struct rank *r = arg;
	uint32_t vocab = core_model_info(r->m)->vocab, at[SEQS] = {0}, left = SEQS * LENGTH;
	struct core_seq *s[SEQS];

	memset(r->logits, 0xff, (size_t)SEQS * LENGTH * vocab * sizeof(float));
	for (unsigned i = 0; i < SEQS; i++) {
		s[i] = core_seq_new(r->c);
		r->rc |= core_seq_set_blend(r->c, s[i], r->blend[i]);
		at[i] = r->reused[i] = reuse(r, s[i], i);
		left -= at[i];
	}
	for (uint32_t k = 0; left && !r->rc; k++) {
		struct core_row rows[ROWS];
		uint32_t to[ROWS], n = 0;

		for (uint32_t j = 0; j < SEQS; j++) {
			uint32_t i = (j + k) % SEQS;

			for (uint32_t m = some(r->how, i, at[i], k); m; m--, at[i]++, left--) {
				to[n] = i * LENGTH + at[i];
				rows[n++] = (struct core_row){s[i], (int32_t)token(r, i, at[i]), at[i] < PROMPT ? CORE_PROMPT : CORE_GENERATED, true};
			}
			if (r->how != ALL_TOGETHER && n) {
				r->rc |= pass(r, rows, to, n);
				n = 0;
			}
		}
		if (n)
			r->rc |= pass(r, rows, to, n);
	}
	for (unsigned i = 0; i < SEQS; i++)
		core_seq_free(r->c, s[i]);
	return NULL;
}

/* All ranks at once; their logits are the same bytes. */
static void run(struct group *g, int how)
{
	pthread_t thread[RANKS_MAX];

	for (uint32_t i = 0; i < g->n; i++) {
		g->rank[i].how = how;
		assert_int_equal(pthread_create(&thread[i], NULL, play, &g->rank[i]), 0);
	}
	for (uint32_t i = 0; i < g->n; i++)
		pthread_join(thread[i], NULL);
	assert_false(g->meeting.differ);
	for (uint32_t i = 0; i < g->n; i++) {
		if (g->rank[i].rc)
			fail_msg("rank %u: %d: %s", i, g->rank[i].rc, g->rank[i].err.text);
		assert_memory_equal(g->rank[i].reused, g->rank[0].reused, sizeof(g->rank[i].reused));
		assert_memory_equal(g->rank[i].logits, g->rank[0].logits, (size_t)SEQS * LENGTH * g->vocab * sizeof(float));
	}
}

/* Of the rows that were run, in one rank: run() says that others have the same. */
static void same_logits(const struct group *g, const float *first)
{
	const struct rank *r = &g->rank[0];

	for (uint32_t i = 0; i < SEQS; i++) {
		size_t from = ((size_t)i * LENGTH + r->reused[i]) * g->vocab;

		assert_memory_equal(r->logits + from, first + from, (LENGTH - r->reused[i]) * (size_t)g->vocab * sizeof(float));
	}
}

static void agrees(const struct subject *s, uint32_t ranks)
{
	struct group whole, parts;
	size_t floats;
	float *first;
	double worst = 0;

	group_init(&whole, s, 1);
	group_init(&parts, s, ranks);
	floats = (size_t)SEQS * LENGTH * parts.vocab;
	run(&whole, PROMPTS_WHOLE);
	run(&parts, PROMPTS_WHOLE);
	for (uint32_t i = 0; i < SEQS * LENGTH; i++)
		worst = fmax(worst, row_error(parts.rank[0].logits + (size_t)i * parts.vocab, whole.rank[0].logits + (size_t)i * parts.vocab,
					      parts.vocab));
	print_message("%s, %s, %u ranks: off by %.2g of the row's largest logit\n", core_model_info(whole.rank[0].m)->quant,
		      core_kv_type_name(core_ctx_kv_type(whole.rank[0].c)), ranks, worst);
	assert_true(worst <= s->bound);
	first = malloc(floats * sizeof(float));
	memcpy(first, parts.rank[0].logits, floats * sizeof(float));
	for (int how = 0; how < WAYS; how++) {
		uint32_t before = parts.meeting.sums;

		run(&parts, how);
		same_logits(&parts, first);
		assert_true(parts.meeting.sums > before && (parts.meeting.sums - before) % (2 * core_model_info(parts.rank[0].m)->layers) == 0);
	}
	for (unsigned i = 0; i < SEQS; i++)
		for (uint32_t k = 0; k < ranks; k++)
			assert_string_equal(core_blend_digest(parts.rank[k].blend[i]), core_blend_digest(whole.rank[0].blend[i]));
	free(first);
	group_finish(&parts);
	group_finish(&whole);
}

static const char *top_path(const char *name)
{
	static char path[3][512];
	static unsigned next;
	const char *top = getenv("top_srcdir");
	char *p = path[next++ % 3];

	snprintf(p, sizeof(path[0]), "%s/tests/demo/%s", top ? top : ".", name);
	return p;
}

static void bf16_and_q4_with_adapters_of_the_demo_model(void **state)
{
	struct subject s = {top_path("model"), CORE_QUANT_NONE, {{top_path("adapters/tailor"), top_path("adapters/orderline")}}, .bound = 2e-3};

	agrees(&s, 2);
	s.quant = CORE_QUANT_Q4;
	s.bound = 0.05;
	agrees(&s, 2);
}

static void adapters_of_all_linears_in_any_form(void **state)
{
	struct subject s = {golden_path("gqa-untied"),
			    CORE_QUANT_NONE,
			    {{adapter_path("all-linear"), adapter_path("f16"), adapter_path("plain-f16.gguf")}, {adapter_path("embedding")}},
			    .bound = 1e-5};

	agrees(&s, 2);
}

static void as_many_ranks_as_heads(void **state)
{
	struct subject s = {golden_path("mha-tied"), CORE_QUANT_NONE, {{NULL}}, .bound = 1e-5};

	agrees(&s, 4);
}

static void gguf_blocks_and_what_is_quantised_from_them(void **state)
{
	struct subject s = {write_gguf(0, false), CORE_QUANT_NONE, {{NULL}}, .bound = 0.05};

	agrees(&s, 2);
	s.quant = CORE_QUANT_Q8;
	agrees(&s, 2);
}

static void every_kind_of_kv(void **state)
{
	struct subject s = {golden_path("gqa-untied"), CORE_QUANT_NONE, {{adapter_path("all-linear")}}, .bound = 1e-5, .kv = CORE_KV_F32};

	agrees(&s, 2);
	s.kv = CORE_KV_F16;
	s.bound = 1e-3;
	agrees(&s, 2);
	s.kv = CORE_KV_INT8; /* a head's scale is its own, so that a rank has the whole's bytes, but for what is rounded the other way */
	s.bound = 1e-2;
	agrees(&s, 2);
	s.path = top_path("model");
	s.adapter[0][0] = top_path("adapters/tailor");
	s.bound = 2e-2;
	agrees(&s, 2);
}

/* ---- the prefix cache ---- */

static uint32_t reused(const struct group *g)
{
	uint32_t n = 0;

	for (unsigned i = 0; i < SEQS; i++)
		n += g->rank[0].reused[i];
	return n;
}

static void tell(struct group *g, uint32_t story, int how)
{
	struct core_cached first, other;

	for (uint32_t i = 0; i < g->n; i++)
		g->rank[i].story = story;
	run(g, how);
	core_ctx_cached(g->rank[0].c, &first);
	for (uint32_t i = 1; i < g->n; i++) {
		core_ctx_cached(g->rank[i].c, &other);
		assert_memory_equal(&other, &first, sizeof(first));
	}
}

/* What one rank finds, all find, also when the pool has become small and pages had to go. */
static void hits_in_every_rank(const struct subject *s)
{
	enum { WHOLE_PAGES = SEQS * (LENGTH / CORE_PAGE), STORIES = PAGES / WHOLE_PAGES + 2 };
	struct core_cached cached;
	struct group g;
	size_t bytes;
	float *first;

	group_init(&g, s, 2);
	bytes = (size_t)SEQS * LENGTH * g.vocab * sizeof(float);
	first = malloc(bytes);
	tell(&g, 0, PROMPTS_WHOLE);
	assert_int_equal(reused(&g), 0);
	memcpy(first, g.rank[0].logits, bytes);
	for (int how = 0; how < WAYS; how++) {
		tell(&g, 0, how);
		assert_int_equal(reused(&g), WHOLE_PAGES * CORE_PAGE);
		same_logits(&g, first);
	}
	for (uint32_t story = 1; story < STORIES; story++)
		tell(&g, story, ALL_TOGETHER);
	core_ctx_cached(g.rank[0].c, &cached);
	assert_true(cached.evictions > 0);
	tell(&g, 0, ONE_BY_ONE);
	assert_true(reused(&g) < WHOLE_PAGES * CORE_PAGE);
	same_logits(&g, first);
	free(first);
	group_finish(&g);
}

static void what_the_prefix_cache_has_one_rank_finds_as_all(void **state)
{
	struct subject s = {golden_path("gqa-untied"),
			    CORE_QUANT_NONE,
			    {{adapter_path("all-linear")}, {adapter_path("embedding")}},
			    .prefix_cache = true};

	hits_in_every_rank(&s);
	s.kv = CORE_KV_INT8;
	hits_in_every_rank(&s);
}

/* ---- what a rank holds ---- */

/* The whole's bytes: rows of blocks of 16 one below the other, or in each block a run of groups. */
static void same_bytes(const struct matrix *part, const struct matrix *whole, enum shard_axis axis, uint32_t rank)
{
	size_t bytes = matrix_block_bytes(part), all = matrix_block_bytes(whole), scales = matrix_block_scales(part),
	       all_scales = matrix_block_scales(whole);

	assert_int_equal(part->group, whole->group);
	assert_int_equal(part->rows % LANES, 0);
	for (uint32_t b = 0; b < part->blocks; b++) {
		uint32_t from = axis == SHARD_INPUTS ? b : rank * part->blocks + b;
		size_t skip = axis == SHARD_INPUTS ? rank : 0;

		assert_memory_equal(part->codes + b * bytes, whole->codes + from * all + skip * bytes, bytes);
		if (!part->groups)
			continue;
		assert_memory_equal(part->scales + b * scales, whole->scales + from * all_scales + skip * scales, scales * 2);
		if (part->has_min)
			assert_memory_equal(part->mins + b * scales, whole->mins + from * all_scales + skip * scales, scales * 2);
	}
}

static void holds_its_part(const char *path, enum core_quant quant)
{
	struct core_model *whole = load_model(path, quant);

	for (uint32_t rank = 0; rank < 2; rank++) {
		struct core_model *m = load_part(path, quant, rank, 2);

		for (uint32_t i = 0; i < m->config.layers; i++) {
			const struct layer *p = &m->layers[i], *w = &whole->layers[i];
			const struct matrix *const of_part[CORE_LINEARS] = {&p->q, &p->k, &p->v, &p->o, &p->gate, &p->up, &p->down},
						   *const of_whole[CORE_LINEARS] = {&w->q,    &w->k,  &w->v,   &w->o,
										    &w->gate, &w->up, &w->down};

			for (unsigned k = 0; k < CORE_LINEARS; k++) {
				assert_int_equal((uint64_t)of_part[k]->rows * of_part[k]->cols * 2,
						 (uint64_t)of_whole[k]->rows * of_whole[k]->cols);
				same_bytes(of_part[k], of_whole[k], shard_axis_of(k), rank);
			}
		}
		assert_int_equal(core_kv_page_bytes(m, CORE_KV_F16) * 2, core_kv_page_bytes(whole, CORE_KV_F16));
		assert_int_equal(core_model_info(m)->heads, core_model_info(whole)->heads);
		assert_int_equal(core_model_info(m)->rank, rank);
		assert_int_equal(core_model_info(m)->ranks, 2);
		assert_string_not_equal(core_model_info(m)->digest, core_model_info(whole)->digest);
		core_model_free(m);
	}
	core_model_free(whole);
}

static void a_rank_holds_the_bytes_that_the_whole_has_there(void **state)
{
	holds_its_part(top_path("model"), CORE_QUANT_NONE);
	holds_its_part(top_path("model"), CORE_QUANT_Q4);
	for (unsigned type = 0; type < 5; type++)	/* those of blocks of 32 */
		holds_its_part(write_gguf(type, false), CORE_QUANT_NONE);
	holds_its_part(write_gguf(0, false), CORE_QUANT_Q8);
}

/* ---- what is refused ---- */

static void refused(const char *path, enum core_quant quant, uint32_t rank, uint32_t ranks, int code, const char *reason)
{
	struct core_model_params p = {.path = path, .quant = quant, .rank = rank, .ranks = ranks};
	struct core_model *m = NULL;

	assert_int_equal(core_model_load(&m, &p, &why), code);
	if (!strstr(why.text, reason))
		fail_msg("\"%s\" does not say \"%s\"", why.text, reason);
}

static void what_does_not_divide_is_refused_with_the_reason(void **state)
{
	struct tensor nf4 = {.name = "w", .type = TENSOR_NF4, .n_dims = 2, .dims = {64, 64}}, part;

	refused(golden_path("gqa-untied"), CORE_QUANT_NONE, 2, 2, CORE_EINVAL, "rank 2 of 2");
	refused(golden_path("gqa-untied"), CORE_QUANT_NONE, 1, 0, CORE_EINVAL, "rank 1 of 1");
	refused(golden_path("gqa-untied"), CORE_QUANT_NONE, 0, 3, CORE_EUNSUPPORTED, "4 query heads do not divide among 3 ranks");
	refused(golden_path("gqa-untied"), CORE_QUANT_NONE, 0, 4, CORE_EUNSUPPORTED, "2 KV heads do not divide among 4 ranks");
	refused(golden_path("odd-sizes"), CORE_QUANT_NONE, 0, 3, CORE_EUNSUPPORTED, "1 KV heads do not divide among 3 ranks");
	refused(top_path("model"), CORE_QUANT_Q8, 0, 2, CORE_EUNSUPPORTED,
		"mlp.down_proj.weight: the 320 inputs of a rank are not whole groups of 128");
	refused(golden_path("gqa-untied"), CORE_QUANT_Q4, 0, 2, CORE_EUNSUPPORTED, "o_proj.weight: the 16 inputs of a rank are not whole groups of 32");
	refused(write_gguf(7, false), CORE_QUANT_NONE, 0, 2, CORE_EUNSUPPORTED, "128 inputs of a rank are not whole blocks of 256 (Q4_K)");
	refused(top_path("model"), CORE_QUANT_NF4, 0, 2, CORE_EUNSUPPORTED, "nf4 is not cut for ranks");
	assert_int_equal(shard_tensor(&part, &nf4, SHARD_OUTPUTS, 0, 2, &why), CORE_EUNSUPPORTED);
	assert_non_null(strstr(why.text, "it is not cut for ranks"));
}

static void engines_and_adapters_that_need_the_whole_are_refused(void **state)
{
	struct core_model *m = load_part(golden_path("gqa-untied"), CORE_QUANT_NONE, 1, 2), *whole = load_model(golden_path("gqa-untied"), 0);
	struct core_ctx_params p = {.model = m, .threads = 1, .kv_pages = PAGES, .max_rows = ROWS};
	struct core_adapter *a = NULL;
	struct core_ctx *c = NULL;

	assert_int_equal(core_ctx_new(&c, &p, &why), CORE_EINVAL);
	assert_non_null(strstr(why.text, "rank 1 of 2"));
	p.model = whole;
	p.reduce.sum = sum;
	assert_int_equal(core_ctx_new(&c, &p, &why), CORE_EINVAL);
	assert_int_equal(core_adapter_load(&a, m, adapter_path("dora"), &why), CORE_EUNSUPPORTED);
	assert_non_null(strstr(why.text, "DoRA"));
	assert_int_equal(core_adapter_load(&a, m, adapter_path("plain-q8.gguf"), &why), CORE_EUNSUPPORTED);
	assert_non_null(strstr(why.text, "whole blocks of 32 (Q8_0)"));
	core_model_free(m);
	core_model_free(whole);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bf16_and_q4_with_adapters_of_the_demo_model),
		cmocka_unit_test(adapters_of_all_linears_in_any_form),
		cmocka_unit_test(as_many_ranks_as_heads),
		cmocka_unit_test(every_kind_of_kv),
		cmocka_unit_test(what_the_prefix_cache_has_one_rank_finds_as_all),
		cmocka_unit_test_teardown(gguf_blocks_and_what_is_quantised_from_them, build_remove),
		cmocka_unit_test_teardown(a_rank_holds_the_bytes_that_the_whole_has_there, build_remove),
		cmocka_unit_test_teardown(what_does_not_divide_is_refused_with_the_reason, build_remove),
		cmocka_unit_test(engines_and_adapters_that_need_the_whole_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
