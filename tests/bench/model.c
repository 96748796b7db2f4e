/* model.c: random checkpoints, as GGUF, and adapters for them, as PEFT. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model.h"
#include "tests/kernels/gguf_spread.h"

const struct weights weights_known[] = {
	{"bf16", "BF16", CORE_QUANT_NONE, CORE_FACTORS_AUTO}, {"q8", "BF16", CORE_QUANT_Q8, CORE_FACTORS_AUTO},
	{"q4", "BF16", CORE_QUANT_Q4, CORE_FACTORS_AUTO},     {"Q8_0", "Q8_0", CORE_QUANT_NONE, CORE_FACTORS_AUTO},
	{"nf4", "BF16", CORE_QUANT_NF4, CORE_FACTORS_AUTO},
	{"Q4_0", "Q4_0", CORE_QUANT_NONE, CORE_FACTORS_AUTO}, {"Q4_K_M", "Q4_K_M", CORE_QUANT_NONE, CORE_FACTORS_AUTO},
	{NULL, NULL, CORE_QUANT_NONE, CORE_FACTORS_AUTO},
};

const struct weights *weights_named(const char *name)
{
	for (const struct weights *w = weights_known; w->name; w++)
		if (!strcmp(w->name, name))
			return w;
	return NULL;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static uint32_t random_bits(void)
{
	static uint64_t s = 88172645463325252u;

	s = s * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(s >> 32);
}

/* Normal-ish, standard deviation 1. */
static float random_normal(void)
{
	float sum = 0;

	for (int k = 0; k < 4; k++)
		sum += (float)(int32_t)random_bits() / 2147483648.0f;
	return sum * 0.866f;
}

static void make_folder(const char *folder)
{
	if (mkdir(folder, 0777) && errno != EEXIST)
		fail(folder);
}

static FILE *open_in(const char *folder, const char *name, const char *mode)
{
	char path[1024];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, mode);
	if (!f)
		fail(path);
	return f;
}

/* ---- what tensors are made of ---- */

/* A piece of random blocks that all tensors of the type are cut from, each from another place. */
struct stuff {
	enum tensor_type type;
	size_t block, blocks; /* bytes; how many */
	uint8_t *bytes;
};
enum { STUFF_BYTES = 1 << 24 };

static void make_block(enum tensor_type type, uint8_t *block, size_t bytes)
{
	float norm = 1 + 0.1f * random_normal();
	uint16_t weight = float_to_bf16(0.02f * random_normal());

	if (type == TENSOR_F32)
		memcpy(block, &norm, sizeof(norm));
	else if (type == TENSOR_BF16)
		memcpy(block, &weight, sizeof(weight));
	else
		for (size_t i = 0; i < bytes; i++)
			block[i] = (uint8_t)random_bits();
	for (unsigned i = 0; i < N_SPREADS; i++)
		if (spread[i].type == type)
			spread_block(&spread[i], block, 0.32f + 0.05f * random_normal());
}

static const struct stuff *stuff_of(enum tensor_type type)
{
	static struct stuff known[8];
	struct stuff *s = known;

	while (s->bytes && s->type != type)
		s++;
	if (!s->bytes) {
		*s = (struct stuff){type, tensor_type_bytes(type), STUFF_BYTES / tensor_type_bytes(type), malloc(STUFF_BYTES)};
		if (!s->bytes)
			fail("memory for random weights");
		for (size_t i = 0; i < s->blocks; i++)
			make_block(type, s->bytes + i * s->block, s->block);
	}
	return s;
}

static uint64_t tensor_bytes(enum tensor_type type, uint64_t elements)
{
	return elements / tensor_type_block(type) * tensor_type_bytes(type);
}

static void put_weights(FILE *f, enum tensor_type type, uint64_t elements, uint32_t *salt)
{
	const struct stuff *s = stuff_of(type);
	size_t half = s->blocks / 2;

	for (uint64_t left = elements / tensor_type_block(type), n; left; left -= n) {
		size_t from = (*salt += 7919) % half;

		n = left < half ? left : half;
		if (fwrite(s->bytes + from * s->block, s->block, n, f) != n)
			fail("writing a model");
	}
}

/* ---- GGUF ---- */

struct part {
	const char *name, *hf;
	uint32_t rows, cols; /* rows 0: a norm */
};
static const struct part layer_parts[] = {
	{"attn_norm", NULL, 0, DIM},
	{"attn_q", "self_attn.q_proj", HEADS * HEAD, DIM},
	{"attn_k", "self_attn.k_proj", KV_HEADS * HEAD, DIM},
	{"attn_v", "self_attn.v_proj", KV_HEADS * HEAD, DIM},
	{"attn_output", "self_attn.o_proj", DIM, HEADS * HEAD},
	{"ffn_norm", NULL, 0, DIM},
	{"ffn_gate", "mlp.gate_proj", FFN, DIM},
	{"ffn_up", "mlp.up_proj", FFN, DIM},
	{"ffn_down", "mlp.down_proj", DIM, FFN},
};
static const struct part ends[] = {{"token_embd", NULL, VOCAB, DIM}, {"output_norm", NULL, 0, DIM}, {"output", NULL, VOCAB, DIM}};
enum { LAYER_PARTS = sizeof(layer_parts) / sizeof(layer_parts[0]), ENDS = sizeof(ends) / sizeof(ends[0]) };

/* Which type llama.cpp's quantiser gives to what. */
static const struct mix {
	const char *name;
	enum tensor_type most, head, more; /* more: values and down projections of those layers that get more bits */
} mixes[] = {
	{"BF16", TENSOR_BF16, TENSOR_BF16, TENSOR_BF16},
	{"Q8_0", TENSOR_Q8_0, TENSOR_Q8_0, TENSOR_Q8_0},
	{"Q4_0", TENSOR_Q4_0, TENSOR_Q6_K, TENSOR_Q4_0},
	{"Q4_K_M", TENSOR_Q4_K, TENSOR_Q6_K, TENSOR_Q6_K},
};

static const struct mix *mix_named(const char *name)
{
	for (unsigned i = 0; i < sizeof(mixes) / sizeof(mixes[0]); i++)
		if (!strcmp(mixes[i].name, name))
			return &mixes[i];
	fprintf(stderr, "no model of type %s is made here: BF16, Q8_0, Q4_0 and Q4_K_M are\n", name);
	exit(1);
}

static enum tensor_type type_of(const struct mix *mix, const struct part *p, int layer)
{
	bool wants_more = !strcmp(p->name, "attn_v") || !strcmp(p->name, "ffn_down");
	bool gets_more = layer < LAYERS / 8 || layer >= 7 * LAYERS / 8 || (layer - LAYERS / 8) % 3 == 2;

	if (!p->rows)
		return TENSOR_F32;
	if (!strcmp(p->name, "output"))
		return mix->head;
	return wants_more && gets_more ? mix->more : mix->most;
}

static void put_u32(FILE *f, uint32_t v)
{
	fwrite(&v, sizeof(v), 1, f);
}

static void put_u64(FILE *f, uint64_t v)
{
	fwrite(&v, sizeof(v), 1, f);
}

static void put_f32(FILE *f, float v)
{
	fwrite(&v, sizeof(v), 1, f);
}

static void put_text(FILE *f, const char *s)
{
	put_u64(f, strlen(s));
	fputs(s, f);
}

enum { KEY_U32 = 4, KEY_I32 = 5, KEY_F32 = 6, KEY_TEXT = 8, KEY_ARRAY = 9 };

static void put_key(FILE *f, const char *key, uint32_t type)
{
	put_text(f, key);
	put_u32(f, type);
}

static void put_array(FILE *f, const char *key, uint32_t element)
{
	put_key(f, key, KEY_ARRAY);
	put_u32(f, element);
	put_u64(f, VOCAB);
}

/* Three special pieces, the bytes, and words. */
enum { SPECIAL = 3, WORDS = SPECIAL + 256 };

static void put_vocabulary(FILE *f)
{
	static const char *const special[SPECIAL] = {"<unk>", "<s>", "</s>"};

	put_key(f, "tokenizer.ggml.model", KEY_TEXT);
	put_text(f, "llama");
	put_array(f, "tokenizer.ggml.tokens", KEY_TEXT);
	for (int i = 0; i < VOCAB; i++) {
		char piece[16];

		snprintf(piece, sizeof(piece), i < WORDS ? "<0x%02X>" : "w%d", i < WORDS ? i - SPECIAL : i);
		put_text(f, i < SPECIAL ? special[i] : piece);
	}
	put_array(f, "tokenizer.ggml.scores", KEY_F32);
	for (int i = 0; i < VOCAB; i++)
		put_f32(f, -(float)i);
	put_array(f, "tokenizer.ggml.token_type", KEY_I32);
	for (int i = 0; i < VOCAB; i++)
		put_u32(f, i == 0 ? 2 : i < SPECIAL ? 3 : i < WORDS ? 6 : 1);
}

/* All tensors in file order: their descriptions, or their data. */
static void put_tensors(FILE *f, const struct mix *mix, bool data)
{
	uint64_t offset = 0;
	uint32_t salt = 0;

	for (int i = 0; i < ENDS + LAYERS * LAYER_PARTS; i++) {
		int layer = i < ENDS ? -1 : (i - ENDS) / LAYER_PARTS;
		const struct part *p = i < ENDS ? &ends[i] : &layer_parts[(i - ENDS) % LAYER_PARTS];
		enum tensor_type type = type_of(mix, p, layer);
		uint64_t elements = (uint64_t)(p->rows ? p->rows : 1) * p->cols;
		char name[64];

		if (data) {
			put_weights(f, type, elements, &salt);
			continue;
		}
		snprintf(name, sizeof(name), "blk.%d.%s.weight", layer, p->name);
		if (layer < 0)
			snprintf(name, sizeof(name), "%s.weight", p->name);
		put_text(f, name);
		put_u32(f, p->rows ? 2 : 1);
		put_u64(f, p->cols);
		if (p->rows)
			put_u64(f, p->rows);
		put_u32(f, type);
		put_u64(f, offset);
		offset += tensor_bytes(type, elements); /* whole 32s, for every tensor of this shape */
	}
}

static void put_gguf(FILE *f, const struct mix *mix)
{
	static const struct {
		const char *key;
		uint32_t value;
	} shape[] = {
		{"llama.block_count", LAYERS},
		{"llama.embedding_length", DIM},
		{"llama.feed_forward_length", FFN},
		{"llama.attention.head_count", HEADS},
		{"llama.attention.head_count_kv", KV_HEADS},
		{"llama.context_length", CONTEXT},
		{"llama.rope.dimension_count", HEAD},
	};
	enum { SHAPE = sizeof(shape) / sizeof(shape[0]) };

	fputs("GGUF", f);
	put_u32(f, 3);
	put_u64(f, ENDS + LAYERS * LAYER_PARTS);
	put_u64(f, 2 + SHAPE + 4);
	put_key(f, "general.architecture", KEY_TEXT);
	put_text(f, "llama");
	for (int i = 0; i < SHAPE; i++) {
		put_key(f, shape[i].key, KEY_U32);
		put_u32(f, shape[i].value);
	}
	put_key(f, "llama.attention.layer_norm_rms_epsilon", KEY_F32);
	put_f32(f, 1e-5f);
	put_vocabulary(f);
	put_tensors(f, mix, false);
	while (ftell(f) % 32)
		fputc(0, f);
	put_tensors(f, mix, true);
}

char *model_need(const char *folder, const char *type)
{
	const struct mix *mix = mix_named(type);
	char name[32], part[1024], *path = malloc(1024);
	FILE *f;

	if (!path)
		fail(folder);
	snprintf(path, 1024, "%s/%s.gguf", folder, type);
	if (access(path, R_OK) == 0)
		return path;
	fprintf(stderr, "making %s\n", path);
	make_folder(folder);
	snprintf(name, sizeof(name), "%s.part", type);
	snprintf(part, sizeof(part), "%s/%s", folder, name);
	f = open_in(folder, name, "w");
	put_gguf(f, mix);
	if (ferror(f) | fclose(f) || rename(part, path))
		fail(path);
	return path;
}

/* ---- PEFT ---- */

static void put_factor(FILE *header, FILE *data, uint64_t *at, uint32_t *salt, const char *name, uint64_t rows, uint64_t cols)
{
	uint64_t to = *at + tensor_bytes(TENSOR_BF16, rows * cols);

	fprintf(header, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[%llu,%llu],\"data_offsets\":[%llu,%llu]}", *at ? "," : "{", name,
		(unsigned long long)rows, (unsigned long long)cols, (unsigned long long)*at, (unsigned long long)to);
	put_weights(data, TENSOR_BF16, rows * cols, salt);
	*at = to;
}

static void put_factors(FILE *header, FILE *data, uint32_t salt)
{
	uint64_t at = 0;
	char name[160];

	for (int i = 0; i < LAYERS; i++)
		for (int k = 0; k < LAYER_PARTS; k++) {
			const struct part *p = &layer_parts[k];

			if (!p->hf)
				continue;
			snprintf(name, sizeof(name), "base_model.model.model.layers.%d.%s.lora_A.weight", i, p->hf);
			put_factor(header, data, &at, &salt, name, RANK, p->cols);
			snprintf(name, sizeof(name), "base_model.model.model.layers.%d.%s.lora_B.weight", i, p->hf);
			put_factor(header, data, &at, &salt, name, p->rows, RANK);
		}
	fputc('}', header);
}

/* The header needs all offsets before the data begins, so data goes behind a fixed amount of it. */
static void put_safetensors(FILE *f, uint32_t salt)
{
	enum { ROOM = 131072 };
	char *header = NULL;
	size_t length = 0;
	uint64_t padded = ROOM - 8;
	FILE *h = open_memstream(&header, &length);

	if (!h)
		fail("memory for a header");
	fseek(f, ROOM, SEEK_SET);
	put_factors(h, f, salt);
	fclose(h);
	rewind(f);
	put_u64(f, padded);
	fprintf(f, "%s%*s", header, (int)(padded - length), "");
	free(header);
}

void model_make_adapter(const char *folder, uint32_t salt)
{
	FILE *f;

	make_folder(folder);
	f = open_in(folder, "adapter_config.json", "w");
	fprintf(f, "{\"peft_type\":\"LORA\",\"r\":%d,\"lora_alpha\":%d,\"bias\":\"none\",\"target_modules\":", RANK, RANK);
	fprintf(f, "[\"q_proj\",\"k_proj\",\"v_proj\",\"o_proj\",\"gate_proj\",\"up_proj\",\"down_proj\"]}\n");
	if (fclose(f))
		fail(folder);
	f = open_in(folder, "adapter_model.safetensors", "w");
	put_safetensors(f, salt);
	if (ferror(f) | fclose(f))
		fail(folder);
}

void model_remove_adapter(const char *folder)
{
	static const char *const names[] = {"adapter_model.safetensors", "adapter_config.json"};
	char path[1024];

	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		unlink(path);
	}
	rmdir(folder);
}
