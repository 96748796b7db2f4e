/* gguf_model.h: random Llamas in GGUF files: any block type, with its weights spread as trained ones are. */
#ifndef WEFT_GGUF_MODEL_H
#define WEFT_GGUF_MODEL_H

#include "gguf_build.h"
#include "gguf_spread.h"
#include "ops_test.h"

enum { GGUF_DIM = 256, GGUF_FFN = 512, GGUF_HEADS = 4, GGUF_KV_HEADS = 2, GGUF_HEAD = 64, GGUF_VOCAB = 320, GGUF_LAYERS = 2 };

static inline void put_random_matrix(FILE *f, unsigned which, uint32_t rows, uint32_t cols)
{
	unsigned size = tensor_type_bytes(spread[which].type);
	uint64_t blocks = (uint64_t)rows * cols / tensor_type_block(spread[which].type);

	for (uint64_t i = 0; i < blocks; i++) {
		unsigned char block[256];
		float scale = 1 + 0.2f * random_unit();

		for (unsigned k = 0; k < size; k++)
			block[k] = (unsigned char)random_bits();
		spread_block(&spread[which], block, scale);
		assert_int_equal(fwrite(block, 1, size, f), size);
	}
}

static inline void put_random_floats(FILE *f, uint32_t n, float mean, float size)
{
	for (uint32_t i = 0; i < n; i++) {
		float v = mean + size * random_unit();

		assert_int_equal(fwrite(&v, 4, 1, f), 1);
	}
}

struct part {
	const char *name;
	uint32_t rows, cols;	/* rows 0: a norm */
};
static const struct part layer_parts[] = {
	{"attn_norm", 0, GGUF_DIM},
	{"attn_q", GGUF_HEADS *GGUF_HEAD, GGUF_DIM},
	{"attn_k", GGUF_KV_HEADS *GGUF_HEAD, GGUF_DIM},
	{"attn_v", GGUF_KV_HEADS *GGUF_HEAD, GGUF_DIM},
	{"attn_output", GGUF_DIM, GGUF_HEADS *GGUF_HEAD},
	{"ffn_norm", 0, GGUF_DIM},
	{"ffn_gate", GGUF_FFN, GGUF_DIM},
	{"ffn_up", GGUF_FFN, GGUF_DIM},
	{"ffn_down", GGUF_DIM, GGUF_FFN},
};
static const struct part ends[] = {
	{"token_embd", GGUF_VOCAB, GGUF_DIM}, {"output_norm", 0, GGUF_DIM}, {"output", GGUF_VOCAB, GGUF_DIM}};
enum { N_LAYER_PARTS = sizeof(layer_parts) / sizeof(layer_parts[0]), N_ENDS = sizeof(ends) / sizeof(ends[0]) };

static inline void put_part(struct build *b, FILE *f, const char *prefix, const struct part *p, unsigned which, uint64_t *offset)
{
	bool f32 = p->rows == 0 || !strcmp(p->name, "token_embd");
	uint64_t elements = (uint64_t)(p->rows ? p->rows : 1) * p->cols;
	char name[64];

	if (f) {
		if (f32)
			put_random_floats(f, (uint32_t)elements, p->rows ? 0 : 1, p->rows ? 1 : 0.1f);
		else
			put_random_matrix(f, which, p->rows, p->cols);
		return;
	}
	snprintf(name, sizeof(name), "%s%s.weight", prefix, p->name);
	put_text(b, name);
	put_u32(b, p->rows ? 2 : 1);
	put_u64(b, p->cols);
	if (p->rows)
		put_u64(b, p->rows);
	put_u32(b, f32 ? TENSOR_F32 : spread[which].type);
	put_u64(b, *offset);
	*offset += f32 ? elements * 4 : elements / tensor_type_block(spread[which].type) * tensor_type_bytes(spread[which].type);
	assert_int_equal(*offset % 32, 0);
}

/* All parts in file order: into the header when f is NULL, else their data. mixed: each linear has the next type. */
static inline void put_parts(struct build *b, FILE *f, unsigned which, bool mixed)
{
	uint64_t offset = 0;
	unsigned k = which;

	for (int i = 0; i < N_ENDS; i++)
		put_part(b, f, "", &ends[i], mixed ? k++ % N_SPREADS : which, &offset);
	for (int i = 0; i < GGUF_LAYERS * N_LAYER_PARTS; i++) {
		char prefix[16];

		snprintf(prefix, sizeof(prefix), "blk.%d.", i / N_LAYER_PARTS);
		put_part(b, f, prefix, &layer_parts[i % N_LAYER_PARTS], mixed ? k++ % N_SPREADS : which, &offset);
	}
}

static inline void put_vocabulary(struct build *b)
{
	static const char *const special[] = { "<unk>", "<s>", "</s>" };

	kv_text(b, "tokenizer.ggml.model", "llama");
	kv_array(b, "tokenizer.ggml.tokens", 8, GGUF_VOCAB);
	for (int i = 0; i < GGUF_VOCAB; i++) {
		char piece[16];

		snprintf(piece, sizeof(piece), i < 259 ? "<0x%02X>" : "w%d", i < 259 ? i - 3 : i);
		put_text(b, i < 3 ? special[i] : piece);
	}
	kv_array(b, "tokenizer.ggml.scores", 6, GGUF_VOCAB);
	for (int i = 0; i < GGUF_VOCAB; i++) {
		float score = -(float)i;

		put(b, &score, 4);
	}
	kv_array(b, "tokenizer.ggml.token_type", 5, GGUF_VOCAB);
	for (int i = 0; i < GGUF_VOCAB; i++)
		put_u32(b, i == 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1);
}

/* The file's path; build_remove() unlinks it. */
static inline const char *write_gguf(unsigned which, bool mixed)
{
	static struct build b;
	const char *path;
	FILE *f;

	put_head(&b, 3, N_ENDS + GGUF_LAYERS * N_LAYER_PARTS, 12);
	kv_text(&b, "general.architecture", "llama");
	kv_u32(&b, "llama.block_count", GGUF_LAYERS);
	kv_u32(&b, "llama.embedding_length", GGUF_DIM);
	kv_u32(&b, "llama.feed_forward_length", GGUF_FFN);
	kv_u32(&b, "llama.attention.head_count", GGUF_HEADS);
	kv_u32(&b, "llama.attention.head_count_kv", GGUF_KV_HEADS);
	kv_u32(&b, "llama.context_length", 64);
	kv_f32(&b, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
	put_vocabulary(&b);
	put_parts(&b, NULL, which, mixed);
	while (b.n % 32)
		put(&b, "", 1);
	path = build_save(&b);
	f = fopen(path, "ab");
	assert_non_null(f);
	put_parts(&b, f, which, mixed);
	assert_int_equal(fclose(f), 0);
	return path;
}

#endif
