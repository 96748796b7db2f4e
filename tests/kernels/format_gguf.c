/* GGUF files written here, right and wrong: metadata of every type, scaling, tied weights, vocabularies, damage. */
#include "gguf_build.h"
#include "kernels/format/format.h"
#include "kernels/format/gguf.h"

enum { DIM = 32, FFN = 32, HEADS = 4, KV_HEADS = 2, HEAD_DIM = 8, VOCAB = 8 };

/* What a test changes about the model that put_model() writes. */
struct plan {
	uint32_t version;
	const char *arch;
	uint32_t type;			/* ggml type of the matrices */
	bool tied, freqs;
	bool no_groups;			/* as many key/value heads as heads */
	const char *extra;		/* name of one more tensor */
	void (*values)(struct build *b);	/* more metadata, n_values of it */
	unsigned n_values;
};

static struct build b;

static void put_info(const char *name, uint64_t columns, uint64_t rows, uint32_t type, uint64_t *offset)
{
	unsigned block = tensor_type_block(type) != 0 ? tensor_type_block(type) : 1;
	uint64_t bytes = columns / block * tensor_type_bytes(type) * (rows != 0 ? rows : 1);

	put_text(&b, name);
	put_u32(&b, rows != 0 ? 2 : 1);
	put_u64(&b, columns);
	if (rows != 0)
		put_u64(&b, rows);
	put_u32(&b, type);
	put_u64(&b, *offset);
	*offset += (bytes + 31) & ~31ull;
}

/* One layer. The data are bytes 1, 2, 3 ... so that every tensor differs. */
static const char *put_model(const struct plan *p)
{
	uint64_t offset = 0, kv_rows = (p->no_groups ? HEADS : KV_HEADS) * HEAD_DIM;

	put_head(&b, p->version, 11 + !p->tied + p->freqs + (p->extra != NULL), 7 + p->n_values);
	kv_text(&b, "general.architecture", p->arch);
	kv_u32(&b, "llama.block_count", 1);
	kv_u32(&b, "llama.embedding_length", DIM);
	kv_u32(&b, "llama.feed_forward_length", FFN);
	kv_u32(&b, "llama.attention.head_count", HEADS);
	kv_u32(&b, "llama.context_length", 64);
	kv_f32(&b, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
	if (p->values != NULL)
		p->values(&b);
	put_info("token_embd.weight", DIM, VOCAB, p->type, &offset);
	put_info("blk.0.attn_norm.weight", DIM, 0, TENSOR_F32, &offset);
	put_info("blk.0.attn_q.weight", DIM, HEADS * HEAD_DIM, p->type, &offset);
	put_info("blk.0.attn_k.weight", DIM, kv_rows, p->type, &offset);
	put_info("blk.0.attn_v.weight", DIM, kv_rows, p->type, &offset);
	put_info("blk.0.attn_output.weight", HEADS * HEAD_DIM, DIM, p->type, &offset);
	put_info("blk.0.ffn_norm.weight", DIM, 0, TENSOR_F32, &offset);
	put_info("blk.0.ffn_gate.weight", DIM, FFN, p->type, &offset);
	put_info("blk.0.ffn_up.weight", DIM, FFN, p->type, &offset);
	put_info("blk.0.ffn_down.weight", FFN, DIM, p->type, &offset);
	put_info("output_norm.weight", DIM, 0, TENSOR_F32, &offset);
	if (!p->tied)
		put_info("output.weight", DIM, VOCAB, p->type, &offset);
	if (p->freqs)
		put_info("rope_freqs.weight", HEAD_DIM / 2, 0, TENSOR_F32, &offset);
	if (p->extra != NULL)
		put_info(p->extra, DIM, 0, TENSOR_F32, &offset);
	while (b.n % 32 != 0)
		put(&b, "", 1);
	for (uint64_t i = 0; i < offset; i++) {
		uint8_t byte = (uint8_t)(i / 4 % 63 + 1); /* as floats: small and positive */
		put(&b, &byte, 1);
	}
	return build_save(&b);
}

static struct checkpoint *open_plan(const struct plan *p)
{
	struct checkpoint *cp;
	struct core_error err = {0};

	if (checkpoint_open(&cp, put_model(p), &err) < 0)
		fail_msg("%s", err.text);
	return cp;
}

static void expect_refusal_of(const char *path, int code, const char *words)
{
	struct checkpoint *cp;
	struct core_error err = {0};
	int rc = checkpoint_open(&cp, path, &err);

	if (rc != code || strstr(err.text, words) == NULL)
		fail_msg("code %d \"%s\", expected %d and \"%s\"", rc, err.text, code, words);
	checkpoint_close(cp);
}

/* ---- values of every type ---- */

static void two_kv_heads(struct build *to)
{
	kv_u32(to, "llama.attention.head_count_kv", KV_HEADS);
	kv_u32(to, "llama.vocab_size", VOCAB);
}

static const struct plan model = {.version = 3, .arch = "llama", .type = TENSOR_F32, .values = two_kv_heads, .n_values = 2};

static void metadata_of_every_type_is_read_or_stepped_over(void **state)
{
	static const uint8_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
	static const uint8_t zeros[16];
	struct map m;
	struct gguf g;
	struct core_error err;
	char key[16];
	uint64_t n = 0;

	put_head(&b, 2, 0, 25);
	for (uint32_t type = 0; type < 13; type++) {
		if (type == 9)
			continue;
		snprintf(key, sizeof key, "single.%u", type);
		put_text(&b, key);
		put_u32(&b, type);
		if (type == 8)
			put_text(&b, "text");
		else
			put(&b, zeros, sizes[type]);
		snprintf(key, sizeof key, "array.%u", type);
		kv_array(&b, key, type, 2);
		if (type == 8)
			put_text(&b, "one");
		if (type == 8)
			put_text(&b, "two");
		put(&b, zeros, 2 * sizes[type]);
	}
	kv_u32(&b, "last", 77);
	m = (struct map){b.bytes, b.n};
	assert_int_equal(gguf_parse(&g, &m, "built", &err), 0);
	assert_int_equal(g.n_values, 25);
	assert_int_equal(gguf_uint(&g, "last", true, 100, &n, &err), 0);
	assert_int_equal(n, 77);
	assert_int_equal(gguf_uint(&g, "last", true, 76, &n, &err), CORE_EFORMAT);
	assert_int_equal(gguf_uint(&g, "single.8", true, 100, &n, &err), CORE_EFORMAT);
	assert_int_equal(gguf_uint(&g, "absent", true, 100, &n, &err), CORE_EFORMAT);
	assert_int_equal(gguf_uint(&g, "absent", false, 100, &n, &err), 0);
	gguf_finish(&g);
}

static void integers_of_any_width_are_the_same_key(void **state)
{
	static const struct {
		uint32_t type;
		uint8_t bytes[8], n;
		bool good;
	} v[] = {{0, {9}, 1, true},
		 {1, {9}, 1, true},
		 {2, {9}, 2, true},
		 {3, {9}, 2, true},
		 {4, {9}, 4, true},
		 {5, {9}, 4, true},
		 {10, {9}, 8, true},
		 {11, {9}, 8, true},
		 {1, {0xff}, 1, false},
		 {5, {0xff, 0xff, 0xff, 0xff}, 4, false},
		 {6, {0, 0, 0x10, 0x41}, 4, false}};
	struct core_error err;

	for (size_t i = 0; i < sizeof v / sizeof v[0]; i++) {
		struct map m;
		struct gguf g;
		uint64_t n = 0;
		put_head(&b, 3, 0, 1);
		put_text(&b, "k");
		put_u32(&b, v[i].type);
		put(&b, v[i].bytes, v[i].n);
		m = (struct map){b.bytes, b.n};
		assert_int_equal(gguf_parse(&g, &m, "built", &err), 0);
		assert_int_equal(gguf_uint(&g, "k", true, 100, &n, &err), v[i].good ? 0 : CORE_EFORMAT);
		assert_int_equal(n, v[i].good ? 9 : 0);
		gguf_finish(&g);
	}
}

/* ---- models ---- */

static void versions_2_and_3_are_the_same(void **state)
{
	for (uint32_t v = 2; v <= 3; v++) {
		struct plan p = model;
		struct checkpoint *cp;
		p.version = v;
		cp = open_plan(&p);
		assert_int_equal(checkpoint_count(cp), 12);
		assert_int_equal(checkpoint_config(cp)->kv_heads, KV_HEADS);
		assert_int_equal(checkpoint_config(cp)->head_dim, HEAD_DIM);
		assert_false(checkpoint_config(cp)->tied);
		checkpoint_close(cp);
	}
}

static void without_an_output_matrix_it_is_tied(void **state)
{
	struct plan p = model;
	struct checkpoint *cp;

	p.tied = true;
	cp = open_plan(&p);
	assert_true(checkpoint_config(cp)->tied);
	assert_null(checkpoint_find(cp, "lm_head.weight"));
	checkpoint_close(cp);
}

static void rows_of_q_and_k_are_put_back_per_head(void **state)
{
	struct checkpoint *cp = open_plan(&model);
	const struct tensor *q = checkpoint_find(cp, "model.layers.0.self_attn.q_proj.weight");
	const struct tensor *k = checkpoint_find(cp, "model.layers.0.self_attn.k_proj.weight");
	const struct tensor *v = checkpoint_find(cp, "model.layers.0.self_attn.v_proj.weight");
	float row[DIM], raw[DIM];

	assert_int_equal(q->permuted_heads, HEADS);
	assert_int_equal(k->permuted_heads, KV_HEADS);
	assert_int_equal(v->permuted_heads, 0);
	/* HF row i of the first half of a head is the file's row 2i, of the second half 2i + 1 (FACTS 4.4). */
	for (uint64_t head = 0; head < HEADS; head++)
		for (uint64_t i = 0; i < HEAD_DIM / 2; i++) {
			assert_int_equal(tensor_source_row(q, head * HEAD_DIM + i), head * HEAD_DIM + 2 * i);
			assert_int_equal(tensor_source_row(q, head * HEAD_DIM + HEAD_DIM / 2 + i), head * HEAD_DIM + 2 * i + 1);
		}
	assert_int_equal(tensor_source_row(v, 5), 5);
	tensor_row_f32(q, HEAD_DIM + 1, row);
	memcpy(raw, (const uint8_t *)q->data + (HEAD_DIM + 2) * DIM * sizeof(float), sizeof raw);
	assert_memory_equal(row, raw, sizeof raw);
	checkpoint_close(cp);
}

static void only_a_vocabulary_size(struct build *to)
{
	kv_u32(to, "llama.vocab_size", VOCAB);
}

static void without_a_count_every_head_has_its_own_keys(void **state)
{
	struct plan p = model;
	struct checkpoint *cp;

	p.no_groups = true;
	p.values = only_a_vocabulary_size;
	p.n_values = 1;
	cp = open_plan(&p);
	assert_int_equal(checkpoint_config(cp)->kv_heads, HEADS);
	checkpoint_close(cp);
}

static void every_tensor_type_loads(void **state)
{
	static const enum tensor_type types[] = {TENSOR_F32,  TENSOR_F16,  TENSOR_BF16, TENSOR_Q4_0,
						 TENSOR_Q4_1, TENSOR_Q5_0, TENSOR_Q5_1, TENSOR_Q8_0};
	float row[DIM];

	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
		struct plan p = model;
		struct checkpoint *cp;
		const struct tensor *t;
		p.type = types[i];
		cp = open_plan(&p);
		t = checkpoint_find(cp, "model.layers.0.mlp.down_proj.weight");
		assert_int_equal(t->type, types[i]);
		assert_int_equal(t->bytes, DIM * FFN / tensor_type_block(types[i]) * tensor_type_bytes(types[i]));
		tensor_row_f32(t, DIM - 1, row);
		checkpoint_close(cp);
	}
}

static void rope_divisors_are_handed_on(void **state)
{
	struct plan p = model;
	struct checkpoint *cp;

	p.freqs = true;
	cp = open_plan(&p);
	assert_non_null(checkpoint_config(cp)->rope_freqs);
	assert_true(checkpoint_config(cp)->rope_freqs[HEAD_DIM / 2 - 1] > 0);
	assert_null(checkpoint_find(cp, "rope_freqs.weight"));
	checkpoint_close(cp);
}

/* ---- scaling ---- */

static void linear(struct build *to)
{
	two_kv_heads(to);
	kv_text(to, "llama.rope.scaling.type", "linear");
	kv_f32(to, "llama.rope.scaling.factor", 4);
	kv_f32(to, "llama.rope.freq_base", 1e6f);
}

static void old_linear(struct build *to)
{
	two_kv_heads(to);
	kv_f32(to, "llama.rope.scale_linear", 2);
}

static void yarn(struct build *to)
{
	two_kv_heads(to);
	kv_text(to, "llama.rope.scaling.type", "yarn");
	kv_f32(to, "llama.rope.scaling.factor", 16);
	kv_u32(to, "llama.rope.scaling.original_context_length", 32);
	kv_f32(to, "llama.rope.scaling.attn_factor", 1);
}

static struct llama_config config_with(void (*values)(struct build *), unsigned n)
{
	struct plan p = model;
	struct checkpoint *cp;
	struct llama_config c;

	p.values = values;
	p.n_values = n;
	cp = open_plan(&p);
	c = *checkpoint_config(cp);
	checkpoint_close(cp);
	return c;
}

static void scaling_keys_are_read(void **state)
{
	struct llama_config c = config_with(linear, 5);

	assert_int_equal(c.scaling, ROPE_LINEAR);
	assert_true(c.scaling_factor == 4 && c.rope_theta == 1e6f);
	c = config_with(old_linear, 3);
	assert_int_equal(c.scaling, ROPE_LINEAR);
	assert_true(c.scaling_factor == 2 && c.rope_theta == 10000);
	c = config_with(yarn, 6);
	assert_int_equal(c.scaling, ROPE_YARN);
	assert_true(c.scaling_factor == 16 && c.beta_fast == 32 && c.beta_slow == 1);
	assert_int_equal(c.original_context, 32);
	/* 0.1 ln 16 + 1, times 1 */
	assert_true(c.attention_factor > 1.277258f && c.attention_factor < 1.277260f);
}

/* ---- refusals ---- */

static void longrope(struct build *to)
{
	two_kv_heads(to);
	kv_text(to, "llama.rope.scaling.type", "longrope");
	kv_f32(to, "llama.rope.scaling.factor", 4);
}

static void experts(struct build *to)
{
	two_kv_heads(to);
	kv_u32(to, "llama.expert_count", 8);
}

static void half_rotated(struct build *to)
{
	two_kv_heads(to);
	kv_u32(to, "llama.rope.dimension_count", HEAD_DIM / 2);
}

static void odd_heads(struct build *to)
{
	kv_u32(to, "llama.attention.head_count_kv", 3);
	kv_u32(to, "llama.vocab_size", VOCAB);
}

static void twice(struct build *to)
{
	kv_u32(to, "llama.vocab_size", VOCAB);
	kv_u32(to, "llama.vocab_size", VOCAB);
}

static void bad_alignment(struct build *to)
{
	two_kv_heads(to);
	kv_u32(to, "general.alignment", 48);
}

static void split_elsewhere(struct build *to)
{
	two_kv_heads(to);
	kv_u32(to, "split.no", 0);
	kv_u32(to, "split.count", 2);
}

static void second_part(struct build *to)
{
	two_kv_heads(to);
	kv_u32(to, "split.no", 1);
	kv_u32(to, "split.count", 2);
}

static void models_that_are_not_computed_here_are_refused(void **state)
{
	static const struct {
		struct plan p;
		int code;
		const char *words;
	} bad[] = {
		{{1, "llama", 0, .values = two_kv_heads, .n_values = 2}, CORE_EUNSUPPORTED, "version 1"},
		{{4, "llama", 0, .values = two_kv_heads, .n_values = 2}, CORE_EUNSUPPORTED, "version 4"},
		{{0x03000000, "llama", 0, .values = two_kv_heads, .n_values = 2}, CORE_EUNSUPPORTED, "big-endian"},
		{{3, "gptneox", 0, .values = two_kv_heads, .n_values = 2}, CORE_EUNSUPPORTED, "gptneox"},
		{{3, "llama", 16, .values = two_kv_heads, .n_values = 2}, CORE_EUNSUPPORTED, "ggml type 16"},
		{{3, "llama", TENSOR_Q4_K, .values = two_kv_heads, .n_values = 2}, CORE_EFORMAT, "whole blocks of Q4_K"},
		{{3, "llama", 0, .extra = "blk.0.attn_q.bias", .values = two_kv_heads, .n_values = 2},
		 CORE_EUNSUPPORTED,
		 "blk.0.attn_q.bias"},
		{{3, "llama", 0, .extra = "rope_factors_long.weight", .values = two_kv_heads, .n_values = 2},
		 CORE_EUNSUPPORTED,
		 "rope_factors_long"},
		{{3, "llama", 0, .extra = "blk.1.attn_norm.weight", .values = two_kv_heads, .n_values = 2},
		 CORE_EFORMAT,
		 "layers.1"},
		{{3, "llama", 0, .extra = "blk.0.attn_norm.weight", .values = two_kv_heads, .n_values = 2}, CORE_EFORMAT, "twice"},
		{{3, "llama", 0, .extra = "blk.00.attn_norm.weight", .values = two_kv_heads, .n_values = 2},
		 CORE_EUNSUPPORTED,
		 "blk.00"},
		{{3, "llama", 0, .values = longrope, .n_values = 4}, CORE_EUNSUPPORTED, "longrope"},
		{{3, "llama", 0, .values = experts, .n_values = 3}, CORE_EUNSUPPORTED, "llama.expert_count"},
		{{3, "llama", 0, .values = half_rotated, .n_values = 3}, CORE_EUNSUPPORTED, "rotated"},
		{{3, "llama", 0, .values = odd_heads, .n_values = 2}, CORE_EFORMAT, "evenly"},
		{{3, "llama", 0, .values = twice, .n_values = 2}, CORE_EFORMAT, "twice"},
		{{3, "llama", 0, .values = bad_alignment, .n_values = 3}, CORE_EFORMAT, "general.alignment"},
		{{3, "llama", 0, .values = split_elsewhere, .n_values = 4}, CORE_EFORMAT, "-00001-of-00002.gguf"},
		{{3, "llama", 0, .values = second_part, .n_values = 4}, CORE_EFORMAT, "part 2 of 2, expected part 1"},
		{{3, "llama", 0, .values = NULL}, CORE_EFORMAT, "vocab 0"},
	};

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		expect_refusal_of(put_model(&bad[i].p), bad[i].code, bad[i].words);
}

static void a_file_cut_anywhere_is_refused(void **state)
{
	size_t whole;

	put_model(&model);
	whole = b.n;
	for (size_t n = 0; n < whole; n += n < 2048 ? 7 : 997) {
		b.n = n;
		expect_refusal_of(build_save(&b), CORE_EFORMAT, "");
	}
}

static void counts_that_no_file_could_hold_are_refused(void **state)
{
	static const uint64_t counts[][2] = {{UINT64_MAX, 0}, {0, UINT64_MAX}, {1ull << 60, 1}, {1, 1ull << 32}};
	static const uint8_t padding[64];

	for (size_t i = 0; i < 4; i++) {
		put_head(&b, 3, counts[i][0], counts[i][1]);
		put(&b, padding, sizeof padding);
		expect_refusal_of(build_save(&b), CORE_EFORMAT, "");
	}
	put_head(&b, 3, 0, 1); /* an array of 2^62 strings */
	kv_array(&b, "k", 8, 1ull << 62);
	put(&b, padding, sizeof padding);
	expect_refusal_of(build_save(&b), CORE_EFORMAT, "past the end");
	put_head(&b, 3, 0, 1); /* a text that would end before it starts */
	put_text(&b, "k");
	put_u32(&b, 8);
	put_u64(&b, UINT64_MAX - 3);
	put(&b, padding, sizeof padding);
	expect_refusal_of(build_save(&b), CORE_EFORMAT, "past the end");
	put_head(&b, 3, 0, 1); /* 2^61 doubles: the bytes overflow */
	kv_array(&b, "k", 12, 1ull << 61);
	expect_refusal_of(build_save(&b), CORE_EFORMAT, "past the end");
	put_head(&b, 3, 0, 1); /* an array of arrays */
	kv_array(&b, "k", 9, 1);
	expect_refusal_of(build_save(&b), CORE_EFORMAT, "element type");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(metadata_of_every_type_is_read_or_stepped_over),
		cmocka_unit_test(integers_of_any_width_are_the_same_key),
		cmocka_unit_test(versions_2_and_3_are_the_same),
		cmocka_unit_test(without_an_output_matrix_it_is_tied),
		cmocka_unit_test(rows_of_q_and_k_are_put_back_per_head),
		cmocka_unit_test(without_a_count_every_head_has_its_own_keys),
		cmocka_unit_test(every_tensor_type_loads),
		cmocka_unit_test(rope_divisors_are_handed_on),
		cmocka_unit_test(scaling_keys_are_read),
		cmocka_unit_test(models_that_are_not_computed_here_are_refused),
		cmocka_unit_test(a_file_cut_anywhere_is_refused),
		cmocka_unit_test(counts_that_no_file_could_hold_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, build_remove);
}
